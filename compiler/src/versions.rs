//! A model compiled for several targets, in one file: whoever runs it runs the best version that the processor can.
//!
//! ```text
//!   model ─┬─ lower for x86-64-v4 ─┐
//!          ├─ lower for x86-64-v3 ─┼─ one object: C functions that choose; what code and constants have in common, once
//!          └─ lower for x86-64-v2 ─┘
//! ```
//!
//! A version is the program that the model alone becomes for its target: the same plan, the same code, the same results bit for bit.

use std::sync::{Arc, OnceLock};

use nnc_runtime::abi::ProgramDesc;

use crate::artefact::versions::merged;
use crate::artefact::{self, CName, LinkedVersion};
use crate::driver::{Compilation, Model};
use crate::emit::disassemble::code_bytes;
use crate::emit::object::{self, ConstantPlace, VersionsObject};
use crate::error::{Error, LibraryFault, VersionsError};
use crate::options::Options;
use crate::plan::SharedConstants;
use crate::plan::merged::MergedConstants;
use crate::target::Target;

/// The code of a model for several targets, on its way to a file.
#[derive(Debug)]
pub struct Versions {
    name: CName,
    /// The best target first.
    compilations: Vec<Compilation>,
    constants: MergedConstants,
    code: VersionsObject,
    /// What C sees.
    desc: ProgramDesc,
    /// The object with its constants, once it was asked for.
    for_linkers: OnceLock<Vec<u8>>,
}

impl Versions {
    /// Compiles a model for some targets, in any order, for a program that C knows by `name`. The target of `options` does not count.
    pub fn new(
        model: &Model,
        options: &Options,
        targets: &[Target],
        name: &CName,
    ) -> Result<Versions, Error> {
        let targets = best_first(targets)?;
        let (shared, sums) = (SharedConstants::default(), Arc::default());
        let lower = |target| model.lower_sharing(options, target, &shared, &sums);
        let compilations = targets.into_iter().map(lower).collect::<Result<Vec<_>, Error>>()?;
        let constants =
            MergedConstants::of(compilations.iter().map(|compilation| &compilation.plan().constants));
        let code = compile(&compilations, &constants, name, ConstantPlace::Outside)?;
        let descs: Vec<&ProgramDesc> = code.versions.iter().map(|(_, desc)| desc).collect();
        let desc = merged(&descs).ok_or(VersionsError::Empty)?;
        let for_linkers = OnceLock::new();
        Ok(Versions { name: name.clone(), compilations, constants, code, desc, for_linkers })
    }

    /// The versions, the best first: what was planned for each target.
    pub fn compilations(&self) -> &[Compilation] {
        &self.compilations
    }

    /// What C sees of them: memory for the one that needs most.
    pub fn desc(&self) -> &ProgramDesc {
        &self.desc
    }

    /// Bytes of constants, all versions together.
    pub fn const_bytes(&self) -> u64 {
        self.constants.bytes().len() as u64
    }

    /// How many functions of layers and kernels there are, all versions together.
    pub fn functions(&self) -> usize {
        self.code.functions
    }

    /// Bytes of machine code.
    pub fn bytes(&self) -> u64 {
        code_bytes(&self.code.bytes)
    }

    /// The bytes of an artefact, which the runtime and `dlopen` load. Whoever links with it looks for it under the name `file`.
    pub fn artefact_in(&self, file: &str) -> Result<Vec<u8>, Error> {
        let linked = |(functions, desc)| LinkedVersion { functions, desc };
        let versions = self.code.versions.iter().map(|(functions, desc)| linked((functions, desc)));
        let versions: Vec<_> = versions.collect();
        let (object, constants) = (&self.code.bytes, self.constants.bytes());
        artefact::write_versions(object, &self.name, file, &versions, constants)
            .map_err(|source| Error::Library(LibraryFault::Link(source).into()))
    }

    /// The bytes of an artefact that is looked for under the name `NAME.nnc.so`.
    pub fn artefact(&self) -> Result<Vec<u8>, Error> {
        self.artefact_in(&self.name.file())
    }

    /// A relocatable ELF object with code and constants, for a linker.
    pub fn object(&self) -> Result<Vec<u8>, Error> {
        if let Some(object) = self.for_linkers.get() {
            return Ok(object.clone());
        }
        let object = compile(&self.compilations, &self.constants, &self.name, ConstantPlace::Inside)?;
        Ok(self.for_linkers.get_or_init(|| object.bytes).clone())
    }

    /// A static library: an archive with the object.
    pub fn static_library(&self) -> Result<Vec<u8>, Error> {
        artefact::write_archive(&self.object()?, &format!("{}.nnc.o", self.name))
            .map_err(|source| Error::Library(LibraryFault::Link(source).into()))
    }

    /// A C header for the artefact or object.
    pub fn header(&self) -> Result<String, Error> {
        artefact::header::write(&self.desc, &self.name)
            .map_err(|source| Error::Library(LibraryFault::Header(source).into()))
    }

    /// A Rust module for the artefact in `file`, which lies beside it.
    pub fn rust_module(&self, file: &str) -> String {
        artefact::write_rust_module(&self.desc, &self.name, file)
    }
}

fn compile(
    compilations: &[Compilation],
    constants: &MergedConstants,
    name: &CName,
    place: ConstantPlace,
) -> Result<VersionsObject, Error> {
    let first = compilations.first().ok_or(VersionsError::Empty)?;
    let plans: Vec<_> =
        compilations.iter().map(|compilation| (compilation.plan(), compilation.target())).collect();
    object::compile_versions(name, &plans, constants, place, first.threads(), first.deadline())
        .map_err(|source| Error::Library(LibraryFault::Code(source).into()))
}

/// The targets in the order in which they are tried.
fn best_first(targets: &[Target]) -> Result<Vec<Target>, VersionsError> {
    let Some(first) = targets.first() else { return Err(VersionsError::Empty) };
    for (at, target) in targets.iter().enumerate() {
        let names = |other: &Target| (other.name.clone(), target.name.clone());
        for other in targets.iter().take(at) {
            if other.name == target.name {
                return Err(VersionsError::Twice(target.name.clone()));
            }
            if other.arch == target.arch && same_features(other, target) {
                let (one, other) = names(other);
                return Err(VersionsError::Alike { one, other });
            }
        }
        if target.arch != first.arch {
            let (one, other) = names(first);
            return Err(VersionsError::Architectures { one, other });
        }
    }
    let mut ordered = targets.to_vec();
    // What has more features is better; names decide between those that have as many others.
    ordered.sort_by(|a, b| b.features.len().cmp(&a.features.len()).then_with(|| b.name.cmp(&a.name)));
    Ok(ordered)
}

fn same_features(a: &Target, b: &Target) -> bool {
    a.features.len() == b.features.len() && a.features.iter().all(|feature| b.features.contains(feature))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(names: &[&str]) -> Result<Vec<String>, String> {
        let targets: Vec<Target> = names.iter().map(|name| Target::named(name).unwrap()).collect();
        match best_first(&targets) {
            Ok(targets) => Ok(targets.into_iter().map(|target| target.name).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_best_target_is_tried_first_whatever_the_order() {
        let all = ["x86-64-v3", "znver4", "x86-64-v2", "x86-64-v4", "alderlake"];
        let expected = ["znver4", "x86-64-v4", "alderlake", "x86-64-v3", "x86-64-v2"];
        assert_eq!(ordered(&all).unwrap(), expected);
        assert_eq!(ordered(&["aarch64"]).unwrap(), ["aarch64"]);
    }

    #[test]
    fn targets_that_do_not_belong_together_are_refused() {
        let error = |names: &[&str]| ordered(names).unwrap_err();
        assert_eq!(error(&[]), "a program needs a target; name one");
        assert_eq!(error(&["haswell", "x86-64-v3"]), "target \"x86-64-v3\" is named twice; name it once");
        assert_eq!(
            error(&["x86-64-v3", "arm64"]),
            "targets \"x86-64-v3\" and \"aarch64\" are of different architectures, which one file cannot hold; \
             write a file for each"
        );
        assert_eq!(
            error(&["alderlake", "x86-64-v2", "x86-64-v3+vnni"]),
            "targets \"alderlake\" and \"x86-64-v3+vnni\" need the same of a processor, so that a program could not choose; \
             name one of them"
        );
    }
}
