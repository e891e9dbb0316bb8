//! Files that are there whole or not at all: written under a temporary name in the same folder, flushed to the disk,
//! then renamed ([`Temporary`]). A device or a pipe is written to as it is: a rename would put a file in its place.

use std::fs::{self, File};
use std::io::{self, Cursor, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use nnc::temporary::Temporary;

/// A place where a file can be written, checked before the work whose result goes there.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    temporary: PathBuf,
    /// Whether something is there that is no file, such as `/dev/null`.
    device: bool,
}

impl Output {
    /// Checks that a file can be made at `path`, and refuses to write over one of `inputs`.
    pub fn check(path: &Path, inputs: &[&Path]) -> Result<Output> {
        let shown = path.display();
        if path.is_dir() {
            bail!("cannot write \"{shown}\": it is a folder; add a file name");
        }
        let Some(name) = path.file_name() else {
            bail!("cannot write \"{shown}\": it has no file name");
        };
        let same = |other: &&Path| match (path.canonicalize(), other.canonicalize()) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        };
        if inputs.iter().any(same) {
            bail!(
                "\"{shown}\" is read by this command, so it is not written over; choose another name with -o"
            );
        }
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.tmp", std::process::id()));
        let device = fs::metadata(path).is_ok_and(|there| !there.is_file());
        let temporary = path.with_file_name(temporary);
        let output = Output { path: path.to_owned(), temporary, device };
        if device {
            return Ok(output);
        }
        output.create().map_err(|e| output.refused(e))?;
        Ok(output)
    }

    /// Writes the file.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.write_whole(bytes).map_err(|e| self.refused(e))
    }

    /// Where the file goes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name that others will look for.
    pub fn file_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn write_whole(&self, bytes: &[u8]) -> io::Result<()> {
        if self.device {
            return File::options().write(true).open(&self.path)?.write_all(bytes);
        }
        let (temporary, mut file) = self.create()?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        temporary.rename(&self.path)
    }

    fn create(&self) -> io::Result<(Temporary, File)> {
        Temporary::create(self.temporary.clone())
    }

    fn refused(&self, error: io::Error) -> anyhow::Error {
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.display().to_string(),
            _ => ".".to_string(),
        };
        let remedy = match error.kind() {
            ErrorKind::NotFound if !Path::new(&folder).is_dir() => {
                format!("the folder \"{folder}\" does not exist; create it first")
            }
            ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                format!("the folder \"{folder}\" cannot be written to; choose another place with -o")
            }
            ErrorKind::StorageFull => format!("the disk of folder \"{folder}\" is full"),
            _ => format!("in folder \"{folder}\""),
        };
        anyhow::Error::new(error).context(format!("cannot write \"{}\": {remedy}", self.path.display()))
    }
}

/// Where arrays go, and how.
pub enum Arrays {
    /// All of them, in an `.npz` file.
    Npz(Output),
    /// The only one, in an `.npy` file.
    Npy(Output),
    /// Standard output, as an `.npz` file.
    Stdout,
}

impl Arrays {
    /// Checks the place; `-` is standard output.
    pub fn check(path: &Path, inputs: &[&Path]) -> Result<Arrays> {
        if path.as_os_str() == "-" {
            return Ok(Arrays::Stdout);
        }
        let output = Output::check(path, inputs)?;
        Ok(match path.extension() {
            Some(ending) if ending == "npy" => Arrays::Npy(output),
            _ => Arrays::Npz(output),
        })
    }

    /// Whether it is standard output, where nothing else may go then.
    pub fn is_stdout(&self) -> bool {
        matches!(self, Arrays::Stdout)
    }

    /// Where they go.
    pub fn path(&self) -> &Path {
        match self {
            Arrays::Npz(output) | Arrays::Npy(output) => output.path(),
            Arrays::Stdout => Path::new("-"),
        }
    }

    /// Writes them.
    pub fn write(&self, arrays: &[(String, nnc_ir::Tensor)]) -> Result<()> {
        match (self, arrays) {
            (Arrays::Npy(output), [(_, only)]) => output.write(&nnc::npz::npy(only)),
            (Arrays::Npy(output), _) => {
                let names: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
                bail!(
                    "\"{}\" holds one array, but the model has {} outputs ({}); name a file that ends in .npz",
                    output.path().display(),
                    arrays.len(),
                    names.join(", ")
                )
            }
            (Arrays::Npz(output), _) => output.write(&as_npz(arrays)?),
            // Not through the stream for text, which takes out what terminals would not understand.
            (Arrays::Stdout, _) => {
                let mut stdout = io::stdout().lock();
                Ok(stdout.write_all(&as_npz(arrays)?).and_then(|()| stdout.flush())?)
            }
        }
    }
}

fn as_npz(arrays: &[(String, nnc_ir::Tensor)]) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    nnc::npz::write_npz(&mut bytes, arrays)?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_written_to_and_stays_one() {
        use std::os::unix::fs::FileTypeExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read(path).unwrap()
        });
        Output::check(&path, &[]).unwrap().write(b"program").unwrap();
        assert_eq!(reader.join().unwrap(), b"program");
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_stays_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.so");
        fs::write(&path, "old").unwrap();
        let output = Output::check(&path, &[]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        output.write(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_read_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.onnx");
        fs::write(&path, "model").unwrap();
        let error = Output::check(&dir.path().join("./a.onnx"), &[&path]).unwrap_err();
        assert!(error.to_string().contains("not written over"), "{error}");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Output::check(&dir.path().join("none/a.so"), &[]).unwrap_err();
        assert!(error.to_string().contains("does not exist; create it first"), "{error}");
    }
}
