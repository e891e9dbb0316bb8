//! First ask, then do: which layer of a graph kernels do, and what it is made of. Nothing is planned here. What fits is planned by
//! `dense_step`, `winograd_step`, `transposed_step`, `volume_step`, `lanes_step` or `product_step`, and none of these finds out later that it does not: where values lie
//! in another way than kernels read them, a copy is made.

use nnc_ir::op::{Conv, GlobalPool, IntegerConv, MatMul, Op, Pool};
use nnc_ir::{Graph, NodeId, Value};

use super::dense::{axes, axis};
use super::sweep::Axis;
use crate::code::layers::{self, LanesOp, Layer};
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::tile::programs::rescale::Rescale;
use crate::code::tile::programs::window::KernelPrologue;

/// What kernels do of a node, in their words.
#[derive(Clone, Copy, Debug)]
pub(super) enum KernelWork {
    /// A convolution that sums over channels.
    Dense(KernelLayer, KernelPrologue, KernelEpilogue),
    /// A convolution over volumes that sums over channels.
    Volumes(KernelLayer, KernelEpilogue),
    /// A transposed convolution that sums over channels.
    Transposed(KernelLayer, KernelEpilogue),
    /// A transposed convolution that does the same to every channel.
    TransposedLanes(KernelLayer, KernelEpilogue),
    /// A layer that does the same to every channel.
    Lanes(KernelLayer, LanesOp, KernelPrologue, KernelEpilogue),
    /// The same over volumes.
    LanesOfVolumes(KernelLayer, LanesOp, KernelPrologue, KernelEpilogue),
    /// A product of matrices.
    Product(ProductLayer),
    /// A convolution of integers.
    Integers {
        layer: KernelLayer,
        /// Whether it does not sum over channels.
        in_lanes: bool,
        rescale: Option<Rescale>,
    },
}

/// A product of matrices, and of which values: `a` and `b` may be anything, a bias is a constant.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProductLayer {
    pub node: NodeId,
    pub a: Value,
    pub b: Value,
    /// Whether `b` is given as its transpose.
    pub trans_b: bool,
    pub bias: Option<Value>,
    pub residual: Option<Value>,
    pub epilogue: KernelEpilogue,
}

/// A layer whose window slides over a picture, and of which values. Scale and shift are constants, weights and bias may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelLayer {
    pub node: NodeId,
    /// The vertical and the horizontal axis.
    pub axes: (Axis, Axis),
    /// The axis of slices, of volumes.
    pub slices: Axis,
    /// Groups of channels of a convolution.
    pub groups: usize,
    pub x: Value,
    pub weights: Option<Value>,
    pub bias: Option<Value>,
    pub residual: Option<Value>,
    /// Scale and shift of its prologue.
    pub affine: Option<(Value, Value)>,
}

/// What kernels do of a node; `None` when it takes loop nests or routines.
pub(super) fn fits(graph: &Graph, node: NodeId) -> Option<KernelWork> {
    match layers::of(graph, node)? {
        Layer::Dense { epilogue, .. } if is_volume(graph, node) => {
            Some(KernelWork::Volumes(windowed(graph, node)?, epilogue))
        }
        Layer::Dense { prologue, epilogue } => {
            Some(KernelWork::Dense(windowed(graph, node)?, prologue, epilogue))
        }
        Layer::Lanes { op, prologue, epilogue }
            if is_volume(graph, node) && !matches!(op, LanesOp::GlobalPool(_)) =>
        {
            Some(KernelWork::LanesOfVolumes(windowed(graph, node)?, op, prologue, epilogue))
        }
        Layer::Lanes { op, prologue, epilogue } => {
            Some(KernelWork::Lanes(windowed(graph, node)?, op, prologue, epilogue))
        }
        Layer::Transposed { epilogue } => Some(KernelWork::Transposed(windowed(graph, node)?, epilogue)),
        Layer::TransposedLanes { epilogue } => {
            Some(KernelWork::TransposedLanes(windowed(graph, node)?, epilogue))
        }
        Layer::Product { epilogue } => product(graph, node, epilogue),
        Layer::Integers { in_lanes, rescale } => {
            Some(KernelWork::Integers { layer: windowed(graph, node)?, in_lanes, rescale })
        }
    }
}

fn product(graph: &Graph, node: NodeId, epilogue: KernelEpilogue) -> Option<KernelWork> {
    let Op::MatMul(product) = &graph.node(node).op else { return None };
    let operand = |i: usize| graph.operand(node, i);
    Some(KernelWork::Product(ProductLayer {
        node,
        a: operand(MatMul::A)?,
        b: operand(MatMul::B)?,
        trans_b: product.trans_b,
        bias: operand(MatMul::BIAS),
        residual: operand(MatMul::RESIDUAL),
        epilogue,
    }))
}

/// Whether a layer slides over volumes.
fn is_volume(graph: &Graph, node: NodeId) -> bool {
    graph.ty(node.into()).shape.rank() > 4
}

fn windowed(graph: &Graph, node: NodeId) -> Option<KernelLayer> {
    let operand = |i: usize| graph.operand(node, i);
    let x = operand(0)?;
    let (input, output) = (&graph.ty(x).shape, &graph.ty(node.into()).shape);
    // The axes of a picture are the last two.
    let front = input.rank() - 4;
    let (input, output) = (&input[2..], &output[2..]);
    let extents = ((input[front], input[front + 1]), (output[front], output[front + 1]));
    let whole = |n: usize| Axis { input: n, output: 1, kernel: n, stride: 1, dilation: 1, pad: 0 };
    let mut decision = KernelLayer {
        node,
        axes: (whole(input[..=front].iter().product()), whole(extents.0.1)),
        slices: Axis::point(1),
        groups: 1,
        x,
        weights: None,
        bias: None,
        residual: None,
        affine: None,
    };
    let affine = match &graph.node(node).op {
        Op::Conv(conv) => {
            decision.axes = axes(&conv.window, extents.0, extents.1)?;
            if front == 1 {
                decision.slices = axis(&conv.window, 0, input[0], output[0])?;
            }
            decision.groups = conv.groups;
            decision.weights = Some(operand(Conv::W)?);
            decision.bias = operand(Conv::B);
            decision.residual = operand(Conv::RESIDUAL);
            (Conv::SCALE, Conv::SHIFT)
        }
        Op::IntegerConv(conv) => {
            decision.axes = axes(&conv.window, extents.0, extents.1)?;
            decision.groups = conv.groups;
            decision.weights = Some(operand(IntegerConv::W)?);
            return Some(decision);
        }
        Op::ConvTranspose(conv) => {
            decision.groups = conv.groups;
            decision.weights = Some(operand(1)?);
            decision.bias = operand(2);
            return Some(decision);
        }
        Op::Pool(pool) => {
            decision.axes = axes(&pool.window, extents.0, extents.1)?;
            if front == 1 {
                decision.slices = axis(&pool.window, 0, input[0], output[0])?;
            }
            decision.residual = operand(Pool::RESIDUAL);
            (Pool::SCALE, Pool::SHIFT)
        }
        _ => (GlobalPool::SCALE, GlobalPool::SHIFT),
    };
    decision.affine = operand(affine.0).zip(operand(affine.1));
    Some(decision)
}
