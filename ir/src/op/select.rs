//! Operators whose data decide how large their results are.
//!
//! Every shape in a graph is known, so such a result has the shape of the most that can come out, its bound, and a second result, `count`
//! (an `i64` scalar), says how many there are along the axis that varies. What lies behind them is 0.
//!
//! ```text
//!   x = 0 5 7 0      NonZero    indices 1 2 0 0    count 2
//! ```
//!
//! [`Prefix`] marks where only those that are there are wanted: behind it, at the graph's outputs, a tensor has its real size.

use super::gather::{flat, positions};
use super::number::{self, Numbers};
use super::topk::order;
use super::{Arithmetic, OpError, Operator, Tensors, Types, check, required, strided};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// The first elements of some axes. Operands: 0 `x`, then a `count` (`i64`, a scalar) for each axis. Its type is that of `x`; its value has as many
/// elements along an axis as its count says, between none and all. Only an output of the graph may be one.
#[derive(Clone, Debug, PartialEq)]
pub struct Prefix {
    /// The axes, ascending.
    pub axes: Vec<usize>,
}

/// ONNX NonZero (opsets 9 and 13). Operand: 0 `x`; results: `indices`, `i64[rank, n]`, where column `i` is the position of the `i`-th element
/// that is not 0, in row-major order; `count`.
#[derive(Clone, Debug, PartialEq)]
pub struct NonZero;

/// ONNX Compress (opsets 9 and 11): the slices of an axis for which a condition holds. Operands: 0 `x`, 1 `condition`, `bool[n]`, where what it
/// does not reach is not chosen; results: `y`, `count`.
#[derive(Clone, Debug, PartialEq)]
pub struct Compress {
    /// The axis; all elements in row-major order when there is none.
    pub axis: Option<usize>,
}

/// ONNX Unique (opset 11). Operand: 0 `x`; results: `y`, the different elements, or the different slices of an axis; `first`, where each occurs
/// first; `inverse`, which of them each element or slice is; `counts`, how often each occurs; `count`, how many there are. (`inverse` has
/// its full size always.) NaN equals no other element.
#[derive(Clone, Debug, PartialEq)]
pub struct Unique {
    /// The axis; all elements in row-major order when there is none.
    pub axis: Option<usize>,
    /// Whether they are in ascending order, or as they occur first.
    pub sorted: bool,
}

/// ONNX NonMaxSuppression (opsets 10 and 11) with a known number of boxes for each class.
///
/// Operands: 0 `boxes`, `f32[batch, n, 4]`, 1 `scores`, `f32[batch, classes, n]`, 2 `iou_threshold` (a scalar, optional: 0), 3 `score_threshold` (a
/// scalar, optional: every score counts), 4 `count` (`i64`, a scalar, optional: those after so many boxes are none). Results: `selected`, `i64[batch · classes · min(most, n), 3]` of batch, class, and box, those of a
/// class by falling score; `count`.
#[derive(Clone, Debug, PartialEq)]
pub struct NonMaxSuppression {
    /// The most boxes that are selected for each class.
    pub most: usize,
    /// Whether a box is its centre and its size, or two opposite corners.
    pub center_point_box: bool,
}

/// The type of a count.
fn count_type() -> TensorType {
    TensorType::new(DType::I64, [])
}

fn count_of(n: usize) -> Result<Tensor, OpError> {
    Ok(Tensor::new([], &[n as i64])?)
}

/// A tensor of its full size, of which these are the first bytes.
fn padded(ty: &TensorType, mut bytes: Vec<u8>) -> Result<Tensor, OpError> {
    bytes.resize(ty.bytes(), 0);
    Ok(Tensor::from_bytes(ty.clone(), bytes)?)
}

/// A tensor of which some slices of an axis are given, and the others are 0.
fn picked(x: &Tensor, y: &TensorType, axis: Option<usize>, indices: &[usize]) -> Result<Tensor, OpError> {
    let size = y.dtype.bytes();
    let mut picked: Vec<Option<usize>> = indices.iter().copied().map(Some).collect();
    let (shape, axis) = match axis {
        Some(axis) => (x.shape().to_vec(), axis),
        None => (vec![x.shape().elems()], 0),
    };
    picked.resize(y.shape[axis], None);
    let bytes = strided::pick(x.bytes(), size, &shape, axis, &picked, &vec![0; size]);
    Ok(Tensor::from_bytes(y.clone(), bytes)?)
}

impl Operator for Prefix {
    fn name(&self) -> &'static str {
        "Prefix"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1 + self.axes.len())?;
        let x = required(operands, 0, "x")?;
        if !self.axes.is_sorted_by(|a, b| a < b) {
            return Err(OpError::mismatch(format!("axes {:?} do not ascend", self.axes)));
        }
        for (index, &axis) in self.axes.iter().enumerate() {
            check::axis(axis, &x.shape)?;
            check::exactly(operands, 1 + index, "count", &count_type())?;
        }
        Ok(vec![x.clone()])
    }

    fn eval(&self, operands: &Tensors<'_>, _: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let mut y = required(operands, 0, "x")?.clone();
        for (index, &axis) in self.axes.iter().enumerate() {
            let count = required(operands, 1 + index, "count")?;
            let mut dims = y.shape().to_vec();
            let count =
                count.elems::<i64>()?.first().copied().unwrap_or(0).clamp(0, dims[axis] as i64) as usize;
            dims[axis] = count;
            let first: Vec<usize> = (0..count).collect();
            y = picked(&y, &TensorType::new(y.dtype(), dims), Some(axis), &first)?;
        }
        Ok(vec![y])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        Arithmetic::default()
    }
}

impl Operator for NonZero {
    fn name(&self) -> &'static str {
        "NonZero"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        let elems = x.shape.checked_elems().ok_or(OpError::Overflow)?;
        Ok(vec![check::result(DType::I64, vec![x.shape.rank(), elems])?, count_type()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [indices, _] = results else { return Ok(Vec::new()) };
        let is_set: Vec<bool> = match number::numbers(x)? {
            Numbers::Floats(all) => all.iter().map(|&v| v != 0.0).collect(),
            Numbers::Integers(all) => all.iter().map(|&v| v != 0).collect(),
        };
        let found: Vec<Vec<usize>> =
            positions(x.shape()).zip(is_set).filter(|(_, set)| *set).map(|(at, _)| at).collect();
        let mut all = vec![0i64; indices.shape.elems()];
        for (column, at) in found.iter().enumerate() {
            for (row, &i) in at.iter().enumerate() {
                all[row * indices.shape[1] + column] = i as i64;
            }
        }
        Ok(vec![Tensor::new(indices.shape.clone(), &all)?, count_of(found.len())?])
    }

    fn arithmetic(&self, operands: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        each(operands)
    }
}

/// One operation for each element of the first operand.
fn each(operands: &Types<'_>) -> Arithmetic {
    let x = operands.first().copied().flatten();
    Arithmetic { macc: 0, ops: x.map_or(0, |x| check::count(x.shape.iter())) }
}

/// Extent of the axis that is chosen from.
fn extent(axis: Option<usize>, x: &TensorType) -> Result<usize, OpError> {
    match axis {
        Some(axis) => {
            check::axis(axis, &x.shape)?;
            Ok(x.shape[axis])
        }
        None => x.shape.checked_elems().ok_or(OpError::Overflow),
    }
}

/// The type of as many as `bound` of them.
fn chosen(axis: Option<usize>, x: &TensorType, bound: usize) -> Result<TensorType, OpError> {
    let mut dims = x.shape.to_vec();
    match axis {
        Some(axis) => dims[axis] = bound,
        None => dims = vec![bound],
    }
    check::result(x.dtype, dims)
}

impl Operator for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 2)?;
        let (x, condition) = (required(operands, 0, "x")?, required(operands, 1, "condition")?);
        if condition.dtype != DType::Bool || condition.shape.rank() != 1 {
            return Err(check::unfit(1, "condition", condition, "bool of rank 1"));
        }
        let bound = extent(self.axis, x)?.min(condition.shape[0]);
        Ok(vec![chosen(self.axis, x, bound)?, count_type()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, condition) = (required(operands, 0, "x")?, required(operands, 1, "condition")?);
        let [y, _] = results else { return Ok(Vec::new()) };
        let all = extent(self.axis, x.ty())?;
        let indices: Vec<usize> = condition
            .to_bools()?
            .into_iter()
            .take(all)
            .enumerate()
            .filter(|(_, c)| *c)
            .map(|(i, _)| i)
            .collect();
        Ok(vec![picked(x, y, self.axis, &indices)?, count_of(indices.len())?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        Arithmetic::default()
    }
}

impl Operator for Unique {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        let all = extent(self.axis, x)?;
        let indices = check::result(DType::I64, vec![all])?;
        Ok(vec![chosen(self.axis, x, all)?, indices.clone(), indices.clone(), indices, count_type()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y, first, inverse, ..] = results else { return Ok(Vec::new()) };
        let all = extent(self.axis, x.ty())?;
        let (shape, axis) = match self.axis {
            Some(axis) => (x.shape().to_vec(), axis),
            None => (vec![all], 0),
        };
        let (outer, _, inner) = strided::around(&shape, axis);
        let numbers = number::numbers(x)?;
        let ordering = |a: usize, b: usize| {
            let mut places = (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i)));
            let found = places.find_map(|(o, i)| {
                let [a, b] = [a, b].map(|e| (o * all + e) * inner + i);
                let order = match &numbers {
                    Numbers::Floats(v) if v[a].is_nan() && v[b].is_nan() => a.cmp(&b),
                    Numbers::Floats(v) => order(v[a], v[b]),
                    Numbers::Integers(v) => order(v[a], v[b]),
                };
                order.is_ne().then_some(order)
            });
            found.unwrap_or(std::cmp::Ordering::Equal)
        };
        let mut sorted: Vec<usize> = (0..all).collect();
        sorted.sort_by(|&a, &b| ordering(a, b));
        // Equal ones side by side, each group in the order of its indices.
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for i in sorted {
            match groups.last_mut().filter(|group| ordering(group[0], i).is_eq()) {
                Some(group) => group.push(i),
                None => groups.push(vec![i]),
            }
        }
        if !self.sorted {
            groups.sort_by_key(|group| group[0]);
        }
        let firsts: Vec<usize> = groups.iter().map(|group| group[0]).collect();
        let mut which = vec![0i64; all];
        for (number, group) in groups.iter().enumerate() {
            group.iter().for_each(|&i| which[i] = number as i64);
        }
        let int = |n: usize| (n as i64).to_le_bytes();
        Ok(vec![
            picked(x, y, self.axis, &firsts)?,
            padded(first, firsts.iter().flat_map(|&i| int(i)).collect())?,
            Tensor::new(inverse.shape.clone(), &which)?,
            padded(first, groups.iter().flat_map(|group| int(group.len())).collect())?,
            count_of(groups.len())?,
        ])
    }

    fn arithmetic(&self, operands: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        let Arithmetic { ops, .. } = each(operands);
        Arithmetic { macc: 0, ops: ops.saturating_mul(u64::from(ops.max(1).ilog2()) + 1) }
    }
}

/// The smaller one, or NaN.
fn low(a: f32, b: f32) -> f32 {
    if b < a || b.is_nan() { b } else { a }
}

/// The larger one, or NaN.
fn high(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// The corners of a box: `[top, left, bottom, right]`, in `f32` as everything that decides which boxes are selected.
fn corners(b: &[f32], center: bool) -> [f32; 4] {
    match *b {
        [x, y, w, h] if center => [y - h / 2.0, x - w / 2.0, y + h / 2.0, x + w / 2.0],
        [y1, x1, y2, x2] => [low(y1, y2), low(x1, x2), high(y1, y2), high(x1, x2)],
        _ => [0.0; 4],
    }
}

/// Whether two boxes share more of their union than a threshold. Boxes without area share nothing.
fn overlap(a: [f32; 4], b: [f32; 4], threshold: f32) -> bool {
    let area = |b: [f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    let (height, width) = (low(a[2], b[2]) - high(a[0], b[0]), low(a[3], b[3]) - high(a[1], b[1]));
    let shared = height * width;
    let all = area(a) + area(b) - shared;
    height > 0.0 && width > 0.0 && area(a) > 0.0 && area(b) > 0.0 && all > 0.0 && shared / all > threshold
}

impl Operator for NonMaxSuppression {
    fn name(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 5)?;
        let (boxes, scores) = (required(operands, 0, "boxes")?, required(operands, 1, "scores")?);
        let (&[batch, n, 4], DType::F32) = (&boxes.shape[..], boxes.dtype) else {
            return Err(check::unfit(0, "boxes", boxes, "f32[batch, n, 4]"));
        };
        let classes = match scores.shape[..] {
            [b, classes, m] if (b, m, scores.dtype) == (batch, n, DType::F32) => classes,
            _ => return Err(check::unfit(1, "scores", scores, format_args!("f32[{batch}, classes, {n}]"))),
        };
        for (index, name) in [(2, "iou_threshold"), (3, "score_threshold")] {
            if let Some(ty) = operands.get(index).copied().flatten()
                && (ty.dtype != DType::F32 || ty.shape.checked_elems() != Some(1))
            {
                return Err(check::unfit(index, name, ty, "one element of type f32"));
            }
        }
        if operands.get(4).copied().flatten().is_some() {
            check::exactly(operands, 4, "count", &count_type())?;
        }
        let bound = [batch, classes, self.most.min(n)].iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        Ok(vec![check::result(DType::I64, vec![bound.ok_or(OpError::Overflow)?, 3])?, count_type()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (boxes, scores) = (required(operands, 0, "boxes")?, required(operands, 1, "scores")?);
        let [selected, _] = results else { return Ok(Vec::new()) };
        let threshold = |index: usize| -> Result<Option<f32>, OpError> {
            let Some(t) = operands.get(index).copied().flatten() else { return Ok(None) };
            Ok(t.elems::<f32>()?.first().copied())
        };
        let (iou, least) = (threshold(2)?.unwrap_or(0.0), threshold(3)?);
        let shape = scores.shape();
        let (all, scores) = (boxes.elems::<f32>()?, scores.elems::<f32>()?);
        let n = shape[2];
        let there = match operands.get(4).copied().flatten() {
            Some(count) => count.elems::<i64>()?.first().copied().unwrap_or(0).clamp(0, n as i64) as usize,
            None => n,
        };
        let mut found: Vec<i64> = Vec::new();
        for at in positions(&shape[..2]) {
            let score = |i: usize| scores[flat(&at, &shape[..2]) * n + i];
            let corner = |i: usize| corners(&all[(at[0] * n + i) * 4..][..4], self.center_point_box);
            let mut candidates: Vec<usize> =
                (0..there).filter(|&i| least.is_none_or(|least| score(i) > least)).collect();
            candidates.sort_by(|&a, &b| order(f64::from(score(b)), f64::from(score(a))));
            let mut kept: Vec<usize> = Vec::new();
            for i in candidates {
                if kept.len() < self.most && !kept.iter().any(|&k| overlap(corner(i), corner(k), iou)) {
                    kept.push(i);
                    found.extend([at[0] as i64, at[1] as i64, i as i64]);
                }
            }
        }
        let bytes = found.iter().flat_map(|i| i.to_le_bytes()).collect();
        Ok(vec![padded(selected, bytes)?, count_of(found.len() / 3)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        let scores = operands.get(1).copied().flatten().map_or(0, |ty| check::count(ty.shape.iter()));
        Arithmetic { macc: 0, ops: scores.saturating_mul(self.most.min(1 << 16) as u64) }
    }
}

#[cfg(test)]
mod tests;
