//! Ways through other ranks, element types and axes, and back to an image.

use nnc_ir::op::*;
use nnc_ir::{DType, Tensor, Value};

use super::Network;
use super::layers::{activation, groups, maybe_activation, pool_kind};
use super::windows::{pool_window, wide, window};
use crate::fuzz::choices::Choices;

/// Leads an image through something else.
pub(super) fn add(net: &mut Network, x: Value, kind: usize, c: &mut Choices<'_>) -> Vec<Value> {
    let [n, channels, h, w] = net.b.image(x);
    vec![match kind {
        0 | 1 => head(net, x, c),
        2 => line(net, x, c),
        3 => volume(net, x, c),
        4 => {
            let axis = c.of(&[1, 3, 2, 0]);
            if c.one_in(3) { net.b.add(LogSoftmax { axis }, &[x]) } else { net.b.add(Softmax { axis }, &[x]) }
        }
        5 => reduced(net, x, c),
        6 | 7 => chosen(net, x, c),
        8 => resized(net, x, c),
        9 if h * w <= 100 => attention(net, x, c),
        10 => sliced(net, x, c),
        11 => blocks_of_pixels(net, x, c),
        12 => {
            let y = net.b.reshape(x, &[n, channels, h * w]);
            let y = maybe_activation(net, y, c);
            let y = net.b.reshape(y, &[n, channels, h, w, 1]);
            net.b.reshape(y, &[n, channels, h, w])
        }
        13 => normalised(net, x, c),
        14 => {
            // Through half precision and back: once rounded, by everybody alike only where it was exact.
            let x = exact(net, x);
            let y = net.b.add(Cast { to: DType::F16 }, &[x]);
            let y = net.b.add(Unary::Relu, &[y]);
            net.b.float(y)
        }
        _ => {
            // Channels picked one by one, some of them twice.
            let picked: Vec<i64> = (0..c.pick(channels) + 1).map(|_| c.pick(channels) as i64).collect();
            let indices = Tensor::new([picked.len()], &picked).unwrap_or_else(|error| panic!("{error}"));
            net.b.add(Gather { axis: 1, indices }, &[x])
        }
    }]
}

/// The latest image that no rounding went into; the input is one.
pub(super) fn exact(net: &Network, x: Value) -> Value {
    let exact = |value: &&Value| net.b.is_exact(**value);
    if net.b.is_exact(x) { x } else { net.images.iter().rev().find(exact).copied().unwrap_or(net.images[0]) }
}

/// Fully connected layers.
fn head(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [n, channels, h, w] = net.b.image(x);
    let y = match c.pick(3) {
        0 => net.b.reshape(x, &[n, channels * h * w]),
        1 => net.b.add(Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep_dims: false }, &[x]),
        _ => {
            let (prologue, kind) = (Prologue::default(), PoolKind::Average { count_include_pad: false });
            let y = net.b.add(GlobalPool { kind, prologue, activation: None }, &[x]);
            net.b.reshape(y, &[n, channels])
        }
    };
    let m = c.pick(20) + 1;
    let y = fully_connected(net, y, m, c);
    let y = maybe_activation(net, y, c);
    let m = c.pick(8) + 1;
    let y = fully_connected(net, y, m, c);
    let y = if c.one_in(3) { net.b.add(Softmax { axis: 1 }, &[y]) } else { y };
    net.b.reshape(y, &[n, m, 1, 1])
}

fn fully_connected(net: &mut Network, x: Value, m: usize, c: &mut Choices<'_>) -> Value {
    let k = net.b.shape(x)[1];
    let bound = 1.0 / (k as f32).sqrt();
    if c.one_in(3) {
        let weights = net.b.constant(&[k, m], bound);
        let y = net.b.add(MatMul::default(), &[x, weights]);
        let bias = net.b.constant(&[m], 0.5);
        return net.b.binary(BinaryFn::Add, y, bias);
    }
    let trans_b = c.one_in(2);
    let weights = net.b.constant(&if trans_b { [m, k] } else { [k, m] }, bound);
    let bias = net.b.constant(&[m], 0.5);
    let product = MatMul { trans_b, ..MatMul::default() };
    if c.one_in(3) {
        let y = net.b.add(product, &[x, weights]);
        let half = net.b.constant(&[], 0.5);
        let y = net.b.binary(BinaryFn::Mul, y, half);
        return net.b.binary(BinaryFn::Add, y, bias);
    }
    net.b.add(product, &[x, weights, bias])
}

/// Convolutions and pools along one axis: of a line, or of an image with one column.
fn line(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [n, channels, h, w] = net.b.image(x);
    if c.one_in(4) {
        return column(net, x, c);
    }
    let y = net.b.reshape(x, &[n, channels, h * w]);
    let y = if c.one_in(3) {
        let (view, ceil_pads) = pool_window(c, &[h * w]);
        net.b.pool(PoolKind::Max, view, ceil_pads, y)
    } else {
        let groups = groups(c, channels);
        let view = if c.one_in(3) { wide(c, 1) } else { window(c, &[h * w]) };
        let each = c.pick(8 / groups.min(8)) + 1;
        let y = net.b.conv(y, groups * each, groups, view, true);
        let y = if c.one_in(2) { net.b.batch_norm(y) } else { y };
        maybe_activation(net, y, c)
    };
    let [n, channels, len] = net.b.shape(y)[..] else { panic!("a line") };
    net.b.reshape(y, &[n, channels, 1, len])
}

/// Layers over an image with one column.
fn column(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [n, channels, h, w] = net.b.image(x);
    let x = net.b.reshape(x, &[n, channels, h * w, 1]);
    let groups = groups(c, channels);
    let mut view = window(c, &[h * w]);
    for (list, one) in [(&mut view.kernel, 1), (&mut view.strides, 1), (&mut view.dilations, 1)] {
        list.push(one);
    }
    view.pads_begin.push(0);
    view.pads_end.push(0);
    let y = net.b.conv(x, channels, groups, view, c.one_in(2));
    let alike = net.b.shape(x) == net.b.shape(y);
    let y = if alike && c.one_in(2) { net.b.binary(BinaryFn::Add, y, x) } else { y };
    maybe_activation(net, y, c)
}

/// Convolutions and pools along three axes: some of the channels become the slices of a volume.
fn volume(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [n, channels, h, w] = net.b.image(x);
    let each = groups(c, channels);
    let slices = channels / each;
    let y = net.b.reshape(x, &[n, each, slices, h, w]);
    let y = match c.pick(4) {
        0 => {
            let kind = pool_kind(c);
            let (view, ceil_pads) = pool_window(c, &[slices, h, w]);
            net.b.pool(kind, view, ceil_pads, y)
        }
        1 if net.admits(&[n, 3, 2 * slices, 2 * h, 2 * w]) => {
            let window = Window {
                kernel: vec![2; 3],
                strides: vec![c.pick(2) + 1, 2, 2],
                dilations: vec![1; 3],
                pads_begin: vec![c.pick(2) as isize; 3],
                pads_end: vec![0; 3],
            };
            let w = net.b.constant(&[each, c.pick(3) + 1, 2, 2, 2], 0.5);
            let conv = ConvTranspose { window, output_padding: vec![0; 3], groups: 1, activation: None };
            net.b.add(conv, &[y, w])
        }
        _ => {
            let (view, parts) = (window(c, &[slices, h, w]), groups(c, each));
            let y = net.b.conv(y, parts * (c.pick(3) + 1), parts, view, c.one_in(2));
            let y = if c.one_in(6) { net.b.with_computed_weights(y) } else { y };
            let y = maybe_activation(net, y, c);
            let channels = net.b.shape(y)[1];
            match c.one_in(3) {
                true => {
                    let z = net.b.conv(y, channels, 1, one_element(3), false);
                    net.b.binary(BinaryFn::Add, z, y)
                }
                false => y,
            }
        }
    };
    let [n, channels, d, h, w] = net.b.shape(y)[..] else { panic!("a volume") };
    match net.admits(&[n, channels * d, h, w]) {
        true => net.b.reshape(y, &[n, channels * d, h, w]),
        false => net.b.add(Reduce { kind: ReduceKind::Max, axes: vec![2], keep_dims: false }, &[y]),
    }
}

/// The window of one element along so many axes.
fn one_element(axes: usize) -> Window {
    Window {
        kernel: vec![1; axes],
        strides: vec![1; axes],
        dilations: vec![1; axes],
        pads_begin: vec![0; axes],
        pads_end: vec![0; axes],
    }
}

/// Reduced along some axes, and perhaps combined with what it came from.
fn reduced(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    use ReduceKind::*;
    let kind = c.of(&[Mean, Sum, Max, Min, L1, L2, SumSquare, LogSumExp]);
    let axes = [&[1usize][..], &[2, 3], &[3], &[1, 3], &[0], &[1, 2, 3]][c.pick(6)].to_vec();
    let y = net.b.add(Reduce { kind, axes: axes.clone(), keep_dims: true }, &[x]);
    match c.pick(3) {
        0 => net.b.binary(BinaryFn::Add, x, y),
        1 => {
            let mut shape = net.b.shape(x);
            shape
                .iter_mut()
                .enumerate()
                .filter(|(axis, _)| axes.contains(axis))
                .for_each(|(_, extent)| *extent = 1);
            let y = net.b.add(Reduce { kind, axes, keep_dims: false }, &[x]);
            net.b.reshape(y, &shape)
        }
        _ => y,
    }
}

/// Booleans and integers decide between two images.
fn chosen(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let seen = exact(net, x);
    let [n, channels, h, w] = net.b.image(seen);
    let other = net.other(x, |shape| shape == [n, channels, h, w]);
    let (a, b) =
        if net.b.image(x) == [n, channels, h, w] { (x, other.unwrap_or(seen)) } else { (seen, seen) };
    let limit = net.b.scalar(0.25);
    match c.pick(6) {
        0 | 1 => {
            let function =
                c.of(&[BinaryFn::Greater, BinaryFn::LessOrEqual, BinaryFn::Less, BinaryFn::GreaterOrEqual]);
            let mut mask = net.b.binary(function, seen, limit);
            if c.one_in(2) {
                let upper = net.b.scalar(1.0);
                let inside = net.b.binary(BinaryFn::Less, seen, upper);
                mask = net.b.binary(c.of(&[BinaryFn::And, BinaryFn::Or, BinaryFn::Xor]), mask, inside);
            }
            if c.one_in(3) {
                mask = net.b.add(Unary::Not, &[mask]);
            }
            let b = if c.one_in(2) { net.b.scalar(-0.5) } else { b };
            net.b.add(Where, &[mask, a, b])
        }
        2 => {
            let last = c.one_in(2);
            let kind = if c.one_in(2) { ReduceKind::ArgMin { last } } else { ReduceKind::ArgMax { last } };
            let y = net.b.add(Reduce { kind, axes: vec![c.of(&[1, 2, 3])], keep_dims: true }, &[seen]);
            let y = net.b.float(y);
            net.b.binary(BinaryFn::Add, a, y)
        }
        3 => {
            let function = c.of(&[Unary::Floor, Unary::Ceil, Unary::Round, Unary::Sign]);
            let y = net.b.add(function, &[seen]);
            net.b.binary(BinaryFn::Mul, a, y)
        }
        4 => {
            // Small integers: as such through a shape, arithmetic and a product.
            let to = c.of(&[DType::I32, DType::I64, DType::I8, DType::I16]);
            let y = net.b.add(Cast { to }, &[seen]);
            let z = net.b.add(Unary::Abs, &[y]);
            let function = c.of(&[BinaryFn::Add, BinaryFn::Mul, BinaryFn::Max, BinaryFn::Div, BinaryFn::Sub]);
            let y = net.b.binary(function, y, z);
            let y = net.b.transpose(y, &[0, 1, 3, 2]);
            let y = net.b.transpose(y, &[0, 1, 3, 2]);
            let y = net.b.float(y);
            net.b.binary(BinaryFn::Add, a, y)
        }
        _ => {
            let k = c.pick(w) + 1;
            net.b.add(TopK { axis: 3, k, largest: !c.one_in(2) }, &[seen])
        }
    }
}

/// Larger, smaller, or both at once.
fn resized(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [n, channels, h, w] = net.b.image(x);
    let size = |c: &mut Choices<'_>, extent: usize| match c.pick(5) {
        0 | 1 => 2 * extent,
        2 => extent.div_ceil(2),
        3 => extent + 1 + c.pick(3),
        _ => extent * 3 / 2,
    };
    let (oh, ow) = (size(c, h).max(1), size(c, w).max(1));
    if !net.admits(&[n, channels, oh, ow]) {
        return x;
    }
    let coordinates = c.of(&[
        CoordinateMode::HalfPixel,
        CoordinateMode::Asymmetric,
        CoordinateMode::AlignCorners,
        CoordinateMode::PytorchHalfPixel,
        CoordinateMode::HalfPixelSymmetric,
    ]);
    let nearest = c.of(&[
        NearestMode::Floor,
        NearestMode::RoundPreferFloor,
        NearestMode::RoundPreferCeil,
        NearestMode::Ceil,
    ]);
    let mode = match c.pick(4) {
        0 | 1 => ResizeMode::Nearest(nearest),
        2 => ResizeMode::Linear,
        _ => ResizeMode::Cubic { coeff_a: -0.75 },
    };
    let smooth = !matches!(mode, ResizeMode::Nearest(_));
    let resize = Resize {
        sizes: vec![n, channels, oh, ow],
        scales: vec![1.0, 1.0, oh as f32 / h as f32, ow as f32 / w as f32],
        mode,
        coordinates,
        exclude_outside: smooth && c.one_in(4),
        antialias: smooth && c.one_in(4),
        crop: None,
    };
    net.b.add(resize, &[x])
}

/// Each pixel looks at all others.
fn attention(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [n, channels, h, w] = net.b.image(x);
    let y = net.b.reshape(x, &[n, channels, h * w]);
    let rows = net.b.transpose(y, &[0, 2, 1]);
    let scale = net.b.scalar(1.0 / channels as f32);
    let named = |terms: [&str; 2], result: &str| {
        let names = |term: &str| term.chars().collect::<Vec<char>>();
        Einsum { terms: terms.map(names).to_vec(), result: names(result) }
    };
    let scores = match c.pick(3) {
        0 => net.b.add(MatMul::default(), &[rows, y]),
        1 => net.b.add(MatMul { trans_b: true, ..MatMul::default() }, &[rows, rows]),
        _ => net.b.add(named(["bci", "bcj"], "bij"), &[y, y]),
    };
    let scores = net.b.binary(BinaryFn::Mul, scores, scale);
    let scores = net.b.add(Softmax { axis: 2 }, &[scores]);
    let mixed = match c.one_in(3) {
        true => net.b.add(named(["bij", "bcj"], "bic"), &[scores, y]),
        false => net.b.add(MatMul::default(), &[scores, rows]),
    };
    let mixed = if c.one_in(2) {
        let (gain, shift) = (net.b.positive(&[channels]), net.b.constant(&[channels], 0.5));
        // A variance of almost nothing would magnify what was rounded.
        let epsilon = 0.5;
        match c.one_in(2) {
            true => net.b.add(LayerNorm { axis: 2, epsilon }, &[mixed, gain, shift]),
            false => written_out_norm(net, mixed, epsilon, [gain, shift], c),
        }
    } else {
        mixed
    };
    let y = net.b.transpose(mixed, &[0, 2, 1]);
    let y = net.b.reshape(y, &[n, channels, h, w]);
    if c.one_in(2) { net.b.binary(BinaryFn::Add, x, y) } else { y }
}

/// A normalisation of rows, as exporters write it that have no operator for it.
fn written_out_norm(
    net: &mut Network,
    x: Value,
    epsilon: f32,
    [gain, shift]: [Value; 2],
    c: &mut Choices<'_>,
) -> Value {
    let mean = || Reduce { kind: ReduceKind::Mean, axes: vec![2], keep_dims: true };
    let m = net.b.add(mean(), &[x]);
    let d = net.b.binary(BinaryFn::Sub, x, m);
    let squares = match c.one_in(2) {
        true => net.b.binary(BinaryFn::Mul, d, d),
        false => net.b.add(Unary::Power { exponent: 2.0 }, &[d]),
    };
    let variance = net.b.add(mean(), &[squares]);
    let epsilon = net.b.scalar(epsilon);
    let variance = net.b.binary(BinaryFn::Add, variance, epsilon);
    let deviation = net.b.add(Unary::Sqrt, &[variance]);
    let y = net.b.binary(BinaryFn::Div, d, deviation);
    let y = net.b.binary(BinaryFn::Mul, y, gain);
    net.b.binary(BinaryFn::Add, y, shift)
}

/// Parts of one or two axes, steps backwards included.
fn sliced(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let shape = net.b.image(x);
    let first = c.of(&[2, 1, 3, 2]);
    let mut axes = vec![first];
    if c.one_in(2) && first < 3 {
        axes.push(3);
    }
    let axes = axes.into_iter().map(|axis| {
        let extent = shape[axis];
        let step = c.of(&[1, 2, 1, -1, 3, -2]);
        let start = if step > 0 { c.pick(extent) } else { extent - 1 - c.pick(extent) };
        let room = if step > 0 { extent - start } else { start + 1 };
        AxisSlice { axis, start, step, len: room.div_ceil(step.unsigned_abs()) }
    });
    let axes = axes.collect();
    let y = net.b.add(Slice { axes }, &[x]);
    if c.one_in(2) { net.b.pointwise(y, c.pick(8) + 1) } else { y }
}

/// Blocks of pixels become channels, or channels blocks.
fn blocks_of_pixels(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let [n, channels, h, w] = net.b.image(x);
    if channels % 4 == 0 && !c.one_in(3) {
        let y = net.b.reshape(x, &[n, channels / 4, 2, 2, h, w]);
        let y = net.b.transpose(y, &[0, 1, 4, 2, 5, 3]);
        return net.b.reshape(y, &[n, channels / 4, 2 * h, 2 * w]);
    }
    if h % 2 == 0 && w % 2 == 0 && channels <= 16 {
        let y = net.b.reshape(x, &[n, channels, h / 2, 2, w / 2, 2]);
        let y = net.b.transpose(y, &[0, 1, 3, 5, 2, 4]);
        return net.b.reshape(y, &[n, 4 * channels, h / 2, w / 2]);
    }
    net.b.transpose(x, &[0, 1, 3, 2])
}

/// Other normalisations, of values with some variance.
fn normalised(net: &mut Network, x: Value, c: &mut Choices<'_>) -> Value {
    let channels = net.b.image(x)[1];
    match c.pick(4) {
        0 => net.b.add(Lrn { size: c.of(&[3, 5, 2]), alpha: 0.1, beta: 0.75, bias: 1.0 }, &[x]),
        1 => {
            let (gain, shift) = (net.b.positive(&[channels]), net.b.constant(&[channels], 0.5));
            net.b.add(InstanceNorm { epsilon: 0.5 }, &[x, gain, shift])
        }
        2 => {
            let slope = net.b.positive(&c.of(&[[channels, 1, 1], [1, 1, 1]]));
            net.b.binary(BinaryFn::PRelu, x, slope)
        }
        _ => {
            let kind = CumulativeKind::Sum;
            let sum =
                Cumulative { kind, axis: c.of(&[3, 1, 2]), exclusive: c.one_in(2), reverse: c.one_in(2) };
            let y = net.b.add(sum, &[x]);
            activation(net, y, c)
        }
    }
}
