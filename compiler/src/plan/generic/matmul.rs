//! Matrix products: a reduction over K for each element, vectorised over N where B lies that way, else over K.

use std::ops::{Add, Mul};

use nnc_ir::op::Gemm;

use super::draft::NestDraft;
use super::reduce::sum;
use super::{GenericError, Lowering};
use crate::code::nest::Expr;
use crate::code::view::View;

/// The accumulated product of operands 0 and 1, both over [.., M, N, K].
fn product(
    l: &mut Lowering<'_>,
    operands: &[View],
    y: &View,
    k: usize,
    value: Expr,
) -> Result<(), GenericError> {
    let terms = vec![sum(y.dtype, Expr::Operand(0).mul(Expr::Operand(1)))];
    l.push(NestDraft::reduce(operands, y, &[k], terms, value))
}

pub(super) fn gemm(l: &mut Lowering<'_>, op: &Gemm) -> Result<(), GenericError> {
    let (mut a, mut b, y) = (l.input(0)?, l.input(1)?, l.output()?);
    let turned = |v: &View| v.permuted(&[1, 0]).ok_or_else(|| l.misfit("an operand is no matrix"));
    if op.trans_a {
        a = turned(&a)?;
    }
    if !op.trans_b {
        b = turned(&b)?;
    }
    // a: [M, K], b: [N, K]
    let (n, k) = (b.shape[0], a.shape[1]);
    let mut operands = vec![a.with_axis(1, n), b.with_axis(0, a.shape[0])];
    let scaled = |e: Expr, by: f32| if by == 1.0 { e } else { e.mul(Expr::constant(y.dtype, by.into())) };
    let mut value = scaled(Expr::Acc(0), op.alpha);
    if let Some(c) = l.optional(2) {
        operands.push(l.broadcast(&c, &y.shape)?);
        value = value.add(scaled(Expr::Operand(2), op.beta));
    }
    product(l, &operands, &y, k, value.activated(op.activation))
}

pub(super) fn matmul(l: &mut Lowering<'_>) -> Result<(), GenericError> {
    let (mut a, mut b, mut y) = (l.input(0)?, l.input(1)?, l.output()?);
    // A vector is a matrix of one row or column, which the result does not have.
    if a.rank() == 1 {
        a = a.with_axis(0, 1);
        y = y.with_axis(y.rank() - usize::from(b.rank() > 1), 1);
    }
    if b.rank() == 1 {
        b = b.with_axis(1, 1);
        y = y.with_axis(y.rank(), 1);
    }
    let batch = y.shape[..y.rank() - 2].to_vec();
    let (m, n) = (y.shape[y.rank() - 2], y.shape[y.rank() - 1]);
    let k = a.shape[a.rank() - 1];
    let a = l.broadcast(&a, &[&batch[..], &[m, k]].concat())?;
    let b = l.broadcast(&b, &[&batch[..], &[k, n]].concat())?;
    let rank = batch.len();
    let order: Vec<usize> = (0..rank).chain([rank + 1, rank]).collect();
    let b = b.permuted(&order).ok_or_else(|| l.misfit("an operand is no matrix"))?;
    let operands = [a.with_axis(rank + 1, n), b.with_axis(rank, m)];
    product(l, &operands, &y, k, Expr::Acc(0))
}
