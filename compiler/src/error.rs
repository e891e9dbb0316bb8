//! What a compilation fails with, whichever stage it is that fails: what the public interface returns.

use nnc_ir::onnx::{self, OnnxError};
use nnc_runtime::LoadError;

use crate::artefact::driver::DriverError;
use crate::artefact::{CName, LinkError};
use crate::emit::CodegenError;
use crate::emit::disassemble::DisassembleError;
use crate::passes::{NarrowError, PassError};
use crate::plan::PlanError;
use crate::target::TargetError;

/// Why a model cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model can't be read, or its shapes are not known.
    #[error(transparent)]
    Read(#[from] OnnxError),
    /// There is no such target, or no code for it.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There is no such pass.
    #[error(transparent)]
    Pass(Box<PassError>),
    /// A pass failed on the model, or took too long.
    #[error("{file}: {source}")]
    InPass {
        /// The model's file, or `model` when it came from memory.
        file: String,
        /// What is wrong.
        source: Box<PassError>,
    },
    /// No plan can be made for the model.
    #[error("{file}: {source}")]
    Plan {
        /// The model's file, or `model` when it came from memory.
        file: String,
        /// What is wrong.
        source: Box<PlanError>,
    },
    /// No code can be made for the plan.
    #[error("{file}: {source}")]
    Code {
        /// The model's file, or `model` when it came from memory.
        file: String,
        /// What is wrong.
        source: Box<CodegenError>,
    },
    /// The code cannot be put into a file.
    #[error("{file}: {source}")]
    Link {
        /// The model's file, or `model` when it came from memory.
        file: String,
        /// What is wrong.
        source: Box<LinkError>,
    },
    /// No C function can run the program.
    #[error("{file}: {source}")]
    Header {
        /// The model's file, or `model` when it came from memory.
        file: String,
        /// What is wrong.
        source: Box<DriverError>,
    },
    /// The program that was made for a cache does not load.
    #[error("{file}: the compiled program does not load here")]
    Load {
        /// The model's file, or `model` when it came from memory.
        file: String,
        /// What is wrong.
        source: Box<LoadError>,
    },
    /// Several models cannot be put into one file.
    #[error(transparent)]
    Library(Box<LibraryFault>),
    /// No program can be made for these targets together.
    #[error(transparent)]
    Versions(#[from] VersionsError),
    /// The code cannot be shown.
    #[error("{file}: {source}")]
    Disassemble {
        /// The model's file, or `model` when it came from memory.
        file: String,
        /// What is wrong.
        source: Box<DisassembleError>,
    },
}

impl Error {
    /// That a pass failed on a model.
    pub(crate) fn in_pass(file: &str, source: PassError) -> Error {
        Error::InPass { file: file.to_string(), source: source.into() }
    }

    /// Whether the options are at fault and not the model: they name a target, pass, layer, input or dim that does not exist,
    /// or leave a dim open.
    pub fn is_usage(&self) -> bool {
        match self {
            Error::Read(e) => matches!(*e.fault, onnx::Fault::Binding { .. } | onnx::Fault::Unbound(_)),
            Error::Target(e) => matches!(e, TargetError::Unknown { .. }),
            Error::Library(e) => matches!(**e, LibraryFault::Models(_)),
            Error::Versions(_) => true,
            Error::Pass(e) => matches!(**e, PassError::Unknown { .. }),
            Error::InPass { source, .. } => {
                matches!(**source, PassError::Narrow(NarrowError::Unknown { .. }))
            }
            _ => false,
        }
    }

    /// The inputs that decide a shape, when that is why the model cannot be compiled:
    /// [`Options::bind`](crate::Options::bind) makes them constants.
    pub fn inputs_to_bind(&self) -> &[String] {
        match self {
            Error::Read(e) => e.inputs_to_bind(),
            _ => &[],
        }
    }
}

impl From<PassError> for Error {
    fn from(error: PassError) -> Error {
        Error::Pass(Box::new(error))
    }
}

/// Models that cannot be in one library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// There are none.
    #[error("a library needs a model; give one")]
    Empty,
    /// C could not tell two of them apart.
    #[error("two models of the library have the name \"{0}\" in C; rename the file of one of them")]
    Name(CName),
    /// They are for different machines.
    #[error(
        "one model of the library is compiled for {0}, another for {1}; compile them for the same target"
    )]
    Target(String, String),
}

/// Targets that one program cannot be for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionsError {
    /// There are none.
    #[error("a program needs a target; name one")]
    Empty,
    /// One is there twice.
    #[error("target \"{0}\" is named twice; name it once")]
    Twice(String),
    /// They are for different machines.
    #[error(
        "targets \"{one}\" and \"{other}\" are of different architectures, which one file cannot hold; write a file for each"
    )]
    Architectures {
        /// A target.
        one: String,
        /// One of another architecture.
        other: String,
    },
    /// Every processor that runs code for the one runs code for the other.
    #[error(
        "targets \"{one}\" and \"{other}\" need the same of a processor, so that a program could not choose; name one of them"
    )]
    Alike {
        /// A target.
        one: String,
        /// One with the same features.
        other: String,
    },
}

/// Why no library can be made of models that each can be compiled.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum LibraryFault {
    /// They do not fit together.
    Models(#[from] LibraryError),
    /// Code cannot be made.
    Code(CodegenError),
    /// The code cannot be put into a file.
    Link(LinkError),
    /// No C function can run a program.
    Header(DriverError),
}

impl From<LibraryError> for Error {
    fn from(error: LibraryError) -> Error {
        Error::Library(LibraryFault::Models(error).into())
    }
}
