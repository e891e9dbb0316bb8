//! From a convolution over volumes to dense steps. A volume is a stack of pictures, which lie one behind the other as the rows of one
//! picture do; so whoever does not look at the axis of slices takes it for a picture of many rows.
//!
//! A slice of the result sees some slices of the input. Their channels are side by side to its kernels, which is no copy but a table of
//! where they lie; the slices of the result that see as many of them are the pictures of one step:
//!
//! ```text
//!   3×3×3, pad 1, 16 slices      slice  0         sees      0  1      one picture, sums over 2·C channels and 3×3
//!                                slices 1 … 14    see i - 1 i  i + 1  14 pictures,  3·C
//!                                slice  15        sees 14 15          one picture,  2·C
//! ```
//!
//! A window of one pixel in each slice is one of a picture whose rows are slices.

use std::ops::Range;

use nnc_ir::{NodeId, Tensor, Value};

use super::PlanError;
use super::buffer::BufferId;
use super::dense_step::{FEW_PIXELS, Placed, far_channels};
use super::fits::KernelLayer;
use super::image::{Image, Slot};
use super::own::{ComputedElements, Own, Parameter};
use super::panels::f32_elems;
use super::pitch::{Extent, Pitch};
use super::planner::{Place, Planner};
use super::sweep::Axis;
use crate::code::tile::programs::dense::Products;
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::tile::programs::window::KernelPrologue;

/// Slices at equal distances. A picture is one slice.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    /// One slice; all channels lie in buffers of one pitch.
    pub picture: Image,
    pub pitch: Pitch,
    pub slices: usize,
    /// Elements from one slice to the next.
    pub apart: usize,
}

impl Volume {
    /// Whether the rows of a slice lie one behind the other.
    pub fn has_dense_rows(&self) -> bool {
        let extent = self.picture.extent;
        self.pitch.row == self.pitch.pixel * extent.w || extent.h == 1
    }
}

/// Slices of a result that see as many slices, from one tap on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Alike {
    pub slices: Range<usize>,
    pub taps: Range<usize>,
}

impl Planner<'_> {
    /// Plans a convolution over volumes that sums over channels.
    pub(super) fn volumes(&mut self, layer: &KernelLayer, epilogue: KernelEpilogue) -> Result<(), PlanError> {
        let (id, output) = (layer.node, Value::from(layer.node));
        if self.over_planes(layer, epilogue)? {
            return Ok(());
        }
        let own = self.own(layer)?;
        let image = self.volume_input(id, layer.x, own.is_computed(), output, false)?;
        let residual = layer.residual.map(|r| self.residual_image(id, output, r)).transpose()?;
        let (out_image, _) = self.dense_output(id, output, &image, residual.as_ref());
        let (input, result) = (self.volume(layer.x, &image)?, self.volume(output, &out_image)?);
        let residual = residual.map(|residual| self.volume(output, &residual)).transpose()?;
        self.volume_steps(layer, &own, epilogue, (&input, &result, residual.as_ref()), true)?;
        self.place(output, Place::Image(out_image));
        Ok(())
    }

    /// A value of slices, as kernels read it.
    pub(super) fn volume_input(
        &mut self,
        id: NodeId,
        value: Value,
        is_computed: bool,
        output: Value,
        is_read_once: bool,
    ) -> Result<Image, PlanError> {
        let mut image = self.image_or_copy(id, value)?;
        if let Some(far) = far_channels(&image).filter(|_| !is_read_once) {
            image = self.relayout(id, &image, far)?;
        } else if is_computed && image.affine().is_none() {
            image =
                self.relayout(id, &image, "weights that are computed are packed in the order of channels")?;
        }
        if self.float_of(&image).is_half() && self.extent(output).pixels() > FEW_PIXELS {
            image = self.widened(id, &image, "its half floats are widened once")?;
        }
        let buffers = image.buffers();
        let pitch = buffers.first().and_then(|&b| self.pitch(b));
        let alike = buffers.iter().all(|&b| self.pitch(b) == pitch && self.in_arena(b));
        if self.graph.ty(value).shape.rank() > 4 && !alike {
            image =
                self.relayout(id, &image, "its slices are read by a table of where they lie in the arena")?;
        }
        Ok(image)
    }

    /// The slices of a value that lies as an image.
    pub(super) fn volume(&mut self, value: Value, image: &Image) -> Result<Volume, PlanError> {
        let none = || PlanError::Internal("a volume lies in buffers of different pitch".into());
        let pitch = image.slots.first().and_then(|slot| self.pitch(slot.buffer)).ok_or_else(none)?;
        let &[n, _, slices, h, w] = &self.graph.ty(value).shape[..] else {
            return Ok(Volume { picture: image.clone(), pitch, slices: 1, apart: 0 });
        };
        let extent = Extent { n, h, w };
        let picture = self.seen(&image.slots, extent, pitch);
        Ok(Volume { picture, pitch, slices, apart: h * pitch.row })
    }

    /// Channels in slots under another pitch.
    pub(super) fn seen(&mut self, slots: &[Slot], extent: Extent, pitch: Pitch) -> Image {
        let slots =
            slots.iter().map(|&Slot { buffer, at }| Slot { buffer: self.seen_as(buffer, extent, pitch), at });
        Image { extent, slots: slots.collect() }
    }

    /// The steps of a convolution whose values have their places. Of several, the first counts as the layer.
    pub(super) fn volume_steps(
        &mut self,
        layer: &KernelLayer,
        own: &Own,
        epilogue: KernelEpilogue,
        (input, result, residual): (&Volume, &Volume, Option<&Volume>),
        is_first: bool,
    ) -> Result<(), PlanError> {
        let z = &layer.slices;
        let whole = |v: &Volume| v.picture.extent.n == 1 || v.pitch.image == v.slices * v.apart;
        let all = || [Some(input), Some(result), residual].into_iter().flatten();
        if input.slices == 1 && result.slices == 1 && z.kernel == 1 && z.pad == 0 {
            let own = self.of_taps(own, 0..1)?;
            let residual = residual.map(|residual| &residual.picture);
            return self.slices_step(
                layer,
                &own,
                epilogue,
                (&input.picture, &result.picture, residual),
                is_first,
            );
        }
        // Rows of a slice as one: there the axis of slices is one of rows.
        let one = |axis: &Axis| *axis == Axis::point(axis.input);
        if one(&layer.axes.0) && one(&layer.axes.1) && all().all(Volume::has_dense_rows) {
            let own = self.across(own)?;
            let (input, result) = (self.rows_of_slices(input), self.rows_of_slices(result));
            let residual = residual.map(|residual| self.rows_of_slices(residual));
            let layer =
                KernelLayer { axes: (*z, Axis::point(input.extent.w)), slices: Axis::point(1), ..*layer };
            return self.slices_step(&layer, &own, epilogue, (&input, &result, residual.as_ref()), is_first);
        }
        let batch = result.picture.extent.n;
        // Slices that see their own alone are so many pictures.
        let together = *z == Axis::point(result.slices) && all().all(whole);
        let (batches, times) = if together { (1, batch) } else { (batch, 1) };
        let mut is_first = is_first;
        for n in 0..batches {
            for alike in alike(z) {
                let own = self.of_taps(own, alike.taps.clone())?;
                let first = |tap: usize| z.position(alike.slices.start, tap).max(0) as usize;
                let taps: Vec<usize> = alike.taps.clone().map(first).collect();
                let count = alike.slices.len() * times;
                // A window that sees nothing has weights of zero for some slice.
                let taps = if taps.is_empty() { vec![0] } else { taps };
                let step = if alike.taps.is_empty() { 0 } else { z.stride };
                let from = self.slices(input, n, (&taps, step), count, layer.groups);
                let start = [alike.slices.start];
                let to = self.slices(result, n, (&start, 1), count, 1);
                let residual = residual.map(|residual| self.slices(residual, n, (&start, 1), count, 1));
                self.slices_step(layer, &own, epilogue, (&from, &to, residual.as_ref()), is_first)?;
                is_first = false;
            }
        }
        Ok(())
    }

    /// Slices as rows, of a volume with dense rows.
    pub(super) fn rows_of_slices(&mut self, volume: &Volume) -> Image {
        let Extent { n, h, w } = volume.picture.extent;
        let extent = Extent { n, h: volume.slices, w: h * w };
        self.seen(&volume.picture.slots, extent, Pitch { row: volume.apart, ..volume.pitch })
    }

    /// Slices of the n-th volume as pictures that have the channels of several slices each: from the first of these on, so many further.
    pub(super) fn slices(
        &mut self,
        volume: &Volume,
        n: usize,
        (firsts, step): (&[usize], usize),
        count: usize,
        groups: usize,
    ) -> Image {
        let Volume { picture, pitch, apart, .. } = volume;
        let each = (picture.slots.len() / groups).max(1);
        let slots = picture.slots.chunks(each).flat_map(|group| {
            firsts.iter().flat_map(move |first| {
                group.iter().map(move |slot| Slot { at: slot.at + n * pitch.image + first * apart, ..*slot })
            })
        });
        let slots: Vec<Slot> = slots.collect();
        let extent = Extent { n: count, ..picture.extent };
        self.seen(&slots, extent, Pitch { image: step * apart, ..*pitch })
    }

    /// One step.
    fn slices_step(
        &mut self,
        layer: &KernelLayer,
        own: &Own,
        epilogue: KernelEpilogue,
        (input, output, residual): (&Image, &Image, Option<&Image>),
        is_first: bool,
    ) -> Result<(), PlanError> {
        let output_buffer = output.slots.first().map_or(BufferId(0), |slot| slot.buffer);
        let placed = Placed { input, output, output_buffer, residual };
        self.dense_or_winograd(layer, own, KernelPrologue::default(), epilogue, &placed, is_first)
    }

    /// The weights of some slices of a window: those of all are the summands of one picture.
    pub(super) fn of_taps(&mut self, own: &Own, taps: Range<usize>) -> Result<Own, PlanError> {
        let weights = match &own.weights {
            Parameter::Known(tensor) => match tensor.shape()[..] {
                [channels, inner, slices, height, width] => {
                    let elems = f32_elems(tensor)?;
                    let window = height * width;
                    let seen = taps.len().max(1);
                    let mut packed = Vec::with_capacity(channels * inner * seen * window);
                    for channel in 0..channels {
                        for tap in taps.clone() {
                            for c in 0..inner {
                                let at = ((channel * inner + c) * slices + tap) * window;
                                packed.extend_from_slice(&elems[at..at + window]);
                            }
                        }
                    }
                    packed.resize(channels * inner * seen * window, 0.0);
                    Parameter::Known(Tensor::new([channels, inner * seen, height, width], &packed)?)
                }
                _ => Parameter::Known(tensor.clone()),
            },
            Parameter::Computed(elements) if taps.is_empty() => {
                let zero = self.constant("zero", &Tensor::new([1], &[0.0f32])?);
                Parameter::Computed(ComputedElements {
                    buffer: BufferId(zero.arg as u32),
                    dtype: zero.dtype,
                    channels: vec![0; elements.channels.len()],
                    summands: vec![0; elements.summands.len()],
                    taps: elements.taps.map(|(count, _)| (count, 0)),
                    slices: (1, 0),
                })
            }
            Parameter::Computed(elements) => {
                let summands = taps.flat_map(|tap| {
                    let slice = tap as i64 * elements.slices.1;
                    elements.summands.iter().map(move |at| at + slice)
                });
                let summands = summands.collect();
                Parameter::Computed(ComputedElements { summands, slices: (1, 0), ..elements.clone() })
            }
        };
        Ok(Own { weights, bias: own.bias.clone(), products: Products::Floats, rescale: None })
    }

    /// The weights of a window of one pixel in each slice, with slices for rows.
    fn across(&self, own: &Own) -> Result<Own, PlanError> {
        let weights = match &own.weights {
            Parameter::Known(tensor) => match tensor.shape()[..] {
                [channels, inner, slices, _, _] => {
                    Parameter::Known(tensor.clone().reshaped([channels, inner, slices, 1])?)
                }
                _ => Parameter::Known(tensor.clone()),
            },
            Parameter::Computed(elements) => Parameter::Computed(ComputedElements {
                taps: [elements.slices, (1, 0)],
                slices: (1, 0),
                ..elements.clone()
            }),
        };
        Ok(Own { weights, bias: own.bias.clone(), products: Products::Floats, rescale: None })
    }
}

/// The slices of a result, those together that see as many.
pub(super) fn alike(z: &Axis) -> Vec<Alike> {
    let mut found: Vec<Alike> = Vec::new();
    for slice in 0..z.output {
        let taps = z.taps(slice);
        match found.last_mut() {
            Some(last) if last.taps == taps => last.slices.end += 1,
            _ => found.push(Alike { slices: slice..slice + 1, taps }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_at_the_border_see_fewer() {
        let z = Axis { input: 16, output: 16, kernel: 3, stride: 1, dilation: 1, pad: 1 };
        let seen = |slices, taps| Alike { slices, taps };
        assert_eq!(alike(&z), [seen(0..1, 1..3), seen(1..15, 0..3), seen(15..16, 0..2)]);
    }
}
