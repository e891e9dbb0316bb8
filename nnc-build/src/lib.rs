//! Compiles ONNX models while an application is built: for its build script.
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), nnc_build::BuildError> {
//!     nnc_build::Build::new("models/net.onnx").target("x86-64-v3").compile()
//! }
//! ```
//!
//! The application includes the module that is written, in which the compiled program is, with the types of its inputs and outputs. It
//! depends on `nnc-runtime` alone:
//!
//! ```text
//! mod net {
//!     include!(concat!(env!("OUT_DIR"), "/net.rs"));
//! }
//!
//! let mut model = net::Model::new(&Pool::for_this_machine()?)?;
//! let outputs = model.run(net::Inputs { x: &picture })?;
//! ```
//!
//! The work is done by the command `nnc`, so that no code generator is built for the application. It is looked for where the environment
//! variable `NNC` says, and else on the path. Where no command can be installed, the feature `compiler` has the compiler in the build
//! script, which then asks no command but that of `NNC`:
//!
//! ```toml
//! [build-dependencies]
//! nnc-build = { version = "0.1", features = ["compiler"] }
//!
//! [profile.dev.build-override]        # a compiler that is not optimised takes minutes for large models
//! opt-level = 3
//! ```
//!
//! The model is compiled again when its file, the command or the build script changes. Files with weights outside of the model are named
//! by [`Build::data`].
#![deny(missing_docs)]

#[cfg(feature = "compiler")]
mod linked;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A model that becomes a module.
#[derive(Clone, Debug)]
pub struct Build {
    model: PathBuf,
    target: Option<String>,
    settings: Vec<Setting>,
    data: Vec<PathBuf>,
}

/// What is said of how to compile.
#[derive(Clone, Debug)]
enum Setting {
    Name(String),
    Dim(String, usize),
    Shape(String, Vec<usize>),
    /// What only the command knows.
    Flag(OsString),
}

/// Why there is no module. What cargo shows of it when a build script returns it is its text.
#[derive(thiserror::Error)]
pub enum BuildError {
    /// It is not cargo who runs this.
    #[error("there is no OUT_DIR; call nnc_build from a build script, which cargo runs")]
    NoCargo,
    /// The command is not there.
    #[error(
        "cannot run \"{command}\": {source}; install nnc with `cargo install --path compiler`, say where it is with the \
         environment variable NNC, or have the compiler in the build script with the feature `compiler` of nnc-build"
    )]
    NoCommand {
        /// What was to be run.
        command: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The application is for another machine.
    #[error("the application is built for {0}, another machine than this; name its level with Build::target")]
    OtherMachine(String),
    /// The model cannot be compiled.
    #[error("nnc cannot compile \"{}\"; what it says is\n{said}", .model.display())]
    Refused {
        /// The model's file.
        model: PathBuf,
        /// Its message.
        said: String,
    },
    /// Settings that the compiler in the build script does not have.
    #[error(
        "the flag \"{}\" is one of the command; name the command with the environment variable NNC, or leave the feature \
         `compiler` of nnc-build out",
        .0.to_string_lossy()
    )]
    Flag(OsString),
    /// What was compiled cannot be written.
    #[error("cannot write \"{}\": {source}", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Build {
    /// A model by its file; a relative path begins at the application's manifest.
    pub fn new(model: impl AsRef<Path>) -> Build {
        let model = model.as_ref().to_owned();
        Build { model, target: None, settings: Vec::new(), data: Vec::new() }
    }

    /// What to compile for, as `nnc compile --target` has it: else, this machine. An application that leaves the machine names one.
    pub fn target(mut self, target: &str) -> Build {
        self.target = Some(target.to_owned());
        self
    }

    /// The name of the module and what C knows the program by: else, that of the model's file.
    pub fn name(self, name: &str) -> Build {
        self.set(Setting::Name(name.into()))
    }

    /// The extent of a dim that the model leaves open.
    pub fn dim(self, name: &str, extent: usize) -> Build {
        self.set(Setting::Dim(name.into(), extent))
    }

    /// The shape of an input that the model leaves open.
    pub fn shape(self, input: &str, shape: &[usize]) -> Build {
        self.set(Setting::Shape(input.into(), shape.into()))
    }

    /// Any other flag of `nnc compile`: for the command alone.
    pub fn flag(self, flag: impl Into<OsString>) -> Build {
        self.set(Setting::Flag(flag.into()))
    }

    /// A file that the model reads besides its own, such as that of its weights: when it changes, the model is compiled again.
    pub fn data(mut self, file: impl AsRef<Path>) -> Build {
        self.data.push(file.as_ref().to_owned());
        self
    }

    fn set(mut self, setting: Setting) -> Build {
        self.settings.push(setting);
        self
    }

    /// Compiles the model, to `NAME.rs` and what that includes in cargo's `OUT_DIR`, and tells cargo when to do it again.
    pub fn compile(&self) -> Result<(), BuildError> {
        let folder = env::var_os("OUT_DIR").map(PathBuf::from).ok_or(BuildError::NoCargo)?;
        println!("cargo:rerun-if-env-changed=NNC");
        // As soon as one file is named, the build script itself has to be, too.
        for file in
            [&self.model, Path::new("build.rs")].into_iter().chain(self.data.iter().map(PathBuf::as_path))
        {
            println!("cargo:rerun-if-changed={}", file.display());
        }
        let [host, target] = ["HOST", "TARGET"].map(|name| env::var(name).unwrap_or_default());
        let machine = |triple: &str| triple.split('-').next().unwrap_or_default().to_owned();
        if self.target.is_none() && machine(&host) != machine(&target) {
            return Err(BuildError::OtherMachine(target));
        }
        match env::var_os("NNC") {
            Some(command) => self.by_command(Path::new(&command), &folder),
            None => self.by_what_there_is(&folder),
        }
    }

    #[cfg(feature = "compiler")]
    fn by_what_there_is(&self, folder: &Path) -> Result<(), BuildError> {
        linked::compile(self, folder)
    }

    #[cfg(not(feature = "compiler"))]
    fn by_what_there_is(&self, folder: &Path) -> Result<(), BuildError> {
        self.by_command(&on_the_path(), folder)
    }

    fn by_command(&self, command: &Path, folder: &Path) -> Result<(), BuildError> {
        if command.is_file() {
            println!("cargo:rerun-if-changed={}", command.display());
        }
        let mut compile = Command::new(command);
        compile.arg("compile").arg(&self.model).args(["--emit", "so,rust", "-o"]).arg(folder);
        if let Some(target) = &self.target {
            compile.args(["--target", target]);
        }
        for setting in &self.settings {
            match setting {
                Setting::Name(name) => compile.args(["--name", name]),
                Setting::Dim(name, extent) => compile.arg("--dim").arg(format!("{name}={extent}")),
                Setting::Shape(input, shape) => {
                    let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
                    compile.arg("--shape").arg(format!("{input}={}", shape.join("x")))
                }
                Setting::Flag(flag) => compile.arg(flag),
            };
        }
        let output = compile
            .output()
            .map_err(|source| BuildError::NoCommand { command: command.display().to_string(), source })?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        match output.status.success() {
            true => Ok(()),
            false => Err(BuildError::Refused { model: self.model.clone(), said }),
        }
    }
}

/// The command on the path, as a file if it is found.
#[cfg(not(feature = "compiler"))]
fn on_the_path() -> PathBuf {
    let name = PathBuf::from("nnc");
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(&name)).find(|file| file.is_file());
    found.unwrap_or(name)
}
