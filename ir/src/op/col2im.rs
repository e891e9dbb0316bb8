//! ONNX Col2Im (opset 18): the windows of an image, added up where they overlap.

use super::number::{Number, Numbers};
use super::windows::Windows;
use super::{Arithmetic, OpError, Operator, Tensors, Types, Window, check, number, required};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Each column holds what a window sees at one position; its elements are added to the image at the places of its taps.
///
/// Operand: 0 `x` `[N, C · taps, positions]`; the result is `[N, C, image…]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Col2Im {
    /// Extents of the image.
    pub image: Vec<usize>,
    /// How the window slides over it.
    pub window: Window,
}

impl Col2Im {
    fn sums<T: Number>(&self, columns: &[T], positions: &[usize], planes: usize) -> Vec<T> {
        let windows = Windows::new(&self.window, &self.image, positions);
        let (pixels, count): (usize, usize) = (self.image.iter().product(), positions.iter().product());
        let taps: usize = self.window.kernel.iter().product();
        let mut out = vec![T::ZERO; planes * pixels];
        for (plane, out) in out.chunks_mut(pixels.max(1)).enumerate() {
            for (tap, runs) in windows.taps().enumerate() {
                let column = &columns[(plane * taps + tap) * count..][..count];
                for run in runs {
                    for i in 0..run.len {
                        let sum = &mut out[run.element + i * windows.step];
                        *sum = sum.add(column[run.position + i]);
                    }
                }
            }
        }
        out
    }
}

impl Operator for Col2Im {
    fn name(&self) -> &'static str {
        "Col2Im"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        let positions = self.window.positions(&self.image)?;
        let taps = self.window.kernel.iter().product::<usize>().max(1);
        let count = positions.iter().try_fold(1usize, |n, &p| n.checked_mul(p)).ok_or(OpError::Overflow)?;
        match x.shape[..] {
            [batch, rows, columns] if x.dtype != DType::Bool && rows % taps == 0 && columns == count => {
                let shape = [&[batch, rows / taps], &self.image[..]].concat();
                Ok(vec![check::result(x.dtype, shape)?])
            }
            _ => Err(check::unfit(0, "x", x, format_args!("numbers [N, C · {taps}, {count}]"))),
        }
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let positions = self.window.positions(&self.image)?;
        let planes = y.shape[0] * y.shape[1];
        Ok(vec![match number::numbers(x)? {
            Numbers::Floats(v) => number::from_floats(y.clone(), &self.sums(&v, &positions, planes))?,
            Numbers::Integers(v) => number::from_integers(y.clone(), &self.sums(&v, &positions, planes))?,
        }])
    }

    fn arithmetic(&self, operands: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: super::optional(operands, 0).map_or(0, |x| check::count(x.shape.iter())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{elems, f32s, refusal, tensor};

    fn window(kernel: [usize; 2], strides: [usize; 2], pads: isize) -> Window {
        Window {
            kernel: kernel.to_vec(),
            strides: strides.to_vec(),
            dilations: vec![1, 1],
            pads_begin: vec![pads; 2],
            pads_end: vec![pads; 2],
        }
    }

    #[test]
    fn windows_that_tile_an_image_are_laid_side_by_side() {
        // ONNX Col2Im 18, example col2im: blocks of 1 by 5.
        let x: Vec<f32> = (0..25).map(|i| (1 + i / 5 + i % 5 * 5) as f32).collect();
        let op = Col2Im { image: vec![5, 5], window: window([1, 5], [1, 1], 0) };
        let y = elems::<f32>(op, &[&tensor([1, 5, 5], &x)]);
        assert_eq!(y, (1..26).map(|i| i as f32).collect::<Vec<_>>());
    }

    #[test]
    fn windows_that_overlap_are_added_and_padding_is_dropped() {
        let op = Col2Im { image: vec![1, 3], window: window([1, 2], [1, 1], 0) };
        assert_eq!(elems::<i32>(op, &[&tensor([1, 2, 2], &[1, 2, 10, 20])]), [1, 12, 20]);
        let op = Col2Im { image: vec![1, 1], window: window([3, 3], [1, 1], 1) };
        let x: Vec<i32> = (0..9).collect();
        assert_eq!(elems::<i32>(op, &[&tensor([1, 9, 1], &x)]), [4]);
    }

    #[test]
    fn columns_that_are_no_positions_are_refused() {
        let op = Col2Im { image: vec![5, 5], window: window([1, 5], [1, 1], 0) };
        assert_eq!(
            refusal(op, &[&f32s([1, 5, 4])]),
            "operand 0 (x) has type f32[1x5x4], expected numbers [N, C · 5, 5]"
        );
    }

    #[test]
    fn windows_that_step_over_elements_leave_them_zero() {
        let op = Col2Im { image: vec![1, 7], window: window([1, 2], [1, 3], 0) };
        assert_eq!(elems::<i32>(op, &[&tensor([1, 2, 2], &[1, 2, 10, 20])]), [1, 10, 0, 2, 20, 0, 0]);
    }
}
