//! From a depthwise convolution or a pool over volumes to steps with channels in lanes, whose windows have two axes.
//!
//! ```text
//!   depthwise   one step for each slice of the window: the first starts with the bias, the others add to what is there
//!   pool        first in each slice, then across: rows of slices, one pixel wide
//! ```

use nnc_ir::Value;

use super::PlanError;
use super::buffer::BufferId;
use super::fits::KernelLayer;
use super::image::{Image, Slot};
use super::lanes::LanesOp;
use super::lanes_step::{LanesPlace, LanesWork};
use super::own::Own;
use super::pitch::Extent;
use super::planner::{Place, Planner};
use super::sweep::Axis;
use super::volume_step::{Alike, Volume, alike};
use crate::code::float::Float;
use crate::code::tile::programs::epilogue::{Activation, KernelEpilogue, KernelResidual};
use crate::code::tile::programs::pool::PoolFunction;
use crate::code::tile::programs::window::KernelPrologue;

impl Planner<'_> {
    /// Plans a layer over volumes that does the same to every channel.
    pub(super) fn lanes_of_volumes(
        &mut self,
        layer: &KernelLayer,
        (op, prologue, epilogue): LanesWork,
    ) -> Result<(), PlanError> {
        let (id, output) = (layer.node, Value::from(layer.node));
        if self.stays_in_planes(layer) {
            return self.generic(id);
        }
        let mut image = self.image_or_copy(id, layer.x)?;
        let pitches: Vec<_> = image.buffers().iter().map(|&b| self.pitch(b)).collect();
        if pitches.windows(2).any(|two| two[0] != two[1]) {
            image = self.relayout(id, &image, "its slices lie in buffers of different pitch")?;
        }
        let place = self.lanes_output(layer, image)?;
        let (input, result) = (self.volume(layer.x, &place.input)?, self.volume(output, &place.output)?);
        let residual = match layer.residual {
            None => None,
            Some(residual) => {
                let mut image = self.image_or_copy(id, residual)?;
                let pitch = image.slots.first().and_then(|slot| self.pitch(slot.buffer));
                if !pitch.is_some_and(|pitch| pitch.is_flat(image.extent)) {
                    image = self.relayout(id, &image, "the rows of its slices do not follow each other")?;
                }
                Some(self.matching_image(id, &image, &place.output)?)
            }
        };
        match op {
            LanesOp::Pool(pool) => {
                let work = (pool, prologue, epilogue);
                self.pooled_volumes(layer, work, &place, (&input, &result), residual)?
            }
            _ => {
                let own = self.own(layer)?;
                self.depthwise_volumes(layer, &own, (prologue, epilogue), (&input, &result), residual)?
            }
        }
        self.place(output, Place::Image(place.output));
        Ok(())
    }

    fn depthwise_volumes(
        &mut self,
        layer: &KernelLayer,
        own: &Own,
        (prologue, epilogue): (KernelPrologue, KernelEpilogue),
        (input, result): (&Volume, &Volume),
        residual: Option<(BufferId, isize)>,
    ) -> Result<(), PlanError> {
        let mut is_first = true;
        // Sums over several slices are no half floats.
        let sums = match result.pitch.float.is_half() && layer.slices.kernel > 1 {
            true => Some(self.volume_like(layer, result, result.slices)?),
            false => None,
        };
        for n in 0..result.picture.extent.n {
            for Alike { slices, taps } in alike(&layer.slices) {
                let pictures = |planner: &mut Self, of: &Volume| {
                    planner.slices(of, n, (&[slices.start], 1), slices.len(), 1)
                };
                let to = pictures(self, result);
                let sums = sums.as_ref().map(|sums| pictures(self, sums));
                let sums = sums.as_ref().unwrap_or(&to);
                // A window that sees nothing has weights of zero for the first slice.
                let seen: Vec<Option<usize>> =
                    if taps.is_empty() { vec![None] } else { taps.map(Some).collect() };
                for (at, &tap) in seen.iter().enumerate() {
                    let (starts, ends) = (at == 0, at + 1 == seen.len());
                    let (first, step) = match tap {
                        None => (0, 0),
                        Some(tap) => {
                            (layer.slices.position(slices.start, tap).max(0) as usize, layer.slices.stride)
                        }
                    };
                    let from = self.slices(input, n, (&[first], step), slices.len(), 1);
                    let weights = self.of_taps(own, tap.map_or(0..0, |tap| tap..tap + 1))?;
                    let own = Own { bias: own.bias.clone().filter(|_| starts), ..weights };
                    let result_at = to.slots.first().map_or(0, |slot| slot.at) as isize;
                    let to = if ends { &to } else { sums };
                    // How far a slot of the step's result lies from one of the layer's, or of the sums.
                    let from_slot = |at: isize| at - to.slots.first().map_or(0, |slot| slot.at) as isize;
                    let added = match starts {
                        true => residual.map(|of| {
                            let seen = (slices.start, slices.len());
                            let (buffer, behind) = self.residual_slices(of, n, seen, result);
                            (buffer, behind + from_slot(result_at))
                        }),
                        false => sums.slots.first().map(|sum| (sum.buffer, from_slot(sum.at as isize))),
                    };
                    let place = LanesPlace { input: from, output: to.clone(), buffer: buffer_of(to) };
                    let step = KernelEpilogue {
                        bias: epilogue.bias && starts,
                        residual: match (starts, added) {
                            (_, None) => KernelResidual::None,
                            (true, _) => epilogue.residual,
                            (false, _) => KernelResidual::BeforeActivation,
                        },
                        activation: if ends { epilogue.activation } else { Activation::None },
                        ..KernelEpilogue::default()
                    };
                    let work = (LanesOp::Depthwise, prologue, step);
                    self.lanes_parts(layer, work, Some(&own), &place, added, is_first)?;
                    is_first = false;
                }
            }
        }
        Ok(())
    }

    fn pooled_volumes(
        &mut self,
        layer: &KernelLayer,
        (pool, prologue, epilogue): (PoolFunction, KernelPrologue, KernelEpilogue),
        place: &LanesPlace,
        (input, result): (&Volume, &Volume),
        residual: Option<(BufferId, isize)>,
    ) -> Result<(), PlanError> {
        let of = |taps: usize| match pool {
            PoolFunction::MeanOf(_) => PoolFunction::MeanOf(taps as u32),
            other => other,
        };
        let (y, x) = layer.axes;
        let within = self.volume_like(layer, result, input.slices)?;
        let mut is_first = true;
        for n in 0..result.picture.extent.n {
            let from = self.slices(input, n, (&[0], 1), input.slices, 1);
            let to = self.slices(&within, n, (&[0], 1), input.slices, 1);
            let place = LanesPlace { input: from, buffer: buffer_of(&to), output: to };
            let work = (LanesOp::Pool(of(y.kernel * x.kernel)), prologue, KernelEpilogue::default());
            self.lanes_parts(layer, work, None, &place, None, is_first)?;
            is_first = false;
        }
        let from = self.rows_of_slices(&within);
        let to = self.rows_of_slices(result);
        let residual = residual.map(|(buffer, behind)| {
            let moved = place.output.slots.first().map_or(0, |slot| slot.at as isize + behind);
            let at = Slot { buffer, at: moved.max(0) as usize };
            let pitch = self.pitch(buffer).map_or(result.pitch, |pitch| pitch);
            let like = Volume {
                picture: Image { extent: result.picture.extent, slots: vec![at] },
                pitch,
                slices: result.slices,
                apart: result.picture.extent.h * pitch.row,
            };
            let rows = self.rows_of_slices(&like);
            (buffer_of(&rows), behind)
        });
        let axes = (layer.slices, Axis::point(from.extent.w));
        let across = KernelLayer { axes, affine: None, ..*layer };
        let place = LanesPlace { input: from, buffer: buffer_of(&to), output: to };
        let work = (LanesOp::Pool(of(layer.slices.kernel)), KernelPrologue::default(), epilogue);
        self.lanes_parts(&across, work, None, &place, residual, is_first)
    }

    /// The buffer of a residual under the pitch of some slices, and how many slots it lies behind those of the result.
    fn residual_slices(
        &mut self,
        (buffer, behind): (BufferId, isize),
        n: usize,
        (first, count): (usize, usize),
        result: &Volume,
    ) -> (BufferId, isize) {
        let extent = result.picture.extent;
        let pitch = self.pitch(buffer).unwrap_or(result.pitch);
        let apart = extent.h * pitch.row;
        let part = self.seen_as(
            buffer,
            Extent { n: count, ..extent },
            super::pitch::Pitch { image: apart, ..pitch },
        );
        let start = |image: usize, apart: usize| (n * image + first * apart) as isize;
        (part, behind + start(pitch.image, apart) - start(result.pitch.image, result.apart))
    }

    /// `f32` for other slices of the same extent and channels as a result.
    fn volume_like(
        &mut self,
        layer: &KernelLayer,
        result: &Volume,
        slices: usize,
    ) -> Result<Volume, PlanError> {
        let name = format!("{}.slices", self.graph.node(layer.node).name);
        let Extent { n, h, w } = result.picture.extent;
        let places = result.picture.slots.iter().map(|slot| slot.at);
        let (first, last) = (places.clone().min().unwrap_or(0), places.clone().max().unwrap_or(0));
        let extent = Extent { n, h: slices * h, w };
        let buffer = self.image_buffer(&name, extent, last + 1 - first, Float::F32);
        let pitch =
            self.pitch(buffer).ok_or_else(|| PlanError::Internal(format!("\"{name}\" has no layout")))?;
        let slots: Vec<Slot> = places.map(|at| Slot { buffer, at: at - first }).collect();
        let picture = self.seen(&slots, Extent { n, h, w }, pitch);
        Ok(Volume { picture, pitch, slices, apart: h * pitch.row })
    }
}

fn buffer_of(image: &Image) -> BufferId {
    image.slots.first().map_or(BufferId(0), |slot| slot.buffer)
}
