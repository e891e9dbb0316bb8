//! Convolutions and pools of any rank: a reduction over the taps of a window.
//!
//! A tap outside of the image is not visited: each kernel axis whose window may hang over the border gets a
//! [`Bound`] by the loop over its positions, so padding costs nothing and is never stored.

use std::ops::{Add, Div, Mul, Sub};

use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::{
    Conv, Epilogue, GlobalPool, IntegerConv, Pool, PoolKind, Prologue, Residual, Unary, Window,
};
use nnc_ir::{DType, Tensor};

use super::draft::{NestDraft, folded};
use super::norm::per_channel;
use super::reduce::{extreme, kept_first, sum, without};
use super::{GenericError, Lowering};
use crate::code::nest::{Accumulator, Bound, Expr, computed};
use crate::code::view::View;

/// How many output elements a weight must serve before it is worth laying it out anew.
const WORTH_PACKING: usize = 16;

/// Appends to a list of operands and names the new one.
pub(super) fn push(operands: &mut Vec<View>, v: View) -> Expr {
    operands.push(v);
    Expr::Operand(operands.len() - 1)
}

/// `x` after its prologue; `scale` and `shift` are views over the same axes.
fn prologued(
    l: &Lowering<'_>,
    prologue: &Prologue,
    operands: &mut Vec<View>,
    x: Expr,
    [scale, shift]: [usize; 2],
    view: impl Fn(&View) -> View,
) -> Result<Expr, GenericError> {
    let mut value = x;
    if prologue.affine {
        let (scale, shift) = (view(&l.input(scale)?), view(&l.input(shift)?));
        value = value.mul(push(operands, scale)).add(push(operands, shift));
    }
    Ok(value.activated(prologue.activation))
}

/// A result after its epilogue; `view` shapes the residual like the result.
fn epilogued(
    l: &Lowering<'_>,
    epilogue: &Epilogue,
    operands: &mut Vec<View>,
    value: Expr,
    residual: usize,
    view: impl Fn(&View) -> View,
) -> Result<Expr, GenericError> {
    let Some(place) = epilogue.residual else { return Ok(value.activated(epilogue.activation)) };
    let residual = push(operands, view(&l.input(residual)?));
    Ok(with_residual(place, epilogue, value, residual))
}

fn with_residual(place: Residual, epilogue: &Epilogue, value: Expr, residual: Expr) -> Expr {
    match place {
        Residual::BeforeActivation => value.add(residual).activated(epilogue.activation),
        Residual::AfterActivation => value.activated(epilogue.activation).add(residual),
    }
}

/// Bounds of the kernel axes whose taps may lie outside of an image, by loop `first_axis + axis`.
fn bounds(window: &Window, image: &[usize], positions: &[usize], first_axis: usize) -> Vec<Option<Bound>> {
    (0..image.len())
        .map(|axis| {
            let (scale, step) = (window.strides[axis] as i64, window.dilations[axis] as i64);
            let base = -(window.pads_begin[axis] as i64);
            let extent = image[axis] as i64;
            let last = base + (positions[axis] as i64 - 1) * scale + (window.kernel[axis] as i64 - 1) * step;
            let inside = base >= 0 && last < extent;
            (!inside).then_some(Bound { axis: first_axis + axis, scale, step, base, extent })
        })
        .collect()
}

/// The spatial axes of `x` seen by positions and taps: offset, strides of positions, strides of taps.
fn slid(x: &View, window: &Window) -> (i64, Vec<i64>, Vec<i64>) {
    let spatial = &x.strides[2..];
    let offset = (spatial.iter().zip(&window.pads_begin)).fold(x.offset, |o, (s, &p)| o - s * p as i64);
    let by = |factors: &[usize]| spatial.iter().zip(factors).map(|(s, &f)| s * f as i64).collect();
    (offset, by(&window.strides), by(&window.dilations))
}

/// A convolution's window over [N, groups, M / groups, positions…], and its reduction [taps…, C / groups].
struct Convolved {
    /// Loops of the result.
    shape: Vec<usize>,
    /// The same, and those of the reduction.
    all: Vec<usize>,
    /// Results, and channels, of a group.
    out: usize,
    inner: usize,
}

impl Convolved {
    /// One element for each result channel, over the loops of the result.
    fn per_result(&self, v: &View) -> View {
        let s = v.strides.first().copied().unwrap_or(0);
        let mut strides = vec![0; self.shape.len()];
        (strides[1], strides[2]) = (s * self.out as i64, s);
        View { shape: self.shape.clone(), strides, ..*v }
    }

    /// One element for each channel, over all loops.
    fn per_channel(&self, v: &View) -> View {
        let s = v.strides.first().copied().unwrap_or(0);
        let mut strides = vec![0; self.all.len()];
        (strides[1], strides[self.all.len() - 1]) = (s * self.inner as i64, s);
        View { shape: self.all.clone(), strides, ..*v }
    }
}

/// The nest of a convolution: `term` says what is summed up, in elements of `sums`, of operands 0 (`x`) and 1 (`w`), and `value` what a
/// result is of the sum.
fn convolved(
    l: &mut Lowering<'_>,
    (window, groups): (&Window, usize),
    sums: DType,
    term: impl FnOnce(&Lowering<'_>, &Convolved, &mut Vec<View>) -> Result<Expr, GenericError>,
    value: impl FnOnce(&Lowering<'_>, &Convolved, &mut Vec<View>) -> Result<Expr, GenericError>,
) -> Result<(), GenericError> {
    let (x, mut w, y) = (l.input(Conv::X)?, l.input(Conv::W)?, l.output()?);
    let (image, positions) = (x.shape[2..].to_vec(), y.shape[2..].to_vec());
    let (out, inner) = (y.shape[1] / groups, w.shape[1]);
    let spatial = image.len();
    let pixels = y.shape[0] * positions.iter().product::<usize>();

    // Weights as [groups, M / groups, C / groups, taps…].
    w = grouped(&w, 0, groups);
    if y.strides[1].abs() <= y.strides.last().copied().unwrap_or(0).abs() && pixels >= WORTH_PACKING {
        w = packed(l, &w)?;
    }
    let shape = [&[y.shape[0], groups, out], &positions[..]].concat();
    let all = [&shape[..], &window.kernel, &[inner]].concat();
    let (offset, by_position, by_tap) = slid(&x, window);
    let group_stride = x.strides[1] * inner as i64;
    let from = View {
        arg: x.arg,
        offset,
        dtype: x.dtype,
        shape: all.clone(),
        strides: [&[x.strides[0], group_stride, 0], &by_position[..], &by_tap, &[x.strides[1]]].concat(),
    };
    let weights = View {
        shape: all.clone(),
        strides: [&[0, w.strides[0], w.strides[1]], &vec![0; spatial][..], &w.strides[3..], &[w.strides[2]]]
            .concat(),
        ..w
    };
    let over = Convolved { shape, all, out, inner };
    let mut operands = vec![from, weights];
    let terms = vec![sum(sums, term(l, &over, &mut operands)?)];
    let value = value(l, &over, &mut operands)?;
    let reduced = [&window.kernel[..], &[inner]].concat();
    let mut draft = NestDraft::reduce(&operands, &grouped(&y, 1, groups), &reduced, terms, value);
    for (axis, bound) in bounds(window, &image, &positions, 3).into_iter().enumerate() {
        if let Some(bound) = bound {
            draft = draft.bounded(axis, bound);
        }
    }
    // The channels go innermost where they lie closest.
    let channels_first = spatial > 0 && x.strides[1].abs() > x.strides[x.rank() - 1].abs();
    if channels_first {
        draft = draft.with_reduction_first(spatial);
    }
    l.push(draft)
}

/// Windows of a plane below which channels fill vectors better than columns do.
const SMALL_PLANE: usize = 128;

/// A convolution of each channel by itself whose operand and result lie plane by plane, where a nest of windows does it. As images have
/// channels innermost, it would be between two copies, which take longer than itself.
pub(in crate::plan) fn weighs_planes(op: &Conv, operands: &[Option<View>], y: &View) -> bool {
    weighed(op, operands, y).is_some()
}

/// Loops [N, channels of x, results of each, positions…], reduction [taps…].
fn weighed(op: &Conv, operands: &[Option<View>], y: &View) -> Option<NestDraft> {
    let view = |index: usize| operands.get(index).and_then(Option::as_ref);
    let (x, w) = (view(Conv::X)?, view(Conv::W)?);
    if !op.prologue.is_none() || w.shape[1] != 1 || op.groups != x.shape[1] {
        return None;
    }
    let (image, positions) = (&x.shape[2..], &y.shape[2..]);
    if positions.iter().product::<usize>() < SMALL_PLANE {
        return None;
    }
    let y = grouped(y, 1, op.groups);
    let all = [&y.shape[..], &op.window.kernel].concat();
    let (offset, by_position, by_tap) = slid(x, &op.window);
    let strides = [&[x.strides[0], x.strides[1], 0], &by_position[..], &by_tap].concat();
    let from = View { arg: x.arg, offset, dtype: x.dtype, shape: all.clone(), strides };
    let out = y.shape[2] as i64;
    let per_result = |s: i64, taps: &[i64]| [&[0, s * out, s], &vec![0; positions.len()][..], taps].concat();
    let strides = per_result(w.strides[0], &w.strides[2..]);
    let mut operands = vec![from, View { shape: all, strides, ..w.clone() }];
    let mut value = Expr::Acc(0);
    if let Some(b) = view(Conv::B) {
        let strides = per_result(b.strides.first().copied().unwrap_or(0), &[]);
        value = value.add(push(&mut operands, View { shape: y.shape.clone(), strides, ..b.clone() }));
    }
    value = match op.epilogue.residual {
        Some(place) => {
            let residual = push(&mut operands, grouped(view(Conv::RESIDUAL)?, 1, op.groups));
            with_residual(place, &op.epilogue, value, residual)
        }
        None => value.activated(op.epilogue.activation),
    };
    let terms = vec![sum(y.dtype, Expr::Operand(0).mul(Expr::Operand(1)))];
    let mut draft = NestDraft::reduce(&operands, &y, &op.window.kernel, terms, value);
    for (axis, bound) in bounds(&op.window, image, positions, 3).into_iter().enumerate() {
        if let Some(bound) = bound {
            draft = draft.bounded(axis, bound);
        }
    }
    draft.over_windows()
}

pub(super) fn conv(l: &mut Lowering<'_>, op: &Conv) -> Result<(), GenericError> {
    let operands: Vec<Option<View>> = (0..=Conv::RESIDUAL).map(|index| l.optional(index)).collect();
    if let Some(draft) = weighed(op, &operands, &l.output()?) {
        return l.push(draft);
    }
    let dtype = l.output()?.dtype;
    let term = |l: &Lowering<'_>, over: &Convolved, operands: &mut Vec<View>| {
        let affine = [Conv::SCALE, Conv::SHIFT];
        let x = prologued(l, &op.prologue, operands, Expr::Operand(0), affine, |v| over.per_channel(v))?;
        Ok(x.mul(Expr::Operand(1)))
    };
    let value = |l: &Lowering<'_>, over: &Convolved, operands: &mut Vec<View>| {
        let mut value = Expr::Acc(0);
        if let Some(b) = l.optional(Conv::B) {
            value = value.add(push(operands, over.per_result(&b)));
        }
        epilogued(l, &op.epilogue, operands, value, Conv::RESIDUAL, |v| grouped(v, 1, op.groups))
    };
    convolved(l, (&op.window, op.groups), dtype, term, value)
}

/// Sums in `i32`, and what becomes of them. The product with the scale is exact in `f64`, so that its sum with the shift is rounded as one
/// fused multiply-add rounds it.
pub(super) fn integer_conv(l: &mut Lowering<'_>, op: &IntegerConv) -> Result<(), GenericError> {
    let from = l.input(IntegerConv::X)?.dtype;
    let result = op.result;
    let term = |_: &Lowering<'_>, _: &Convolved, _: &mut Vec<View>| {
        let zero = Expr::constant(DType::I32, op.x_zero.into());
        let x = Expr::Operand(0).cast(from, DType::I32).sub(zero);
        Ok(x.mul(Expr::Operand(1).cast(DType::I8, DType::I32)))
    };
    let value = |l: &Lowering<'_>, over: &Convolved, operands: &mut Vec<View>| {
        let mut parameter = |index: usize| l.optional(index).map(|v| push(operands, over.per_result(&v)));
        let mut value = Expr::Acc(0);
        if let Some(bias) = parameter(IntegerConv::BIAS) {
            value = value.add(bias);
        }
        let Some(scale) = parameter(IntegerConv::SCALE) else { return Ok(value) };
        let mut real = value.cast(DType::I32, DType::F32).cast(DType::F32, DType::F64);
        real = real.mul(scale.cast(DType::F32, DType::F64));
        if let Some(shift) = parameter(IntegerConv::SHIFT) {
            real = real.add(shift.cast(DType::F32, DType::F64));
        }
        let real = real.cast(DType::F64, DType::F32);
        if !result.is_steps() {
            return Ok(real);
        }
        let step = real.unary(Unary::Round).add(Expr::constant(DType::F32, result.zero.into()));
        let bounds = Unary::Clip { min: result.low as f32, max: result.high as f32 };
        Ok(step.unary(bounds).cast(DType::F32, result.to))
    };
    convolved(l, (&op.window, op.groups), DType::I32, term, value)
}

/// Axis `axis`, of extent `groups · n`, as two; of no groups, none has an element.
pub(super) fn grouped(v: &View, axis: usize, groups: usize) -> View {
    let mut v = v.clone();
    let inner = v.shape[axis].checked_div(groups).unwrap_or(0);
    v.shape[axis] = inner;
    v.shape.insert(axis, groups);
    v.strides.insert(axis, v.strides[axis] * inner as i64);
    v
}

/// Weights [groups, out, in, taps…] copied so that neighbours along the axis that goes in vectors lie together: the
/// outputs of a group, or the groups where each has one output.
pub(super) fn packed(l: &mut Lowering<'_>, w: &View) -> Result<View, GenericError> {
    let lanes = if w.shape[1] > 1 { 1 } else { 0 };
    if w.strides[lanes] == w.dtype.bytes() as i64 || w.shape[lanes] < 4 {
        return Ok(w.clone());
    }
    // Dense as [the other, taps…, in, lanes].
    let order: Vec<usize> = [1 - lanes].into_iter().chain(3..w.rank()).chain([2, lanes]).collect();
    let shape: Vec<usize> = order.iter().map(|&a| w.shape[a]).collect();
    let dense = l.temp(w.dtype, &shape);
    let mut strides = vec![0; w.rank()];
    order.iter().zip(&dense.strides).for_each(|(&axis, &stride)| strides[axis] = stride);
    let packed = View { shape: w.shape.clone(), strides, ..dense };
    super::copy::copy(l, w, &packed)?;
    Ok(packed)
}

/// What a pool does with the elements of a window: accumulated value, and the result of the accumulator.
fn reduction(kind: PoolKind, dtype: DType, x: Expr) -> (Accumulator, Expr) {
    match kind {
        PoolKind::Max => (extreme(dtype, true, x), Expr::Acc(0)),
        PoolKind::Average { .. } => (sum(dtype, x), Expr::Acc(0)),
        PoolKind::Lp { p: 1 } => (sum(dtype, x.unary(Unary::Abs)), Expr::Acc(0)),
        PoolKind::Lp { p: 2 } => (sum(dtype, x.clone().mul(x)), Expr::Acc(0).unary(Unary::Sqrt)),
        PoolKind::Lp { p } => {
            let to = |e: Expr, p: f64| e.binary(BinaryFn::Pow, Expr::constant(dtype, p));
            let terms = folded(BinaryFn::Add, dtype, 0.0, to(x.unary(Unary::Abs), p.into()));
            (terms, to(Expr::Acc(0), 1.0 / f64::from(p)))
        }
    }
}

/// For each position of an axis, how many taps count in an average: those inside of the image, and padding where
/// `count_include_pad` says so, but never what hangs over because of `ceil_mode`.
fn counts(op: &Pool, axis: usize, extent: usize, positions: usize) -> Vec<f64> {
    let window = &op.window;
    let pads = match op.kind {
        PoolKind::Average { count_include_pad: true } => {
            let end = window.pads_end[axis] as i64 - op.ceil_pads[axis] as i64;
            ((window.pads_begin[axis] as i64).max(0), end.max(0))
        }
        PoolKind::Average { count_include_pad: false } | PoolKind::Max | PoolKind::Lp { .. } => (0, 0),
    };
    let bound = Bound {
        axis: 0,
        scale: window.strides[axis] as i64,
        step: window.dilations[axis] as i64,
        base: pads.0 - window.pads_begin[axis] as i64,
        extent: extent as i64 + pads.0 + pads.1,
    };
    (0..positions as i64)
        .map(|p| {
            let taps = bound.range(p, window.kernel[axis] as i64);
            (taps.end - taps.start) as f64
        })
        .collect()
}

/// A pool's operand, with an axis for each tap.
fn seen(x: &View, y: &View, window: &Window) -> View {
    let (offset, by_position, by_tap) = slid(x, window);
    let strides = [&x.strides[..2], &by_position, &by_tap].concat();
    View { arg: x.arg, offset, dtype: x.dtype, shape: [&y.shape[..], &window.kernel].concat(), strides }
}

/// A pool whose operand and result lie plane by plane, where a nest of windows does it.
///
/// As images have channels innermost, such a pool would be between two copies, which take longer than itself.
pub(in crate::plan) fn pools_planes(op: &Pool, x: &View, y: &View) -> bool {
    let mut constant = |tensor: Tensor| View::dense(usize::MAX, tensor.dtype(), tensor.shape().to_vec());
    over_planes(op, x, y, &mut constant).is_some()
}

fn over_planes(op: &Pool, x: &View, y: &View, constant: &mut dyn FnMut(Tensor) -> View) -> Option<NestDraft> {
    if op.prologue.affine || op.epilogue.residual.is_some() || y.is_empty() {
        return None;
    }
    let (image, positions) = (&x.shape[2..], &y.shape[2..]);
    let mut operands = vec![seen(x, y, &op.window)];
    let value = Expr::Operand(0).activated(op.prologue.activation);
    let (accumulator, mut value) = reduction(op.kind, y.dtype, value);
    if let PoolKind::Average { .. } = op.kind {
        value = value.div(divisor(op, image, positions, y, &mut operands, constant).ok()?);
    }
    let value = value.activated(op.epilogue.activation);
    let mut draft = NestDraft::reduce(&operands, y, &op.window.kernel, vec![accumulator], value);
    for (axis, bound) in bounds(&op.window, image, positions, 2).into_iter().enumerate() {
        if let Some(bound) = bound {
            draft = draft.bounded(axis, bound);
        }
    }
    draft.over_windows()
}

/// Loops [N, C, positions…], reduction [taps…].
pub(super) fn pool(l: &mut Lowering<'_>, op: &Pool) -> Result<(), GenericError> {
    let (x, y) = (l.input(Pool::X)?, l.output()?);
    if pools_planes(op, &x, &y)
        && let Some(draft) = over_planes(op, &x, &y, &mut |tensor| l.constant(tensor))
    {
        return l.push(draft);
    }
    let window = &op.window;
    let (image, positions) = (x.shape[2..].to_vec(), y.shape[2..].to_vec());
    let all = [&y.shape[..], &window.kernel].concat();
    let mut operands = vec![seen(&x, &y, window)];
    let value =
        prologued(l, &op.prologue, &mut operands, Expr::Operand(0), [Pool::SCALE, Pool::SHIFT], |v| {
            per_channel(v, &all)
        })?;
    let (accumulator, mut value) = reduction(op.kind, y.dtype, value);
    if let PoolKind::Average { .. } = op.kind {
        let mut constant = |tensor| l.constant(tensor);
        value = value.div(divisor(op, &image, &positions, &y, &mut operands, &mut constant)?);
    }
    let value = epilogued(l, &op.epilogue, &mut operands, value, Pool::RESIDUAL, View::clone)?;
    let mut draft = NestDraft::reduce(&operands, &y, &window.kernel, vec![accumulator], value);
    for (axis, bound) in bounds(window, &image, &positions, 2).into_iter().enumerate() {
        if let Some(bound) = bound {
            draft = draft.bounded(axis, bound);
        }
    }
    l.push(draft)
}

/// The number of taps that count: a constant, times a table along each axis where it varies.
fn divisor(
    op: &Pool,
    image: &[usize],
    positions: &[usize],
    y: &View,
    operands: &mut Vec<View>,
    constant: &mut dyn FnMut(Tensor) -> View,
) -> Result<Expr, GenericError> {
    let dtype = computed(y.dtype);
    let mut uniform = 1.0;
    let mut varying = Vec::new();
    for axis in 0..image.len() {
        let counts = counts(op, axis, image[axis], positions[axis]);
        match counts.first() {
            Some(&first) if counts.iter().all(|&c| c == first) => uniform *= first,
            _ => varying.push((axis, counts)),
        }
    }
    if varying.is_empty() {
        return Ok(Expr::constant(dtype, f64::max(uniform, 1.0)));
    }
    let mut count = Expr::constant(dtype, uniform);
    for (axis, counts) in varying {
        let tensor = match dtype {
            DType::F64 => Tensor::new([counts.len()], &counts),
            _ => Tensor::new([counts.len()], &counts.iter().map(|&c| c as f32).collect::<Vec<f32>>()),
        };
        let table = constant(tensor.map_err(nnc_ir::OpError::from)?);
        let mut strides = vec![0; y.rank()];
        strides[2 + axis] = dtype.bytes() as i64;
        count = count.mul(push(operands, View { shape: y.shape.clone(), strides, ..table }));
    }
    Ok(count.binary(BinaryFn::Max, Expr::constant(dtype, 1.0)))
}

pub(super) fn global_pool(l: &mut Lowering<'_>, op: &GlobalPool) -> Result<(), GenericError> {
    let (x, y) = (l.input(GlobalPool::X)?, l.output()?);
    let axes: Vec<usize> = (2..x.rank()).collect();
    let (grouped, reduced) = kept_first(&x, &axes);
    let shape = grouped.shape.clone();
    let mut operands = vec![grouped];
    let channels = [GlobalPool::SCALE, GlobalPool::SHIFT];
    let value =
        prologued(l, &op.prologue, &mut operands, Expr::Operand(0), channels, |v| per_channel(v, &shape))?;
    let (accumulator, mut value) = reduction(op.kind, y.dtype, value);
    if let PoolKind::Average { .. } = op.kind {
        value = value.div(Expr::constant(y.dtype, reduced.iter().fold(1.0, |n, &d| n * d as f64)));
    }
    let value = value.activated(op.activation);
    l.push(NestDraft::reduce(&operands, &without(&y, &axes), &reduced, vec![accumulator], value))
}
