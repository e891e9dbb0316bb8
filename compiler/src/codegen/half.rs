//! Half floats in Cranelift IR: to `f32`, which is exact, and back, rounded to the nearest, ties to even.
//!
//! ```text
//!   f16    s eeeee mmmmmmmmmm                       f32    s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm
//!   bf16   s eeeeeeee mmmmmmm                              the upper half of an f32
//! ```

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::FunctionBuilder;
use nnc_ir::DType;

/// The `f32` of the bits (`i16`) of an `f16` or `bf16`.
pub fn widened(b: &mut FunctionBuilder<'_>, dtype: DType, bits: Value) -> Value {
    let bits = b.ins().uextend(types::I32, bits);
    if dtype == DType::BF16 {
        let wide = b.ins().ishl_imm_u(bits, 16);
        return b.ins().bitcast(types::F32, MemFlagsData::new(), wide);
    }
    let size = b.ins().band_imm_u(bits, 0x7FFF);
    let sign = b.ins().band_imm_u(bits, 0x8000);
    let sign = b.ins().ishl_imm_u(sign, 16);
    // The exponent is 112 too low: a product puts that right, for denormals too.
    let moved = b.ins().ishl_imm_u(size, 13);
    let number = b.ins().bitcast(types::F32, MemFlagsData::new(), moved);
    let factor = b.ins().f32const(f32::from_bits((127 + 112) << 23));
    let number = b.ins().fmul(number, factor);
    let number = b.ins().bitcast(types::I32, MemFlagsData::new(), number);
    let endless = b.ins().bor_imm_u(moved, 0x7F80_0000);
    let is_number = b.ins().icmp_imm_u(IntCC::UnsignedLessThan, size, 0x7C00);
    let size = b.ins().select(is_number, number, endless);
    let bits = b.ins().bor(size, sign);
    b.ins().bitcast(types::F32, MemFlagsData::new(), bits)
}

/// The bits (`i16`) of an `f32` as `f16` or `bf16`.
pub fn narrowed(b: &mut FunctionBuilder<'_>, dtype: DType, x: Value) -> Value {
    let bits = b.ins().bitcast(types::I32, MemFlagsData::new(), x);
    let size = b.ins().band_imm_u(bits, 0x7FFF_FFFF);
    let is_nan = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, size, 0x7F80_0000);
    if dtype == DType::BF16 {
        let rounded = rounded(b, bits, 16);
        let high = b.ins().ushr_imm_u(bits, 16);
        let nan = b.ins().bor_imm_u(high, 0x40);
        let half = b.ins().select(is_nan, nan, rounded);
        return b.ins().ireduce(types::I16, half);
    }
    let sign = b.ins().ushr_imm_u(bits, 16);
    let sign = b.ins().band_imm_u(sign, 0x8000);
    // Normal numbers: the exponent moved down by 112.
    let lower = b.ins().iconst(types::I32, 112 << 23);
    let normal = b.ins().isub(size, lower);
    let normal = rounded(b, normal, 13);
    // Below 2^-14: added to 0.5, whose last place is the least f16, the hardware rounds.
    let half = b.ins().f32const(0.5);
    let number = b.ins().bitcast(types::F32, MemFlagsData::new(), size);
    let number = b.ins().fadd(number, half);
    let number = b.ins().bitcast(types::I32, MemFlagsData::new(), number);
    let half = b.ins().iconst(types::I32, i64::from(0.5f32.to_bits()));
    let denormal = b.ins().isub(number, half);
    let small = b.ins().icmp_imm_u(IntCC::UnsignedLessThan, size, 0x3880_0000);
    let number = b.ins().select(small, denormal, normal);
    let infinity = b.ins().iconst(types::I32, 0x7C00);
    // From 65520 on, the nearest f16 is infinite.
    let large = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, size, 0x477F_F000);
    let number = b.ins().select(large, infinity, number);
    let payload = b.ins().ushr_imm_u(size, 13);
    let payload = b.ins().band_imm_u(payload, 0x3FF);
    let nan = b.ins().bor_imm_u(payload, 0x7E00);
    let number = b.ins().select(is_nan, nan, number);
    let bits = b.ins().bor(number, sign);
    b.ins().ireduce(types::I16, bits)
}

/// `bits` without the lowest ones, rounded to the nearest, ties to even.
fn rounded(b: &mut FunctionBuilder<'_>, bits: Value, dropped: i64) -> Value {
    let last = b.ins().ushr_imm_u(bits, dropped);
    let last = b.ins().band_imm_u(last, 1);
    let up = b.ins().iadd_imm_s(bits, (1 << (dropped - 1)) - 1);
    let up = b.ins().iadd(up, last);
    b.ins().ushr_imm_u(up, dropped)
}
