//! Operators that choose, join and repeat elements: Concat, Split, Slice, Gather, Expand, Tile.

use super::{Results, product};
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis, integers};
use crate::onnx::varying::Amount;
use crate::op::{AxisSlice, Concat, Expand, Gather, GatherAt, OpError, Slice, Split};
use crate::tensor::Tensor;

/// Concat. Before opset 4 the axis need not be given.
pub(in crate::onnx) fn concat(n: &mut NodeReader<'_, '_>) -> Results {
    let operands = n.operands("inputs")?;
    let default = (n.opset < 4).then_some(1);
    let Some(along) = n.attributes.int("axis")?.or(default) else {
        return Err(value("axis", "is missing"));
    };
    let along = axis(along, n.ty(operands[0]).shape.rank())?;
    if let [x] = operands[..] {
        return Ok(vec![x]);
    }
    Ok(vec![n.emit(Concat { axis: along }, &operands)?])
}

/// Split, since 2; the parts are an operand since 13, or a number of outputs since 18.
pub(in crate::onnx) fn split(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let shape = n.shape(x);
    let along = axis(n.attributes.int("axis")?.unwrap_or(0), shape.rank())?;
    let outputs = n.output_count();
    let count = match n.attributes.int("num_outputs")? {
        None => None,
        // Each part is at least one element or empty at the end, so more parts than outputs make no sense.
        Some(count) if count == outputs as i64 && count > 0 => Some(outputs),
        Some(count) => {
            return Err(value("num_outputs", format!("is {count}, the node has {outputs} outputs")));
        }
    };
    let given = n.amounts_of_version("split", 13, 1)?;
    if given.is_some() && count.is_some() {
        return Err(NodeFault::invalid("has both parts and a number of outputs"));
    }
    let known = |parts: &[Amount]| parts.iter().map(Amount::known).collect::<Option<Vec<i64>>>();
    let listed = match &given {
        None => Some(None),
        Some(parts) => known(parts).map(Some),
    };
    let (Some(listed), Some(_)) = (listed, n.extent(x, along).known()) else {
        return match given {
            Some(parts) if parts.len() != outputs => {
                Err(NodeFault::invalid(format!("has {} parts for {outputs} outputs", parts.len())))
            }
            Some(parts) => n.parted(x, along, &parts),
            None => n.parted_evenly(x, along, outputs, count.is_some()),
        };
    };
    let extent = shape[along];
    let parts: Vec<usize> = match listed {
        Some(list) => list
            .iter()
            .map(|&p| {
                usize::try_from(p).map_err(|_| NodeFault::invalid(format!("parts {list:?} make no sense")))
            })
            .collect::<Result<_, _>>()?,
        None if count.is_none() && !extent.is_multiple_of(outputs.max(1)) => {
            return Err(NodeFault::invalid(format!(
                "{extent} elements cannot be split into {outputs} equal parts"
            )));
        }
        None => {
            let part = extent.div_ceil(outputs.max(1));
            (0..outputs).map(|i| extent.saturating_sub(i * part).min(part)).collect()
        }
    };
    let total = parts.iter().try_fold(0usize, |sum, &p| sum.checked_add(p)).ok_or(OpError::Overflow)?;
    if total != extent || parts.len() != outputs {
        return Err(NodeFault::invalid(format!(
            "parts {parts:?} do not split {extent} elements into {outputs} outputs"
        )));
    }
    if parts.len() == 1 {
        return Ok(vec![x]);
    }
    n.emit_all(Split { axis: along, parts }, &[Some(x)])
}

/// Slice, since 1; bounds are operands since 10.
pub(in crate::onnx) fn slice(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "data")?;
    let shape = n.shape(x);
    let missing = |name: &str| NodeFault::invalid(format!("has no {name}"));
    let starts = n.amounts_of_version("starts", 10, 1)?.ok_or_else(|| missing("starts"))?;
    let ends = n.amounts_of_version("ends", 10, 2)?.ok_or_else(|| missing("ends"))?;
    let axes = n.ints_of_version("axes", 10, 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = if n.opset >= 10 { n.ints(4, "steps")? } else { None };
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&len| len != starts.len()) {
        return Err(NodeFault::invalid(format!(
            "has {} starts, {} ends, {} axes and {} steps",
            starts.len(),
            ends.len(),
            axes.len(),
            steps.len()
        )));
    }
    let (mut slices, mut cuts) = (Vec::new(), Vec::new());
    let mut seen = vec![false; shape.rank()];
    for (((start, end), &along), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let along = axis(along, shape.rank())?;
        if std::mem::replace(&mut seen[along], true) {
            return Err(NodeFault::invalid(format!("axis {along} is sliced twice")));
        }
        let known = (n.extent(x, along).known(), start.known(), end.known());
        let (Some(_), Some(first), Some(last)) = known else {
            cuts.push((along, [start, end], step));
            continue;
        };
        let slice = axis_slice(along, shape[along], first, last, step)?;
        let whole = slice.len == shape[along] && (slice.step == 1 || slice.len <= 1);
        if !whole {
            slices.push(slice);
        }
    }
    let mut y = x;
    if !slices.is_empty() {
        slices.sort_by_key(|s| s.axis);
        y = n.emit(Slice { axes: slices }, &[y])?;
    }
    for (along, bounds, step) in cuts {
        y = n.cut(y, along, bounds, step)?;
    }
    Ok(vec![y])
}

/// The elements `start`, `start + step`, … before `end`, as ONNX clamps the bounds.
fn axis_slice(axis: usize, extent: usize, start: i64, end: i64, step: i64) -> Result<AxisSlice, NodeFault> {
    let (d, step) = (extent as i128, i128::from(step));
    let from_end = |bound: i64| if bound < 0 { i128::from(bound) + d } else { i128::from(bound) };
    let (start, end) = (from_end(start), from_end(end));
    let (start, len) = match step {
        0 => return Err(NodeFault::invalid("a step of 0 makes no sense")),
        1.. => {
            let (start, end) = (start.clamp(0, d), end.clamp(0, d));
            (start, (end - start + step - 1).div_euclid(step))
        }
        _ => {
            // Where it starts is an element, if there is any; where it ends is before one.
            let (start, end) = (start.max(0).min(d - 1), end.clamp(-1, d - 1));
            (start, (start - end - step - 1).div_euclid(-step))
        }
    };
    if len <= 0 {
        return Ok(AxisSlice { axis, start: 0, step: 1, len: 0 });
    }
    // One element needs no step, which may be too large for anything.
    let step = if len == 1 { 1 } else { step };
    let fault = |_| NodeFault::Op(OpError::Overflow);
    Ok(AxisSlice {
        axis,
        start: usize::try_from(start).map_err(fault)?,
        step: isize::try_from(step).map_err(fault)?,
        len: usize::try_from(len).map_err(fault)?,
    })
}

/// Gather, since 1.
pub(in crate::onnx) fn gather(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "data")?;
    let indices = n.operand(1, "indices")?;
    let along = axis(n.attributes.int("axis")?.unwrap_or(0), n.shape(x).rank())?;
    Ok(vec![gathered(n, x, indices, along)?])
}

/// What lies at indices along an axis.
pub(super) fn gathered(
    n: &mut NodeReader<'_, '_>,
    x: Value,
    indices: Value,
    along: usize,
) -> Result<Value, NodeFault> {
    let shape = n.shape(x);
    // Negative indices count from what is there.
    let here = n.extent(x, along).known().is_some();
    let Some(indices) = n.constant_of(indices).filter(|_| here).cloned() else {
        return n.emit(GatherAt { axis: along }, &[x, indices]);
    };
    let extent = shape[along] as i64;
    let resolved = integers(&indices, "indices")?
        .into_iter()
        .map(|i| if (-extent..extent).contains(&i) { Ok(if i < 0 { i + extent } else { i }) } else { Err(i) })
        .collect::<Result<Vec<i64>, i64>>()
        .map_err(|i| NodeFault::invalid(format!("index {i} is outside axis {along} of shape {shape}")))?;
    let indices = Tensor::new(indices.shape().clone(), &resolved)?;
    n.emit(Gather { axis: along, indices }, &[x])
}

/// Expand, since 8: both shapes broadcast to each other.
pub(in crate::onnx) fn expand(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let wanted = n.amounts(1, "shape")?.ok_or(OpError::Missing { index: 1, name: "shape" })?;
    let known: Option<Vec<i64>> = wanted.iter().map(Amount::known).collect();
    let Some(wanted) = known.filter(|_| !n.varies(x)) else {
        return Ok(vec![n.spread(x, &wanted)?]);
    };
    let from = n.shape(x);
    let cannot = || NodeFault::invalid(format!("data of shape {from} do not broadcast to {wanted:?}"));
    let rank = from.rank().max(wanted.len());
    let mut shape = Vec::with_capacity(rank);
    for i in 0..rank {
        let a = (i + from.rank()).checked_sub(rank).map_or(1, |k| from[k]);
        let b = (i + wanted.len()).checked_sub(rank).map_or(1, |k| wanted[k]);
        let b = usize::try_from(b).map_err(|_| cannot())?;
        shape.push(match (a, b) {
            _ if a == b => a,
            (1, b) => b,
            (a, 1) => a,
            _ => return Err(cannot()),
        });
    }
    Ok(vec![broadcast(n, x, shape)?])
}

fn broadcast(n: &mut NodeReader<'_, '_>, x: Value, shape: Vec<usize>) -> Result<Value, NodeFault> {
    if n.ty(x).shape[..] == shape[..] { Ok(x) } else { n.emit(Expand { shape }, &[x]) }
}

/// Tile, since 6: each axis gets an axis of repeats before it, which is broadcast and merged.
///
/// ```text
///   [3, 4] · (2, 1)  ─▶  [1, 3, 4]  ─▶  [2, 3, 4]  ─▶  [6, 4]
/// ```
pub(in crate::onnx) fn tile(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let repeats = n.amounts(1, "repeats")?.ok_or(OpError::Missing { index: 1, name: "repeats" })?;
    let shape = n.extents(x);
    if repeats.len() != shape.len() {
        return Err(NodeFault::invalid(format!(
            "has {} repeats for data of shape {}",
            repeats.len(),
            n.shape(x)
        )));
    }
    let (mut split, mut spread, mut merged) = (Vec::new(), Vec::new(), Vec::new());
    for (axis, (extent, repeat)) in shape.iter().zip(&repeats).enumerate() {
        if let Some(repeat) = repeat.known() {
            let repeat = usize::try_from(repeat)
                .map_err(|_| NodeFault::invalid(format!("a repeat of {repeat} makes no sense")))?;
            product(&[n.shape(x)[axis], repeat])?;
        }
        if !repeat.is_one() {
            split.push(Amount::from(1i64));
            spread.push(repeat.clone());
        }
        split.push(extent.clone());
        spread.push(extent.clone());
        merged.push(extent.product(repeat));
    }
    let split = n.regrouped(x, &split)?;
    let spread = n.spread(split, &spread)?;
    Ok(vec![n.regrouped(spread, &merged)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(extent: usize, start: i64, end: i64, step: i64) -> Vec<i64> {
        let s = axis_slice(0, extent, start, end, step).unwrap();
        (0..s.len).map(|i| s.start as i64 + i as i64 * s.step as i64).collect()
    }

    #[test]
    fn bounds_are_clamped_as_onnx_says() {
        assert_eq!(taken(5, 1, 3, 1), [1, 2]);
        assert_eq!(taken(5, 0, i64::MAX, 2), [0, 2, 4]);
        assert_eq!(taken(5, -2, 100, 1), [3, 4]);
        assert_eq!(taken(5, -1, i64::MIN, -1), [4, 3, 2, 1, 0]);
        assert_eq!(taken(5, 10, 0, -2), [4, 2]);
        assert_eq!(taken(5, 3, 1, 1), [0i64; 0]);
        assert_eq!(taken(5, -9, i64::MIN, -1), [0]);
        assert_eq!(taken(1, -2, -8, -1), [0]);
        assert_eq!(taken(0, 0, 5, 1), [0i64; 0]);
        assert_eq!(taken(0, -1, i64::MIN, -1), [0i64; 0]);
        assert_eq!(taken(5, 2, i64::MAX, i64::MAX), [2]);
        assert_eq!(taken(5, 2, i64::MIN, i64::MIN), [2]);
        assert!(axis_slice(0, 5, 0, 5, 0).is_err());
    }
}
