//! Moves activations into the layer before, or else into prologues of the layers behind.
//!
//! ```text
//!   conv ─▶ relu                       becomes   conv [relu]
//!
//!   conv ─┐                                      conv [relu] ─┐
//!   pool ─┴ channel select ─▶ relu     becomes   pool [relu] ─┴ channel select
//!
//!   add ─┬─────────────▶ pool                    add ─┬─▶ pool
//!        └─▶ relu ─┬───▶ conv a        becomes        ├─▶ [relu] conv a
//!                  └───▶ conv b                       └─▶ [relu] conv b
//! ```
//!
//! The first costs nothing, since the result is in registers. The last is for results that are also read without the
//! activation (NASNet): each reader applies it to what it loads, before its padding. A Relu of what is never negative
//! goes away.

use nnc_ir::op::{Conv, GlobalPool, Pool, Prologue, Unary};
use nnc_ir::{Graph, NodeId, Op, Value};

use super::edit::{
    each_node, is_float, is_non_negative, producer, read_only_by, replace, rewrite, take_over, unary,
    with_activation,
};
use super::{EditError, Notes};
use crate::code::layers::can_absorb;
use crate::code::tile::programs::epilogue::Activation;

/// Whether an epilogue can apply a function: in registers, by every kernel. Others cost more than they save: a layer that
/// no kernel computes is a loop nest, many times slower, and a pass over its result is none.
pub fn is_fusable(function: &Unary) -> bool {
    Activation::of(function).is_some()
}

/// Whether a prologue may apply a function, which it does anew for each tap that reads the element.
pub(super) fn is_cheap(function: &Unary) -> bool {
    use Unary::*;
    matches!(function, Relu | Clip { .. } | LeakyRelu { .. } | HardSigmoid { .. } | HardSwish)
}

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let Some((function, x)) = unary(graph, id.into()) else { return Ok(()) };
        if !is_float(graph, x) {
            return Ok(());
        }
        if function == Unary::Relu && is_non_negative(graph, x) {
            replace(graph, id, x)?;
            notes.count("dropped");
        } else if !is_fusable(&function) {
            return Ok(());
        } else if read_only_by(graph, x, id)
            && let Some(op) = with_activation(graph, x.node, producer(graph, x), function)
        {
            let operands = graph.operands(x.node);
            take_over(graph, notes, x.node, (op, &operands), id, "activation")?;
            notes.count("fused");
        } else if let Some(layers) = layers_behind_select(graph, id, x, function) {
            let (name, op_name) = (graph.node(id).name.clone(), graph.node(id).op.name());
            for (layer, op) in &layers {
                graph.admits(*layer, op, &graph.operands(*layer))?;
            }
            for (layer, op) in layers {
                let operands = graph.operands(layer);
                rewrite(graph, layer, op, &operands)?;
                notes.absorbed(&graph.node(layer).name, &name, op_name, "activation");
            }
            replace(graph, id, x)?;
            notes.count("fused through a channel select");
        } else if is_cheap(&function)
            && let Some(readers) = readers_with_prologue(graph, id.into(), |p| {
                p.is_none().then_some(Prologue { affine: false, activation: Some(function) })
            })
        {
            let (name, op_name) = (graph.node(id).name.clone(), graph.node(id).op.name());
            for (reader, op) in readers {
                let mut operands = graph.operands(reader);
                operands[Conv::X] = Some(x);
                rewrite(graph, reader, op, &operands)?;
                notes.absorbed(&graph.node(reader).name, &name, op_name, "prologue");
            }
            notes.count("as prologue");
        }
        Ok(())
    })
}

/// The layers that a select reads, each with the function applied to its result; `None` unless all can do that and
/// nobody else sees their results.
fn layers_behind_select(graph: &Graph, id: NodeId, x: Value, function: Unary) -> Option<Vec<(NodeId, Op)>> {
    let Op::ChannelSelect(_) = producer(graph, x) else { return None };
    if !read_only_by(graph, x, id) {
        return None;
    }
    let mut layers = Vec::new();
    for layer in graph.operands(x.node) {
        let layer = layer?;
        if function == Unary::Relu && is_non_negative(graph, layer) {
            continue;
        }
        if !read_only_by(graph, layer, x.node) {
            return None;
        }
        layers.push((layer.node, with_activation(graph, layer.node, producer(graph, layer), function)?));
    }
    Some(layers)
}

/// All readers of a value with another prologue; `None` unless each can have it and the value is no output of the graph.
pub(super) fn readers_with_prologue(
    graph: &Graph,
    value: Value,
    change: impl Fn(Prologue) -> Option<Prologue>,
) -> Option<Vec<(NodeId, Op)>> {
    if graph.is_output(value) {
        return None;
    }
    let readers = graph.consumers(value);
    let changed: Option<Vec<(NodeId, Op)>> = readers
        .iter()
        .map(|&(reader, input)| {
            let op = match &graph.node(reader).op {
                Op::Conv(c) => Conv { prologue: change(c.prologue)?, ..c.clone() }.into(),
                Op::Pool(p) => Pool { prologue: change(p.prologue)?, ..p.clone() }.into(),
                Op::GlobalPool(p) => GlobalPool { prologue: change(p.prologue)?, ..p.clone() }.into(),
                _ => return None,
            };
            (input == Conv::X && can_absorb(graph, reader, &op)).then_some((reader, op))
        })
        .collect();
    changed.filter(|c| !c.is_empty())
}
