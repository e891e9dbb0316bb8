//! Keeping workers off the core of the thread that wakes them.
//!
//! A kernel that wakes a thread looks for an idle core, and takes the waker's own where it finds none. In a virtual machine an
//! idle core may look taken, because its host has taken it: then the worker waits behind its caller, for a whole run if
//! that is short, while the other core sleeps. So workers may run on any core but the caller's, of those that the thread
//! that made the pool might run on when it did.

#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) use linux::{Cores, Thread, current_core};
#[cfg(not(all(target_os = "linux", not(miri))))]
pub(crate) use nowhere::{Cores, Thread, current_core};

#[cfg(all(target_os = "linux", not(miri)))]
mod linux {
    /// A thread of this process.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Thread(libc::pid_t);

    impl Thread {
        /// The calling thread.
        pub(crate) fn current() -> Thread {
            // SAFETY: asks for a number.
            Thread(unsafe { libc::gettid() })
        }
    }

    /// The core that the calling thread runs on, if that can be told.
    pub(crate) fn current_core() -> Option<usize> {
        // SAFETY: asks for a number.
        usize::try_from(unsafe { libc::sched_getcpu() }).ok()
    }

    /// A set of cores.
    #[derive(Clone, Copy)]
    pub(crate) struct Cores(libc::cpu_set_t);

    impl Cores {
        /// Those that the calling thread may use, if that can be told.
        pub(crate) fn allowed() -> Option<Cores> {
            // SAFETY: a set of cores is bits, of which none is set at first; the kernel writes no more than its size.
            unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                let failed = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0;
                (!failed).then_some(Cores(set))
            }
        }

        /// Lets a thread run on these cores but one, if others are left. A thread that has ended is none to move.
        pub(crate) fn let_run_beside(&self, thread: Thread, core: usize) {
            let mut set = self.0;
            if core >= 8 * size_of::<libc::cpu_set_t>() {
                return;
            }
            // SAFETY: the core's bit lies inside of the set, and the kernel reads no more than its size.
            unsafe {
                libc::CPU_CLR(core, &mut set);
                if libc::CPU_COUNT(&set) > 0 {
                    libc::sched_setaffinity(thread.0, size_of::<libc::cpu_set_t>(), &set);
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_thread_runs_beside_a_core() {
            let (Some(core), Some(all)) = (current_core(), Cores::allowed()) else { return };
            // SAFETY: counts bits.
            if unsafe { libc::CPU_COUNT(&all.0) } < 2 {
                return;
            }
            let there = std::thread::spawn(move || {
                all.let_run_beside(Thread::current(), core);
                std::thread::yield_now();
                current_core()
            });
            assert_ne!(there.join().unwrap(), Some(core));
            // SAFETY: compares bits.
            let same = Cores::allowed().is_some_and(|now| unsafe { libc::CPU_EQUAL(&now.0, &all.0) });
            assert!(same, "and nobody else is moved");
        }
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod nowhere {
    /// A thread of this process.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Thread;

    impl Thread {
        /// The calling thread.
        pub(crate) fn current() -> Thread {
            Thread
        }
    }

    /// Cannot be told here.
    pub(crate) fn current_core() -> Option<usize> {
        None
    }

    /// A set of cores.
    #[derive(Clone, Copy)]
    pub(crate) struct Cores;

    impl Cores {
        /// Cannot be told here.
        pub(crate) fn allowed() -> Option<Cores> {
            None
        }

        /// Does nothing here.
        pub(crate) fn let_run_beside(&self, _: Thread, _: usize) {}
    }
}
