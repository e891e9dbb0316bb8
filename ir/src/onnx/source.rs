//! What a model is read from: bytes in memory, or a file, of which a piece at a time is.
//!
//! ```text
//!   file ──window──▶ walks over the structure (wire, split)      a few KiB at a time
//!        ──read────▶ weights                                     when a graph is built, or packed
//! ```
//!
//! A file is read, never mapped: a mapped file that another process shortens kills its reader. It stays open instead, and one
//! that has been written to meanwhile is refused.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::error::Fault;
use crate::block::{Block, Store};

/// Where a model is.
#[derive(Clone, Debug)]
pub(super) enum ModelSource {
    /// In memory.
    Memory(Arc<Block>),
    /// In a file.
    File(Arc<SourceFile>),
}

/// A regular file that is read piece by piece.
#[derive(Debug)]
pub(super) struct SourceFile {
    name: String,
    file: Mutex<File>,
    len: u64,
    modified: Option<SystemTime>,
    /// The first failure to read what somebody looked at.
    failed: Mutex<Option<io::Error>>,
}

impl SourceFile {
    /// A file as it is now; `name` is for errors.
    pub(super) fn new(name: String, file: File) -> io::Result<SourceFile> {
        let metadata = file.metadata()?;
        let modified = metadata.modified().ok();
        let (file, failed) = (Mutex::new(file), Mutex::new(None));
        Ok(SourceFile { name, file, len: metadata.len(), modified, failed })
    }

    /// Its length when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads the bytes from `at` on.
    pub(super) fn read(&self, at: u64, to: &mut [u8]) -> Result<(), Fault> {
        self.try_read(at, to).map_err(|e| self.fault(&e))
    }

    fn try_read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        // A reader that panicked has left the file at some place; here each reader goes to its own.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(to)
    }

    fn fault(&self, error: &io::Error) -> Fault {
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::UnexpectedEof, _) => self.changed(),
            (_, Some(code)) => Fault::Io(io::Error::from_raw_os_error(code)),
            (kind, None) => Fault::Io(kind.into()),
        }
    }

    /// Refuses a file that could not be read or has been written to since it was opened. To be asked after reading.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if let Some(error) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Err(self.fault(error));
        }
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let metadata = file.metadata().map_err(Fault::Io)?;
        let same = metadata.len() == self.len && metadata.modified().ok() == self.modified;
        if same { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> Fault {
        Fault::Changed { file: self.name.clone() }
    }
}

impl Store for SourceFile {
    fn read_or_zero(&self, at: u64, to: &mut [u8]) {
        if let Err(error) = self.try_read(at, to) {
            to.fill(0);
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}

/// Bytes that can be looked at anywhere.
pub(super) trait Bytes {
    /// How many there are.
    fn len(&self) -> usize;

    /// Up to `count` bytes from `at` on; fewer at the end.
    fn peek(&mut self, at: usize, count: usize) -> &[u8];

    /// Appends the bytes at a place.
    fn append(&mut self, place: Range<usize>, to: &mut Vec<u8>) {
        let mut at = place.start;
        while at < place.end {
            let piece = self.peek(at, WINDOW.min(place.end - at));
            if piece.is_empty() {
                return;
            }
            to.extend_from_slice(piece);
            at += piece.len();
        }
    }
}

impl Bytes for &[u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn peek(&mut self, at: usize, count: usize) -> &[u8] {
        let rest = self.get(at..).unwrap_or_default();
        rest.get(..count).unwrap_or(rest)
    }
}

/// Bytes of a file that are in memory at a time.
const WINDOW: usize = 16 << 10;

/// A file, seen through a window that moves to where somebody looks.
pub(super) struct FileWindow<'f> {
    file: &'f SourceFile,
    len: usize,
    start: usize,
    bytes: Vec<u8>,
    /// What the first reading that failed said. There are no bytes to be seen from there on.
    failed: Option<Fault>,
}

impl<'f> FileWindow<'f> {
    /// A window over a file, of which it sees as much as memory can address.
    pub(super) fn new(file: &'f SourceFile) -> FileWindow<'f> {
        let len = usize::try_from(file.len()).unwrap_or(usize::MAX);
        FileWindow { file, len, start: 0, bytes: Vec::new(), failed: None }
    }

    /// Whether everything that was looked at could be read.
    pub(super) fn finish(self) -> Result<(), Fault> {
        self.failed.map_or(Ok(()), Err)
    }
}

impl Bytes for FileWindow<'_> {
    fn len(&self) -> usize {
        self.len
    }

    fn peek(&mut self, at: usize, count: usize) -> &[u8] {
        let count = count.min(self.len.saturating_sub(at));
        if count == 0 {
            return &[];
        }
        let inside =
            |start: usize, len: usize| at >= start && at - start <= len && count <= len - (at - start);
        if !inside(self.start, self.bytes.len()) && self.failed.is_none() {
            self.start = at;
            self.bytes.resize(count.max(WINDOW).min(self.len - at), 0);
            self.failed = self.file.read(at as u64, &mut self.bytes).err();
        }
        if self.failed.is_some() {
            return &[];
        }
        self.bytes.get(at - self.start..).and_then(|rest| rest.get(..count)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> (tempfile::NamedTempFile, SourceFile) {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(bytes).unwrap();
        let file = SourceFile::new("a file".into(), named.reopen().unwrap()).unwrap();
        (named, file)
    }

    #[test]
    fn a_window_shows_what_the_file_holds_wherever_one_looks() {
        let bytes: Vec<u8> = (0..3 * WINDOW + 17).map(|i| (i % 251) as u8).collect();
        let (_named, file) = file(&bytes);
        let mut window = FileWindow::new(&file);
        for at in
            [0, 1, WINDOW - 1, WINDOW - 5, 2 * WINDOW + 3, 5, bytes.len() - 3, bytes.len(), bytes.len() + 9]
        {
            for count in [0, 1, 10, WINDOW, 2 * WINDOW] {
                assert_eq!(window.peek(at, count), (&bytes[..]).peek(at, count), "{count} from {at} on");
            }
        }
        let mut copy = vec![42];
        window.append(3..2 * WINDOW + 9, &mut copy);
        assert_eq!(copy[1..], bytes[3..2 * WINDOW + 9]);
        window.finish().unwrap();
    }

    #[test]
    fn a_file_that_was_cut_short_is_refused() {
        let (named, file) = file(&[7; 100]);
        named.as_file().set_len(50).unwrap();
        let changed = |fault| matches!(fault, Err(Fault::Changed { file }) if file == "a file");
        assert!(changed(file.read(40, &mut [0; 20])));
        let mut window = FileWindow::new(&file);
        assert_eq!(window.peek(0, 10), []);
        assert!(changed(window.finish()));
        assert!(changed(file.check()));
        let mut bytes = [1; 20];
        file.read_or_zero(40, &mut bytes);
        assert_eq!(bytes, [0; 20]);
        named.as_file().set_len(100).unwrap();
        assert!(changed(file.check()), "what could not be read then is not there now");
    }

    #[test]
    fn a_file_that_was_written_to_is_refused() {
        let (mut named, file) = file(&[7; 100]);
        file.check().unwrap();
        named.write_all(&[8]).unwrap();
        assert!(matches!(file.check(), Err(Fault::Changed { .. })));
    }
}
