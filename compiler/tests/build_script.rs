//! An application whose build script compiles a model: it is built by cargo, as its author would, and computes what the runtime
//! computes.
#![cfg(all(feature = "cli", target_arch = "x86_64", target_os = "linux"))]

#[path = "../../runtime/tests/common/watchdog.rs"]
mod watchdog;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nnc::{InputRef, Model, Options, Pool, Session};
use nnc_models::Spec;
use watchdog::Watchdog;

const MANIFEST: &str = r#"
[package]
name = "application"
version = "0.1.0"
edition = "2024"

[dependencies]
nnc-runtime = { path = "@/runtime" }

[build-dependencies]
nnc-build = { path = "@/nnc-build" }

[profile.dev]
debug = 0

[workspace]
"#;

const BUILD: &str = r#"
fn main() -> Result<(), nnc_build::BuildError> {
    nnc_build::Build::new("models/tiny.onnx").compile()
}
"#;

const MAIN: &str = r#"
use nnc_runtime::Pool;

#[deny(warnings)]
mod tiny {
    include!(concat!(env!("OUT_DIR"), "/tiny.rs"));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::new(2)?;
    let mut model = tiny::Model::new(&pool)?;
    let mut another = model.another(&pool)?;
    let input: [f32; 3072] = std::array::from_fn(|i| (i % 31) as f32 * 0.125 - 1.5);
    let outputs = model.run(tiny::Inputs { input: &input })?;
    assert_eq!(outputs.logits, another.run(tiny::Inputs { input: &input })?.logits);
    for value in outputs.logits {
        println!("{:08x}", value.to_bits());
    }
    assert_eq!(model.session().program().outputs()[0].name, "logits");
    Ok(())
}
"#;

fn network() -> Vec<u8> {
    nnc_models::encode(&Spec::new("mobilenet-v2").width(0.35).resolution(32).classes(10)).expect("a network")
}

/// An application in a folder that stays for the next time, so that its dependencies need not be built again.
struct Application(PathBuf);

impl Application {
    fn new(name: &str) -> Application {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        for part in ["src", "models"] {
            fs::create_dir_all(folder.join(part)).expect("a folder");
        }
        let manifest = MANIFEST.replace('@', &workspace.display().to_string());
        for (file, text) in [("Cargo.toml", manifest.as_str()), ("build.rs", BUILD), ("src/main.rs", MAIN)] {
            fs::write(folder.join(file), text).expect("written");
        }
        // The versions that are there, so that nothing is fetched.
        fs::copy(workspace.join("Cargo.lock"), folder.join("Cargo.lock")).expect("copied");
        fs::write(folder.join("models/tiny.onnx"), network()).expect("written");
        Application(folder)
    }

    fn run(&self, nnc: &str) -> Output {
        Command::new(env!("CARGO"))
            .current_dir(&self.0)
            .args(["run", "--quiet", "--offline", "--target-dir", "target"])
            .env("NNC", nnc)
            .env_remove("RUSTFLAGS")
            .output()
            .expect("cargo")
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_application_gets_its_model_from_its_build_script() {
    let application = Application::new("build-script");
    let ran = application.run(env!("CARGO_BIN_EXE_nnc"));
    assert!(ran.status.success(), "{}", text(&ran));

    let _watchdog = Watchdog::seconds(60);
    let program = Model::from_bytes(network()).and_then(|model| model.compile(&Options::default()));
    let program = program.expect("a program");
    let input: Vec<f32> = (0..3072).map(|i| (i % 31) as f32 * 0.125 - 1.5).collect();
    let mut session = Session::new(&program, &Pool::new(1).expect("a pool")).expect("a session");
    let outputs = session.run(&[InputRef::new(&input)]).expect("results");
    let expected: String =
        outputs.get::<f32>(0).expect("floats").iter().map(|x| format!("{:08x}\n", x.to_bits())).collect();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), expected);

    // What is wrong with the model or the command is said where the application is built.
    fs::write(application.0.join("models/tiny.onnx"), b"no model").expect("written");
    let refused = application.run(env!("CARGO_BIN_EXE_nnc"));
    assert!(!refused.status.success() && text(&refused).contains("models/tiny.onnx"), "{}", text(&refused));
    let missing = application.run("/nowhere/nnc");
    assert!(text(&missing).contains("environment variable NNC"), "{}", text(&missing));
}
