//! Bytes in Cranelift IR: unsigned ones in memory that are numbers in registers, and sums of their products.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::immediates::Ieee32;
use cranelift_codegen::ir::types::{F32X4, I8, I8X16, I16, I16X8, I32, I32X4};
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value};
use cranelift_frontend::FunctionBuilder;

/// The first `n` (1 to 4) of four bytes from memory as F32X4, the others 0.
pub fn load_some(b: &mut FunctionBuilder<'_>, at: Value, displacement: i32, n: i32) -> Value {
    let mut load = |ty: Type, bytes: i32| {
        let v = b.ins().load(ty, flags(), at, displacement.wrapping_add(bytes));
        if ty == I32 { v } else { b.ins().uextend(I32, v) }
    };
    let bits = match n {
        1 => load(I8, 0),
        2 => load(I16, 0),
        3 => {
            let (two, third) = (load(I16, 0), load(I8, 2));
            let third = b.ins().ishl_imm_s(third, 16);
            b.ins().bor(two, third)
        }
        _ => load(I32, 0),
    };
    numbers(b, bits)
}

/// `n` bytes (1, 2 or 4) from memory over and over as F32X4.
pub fn spread(b: &mut FunctionBuilder<'_>, at: Value, displacement: i32, n: u8) -> Value {
    let ty = match n {
        1 => I8,
        2 => I16,
        _ => I32,
    };
    let few = b.ins().load(ty, flags(), at, displacement);
    let mut bits = if ty == I32 { few } else { b.ins().uextend(I32, few) };
    for (width, by) in [(1, 8), (2, 16)] {
        if n <= width {
            let again = b.ins().ishl_imm_s(bits, by);
            bits = b.ins().bor(bits, again);
        }
    }
    numbers(b, bits)
}

/// The first `n` (1 to 4) lanes of F32X4 to memory: whole numbers from 0 to 255, rounded to the nearest, ties to even; NaN is 0.
pub fn store_some(b: &mut FunctionBuilder<'_>, v: Value, at: Value, displacement: i32, n: i32) {
    let [least, most] = [0.0, 255.0].map(|bound| {
        let bound = b.ins().f32const(Ieee32::with_float(bound));
        b.ins().splat(F32X4, bound)
    });
    let above = b.ins().fcmp(FloatCC::LessThan, least, v);
    let above = cast(b, F32X4, above);
    let v = b.ins().bitselect(above, v, least);
    let below = b.ins().fcmp(FloatCC::LessThan, v, most);
    let below = cast(b, F32X4, below);
    let v = b.ins().bitselect(below, v, most);
    let v = b.ins().nearest(v);
    let words = b.ins().fcvt_to_sint_sat(I32X4, v);
    let words = b.ins().snarrow(words, words);
    let bytes = b.ins().unarrow(words, words);
    let bytes = cast(b, I32X4, bytes);
    let bits = b.ins().extractlane(bytes, 0);
    let mut store = |ty: Type, shift: i64| {
        let moved = if shift == 0 { bits } else { b.ins().ushr_imm_s(bits, shift) };
        let part = if ty == I32 { moved } else { b.ins().ireduce(ty, moved) };
        b.ins().store(flags(), part, at, displacement.wrapping_add((shift / 8) as i32));
    };
    match n {
        1 => store(I8, 0),
        2 => store(I16, 0),
        3 => {
            store(I16, 0);
            store(I8, 16);
        }
        _ => store(I32, 0),
    }
}

/// F32X4 with 0 in place of what is no number below 2³¹.
pub fn below_large(b: &mut FunctionBuilder<'_>, v: Value) -> Value {
    let large = b.ins().f32const(Ieee32::with_float(2_147_483_648.0));
    let large = b.ins().splat(F32X4, large);
    let below = b.ins().fcmp(FloatCC::LessThan, v, large);
    let below = cast(b, F32X4, below);
    let zero = b.ins().f32const(Ieee32::with_float(0.0));
    let zero = b.ins().splat(F32X4, zero);
    b.ins().bitselect(below, v, zero)
}

/// I32X4 `sums` and, in each lane, four products of signed bytes of `w` and unsigned ones of `x`. Cranelift knows this tree, in this order,
/// as one instruction of machines that have it.
pub fn dot(b: &mut FunctionBuilder<'_>, sums: Value, w: Value, x: Value) -> Value {
    let (w, x) = (cast(b, I8X16, w), cast(b, I8X16, x));
    let (w_low, x_low) = (b.ins().swiden_low(w), b.ins().uwiden_low(x));
    let (w_high, x_high) = (b.ins().swiden_high(w), b.ins().uwiden_high(x));
    let low = b.ins().imul(w_low, x_low);
    let high = b.ins().imul(w_high, x_high);
    let [low, high] = [low, high].map(|products| {
        let (first, second) = (b.ins().swiden_low(products), b.ins().swiden_high(products));
        b.ins().iadd_pairwise(first, second)
    });
    let four = b.ins().iadd_pairwise(low, high);
    b.ins().iadd(four, sums)
}

/// I32X4 `sums` and, in each lane, two products of signed words.
pub fn dot_words(b: &mut FunctionBuilder<'_>, sums: Value, w: Value, x: Value) -> Value {
    let (w, x) = (cast(b, I16X8, w), cast(b, I16X8, x));
    let (w_low, x_low) = (b.ins().swiden_low(w), b.ins().swiden_low(x));
    let (w_high, x_high) = (b.ins().swiden_high(w), b.ins().swiden_high(x));
    let low = b.ins().imul(w_low, x_low);
    let high = b.ins().imul(w_high, x_high);
    let two = b.ins().iadd_pairwise(low, high);
    b.ins().iadd(two, sums)
}

/// The bytes of a table of 256 at the places that those of `places` say: 16 entries at a time, of which others give 0.
pub fn translate(b: &mut FunctionBuilder<'_>, places: Value, table: Value, displacement: i32) -> Value {
    let mut places = cast(b, I8X16, places);
    let sixteen = b.ins().iconst(I8, 16);
    let sixteen = b.ins().splat(I8X16, sixteen);
    let mut all = None;
    for part in 0..16 {
        let entries = b.ins().load(I8X16, flags(), table, displacement.wrapping_add(16 * part));
        let found = b.ins().swizzle(entries, places);
        all = Some(all.map_or(found, |all| b.ins().bor(all, found)));
        places = b.ins().isub(places, sixteen);
    }
    all.unwrap_or(places)
}

/// The rows of a block of bytes whose columns these 4, 8 or 16 vectors are, one row behind another. Bytes of the first half of the
/// vectors and of the second go by turns, until neighbours of a column are as far apart as there are columns.
///
/// ```text
///   a0 a1 a2 …               a0 c0 a1 c1 …               a0 b0 c0 d0 a1 b1 …
///   b0 b1 b2 …    a with c   a8 c8 a9 c9 …               a4 b4 c4 d4 a5 b5 …
///   c0 c1 c2 …  ─────────▶   b0 d0 b1 d1 …  ─────────▶   a8 …
///   d0 d1 d2 …    b with d   b8 d8 b9 d9 …               ac …
/// ```
pub fn transposed(b: &mut FunctionBuilder<'_>, columns: Vec<Value>) -> Vec<Value> {
    let (half, rounds) = (columns.len() / 2, columns.len().ilog2());
    let turns = |from: u8| (from..from + 8).flat_map(|i| [i, i + 16]).collect::<Vec<u8>>();
    let masks = [0, 8].map(|from| b.func.dfg.immediates.push(ConstantData::from(turns(from))));
    let mut vectors = columns;
    for _ in 0..rounds {
        let (first, second) = vectors.split_at(half);
        let pairs = first.iter().zip(second);
        vectors = pairs.flat_map(|(&x, &y)| masks.map(|mask| b.ins().shuffle(x, y, mask))).collect();
    }
    vectors
}

/// Four bytes as F32X4.
fn numbers(b: &mut FunctionBuilder<'_>, bits: Value) -> Value {
    let lanes = b.ins().scalar_to_vector(I32X4, bits);
    let bytes = cast(b, I8X16, lanes);
    let words = b.ins().uwiden_low(bytes);
    debug_assert_eq!(b.func.dfg.value_type(words), I16X8);
    let numbers = b.ins().uwiden_low(words);
    b.ins().fcvt_from_sint(F32X4, numbers)
}

/// The same bits as another type.
pub fn cast(b: &mut FunctionBuilder<'_>, ty: Type, value: Value) -> Value {
    if b.func.dfg.value_type(value) == ty {
        return value;
    }
    b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), value)
}

/// Accesses cannot trap, and promise no alignment.
fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}
