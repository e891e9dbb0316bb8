//! The compiler in the build script: writes what `nnc compile --emit so,rust` does.

use std::fs;
use std::path::Path;

use nnc::{CName, Error, Model, Options};

use crate::{Build, BuildError, Setting};

pub fn compile(build: &Build, folder: &Path) -> Result<(), BuildError> {
    let mut name = CName::of_file(&build.model);
    // Files have the name that is given, or that of the model's file as it is.
    let mut stem = build.model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let refused = |said: String| BuildError::Refused { model: build.model.clone(), said };
    let mut options = Options::default();
    for setting in &build.settings {
        options = match setting {
            Setting::Name(wanted) => {
                name = CName::new(wanted).map_err(|error| refused(error.to_string()))?;
                stem = wanted.clone();
                options
            }
            Setting::Dim(name, extent) => options.dim(name, *extent),
            Setting::Shape(input, shape) => options.shape(input, shape.clone()),
            Setting::Flag(flag) => return Err(BuildError::Flag(flag.clone())),
        };
    }
    let artefact_file = format!("{stem}.nnc.so");
    let made = || -> Result<(Vec<u8>, String), Error> {
        if let Some(target) = &build.target {
            options = options.target(target)?;
        }
        let compilation = Model::open(&build.model)?.lower(&options)?;
        let code = compilation.code_called(&name)?;
        Ok((code.artefact()?, code.rust_module(&artefact_file)))
    };
    let (artefact, module) = made().map_err(|error| refused(sentence(&error)))?;
    for (file, contents) in [(artefact_file, artefact.as_slice()), (format!("{stem}.rs"), module.as_bytes())]
    {
        write(&folder.join(file), contents)?;
    }
    Ok(())
}

/// An error with its causes, each told once.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = error.source();
    }
    text
}

/// Writes under another name first, so that the file is there whole or not at all. The folder is the build script's alone.
fn write(file: &Path, contents: &[u8]) -> Result<(), BuildError> {
    let temporary = file.with_extension("tmp");
    fs::write(&temporary, contents)
        .and_then(|()| fs::rename(&temporary, file))
        .map_err(|source| BuildError::Write { file: file.to_owned(), source })
}
