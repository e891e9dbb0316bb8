//! The module `nnc._nnc`: what of the Python package `nnc` is written in Rust.
//!
//! ```text
//!   nnc/session.py       InferenceSession: names, defaults, what code for onnxruntime expects
//!     │
//!   _nnc.Session         session.rs   a model or a program, and the sessions of all threads that run it
//!     ├─ decide.rs       inputs whose values decide shapes or branches
//!     ├─ array.rs        arrays of NumPy as tensors, without copies
//!     └─ pools.rs        threads, shared by all sessions of a process
//!   _nnc.compile         settings.rs  what is asked of the compiler, by keywords
//!                        error.rs     errors as exceptions, in the words of a caller from Python
//! ```
//!
//! While something is compiled or runs, other threads of Python go on: the lock of the interpreter is let go.

mod array;
mod decide;
mod error;
mod pools;
mod session;
mod settings;

use pyo3::prelude::*;

/// What of nnc is written in Rust.
#[pymodule]
fn _nnc(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<session::Session>()?;
    module.add_function(wrap_pyfunction!(settings::compile, module)?)?;
    module.add_function(wrap_pyfunction!(settings::targets, module)?)
}
