//! Products and convolutions of bytes by known weights, as layers of integers.
//!
//! ```text
//!   Σ (x − x_zero) · (w − w_zero)   =   Σ x · v  −  x_zero · Σ v           v = w − w_zero, known
//! ```
//!
//! A zero point of `x` that is known is the layer's own. One that comes from the data, as in models whose activations are quantised by
//! their extremes, takes away the sums of the weights, which are known; where the window reads padding, only of what it reads.
//! All of it wraps around in `i32`, as the plain sums do. Weights that are more than a byte around their zero point meet their channels
//! twice ([`ByteWeights`]).

use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::byte_weights::weights_of_columns;
use crate::op::elementwise::BinaryFn;
use crate::op::{ByteWeights, Gather, IntegerConv, Requantize, Window, number};
use crate::tensor::Tensor;
use crate::types::DType;

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
    let conv = |x_zero: i32| IntegerConv { window: window.clone(), groups, x_zero, result: Requantize::SUMS };
    let zero = match zero {
        Zero::Known(x_zero) => return n.emit_optional(conv(x_zero), &[Some(x), Some(w), bias]),
        Zero::Computed(zero) => zero,
    };
    let sums = n.emit_optional(conv(0), &[Some(x), Some(w), bias])?;
    let shape = n.shape(x);
    let padded = window.pads_begin.iter().chain(&window.pads_end).any(|&pad| pad != 0);
    // What ones come to at each place; at all the same where there is no padding, so one window is enough.
    let spatial: Vec<usize> = match padded {
        true => shape[2..].to_vec(),
        false => window.kernel.iter().zip(&window.dilations).map(|(&k, &d)| (k - 1) * d + 1).collect(),
    };
    let image = [&[1, shape[1]], &spatial[..]].concat();
    let ones = Tensor::new(image.clone(), &vec![1u8; image.iter().product()])?;
    let ones = n.add_constant(ones);
    let of_weights = n.emit(conv(0), &[ones, w])?;
    let zero = n.cast(zero, DType::I32)?;
    let zero = n.reshape(zero, [])?;
    let taken = n.binary(BinaryFn::Mul, of_weights, zero)?;
    n.binary(BinaryFn::Sub, sums, taken)
}
