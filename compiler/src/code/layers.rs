//! Which layers kernels do: the one place where that is asked. A pass asks it before it fuses something into a layer, and the
//! planner when it plans the layer, so that what a pass promises the planner keeps.
//!
//! | layer | when it loads an element | before it stores one |
//! |---|---|---|
//! | 1×1 convolution of one group | scale and shift, activation | bias, residual, activation |
//! | other convolution that sums over channels | nothing | the same |
//! | depthwise convolution | scale and shift, activation | the same |
//! | pool | scale and shift, activation | residual, activation |
//! | pool over whole pictures | scale and shift, activation | activation |
//! | transposed convolution | nothing | bias, activation |
//! | matrix product, of any operands | nothing | bias, residual, activation |
//! | convolution of unsigned bytes | nothing | bias, rescaling |
//!
//! Activations are those of [`Activation`]. Elements are `f32` or half floats. Pictures have two spatial axes; volumes have three, of
//! which convolutions take no prologue where they sum over channels, and no residual after the activation where they are depthwise. Weights and biases of convolutions, and the operands of products, may be known or
//! computed; scale, shift, and the bias of a product are known. What no kernel does is a loop nest, which does everything, and is many times
//! slower.

use nnc_ir::op::{
    Conv, Epilogue, IntegerConv, MatMul, Op, PoolKind, Prologue, Requantize, Residual, Unary, Window,
};
use nnc_ir::{DType, Graph, NodeId, Tensor, TensorType, Value};

use super::float::Float;
use super::phases;
use super::sums;
use super::tile::programs::epilogue::{Activation, KernelEpilogue, KernelResidual};
use super::tile::programs::pool::PoolFunction;
use super::tile::programs::rescale::Rescale;
use super::tile::programs::window::KernelPrologue;

/// A layer that kernels do, in their words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// A convolution that sums over channels.
    Dense {
        /// Applied to its input.
        prologue: KernelPrologue,
        /// Applied to its result.
        epilogue: KernelEpilogue,
    },
    /// A layer that does the same to every channel.
    Lanes {
        /// What it computes.
        op: LanesOp,
        /// Applied to its input.
        prologue: KernelPrologue,
        /// Applied to its result.
        epilogue: KernelEpilogue,
    },
    /// A transposed convolution that sums over channels.
    Transposed {
        /// Applied to its result.
        epilogue: KernelEpilogue,
    },
    /// A transposed convolution that does the same to every channel.
    TransposedLanes {
        /// Applied to its result.
        epilogue: KernelEpilogue,
    },
    /// A product of matrices.
    Product {
        /// Applied to its result.
        epilogue: KernelEpilogue,
    },
    /// A convolution of integers.
    Integers {
        /// Whether it does the same to every channel.
        in_lanes: bool,
        /// What becomes of its sums; `None` where they are the result.
        rescale: Option<Rescale>,
    },
}

/// What is computed of a window, with channels in lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LanesOp {
    /// A weighted sum.
    Depthwise,
    /// A maximum or mean.
    Pool(PoolFunction),
    /// A maximum or mean over the whole picture.
    GlobalPool(PoolFunction),
    /// The elements as they are, as floats of another type. Of no node: a copy.
    Convert,
}

/// The most convolutions that a transposed one may be. (Networks have strides of 2, 4 and 8, and vocoders larger ones, whose phases are
/// few bands.)
const MOST_PARTS: usize = 64;
/// The largest stride of which the bands are looked for.
const FARTHEST_STRIDE: usize = 4096;

/// The layer that kernels do for a node; `None` where there are none for it.
pub fn of(graph: &Graph, node: NodeId) -> Option<Layer> {
    becoming(graph, node, &graph.node(node).op)
}

/// Whether a node may become `op`, which does more: not where kernels do the one and not the other.
pub fn can_absorb(graph: &Graph, node: NodeId, op: &Op) -> bool {
    becoming(graph, node, op).is_some() || of(graph, node).is_none()
}

/// The layer that kernels would do if a node had another operator of the same kind.
fn becoming(graph: &Graph, node: NodeId, op: &Op) -> Option<Layer> {
    let operand = |i: usize| graph.operand(node, i);
    let (x, y) = (graph.ty(operand(0)?), graph.node(node).outputs.first()?);
    if let Op::MatMul(product) = op {
        return multiplied(graph, node, product);
    }
    if let Op::IntegerConv(conv) = op {
        return integers(graph, node, conv);
    }
    let is_volume = x.shape.rank() == 5;
    let picture = |shape: &[usize]| matches!(shape.len(), 4 | 5) && shape.iter().all(|&n| n > 0);
    // What only chooses between elements does so of bytes, too.
    let chooses = match op {
        Op::Pool(pool) => pool.kind == PoolKind::Max && pool.prologue.is_none() && pool.epilogue.is_none(),
        Op::GlobalPool(pool) => {
            pool.kind == PoolKind::Max && pool.prologue.is_none() && pool.activation.is_none()
        }
        _ => false,
    };
    let bytes = chooses && x.dtype == y.dtype && Float::stored(x.dtype).is_some();
    let floats = [x, y].iter().all(|ty| Float::of(ty.dtype).is_some());
    if !(floats || bytes) || ![x, y].iter().all(|ty| picture(&ty.shape)) {
        return None;
    }
    let float = |tensor: &Tensor| Float::of(tensor.dtype()).is_some();
    let known = |value: Value| graph.constant(value).is_some_and(float);
    let known = |at: &[usize]| at.iter().filter_map(|&i| operand(i)).all(known);
    let floats = |at: &[usize]| {
        at.iter().filter_map(|&i| operand(i)).all(|value| Float::of(graph.ty(value).dtype).is_some())
    };
    match op {
        Op::Conv(conv) if floats(&[Conv::W, Conv::B]) && known(&[Conv::SCALE, Conv::SHIFT]) => {
            let bias = operand(Conv::B).is_some();
            let channels = (x.shape[1], y.shape[1]);
            convolution(conv, channels, bias).filter(|layer| !is_volume || fits_volumes(layer))
        }
        Op::ConvTranspose(conv) if floats(&[1, 2]) => {
            let epilogue = Epilogue { residual: None, activation: conv.activation, stored: None };
            let epilogue = before_storing(&epilogue, operand(2).is_some())?;
            let by_lanes = !is_volume && in_lanes(conv.groups, (x.shape[1], y.shape[1]));
            let few = parts(&conv.window, &y.shape, by_lanes).is_some_and(|parts| parts <= MOST_PARTS);
            few.then_some(if by_lanes {
                Layer::TransposedLanes { epilogue }
            } else {
                Layer::Transposed { epilogue }
            })
        }
        Op::Pool(pool) if known(&[nnc_ir::op::Pool::SCALE, nnc_ir::op::Pool::SHIFT]) => {
            let taps: usize = pool.window.kernel.iter().product();
            let kind = match pool.kind {
                PoolKind::Max => PoolFunction::Max,
                PoolKind::Average { count_include_pad: true } if pool.ceil_pads.iter().all(|&p| p == 0) => {
                    PoolFunction::MeanOf(taps as u32)
                }
                PoolKind::Average { count_include_pad: false } => PoolFunction::MeanInside,
                PoolKind::Average { .. } | PoolKind::Lp { .. } => return None,
            };
            let (prologue, epilogue) =
                (while_loading(&pool.prologue)?, before_storing(&pool.epilogue, false)?);
            Some(Layer::Lanes { op: LanesOp::Pool(kind), prologue, epilogue })
        }
        Op::GlobalPool(pool) if known(&[nnc_ir::op::GlobalPool::SCALE, nnc_ir::op::GlobalPool::SHIFT]) => {
            let kind = match pool.kind {
                PoolKind::Max => PoolFunction::Max,
                PoolKind::Average { .. } => PoolFunction::MeanInside,
                PoolKind::Lp { .. } => return None,
            };
            let op = LanesOp::GlobalPool(kind);
            let epilogue =
                KernelEpilogue { activation: activation(pool.activation)?, ..KernelEpilogue::default() };
            Some(Layer::Lanes { op, prologue: while_loading(&pool.prologue)?, epilogue })
        }
        _ => None,
    }
}

fn convolution(conv: &Conv, (channels, results): (usize, usize), bias: bool) -> Option<Layer> {
    let (prologue, epilogue) = (while_loading(&conv.prologue)?, before_storing(&conv.epilogue, bias)?);
    if in_lanes(conv.groups, (channels, results)) {
        return Some(Layer::Lanes { op: LanesOp::Depthwise, prologue, epilogue });
    }
    let pointwise = conv.groups == 1 && conv.window.kernel.iter().all(|&taps| taps == 1);
    (prologue.is_none() || pointwise).then_some(Layer::Dense { prologue, epilogue })
}

/// Whether a convolution has its channels in lanes: each is a group, and of more of them than results of each a vector is fuller.
fn in_lanes(groups: usize, (channels, results): (usize, usize)) -> bool {
    groups > 1 && groups == channels && results / channels <= channels
}

/// Whether kernels do a convolution slice by slice: in what sums over channels, nothing is done to an element before it is loaded; in what
/// does not, the slices of a window are summed up before the activation.
fn fits_volumes(layer: &Layer) -> bool {
    match layer {
        Layer::Dense { prologue, .. } => prologue.is_none(),
        Layer::Lanes { epilogue, .. } => epilogue.residual != KernelResidual::AfterActivation,
        _ => false,
    }
}

/// How many convolutions a transposed one is; `None` if nobody should count.
fn parts(window: &Window, result: &[usize], by_lanes: bool) -> Option<usize> {
    let near = window.strides.iter().all(|&stride| stride <= FARTHEST_STRIDE);
    let axes = near.then(|| result.iter().skip(2).enumerate());
    axes?.try_fold(1usize, |parts, (axis, &output)| {
        let bands = phases::bands(window, axis, output);
        let count = if by_lanes { bands.iter().map(|band| band.taps.len()).sum() } else { bands.len() };
        parts.checked_mul(count)
    })
}

/// A product of matrices, or of a matrix and a vector.
fn multiplied(graph: &Graph, node: NodeId, product: &MatMul) -> Option<Layer> {
    let result = graph.node(node).outputs.first()?;
    let operands = [MatMul::A, MatMul::B].map(|i| graph.operand(node, i).map(|value| graph.ty(value)));
    let [Some(a), Some(b)] = operands else { return None };
    let fits = |ty: &TensorType| Float::of(ty.dtype).is_some() && ty.shape.elems() > 0;
    let bias = graph.operand(node, MatMul::BIAS);
    let known = bias.is_none_or(|bias| graph.constant(bias).is_some());
    if !(fits(a) && fits(b) && fits(result) && known) {
        return None;
    }
    Some(Layer::Product { epilogue: before_storing(&product.epilogue, bias.is_some())? })
}

/// A convolution of unsigned bytes by known weights; where channels are in lanes, sums are `f32`, which has to hold them.
fn integers(graph: &Graph, node: NodeId, conv: &IntegerConv) -> Option<Layer> {
    let y = graph.node(node).outputs.first()?;
    let operand = |i: usize| graph.operand(node, i);
    let (x, weights) = (graph.ty(operand(IntegerConv::X)?), graph.constant(operand(IntegerConv::W)?)?);
    let picture = |shape: &[usize]| shape.len() == 4 && shape.iter().all(|&n| n > 0);
    let known = |i: usize| operand(i).is_none_or(|value| graph.constant(value).is_some());
    let parameters = [IntegerConv::BIAS, IntegerConv::SCALE, IntegerConv::SHIFT].into_iter().all(known);
    if x.dtype != DType::U8 || ![x, y].iter().all(|ty| picture(&ty.shape)) || !parameters {
        return None;
    }
    let in_lanes = in_lanes(conv.groups, (x.shape[1], y.shape[1]));
    let parameter = |i: usize| operand(i).and_then(|value| graph.constant(value));
    let bias = parameter(IntegerConv::BIAS);
    if in_lanes && !sums::are_exact(weights, bias, conv.x_zero) {
        return None;
    }
    if conv.result == Requantize::SUMS {
        // Several sums of a channel lie apart.
        let apart = in_lanes && x.shape[1] != y.shape[1];
        return (!apart).then_some(Layer::Integers { in_lanes, rescale: None });
    }
    let shift = parameter(IntegerConv::SHIFT);
    let largest = sums::largest(weights, bias, parameter(IntegerConv::SCALE)?, shift)?;
    let rescale = Rescale::of(&conv.result, shift.is_some(), largest)?;
    Some(Layer::Integers { in_lanes, rescale: Some(rescale) })
}

/// What kernels do before the store; `None` when the activation is none that they know.
fn before_storing(epilogue: &Epilogue, bias: bool) -> Option<KernelEpilogue> {
    let residual = match epilogue.residual {
        None => KernelResidual::None,
        Some(Residual::BeforeActivation) => KernelResidual::BeforeActivation,
        Some(Residual::AfterActivation) => KernelResidual::AfterActivation,
    };
    Some(KernelEpilogue {
        bias,
        rescale: None,
        sums: false,
        residual,
        activation: activation(epilogue.activation)?,
    })
}

/// What kernels do when they load.
fn while_loading(prologue: &Prologue) -> Option<KernelPrologue> {
    Some(KernelPrologue { affine: prologue.affine, activation: activation(prologue.activation)? })
}

fn activation(function: Option<Unary>) -> Option<Activation> {
    function.map_or(Some(Activation::None), |function| Activation::of(&function))
}
