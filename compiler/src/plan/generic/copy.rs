//! Operators that move elements and compute nothing.
//!
//! Where a view can say the movement (transpose, slice, expand, most reshapes) one nest copies from view to view.
//! Irregular indices are cut into runs of constant step, one nest each; where that gives too many, a constant table
//! of byte offsets takes the place of the strides.

use nnc_ir::op::shape::{AxisSlice, ChannelSelect, Gather, Pad, PadMode, Split};
use nnc_ir::{DType, Tensor};

use super::draft::NestDraft;
use super::{GenericError, Lowering};
use crate::code::nest::{Expr, LANES};
use crate::code::view::View;

/// Nests into which one copy may fall apart before tables are used.
const MAX_PIECES: usize = 16;

/// `to = from`, of the same shape.
pub(super) fn copy(l: &mut Lowering<'_>, from: &View, to: &View) -> Result<(), GenericError> {
    l.push(NestDraft::map(std::slice::from_ref(from), to, Expr::Operand(0)))
}

/// The fewest channels that are worth a copy in which they lie side by side.
const CHANNELS: usize = 8;

/// An image whose channels lie side by side: itself, or a copy. Who reads the same place of each channel then reads vectors.
pub(super) fn channels_innermost(l: &mut Lowering<'_>, x: &View) -> Result<View, GenericError> {
    let to = innermost_memory(l, x);
    if to != *x {
        copy(l, x, &to)?;
    }
    Ok(to)
}

/// Memory of the shape of an image, with its channels side by side: that of the image where they are, or too few.
pub(super) fn innermost_memory(l: &mut Lowering<'_>, x: &View) -> View {
    let rank = x.rank();
    if rank < 3 || x.shape[1] < CHANNELS || x.strides[1] == x.dtype.bytes() as i64 {
        return x.clone();
    }
    let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    let dense = l.temp(x.dtype, &order.iter().map(|&axis| x.shape[axis]).collect::<Vec<usize>>());
    let back: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    dense.permuted(&back).unwrap_or_else(|| x.clone())
}

/// The fewest elements that are worth a copy of their own.
const TURNED_ELEMENTS: usize = 1024;

/// A map whose operands lie in another order than its result: what is smaller is copied, so that all of the map goes in vectors. Blocks
/// turn fast.
///
/// ```text
///   u8 pixels of channels ─▶ f32 planes        turned: u8 pixels ─▶ u8 planes,  then u8 ─▶ f32, row by row
///   f32 pixels of channels ─▶ u8 planes        f32 ─▶ u8, pixel by pixel,       then turned: u8 pixels ─▶ u8 planes
/// ```
pub(super) fn map(
    l: &mut Lowering<'_>,
    operands: Vec<View>,
    y: &View,
    value: Expr,
) -> Result<(), GenericError> {
    let whole: Vec<&View> = operands.iter().filter(|x| !x.repeats()).collect();
    let bytes: usize = whole.iter().map(|x| x.dtype.bytes()).sum();
    if let Some(&first) = whole.first()
        && whole.iter().all(|x| is_turned(x, y))
        && y.dtype.bytes() <= bytes.min(4)
    {
        let to = memory_like(l, y.dtype, first)?;
        l.push(NestDraft::map(&operands, &to, value))?;
        return copy(l, &to, y);
    }
    let mut aligned = Vec::new();
    for x in operands {
        if x.dtype.bytes() > 4 || !is_turned(&x, y) {
            aligned.push(x);
            continue;
        }
        let copied = memory_like(l, x.dtype, y)?;
        copy(l, &x, &copied)?;
        aligned.push(copied);
    }
    l.push(NestDraft::map(&aligned, y, value))
}

/// Whether neighbours of one view are far from each other in another one, which has its own along another axis.
fn is_turned(x: &View, y: &View) -> bool {
    let innermost = |view: &View| {
        let size = view.dtype.bytes() as i64;
        (0..y.rank()).find(|&axis| y.shape[axis] > 1 && view.strides[axis] == size)
    };
    match (innermost(x), innermost(y)) {
        (Some(of_x), Some(of_y)) => {
            of_x != of_y
                && [of_x, of_y].iter().all(|&axis| y.shape[axis] >= LANES)
                && !x.repeats()
                && y.shape.iter().product::<usize>() >= TURNED_ELEMENTS
        }
        _ => false,
    }
}

/// Dense memory whose elements are in the order of those of a view.
fn memory_like(l: &mut Lowering<'_>, dtype: DType, view: &View) -> Result<View, GenericError> {
    let mut order: Vec<usize> = (0..view.rank()).collect();
    order.sort_by_key(|&axis| std::cmp::Reverse(view.strides[axis].unsigned_abs()));
    let extents: Vec<usize> = order.iter().map(|&axis| view.shape[axis]).collect();
    let mut places = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &axis)| places[axis] = place);
    l.temp_of(dtype, &extents).permuted(&places).ok_or_else(|| l.misfit("no permutation of the axes"))
}

/// The bytes of an operand, seen as elements of another type.
pub(super) fn bit_cast(l: &mut Lowering<'_>, to: DType) -> Result<(), GenericError> {
    let x = View { dtype: to, ..l.input(0)? };
    copy(l, &x, &l.output()?)
}

pub(super) fn reshape(l: &mut Lowering<'_>) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    reshaped_copy(l, &x, &y)
}

/// Copies elements in row-major order between views of different shapes.
fn reshaped_copy(l: &mut Lowering<'_>, x: &View, y: &View) -> Result<(), GenericError> {
    if let Some(x) = x.reshaped(&y.shape) {
        return copy(l, &x, y);
    }
    if let Some(y) = y.reshaped(&x.shape) {
        return copy(l, x, &y);
    }
    if let Some(shape) = refined(&x.shape, &y.shape)
        && let (Some(x), Some(y)) = (x.reshaped(&shape), y.reshaped(&shape))
    {
        return copy(l, &x, &y);
    }
    // The axes of one cut through those of the other: by way of a dense tensor, which has every shape.
    let dense = l.temp(x.dtype, &x.shape);
    copy(l, x, &dense)?;
    match dense.reshaped(&y.shape) {
        Some(dense) => copy(l, &dense, y),
        None => Err(l.misfit("the elements do not fill the result")),
    }
}

/// The coarsest shape of which both are mergings, if there is one: 6x4 and 2x12 have 2x3x4.
fn refined(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    // Sizes of the trailing blocks that some axis starts with; each must divide the next.
    let blocks = |shape: &[usize]| {
        shape
            .iter()
            .rev()
            .scan(1usize, |n, &d| {
                *n *= d;
                Some(*n)
            })
            .collect::<Vec<_>>()
    };
    let mut all: Vec<usize> = blocks(a).into_iter().chain(blocks(b)).chain([1]).collect();
    all.sort_unstable();
    all.dedup();
    let extents: Option<Vec<usize>> =
        all.windows(2).rev().map(|w| (w[0] > 0 && w[1] % w[0] == 0).then(|| w[1] / w[0])).collect();
    extents
}

pub(super) fn transpose(l: &mut Lowering<'_>, perm: &[usize]) -> Result<(), GenericError> {
    let x = l.input(0)?.permuted(perm).ok_or_else(|| l.misfit("no permutation of the axes"))?;
    copy(l, &x, &l.output()?)
}

pub(super) fn expand(l: &mut Lowering<'_>) -> Result<(), GenericError> {
    let y = l.output()?;
    let x = l.broadcast(&l.input(0)?, &y.shape)?;
    copy(l, &x, &y)
}

pub(super) fn slice(l: &mut Lowering<'_>, axes: &[AxisSlice]) -> Result<(), GenericError> {
    let mut x = l.input(0)?;
    for a in axes {
        x = part(l, &x, a.axis, a.start, a.step, a.len)?;
    }
    copy(l, &x, &l.output()?)
}

pub(super) fn split(l: &mut Lowering<'_>, op: &Split) -> Result<(), GenericError> {
    let (x, mut start) = (l.input(0)?, 0);
    for (&len, y) in op.parts.iter().zip(l.outputs) {
        let x = part(l, &x, op.axis, start, 1, len)?;
        copy(l, &x, y)?;
        start += len;
    }
    Ok(())
}

pub(super) fn concat(l: &mut Lowering<'_>, axis: usize) -> Result<(), GenericError> {
    let (y, mut start) = (l.output()?, 0);
    for i in 0..l.inputs.len() {
        let x = l.input(i)?;
        let len = x.shape.get(axis).copied().unwrap_or(0);
        let y = part(l, &y, axis, start, 1, len)?;
        copy(l, &x, &y)?;
        start += len;
    }
    Ok(())
}

/// A slice that must fit.
pub(super) fn part(
    l: &Lowering<'_>,
    v: &View,
    axis: usize,
    start: usize,
    step: isize,
    len: usize,
) -> Result<View, GenericError> {
    v.sliced(axis, start, step, len).ok_or_else(|| {
        l.misfit(format!("no {len} elements from {start} by {step} along axis {axis} of {:?}", v.shape))
    })
}

/// Elements `at..at + len` of the result are `source`, `source + step`, …; a fill where there is no source.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CopyRun {
    at: usize,
    len: usize,
    source: Option<(usize, isize)>,
}

/// The fewest runs of constant step, from the left.
fn runs(sources: impl Iterator<Item = Option<usize>>) -> Vec<CopyRun> {
    let mut runs: Vec<CopyRun> = Vec::new();
    for (at, source) in sources.enumerate() {
        if let Some(run) = runs.last_mut() {
            match (&mut run.source, source) {
                (None, None) => {
                    run.len += 1;
                    continue;
                }
                (Some((first, step)), Some(next)) => {
                    if run.len == 1 {
                        *step = next as isize - *first as isize;
                        run.len = 2;
                        continue;
                    }
                    if first.checked_add_signed(*step * run.len as isize) == Some(next) {
                        run.len += 1;
                        continue;
                    }
                }
                _ => {}
            }
        }
        runs.push(CopyRun { at, len: 1, source: source.map(|s| (s, 0)) });
    }
    runs
}

pub(super) fn gather(l: &mut Lowering<'_>, op: &Gather) -> Result<(), GenericError> {
    let (mut x, mut y) = (l.input(0)?, l.output()?);
    let indices = op.indices.elems::<i64>().map_err(nnc_ir::OpError::from)?;
    let extent = x.shape.get(op.axis).copied().unwrap_or(0);
    let sources: Option<Vec<usize>> =
        indices.iter().map(|&i| usize::try_from(i).ok().filter(|&i| i < extent)).collect();
    let sources = sources.ok_or_else(|| l.misfit(format!("an index is outside of axis {}", op.axis)))?;
    let rank = op.indices.shape().rank();
    if rank == 0 {
        y = y.with_axis(op.axis, 1);
    }
    if rank > 1 {
        // Several axes of indices: seen as one where the result allows it, else one after another.
        let merged = [&y.shape[..op.axis], &[sources.len()], &y.shape[op.axis + rank..]].concat();
        match y.reshaped(&merged) {
            Some(merged) => y = merged,
            None => {
                let shape = op.indices.shape();
                let rest: usize = shape[1..].iter().product();
                for (i, chunk) in sources.chunks(rest.max(1)).enumerate() {
                    let row = part(l, &y, op.axis, i, 1, 1)?;
                    let row = row.without_axis(op.axis).unwrap_or(row);
                    let indices: Vec<i64> = chunk.iter().map(|&s| s as i64).collect();
                    let indices = Tensor::new(&shape[1..], &indices).map_err(nnc_ir::OpError::from)?;
                    let mut inner = Lowering {
                        records: None,
                        op: l.op,
                        inputs: l.inputs,
                        outputs: std::slice::from_ref(&row),
                        temp: l.temp,
                        constant: l.constant,
                        steps: std::mem::take(&mut l.steps),
                        extra: std::mem::take(&mut l.extra),
                    };
                    let done = gather(&mut inner, &Gather { axis: op.axis, indices });
                    (l.steps, l.extra) = (inner.steps, inner.extra);
                    done?;
                }
                return Ok(());
            }
        }
    }
    if y.is_empty() {
        return Ok(());
    }
    x.shape[op.axis] = extent;
    picked(l, &x, &y, &[(op.axis, sources)])
}

/// `y[…, i, …] = x[…, sources[i], …]` along some axes; along the others both have the same extent.
pub(super) fn picked(
    l: &mut Lowering<'_>,
    x: &View,
    y: &View,
    axes: &[(usize, Vec<usize>)],
) -> Result<(), GenericError> {
    if y.is_empty() {
        return Ok(());
    }
    let (x, y, axes) = unrepeated(x, y, axes);
    let runs: Vec<(usize, Vec<CopyRun>)> =
        axes.iter().map(|(axis, sources)| (*axis, runs(sources.iter().copied().map(Some)))).collect();
    let pieces = runs.iter().fold(1usize, |n, (_, r)| n.saturating_mul(r.len()));
    if pieces <= MAX_PIECES {
        return pieces_of(l, &x, &y, &runs);
    }
    let mut from = x.clone();
    let mut tables = Vec::new();
    for (axis, sources) in &axes {
        let stride = x.strides[*axis];
        let offsets: Option<Vec<i32>> = sources
            .iter()
            .map(|&s| i32::try_from(i64::try_from(s).ok()?.checked_mul(stride)?).ok())
            .collect();
        let offsets =
            offsets.ok_or_else(|| l.unsupported("tensors of more than 2 GiB with irregular indices"))?;
        (from.shape[*axis], from.strides[*axis]) = (sources.len(), 0);
        tables.push((*axis, offsets));
    }
    let mut draft = NestDraft::map(&[from], &y, Expr::Operand(0));
    for (axis, offsets) in tables {
        draft = with_table(l, draft, 0, &offsets, &[(axis, 4)], y.rank())?;
    }
    l.push(draft)
}

/// Adds a constant table to an operand of a draft with `rank` axes: byte strides into the table for some of them.
pub(super) fn with_table(
    l: &mut Lowering<'_>,
    draft: NestDraft,
    operand: usize,
    offsets: &[i32],
    strides: &[(usize, i64)],
    rank: usize,
) -> Result<NestDraft, GenericError> {
    let tensor = Tensor::new([offsets.len()], offsets).map_err(nnc_ir::OpError::from)?;
    let mut table = l.constant(tensor);
    table.strides = vec![0; rank];
    for &(axis, stride) in strides {
        table.strides[axis] = stride;
    }
    let (low, high) = (offsets.iter().min().copied(), offsets.iter().max().copied());
    Ok(draft.with_table(operand, &table, low.unwrap_or(0), high.unwrap_or(0)))
}

/// Where every source is repeated equally often, `[0 0 1 1 2 2]`, the axis of the result is seen as two, of which
/// `x` repeats along the second.
fn unrepeated(x: &View, y: &View, axes: &[(usize, Vec<usize>)]) -> (View, View, Vec<(usize, Vec<usize>)>) {
    let (mut x, mut y, mut axes) = (x.clone(), y.clone(), axes.to_vec());
    axes.sort_by_key(|(axis, _)| std::cmp::Reverse(*axis));
    for i in 0..axes.len() {
        let (axis, sources) = (axes[i].0, &axes[i].1);
        let times = sources.iter().take_while(|&&s| s == sources[0]).count();
        let regular = times > 1
            && sources.len() > times
            && sources.len() % times == 0
            && sources.chunks(times).all(|c| c.iter().all(|&s| s == c[0]));
        if !regular {
            continue;
        }
        let kept: Vec<usize> = sources.iter().step_by(times).copied().collect();
        let stride = y.strides[axis];
        y.shape[axis] /= times;
        y.strides[axis] = stride * times as i64;
        y.shape.insert(axis + 1, times);
        y.strides.insert(axis + 1, stride);
        x.shape.insert(axis + 1, times);
        x.strides.insert(axis + 1, 0);
        axes[i].1 = kept;
        // The axes are visited from the last, so that those done stand behind the new one.
        axes[..i].iter_mut().for_each(|(a, _)| *a += 1);
    }
    (x, y, axes)
}

/// One copy for each combination of runs.
fn pieces_of(
    l: &mut Lowering<'_>,
    x: &View,
    y: &View,
    runs: &[(usize, Vec<CopyRun>)],
) -> Result<(), GenericError> {
    let Some(((axis, first), rest)) = runs.split_first() else { return copy(l, x, y) };
    for run in first {
        let Some((source, step)) = run.source else { continue };
        let x = part(l, x, *axis, source, step, run.len)?;
        let y = part(l, y, *axis, run.at, 1, run.len)?;
        pieces_of(l, &x, &y, rest)?;
    }
    Ok(())
}

pub(super) fn channel_select(l: &mut Lowering<'_>, op: &ChannelSelect) -> Result<(), GenericError> {
    let y = l.output()?;
    let mut at = 0;
    while let Some(first) = op.sources.get(at) {
        let same = op.sources[at..].iter().take_while(|s| s.operand == first.operand).count();
        let channels: Vec<usize> = op.sources[at..at + same].iter().map(|s| s.channel as usize).collect();
        let x = l.input(first.operand as usize)?;
        let y = part(l, &y, 1, at, 1, same)?;
        picked(l, &x, &y, &[(1, channels)])?;
        at += same;
    }
    Ok(())
}

pub(super) fn pad(l: &mut Lowering<'_>, op: &Pad) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let sources = (0..x.rank()).map(|axis| op.sources(axis, x.shape[axis]));
    if let PadMode::Constant(v) = op.mode {
        let value = match y.dtype {
            DType::Bool => Expr::constant(DType::Bool, f64::from(v != 0.0)),
            dtype => Expr::constant(dtype, v),
        };
        let runs: Vec<Vec<CopyRun>> = sources.map(runs).collect();
        return padded(l, &x, &y, &runs, &value, 0);
    }
    if y.is_empty() {
        return Ok(());
    }
    let axes: Option<Vec<(usize, Vec<usize>)>> = (sources.enumerate())
        .filter(|(axis, sources)| !sources.clone().eq((0..x.shape[*axis]).map(Some)))
        .map(|(axis, sources)| Some((axis, sources.collect::<Option<Vec<usize>>>()?)))
        .collect();
    let axes = axes.ok_or_else(|| l.misfit("an axis has nothing to repeat"))?;
    picked(l, &x, &y, &axes)
}

/// Fills a view with zeros.
pub(super) fn zeros(l: &mut Lowering<'_>, y: &View) -> Result<(), GenericError> {
    l.push(NestDraft::map(&[], y, Expr::constant(y.dtype, 0.0)))
}

/// Fills what has no source, axis by axis, and copies the rest.
fn padded(
    l: &mut Lowering<'_>,
    x: &View,
    y: &View,
    runs: &[Vec<CopyRun>],
    value: &Expr,
    axis: usize,
) -> Result<(), GenericError> {
    let Some(along) = runs.get(axis) else { return copy(l, x, y) };
    for run in along {
        let y = part(l, y, axis, run.at, 1, run.len)?;
        match run.source {
            Some((source, step)) => {
                let x = part(l, x, axis, source, step, run.len)?;
                padded(l, &x, &y, runs, value, axis + 1)?;
            }
            None => l.push(NestDraft::map(&[], &y, value.clone()))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::refined;

    #[test]
    fn two_shapes_are_mergings_of_one_where_their_axes_do_not_cut_through_each_other() {
        assert_eq!(refined(&[6, 4], &[2, 12]), Some(vec![2, 3, 4]));
        assert_eq!(refined(&[2, 6, 3, 4], &[12, 12]), Some(vec![2, 6, 3, 4]));
        assert_eq!(refined(&[5, 1, 7], &[35]), Some(vec![5, 7]));
        assert_eq!(refined(&[4, 9], &[6, 6]), None);
        assert_eq!(refined(&[0, 3], &[3, 0]), None);
    }
}
