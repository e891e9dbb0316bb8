//! Graph → Plan: layout, channel maps, arena offsets, order, and units of work.
//!
//! A plan is a flat list of steps over byte ranges: all that code generation needs, and nothing of ONNX. The decision of
//! each step is a plain struct, computed once and printable; code generation decides nothing.
//!
//! ```text
//!   Graph (fused layers, channel selects)
//!     │ channels      which buffer and slot each channel of each image has; concat, split, shuffle become tables
//!     │ fits          which layers kernels do
//!     │ dense_step, integer_step, winograd_step, transposed_step, volume_step, lanes_step, volume_lanes, product_step, deform_step, generic_step   one file per kind of layer: geometry, tiles, packed weights
//!     │ loops         nests that become one with those that read them
//!     │ schedule      the order of loops, lanes and units of all nests
//!     │ strips        which steps run band by band, with what lies between them in scratch
//!     │ memory        lifetimes → offsets in one arena
//!     │ constants     weights packed into one block, or (shared) into blocks that several programs have
//!     ▼
//!   Plan { steps: [ { name, code, args, units } … ], constants, arena }
//! ```

mod ahead;
pub mod arena;
mod border;
pub mod buffer;
pub mod channels;
pub mod constants;
mod content;
mod control;
mod convert_step;
mod deform_step;
pub mod dense;
mod dense_step;
mod digest;
mod draft;
mod fits;
pub mod generic;
mod generic_step;
mod growth;
pub mod image;
mod integer_step;
pub mod lanes;
mod lanes_step;
mod linear_scan;
mod loops;
mod matrix;
pub mod memory;
pub mod merged;
mod own;
pub mod packing;
mod panels;
mod pieces;
pub mod pitch;
mod plane_step;
mod planner;
mod print;
mod product_step;
mod quad_lanes;
mod quads;
mod repeat;
mod schedule;
mod shared;
mod slow;
mod strips;
pub mod sweep;
pub mod tiling;
mod transposed_step;
mod unit_sweep;
mod volume_lanes;
mod volume_step;
pub mod winograd;
mod winograd_step;

use std::collections::BTreeMap;
use std::ops::Range;

use nnc_ir::op::{Op, OpError};
use nnc_ir::{Deadline, Exceeded, Limits};
use nnc_ir::{Graph, GraphError, NodeId, TensorError};
use nnc_runtime::abi::{self, Arg, Port};
use nnc_runtime::{Constants, MemoryError};

use crate::code::nest::Nest;
use crate::code::routine::Routine;
use crate::code::tile::programs::dense::{Accumulators, Products};
use crate::code::tile::programs::winograd::Form;
use crate::parallel;
use crate::target::Target;
use fits::KernelWork;
use planner::Planner;
pub use shared::SharedConstants;
pub use slow::LARGE;

/// What the planner may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// Which dense 3×3 convolutions are done by Winograd's algorithm.
    pub winograd: Winograd,
    /// Which steps run strip by strip.
    pub strips: StripRule,
    /// How wide the panels are that weights are packed in.
    pub panels: PanelWidth,
    /// What runs do with denormals.
    pub denormals: abi::Denormals,
    /// What an index from data does that leads outside.
    pub indices: Indices,
    /// How large constants may become.
    pub constants: ConstantsLimit,
}

/// The most bytes of constants for each 100 bytes of the model's weights, as far as the planner has a choice: kernels that were
/// transformed by Winograd's algorithm are faster, and two to four times as large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConstantsLimit {
    /// 100 keeps weights as large as they are.
    pub percent: u32,
}

impl ConstantsLimit {
    /// Bytes that may be added to so many bytes of weights.
    pub(crate) fn room(self, weights: u64) -> u64 {
        (u128::from(weights) * u128::from(self.percent.saturating_sub(100)) / 100) as u64
    }
}

impl Default for ConstantsLimit {
    /// Half as much again.
    fn default() -> ConstantsLimit {
        ConstantsLimit { percent: 150 }
    }
}

/// What an index from data does that leads outside of what it points into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Indices {
    /// It is an error of the run.
    #[default]
    Checked,
    /// Gathers take the nearest element, scatters leave the update out.
    Clamped,
}

/// How wide the panels of dense layers are. It decides how sums are split, so results may differ in the last bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PanelWidth {
    /// As is estimated to be fastest.
    #[default]
    Fastest,
    /// As wide as for a large image, whatever the image, where that costs little: so that programs for different shapes have the
    /// same packed weights, and may share them.
    Common,
}

/// Which neighbouring steps run strip by strip. The results are the same, bit by bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StripRule {
    /// None.
    Never,
    /// Those for which it is estimated to take less time.
    #[default]
    WhereFaster,
    /// All that can, as many together as can, in so many strips: to test them, or to measure.
    Always(usize),
}

/// Which dense 3×3 convolutions of stride 1 are done by Winograd's algorithm. It rounds differently from a plain sum, and keeps
/// up to four times as many bytes of weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Winograd {
    /// None.
    Never,
    /// Those for which it is estimated to take less time, in the form that takes the least.
    #[default]
    WhereFaster,
    /// All that it can do, in one form, with kernels stored so: to test that form, or to measure it.
    Always(Form, winograd::StoredKernels),
}

/// What decides the code of a step. Equal codes share one function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LayerCode {
    /// A convolution that sums over channels.
    Dense(dense::DensePlan),
    /// A dense 3×3 convolution with fewer multiplications.
    Winograd(winograd::WinogradPlan),
    /// A depthwise convolution or a pool.
    Lanes(lanes::LanesPlan),
    /// A general loop nest.
    Nest(Nest),
    /// A program whose addresses depend on data.
    Routine(Routine),
}

impl LayerCode {
    /// Number of independent units of work.
    pub fn units(&self) -> usize {
        match self {
            LayerCode::Dense(plan) => plan.units(),
            LayerCode::Winograd(plan) => plan.units(),
            LayerCode::Lanes(plan) => plan.units(),
            LayerCode::Nest(nest) => nest.units(),
            LayerCode::Routine(routine) => routine.units(),
        }
    }

    /// A word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            LayerCode::Dense(_) => "dense",
            LayerCode::Winograd(plan) => match plan.form {
                Form::F2 => "winograd 2x2",
                Form::F4 => "winograd 4x4",
            },
            LayerCode::Lanes(plan) => match plan.op {
                lanes::LanesOp::Depthwise => "depthwise",
                lanes::LanesOp::Pool(_) => "pool",
                lanes::LanesOp::GlobalPool(_) => "globalpool",
                lanes::LanesOp::Convert => "convert",
            },
            LayerCode::Nest(_) => "nest",
            LayerCode::Routine(_) => "routine",
        }
    }

    /// What it multiplies.
    pub fn products(&self) -> Products {
        match self {
            LayerCode::Dense(plan) => plan.products,
            _ => Products::Floats,
        }
    }

    /// Whether its sums are in matrix registers.
    pub fn in_matrices(&self) -> bool {
        matches!(self, LayerCode::Dense(plan) if plan.accumulators != Accumulators::Vectors)
    }
}

/// Bytes that a step moves, each once, counted from its address streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Read: activations, weights, tables.
    pub read: u64,
    /// Written.
    pub written: u64,
}

impl Traffic {
    /// That of so many times the same.
    fn times(self, times: u64) -> Traffic {
        Traffic { read: self.read.saturating_mul(times), written: self.written.saturating_mul(times) }
    }
}

/// The bytes that a step may touch. Code generation proves of each step that it touches no others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepMemory {
    /// For each base pointer, where its buffer lies: bytes of the pointer's region, or of scratch for an image of a strip. Empty
    /// for the start of the arena.
    pub args: Vec<Range<u64>>,
    /// The buffers that displacements from the start of the arena may lead to, as bytes of the arena.
    pub displaced: Vec<Range<u64>>,
    /// How much of scratch it uses, from its start.
    pub scratch: u64,
}

impl PlanStep {
    /// Its operator, and how often it runs where that is more than once.
    pub fn op_and_times(&self) -> String {
        if self.times == 1 { self.op.clone() } else { format!("{} ×{}", self.op, self.times) }
    }
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub struct PlanStep {
    /// The layer's name in the model.
    pub name: String,
    /// The layer's operator.
    pub op: String,
    /// Type of its result.
    pub shape: String,
    /// What decides its code.
    pub code: LayerCode,
    /// Base pointers.
    pub args: Vec<Arg>,
    /// What the step may touch of its memory.
    pub memory: StepMemory,
    /// Units of work.
    pub units: usize,
    /// How often a run goes through it, as far as data do not decide that.
    pub times: u64,
    /// Multiply-accumulates of a run.
    pub macc: u64,
    /// Elements of its constant operands.
    pub params: u64,
    /// Bytes it moves in a run.
    pub traffic: Traffic,
    /// Names of the nodes that were fused into it.
    pub fused: Vec<String>,
    /// What its nest computes besides: see [`loops`].
    pub merged: Vec<MergedStep>,
    /// Why a copy is there, for steps that only move data.
    pub note: Option<String>,
    /// For large layers that no kernel does.
    pub refused: Option<Refusal>,
}

/// A step that became part of one that reads its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedStep {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: &'static str,
}

/// A large layer that becomes loop nests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its name in the model: it may become several steps.
    pub layer: String,
    /// Why no kernel does it.
    pub why: String,
}

/// A buffer in the arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Where it is.
    pub bytes: Range<u64>,
    /// The steps at which it is alive: from the first that touches it to the last.
    pub steps: Range<usize>,
}

/// Sizes that tell how good the arena is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Bytes of the arena.
    pub arena: u64,
    /// Largest sum of planned buffers that are alive at one step: no arena could be smaller.
    pub planned_peak: u64,
    /// Largest sum of tensor bytes that are alive at one step, each tensor dense and by itself.
    pub logical_peak: u64,
}

/// All that code generation needs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program's inputs.
    pub inputs: Vec<Port>,
    /// The program's outputs.
    pub outputs: Vec<Port>,
    /// The steps, in order.
    pub steps: Vec<PlanStep>,
    /// Which of them run strip by strip.
    pub strips: Vec<abi::Strips>,
    /// Which of them run again and again, or not always.
    pub repeats: Vec<abi::Repeat>,
    /// Packed weights and tables.
    pub constants: Constants,
    /// Size of the arena.
    pub arena_bytes: u64,
    /// The buffers in the arena. No two that are alive at the same step overlap.
    pub lives: Vec<Life>,
    /// Size of each thread's scratch.
    pub scratch_bytes: u64,
    /// How good the arena is.
    pub memory: MemoryReport,
    /// What runs do with denormals.
    pub denormals: abi::Denormals,
    /// Which steps tell of indices that lead outside.
    pub index_checks: Vec<abi::IndexCheck>,
}

/// A plan whose constants have places but no bytes: it holds the weights as the graph had them. Without the graph it is their
/// only owner, and each goes when it is packed.
#[derive(Debug)]
pub struct Unpacked {
    /// All but the constants.
    plan: Plan,
    constants: constants::PlannedConstants,
}

impl Unpacked {
    /// Packs the constants, on up to `threads` threads: the same bytes for any number.
    pub fn pack(self, threads: usize) -> Result<Plan, PlanError> {
        Ok(Plan { constants: self.constants.finish(threads)?, ..self.plan })
    }

    /// Like [`Unpacked::pack`], but constants that programs packed with the same `shared` have are theirs, too.
    pub fn pack_shared(self, threads: usize, shared: &SharedConstants) -> Result<Plan, PlanError> {
        Ok(Plan { constants: self.constants.finish_shared(threads, shared)?, ..self.plan })
    }
}

/// Why a graph cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No loop nest can do what a node asks for.
    #[error("node \"{node}\" ({op}) cannot be compiled")]
    Generic {
        /// Name of the node.
        node: String,
        /// Its operator.
        op: &'static str,
        /// Why.
        source: generic::GenericError,
    },
    /// Activations need more memory than displacements reach.
    #[error(
        "the activations need {bytes} bytes, more than the 2 GiB that a program can address: use a smaller batch or input"
    )]
    ArenaTooLarge {
        /// What they need.
        bytes: u64,
    },
    /// The graph is not well formed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// An operator refuses its operands.
    #[error(transparent)]
    Op(#[from] OpError),
    /// A constant has another type than its operator needs.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The plan takes more than it may.
    #[error(transparent)]
    Limit(#[from] Exceeded),
    /// No memory for the constants.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A defect of the planner.
    #[error("internal error in planning: {0}")]
    Internal(String),
}

/// Whether an operator works on images: its result lies with its channels innermost.
pub(crate) fn is_image_op(op: &Op) -> bool {
    matches!(
        op,
        Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::IntegerConv(_)
            | Op::Pool(_)
            | Op::GlobalPool(_)
            | Op::BatchNorm(_)
            | Op::ChannelAffine(_)
            | Op::InstanceNorm(_)
            | Op::Lrn(_)
            | Op::Resize(_)
    )
}

/// Whether an operator may look at its operand's bytes instead of copying them.
pub(crate) fn is_view_op(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Expand(_)
            | Op::Slice(_)
            | Op::Split(_)
            | Op::ChannelSelect(_)
    )
}

/// What a plan may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// When it must be made.
    pub deadline: Deadline,
    /// Bytes of its arena.
    pub arena_bytes: u64,
    /// Bytes of its constants.
    pub weight_bytes: u64,
}

impl Default for Bounds {
    /// All the time, and the default sizes.
    fn default() -> Bounds {
        Bounds::new(&Limits::default(), Deadline::never())
    }
}

impl Bounds {
    /// What the limits say.
    pub fn new(limits: &Limits, deadline: Deadline) -> Bounds {
        Bounds { deadline, arena_bytes: limits.arena_bytes, weight_bytes: limits.weight_bytes }
    }
}

/// Plans a graph, on all cores. `fused` says, for the name of each layer, which nodes were fused into it.
pub fn plan(
    graph: &Graph,
    target: &Target,
    options: &PlanOptions,
    fused: &BTreeMap<String, Vec<String>>,
) -> Result<Plan, PlanError> {
    unpacked(graph, target, options, fused, &Bounds::default())?.pack(parallel::available())
}

/// Plans a graph within bounds, and leaves it to the caller when the constants are packed.
pub fn unpacked(
    graph: &Graph,
    target: &Target,
    options: &PlanOptions,
    fused: &BTreeMap<String, Vec<String>>,
    bounds: &Bounds,
) -> Result<Unpacked, PlanError> {
    let order = graph.order()?;
    let mut planner = Planner::new(graph, target, options, bounds.deadline, &order);
    planner.inputs();
    planner.nodes(&order)?;
    planner.outputs()?;
    planner.finish(fused, bounds)
}

impl<'g> Planner<'g> {
    /// Plans the nodes of the graph at hand.
    fn nodes(&mut self, order: &[NodeId]) -> Result<(), PlanError> {
        let graph = self.graph;
        for &id in order {
            self.deadline.check(|| format!("the plan of node \"{}\"", graph.node(id).name))?;
            if let Some(decision) = fits::fits(graph, id) {
                self.kernels(&decision)?;
                continue;
            }
            match &graph.node(id).op {
                Op::Input | Op::Constant(_) => continue,
                Op::ChannelSelect(select) if self.select(id, select) => continue,
                Op::Cast(cast) if self.converted(id, cast.to)? => continue,
                Op::DeformConv(conv) if self.deformed(id, conv)? => continue,
                Op::Prefix(prefix) => self.prefix(id, prefix)?,
                Op::Loop(op) => self.repeated(id, op)?,
                Op::If(op) => self.branches(id, op)?,
                op if is_view_op(op) && self.reviewed(id)? => continue,
                _ => self.generic(id)?,
            }
        }
        Ok(())
    }

    /// Plans a layer that kernels do.
    fn kernels(&mut self, decision: &KernelWork) -> Result<(), PlanError> {
        match decision {
            KernelWork::Dense(layer, prologue, epilogue) => self.dense(layer, *prologue, *epilogue),
            KernelWork::Transposed(layer, epilogue) => self.transposed(layer, *epilogue),
            KernelWork::Volumes(layer, epilogue) => self.volumes(layer, *epilogue),
            KernelWork::TransposedLanes(layer, epilogue) => self.transposed_lanes(layer, *epilogue),
            KernelWork::LanesOfVolumes(layer, op, prologue, epilogue) => {
                self.lanes_of_volumes(layer, (*op, *prologue, *epilogue))
            }
            KernelWork::Lanes(layer, op, prologue, epilogue) => self.lanes(layer, *op, *prologue, *epilogue),
            KernelWork::Product(layer) => self.product(layer),
            KernelWork::Integers { layer, in_lanes, rescale } => self.integers(layer, *in_lanes, *rescale),
        }
    }
}
