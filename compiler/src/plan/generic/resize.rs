//! Resize: a gather for the nearest modes, else weighted sums over a few taps along each resized axis, one axis after the other.
//!
//! ```text
//!   rows[i, j] = Σ_s v[i, s] · x[row[i, s], j]        y[i, j] = Σ_t w[j, t] · rows[i, column[j, t]]
//! ```
//!
//! Where neighbours along a row are neighbours in memory, that is one step for rows and columns of a plane.
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
use crate::code::float::Float;
use crate::code::nest::{Expr, MOST_TAPS, Vectorised, computed, reach};
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
    let planes = as_planes(&taps, x, y).filter(|_| order.contains(&(x.rank() - 1)));
    if planes.is_some() {
        // They go last, and together.
        order.sort_by_key(|&axis| axis + 2 >= x.rank());
    }
    let mut from = x.clone();
    for (i, &axis) in order.iter().enumerate() {
        if let Some(vectorised) = planes.filter(|_| axis + 2 >= x.rank())
            && let Some(draft) = over_planes(l, &taps, &from, y, vectorised)?
        {
            return l.push(draft);
        }
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

/// The taps of elements along an axis, each with as many, in a table that goes on by element, or by tap.
struct AxisTaps {
    offsets: Vec<i32>,
    weights: Vec<f32>,
    count: usize,
    /// Bytes from an entry to that of the next element, and of the next tap.
    step: i64,
    tap: i64,
}

impl AxisTaps {
    fn of(taps: &[Vec<ResizeTap>], stride: i64, by_tap: bool) -> Option<AxisTaps> {
        let count = taps.iter().map(Vec::len).max().unwrap_or(1).max(1);
        // Elements of fewer taps have the rest with weight 0, at an index that counts.
        let nothing =
            |element: &[ResizeTap]| ResizeTap { index: element.first().map_or(0, |t| t.index), weight: 0.0 };
        let tap =
            |element: &Vec<ResizeTap>, tap: usize| element.get(tap).copied().unwrap_or(nothing(element));
        let all: Vec<ResizeTap> = match by_tap {
            true => (0..count).flat_map(|t| taps.iter().map(move |element| tap(element, t))).collect(),
            false => taps.iter().flat_map(|element| (0..count).map(move |t| tap(element, t))).collect(),
        };
        let offset = |t: &ResizeTap| i32::try_from(i64::try_from(t.index).ok()?.checked_mul(stride)?).ok();
        let (step, tap) = if by_tap { (4, 4 * taps.len() as i64) } else { (4 * count as i64, 4) };
        let offsets = all.iter().map(offset).collect::<Option<_>>()?;
        Some(AxisTaps { offsets, weights: all.iter().map(|t| t.weight as f32).collect(), count, step, tap })
    }
}

/// How rows and columns of planes, the last two axes, are resampled in one step, if strides and taps allow it.
fn as_planes(taps: &[Vec<Vec<ResizeTap>>], x: &View, y: &View) -> Option<Vectorised> {
    let columns = x.rank().checked_sub(1).filter(|&columns| columns > 0)?;
    let rows = columns - 1;
    let size = Float::of(x.dtype)?.span(1);
    let outside = (0..rows).all(|a| y.shape[a] <= 1 || y.strides[a].abs() > y.strides[rows].abs());
    let many = [rows, columns].iter().any(|&axis| taps[axis].iter().any(|t| t.len() > MOST_TAPS));
    if !outside || many || (x.strides[columns], y.strides[columns]) != (size, size) {
        return None;
    }
    let seen = |element: &Vec<ResizeTap>| element.iter().map(|t| t.index).collect();
    let reach = reach(&taps[columns].iter().map(seen).collect::<Vec<Vec<usize>>>())?;
    Some(Vectorised::Resampled { reach })
}

/// `y[i, j] = Σ_s Σ_t v[i, s] · w[j, t] · x[row[i, s], column[j, t]]` over the last two axes.
fn over_planes(
    l: &mut Lowering<'_>,
    taps: &[Vec<Vec<ResizeTap>>],
    x: &View,
    y: &View,
    vectorised: Vectorised,
) -> Result<Option<NestDraft>, GenericError> {
    let (rows, columns) = (x.rank() - 2, x.rank() - 1);
    let taps = [rows, columns].map(|axis| AxisTaps::of(&taps[axis], x.strides[axis], axis == columns));
    let [Some(of_rows), Some(of_columns)] = taps else { return Ok(None) };
    let rank = x.rank() + 2;
    let counts = [of_rows.count, of_columns.count];
    let mut read = View { shape: [&y.shape[..], &counts].concat(), ..x.clone() };
    read.strides[rows..].fill(0);
    read.strides.resize(rank, 0);
    let mut operands = vec![read.clone()];
    for (axis, taps) in [(rows, &of_rows), (columns, &of_columns)] {
        let weights = Tensor::new([taps.weights.len()], &taps.weights[..]).map_err(nnc_ir::OpError::from)?;
        let mut strides = vec![0; rank];
        (strides[axis], strides[axis + 2]) = (taps.step, taps.tap);
        operands.push(View { shape: read.shape.clone(), strides, ..l.constant(weights) });
    }
    let value = Expr::Operand(0) * (Expr::Operand(1) * Expr::Operand(2));
    let mut draft = NestDraft::reduce(&operands, y, &counts, vec![sum(DType::F32, value)], Expr::Acc(0));
    for (axis, taps) in [(rows, &of_rows), (columns, &of_columns)] {
        let steps = [(axis, taps.step), (axis + 2, taps.tap)];
        draft = with_table(l, draft, 0, &taps.offsets, &steps, rank)?;
    }
    Ok(draft.over_planes(vectorised))
}
