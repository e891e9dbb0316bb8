//! The vocabulary in which passes match and rewrite.

use std::borrow::Cow;

use nnc_ir::op::{BinaryFn, Conv, Epilogue, MatMul, Residual, Unary};
use nnc_ir::{DType, Graph, GraphError, NodeId, Op, Tensor, TensorError, TensorType, Value};

use super::Notes;
use crate::code::float::Float;
use crate::code::layers::can_absorb;

/// Why an edit of the graph was refused.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// By the graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A constant could not be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Visits the nodes of a graph in their order, those that earlier visits have taken away left out. What a visit may not do is noted,
/// and leaves the graph as it was: a valid graph stays one that compiles. So a visit edits what belongs together at once, by one of the
/// functions below, or asks [`Graph::admits`] first.
pub(super) fn each_node(
    graph: &mut Graph,
    notes: &mut Notes,
    mut visit: impl FnMut(&mut Graph, &mut Notes, NodeId) -> Result<(), EditError>,
) -> Result<(), EditError> {
    for id in graph.order()? {
        if !graph.contains(id) {
            continue;
        }
        let (name, counts) = (graph.node(id).name.clone(), notes.counts().to_vec());
        if let Err(error) = visit(graph, notes, id) {
            // New nodes that would have been read.
            graph.remove_unused();
            notes.refused(name, counts, &error);
        }
    }
    Ok(())
}

/// The operator that makes a value.
pub(super) fn producer(graph: &Graph, value: Value) -> &Op {
    &graph.node(value.node).op
}

/// The first operand of the node that makes a value.
pub(super) fn input_of(graph: &Graph, value: Value) -> Option<Value> {
    graph.operand(value.node, 0)
}

/// Whether the elements of a value are floats that layers compute with: `f32` or half floats. What is fused into a layer of
/// half floats is computed in `f32` and rounded once, where the nodes apart round each result.
pub(super) fn is_float(graph: &Graph, value: Value) -> bool {
    Float::of(graph.ty(value).dtype).is_some()
}

/// The function and operand of a [`Unary`] node.
pub(super) fn unary(graph: &Graph, value: Value) -> Option<(Unary, Value)> {
    match producer(graph, value) {
        Op::Unary(u) => Some((*u, input_of(graph, value)?)),
        _ => None,
    }
}

/// Whether a value is a constant of such floats.
pub(super) fn is_constant(graph: &Graph, value: Value) -> bool {
    graph.constant(value).is_some_and(|t| Float::of(t.dtype()).is_some())
}

/// The elements of a constant of such floats, half floats widened; copied where their bytes are not aligned.
pub(super) fn floats(graph: &Graph, value: Value) -> Option<Cow<'_, [f32]>> {
    Float::elems(graph.constant(value)?)
}

/// The element of a constant with one.
pub(super) fn scalar(graph: &Graph, value: Value) -> Option<f32> {
    if graph.ty(value).shape.elems() != 1 {
        return None;
    }
    floats(graph, value)?.first().copied()
}

/// The element of a constant with one, whatever its type.
pub(super) fn number(graph: &Graph, value: Value) -> Option<f32> {
    let tensor = graph.constant(value).filter(|t| t.shape().elems() == 1)?;
    match tensor.dtype() {
        DType::F32 | DType::F16 | DType::BF16 => scalar(graph, value),
        DType::F64 => tensor.elems::<f64>().ok()?.first().map(|&v| v as f32).filter(|v| v.is_finite()),
        DType::I32 => tensor.elems::<i32>().ok()?.first().map(|&v| v as f32),
        DType::I64 => tensor.elems::<i64>().ok()?.first().map(|&v| v as f32),
        _ => None,
    }
}

/// `x + b`, b a scalar.
pub(super) fn plus_constant(graph: &Graph, sum: Value) -> Option<(Value, f32)> {
    let Op::Binary(binary) = producer(graph, sum) else { return None };
    if binary.function != BinaryFn::Add || binary.activation.is_some() {
        return None;
    }
    let (a, b) = (graph.operand(sum.node, 0)?, graph.operand(sum.node, 1)?);
    scalar(graph, b).map(|s| (a, s)).or_else(|| scalar(graph, a).map(|s| (b, s)))
}

/// The axis of a layer's result along which its bias is: that of the channels of an image, of the columns of a product. None for a
/// product by a vector.
pub(super) fn channel_axis(graph: &Graph, layer: NodeId) -> Option<usize> {
    match &graph.node(layer).op {
        Op::MatMul(_) => {
            let b = graph.ty(graph.operand(layer, MatMul::B)?).shape.rank();
            if b < 2 { None } else { graph.ty(layer.into()).shape.rank().checked_sub(1) }
        }
        _ => Some(1),
    }
}

/// The constant as one element for each of `like` along an axis, if broadcasting it to `like` says just that and leaves the shape of
/// `like` as it is.
pub(super) fn per_channel(graph: &Graph, value: Value, like: &TensorType, axis: usize) -> Option<Vec<f32>> {
    let channels = *like.shape.get(axis)?;
    let shape = &graph.ty(value).shape;
    let offset = like.shape.rank().checked_sub(shape.rank())?;
    let fits = shape.iter().enumerate().all(|(i, &d)| d == 1 || (i + offset == axis && d == channels));
    if !fits || Float::of(like.dtype).is_none() {
        return None;
    }
    let elems = floats(graph, value)?;
    match *elems {
        [one] => Some(vec![one; channels]),
        _ => Some(elems.into_owned()),
    }
}

/// Adds a constant vector.
pub(super) fn vector(graph: &mut Graph, name: String, elems: &[f32]) -> Result<Value, EditError> {
    let tensor = Tensor::new([elems.len()], elems)?;
    Ok(graph.add_constant(name, tensor))
}

/// Puts a value at a position of an operand list that may be shorter.
pub(super) fn set(operands: &mut Vec<Option<Value>>, index: usize, value: Value) {
    if operands.len() <= index {
        operands.resize(index + 1, None);
    }
    operands[index] = Some(value);
}

/// Lets readers of the node's first output read `new`, and drops the node.
pub(super) fn replace(graph: &mut Graph, old: NodeId, new: Value) -> Result<(), EditError> {
    graph.replace_value(old.into(), new)?;
    graph.prune(old);
    Ok(())
}

/// Gives a node another operator and operands, and drops operands that nothing reads any more.
pub(super) fn rewrite(
    graph: &mut Graph,
    id: NodeId,
    op: impl Into<Op>,
    operands: &[Option<Value>],
) -> Result<(), EditError> {
    let before = graph.operands(id);
    graph.rewrite(id, op.into(), operands)?;
    for value in before.into_iter().flatten() {
        if !operands.contains(&Some(value)) {
            graph.prune(value.node);
        }
    }
    Ok(())
}

/// Gives `layer` an operator and operands with which it computes what `node` does, and lets it take the place of `node`: both, or
/// neither.
pub(super) fn take_over(
    graph: &mut Graph,
    notes: &mut Notes,
    layer: NodeId,
    (op, operands): (Op, &[Option<Value>]),
    node: NodeId,
    how: &'static str,
) -> Result<(), EditError> {
    same_type(graph, layer.into(), node.into())?;
    rewrite(graph, layer, op, operands)?;
    absorb(graph, notes, layer, node, how)
}

/// Refuses values of different types.
fn same_type(graph: &Graph, new: Value, old: Value) -> Result<(), EditError> {
    let (old_type, new_type) = (graph.ty(old), graph.ty(new));
    if old_type == new_type {
        return Ok(());
    }
    let node = graph.node(old.node).name.clone();
    Err(GraphError::TypeChange { node, old: old_type.clone(), new: new_type.clone() }.into())
}

/// Lets `layer`, which computes what `node` did by now, take the place of `node`.
pub(super) fn absorb(
    graph: &mut Graph,
    notes: &mut Notes,
    layer: NodeId,
    node: NodeId,
    how: &'static str,
) -> Result<(), EditError> {
    let absorbed = graph.node(node);
    notes.absorbed(&graph.node(layer).name, &absorbed.name, absorbed.op.name(), how);
    replace(graph, node, layer.into())
}

/// The node among whose results a value is, when that node's only reader is `reader`.
pub(super) fn read_only_by(graph: &Graph, value: Value, reader: NodeId) -> bool {
    matches!(graph.single_consumer(value), Some((node, _)) if node == reader)
}

/// The operator that a layer has, or could have, with one more activation applied to its result; `None` when it can't take it.
pub(super) fn with_activation(graph: &Graph, layer: NodeId, op: &Op, next: Unary) -> Option<Op> {
    let mut op = op.clone();
    let slot = match &mut op {
        Op::Conv(conv) => epilogue_slot(&mut conv.epilogue)?,
        Op::Pool(pool) => epilogue_slot(&mut pool.epilogue)?,
        Op::ConvTranspose(conv) => &mut conv.activation,
        Op::MatMul(product) => epilogue_slot(&mut product.epilogue)?,
        Op::GlobalPool(pool) => &mut pool.activation,
        Op::Binary(binary) => &mut binary.activation,
        Op::ChannelAffine(affine) => &mut affine.activation,
        _ => return None,
    };
    *slot = Some(match *slot {
        None => next,
        Some(first) => one_after_another(first, next)?,
    });
    can_absorb(graph, layer, &op).then_some(op)
}

fn epilogue_slot(epilogue: &mut Epilogue) -> Option<&mut Option<Unary>> {
    if epilogue.stored.is_some() {
        return None;
    }
    if epilogue.residual == Some(Residual::AfterActivation) {
        if epilogue.activation.is_some() {
            return None;
        }
        // Without an activation the two places are the same.
        epilogue.residual = Some(Residual::BeforeActivation);
    }
    Some(&mut epilogue.activation)
}

/// One function that does what `first` and then `second` do, for bounds. Bounds that cross are the upper one, before others and after them.
pub(super) fn one_after_another(first: Unary, second: Unary) -> Option<Unary> {
    let (a, b) = (bounds(first)?, bounds(second)?);
    Some(from_bounds(a.0.max(b.0).min(b.1), a.1.max(b.0).min(b.1)))
}

/// The bounds between which a function keeps its operand, if that is all it does.
pub(super) fn bounds(function: Unary) -> Option<(f32, f32)> {
    match function {
        Unary::Relu => Some((0.0, f32::INFINITY)),
        Unary::Clip { min, max } => Some((min, max)),
        _ => None,
    }
}

/// The function that keeps its operand between two bounds.
pub(super) fn from_bounds(min: f32, max: f32) -> Unary {
    if min == 0.0 && max == f32::INFINITY { Unary::Relu } else { Unary::Clip { min, max } }
}

/// Whether a value has no element below zero (NaN aside), as far as its producers tell.
pub(super) fn is_non_negative(graph: &Graph, value: Value) -> bool {
    non_negative(graph, value, 16)
}

fn non_negative(graph: &Graph, value: Value, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let operand = |i: usize| graph.operand(value.node, i);
    let input = |i: usize| operand(i).is_some_and(|v| non_negative(graph, v, depth));
    let epilogue = |epilogue: &Epilogue, result: bool, residual: usize| match epilogue.residual {
        None => epilogue.activation.map_or(result, |a| keeps_non_negative(a, result)),
        Some(Residual::BeforeActivation) => {
            epilogue.activation.is_some_and(|a| keeps_non_negative(a, result && input(residual)))
                || epilogue.activation.is_none() && result && input(residual)
        }
        Some(Residual::AfterActivation) => {
            epilogue.activation.map_or(result, |a| keeps_non_negative(a, result)) && input(residual)
        }
    };
    let prologue = |p: &nnc_ir::op::Prologue, x: usize| match p.activation {
        Some(a) => keeps_non_negative(a, !p.affine && input(x)),
        None => !p.affine && input(x),
    };
    match producer(graph, value) {
        Op::Constant(_) => floats(graph, value).is_some_and(|e| e.iter().all(|x| *x >= 0.0)),
        Op::Unary(u) => keeps_non_negative(*u, input(0)),
        Op::Conv(conv) => epilogue(&conv.epilogue, false, nnc_ir::op::Conv::RESIDUAL),
        Op::Pool(pool) => epilogue(&pool.epilogue, prologue(&pool.prologue, 0), nnc_ir::op::Pool::RESIDUAL),
        Op::GlobalPool(pool) => {
            let result = prologue(&pool.prologue, 0);
            pool.activation.map_or(result, |a| keeps_non_negative(a, result))
        }
        Op::ConvTranspose(conv) => conv.activation.is_some_and(|a| keeps_non_negative(a, false)),
        Op::MatMul(product) => epilogue(&product.epilogue, false, MatMul::RESIDUAL),
        Op::ChannelAffine(affine) => affine.activation.is_some_and(|a| keeps_non_negative(a, false)),
        Op::Binary(binary) => {
            use nnc_ir::op::BinaryFn::{Add, Max, Min, Mul};
            let result = match binary.function {
                Add | Mul | Min => input(0) && input(1),
                Max => input(0) || input(1),
                _ => false,
            };
            is_float(graph, value) && binary.activation.map_or(result, |a| keeps_non_negative(a, result))
        }
        Op::Softmax(_) => true,
        Op::ChannelSelect(_) | Op::Concat(_) => (0..graph.operands(value.node).len()).all(input),
        Op::Split(_) | Op::Slice(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Expand(_) => input(0),
        _ => false,
    }
}

/// Whether results are not negative, given whether operands are.
fn keeps_non_negative(function: Unary, operand: bool) -> bool {
    use Unary::*;
    match function {
        Relu | Sigmoid | HardSigmoid { .. } | Exp | Abs | Softplus | Sqrt => true,
        Clip { min, max } => max >= 0.0 && (min >= 0.0 || operand),
        LeakyRelu { .. } | HardSwish | Silu | Tanh | Elu { .. } | Gelu { .. } | Mish | Softsign => operand,
        ThresholdedRelu { alpha } => alpha >= 0.0 || operand,
        _ => false,
    }
}

/// Whether taps on zeros can be left out: zero times NaN or infinity would be NaN.
pub(super) fn zeros_add_nothing(graph: &Graph, conv: NodeId) -> bool {
    let weights = graph.operand(conv, Conv::W).and_then(|w| floats(graph, w));
    weights.is_none_or(|weights| weights.iter().all(|w| w.is_finite()))
}

#[cfg(test)]
mod tests {
    use nnc_ir::op::Unary;
    use nnc_ir::text;

    use super::*;

    #[test]
    fn a_layer_of_another_type_takes_over_nothing_and_stays_as_it_was() {
        let given = "%x = input : f32[2x3]
%a = relu %x : f32[2x3]
%t = transpose %a {perm=[1, 0]} : f32[3x2]
output y = %t
";
        let mut graph = text::parse(given).expect("a graph");
        let [x, a, t] = graph.order().expect("an order")[..] else { panic!("three nodes") };
        let tanh = (Op::from(Unary::Tanh), &[Some(Value::from(x))][..]);
        let error = take_over(&mut graph, &mut Notes::default(), a, tanh, t, "mistake").unwrap_err();
        assert!(matches!(error, EditError::Graph(GraphError::TypeChange { .. })), "{error}");
        assert_eq!(text::print(&graph), given);
    }
}
