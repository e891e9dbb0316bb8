//! Operators that read and write where indices point, rank elements, and choose them by their data.

use super::window::WindowAttributes;
use super::{Results, reshaped};
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis, number};
use crate::op::AxisSlice;
use crate::op::{
    Binary, BinaryFn, Cast, Compress, Cumulative, CumulativeKind, Gather, GatherElements, GatherNd,
    MaxUnpool, NonMaxSuppression, NonZero, OpError, Pad, PadMode, ReverseSequence, ScatterElements,
    ScatterNd, ScatterReduction, Slice, TopK, Unique, Where,
};
use crate::tensor::Tensor;
use crate::types::DType;

/// GatherElements, since 11.
pub(in crate::onnx) fn gather_elements(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, indices) = (n.operand(0, "data")?, n.operand(1, "indices")?);
    let along = axis(n.attributes.int("axis")?.unwrap_or(0), n.shape(x).rank())?;
    Ok(vec![n.emit(GatherElements { axis: along }, &[x, indices])?])
}

/// GatherND, since 11; with a batch since 12.
pub(in crate::onnx) fn gather_nd(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, indices) = (n.operand(0, "data")?, n.operand(1, "indices")?);
    let batch = if n.opset >= 12 { n.attributes.int("batch_dims")?.unwrap_or(0) } else { 0 };
    let batch_dims = usize::try_from(batch)
        .map_err(|_| value("batch_dims", format!("is {batch}, it cannot be negative")))?;
    Ok(vec![n.emit(GatherNd { batch_dims }, &[x, indices])?])
}

/// The attribute `reduction`, since 16; the largest and the smallest since 18.
fn reduction(n: &mut NodeReader<'_, '_>) -> Result<ScatterReduction, NodeFault> {
    use ScatterReduction::*;
    let all = [("none", Replace), ("add", Add), ("mul", Mul), ("max", Max), ("min", Min)];
    let known = match n.opset {
        18.. => &all[..],
        16.. => &all[..3],
        _ => return Ok(Replace),
    };
    n.attributes.choice("reduction", Replace, known)
}

/// Scatter, 9 and 10, and ScatterElements, since 11.
pub(in crate::onnx) fn scatter_elements(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, indices, updates) = (n.operand(0, "data")?, n.operand(1, "indices")?, n.operand(2, "updates")?);
    let along = axis(n.attributes.int("axis")?.unwrap_or(0), n.shape(x).rank())?;
    let reduction = reduction(n)?;
    Ok(vec![n.emit(ScatterElements { axis: along, reduction }, &[x, indices, updates])?])
}

/// ScatterND, since 11.
pub(in crate::onnx) fn scatter_nd(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, indices, updates) = (n.operand(0, "data")?, n.operand(1, "indices")?, n.operand(2, "updates")?);
    let reduction = reduction(n)?;
    Ok(vec![n.emit(ScatterNd { reduction }, &[x, indices, updates])?])
}

/// TopK, since 1; `k` is an operand since 10, the smallest can be asked for since 11. What is asked for in any order comes sorted too.
pub(in crate::onnx) fn top_k(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let along = axis(n.attributes.int("axis")?.unwrap_or(-1), n.shape(x).rank())?;
    let k = match n.opset {
        10.. => n.amounts(1, "K")?.ok_or(OpError::Missing { index: 1, name: "K" })?,
        _ => vec![n.attributes.int("k")?.ok_or_else(|| value("k", "is missing"))?.into()],
    };
    let [wanted] = &k[..] else {
        return Err(NodeFault::invalid(format!("K must be one number, there are {}", k.len())));
    };
    let k = match wanted.known() {
        Some(k) => {
            usize::try_from(k).map_err(|_| NodeFault::invalid(format!("K is {k}, it cannot be negative")))?
        }
        None => n.shape(x)[along],
    };
    let largest = if n.opset >= 11 { n.attributes.flag("largest", true)? } else { true };
    if n.opset >= 11 {
        n.attributes.flag("sorted", true)?;
    }
    let op = TopK { axis: along, k, largest };
    if wanted.known().is_none() { n.best(&op, x, wanted) } else { n.emit_all(op, &[Some(x)]) }
}

/// CumSum, since 11, and CumProd, since 26.
pub(in crate::onnx) fn cumulative(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "x")?;
    let along = n.ints(1, "axis")?.ok_or(OpError::Missing { index: 1, name: "axis" })?;
    let [along] = along[..] else {
        return Err(NodeFault::invalid(format!("the axis must be one number, it is {along:?}")));
    };
    let along = axis(along, n.shape(x).rank())?;
    let (exclusive, reverse) = (n.attributes.flag("exclusive", false)?, n.attributes.flag("reverse", false)?);
    let kind = if n.op() == "CumProd" { CumulativeKind::Prod } else { CumulativeKind::Sum };
    Ok(vec![n.emit(Cumulative { kind, axis: along, exclusive, reverse }, &[x])?])
}

/// ReverseSequence, since 10.
pub(in crate::onnx) fn reverse_sequence(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, lengths) = (n.operand(0, "input")?, n.operand(1, "sequence_lens")?);
    let rank = n.shape(x).rank();
    let batch_axis = axis(n.attributes.int("batch_axis")?.unwrap_or(1), rank)?;
    let time_axis = axis(n.attributes.int("time_axis")?.unwrap_or(0), rank)?;
    Ok(vec![n.emit(ReverseSequence { batch_axis, time_axis }, &[x, lengths])?])
}

/// MaxUnpool, since 9. A shape that is asked for beyond that of the windows gets zeros at the end.
pub(in crate::onnx) fn max_unpool(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, places) = (n.operand(0, "X")?, n.operand(1, "I")?);
    let shape = n.shape(x);
    let Some(image) = shape.get(2..).filter(|dims| !dims.is_empty()) else {
        return Err(NodeFault::invalid(format!("operand X needs a spatial axis, its shape is {shape}")));
    };
    let window = WindowAttributes::read(&mut n.attributes, image.len(), None)?;
    let mut sizes = Vec::with_capacity(image.len());
    for (i, &extent) in image.iter().enumerate() {
        let steps = extent.saturating_sub(1).checked_mul(window.strides[i]).ok_or(OpError::Overflow)?;
        let pads = window.pads[i].saturating_add(window.pads[i + image.len()]);
        let size = steps.checked_add(window.kernel[i]).ok_or(OpError::Overflow)? as i128 - i128::from(pads);
        sizes.push(usize::try_from(size).map_err(|_| {
            NodeFault::invalid(format!("pads {:?} leave nothing of spatial axis {i}", window.pads))
        })?);
    }
    let wanted = n.ints(2, "output_shape")?;
    let full = [&shape[..2], &sizes].concat();
    let y = n.emit(MaxUnpool { sizes }, &[x, places])?;
    let Some(wanted) = wanted else { return Ok(vec![y]) };
    let more: Option<Vec<isize>> = (wanted.len() == full.len())
        .then(|| full.iter().zip(&wanted).map(|(&have, &want)| beyond(have, want)).collect())
        .flatten();
    match more {
        Some(more) if more.iter().all(|&n| n == 0) => Ok(vec![y]),
        Some(end) => {
            let pad = Pad { begin: vec![0; end.len()], end, mode: PadMode::Constant(0.0) };
            Ok(vec![n.emit(pad, &[y])?])
        }
        None => Err(NodeFault::invalid(format!(
            "output_shape {wanted:?} is smaller than that of the windows, {full:?}"
        ))),
    }
}

/// Elements that an extent lacks.
fn beyond(have: usize, want: i64) -> Option<isize> {
    isize::try_from(want).ok()?.checked_sub_unsigned(have).filter(|&more| more >= 0)
}

/// Adds an operator that makes less than the shape of its first result says: its last result is the number along `along`.
fn counted(
    n: &mut NodeReader<'_, '_>,
    op: impl Into<crate::op::Op>,
    operands: &[Option<Value>],
    along: &[(usize, usize)],
) -> Results {
    let mut results = n.emit_all(op, operands)?;
    let Some(count) = results.pop() else { return Ok(results) };
    for &(result, axis) in along {
        if let Some(value) = results.get_mut(result) {
            *value = n.counted(*value, axis, count)?;
        }
    }
    Ok(results)
}

/// NonZero, since 9.
pub(in crate::onnx) fn non_zero(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    counted(n, NonZero, &[Some(x)], &[(0, 1)])
}

/// Compress, since 9. A known condition is a Gather.
pub(in crate::onnx) fn compress(n: &mut NodeReader<'_, '_>) -> Results {
    let (mut x, condition) = (n.operand(0, "input")?, n.operand(1, "condition")?);
    let shape = n.shape(x);
    let along = n.attributes.int("axis")?.map(|a| axis(a, shape.rank())).transpose()?;
    let here = along.map_or(!n.varies(x), |axis| n.extent(x, axis).known().is_some());
    let Some(known) = n.constant_of(condition).filter(|_| here) else {
        return counted(n, Compress { axis: along }, &[Some(x), Some(condition)], &[(0, along.unwrap_or(0))]);
    };
    let extent = along.map_or(shape.elems(), |axis| shape[axis]);
    let chosen = known.to_bools()?.into_iter().take(extent).enumerate().filter(|(_, chosen)| *chosen);
    let indices: Vec<i64> = chosen.map(|(i, _)| i as i64).collect();
    if along.is_none() {
        x = reshaped(n, x, vec![extent])?;
    }
    let indices = Tensor::new([indices.len()], &indices)?;
    Ok(vec![n.emit(Gather { axis: along.unwrap_or(0), indices }, &[x])?])
}

/// Unique, since 11.
pub(in crate::onnx) fn unique(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let rank = n.shape(x).rank();
    let along = n.attributes.int("axis")?.map(|a| axis(a, rank)).transpose()?;
    let sorted = n.attributes.flag("sorted", true)?;
    let varying = [(0, along.unwrap_or(0)), (1, 0), (3, 0)];
    counted(n, Unique { axis: along, sorted }, &[Some(x)], &varying)
}

/// NonMaxSuppression, since 10.
pub(in crate::onnx) fn non_max_suppression(n: &mut NodeReader<'_, '_>) -> Results {
    let (boxes, scores) = (n.operand(0, "boxes")?, n.operand(1, "scores")?);
    let limit = n.amounts(2, "max_output_boxes_per_class")?.unwrap_or_else(|| vec![0i64.into()]);
    let [limit] = &limit[..] else {
        return Err(NodeFault::invalid(format!(
            "max_output_boxes_per_class must be one number, there are {}",
            limit.len()
        )));
    };
    let most = usize::try_from(limit.range().high.max(0)).unwrap_or(usize::MAX);
    let (iou, least) = (n.optional(3)?, n.optional(4)?);
    let center_point_box = n.attributes.flag("center_point_box", false)?;
    let op = NonMaxSuppression { most, center_point_box };
    let selected = counted(n, op, &[Some(boxes), Some(scores), iou, least], &[(0, 0)])?;
    // No more are selected than there are, so a limit of that is none.
    if limit.known().is_some() || n.extent(boxes, 1).at_most(limit) {
        return Ok(selected);
    }
    if n.shape(scores)[..2] != [1, 1] {
        return Err(NodeFault::unsupported(
            "max_output_boxes_per_class that only the run knows, with several classes; give a constant, and a Slice behind it",
        ));
    }
    Ok(vec![n.cut(selected[0], 0, [&0i64.into(), &limit.larger(&0i64.into())], 1)?])
}

/// OneHot, since 9: the indices, compared with each number below the depth.
pub(in crate::onnx) fn one_hot(n: &mut NodeReader<'_, '_>) -> Results {
    let indices = n.operand(0, "indices")?;
    let depth = n.constant(1, "depth")?.ok_or(OpError::Missing { index: 1, name: "depth" })?;
    let values = n.operand(2, "values")?;
    let depth = number(&depth, "depth")?;
    let Some(depth) = (depth >= 0.0 && depth <= f64::from(1 << 24)).then_some(depth as usize) else {
        return Err(NodeFault::unsupported(format!("a depth of {depth}; expected 0 to {}", 1 << 24)));
    };
    if n.shape(values)[..] != [2] {
        return Err(NodeFault::invalid(format!("values must be two, they are {}", n.ty(values))));
    }
    let shape = n.shape(indices).to_vec();
    let along = axis(n.attributes.int("axis")?.unwrap_or(-1), shape.len() + 1)?;

    let indices =
        if n.dtype(indices) == DType::I64 { indices } else { n.emit(Cast { to: DType::I64 }, &[indices])? };
    let binary = |function| Binary { function, activation: None };
    let (zero, extent) = (n.scalar(DType::I64, 0.0)?, n.scalar(DType::I64, depth as f64)?);
    let negative = n.emit(binary(BinaryFn::Less), &[indices, zero])?;
    let from_end = n.emit(binary(BinaryFn::Add), &[indices, extent])?;
    let indices = n.emit(Where, &[negative, from_end, indices])?;
    let mut spread = shape;
    spread.insert(along, 1);
    let mut numbers = vec![1; spread.len()];
    numbers[along] = depth;
    let indices = reshaped(n, indices, spread)?;
    let all: Vec<i64> = (0..depth as i64).collect();
    let numbers = n.add_constant(Tensor::new(numbers, &all)?);
    let hot = n.emit(binary(BinaryFn::Equal), &[indices, numbers])?;
    let mut value = |i: usize| -> Result<Value, NodeFault> {
        let slice = Slice { axes: vec![AxisSlice { axis: 0, start: i, step: 1, len: 1 }] };
        let one = n.emit(slice, &[values])?;
        reshaped(n, one, Vec::new())
    };
    let (off, on) = (value(0)?, value(1)?);
    Ok(vec![n.emit(Where, &[hot, on, off])?])
}

/// Trilu, since 14: a known triangle of the last two axes is kept.
pub(in crate::onnx) fn trilu(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let k = n.ints(1, "k")?.unwrap_or_else(|| vec![0]);
    let upper = n.attributes.flag("upper", true)?;
    let [k] = k[..] else {
        return Err(NodeFault::invalid(format!("k must be one number, it is {k:?}")));
    };
    let shape = n.shape(x);
    let Some(&[rows, columns]) = shape.last_chunk() else {
        return Err(NodeFault::invalid(format!("input needs two axes, its shape is {shape}")));
    };
    if rows.checked_mul(columns).is_none_or(|elems| elems > 1 << 26) {
        return Err(NodeFault::unsupported(format!(
            "matrices of {rows} × {columns}; expected less than {}",
            1 << 26
        )));
    }
    let kept = |row: usize, column: usize| {
        let distance = column as i128 - row as i128;
        if upper { distance >= k.into() } else { distance <= k.into() }
    };
    let mask: Vec<bool> =
        (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))).map(|(r, c)| kept(r, c)).collect();
    let mask = n.add_constant(Tensor::bools([rows, columns], &mask)?);
    let extents = n.extents(x);
    let mask = n.as_far(mask, &extents[extents.len() - 2..])?;
    let zero = n.scalar(n.dtype(x), 0.0)?;
    Ok(vec![n.emit(Where, &[mask, x, zero])?])
}
