//! Products and convolutions of bytes by known weights, as layers of integers.
//!
//! ```text
//!   Σ (x − x_zero) · (w − w_zero)   =   Σ x · v  −  x_zero · Σ v           v = w − w_zero, known
//! ```
//!
//! A zero point of `x` that is known is the layer's own. One that comes from the data, as in models whose activations are quantised by
//! their extremes, takes away the sums of the weights, which are known; where the window reads padding, the image gets a border of it, so
//! that these sums are the same at all places. All of it wraps around in `i32`, as the plain sums do. Weights that are more than a byte around their zero point meet their channels
//! twice ([`ByteWeights`]).

use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::byte_weights::weights_of_columns;
use crate::op::elementwise::BinaryFn;
use crate::op::{ByteWeights, Gather, IntegerConv, Pad, PadMode, Requantize, Window, number};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// The zero point of `x`.
enum Zero {
    Known(i32),
    /// One number that comes from the data.
    Computed(Value),
}

impl Zero {
    /// `None` if there are several.
    fn of(n: &NodeReader<'_, '_>, zero: Option<Value>) -> Result<Option<Zero>, NodeFault> {
        let Some(zero) = zero else { return Ok(Some(Zero::Known(0))) };
        if n.shape(zero).elems() != 1 {
            return Ok(None);
        }
        Ok(Some(match n.constant_of(zero) {
            Some(known) => Zero::Known(number::integers(known)?.first().map_or(0, |&zero| zero as i32)),
            None => Zero::Computed(zero),
        }))
    }
}

/// Weights `[M, C, kernel…]` around their zero point, if both are known.
fn weights(
    n: &NodeReader<'_, '_>,
    weights: &Tensor,
    zero: Option<Value>,
) -> Result<Option<ByteWeights>, NodeFault> {
    let zero = match zero {
        None => vec![0],
        Some(zero) => match n.constant_of(zero) {
            Some(known) => number::integers(known)?.into_iter().map(|zero| zero as i32).collect(),
            None => return Ok(None),
        },
    };
    Ok(ByteWeights::around(&zero, weights)?)
}

/// The product of `a − a_zero` and `b − b_zero` in `i32`. `None` if it is no layer of integers.
pub(super) fn product(
    n: &mut NodeReader<'_, '_>,
    [a, b]: [Value; 2],
    [a_zero, b_zero]: [Option<Value>; 2],
) -> Result<Option<Value>, NodeFault> {
    let (a_shape, b_shape) = (n.shape(a), n.shape(b));
    if a_shape.rank() < 2 || b_shape.rank() != 2 || a_shape.elems() == 0 || b_shape.elems() == 0 {
        return Ok(None);
    }
    let [k, columns] = [b_shape[0], b_shape[1]];
    if a_shape[a_shape.rank() - 1] != k {
        return Ok(None);
    }
    let Some(zero) = Zero::of(n, a_zero)? else { return Ok(None) };
    let Some(matrix) = n.constant_of(b) else { return Ok(None) };
    let Some(turned) = weights_of_columns(matrix)? else { return Ok(None) };
    let Some(turned) = weights(n, &turned, b_zero)? else { return Ok(None) };
    let rows = a_shape.elems() / k;
    let pixels = n.reshape(a, [rows, k, 1, 1])?;
    let window = Window {
        kernel: vec![1; 2],
        strides: vec![1; 2],
        dilations: vec![1; 2],
        pads_begin: vec![0; 2],
        pads_end: vec![0; 2],
    };
    let sums = layer(n, pixels, turned, (&window, 1), zero, None)?;
    let shape = [&a_shape[..a_shape.rank() - 1], &[columns]].concat();
    Ok(Some(n.reshape(sums, shape)?))
}

/// The convolution of `x − x_zero` by `w − w_zero` in `i32`. `None` if it is no layer of integers.
pub(super) fn convolution(
    n: &mut NodeReader<'_, '_>,
    [x, w]: [Value; 2],
    (window, groups): (&Window, usize),
    [x_zero, w_zero]: [Option<Value>; 2],
    bias: Option<Value>,
) -> Result<Option<Value>, NodeFault> {
    let shape = n.shape(w);
    let some = n.shape(x).elems() > 0 && shape.elems() > 0;
    let Some(zero) = Zero::of(n, x_zero)?.filter(|_| some) else { return Ok(None) };
    let Some(weights) = n.constant_of(w).map(|w| weights(n, w, w_zero)).transpose()?.flatten() else {
        return Ok(None);
    };
    Ok(Some(layer(n, x, weights, (window, groups), zero, bias)?))
}

fn layer(
    n: &mut NodeReader<'_, '_>,
    mut x: Value,
    weights: ByteWeights,
    (window, groups): (&Window, usize),
    zero: Zero,
    bias: Option<Value>,
) -> Result<Value, NodeFault> {
    if let Some(channels) = weights.selected(groups, n.shape(x)[1]) {
        let channels: Vec<i64> = channels.iter().map(|&channel| channel as i64).collect();
        x = n.emit(Gather { axis: 1, indices: Tensor::new([channels.len()], &channels)? }, &[x])?;
    }
    let w = n.add_constant(weights.weights);
    let zero = match zero {
        Zero::Known(x_zero) => {
            let conv = IntegerConv { window: window.clone(), groups, x_zero, result: Requantize::SUMS };
            return n.emit_optional(conv, &[Some(x), Some(w), bias]);
        }
        Zero::Computed(zero) => zero,
    };
    let (x, window) = bordered(n, x, window, zero)?;
    let conv = IntegerConv { window, groups, x_zero: 0, result: Requantize::SUMS };
    let sums = n.emit_optional(conv.clone(), &[Some(x), Some(w), bias])?;
    // What ones come to, which is the same at all places.
    let spans = conv.window.kernel.iter().zip(&conv.window.dilations).map(|(&taps, &d)| (taps - 1) * d + 1);
    let one_window: Vec<usize> = [1, n.shape(x)[1]].into_iter().chain(spans).collect();
    let ones = Tensor::new(one_window.clone(), &vec![1u8; one_window.iter().product()])?;
    let ones = n.add_constant(ones);
    let of_weights = n.emit(conv, &[ones, w])?;
    let zero = n.cast(zero, DType::I32)?;
    let zero = n.reshape(zero, [])?;
    let taken = n.binary(BinaryFn::Mul, of_weights, zero)?;
    n.binary(BinaryFn::Sub, sums, taken)
}

/// An image with the zero point of the run around it, and the window that slides over it without padding.
fn bordered(
    n: &mut NodeReader<'_, '_>,
    x: Value,
    window: &Window,
    zero: Value,
) -> Result<(Value, Window), NodeFault> {
    let none = vec![0; window.kernel.len()];
    if window.pads_begin == none && window.pads_end == none {
        return Ok((x, window.clone()));
    }
    let around = |pads: &[isize]| [&[0, 0], pads].concat();
    let pad = Pad {
        begin: around(&window.pads_begin),
        end: around(&window.pads_end),
        mode: PadMode::Constant(0.0),
    };
    let extents = n.shape(x).to_vec();
    let mut image = n.emit(pad, &[x])?;
    let zero = n.reshape(zero, [])?;
    for (axis, (&before, &behind)) in window.pads_begin.iter().zip(&window.pads_end).enumerate() {
        if before <= 0 && behind <= 0 {
            continue;
        }
        let mut shape = vec![1; extents.len()];
        shape[2 + axis] = n.shape(image)[2 + axis];
        let inside = before..before + extents[2 + axis] as isize;
        let is_outside = (0..shape[2 + axis] as isize).map(|at| u8::from(!inside.contains(&at))).collect();
        let is_outside = Tensor::from_bytes(TensorType::new(DType::Bool, shape), is_outside)?;
        let is_outside = n.add_constant(is_outside);
        image = n.choose(is_outside, zero, image)?;
    }
    Ok((image, Window { pads_begin: none.clone(), pads_end: none, ..window.clone() }))
}
