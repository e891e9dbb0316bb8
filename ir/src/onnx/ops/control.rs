//! If, Loop and Scan: what decides how often something runs is known when the model is compiled, and so the graph has every
//! iteration in a row.

use super::Results;
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis, integers};
use crate::onnx::subgraph::GraphDef;
use crate::types::DType;

/// If, since 1. A constant condition chooses the branch. Else both are computed, and each result is taken from one:
/// no operator does anything but compute, so what is not taken leaves no trace.
pub(in crate::onnx) fn branch(n: &mut NodeReader<'_, '_>) -> Results {
    let condition = n.operand(0, "cond")?;
    let then = graph(n, "then_branch")?;
    let otherwise = graph(n, "else_branch")?;
    let (a, b) = (then.outputs.len(), otherwise.outputs.len());
    if a != b {
        return Err(NodeFault::invalid(format!(
            "its branches have {a} and {b} outputs, they must have as many"
        )));
    }
    if let Some(name) = then.inputs.iter().chain(&otherwise.inputs).next() {
        return Err(NodeFault::invalid(format!("a branch has the input \"{name}\", but branches take none")));
    }
    if n.dtype(condition) != DType::Bool || super::product(&n.shape(condition))? != 1 {
        return Err(NodeFault::invalid(format!("cond must be one bool, it is {}", n.ty(condition))));
    }
    if let Some(taken) = n.constant_of(condition).map(|tensor| tensor.bytes().contains(&1)) {
        return n.body(if taken { then } else { otherwise }, &[]);
    }
    let results = (n.body(then, &[])?, n.body(otherwise, &[])?);
    let condition = n.reshape(condition, [])?;
    let mut chosen = Vec::new();
    for (index, (&a, &b)) in results.0.iter().zip(&results.1).enumerate() {
        let (ty_a, ty_b) = (n.ty(a), n.ty(b));
        if ty_a.dtype != ty_b.dtype || ty_a.shape.rank() != ty_b.shape.rank() {
            return Err(NodeFault::unsupported(format!(
                "result {index} is {ty_a} or {ty_b} as cond says; {}",
                n.advice(condition)
            )));
        }
        chosen.push(n.either(condition, a, b)?);
    }
    Ok(chosen)
}

/// Loop, since 1.
///
/// ```text
///   iteration, condition, carried … ─▶ body ─▶ condition, carried …, a part of each scan output
/// ```
pub(in crate::onnx) fn repeat(n: &mut NodeReader<'_, '_>) -> Results {
    let trips = match n.constant(0, "M")? {
        Some(tensor) => Some(scalar(&integers(&tensor, "M")?, "M")?),
        None => None,
    };
    let mut going = match n.constant(1, "cond")? {
        Some(tensor) => tensor.bytes().contains(&1),
        None => true,
    };
    let body = graph(n, "body")?;
    let count = n.operand_count().saturating_sub(2);
    let mut carried = (0..count).map(|i| n.operand(2 + i, "v_initial")).collect::<Result<Vec<_>, _>>()?;
    let parts_count = body
        .outputs
        .len()
        .checked_sub(1 + count)
        .filter(|_| body.inputs.len() == 2 + count)
        .ok_or_else(|| NodeFault::invalid(format!("the body does not carry {count} values on")))?;
    let mut parts: Vec<Vec<Value>> = vec![Vec::new(); parts_count];
    let mut trip = 0;
    while going && trips.is_none_or(|trips| trip < trips) {
        let (iteration, condition) = (n.integer(trip)?, n.scalar(DType::Bool, 1.0)?);
        let arguments = [&[iteration, condition], &carried[..]].concat();
        let results = n.body(body, &arguments)?;
        let (condition, results) =
            results.split_first().ok_or_else(|| NodeFault::invalid("the body has no condition"))?;
        going = match n.constant_of(*condition) {
            Some(tensor) => tensor.bytes().contains(&1),
            None => {
                return Err(NodeFault::unsupported(format!(
                    "whether it goes on after iteration {trip} is only known at run time; {}",
                    n.advice(*condition)
                )));
            }
        };
        carried = results[..count].to_vec();
        for (parts, &part) in parts.iter_mut().zip(&results[count..]) {
            parts.push(part);
        }
        trip += 1;
    }
    for parts in parts {
        carried.push(stacked(n, &parts, 0, false)?);
    }
    Ok(carried)
}

/// Scan, since 9: a body for each slice of its operands.
///
/// ```text
///   states …, a slice of each scan input ─▶ body ─▶ states …, a part of each scan output
/// ```
pub(in crate::onnx) fn scan(n: &mut NodeReader<'_, '_>) -> Results {
    let body = graph(n, "body")?;
    let inputs = match n.attributes.int("num_scan_inputs")? {
        Some(count) => usize::try_from(count).map_err(|_| value("num_scan_inputs", format!("is {count}")))?,
        None => return Err(value("num_scan_inputs", "is missing")),
    };
    let operands = n.operands("initial_state_and_scan_inputs")?;
    let states = operands.len().checked_sub(inputs).filter(|_| body.inputs.len() == operands.len());
    let states = states.filter(|states| body.outputs.len() >= *states && inputs > 0);
    let states = states.ok_or_else(|| NodeFault::invalid("its body does not fit its operands"))?;
    let outputs = body.outputs.len() - states;
    let input_axes = list(n, "scan_input_axes", inputs)?;
    let input_turns = list(n, "scan_input_directions", inputs)?;
    let output_axes = list(n, "scan_output_axes", outputs)?;
    let output_turns = list(n, "scan_output_directions", outputs)?;

    let (mut carried, scanned) = (operands[..states].to_vec(), &operands[states..]);
    let mut axes = Vec::new();
    let mut trips = None;
    for (&x, &along) in scanned.iter().zip(&input_axes) {
        let along = axis(along, n.ty(x).shape.rank())?;
        let extent = n.ty(x).shape[along];
        if *trips.get_or_insert(extent) != extent {
            return Err(NodeFault::invalid("its scan inputs have different lengths"));
        }
        axes.push(along);
    }
    let trips = trips.unwrap_or(0);
    let mut parts: Vec<Vec<Value>> = vec![Vec::new(); outputs];
    for trip in 0..trips {
        let mut arguments = carried;
        for ((&x, &along), &turned) in scanned.iter().zip(&axes).zip(&input_turns) {
            let at = if turned == 1 { trips - 1 - trip } else { trip };
            let slice = n.part(x, along, at, 1, 1)?;
            let mut shape = n.shape(slice).to_vec();
            shape.remove(along);
            arguments.push(n.reshape(slice, shape)?);
        }
        let results = n.body(body, &arguments)?;
        carried = results[..states].to_vec();
        for (parts, &part) in parts.iter_mut().zip(&results[states..]) {
            parts.push(part);
        }
    }
    for ((mut parts, &along), &turned) in parts.into_iter().zip(&output_axes).zip(&output_turns) {
        if turned == 1 {
            parts.reverse();
        }
        carried.push(stacked(n, &parts, along, true)?);
    }
    Ok(carried)
}

/// A list of integers, one for each; 0 where it is left out.
fn list(n: &mut NodeReader<'_, '_>, name: &str, count: usize) -> Result<Vec<i64>, NodeFault> {
    match n.attributes.ints(name)? {
        None => Ok(vec![0; count]),
        Some(list) if list.len() == count => Ok(list.to_vec()),
        Some(list) => Err(value(name, format!("must have {count} entries, it has {}", list.len()))),
    }
}

/// Parts of iterations along a new axis.
fn stacked(
    n: &mut NodeReader<'_, '_>,
    parts: &[Value],
    along: i64,
    of_scan: bool,
) -> Result<Value, NodeFault> {
    let Some(&first) = parts.first() else {
        return Err(NodeFault::unsupported("no iteration, and so a scan output of unknown shape"));
    };
    let along = if of_scan { axis(along, n.ty(first).shape.rank() + 1)? } else { 0 };
    let mut slices = Vec::with_capacity(parts.len());
    for &part in parts {
        let mut shape = n.shape(part).to_vec();
        shape.insert(along, 1);
        slices.push(n.reshape(part, shape)?);
    }
    n.concat(along, &slices)
}

fn graph<'m>(n: &mut NodeReader<'_, 'm>, name: &str) -> Result<&'m GraphDef, NodeFault> {
    n.attributes.graph(name)?.ok_or_else(|| value(name, "is missing"))
}

fn scalar(list: &[i64], name: &str) -> Result<i64, NodeFault> {
    match list {
        [one] => Ok(*one),
        other => Err(NodeFault::invalid(format!("{name} must be one number, it is {other:?}"))),
    }
}
