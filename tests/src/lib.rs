//! Shared helpers of the test suites.

pub mod addresses;
pub mod filetest;
pub mod goldens;
pub mod pipeline;
