//! Lays images of one column on their side, so that kernels find many pixels in a row.
//!
//! ```text
//!   x [N,C,L,1] ─▶ conv k×1 ─▶ y        becomes    x ─▶ reshape [N,C,1,L] ─▶ conv 1×k ─▶ reshape [N,M,L′,1] ─▶ y
//! ```
//!
//! A kernel takes its pixels from one row of the result, which has one pixel here. Signals come so from exporters that have no
//! convolution along one axis but that along two. The reshapes are views, and cancel between layers that follow each other. This comes
//! after what is fused into layers, which looks at the images as they are given.

use nnc_ir::op::{Conv, ConvTranspose, Pool, Reshape, Window};
use nnc_ir::{Graph, NodeId, Op, Value};

use super::edit::{each_node, replace};
use super::{EditError, Notes};
use crate::code::layers;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let Some(op) = upright(graph, id) else { return Ok(()) };
        lay(graph, id, op)?;
        notes.count("laid on their side");
        Ok(())
    })
}

/// The operator over rows, for a layer that kernels do and whose images are columns.
fn upright(graph: &Graph, id: NodeId) -> Option<Op> {
    let column = |value: Value| matches!(graph.ty(value).shape.as_ref(), &[_, _, h, 1] if h > 1);
    if !column(graph.operand(id, 0)?) || !column(id.into()) {
        return None;
    }
    layers::of(graph, id)?;
    Some(match &graph.node(id).op {
        Op::Conv(conv) => Conv { window: lain(&conv.window)?, ..conv.clone() }.into(),
        Op::ConvTranspose(conv) => {
            let output_padding = turned(&conv.output_padding)?;
            ConvTranspose { window: lain(&conv.window)?, output_padding, ..conv.clone() }.into()
        }
        Op::Pool(pool) => {
            let ceil_pads = turned(&pool.ceil_pads)?;
            Pool { window: lain(&pool.window)?, ceil_pads, ..pool.clone() }.into()
        }
        _ => return None,
    })
}

/// A window of one column on its side.
fn lain(window: &Window) -> Option<Window> {
    let one_column = window.kernel.get(1) == Some(&1)
        && window.pads_begin.get(1) == Some(&0)
        && window.pads_end.get(1) == Some(&0);
    one_column.then_some(())?;
    Some(Window {
        kernel: turned(&window.kernel)?,
        strides: turned(&window.strides)?,
        dilations: turned(&window.dilations)?,
        pads_begin: turned(&window.pads_begin)?,
        pads_end: turned(&window.pads_end)?,
    })
}

/// What is said of two axes, the other way round.
fn turned<T: Copy>(list: &[T]) -> Option<Vec<T>> {
    match *list {
        [rows, columns] => Some(vec![columns, rows]),
        _ => None,
    }
}

/// Puts the operator over rows in the place of one over columns.
fn lay(graph: &mut Graph, id: NodeId, op: Op) -> Result<(), EditError> {
    let mut operands = graph.operands(id);
    for operand in operands.iter_mut().flatten() {
        *operand = on_its_side(graph, *operand)?;
    }
    let (name, shape) = (graph.node(id).name.clone(), graph.ty(id.into()).shape.to_vec());
    let row = graph.add(name.clone(), op, &operands)?;
    let column = graph.add(format!("{name}:column"), Reshape { shape }.into(), &[Some(row.into())])?;
    replace(graph, id, column.into())
}

/// An image, or the weights of a window, on its side; vectors stay.
fn on_its_side(graph: &mut Graph, value: Value) -> Result<Value, EditError> {
    let &[first, second, rows, 1] = graph.ty(value).shape.as_ref() else { return Ok(value) };
    let (shape, name) = (vec![first, second, 1, rows], graph.node(value.node).name.clone());
    if let Some(tensor) = graph.constant(value) {
        let tensor = tensor.clone().reshaped(shape)?;
        return Ok(graph.add_constant(name, tensor));
    }
    Ok(graph.add(format!("{name}:row"), Reshape { shape }.into(), &[Some(value)])?.into())
}
