//! Which constants a kernel has in registers from the start: those of its innermost loops, the most used first, in registers that
//! nothing else in the program uses.
//!
//! ```text
//!   a function of a row     a dozen coefficients, of which every vector of the row needs each once
//! ```

use std::collections::BTreeMap;

use super::super::ir::{Inst, Source, TileProgram};
use super::super::scale::CONSTANTS;

/// Bits of constants, and their registers, of which the first `used` are taken and `all` exist.
pub(super) fn choose(program: &TileProgram, used: u32, all: u32) -> Vec<(u32, u8)> {
    let mut uses = BTreeMap::new();
    program.body.iter().for_each(|inst| count(inst, &mut uses));
    let mut most: Vec<(u32, usize)> = uses.into_iter().collect();
    most.sort_by_key(|(_, uses)| std::cmp::Reverse(*uses));
    let free = used..all;
    most.into_iter().zip(free).map(|((bits, _), reg)| (bits, reg as u8)).collect()
}

/// Counts the constants in loops that have no loop inside. Zero is made without memory.
fn count(inst: &Inst, uses: &mut BTreeMap<u32, usize>) {
    let Inst::Loop { body, .. } = inst else { return };
    if body.iter().any(|inst| matches!(inst, Inst::Loop { .. })) {
        return body.iter().for_each(|inst| count(inst, uses));
    }
    let mut used = |bits: u32| *uses.entry(bits).or_insert(0) += usize::from(bits != 0);
    for inst in body {
        match inst {
            Inst::Const { bits, .. } | Inst::Fill { bits, .. } => used(*bits),
            Inst::Fma { b: Source::Imm(bits), .. }
            | Inst::Bin { b: Source::Imm(bits), .. }
            | Inst::MulAdd { add: Source::Imm(bits), .. } => used(*bits),
            Inst::Scale { .. } => CONSTANTS.iter().for_each(|c| used(c.to_bits())),
            _ => {}
        }
    }
    uses.retain(|_, uses| *uses > 0);
}
