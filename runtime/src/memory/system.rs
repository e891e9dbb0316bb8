//! What the operating system does about memory, in the few calls that this crate needs.
//!
//! | | Linux, macOS | Windows |
//! |---|---|---|
//! | anonymous memory | `mmap` | `VirtualAlloc` |
//! | rights of pages | `mprotect` | `VirtualProtect` |
//! | a file as memory | `mmap` | none: an error |
//!
//! Artefacts are written for Linux and run there. The rest is here so that hosts which also build for other systems do build.

/// What may be done with pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    Nothing,
    Read,
    Execute,
}

#[cfg(unix)]
pub(super) use unix::{map_file, page, protect, release, reserve};
#[cfg(windows)]
pub(super) use windows::{map_file, page, protect, release, reserve};

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::ptr::NonNull;

    use super::Rights;

    /// So many bytes of zeros, a multiple of the size of a page, that may be read and written.
    pub(crate) fn reserve(bytes: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: an anonymous mapping at an address that the kernel chooses touches no memory of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        mapped(base)
    }

    /// The first bytes of a file, to be read.
    ///
    /// # Safety
    ///
    /// Nobody changes or shortens the file while they are mapped.
    pub(crate) unsafe fn map_file(file: &File, bytes: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: a mapping at an address that the kernel chooses touches no memory of ours.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
        };
        mapped(base)
    }

    fn mapped(base: *mut libc::c_void) -> io::Result<NonNull<u8>> {
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(base.cast::<u8>()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Changes what may be done with pages.
    ///
    /// # Safety
    ///
    /// They are part of a mapping of the caller's, and no reference outlives a right that it needs.
    pub(crate) unsafe fn protect(start: *mut u8, bytes: usize, rights: Rights) -> io::Result<()> {
        let rights = match rights {
            Rights::Nothing => libc::PROT_NONE,
            Rights::Read => libc::PROT_READ,
            Rights::Execute => libc::PROT_READ | libc::PROT_EXEC,
        };
        // SAFETY: the caller's promise.
        let failed = unsafe { libc::mprotect(start.cast(), bytes, rights) != 0 };
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Gives a mapping back.
    ///
    /// # Safety
    ///
    /// It is the caller's, of this size, and nobody borrows it any more.
    pub(crate) unsafe fn release(start: *mut u8, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(start.cast(), bytes) };
    }

    /// The size of a page.
    pub(crate) fn page() -> Option<usize> {
        // SAFETY: asks for a number.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(bytes).ok()
    }
}

#[cfg(windows)]
mod windows {
    use std::ffi::c_void;
    use std::fs::File;
    use std::io;
    use std::ptr::NonNull;

    use super::Rights;

    const MEM_COMMIT_AND_RESERVE: u32 = 0x3000;
    const MEM_RELEASE: u32 = 0x8000;
    const PAGE_NOACCESS: u32 = 0x01;
    const PAGE_READONLY: u32 = 0x02;
    const PAGE_READWRITE: u32 = 0x04;
    const PAGE_EXECUTE_READ: u32 = 0x20;

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn VirtualAlloc(address: *mut c_void, bytes: usize, kind: u32, protection: u32) -> *mut c_void;
        fn VirtualProtect(address: *mut c_void, bytes: usize, protection: u32, before: *mut u32) -> i32;
        fn VirtualFree(address: *mut c_void, bytes: usize, kind: u32) -> i32;
    }

    /// So many bytes of zeros, a multiple of the size of a page, that may be read and written.
    pub(crate) fn reserve(bytes: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: memory at an address that the system chooses is none of ours.
        let base =
            unsafe { VirtualAlloc(std::ptr::null_mut(), bytes, MEM_COMMIT_AND_RESERVE, PAGE_READWRITE) };
        NonNull::new(base.cast::<u8>()).ok_or_else(io::Error::last_os_error)
    }

    /// Files are not mapped here.
    ///
    /// # Safety
    ///
    /// None is needed.
    pub(crate) unsafe fn map_file(_: &File, _: usize) -> io::Result<NonNull<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Changes what may be done with pages.
    ///
    /// # Safety
    ///
    /// They are part of a mapping of the caller's, and no reference outlives a right that it needs.
    pub(crate) unsafe fn protect(start: *mut u8, bytes: usize, rights: Rights) -> io::Result<()> {
        let rights = match rights {
            Rights::Nothing => PAGE_NOACCESS,
            Rights::Read => PAGE_READONLY,
            Rights::Execute => PAGE_EXECUTE_READ,
        };
        let mut before = 0;
        // SAFETY: the caller's promise; the old rights are written to a variable of ours.
        let done = unsafe { VirtualProtect(start.cast(), bytes, rights, &mut before) != 0 };
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Gives memory back, all that was reserved at once.
    ///
    /// # Safety
    ///
    /// It is the caller's, and nobody borrows it any more.
    pub(crate) unsafe fn release(start: *mut u8, _: usize) {
        // SAFETY: the caller's promise.
        unsafe { VirtualFree(start.cast(), 0, MEM_RELEASE) };
    }

    /// The size of a page: the same on all processors that Windows runs on.
    pub(crate) fn page() -> Option<usize> {
        Some(4096)
    }
}
