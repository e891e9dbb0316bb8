//! Matrix registers of x86-64: whether the processor has them, and the operating system's leave to use them.
//!
//! ```text
//!   CPUID 7       what there is
//!   XCR0          the operating system would keep 8 KiB of them for each thread that uses them
//!   arch_prctl    it does so for this process from now on, if it may: asked once, for all threads
//! ```
//!
//! Without leave, the first instruction ends the process. With it, the frames of signals take 8 KiB more, so the kernel refuses it to
//! processes with an alternate signal stack that is too small for that.

/// Whether the processor has one of the features, and the operating system knows of it.
macro_rules! has_amx {
    ($feature:ident) => {
        crate::amx::has(crate::amx::$feature)
    };
}
pub(crate) use has_amx;

/// Bits of EDX of CPUID 7.
#[cfg(target_arch = "x86_64")]
pub(crate) const BF16: u32 = 1 << 22;
#[cfg(target_arch = "x86_64")]
pub(crate) const TILE: u32 = 1 << 24;
#[cfg(target_arch = "x86_64")]
pub(crate) const INT8: u32 = 1 << 25;

/// Whether CPUID tells of a feature, and the operating system keeps its state.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) fn has(feature: u32) -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    /// Of leaf 1: XGETBV may be asked.
    const OSXSAVE: u32 = 1 << 27;
    /// The configuration of matrix registers, and what is in them.
    const STATE: u64 = 0b11 << 17;

    #[target_feature(enable = "xsave")]
    fn kept() -> u64 {
        // SAFETY: the operating system has switched the instruction on, which the caller has looked at.
        unsafe { _xgetbv(0) }
    }
    let known = __cpuid(0).eax >= 7 && __cpuid(1).ecx & OSXSAVE != 0;
    // SAFETY: a processor whose operating system uses XSAVE has it.
    known && __cpuid_count(7, 0).edx & feature != 0 && unsafe { kept() } & STATE == STATE
}

/// Miri executes none of their instructions.
#[cfg(all(target_arch = "x86_64", miri))]
pub(crate) fn has(_: u32) -> bool {
    false
}

/// Asks for leave; true where it is given, or was before.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
pub(crate) fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call has numbers as arguments and touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

/// Other systems are not asked.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
pub(crate) fn permitted() -> bool {
    false
}
