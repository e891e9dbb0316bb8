//! A small program over functions that Rust compiled: rows are scaled, summed and spread, in three steps.
//!
//! ```text
//!   scale   unit = row    arena[r][c] = x[r][c] * const[c]
//!   sum     unit = 1      arena.total[r] = Σc arena[r][c], through scratch
//!   spread  unit = row    y[r][c] = arena[r][c] + total[r] + bias[c]
//! ```
#![allow(dead_code)]

pub mod watchdog;

use std::sync::Arc;

use nnc_runtime::abi::{Arg, CpuFeatures, Denormals, ElemType, Port, ProgramDesc, Region, Step};
use nnc_runtime::{Constants, Program};

pub const ROWS: usize = 37;
pub const COLS: usize = 24;

unsafe extern "C" fn scale(bases: *const *mut u8, begin: u64, end: u64, _scratch: *mut u8) {
    unsafe {
        let [x, factors, y] = [0, 1, 2].map(|n| (*bases.add(n)).cast::<f32>());
        for at in begin as usize * COLS..end as usize * COLS {
            *y.add(at) = *x.add(at) * *factors.add(at % COLS);
        }
    }
}

unsafe extern "C" fn sum(bases: *const *mut u8, begin: u64, end: u64, scratch: *mut u8) {
    unsafe {
        assert_eq!((begin, end), (0, 1));
        let [x, totals] = [0, 1].map(|n| (*bases.add(n)).cast::<f32>());
        let scratch = scratch.cast::<f32>();
        for row in 0..ROWS {
            *scratch.add(row) = (0..COLS).map(|col| *x.add(row * COLS + col)).sum();
        }
        std::ptr::copy_nonoverlapping(scratch, totals, ROWS);
    }
}

unsafe extern "C" fn spread(bases: *const *mut u8, begin: u64, end: u64, scratch: *mut u8) {
    unsafe {
        let [x, totals, bias, y] = [0, 1, 2, 3].map(|n| (*bases.add(n)).cast::<f32>());
        let scratch = scratch.cast::<f32>();
        for row in begin as usize..end as usize {
            for col in 0..COLS {
                *scratch.add(col) = *x.add(row * COLS + col) + *totals.add(row) + *bias.add(col);
            }
            std::ptr::copy_nonoverlapping(scratch, y.add(row * COLS), COLS);
        }
    }
}

/// Factors and bias.
pub fn constants() -> Vec<f32> {
    (0..2 * COLS).map(|n| (n as f32).sin()).collect()
}

pub fn input(seed: usize) -> Vec<f32> {
    (0..ROWS * COLS).map(|n| ((n * 7 + seed * 13) as f32).cos()).collect()
}

/// What the program computes, in the same order of additions.
pub fn expected(x: &[f32], bias: &[f32]) -> Vec<f32> {
    let factors = constants();
    let scaled: Vec<f32> = x.iter().zip(factors[..COLS].iter().cycle()).map(|(x, f)| x * f).collect();
    let totals: Vec<f32> = scaled.chunks(COLS).map(|row| row.iter().sum()).collect();
    scaled.iter().enumerate().map(|(at, x)| x + totals[at / COLS] + bias[at % COLS]).collect()
}

pub fn desc() -> ProgramDesc {
    let arg = |region, offset: usize| Arg { region, offset: offset as u64 };
    let f32s = |n: usize| (n * 4) as u64;
    let port = |name: &str, shape: &[usize]| Port {
        name: name.to_owned(),
        elem: ElemType::F32,
        shape: shape.to_vec(),
        counts: Vec::new(),
    };
    let totals = ROWS * COLS * 4;
    let step = |name: &str, func, units: usize, args: Vec<Arg>| Step {
        name: name.to_owned(),
        func,
        units: units as u32,
        args,
    };
    ProgramDesc {
        target: "host".to_owned(),
        features: CpuFeatures::default(),
        denormals: Denormals::Flush,
        index_checks: Vec::new(),
        inputs: vec![port("x", &[1, ROWS, COLS]), port("bias", &[COLS])],
        outputs: vec![port("y", &[1, ROWS, COLS])],
        arena_bytes: f32s(ROWS * COLS + ROWS),
        scratch_bytes: f32s(ROWS.max(COLS)),
        const_bytes: f32s(2 * COLS),
        functions: 3,
        steps: vec![
            step(
                "scale",
                0,
                ROWS,
                vec![arg(Region::Input(0), 0), arg(Region::Const, 0), arg(Region::Arena, 0)],
            ),
            step("sum", 1, 1, vec![arg(Region::Arena, 0), arg(Region::Arena, totals)]),
            step(
                "spread",
                2,
                ROWS,
                vec![
                    arg(Region::Arena, 0),
                    arg(Region::Arena, totals),
                    arg(Region::Input(1), 0),
                    arg(Region::Output(0), 0),
                ],
            ),
        ],
        strips: vec![],
        repeats: vec![],
    }
}

pub fn program() -> Program {
    let bytes: Vec<u8> = constants().iter().flat_map(|x| x.to_ne_bytes()).collect();
    with(desc(), Constants::copy_of(&bytes).unwrap())
}

/// The program under another description of the same steps.
pub fn with(desc: ProgramDesc, consts: Constants) -> Program {
    // SAFETY: the functions are static and do what the description says.
    unsafe { Program::from_parts(desc, vec![scale, sum, spread], consts, Arc::new(())) }.unwrap()
}
