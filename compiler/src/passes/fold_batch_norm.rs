//! Folds batch norms into weights, or else into prologues.
//!
//! ```text
//!   conv ─▶ batch norm                     becomes   conv, weights · scale, bias · scale + shift
//!   batch norm ─▶ conv (no padding)        becomes   conv, weights · scale, bias + Σ weights · shift
//!   batch norm ─▶ relu ─▶ conv             becomes   [· scale + shift, relu] conv
//! ```
//!
//! The four vectors of a batch norm make `scale = γ / √(σ² + ε)` and `shift = β − μ · scale`, in f64, so that weights are
//! rounded once. A [`ChannelAffine`] has such vectors already. They go, in this order, into
//!
//! 1. the weights of the layer before, when nobody else reads that one;
//! 2. the layers before a channel select (NASNet halves its images by two convolutions, whose results it concatenates);
//! 3. the weights of the convolutions behind, when no padding comes in between: padding comes after the batch norm, and
//!    stays zero;
//! 4. the prologues of the layers behind, together with a cheap activation in between (DenseNet: each layer normalises
//!    the common input its own way), when all readers can take it.
//!
//! What remains is a [`ChannelAffine`], a step of its own.

use std::collections::BTreeMap;

use nnc_ir::op::{BatchNorm, ChannelAffine, ChannelSelect, Conv, GlobalPool, Pool, Prologue, Unary};
use nnc_ir::{DType, Factors, Graph, NodeId, Op, Tensor, Value};

use super::edit::{
    absorb, each_node, floats, is_constant, is_float, read_only_by, replace, rewrite, set, unary, vector,
    with_activation,
};
use super::fuse_activation::{is_cheap, readers_with_prologue};
use super::{EditError, Notes};
use crate::code::float::Float;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        // One that stays as it is counts nowhere, or there would be no end.
        let known = affine(graph, id).is_some_and(|affine| is_ordinary(&affine));
        if known && matches!(graph.node(id).op, Op::BatchNorm(_)) {
            notes.count("batch norms");
        }
        fold(graph, notes, id)
    })
}

/// `activation(x · scale[c] + shift[c])`, before anything is rounded.
struct Affine {
    x: Value,
    scale: Vec<f64>,
    shift: Vec<f64>,
    activation: Option<Unary>,
}

/// What a channel affine, or a batch norm with known statistics, does.
fn affine(graph: &Graph, id: NodeId) -> Option<Affine> {
    let x = graph.operand(id, 0).filter(|x| is_float(graph, *x))?;
    let constant = |i| floats(graph, graph.operand(id, i)?);
    match &graph.node(id).op {
        Op::ChannelAffine(op) => Some(Affine {
            x,
            scale: constant(1)?.iter().copied().map(f64::from).collect(),
            shift: constant(2)?.iter().copied().map(f64::from).collect(),
            activation: op.activation,
        }),
        Op::BatchNorm(BatchNorm { epsilon }) => {
            let (gamma, beta, mean, var) = (constant(1)?, constant(2)?, constant(3)?, constant(4)?);
            let scale: Vec<f64> = gamma
                .iter()
                .zip(&*var)
                .map(|(&gamma, &var)| f64::from(gamma) / (f64::from(var) + f64::from(*epsilon)).sqrt())
                .collect();
            let shift = beta.iter().zip(&*mean).zip(&scale);
            let shift =
                shift.map(|((&beta, &mean), scale)| f64::from(beta) - f64::from(mean) * scale).collect();
            Some(Affine { x, scale, shift, activation: None })
        }
        _ => None,
    }
}

/// Whether all factors are finite. With others, `x · scale + shift` is another NaN or infinity than `(x − μ) · scale + β`, and
/// weights times them are, too.
fn is_ordinary(affine: &Affine) -> bool {
    affine.scale.iter().chain(&affine.shift).all(|&x| (x as f32).is_finite())
}

/// Gives a node the operator and operands of an affine.
fn rewrite_as(graph: &mut Graph, id: NodeId, affine: &Affine) -> Result<(), EditError> {
    let name = graph.node(id).name.clone();
    let scale = vector(graph, format!("{name}:scale"), &rounded(&affine.scale))?;
    let shift = vector(graph, format!("{name}:shift"), &rounded(&affine.shift))?;
    let op = ChannelAffine { activation: affine.activation };
    rewrite(graph, id, op, &[Some(affine.x), Some(scale), Some(shift)])
}

fn rounded(elems: &[f64]) -> Vec<f32> {
    elems.iter().map(|&x| x as f32).collect()
}

fn fold(graph: &mut Graph, notes: &mut Notes, id: NodeId) -> Result<(), EditError> {
    let Some(affine) = affine(graph, id).filter(is_ordinary) else { return Ok(()) };
    if affine.scale.iter().all(|s| *s == 1.0) && affine.shift.iter().all(|s| *s == 0.0) {
        match affine.activation {
            None => replace(graph, id, affine.x)?,
            Some(activation) => rewrite(graph, id, activation, &[Some(affine.x)])?,
        }
        notes.count("dropped");
    } else if let Some(merged) = merged(graph, id, &affine) {
        rewrite_as(graph, id, &merged)?;
        notes.count("merged");
        return fold(graph, notes, id);
    } else if into_layer_before(graph, notes, id, &affine)? {
        notes.count("folded into the layer before");
    } else if before_select(graph, notes, id, &affine)? {
        notes.count("folded through a channel select");
    } else if into_weights_behind(graph, notes, id, &affine)? {
        notes.count("folded into the convolution behind");
    } else if into_prologues(graph, notes, id, &affine)? {
        notes.count("as prologue");
    } else if matches!(graph.node(id).op, Op::BatchNorm(_)) {
        rewrite_as(graph, id, &affine)?;
    }
    Ok(())
}

/// One affine that does what two do that follow each other.
fn merged(graph: &Graph, id: NodeId, second: &Affine) -> Option<Affine> {
    let first = affine(graph, second.x.node).filter(is_ordinary)?;
    if first.activation.is_some() || !read_only_by(graph, second.x, id) {
        return None;
    }
    Some(Affine {
        x: first.x,
        scale: first.scale.iter().zip(&second.scale).map(|(a, b)| a * b).collect(),
        shift: scaled_and_shifted(&first.shift, second),
        activation: second.activation,
    })
}

/// `x · scale + shift`
fn scaled_and_shifted(x: &[f64], affine: &Affine) -> Vec<f64> {
    x.iter().zip(&affine.scale).zip(&affine.shift).map(|((x, scale), shift)| x * scale + shift).collect()
}

/// A layer whose results can be scaled and shifted by other weights and another bias.
struct Scalable {
    op: Op,
    weights: Value,
    bias: Option<Value>,
    /// Which result channel each weight contributes to: `(i / inner) mod channels`, or by groups.
    order: WeightOrder,
}

/// Which channel of the result the weight with index `i` belongs to.
#[derive(Clone, Copy)]
enum WeightOrder {
    /// [M, inner]
    Rows { inner: usize },
    /// [K, M]
    Columns,
    /// [groups, rows = C / groups, channels = M / groups, inner]
    Transposed { rows: usize, channels: usize, inner: usize },
}

impl WeightOrder {
    /// What multiplies each weight by the factor of its channel.
    fn factors(self, scale: &[f64]) -> Factors {
        let scale = scale.to_vec();
        match self {
            WeightOrder::Rows { inner } => Factors::each(scale, inner),
            WeightOrder::Columns => Factors::each(scale, 1),
            WeightOrder::Transposed { rows, channels, inner } => {
                Factors::grouped(scale, inner, channels, rows)
            }
        }
    }
}

/// A constant of `f32` with the elements of `weights` that `layer` alone reads, so that it may change them: the constant itself where it
/// has no other reader, so that there are never two copies of all weights.
fn own(graph: &mut Graph, weights: Value, layer: NodeId) -> Option<Value> {
    let f32s = graph.constant(weights)?.dtype() == DType::F32;
    if f32s && read_only_by(graph, weights, layer) {
        return Some(weights);
    }
    let (name, tensor) = (graph.node(weights.node).name.clone(), widened(graph, weights)?);
    Some(graph.add_constant(name, tensor))
}

/// A constant as `f32`: what is folded into half floats is not rounded to them.
fn widened(graph: &Graph, weights: Value) -> Option<Tensor> {
    let tensor = graph.constant(weights)?;
    match tensor.dtype() {
        DType::F32 => Some(tensor.clone()),
        _ => Tensor::new(tensor.shape().clone(), &Float::elems(tensor)?).ok(),
    }
}

fn scalable(graph: &Graph, layer: NodeId) -> Option<Scalable> {
    let weights = graph.operand(layer, 1)?;
    is_constant(graph, weights).then_some(())?;
    let bias = graph.operand(layer, 2);
    let shape = &graph.ty(weights).shape;
    let inner = shape.iter().skip(1).product();
    let (op, order) = match &graph.node(layer).op {
        Op::Conv(conv) if conv.epilogue.is_none() => (conv.clone().into(), WeightOrder::Rows { inner }),
        Op::ConvTranspose(conv) if conv.activation.is_none() => {
            let inner = shape.iter().skip(2).product();
            let rows = shape.first()? / conv.groups.max(1);
            let order = WeightOrder::Transposed { rows, channels: *shape.get(1)?, inner };
            (conv.clone().into(), order)
        }
        // Of matrices: the axis after the first is that of the columns.
        Op::MatMul(product)
            if product.epilogue.is_none()
                && graph.ty(layer.into()).shape.rank() == 2
                && shape.rank() == 2 =>
        {
            let order = match product.trans_b {
                true => WeightOrder::Rows { inner },
                false => WeightOrder::Columns,
            };
            (product.clone().into(), order)
        }
        _ => return None,
    };
    let channels = *graph.ty(layer.into()).shape.get(1)?;
    if let Some(bias) = bias {
        floats(graph, bias).filter(|b| b.len() == channels)?;
    }
    Some(Scalable { op, weights, bias, order })
}

impl Scalable {
    /// Gives a layer the weights, bias and activation that an affine after it asks for.
    fn scale(self, graph: &mut Graph, layer: NodeId, affine: &Affine) -> Result<bool, EditError> {
        let op = match affine.activation {
            None => self.op,
            Some(activation) => match with_activation(graph, layer, &self.op, activation) {
                Some(op) => op,
                None => return Ok(false),
            },
        };
        let (name, bias) = match self.bias {
            None => (format!("{}:bias", graph.node(layer).name), rounded(&affine.shift)),
            Some(bias) => {
                let Some(elems) = floats(graph, bias) else { return Ok(false) };
                let elems: Vec<f64> = elems.iter().copied().map(f64::from).collect();
                let bias_name = graph.node(bias.node).name.clone();
                (bias_name, rounded(&scaled_and_shifted(&elems, affine)))
            }
        };
        let mut operands = graph.operands(layer);
        let bias = vector(graph, name, &bias)?;
        set(&mut operands, 2, bias);
        // Weights are changed in place: not before it is certain that the rest can be.
        graph.admits(layer, &op, &operands)?;
        if affine.scale.iter().any(|s| *s != 1.0) {
            let Some(weights) = own(graph, self.weights, layer) else { return Ok(false) };
            if !graph.scale_constant(weights, self.order.factors(&affine.scale)) {
                return Ok(false);
            }
            operands[1] = Some(weights);
        }
        rewrite(graph, layer, op, &operands)?;
        Ok(true)
    }
}

fn into_layer_before(
    graph: &mut Graph,
    notes: &mut Notes,
    id: NodeId,
    affine: &Affine,
) -> Result<bool, EditError> {
    let layer = affine.x.node;
    if !read_only_by(graph, affine.x, id) {
        return Ok(false);
    }
    let Some(scalable) = scalable(graph, layer) else { return Ok(false) };
    if !scalable.scale(graph, layer, affine)? {
        return Ok(false);
    }
    absorb(graph, notes, layer, id, "weights and bias")?;
    Ok(true)
}

/// Folds an affine after a channel select into all layers that the select reads.
fn before_select(
    graph: &mut Graph,
    notes: &mut Notes,
    id: NodeId,
    affine: &Affine,
) -> Result<bool, EditError> {
    let select = affine.x.node;
    let Op::ChannelSelect(ChannelSelect { sources }) = &graph.node(select).op else { return Ok(false) };
    if !read_only_by(graph, affine.x, id) {
        return Ok(false);
    }
    let mut parts: BTreeMap<u32, (NodeId, Scalable, Affine)> = BTreeMap::new();
    let mut taken = std::collections::BTreeSet::new();
    for (source, (scale, shift)) in sources.iter().zip(affine.scale.iter().zip(&affine.shift)) {
        if let std::collections::btree_map::Entry::Vacant(entry) = parts.entry(source.operand) {
            let Some(layer) = graph.operand(select, source.operand as usize) else { return Ok(false) };
            let channels = graph.ty(layer).shape.get(1).copied().unwrap_or(0);
            let Some(scalable) = scalable(graph, layer.node).filter(|_| read_only_by(graph, layer, select))
            else {
                return Ok(false);
            };
            let part =
                Affine { x: layer, scale: vec![1.0; channels], shift: vec![0.0; channels], activation: None };
            entry.insert((layer.node, scalable, part));
        }
        // A channel that is selected twice would have to be scaled in two ways.
        if !taken.insert(*source) {
            return Ok(false);
        }
        let Some((_, _, part)) = parts.get_mut(&source.operand) else { return Ok(false) };
        let channel = source.channel as usize;
        match (part.scale.get_mut(channel), part.shift.get_mut(channel)) {
            (Some(a), Some(b)) => (*a, *b) = (*scale, *shift),
            _ => return Ok(false),
        }
    }
    let (name, op) = (graph.node(id).name.clone(), graph.node(id).op.name());
    for (layer, scalable, part) in parts.into_values() {
        scalable.scale(graph, layer, &part)?;
        notes.absorbed(&graph.node(layer).name, &name, op, "weights and bias");
    }
    match affine.activation {
        None => replace(graph, id, affine.x)?,
        Some(activation) => rewrite(graph, id, activation, &[Some(affine.x)])?,
    }
    Ok(true)
}

/// Folds an affine into the weights of all convolutions that read it.
fn into_weights_behind(
    graph: &mut Graph,
    notes: &mut Notes,
    id: NodeId,
    affine: &Affine,
) -> Result<bool, EditError> {
    let readers = graph.consumers(id.into());
    if affine.activation.is_some() || readers.is_empty() || graph.is_output(id.into()) {
        return Ok(false);
    }
    let shifts = affine.shift.iter().any(|s| *s != 0.0);
    let fits = |&(reader, input): &(NodeId, usize)| {
        let Op::Conv(conv) = &graph.node(reader).op else { return false };
        let padded = conv.window.pads_begin.iter().chain(&conv.window.pads_end).any(|&n| n > 0);
        input == Conv::X
            && conv.prologue.is_none()
            && !(padded && shifts)
            && graph.operand(reader, Conv::W).is_some_and(|w| is_constant(graph, w))
            && graph.operand(reader, Conv::B).is_none_or(|b| is_constant(graph, b))
    };
    if !readers.iter().all(fits) {
        return Ok(false);
    }
    let (name, op) = (graph.node(id).name.clone(), graph.node(id).op.name());
    for (reader, _) in readers {
        fold_into_weights(graph, notes, reader, affine)?;
        notes.absorbed(&graph.node(reader).name, &name, op, "weights and bias");
    }
    Ok(true)
}

/// `Σ w · (x · scale + shift) + b` becomes `Σ (w · scale) · x + (b + Σ w · shift)`.
fn fold_into_weights(
    graph: &mut Graph,
    notes: &Notes,
    reader: NodeId,
    affine: &Affine,
) -> Result<(), EditError> {
    let Op::Conv(conv) = graph.node(reader).op.clone() else { return Ok(()) };
    let mut operands = graph.operands(reader);
    let (Some(w), bias) = (graph.operand(reader, Conv::W), graph.operand(reader, Conv::B)) else {
        return Ok(());
    };
    let Some(mut weights) = widened(graph, w) else { return Ok(()) };
    let [m, channels, ..] = weights.shape()[..] else { return Ok(()) };
    let taps: usize = weights.shape()[2..].iter().product();
    let per_group = (m / conv.groups.max(1)).max(1);
    if affine.scale.len() != channels * conv.groups {
        return Ok(());
    }
    let mut sums = match affine.shift.iter().any(|s| *s != 0.0) {
        true => {
            let numbers = [m, channels, taps, conv.groups].map(|n| n as u64);
            let numbers = numbers.into_iter().chain(affine.shift.iter().map(|s| s.to_bits()));
            let shift = |row: usize| &affine.shift[row / per_group * channels..];
            notes.sums().of(&weights, numbers, || shifted_sums(&weights, m, taps, &shift)).to_vec()
        }
        false => vec![0.0; m],
    };
    let factors = Factors::grouped(affine.scale.clone(), taps, channels, per_group);
    if affine.scale.iter().any(|s| *s != 1.0) && !weights.scale(factors) {
        return Ok(());
    }
    let name = match bias {
        Some(bias) => {
            let Some(elems) = floats(graph, bias) else { return Ok(()) };
            for (sum, b) in sums.iter_mut().zip(&*elems) {
                *sum += f64::from(*b);
            }
            graph.node(bias.node).name.clone()
        }
        None => format!("{}:bias", graph.node(reader).name),
    };
    let weights_name = graph.node(w.node).name.clone();
    operands[Conv::X] = Some(affine.x);
    operands[Conv::W] = Some(graph.add_constant(weights_name, weights));
    let bias = vector(graph, name, &rounded(&sums))?;
    set(&mut operands, Conv::B, bias);
    rewrite(graph, reader, conv, &operands)
}

/// `Σ w · shift` of each row of weights, given the shifts of a row's channels. Weights that are in a file are read row by row, and
/// stay there.
fn shifted_sums<'a>(
    weights: &Tensor,
    rows: usize,
    taps: usize,
    shift: &dyn Fn(usize) -> &'a [f64],
) -> Vec<f64> {
    let mut row = vec![0; weights.ty().bytes() / rows.max(1)];
    let sum = |number: usize| {
        weights.read(number * row.len()..(number + 1) * row.len(), &mut row);
        let channels = row.as_chunks::<4>().0.chunks(taps.max(1)).zip(shift(number));
        let sums = channels
            .map(|(taps, shift)| taps.iter().map(|w| f64::from(f32::from_le_bytes(*w))).sum::<f64>() * shift);
        sums.fold(0.0, |sum, channel| sum + channel)
    };
    (0..rows).map(sum).collect()
}

/// Lets all readers scale and shift what they load, and apply an activation that comes in between.
fn into_prologues(
    graph: &mut Graph,
    notes: &mut Notes,
    id: NodeId,
    affine: &Affine,
) -> Result<bool, EditError> {
    let mut value = Value::from(id);
    let mut activation = affine.activation;
    let mut absorbed = vec![id];
    if activation.is_none()
        && let Some((reader, _)) = graph.single_consumer(value)
        && let Some((function, _)) = unary(graph, reader.into())
    {
        (activation, value) = (Some(function), reader.into());
        absorbed.push(reader);
    }
    if activation.is_some_and(|a| !is_cheap(&a)) {
        return Ok(false);
    }
    let change = |p: Prologue| match (p.affine, activation, p.activation) {
        (false, own, None) => Some(Prologue { affine: true, activation: own }),
        (false, None, theirs) => Some(Prologue { affine: true, activation: theirs }),
        _ => None,
    };
    let Some(readers) = readers_with_prologue(graph, value, change) else { return Ok(false) };
    let absorbed: Vec<(String, &'static str)> =
        absorbed.iter().map(|id| (graph.node(*id).name.clone(), graph.node(*id).op.name())).collect();
    let name = graph.node(id).name.clone();
    let scale = vector(graph, format!("{name}:scale"), &rounded(&affine.scale))?;
    let shift = vector(graph, format!("{name}:shift"), &rounded(&affine.shift))?;
    for (reader, op) in readers {
        let at = match &op {
            Op::Conv(_) => Conv::SCALE,
            Op::Pool(_) => Pool::SCALE,
            _ => GlobalPool::SCALE,
        };
        let mut operands = graph.operands(reader);
        operands.resize(at, None);
        operands.extend([Some(scale), Some(shift)]);
        operands[Conv::X] = Some(affine.x);
        rewrite(graph, reader, op, &operands)?;
        for (name, op) in &absorbed {
            notes.absorbed(&graph.node(reader).name, name, op, "prologue");
        }
    }
    Ok(true)
}
