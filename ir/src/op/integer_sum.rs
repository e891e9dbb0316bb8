//! Sums of steps: what becomes of additions between a Dequantize and a Quantize, and of steps that get another scale.
//!
//! ```text
//!   real  = … + x1 · factor1 + (x0 · factor0 + shift)         in f32, each product and sum rounded together, where the target does that
//!   steps = clamp(round(real) + zero, low, high)              ties to even
//! ```
//!
//! A factor is the scale of an operand over that of the result, the shift holds the zero points of all operands.

use super::{Arithmetic, OpError, Operator, Requantize, Tensors, Types, check, number, required};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Operands: as many as there are factors, of one shape (`u8`).
#[derive(Clone, Debug, PartialEq)]
pub struct IntegerSum {
    /// What a step of each operand is worth, in steps of the result.
    pub factors: Vec<f32>,
    /// What is added.
    pub shift: f32,
    /// What becomes of the sum: steps.
    pub result: Requantize,
}

impl IntegerSum {
    /// The sum of one element of each operand.
    pub fn real(&self, steps: impl IntoIterator<Item = u8>) -> f32 {
        let products = steps.into_iter().zip(&self.factors);
        products.fold(self.shift, |sum, (step, factor)| f32::from(step).mul_add(*factor, sum))
    }

    /// The steps of the result.
    pub fn step(&self, steps: impl IntoIterator<Item = u8>) -> f64 {
        self.result.round(self.real(steps).into())
    }
}

impl Operator for IntegerSum {
    fn name(&self) -> &'static str {
        "IntegerSum"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        self.result.check()?;
        if !self.result.is_steps() {
            return Err(OpError::Unsupported(format!("a sum of steps as {}", self.result.to)));
        }
        if operands.len() != self.factors.len() || operands.is_empty() {
            let given = operands.len();
            return Err(OpError::Mismatch(format!("{} factors for {given} operands", self.factors.len())));
        }
        if !self.factors.iter().chain([&self.shift]).all(|v| v.is_finite()) {
            return Err(OpError::Mismatch("a factor or the shift is no finite number".into()));
        }
        let first = required(operands, 0, "x0")?;
        for index in 0..operands.len() {
            let x = required(operands, index, "x")?;
            check::dtype(index, "x", x, DType::U8)?;
            if x.shape != first.shape {
                return Err(check::unfit(index, "x", x, format_args!("the shape {}", first.shape)));
            }
        }
        Ok(vec![check::result(self.result.to, first.shape.to_vec())?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let [y] = results else { return Ok(Vec::new()) };
        let operands: Vec<&Tensor> =
            (0..operands.len()).map(|index| required(operands, index, "x")).collect::<Result<_, _>>()?;
        let element = |i: usize| self.step(operands.iter().map(|x| x.bytes()[i]));
        let steps: Vec<f64> = (0..y.shape.elems()).map(element).collect();
        Ok(vec![number::from_floats(y.clone(), &steps)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let each = 2 * operands.len() as u64 + 3;
        Arithmetic { macc: 0, ops: check::result_elems(results).saturating_mul(each) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::eval;
    use super::*;

    fn bytes(elems: &[u8]) -> Tensor {
        Tensor::new([elems.len()], elems).unwrap()
    }

    #[test]
    fn two_images_are_added_and_rounded_once() {
        let result = Requantize { low: 3, high: 100, ..Requantize::steps(DType::U8, 10) };
        let op = IntegerSum { factors: vec![0.5, 0.25], shift: -2.0, result };
        let y = eval(op, &[&bytes(&[0, 9, 11, 255, 4]), &bytes(&[0, 0, 4, 255, 8])]);
        // -2, 2.5 (to even), 4.5 (to even), 189.25, 2.
        assert_eq!(y.bytes(), [8, 12, 14, 100, 12]);
    }

    #[test]
    fn one_image_gets_another_scale() {
        let op = IntegerSum { factors: vec![2.0], shift: -20.0, result: Requantize::steps(DType::I8, -1) };
        let y = eval(op, &[&bytes(&[0, 10, 100])]);
        assert_eq!(y.elems::<i8>().unwrap()[..], [-21, -1, 127]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ty = |dtype: DType, n: usize| TensorType::new(dtype, [n]);
        let op = |factors: &[f32], result| IntegerSum { factors: factors.to_vec(), shift: 0.0, result };
        let refusal = |op: &IntegerSum, operands: &[TensorType]| {
            let operands: Vec<Option<&TensorType>> = operands.iter().map(Some).collect();
            op.infer(&operands).unwrap_err().to_string()
        };
        let steps = Requantize::steps(DType::U8, 0);
        let two = [ty(DType::U8, 3), ty(DType::U8, 3)];
        assert!(refusal(&op(&[1.0], steps), &two).contains("1 factors for 2"));
        assert!(refusal(&op(&[1.0, f32::NAN], steps), &two).contains("finite"));
        assert!(refusal(&op(&[1.0, 1.0], Requantize::REAL), &two).contains("f32"));
        assert!(
            refusal(&op(&[1.0, 1.0], steps), &[ty(DType::U8, 3), ty(DType::U8, 4)]).contains("the shape 3")
        );
        assert!(refusal(&op(&[1.0, 1.0], steps), &[ty(DType::U8, 3), ty(DType::I8, 3)]).contains("u8"));
        assert!(refusal(&op(&[], steps), &[]).contains("0 operands"));
    }
}
