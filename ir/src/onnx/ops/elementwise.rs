//! Operators of several operands, element by element, with broadcasting.

use super::{Results, reshaped};
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::dtype::dtype;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis};
use crate::op::elementwise::BinaryFn;
use crate::op::{Binary, BitCast, Cast, Where};
use crate::types::DType;

fn apply(n: &mut NodeReader<'_, '_>, function: BinaryFn, a: Value, b: Value) -> Result<Value, NodeFault> {
    n.emit(Binary { function, activation: None }, &[a, b])
}

/// All operators of two operands that are a [`BinaryFn`].
pub(in crate::onnx) fn binary(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, b) = operands(n)?;
    let function = match n.op() {
        "Add" => BinaryFn::Add,
        "Sub" => BinaryFn::Sub,
        "Mul" => BinaryFn::Mul,
        "Div" => BinaryFn::Div,
        "Mod" => BinaryFn::Mod { fmod: n.attributes.flag("fmod", false)? },
        "Equal" => BinaryFn::Equal,
        "Less" => BinaryFn::Less,
        "LessOrEqual" => BinaryFn::LessOrEqual,
        "Greater" => BinaryFn::Greater,
        "GreaterOrEqual" => BinaryFn::GreaterOrEqual,
        "And" => BinaryFn::And,
        "Or" => BinaryFn::Or,
        "Xor" => BinaryFn::Xor,
        "BitwiseAnd" => BinaryFn::BitAnd,
        "BitwiseOr" => BinaryFn::BitOr,
        "BitwiseXor" => BinaryFn::BitXor,
        "BitShift" => match n.attributes.string("direction")? {
            Some("LEFT") => BinaryFn::ShiftLeft,
            Some("RIGHT") => BinaryFn::ShiftRight,
            _ => return Err(value("direction", "must be \"LEFT\" or \"RIGHT\"")),
        },
        other => return Err(NodeFault::unsupported(format!("{other} as a function of two elements"))),
    };
    Ok(vec![apply(n, function, a, b)?])
}

/// The operands. Before opset 7, B has A's shape, or attributes say along which axes of A its own lie:
///
/// ```text
///   A [2, 3, 4, 5]  B [3, 4]  axis 1  ─▶  B [3, 4, 1]        without an axis they lie at the end
/// ```
fn operands(n: &mut NodeReader<'_, '_>) -> Result<(Value, Value), NodeFault> {
    let (a, b) = (n.operand(0, "A")?, n.operand(1, "B")?);
    if n.opset >= 7 {
        return Ok((a, b));
    }
    n.attributes.ignore("consumed_inputs");
    let broadcast = n.attributes.flag("broadcast", false)?;
    let along = n.attributes.int("axis")?;
    let (whole, part) = (n.shape(a), n.shape(b));
    let unfit = || NodeFault::invalid(format!("B of shape {part} does not broadcast to A of shape {whole}"));
    let first = match along {
        Some(along) if broadcast => axis(along, whole.rank())?,
        _ => whole.rank().checked_sub(part.rank()).ok_or_else(unfit)?,
    };
    let behind = whole.rank().checked_sub(first + part.rank()).ok_or_else(unfit)?;
    let same = part.iter().zip(&whole[first..]).all(|(p, w)| p == w || (broadcast && *p == 1));
    if !same || (!broadcast && part != whole) {
        return Err(unfit());
    }
    let b = reshaped(n, b, part.iter().copied().chain(std::iter::repeat_n(1, behind)).collect())?;
    Ok((a, b))
}

/// Pow; since 12 the exponent may have another type. The result has the base's.
pub(in crate::onnx) fn pow(n: &mut NodeReader<'_, '_>) -> Results {
    let (base, exponent) = operands(n)?;
    let (to, by) = (n.dtype(base), n.dtype(exponent));
    if to == by {
        return Ok(vec![apply(n, BinaryFn::Pow, base, exponent)?]);
    }
    // Computed in the base's type, unless that would cut the exponent's fraction off.
    let common = if by.is_float() && !to.is_float() { by } else { to };
    let base = cast(n, base, common)?;
    let exponent = cast(n, exponent, common)?;
    let y = apply(n, BinaryFn::Pow, base, exponent)?;
    Ok(vec![cast(n, y, to)?])
}

/// Max, Min, Sum and Mean, of any number of operands.
pub(in crate::onnx) fn variadic(n: &mut NodeReader<'_, '_>) -> Results {
    let function = match n.op() {
        "Max" => BinaryFn::Max,
        "Min" => BinaryFn::Min,
        _ => BinaryFn::Add,
    };
    n.attributes.ignore("consumed_inputs");
    let operands = n.operands("data")?;
    let mut y = operands[0];
    for &operand in &operands[1..] {
        y = apply(n, function, y, operand)?;
    }
    if n.op() == "Mean" && operands.len() > 1 {
        let count = n.scalar(n.dtype(y), operands.len() as f64)?;
        y = apply(n, BinaryFn::Div, y, count)?;
    }
    Ok(vec![y])
}

/// BitwiseNot, since 18: exclusive or with all ones.
pub(in crate::onnx) fn bitwise_not(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let dtype = n.dtype(x);
    let ones = crate::tensor::Tensor::from_bytes(
        crate::types::TensorType::new(dtype, Vec::new()),
        vec![0xff; dtype.bytes()],
    )?;
    if dtype.is_float() || dtype == DType::Bool {
        return Err(NodeFault::invalid(format!("X must hold integers, it holds {dtype}")));
    }
    let ones = n.add_constant(ones);
    Ok(vec![apply(n, BinaryFn::BitXor, x, ones)?])
}

/// Where, since 9.
pub(in crate::onnx) fn select(n: &mut NodeReader<'_, '_>) -> Results {
    let operands = [n.operand(0, "condition")?, n.operand(1, "X")?, n.operand(2, "Y")?];
    Ok(vec![n.emit(Where, &operands)?])
}

/// Cast; before opset 6 the type is given by its name.
pub(in crate::onnx) fn cast_to(n: &mut NodeReader<'_, '_>) -> Results {
    const NAMES: [&str; 17] = [
        "UNDEFINED",
        "FLOAT",
        "UINT8",
        "INT8",
        "UINT16",
        "INT16",
        "INT32",
        "INT64",
        "STRING",
        "BOOL",
        "FLOAT16",
        "DOUBLE",
        "UINT32",
        "UINT64",
        "COMPLEX64",
        "COMPLEX128",
        "BFLOAT16",
    ];
    let x = n.operand(0, "input")?;
    let code = if n.opset >= 6 {
        n.attributes.int("to")?
    } else {
        let name = n.attributes.string("to")?;
        name.map(|name| NAMES.iter().position(|known| *known == name).unwrap_or(0) as i64)
    };
    let Some(code) = code else {
        return Err(value("to", "is missing"));
    };
    let to = dtype(code).map_err(|what| value("to", format!("asks for {what}")))?;
    // Both are about 8-bit floats.
    n.attributes.ignore("saturate");
    n.attributes.ignore("round_mode");
    Ok(vec![cast(n, x, to)?])
}

/// CastLike, since 15.
pub(in crate::onnx) fn cast_like(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, like) = (n.operand(0, "input")?, n.operand(1, "target_type")?);
    n.attributes.ignore("saturate");
    n.attributes.ignore("round_mode");
    let to = n.dtype(like);
    Ok(vec![cast(n, x, to)?])
}

/// BitCast, since 26.
pub(in crate::onnx) fn bit_cast(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let Some(code) = n.attributes.int("to")? else {
        return Err(value("to", "is missing"));
    };
    let to = dtype(code).map_err(|what| value("to", format!("asks for {what}")))?;
    if n.dtype(x) == to {
        return Ok(vec![x]);
    }
    Ok(vec![n.emit(BitCast { to }, &[x])?])
}

fn cast(n: &mut NodeReader<'_, '_>, x: Value, to: DType) -> Result<Value, NodeFault> {
    if n.dtype(x) == to { Ok(x) } else { n.emit(Cast { to }, &[x]) }
}
