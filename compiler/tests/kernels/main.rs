//! Layers that kernels do, from the graph to the numbers: none of them becomes a loop nest, however its operands lie, and what is
//! computed is what the evaluator says.
#![cfg(all(feature = "cli", target_arch = "x86_64", target_os = "linux"))]

mod computed;
mod constants;
mod deform;
#[path = "../common/foreign.rs"]
mod foreign;
mod fusions;
mod halves;
mod integers;
mod layouts;
mod networks;
mod planes;
mod products;
mod refusals;
mod strips;
mod support;
mod transposed;
mod volumes;
#[path = "../../../runtime/tests/common/watchdog.rs"]
mod watchdog;
