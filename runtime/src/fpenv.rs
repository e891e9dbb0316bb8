//! The floating-point environment that generated code runs in.
//!
//! A host may have switched to flush-to-zero, another rounding, or trapping exceptions. Results must not depend on that,
//! nor on which thread computes them, so every thread enters a region with the default environment and leaves it as it was.

/// Holds the default environment: round to nearest even, denormals kept, no exception traps. The old one is back on drop.
pub(crate) struct DefaultEnvironment {
    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
    saved: u64,
    /// The control register belongs to a thread.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl DefaultEnvironment {
    /// Switches this thread to the default environment.
    pub(crate) fn enter() -> DefaultEnvironment {
        let saved = control::read();
        if saved != control::DEFAULT {
            control::write(control::DEFAULT);
        }
        DefaultEnvironment { saved, _not_send: std::marker::PhantomData }
    }
}

impl Drop for DefaultEnvironment {
    fn drop(&mut self) {
        control::write(self.saved);
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod control {
    use std::arch::asm;

    /// All six exceptions masked, their flags clear.
    pub(super) const DEFAULT: u64 = 0x1f80;

    pub(super) fn read() -> u64 {
        let mut mxcsr = 0_u32;
        // SAFETY: SSE is part of x86-64, and the instruction writes these four bytes.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags)) };
        u64::from(mxcsr)
    }

    pub(super) fn write(value: u64) {
        let mxcsr = value as u32;
        // SAFETY: the value is `DEFAULT` or came from `read`, so no reserved bit is set. Only calls of generated
        // code, which expects `DEFAULT`, happen between a write and the one that takes it back.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &mxcsr, options(nostack, preserves_flags)) };
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod control {
    use std::arch::asm;

    /// Round to nearest, no flush to zero, no traps.
    pub(super) const DEFAULT: u64 = 0;

    pub(super) fn read() -> u64 {
        let fpcr: u64;
        // SAFETY: reading the control register has no effect.
        unsafe { asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
        fpcr
    }

    pub(super) fn write(value: u64) {
        // SAFETY: the value is `DEFAULT` or came from `read`. Only calls of generated code, which expects
        // `DEFAULT`, happen between a write and the one that takes it back.
        unsafe { asm!("msr fpcr, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
}

// Miri knows no assembly, and has no such environment.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod control {
    pub(super) const DEFAULT: u64 = 0;

    pub(super) fn read() -> u64 {
        DEFAULT
    }

    pub(super) fn write(_value: u64) {}
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_the_default_environment_and_gives_the_old_one_back() {
        let before = control::read();
        let flush_and_round_down = control::DEFAULT | 0x8040 | 0x2000;
        control::write(flush_and_round_down);
        let region = DefaultEnvironment::enter();
        let inside = control::read();
        drop(region);
        let after = control::read();
        control::write(before);
        assert_eq!(inside, control::DEFAULT);
        assert_eq!(after, flush_and_round_down);
    }
}
