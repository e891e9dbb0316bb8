//! A compiler from ONNX models to native code.
//!
//! A [`Model`] is read, compiled to a [`Program`], and run by a [`Session`]:
//!
//! ```no_run
#![doc = include_str!("../examples/embed.rs")]
//! ```
//!
//! The shapes of its inputs are fixed when a model is compiled. A [`DynamicModel`] does that for each shape that it meets:
//!
//! ```no_run
#![doc = include_str!("../examples/dynamic.rs")]
//! ```
//!
//! What the stages are, and which module holds which, is told in `docs/architecture.md`.

#![deny(missing_docs)]

pub mod artefact;
mod cache;
pub mod code;
mod driver;
mod dynamic;
pub mod emit;
mod error;
mod library;
#[cfg(feature = "npz")]
pub mod npz;
mod options;
mod parallel;
pub mod passes;
pub mod plan;
mod report;
pub mod roofline;
pub mod target;
pub mod temporary;
mod versions;

pub use artefact::{CName, CNameError};
pub use cache::CacheUse;
pub use driver::{Code, Compilation, Compiled, Model};
pub use dynamic::{DynamicError, DynamicModel, DynamicSession, ShapeError, TensorRef, Unfit, Usage};
pub use error::{Error, LibraryError, LibraryFault, VersionsError};
pub use library::Library;
pub use nnc_ir::Limits;
pub use nnc_runtime::abi::Denormals;
pub use nnc_runtime::{InputRef, OutputMut, Outputs, Pool, Program, Session};
pub use options::Options;
pub use passes::Precision;
pub use report::{CompileReport, CompileTimes, SlowLayer};
pub use versions::Versions;
