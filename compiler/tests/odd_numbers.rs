//! NaN, infinity and what is next to them agree with onnxruntime, in inputs and in weights: where it computes a NaN, so does a
//! program; where it computes infinity, the same one; and ordinary numbers differ by rounding alone.
//!
//! `tests/goldens/make_odd_numbers.py` makes the cases: for each a model, an input and what onnxruntime computes.
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::collections::BTreeMap;
use std::path::Path;

use nnc::target::Target;
use nnc::{Denormals, InputRef, Model, Options, Pool, Session};
use nnc_ir::Tensor;

/// The largest difference of ordinary numbers, relative to the larger one or to 1.
const TOLERANCE: f32 = 1e-5;

/// A maximum of nothing but `-inf` is `-inf`; onnxruntime begins with the lowest finite number and ends there. A batch norm over a
/// variance of 0 is `(x − μ) · inf`, as ONNX says; onnxruntime computes `x · inf + (β − μ · inf)`, which is NaN for `μ = 0`.
const DIFFERENT: [&str; 2] = ["maxpool_low", "conv_batch_norm_var_zero"];

/// How strictly programs are held to the goldens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Element by element.
    Fully,
    /// Winograd's algorithm adds up whole tiles: a NaN or infinity makes NaN of the tiles that it is in.
    ByTiles,
}

/// The arrays of each case: `model`, `x` and `y`.
fn cases() -> BTreeMap<String, BTreeMap<String, Tensor>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/odd_numbers.npz");
    let mut cases: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
    for (name, tensor) in nnc::npz::read_npz(Path::new(file)).expect("the goldens") {
        let (case, part) = name.split_once('.').expect("a case and a part");
        cases.entry(case.to_owned()).or_default().insert(part.to_owned(), tensor);
    }
    cases
}

fn same(got: f32, expected: f32, held: Held) -> bool {
    if held == Held::ByTiles && got.is_nan() {
        return true;
    }
    if expected.is_finite() && got.is_finite() {
        return (got - expected).abs() <= TOLERANCE * expected.abs().max(1.0);
    }
    got == expected || (got.is_nan() && expected.is_nan())
}

fn run(case: &BTreeMap<String, Tensor>, options: &Options) -> Result<Vec<f32>, String> {
    let model = Model::from_bytes(case["model"].bytes()).map_err(|e| e.to_string())?;
    let program = model.compile(options).map_err(|e| e.to_string())?;
    let mut session =
        Session::new(&program, &Pool::new(1).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    let x = case["x"].elems::<f32>().map_err(|e| e.to_string())?;
    let outputs = session.run(&[InputRef::new(&x)]).map_err(|e| e.to_string())?;
    Ok(outputs.get::<f32>(0).map_err(|e| e.to_string())?.to_vec())
}

#[test]
fn odd_numbers_agree_with_onnxruntime_on_every_target_that_runs_here() {
    let cases = cases();
    assert!(cases.len() >= 79, "{} cases", cases.len());
    let mut wrong = vec![];
    let all = ["native", "native-clif", "x86-64-v3"];
    for (target, held) in all.iter().flat_map(|target| [(*target, Held::Fully), (*target, Held::ByTiles)]) {
        let Ok(target) = Target::named(target) else { continue };
        if !target.runs_here() {
            continue;
        }
        let options = Options { target: Some(target.clone()), ..Options::default() };
        let options = options.winograd(held == Held::ByTiles).denormals(Denormals::Keep);
        for (name, case) in &cases {
            let expected = case["y"].elems::<f32>().expect("floats");
            match run(case, &options) {
                Ok(got) => {
                    assert_eq!(got.len(), expected.len(), "{name}");
                    let off = got.iter().zip(expected.iter()).position(|(g, e)| !same(*g, *e, held));
                    if let Some(at) = off {
                        wrong.push(format!(
                            "{} {name}[{at}]: {} is not {}",
                            target.name, got[at], expected[at]
                        ));
                    }
                }
                Err(error) => wrong.push(format!("{} {name}: {error}", target.name)),
            }
        }
    }
    wrong.retain(|line| !DIFFERENT.iter().any(|case| line.split([' ', '[', ':']).nth(1) == Some(case)));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
