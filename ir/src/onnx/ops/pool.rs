//! MaxPool, AveragePool, LpPool and their global forms.

use super::Results;
use super::window::WindowAttributes;
use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::{Epilogue, GlobalPool, MaxPoolArg, Pool, PoolKind, Prologue, Window};

/// The image, the window over it, and of its pads at the end those of `ceil_mode`.
fn sliding(n: &mut NodeReader<'_, '_>) -> Result<(Value, Window, Vec<usize>), NodeFault> {
    let x = n.operand(0, "X")?;
    let shape = n.shape(x);
    let Some(image) = shape.get(2..).filter(|dims| !dims.is_empty()) else {
        return Err(NodeFault::invalid(format!(
            "operand X needs at least one spatial axis, its shape is {shape}"
        )));
    };
    let ceil_mode = n.attributes.flag("ceil_mode", false)?;
    let (window, ceil_pads) =
        WindowAttributes::read(&mut n.attributes, image.len(), None)?.over(image, ceil_mode)?;
    Ok((x, window, ceil_pads))
}

fn pool(n: &mut NodeReader<'_, '_>, kind: PoolKind) -> Results {
    let (x, window, ceil_pads) = sliding(n)?;
    let op = Pool { kind, window, ceil_pads, prologue: Prologue::default(), epilogue: Epilogue::default() };
    Ok(vec![n.emit(op, &[x])?])
}

/// MaxPool, since 1. Places are computed where they are read.
pub(in crate::onnx) fn max_pool(n: &mut NodeReader<'_, '_>) -> Results {
    let column_major = n.attributes.flag("storage_order", false)?;
    if !n.output_used(1) {
        return pool(n, PoolKind::Max);
    }
    let (x, window, _) = sliding(n)?;
    n.emit_all(MaxPoolArg { window, column_major }, &[Some(x)])
}

/// AveragePool, since 1.
pub(in crate::onnx) fn average_pool(n: &mut NodeReader<'_, '_>) -> Results {
    let count_include_pad = n.attributes.flag("count_include_pad", false)?;
    pool(n, PoolKind::Average { count_include_pad })
}

/// LpPool, since 2 (before, `p` was a float).
pub(in crate::onnx) fn lp_pool(n: &mut NodeReader<'_, '_>) -> Results {
    let p = exponent(n)?;
    pool(n, PoolKind::Lp { p })
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
