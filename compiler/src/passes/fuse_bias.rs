//! Turns the addition of one constant a channel into the bias of the layer before.
//!
//! ```text
//!   x ─▶ conv ─▶ add [1,C,1,1]        becomes    x ─▶ conv + bias
//!   x ─▶ matmul ─▶ add [N]            becomes    x ─▶ matmul + bias
//! ```
//!
//! Only layers without a bias take it as it is; where there is one already, the addition becomes a channel affine and
//! `fold_batch_norm` adds it to the bias.

use nnc_ir::op::{BinaryFn, Conv, MatMul};
use nnc_ir::{Graph, NodeId, Op, Value};

use super::edit::{channel_axis, each_node, per_channel, read_only_by, set, take_over, vector};
use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let Some((layer, bias)) = addition(graph, id) else { return Ok(()) };
        let Some((op, position)) = with_bias(graph, layer.node) else { return Ok(()) };
        let Op::Binary(add) = &graph.node(id).op else { return Ok(()) };
        let op = match add.activation {
            None => op,
            Some(activation) => match super::edit::with_activation(graph, layer.node, &op, activation) {
                Some(op) => op,
                None => return Ok(()),
            },
        };
        let name = format!("{}:bias", graph.node(id).name);
        let bias = vector(graph, name, &bias)?;
        let mut operands = graph.operands(layer.node);
        set(&mut operands, position, bias);
        take_over(graph, notes, layer.node, (op, &operands), id, "bias")?;
        notes.count("turned into a bias");
        Ok(())
    })
}

/// The layer's result and the bias of a node that adds one to the other.
fn addition(graph: &Graph, id: NodeId) -> Option<(Value, Vec<f32>)> {
    let Op::Binary(binary) = &graph.node(id).op else { return None };
    if binary.function != BinaryFn::Add {
        return None;
    }
    let (a, b) = (graph.operand(id, 0)?, graph.operand(id, 1)?);
    for (layer, bias) in [(a, b), (b, a)] {
        if read_only_by(graph, layer, id)
            && let Some(axis) = channel_axis(graph, layer.node)
            && let Some(bias) = per_channel(graph, bias, graph.ty(layer), axis)
        {
            return Some((layer, bias));
        }
    }
    None
}

/// The layer with room for a bias, and the position of that operand; `None` when it has one or cannot have one.
fn with_bias(graph: &Graph, layer: NodeId) -> Option<(Op, usize)> {
    let free = |position| graph.operand(layer, position).is_none();
    match &graph.node(layer).op {
        Op::Conv(conv) if conv.epilogue.is_none() && free(Conv::B) => Some((conv.clone().into(), Conv::B)),
        Op::ConvTranspose(conv) if conv.activation.is_none() && free(2) => Some((conv.clone().into(), 2)),
        Op::MatMul(product) if product.epilogue.is_none() && free(MatMul::BIAS) => {
            Some((product.clone().into(), MatMul::BIAS))
        }
        _ => None,
    }
}
