//! The compiler in the build script writes what the command writes. This program is its own build script: run with an `OUT_DIR`, as cargo
//! does, it compiles.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use nnc::{CName, Model, Options};
use nnc_build::{Build, BuildError};

fn main() {
    if env::var_os("OUT_DIR").is_some() {
        if let Err(error) = script() {
            eprintln!("{error}");
            std::process::exit(1);
        }
        return;
    }
    the_files_are_those_of_the_compiler();
    cargo_is_told_when_to_write_them_again();
    what_is_wrong_is_said();
    println!("what the compiler in a build script writes: 3 tests passed");
}

/// The build script: arguments are a model and settings.
fn script() -> Result<(), BuildError> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let mut build = Build::new(&arguments[0]).target("x86-64-v2");
    for setting in &arguments[1..] {
        build = match setting.split_once('=') {
            Some(("name", name)) => build.name(name),
            Some(("dim", extent)) => build.dim("batch", extent.parse().expect("a number")),
            Some(("data", file)) => build.data(file),
            Some(("target", target)) => build.target(target),
            _ => build.flag(setting),
        };
    }
    build.compile()
}

/// A folder with a network, and room for what is made of it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = nnc_models::Spec::new("mobilenet-v2").width(0.35).resolution(32).classes(10);
    let network = nnc_models::encode(&spec).expect("a network");
    fs::write(folder.path().join("my-net.onnx"), network).expect("written");
    fs::create_dir(folder.path().join("out")).expect("a folder");
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env::current_exe().expect("this program"))
        .current_dir(folder)
        .args(arguments)
        .env("OUT_DIR", folder.join("out"))
        // No command is to be found, and none is asked for.
        .env("PATH", "")
        .env_remove("NNC")
        .envs([("HOST", "x86_64-unknown-linux-gnu"), ("TARGET", "x86_64-unknown-linux-gnu")])
        .output()
        .expect("this program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn the_files_are_those_of_the_compiler() {
    let folder = folder();
    let options = Options::default().target("x86-64-v2").expect("a target");
    let compilation = Model::open(folder.path().join("my-net.onnx")).and_then(|model| model.lower(&options));
    let compilation = compilation.expect("a plan");
    for (arguments, stem, name) in
        [(&["my-net.onnx"][..], "my-net", "my_net"), (&["my-net.onnx", "name=other"], "other", "other")]
    {
        let done = run(folder.path(), arguments);
        assert!(done.status.success(), "{}", text(&done.stderr));
        let code = compilation.code_called(&CName::new(name).expect("a name")).expect("code");
        let read = |ending: &str| fs::read(folder.path().join("out").join(format!("{stem}.{ending}")));
        assert!(read("nnc.so").expect("an artefact") == code.artefact().expect("an artefact"), "{stem}");
        let module = code.rust_module(&format!("{stem}.nnc.so"));
        assert_eq!(text(&read("rs").expect("a module")), module);
    }
    assert_eq!(fs::read_dir(folder.path().join("out")).expect("a folder").count(), 4, "nothing else is left");
}

fn cargo_is_told_when_to_write_them_again() {
    let folder = folder();
    let told = text(&run(folder.path(), &["my-net.onnx", "data=weights.bin"]).stdout);
    for line in [
        "cargo:rerun-if-changed=my-net.onnx\n",
        "cargo:rerun-if-changed=build.rs\n",
        "cargo:rerun-if-changed=weights.bin\n",
        "cargo:rerun-if-env-changed=NNC\n",
    ] {
        assert!(told.contains(line), "{told}");
    }
}

fn what_is_wrong_is_said() {
    let folder = folder();
    fs::write(folder.path().join("none.onnx"), b"no model").expect("written");
    for (arguments, expected) in [
        (&["none.onnx"][..], "nnc cannot compile \"none.onnx\""),
        (&["gone.onnx"], "No such file"),
        (&["my-net.onnx", "dim=2"], "batch"),
        (&["my-net.onnx", "name=2 x"], "2 x"),
        (&["my-net.onnx", "target=z80"], "z80"),
        (&["my-net.onnx", "--no-winograd"], "the flag \"--no-winograd\" is one of the command"),
    ] {
        let done = run(folder.path(), arguments);
        let said = text(&done.stderr);
        assert!(!done.status.success() && said.contains(expected), "{arguments:?}: {said}");
    }
    assert_eq!(fs::read_dir(folder.path().join("out")).expect("a folder").count(), 0);
}
