//! Tile programs as Cranelift IR over 128-bit vectors: the portable lowering, and full width on aarch64.
//!
//! A register of 8 or 16 lanes is 2 or 4 values of type F32X4. Virtual registers become Cranelift variables, and
//! Cranelift's register allocator may spill, so every program that verifies can be lowered.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::immediates::{Ieee32, Offset32};
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I8X16, I32, I32X4, I64};
use cranelift_codegen::ir::{Endianness, Function, InstBuilder, MemFlagsData, Value};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::error::TileError;
use super::ir::{Addr, BinOp, Inst, Int, Lanes, Source, Test, TileProgram, Trips, UnOp, Vector};
use super::registers::{self, Lifetimes, RegisterFile};
use super::scale;
use crate::code::float::Float;
use crate::code::math::Math;
use crate::code::{bytes, half};

/// Writes a verified program into `func`, whose signature has one i64 for each parameter. `fused` says that the target
/// has fused multiply-add.
pub fn lower(
    program: &TileProgram,
    fused: bool,
    func: &mut Function,
    scratch: &mut FunctionBuilderContext,
    config: TargetFrontendConfig,
) {
    let mut b = FunctionBuilder::new(func, scratch);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    b.seal_block(entry);
    let params = b.block_params(entry).to_vec();
    let ints: Vec<Variable> = (0..program.ints).map(|_| b.declare_var(I64)).collect();
    for (var, value) in ints.iter().zip(params) {
        b.def_var(*var, value);
    }
    let vectors = program
        .vectors
        .iter()
        .map(|lanes| (0..lanes.count() / 4).map(|_| b.declare_var(F32X4)).collect())
        .collect();
    let mut emitter = ClifEmitter { b, fused, ints, vectors };
    emitter.body(&program.body);
    let mut b = emitter.b;
    b.ins().return_(&[]);
    b.finalize(config);
}

/// Whether a program fits that many 128-bit registers, so that Cranelift need not spill.
pub fn fits(program: &TileProgram, vectors: u32) -> Result<(), TileError> {
    let file = RegisterFile { isa: "Cranelift", vectors, widest: Lanes::X4, ints: 14, saved: 0 };
    // Operands in memory and constants are loaded into a register first; half floats take some to convert.
    let scratch = |inst: &Inst| match inst {
        Inst::Fma { b, .. } | Inst::Bin { b, .. } | Inst::MulAdd { add: b, .. } => match b {
            Source::Reg(_) => 0,
            Source::Mem(addr) | Source::Splat(addr) if addr.float.is_narrow() => CONVERSION,
            Source::Mem(_) | Source::Splat(_) | Source::Imm(_) => 1,
        },
        Inst::Dot { .. } | Inst::DotWords { .. } | Inst::DotHalves { .. } => PRODUCTS,
        Inst::Pack { .. } => CONVERSION,
        Inst::Store { addr, .. } | Inst::StorePart { addr, .. } if addr.float.is_narrow() => CONVERSION,
        Inst::Load { addr, .. } | Inst::LoadPart { addr, .. } if addr.float.is_narrow() => CONVERSION - 1,
        Inst::Load { .. } | Inst::LoadPart { .. } | Inst::Splat { .. } | Inst::Spread { .. } => 0,
        Inst::Store { .. } | Inst::StorePart { .. } | Inst::Const { .. } | Inst::Copy { .. } => 0,
        Inst::Fold { .. } | Inst::Shl { .. } | Inst::Shr { .. } | Inst::Un { .. } => 0,
        Inst::Pick { .. } => 1,
        Inst::Translate { .. } => 3,
        Inst::Gather { .. } => 1,
        // Halves of f64, and what a polynomial of them takes.
        Inst::Sine { .. } => 5,
        Inst::Select { .. } | Inst::Fill { .. } => 1,
        Inst::Across { .. } | Inst::Scale { .. } => 2,
        Inst::Prefetch { .. } | Inst::Advance { .. } | Inst::Lookup { .. } | Inst::Loop { .. } => 0,
        Inst::Configure | Inst::Release | Inst::MatrixZero { .. } | Inst::MatrixLoad { .. } => 0,
        Inst::MatrixDot { .. } | Inst::MatrixStore { .. } => 0,
    };
    registers::measure(program, &Lifetimes::of(program), file, &scratch).map(|_| ())
}

/// Scratch registers that storing takes.
pub const fn store_scratch(float: Float) -> usize {
    if float.is_narrow() { CONVERSION } else { 0 }
}

/// Registers that products of bytes take where no instruction adds them up.
const PRODUCTS: usize = 5;

/// Registers that the conversion of a half float, or of bytes, takes.
const CONVERSION: usize = 4;

/// Bytes of one F32X4 in memory.
const fn piece_bytes(float: Float) -> i32 {
    4 * float.bytes() as i32
}

struct ClifEmitter<'a> {
    b: FunctionBuilder<'a>,
    fused: bool,
    ints: Vec<Variable>,
    vectors: Vec<Vec<Variable>>,
}

impl ClifEmitter<'_> {
    fn body(&mut self, body: &[Inst]) {
        body.iter().for_each(|inst| self.inst(inst));
    }

    /// Accesses cannot trap, and promise no alignment.
    fn flags() -> MemFlagsData {
        MemFlagsData::new().with_notrap()
    }

    fn pieces(&self, v: Vector) -> Vec<Variable> {
        self.vectors[v.0 as usize].clone()
    }

    fn get(&mut self, v: Vector, piece: usize) -> Value {
        let var = self.vectors[v.0 as usize][piece];
        self.b.use_var(var)
    }

    fn int(&mut self, r: Int) -> Value {
        self.b.use_var(self.ints[r.0 as usize])
    }

    fn load(&mut self, ty: cranelift_codegen::ir::Type, addr: Addr, offset: i32) -> Value {
        let base = self.int(addr.base);
        self.b.ins().load(ty, Self::flags(), base, Offset32::new(addr.disp + offset))
    }

    fn store(&mut self, value: Value, addr: Addr, offset: i32) {
        let base = self.int(addr.base);
        self.b.ins().store(Self::flags(), value, base, Offset32::new(addr.disp + offset));
    }

    fn constant(&mut self, bits: u32) -> Value {
        let x = self.b.ins().f32const(Ieee32::with_bits(bits));
        self.b.ins().splat(F32X4, x)
    }

    fn splat(&mut self, addr: Addr) -> Value {
        if addr.float.is_narrow() {
            return self.spread_narrow(addr, 1);
        }
        let x = self.load(F32, addr, 0);
        self.b.ins().splat(F32X4, x)
    }

    /// A few elements that are no `f32`, over and over.
    fn spread_narrow(&mut self, addr: Addr, n: u8) -> Value {
        let base = self.int(addr.base);
        match addr.float {
            Float::U8 => bytes::spread(&mut self.b, base, addr.disp, n),
            half => half::spread(&mut self.b, half.dtype(), base, addr.disp, n),
        }
    }

    /// Four lanes from memory.
    fn load_piece(&mut self, addr: Addr, piece: usize) -> Value {
        let offset = piece as i32 * piece_bytes(addr.float);
        match addr.float {
            Float::F32 => self.load(F32X4, addr, offset),
            Float::U8 => {
                let base = self.int(addr.base);
                bytes::load_some(&mut self.b, base, addr.disp + offset, 4)
            }
            half @ (Float::F16 | Float::Bf16) => {
                let base = self.int(addr.base);
                half::load_four(&mut self.b, half.dtype(), base, addr.disp + offset)
            }
        }
    }

    /// The same floats, not as the load that they come from: without AVX, Cranelift compares with an operand in memory that has to
    /// be aligned, and most are not.
    fn in_register(&mut self, x: Value) -> Value {
        let bits = self.cast(I32X4, x);
        self.cast(F32X4, bits)
    }

    /// The same bits as another vector type.
    fn cast(&mut self, ty: cranelift_codegen::ir::Type, value: Value) -> Value {
        self.b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), value)
    }

    fn inst(&mut self, inst: &Inst) {
        match inst {
            Inst::Load { dst, addr } => {
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let value = self.load_piece(*addr, i);
                    self.b.def_var(var, value);
                }
            }
            Inst::LoadPart { dst, addr, n } => {
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let value = self.load_low(*addr, i, i32::from(*n) - 4 * i as i32);
                    self.b.def_var(var, value);
                }
            }
            Inst::Splat { dst, addr } => {
                let value = self.splat(*addr);
                self.pieces(*dst).into_iter().for_each(|var| self.b.def_var(var, value));
            }
            Inst::Spread { dst, addr, n } => {
                let value = match n {
                    _ if addr.float.is_narrow() => self.spread_narrow(*addr, *n),
                    2 => {
                        let two = self.load(F64, *addr, 0);
                        let twice = self.b.ins().splat(F64X2, two);
                        self.cast(F32X4, twice)
                    }
                    _ => self.load(F32X4, *addr, 0),
                };
                self.pieces(*dst).into_iter().for_each(|var| self.b.def_var(var, value));
            }
            Inst::Fold { dst, src } => {
                // Both pieces are read before any is written: `dst` may be `src`'s first half.
                let sums: Vec<Value> = (0..self.pieces(*dst).len())
                    .map(|i| {
                        let pair = [self.get(*src, 2 * i), self.get(*src, 2 * i + 1)];
                        let [even, odd] = [0, 1].map(|first| self.every_other(pair, first));
                        self.b.ins().fadd(even, odd)
                    })
                    .collect();
                for (var, value) in self.pieces(*dst).into_iter().zip(sums) {
                    self.b.def_var(var, value);
                }
            }
            Inst::Pick { dst, low, high, first } => {
                let count = self.pieces(*dst).len();
                let mut both: Vec<Value> = (0..count).map(|i| self.get(*low, i)).collect();
                both.extend((0..count).map(|i| self.get(*high, i)).collect::<Vec<Value>>());
                let picked = both.chunks_exact(2).map(|pair| self.every_other([pair[0], pair[1]], *first));
                let picked: Vec<Value> = picked.collect();
                for (var, value) in self.pieces(*dst).into_iter().zip(picked) {
                    self.b.def_var(var, value);
                }
            }
            Inst::Gather { dst, addr, places, among } => {
                let base = self.int(addr.base);
                let gathered: Vec<Value> = (0..self.pieces(*dst).len())
                    .map(|i| {
                        let places = self.get(*places, i);
                        let places = self.cast(I32X4, places);
                        let none = self.constant(0);
                        (0..4).fold(none, |gathered, lane| {
                            let place = self.b.ins().extractlane(places, lane);
                            let place = self.b.ins().band_imm_s(place, i64::from(among - 1));
                            let place = self.b.ins().uextend(I64, place);
                            let place = self.b.ins().ishl_imm_s(place, 2);
                            let at = self.b.ins().iadd(base, place);
                            let float = self.b.ins().load(F32, Self::flags(), at, addr.disp);
                            self.b.ins().insertlane(gathered, float, lane)
                        })
                    })
                    .collect();
                for (var, value) in self.pieces(*dst).into_iter().zip(gathered) {
                    self.b.def_var(var, value);
                }
            }
            Inst::Across { op, dst, src } => {
                let mut pieces: Vec<Value> =
                    (0..self.pieces(*src).len()).map(|i| self.get(*src, i)).collect();
                while pieces.len() > 1 {
                    let upper = pieces.split_off(pieces.len() / 2);
                    pieces = pieces.into_iter().zip(upper).map(|(a, b)| self.binary(*op, a, b)).collect();
                }
                let Some(&all) = pieces.first() else { return };
                let upper = self.moved(all, 2);
                let pair = self.binary(*op, all, upper);
                let second = self.moved(pair, 1);
                let one = self.binary(*op, pair, second);
                let one = self.b.ins().extractlane(one, 0);
                let value = self.b.ins().splat(F32X4, one);
                self.pieces(*dst).into_iter().for_each(|var| self.b.def_var(var, value));
            }
            Inst::Fill { dst, src, n, bits } => {
                let rest = self.constant(*bits);
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let value = match usize::from(*n).saturating_sub(4 * i) {
                        0 => rest,
                        kept @ 1..=3 => {
                            let lanes = self.get(*src, i);
                            let mask = self.first_lanes(kept);
                            self.b.ins().bitselect(mask, lanes, rest)
                        }
                        _ => self.get(*src, i),
                    };
                    self.b.def_var(var, value);
                }
            }
            Inst::Const { dst, bits } => {
                let value = self.constant(*bits);
                self.pieces(*dst).into_iter().for_each(|var| self.b.def_var(var, value));
            }
            Inst::Copy { dst, src } => {
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let value = self.get(*src, i);
                    self.b.def_var(var, value);
                }
            }
            Inst::Store { src, addr } => {
                for i in 0..self.pieces(*src).len() {
                    let value = self.get(*src, i);
                    self.store_low(value, *addr, i, 4);
                }
            }
            Inst::Pack { parts, addr } => {
                let mut displacement = addr.disp;
                for part in parts {
                    for i in 0..self.pieces(*part).len() {
                        let value = self.get(*part, i);
                        let base = self.int(addr.base);
                        let value = bytes::below_large(&mut self.b, value);
                        bytes::store_some(&mut self.b, value, base, displacement, 4);
                        displacement += 4;
                    }
                }
            }
            Inst::StorePart { src, addr, n } => {
                for i in 0..self.pieces(*src).len() {
                    let value = self.get(*src, i);
                    self.store_low(value, *addr, i, i32::from(*n) - 4 * i as i32);
                }
            }
            Inst::Fma { acc, a, b, once } => {
                let shared = self.shared(b);
                for (i, var) in self.pieces(*acc).into_iter().enumerate() {
                    let (sum, x, y) = (self.get(*acc, i), self.get(*a, i), self.operand(b, shared, i));
                    let value = match self.fused || !once {
                        true => self.mul_add(x, y, sum),
                        // The product of f64 is exact.
                        false => self.by_halves([x, y, sum], |b, [x, y, sum]| {
                            let product = b.ins().fmul(x, y);
                            b.ins().fadd(product, sum)
                        }),
                    };
                    self.b.def_var(var, value);
                }
            }
            Inst::Dot { acc, a, b } | Inst::DotWords { acc, a, b } => {
                let shared = self.shared(b);
                for (i, var) in self.pieces(*acc).into_iter().enumerate() {
                    let (sum, w, x) = (self.get(*acc, i), self.get(*a, i), self.operand(b, shared, i));
                    let sum = self.cast(I32X4, sum);
                    let sum = match inst {
                        Inst::Dot { .. } => bytes::dot(&mut self.b, sum, w, x),
                        _ => bytes::dot_words(&mut self.b, sum, w, x),
                    };
                    let value = self.cast(F32X4, sum);
                    self.b.def_var(var, value);
                }
            }
            Inst::DotHalves { acc, a, b } => {
                let shared = self.shared(b);
                for (i, var) in self.pieces(*acc).into_iter().enumerate() {
                    let (mut sum, x, y) = (self.get(*acc, i), self.get(*a, i), self.operand(b, shared, i));
                    for upper in [true, false] {
                        let [x, y] = [x, y].map(|pairs| self.widened_halves(pairs, upper));
                        sum = self.mul_add(x, y, sum);
                    }
                    self.b.def_var(var, sum);
                }
            }
            Inst::Translate { dst, src, table } => {
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let (places, at) = (self.get(*src, i), self.int(table.base));
                    let value = bytes::translate(&mut self.b, places, at, table.disp);
                    let value = self.cast(F32X4, value);
                    self.b.def_var(var, value);
                }
            }
            Inst::MulAdd { dst, x, add } => {
                let shared = self.shared(add);
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let (factor, x, add) = (self.get(*dst, i), self.get(*x, i), self.operand(add, shared, i));
                    let value = self.mul_add(factor, x, add);
                    self.b.def_var(var, value);
                }
            }
            Inst::Scale { dst, src, by } => {
                let [half, first, second] = scale::CONSTANTS.map(|c| self.constant(c.to_bits()));
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let (x, n) = (self.get(*src, i), self.get(*by, i));
                    let low = self.mul_add(n, half, first);
                    let both = self.b.ins().fadd(n, second);
                    let (low, both) = (self.cast(I32X4, low), self.cast(I32X4, both));
                    let high = self.b.ins().isub(both, low);
                    let [low, high] = [low, high].map(|n| {
                        let by = self.b.ins().iconst(I32, 23);
                        let bits = self.b.ins().ishl(n, by);
                        self.cast(F32X4, bits)
                    });
                    let value = self.b.ins().fmul(x, low);
                    let value = self.b.ins().fmul(value, high);
                    self.b.def_var(var, value);
                }
            }
            Inst::Bin { op, dst, a, b } => {
                let shared = self.shared(b);
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let (x, y) = (self.get(*a, i), self.operand(b, shared, i));
                    let value = self.binary(*op, x, y);
                    self.b.def_var(var, value);
                }
            }
            Inst::Shl { dst, src, by } => {
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let value = self.get(*src, i);
                    let bits = self.cast(I32X4, value);
                    let by = self.b.ins().iconst(I32, i64::from(*by));
                    let bits = self.b.ins().ishl(bits, by);
                    let value = self.cast(F32X4, bits);
                    self.b.def_var(var, value);
                }
            }
            Inst::Shr { dst, src, by } => {
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let value = self.get(*src, i);
                    let bits = self.cast(I32X4, value);
                    let by = self.b.ins().iconst(I32, i64::from(*by));
                    let bits = self.b.ins().ushr(bits, by);
                    let value = self.cast(F32X4, bits);
                    self.b.def_var(var, value);
                }
            }
            Inst::Un { op, dst, src } => {
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let x = self.get(*src, i);
                    let value = match op {
                        UnOp::Sqrt => self.b.ins().sqrt(x),
                        UnOp::Floor => self.b.ins().floor(x),
                        UnOp::Ceil => self.b.ins().ceil(x),
                        UnOp::Nearest => self.b.ins().nearest(x),
                        UnOp::Integer => {
                            let whole = self.b.ins().nearest(x);
                            let integers = self.b.ins().fcvt_to_sint_sat(I32X4, whole);
                            self.cast(F32X4, integers)
                        }
                        UnOp::Number => {
                            let integers = self.cast(I32X4, x);
                            self.b.ins().fcvt_from_sint(F32X4, integers)
                        }
                    };
                    self.b.def_var(var, value);
                }
            }
            Inst::Sine { dst, src, cosine } => {
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let x = self.get(*src, i);
                    let value = self.by_halves([x], |b, [x]| {
                        let mut math = Math::new(b, F64X2);
                        if *cosine { math.cos(x) } else { math.sin(x) }
                    });
                    self.b.def_var(var, value);
                }
            }
            Inst::Select { test, x, y, dst, then, otherwise } => {
                let condition = match test {
                    Test::Less => FloatCC::LessThan,
                    Test::LessOrEqual => FloatCC::LessThanOrEqual,
                    Test::Equal => FloatCC::Equal,
                };
                for (i, var) in self.pieces(*dst).into_iter().enumerate() {
                    let (x, y) = (self.get(*x, i), self.get(*y, i));
                    let (x, y) = (self.in_register(x), self.in_register(y));
                    let mask = self.b.ins().fcmp(condition, x, y);
                    let mask = self.cast(F32X4, mask);
                    let (then, otherwise) = (self.get(*then, i), self.get(*otherwise, i));
                    let value = self.b.ins().bitselect(mask, then, otherwise);
                    self.b.def_var(var, value);
                }
            }
            // Cranelift has no such instruction.
            Inst::Prefetch { .. } => {}
            // No program with matrix registers comes here.
            Inst::Configure | Inst::Release | Inst::MatrixZero { .. } | Inst::MatrixLoad { .. } => {}
            Inst::MatrixDot { .. } | Inst::MatrixStore { .. } => {}
            Inst::Advance { ptr, bytes } => {
                let value = self.int(*ptr);
                let value = self.b.ins().iadd_imm_s(value, i64::from(*bytes));
                self.b.def_var(self.ints[ptr.0 as usize], value);
            }
            Inst::Lookup { dst, base, entry } => {
                let disp = self.load(I32, *entry, 0);
                let disp = self.b.ins().sextend(I64, disp);
                let base = self.int(*base);
                let value = self.b.ins().iadd(base, disp);
                self.b.def_var(self.ints[dst.0 as usize], value);
            }
            Inst::Loop { trips: count, body } => self.repeat(*count, body),
        }
    }

    /// The upper or the lower `bf16` of each lane.
    fn widened_halves(&mut self, pairs: Value, upper: bool) -> Value {
        let bits = self.cast(I32X4, pairs);
        let bits = if upper { self.b.ins().ushr_imm_s(bits, 16) } else { bits };
        let bits = self.b.ins().ishl_imm_s(bits, 16);
        self.cast(F32X4, bits)
    }

    /// `x` · `y` + `sum`, rounded once where the target does that.
    fn mul_add(&mut self, x: Value, y: Value, sum: Value) -> Value {
        if self.fused {
            return self.b.ins().fma(x, y, sum);
        }
        let product = self.b.ins().fmul(x, y);
        self.b.ins().fadd(sum, product)
    }

    /// A function of four `f32` as one of two `f64` each.
    fn by_halves<const N: usize>(
        &mut self,
        pieces: [Value; N],
        of: impl Fn(&mut FunctionBuilder<'_>, [Value; N]) -> Value,
    ) -> Value {
        let [low, high] = [0, 2].map(|first| {
            let halves = pieces.map(|piece| {
                let half = if first == 0 { piece } else { self.moved(piece, first) };
                self.b.ins().fvpromote_low(half)
            });
            let value = of(&mut self.b, halves);
            self.b.ins().fvdemote(value)
        });
        let [low, high] = [low, high].map(|half| self.cast(F64X2, half));
        let high = self.b.ins().extractlane(high, 0);
        let both = self.b.ins().insertlane(low, high, 1);
        self.cast(F32X4, both)
    }

    /// Lanes `first`, `first + 2`, … of two pieces.
    fn every_other(&mut self, pair: [Value; 2], first: u8) -> Value {
        let [a, b] = pair.map(|piece| self.cast(I8X16, piece));
        let bytes: Vec<u8> =
            (0..4).flat_map(|lane| (0..4).map(move |byte| 4 * (2 * lane + first) + byte)).collect();
        let mask = self.b.func.dfg.immediates.push(bytes.into());
        let lanes = self.b.ins().shuffle(a, b, mask);
        self.cast(F32X4, lanes)
    }

    /// The lanes of a piece from `first` on, then any.
    fn moved(&mut self, piece: Value, first: u8) -> Value {
        let bytes = self.cast(I8X16, piece);
        let order: Vec<u8> = (0..16).map(|byte| (byte + 4 * first) % 16).collect();
        let mask = self.b.func.dfg.immediates.push(order.into());
        let lanes = self.b.ins().shuffle(bytes, bytes, mask);
        self.cast(F32X4, lanes)
    }

    /// Ones in the first `n` lanes.
    fn first_lanes(&mut self, n: usize) -> Value {
        let bytes: Vec<u8> = (0..16).map(|byte| if byte < 4 * n { 0xff } else { 0 }).collect();
        let mask = self.b.func.dfg.constants.insert(bytes.into());
        let mask = self.b.ins().vconst(I32X4, mask);
        self.cast(F32X4, mask)
    }

    /// The value of an operand that is the same for all pieces.
    fn shared(&mut self, b: &Source) -> Option<Value> {
        match b {
            Source::Splat(addr) => Some(self.splat(*addr)),
            Source::Imm(bits) => Some(self.constant(*bits)),
            Source::Reg(_) | Source::Mem(_) => None,
        }
    }

    fn operand(&mut self, b: &Source, shared: Option<Value>, piece: usize) -> Value {
        match (b, shared) {
            (Source::Reg(v), _) => self.get(*v, piece),
            (Source::Mem(addr), _) => self.load_piece(*addr, piece),
            (_, Some(value)) => value,
            (Source::Splat(addr), None) => self.splat(*addr),
            (Source::Imm(bits), None) => self.constant(*bits),
        }
    }

    /// Cranelift's own fmax and fmin propagate every NaN; the tile IR's return the second operand. Compare and select is
    /// one `maxps` or `minps` on x86-64.
    fn binary(&mut self, op: BinOp, x: Value, y: Value) -> Value {
        let condition = match op {
            BinOp::Add => return self.b.ins().fadd(x, y),
            BinOp::Sub => return self.b.ins().fsub(x, y),
            BinOp::Mul => return self.b.ins().fmul(x, y),
            BinOp::Div => return self.b.ins().fdiv(x, y),
            BinOp::And | BinOp::Or | BinOp::Xor => {
                let (x, y) = (self.cast(I32X4, x), self.cast(I32X4, y));
                let bits = match op {
                    BinOp::And => self.b.ins().band(x, y),
                    BinOp::Or => self.b.ins().bor(x, y),
                    _ => self.b.ins().bxor(x, y),
                };
                return self.cast(F32X4, bits);
            }
            BinOp::MaxBytes => {
                let (x, y) = (self.cast(I8X16, x), self.cast(I8X16, y));
                let larger = self.b.ins().umax(x, y);
                return self.cast(F32X4, larger);
            }
            BinOp::Max => self.b.ins().fcmp(FloatCC::LessThan, y, x),
            BinOp::Min => self.b.ins().fcmp(FloatCC::LessThan, x, y),
        };
        let condition = self.cast(F32X4, condition);
        self.b.ins().bitselect(condition, x, y)
    }

    /// The first `n` lanes of a piece from memory, the rest zero.
    fn load_low(&mut self, addr: Addr, piece: usize, n: i32) -> Value {
        let offset = piece as i32 * piece_bytes(addr.float);
        match n {
            ..=0 => self.constant(0),
            _ if addr.float == Float::U8 => {
                let base = self.int(addr.base);
                bytes::load_some(&mut self.b, base, addr.disp + offset, n)
            }
            _ if addr.float.is_half() => {
                let base = self.int(addr.base);
                half::load_some(&mut self.b, addr.float.dtype(), base, addr.disp + offset, n)
            }
            1 => {
                let x = self.load(F32, addr, offset);
                self.b.ins().scalar_to_vector(F32X4, x)
            }
            2 | 3 => {
                let two = self.load(F64, addr, offset);
                let two = self.b.ins().scalar_to_vector(F64X2, two);
                let low = self.cast(F32X4, two);
                if n == 2 {
                    return low;
                }
                let third = self.load(F32, addr, offset + 8);
                self.b.ins().insertlane(low, third, 2)
            }
            _ => self.load(F32X4, addr, offset),
        }
    }

    /// The first `n` lanes of a piece to memory.
    fn store_low(&mut self, value: Value, addr: Addr, piece: usize, n: i32) {
        let offset = piece as i32 * piece_bytes(addr.float);
        match n {
            ..=0 => {}
            _ if addr.float == Float::U8 => {
                let base = self.int(addr.base);
                bytes::store_some(&mut self.b, value, base, addr.disp + offset, n);
            }
            _ if addr.float.is_half() => {
                let base = self.int(addr.base);
                half::store_some(&mut self.b, addr.float.dtype(), value, base, addr.disp + offset, n);
            }
            1 => {
                let x = self.b.ins().extractlane(value, 0);
                self.store(x, addr, offset);
            }
            2 | 3 => {
                let halves = self.cast(F64X2, value);
                let two = self.b.ins().extractlane(halves, 0);
                self.store(two, addr, offset);
                if n == 3 {
                    let third = self.b.ins().extractlane(value, 2);
                    self.store(third, addr, offset + 8);
                }
            }
            _ => self.store(value, addr, offset),
        }
    }

    fn repeat(&mut self, count: Trips, body: &[Inst]) {
        let (head, exit) = (self.b.create_block(), self.b.create_block());
        let left = self.b.declare_var(I64);
        let rounds = match count {
            Trips::Imm(n) => self.b.ins().iconst(I64, i64::from(n)),
            Trips::Param(p) => self.int(p),
        };
        self.b.def_var(left, rounds);
        match count {
            Trips::Imm(_) => self.b.ins().jump(head, &[]),
            Trips::Param(_) => self.b.ins().brif(rounds, head, &[], exit, &[]),
        };
        self.b.switch_to_block(head);
        self.body(body);
        let rounds = self.b.use_var(left);
        let rounds = self.b.ins().iadd_imm_s(rounds, -1);
        self.b.def_var(left, rounds);
        let more = self.b.ins().icmp_imm_u(IntCC::NotEqual, rounds, 0);
        self.b.ins().brif(more, head, &[], exit, &[]);
        self.b.seal_block(head);
        self.b.switch_to_block(exit);
        self.b.seal_block(exit);
    }
}
