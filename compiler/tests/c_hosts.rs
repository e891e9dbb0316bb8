//! C and C++ programs that hold several models: in one translation unit, as objects, shared objects and libraries, and each
//! computes what the runtime computes.
#![cfg(all(feature = "cli", target_arch = "x86_64", target_os = "linux"))]

#[path = "common/c_compilers.rs"]
mod c_compilers;
#[path = "../../runtime/tests/common/watchdog.rs"]
mod watchdog;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use c_compilers::{STRICT, compilers};
use nnc::{CName, InputRef, Library, Model, Options, Pool, Session};
use nnc_models::Spec;
use watchdog::Watchdog;

/// A program that runs models on the bytes of `NAME.in` and writes what comes out; each header is included twice.
fn host(names: &[&str], headers: &[&str]) -> String {
    let includes: String =
        headers.iter().chain(headers).map(|header| format!("#include \"{header}\"\n")).collect();
    let runs: String =
        names.iter().map(|name| RUN.replace('@', name).replace('%', &name.to_uppercase())).collect();
    let calls: String = names.iter().map(|name| format!("    if (!status) status = {name}();\n")).collect();
    format!(
        "{includes}{FILES}{runs}\nint main(void) {{\n    int status = 0;\n{calls}    return status;\n}}\n"
    )
}

const FILES: &str = r#"
#include <stdio.h>

static void *aligned(char *room, uintptr_t align) {
    return room + (align - (uintptr_t)room % align) % align;
}

static int read_all(const char *path, void *bytes, size_t count) {
    FILE *file = fopen(path, "rb");
    size_t found = file ? fread(bytes, 1, count, file) : 0;
    if (file) fclose(file);
    return found == count ? 0 : 10;
}

static int write_all(const char *path, const void *bytes, size_t count) {
    FILE *file = fopen(path, "wb");
    size_t done = file ? fwrite(bytes, 1, count, file) : 0;
    if (file) fclose(file);
    return done == count ? 0 : 11;
}
"#;

/// What a host has for each model: `@` stands for its name, `%` for that of macros.
const RUN: &str = r#"
static %_INPUT_0_TYPE @_input[%_INPUT_0_ELEMENTS];
static %_OUTPUT_0_TYPE @_output[%_OUTPUT_0_ELEMENTS];
static char @_room[%_WORKSPACE_BYTES + %_WORKSPACE_ALIGN];

static int @(void) {
    const void *inputs[1];
    void *outputs[1];
    int status;
    if (@_abi_version != %_ABI_VERSION || @_workspace_bytes != %_WORKSPACE_BYTES || !@_supported()) return 12;
    inputs[0] = @_input;
    outputs[0] = @_output;
    status = read_all("@.in", @_input, %_INPUT_0_BYTES);
    if (!status) status = @_run(inputs, outputs, aligned(@_room, %_WORKSPACE_ALIGN));
    return status != %_OK ? status : write_all("@.out", @_output, %_OUTPUT_0_BYTES);
}
"#;

/// A model in the folder as an object, a shared object and a header, with its input and what the runtime makes of it.
fn put(folder: &Path, name: &str, spec: &Spec) -> Vec<u8> {
    let model = Model::from_bytes(nnc_models::encode(spec).expect("a network")).expect("a model");
    let options = Options::default();
    let compilation = model.lower(&options).expect("a plan");
    let code = compilation.code_called(&CName::new(name).expect("a name")).expect("code");
    let write = |ending: &str, bytes: &[u8]| {
        fs::write(folder.join(format!("{name}.{ending}")), bytes).expect("written");
    };
    write("nnc.o", &code.object().expect("an object"));
    write("nnc.so", &code.artefact().expect("an artefact"));
    write("nnc.a", &code.static_library().expect("an archive"));
    write("nnc.h", code.header().expect("a header").as_bytes());

    let program = model.compile(&options).expect("a program");
    let input: Vec<f32> = (0..program.inputs()[0].elems()).map(|i| (i % 31) as f32 * 0.125 - 1.5).collect();
    let _watchdog = Watchdog::seconds(60);
    let mut session = Session::new(&program, &Pool::new(2).expect("a pool")).expect("a session");
    let outputs = session.run(&[InputRef::new(&input)]).expect("results");
    let bytes = |floats: &[f32]| floats.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    write("in", &bytes(&input));
    bytes(outputs.get::<f32>(0).expect("floats"))
}

/// Networks by the names that C has for them. The first two have layers in common; sizes differ, so that a workspace of one is none
/// of another.
fn networks() -> [(&'static str, Spec); 3] {
    [
        ("first", Spec::new("mobilenet-v2").width(0.35).resolution(32).classes(10)),
        ("second", Spec::new("mobilenet-v2").width(0.35).resolution(32).classes(16).seed(7)),
        ("third", Spec::new("shufflenet-v2").width(0.5).resolution(64).classes(7)),
    ]
}

const NAMES: [&str; 3] = ["first", "second", "third"];

/// A folder with three models, each for itself and all in a library, and what each computes. They are compiled once for all tests.
fn three_models() -> (tempfile::TempDir, [Vec<u8>; 3]) {
    static COMPILED: LazyLock<(BTreeMap<OsString, Vec<u8>>, [Vec<u8>; 3])> = LazyLock::new(|| {
        let (folder, expected) = compile_three_models();
        let entries = fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry"));
        let files = entries.map(|entry| (entry.file_name(), fs::read(entry.path()).expect("a file")));
        (files.collect(), expected)
    });
    let (files, expected) = &*COMPILED;
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("written");
    }
    (folder, expected.clone())
}

fn compile_three_models() -> (tempfile::TempDir, [Vec<u8>; 3]) {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = networks().map(|(name, spec)| put(folder.path(), name, &spec));
    let compilations = networks().map(|(name, spec)| {
        let model = Model::from_bytes(nnc_models::encode(&spec).expect("a network")).expect("a model");
        (CName::new(name).expect("a name"), model.lower(&Options::default()).expect("a plan"))
    });
    let programs = compilations.each_ref().map(|(name, compilation)| (name.clone(), compilation));
    let library = Library::new(&programs).expect("a library");
    let write = |ending: &str, bytes: &[u8]| {
        fs::write(folder.path().join(format!("models.{ending}")), bytes).expect("written");
    };
    write("nnc.o", library.object());
    write("nnc.a", &library.static_library("models.nnc.o").expect("an archive"));
    write("nnc.h", library.header().expect("a header").as_bytes());
    (folder, expected)
}

/// Builds a host with all compilers and some files, runs it, and compares what it writes.
fn build_and_run(folder: &Path, expected: &[Vec<u8>], source: &str, with: &[&str]) {
    for compiler in compilers() {
        let built = build(folder, compiler, source, &[with, &["-o", "host"]].concat());
        assert!(built.status.success(), "{compiler:?} with {with:?}: {}", text(&built));
        let ran = Command::new(folder.join("host")).current_dir(folder).status().expect("a program");
        assert_eq!(ran.code(), Some(0), "{compiler:?} with {with:?}");
        for (name, expected) in NAMES.into_iter().zip(expected) {
            let path: PathBuf = folder.join(format!("{name}.out"));
            assert!(fs::read(&path).expect(name) == *expected, "{name}, {compiler:?} with {with:?}");
            fs::remove_file(path).expect("removed");
        }
    }
}

fn build(
    folder: &Path,
    (compiler, standard, language): (&str, &str, &str),
    source: &str,
    rest: &[&str],
) -> Output {
    let file = folder.join("host.c");
    fs::write(&file, source).expect("written");
    Command::new(compiler)
        .current_dir(folder)
        .args(STRICT)
        .args([&format!("-std={standard}"), "-x", language, "host.c", "-x", "none"])
        .args(rest)
        .output()
        .expect("the compiler")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn three_models_in_one_program_each_compute_their_results() {
    let (folder, expected) = three_models();
    let source = host(&NAMES, &["first.nnc.h", "second.nnc.h", "third.nnc.h"]);
    for with in [
        &["first.nnc.o", "second.nnc.o", "third.nnc.o", "-Wl,--fatal-warnings"][..],
        &["first.nnc.so", "second.nnc.so", "third.nnc.so", "-Wl,-rpath,$ORIGIN"],
        &["first.nnc.o", "second.nnc.a", "third.nnc.so", "-Wl,-rpath,$ORIGIN"],
    ] {
        build_and_run(folder.path(), &expected, &source, with);
    }
}

#[test]
fn three_models_of_one_library_each_compute_their_results() {
    let (folder, expected) = three_models();
    let source = host(&NAMES, &["models.nnc.h"]);
    let shared = Command::new("cc")
        .current_dir(folder.path())
        .args([
            "-shared",
            "-o",
            "libmodels.so",
            "-Wl,--fatal-warnings",
            "-Wl,--whole-archive",
            "models.nnc.a",
            "-Wl,--no-whole-archive",
        ])
        .output()
        .expect("the linker");
    assert!(shared.status.success(), "{}", text(&shared));
    for with in [
        &["models.nnc.a", "-Wl,--fatal-warnings"][..],
        &["models.nnc.a", "-static", "-Wl,--gc-sections"],
        &["models.nnc.o", "-Wl,--fatal-warnings"],
        &["libmodels.so", "-Wl,-rpath,$ORIGIN"],
    ] {
        build_and_run(folder.path(), &expected, &source, with);
    }
}

#[test]
fn pkg_config_tells_how_to_build_with_what_lies_beside_it() {
    let Ok(version) = Command::new("pkg-config").arg("--version").output() else {
        return eprintln!("pkg-config is not installed, so nothing is said about it");
    };
    assert!(version.status.success());
    let (folder, expected) = three_models();
    let place = folder.path().join("with space");
    fs::create_dir(&place).expect("a folder");
    for (file, name) in [("models.nnc.a", "my models.nnc.a"), ("models.nnc.h", "models.nnc.h")] {
        fs::rename(folder.path().join(file), place.join(name)).expect("moved");
    }
    let written =
        nnc::artefact::write_pkg_config("models", "three", nnc::artefact::Linked::Static("my models.nnc.a"));
    fs::write(place.join("models.pc"), written).expect("written");
    let told = Command::new("pkg-config")
        .args(["--cflags", "--libs", "models"])
        .env("PKG_CONFIG_PATH", &place)
        .output()
        .expect("pkg-config");
    assert!(told.status.success(), "{}", text(&told));
    let told = String::from_utf8(told.stdout).expect("text");
    // As a shell would take it apart.
    let words: Vec<String> =
        told.trim().replace("\\ ", "\0").split_whitespace().map(|word| word.replace('\0', " ")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    build_and_run(folder.path(), &expected, &host(&NAMES, &["models.nnc.h"]), &words);
}

#[test]
fn what_is_linked_needs_nothing_from_others() {
    use object::{Object, ObjectSymbol};
    let (folder, _) = three_models();
    for name in ["first.nnc.o", "models.nnc.o"] {
        let bytes = fs::read(folder.path().join(name)).expect("the object");
        let file = object::File::parse(&*bytes).expect("an object");
        let named = file
            .symbols()
            .filter(|symbol| symbol.is_undefined())
            .map(|s| s.name().expect("a name").to_string());
        assert_eq!(named.filter(|name| !name.is_empty()).collect::<Vec<_>>(), Vec::<String>::new(), "{name}");
    }
}

/// `y = x[i]`, four numbers and two indices.
fn gather() -> Vec<u8> {
    use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
    use onnx_protobuf::{GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};
    let input = |name: &str, elem_type, extent| {
        let mut info = ValueInfoProto { name: name.into(), ..Default::default() };
        let tensor = info.type_.mut_or_insert_default().mut_tensor_type();
        tensor.elem_type = elem_type;
        let value = Some(dimension::Value::DimValue(extent));
        tensor.shape.mut_or_insert_default().dim.push(Dimension { value, ..Default::default() });
        info
    };
    let node = NodeProto {
        op_type: "Gather".into(),
        input: vec!["x".into(), "i".into()],
        output: vec!["y".into()],
        ..Default::default()
    };
    let graph = GraphProto {
        name: "g".into(),
        input: vec![input("x", 1, 4), input("i", 7, 2)],
        node: vec![node],
        output: vec![ValueInfoProto { name: "y".into(), ..Default::default() }],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { version: 17, ..Default::default() }];
    let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph).into(), ..Default::default() };
    model.write_to_bytes().expect("a model")
}

#[test]
fn an_index_outside_is_an_error_of_the_c_function_and_gone_in_the_next_run() {
    const HOST: &str = r#"
#include "pick.nnc.h"
int main(void) {
    static float x[4] = {1, 2, 3, 4}, y[2];
    static int64_t i[2] = {3, -4};
    static char room[PICK_WORKSPACE_BYTES + PICK_WORKSPACE_ALIGN];
    void *workspace = room + (PICK_WORKSPACE_ALIGN - (uintptr_t)room % PICK_WORKSPACE_ALIGN) % PICK_WORKSPACE_ALIGN;
    const void *inputs[2];
    void *outputs[1];
    inputs[0] = x; inputs[1] = i; outputs[0] = y;
    if (pick_run(inputs, outputs, workspace) != PICK_OK || y[0] != 4 || y[1] != 1) return 1;
    i[1] = 4;
    if (pick_run(inputs, outputs, workspace) != PICK_ERROR_INDEX) return 2;
    i[1] = 1;
    if (pick_run(inputs, outputs, workspace) != PICK_OK || y[1] != 2) return 3;
    return 0;
}
"#;
    let folder = tempfile::tempdir().expect("a folder");
    let compilation = Model::from_bytes(gather()).and_then(|model| model.lower(&Options::default()));
    let compilation = compilation.expect("a plan");
    let code = compilation.code_called(&CName::new("pick").expect("a name")).expect("code");
    fs::write(folder.path().join("pick.nnc.o"), code.object().expect("an object")).expect("written");
    fs::write(folder.path().join("pick.nnc.h"), code.header().expect("a header")).expect("written");
    for compiler in compilers() {
        let built = build(folder.path(), compiler, HOST, &["pick.nnc.o", "-o", "host"]);
        assert!(built.status.success(), "{compiler:?}: {}", text(&built));
        let ran = Command::new(folder.path().join("host")).status().expect("a program");
        assert_eq!(ran.code(), Some(0), "{compiler:?}");
    }
}

#[test]
fn a_c_host_with_threads_computes_the_same_bytes() {
    // As one would write it without a pool: a thread for each part but the first.
    const HOST: &str = r#"
#include "net.nnc.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct call { void (*task)(void *argument, size_t part); void *argument; size_t part; };
static size_t asked;

static void *one(void *given) {
    struct call *call = (struct call *)given;
    call->task(call->argument, call->part);
    return NULL;
}

static void threads(void *context, size_t parts, void (*task)(void *argument, size_t part), void *argument) {
    pthread_t ids[NET_MOST_PARTS];
    struct call calls[NET_MOST_PARTS];
    size_t part;
    ++*(size_t *)context;
    for (part = 0; part < parts; ++part) {
        calls[part].task = task;
        calls[part].argument = argument;
        calls[part].part = part;
        if (part) pthread_create(&ids[part], NULL, one, &calls[part]);
    }
    one(&calls[0]);
    for (part = 1; part < parts; ++part) pthread_join(ids[part], NULL);
}

static NET_INPUT_0_TYPE input[NET_INPUT_0_ELEMENTS];
static NET_OUTPUT_0_TYPE output[NET_OUTPUT_0_ELEMENTS];
static char room[NET_PARALLEL_WORKSPACE_BYTES + NET_WORKSPACE_ALIGN];

int main(void) {
    char *workspace = room + (NET_WORKSPACE_ALIGN - (uintptr_t)room % NET_WORKSPACE_ALIGN) % NET_WORKSPACE_ALIGN;
    const void *inputs[1];
    void *outputs[1];
    int status, round;
    FILE *file = fopen("net.in", "rb");
    if (!file || fread(input, 1, NET_INPUT_0_BYTES, file) != NET_INPUT_0_BYTES || fclose(file)) return 10;
    if (!net_supported()) return 11;
    inputs[0] = input;
    outputs[0] = output;
    for (round = 0; round < 2; ++round) {
        memset(output, 0, NET_OUTPUT_0_BYTES);
        status = net_run_parallel(inputs, outputs, workspace, threads, &asked);
        if (status != NET_OK) return status;
    }
    if (!asked) return 12;
    if (net_run_parallel(inputs, outputs, workspace, NULL, &asked) != NET_ERROR_BUFFER) return 13;
    file = fopen("net.out", "wb");
    return !file || fwrite(output, 1, NET_OUTPUT_0_BYTES, file) != NET_OUTPUT_0_BYTES || fclose(file) ? 14 : 0;
}
"#;
    // With strips, and with a recurrence, which repeats steps.
    for spec in [
        Spec::new("mobilenet-v2").width(0.35).resolution(96).classes(10),
        Spec::new("crnn").resolution(32).classes(12),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let expected = put(folder.path(), "net", &spec);
        for compiler in compilers() {
            let built = build(folder.path(), compiler, HOST, &["net.nnc.o", "-pthread", "-o", "host"]);
            assert!(built.status.success(), "{compiler:?}: {}", text(&built));
            let host = folder.path().join("host");
            let ran = Command::new(host).current_dir(folder.path()).status().expect("a program");
            assert_eq!(ran.code(), Some(0), "{compiler:?}");
            let found = fs::read(folder.path().join("net.out")).expect("net.out");
            assert!(found == expected, "{compiler:?}");
        }
    }
}

#[test]
fn the_programs_of_the_documents_build_and_run() {
    let folder = tempfile::tempdir().expect("a folder");
    put(folder.path(), "model", &Spec::new("mobilenet-v2").width(0.35).resolution(32).classes(10));
    let documents = [include_str!("../../README.md"), include_str!("../../docs/embedding.md")];
    let programs = documents.iter().flat_map(|text| text.split("```c\n").skip(1));
    // Those with libnnc are built and run where that is: `capi/tests/hosts.rs`.
    let programs = programs.filter_map(|rest| rest.split("```").next());
    let programs: Vec<&str> = programs.filter(|program| !program.contains("<nnc.h>")).collect();
    assert_eq!(programs.len(), 2);
    for (compiler, _, language) in compilers() {
        for program in programs.iter().filter(|_| language == "c") {
            // Pragmas of OpenMP mean nothing without it.
            let rest = ["model.nnc.o", "-Wno-unknown-pragmas", "-o", "host"];
            let built = build(folder.path(), (compiler, "c11", "c"), program, &rest);
            assert!(built.status.success(), "{compiler}: {}", text(&built));
            let ran = Command::new(folder.path().join("host")).status().expect("a program");
            assert_eq!(ran.code(), Some(0), "{compiler}: {program}");
        }
    }
}

#[test]
fn two_models_with_one_name_in_one_translation_unit_are_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    for (place, resolution) in [("a", 32), ("b", 64)] {
        let place = folder.path().join(place);
        fs::create_dir(&place).expect("a folder");
        put(&place, "net", &Spec::new("mobilenet-v2").width(0.35).resolution(resolution).classes(10));
    }
    let source = "#include \"a/net.nnc.h\"\n#include \"b/net.nnc.h\"\nint main(void) { return 0; }\n";
    for compiler in compilers() {
        let built = build(folder.path(), compiler, source, &["-c", "-o", "host.o"]);
        assert!(
            !built.status.success() && text(&built).contains("two programs have the name net"),
            "{compiler:?}"
        );
    }
}

#[test]
fn an_object_shows_nothing_but_what_its_header_declares() {
    use object::{Object, ObjectSymbol};
    let (folder, _) = three_models();
    let bytes = fs::read(folder.path().join("first.nnc.o")).expect("the object");
    let file = object::File::parse(&*bytes).expect("an object");
    let mut names: Vec<&str> = file
        .symbols()
        .filter(|symbol| symbol.is_global())
        .map(|symbol| symbol.name().expect("a name"))
        .collect();
    names.sort_unstable();
    let endings = ["abi_version", "info", "run", "run_parallel", "supported", "workspace_bytes"];
    assert_eq!(names, endings.map(|ending| format!("first_{ending}")));
}
