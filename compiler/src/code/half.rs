//! Half floats in memory: `f16` and `bf16` are widened to `f32` when they are loaded and rounded when they are stored.
//!
//! ```text
//!   f16   s eeeee mmmmmmmmmm          f32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm          bf16   s eeeeeeee mmmmmmm
//! ```
//!
//! The conversions are plain integer and `f32` arithmetic, so that no target needs instructions or libraries for them. None of
//! it reads or makes a denormal of `f32`: those of `f16` are normal numbers there, and stay when denormals are flushed.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;
use nnc_ir::DType;

use super::nest::math::Math;

/// The difference of the biases of `f32` and `f16`, in the place of an exponent.
const REBIAS: i64 = 112 << 23;
/// The least normal number of `f16`, as the bits of an `f32`.
const LEAST: u32 = 113 << 23;

/// The `f32` of a half float's 16 bits.
pub fn widened(b: &mut FunctionBuilder<'_>, dtype: DType, bits: Value) -> Value {
    let wide = b.ins().uextend(types::I32, bits);
    if dtype == DType::BF16 {
        let wide = b.ins().ishl_imm_s(wide, 16);
        return Math::new(b, types::F32).from_bits(wide);
    }
    let sign = b.ins().band_imm_s(wide, 0x8000);
    let sign = b.ins().ishl_imm_s(sign, 16);
    let size = b.ins().band_imm_s(wide, 0x7fff);
    // Exponent and mantissa in their places, and what the biases differ by.
    let moved = b.ins().ishl_imm_s(size, 13);
    let normal = b.ins().iadd_imm_s(moved, REBIAS);
    // A denormal is what its mantissa adds to the least normal number.
    let above = b.ins().iadd_imm_s(moved, i64::from(LEAST));
    let mut m = Math::new(b, types::F32);
    let above = m.from_bits(above);
    let least = m.b.ins().f32const(f32::from_bits(LEAST));
    let small = m.sub(above, least);
    let small = m.to_bits(small);
    let is_small = b.ins().icmp_imm_s(IntCC::UnsignedLessThan, size, 0x400);
    let number = b.ins().select(is_small, small, normal);
    // The largest exponent stays the largest: infinity and NaN.
    let special = b.ins().bor_imm_s(number, 0x7f80_0000);
    let is_special = b.ins().icmp_imm_s(IntCC::UnsignedGreaterThanOrEqual, size, 0x7c00);
    let number = b.ins().select(is_special, special, number);
    let number = b.ins().bor(number, sign);
    Math::new(b, types::F32).from_bits(number)
}

/// The 16 bits of the half float nearest to an `f32`, ties to even; NaN stays NaN.
pub fn narrowed(b: &mut FunctionBuilder<'_>, dtype: DType, v: Value) -> Value {
    let bits = Math::new(b, types::F32).to_bits(v);
    let sign = b.ins().ushr_imm_s(bits, 16);
    let sign = b.ins().band_imm_s(sign, 0x8000);
    let size = b.ins().band_imm_s(bits, 0x7fff_ffff);
    let (dropped, quiet) = if dtype == DType::BF16 { (16, 0x40) } else { (13, 0x200) };
    // Adding just less than half of the last place that stays, and one more where that is odd.
    let odd = b.ins().ushr_imm_s(size, dropped);
    let odd = b.ins().band_imm_s(odd, 1);
    let rounded = b.ins().iadd(size, odd);
    let below_half = (1i64 << (dropped - 1)) - 1;
    let number = if dtype == DType::BF16 {
        let rounded = b.ins().iadd_imm_s(rounded, below_half);
        b.ins().ushr_imm_s(rounded, dropped)
    } else {
        let rounded = b.ins().iadd_imm_s(rounded, below_half - (112 << 23));
        let normal = b.ins().ushr_imm_s(rounded, dropped);
        // Below the least normal number: the last place is that of ½ in f32, where an addition rounds.
        let mut m = Math::new(b, types::F32);
        let small = m.from_bits(size);
        let half = m.constant(0.5);
        let small = m.add(small, half);
        let small = m.to_bits(small);
        let small = b.ins().iadd_imm_s(small, -i64::from(0.5f32.to_bits()));
        let is_small = b.ins().icmp_imm_s(IntCC::UnsignedLessThan, size, 113 << 23);
        let number = b.ins().select(is_small, small, normal);
        let infinity = b.ins().iconst(types::I32, 0x7c00);
        let is_large = b.ins().icmp_imm_s(IntCC::UnsignedGreaterThanOrEqual, size, (127 + 16) << 23);
        b.ins().select(is_large, infinity, number)
    };
    let payload = b.ins().ushr_imm_s(size, dropped);
    let payload = b.ins().band_imm_s(payload, 2 * quiet - 1);
    let exponent = if dtype == DType::BF16 { 0x7f80 } else { 0x7c00 };
    let nan = b.ins().bor_imm_s(payload, exponent | quiet);
    let is_nan = b.ins().icmp_imm_s(IntCC::UnsignedGreaterThan, size, 0x7f80_0000);
    let number = b.ins().select(is_nan, nan, number);
    let number = b.ins().bor(number, sign);
    b.ins().ireduce(types::I16, number)
}

/// An `f64` as the `f32` that rounds to the same half float: the nearest, or its neighbour with an odd mantissa where
/// it is not exact (so that it never falls on a tie of the narrower type that the `f64` was beside).
pub fn to_be_narrowed(b: &mut FunctionBuilder<'_>, v: Value) -> Value {
    let near = b.ins().fdemote(types::F32, v);
    let back = b.ins().fpromote(types::F64, near);
    let bits = Math::new(b, types::F32).to_bits(near);
    let (size, back_size) = (b.ins().fabs(v), b.ins().fabs(back));
    // Towards zero the bits shrink by one, away from it they grow by one; exact ones and NaN stay.
    let grows = b.ins().fcmp(FloatCC::LessThan, back_size, size);
    let shrinks = b.ins().fcmp(FloatCC::GreaterThan, back_size, size);
    let (grown, shrunk) = (b.ins().iadd_imm_s(bits, 1), b.ins().iadd_imm_s(bits, -1));
    let moved = b.ins().select(grows, grown, bits);
    let moved = b.ins().select(shrinks, shrunk, moved);
    let odd = b.ins().band_imm_s(bits, 1);
    let bits = b.ins().select(odd, bits, moved);
    Math::new(b, types::F32).from_bits(bits)
}
