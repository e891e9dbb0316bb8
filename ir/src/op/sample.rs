//! ONNX GridSample (opsets 16, 20, 22): elements of an image at places that data name.

use super::windows::Odometer;
use super::{Arithmetic, OpError, Operator, Tensors, Types, check, number, required};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// How elements between those of the image are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SampleMode {
    Nearest,
    Linear,
    /// Keys' cubic convolution with `a = -0.75`.
    Cubic,
}

/// What lies outside of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SamplePadding {
    Zeros,
    Border,
    Reflection,
}

/// Samples an image. Operands: 0 `x` `[N, C, spatial…]`, 1 `grid` `[N, positions…, axes]`, whose last axis holds the place in
/// the image, the last spatial axis first, from -1 to 1. The result is `[N, C, positions…]`.
///
/// Places are computed in `f32` (in `f64` where the grid is), so that the nearest element is the same everywhere.
///
/// A place outside moves to the border, or is mirrored there. Not so for the cubic mode, whose filter reaches beyond its
/// two neighbours and has negative weights: there each of its elements moves alone, as in PyTorch and ONNX Runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridSample {
    /// How elements are made.
    pub mode: SampleMode,
    /// What lies outside.
    pub padding: SamplePadding,
    /// Whether -1 and 1 are the centres of the elements at the corners, or their outer edges.
    pub align_corners: bool,
}

impl GridSample {
    /// The least and the largest place inside of an axis.
    pub fn border(&self, extent: usize) -> (f64, f64) {
        let extent = extent as f64;
        if self.align_corners { (0.0, extent - 1.0) } else { (-0.5, extent - 0.5) }
    }

    /// What is done to a place that is outside; the elements around it are treated alike, each alone.
    pub fn padding_of_places(&self) -> SamplePadding {
        if self.mode == SampleMode::Cubic { SamplePadding::Zeros } else { self.padding }
    }

    /// The place along an axis that a number of the grid means.
    fn place(&self, at: f64, extent: usize, r: fn(f64) -> f64) -> f64 {
        let size = r(extent as f64);
        let x = match self.align_corners {
            true => r(r(at + 1.0) / 2.0 * r(size - 1.0)),
            false => r(r(r(at + 1.0) * size) - 1.0) / 2.0,
        };
        let x = if self.mode == SampleMode::Nearest { x.round_ties_even() } else { x };
        let (low, high) = self.border(extent);
        match self.padding_of_places() {
            SamplePadding::Border if x < low || x > high => x.clamp(0.0, r(size - 1.0)),
            SamplePadding::Reflection => reflected(x, (low, high), r),
            _ => x,
        }
    }

    /// The taps around a place: indices, and their weights.
    fn taps(&self, x: f64, r: fn(f64) -> f64) -> Vec<(f64, f64)> {
        let floor = x.floor();
        let f = r(x - floor);
        match self.mode {
            SampleMode::Nearest => vec![(x, 1.0)],
            SampleMode::Linear => vec![(floor, 1.0 - f), (floor + 1.0, f)],
            SampleMode::Cubic => [f + 1.0, f, 1.0 - f, 2.0 - f]
                .into_iter()
                .enumerate()
                .map(|(i, d)| (floor + i as f64 - 1.0, super::resize::keys(d, -0.75)))
                .collect(),
        }
    }

    /// The element that stands for an index; `None` where that is a zero.
    fn element(&self, index: f64, extent: usize, r: fn(f64) -> f64) -> Option<usize> {
        let last = extent as f64 - 1.0;
        let index = match self.padding {
            SamplePadding::Zeros if (0.0..=last).contains(&index) => index,
            SamplePadding::Zeros => return None,
            SamplePadding::Border => index,
            SamplePadding::Reflection => reflected(index, self.border(extent), r).trunc(),
        };
        Some(index.max(0.0).min(last) as usize)
    }
}

/// A place outside of the border, mirrored at it until it is inside.
fn reflected(x: f64, (low, high): (f64, f64), r: fn(f64) -> f64) -> f64 {
    let (low, high) = (r(low), r(high));
    let range = r(high - low);
    let (beyond, near, far) = if x < low {
        (r(low - x), low, high)
    } else if x > high {
        (r(x - high), high, low)
    } else {
        return x;
    };
    if range <= 0.0 {
        return low;
    }
    let times = r(beyond / range).trunc();
    let rest = r(beyond - r(times * range));
    // Towards the inside from the border where the path ends.
    let (from, inwards) = if times % 2.0 == 0.0 { (near, near == low) } else { (far, far == low) };
    if inwards { r(from + rest) } else { r(from - rest) }
}

impl Operator for GridSample {
    fn name(&self) -> &'static str {
        "GridSample"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 2)?;
        let x = required(operands, 0, "x")?;
        let grid = check::float(operands, 1, "grid")?;
        if !x.dtype.is_float() && self.mode != SampleMode::Nearest {
            return Err(check::unfit(0, "x", x, "floating-point elements (or mode nearest)"));
        }
        let (rank, batch) = (x.shape.rank(), x.shape.first());
        let axes = rank.saturating_sub(2);
        let fits =
            grid.shape.rank() == rank && grid.shape.first() == batch && grid.shape.last() == Some(&axes);
        if rank < 3 || !fits {
            return Err(check::unfit(
                1,
                "grid",
                grid,
                format_args!("[N, positions…, {axes}] for x of type {x}"),
            ));
        }
        if axes > 3 {
            return Err(OpError::Unsupported(format!("sampling along {axes} axes; expected at most 3")));
        }
        let positions = &grid.shape[1..rank - 1];
        if x.shape[2..].contains(&0) && !positions.contains(&0) {
            return Err(check::unfit(0, "x", x, "an image that is not empty"));
        }
        Ok(vec![check::result(x.dtype, [&x.shape[..2], positions].concat())?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, grid) = (required(operands, 0, "x")?, required(operands, 1, "grid")?);
        let [y] = results else { return Ok(Vec::new()) };
        let r = number::rounding(grid.dtype());
        let image = &x.shape()[2..];
        let strides = crate::types::Shape::from(image).strides();
        let (pixels, positions): (usize, usize) = (image.iter().product(), y.shape[2..].iter().product());
        let channels = y.shape[1];
        let places = number::floats(grid)?;
        // For each position, the elements of a plane and their weights.
        let sources: Vec<Vec<(usize, f64)>> = (places.chunks(image.len().max(1)))
            .map(|place| {
                let taps: Vec<Vec<(f64, f64)>> = (image.iter().enumerate())
                    .map(|(axis, &extent)| self.taps(self.place(place[image.len() - 1 - axis], extent, r), r))
                    .collect();
                let counts: Vec<usize> = taps.iter().map(Vec::len).collect();
                Odometer::new(&counts)
                    .filter_map(|choice| {
                        let (mut at, mut weight) = (0, 1.0);
                        for (axis, &tap) in choice.iter().enumerate() {
                            let (index, part) = taps[axis][tap];
                            at += self.element(index, image[axis], r)? * strides[axis];
                            weight *= part;
                        }
                        Some((at, weight))
                    })
                    .collect()
            })
            .collect();
        let plane_of = |plane: usize, position: usize| {
            let n = plane / channels.max(1);
            (plane * pixels, &sources[n * positions + position])
        };
        let all = (0..y.shape[0] * channels).flat_map(|plane| (0..positions).map(move |p| (plane, p)));
        if !x.dtype().is_float() {
            let values = number::integers(x)?;
            let pick = |(plane, p)| {
                let (base, taps) = plane_of(plane, p);
                taps.first().map_or(0, |(at, _)| values[base + at])
            };
            return Ok(vec![number::from_integers(y.clone(), &all.map(pick).collect::<Vec<_>>())?]);
        }
        let values = number::floats(x)?;
        let sum = |(plane, p)| {
            let (base, taps) = plane_of(plane, p);
            taps.iter().fold(0.0, |sum, (at, weight)| sum + values[base + at] * weight)
        };
        Ok(vec![number::from_floats(y.clone(), &all.map(sum).collect::<Vec<_>>())?])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let axes = super::optional(operands, 0).map_or(0, |x| x.shape.rank().saturating_sub(2));
        let taps = match self.mode {
            SampleMode::Nearest => 1u64,
            SampleMode::Linear => 2,
            SampleMode::Cubic => 4,
        };
        let taps = taps.saturating_pow(axes as u32);
        Arithmetic { macc: check::result_elems(results).saturating_mul(taps), ops: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{assert_close, elems, f32s, refusal, tensor, ty};
    use crate::types::DType;

    fn sample(mode: SampleMode, padding: SamplePadding, align_corners: bool) -> GridSample {
        GridSample { mode, padding, align_corners }
    }

    #[test]
    fn the_corners_are_centres_or_edges() {
        let x = tensor([1, 1, 1, 4], &[0.0f32, 10.0, 20.0, 30.0]);
        let grid = tensor([1, 1, 3, 2], &[-1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let at = |align| elems::<f32>(sample(SampleMode::Linear, SamplePadding::Border, align), &[&x, &grid]);
        assert_eq!(at(true), [0.0, 15.0, 30.0]);
        assert_eq!(at(false), [0.0, 15.0, 30.0]);
        let zeros = sample(SampleMode::Linear, SamplePadding::Zeros, false);
        assert_eq!(elems::<f32>(zeros, &[&x, &grid]), [0.0, 15.0, 15.0]);
    }

    #[test]
    fn what_is_outside_is_zero_the_border_or_a_reflection() {
        // ONNX GridSample 16, examples gridsample_*_padding: a ramp of 3 by 2.
        let x = tensor([1, 1, 3, 2], &[0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let grid = [
            -10.0f32, -10.0, -5.0, -5.0, -0.2, -0.2, 10.0, 10.0, 10.0, 10.0, -0.2, -0.2, 5.0, 5.0, 10.0, 10.0,
        ];
        let grid = tensor([1, 2, 4, 2], &grid);
        let at = |padding| elems::<f32>(sample(SampleMode::Linear, padding, false), &[&x, &grid]);
        assert_close(&at(SamplePadding::Zeros), &[0.0, 0.0, 1.7, 0.0, 0.0, 1.7, 0.0, 0.0]);
        assert_close(&at(SamplePadding::Border), &[0.0, 0.0, 1.7, 5.0, 5.0, 1.7, 5.0, 5.0]);
        assert_close(&at(SamplePadding::Reflection), &[2.5, 0.0, 1.7, 2.5, 2.5, 1.7, 5.0, 2.5]);
    }

    #[test]
    fn a_cubic_filter_moves_each_of_its_elements_alone() {
        // A ramp of squares, sampled inside, at the border, and far outside; values of ONNX Runtime 1.32.
        let x: Vec<f32> = (0..8).map(|i| (i * i) as f32 / 8.0).collect();
        let x = tensor([1, 1, 2, 4], &x);
        let columns = [-3.1f32, -1.6, -1.2, -0.95, -0.4, 0.3, 0.9, 1.3, 1.75, 2.9];
        let rows = [-2.2f32, 0.1, 1.4, -0.7, 0.5, -1.1, 1.9, 0.8, -0.3, 0.0];
        let grid: Vec<f32> = columns.into_iter().zip(rows).flat_map(|(c, r)| [c, r]).collect();
        let grid = tensor([1, 1, 10, 2], &grid);
        #[rustfmt::skip]
        let cases = [
            (SamplePadding::Zeros, false,
             [0.0, -0.0680401, 0.0138867, -0.11826, 2.75403, -0.0750388, -0.496292, -0.301767, 0.0, 0.0]),
            (SamplePadding::Zeros, true,
             [0.0, 0.102514, 1.21385, 0.312388, 2.62802, 0.313116, 4.1195, 3.55783, -0.235447, 0.0]),
            (SamplePadding::Border, false,
             [0.0, 1.224, 2.00586, -0.195132, 2.65953, 0.275752, 6.30416, 6.67625, 2.005, 3.625]),
            (SamplePadding::Border, true,
             [-0.144, 1.10778, 2.05738, 0.26864, 2.30187, 0.331369, 6.43613, 5.87253, 2.78969, 3.625]),
            (SamplePadding::Reflection, false,
             [4.942, 1.64656, 2.05451, -0.240899, 2.65953, -0.171665, 4.37983, 6.77668, 1.204, 0.901563]),
            (SamplePadding::Reflection, true,
             [4.3206, 1.72945, 1.90424, 0.122053, 2.49623, 0.492811, 3.9567, 5.55179, 1.49746, 1.01645]),
        ];
        for (padding, align_corners, expected) in cases {
            let y = elems::<f32>(sample(SampleMode::Cubic, padding, align_corners), &[&x, &grid]);
            for (got, expected) in y.iter().zip(expected) {
                assert!((got - expected).abs() < 2e-5, "{padding:?} {align_corners}: {y:?}");
            }
        }
    }

    #[test]
    fn a_place_that_is_no_number_has_nothing_around_it() {
        let x = tensor([1, 1, 1, 2], &[3.0f32, 4.0]);
        let grid = tensor([1, 1, 2, 2], &[f32::NAN, 0.0, f32::INFINITY, 0.0]);
        let zeros = sample(SampleMode::Linear, SamplePadding::Zeros, false);
        assert_eq!(elems::<f32>(zeros, &[&x, &grid]), [0.0, 0.0]);
    }

    #[test]
    fn grids_that_do_not_fit_are_refused() {
        let op = sample(SampleMode::Linear, SamplePadding::Zeros, false);
        assert_eq!(
            refusal(op, &[&f32s([1, 1, 2, 2]), &f32s([1, 4, 2])]),
            "operand 1 (grid) has type f32[1x4x2], expected [N, positions…, 2] for x of type f32[1x1x2x2]"
        );
        assert!(refusal(op, &[&ty(DType::I32, [1, 1, 2, 2]), &f32s([1, 1, 4, 2])]).contains("mode nearest"));
    }

    #[test]
    fn what_is_infinitely_far_outside_is_at_the_border() {
        let x = tensor([1, 1, 1, 3], &[3.0f32, 4.0, 5.0]);
        let grid = tensor([1, 1, 2, 2], &[f32::NEG_INFINITY, 0.0, f32::INFINITY, 0.0]);
        for mode in [SampleMode::Linear, SampleMode::Nearest] {
            assert_eq!(elems::<f32>(sample(mode, SamplePadding::Border, true), &[&x, &grid]), [3.0, 5.0]);
        }
    }
}
