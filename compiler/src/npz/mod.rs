//! NumPy's files: `.npy`, one array, and `.npz`, a zip of them, each member named after its array.
//!
//! ```text
//!   case.npz ─┬─ data.npy          ──▶  ("data", f32[1x3x224x224])
//!             └─ output:logits.npy ──▶  ("output:logits", f32[1x1000])
//! ```
//!
//! Files come from anywhere, so sizes are checked against the bytes that are there before memory is taken.

mod npy;

use std::io::{Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};

use nnc_ir::Tensor;
use zip::result::ZipError;
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, ZipArchive};

pub use npy::NpyError;

/// Why a file is not an array or a set of arrays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written.
    #[error("cannot read \"{}\"", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not a zip archive, or is damaged.
    #[error("\"{}\" is not an .npz file; write one with numpy.savez", path.display())]
    Archive {
        /// Which file.
        path: PathBuf,
        /// What is wrong with the archive.
        source: ZipError,
    },
    /// A member of an archive can't be unpacked.
    #[error("\"{}\": cannot unpack \"{member}\"", path.display())]
    Unpack {
        /// Which file.
        path: PathBuf,
        /// Which member.
        member: String,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// An array is damaged, or of a kind that nnc has no tensor for.
    #[error("\"{}\": array \"{name}\"", path.display())]
    Array {
        /// Which file.
        path: PathBuf,
        /// Which array; the file's own name for `.npy`.
        name: String,
        /// What is wrong with it.
        source: NpyError,
    },
}

/// Reads one array from an `.npy` file.
pub fn read_npy(path: &Path) -> Result<Tensor, Error> {
    let bytes = read_file(path)?;
    npy::parse(&bytes).map_err(|source| Error::Array {
        path: path.to_owned(),
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        source,
    })
}

/// Reads all arrays of an `.npz` file, in the order in which they stand there. Members that are not `.npy` are
/// left out, as NumPy does.
pub fn read_npz(path: &Path) -> Result<Vec<(String, Tensor)>, Error> {
    let archive = |source| Error::Archive { path: path.to_owned(), source };
    let mut zip = ZipArchive::new(Cursor::new(read_file(path)?)).map_err(archive)?;
    let mut arrays = Vec::new();
    for index in 0..zip.len() {
        let mut member = zip.by_index(index).map_err(archive)?;
        let file = member.name().map_err(archive)?.into_owned();
        let Some(name) = file.strip_suffix(".npy").map(str::to_owned) else {
            continue;
        };
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).map_err(|source| Error::Unpack {
            path: path.to_owned(),
            member: file.clone(),
            source,
        })?;
        let tensor = npy::parse(&bytes).map_err(|source| Error::Array {
            path: path.to_owned(),
            name: name.clone(),
            source,
        })?;
        arrays.push((name, tensor));
    }
    Ok(arrays)
}

/// An array as the bytes of an `.npy` file.
pub fn npy(array: &Tensor) -> Vec<u8> {
    let mut bytes = npy::header(array);
    bytes.extend_from_slice(array.bytes());
    bytes
}

/// Writes arrays as an `.npz` file, uncompressed and without times, so that equal arrays give equal bytes.
pub fn write_npz<W: Write + Seek>(to: W, arrays: &[(String, Tensor)]) -> std::io::Result<()> {
    let mut zip = ZipWriter::new(to);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    for (name, tensor) in arrays {
        let header = npy::header(tensor);
        let big = (header.len() + tensor.bytes().len()) as u64 > u64::from(u32::MAX);
        zip.start_file(format!("{name}.npy"), options.large_file(big))?;
        zip.write_all(&header)?;
        zip.write_all(tensor.bytes())?;
    }
    zip.finish()?;
    Ok(())
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_written_as_npz_are_read_back_in_order() {
        let arrays = vec![
            ("z".to_string(), Tensor::new([2, 2], &[1.0f32, -0.0, f32::INFINITY, 3.5]).unwrap()),
            ("output:a/b".to_string(), Tensor::new([3], &[i64::MIN, 0, 7]).unwrap()),
            ("flag".to_string(), Tensor::bools([1, 0], &[]).unwrap()),
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("case.npz");
        write_npz(std::fs::File::create(&path).unwrap(), &arrays).unwrap();
        assert_eq!(read_npz(&path).unwrap(), arrays);
    }

    #[test]
    fn equal_arrays_give_equal_bytes() {
        let arrays = vec![("x".to_string(), Tensor::new([1], &[1u8]).unwrap())];
        let (mut a, mut b) = (Cursor::new(Vec::new()), Cursor::new(Vec::new()));
        write_npz(&mut a, &arrays).unwrap();
        write_npz(&mut b, &arrays).unwrap();
        assert_eq!(a.into_inner(), b.into_inner());
    }

    #[test]
    fn a_text_file_is_refused_as_archive_and_as_array() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("case.npz");
        std::fs::write(&path, "not a zip").unwrap();
        assert!(matches!(read_npz(&path), Err(Error::Archive { .. })));
        assert!(matches!(read_npy(&path), Err(Error::Array { source: NpyError::Magic, .. })));
    }
}
