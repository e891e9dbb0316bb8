//! Copies that convert floats: of an image whose half floats are widened before dense kernels read them, and of the casts at the
//! ends of a network of half floats. They are layers with channels in lanes that leave each element as it is.
//!
//! A dense window is no picture, but can be seen as one, of pixels of 64 channels:
//!
//! ```text
//!   f32[1x3x224x224]   150,528 elements side by side   ─▶   56 rows of 42 pixels of 64 channels
//! ```

use std::collections::BTreeMap;

use nnc_ir::{DType, NodeId, TensorType, Value};

use super::draft::Draft;
use super::image::{Image, Slot};
use super::lanes::{LanesArg, LanesOp, LanesPlan, blocks};
use super::lanes_step::{along, block_shape, merge, traffic};
use super::pitch::Pitch;
use super::planner::{ARENA_START, Place, Planner};
use super::sweep::{Axis, BytePitch};
use super::tiling::Registers;
use super::{LayerCode, PlanError};
use crate::code::float::Float;
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::tile::programs::window::KernelPrologue;
use crate::code::tile::store_registers;
use crate::code::view::View;

/// Channels of a pixel that a dense window is seen as: whole vectors on every target.
const CHANNELS: usize = 64;
/// The most rows that it is seen as: units of work.
const ROWS: usize = 64;

/// Why a copy converts, and for whom.
struct Purpose<'a> {
    name: String,
    node: Option<NodeId>,
    note: Option<&'a str>,
}

impl Planner<'_> {
    /// Copies an image into a buffer of its own as `f32`. Channels in planes stay so; others keep the order in which they lie, so
    /// that those of a shuffle are copied run by run, and read as the shuffle says.
    pub(super) fn widened(&mut self, id: NodeId, image: &Image, why: &str) -> Result<Image, PlanError> {
        let name = format!("{}.gather", self.graph.node(id).name);
        let (extent, channels) = (image.extent, image.channels());
        if image.affine().is_some_and(|(_, _, step)| step != 1) {
            let ty = TensorType::new(DType::F32, [extent.n, channels, extent.h, extent.w]);
            let to = self.temporary(&name, &ty);
            let from = self.image_view(image);
            let from = from.ok_or_else(|| PlanError::Internal(format!("\"{name}\" has no layout")))?;
            let copy = self.window_as_image(&to);
            let copy = copy.ok_or_else(|| PlanError::Internal(format!("\"{name}\" has no layout")))?;
            if !self.convert_window(
                &from,
                &to,
                Purpose { name: name.clone(), node: None, note: Some(why) },
            )? {
                self.copy_channels(id, &name, image, &copy, why)?;
            }
            return Ok(copy);
        }
        let runs = image.runs();
        let slots: usize = runs.iter().map(|run| run.len).sum();
        let buffer = self.image_buffer(&name, extent, slots, Float::F32);
        let in_order = runs.iter().flat_map(|run| {
            (0..run.len).map(|i| Slot { buffer: run.buffer, at: run.at + i }).collect::<Vec<_>>()
        });
        let places: BTreeMap<Slot, Slot> =
            in_order.enumerate().map(|(at, from)| (from, Slot { buffer, at })).collect();
        let apart = Image { extent, slots: places.keys().copied().collect() };
        let together = Image { extent, slots: places.values().copied().collect() };
        self.convert(&apart, &together, Purpose { name, node: None, note: Some(why) })?;
        let slots = image.slots.iter().filter_map(|slot| places.get(slot).copied()).collect();
        Ok(Image { extent, slots })
    }

    /// Plans a cast between floats of a dense window; `false` when it takes a loop nest.
    pub(super) fn converted(&mut self, id: NodeId, to: DType) -> Result<bool, PlanError> {
        let Some(from) = self.graph.operand(id, 0).and_then(|x| self.view(x)) else { return Ok(false) };
        let value = Value::from(id);
        let floats = [from.dtype, to].iter().all(|dtype| Float::of(*dtype).is_some());
        if !floats || !seen_as_pixels(&from) || self.graph.is_output(value) {
            return Ok(false);
        }
        let name = self.graph.node(id).name.clone();
        let ty = self.graph.ty(value).clone();
        let window = self.temporary(&name, &ty);
        self.convert_window(&from, &window, Purpose { name, node: Some(id), note: None })?;
        self.place(value, Place::Window(window));
        Ok(true)
    }

    /// A step that converts a dense window into another one; `false`, and no step, when they do not lie as pixels can be seen to.
    fn convert_window(&mut self, from: &View, to: &View, purpose: Purpose<'_>) -> Result<bool, PlanError> {
        if ![from, to].iter().all(|view| seen_as_pixels(view)) {
            return Ok(false);
        }
        let images = [from, to].map(|view| self.window_as_image(&pixels(view)));
        let [Some(from), Some(to)] = images else { return Ok(false) };
        self.convert(&from, &to, purpose)?;
        Ok(true)
    }

    /// A step that copies channels, which lie in memory in the order of the image, to neighbouring slots of one buffer.
    fn convert(&mut self, from: &Image, to: &Image, purpose: Purpose<'_>) -> Result<(), PlanError> {
        let (runs, sources, extent) = (from.runs(), from.buffers(), from.extent);
        let pitches: Option<Vec<Pitch>> = sources.iter().map(|&b| self.pitch(b)).collect();
        let buffer = to.slots.first().map_or(ARENA_START, |slot| slot.buffer);
        let (Some(inputs), Some(output)) = (pitches, self.pitch(buffer)) else {
            return Err(PlanError::Internal(format!("\"{}\" has no layout", purpose.name)));
        };
        let target: BTreeMap<Slot, usize> =
            from.slots.iter().copied().zip(to.slots.iter().map(|slot| slot.at)).collect();
        let registers = Registers::of(self.target);
        let vectors = self.cut_vectors(&runs, &sources, &inputs, &target, true, registers);
        let (op, prologue, epilogue) =
            (LanesOp::Convert, KernelPrologue::default(), KernelEpilogue::default());
        let (y, x) = (Axis::point(extent.h), Axis::point(extent.w));
        let at_the_end = epilogue.registers(store_registers(output.float, self.target));
        let (columns, rows) = block_shape(op, prologue, at_the_end, registers, (&y, &x));
        let tiles = blocks(&x, columns);
        let near: i64 = inputs.iter().map(|p| BytePitch::from(*p).row).sum::<i64>() * rows as i64;
        let plan = LanesPlan {
            op,
            images: extent.n,
            blocks: blocks(&y, rows),
            along: along(&tiles, near as u64, self.target.l1d),
            tiles,
            y,
            x,
            output: output.into(),
            residual: BytePitch::default(),
            vectors: merge(&vectors, 0, &inputs, output, (output, 0)),
            inputs: inputs.into_iter().map(BytePitch::from).collect(),
            prologue,
            epilogue,
        };
        let traffic = traffic(&plan, 0);
        let mut args = vec![(ARENA_START, 0); LanesArg::Inputs as usize];
        args[LanesArg::Output as usize].0 = buffer;
        args.extend(sources.iter().map(|&b| (b, 0)));
        self.step(Draft {
            name: purpose.name,
            node: purpose.node,
            units: plan.units(),
            scratch: 0,
            code: LayerCode::Lanes(plan),
            args,
            also_reads: Vec::new(),
            traffic,
            note: purpose.note.map(str::to_string),
        });
        Ok(())
    }
}

/// Whether a window is dense and has whole pixels.
fn seen_as_pixels(view: &View) -> bool {
    let elems: usize = view.shape.iter().product();
    view.is_contiguous() && elems > 0 && elems.is_multiple_of(CHANNELS)
}

/// A dense window as rows of pixels.
fn pixels(view: &View) -> View {
    let pixels = view.shape.iter().product::<usize>() / CHANNELS;
    let rows = (1..=ROWS).rev().find(|rows| pixels.is_multiple_of(*rows)).unwrap_or(1);
    let size = view.dtype.bytes() as i64;
    let pixel = CHANNELS as i64 * size;
    let row = (pixels / rows) as i64 * pixel;
    View {
        arg: view.arg,
        offset: view.offset,
        dtype: view.dtype,
        shape: vec![1, CHANNELS, rows, pixels / rows],
        strides: vec![row * rows as i64, size, row, pixel],
    }
}
