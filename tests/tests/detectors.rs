//! The ends of detectors as exporters write them agree with onnxruntime: behind NonMaxSuppression and NonZero, with some detections, none, and as
//! many as can be.
//!
//! `tests/goldens/make_detectors.py` makes the cases: for each a model, and inputs and results of some runs. A program computes the same with any number of threads,
//! in memory and from a file, bit for bit; the evaluator and onnxruntime differ from it by rounding alone.

use std::collections::BTreeMap;
use std::path::Path;

use nnc::target::Target;
use nnc_ir::onnx::{Bindings, Model};
use nnc_ir::{DType, Tensor, eval};
use nnc_runtime::Program;
use nnc_tests::pipeline::{self, Failure};

/// The largest difference, relative to the larger number or to 1.
const TOLERANCE: f32 = 1e-5;

/// Inputs and outputs by name.
#[derive(Default)]
struct Run {
    inputs: BTreeMap<String, Tensor>,
    outputs: BTreeMap<String, Tensor>,
}

#[derive(Default)]
struct Case {
    model: Vec<u8>,
    runs: BTreeMap<String, Run>,
}

fn cases() -> BTreeMap<String, Case> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/goldens/detectors.npz");
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (name, tensor) in nnc::npz::read_npz(Path::new(file)).expect("the goldens") {
        let parts: Vec<&str> = name.split('.').collect();
        match parts[..] {
            [case, "model"] => cases.entry(case.into()).or_default().model = tensor.bytes().to_vec(),
            [case, run, side, name] => {
                let run = cases.entry(case.into()).or_default().runs.entry(run.into()).or_default();
                let tensors = if side == "in" { &mut run.inputs } else { &mut run.outputs };
                tensors.insert(name.into(), tensor);
            }
            _ => panic!("{name}"),
        }
    }
    cases
}

/// Whether two tensors have the same type and elements, but for rounding.
fn same(got: &Tensor, expected: &Tensor) -> Result<bool, Failure> {
    if got.ty() != expected.ty() {
        return Ok(false);
    }
    if got.dtype() != DType::F32 {
        return Ok(got.bytes() == expected.bytes());
    }
    let (got, expected) = (got.elems::<f32>()?, expected.elems::<f32>()?);
    let near = |(&a, &b): (&f32, &f32)| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * b.abs().max(1.0)
    };
    Ok(got.iter().zip(expected.iter()).all(near))
}

fn check(name: &str, case: &Case) -> Result<(), Failure> {
    let graph = Model::from_bytes(case.model.clone(), None)?.graph(&Bindings::new())?;
    let target = Target::host()?;
    let plan = pipeline::plan(&pipeline::optimise(&graph)?, &target)?;
    let in_memory = pipeline::jit(&plan, &target)?;
    let from_file = pipeline::load(&pipeline::artefact(&plan, &target)?)?;
    for (run, golden) in &case.runs {
        let inputs: Vec<Tensor> =
            graph.inputs().iter().map(|&id| golden.inputs[&graph.node(id).name].clone()).collect();
        let of = |program: &Program, threads| pipeline::run_tensors(program, &inputs, threads);
        let results = of(&in_memory, 1)?;
        for (other, what) in [(of(&in_memory, 2)?, "two threads"), (of(&from_file, 2)?, "the file")] {
            let equal = results.iter().zip(&other).all(|(a, b)| a.ty() == b.ty() && a.bytes() == b.bytes());
            assert!(equal && results.len() == other.len(), "{name}, {run}: {what} compute something else");
        }
        let evaluated = eval::run(&graph, &inputs)?;
        for (((output, _), result), evaluated) in graph.outputs().iter().zip(&results).zip(&evaluated) {
            let golden = &golden.outputs[output];
            assert!(same(result, golden)?, "{name}, {run}: {output} is {}, not {}", result.ty(), golden.ty());
            assert!(same(evaluated, golden)?, "{name}, {run}: {output} evaluated");
        }
    }
    Ok(())
}

#[test]
fn ends_of_detectors_agree_with_onnxruntime() -> Result<(), Failure> {
    let cases = cases();
    assert!(cases.len() >= 6 && cases.values().all(|case| case.runs.len() >= 2));
    for (name, case) in &cases {
        check(name, case).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}
