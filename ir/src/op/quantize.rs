//! Steps of a scale: ONNX QuantizeLinear (opsets 10 to 25) and DequantizeLinear (10 to 25) of `f32`.
//!
//! ```text
//!   real = (q − zero) · scale              q = saturate(round(real / scale) + zero)
//! ```
//!
//! A scale, or a zero point, is laid over the data by broadcasting: one number, one for each channel, or one for each element.
//! What quantised models compute is written with these two around operators of floats; passes make layers of integers of them.

use super::{Arithmetic, OpError, Operator, Tensors, Types, check, number, optional, required, strided};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Operands: 0 `x` (f32), 1 `scale` (f32), 2 `zero` (of type `to`, optional); both broadcast to `x`.
///
/// The quotient is rounded to `f32`, then to a whole number, ties to even, to which the zero point is added; what lies beyond the
/// range of the type becomes its nearest number.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantize {
    /// The type of steps: `i8`, `u8`, `i16` or `u16`.
    pub to: DType,
}

/// Operands: 0 `x` (`i8`, `u8`, `i16`, `u16` or `i32`), 1 `scale` (f32), 2 `zero` (of the type of `x`, optional); both broadcast to
/// `x`. The result is `f32`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dequantize;

impl Quantize {
    /// Position of operand `x`.
    pub const X: usize = 0;
    /// Position of operand `scale`.
    pub const SCALE: usize = 1;
    /// Position of operand `zero`.
    pub const ZERO: usize = 2;

    /// Whether numbers can be quantised to elements of a type.
    pub fn steps(dtype: DType) -> bool {
        matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16)
    }
}

impl Dequantize {
    /// Position of operand `x`.
    pub const X: usize = 0;
    /// Position of operand `scale`.
    pub const SCALE: usize = 1;
    /// Position of operand `zero`.
    pub const ZERO: usize = 2;
}

/// Checks scale and zero point, which are laid over `x`.
fn check_grain(operands: &Types<'_>, x: &TensorType, steps: DType) -> Result<(), OpError> {
    let laid = |index: usize, name: &str, ty: &TensorType| match check::broadcasts_to(&ty.shape, &x.shape) {
        true => Ok(()),
        false => Err(check::unfit(index, name, ty, format_args!("a shape that broadcasts to {}", x.shape))),
    };
    let scale = required(operands, Quantize::SCALE, "scale")?;
    check::dtype(Quantize::SCALE, "scale", scale, DType::F32)?;
    laid(Quantize::SCALE, "scale", scale)?;
    if let Some(zero) = optional(operands, Quantize::ZERO) {
        check::dtype(Quantize::ZERO, "zero", zero, steps)?;
        laid(Quantize::ZERO, "zero", zero)?;
    }
    Ok(())
}

/// A parameter for each element of `x`; 0 where there is none.
fn laid_over(parameter: Option<&Tensor>, x: &TensorType) -> Result<Vec<f64>, OpError> {
    Ok(match parameter {
        Some(t) => strided::broadcast_to(&number::floats(t)?, t.shape(), &x.shape),
        None => vec![0.0; x.shape.elems()],
    })
}

impl Operator for Quantize {
    fn name(&self) -> &'static str {
        "Quantize"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let x = required(operands, Self::X, "x")?;
        check::dtype(Self::X, "x", x, DType::F32)?;
        if !Quantize::steps(self.to) {
            return Err(OpError::Unsupported(format!("quantisation to {}", self.to)));
        }
        check_grain(operands, x, self.to)?;
        Ok(vec![check::result(self.to, x.shape.to_vec())?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, Self::X, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let scale = laid_over(optional(operands, Self::SCALE), x.ty())?;
        let zero = laid_over(optional(operands, Self::ZERO), x.ty())?;
        let parameters = scale.iter().zip(&zero);
        let step =
            |(x, (scale, zero)): (f64, (&f64, &f64))| f64::from((x / scale) as f32).round_ties_even() + zero;
        let steps: Vec<f64> = number::floats(x)?.into_iter().zip(parameters).map(step).collect();
        Ok(vec![number::from_floats(y.clone(), &steps)?])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results).saturating_mul(4) }
    }
}

impl Operator for Dequantize {
    fn name(&self) -> &'static str {
        "Dequantize"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let x = required(operands, Self::X, "x")?;
        if !Quantize::steps(x.dtype) && x.dtype != DType::I32 {
            return Err(OpError::Unsupported(format!("dequantisation of {}", x.dtype)));
        }
        check_grain(operands, x, x.dtype)?;
        Ok(vec![check::result(DType::F32, x.shape.to_vec())?])
    }

    /// The difference wraps around in `i32`, and is rounded to `f32` before it is multiplied.
    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, Self::X, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let scale = laid_over(optional(operands, Self::SCALE), x.ty())?;
        let zero = laid_over(optional(operands, Self::ZERO), x.ty())?;
        let parameters = scale.iter().zip(&zero);
        let real =
            |(q, (scale, zero)): (i128, (&f64, &f64))| f64::from((q - *zero as i128) as i32 as f32) * scale;
        let reals: Vec<f64> = number::integers(x)?.into_iter().zip(parameters).map(real).collect();
        Ok(vec![number::from_floats(y.clone(), &reals)?])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results).saturating_mul(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::eval;
    use super::*;

    fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::new(shape, values).unwrap()
    }

    #[test]
    fn quantizing_rounds_ties_to_even_and_saturates() {
        // ONNX QuantizeLinear 10, example quantizelinear.
        let x = f32s(&[6], &[0.0, 2.0, 3.0, 1000.0, -254.0, -1000.0]);
        let (scale, zero) = (f32s(&[], &[2.0]), Tensor::new([], &[128u8]).unwrap());
        let y = eval(Quantize { to: DType::U8 }, &[&x, &scale, &zero]);
        assert_eq!(y.elems::<u8>().unwrap()[..], [128, 129, 130, 255, 1, 0]);
        // Ties: 0.5, 1.5 and -2.5 steps; an odd zero point is added behind.
        let x = f32s(&[3], &[0.25, 0.75, -1.25]);
        let (scale, zero) = (f32s(&[], &[0.5]), Tensor::new([], &[1i8]).unwrap());
        let y = eval(Quantize { to: DType::I8 }, &[&x, &scale, &zero]);
        assert_eq!(y.elems::<i8>().unwrap()[..], [1, 3, -1]);
    }

    #[test]
    fn each_channel_has_a_scale_and_a_zero_point() {
        // ONNX DequantizeLinear 13, example dequantizelinear_axis, its first two columns.
        let x = Tensor::new([3, 2], &[3u8, 89, 5, 24, 0, 100]).unwrap();
        let (scale, zero) = (f32s(&[3, 1], &[2.0, 4.0, 5.0]), Tensor::new([3, 1], &[84u8, 24, 196]).unwrap());
        let y = eval(Dequantize, &[&x, &scale, &zero]);
        assert_eq!(y.elems::<f32>().unwrap()[..], [-162.0, 10.0, -76.0, 0.0, -980.0, -480.0]);
        let back = eval(Quantize { to: DType::U8 }, &[&y, &scale, &zero]);
        assert_eq!(back.elems::<u8>().unwrap()[..], x.elems::<u8>().unwrap()[..]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (x, scale) = (TensorType::f32([2, 3]), TensorType::f32([]));
        let infer =
            |to: DType, operands: &Types<'_>| Quantize { to }.infer(operands).unwrap_err().to_string();
        assert!(infer(DType::I32, &[Some(&x), Some(&scale)]).contains("quantisation to i32"));
        let wide = TensorType::f32([2]);
        assert!(infer(DType::U8, &[Some(&x), Some(&wide)]).contains("scale"));
        let zero = TensorType::new(DType::I8, []);
        assert!(infer(DType::U8, &[Some(&x), Some(&scale), Some(&zero)]).contains("zero"));
        let bools = TensorType::new(DType::Bool, [2]);
        assert!(Dequantize.infer(&[Some(&bools), Some(&scale)]).unwrap_err().to_string().contains("bool"));
    }
}
