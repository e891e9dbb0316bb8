//! Which features of a processor machine code needs, found in its instructions.
//!
//! A target has more than most programs use: products of bytes are for quantised layers, tables of bytes for functions of them. A file
//! that said it needs all of the target would be refused by processors that could run it. So each function is decoded when it is made:
//!
//! ```text
//!   needed  =  features of the target's level  ∪  (those of the instructions  ∩  those of the target)
//! ```
//!
//! What a level has is needed in any case: the code generator may use any of it anywhere. Behind the code of a function are its
//! constants, which are decoded with it. What these happen to look like can only add to what is needed.

use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Instruction};
use nnc_runtime::abi::CpuFeatures;

use crate::target::{Arch, Target};

/// Features that some code of a level has instructions of and other code of the same level has not.
const EXTRAS: [(CpuidFeature, CpuFeatures); 7] = [
    (CpuidFeature::AVX512_VNNI, CpuFeatures::AVX512VNNI),
    (CpuidFeature::AVX512_BF16, CpuFeatures::AVX512BF16),
    (CpuidFeature::AVX512_VBMI, CpuFeatures::AVX512VBMI),
    (CpuidFeature::AVX_VNNI, CpuFeatures::AVXVNNI),
    (CpuidFeature::AMX_TILE, CpuFeatures::AMX_TILE),
    (CpuidFeature::AMX_INT8, CpuFeatures::AMX_INT8),
    (CpuidFeature::AMX_BF16, CpuFeatures::AMX_BF16),
];

/// What a function of a target needs beyond the target's level.
pub fn beyond_level(code: &[u8], target: &Target) -> CpuFeatures {
    if target.arch != Arch::X86_64 || target.features.len() == target.level_features().len() {
        return CpuFeatures::default();
    }
    let mut found = CpuFeatures::default();
    let mut instruction = Instruction::default();
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let features = instruction.cpuid_features();
        let extras = EXTRAS.iter().filter(|(feature, _)| features.contains(feature));
        found = extras.fold(found, |found, (_, extra)| found.with(*extra));
    }
    CpuFeatures(found.0 & all(target.features).0)
}

/// What every program for a target needs.
pub fn of_level(target: &Target) -> CpuFeatures {
    all(target.level_features())
}

/// Features by their names, of which the runtime knows all that targets have.
fn all(names: &[&str]) -> CpuFeatures {
    let known = names.iter().filter_map(|name| CpuFeatures::named(name));
    known.fold(CpuFeatures::default(), CpuFeatures::with)
}

#[cfg(test)]
mod tests {
    use iced_x86::code_asm::*;

    use super::*;

    /// Code of a few instructions, with constants behind it.
    fn code(write: impl FnOnce(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>) -> Vec<u8> {
        let mut a = CodeAssembler::new(64).unwrap();
        a.vaddps(zmm0, zmm1, zmm2).unwrap();
        write(&mut a).unwrap();
        a.ret().unwrap();
        let mut bytes = a.assemble(0).unwrap();
        bytes.extend(1.5_f32.to_le_bytes());
        bytes
    }

    #[test]
    fn what_the_instructions_need_is_found_and_nothing_else() {
        let target = Target::named("znver4").unwrap();
        let of = |code: &[u8]| beyond_level(code, &target);
        assert_eq!(of(&code(|_| Ok(()))), CpuFeatures::default());
        assert_eq!(of(&code(|a| a.vpdpbusd(zmm0, zmm1, zmm2))), CpuFeatures::AVX512VNNI);
        assert_eq!(of(&code(|a| a.vdpbf16ps(zmm0, zmm1, zmm2))), CpuFeatures::AVX512BF16);
        let both = code(|a| {
            a.vpermi2b(zmm0, zmm1, zmm2)?;
            a.vcvtneps2bf16(ymm0, zmm1)
        });
        assert_eq!(of(&both), CpuFeatures::AVX512VBMI.with(CpuFeatures::AVX512BF16));
    }

    #[test]
    fn a_target_needs_no_more_than_it_has() {
        let dot = code(|a| a.vpdpbusd(zmm0, zmm1, zmm2));
        for name in ["x86-64-v4", "alderlake", "aarch64"] {
            assert_eq!(beyond_level(&dot, &Target::named(name).unwrap()), CpuFeatures::default(), "{name}");
        }
        let level = of_level(&Target::named("sapphirerapids").unwrap());
        assert!(level.contains(CpuFeatures::AVX512BW) && !level.contains(CpuFeatures::AVX512VNNI));
        assert_eq!(of_level(&Target::named("aarch64").unwrap()), CpuFeatures::default());
    }
}
