//! What the tests of all operators share.

use super::{Op, OpError};
use crate::tensor::{Element, Tensor};
use crate::types::{DType, Shape, TensorType};

/// A tensor of these elements.
pub fn tensor<T: Element>(shape: impl Into<Shape>, elems: &[T]) -> Tensor {
    Tensor::new(shape, elems).unwrap()
}

/// An `f32` tensor of these extents, filled with numbers that repeat with a period that no test's shape has.
pub fn filled(shape: impl Into<Shape>, seed: u32) -> Tensor {
    let shape = shape.into();
    let elems: Vec<f32> =
        (0..shape.elems() as u32).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 25.0 - 2.0).collect();
    tensor(shape, &elems)
}

/// The type of an `f32` tensor.
pub fn f32s(shape: impl Into<Shape>) -> TensorType {
    TensorType::f32(shape)
}

/// A type.
pub fn ty(dtype: DType, shape: impl Into<Shape>) -> TensorType {
    TensorType::new(dtype, shape)
}

/// The only result of an operator whose operands are all there.
pub fn eval(op: impl Into<Op>, operands: &[&Tensor]) -> Tensor {
    let operands: Vec<Option<&Tensor>> = operands.iter().map(|t| Some(*t)).collect();
    let mut results = op.into().eval(&operands).unwrap();
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// The elements of that result.
pub fn elems<T: Element>(op: impl Into<Op>, operands: &[&Tensor]) -> Vec<T> {
    eval(op, operands).elems::<T>().unwrap().into_owned()
}

/// Why an operator cannot be evaluated for operands that fit.
pub fn fault(op: impl Into<Op>, operands: &[&Tensor]) -> OpError {
    let operands: Vec<Option<&Tensor>> = operands.iter().map(|t| Some(*t)).collect();
    op.into().eval(&operands).unwrap_err()
}

/// The only result's type of an operator whose operands are all there.
pub fn infer(op: impl Into<Op>, operands: &[&TensorType]) -> Result<TensorType, OpError> {
    let operands: Vec<Option<&TensorType>> = operands.iter().map(|t| Some(*t)).collect();
    let mut results = op.into().infer(&operands)?;
    assert_eq!(results.len(), 1);
    Ok(results.remove(0))
}

/// What an operator says of operands that it refuses.
pub fn refusal(op: impl Into<Op>, operands: &[&TensorType]) -> String {
    infer(op, operands).unwrap_err().to_string()
}

/// Checks that two lists of numbers agree to a few units in the last place of `f32`.
#[track_caller]
pub fn assert_close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (i, (&g, &e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= 4.0 * f32::EPSILON * e.abs().max(1e-3), "element {i}: {g}, expected {e}");
    }
}
