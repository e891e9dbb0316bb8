//! Makes the bytes between layers unsigned, which is what kernels read and write.
//!
//! ```text
//!   x ─▶ quantize i8, zero −3 ─▶ max pool ─▶ dequantize, zero −3
//!                  becomes
//!   x ─▶ quantize u8, zero 125 ─▶ max pool ─▶ dequantize, zero 125
//! ```
//!
//! A signed step has the bits of the unsigned one that is 128 more, but for the highest: a *flip* turns one into the other, and is written
//! as an exclusive or and another look at the bits. A Quantize, or a layer, that makes signed steps makes unsigned ones with a flip behind;
//! what moves or chooses elements lets flips pass; a Dequantize, or a layer, takes them in. Flips remain at inputs, at outputs, and where
//! something else wants signed numbers. Weights stay as they are.

use nnc_ir::op::{Binary, BinaryFn, BitCast, Dequantize, IntegerConv, Quantize, Requantize};
use nnc_ir::{DType, Graph, NodeId, Op, Tensor, TensorError, Value};

use super::edit::{each_node, rewrite, set};
use super::steps::{choosing, elements_of, moving};
use super::{EditError, Notes};

/// How far an unsigned step is from the signed one of the same number.
const OFFSET: i32 = 128;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let what = match &graph.node(id).op {
            Op::Quantize(Quantize { to: DType::I8 }) => quantize(graph, id)?.then_some("quantised"),
            Op::Dequantize(_) => dequantize(graph, id)?.then_some("dequantised"),
            Op::IntegerConv(conv) => layer(graph, id, conv.clone())?.then_some("layers"),
            Op::Binary(_) => twice(graph, id)?.then_some("cancelled"),
            _ => moved(graph, id)?.then_some("moved"),
        };
        what.into_iter().for_each(|what| notes.count(what));
        Ok(())
    })
}

/// The unsigned steps that a flip makes signed.
fn flipped(graph: &Graph, value: Value) -> Option<Value> {
    let Op::BitCast(BitCast { to: DType::I8 }) = graph.node(value.node).op else { return None };
    of_highest_bits(graph, graph.operand(value.node, 0)?.node)
}

/// What a node turns the highest bit of each byte of.
fn of_highest_bits(graph: &Graph, id: NodeId) -> Option<Value> {
    let Op::Binary(Binary { function: BinaryFn::BitXor, activation: None }) = graph.node(id).op else {
        return None;
    };
    let bit = graph.constant(graph.operand(id, 1)?).filter(|t| t.shape().elems() == 1)?;
    let x = graph.operand(id, 0)?;
    let same = graph.ty(x) == graph.ty(id.into());
    (bit.dtype() == DType::U8 && bit.bytes() == [OFFSET as u8] && same).then_some(x)
}

/// Turns the highest bit of each byte.
fn turn_highest_bits(graph: &mut Graph, name: &str, x: Value) -> Result<Value, EditError> {
    let bit = graph.add_constant(format!("{name}:bit"), Tensor::new([], &[OFFSET as u8])?);
    let op = Binary { function: BinaryFn::BitXor, activation: None };
    Ok(graph.add(format!("{name}:turned"), op.into(), &[Some(x), Some(bit)])?.into())
}

/// Makes unsigned steps signed.
fn signed(graph: &mut Graph, name: &str, x: Value) -> Result<Value, EditError> {
    let turned = turn_highest_bits(graph, name, x)?;
    Ok(graph.add(name, BitCast { to: DType::I8 }.into(), &[Some(turned)])?.into())
}

/// Makes signed steps unsigned.
fn unsigned(graph: &mut Graph, name: &str, x: Value) -> Result<Value, EditError> {
    if let Some(x) = flipped(graph, x) {
        return Ok(x);
    }
    let cast = graph.add(format!("{name}:bits"), BitCast { to: DType::U8 }.into(), &[Some(x)])?;
    turn_highest_bits(graph, name, cast.into())
}

/// A zero point that is left out, or a known one, for unsigned steps.
fn zero(graph: &Graph, value: Option<Value>) -> Option<Tensor> {
    match value {
        None => Tensor::new([], &[OFFSET as u8]).ok(),
        Some(zero) => unsigned_tensor(graph.constant(zero)?).ok(),
    }
}

fn unsigned_tensor(tensor: &Tensor) -> Result<Tensor, TensorError> {
    let elems: Vec<u8> = tensor.elems::<i8>()?.iter().map(|&step| step as u8 ^ OFFSET as u8).collect();
    Tensor::new(tensor.shape().to_vec(), &elems)
}

/// Quantises to unsigned steps.
fn quantize(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let mut operands = graph.operands(id);
    let Some(zero) = zero(graph, operands.get(Quantize::ZERO).copied().flatten()) else { return Ok(false) };
    if graph.consumers(id.into()).is_empty() {
        return Ok(false);
    }
    let name = graph.node(id).name.clone();
    let zero = graph.add_constant(format!("{name}:zero"), zero);
    set(&mut operands, Quantize::ZERO, zero);
    let steps = graph.add(format!("{name}:steps"), Quantize { to: DType::U8 }.into(), &operands)?;
    let signed = signed(graph, &name, steps.into())?;
    super::edit::replace(graph, id, signed)?;
    Ok(true)
}

/// Dequantises the steps before a flip.
fn dequantize(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let mut operands = graph.operands(id);
    let Some(steps) = operands[Dequantize::X].and_then(|x| flipped(graph, x)) else { return Ok(false) };
    let Some(zero) = zero(graph, operands.get(Dequantize::ZERO).copied().flatten()) else { return Ok(false) };
    let zero = graph.add_constant(format!("{}:zero", graph.node(id).name), zero);
    operands[Dequantize::X] = Some(steps);
    set(&mut operands, Dequantize::ZERO, zero);
    rewrite(graph, id, Dequantize, &operands)?;
    Ok(true)
}

/// Lets a layer read and write unsigned steps.
fn layer(graph: &mut Graph, id: NodeId, mut conv: IntegerConv) -> Result<bool, EditError> {
    let mut operands = graph.operands(id);
    let Some(x) = operands[IntegerConv::X] else { return Ok(false) };
    let (reads, writes) = (graph.ty(x).dtype == DType::I8, conv.result.to == DType::I8);
    if !reads && !writes {
        return Ok(false);
    }
    let name = graph.node(id).name.clone();
    if reads {
        operands[IntegerConv::X] = Some(unsigned(graph, &format!("{name}:x"), x)?);
        conv.x_zero += OFFSET;
    }
    if !writes {
        rewrite(graph, id, conv, &operands)?;
        return Ok(true);
    }
    let Requantize { zero, low, high, .. } = conv.result;
    conv.result = Requantize { to: DType::U8, zero: zero + OFFSET, low: low + OFFSET, high: high + OFFSET };
    let steps = graph.add(format!("{name}:steps"), conv.into(), &operands)?;
    let signed = signed(graph, &name, steps.into())?;
    super::edit::replace(graph, id, signed)?;
    Ok(true)
}

/// Drops a flip behind another one.
fn twice(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let bits = of_highest_bits(graph, id).map(|bits| bits.node);
    let cast = bits.filter(|&node| matches!(graph.node(node).op, Op::BitCast(BitCast { to: DType::U8 })));
    let steps = cast.and_then(|cast| graph.operand(cast, 0)).and_then(|x| flipped(graph, x));
    let Some(steps) = steps else { return moved(graph, id) };
    super::edit::replace(graph, id, steps)?;
    Ok(true)
}

/// Moves, or chooses from, the steps before flips.
fn moved(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let mut operands = graph.operands(id);
    let elements = elements_of(&graph.node(id).op, operands.len());
    let known = |v: &Value| graph.constant(*v).filter(|t| t.dtype() == DType::I8).cloned();
    let all = operands.get(elements.clone()).unwrap_or_default();
    let fits = |v: &Option<Value>| v.is_some_and(|v| flipped(graph, v).is_some() || known(&v).is_some());
    if !all.iter().all(fits) || !all.iter().flatten().any(|&v| flipped(graph, v).is_some()) {
        return Ok(false);
    }
    let offset = |step: f64| Some(step + f64::from(OFFSET));
    let op = moving(&graph.node(id).op, offset).or_else(|| choosing(graph, id));
    let Some(op) = op else { return Ok(false) };
    let name = graph.node(id).name.clone();
    for operand in operands[elements].iter_mut().flatten() {
        *operand = match graph.constant(*operand) {
            Some(tensor) => {
                let (name, tensor) = (format!("{name}:bytes"), unsigned_tensor(tensor)?);
                graph.add_constant(name, tensor)
            }
            None => unsigned(graph, &name, *operand)?,
        };
    }
    let steps = graph.add(format!("{name}:steps"), op, &operands)?;
    for output in 0..graph.node(id).outputs.len() as u32 {
        let old = Value { node: id, output };
        if graph.is_output(old) || !graph.consumers(old).is_empty() {
            let name = if output == 0 { name.clone() } else { format!("{name}:{output}") };
            let signed = signed(graph, &name, Value { node: steps, output })?;
            graph.replace_value(old, signed)?;
        }
    }
    graph.prune(id);
    Ok(true)
}
