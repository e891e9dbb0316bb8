//! Programs in C and C++ with libnnc as its installer puts it into a prefix: found by pkg-config, linked in each way, and each
//! computes what the Rust library computes.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "../../compiler/tests/common/c_compilers.rs"]
mod c_compilers;
#[path = "../../runtime/tests/common/watchdog.rs"]
mod watchdog;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use c_compilers::{STRICT, compilers, is_there};
use nnc::{InputRef, Model, Options, Pool, Session};
use nnc_models::Spec;
use watchdog::Watchdog;

/// libnnc in a prefix of its own: the runtime alone, and with the compiler.
static RUNTIME: LazyLock<PathBuf> = LazyLock::new(|| install("runtime", &[]));
static COMPILER: LazyLock<PathBuf> = LazyLock::new(|| install("with compiler", &["--compiler"]));

fn install(name: &str, flags: &[&str]) -> PathBuf {
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("libnnc {name}"));
    let installer = Path::new(env!("CARGO_BIN_EXE_nnc-capi"));
    let profile = if installer.parent().is_some_and(|p| p.ends_with("debug")) { "dev" } else { "release" };
    let done = Command::new(installer)
        .arg("--prefix")
        .arg(&prefix)
        .args(["--profile", profile])
        .args(flags)
        .env("CARGO_NET_OFFLINE", "true")
        .output()
        .expect("the installer");
    assert!(done.status.success(), "{}", text(&done));
    assert!(String::from_utf8_lossy(&done.stdout).contains("nnc.h\n"), "{done:?}");
    prefix
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether pkg-config is there. Says so if it is not.
fn finds_libraries() -> bool {
    let there = is_there("pkg-config");
    if !there {
        eprintln!("pkg-config is not installed, so nothing is said about hosts of libnnc");
    }
    there
}

/// What pkg-config says of a library, as a shell would take it apart.
fn pkg_config(prefix: &Path, arguments: &[&str]) -> Vec<String> {
    let told = Command::new("pkg-config")
        .args(arguments)
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .output()
        .expect("install pkg-config");
    assert!(told.status.success(), "{}", text(&told));
    let told = String::from_utf8(told.stdout).expect("text");
    told.trim().replace("\\ ", "\0").split_whitespace().map(|word| word.replace('\0', " ")).collect()
}

/// A folder with a network, its artefact, an input, and what comes out.
fn folder() -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = Spec::new("mobilenet-v2").width(0.35).resolution(32).classes(10);
    let onnx = nnc_models::encode(&spec).expect("a network");
    let model = Model::from_bytes(onnx.clone()).expect("a model");
    let compilation = model.lower(&Options::default()).expect("a plan");
    let artefact = compilation.code().and_then(|code| code.artefact()).expect("an artefact");
    let program = compilation.program().expect("a program");
    let input: Vec<f32> = (0..program.inputs()[0].elems()).map(|i| (i % 31) as f32 * 0.125 - 1.5).collect();
    let _watchdog = Watchdog::seconds(60);
    let mut session = Session::new(&program, &Pool::new(1).expect("a pool")).expect("a session");
    let outputs = session.run(&[InputRef::new(&input)]).expect("results");
    let bytes = |floats: &[f32]| floats.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let check = include_bytes!("hosts/check.h");
    let files: [(&str, &[u8]); 4] =
        [("net.onnx", &onnx), ("net.nnc.so", &artefact), ("in", &bytes(&input)), ("check.h", check)];
    for (name, contents) in files {
        fs::write(folder.path().join(name), contents).expect("written");
    }
    let expected = bytes(outputs.get::<f32>(0).expect("floats"));
    (folder, expected)
}

/// The ways to link: with the shared library, which is found in its prefix, with the archive, and without any shared library.
fn ways(prefix: &Path) -> [Vec<String>; 3] {
    let rpath = format!("-Wl,-rpath,{}", prefix.join("lib").display());
    let shared = pkg_config(prefix, &["--cflags", "--libs", "nnc"]);
    let alone = pkg_config(prefix, &["--cflags", "--libs", "nnc-static"]);
    [[shared, vec![rpath]].concat(), alone.clone(), [alone, vec!["-static".into()]].concat()]
}

fn build(folder: &Path, (compiler, standard, language): (&str, &str, &str), source: &str, with: &[String]) {
    fs::write(folder.join("host.c"), source).expect("written");
    let built = Command::new(compiler)
        .current_dir(folder)
        .args(STRICT)
        .args([
            &format!("-std={standard}"),
            "-D_POSIX_C_SOURCE=200809L",
            "-x",
            language,
            "host.c",
            "-x",
            "none",
        ])
        .args(with)
        .args(["-pthread", "-o", "host"])
        .output()
        .expect("a compiler");
    assert!(built.status.success(), "{compiler} with {with:?}: {}", text(&built));
}

fn run(folder: &Path) -> Output {
    Command::new("./host").current_dir(folder).output().expect("a program")
}

/// Builds a host in all ways with all compilers; each writes what is expected.
fn hosts(prefix: &Path, source: &str) {
    let (folder, expected) = folder();
    for compiler in compilers() {
        for with in ways(prefix) {
            build(folder.path(), compiler, source, &with);
            let ran = run(folder.path());
            assert!(ran.status.success(), "{compiler:?} with {with:?}: {}", text(&ran));
            let out = folder.path().join("out");
            assert!(fs::read(&out).expect("out") == expected, "{compiler:?} with {with:?}");
            fs::remove_file(out).expect("removed");
        }
    }
}

#[test]
fn a_host_that_loads_artefacts_computes_what_the_rust_library_does() {
    if !finds_libraries() {
        return;
    }
    hosts(&RUNTIME, include_str!("hosts/run.c"));
}

#[test]
fn a_host_that_compiles_computes_what_the_rust_library_does() {
    if !finds_libraries() {
        return;
    }
    hosts(&COMPILER, include_str!("hosts/compile.c"));
    hosts(&COMPILER, include_str!("hosts/run.c"));
}

#[test]
fn the_programs_of_the_document_build_and_run() {
    if !finds_libraries() {
        return;
    }
    let programs = include_str!("../../docs/embedding.md").split("```c\n").skip(1);
    let programs = programs.filter_map(|rest| rest.split("```").next());
    let programs: Vec<&str> = programs.filter(|program| program.contains("<nnc.h>")).collect();
    assert_eq!(programs.len(), 2);
    let (folder, _) = folder();
    for program in programs {
        for compiler in compilers().into_iter().filter(|(.., language)| *language == "c") {
            build(folder.path(), compiler, program, &ways(&COMPILER)[0]);
            let ran = run(folder.path());
            assert!(ran.status.success(), "{}", text(&ran));
            assert!(String::from_utf8_lossy(&ran.stdout).contains("logits"), "{ran:?}");
        }
    }
}

#[test]
fn pkg_config_tells_the_version_and_whether_the_compiler_is_there() {
    if !finds_libraries() {
        return;
    }
    for (prefix, compiler) in [(&RUNTIME, "no"), (&COMPILER, "yes")] {
        assert_eq!(pkg_config(prefix, &["--modversion", "nnc"]), [env!("CARGO_PKG_VERSION")]);
        assert_eq!(pkg_config(prefix, &["--variable=compiler", "nnc"]), [compiler]);
    }
}

/// Names that the header declares.
fn declared() -> BTreeSet<String> {
    let header = include_str!("../include/nnc.h");
    let code: String = header.split("/*").map(|part| part.rsplit("*/").next().unwrap_or(part)).collect();
    let before = code.split('(').map(|part| part.rsplit([' ', '*', '\n']).next().unwrap_or(part).to_string());
    before.filter(|name| name.starts_with("nnc_")).collect()
}

#[test]
fn the_shared_library_has_its_name_and_shows_what_the_header_declares_with_a_version() {
    use object::read::elf::{Dyn, ElfFile64, FileHeader as _, Sym as _};
    use object::{Endianness, elf};
    let endian = Endianness::Little;
    let is_compiling = |name: &&String| {
        ["onnx", "options", "compile", "artefact"].iter().any(|word| name[4..].starts_with(word))
    };
    for (prefix, compiler) in [(&RUNTIME, false), (&COMPILER, true)] {
        let file = fs::read(prefix.join("lib/libnnc.so")).expect("the library, by the link to it");
        let parsed = ElfFile64::<Endianness>::parse(&*file).expect("ELF");
        let sections = parsed.elf_header().sections(endian, &*file).expect("sections");
        let (entries, link) = sections.dynamic(endian, &*file).unwrap().expect("a dynamic section");
        let strings = sections.strings(endian, &*file, link).expect("strings");
        let named = |tag| {
            let found = entries.iter().filter(move |entry| entry.tag32(endian) == Some(tag));
            found.map(|entry| {
                String::from_utf8_lossy(entry.string(endian, strings).expect("a name")).into_owned()
            })
        };
        let soname = format!("libnnc.so.{}", env!("CARGO_PKG_VERSION_MAJOR"));
        assert_eq!(named(elf::DT_SONAME as _).collect::<Vec<_>>(), std::slice::from_ref(&soname));
        let system = ["libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2"];
        for needed in named(elf::DT_NEEDED as _) {
            assert!(system.contains(&needed.as_str()), "{needed}");
        }

        let table = sections.symbols(endian, &*file, elf::SHT_DYNSYM).expect("symbols");
        let versions = sections.versions(endian, &*file).unwrap().expect("versions");
        let mut shown = BTreeSet::new();
        for (index, symbol) in table.enumerate() {
            let name =
                String::from_utf8_lossy(symbol.name(endian, table.strings()).expect("a name")).into_owned();
            // The version is a symbol itself, with no address.
            if symbol.is_undefined(endian) || symbol.st_shndx(endian) == elf::SHN_ABS {
                continue;
            }
            let version = versions.version_index(endian, index);
            let version = versions.version(version).expect("a version").expect("a version of its own");
            assert_eq!(
                version.name(),
                format!("NNC_{}", env!("CARGO_PKG_VERSION_MAJOR")).as_bytes(),
                "{name}"
            );
            shown.insert(name);
        }
        let expected: BTreeSet<String> =
            declared().iter().filter(|name| compiler || !is_compiling(name)).cloned().collect();
        assert_eq!(shown, expected);
        let links =
            [("libnnc.so", soname.clone()), (&soname, format!("libnnc.so.{}", env!("CARGO_PKG_VERSION")))];
        for (name, to) in links {
            assert_eq!(fs::read_link(prefix.join("lib").join(name)).expect("a link"), Path::new(&to));
        }
    }
}

#[test]
fn a_program_that_compiles_does_not_link_with_the_runtime_alone() {
    if !finds_libraries() {
        return;
    }
    let (folder, _) = folder();
    let source = "#include <nnc.h>\nint main(void) { return nnc_compile(0, 0, 1) != 0; }\n";
    fs::write(folder.path().join("host.c"), source).expect("written");
    let built = Command::new("cc")
        .current_dir(folder.path())
        .arg("host.c")
        .args(pkg_config(&RUNTIME, &["--cflags", "--libs", "nnc"]))
        .output()
        .expect("a compiler");
    assert!(!built.status.success() && text(&built).contains("nnc_compile"), "{}", text(&built));
}
