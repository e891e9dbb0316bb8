//! The header of an artefact: 160 bytes at a fixed place in the file.
//!
//! ```text
//!     0  magic              "nnc" CR LF 26 LF 0
//!     8  format version     u32       how to read the rest of this header
//!    12  ABI version        u32       how steps and functions work together
//!    16  length             u64       of what is loaded: from the start of the file to the end of the constants
//!    24  machine            u32       as in the ELF header: 62 x86-64, 183 AArch64
//!    28  versions           u32       of the program, for several processors
//!    32  program            u64 offset, u64 length     the versions, and their descriptions
//!    48  function table     u64 offset                 u32 each: bytes from the start of the text
//!    56  text               u64 offset, u64 length
//!    72  constants          u64 offset, u64 length
//!    88  functions          u32       entries of the function table
//!    92  0                  u32
//!    96  checksum           32 bytes  BLAKE3 of what is loaded, from this header on, with these 32 bytes left out
//!   128  made by            32 bytes  text in UTF-8, the rest of it zero: the compiler and its version
//! ```
//!
//! Magic, versions, length, checksum and the maker stay where they are in every format from version 3 on, so that any runtime can say of
//! any file who made it, and that it is not damaged.
//!
//! Offsets count from the start of the file, numbers are little-endian.
//!
//! In front of this header is ELF's, and behind what is loaded are names of functions, for debuggers and profilers. Tools take those
//! away (`strip`) and change the front accordingly; nothing of either is used to load the program. Where the file ends, ELF's header
//! says: with the table of its sections.

use std::ops::Range;

use super::{LoadError, checksum};

/// How the header and the file are laid out. Raised when that changes.
pub const FORMAT_VERSION: u32 = 3;
/// The oldest layout that is read.
pub const OLDEST_FORMAT_VERSION: u32 = 3;
/// How a program and its runtime work together: [`LayerFn`](crate::abi::LayerFn), steps, regions, and the C functions of
/// an artefact. Raised when that changes.
pub const ABI_VERSION: u32 = 8;
/// The oldest way in which this runtime works together with programs.
pub const OLDEST_ABI_VERSION: u32 = 8;
/// Where the header lies in the file: behind the ELF header and up to seven program headers.
pub const HEADER_OFFSET: usize = 512;
/// Size of the header in bytes.
pub const HEADER_BYTES: usize = 160;

/// Damaged by a transfer that changes line ends or ends a text at 26, as PNG's is.
const MAGIC: [u8; 8] = *b"nnc\r\n\x1a\n\0";
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
const CHECKSUM: Range<usize> = HEADER_OFFSET + 96..HEADER_OFFSET + 128;
const MADE_BY: Range<usize> = CHECKSUM.end..HEADER_OFFSET + HEADER_BYTES;
/// ELF's header: where the table of sections begins, and the size of its entries and their number.
const ELF_SECTIONS: Range<usize> = 40..48;
const ELF_SECTION_BYTES: Range<usize> = 58..60;
const ELF_SECTION_COUNT: Range<usize> = 60..62;

/// The instruction set of an artefact's code, as the ELF header numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Machine(pub u16);

impl Machine {
    /// `EM_X86_64`.
    pub const X86_64: Machine = Machine(62);
    /// `EM_AARCH64`.
    pub const AARCH64: Machine = Machine(183);

    /// What this process runs on; `None` if no code is generated for it.
    pub fn host() -> Option<Machine> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Machine::X86_64),
            "aarch64" => Some(Machine::AARCH64),
            _ => None,
        }
    }

    /// Alignment of what has a protection of its own: the largest page that an operating system uses on it.
    pub fn page(self) -> usize {
        if self == Machine::AARCH64 { 0x10000 } else { 0x1000 }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Machine::X86_64 => f.write_str("x86_64"),
            Machine::AARCH64 => f.write_str("aarch64"),
            Machine(other) => write!(f, "machine {other}"),
        }
    }
}

/// What an artefact's header says, but for the versions, the file's length and the checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The instruction set.
    pub machine: Machine,
    /// Number of versions of the program, for several processors.
    pub versions: u32,
    /// Place of what [`versions::write`](super::versions::write) wrote.
    pub program: Range<u64>,
    /// Number of entries of the function table, `u32` each.
    pub functions: u32,
    /// Where the function table begins.
    pub table: u64,
    /// Place of the code; begins at a page.
    pub text: Range<u64>,
    /// Place of the constants; begins at a page.
    pub consts: Range<u64>,
    /// The compiler and its version. Of a long text, the file has the beginning.
    pub made_by: String,
}

/// Writes the header, with checksum, into a file that is complete but for it, and of which `loaded` bytes are loaded. Returns false
/// if the file has no room.
#[must_use]
pub fn seal(file: &mut [u8], loaded: usize, header: &Header) -> bool {
    let Some(file) = file.get_mut(..loaded) else { return false };
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(FORMAT_VERSION.to_le_bytes());
    bytes.extend(ABI_VERSION.to_le_bytes());
    bytes.extend((loaded as u64).to_le_bytes());
    bytes.extend(u32::from(header.machine.0).to_le_bytes());
    bytes.extend(header.versions.to_le_bytes());
    let place = |range: &Range<u64>| [range.start, range.end.saturating_sub(range.start)];
    let [program, text, consts] = [&header.program, &header.text, &header.consts].map(place);
    for number in [program[0], program[1], header.table, text[0], text[1], consts[0], consts[1]] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(header.functions.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    let Some(room) = file.get_mut(HEADER_OFFSET..CHECKSUM.start) else { return false };
    room.copy_from_slice(&bytes);
    let Some(room) = file.get_mut(MADE_BY) else { return false };
    let made_by = header.made_by.bytes().chain(std::iter::repeat(0));
    room.iter_mut().zip(made_by).for_each(|(room, byte)| *room = byte);
    let checksum = checksum::of(file.get(HEADER_OFFSET..).unwrap_or_default());
    let Some(room) = file.get_mut(CHECKSUM) else { return false };
    room.copy_from_slice(&checksum);
    true
}

/// How much of a file of `len` bytes is loaded, by its start: less than all of it. Refuses one that was cut off, or that something was
/// added to.
pub(super) fn loaded_bytes(start: &[u8], len: u64) -> Result<usize, LoadError> {
    let mut from = identify(start)?;
    from.format(start)?;
    from.u32()?;
    let loaded = from.u64()?;
    let sections = number(start, ELF_SECTIONS);
    let table = number(start, ELF_SECTION_BYTES).saturating_mul(number(start, ELF_SECTION_COUNT));
    // There may be no sections at all.
    let expected = if sections == 0 { loaded } else { sections.saturating_add(table).max(loaded) };
    match usize::try_from(loaded) {
        Ok(loaded) if expected == len => Ok(loaded),
        _ => Err(LoadError::Length { expected, found: len }),
    }
}

/// A number of ELF's header.
fn number(start: &[u8], place: Range<usize>) -> u64 {
    let bytes = start.get(place).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Reads and verifies the header of `file`, all that is loaded of an artefact, of this checksum: magic, versions, length, checksum.
/// Without a checksum, that is not looked at.
pub(super) fn verify(file: &[u8], checksum: Option<&[u8; 32]>) -> Result<Header, LoadError> {
    let mut from = identify(file)?;
    from.format(file)?;
    let abi = from.u32()?;
    let expected = from.u64()?;
    if expected != file.len() as u64 {
        return Err(LoadError::Length { expected, found: file.len() as u64 });
    }
    if checksum.is_some_and(|checksum| file.get(CHECKSUM) != Some(checksum)) {
        return Err(LoadError::Checksum);
    }
    let made_by = maker(file);
    if !(OLDEST_ABI_VERSION..=ABI_VERSION).contains(&abi) {
        return Err(LoadError::AbiVersion { found: abi, made_by });
    }
    let machine = from.u32()?;
    let versions = from.u32()?;
    let program = from.place()?;
    let table = from.u64()?;
    let (text, consts) = (from.place()?, from.place()?);
    let functions = from.u32()?;
    if from.u32()? != 0 {
        return Err(LoadError::Inconsistent("a header with more in it than its version has"));
    }
    let machine = Machine(u16::try_from(machine).unwrap_or(0));
    Ok(Header { machine, versions, program, functions, table, text, consts, made_by })
}

/// The ABI version in a header.
pub(super) fn abi_version(header: &[u8]) -> u32 {
    header.get(12..16).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Who made a file of format 3 or later, by its start; empty if that is no text.
fn maker(start: &[u8]) -> String {
    let bytes = start.get(MADE_BY).unwrap_or_default();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    if text.chars().any(|c| c.is_control() || c == '\u{fffd}') { String::new() } else { text }
}

/// Tells artefacts from other files, by the first kilobyte. Returns what follows the magic.
pub(super) fn identify(start: &[u8]) -> Result<HeaderReader<'_>, LoadError> {
    let header = start.get(HEADER_OFFSET..).and_then(|rest| rest.strip_prefix(&MAGIC));
    match header {
        Some(rest) if start.starts_with(&ELF_MAGIC) => Ok(HeaderReader(rest)),
        _ => Err(LoadError::NotAnArtefact),
    }
}

/// The fields of the header, read one after the other.
pub(super) struct HeaderReader<'a>(&'a [u8]);

impl HeaderReader<'_> {
    /// Reads the version of the format of the file that begins so; an error if this runtime does not read it.
    fn format(&mut self, start: &[u8]) -> Result<(), LoadError> {
        let found = self.u32()?;
        if (OLDEST_FORMAT_VERSION..=FORMAT_VERSION).contains(&found) {
            return Ok(());
        }
        // Older ones do not say it.
        let made_by = if found > FORMAT_VERSION { maker(start) } else { String::new() };
        Err(LoadError::FormatVersion { found, made_by })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(LoadError::NotAnArtefact)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u32(&mut self) -> Result<u32, LoadError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, LoadError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn place(&mut self) -> Result<Range<u64>, LoadError> {
        let (start, len) = (self.u64()?, self.u64()?);
        let end = start.checked_add(len).ok_or(LoadError::Inconsistent("a part that ends nowhere"))?;
        Ok(start..end)
    }
}
