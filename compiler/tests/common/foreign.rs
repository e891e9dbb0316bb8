//! Programs for aarch64, run on whatever machine the tests run on: under qemu-user, by hosts in C, as an application has them.
//!
//! ```text
//!   artefact ─ dlopen ─┐
//!                      ├─ host, built by a C compiler for aarch64 ─ qemu-aarch64 ─▶ files with the outputs
//!   object ─── linked ─┘
//! ```
//!
//! On Debian and Ubuntu, `apt-get install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross` brings what it takes. Where that is
//! missing, tests say what, and are not counted as done.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

/// What builds hosts, and what runs them.
const COMPILER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// Where Debian and Ubuntu have the libraries of that machine.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// `host [library] SIZE-OF-INPUT… - SIZE-OF-OUTPUT…` reads the files in0, in1 … of its folder, runs `model_run` twice, and writes out0, out1 ….
const HOST: &str = r#"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef LINKED
#include <dlfcn.h>
#else
int model_run(const void *const *inputs, void *const *outputs, void *workspace);
int model_supported(void);
extern const uint64_t model_workspace_bytes;
#endif

typedef int run_function(const void *const *inputs, void *const *outputs, void *workspace);

static char *room(size_t bytes) {
    char *memory = calloc(bytes + 128, 1);
    if (!memory) exit(20);
    return memory + (64 - (uintptr_t)memory % 64) % 64;
}

int main(int argc, char **argv) {
    void *inputs[64], *outputs[64];
    size_t sizes[64];
    int in = 0, out = 0, at = 1, turn;
    char name[32];
#ifndef LINKED
    void *library = dlopen(argv[at++], RTLD_NOW);
    if (!library) { fprintf(stderr, "%s\n", dlerror()); return 21; }
    run_function *run = (run_function *)dlsym(library, "model_run");
    int (*supported)(void) = (int (*)(void))dlsym(library, "model_supported");
    uint64_t workspace_bytes = *(const uint64_t *)dlsym(library, "model_workspace_bytes");
#else
    run_function *run = model_run;
    int (*supported)(void) = model_supported;
    uint64_t workspace_bytes = model_workspace_bytes;
#endif
    for (; at < argc && strcmp(argv[at], "-"); ++at, ++in) {
        size_t bytes = strtoull(argv[at], 0, 10);
        sprintf(name, "in%d", in);
        FILE *file = fopen(name, "rb");
        inputs[in] = room(bytes);
        if (!file || fread(inputs[in], 1, bytes, file) != bytes || fclose(file)) return 22;
    }
    for (++at; at < argc; ++at, ++out) outputs[out] = room(sizes[out] = strtoull(argv[at], 0, 10));
    if (!supported()) return 23;
    void *workspace = room(workspace_bytes);
    for (turn = 0; turn < 2; ++turn) {
        int status = run((const void *const *)inputs, outputs, workspace);
        if (status) return status;
    }
    for (at = 0; at < out; ++at) {
        sprintf(name, "out%d", at);
        FILE *file = fopen(name, "wb");
        if (!file || fwrite(outputs[at], 1, sizes[at], file) != sizes[at] || fclose(file)) return 24;
    }
    return 0;
}
"#;

/// What a program is run as.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// An artefact, loaded with `dlopen`.
    Artefact(&'a [u8]),
    /// An object with its constants, linked with the host.
    Object(&'a [u8]),
}

/// What runs programs for aarch64 here.
pub struct Emulator {
    /// A host that loads artefacts.
    host: PathBuf,
    _folder: tempfile::TempDir,
}

impl Emulator {
    /// What runs them, or why there is nothing.
    pub fn get() -> Result<&'static Emulator, &'static str> {
        static FOUND: LazyLock<Result<Emulator, String>> = LazyLock::new(Emulator::find);
        FOUND.as_ref().map_err(String::as_str)
    }

    fn find() -> Result<Emulator, String> {
        for tool in [COMPILER, EMULATOR] {
            if let Err(error) = Command::new(tool).arg("--version").output() {
                return Err(format!(
                    "{tool}: {error}; install qemu-user, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross"
                ));
            }
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let host = build(folder.path(), &["-ldl"])?;
        Ok(Emulator { host, _folder: folder })
    }

    /// Runs `model_run` of a program; outputs have these sizes.
    pub fn run(&self, kind: Kind<'_>, inputs: &[&[u8]], outputs: &[usize]) -> Result<Vec<Vec<u8>>, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let put = |name: &str, bytes: &[u8]| {
            fs::write(folder.path().join(name), bytes).map_err(|error| format!("{name}: {error}"))
        };
        for (at, input) in inputs.iter().enumerate() {
            put(&format!("in{at}"), input)?;
        }
        let mut call = Command::new(EMULATOR);
        call.args(["-L", LIBRARIES]).current_dir(folder.path());
        match kind {
            Kind::Artefact(bytes) => {
                put("model.so", bytes)?;
                call.arg(&self.host).arg("./model.so");
            }
            Kind::Object(bytes) => {
                put("model.o", bytes)?;
                call.arg(build(folder.path(), &["-DLINKED", "model.o", "-static"])?);
            }
        }
        call.args(inputs.iter().map(|input| input.len().to_string())).arg("-");
        let ran =
            call.args(outputs.iter().map(usize::to_string)).output().map_err(|error| error.to_string())?;
        if !ran.status.success() {
            return Err(format!("the host ended with {}: {}", ran.status, told(&ran)));
        }
        let read = |at| fs::read(folder.path().join(format!("out{at}"))).map_err(|error| error.to_string());
        (0..outputs.len()).map(read).collect()
    }
}

/// Builds the host in a folder.
fn build(folder: &Path, more: &[&str]) -> Result<PathBuf, String> {
    fs::write(folder.join("host.c"), HOST).map_err(|error| error.to_string())?;
    let mut compiler = Command::new(COMPILER);
    let built = compiler.current_dir(folder).args(["-O1", "-o", "host", "host.c"]).args(more).output();
    let built = built.map_err(|error| format!("{COMPILER}: {error}"))?;
    match built.status.success() {
        true => Ok(folder.join("host")),
        false => Err(format!("{COMPILER}: {}", told(&built))),
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
