//! Bytes in memory, numbers or sums of products in registers.
//!
//! | | |
//! |---|---|
//! | loaded | `vpmovzxbd`, then `vcvtdq2ps` |
//! | stored | at least 0, and NaN as 0; `vcvtps2dq`, which rounds to nearest even; then what is above 255 is 255 (`vpmovusdb`, or `vminps` before and packs) |
//! | multiplied | four pairs of bytes are added to a lane: `vpdpbusd`, or below |
//!
//! Without that instruction the bytes of each pair become words, first the even ones and then the odd ones, which `vpmaddwd` multiplies
//! and adds without losing anything:
//!
//! ```text
//!   x  | x0 x1 x2 x3 |   even words  | x0    | x2    |   · | w0    | w2    |   →  x0·w0 + x2·w2
//!   w  | w0 w1 w2 w3 |   odd words   |    x1 |    x3 |   · |    w1 |    w3 |   →  x1·w1 + x3·w3
//! ```

use iced_x86::{Code, Instruction, MemoryOperand};

use super::asm::AsmError;
use super::{
    Forms, Level, RegisterWidth, SPLAT, X86Emitter, XOR, arithmetic, broadcast, first_lanes, form, high,
};
use crate::code::tile::ir::{Addr, BinOp, Source, Vector};
use crate::code::tile::registers::Regs;

const FROM_BYTES: Forms = [
    Code::VEX_Vpmovzxbd_xmm_xmmm32,
    Code::VEX_Vpmovzxbd_ymm_xmmm64,
    Code::EVEX_Vpmovzxbd_xmm_k1z_xmmm32,
    Code::EVEX_Vpmovzxbd_ymm_k1z_xmmm64,
    Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128,
];
const SPLAT_BYTE: Forms = [
    Code::VEX_Vpbroadcastb_xmm_xmmm8,
    Code::VEX_Vpbroadcastb_ymm_xmmm8,
    Code::EVEX_Vpbroadcastb_xmm_k1z_xmmm8,
    Code::EVEX_Vpbroadcastb_ymm_k1z_xmmm8,
    Code::EVEX_Vpbroadcastb_zmm_k1z_xmmm8,
];
const SPLAT_WORD: Forms = [
    Code::VEX_Vpbroadcastw_xmm_xmmm16,
    Code::VEX_Vpbroadcastw_ymm_xmmm16,
    Code::EVEX_Vpbroadcastw_xmm_k1z_xmmm16,
    Code::EVEX_Vpbroadcastw_ymm_k1z_xmmm16,
    Code::EVEX_Vpbroadcastw_zmm_k1z_xmmm16,
];
/// Signed integers as `f32`.
pub(super) const FROM_INTEGERS: Forms = [
    Code::VEX_Vcvtdq2ps_xmm_xmmm128,
    Code::VEX_Vcvtdq2ps_ymm_ymmm256,
    Code::EVEX_Vcvtdq2ps_xmm_k1z_xmmm128b32,
    Code::EVEX_Vcvtdq2ps_ymm_k1z_ymmm256b32,
    Code::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er,
];
pub(super) const TO_INTEGERS: Forms = [
    Code::VEX_Vcvtps2dq_xmm_xmmm128,
    Code::VEX_Vcvtps2dq_ymm_ymmm256,
    Code::EVEX_Vcvtps2dq_xmm_k1z_xmmm128b32,
    Code::EVEX_Vcvtps2dq_ymm_k1z_ymmm256b32,
    Code::EVEX_Vcvtps2dq_zmm_k1z_zmmm512b32_er,
];
const DOT: Forms = [
    Code::VEX_Vpdpbusd_xmm_xmm_xmmm128,
    Code::VEX_Vpdpbusd_ymm_ymm_ymmm256,
    Code::EVEX_Vpdpbusd_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vpdpbusd_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32,
];
const MADD_WORDS: Forms = [
    Code::VEX_Vpmaddwd_xmm_xmm_xmmm128,
    Code::VEX_Vpmaddwd_ymm_ymm_ymmm256,
    Code::EVEX_Vpmaddwd_xmm_k1z_xmm_xmmm128,
    Code::EVEX_Vpmaddwd_ymm_k1z_ymm_ymmm256,
    Code::EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512,
];
const ADD_INTEGERS: Forms = [
    Code::VEX_Vpaddd_xmm_xmm_xmmm128,
    Code::VEX_Vpaddd_ymm_ymm_ymmm256,
    Code::EVEX_Vpaddd_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vpaddd_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32,
];
const SHL_WORDS: Forms = [
    Code::VEX_Vpsllw_xmm_xmm_imm8,
    Code::VEX_Vpsllw_ymm_ymm_imm8,
    Code::EVEX_Vpsllw_xmm_k1z_xmmm128_imm8,
    Code::EVEX_Vpsllw_ymm_k1z_ymmm256_imm8,
    Code::EVEX_Vpsllw_zmm_k1z_zmmm512_imm8,
];
const SHR_WORDS: Forms = [
    Code::VEX_Vpsrlw_xmm_xmm_imm8,
    Code::VEX_Vpsrlw_ymm_ymm_imm8,
    Code::EVEX_Vpsrlw_xmm_k1z_xmmm128_imm8,
    Code::EVEX_Vpsrlw_ymm_k1z_ymmm256_imm8,
    Code::EVEX_Vpsrlw_zmm_k1z_zmmm512_imm8,
];
/// With the sign.
const SAR_WORDS: Forms = [
    Code::VEX_Vpsraw_xmm_xmm_imm8,
    Code::VEX_Vpsraw_ymm_ymm_imm8,
    Code::EVEX_Vpsraw_xmm_k1z_xmmm128_imm8,
    Code::EVEX_Vpsraw_ymm_k1z_ymmm256_imm8,
    Code::EVEX_Vpsraw_zmm_k1z_zmmm512_imm8,
];

/// The largest byte.
const MOST: f32 = 255.0;

/// Scratch registers that storing bytes takes.
pub(super) const fn store_scratch(level: Level) -> usize {
    match level {
        Level::Avx512 => 1,
        Level::Avx2 => 2,
    }
}

/// Scratch registers that products of bytes take, given what the second source is.
pub(super) fn dot_scratch(b: &Source, has_dot: bool) -> usize {
    let in_memory = !matches!(b, Source::Reg(_));
    usize::from(in_memory) + if has_dot { 0 } else { 2 }
}

/// Words of signed integers, and bytes of words, that are cut to their ranges; each 128 bits for themselves.
const PACK_WORDS: Forms = [
    Code::VEX_Vpackssdw_xmm_xmm_xmmm128,
    Code::VEX_Vpackssdw_ymm_ymm_ymmm256,
    Code::EVEX_Vpackssdw_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vpackssdw_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vpackssdw_zmm_k1z_zmm_zmmm512b32,
];
const PACK_BYTES: Forms = [
    Code::VEX_Vpackuswb_xmm_xmm_xmmm128,
    Code::VEX_Vpackuswb_ymm_ymm_ymmm256,
    Code::EVEX_Vpackuswb_xmm_k1z_xmm_xmmm128,
    Code::EVEX_Vpackuswb_ymm_k1z_ymm_ymmm256,
    Code::EVEX_Vpackuswb_zmm_k1z_zmm_zmmm512,
];

/// Scratch registers that packing takes.
pub const PACK_SCRATCH: usize = 3;

impl X86Emitter<'_> {
    /// All lanes of two or four registers as bytes, one behind the other.
    ///
    /// ```text
    ///   a0…3 a4…7 … | b0…3 b4…7 … | c … | d …     as words, then as bytes, 128 bits at a time:
    ///   a0…3 b0…3 c0…3 d0…3 | a4…7 b4…7 c4…7 d4…7 | …     words of 32 bits, that a permutation puts in order
    /// ```
    pub(super) fn pack(&mut self, parts: &[Vector], addr: Addr, regs: &Regs) -> Result<(), AsmError> {
        let &[t, u, v] = regs.temps() else { return Ok(()) };
        let Some(&first) = parts.first() else { return Ok(()) };
        let width = self.width(first);
        let registers: Vec<u8> = parts.iter().flat_map(|part| regs.vector(*part)).copied().collect();
        // AVX2 has two registers of each vector of sixteen lanes.
        let together = registers.len().min(4);
        for (group, four) in registers.chunks(together).enumerate() {
            let evex = high(&[t, u, v]) || high(four);
            let integers = |e: &mut Self, d: u8, s: u8| {
                let code = form(TO_INTEGERS, width, evex);
                e.asm.emit(&Instruction::with2(code, width.reg(d), width.reg(s))?)
            };
            let three = |e: &mut Self, forms: Forms, d: u8, a: u8, b: u8| {
                let code = form(forms, width, evex);
                e.asm.emit(&Instruction::with3(code, width.reg(d), width.reg(a), width.reg(b))?)
            };
            match *four {
                [a, b, c, d] => {
                    integers(self, t, a)?;
                    integers(self, u, b)?;
                    three(self, PACK_WORDS, t, t, u)?;
                    integers(self, u, c)?;
                    integers(self, v, d)?;
                    three(self, PACK_WORDS, u, u, v)?;
                    three(self, PACK_BYTES, t, t, u)?;
                }
                [a, b] => {
                    integers(self, t, a)?;
                    integers(self, u, b)?;
                    three(self, PACK_WORDS, t, t, u)?;
                    three(self, PACK_BYTES, t, t, t)?;
                }
                _ => continue,
            }
            // Words of 32 bits of one register follow each other at this distance; each 128 bits have one of each.
            let lanes = width.bytes() as u32 / 16;
            let parts = together as u32;
            if lanes > 1 {
                let order: Vec<u32> = (0..4 * lanes)
                    .map(|word| match word / lanes < parts {
                        true => word % lanes * 4 + word / lanes,
                        false => word,
                    })
                    .collect();
                let (load, permute) = match width {
                    RegisterWidth::Zmm => {
                        (form(super::LOAD, width, true), Code::EVEX_Vpermd_zmm_k1z_zmm_zmmm512b32)
                    }
                    _ if evex => (form(super::LOAD, width, true), Code::EVEX_Vpermd_ymm_k1z_ymm_ymmm256b32),
                    _ => (form(super::LOAD, width, false), Code::VEX_Vpermd_ymm_ymm_ymmm256),
                };
                let (rt, ru) = (width.reg(t), width.reg(u));
                self.asm.emit_literals(&order, |m| Instruction::with2(load, ru, m))?;
                self.asm.emit(&Instruction::with3(permute, rt, ru, rt)?)?;
            }
            let bytes = width.bytes() / 4 * together as i32;
            let m = self.memory(addr, group as i32 * bytes, regs);
            match bytes {
                64 => self.store(RegisterWidth::Zmm, t, m)?,
                32 => self.store(RegisterWidth::Ymm, t, m)?,
                16 => self.store(RegisterWidth::Xmm, t, m)?,
                _ => {
                    let code =
                        if high(&[t]) { Code::EVEX_Vmovlps_m64_xmm } else { Code::VEX_Vmovlps_m64_xmm };
                    self.asm.emit(&Instruction::with2(code, m, RegisterWidth::Xmm.reg(t))?)?;
                }
            }
        }
        Ok(())
    }

    /// All lanes of a machine register.
    pub(super) fn load_bytes(
        &mut self,
        width: RegisterWidth,
        d: u8,
        m: MemoryOperand,
    ) -> Result<(), AsmError> {
        let code = form(FROM_BYTES, width, high(&[d]));
        self.asm.emit(&Instruction::with2(code, width.reg(d), m)?)?;
        self.numbers(width, d, d)
    }

    /// The numbers that integers are.
    pub(super) fn numbers(&mut self, width: RegisterWidth, d: u8, s: u8) -> Result<(), AsmError> {
        let code = form(FROM_INTEGERS, width, high(&[d, s]));
        self.asm.emit(&Instruction::with2(code, width.reg(d), width.reg(s))?)
    }

    /// `n` bytes (1, 2 or 4) over and over in all lanes of a machine register.
    pub(super) fn spread_bytes(
        &mut self,
        width: RegisterWidth,
        d: u8,
        m: MemoryOperand,
        n: u8,
    ) -> Result<(), AsmError> {
        let evex = high(&[d]);
        let forms = match n {
            1 => SPLAT_BYTE,
            2 => SPLAT_WORD,
            _ => SPLAT,
        };
        let (x, code) = (RegisterWidth::Xmm, form(FROM_BYTES, width, evex));
        self.asm.emit(&Instruction::with2(form(forms, x, evex), x.reg(d), m)?)?;
        self.asm.emit(&Instruction::with2(code, width.reg(d), x.reg(d))?)?;
        self.numbers(width, d, d)
    }

    /// The first `n` lanes, the others cleared.
    pub(super) fn load_part_of_bytes(
        &mut self,
        dst: Vector,
        addr: Addr,
        n: u8,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let width = self.width(dst);
        if self.level == Level::Avx512 {
            for &d in regs.vector(dst) {
                let m = self.memory(addr, 0, regs);
                let mut inst = Instruction::with2(form(FROM_BYTES, width, true), width.reg(d), m)?;
                inst.set_op_mask(self.mask(first_lanes(n)));
                inst.set_zeroing_masking(true);
                self.asm.emit(&inst)?;
                self.numbers(width, d, d)?;
            }
            return Ok(());
        }
        let mut left = i32::from(n);
        let lanes = width.bytes() / 4;
        for (i, &d) in regs.vector(dst).iter().enumerate() {
            let at = i as i32 * lanes;
            match left {
                ..=0 => self.constant(width, d, 0)?,
                _ if left >= lanes => {
                    let m = self.memory(addr, at, regs);
                    self.load_bytes(width, d, m)?;
                }
                _ => {
                    self.gather_bytes(d, addr, at, left, regs)?;
                    let code = form(FROM_BYTES, width, false);
                    self.asm.emit(&Instruction::with2(code, width.reg(d), RegisterWidth::Xmm.reg(d))?)?;
                    self.numbers(width, d, d)?;
                }
            }
            left -= lanes;
        }
        Ok(())
    }

    /// All lanes, or the first `n`, to memory.
    pub(super) fn store_bytes(
        &mut self,
        src: Vector,
        addr: Addr,
        n: Option<u8>,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let width = self.width(src);
        let lanes = width.bytes() / 4;
        let mut left = n.map_or(self.program.lanes(src).count() as i32, i32::from);
        for (i, &s) in regs.vector(src).iter().enumerate() {
            let at = i as i32 * lanes;
            match (self.level, regs.temps()) {
                (Level::Avx512, &[t, ..]) => {
                    let (rs, rt) = (width.reg(s), width.reg(t));
                    let max = form(arithmetic(BinOp::Max), width, true);
                    self.asm.emit_literal(0, |m| Instruction::with3(max, rt, rs, broadcast(m)))?;
                    let code = form(TO_INTEGERS, width, high(&[t]));
                    self.asm.emit(&Instruction::with2(code, rt, rt)?)?;
                    let code = match width {
                        RegisterWidth::Xmm => Code::EVEX_Vpmovusdb_xmmm32_k1z_xmm,
                        RegisterWidth::Ymm => Code::EVEX_Vpmovusdb_xmmm64_k1z_ymm,
                        RegisterWidth::Zmm => Code::EVEX_Vpmovusdb_xmmm128_k1z_zmm,
                    };
                    let mut inst = Instruction::with2(code, self.memory(addr, at, regs), rt)?;
                    if let Some(n) = n {
                        inst.set_op_mask(self.mask(first_lanes(n)));
                    }
                    self.asm.emit(&inst)?;
                }
                (Level::Avx2, &[t, u, ..]) if left > 0 => {
                    self.packed_bytes(width, s, [t, u])?;
                    self.scatter_bytes(t, addr, at, left.min(lanes), regs)?;
                }
                _ => {}
            }
            left -= lanes;
        }
        Ok(())
    }

    /// With AVX2: the bytes of all lanes side by side in `t`.
    fn packed_bytes(&mut self, width: RegisterWidth, s: u8, [t, u]: [u8; 2]) -> Result<(), AsmError> {
        let [rs, rt, ru] = [s, t, u].map(|r| width.reg(r));
        self.constant(width, u, 0)?;
        let max = form(arithmetic(BinOp::Max), width, false);
        self.asm.emit(&Instruction::with3(max, rt, rs, ru)?)?;
        self.constant(width, u, MOST.to_bits())?;
        let min = form(arithmetic(BinOp::Min), width, false);
        self.asm.emit(&Instruction::with3(min, rt, rt, ru)?)?;
        self.asm.emit(&Instruction::with2(form(TO_INTEGERS, width, false), rt, rt)?)?;
        let [xt, xu] = [t, u].map(|r| RegisterWidth::Xmm.reg(r));
        let mut upper = xt;
        if width == RegisterWidth::Ymm {
            self.asm.emit(&Instruction::with3(Code::VEX_Vextracti128_xmmm128_ymm_imm8, xu, rt, 1)?)?;
            upper = xu;
        }
        self.asm.emit(&Instruction::with3(Code::VEX_Vpackusdw_xmm_xmm_xmmm128, xt, xt, upper)?)?;
        self.asm.emit(&Instruction::with3(Code::VEX_Vpackuswb_xmm_xmm_xmmm128, xt, xt, xt)?)
    }

    /// `n` bytes (1 to 7) from memory at the start of an xmm register, the rest cleared.
    fn gather_bytes(&mut self, d: u8, addr: Addr, at: i32, n: i32, regs: &Regs) -> Result<(), AsmError> {
        let x = RegisterWidth::Xmm.reg(d);
        let m = |e: &Self, byte: i32| e.memory(addr, at + byte, regs);
        let mut done = 0;
        if n >= 4 {
            self.asm.emit(&Instruction::with2(Code::VEX_Vmovss_xmm_m32, x, m(self, 0))?)?;
            done = 4;
        } else {
            self.asm.emit(&Instruction::with3(form(XOR, RegisterWidth::Xmm, false), x, x, x)?)?;
        }
        if n - done >= 2 {
            let code = Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8;
            self.asm.emit(&Instruction::with4(code, x, x, m(self, done), done / 2)?)?;
            done += 2;
        }
        if n > done {
            let code = Code::VEX_Vpinsrb_xmm_xmm_r32m8_imm8;
            self.asm.emit(&Instruction::with4(code, x, x, m(self, done), done)?)?;
        }
        Ok(())
    }

    /// The first `n` bytes (1 to 8) of an xmm register to memory.
    fn scatter_bytes(&mut self, s: u8, addr: Addr, at: i32, n: i32, regs: &Regs) -> Result<(), AsmError> {
        let x = RegisterWidth::Xmm.reg(s);
        let m = |e: &Self, byte: i32| e.memory(addr, at + byte, regs);
        if n == 8 {
            return self.asm.emit(&Instruction::with2(Code::VEX_Vmovlps_m64_xmm, m(self, 0), x)?);
        }
        let mut done = 0;
        if n >= 4 {
            self.asm.emit(&Instruction::with2(Code::VEX_Vmovss_m32_xmm, m(self, 0), x)?)?;
            done = 4;
        }
        if n - done >= 2 {
            let code = Code::VEX_Vpextrw_r32m16_xmm_imm8;
            self.asm.emit(&Instruction::with3(code, m(self, done), x, done / 2)?)?;
            done += 2;
        }
        if n > done {
            let code = Code::VEX_Vpextrb_r32m8_xmm_imm8;
            self.asm.emit(&Instruction::with3(code, m(self, done), x, done)?)?;
        }
        Ok(())
    }

    /// Adds the products of four signed bytes of `a` and four unsigned ones of `b` to each lane; or of two words of each.
    pub(super) fn dot(
        &mut self,
        acc: Vector,
        a: Vector,
        b: Source,
        words: bool,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let width = self.width(acc);
        let in_memory = regs.temps().last().copied();
        match (b, in_memory) {
            (Source::Splat(addr), Some(t)) => self.spread(width, t, addr, 1, regs)?,
            (Source::Imm(bits), Some(t)) => self.constant(width, t, bits)?,
            _ => {}
        }
        for (i, (&d, &a)) in regs.vector(acc).iter().zip(regs.vector(a)).enumerate() {
            let x = match (b, in_memory) {
                (Source::Reg(b), _) => regs.vector(b).get(i).copied(),
                (Source::Mem(addr), Some(t)) => {
                    self.load_piece(width, t, addr, i, regs)?;
                    Some(t)
                }
                (_, t) => t,
            };
            let Some(x) = x else { continue };
            if words {
                let Some(&t) = regs.temps().first() else { continue };
                let evex = high(&[d, a, x, t]);
                let [rd, ra, rx, rt] = [d, a, x, t].map(|r| width.reg(r));
                self.asm.emit(&Instruction::with3(form(MADD_WORDS, width, evex), rt, ra, rx)?)?;
                self.asm.emit(&Instruction::with3(form(ADD_INTEGERS, width, evex), rd, rd, rt)?)?;
                continue;
            }
            if self.with.dot {
                // The encoding without EVEX is an extension of its own.
                let code = form(DOT, width, self.level == Level::Avx512);
                self.asm.emit(&Instruction::with3(code, width.reg(d), width.reg(x), width.reg(a))?)?;
                continue;
            }
            let &[t, u, ..] = regs.temps() else { continue };
            self.dot_of_words(width, d, a, x, [t, u])?;
        }
        Ok(())
    }

    fn dot_of_words(
        &mut self,
        width: RegisterWidth,
        d: u8,
        a: u8,
        x: u8,
        [t, u]: [u8; 2],
    ) -> Result<(), AsmError> {
        let evex = high(&[d, a, x, t, u]);
        let shift = |e: &mut Self, forms: Forms, d: u8, s: u8| {
            e.asm.emit(&Instruction::with3(form(forms, width, evex), width.reg(d), width.reg(s), 8u32)?)
        };
        let three = |e: &mut Self, forms: Forms, d: u8, a: u8, b: u8| {
            let code = form(forms, width, evex);
            e.asm.emit(&Instruction::with3(code, width.reg(d), width.reg(a), width.reg(b))?)
        };
        shift(self, SHL_WORDS, t, x)?;
        shift(self, SHR_WORDS, t, t)?;
        shift(self, SHL_WORDS, u, a)?;
        shift(self, SAR_WORDS, u, u)?;
        three(self, MADD_WORDS, t, t, u)?;
        three(self, ADD_INTEGERS, d, d, t)?;
        shift(self, SHR_WORDS, t, x)?;
        shift(self, SAR_WORDS, u, a)?;
        three(self, MADD_WORDS, t, t, u)?;
        three(self, ADD_INTEGERS, d, d, t)
    }
}
