//! Reductions over axes, and the softmaxes, which are made of them.

use std::ops::{Add, Div, Mul, Sub};

use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::{Reduce, ReduceKind, Unary};
use nnc_ir::{DType, Tensor};

use super::draft::{NestDraft, folded};
use super::{GenericError, Lowering};
use crate::code::nest::{Accumulator, Constant, Expr, Fold, Nest, Vectorised, computed};
use crate::code::view::View;

/// The axes of `x` that stay, then those that are reduced; and the extents of the latter.
pub(super) fn kept_first(x: &View, axes: &[usize]) -> (View, Vec<usize>) {
    let kept = (0..x.rank()).filter(|a| !axes.contains(a));
    let order: Vec<usize> = kept.chain(axes.iter().copied()).collect();
    let view = View {
        shape: order.iter().map(|&a| x.shape[a]).collect(),
        strides: order.iter().map(|&a| x.strides[a]).collect(),
        ..*x
    };
    let reduced = axes.iter().map(|&a| x.shape[a]).collect();
    (view, reduced)
}

/// Without the given axes: their element 0.
pub(super) fn without(v: &View, axes: &[usize]) -> View {
    let kept: Vec<usize> = (0..v.rank()).filter(|a| !axes.contains(a)).collect();
    View {
        shape: kept.iter().map(|&a| v.shape[a]).collect(),
        strides: kept.iter().map(|&a| v.strides[a]).collect(),
        ..*v
    }
}

/// The least and the greatest value of a type.
pub(super) fn limits(dtype: DType) -> (f64, f64) {
    let bits = 8 * dtype.bytes() as i32;
    match dtype {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => (f64::NEG_INFINITY, f64::INFINITY),
        DType::Bool => (0.0, 1.0),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => (0.0, 2f64.powi(bits) - 1.0),
        // The greatest i64 is none of f64: constants saturate.
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => {
            (-2f64.powi(bits - 1), 2f64.powi(bits - 1) - f64::from(bits < 64))
        }
    }
}

/// The largest (or the smallest) of `value`.
pub(super) fn extreme(dtype: DType, largest: bool, value: Expr) -> Accumulator {
    let (least, greatest) = limits(dtype);
    let start = if largest { least } else { greatest };
    let function = match (dtype, largest) {
        (DType::Bool, true) => BinaryFn::Or,
        (DType::Bool, false) => BinaryFn::And,
        (_, true) => BinaryFn::Max,
        (_, false) => BinaryFn::Min,
    };
    folded(function, dtype, start, value)
}

/// The sum of `value`.
pub(super) fn sum(dtype: DType, value: Expr) -> Accumulator {
    folded(BinaryFn::Add, dtype, 0.0, value)
}

pub(super) fn reduce(l: &mut Lowering<'_>, op: &Reduce) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let y = if op.keep_dims { without(&y, &op.axes) } else { y };
    let (x, reduced) = kept_first(&x, &op.axes);
    let dtype = x.dtype;
    let count = reduced.iter().fold(1.0, |n, &d| n * d as f64);
    let v = || Expr::Operand(0);
    let square = || v().mul(v());
    let acc = || Expr::Acc(0);
    let (accumulator, value) = match op.kind {
        ReduceKind::Sum => (sum(dtype, v()), acc()),
        ReduceKind::Mean if dtype.is_float() => (sum(dtype, v()), acc().div(Expr::constant(dtype, count))),
        ReduceKind::Mean if dtype == DType::U64 => return Err(l.unsupported("the mean of u64")),
        // The sum may not fit into the type of the elements, their mean does.
        ReduceKind::Mean => (
            sum(DType::I64, v().cast(dtype, DType::I64)),
            acc().div(Expr::constant(DType::I64, count)).cast(DType::I64, dtype),
        ),
        ReduceKind::Max => (extreme(dtype, true, v()), acc()),
        ReduceKind::Min => (extreme(dtype, false, v()), acc()),
        ReduceKind::Prod => (folded(BinaryFn::Mul, dtype, 1.0, v()), acc()),
        ReduceKind::L1 => (sum(dtype, v().unary(Unary::Abs)), acc()),
        ReduceKind::L2 => (sum(dtype, square()), acc().unary(Unary::Sqrt)),
        ReduceKind::SumSquare => (sum(dtype, square()), acc()),
        ReduceKind::LogSum => (sum(dtype, v()), acc().unary(Unary::Log)),
        ReduceKind::LogSumExp => return log_sum_exp(l, &x, &y, &reduced),
        ReduceKind::ArgMax { last } => return arg(l, &x, &y, &reduced, BinaryFn::Greater, last),
        ReduceKind::ArgMin { last } => return arg(l, &x, &y, &reduced, BinaryFn::Less, last),
    };
    l.push(NestDraft::reduce(&[x], &y, &reduced, vec![accumulator], value))
}

/// `m + ln Σ e^(x - m)` with `m` the largest; `m` itself where that is not finite.
fn log_sum_exp(l: &mut Lowering<'_>, x: &View, y: &View, reduced: &[usize]) -> Result<(), GenericError> {
    let dtype = x.dtype;
    let max = maxima(l, x, y, reduced)?;
    let terms = Expr::Operand(0).sub(Expr::Operand(1)).unary(Unary::Exp);
    let total = Expr::Operand(1).add(Expr::Acc(0).unary(Unary::Log));
    let finite =
        Expr::Operand(1).unary(Unary::Abs).binary(BinaryFn::Less, Expr::constant(dtype, f64::INFINITY));
    let value = finite.select(total, Expr::Operand(1));
    l.push(NestDraft::reduce(&[x.clone(), max], y, reduced, vec![sum(dtype, terms)], value))
}

/// The largest of each group, in memory of its own.
fn maxima(l: &mut Lowering<'_>, x: &View, y: &View, reduced: &[usize]) -> Result<View, GenericError> {
    let max = l.temp(x.dtype, &y.shape);
    let largest = extreme(x.dtype, true, Expr::Operand(0));
    l.push(NestDraft::reduce(std::slice::from_ref(x), &max, reduced, vec![largest], Expr::Acc(0)))?;
    Ok(max)
}

/// The index of the element that none is better than, of the first or last such; NaN is better than every number.
fn arg(
    l: &mut Lowering<'_>,
    x: &View,
    y: &View,
    reduced: &[usize],
    better: BinaryFn,
    last: bool,
) -> Result<(), GenericError> {
    if computed(x.dtype) == DType::F32 && arg_of_floats(l, x, y, reduced, better, last)? {
        return Ok(());
    }
    let (v, best) = (|| Expr::Operand(0), || Expr::Acc(0));
    let index = Expr::Index(y.rank());
    let is_nan = |e: Expr| e.unary(Unary::IsNan);
    let mut wins = v().binary(better, best());
    if x.dtype.is_float() {
        let new = is_nan(v()).binary(BinaryFn::And, best().binary(BinaryFn::Equal, best()));
        wins = wins.binary(BinaryFn::Or, new);
    }
    if last {
        wins = wins.binary(BinaryFn::Or, v().binary(BinaryFn::Equal, best()));
        if x.dtype.is_float() {
            wins = wins.binary(BinaryFn::Or, is_nan(v()).binary(BinaryFn::And, is_nan(best())));
        }
    }
    let first = index.clone().binary(BinaryFn::Equal, Expr::constant(DType::I64, 0.0));
    let wins = first.binary(BinaryFn::Or, wins);
    let replaced = |init, value| Accumulator { init, fold: Fold::Replace, value };
    let accumulators = vec![
        replaced(Constant::of(x.dtype, 0.0), wins.clone().select(v(), best())),
        replaced(Constant::of(DType::I64, 0.0), wins.select(index, Expr::Acc(1))),
    ];
    l.push(NestDraft::reduce(std::slice::from_ref(x), y, reduced, accumulators, Expr::Acc(1)))
}

/// Indices that `f32` holds, all of them.
const FLOAT_INDICES: usize = 1 << 24;

/// The same in vectors, with indices as floats beside the elements, where one or the other way to do so goes:
///
/// ```text
///   along rows          m = max over r of x[i, r]       index = min over r of (x[i, r] = m ? r : ∞)
///   along other axes    for r, for i: x[r, i] better than m[i] ?  m[i], index[i] = x[r, i], r
/// ```
fn arg_of_floats(
    l: &mut Lowering<'_>,
    x: &View,
    y: &View,
    reduced: &[usize],
    better: BinaryFn,
    last: bool,
) -> Result<bool, GenericError> {
    let &[extent] = reduced else { return Ok(false) };
    if extent == 0 || extent > FLOAT_INDICES || y.is_empty() {
        return Ok(false);
    }
    let largest = better == BinaryFn::Greater;
    let (v, index) = (|| Expr::Operand(0), || Expr::Operand(1));
    let numbers = || -> Vec<f32> { (0..extent).map(|i| i as f32).collect() };
    let mut numbered = View { strides: vec![0; x.rank()], ..x.clone() };
    if let Some(stride) = numbered.strides.last_mut() {
        *stride = 4;
    }
    numbered.dtype = DType::F32;
    let floats = View::dense(y.arg, DType::F32, y.shape.clone());

    let is_best = |then: Expr, otherwise: Expr| {
        let is_number = v().binary(BinaryFn::Equal, v());
        let unequal = is_number.select(otherwise, then.clone());
        v().binary(BinaryFn::Equal, Expr::Acc(0)).select(then, unequal)
    };
    let (function, nothing) =
        if last { (BinaryFn::Max, f64::NEG_INFINITY) } else { (BinaryFn::Min, f64::INFINITY) };
    let place = folded(function, DType::F32, nothing, is_best(index(), Expr::constant(DType::F32, nothing)));
    let rows = vec![extreme(DType::F32, largest, v()), then(place)];

    // What stays behind the best so far: if that is a number, NaN never does; if not, all but the last NaN.
    let worse = match (largest, last) {
        (true, false) => BinaryFn::LessOrEqual,
        (true, true) => BinaryFn::Less,
        (false, false) => BinaryFn::GreaterOrEqual,
        (false, true) => BinaryFn::Greater,
    };
    let replaced = |init: Constant, new: Expr, old: usize| {
        let old = || Expr::Acc(old);
        let beyond = v().binary(worse, Expr::Acc(0)).select(old(), new.clone());
        let behind_nan = if last { v().binary(BinaryFn::Equal, v()).select(old(), new) } else { old() };
        let is_number = Expr::Acc(0).binary(BinaryFn::Equal, Expr::Acc(0));
        Accumulator { init, fold: Fold::Replace, value: is_number.select(beyond, behind_nan) }
    };
    let start = if largest { f64::NEG_INFINITY } else { f64::INFINITY };
    let steps = vec![
        replaced(Constant::of(DType::F32, start), v(), 0),
        replaced(Constant::of(DType::F32, 0.0), index(), 1),
    ];
    for (accumulators, wanted) in [(rows, true), (steps, false)] {
        let draft = |numbered: &View, to: &View| {
            let operands = [x.clone(), numbered.clone()];
            NestDraft::reduce(&operands, to, reduced, accumulators.clone(), Expr::Acc(1))
        };
        let fits = |nest: &Nest| match nest.vectorised {
            Vectorised::Kernel => wanted,
            Vectorised::Loop { .. } => !wanted,
            _ => false,
        };
        if !draft(&numbered, &floats).schedule().iter().all(fits) {
            continue;
        }
        let tensor = Tensor::new([extent], &numbers()).map_err(nnc_ir::OpError::from)?;
        let table = l.constant(tensor);
        (numbered.arg, numbered.offset) = (table.arg, table.offset);
        let to = l.temp(DType::F32, &y.shape);
        l.push(draft(&numbered, &to))?;
        let cast = Expr::Operand(0).cast(DType::F32, DType::I64);
        l.push(NestDraft::map(&[to], y, cast))?;
        return Ok(true);
    }
    Ok(false)
}

/// `e^(x - m)`, where accumulator 0 is m.
fn power_of_row() -> Expr {
    Expr::Operand(0).sub(Expr::Acc(0)).unary(Unary::Exp)
}

/// A row's largest element, the sum of its powers, and a value made of both for each element, if rows are such that a kernel can do them.
fn powers_of_rows(
    l: &mut Lowering<'_>,
    x: &View,
    y: &View,
    reduced: &[usize],
    value: Expr,
) -> Result<bool, GenericError> {
    let largest = extreme(x.dtype, true, Expr::Operand(0));
    let total = then(sum(x.dtype, power_of_row()));
    l.push_rows(NestDraft::rows(std::slice::from_ref(x), y, reduced, vec![largest, total], value))
}

/// An accumulator behind those before it.
pub(super) fn then(accumulator: Accumulator) -> Accumulator {
    let fold = match accumulator.fold {
        Fold::With(f) | Fold::After(f) => Fold::After(f),
        as_is @ (Fold::Replace | Fold::Through | Fold::Before) => as_is,
    };
    Accumulator { fold, ..accumulator }
}

/// Softmax over an axis: `e^(x - m) / Σ e^(x - m)` with `m` the largest of the group.
pub(super) fn softmax(l: &mut Lowering<'_>, axis: usize) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let (grouped, reduced) = kept_first(&x, &[axis]);
    let (written, _) = kept_first(&y, &[axis]);
    let group = without(&y, &[axis]);
    let extent = reduced.first().copied().unwrap_or(1);
    let repeated = |v: &View| v.with_axis(v.rank(), extent);
    let share = Expr::constant(x.dtype, 1.0).div(Expr::Acc(1));
    if powers_of_rows(l, &grouped, &written, &reduced, power_of_row().mul(share))? {
        return Ok(());
    }
    let max = maxima(l, &grouped, &group, &reduced)?;
    let exp = Expr::Operand(0).sub(Expr::Operand(1)).unary(Unary::Exp);
    // The powers lie where the result will, but for half floats, which would round them.
    let powers = if computed(y.dtype) == y.dtype { written.clone() } else { l.temp(y.dtype, &written.shape) };
    l.push(NestDraft::map(&[grouped, repeated(&max)], &powers, exp))?;
    let total = l.temp(x.dtype, &group.shape);
    let sums = vec![sum(x.dtype, Expr::Operand(0))];
    l.push(NestDraft::reduce(std::slice::from_ref(&powers), &total, &reduced, sums, Expr::Acc(0)))?;
    let operands = [powers, repeated(&total)];
    l.push(NestDraft::map(&operands, &written, Expr::Operand(0).div(Expr::Operand(1))))
}

/// LogSoftmax over an axis: `x - m - ln Σ e^(x - m)`.
pub(super) fn log_softmax(l: &mut Lowering<'_>, axis: usize) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let (grouped, reduced) = kept_first(&x, &[axis]);
    let (written, _) = kept_first(&y, &[axis]);
    let group = without(&y, &[axis]);
    let extent = reduced.first().copied().unwrap_or(1);
    let repeated = |v: &View| v.with_axis(v.rank(), extent);
    let value = Expr::Operand(0).sub(Expr::Acc(0)).sub(Expr::Acc(1).unary(Unary::Log));
    if powers_of_rows(l, &grouped, &written, &reduced, value)? {
        return Ok(());
    }
    let max = maxima(l, &grouped, &group, &reduced)?;
    let terms = sum(x.dtype, Expr::Operand(0).sub(Expr::Operand(1)).unary(Unary::Exp));
    let log = l.temp(x.dtype, &group.shape);
    let operands = [grouped.clone(), max.clone()];
    l.push(NestDraft::reduce(&operands, &log, &reduced, vec![terms], Expr::Acc(0).unary(Unary::Log)))?;
    let value = Expr::Operand(0).sub(Expr::Operand(1)).sub(Expr::Operand(2));
    l.push(NestDraft::map(&[grouped, repeated(&max), repeated(&log)], &written, value))
}
