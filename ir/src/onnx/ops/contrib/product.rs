//! Matrix products of integers that give floats, or are quantised again.

use super::activation::along_last;
use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::onnx::ops::Results;
use crate::onnx::ops::quantize::{
    along, bias_of_products, bytes_multiplied, dynamically_quantised, integer_product, is_known_f32, real,
    saturated, steps,
};
use crate::op::elementwise::BinaryFn;
use crate::op::{MatMul, Quantize};
use crate::types::DType;

/// QGemm: `alpha · a_scale · b_scale · ((A′ − a_zero) · (B′ − b_zero) + C)`, quantised where Y has a scale.
pub(in crate::onnx) fn q_gemm(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, a_scale, a_zero) = (n.operand(0, "A")?, n.operand(1, "a_scale")?, n.operand(2, "a_zero_point")?);
    let (b, b_scale, b_zero) = (n.operand(3, "B")?, n.operand(4, "b_scale")?, n.operand(5, "b_zero_point")?);
    let (c, y_scale, y_zero) = (n.optional(6)?, n.optional(7)?, n.optional(8)?);
    for (name, matrix) in [("A", a), ("B", b)] {
        if n.shape(matrix).rank() != 2 {
            return Err(NodeFault::invalid(format!("{name} must be a matrix, it is {}", n.ty(matrix))));
        }
    }
    let a = if n.attributes.flag("transA", false)? { n.transpose(a, &[1, 0])? } else { a };
    let b = if n.attributes.flag("transB", false)? { n.transpose(b, &[1, 0])? } else { b };
    let alpha = n.attributes.float("alpha")?.unwrap_or(1.0);
    let parameters = [Some(a_scale), Some(a_zero), Some(b_scale), Some(b_zero), y_scale, y_zero];
    let known = parameters.into_iter().flatten().all(|v| is_known_f32(n, v));
    let one_of_a = [a_scale, a_zero].into_iter().all(|v| n.shape(v).elems() == 1);
    let sums_known = c.is_none_or(|c| n.constant_of(c).is_some());
    if known && one_of_a && sums_known && alpha > 0.0 {
        return Ok(vec![gemm_of_floats(
            n,
            [a, a_scale, a_zero],
            [b, b_scale, b_zero],
            alpha,
            [c, y_scale, y_zero],
        )?]);
    }
    let mut sums = integer_product(n, [a, b], [Some(a_zero), Some(b_zero)])?;
    if let Some(c) = c {
        sums = n.binary(BinaryFn::Add, sums, c)?;
    }
    let (a_scale, b_scale) = (along(n, a_scale, false)?, along(n, b_scale, false)?);
    let factor = n.binary(BinaryFn::Mul, a_scale, b_scale)?;
    let factor = if alpha == 1.0 { factor } else { n.binary_with(BinaryFn::Mul, factor, f64::from(alpha))? };
    let sums = n.cast(sums, DType::F32)?;
    let Some(y_scale) = y_scale else {
        return Ok(vec![n.binary(BinaryFn::Mul, sums, factor)?]);
    };
    let (y_scale, y_zero) = (along(n, y_scale, false)?, y_zero.map(|z| along(n, z, false)).transpose()?);
    let factor = n.binary(BinaryFn::Div, factor, y_scale)?;
    let y = n.binary(BinaryFn::Mul, sums, factor)?;
    let to = y_zero.map_or(n.dtype(a), |zero| n.dtype(zero));
    Ok(vec![saturated(n, y, y_zero, to)?])
}

/// QGemm of matrices that lie as they are multiplied, as a product of floats: `C` is in steps of the products.
fn gemm_of_floats(
    n: &mut NodeReader<'_, '_>,
    [a, a_scale, a_zero]: [Value; 3],
    [b, b_scale, b_zero]: [Value; 3],
    alpha: f32,
    [c, y_scale, y_zero]: [Option<Value>; 3],
) -> Result<Value, NodeFault> {
    bytes_multiplied(n, [a, b])?;
    let b_scale =
        if alpha == 1.0 { b_scale } else { n.binary_with(BinaryFn::Mul, b_scale, f64::from(alpha))? };
    let columns = n.shape(b)[1];
    let c = c.map(|c| bias_of_products(n, c, a_scale, b_scale)).transpose()?;
    let a = real(n, a, [a_scale, a_zero], |n, v| along(n, v, false))?;
    let b = real(n, b, [b_scale, b_zero], |n, v| along(n, v, false))?;
    let y = match c {
        Some(c) if n.shape(c).elems() == columns => {
            let bias = n.reshape(c, [columns])?;
            n.emit(MatMul::default(), &[a, b, bias])?
        }
        Some(c) => {
            let y = n.mat_mul(a, b)?;
            n.binary(BinaryFn::Add, y, c)?
        }
        None => n.mat_mul(a, b)?,
    };
    let Some(y_scale) = y_scale else { return Ok(y) };
    match y_zero {
        Some(y_zero) => steps(n, y, [y_scale, y_zero], |n, v| along(n, v, false)),
        None => {
            let y_scale = along(n, y_scale, false)?;
            n.emit(Quantize { to: DType::U8 }, &[y, y_scale])
        }
    }
}

/// MatMulIntegerToFloat: `(A − a_zero) · (B − b_zero) · (a_scale · b_scale) + bias`.
pub(in crate::onnx) fn integer_to_float(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, b) = (n.operand(0, "A")?, n.operand(1, "B")?);
    let (a_scale, b_scale) = (n.operand(2, "a_scale")?, n.operand(3, "b_scale")?);
    let (a_zero, b_zero, bias) = (n.optional(4)?, n.optional(5)?, n.optional(6)?);
    let y = scaled_product(n, [a, b], [a_scale, b_scale], [a_zero, b_zero])?;
    Ok(vec![with_bias(n, y, bias)?])
}

/// DynamicQuantizeMatMul: A is quantised by its extremes.
pub(in crate::onnx) fn dynamic_quantize(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, b, b_scale) = (n.operand(0, "A")?, n.operand(1, "B")?, n.operand(2, "b_scale")?);
    let (b_zero, bias) = (n.optional(3)?, n.optional(4)?);
    let y = dynamic_product(n, a, b, b_scale, b_zero)?;
    Ok(vec![with_bias(n, y, bias)?])
}

/// A product of floats, which are quantised by their extremes, and bytes.
pub(in crate::onnx::ops) fn dynamic_product(
    n: &mut NodeReader<'_, '_>,
    a: Value,
    b: Value,
    b_scale: Value,
    b_zero: Option<Value>,
) -> Result<Value, NodeFault> {
    let [a, a_scale, a_zero] = dynamically_quantised(n, a)?;
    scaled_product(n, [a, b], [a_scale, b_scale], [Some(a_zero), b_zero])
}

/// A product of integers around their zero points, as floats.
pub(super) fn scaled_product(
    n: &mut NodeReader<'_, '_>,
    [a, b]: [Value; 2],
    [a_scale, b_scale]: [Value; 2],
    zeros: [Option<Value>; 2],
) -> Result<Value, NodeFault> {
    let sums = integer_product(n, [a, b], zeros)?;
    let rows = n.shape(a).rank() > 1;
    let (a_scale, b_scale) = (along(n, a_scale, rows)?, along(n, b_scale, false)?);
    let factor = n.binary(BinaryFn::Mul, a_scale, b_scale)?;
    let sums = n.cast(sums, n.dtype(factor))?;
    n.binary(BinaryFn::Mul, sums, factor)
}

fn with_bias(n: &mut NodeReader<'_, '_>, y: Value, bias: Option<Value>) -> Result<Value, NodeFault> {
    match bias {
        Some(bias) => along_last(n, y, bias),
        None => Ok(y),
    }
}

/// MatMulInteger16: the product of integers of 16 bits, in `i32`.
pub(in crate::onnx) fn integer_16(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, b) = (n.operand(0, "A")?, n.operand(1, "B")?);
    let to = if [a, b].iter().all(|&v| n.dtype(v) == DType::U16) { DType::U32 } else { DType::I32 };
    let (a, b) = (n.cast(a, to)?, n.cast(b, to)?);
    Ok(vec![n.mat_mul(a, b)?])
}
