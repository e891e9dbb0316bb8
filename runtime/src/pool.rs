//! A fork-join pool for programs of many short steps.
//!
//! A mobile network is sixty steps of 20 to 200 µs, so handing over work must cost about a microsecond. One *job* is a
//! whole run: all threads walk the list of steps and meet at a barrier between two steps, which costs one trip between
//! cores for each step, where a fork and a join would cost two.
//!
//! ```text
//!   caller    publish ── step 0 ──┐        ┌── step 1 ──┐        ┌─ … ── collect
//!   worker 0    └─────── step 0 ──┴ barrier┴── step 1 ──┴ barrier┴─ … ── idle: spins shortly, then sleeps
//! ```
//!
//! Units are divided statically, thread *t* of *n* gets `units·t/n .. units·(t+1)/n`, so which thread does what is the
//! same in each run and caches stay warm. Waiting threads spin for some microseconds and then sleep in the kernel: an
//! idle pool uses no CPU time. A caller that finds the pool busy does all its units itself.

use std::cell::UnsafeCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
            spin: if threads <= cores { SPIN } else { Duration::ZERO },
            busy: AtomicBool::new(false),
            shut_down: AtomicBool::new(false),
            epoch: Gate::default(),
            arrivals: Gate::default(),
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

    /// Runs `work` on all threads of the pool, or on the calling one alone if the others are busy. Each member must
    /// pass the same number of barriers.
    pub(crate) fn run<F: Fn(&mut Member<'_>) + Sync>(&self, work: &F) {
        let shared = &*self.0.shared;
        // A forked child has the pool's memory but none of its threads.
        let alone = shared.threads == 1 || std::process::id() != self.0.process;
        if alone || shared.busy.swap(true, Ordering::Acquire) {
            work(&mut Member { thread: 0, threads: 1, barrier: None });
            return;
        }
        let _no_unwind = AbortOnUnwind;
        let start = shared.arrivals.value.load(Ordering::Relaxed);
        let job = Job { call: call::<F>, work: std::ptr::from_ref(work).cast(), start };
        // SAFETY: we hold `busy`, and all workers have arrived at the end of the last job, after which they do not
        // look at the cell before the epoch moves on.
        unsafe { *shared.job.get() = Some(job) };
        shared.epoch.advance();
        // The last share is the caller's, so that it does the steps with one unit.
        let mut member = shared.member(shared.threads - 1, start);
        work(&mut member);
        member.barrier();
        shared.busy.store(false, Ordering::Release);
        std::mem::forget(_no_unwind);
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
    barrier: Option<Barrier<'a>>,
}

struct Barrier<'a> {
    shared: &'a Shared,
    /// The count of arrivals at which the last barrier was complete.
    passed: u32,
}

impl Member<'_> {
    /// This thread's number, below the pool's number of threads.
    pub(crate) fn thread(&self) -> usize {
        self.thread as usize
    }

    /// Whether this is the thread that called [`Pool::run`].
    pub(crate) fn is_caller(&self) -> bool {
        self.thread + 1 == self.threads
    }

    /// This thread's part of `units` units.
    pub(crate) fn share(&self, units: u32) -> Range<u64> {
        let edge = |thread: u32| u64::from(units) * u64::from(thread) / u64::from(self.threads);
        edge(self.thread)..edge(self.thread + 1)
    }

    /// Waits until all members are here. What they wrote before, all see after.
    pub(crate) fn barrier(&mut self) {
        if let Some(complete) = self.arrive() {
            self.wait(complete);
        }
    }

    /// Says that this member is here; returns the count to wait for.
    fn arrive(&mut self) -> Option<u32> {
        let barrier = self.barrier.as_mut()?;
        barrier.passed = barrier.passed.wrapping_add(self.threads);
        barrier.shared.arrivals.advance_to(barrier.passed);
        Some(barrier.passed)
    }

    fn wait(&self, complete: u32) {
        if let Some(barrier) = &self.barrier {
            barrier.shared.arrivals.wait_for(complete, barrier.shared.spin);
        }
    }
}

/// What the workers do: `call(work, member)`.
#[derive(Clone, Copy)]
struct Job {
    call: unsafe fn(*const (), &mut Member<'_>),
    work: *const (),
    /// Count of arrivals at the start of the job.
    start: u32,
}

/// # Safety
/// `work` points to a live `F`.
unsafe fn call<F: Fn(&mut Member<'_>) + Sync>(work: *const (), member: &mut Member<'_>) {
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
    /// Counts arrivals at barriers, over all jobs; it wraps.
    arrivals: Gate,
    /// Written by the holder of `busy` between two epochs, read by the workers inside one.
    job: UnsafeCell<Option<Job>>,
}

// SAFETY: `job` is written and read in turns, as its comment says; the epoch gate orders them. The pointers in it are
// followed only while `Pool::run`, which made them from a `Sync` closure, waits for the workers.
unsafe impl Sync for Shared {}
// SAFETY: likewise; nothing in it belongs to a thread.
unsafe impl Send for Shared {}

impl Shared {
    fn member(&self, thread: u32, start: u32) -> Member<'_> {
        Member { thread, threads: self.threads, barrier: Some(Barrier { shared: self, passed: start }) }
    }

    /// The life of a worker.
    fn work(&self, thread: u32) {
        let _no_unwind = AbortOnUnwind;
        let mut epoch = 0_u32;
        loop {
            epoch = epoch.wrapping_add(1);
            self.epoch.wait_for(epoch, self.spin);
            if self.shut_down.load(Ordering::Acquire) {
                break;
            }
            // SAFETY: the epoch has begun, so the job is written, and it stays until we arrive at its end.
            if let Some(job) = unsafe { *self.job.get() } {
                let mut member = self.member(thread, job.start);
                // SAFETY: `Pool::run` keeps the closure alive until all members have arrived.
                unsafe { (job.call)(job.work, &mut member) };
                member.arrive();
            }
        }
        std::mem::forget(_no_unwind);
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

/// A counter that threads wait for. On cache lines of its own: all threads look at it all the time.
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
        self.wake();
    }

    /// Counts up and wakes all sleepers if this reached `target`.
    fn advance_to(&self, target: u32) {
        if self.value.fetch_add(1, Ordering::SeqCst).wrapping_add(1) == target {
            self.wake();
        }
    }

    /// A sleeper announces itself, then the kernel looks at the value again before it lets it sleep; we change the
    /// value, then look for sleepers. In the one order of these sequentially consistent steps, one sees the other.
    fn wake(&self) {
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            park::wake_all(&self.value);
        }
    }

    /// Waits until the counter is at `target` or past it (within half of its range).
    fn wait_for(&self, target: u32, spin: Duration) {
        let reached = |value: u32| value.wrapping_sub(target) < 1 << 31;
        if !spin.is_zero() {
            let start = Instant::now();
            while start.elapsed() < spin {
                for _ in 0..32 {
                    if reached(self.value.load(Ordering::Acquire)) {
                        return;
                    }
                    std::hint::spin_loop();
                }
            }
        }
        loop {
            let value = self.value.load(Ordering::SeqCst);
            if reached(value) {
                return;
            }
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            park::wait(&self.value, value);
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
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

    #[test]
    fn shares_cover_all_units_once() {
        for threads in 1..9 {
            for units in [1, 2, 3, 7, 8, 1000, u32::MAX] {
                let mut next = 0;
                for thread in 0..threads {
                    let share = Member { thread, threads, barrier: None }.share(units);
                    assert_eq!(share.start, next);
                    next = share.end;
                }
                assert_eq!(next, u64::from(units));
            }
        }
    }

    #[test]
    fn a_single_unit_is_the_callers() {
        let caller = Member { thread: 3, threads: 4, barrier: None };
        assert!(caller.is_caller());
        assert_eq!(caller.share(1), 0..1);
    }

    #[test]
    fn no_member_passes_a_barrier_before_the_last_one_arrives() {
        const ROUNDS: u64 = 200;
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads).unwrap();
            let count = AtomicU64::new(0);
            let early = AtomicU64::new(0);
            pool.run(&|member: &mut Member<'_>| {
                for round in 0..ROUNDS {
                    count.fetch_add(1, Ordering::Relaxed);
                    member.barrier();
                    if count.load(Ordering::Relaxed) < (round + 1) * threads as u64 {
                        early.fetch_add(1, Ordering::Relaxed);
                    }
                    member.barrier();
                }
            });
            assert_eq!(count.load(Ordering::Relaxed), ROUNDS * threads as u64);
            assert_eq!(early.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn counters_may_wrap() {
        let pool = Pool::new(3).unwrap();
        pool.0.shared.arrivals.value.store(u32::MAX - 4, Ordering::SeqCst);
        let count = AtomicU64::new(0);
        for _ in 0..10 {
            pool.run(&|member: &mut Member<'_>| {
                count.fetch_add(1, Ordering::Relaxed);
                member.barrier();
            });
        }
        assert_eq!(count.load(Ordering::Relaxed), 30);
    }

    #[test]
    fn a_caller_that_finds_the_pool_busy_works_alone() {
        let pool = Pool::new(2).unwrap();
        let members = AtomicU64::new(0);
        pool.run(&|outer: &mut Member<'_>| {
            if outer.is_caller() {
                pool.run(&|inner: &mut Member<'_>| {
                    assert_eq!(inner.share(10), 0..10);
                    members.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(members.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_pool_that_sleeps_wakes_for_the_next_job() {
        let pool = Pool::new(4).unwrap();
        let count = AtomicU64::new(0);
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(5));
            pool.run(&|_: &mut Member<'_>| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(count.load(Ordering::Relaxed), 12);
    }

    #[test]
    fn a_pool_ends_its_threads_while_they_sleep() {
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
