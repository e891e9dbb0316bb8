//! Loops and branches while threads walk through them: which iteration each thread is in, and whether there is another one.
//!
//! All threads take the same way. Where the number of iterations is known, each of them finds it by itself. Where a byte of the
//! arena decides, only the thread that called looks at it, when everything before is done: another thread may come so late
//! that the byte is overwritten. It writes down what it saw ([`Verdicts`]), and the others wait for that and go where it went.
//! A thread that is later than what is written down leaves the run: nobody waits for it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::claims::is_over;
use crate::pool::Member;

/// Where a thread is in a repeat.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    /// The iteration, from 0.
    pub iteration: u64,
    /// Iterations that have begun in this run, those of earlier times through the repeat included.
    pub begun: u32,
}

/// What the conditions have been lately.
#[derive(Default)]
pub(crate) struct Verdicts {
    /// How many conditions have been looked at, in all runs, modulo 2³².
    count: AtomicU32,
    /// The same in the upper half; below, the last 32 verdicts, the last one in the lowest bit.
    latest: AtomicU64,
    /// What `count` was when the run began.
    before: AtomicU32,
}

impl Verdicts {
    /// Begins a run. No thread is inside.
    pub(crate) fn begin(&self) {
        self.before.store(self.count.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The `nth` verdict of a run, from 1. The caller finds it with `look`; the others are told. `None`: this thread is too late
    /// to know.
    pub(crate) fn verdict(&self, nth: u32, member: &Member<'_>, look: impl FnOnce() -> bool) -> Option<bool> {
        let nth = self.before.load(Ordering::Relaxed).wrapping_add(nth);
        if member.is_caller() {
            let verdict = look();
            let earlier = self.latest.load(Ordering::Relaxed) as u32;
            let latest = u64::from(nth) << 32 | u64::from(earlier << 1 | u32::from(verdict));
            self.latest.store(latest, Ordering::SeqCst);
            self.count.store(nth, Ordering::SeqCst);
            member.wake(&self.count);
            return Some(verdict);
        }
        member.wait(&self.count, |count| is_over(nth, count));
        let latest = self.latest.load(Ordering::SeqCst);
        let behind = ((latest >> 32) as u32).wrapping_sub(nth);
        (behind < 32).then(|| latest >> behind & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;

    #[test]
    fn all_threads_hear_what_the_caller_saw_in_every_run() {
        let pool = Pool::new(3).unwrap();
        let verdicts = Verdicts::default();
        let differ = AtomicU32::new(0);
        for run in 0..if cfg!(miri) { 3 } else { 50u32 } {
            verdicts.begin();
            pool.run(&|member: &Member<'_>| {
                for nth in 1..=20u32 {
                    let truth = (run + nth) % 3 == 0;
                    let heard = verdicts.verdict(nth, member, || truth);
                    // Who is late may not know, but is never told anything else.
                    if heard.is_some_and(|heard| heard != truth) || (member.is_caller() && heard.is_none()) {
                        differ.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        assert_eq!(differ.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_thread_that_is_later_than_32_verdicts_is_told_nothing() {
        let pool = Pool::new(2).unwrap();
        let verdicts = Verdicts::default();
        pool.run(&|member: &Member<'_>| {
            if member.is_caller() {
                (1..=40).for_each(|nth| {
                    assert_eq!(verdicts.verdict(nth, member, || nth % 2 == 0), Some(nth % 2 == 0))
                });
            } else {
                member.wait(&verdicts.count, |count| count == 40);
                assert_eq!(verdicts.verdict(40, member, || false), Some(true));
                assert_eq!(verdicts.verdict(9, member, || false), Some(false));
                assert_eq!(verdicts.verdict(8, member, || false), None);
            }
        });
    }
}
