//! ONNX models of C hosts, and compiling them: `nnc_onnx`.

use std::any::Any;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nnc::Options;
use nnc_ir::setting::worded;

use crate::artefact::Artefact;
use crate::failure::{CallError, Outcome, bytes, close, into_handle, path, read};
use crate::model::Model;
use crate::options::{CompileOptions, function};

/// `nnc_onnx`.
#[derive(Debug)]
pub struct Onnx(nnc::Model);

/// Does something with the compiler, and gives C a handle of the result. Errors name functions of C; a fault of the compiler is an error,
/// too, and does not end the host.
fn compiling<T>(work: impl FnOnce() -> Outcome<T>) -> *mut T {
    let fault = |cause: Box<dyn Any + Send>| {
        let text = cause.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(CallError::Panic(text).into())
    };
    // What the work changes is its own, and gone with it.
    worded(function, || into_handle(catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(fault)))
}

/// Reads a model from a file; see `nnc.h`.
///
/// # Safety
///
/// `file` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_onnx_open(file: *const c_char) -> *mut Onnx {
    // SAFETY: the caller's promise.
    compiling(|| Ok(Onnx(nnc::Model::open(unsafe { path(file, "path") }?)?)))
}

/// Reads a model from memory; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or has `count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_onnx_open_memory(model: *const c_void, count: usize) -> *mut Onnx {
    // SAFETY: the caller's promise.
    compiling(|| Ok(Onnx(nnc::Model::from_bytes(unsafe { bytes(model, count, "model") }?)?)))
}

/// Ends a model that was read; see `nnc.h`.
///
/// # Safety
///
/// `onnx` is null or open, and not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_onnx_close(onnx: *mut Onnx) {
    // SAFETY: the caller's promise.
    unsafe { close(onnx) }
}

/// Compiles to memory; see `nnc.h`.
///
/// # Safety
///
/// `onnx` and `options` are null or open, and nobody changes the options meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_compile(
    onnx: *const Onnx,
    options: *const CompileOptions,
    threads: u32,
) -> *mut Model {
    compiling(|| {
        // SAFETY: the caller's promise.
        let (onnx, options) = unsafe { (read(onnx, "onnx")?, given(options)) };
        Model::new(&onnx.0.compile(&options)?, threads)
    })
}

/// Compiles to the bytes of a file; see `nnc.h`.
///
/// # Safety
///
/// `onnx` and `options` are null or open, and nobody changes the options meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_compile_artefact(
    onnx: *const Onnx,
    options: *const CompileOptions,
) -> *mut Artefact {
    compiling(|| {
        // SAFETY: the caller's promise.
        let (onnx, options) = unsafe { (read(onnx, "onnx")?, given(options)) };
        Ok(Artefact(onnx.0.lower(&options)?.code()?.artefact()?))
    })
}

/// The options, or those of who gives none.
///
/// # Safety
///
/// `options` is null or open.
unsafe fn given(options: *const CompileOptions) -> Options {
    // SAFETY: the caller's promise.
    unsafe { options.as_ref() }.map(|options| options.0.clone()).unwrap_or_default()
}
