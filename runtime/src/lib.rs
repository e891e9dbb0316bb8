//! Runs programs that nnc has compiled, without the compiler: what an application needs that ships a model.
//!
//! `nnc compile model.onnx` writes `model.nnc.so`, the machine code of a model with its weights. This crate loads and verifies such a
//! file, and runs it:
//!
//! ```no_run
//! use nnc_runtime::{InputRef, Pool, Program, Session};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // SAFETY: the file comes from somebody this program trusts: its code runs here.
//!     let program = unsafe { Program::load("model.nnc.so") }?;
//!     for input in program.inputs() {
//!         println!("{}: {}{:?}", input.name, input.elem, input.shape);      // image: f32[1, 3, 224, 224]
//!     }
//!
//!     let pool = Pool::for_this_machine()?;
//!     let mut session = Session::new(&program, &pool)?;
//!     let image = vec![0.5f32; program.inputs()[0].elems()];
//!     let outputs = session.run(&[InputRef::new(&image).named("image")])?;
//!     let scores: &[f32] = outputs.get(outputs.index_of("scores")?)?;
//!     println!("{scores:?}");
//!     Ok(())
//! }
//! ```
//!
//! | | |
//! |---|---|
//! | [`Program`] | code and constants, from a file ([`Program::load`], [`Program::map`]), from memory ([`Program::from_bytes`]), or as part of the host ([`include_program!`]) |
//! | [`Pool`] | threads, which any number of programs may share |
//! | [`Session`] | one caller's memory: each thread that runs a program has its own |
//! | [`InputRef`], [`OutputMut`], [`Outputs`] | borrowed tensors, dense and row-major, by position or by name |
//! | [`Port`] | what an input or output is: name, [`ElemType`], shape |
//!
//! Inputs are read and outputs written where they lie; after its first run a session allocates nothing. The results are the same bits for
//! any number of threads.
//!
//! With the feature `ndarray`, arrays of that crate are inputs and outputs, too, and their shapes are checked: `InputRef::of_array`,
//! `OutputMut::of_array`, `Outputs::array`.
//!
//! The crate knows nothing of models or of the compiler, and depends on next to nothing, so that the application stays small. What is
//! public and not listed here is the compiler's, and changes with it.
#![deny(missing_docs)]

// What a program is made of: between the compiler and this crate.
#[doc(hidden)]
pub mod abi;
mod affinity;
mod amx;
#[cfg(feature = "ndarray")]
mod arrays;
#[doc(hidden)]
pub mod artefact;
mod claims;
mod constants;
mod cpu;
#[doc(hidden)]
pub mod encode;
mod fpenv;
mod guard;
mod index;
mod memory;
mod outputs;
mod park;
mod poison;
mod pool;
mod program;
mod rounds;
mod run_error;
mod session;
mod tensor;
mod walk;
#[cfg(test)]
#[path = "../tests/common/watchdog.rs"]
mod watchdog;

#[doc(inline)]
pub use abi::{CpuFeatures, ElemType, Port};
#[cfg(feature = "ndarray")]
pub use arrays::ArrayError;
#[doc(inline)]
pub use artefact::LoadError;
#[doc(hidden)]
pub use constants::{Constants, Piece};
pub use memory::MemoryError;
#[doc(hidden)]
pub use memory::{Block, PAGE, Pages, trim_heap};
pub use outputs::Outputs;
pub use pool::{Pool, PoolError};
pub use program::{Program, ProgramError};
pub use run_error::{Role, RunError};
pub use session::Session;
pub use tensor::{Elem, InputRef, OutputMut};
