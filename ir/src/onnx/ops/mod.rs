//! Constructors: from a node to operators of the graph, one file per family.
//!
//! A constructor asks the [`NodeReader`] for attributes and operands, resolves what ONNX leaves implicit (negative
//! axes, automatic padding, `-1` in a shape), emits operators, and returns a value for each result it supports.

pub(super) mod activation;
pub(super) mod attention;
pub(super) mod batch_norm;
pub(super) mod col2im;
mod compose;
pub(super) mod constant;
pub(super) mod contrib;
pub(super) mod control;
pub(super) mod convolution;
pub(super) mod einsum;
pub(super) mod elementwise;
pub(super) mod index;
mod integer_sums;
pub(super) mod loss;
pub(super) mod matrix;
pub(super) mod normalize;
pub(super) mod pad;
pub(super) mod pool;
pub(super) mod product;
pub(super) mod quantize;
pub(super) mod random;
pub(super) mod recurrent;
pub(super) mod reduce;
pub(super) mod resample;
pub(super) mod reshape;
pub(super) mod sample;
pub(super) mod select;
pub(super) mod sequence;
pub(super) mod signal;
pub(super) mod window;

use super::error::NodeFault;
use super::node::NodeReader;
use crate::graph::Value;
use crate::op::Reshape;

/// What a constructor returns: a value for each result.
pub(super) type Results = Result<Vec<Value>, NodeFault>;

/// The same elements under another shape; nothing at all when it is the shape they have.
pub(super) fn reshaped(n: &mut NodeReader<'_, '_>, x: Value, shape: Vec<usize>) -> Result<Value, NodeFault> {
    if n.ty(x).shape[..] == shape[..] {
        return Ok(x);
    }
    n.emit(Reshape { shape }, &[x])
}

/// The product of some extents.
pub(super) fn product(dims: &[usize]) -> Result<usize, NodeFault> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or(NodeFault::Op(crate::op::OpError::Overflow))
}
