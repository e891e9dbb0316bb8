//! The C and C++ compilers that tests build hosts with: those that the machine has.

use std::process::Command;

/// A compiler, and what it must accept without a warning.
const COMPILERS: [(&str, &str, &str); 4] =
    [("gcc", "c99", "c"), ("clang", "c99", "c"), ("g++", "c++17", "c++"), ("clang++", "c++17", "c++")];
/// What no host may do.
pub const STRICT: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1"];

/// The compilers that are there. One for C has to be, as Rust links with it.
pub fn compilers() -> Vec<(&'static str, &'static str, &'static str)> {
    let (found, missing): (Vec<_>, Vec<_>) = COMPILERS.into_iter().partition(|(name, ..)| is_there(name));
    for (name, ..) in missing {
        eprintln!("{name} is not installed, so nothing is said about it");
    }
    assert!(found.iter().any(|(.., language)| *language == "c"), "install gcc or clang");
    found
}

/// Whether a program is installed.
pub fn is_there(name: &str) -> bool {
    Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
}
