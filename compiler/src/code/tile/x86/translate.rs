//! Bytes looked up in a table of 256.
//!
//! | | |
//! |---|---|
//! | AVX-512 VBMI | `vpermt2b` looks up 128 entries: once in each half of the table; the sign of a place says which result counts |
//! | AVX2, AVX-512 BW | `vpshufb` looks up 16 entries, and gives 0 for a place whose sign is set: so 16 times, and all results are laid over each other |
//!
//! ```text
//!   place − 16·k, plus 0x70 with saturation:      0x70 … 0x7f for the entries of part k,     0x80 and above for all others
//! ```

use iced_x86::{Code, Instruction};

use super::asm::AsmError;
use super::{
    BinOp, COMPARED, COPY, Extensions, Forms, LOAD, RegisterWidth, SPREAD_FOUR, X86Emitter, arithmetic, form,
    high,
};
use crate::code::tile::ir::{Addr, Vector};
use crate::code::tile::registers::Regs;

const ADD_BYTES: Forms = [
    Code::VEX_Vpaddusb_xmm_xmm_xmmm128,
    Code::VEX_Vpaddusb_ymm_ymm_ymmm256,
    Code::EVEX_Vpaddusb_xmm_k1z_xmm_xmmm128,
    Code::EVEX_Vpaddusb_ymm_k1z_ymm_ymmm256,
    Code::EVEX_Vpaddusb_zmm_k1z_zmm_zmmm512,
];
const SUB_BYTES: Forms = [
    Code::VEX_Vpsubb_xmm_xmm_xmmm128,
    Code::VEX_Vpsubb_ymm_ymm_ymmm256,
    Code::EVEX_Vpsubb_xmm_k1z_xmm_xmmm128,
    Code::EVEX_Vpsubb_ymm_k1z_ymm_ymmm256,
    Code::EVEX_Vpsubb_zmm_k1z_zmm_zmmm512,
];
const SHUFFLE_BYTES: Forms = [
    Code::VEX_Vpshufb_xmm_xmm_xmmm128,
    Code::VEX_Vpshufb_ymm_ymm_ymmm256,
    Code::EVEX_Vpshufb_xmm_k1z_xmm_xmmm128,
    Code::EVEX_Vpshufb_ymm_k1z_ymm_ymmm256,
    Code::EVEX_Vpshufb_zmm_k1z_zmm_zmmm512,
];

/// Entries that one shuffle knows.
const PART: i32 = 16;

/// That many in each byte of a lane.
const PARTS: u32 = 0x1010_1010;

/// What sets the sign of places that are no entries of a part.
const OTHERS: u32 = 0x7070_7070;

/// Scratch registers that it takes.
pub(super) const fn scratch(with: Extensions) -> usize {
    if with.look_up { 2 } else { 4 }
}

impl X86Emitter<'_> {
    /// The bytes of a table at the places that the bytes of `src` say.
    pub(super) fn translate(
        &mut self,
        dst: Vector,
        src: Vector,
        table: Addr,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let width = self.width(dst);
        for (&d, &s) in regs.vector(dst).iter().zip(regs.vector(src)) {
            match (self.with.look_up, regs.temps()) {
                (true, &[t, u, ..]) => self.by_halves(d, s, table, [t, u], regs)?,
                (false, &[t, u, v, w, ..]) => self.by_parts(width, d, s, table, [t, u, v, w], regs)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whatever the width: what lies in the upper lanes is nobody's.
    fn by_halves(&mut self, d: u8, s: u8, table: Addr, halves: [u8; 2], regs: &Regs) -> Result<(), AsmError> {
        let width = RegisterWidth::Zmm;
        let [rd, rs, low, high] = [d, s, halves[0], halves[1]].map(|r| width.reg(r));
        for (half, at) in [(low, 0), (high, 2 * width.bytes())] {
            let m = self.memory(table, at, regs);
            self.asm.emit(&Instruction::with2(form(LOAD, width, true), half, m)?)?;
            let m = self.memory(table, at + width.bytes(), regs);
            self.asm.emit(&Instruction::with3(Code::EVEX_Vpermt2b_zmm_k1z_zmm_zmmm512, half, rs, m)?)?;
        }
        self.asm.emit(&Instruction::with2(Code::EVEX_Vpmovb2m_kr_zmm, COMPARED, rs)?)?;
        let mut inst = Instruction::with3(Code::EVEX_Vpblendmb_zmm_k1z_zmm_zmmm512, rd, low, high)?;
        inst.set_op_mask(COMPARED);
        self.asm.emit(&inst)
    }

    fn by_parts(
        &mut self,
        width: RegisterWidth,
        d: u8,
        s: u8,
        table: Addr,
        [t, u, v, w]: [u8; 4],
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let evex = high(&[d, s, t, u, v, w]);
        let [rd, rs, places, part, chosen, all] = [d, s, t, u, v, w].map(|r| width.reg(r));
        let lanes = width.bytes() as usize / 4;
        self.asm.emit(&Instruction::with2(form(COPY, width, evex), places, rs)?)?;
        for number in 0..256 / PART {
            if number > 0 {
                let code = form(SUB_BYTES, width, evex);

                self.asm
                    .emit_literals(&vec![PARTS; lanes], |m| Instruction::with3(code, places, places, m))?;
            }
            let code = form(ADD_BYTES, width, evex);

            self.asm.emit_literals(&vec![OTHERS; lanes], |m| Instruction::with3(code, chosen, places, m))?;
            let m = self.memory(table, PART * number, regs);
            self.asm.emit(&Instruction::with2(form(SPREAD_FOUR, width, evex), part, m)?)?;
            let shuffle = form(SHUFFLE_BYTES, width, evex);
            let last = number == 256 / PART - 1;
            let into = if number == 0 { all } else { part };
            self.asm.emit(&Instruction::with3(shuffle, into, part, chosen)?)?;
            if number > 0 {
                let or = form(arithmetic(BinOp::Or), width, evex);
                self.asm.emit(&Instruction::with3(or, if last { rd } else { all }, all, part)?)?;
            }
        }
        Ok(())
    }
}
