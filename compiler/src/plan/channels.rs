//! Where channels live: which images share a wide buffer, and in which order a convolution writes its channels.
//!
//! Kernels that reduce over channels (dense convolutions) can read them from anywhere: a table says where each run
//! of them starts. So what the graph does to channels between two layers (concat, split, shuffle: a
//! [`ChannelSelect`](nnc_ir::op::ChannelSelect)) needs no code. Two choices make the runs long:
//!
//! **Wide buffers.** The operands of a plain concat are written side by side into one buffer, so that whoever reads the
//! whole finds one run (SqueezeNet's fire, DenseNet's blocks, NASNet's cells):
//!
//! ```text
//!   concat(a, b, c)          ┌─ a ─┬─ b ─┬─ c ─┐  one buffer, each part starting at a whole vector
//! ```
//!
//! **Output order.** A dense convolution may write its channels in any order. Channels with the same readers are put
//! next to each other. In ShuffleNet v2 half of a unit's channels go into the next unit's branch, a quarter into the
//! one after it, and so on: each reader finds its channels of one producer together.

use std::collections::BTreeMap;

use nnc_ir::op::{ChannelSelect, Op};
use nnc_ir::{Graph, NodeId, Value};

use super::pitch::LANES;

/// The part of a wide buffer that a value gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WidePart {
    /// Which wide buffer.
    pub wide: usize,
    /// Its first slot in it.
    pub at: usize,
}

/// Wide buffers, and which values are parts of them.
#[derive(Clone, Debug, Default)]
pub struct WideBuffers {
    /// Number of slots of each.
    pub slots: Vec<usize>,
    /// Which values are parts.
    pub parts: BTreeMap<Value, WidePart>,
}

/// The operands of a select that is a plain concat: each operand whole, in order, none twice.
fn concat_parts(graph: &Graph, node: NodeId, select: &ChannelSelect) -> Option<Vec<Value>> {
    let operands = graph.operands(node);
    let mut parts = Vec::new();
    let mut sources = select.sources.as_slice();
    while let Some(first) = sources.first() {
        let value = operands.get(first.operand as usize).copied().flatten()?;
        let channels = *graph.ty(value).shape.get(1)?;
        let (part, rest) = sources.split_at_checked(channels)?;
        let whole =
            part.iter().enumerate().all(|(c, s)| s.operand == first.operand && s.channel as usize == c);
        if !whole || parts.contains(&value) {
            return None;
        }
        parts.push(value);
        sources = rest;
    }
    (parts.len() > 1).then_some(parts)
}

/// Gives the operands of plain concats neighbouring windows, the widest concat first: the narrower ones of a DenseNet block
/// are its prefixes. `is_producer` says which values a step writes as an image of its own.
pub fn wide_buffers(graph: &Graph, order: &[NodeId], is_producer: impl Fn(Value) -> bool) -> WideBuffers {
    let mut concats: Vec<Vec<Value>> = order
        .iter()
        .filter_map(|&id| match &graph.node(id).op {
            Op::ChannelSelect(select) => concat_parts(graph, id, select),
            _ => None,
        })
        .collect();
    concats.sort_by_key(|parts| std::cmp::Reverse(parts.iter().map(|&v| channels(graph, v)).sum::<usize>()));
    let mut wide = WideBuffers::default();
    for mut parts in concats {
        // What a DenseNet block starts with is made while the larger picture before it is still there: the space for the
        // rest of the block must not be taken yet.
        if parts.first().is_some_and(|&first| shrinks(graph, first) && selects(graph, first) > 1) {
            parts.remove(0);
        }
        if !parts.iter().all(|&v| is_producer(v) && !wide.parts.contains_key(&v)) {
            continue;
        }
        let mut at = 0;
        for value in parts {
            wide.parts.insert(value, WidePart { wide: wide.slots.len(), at });
            at += channels(graph, value).next_multiple_of(LANES);
        }
        wide.slots.push(at);
    }
    wide
}

/// Whether the value has fewer elements than what it is made of.
fn shrinks(graph: &Graph, value: Value) -> bool {
    let elems = |v: Value| graph.ty(v).shape.elems();
    graph.operand(value.node, 0).is_some_and(|x| elems(x) > elems(value))
}

/// How many selects read the value.
fn selects(graph: &Graph, value: Value) -> usize {
    graph.consumers(value).iter().filter(|(id, _)| matches!(graph.node(*id).op, Op::ChannelSelect(_))).count()
}

fn channels(graph: &Graph, value: Value) -> usize {
    graph.ty(value).shape.get(1).copied().unwrap_or(0)
}

/// The order in which to write the channels of a value so that channels with the same readers lie together; `None` when
/// the natural order does that.
pub fn output_order(graph: &Graph, value: Value) -> Option<Vec<usize>> {
    let count = channels(graph, value);
    let mut readers: Vec<Vec<NodeId>> = vec![Vec::new(); count];
    for (reader, operand) in graph.consumers(value) {
        let Op::ChannelSelect(select) = &graph.node(reader).op else {
            readers.iter_mut().for_each(|r| r.push(reader));
            continue;
        };
        let selected: Vec<NodeId> = graph.consumers(reader.into()).into_iter().map(|(id, _)| id).collect();
        for source in select.sources.iter().filter(|s| s.operand as usize == operand) {
            if let Some(list) = readers.get_mut(source.channel as usize) {
                list.extend(&selected);
            }
        }
    }
    for list in &mut readers {
        list.sort_unstable();
        list.dedup();
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| readers[a].cmp(&readers[b]));
    (!order.is_sorted()).then_some(order)
}
