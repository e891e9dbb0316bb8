//! From a dense 3×3 convolution of stride 1 to a step by Winograd's algorithm, where that is estimated to take less time.
//!
//! The estimate counts cycles: of the products, over the whole layer, by the same model that chooses dense tiles; of the
//! transforms, for each vector; and of the weights' way from the cache that holds them, once for each block of tiles. So it
//! weighs what decides: outputs that tiles waste at the border (13 = 3·4 + 1), transforms that outweigh what few channels
//! save, and weights that are four times as large, or are transformed anew for each block. The direct form multiplies `bf16` by pairs
//! where that is fast, and Winograd's algorithm `f32`: it then saves half as much.
//!
//! ```text
//!                       megacycles of products          of fetching weights from memory
//!   ResNet-18           direct  F(2×2)  F(4×4)          direct  F(2×2)  F(4×4)      taken
//!   56×56×64→64          3.6     1.6     0.9             0.0     0.1     0.1        F(4×4)
//!   14×14×256→256        3.6     1.6     1.2             0.6     1.0     2.4        F(2×2)
//!   7×7×512→512          3.6     2.1     1.2             2.4     4.2     9.4        direct
//! ```
//!
//! A program that waits for its weights more than twice as long as it computes has direct layers only: AlexNet, whose fully
//! connected layers use each of 234 MB once. Fewer multiply-adds save little of its time (4 to 9 %), and memory is what it needs
//! most. Where it waits about as long (ResNet-18 at 96×96) they still save 14 %.

use std::collections::BTreeMap;

use nnc_ir::Tensor;

use super::buffer::BufferId;
use super::dense::Progression;
use super::dense_step::{Placed, computed};
use super::draft::Draft;
use super::fits;
use super::image::{Image, Slot};
use super::own::Parameter;
use super::packing::{PackedPanel, Packing};
use super::panels::{OutputRun, Panel, cut_panels, output_runs, packed_bias};
use super::pitch::Pitch;
use super::planner::{ARENA_START, Planner};
use super::sweep::{Axis, BytePitch};
use super::tiling::{self, Folding, LayerShape, Registers, TileShape};
use super::winograd::{
    ChannelRun, ScratchPitch, StoredKernels, WinogradArg, WinogradPanels, WinogradPlan, spans,
};
use super::{LayerCode, PlanError, Traffic, Winograd};
use crate::code::tile::programs::dense::{Products, Runs, panel_channels, panel_width};
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::tile::programs::window::KernelPrologue;
use crate::code::tile::programs::winograd::{Form, KERNEL, Sweeps};
use crate::code::tile::store_registers;
use crate::target::{FMA_PER_CYCLE, Target};

/// How a convolution is done by Winograd's algorithm.
#[derive(Debug)]
pub(super) struct Decision {
    choice: WinogradChoice,
    /// Bytes that the weights become more.
    growth: u64,
    /// Of each buffer of the input.
    inputs: Vec<Pitch>,
    output: Pitch,
    /// How channels are read, and in which order that is.
    channels: Vec<ChannelRun>,
    order: Vec<usize>,
    /// The runs that the output is cut into.
    runs: Vec<OutputRun>,
}

impl Planner<'_> {
    /// How a convolution is done by Winograd's algorithm; `None` when it is none for it, or the direct form, by so many products, is as fast.
    pub(super) fn fits_winograd(
        &self,
        layer: &fits::KernelLayer,
        products: Products,
        prologue: KernelPrologue,
        epilogue: KernelEpilogue,
        placed: &Placed<'_>,
    ) -> Option<Decision> {
        let plain = |axis: &Axis| axis.kernel == KERNEL && axis.stride == 1 && axis.dilation == 1;
        let allowed = match self.options.winograd {
            Winograd::WhereFaster if self.waits_for_weights() => Winograd::Never,
            allowed => allowed,
        };
        let form = plain(&layer.axes.0) && plain(&layer.axes.1) && layer.groups == 1;
        if allowed == Winograd::Never || !form || !prologue.is_none() {
            return None;
        }
        let registers = Registers::of(self.target);
        let sources = placed.input.buffers();
        let inputs: Option<Vec<Pitch>> = sources.iter().map(|&b| self.pitch(b)).collect();
        let inputs = inputs?;
        let (channels, order) = channel_runs(placed.input, &sources, &inputs, registers)?;
        let output = self.pitch(placed.output_buffer)?;
        let padding = self.padding_of(placed.output_buffer, layer.node.into());
        let runs = output_runs(placed.output, placed.residual, 1, padding);
        let shape = WinogradShape {
            images: placed.output.extent.n,
            axes: layer.axes,
            input_vectors: channels.iter().map(|c| c.vectors).sum(),
            depth: order.len(),
            products,
            runs: runs.iter().map(|r| r.channels.len()).collect(),
            epilogue: epilogue.registers(store_registers(output.float, self.target)),
            weights_of_all: self.weights,
            room: self.growth.room(layer.node),
        };
        let choice = choose(self.target, registers, &shape, allowed)?;
        let growth = shape.growth(choice.form, choice.kernels);
        Some(Decision { choice, growth, inputs, output, channels, order, runs })
    }

    /// Plans a convolution by Winograd's algorithm.
    pub(super) fn winograd(
        &mut self,
        layer: &fits::KernelLayer,
        (weights, bias): (&Tensor, Option<&Parameter>),
        placed: &Placed<'_>,
        decision: Decision,
        epilogue: KernelEpilogue,
        is_first: bool,
    ) -> Result<(), PlanError> {
        let Decision { choice, growth, inputs, output, channels, order, runs } = decision;
        self.growth.take(growth);
        let (y, x) = layer.axes;
        let panels = cut_panels(&runs, Registers::of(self.target), choice.kernel.vectors, Folding::NONE);
        let widest = panels.iter().map(|p| p.lanes()).max().unwrap_or(0);
        let name = self.graph.node(layer.node).name.clone();
        let known = match bias {
            Some(Parameter::Known(tensor)) => Some(tensor),
            _ => None,
        };
        let (packing, packed_bias) = pack(choice, &panels, &order, weights, known)?;
        let weight_buffer = self.packed_buffer(&name, packing);
        let bias_buffer = match bias {
            None => ARENA_START,
            Some(Parameter::Known(_)) => self.constant_buffer(&name, bytemuck::cast_slice(&packed_bias)),
            Some(Parameter::Computed(elements)) => {
                let panels: Vec<_> = panels.iter().map(|panel| computed(panel, &[0])).collect();
                self.packed_by_run(layer.node, elements, &panels)?
            }
        };
        let residual_buffer = placed.residual_buffer();
        let residual_pitch = residual_buffer.and_then(|b| self.pitch(b));
        let plan = WinogradPlan {
            form: choice.form,
            kernels: choice.kernels,
            images: placed.output.extent.n,
            y,
            x,
            rows: spans(&y, choice.form),
            cols: spans(&x, choice.form),
            block: choice.block,
            tile_rows: choice.kernel.rows,
            depth: order.len(),
            inputs: inputs.into_iter().map(BytePitch::from).collect(),
            output: output.into(),
            residual: residual_pitch.map(BytePitch::from).unwrap_or_default(),
            channels,
            panels: merge(
                &panels,
                order.len() * choice.kernels.floats(choice.form),
                output,
                residual_pitch.unwrap_or(output),
            ),
            transformed: ScratchPitch::of(choice.block, order.len()),
            product: ScratchPitch::of(choice.block, widest),
            epilogue,
        };
        let traffic = traffic(&plan, placed.input, placed.residual);
        let mut args = vec![(ARENA_START, 0); WinogradArg::Inputs as usize];
        args[WinogradArg::Output as usize].0 = placed.output_buffer;
        args[WinogradArg::Weights as usize].0 = weight_buffer;
        args[WinogradArg::Bias as usize].0 = bias_buffer;
        args[WinogradArg::Residual as usize].0 = residual_buffer.unwrap_or(ARENA_START);
        args.extend(placed.input.buffers().into_iter().map(|b| (b, 0)));
        self.step(Draft {
            name,
            node: is_first.then_some(layer.node),
            units: plan.units(),
            scratch: plan.scratch(),
            code: LayerCode::Winograd(plan),
            args,
            also_reads: Vec::new(),
            traffic,
            note: None,
        });
        Ok(())
    }

    /// Whether the weights take much longer to come than all arithmetic, when each is read once.
    fn waits_for_weights(&self) -> bool {
        let arithmetic = self.macc as f64 / f64::from(FMA_PER_CYCLE * self.target.isa.lanes());
        self.weights as f64 / first_bytes_per_cycle(self.target, self.weights) > WAITING * arithmetic
    }
}

/// Bytes of the step's address streams, each once.
fn traffic(plan: &WinogradPlan, image: &Image, residual: Option<&Image>) -> Traffic {
    let (mut weights, mut bias, mut stored) = (0, 0, 0);
    for panels in &plan.panels {
        let count = panels.count as u64;
        weights += count * panels.bytes(plan) as u64;
        bias += count * u64::from(panel_width(&panels.cols)) * 4;
        stored += count * u64::from(panel_channels(&panels.cols));
    }
    let pixels = plan.images * plan.y.positions_read() * plan.x.positions_read();
    let size = |pitch: &BytePitch| u64::from(pitch.float.bytes());
    let outputs = (plan.images * plan.y.output * plan.x.output) as u64 * stored;
    let mut read = (pixels * plan.depth) as u64 * plan.inputs.first().map_or(0, size) + weights;
    if plan.epilogue.bias {
        read += bias;
    }
    if let Some(residual) = residual {
        read += (outputs - (pixels * residual.slots_in(image)) as u64) * size(&plan.residual);
    }
    Traffic { read, written: outputs * size(&plan.output) }
}

/// How the channels of an image are read, and in which order that is; `None` when they lie too scattered for vectors.
fn channel_runs(
    image: &Image,
    sources: &[BufferId],
    pitches: &[Pitch],
    registers: Registers,
) -> Option<(Vec<ChannelRun>, Vec<usize>)> {
    let channel_at: BTreeMap<Slot, usize> = image.slots.iter().enumerate().map(|(c, &s)| (s, c)).collect();
    if channel_at.len() != image.channels() {
        return None;
    }
    let mut runs: Vec<ChannelRun> = Vec::new();
    let mut order = Vec::with_capacity(image.channels());
    for run in image.runs() {
        let source = sources.iter().position(|&b| b == run.buffer)?;
        let mut done = 0;
        let cols = tiling::columns(run.len, 0, registers, Folding::NONE);
        for alike in cols.chunk_by(|a, b| a == b) {
            let col = *alike.first()?;
            runs.push(ChannelRun {
                source,
                input: pitches.get(source)?.bytes(run.at + done),
                position: order.len() as i64 * 4 + done as i64 * 4,
                vectors: alike.len(),
                lanes: col.lanes,
                used: col.used,
            });
            done += alike.len() * col.used as usize;
        }
        for i in 0..run.len {
            order.push(*channel_at.get(&Slot { buffer: run.buffer, at: run.at + i })?);
        }
    }
    let vectors: usize = runs.iter().map(|r| r.vectors).sum();
    (order.len() >= 4 * vectors).then_some((runs, order))
}

/// What of a layer decides its form.
struct WinogradShape {
    images: usize,
    axes: (Axis, Axis),
    input_vectors: usize,
    depth: usize,
    /// What the direct form multiplies.
    products: Products,
    /// Lengths, in channels, of the runs that the output is cut into.
    runs: Vec<usize>,
    epilogue: usize,
    /// Bytes of the constants of the whole model.
    weights_of_all: u64,
    /// Bytes that they may still become more.
    room: u64,
}

impl WinogradShape {
    /// Rows of a panel for a tap of the direct form.
    fn direct_rows(&self) -> usize {
        Runs::Contiguous(self.depth as u32).rows(self.products) as usize
    }

    /// How many times as long as estimated products take: processors that are fast at those of pairs start one of 512 bits in a cycle, of `f32`
    /// as of pairs, and transforms are none.
    fn pace(&self) -> f64 {
        if self.products == Products::Halves { 2.0 } else { 1.0 }
    }

    /// Bytes of the weights of the direct form.
    fn direct_bytes(&self) -> usize {
        let lane = self.products.weights().bytes() as usize;
        KERNEL * KERNEL * self.direct_rows() * self.runs.iter().sum::<usize>() * lane
    }

    /// Bytes that its weights become more if they are stored in some way; kernels are `f32` here, so what they were before counts as that.
    fn growth(&self, form: Form, kernels: StoredKernels) -> u64 {
        let more = kernels.floats(form).saturating_sub(KERNEL * KERNEL);
        (more * self.depth * self.runs.iter().sum::<usize>() * 4) as u64
    }
}

/// How a layer is done.
#[derive(Clone, Copy, Debug)]
struct WinogradChoice {
    form: Form,
    kernels: StoredKernels,
    /// Tiles of a block.
    block: usize,
    /// Of the dense kernels.
    kernel: TileShape,
}

/// The best blocks and kernels of the best form; `None` when the direct form takes no more time.
fn choose(
    target: &Target,
    registers: Registers,
    shape: &WinogradShape,
    allowed: Winograd,
) -> Option<WinogradChoice> {
    let (y, x) = shape.axes;
    let layer = LayerShape {
        row: x.output,
        rows: shape.images * y.output,
        k: y.kernel * x.kernel * shape.direct_rows(),
        runs: &shape.runs,
        folding: Folding::NONE,
        epilogue: shape.epilogue,
    };
    let direct = shape.pace() * tiling::cycles(registers, &layer, tiling::choose(registers, &layer));
    let bytes = shape.direct_bytes();
    let direct = with_weights(target, shape, direct, bytes, 1) + bytes as f64 * STORED_BYTE;
    let (limit, forms) = match allowed {
        Winograd::Never => return None,
        Winograd::WhereFaster => {
            let forms = [Form::F2, Form::F4].into_iter();
            let forms = forms.flat_map(|form| KERNELS.map(|kernels| (form, kernels)));
            let fits = |&(form, kernels): &(Form, StoredKernels)| shape.growth(form, kernels) <= shape.room;
            (direct * LEAST_GAIN, forms.filter(fits).collect())
        }
        Winograd::Always(form, kernels) => (f64::INFINITY, vec![(form, kernels)]),
    };
    let mut best = (limit, None);
    for (form, kernels) in forms {
        for block in block_sizes(target, shape, form, kernels) {
            let (cost, kernel) = cost(target, registers, shape, (form, kernels), block);
            if cost < best.0 {
                best = (cost, Some(WinogradChoice { form, kernels, block, kernel }));
            }
        }
    }
    best.1
}

/// Smaller first: where both take as long, it is those that are stored.
const KERNELS: [StoredKernels; 2] = [StoredKernels::Plain(Sweeps::Pairs), StoredKernels::Transformed];

/// The estimate must be below this part of the direct form's: it is no better than that.
const LEAST_GAIN: f64 = 0.9;

/// How many times as long as its arithmetic a program that waits for its weights takes to get them.
const WAITING: f64 = 2.0;

/// Cycles of the transforms of one vector of one tile, of inputs and of outputs.
const fn transform_cycles(form: Form) -> (f64, f64) {
    match form {
        Form::F2 => (40.0, 35.0),
        Form::F4 => (120.0, 100.0),
    }
}

/// Cycles of the transform of one vector of kernels.
const fn kernel_cycles(form: Form) -> f64 {
    match form {
        Form::F2 => 60.0,
        Form::F4 => 140.0,
    }
}

/// Cycles that a byte of weights may cost for not being stored: it takes memory, room on the disk, and time to load.
const STORED_BYTE: f64 = 0.1;

/// Cycles to find a tile and call its transform.
const TILE_CYCLES: f64 = 80.0;

/// Bytes of weights that a layer gets in one cycle from the last-level cache, and from memory.
const L3_BYTES_PER_CYCLE: f64 = 8.0;
const MEMORY_BYTES_PER_CYCLE: f64 = 4.0;
/// The most bytes of a last-level cache that are counted on.
const NEAR_L3: u64 = 64 << 20;
/// The part of the shorter of arithmetic and fetching that the longer one does not hide.
const NOT_HIDDEN: f64 = 0.25;

/// The most tiles of a block.
const LARGEST_BLOCK: usize = 64;

fn tiles(shape: &WinogradShape, form: Form) -> usize {
    let along = |axis: &Axis| axis.output.div_ceil(form.outputs());
    shape.images * along(&shape.axes.0) * along(&shape.axes.1)
}

/// What scratch may fill of the second-level cache, in bytes.
fn part_of_l2(target: &Target) -> usize {
    target.l2 as usize * 5 / 8
}

/// Bytes that a unit has in the second-level cache: `V` and `M` of a block of tiles and, of plain kernels, those of a panel of so
/// many bytes in width, as they are and transformed.
fn scratch(depth: usize, form: Form, kernels: StoredKernels, block: usize, panel: usize) -> usize {
    let kernels = match kernels {
        StoredKernels::Transformed => 0,
        // As many rows of elements as there are at most at a time.
        StoredKernels::Plain(_) => depth * panel * (2 * form.window() + kernels.floats(form)),
    };
    block * (depth * 4 + panel) * form.elements() + kernels
}

/// Sizes of equal blocks whose scratch stays in the second-level cache.
fn block_sizes(target: &Target, shape: &WinogradShape, form: Form, kernels: StoredKernels) -> Vec<usize> {
    let all = tiles(shape, form);
    // Panels are about two vectors wide.
    let bytes = |block| scratch(shape.depth, form, kernels, block, 2 * target.isa.lanes() as usize * 4);
    let room = part_of_l2(target).saturating_sub(bytes(0));
    let fitting = (room / (bytes(1) - bytes(0))).clamp(1, LARGEST_BLOCK);
    let mut sizes: Vec<usize> =
        (1..=all).map(|blocks| all.div_ceil(blocks)).filter(|&t| t <= fitting).collect();
    sizes.dedup();
    sizes.retain(|&t| 4 * t >= fitting.min(all));
    sizes
}

/// Cycles of the layer, and the kernels that need so many.
fn cost(
    target: &Target,
    registers: Registers,
    shape: &WinogradShape,
    (form, kernels): (Form, StoredKernels),
    block: usize,
) -> (f64, TileShape) {
    let all = tiles(shape, form);
    let blocks = all.div_ceil(block);
    let layer = |tiles: usize| LayerShape {
        row: tiles,
        rows: form.elements(),
        k: shape.depth,
        runs: &shape.runs,
        folding: Folding::NONE,
        epilogue: 0,
    };
    let kernel = tiling::choose(registers, &layer(block));
    let rest = all - (blocks - 1) * block;
    let of_rest = TileShape { rows: kernel.rows.min(rest), ..kernel };
    let products = tiling::cycles(registers, &layer(block), kernel) * (blocks - 1) as f64
        + tiling::cycles(registers, &layer(rest), of_rest);
    let products = shape.pace() * products;
    let columns = |&run: &usize| run.div_ceil(registers.lanes);
    let output_vectors: usize = shape.runs.iter().map(columns).sum();
    let panels: usize = shape.runs.iter().map(|run| columns(run).div_ceil(kernel.vectors)).sum();
    let (input, output) = transform_cycles(form);
    let mut transforms = all as f64
        * (shape.input_vectors as f64 * input
            + output_vectors as f64 * output
            + (panels + 1) as f64 * TILE_CYCLES);
    if let StoredKernels::Plain(_) = kernels {
        let panel = kernel.vectors * target.isa.lanes() as usize * 4;
        if scratch(shape.depth, form, kernels, block, panel) > part_of_l2(target) {
            // More than any estimate, but not more than what is asked for in any case.
            return (f64::MAX, kernel);
        }
        transforms += (blocks * shape.depth * output_vectors) as f64 * kernel_cycles(form);
    }
    let channels: usize = shape.runs.iter().sum();
    let weights = kernels.floats(form) * shape.depth * channels * 4;
    let total = with_weights(target, shape, products, weights, blocks) + transforms;
    // Units that do not divide evenly leave threads waiting.
    let (units, cores) = (blocks * panels, target.cores.max(1) as usize);
    let longest = (units.div_ceil(cores) * cores) as f64 / units as f64;
    (total * (1.0 + (longest - 1.0) / 4.0) + weights as f64 * STORED_BYTE, kernel)
}

/// Cycles of arithmetic with `bytes` of weights that are read `times` times: the first time from where they stayed since the
/// program ran last, then from the second-level cache, which costs nothing besides, or the last one. Kernels prefetch, so
/// what takes longer counts, and a part of the rest.
fn with_weights(target: &Target, shape: &WinogradShape, cycles: f64, bytes: usize, times: usize) -> f64 {
    let first = first_bytes_per_cycle(target, shape.weights_of_all);
    let again = if bytes as u64 <= target.l2 / 2 { 0.0 } else { 1.0 / L3_BYTES_PER_CYCLE };
    let fetching = bytes as f64 * (1.0 / first + (times - 1) as f64 * again);
    cycles.max(fetching) + cycles.min(fetching) * NOT_HIDDEN
}

/// How fast weights come that are read for the first time in a run of a program with so many bytes of them.
fn first_bytes_per_cycle(target: &Target, weights: u64) -> f64 {
    // The last-level cache is shared, with other programs, too, and a large one is far away.
    match weights <= target.l3.min(NEAR_L3) / 4 {
        true => L3_BYTES_PER_CYCLE,
        false => MEMORY_BYTES_PER_CYCLE,
    }
}

/// What is packed where: weights, and the bias, `[panel][lane]`.
fn pack(
    choice: WinogradChoice,
    panels: &[Panel],
    order: &[usize],
    weights: &Tensor,
    bias: Option<&Tensor>,
) -> Result<(Packing, Vec<f32>), PlanError> {
    let packed = panels.iter().map(|panel| PackedPanel {
        channels: panel.channels.clone(),
        cols: panel.cols.clone(),
        order: 0,
    });
    let packing = Packing {
        weights: weights.clone(),
        columns: false,
        products: Products::Floats,
        taps: KERNEL * KERNEL,
        winograd: (choice.kernels == StoredKernels::Transformed).then_some(choice.form),
        depth: order.len(),
        orders: vec![order.to_vec()],
        panels: packed.collect(),
    };
    Ok((packing, packed_bias(panels, bias)?))
}

/// Puts panels together that follow each other at constant distances. A panel has `rows` rows of weights.
fn merge(panels: &[Panel], rows: usize, output: Pitch, residual: Pitch) -> Vec<WinogradPanels> {
    let mut merged: Vec<WinogradPanels> = Vec::new();
    let (mut weights, mut bias) = (0i64, 0i64);
    for panel in panels {
        let starts = [weights, output.bytes(panel.at), bias, residual.bytes(panel.residual_at)];
        weights += (panel.lanes() * rows) as i64 * 4;
        bias += panel.lanes() as i64 * 4;
        let follows = merged.last_mut().filter(|run| run.cols == panel.cols).is_some_and(|run| {
            let fields = [&mut run.weights, &mut run.output, &mut run.bias, &mut run.residual];
            Progression::take_up(fields, &mut run.count, starts)
        });
        if !follows {
            let [weights, output, bias, residual] = starts.map(Progression::at);
            merged.push(WinogradPanels {
                count: 1,
                cols: panel.cols.clone(),
                weights,
                output,
                bias,
                residual,
            });
        }
    }
    merged
}
