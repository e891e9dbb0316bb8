//! Makes layers of integers of convolutions and matrix products between Dequantize and Quantize.
//!
//! ```text
//!   x ─▶ dequantize ─┐
//!   w ─▶ dequantize ─┼▶ conv [relu] ─▶ quantize      becomes      x ─▶ integer conv
//!   b ─▶ dequantize ─┘
//! ```
//!
//! Weights, scales and zero points are constants. Sums are exact then, and what becomes of a sum is one multiplication: by the scales of
//! both operands over that of the result. A bias in steps of the products is where sums start; bounds of an activation are bounds of the
//! steps; factors and terms of a channel between the layer and its Quantize, as of a batch norm, go into its own. Where no Quantize
//! follows, the result are real numbers. A product of matrices is a 1×1 convolution whose pixels are its rows.
//!
//! Weights that no such layer reads become floats here, and not before.

use nnc_ir::op::byte_weights::weights_of_columns;
use nnc_ir::op::{
    Binary, BinaryFn, ByteWeights, Conv, Dequantize, Gather, IntegerConv, MatMul, Quantize, Requantize,
    Reshape, Unary, Window,
};
use nnc_ir::{DType, Graph, NodeId, Op, Tensor, TensorType, Value};

use super::edit::{bounds, channel_axis, each_node, floats, per_channel, replace, rewrite, vector};
use super::steps::integers;
use super::{EditError, Notes};

/// Sums of so many products of bytes stay within `i32`.
const MOST_PRODUCTS: usize = 1 << 16;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let Some(layer) = integer_layer(graph, id) else { return Ok(()) };
        let last = layer.last;
        apply(graph, id, layer)?;
        notes.count(if last == id { "with real results" } else { "layers" });
        Ok(())
    })?;
    each_node(graph, notes, |graph, notes, id| {
        if matches!(graph.node(id).op, Op::Dequantize(_)) && dequantize(graph, id)? {
            notes.count("constants dequantised");
        }
        Ok(())
    })
}

/// A layer of integers, and what it takes the place of.
struct IntegerLayer {
    /// The window and groups of the convolution, over two axes.
    op: IntegerConv,
    /// The steps that it reads, and their shape as an image.
    x: Value,
    image: Vec<usize>,
    /// The channels that it reads, if some are read again.
    selected: Option<Vec<usize>>,
    /// `[M, C / groups, ky, kx]` of `i8`.
    weights: Tensor,
    /// `i32` where sums start, or real numbers that are added behind.
    bias: Option<Tensor>,
    /// For each channel of the result.
    scale: Vec<f32>,
    shift: Option<Vec<f32>>,
    /// Shape of the result as an image.
    result: Vec<usize>,
    /// Applied to real results.
    activation: Option<Unary>,
    /// The node whose result this is.
    last: NodeId,
}

/// What stands for numbers: steps, and the scale and zero point of each, or of each along an axis.
struct Steps {
    q: Value,
    scale: Vec<f32>,
    zero: Vec<i32>,
    /// The axis along which they differ, if they do.
    axis: Option<usize>,
}

impl Steps {
    /// Those that a Dequantize reads, or a Quantize makes.
    fn of(graph: &Graph, node: NodeId) -> Option<Steps> {
        let like = match graph.node(node).op {
            Op::Dequantize(_) | Op::Quantize(_) => graph.ty(node.into()).clone(),
            _ => return None,
        };
        let operand = |index: usize| graph.operand(node, index);
        let scale = operand(Dequantize::SCALE)?;
        let (scale_axis, scale) = (along(&graph.ty(scale).shape, &like)?, floats(graph, scale)?.into_owned());
        let (zero_axis, zero) = match operand(Dequantize::ZERO) {
            None => (None, vec![0]),
            Some(zero) => (along(&graph.ty(zero).shape, &like)?, integers(graph.constant(zero)?)?),
        };
        let axis = match (scale_axis, zero_axis) {
            (Some(a), Some(b)) if a != b => return None,
            (a, b) => a.or(b),
        };
        if !scale.iter().all(|s| s.is_finite() && *s > 0.0) {
            return None;
        }
        Some(Steps { q: operand(Dequantize::X)?, scale, zero, axis })
    }

    /// Scale and zero point, where all have the same.
    fn one(&self) -> Option<(f32, i32)> {
        Some((*self.scale.first()?, *self.zero.first()?)).filter(|_| self.axis.is_none())
    }

    fn scale_at(&self, index: usize) -> f32 {
        self.scale[if self.scale.len() == 1 { 0 } else { index }]
    }

    fn zero_at(&self, index: usize) -> i32 {
        self.zero[if self.zero.len() == 1 { 0 } else { index }]
    }
}

/// The axis of `like` along which a parameter of this shape differs: none where it has one element. `None` if there are several.
fn along(shape: &[usize], like: &TensorType) -> Option<Option<usize>> {
    let offset = like.shape.rank().checked_sub(shape.len())?;
    let mut axes = (0..shape.len()).filter(|&axis| shape[axis] != 1);
    match (axes.next(), axes.next()) {
        (None, _) => Some(None),
        (Some(axis), None) => Some(Some(axis + offset)),
        _ => None,
    }
}

/// The steps of a value that a Dequantize makes.
fn dequantised(graph: &Graph, value: Value) -> Option<Steps> {
    match graph.node(value.node).op {
        Op::Dequantize(_) => Steps::of(graph, value.node),
        _ => None,
    }
}

/// Weights as bytes, and the axis of their scales.
fn weights(graph: &Graph, value: Value, results: usize) -> Option<(Tensor, Steps)> {
    let steps = dequantised(graph, value)?;
    let tensor = graph.constant(steps.q).filter(|t| is_byte(t.dtype()))?;
    let along_results = steps.axis.is_none_or(|axis| axis == results);
    along_results.then(|| (tensor.clone(), steps))
}

/// The layer of integers that a node can be.
fn integer_layer(graph: &Graph, id: NodeId) -> Option<IntegerLayer> {
    match &graph.node(id).op {
        Op::Conv(conv) => convolution(graph, id, conv),
        Op::MatMul(product) => self::product(graph, id, product),
        _ => None,
    }
}

fn convolution(graph: &Graph, id: NodeId, conv: &Conv) -> Option<IntegerLayer> {
    let operand = |index: usize| graph.operand(id, index);
    if !conv.prologue.is_none() || conv.epilogue.residual.is_some() {
        return None;
    }
    let x = dequantised(graph, operand(Conv::X)?)?;
    let (weights, w) = weights(graph, operand(Conv::W)?, 0)?;
    // Signals are images with one row.
    let two = |shape: &[usize]| match *shape {
        [n, c, l] => Some(vec![n, c, 1, l]),
        [_, _, _, _] => Some(shape.to_vec()),
        _ => None,
    };
    let image = two(&graph.ty(x.q).shape)?;
    let kernel = two(&graph.ty(w.q).shape)?;
    let result = two(&graph.ty(id.into()).shape)?;
    let window = match conv.window.kernel.len() {
        1 => one_row(&conv.window),
        _ => conv.window.clone(),
    };
    let bias = operand(Conv::B);
    let weights = ByteWeights::around(&w.zero, &weights.reshaped(kernel).ok()?).ok()??;
    let layer = Around { x, w, bias, activation: conv.epilogue.activation, image, result };
    layer.around(graph, id, weights, (window, conv.groups))
}

/// The window over one row that a window over one axis is.
fn one_row(window: &Window) -> Window {
    let behind = |one: usize, of: &[usize]| [&[one], of].concat();
    let pads = |of: &[isize]| [&[0], of].concat();
    Window {
        kernel: behind(1, &window.kernel),
        strides: behind(1, &window.strides),
        dilations: behind(1, &window.dilations),
        pads_begin: pads(&window.pads_begin),
        pads_end: pads(&window.pads_end),
    }
}

fn product(graph: &Graph, id: NodeId, product: &MatMul) -> Option<IntegerLayer> {
    let operand = |index: usize| graph.operand(id, index);
    if product.epilogue.residual.is_some() {
        return None;
    }
    let x = dequantised(graph, operand(MatMul::A)?)?;
    let b = operand(MatMul::B)?;
    let (a_shape, b_shape) = (&graph.ty(x.q).shape, &graph.ty(b).shape);
    if a_shape.rank() < 2 || b_shape.rank() != 2 {
        return None;
    }
    let columns = if product.trans_b { 0 } else { 1 };
    let (n, k) = (b_shape[columns], b_shape[1 - columns]);
    let (matrix, w) = weights(graph, b, columns)?;
    let weights = match product.trans_b {
        true => matrix.reshaped([n, k, 1, 1]).ok()?,
        false => weights_of_columns(&matrix).ok()??,
    };
    let weights = ByteWeights::around(&w.zero, &weights).ok()??;
    let rows = a_shape[..a_shape.rank() - 1].iter().product();
    let window = Window {
        kernel: vec![1; 2],
        strides: vec![1; 2],
        dilations: vec![1; 2],
        pads_begin: vec![0; 2],
        pads_end: vec![0; 2],
    };
    let layer = Around {
        x,
        w,
        bias: operand(MatMul::BIAS),
        activation: product.epilogue.activation,
        image: vec![rows, k, 1, 1],
        result: vec![rows, n, 1, 1],
    };
    layer.around(graph, id, weights, (window, 1))
}

/// A layer of floats, by what it has.
struct Around {
    x: Steps,
    w: Steps,
    bias: Option<Value>,
    activation: Option<Unary>,
    image: Vec<usize>,
    result: Vec<usize>,
}

impl Around {
    /// The layer of integers that does the same.
    fn around(
        self,
        graph: &Graph,
        id: NodeId,
        weights: ByteWeights,
        (window, groups): (Window, usize),
    ) -> Option<IntegerLayer> {
        let selected = weights.selected(groups, self.image[1]);
        let weights = weights.weights;
        let (x_scale, x_zero) = self.x.one()?;
        let is_bytes = is_byte(graph.ty(self.x.q).dtype);
        let some = [&self.image, &self.result].into_iter().all(|shape| shape.iter().all(|&n| n > 0));
        let products = weights.shape().elems() / weights.shape()[0].max(1);
        if !is_bytes || !some || products > MOST_PRODUCTS || graph.constant(self.x.q).is_some() {
            return None;
        }
        let channels = weights.shape()[0];
        let tail = self.tail(graph, id, channels).unwrap_or_else(|| Tail::none(id, channels));
        let y_scale = tail.y_scale;
        let scale =
            |m: usize| (f64::from(x_scale) * f64::from(self.w.scale_at(m)) * tail.factor[m] / y_scale) as f32;
        let scale: Vec<f32> = (0..channels).map(scale).collect();
        let mut layer = IntegerLayer {
            op: IntegerConv { window, groups, x_zero, result: tail.result },
            x: self.x.q,
            image: self.image,
            selected,
            bias: None,
            shift: None,
            scale,
            result: self.result,
            activation: self.activation.filter(|_| tail.last == id),
            last: tail.last,
            weights,
        };
        let mut added = tail.added;
        if let Some(bias) = self.bias {
            let summed = |m: usize| f64::from(x_scale) as f32 * self.w.scale_at(m);
            match steps_of_products(graph, bias, channels, &layer.weights, summed) {
                Some(steps) => layer.bias = Some(Tensor::new([channels], &steps).ok()?),
                None => {
                    let real = real_bias(graph, bias, channels)?;
                    let behind = added.unwrap_or_else(|| vec![0.0; channels]);
                    let all = real.iter().zip(&tail.factor).zip(&behind);
                    added = Some(all.map(|((bias, factor), behind)| bias * factor + behind).collect());
                }
            }
        }
        layer.shift = added.map(|added| added.iter().map(|b| (b / y_scale) as f32).collect());
        let finite = layer.scale.iter().chain(layer.shift.iter().flatten()).all(|v| v.is_finite());
        finite.then_some(layer)
    }

    /// What is done to the numbers of a layer up to the Quantize behind it, if each is the only reader of the one before.
    fn tail(&self, graph: &Graph, id: NodeId, channels: usize) -> Option<Tail> {
        let like = graph.ty(id.into());
        let axis = channel_axis(graph, id)?;
        let per_channel = |value: Value| -> Option<Vec<f64>> {
            Some(per_channel(graph, value, like, axis)?.into_iter().map(f64::from).collect())
        };
        let mut tail = Tail::none(id, channels);
        let mut limits = Limits::NONE;
        limits.hold(self.activation)?;
        loop {
            let (reader, index) = graph.single_consumer(tail.last.into())?;
            let other = |index: usize| per_channel(graph.operand(reader, index)?);
            let (factor, term, activation) = match &graph.node(reader).op {
                Op::Unary(function) => (None, None, Some(*function)),
                Op::Binary(Binary { function, activation }) => {
                    let one = other(1 - index.min(1))?;
                    let inverse = |of: Vec<f64>| of.into_iter().map(|x| 1.0 / x).collect();
                    let negative = |of: Vec<f64>| of.into_iter().map(|x| -x).collect();
                    match (function, index) {
                        (BinaryFn::Mul, _) => (Some(one), None, *activation),
                        (BinaryFn::Div, 0) => (Some(inverse(one)), None, *activation),
                        (BinaryFn::Add, _) => (None, Some(one), *activation),
                        (BinaryFn::Sub, 0) => (None, Some(negative(one)), *activation),
                        _ => return None,
                    }
                }
                Op::ChannelAffine(affine) if index == 0 && axis == 1 => {
                    let each = |index: usize| -> Option<Vec<f64>> {
                        let elems = floats(graph, graph.operand(reader, index)?)?;
                        Some(elems.iter().map(|&x| f64::from(x)).collect())
                    };
                    (Some(each(1)?), Some(each(2)?), affine.activation)
                }
                Op::Quantize(Quantize { to }) if index == Quantize::X && is_byte(*to) => {
                    let (scale, zero) = Steps::of(graph, reader)?.one()?;
                    tail.result = limits.of_steps(*to, scale, zero);
                    (tail.last, tail.y_scale) = (reader, f64::from(scale));
                    return Some(tail);
                }
                _ => return None,
            };
            // Bounds are those of what is quantised.
            if limits != Limits::NONE && (factor.is_some() || term.is_some()) {
                return None;
            }
            tail.scale(factor);
            tail.add(term);
            limits.hold(activation)?;
            tail.last = reader;
        }
    }
}

/// Whether elements of a type are bytes.
fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::U8 | DType::I8)
}

/// What becomes of the numbers of a layer: `y = x · factor + added`, for each channel, then steps.
struct Tail {
    last: NodeId,
    result: Requantize,
    /// What a step is worth; 1 of real numbers.
    y_scale: f64,
    factor: Vec<f64>,
    added: Option<Vec<f64>>,
}

impl Tail {
    /// Of real numbers as they are.
    fn none(last: NodeId, channels: usize) -> Tail {
        Tail { last, result: Requantize::REAL, y_scale: 1.0, factor: vec![1.0; channels], added: None }
    }

    fn scale(&mut self, factor: Option<Vec<f64>>) {
        for (i, by) in factor.iter().flatten().enumerate() {
            self.factor[i] *= by;
            self.added.iter_mut().for_each(|added| added[i] *= by);
        }
    }

    fn add(&mut self, term: Option<Vec<f64>>) {
        let Some(term) = term else { return };
        match &mut self.added {
            Some(added) => added.iter_mut().zip(term).for_each(|(added, term)| *added += term),
            None => self.added = Some(term),
        }
    }
}

/// Bounds of numbers.
#[derive(Clone, Copy, PartialEq)]
struct Limits {
    low: f32,
    high: f32,
}

impl Limits {
    const NONE: Limits = Limits { low: f32::NEG_INFINITY, high: f32::INFINITY };

    /// Narrower by those of an activation. `None` if it does anything else.
    fn hold(&mut self, activation: Option<Unary>) -> Option<()> {
        let Some(activation) = activation else { return Some(()) };
        let (low, high) = bounds(activation).filter(|(low, high)| !low.is_nan() && !high.is_nan())?;
        let within = |bound: f32| bound.max(low).min(high);
        *self = Limits { low: within(self.low), high: within(self.high) };
        Some(())
    }

    /// The same of steps.
    fn of_steps(self, to: DType, scale: f32, zero: i32) -> Requantize {
        let whole = Requantize::steps(to, zero);
        let step = |bound: f32| {
            let step = f64::from((bound / scale).round_ties_even()) + f64::from(zero);
            step.clamp(whole.low.into(), whole.high.into()) as i32
        };
        Requantize { low: step(self.low), high: step(self.high), ..whole }
    }
}

/// A bias that is given in steps of the products, where sums that start there stay within `i32`.
fn steps_of_products(
    graph: &Graph,
    bias: Value,
    channels: usize,
    weights: &Tensor,
    scale: impl Fn(usize) -> f32,
) -> Option<Vec<i32>> {
    let steps = dequantised(graph, bias)?;
    let tensor =
        graph.constant(steps.q).filter(|t| t.dtype() == DType::I32 && t.shape().elems() == channels)?;
    let elems = integers(tensor)?;
    let products = weights.shape().elems() / channels.max(1);
    let stays = |bias: i32, most: u64| u64::from(bias.unsigned_abs()) + 255 * most <= i32::MAX as u64;
    // Weights are looked at where it matters what they are.
    let magnitude = |m: usize| -> Option<u64> {
        let all = weights.elems::<i8>().ok()?;
        Some(all[m * products..][..products].iter().map(|w| u64::from(w.unsigned_abs())).sum())
    };
    let fits = |(m, &bias): (usize, &i32)| {
        steps.scale_at(m) == scale(m)
            && steps.zero_at(m) == 0
            && (stays(bias, 128 * products as u64) || magnitude(m).is_some_and(|most| stays(bias, most)))
    };
    elems.iter().enumerate().all(fits).then_some(elems)
}

/// A known bias as real numbers.
fn real_bias(graph: &Graph, bias: Value, channels: usize) -> Option<Vec<f64>> {
    let real: Vec<f64> = match dequantised(graph, bias) {
        Some(steps) => {
            let elems = integers(graph.constant(steps.q)?)?;
            let real = |(m, q): (usize, &i32)| {
                f64::from((q.checked_sub(steps.zero_at(m))?) as f32 * steps.scale_at(m)).into()
            };
            elems.iter().enumerate().map(real).collect::<Option<Vec<f64>>>()?
        }
        None => floats(graph, bias)?.iter().map(|&b| f64::from(b)).collect(),
    };
    (real.len() == channels).then_some(real)
}

/// Puts the layer in the place of what it does.
fn apply(graph: &mut Graph, id: NodeId, layer: IntegerLayer) -> Result<(), EditError> {
    let name = graph.node(id).name.clone();
    let shape = graph.ty(layer.last.into()).shape.to_vec();
    let mut x = layer.x;
    if graph.ty(x).shape[..] != layer.image[..] {
        let op = Reshape { shape: layer.image };
        x = graph.add(format!("{name}:image"), op.into(), &[Some(x)])?.into();
    }
    if let Some(channels) = layer.selected {
        let channels: Vec<i64> = channels.into_iter().map(|channel| channel as i64).collect();
        let op = Gather { axis: 1, indices: Tensor::new([channels.len()], &channels)? };
        x = graph.add(format!("{name}:channels"), op.into(), &[Some(x)])?.into();
    }
    let weights = graph.add_constant(format!("{name}:weights"), layer.weights);
    let bias = layer.bias.map(|bias| graph.add_constant(format!("{name}:bias"), bias));
    let scale = vector(graph, format!("{name}:scale"), &layer.scale)?;
    let shift = layer.shift.map(|shift| vector(graph, format!("{name}:shift"), &shift)).transpose()?;
    let operands = [Some(x), Some(weights), bias, Some(scale), shift];
    let same = shape == layer.result && layer.activation.is_none();
    if same && layer.last == id {
        return rewrite(graph, id, layer.op, &operands);
    }
    let real = layer.activation.is_some() && shape == layer.result;
    let named = if real { format!("{name}:real") } else { name.clone() };
    let mut y: Value = graph.add(named, layer.op.into(), &operands)?.into();
    if shape != layer.result {
        graph.rename(y.node, format!("{name}:rows"));
        let name = if layer.activation.is_some() { format!("{name}:real") } else { name };
        y = graph.add(name, Reshape { shape }.into(), &[Some(y)])?.into();
    }
    if let Some(activation) = layer.activation {
        return rewrite(graph, id, activation, &[Some(y)]);
    }
    replace(graph, layer.last, y)
}

/// Computes a Dequantize of a constant.
fn dequantize(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let tensors: Vec<Option<Tensor>> =
        graph.operands(id).into_iter().map(|v| v.and_then(|v| graph.constant(v)).cloned()).collect();
    let all = graph
        .operands(id)
        .iter()
        .zip(&tensors)
        .all(|(operand, tensor)| operand.is_some() == tensor.is_some());
    if !all {
        return Ok(false);
    }
    let operands: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
    let results = graph.node(id).op.eval(&operands).map_err(|source| {
        EditError::Graph(nnc_ir::GraphError::Op {
            node: graph.node(id).name.clone(),
            op: "Dequantize",
            source,
        })
    })?;
    let Some(tensor) = results.into_iter().next() else { return Ok(false) };
    let constant = graph.add_constant(graph.node(id).name.clone(), tensor);
    replace(graph, id, constant)?;
    Ok(true)
}
