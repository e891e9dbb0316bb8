//! Cranelift IR for the functions of an [`Expr`](super::Expr), for one element or four lanes of `f32`.
//!
//! Booleans are one byte, 0 or 1; in lanes they are masks of ones and zeros.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use cranelift_frontend::FunctionBuilder;
use nnc_ir::DType;
use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;

use super::expr::Constant;
use crate::code::half;
use crate::code::math::{Math, power};

/// The Cranelift type of an element; `None` for `f16` and `bf16`, which are `f32` once they are loaded.
pub(in crate::code) fn element_type(dtype: DType) -> Option<Type> {
    Some(match dtype {
        DType::F32 => types::F32,
        DType::F64 => types::F64,
        DType::I8 | DType::U8 | DType::Bool => types::I8,
        DType::I16 | DType::U16 => types::I16,
        DType::I32 | DType::U32 => types::I32,
        DType::I64 | DType::U64 => types::I64,
        DType::F16 | DType::BF16 => return None,
    })
}

/// Whether an integer type has negative numbers.
pub(super) fn is_signed(dtype: DType) -> bool {
    match dtype {
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => true,
        DType::U8 | DType::U16 | DType::U32 | DType::U64 | DType::Bool => false,
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => false,
    }
}

/// Whether a function is written for lanes; the others are computed one by one, in `f64`.
pub(in crate::code) fn has_vector_unary(function: Unary) -> bool {
    use Unary::*;
    match function {
        Relu | Clip { .. } | LeakyRelu { .. } | ThresholdedRelu { .. } | Sigmoid | HardSigmoid { .. } => true,
        HardSwish | Silu | Tanh | Elu { .. } | Celu { .. } | Selu { .. } | Softplus | Softsign | Mish => true,
        Gelu { .. } | Erf | Exp | Log | Sqrt | Reciprocal | Abs | Neg | Sign | Floor | Ceil | Round => true,
        IsNan | IsInf { .. } => true,
        Power { exponent } => power::Power::of(exponent).is_some(),
        Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh | Asinh | Acosh | Atanh | Not => false,
    }
}

/// Whether a function is written for lanes of `f64`: all but those that take as many steps as they need.
pub(in crate::code) fn has_wide_unary(function: Unary) -> bool {
    !matches!(function, Unary::Erf | Unary::Gelu { tanh: false } | Unary::Not)
}

/// Whether a function of `f32` is written for lanes.
pub(in crate::code) fn has_vector_binary(function: BinaryFn) -> bool {
    use BinaryFn::*;
    match function {
        Add | Sub | Mul | Div | Min | Max | PRelu => true,
        Equal | Less | LessOrEqual | Greater | GreaterOrEqual => true,
        Pow | Mod { .. } | And | Or | Xor | BitAnd | BitOr | BitXor | ShiftLeft | ShiftRight => false,
    }
}

/// Whether a function can be compiled for elements of a type.
pub(in crate::code) fn supports_unary(function: Unary, dtype: DType) -> bool {
    element_type(dtype).is_some() && function.result_dtype(dtype).is_some()
}

/// A constant; in all lanes when `lanes` says so.
pub(in crate::code) fn constant(b: &mut FunctionBuilder<'_>, constant: Constant, lanes: bool) -> Value {
    match constant {
        Constant::F32(bits) if lanes => Math::new(b, types::F32X4).constant(f64::from(f32::from_bits(bits))),
        Constant::F32(bits) => b.ins().f32const(f32::from_bits(bits)),
        Constant::F64(bits) => b.ins().f64const(f64::from_bits(bits)),
        Constant::Int(dtype, v) => int(b, dtype, v),
    }
}

/// An integer constant; what does not fit wraps around.
fn int(b: &mut FunctionBuilder<'_>, dtype: DType, v: i64) -> Value {
    match dtype.bytes() {
        1 => b.ins().iconst(types::I8, i64::from(v as u8)),
        2 => b.ins().iconst(types::I16, i64::from(v as u16)),
        4 => b.ins().iconst(types::I32, i64::from(v as u32)),
        _ => b.ins().iconst(types::I64, v),
    }
}

/// `function(x)`, with `x` of type `dtype`.
pub(in crate::code) fn unary(
    b: &mut FunctionBuilder<'_>,
    function: Unary,
    dtype: DType,
    x: Value,
    lanes: bool,
) -> Value {
    match dtype {
        DType::F32 if lanes => float_unary(&mut Math::new(b, types::F32X4), function, x),
        DType::F32 if has_vector_unary(function) => float_unary(&mut Math::new(b, types::F32), function, x),
        DType::F32 => {
            let wide = b.ins().fpromote(types::F64, x);
            let y = float_unary(&mut Math::new(b, types::F64), function, wide);
            b.ins().fdemote(types::F32, y)
        }
        DType::F64 if lanes => float_unary(&mut Math::new(b, types::F64X2), function, x),
        DType::F64 => float_unary(&mut Math::new(b, types::F64), function, x),
        _ => int_unary(b, function, dtype, x),
    }
}

fn float_unary(m: &mut Math<'_, '_>, function: Unary, x: Value) -> Value {
    match function {
        Unary::Relu => {
            let zero = m.constant(0.0);
            m.max(zero, x)
        }
        Unary::Clip { min, max } => m.clamp(x, min.into(), max.into()),
        Unary::LeakyRelu { alpha } => {
            let scaled = m.scaled(x, alpha.into());
            let negative = m.below(x, 0.0);
            m.select(negative, scaled, x)
        }
        Unary::ThresholdedRelu { alpha } => {
            let zero = m.constant(0.0);
            let above = m.above(x, alpha.into());
            m.select(above, x, zero)
        }
        Unary::Sigmoid => m.sigmoid(x),
        Unary::HardSigmoid { alpha, beta } => {
            let y = m.scaled(x, alpha.into());
            let y = m.plus(y, beta.into());
            m.clamp(y, 0.0, 1.0)
        }
        Unary::HardSwish => {
            let y = m.scaled(x, 1.0 / 6.0);
            let y = m.plus(y, 0.5);
            let y = m.clamp(y, 0.0, 1.0);
            m.mul(x, y)
        }
        Unary::Silu => {
            let y = m.sigmoid(x);
            m.mul(x, y)
        }
        Unary::Tanh => m.tanh(x),
        Unary::Elu { alpha } => {
            let y = m.expm1(x);
            let y = m.scaled(y, alpha.into());
            let negative = m.below(x, 0.0);
            m.select(negative, y, x)
        }
        Unary::Celu { alpha } => {
            let alpha = m.constant(alpha.into());
            let y = m.div(x, alpha);
            let y = m.expm1(y);
            let y = m.mul(y, alpha);
            let negative = m.below(x, 0.0);
            m.select(negative, y, x)
        }
        Unary::Selu { alpha, gamma } => {
            let y = m.expm1(x);
            let y = m.scaled(y, alpha.into());
            let positive = m.above(x, 0.0);
            let y = m.select(positive, x, y);
            m.scaled(y, gamma.into())
        }
        Unary::Softplus => m.softplus(x),
        Unary::Softsign => {
            let below = m.abs(x);
            let below = m.plus(below, 1.0);
            m.div(x, below)
        }
        Unary::Mish => m.mish(x),
        Unary::Gelu { tanh: false } => m.gelu(x),
        Unary::Gelu { tanh: true } => m.gelu_tanh(x),
        Unary::Erf => m.erf(x),
        Unary::Exp => m.exp(x),
        Unary::Log => m.log(x),
        Unary::Sqrt => m.b.ins().sqrt(x),
        Unary::Power { exponent } => match power::Power::of(exponent) {
            Some(power) => m.power(x, power),
            None => {
                let exponent = m.constant(exponent.into());
                m.pow(x, exponent)
            }
        },
        Unary::Reciprocal => {
            let one = m.constant(1.0);
            m.div(one, x)
        }
        Unary::Abs => m.abs(x),
        Unary::Neg => m.b.ins().fneg(x),
        Unary::Sign => {
            // 0 and NaN stay.
            let one = m.constant(1.0);
            let unit = m.with_sign(one, x);
            let zero = m.constant(0.0);
            let (below, above) = (m.below(x, 0.0), m.compare(FloatCC::LessThan, zero, x));
            let is_number = m.b.ins().bor(below, above);
            m.select(is_number, unit, x)
        }
        Unary::Floor => m.b.ins().floor(x),
        Unary::Ceil => m.b.ins().ceil(x),
        Unary::Round => m.b.ins().nearest(x),
        Unary::Sin => m.sin(x),
        Unary::Cos => m.cos(x),
        Unary::Tan => m.tan(x),
        Unary::Asin => m.asin(x),
        Unary::Acos => m.acos(x),
        Unary::Atan => m.atan(x),
        Unary::Sinh => m.sinh(x),
        Unary::Cosh => m.cosh(x),
        Unary::Asinh => m.asinh(x),
        Unary::Acosh => m.acosh(x),
        Unary::Atanh => m.atanh(x),
        Unary::IsNan => m.compare(FloatCC::NotEqual, x, x),
        Unary::IsInf { negative, positive } => {
            let found = |m: &mut Math<'_, '_>, asked: bool, v: f64| {
                // Nothing equals NaN.
                let v = m.constant(if asked { v } else { f64::NAN });
                m.compare(FloatCC::Equal, x, v)
            };
            let low = found(m, negative, f64::NEG_INFINITY);
            let high = found(m, positive, f64::INFINITY);
            m.b.ins().bor(low, high)
        }
        // Not defined for floats: the types of the nest were checked.
        Unary::Not => x,
    }
}

fn int_unary(b: &mut FunctionBuilder<'_>, function: Unary, dtype: DType, x: Value) -> Value {
    let signed = is_signed(dtype);
    match function {
        Unary::Not => b.ins().bxor_imm_s(x, 1),
        Unary::Relu if signed => int_clip(b, dtype, x, Some(0), None),
        Unary::Clip { min, max } => {
            let (min, max) = int_bounds(dtype, min, max);
            int_clip(b, dtype, x, min, max)
        }
        Unary::Abs if signed => b.ins().iabs(x),
        Unary::Neg => b.ins().ineg(x),
        Unary::Sign => {
            let (minus, zero, one) = (int(b, dtype, -1), int(b, dtype, 0), int(b, dtype, 1));
            let negative = b.ins().icmp_imm_s(IntCC::SignedLessThan, x, 0);
            let is_zero = b.ins().icmp_imm_s(IntCC::Equal, x, 0);
            let y = if signed { b.ins().select(negative, minus, one) } else { one };
            b.ins().select(is_zero, zero, y)
        }
        // Unsigned numbers are their own size.
        Unary::Relu | Unary::Abs => x,
        // Not defined for integers: the types of the nest were checked.
        Unary::LeakyRelu { .. }
        | Unary::ThresholdedRelu { .. }
        | Unary::Sigmoid
        | Unary::HardSigmoid { .. }
        | Unary::HardSwish
        | Unary::Silu
        | Unary::Tanh
        | Unary::Elu { .. }
        | Unary::Celu { .. }
        | Unary::Selu { .. }
        | Unary::Softplus
        | Unary::Softsign
        | Unary::Mish
        | Unary::Gelu { .. }
        | Unary::Erf
        | Unary::Exp
        | Unary::Log
        | Unary::Sqrt
        | Unary::Power { .. }
        | Unary::Reciprocal
        | Unary::Floor
        | Unary::Ceil
        | Unary::Round
        | Unary::Sin
        | Unary::Cos
        | Unary::Tan
        | Unary::Asin
        | Unary::Acos
        | Unary::Atan
        | Unary::Sinh
        | Unary::Cosh
        | Unary::Asinh
        | Unary::Acosh
        | Unary::Atanh
        | Unary::IsNan
        | Unary::IsInf { .. } => x,
    }
}

/// The bounds of a clip that limit integers of a type. As in the evaluator, the lower one comes first.
pub(super) fn int_bounds(dtype: DType, min: f32, max: f32) -> (Option<i128>, Option<i128>) {
    let (low, high) = int_range(dtype);
    let (min, max) = (f64::from(min).ceil() as i128, f64::from(max).floor() as i128);
    ((min > low).then(|| min.min(high)), (max < high).then(|| max.max(low)))
}

fn int_range(dtype: DType) -> (i128, i128) {
    let bits = 8 * dtype.bytes() as u32;
    if is_signed(dtype) { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

fn int_clip(
    b: &mut FunctionBuilder<'_>,
    dtype: DType,
    x: Value,
    min: Option<i128>,
    max: Option<i128>,
) -> Value {
    let (less, greater) = if is_signed(dtype) {
        (IntCC::SignedLessThan, IntCC::SignedGreaterThan)
    } else {
        (IntCC::UnsignedLessThan, IntCC::UnsignedGreaterThan)
    };
    let mut y = x;
    if let Some(min) = min {
        let k = int(b, dtype, min as i64);
        let below = b.ins().icmp(less, y, k);
        y = b.ins().select(below, k, y);
    }
    if let Some(max) = max {
        let k = int(b, dtype, max as i64);
        let above = b.ins().icmp(greater, y, k);
        y = b.ins().select(above, k, y);
    }
    y
}

/// `function(x, y)`, both of type `dtype`, but for a power, whose exponent may have a type of its own.
pub(in crate::code) fn binary(
    b: &mut FunctionBuilder<'_>,
    function: BinaryFn,
    (x, x_type): (Value, DType),
    (y, y_type): (Value, DType),
    lanes: bool,
) -> Value {
    match function {
        BinaryFn::Pow if lanes && x_type == DType::F64 => Math::new(b, types::F64X2).pow(x, y),
        BinaryFn::Pow if x_type.is_float() || y_type.is_float() => {
            let x = cast(b, x_type, DType::F64, x);
            let y = cast(b, y_type, DType::F64, y);
            let power = Math::new(b, types::F64).pow(x, y);
            cast(b, DType::F64, x_type, power)
        }
        BinaryFn::Pow => int_power(b, (x, x_type), (y, y_type)),
        BinaryFn::Mod { fmod } if x_type.is_float() => {
            let (x, y) = (cast(b, x_type, DType::F64, x), cast(b, x_type, DType::F64, y));
            let r = float_remainder(b, x, y, fmod);
            cast(b, DType::F64, x_type, r)
        }
        _ if lanes && x_type == DType::F64 => float_binary(&mut Math::new(b, types::F64X2), function, x, y),
        _ if lanes => float_binary(&mut Math::new(b, types::F32X4), function, x, y),
        _ if x_type == DType::F32 => float_binary(&mut Math::new(b, types::F32), function, x, y),
        _ if x_type == DType::F64 => float_binary(&mut Math::new(b, types::F64), function, x, y),
        _ => int_binary(b, function, x_type, x, y),
    }
}

fn float_binary(m: &mut Math<'_, '_>, function: BinaryFn, x: Value, y: Value) -> Value {
    match function {
        BinaryFn::Add => m.add(x, y),
        BinaryFn::Sub => m.sub(x, y),
        BinaryFn::Mul => m.mul(x, y),
        BinaryFn::Div => m.div(x, y),
        BinaryFn::Min | BinaryFn::Max => {
            // NaN in `x` goes through the comparison, NaN in `y` through the selection.
            let cc = if function == BinaryFn::Min { FloatCC::LessThan } else { FloatCC::GreaterThan };
            let replaces = m.compare(cc, y, x);
            let is_nan = m.compare(FloatCC::NotEqual, y, y);
            let replaces = m.b.ins().bor(replaces, is_nan);
            m.select(replaces, y, x)
        }
        BinaryFn::PRelu => {
            let scaled = m.mul(x, y);
            let negative = m.below(x, 0.0);
            m.select(negative, scaled, x)
        }
        BinaryFn::Equal => m.compare(FloatCC::Equal, x, y),
        BinaryFn::Less => m.compare(FloatCC::LessThan, x, y),
        BinaryFn::LessOrEqual => m.compare(FloatCC::LessThanOrEqual, x, y),
        BinaryFn::Greater => m.compare(FloatCC::GreaterThan, x, y),
        BinaryFn::GreaterOrEqual => m.compare(FloatCC::GreaterThanOrEqual, x, y),
        // Written elsewhere, or not defined for floats and refused.
        BinaryFn::Pow
        | BinaryFn::Mod { .. }
        | BinaryFn::And
        | BinaryFn::Or
        | BinaryFn::Xor
        | BinaryFn::BitAnd
        | BinaryFn::BitOr
        | BinaryFn::BitXor
        | BinaryFn::ShiftLeft
        | BinaryFn::ShiftRight => x,
    }
}

fn int_binary(b: &mut FunctionBuilder<'_>, function: BinaryFn, dtype: DType, x: Value, y: Value) -> Value {
    let signed = is_signed(dtype);
    let order = |signed_cc, unsigned_cc| if signed { signed_cc } else { unsigned_cc };
    let less = order(IntCC::SignedLessThan, IntCC::UnsignedLessThan);
    let less_or_equal = order(IntCC::SignedLessThanOrEqual, IntCC::UnsignedLessThanOrEqual);
    match function {
        BinaryFn::Add => b.ins().iadd(x, y),
        BinaryFn::Sub => b.ins().isub(x, y),
        BinaryFn::Mul => b.ins().imul(x, y),
        BinaryFn::Div => divided(b, dtype, x, y, false),
        BinaryFn::Mod { fmod } => {
            let r = divided(b, dtype, x, y, true);
            if fmod || !signed {
                return r;
            }
            // The remainder takes the sign of the divisor.
            let moved = b.ins().iadd(r, y);
            let signs = b.ins().bxor(r, y);
            let differ = b.ins().icmp_imm_s(IntCC::SignedLessThan, signs, 0);
            let whole = b.ins().icmp_imm_s(IntCC::Equal, r, 0);
            let y = b.ins().select(differ, moved, r);
            b.ins().select(whole, r, y)
        }
        BinaryFn::Min => {
            let c = b.ins().icmp(less, y, x);
            b.ins().select(c, y, x)
        }
        BinaryFn::Max => {
            let c = b.ins().icmp(less, x, y);
            b.ins().select(c, y, x)
        }
        BinaryFn::PRelu if signed => {
            let scaled = b.ins().imul(x, y);
            let negative = b.ins().icmp_imm_s(IntCC::SignedLessThan, x, 0);
            b.ins().select(negative, scaled, x)
        }
        BinaryFn::Equal => b.ins().icmp(IntCC::Equal, x, y),
        BinaryFn::Less => b.ins().icmp(less, x, y),
        BinaryFn::LessOrEqual => b.ins().icmp(less_or_equal, x, y),
        BinaryFn::Greater => b.ins().icmp(less, y, x),
        BinaryFn::GreaterOrEqual => b.ins().icmp(less_or_equal, y, x),
        BinaryFn::And | BinaryFn::BitAnd => b.ins().band(x, y),
        BinaryFn::Or | BinaryFn::BitOr => b.ins().bor(x, y),
        BinaryFn::Xor | BinaryFn::BitXor => b.ins().bxor(x, y),
        BinaryFn::ShiftLeft | BinaryFn::ShiftRight => {
            let bits = 8 * dtype.bytes() as i64;
            let right = function == BinaryFn::ShiftRight;
            let shifted = match (right, signed) {
                (false, _) => b.ins().ishl(x, y),
                (true, false) => b.ins().ushr(x, y),
                (true, true) => b.ins().sshr(x, y),
            };
            // Shifted out as a whole, nothing is left but the sign.
            let rest = if right && signed { b.ins().sshr_imm_u(x, bits - 1) } else { int(b, dtype, 0) };
            let fits = b.ins().icmp_imm_s(IntCC::UnsignedLessThan, y, bits);
            b.ins().select(fits, shifted, rest)
        }
        // Unsigned numbers are never negative; the power has its own loop.
        BinaryFn::PRelu | BinaryFn::Pow => x,
    }
}

/// Quotient or remainder of integers, without traps: by 0 it is 0, and the least number by -1 wraps around.
fn divided(b: &mut FunctionBuilder<'_>, dtype: DType, x: Value, y: Value, remainder: bool) -> Value {
    let (zero, one) = (int(b, dtype, 0), int(b, dtype, 1));
    let by_zero = b.ins().icmp_imm_s(IntCC::Equal, y, 0);
    let mut trivial = by_zero;
    if is_signed(dtype) {
        let minus = b.ins().icmp_imm_s(IntCC::Equal, y, -1);
        trivial = b.ins().bor(by_zero, minus);
    }
    let safe = b.ins().select(trivial, one, y);
    let quotient = match (is_signed(dtype), remainder) {
        (true, false) => b.ins().sdiv(x, safe),
        (true, true) => b.ins().srem(x, safe),
        (false, false) => b.ins().udiv(x, safe),
        (false, true) => b.ins().urem(x, safe),
    };
    let special = if remainder || !is_signed(dtype) { zero } else { b.ins().ineg(x) };
    let y = b.ins().select(trivial, special, quotient);
    b.ins().select(by_zero, zero, y)
}

/// `x` to the power of `y` modulo the range of its type, by squaring; negative exponents are cut towards zero.
fn int_power(b: &mut FunctionBuilder<'_>, (x, x_type): (Value, DType), (y, y_type): (Value, DType)) -> Value {
    let exponent = cast(b, y_type, DType::I64, y);
    let ty = b.func.dfg.value_type(x);
    let (zero, one) = (int(b, x_type, 0), int(b, x_type, 1));
    let (head, done) = (b.create_block(), b.create_block());
    for block_type in [ty, ty, types::I64] {
        b.append_block_param(head, block_type);
    }
    b.append_block_param(done, ty);
    b.ins().jump(head, &[one.into(), x.into(), exponent.into()]);
    b.switch_to_block(head);
    let [result, base, left] = *b.block_params(head) else { return x };
    let odd = b.ins().band_imm_s(left, 1);
    let product = b.ins().imul(result, base);
    let next = b.ins().select(odd, product, result);
    let square = b.ins().imul(base, base);
    let rest = b.ins().ushr_imm_s(left, 1);
    b.ins().brif(rest, head, &[next.into(), square.into(), rest.into()], done, &[next.into()]);
    b.seal_block(head);
    b.switch_to_block(done);
    b.seal_block(done);
    let power = b.block_params(done)[0];
    if !is_signed(y_type) {
        return power;
    }
    // x^-n: 1 and -1 stay (the square of -1 is 1), the rest is less than 1.
    let is_one = b.ins().icmp_imm_s(IntCC::Equal, x, 1);
    let unit = if is_signed(x_type) {
        let minus = b.ins().icmp_imm_s(IntCC::Equal, x, -1);
        b.ins().bor(is_one, minus)
    } else {
        is_one
    };
    let odd = b.ins().band_imm_s(exponent, 1);
    let of_unit = b.ins().select(odd, x, one);
    let inverse = b.ins().select(unit, of_unit, zero);
    let negative = b.ins().icmp_imm_s(IntCC::SignedLessThan, exponent, 0);
    b.ins().select(negative, inverse, power)
}

/// The exact remainder of `f64`s, by taking off the largest multiple `y · 2^k` again and again: each difference is
/// exact. It has the sign of the dividend (C's fmod), or of the divisor.
fn float_remainder(b: &mut FunctionBuilder<'_>, x: Value, y: Value, fmod: bool) -> Value {
    let (size, step) = (b.ins().fabs(x), b.ins().fabs(y));
    let (head, body, done) = (b.create_block(), b.create_block(), b.create_block());
    for block in [head, body, done] {
        b.append_block_param(block, types::F64);
    }
    let zero = b.ins().f64const(0.0);
    let infinity = b.ins().f64const(f64::INFINITY);
    let nan = b.ins().f64const(f64::NAN);
    // Only numbers are divided, and not by 0.
    let finite = b.ins().fcmp(FloatCC::LessThan, size, infinity);
    let divides = b.ins().fcmp(FloatCC::GreaterThan, step, zero);
    let defined = b.ins().band(finite, divides);
    b.ins().brif(defined, head, &[size.into()], done, &[nan.into()]);

    b.switch_to_block(head);
    let left = b.block_params(head)[0];
    let more = b.ins().fcmp(FloatCC::GreaterThanOrEqual, left, step);
    b.ins().brif(more, body, &[left.into()], done, &[left.into()]);

    b.switch_to_block(body);
    b.seal_block(body);
    let left = b.block_params(body)[0];
    // The lower of the two multiples y · 2^(k-1) and y · 2^k, k the difference of the exponents, or the upper one
    // where that is not too much (it may overflow, and then it is).
    let (high, low) = (exponent(b, left), exponent(b, step));
    let k = b.ins().isub(high, low);
    let one = b.ins().iconst(types::I64, 1);
    let none = b.ins().iconst(types::I64, 0);
    let below = b.ins().isub(k, one);
    let below = b.ins().smax(below, none);
    // 2^(k-1) in three parts: k may be as large as 2098.
    let three = b.ins().iconst(types::I64, 3);
    let third = b.ins().udiv(below, three);
    let rest = b.ins().isub(below, third);
    let rest = b.ins().isub(rest, third);
    let mut lower = step;
    for part in [third, third, rest] {
        let power = Math::new(b, types::F64).power_of_two(part);
        lower = b.ins().fmul(lower, power);
    }
    let twice = b.ins().fadd(lower, lower);
    let differ = b.ins().icmp(IntCC::SignedGreaterThan, k, none);
    let upper = b.ins().select(differ, twice, lower);
    let too_much = b.ins().fcmp(FloatCC::GreaterThan, upper, left);
    let multiple = b.ins().select(too_much, lower, upper);
    let left = b.ins().fsub(left, multiple);
    b.ins().jump(head, &[left.into()]);
    b.seal_block(head);

    b.switch_to_block(done);
    b.seal_block(done);
    let size = b.block_params(done)[0];
    let mut m = Math::new(b, types::F64);
    let r = m.with_sign(size, x);
    if fmod {
        return r;
    }
    let moved = m.add(r, y);
    let signs = m.mul_signs(r, y);
    let differ = m.below(signs, 0.0);
    let nonzero = m.compare(FloatCC::NotEqual, r, zero);
    let differ = m.b.ins().band(differ, nonzero);
    m.select(differ, moved, r)
}

/// The biased exponent of a positive `f64`, as if denormals were normal (then it is 0 or less).
fn exponent(b: &mut FunctionBuilder<'_>, v: Value) -> Value {
    let bits = Math::new(b, types::F64).to_bits(v);
    let normal = b.ins().ushr_imm_s(bits, 52);
    let leading = b.ins().clz(bits);
    let twelve = b.ins().iconst(types::I64, 12);
    let denormal = b.ins().isub(twelve, leading);
    b.ins().select(normal, normal, denormal)
}

/// `x` of type `from` as type `to`. Floats become integers by cutting towards zero, and saturate (NaN gives 0). What
/// becomes a half float is an `f32` that storing rounds as if it were the only rounding.
pub(in crate::code) fn cast(b: &mut FunctionBuilder<'_>, from: DType, to: DType, x: Value) -> Value {
    if from == to {
        return x;
    }
    match (from.is_float(), to.is_float()) {
        (true, true) if matches!(to, DType::F16 | DType::BF16) => match from {
            DType::F64 => half::to_be_narrowed(b, x),
            _ => x,
        },
        (false, true) if matches!(to, DType::F16 | DType::BF16) => {
            let wide = int_to_f64_odd(b, from, x);
            half::to_be_narrowed(b, wide)
        }
        (true, true) if to == DType::F64 => b.ins().fpromote(types::F64, x),
        (true, true) => b.ins().fdemote(types::F32, x),
        (true, false) => float_to_int(b, from, to, x),
        (false, true) => int_to_float(b, from, to, x),
        (false, false) if to == DType::Bool => b.ins().icmp_imm_s(IntCC::NotEqual, x, 0),
        (false, false) => resize(b, from, to.bytes(), x),
    }
}

fn resize(b: &mut FunctionBuilder<'_>, from: DType, bytes: usize, x: Value) -> Value {
    let ty = match bytes {
        1 => types::I8,
        2 => types::I16,
        4 => types::I32,
        _ => types::I64,
    };
    match from.bytes().cmp(&bytes) {
        std::cmp::Ordering::Equal => x,
        std::cmp::Ordering::Greater => b.ins().ireduce(ty, x),
        std::cmp::Ordering::Less if is_signed(from) => b.ins().sextend(ty, x),
        std::cmp::Ordering::Less => b.ins().uextend(ty, x),
    }
}

fn float_to_int(b: &mut FunctionBuilder<'_>, from: DType, to: DType, x: Value) -> Value {
    if to == DType::Bool {
        let zero = if from == DType::F64 { b.ins().f64const(0.0) } else { b.ins().f32const(0.0) };
        return b.ins().fcmp(FloatCC::NotEqual, x, zero);
    }
    match to {
        DType::I64 => b.ins().fcvt_to_sint_sat(types::I64, x),
        DType::U64 => b.ins().fcvt_to_uint_sat(types::I64, x),
        // Every narrower range fits into i64, which saturates further out.
        _ => {
            let wide = b.ins().fcvt_to_sint_sat(types::I64, x);
            let (low, high) = int_range(to);
            let wide = int_clip(b, DType::I64, wide, Some(low), Some(high));
            resize(b, DType::I64, to.bytes(), wide)
        }
    }
}

/// An integer as the nearest `f64`, or where `f64` does not hold it, one that rounds to every shorter float as the
/// integer does: its last bit says whether there was more behind it.
fn int_to_f64_odd(b: &mut FunctionBuilder<'_>, from: DType, x: Value) -> Value {
    if from.bytes() < 8 {
        return int_to_float(b, from, DType::F64, x);
    }
    const BEHIND: i64 = (1 << 11) - 1;
    let size = if from == DType::I64 { b.ins().iabs(x) } else { x };
    let behind = b.ins().band_imm_s(x, BEHIND);
    let kept = b.ins().band_imm_s(x, !BEHIND);
    let marked = b.ins().bor_imm_s(kept, BEHIND + 1);
    let marked = b.ins().select(behind, marked, kept);
    let is_large = b.ins().icmp_imm_s(IntCC::UnsignedGreaterThan, size, 1 << 53);
    let x = b.ins().select(is_large, marked, x);
    int_to_float(b, from, DType::F64, x)
}

fn int_to_float(b: &mut FunctionBuilder<'_>, from: DType, to: DType, x: Value) -> Value {
    let ty = if to == DType::F64 { types::F64 } else { types::F32 };
    match from {
        DType::U64 => b.ins().fcvt_from_uint(ty, x),
        _ => {
            let wide = resize(b, from, 8, x);
            b.ins().fcvt_from_sint(ty, wide)
        }
    }
}
