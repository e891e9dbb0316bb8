//! A one-pass assembler: positions are known while instructions are written, so loops can be aligned, and constants
//! are collected into a pool behind the code, reached relative to the instruction pointer.

use std::collections::BTreeMap;

use iced_x86::{Code, Encoder, Instruction, MemoryOperand, Register};

/// What the encoder said about an instruction that it refused.
pub type AsmError = iced_x86::IcedError;

/// A position in the code that a later branch jumps back to.
#[derive(Clone, Copy, Debug)]
pub struct Label(usize);

/// A forward branch whose target is not yet known.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// One past the branch, where its displacement counts from.
    end: usize,
}

/// The recommended multi-byte no-operations, by length.
const NOPS: [&[u8]; 9] = [
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// Writes machine code.
pub struct Asm {
    encoder: Encoder,
    code: Vec<u8>,
    /// For the bytes of each constant: where displacements to it are stored, and what they count from.
    literals: BTreeMap<Vec<u8>, Vec<(usize, usize)>>,
}

impl Asm {
    /// No code yet.
    pub fn new() -> Result<Asm, AsmError> {
        Ok(Asm { encoder: Encoder::try_new(64)?, code: Vec::new(), literals: BTreeMap::new() })
    }

    /// Appends an instruction.
    pub fn emit(&mut self, inst: &Instruction) -> Result<(), AsmError> {
        self.encoder.set_buffer(std::mem::take(&mut self.code));
        let done = self.encoder.encode(inst, 0);
        self.code = self.encoder.take_buffer();
        done.map(|_| ())
    }

    /// Appends an instruction whose memory operand, made by `inst` from a placeholder, is a 32-bit constant.
    pub fn emit_literal(
        &mut self,
        bits: u32,
        inst: impl FnOnce(MemoryOperand) -> Result<Instruction, AsmError>,
    ) -> Result<(), AsmError> {
        self.emit_literals(&[bits], inst)
    }

    /// The same of several 32-bit constants, one behind the other.
    pub fn emit_literals(
        &mut self,
        bits: &[u32],
        inst: impl FnOnce(MemoryOperand) -> Result<Instruction, AsmError>,
    ) -> Result<(), AsmError> {
        let start = self.code.len();
        self.emit(&inst(MemoryOperand::with_base_displ(Register::RIP, 0x1000))?)?;
        let field = start + self.encoder.get_constant_offsets().displacement_offset();
        let bytes = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        self.literals.entry(bytes).or_default().push((field, self.code.len()));
        Ok(())
    }

    /// The present position, after padding to a multiple of `align`.
    pub fn aligned_label(&mut self, align: usize) -> Label {
        let mut pad = self.code.len().next_multiple_of(align) - self.code.len();
        while pad > 0 {
            let nop = NOPS[pad.min(NOPS.len()) - 1];
            self.code.extend_from_slice(nop);
            pad -= nop.len();
        }
        Label(self.code.len())
    }

    /// A conditional branch backwards, in its short form where it reaches.
    pub fn branch_back(&mut self, short: Code, near: Code, to: Label) -> Result<(), AsmError> {
        const SHORT_BYTES: usize = 2;
        let reaches = self.code.len() + SHORT_BYTES - to.0 <= 128;
        let start = self.code.len();
        // The encoder sees each instruction at address 0, so the target is relative to it.
        let target = (to.0 as i64 - start as i64) as u64;
        self.emit(&Instruction::with_branch(if reaches { short } else { near }, target)?)
    }

    /// A conditional branch forwards, bound later.
    pub fn branch_forward(&mut self, near: Code) -> Result<Forward, AsmError> {
        self.emit(&Instruction::with_branch(near, 0x1000)?)?;
        Ok(Forward { end: self.code.len() })
    }

    /// Lets a forward branch jump to the present position.
    pub fn bind(&mut self, branch: Forward) {
        let here = self.code.len();
        self.patch(branch.end - 4, branch.end, here);
    }

    /// The code with its constants behind it.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.literals.is_empty() {
            self.aligned_label(4);
        }
        for (bytes, uses) in std::mem::take(&mut self.literals) {
            let at = self.code.len();
            self.code.extend_from_slice(&bytes);
            uses.into_iter().for_each(|(field, from)| self.patch(field, from, at));
        }
        self.code
    }

    fn patch(&mut self, field: usize, from: usize, target: usize) {
        let disp = (target as i64 - from as i64) as i32;
        self.code[field..field + 4].copy_from_slice(&disp.to_le_bytes());
    }
}
