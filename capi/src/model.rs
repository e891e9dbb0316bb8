//! Models that run: `nnc_model`.

use std::ffi::{c_char, c_int, c_void};
use std::path::Path;
use std::sync::Arc;

use nnc_runtime::{LoadError, Pool, Program, RunError, Session};

use crate::failure::{CallError, Outcome, bytes, close, into_handle, keep, path, read, status, text, write};
use crate::tensor::{CTensors, Side, TensorInfo};
use crate::threads::{Threads, pool};

/// `nnc_model`: a session and what describes it.
pub struct Model {
    session: Session,
    pool: Pool,
    tensors: Arc<CTensors>,
}

impl Model {
    /// A program with threads of its own; 0 stands for one for each core.
    pub(crate) fn new(program: &Program, threads: u32) -> Outcome<Model> {
        let pool = pool(threads)?;
        let tensors = Arc::new(CTensors::new(program));
        Ok(Model { session: Session::new(program, &pool)?, pool, tensors })
    }

    fn share(&self) -> Outcome<Model> {
        let session = Session::new(self.session.program(), &self.pool)?;
        Ok(Model { session, pool: self.pool.clone(), tensors: Arc::clone(&self.tensors) })
    }

    fn use_pool(&mut self, pool: &Pool) -> Outcome<()> {
        self.session = Session::new(self.session.program(), pool)?;
        self.pool = pool.clone();
        Ok(())
    }
}

/// Opens a program; see `nnc.h`.
///
/// # Safety
///
/// `file` is null or a C string. The file is trusted, as for [`Program::load`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_open(file: *const c_char, threads: u32) -> *mut Model {
    // SAFETY: the caller trusts the file, and `file` is what `open` wants.
    unsafe { open(file, threads, |file| Program::load(file)) }
}

/// Opens a program by its pages; see `nnc.h`.
///
/// # Safety
///
/// `file` is null or a C string. The file is trusted, and stays as it is, as for [`Program::map`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_map(file: *const c_char, threads: u32) -> *mut Model {
    // SAFETY: the caller trusts the file and leaves it alone, and `file` is what `open` wants.
    unsafe { open(file, threads, |file| Program::map(file)) }
}

/// # Safety
///
/// `file` is null or a C string.
unsafe fn open(
    file: *const c_char,
    threads: u32,
    load: impl FnOnce(&Path) -> Result<Program, LoadError>,
) -> *mut Model {
    // SAFETY: the caller's promise.
    let file = unsafe { path(file, "path") };
    into_handle(file.and_then(|file| Model::new(&load(file)?, threads)))
}

/// Opens a program that is in memory; see `nnc.h`.
///
/// # Safety
///
/// `artefact` is null or has `count` bytes. They are trusted, as for [`Program::from_bytes`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_open_memory(
    artefact: *const c_void,
    count: usize,
    threads: u32,
) -> *mut Model {
    // SAFETY: so many bytes, which the caller trusts.
    let program = unsafe {
        bytes(artefact, count, "artefact").and_then(|bytes| Program::from_bytes(bytes).map_err(Into::into))
    };
    into_handle(program.and_then(|program| Model::new(&program, threads)))
}

/// Makes another session of an open program; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_share(model: *const Model) -> *mut Model {
    // SAFETY: open or null, by the caller's promise.
    into_handle(unsafe { read(model, "model") }.and_then(Model::share))
}

/// Gives a model other threads; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model that nobody else uses meanwhile, `pool` is null or an open pool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_use_pool(model: *mut Model, pool: *const Threads) -> c_int {
    // SAFETY: the caller's promise.
    let (model, pool) = unsafe { (write(model, "model"), read(pool, "pool")) };
    status(model.and_then(|model| model.use_pool(&pool?.0)))
}

/// Closes a model; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model that is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_close(model: *mut Model) {
    // SAFETY: the caller's promise.
    unsafe { close(model) }
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
    unsafe { describe(model, Side::Inputs, index, info) }
}

/// Describes an output; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model, `info` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_output(model: *const Model, index: u32, info: *mut TensorInfo) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { describe(model, Side::Outputs, index, info) }
}

/// # Safety
///
/// As for its callers.
unsafe fn describe(model: *const Model, side: Side, index: u32, info: *mut TensorInfo) -> c_int {
    // SAFETY: open or null, by the caller's promise.
    let found = unsafe { read(model, "model") }.and_then(|model| Ok(model.tensors.info(side, index)?));
    // SAFETY: null or writable, by the caller's promise.
    status(found.and_then(|found| unsafe { put(info, found, "info") }))
}

/// Finds an input by its name; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model, `name` is null or a C string, `index` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_find_input(
    model: *const Model,
    name: *const c_char,
    index: *mut u32,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { find(model, Side::Inputs, name, index) }
}

/// Finds an output by its name; see `nnc.h`.
///
/// # Safety
///
/// `model` is null or an open model, `name` is null or a C string, `index` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_model_find_output(
    model: *const Model,
    name: *const c_char,
    index: *mut u32,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { find(model, Side::Outputs, name, index) }
}

/// # Safety
///
/// As for its callers.
unsafe fn find(model: *const Model, side: Side, name: *const c_char, index: *mut u32) -> c_int {
    // SAFETY: the caller's promise.
    let (model, name) = unsafe { (read(model, "model"), text(name, "name")) };
    let found = model.and_then(|model| Ok(model.tensors.find(side, name?)?));
    // SAFETY: null or writable, by the caller's promise.
    status(found.and_then(|found| unsafe { put(index, found, "index") }))
}

/// # Safety
///
/// `place` is null or writable.
unsafe fn put<T>(place: *mut T, value: T, name: &'static str) -> Outcome<()> {
    if place.is_null() {
        return Err(CallError::Null(name).into());
    }
    // SAFETY: writable, by the caller's promise.
    unsafe { place.write(value) };
    Ok(())
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
    let model = unsafe { read(model, "model") };
    let found = model.and_then(|model| Ok(model.session.output_shape(index as usize)?));
    status(found.and_then(|found| {
        if shape.is_null() {
            return Err(CallError::Null("shape").into());
        }
        for (axis, extent) in found.into_iter().enumerate() {
            // SAFETY: room for each extent, by the caller's promise.
            unsafe { shape.add(axis).write(extent as u64) };
        }
        Ok(())
    }))
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
    // SAFETY: the caller's promise.
    match unsafe { run(model, inputs, outputs) } {
        Err(error) if matches!(error.downcast_ref(), Some(RunError::Index { .. })) => {
            keep(&*error);
            2
        }
        outcome => status(outcome),
    }
}

/// # Safety
///
/// As for [`nnc_model_run`].
unsafe fn run(model: *mut Model, inputs: *const *const c_void, outputs: *const *mut c_void) -> Outcome<()> {
    // SAFETY: open, and ours alone, or null, by the caller's promise.
    let model = unsafe { write(model, "model") }?;
    // SAFETY: null or arrays of these lengths, by the caller's promise.
    let (inputs, outputs) = unsafe {
        (
            pointers(inputs.cast::<*const u8>(), model.tensors.inputs.len(), "inputs")?,
            pointers(outputs.cast::<*mut u8>(), model.tensors.outputs.len(), "outputs")?,
        )
    };
    // SAFETY: buffers of the right sizes, by the caller's promise.
    Ok(unsafe { model.session.run_pointers(inputs, outputs) }?)
}

/// An array of pointers; null will do for none.
///
/// # Safety
///
/// `array` is null or has `len` elements that stay as they are as long as `'a`.
unsafe fn pointers<'a, T>(array: *const T, len: usize, name: &'static str) -> Outcome<&'a [T]> {
    match (array.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(CallError::Null(name).into()),
        // SAFETY: so many elements, by the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(array, len) }),
    }
}
