//! Drops operators that change nothing; merges reshapes and transposes that follow each other.
//!
//! ```text
//!   reshape 1x32x1x1 ─▶ reshape 1x32                 reshape 1x32
//!   transpose 0,2,3,1 ─▶ transpose 0,3,1,2  becomes  (nothing)
//!   pad 0 · slice of all · concat of one · cast to the same · expand to the same · x + 0 · x · 1
//! ```
//!
//! A transpose that only moves axes of extent 1 is a reshape.

use nnc_ir::op::{Binary, BinaryFn, ChannelSelect, CoordinateMode, PoolKind, Reshape, Transpose, Unary};
use nnc_ir::{Graph, NodeId, Op, Value};

use super::edit::{bounds, each_node, input_of, producer, rewrite, scalar};
use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let mut merges = merge(graph, id)?;
        if keeps_order(graph, id) && unchanged(graph, id).is_none() {
            reshape(graph, id)?;
            notes.count("transposes turned into reshapes");
            merges |= merge(graph, id)?;
        }
        if merges {
            notes.count("merged");
        }
        if let Some(same) = unchanged(graph, id) {
            super::edit::replace(graph, id, same)?;
            notes.count("dropped");
        }
        Ok(())
    })
}

/// Lets a node read what the node before it reads, where both together are one operator.
fn merge(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let Some(input) = graph.operand(id, 0) else { return Ok(false) };
    let Some(before) = input_of(graph, input) else { return Ok(false) };
    let merged: Op = match (&graph.node(id).op, producer(graph, input)) {
        (Op::Reshape(reshape), Op::Reshape(_)) => reshape.clone().into(),
        (Op::Transpose(second), Op::Transpose(first)) => {
            let perm: Option<Vec<usize>> = second.perm.iter().map(|&a| first.perm.get(a).copied()).collect();
            match perm {
                Some(perm) => Transpose { perm }.into(),
                None => return Ok(false),
            }
        }
        _ => return Ok(false),
    };
    rewrite(graph, id, merged, &[Some(before)])?;
    Ok(true)
}

/// Makes a reshape of a transpose that leaves all elements where they are in memory.
fn reshape(graph: &mut Graph, id: NodeId) -> Result<(), EditError> {
    let shape = graph.ty(id.into()).shape.to_vec();
    let operands = graph.operands(id);
    rewrite(graph, id, Reshape { shape }, &operands)
}

/// Whether a transpose leaves all elements where they are in memory.
fn keeps_order(graph: &Graph, id: NodeId) -> bool {
    let (Op::Transpose(t), Some(x)) = (&graph.node(id).op, graph.operand(id, 0)) else { return false };
    let shape = &graph.ty(x).shape;
    let moved: Vec<usize> = t.perm.iter().copied().filter(|&a| shape.get(a) != Some(&1)).collect();
    moved.is_sorted()
}

/// The operand that a node passes on as it is.
fn unchanged(graph: &Graph, id: NodeId) -> Option<Value> {
    let node = graph.node(id);
    let x = graph.operand(id, 0)?;
    let [result] = node.outputs.as_slice() else { return None };
    let keeps = match &node.op {
        Op::Transpose(t) => t.perm.is_sorted(),
        Op::Reshape(_) | Op::Cast(_) | Op::Expand(_) | Op::Split(_) => true,
        // With the same extents, each axis is taken whole; backwards it isn't the same.
        Op::Slice(s) => s.axes.iter().all(|a| a.step == 1 || a.len <= 1),
        Op::Pad(p) => p.begin.iter().chain(&p.end).all(|&n| n == 0),
        Op::Concat(_) => graph.operands(id).len() == 1,
        Op::ChannelSelect(c) => graph.operands(id).len() == 1 && is_in_order(c),
        // Half a pixel that is not taken away again leads beside the elements.
        Op::Resize(r) => {
            let shifted = r.coordinates == CoordinateMode::TfHalfPixelForNn || r.crop.is_some();
            r.scales.iter().all(|&s| s == 1.0) && !shifted
        }
        Op::Reduce(r) => {
            use nnc_ir::op::ReduceKind::{Max, Mean, Min, Prod, Sum};
            matches!(r.kind, Max | Mean | Min | Prod | Sum)
        }
        Op::Pool(p) => {
            p.prologue.is_none()
                && p.epilogue.is_none()
                && matches!(p.kind, PoolKind::Max | PoolKind::Average { .. })
                && p.window.kernel.iter().all(|&k| k == 1)
                && p.window.strides.iter().all(|&s| s == 1)
                && p.window.pads_begin.iter().chain(&p.window.pads_end).all(|&n| n == 0)
        }
        Op::GlobalPool(p) => {
            p.prologue.is_none()
                && p.activation.is_none()
                && matches!(p.kind, PoolKind::Max | PoolKind::Average { .. })
        }
        Op::Unary(u) => {
            bounds(*u) == Some((f32::NEG_INFINITY, f32::INFINITY))
                || matches!(u, Unary::LeakyRelu { alpha } if *alpha == 1.0)
        }
        Op::Binary(Binary { function, activation: None }) => return neutral(graph, id, *function),
        _ => false,
    };
    (keeps && graph.ty(x) == result).then_some(x)
}

/// The operand of a function whose other operand is its neutral element.
fn neutral(graph: &Graph, id: NodeId, function: BinaryFn) -> Option<Value> {
    let (a, b) = (graph.operand(id, 0)?, graph.operand(id, 1)?);
    let is = |v: Value, n: f32| scalar(graph, v) == Some(n);
    let other = match function {
        BinaryFn::Add if is(b, 0.0) => a,
        BinaryFn::Add if is(a, 0.0) => b,
        BinaryFn::Sub if is(b, 0.0) => a,
        BinaryFn::Mul if is(b, 1.0) => a,
        BinaryFn::Mul if is(a, 1.0) => b,
        BinaryFn::Div | BinaryFn::Pow if is(b, 1.0) => a,
        _ => return None,
    };
    (graph.ty(other) == graph.ty(id.into())).then_some(other)
}

fn is_in_order(select: &ChannelSelect) -> bool {
    select.sources.iter().enumerate().all(|(i, s)| s.operand == 0 && s.channel as usize == i)
}
