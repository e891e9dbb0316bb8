//! Indices from data that lead outside of what they point into: an error of the run that says which one, the same from the evaluator, for
//! any number of threads, in memory and from a file; and nothing of it is left in the next run.

use nnc::plan::{self, Indices};
use nnc::target::Target;
use nnc_ir::eval::EvalError;
use nnc_ir::{Graph, OpError, Tensor, eval, text};
use nnc_runtime::{Program, RunError};
use nnc_tests::pipeline::{self, Failure};

/// An operator of each kind, with so many indices that several units look at them.
const GRAPHS: [&str; 6] = [
    "
%x = input : f32[3x50x4]
%i = input : i64[40x70]
%n = gather_at %x, %i {axis=1} : f32[3x40x70x4]
output n = %n
",
    "
%x = input : f32[60x50]
%i = input : i64[90x50]
%n = gather_elements %x, %i {axis=0} : f32[90x50]
output n = %n
",
    "
%x = input : f32[7x50x50]
%i = input : i64[7x800x2]
%n = gather_nd %x, %i {batch_dims=1} : f32[7x800]
output n = %n
",
    "
%x = input : f32[50x60]
%i = input : i64[50x60]
%n = scatter_elements %x, %i, %x {axis=0} : f32[50x60]
output n = %n
",
    "
%x = input : f32[50x60]
%i = input : i64[50x60]
%n = scatter_elements %x, %i, %x {axis=1, reduction=add} : f32[50x60]
output n = %n
",
    "
%x = input : f32[50x50x3]
%i = input : i64[50x50x2]
%n = scatter_nd %x, %i, %x : f32[50x50x3]
output n = %n
",
];

/// Inputs of a graph: numbers, and indices inside of 50 elements but where some are said to be others.
fn inputs(graph: &Graph, outside: &[(usize, i64)]) -> Vec<Tensor> {
    let types: Vec<_> = graph.inputs().iter().map(|&id| graph.ty(id.into()).clone()).collect();
    let x: Vec<f32> = (0..types[0].shape.elems()).map(|i| i as f32).collect();
    let mut indices: Vec<i64> = (0..types[1].shape.elems() as i64).map(|i| i * 37 % 100 - 50).collect();
    for &(at, index) in outside {
        indices[at] = index;
    }
    let tensor = |ty: &nnc_ir::TensorType, bytes: &[u8]| Tensor::from_bytes(ty.clone(), bytes.to_vec());
    vec![
        tensor(&types[0], bytemuck::cast_slice(&x)).expect("numbers"),
        tensor(&types[1], bytemuck::cast_slice(&indices)).expect("indices"),
    ]
}

fn programs(graph: &Graph, indices: Indices) -> Result<Vec<Program>, Failure> {
    let target = Target::host()?;
    let options = plan::Options { indices, ..Default::default() };
    let plan = pipeline::plan_with(graph, &target, &options)?;
    Ok(vec![pipeline::jit(&plan, &target)?, pipeline::load(&pipeline::artefact(&plan, &target)?)?])
}

/// What a run says of an index outside.
fn told(program: &Program, inputs: &[Tensor], threads: usize) -> (String, usize, i64, usize) {
    let error = pipeline::run_tensors(program, inputs, threads).expect_err("an index outside");
    match error.downcast_ref::<RunError>() {
        Some(RunError::Index { node, axis, index, extent }) => (node.clone(), *axis, *index, *extent),
        _ => panic!("{error}"),
    }
}

/// What the evaluator says of it.
fn expected(graph: &Graph, inputs: &[Tensor]) -> (String, usize, i64, usize) {
    match eval::run(graph, inputs) {
        Err(EvalError::Op { node, source: OpError::Index { index, axis, extent }, .. }) => {
            (node, axis, index, extent)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_index_outside_is_told_of_whoever_finds_it() -> Result<(), Failure> {
    for source in GRAPHS {
        let graph = text::parse(source)?;
        let count = graph.ty(graph.inputs()[1].into()).shape.elems();
        let good = inputs(&graph, &[]);
        let right = eval::run(&graph, &good)?;
        for program in programs(&graph, Indices::Checked)? {
            for outside in [
                vec![(0, 60)],
                vec![(count - 1, i64::MIN)],
                vec![(count / 2 + 1, -61), (count / 2, i64::MAX), (count - 1, 99)],
                (0..count).rev().map(|at| (at, 1000 + at as i64)).collect(),
            ] {
                let bad = inputs(&graph, &outside);
                let expected = expected(&graph, &bad);
                assert_eq!(expected.0, "n");
                for threads in [1, 2, 3] {
                    assert_eq!(told(&program, &bad, threads), expected, "{threads} threads: {source}");
                }
            }
            assert_eq!(pipeline::run_tensors(&program, &good, 2)?, right, "{source}");
        }
    }
    Ok(())
}

#[test]
fn a_session_goes_on_behind_an_error() -> Result<(), Failure> {
    use nnc_runtime::{InputRef, Pool, Session};
    let graph = text::parse(
        "
%x = input : f32[4]
%i = input : i64[2]
%j = input : i64[2]
%first = gather_at %x, %i {axis=0} : f32[2]
%second = gather_at %x, %j {axis=0} : f32[2]
output first = %first
output second = %second
",
    )?;
    for program in programs(&graph, Indices::Checked)? {
        let mut session = Session::new(&program, &Pool::new(2)?)?;
        let x = [1.0f32, 2.0, 3.0, 4.0];
        let mut run = |i: [i64; 2], j: [i64; 2]| -> Result<Vec<f32>, String> {
            let result = session.run(&[InputRef::new(&x), InputRef::new(&i), InputRef::new(&j)]);
            result
                .and_then(|outputs| Ok([outputs.get::<f32>(0)?, outputs.get::<f32>(1)?].concat()))
                .map_err(|e| e.to_string())
        };
        for _ in 0..2 {
            assert_eq!(run([0, -1], [2, -4]), Ok(vec![1.0, 4.0, 3.0, 1.0]));
            let error = run([0, 1], [7, 8]).expect_err("an index outside");
            assert!(
                error.starts_with("node \"second\": index 7 lies outside of axis 0, which has 4"),
                "{error}"
            );
            let error = run([0, 5], [7, 8]).expect_err("an index outside");
            assert!(error.starts_with("node \"first\": index 5 lies"), "of the lower step: {error}");
        }
    }
    Ok(())
}

#[test]
fn programs_that_clamp_say_nothing() -> Result<(), Failure> {
    for source in GRAPHS {
        let graph = text::parse(source)?;
        for program in programs(&graph, Indices::Clamped)? {
            assert_eq!(program.desc().index_checks, []);
            for threads in [1, 2] {
                pipeline::run_tensors(&program, &inputs(&graph, &[(0, 60), (5, i64::MIN)]), threads)?;
            }
        }
    }
    Ok(())
}
