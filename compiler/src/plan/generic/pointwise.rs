//! One element of the result from one element of each operand: Unary, Binary, Where, Cast, Quantize, Dequantize, IntegerSum.

use std::ops::{Add, Div, Mul, Sub};

use nnc_ir::DType;
use nnc_ir::op::{Binary, Dequantize, IntegerSum, Quantize, Requantize, Unary};

use super::copy;
use super::{GenericError, Lowering};
use crate::code::nest::{Constant, Expr};

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

pub(super) fn quantize(l: &mut Lowering<'_>, to: DType) -> Result<(), GenericError> {
    let has_zero = l.optional(Quantize::ZERO).is_some();
    map(l, 2 + usize::from(has_zero), |_| {
        let steps = Expr::Operand(Quantize::X).div(Expr::Operand(Quantize::SCALE)).unary(Unary::Round);
        let steps = match has_zero {
            // f32 holds the sum of all that is not cut off anyway.
            true => steps.add(Expr::Operand(Quantize::ZERO).cast(to, DType::F32)),
            false => steps,
        };
        steps.cast(DType::F32, to)
    })
}

pub(super) fn dequantize(l: &mut Lowering<'_>) -> Result<(), GenericError> {
    let has_zero = l.optional(Dequantize::ZERO).is_some();
    map(l, 2 + usize::from(has_zero), |from| {
        let wide = |e: Expr| if from == DType::I32 { e } else { e.cast(from, DType::I32) };
        let centred = match has_zero {
            true => wide(Expr::Operand(Dequantize::X)).sub(wide(Expr::Operand(Dequantize::ZERO))),
            false => wide(Expr::Operand(Dequantize::X)),
        };
        centred.cast(DType::I32, DType::F32).mul(Expr::Operand(Dequantize::SCALE))
    })
}

pub(super) fn integer_sum(l: &mut Lowering<'_>, op: &IntegerSum) -> Result<(), GenericError> {
    let number = |v: f32| Expr::Const(Constant::from(v));
    let result = op.result;
    map(l, op.factors.len(), |from| {
        let factors = op.factors.iter().enumerate();
        let sum = factors.fold(number(op.shift), |sum, (i, &factor)| {
            Expr::Operand(i).cast(from, DType::F32).mul_add(number(factor), sum)
        });
        let steps = sum.unary(Unary::Round);
        let steps = if result.zero == 0 { steps } else { steps.add(number(result.zero as f32)) };
        // Bounds of the type are those of the cast.
        let bounds = Unary::Clip { min: result.low as f32, max: result.high as f32 };
        let whole = result == Requantize::steps(result.to, result.zero);
        if whole { steps } else { steps.unary(bounds) }.cast(DType::F32, result.to)
    })
}

/// A function of the first `count` operands, broadcast to the result; it gets the type of the first.
fn map(l: &mut Lowering<'_>, count: usize, value: impl Fn(DType) -> Expr) -> Result<(), GenericError> {
    let y = l.output()?;
    let mut operands = Vec::new();
    for i in 0..count {
        operands.push(l.broadcast(&l.input(i)?, &y.shape)?);
    }
    let value = value(operands.first().map_or(y.dtype, |x| x.dtype));
    copy::map(l, operands, &y, value)
}
