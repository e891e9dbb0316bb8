//! Operators as loop nests: what every operator becomes that has no kernel of its own.
//!
//! ```text
//!   Softmax over an axis ─▶  nest 1: m = max x        nest 2: y = e^(x - m)
//!                            nest 3: s = Σ y          nest 4: y = y / s
//!   along dense rows     ─▶  one nest, row by row
//! ```
//!
//! What depends on data in its addresses, a loop nest cannot say: such an operator is a routine ([`GenericStep`]).
//!
//! The steps of an operator run one after another, each over all of its units. Operands are [`View`]s, so any layout
//! goes: strides only decide the order of loops and what goes in vectors ([`schedule`]).

mod copy;
mod deform;
mod det;
mod draft;
mod einsum;
mod gather;
mod matmul;
mod norm;
mod pointwise;
mod rank;
mod reduce;
mod resize;
mod roi;
mod sample;
mod scan;
mod scatter;
mod select;
mod suppress;
mod table;
mod tournament;
mod transposed;
mod unpool;
mod window;

use std::ops::Range;

use nnc_ir::op::{Op, OpError};
use nnc_ir::{DType, Tensor, TensorType};

use crate::code::nest::{Nest, NestError, computed};
use crate::code::routine::{Routine, RoutineError, Writer};
use crate::code::view::View;
use crate::plan::{LayerCode, Traffic};
pub(super) use deform::{SampleLayout, samples};
pub(super) use draft::{NestDraft, ROW_ELEMENTS, weight};
pub(super) use window::{pools_planes, weighs_planes};

/// Why an operator cannot be compiled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GenericError {
    /// The operator refuses its operands.
    #[error(transparent)]
    Op(#[from] OpError),
    /// What the evaluator can do but generated code does not.
    #[error("{op} is not compiled for {what}")]
    Unsupported {
        /// The operator.
        op: &'static str,
        /// What of it.
        what: String,
    },
    /// Views and operator do not fit each other.
    #[error("the views given for {op} do not fit it: {what}")]
    Views {
        /// The operator.
        op: &'static str,
        /// What is wrong.
        what: String,
    },
    /// A nest that breaks its contract.
    #[error("the loop nest of {op} is not well formed")]
    Nest {
        /// The operator.
        op: &'static str,
        /// How.
        source: NestError,
    },
    /// A routine that breaks its contract.
    #[error("the routine of {op} is not well formed")]
    Routine {
        /// The operator.
        op: &'static str,
        /// How.
        source: RoutineError,
    },
}

/// One step of an operator.
#[derive(Clone, Debug, PartialEq)]
pub enum GenericStep {
    /// A loop nest.
    Nest(Nest),
    /// A program whose addresses depend on data.
    Routine(Routine),
}

impl GenericStep {
    /// Number of independent units of work.
    pub fn units(&self) -> usize {
        match self {
            GenericStep::Nest(nest) => nest.units(),
            GenericStep::Routine(routine) => routine.units(),
        }
    }

    /// Bytes of scratch that it needs.
    pub fn scratch(&self) -> usize {
        match self {
            GenericStep::Nest(nest) => nest.scratch(),
            GenericStep::Routine(_) => 0,
        }
    }

    /// The most bytes that it moves.
    pub fn traffic(&self) -> Traffic {
        match self {
            GenericStep::Nest(nest) => Traffic { read: nest.read_bytes(), written: nest.written_bytes() },
            GenericStep::Routine(r) => Traffic { read: r.read_bytes(), written: r.written_bytes() },
        }
    }

    /// Renumbers arguments so that equal steps share one function; see [`Nest::relocate`].
    pub fn relocate(&mut self) -> Result<Vec<(usize, u64)>, NestError> {
        match self {
            GenericStep::Nest(nest) => nest.relocate(),
            GenericStep::Routine(routine) => Ok(routine.relocate()),
        }
    }
}

impl From<GenericStep> for LayerCode {
    fn from(step: GenericStep) -> LayerCode {
        match step {
            GenericStep::Nest(nest) => LayerCode::Nest(nest),
            GenericStep::Routine(routine) => LayerCode::Routine(routine),
        }
    }
}

/// One step of an operator, as it is written.
#[derive(Clone, Debug)]
pub(super) enum OpenStep {
    /// A loop nest that may still become part of another one.
    Loops(NestDraft),
    /// A program whose addresses depend on data.
    Routine(Routine),
}

/// Where a step tells of indices that lead outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRecords {
    /// How many records there are: one for each unit.
    pub records: usize,
    /// The axes that indices are for.
    pub axes: Vec<usize>,
}

/// Gives memory for records, from the start of which it is all theirs: `[records, 3]` of `i64`, zero before a run.
pub type RecordMemory<'a> = dyn FnMut(IndexRecords) -> View + 'a;

/// Lowers an operator. `inputs` and `outputs` say where its operands and results lie; `temp` gives memory that lives
/// as long as the returned steps run, `constant` memory that holds a tensor, `records` memory where steps tell of indices that
/// lead outside. Without it, such an index is that of the nearest element where something is read, and nothing is written there.
///
/// No result may overlap an operand, but for element-wise operators, where it may be the same view.
pub fn lower(
    op: &Op,
    inputs: &[Option<View>],
    outputs: &[View],
    temp: &mut dyn FnMut(TensorType) -> View,
    constant: &mut dyn FnMut(Tensor) -> View,
    records: Option<&mut RecordMemory<'_>>,
) -> Result<Vec<GenericStep>, GenericError> {
    let mut steps = Vec::new();
    for step in open(op, inputs, outputs, temp, constant, records)? {
        match step {
            OpenStep::Loops(draft) => steps.extend(draft.schedule().into_iter().map(GenericStep::Nest)),
            OpenStep::Routine(routine) => steps.push(GenericStep::Routine(routine)),
        }
    }
    Ok(steps)
}

/// The same, with nests that are not scheduled yet.
pub(super) fn open(
    op: &Op,
    inputs: &[Option<View>],
    outputs: &[View],
    temp: &mut dyn FnMut(TensorType) -> View,
    constant: &mut dyn FnMut(Tensor) -> View,
    records: Option<&mut RecordMemory<'_>>,
) -> Result<Vec<OpenStep>, GenericError> {
    let (steps, extra) = (Vec::new(), Vec::new());
    let records = records.map(|memory| memory as &mut RecordMemory<'_>);
    let mut lowering = Lowering { op: op.name(), inputs, outputs, temp, constant, records, steps, extra };
    lowering.check_types(op)?;
    match op {
        Op::Unary(op) => pointwise::unary(&mut lowering, *op)?,
        Op::Binary(op) => pointwise::binary(&mut lowering, op)?,
        Op::Where(_) => pointwise::where_(&mut lowering)?,
        Op::Cast(op) => pointwise::cast(&mut lowering, op.to)?,
        Op::Quantize(op) => pointwise::quantize(&mut lowering, op.to)?,
        Op::Dequantize(_) => pointwise::dequantize(&mut lowering)?,
        Op::IntegerSum(op) => pointwise::integer_sum(&mut lowering, op)?,
        Op::ByteTable(_) => table::byte_table(&mut lowering)?,
        Op::BitCast(op) => copy::bit_cast(&mut lowering, op.to)?,
        Op::Reshape(_) => copy::reshape(&mut lowering)?,
        Op::Transpose(op) => copy::transpose(&mut lowering, &op.perm)?,
        Op::Expand(_) => copy::expand(&mut lowering)?,
        Op::Slice(op) => copy::slice(&mut lowering, &op.axes)?,
        Op::Split(op) => copy::split(&mut lowering, op)?,
        Op::Concat(op) => copy::concat(&mut lowering, op.axis)?,
        Op::Gather(op) => copy::gather(&mut lowering, op)?,
        Op::ChannelSelect(op) => copy::channel_select(&mut lowering, op)?,
        Op::GatherAt(op) => gather::gather_at(&mut lowering, op)?,
        Op::GatherElements(op) => gather::gather_elements(&mut lowering, op)?,
        Op::GatherNd(op) => gather::gather_nd(&mut lowering, op)?,
        Op::Inside(op) => gather::inside(&mut lowering, op)?,
        Op::ScatterElements(op) => scatter::scatter_elements(&mut lowering, op)?,
        Op::ScatterNd(op) => scatter::scatter_nd(&mut lowering, op)?,
        Op::TopK(op) => rank::top_k(&mut lowering, op)?,
        Op::Cumulative(op) => scan::cumulative(&mut lowering, op)?,
        Op::ReverseSequence(op) => scan::reverse_sequence(&mut lowering, op)?,
        Op::MaxPoolArg(op) => unpool::max_pool_arg(&mut lowering, op)?,
        Op::MaxUnpool(op) => unpool::max_unpool(&mut lowering, op)?,
        Op::NonZero(_) => select::non_zero(&mut lowering)?,
        Op::Compress(op) => select::compress(&mut lowering, op)?,
        Op::Unique(op) => select::unique(&mut lowering, op)?,
        Op::NonMaxSuppression(op) => suppress::non_max_suppression(&mut lowering, op)?,
        Op::Prefix(op) => select::prefix(&mut lowering, op)?,
        Op::Pad(op) => copy::pad(&mut lowering, op)?,
        Op::Reduce(op) => reduce::reduce(&mut lowering, op)?,
        Op::Softmax(op) => reduce::softmax(&mut lowering, op.axis)?,
        Op::LogSoftmax(op) => reduce::log_softmax(&mut lowering, op.axis)?,
        Op::BatchNorm(op) => norm::batch_norm(&mut lowering, op)?,
        Op::ChannelAffine(op) => norm::channel_affine(&mut lowering, op)?,
        Op::InstanceNorm(op) => norm::instance_norm(&mut lowering, op)?,
        Op::LayerNorm(op) => norm::layer_norm(&mut lowering, op)?,
        Op::Lrn(op) => norm::lrn(&mut lowering, op)?,
        Op::MatMul(op) => matmul::matmul(&mut lowering, op)?,
        Op::GridSample(op) => sample::grid_sample(&mut lowering, op)?,
        Op::RoiAlign(op) => roi::roi_align(&mut lowering, op)?,
        Op::MaxRoiPool(op) => roi::max_roi_pool(&mut lowering, op)?,
        Op::DeformConv(op) => deform::deform_conv(&mut lowering, op)?,
        Op::Det(_) => det::det(&mut lowering)?,
        Op::Einsum(op) => einsum::einsum(&mut lowering, op)?,
        Op::Conv(op) => window::conv(&mut lowering, op)?,
        Op::IntegerConv(op) => window::integer_conv(&mut lowering, op)?,
        Op::ConvTranspose(op) => transposed::conv_transpose(&mut lowering, op)?,
        Op::Col2Im(op) => transposed::col2im(&mut lowering, op)?,
        Op::Pool(op) => window::pool(&mut lowering, op)?,
        Op::GlobalPool(op) => window::global_pool(&mut lowering, op)?,
        Op::Resize(op) => resize::resize(&mut lowering, op)?,
        Op::Loop(_) | Op::If(_) => return Err(lowering.unsupported("graphs of their own")),
        Op::Input | Op::Constant(_) => return Err(lowering.unsupported("a value that is only stored")),
    }
    lowering.finish()
}

/// An operator on its way to nests.
struct Lowering<'a> {
    op: &'static str,
    inputs: &'a [Option<View>],
    outputs: &'a [View],
    temp: &'a mut dyn FnMut(TensorType) -> View,
    constant: &'a mut dyn FnMut(Tensor) -> View,
    records: Option<&'a mut RecordMemory<'a>>,
    steps: Vec<OpenStep>,
    /// Memory that was asked for.
    extra: Vec<View>,
}

impl Lowering<'_> {
    fn check_types(&self, op: &Op) -> Result<(), GenericError> {
        let ty = |v: &View| TensorType::new(v.dtype, v.shape.clone());
        let inputs: Vec<Option<TensorType>> = self.inputs.iter().map(|v| v.as_ref().map(ty)).collect();
        let inputs: Vec<Option<&TensorType>> = inputs.iter().map(Option::as_ref).collect();
        if matches!(op, Op::Input | Op::Constant(_)) {
            return Ok(());
        }
        let expected = op.infer(&inputs)?;
        let given: Vec<TensorType> = self.outputs.iter().map(ty).collect();
        if given != expected {
            let names =
                |types: &[TensorType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(self.misfit(format!("results are {}, expected {}", names(&given), names(&expected))));
        }
        let strided = |v: &View| v.strides.len() == v.shape.len() && (v.is_empty() || v.extent().is_some());
        if !self.inputs.iter().flatten().chain(self.outputs).all(strided) {
            return Err(self.misfit("strides are not one for each axis, or overflow"));
        }
        Ok(())
    }

    fn unsupported(&self, what: impl Into<String>) -> GenericError {
        GenericError::Unsupported { op: self.op, what: what.into() }
    }

    fn misfit(&self, what: impl Into<String>) -> GenericError {
        GenericError::Views { op: self.op, what: what.into() }
    }

    fn input(&self, index: usize) -> Result<View, GenericError> {
        self.optional(index).ok_or_else(|| self.misfit(format!("operand {index} is missing")))
    }

    fn optional(&self, index: usize) -> Option<View> {
        self.inputs.get(index).cloned().flatten()
    }

    fn output(&self) -> Result<View, GenericError> {
        self.outputs.first().cloned().ok_or_else(|| self.misfit("there is no result"))
    }

    /// Memory for intermediate values, half floats as `f32`: what is computed is rounded once, in the result.
    fn temp(&mut self, dtype: DType, shape: &[usize]) -> View {
        self.temp_of(computed(dtype), shape)
    }

    /// The same for elements that are kept as they are.
    fn temp_of(&mut self, dtype: DType, shape: &[usize]) -> View {
        let view = (self.temp)(TensorType::new(dtype, shape));
        self.extra.push(view.clone());
        view
    }

    fn constant(&mut self, tensor: Tensor) -> View {
        let view = (self.constant)(tensor);
        self.extra.push(view.clone());
        view
    }

    /// `v` broadcast to a shape.
    fn broadcast(&self, v: &View, shape: &[usize]) -> Result<View, GenericError> {
        v.broadcast(shape)
            .ok_or_else(|| self.misfit(format!("{:?} does not broadcast to {shape:?}", v.shape)))
    }

    /// Takes a draft; an empty result or a draft without loops over anything is dropped.
    fn push(&mut self, mut draft: NestDraft) -> Result<(), GenericError> {
        if draft.is_empty() {
            return Ok(());
        }
        draft.drop_what_is_not_read();
        let allowed = |arg: usize| self.extent(arg);
        let checked = draft.nest().check_unscheduled(&allowed);
        checked.map_err(|source| GenericError::Nest { op: self.op, source })?;
        self.steps.push(OpenStep::Loops(draft));
        Ok(())
    }

    /// Takes a draft of rows, if a kernel can do them; an empty one is done.
    fn push_rows(&mut self, draft: NestDraft) -> Result<bool, GenericError> {
        match draft.in_kernels() {
            Some(draft) => self.push(draft).map(|()| true),
            None => Ok(false),
        }
    }

    /// Bytes that the views of an argument span.
    fn extent(&self, arg: usize) -> Option<Range<i64>> {
        (self.inputs.iter().flatten().chain(self.outputs).chain(&self.extra))
            .filter(|v| v.arg == arg)
            .filter_map(View::extent)
            .map(|(low, high)| low..high)
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
    }

    /// Takes a routine.
    fn push_routine(&mut self, writer: Writer) -> Result<(), GenericError> {
        let routine = writer.finish();
        let allowed = |arg: usize| self.extent(arg);
        routine.check(&allowed).map_err(|source| GenericError::Routine { op: self.op, source })?;
        self.steps.push(OpenStep::Routine(routine));
        Ok(())
    }

    /// A routine that follows indices into some axes.
    fn follower(&self) -> Writer {
        let mut writer = Writer::new();
        if self.records.is_some() {
            writer.keep_records();
        }
        writer
    }

    /// Takes a routine that follows indices into `axes`.
    fn push_follower(&mut self, mut writer: Writer, axes: Vec<usize>) -> Result<(), GenericError> {
        if let Some(memory) = &mut self.records {
            let extra = &mut self.extra;
            writer.place_records(|records| {
                let view = memory(IndexRecords { records, axes });
                extra.push(view.clone());
                view
            });
        }
        self.push_routine(writer)
    }

    fn finish(self) -> Result<Vec<OpenStep>, GenericError> {
        Ok(self.steps)
    }
}
