//! Takes pictures of bytes for the steps that they are.
//!
//! ```text
//!   picture u8 ─▶ cast f32 ─▶ transpose ─▶ − 128 ─▶ · 1/128 ─▶ quantize
//!                  becomes
//!   picture u8 ─▶ dequantize, scale 1/128, zero 128 ─▶ transpose ─▶ quantize
//! ```
//!
//! A byte as a number is a step of 1 around 0. A whole number that is taken away is a zero point, and a factor a scale, with the same
//! results to the bit; what is no more so stays behind. The passes over steps do the rest: they take the picture for what is quantised where
//! it is the same, and layers of integers read it as it is.
//!
//! Only pictures that become steps, or that a layer by quantised weights reads, are taken so.

use nnc_ir::op::{BinaryFn, Cast, Conv, Dequantize, MatMul, Quantize};
use nnc_ir::{DType, Graph, NodeId, Op, Value};

use super::edit::{each_node, number, producer, replace, rewrite};
use super::steps::{Grain, is_moderate};
use super::{EditError, Notes};

/// How many nodes may lie between a picture and its steps.
const DEPTH: usize = 16;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let Some(picture) = picture(graph, id) else { return Ok(()) };
        let name = graph.node(id).name.clone();
        let [scale, zero] = picture.grain.add(graph, &name)?;
        rewrite(graph, id, Dequantize, &[Some(picture.bytes), Some(scale), Some(zero)])?;
        for node in picture.folded {
            if let Some(numbers) =
                number_of(graph, node).and_then(|(index, _)| graph.operand(node, 1 - index))
            {
                replace(graph, node, numbers)?;
                notes.count("folded into scales");
            }
        }
        notes.count("pictures");
        Ok(())
    })
}

/// A picture, and which steps its bytes are.
struct PictureSteps {
    bytes: Value,
    grain: Grain,
    /// The operators behind it whose work this does.
    folded: Vec<NodeId>,
}

/// The picture that a Cast makes numbers of.
fn picture(graph: &Graph, cast: NodeId) -> Option<PictureSteps> {
    let Op::Cast(Cast { to: DType::F32 }) = graph.node(cast).op else { return None };
    let bytes = graph.operand(cast, 0)?;
    if graph.ty(bytes).dtype != DType::U8 || graph.constant(bytes).is_some() {
        return None;
    }
    let mut picture =
        PictureSteps { bytes, grain: Grain { scale: 1.0, zero: 0, dtype: DType::U8 }, folded: Vec::new() };
    let (mut last, mut is_exact) = (cast, true);
    for _ in 0..DEPTH {
        let (reader, index) = graph.single_consumer(last.into())?;
        match &graph.node(reader).op {
            Op::Reshape(_) | Op::Transpose(_) => {}
            Op::Binary(_) if is_exact => match behind(graph, reader, picture.grain) {
                Some(grain) => {
                    picture.grain = grain;
                    picture.folded.push(reader);
                }
                None => is_exact = false,
            },
            Op::Binary(_) | Op::Unary(_) | Op::ChannelAffine(_) => is_exact = false,
            Op::Quantize(_) if index == Quantize::X => return Some(picture),
            Op::Conv(_) if index == Conv::X => {
                return is_quantised(graph, reader, Conv::W).then_some(picture);
            }
            Op::MatMul(_) if index == MatMul::A => {
                return is_quantised(graph, reader, MatMul::B).then_some(picture);
            }
            _ => return None,
        }
        last = reader;
    }
    None
}

/// Whether an operand is dequantised.
fn is_quantised(graph: &Graph, layer: NodeId, weights: usize) -> bool {
    graph.operand(layer, weights).is_some_and(|weights| matches!(producer(graph, weights), Op::Dequantize(_)))
}

/// The number that an operator of two operands has as one of them, and its place.
fn number_of(graph: &Graph, node: NodeId) -> Option<(usize, f32)> {
    [1, 0].into_iter().find_map(|index| Some((index, number(graph, graph.operand(node, index)?)?)))
}

/// Steps that stand for what an operator makes of the numbers of these, in just the same way.
fn behind(graph: &Graph, node: NodeId, grain: Grain) -> Option<Grain> {
    let Op::Binary(binary) = &graph.node(node).op else { return None };
    let (index, number) = number_of(graph, node)?;
    let operand = graph.operand(node, 1 - index)?;
    let same = graph.ty(operand) == graph.ty(node.into());
    if grain.scale != 1.0 || binary.activation.is_some() || !same {
        return None;
    }
    let around = |zero: f32| {
        let is_step = zero.fract() == 0.0 && (0.0..=255.0).contains(&zero);
        is_step.then_some(Grain { zero: zero as i32, ..grain })
    };
    let of = |scale: f32| is_moderate(scale).then_some(Grain { scale, ..grain });
    match (binary.function, index) {
        (BinaryFn::Sub, 1) => around(grain.zero as f32 + number),
        (BinaryFn::Add, _) => around(grain.zero as f32 - number),
        (BinaryFn::Mul, _) => of(number),
        // Of other divisors the inverse is rounded.
        (BinaryFn::Div, 1) => {
            of(1.0 / number).filter(|_| number.to_bits().trailing_zeros() >= f32::MANTISSA_DIGITS - 1)
        }
        _ => None,
    }
}
