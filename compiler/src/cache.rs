//! Compiled programs on disk: a folder with an artefact for each model and way to compile it.
//!
//! ```text
//!   model bytes, external data ┐
//!   bindings, passes left out  ├─ blake3 ─▶ FOLDER/5be1…07.nnc.so ── there and whole? ─▶ load
//!   target, compiler           ┘                    ▲                     │ no
//!                                                   └──── rename ── compile, write beside it
//! ```
//!
//! Whatever decides the bytes of an artefact is in the key, so an entry never has to be thrown away because it is old: what
//! nobody asks for any more may be deleted at any time. An entry that does not load (cut short, damaged, of another ABI) is
//! as good as none, and is written anew. Entries appear under their names as a whole, so any number of processes may share a
//! folder; two that miss at once both compile, and leave the same bytes.
//!
//! A process that is killed while it writes leaves a temporary file, unless it catches the signal (see [`crate::temporary`]);
//! whoever writes an hour later removes it.
//!
//! An entry is code that will run. Who names a folder says that whoever can write to it may run code as this process.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nnc_ir::onnx::{self, OnnxError};
use nnc_runtime::Program;
use nnc_runtime::artefact::{ABI_VERSION, FORMAT_VERSION, LoadError};

use crate::options::Options;
use crate::target::Target;
use crate::temporary::Temporary;

/// How a cache served a compilation.
#[derive(Debug)]
pub enum CacheUse {
    /// The program was loaded from this file.
    Hit(PathBuf),
    /// The program was compiled and put into this file.
    Stored(PathBuf),
    /// The program was compiled, but this file could not be written.
    NotStored {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The place of one program in a cache.
#[derive(Debug)]
pub(crate) struct CacheEntry {
    folder: PathBuf,
    path: PathBuf,
}

impl CacheEntry {
    /// The place for a model that is compiled with these options for this target.
    pub fn new(
        folder: &Path,
        model: &onnx::Model,
        options: &Options,
        target: &Target,
    ) -> Result<CacheEntry, OnnxError> {
        let name = format!("{}.nnc.so", key(model, options, target)?.to_hex());
        Ok(CacheEntry { folder: folder.to_owned(), path: folder.join(name) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The program, if it is there and whole.
    pub fn load(&self) -> Option<Program> {
        // SAFETY: the folder was named as a cache by the one who runs this process, and a cache is documented to be trusted
        // like a program. That the entry is whole, of this ABI and for this CPU is verified.
        match unsafe { Program::load(&self.path) } {
            Ok(program) => Some(program),
            Err(LoadError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::debug!("cache entry {} is compiled anew: {error}", self.path.display());
                None
            }
        }
    }

    /// Puts an artefact here, in place of what there is.
    pub fn store(self, artefact: &[u8]) -> CacheUse {
        match self.replace(artefact) {
            Ok(()) => CacheUse::Stored(self.path),
            Err(source) => {
                tracing::warn!("the program is not kept in the cache: {}: {source}", self.path.display());
                CacheUse::NotStored { path: self.path, source }
            }
        }
    }

    fn replace(&self, artefact: &[u8]) -> io::Result<()> {
        /// Tells apart what threads of this process write.
        static WRITES: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(&self.folder)?;
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = self.folder.join(format!(".{name}.{}.{number}.tmp", process::id()));
        let (temporary, mut file) = Temporary::create(temporary)?;
        // Not flushed to the disk: an entry that a power cut leaves half-written does not load, and is compiled anew.
        file.write_all(artefact)?;
        drop(file);
        if temporary.rename(&self.path).is_err() {
            // What is there is no file: an empty folder is as good as nothing.
            fs::remove_dir(&self.path)?;
            temporary.rename(&self.path)?;
        }
        self.sweep();
        Ok(())
    }
}

/// Age from which on nobody is writing to a temporary file any more.
const STALE: Duration = Duration::from_secs(3600);

impl CacheEntry {
    /// Removes temporary files of processes that were killed while they wrote.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let temporary = name.starts_with('.') && name.contains(".nnc.so.") && name.ends_with(".tmp");
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|then| then.elapsed().ok());
            if temporary && age.is_some_and(|age| age > STALE) {
                // Another process may have done it.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// A digest of all that decides the bytes of an artefact.
fn key(model: &onnx::Model, options: &Options, target: &Target) -> Result<blake3::Hash, OnnxError> {
    // Every field is named, so that a new one is decided on.
    let Options { bindings, passes, plan, target: _, threads: _, cache: _, perf_map: _ } = options;
    let onnx::Bindings { dims, shapes, constants, until } = bindings;
    let mut hasher = blake3::Hasher::new();
    // Lengths go in front, so that no two lists of parts run together to the same bytes.
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    add(env!("NNC_SOURCES").as_bytes());
    add(format!("format {FORMAT_VERSION}, ABI {ABI_VERSION}").as_bytes());
    add(format!("{target:?}").as_bytes());
    add(format!("{passes:?} {plan:?}").as_bytes());
    add(format!("{dims:?} {shapes:?} {until:?}").as_bytes());
    add(&(constants.len() as u64).to_le_bytes());
    for (name, tensor) in constants {
        add(name.as_bytes());
        add(tensor.ty().to_string().as_bytes());
        add(tensor.bytes());
    }
    for part in model.source() {
        hasher.update(&part.len().to_le_bytes());
        part.read(|piece| {
            hasher.update(piece);
        })?;
    }
    Ok(hasher.finalize())
}
