//! Lets what only moves elements move bytes: takes a Dequantize behind it, a Quantize in front of it, and cancels what then meets.
//!
//! ```text
//!   a ─▶ dequantize ─┐                                            a ─┐
//!                    concat ─▶ max pool ─▶ quantize   becomes         concat ─▶ max pool
//!   b ─▶ dequantize ─┘                                            b ─┘
//! ```
//!
//! All steps that meet must be of one scale and zero point. Where those of a Quantize are others, each part is requantised: twice
//! rounded, as the graph says. A scale for each channel goes through a Reshape that keeps the axis, and through a Transpose.
//!
//! A Quantize goes in front of what picks the largest, too, where layers of steps make the numbers, of which none is NaN.
//!
//! Each of both makes a mover of bytes of a mover of floats, and none makes one of floats: so there is an end to it.

use std::collections::BTreeMap;

use nnc_ir::op::{Dequantize, Quantize, Transpose};
use nnc_ir::{Graph, NodeId, Op, Tensor, Value};

use super::edit::{bounds, each_node, floats, replace};
use super::steps::{Grain, choosing, elements_of, is_moderate, moving, step_tensor};
use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        if let Some(steps) = back_and_forth(graph, id) {
            replace(graph, id, steps)?;
            notes.count("pairs cancelled");
        } else if let Some(moved) = behind(graph, id) {
            dequantize_behind(graph, id, moved)?;
            notes.count("dequantised behind");
        } else if let Some(moved) = in_front(graph, id) {
            quantize_in_front(graph, moved)?;
            notes.count("quantised in front");
        }
        Ok(())
    })
}

/// The steps that a Quantize makes again of what a Dequantize made of them.
fn back_and_forth(graph: &Graph, id: NodeId) -> Option<Value> {
    let Op::Quantize(Quantize { to }) = graph.node(id).op else { return None };
    let numbers = graph.operand(id, Quantize::X)?;
    let Op::Dequantize(_) = graph.node(numbers.node).op else { return None };
    let steps = graph.operand(numbers.node, Dequantize::X)?;
    let one = || Some(Grain::of(graph, id)? == Grain::of(graph, numbers.node)?);
    let each = || Some(Parameters::of(graph, id)? == Parameters::of(graph, numbers.node)?);
    let equal = one().unwrap_or(false) || each().unwrap_or(false);
    (equal && graph.ty(steps).dtype == to).then_some(steps)
}

/// Scales and zero points, as constants.
#[derive(Clone, Debug, PartialEq)]
struct Parameters {
    scale: Tensor,
    zero: Option<Tensor>,
}

impl Parameters {
    /// Those of a Dequantize or Quantize.
    fn of(graph: &Graph, node: NodeId) -> Option<Parameters> {
        let scale = graph.operand(node, Quantize::SCALE)?;
        let zero = match graph.operand(node, Quantize::ZERO) {
            None => None,
            Some(zero) => Some(graph.constant(zero)?.clone()),
        };
        let moderate = floats(graph, scale)?.iter().all(|&scale| is_moderate(scale));
        Some(Parameters { scale: graph.constant(scale)?.clone(), zero }).filter(|_| moderate)
    }

    /// Those of what an operator makes of steps of this shape, where they differ along an axis.
    fn moved(&self, op: &Op, from: &[usize], to: &[usize]) -> Option<Parameters> {
        let zero = match &self.zero {
            Some(zero) => Some(moved(zero, op, from, to)?),
            None => None,
        };
        Some(Parameters { scale: moved(&self.scale, op, from, to)?, zero })
    }

    fn add(self, graph: &mut Graph, name: &str) -> [Option<Value>; 2] {
        let scale = graph.add_constant(format!("{name}:scale"), self.scale);
        let zero = self.zero.map(|zero| graph.add_constant(format!("{name}:zero"), zero));
        [Some(scale), zero]
    }
}

/// A parameter that is laid over elements of one shape, for what an operator moves them to.
fn moved(parameter: &Tensor, op: &Op, from: &[usize], to: &[usize]) -> Option<Tensor> {
    let missing = from.len().checked_sub(parameter.shape().rank())?;
    let shape: Vec<usize> = (0..missing).map(|_| 1).chain(parameter.shape().iter().copied()).collect();
    let parameter = parameter.reshaped(shape.clone()).ok()?;
    match op {
        Op::Transpose(Transpose { perm }) => {
            let op = Op::from(Transpose { perm: perm.clone() });
            op.eval(&[Some(&parameter)]).ok()?.into_iter().next()
        }
        Op::Reshape(_) => {
            let mut axes = (0..shape.len()).filter(|&axis| shape[axis] != 1);
            let Some(axis) = axes.next() else { return parameter.reshaped(vec![1; to.len()]).ok() };
            let before = |extents: &[usize], axis: usize| extents[..axis].iter().product::<usize>();
            let kept = (0..to.len())
                .find(|&other| to[other] == from[axis] && before(to, other) == before(from, axis))?;
            let mut shape = vec![1; to.len()];
            shape[kept] = from[axis];
            let alone = axes.next().is_none() && from.iter().all(|&extent| extent > 0);
            parameter.reshaped(shape).ok().filter(|_| alone)
        }
        _ => None,
    }
}

/// A node that moves numbers, as one that moves steps.
struct Moved {
    op: Op,
    operands: Vec<Option<Value>>,
    parameters: Parameters,
}

/// The node over the steps that are dequantised in front of it.
fn behind(graph: &Graph, id: NodeId) -> Option<Moved> {
    let op = &graph.node(id).op;
    let mut operands = graph.operands(id);
    let elements = elements_of(op, operands.len());
    let first = operands.get(elements.start).copied().flatten()?;
    let each = || {
        let parameters = Parameters::of(graph, dequantize(graph, first)?)?;
        let (from, to) = (&graph.ty(first).shape, &graph.ty(id.into()).shape);
        Some((op.clone(), parameters.moved(op, from, to)?))
    };
    let one = || {
        let grain = Grain::of(graph, dequantize(graph, first)?)?;
        let exact = |value: f64| grain.exact_step(value as f32);
        let op = moving(op, exact).or_else(|| choosing(graph, id))?;
        let zero = step_tensor(grain.dtype, grain.zero).ok()?;
        Some((op, Parameters { scale: Tensor::new([], &[grain.scale]).ok()?, zero: Some(zero) }))
    };
    let grain = |value: Value| Grain::of(graph, dequantize(graph, value)?);
    let (op, parameters) = one().or_else(each)?;
    for operand in &mut operands[elements] {
        let value = (*operand)?;
        if value != first && (grain(value).is_none() || grain(value) != grain(first)) {
            return None;
        }
        *operand = graph.operand(dequantize(graph, value)?, Dequantize::X);
    }
    Some(Moved { op, operands, parameters })
}

/// The node that makes a value, if it dequantises steps.
fn dequantize(graph: &Graph, value: Value) -> Option<NodeId> {
    let Op::Dequantize(_) = graph.node(value.node).op else { return None };
    let steps = graph.operand(value.node, Dequantize::X)?;
    Quantize::steps(graph.ty(steps).dtype).then_some(value.node)
}

fn dequantize_behind(graph: &mut Graph, id: NodeId, moved: Moved) -> Result<(), EditError> {
    let name = graph.node(id).name.clone();
    let steps = graph.add(format!("{name}:steps"), moved.op, &moved.operands)?;
    let outputs = graph.node(id).outputs.len() as u32;
    let [scale, zero] = moved.parameters.add(graph, &name);
    let mut numbers = Vec::new();
    for output in 0..outputs {
        let name = if output == 0 { name.clone() } else { format!("{name}:{output}") };
        let operands = [Some(Value { node: steps, output }), scale, zero];
        let real = graph.add(name, Dequantize.into(), &operands)?;
        graph.replace_value(Value { node: id, output }, real.into())?;
        numbers.push(real);
    }
    // Those that nobody reads, when all are there: the last one would take the steps along.
    numbers.into_iter().for_each(|real| graph.prune(real));
    graph.prune(id);
    Ok(())
}

/// A node that moves numbers to where all of them are quantised.
struct Quantised {
    mover: NodeId,
    op: Op,
    grain: Grain,
    /// The Quantize behind each of its results.
    behind: Vec<NodeId>,
}

/// The node in front of a Quantize over steps.
fn in_front(graph: &Graph, id: NodeId) -> Option<Quantised> {
    let Op::Quantize(_) = graph.node(id).op else { return None };
    let grain = Grain::of(graph, id)?;
    let mover = graph.operand(id, Quantize::X)?.node;
    let only_moves = moving(&graph.node(mover).op, |value| grain.step(value as f32));
    let moves = only_moves.is_some();
    let op = only_moves.or_else(|| {
        // NaN would win, and then be a step like others.
        let numbers = graph.operands(mover).iter().all(|v| v.is_some_and(|v| is_a_number(graph, v)));
        choosing(graph, mover).filter(|_| numbers)
    })?;
    let quantized = |output: usize| {
        let (reader, input) = graph.single_consumer(Value { node: mover, output: output as u32 })?;
        let is_quantize = matches!(graph.node(reader).op, Op::Quantize(_)) && input == Quantize::X;
        (is_quantize && Grain::of(graph, reader) == Some(grain)).then_some(reader)
    };
    let outputs = graph.node(mover).outputs.len();
    let behind: Vec<NodeId> = (0..outputs).map(quantized).collect::<Option<_>>()?;
    // What a mover drops would be quantised in vain; layers, from which others choose, make steps as they make numbers.
    let operands = graph.operands(mover);
    let elements = elements_of(&op, operands.len());
    let moved = operands[elements].iter().flatten().map(|&v| graph.ty(v).shape.elems());
    let results: usize = graph.node(mover).outputs.iter().map(|ty| ty.shape.elems()).sum();
    let worth = moved.fold(0usize, usize::saturating_add) <= results.saturating_mul(2);
    (worth || !moves).then_some(Quantised { mover, op, grain, behind })
}

/// Scales and constants up to which sums of products are finite, whatever the steps are.
const MODERATE: f32 = 1e8;

/// Whether no element is NaN: what layers of steps make, and activations behind them.
fn is_a_number(graph: &Graph, value: Value) -> bool {
    let small = |v: Value| floats(graph, v).is_some_and(|f| f.iter().all(|x| x.abs() <= MODERATE));
    let known = |v: &Option<Value>| {
        v.is_none_or(|v| match graph.node(v.node).op {
            Op::Dequantize(_) => graph.operand(v.node, Dequantize::SCALE).is_some_and(small),
            _ => small(v),
        })
    };
    match &graph.node(value.node).op {
        Op::Dequantize(_) => known(&Some(value)),
        Op::Unary(function) => {
            bounds(*function).is_some_and(|(low, high)| !low.is_nan() && !high.is_nan())
                && graph.operand(value.node, 0).is_some_and(|x| is_a_number(graph, x))
        }
        Op::Conv(conv) => {
            let plain = conv.prologue.is_none() && conv.epilogue.is_none();
            plain && graph.operands(value.node).iter().all(known)
        }
        Op::MatMul(product) => product.epilogue.is_none() && graph.operands(value.node).iter().all(known),
        _ => false,
    }
}

fn quantize_in_front(graph: &mut Graph, found: Quantised) -> Result<(), EditError> {
    let Quantised { mover, op, grain, behind } = found;
    let name = graph.node(mover).name.clone();
    let [scale, zero] = grain.add(graph, &name)?;
    let mut operands = graph.operands(mover);
    let mut quantized: BTreeMap<Value, Value> = BTreeMap::new();
    let elements = elements_of(&op, operands.len());
    for operand in operands[elements].iter_mut().flatten() {
        let steps = match quantized.get(operand) {
            Some(&steps) => steps,
            None => {
                let name = format!("{}:quantized", graph.node(operand.node).name);
                let op = Quantize { to: grain.dtype };
                graph.add(name, op.into(), &[Some(*operand), Some(scale), Some(zero)])?.into()
            }
        };
        quantized.insert(*operand, steps);
        *operand = steps;
    }
    let name = match behind[..] {
        [one] => graph.node(one).name.clone(),
        _ => format!("{name}:steps"),
    };
    let moved = graph.add(name, op, &operands)?;
    for (output, quantize) in behind.into_iter().enumerate() {
        replace(graph, quantize, Value { node: moved, output: output as u32 })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use nnc_ir::op::Reshape;

    use super::*;

    fn scales(shape: &[usize]) -> Tensor {
        let elems: Vec<f32> = (1..=shape.iter().product()).map(|n| n as f32).collect();
        Tensor::new(shape, &elems).unwrap()
    }

    #[test]
    fn a_scale_for_each_channel_follows_its_axis() {
        let turned = Op::from(Transpose { perm: vec![0, 2, 1] });
        let after = moved(&scales(&[3, 1]), &turned, &[2, 3, 4], &[2, 4, 3]).unwrap();
        assert_eq!(after, scales(&[1, 1, 3]));
        let reshaped = |to: &[usize]| {
            let op = Op::from(Reshape { shape: to.to_vec() });
            moved(&scales(&[3, 1]), &op, &[2, 3, 4], to)
        };
        assert_eq!(reshaped(&[2, 3, 2, 2]).unwrap(), scales(&[1, 3, 1, 1]));
        assert_eq!(reshaped(&[1, 2, 3, 4]).unwrap(), scales(&[1, 1, 3, 1]));
        assert_eq!(reshaped(&[6, 4]), None);
        assert_eq!(reshaped(&[2, 4, 3]), None);
    }
}
