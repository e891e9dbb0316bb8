//! Names for Linux `perf`: code that no file holds has no symbols, so `perf report` shows bare addresses. It looks for
//! names in `/tmp/perf-PID.map`, where each process may list the functions that it made:
//!
//! ```text
//!   7f3a1c0001a0 5f0 layer_3_dense_block1_expand
//!   ^ address    ^ bytes, both hexadecimal
//! ```
//!
//! (tools/perf/Documentation/jit-interface.txt in the Linux sources.) Layer functions and kernels are entered by their
//! symbols, the ones that a compiled artefact has. The file stays when the process is gone: `perf report` reads it then.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A function in memory.
#[derive(Clone, Copy, Debug)]
pub struct MappedFunction<'a> {
    /// Address of its first instruction.
    pub address: usize,
    /// Size of its code.
    pub bytes: usize,
    /// Its symbol.
    pub name: &'a str,
}

/// The map of this process could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the perf map \"{}\"; leave it off, or remove the file", path.display())]
pub struct PerfMapError {
    /// The file.
    path: PathBuf,
    /// What the operating system said.
    source: io::Error,
}

/// Where `perf` looks for the names of this process.
pub fn path() -> PathBuf {
    PathBuf::from(format!("/tmp/perf-{}.map", std::process::id()))
}

/// The map of this process, once something has been entered.
static MAP: Mutex<Option<File>> = Mutex::new(None);

/// Adds functions to the map of this process, behind those of its other programs.
pub fn append<'a>(entries: impl IntoIterator<Item = MappedFunction<'a>>) -> Result<(), PerfMapError> {
    let mut text = String::new();
    for MappedFunction { address, bytes, name } in entries {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address:x} {bytes:x} {name}");
    }
    let path = path();
    let mut map = MAP.lock().unwrap_or_else(PoisonError::into_inner);
    let write = |map: &mut Option<File>| {
        let file = match map {
            Some(file) => file,
            None => map.insert(create(&path)?),
        };
        file.write_all(text.as_bytes())
    };
    write(&mut map).map_err(|source| PerfMapError { path, source })
}

/// A new map. One that is there is of an earlier process of this number, or a link that somebody laid to have us write
/// elsewhere.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}
