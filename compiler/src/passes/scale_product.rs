//! Folds the scaling of a matrix product into its constant weights.
//!
//! ```text
//!   x ─▶ matmul W + b ─▶ · s        becomes        x ─▶ matmul W′ + b′        W′ = W · s, b′ = b · s
//! ```
//!
//! `s` is a number or has one for each column: the factor of a Gemm, the scale of attention's queries, a layer scale.

use nnc_ir::op::{BinaryFn, MatMul};
use nnc_ir::{Graph, NodeId, Op, Tensor, Value};

use super::edit::{channel_axis, each_node, floats, per_channel, read_only_by, set, take_over, vector};
use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let Some((layer, scale)) = scaling(graph, id) else { return Ok(()) };
        let Op::MatMul(product) = graph.node(layer).op.clone() else { return Ok(()) };
        let Some(operands) = scaled(graph, layer, &product, &scale)? else { return Ok(()) };
        take_over(graph, notes, layer, (product.into(), &operands), id, "weights and bias")?;
        notes.count("folded into the weights");
        Ok(())
    })
}

/// The product whose result a node multiplies or divides, and by what, for each of its columns.
fn scaling(graph: &Graph, id: NodeId) -> Option<(NodeId, Vec<f32>)> {
    let Op::Binary(binary) = &graph.node(id).op else { return None };
    if binary.activation.is_some() {
        return None;
    }
    let (a, b) = (graph.operand(id, 0)?, graph.operand(id, 1)?);
    let terms: &[(Value, Value)] = match binary.function {
        BinaryFn::Mul => &[(a, b), (b, a)],
        BinaryFn::Div => &[(a, b)],
        _ => return None,
    };
    terms.iter().find_map(|&(layer, factor)| {
        let Op::MatMul(product) = &graph.node(layer.node).op else { return None };
        if !product.epilogue.is_none() || !read_only_by(graph, layer, id) {
            return None;
        }
        let mut scale = per_channel(graph, factor, graph.ty(layer), channel_axis(graph, layer.node)?)?;
        if binary.function == BinaryFn::Div {
            scale.iter_mut().for_each(|s| *s = 1.0 / *s);
        }
        Some((layer.node, scale))
    })
}

/// The operands of a product whose columns are scaled. `None` where its parameters are not known, or would not be finite: `s · Σ a · w`
/// is another infinity or NaN than `Σ a · (s · w)`.
fn scaled(
    graph: &mut Graph,
    layer: NodeId,
    product: &MatMul,
    scale: &[f32],
) -> Result<Option<Vec<Option<Value>>>, EditError> {
    let mut operands = graph.operands(layer);
    let Some(weights) = graph.operand(layer, MatMul::B) else { return Ok(None) };
    let (Some(elems), shape) = (floats(graph, weights), graph.ty(weights).shape.clone()) else {
        return Ok(None);
    };
    let columns = scale.len().max(1);
    let depth = if product.trans_b { shape.last().copied().unwrap_or(1).max(1) } else { 1 };
    let elems: Vec<f32> = (elems.iter().enumerate())
        .map(|(i, w)| w * scale.get(i / depth % columns).copied().unwrap_or(1.0))
        .collect();
    let bias = match graph.operand(layer, MatMul::BIAS) {
        None => None,
        Some(bias) => {
            let Some(elems) = floats(graph, bias) else { return Ok(None) };
            let elems: Vec<f32> = elems.iter().zip(scale).map(|(b, s)| b * s).collect();
            Some((graph.node(bias.node).name.clone(), elems))
        }
    };
    let all = elems.iter().chain(bias.iter().flat_map(|(_, elems)| elems)).chain(scale);
    if !all.into_iter().all(|x| x.is_finite()) {
        return Ok(None);
    }
    let name = graph.node(weights.node).name.clone();
    let weights = graph.add_constant(name, Tensor::new(shape, &elems)?);
    set(&mut operands, MatMul::B, weights);
    if let Some((name, elems)) = bias {
        let bias = vector(graph, name, &elems)?;
        set(&mut operands, MatMul::BIAS, bias);
    }
    Ok(Some(operands))
}
