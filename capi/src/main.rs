//! Builds libnnc and installs it: `cargo run --release -p nnc-capi -- --prefix PREFIX`.
//!
//! ```text
//!   cargo rustc ─▶ libnnc_capi.a ─▶ PREFIX/lib/libnnc.a
//!                       │
//!                       └─ cc -shared, version script ─▶ PREFIX/lib/libnnc.so.0.1.0 ◀─ libnnc.so.0 ◀─ libnnc.so
//!   include/nnc.h ─────────────────────────────────────▶ PREFIX/include/nnc.h
//!                                                        PREFIX/lib/pkgconfig/nnc.pc, nnc-static.pc
//! ```
//!
//! The shared library is linked by the C compiler and not by rustc, which has a version script of its own that GNU's linker does not
//! combine with another: symbols would have no versions.
#![cfg(unix)]

mod install;

use std::process::ExitCode;

use install::{Request, RequestError, USAGE};

fn main() -> ExitCode {
    let done = match Request::parse(std::env::args_os().skip(1)) {
        Ok(request) => request.install(),
        Err(RequestError::Help) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(installed) => {
            print!("{installed}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
