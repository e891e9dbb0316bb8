//! Units of known networks, and operators in the spellings of exporters.

use nnc_ir::op::*;
use nnc_ir::{DType, Graph, Op, Tensor, TensorType, Value};

use super::builder::square;
use super::layers::{activation, groups, maybe_activation, pool_kind};
use super::windows::{pool_window, window};
use super::{CHANNELS, Network};
use crate::fuzz::choices::Choices;

/// Puts a unit on an image.
pub(super) fn add(net: &mut Network, x: Value, kind: usize, c: &mut Choices<'_>) -> Vec<Value> {
    let [n, channels, h, w] = net.b.image(x);
    vec![match kind {
        0 if channels > 1 => {
            // ShuffleNet v2; halves that are not equal where the channels are odd.
            let [left, right] = net.b.split(x, channels / 2);
            let y = net.b.pointwise(right, channels - channels / 2);
            let y = net.b.add(Unary::Relu, &[y]);
            let y = net.b.add(Concat { axis: 1 }, &[left, y]);
            if channels % 2 == 0 { net.b.shuffle(y, 2) } else { y }
        }
        1 => {
            // ShuffleNet v1: a residual over a shuffle.
            let groups = groups(c, channels);
            let y = net.b.conv(x, channels, groups, square(1, 1, 0), false);
            let y = net.b.shuffle(y, groups);
            let y = net.b.conv(y, channels, channels, square(3, 1, 1), false);
            let y = net.b.batch_norm(y);
            let y = net.b.binary(BinaryFn::Add, x, y);
            maybe_activation(net, y, c)
        }
        2 => {
            // ShuffleNet v2's reduction: both halves read the same image.
            let stride = c.of(&[2, 1]);
            let left = net.b.conv(x, channels, channels, square(3, stride, 1), false);
            let left = net.b.pointwise(left, 4);
            let y = net.b.pointwise(x, 4);
            let y = net.b.conv(y, 4, 4, square(3, stride, 1), false);
            let y = net.b.add(Concat { axis: 1 }, &[left, y]);
            net.b.shuffle(y, 2)
        }
        3 => separable(net, x, c),
        4 if h > 1 && w > 1 => shifted(net, x, c),
        5 => {
            // Normalised anew by each of its readers, as in DenseNet.
            let y = net.b.batch_norm(x);
            let y = net.b.add(Unary::Relu, &[y]);
            let new = net.b.conv(y, c.pick(12) + 1, 1, square(3, 1, 1), false);
            if channels + 12 > CHANNELS || c.one_in(3) {
                new
            } else {
                net.b.add(Concat { axis: 1 }, &[x, new])
            }
        }
        6 => {
            // Two halves of a concat with one batch norm behind.
            let (a, b) = (net.b.pointwise(x, c.pick(8) + 1), net.b.pointwise(x, 3));
            let y = net.b.add(Concat { axis: 1 }, &[a, b]);
            let y = net.b.batch_norm(y);
            maybe_activation(net, y, c)
        }
        7 => fire(net, x, c),
        8 => {
            // A concat of concats, in which a part comes twice, split somewhere else.
            let a = net.b.pointwise(x, c.pick(6) + 1);
            let inner = net.b.add(Concat { axis: 1 }, &[a, x]);
            let outer = net.b.add(Concat { axis: 1 }, &[inner, a]);
            let all = net.b.image(outer)[1];
            if all > CHANNELS {
                return vec![a];
            }
            let at = c.pick(all - 1) + 1;
            let [first, second] = net.b.split(outer, at);
            let y = net.b.pointwise(second, 5);
            return vec![outer, first, y];
        }
        9 if c.one_in(2) => chain(net, x, c),
        9 => padded(net, x, c),
        10 => composite(net, x, c),
        11 => {
            // A constant for each channel, or for all.
            let shape = c.of(&[[1, channels, 1, 1], [1, 1, 1, 1]]);
            let k = net.b.positive(&shape);
            let function = c.of(&[
                BinaryFn::Add,
                BinaryFn::Mul,
                BinaryFn::Sub,
                BinaryFn::Div,
                BinaryFn::Max,
                BinaryFn::Min,
            ]);
            let turned = c.one_in(3) && function != BinaryFn::Div;
            let (a, b) = if turned { (k, x) } else { (x, k) };
            let y = net.b.binary(function, a, b);
            maybe_activation(net, y, c)
        }
        12 => channels_last(net, x, c),
        13 if c.one_in(2) => looped(net, x, c),
        13 => {
            // Twice the same, and something that a constant folder sees.
            let shape = [1, channels, 1, 1];
            let (a, b) = (net.b.positive(&shape), net.b.positive(&shape));
            let k = net.b.binary(BinaryFn::Mul, a, b);
            let (y1, y2) = (net.b.add(Unary::Tanh, &[x]), net.b.add(Unary::Tanh, &[x]));
            let y = net.b.binary(BinaryFn::Mul, y1, k);
            net.b.binary(BinaryFn::Add, y, y2)
        }
        14 => {
            // Several pools of one image, added up.
            let kinds = [pool_kind(c), pool_kind(c)];
            let y: Vec<Value> =
                kinds.iter().map(|kind| net.b.pool(*kind, square(3, 1, 1), vec![0; 2], x)).collect();
            let y = net.b.binary(BinaryFn::Add, y[0], y[1]);
            net.b.binary(BinaryFn::Add, x, y)
        }
        _ => {
            // A second input, of the same shape or one element a channel.
            let shape = c.of(&[[n, channels, h, w], [n, channels, 1, 1], [1, channels, h, 1], [1, 1, 1, w]]);
            let other = net.b.input(&shape);
            let function = c.of(&[BinaryFn::Add, BinaryFn::Mul, BinaryFn::Sub, BinaryFn::Max]);
            let y = net.b.binary(function, x, other);
            maybe_activation(net, y, c)
        }
    }]
}

/// NASNet's: an activation before a separable convolution, whose batch norm comes last; twice, and added up.
fn separable(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [_, channels, h, w] = net.b.image(x);
    let branch = |net: &mut Network, c: &mut Choices<'_>| {
        let y = net.b.add(Unary::Relu, &[x]);
        let side = c.of(&[3, 5, 7]).min(2 * h.min(w) - 1) | 1;
        let y = net.b.conv(y, channels, channels, square(side, 1, side as isize / 2), false);
        let y = net.b.pointwise(y, channels);
        net.b.batch_norm(y)
    };
    let (a, b) = (branch(net, c), branch(net, c));
    let y = net.b.binary(BinaryFn::Add, a, b);
    if c.one_in(2) { net.b.binary(BinaryFn::Add, y, x) } else { y }
}

/// The shifted path of NASNet's reduction.
fn shifted(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [_, _, h, w] = net.b.image(x);
    let y = net.b.add(Unary::Relu, &[x]);
    let pad = Pad { begin: vec![0; 4], end: vec![0, 0, 1, 1], mode: PadMode::Constant(0.0) };
    let y = net.b.add(pad, &[y]);
    let axes = vec![
        AxisSlice { axis: 2, start: 1, step: 1, len: h },
        AxisSlice { axis: 3, start: 1, step: 1, len: w },
    ];
    let y = net.b.add(Slice { axes }, &[y]);
    let kind = PoolKind::Average { count_include_pad: c.one_in(2) };
    let y = net.b.pool(kind, square(1, 2, 0), vec![0; 2], y);
    let y = net.b.pointwise(y, c.pick(16) + 1);
    if c.one_in(2) { net.b.batch_norm(y) } else { y }
}

/// SqueezeNet's: two convolutions of one, side by side.
fn fire(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let y = net.b.conv(x, c.pick(12) + 1, 1, square(1, 1, 0), true);
    let y = net.b.add(Unary::Relu, &[y]);
    let (a, b) = (c.pick(16) + 1, c.pick(16) + 1);
    let a = net.b.conv(y, a, 1, square(1, 1, 0), true);
    let b = net.b.conv(y, b, 1, square(3, 1, 1), true);
    let (a, b) = (net.b.add(Unary::Relu, &[a]), net.b.add(Unary::Relu, &[b]));
    net.b.add(Concat { axis: 1 }, &[a, b])
}

/// The same a few times over, in a loop: a state, a weight that the body captures, and one that it does not read.
fn looped(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [n, channels, h, w] = net.b.image(x);
    let (image, weights) = (TensorType::f32([n, channels, h, w]), TensorType::f32([1, channels, 1, 1]));
    let mut body = Graph::new();
    body.add_input("i", TensorType::new(DType::I64, Vec::new()));
    let state = body.add_input("state", image);
    let weight = body.add_input("weight", weights.clone());
    body.add_input("unread", weights);
    let function = c.of(&[BinaryFn::Mul, BinaryFn::Add, BinaryFn::Max]);
    let mut add = |name: &str, op: Op, operands: &[Value]| -> Value {
        let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
        body.add(name, op, &operands).unwrap_or_else(|error| panic!("{error}")).into()
    };
    let y = add("step", Binary { function, activation: None }.into(), &[state, weight]);
    let y = add("bound", c.of(&[Unary::Tanh, Unary::HardSwish]).into(), &[y]);
    body.add_output("state", y);
    let operands = [x, net.b.positive(&[1, channels, 1, 1]), net.b.positive(&[1, channels, 1, 1])];
    let trips = 1 + c.pick(4) as u64;
    net.b.add(Loop { trips, by_data: false, states: 1, scanned: 0, body: body.into() }, &operands)
}

/// A pad or a crop, and perhaps a layer that may take it.
fn padded(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [_, _, h, w] = net.b.image(x);
    let crop = c.one_in(5) && h > 2 && w > 2;
    let mode = match c.pick(6) {
        0..=2 => PadMode::Constant(0.0),
        3 => PadMode::Constant(-1.5),
        4 => PadMode::Edge,
        _ if h > 2 && w > 2 => PadMode::Reflect,
        _ => PadMode::Edge,
    };
    let mut amount = || match crop {
        true => -(c.pick(2) as isize),
        false => c.pick(3) as isize,
    };
    let (begin, end) = (vec![0, 0, amount(), amount()], vec![0, 0, amount(), amount()]);
    let mode = if crop { PadMode::Constant(0.0) } else { mode };
    let y = net.b.add(Pad { begin, end, mode }, &[x]);
    behind_padding(net, y, c)
}

/// Pads, crops, slices and concats one after another, of either sign on every side: what is cropped may be padding, and nothing else.
fn chain(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let mut y = x;
    for _ in 0..2 + c.pick(2) {
        let shape = net.b.shape(y);
        let axis = 2 + c.pick(2);
        let extent = shape[axis];
        y = match c.pick(4) {
            0 | 1 => {
                let (mut begin, mut end) = (vec![0; 4], vec![0; 4]);
                (begin[axis], end[axis]) = (c.pick(8) as isize - 3, c.pick(8) as isize - 3);
                let rest = extent as isize + begin[axis].min(0) + end[axis].min(0);
                if rest < 0 || rest + begin[axis].max(0) + end[axis].max(0) < 1 {
                    begin[axis] = begin[axis].max(0);
                    end[axis] = end[axis].max(0);
                }
                let value = c.of(&[0.0, 0.0, 0.0, -1.5]);
                net.b.add(Pad { begin, end, mode: PadMode::Constant(value) }, &[y])
            }
            2 => {
                let start = c.pick(extent);
                let len = 1 + c.pick(extent - start);
                net.b.add(Slice { axes: vec![AxisSlice { axis, start, step: 1, len }] }, &[y])
            }
            _ => {
                let mut shape = shape.clone();
                shape[axis] = 1 + c.pick(2);
                let elems: usize = shape.iter().product();
                let zeros = Tensor::new(shape, &vec![0.0f32; elems]).unwrap_or_else(|e| panic!("{e}"));
                let zeros = net.b.tensor(zeros);
                let terms = if c.one_in(2) { [zeros, y] } else { [y, zeros] };
                net.b.add(Concat { axis }, &terms)
            }
        };
        if !net.admits(&net.b.shape(y)) {
            break;
        }
    }
    behind_padding(net, y, c)
}

/// A layer that may take padding in, or none.
fn behind_padding(net: &mut Network, y: Value, c: &mut Choices<'_>) -> Value {
    let [_, channels, h, w] = net.b.image(y);
    match c.pick(4) {
        0 => y,
        1 => {
            let view = window(c, &[h, w]);
            net.b.conv(y, c.pick(12) + 1, 1, view, c.one_in(2))
        }
        2 => {
            let view = window(c, &[h, w]);
            net.b.conv(y, channels, channels, view, c.one_in(2))
        }
        _ => {
            let kind = pool_kind(c);
            let (view, ceil_pads) = pool_window(c, &[h, w]);
            net.b.pool(kind, view, ceil_pads, y)
        }
    }
}

/// As channels-last exporters write it.
fn channels_last(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let channels = net.b.image(x)[1];
    let y = net.b.transpose(x, &[0, 2, 3, 1]);
    let y = activation(net, y, c);
    let k = net.b.positive(&[channels]);
    let y = net.b.binary(BinaryFn::Mul, y, k);
    let y = match c.pick(5) {
        0 => y,
        1 => {
            let (begin, end) = (vec![0, 1, 0, 0], vec![0, 0, 1, 0]);
            net.b.add(Pad { begin, end, mode: PadMode::Constant(0.0) }, &[y])
        }
        2 => net.b.add(Softmax { axis: 3 }, &[y]),
        3 => net.b.add(Reduce { kind: ReduceKind::Mean, axes: vec![1, 2], keep_dims: true }, &[y]),
        _ => {
            let weights = net.b.constant(&[channels, 6], 1.0 / (channels as f32).sqrt());
            net.b.add(MatMul::default(), &[y, weights])
        }
    };
    net.b.transpose(y, &[0, 3, 1, 2])
}

/// An activation, spelled out.
fn composite(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    use BinaryFn::{Add, Div, Max, Min, Mul, Pow};
    let b = &mut net.b;
    match c.pick(8) {
        0 => {
            let (zero, six) = (b.scalar(0.0), b.scalar(6.0));
            let y = b.binary(Max, x, zero);
            b.binary(Min, six, y)
        }
        1 | 2 => {
            let (three, six) = (b.scalar(3.0), b.scalar(6.0));
            let y = b.binary(Add, x, three);
            let y = b.add(Unary::Clip { min: 0.0, max: 6.0 }, &[y]);
            if c.one_in(2) {
                let y = b.binary(Div, y, six);
                b.binary(Mul, x, y)
            } else {
                let y = b.binary(Mul, x, y);
                b.binary(Div, y, six)
            }
        }
        3 => {
            let y = b.add(Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, &[x]);
            b.binary(Mul, y, x)
        }
        4 => {
            let y = b.add(Unary::Sigmoid, &[x]);
            b.binary(Mul, x, y)
        }
        5 => {
            let y = b.add(Unary::Softplus, &[x]);
            let y = b.add(Unary::Tanh, &[y]);
            b.binary(Mul, x, y)
        }
        6 => {
            let (root, one, half) = (b.scalar(std::f32::consts::SQRT_2), b.scalar(1.0), b.scalar(0.5));
            let y = b.binary(Div, x, root);
            let y = b.add(Unary::Erf, &[y]);
            let y = b.binary(Add, y, one);
            let y = b.binary(Mul, x, y);
            b.binary(Mul, y, half)
        }
        _ => {
            let (three, k) = (b.scalar(3.0), b.scalar(0.044715));
            let (root, one, half) =
                (b.scalar((2.0 / std::f32::consts::PI).sqrt()), b.scalar(1.0), b.scalar(0.5));
            let y = b.binary(Pow, x, three);
            let y = b.binary(Mul, y, k);
            let y = b.binary(Add, x, y);
            let y = b.binary(Mul, y, root);
            let y = b.add(Unary::Tanh, &[y]);
            let y = b.binary(Add, y, one);
            let y = b.binary(Mul, half, y);
            b.binary(Mul, x, y)
        }
    }
}
