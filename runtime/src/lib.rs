//! Loads and runs programs compiled by nnc.
//!
//! The compiler turns a model into a flat list of steps over machine code ([`abi`]). This crate runs it: [`Program`] is the
//! code with its constants, in memory or from a file ([`artefact`]), [`Session`] one caller's memory, [`Pool`] the threads.
//! It knows nothing of models or of the compiler, and depends on next to nothing, so that an application that ships a
//! compiled program stays small.
#![deny(missing_docs)]

pub mod abi;
mod affinity;
pub mod artefact;
#[cfg(unix)]
pub mod capi;
mod claims;
mod constants;
mod cpu;
pub mod encode;
mod fpenv;
mod guard;
mod index;
mod memory;
mod park;
mod poison;
mod pool;
mod program;
mod rounds;
mod session;
mod tensor;
mod walk;
#[cfg(test)]
#[path = "../tests/common/watchdog.rs"]
mod watchdog;

pub use artefact::LoadError;
pub use constants::{Constants, Piece};
pub use memory::{Block, MemoryError, PAGE, Pages, trim_heap};
pub use pool::{Pool, PoolError};
pub use program::{Program, ProgramError};
pub use session::{Outputs, Role, RunError, Session};
pub use tensor::{Elem, InputRef, OutputMut};
