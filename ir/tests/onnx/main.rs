//! The ONNX reader, from bytes to graphs.

mod about;
mod batch_norm;
mod bindings;
mod build;
mod contrib;
mod control;
mod errors;
mod functions;
mod hostile;
mod known_scales;
mod lines;
mod operators;
mod ops_md;
mod order;
mod quantised;
mod reductions;
mod seeds;
mod shapes;
mod signal;
mod source;
mod varying;
mod varying_tails;
