//! Operators that go along an axis step by step: [`Cumulative`] sums and products, [`ReverseSequence`].

use super::number::{Number, Numbers};
use super::{Arithmetic, OpError, Operator, Tensors, Types, check, gather, number, required, strided};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// What a [`Cumulative`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CumulativeKind {
    Sum,
    Prod,
}

/// ONNX CumSum (opsets 11 and 14) and CumProd (26): each element becomes the sum or product of those up to it. Operand: 0 `x`.
///
/// ```text
///   x = 1 2 3      sum 1 3 6      exclusive 0 1 3      reverse 6 5 3      both 5 3 0
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Cumulative {
    /// What is done.
    pub kind: CumulativeKind,
    /// The axis.
    pub axis: usize,
    /// Whether the element itself is left out.
    pub exclusive: bool,
    /// Whether it goes from the last element to the first.
    pub reverse: bool,
}

/// ONNX ReverseSequence (opset 10): along the time axis, the first so many elements of each batch stand in reverse order. Operands: 0 `x`,
/// 1 `lengths`, `i64`, one for each index of the batch axis. A length outside of the axis is that of the nearest one inside.
#[derive(Clone, Debug, PartialEq)]
pub struct ReverseSequence {
    /// The axis of the batch.
    pub batch_axis: usize,
    /// The axis of time.
    pub time_axis: usize,
}

impl CumulativeKind {
    fn apply<T: Number>(self, acc: T, v: T) -> T {
        match self {
            CumulativeKind::Sum => acc.add(v),
            CumulativeKind::Prod => acc.mul(v),
        }
    }
}

impl Cumulative {
    fn along<T: Number>(&self, start: T, values: &mut [T], (outer, extent, inner): (usize, usize, usize)) {
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let mut acc = start;
            for step in 0..extent {
                let e = if self.reverse { extent - 1 - step } else { step };
                let at = &mut values[(o * extent + e) * inner + i];
                let with = self.kind.apply(acc, *at);
                *at = if self.exclusive { acc } else { with };
                acc = with;
            }
        }
    }
}

impl Operator for Cumulative {
    fn name(&self) -> &'static str {
        match self.kind {
            CumulativeKind::Sum => "CumSum",
            CumulativeKind::Prod => "CumProd",
        }
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        check::axis(self.axis, &x.shape)?;
        if x.dtype == DType::Bool {
            return Err(check::unfit(0, "x", x, "numbers"));
        }
        Ok(vec![x.clone()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let around = strided::around(&y.shape, self.axis);
        let start = u8::from(self.kind == CumulativeKind::Prod);
        Ok(vec![match number::numbers(x)? {
            Numbers::Floats(mut values) => {
                self.along(start.into(), &mut values, around);
                number::from_floats(y.clone(), &values)?
            }
            Numbers::Integers(mut values) => {
                self.along(start.into(), &mut values, around);
                number::from_integers(y.clone(), &values)?
            }
        }])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results) }
    }
}

impl Operator for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 2)?;
        let x = required(operands, 0, "x")?;
        check::axis(self.batch_axis, &x.shape)?;
        check::axis(self.time_axis, &x.shape)?;
        if self.batch_axis == self.time_axis {
            return Err(OpError::mismatch("batch and time are the same axis"));
        }
        check::exactly(operands, 1, "lengths", &TensorType::new(DType::I64, [x.shape[self.batch_axis]]))?;
        Ok(vec![x.clone()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, lengths) = (required(operands, 0, "x")?, required(operands, 1, "lengths")?);
        let [y] = results else { return Ok(Vec::new()) };
        let (time, size) = (y.shape[self.time_axis] as i64, y.dtype.bytes());
        let lengths = lengths.elems::<i64>()?;
        let mut bytes = Vec::with_capacity(y.bytes());
        for mut at in gather::positions(&y.shape) {
            let (length, t) = (lengths[at[self.batch_axis]].clamp(0, time) as usize, at[self.time_axis]);
            at[self.time_axis] = if t < length { length - 1 - t } else { t };
            bytes.extend_from_slice(&x.bytes()[gather::flat(&at, &y.shape) * size..][..size]);
        }
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        Arithmetic::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{elems, f32s, refusal, tensor, ty};
    use super::*;

    fn sum(axis: usize, exclusive: bool, reverse: bool) -> Cumulative {
        Cumulative { kind: CumulativeKind::Sum, axis, exclusive, reverse }
    }

    #[test]
    fn sums_run_along_the_axis() {
        // ONNX test_cumsum_1d, _exclusive, _reverse, _reverse_exclusive, _2d_axis_0 and _1.
        let x = tensor([5], &[1.0f64, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(elems::<f64>(sum(0, false, false), &[&x]), [1.0, 3.0, 6.0, 10.0, 15.0]);
        assert_eq!(elems::<f64>(sum(0, true, false), &[&x]), [0.0, 1.0, 3.0, 6.0, 10.0]);
        assert_eq!(elems::<f64>(sum(0, false, true), &[&x]), [15.0, 14.0, 12.0, 9.0, 5.0]);
        assert_eq!(elems::<f64>(sum(0, true, true), &[&x]), [14.0, 12.0, 9.0, 5.0, 0.0]);
        let x = tensor([2, 3], &[1i32, 2, 3, 4, 5, 6]);
        assert_eq!(elems::<i32>(sum(0, false, false), &[&x]), [1, 2, 3, 5, 7, 9]);
        assert_eq!(elems::<i32>(sum(1, false, false), &[&x]), [1, 3, 6, 4, 9, 15]);
    }

    #[test]
    fn products_start_from_one() {
        let product = |exclusive| Cumulative { kind: CumulativeKind::Prod, ..sum(0, exclusive, false) };
        let x = tensor([4], &[1i64, 2, 3, 4]);
        assert_eq!(elems::<i64>(product(false), &[&x]), [1, 2, 6, 24]);
        assert_eq!(elems::<i64>(product(true), &[&x]), [1, 1, 2, 6]);
    }

    #[test]
    fn sequences_are_reversed_up_to_their_lengths() {
        // ONNX test_reversesequence_batch and, transposed, test_reversesequence_time.
        let x: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let (x, lengths) = (tensor([4, 4], &x), tensor([4], &[1i64, 2, 3, 4]));
        let batch = ReverseSequence { batch_axis: 0, time_axis: 1 };
        let expected = [0, 1, 2, 3, 5, 4, 6, 7, 10, 9, 8, 11, 15, 14, 13, 12].map(|v| v as f32);
        assert_eq!(elems::<f32>(batch.clone(), &[&x, &lengths]), expected);
        let odd = tensor([4], &[-7i64, 0, 99, 1]);
        let expected = [0, 1, 2, 3, 4, 5, 6, 7, 11, 10, 9, 8, 12, 13, 14, 15].map(|v| v as f32);
        assert_eq!(elems::<f32>(batch.clone(), &[&x, &odd]), expected);
        assert!(refusal(batch, &[&f32s([4, 4]), &ty(DType::I64, [5])]).contains("lengths"));
    }
}
