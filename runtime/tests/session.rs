//! What a session promises to its caller.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::watchdog::Watchdog;
use common::{COLS, ROWS, constants, desc, expected, input, program};
use nnc_runtime::abi::{Arg, ElemType, LayerFn, ProgramDesc, Region};
use nnc_runtime::{
    Block, Constants, InputRef, OutputMut, Pages, Piece, Pool, Program, ProgramError, Session,
};

#[test]
fn results_are_the_same_for_any_number_of_threads() {
    let _watchdog = Watchdog::seconds(60);
    let program = program();
    let (x, bias) = (input(1), constants()[COLS..].to_vec());
    let expected = expected(&x, &bias);
    for threads in if cfg!(miri) { vec![1, 2, 3] } else { vec![1, 2, 3, 5, 16, 64] } {
        let pool = Pool::new(threads).unwrap();
        let mut session = Session::new(&program, &pool).unwrap();
        for _ in 0..if cfg!(miri) { 2 } else { 20 } {
            let outputs = session.run(&[InputRef::new(&x), InputRef::new(&bias)]).unwrap();
            assert_eq!(outputs.get::<f32>(0).unwrap(), expected, "{threads} threads");
        }
    }
}

#[test]
fn results_go_to_the_callers_buffer() {
    let _watchdog = Watchdog::seconds(60);
    let pool = Pool::new(2).unwrap();
    let mut session = Session::new(&program(), &pool).unwrap();
    let bias = vec![0.5; COLS];
    for seed in 0..4 {
        let x = input(seed);
        let mut y = vec![f32::NAN; ROWS * COLS];
        session
            .run_into(&[InputRef::new(&x), InputRef::new(&bias)], &mut [OutputMut::new(&mut y[..])])
            .unwrap();
        assert_eq!(y, expected(&x, &bias));
    }
    assert!(session.outputs().is_none(), "the session has no results of its own");
}

#[test]
fn inputs_may_come_by_name_in_any_order() {
    let pool = Pool::new(1).unwrap();
    let mut session = Session::new(&program(), &pool).unwrap();
    let (x, bias) = (input(2), vec![-1.0; COLS]);
    let inputs = [InputRef::new(&bias[..]).named("bias"), InputRef::new(&x[..]).named("x")];
    let outputs = session.run(&inputs).unwrap();
    assert_eq!(outputs.get::<f32>(0).unwrap(), expected(&x, &bias));
    assert_eq!(outputs.bytes(0).unwrap().len(), ROWS * COLS * 4);
}

#[test]
fn sessions_on_many_threads_share_a_program_and_a_pool() {
    let _watchdog = Watchdog::seconds(60);
    let program = program();
    let pool = Pool::new(3).unwrap();
    std::thread::scope(|scope| {
        for caller in 0..if cfg!(miri) { 2 } else { 8 } {
            let (program, pool) = (program.clone(), pool.clone());
            scope.spawn(move || {
                let mut session = Session::new(&program, &pool).unwrap();
                for round in 0..if cfg!(miri) { 2 } else { 200 } {
                    let (x, bias) = (input(caller * 1000 + round), vec![caller as f32; COLS]);
                    let outputs = session.run(&[(&x[..]).into(), (&bias[..]).into()]).unwrap();
                    assert_eq!(outputs.get::<f32>(0).unwrap(), expected(&x, &bias));
                }
            });
        }
    });
}

#[test]
fn a_session_may_move_to_another_thread() {
    let _watchdog = Watchdog::seconds(60);
    let pool = Pool::new(2).unwrap();
    let mut session = Session::new(&program(), &pool).unwrap();
    drop(pool);
    let (x, bias) = (input(3), vec![0.0; COLS]);
    let expected = expected(&x, &bias);
    let moved = std::thread::spawn(move || {
        session.run(&[InputRef::new(&x), InputRef::new(&bias)]).unwrap();
        session
    });
    let session = moved.join().unwrap();
    assert_eq!(session.outputs().unwrap().get::<f32>(0).unwrap(), expected);
}

#[test]
fn a_profile_has_a_time_for_each_step() {
    let _watchdog = Watchdog::seconds(60);
    for threads in [1, 2] {
        let pool = Pool::new(threads).unwrap();
        let mut session = Session::new(&program(), &pool).unwrap();
        let (x, bias) = (input(4), vec![0.0; COLS]);
        let inputs = [InputRef::new(&x), InputRef::new(&bias)];
        let nanos = session.run_profiled(&inputs).unwrap();
        assert_eq!(nanos.len(), 3);
        assert!(nanos.iter().all(|&time| time > 0));
        assert_eq!(session.outputs().unwrap().get::<f32>(0).unwrap(), expected(&x, &bias));
    }
}

#[test]
fn a_wrong_tensor_is_refused_and_named() {
    let pool = Pool::new(1).unwrap();
    let mut session = Session::new(&program(), &pool).unwrap();
    let (x, bias) = (input(5), vec![0.0_f32; COLS]);
    let (x, bias) = (InputRef::new(&x), InputRef::new(&bias));
    let short = [0.0_f32; 3];
    let integers = [0_i32; COLS];
    let bytes = [0_u8; COLS * 4 + 8];
    let odd = (0..4).find(|&at| bytes[at..].as_ptr().addr() % 4 == 1).unwrap();
    let misaligned = InputRef::from_bytes(ElemType::F32, &bytes[odd..odd + COLS * 4]);

    let mut refusal = |inputs: &[InputRef<'_>]| session.run(inputs).unwrap_err().to_string();
    assert_eq!(refusal(&[x]), "the program has 2 inputs but got 1; pass each once");
    assert_eq!(
        refusal(&[x, InputRef::new(&short)]),
        "input \"bias\" is f32[24] and takes 96 bytes but got 12; pass a dense tensor of that shape"
    );
    assert_eq!(
        refusal(&[x, InputRef::new(&integers)]),
        "input \"bias\" takes f32 but got i32; convert the tensor"
    );
    assert_eq!(
        refusal(&[x, bias.named("biass")]),
        "the program has no input \"biass\"; it has \"x\", \"bias\""
    );
    assert_eq!(refusal(&[x, x.named("x")]), "input \"x\" is given twice; pass each once");
    assert_eq!(
        refusal(&[x, misaligned]),
        "input \"bias\" must be aligned to 4 bytes; copy it to an aligned buffer"
    );

    let mut room = [0.0_f32; 7];
    let refused = session.run_into(&[x, bias], &mut [OutputMut::new(&mut room[..])]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "output \"y\" is f32[1, 37, 24] and takes 3552 bytes but got 28; pass a dense tensor of that shape"
    );

    let outputs = session.run(&[x, bias]).expect("the session still works");
    assert_eq!(
        outputs.get::<f32>(1).unwrap_err().to_string(),
        "the program has 1 outputs, so there is no output 1, counted from 0"
    );
    assert_eq!(
        outputs.get::<i32>(0).unwrap_err().to_string(),
        "output \"y\" takes f32 but got i32; convert the tensor"
    );
}

unsafe extern "C" fn nothing(_: *const *mut u8, _: u64, _: u64, _: *mut u8) {}

/// What `Program::from_parts` says to the test program with one thing changed.
fn refusal(change: impl FnOnce(&mut ProgramDesc)) -> String {
    let mut desc = desc();
    change(&mut desc);
    let funcs: Vec<LayerFn> = vec![nothing; 3];
    let consts = Constants::copy_of(&[0; COLS * 8]).unwrap();
    // SAFETY: the program is never run.
    unsafe { Program::from_parts(desc, funcs, consts, Arc::new(())) }.unwrap_err().to_string()
}

#[test]
fn a_description_that_does_not_fit_together_is_refused() {
    let remedy = "compile the program again";
    assert_eq!(
        refusal(|desc| desc.functions = 4),
        "the program describes 4 functions but comes with 3; compile it again"
    );
    assert_eq!(
        refusal(|desc| desc.const_bytes += 1),
        "the program describes 193 bytes of constants but comes with 192; compile it again"
    );
    assert_eq!(
        refusal(|desc| desc.steps[1].func = 3),
        format!("step \"sum\" calls function 3 of 3; {remedy}")
    );
    assert_eq!(
        refusal(|desc| desc.steps[2].units = 0),
        format!("step \"spread\" has no units of work; {remedy}")
    );
    assert_eq!(
        refusal(|desc| desc.steps[0].args[0] = Arg { region: Region::Input(2), offset: 0 }),
        format!("argument 0 of step \"scale\" names Input(2), which does not exist; {remedy}")
    );
    assert_eq!(
        refusal(|desc| desc.steps[2].args[1].offset = 3701),
        format!("argument 1 of step \"spread\" is at byte 3701 of Arena, which has 3700; {remedy}")
    );
    assert_eq!(
        refusal(|desc| desc.inputs[1].name = "x".to_owned()),
        "the name \"x\" stands for two inputs or two outputs; rename one in the model"
    );
    assert_eq!(
        refusal(|desc| desc.outputs[0].shape = vec![usize::MAX, 2]),
        format!("\"y\" of shape [{}, 2] is larger than the address space; use smaller extents", usize::MAX)
    );
}

#[test]
#[cfg_attr(miri, ignore = "Miri itself ends where there is no memory")]
fn an_arena_that_no_machine_has_is_an_error() {
    let mut desc = desc();
    desc.arena_bytes = 1 << 62;
    let consts = Constants::copy_of(&[0; COLS * 8]).unwrap();
    // SAFETY: the program is never run.
    let program =
        unsafe { Program::from_parts(desc, vec![nothing as LayerFn; 3], consts, Arc::new(())) }.unwrap();
    let error = Session::new(&program, &Pool::new(1).unwrap()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "cannot get 4611686018427387904 bytes of memory for the arena; free some memory or use a smaller model"
    );
}

#[test]
fn the_code_lives_as_long_as_the_last_clone() {
    struct Owner(Arc<AtomicBool>);
    impl Drop for Owner {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let gone = Arc::new(AtomicBool::new(false));
    let consts = Constants::copy_of(&[0; COLS * 8]).unwrap();
    let owner = Arc::new(Owner(Arc::clone(&gone)));
    // SAFETY: the program is never run.
    let program: Result<Program, ProgramError> =
        unsafe { Program::from_parts(desc(), vec![nothing as LayerFn; 3], consts, owner) };
    let session = Session::new(&program.unwrap(), &Pool::new(1).unwrap()).unwrap();
    assert!(!gone.load(Ordering::SeqCst), "the session still needs the code");
    drop(session);
    assert!(gone.load(Ordering::SeqCst));
}

/// The test program with its activations `shift` bytes further back in a larger arena, and its constants from `consts`.
fn shifted(shift: u64, consts: Constants) -> Program {
    let mut desc = desc();
    desc.arena_bytes += shift;
    for arg in desc.steps.iter_mut().flat_map(|step| &mut step.args) {
        if arg.region == Region::Arena {
            arg.offset += shift;
        }
    }
    common::with(desc, consts)
}

#[test]
fn a_session_turns_from_program_to_program() {
    let _watchdog = Watchdog::seconds(60);
    let consts = || program().constants().clone();
    let programs = [program(), shifted(1 << 20, consts()), shifted(64, consts())];
    let (x, bias) = (input(3), vec![0.25; COLS]);
    let expected = expected(&x, &bias);
    for threads in [1, 3] {
        let pool = Pool::new(threads).unwrap();
        let mut session = Session::new(&programs[0], &pool).unwrap();
        for program in programs.iter().cycle().take(7) {
            session.switch_to(program).unwrap();
            assert_eq!(session.program().desc(), program.desc());
            assert!(session.outputs().is_none(), "results of another program");
            for _ in 0..2 {
                let outputs = session.run(&[InputRef::new(&x), InputRef::new(&bias)]).unwrap();
                assert_eq!(outputs.get::<f32>(0).unwrap(), expected, "{threads} threads");
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri itself ends where there is no memory")]
fn a_session_that_cannot_turn_stays_as_it_was() {
    let _watchdog = Watchdog::seconds(60);
    let mut session = Session::new(&program(), &Pool::new(2).unwrap()).unwrap();
    let (x, bias) = (input(4), vec![1.0; COLS]);
    let error = session.switch_to(&shifted(1 << 62, program().constants().clone())).unwrap_err();
    assert!(error.to_string().contains("for the arena"), "{error}");
    let outputs = session.run(&[InputRef::new(&x), InputRef::new(&bias)]).unwrap();
    assert_eq!(outputs.get::<f32>(0).unwrap(), expected(&x, &bias));
}

#[test]
fn constants_may_lie_in_pieces_of_shared_blocks() {
    let bytes = program().constants().bytes().into_owned();
    let mut pages = Pages::zeroed(64 + bytes.len() as u64, "a test").unwrap();
    pages[64..].copy_from_slice(&bytes);
    let block = Arc::new(Block::new(pages).unwrap());
    let piece = |at, place| Piece { at, block: Arc::clone(&block), place };
    let consts = Constants::of_pieces(vec![piece(0, 64..64 + bytes.len())], bytes.len()).unwrap();
    let (x, bias) = (input(5), vec![1.5; COLS]);
    for shift in [0, 64] {
        let program = shifted(shift, consts.clone());
        let mut session = Session::new(&program, &Pool::new(1).unwrap()).unwrap();
        let outputs = session.run(&[InputRef::new(&x), InputRef::new(&bias)]).unwrap();
        assert_eq!(outputs.get::<f32>(0).unwrap(), expected(&x, &bias));
    }
    let late = Constants::of_pieces(vec![piece(64, 64..192)], bytes.len()).unwrap();
    // SAFETY: the program is never run.
    let refused = unsafe { Program::from_parts(desc(), vec![nothing as LayerFn; 3], late, Arc::new(())) };
    assert_eq!(
        refused.unwrap_err().to_string(),
        "argument 1 of step \"scale\" is at byte 0 of the constants, where there is none; compile the program again"
    );
}
