//! Half floats in memory: `f16` and `bf16` are widened to `f32` when they are loaded and rounded when they are stored.
//!
//! ```text
//!   f16   s eeeee mmmmmmmmmm          f32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm          bf16   s eeeeeeee mmmmmmm
//! ```
//!
//! The conversions are plain integer and `f32` arithmetic, so that no target needs instructions or libraries for them. They are
//! written once for one float and for four in a vector. No step makes or reads a denormal `f32` on the way to or from an `f16`,
//! so they are right in every mode of the processor.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;
use nnc_ir::DType;

use super::math::Math;

/// The exponent of an `f32` whose number is that of an `f16` with an exponent of 0, in its place.
const REBIAS: i64 = 112 << 23;
/// The least normal `f16`, as the bits of an `f32`.
const LEAST_F16: i64 = 113 << 23;

/// The `f32` of a half float's 16 bits.
pub fn widened(b: &mut FunctionBuilder<'_>, dtype: DType, bits: Value) -> Value {
    let words = b.ins().uextend(types::I32, bits);
    Words { b, dtype, ty: types::F32 }.widened(words)
}

/// The 16 bits of the half float nearest to an `f32`, ties to even; NaN stays NaN.
pub fn narrowed(b: &mut FunctionBuilder<'_>, dtype: DType, v: Value) -> Value {
    let words = Words { b, dtype, ty: types::F32 }.narrowed(v);
    b.ins().ireduce(types::I16, words)
}

/// Four half floats from memory, as F32X4.
pub fn load_four(b: &mut FunctionBuilder<'_>, dtype: DType, at: Value, displacement: i32) -> Value {
    let words = b.ins().uload16x4(flags(), at, displacement);
    Words { b, dtype, ty: types::F32X4 }.widened(words)
}

/// F32X4 as four half floats to memory.
pub fn store_four(b: &mut FunctionBuilder<'_>, dtype: DType, v: Value, at: Value, displacement: i32) {
    let bits = packed(b, dtype, v);
    store_word(b, bits, at, displacement);
}

fn store_word(b: &mut FunctionBuilder<'_>, v: Value, at: Value, displacement: i32) {
    b.ins().store(flags(), v, at, displacement);
}

/// The first `n` (1 to 4) of four half floats from memory, the others 0.
pub fn load_some(b: &mut FunctionBuilder<'_>, dtype: DType, at: Value, displacement: i32, n: i32) -> Value {
    let mut load = |ty: Type, words: i32| b.ins().load(ty, flags(), at, displacement.wrapping_add(2 * words));
    let bits = match n {
        1 => {
            let one = load(types::I16, 0);
            b.ins().uextend(types::I64, one)
        }
        2 => {
            let two = load(types::I32, 0);
            b.ins().uextend(types::I64, two)
        }
        3 => {
            let (two, one) = (load(types::I32, 0), load(types::I16, 2));
            let (two, one) = (b.ins().uextend(types::I64, two), b.ins().uextend(types::I64, one));
            let one = b.ins().ishl_imm_s(one, 32);
            b.ins().bor(two, one)
        }
        _ => return load_four(b, dtype, at, displacement),
    };
    let halves = b.ins().scalar_to_vector(types::I64X2, bits);
    widened_low(b, dtype, halves)
}

/// F32X4, of which the first `n` (1 to 4) go to memory as half floats.
pub fn store_some(b: &mut FunctionBuilder<'_>, dtype: DType, v: Value, at: Value, displacement: i32, n: i32) {
    let bits = packed(b, dtype, v);
    // From the first of these words on, an integer of this type.
    let pieces: &[(i32, Type)] = match n {
        1 => &[(0, types::I16)],
        2 => &[(0, types::I32)],
        3 => &[(0, types::I32), (2, types::I16)],
        _ => return store_word(b, bits, at, displacement),
    };
    for &(words, ty) in pieces {
        let part = match words {
            0 => bits,
            words => b.ins().ushr_imm_s(bits, i64::from(16 * words)),
        };
        let part = b.ins().ireduce(ty, part);
        store_word(b, part, at, displacement.wrapping_add(2 * words));
    }
}

/// `n` half floats (1, 2 or 4) from memory over and over in F32X4.
pub fn spread(b: &mut FunctionBuilder<'_>, dtype: DType, at: Value, displacement: i32, n: u8) -> Value {
    match n {
        1 => {
            let one = b.ins().load(types::I16, flags(), at, displacement);
            let one = widened(b, dtype, one);
            b.ins().splat(types::F32X4, one)
        }
        2 => {
            let two = b.ins().load(types::I32, flags(), at, displacement);
            let halves = b.ins().splat(types::I32X4, two);
            widened_low(b, dtype, halves)
        }
        _ => load_four(b, dtype, at, displacement),
    }
}

/// The half floats in the lower half of a vector.
fn widened_low(b: &mut FunctionBuilder<'_>, dtype: DType, halves: Value) -> Value {
    let halves = b.ins().bitcast(types::I16X8, bits_of(), halves);
    let words = b.ins().uwiden_low(halves);
    Words { b, dtype, ty: types::F32X4 }.widened(words)
}

/// The 64 bits of F32X4 as half floats.
pub fn packed(b: &mut FunctionBuilder<'_>, dtype: DType, v: Value) -> Value {
    let words = Words { b, dtype, ty: types::F32X4 }.narrowed(v);
    let halves = b.ins().unarrow(words, words);
    let halves = b.ins().bitcast(types::I64X2, bits_of(), halves);
    b.ins().extractlane(halves, 0)
}

/// Accesses that cannot trap, and promise no alignment.
fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_endianness(Endianness::Little)
}

fn bits_of() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

/// Arithmetic on the bits of floats of type `ty`: `F32`, or `F32X4`.
struct Words<'a, 'f> {
    b: &'a mut FunctionBuilder<'f>,
    dtype: DType,
    ty: Type,
}

impl Words<'_, '_> {
    fn math<T>(&mut self, f: impl FnOnce(&mut Math<'_, '_>) -> T) -> T {
        f(&mut Math::new(self.b, self.ty))
    }

    fn int(&mut self, v: i64) -> Value {
        self.math(|m| m.int_constant(v))
    }

    fn and(&mut self, a: Value, mask: i64) -> Value {
        let mask = self.int(mask);
        self.b.ins().band(a, mask)
    }

    fn or(&mut self, a: Value, bits: i64) -> Value {
        let bits = self.int(bits);
        self.b.ins().bor(a, bits)
    }

    fn add(&mut self, a: Value, k: i64) -> Value {
        let k = self.int(k);
        self.b.ins().iadd(a, k)
    }

    /// `a < k ? x : y`, of numbers that are not negative.
    fn if_below(&mut self, a: Value, k: i64, x: Value, y: Value) -> Value {
        let k = self.int(k);
        // A vector unit compares signed numbers at once.
        let below = self.b.ins().icmp(IntCC::SignedGreaterThan, k, a);
        match self.ty.is_vector() {
            true => self.b.ins().bitselect(below, x, y),
            false => self.b.ins().select(below, x, y),
        }
    }

    /// The float whose bits are these 16 of each word.
    fn widened(&mut self, words: Value) -> Value {
        if self.dtype == DType::BF16 {
            let bits = self.b.ins().ishl_imm_s(words, 16);
            return self.math(|m| m.from_bits(bits));
        }
        let sign = self.and(words, 0x8000);
        let sign = self.b.ins().ishl_imm_s(sign, 16);
        let size = self.and(words, 0x7fff);
        // Exponent and mantissa in their places.
        let moved = self.b.ins().ishl_imm_s(size, 13);
        let normal = self.add(moved, REBIAS);
        // A denormal is what its mantissa adds to the least normal number.
        let with_one = self.add(moved, LEAST_F16);
        let denormal = self.math(|m| {
            let with_one = m.from_bits(with_one);
            let one = m.constant(f64::from(f32::from_bits(LEAST_F16 as u32)));
            let denormal = m.sub(with_one, one);
            m.to_bits(denormal)
        });
        // The largest exponent stays the largest: infinity and NaN.
        let special = self.add(normal, REBIAS);
        let number = self.if_below(size, 0x7c00, normal, special);
        let number = self.if_below(size, 0x0400, denormal, number);
        let number = self.b.ins().bor(number, sign);
        self.math(|m| m.from_bits(number))
    }

    /// The 16 bits of each float's nearest half float.
    fn narrowed(&mut self, v: Value) -> Value {
        let bits = self.math(|m| m.to_bits(v));
        let sign = self.b.ins().ushr_imm_s(bits, 16);
        let sign = self.and(sign, 0x8000);
        let size = self.and(bits, 0x7fff_ffff);
        let (dropped, quiet) = if self.dtype == DType::BF16 { (16, 0x40) } else { (13, 0x200) };
        // Adding just less than half of the last place that stays, and one more where that is odd.
        let odd = self.b.ins().ushr_imm_s(size, dropped);
        let odd = self.and(odd, 1);
        let rounded = self.b.ins().iadd(size, odd);
        let below_half = (1i64 << (dropped - 1)) - 1;
        let number = if self.dtype == DType::BF16 {
            let rounded = self.add(rounded, below_half);
            self.b.ins().ushr_imm_s(rounded, dropped)
        } else {
            let rounded = self.add(rounded, below_half - REBIAS);
            let normal = self.b.ins().ushr_imm_s(rounded, dropped);
            // Below the least normal number: the last place is that of ½ in f32, where an addition rounds.
            let small = self.math(|m| {
                let small = m.from_bits(size);
                let half = m.constant(0.5);
                let small = m.add(small, half);
                m.to_bits(small)
            });
            let small = self.add(small, -i64::from(0.5f32.to_bits()));
            let number = self.if_below(size, LEAST_F16, small, normal);
            let infinity = self.int(0x7c00);
            self.if_below(size, (127 + 16) << 23, number, infinity)
        };
        let payload = self.b.ins().ushr_imm_s(size, dropped);
        let payload = self.and(payload, 2 * quiet - 1);
        let exponent = if self.dtype == DType::BF16 { 0x7f80 } else { 0x7c00 };
        let nan = self.or(payload, exponent | quiet);
        let number = self.if_below(size, 0x7f80_0001, number, nan);
        self.b.ins().bor(number, sign)
    }
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
