//! Has the linker put those functions of the command side by side that run when a model is compiled: `link/compiling.ld`
//! lists them, and `link/record.py`, which wrote it, says why.
//!
//! LLVM's linker and GNU's both read such a script, and one of them is what Rust links with on Linux. Not all others do, so
//! who has named a linker of their own gets the functions in the order in which they come.

use std::env;
use std::path::Path;

const SCRIPT: &str = "link/compiling.ld";

/// Asks for it in optimised builds of the command.
pub fn in_order() {
    println!("cargo::rerun-if-changed={SCRIPT}");
    let is = |name, wanted| env::var(name).is_ok_and(|value| value == wanted);
    let linux = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    let command = env::var_os("CARGO_FEATURE_CLI").is_some();
    if linux && command && is("PROFILE", "release") && !linker_is_named() {
        let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bin=nnc=-T{}", Path::new(&folder).join(SCRIPT).display());
    }
}

fn linker_is_named() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    env::var_os("RUSTC_LINKER").is_some() || flags.contains("linker=") || flags.contains("fuse-ld")
}
