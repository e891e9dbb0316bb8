//! Pad.

use super::Results;
use super::window::signed;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis, number, scalar_tensor};
use crate::op::{OpError, Pad, PadMode};

/// Pad; pads and value are operands since 11, some axes only since 18, wrapping since 19.
pub(in crate::onnx) fn pad(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "data")?;
    let rank = n.ty(x).shape.rank();
    let name = if n.opset >= 2 { "pads" } else { "paddings" };
    let pads = n.amounts_of_version(name, 11, 1)?.ok_or_else(|| NodeFault::invalid("has no pads"))?;
    let filler = filler(n, x)?;
    let axes: Vec<usize> = match if n.opset >= 18 { n.ints(3, "axes")? } else { None } {
        None => (0..rank).collect(),
        Some(list) => list.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?,
    };
    if pads.len() != 2 * axes.len() {
        return Err(NodeFault::invalid(format!("has {} pads for {} axes", pads.len(), axes.len())));
    }
    let mode = n.attributes.choice(
        "mode",
        PadMode::Constant(filler),
        &[
            ("constant", PadMode::Constant(filler)),
            ("reflect", PadMode::Reflect),
            ("edge", PadMode::Edge),
            ("wrap", PadMode::Wrap),
        ],
    )?;
    let (mut begin, mut end) = (vec![0isize; rank], vec![0isize; rank]);
    let mut varying = Vec::new();
    for (i, &a) in axes.iter().enumerate() {
        let (before, behind) = (&pads[i], &pads[i + axes.len()]);
        let none = before.known() == Some(0) && behind.known() == Some(0);
        let known = (n.extent(x, a).known(), before.known(), behind.known());
        let (Some(_), Some(before), Some(behind)) = known else {
            if !none {
                varying.push((a, [before, behind]));
            }
            continue;
        };
        let extent = signed(n.ty(x).shape[a])?;
        let at = |p: i64| isize::try_from(p).map_err(|_| NodeFault::Op(OpError::Overflow));
        let (before, after) = (at(before)?, at(behind)?);
        let total = extent.checked_add(before).and_then(|n| n.checked_add(after));
        if total.is_none_or(|n| n < 0) {
            return Err(NodeFault::invalid(format!(
                "pads {before} and {after} make no sense for {extent} elements"
            )));
        }
        begin[a] = before;
        end[a] = after;
    }
    let mut y = x;
    if begin.iter().chain(&end).any(|&p| p != 0) {
        y = n.emit(Pad { begin, end, mode }, &[y])?;
    }
    for (axis, pads) in varying {
        y = n.padded(y, axis, pads, mode)?;
    }
    Ok(vec![y])
}

/// The value of padded elements.
fn filler(n: &mut NodeReader<'_, '_>, x: crate::graph::Value) -> Result<f64, NodeFault> {
    if n.opset < 11 {
        return Ok(f64::from(n.attributes.float("value")?.unwrap_or(0.0)));
    }
    let Some(tensor) = n.constant(2, "constant_value")? else {
        return Ok(0.0);
    };
    let dtype = n.dtype(x);
    if tensor.dtype() != dtype {
        return Err(NodeFault::invalid(format!("the value is {}, the data are {dtype}", tensor.ty())));
    }
    // Some exporters write an empty tensor for no value.
    if tensor.shape().elems() == 0 {
        return Ok(0.0);
    }
    let filler = number(&tensor, "constant_value")?;
    if !dtype.is_float() && scalar_tensor(dtype, filler)?.bytes() != tensor.bytes() {
        return Err(value("constant_value", "is too large to be kept exactly"));
    }
    Ok(filler)
}
