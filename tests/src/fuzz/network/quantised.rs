//! Pieces of quantised networks: layers, moves and functions between a Dequantize and a Quantize.
//!
//! ```text
//!   x ─▶ quantize ─▶ dequantize ─▶ conv [relu] ─▶ quantize ─▶ dequantize ─▶ concat, pool, pad … ─▶ quantize ─▶ … ─▶ dequantize
//! ```
//!
//! Scales of layers are powers of two and weights are small, so that their sums are exact in `f32`, too: a step more or less would be
//! nobody's fault otherwise. What only moves steps has any scale.

use nnc_ir::op::*;
use nnc_ir::{DType, Tensor, TensorType, Value, text};

use super::Network;
use super::layers::{activation, groups};
use super::sides::exact;
use super::windows::{pool_window, window};
use crate::fuzz::choices::Choices;

/// Scale and zero point, and the type of steps.
#[derive(Clone, Copy)]
struct Steps {
    scale: f32,
    zero: i32,
    to: DType,
}

impl Steps {
    fn chosen(c: &mut Choices<'_>, scales: &[f32]) -> Steps {
        let scale = c.of(scales);
        match c.one_in(3) {
            true => Steps { scale, zero: c.of(&[0, -3, 100, -128]), to: DType::I8 },
            false => Steps { scale, zero: c.of(&[128, 0, 117, 255]), to: DType::U8 },
        }
    }

    fn operands(self, net: &mut Network, x: Value) -> [Value; 3] {
        let zero = match self.to {
            DType::I8 => Tensor::new([], &[self.zero as i8]),
            _ => Tensor::new([], &[self.zero as u8]),
        };
        let zero = zero.unwrap_or_else(|error| panic!("{error}"));
        [x, net.b.scalar(self.scale), net.b.tensor(zero)]
    }

    fn quantize(self, net: &mut Network, x: Value) -> Value {
        let operands = self.operands(net, x);
        net.b.add(Quantize { to: self.to }, &operands)
    }

    fn dequantize(self, net: &mut Network, x: Value) -> Value {
        let operands = self.operands(net, x);
        net.b.add(Dequantize, &operands)
    }
}

const POWERS: [f32; 4] = [0.0625, 0.03125, 0.125, 0.015625];
const SCALES: [f32; 4] = [0.0625, 0.1, 0.037, 0.25];

/// Leads an image through quantised pieces.
pub(super) fn add(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Vec<Value> {
    let mut x = exact(net, x);
    if c.one_in(4) {
        x = picture(net, x, c);
    }
    let mut steps = Steps::chosen(c, &POWERS);
    let mut q = steps.quantize(net, x);
    for _ in 0..c.pick(3) + 1 {
        let x = steps.dequantize(net, q);
        let power = POWERS.contains(&steps.scale);
        let [n, channels, h, w] = net.b.image(x);
        let small = n * channels * h * w <= 6000;
        (steps, q) = match c.pick(6) {
            0 | 1 if power && small => layer(net, x, c),
            5 if power => added(net, x, c),
            2 => joined(net, x, steps, c),
            3 => function(net, x, steps, c),
            _ => {
                let y = moved(net, x, c);
                let steps = if c.one_in(4) { Steps::chosen(c, &SCALES) } else { steps };
                (steps, steps.quantize(net, y))
            }
        };
    }
    vec![steps.dequantize(net, q)]
}

/// A picture of bytes as large as an image, as numbers around 0.
fn picture(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let image = net.b.image(x);
    let bytes = net.b.input_of(DType::U8, &image);
    let mut y = net.b.add(Cast { to: DType::F32 }, &[bytes]);
    if c.one_in(2) {
        let middle = net.b.scalar(c.of(&[128.0, 127.5, 100.0]));
        y = net.b.binary(BinaryFn::Sub, y, middle);
    }
    let scale = net.b.scalar(c.of(&[0.0078125, 0.015625, 0.0625]));
    y = net.b.binary(BinaryFn::Mul, y, scale);
    net.b.is_known_to_be_exact(y);
    y
}

/// The sum with another image, whose steps are a power of two as well: no sum is rounded.
fn added(net: &mut Network, x: Value, c: &mut Choices<'_>) -> (Steps, Value) {
    let image = net.b.image(x);
    let alike = |v: &Value| net.b.is_exact(*v) && net.b.image(*v) == image;
    let other = net.images.iter().rev().copied().find(alike).unwrap_or(x);
    let own = Steps::chosen(c, &POWERS);
    let q = own.quantize(net, other);
    let other = own.dequantize(net, q);
    let mut y = net.b.binary(BinaryFn::Add, x, other);
    if c.one_in(2) {
        y = net.b.add(Unary::Relu, &[y]);
    }
    net.b.is_known_to_be_exact(y);
    let steps = Steps::chosen(c, &POWERS);
    (steps, steps.quantize(net, y))
}

/// A convolution with known weights.
fn layer(net: &mut Network, x: Value, c: &mut Choices<'_>) -> (Steps, Value) {
    let [_, channels, h, w] = net.b.image(x);
    let groups = groups(c, channels);
    let m = groups * (c.pick(12 / groups.min(12)) + 1);
    let view = window(c, &[h, w]);
    let shape = [&[m, channels / groups], &view.kernel[..]].concat();
    let len: usize = shape.iter().product();
    let start = net.b.graph.len();
    let elems: Vec<i8> = (start..start + len).map(|i| (i * 7 % 23) as i8 - 11).collect();
    let weights = net.b.tensor(Tensor::new(shape, &elems).unwrap_or_else(|error| panic!("{error}")));
    let of_weights = net.b.scalar(c.of(&[0.0625, 0.125, 0.03125]));
    let weights = net.b.add(Dequantize, &[weights, of_weights]);
    let conv = Conv { window: view, groups, prologue: Prologue::default(), epilogue: Epilogue::default() };
    let mut operands = vec![x, weights];
    if c.one_in(2) {
        let bias: Vec<f32> = (0..m).map(|i| (i as f32 - 3.0) * 0.25).collect();
        operands.push(net.b.tensor(Tensor::new([m], &bias).unwrap_or_else(|error| panic!("{error}"))));
    }
    let mut y = net.b.add(conv, &operands);
    net.b.is_known_to_be_exact(y);
    if c.one_in(2) {
        y = net.b.add(c.of(&[Unary::Relu, Unary::Clip { min: 0.0, max: 3.0 }]), &[y]);
    }
    if c.one_in(3) {
        let image = net.b.image(y);
        let (view, ceil_pads) = pool_window(c, &image[2..]);
        y = net.b.pool(PoolKind::Max, view, ceil_pads, y);
    }
    let steps = Steps::chosen(c, &[0.125, 0.25, 0.0625]);
    (steps, steps.quantize(net, y))
}

/// A function of each element, which is a table whatever the steps are. Two that bound make no table of two.
fn function(net: &mut Network, x: Value, steps: Steps, c: &mut Choices<'_>) -> (Steps, Value) {
    let mut y = activation(net, x, c);
    if c.one_in(3) {
        y = activation(net, y, c);
    }
    if c.one_in(3) {
        y = net.b.binary(BinaryFn::Mul, x, y);
    }
    let steps = if c.one_in(3) { steps } else { Steps::chosen(c, &SCALES) };
    let q = steps.quantize(net, y);
    net.b.is_known_to_be_exact(q);
    (steps, q)
}

/// Joined with what has other steps, perhaps.
fn joined(net: &mut Network, x: Value, steps: Steps, c: &mut Choices<'_>) -> (Steps, Value) {
    let image = net.b.image(x);
    let alike = |other: [usize; 4]| (other[0], other[2], other[3]) == (image[0], image[2], image[3]);
    let others: Vec<Value> = net.images.iter().copied().filter(|v| net.b.is_exact(*v)).collect();
    let other = others.into_iter().rev().find(|v| alike(net.b.image(*v))).unwrap_or(x);
    let own = if c.one_in(2) { Steps::chosen(c, &SCALES) } else { steps };
    let q = own.quantize(net, other);
    let other = own.dequantize(net, q);
    let room = net.admits(&[image[0], image[1] + net.b.image(other)[1], image[2], image[3]]);
    let y = match room {
        true => net.b.add(Concat { axis: 1 }, &[x, other]),
        false => x,
    };
    let steps = if c.one_in(3) { Steps::chosen(c, &SCALES) } else { steps };
    (steps, steps.quantize(net, y))
}

/// The elements of an image in another order, fewer or more of them.
fn moved(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [n, channels, h, w] = net.b.image(x);
    match c.pick(9) {
        0 => {
            let (view, ceil_pads) = pool_window(c, &[h, w]);
            net.b.pool(PoolKind::Max, view, ceil_pads, x)
        }
        1 if channels % 2 == 0 => {
            let y = net.b.shuffle(x, 2);
            let [first, second] = net.b.split(y, channels / 2);
            if c.one_in(2) { net.b.binary(BinaryFn::Max, first, second) } else { second }
        }
        2 => {
            let mode = c.of(&[PadMode::Constant(0.0), PadMode::Constant(0.5), PadMode::Edge]);
            let begin = vec![0, 0, c.pick(3) as isize - 1, 1];
            net.b.add(Pad { begin, end: vec![0, 0, 1, 0], mode }, &[x])
        }
        3 => {
            let y = net.b.transpose(x, &[0, 2, 3, 1]);
            let y = net.b.add(Slice { axes: vec![AxisSlice { axis: 3, start: 0, step: 1, len: 1 }] }, &[y]);
            net.b.transpose(y, &[0, 3, 1, 2])
        }
        4 => {
            let (prologue, kind) = (Prologue::default(), PoolKind::Max);
            net.b.add(GlobalPool { kind, prologue, activation: None }, &[x])
        }
        5 => {
            let kind = c.of(&[ReduceKind::Max, ReduceKind::Min]);
            net.b.add(Reduce { kind, axes: vec![2], keep_dims: true }, &[x])
        }
        6 if net.admits(&[n, channels, 2 * h, 2 * w]) => {
            let sizes = [n, channels, 2 * h, 2 * w];
            let mode = ResizeMode::Nearest(NearestMode::Floor);
            net.b.add(Resize::new(sizes, [1.0, 1.0, 2.0, 2.0], mode, CoordinateMode::Asymmetric), &[x])
        }
        7 => {
            // Where one of two is: what decides is known.
            let bools = text::hash(TensorType::new(DType::Bool, [1, 1, h, w]), 3, 1.0);
            let condition = net.b.tensor(bools.unwrap_or_else(|error| panic!("{error}")));
            let least = net.b.add(Reduce { kind: ReduceKind::Min, axes: vec![1], keep_dims: true }, &[x]);
            net.b.add(Where, &[condition, x, least])
        }
        _ => {
            let picked: Vec<i64> = (0..c.pick(channels) + 1).map(|_| c.pick(channels) as i64).collect();
            let indices = Tensor::new([picked.len()], &picked).unwrap_or_else(|error| panic!("{error}"));
            net.b.add(Gather { axis: 1, indices }, &[x])
        }
    }
}
