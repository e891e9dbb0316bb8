//! From a depthwise convolution or a pool in the graph to a step with channels in lanes.

use std::collections::BTreeMap;

use nnc_ir::op::{Conv, GlobalPool, Pool as PoolOp, PoolKind, Unary};
use nnc_ir::{NodeId, Tensor, Value};

use super::buffer::{BufferId, Home};
use super::dense::{Steps, axes};
use super::image::{Image, LANES, Pitch, Run, Slot};
use super::lanes::{LanesArg, LanesOp, LanesPlan, RowBlocks, VectorRun, blocks};
use super::planner::{ARENA_START, Draft, Place, Planner};
use super::sweep::{Axis, BytePitch};
use super::tiling::{Folding, Registers};
use super::{LayerCode, PlanError, Traffic, epilogue};
use crate::code::tile::programs::epilogue::{Epilogue, Residual as Added};
use crate::code::tile::programs::pool::Pool;
use crate::code::tile::programs::window::{Along, Prologue};

/// What a layer of this kind needs from its node.
struct Layer<'a> {
    id: NodeId,
    x: Value,
    op: LanesOp,
    axes: Option<(Axis, Axis)>,
    weights: Option<&'a Tensor>,
    bias: Option<Tensor>,
    residual: Option<Value>,
    scale: Option<(Tensor, Tensor)>,
    prologue: Prologue,
    epilogue: Epilogue,
}

/// A vector of slots before those that are alike are put together.
struct Vector {
    col: crate::code::tile::programs::dense::Col,
    source: usize,
    from: usize,
    to: usize,
}

impl Planner<'_> {
    /// Plans a depthwise convolution. `false` when it is none.
    pub(super) fn depthwise(&mut self, id: NodeId, conv: &Conv) -> Result<bool, PlanError> {
        let operands = self.graph.operands(id);
        let operand = |i: usize| operands.get(i).copied().flatten();
        let (Some(x), Some(w)) = (operand(Conv::X), operand(Conv::W)) else { return Ok(false) };
        let Some(weights) = self.graph.constant(w).cloned() else { return Ok(false) };
        let (input, output) = (self.graph.ty(x).shape.clone(), self.graph.ty(id.into()).shape.clone());
        let depthwise =
            output.rank() == 4 && conv.groups == input[1] && output[1] == input[1] && conv.groups > 1;
        if !depthwise {
            return Ok(false);
        }
        let constant = |at: usize| operand(at).map(|v| self.graph.constant(v).cloned());
        let bias = match constant(Conv::B) {
            Some(None) => return Ok(false),
            b => b.flatten(),
        };
        let scale = constant(Conv::SCALE).flatten().zip(constant(Conv::SHIFT).flatten());
        let (Some(prologue), Some(epilogue)) =
            (prologue(&conv.prologue, scale.is_some()), epilogue(&conv.epilogue, bias.is_some()))
        else {
            return Ok(false);
        };
        let axes = axes(&conv.window, (input[2], input[3]), (output[2], output[3]));
        let layer = Layer {
            id,
            x,
            op: LanesOp::Depthwise,
            axes,
            weights: Some(&weights),
            bias,
            residual: operand(Conv::RESIDUAL),
            scale,
            prologue,
            epilogue,
        };
        self.lanes(layer)
    }

    /// Plans a pool. `false` when it is none that these kernels do.
    pub(super) fn pool(&mut self, id: NodeId, pool: &PoolOp) -> Result<bool, PlanError> {
        let operands = self.graph.operands(id);
        let operand = |i: usize| operands.get(i).copied().flatten();
        let Some(x) = operand(PoolOp::X) else { return Ok(false) };
        let (input, output) = (self.graph.ty(x).shape.clone(), self.graph.ty(id.into()).shape.clone());
        let taps: usize = pool.window.kernel.iter().product();
        let kind = match pool.kind {
            PoolKind::Max => Pool::Max,
            PoolKind::Average { count_include_pad: true } if pool.ceil_pads.iter().all(|&p| p == 0) => {
                Pool::MeanOf(taps as u32)
            }
            PoolKind::Average { count_include_pad: false } => Pool::MeanInside,
            _ => return Ok(false),
        };
        let constant = |at: usize| operand(at).and_then(|v| self.graph.constant(v).cloned());
        let scale = constant(PoolOp::SCALE).zip(constant(PoolOp::SHIFT));
        let (Some(prologue), Some(epilogue)) =
            (prologue(&pool.prologue, scale.is_some()), epilogue(&pool.epilogue, false))
        else {
            return Ok(false);
        };
        if output.rank() != 4 {
            return Ok(false);
        }
        let axes = axes(&pool.window, (input[2], input[3]), (output[2], output[3]));
        let layer = Layer {
            id,
            x,
            op: LanesOp::Pool(kind),
            axes,
            weights: None,
            bias: None,
            residual: operand(PoolOp::RESIDUAL),
            scale,
            prologue,
            epilogue,
        };
        self.lanes(layer)
    }

    /// Plans a global pool. `false` when it is none that these kernels do.
    pub(super) fn global_pool(&mut self, id: NodeId, pool: &GlobalPool) -> Result<bool, PlanError> {
        let operands = self.graph.operands(id);
        let operand = |i: usize| operands.get(i).copied().flatten();
        let Some(x) = operand(GlobalPool::X) else { return Ok(false) };
        let shape = self.graph.ty(x).shape.clone();
        let kind = match pool.kind {
            PoolKind::Max => Pool::Max,
            PoolKind::Average { .. } => Pool::MeanInside,
            PoolKind::Lp { .. } => return Ok(false),
        };
        let constant = |at: usize| operand(at).and_then(|v| self.graph.constant(v).cloned());
        let scale = constant(GlobalPool::SCALE).zip(constant(GlobalPool::SHIFT));
        let Some(prologue) = prologue(&pool.prologue, scale.is_some()) else { return Ok(false) };
        if shape.rank() != 4 || pool.activation.is_some() {
            return Ok(false);
        }
        let whole = |n: usize| Axis { input: n, output: 1, kernel: n, stride: 1, dilation: 1, pad: 0 };
        let layer = Layer {
            id,
            x,
            op: LanesOp::GlobalPool(kind),
            axes: Some((whole(shape[2]), whole(shape[3]))),
            weights: None,
            bias: None,
            residual: None,
            scale,
            prologue,
            epilogue: Epilogue::default(),
        };
        self.lanes(layer)
    }

    fn lanes(&mut self, layer: Layer<'_>) -> Result<bool, PlanError> {
        let id = layer.id;
        let output = Value::from(id);
        let (Some(mut image), Some((y, x))) = (self.image(layer.x), layer.axes) else { return Ok(false) };
        if self.graph.ty(output).shape.elems() == 0 || image.extent.pixels() == 0 {
            return Ok(false);
        }
        if let Some(why) = scattered(&image) {
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

        let residual = match layer.residual {
            Some(r) => match self.matching_residual(id, r, &out_image)? {
                Some(found) => Some(found),
                None => return Ok(false),
            },
            None => None,
        };

        let sources = image.buffers();
        let pitches: Vec<Pitch> = sources.iter().filter_map(|&b| self.pitch(b)).collect();
        let Some(out_pitch) = self.pitch(buffer).filter(|_| pitches.len() == sources.len()) else {
            return Ok(false);
        };
        let registers = Registers::of(self.target);
        let exact = matches!(self.at(buffer).home, Home::Output(_));
        let vectors =
            self.cut_vectors(&runs, &sources, &pitches, &target, exact || residual.is_some(), registers);

        let name = self.graph.node(id).name.clone();
        let channel_of: BTreeMap<usize, usize> =
            out_image.slots.iter().enumerate().map(|(c, s)| (s.at, c)).collect();
        let taps = match layer.op {
            LanesOp::Depthwise => y.kernel * x.kernel,
            _ => 0,
        };
        let constants =
            |planner: &mut Self, tensor: Option<&Tensor>, taps: usize| -> Result<BufferId, PlanError> {
                let Some(tensor) = tensor else { return Ok(ARENA_START) };
                let values = tensor.elems::<f32>()?;
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
        let bias = constants(self, layer.bias.as_ref(), 1)?;
        let scale = constants(self, layer.scale.as_ref().map(|s| &s.0), 1)?;
        let shift = constants(self, layer.scale.as_ref().map(|s| &s.1), 1)?;

        let shift_residual = residual.as_ref().map_or(0, |r| r.1 as i64 * 4);
        let (columns, rows) = block_shape(&layer, registers, &y, &x);
        let global = matches!(layer.op, LanesOp::GlobalPool(_));
        let tiles = if global { Vec::new() } else { blocks(&x, columns) };
        let near: i64 = pitches.iter().map(|p| BytePitch::from(*p).row).sum::<i64>()
            * ((rows - 1) * y.stride + y.kernel) as i64;
        let along = along(&tiles, near as u64, self.target.l1d);
        let plan = LanesPlan {
            op: layer.op,
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
            vectors: merge(&vectors, taps, shift_residual),
            prologue: layer.prologue,
            epilogue: layer.epilogue,
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
        Ok(true)
    }

    /// The residual's buffer, and by how many slots it lies behind the output; its channels are brought into the output's
    /// order if they are not.
    fn matching_residual(
        &mut self,
        id: NodeId,
        value: Value,
        output: &Image,
    ) -> Result<Option<(BufferId, isize)>, PlanError> {
        let Some(mut image) = self.image(value) else { return Ok(None) };
        for attempt in 0..2 {
            let offset = image.slots[0].at as isize - output.slots[0].at as isize;
            let same =
                image.slots.iter().zip(&output.slots).all(|(r, o)| {
                    r.buffer == image.slots[0].buffer && r.at as isize - o.at as isize == offset
                });
            if same {
                return Ok(Some((image.slots[0].buffer, offset)));
            }
            if attempt == 0 {
                image =
                    self.relayout(id, &image, "a residual must lie in the order of what it is added to")?;
            }
        }
        Ok(None)
    }

    /// Cuts runs of slots into vectors.
    fn cut_vectors(
        &self,
        runs: &[Run],
        sources: &[BufferId],
        pitches: &[Pitch],
        target: &BTreeMap<Slot, usize>,
        exact: bool,
        registers: Registers,
    ) -> Vec<Vector> {
        let mut vectors = Vec::new();
        for run in runs {
            let source = sources.iter().position(|&b| b == run.buffer).unwrap_or(0);
            let padding = run.len.next_multiple_of(LANES) - run.len;
            // Of a transposed image, rows may be nearer to each other than pixels.
            let Pitch { image, row, pixel } = pitches[source];
            let channels_last = image.min(row).min(pixel) >= run.at + run.len + padding;
            let spare = if exact || !channels_last { 0 } else { padding };
            let mut done = 0;
            for col in super::tiling::columns(run.len, spare, registers, Folding::NONE) {
                let from = run.at + done;
                let to = target[&Slot { buffer: run.buffer, at: from }];
                vectors.push(Vector { col, source, from, to });
                done += col.used as usize;
            }
        }
        vectors
    }
}

/// Bytes of the step's address streams, each once. `shared` slots of the residual are the input's.
fn traffic(plan: &LanesPlan, shared: usize) -> Traffic {
    let (mut lanes, mut used) = (0, 0);
    for vectors in &plan.vectors {
        lanes += vectors.count as u64 * u64::from(vectors.lanes.count()) * 4;
        used += vectors.count as u64 * u64::from(vectors.used) * 4;
    }
    let (y, x) = (&plan.y, &plan.x);
    let pixels = plan.images * y.positions_read() * x.positions_read();
    let written = (plan.images * y.output * x.output) as u64 * used;
    let mut read = pixels as u64 * used;
    if plan.op == LanesOp::Depthwise {
        read += (y.taps_used() * x.taps_used()) as u64 * lanes;
    }
    if plan.epilogue.bias {
        read += lanes;
    }
    if let Prologue::Affine { .. } = plan.prologue {
        read += 2 * used;
    }
    if plan.epilogue.residual != Added::None {
        read += written - (pixels * shared) as u64 * 4;
    }
    Traffic { read, written }
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
fn spread(runs: &[Run]) -> usize {
    runs.iter().map(|r| r.len.next_multiple_of(LANES)).sum()
}

/// Output columns and rows of one block, such that accumulators and weights fit the registers.
fn block_shape(layer: &Layer<'_>, registers: Registers, y: &Axis, x: &Axis) -> (usize, usize) {
    let prologue = match layer.prologue {
        Prologue::None => 0,
        Prologue::Relu => 1,
        Prologue::Affine { .. } => 3,
    };
    // Beside the results: while taps are taken, and at the end. Weights may be read from memory, if they must.
    let fixed = 3 + prologue;
    let maxima = match layer.op {
        LanesOp::Pool(Pool::Max) | LanesOp::GlobalPool(Pool::Max) => 2,
        _ => 0,
    };
    let at_the_end = prologue + maxima + layer.epilogue.registers();
    let held = |rows: usize| match layer.op {
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
fn along(tiles: &[RowBlocks], near: u64, l1d: u64) -> Along {
    let one_tile = matches!(tiles, [only] if only.count == 1);
    if one_tile || near > l1d { Along::Channels } else { Along::Columns }
}

/// The prologue as kernels know it.
fn prologue(p: &nnc_ir::op::Prologue, has_scale: bool) -> Option<Prologue> {
    let relu = match p.activation {
        None => false,
        Some(Unary::Relu) => true,
        Some(_) => return None,
    };
    match (p.affine, has_scale) {
        (true, true) => Some(Prologue::Affine { relu }),
        (true, false) => None,
        (false, _) => Some(if relu { Prologue::Relu } else { Prologue::None }),
    }
}

/// Puts vectors together that follow each other at constant distances.
fn merge(vectors: &[Vector], taps: usize, residual: i64) -> Vec<VectorRun> {
    let mut runs: Vec<VectorRun> = Vec::new();
    let (mut weights, mut parameters) = (0i64, 0i64);
    for v in vectors {
        let bytes = i64::from(v.col.lanes.bytes());
        let output = v.to as i64 * 4;
        let starts = [v.from as i64 * 4, output, weights, parameters, output + residual];
        weights += bytes * taps as i64;
        parameters += bytes;
        let alike =
            |r: &&mut VectorRun| r.lanes == v.col.lanes && r.used == v.col.used && r.source == v.source;
        let follows = runs.last_mut().filter(alike).is_some_and(|run| {
            let fields =
                [&mut run.input, &mut run.output, &mut run.weights, &mut run.parameters, &mut run.residual];
            Steps::take_up(fields, &mut run.count, starts)
        });
        if !follows {
            let at = Steps::at;
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
