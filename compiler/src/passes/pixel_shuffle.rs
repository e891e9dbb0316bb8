//! Turns a transposed convolution whose windows do not overlap into a convolution and a shuffle of pixels.
//!
//! ```text
//!   x [N,C,H,W] ─▶ transposed conv k×k, stride k [N,M,kH,kW]
//!                      ▼
//!   x ─▶ conv 1x1 [N,k·k·M,H,W] ─▶ reshape [N,k,k,M,H,W] ─▶ transpose [N,M,H,k,W,k] ─▶ reshape [N,M,kH,kW]
//! ```
//!
//! Each pixel becomes a square of k×k pixels that no other pixel touches, so all of them are one matrix product, and the
//! rest is a copy (Shi et al., "Real-Time Single Image and Video Super-Resolution", 2016). Channels stay innermost, so
//! that the copy moves runs of M. Detectors and segmenters enlarge so.

use nnc_ir::op::{Conv, ConvTranspose, Epilogue, Prologue, Reshape, Transpose, Window};
use nnc_ir::{Graph, NodeId, Op, Tensor};

use super::edit::{each_node, floats, is_float, rewrite, vector};
use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        if let Some(found) = disjoint(graph, id) {
            split(graph, id, found)?;
            notes.count("turned into convolutions");
        }
        Ok(())
    })
}

/// A transposed convolution of an image.
struct Found {
    op: ConvTranspose,
    /// `[(ky · k + kx) · M + m][c]`
    weights: Vec<f32>,
    /// For each of the convolution's channels.
    bias: Option<Vec<f32>>,
    channels: usize,
    outputs: usize,
}

/// A transposed convolution with constant weights, no groups, and windows that touch but do not overlap.
fn disjoint(graph: &Graph, id: NodeId) -> Option<Found> {
    let Op::ConvTranspose(op) = &graph.node(id).op else { return None };
    let (x, w) = (graph.operand(id, 0)?, graph.operand(id, 1)?);
    let window = &op.window;
    let plain = window.kernel.len() == 2
        && window.kernel == window.strides
        && window.dilations.iter().all(|&d| d == 1)
        && window.pads_begin.iter().chain(&window.pads_end).all(|&p| p == 0)
        && op.output_padding.iter().all(|&p| p == 0)
        && op.groups == 1;
    if !plain || !is_float(graph, x) || graph.ty(x).shape.elems() == 0 {
        return None;
    }
    let &[channels, outputs, kh, kw] = graph.ty(w).shape.as_ref() else { return None };
    let taps = kh * kw;
    let given = floats(graph, w)?;
    let mut weights = Vec::with_capacity(given.len());
    for tap in 0..taps {
        for output in 0..outputs {
            weights.extend((0..channels).map(|c| given[(c * outputs + output) * taps + tap]));
        }
    }
    let bias = match graph.operand(id, 2) {
        Some(b) => Some(floats(graph, b)?.repeat(taps)),
        None => None,
    };
    Some(Found { op: op.clone(), weights, bias, channels, outputs })
}

fn split(graph: &mut Graph, id: NodeId, found: Found) -> Result<(), EditError> {
    let Found { op, weights, bias, channels, outputs } = found;
    let (x, name) = (graph.operand(id, 0), graph.node(id).name.clone());
    let shape = graph.ty(id.into()).shape.to_vec();
    let (kh, kw) = (op.window.kernel[0], op.window.kernel[1]);
    let (n, h, w) = (shape[0], shape[2] / kh, shape[3] / kw);
    let weights = Tensor::new([kh * kw * outputs, channels, 1, 1], &weights)?;
    let weights = graph.add_constant(format!("{name}:weights"), weights);
    let bias = match bias {
        Some(bias) => Some(vector(graph, format!("{name}:bias"), &bias)?),
        None => None,
    };
    let conv = Conv {
        window: Window {
            kernel: vec![1, 1],
            strides: vec![1, 1],
            dilations: vec![1, 1],
            pads_begin: vec![0, 0],
            pads_end: vec![0, 0],
        },
        groups: 1,
        prologue: Prologue::default(),
        epilogue: Epilogue { residual: None, activation: op.activation },
    };
    let conv = graph.add(name.clone(), conv.into(), &[x, Some(weights), bias])?;
    let squares = Reshape { shape: vec![n, kh, kw, outputs, h, w] };
    let squares = graph.add(format!("{name}:squares"), squares.into(), &[Some(conv.into())])?;
    let rows = Transpose { perm: vec![0, 3, 4, 1, 5, 2] };
    let rows = graph.add(format!("{name}:rows"), rows.into(), &[Some(squares.into())])?;
    graph.rename(id, format!("{name}:shuffle"));
    rewrite(graph, id, Reshape { shape }, &[Some(rows.into())])
}
