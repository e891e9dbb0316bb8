//! Makes sums of integers of additions between Dequantize and Quantize.
//!
//! ```text
//!   a ─▶ dequantize ─┐
//!   b ─▶ dequantize ─┴▶ add [relu] ─▶ quantize      becomes      a, b ─▶ integer sum
//! ```
//!
//! A step of an operand is worth its scale over that of the result, so neither is divided by. The sum rounds once where the graph rounds
//! several times, which shows in what falls halfway between two steps: that is every second result if scales are twice one another, but no
//! powers of two. So a sum is made where next to no result differs. What has one operand is a [table](super::byte_tables).

use nnc_ir::op::{BinaryFn, IntegerSum, Requantize, Unary};
use nnc_ir::{DType, Graph, NodeId, Op, Value};

use super::edit::{bounds, each_node, input_of, one_after_another, producer, read_only_by, rewrite, unary};
use super::steps::Grain;
use super::{EditError, Notes};

/// The most operands of a sum.
const MOST: usize = 4;

/// How many elements of the operands are tried.
const SAMPLES: usize = 4096;

/// Of so many results, one may be another step.
const RARE: usize = 1000;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let Some((op, operands)) = sum(graph, id) else { return Ok(()) };
        let operands: Vec<Option<Value>> = operands.into_iter().map(Some).collect();
        notes.count("sums");
        rewrite(graph, id, op, &operands)
    })
}

/// Steps, and what they stand for.
#[derive(Clone, Copy)]
struct Addend {
    steps: Value,
    grain: Grain,
}

/// The sum that a Quantize is the end of.
fn sum(graph: &Graph, id: NodeId) -> Option<(IntegerSum, Vec<Value>)> {
    let Op::Quantize(_) = graph.node(id).op else { return None };
    let to = Grain::of(graph, id).filter(|grain| grain.dtype == DType::U8)?;
    let (value, reader, bounds) = bounded(graph, id)?;
    let mut addends = Vec::new();
    addends_of(graph, value, reader, &mut addends)?;
    let shape = &graph.ty(id.into()).shape;
    if addends.len() < 2 || addends.iter().any(|addend| graph.ty(addend.steps).shape != *shape) {
        return None;
    }
    let result = Requantize {
        low: to.step(bounds.0)? as i32,
        high: to.step(bounds.1)? as i32,
        ..Requantize::steps(DType::U8, to.zero)
    };
    let factors: Vec<f32> =
        addends.iter().map(|a| (f64::from(a.grain.scale) / f64::from(to.scale)) as f32).collect();
    let zeros = addends.iter().zip(&factors).map(|(a, &f)| f64::from(a.grain.zero) * f64::from(f));
    let shift = -zeros.sum::<f64>() as f32;
    if !factors.iter().chain([&shift]).all(|v| v.is_finite()) {
        return None;
    }
    let op = IntegerSum { factors, shift, result };
    let op = Some(op).filter(|op| is_near(op, &addends, to, bounds))?;
    Some((op, addends.into_iter().map(|addend| addend.steps).collect()))
}

/// What a Quantize reads, without the bounds in front of it; the node that reads it; and these bounds.
fn bounded(graph: &Graph, id: NodeId) -> Option<(Value, NodeId, (f32, f32))> {
    let (mut value, mut reader) = (input_of(graph, id.into())?, id);
    let mut all = Unary::Clip { min: f32::NEG_INFINITY, max: f32::INFINITY };
    if let Some((function, x)) = unary(graph, value).filter(|_| read_only_by(graph, value, id)) {
        all = one_after_another(function, all)?;
        (value, reader) = (x, value.node);
    }
    if let Op::Binary(binary) = producer(graph, value)
        && let Some(function) = binary.activation
    {
        all = one_after_another(function, all)?;
    }
    Some((value, reader, bounds(all)?))
}

/// The addends of a sum, from left to right.
fn addends_of(graph: &Graph, value: Value, reader: NodeId, addends: &mut Vec<Addend>) -> Option<()> {
    match producer(graph, value) {
        Op::Dequantize(_) => {
            let grain = Grain::of(graph, value.node).filter(|grain| grain.dtype == DType::U8)?;
            let steps = input_of(graph, value)?;
            if graph.constant(steps).is_some() || addends.len() == MOST {
                return None;
            }
            addends.push(Addend { steps, grain });
            Some(())
        }
        Op::Binary(binary) if binary.function == BinaryFn::Add && read_only_by(graph, value, reader) => {
            for index in 0..2 {
                let addend = graph.operand(value.node, index)?;
                // Only the outermost sum has bounds.
                if matches!(producer(graph, addend), Op::Binary(inner) if inner.activation.is_some()) {
                    return None;
                }
                addends_of(graph, addend, value.node, addends)?;
            }
            Some(())
        }
        _ => None,
    }
}

/// Whether results of a sum are those of the graph, but for a few.
fn is_near(op: &IntegerSum, addends: &[Addend], to: Grain, bounds: (f32, f32)) -> bool {
    // All sums and differences of steps.
    let ways = [(1, 0), (167, 41), (101, 83), (59, 29)];
    let differs = |sample: usize| {
        let steps = ways.map(|(fine, coarse)| (sample * fine + sample / 256 * coarse) as u8);
        let numbers = addends.iter().zip(steps).map(|(addend, step)| addend.grain.number(step.into()));
        let sum = numbers.reduce(|sum, number| sum + number).unwrap_or(0.0);
        to.step(sum.max(bounds.0).min(bounds.1)) != Some(op.step(steps))
    };
    (0..SAMPLES).filter(|&sample| differs(sample)).count() * RARE <= SAMPLES
}
