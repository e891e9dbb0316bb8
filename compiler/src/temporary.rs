//! Files that are there whole or not at all: written under a temporary name, and renamed when they are done.
//!
//! A process that ends by a signal runs nothing on its way out, so what is not done yet is kept in a list. A program that
//! catches signals calls [`remove_all`] before it lets one end it, as the `nnc` command does.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The temporary files of this process.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that is being written. It goes when this is dropped before it has its name.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Makes a file that was not there.
    pub fn create(path: PathBuf) -> io::Result<(Temporary, File)> {
        let mut unfinished = unfinished();
        let file = File::options().write(true).create_new(true).open(&path)?;
        unfinished.insert(path.clone());
        Ok((Temporary { path }, file))
    }

    /// Gives it its name, in place of what has that.
    pub fn rename(&self, name: &Path) -> io::Result<()> {
        let mut unfinished = unfinished();
        fs::rename(&self.path, name)?;
        unfinished.remove(&self.path);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut unfinished = unfinished();
        if unfinished.remove(&self.path) {
            // What is left of it is of no use to anybody.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes all temporary files of this process, which is about to end: whoever makes, names or drops one afterwards waits for
/// ever.
pub fn remove_all() {
    let unfinished = unfinished();
    for path in unfinished.iter() {
        let _ = fs::remove_file(path);
    }
    std::mem::forget(unfinished);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_has_its_name_when_it_is_done_and_is_gone_when_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (temporary, name) = (folder.path().join(".tmp"), folder.path().join("file"));
        let (file, _) = Temporary::create(temporary.clone()).unwrap();
        assert!(Temporary::create(temporary.clone()).is_err(), "it is there");
        assert!(temporary.exists());
        drop(file);
        assert!(!temporary.exists());

        let (file, mut bytes) = Temporary::create(temporary.clone()).unwrap();
        bytes.write_all(b"whole").unwrap();
        file.rename(&name).unwrap();
        // Somebody else's by now.
        fs::write(&temporary, "other").unwrap();
        drop(file);
        assert!(temporary.exists());
        assert_eq!(fs::read(name).unwrap(), b"whole");
    }
}
