//! Operators: what a node computes.
//!
//! An operator carries its attributes, already resolved: what ONNX passes as a tensor but which decides a shape or
//! a loop bound (the shape of a Reshape, the bounds of a Slice or a Clip) is an attribute here. Tensors that carry
//! data (weights, bias, scale) are operands. Each family has a file with, for each operator, the attribute struct
//! and its implementation of [`Operator`]:
//!
//! - `infer`: types of the outputs from types of the operands, refusing what does not fit;
//! - `eval`: plain, slow, obviously right: the oracle of the tests and the constant folder;
//! - `arithmetic`: multiply-accumulates and other operations; [`Graph::cost`](crate::Graph::cost) adds the bytes.
//!
//! `eval` computes floats in `f64` and rounds once, when it stores a result: closer to the real numbers than any order
//! of `f32` operations, so that tests can measure every code generator against it. Integers wrap around.
//!
//! Layers that passes have fused are the same operators with more in them: a [`Conv`] with an [`Epilogue`] adds a
//! residual and applies an activation to what it has in registers; with a [`Prologue`] it normalises what it reads.

pub mod byte_table;
pub mod byte_weights;
pub(crate) mod check;
pub mod col2im;
pub mod control;
pub mod conv;
pub mod deform;
pub mod det;
pub mod einsum;
pub mod elementwise;
pub mod gather;
pub mod inside;
pub mod integer_conv;
mod integer_sum;
pub mod matmul;
pub mod norm;
pub(crate) mod number;
pub mod pool;
pub mod quantize;
pub mod reduce;
pub mod resize;
pub mod roi;
pub mod sample;
pub mod scan;
pub mod scatter;
pub mod select;
pub mod shape;
mod strided;
#[cfg(test)]
mod testing;
pub mod topk;
pub mod unary;
pub mod unpool;
mod windows;

use std::fmt;

pub use byte_table::ByteTable;
pub use byte_weights::ByteWeights;
pub use col2im::Col2Im;
pub use control::{Body, If, Loop};
pub use conv::{Conv, ConvTranspose, Epilogue, Prologue, Residual, Window};
pub use deform::DeformConv;
pub use det::Det;
pub use einsum::Einsum;
pub use elementwise::{Binary, BinaryFn, BitCast, Cast, Where};
pub use gather::{GatherAt, GatherElements, GatherNd};
pub use inside::{Inside, Outside};
pub use integer_conv::{IntegerConv, Requantize};
pub use integer_sum::IntegerSum;
pub use matmul::MatMul;
pub use norm::{BatchNorm, ChannelAffine, InstanceNorm, LayerNorm, Lrn};
pub use pool::{GlobalPool, Pool, PoolKind};
pub use quantize::{Dequantize, Quantize};
pub use reduce::{LogSoftmax, Reduce, ReduceKind, Softmax};
pub use resize::{CoordinateMode, Crop, NearestMode, Resize, ResizeMode, ResizeTap};
pub use roi::{MaxRoiPool, RoiAlign};
pub use sample::{GridSample, SampleMode, SamplePadding};
pub use scan::{Cumulative, CumulativeKind, ReverseSequence};
pub use scatter::{ScatterElements, ScatterNd, ScatterReduction};
pub use select::{Compress, NonMaxSuppression, NonZero, Prefix, Unique};
pub use shape::{
    AxisSlice, ChannelSelect, ChannelSource, Concat, Expand, Gather, Pad, PadMode, Reshape, Slice, Split,
    Transpose,
};
pub use topk::TopK;
pub use unary::Unary;
pub use unpool::{MaxPoolArg, MaxUnpool};

use crate::tensor::{Tensor, TensorError};
use crate::types::TensorType;

/// Why an operator refuses its operands.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OpError {
    /// An operand that must be there is missing.
    #[error("operand {index} ({name}) is missing")]
    Missing {
        /// Its position.
        index: usize,
        /// Its name in the ONNX operator.
        name: &'static str,
    },
    /// There are more operands than the operator takes.
    #[error("takes at most {max} operands, got {got}")]
    TooMany {
        /// How many it takes.
        max: usize,
        /// How many there are.
        got: usize,
    },
    /// An operand has a type or shape that does not fit.
    #[error("{0}")]
    Mismatch(String),
    /// A size does not fit into memory.
    #[error("the size of the result overflows")]
    Overflow,
    /// What ONNX allows but nnc does not do.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// An index from data that leads outside of what it points into.
    #[error("index {index} lies outside of axis {axis}, which has {extent} elements")]
    Index {
        /// The index, as the data have it.
        index: i64,
        /// The axis of what it points into.
        axis: usize,
        /// How many elements there are along it.
        extent: usize,
    },
    /// Constant data of the wrong kind.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl OpError {
    /// A [`OpError::Mismatch`].
    pub fn mismatch(text: impl Into<String>) -> OpError {
        OpError::Mismatch(text.into())
    }
}

/// Types of an operator's operands, by position.
pub type Types<'a> = [Option<&'a TensorType>];

/// Values of an operator's operands, by position.
pub type Tensors<'a> = [Option<&'a Tensor>];

/// What an operator costs, counted from its types alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-accumulates of convolutions and matrix products.
    pub macc: u64,
    /// Other arithmetic operations, one per element and step.
    pub ops: u64,
    /// Elements of constant operands.
    pub params: u64,
    /// Bytes of all operands, each once.
    pub bytes_read: u64,
    /// Bytes of all results.
    pub bytes_written: u64,
}

/// The contract of an operator.
pub trait Operator {
    /// Its name, as in ONNX where ONNX has it.
    fn name(&self) -> &'static str;
    /// Types of the results.
    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError>;
    /// The results, computed in the plainest way; `results` are the types that `infer` finds for these operands.
    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError>;
    /// Multiply-accumulates and other arithmetic, given the types of operands and results.
    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic;
}

/// Arithmetic of one operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arithmetic {
    /// Multiply-accumulates.
    pub macc: u64,
    /// Other operations.
    pub ops: u64,
}

macro_rules! operators {
    ($($name:ident),* $(,)?) => {
        /// What a node computes.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Op {
            /// A graph input; made by [`Graph::add_input`](crate::Graph::add_input).
            Input,
            /// Constant data.
            Constant(Tensor),
            $($name($name),)*
        }

        impl Op {
            fn operator(&self) -> Option<&dyn Operator> {
                match self {
                    Op::Input | Op::Constant(_) => None,
                    $(Op::$name(op) => Some(op),)*
                }
            }
        }

        $(impl From<$name> for Op {
            fn from(op: $name) -> Op {
                Op::$name(op)
            }
        })*
    };
}

/// All operators, handed to a macro that writes something of each.
macro_rules! every_operator {
    ($then:ident) => {
        $then!(
            Conv,
            ConvTranspose,
            IntegerConv,
            DeformConv,
            Col2Im,
            GridSample,
            RoiAlign,
            MaxRoiPool,
            Det,
            MatMul,
            Einsum,
            Pool,
            GlobalPool,
            BatchNorm,
            ChannelAffine,
            InstanceNorm,
            LayerNorm,
            Lrn,
            Unary,
            Binary,
            Where,
            Cast,
            BitCast,
            Quantize,
            Dequantize,
            IntegerSum,
            ByteTable,
            Softmax,
            LogSoftmax,
            Reduce,
            Resize,
            Concat,
            Split,
            Slice,
            Reshape,
            Transpose,
            Pad,
            Expand,
            Gather,
            ChannelSelect,
            GatherAt,
            GatherElements,
            GatherNd,
            Inside,
            ScatterElements,
            ScatterNd,
            TopK,
            Cumulative,
            ReverseSequence,
            MaxPoolArg,
            MaxUnpool,
            NonZero,
            Compress,
            Unique,
            NonMaxSuppression,
            Prefix,
            Loop,
            If,
        );
    };
}
pub(crate) use every_operator;

every_operator!(operators);

impl Op {
    /// Its name, as in ONNX where ONNX has it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input => "Input",
            Op::Constant(_) => "Constant",
            _ => self.operator().map_or("", |op| op.name()),
        }
    }

    /// Types of the results.
    pub fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        match self {
            Op::Input => Err(OpError::mismatch("an input has no operands to infer from")),
            Op::Constant(t) => Ok(vec![t.ty().clone()]),
            _ => self.operator().map_or(Ok(Vec::new()), |op| op.infer(operands)),
        }
    }

    /// The results. Operands that do not fit are refused as [`Op::infer`] refuses them.
    pub fn eval(&self, operands: &Tensors<'_>) -> Result<Vec<Tensor>, OpError> {
        let types: Vec<Option<&TensorType>> = operands.iter().map(|t| t.map(Tensor::ty)).collect();
        match self {
            Op::Input => Err(OpError::mismatch("an input has no value of its own")),
            Op::Constant(t) => Ok(vec![t.clone()]),
            _ => self.operator().map_or(Ok(Vec::new()), |op| op.eval(operands, &op.infer(&types)?)),
        }
    }

    /// Multiply-accumulates and other arithmetic.
    pub fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        self.operator().map_or(Arithmetic::default(), |op| op.arithmetic(operands, results))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The operand at a position, or an error that names it.
pub(crate) fn required<'a, T>(
    operands: &[Option<&'a T>],
    index: usize,
    name: &'static str,
) -> Result<&'a T, OpError> {
    operands.get(index).copied().flatten().ok_or(OpError::Missing { index, name })
}

/// The operand at a position, if it is there.
pub(crate) fn optional<'a, T>(operands: &[Option<&'a T>], index: usize) -> Option<&'a T> {
    operands.get(index).copied().flatten()
}

#[cfg(test)]
mod tests;
