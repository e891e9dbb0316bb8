//! What the `infer` of every operator asks about its operands: presence, element type, shape.

use super::{OpError, Types, Unary, required};
use crate::types::{DType, Shape, TensorType};

/// Refuses operands beyond the first `max`.
pub(crate) fn at_most<T>(operands: &[Option<T>], max: usize) -> Result<(), OpError> {
    match operands.iter().rposition(Option::is_some) {
        Some(last) if last >= max => Err(OpError::TooMany { max, got: last + 1 }),
        _ => Ok(()),
    }
}

/// The error for an operand whose type does not fit.
pub(crate) fn unfit(index: usize, name: &str, ty: &TensorType, expected: impl std::fmt::Display) -> OpError {
    OpError::Mismatch(format!("operand {index} ({name}) has type {ty}, expected {expected}"))
}

/// The operand at a position, whose elements must be floating-point numbers.
pub(crate) fn float<'a>(
    operands: &Types<'a>,
    index: usize,
    name: &'static str,
) -> Result<&'a TensorType, OpError> {
    let ty = required(operands, index, name)?;
    if ty.dtype.is_float() { Ok(ty) } else { Err(unfit(index, name, ty, "floating-point elements")) }
}

/// The operand at a position as floats of rank `rank` or more: a batch, channels, and so on.
pub(crate) fn float_of_rank<'a>(
    operands: &Types<'a>,
    index: usize,
    name: &'static str,
    rank: usize,
) -> Result<&'a TensorType, OpError> {
    let ty = float(operands, index, name)?;
    if ty.shape.rank() >= rank {
        Ok(ty)
    } else {
        Err(unfit(index, name, ty, format_args!("rank {rank} or more")))
    }
}

/// The operand at a position must have this element type.
pub(crate) fn dtype(index: usize, name: &str, ty: &TensorType, expected: DType) -> Result<(), OpError> {
    if ty.dtype == expected {
        Ok(())
    } else {
        Err(unfit(index, name, ty, format_args!("elements of type {expected}")))
    }
}

/// A parameter of a layer must have elements of the layer's type. Beside half floats it may be `f32`: what passes fold into
/// it is not rounded to them.
pub(crate) fn parameter(index: usize, name: &str, ty: &TensorType, layer: DType) -> Result<(), OpError> {
    match (layer, ty.dtype) {
        (DType::F16 | DType::BF16, DType::F32) => Ok(()),
        _ => dtype(index, name, ty, layer),
    }
}

/// The operand at a position must be a parameter for each of so many channels.
pub(crate) fn parameters(
    operands: &Types<'_>,
    index: usize,
    name: &'static str,
    layer: DType,
    channels: usize,
) -> Result<(), OpError> {
    let ty = required(operands, index, name)?;
    let expected = TensorType::new(layer, [channels]);
    match parameter(index, name, ty, layer) {
        Ok(()) if ty.shape == expected.shape => Ok(()),
        _ => Err(unfit(index, name, ty, expected)),
    }
}

/// The operand at a position must be exactly of this type.
pub(crate) fn exactly(
    operands: &Types<'_>,
    index: usize,
    name: &'static str,
    expected: &TensorType,
) -> Result<(), OpError> {
    let ty = required(operands, index, name)?;
    if ty == expected { Ok(()) } else { Err(unfit(index, name, ty, expected)) }
}

/// The operand at a position must be absent, because `why`.
pub(crate) fn absent(
    operands: &Types<'_>,
    index: usize,
    name: &'static str,
    why: &str,
) -> Result<(), OpError> {
    match operands.get(index) {
        Some(Some(ty)) => Err(unfit(index, name, ty, format_args!("none: {why}"))),
        _ => Ok(()),
    }
}

/// A result of this type, if a buffer of it can exist: not even a dense buffer of `max(extent, 1)` elements along
/// each axis may overflow, so that strides and offsets never do.
pub(crate) fn result(dtype: DType, dims: Vec<usize>) -> Result<TensorType, OpError> {
    let bytes = dims.iter().try_fold(dtype.bytes(), |n, &d| n.checked_mul(d.max(1)));
    match bytes {
        Some(n) if isize::try_from(n).is_ok() => Ok(TensorType::new(dtype, dims)),
        _ => Err(OpError::Overflow),
    }
}

/// The shape that both broadcast to by numpy's rules, or `None`.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    (0..rank)
        .map(|axis| match (extent(a, axis), extent(b, axis)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// Whether `from` broadcasts to exactly `to`.
pub(crate) fn broadcasts_to(from: &[usize], to: &[usize]) -> bool {
    broadcast(from, to).is_some_and(|shape| shape == to)
}

/// The shape that two operands broadcast to, or an error that shows both.
pub(crate) fn broadcast_types(a: &TensorType, b: &TensorType) -> Result<Vec<usize>, OpError> {
    broadcast(&a.shape, &b.shape)
        .ok_or_else(|| OpError::Mismatch(format!("types {a} and {b} do not broadcast against each other")))
}

/// Attribute `axis` must name an axis of the operand.
pub(crate) fn axis(axis: usize, shape: &Shape) -> Result<(), OpError> {
    if axis < shape.rank() {
        Ok(())
    } else {
        Err(OpError::Mismatch(format!(
            "axis {axis} does not exist in shape {shape} of rank {}",
            shape.rank()
        )))
    }
}

/// An activation that is applied to a result must take elements of its type and give them back.
pub(crate) fn activation(activation: Option<Unary>, ty: &TensorType) -> Result<(), OpError> {
    match activation {
        None => Ok(()),
        Some(unary) => match unary.result_dtype(ty.dtype) {
            Some(result) if result == ty.dtype => Ok(()),
            _ => Err(OpError::Mismatch(format!(
                "activation {unary:?} does not map elements of type {} to the same type",
                ty.dtype
            ))),
        },
    }
}

/// `n · m · …`, or the largest number.
pub(crate) fn count<'a>(factors: impl IntoIterator<Item = &'a usize>) -> u64 {
    factors.into_iter().fold(1u64, |n, &f| n.saturating_mul(f as u64))
}

/// Elements of all results.
pub(crate) fn result_elems(results: &[TensorType]) -> u64 {
    results.iter().fold(0, |n, ty| n.saturating_add(count(ty.shape.iter())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_no_larger_than_half_of_what_can_be_addressed() {
        assert!(result(DType::U8, vec![1 << 62]).is_ok());
        assert_eq!(result(DType::U8, vec![1 << 62, 2]), Err(OpError::Overflow));
        assert_eq!(result(DType::U8, vec![1 << 62, 4]), Err(OpError::Overflow));
        assert_eq!(
            result(DType::F32, vec![0, 1 << 62]),
            Err(OpError::Overflow),
            "its strides would overflow"
        );
    }
}
