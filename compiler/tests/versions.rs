//! One file for several targets: it runs the best version that the processor can, which computes what the program for that target
//! alone computes, to the bit.
#![cfg(all(feature = "cli", target_arch = "x86_64", target_os = "linux"))]

#[path = "../../runtime/tests/common/watchdog.rs"]
mod watchdog;

use std::ffi::{CString, c_int, c_void};
use std::fs;
use std::path::Path;
use std::process::Command;

use nnc::target::Target;
use nnc::{CName, InputRef, Model, Options, Pool, Program, Session, Versions};
use nnc_models::Spec;
use nnc_runtime::artefact::WITHOUT;
use watchdog::Watchdog;

/// Targets, the best first, and a feature that each has and those behind it have not.
const LEVELS: [(&str, &str); 3] = [("x86-64-v4", "avx512f"), ("x86-64-v3", "avx2"), ("x86-64-v2", "sse4.2")];

fn network() -> Model {
    let spec = Spec::new("mobilenet-v2").width(0.35).resolution(32).classes(10);
    Model::from_bytes(nnc_models::encode(&spec).expect("a network")).expect("a model")
}

fn net() -> CName {
    CName::new("net").expect("a name")
}

fn target(name: &str) -> Target {
    Target::named(name).expect("a target")
}

fn versions(model: &Model, names: &[&str]) -> Versions {
    let targets: Vec<Target> = names.iter().map(|name| target(name)).collect();
    Versions::new(model, &Options::default(), &targets, &net()).expect("versions")
}

fn alone(model: &Model, name: &str) -> Vec<u8> {
    let options = Options::default().target(name).expect("a target");
    let compilation = model.lower(&options).expect("a plan");
    compilation.code_called(&net()).expect("code").artefact().expect("an artefact")
}

fn load(file: &[u8]) -> Program {
    // SAFETY: the tests made the file.
    unsafe { Program::from_bytes(file) }.expect("a program")
}

fn input(program: &Program) -> Vec<f32> {
    (0..program.inputs()[0].elems()).map(|i| (i % 31) as f32 * 0.125 - 1.5).collect()
}

fn bits(program: &Program) -> Vec<u32> {
    let _watchdog = Watchdog::seconds(60);
    let x = input(program);
    let mut session = Session::new(program, &Pool::new(2).expect("a pool")).expect("a session");
    let outputs = session.run(&[InputRef::new(&x)]).expect("results");
    outputs.get::<f32>(0).expect("floats").iter().map(|y| y.to_bits()).collect()
}

#[test]
fn the_best_version_that_runs_here_computes_what_its_target_alone_does() {
    let model = network();
    // Each level is the best of some file.
    for from in 0..LEVELS.len() {
        let names = LEVELS[from..].iter().map(|(name, _)| *name).rev().collect::<Vec<_>>();
        let best = LEVELS[from..].iter().find(|(name, _)| target(name).runs_here()).expect("a level").0;
        let program = load(&versions(&model, &names).artefact().expect("an artefact"));
        assert_eq!(program.desc().target, best);
        assert!(bits(&program) == bits(&load(&alone(&model, best))), "{best}");
    }
}

#[test]
fn a_processor_that_lacks_something_runs_the_version_below() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = network();
    let names = LEVELS.map(|(name, _)| name);
    let path = folder.path().join("net.so");
    fs::write(&path, versions(&model, &names).artefact().expect("an artefact")).expect("written");
    let input: String = folder.path().join("x.npy").to_string_lossy().into_owned();
    let elements = 3 * 32 * 32;
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 32, 32), }";
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    npy.extend(format!("{header:<117}\n").as_bytes());
    npy.extend((0..elements).flat_map(|i| ((i % 31) as f32 * 0.125 - 1.5).to_le_bytes()));
    fs::write(&input, npy).expect("written");
    let run = |file: &Path, without: &str| {
        let output = folder.path().join("y.npy");
        let ran = Command::new(env!("CARGO_BIN_EXE_nnc"))
            .arg("run")
            .arg(file)
            .args(["--json", "--output"])
            .arg(&output)
            .args(["--input", &format!("input={input}")])
            .env(WITHOUT, without)
            .output()
            .expect("the command starts");
        let told = String::from_utf8_lossy(&ran.stdout).into_owned();
        let error = String::from_utf8_lossy(&ran.stderr).into_owned();
        (told, error, fs::read(&output).unwrap_or_default())
    };
    let mut without = String::new();
    for (name, feature) in LEVELS {
        if target(name).runs_here() {
            let single = folder.path().join(format!("{name}.so"));
            fs::write(&single, alone(&model, name)).expect("written");
            let (told, error, found) = run(&path, &without);
            assert!(told.contains(&format!("\"target\": \"{name}\"")), "without {without}: {told}{error}");
            assert!(!found.is_empty() && found == run(&single, "").2, "{name}");
        }
        without = format!("{without},{feature}");
    }
    let (_, error, _) = run(&path, &without);
    assert!(error.contains("compiled for x86-64-v2, but this CPU lacks sse4.2"), "{error}");
    let (_, error, _) = run(&path, "avx3");
    assert!(error.contains("NNC_CPU_WITHOUT names \"avx3\""), "{error}");
}

#[test]
fn what_versions_have_in_common_is_there_once() {
    let model = network();
    let options = Options::default().target("x86-64-v4").expect("a target");
    let single = model.lower(&options).expect("a plan");
    let code = single.code_called(&net()).expect("code");
    // Products of bytes are of no use to this network.
    let twice = versions(&model, &["x86-64-v4", "x86-64-v4+vnni"]);
    assert_eq!(twice.const_bytes(), single.plan().constants.len() as u64);
    assert_eq!(twice.functions(), versions(&model, &["x86-64-v4"]).functions());
    let driver = twice.bytes() - code.bytes();
    assert!(driver < code.bytes() / 4, "{driver} bytes more than {}", code.bytes());
    // Biases are as wide as they are; panels are not.
    let levels = versions(&model, &LEVELS.map(|(name, _)| name));
    let sum: usize = levels.compilations().iter().map(|version| version.plan().constants.len()).sum();
    assert!((levels.const_bytes() as usize) < sum, "{} of {sum}", levels.const_bytes());
}

#[test]
fn the_order_of_targets_and_the_number_of_threads_change_no_byte() {
    let model = network();
    let file = |names: &[&str], threads| {
        let targets: Vec<Target> = names.iter().map(|name| target(name)).collect();
        let options = Options::default().threads(threads);
        let versions = Versions::new(&model, &options, &targets, &net()).expect("versions");
        (versions.artefact().expect("an artefact"), versions.object().expect("an object"))
    };
    let first = file(&["x86-64-v3", "x86-64-v2"], 1);
    assert!(first == file(&["x86-64-v2", "haswell"], 3));
}

#[test]
fn a_program_needs_what_its_layers_use_and_no_more() {
    let model = network();
    let needed = |name| load_features(&alone(&model, name));
    let (v4, best) = (needed("x86-64-v4"), needed("znver4"));
    assert_eq!(best, v4, "no layer multiplies bytes or pairs of bf16");
    let options = Options::default().target("znver4").expect("a target").precision(nnc::Precision::Bf16);
    let narrow = model.lower(&options).expect("a plan");
    let narrow = load_features(&narrow.code_called(&net()).expect("code").artefact().expect("an artefact"));
    assert_eq!(narrow, format!("{v4}, avx512bf16"));
}

/// What a file says that it needs, in the text for C hosts.
fn load_features(file: &[u8]) -> String {
    let text = String::from_utf8_lossy(file);
    let list = text.split("\"cpu_features\":\"").nth(1).expect("features");
    list.split('"').next().expect("features").to_owned()
}

/// A library that the platform's loader holds.
struct Loaded(*mut c_void);

impl Loaded {
    fn open(path: &Path) -> Loaded {
        let path = CString::new(path.to_str().expect("a path")).expect("a path");
        // SAFETY: the file is an artefact of these tests; it has no initialisers.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null());
        Loaded(handle)
    }

    fn symbol(&self, name: &str) -> *mut c_void {
        let name = CString::new(name).expect("a name");
        // SAFETY: the handle is open.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!found.is_null(), "{name:?}");
        found
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nothing of the library is used after it.
        assert_eq!(unsafe { libc::dlclose(self.0) }, 0);
    }
}

type Run = unsafe extern "C" fn(*const *const c_void, *const *mut c_void, *mut c_void) -> c_int;

/// Memory that programs work in, from a multiple of 64 on.
struct Workspace(Vec<u8>);

impl Workspace {
    fn new(bytes: u64) -> Workspace {
        Workspace(vec![0; bytes as usize + 64])
    }

    fn start(&mut self) -> *mut u8 {
        let start = self.0.as_ptr().align_offset(64);
        self.0[start..].as_mut_ptr()
    }
}

#[test]
fn the_c_function_runs_the_best_version_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = network();
    let versions = versions(&model, &LEVELS.map(|(name, _)| name));
    let file = versions.artefact().expect("an artefact");
    let path = folder.path().join("net.so");
    fs::write(&path, &file).expect("written");
    let program = load(&file);
    let library = Loaded::open(&path);
    let (x, mut y) = (input(&program), [0.0_f32; 10]);
    // SAFETY: the symbols have the types that the generated header gives them, the buffers have the sizes of the ports.
    unsafe {
        let bytes = *library.symbol("net_workspace_bytes").cast::<u64>();
        assert!(versions.header().expect("a header").contains(&format!("_WORKSPACE_BYTES {bytes}ull")));
        let supported = library.symbol("net_supported");
        let supported = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(supported);
        assert_eq!(supported(), 1);
        let run = std::mem::transmute::<*mut c_void, Run>(library.symbol("net_run"));
        let mut workspace = Workspace::new(bytes);
        let memory = workspace.start().cast::<c_void>();
        let (inputs, outputs) = ([x.as_ptr().cast()], [y.as_mut_ptr().cast()]);
        for _ in 0..2 {
            assert_eq!(run(inputs.as_ptr(), outputs.as_ptr(), memory), 0);
        }
        assert_eq!(run(inputs.as_ptr(), outputs.as_ptr(), std::ptr::null_mut()), 1);
        assert_eq!(run(inputs.as_ptr(), outputs.as_ptr(), memory.byte_add(8)), 1);
        assert_eq!(run(std::ptr::null(), outputs.as_ptr(), memory), 1);
    }
    assert!(y.map(f32::to_bits).to_vec() == bits(&program));
}

/// `y` are the places where `x`, eight numbers, is not 0.
fn places() -> Model {
    use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
    use onnx_protobuf::{GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};
    let mut x = ValueInfoProto { name: "x".into(), ..Default::default() };
    let tensor = x.type_.mut_or_insert_default().mut_tensor_type();
    tensor.elem_type = 1;
    let value = Some(dimension::Value::DimValue(8));
    tensor.shape.mut_or_insert_default().dim.push(Dimension { value, ..Default::default() });
    let node = NodeProto {
        op_type: "NonZero".into(),
        input: vec!["x".into()],
        output: vec!["y".into()],
        ..Default::default()
    };
    let graph = GraphProto {
        name: "g".into(),
        input: vec![x],
        node: vec![node],
        output: vec![ValueInfoProto { name: "y".into(), ..Default::default() }],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { version: 17, ..Default::default() }];
    let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph).into(), ..Default::default() };
    Model::from_bytes(model.write_to_bytes().expect("bytes")).expect("a model")
}

#[test]
fn how_many_results_there_are_is_at_one_place_for_all_versions() {
    let folder = tempfile::tempdir().expect("a folder");
    let versions = versions(&places(), &LEVELS.map(|(name, _)| name));
    let path = folder.path().join("net.so");
    fs::write(&path, versions.artefact().expect("an artefact")).expect("written");
    let at = versions.desc().outputs[0].counts[0].at as usize;
    let header = versions.header().expect("a header");
    assert!(header.contains(&format!("NET_OUTPUT_0_COUNT_AT {at}ull")), "{header}");
    let library = Loaded::open(&path);
    let (x, mut y) = ([0.0_f32, 3.0, 0.0, 0.0, -1.0, 2.0, 0.0, 0.0], [0_i64; 8]);
    // SAFETY: the symbols have the types that the generated header gives them, the buffers have the sizes of the ports.
    let count = unsafe {
        let bytes = *library.symbol("net_workspace_bytes").cast::<u64>();
        assert!(at as u64 + 8 <= bytes);
        let run = std::mem::transmute::<*mut c_void, Run>(library.symbol("net_run"));
        let mut workspace = Workspace::new(bytes);
        let memory = workspace.start();
        let status =
            run([x.as_ptr().cast()].as_ptr(), [y.as_mut_ptr().cast()].as_ptr(), memory.cast::<c_void>());
        assert_eq!(status, 0);
        memory.add(at).cast::<i64>().read()
    };
    assert_eq!((count, &y[..3]), (3, &[1, 4, 5][..]));
}
