//! Reductions over axes.

use super::Results;
use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axes, axis};
use crate::op::elementwise::BinaryFn;
use crate::op::{Cast, Reduce, ReduceKind, Unary};
use crate::types::DType;

/// The Reduce… operators, since 1. Axes are an operand since 18, for ReduceSum since 13.
pub(in crate::onnx) fn reduce(n: &mut NodeReader<'_, '_>) -> Results {
    let kind = match n.op() {
        "ReduceSum" => ReduceKind::Sum,
        "ReduceMean" => ReduceKind::Mean,
        "ReduceMax" => ReduceKind::Max,
        "ReduceMin" => ReduceKind::Min,
        "ReduceProd" => ReduceKind::Prod,
        "ReduceL1" => ReduceKind::L1,
        "ReduceL2" => ReduceKind::L2,
        "ReduceSumSquare" => ReduceKind::SumSquare,
        "ReduceLogSum" => ReduceKind::LogSum,
        "ReduceLogSumExp" => ReduceKind::LogSumExp,
        other => return Err(NodeFault::unsupported(format!("{other} as a reduction"))),
    };
    let x = n.operand(0, "data")?;
    let rank = n.ty(x).shape.rank();
    let keep_dims = n.attributes.flag("keepdims", true)?;
    let operand_since = if kind == ReduceKind::Sum { 13 } else { 18 };
    let none = n.opset >= operand_since && n.attributes.flag("noop_with_empty_axes", false)?;
    let list = n.ints_of_version("axes", operand_since, 1)?.unwrap_or_default();
    let axes = match list.is_empty() {
        true if none => return alone(n, kind, x),
        true => (0..rank).collect(),
        false => axes(&list, rank)?,
    };
    let op = Reduce { kind, axes, keep_dims };
    let dtype = n.dtype(x);
    if kind.is_exact() || dtype.is_float() {
        return Ok(vec![n.emit(op, &[x])?]);
    }
    // Roots and logarithms of integers are cut.
    let x = n.emit(Cast { to: DType::F64 }, &[x])?;
    let y = n.emit(op, &[x])?;
    Ok(vec![n.emit(Cast { to: dtype }, &[y])?])
}

/// The reduction of each element alone: what is done to it before it is added, and to the sum.
fn alone(n: &mut NodeReader<'_, '_>, kind: ReduceKind, x: Value) -> Results {
    Ok(vec![match kind {
        ReduceKind::L1 | ReduceKind::L2 => n.unary(Unary::Abs, x)?,
        ReduceKind::SumSquare => n.binary(BinaryFn::Mul, x, x)?,
        ReduceKind::LogSum => {
            let dtype = n.dtype(x);
            let number = if dtype.is_float() { x } else { n.cast(x, DType::F64)? };
            let logarithm = n.unary(Unary::Log, number)?;
            n.cast(logarithm, dtype)?
        }
        ReduceKind::Sum
        | ReduceKind::Mean
        | ReduceKind::Max
        | ReduceKind::Min
        | ReduceKind::Prod
        | ReduceKind::LogSumExp
        | ReduceKind::ArgMax { .. }
        | ReduceKind::ArgMin { .. } => x,
    }])
}

/// ArgMax and ArgMin, since 1.
pub(in crate::onnx) fn arg(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "data")?;
    let along = axis(n.attributes.int("axis")?.unwrap_or(0), n.ty(x).shape.rank())?;
    let keep_dims = n.attributes.flag("keepdims", true)?;
    let last = n.attributes.flag("select_last_index", false)?;
    let kind = if n.op() == "ArgMax" { ReduceKind::ArgMax { last } } else { ReduceKind::ArgMin { last } };
    Ok(vec![n.emit(Reduce { kind, axes: vec![along], keep_dims }, &[x])?])
}
