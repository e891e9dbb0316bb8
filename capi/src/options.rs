//! How to compile, as C hosts say it: `nnc_options`.

use std::ffi::{c_char, c_int};

use nnc::{Options, Precision};
use nnc_ir::Setting;

use crate::failure::{CallError, Outcome, close, path, status, text, write};

/// `nnc_options`.
#[derive(Debug, Default)]
pub struct CompileOptions(pub(crate) Options);

/// The function that sets a setting: what errors name to C hosts.
pub(crate) fn function(setting: &Setting) -> String {
    let value = setting.value();
    match setting {
        Setting::Dim { name, .. } => format!("nnc_options_dim(options, \"{name}\", {value})"),
        Setting::Shape { input, .. } => format!("nnc_options_shape(options, \"{input}\", {value})"),
        Setting::Target => "nnc_options_target".into(),
        // What libnnc does not set, the command does, whose artefacts it loads.
        Setting::Constant { input } => format!("`nnc compile --const {input}=FILE.npy`"),
        Setting::Until { name } => {
            format!("`nnc compile --until {}`", name.as_deref().unwrap_or("NAME"))
        }
        Setting::Limit(limit) => format!("the limit {limit} of `nnc compile`"),
    }
}

/// Options as they are unless they are set; see `nnc.h`.
#[unsafe(no_mangle)]
pub extern "C" fn nnc_options_new() -> *mut CompileOptions {
    Box::into_raw(Box::default())
}

/// Ends options; see `nnc.h`.
///
/// # Safety
///
/// `options` is null or from [`nnc_options_new`], and not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_options_close(options: *mut CompileOptions) {
    // SAFETY: the caller's promise.
    unsafe { close(options) }
}

/// Sets something, or leaves the options as they were.
///
/// # Safety
///
/// `options` is null, or from [`nnc_options_new`] and nobody else's meanwhile.
unsafe fn set(options: *mut CompileOptions, with: impl FnOnce(Options) -> Outcome<Options>) -> c_int {
    // SAFETY: the caller's promise.
    let options = unsafe { write(options, "options") };
    status(options.and_then(|options| {
        options.0 = with(options.0.clone())?;
        Ok(())
    }))
}

/// The extent of a dim; see `nnc.h`.
///
/// # Safety
///
/// `options` is null, or open and nobody else's meanwhile; `name` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_options_dim(
    options: *mut CompileOptions,
    name: *const c_char,
    extent: u64,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { set(options, |options| Ok(options.dim(text(name, "name")?, usize::try_from(extent)?))) }
}

/// The shape of an input; see `nnc.h`.
///
/// # Safety
///
/// `options` is null, or open and nobody else's meanwhile; `input` is null or a C string; `shape` is null or has `rank` extents.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_options_shape(
    options: *mut CompileOptions,
    input: *const c_char,
    shape: *const u64,
    rank: u32,
) -> c_int {
    let with = |options: Options| {
        // SAFETY: the caller's promise.
        let input = unsafe { text(input, "input") }?;
        let extents = match (shape.is_null(), rank) {
            (_, 0) => &[],
            (true, _) => return Err(CallError::Null("shape").into()),
            // SAFETY: so many extents, by the caller's promise.
            (false, _) => unsafe { std::slice::from_raw_parts(shape, rank as usize) },
        };
        let extents = extents.iter().map(|&extent| usize::try_from(extent));
        Ok(options.shape(input, extents.collect::<Result<Vec<_>, _>>()?))
    };
    // SAFETY: the caller's promise.
    unsafe { set(options, with) }
}

/// What to compile for; see `nnc.h`.
///
/// # Safety
///
/// `options` is null, or open and nobody else's meanwhile; `target` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_options_target(options: *mut CompileOptions, target: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { set(options, |options| Ok(options.target(text(target, "target")?)?)) }
}

/// What numbers are stored in; see `nnc.h`.
///
/// # Safety
///
/// `options` is null, or open and nobody else's meanwhile; `precision` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_options_precision(
    options: *mut CompileOptions,
    precision: *const c_char,
) -> c_int {
    let with = |options: Options| {
        // SAFETY: the caller's promise.
        let precision = match unsafe { text(precision, "precision") }? {
            "f32" => Precision::F32,
            "bf16" => Precision::Bf16,
            "f16" => Precision::F16,
            other => return Err(CallError::Precision(other.into()).into()),
        };
        Ok(options.precision(precision))
    };
    // SAFETY: the caller's promise.
    unsafe { set(options, with) }
}

/// Threads that compile; see `nnc.h`.
///
/// # Safety
///
/// `options` is null, or open and nobody else's meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_options_threads(options: *mut CompileOptions, threads: u32) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { set(options, |options| Ok(options.threads(threads as usize))) }
}

/// A folder for programs; see `nnc.h`.
///
/// # Safety
///
/// `options` is null, or open and nobody else's meanwhile; `folder` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_options_cache(options: *mut CompileOptions, folder: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { set(options, |options| Ok(options.cache(path(folder, "folder")?))) }
}
