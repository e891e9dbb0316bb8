//! Sines and cosines: the angle is reduced and the polynomial computed in lanes of f64, half of a register at a time where they need
//! two, so that all angles of a network's sizes have the nearest f32 or its neighbour.
//!
//! ```text
//!   n = x / π, rounded                  sin x = (-1)ⁿ · sin(x - n · π)        the sign is the lowest bit of n
//!   n = x / π + ½, rounded, less ½      cos x = the same
//! ```

use std::f64::consts::{FRAC_1_PI, PI};

use iced_x86::{Code, Instruction};

use super::asm::AsmError;
use super::{Level, RegisterWidth, Regs, Vector, X86Emitter, broadcast};

/// Scratch registers: the halves' results, and two to compute them with.
pub(super) const SCRATCH: usize = 4;

/// 1½ · 2⁵²: what is added to it leaves a whole number in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// What π is beyond the nearest `f64`.
const PI_REST: f64 = 1.224_646_799_147_353_2e-16;

/// (sin r - r) / r³ in r², for |r| a little over π/2, the highest power first.
const SIN: [f64; 5] = [
    -2.3865709713187286e-08,
    2.7524085162226766e-06,
    -0.00019840843288986655,
    0.008333330921587936,
    -0.166666666218216,
];

/// One instruction over lanes of f64: VEX ymm, EVEX ymm, EVEX zmm.
type Forms = [Code; 3];

const WIDEN: Forms = [
    Code::VEX_Vcvtps2pd_ymm_xmmm128,
    Code::EVEX_Vcvtps2pd_ymm_k1z_xmmm128b32,
    Code::EVEX_Vcvtps2pd_zmm_k1z_ymmm256b32_sae,
];
const NARROW: Forms = [
    Code::VEX_Vcvtpd2ps_xmm_ymmm256,
    Code::EVEX_Vcvtpd2ps_xmm_k1z_ymmm256b64,
    Code::EVEX_Vcvtpd2ps_ymm_k1z_zmmm512b64_er,
];
const ADD: Forms = [
    Code::VEX_Vaddpd_ymm_ymm_ymmm256,
    Code::EVEX_Vaddpd_ymm_k1z_ymm_ymmm256b64,
    Code::EVEX_Vaddpd_zmm_k1z_zmm_zmmm512b64_er,
];
const SUB: Forms = [
    Code::VEX_Vsubpd_ymm_ymm_ymmm256,
    Code::EVEX_Vsubpd_ymm_k1z_ymm_ymmm256b64,
    Code::EVEX_Vsubpd_zmm_k1z_zmm_zmmm512b64_er,
];
const MUL: Forms = [
    Code::VEX_Vmulpd_ymm_ymm_ymmm256,
    Code::EVEX_Vmulpd_ymm_k1z_ymm_ymmm256b64,
    Code::EVEX_Vmulpd_zmm_k1z_zmm_zmmm512b64_er,
];
/// The result is the summand, from which the product is taken away.
const TAKE: Forms = [
    Code::VEX_Vfnmadd231pd_ymm_ymm_ymmm256,
    Code::EVEX_Vfnmadd231pd_ymm_k1z_ymm_ymmm256b64,
    Code::EVEX_Vfnmadd231pd_zmm_k1z_zmm_zmmm512b64_er,
];
/// The result is a factor.
const MUL_ADD: Forms = [
    Code::VEX_Vfmadd213pd_ymm_ymm_ymmm256,
    Code::EVEX_Vfmadd213pd_ymm_k1z_ymm_ymmm256b64,
    Code::EVEX_Vfmadd213pd_zmm_k1z_zmm_zmmm512b64_er,
];
const XOR: Forms = [
    Code::VEX_Vxorpd_ymm_ymm_ymmm256,
    Code::EVEX_Vpxorq_ymm_k1z_ymm_ymmm256b64,
    Code::EVEX_Vpxorq_zmm_k1z_zmm_zmmm512b64,
];
const SHL: Forms = [
    Code::VEX_Vpsllq_ymm_ymm_imm8,
    Code::EVEX_Vpsllq_ymm_k1z_ymmm256b64_imm8,
    Code::EVEX_Vpsllq_zmm_k1z_zmmm512b64_imm8,
];

/// Lanes of f64, and the register of as many f32.
#[derive(Clone, Copy)]
struct WideLanes {
    wide: RegisterWidth,
    narrow: RegisterWidth,
    evex: bool,
}

impl WideLanes {
    fn form(self, forms: Forms) -> Code {
        match (self.evex, self.wide) {
            (false, _) => forms[0],
            (true, RegisterWidth::Zmm) => forms[2],
            (true, _) => forms[1],
        }
    }
}

impl X86Emitter<'_> {
    /// Sines or cosines. `dst` may share registers with `src`: each is written when it has been read.
    pub(super) fn sine(
        &mut self,
        dst: Vector,
        src: Vector,
        cosine: bool,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let width = self.width(dst);
        let evex = self.level == Level::Avx512;
        let (wide, narrow) = match (width, self.level) {
            (RegisterWidth::Zmm, _) | (RegisterWidth::Ymm, Level::Avx512) => {
                (RegisterWidth::Zmm, RegisterWidth::Ymm)
            }
            (RegisterWidth::Ymm, Level::Avx2) | (RegisterWidth::Xmm, _) => {
                (RegisterWidth::Ymm, RegisterWidth::Xmm)
            }
        };
        let lanes = WideLanes { wide, narrow, evex };
        let &[low, high, a, b] = regs.temps() else { return Ok(()) };
        for (&d, &s) in regs.vector(dst).iter().zip(regs.vector(src)) {
            self.sine_of_half(lanes, low, s, [a, b], cosine)?;
            if width == narrow {
                let code = super::form(super::COPY, width, evex);
                self.asm.emit(&Instruction::with2(code, width.reg(d), width.reg(low))?)?;
                continue;
            }
            let (extract, insert) = match width {
                RegisterWidth::Zmm => (
                    Code::EVEX_Vextractf64x4_ymmm256_k1z_zmm_imm8,
                    Code::EVEX_Vinsertf64x4_zmm_k1z_zmm_ymmm256_imm8,
                ),
                _ => (Code::VEX_Vextractf128_xmmm128_ymm_imm8, Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8),
            };
            self.asm.emit(&Instruction::with3(extract, narrow.reg(high), width.reg(s), 1)?)?;
            self.sine_of_half(lanes, high, high, [a, b], cosine)?;
            let (d, low, high) = (width.reg(d), width.reg(low), narrow.reg(high));
            self.asm.emit(&Instruction::with4(insert, d, low, high, 1)?)?;
        }
        Ok(())
    }

    /// The same of as many lanes of `s` as a register has of f64, into `d`, which may be `s`.
    fn sine_of_half(
        &mut self,
        lanes: WideLanes,
        d: u8,
        s: u8,
        [a, b]: [u8; 2],
        cosine: bool,
    ) -> Result<(), AsmError> {
        let WideLanes { wide, narrow, .. } = lanes;
        let three = |e: &mut Self, forms: Forms, d: u8, x: u8, y: u8| {
            let code = lanes.form(forms);
            e.asm.emit(&Instruction::with3(code, wide.reg(d), wide.reg(x), wide.reg(y))?)
        };
        self.asm.emit(&Instruction::with2(lanes.form(WIDEN), wide.reg(d), narrow.reg(s))?)?;
        self.with_wide_literal(lanes, MUL, a, d, FRAC_1_PI)?;
        if cosine {
            self.with_wide_literal(lanes, ADD, a, a, 0.5)?;
        }
        self.with_wide_literal(lanes, ADD, a, a, ROUND)?;
        self.with_wide_literal(lanes, SUB, b, a, ROUND)?;
        if cosine {
            self.with_wide_literal(lanes, SUB, b, b, 0.5)?;
        }
        self.with_wide_literal(lanes, TAKE, d, b, PI)?;
        self.with_wide_literal(lanes, TAKE, d, b, PI_REST)?;
        self.asm.emit(&Instruction::with3(lanes.form(SHL), wide.reg(a), wide.reg(a), 63)?)?;
        three(self, XOR, d, d, a)?;
        // r + r³ · P(r²)
        three(self, MUL, a, d, d)?;
        let [highest, next, rest @ ..] = SIN;
        self.with_wide_literal(lanes, MUL, b, a, highest)?;
        self.with_wide_literal(lanes, ADD, b, b, next)?;
        for c in rest {
            self.with_wide_literal(lanes, MUL_ADD, b, a, c)?;
        }
        three(self, MUL, b, b, a)?;
        three(self, MUL_ADD, b, d, d)?;
        self.asm.emit(&Instruction::with2(lanes.form(NARROW), narrow.reg(d), wide.reg(b))?)
    }

    /// An instruction of which the last source is a constant in every lane.
    fn with_wide_literal(
        &mut self,
        lanes: WideLanes,
        forms: Forms,
        d: u8,
        a: u8,
        value: f64,
    ) -> Result<(), AsmError> {
        let bits = value.to_bits();
        let one = [bits as u32, (bits >> 32) as u32];
        let (d, a) = (lanes.wide.reg(d), lanes.wide.reg(a));
        let code = lanes.form(forms);
        if lanes.evex {
            return self.asm.emit_literals(&one, |m| Instruction::with3(code, d, a, broadcast(m)));
        }
        self.asm.emit_literals(&one.repeat(4), |m| Instruction::with3(code, d, a, m))
    }
}
