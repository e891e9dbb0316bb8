//! Turns a fully connected layer over an image into a convolution whose window is the image.
//!
//! ```text
//!   x [N,C,H,W] ─▶ reshape [N,C·H·W] ─▶ matmul [N,M]
//!                      ▼
//!   x [N,C,H,W] ─▶ conv HxW [N,M,1,1] ─▶ reshape [N,M]
//! ```
//!
//! So the image is read where and how it lies, whatever order its channels have: after a global pool the layer is a 1x1
//! convolution. Activations between such layers move in front of the reshape, so that the next one finds it.

use nnc_ir::op::{Conv, MatMul, Prologue, Reshape, Window};
use nnc_ir::{Graph, NodeId, Op, Tensor, Value};

use super::edit::{each_node, floats, input_of, is_constant, is_float, producer, read_only_by, rewrite};
use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        if move_before_reshape(graph, id)? {
            notes.count("activations moved before a reshape");
        }
        if to_conv(graph, id)? {
            notes.count("turned into convolutions");
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

/// The image behind the flattened operand of a product with constant weights.
fn over_image(graph: &Graph, id: NodeId) -> Option<(Value, MatMul)> {
    let Op::MatMul(product) = &graph.node(id).op else { return None };
    let (flat, weights) = (graph.operand(id, MatMul::A)?, graph.operand(id, MatMul::B)?);
    let Op::Reshape(_) = producer(graph, flat) else { return None };
    let image = input_of(graph, flat)?;
    let (from, to) = (&graph.ty(image).shape, &graph.ty(flat).shape);
    let flattens = from.rank() > 2 && to.rank() == 2 && from[0] == to[0] && from[0] > 0;
    let takes = flattens
        && is_float(graph, image)
        && is_constant(graph, weights)
        && graph.ty(weights).shape.rank() == 2
        && product.epilogue.residual.is_none();
    takes.then(|| (image, product.clone()))
}

fn to_conv(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let Some((image, product)) = over_image(graph, id) else { return Ok(false) };
    let shape = graph.ty(id.into()).shape.to_vec();
    let (Some(weights), &[_, m]) = (graph.operand(id, MatMul::B), shape.as_slice()) else { return Ok(false) };
    let bias = graph.operand(id, MatMul::BIAS);
    if bias.is_some_and(|bias| !is_constant(graph, bias)) {
        return Ok(false);
    }
    let name = graph.node(id).name.clone();
    let image_shape = graph.ty(image).shape.clone();
    let mut kernel_shape = vec![m];
    kernel_shape.extend(&image_shape[1..]);
    let Some(tensor) = graph.constant(weights) else { return Ok(false) };
    let kernel = if product.trans_b {
        tensor.reshaped(kernel_shape)?
    } else {
        let Some(elems) = floats(graph, weights) else { return Ok(false) };
        Tensor::new(kernel_shape, &transposed(&elems, elems.len().checked_div(m).unwrap_or(0), m))?
    };
    let weights_name = graph.node(weights.node).name.clone();
    let kernel = graph.add_constant(weights_name, kernel);
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
        epilogue: product.epilogue,
    };
    let layer = graph.add(name.clone(), conv.into(), &[Some(image), Some(kernel), bias])?;
    graph.rename(id, format!("{name}:flatten"));
    rewrite(graph, id, Reshape { shape }, &[Some(layer.into())])?;
    Ok(true)
}

/// The transpose of a matrix of `rows` × `columns`, in blocks that stay in the cache.
fn transposed(elems: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const BLOCK: usize = 32;
    let mut result = vec![0.0; elems.len()];
    for row in (0..rows).step_by(BLOCK) {
        for column in (0..columns).step_by(BLOCK) {
            for r in row..(row + BLOCK).min(rows) {
                for c in column..(column + BLOCK).min(columns) {
                    result[c * rows + r] = elems[r * columns + c];
                }
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_that_is_transposed_has_its_rows_as_columns() {
        let elems: Vec<f32> = (0..70 * 45).map(|i| i as f32).collect();
        let t = transposed(&elems, 70, 45);
        for r in 0..70 {
            for c in 0..45 {
                assert_eq!(t[c * 70 + r], elems[r * 45 + c]);
            }
        }
    }
}
