//! One program, four threads, run after run: the same bits each time, and no memory that stays behind.
//!
//! Each thread has a session of its own on the one program and goes through eight inputs. `NNC_SOAK=1000000` says how many
//! runs there are in all; without it there are enough to notice a leak of a cache line a run.
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::fs;
use std::sync::Barrier;
use std::time::Instant;

use nnc::{InputRef, Model, Options, Pool, Program, Session};
use nnc_models::Spec;

const THREADS: usize = 4;
/// Runs of each thread before memory is measured for the first time.
const WARM_UP: usize = 64;
const RUNS: usize = 4000;
/// Bytes by which the process may grow: what the allocator keeps for each thread, but nothing for each run.
const GROWTH: u64 = 1 << 20;

fn inputs() -> Vec<Vec<f32>> {
    let input = |seed: u32| {
        let number =
            |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 40_503) >> 16) as f32 / 16384.0;
        (0..3 * 32 * 32).map(|i| number(i) - 2.0).collect()
    };
    (0..8).map(input).collect()
}

fn session(program: &Program) -> Session {
    Session::new(program, &Pool::new(1).expect("a pool")).expect("a session")
}

fn bits(session: &mut Session, input: &[f32]) -> Vec<u32> {
    let outputs = session.run(&[InputRef::new(input)]).expect("results");
    outputs.get::<f32>(0).expect("floats").iter().map(|x| x.to_bits()).collect()
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the resident size");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("kibibytes") * 1024
}

#[test]
fn runs_without_end_take_no_more_memory_and_give_the_same_bits() {
    let runs = std::env::var("NNC_SOAK").map_or(RUNS, |n| n.parse().expect("NNC_SOAK is a number of runs"));
    let spec = Spec::new("shufflenet-v2").width(0.5).resolution(32);
    let model = Model::from_bytes(nnc_models::encode(&spec).expect("a network")).expect("a model");
    let program = model.compile(&Options::default()).expect("a program");
    drop(model);
    let inputs = inputs();
    let mut first = session(&program);
    let expected: Vec<Vec<u32>> = inputs.iter().map(|input| bits(&mut first, input)).collect();
    assert!(expected.windows(2).all(|two| two[0] != two[1]), "each input has results of its own");

    let each = runs.div_ceil(THREADS);
    let barrier = Barrier::new(THREADS + 1);
    let start = Instant::now();
    let (before, after) = std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (program, inputs, expected, barrier) = (&program, &inputs, &expected, &barrier);
            scope.spawn(move || {
                let mut session = session(program);
                let mut run = |number: usize| {
                    let which = (number + thread) % inputs.len();
                    assert_eq!(
                        bits(&mut session, &inputs[which]),
                        expected[which],
                        "run {number} of thread {thread}"
                    );
                };
                (0..WARM_UP).for_each(&mut run);
                barrier.wait();
                // Nobody runs while memory is measured.
                barrier.wait();
                (0..each).for_each(&mut run);
                barrier.wait();
                barrier.wait();
            });
        }
        barrier.wait();
        let before = resident();
        barrier.wait();
        barrier.wait();
        let after = resident();
        barrier.wait();
        (before, after)
    });
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} runs on {THREADS} threads in {seconds:.1} s: {before} bytes before, {after} after",
        each * THREADS
    );
    assert!(after <= before + GROWTH, "{before} bytes before, {after} after {runs} runs");
}
