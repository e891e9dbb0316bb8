//! How much memory a process takes that opens a model, compiles it and runs it: its weights are never there twice.
//!
//! Weights lie in pages of their own, which no allocator counts; so the system is asked, in a process that does nothing else.
#![cfg(all(feature = "cli", target_arch = "x86_64", target_os = "linux"))]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use nnc::{InputRef, Model, Options, Pool, Session};
use nnc_models::Spec;

/// Names the model to the process that is measured.
const MODEL: &str = "NNC_TEST_MODEL";

/// What the kernel says about this process, in bytes.
fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line =
        status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("the field");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
    kib * 1024
}

/// Opens, compiles and runs a model; returns the bytes of its constants and activations.
fn run(path: &Path) -> (u64, u64) {
    let model = Model::open(path).expect("a model");
    let program = model.compile(&Options::default()).expect("a program");
    let input = vec![0.5f32; program.inputs()[0].elems()];
    let mut session = Session::new(&program, &Pool::new(1).expect("a pool")).expect("a session");
    session.run(&[InputRef::new(&input)]).expect("results");
    (program.desc().const_bytes, program.desc().arena_bytes)
}

/// Compiles and runs a model in a process of its own, which is the test of this name; returns by how many bytes that grew, and the
/// bytes of constants and activations.
#[track_caller]
fn grown(test: &str, spec: &Spec) -> [u64; 3] {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("large.onnx");
    let write = |path: &Path, spec| fs::write(path, nnc_models::encode(spec).expect("a network"));
    write(&model, spec).expect("a file");
    let small = Spec::new("mobilenet-v2").resolution(32).width(0.35);
    write(&model.with_file_name("small.onnx"), &small).expect("a file");
    let measured = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(MODEL, &model)
        .output()
        .expect("a process");
    let told = String::from_utf8_lossy(&measured.stdout);
    let numbers = told.split_once("grown by ").and_then(|(_, rest)| rest.lines().next());
    let numbers = numbers.unwrap_or_else(|| panic!("{told}{}", String::from_utf8_lossy(&measured.stderr)));
    let numbers: Vec<u64> = numbers.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [grown, constants, arena] = numbers[..] else { panic!("{numbers:?}") };
    assert!(constants > 32 << 20, "{constants} bytes of constants are too few to tell");
    println!("{grown} bytes at the peak for {constants} bytes of constants and {arena} of arena");
    [grown, constants, arena]
}

/// In the process that is measured: does what is measured, and says so. `false` in the test itself.
fn measured() -> bool {
    let Some(model) = env::var_os(MODEL) else { return false };
    // What any compilation takes is there before, so that it does not count.
    run(&Path::new(&model).with_file_name("small.onnx"));
    let before = status("VmRSS");
    let (constants, arena) = run(Path::new(&model));
    println!("grown by {} {constants} {arena}", status("VmHWM").saturating_sub(before));
    true
}

#[test]
fn weights_that_a_pass_changes_are_not_in_memory_twice() {
    if measured() {
        return;
    }
    let test = "weights_that_a_pass_changes_are_not_in_memory_twice";
    // Batch norms are folded into them.
    let [grown, constants, arena] = grown(test, &Spec::new("mobilenet-v2").resolution(32).width(2.0));
    // The weights of a few layers at a time are there as the model has them and as kernels read them.
    assert!(grown < constants + constants / 2 + arena);
}

#[test]
fn the_largest_matrix_is_in_memory_only_as_kernels_read_it() {
    if measured() {
        return;
    }
    let test = "the_largest_matrix_is_in_memory_only_as_kernels_read_it";
    // One of its three matrices has four fifths of all weights.
    let [grown, constants, arena] = grown(test, &Spec::new("alexnet").resolution(63));
    assert!(grown < constants + constants / 10 + arena);
}
