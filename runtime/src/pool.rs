//! A fork-join pool for programs of many short steps.
//!
//! A mobile network is sixty steps of 20 to 200 µs, so handing over work must cost about a microsecond. One *job* is a
//! whole run: all threads walk the list of steps, and no step begins before all units of the one before are done. That
//! costs one trip between cores for each step, where a fork and a join would cost two.
//!
//! ```text
//!   caller    open ── step 0 ──┐      ┌── step 1 ──┐      ┌─ … ── close, wait until nobody is inside
//!   worker 0    └──── step 0 ──┴ done ┴── step 1 ──┴ done ┴─ … ── idle: spins shortly, then sleeps
//! ```
//!
//! A step is over when its units are done, not when all threads have been there: which thread does which unit is decided
//! as they go ([`crate::claims`]). So a worker that wakes late, or whose core another program has, delays nobody; it
//! enters when it comes, or not at all once the job is closed. Waiting threads spin for some microseconds and then sleep
//! in the kernel: an idle pool uses no CPU time. Before it wakes them, a caller sends them away from its own core
//! ([`crate::affinity`]). A caller that finds the pool busy does all its units itself.

use std::cell::UnsafeCell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::affinity::{self, Cores, Thread};
use crate::park;

/// How long a waiting thread spins before it sleeps. Waking a sleeper takes about as long.
const SPIN: Duration = Duration::from_micros(50);
/// More threads than this is a mistake in the call.
const MAX_THREADS: usize = 1024;

/// A set of threads that sessions share. Cheap to clone; the threads end when the last clone is gone.
#[derive(Clone)]
pub struct Pool(Arc<Owner>);

/// A pool that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// No threads, or absurdly many.
    #[error("a pool takes 1 to {MAX_THREADS} threads, not {0}")]
    Threads(usize),
    /// The operating system refused a thread.
    #[error("cannot start thread {thread} of the pool; ask for fewer threads")]
    Spawn {
        /// Which one, counted from 1; the caller is thread 0.
        thread: usize,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl Pool {
    /// A pool of `threads` threads; the calling thread of each run is one of them.
    pub fn new(threads: usize) -> Result<Pool, PoolError> {
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(PoolError::Threads(threads));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            threads: threads as u32,
            // Spinning on a core that the awaited thread needs only delays it.
            spin: if threads <= cores && !cfg!(miri) { SPIN } else { Duration::ZERO },
            busy: AtomicBool::new(false),
            shut_down: AtomicBool::new(false),
            epoch: Gate::default(),
            entrance: Gate::default(),
            sleepers: AtomicU32::new(0),
            cores: Cores::allowed(),
            workers: Mutex::new(Workers { threads: Vec::with_capacity(threads), beside: None }),
            job: UnsafeCell::new(None),
        });
        // Made first, so that its drop ends the threads that did start when a later one does not.
        let mut owner = Owner { shared, workers: Vec::new(), process: std::process::id() };
        for thread in 1..threads {
            let shared = Arc::clone(&owner.shared);
            let index = thread as u32 - 1;
            let worker = std::thread::Builder::new()
                .name(format!("nnc-{thread}"))
                .spawn(move || shared.work(index))
                .map_err(|source| PoolError::Spawn { thread, source })?;
            owner.workers.push(worker);
        }
        Ok(Pool(Arc::new(owner)))
    }

    /// A pool with a thread for each core that this process may use.
    pub fn for_this_machine() -> Result<Pool, PoolError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Pool::new(cores.min(MAX_THREADS))
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.0.shared.threads as usize
    }

    /// Runs `work` on the calling thread and on those workers that come while it runs, or on the calling thread alone if
    /// the others are busy. `work` must return on every thread once all is done, whoever did it. Says whether the workers
    /// were invited.
    pub(crate) fn run<F: Fn(&Member<'_>) + Sync>(&self, work: &F) -> bool {
        let shared = &*self.0.shared;
        // A forked child has the pool's memory but none of its threads.
        let alone = shared.threads == 1 || std::process::id() != self.0.process;
        if alone || shared.busy.swap(true, Ordering::Acquire) {
            work(&Member { thread: 0, threads: 1, shared });
            return false;
        }
        if shared.epoch.sleepers.load(Ordering::Relaxed) != 0 {
            shared.make_room();
        }
        let _no_unwind = AbortOnUnwind;
        let job = Job { call: call::<F>, work: std::ptr::from_ref(work).cast() };
        // SAFETY: we hold `busy`, and the entrance is closed with nobody inside, so no worker looks at the cell.
        unsafe { *shared.job.get() = Some(job) };
        shared.entrance.value.store(OPEN, Ordering::SeqCst);
        shared.epoch.advance();
        // The last share is the caller's, so that it does the steps with one unit.
        work(&shared.member(shared.threads - 1));
        shared.entrance.value.fetch_and(!OPEN, Ordering::SeqCst);
        shared.entrance.wait(shared.spin, |inside| inside == 0);
        shared.busy.store(false, Ordering::Release);
        std::mem::forget(_no_unwind);
        true
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

/// One thread's part in a job.
pub(crate) struct Member<'a> {
    thread: u32,
    threads: u32,
    shared: &'a Shared,
}

impl Member<'_> {
    /// This thread's number, and how many there are.
    pub(crate) fn place(&self) -> (u32, u32) {
        (self.thread, self.threads)
    }

    /// Whether this is the thread that called [`Pool::run`].
    pub(crate) fn is_caller(&self) -> bool {
        self.thread + 1 == self.threads
    }

    /// Wakes those who wait for a word, which has changed; what this thread wrote before, they see after.
    pub(crate) fn wake(&self, word: &AtomicU32) {
        wake(word, &self.shared.sleepers);
    }

    /// Waits until a word has a value that is waited for; returns it.
    pub(crate) fn wait(&self, word: &AtomicU32, reached: impl Fn(u32) -> bool) -> u32 {
        wait(word, &self.shared.sleepers, self.shared.spin, reached)
    }
}

/// What the workers do: `call(work, member)`.
#[derive(Clone, Copy)]
struct Job {
    call: unsafe fn(*const (), &Member<'_>),
    work: *const (),
}

/// # Safety
/// `work` points to a live `F`.
unsafe fn call<F: Fn(&Member<'_>) + Sync>(work: *const (), member: &Member<'_>) {
    // SAFETY: the caller's promise; `F: Sync` lets any thread use it.
    unsafe { (*work.cast::<F>())(member) }
}

struct Shared {
    threads: u32,
    spin: Duration,
    /// Held by the caller whose job runs.
    busy: AtomicBool,
    shut_down: AtomicBool,
    /// Counts jobs; the workers wait for the next.
    epoch: Gate,
    /// How many workers are inside the job, and [`OPEN`] while more may enter.
    entrance: Gate,
    /// Threads that sleep on counts of units.
    sleepers: AtomicU32,
    /// The cores that the threads may use, where that can be told.
    cores: Option<Cores>,
    workers: Mutex<Workers>,
    /// Written by the holder of `busy` while the entrance is closed and nobody is inside, read by workers inside.
    job: UnsafeCell<Option<Job>>,
}

/// The workers that have begun.
struct Workers {
    threads: Vec<Thread>,
    /// The core that they leave to the caller, and how many of them do.
    beside: Option<(usize, usize)>,
}

/// The entrance is open.
const OPEN: u32 = 1 << 31;

// SAFETY: `job` is written and read in turns, as its comment says; the entrance orders them. The pointers in it are
// followed only by workers inside, for which `Pool::run`, which made them from a `Sync` closure, waits.
unsafe impl Sync for Shared {}
// SAFETY: likewise; nothing in it belongs to a thread.
unsafe impl Send for Shared {}

impl Shared {
    fn member(&self, thread: u32) -> Member<'_> {
        Member { thread, threads: self.threads, shared: self }
    }

    /// Sends workers that sleep away from the calling thread's core, unless they are away from it already.
    fn make_room(&self) {
        let (Some(cores), Some(core)) = (&self.cores, affinity::current_core()) else { return };
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let beside = Some((core, workers.threads.len()));
        if workers.beside != beside {
            workers.threads.iter().for_each(|&worker| cores.let_run_beside(worker, core));
            workers.beside = beside;
        }
    }

    /// The life of a worker.
    fn work(&self, thread: u32) {
        let _no_unwind = AbortOnUnwind;
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).threads.push(Thread::current());
        let mut epoch = 0_u32;
        loop {
            // All jobs that began while this thread was late are one: the latest.
            epoch = self.epoch.wait(self.spin, |value| value != epoch);
            if self.shut_down.load(Ordering::Acquire) {
                break;
            }
            if !self.enter() {
                continue;
            }
            // SAFETY: the job was written before the entrance was opened, and stays until we have left.
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: `Pool::run` keeps the closure alive until all members have left.
                unsafe { (job.call)(job.work, &self.member(thread)) };
            }
            self.leave();
        }
        std::mem::forget(_no_unwind);
    }

    /// Enters the job, unless it is closed.
    fn enter(&self) -> bool {
        let mut seen = self.entrance.value.load(Ordering::SeqCst);
        while seen & OPEN != 0 {
            let next = seen + 1;
            match self.entrance.value.compare_exchange(seen, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    fn leave(&self) {
        if self.entrance.value.fetch_sub(1, Ordering::SeqCst) == 1 {
            wake(&self.entrance.value, &self.entrance.sleepers);
        }
    }
}

/// The threads themselves, ended on drop.
struct Owner {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// The process that has the threads.
    process: u32,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            // Joining threads that stayed in the parent would never end.
            std::mem::take(&mut self.workers).into_iter().for_each(std::mem::forget);
            return;
        }
        self.shared.shut_down.store(true, Ordering::Release);
        self.shared.epoch.advance();
        for worker in self.workers.drain(..) {
            // A worker does not panic: it aborts.
            drop(worker.join());
        }
    }
}

/// A word that threads wait for. On cache lines of its own: all threads look at it all the time.
#[derive(Default)]
#[repr(align(128))]
struct Gate {
    value: AtomicU32,
    sleepers: AtomicU32,
}

impl Gate {
    /// Counts up and wakes all sleepers.
    fn advance(&self) {
        self.value.fetch_add(1, Ordering::SeqCst);
        wake(&self.value, &self.sleepers);
    }

    /// Waits until the value is one that is waited for; returns it.
    fn wait(&self, spin: Duration, reached: impl Fn(u32) -> bool) -> u32 {
        wait(&self.value, &self.sleepers, spin, reached)
    }
}

/// Wakes those who sleep on a word that has changed.
///
/// A sleeper announces itself, then the kernel looks at the value again before it lets it sleep; we change the value, then
/// look for sleepers. In the one order of these sequentially consistent steps, one sees the other.
fn wake(word: &AtomicU32, sleepers: &AtomicU32) {
    if sleepers.load(Ordering::SeqCst) != 0 {
        park::wake_all(word);
    }
}

/// Waits until a word has a value that is waited for; returns it.
fn wait(word: &AtomicU32, sleepers: &AtomicU32, spin: Duration, reached: impl Fn(u32) -> bool) -> u32 {
    let seen = word.load(Ordering::Acquire);
    if reached(seen) {
        return seen;
    }
    if !spin.is_zero() {
        let start = Instant::now();
        while start.elapsed() < spin {
            for _ in 0..32 {
                let seen = word.load(Ordering::Acquire);
                if reached(seen) {
                    return seen;
                }
                std::hint::spin_loop();
            }
        }
    }
    loop {
        sleepers.fetch_add(1, Ordering::SeqCst);
        let seen = word.load(Ordering::SeqCst);
        let done = reached(seen);
        if !done {
            park::wait(word, seen);
        }
        sleepers.fetch_sub(1, Ordering::SeqCst);
        if done {
            return seen;
        }
    }
}

/// Ends the process when dropped: a thread that left a job early would leave the others waiting, or using memory that
/// is gone. Layer functions do not unwind, so this is a net under a broken contract.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::claims::{Claims, is_over};
    use crate::watchdog::Watchdog;

    #[test]
    fn nobody_goes_on_before_all_units_of_a_step_are_done() {
        let _watchdog = Watchdog::seconds(60);
        const ROUNDS: u32 = if cfg!(miri) { 5 } else { 200 };
        for threads in if cfg!(miri) { vec![1, 2, 3] } else { vec![1, 2, 3, 8] } {
            let pool = Pool::new(threads).unwrap();
            let claims = Claims::new(2, threads);
            let done = [AtomicU64::new(0), AtomicU64::new(0)];
            let early = AtomicU64::new(0);
            for run in 1..=ROUNDS {
                pool.run(&|member: &Member<'_>| {
                    for (step, count) in done.iter().enumerate() {
                        let mut mine = 0;
                        for _ in claims.of(run, step, 20, member.place()).flatten() {
                            if step == 1 && done[0].load(Ordering::Relaxed) < u64::from(run) * 20 {
                                early.fetch_add(1, Ordering::Relaxed);
                            }
                            count.fetch_add(1, Ordering::Relaxed);
                            mine += 1;
                        }
                        let progress = claims.progress(step);
                        if progress.count(run, mine, 20) {
                            member.wake(progress.visits());
                        }
                        member.wait(progress.visits(), |visits| is_over(run, visits));
                    }
                });
                assert_eq!(done[1].load(Ordering::Relaxed), u64::from(run) * 20, "{threads} threads");
            }
            assert_eq!(early.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn a_worker_that_comes_too_late_is_not_waited_for() {
        let _watchdog = Watchdog::seconds(60);
        let pool = Pool::new(2).unwrap();
        let shared = Arc::clone(&pool.0.shared);
        // As if the worker had not woken: the job is over before it enters.
        pool.run(&|_: &Member<'_>| {});
        assert!(!shared.enter(), "the entrance is closed");
    }

    #[test]
    fn a_caller_that_finds_the_pool_busy_works_alone() {
        let _watchdog = Watchdog::seconds(60);
        let pool = Pool::new(2).unwrap();
        let members = AtomicU64::new(0);
        pool.run(&|outer: &Member<'_>| {
            if outer.is_caller() {
                let invited = pool.run(&|inner: &Member<'_>| {
                    assert_eq!(inner.place(), (0, 1));
                    members.fetch_add(1, Ordering::Relaxed);
                });
                assert!(!invited);
            }
        });
        assert_eq!(members.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_pool_that_sleeps_wakes_for_the_next_job() {
        let _watchdog = Watchdog::seconds(60);
        let pool = Pool::new(4).unwrap();
        for round in 0..3 {
            std::thread::sleep(Duration::from_millis(5));
            let entered = AtomicU32::new(0);
            // All four must come, or this waits for ever.
            pool.run(&|member: &Member<'_>| {
                if entered.fetch_add(1, Ordering::SeqCst) == 3 {
                    member.wake(&entered);
                }
                member.wait(&entered, |entered| entered == 4);
            });
            assert_eq!(entered.load(Ordering::Relaxed), 4, "round {round}");
        }
    }

    #[test]
    fn a_pool_ends_its_threads_while_they_sleep() {
        let _watchdog = Watchdog::seconds(60);
        let pool = Pool::new(4).unwrap();
        let shared = Arc::downgrade(&pool.0.shared);
        std::thread::sleep(Duration::from_millis(5));
        drop(pool);
        assert!(shared.upgrade().is_none(), "a thread still runs");
    }

    #[test]
    fn a_pool_without_threads_is_refused() {
        assert_eq!(Pool::new(0).unwrap_err().to_string(), "a pool takes 1 to 1024 threads, not 0");
        assert!(matches!(Pool::new(1025), Err(PoolError::Threads(1025))));
    }
}
