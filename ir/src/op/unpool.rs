//! The largest element of a window with its place, and the way back: [`MaxPoolArg`] and [`MaxUnpool`].
//!
//! ```text
//!   x = 1 5 2 6    windows of 2 × 2    values 8    places 4    unpooled 0 0 0 0
//!       8 3 4 7                               7           7             8 0 0 7
//! ```

use super::gather::{flat, positions};
use super::number::{Number, Numbers};
use super::{Arithmetic, OpError, Operator, Tensors, Types, Window, check, number, required};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// ONNX MaxPool (opsets 8 to 22) with both its results: the largest element of each window, the first of equal ones, NaN before all
/// others, and its place (`i64`) among all elements of `x`. A window that lies in the padding as a whole gives the least number, and place 0.
///
/// Operand: 0 `x` `[N, C, spatial…]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPoolArg {
    /// How the window slides.
    pub window: Window,
    /// Whether places are counted along the spatial axes in reverse order.
    pub column_major: bool,
}

/// ONNX MaxUnpool (opsets 9, 11, 22): zeros, but for the elements of `x` at their places, one after another. Operands: 0 `x` `[N, C, spatial…]`,
/// 1 `places` (`i64`) among all elements of the result; those outside are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxUnpool {
    /// Spatial extents of the result.
    pub sizes: Vec<usize>,
}

impl MaxPoolArg {
    /// Distances between the places of neighbours along each axis of `x`.
    pub fn place_strides(&self, shape: &[usize]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..shape.len()).collect();
        if self.column_major {
            order[2..].reverse();
        }
        let (mut strides, mut stride) = (vec![0; shape.len()], 1);
        for axis in order.into_iter().rev() {
            strides[axis] = stride;
            stride *= shape[axis];
        }
        strides
    }

    fn pooled<T: Number>(&self, x: &[T], least: T, shape: &[usize], y: &TensorType) -> (Vec<T>, Vec<i64>) {
        let strides = self.place_strides(shape);
        let (mut values, mut places) = (Vec::new(), Vec::new());
        for at in positions(&y.shape) {
            let mut best: Option<(T, usize)> = None;
            for tap in positions(&self.window.kernel) {
                let mut source = at[..2].to_vec();
                for (axis, &tap) in tap.iter().enumerate() {
                    source.push(self.window.element(axis, tap, at[2 + axis]) as usize);
                }
                // A negative element is a large number here.
                if source.iter().zip(shape).any(|(i, extent)| i >= extent) {
                    continue;
                }
                let v = x[flat(&source, shape)];
                let place = source.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
                match best {
                    Some((b, _)) if !(v > b || (v.is_nan() && !b.is_nan())) => {}
                    _ => best = Some((v, place)),
                }
            }
            let (value, place) = best.unwrap_or((least, 0));
            values.push(value);
            places.push(place as i64);
        }
        (values, places)
    }
}

impl Operator for MaxPoolArg {
    fn name(&self) -> &'static str {
        "MaxPoolArg"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        if x.shape.rank() < 3 || x.dtype == DType::Bool {
            return Err(check::unfit(0, "x", x, "numbers of rank 3 or more"));
        }
        let dims = [&x.shape[..2], &self.window.positions(&x.shape[2..])?].concat();
        Ok(vec![check::result(x.dtype, dims.clone())?, check::result(DType::I64, dims)?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y, _] = results else { return Ok(Vec::new()) };
        let (values, places) = match number::numbers(x)? {
            Numbers::Floats(all) => {
                let (values, places) = self.pooled(&all, f64::NEG_INFINITY, x.shape(), y);
                (number::from_floats(y.clone(), &values)?, places)
            }
            Numbers::Integers(all) => {
                let least = number::integer_range(y.dtype).0;
                let (values, places) = self.pooled(&all, least, x.shape(), y);
                (number::from_integers(y.clone(), &values)?, places)
            }
        };
        Ok(vec![values, Tensor::new(y.shape.clone(), &places)?])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let elems = results.first().map_or(0, |y| check::count(y.shape.iter()));
        Arithmetic { macc: 0, ops: elems.saturating_mul(check::count(self.window.kernel.iter())) }
    }
}

impl Operator for MaxUnpool {
    fn name(&self) -> &'static str {
        "MaxUnpool"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 2)?;
        let x = required(operands, 0, "x")?;
        if x.shape.rank() != self.sizes.len() + 2 {
            return Err(check::unfit(0, "x", x, format_args!("rank {}", self.sizes.len() + 2)));
        }
        check::exactly(operands, 1, "places", &TensorType::new(DType::I64, x.shape.clone()))?;
        Ok(vec![check::result(x.dtype, [&x.shape[..2], &self.sizes].concat())?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, places) = (required(operands, 0, "x")?, required(operands, 1, "places")?);
        let [y] = results else { return Ok(Vec::new()) };
        let (mut bytes, size) = (vec![0; y.bytes()], y.dtype.bytes());
        for (element, &place) in x.bytes().chunks(size).zip(places.elems::<i64>()?.iter()) {
            if let Some(at) = usize::try_from(place).ok().filter(|&at| at < y.shape.elems()) {
                bytes[at * size..][..size].copy_from_slice(element);
            }
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
    use crate::op::Op;

    fn window(kernel: usize, stride: usize, pad: isize) -> Window {
        Window {
            kernel: vec![kernel; 2],
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            pads_begin: vec![pad; 2],
            pads_end: vec![pad; 2],
        }
    }

    fn pooled(x: &Tensor, window: Window, column_major: bool) -> (Vec<f32>, Vec<i64>) {
        let results = Op::from(MaxPoolArg { window, column_major }).eval(&[Some(x)]).unwrap();
        let floats = results[0].elems::<f32>().unwrap().into_owned();
        (floats, results[1].elems::<i64>().unwrap().into_owned())
    }

    #[test]
    fn places_count_all_elements_of_the_image() {
        // ONNX test_maxpool_with_argmax_2d_precomputed_pads and _strides.
        let x: Vec<f32> = (1..=25).map(|v| v as f32).collect();
        let x = tensor([1, 1, 5, 5], &x);
        let (values, places) = pooled(&x, window(5, 1, 2), false);
        assert_eq!(&values[..5], [13.0, 14.0, 15.0, 15.0, 15.0]);
        assert_eq!(&places[..5], [12, 13, 14, 14, 14]);
        let (values, places) = pooled(&x, window(2, 2, 0), true);
        assert_eq!((values, places), (vec![7.0, 9.0, 17.0, 19.0], vec![6, 16, 8, 18]));
    }

    #[test]
    fn of_equal_elements_the_first_wins_and_nan_always() {
        let x = tensor([1, 1, 2, 2], &[3.0f32, 3.0, 1.0, 3.0]);
        assert_eq!(pooled(&x, window(2, 1, 0), false), (vec![3.0], vec![0]));
        let x = tensor([1, 1, 2, 2], &[3.0f32, f32::NAN, 9.0, f32::NAN]);
        assert_eq!(pooled(&x, window(2, 1, 0), false).1, [1]);
    }

    #[test]
    fn unpooling_puts_elements_back_to_their_places() {
        // ONNX test_maxunpool_export_without_output_shape; one place lies outside.
        let x = tensor([1, 1, 2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
        let places = tensor([1, 1, 2, 2], &[5i64, 7, 13, 16]);
        let y = elems::<f32>(MaxUnpool { sizes: vec![4, 4] }, &[&x, &places]);
        let mut expected = [0.0; 16];
        (expected[5], expected[7], expected[13]) = (1.0, 2.0, 3.0);
        assert_eq!(y, expected);
        let refused =
            refusal(MaxUnpool { sizes: vec![4] }, &[&f32s([1, 1, 2, 2]), &ty(DType::I64, [1, 1, 2, 2])]);
        assert!(refused.contains("rank 3"));
    }
}
