//! Moves an addition into the epilogue of a layer that makes one of its terms.
//!
//! ```text
//!   x ───────────┐                        x ──────┐ (residual)
//!                add [relu]   becomes             ▼
//!   y ─▶ conv ───┘                        y ─▶ conv [+ residual, relu]
//! ```
//!
//! The layer must have no other reader: nobody else sees its result without the addition. The other term can't depend
//! on it then, so no cycle comes about. Where both terms are made by such layers, the one that comes last takes the
//! other: that one exists by then.

use std::collections::BTreeMap;

use nnc_ir::op::{BinaryFn, Conv, Epilogue, MatMul, Pool, Residual, Unary};
use nnc_ir::{Graph, NodeId, Op, Value};

use super::edit::{each_node, is_float, producer, read_only_by, set, take_over};
use super::{EditError, Notes};
use crate::code::layers::can_absorb;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    let order = graph.order()?;
    let position: BTreeMap<NodeId, usize> = order.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    each_node(graph, notes, |graph, notes, id| {
        let Some((layer, op, at, residual)) = candidate(graph, id, &position) else { return Ok(()) };
        let mut operands = graph.operands(layer);
        set(&mut operands, at, residual);
        take_over(graph, notes, layer, (op, &operands), id, "residual")?;
        notes.count("fused as residual");
        Ok(())
    })
}

/// The layer that can take the addition in, what it becomes, and where it reads the other term.
fn candidate(
    graph: &Graph,
    id: NodeId,
    position: &BTreeMap<NodeId, usize>,
) -> Option<(NodeId, Op, usize, Value)> {
    let Op::Binary(add) = &graph.node(id).op else { return None };
    let (a, b) = (graph.operand(id, 0)?, graph.operand(id, 1)?);
    if add.function != BinaryFn::Add || !is_float(graph, a) || graph.ty(a) != graph.ty(b) {
        return None;
    }
    let mut terms = [(a, b), (b, a)];
    terms.sort_by_key(|(layer, _)| std::cmp::Reverse(position.get(&layer.node)));
    terms.into_iter().find_map(|(layer, residual)| {
        if layer.node == residual.node || !read_only_by(graph, layer, id) {
            return None;
        }
        let (op, at) = with_residual(producer(graph, layer), add.activation)?;
        can_absorb(graph, layer.node, &op).then_some((layer.node, op, at, residual))
    })
}

/// The layer with an addition after it and an activation after that.
fn with_residual(op: &Op, activation: Option<Unary>) -> Option<(Op, usize)> {
    match op {
        Op::Conv(conv) => {
            let epilogue = add_after(conv.epilogue, activation)?;
            Some((Conv { epilogue, ..conv.clone() }.into(), Conv::RESIDUAL))
        }
        Op::Pool(pool) => {
            let epilogue = add_after(pool.epilogue, activation)?;
            Some((Pool { epilogue, ..pool.clone() }.into(), Pool::RESIDUAL))
        }
        Op::MatMul(product) => {
            let epilogue = add_after(product.epilogue, activation)?;
            Some((MatMul { epilogue, ..product.clone() }.into(), MatMul::RESIDUAL))
        }
        _ => None,
    }
}

fn add_after(epilogue: Epilogue, activation: Option<Unary>) -> Option<Epilogue> {
    let (residual, activation) = match (epilogue.residual, epilogue.activation, activation) {
        _ if epilogue.stored.is_some() => return None,
        (None, None, after) => (Residual::BeforeActivation, after),
        (None, Some(before), None) => (Residual::AfterActivation, Some(before)),
        _ => return None,
    };
    Some(Epilogue { residual: Some(residual), activation, stored: None })
}
