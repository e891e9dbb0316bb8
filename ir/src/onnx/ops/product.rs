//! Gemm and MatMul.

use super::Results;
use crate::onnx::node::NodeReader;
use crate::op::{Gemm, MatMul};

/// Gemm. Before opset 7 broadcasting C had to be asked for.
pub(in crate::onnx) fn gemm(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, b, c) = (n.operand(0, "A")?, n.operand(1, "B")?, n.optional(2)?);
    if n.opset < 7 {
        n.attributes.ignore("broadcast");
    }
    let op = Gemm {
        alpha: n.attributes.float("alpha")?.unwrap_or(1.0),
        beta: n.attributes.float("beta")?.unwrap_or(1.0),
        trans_a: n.attributes.flag("transA", false)?,
        trans_b: n.attributes.flag("transB", false)?,
        activation: None,
    };
    Ok(vec![n.emit_optional(op, &[Some(a), Some(b), c])?])
}

/// MatMul, since 1.
pub(in crate::onnx) fn mat_mul(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, b) = (n.operand(0, "A")?, n.operand(1, "B")?);
    Ok(vec![n.emit(MatMul, &[a, b])?])
}
