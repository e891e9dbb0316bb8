//! Turns a fully connected layer over an image into a convolution whose window is the image.
//!
//! ```text
//!   x [N,C,H,W] ─▶ reshape [N,C·H·W] ─▶ gemm [N,M]
//!                      ▼
//!   x [N,C,H,W] ─▶ conv HxW [N,M,1,1] ─▶ reshape [N,M]
//! ```
//!
//! So the image is read where and how it lies, whatever order its channels have: after a global pool the layer is a 1x1
//! convolution. Activations between such layers move in front of the reshape, so that the next one finds it.

use nnc_ir::op::{Conv, Epilogue, Gemm, Prologue, Reshape, Window};
use nnc_ir::{Graph, NodeId, Op, Tensor, Value};

use super::edit::{each_node, floats, input_of, is_constant, is_float, producer, read_only_by, rewrite};
use super::fuse_bias::{is_matrix_product, plain_gemm};
use super::scale_alpha::{fold_factors, transposed};
use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        if move_before_reshape(graph, id)? {
            notes.count("activations moved before a reshape");
        }
        if over_image(graph, id).is_some() {
            fold_factors(graph, id)?;
            if to_conv(graph, id)? {
                notes.count("turned into convolutions");
            }
        }
        Ok(())
    })
}

/// `unary(reshape(x))` becomes `reshape(unary(x))`.
fn move_before_reshape(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let (Op::Unary(unary), Some(reshaped)) = (&graph.node(id).op, graph.operand(id, 0)) else {
        return Ok(false);
    };
    let unary = *unary;
    let (Op::Reshape(reshape), Some(x)) = (producer(graph, reshaped).clone(), input_of(graph, reshaped))
    else {
        return Ok(false);
    };
    if !read_only_by(graph, reshaped, id) {
        return Ok(false);
    }
    let (name, reshape_name) = (graph.node(id).name.clone(), graph.node(reshaped.node).name.clone());
    let applied = graph.add(name, unary.into(), &[Some(x)])?;
    graph.rename(id, reshape_name);
    rewrite(graph, id, reshape, &[Some(applied.into())])?;
    Ok(true)
}

/// The image behind the flattened operand of a Gemm or MatMul with constant weights.
fn over_image(graph: &Graph, id: NodeId) -> Option<Value> {
    let gemm = as_gemm(graph, id)?;
    let (flat, weights) = (graph.operand(id, 0)?, graph.operand(id, 1)?);
    let Op::Reshape(_) = producer(graph, flat) else { return None };
    let image = input_of(graph, flat)?;
    let (from, to) = (&graph.ty(image).shape, &graph.ty(flat).shape);
    let flattens = from.rank() > 2 && to.rank() == 2 && from[0] == to[0] && from[0] > 0;
    (flattens && !gemm.trans_a && is_float(graph, image) && is_constant(graph, weights)).then_some(image)
}

fn as_gemm(graph: &Graph, id: NodeId) -> Option<Gemm> {
    match &graph.node(id).op {
        Op::Gemm(gemm) => Some(gemm.clone()),
        Op::MatMul(_) if is_matrix_product(graph, id) => Some(plain_gemm()),
        _ => None,
    }
}

fn to_conv(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let (Some(image), Some(gemm)) = (over_image(graph, id), as_gemm(graph, id)) else { return Ok(false) };
    if gemm.alpha != 1.0 || gemm.beta != 1.0 {
        return Ok(false);
    }
    let shape = graph.ty(id.into()).shape.to_vec();
    let (Some(weights), &[_, m]) = (graph.operand(id, 1), shape.as_slice()) else { return Ok(false) };
    let bias = match graph.operand(id, 2) {
        None => None,
        Some(c) => match as_bias(graph, c, m) {
            Some(bias) => Some(bias),
            None => return Ok(false),
        },
    };
    let name = graph.node(id).name.clone();
    let image_shape = graph.ty(image).shape.clone();
    let mut kernel_shape = vec![m];
    kernel_shape.extend(&image_shape[1..]);
    let Some(tensor) = graph.constant(weights) else { return Ok(false) };
    let kernel = if gemm.trans_b {
        tensor.reshaped(kernel_shape)?
    } else {
        let Some(elems) = floats(graph, weights) else { return Ok(false) };
        Tensor::new(kernel_shape, &transposed(&elems, elems.len().checked_div(m).unwrap_or(0), m))?
    };
    let weights_name = graph.node(weights.node).name.clone();
    let kernel = graph.add_constant(weights_name, kernel);
    let bias = match bias {
        Some(elems) => Some(super::edit::vector(graph, format!("{name}:bias"), &elems)?),
        None => None,
    };
    let spatial = image_shape.rank() - 2;
    let conv = Conv {
        window: Window {
            kernel: image_shape[2..].to_vec(),
            strides: vec![1; spatial],
            dilations: vec![1; spatial],
            pads_begin: vec![0; spatial],
            pads_end: vec![0; spatial],
        },
        groups: 1,
        prologue: Prologue::default(),
        epilogue: Epilogue { residual: None, activation: gemm.activation },
    };
    let layer = graph.add(name.clone(), conv.into(), &[Some(image), Some(kernel), bias])?;
    graph.rename(id, format!("{name}:flatten"));
    rewrite(graph, id, Reshape { shape }, &[Some(layer.into())])?;
    Ok(true)
}

/// The constant C of a Gemm as one element for each of its `m` results; `None` when it differs between rows.
fn as_bias(graph: &Graph, c: Value, m: usize) -> Option<Vec<f32>> {
    let shape = &graph.ty(c).shape;
    let rows = shape.iter().rev().skip(1).product::<usize>();
    let elems = floats(graph, c)?;
    match elems.len() {
        1 => Some(vec![elems[0]; m]),
        len if len == m && rows == 1 => Some(elems.into_owned()),
        _ => None,
    }
}
