//! Several models in one object: a library for a host with many, in which what their code has in common is once.

use crate::artefact::{self, CName};
use crate::driver::Compilation;
use crate::emit::disassemble::code_bytes;
use crate::emit::object::{self, ConstantPlace, LibraryObject};
use crate::error::{Error, LibraryError, LibraryFault};

/// The code of some models, on its way to a file that is linked with. C knows each by a name of its own.
#[derive(Debug)]
pub struct Library {
    names: Vec<CName>,
    code: LibraryObject,
}

impl Library {
    /// Makes the code of some models, for a program of each that C knows by that name.
    pub fn new(programs: &[(CName, &Compilation)]) -> Result<Library, Error> {
        let [(_, first), ..] = programs else { return Err(LibraryError::Empty.into()) };
        for (at, (name, compilation)) in programs.iter().enumerate() {
            // Macros are upper case.
            let same = |(other, _): &(CName, &Compilation)| {
                other.to_string().eq_ignore_ascii_case(&name.to_string())
            };
            if programs.iter().take(at).any(same) {
                return Err(LibraryError::Name(name.clone()).into());
            }
            if compilation.target() != first.target() {
                let [one, other] = [first, compilation].map(|c| c.target().name.clone());
                return Err(LibraryError::Target(one, other).into());
            }
        }
        let plans: Vec<_> = programs.iter().map(|(name, compilation)| (name, compilation.plan())).collect();
        let code = object::compile_library(
            &plans,
            first.target(),
            ConstantPlace::Inside,
            first.threads(),
            first.deadline(),
        )
        .map_err(|source| Error::Library(LibraryFault::Code(source).into()))?;
        Ok(Library { names: programs.iter().map(|(name, _)| name.clone()).collect(), code })
    }

    /// A relocatable ELF object with the code and the constants of all, for a linker.
    pub fn object(&self) -> &[u8] {
        &self.code.bytes
    }

    /// The same as a static library; `name` is that of the object in it.
    pub fn static_library(&self, name: &str) -> Result<Vec<u8>, Error> {
        let archive = artefact::write_archive(&self.code.bytes, name);
        archive.map_err(|source| Error::Library(LibraryFault::Link(source).into()))
    }

    /// A C header for all of them: their headers, one behind the other.
    pub fn header(&self) -> Result<String, Error> {
        let header = |(name, (_, desc)): (_, &(_, _))| artefact::header::write(desc, name);
        let headers = self.names.iter().zip(&self.code.programs).map(header);
        let headers: Result<Vec<_>, _> = headers.collect();
        Ok(headers.map_err(|source| Error::Library(LibraryFault::Header(source).into()))?.join("\n"))
    }

    /// How many functions of layers and kernels there are, all models together.
    pub fn functions(&self) -> usize {
        self.code.functions
    }

    /// Bytes of machine code.
    pub fn bytes(&self) -> u64 {
        code_bytes(&self.code.bytes)
    }
}
