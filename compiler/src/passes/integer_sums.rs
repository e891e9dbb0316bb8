//! Makes sums of integers of additions between Dequantize and Quantize.
//!
//! ```text
//!   a ─▶ dequantize ─┐
//!   b ─▶ dequantize ─┴▶ add [relu] ─▶ quantize      becomes      a, b ─▶ integer sum
//! ```
//!
//! A step of an operand is worth its scale over that of the result, so neither is divided by. The sum rounds once where the graph rounds
//! several times. What has one operand is a [table](super::byte_tables).

use nnc_ir::op::{BinaryFn, IntegerSum, Requantize, Unary};
use nnc_ir::{DType, Graph, NodeId, Op, Value};

use super::edit::{bounds, each_node, input_of, one_after_another, producer, read_only_by, rewrite, unary};
use super::steps::Grain;
use super::{EditError, Notes};

/// The most operands of a sum.
const MOST: usize = 4;

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
    let steps = addends.into_iter().map(|addend| addend.steps).collect();
    Some((IntegerSum { factors, shift, result }, steps))
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
