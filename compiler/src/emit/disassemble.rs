//! Machine code as text: `nnc compile --emit asm`.
//!
//! ```text
//!   nnc_3_dense_block1_expand:
//!       0x01a0  push %rbp
//!       0x01b4  call nnc_kernel_7
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter, Instruction};
use object::read::elf::ElfFile64;
use object::{Architecture, Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};

/// Why an object's code cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum DisassembleError {
    /// The object is not one that the code generator makes.
    #[error("the object file cannot be read; this is a mistake in the code generator")]
    Object(#[from] object::read::Error),
    /// There is no disassembler for the target.
    #[error("there is no disassembler for {0:?}; write the object instead, and use that machine's objdump")]
    Architecture(Architecture),
}

/// Bytes of machine code in a relocatable object; 0 if it cannot be read.
pub fn code_bytes(bytes: &[u8]) -> u64 {
    let Ok(file) = <ElfFile64>::parse(bytes) else { return 0 };
    file.sections().filter(|s| s.kind() == SectionKind::Text).map(|s| s.size()).sum()
}

/// The code of a relocatable object for x86-64, in the syntax of GNU tools, with the names of what is called.
pub fn disassemble(bytes: &[u8]) -> Result<String, DisassembleError> {
    let file = <ElfFile64>::parse(bytes)?;
    if file.architecture() != Architecture::X86_64 {
        return Err(DisassembleError::Architecture(file.architecture()));
    }
    let mut text = String::new();
    for section in file.sections().filter(|s| s.kind() == SectionKind::Text) {
        let starts: BTreeMap<u64, &str> = file
            .symbols()
            .filter(|s| s.is_definition() && s.section_index() == Some(section.index()))
            .filter_map(|s| Some((s.address(), s.name().ok()?)))
            .filter(|(_, name)| !name.is_empty())
            .collect();
        // Where the linker fills in a distance, and to what.
        let targets: BTreeMap<u64, String> = section
            .relocations()
            .filter_map(|(at, relocation)| match relocation.target() {
                RelocationTarget::Symbol(index) => {
                    let symbol = file.symbol_by_index(index).ok()?;
                    Some((at, symbol.name().ok()?.to_string()))
                }
                _ => None,
            })
            .collect();
        let data = section.data()?;
        let ends = starts.keys().skip(1).copied().chain([data.len() as u64]);
        for ((&start, name), end) in starts.iter().zip(ends) {
            let code = data.get(start as usize..end as usize).unwrap_or_default();
            function(&mut text, name, start, code, &targets);
        }
    }
    Ok(text)
}

fn function(text: &mut String, name: &str, start: u64, code: &[u8], targets: &BTreeMap<u64, String>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{name}:");
    let mut formatter = GasFormatter::new();
    let mut instruction = Instruction::default();
    let mut line = String::new();
    let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        line.clear();
        formatter.format(&instruction, &mut line);
        let next = instruction.next_ip();
        let _ = write!(text, "    {:#06x}  {line}", instruction.ip());
        if let Some((_, target)) = targets.range(instruction.ip()..next).next() {
            let _ = write!(text, "  # {target}");
        }
        text.push('\n');
    }
    text.push('\n');
}
