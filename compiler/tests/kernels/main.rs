//! Layers that kernels do, from the graph to the numbers: none of them becomes a loop nest, however its operands lie, and what is
//! computed is what the evaluator says.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod layouts;
mod support;
