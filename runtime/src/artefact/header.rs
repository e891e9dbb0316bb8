//! The header of an artefact: 128 bytes at a fixed place in the file.
//!
//! ```text
//!     0  magic              "nnc" CR LF 26 LF 0
//!     8  format version     u32       how to read the rest of this header
//!    12  ABI version        u32       how steps and functions work together
//!    16  length             u64       of what is loaded: from the start of the file to the end of the constants
//!    24  machine            u32       as in the ELF header: 62 x86-64, 183 AArch64
//!    28  functions          u32       entries of the function table
//!    32  CPU features       u64       what the code needs, one bit each
//!    40  description        u64 offset, u64 length
//!    56  function table     u64 offset                 u32 each: bytes from the start of the text
//!    64  text               u64 offset, u64 length
//!    80  constants          u64 offset, u64 length
//!    96  checksum           32 bytes  BLAKE3 of what is loaded, from this header on, with these 32 bytes left out
//! ```
//!
//! Offsets count from the start of the file, numbers are little-endian.
//!
//! In front of this header is ELF's, and behind what is loaded are names of functions, for debuggers and profilers. Tools take those
//! away (`strip`) and change the front accordingly; nothing of either is used to load the program. Where the file ends, ELF's header
//! says: with the table of its sections.

use std::ops::Range;

use super::{LoadError, checksum};
use crate::abi::CpuFeatures;

/// How the header and the file are laid out. Raised when that changes.
pub const FORMAT_VERSION: u32 = 2;
/// How a program and its runtime work together: [`LayerFn`](crate::abi::LayerFn), steps, regions, and the C functions of
/// an artefact. Raised when that changes.
pub const ABI_VERSION: u32 = 7;
/// Where the header lies in the file: behind the ELF header and up to seven program headers.
pub const HEADER_OFFSET: usize = 512;
/// Size of the header in bytes.
pub const HEADER_BYTES: usize = 128;

/// Damaged by a transfer that changes line ends or ends a text at 26, as PNG's is.
const MAGIC: [u8; 8] = *b"nnc\r\n\x1a\n\0";
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
const CHECKSUM: Range<usize> = HEADER_OFFSET + 96..HEADER_OFFSET + 128;
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
    /// What the CPU must offer.
    pub features: CpuFeatures,
    /// Number of entries of the function table, `u32` each.
    pub functions: u32,
    /// Where the function table begins.
    pub table: u64,
    /// Place of the encoded description.
    pub desc: Range<u64>,
    /// Place of the code; begins at a page.
    pub text: Range<u64>,
    /// Place of the constants; begins at a page.
    pub consts: Range<u64>,
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
    bytes.extend(header.functions.to_le_bytes());
    bytes.extend(header.features.0.to_le_bytes());
    let place = |range: &Range<u64>| [range.start, range.end.saturating_sub(range.start)];
    let [desc, text, consts] = [&header.desc, &header.text, &header.consts].map(place);
    for number in [desc[0], desc[1], header.table, text[0], text[1], consts[0], consts[1]] {
        bytes.extend(number.to_le_bytes());
    }
    let Some(room) = file.get_mut(HEADER_OFFSET..CHECKSUM.start) else { return false };
    room.copy_from_slice(&bytes);
    let checksum = checksum::of(file.get(HEADER_OFFSET..).unwrap_or_default());
    let Some(room) = file.get_mut(CHECKSUM) else { return false };
    room.copy_from_slice(&checksum);
    true
}

/// How much of a file of `len` bytes is loaded, by its start: less than all of it. Refuses one that was cut off, or that something was
/// added to.
pub(super) fn loaded_bytes(start: &[u8], len: u64) -> Result<usize, LoadError> {
    let mut from = identify(start)?;
    let found = from.u32()?;
    if found != FORMAT_VERSION {
        return Err(LoadError::FormatVersion { found, expected: FORMAT_VERSION });
    }
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
    let found = from.u32()?;
    if found != FORMAT_VERSION {
        return Err(LoadError::FormatVersion { found, expected: FORMAT_VERSION });
    }
    let abi = from.u32()?;
    let expected = from.u64()?;
    if expected != file.len() as u64 {
        return Err(LoadError::Length { expected, found: file.len() as u64 });
    }
    if checksum.is_some_and(|checksum| file.get(CHECKSUM) != Some(checksum)) {
        return Err(LoadError::Checksum);
    }
    if abi != ABI_VERSION {
        return Err(LoadError::AbiVersion { found: abi, expected: ABI_VERSION });
    }
    let machine = from.u32()?;
    let functions = from.u32()?;
    let features = CpuFeatures(from.u64()?);
    let desc = from.place()?;
    let table = from.u64()?;
    let (text, consts) = (from.place()?, from.place()?);
    let machine = Machine(u16::try_from(machine).unwrap_or(0));
    Ok(Header { machine, features, functions, table, desc, text, consts })
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
