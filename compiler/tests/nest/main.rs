//! The general loop nest against the evaluator: every operator, over shapes, element types and strides.

mod copies;
mod groups;
mod halves;
mod harness;
mod math;
mod places;
mod pointwise;
mod products;
mod reductions;
mod resamples;
mod scans;
mod windows;
