//! Operators that draw random numbers. nnc draws them when the model is compiled: a program gives the same result each time.
//!
//! Element `i` is a hash of the node's seed and of `i`: numbers do not depend on the machine or on the order of nodes.

use std::f64::consts::PI;

use super::{Results, product};
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::dtype::dtype;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::elementwise::BinaryFn;
use crate::tensor::Tensor;
use crate::types::{DType, Shape};

/// Bernoulli, since 15: 1 with the probability that the input says.
pub(in crate::onnx) fn bernoulli(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    n.fixed(x)?;
    let (shape, from) = (n.shape(x), n.dtype(x));
    let to = target(n, from)?;
    let drawn = draw(n, &shape, |u, _| u)?;
    let drawn = n.cast(drawn, from)?;
    let hit = n.binary(BinaryFn::Less, drawn, x)?;
    Ok(vec![n.cast(hit, to)?])
}

/// RandomUniform, RandomNormal and the same with `Like`, since 1.
pub(in crate::onnx) fn random(n: &mut NodeReader<'_, '_>) -> Results {
    let like = n.op().ends_with("Like");
    let (shape, default) = if like {
        let x = n.operand(0, "input")?;
        n.fixed(x)?;
        (n.shape(x), n.dtype(x))
    } else {
        let dims = n.attributes.ints("shape")?.ok_or_else(|| value("shape", "is missing"))?;
        let dims = dims.iter().map(|&d| {
            usize::try_from(d).map_err(|_| value("shape", format!("has {d}, which makes no sense")))
        });
        (Shape::new(dims.collect::<Result<Vec<_>, _>>()?), DType::F32)
    };
    let to = target(n, default)?;
    let uniform = n.op().starts_with("RandomUniform");
    let mut float =
        |name: &str, absent: f32| n.attributes.float(name).map(|v| f64::from(v.unwrap_or(absent)));
    let drawn = if uniform {
        let (low, high) = (float("low", 0.0)?, float("high", 1.0)?);
        draw(n, &shape, |u, _| low + u * (high - low))?
    } else {
        let (mean, deviation) = (float("mean", 0.0)?, float("scale", 1.0)?);
        // Box and Muller, 1958: two uniform numbers make one that is normally distributed.
        draw(n, &shape, |u, v| mean + deviation * (-2.0 * (1.0 - u).ln()).sqrt() * (2.0 * PI * v).cos())?
    };
    Ok(vec![n.cast(drawn, to)?])
}

/// Dropout, since 7, and its mask. In inference nothing is dropped.
pub(in crate::onnx) fn dropout(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "data")?;
    let shape = n.shape(x);
    let mut ratio = 0.5;
    let mut training = false;
    if n.opset >= 12 {
        if let Some(tensor) = n.optional(1)?.and_then(|given| n.constant_of(given)) {
            ratio = crate::onnx::node::number(tensor, "ratio")?;
        }
        if let Some(given) = n.constant(2, "training_mode")? {
            training = given.bytes().iter().any(|&b| b != 0);
        }
        if training {
            // It decides what is drawn.
            n.constant(1, "ratio")?;
        }
    } else {
        n.attributes.ignore("ratio");
    }
    if !training {
        n.attributes.ignore("seed");
        let mut results = vec![x];
        if n.output_count() > 1 {
            // The mask has been one of booleans since 10.
            let dtype = if n.opset >= 10 { DType::Bool } else { n.dtype(x) };
            let all = n.scalar(dtype, 1.0)?;
            let extents = n.extents(x);
            results.push(n.spread(all, &extents)?);
        }
        return Ok(results);
    }
    n.fixed(x)?;
    let drawn = draw(n, &shape, |u, _| u)?;
    let mask = n.binary_with(BinaryFn::GreaterOrEqual, drawn, ratio)?;
    let zero = n.scalar(n.dtype(x), 0.0)?;
    let scaled = n.binary_with(BinaryFn::Mul, x, 1.0 / (1.0 - ratio))?;
    Ok(vec![n.choose(mask, scaled, zero)?, mask])
}

/// The element type that the node asks for.
fn target(n: &mut NodeReader<'_, '_>, default: DType) -> Result<DType, NodeFault> {
    match n.attributes.int("dtype")? {
        Some(code) => dtype(code).map_err(|what| value("dtype", format!("asks for {what}"))),
        None => Ok(default),
    }
}

/// A constant of `f64` made from two numbers in `[0, 1)` for each element.
fn draw(
    n: &mut NodeReader<'_, '_>,
    shape: &Shape,
    number: impl Fn(f64, f64) -> f64,
) -> Result<Value, NodeFault> {
    // Dropout's is an integer.
    let seed = match n.op() {
        "Dropout" => n.attributes.int("seed")?.unwrap_or(0) as u64,
        _ => n.attributes.float("seed")?.map_or(0, f32::to_bits).into(),
    };
    let count = product(shape)?;
    n.make(count, DType::F64)?;
    let uniform = |i: u64| (mix(mix(seed).wrapping_add(i)) >> 11) as f64 / (1u64 << 53) as f64;
    let numbers: Vec<f64> = (0..count as u64).map(|i| number(uniform(2 * i), uniform(2 * i + 1))).collect();
    Ok(n.add_constant(Tensor::new(shape.clone(), &numbers)?))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
