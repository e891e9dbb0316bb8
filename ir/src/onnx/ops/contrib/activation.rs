//! Activations with a bias, and what was left of Gelu's approximations.

use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::onnx::ops::{Results, activation};
use crate::op::Unary;
use crate::op::elementwise::BinaryFn;

/// A function of `X + bias`; the bias lies along the last axis.
fn biased(
    n: &mut NodeReader<'_, '_>,
    x: Value,
    bias: Option<Value>,
    function: Unary,
) -> Result<Value, NodeFault> {
    let x = match bias {
        Some(bias) => along_last(n, x, bias)?,
        None => x,
    };
    n.unary(function, x)
}

/// `X + bias`, the bias being one number for each element of the last axis.
pub(super) fn along_last(n: &mut NodeReader<'_, '_>, x: Value, bias: Value) -> Result<Value, NodeFault> {
    if n.shape(bias).rank() != 1 || n.shape(bias).last() != n.shape(x).last() {
        return Err(NodeFault::invalid(format!(
            "the bias must have one element for each of the last axis of {}, it is {}",
            n.ty(x),
            n.ty(bias)
        )));
    }
    n.binary(BinaryFn::Add, x, bias)
}

/// FastGelu: Gelu's tanh approximation of `X + bias`.
pub(in crate::onnx) fn fast_gelu(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, bias) = (n.operand(0, "X")?, n.optional(1)?);
    Ok(vec![biased(n, x, bias, Unary::Gelu { tanh: true })?])
}

/// BiasGelu: Gelu of `A + B`.
pub(in crate::onnx) fn bias_gelu(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, bias) = (n.operand(0, "A")?, n.operand(1, "B")?);
    Ok(vec![biased(n, x, Some(bias), Unary::Gelu { tanh: false })?])
}

/// Gelu of this domain has no other form.
pub(in crate::onnx) fn gelu(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    Ok(vec![n.unary(Unary::Gelu { tanh: false }, x)?])
}

/// QuickGelu: `x · sigmoid(alpha · x)`.
pub(in crate::onnx) fn quick_gelu(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let alpha = n.attributes.float("alpha")?.unwrap_or(1.702);
    Ok(vec![activation::swish_of(n, x, alpha)?])
}

/// GemmFastGelu: FastGelu of `X · W + bias`.
pub(in crate::onnx) fn gemm_fast_gelu(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, w, bias) = (n.operand(0, "X")?, n.operand(1, "W")?, n.optional(2)?);
    let product = n.mat_mul(x, w)?;
    Ok(vec![biased(n, product, bias, Unary::Gelu { tanh: true })?])
}

/// BiasAdd: `X + bias + skip`.
pub(in crate::onnx) fn bias_add(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, bias, skip) = (n.operand(0, "X")?, n.operand(1, "bias")?, n.operand(2, "skip")?);
    let sum = along_last(n, x, bias)?;
    Ok(vec![n.binary(BinaryFn::Add, sum, skip)?])
}

/// BiasSplitGelu: of `X + bias` the first half of the last axis, times Gelu of the second.
pub(in crate::onnx) fn bias_split_gelu(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, bias) = (n.operand(0, "X")?, n.operand(1, "bias")?);
    let sum = along_last(n, x, bias)?;
    let shape = n.shape(sum);
    let (last, both) = (shape.rank() - 1, shape[shape.rank() - 1]);
    if !both.is_multiple_of(2) {
        return Err(NodeFault::invalid(format!("the last axis of {shape} has no two halves")));
    }
    let (left, right) = (n.part(sum, last, 0, both / 2, 1)?, n.part(sum, last, both / 2, both / 2, 1)?);
    let gate = n.unary(Unary::Gelu { tanh: false }, right)?;
    Ok(vec![n.binary(BinaryFn::Mul, left, gate)?])
}
