//! Why a large layer is a loop nest: what a person can do about it, or wait for.
//!
//! Kernels do a layer many times faster than a nest, which computes anything. Nobody should find out by waiting that a layer has
//! none, so the plan says which these are, and why.

use nnc_ir::op::{Conv, Op, Prologue, Unary};
use nnc_ir::{Graph, NodeId};

use crate::code::float::Float;
use crate::code::tile::programs::epilogue::Activation;

/// Multiply-accumulates from which on a layer without a kernel is worth a word.
pub const LARGE: u64 = 1_000_000;

/// Why kernels do not do a node that multiplies and accumulates: pools, which do not, are never large.
pub(super) fn why(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let kind = match &node.op {
        Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) => None,
        Op::Einsum(_) => Some("sums over names have no kernels"),
        Op::DeformConv(_) => Some("deformable convolutions with weights of the run have no kernels"),
        _ => Some("its operator has no kernels"),
    };
    if let Some(kind) = kind {
        return kind.into();
    }
    if let Some(ty) = node.outputs.first() {
        if Float::of(ty.dtype).is_none() {
            return format!("its elements are {}, and kernels compute with f32", ty.dtype.name());
        }
        if matches!(node.op, Op::MatMul(_)) {
            return "its bias is computed while the model runs".into();
        }
        if ty.shape.rank() > 5 {
            return format!(
                "its window has {} axes, and kernels slide along three at most",
                ty.shape.rank() - 2
            );
        }
    }
    let functions: Vec<Unary> = match &node.op {
        Op::Conv(Conv { prologue, epilogue, .. }) => {
            [prologue.activation, epilogue.activation].into_iter().flatten().collect()
        }
        _ => Vec::new(),
    };
    if let Some(function) = functions.iter().find(|function| Activation::of(function).is_none()) {
        return format!("no kernel applies its {}", Op::from(*function).name());
    }
    match &node.op {
        Op::ConvTranspose(_) => "no kernel does transposed convolutions of so many phases".into(),
        Op::Conv(Conv { prologue, .. }) if *prologue != Prologue::default() => {
            "no kernel applies what comes before it in a window of this kind".into()
        }
        _ => "no kernel fits its window, groups and channels".into(),
    }
}
