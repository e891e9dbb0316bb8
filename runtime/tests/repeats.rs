//! Steps that run again and again, and steps that may not run.
//!
//! ```text
//!   start    state = 0, round = 0, going = limit > 0, double = limit is odd
//!   6 times while going:
//!     4 times:   sum      state[n] += x[i][j][n],  y[i][j][n] = state[n]
//!     next     round += 1, going = round < limit
//!   once if double:   twice    state[n] *= 2
//!   last     last[n] = state[n], rounds = round
//! ```

use std::sync::Arc;

use nnc_runtime::abi::{
    Arg, CpuFeatures, Denormals, ElemType, Move, Port, ProgramDesc, Region, Repeat, Step,
};
use nnc_runtime::encode::{decode, encode};
use nnc_runtime::{Constants, InputRef, Pool, Program, Session};

const OUTER: usize = 6;
const INNER: usize = 4;
const N: usize = 37;
const ROW: u64 = N as u64 * 8;

/// Where things are in the arena.
const ROUND: u64 = ROW;
const GOING: u64 = ROW + 8;
const DOUBLE: u64 = ROW + 9;
const ARENA: u64 = ROW + 16;

unsafe extern "C" fn start(bases: *const *mut u8, _: u64, _: u64, _scratch: *mut u8) {
    unsafe {
        let [limit, state, round, going, double] = [0, 1, 2, 3, 4].map(|n| *bases.add(n));
        let limit = *limit.cast::<i64>();
        state.write_bytes(0, ROW as usize);
        *round.cast::<i64>() = 0;
        *going = u8::from(limit > 0);
        *double = u8::from(limit % 2 == 1);
    }
}

unsafe extern "C" fn sum(bases: *const *mut u8, begin: u64, end: u64, _scratch: *mut u8) {
    unsafe {
        let [x, state, y] = [0, 1, 2].map(|n| (*bases.add(n)).cast::<i64>());
        for n in begin as usize..end as usize {
            *state.add(n) += *x.add(n);
            *y.add(n) = *state.add(n);
        }
    }
}

unsafe extern "C" fn next(bases: *const *mut u8, _: u64, _: u64, _scratch: *mut u8) {
    unsafe {
        let [limit, round, going] = [0, 1, 2].map(|n| *bases.add(n));
        *round.cast::<i64>() += 1;
        *going = u8::from(*round.cast::<i64>() < *limit.cast::<i64>());
    }
}

unsafe extern "C" fn twice(bases: *const *mut u8, begin: u64, end: u64, _scratch: *mut u8) {
    unsafe {
        let state = (*bases).cast::<i64>();
        (begin as usize..end as usize).for_each(|n| *state.add(n) *= 2);
    }
}

unsafe extern "C" fn last(bases: *const *mut u8, begin: u64, end: u64, _scratch: *mut u8) {
    unsafe {
        let [state, round, last, rounds] = [0, 1, 2, 3].map(|n| (*bases.add(n)).cast::<i64>());
        (begin as usize..end as usize).for_each(|n| *last.add(n) = *state.add(n));
        if begin == 0 {
            *rounds = *round;
        }
    }
}

fn desc() -> ProgramDesc {
    let port = |name: &str, shape: &[usize]| Port {
        name: name.into(),
        elem: ElemType::I64,
        shape: shape.to_vec(),
        counts: Vec::new(),
    };
    let arena = |offset| Arg { region: Region::Arena, offset };
    let start = |region| Arg { region, offset: 0 };
    let step = |name: &str, func, units: usize, args: &[Arg]| Step {
        name: name.into(),
        func,
        units: units as u32,
        args: args.to_vec(),
    };
    let (x, limit) = (start(Region::Input(0)), start(Region::Input(1)));
    let [y, end, rounds] = [0, 1, 2].map(|n| start(Region::Output(n)));
    let moved = |arg, stride| Move { step: 1, arg, stride };
    ProgramDesc {
        target: "host".into(),
        features: CpuFeatures::default(),
        denormals: Denormals::Flush,
        inputs: vec![port("x", &[OUTER, INNER, N]), port("limit", &[])],
        outputs: vec![port("y", &[OUTER, INNER, N]), port("last", &[N]), port("rounds", &[])],
        arena_bytes: ARENA,
        scratch_bytes: 0,
        const_bytes: 0,
        functions: 5,
        steps: vec![
            step("start", 0, 1, &[limit, arena(0), arena(ROUND), arena(GOING), arena(DOUBLE)]),
            step("sum", 1, N, &[x, arena(0), y]),
            step("next", 2, 1, &[limit, arena(ROUND), arena(GOING)]),
            step("twice", 3, N, &[arena(0)]),
            step("last", 4, N, &[arena(0), arena(ROUND), end, rounds]),
        ],
        strips: vec![],
        index_checks: vec![],
        repeats: vec![
            Repeat {
                steps: 1..3,
                trips: OUTER as u64,
                going: Some(GOING),
                moves: [0, 2].map(|arg| moved(arg, (INNER as u64 * ROW) as i64)).to_vec(),
            },
            Repeat {
                steps: 1..2,
                trips: INNER as u64,
                going: None,
                moves: [0, 2].map(|arg| moved(arg, ROW as i64)).to_vec(),
            },
            Repeat { steps: 3..4, trips: 1, going: Some(DOUBLE), moves: vec![] },
        ],
    }
}

fn program(desc: ProgramDesc) -> Program {
    let consts = Constants::copy_of(&[]).unwrap();
    // SAFETY: the functions are static and do what the description says.
    unsafe { Program::from_parts(desc, vec![start, sum, next, twice, last], consts, Arc::new(())) }.unwrap()
}

/// What `y` holds as far as it is written, and `last`.
fn expected(x: &[i64], limit: i64) -> (Vec<i64>, Vec<i64>) {
    let rounds = limit.clamp(0, OUTER as i64) as usize;
    let (mut state, mut y) = (vec![0; N], Vec::new());
    for row in x.chunks(N).take(rounds * INNER) {
        state.iter_mut().zip(row).for_each(|(s, x)| *s += x);
        y.extend(&state);
    }
    if limit % 2 == 1 {
        state.iter_mut().for_each(|s| *s *= 2);
    }
    (y, state)
}

#[test]
fn loops_end_where_their_data_say_on_any_number_of_threads() {
    let program = program(desc());
    let x: Vec<i64> = (0..(OUTER * INNER * N) as i64).map(|n| n * n % 101 - 50).collect();
    for threads in if cfg!(miri) { vec![1, 2] } else { vec![1, 2, 3, 8] } {
        let pool = Pool::new(threads).unwrap();
        let mut session = Session::new(&program, &pool).unwrap();
        for run in 0..if cfg!(miri) { 9 } else { 200 } {
            let limit = run % 9 - 1;
            let outputs = session.run(&[InputRef::new(&x), InputRef::new(&[limit])]).unwrap();
            let (y, last) = expected(&x, limit);
            assert_eq!(outputs.get::<i64>(0).unwrap()[..y.len()], y, "{threads} threads, limit {limit}");
            assert_eq!(outputs.get::<i64>(1).unwrap(), last, "{threads} threads, limit {limit}");
            assert_eq!(outputs.get::<i64>(2).unwrap(), [limit.clamp(0, OUTER as i64)]);
        }
    }
}

/// Units that take long and many iterations: threads come late, and go on where the others are.
#[test]
fn threads_that_are_late_find_their_way() {
    unsafe extern "C" fn slow(bases: *const *mut u8, begin: u64, end: u64, scratch: *mut u8) {
        // Now and then a unit waits for the system to give the core to others.
        if (begin * 7 + end).is_multiple_of(13) {
            std::thread::yield_now();
        }
        unsafe { sum(bases, begin, end, scratch) }
    }
    let consts = Constants::copy_of(&[]).unwrap();
    // SAFETY: as above.
    let program =
        unsafe { Program::from_parts(desc(), vec![start, slow, next, twice, last], consts, Arc::new(())) }
            .unwrap();
    let x: Vec<i64> = (0..(OUTER * INNER * N) as i64).collect();
    let pool = Pool::new(6).unwrap();
    std::thread::scope(|scope| {
        // Two sessions compete for the pool: one of them works alone.
        for caller in 0..2i64 {
            let (program, pool, x) = (&program, &pool, &x);
            scope.spawn(move || {
                let mut session = Session::new(program, pool).unwrap();
                for run in 0..if cfg!(miri) { 2 } else { 100 } {
                    let limit = (run + caller) % 7;
                    let outputs = session.run(&[InputRef::new(x), InputRef::new(&[limit])]).unwrap();
                    assert_eq!(outputs.get::<i64>(1).unwrap(), expected(x, limit).1, "limit {limit}");
                }
            });
        }
    });
}

#[test]
fn the_time_of_all_iterations_is_that_of_their_step() {
    let program = program(desc());
    let mut session = Session::new(&program, &Pool::new(1).unwrap()).unwrap();
    let x = vec![1i64; OUTER * INNER * N];
    let nanos = session.run_profiled(&[InputRef::new(&x), InputRef::new(&[6i64])]).unwrap();
    assert!(nanos.len() == 5 && nanos[1] > 0, "{nanos:?}");
}

#[test]
fn a_description_with_repeats_survives_the_way_to_bytes_and_back() {
    assert_eq!(decode(&encode(&desc()).unwrap()).unwrap(), desc());
}

#[test]
fn repeats_that_do_not_fit_their_steps_are_refused() {
    let refusal = |change: fn(&mut ProgramDesc)| {
        let mut desc = desc();
        change(&mut desc);
        desc.verify().unwrap_err().to_string()
    };
    let text = |steps: &str, problem: &str| {
        format!("the loop over steps {steps} {problem}; compile the program again")
    };
    assert_eq!(refusal(|d| d.repeats[0].steps = 3..3), text("3 to 3", "is of steps that do not exist"));
    assert_eq!(refusal(|d| d.repeats[2].steps = 3..6), text("3 to 6", "is of steps that do not exist"));
    let apart = "is neither inside of another one nor behind it";
    assert_eq!(refusal(|d| d.repeats[1].steps = 2..4), text("2 to 4", apart));
    assert_eq!(refusal(|d| d.repeats.swap(0, 2)), text("1 to 2", apart));
    assert_eq!(refusal(|d| d.repeats.swap(0, 1)), text("1 to 3", apart));
    assert_eq!(refusal(|d| d.repeats[2].trips = 0), text("3 to 4", "has no iterations"));
    assert_eq!(
        refusal(|d| d.repeats[2].going = Some(ARENA)),
        text("3 to 4", "has a condition outside of the arena")
    );
    let foreign = "moves a base pointer that it does not have";
    assert_eq!(refusal(|d| d.repeats[0].moves[0].step = 3), text("1 to 3", foreign));
    assert_eq!(refusal(|d| d.repeats[1].moves[0].arg = 3), text("1 to 2", foreign));
    let out = text("1 to 2", "moves a base pointer out of its memory");
    assert_eq!(refusal(|d| d.repeats[1].moves[0].stride = -8), out);
    assert_eq!(refusal(|d| d.repeats[0].trips = 7), out);
    assert_eq!(refusal(|d| d.repeats[0].trips = u64::MAX), out);
    assert_eq!(refusal(|d| d.repeats[0].moves[1].stride = i64::MAX), out);
}
