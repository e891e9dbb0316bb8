//! Compiled programs as bytes: `nnc_artefact`.

use std::ffi::{OsString, c_char, c_int, c_void};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nnc::temporary::Temporary;

use crate::failure::{CallError, Outcome, close, path, read, status};

/// `nnc_artefact`.
pub struct Artefact(pub(crate) Vec<u8>);

/// The bytes; see `nnc.h`.
///
/// # Safety
///
/// `artefact` is null or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_artefact_data(artefact: *const Artefact) -> *const c_void {
    // SAFETY: the caller's promise.
    unsafe { artefact.as_ref() }.map_or(std::ptr::null(), |artefact| artefact.0.as_ptr().cast())
}

/// How many bytes there are; see `nnc.h`.
///
/// # Safety
///
/// `artefact` is null or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_artefact_bytes(artefact: *const Artefact) -> usize {
    // SAFETY: the caller's promise.
    unsafe { artefact.as_ref() }.map_or(0, |artefact| artefact.0.len())
}

/// Writes the bytes to a file; see `nnc.h`.
///
/// # Safety
///
/// `artefact` is null or open, `file` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_artefact_write(artefact: *const Artefact, file: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    let (artefact, file) = unsafe { (read(artefact, "artefact"), path(file, "path")) };
    status(artefact.and_then(|artefact| write_whole(file?, &artefact.0)))
}

/// Ends an artefact; see `nnc.h`.
///
/// # Safety
///
/// `artefact` is null or open, and not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_artefact_close(artefact: *mut Artefact) {
    // SAFETY: the caller's promise.
    unsafe { close(artefact) }
}

/// Writes under another name first, which nobody else has, and renames.
fn write_whole(file: &Path, bytes: &[u8]) -> Outcome<()> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let write = || {
        let mut temporary = OsString::from(".");
        temporary.push(file.file_name().ok_or(std::io::ErrorKind::InvalidFilename)?);
        let count = WRITTEN.fetch_add(1, Ordering::Relaxed);
        temporary.push(format!(".{}-{count}.tmp", std::process::id()));
        let (temporary, mut open) = Temporary::create(file.with_file_name(temporary))?;
        open.write_all(bytes)?;
        open.sync_all()?;
        drop(open);
        temporary.rename(file)
    };
    write().map_err(|source| CallError::Write { path: file.display().to_string(), source }.into())
}
