//! The runtime for C and everything that speaks C: `include/nnc.h` is its documentation.
//!
//! For hosts that link this crate, as a static or dynamic library, to load artefacts at run time with verification and
//! threads. (A host that links nothing can `dlopen` an artefact itself and call the `NAME_run` in it.) Built with
//!
//! ```text
//! cargo rustc --release -p nnc-runtime --lib --crate-type staticlib     or cdylib
//! ```
//!
//! Errors are a null pointer or a number other than 0; the message stays with the thread until its next call.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::abi::Port;
use crate::{Pool, Program, RunError, Session};

/// `nnc_model`: a session and what describes it.
pub struct Model {
    session: Session,
    pool: Pool,
    tensors: Arc<CTensors>,
}

impl Model {
    /// A program with threads of its own.
    fn new(program: Program, threads: u32) -> Result<Model, Box<dyn std::error::Error>> {
        let pool = if threads == 0 { Pool::for_this_machine()? } else { Pool::new(threads as usize)? };
        let tensors = CTensors {
            inputs: program.inputs().iter().map(CTensor::new).collect(),
            outputs: program.outputs().iter().map(CTensor::new).collect(),
        };
        Ok(Model { session: Session::new(&program, &pool)?, pool, tensors: Arc::new(tensors) })
    }
}

struct CTensors {
    inputs: Vec<CTensor>,
    outputs: Vec<CTensor>,
}

/// What `nnc_tensor` points to.
struct CTensor {
    name: CString,
    elem: u32,
    shape: Vec<u64>,
    bytes: u64,
}

/// `nnc_tensor`.
#[repr(C)]
#[derive(Debug)]
pub struct TensorInfo {
    /// Name in the model, in UTF-8.
    pub name: *const c_char,
    /// Element type, an `nnc_type`.
    pub elem: u32,
    /// Number of extents.
    pub rank: u32,
    /// Extents, outermost first.
    pub shape: *const u64,
    /// Size of a dense tensor.
    pub bytes: u64,
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Keeps the message of `error` and of its causes.
fn keep(error: &dyn std::error::Error) {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    LAST_ERROR.set(c_string(&message));
}

/// `text` for C; a name may contain a zero byte, which C would take for its end.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// The caller broke a rule of the interface.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0} is null")]
    Null(&'static str),
    #[error("there is no {role} {index}, only {count}; count from 0")]
    Index { role: &'static str, index: u32, count: usize },
}

/// Opens a program; see `nnc.h`.
///
/// # Safety
///
/// `path` is null or a C string. The file is trusted, as for [`Program::load`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_open(path: *const c_char, threads: u32) -> *mut Model {
    if path.is_null() {
        keep(&CallError::Null("path"));
        return std::ptr::null_mut();
    }
    // SAFETY: a C string, by the caller's promise.
    let path = unsafe { CStr::from_ptr(path) };
    let open = || -> Result<Model, Box<dyn std::error::Error>> {
        // SAFETY: the caller trusts the file.
        Model::new(unsafe { Program::load(std::ffi::OsStr::from_bytes(path.to_bytes())) }?, threads)
    };
    into_handle(open())
}

/// Opens a program that is in memory; see `nnc.h`.
///
/// # Safety
///
/// `artefact` is null or has `bytes` bytes. They are trusted, as for [`Program::from_bytes`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_open_memory(
    artefact: *const c_void,
    bytes: usize,
    threads: u32,
) -> *mut Model {
    if artefact.is_null() {
        keep(&CallError::Null("artefact"));
        return std::ptr::null_mut();
    }
    // SAFETY: so many bytes, by the caller's promise.
    let artefact = unsafe { std::slice::from_raw_parts(artefact.cast::<u8>(), bytes) };
    // SAFETY: the caller trusts them.
    let program = unsafe { Program::from_bytes(artefact) };
    into_handle(program.map_err(Into::into).and_then(|program| Model::new(program, threads)))
}

/// Makes another session of an open program; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_share(model: *const Model) -> *mut Model {
    // SAFETY: open or null, by the caller's promise.
    let Some(model) = (unsafe { model.as_ref() }) else {
        keep(&CallError::Null("model"));
        return std::ptr::null_mut();
    };
    let session = Session::new(model.session.program(), &model.pool);
    into_handle(session.map_err(Into::into).map(|session| Model {
        session,
        pool: model.pool.clone(),
        tensors: Arc::clone(&model.tensors),
    }))
}

fn into_handle(model: Result<Model, Box<dyn std::error::Error>>) -> *mut Model {
    match model {
        Ok(model) => Box::into_raw(Box::new(model)),
        Err(error) => {
            keep(&*error);
            std::ptr::null_mut()
        }
    }
}

/// Closes a model; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model that is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_close(model: *mut Model) {
    if !model.is_null() {
        // SAFETY: it came from `into_handle` and is closed once, by the caller's promise.
        drop(unsafe { Box::from_raw(model) });
    }
}

/// Number of inputs; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_inputs(model: *const Model) -> u32 {
    // SAFETY: open or null, by the caller's promise.
    unsafe { model.as_ref() }.map_or(0, |model| model.tensors.inputs.len() as u32)
}

/// Number of outputs; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_outputs(model: *const Model) -> u32 {
    // SAFETY: open or null, by the caller's promise.
    unsafe { model.as_ref() }.map_or(0, |model| model.tensors.outputs.len() as u32)
}

/// Describes an input; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model, `info` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_input(model: *const Model, index: u32, info: *mut TensorInfo) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { describe(model, "input", |tensors| &tensors.inputs, index, info) }
}

/// Describes an output; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model, `info` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_output(model: *const Model, index: u32, info: *mut TensorInfo) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { describe(model, "output", |tensors| &tensors.outputs, index, info) }
}

/// # Safety
/// As for its callers.
unsafe fn describe(
    model: *const Model,
    role: &'static str,
    side: fn(&CTensors) -> &Vec<CTensor>,
    index: u32,
    info: *mut TensorInfo,
) -> c_int {
    // SAFETY: open or null, by the caller's promise.
    let Some(model) = (unsafe { model.as_ref() }) else { return fail(&CallError::Null("model")) };
    if info.is_null() {
        return fail(&CallError::Null("info"));
    }
    let tensors = side(&model.tensors);
    let Some(tensor) = tensors.get(index as usize) else {
        return fail(&CallError::Index { role, index, count: tensors.len() });
    };
    // SAFETY: writable, by the caller's promise.
    unsafe { info.write(tensor.info()) };
    0
}

/// The extents of an output after a run; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model that nobody runs meanwhile; `shape` is null or has room for as many extents as the
/// output has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_output_shape(model: *const Model, index: u32, shape: *mut u64) -> c_int {
    // SAFETY: open or null, by the caller's promise.
    let Some(model) = (unsafe { model.as_ref() }) else { return fail(&CallError::Null("model")) };
    if shape.is_null() {
        return fail(&CallError::Null("shape"));
    }
    match model.session.output_shape(index as usize) {
        Ok(found) => {
            for (axis, extent) in found.into_iter().enumerate() {
                // SAFETY: room for each extent, by the caller's promise.
                unsafe { shape.add(axis).write(extent as u64) };
            }
            0
        }
        Err(error) => fail(&error),
    }
}

/// Runs a model; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model that nobody else uses meanwhile. `inputs` and `outputs` are null or arrays of as many
/// pointers as the model has inputs and outputs, each null or a buffer of its size. No output overlaps another buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_run(
    model: *mut Model,
    inputs: *const *const c_void,
    outputs: *const *mut c_void,
) -> c_int {
    // SAFETY: open, and ours alone, or null, by the caller's promise.
    let Some(model) = (unsafe { model.as_mut() }) else { return fail(&CallError::Null("model")) };
    let (ins, outs) = (model.tensors.inputs.len(), model.tensors.outputs.len());
    if inputs.is_null() && ins > 0 {
        return fail(&CallError::Null("inputs"));
    }
    if outputs.is_null() && outs > 0 {
        return fail(&CallError::Null("outputs"));
    }
    // SAFETY: arrays of these lengths with buffers of the right sizes, by the caller's promise.
    let result = unsafe {
        let inputs = if ins == 0 { &[] } else { std::slice::from_raw_parts(inputs.cast::<*const u8>(), ins) };
        let outputs =
            if outs == 0 { &[] } else { std::slice::from_raw_parts(outputs.cast::<*mut u8>(), outs) };
        model.session.run_pointers(inputs, outputs)
    };
    match result {
        Ok(()) => 0,
        Err(error @ RunError::Index { .. }) => {
            keep(&error);
            2
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> c_int {
    keep(error);
    1
}

/// The message of this thread's last failure; see `nnc.h`.
#[unsafe(no_mangle)]
pub extern "C" fn nnc_last_error() -> *const c_char {
    LAST_ERROR.with_borrow(|message| message.as_ptr())
}

impl CTensor {
    fn new(port: &Port) -> CTensor {
        CTensor {
            name: c_string(&port.name),
            elem: port.elem as u32,
            shape: port.shape.iter().map(|&extent| extent as u64).collect(),
            bytes: port.bytes() as u64,
        }
    }

    fn info(&self) -> TensorInfo {
        TensorInfo {
            name: self.name.as_ptr(),
            elem: self.elem,
            rank: self.shape.len() as u32,
            shape: self.shape.as_ptr(),
            bytes: self.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::ElemType;

    const HEADER: &str = include_str!("../include/nnc.h");

    /// The message of the last failure.
    fn message() -> String {
        // SAFETY: a C string that lives until this thread's next call.
        unsafe { CStr::from_ptr(nnc_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_header_declares_every_function_and_type() {
        let source = include_str!("capi.rs");
        let functions =
            source.lines().filter_map(|line| line.split_once("extern \"C\" fn ")?.1.split_once('('));
        let mut count = 0;
        for (name, _) in functions.filter(|(name, _)| name.starts_with("nnc_")) {
            assert!(HEADER.contains(&format!("{name}(")), "{name}");
            count += 1;
        }
        assert_eq!(count, 11);
        for code in 0..=u8::MAX {
            if let Some(elem) = ElemType::from_code(code) {
                let constant = format!("NNC_{} = {code},", elem.to_string().to_uppercase());
                assert!(HEADER.contains(&constant), "{constant}");
            }
        }
    }

    #[test]
    fn null_pointers_are_refused_with_a_message() {
        let null = std::ptr::null_mut::<Model>();
        // SAFETY: null is allowed everywhere.
        unsafe {
            assert!(nnc_model_open(std::ptr::null(), 1).is_null());
            assert_eq!(message(), "path is null");
            assert!(nnc_model_open_memory(std::ptr::null(), 0, 1).is_null());
            assert_eq!(message(), "artefact is null");
            assert!(nnc_model_share(null).is_null());
            assert_eq!(message(), "model is null");
            assert_eq!(nnc_model_inputs(null), 0);
            assert_eq!(nnc_model_outputs(null), 0);
            assert_eq!(nnc_model_input(null, 0, std::ptr::null_mut()), 1);
            assert_eq!(nnc_model_run(null, std::ptr::null(), std::ptr::null()), 1);
            nnc_model_close(null);
        }
    }

    #[test]
    fn bytes_that_are_no_program_are_refused() {
        // SAFETY: as many bytes as there are.
        let model = unsafe { nnc_model_open_memory(HEADER.as_ptr().cast(), HEADER.len(), 1) };
        assert!(model.is_null());
        assert!(message().starts_with("this is not a program compiled by nnc"), "{}", message());
    }

    #[test]
    fn a_missing_file_is_an_error_with_its_cause() {
        // SAFETY: a C string, and no file that could run.
        let model = unsafe { nnc_model_open(c"/nowhere/net.so".as_ptr(), 1) };
        assert!(model.is_null());
        assert!(message().starts_with("cannot read \"/nowhere/net.so\": "), "{}", message());
    }
}
