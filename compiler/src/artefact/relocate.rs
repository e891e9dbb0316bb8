//! Filling in one distance.
//!
//! Only relative relocations exist here: an address would have to be changed by whoever loads the file. Names and formulas
//! are those of the System V ABI's processor supplements (x86-64: table 4.9; AArch64: ELF for the Arm 64-bit
//! architecture, section 5.7).

use nnc_runtime::artefact::Machine;
use object::elf;

/// What to fill in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relocation {
    pub(super) machine: Machine,
    /// The relocation's number in the ELF file.
    pub(super) r_type: u32,
    /// Address of the place, *P*.
    pub(super) from: u64,
    /// Address of the target with the addend, *S + A*.
    pub(super) to: u64,
}

/// A distance that cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelocationError {
    /// A kind that an artefact cannot have or that we do not know.
    #[error("relocation {r_type} on {machine} is not relative or not known")]
    Kind {
        /// Its number.
        r_type: u32,
        /// The instruction set.
        machine: Machine,
    },
    /// A place outside the section.
    #[error("a relocation outside the section")]
    Outside,
    /// A distance that does not fit.
    #[error("a distance of {0} bytes, which the instruction cannot hold")]
    TooFar(i64),
    /// An address that should be loaded from a table, by an instruction that we cannot turn into a computation.
    #[error("an address is loaded from a table of addresses, which an artefact does not have")]
    Table,
}

/// Fills in the distance at byte `at` of `bytes`.
pub(super) fn relocate(bytes: &mut [u8], at: u64, relocation: &Relocation) -> Result<(), RelocationError> {
    let &Relocation { machine, r_type, from, to } = relocation;
    let unknown = Err(RelocationError::Kind { r_type, machine });
    let at = usize::try_from(at).map_err(|_| RelocationError::Outside)?;
    let distance = to.wrapping_sub(from) as i64;
    match machine {
        Machine::X86_64 => {
            match r_type {
                elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => {}
                elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => {
                    load_to_lea(bytes, at)?;
                }
                _ => return unknown,
            }
            let distance = i32::try_from(distance).map_err(|_| RelocationError::TooFar(distance))?;
            *word(bytes, at)? = distance.to_le_bytes();
        }
        Machine::AARCH64 => {
            let word = word(bytes, at)?;
            let instruction = u32::from_le_bytes(*word);
            let instruction = match r_type {
                elf::R_AARCH64_CALL26 | elf::R_AARCH64_JUMP26 => {
                    let words = signed_bits(distance >> 2, 26).ok_or(RelocationError::TooFar(distance))?;
                    instruction & !0x03ff_ffff | words
                }
                elf::R_AARCH64_ADR_PREL_PG_HI21 | elf::R_AARCH64_ADR_GOT_PAGE => {
                    let pages = (to >> 12).wrapping_sub(from >> 12) as i64;
                    let pages = signed_bits(pages, 21).ok_or(RelocationError::TooFar(distance))?;
                    instruction & !0x60ff_ffe0 | (pages & 3) << 29 | (pages >> 2) << 5
                }
                elf::R_AARCH64_ADD_ABS_LO12_NC => instruction & !0x003f_fc00 | (to as u32 & 0xfff) << 10,
                elf::R_AARCH64_LD64_GOT_LO12_NC => ldr_to_add(instruction, to)?,
                elf::R_AARCH64_PREL32 => {
                    signed_bits(distance, 32).ok_or(RelocationError::TooFar(distance))?
                }
                _ => return unknown,
            };
            *word = instruction.to_le_bytes();
        }
        _ => return unknown,
    }
    Ok(())
}

/// `mov reg, [rip + entry of a table with the address]` becomes `lea reg, [rip + target]`: the same length, no table.
fn load_to_lea(bytes: &mut [u8], at: usize) -> Result<(), RelocationError> {
    let opcode = at.checked_sub(2).and_then(|at| bytes.get_mut(at));
    match opcode {
        Some(opcode) if *opcode == 0x8b => *opcode = 0x8d,
        _ => return Err(RelocationError::Table),
    }
    Ok(())
}

/// `adrp` and `ldr x, [x, #entry of a table with the address]` become `adrp` of the target's own page and `add x, x, #rest`.
fn ldr_to_add(instruction: u32, to: u64) -> Result<u32, RelocationError> {
    const LDR: u32 = 0xf940_0000;
    const ADD: u32 = 0x9100_0000;
    match instruction & 0xffc0_0000 {
        LDR => Ok(ADD | (to as u32 & 0xfff) << 10 | instruction & 0x3ff),
        _ => Err(RelocationError::Table),
    }
}

fn word(bytes: &mut [u8], at: usize) -> Result<&mut [u8; 4], RelocationError> {
    bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()).ok_or(RelocationError::Outside)
}

/// The lowest `bits` bits of `value`, if they hold it with its sign.
fn signed_bits(value: i64, bits: u32) -> Option<u32> {
    let half = 1_i64 << (bits - 1);
    (-half..half).contains(&value).then_some((value as u64 & ((1 << bits) - 1)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x86(bytes: &mut [u8], at: u64, r_type: u32, from: u64, to: u64) -> Result<(), RelocationError> {
        relocate(bytes, at, &Relocation { machine: Machine::X86_64, r_type, from, to })
    }

    fn arm(instruction: u32, r_type: u32, from: u64, to: u64) -> Result<u32, RelocationError> {
        let mut bytes = instruction.to_le_bytes();
        relocate(&mut bytes, 0, &Relocation { machine: Machine::AARCH64, r_type, from, to })?;
        Ok(u32::from_le_bytes(bytes))
    }

    #[test]
    fn a_call_gets_the_distance_to_its_target() {
        let mut call = [0xe8, 0, 0, 0, 0];
        // The place is the operand at 0x1001, the addend -4 counts from the end of the instruction.
        x86(&mut call, 1, elf::R_X86_64_PLT32, 0x1001, 0x0f00 - 4).unwrap();
        assert_eq!(call, [0xe8, 0xfb, 0xfe, 0xff, 0xff]);
    }

    #[test]
    fn an_address_from_a_table_becomes_a_computed_one() {
        let mut load = [0x48, 0x8b, 0x05, 0, 0, 0, 0];
        x86(&mut load, 3, elf::R_X86_64_GOTPCREL, 0x1003, 0x2000 - 4).unwrap();
        assert_eq!(load, [0x48, 0x8d, 0x05, 0xf9, 0x0f, 0, 0]);
        let mut push = [0x00, 0xff, 0x35, 0, 0, 0, 0];
        let refused = x86(&mut push, 3, elf::R_X86_64_GOTPCREL, 0x1003, 0x2000);
        assert_eq!(refused, Err(RelocationError::Table));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut bytes = [0; 4];
        assert_eq!(x86(&mut bytes, 1, elf::R_X86_64_PC32, 0, 0), Err(RelocationError::Outside));
        assert_eq!(x86(&mut bytes, 0, elf::R_X86_64_PC32, 0, 1 << 31), Err(RelocationError::TooFar(1 << 31)));
        let kind = RelocationError::Kind { r_type: elf::R_X86_64_64, machine: Machine::X86_64 };
        assert_eq!(x86(&mut bytes, 0, elf::R_X86_64_64, 0, 0), Err(kind));
        assert_eq!(
            arm(0x9400_0000, elf::R_AARCH64_CALL26, 0, 1 << 27),
            Err(RelocationError::TooFar(1 << 27))
        );
        assert!(arm(0x9400_0000, elf::R_AARCH64_CALL26, 1 << 27, 0).is_ok());
    }

    #[test]
    fn aarch64_instructions_get_their_fields() {
        // bl +8; bl -4
        assert_eq!(arm(0x9400_0000, elf::R_AARCH64_CALL26, 0x1000, 0x1008), Ok(0x9400_0002));
        assert_eq!(arm(0x9400_0000, elf::R_AARCH64_CALL26, 0x1000, 0x0ffc), Ok(0x97ff_ffff));
        // adrp x0, 5 pages ahead: 5 = 0b101, low two bits 01 at 29, the rest 1 at 5.
        let adrp = arm(0x9000_0000, elf::R_AARCH64_ADR_PREL_PG_HI21, 0x1ff0, 0x6010);
        assert_eq!(adrp, Ok(0xb000_0020));
        // The same of an address that would come from a table; ldr x3, [x2] becomes add x3, x2, #0x123.
        assert_eq!(arm(0x9000_0000, elf::R_AARCH64_ADR_GOT_PAGE, 0x1ff0, 0x6010), Ok(0xb000_0020));
        assert_eq!(arm(0xf940_0043, elf::R_AARCH64_LD64_GOT_LO12_NC, 0, 0x5123), Ok(0x9104_8c43));
        let word = arm(0xb940_0043, elf::R_AARCH64_LD64_GOT_LO12_NC, 0, 0x5123);
        assert_eq!(word, Err(RelocationError::Table));
        // add x0, x0, #0x123
        let add = arm(0x9100_0000, elf::R_AARCH64_ADD_ABS_LO12_NC, 0, 0x5123);
        assert_eq!(add, Ok(0x9104_8c00));
    }
}
