//! Routines: the emitter against the interpreter, and the operators that become routines against the evaluator.

#[path = "../nest/harness.rs"]
#[allow(dead_code)]
mod harness;

mod gathers;
mod half;
mod lines;
mod programs;
mod ranks;
mod scatters;
mod selections;
