//! Functions of one element, and Clip, PRelu and Softmax.

use super::{Results, product, reshaped};
use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis, number};
use crate::op::elementwise::BinaryFn;
use crate::op::{Binary, LogSoftmax, ReduceKind, Softmax, Unary};
use crate::types::DType;

/// All operators of one operand that are a [`Unary`].
pub(in crate::onnx) fn unary(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let op = n.op();
    let a = &mut n.attributes;
    a.ignore("consumed_inputs");
    let mut float =
        |name: &str, default: f32| -> Result<f32, NodeFault> { Ok(a.float(name)?.unwrap_or(default)) };
    let unary = match op {
        "Relu" => Unary::Relu,
        "LeakyRelu" => Unary::LeakyRelu { alpha: float("alpha", 0.01)? },
        "ThresholdedRelu" => Unary::ThresholdedRelu { alpha: float("alpha", 1.0)? },
        "Sigmoid" => Unary::Sigmoid,
        "HardSigmoid" => Unary::HardSigmoid { alpha: float("alpha", 0.2)?, beta: float("beta", 0.5)? },
        "HardSwish" => Unary::HardSwish,
        "Tanh" => Unary::Tanh,
        "Elu" => Unary::Elu { alpha: float("alpha", 1.0)? },
        "Celu" => Unary::Celu { alpha: float("alpha", 1.0)? },
        "Selu" => Unary::Selu { alpha: float("alpha", 1.673_263_2)?, gamma: float("gamma", 1.050_701)? },
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        "Mish" => Unary::Mish,
        "Gelu" => Unary::Gelu { tanh: a.choice("approximate", false, &[("none", false), ("tanh", true)])? },
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Log" => Unary::Log,
        "Sqrt" => Unary::Sqrt,
        "Reciprocal" => Unary::Reciprocal,
        "Abs" => Unary::Abs,
        "Neg" => Unary::Neg,
        "Sign" => Unary::Sign,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "Round" => Unary::Round,
        "Sin" => Unary::Sin,
        "Cos" => Unary::Cos,
        "Tan" => Unary::Tan,
        "Asin" => Unary::Asin,
        "Acos" => Unary::Acos,
        "Atan" => Unary::Atan,
        "Sinh" => Unary::Sinh,
        "Cosh" => Unary::Cosh,
        "Asinh" => Unary::Asinh,
        "Acosh" => Unary::Acosh,
        "Atanh" => Unary::Atanh,
        "Not" => Unary::Not,
        "IsNaN" => Unary::IsNan,
        "IsInf" => Unary::IsInf {
            negative: a.flag("detect_negative", true)?,
            positive: a.flag("detect_positive", true)?,
        },
        other => return Err(NodeFault::unsupported(format!("{other} as a function of one element"))),
    };
    Ok(vec![n.emit(unary, &[x])?])
}

/// Swish, since 24: `x · sigmoid(alpha · x)`.
pub(in crate::onnx) fn swish(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let alpha = n.attributes.float("alpha")?.unwrap_or(1.0);
    Ok(vec![swish_of(n, x, alpha)?])
}

pub(super) fn swish_of(n: &mut NodeReader<'_, '_>, x: Value, alpha: f32) -> Result<Value, NodeFault> {
    if alpha == 1.0 {
        return n.emit(Unary::Silu, &[x]);
    }
    let scale = n.scalar(n.dtype(x), f64::from(alpha))?;
    let multiply = Binary { function: BinaryFn::Mul, activation: None };
    let scaled = n.emit(Binary { activation: Some(Unary::Sigmoid), ..multiply.clone() }, &[x, scale])?;
    n.emit(multiply, &[x, scaled])
}

/// Shrink, since 9: `x + bias` below `−lambd`, `x − bias` above `lambd`, 0 in between.
pub(in crate::onnx) fn shrink(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let bias = f64::from(n.attributes.float("bias")?.unwrap_or(0.0));
    let lambd = f64::from(n.attributes.float("lambd")?.unwrap_or(0.5));
    let below = n.binary_with(BinaryFn::Less, x, -lambd)?;
    let above = n.binary_with(BinaryFn::Greater, x, lambd)?;
    let raised = n.binary_with(BinaryFn::Add, x, bias)?;
    let lowered = n.binary_with(BinaryFn::Sub, x, bias)?;
    let zero = n.scalar(n.dtype(x), 0.0)?;
    let y = n.choose(above, lowered, zero)?;
    Ok(vec![n.choose(below, raised, y)?])
}

/// Hardmax: 1 for the first largest element along an axis (since 13) or of all axes from one on (before), 0 elsewhere.
pub(in crate::onnx) fn hardmax(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let (shape, dtype) = (n.shape(x), n.dtype(x));
    let default = if n.opset >= 13 { -1 } else { 1 };
    let first = axis(n.attributes.int("axis")?.unwrap_or(default), shape.rank())?;
    let last = if n.opset >= 13 { first + 1 } else { shape.rank() };
    let (rows, columns, rest) =
        (product(&shape[..first])?, product(&shape[first..last])?, product(&shape[last..])?);
    let flat = n.reshape(x, [rows, columns, rest])?;
    let best = n.reduce(ReduceKind::ArgMax { last: false }, flat, vec![1], true)?;
    let columns = n.counting(DType::I64, [1, columns, 1])?;
    let along = [1i64.into(), n.extent(flat, 1), 1i64.into()];
    let columns = n.as_far(columns, &along)?;
    let equal = n.binary(BinaryFn::Equal, columns, best)?;
    let y = n.cast(equal, dtype)?;
    Ok(vec![n.reshape(y, shape.to_vec())?])
}

/// Clip before opset 11: bounds are attributes, and elements floats.
pub(in crate::onnx) fn clip_attributes(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    n.attributes.ignore("consumed_inputs");
    let min = n.attributes.float("min")?.unwrap_or(f32::MIN);
    let max = n.attributes.float("max")?.unwrap_or(f32::MAX);
    Ok(vec![n.emit(Unary::Clip { min, max }, &[x])?])
}

/// Clip since 11: bounds are operands. Constant bounds of floats become one operator; the rest is a maximum and
/// a minimum.
pub(in crate::onnx) fn clip(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, min, max) = (n.operand(0, "input")?, n.optional(1)?, n.optional(2)?);
    if let (Some(min), Some(max)) = (bound(n, x, min, f32::MIN)?, bound(n, x, max, f32::MAX)?) {
        return Ok(vec![n.emit(Unary::Clip { min, max }, &[x])?]);
    }
    let mut y = x;
    for (limit, function) in [(min, BinaryFn::Max), (max, BinaryFn::Min)] {
        if let Some(limit) = limit {
            if n.ty(limit).shape.elems() != 1 {
                return Err(NodeFault::invalid(format!("a bound must be a scalar, it is {}", n.ty(limit))));
            }
            let limit = reshaped(n, limit, Vec::new())?;
            y = n.emit(Binary { function, activation: None }, &[y, limit])?;
        }
    }
    Ok(vec![y])
}

/// A bound of a Clip over floats, when it is a constant that `f32` holds exactly.
fn bound(
    n: &NodeReader<'_, '_>,
    x: Value,
    operand: Option<Value>,
    absent: f32,
) -> Result<Option<f32>, NodeFault> {
    if !matches!(n.dtype(x), DType::F32 | DType::F16 | DType::BF16) {
        return Ok(None);
    }
    let Some(operand) = operand else {
        return Ok(Some(absent));
    };
    match n.constant_of(operand) {
        Some(tensor) if tensor.dtype() == n.dtype(x) => Ok(Some(number(tensor, "of a bound")? as f32)),
        _ => Ok(None),
    }
}

/// PRelu: the slope broadcasts to X; before opset 7 it is one number, or one for each channel.
pub(in crate::onnx) fn prelu(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, mut slope) = (n.operand(0, "X")?, n.operand(1, "slope")?);
    if n.opset < 7 {
        n.attributes.ignore("consumed_inputs");
        let rank = n.ty(x).shape.rank();
        let count = product(&n.shape(slope))?;
        let mut shape = vec![1; rank];
        if let Some(channels) = shape.get_mut(1) {
            *channels = count;
        }
        slope = reshaped(n, slope, shape)?;
    }
    let y = n.emit(Binary { function: BinaryFn::PRelu, activation: None }, &[x, slope])?;
    if n.ty(y) != n.ty(x) {
        return Err(NodeFault::invalid(format!(
            "the slope {} does not broadcast to X, {}",
            n.ty(slope),
            n.ty(x)
        )));
    }
    Ok(vec![y])
}

/// Softmax and LogSoftmax, since 13: along one axis.
pub(in crate::onnx) fn softmax(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let along = axis(n.attributes.int("axis")?.unwrap_or(-1), n.ty(x).shape.rank())?;
    Ok(vec![along_axis(n, x, along)?])
}

/// Softmax and LogSoftmax before 13: over all axes from one on, as if they were flattened.
pub(in crate::onnx) fn softmax_flattened(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let shape = n.shape(x);
    let first = axis(n.attributes.int("axis")?.unwrap_or(1), shape.rank())?;
    let rows = product(&shape[..first])?;
    let columns = product(&shape[first..])?;
    // With one axis in which anything varies, flattening changes nothing.
    if columns == shape[first] {
        return Ok(vec![along_axis(n, x, first)?]);
    }
    let flat = reshaped(n, x, vec![rows, columns])?;
    let y = along_axis(n, flat, 1)?;
    Ok(vec![reshaped(n, y, shape.to_vec())?])
}

fn along_axis(n: &mut NodeReader<'_, '_>, x: Value, axis: usize) -> Result<Value, NodeFault> {
    if n.op() == "LogSoftmax" { n.emit(LogSoftmax { axis }, &[x]) } else { n.emit(Softmax { axis }, &[x]) }
}
