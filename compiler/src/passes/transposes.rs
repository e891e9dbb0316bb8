//! Cancels the transposes of channels-last exporters.
//!
//! ```text
//!   conv ─▶ to NHWC ─▶ relu ─▶ add ─▶ to NCHW ─▶ conv       becomes   conv ─▶ relu ─▶ add ─▶ conv
//!   y ─────▶ to NHWC ──────────▲                                      y ──────────────▲
//! ```
//!
//! Transposes sink below operators that don't mind the order of axes, or whose axis attributes can be renamed; where two
//! meet they merge, and vanish when they are each other's inverse. Whether sinking pays shows only at the end: it is tried
//! on a copy of the graph, which is kept when it transposes fewer bytes.

use nnc_ir::op::{Concat, Pad, Reduce, Slice, Softmax, Split, Transpose};
use nnc_ir::{Graph, NodeId, Op, Value};

use super::edit::{each_node, input_of, producer, replace, rewrite};
use super::{EditError, Notes};

/// Steps that a copy of the graph may take, for each of its nodes.
const MAX_STEPS_A_NODE: usize = 8;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    let before = transposes(graph);
    if before.count == 0 {
        return Ok(());
    }
    let mut copy = graph.clone();
    let mut steps = MAX_STEPS_A_NODE.saturating_mul(copy.len());
    while sink_once(&mut copy, notes, &mut steps)? {}
    let after = transposes(&copy);
    if (after.bytes, after.count) < (before.bytes, before.count) {
        *graph = copy;
        for _ in 0..before.count.saturating_sub(after.count).max(1) {
            notes.count("cancelled");
        }
    }
    Ok(())
}

struct Transposes {
    bytes: usize,
    count: usize,
}

fn transposes(graph: &Graph) -> Transposes {
    let mut all = Transposes { bytes: 0, count: 0 };
    for id in graph.node_ids() {
        if let Op::Transpose(_) = graph.node(id).op {
            all.count += 1;
            all.bytes += graph.ty(id.into()).bytes();
        }
    }
    all
}

/// Sinks what can sink, in order, while there are steps left. Returns whether anything did.
fn sink_once(graph: &mut Graph, notes: &mut Notes, steps: &mut usize) -> Result<bool, EditError> {
    let mut changed = false;
    each_node(graph, notes, |graph, _, id| {
        if *steps > 0 && (merge(graph, id)? || sink(graph, id)?) {
            *steps -= 1;
            changed = true;
        }
        Ok(())
    })?;
    Ok(changed)
}

/// Makes one transpose of two that follow each other, or none.
fn merge(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let Op::Transpose(second) = &graph.node(id).op else { return Ok(false) };
    let Some(middle) = graph.operand(id, 0) else { return Ok(false) };
    let (Op::Transpose(first), Some(x)) = (producer(graph, middle), input_of(graph, middle)) else {
        return Ok(false);
    };
    let perm: Option<Vec<usize>> = second.perm.iter().map(|&a| first.perm.get(a).copied()).collect();
    let Some(perm) = perm else { return Ok(false) };
    if perm.is_sorted() {
        replace(graph, id, x)?;
    } else {
        rewrite(graph, id, Transpose { perm }, &[Some(x)])?;
    }
    Ok(true)
}

/// `op(transpose(x))` becomes `transpose(op′(x))`.
fn sink(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let Some(perm) = common_perm(graph, id) else { return Ok(false) };
    if let Some(reduce) = reduced(&graph.node(id).op, &perm) {
        let x = graph.operand(id, 0).and_then(|x| input_of(graph, x));
        rewrite(graph, id, reduce, &[x])?;
        return Ok(true);
    }
    let Some(op) = renamed(&graph.node(id).op, &perm) else { return Ok(false) };
    let mut operands = Vec::new();
    for value in graph.operands(id).into_iter().flatten() {
        let Some(value) = untransposed(graph, value, &perm)? else { return Ok(false) };
        operands.push(Some(value));
    }
    let name = graph.node(id).name.clone();
    let renamed = graph.add(name, op, &operands)?;
    let mut transposed = Vec::new();
    for output in 0..graph.node(id).outputs.len() as u32 {
        let value = Value { node: renamed, output };
        let back = graph.add(
            format!("{}:transpose", graph.node(id).name),
            Transpose { perm: perm.clone() }.into(),
            &[Some(value)],
        )?;
        graph.replace_value(Value { node: id, output }, back.into())?;
        transposed.push(back);
    }
    // Those that nobody reads, when all are there: the last one would take what it transposes along.
    transposed.into_iter().for_each(|back| graph.prune(back));
    graph.prune(id);
    Ok(true)
}

/// The permutation by which all operands of a node that are no constants were transposed.
fn common_perm(graph: &Graph, id: NodeId) -> Option<Vec<usize>> {
    let mut common: Option<&[usize]> = None;
    for value in graph.operands(id) {
        match producer(graph, value?) {
            Op::Constant(_) => {}
            Op::Transpose(t) if common.is_none_or(|perm| perm == t.perm) => common = Some(&t.perm),
            _ => return None,
        }
    }
    common.map(<[usize]>::to_vec)
}

/// The operator with its axes named as they were before the transpose.
fn renamed(op: &Op, perm: &[usize]) -> Option<Op> {
    let axis = |a: usize| perm.get(a).copied();
    let unpermuted = |by_axis: &[isize]| {
        let mut result = vec![0; by_axis.len()];
        for (i, n) in by_axis.iter().enumerate() {
            *result.get_mut(axis(i)?)? = *n;
        }
        Some(result)
    };
    Some(match op {
        Op::Unary(_) | Op::Binary(_) | Op::Where(_) | Op::Cast(_) => op.clone(),
        Op::Concat(c) => Concat { axis: axis(c.axis)? }.into(),
        Op::Split(s) => Split { axis: axis(s.axis)?, parts: s.parts.clone() }.into(),
        Op::Softmax(s) => Softmax { axis: axis(s.axis)? }.into(),
        Op::Slice(s) => {
            let mut axes = s.axes.clone();
            for a in &mut axes {
                a.axis = axis(a.axis)?;
            }
            axes.sort_by_key(|a| a.axis);
            Slice { axes }.into()
        }
        Op::Pad(p) => Pad { begin: unpermuted(&p.begin)?, end: unpermuted(&p.end)?, mode: p.mode }.into(),
        Op::Reduce(r) if r.keep_dims => {
            let axes: Option<Vec<usize>> = r.axes.iter().map(|&a| axis(a)).collect();
            let mut axes = axes?;
            axes.sort_unstable();
            Reduce { axes, ..r.clone() }.into()
        }
        _ => return None,
    })
}

/// A reduction that drops axes, over the axes as they were before the transpose: it needs no transpose behind when the axes
/// that remain are in order.
fn reduced(op: &Op, perm: &[usize]) -> Option<Reduce> {
    let Op::Reduce(reduce) = op else { return None };
    let (mut axes, mut rest) = (Vec::new(), Vec::new());
    for (i, &axis) in perm.iter().enumerate() {
        if reduce.axes.contains(&i) { axes.push(axis) } else { rest.push(axis) }
    }
    axes.sort_unstable();
    (!reduce.keep_dims && rest.is_sorted()).then(|| Reduce { axes, ..reduce.clone() })
}

/// What an operand was before the transpose; a constant gets transposed back, with its shape padded to the rank.
fn untransposed(graph: &mut Graph, value: Value, perm: &[usize]) -> Result<Option<Value>, EditError> {
    let Some(tensor) = graph.constant(value).cloned() else { return Ok(input_of(graph, value)) };
    if tensor.shape().elems() == 1 && tensor.shape().rank() <= perm.len() {
        return Ok(Some(value));
    }
    let Some(missing) = perm.len().checked_sub(tensor.shape().rank()) else { return Ok(None) };
    let mut shape = vec![1; missing];
    shape.extend(tensor.shape().iter());
    let tensor = tensor.reshaped(shape)?;
    let mut inverse = vec![0; perm.len()];
    for (i, &axis) in perm.iter().enumerate() {
        match inverse.get_mut(axis) {
            Some(slot) => *slot = i,
            None => return Ok(None),
        }
    }
    let back = Op::from(Transpose { perm: inverse }).eval(&[Some(&tensor)]);
    let Some(back) = back.ok().and_then(|results| results.into_iter().next()) else { return Ok(None) };
    let name = graph.node(value.node).name.clone();
    Ok(Some(graph.add_constant(name, back)))
}
