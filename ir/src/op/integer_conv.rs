//! Convolutions of integers: what quantised convolutions and matrix products with known weights become.
//!
//! ```text
//!   sum    = bias[m] + Σ over taps inside the picture, over channels:  (x − x_zero) · w          exact, i32
//!   real   = f32(sum) · scale[m] + shift[m]                                                      one fused multiply-add
//!   steps  = clamp(round(real) + zero, low, high)                                                ties to even
//! ```
//!
//! Scale and shift hold the scales of all operands and of the result: `scale = x_scale · w_scale / y_scale`. So a layer rounds once.

use super::{
    Arithmetic, Conv, Epilogue, OpError, Operator, Prologue, Quantize, Tensors, Types, Window, check, number,
    optional, required,
};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// What a convolution of integers makes of its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Requantize {
    /// The type of the result: `i32` for the sums, `f32` for real numbers, or one of steps.
    pub to: DType,
    /// The step that stands for 0.
    pub zero: i32,
    /// The least step.
    pub low: i32,
    /// The largest step.
    pub high: i32,
}

impl Requantize {
    /// The sums as they are.
    pub const SUMS: Requantize = Requantize { to: DType::I32, zero: 0, low: 0, high: 0 };
    /// Real numbers.
    pub const REAL: Requantize = Requantize { to: DType::F32, zero: 0, low: 0, high: 0 };

    /// Steps over the whole range of their type.
    pub fn steps(to: DType, zero: i32) -> Requantize {
        let (low, high) = number::integer_range(to);
        Requantize { to, zero, low: low as i32, high: high as i32 }
    }

    /// Whether results are steps.
    pub fn is_steps(&self) -> bool {
        Quantize::steps(self.to)
    }

    /// What becomes of a sum.
    pub fn apply(&self, sum: i32, scale: f32, shift: f32) -> f64 {
        let real = f64::from((sum as f32).mul_add(scale, shift));
        match self.to {
            DType::I32 => f64::from(sum),
            DType::F32 => real,
            _ => self.round(real),
        }
    }

    /// The step that a number becomes.
    pub fn round(&self, real: f64) -> f64 {
        // NaN is 0 steps from zero, as in a cast.
        if real.is_nan() {
            return f64::from(self.zero.clamp(self.low, self.high));
        }
        (real.round_ties_even() + f64::from(self.zero)).clamp(self.low.into(), self.high.into())
    }

    pub(super) fn check(&self) -> Result<(), OpError> {
        let (least, most) = number::integer_range(self.to);
        let fits = |step: i32| (least..=most).contains(&i128::from(step));
        if self.is_steps() && self.low <= self.high && [self.zero, self.low, self.high].into_iter().all(fits)
        {
            return Ok(());
        }
        match *self {
            Requantize::SUMS | Requantize::REAL => Ok(()),
            _ => Err(OpError::Mismatch(format!(
                "a zero point of {} and steps from {} to {} do not fit {}",
                self.zero, self.low, self.high, self.to
            ))),
        }
    }
}

/// Operands: 0 `x` `[N, C, spatial…]` (`u8` or `i8`), 1 `w` `[M, C / groups, kernel…]` (`i8`), 2 `bias` `[M]` (i32, optional), 3 `scale`
/// `[M]` (f32, where the result is not the sums), 4 `shift` `[M]` (f32, optional, likewise).
#[derive(Clone, Debug, PartialEq)]
pub struct IntegerConv {
    /// How the window slides.
    pub window: Window,
    /// Number of groups.
    pub groups: usize,
    /// The element of `x` that stands for 0; padding has it.
    pub x_zero: i32,
    /// What becomes of the sums.
    pub result: Requantize,
}

impl IntegerConv {
    /// Position of operand `x`.
    pub const X: usize = 0;
    /// Position of operand `w`.
    pub const W: usize = 1;
    /// Position of operand `bias`.
    pub const BIAS: usize = 2;
    /// Position of operand `scale`.
    pub const SCALE: usize = 3;
    /// Position of operand `shift`.
    pub const SHIFT: usize = 4;

    /// The convolution of integers without what is around it.
    fn sums(&self) -> Conv {
        Conv {
            window: self.window.clone(),
            groups: self.groups,
            prologue: Prologue::default(),
            epilogue: Epilogue::default(),
        }
    }
}

impl Operator for IntegerConv {
    fn name(&self) -> &'static str {
        "IntegerConv"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 5)?;
        self.result.check()?;
        let x = required(operands, Self::X, "x")?;
        let w = required(operands, Self::W, "w")?;
        if !matches!(x.dtype, DType::U8 | DType::I8) {
            return Err(check::unfit(Self::X, "x", x, "bytes"));
        }
        check::dtype(Self::W, "w", w, DType::I8)?;
        let (least, most) = number::integer_range(x.dtype);
        if !(least..=most).contains(&i128::from(self.x_zero)) {
            return Err(OpError::Mismatch(format!("{} is no element of {}", self.x_zero, x.dtype)));
        }
        // The same shapes as those of floats.
        let like = |ty: &TensorType| TensorType::new(DType::I32, ty.shape.to_vec());
        let (image, weights) = (like(x), like(w));
        let bias = optional(operands, Self::BIAS);
        let mut types = self.sums().infer(&[Some(&image), Some(&weights), bias])?;
        let rescales = self.result != Requantize::SUMS;
        for (index, name, needed) in [(Self::SCALE, "scale", rescales), (Self::SHIFT, "shift", false)] {
            if optional(operands, index).is_some() || needed {
                check::parameters(operands, index, name, DType::F32, w.shape[0])?;
            }
            if !rescales {
                check::absent(operands, index, name, "the result are the sums")?;
            }
        }
        types.iter_mut().for_each(|ty| ty.dtype = self.result.to);
        Ok(types)
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, Self::X, "x")?;
        let w = required(operands, Self::W, "w")?;
        let [y] = results else { return Ok(Vec::new()) };
        let image: Vec<i128> =
            number::integers(x)?.into_iter().map(|x| x - i128::from(self.x_zero)).collect();
        let bias = optional(operands, Self::BIAS).map(number::integers).transpose()?;
        let weights = number::integers(w)?;
        let sums = self.sums().sums(x.shape(), &y.shape, &image, &weights, bias.as_deref());
        let scale = number::optional_floats(optional(operands, Self::SCALE))?;
        let shift = number::optional_floats(optional(operands, Self::SHIFT))?;
        let plane: usize = y.shape[2..].iter().product();
        let channels = y.shape[1];
        let of = |parameter: &Option<Vec<f64>>, m: usize| parameter.as_ref().map_or(0.0, |p| p[m] as f32);
        let real = |(i, sum): (usize, i128)| {
            let m = i / plane.max(1) % channels.max(1);
            self.result.apply(sum as i32, of(&scale, m), of(&shift, m))
        };
        let values: Vec<f64> = sums.into_iter().enumerate().map(real).collect();
        Ok(vec![number::from_floats(y.clone(), &values)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let elems = check::result_elems(results);
        let per_elem = optional(operands, Self::W).map_or(0, |w| check::count(w.shape.iter().skip(1)));
        let own = if self.result == Requantize::SUMS { 0 } else { 2 };
        Arithmetic { macc: elems.saturating_mul(per_elem), ops: elems.saturating_mul(own) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::eval;
    use super::*;

    fn window(kernel: usize, pad: isize) -> Window {
        Window {
            kernel: vec![1, kernel],
            strides: vec![1; 2],
            dilations: vec![1; 2],
            pads_begin: vec![0, pad],
            pads_end: vec![0, pad],
        }
    }

    fn conv(kernel: usize, pad: isize, x_zero: i32, result: Requantize) -> IntegerConv {
        IntegerConv { window: window(kernel, pad), groups: 1, x_zero, result }
    }

    #[test]
    fn padding_is_the_zero_point_and_sums_are_exact() {
        let x = Tensor::new([1, 1, 1, 3], &[10u8, 20, 255]).unwrap();
        let w = Tensor::new([1, 1, 1, 3], &[1i8, -2, 127]).unwrap();
        let y = eval(conv(3, 1, 10, Requantize::SUMS), &[&x, &w]);
        // (x − 10) = 0, 10, 245
        assert_eq!(y.elems::<i32>().unwrap()[..], [1270, 31095, -480]);
    }

    #[test]
    fn steps_are_rounded_once_then_moved_and_held_in_their_bounds() {
        let x = Tensor::new([1, 1, 1, 4], &[1u8, 3, 5, 200]).unwrap();
        let w = Tensor::new([1, 1, 1, 1], &[1i8]).unwrap();
        let bias = Tensor::new([1], &[2i32]).unwrap();
        let scale = Tensor::new([1], &[0.5f32]).unwrap();
        let shift = Tensor::new([1], &[0.0f32]).unwrap();
        // 3, 5, 7 and 202 halves: ties to even, then one more.
        let result = Requantize { high: 100, ..Requantize::steps(DType::U8, 1) };
        let y = eval(conv(1, 0, 0, result), &[&x, &w, &bias, &scale, &shift]);
        assert_eq!(y.elems::<u8>().unwrap()[..], [3, 3, 5, 100]);
        let y = eval(conv(1, 0, 0, Requantize::REAL), &[&x, &w, &bias, &scale, &shift]);
        assert_eq!(y.elems::<f32>().unwrap()[..], [1.5, 2.5, 3.5, 101.0]);
    }

    #[test]
    fn the_product_is_not_rounded_before_the_shift_is_added() {
        let x = Tensor::new([1, 1, 1, 1], &[3u8]).unwrap();
        let w = Tensor::new([1, 1, 1, 1], &[1i8]).unwrap();
        let (scale, shift) = (1.0f32 / 3.0, -1.0f32);
        let y = Requantize::REAL.apply(3, scale, shift);
        assert_eq!(y, f64::from(3f32.mul_add(scale, shift)));
        assert_ne!(y, f64::from(3.0 * scale + shift), "or the case shows nothing");
        let [scale, shift] = [scale, shift].map(|v| Tensor::new([1], &[v]).unwrap());
        let bias = Tensor::new([1], &[0i32]).unwrap();
        let got = eval(conv(1, 0, 0, Requantize::REAL), &[&x, &w, &bias, &scale, &shift]);
        assert_eq!(f64::from(got.elems::<f32>().unwrap()[0]), y);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bytes = |dtype: DType| TensorType::new(dtype, [1, 1, 1, 3]);
        let (x, w, scale) = (bytes(DType::U8), bytes(DType::I8), TensorType::f32([1]));
        let refusal = |op: IntegerConv, operands: &Types<'_>| op.infer(operands).unwrap_err().to_string();
        let steps = Requantize::steps(DType::U8, 0);
        let op = |result: Requantize| conv(3, 0, 0, result);
        assert!(refusal(op(steps), &[Some(&bytes(DType::I32)), Some(&w)]).contains("bytes"));
        assert!(refusal(op(steps), &[Some(&x), Some(&x)]).contains("i8"));
        assert!(refusal(op(steps), &[Some(&x), Some(&w)]).contains("scale"));
        assert!(refusal(op(Requantize::SUMS), &[Some(&x), Some(&w), None, Some(&scale)]).contains("sums"));
        assert!(refusal(op(Requantize { high: 256, ..steps }), &[Some(&x), Some(&w)]).contains("256"));
        assert!(refusal(op(Requantize { low: 9, high: 8, ..steps }), &[Some(&x), Some(&w)]).contains("9"));
        let beyond = conv(3, 0, -1, steps);
        assert!(refusal(beyond, &[Some(&x), Some(&w), None, Some(&scale)]).contains("-1"));
    }
}
