//! A run allocates nothing after the first. In a file of its own, so that no other test allocates meanwhile.
//!
//! Its many runs take Miri long, and show it nothing that `session.rs` does not.
#![cfg(not(miri))]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::watchdog::Watchdog;
use nnc_runtime::{InputRef, OutputMut, Pool, Session};

/// Counts the blocks that any thread asks for.
struct Counting;

static BLOCKS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BLOCKS.fetch_add(1, Ordering::SeqCst);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_run_allocates_nothing_after_the_first() {
    let _watchdog = Watchdog::seconds(60);
    let pool = Pool::new(2).unwrap();
    let mut session = Session::new(&common::program(), &pool).unwrap();
    let (x, bias) = (common::input(0), vec![0.0_f32; common::COLS]);
    let mut y = vec![0.0_f32; x.len()];
    let inputs = [InputRef::new(&x), InputRef::new(&bias).named("bias")];
    session.run(&inputs).unwrap();
    session.run_profiled(&inputs).unwrap();

    // A run does not wait for a thread that has not started yet, and starting allocates: wait until that is over.
    let mut quiet = 0;
    for _ in 0..500 {
        let before = BLOCKS.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(10));
        session.run(&inputs).unwrap();
        quiet = if BLOCKS.load(Ordering::SeqCst) == before { quiet + 1 } else { 0 };
        if quiet == 10 {
            break;
        }
    }
    assert_eq!(quiet, 10, "runs go on allocating");

    let before = BLOCKS.load(Ordering::SeqCst);
    for _ in 0..100 {
        session.run(&inputs).unwrap();
        session.run_profiled(&inputs).unwrap();
        session.run_into(&inputs, &mut [OutputMut::new(&mut y[..])]).unwrap();
    }
    assert_eq!(BLOCKS.load(Ordering::SeqCst) - before, 0);
    assert_eq!(y, common::expected(&x, &bias));
}
