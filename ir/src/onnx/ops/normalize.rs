//! Normalisations.

use super::{Results, product, reshaped};
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::dtype::dtype;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis, scalar_tensor};
use crate::op::elementwise::BinaryFn;
use crate::op::{Binary, Expand, InstanceNorm, LayerNorm, Lrn, ReduceKind, Unary};
use crate::types::DType;

/// What is added to a variance.
pub(super) fn epsilon(n: &mut NodeReader<'_, '_>) -> Result<f32, NodeFault> {
    Ok(n.attributes.float("epsilon")?.unwrap_or(1e-5))
}

/// InstanceNormalization.
pub(in crate::onnx) fn instance_norm(n: &mut NodeReader<'_, '_>) -> Results {
    let operands = [n.operand(0, "input")?, n.operand(1, "scale")?, n.operand(2, "B")?];
    let epsilon = epsilon(n)?;
    n.attributes.ignore("consumed_inputs");
    Ok(vec![n.emit(InstanceNorm { epsilon }, &operands)?])
}

/// LayerNormalization, since 17; mean and inverse deviation where they are asked for.
pub(in crate::onnx) fn layer_norm(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, scale, bias) = (n.operand(0, "X")?, n.operand(1, "Scale")?, n.optional(2)?);
    let rank = n.ty(x).shape.rank();
    let axis = axis(n.attributes.int("axis")?.unwrap_or(-1), rank)?;
    let epsilon = epsilon(n)?;
    let stash = stash_type(n)?;
    let mut results = vec![n.emit_optional(LayerNorm { axis, epsilon }, &[Some(x), Some(scale), bias])?];
    if n.output_count() > 1 {
        results.extend(statistics(n, x, axis, epsilon, stash)?);
    }
    Ok(results)
}

/// Mean and inverse deviation over the axes from one on, which stay.
pub(super) fn statistics(
    n: &mut NodeReader<'_, '_>,
    x: Value,
    axis: usize,
    epsilon: f32,
    stash: DType,
) -> Result<[Value; 2], NodeFault> {
    let axes: Vec<usize> = (axis..n.ty(x).shape.rank()).collect();
    let x = n.cast(x, stash)?;
    let mean = n.reduce(ReduceKind::Mean, x, axes.clone(), true)?;
    let distance = n.binary(BinaryFn::Sub, x, mean)?;
    let square = n.binary(BinaryFn::Mul, distance, distance)?;
    let variance = n.reduce(ReduceKind::Mean, square, axes, true)?;
    let variance = n.binary_with(BinaryFn::Add, variance, f64::from(epsilon))?;
    let deviation = n.unary(Unary::Sqrt, variance)?;
    Ok([mean, n.unary(Unary::Reciprocal, deviation)?])
}

/// The type of intermediate results.
fn stash_type(n: &mut NodeReader<'_, '_>) -> Result<DType, NodeFault> {
    let code = n.attributes.int("stash_type")?.unwrap_or(1);
    dtype(code).map_err(|what| value("stash_type", format!("asks for {what}")))
}

/// RMSNormalization, since 23: `x / √(mean of x² + epsilon) · scale`.
pub(in crate::onnx) fn rms_norm(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, scale) = (n.operand(0, "X")?, n.operand(1, "scale")?);
    let rank = n.ty(x).shape.rank();
    let axis = axis(n.attributes.int("axis")?.unwrap_or(-1), rank)?;
    let epsilon = epsilon(n)?;
    let stash = stash_type(n)?;
    let (y, _) = rms_of(n, x, scale, axis, epsilon, stash)?;
    Ok(vec![y])
}

/// SimplifiedLayerNormalization of ONNX Runtime: RMSNormalization, and the inverse root where it is asked for.
pub(in crate::onnx) fn simplified_layer_norm(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, scale) = (n.operand(0, "X")?, n.operand(1, "scale")?);
    let axis = axis(n.attributes.int("axis")?.unwrap_or(-1), n.ty(x).shape.rank())?;
    let epsilon = epsilon(n)?;
    let stash = stash_type(n)?;
    let (y, root) = rms_of(n, x, scale, axis, epsilon, stash)?;
    let mut results = vec![y];
    if n.output_count() > 1 {
        results.push(n.unary(Unary::Reciprocal, root)?);
    }
    Ok(results)
}

/// `x / √(mean of x² + epsilon) · scale` over the axes from one on, and the root.
pub(super) fn rms_of(
    n: &mut NodeReader<'_, '_>,
    x: Value,
    scale: Value,
    axis: usize,
    epsilon: f32,
    stash: DType,
) -> Result<(Value, Value), NodeFault> {
    let wide = n.cast(x, stash)?;
    let axes: Vec<usize> = (axis..n.ty(x).shape.rank()).collect();
    let count: f64 = axes.iter().map(|&axis| n.ty(x).shape[axis] as f64).product();
    let mean = match stash {
        // Their sum may be too large where their mean is not.
        DType::F16 => {
            let square = n.binary(BinaryFn::Mul, wide, wide)?;
            n.reduce(ReduceKind::Mean, square, axes, true)?
        }
        _ => {
            let sum = n.reduce(ReduceKind::SumSquare, wide, axes, true)?;
            n.binary_with(BinaryFn::Div, sum, count)?
        }
    };
    let mean = n.binary_with(BinaryFn::Add, mean, f64::from(epsilon))?;
    let root = n.unary(Unary::Sqrt, mean)?;
    let normal = n.binary(BinaryFn::Div, wide, root)?;
    let normal = n.cast(normal, n.dtype(scale))?;
    Ok((n.binary(BinaryFn::Mul, normal, scale)?, root))
}

/// MeanVarianceNormalization, since 9: without scale and bias.
pub(in crate::onnx) fn mean_variance(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let list = n.attributes.ints("axes")?.unwrap_or(&[0, 2, 3]);
    let axes = crate::onnx::node::axes(list, n.ty(x).shape.rank())?;
    let mean = n.reduce(ReduceKind::Mean, x, axes.clone(), true)?;
    let distance = n.binary(BinaryFn::Sub, x, mean)?;
    let square = n.binary(BinaryFn::Mul, distance, distance)?;
    let variance = n.reduce(ReduceKind::Mean, square, axes, true)?;
    let deviation = n.unary(Unary::Sqrt, variance)?;
    // So that constant data give 0, as ONNX defines the function.
    let deviation = n.binary_with(BinaryFn::Add, deviation, 1e-9)?;
    Ok(vec![n.binary(BinaryFn::Div, distance, deviation)?])
}

/// GroupNormalization, since 18: an instance normalisation of the groups, then scale and bias.
///
/// ```text
///   [N, C, …] ─▶ [N, groups, C/groups · …] ─ InstanceNorm(1, 0) ─▶ [N, C, …] ─ · scale + bias
/// ```
pub(in crate::onnx) fn group_norm(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, scale, bias) = (n.operand(0, "X")?, n.operand(1, "scale")?, n.operand(2, "bias")?);
    let shape = n.shape(x);
    let groups = match n.attributes.int("num_groups")? {
        Some(g) => usize::try_from(g)
            .ok()
            .filter(|g| *g > 0)
            .ok_or_else(|| value("num_groups", "must be positive"))?,
        None => return Err(value("num_groups", "is missing")),
    };
    let epsilon = epsilon(n)?;
    n.attributes.ignore("stash_type");
    if shape.rank() < 2 || !shape[1].is_multiple_of(groups) {
        return Err(NodeFault::invalid(format!("X of shape {shape} has no {groups} groups of channels")));
    }
    let dtype = n.dtype(x);
    let channels_per_group = shape[1] / groups;
    let in_group =
        product(&shape[2..])?.checked_mul(channels_per_group).ok_or(crate::op::OpError::Overflow)?;
    let flat = reshaped(n, x, vec![shape[0], groups, in_group])?;
    let mut unit = |number: f64| -> Result<Value, NodeFault> {
        let scalar = n.add_constant(scalar_tensor(dtype, number)?);
        n.emit(Expand { shape: vec![groups] }, &[scalar])
    };
    let (one, zero) = (unit(1.0)?, unit(0.0)?);
    let normal = n.emit(InstanceNorm { epsilon }, &[flat, one, zero])?;
    // Opset 18 has one scale for each group, opset 21 one for each channel.
    let per_channel = n.opset >= 21;
    let spread = if per_channel {
        let mut spread = vec![1; shape.rank() - 1];
        spread[0] = shape[1];
        spread
    } else {
        vec![groups, 1]
    };
    let mut y = if per_channel { reshaped(n, normal, shape.to_vec())? } else { normal };
    for (operand, function) in [(scale, BinaryFn::Mul), (bias, BinaryFn::Add)] {
        let operand = reshaped(n, operand, spread.clone())?;
        y = n.emit(Binary { function, activation: None }, &[y, operand])?;
    }
    Ok(vec![reshaped(n, y, shape.to_vec())?])
}

/// LRN, since 1.
pub(in crate::onnx) fn lrn(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    if !n.attributes.has("size") {
        return Err(value("size", "is missing"));
    }
    let op = Lrn {
        size: n.attributes.count("size", 1)?,
        alpha: n.attributes.float("alpha")?.unwrap_or(1e-4),
        beta: n.attributes.float("beta")?.unwrap_or(0.75),
        bias: n.attributes.float("bias")?.unwrap_or(1.0),
    };
    Ok(vec![n.emit(op, &[x])?])
}
