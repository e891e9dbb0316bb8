//! Quantised operators between those of ONNX: `(q − zero point) · scale` goes in and comes out.
//!
//! ```text
//!   q ─ Dequantize ─▶ what the operator computes of floats ─▶ Quantize
//! ```
//!
//! So they are the same graph as QuantizeLinear and DequantizeLinear around common operators, and passes make bytes of what lies between.
//!
//! QLinearAdd, QLinearMul and QLinearGlobalAveragePool are computed otherwise by ONNX Runtime: of integers, with one factor, and rounded
//! together with the zero point. That shows where results fall halfway between two steps: next to never, or, as with equal scales, of every
//! second sum. Where it shows (`halfway`), or the scales are not known, they are what ONNX Runtime's kernels for x86-64 compute, to the bit.
//! Its other kernels for QLinearAdd may be off by one step; so may all for QLinearSoftmax, which divide integers, and for
//! QLinearAveragePool, which round each sum of a window to `f32`.

use super::halfway::{self, KnownScale};
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis};
use crate::onnx::ops::quantize::{self, centred, saturated};
use crate::onnx::ops::{Results, pool, product};
use crate::op::elementwise::BinaryFn;
use crate::op::{Dequantize, GlobalPool, PoolKind, Prologue, Quantize, ReduceKind, Softmax, Unary, number};
use crate::types::DType;

/// A scale and a zero point, each one number for all elements.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) scale: Value,
    pub(super) zero: Option<Value>,
}

impl Scale {
    /// The two operands from `index` on.
    fn read(n: &mut NodeReader<'_, '_>, index: usize, name: &'static str) -> Result<Scale, NodeFault> {
        let scale = n.operand(index, name)?;
        let zero = n.optional(index + 1)?;
        Ok(Scale {
            scale: one_number(n, scale, name)?,
            zero: zero.map(|z| one_number(n, z, name)).transpose()?,
        })
    }

    /// Scale and zero point, if they are known.
    fn known(self, n: &NodeReader<'_, '_>) -> Option<KnownScale> {
        let &[scale] = n.constant_of(self.scale)?.elems::<f32>().ok()?.as_ref() else { return None };
        let zero = match self.zero {
            Some(zero) => *number::integers(n.constant_of(zero)?).ok()?.first()?,
            None => 0,
        };
        Some(KnownScale { scale, zero: zero as i32 })
    }

    /// Whether the zero point is known to be an even number.
    fn is_around_even(self, n: &NodeReader<'_, '_>) -> bool {
        let is_even =
            |zero: Value| n.constant_of(zero).is_some_and(|t| t.bytes().iter().all(|&b| b % 2 == 0));
        self.zero.is_none_or(is_even)
    }

    /// The numbers that `q` stands for.
    fn real(self, n: &mut NodeReader<'_, '_>, q: Value) -> Result<Value, NodeFault> {
        bytes(n, q)?;
        n.emit_optional(Dequantize, &[Some(q), Some(self.scale), self.zero])
    }

    /// What stands for numbers, in elements of the zero point's type, or of `to` where there is none.
    fn quantised(self, n: &mut NodeReader<'_, '_>, x: Value, to: DType) -> Result<Value, NodeFault> {
        let to = self.zero.map_or(to, |zero| n.dtype(zero));
        n.emit_optional(Quantize { to }, &[Some(x), Some(self.scale), self.zero])
    }

    /// What stands for so many steps; they are rounded together with the zero point.
    fn rounded_at_once(
        self,
        n: &mut NodeReader<'_, '_>,
        steps: Value,
        to: DType,
    ) -> Result<Value, NodeFault> {
        let Some(zero) = self.zero else {
            return saturated(n, steps, None, to);
        };
        let offset = n.cast(zero, DType::F32)?;
        let place = n.binary(BinaryFn::Add, steps, offset)?;
        saturated(n, place, None, n.dtype(zero))
    }
}

/// A scalar; one element may have an axis.
fn one_number(n: &mut NodeReader<'_, '_>, v: Value, name: &'static str) -> Result<Value, NodeFault> {
    if product(&n.shape(v))? != 1 {
        return Err(NodeFault::invalid(format!(
            "{name} or its zero point must be one number, it is {}",
            n.ty(v)
        )));
    }
    n.reshape(v, [])
}

/// Parts of QLinearConcat may be of any type, as far as its schema goes.
fn bytes(n: &NodeReader<'_, '_>, q: Value) -> Result<(), NodeFault> {
    match n.dtype(q) {
        DType::I8 | DType::U8 => Ok(()),
        other => Err(NodeFault::invalid(format!("an operand has elements of {other}, expected i8 or u8"))),
    }
}

/// QLinearMul, with broadcasting: one factor for products of integers.
pub(in crate::onnx) fn multiply(n: &mut NodeReader<'_, '_>) -> Results {
    let [(a, a_scale), (b, b_scale)] = two_operands(n)?;
    let c_scale = Scale::read(n, 6, "C_scale")?;
    let to = n.dtype(a);
    let is_rare = |[a_known, b_known, c_known]: [KnownScale; 3]| {
        halfway::is_rare_in_products([n.dtype(a), n.dtype(b)], [a_known, b_known], c_known)
    };
    if known(n, [a_scale, b_scale, c_scale]).is_some_and(is_rare) {
        return of_floats(n, BinaryFn::Mul, [(a, a_scale), (b, b_scale)], c_scale);
    }
    let factor = n.binary(BinaryFn::Mul, a_scale.scale, b_scale.scale)?;
    let factor = n.binary(BinaryFn::Div, factor, c_scale.scale)?;
    let (a, b) = (centred(n, a, a_scale.zero)?, centred(n, b, b_scale.zero)?);
    let product = n.binary(BinaryFn::Mul, a, b)?;
    let product = n.cast(product, DType::F32)?;
    let steps = n.binary(BinaryFn::Mul, product, factor)?;
    Ok(vec![c_scale.rounded_at_once(n, steps, to)?])
}

/// QLinearAdd, with broadcasting.
///
/// ```text
///   c = a · a_scale/c_scale + (b · b_scale/c_scale + fixed),      fixed: what all zero points come to
/// ```
///
/// Each product is added without rounding it first, as by the instruction that onnxruntime's kernel uses. What is one number for a
/// row is added first.
pub(in crate::onnx) fn add(n: &mut NodeReader<'_, '_>) -> Results {
    let [(a, a_scale), (b, b_scale)] = two_operands(n)?;
    let c_scale = Scale::read(n, 6, "C_scale")?;
    let to = c_scale.zero.map_or(n.dtype(a), |zero| n.dtype(zero));
    let is_rare = |[a_known, b_known, c_known]: [KnownScale; 3]| {
        halfway::is_rare_in_sums([n.dtype(a), n.dtype(b)], [a_known, b_known], c_known)
    };
    if known(n, [a_scale, b_scale, c_scale]).is_some_and(is_rare) {
        return of_floats(n, BinaryFn::Add, [(a, a_scale), (b, b_scale)], c_scale);
    }
    let mut terms = Vec::new();
    for (x, scale) in [(a, a_scale), (b, b_scale)] {
        let ratio = n.binary(BinaryFn::Div, scale.scale, c_scale.scale)?;
        let zero = match scale.zero {
            Some(zero) => n.cast(zero, DType::F32)?,
            None => n.scalar(DType::F32, 0.0)?,
        };
        terms.push((x, ratio, zero));
    }
    let ((a, a_ratio, a_zero), (b, b_ratio, b_zero)) = (terms[0], terms[1]);
    let taken = n.binary(BinaryFn::Mul, b_ratio, b_zero)?;
    let taken = product_and_sum(n, a_zero, a_ratio, taken)?;
    let c_zero = match c_scale.zero {
        Some(zero) => n.cast(zero, DType::F32)?,
        None => n.scalar(DType::F32, 0.0)?,
    };
    let fixed = n.binary(BinaryFn::Sub, c_zero, taken)?;
    let order = match repeats_in_rows(&n.shape(a), &n.shape(b)) {
        true => [(a, a_ratio), (b, b_ratio)],
        false => [(b, b_ratio), (a, a_ratio)],
    };
    let mut sum = fixed;
    for (x, ratio) in order {
        sum = product_and_sum(n, x, ratio, sum)?;
    }
    Ok(vec![saturated(n, sum, None, to)?])
}

/// Scales and zero points, if all are known.
fn known<const N: usize>(n: &NodeReader<'_, '_>, scales: [Scale; N]) -> Option<[KnownScale; N]> {
    let scales: Vec<KnownScale> = scales.iter().map(|scale| scale.known(n)).collect::<Option<_>>()?;
    scales.try_into().ok()
}

/// A function of two numbers, quantised.
fn of_floats(
    n: &mut NodeReader<'_, '_>,
    function: BinaryFn,
    [(a, a_scale), (b, b_scale)]: [(Value, Scale); 2],
    c_scale: Scale,
) -> Results {
    let to = n.dtype(a);
    let (a, b) = (a_scale.real(n, a)?, b_scale.real(n, b)?);
    let c = n.binary(function, a, b)?;
    Ok(vec![c_scale.quantised(n, c, to)?])
}

/// Whether rows of a result have one element of `a` and several of `b`.
fn repeats_in_rows(a: &[usize], b: &[usize]) -> bool {
    let from_behind = |shape: &[usize], place: usize| shape.iter().rev().nth(place).copied().unwrap_or(1);
    let mut extents = (0..a.len().max(b.len())).map(|place| (from_behind(a, place), from_behind(b, place)));
    extents.find(|extents| *extents != (1, 1)).is_some_and(|(a, _)| a == 1)
}

/// `x · factor + more` in `f32`, rounded once: `f64` holds the product.
fn product_and_sum(
    n: &mut NodeReader<'_, '_>,
    x: Value,
    factor: Value,
    more: Value,
) -> Result<Value, NodeFault> {
    let (x, factor, more) = (n.cast(x, DType::F64)?, n.cast(factor, DType::F64)?, n.cast(more, DType::F64)?);
    let product = n.binary(BinaryFn::Mul, x, factor)?;
    let sum = n.binary(BinaryFn::Add, product, more)?;
    n.cast(sum, DType::F32)
}

/// A and B, each with its scale.
fn two_operands(n: &mut NodeReader<'_, '_>) -> Result<[(Value, Scale); 2], NodeFault> {
    let (a, b) = (n.operand(0, "A")?, n.operand(3, "B")?);
    Ok([(a, Scale::read(n, 1, "A_scale")?), (b, Scale::read(n, 4, "B_scale")?)])
}

/// X with its scale, and the scale of Y, of operators of one operand.
fn one_operand(n: &mut NodeReader<'_, '_>) -> Result<(Value, Scale, Scale), NodeFault> {
    let x = n.operand(0, "X")?;
    Ok((x, Scale::read(n, 1, "X_scale")?, Scale::read(n, 3, "Y_scale")?))
}

/// QLinearSigmoid and QLinearLeakyRelu.
pub(in crate::onnx) fn unary(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, x_scale, y_scale) = one_operand(n)?;
    let function = match n.op() {
        "QLinearLeakyRelu" => Unary::LeakyRelu { alpha: n.attributes.float("alpha")?.unwrap_or(0.01) },
        _ => Unary::Sigmoid,
    };
    let real = x_scale.real(n, x)?;
    let y = n.unary(function, real)?;
    Ok(vec![y_scale.quantised(n, y, n.dtype(x))?])
}

/// QLinearSoftmax. An attribute says by which version of Softmax the axis counts. Of the scale of the result, onnxruntime takes so many
/// steps as 1 has whole ones.
pub(in crate::onnx) fn softmax(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, x_scale, y_scale) = one_operand(n)?;
    let opset = n.attributes.int("opset")?.ok_or_else(|| value("opset", "is missing"))?;
    let along = n.attributes.int("axis")?.unwrap_or(-1);
    let shape = n.shape(x);
    let first = axis(along, shape.rank())?;
    let last = if opset < 13 { shape.rank() } else { first + 1 };
    let flat = [product(&shape[..first])?, product(&shape[first..last])?, product(&shape[last..])?];
    let real = x_scale.real(n, x)?;
    let real = n.reshape(real, flat)?;
    let y = n.emit(Softmax { axis: 1 }, &[real])?;
    let y = n.reshape(y, shape.to_vec())?;
    let one = n.scalar(DType::F32, 1.0)?;
    let steps = n.binary(BinaryFn::Div, one, y_scale.scale)?;
    let steps = n.unary(Unary::Floor, steps)?;
    let scale = n.binary(BinaryFn::Div, one, steps)?;
    Ok(vec![Scale { scale, ..y_scale }.quantised(n, y, n.dtype(x))?])
}

/// QLinearConcat: `Y_scale, Y_zero_point`, then each operand with its own.
pub(in crate::onnx) fn concat(n: &mut NodeReader<'_, '_>) -> Results {
    let y_scale = Scale::read(n, 0, "Y_scale")?;
    let count = n.operand_count();
    if count < 5 || !(count - 2).is_multiple_of(3) {
        return Err(NodeFault::invalid(format!(
            "has {count} operands; expected are Y_scale and Y_zero_point, then three for each part"
        )));
    }
    let along = n.attributes.int("axis")?.ok_or_else(|| value("axis", "is missing"))?;
    let mut parts = Vec::new();
    for index in (2..count).step_by(3) {
        let x = n.operand(index, "X")?;
        let scale = Scale::read(n, index + 1, "X_scale")?;
        let same = same_numbers(n, Some(scale.scale), Some(y_scale.scale))
            && same_numbers(n, scale.zero, y_scale.zero);
        parts.push(if same {
            x
        } else {
            let real = scale.real(n, x)?;
            y_scale.quantised(n, real, n.dtype(x))?
        });
    }
    let along = axis(along, n.shape(parts[0]).rank())?;
    Ok(vec![n.concat(along, &parts)?])
}

/// Whether two values are the same, for sure.
fn same_numbers(n: &NodeReader<'_, '_>, a: Option<Value>, b: Option<Value>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a == b
                || n.constant_of(a)
                    .zip(n.constant_of(b))
                    .is_some_and(|(a, b)| a.ty() == b.ty() && a.bytes() == b.bytes())
        }
        _ => false,
    }
}

/// QLinearWhere.
pub(in crate::onnx) fn choose(n: &mut NodeReader<'_, '_>) -> Results {
    let (condition, x, y) = (n.operand(0, "condition")?, n.operand(1, "X")?, n.operand(4, "Y")?);
    let x_scale = Scale::read(n, 2, "x_scale")?;
    let y_scale = Scale::read(n, 5, "y_scale")?;
    let z_scale = Scale::read(n, 7, "z_scale")?;
    let to = n.dtype(x);
    let (x, y) = (x_scale.real(n, x)?, y_scale.real(n, y)?);
    let chosen = n.choose(condition, x, y)?;
    Ok(vec![z_scale.quantised(n, chosen, to)?])
}

/// Puts channels behind the batch, or back to the end.
fn channels_second(n: &mut NodeReader<'_, '_>, x: Value) -> Result<Value, NodeFault> {
    let mut order: Vec<usize> = (0..n.shape(x).rank()).collect();
    if order.len() > 2 {
        order[1..].rotate_right(1);
    }
    n.transpose(x, &order)
}

fn channels_last(n: &mut NodeReader<'_, '_>, x: Value) -> Result<Value, NodeFault> {
    let mut order: Vec<usize> = (0..n.shape(x).rank()).collect();
    if order.len() > 2 {
        order[1..].rotate_left(1);
    }
    n.transpose(x, &order)
}

/// QLinearAveragePool, on channels where the attribute `channels_last` says.
pub(in crate::onnx) fn average_pool(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, x_scale, y_scale) = one_operand(n)?;
    let last = n.attributes.flag("channels_last", false)?;
    let to = n.dtype(x);
    let real = x_scale.real(n, x)?;
    let real = if last { channels_second(n, real)? } else { real };
    let y = pool::average(n, real)?;
    let y = if last { channels_last(n, y)? } else { y };
    let window = n.attributes.ints("kernel_shape")?.unwrap_or_default().iter().product::<i64>();
    let is_rare = |[x, y]: [KnownScale; 2]| halfway::is_rare_in_means(to, x, y, window.max(1) as usize);
    // Rounded before an even number is added, or with it.
    if y_scale.is_around_even(n) || known(n, [x_scale, y_scale]).is_some_and(is_rare) {
        return Ok(vec![y_scale.quantised(n, y, to)?]);
    }
    let steps = n.binary(BinaryFn::Div, y, y_scale.scale)?;
    Ok(vec![y_scale.rounded_at_once(n, steps, to)?])
}

/// QLinearGlobalAveragePool: integers are added up, and their sum is rescaled once.
pub(in crate::onnx) fn global_average_pool(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, x_scale, y_scale) = one_operand(n)?;
    let last = n.attributes.flag("channels_last", false)?;
    let rank = n.shape(x).rank();
    if rank < 3 {
        return Err(NodeFault::invalid(format!(
            "operand X needs at least one spatial axis, it is {}",
            n.ty(x)
        )));
    }
    let axes: Vec<usize> = if last { (1..rank - 1).collect() } else { (2..rank).collect() };
    let count = axes.iter().map(|&axis| n.shape(x)[axis]).product::<usize>();
    let is_rare =
        |[x_known, y_known]: [KnownScale; 2]| halfway::is_rare_in_means(n.dtype(x), x_known, y_known, count);
    if known(n, [x_scale, y_scale]).is_some_and(is_rare) {
        let to = n.dtype(x);
        let real = x_scale.real(n, x)?;
        let real = if last { channels_second(n, real)? } else { real };
        let kind = PoolKind::Average { count_include_pad: false };
        let y = n.emit(GlobalPool { kind, prologue: Prologue::default(), activation: None }, &[real])?;
        let y = if last { channels_last(n, y)? } else { y };
        return Ok(vec![y_scale.quantised(n, y, to)?]);
    }
    let centred = centred(n, x, x_scale.zero)?;
    let sums = n.reduce(ReduceKind::Sum, centred, axes, true)?;
    let sums = n.cast(sums, DType::F32)?;
    let scale = n.binary_with(BinaryFn::Mul, y_scale.scale, count as f64)?;
    let factor = n.binary(BinaryFn::Div, x_scale.scale, scale)?;
    let y = n.binary(BinaryFn::Mul, sums, factor)?;
    let to = y_scale.zero.map_or(n.dtype(x), |zero| n.dtype(zero));
    Ok(vec![saturated(n, y, y_scale.zero, to)?])
}

/// QLinearReduceMean.
pub(in crate::onnx) fn reduce_mean(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, x_scale, y_scale) = one_operand(n)?;
    let rank = n.shape(x).rank();
    let axes = match n.attributes.ints("axes")? {
        Some(list) => crate::onnx::node::axes(list, rank)?,
        None => (0..rank).collect(),
    };
    let keep_dims = n.attributes.flag("keepdims", true)?;
    let to = n.dtype(x);
    let real = x_scale.real(n, x)?;
    let y = n.reduce(ReduceKind::Mean, real, axes, keep_dims)?;
    Ok(vec![y_scale.quantised(n, y, to)?])
}

/// QLinearConv of this domain: ONNX's, on channels where the attribute `channels_last` says. Weights are as ever.
pub(in crate::onnx) fn conv(n: &mut NodeReader<'_, '_>) -> Results {
    if !n.attributes.flag("channels_last", false)? {
        return quantize::q_linear_conv(n);
    }
    let x = n.operand(0, "x")?;
    let x = channels_second(n, x)?;
    let y = quantize::q_linear_conv_of(n, x)?;
    Ok(vec![channels_last(n, y)?])
}

/// NhwcMaxPool: MaxPool of bytes whose channels are last.
pub(in crate::onnx) fn nhwc_max_pool(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "x")?;
    let x = channels_second(n, x)?;
    let y = pool::maximum(n, x)?;
    Ok(vec![channels_last(n, y)?])
}
