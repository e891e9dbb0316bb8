//! The ONNX reader, from bytes to graphs.

mod build;
mod errors;
mod hostile;
mod operators;
mod seeds;
mod shapes;
mod source;
mod varying;
