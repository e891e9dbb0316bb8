//! Floats from places that a register says, among few or many.
//!
//! | among, by lanes | AVX-512 | AVX2, 8 lanes |
//! |---|---|---|
//! | 1 | `vpermps` from memory | the same |
//! | 2 | `vpermi2ps`, whose upper half is in memory | `vpermps` from each half; the sign of a place, shifted up, says which result counts |
//! | 4 | the same twice, and a mask likewise | as for more |
//! | more | `vgatherdps`, of places that are cut to those there are | the same |
//!
//! A permutation moves all lanes at once, `vgatherdps` reads each by itself.

use iced_x86::{Code, Instruction, MemoryOperand, Register};

use super::asm::AsmError;
use super::{
    BinOp, COMPARED, COPY, Forms, INTS, Level, RegisterWidth, SHL, X86Emitter, arithmetic, form, high,
};
use crate::code::tile::ir::{Addr, Lanes, Vector};
use crate::code::tile::registers::Regs;

/// Scratch registers that it takes.
pub(super) const SCRATCH: usize = 3;

/// Within 128 bits the permutation has its source in a register.
const PERMUTE: Forms = [
    Code::VEX_Vpermilps_xmm_xmm_xmmm128,
    Code::VEX_Vpermps_ymm_ymm_ymmm256,
    Code::EVEX_Vpermilps_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vpermps_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vpermps_zmm_k1z_zmm_zmmm512b32,
];

/// Whether AVX-512 takes the mask that comparisons set.
pub(super) fn takes_mask(lanes: Lanes, among: u32) -> bool {
    among > 2 * lanes.count()
}

impl X86Emitter<'_> {
    /// The floats at an address that `places` says, modulo a power of two.
    pub(super) fn gather(
        &mut self,
        dst: Vector,
        addr: Addr,
        places: Vector,
        among: u32,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let width = self.width(dst);
        let lanes = width.bytes() as u32 / 4;
        let &[t, u, v, ..] = regs.temps() else { return Ok(()) };
        for (&d, &p) in regs.vector(dst).iter().zip(regs.vector(places)) {
            let registers = [d, p, t, u, v];
            match (among / lanes, self.level) {
                (1, _) => self.among_one(width, registers, addr, regs)?,
                (2, Level::Avx512) => self.among_two(width, [d, p, t], addr, 0, regs)?,
                (4, Level::Avx512) => self.among_four(width, registers, addr, regs)?,
                (2, Level::Avx2) if width == RegisterWidth::Ymm => {
                    self.among_halves(registers, addr, regs)?;
                }
                _ => self.among_many(width, registers, addr, among, regs)?,
            }
        }
        Ok(())
    }

    fn among_one(
        &mut self,
        width: RegisterWidth,
        [d, p, t, ..]: [u8; 5],
        addr: Addr,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let code = form(PERMUTE, width, high(&[d, p, t]));
        let m = self.memory(addr, 0, regs);
        if width == RegisterWidth::Xmm {
            self.load(width, t, m)?;
            return self.asm.emit(&Instruction::with3(code, width.reg(d), width.reg(t), width.reg(p))?);
        }
        self.asm.emit(&Instruction::with3(code, width.reg(d), width.reg(p), m)?)
    }

    /// From two registers' worth of floats, `from` bytes behind the address.
    fn among_two(
        &mut self,
        width: RegisterWidth,
        [d, p, t]: [u8; 3],
        addr: Addr,
        from: i32,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let code = match width {
            RegisterWidth::Xmm => Code::EVEX_Vpermi2ps_xmm_k1z_xmm_xmmm128b32,
            RegisterWidth::Ymm => Code::EVEX_Vpermi2ps_ymm_k1z_ymm_ymmm256b32,
            RegisterWidth::Zmm => Code::EVEX_Vpermi2ps_zmm_k1z_zmm_zmmm512b32,
        };
        let low = self.memory(addr, from, regs);
        self.load(width, t, low)?;
        self.copy(width, d, p)?;
        let m = self.memory(addr, from + width.bytes(), regs);
        self.asm.emit(&Instruction::with3(code, width.reg(d), width.reg(t), m)?)
    }

    fn among_four(
        &mut self,
        width: RegisterWidth,
        [d, p, t, u, _]: [u8; 5],
        addr: Addr,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let (to_mask, blend) = match width {
            RegisterWidth::Xmm => (Code::EVEX_Vpmovd2m_kr_xmm, Code::EVEX_Vblendmps_xmm_k1z_xmm_xmmm128b32),
            RegisterWidth::Ymm => (Code::EVEX_Vpmovd2m_kr_ymm, Code::EVEX_Vblendmps_ymm_k1z_ymm_ymmm256b32),
            RegisterWidth::Zmm => (Code::EVEX_Vpmovd2m_kr_zmm, Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32),
        };
        self.sign_of(width, t, p, 2 * width.bytes() as u32 / 4)?;
        self.asm.emit(&Instruction::with2(to_mask, COMPARED, width.reg(t))?)?;
        self.among_two(width, [u, p, t], addr, 0, regs)?;
        self.among_two(width, [d, p, t], addr, 2 * width.bytes(), regs)?;
        let mut inst = Instruction::with3(blend, width.reg(d), width.reg(u), width.reg(d))?;
        inst.set_op_mask(COMPARED);
        self.asm.emit(&inst)
    }

    /// Among sixteen, eight of which fit a register.
    fn among_halves(&mut self, [d, p, t, u, v]: [u8; 5], addr: Addr, regs: &Regs) -> Result<(), AsmError> {
        let width = RegisterWidth::Ymm;
        self.sign_of(width, v, p, width.bytes() as u32 / 4)?;
        let code = form(PERMUTE, width, false);
        for (half, from) in [(t, 0), (u, width.bytes())] {
            let m = self.memory(addr, from, regs);
            self.asm.emit(&Instruction::with3(code, width.reg(half), width.reg(p), m)?)?;
        }
        let [d, t, u, v] = [d, t, u, v].map(|r| width.reg(r));
        self.asm.emit(&Instruction::with4(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, d, t, u, v)?)
    }

    fn among_many(
        &mut self,
        width: RegisterWidth,
        [d, p, t, u, v]: [u8; 5],
        addr: Addr,
        among: u32,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let lanes = width.bytes() as usize / 4;
        let and = form(arithmetic(BinOp::And), width, high(&[p, u]));
        let (index, places) = (width.reg(u), width.reg(p));
        self.asm.emit_literals(&vec![among - 1; lanes], |m| Instruction::with3(and, index, places, m))?;
        let base = regs.int(addr.base).map_or(Register::None, |r| INTS[r as usize]);
        let m = MemoryOperand::new(base, index, 4, i64::from(addr.disp), 1, false, Register::None);
        let (t, v) = (width.reg(t), width.reg(v));
        match self.level {
            Level::Avx512 => {
                let code = match width {
                    RegisterWidth::Xmm => Code::EVEX_Vgatherdps_xmm_k1_vm32x,
                    RegisterWidth::Ymm => Code::EVEX_Vgatherdps_ymm_k1_vm32y,
                    RegisterWidth::Zmm => Code::EVEX_Vgatherdps_zmm_k1_vm32z,
                };
                let all = Code::VEX_Kxnorw_kr_kr_kr;
                self.asm.emit(&Instruction::with3(all, COMPARED, COMPARED, COMPARED)?)?;
                let mut inst = Instruction::with2(code, t, m)?;
                inst.set_op_mask(COMPARED);
                self.asm.emit(&inst)?;
            }
            Level::Avx2 => {
                let (code, equal) = match width {
                    RegisterWidth::Xmm => {
                        (Code::VEX_Vgatherdps_xmm_vm32x_xmm, Code::VEX_Vpcmpeqd_xmm_xmm_xmmm128)
                    }
                    RegisterWidth::Ymm | RegisterWidth::Zmm => {
                        (Code::VEX_Vgatherdps_ymm_vm32y_ymm, Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256)
                    }
                };
                self.asm.emit(&Instruction::with3(equal, v, v, v)?)?;
                self.asm.emit(&Instruction::with3(code, t, m, v)?)?;
            }
        }
        let copy = form(COPY, width, high(&[d]) || self.level == Level::Avx512);
        self.asm.emit(&Instruction::with2(copy, width.reg(d), t)?)
    }

    /// The bit of each place that counts `unit`, a power of two, as the sign of a lane.
    fn sign_of(&mut self, width: RegisterWidth, to: u8, places: u8, unit: u32) -> Result<(), AsmError> {
        let code = form(SHL, width, high(&[to, places]));
        let by = 31 - unit.trailing_zeros();
        self.asm.emit(&Instruction::with3(code, width.reg(to), width.reg(places), by)?)
    }

    fn copy(&mut self, width: RegisterWidth, to: u8, from: u8) -> Result<(), AsmError> {
        let code = form(COPY, width, high(&[to, from]));
        self.asm.emit(&Instruction::with2(code, width.reg(to), width.reg(from))?)
    }
}
