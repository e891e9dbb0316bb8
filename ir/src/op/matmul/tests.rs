use super::*;
use crate::op::Transpose;
use crate::op::testing::{elems, eval, f32s, filled, infer, refusal, tensor};

fn gemm() -> Gemm {
    Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false, activation: None }
}

#[test]
fn a_gemm_scales_adds_and_activates() {
    let op = Gemm { alpha: 2.0, beta: 0.5, activation: Some(Unary::Relu), ..gemm() };
    let (a, b) = (tensor([1, 2], &[1.0f32, 2.0]), tensor([2, 2], &[1.0f32, -1.0, 3.0, -4.0]));
    assert_eq!(elems::<f32>(op, &[&a, &b, &tensor([2], &[2.0f32, 4.0])]), [15.0, 0.0]);
}

#[test]
fn transposed_operands_give_the_same_product() {
    let (a, b) = (filled([2, 3], 1), filled([3, 4], 2));
    let transpose = || Transpose { perm: vec![1, 0] };
    let (a_t, b_t) = (eval(transpose(), &[&a]), eval(transpose(), &[&b]));
    let product = elems::<f32>(gemm(), &[&a, &b]);
    assert_eq!(elems::<f32>(MatMul, &[&a, &b]), product);
    assert_eq!(elems::<f32>(Gemm { trans_a: true, ..gemm() }, &[&a_t, &b]), product);
    assert_eq!(elems::<f32>(Gemm { trans_b: true, ..gemm() }, &[&a, &b_t]), product);
}

#[test]
fn batches_of_matrices_broadcast() {
    let (a, b) = (filled([2, 1, 3, 4], 1), filled([5, 4, 2], 2));
    let y = eval(MatMul, &[&a, &b]);
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
    assert_eq!(elems::<i32>(MatMul, &[&row, &matrix]), [31, 42]);
    assert_eq!(elems::<i32>(MatMul, &[&matrix, &row]), [21, 43]);
    let dot = eval(MatMul, &[&row, &row]);
    assert_eq!((dot.shape().rank(), *dot.elems::<i32>().unwrap().first().unwrap()), (0, 101));
}

#[test]
fn a_product_over_no_elements_is_zero() {
    assert_eq!(elems::<f32>(MatMul, &[&filled([1, 0], 0), &filled([0, 2], 0)]), [0.0, 0.0]);
}

#[test]
fn matrices_that_do_not_fit_are_refused() {
    assert_eq!(
        refusal(gemm(), &[&f32s([2, 3]), &f32s([4, 5])]),
        "a of type f32[2x3] has 3 columns, b of type f32[4x5] has 4 rows (after transposition), expected as many"
    );
    assert_eq!(
        refusal(gemm(), &[&f32s([2, 3]), &f32s([3, 5]), &f32s([2])]),
        "operand 2 (c) has type f32[2], expected a shape that broadcasts to 2x5"
    );
    assert_eq!(
        refusal(gemm(), &[&f32s([2, 3, 1]), &f32s([3, 5])]),
        "operand 0 (a) has type f32[2x3x1], expected a matrix (rank 2)"
    );
    assert_eq!(
        refusal(MatMul, &[&f32s([]), &f32s([3])]),
        "types f32[] and f32[3] cannot be multiplied as matrices"
    );
    let huge = f32s([1 << 40, 1]);
    assert_eq!(infer(MatMul, &[&huge, &f32s([1, 1 << 40])]), Err(OpError::Overflow));
}
