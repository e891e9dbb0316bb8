//! Sequences and optional values, as far as what is in them is known when the model is compiled: they are lists of values of
//! the graph, and leave no trace in it.

use super::Results;
use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis, integers};
use crate::op::OpError;
use crate::tensor::Tensor;
use crate::types::Shape;

/// SequenceEmpty, SequenceConstruct, SequenceInsert and SequenceErase, since 11.
pub(in crate::onnx) fn sequence(n: &mut NodeReader<'_, '_>) -> Results {
    let list = match n.op() {
        "SequenceEmpty" => {
            n.attributes.ignore("dtype");
            Vec::new()
        }
        "SequenceConstruct" => n.operands("inputs")?,
        "SequenceInsert" => {
            let mut list = n.sequence(0, "input_sequence")?;
            let value = n.operand(1, "tensor")?;
            let at = position(n, 2, list.len(), list.len() + 1)?;
            list.insert(at, value);
            list
        }
        _ => {
            let mut list = n.sequence(0, "input_sequence")?;
            let at = position(n, 1, list.len().wrapping_sub(1), list.len())?;
            list.remove(at);
            list
        }
    };
    n.give_sequence(list);
    Ok(Vec::new())
}

/// SequenceAt and SequenceLength, since 11.
pub(in crate::onnx) fn element(n: &mut NodeReader<'_, '_>) -> Results {
    let list = n.sequence(0, "input_sequence")?;
    if n.op() == "SequenceLength" {
        return Ok(vec![n.integer(list.len() as i64)?]);
    }
    let at = position(n, 1, 0, list.len())?;
    Ok(vec![list[at]])
}

/// ConcatFromSequence, since 11.
pub(in crate::onnx) fn joined(n: &mut NodeReader<'_, '_>) -> Results {
    let list = n.sequence(0, "input_sequence")?;
    let stack = n.attributes.flag("new_axis", false)?;
    let Some(along) = n.attributes.int("axis")? else {
        return Err(crate::onnx::attribute::value("axis", "is missing"));
    };
    let Some(&first) = list.first() else {
        return Err(NodeFault::invalid("the sequence is empty"));
    };
    let along = axis(along, n.ty(first).shape.rank() + usize::from(stack))?;
    let mut parts = Vec::with_capacity(list.len());
    for part in list {
        let mut shape = n.shape(part).to_vec();
        if stack && along <= shape.len() {
            shape.insert(along, 1);
        }
        parts.push(n.reshape(part, shape)?);
    }
    Ok(vec![n.concat(along, &parts)?])
}

/// SplitToSequence, since 11.
pub(in crate::onnx) fn split(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let sizes = n.constant(1, "split")?;
    let shape = n.shape(x);
    let along = axis(n.attributes.int("axis")?.unwrap_or(0), shape.rank())?;
    let keep = n.attributes.flag("keepdims", true)? || sizes.is_some();
    let extent = shape[along];
    let lens: Vec<usize> = match &sizes {
        None => vec![1; extent],
        Some(sizes) => {
            let list =
                integers(sizes, "split")?.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>();
            match (list, sizes.shape().rank()) {
                (Ok(list), 0) if list[0] > 0 => {
                    let len = list[0];
                    (0..extent.div_ceil(len)).map(|i| len.min(extent - i * len)).collect()
                }
                (Ok(list), 1) => list,
                _ => return Err(NodeFault::invalid("split must be positive")),
            }
        }
    };
    if lens.iter().try_fold(0usize, |sum, &len| sum.checked_add(len)) != Some(extent) {
        return Err(NodeFault::invalid(format!("parts {lens:?} do not split {extent} elements")));
    }
    let mut list: Vec<Value> = Vec::new();
    let mut start = 0;
    for len in lens {
        let mut part = n.part(x, along, start, len, 1)?;
        if !keep {
            let mut shape = n.shape(part).to_vec();
            shape.remove(along);
            part = n.reshape(part, shape)?;
        }
        list.push(part);
        start += len;
    }
    n.give_sequence(list);
    Ok(Vec::new())
}

/// OptionalHasElement, since 15: values are always there, unless they are left out.
pub(in crate::onnx) fn has_element(n: &mut NodeReader<'_, '_>) -> Results {
    let there = n.is_given(0);
    Ok(vec![n.add_constant(Tensor::bools(Shape::default(), &[there])?)])
}

/// Optional and OptionalGetElement, since 15: the value itself.
pub(in crate::onnx) fn get_element(n: &mut NodeReader<'_, '_>) -> Results {
    n.attributes.ignore("type");
    if let Some(list) = n.optional_sequence(0)? {
        n.give_sequence(list);
        return Ok(Vec::new());
    }
    Ok(vec![n.operand(0, "input")?])
}

/// A position that may count from the end, of a list of so many.
fn position(
    n: &mut NodeReader<'_, '_>,
    index: usize,
    default: usize,
    count: usize,
) -> Result<usize, NodeFault> {
    let at = match n.ints(index, "position")? {
        None => default as i64,
        Some(list) => *list.first().ok_or(OpError::Missing { index, name: "position" })?,
    };
    // One more place than there are values can be inserted at, and counts as if it were not there.
    let from_end = if n.op() == "SequenceInsert" { count as i64 - 1 } else { count as i64 };
    let resolved = if at < 0 { at.checked_add(from_end) } else { Some(at) };
    resolved
        .and_then(|at| usize::try_from(at).ok())
        .filter(|at| *at < count)
        .ok_or_else(|| NodeFault::invalid(format!("position {at} is outside the sequence")))
}
