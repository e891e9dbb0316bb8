//! The floating-point environment that generated code runs in.
//!
//! A host may have switched to another rounding, trapping exceptions, or another treatment of denormals. Results must not depend on
//! that, nor on which thread computes them, so every thread enters a run with the environment that the program asks for and
//! leaves it as it was, however it leaves.

use crate::abi::Denormals;

/// Holds a program's environment: round to nearest even, no exception traps, denormals as it wants them. The old one is back on
/// drop.
pub(crate) struct Environment {
    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
    saved: u64,
    /// The control register belongs to a thread.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Environment {
    /// Switches this thread.
    pub(crate) fn enter(denormals: Denormals) -> Environment {
        let (saved, wanted) = (control::read(), control::of(denormals));
        if saved != wanted {
            control::write(wanted);
        }
        Environment { saved, _not_send: std::marker::PhantomData }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        control::write(self.saved);
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod control {
    use std::arch::asm;

    use super::Denormals;

    pub(super) fn of(denormals: Denormals) -> u64 {
        u64::from(denormals.mxcsr())
    }

    pub(super) fn read() -> u64 {
        let mut mxcsr = 0_u32;
        // SAFETY: SSE is part of x86-64, and the instruction writes these four bytes.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags)) };
        u64::from(mxcsr)
    }

    pub(super) fn write(value: u64) {
        let mxcsr = value as u32;
        // SAFETY: the value is of `of` or of `read`, so no reserved bit is set. Only calls of generated code, which
        // expects that of `of`, happen between a write and the one that takes it back.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &mxcsr, options(nostack, preserves_flags)) };
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod control {
    use std::arch::asm;

    use super::Denormals;

    pub(super) fn of(denormals: Denormals) -> u64 {
        denormals.fpcr()
    }

    pub(super) fn read() -> u64 {
        let fpcr: u64;
        // SAFETY: reading the control register has no effect.
        unsafe { asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
        fpcr
    }

    pub(super) fn write(value: u64) {
        // SAFETY: the value is of `of` or of `read`. Only calls of generated code, which expects that of `of`,
        // happen between a write and the one that takes it back.
        unsafe { asm!("msr fpcr, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
}

// Miri knows no assembly, and has no such environment.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod control {
    use super::Denormals;

    pub(super) fn of(_denormals: Denormals) -> u64 {
        0
    }

    pub(super) fn read() -> u64 {
        0
    }

    pub(super) fn write(_value: u64) {}
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;

    /// Enters from `outside`; returns what holds inside, and afterwards.
    fn enter_from(outside: u64, denormals: Denormals) -> (u64, u64) {
        let before = control::read();
        control::write(outside);
        let region = Environment::enter(denormals);
        let inside = control::read();
        drop(region);
        let after = control::read();
        control::write(before);
        (inside, after)
    }

    #[test]
    fn a_run_has_its_programs_environment_and_gives_the_old_one_back() {
        let flush_and_round_down = 0x1f80 | 0x8040 | 0x2000;
        for outside in [0x1f80, 0x1f80 | 0x8040, flush_and_round_down] {
            assert_eq!(enter_from(outside, Denormals::Flush), (0x9fc0, outside));
            assert_eq!(enter_from(outside, Denormals::Keep), (0x1f80, outside));
        }
    }

    #[test]
    fn a_panic_gives_the_old_one_back_too() {
        let before = control::read();
        let caught = std::panic::catch_unwind(|| {
            let _region = Environment::enter(Denormals::Flush);
            panic!("on purpose");
        });
        assert!(caught.is_err());
        assert_eq!(control::read(), before);
    }
}
