//! ONNX DeformConv (opsets 19, 22): a convolution whose taps lie where data say.

use super::{Arithmetic, OpError, Operator, Tensors, Types, Window, check, number, optional, required};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// A convolution of images whose taps are moved by offsets, read bilinearly (zero outside), and scaled by a mask.
///
/// Operands: 0 `x` `[N, C, H, W]`, 1 `w` `[M, C / groups, kernel…]`, 2 `offset` `[N, offset groups · taps · 2, positions…]` (of
/// each tap height before width), 3 `b` `[M]` (optional), 4 `mask` `[N, offset groups · taps, positions…]` (optional).
#[derive(Clone, Debug, PartialEq)]
pub struct DeformConv {
    /// How the window slides.
    pub window: Window,
    /// Number of groups of channels that are summed over.
    pub groups: usize,
    /// Number of groups of channels that have offsets of their own.
    pub offset_groups: usize,
}

impl DeformConv {
    /// Position of operand `x`.
    pub const X: usize = 0;
    /// Position of operand `w`.
    pub const W: usize = 1;
    /// Position of operand `offset`.
    pub const OFFSET: usize = 2;
    /// Position of operand `b`.
    pub const B: usize = 3;
    /// Position of operand `mask`.
    pub const MASK: usize = 4;

    /// Taps of the window.
    pub fn taps(&self) -> usize {
        self.window.kernel.iter().product()
    }

    /// The element of an image at a place between pixels.
    fn bilinear(
        plane: &[f64],
        (height, width): (usize, usize),
        (y, x): (f64, f64),
        r: fn(f64) -> f64,
    ) -> f64 {
        let (top, left) = (y.floor(), x.floor());
        let (v, u) = (r(y - top), r(x - left));
        let mut sum = 0.0;
        for (row, by_row) in [(top, 1.0 - v), (top + 1.0, v)] {
            for (column, by_column) in [(left, 1.0 - u), (left + 1.0, u)] {
                let inside = (0.0..height as f64).contains(&row) && (0.0..width as f64).contains(&column);
                if inside {
                    sum += by_row * by_column * plane[row as usize * width + column as usize];
                }
            }
        }
        sum
    }
}

impl Operator for DeformConv {
    fn name(&self) -> &'static str {
        "DeformConv"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 5)?;
        let x = check::float(operands, Self::X, "x")?;
        let w = required(operands, Self::W, "w")?;
        if x.shape.rank() != 4 {
            return Err(OpError::Unsupported(format!(
                "a deformable convolution of {x}; expected images [N, C, H, W]"
            )));
        }
        let positions = self.window.positions(&x.shape[2..])?;
        let (channels, groups) = (x.shape[1], self.groups);
        check::dtype(Self::W, "w", w, x.dtype)?;
        let fits = w.shape.rank() == 4
            && w.shape[2..] == self.window.kernel[..]
            && groups > 0
            && w.shape[0] % groups == 0
            && w.shape[1].checked_mul(groups) == Some(channels);
        if !fits {
            return Err(check::unfit(
                Self::W,
                "w",
                w,
                format_args!("weights of {groups} groups for x of type {x}"),
            ));
        }
        if self.offset_groups == 0 || !channels.is_multiple_of(self.offset_groups) {
            return Err(OpError::Mismatch(format!(
                "{channels} channels have no {} groups",
                self.offset_groups
            )));
        }
        let moved = self.taps().checked_mul(self.offset_groups).ok_or(OpError::Overflow)?;
        let of = |each: usize| {
            let channels = moved.checked_mul(each).ok_or(OpError::Overflow)?;
            Ok::<_, OpError>(TensorType::new(x.dtype, [&[x.shape[0], channels], &positions[..]].concat()))
        };
        check::exactly(operands, Self::OFFSET, "offset", &of(2)?)?;
        if optional(operands, Self::B).is_some() {
            check::exactly(operands, Self::B, "b", &TensorType::new(x.dtype, [w.shape[0]]))?;
        }
        if optional(operands, Self::MASK).is_some() {
            check::exactly(operands, Self::MASK, "mask", &of(1)?)?;
        }
        Ok(vec![check::result(x.dtype, [&[x.shape[0], w.shape[0]], &positions[..]].concat())?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, w) = (required(operands, Self::X, "x")?, required(operands, Self::W, "w")?);
        let offset = number::floats(required(operands, Self::OFFSET, "offset")?)?;
        let bias = number::optional_floats(optional(operands, Self::B))?;
        let mask = number::optional_floats(optional(operands, Self::MASK))?;
        let [y] = results else { return Ok(Vec::new()) };
        let r = number::rounding(x.dtype());
        let (image, weights) = (number::floats(x)?, number::floats(w)?);
        let (channels, size) = (x.shape()[1], (x.shape()[2], x.shape()[3]));
        let (outputs, rows, columns) = (y.shape[1], y.shape[2], y.shape[3]);
        let (taps, positions) = (self.taps(), rows * columns);
        let (inner, outer) = (channels / self.groups, outputs / self.groups);
        let per_offset = channels / self.offset_groups;
        let mut out = Vec::with_capacity(y.shape.elems());
        for (n, m) in (0..y.shape[0]).flat_map(|n| (0..outputs).map(move |m| (n, m))) {
            for position in 0..positions {
                let mut sum = bias.as_ref().map_or(0.0, |b| b[m]);
                for (c, tap) in (0..inner).flat_map(|c| (0..taps).map(move |tap| (c, tap))) {
                    let channel = m / outer * inner + c;
                    let moved = (n * self.offset_groups + channel / per_offset) * taps + tap;
                    let at = [position / columns, position % columns];
                    let tap_at = [tap / self.window.kernel[1], tap % self.window.kernel[1]];
                    let place = |axis: usize| {
                        let fixed = self.window.element(axis, tap_at[axis], at[axis]) as f64;
                        r(fixed + offset[(moved * 2 + axis) * positions + position])
                    };
                    let plane = &image[(n * channels + channel) * size.0 * size.1..][..size.0 * size.1];
                    let v = Self::bilinear(plane, size, (place(0), place(1)), r);
                    let scale = mask.as_ref().map_or(1.0, |mask| mask[moved * positions + position]);
                    sum += weights[(m * inner + c) * taps + tap] * v * scale;
                }
                out.push(sum);
            }
        }
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let per_element = optional(operands, Self::W).map_or(0, |w| check::count(w.shape.iter().skip(1)));
        Arithmetic {
            macc: check::result_elems(results).saturating_mul(per_element.saturating_mul(5)),
            ops: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::gather::{flat, positions};
    use crate::op::testing::{assert_close, elems, f32s, filled, refusal, tensor};

    fn op(kernel: usize, pads: isize) -> DeformConv {
        let window = Window {
            kernel: vec![kernel; 2],
            strides: vec![1; 2],
            dilations: vec![1; 2],
            pads_begin: vec![pads; 2],
            pads_end: vec![pads; 2],
        };
        DeformConv { window, groups: 1, offset_groups: 1 }
    }

    #[test]
    fn offsets_move_the_taps() {
        // ONNX DeformConv 19, example basic_deform_conv_without_padding.
        let x: Vec<f32> = (0..9).map(|v| v as f32).collect();
        let mut offset = vec![0.0f32; 8 * 4];
        offset[0] = 0.5;
        offset[5 * 4 + 1] = -0.1;
        let operands =
            [tensor([1, 1, 3, 3], &x), tensor([1, 1, 2, 2], &[1.0f32; 4]), tensor([1, 8, 2, 2], &offset)];
        let y = elems::<f32>(op(2, 0), &[&operands[0], &operands[1], &operands[2]]);
        assert_eq!(y, [9.5, 11.9, 20.0, 24.0]);
    }

    #[test]
    fn what_is_outside_is_zero_and_the_mask_scales() {
        let x = tensor([1, 1, 1, 1], &[8.0f32]);
        let operands = [tensor([1, 1, 1, 1], &[1.0f32]), tensor([1, 2, 1, 1], &[0.5f32, -0.25])];
        assert_eq!(elems::<f32>(op(1, 0), &[&x, &operands[0], &operands[1]]), [8.0 * 0.5 * 0.75]);
        let bias = tensor([1], &[1.0f32]);
        let mask = tensor([1, 1, 1, 1], &[2.0f32]);
        let y = elems::<f32>(op(1, 0), &[&x, &operands[0], &operands[1], &bias, &mask]);
        assert_eq!(y, [8.0 * 0.5 * 0.75 * 2.0 + 1.0]);
    }

    #[test]
    fn offsets_that_do_not_fit_are_refused() {
        let types = [f32s([1, 1, 3, 3]), f32s([1, 1, 2, 2]), f32s([1, 4, 2, 2])];
        assert_eq!(
            refusal(op(2, 0), &[&types[0], &types[1], &types[2]]),
            "operand 2 (offset) has type f32[1x4x2x2], expected f32[1x8x2x2]"
        );
    }

    #[test]
    fn weights_that_do_not_fit_the_groups_or_the_window_are_refused() {
        let (x, offset) = (f32s([1, 4, 3, 3]), f32s([1, 8, 2, 2]));
        let weights = [
            (1, f32s([2, 4, 2])),
            (1, f32s([2, 4, 2, 3])),
            (1, f32s([2, 3, 2, 2])),
            (0, f32s([2, 4, 2, 2])),
            (2, f32s([3, 2, 2, 2])),
            (2, f32s([2, 4, 2, 2])),
        ];
        for (groups, weights) in weights {
            let refused = refusal(DeformConv { groups, ..op(2, 0) }, &[&x, &weights, &offset]);
            let why = format!("expected weights of {groups} groups for x of type f32[1x4x3x3]");
            assert!(refused.contains(&why), "{weights}: {refused}");
        }
    }

    #[test]
    fn every_tap_of_every_group_has_an_offset_and_a_factor_of_its_own() {
        let window = Window {
            kernel: vec![2, 3],
            strides: vec![1, 2],
            dilations: vec![2, 1],
            pads_begin: vec![1, 0],
            pads_end: vec![0, 1],
        };
        let (x_shape, y_shape) = ([2, 4, 4, 6], [2, 6, 3, 3]);
        let x = filled(x_shape, 1);
        let (w, bias, mask) = (filled([6, 2, 2, 3], 2), filled([6], 3), filled([2, 12, 3, 3], 4));
        // Whole pixels, so that each tap reads one of them.
        let moves: Vec<f32> = (0..2 * 24 * 9).map(|i| (i * 5 % 7) as f32 - 3.0).collect();
        let offset = tensor([2, 24, 3, 3], &moves);
        let op = DeformConv { window: window.clone(), groups: 2, offset_groups: 2 };
        let got = elems::<f32>(op, &[&x, &w, &offset, &bias, &mask]);
        let at = |t: &crate::tensor::Tensor, index: &[usize]| {
            f64::from(t.elems::<f32>().unwrap()[flat(index, t.shape())])
        };
        let expected: Vec<f32> = positions(&y_shape)
            .map(|y| {
                let (n, m) = (y[0], y[1]);
                let mut sum = at(&bias, &[m]);
                for tap in positions(&[2, 2, 3]) {
                    let (channel, tap_number) = (m / 3 * 2 + tap[0], tap[1] * 3 + tap[2]);
                    let moved = channel / 2 * 6 + tap_number;
                    let place = [0, 1].map(|axis| {
                        window.element(axis, tap[1 + axis], y[2 + axis]) as f64
                            + at(&offset, &[n, 2 * moved + axis, y[2], y[3]])
                    });
                    let inside = (0.0..4.0).contains(&place[0]) && (0.0..6.0).contains(&place[1]);
                    if inside {
                        let pixel = at(&x, &[n, channel, place[0] as usize, place[1] as usize]);
                        sum +=
                            pixel * at(&w, &[m, tap[0], tap[1], tap[2]]) * at(&mask, &[n, moved, y[2], y[3]]);
                    }
                }
                sum as f32
            })
            .collect();
        assert_close(&got, &expected);
    }
}
