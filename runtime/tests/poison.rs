//! `NNC_POISON`: what nothing has written is a signalling NaN in every run.

mod common;

use std::sync::Arc;

use common::watchdog::Watchdog;
use common::{COLS, ROWS, desc};
use nnc_runtime::abi::LayerFn;
use nnc_runtime::{Constants, InputRef, OutputMut, Pool, Program, Session};

/// Copies the arena, which nothing has written, and writes it for the next run to find.
unsafe extern "C" fn careless(bases: *const *mut u8, begin: u64, end: u64, _scratch: *mut u8) {
    unsafe {
        let [arena, y] = [0, 3].map(|n| (*bases.add(n)).cast::<u32>());
        for at in begin as usize * COLS..end as usize * COLS {
            // All but the last column of the output is left as it was.
            if at % COLS == COLS - 1 {
                *y.add(at) = *arena.add(at);
            }
            *arena.add(at) = 7;
        }
    }
}

#[test]
fn a_step_that_reads_what_nothing_has_written_finds_signalling_nans_in_every_run() {
    let _watchdog = Watchdog::seconds(60);
    // SAFETY: this test is alone in its process.
    unsafe { std::env::set_var("NNC_POISON", "1") };
    let mut desc = desc();
    desc.steps.drain(..2);
    desc.steps[0].func = 0;
    desc.functions = 1;
    let consts = Constants::copy_of(&[0; COLS * 8]).unwrap();
    // SAFETY: the function stays inside of its buffers.
    let program =
        unsafe { Program::from_parts(desc, vec![careless as LayerFn], consts, Arc::new(())) }.unwrap();
    let mut session = Session::new(&program, &Pool::new(2).unwrap()).unwrap();
    let (x, bias) = (vec![0.0_f32; ROWS * COLS], vec![0.0_f32; COLS]);
    let inputs = [InputRef::new(&x), InputRef::new(&bias)];
    for _ in 0..3 {
        let mut y = vec![0.0_f32; ROWS * COLS];
        session.run_into(&inputs, &mut [OutputMut::new(&mut y[..])]).unwrap();
        assert!(y.iter().all(|y| y.is_nan() && y.to_bits() & 1 << 22 == 0), "{y:?}");
    }
}
