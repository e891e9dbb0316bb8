//! Waiting for a 32-bit word to change: the operating system's futex, or a lock and a condition where there is none.

#[cfg(target_os = "linux")]
pub(crate) use futex::{wait, wake_all};
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::{wait, wake_all};

#[cfg(target_os = "linux")]
mod futex {
    use std::sync::atomic::AtomicU32;

    /// Sleeps while `word` holds `value`. May return early.
    pub(crate) fn wait(word: &AtomicU32, value: u32) {
        let forever = std::ptr::null::<libc::timespec>();
        // SAFETY: the kernel reads the aligned, live word and nothing else; without a time limit it needs no more.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                value,
                forever,
            )
        };
    }

    /// Wakes everybody who sleeps on `word`. The word must have changed before.
    pub(crate) fn wake_all(word: &AtomicU32) {
        // SAFETY: waking uses the word's address only as a key.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                i32::MAX,
            )
        };
    }
}

#[cfg(any(test, not(target_os = "linux")))]
mod portable {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Condvar, Mutex, PoisonError};

    /// One lock for all words: parking is the slow path.
    static LOCK: Mutex<()> = Mutex::new(());
    static CHANGED: Condvar = Condvar::new();

    /// Sleeps while `word` holds `value`. May return early.
    pub(crate) fn wait(word: &AtomicU32, value: u32) {
        let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        // The waker takes the lock after it changed the word, so that no change falls between this look and the wait.
        if word.load(Ordering::SeqCst) == value {
            drop(CHANGED.wait(guard));
        }
    }

    /// Wakes everybody who sleeps on `word`. The word must have changed before.
    pub(crate) fn wake_all(_word: &AtomicU32) {
        drop(LOCK.lock());
        CHANGED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    fn a_sleeper_sees_the_change(wait: fn(&AtomicU32, u32), wake_all: fn(&AtomicU32)) {
        let word = AtomicU32::new(3);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while word.load(Ordering::SeqCst) == 3 {
                    wait(&word, 3);
                }
                word.load(Ordering::SeqCst)
            });
            std::thread::sleep(Duration::from_millis(20));
            word.store(4, Ordering::SeqCst);
            wake_all(&word);
            assert_eq!(sleeper.join().unwrap(), 4);
        });
        wait(&word, 3);
    }

    #[test]
    fn waiting_ends_when_the_word_changes() {
        a_sleeper_sees_the_change(super::wait, super::wake_all);
    }

    #[test]
    fn waiting_ends_when_the_word_changes_without_a_futex() {
        a_sleeper_sees_the_change(super::portable::wait, super::portable::wake_all);
    }
}
