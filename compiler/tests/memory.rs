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

fn write(path: &Path, width: f64) {
    let spec = Spec::new("mobilenet-v2").resolution(32).width(width);
    fs::write(path, nnc_models::encode(&spec).expect("a network")).expect("a file");
}

#[test]
fn weights_are_never_in_memory_twice() {
    if let Some(model) = env::var_os(MODEL) {
        // What any compilation takes is there before, so that it does not count.
        run(&Path::new(&model).with_file_name("small.onnx"));
        let before = status("VmRSS");
        let (constants, arena) = run(Path::new(&model));
        let peak = status("VmHWM");
        println!("grown by {} of {constants} and {arena}", peak.saturating_sub(before));
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("large.onnx");
    write(&model, 2.0);
    write(&model.with_file_name("small.onnx"), 0.35);
    let measured = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "weights_are_never_in_memory_twice", "--nocapture"])
        .env(MODEL, &model)
        .output()
        .expect("a process");
    let told = String::from_utf8_lossy(&measured.stdout);
    let numbers = told.split_once("grown by ").and_then(|(_, rest)| rest.lines().next());
    let numbers = numbers.unwrap_or_else(|| panic!("{told}{}", String::from_utf8_lossy(&measured.stderr)));
    let numbers: Vec<u64> = numbers.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [grown, constants, arena] = numbers[..] else { panic!("{numbers:?}") };
    // The weights of a few layers at a time are there as the model has them and as kernels read them.
    assert!(constants > 32 << 20, "{constants} bytes of constants are too few to tell");
    let limit = constants + constants / 2 + arena;
    assert!(
        grown < limit,
        "{grown} bytes at the peak for {constants} bytes of constants and {arena} of arena"
    );
}
