//! What went wrong, as C is told: a return value, and a message that stays with the thread.

use std::cell::RefCell;
use std::error::Error;
use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// The caller broke a rule of the interface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0} is null")]
    Null(&'static str),
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    #[error("there is no {role} {index}, only {count}; count from 0")]
    Index { role: &'static str, index: u32, count: usize },
    #[error("there is no {role} \"{name}\"; those of the model are {}", .known.join(", "))]
    Name { role: &'static str, name: String, known: Vec<String> },
    #[cfg(feature = "compiler")]
    #[error("there is no precision \"{0}\"; take f32, bf16 or f16")]
    Precision(String),
    #[cfg(feature = "compiler")]
    #[error("cannot write \"{path}\"")]
    Write { path: String, source: std::io::Error },
    #[cfg(feature = "compiler")]
    #[error("this is a fault of nnc, not of the model: {0}; please report it")]
    Panic(String),
}

/// What functions work with before it becomes a return value.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Keeps the message of `error` and of its causes. Some errors tell their cause already; it is not told twice.
pub(crate) fn keep(error: &dyn Error) {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    LAST_ERROR.set(c_string(&message));
}

/// `text` for C; a name may contain a zero byte, which C would take for its end.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// 0, or 1 and the message.
pub(crate) fn status(outcome: Outcome<()>) -> c_int {
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            keep(&*error);
            1
        }
    }
}

/// A handle that the caller owns, or null and the message.
pub(crate) fn into_handle<T>(outcome: Outcome<T>) -> *mut T {
    match outcome {
        Ok(owned) => Box::into_raw(Box::new(owned)),
        Err(error) => {
            keep(&*error);
            std::ptr::null_mut()
        }
    }
}

/// Ends a handle; null is one that has ended.
///
/// # Safety
///
/// `handle` is null or came from [`into_handle`], and is not used any more.
pub(crate) unsafe fn close<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// What a pointer leads to.
///
/// # Safety
///
/// `pointer` is null, or leads to a `T` that nobody changes as long as `'a`.
pub(crate) unsafe fn read<'a, T>(pointer: *const T, name: &'static str) -> Outcome<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| CallError::Null(name).into())
}

/// What a pointer leads to, to change it.
///
/// # Safety
///
/// `pointer` is null, or leads to a `T` that is the caller's alone as long as `'a`.
pub(crate) unsafe fn write<'a, T>(pointer: *mut T, name: &'static str) -> Outcome<&'a mut T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_mut() }.ok_or_else(|| CallError::Null(name).into())
}

/// Bytes by their address.
///
/// # Safety
///
/// `bytes` is null or leads to `count` bytes that nobody changes as long as `'a`.
pub(crate) unsafe fn bytes<'a>(
    bytes: *const std::ffi::c_void,
    count: usize,
    name: &'static str,
) -> Outcome<&'a [u8]> {
    if bytes.is_null() {
        return Err(CallError::Null(name).into());
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(bytes.cast(), count) })
}

/// A text, such as a name.
///
/// # Safety
///
/// `text` is null or a C string that nobody changes as long as `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &'static str) -> Outcome<&'a str> {
    // SAFETY: the caller's promise.
    unsafe { c_text(text, name) }?.to_str().map_err(|_| CallError::Text(name).into())
}

/// A path, whose bytes are the operating system's.
///
/// # Safety
///
/// As for [`text`].
pub(crate) unsafe fn path<'a>(path: *const c_char, name: &'static str) -> Outcome<&'a Path> {
    use std::os::unix::ffi::OsStrExt;
    // SAFETY: the caller's promise.
    let path = unsafe { c_text(path, name) }?;
    Ok(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())))
}

/// # Safety
///
/// As for [`text`].
unsafe fn c_text<'a>(text: *const c_char, name: &'static str) -> Outcome<&'a CStr> {
    if text.is_null() {
        return Err(CallError::Null(name).into());
    }
    // SAFETY: a C string, by the caller's promise.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// The message of this thread's last failure; see `nnc.h`.
#[unsafe(no_mangle)]
pub extern "C" fn nnc_last_error() -> *const c_char {
    LAST_ERROR.with_borrow(|message| message.as_ptr())
}
