//! Turns composite spellings of an operator into the operator.
//!
//! ```text
//!   x · min(max(x + 3, 0), 6) / 6          becomes   hard swish
//!   x · sigmoid(x)                         becomes   silu
//!   x · tanh(softplus(x))                  becomes   mish
//!   x / 2 · (1 + erf(x / √2))              becomes   gelu
//!   x ^ constant                           becomes   power
//!   min(max(x, 0), 6), relu(clip(x))       becomes   clip
//!   mean over H, W                         becomes   global average pool
//!   sum over W                             becomes   sum over W, which stays as an axis of one element, and a reshape
//!   x · [1,C,1,1] + [1,C,1,1]              becomes   channel affine
//!   round(x / 2^n) + z                     becomes   round(x · 2^-n) + z
//! ```
//!
//! What is rounded to whole numbers stays as ONNX has it: there, a quotient that is off by its last place may come out a whole step off.
//! Division by a power of two is multiplication by its reciprocal, to the bit. A row of a matrix has a channel for each element, so one
//! number for all of them stays one number there.
//!
//! Exporters write products in any order and divide where others multiply. So a product is read as a coefficient and a
//! list of factors ([`product`]), and the spellings are told apart by those.

use std::iter::successors;

use nnc_ir::op::{
    Binary, BinaryFn, ChannelAffine, GlobalPool, PoolKind, Prologue, Reduce, ReduceKind, Reshape, Unary,
};
use nnc_ir::{DType, Graph, NodeId, Op, Tensor, Value};

use super::edit::{
    bounds, each_node, floats, from_bounds, is_float, number, one_after_another, per_channel, plus_constant,
    producer, rewrite, scalar, unary, vector,
};
use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    // All composites first: what remains of additions and products of constants is an affine then.
    each_node(graph, notes, |graph, notes, id| {
        if let Some((function, x)) = bounds_of_bounds(graph, id) {
            rewrite(graph, id, function, &[Some(x)])?;
            notes.count("clips");
        }
        if !is_float(graph, id.into()) {
            return Ok(());
        }
        if let Some((function, x, what)) = composite(graph, id) {
            rewrite(graph, id, function, &[Some(x)])?;
            notes.count(what);
        } else if reduce_to_pool(graph, id)? {
            notes.count("global pools");
        } else if keep_axes(graph, id)? {
            notes.count("reductions of images");
        }
        Ok(())
    })?;
    each_node(graph, notes, |graph, notes, id| {
        if to_affine(graph, id)? {
            notes.count("channel affines");
        } else if multiply_by_reciprocals(graph, id)? {
            notes.count("reciprocals");
        }
        Ok(())
    })
}

/// The one function that two nodes are of which each keeps its operand between bounds, of any element type.
fn bounds_of_bounds(graph: &Graph, id: NodeId) -> Option<(Unary, Value)> {
    let (second, between) = unary(graph, id.into())?;
    let (first, x) = unary(graph, between)?;
    Some((one_after_another(first, second)?, x))
}

/// The function of one value that a node computes together with those before it.
fn composite(graph: &Graph, id: NodeId) -> Option<(Unary, Value, &'static str)> {
    let shape_of = |v: Value| &graph.ty(v).shape;
    let found = match &graph.node(id).op {
        Op::Binary(binary) if binary.activation.is_none() => match binary.function {
            BinaryFn::Mul | BinaryFn::Div => composite_product(graph, id.into()),
            BinaryFn::Min | BinaryFn::Max => limit(graph, id, binary.function),
            BinaryFn::Pow => {
                let exponent = number(graph, graph.operand(id, 1)?)?;
                Some((Unary::Power { exponent }, graph.operand(id, 0)?, "powers"))
            }
            BinaryFn::PRelu => {
                let alpha = scalar(graph, graph.operand(id, 1)?)?;
                Some((Unary::LeakyRelu { alpha }, graph.operand(id, 0)?, "leaky relus"))
            }
            _ => None,
        },
        _ => None,
    }?;
    (shape_of(found.1) == shape_of(id.into())).then_some(found)
}

/// A value as a coefficient times other values. Divisions by a constant count as products.
struct Product {
    coefficient: f64,
    factors: Vec<Value>,
}

fn product(graph: &Graph, value: Value) -> Product {
    let mut product = Product { coefficient: 1.0, factors: Vec::new() };
    gather_factors(graph, value, &mut product, 4);
    product
}

fn gather_factors(graph: &Graph, value: Value, into: &mut Product, depth: usize) {
    if let Some(constant) = scalar(graph, value) {
        into.coefficient *= f64::from(constant);
        return;
    }
    if let (Some(depth), Op::Binary(binary)) = (depth.checked_sub(1), producer(graph, value))
        && let (Some(a), Some(b)) = (graph.operand(value.node, 0), graph.operand(value.node, 1))
        && binary.activation.is_none()
    {
        match binary.function {
            BinaryFn::Mul => {
                gather_factors(graph, a, into, depth);
                gather_factors(graph, b, into, depth);
                return;
            }
            BinaryFn::Div => {
                if let Some(divisor) = scalar(graph, b) {
                    into.coefficient /= f64::from(divisor);
                    gather_factors(graph, a, into, depth);
                    return;
                }
            }
            _ => {}
        }
    }
    into.factors.push(value);
}

/// Equal up to the rounding of constants that exporters print with six digits.
fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 2e-5 * b.abs()
}

fn composite_product(graph: &Graph, value: Value) -> Option<(Unary, Value, &'static str)> {
    let Product { coefficient, factors } = product(graph, value);
    match factors[..] {
        [clipped] => {
            let (alpha, beta, x) = hard_sigmoid(graph, coefficient, clipped)?;
            Some((Unary::HardSigmoid { alpha, beta }, x, "hard sigmoids"))
        }
        [a, b] => [(a, b), (b, a)].into_iter().find_map(|(x, gate)| gated(graph, coefficient, x, gate)),
        _ => None,
    }
}

/// `coefficient · clip(x + b, 0, 1 / coefficient)` as `clip(alpha · x + beta, 0, 1)`.
fn hard_sigmoid(graph: &Graph, coefficient: f64, clipped: Value) -> Option<(f32, f32, Value)> {
    let (function, sum) = unary(graph, clipped)?;
    let (min, max) = bounds(function)?;
    if min != 0.0 || !close(coefficient * f64::from(max), 1.0) {
        return None;
    }
    let (x, b) = plus_constant(graph, sum)?;
    Some((coefficient as f32, (coefficient * f64::from(b)) as f32, x))
}

/// `coefficient · x · gate(x)`
fn gated(graph: &Graph, coefficient: f64, x: Value, gate: Value) -> Option<(Unary, Value, &'static str)> {
    let is_one = close(coefficient, 1.0);
    if let Some((function, of)) = unary(graph, gate) {
        let found = match function {
            Unary::Sigmoid if is_one && of == x => Some((Unary::Silu, "silus")),
            Unary::HardSigmoid { alpha, beta }
                if is_one && of == x && close(alpha.into(), 1.0 / 6.0) && beta == 0.5 =>
            {
                Some((Unary::HardSwish, "hard swishes"))
            }
            Unary::Tanh if is_one && unary(graph, of) == Some((Unary::Softplus, x)) => {
                Some((Unary::Mish, "mishes"))
            }
            _ => None,
        };
        if let Some((function, what)) = found {
            return Some((function, x, what));
        }
    }
    if let Some((alpha, beta, of)) = hard_sigmoid(graph, coefficient, gate)
        && of == x
        && close(alpha.into(), 1.0 / 6.0)
        && close(beta.into(), 0.5)
    {
        return Some((Unary::HardSwish, x, "hard swishes"));
    }
    if close(coefficient, 0.5)
        && let Some((curve, 1.0)) = plus_constant(graph, gate)
    {
        let (function, argument) = unary(graph, curve)?;
        let inner = product(graph, argument);
        let tanh = match function {
            Unary::Erf
                if inner.factors == [x] && close(inner.coefficient, std::f64::consts::FRAC_1_SQRT_2) =>
            {
                false
            }
            Unary::Tanh if is_gelu_polynomial(graph, &inner, x) => true,
            _ => return None,
        };
        return Some((Unary::Gelu { tanh }, x, "gelus"));
    }
    None
}

/// `√(2/π) · (x + 0.044715 · x³)`, or with `x` taken out: `√(2/π) · x · (1 + 0.044715 · x²)`
fn is_gelu_polynomial(graph: &Graph, outer: &Product, x: Value) -> bool {
    let is_power = |v: Value, n: u32| {
        let Product { coefficient, factors } = product(graph, v);
        let powers: Option<f32> = factors.iter().map(|&v| power_of(graph, v, x)).sum();
        close(coefficient, 0.044715) && powers == Some(n as f32)
    };
    let sums = match outer.factors[..] {
        [sum] => {
            let Op::Binary(binary) = producer(graph, sum) else { return false };
            let (Some(a), Some(b)) = (graph.operand(sum.node, 0), graph.operand(sum.node, 1)) else {
                return false;
            };
            binary.function == BinaryFn::Add
                && binary.activation.is_none()
                && ((a == x && is_power(b, 3)) || (b == x && is_power(a, 3)))
        }
        [a, b] => [(a, b), (b, a)].into_iter().any(|(factor, sum)| {
            factor == x && plus_constant(graph, sum).is_some_and(|(v, one)| one == 1.0 && is_power(v, 2))
        }),
        _ => false,
    };
    sums && close(outer.coefficient, std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2)
}

/// The exponent with which a value is a power of `x`.
fn power_of(graph: &Graph, value: Value, x: Value) -> Option<f32> {
    if value == x {
        return Some(1.0);
    }
    match unary(graph, value)? {
        (Unary::Power { exponent }, of) if of == x => Some(exponent),
        _ => None,
    }
}

/// `min(x, c)` and `max(x, c)` as a clip.
fn limit(graph: &Graph, id: NodeId, function: BinaryFn) -> Option<(Unary, Value, &'static str)> {
    let (a, b) = (graph.operand(id, 0)?, graph.operand(id, 1)?);
    let (x, limit) = match (scalar(graph, a), scalar(graph, b)) {
        (_, Some(limit)) => (a, limit),
        (Some(limit), _) => (b, limit),
        _ => return None,
    };
    if limit.is_nan() {
        return None;
    }
    let clip = match function {
        BinaryFn::Max => from_bounds(limit, f32::INFINITY),
        BinaryFn::Min => from_bounds(f32::NEG_INFINITY, limit),
        _ => return None,
    };
    Some((clip, x, "clips"))
}

/// Makes a global pool of a mean or maximum over all spatial axes.
fn reduce_to_pool(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let Op::Reduce(Reduce { kind, axes, .. }) = &graph.node(id).op else { return Ok(false) };
    let kind = match kind {
        ReduceKind::Mean => PoolKind::Average { count_include_pad: false },
        ReduceKind::Max => PoolKind::Max,
        _ => return Ok(false),
    };
    let Some(x) = graph.operand(id, 0) else { return Ok(false) };
    let rank = graph.ty(x).shape.rank();
    if rank < 3 || !axes.iter().copied().eq(2..rank) {
        return Ok(false);
    }
    let pool = GlobalPool { kind, prologue: Prologue::default(), activation: None };
    let shape = graph.ty(id.into()).shape.to_vec();
    if shape.len() == rank {
        rewrite(graph, id, pool, &[Some(x)])?;
    } else {
        let name = graph.node(id).name.clone();
        let pooled = graph.add(name.clone(), pool.into(), &[Some(x)])?;
        graph.rename(id, format!("{name}:flatten"));
        rewrite(graph, id, Reshape { shape }, &[Some(pooled.into())])?;
    }
    Ok(true)
}

/// Lets a reduction over some spatial axes of an image keep them, so that its result is an image, too, and drops them behind it.
fn keep_axes(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let Op::Reduce(reduce) = &graph.node(id).op else { return Ok(false) };
    let Some(x) = graph.operand(id, 0) else { return Ok(false) };
    let rank = graph.ty(x).shape.rank();
    let spatial = (3..=4).contains(&rank) && !reduce.axes.is_empty() && reduce.axes.iter().all(|&a| a >= 2);
    if reduce.keep_dims || !spatial {
        return Ok(false);
    }
    let (reduce, name) = (Reduce { keep_dims: true, ..reduce.clone() }, graph.node(id).name.clone());
    let shape = graph.ty(id.into()).shape.to_vec();
    let kept = graph.add(name.clone(), reduce.into(), &[Some(x)])?;
    graph.rename(id, format!("{name}:flatten"));
    rewrite(graph, id, Reshape { shape }, &[Some(kept.into())])?;
    Ok(true)
}

/// Makes a channel affine of a sum, difference, product or quotient with one constant a channel.
fn to_affine(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    if stays_arithmetic(graph, id) {
        return Ok(false);
    }
    let Some((x, scale, shift)) = as_affine(graph, id) else { return Ok(false) };
    let Op::Binary(binary) = &graph.node(id).op else { return Ok(false) };
    let op = ChannelAffine { activation: binary.activation };
    let name = graph.node(id).name.clone();
    let scale = vector(graph, format!("{name}:scale"), &scale)?;
    let shift = vector(graph, format!("{name}:shift"), &shift)?;
    rewrite(graph, id, op, &[Some(x), Some(scale), Some(shift)])?;
    Ok(true)
}

/// How far away the steps are that a number is made of, and becomes.
const DEPTH: usize = 16;

/// Whether a channel affine would round another number, or read a constant for each element of a row where there is one for all.
fn stays_arithmetic(graph: &Graph, id: NodeId) -> bool {
    let operands = [0, 1].map(|i| graph.operand(id, i));
    let rounds = |v: Value| matches!(producer(graph, v), Op::Unary(Unary::Round));
    let is_rounded = graph.consumers(id.into()).iter().any(|&(reader, _)| rounds(reader.into()));
    let is_row = graph.ty(id.into()).shape.rank() <= 2;
    is_rounded
        || operands.into_iter().flatten().any(rounds)
        || (is_row && operands.into_iter().flatten().any(|v| scalar(graph, v).is_some()))
        || is_between_steps(graph, id)
}

/// Whether all that happens to steps until they are steps again is such arithmetic: all pixels of a picture around 127.5 lie halfway
/// between two steps, and which of them is taken depends on each product.
fn is_between_steps(graph: &Graph, id: NodeId) -> bool {
    let passes = |node: NodeId| {
        matches!(graph.node(node).op, Op::Binary(_) | Op::Unary(_) | Op::Transpose(_) | Op::Reshape(_))
    };
    let computed = |node: NodeId| {
        let mut operands =
            graph.operands(node).into_iter().flatten().filter(|&v| graph.constant(v).is_none());
        operands.next().filter(|_| operands.next().is_none()).map(|value| value.node)
    };
    let behind = |node: NodeId| Some(graph.single_consumer(node.into())?.0);
    let last = |next: &dyn Fn(NodeId) -> Option<NodeId>| {
        let mut chain = successors(Some(id), |&node| next(node)).take(DEPTH);
        chain.find(|&node| !passes(node))
    };
    last(&computed).is_some_and(|first| matches!(graph.node(first).op, Op::Dequantize(_)))
        && last(&behind).is_some_and(|end| matches!(graph.node(end).op, Op::Quantize(_)))
}

/// Division by powers of two, which is about to be rounded, as multiplication.
fn multiply_by_reciprocals(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let Op::Binary(Binary { function: BinaryFn::Div, activation }) = graph.node(id).op else {
        return Ok(false);
    };
    let (Some(x), Some(divisor)) = (graph.operand(id, 0), graph.operand(id, 1)) else { return Ok(false) };
    let is_single = |v: Value| graph.ty(v).dtype == DType::F32;
    let Some(divisors) = floats(graph, divisor).filter(|_| is_single(x) && is_single(divisor)) else {
        return Ok(false);
    };
    let exact = |v: f32| v.is_normal() && v.to_bits().trailing_zeros() >= 23 && v.recip().is_normal();
    if !stays_arithmetic(graph, id) || !divisors.iter().all(|&v| exact(v)) {
        return Ok(false);
    }
    let reciprocals: Vec<f32> = divisors.iter().map(|v| v.recip()).collect();
    let tensor = Tensor::new(graph.ty(divisor).shape.to_vec(), &reciprocals)?;
    let name = format!("{}:factor", graph.node(id).name);
    let factor = graph.add_constant(name, tensor);
    let product = Binary { function: BinaryFn::Mul, activation };
    rewrite(graph, id, product, &[Some(x), Some(factor)])?;
    Ok(true)
}

fn as_affine(graph: &Graph, id: NodeId) -> Option<(Value, Vec<f32>, Vec<f32>)> {
    let Op::Binary(binary) = &graph.node(id).op else { return None };
    let (a, b) = (graph.operand(id, 0)?, graph.operand(id, 1)?);
    let result = graph.ty(id.into());
    let constant = |c: Value, x: Value| {
        (graph.ty(x) == result && graph.constant(x).is_none())
            .then(|| per_channel(graph, c, result, 1))
            .flatten()
    };
    let (x, constant, constant_first) = match (constant(b, a), constant(a, b)) {
        (Some(c), _) => (a, c, false),
        (_, Some(c)) => (b, c, true),
        _ => return None,
    };
    let all = |value: f32| vec![value; constant.len()];
    let map = |f: fn(f32) -> f32| constant.iter().map(|&c| f(c)).collect::<Vec<f32>>();
    let (scale, shift) = match (binary.function, constant_first) {
        (BinaryFn::Add, _) => (all(1.0), constant),
        (BinaryFn::Sub, false) => (all(1.0), map(|c| -c)),
        (BinaryFn::Sub, true) => (all(-1.0), constant),
        (BinaryFn::Mul, _) => (constant.clone(), all(0.0)),
        (BinaryFn::Div, false) => (map(|c| 1.0 / c), all(0.0)),
        _ => return None,
    };
    Some((x, scale, shift))
}
