//! Resize: a gather for the nearest modes, else weighted sums over a few taps along each resized axis, one axis after the other.
//!
//! ```text
//!   rows[i, j] = Σ_s v[i, s] · x[row[i, s], j]        y[i, j] = Σ_t w[j, t] · rows[i, column[j, t]]
//! ```
//!
//! Rows and columns come from constant tables of byte offsets, weights are constant operands. Both were computed by
//! the operator itself, so that coordinates are those of the evaluator to the bit.

use std::ops::Mul;

use nnc_ir::op::{Resize, ResizeMode, ResizeTap};
use nnc_ir::{DType, Tensor};

use super::copy::{copy, part, picked, with_table};
use super::draft::NestDraft;
use super::reduce::sum;
use super::{GenericError, Lowering};
use crate::code::nest::{Expr, computed};
use crate::code::view::View;

pub(super) fn resize(l: &mut Lowering<'_>, op: &Resize) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    resampled(l, op, &x, &y)?;
    // What a crop has outside of the input was given some element or other; it is filled at last.
    let Some(crop) = &op.crop else { return Ok(()) };
    let value = Expr::constant(y.dtype, crop.extrapolation.into());
    for axis in 0..x.rank() {
        let outside = op.outside(axis, x.shape[axis]);
        for run in outside.chunk_by(|a, b| a + 1 == *b) {
            let Some(&first) = run.first() else { continue };
            let stripe = part(l, &y, axis, first, 1, run.len())?;
            l.push(NestDraft::map(&[], &stripe, value.clone()))?;
        }
    }
    Ok(())
}

fn resampled(l: &mut Lowering<'_>, op: &Resize, x: &View, y: &View) -> Result<(), GenericError> {
    let taps: Vec<_> = (0..x.rank()).map(|axis| op.taps(axis, x.shape[axis])).collect();
    // Axes along which every element is itself.
    let resized = |axis: &usize| {
        taps[*axis].len() != x.shape[*axis]
            || taps[*axis].iter().enumerate().any(|(i, t)| t.iter().any(|t| t.index != i && t.weight != 0.0))
    };
    let axes: Vec<usize> = (0..x.rank()).filter(resized).collect();
    if let ResizeMode::Nearest(_) = op.mode {
        let sources = |axis: usize| taps[axis].iter().filter_map(|t| t.first().map(|t| t.index)).collect();
        let axes: Vec<(usize, Vec<usize>)> = axes.iter().map(|&a| (a, sources(a))).collect();
        return picked(l, x, y, &axes);
    }
    // What makes the picture smaller comes first, then what goes along rows, which vectors do best.
    let mut order = axes;
    order.sort_by(|a, b| {
        let growth = |&axis: &usize| y.shape[axis] as f64 / x.shape[axis].max(1) as f64;
        growth(a).total_cmp(&growth(b))
    });
    let mut from = x.clone();
    for (i, &axis) in order.iter().enumerate() {
        let to = match i + 1 == order.len() {
            true => y.clone(),
            false => {
                let mut shape = from.shape.clone();
                shape[axis] = y.shape[axis];
                in_order_of(&from, &shape, |dense| l.temp(x.dtype, dense))
            }
        };
        along(l, axis, &taps[axis], &from, &to)?;
        from = to;
    }
    if order.is_empty() { copy(l, x, y) } else { Ok(()) }
}

/// Memory for a tensor of some shape, whose axes lie in each other as those of another one do.
fn in_order_of(like: &View, shape: &[usize], memory: impl FnOnce(&[usize]) -> View) -> View {
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.sort_by_key(|&axis| std::cmp::Reverse(like.strides[axis].unsigned_abs()));
    let dense = memory(&order.iter().map(|&axis| shape[axis]).collect::<Vec<usize>>());
    let place = |axis: usize| order.iter().position(|&a| a == axis).unwrap_or(axis);
    let strides = (0..shape.len()).map(|axis| dense.strides[place(axis)]).collect();
    View { shape: shape.to_vec(), strides, ..dense }
}

/// Weighted sums along one axis. Elements whose taps are neighbours are apart from those at the border, whose taps are not.
fn along(
    l: &mut Lowering<'_>,
    axis: usize,
    taps: &[Vec<ResizeTap>],
    from: &View,
    to: &View,
) -> Result<(), GenericError> {
    let most = taps.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let is_run = |t: &Vec<ResizeTap>| t.len() == most && t.windows(2).all(|w| w[0].index + 1 == w[1].index);
    let mut start = 0;
    for run in taps.chunk_by(|a, b| is_run(a) == is_run(b)) {
        let neighbours = run.first().is_some_and(is_run);
        let to = part(l, to, axis, start, 1, run.len())?;
        let draft = weighted(l, axis, run, neighbours, from, &to)?;
        l.push(draft)?;
        start += run.len();
    }
    Ok(())
}

/// `to[…, j, …] = Σ_t w[j, t] · from[…, index[j, t], …]`, with the first index alone in a table where the others follow it.
fn weighted(
    l: &mut Lowering<'_>,
    axis: usize,
    taps: &[Vec<ResizeTap>],
    neighbours: bool,
    from: &View,
    to: &View,
) -> Result<NestDraft, GenericError> {
    let (rank, stride) = (to.rank(), from.strides[axis]);
    let count = taps.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let (mut offsets, mut weights) = (Vec::new(), Vec::new());
    for element in taps {
        for tap in 0..count {
            // Elements of fewer taps have the rest with weight 0, at an index that counts.
            let (index, weight) = match (element.get(tap), element.first()) {
                (Some(t), _) => (t.index, t.weight),
                (None, first) => (first.map_or(0, |t| t.index), 0.0),
            };
            let offset = i64::try_from(index).ok().and_then(|i| i.checked_mul(stride));
            let offset = offset.and_then(|o| i32::try_from(o).ok());
            if tap == 0 || !neighbours {
                offsets.push(offset.ok_or_else(|| l.unsupported("tensors of more than 2 GiB"))?);
            }
            weights.push(weight);
        }
    }
    let dtype = computed(from.dtype);
    let tensor = match dtype {
        DType::F64 => Tensor::new([weights.len()], &weights),
        _ => Tensor::new([weights.len()], &weights.iter().map(|&w| w as f32).collect::<Vec<f32>>()),
    };
    let mut weight = l.constant(tensor.map_err(nnc_ir::OpError::from)?);
    let size = dtype.bytes() as i64;
    let mut read = View { shape: [&to.shape[..], &[count]].concat(), ..from.clone() };
    read.strides[axis] = 0;
    read.strides.push(if neighbours { stride } else { 0 });
    weight.shape = read.shape.clone();
    weight.strides = vec![0; rank + 1];
    (weight.strides[axis], weight.strides[rank]) = (size * count as i64, size);
    let value = Expr::Operand(0).mul(Expr::Operand(1));
    let draft = NestDraft::reduce(&[read, weight], to, &[count], vec![sum(dtype, value)], Expr::Acc(0));
    let steps: &[(usize, i64)] =
        if neighbours { &[(axis, 4)] } else { &[(axis, 4 * count as i64), (rank, 4)] };
    with_table(l, draft, 0, &offsets, steps, rank + 1)
}
