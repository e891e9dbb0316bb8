//! Maps with bytes in them as maps of floats: an unsigned byte is a number that `f32` holds, so are differences of two, and what is cast
//! to a byte after it was rounded is what [storing](crate::code::float::Float) a byte does anyway.
//!
//! ```text
//!   u8(round(f32(i32(a) − i32(z)) · s / t) + z′)        becomes        round((a − z) · s / t) + z′
//! ```
//!
//! So what quantised networks do between their layers goes in the widest vectors, by the same instructions as floats do. Integers that `f32`
//! does not hold, and casts that cut or wrap, are left to [groups](super::group).

use nnc_ir::DType;
use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;

use super::{Constant, Expr};

/// Whole numbers up to here, and sums of two of them, are exact in `f32`.
const LARGEST: f64 = 8_388_608.0;

/// What is known of a number.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// An integer, between these.
    Integer(f64, f64),
    /// A float that is a whole number, or NaN or infinite.
    Whole,
    /// Any float.
    Float,
}

/// The value of a map with unsigned bytes among its operands, or as its result, in floats; `None` for one that is none, or none of bytes.
pub(super) fn in_floats(value: &Expr, operands: &[DType], result: DType) -> Option<Expr> {
    let has_bytes = result == DType::U8 || operands.contains(&DType::U8);
    // What is only moved has no need of numbers.
    if !has_bytes || matches!(value, Expr::Operand(_)) {
        return None;
    }
    match (result, value) {
        (DType::U8, Expr::Cast(DType::U8, x)) => match number(x, operands)? {
            (e, Kind::Whole) => Some(e),
            _ => None,
        },
        (DType::F32 | DType::F16 | DType::BF16, value) => match number(value, operands)? {
            (e, Kind::Float | Kind::Whole) => Some(e),
            _ => None,
        },
        _ => None,
    }
}

/// A number as an expression of floats.
fn number(e: &Expr, operands: &[DType]) -> Option<(Expr, Kind)> {
    let number = |e: &Expr| number(e, operands);
    Some(match e {
        Expr::Operand(i) => match operands.get(*i)? {
            DType::U8 => (e.clone(), Kind::Integer(0.0, 255.0)),
            DType::F32 | DType::F16 | DType::BF16 => (e.clone(), Kind::Float),
            _ => return None,
        },
        Expr::Const(Constant::F32(bits)) => {
            let v = f64::from(f32::from_bits(*bits));
            (e.clone(), if is_small_whole(v) { Kind::Whole } else { Kind::Float })
        }
        Expr::Const(Constant::Int(DType::I32 | DType::U8, v)) => {
            let v = *v as f64;
            is_small_whole(v).then_some((Expr::constant(DType::F32, v), Kind::Integer(v, v)))?
        }
        Expr::Cast(to, x) => {
            let (x, kind) = number(x)?;
            match (to, kind) {
                (DType::I32, Kind::Integer(..)) => (x, kind),
                (DType::U8, Kind::Integer(low, high)) if low >= 0.0 && high <= 255.0 => (x, kind),
                (DType::F32, Kind::Integer(..)) => (x, Kind::Whole),
                (DType::U8, Kind::Whole) => (byte(x), Kind::Integer(0.0, 255.0)),
                _ => return None,
            }
        }
        Expr::Unary(f, x) => {
            let (x, kind) = number(x)?;
            let kind = match (f.0, kind) {
                (_, Kind::Integer(..)) => return None,
                (Unary::Round | Unary::Floor | Unary::Ceil, _) => Kind::Whole,
                (Unary::Clip { min, max }, Kind::Whole) if is_bound(min) && is_bound(max) => Kind::Whole,
                (Unary::Relu, Kind::Whole) => Kind::Whole,
                _ => Kind::Float,
            };
            (Expr::Unary(*f, Box::new(x)), kind)
        }
        Expr::Binary(f, a, b) => {
            let ((a, of_a), (b, of_b)) = (number(a)?, number(b)?);
            let kind = match (f, of_a, of_b) {
                (BinaryFn::Add, Kind::Integer(a, b), Kind::Integer(c, d)) => integer(a + c, b + d)?,
                (BinaryFn::Sub, Kind::Integer(a, b), Kind::Integer(c, d)) => integer(a - d, b - c)?,
                (_, Kind::Integer(..), _) | (_, _, Kind::Integer(..)) => return None,
                // What is too large for the sum to be whole is larger than any byte.
                (BinaryFn::Add | BinaryFn::Sub | BinaryFn::Min | BinaryFn::Max, Kind::Whole, Kind::Whole) => {
                    Kind::Whole
                }
                _ => Kind::Float,
            };
            (Expr::Binary(*f, Box::new(a), Box::new(b)), kind)
        }
        Expr::MulAdd(x, y, z) => {
            let all = [number(x)?, number(y)?, number(z)?];
            if all.iter().any(|(_, kind)| matches!(kind, Kind::Integer(..))) {
                return None;
            }
            let [x, y, z] = all.map(|(e, _)| e);
            (x.mul_add(y, z), Kind::Float)
        }
        Expr::Select(c, a, b) => {
            let Expr::Binary(test, x, y) = &**c else { return None };
            let ((x, of_x), (y, of_y)) = (number(x)?, number(y)?);
            let ((a, of_a), (b, of_b)) = (number(a)?, number(b)?);
            let integers = |a, b| matches!((a, b), (Kind::Integer(..), Kind::Integer(..)));
            let floats = |a, b| ![a, b].iter().any(|kind| matches!(kind, Kind::Integer(..)));
            let kind = match (of_a, of_b) {
                (Kind::Integer(a, b), Kind::Integer(c, d)) => Kind::Integer(a.min(c), b.max(d)),
                (Kind::Whole, Kind::Whole) => Kind::Whole,
                (a, b) if floats(a, b) => Kind::Float,
                _ => return None,
            };
            if !integers(of_x, of_y) && !floats(of_x, of_y) {
                return None;
            }
            (x.binary(*test, y).select(a, b), kind)
        }
        Expr::Const(Constant::F64(_) | Constant::Int(..)) => return None,
        Expr::Index(_) | Expr::Acc(_) | Expr::Entry(..) => return None,
    })
}

/// The byte that a whole number becomes; NaN becomes 0.
fn byte(x: Expr) -> Expr {
    let number = |v: f64| Expr::constant(DType::F32, v);
    let is_positive = number(0.0).binary(BinaryFn::Less, x.clone());
    is_positive.select(x.binary(BinaryFn::Min, number(255.0)), number(0.0))
}

fn integer(low: f64, high: f64) -> Option<Kind> {
    (low.abs() <= LARGEST && high.abs() <= LARGEST).then_some(Kind::Integer(low, high))
}

fn is_small_whole(v: f64) -> bool {
    v.fract() == 0.0 && v.abs() <= LARGEST
}

/// Whether a bound keeps whole numbers whole.
fn is_bound(v: f32) -> bool {
    v.is_infinite() || is_small_whole(v.into())
}

#[cfg(test)]
mod tests {
    use std::ops::{Add, Div, Mul, Sub};

    use super::*;

    fn operand(i: usize) -> Expr {
        Expr::Operand(i)
    }

    fn wide(e: Expr) -> Expr {
        e.cast(DType::U8, DType::I32)
    }

    /// `(q − z) · s` of operands 0 to 2.
    fn real() -> Expr {
        wide(operand(0)).sub(wide(operand(1))).cast(DType::I32, DType::F32).mul(operand(2))
    }

    #[test]
    fn steps_become_floats_and_back() {
        let types = [DType::U8, DType::U8, DType::F32];
        let in_f32 = operand(0).sub(operand(1)).mul(operand(2));
        assert_eq!(in_floats(&real(), &types, DType::F32), Some(in_f32.clone()));
        let zero = operand(1).cast(DType::U8, DType::F32);
        let steps = real().div(operand(2)).unary(Unary::Round).add(zero);
        let in_f32 = in_f32.div(operand(2)).unary(Unary::Round).add(operand(1));
        assert_eq!(in_floats(&steps.cast(DType::F32, DType::U8), &types, DType::U8), Some(in_f32));
    }

    #[test]
    fn what_cuts_wraps_or_is_too_large_stays_with_integers() {
        let types = [DType::U8, DType::I32, DType::F32];
        let none = |e: Expr, result: DType| assert_eq!(in_floats(&e, &types, result), None, "{e:?}");
        none(operand(2).cast(DType::F32, DType::U8), DType::U8);
        none(wide(operand(0)).sub(operand(1)).cast(DType::I32, DType::F32), DType::F32);
        none(wide(operand(0)).sub(wide(operand(0))).cast(DType::I32, DType::U8), DType::U8);
        none(operand(0), DType::U8);
        none(operand(2).unary(Unary::Exp), DType::F64);
        none(operand(0).add(operand(0)), DType::U8);
        let far = Expr::constant(DType::I32, 16_777_217.0);
        none(wide(operand(0)).add(far).cast(DType::I32, DType::F32), DType::F32);
        assert_eq!(in_floats(&operand(0).unary(Unary::Exp), &[DType::F32], DType::F32), None, "no bytes");
    }
}
