//! What a file says about itself, whether this processor runs it or not.

use std::path::Path;

use super::header::{self, Machine};
use super::{FileParts, HEADER_OFFSET, LoadError, bytes, opened, versions};
use crate::abi::CpuFeatures;
use crate::encode;

/// Who made a program, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imprint {
    /// The compiler and its version; empty if the file does not say it.
    pub made_by: String,
    /// How code and runtime work together.
    pub abi_version: u32,
    /// The instruction set.
    pub machine: Machine,
    /// The targets that there are versions for, and what each needs of a processor; the best first.
    pub versions: Vec<(String, CpuFeatures)>,
}

impl Imprint {
    /// Of a file that `nnc compile` wrote, for any machine. All of it is read and verified, and none of its code runs.
    pub fn of_file(path: impl AsRef<Path>) -> Result<Imprint, LoadError> {
        let (file, checksum) = opened(path.as_ref())?;
        let header = header::verify(&file, Some(&checksum))?;
        let parts = FileParts::new(&header, file.len())?;
        let program = bytes(&file, &parts.program)?;
        let versions = versions::read(program, header.versions)?;
        let about = |version: versions::Version| {
            let desc = encode::decode(bytes(program, &version.desc)?)?;
            Ok((desc.target, version.features))
        };
        let versions = versions.into_iter().map(about).collect::<Result<_, LoadError>>()?;
        let abi_version = header::abi_version(file.get(HEADER_OFFSET..).unwrap_or_default());
        Ok(Imprint { made_by: header.made_by, abi_version, machine: header.machine, versions })
    }
}
