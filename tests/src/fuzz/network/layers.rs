//! What compact networks are made of.

use nnc_ir::Value;
use nnc_ir::op::*;

use super::builder::square;
use super::windows::{pool_window, wide, window};
use super::{CHANNELS, Network};
use crate::fuzz::choices::Choices;

/// Puts one layer on an image.
pub(super) fn add(net: &mut Network, x: Value, kind: usize, c: &mut Choices<'_>) -> Vec<Value> {
    let [n, channels, h, w] = net.b.image(x);
    vec![match kind {
        0 | 1 => {
            let (groups, wanted) = (groups(c, channels), c.pick(48));
            let view = if c.one_in(8) { wide(c, 2) } else { window(c, &[h, w]) };
            let y = net.b.conv(x, groups * (wanted / groups + 1), groups, view, !c.one_in(3));
            let y = if c.one_in(6) { net.b.with_computed_weights(y) } else { y };
            maybe_activation(net, y, c)
        }
        2 => {
            let y = net.b.conv(x, c.pick(48) + 1, 1, square(1, c.of(&[1, 1, 2]), 0), c.one_in(2));
            let y = net.b.batch_norm(y);
            maybe_activation(net, y, c)
        }
        3 => {
            let times = if c.one_in(4) { c.pick(CHANNELS / channels.clamp(1, CHANNELS)) + 1 } else { 1 };
            let y = net.b.conv(x, channels * times, channels, window(c, &[h, w]), c.one_in(2));
            let y = if c.one_in(6) { net.b.with_computed_weights(y) } else { y };
            let y = if c.one_in(2) { net.b.batch_norm(y) } else { y };
            maybe_activation(net, y, c)
        }
        4 => {
            let y = net.b.batch_norm(x);
            maybe_activation(net, y, c)
        }
        5 => activation(net, x, c),
        6 => {
            // A residual.
            let groups = groups(c, channels);
            let y = net.b.conv(x, channels, groups, square(1, 1, 0), c.one_in(2));
            let other = net.other(x, |shape| shape == [n, channels, h, w]).unwrap_or(x);
            let sum = if c.one_in(2) { [other, y] } else { [y, other] };
            let y = net.b.binary(BinaryFn::Add, sum[0], sum[1]);
            maybe_activation(net, y, c)
        }
        7 => {
            let fits = |[on, oc, oh, ow]: [usize; 4]| [on, oh, ow] == [n, h, w] && oc + channels <= CHANNELS;
            let other = net.other(x, fits).unwrap_or_else(|| net.b.pointwise(x, 5));
            let mut parts = vec![x, other];
            if c.one_in(3) && channels <= 8 {
                parts.push(x);
            }
            if c.one_in(3) {
                parts.reverse();
            }
            let y = net.b.add(Concat { axis: 1 }, &parts);
            maybe_activation(net, y, c)
        }
        8 if channels > 1 => return split(net, x, c),
        9 => {
            let groups = groups(c, channels);
            net.b.shuffle(x, groups)
        }
        10 | 11 => {
            let kind = pool_kind(c);
            let (view, ceil_pads) = pool_window(c, &[h, w]);
            net.b.pool(kind, view, ceil_pads, x)
        }
        12 => squeeze_and_excite(net, x, c),
        13 => transposed(net, x, c),
        14 => {
            // Dense 3x3 of stride 1, which Winograd's algorithm may do.
            let y = net.b.conv(
                x,
                c.pick(32) + 1,
                1,
                square(3, 1, c.of(&[1, 1, 0, 2]).max(3usize.saturating_sub(h.min(w)) as isize)),
                true,
            );
            maybe_activation(net, y, c)
        }
        _ => net.b.pointwise(x, c.pick(40) + 1),
    }]
}

/// A number of groups that divides the channels.
pub(super) fn groups(c: &mut Choices<'_>, channels: usize) -> usize {
    let divisors: Vec<usize> = (1..=channels).filter(|g| channels.is_multiple_of(*g)).collect();
    c.of(&divisors)
}

/// Some activation.
pub(super) fn activation(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let all = [
        Unary::Relu,
        Unary::Relu,
        Unary::Clip { min: 0.0, max: 6.0 },
        Unary::HardSwish,
        Unary::Sigmoid,
        Unary::Silu,
        Unary::LeakyRelu { alpha: 0.125 },
        Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Unary::Tanh,
        Unary::Elu { alpha: 0.5 },
        Unary::Mish,
        Unary::Gelu { tanh: false },
        Unary::Gelu { tanh: true },
        Unary::Softplus,
        Unary::Selu { alpha: 1.67, gamma: 1.05 },
        Unary::Clip { min: -1.0, max: 0.5 },
        Unary::Abs,
        Unary::Neg,
        Unary::Softsign,
        Unary::Celu { alpha: 0.75 },
    ];
    let chosen = c.of(&all);
    net.b.add(chosen, &[x])
}

/// An activation, or none.
pub(super) fn maybe_activation(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    if c.one_in(2) { activation(net, x, c) } else { x }
}

/// Some kind of pool.
pub(super) fn pool_kind(c: &mut Choices<'_>) -> PoolKind {
    let average = |count_include_pad| PoolKind::Average { count_include_pad };
    c.of(&[PoolKind::Max, average(false), average(true), PoolKind::Max, PoolKind::Lp { p: 2 }])
}

/// In two or three parts, all of which are read again.
fn split(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Vec<Value> {
    let channels = net.b.image(x)[1];
    let at = c.pick(channels - 1) + 1;
    if channels - at > 1 && c.one_in(3) {
        let middle = c.pick(channels - at - 1) + 1;
        let first = net.b.add(Split { axis: 1, parts: vec![at, middle, channels - at - middle] }, &[x]);
        return vec![net.b.output(first, 2), first, net.b.output(first, 1)];
    }
    net.b.split(x, at).to_vec()
}

/// A factor for each channel, made of the means of all.
fn squeeze_and_excite(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [n, channels, h, w] = net.b.image(x);
    let kind = if c.one_in(4) { PoolKind::Max } else { PoolKind::Average { count_include_pad: false } };
    let y = match c.pick(3) {
        0 => net.b.add(GlobalPool { kind, prologue: Prologue::default(), activation: None }, &[x]),
        1 => net.b.add(Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep_dims: true }, &[x]),
        _ => {
            let view = Window { kernel: vec![h, w], ..square(1, 1, 0) };
            net.b.pool(kind, view, vec![0; 2], x)
        }
    };
    let y = net.b.conv(y, (channels / 4).max(1), 1, square(1, 1, 0), true);
    let y = activation(net, y, c);
    let y = net.b.conv(y, channels, 1, square(1, 1, 0), true);
    let gate = if c.one_in(2) { Unary::HardSigmoid { alpha: 0.2, beta: 0.5 } } else { Unary::Sigmoid };
    let y = net.b.add(gate, &[y]);
    let y = if c.one_in(4) { net.b.add(Expand { shape: vec![n, channels, h, w] }, &[y]) } else { y };
    net.b.binary(BinaryFn::Mul, x, y)
}

/// A transposed convolution; larger images are made smaller again.
fn transposed(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [n, channels, h, w] = net.b.image(x);
    let groups = groups(c, channels);
    let each = c.pick(12 / groups.min(12) + 1) + 1;
    let stride = c.of(&[2, 1, 2, 3, 5]);
    // Mostly windows that do not overlap, as in decoders.
    let [kernel, dilation, begin, end, more] = match c.one_in(3) {
        false => [stride, 1, 0, 0, 0],
        true => {
            let (kernel, dilation) = (c.of(&[2, 1, 3, 4]), c.of(&[1, 1, 1, 2]));
            let cut = (dilation * (kernel - 1) + 1).min(3);
            [kernel, dilation, c.pick(cut), c.pick(cut), c.pick(stride.max(dilation))]
        }
    };
    let reach = dilation * (kernel - 1) + 1;
    let extents =
        [h, w].map(|extent| (stride * (extent - 1) + reach + more) as isize - (begin + end) as isize);
    let (begin, end) = if extents.iter().all(|extent| *extent > 0) { (begin, end) } else { (0, 0) };
    let shape = [h, w].map(|extent| stride * (extent - 1) + reach + more - begin - end);
    if !net.admits(&[n, groups * each, shape[0], shape[1]]) {
        return net.b.pointwise(x, channels.min(8));
    }
    let window = Window {
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        dilations: vec![dilation; 2],
        pads_begin: vec![begin as isize; 2],
        pads_end: vec![end as isize; 2],
    };
    let weights =
        net.b.constant(&[channels, each, kernel, kernel], 1.0 / (channels as f32 / groups as f32).sqrt());
    let conv = ConvTranspose { window, output_padding: vec![more; 2], groups, activation: None };
    let mut operands = vec![x, weights];
    if c.one_in(2) {
        operands.push(net.b.constant(&[groups * each], 0.5));
    }
    let y = net.b.add(conv, &operands);
    let y = if c.one_in(6) { net.b.with_computed_weights(y) } else { y };
    let y = if c.one_in(2) { net.b.batch_norm(y) } else { y };
    maybe_activation(net, y, c)
}
