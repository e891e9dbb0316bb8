//! The best elements along an axis, in order.

use std::cmp::Ordering;

use super::number::{Number, Numbers};
use super::{Arithmetic, OpError, Operator, Tensors, Types, check, number, optional, required, strided};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// ONNX TopK (opsets 1, 10, 11, 24) with a known `k`: the largest or smallest elements along an axis, the best first; of equal ones, that with the
/// lower index comes first. NaN is larger than every number. Operand: 0 `x`; results: values and indices (`i64`).
#[derive(Clone, Debug, PartialEq)]
pub struct TopK {
    /// The axis.
    pub axis: usize,
    /// How many are taken.
    pub k: usize,
    /// Whether the largest are, or the smallest.
    pub largest: bool,
}

/// Numbers in order, NaN behind all others.
pub(super) fn order<T: Number>(a: T, b: T) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// For each group along an axis, the indices of its elements, the best first.
fn ranked<T: Number>(
    values: &[T],
    (outer, extent, inner): (usize, usize, usize),
    largest: bool,
) -> Vec<Vec<usize>> {
    let groups = (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i)));
    groups
        .map(|(o, i)| {
            let value = |e: usize| values[(o * extent + e) * inner + i];
            let mut indices: Vec<usize> = (0..extent).collect();
            // A stable sort: equal elements stay in the order of their indices.
            indices.sort_by(|&a, &b| {
                let order = order(value(a), value(b));
                if largest { order.reverse() } else { order }
            });
            indices
        })
        .collect()
}

impl Operator for TopK {
    fn name(&self) -> &'static str {
        "TopK"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        check::axis(self.axis, &x.shape)?;
        if self.k > x.shape[self.axis] {
            return Err(OpError::Mismatch(format!(
                "k is {}, more than axis {} of x of type {x} has",
                self.k, self.axis
            )));
        }
        let mut dims = x.shape.to_vec();
        dims[self.axis] = self.k;
        Ok(vec![check::result(x.dtype, dims.clone())?, check::result(DType::I64, dims)?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y, indices] = results else { return Ok(Vec::new()) };
        let around = strided::around(x.shape(), self.axis);
        let ranked = match number::numbers(x)? {
            Numbers::Floats(values) => ranked(&values, around, self.largest),
            Numbers::Integers(values) => ranked(&values, around, self.largest),
        };
        let ((outer, extent, inner), size) = (around, y.dtype.bytes());
        let mut bytes = Vec::with_capacity(y.bytes());
        let mut picked: Vec<i64> = Vec::with_capacity(y.shape.elems());
        for (o, rank, i) in
            (0..outer).flat_map(|o| (0..self.k).flat_map(move |rank| (0..inner).map(move |i| (o, rank, i))))
        {
            let e = ranked[o * inner + i][rank];
            bytes.extend_from_slice(&x.bytes()[((o * extent + e) * inner + i) * size..][..size]);
            picked.push(e as i64);
        }
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?, Tensor::new(indices.shape.clone(), &picked)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        let x = optional(operands, 0).map_or(0, |x| check::count(x.shape.iter()));
        Arithmetic { macc: 0, ops: x.saturating_mul(u64::from(self.k.max(1).ilog2()) + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{f32s, tensor};
    use super::*;
    use crate::op::Op;

    fn top(x: &Tensor, axis: usize, k: usize, largest: bool) -> (Tensor, Vec<i64>) {
        let mut results = Op::from(TopK { axis, k, largest }).eval(&[Some(x)]).unwrap();
        let indices = results.remove(1).elems::<i64>().unwrap().into_owned();
        (results.remove(0), indices)
    }

    #[test]
    fn the_best_come_first() {
        // ONNX test_top_k and test_top_k_smallest.
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let x = tensor([3, 4], &x);
        let (values, indices) = top(&x, 1, 3, true);
        assert_eq!(values, tensor([3, 3], &[3.0f32, 2.0, 1.0, 7.0, 6.0, 5.0, 11.0, 10.0, 9.0]));
        assert_eq!(indices, [3, 2, 1, 3, 2, 1, 3, 2, 1]);
        let (values, indices) = top(&x, 0, 1, false);
        assert_eq!((values, indices), (tensor([1, 4], &[0.0f32, 1.0, 2.0, 3.0]), vec![0; 4]));
    }

    #[test]
    fn of_equal_elements_the_first_comes_first() {
        // ONNX test_top_k_same_values and _same_values_largest.
        for largest in [true, false] {
            assert_eq!(top(&tensor([4], &[1i64; 4]), 0, 3, largest).1, [0, 1, 2]);
        }
        let zeros = tensor([3], &[-0.0f32, 0.0, -0.0]);
        assert_eq!(top(&zeros, 0, 3, true).1, [0, 1, 2]);
    }

    #[test]
    fn nan_is_larger_than_every_number() {
        let x = tensor([4], &[1.0f32, f32::NAN, f32::INFINITY, f32::NAN]);
        assert_eq!(top(&x, 0, 4, true).1, [1, 3, 2, 0]);
        assert_eq!(top(&x, 0, 4, false).1, [0, 2, 1, 3]);
    }

    #[test]
    fn more_than_there_are_cannot_be_taken() {
        let refused = Op::from(TopK { axis: 0, k: 4, largest: true }).infer(&[Some(&f32s([3]))]);
        assert!(refused.unwrap_err().to_string().contains("k is 4"));
    }
}
