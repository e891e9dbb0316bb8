//! Steps that run strip by strip.
//!
//! ```text
//!   blur    unit = row    y[r] = x[r-1] + x[r] + x[r+1], rows outside left out
//!   twice:  input ─▶ strip buffer ─▶ output, in strips of four rows, each with two rows more in between
//! ```

#[path = "common/watchdog.rs"]
mod watchdog;

use std::ops::Range;
use std::sync::Arc;

use nnc_runtime::abi::{
    Arg, CpuFeatures, Denormals, ElemType, Port, ProgramDesc, Region, Step, Strip, Strips,
};
use nnc_runtime::encode::{decode, encode};
use nnc_runtime::{Constants, InputRef, Pool, Program, Session};
use watchdog::Watchdog;

const ROWS: usize = 37;
const COLS: usize = 24;
const ROW: u64 = COLS as u64 * 4;
const STRIP: usize = 4;

unsafe extern "C" fn blur(bases: *const *mut u8, begin: u64, end: u64, _scratch: *mut u8) {
    unsafe {
        let [x, y] = [0, 1].map(|n| (*bases.add(n)).cast::<f32>());
        for row in begin as usize..end as usize {
            for col in 0..COLS {
                let rows = row.saturating_sub(1)..(row + 2).min(ROWS);
                // Wrapping: the buffer of a strip is seen as the whole tensor, which begins outside of it.
                *y.wrapping_add(row * COLS + col) =
                    rows.map(|row| *x.wrapping_add(row * COLS + col)).sum::<f32>();
            }
        }
    }
}

fn blurred(x: &[f32]) -> Vec<f32> {
    let rows = |row: usize| row.saturating_sub(1)..(row + 2).min(ROWS);
    let sum = |row: usize, col: usize| rows(row).map(|row| x[row * COLS + col]).sum();
    (0..ROWS * COLS).map(|at| sum(at / COLS, at % COLS)).collect()
}

fn input(seed: usize) -> Vec<f32> {
    (0..ROWS * COLS).map(|n| ((n * 7 + seed * 13) as f32).cos()).collect()
}

fn desc() -> ProgramDesc {
    let port = |name: &str| Port {
        name: name.into(),
        elem: ElemType::F32,
        shape: vec![ROWS, COLS],
        counts: Vec::new(),
    };
    let place = |region| Arg { region, offset: 0 };
    let step = |name: &str, from, to| Step {
        name: name.into(),
        func: 0,
        units: ROWS as u32,
        args: vec![place(from), place(to)],
    };
    let strip = |rows: Range<usize>| {
        let needed = rows.start.saturating_sub(1)..(rows.end + 1).min(ROWS);
        let units = |rows: &Range<usize>| rows.start as u32..rows.end as u32;
        Strip { units: vec![units(&needed), units(&rows)], origins: vec![needed.start as u64 * ROW] }
    };
    let strips = (0..ROWS).step_by(STRIP).map(|row| strip(row..(row + STRIP).min(ROWS)));
    ProgramDesc {
        target: "host".into(),
        features: CpuFeatures::default(),
        denormals: Denormals::Flush,
        index_checks: Vec::new(),
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        arena_bytes: 0,
        scratch_bytes: 64 + (STRIP as u64 + 2) * ROW,
        const_bytes: 0,
        functions: 1,
        steps: vec![
            step("first", Region::Input(0), Region::Strip(0)),
            step("second", Region::Strip(0), Region::Output(0)),
        ],
        strips: vec![Strips { first: 0, buffers: vec![64], strips: strips.collect() }],
        repeats: vec![],
    }
}

fn program() -> Program {
    let consts = Constants::copy_of(&[]).unwrap();
    // SAFETY: the function is static and does what the description says.
    unsafe { Program::from_parts(desc(), vec![blur], consts, Arc::new(())) }.unwrap()
}

#[test]
fn strips_give_what_whole_steps_give_on_any_number_of_threads() {
    let _watchdog = Watchdog::seconds(60);
    let program = program();
    for threads in if cfg!(miri) { vec![1, 2] } else { vec![1, 2, 3, 8, 16] } {
        let pool = Pool::new(threads).unwrap();
        let mut session = Session::new(&program, &pool).unwrap();
        for seed in 0..if cfg!(miri) { 1 } else { 20 } {
            let x = input(seed);
            let outputs = session.run(&[InputRef::new(&x)]).unwrap();
            assert_eq!(outputs.get::<f32>(0).unwrap(), blurred(&blurred(&x)), "{threads} threads");
        }
    }
}

#[test]
fn a_profile_parts_the_time_of_strips_among_their_steps() {
    let _watchdog = Watchdog::seconds(60);
    for threads in [1, 2] {
        let pool = Pool::new(threads).unwrap();
        let mut session = Session::new(&program(), &pool).unwrap();
        let x = input(1);
        for _ in 0..3 {
            let nanos = session.run_profiled(&[InputRef::new(&x)]).unwrap();
            // Others may have done all strips; then the caller has waited for them.
            assert!(nanos.len() == 2 && nanos.iter().any(|&time| time > 0), "{nanos:?}");
            assert!(threads > 1 || nanos.iter().all(|&time| time > 0), "{nanos:?}");
        }
    }
}

#[test]
fn a_description_with_strips_survives_the_way_to_bytes_and_back() {
    assert_eq!(decode(&encode(&desc()).unwrap()).unwrap(), desc());
}

#[test]
fn strips_that_do_not_fit_their_steps_are_refused() {
    let refusal = |change: fn(&mut ProgramDesc)| {
        let mut desc = desc();
        change(&mut desc);
        desc.verify().unwrap_err().to_string()
    };
    let strips = |problem: &str| format!("the strips from step 0 on {problem}; compile the program again");
    assert_eq!(refusal(|d| d.strips[0].strips.clear()), strips("are of steps that do not exist"));
    assert_eq!(refusal(|d| d.steps.truncate(1)), strips("are of steps that do not exist"));
    assert_eq!(refusal(|d| d.strips.push(d.strips[0].clone())), strips("are of steps that others have"));
    assert_eq!(refusal(|d| d.strips[0].buffers[0] = 1 << 40), strips("have a buffer outside of scratch"));
    let uneven = strips("are not all of the same steps and buffers");
    assert_eq!(refusal(|d| d.strips[0].strips[3].origins.clear()), uneven);
    assert_eq!(refusal(|d| d.strips[0].strips[3].units.truncate(1)), uneven);
    let foreign = strips("have units that a step does not have");
    assert_eq!(refusal(|d| d.strips[0].strips[9].units[1].end += 1), foreign);
    assert_eq!(refusal(|d| d.strips[0].strips[9].units[1].start += 9), foreign);
    let missing =
        "argument 1 of step \"first\" names Strip(0), which does not exist; compile the program again";
    assert_eq!(refusal(|d| d.strips.clear()), missing);
}
