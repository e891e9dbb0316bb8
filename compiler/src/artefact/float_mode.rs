//! Machine code that switches the thread's floating-point environment, for which the code generator's language has no word.
//!
//! ```text
//!   before = f(wanted)     run the layers     f(before)
//! ```

/// A function of System V's convention that puts its parameter into MXCSR and returns what was there.
pub(super) const X86_64: &[u8] = &[
    0x0f, 0xae, 0x5c, 0x24, 0xf8, // stmxcsr [rsp-8]
    0x8b, 0x44, 0x24, 0xf8, //       mov eax, [rsp-8]
    0x89, 0x7c, 0x24, 0xfc, //       mov [rsp-4], edi
    0x0f, 0xae, 0x54, 0x24, 0xfc, // ldmxcsr [rsp-4]
    0xc3, //                         ret
];

/// The same for FPCR of AArch64.
pub(super) const AARCH64: &[u8] = &[
    0x01, 0x44, 0x3b, 0xd5, // mrs x1, fpcr
    0x00, 0x44, 0x1b, 0xd5, // msr fpcr, x0
    0xe0, 0x03, 0x01, 0xaa, // mov x0, x1
    0xc0, 0x03, 0x5f, 0xd6, // ret
];

#[cfg(test)]
mod tests {
    use iced_x86::{Code, Decoder, DecoderOptions};

    use super::*;

    #[test]
    fn the_bytes_are_the_instructions_beside_them() {
        let decoded: Vec<String> = Decoder::new(64, X86_64, DecoderOptions::NONE)
            .iter()
            .map(|i| format!("{:?}", i.code()))
            .collect();
        let expected =
            [Code::Stmxcsr_m32, Code::Mov_r32_rm32, Code::Mov_rm32_r32, Code::Ldmxcsr_m32, Code::Retnq];
        assert_eq!(decoded, expected.map(|code| format!("{code:?}")));
    }
}
