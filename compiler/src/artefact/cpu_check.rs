//! Machine code that asks the processor whether it has what a program needs.
//!
//! A host that calls a program's C function has no runtime of ours that would look first, and an instruction that the
//! processor does not know ends the process. So the function looks itself. There is no word for CPUID in the code
//! generator's language, so this is written byte by byte, for each program just the questions that it has:
//!
//! ```text
//!   CPUID    says what the processor has: for each leaf, bits of a register that must be set
//!   XGETBV   says which registers the operating system keeps for each thread: without them, AVX faults all the same
//! ```
//!
//! The code begins with instructions of 1998, so it runs on whatever runs 64-bit programs.

use nnc_runtime::abi::CpuFeatures;

/// A register of CPUID's answer, by the number that instructions have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Eax = 0,
    Ecx = 1,
    Edx = 2,
    Ebx = 3,
}

/// A question to CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    leaf: u32,
    /// Which part of a leaf that has several.
    part: u32,
    register: Register,
}

const BASIC: Question = Question { leaf: 1, part: 0, register: Register::Ecx };
const EXTENDED: Question = Question { leaf: 7, part: 0, register: Register::Ebx };
const EXTENDED_MORE: Question = Question { leaf: 7, part: 0, register: Register::Ecx };
const EXTENDED_MATRICES: Question = Question { leaf: 7, part: 0, register: Register::Edx };
const SECOND: Question = Question { leaf: 7, part: 1, register: Register::Eax };
const AMD: Question = Question { leaf: 0x8000_0001, part: 0, register: Register::Ecx };
const QUESTIONS: [Question; 6] = [BASIC, EXTENDED, EXTENDED_MORE, EXTENDED_MATRICES, SECOND, AMD];

/// Bit of [`BASIC`]: the operating system uses XSAVE, so that XGETBV may be asked.
const OSXSAVE: u32 = 27;
/// State that the operating system must keep: of 128-bit and 256-bit registers, and of masks and 512-bit ones.
const AVX_STATE: u32 = 0b110;
const AVX512_STATE: u32 = 0b1110_0110;
/// The same of matrix registers, which a process needs leave for, too.
const AMX_STATE: u32 = 0b11 << 17;

/// Where CPUID tells of a feature, and the state that it uses.
const FEATURES: [(CpuFeatures, Question, u32, u32); 25] = [
    (CpuFeatures::SSE3, BASIC, 0, 0),
    (CpuFeatures::SSSE3, BASIC, 9, 0),
    (CpuFeatures::SSE4_1, BASIC, 19, 0),
    (CpuFeatures::SSE4_2, BASIC, 20, 0),
    (CpuFeatures::POPCNT, BASIC, 23, 0),
    (CpuFeatures::AVX, BASIC, 28, AVX_STATE),
    (CpuFeatures::AVX2, EXTENDED, 5, AVX_STATE),
    (CpuFeatures::FMA, BASIC, 12, AVX_STATE),
    (CpuFeatures::F16C, BASIC, 29, AVX_STATE),
    (CpuFeatures::BMI1, EXTENDED, 3, 0),
    (CpuFeatures::BMI2, EXTENDED, 8, 0),
    (CpuFeatures::LZCNT, AMD, 5, 0),
    (CpuFeatures::AVX512F, EXTENDED, 16, AVX512_STATE),
    (CpuFeatures::AVX512BW, EXTENDED, 30, AVX512_STATE),
    (CpuFeatures::AVX512DQ, EXTENDED, 17, AVX512_STATE),
    (CpuFeatures::AVX512VL, EXTENDED, 31, AVX512_STATE),
    (CpuFeatures::AVX512CD, EXTENDED, 28, AVX512_STATE),
    (CpuFeatures::AVX512VNNI, EXTENDED_MORE, 11, AVX512_STATE),
    (CpuFeatures::AVX512VBMI, EXTENDED_MORE, 1, AVX512_STATE),
    (CpuFeatures::AVXVNNI, SECOND, 4, AVX_STATE),
    (CpuFeatures::AVX512BITALG, EXTENDED_MORE, 12, AVX512_STATE),
    (CpuFeatures::AVX512BF16, SECOND, 5, AVX512_STATE),
    (CpuFeatures::AMX_BF16, EXTENDED_MATRICES, 22, AMX_STATE),
    (CpuFeatures::AMX_TILE, EXTENDED_MATRICES, 24, AMX_STATE),
    (CpuFeatures::AMX_INT8, EXTENDED_MATRICES, 25, AMX_STATE),
];

/// A function of System V's convention, without parameters, that returns 1 if this processor and its operating system
/// offer all of `needed`, and 0 if not. What is no feature of x86-64 no such processor has.
pub(super) fn x86_64(needed: CpuFeatures) -> Vec<u8> {
    let wanted = FEATURES.iter().filter(|(feature, ..)| needed.contains(*feature));
    let known = FEATURES.iter().fold(CpuFeatures::default(), |all, (feature, ..)| all.with(*feature));
    let state = wanted.clone().fold(0, |all, (.., state)| all | state);
    let mut code = MachineCode::default();
    code.bytes(&[0x53]); // push rbx, which CPUID overwrites and the caller keeps
    if !known.contains(needed) {
        code.bytes(&[0x31, 0xc0]); // xor eax, eax
        code.fail_unless_zero_flag_is_clear();
    }
    for question in QUESTIONS {
        let bits = wanted.clone().filter(|(_, asked, ..)| *asked == question);
        let mut mask = bits.fold(0, |mask, (_, _, bit, _)| mask | 1_u32 << bit);
        if question == BASIC && state != 0 {
            mask |= 1 << OSXSAVE;
        }
        if mask == 0 {
            continue;
        }
        // The highest leaf of each kind is in its first one.
        let first = question.leaf & 0x8000_0000;
        code.cpuid(first, 0);
        code.fail_if_below(question.leaf);
        code.cpuid(question.leaf, question.part);
        code.fail_unless_set(question.register, mask);
        if question == BASIC && state != 0 {
            code.bytes(&[0x31, 0xc9]); // xor ecx, ecx
            code.bytes(&[0x0f, 0x01, 0xd0]); // xgetbv
            code.fail_unless_set(Register::Eax, state);
        }
    }
    if state & AMX_STATE != 0 {
        code.ask_for_matrices();
    }
    code.finish()
}

#[derive(Default)]
struct MachineCode {
    bytes: Vec<u8>,
    /// Where distances to the end for failures have to be.
    failures: Vec<usize>,
}

impl MachineCode {
    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn word(&mut self, word: u32) {
        self.bytes(&word.to_le_bytes());
    }

    /// A jump to the end for failures, on the condition of an opcode `0f condition`.
    fn fail_on(&mut self, condition: u8) {
        self.bytes(&[0x0f, condition]);
        self.failures.push(self.bytes.len());
        self.word(0);
    }

    /// Always, after an instruction whose result is zero.
    fn fail_unless_zero_flag_is_clear(&mut self) {
        self.fail_on(0x84); // je
    }

    fn cpuid(&mut self, leaf: u32, part: u32) {
        self.bytes(&[0xb8]); // mov eax, leaf
        self.word(leaf);
        self.bytes(&[0xb9]); // mov ecx, part
        self.word(part);
        self.bytes(&[0x0f, 0xa2]); // cpuid
    }

    /// Linux keeps matrix registers for processes that ask for them: `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`, which any thread
    /// may say again.
    fn ask_for_matrices(&mut self) {
        for (register, value) in [(0xb8, 158), (0xbf, 0x1023), (0xbe, 18)] {
            self.bytes(&[register]); // mov eax, 158; mov edi, 0x1023; mov esi, 18
            self.word(value);
        }
        self.bytes(&[0x0f, 0x05]); // syscall
        self.bytes(&[0x85, 0xc0]); // test eax, eax
        self.fail_on(0x85); // jne
    }

    fn fail_if_below(&mut self, leaf: u32) {
        self.bytes(&[0x3d]); // cmp eax, leaf
        self.word(leaf);
        self.fail_on(0x82); // jb
    }

    fn fail_unless_set(&mut self, register: Register, mask: u32) {
        self.bytes(&[0x81, 0xe0 | register as u8]); // and register, mask
        self.word(mask);
        self.bytes(&[0x81, 0xf8 | register as u8]); // cmp register, mask
        self.word(mask);
        self.fail_on(0x85); // jne
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes(&[0xb8]); // mov eax, 1
        self.word(1);
        self.bytes(&[0x5b, 0xc3]); // pop rbx; ret
        let failure = self.bytes.len();
        self.bytes(&[0x31, 0xc0, 0x5b, 0xc3]); // xor eax, eax; pop rbx; ret
        for at in std::mem::take(&mut self.failures) {
            // A distance counts from the end of its instruction.
            let distance = (failure - (at + 4)) as u32;
            if let Some(place) = self.bytes.get_mut(at..at + 4) {
                place.copy_from_slice(&distance.to_le_bytes());
            }
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic};

    use super::*;

    fn mnemonics(needed: CpuFeatures) -> Vec<Mnemonic> {
        let code = x86_64(needed);
        let mut end = 0;
        let all: Vec<_> = Decoder::new(64, &code, DecoderOptions::NONE)
            .iter()
            .inspect(|instruction| {
                assert!(!instruction.is_invalid());
                let target = instruction.near_branch_target() as usize;
                assert!(target == 0 || target == code.len() - 4, "jumps lead to the end for failures");
                end = instruction.next_ip() as usize;
            })
            .map(|instruction| instruction.mnemonic())
            .collect();
        assert_eq!(end, code.len());
        all
    }

    #[test]
    fn it_asks_for_what_is_needed_and_nothing_else() {
        let count = |needed, asked| mnemonics(needed).iter().filter(|&&m| m == asked).count();
        assert_eq!(count(CpuFeatures::default(), Mnemonic::Cpuid), 0);
        assert_eq!(count(CpuFeatures::SSE4_2, Mnemonic::Cpuid), 2);
        assert_eq!(count(CpuFeatures::SSE4_2, Mnemonic::Xgetbv), 0);
        assert_eq!(count(CpuFeatures::BMI2.with(CpuFeatures::LZCNT), Mnemonic::Xgetbv), 0);
        assert_eq!(count(CpuFeatures::AVX512VNNI, Mnemonic::Cpuid), 4);
        assert_eq!(count(CpuFeatures::AVX512VNNI, Mnemonic::Xgetbv), 1);
        assert_eq!(count(CpuFeatures::AVX512VNNI, Mnemonic::Syscall), 0);
        assert_eq!(count(CpuFeatures::AMX_INT8, Mnemonic::Syscall), 1);
    }

    #[test]
    fn each_feature_of_x86_is_in_the_table_once() {
        for bit in 0..40 {
            let feature = CpuFeatures(1 << bit);
            let found = FEATURES.iter().filter(|(known, ..)| *known == feature).count();
            let named = !feature.to_string().starts_with("feature");
            assert_eq!(found, usize::from(named), "{feature}");
        }
    }
}
