//! Matrix products: a reduction over K for each element, vectorised over N where B lies that way, else over K.

use std::ops::{Add, Mul};

use nnc_ir::op::{MatMul, Residual};

use super::draft::NestDraft;
use super::reduce::sum;
use super::{GenericError, Lowering};
use crate::code::nest::Expr;

/// Over [batch…, M, N], and K.
pub(super) fn matmul(l: &mut Lowering<'_>, op: &MatMul) -> Result<(), GenericError> {
    let (mut a, mut b, mut y) = (l.input(MatMul::A)?, l.input(MatMul::B)?, l.output()?);
    let mut residual = op.epilogue.residual.map(|_| l.input(MatMul::RESIDUAL)).transpose()?;
    // A vector is a matrix of one row or column, which the result does not have.
    let columns = usize::from(b.rank() > 1);
    if a.rank() == 1 {
        a = a.with_axis(0, 1);
        let at = y.rank() - columns;
        y = y.with_axis(at, 1);
        residual = residual.map(|residual| residual.with_axis(at, 1));
    }
    if b.rank() == 1 {
        b = b.with_axis(1, 1);
        residual = residual.map(|residual| residual.with_axis(y.rank(), 1));
        y = y.with_axis(y.rank(), 1);
    } else if op.trans_b {
        let rank = b.rank();
        let order: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
        b = b.permuted(&order).ok_or_else(|| l.misfit("an operand is no matrix"))?;
    }
    let batch = y.shape[..y.rank() - 2].to_vec();
    let (m, n) = (y.shape[y.rank() - 2], y.shape[y.rank() - 1]);
    let k = a.shape[a.rank() - 1];
    let a = l.broadcast(&a, &[&batch[..], &[m, k]].concat())?;
    let b = l.broadcast(&b, &[&batch[..], &[k, n]].concat())?;
    let rank = batch.len();
    let order: Vec<usize> = (0..rank).chain([rank + 1, rank]).collect();
    let b = b.permuted(&order).ok_or_else(|| l.misfit("an operand is no matrix"))?;
    let mut operands = vec![a.with_axis(rank + 1, n), b.with_axis(rank, m)];
    let mut operand = |view| {
        operands.push(view);
        Expr::Operand(operands.len() - 1)
    };
    let mut value = Expr::Acc(0);
    if let Some(bias) = l.optional(MatMul::BIAS) {
        value = value.add(operand(l.broadcast(&bias, &y.shape)?));
    }
    let activation = op.epilogue.activation;
    let value = match (op.epilogue.residual, residual) {
        (Some(Residual::AfterActivation), Some(residual)) => {
            value.activated(activation).add(operand(residual))
        }
        (Some(Residual::BeforeActivation), Some(residual)) => {
            value.add(operand(residual)).activated(activation)
        }
        _ => value.activated(activation),
    };
    let terms = vec![sum(y.dtype, Expr::Operand(0).mul(Expr::Operand(1)))];
    let draft = NestDraft::reduce(&operands, &y, &[k], terms, value);
    let in_kernels = if m == 1 { draft.clone().in_kernels() } else { None };
    l.push(in_kernels.unwrap_or(draft))
}
