//! From a depthwise convolution or a pool in the graph to a step with channels in lanes.

use std::collections::BTreeMap;

use nnc_ir::op::{Conv, Op};
use nnc_ir::{NodeId, Tensor, Value};

use super::buffer::{BufferId, Home};
use super::dense::Progression;
use super::draft::Draft;
use super::fits::KernelLayer;
use super::generic::{self, ROW_ELEMENTS};
use super::image::{Image, Slot, SlotRun};
use super::lanes::{AxisBlocks, LanesArg, LanesOp, LanesPlan, VectorRun, blocks};
use super::own::{ComputedPanel, Own, Parameter};
use super::panels::f32_elems;
use super::pitch::{LANES, Pitch};
use super::planner::{ARENA_START, Place, Planner};
use super::quad_lanes::LaneSlots;
use super::sweep::{Axis, BytePitch};
use super::tiling::{Folding, Registers};
use super::{LayerCode, PlanError, Traffic};
use crate::code::tile::programs::epilogue::{KernelEpilogue, KernelResidual};
use crate::code::tile::programs::pool::PoolFunction;
use crate::code::tile::programs::window::{Along, KernelPrologue};
use crate::code::tile::store_registers;
use crate::code::view::View;

/// The fewest planes that are enough units of work: a plane is one, whatever its size.
const FEW_PLANES: usize = 8;

/// A vector of slots before those that are alike are put together.
pub(super) struct SlotVector {
    col: crate::code::tile::programs::dense::Col,
    source: usize,
    from: usize,
    to: usize,
}

/// Where a layer reads and writes.
pub(super) struct LanesPlace {
    pub input: Image,
    /// One slot for each channel of the result.
    pub output: Image,
    pub buffer: BufferId,
}

impl LanesPlace {
    /// Another result of the same input.
    pub fn with_output(&self, output: Image, buffer: BufferId) -> LanesPlace {
        LanesPlace { input: self.input.clone(), output, buffer }
    }
}

/// What is computed, and what is done before and after it.
pub(super) type LanesWork = (LanesOp, KernelPrologue, KernelEpilogue);

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
        if self.stays_in_planes(layer) {
            return self.generic(id);
        }
        let image = self.image_or_copy(id, layer.x)?;
        // Pixels side by side are summed up where they lie.
        if scattered(&image).is_some() && matches!(op, LanesOp::GlobalPool(_)) && self.has_long_rows(layer.x)
        {
            return self.generic(id);
        }
        let own = layer.weights.map(|_| self.own(layer)).transpose()?;
        let place = self.lanes_output(layer, image)?;
        self.lanes_steps(layer, (op, prologue, epilogue), own.as_ref(), &place, true)?;
        self.place(output, Place::Image(place.output));
        Ok(())
    }

    /// Decides where a layer reads and writes. The result takes over the order of the input's slots; where it has several channels
    /// for each of the input, those that are first for all come first, then those that are second:
    ///
    /// ```text
    ///   input    a b c                   result   a0 b0 c0 · a1 b1 c1 ·
    /// ```
    pub(super) fn lanes_output(
        &mut self,
        layer: &KernelLayer,
        mut image: Image,
    ) -> Result<LanesPlace, PlanError> {
        let (id, output) = (layer.node, Value::from(layer.node));
        if let Some(why) = scattered(&image) {
            image = self.relayout(id, &image, why)?;
        }
        let mut runs = image.runs();
        let channels = image.channels();
        let each = self.graph.ty(output).shape[1] / channels;
        let limit = self.slot_limit(output, each * channels);
        if each * spread(&runs) > limit {
            image = self.relayout(id, &image, "its output is a part of a wide buffer")?;
            runs = image.runs();
        }
        // Whole vectors, unless that is more than there is room for.
        let span = |run: &SlotRun| match each * spread(&runs) > limit {
            true => run.len,
            false => run.len.next_multiple_of(LANES),
        };
        let all: usize = runs.iter().map(span).sum();
        // Where each slot of the input goes.
        let natural = each == 1 && runs.len() == 1 && image.slots.windows(2).all(|s| s[1].at == s[0].at + 1);
        let (buffer, at) = self.output_slots(output, each * all, natural);
        let mut first: BTreeMap<Slot, usize> = BTreeMap::new();
        let mut next = at;
        for run in &runs {
            for i in 0..run.len {
                first.insert(Slot { buffer: run.buffer, at: run.at + i }, next + i);
            }
            next += span(run);
        }
        let slots =
            (0..each * channels).map(|c| Slot { buffer, at: first[&image.slots[c / each]] + c % each * all });
        let output = Image { extent: self.extent(output), slots: slots.collect() };
        Ok(LanesPlace { input: image, output, buffer })
    }

    /// The steps of a layer whose values have their places: one, or one for each of the channels that the result has for one of the input.
    /// Of several, the first counts as the layer.
    pub(super) fn lanes_steps(
        &mut self,
        layer: &KernelLayer,
        work: LanesWork,
        own: Option<&Own>,
        place: &LanesPlace,
        is_first: bool,
    ) -> Result<(), PlanError> {
        let id = layer.node;
        let residual = layer.residual.map(|r| self.matching_residual(id, r, &place.output)).transpose()?;
        self.lanes_parts(layer, work, own, place, residual, is_first)
    }

    /// The same with a residual that has its place.
    pub(super) fn lanes_parts(
        &mut self,
        layer: &KernelLayer,
        work: LanesWork,
        own: Option<&Own>,
        place: &LanesPlace,
        residual: Option<(BufferId, isize)>,
        is_first: bool,
    ) -> Result<(), PlanError> {
        let each = place.output.channels() / place.input.channels();
        for part in 0..each {
            self.lanes_step(layer, work, own, place, residual, (part, each), is_first && part == 0)?;
        }
        Ok(())
    }

    /// One of these steps.
    fn lanes_step(
        &mut self,
        layer: &KernelLayer,
        (op, prologue, epilogue): LanesWork,
        own: Option<&Own>,
        place: &LanesPlace,
        residual: Option<(BufferId, isize)>,
        (part, each): (usize, usize),
        is_first: bool,
    ) -> Result<(), PlanError> {
        let id = layer.node;
        let (y, x) = layer.axes;
        let LanesPlace { input: image, output, buffer } = place;
        let (runs, buffer, extent) = (image.runs(), *buffer, output.extent);
        let out_slot = |channel: usize| output.slots[channel * each + part];
        let target: BTreeMap<Slot, usize> =
            image.slots.iter().enumerate().map(|(c, &slot)| (slot, out_slot(c).at)).collect();
        let sources = image.buffers();
        let pitches: Option<Vec<Pitch>> = sources.iter().map(|&b| self.pitch(b)).collect();
        let (Some(pitches), Some(out_pitch)) = (pitches, self.pitch(buffer)) else {
            return Err(PlanError::Internal("an image lies in a buffer of none".into()));
        };
        let registers = Registers::of(self.target);
        let exact =
            matches!(self.at(self.root(buffer)).home, Home::Output(_)) || residual.is_some() || each > 1;
        let bare = (prologue, epilogue) == (KernelPrologue::default(), KernelEpilogue::default());
        let in_bytes = LaneSlots { runs, target, pitches, output: out_pitch };
        let is_max = op == LanesOp::Pool(PoolFunction::Max);
        let quads = (is_max && bare && each == 1).then(|| in_bytes.in_quads(exact)).flatten();
        let op = if quads.is_some() { LanesOp::Pool(PoolFunction::MaxBytes) } else { op };
        let LaneSlots { runs, target, pitches, output: out_pitch } = quads.unwrap_or(in_bytes);
        let vectors = self.cut_vectors(&runs, &sources, &pitches, &target, exact, registers);

        let name = self.graph.node(id).name.clone();
        let channel_of: BTreeMap<usize, usize> = (0..image.channels()).map(|c| (out_slot(c).at, c)).collect();
        let panels: Vec<ComputedPanel<'_>> = vectors
            .iter()
            .map(|v| {
                let used = (0..v.col.used as usize).filter_map(|lane| channel_of.get(&(v.to + lane)));
                let lanes = v.col.lanes.count() as usize;
                ComputedPanel { channels: used.copied().collect(), lanes, order: &[0] }
            })
            .collect();
        // Parameters of channels of the input, or of the result.
        let packed = |elems: &[f32], taps: usize, at: &dyn Fn(usize) -> usize| -> Vec<f32> {
            let mut packed = Vec::new();
            for panel in &panels {
                for tap in 0..taps {
                    let start = packed.len();
                    packed.extend(panel.channels.iter().map(|&c| elems[at(c) * taps + tap]));
                    packed.resize(start + panel.lanes, 0.0);
                }
            }
            packed
        };
        let of_result = |channel: usize| channel * each + part;
        let taps = match op {
            LanesOp::Depthwise => y.kernel * x.kernel,
            _ => 0,
        };
        let of_own = |planner: &mut Self, parameter: Option<&Parameter>, taps: usize| {
            Ok::<_, PlanError>(match parameter {
                None => ARENA_START,
                Some(Parameter::Known(tensor)) => {
                    let packed = packed(&f32_elems(tensor)?, taps, &of_result);
                    planner.constant_buffer(&name, bytemuck::cast_slice(&packed))
                }
                Some(Parameter::Computed(elements)) => {
                    let of_result = |panel: &ComputedPanel<'static>| ComputedPanel {
                        channels: panel.channels.iter().map(|&c| of_result(c)).collect(),
                        ..panel.clone()
                    };
                    let panels: Vec<_> = panels.iter().map(of_result).collect();
                    planner.packed_by_run(id, elements, &panels)?
                }
            })
        };
        let weights = of_own(self, own.map(|own| &own.weights), taps)?;
        let bias = of_own(self, own.and_then(|own| own.bias.as_ref()), 1)?;
        let rescale = own.and_then(|own| own.rescale.as_ref());
        let known = |tensor: &Tensor| Parameter::Known(tensor.clone());
        let factor = of_own(self, rescale.map(|(factor, _)| known(factor)).as_ref(), 1)?;
        let addend = of_own(self, rescale.and_then(|(_, addend)| addend.as_ref()).map(known).as_ref(), 1)?;
        let of_input = |planner: &mut Self, value: Option<Value>| -> Result<BufferId, PlanError> {
            let Some(value) = value else { return Ok(ARENA_START) };
            let packed = packed(&f32_elems(&planner.parameter(Some(value))?)?, 1, &|c| c);
            Ok(planner.constant_buffer(&name, bytemuck::cast_slice(&packed)))
        };
        let scale = of_input(self, layer.affine.map(|(scale, _)| scale))?;
        let shift = of_input(self, layer.affine.map(|(_, shift)| shift))?;

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
            let slot = |c: usize| Slot { buffer, at: out_slot(c).at.wrapping_add_signed(offset) };
            Image { extent, slots: (0..image.channels()).map(slot).collect() }.slots_in(image)
        });
        let traffic = traffic(&plan, shared);
        let mut args = vec![(ARENA_START, 0); LanesArg::Inputs as usize];
        args[LanesArg::Output as usize].0 = buffer;
        args[LanesArg::Weights as usize].0 = weights;
        args[LanesArg::Bias as usize].0 = bias;
        args[LanesArg::Factor as usize].0 = factor;
        args[LanesArg::Addend as usize].0 = addend;
        args[LanesArg::Residual as usize].0 = residual.as_ref().map_or(ARENA_START, |r| r.0);
        args[LanesArg::Scale as usize].0 = scale;
        args[LanesArg::Shift as usize].0 = shift;
        args.extend(sources.iter().map(|&b| (b, 0)));
        self.step(Draft {
            name,
            node: is_first.then_some(id),
            units: plan.units(),
            scratch: 0,
            code: LayerCode::Lanes(plan),
            args,
            also_reads: Vec::new(),
            traffic,
            note: None,
        });
        Ok(())
    }

    /// The residual's buffer, and by how many slots it lies behind the output; its channels are brought into the output's
    /// order if they are not.
    pub(super) fn matching_residual(
        &mut self,
        id: NodeId,
        value: Value,
        output: &Image,
    ) -> Result<(BufferId, isize), PlanError> {
        let image = self.image_or_copy(id, value)?;
        self.matching_image(id, &image, output)
    }

    /// The same of an image.
    pub(super) fn matching_image(
        &mut self,
        id: NodeId,
        image: &Image,
        output: &Image,
    ) -> Result<(BufferId, isize), PlanError> {
        let behind = |residual: &Image| {
            let (first, of) = (residual.slots.first()?, output.slots.first()?);
            let offset = first.at as isize - of.at as isize;
            let slots = residual.slots.iter().zip(&output.slots);
            let same =
                |(r, o): (&Slot, &Slot)| r.buffer == first.buffer && r.at as isize - o.at as isize == offset;
            slots.into_iter().all(same).then_some((first.buffer, offset))
        };
        if let Some(found) = behind(image) {
            return Ok(found);
        }
        let why = "a residual must lie in the order of what it is added to";
        let copy = self.relayout_like(id, image, output, why)?;
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
    /// Whether a pool, or a convolution of each channel by itself, reads planes where they lie, and leaves such to the caller.
    pub(super) fn stays_in_planes(&mut self, layer: &KernelLayer) -> bool {
        let output = Value::from(layer.node);
        let planes: usize = self.graph.ty(output).shape[..2].iter().product();
        let leads_out = self.row_major_output(output).is_some() && !self.is_wide(output);
        let Some(x) = self.view(layer.x).filter(|_| leads_out && planes >= FEW_PLANES) else { return false };
        let residual = layer.residual.map(|residual| self.view(residual));
        if residual == Some(None) {
            return false;
        }
        let dense = |value: Value| {
            let ty = self.graph.ty(value);
            View::dense(x.arg, ty.dtype, ty.shape.to_vec())
        };
        match &self.graph.node(layer.node).op {
            Op::Pool(pool) => generic::pools_planes(pool, &x, &dense(output)),
            Op::Conv(conv) => {
                let mut operands: Vec<Option<View>> =
                    self.graph.operands(layer.node).into_iter().map(|operand| operand.map(dense)).collect();
                operands[Conv::X] = Some(x.clone());
                if let (Some(place), Some(residual)) = (operands.get_mut(Conv::RESIDUAL), residual) {
                    *place = residual;
                }
                generic::weighs_planes(conv, &operands, &dense(output))
            }
            _ => false,
        }
    }

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
