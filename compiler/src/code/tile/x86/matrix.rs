//! Matrix registers: the tiles of AMX.
//!
//! ```text
//!   configuration, 64 bytes     1 0 …0   bytes of a row of each (16 × u16)   rows of each (16 × u8)
//! ```
//!
//! It is loaded once for many kernels, takes some 200 cycles, and clears all tiles. Where rows of memory are as far apart as a register
//! says, an integer register holds that distance: the last one, which no program with matrices has for itself.

use iced_x86::{Code, Instruction, MemoryOperand, Register};

use super::asm::AsmError;
use super::{INTS, X86Emitter};
use crate::code::tile::ir::{Addr, Matrix, MatrixProducts};
use crate::code::tile::registers::Regs;

/// The register that holds the distance of rows.
pub(super) const PITCH: Register = Register::R15;

/// The machine's matrix register.
pub(super) fn register(m: Matrix) -> Register {
    Register::TMM0 + u32::from(m.0)
}

/// Where the configuration has the bytes of a row of the first register, and its rows.
const BYTES_OF_ROWS: usize = 16;
const ROWS: usize = 48;

impl X86Emitter<'_> {
    /// Loads the sizes of the program's matrix registers.
    pub(super) fn configure(&mut self) -> Result<(), AsmError> {
        let mut bytes = [0u8; 64];
        bytes[0] = 1;
        for (i, shape) in self.program.matrices.iter().enumerate() {
            bytes[BYTES_OF_ROWS + 2 * i] = 4 * shape.lanes;
            bytes[ROWS + i] = shape.rows;
        }
        let words: Vec<u32> = bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        self.asm.emit_literals(&words, |m| Instruction::with1(Code::VEX_Ldtilecfg_m512, m))
    }

    pub(super) fn load_rows(
        &mut self,
        dst: Matrix,
        addr: Addr,
        pitch: i32,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let rows = self.rows_at(addr, pitch, regs)?;
        self.asm.emit(&Instruction::with2(Code::VEX_Tileloadd_tmm_sibmem, register(dst), rows)?)
    }

    pub(super) fn store_rows(
        &mut self,
        src: Matrix,
        addr: Addr,
        pitch: i32,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let rows = self.rows_at(addr, pitch, regs)?;
        self.asm.emit(&Instruction::with2(Code::VEX_Tilestored_sibmem_tmm, rows, register(src))?)
    }

    pub(super) fn dot_of_rows(
        &mut self,
        acc: Matrix,
        [a, b]: [Matrix; 2],
        products: MatrixProducts,
    ) -> Result<(), AsmError> {
        let code = match products {
            MatrixProducts::Bytes => Code::VEX_Tdpbusd_tmm_tmm_tmm,
            MatrixProducts::Halves => Code::VEX_Tdpbf16ps_tmm_tmm_tmm,
        };
        self.asm.emit(&Instruction::with3(code, register(acc), register(a), register(b))?)
    }

    /// Rows at a distance, which its register holds from then on.
    fn rows_at(&mut self, addr: Addr, pitch: i32, regs: &Regs) -> Result<MemoryOperand, AsmError> {
        if self.pitch != Some(pitch) {
            self.asm.emit(&Instruction::with2(Code::Mov_rm64_imm32, PITCH, pitch)?)?;
            self.pitch = Some(pitch);
        }
        let base = regs.int(addr.base).map_or(Register::None, |r| INTS[r as usize]);
        let disp = i64::from(addr.disp);
        Ok(MemoryOperand::new(base, PITCH, 1, disp, 1, false, Register::None))
    }
}
