//! Quantised operators, as compositions: numbers `(q - zero point) · scale`.
//!
//! ```text
//!   QLinearConv    x ─ Dequantize ─┐
//!                  w ─ Dequantize ─┼ Conv ─ Quantize          all scales and zero points are constants
//!                  b ─ Dequantize ─┘
//!
//!   otherwise      x ─ i32 ─ (- zero point) ─┐
//!                  w ─ i32 ─ (- zero point) ─┴ Conv of i32 ─ f32 ─ · (x_scale · w_scale / y_scale) ─ saturated
//!   saturated      round to even ─ (+ zero point) ─ Cast, which cuts to the range of the type
//! ```
//!
//! In the first form a model of QLinear operators is the same graph as one with QuantizeLinear and DequantizeLinear around common
//! ones, of which passes make layers of integers. In the second, scales and zero points may come from anywhere, padding is zero after
//! the subtraction as ONNX wants it, and sums are exact: of few products in floats, else in `i32`.

use super::Results;
use super::convolution;
use super::integer_sums;
use super::reshaped;
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::dtype::dtype;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis};
use crate::op::elementwise::BinaryFn;
use crate::op::{
    AxisSlice, Binary, Cast, Conv, Dequantize, Epilogue, Expand, MatMul, Prologue, Quantize, Reduce,
    ReduceKind, Slice, Unary, Where, Window,
};
use crate::types::{DType, Shape};

fn apply(n: &mut NodeReader<'_, '_>, function: BinaryFn, a: Value, b: Value) -> Result<Value, NodeFault> {
    n.emit(Binary { function, activation: None }, &[a, b])
}

fn cast(n: &mut NodeReader<'_, '_>, x: Value, to: DType) -> Result<Value, NodeFault> {
    if n.dtype(x) == to { Ok(x) } else { n.emit(Cast { to }, &[x]) }
}

fn quantised(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16)
}

/// How scales and zero points are laid over data.
struct Grain {
    axis: i64,
    /// Elements that share a scale along the axis; 0 where all do.
    block: usize,
}

impl Grain {
    fn read(n: &mut NodeReader<'_, '_>) -> Result<Grain, NodeFault> {
        let block = n.attributes.int("block_size")?.unwrap_or(0);
        let block = usize::try_from(block).map_err(|_| value("block_size", "must not be negative"))?;
        Ok(Grain { axis: n.attributes.int("axis")?.unwrap_or(1), block })
    }

    /// A scale or zero point so that it broadcasts to data of a shape.
    fn over(&self, n: &mut NodeReader<'_, '_>, v: Value, data: &Shape) -> Result<Value, NodeFault> {
        let shape = n.shape(v);
        if shape.rank() == 0 || (shape[..] == [1] && self.block == 0) {
            return reshaped(n, v, Vec::new());
        }
        let axis = axis(self.axis, data.rank())?;
        let misfit =
            |what: String| NodeFault::invalid(format!("has a scale of shape {shape}, expected {what}"));
        if self.block == 0 {
            if shape.rank() != 1 || shape[0] != data[axis] {
                return Err(misfit(format!("a scalar or {} elements for axis {axis} of {data}", data[axis])));
            }
            let mut spread = vec![1; data.rank()];
            spread[axis] = shape[0];
            return reshaped(n, v, spread);
        }
        let fits = |a: usize| shape[a] == if a == axis { data[a].div_ceil(self.block) } else { data[a] };
        if shape.rank() != data.rank() || !(0..data.rank()).all(fits) {
            return Err(misfit(format!("one for each block of {} along axis {axis} of {data}", self.block)));
        }
        // [.., blocks, ..] → [.., blocks, 1, ..] → [.., blocks, block, ..] → [.., blocks · block, ..], its end cut off
        let block = self.block.min(data[axis].max(1));
        let mut split = shape.to_vec();
        split.insert(axis + 1, 1);
        let v = reshaped(n, v, split.clone())?;
        split[axis + 1] = block;
        let v = n.emit(Expand { shape: split }, &[v])?;
        let mut whole = shape.to_vec();
        whole[axis] = shape[axis].checked_mul(block).ok_or(crate::op::OpError::Overflow)?;
        let v = reshaped(n, v, whole.clone())?;
        if whole[axis] == data[axis] {
            return Ok(v);
        }
        n.emit(Slice { axes: vec![AxisSlice { axis, start: 0, step: 1, len: data[axis] }] }, &[v])
    }
}

/// `saturate(round(y) + zero point)` in the range of a type, for floats `y`.
pub(super) fn saturated(
    n: &mut NodeReader<'_, '_>,
    y: Value,
    zero_point: Option<Value>,
    to: DType,
) -> Result<Value, NodeFault> {
    let mut y = n.emit(Unary::Round, &[y])?;
    if let Some(zero_point) = zero_point {
        // f32 holds the sum of all that is not cut off anyway.
        y = cast(n, y, DType::F32)?;
        let zero_point = cast(n, zero_point, DType::F32)?;
        y = apply(n, BinaryFn::Add, y, zero_point)?;
    }
    n.emit(Cast { to }, &[y])
}

/// `q - zero point` in `i32`.
pub(super) fn centred(
    n: &mut NodeReader<'_, '_>,
    q: Value,
    zero_point: Option<Value>,
) -> Result<Value, NodeFault> {
    let q = cast(n, q, DType::I32)?;
    match zero_point {
        Some(zero_point) => {
            let zero_point = cast(n, zero_point, DType::I32)?;
            apply(n, BinaryFn::Sub, q, zero_point)
        }
        None => Ok(q),
    }
}

/// QuantizeLinear, since 10; since 21 by blocks.
pub(in crate::onnx) fn quantize_linear(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, scale, zero_point) = (n.operand(0, "x")?, n.operand(1, "y_scale")?, n.optional(2)?);
    let grain = Grain::read(n)?;
    // About 8-bit floats.
    n.attributes.ignore("saturate");
    let asked = float_type(n, "output_dtype")?;
    let to = match (zero_point.map(|z| n.dtype(z)), asked) {
        (Some(zero_point), Some(asked)) if zero_point != asked => {
            return Err(value("output_dtype", format!("is {asked}, the zero point is {zero_point}")));
        }
        (Some(to), _) | (None, Some(to)) => to,
        (None, None) => DType::U8,
    };
    if !quantised(to) {
        return Err(NodeFault::unsupported(format!("quantisation to {to}")));
    }
    // The type of the division is that of the scale, unless it is asked for.
    let precision = float_type(n, "precision")?.unwrap_or(n.dtype(scale));
    let precision = if precision.is_float() { precision } else { DType::F32 };
    let shape = n.shape(x);
    let x = cast(n, x, precision)?;
    let scale = grain.over(n, scale, &shape)?;
    let scale = cast(n, scale, precision)?;
    let zero_point = zero_point.map(|z| grain.over(n, z, &shape)).transpose()?;
    if precision == DType::F32 {
        return Ok(vec![n.emit_optional(Quantize { to }, &[Some(x), Some(scale), zero_point])?]);
    }
    let y = apply(n, BinaryFn::Div, x, scale)?;
    Ok(vec![saturated(n, y, zero_point, to)?])
}

/// An attribute that names an element type; 0 and none at all leave it open.
fn float_type(n: &mut NodeReader<'_, '_>, name: &'static str) -> Result<Option<DType>, NodeFault> {
    match n.attributes.int(name)? {
        None | Some(0) => Ok(None),
        Some(code) => dtype(code).map(Some).map_err(|what| value(name, format!("asks for {what}"))),
    }
}

/// DequantizeLinear, since 10; since 21 by blocks.
pub(in crate::onnx) fn dequantize_linear(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, scale, zero_point) = (n.operand(0, "x")?, n.operand(1, "x_scale")?, n.optional(2)?);
    let grain = Grain::read(n)?;
    let to = float_type(n, "output_dtype")?.unwrap_or(n.dtype(scale));
    if !to.is_float() {
        return Err(NodeFault::invalid(format!("the scale must be a float, it is {to}")));
    }
    if !quantised(n.dtype(x)) && n.dtype(x) != DType::I32 {
        return Err(NodeFault::unsupported(format!("dequantisation of {}", n.dtype(x))));
    }
    let shape = n.shape(x);
    let zero_point = zero_point.map(|z| grain.over(n, z, &shape)).transpose()?;
    let scale = grain.over(n, scale, &shape)?;
    let wide = if to == DType::F64 { DType::F64 } else { DType::F32 };
    if wide == DType::F32 {
        let scale = cast(n, scale, wide)?;
        let y = n.emit_optional(Dequantize, &[Some(x), Some(scale), zero_point])?;
        return Ok(vec![cast(n, y, to)?]);
    }
    let centred = centred(n, x, zero_point)?;
    let (centred, scale) = (cast(n, centred, wide)?, cast(n, scale, wide)?);
    let y = apply(n, BinaryFn::Mul, centred, scale)?;
    Ok(vec![cast(n, y, to)?])
}

/// DynamicQuantizeLinear, since 11.
pub(in crate::onnx) fn dynamic_quantize_linear(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "x")?;
    Ok(dynamically_quantised(n, x)?.to_vec())
}

/// Data as `u8`, their scale and their zero point, by their extremes and 0.
pub(super) fn dynamically_quantised(n: &mut NodeReader<'_, '_>, x: Value) -> Result<[Value; 3], NodeFault> {
    let axes: Vec<usize> = (0..n.shape(x).rank()).collect();
    let zero = n.scalar(DType::F32, 0.0)?;
    let mut extremes = Vec::new();
    for (kind, function) in [(ReduceKind::Min, BinaryFn::Min), (ReduceKind::Max, BinaryFn::Max)] {
        let extreme = n.emit(Reduce { kind, axes: axes.clone(), keep_dims: false }, &[x])?;
        extremes.push(apply(n, function, extreme, zero)?);
    }
    let (least, largest) = (extremes[0], extremes[1]);
    let steps = n.scalar(DType::F32, 255.0)?;
    let range = apply(n, BinaryFn::Sub, largest, least)?;
    let scale = apply(n, BinaryFn::Div, range, steps)?;
    // Data of nothing but zeros have no range; any scale keeps them.
    let (one, empty) = (n.scalar(DType::F32, 1.0)?, apply(n, BinaryFn::Equal, range, zero)?);
    let scale = n.emit(Where, &[empty, one, scale])?;
    let zero_point = apply(n, BinaryFn::Sub, zero, least)?;
    let zero_point = apply(n, BinaryFn::Div, zero_point, scale)?;
    let zero_point = saturated(n, zero_point, None, DType::U8)?;
    let y = n.emit(Quantize { to: DType::U8 }, &[x, scale, zero_point])?;
    Ok([y, scale, zero_point])
}

/// A scale or zero point of a matrix: one number, one for each row (or column), or of the rank of the matrix.
pub(super) fn along(n: &mut NodeReader<'_, '_>, v: Value, rows: bool) -> Result<Value, NodeFault> {
    let shape = n.shape(v);
    match shape[..] {
        [] | [1] => reshaped(n, v, Vec::new()),
        [rows_of_it] if rows => reshaped(n, v, vec![rows_of_it, 1]),
        _ => Ok(v),
    }
}

/// Refuses products of anything but bytes.
pub(super) fn bytes_multiplied(n: &NodeReader<'_, '_>, operands: [Value; 2]) -> Result<(), NodeFault> {
    match operands
        .into_iter()
        .map(|operand| n.dtype(operand))
        .find(|dtype| !matches!(dtype, DType::I8 | DType::U8))
    {
        Some(dtype) => Err(NodeFault::invalid(format!("multiplies {dtype}, expected i8 or u8"))),
        None => Ok(()),
    }
}

/// The product of `A - zero point` and `B - zero point` in `i32`.
pub(super) fn integer_product(
    n: &mut NodeReader<'_, '_>,
    [a, b]: [Value; 2],
    zero_points: [Option<Value>; 2],
) -> Result<Value, NodeFault> {
    bytes_multiplied(n, [a, b])?;
    if let Some(sums) = integer_sums::product(n, [a, b], zero_points)? {
        return Ok(sums);
    }
    let [a_zero, b_zero] = zero_points;
    let a_zero = a_zero.map(|z| along(n, z, n_rank(n, a) > 1)).transpose()?;
    let b_zero = b_zero.map(|z| along(n, z, false)).transpose()?;
    let (a, b) = (centred(n, a, a_zero)?, centred(n, b, b_zero)?);
    if n.shape(a).last().is_some_and(|&products| products <= MOST_IN_F32) {
        let (a, b) = (cast(n, a, DType::F32)?, cast(n, b, DType::F32)?);
        let sums = n.emit(MatMul::default(), &[a, b])?;
        return cast(n, sums, DType::I32);
    }
    n.emit(MatMul::default(), &[a, b])
}

/// So many products of bytes around zero points are less than 2²⁴ together: floats, whose layers are fast, add them up exactly.
const MOST_IN_F32: usize = 257;

fn n_rank(n: &NodeReader<'_, '_>, v: Value) -> usize {
    n.ty(v).shape.rank()
}

/// MatMulInteger, since 10.
pub(in crate::onnx) fn mat_mul_integer(n: &mut NodeReader<'_, '_>) -> Results {
    let operands = [n.operand(0, "A")?, n.operand(1, "B")?];
    let zero_points = [n.optional(2)?, n.optional(3)?];
    Ok(vec![integer_product(n, operands, zero_points)?])
}

/// `sums · (scale of x · scale of w / scale of y)`, quantised.
fn requantised(
    n: &mut NodeReader<'_, '_>,
    sums: Value,
    [x_scale, w_scale, y_scale]: [Value; 3],
    zero_point: Value,
) -> Result<Value, NodeFault> {
    let to = n.dtype(zero_point);
    if !matches!(to, DType::I8 | DType::U8) {
        return Err(NodeFault::unsupported(format!("quantisation to {to}")));
    }
    let (x_scale, w_scale) = (cast(n, x_scale, DType::F32)?, cast(n, w_scale, DType::F32)?);
    let y_scale = cast(n, y_scale, DType::F32)?;
    let factor = apply(n, BinaryFn::Mul, x_scale, w_scale)?;
    let factor = apply(n, BinaryFn::Div, factor, y_scale)?;
    let sums = cast(n, sums, DType::F32)?;
    let y = apply(n, BinaryFn::Mul, sums, factor)?;
    saturated(n, y, Some(zero_point), to)
}

/// QLinearMatMul, since 10.
pub(in crate::onnx) fn q_linear_mat_mul(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, a_scale, a_zero) = (n.operand(0, "a")?, n.operand(1, "a_scale")?, n.operand(2, "a_zero_point")?);
    let (b, b_scale, b_zero) = (n.operand(3, "b")?, n.operand(4, "b_scale")?, n.operand(5, "b_zero_point")?);
    let (y_scale, y_zero) = (n.operand(6, "y_scale")?, n.operand(7, "y_zero_point")?);
    let parameters = [a_scale, a_zero, b_scale, b_zero, y_scale, y_zero];
    if parameters.into_iter().all(|v| is_known_f32(n, v)) {
        bytes_multiplied(n, [a, b])?;
        let rows = n_rank(n, a) > 1;
        let a = real(n, a, [a_scale, a_zero], |n, v| along(n, v, rows))?;
        let b = real(n, b, [b_scale, b_zero], |n, v| along(n, v, false))?;
        let y = n.emit(MatMul::default(), &[a, b])?;
        return Ok(vec![steps(n, y, [y_scale, y_zero], |n, v| along(n, v, rows))?]);
    }
    let sums = integer_product(n, [a, b], [Some(a_zero), Some(b_zero)])?;
    let rows = n_rank(n, a) > 1;
    let scales = [along(n, a_scale, rows)?, along(n, b_scale, false)?, along(n, y_scale, rows)?];
    let y_zero = along(n, y_zero, rows)?;
    Ok(vec![requantised(n, sums, scales, y_zero)?])
}

/// A scale or zero point with one element for each row of the weights `[M, C, kernel…]`, laid over `[.., M, ..]`.
fn per_output(n: &mut NodeReader<'_, '_>, v: Value, rank: usize, place: usize) -> Result<Value, NodeFault> {
    let shape = n.shape(v);
    match shape[..] {
        [] | [1] => reshaped(n, v, Vec::new()),
        [count] => {
            let mut spread = vec![1; rank - place];
            spread[0] = count;
            reshaped(n, v, spread)
        }
        _ => Err(NodeFault::invalid(format!(
            "has a scale or zero point of shape {shape}, expected at most one axis"
        ))),
    }
}

/// The window and the groups of a convolution of bytes.
fn bytes_convolved(n: &mut NodeReader<'_, '_>, x: Value, w: Value) -> Result<(Window, usize), NodeFault> {
    for operand in [x, w] {
        if !matches!(n.dtype(operand), DType::I8 | DType::U8) {
            return Err(NodeFault::invalid(format!("convolves {}, expected i8 or u8", n.dtype(operand))));
        }
    }
    convolution::window(n, x, w)
}

/// Whether a scale, a zero point or weights are known; scales of half floats are rounded to in other places.
pub(super) fn is_known_f32(n: &NodeReader<'_, '_>, v: Value) -> bool {
    let dtype = n.dtype(v);
    n.constant_of(v).is_some() && (dtype == DType::F32 || !dtype.is_float())
}

/// The numbers that steps stand for.
pub(super) fn real(
    n: &mut NodeReader<'_, '_>,
    q: Value,
    [scale, zero]: [Value; 2],
    laid: impl Fn(&mut NodeReader<'_, '_>, Value) -> Result<Value, NodeFault>,
) -> Result<Value, NodeFault> {
    let (scale, zero) = (laid(n, scale)?, laid(n, zero)?);
    n.emit(Dequantize, &[q, scale, zero])
}

/// The steps that stand for numbers.
pub(super) fn steps(
    n: &mut NodeReader<'_, '_>,
    y: Value,
    [scale, zero]: [Value; 2],
    laid: impl Fn(&mut NodeReader<'_, '_>, Value) -> Result<Value, NodeFault>,
) -> Result<Value, NodeFault> {
    let to = n.dtype(zero);
    if !matches!(to, DType::I8 | DType::U8) {
        return Err(NodeFault::unsupported(format!("quantisation to {to}")));
    }
    let (scale, zero) = (laid(n, scale)?, laid(n, zero)?);
    n.emit(Quantize { to }, &[y, scale, zero])
}

/// A bias of `i32`, whose steps are those of the products.
pub(super) fn bias_of_products(
    n: &mut NodeReader<'_, '_>,
    bias: Value,
    x_scale: Value,
    w_scale: Value,
) -> Result<Value, NodeFault> {
    let x_scale = reshaped(n, x_scale, Vec::new())?;
    let w_scale = match n.shape(w_scale)[..] {
        [] | [1] => reshaped(n, w_scale, Vec::new())?,
        _ => w_scale,
    };
    let scale = apply(n, BinaryFn::Mul, x_scale, w_scale)?;
    n.emit(Dequantize, &[bias, scale])
}

/// A convolution of `x - zero point` with `w - zero point` in `i32`.
fn integer_convolution(
    n: &mut NodeReader<'_, '_>,
    [x, w]: [Value; 2],
    [x_zero, w_zero]: [Option<Value>; 2],
    bias: Option<Value>,
) -> Result<Value, NodeFault> {
    let (window, groups) = bytes_convolved(n, x, w)?;
    if let Some(sums) = integer_sums::convolution(n, [x, w], (&window, groups), [x_zero, w_zero], bias)? {
        return Ok(sums);
    }
    let rank = n_rank(n, w);
    let x_zero = x_zero.map(|z| per_output(n, z, rank, 1)).transpose()?;
    let w_zero = w_zero.map(|z| per_output(n, z, rank, 0)).transpose()?;
    let (x, w) = (centred(n, x, x_zero)?, centred(n, w, w_zero)?);
    let op = Conv { window, groups, prologue: Prologue::default(), epilogue: Epilogue::default() };
    // Known weights that channels meet may be transformed, which rounds.
    let is_known = n.constant_of(w).is_some() && n.shape(w)[1] > 1;
    if is_known || n.shape(w)[1..].iter().product::<usize>() > MOST_IN_F32 {
        return n.emit_optional(op, &[Some(x), Some(w), bias]);
    }
    let (x, w) = (cast(n, x, DType::F32)?, cast(n, w, DType::F32)?);
    let sums = n.emit(op, &[x, w])?;
    let sums = cast(n, sums, DType::I32)?;
    match bias {
        Some(bias) => {
            let mut along = vec![1; rank - 1];
            along[0] = n.shape(bias).elems();
            let bias = reshaped(n, bias, along)?;
            apply(n, BinaryFn::Add, sums, bias)
        }
        None => Ok(sums),
    }
}

/// ConvInteger, since 10.
pub(in crate::onnx) fn conv_integer(n: &mut NodeReader<'_, '_>) -> Results {
    let operands = [n.operand(0, "x")?, n.operand(1, "w")?];
    let zero_points = [n.optional(2)?, n.optional(3)?];
    Ok(vec![integer_convolution(n, operands, zero_points, None)?])
}

/// QLinearConv, since 10.
pub(in crate::onnx) fn q_linear_conv(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "x")?;
    Ok(vec![q_linear_conv_of(n, x)?])
}

/// QLinearConv of an image that may be another one than the node's.
pub(super) fn q_linear_conv_of(n: &mut NodeReader<'_, '_>, x: Value) -> Result<Value, NodeFault> {
    let (x_scale, x_zero) = (n.operand(1, "x_scale")?, n.operand(2, "x_zero_point")?);
    let (w, w_scale, w_zero) = (n.operand(3, "w")?, n.operand(4, "w_scale")?, n.operand(5, "w_zero_point")?);
    let (y_scale, y_zero) = (n.operand(6, "y_scale")?, n.operand(7, "y_zero_point")?);
    let bias = n.optional(8)?;
    if [x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero].into_iter().all(|v| is_known_f32(n, v))
        && bias.is_none_or(|bias| n.constant_of(bias).is_some())
    {
        let (window, groups) = bytes_convolved(n, x, w)?;
        let op = Conv { window, groups, prologue: Prologue::default(), epilogue: Epilogue::default() };
        let rank = n_rank(n, w);
        let bias = bias.map(|bias| bias_of_products(n, bias, x_scale, w_scale)).transpose()?;
        let x = real(n, x, [x_scale, x_zero], |n, v| per_output(n, v, rank, 1))?;
        let w = real(n, w, [w_scale, w_zero], |n, v| per_output(n, v, rank, 0))?;
        let y = n.emit_optional(op, &[Some(x), Some(w), bias])?;
        return steps(n, y, [y_scale, y_zero], |n, v| per_output(n, v, rank, 1));
    }
    let sums = integer_convolution(n, [x, w], [Some(x_zero), Some(w_zero)], bias)?;
    let rank = n_rank(n, sums);
    let mut scales = [x_scale, w_scale, y_scale];
    for scale in &mut scales {
        *scale = per_output(n, *scale, rank, 1)?;
    }
    let y_zero = per_output(n, y_zero, rank, 1)?;
    requantised(n, sums, scales, y_zero)
}
