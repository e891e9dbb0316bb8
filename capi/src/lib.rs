//! libnnc: the runtime, and if it is asked for the compiler, for C and everything that speaks C. `include/nnc.h` is its
//! documentation; `src/main.rs` builds and installs it.
//!
//! ```text
//!   nnc_model ────▶ model.rs      a session of the runtime, and what describes its tensors (tensor.rs)
//!   nnc_pool ─────▶ threads.rs
//!   nnc_onnx ─────▶ compile.rs    with the feature `compiler`
//!   nnc_options ──▶ options.rs
//!   nnc_artefact ─▶ artefact.rs
//!   nnc_last_error  failure.rs    a null pointer or a number other than 0; the message stays with the thread
//! ```
//!
//! A host may do anything with the pointers that it is given but what `nnc.h` says it may not: that is what the safety of each
//! function here rests on. Null is met everywhere.
#![cfg(unix)]
#![deny(missing_docs)]

#[cfg(feature = "compiler")]
mod artefact;
#[cfg(feature = "compiler")]
mod compile;
mod failure;
mod model;
#[cfg(feature = "compiler")]
mod options;
mod tensor;
mod threads;

use std::ffi::c_char;

#[cfg(feature = "compiler")]
pub use artefact::{Artefact, nnc_artefact_bytes, nnc_artefact_close, nnc_artefact_data, nnc_artefact_write};
#[cfg(feature = "compiler")]
pub use compile::{
    Onnx, nnc_compile, nnc_compile_artefact, nnc_onnx_close, nnc_onnx_open, nnc_onnx_open_memory,
};

pub use failure::nnc_last_error;
pub use model::{
    Model, nnc_model_close, nnc_model_find_input, nnc_model_find_output, nnc_model_input, nnc_model_inputs,
    nnc_model_map, nnc_model_open, nnc_model_open_memory, nnc_model_output, nnc_model_output_shape,
    nnc_model_outputs, nnc_model_run, nnc_model_share, nnc_model_use_pool,
};
#[cfg(feature = "compiler")]
pub use options::{
    CompileOptions, nnc_options_cache, nnc_options_close, nnc_options_dim, nnc_options_new,
    nnc_options_precision, nnc_options_shape, nnc_options_target, nnc_options_threads,
};
pub use tensor::TensorInfo;
pub use threads::{Threads, nnc_pool_close, nnc_pool_open};

/// The version of the library; see `nnc.h`.
#[unsafe(no_mangle)]
pub extern "C" fn nnc_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

#[cfg(test)]
mod tests;
