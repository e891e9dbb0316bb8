//! Turns a subsampling in front of a 1x1 convolution into the stride of the convolution.
//!
//! ```text
//!   x ─▶ average pool 1x1, stride 2 ─▶ conv 1x1        becomes    x ─▶ conv 1x1, stride 2
//!   x ─▶ slice [::2, ::2] ─▶ conv 1x1                  becomes    x ─▶ conv 1x1, stride 2
//! ```
//!
//! A pool with a window of one element picks elements and computes nothing (NASNet halves its images so). Padding, also
//! the negative one that NASNet's shifted path has, goes along; it must be zeros, as it is for an average that counts it.

use nnc_ir::op::{Conv, PoolKind, Prologue, Window};
use nnc_ir::{Graph, NodeId, Op, Value};

use super::edit::{each_node, is_float, rewrite};
use super::{EditError, Notes};
use crate::code::layers::can_absorb;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        if graph.is_output(id.into()) {
            return Ok(());
        }
        let Some(picked) = picked(graph, id) else { return Ok(()) };
        let readers = graph.consumers(id.into());
        let ops: Option<Vec<Conv>> =
            readers.iter().map(|&(reader, input)| strided(graph, reader, input, &picked)).collect();
        let Some(ops) = ops.filter(|ops| !ops.is_empty()) else { return Ok(()) };
        let (name, op) = (graph.node(id).name.clone(), graph.node(id).op.name());
        for ((reader, _), conv) in readers.into_iter().zip(ops) {
            let mut operands = graph.operands(reader);
            operands[Conv::X] = Some(picked.x);
            rewrite(graph, reader, conv, &operands)?;
            notes.absorbed(&graph.node(reader).name, &name, op, "stride");
            notes.count("turned into a stride");
        }
        Ok(())
    })
}

/// Which elements of an image a node passes on.
struct Picked {
    x: Value,
    strides: Vec<usize>,
    pads_begin: Vec<isize>,
    pads_end: Vec<isize>,
    activation: Option<nnc_ir::op::Unary>,
}

fn picked(graph: &Graph, id: NodeId) -> Option<Picked> {
    let x = graph.operand(id, 0)?;
    let shape = &graph.ty(x).shape;
    match &graph.node(id).op {
        Op::Pool(pool) => {
            let window = &pool.window;
            let pads = window.pads_begin.iter().chain(&window.pads_end).any(|&n| n > 0);
            let picks = match pool.kind {
                PoolKind::Average { count_include_pad } => {
                    !pads || (count_include_pad && pool.ceil_pads.iter().all(|&n| n == 0))
                }
                PoolKind::Max => !pads,
                PoolKind::Lp { .. } => false,
            };
            let plain = pool.epilogue.is_none() && !pool.prologue.affine;
            (picks && plain && window.kernel.iter().all(|&k| k == 1)).then(|| Picked {
                x,
                strides: window.strides.clone(),
                pads_begin: window.pads_begin.clone(),
                pads_end: window.pads_end.clone(),
                activation: pool.prologue.activation,
            })
        }
        Op::Slice(slice) => {
            let spatial = shape.rank().checked_sub(2)?;
            let mut picked = Picked {
                x,
                strides: vec![1; spatial],
                pads_begin: vec![0; spatial],
                pads_end: vec![0; spatial],
                activation: None,
            };
            if slice.axes.iter().all(|a| a.step == 1) {
                return None;
            }
            for a in &slice.axes {
                let axis = a.axis.checked_sub(2)?;
                let step = usize::try_from(a.step).ok()?;
                let behind = a.len.checked_sub(1)?.checked_mul(step)?.checked_add(a.start)?.checked_add(1)?;
                *picked.strides.get_mut(axis)? = step;
                *picked.pads_begin.get_mut(axis)? = -isize::try_from(a.start).ok()?;
                *picked.pads_end.get_mut(axis)? =
                    -isize::try_from(shape.get(a.axis)?.checked_sub(behind)?).ok()?;
            }
            Some(picked)
        }
        _ => None,
    }
}

/// The convolution that picks elements itself, if it has one tap and no padding of its own.
fn strided(graph: &Graph, reader: NodeId, input: usize, picked: &Picked) -> Option<Conv> {
    let Op::Conv(conv) = &graph.node(reader).op else { return None };
    let window = &conv.window;
    let plain = window.kernel.iter().all(|&k| k == 1)
        && window.pads_begin.iter().chain(&window.pads_end).all(|&n| n == 0)
        && conv.prologue.is_none();
    if input != Conv::X || !plain || !is_float(graph, picked.x) {
        return None;
    }
    let strides: Option<Vec<usize>> =
        window.strides.iter().zip(&picked.strides).map(|(a, b)| a.checked_mul(*b)).collect();
    let conv = Conv {
        window: Window {
            strides: strides?,
            pads_begin: picked.pads_begin.clone(),
            pads_end: picked.pads_end.clone(),
            ..window.clone()
        },
        prologue: Prologue { affine: false, activation: picked.activation },
        ..conv.clone()
    };
    can_absorb(graph, reader, &conv.clone().into()).then_some(conv)
}
