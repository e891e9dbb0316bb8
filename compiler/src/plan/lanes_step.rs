//! From a depthwise convolution or a pool in the graph to a step with channels in lanes.

use std::collections::BTreeMap;

use nnc_ir::{NodeId, Value};

use super::buffer::{BufferId, Home};
use super::dense::Progression;
use super::draft::Draft;
use super::fits::KernelLayer;
use super::generic::ROW_ELEMENTS;
use super::image::{Image, Slot, SlotRun};
use super::lanes::{AxisBlocks, LanesArg, LanesOp, LanesPlan, VectorRun, blocks};
use super::panels::f32_elems;
use super::pitch::{LANES, Pitch};
use super::planner::{ARENA_START, Place, Planner};
use super::sweep::{Axis, BytePitch};
use super::tiling::{Folding, Registers};
use super::{LayerCode, PlanError, Traffic};
use crate::code::tile::programs::epilogue::{KernelEpilogue, KernelResidual};
use crate::code::tile::programs::pool::PoolFunction;
use crate::code::tile::programs::window::{Along, KernelPrologue};
use crate::code::tile::store_registers;

/// A vector of slots before those that are alike are put together.
pub(super) struct SlotVector {
    col: crate::code::tile::programs::dense::Col,
    source: usize,
    from: usize,
    to: usize,
}

impl Planner<'_> {
    /// Plans a layer that does the same to every channel.
    pub(super) fn lanes(
        &mut self,
        layer: &KernelLayer,
        op: LanesOp,
        prologue: KernelPrologue,
        epilogue: KernelEpilogue,
    ) -> Result<(), PlanError> {
        let (id, output) = (layer.node, Value::from(layer.node));
        let (y, x) = layer.axes;
        let mut image = self.image_or_copy(id, layer.x)?;
        if let Some(why) = scattered(&image) {
            // Pixels side by side are summed up where they lie.
            if matches!(op, LanesOp::GlobalPool(_)) && self.has_long_rows(layer.x) {
                return self.generic(id);
            }
            image = self.relayout(id, &image, why)?;
        }
        let mut runs = image.runs();
        let mut span = spread(&runs);
        let channels = image.channels();
        if span > self.slot_limit(output, channels) {
            image = self.relayout(id, &image, "its output is a part of a wide buffer")?;
            runs = image.runs();
            span = spread(&runs);
        }
        // Where each slot of the input goes.
        let natural = runs.len() == 1 && image.slots.windows(2).all(|s| s[1].at == s[0].at + 1);
        let (buffer, at) = self.output_slots(output, span, natural);
        let extent = self.extent(output);
        let mut target: BTreeMap<Slot, usize> = BTreeMap::new();
        let mut next = at;
        for run in &runs {
            for i in 0..run.len {
                target.insert(Slot { buffer: run.buffer, at: run.at + i }, next + i);
            }
            next += run.len.next_multiple_of(LANES);
        }
        let slots = image.slots.iter().map(|s| Slot { buffer, at: target[s] }).collect();
        let out_image = Image { extent, slots };

        let residual = layer.residual.map(|r| self.matching_residual(id, r, &out_image)).transpose()?;

        let sources = image.buffers();
        let pitches: Option<Vec<Pitch>> = sources.iter().map(|&b| self.pitch(b)).collect();
        let (Some(pitches), Some(out_pitch)) = (pitches, self.pitch(buffer)) else {
            return Err(PlanError::Internal("an image lies in a buffer of none".into()));
        };
        let registers = Registers::of(self.target);
        let exact = matches!(self.at(buffer).home, Home::Output(_));
        let vectors =
            self.cut_vectors(&runs, &sources, &pitches, &target, exact || residual.is_some(), registers);

        let name = self.graph.node(id).name.clone();
        let channel_of: BTreeMap<usize, usize> =
            out_image.slots.iter().enumerate().map(|(c, s)| (s.at, c)).collect();
        let taps = match op {
            LanesOp::Depthwise => y.kernel * x.kernel,
            _ => 0,
        };
        let constants =
            |planner: &mut Self, value: Option<Value>, taps: usize| -> Result<BufferId, PlanError> {
                let Some(value) = value else { return Ok(ARENA_START) };
                let tensor = planner.parameter(Some(value))?;
                let values = f32_elems(&tensor)?;
                let mut packed = Vec::new();
                for v in &vectors {
                    for tap in 0..taps {
                        packed.extend((0..v.col.lanes.count() as usize).map(|lane| {
                            channel_of
                                .get(&(v.to + lane))
                                .filter(|_| lane < v.col.used as usize)
                                .map_or(0.0, |c| values[c * taps + tap])
                        }));
                    }
                }
                Ok(planner.constant_buffer(&name, bytemuck::cast_slice(&packed)))
            };
        let weights = constants(self, layer.weights, taps)?;
        let bias = constants(self, layer.bias, 1)?;
        let scale = constants(self, layer.affine.map(|(scale, _)| scale), 1)?;
        let shift = constants(self, layer.affine.map(|(_, shift)| shift), 1)?;

        let residual_pitch = residual.as_ref().and_then(|r| self.pitch(r.0)).unwrap_or(out_pitch);
        let shift_residual = residual.as_ref().map_or(0, |r| r.1);
        let at_the_end = epilogue.registers(store_registers(out_pitch.float, self.target));
        let (columns, rows) = block_shape(op, prologue, at_the_end, registers, (&y, &x));
        let global = matches!(op, LanesOp::GlobalPool(_));
        let tiles = if global { Vec::new() } else { blocks(&x, columns) };
        let near: i64 = pitches.iter().map(|p| BytePitch::from(*p).row).sum::<i64>()
            * ((rows - 1) * y.stride + y.kernel) as i64;
        let along = along(&tiles, near as u64, self.target.l1d);
        let plan = LanesPlan {
            op,
            images: image.extent.n,
            blocks: if global { Vec::new() } else { blocks(&y, rows) },
            tiles,
            along,
            y,
            x,
            inputs: pitches.iter().map(|&p| p.into()).collect(),
            output: out_pitch.into(),
            residual: residual
                .as_ref()
                .and_then(|r| self.pitch(r.0))
                .map(BytePitch::from)
                .unwrap_or_default(),
            vectors: merge(&vectors, taps, &pitches, out_pitch, (residual_pitch, shift_residual)),
            prologue,
            epilogue,
        };
        let shared = residual.as_ref().map_or(0, |&(buffer, offset)| {
            let slot = |s: &Slot| Slot { buffer, at: s.at.wrapping_add_signed(offset) };
            let slots = out_image.slots.iter().map(slot).collect();
            Image { extent, slots }.slots_in(&image)
        });
        let traffic = traffic(&plan, shared);
        let mut args = vec![(ARENA_START, 0); LanesArg::Inputs as usize];
        args[LanesArg::Output as usize].0 = buffer;
        args[LanesArg::Weights as usize].0 = weights;
        args[LanesArg::Bias as usize].0 = bias;
        args[LanesArg::Residual as usize].0 = residual.as_ref().map_or(ARENA_START, |r| r.0);
        args[LanesArg::Scale as usize].0 = scale;
        args[LanesArg::Shift as usize].0 = shift;
        args.extend(sources.iter().map(|&b| (b, 0)));
        self.step(Draft {
            name,
            node: Some(id),
            units: plan.units(),
            scratch: 0,
            code: LayerCode::Lanes(plan),
            args,
            also_reads: Vec::new(),
            traffic,
            note: None,
        });
        self.place(output, Place::Image(out_image));
        Ok(())
    }

    /// The residual's buffer, and by how many slots it lies behind the output; its channels are brought into the output's
    /// order if they are not.
    fn matching_residual(
        &mut self,
        id: NodeId,
        value: Value,
        output: &Image,
    ) -> Result<(BufferId, isize), PlanError> {
        let image = self.image_or_copy(id, value)?;
        let behind = |residual: &Image| {
            let (first, of) = (residual.slots.first()?, output.slots.first()?);
            let offset = first.at as isize - of.at as isize;
            let slots = residual.slots.iter().zip(&output.slots);
            let same =
                |(r, o): (&Slot, &Slot)| r.buffer == first.buffer && r.at as isize - o.at as isize == offset;
            slots.into_iter().all(same).then_some((first.buffer, offset))
        };
        if let Some(found) = behind(&image) {
            return Ok(found);
        }
        let why = "a residual must lie in the order of what it is added to";
        let copy = self.relayout_like(id, &image, output, why)?;
        behind(&copy).ok_or_else(|| PlanError::Internal("a residual lies in another order".into()))
    }

    /// Cuts runs of slots into vectors.
    pub(super) fn cut_vectors(
        &self,
        runs: &[SlotRun],
        sources: &[BufferId],
        pitches: &[Pitch],
        target: &BTreeMap<Slot, usize>,
        exact: bool,
        registers: Registers,
    ) -> Vec<SlotVector> {
        let mut vectors = Vec::new();
        for run in runs {
            let source = sources.iter().position(|&b| b == run.buffer).unwrap_or(0);
            let padding = run.len.next_multiple_of(LANES) - run.len;
            // Of a transposed image, rows may be nearer to each other than pixels.
            let Pitch { image, row, pixel, .. } = pitches[source];
            let channels_last = image.min(row).min(pixel) >= run.at + run.len + padding;
            let spare = if exact || !channels_last { 0 } else { padding };
            let mut done = 0;
            for col in super::tiling::columns(run.len, spare, registers, Folding::NONE) {
                let from = run.at + done;
                let to = target[&Slot { buffer: run.buffer, at: from }];
                vectors.push(SlotVector { col, source, from, to });
                done += col.used as usize;
            }
        }
        vectors
    }
}

/// Bytes of the step's address streams, each once. `shared` slots of the residual are the input's.
pub(super) fn traffic(plan: &LanesPlan, shared: usize) -> Traffic {
    let (mut lanes, mut used) = (0, 0);
    for vectors in &plan.vectors {
        lanes += vectors.count as u64 * u64::from(vectors.lanes.count()) * 4;
        used += vectors.count as u64 * u64::from(vectors.used);
    }
    let (y, x) = (&plan.y, &plan.x);
    let pixels = plan.images * y.positions_read() * x.positions_read();
    let size = |pitch: &BytePitch| u64::from(pitch.float.bytes());
    let outputs = (plan.images * y.output * x.output) as u64 * used;
    let mut read = pixels as u64 * used * plan.inputs.first().map_or(0, size);
    if plan.op == LanesOp::Depthwise {
        read += (y.taps_used() * x.taps_used()) as u64 * lanes;
    }
    if plan.epilogue.bias {
        read += lanes;
    }
    if plan.prologue.affine {
        read += 2 * used * 4;
    }
    if plan.epilogue.residual != KernelResidual::None {
        read += (outputs - (pixels * shared) as u64) * size(&plan.residual);
    }
    Traffic { read, written: outputs * size(&plan.output) }
}

impl Planner<'_> {
    /// Whether each channel's pixels are a dense row in memory, and enough of them for a kernel.
    fn has_long_rows(&mut self, value: Value) -> bool {
        let Some(view) = self.view(value) else { return false };
        let mut dense = view.dtype.bytes() as i64;
        let mut pixels = 1;
        for (&extent, &stride) in view.shape.iter().zip(&view.strides).skip(2).rev() {
            if extent > 1 && stride != dense {
                return false;
            }
            dense = dense.saturating_mul(extent as i64);
            pixels *= extent;
        }
        pixels >= ROW_ELEMENTS
    }
}

/// Why channels should be gathered before a layer works on their slots, if so.
fn scattered(image: &Image) -> Option<&'static str> {
    let runs = image.runs();
    let slots: usize = runs.iter().map(|r| r.len).sum();
    if slots < image.channels() {
        return Some("some of its channels are the same");
    }
    if spread(&runs) > image.channels() * 3 / 2 + LANES {
        return Some("its channels lie too far apart to fill vectors");
    }
    None
}

/// Slots that runs take when each starts at a whole vector.
fn spread(runs: &[SlotRun]) -> usize {
    runs.iter().map(|r| r.len.next_multiple_of(LANES)).sum()
}

/// Output columns and rows of one block, such that accumulators and weights fit the registers, and so many at the end.
pub(super) fn block_shape(
    op: LanesOp,
    prologue: KernelPrologue,
    epilogue: usize,
    registers: Registers,
    (y, x): (&Axis, &Axis),
) -> (usize, usize) {
    let prologue = prologue.registers();
    // Beside the results: while taps are taken, and at the end. Weights may be read from memory, if they must.
    let fixed = 3 + prologue;
    let maxima = match op {
        LanesOp::Pool(PoolFunction::Max) | LanesOp::GlobalPool(PoolFunction::Max) => 2,
        _ => 0,
    };
    let at_the_end = prologue + maxima + epilogue;
    let held = |rows: usize| match op {
        LanesOp::Depthwise => {
            let all = y.kernel * x.kernel;
            let in_use = (((rows - 1) * y.stride).min(y.kernel - 1) + 1) * x.kernel;
            if all + 4 + fixed <= registers.count { all } else { in_use }
        }
        _ => 1,
    };
    let mut best = (1, 1);
    let mut best_cost = f64::INFINITY;
    for rows in 1..=3usize.min(y.output) {
        for columns in 1..=8usize.min(x.output) {
            if rows * columns + at_the_end.max(held(rows) + fixed) > registers.count {
                continue;
            }
            // Loads for each output, and what is spent on each call's start, over the whole row.
            let inputs = ((rows - 1) * y.stride + y.kernel) * ((columns - 1) * x.stride + x.kernel);
            let tiles = x.output.div_ceil(columns) * y.output.div_ceil(rows);
            let fma = rows * columns * y.kernel * x.kernel;
            let cost = tiles as f64
                * ((inputs as f64).max(fma as f64) + fma as f64 * 0.25 + held(rows) as f64 * 0.5 + 4.0);
            if cost < best_cost {
                best_cost = cost;
                best = (columns, rows);
            }
        }
    }
    best
}

/// The order of tiles and vectors, for a block of rows that reads so many bytes.
pub(super) fn along(tiles: &[AxisBlocks], near: u64, l1d: u64) -> Along {
    let one_tile = matches!(tiles, [only] if only.count == 1);
    if one_tile || near > l1d { Along::Channels } else { Along::Columns }
}

/// Puts vectors together that follow each other at constant distances. The residual lies so many slots behind the output.
pub(super) fn merge(
    vectors: &[SlotVector],
    taps: usize,
    inputs: &[Pitch],
    output: Pitch,
    (residual, behind): (Pitch, isize),
) -> Vec<VectorRun> {
    let mut runs: Vec<VectorRun> = Vec::new();
    let (mut weights, mut parameters) = (0i64, 0i64);
    for v in vectors {
        let bytes = i64::from(v.col.lanes.bytes());
        let input = inputs.get(v.source).map_or(0, |pitch| pitch.bytes(v.from));
        let residual = residual.bytes(v.to) + behind as i64 * i64::from(residual.float.bytes());
        let starts = [input, output.bytes(v.to), weights, parameters, residual];
        weights += bytes * taps as i64;
        parameters += bytes;
        let alike =
            |r: &&mut VectorRun| r.lanes == v.col.lanes && r.used == v.col.used && r.source == v.source;
        let follows = runs.last_mut().filter(alike).is_some_and(|run| {
            let fields =
                [&mut run.input, &mut run.output, &mut run.weights, &mut run.parameters, &mut run.residual];
            Progression::take_up(fields, &mut run.count, starts)
        });
        if !follows {
            let at = Progression::at;
            runs.push(VectorRun {
                count: 1,
                lanes: v.col.lanes,
                used: v.col.used,
                source: v.source,
                input: at(starts[0]),
                output: at(starts[1]),
                weights: at(starts[2]),
                parameters: at(starts[3]),
                residual: at(starts[4]),
            });
        }
    }
    runs
}
