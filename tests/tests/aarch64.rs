//! Every built-in network at reduced resolution, compiled for aarch64: artefact and object compute what onnxruntime computes.
//!
//! On another machine they run under qemu-user; where that or a C compiler for aarch64 is missing, all trials are told to be ignored,
//! which is what they are then.

#[path = "../../compiler/tests/common/foreign.rs"]
mod foreign;

use foreign::{Emulator, Kind};
use libtest_mimic::{Arguments, Failed, Trial};
use nnc::emit::object::{ConstantPlace, compile};
use nnc::target::Target;
use nnc_tests::goldens::{GoldenCase, Suite, TOLERANCE, cases, deviation};
use nnc_tests::pipeline::{self, Failure};

fn main() {
    let arguments = Arguments::from_args();
    let missing = Emulator::get().err();
    if let Some(why) = missing {
        eprintln!("\nprograms for aarch64 do not run here, so their tests are ignored: {why}");
    }
    let small = cases().into_iter().filter(|case| case.suite == Suite::Small);
    let trials = small.map(|case| {
        let trial = Trial::test(format!("{}::aarch64", case.name), move || {
            check(&case).map_err(|error| Failed::from(error.to_string()))
        });
        trial.with_ignored_flag(missing.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn check(case: &GoldenCase) -> Result<(), Failure> {
    let emulator = Emulator::get()?;
    let target = Target::named("aarch64")?;
    let plan = pipeline::plan(&pipeline::optimise(&pipeline::read(&case.spec)?)?, &target)?;
    let artefact = pipeline::artefact(&plan, &target)?;
    let object = compile(&plan, &target, ConstantPlace::Inside)?.bytes;
    let input: Vec<u8> = case.input().iter().flat_map(|x| x.to_le_bytes()).collect();
    let sizes: Vec<usize> = plan.outputs.iter().map(|output| output.bytes()).collect();
    let golden = case.golden()?;
    let mut first = None;
    for kind in [Kind::Artefact(&artefact), Kind::Object(&object)] {
        let outputs = emulator.run(kind, &[&input], &sizes)?;
        let computed: Vec<f32> =
            outputs[0].as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        let deviation = deviation(&golden.output.of(&computed), &golden.output.elements);
        if deviation > TOLERANCE {
            return Err(format!("off by {deviation:.1e} of the largest golden value").into());
        }
        if first.get_or_insert_with(|| outputs.clone()) != &outputs {
            return Err("artefact and object compute other bits".into());
        }
    }
    Ok(())
}
