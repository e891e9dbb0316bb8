//! Operators whose result is known as soon as shapes are, and those that do nothing in inference.

use super::Results;
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::dtype::dtype;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, number};
use crate::onnx::varying::Amount;
use crate::op::OpError;
use crate::op::number::{from_integers, integers, to_be_narrowed};
use crate::tensor::{Element, Tensor};
use crate::types::{DType, Shape, TensorType};

/// Elements that Range and EyeLike may make.
const MOST_ELEMS: usize = 1 << 24;

/// Constant, since 1.
pub(in crate::onnx) fn constant(n: &mut NodeReader<'_, '_>) -> Results {
    let a = &mut n.attributes;
    let mut found: Vec<Tensor> = Vec::new();
    if let Some(tensor) = a.tensor("value")? {
        found.push(tensor.clone());
    }
    if let Some(v) = a.float("value_float")? {
        found.push(Tensor::new(Shape::default(), &[v])?);
    }
    if let Some(v) = a.floats("value_floats")? {
        found.push(Tensor::new([v.len()], v)?);
    }
    if let Some(v) = a.int("value_int")? {
        found.push(Tensor::new(Shape::default(), &[v])?);
    }
    if let Some(v) = a.ints("value_ints")? {
        found.push(Tensor::new([v.len()], v)?);
    }
    for name in ["value_string", "value_strings", "sparse_value"] {
        if a.has(name) {
            return Err(NodeFault::unsupported(format!("a constant given as attribute \"{name}\"")));
        }
    }
    match <[Tensor; 1]>::try_from(found) {
        Ok([tensor]) => Ok(vec![n.add_constant(tensor)]),
        Err(found) => Err(NodeFault::invalid(format!("needs exactly one value, it has {}", found.len()))),
    }
}

/// ConstantOfShape, since 9: a scalar, expanded.
pub(in crate::onnx) fn constant_of_shape(n: &mut NodeReader<'_, '_>) -> Results {
    let wanted = n.amounts(0, "input")?.ok_or(OpError::Missing { index: 0, name: "input" })?;
    if let Some(extent) = wanted.iter().filter_map(Amount::known).find(|&extent| extent < 0) {
        return Err(NodeFault::invalid(format!("an extent of {extent} makes no sense")));
    }
    let filler = match n.attributes.tensor("value")? {
        None => Tensor::new(Shape::default(), &[0f32])?,
        Some(t) if t.shape().elems() == 1 => t.reshaped(Shape::default())?,
        Some(t) => return Err(value("value", format!("must hold one element, it is {}", t.ty()))),
    };
    let scalar = n.add_constant(filler);
    Ok(vec![n.spread(scalar, &wanted)?])
}

/// Shape, since 1; part of it since 15.
pub(in crate::onnx) fn shape(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "data")?;
    let extents = n.extents(x);
    let rank = extents.len() as i64;
    let clamp =
        |bound: i64| (if bound < 0 { bound.saturating_add(rank) } else { bound }).clamp(0, rank) as usize;
    let start = clamp(n.attributes.int("start")?.unwrap_or(0));
    let end = clamp(n.attributes.int("end")?.unwrap_or(rank));
    Ok(vec![n.tensor_of(extents.get(start..end).unwrap_or_default())?])
}

/// Size, since 1.
pub(in crate::onnx) fn size(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "data")?;
    super::product(&n.shape(x))?;
    let elems = n.extents(x).iter().fold(Amount::from(1i64), |all, extent| all.product(extent));
    Ok(vec![n.amount(&elems)?])
}

/// Range, since 11.
pub(in crate::onnx) fn range(n: &mut NodeReader<'_, '_>) -> Results {
    // The precision of half floats' sums; they are computed in double precision here.
    n.attributes.ignore("stash_type");
    if let Some(range) = varying_range(n)? {
        return Ok(vec![range]);
    }
    let mut bounds = Vec::new();
    for (index, name) in ["start", "limit", "delta"].into_iter().enumerate() {
        bounds.push(n.constant(index, name)?.ok_or(OpError::Missing { index, name })?);
    }
    Ok(vec![range_of(n, &bounds)?])
}

/// Numbers from a start, up to a limit, in steps of delta.
pub(super) fn range_of(n: &mut NodeReader<'_, '_>, bounds: &[Tensor]) -> Result<Value, NodeFault> {
    let dtype = bounds[0].dtype();
    if bounds.iter().any(|b| b.dtype() != dtype || b.shape().elems() != 1) {
        return Err(NodeFault::invalid("start, limit and delta must be scalars of one type"));
    }
    let tensor = match dtype {
        DType::I64 | DType::I32 | DType::I16 => integer_range(n, bounds, dtype)?,
        DType::F16 => float_range(n, bounds, |v| half::f16::from_f32(to_be_narrowed(v)))?,
        DType::BF16 => float_range(n, bounds, |v| half::bf16::from_f32(to_be_narrowed(v)))?,
        DType::F32 => float_range(n, bounds, |v| v as f32)?,
        DType::F64 => float_range(n, bounds, |v| v)?,
        other => return Err(NodeFault::unsupported(format!("a range of {other}"))),
    };
    Ok(n.add_constant(tensor))
}

/// A range of integers whose bounds are computed from sizes.
fn varying_range(n: &mut NodeReader<'_, '_>) -> Result<Option<Value>, NodeFault> {
    let start = n.operand(0, "start")?;
    let given = [start, n.operand(1, "limit")?, n.operand(2, "delta")?];
    let dtype = n.dtype(start);
    let integers = !dtype.is_float() && given.iter().all(|&v| n.dtype(v) == dtype && n.shape(v).elems() == 1);
    if !integers || given.iter().all(|&v| n.constant_of(v).is_some()) {
        return Ok(None);
    }
    let mut amounts = Vec::new();
    for (index, name) in ["start", "limit", "delta"].into_iter().enumerate() {
        amounts.extend(n.amounts(index, name)?.unwrap_or_default());
    }
    let [start, limit, delta] = &amounts[..] else { return Ok(None) };
    match delta.known() {
        Some(0) => Err(NodeFault::invalid("a delta of 0 makes no sense")),
        Some(delta) => n.counted_up(start, limit, delta, dtype).map(Some),
        None => n.constant(2, "delta").map(|_| None),
    }
}

fn integer_range(n: &mut NodeReader<'_, '_>, bounds: &[Tensor], dtype: DType) -> Result<Tensor, NodeFault> {
    let scalar =
        |i: usize| -> Result<i128, NodeFault> { Ok(integers(&bounds[i])?.first().copied().unwrap_or(0)) };
    let (start, limit, delta) = (scalar(0)?, scalar(1)?, scalar(2)?);
    if delta == 0 {
        return Err(NodeFault::invalid("a delta of 0 makes no sense"));
    }
    let span = limit - start;
    let count = if (span > 0) == (delta > 0) { (span.abs() + delta.abs() - 1) / delta.abs() } else { 0 };
    let count = elems(n, count as f64)?;
    let list = (0..count as i128).map(|i| start + i * delta);
    // All elements lie between start and limit, which are of this type.
    Ok(from_integers(TensorType::new(dtype, [count]), &list.collect::<Vec<_>>())?)
}

fn float_range<T: Element>(
    n: &mut NodeReader<'_, '_>,
    bounds: &[Tensor],
    round: fn(f64) -> T,
) -> Result<Tensor, NodeFault> {
    let scalar = |i: usize| number(&bounds[i], "of a range");
    let (start, limit, delta) = (scalar(0)?, scalar(1)?, scalar(2)?);
    let count = elems(n, ((limit - start) / delta).ceil().max(0.0))?;
    let list: Vec<T> = (0..count).map(|i| round(start + i as f64 * delta)).collect();
    Ok(Tensor::new([count], &list)?)
}

fn elems(n: &mut NodeReader<'_, '_>, count: f64) -> Result<usize, NodeFault> {
    if count <= MOST_ELEMS as f64 {
        n.make(count as usize, DType::I64)?;
        Ok(count as usize)
    } else {
        Err(NodeFault::unsupported(format!("a constant of {count} elements; up to {MOST_ELEMS} are made")))
    }
}

/// EyeLike, since 9.
pub(in crate::onnx) fn eye_like(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let k = i128::from(n.attributes.int("k")?.unwrap_or(0));
    let dtype = match n.attributes.int("dtype")? {
        Some(code) => dtype(code).map_err(|what| value("dtype", format!("asks for {what}")))?,
        None => n.dtype(x),
    };
    let shape = n.shape(x);
    let [rows, columns] = shape[..] else {
        return Err(NodeFault::invalid(format!("input must be a matrix, its shape is {shape}")));
    };
    let count = elems(n, rows as f64 * columns as f64)?;
    let (zero, one) = (vec![0u8; dtype.bytes()], crate::onnx::node::scalar_tensor(dtype, 1.0)?);
    let mut bytes = zero.repeat(count);
    for row in 0..rows {
        let column = row as i128 + k;
        if (0..columns as i128).contains(&column) {
            let at = (row * columns + column as usize) * dtype.bytes();
            bytes[at..at + dtype.bytes()].copy_from_slice(one.bytes());
        }
    }
    let tensor = Tensor::from_bytes(crate::types::TensorType::new(dtype, shape), bytes)?;
    let eye = n.add_constant(tensor);
    let extents = n.extents(x);
    Ok(vec![n.as_far(eye, &extents)?])
}

/// Identity, since 1.
pub(in crate::onnx) fn identity(n: &mut NodeReader<'_, '_>) -> Results {
    Ok(vec![n.operand(0, "input")?])
}
