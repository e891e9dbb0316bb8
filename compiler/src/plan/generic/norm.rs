//! Normalisations.

use std::ops::{Add, Div, Mul, Sub};

use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::{BatchNorm, ChannelAffine, InstanceNorm, LayerNorm, Lrn, Unary};

use super::draft::NestDraft;
use super::reduce::{kept_first, sum, then, without};
use super::{GenericError, Lowering};
use crate::code::nest::{Bound, Expr};
use crate::code::view::View;

/// One element for each channel, seen along axis 1 of `shape`.
pub(super) fn per_channel(v: &View, shape: &[usize]) -> View {
    let mut strides = vec![0; shape.len()];
    if let (Some(along), Some(&stride)) = (strides.get_mut(1), v.strides.first()) {
        *along = stride;
    }
    View { shape: shape.to_vec(), strides, ..*v }
}

/// `(x - mean) · (scale / √(var + ε)) + bias`
pub(super) fn batch_norm(l: &mut Lowering<'_>, op: &BatchNorm) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let (scale, bias, mean, variance) = (l.input(1)?, l.input(2)?, l.input(3)?, l.input(4)?);
    let factor = l.temp(x.dtype, &scale.shape);
    let epsilon = Expr::constant(x.dtype, op.epsilon.into());
    let deviation = Expr::Operand(1).add(epsilon).unary(Unary::Sqrt);
    l.push(NestDraft::map(&[scale, variance], &factor, Expr::Operand(0).div(deviation)))?;
    let [mean, factor, bias] = [&mean, &factor, &bias].map(|v| per_channel(v, &y.shape));
    let value = Expr::Operand(0).sub(Expr::Operand(1)).mul(Expr::Operand(2)).add(Expr::Operand(3));
    l.push(NestDraft::map(&[x, mean, factor, bias], &y, value))
}

pub(super) fn channel_affine(l: &mut Lowering<'_>, op: &ChannelAffine) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let [scale, shift] = [l.input(1)?, l.input(2)?].map(|v| per_channel(&v, &y.shape));
    let value = Expr::Operand(0).mul(Expr::Operand(1)).add(Expr::Operand(2)).activated(op.activation);
    l.push(NestDraft::map(&[x, scale, shift], &y, value))
}

pub(super) fn instance_norm(l: &mut Lowering<'_>, op: &InstanceNorm) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let [scale, bias] = [l.input(1)?, l.input(2)?].map(|v| per_channel(&v, &y.shape));
    let axes: Vec<usize> = (2..x.rank()).collect();
    normalise(l, &x, &y, &axes, op.epsilon, &scale, Some(&bias))
}

pub(super) fn layer_norm(l: &mut Lowering<'_>, op: &LayerNorm) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let axes: Vec<usize> = (op.axis..x.rank()).collect();
    let scale = l.broadcast(&l.input(1)?, &y.shape)?;
    let bias = l.optional(2).map(|b| l.broadcast(&b, &y.shape)).transpose()?;
    normalise(l, &x, &y, &axes, op.epsilon, &scale, bias.as_ref())
}

/// `(x - mean) / √(variance + ε) · scale + bias`, statistics over `axes`; scale and bias have the shape of `x`.
///
/// The variance takes a pass of its own over the differences from the mean: Σx² - (Σx)² would cancel.
fn normalise(
    l: &mut Lowering<'_>,
    x: &View,
    y: &View,
    axes: &[usize],
    epsilon: f32,
    scale: &View,
    bias: Option<&View>,
) -> Result<(), GenericError> {
    let dtype = x.dtype;
    let (grouped, reduced) = kept_first(x, axes);
    let group = without(y, axes);
    let count = Expr::constant(dtype, reduced.iter().fold(1.0, |n, &d| n * d as f64));
    let regrouped = |v: &View| kept_first(v, axes).0;
    {
        let mean = Expr::Acc(0).div(count.clone());
        let difference = || Expr::Operand(0).sub(mean.clone());
        let variance = Expr::Acc(1).div(count.clone()).add(Expr::constant(dtype, epsilon.into()));
        let inverse = Expr::constant(dtype, 1.0).div(variance.unary(Unary::Sqrt));
        let squares = then(sum(dtype, difference().mul(difference())));
        let mut operands = vec![grouped.clone(), regrouped(scale)];
        let mut value = difference().mul(inverse).mul(Expr::Operand(1));
        if let Some(bias) = bias {
            operands.push(regrouped(bias));
            value = value.add(Expr::Operand(2));
        }
        let sums = vec![sum(dtype, Expr::Operand(0)), squares];
        if l.push_rows(NestDraft::rows(&operands, &regrouped(y), &reduced, sums, value))? {
            return Ok(());
        }
    }
    let mean = l.temp(dtype, &group.shape);
    let value = Expr::Acc(0).div(count.clone());
    let operands = std::slice::from_ref(&grouped);
    l.push(NestDraft::reduce(operands, &mean, &reduced, vec![sum(dtype, Expr::Operand(0))], value))?;
    let inverse = l.temp(dtype, &group.shape);
    let difference = || Expr::Operand(0).sub(Expr::Operand(1));
    let squares = vec![sum(dtype, difference().mul(difference()))];
    let value = Expr::Acc(0).div(count).add(Expr::constant(dtype, epsilon.into()));
    let value = Expr::constant(dtype, 1.0).div(value.unary(Unary::Sqrt));
    l.push(NestDraft::reduce(&[grouped.clone(), mean.clone()], &inverse, &reduced, squares, value))?;

    let repeated = |v: &View| {
        let mut v = v.clone();
        v.shape.extend(&reduced);
        v.strides.resize(v.shape.len(), 0);
        v
    };
    let mut operands = vec![grouped, repeated(&mean), repeated(&inverse), regrouped(scale)];
    let mut value = difference().mul(Expr::Operand(2)).mul(Expr::Operand(3));
    if let Some(bias) = bias {
        operands.push(regrouped(bias));
        value = value.add(Expr::Operand(4));
    }
    l.push(NestDraft::map(&operands, &regrouped(y), value))
}

/// `x / (bias + alpha / size · Σ x²)^beta`, the sum over `size` neighbouring channels.
pub(super) fn lrn(l: &mut Lowering<'_>, op: &Lrn) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let dtype = x.dtype;
    let channels = x.shape.get(1).copied().unwrap_or(1);
    // A window wider than twice the channels sees all of them from anywhere.
    let size = op.size.min(2 * channels + 1 + (op.size % 2));
    let before = ((size - 1) / 2) as i64;
    let mut neighbours = x.clone();
    neighbours.offset -= before * x.strides[1];
    neighbours.shape.push(size);
    neighbours.strides.push(x.strides[1]);
    let squares = vec![sum(dtype, Expr::Operand(0).mul(Expr::Operand(0)))];
    let factor = f64::from(op.alpha) / op.size as f64;
    let norm = Expr::constant(dtype, op.bias.into()).add(Expr::Acc(0).mul(Expr::constant(dtype, factor)));
    let root = |e: Expr| e.unary(Unary::Sqrt);
    let value = match op.beta {
        0.5 => Expr::Operand(1).div(root(norm)),
        0.75 => Expr::Operand(1).div(root(norm.clone()).mul(root(root(norm)))),
        1.0 => Expr::Operand(1).div(norm),
        beta => Expr::Operand(1).div(norm.binary(BinaryFn::Pow, Expr::constant(dtype, beta.into()))),
    };
    let bound = Bound { axis: 1, scale: 1, step: 1, base: -before, extent: channels as i64 };
    l.push(NestDraft::reduce(&[neighbours, x], &y, &[size], squares, value).bounded(0, bound))
}
