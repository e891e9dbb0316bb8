//! Memory straight from the operating system: aligned to pages, zero at first, given back on drop.
//!
//! Arenas, scratch, constants and code all live in [`Pages`]. Anonymous mappings, not mapped files: a mapped file that
//! another process shortens kills the reader, and memory that was read stays as it was verified. Pages that nobody
//! touches cost nothing. A [`Block`] may also be a mapped file, where a host asks for that and vouches for the file, or part of
//! the host itself.

mod system;

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;

use self::system::Rights;
use crate::guard::{self, Side};

/// The alignment that every block of memory here has at least.
pub const PAGE: usize = 4096;

/// Where the operating system has larger pages, too, this is their size. Large blocks ask for them: they are filled with
/// fewer faults and read with fewer misses of the address cache.
#[cfg(all(target_os = "linux", not(miri)))]
const HUGE_PAGE: usize = 2 << 20;

/// The operating system gave no memory.
#[derive(Debug, thiserror::Error)]
#[error("cannot get {bytes} bytes of memory for {purpose}; free some memory or use a smaller model")]
pub struct MemoryError {
    /// What the memory was for.
    pub purpose: &'static str,
    /// How much was asked for.
    pub bytes: u64,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

/// Gives what the heap has free back to the operating system. Worth its time when much was done that is over, as compiling is:
/// each thread that did it leaves free memory between what is still alive. Does nothing where the C library has no such call.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    // SAFETY: it touches only memory that nobody has been given, and locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A writable block of zero-initialised memory, aligned to [`PAGE`]; never executable.
#[derive(Debug)]
pub struct Pages {
    base: NonNull<u8>,
    len: usize,
    /// The first page of the mapping, and its size.
    start: NonNull<u8>,
    mapped: usize,
}

// SAFETY: `Pages` owns its mapping alone, as a `Box<[u8]>` owns its memory.
unsafe impl Send for Pages {}
// SAFETY: a shared `Pages` gives only shared slices.
unsafe impl Sync for Pages {}

impl Pages {
    /// `bytes` zero bytes; `purpose` goes into the error.
    pub fn zeroed(bytes: u64, purpose: &'static str) -> Result<Pages, MemoryError> {
        let fail = |source| MemoryError { purpose, bytes, source };
        let too_much = || fail(io::ErrorKind::OutOfMemory.into());
        let len = usize::try_from(bytes).map_err(|_| too_much())?;
        let mapped = len.max(1).checked_next_multiple_of(PAGE).ok_or_else(too_much)?;
        if isize::try_from(mapped).is_err() {
            return Err(too_much());
        }
        let base = system::reserve(mapped).map_err(fail)?;
        #[cfg(all(target_os = "linux", not(miri)))]
        if mapped >= 2 * HUGE_PAGE {
            // SAFETY: the range is our mapping, and the advice changes nothing that a program can see. Where there are
            // no huge pages it is refused, and nothing is lost.
            unsafe { libc::madvise(base.as_ptr().cast(), mapped, libc::MADV_HUGEPAGE) };
        }
        Ok(Pages { base, len, start: base, mapped })
    }

    /// `bytes` zero bytes for a buffer that layer functions get, aligned to `align`, at most [`PAGE`]. With guard pages where the
    /// user asks for them; see [`crate::guard`].
    pub(crate) fn buffer(bytes: u64, align: usize, purpose: &'static str) -> Result<Pages, MemoryError> {
        match guard::side() {
            None => Pages::zeroed(bytes, purpose),
            Some(side) => Pages::guarded(bytes, align, side, purpose),
        }
    }

    /// `bytes` zero bytes between two pages that fault when they are touched. They end as close before the page behind them as
    /// `align` lets them, or begin right behind the page before them.
    pub(crate) fn guarded(
        bytes: u64,
        align: usize,
        side: Side,
        purpose: &'static str,
    ) -> Result<Pages, MemoryError> {
        let fail = |source| MemoryError { purpose, bytes, source };
        let around = 2 * system_page() as u64;
        let room = bytes.checked_next_multiple_of(system_page() as u64).and_then(|b| b.checked_add(around));
        let room = room.ok_or_else(|| fail(io::ErrorKind::OutOfMemory.into()))?;
        let mut pages = Pages::zeroed(room, purpose).map_err(|error| fail(error.source))?;
        let page = system_page();
        pages.len = bytes as usize;
        for guard in [0..page, pages.mapped - page..pages.mapped] {
            pages.protect(guard, Rights::Nothing).map_err(fail)?;
        }
        let offset = match side {
            Side::Before => page,
            Side::After => (pages.mapped - page - pages.len) / align * align,
        };
        // SAFETY: the offset lies inside the mapping: there is a page in front of the bytes and one behind them.
        pages.base = unsafe { pages.start.add(offset) };
        Ok(pages)
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8], purpose: &'static str) -> Result<Pages, MemoryError> {
        let mut pages = Pages::zeroed(bytes.len() as u64, purpose)?;
        pages.copy_from_slice(bytes);
        Ok(pages)
    }

    /// The first byte.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Makes all pages read only, whatever they are for.
    fn forbid_writing(&self, purpose: &'static str) -> Result<(), MemoryError> {
        let fail = |source| MemoryError { purpose, bytes: self.len as u64, source };
        self.protect(0..self.mapped, Rights::Read).map_err(fail)
    }

    /// Changes what may be done with the pages of `range`, which lies inside the mapping.
    fn protect(&self, range: Range<usize>, rights: Rights) -> io::Result<()> {
        if range.start > range.end || range.end > self.mapped {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Miri has no protection of pages, and needs none: it sees each access to memory.
        if cfg!(miri) {
            return Ok(());
        }
        // SAFETY: the range is part of our mapping. The callers take the block by value and give out a type with
        // fewer rights, so that no reference outlives a right that it needs.
        unsafe { system::protect(self.start.as_ptr().add(range.start), range.len(), rights) }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `base` starts `len` mapped, initialised bytes, and we hold the block at least shared.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes us the only one.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody borrows it any more.
        unsafe { system::release(self.start.as_ptr(), self.mapped) };
    }
}

/// Memory that can no longer be written to, so that a layer function that stores to it faults where it does.
#[derive(Debug)]
pub struct Block(Memory);

#[derive(Debug)]
enum Memory {
    /// Without the right to write.
    Pages(Pages),
    /// Of the host: read-only data of the program or library that it is.
    Host(&'static [u8]),
}

impl Block {
    /// Takes the right to write.
    pub fn new(pages: Pages) -> Result<Block, MemoryError> {
        pages.forbid_writing("constants")?;
        Ok(Block(Memory::Pages(pages)))
    }

    /// Memory of the host, as it lies there.
    pub(crate) fn of_host(bytes: &'static [u8]) -> Block {
        Block(Memory::Host(bytes))
    }

    /// The first bytes of a file, which are read when they are touched, and shared with whoever else has mapped it.
    ///
    /// # Safety
    ///
    /// Nobody changes or shortens the file while the block lives.
    pub(crate) unsafe fn of_file(
        file: &File,
        bytes: usize,
        purpose: &'static str,
    ) -> Result<Block, MemoryError> {
        let fail = |source| MemoryError { purpose, bytes: bytes as u64, source };
        // SAFETY: the caller's promise.
        let base = unsafe { system::map_file(file, bytes.max(1)) }.map_err(fail)?;
        let mapped = bytes.max(1).next_multiple_of(system_page());
        Ok(Block(Memory::Pages(Pages { base, len: bytes, start: base, mapped })))
    }

    /// Lets the pages of `text` be executed; nothing else lies on its last page.
    fn allow_executing(&self, text: Range<usize>) -> Result<(), MemoryError> {
        let fail = |source| MemoryError { purpose: "code", bytes: self.len() as u64, source };
        match &self.0 {
            Memory::Pages(_) if text.is_empty() => Ok(()),
            Memory::Pages(pages) => pages.protect(text, Rights::Execute).map_err(fail),
            Memory::Host(_) => Err(fail(io::ErrorKind::PermissionDenied.into())),
        }
    }

    /// Bytes of memory that it takes; those of the host count as the host's.
    pub fn mapped(&self) -> u64 {
        match &self.0 {
            Memory::Pages(pages) => pages.mapped as u64,
            Memory::Host(_) => 0,
        }
    }

    /// The first byte. Nobody writes to it.
    pub(crate) fn base(&self) -> *mut u8 {
        match &self.0 {
            Memory::Pages(pages) => pages.base(),
            Memory::Host(bytes) => bytes.as_ptr().cast_mut(),
        }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Pages(pages) => pages,
            Memory::Host(bytes) => bytes,
        }
    }
}

/// A program as it lies in a file, in memory: code that may run and may no longer be written, and data that may only be
/// read.
#[derive(Clone, Debug)]
pub(crate) struct LoadedFile(Arc<Block>);

impl LoadedFile {
    /// Takes the right to write from all pages and gives those of `text` the right to execute. `text` begins at a
    /// page of its own and nothing else lies on its last page.
    pub(crate) fn new(pages: Pages, text: Range<usize>) -> Result<LoadedFile, MemoryError> {
        pages.forbid_writing("code")?;
        LoadedFile::in_block(Block(Memory::Pages(pages)), text)
    }

    /// The same for what cannot be written to anyway.
    pub(crate) fn in_block(block: Block, text: Range<usize>) -> Result<LoadedFile, MemoryError> {
        block.allow_executing(text)?;
        Ok(LoadedFile(Arc::new(block)))
    }

    /// The first byte.
    pub(crate) fn base(&self) -> *mut u8 {
        self.0.base()
    }

    /// All of it.
    pub(crate) fn block(&self) -> &Arc<Block> {
        &self.0
    }
}

/// The size of the pages whose protection the operating system manages.
pub(crate) fn system_page() -> usize {
    system::page().unwrap_or(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_aligned_and_writable() {
        let mut pages = Pages::zeroed(PAGE as u64 + 1, "a test").unwrap();
        assert_eq!(pages.len(), PAGE + 1);
        assert_eq!(pages.base() as usize % PAGE, 0);
        assert!(pages.iter().all(|&b| b == 0));
        pages[PAGE] = 7;
        assert_eq!(pages[PAGE], 7);
    }

    #[test]
    fn an_empty_block_has_a_valid_base() {
        let pages = Pages::zeroed(0, "a test").unwrap();
        assert!(pages.is_empty());
        assert_eq!(pages.base() as usize % PAGE, 0);
    }

    #[test]
    fn guarded_bytes_touch_a_page_that_faults() {
        for (bytes, align) in
            [(0, 1), (1, 1), (12, 4), (100, 64), (PAGE as u64, 64), (3 * PAGE as u64 + 5, 1)]
        {
            let page = system_page();
            let after = Pages::guarded(bytes, align, Side::After, "a test").unwrap();
            let end = after.base() as usize + after.len();
            assert!(end.next_multiple_of(align).is_multiple_of(page), "{bytes} bytes, aligned to {align}");
            let before = Pages::guarded(bytes, align, Side::Before, "a test").unwrap();
            assert!((before.base() as usize).is_multiple_of(page));
            for mut pages in [after, before] {
                assert!((pages.base() as usize).is_multiple_of(align));
                assert_eq!(pages.len() as u64, bytes);
                pages.fill(7);
                let (start, base) = (pages.start.as_ptr() as usize, pages.base() as usize);
                assert!(base >= start + page && base + pages.len() <= start + pages.mapped - page);
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri itself ends where there is no memory")]
    fn an_impossible_size_is_an_error() {
        for bytes in [u64::MAX, u64::MAX - 4096, i64::MAX as u64, 1 << 62] {
            let error = Pages::zeroed(bytes, "the arena").unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("cannot get {bytes} bytes of memory for the arena"))
            );
        }
    }
}
