//! One element of the result from one element of each operand: Unary, Binary, Where, Cast.

use nnc_ir::DType;
use nnc_ir::op::{Binary, Unary};

use super::draft::NestDraft;
use super::{GenericError, Lowering};
use crate::code::nest::Expr;

pub(super) fn unary(l: &mut Lowering<'_>, function: Unary) -> Result<(), GenericError> {
    map(l, 1, |_| Expr::Operand(0).unary(function))
}

pub(super) fn binary(l: &mut Lowering<'_>, op: &Binary) -> Result<(), GenericError> {
    map(l, 2, |_| Expr::Operand(0).binary(op.function, Expr::Operand(1)).activated(op.activation))
}

pub(super) fn where_(l: &mut Lowering<'_>) -> Result<(), GenericError> {
    map(l, 3, |_| Expr::Operand(0).select(Expr::Operand(1), Expr::Operand(2)))
}

pub(super) fn cast(l: &mut Lowering<'_>, to: DType) -> Result<(), GenericError> {
    map(l, 1, |from| Expr::Operand(0).cast(from, to))
}

/// A function of the first `count` operands, broadcast to the result; it gets the type of the first.
fn map(l: &mut Lowering<'_>, count: usize, value: impl Fn(DType) -> Expr) -> Result<(), GenericError> {
    let y = l.output()?;
    let mut operands = Vec::new();
    for i in 0..count {
        operands.push(l.broadcast(&l.input(i)?, &y.shape)?);
    }
    let value = value(operands.first().map_or(y.dtype, |x| x.dtype));
    l.push(NestDraft::map(&operands, &y, value))
}
