//! The versions of a program: the same model, compiled for several processors.
//!
//! ```text
//!   program:   versions, the best first      24 bytes each
//!     features       u64                     what the code needs of a processor, one bit each
//!     description    u32 offset, u32 length  from the start of the program
//!     functions      u32 first, u32 count    in the function table
//!   then descriptions
//! ```
//!
//! All have the same inputs and outputs and one range of constants; what is equal of their code and constants is there once.
//! Which one runs is decided when the file is loaded: the first whose features the processor has.

use std::ops::Range;

use super::LoadError;
use crate::abi::{CpuFeatures, ProgramDesc};
use crate::encode::{self, EncodeError};

/// Bytes of a version in the table.
const ENTRY: usize = 24;

/// A version, as the table tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) features: CpuFeatures,
    /// From the start of the program.
    pub(super) desc: Range<usize>,
    /// Entries of the function table.
    pub(super) functions: Range<usize>,
}

/// The table of versions and their descriptions, in this order: the best first. Each has `desc.functions` entries of the function
/// table, which stand there in the same order.
pub fn write(versions: &[&ProgramDesc]) -> Result<Vec<u8>, EncodeError> {
    let (mut table, mut descriptions) = (Vec::new(), Vec::new());
    let first = versions.len().saturating_mul(ENTRY);
    let mut functions = 0_u32;
    let word = |n: usize| u32::try_from(n).map_err(|_| EncodeError(n));
    for desc in versions {
        let encoded = encode::encode(desc)?;
        let start = word(first.saturating_add(descriptions.len()))?;
        table.extend(desc.features.0.to_le_bytes());
        for number in [start, word(encoded.len())?, functions, desc.functions] {
            table.extend(number.to_le_bytes());
        }
        functions = functions.checked_add(desc.functions).ok_or(EncodeError(usize::MAX))?;
        descriptions.extend(encoded);
    }
    table.extend(descriptions);
    Ok(table)
}

/// Reads a table of `count` versions at the start of `program`.
pub(super) fn read(program: &[u8], count: u32) -> Result<Vec<Version>, LoadError> {
    let (entries, _) = program.as_chunks::<ENTRY>();
    let entries = usize::try_from(count).ok().filter(|&count| count > 0).and_then(|n| entries.get(..n));
    let entries = entries.ok_or(LoadError::Inconsistent("another number of versions than it says"))?;
    Ok(entries.iter().map(version).collect())
}

fn version(entry: &[u8; ENTRY]) -> Version {
    let (words, _) = entry.as_chunks::<4>();
    let word = |n: usize| words.get(n).map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let range = |n: usize| {
        let start = word(n) as usize;
        start..start.saturating_add(word(n + 1) as usize)
    };
    let features = CpuFeatures(u64::from(word(0)) | u64::from(word(1)) << 32);
    Version { features, desc: range(2), functions: range(4) }
}

/// The best version that a processor with these features runs.
pub(super) fn best(versions: &[Version], available: CpuFeatures) -> Option<&Version> {
    versions.iter().find(|version| available.contains(version.features))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(features: CpuFeatures) -> Version {
        Version { features, desc: 0..0, functions: 0..0 }
    }

    #[test]
    fn the_first_that_runs_is_the_best() {
        let level = [CpuFeatures::SSE4_2, CpuFeatures::AVX2, CpuFeatures::AVX512F];
        let all = level.map(version).into_iter().rev().collect::<Vec<_>>();
        let found = |features| best(&all, features).map(|version| version.features);
        assert_eq!(found(CpuFeatures(u64::MAX)), Some(CpuFeatures::AVX512F));
        assert_eq!(found(CpuFeatures::SSE4_2.with(CpuFeatures::AVX2)), Some(CpuFeatures::AVX2));
        assert_eq!(found(CpuFeatures::SSE4_2), Some(CpuFeatures::SSE4_2));
        assert_eq!(found(CpuFeatures::default()), None);
    }

    #[test]
    fn a_table_says_no_more_versions_than_it_has() {
        let bytes = [1; 2 * ENTRY + 5];
        assert!(read(&bytes, 0).is_err() && read(&bytes, 3).is_err() && read(&bytes, u32::MAX).is_err());
        let read = read(&bytes, 2).unwrap();
        assert_eq!(read[0].features, CpuFeatures(0x0101_0101_0101_0101));
        assert_eq!(read[1].desc, 0x0101_0101..0x0202_0202);
        assert_eq!(read[0], read[1]);
    }
}
