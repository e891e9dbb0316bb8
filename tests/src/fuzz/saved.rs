//! Cases that have failed once: files of `filetests/fuzz`, which must hold ever after.

use std::path::{Path, PathBuf};

/// The folder.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests/fuzz")
}

/// All of them, by name.
///
/// # Errors
///
/// The folder cannot be read.
pub fn files() -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "nnir" || ending == "onnx") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Keeps a case; the file's name.
///
/// # Errors
///
/// The file cannot be written.
pub fn save(name: &str, bytes: &[u8]) -> std::io::Result<PathBuf> {
    let path = folder().join(name);
    std::fs::write(&path, bytes)?;
    Ok(path)
}
