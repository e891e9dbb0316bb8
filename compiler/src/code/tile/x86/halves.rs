//! Half floats in memory, `f32` in registers.
//!
//! | | widened | rounded |
//! |---|---|---|
//! | `f16` | `vcvtph2ps`, from memory or a register of half the width | `vcvtps2ph`, to nearest even |
//! | `bf16` | `vpmovzxwd`, then a shift by 16 bits | by integers, as below |
//!
//! There is an instruction that rounds to `bf16`, on few machines, and it flushes denormals: it is for programs that do so, too. By integers it is
//! `(bits + 0x7fff + (bits >> 16 & 1)) >> 16`, and `bits >> 16` with the quiet bit for NaN.
//!
//! AVX-512 masks the lanes of a partial access. AVX2 puts them together in the lower half of a register, from pieces of 8, 4
//! and 2 bytes, so that no other byte is touched.

use iced_x86::{Code, Instruction, MemoryOperand, Register};

use super::asm::AsmError;
use super::{
    FMA, Forms, Level, RegisterWidth, SHL, SPLAT, SPREAD_TWO, X86Emitter, XOR, broadcast, first_lanes, form,
    high,
};
use crate::code::float::Float;
use crate::code::tile::ir::{Addr, Source, Vector};
use crate::code::tile::registers::Regs;

/// The mask register that rounding to `bf16` uses; [`super::masks`] leaves it free.
pub(super) const NAN_LANES: Register = Register::K7;

const FROM_F16: Forms = [
    Code::VEX_Vcvtph2ps_xmm_xmmm64,
    Code::VEX_Vcvtph2ps_ymm_xmmm128,
    Code::EVEX_Vcvtph2ps_xmm_k1z_xmmm64,
    Code::EVEX_Vcvtph2ps_ymm_k1z_xmmm128,
    Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae,
];
const TO_F16: Forms = [
    Code::VEX_Vcvtps2ph_xmmm64_xmm_imm8,
    Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8,
    Code::EVEX_Vcvtps2ph_xmmm64_k1z_xmm_imm8,
    Code::EVEX_Vcvtps2ph_xmmm128_k1z_ymm_imm8,
    Code::EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae,
];
/// The rounding mode of [`TO_F16`]: to nearest even.
const NEAREST: u32 = 0;
const FROM_WORDS: Forms = [
    Code::VEX_Vpmovzxwd_xmm_xmmm64,
    Code::VEX_Vpmovzxwd_ymm_xmmm128,
    Code::EVEX_Vpmovzxwd_xmm_k1z_xmmm64,
    Code::EVEX_Vpmovzxwd_ymm_k1z_xmmm128,
    Code::EVEX_Vpmovzxwd_zmm_k1z_ymmm256,
];
const SPLAT_WORD: Forms = [
    Code::VEX_Vpbroadcastw_xmm_xmmm16,
    Code::VEX_Vpbroadcastw_ymm_xmmm16,
    Code::EVEX_Vpbroadcastw_xmm_k1z_xmmm16,
    Code::EVEX_Vpbroadcastw_ymm_k1z_xmmm16,
    Code::EVEX_Vpbroadcastw_zmm_k1z_xmmm16,
];
const SHR: Forms = [
    Code::VEX_Vpsrld_xmm_xmm_imm8,
    Code::VEX_Vpsrld_ymm_ymm_imm8,
    Code::EVEX_Vpsrld_xmm_k1z_xmmm128b32_imm8,
    Code::EVEX_Vpsrld_ymm_k1z_ymmm256b32_imm8,
    Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8,
];
const AND: Forms = [
    Code::VEX_Vpand_xmm_xmm_xmmm128,
    Code::VEX_Vpand_ymm_ymm_ymmm256,
    Code::EVEX_Vpandd_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vpandd_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32,
];
const OR: Forms = [
    Code::VEX_Vpor_xmm_xmm_xmmm128,
    Code::VEX_Vpor_ymm_ymm_ymmm256,
    Code::EVEX_Vpord_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vpord_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vpord_zmm_k1z_zmm_zmmm512b32,
];
const ADD: Forms = [
    Code::VEX_Vpaddd_xmm_xmm_xmmm128,
    Code::VEX_Vpaddd_ymm_ymm_ymmm256,
    Code::EVEX_Vpaddd_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vpaddd_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32,
];

/// The condition of `vcmpps` that holds where an operand is NaN.
const UNORDERED: u32 = 3;
/// The quiet bit of an `f32`.
const QUIET: u32 = 0x0040_0000;
/// Just less than half of the last place that stays.
const BELOW_HALF: u32 = 0x7fff;

impl RegisterWidth {
    /// The width of as many half floats.
    fn half(self) -> RegisterWidth {
        match self {
            RegisterWidth::Xmm | RegisterWidth::Ymm => RegisterWidth::Xmm,
            RegisterWidth::Zmm => RegisterWidth::Ymm,
        }
    }

    /// Lanes of `f32`.
    fn lanes(self) -> i32 {
        self.bytes() / 4
    }
}

/// Two products of `bf16` added to each lane; there is no encoding without EVEX.
const DOT: Forms = [
    Code::EVEX_Vdpbf16ps_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vdpbf16ps_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vdpbf16ps_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vdpbf16ps_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vdpbf16ps_zmm_k1z_zmm_zmmm512b32,
];

/// Scratch registers that products of pairs take, given what the second source is.
pub(super) fn dot_scratch(b: &Source, has_dot: bool) -> usize {
    match b {
        Source::Mem(addr) | Source::Splat(addr) if has_dot => usize::from(addr.float.is_narrow()),
        _ if has_dot => 0,
        Source::Reg(_) => 2,
        Source::Mem(_) | Source::Splat(_) | Source::Imm(_) => 3,
    }
}

/// Scratch registers that storing takes: all lanes, or a part of them.
pub(super) const fn store_scratch(float: Float, level: Level, part: bool) -> usize {
    match (float, level) {
        (Float::F32 | Float::U8, _) | (Float::F16, Level::Avx512) => 0,
        (Float::F16, Level::Avx2) => part as usize,
        (Float::Bf16, Level::Avx512) => 1,
        (Float::Bf16, Level::Avx2) => 3,
    }
}

impl X86Emitter<'_> {
    /// All lanes of a machine register.
    pub(super) fn load_halves(
        &mut self,
        float: Float,
        width: RegisterWidth,
        d: u8,
        m: MemoryOperand,
    ) -> Result<(), AsmError> {
        let code = form(from_halves(float), width, high(&[d]));
        self.asm.emit(&Instruction::with2(code, width.reg(d), m)?)?;
        self.widened(float, width, d)
    }

    /// Adds the products of the upper and of the lower `bf16` of `a` and `b` to each lane. Without the instruction they are widened, and take
    /// two multiply-adds; denormals are then taken for zero where the thread does that.
    pub(super) fn dot_halves(
        &mut self,
        acc: Vector,
        a: Vector,
        b: Source,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        if self.with.dot_of_halves {
            return self.ternary(DOT, acc, a, b, regs);
        }
        let width = self.width(acc);
        let &[t, u, ref more @ ..] = regs.temps() else { return Ok(()) };
        let in_memory = more.first().copied();
        match (b, in_memory) {
            (Source::Splat(addr), Some(x)) => self.spread(width, x, addr, 1, regs)?,
            (Source::Imm(bits), Some(x)) => self.constant(width, x, bits)?,
            _ => {}
        }
        for (i, (&d, &a)) in regs.vector(acc).iter().zip(regs.vector(a)).enumerate() {
            let x = match (b, in_memory) {
                (Source::Reg(b), _) => regs.vector(b).get(i).copied(),
                (Source::Mem(addr), Some(x)) => {
                    self.load_piece(width, x, addr, i, regs)?;
                    Some(x)
                }
                (_, x) => x,
            };
            let Some(x) = x else { continue };
            let evex = high(&[d, a, x, t, u]);
            let [rd, rt, ru] = [d, t, u].map(|r| width.reg(r));
            for upper in [true, false] {
                for (half, pair) in [(rt, a), (ru, x)] {
                    let pair = width.reg(pair);
                    if upper {
                        self.asm.emit(&Instruction::with3(form(SHR, width, evex), half, pair, 16u32)?)?;
                        self.asm.emit(&Instruction::with3(form(SHL, width, evex), half, half, 16u32)?)?;
                    } else {
                        self.asm.emit(&Instruction::with3(form(SHL, width, evex), half, pair, 16u32)?)?;
                    }
                }
                self.asm.emit(&Instruction::with3(form(FMA, width, evex), rd, rt, ru)?)?;
            }
        }
        Ok(())
    }

    /// `n` half floats (1, 2 or 4) over and over in all lanes of a machine register.
    pub(super) fn spread_halves(
        &mut self,
        float: Float,
        width: RegisterWidth,
        d: u8,
        m: MemoryOperand,
        n: u8,
    ) -> Result<(), AsmError> {
        let evex = high(&[d]);
        // One `bf16` fills both halves of each lane, of which one is shifted out.
        let shifted_out = n == 1 && float == Float::Bf16;
        let held = if shifted_out { width } else { width.half() };
        let forms = match n {
            1 => SPLAT_WORD,
            2 => SPLAT,
            _ => SPREAD_TWO,
        };
        self.asm.emit(&Instruction::with2(form(forms, held, evex), held.reg(d), m)?)?;
        if !shifted_out {
            let code = form(from_halves(float), width, evex);
            self.asm.emit(&Instruction::with2(code, width.reg(d), held.reg(d))?)?;
        }
        self.widened(float, width, d)
    }

    /// Moves `bf16` from the low halves of lanes to where it is an `f32`.
    fn widened(&mut self, float: Float, width: RegisterWidth, d: u8) -> Result<(), AsmError> {
        if float != Float::Bf16 {
            return Ok(());
        }
        let r = width.reg(d);
        self.asm.emit(&Instruction::with3(form(SHL, width, high(&[d])), r, r, 16u32)?)
    }

    /// The first `n` lanes, the others cleared.
    pub(super) fn load_part_of_halves(
        &mut self,
        dst: Vector,
        addr: Addr,
        n: u8,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let width = self.width(dst);
        if self.level == Level::Avx512 {
            for &d in regs.vector(dst) {
                let code = form(from_halves(addr.float), width, true);
                let mut inst = Instruction::with2(code, width.reg(d), self.memory(addr, 0, regs))?;
                inst.set_op_mask(self.mask(first_lanes(n)));
                inst.set_zeroing_masking(true);
                self.asm.emit(&inst)?;
                self.widened(addr.float, width, d)?;
            }
            return Ok(());
        }
        let mut left = i32::from(n);
        for (i, &d) in regs.vector(dst).iter().enumerate() {
            let at = i as i32 * width.lanes() * 2;
            match left {
                ..=0 => self.constant(width, d, 0)?,
                _ if left >= width.lanes() => {
                    let m = self.memory(addr, at, regs);
                    self.load_halves(addr.float, width, d, m)?;
                }
                _ => {
                    self.gather_halves(d, addr, at, left, regs)?;
                    let code = form(from_halves(addr.float), width, false);
                    self.asm.emit(&Instruction::with2(code, width.reg(d), RegisterWidth::Xmm.reg(d))?)?;
                    self.widened(addr.float, width, d)?;
                }
            }
            left -= width.lanes();
        }
        Ok(())
    }

    /// All lanes, or the first `n`, to memory.
    pub(super) fn store_halves(
        &mut self,
        src: Vector,
        addr: Addr,
        n: Option<u8>,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let width = self.width(src);
        let mut left = n.map_or(self.program.lanes(src).count() as i32, i32::from);
        for (i, &s) in regs.vector(src).iter().enumerate() {
            let at = i as i32 * width.lanes() * 2;
            let m = self.memory(addr, at, regs);
            match self.level {
                Level::Avx512 => {
                    let mask = n.map(|n| self.mask(first_lanes(n)));
                    self.store_masked(addr.float, width, s, m, mask, regs)?;
                }
                Level::Avx2 if left <= 0 => {}
                Level::Avx2 => {
                    let whole = left >= width.lanes();
                    let temp = regs.temps().first().copied();
                    match (addr.float, temp) {
                        (Float::Bf16, Some(t)) => {
                            self.round_to_bf16(width, s, regs)?;
                            self.scatter_halves(t, addr, at, left.min(width.lanes()), regs)?;
                        }
                        (_, Some(t)) if !whole => {
                            let (to, from) = (RegisterWidth::Xmm.reg(t), width.reg(s));
                            let code = form(TO_F16, width, false);
                            self.asm.emit(&Instruction::with3(code, to, from, NEAREST)?)?;
                            self.scatter_halves(t, addr, at, left, regs)?;
                        }
                        _ => {
                            let code = form(TO_F16, width, false);
                            self.asm.emit(&Instruction::with3(code, m, width.reg(s), NEAREST)?)?;
                        }
                    }
                }
            }
            left -= width.lanes();
        }
        Ok(())
    }

    /// A machine register of AVX-512 to memory, perhaps only the lanes of a mask.
    fn store_masked(
        &mut self,
        float: Float,
        width: RegisterWidth,
        s: u8,
        m: MemoryOperand,
        mask: Option<Register>,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let mut inst = match (float, regs.temps().first()) {
            (Float::Bf16, Some(&t)) if self.with.rounds_to_halves => {
                let (round, store) = match width {
                    RegisterWidth::Xmm => {
                        (Code::EVEX_Vcvtneps2bf16_xmm_k1z_xmmm128b32, Code::EVEX_Vmovdqu16_xmmm128_k1z_xmm)
                    }
                    RegisterWidth::Ymm => {
                        (Code::EVEX_Vcvtneps2bf16_xmm_k1z_ymmm256b32, Code::EVEX_Vmovdqu16_xmmm128_k1z_xmm)
                    }
                    RegisterWidth::Zmm => {
                        (Code::EVEX_Vcvtneps2bf16_ymm_k1z_zmmm512b32, Code::EVEX_Vmovdqu16_ymmm256_k1z_ymm)
                    }
                };
                let rounded = width.half().reg(t);
                self.asm.emit(&Instruction::with2(round, rounded, width.reg(s))?)?;
                match width {
                    // Four of them are half of the narrowest register.
                    RegisterWidth::Xmm if mask.is_none() => {
                        Instruction::with2(Code::EVEX_Vmovq_xmmm64_xmm, m, rounded)?
                    }
                    _ => Instruction::with2(store, m, rounded)?,
                }
            }
            (Float::Bf16, Some(&t)) => {
                self.mark_and_round_to_bf16(width, s, t)?;
                let code = match width {
                    RegisterWidth::Xmm => Code::EVEX_Vpmovdw_xmmm64_k1z_xmm,
                    RegisterWidth::Ymm => Code::EVEX_Vpmovdw_xmmm128_k1z_ymm,
                    RegisterWidth::Zmm => Code::EVEX_Vpmovdw_ymmm256_k1z_zmm,
                };
                Instruction::with2(code, m, width.reg(t))?
            }
            _ => {
                let code = form(TO_F16, width, mask.is_some() || high(&[s]));
                Instruction::with3(code, m, width.reg(s), NEAREST)?
            }
        };
        if let Some(mask) = mask {
            inst.set_op_mask(mask);
        }
        self.asm.emit(&inst)
    }

    /// The bits of `bf16` in the low halves of the lanes of `t`.
    fn mark_and_round_to_bf16(&mut self, width: RegisterWidth, s: u8, t: u8) -> Result<(), AsmError> {
        let (rs, rt) = (width.reg(s), width.reg(t));
        let with = |e: &mut Self, forms: Forms, from: Register, bits: u32, mask: Option<Register>| {
            e.asm.emit_literal(bits, |m| {
                let mut inst = Instruction::with3(form(forms, width, true), rt, from, broadcast(m))?;
                if let Some(mask) = mask {
                    inst.set_op_mask(mask);
                }
                Ok(inst)
            })
        };
        self.asm.emit(&Instruction::with3(form(SHR, width, high(&[s, t])), rt, rs, 16u32)?)?;
        with(self, AND, rt, 1, None)?;
        self.asm.emit(&Instruction::with3(form(ADD, width, high(&[s, t])), rt, rt, rs)?)?;
        with(self, ADD, rt, BELOW_HALF, None)?;
        let compare = match width {
            RegisterWidth::Xmm => Code::EVEX_Vcmpps_kr_k1_xmm_xmmm128b32_imm8,
            RegisterWidth::Ymm => Code::EVEX_Vcmpps_kr_k1_ymm_ymmm256b32_imm8,
            RegisterWidth::Zmm => Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae,
        };
        self.asm.emit(&Instruction::with4(compare, NAN_LANES, rs, rs, UNORDERED)?)?;
        with(self, OR, rs, QUIET, Some(NAN_LANES))?;
        self.asm.emit(&Instruction::with3(form(SHR, width, high(&[t])), rt, rt, 16u32)?)
    }

    /// With AVX2: `bf16`, as many as the register has lanes, side by side in the first scratch register.
    fn round_to_bf16(&mut self, width: RegisterWidth, s: u8, regs: &Regs) -> Result<(), AsmError> {
        let &[t, u, v] = regs.temps() else { return Ok(()) };
        let [rs, rt, ru, rv] = [s, t, u, v].map(|r| width.reg(r));
        let two = |e: &mut Self, forms: Forms, d: Register, a: Register, b: Register| {
            e.asm.emit(&Instruction::with3(form(forms, width, false), d, a, b)?)
        };
        self.asm.emit(&Instruction::with3(form(SHR, width, false), rt, rs, 16u32)?)?;
        self.constant(width, u, 1)?;
        two(self, AND, rt, rt, ru)?;
        two(self, ADD, rt, rt, rs)?;
        self.constant(width, u, BELOW_HALF)?;
        two(self, ADD, rt, rt, ru)?;
        self.constant(width, u, QUIET)?;
        two(self, OR, ru, ru, rs)?;
        let (compare, blend, pack) = match width {
            RegisterWidth::Xmm => (
                Code::VEX_Vcmpps_xmm_xmm_xmmm128_imm8,
                Code::VEX_Vblendvps_xmm_xmm_xmmm128_xmm,
                Code::VEX_Vpackusdw_xmm_xmm_xmmm128,
            ),
            RegisterWidth::Ymm | RegisterWidth::Zmm => (
                Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8,
                Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm,
                Code::VEX_Vpackusdw_ymm_ymm_ymmm256,
            ),
        };
        self.asm.emit(&Instruction::with4(compare, rv, rs, rs, UNORDERED)?)?;
        self.asm.emit(&Instruction::with4(blend, rt, rt, ru, rv)?)?;
        self.asm.emit(&Instruction::with3(form(SHR, width, false), rt, rt, 16u32)?)?;
        self.asm.emit(&Instruction::with3(pack, rt, rt, rt)?)?;
        if width == RegisterWidth::Ymm {
            // What was packed in the upper half moves behind that of the lower one.
            let order = 0b00_00_10_00u32;
            self.asm.emit(&Instruction::with3(Code::VEX_Vpermq_ymm_ymmm256_imm8, rt, rt, order)?)?;
        }
        Ok(())
    }

    /// `n` words (1 to 8) from memory at the start of an xmm register, the rest cleared.
    fn gather_halves(&mut self, d: u8, addr: Addr, at: i32, n: i32, regs: &Regs) -> Result<(), AsmError> {
        let x = RegisterWidth::Xmm.reg(d);
        let m = |e: &Self, words: i32| e.memory(addr, at + 2 * words, regs);
        let mut done = match n {
            8 => return self.load(RegisterWidth::Xmm, d, m(self, 0)),
            4..8 => {
                self.asm.emit(&Instruction::with2(Code::VEX_Vmovsd_xmm_m64, x, m(self, 0))?)?;
                4
            }
            2 | 3 => {
                self.asm.emit(&Instruction::with2(Code::VEX_Vmovss_xmm_m32, x, m(self, 0))?)?;
                2
            }
            _ => {
                self.asm.emit(&Instruction::with3(form(XOR, RegisterWidth::Xmm, false), x, x, x)?)?;
                0
            }
        };
        if n - done >= 2 {
            let code = Code::VEX_Vpinsrd_xmm_xmm_rm32_imm8;
            self.asm.emit(&Instruction::with4(code, x, x, m(self, done), done / 2)?)?;
            done += 2;
        }
        if n > done {
            let code = Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8;
            self.asm.emit(&Instruction::with4(code, x, x, m(self, done), done)?)?;
        }
        Ok(())
    }

    /// The first `n` words (1 to 8) of an xmm register to memory.
    fn scatter_halves(&mut self, s: u8, addr: Addr, at: i32, n: i32, regs: &Regs) -> Result<(), AsmError> {
        let x = RegisterWidth::Xmm.reg(s);
        let m = |e: &Self, words: i32| e.memory(addr, at + 2 * words, regs);
        if n == 8 {
            return self.store(RegisterWidth::Xmm, s, m(self, 0));
        }
        let mut done = 0;
        if n >= 4 {
            self.asm.emit(&Instruction::with2(Code::VEX_Vmovlps_m64_xmm, m(self, 0), x)?)?;
            done = 4;
        }
        if n - done >= 2 {
            let code = Code::VEX_Vpextrd_rm32_xmm_imm8;
            self.asm.emit(&Instruction::with3(code, m(self, done), x, done / 2)?)?;
            done += 2;
        }
        if n > done {
            let code = Code::VEX_Vpextrw_r32m16_xmm_imm8;
            self.asm.emit(&Instruction::with3(code, m(self, done), x, done)?)?;
        }
        Ok(())
    }
}

/// From half floats in memory, or in a register of half the width.
const fn from_halves(float: Float) -> Forms {
    match float {
        Float::Bf16 => FROM_WORDS,
        Float::F16 | Float::F32 | Float::U8 => FROM_F16,
    }
}
