//! Turns concat, split, slice, gather and shuffle along the channels into [`ChannelSelect`]s that read layers.
//!
//! ```text
//!   a ─┐                                                  ┌─▶ b′       a ─▶ select 0,4,1,5 ─▶ b′
//!      concat ─▶ reshape ─▶ transpose ─▶ reshape ─▶ split ┤   becomes  c ─┘
//!   c ─┘         2,4        1,0          8                └─▶ c′       a ─▶ select 2,6,3,7 ─▶ c′
//!                                                                      c ─┘
//! ```
//!
//! A select that reads a select reads through it, so that each says from which layer each of its channels comes, however
//! many units of a network lie between. The plan gives them channel maps in which nothing moves.

use std::collections::BTreeMap;

use nnc_ir::op::{ChannelSelect, ChannelSource, Slice};
use nnc_ir::{Graph, NodeId, Op, Value};

use super::edit::{each_node, input_of, producer, replace, rewrite};
use super::{EditError, Notes};
use crate::code::float::Float;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        if let Some(parts) = split(graph, id) {
            for (output, part) in parts.into_iter().enumerate() {
                let value = Value { node: id, output: output as u32 };
                if !graph.is_output(value) && graph.consumers(value).is_empty() {
                    continue;
                }
                let name = format!("{}:{output}", graph.node(id).name);
                let select = part.resolved(graph);
                let node = graph.add(name, select.op(), &select.operands())?;
                graph.replace_value(value, node.into())?;
                drop_identity(graph, node)?;
            }
            graph.prune(id);
            notes.count("splits");
            return Ok(());
        }
        separate_channels(graph, id)?;
        // A select without channels would read nothing, and so have no type.
        if let Some((channels, what)) = channels(graph, id).filter(|(channels, _)| !channels.0.is_empty()) {
            let select = channels.resolved(graph);
            rewrite(graph, id, select.op(), &select.operands())?;
            notes.count(what);
            drop_identity(graph, id)?;
        } else if let Some(select) = composed(graph, id) {
            rewrite(graph, id, select.op(), &select.operands())?;
            notes.count("composed");
            drop_identity(graph, id)?;
        }
        Ok(())
    })
}

/// For each channel of a value, the value and the channel that it comes from.
struct ChannelOrigins(Vec<(Value, u32)>);

/// The same as operator and operands, each operand once, in the order in which they first come up.
struct Select {
    values: Vec<Value>,
    sources: Vec<ChannelSource>,
}

impl ChannelOrigins {
    fn run(value: Value, channels: impl IntoIterator<Item = usize>) -> ChannelOrigins {
        ChannelOrigins(channels.into_iter().map(|c| (value, c as u32)).collect())
    }

    /// Reads through selects, down to values that are none.
    fn resolved(&self, graph: &Graph) -> Select {
        let mut index: BTreeMap<Value, u32> = BTreeMap::new();
        let mut select = Select { values: Vec::new(), sources: Vec::with_capacity(self.0.len()) };
        let mut through: BTreeMap<Value, Option<Vec<(Value, u32)>>> = BTreeMap::new();
        for &(mut value, mut channel) in &self.0 {
            loop {
                let selected = through.entry(value).or_insert_with(|| sources(graph, value).map(|c| c.0));
                match selected.as_ref().and_then(|s| s.get(channel as usize)) {
                    Some(&source) => (value, channel) = source,
                    None => break,
                }
            }
            let operand = *index.entry(value).or_insert_with(|| {
                select.values.push(value);
                select.values.len() as u32 - 1
            });
            select.sources.push(ChannelSource { operand, channel });
        }
        select
    }
}

impl Select {
    fn op(&self) -> Op {
        ChannelSelect { sources: self.sources.clone() }.into()
    }

    fn operands(&self) -> Vec<Option<Value>> {
        self.values.iter().copied().map(Some).collect()
    }
}

/// What a [`ChannelSelect`] node reads; `None` for other nodes.
fn sources(graph: &Graph, value: Value) -> Option<ChannelOrigins> {
    let Op::ChannelSelect(select) = producer(graph, value) else { return None };
    let operands = graph.operands(value.node);
    let channels: Option<Vec<(Value, u32)>> = select
        .sources
        .iter()
        .map(|s| Some((operands.get(s.operand as usize).copied().flatten()?, s.channel)))
        .collect();
    channels.map(ChannelOrigins)
}

/// A select with operands that are selects, or that it does not use, or has twice.
fn composed(graph: &Graph, id: NodeId) -> Option<Select> {
    let channels = sources(graph, id.into())?;
    let select = channels.resolved(graph);
    (select.operands() != graph.operands(id)).then_some(select)
}

/// Drops a select that passes on all channels of its operand in order.
fn drop_identity(graph: &mut Graph, id: NodeId) -> Result<(), EditError> {
    let Op::ChannelSelect(select) = &graph.node(id).op else { return Ok(()) };
    let [Some(x)] = graph.operands(id)[..] else { return Ok(()) };
    let in_order = select.sources.iter().enumerate().all(|(i, s)| s.channel as usize == i);
    if in_order && graph.ty(x) == graph.ty(id.into()) {
        replace(graph, id, x)?;
    }
    Ok(())
}

/// Number of channels of an image (or a sequence, or a volume) of floats; `None` for other values.
fn image_channels(graph: &Graph, value: Value) -> Option<usize> {
    let ty = graph.ty(value);
    match ty.shape[..] {
        [_, c, _, ..] if Float::stored(ty.dtype).is_some() && u32::try_from(c).is_ok() => Some(c),
        _ => None,
    }
}

/// The results of a Split along the channels.
fn split(graph: &Graph, id: NodeId) -> Option<Vec<ChannelOrigins>> {
    let Op::Split(split) = &graph.node(id).op else { return None };
    let x = graph.operand(id, 0)?;
    image_channels(graph, x).filter(|_| split.axis == 1 && !split.parts.contains(&0))?;
    let mut first = 0;
    let part = |&len: &usize| {
        first += len;
        ChannelOrigins::run(x, first - len..first)
    };
    Some(split.parts.iter().map(part).collect())
}

/// A node with one result that only picks channels.
fn channels(graph: &Graph, id: NodeId) -> Option<(ChannelOrigins, &'static str)> {
    let x = graph.operand(id, 0)?;
    image_channels(graph, x)?;
    match &graph.node(id).op {
        Op::Concat(concat) if concat.axis == 1 => {
            let mut channels = Vec::new();
            for value in graph.operands(id) {
                let value = value?;
                channels.extend((0..image_channels(graph, value)?).map(|c| (value, c as u32)));
            }
            Some((ChannelOrigins(channels), "concats"))
        }
        Op::Slice(slice) => {
            let [a] = slice.axes[..] else { return None };
            let picked = |i: usize| (a.start as isize + i as isize * a.step) as usize;
            (a.axis == 1).then(|| (ChannelOrigins::run(x, (0..a.len).map(picked)), "slices"))
        }
        Op::Gather(gather) if gather.axis == 1 && gather.indices.shape().rank() == 1 => {
            let indices = gather.indices.elems::<i64>().ok()?;
            let indices: Option<Vec<usize>> = indices.iter().map(|&i| usize::try_from(i).ok()).collect();
            Some((ChannelOrigins::run(x, indices?), "gathers"))
        }
        Op::Reshape(_) => shuffle(graph, id),
        _ => None,
    }
}

/// A Reshape that ends a reshape-transpose-reshape, when all three together only reorder the channels.
///
/// The middle shape is read without its axes of extent 1. Its first axes must make up N, the next ones C, the rest the
/// spatial axes, and the transpose must leave each of the three where it is: then it doesn't matter how the exporter wrote
/// the image (`[N, g, C/g, H, W]`, `[N, g, C/g, H·W]`, `[g, C/g, H·W]` …).
fn shuffle(graph: &Graph, id: NodeId) -> Option<(ChannelOrigins, &'static str)> {
    let transposed = graph.operand(id, 0)?;
    let Op::Transpose(transpose) = producer(graph, transposed) else { return None };
    let middle = input_of(graph, transposed)?;
    let Op::Reshape(_) = producer(graph, middle) else { return None };
    let x = input_of(graph, middle)?;
    let (count, shape) = (image_channels(graph, x)?, &graph.ty(x).shape);
    if graph.ty(x) != graph.ty(id.into()) || shape.elems() == 0 {
        return None;
    }
    let middle = &graph.ty(middle).shape;
    let rank = |axis: usize| middle[..axis].iter().filter(|&&d| d != 1).count();
    let extents: Vec<usize> = middle.iter().copied().filter(|&d| d != 1).collect();
    let perm: Vec<usize> = transpose.perm.iter().filter(|&&a| middle[a] != 1).map(|&a| rank(a)).collect();

    let batch = axes_that_make(&extents, shape[0])?;
    let behind = batch + axes_that_make(&extents[batch..], count)?;
    let stays = |i: usize| perm[i] == i;
    if !(0..batch).all(stays) || !(behind..perm.len()).all(stays) {
        return None;
    }
    let (extents, perm) = (&extents[batch..behind], &perm[batch..behind]);
    let source = |channel: usize| {
        // Coordinates along the transposed axes, last first, weighted by where those axes stand in x.
        let mut rest = channel;
        let mut source = 0;
        for &axis in perm.iter().rev() {
            let axis = axis - batch;
            source += rest % extents[axis] * extents[axis + 1..].iter().product::<usize>();
            rest /= extents[axis];
        }
        source
    };
    Some((ChannelOrigins::run(x, (0..count).map(source)), "shuffles"))
}

/// How many of the first extents have this product.
fn axes_that_make(extents: &[usize], product: usize) -> Option<usize> {
    let mut made = 1;
    for (i, extent) in extents.iter().enumerate() {
        if made == product {
            return Some(i);
        }
        made *= extent;
    }
    (made == product).then_some(extents.len())
}

/// Slices the channels behind the other axes of a Slice, so that they can be a select.
fn separate_channels(graph: &mut Graph, id: NodeId) -> Result<(), EditError> {
    let Op::Slice(slice) = &graph.node(id).op else { return Ok(()) };
    let Some(x) = graph.operand(id, 0) else { return Ok(()) };
    if slice.axes.len() < 2 || image_channels(graph, x).is_none() {
        return Ok(());
    }
    let (channels, others): (Vec<_>, Vec<_>) = slice.axes.iter().copied().partition(|a| a.axis == 1);
    if channels.is_empty() {
        return Ok(());
    }
    let name = format!("{}:window", graph.node(id).name);
    let window = graph.add(name, Slice { axes: others }.into(), &[Some(x)])?;
    rewrite(graph, id, Slice { axes: channels }, &[Some(window.into())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_counted_up_to_a_product() {
        assert_eq!(axes_that_make(&[2, 3, 4], 6), Some(2));
        assert_eq!(axes_that_make(&[2, 3, 4], 1), Some(0));
        assert_eq!(axes_that_make(&[2, 3, 4], 24), Some(3));
        assert_eq!(axes_that_make(&[2, 3, 4], 8), None);
    }
}
