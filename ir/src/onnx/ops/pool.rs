//! MaxPool, AveragePool, LpPool and their global forms.

use super::Results;
use super::window::WindowAttributes;
use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::{Epilogue, GlobalPool, MaxPoolArg, Pool, PoolKind, Prologue, Window};

/// The window over an image, and of its pads at the end those of `ceil_mode`.
fn sliding(n: &mut NodeReader<'_, '_>, x: Value) -> Result<(Window, Vec<usize>), NodeFault> {
    let shape = n.shape(x);
    let Some(image) = shape.get(2..).filter(|dims| !dims.is_empty()) else {
        return Err(NodeFault::invalid(format!(
            "operand X needs at least one spatial axis, its shape is {shape}"
        )));
    };
    let ceil_mode = n.attributes.flag("ceil_mode", false)?;
    WindowAttributes::read(&mut n.attributes, image.len(), None)?.over(image, ceil_mode)
}

fn pool(n: &mut NodeReader<'_, '_>, kind: PoolKind, x: Value) -> Result<Value, NodeFault> {
    let (window, ceil_pads) = sliding(n, x)?;
    let op = Pool { kind, window, ceil_pads, prologue: Prologue::default(), epilogue: Epilogue::default() };
    n.emit(op, &[x])
}

/// MaxPool, since 1. Places are computed where they are read.
pub(in crate::onnx) fn max_pool(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let column_major = n.attributes.flag("storage_order", false)?;
    if !n.output_used(1) {
        return Ok(vec![pool(n, PoolKind::Max, x)?]);
    }
    let (window, _) = sliding(n, x)?;
    n.emit_all(MaxPoolArg { window, column_major }, &[Some(x)])
}

/// AveragePool, since 1.
pub(in crate::onnx) fn average_pool(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    Ok(vec![average(n, x)?])
}

/// AveragePool of an image that may be another one than the node's.
pub(super) fn average(n: &mut NodeReader<'_, '_>, x: Value) -> Result<Value, NodeFault> {
    let count_include_pad = n.attributes.flag("count_include_pad", false)?;
    pool(n, PoolKind::Average { count_include_pad }, x)
}

/// MaxPool of an image that may be another one than the node's.
pub(super) fn maximum(n: &mut NodeReader<'_, '_>, x: Value) -> Result<Value, NodeFault> {
    pool(n, PoolKind::Max, x)
}

/// LpPool, since 2 (before, `p` was a float).
pub(in crate::onnx) fn lp_pool(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, p) = (n.operand(0, "X")?, exponent(n)?);
    Ok(vec![pool(n, PoolKind::Lp { p }, x)?])
}

fn exponent(n: &mut NodeReader<'_, '_>) -> Result<u32, NodeFault> {
    u32::try_from(n.attributes.count("p", 2)?).map_err(|_| NodeFault::invalid("attribute \"p\" is too large"))
}

/// GlobalMaxPool, GlobalAveragePool, GlobalLpPool.
pub(in crate::onnx) fn global_pool(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let kind = match n.op() {
        "GlobalMaxPool" => PoolKind::Max,
        "GlobalLpPool" => PoolKind::Lp { p: exponent(n)? },
        _ => PoolKind::Average { count_include_pad: false },
    };
    Ok(vec![n.emit(GlobalPool { kind, prologue: Prologue::default(), activation: None }, &[x])?])
}
