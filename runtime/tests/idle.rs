//! An idle pool sleeps. In a file of its own, because it reads the CPU time of the whole process, of which Miri knows
//! nothing.
#![cfg(not(miri))]

mod common;

use std::time::Duration;

use common::watchdog::Watchdog;
use nnc_runtime::{InputRef, Pool, Session};

/// CPU time that this process has used, all threads together.
fn cpu_time() -> Duration {
    // SAFETY: zero is a value of this plain struct, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
        usage
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

#[test]
fn idle_threads_use_no_cpu_time() {
    let _watchdog = Watchdog::seconds(60);
    let program = common::program();
    let (x, bias) = (common::input(0), vec![0.0_f32; common::COLS]);
    // Two threads may spin for a while, sixteen may not if there are fewer cores: both must end up asleep.
    let pools = [2, 16].map(|threads| Pool::new(threads).unwrap());
    for pool in &pools {
        let mut session = Session::new(&program, pool).unwrap();
        session.run(&[InputRef::new(&x), InputRef::new(&bias)]).unwrap();
    }
    let before = cpu_time();
    let idle = Duration::from_secs(1);
    std::thread::sleep(idle);
    // One spinning thread would use the whole second.
    let used = cpu_time() - before;
    assert!(used < idle / 5, "{used:?} of CPU time in {idle:?} of idling");
}
