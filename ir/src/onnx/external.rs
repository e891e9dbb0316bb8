//! Tensor data in files beside the model.
//!
//! A model names such files itself, so a hostile one could name any. Only files below the model's own folder are
//! read, with symbolic links followed first, and only the bytes that the file has. A hard link is another name of the
//! same file and looks like any other: who can make one in the model's folder can read the file already.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::source::SourceFile;

/// The files of one model.
pub(super) struct External {
    folder: Option<PathBuf>,
    open: BTreeMap<PathBuf, Arc<SourceFile>>,
}

/// Where the data of a tensor are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Location {
    path: String,
    offset: u64,
    length: Option<u64>,
}

impl Location {
    /// Reads the entries of a tensor's `external_data`.
    pub(super) fn new<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Location, String> {
        let mut location = Location::default();
        let number = |key: &str, value: &str| {
            value.parse::<u64>().map_err(|_| format!("external data have {key} \"{value}\", not a number"))
        };
        for (key, value) in entries {
            match key {
                "location" => location.path = value.to_string(),
                "offset" => location.offset = number(key, value)?,
                "length" => location.length = Some(number(key, value)?),
                // A checksum is informative; other keys belong to whoever wrote the model.
                _ => {}
            }
        }
        if location.path.is_empty() {
            return Err("external data have no location".into());
        }
        Ok(location)
    }
}

impl External {
    /// The files below a folder; `None` for a model that came from memory.
    pub(super) fn new(folder: Option<&Path>) -> External {
        External { folder: folder.map(Path::to_path_buf), open: BTreeMap::new() }
    }

    /// Where the data of a tensor that takes `bytes` bytes begin, and in which file.
    pub(super) fn find(
        &mut self,
        location: &Location,
        bytes: usize,
    ) -> Result<(Arc<SourceFile>, u64), String> {
        let name = &location.path;
        let file = self.file(name)?;
        if let Some(length) = location.length
            && length != bytes as u64
        {
            return Err(format!("its type needs {bytes} bytes, its external data have {length}"));
        }
        let end = location.offset.checked_add(bytes as u64).filter(|end| *end <= file.len());
        if end.is_none() {
            return Err(format!(
                "needs {bytes} bytes from offset {} of \"{name}\", which is {} bytes long",
                location.offset,
                file.len()
            ));
        }
        Ok((file, location.offset))
    }

    fn file(&mut self, name: &str) -> Result<Arc<SourceFile>, String> {
        let Some(folder) = &self.folder else {
            return Err(format!("its data are in the file \"{name}\", but the model came without a folder"));
        };
        let relative = Path::new(name);
        let inside = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let outside =
            || format!("external data \"{name}\" are outside the model's folder; move them beside the model");
        if !inside || name.contains('\\') {
            return Err(outside());
        }
        let failed = |e: std::io::Error| format!("external data \"{name}\" cannot be read: {e}");
        let root = folder.canonicalize().map_err(failed)?;
        let path = root.join(relative).canonicalize().map_err(failed)?;
        if !path.starts_with(&root) {
            return Err(outside());
        }
        if let Some(file) = self.open.get(&path) {
            return Ok(Arc::clone(file));
        }
        // Asked before opening: opening a pipe would wait for its writer.
        if !path.metadata().map_err(failed)?.is_file() {
            return Err(format!("external data \"{name}\" are not in a regular file"));
        }
        let file =
            File::open(&path).and_then(|file| SourceFile::new(name.to_string(), file)).map_err(failed)?;
        let file = Arc::new(file);
        self.open.insert(path, Arc::clone(&file));
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(external: &mut External, location: &Location, bytes: usize) -> Result<Vec<u8>, String> {
        let (file, at) = external.find(location, bytes)?;
        let mut data = vec![0; bytes];
        file.read(at, &mut data).map_err(|e| e.to_string())?;
        Ok(data)
    }

    fn location(path: &str, offset: u64, length: Option<u64>) -> Location {
        Location { path: path.into(), offset, length }
    }

    #[test]
    fn data_are_read_from_their_offset() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/w.bin"), [1, 2, 3, 4, 5]).unwrap();
        let mut external = External::new(Some(folder.path()));
        assert_eq!(read(&mut external, &location("sub/w.bin", 1, Some(3)), 3).unwrap(), [2, 3, 4]);
        assert_eq!(read(&mut external, &location("./sub/w.bin", 3, None), 2).unwrap(), [4, 5]);
    }

    #[test]
    fn data_past_the_end_of_their_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("w.bin"), [0; 5]).unwrap();
        let mut external = External::new(Some(folder.path()));
        let error = read(&mut external, &location("w.bin", 4, None), 2).unwrap_err();
        assert_eq!(error, "needs 2 bytes from offset 4 of \"w.bin\", which is 5 bytes long");
        assert!(read(&mut external, &location("w.bin", u64::MAX, None), 2).is_err());
        let error = read(&mut external, &location("w.bin", 0, Some(4)), 2).unwrap_err();
        assert_eq!(error, "its type needs 2 bytes, its external data have 4");
    }

    #[test]
    fn files_outside_the_folder_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("model");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(parent.path().join("secret"), [7; 4]).unwrap();
        let mut external = External::new(Some(&folder));
        let absolute = parent.path().join("secret");
        for path in ["../secret", "a/../../secret", absolute.to_str().unwrap(), "..\\secret"] {
            let error = read(&mut external, &location(path, 0, None), 4).unwrap_err();
            assert!(error.contains("outside the model's folder"), "{path}: {error}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(parent.path().join("secret"), folder.join("link")).unwrap();
            let error = read(&mut external, &location("link", 0, None), 4).unwrap_err();
            assert!(error.contains("outside the model's folder"), "{error}");
        }
        let error = read(&mut external, &location(".", 0, None), 4).unwrap_err();
        assert!(error.contains("not in a regular file"), "{error}");
    }

    #[test]
    fn a_model_from_memory_has_no_external_data() {
        let error = read(&mut External::new(None), &location("w.bin", 0, None), 4).unwrap_err();
        assert_eq!(error, "its data are in the file \"w.bin\", but the model came without a folder");
    }

    #[test]
    fn entries_that_are_no_numbers_are_refused() {
        let parse = |entries: &[(&'static str, &'static str)]| Location::new(entries.iter().copied());
        assert_eq!(parse(&[("location", "w"), ("offset", "8")]).unwrap(), location("w", 8, None));
        assert_eq!(
            parse(&[("location", "w"), ("offset", "-8")]).unwrap_err(),
            "external data have offset \"-8\", not a number"
        );
        assert_eq!(parse(&[]).unwrap_err(), "external data have no location");
    }
}
