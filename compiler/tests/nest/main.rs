//! The general loop nest against the evaluator: every operator, over shapes, element types and strides.

mod copies;
mod harness;
mod math;
mod pointwise;
mod reductions;
mod windows;
