use super::*;
use crate::op::testing::{elems, eval, f32s, filled, infer, refusal, tensor};
use crate::op::{Residual, Transpose, Unary};

/// With `b` given as its transpose.
fn turned() -> MatMul {
    MatMul { trans_b: true, ..MatMul::default() }
}

#[test]
fn a_product_has_a_bias_for_each_column_a_residual_and_an_activation() {
    let relu = |residual| Epilogue { residual, activation: Some(Unary::Relu), stored: None };
    let (a, b) = (tensor([1, 2], &[1.0f32, 2.0]), tensor([2, 2], &[1.0f32, -1.0, 3.0, -4.0]));
    let (bias, residual) = (tensor([2], &[2.0f32, 4.0]), tensor([1, 2], &[-10.0f32, 9.0]));
    let op = MatMul { epilogue: relu(None), ..MatMul::default() };
    assert_eq!(eval_with(op, &[Some(&a), Some(&b), Some(&bias)]), [9.0, 0.0]);
    let op = MatMul { epilogue: relu(Some(Residual::BeforeActivation)), ..MatMul::default() };
    assert_eq!(eval_with(op, &[Some(&a), Some(&b), Some(&bias), Some(&residual)]), [0.0, 4.0]);
    let op = MatMul { epilogue: relu(Some(Residual::AfterActivation)), ..MatMul::default() };
    assert_eq!(eval_with(op, &[Some(&a), Some(&b), None, Some(&residual)]), [-3.0, 9.0]);
}

/// The elements of a result, of operands some of which are left out.
fn eval_with(op: MatMul, operands: &[Option<&Tensor>]) -> Vec<f32> {
    let types: Vec<_> = operands.iter().map(|t| t.map(Tensor::ty)).collect();
    let results = op.infer(&types).unwrap();
    op.eval(operands, &results).unwrap()[0].elems::<f32>().unwrap().to_vec()
}

#[test]
fn a_bias_is_along_the_columns_of_every_batch() {
    let (a, b, bias) = (filled([2, 3, 4], 1), filled([4, 2], 2), filled([2], 3));
    let (plain, with) = (elems::<f32>(MatMul::default(), &[&a, &b]), MatMul::default());
    let bias_of = bias.elems::<f32>().unwrap();
    let expected: Vec<f32> = plain.iter().enumerate().map(|(i, v)| v + bias_of[i % 2]).collect();
    let got = elems::<f32>(with, &[&a, &b, &bias]);
    assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?} {expected:?}");
}

#[test]
fn transposed_operands_give_the_same_product() {
    let (a, b) = (filled([2, 3, 4], 1), filled([2, 4, 5], 2));
    let b_t = eval(Transpose { perm: vec![0, 2, 1] }, &[&b]);
    assert_eq!(elems::<f32>(turned(), &[&a, &b_t]), elems::<f32>(MatMul::default(), &[&a, &b]));
    let (a, b) = (tensor([1, 2], &[3i8, -4]), tensor([3, 2], &[1i8, 2, 3, 4, 5, 6]));
    assert_eq!(elems::<i8>(turned(), &[&a, &b]), [-5, -7, -9]);
    let column = tensor([2], &[1i8, 1]);
    assert_eq!(elems::<i8>(turned(), &[&b, &column]), [3, 7, 11], "a vector is a column all the same");
}

#[test]
fn batches_of_matrices_broadcast() {
    let (a, b) = (filled([2, 1, 3, 4], 1), filled([5, 4, 2], 2));
    let y = eval(MatMul::default(), &[&a, &b]);
    assert_eq!(y.shape()[..], [2, 5, 3, 2]);
    let (a, b, y) = (a.elems::<f32>().unwrap(), b.elems::<f32>().unwrap(), y.elems::<f32>().unwrap());
    for (i, &got) in y.iter().enumerate() {
        let (n, m, batch, outer) = (i % 2, i / 2 % 3, i / 6 % 5, i / 30);
        let sum: f64 =
            (0..4).map(|k| a[(outer * 3 + m) * 4 + k] as f64 * b[(batch * 4 + k) * 2 + n] as f64).sum();
        assert_eq!(got, sum as f32);
    }
}

#[test]
fn vectors_lose_their_axis() {
    let (row, matrix) = (tensor([2], &[1i32, 10]), tensor([2, 2], &[1i32, 2, 3, 4]));
    assert_eq!(elems::<i32>(MatMul::default(), &[&row, &matrix]), [31, 42]);
    assert_eq!(elems::<i32>(MatMul::default(), &[&matrix, &row]), [21, 43]);
    let dot = eval(MatMul::default(), &[&row, &row]);
    assert_eq!((dot.shape().rank(), *dot.elems::<i32>().unwrap().first().unwrap()), (0, 101));
}

#[test]
fn a_product_over_no_elements_is_zero() {
    assert_eq!(elems::<f32>(MatMul::default(), &[&filled([1, 0], 0), &filled([0, 2], 0)]), [0.0, 0.0]);
}

#[test]
fn matrices_that_do_not_fit_are_refused() {
    assert_eq!(
        refusal(MatMul::default(), &[&f32s([2, 3]), &f32s([4, 5])]),
        "types f32[2x3] and f32[4x5] cannot be multiplied as matrices"
    );
    assert_eq!(
        refusal(turned(), &[&f32s([2, 3]), &f32s([3, 5])]),
        "types f32[2x3] and f32[3x5] cannot be multiplied as matrices, the second one transposed"
    );
    assert_eq!(
        refusal(MatMul::default(), &[&f32s([2, 3]), &f32s([3, 5]), &f32s([2])]),
        "operand 2 (bias) has type f32[2], expected f32[5]"
    );
    assert_eq!(
        refusal(MatMul::default(), &[&f32s([2, 3]), &f32s([3]), &f32s([1])]),
        "operand 1 (b) has type f32[3], expected a matrix, whose columns a bias has elements for"
    );
    assert_eq!(
        refusal(MatMul::default(), &[&f32s([]), &f32s([3])]),
        "types f32[] and f32[3] cannot be multiplied as matrices"
    );
    let huge = f32s([1 << 40, 1]);
    assert_eq!(infer(MatMul::default(), &[&huge, &f32s([1, 1 << 40])]), Err(OpError::Overflow));
}

#[test]
fn a_product_without_rows_columns_or_depth_has_nothing_or_zeros() {
    for (m, k, n) in [(0, 2, 2), (2, 0, 2), (2, 2, 0), (2, 0, 0)] {
        for (op, b) in [(MatMul::default(), [k, n]), (turned(), [n, k])] {
            assert_eq!(elems::<f32>(op, &[&filled([m, k], 1), &filled(b, 2)]), vec![0.0; m * n]);
        }
    }
}
