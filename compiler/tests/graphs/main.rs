//! Graphs, from their text to results: the evaluator, the passes, code in memory on one and more threads, an artefact, and the
//! artefact's C function all say the same.
#![cfg(all(feature = "cli", target_arch = "x86_64", target_os = "linux"))]

mod everywhere;
mod loops;
mod merged;
