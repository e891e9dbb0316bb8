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
//! Nothing is reset between runs, or between the iterations of a loop. Each time that threads come to a step is a *visit*,
//! counted for each step from the first run on. A share says of which visit it is, and counts as untouched in a later one; the
//! number of units done goes on counting. A thread that is late finds shares of a later visit, where nothing is left for it, or
//! none at all: no run ends while a thread is inside ([`crate::pool`]).

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The most pieces of a share.
const PIECES: u64 = 16;

/// The shares of all steps of a program, for one session.
pub(crate) struct Claims {
    steps: usize,
    /// `[thread][step]`
    shares: Vec<Share>,
    progress: Vec<StepProgress>,
}

/// How far threads have come with a step. All numbers are modulo 2³².
#[derive(Default)]
pub(crate) struct StepProgress {
    /// Units that have been done in all visits.
    units: AtomicU32,
    /// Visits that are over.
    visits: AtomicU32,
    /// Visits that were over when the run began.
    before: AtomicU32,
}

impl StepProgress {
    /// Counts units that a thread has done in a visit; whoever completes the visit is told so.
    pub(crate) fn count(&self, visit: u32, units: u32, all: u32) -> bool {
        let done = self.units.fetch_add(units, Ordering::SeqCst).wrapping_add(units);
        // Nobody counts for a later visit before this one is over.
        let complete = units > 0 && done == visit.wrapping_mul(all);
        if complete {
            self.visits.store(visit, Ordering::SeqCst);
        }
        complete
    }

    /// The number of visits that are over, for threads to wait for.
    pub(crate) fn visits(&self) -> &AtomicU32 {
        &self.visits
    }
}

/// Whether a visit is over when so many are: this one, or a later one. Half of all numbers are later than a given one, and no
/// thread is late by so many visits.
pub(crate) fn is_over(visit: u32, visits: u32) -> bool {
    visits.wrapping_sub(visit) as i32 >= 0
}

impl Claims {
    /// For so many steps and threads.
    pub(crate) fn new(steps: usize, threads: usize) -> Claims {
        let mut claims = Claims { steps, shares: Vec::new(), progress: Vec::new() };
        claims.shares.resize_with(steps * threads, Share::default);
        claims.progress.resize_with(steps, StepProgress::default);
        claims
    }

    /// Begins a run: from here on, visits are counted from those that were before. No thread is inside.
    pub(crate) fn begin(&self) {
        for progress in &self.progress {
            progress.before.store(progress.visits.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The number of a step's visit that is the `nth` of the run, from 1.
    pub(crate) fn visit(&self, step: usize, nth: u32) -> u32 {
        self.progress[step].before.load(Ordering::Relaxed).wrapping_add(nth)
    }

    /// What `thread` of `threads` does of a step in a visit, one claim after the other, until all units are claimed.
    pub(crate) fn of(&self, visit: u32, step: usize, units: u32, (thread, threads): (u32, u32)) -> Claim<'_> {
        Claim { claims: self, visit, step, units, thread, threads, victim: thread }
    }

    /// How far threads have come with a step.
    pub(crate) fn progress(&self, step: usize) -> &StepProgress {
        &self.progress[step]
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
    visit: u32,
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
            if let Some(claimed) = slot.claim(self.visit, pieces as u16, self.victim == self.thread) {
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

/// What is left of a share: the visit in the upper half, then the first piece left and the end of those left.
#[derive(Default)]
struct Share(AtomicU64);

impl Share {
    /// Half of the pieces left, from the front, for the owner; the last piece for others.
    fn claim(&self, visit: u32, pieces: u16, owner: bool) -> Option<Range<u16>> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let (first, end) = match (seen >> 32) as u32 {
                at if at == visit => ((seen >> 16) as u16, seen as u16),
                at if is_over(visit, at) => return None,
                _ => (0, pieces),
            };
            if first >= end {
                return None;
            }
            let claimed = match owner {
                true => first..first + (end - first).div_ceil(2),
                false => end - 1..end,
            };
            let left = if owner { claimed.end..end } else { first..claimed.start };
            let next = u64::from(visit) << 32 | u64::from(left.start) << 16 | u64::from(left.end);
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
    fn a_thread_that_is_late_claims_nothing_of_a_visit_that_is_over() {
        let claims = Claims::new(1, 2);
        assert_eq!(claims.of(7, 0, 4, (0, 2)).map(|units| units.end - units.start).sum::<u64>(), 4);
        assert_eq!(claims.of(6, 0, 4, (1, 2)).next(), None);
        assert_eq!(claims.of(u32::MAX, 0, 4, (1, 2)).next(), None);
        assert!(claims.of(8, 0, 4, (1, 2)).next().is_some());
        assert!(is_over(u32::MAX, 1) && is_over(1, 1) && !is_over(1, u32::MAX));
    }

    #[test]
    fn visits_go_on_from_run_to_run() {
        let claims = Claims::new(2, 1);
        for run in 0..3 {
            claims.begin();
            for nth in 1..=4 {
                let visit = claims.visit(1, nth);
                assert_eq!(visit, run * 4 + nth);
                let progress = claims.progress(1);
                assert!(
                    !progress.count(visit, 2, 3) && !is_over(visit, progress.visits().load(Ordering::SeqCst))
                );
                assert!(
                    progress.count(visit, 1, 3) && is_over(visit, progress.visits().load(Ordering::SeqCst))
                );
                assert!(!progress.count(visit, 0, 3), "only one completes it");
            }
            assert_eq!(claims.visit(0, 1), 1);
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
