//! Gemm and MatMul.

use super::Results;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::MatMul;
use crate::op::check::broadcasts_to;
use crate::op::elementwise::BinaryFn;

/// Gemm: `alpha · A′ · B′ + beta · C`. Before opset 7 broadcasting C had to be asked for.
///
/// ```text
///   A, or its transpose ─▶ matmul (B, or as its transpose) ─▶ · alpha ─▶ + beta · C
/// ```
///
/// where C is a bias of the product if it has one element a column, and there is nothing in between.
pub(in crate::onnx) fn gemm(n: &mut NodeReader<'_, '_>) -> Results {
    let (mut a, b, c) = (n.operand(0, "A")?, n.operand(1, "B")?, n.optional(2)?);
    if n.opset < 7 {
        n.attributes.ignore("broadcast");
    }
    let alpha = n.attributes.float("alpha")?.unwrap_or(1.0);
    let beta = n.attributes.float("beta")?.unwrap_or(1.0);
    let trans_a = n.attributes.flag("transA", false)?;
    let trans_b = n.attributes.flag("transB", false)?;
    for (name, operand) in [("A", a), ("B", b)] {
        let ty = n.ty(operand);
        if ty.shape.rank() != 2 {
            return Err(NodeFault::invalid(format!("{name} must be a matrix (rank 2), it is {ty}")));
        }
    }
    if trans_a {
        a = n.transpose(a, &[1, 0])?;
    }
    let product = MatMul { trans_b, ..MatMul::default() };
    let columns = n.shape(b)[usize::from(!trans_b)];
    let bias = c.filter(|&c| alpha == 1.0 && beta == 1.0 && n.shape(c)[..] == [columns]);
    if let Some(bias) = bias {
        return Ok(vec![n.emit_optional(product, &[Some(a), Some(b), Some(bias)])?]);
    }
    let mut y = n.emit(product, &[a, b])?;
    if alpha != 1.0 {
        y = n.binary_with(BinaryFn::Mul, y, f64::from(alpha))?;
    }
    if let Some(mut c) = c {
        if !broadcasts_to(&n.shape(c), &n.shape(y)) {
            return Err(NodeFault::invalid(format!(
                "C is {}, which does not broadcast to the product's {}",
                n.ty(c),
                n.ty(y)
            )));
        }
        if beta != 1.0 {
            c = n.binary_with(BinaryFn::Mul, c, f64::from(beta))?;
        }
        y = n.binary(BinaryFn::Add, y, c)?;
    }
    Ok(vec![y])
}

/// MatMul, since 1.
pub(in crate::onnx) fn mat_mul(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, b) = (n.operand(0, "A")?, n.operand(1, "B")?);
    Ok(vec![n.mat_mul(a, b)?])
}
