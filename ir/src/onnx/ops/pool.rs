//! MaxPool, AveragePool, LpPool and their global forms.

use super::Results;
use super::window::WindowAttributes;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::{Epilogue, GlobalPool, Pool, PoolKind, Prologue};

fn pool(n: &mut NodeReader<'_, '_>, kind: PoolKind) -> Results {
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
    let op = Pool { kind, window, ceil_pads, prologue: Prologue::default(), epilogue: Epilogue::default() };
    Ok(vec![n.emit(op, &[x])?])
}

/// MaxPool, since 1. The indices are not computed, so their storage order has no effect.
pub(in crate::onnx) fn max_pool(n: &mut NodeReader<'_, '_>) -> Results {
    n.attributes.flag("storage_order", false)?;
    pool(n, PoolKind::Max)
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
