//! The command from outside: what it prints, how it fails, and what it leaves on the disk.
#![cfg(feature = "cli")]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use tempfile::TempDir;

fn nnc() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nnc"))
}

/// What a command did.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(args: &[&str]) -> Outcome {
    let output = nnc().args(args).output().expect("the command starts");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command that must do well; returns what it printed.
fn well(args: &[&str]) -> String {
    let outcome = run(args);
    assert_eq!(outcome.code, Some(0), "nnc {args:?}: {}", outcome.stderr);
    outcome.stdout
}

/// Runs a command that must fail with a code and one paragraph that holds all these words; returns the paragraph.
fn fails(code: i32, args: &[&str], words: &[&str]) -> String {
    let outcome = run(args);
    let text = outcome.stderr;
    assert_eq!(outcome.code, Some(code), "nnc {args:?}: {text}{}", outcome.stdout);
    assert!(text.starts_with("error: "), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "more than a paragraph: {text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    text
}

/// A folder of its own, with a small network in `net.onnx`.
struct Folder(TempDir);

impl Folder {
    fn empty() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    fn with_net() -> Folder {
        let folder = Folder::empty();
        let spec = nnc_models::Spec::new("mobilenet-v2").width(0.35).resolution(32).classes(10);
        folder.write("net.onnx", &nnc_models::encode(&spec).expect("a network"));
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("written");
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn net(&self) -> String {
        self.path("net.onnx")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// An `.npz` or `.npy` with these arrays, by the library's own writer.
fn npz(path: &str, arrays: &[(&str, nnc_ir::Tensor)]) {
    let arrays: Vec<_> = arrays.iter().map(|(n, t)| (n.to_string(), t.clone())).collect();
    nnc::npz::write_npz(fs::File::create(path).expect("a file"), &arrays).expect("written");
}

/// An `.npy` of floats, written by hand.
fn npy(folder: &Folder, name: &str, shape: &str, elems: usize) -> String {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend((0..elems).flat_map(|i| ((i % 7) as f32 * 0.25 - 0.5).to_le_bytes()));
    folder.write(name, &bytes)
}

fn input(folder: &Folder) -> String {
    npy(folder, "input.npy", "1, 3, 32, 32", 3 * 32 * 32)
}

// ---- what works ----------------------------------------------------------------------------------------------------

#[test]
fn a_cache_serves_the_second_run_and_says_so() {
    let folder = Folder::with_net();
    let (net, input, cache) = (folder.net(), input(&folder), folder.path("cache"));
    let (given, first, second) = (format!("input={input}"), folder.path("1.npz"), folder.path("2.npz"));
    let run = |output: &str| well(&["run", &net, "--input", &given, "--cache", &cache, "--output", output]);
    let text = run(&first);
    assert!(text.contains("cache    compiled, kept in "), "{text}");
    let text = run(&second);
    assert!(text.contains("cache    loaded from "), "{text}");
    assert!(!text.contains("passes "), "nothing was compiled: {text}");
    assert!(fs::read(&first).expect("results") == fs::read(&second).expect("results"));

    let json = well(&["bench", &net, "--seconds", "0.01", "--json", "--cache", &cache]);
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(report["cached"], true);
    let json = well(&["bench", &net, "--seconds", "0.01", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(report["cached"], false);
}

#[test]
fn processes_that_fill_one_cache_at_once_do_each_other_no_harm() {
    let folder = Folder::with_net();
    let (net, cache) = (folder.net(), folder.path("cache"));
    let start = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nnc"));
        command.args(["bench", &net, "--seconds", "0.01", "--threads", "1", "--cache", &cache]);
        command.stdout(std::process::Stdio::null()).spawn().expect("the command starts")
    };
    let mut running: Vec<_> = (0..4).map(|_| start()).collect();
    assert!(running.iter_mut().all(|process| process.wait().expect("it ends").success()));
    assert_eq!(fs::read_dir(&cache).expect("the cache").count(), 1);
}

#[test]
fn a_cache_that_cannot_be_written_to_is_reported_and_the_model_runs() {
    let folder = Folder::with_net();
    let cache = folder.write("a file", b"not a folder");
    let text = well(&["bench", &folder.net(), "--seconds", "0.01", "--cache", &cache]);
    assert!(text.contains("compiled, but not kept: cannot write "), "{text}");
}

#[test]
fn a_compiled_program_has_no_use_for_a_cache_or_compile_threads() {
    let folder = Folder::with_net();
    well(&["compile", &folder.net(), "--jobs", "1"]);
    let program = folder.path("net.nnc.so");
    fails(2, &["bench", &program, "--cache", "x"], &["--cache has no effect"]);
    fails(2, &["bench", &program, "-j", "2"], &["--jobs has no effect"]);
    fails(2, &["bench", &program, "--perf-map"], &["--perf-map has no effect"]);
}

#[test]
fn without_arguments_a_built_in_network_sees_a_built_in_picture() {
    let out = well(&["run", "--top", "3", "--threads", "1", "--repeat", "3"]);
    for words in [
        "its weights are random",
        "a harbour",
        "class",
        "fold_batch_norm",
        "compile",
        "median",
        "on 1 thread",
    ] {
        assert!(out.contains(words), "no {words:?} in:\n{out}");
    }
    assert_eq!(out.lines().filter(|l| l.contains(" class ")).count(), 3, "{out}");
}

#[test]
fn a_compiled_file_gives_the_same_bits_as_the_model_whatever_its_name() {
    let folder = Folder::with_net();
    let input = format!("input={}", input(&folder));
    let said = well(&["compile", &folder.net()]);
    assert!(said.contains("net.nnc.so"), "{said}");
    fs::rename(folder.path("net.nnc.so"), folder.path("net.onnx.bin")).expect("renamed");
    let (a, b) = (folder.path("a.npz"), folder.path("b.npz"));
    well(&["run", &folder.net(), "--input", &input, "--output", &a, "--threads", "1"]);
    well(&["run", &folder.path("net.onnx.bin"), "--input", &input, "--output", &b, "--threads", "2"]);
    assert_eq!(fs::read(a).expect("a.npz"), fs::read(b).expect("b.npz"));
}

#[test]
fn compiling_twice_gives_the_same_bytes_and_nothing_else_in_the_folder() {
    let folder = Folder::with_net();
    let (a, b) = (folder.path("a.so"), folder.path("b.so"));
    well(&["compile", &folder.net(), "-o", &a]);
    fs::rename(&a, &b).expect("renamed");
    well(&["compile", &folder.net(), "-o", &a]);
    assert_eq!(fs::read(a).expect("a.so"), fs::read(b).expect("b.so"));
    assert_eq!(folder.names(), ["a.so", "b.so", "net.onnx"]);
}

#[test]
fn denormals_are_kept_by_programs_that_are_compiled_so() {
    let folder = Folder::with_net();
    for (args, words) in
        [(&[][..], "* denormals for zero"), (&["--denormals", "keep"], "keeps\n * denormals")]
    {
        let out = well(&[&["compile", &folder.net(), "--emit", "header", "-o", "-"], args].concat());
        assert!(out.contains(words), "{args:?}: {out}");
    }
    assert_eq!(run(&["run", &folder.net(), "--denormals", "some"]).code, Some(2));
}

#[test]
fn a_name_names_what_c_sees_and_the_files() {
    let folder = Folder::with_net();
    well(&["compile", &folder.net(), "--name", "Tiny", "--emit", "so,header,obj"]);
    assert_eq!(folder.names(), ["Tiny.nnc.h", "Tiny.nnc.o", "Tiny.nnc.so", "net.onnx"]);
    let header = fs::read_to_string(folder.path("Tiny.nnc.h")).expect("the header");
    assert!(header.contains("int Tiny_run(") && header.contains("TINY_INPUT_0_BYTES 12288"), "{header}");
    let refused = run(&["compile", &folder.net(), "--name", "my-net"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("such as \"my_net\""), "{}", refused.stderr);
}

#[test]
fn several_models_become_one_library() {
    let folder = Folder::with_net();
    let spec = nnc_models::Spec::new("shufflenet-v2").width(0.5).resolution(32).classes(10);
    let other = folder.write("other-net.onnx", &nnc_models::encode(&spec).expect("a network"));
    let base = folder.path("both");
    let models = ["compile", &folder.net(), &other];
    let out = well(&[&models[..], &["--emit", "static,header,pc,obj", "-o", &base]].concat());
    assert!(out.contains("program  net: ") && out.contains("program  other_net: "), "{out}");
    assert_eq!(
        folder.names(),
        ["both.nnc.a", "both.nnc.h", "both.nnc.o", "both.pc", "net.onnx", "other-net.onnx"]
    );
    let header = fs::read_to_string(folder.path("both.nnc.h")).expect("the header");
    assert!(header.contains("int net_run(") && header.contains("int other_net_run("), "{header}");
    let pc = fs::read_to_string(folder.path("both.pc")).expect("the file");
    assert!(
        pc.contains("Description: net, other_net, compiled by nnc\n")
            && pc.contains("Libs: ${pcfiledir}/both.nnc.a\n"),
        "{pc}"
    );

    fails(2, &models, &["static,header"]);
    fails(2, &[&models[..], &["--emit", "static"]].concat(), &["-o models"]);
    fails(2, &[&models[..], &["--emit", "pc", "-o", &base]].concat(), &["--emit pc", "static,header,pc"]);
    fails(2, &[&models[..], &["--emit", "obj", "-o", &base, "--name", "all"]].concat(), &["--name"]);
    let twice = ["compile", &folder.net(), &folder.net(), "--emit", "obj", "-o", &base];
    fails(2, &twice, &["two models", "\"net\""]);
    let folder = folder.path("");
    fails(2, &[&models[..], &["--emit", "obj", "-o", &folder]].concat(), &["is a folder", "-o models"]);
}

#[test]
fn a_static_library_and_what_pkg_config_tells_of_it() {
    let folder = Folder::with_net();
    well(&["compile", &folder.net(), "--emit", "static,header,pc"]);
    assert_eq!(folder.names(), ["net.nnc.a", "net.nnc.h", "net.onnx", "net.pc"]);
    let pc = |emit: &str| {
        well(&["compile", &folder.net(), "--emit", emit, "--name", "Tiny"]);
        fs::read_to_string(folder.path("Tiny.pc")).expect("the file")
    };
    assert!(pc("so,header,pc").contains("Libs: ${pcfiledir}/Tiny.nnc.so -Wl,-rpath,${pcfiledir}\n"));
    assert!(pc("pc,so,obj").contains("Libs: ${pcfiledir}/Tiny.nnc.o\n"));
    assert!(pc("pc,so,static").contains("Libs: ${pcfiledir}/Tiny.nnc.a\n"));
    fails(2, &["compile", &folder.net(), "--emit", "header,pc"], &["--emit pc", "static,header,pc"]);
}

#[test]
fn a_rust_module_names_its_shared_object_and_several_files_go_to_a_folder() {
    let folder = Folder::with_net();
    fs::create_dir(folder.path("out")).expect("a folder");
    let out = folder.path("out");
    well(&["compile", &folder.net(), "--emit", "so,rust,pc", "--name", "Tiny", "-o", &out]);
    let text = |name: &str| fs::read_to_string(Path::new(&out).join(name)).expect("the file");
    assert!(text("Tiny.rs").contains("include_program!(\"Tiny.nnc.so\")"), "{}", text("Tiny.rs"));
    assert!(
        text("Tiny.rs").contains("pub input: &'a [f32; 3072],") && text("Tiny.pc").contains("/Tiny.nnc.so")
    );
    assert!(Path::new(&out).join("Tiny.nnc.so").exists());
    assert_eq!(folder.names(), ["net.onnx", "out"]);
    fails(2, &["compile", &folder.net(), "--emit", "rust"], &["--emit so,rust"]);
    let file = folder.path("one");
    fails(2, &["compile", &folder.net(), "--emit", "so,rust", "-o", &file], &["a folder with -o"]);
}

#[test]
fn every_stage_can_be_printed() {
    let folder = Folder::with_net();
    for (emit, words) in
        [("ir", "output"), ("plan", "arena"), ("clif", "function"), ("asm", "net_run:"), ("dot", "digraph")]
    {
        let out = well(&["compile", &folder.net(), "--emit", emit]);
        assert!(out.contains(words), "--emit {emit} prints:\n{out}");
    }
    assert_eq!(folder.names(), ["net.onnx"]);
    well(&["compile", &folder.net(), "--emit", "obj,header"]);
    assert_eq!(folder.names(), ["net.nnc.h", "net.nnc.o", "net.onnx"]);
    let header = fs::read_to_string(folder.path("net.nnc.h")).expect("the header");
    assert!(header.contains("int net_run(") && header.contains("NET_INPUT_0_BYTES 12288"), "{header}");
}

#[test]
fn the_graph_after_a_pass_shows_what_the_pass_did() {
    let folder = Folder::with_net();
    let out = well(&["compile", &folder.net(), "--emit", "ir", "--print-after", "fold_batch_norm"]);
    assert!(out.starts_with("// after fold_batch_norm\n"), "{out}");
    assert!(!out.contains("batch_normalization"), "{out}");
    let before = well(&["compile", &folder.net(), "--emit", "ir", "--print-after", "dead_code"]);
    assert!(before.contains("batch_normalization"), "{before}");
    let stages = folder.path("stages");
    well(&["compile", &folder.net(), "--dump-to", &stages]);
    for name in ["plan.txt", "code.clif", "code.asm", "code.o", "graph.dot"] {
        assert!(Path::new(&stages).join(name).exists(), "no {name}");
    }
}

#[test]
fn inspect_adds_up_what_the_layers_cost() {
    let folder = Folder::with_net();
    let report: serde_json::Value =
        serde_json::from_str(&well(&["inspect", &folder.net(), "--json"])).expect("JSON");
    let layers = report["layers"].as_array().expect("layers");
    let sum: u64 = layers.iter().map(|l| l["macc"].as_u64().expect("macc")).sum();
    assert!(sum > 0);
    assert_eq!(report["totals"]["macc"].as_u64(), Some(sum));
    assert!(report["memory"]["arena"].as_u64() > Some(0));
    let table = well(&["inspect", &folder.net()]);
    assert!(
        table.contains("MACC") && table.contains("total") && table.contains("BatchNormalization"),
        "{table}"
    );
}

#[test]
fn inspect_names_the_layers_by_winograds_algorithm_unless_it_is_forbidden() {
    let folder = Folder::empty();
    let spec = nnc_models::Spec::new("resnet-18").resolution(96).classes(10);
    let net = folder.write("net.onnx", &nnc_models::encode(&spec).expect("a network"));
    let kinds = |flags: &[&str]| -> Vec<String> {
        let args = [&["inspect", &net, "--json"], flags].concat();
        let report: serde_json::Value = serde_json::from_str(&well(&args)).expect("JSON");
        let layers = report["layers"].as_array().expect("layers");
        layers.iter().map(|l| l["kind"].as_str().expect("a kind").to_string()).collect()
    };
    let winograd = |kinds: &[String]| kinds.iter().filter(|kind| kind.starts_with("winograd")).count();
    assert!(winograd(&kinds(&[])) > 3);
    assert_eq!(winograd(&kinds(&["--no-winograd"])), 0);
    assert!(well(&["inspect", &net]).contains("winograd 4x4"));
    let plan = folder.path("net.plan");
    well(&["compile", &net, "--emit", "plan", "-o", &plan]);
    assert!(fs::read_to_string(&plan).expect("a plan").contains("winograd 4x4"));
    let so = folder.path("net.so");
    well(&["compile", &net, "--no-winograd", "-o", &so]);
    fails(2, &["bench", &so, "--no-winograd"], &["compiled already", "--no-winograd"]);
}

#[test]
fn a_precision_is_what_layers_are_stored_in_but_for_those_that_are_named() {
    let folder = Folder::with_net();
    let net = folder.net();
    let table = |flags: &[&str]| -> Vec<(String, String)> {
        let report: serde_json::Value =
            serde_json::from_str(&well(&[&["inspect", &net, "--json"], flags].concat())).expect("JSON");
        let layers = report["layers"].as_array().expect("layers").iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
        layers.map(|layer| (text(&layer["name"]), text(&layer["result"]))).collect()
    };
    assert!(!table(&[]).iter().any(|(_, result)| result.contains("bf16")));
    let narrow = table(&["--precision", "bf16"]);
    let count =
        |table: &[(String, String)]| table.iter().filter(|(_, result)| result.starts_with("bf16")).count();
    assert!(count(&narrow) > 40, "{narrow:?}");
    assert_eq!(narrow.last().expect("a classifier").1, "f32[1x10x1x1]", "outputs stay f32");
    let (first, _) = &narrow[0];
    let near = format!("{first}x");
    fails(
        2,
        &["compile", &net, "--precision", "bf16", "--keep-f32", &near],
        &["net.onnx", &near, "did you mean", first],
    );
    fails(
        2,
        &["compile", &net, "--precision", "f16", "--keep-f32", "?"],
        &["\"?\"", "layers are", "and", "more"],
    );
    assert_eq!(run(&["compile", &net, "--precision", "f8"]).code, Some(2));
    assert_eq!(
        run(&["compile", &net, "--keep-f32", first]).code,
        Some(2),
        "without a precision it says nothing"
    );
    let input = format!("input={}", input(&folder));
    for precision in ["bf16", "f16"] {
        let (so, a, b) = (folder.path("half.so"), folder.path("a.npz"), folder.path("b.npz"));
        well(&["compile", &net, "--precision", precision, "--keep-f32", first, "-o", &so]);
        let flags = ["--precision", precision, "--keep-f32", first];
        well(&[&["run", &net, "--input", &input, "--output", &a, "--threads", "1"], &flags[..]].concat());
        well(&["run", &so, "--input", &input, "--output", &b, "--threads", "2"]);
        assert_eq!(fs::read(a).expect("a.npz"), fs::read(b).expect("b.npz"));
        fails(2, &["bench", &so, "--precision", precision], &["compiled already", "--precision"]);
    }
}

#[test]
fn bench_prints_every_sample_as_json() {
    let folder = Folder::with_net();
    let out = well(&["bench", &folder.net(), "--json", "--seconds", "0.05", "--threads", "1"]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    for field in ["load_ms", "compile_ms", "first_ms"] {
        assert!(report[field].as_f64().is_some_and(|ms| ms > 0.0), "{field} in {out}");
    }
    assert!(report["runs_ms"].as_array().is_some_and(|runs| runs.len() >= 5), "{out}");
    assert_eq!(report["threads"], 1);
    assert_eq!(report["target"], "native");
    let text = well(&["bench", &folder.net(), "--seconds", "0.05"]);
    assert!(text.contains("median") && text.contains("p5") && text.contains("p95"), "{text}");
}

#[test]
fn timings_tell_what_the_time_to_compile_goes_into() {
    let folder = Folder::with_net();
    let stages = ["read", "graph", "passes", "plan", "packing", "layers", "kernels", "link"];
    for command in ["compile", "bench"] {
        let text = well(&[command, &folder.net(), "--timings"]);
        for stage in stages.iter().chain(&["in all"]) {
            assert!(
                text.lines().any(|line| line[8.min(line.len())..].trim_start().starts_with(stage)),
                "{text}"
            );
        }
    }
    let run = well(&["run", "--timings"]);
    assert!(run.contains("\ntimings  read "), "{run}");
    let out = well(&["bench", &folder.net(), "--json", "--seconds", "0.01", "--timings"]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    for stage in stages {
        assert!(report["timings_ms"][stage].as_f64().is_some_and(|ms| ms >= 0.0), "{stage} in {out}");
    }
    assert!(report["timings_ms"]["each_pass"]["dead_code"].is_f64(), "{out}");
}

#[test]
fn profile_measures_every_step_against_its_limit_and_writes_a_trace() {
    let folder = Folder::with_net();
    let (net, trace) = (folder.path("net.onnx"), folder.path("trace.json"));
    let profile = ["profile", &net, "--seconds", "0.01", "--threads", "1", "--json", "--trace", &trace];
    let report: serde_json::Value = serde_json::from_str(&well(&profile)).expect("one JSON object");
    let steps = report["steps"].as_array().expect("steps");
    let layers: serde_json::Value =
        serde_json::from_str(&well(&["inspect", &net, "--json"])).expect("one JSON object");
    assert_eq!(steps.len(), layers["layers"].as_array().expect("layers").len());
    for step in steps {
        let number = |key: &str| step[key].as_f64().unwrap_or_else(|| panic!("no {key} in {step}"));
        assert!(number("best_ns") <= number("median_ns"), "{step}");
        assert!(number("limit_ns") > 0.0, "{step}");
    }
    let trace: serde_json::Value =
        serde_json::from_slice(&fs::read(trace).expect("the trace")).expect("one JSON object");
    assert_eq!(trace["traceEvents"].as_array().expect("events").len(), steps.len());

    // A compiled file no longer knows what its steps compute, but it has times.
    well(&["compile", &net]);
    let compiled = folder.path("net.nnc.so");
    let table =
        |threads| well(&["profile", &compiled, "--seconds", "0.01", "--top", "3", "--threads", threads]);
    let (one, two) = (table("1"), table("2"));
    assert!(one.contains("µs") && one.contains("each at its fastest"), "{one}");
    assert!(two.contains("µs") && two.contains("each at its median"), "{two}");
}

#[test]
fn the_roofline_names_the_peaks_and_a_rate_for_each_size() {
    let text = well(&["bench", "--roofline", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    for peak in ["flops", "flops_of_bf16_pairs", "ops_of_bytes", "ops_of_words"] {
        assert!(report[peak].as_f64() > Some(0.0), "{peak}: {text}");
    }
    assert!(report["bytes_per_second"].as_array().is_some_and(|rates| rates.len() > 3), "{text}");
    fails(2, &["bench", "--roofline", "--target", "pdp-11"], &["pdp-11"]);
}

#[test]
fn verify_tells_right_from_wrong() {
    let folder = Folder::with_net();
    let (input_file, result) = (input(&folder), folder.path("result.npz"));
    well(&["run", &folder.net(), "--input", &format!("input={input_file}"), "--output", &result]);
    let input = nnc::npz::read_npy(Path::new(&input_file)).expect("the input");
    let (_, logits) = nnc::npz::read_npz(Path::new(&result)).expect("the result").remove(0);

    let case = folder.path("case.npz");
    npz(&case, &[("input", input.clone()), ("output:logits", logits.clone())]);
    let out = well(&["verify", &folder.net(), &case]);
    assert!(out.contains("agrees") && out.contains("0.000e0"), "{out}");

    let mut elems = logits.elems::<f32>().expect("floats").into_owned();
    elems.swap(0, 1);
    let swapped = nnc_ir::Tensor::new(logits.shape().clone(), &elems).expect("a tensor");
    npz(&case, &[("input", input), ("logits", swapped)]);
    fails(1, &["verify", &folder.net(), &case], &["output \"logits\"", "is off by", "case.npz"]);
    well(&["verify", &folder.net(), &case, "--rtol", "10"]);
}

#[test]
fn verify_tells_what_a_precision_loses_and_in_which_layers() {
    let folder = Folder::with_net();
    let net = folder.net();
    let out = well(&["verify", &net, "--precision", "bf16"]);
    assert!(out.contains("made by formula") && out.contains("from f32") && out.contains("1 of 1"), "{out}");
    let loss = |out: &str| -> f64 {
        let row = out.lines().find(|line| line.trim_start().starts_with("logits")).expect("a row");
        row.split_whitespace().nth(2).and_then(|field| field.parse().ok()).expect("a deviation")
    };
    let bf16 = loss(&out);
    let f16 = loss(&well(&["verify", &net, "--precision", "f16"]));
    assert!(f16 > 0.0 && 2.0 * f16 < bf16 && bf16 < 0.5, "{f16} {bf16}");
    fails(1, &["verify", &net, "--precision", "bf16", "--rtol", "1e-7"], &["loses too much", "logits"]);
    let layers = well(&["verify", &net, "--precision", "bf16", "--layers"]);
    let listed: Vec<(&str, f64)> = layers
        .lines()
        .filter_map(|line| line.trim().rsplit_once(' '))
        .filter_map(|(layer, loss)| Some((layer.trim(), loss.parse().ok()?)))
        .filter(|(layer, _)| layer.starts_with('/'))
        .collect();
    assert!(listed.len() > 40 && listed.is_sorted_by(|a, b| a.1 >= b.1) && listed[0].1 > 0.0, "{layers}");
    // With all of them kept, nothing is lost.
    let keep = listed.iter().flat_map(|(layer, _)| ["--keep-f32", layer]);
    let kept: Vec<&str> = ["verify", &net, "--precision", "bf16"].into_iter().chain(keep).collect();
    assert_eq!(loss(&well(&kept)), 0.0);
    // Somebody else's outputs are shown beside.
    let (file, case) = (input(&folder), folder.path("case.npz"));
    well(&["run", &net, "--input", &format!("input={file}"), "--output", &case]);
    let input = nnc::npz::read_npy(Path::new(&file)).expect("the input");
    let (_, logits) = nnc::npz::read_npz(Path::new(&case)).expect("the result").remove(0);
    npz(&case, &[("input", input), ("logits", logits)]);
    let out = well(&["verify", &net, &case, "--precision", "bf16"]);
    assert!(out.contains("case.npz") && out.contains("f32 from that") && out.contains("0.000e0"), "{out}");
    assert_eq!(run(&["verify", &net, &case, "--layers"]).code, Some(2), "it is of a precision");
}

#[test]
fn verify_reads_folders_of_the_onnx_test_suite() {
    let folder = Folder::with_net();
    // A TensorProto: dims 1, data type 1 (float), raw data.
    let tensor = |dims: &[usize], elems: &[f32]| {
        let mut bytes = Vec::new();
        for &d in dims {
            bytes.push(0x08);
            varint(&mut bytes, d);
        }
        bytes.extend([0x10, 1, 0x4a]);
        varint(&mut bytes, elems.len() * 4);
        bytes.extend(elems.iter().flat_map(|e| e.to_le_bytes()));
        bytes
    };
    let input = input(&folder);
    let x = nnc::npz::read_npy(Path::new(&input)).expect("the input");
    let result = folder.path("result.npz");
    well(&["run", &folder.net(), "--input", &format!("input={input}"), "--output", &result]);
    let (_, y) = nnc::npz::read_npz(Path::new(&result)).expect("the result").remove(0);
    let data = folder.path("test_data_set_0");
    fs::create_dir(&data).expect("a folder");
    folder.write("test_data_set_0/input_0.pb", &tensor(&[1, 3, 32, 32], &x.elems::<f32>().expect("floats")));
    folder.write("test_data_set_0/output_0.pb", &tensor(&[1, 10], &y.elems::<f32>().expect("floats")));
    assert!(well(&["verify", &folder.net(), "--data", &data]).contains("agrees"));
    folder.write("test_data_set_0/output_0.pb", &tensor(&[1, 10], &[0.25; 10]));
    fails(1, &["verify", &folder.net(), "--data", &data], &["output \"logits\"", "test_data_set_0"]);
    folder.write("test_data_set_0/output_0.pb", b"what is this");
    fails(1, &["verify", &folder.net(), "--data", &data], &["output_0.pb"]);
}

fn varint(bytes: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

#[test]
fn models_are_listed_and_written() {
    let folder = Folder::empty();
    let list = well(&["models", "list"]);
    for name in ["mobilenet-v2", "shufflenet-v1", "nasnet-a-mobile", "arXiv:1801.04381"] {
        assert!(list.contains(name), "no {name} in:\n{list}");
    }
    let file = folder.path("s.onnx");
    well(&["models", "write", "squeezenet-1.1", "--resolution", "64", "--classes", "7", "-o", &file]);
    let report = well(&["inspect", &file, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["inputs"][0]["shape"], serde_json::json!([1, 3, 64, 64]));
    assert_eq!(report["outputs"][0]["shape"], serde_json::json!([1, 7]));
}

#[test]
fn targets_are_listed_and_a_file_may_be_for_several() {
    let folder = Folder::with_net();
    let net = folder.net();
    let help = well(&["compile", "--help"]);
    for target in ["- x86-64-v3:", "- sapphirerapids:", "arm64", "- native:"] {
        assert!(help.contains(target), "{target} in {help}");
    }
    assert!(well(&["completions", "bash"]).contains("sapphirerapids"));
    let path = folder.0.path().join("net.nnc.so");
    let file = path.to_string_lossy().into_owned();
    let wrote = well(&["compile", &net, "--target", "haswell,x86-64-v2", "-o", &file]);
    assert!(wrote.contains("version  x86-64-v3: ") && wrote.contains("version  x86-64-v2: "), "{wrote}");
    let told = well(&["inspect", &file]);
    assert!(told.contains("by nnc 0.1.0, ABI 8\nversions x86-64-v3, x86-64-v2\n"), "{told}");
    fails(2, &["compile", &net, "--target", "arm46"], &["did you mean \"arm64\"?"]);
    fails(2, &["compile", &net, "--target", "arm64,haswell"], &["different architectures"]);
    fails(2, &["compile", &net, "--target", "haswell,x86-64-v3"], &["\"x86-64-v3\" is named twice"]);
    fails(2, &["compile", &net, &net, "--target", "haswell,x86-64-v2"], &["library of several models"]);
    fails(2, &["compile", &net, "--emit", "asm", "--target", "haswell,x86-64-v2"], &["a text tells of one"]);
    fails(2, &["run", &net, "--target", "haswell,x86-64-v2"], &["this takes one"]);
}

#[test]
fn a_file_for_this_machine_has_a_note_that_says_so() {
    let folder = Folder::with_net();
    let net = folder.net();
    let file = folder.0.path().join("net.nnc.so").to_string_lossy().into_owned();
    let noted =
        |args: &[&str]| run(&[&["compile", &net, "-o", &file][..], args].concat()).stderr.contains("note: ");
    let level = nnc::target::Target::host().expect("a target").level();
    assert_eq!(noted(&[]), !["x86-64-v2", "aarch64"].contains(&level));
    assert!(!noted(&["--target", "native"]) && !noted(&["--target", "x86-64-v2"]));
    assert!(!noted(&["--emit", "plan"]), "nothing that runs");
}

#[test]
fn help_manual_and_completions_come_from_one_definition() {
    let help = well(&["--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for command in ["compile", "nnc completions bash", "nnc man run | man -l -"] {
        assert!(help.contains(command), "{command} in {help}");
    }
    assert!(well(&["man", "run"]).contains("Run a model on pictures"));
    assert!(well(&["completions", "bash"]).contains("--print-after"));
    fails(2, &["man", "rnu"], &["no command \"rnu\"", "did you mean \"run\"?"]);
}

/// Sends a command that writes into a folder a signal as soon as there is a temporary file, and looks what is left.
#[cfg(unix)]
fn interrupted(signal: &str, folder: &Folder, watched: &Path, args: &[&str]) {
    let is_temporary = |name: &str| name.ends_with(".tmp");
    let names = || -> Vec<String> {
        let entries = fs::read_dir(watched).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_nnc"))
        .args(args)
        .current_dir(folder.0.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the command starts");
    while child.try_wait().expect("a child").is_none() {
        if names().iter().any(|name| is_temporary(name)) {
            let _ = std::process::Command::new("kill").args([signal, &child.id().to_string()]).output();
            break;
        }
    }
    let status = child.wait().expect("it ends");
    // It was done already, or ended by the signal as any other command.
    assert!(status.success() || status.code().is_none(), "{signal}: {status}");
    let left: Vec<String> = names().into_iter().filter(|name| is_temporary(name)).collect();
    assert_eq!(left, [""; 0], "{signal}: {status}");
}

#[cfg(unix)]
#[test]
fn a_command_that_is_interrupted_leaves_no_temporary_file() {
    let folder = Folder::with_net();
    let (net, cache) = (folder.net(), folder.path("cache"));
    for round in 0..8 {
        let signal = ["-INT", "-TERM"][round % 2];
        interrupted(signal, &folder, folder.0.path(), &["compile", &net]);
        let _ = fs::remove_dir_all(&cache);
        let args = ["bench", &net, "--seconds", "0.01", "--cache", &cache];
        interrupted(signal, &folder, Path::new(&cache), &args);
    }
}

/// A shell ignores a signal for the command that takes its place, as `nohup` does.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_is_ignored_at_the_start_ends_nothing() {
    let folder = Folder::with_net();
    let script = "trap '' \"$1\"; shift; exec \"$@\"";
    for (signal, ignored) in [("HUP", true), ("INT", true), ("TERM", false)] {
        let trapped = if ignored { signal } else { "USR1" };
        let mut child = std::process::Command::new("sh")
            .args(["-c", script, "sh", trapped, env!("CARGO_BIN_EXE_nnc")])
            .args(["bench", &folder.net(), "--seconds", "2", "--threads", "1"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        let id = child.id().to_string();
        // Until its thread for signals is there, the command has the signals of the shell.
        let watches = || {
            let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
            let names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
            names.into_iter().any(|name| name.trim() == "nnc signals")
        };
        while !watches() && child.try_wait().expect("a child").is_none() {
            std::thread::yield_now();
        }
        let sent = std::process::Command::new("kill").args([&format!("-{signal}"), &id]).status();
        assert!(sent.expect("kill").success());
        let status = child.wait().expect("it ends");
        assert_eq!(status.success(), ignored, "{signal}: {status}");
    }
}

// ---- what does not -------------------------------------------------------------------------------------------------

#[test]
fn a_truncated_file_is_refused_and_leaves_nothing_behind() {
    let folder = Folder::with_net();
    let whole = fs::read(folder.net()).expect("the model");
    for len in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
        let file = folder.write("short.onnx", &whole[..len]);
        fails(1, &["compile", &file], &["short.onnx"]);
        assert_eq!(folder.names(), ["net.onnx", "short.onnx"], "{len} bytes");
    }
}

#[test]
fn a_text_file_is_refused_by_what_it_looks_like() {
    let folder = Folder::empty();
    let file = folder.write("notes.onnx", b"These are my notes.\nThey are no model.\n");
    for command in ["compile", "run", "bench", "inspect"] {
        fails(1, &[command, &file], &["notes.onnx", "not an ONNX model", "text"]);
    }
    assert_eq!(folder.names(), ["notes.onnx"]);
}

#[test]
fn unknown_operators_are_named_with_their_nodes_and_count() {
    let folder = Folder::with_net();
    let mut bytes = fs::read(folder.net()).expect("the model");
    // The field op_type of each node that is a Clip.
    let (clip, clop) = (b"\x22\x04Clip", b"\x22\x04Clop");
    let places: Vec<usize> = (0..bytes.len() - 6).filter(|&at| bytes[at..at + 6] == clip[..]).collect();
    places.iter().for_each(|&at| bytes[at..at + 6].copy_from_slice(clop));
    assert!(!places.is_empty());
    let file = folder.write("odd.onnx", &bytes);
    fails(1, &["compile", &file], &["odd.onnx", "Clop", &format!("× {}", places.len())]);
    assert_eq!(folder.names(), ["net.onnx", "odd.onnx"]);
}

#[test]
fn a_wrong_input_shape_is_refused_with_the_right_one() {
    let folder = Folder::with_net();
    let file = npy(&folder, "small.npy", "1, 3, 31, 32", 3 * 31 * 32);
    let output = folder.path("out.npz");
    fails(
        1,
        &["run", &folder.net(), "--input", &format!("input={file}"), "--output", &output],
        &["small.npy", "input \"input\" takes f32[1x3x32x32]", "f32[1x3x31x32]", "--shape"],
    );
    fails(2, &["compile", &folder.net(), "--shape", "input=1x3x32"], &["input"]);
    assert_eq!(folder.names(), ["net.onnx", "small.npy"]);
}

#[test]
fn a_missing_file_is_named() {
    let folder = Folder::with_net();
    let none = folder.path("none.onnx");
    for command in ["compile", "run", "bench", "inspect"] {
        fails(1, &[command, &none], &["none.onnx", "No such file"]);
    }
    fails(1, &["run", &folder.net(), "--image", &folder.path("none.png")], &["none.png", "No such file"]);
    fails(1, &["verify", &folder.net(), &folder.path("none.npz")], &["none.npz", "No such file"]);
}

#[test]
fn a_file_that_is_no_picture_is_refused() {
    let folder = Folder::with_net();
    let file = folder.write("cat.png", b"a cat");
    fails(1, &["run", &folder.net(), "--image", &file], &["cat.png", "give a JPEG or PNG"]);
    let picture = folder.write("boat.png", include_bytes!("../assets/harbour.png"));
    let out = well(&["run", &folder.net(), "--image", &picture, "--top", "2"]);
    assert_eq!(out.lines().filter(|l| l.contains(" class ")).count(), 2, "{out}");
}

#[test]
fn a_folder_of_pictures_is_run_picture_by_picture_for_scripts() {
    let folder = Folder::with_net();
    let harbour: &[u8] = include_bytes!("../assets/harbour.png");
    let turned: &[u8] = include_bytes!("../../image/tests/pictures/turned.jpg");
    fs::create_dir(folder.path("in")).expect("a folder");
    folder.write("in/b.jpg", turned);
    folder.write("in/a.png", harbour);
    let names: Vec<String> = (0..10).map(|i| format!("\"kind {i}\"")).collect();
    let labels = folder.write("labels.json", format!("[{}]", names.join(",")).as_bytes());
    let (net, pictures) = (folder.net(), folder.path("in"));
    let out = well(&["run", &net, "--image", &pictures, "--labels", &labels, "--quiet", "--top", "2"]);
    assert_eq!(out.matches("kind ").count(), 4, "{out}");
    assert!(out.contains("a.png") && out.contains("b.jpg") && !out.contains("times"), "{out}");

    let json = well(&["run", &net, "--image", &pictures, "--labels", &labels, "--json", "--repeat", "2"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["results"].as_array().map(Vec::len), Some(2));
    assert!(
        json["results"][0]["outputs"][0]["classes"][0][0]["label"].as_str().unwrap().starts_with("kind ")
    );
    assert_eq!(json["results"][1]["runs_ms"].as_array().map(Vec::len), Some(2));

    // Arrays of several pictures lie one behind another; `-` is standard input and output.
    let array = folder.path("y.npy");
    well(&["run", &net, "--image", &pictures, "--output", &array]);
    assert_eq!(nnc::npz::read_npy(Path::new(&array)).expect("an array").shape()[..], [2, 10]);
    let piped =
        nnc().args(["run", &net, "--image", "-", "--output", "-"]).write_stdin(harbour).output().unwrap();
    let piped = folder.write("piped.npz", &piped.stdout);
    let one = nnc::npz::read_npz(Path::new(&piped)).expect("arrays");
    let all = nnc::npz::read_npy(Path::new(&array)).expect("an array");
    assert_eq!(one[0].1.bytes(), &all.bytes()[..40]);
}

#[test]
fn what_can_be_refused_before_anything_is_computed_is() {
    let folder = Folder::with_net();
    let net = folder.net();
    let labels = folder.write("labels.json", b"{\"0\": 7}");
    fails(1, &["run", &net, "--labels", &labels], &["labels.json", "expected a name"]);
    fails(1, &["run", &net, "--labels", &folder.path("none.txt")], &["none.txt", "No such file"]);
    let empty = folder.path("empty");
    fs::create_dir(&empty).expect("a folder");
    fails(2, &["run", &net, "--image", &empty], &["has no pictures"]);
    let outcome = run(&["run", &net, "--std", "0"]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("divided by 0"), "{}", outcome.stderr);
}

/// The network with some axes of its input left open, by the names d0, d1 …
fn open_dims(folder: &Folder, axes: &[usize]) -> String {
    use onnx_protobuf::tensor_shape_proto::dimension::Value;
    use onnx_protobuf::{Message, ModelProto};

    let mut model = ModelProto::parse_from_bytes(&fs::read(folder.net()).expect("a file")).expect("a model");
    let graph = model.graph.mut_or_insert_default();
    for (port, axes) in [(&mut graph.input[0], axes), (&mut graph.output[0], &[0])] {
        let shape = port.type_.mut_or_insert_default().mut_tensor_type().shape.mut_or_insert_default();
        axes.iter().for_each(|&axis| shape.dim[axis].value = Some(Value::DimParam(format!("d{axis}"))));
    }
    folder.write("open.onnx", &model.write_to_bytes().expect("bytes"))
}

#[test]
fn a_model_with_open_dims_is_inspected_as_far_as_it_is_known() {
    let folder = Folder::with_net();
    let open = open_dims(&folder, &[0]);
    let out = well(&["inspect", &open]);
    for words in ["\"d0\": input axis 0; decides", "Conv", "give --dim d0=?"] {
        assert!(out.contains(words), "no {words:?} in:\n{out}");
    }
    let json: serde_json::Value = serde_json::from_str(&well(&["inspect", &open, "--json"])).expect("JSON");
    assert_eq!(json["open_dims"]["d0"]["inputs"][0], "input axis 0");
    assert!(well(&["inspect", &open, "--dim", "d0=2"]).contains("MACC"));
    // A picture is one of a batch.
    let picture = folder.write("boat.png", include_bytes!("../assets/harbour.png"));
    assert!(well(&["run", &open, "--image", &picture]).contains("f32[1x3x32x32]"));
}

#[test]
fn a_sliver_of_a_picture_is_cropped_before_it_is_resized() {
    let folder = Folder::with_net();
    let mut sliver = Vec::new();
    let encoder = png::Encoder::new(&mut sliver, 1, 60_000);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(&[200; 60_000]).expect("pixels");
    writer.finish().expect("a picture");
    let file = folder.write("sliver.png", &sliver);
    well(&["run", &folder.net(), "--image", &file]);
    let page = folder.write("page.pdf", b"%PDF-1.7");
    fails(1, &["run", &folder.net(), "--image", &page], &["page.pdf", "PDF", "convert it to JPEG or PNG"]);
}

#[test]
fn a_folder_that_cannot_be_written_to_is_refused_with_a_way_out() {
    let folder = Folder::with_net();
    let locked = locked_folder(&folder);
    let target = locked.join("net.so").display().to_string();
    fails(
        1,
        &["compile", &folder.net(), "-o", &target],
        &["net.so", "cannot write", "choose another place with -o"],
    );
    let nowhere = folder.path("nowhere/net.so");
    fails(1, &["compile", &folder.net(), "-o", &nowhere], &["nowhere", "does not exist; create it first"]);
    assert!(!Path::new(&target).exists());
    assert_eq!(fs::read_dir(&locked).map_or(0, |d| d.filter(is_ours).count()), 0);
    fails(1, &["compile", &folder.net(), "-o", &folder.path("")], &["it is a folder"]);
    fails(1, &["compile", &folder.net(), "-o", &folder.net()], &["choose another name with -o"]);
}

fn is_ours(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|e| e.file_name().to_string_lossy().contains("net.so"))
}

/// A folder that this process cannot write to. The superuser may write nearly everywhere, but not into /proc.
fn locked_folder(folder: &Folder) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let locked = PathBuf::from(folder.path("locked"));
    fs::create_dir(&locked).expect("a folder");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).expect("locked");
    if fs::write(locked.join("probe"), b"").is_ok() {
        return PathBuf::from("/proc");
    }
    locked
}

#[test]
fn a_model_with_open_dims_runs_at_the_shape_of_its_array() {
    let folder = Folder::with_net();
    let open = open_dims(&folder, &[0, 2, 3]);
    let (array, output) = (npy(&folder, "pair.npy", "2, 3, 40, 48", 2 * 3 * 40 * 48), folder.path("y.npz"));
    well(&["run", &open, "--input", &format!("input={array}"), "--output", &output]);
    let results = nnc::npz::read_npz(Path::new(&output)).expect("results");
    assert_eq!(results[0].1.shape().to_vec(), [2, 10]);
    // What is bound stays bound, and what is not given is asked for.
    fails(
        1,
        &["run", &open, "--input", &format!("input={array}"), "--shape", "input=1x3x32x32"],
        &["pair.npy"],
    );
    fails(2, &["run", &open], &["--shape"]);
}

/// The network with its model edited.
fn edited(folder: &Folder, edit: impl FnOnce(&mut onnx_protobuf::GraphProto)) -> String {
    use onnx_protobuf::{Message, ModelProto};

    let mut model = ModelProto::parse_from_bytes(&fs::read(folder.net()).expect("a file")).expect("a model");
    edit(model.graph.mut_or_insert_default());
    folder.write("edited.onnx", &model.write_to_bytes().expect("bytes"))
}

#[test]
fn an_input_without_a_shape_takes_that_of_its_array() {
    let folder = Folder::with_net();
    let net = edited(&folder, |graph| {
        for port in [&mut graph.input[0], &mut graph.output[0]] {
            port.type_.mut_or_insert_default().mut_tensor_type().shape.clear();
        }
    });
    let (array, output) = (npy(&folder, "pair.npy", "2, 3, 40, 48", 2 * 3 * 40 * 48), folder.path("y.npz"));
    well(&["run", &net, "--input", &format!("input={array}"), "--output", &output]);
    let y = nnc::npz::read_npz(Path::new(&output)).expect("results").remove(0).1;
    assert_eq!(y.shape().to_vec(), [2, 10]);
    let case = folder.path("case.npz");
    let x = nnc::npz::read_npy(Path::new(&array)).expect("the input");
    npz(&case, &[("input", x), ("output:logits", y)]);
    assert!(well(&["verify", &net, &case]).contains("agrees"));
    fails(2, &["run", &net], &["f32 of any shape", "--shape input="]);
}

#[test]
fn a_batch_of_none_is_one_by_shape_as_by_array() {
    let folder = Folder::with_net();
    let open = open_dims(&folder, &[0]);
    let (array, output) = (npy(&folder, "none.npy", "0, 3, 32, 32", 0), folder.path("y.npz"));
    let shape = |more: &[&str]| {
        let given = format!("input={array}");
        well(&[&["run", &open, "--input", &given, "--output", &output], more].concat());
        nnc::npz::read_npz(Path::new(&output)).expect("results")[0].1.shape().to_vec()
    };
    for more in [&[][..], &["--shape", "input=0x3x32x32"], &["--dim", "d0=0"]] {
        assert_eq!(shape(more), [0, 10], "{more:?}");
    }
}

#[test]
fn an_input_with_a_default_may_be_given() {
    use onnx_protobuf::ValueInfoProto;
    let folder = Folder::with_net();
    // Some bias of the network, and how many elements it has.
    let (mut name, mut size) = (String::new(), 0);
    let net = edited(&folder, |graph| {
        let weights = graph.initializer.iter().filter(|w| w.dims.len() == 1).last().expect("a bias");
        (name, size) = (weights.name.clone(), weights.dims[0] as usize);
        let mut port = ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() };
        port.type_.mut_or_insert_default().mut_tensor_type().elem_type = 1;
        graph.input.push(port);
    });
    let (x, bias) =
        (format!("input={}", input(&folder)), npy(&folder, "bias.npy", &format!("{size},"), size));
    let (given, output) = (format!("{name}={bias}"), folder.path("y.npz"));
    let results = |more: &[&str]| {
        well(&[&["run", &net, "--input", &x, "--output", &output], more].concat());
        nnc::npz::read_npz(Path::new(&output)).expect("results").remove(0).1
    };
    let listed = format!("input    {name} f32");
    let of_default = |text: String| {
        let line = text.lines().find(|line| line.starts_with(&listed)).expect("the input").to_string();
        line.ends_with(", has a default value")
    };
    let shape = format!("{name}={size}");
    assert!(of_default(well(&["inspect", &net])));
    assert!(!of_default(well(&["inspect", &net, "--shape", &shape])), "it is an input like others");
    let json: serde_json::Value =
        serde_json::from_str(&well(&["inspect", &net, "--json"])).expect("one JSON object");
    assert_eq!(json["defaults"][0]["name"], name);
    assert_eq!(json["inputs"].as_array().map(Vec::len), Some(1));

    let by_default = results(&[]);
    let by_input = results(&["--input", &given]);
    assert_ne!(by_default.bytes(), by_input.bytes());

    let x = nnc::npz::read_npy(&folder.0.path().join("input.npy")).expect("the input");
    let bias = nnc::npz::read_npy(Path::new(&bias)).expect("the bias");
    let case = folder.path("case.npz");
    npz(&case, &[("input", x.clone()), (&name, bias), ("output:logits", by_input)]);
    assert!(well(&["verify", &net, &case]).contains("agrees"));
    assert!(well(&["verify", &net, &case, "--const", &given]).contains("agrees"), "as another constant");
    npz(&case, &[("input", x), ("output:logits", by_default)]);
    assert!(well(&["verify", &net, &case]).contains("agrees"));

    // A program that is compiled for it takes it; one that is not does not.
    let so = folder.path("edited.nnc.so");
    let x = format!("input={}", folder.path("input.npy"));
    well(&["compile", &net]);
    fails(2, &["run", &so, "--input", &x, "--input", &given], &[&name, "no input"]);
    well(&["compile", &net, "--shape", &format!("{name}={size}")]);
    well(&["run", &so, "--input", &x, "--input", &given]);
}

#[test]
fn a_model_ends_where_it_is_told_to() {
    let folder = Folder::with_net();
    // The values that the first two nodes make, and an operator that nobody knows behind them.
    let mut ends = Vec::new();
    let net = edited(&folder, |graph| {
        ends.extend(graph.node[..2].iter().map(|node| node.output[0].clone()));
        graph.node[2].op_type = "TfIdf".into();
    });
    let (x, output, cache) = (input(&folder), folder.path("y.npz"), folder.path("cache"));
    fails(1, &["compile", &net], &["TfIdf"]);
    let names = |ends: &[&str]| -> Vec<String> {
        let given = format!("input={x}");
        let mut args = vec!["run", &net, "--input", &given, "--output", &output, "--cache", &cache];
        ends.iter().for_each(|end| args.extend(["--until", end]));
        well(&args);
        nnc::npz::read_npz(Path::new(&output)).expect("results").into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(&[&ends[0]]), [ends[0].clone()]);
    assert_eq!(names(&[&ends[1], &ends[0]]), [ends[1].clone(), ends[0].clone()]);
    assert_eq!(fs::read_dir(&cache).expect("a folder").count(), 2, "a program for each");
    for command in ["compile", "inspect", "bench", "profile"] {
        let more: &[&str] =
            if command == "bench" || command == "profile" { &["--seconds", "0.01"] } else { &[] };
        well(&[&[command, &net, "--until", &ends[1]], more].concat());
    }
    let misspelt = format!("{}x", ends[1]);
    fails(2, &["compile", &net, "--until", &misspelt], &["--until", &misspelt, "did you mean", &ends[1]]);
}

#[test]
fn misspelt_names_are_refused_with_the_nearest_right_one() {
    let folder = Folder::with_net();
    let net = folder.net();
    let file = input(&folder);
    fails(2, &["compile", &net, "--dim", "bacth=1"], &["bacth"]);
    fails(2, &["compile", &net, "--shape", "imput=1x3x32x32"], &["imput", "\"input\""]);
    fails(2, &["run", &net, "--input", &format!("imput={file}")], &["imput", "did you mean \"input\"?"]);
    fails(2, &["compile", &net, "--print-after", "fold_batchnorm"], &["did you mean \"fold_batch_norm\"?"]);
    fails(2, &["inspect", &net, "--disable-pass", "ces"], &["\"cse\""]);
    fails(2, &["models", "write", "mobilnet-v2"], &["did you mean \"mobilenet-v2\"?"]);
    fails(2, &["bench", &net, "--target", "x86-64-v5"], &["x86-64-v5", "x86-64-v4"]);
    assert_eq!(folder.names(), ["input.npy", "net.onnx"]);
}

#[test]
fn a_misspelt_flag_or_value_is_a_usage_error() {
    for args in [
        &["run", "--imagee", "x.png"][..],
        &["compile"],
        &["bench", "x.onnx", "--threads", "0"],
        &["compile", "x.onnx", "--dim", "batch"],
        &["run", "--mean", "1,2"],
        &["verify", "x.onnx"],
    ] {
        let outcome = run(args);
        assert_eq!(outcome.code, Some(2), "nnc {args:?}: {}", outcome.stderr);
        assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
    }
}

#[test]
fn inputs_that_are_not_given_are_asked_for() {
    let folder = Folder::with_net();
    fails(2, &["run", &folder.net()], &["\"input\" (f32[1x3x32x32])", "--image", "--input"]);
}

#[test]
fn a_compiled_file_takes_no_flags_of_the_compiler() {
    let folder = Folder::with_net();
    well(&["compile", &folder.net()]);
    let so = folder.path("net.nnc.so");
    fails(2, &["bench", &so, "--dim", "batch=1"], &["compiled already", "give --dim to `nnc compile`"]);
    fails(2, &["bench", &so, "--until", "x"], &["compiled already", "give --until to `nnc compile`"]);
    // What `nnc compile` does not take is not advised there.
    fails(2, &["bench", &so, "--cache", "c"], &["compiled already", "leave it out"]);
    fails(2, &["bench", &so, "--perf-map"], &["compiled already", "give it with the model"]);
    fails(2, &["compile", &so], &["compiled already"]);
    assert!(well(&["inspect", &so]).contains("units of work"));
}

#[test]
fn a_damaged_compiled_file_is_refused() {
    let folder = Folder::with_net();
    well(&["compile", &folder.net()]);
    let mut bytes = fs::read(folder.path("net.nnc.so")).expect("the program");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let file = folder.write("damaged.so", &bytes);
    fails(1, &["run", &file], &["damaged.so", "checksum"]);
    let file = folder.write("short.so", &bytes[..middle]);
    fails(1, &["run", &file], &["short.so"]);
    let file = folder.write("other.so", b"\x7fELF but nothing else");
    fails(1, &["run", &file], &["other.so", "nnc compile"]);
}
