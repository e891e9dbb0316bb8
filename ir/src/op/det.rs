//! ONNX Det (opsets 11, 22): determinants of square matrices.

use super::{Arithmetic, OpError, Operator, Tensors, Types, check, number, optional, required};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The determinant of each matrix. Operand: 0 `x` `[…, M, M]`; the result is `[…]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Det;

/// The product of the pivots of Gauss's elimination, with the largest of each column as pivot.
fn determinant(matrix: &mut [f64], size: usize) -> f64 {
    let mut product = 1.0;
    for column in 0..size {
        let size_of = |row: usize, matrix: &[f64]| matrix[row * size + column].abs();
        let pivot = (column + 1..size)
            .fold(column, |best, row| if size_of(row, matrix) > size_of(best, matrix) { row } else { best });
        if pivot != column {
            (0..size).for_each(|i| matrix.swap(pivot * size + i, column * size + i));
            product = -product;
        }
        let top = matrix[column * size + column];
        product *= top;
        if top == 0.0 {
            return product;
        }
        for row in column + 1..size {
            let factor = matrix[row * size + column] / top;
            for i in column..size {
                matrix[row * size + i] -= factor * matrix[column * size + i];
            }
        }
    }
    product
}

impl Operator for Det {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = check::float_of_rank(operands, 0, "x", 2)?;
        let batch = x.shape.rank() - 2;
        if x.shape[batch] != x.shape[batch + 1] {
            return Err(check::unfit(0, "x", x, "square matrices"));
        }
        Ok(vec![check::result(x.dtype, x.shape[..batch].to_vec())?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let size = x.shape().last().copied().unwrap_or(0);
        let mut values = number::floats(x)?;
        let out: Vec<f64> = match size {
            0 => vec![1.0; y.shape.elems()],
            _ => values.chunks_mut(size * size).map(|matrix| determinant(matrix, size)).collect(),
        };
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let size = optional(operands, 0).and_then(|x| x.shape.last().copied()).unwrap_or(0) as u64;
        let each = size.saturating_mul(size).saturating_mul(size) / 3;
        Arithmetic { macc: check::result_elems(results).saturating_mul(each), ops: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{assert_close, elems, f32s, refusal, tensor};

    #[test]
    fn determinants_are_as_computed_by_hand() {
        let x = [0.0f32, 1.0, 2.0, 3.0, 1.0, 2.0, 2.0, 4.0];
        assert_close(&elems::<f32>(Det, &[&tensor([2, 2, 2], &x)]), &[-2.0, 0.0]);
        let x = [2.0f32, 0.0, 1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 4.0];
        assert_close(&elems::<f32>(Det, &[&tensor([3, 3], &x)]), &[18.0]);
        assert_eq!(elems::<f32>(Det, &[&tensor([1, 1], &[7.0f32])]), [7.0]);
        assert_eq!(elems::<f32>(Det, &[&tensor([2, 0, 0], &[0.0f32; 0])]), [1.0, 1.0]);
    }

    #[test]
    fn matrices_that_are_not_square_are_refused() {
        assert_eq!(
            refusal(Det, &[&f32s([2, 3])]),
            "operand 0 (x) has type f32[2x3], expected square matrices"
        );
    }

    #[test]
    fn a_permutation_has_its_sign_as_determinant() {
        for rows in crate::op::windows::Odometer::new(&[4; 4]) {
            let inversions =
                (0..4).flat_map(|i| (0..i).map(move |j| (j, i))).filter(|&(j, i)| rows[j] > rows[i]);
            let distinct = (0..4).all(|i| rows.contains(&i));
            let sign = if inversions.count() % 2 == 0 { 1.0 } else { -1.0 };
            let x: Vec<f32> = rows.iter().flat_map(|&r| (0..4).map(move |c| f32::from(r == c))).collect();
            let det = elems::<f32>(Det, &[&tensor([4, 4], &x)]);
            assert_eq!(det, [if distinct { sign } else { 0.0 }], "{rows:?}");
        }
    }
}
