//! Who does which units of a step.
//!
//! Each thread owns an even share of a step's units, cut into at most sixteen pieces. It claims half of what is left of
//! its share, again and again, from the front; a thread that has nothing left takes pieces from the back of others'
//! shares. So a thread finds in its cache what it wrote in the step before, and a thread that the system has put aside
//! holds up nobody: the others do its units, and go on.
//!
//! ```text
//!   share of thread 0              share of thread 1
//!   ├ claimed ─►      ◄ taken ┤    ├ claimed ───────►      ┤
//! ```
//!
//! Nothing is reset between runs. A share says which run it belongs to and counts as untouched in any other; the number
//! of units done goes on counting. A thread that is late looks at shares and counts of its own run only, because no run
//! ends while a thread is inside ([`crate::pool`]).

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The most pieces of a share.
const PIECES: u64 = 16;

/// The shares of all steps of a program, for one session.
pub(crate) struct Claims {
    steps: usize,
    /// `[thread][step]`
    shares: Vec<Share>,
    /// For each step, how many units have been done in all runs, modulo 2³².
    done: Vec<AtomicU32>,
}

impl Claims {
    /// For so many steps and threads.
    pub(crate) fn new(steps: usize, threads: usize) -> Claims {
        let mut claims = Claims { steps, shares: Vec::new(), done: Vec::new() };
        claims.shares.resize_with(steps * threads, Share::default);
        claims.done.resize_with(steps, AtomicU32::default);
        claims
    }

    /// What `thread` of `threads` does of a step in a run, one claim after the other, until all units are claimed.
    pub(crate) fn of(&self, run: u32, step: usize, units: u32, (thread, threads): (u32, u32)) -> Claim<'_> {
        Claim { claims: self, run, step, units, thread, threads, victim: thread }
    }

    /// The number of units of a step that are done, and what it is once all are done in a run. Runs count from 1.
    pub(crate) fn done(&self, run: u32, step: usize, units: u32) -> (&AtomicU32, u32) {
        (&self.done[step], run.wrapping_mul(units))
    }
}

/// One thread's part of a `units`-unit step: even shares, the last one the largest.
pub(crate) fn share(units: u32, thread: u32, threads: u32) -> Range<u64> {
    let edge = |thread: u32| u64::from(units) * u64::from(thread) / u64::from(threads);
    edge(thread)..edge(thread + 1)
}

/// The claims of one thread on one step.
pub(crate) struct Claim<'a> {
    claims: &'a Claims,
    run: u32,
    step: usize,
    units: u32,
    thread: u32,
    threads: u32,
    /// Whose share is looked at.
    victim: u32,
}

impl Iterator for Claim<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        loop {
            let units = share(self.units, self.victim, self.threads);
            let length = units.end - units.start;
            // Some layers prepare something for each range of units: a thread that is alone takes all at once.
            let pieces = length.min(if self.threads == 1 { 1 } else { PIECES });
            let slot = &self.claims.shares[self.victim as usize * self.claims.steps + self.step];
            if let Some(claimed) = slot.claim(self.run, pieces as u16, self.victim == self.thread) {
                let edge = |piece: u16| units.start + length * u64::from(piece) / pieces;
                return Some(edge(claimed.start)..edge(claimed.end));
            }
            self.victim = (self.victim + 1) % self.threads;
            if self.victim == self.thread {
                return None;
            }
        }
    }
}

/// What is left of a share: the run in the upper half, then the first piece left and the end of those left.
#[derive(Default)]
struct Share(AtomicU64);

impl Share {
    /// Half of the pieces left, from the front, for the owner; the last piece for others.
    fn claim(&self, run: u32, pieces: u16, owner: bool) -> Option<Range<u16>> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let (first, end) = match (seen >> 32) as u32 == run {
                true => ((seen >> 16) as u16, seen as u16),
                false => (0, pieces),
            };
            if first >= end {
                return None;
            }
            let claimed = match owner {
                true => first..first + (end - first).div_ceil(2),
                false => end - 1..end,
            };
            let left = if owner { claimed.end..end } else { first..claimed.start };
            let next = u64::from(run) << 32 | u64::from(left.start) << 16 | u64::from(left.end);
            // Exclusive use is all that a claim decides; what is read and written is ordered by the counts of units done.
            match self.0.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(claimed),
                Err(now) => seen = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::Watchdog;

    #[test]
    fn shares_cover_all_units_once() {
        for threads in 1..9 {
            for units in [1, 2, 3, 7, 8, 1000, u32::MAX] {
                let mut next = 0;
                for thread in 0..threads {
                    let share = share(units, thread, threads);
                    assert_eq!(share.start, next);
                    next = share.end;
                }
                assert_eq!(next, u64::from(units));
            }
        }
    }

    #[test]
    fn a_single_unit_is_the_last_threads() {
        assert_eq!(share(1, 3, 4), 0..1);
    }

    #[test]
    fn the_only_thread_claims_everything_at_once() {
        let claims = Claims::new(1, 1);
        for run in 1..4 {
            let mut all = claims.of(run, 0, 100, (0, 1));
            assert_eq!((all.next(), all.next()), (Some(0..100), None));
        }
    }

    #[test]
    fn a_thread_that_is_alone_claims_everything_its_own_share_first() {
        let claims = Claims::new(2, 3);
        for run in 1..4 {
            let mut seen = vec![0; 100];
            let taken: Vec<Range<u64>> = claims.of(run, 1, 100, (1, 3)).collect();
            assert_eq!(taken[0].start, share(100, 1, 3).start);
            for unit in taken.into_iter().flatten() {
                seen[unit as usize] += 1;
            }
            assert_eq!(seen, vec![1; 100], "run {run}");
            assert_eq!(claims.of(run, 1, 100, (0, 3)).next(), None);
        }
    }

    #[test]
    fn no_unit_is_claimed_twice_however_threads_take_turns() {
        let _watchdog = Watchdog::seconds(60);
        const THREADS: u32 = 4;
        for units in if cfg!(miri) { vec![2, 5, 40] } else { vec![2, 5, 16, 63, 4096] } {
            let claims = Claims::new(1, THREADS as usize);
            let done: Vec<AtomicU32> = (0..units).map(|_| AtomicU32::new(0)).collect();
            for run in 1..if cfg!(miri) { 4 } else { 50 } {
                std::thread::scope(|scope| {
                    for thread in 0..THREADS {
                        let (claims, done) = (&claims, &done);
                        scope.spawn(move || {
                            for unit in claims.of(run, 0, units, (thread, THREADS)).flatten() {
                                done[unit as usize].fetch_add(1, Ordering::Relaxed);
                            }
                        });
                    }
                });
                assert!(done.iter().all(|d| d.load(Ordering::Relaxed) == run), "{units} units, run {run}");
            }
        }
    }
}
