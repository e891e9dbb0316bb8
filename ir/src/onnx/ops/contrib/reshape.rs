//! Operators of this domain that move elements, or are ONNX's in an older form.

use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, scalar_tensor};
use crate::onnx::ops::{Results, constant, pad as onnx_pad};
use crate::op::elementwise::BinaryFn;
use crate::op::{OpError, ReduceKind, Unary};

/// ExpandDims: Unsqueeze with the one axis as an operand.
pub(in crate::onnx) fn expand_dims(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let axes = n.ints(1, "axis")?.unwrap_or_default();
    let mut shape = n.shape(x).to_vec();
    let [axis] = axes[..] else {
        return Err(NodeFault::invalid(format!("operand 1 (axis) must be one number, it is {axes:?}")));
    };
    let place = crate::onnx::node::axis(axis, shape.len() + 1)?;
    shape.insert(place, 1);
    Ok(vec![n.reshape(x, shape)?])
}

/// Pad: as ONNX's of version 11.
pub(in crate::onnx) fn pad(n: &mut NodeReader<'_, '_>) -> Results {
    n.opset = 11;
    onnx_pad::pad(n)
}

/// Range, whose step may be left out.
pub(in crate::onnx) fn range(n: &mut NodeReader<'_, '_>) -> Results {
    let mut bounds = Vec::new();
    for (index, name) in ["start", "limit"].into_iter().enumerate() {
        bounds.push(n.constant(index, name)?.ok_or(OpError::Missing { index, name })?);
    }
    let delta = n.constant(2, "delta")?;
    bounds.push(delta.map_or_else(|| scalar_tensor(bounds[0].dtype(), 1.0), Ok)?);
    Ok(vec![constant::range_of(n, &bounds)?])
}

/// CDist: distances of the rows of A from those of B.
pub(in crate::onnx) fn distances(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, b) = (n.operand(0, "A")?, n.operand(1, "B")?);
    let square = n.attributes.choice("metric", true, &[("sqeuclidean", true), ("euclidean", false)])?;
    let (a_shape, b_shape) = (n.shape(a), n.shape(b));
    let (&[rows, size], &[columns, other]) = (&a_shape[..], &b_shape[..]) else {
        return Err(NodeFault::invalid(format!(
            "A and B must be matrices, they are {a_shape} and {b_shape}"
        )));
    };
    if size != other {
        return Err(NodeFault::invalid(format!("rows of A have {size} elements, those of B {other}")));
    }
    let (a, b) = (n.reshape(a, [rows, 1, size])?, n.reshape(b, [1, columns, size])?);
    let apart = n.binary(BinaryFn::Sub, a, b)?;
    let squares = n.binary(BinaryFn::Mul, apart, apart)?;
    let sums = n.reduce(ReduceKind::Sum, squares, vec![2], false)?;
    Ok(vec![if square { sums } else { n.unary(Unary::Sqrt, sums)? }])
}
