//! Operators of domain `com.microsoft`: what ONNX Runtime's quantiser and optimiser put in place of ONNX's own.
//!
//! Each is a composition. Formulas are those of ONNX Runtime's `docs/ContribOperators.md`; where that leaves something open, its
//! kernels for CPUs decide.

pub(in crate::onnx) mod activation;
pub(in crate::onnx) mod attention;
pub(in crate::onnx) mod fused;
mod halfway;
pub(in crate::onnx) mod norm;
pub(in crate::onnx) mod packed;
pub(in crate::onnx) mod product;
pub(in crate::onnx) mod quantised;
pub(in crate::onnx) mod reshape;
