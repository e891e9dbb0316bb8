//! Results do not depend on what memory held before a run: not on zeros, and not on signalling NaNs.
#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;
use std::process::Command;

use nnc_models::Spec;

/// The outputs of a network, as the bytes of a file.
fn outputs(model: &Path, input: &Path, to: &Path, poison: &str, more: &[&str]) -> Vec<u8> {
    let input = format!("input={}", input.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_nnc"));
    command
        .arg("run")
        .arg(model)
        .arg("--output")
        .arg(to)
        .args(["--input", &input])
        .args(more)
        .env("NNC_POISON", poison);
    let done = command.output().expect("the command starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::read(to).expect("outputs")
}

/// A picture, as a file of NumPy.
fn picture(side: usize) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, {side}, {side}), }}");
    let mut file = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    file.extend(format!("{header:<117}\n").bytes());
    file.extend((0..3 * side * side).flat_map(|i| ((i % 23) as f32 / 11.0 - 1.0).to_le_bytes()));
    file
}

#[test]
fn results_are_the_same_when_memory_is_full_of_signalling_nans() {
    let folder = tempfile::tempdir().expect("a folder");
    let [model, input, to] = ["net.onnx", "x.npy", "y.npz"].map(|name| folder.path().join(name));
    let specs = [
        Spec::new("mobilenet-v2").width(0.35).resolution(64),
        Spec::new("shufflenet-v1").groups(3).width(0.5).resolution(64),
        Spec::new("shufflenet-v2").width(0.5).resolution(64),
        Spec::new("squeezenet-1.1").resolution(64),
        Spec::new("densenet-121").resolution(32),
        Spec::new("nasnet-a-mobile").resolution(64),
    ];
    for spec in specs {
        fs::write(&model, nnc_models::encode(&spec).expect("a model")).expect("room on the disk");
        fs::write(&input, picture(spec.resolution.unwrap_or(224))).expect("room on the disk");
        for more in [&["--threads", "1"][..], &["--threads", "2", "--no-strips"]] {
            let plain = outputs(&model, &input, &to, "0", more);
            assert!(plain == outputs(&model, &input, &to, "1", more), "{} {more:?}", spec.name);
        }
    }
}
