//! ONNX Resize (opsets 10 to 19) and Upsample (7, 9).
//!
//! Resizing is separable: along each axis, every element of the result is a weighted sum of a few elements of the
//! input. [`Resize::taps`] is that table; who evaluates or compiles a Resize applies it axis by axis.

use super::number;
use super::{Arithmetic, OpError, Operator, Tensors, Types, check, optional, required, strided};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// How an output coordinate becomes an input coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CoordinateMode {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

/// How the nearest element is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum NearestMode {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// How elements between those of the input are made.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum ResizeMode {
    Nearest(NearestMode),
    Linear,
    Cubic { coeff_a: f32, exclude_outside: bool },
}

/// Resizes some axes. Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// Extents of the result, one for each axis.
    pub sizes: Vec<usize>,
    /// Scale of each axis, as the model gives it or as the extents say; decides coordinates.
    pub scales: Vec<f32>,
    /// How elements are made.
    pub mode: ResizeMode,
    /// How coordinates are made.
    pub coordinates: CoordinateMode,
}

/// The part that one element of the input has in one of the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tap {
    /// Which element of the axis.
    pub index: usize,
    /// Its weight.
    pub weight: f64,
}

impl NearestMode {
    fn round(self, x: f32) -> f32 {
        match self {
            NearestMode::RoundPreferFloor => (x - 0.5).ceil(),
            NearestMode::RoundPreferCeil => (x + 0.5).floor(),
            NearestMode::Floor => x.floor(),
            NearestMode::Ceil => x.ceil(),
        }
    }
}

impl Resize {
    /// Where element `i` of an axis of the result lies in the input, whose extent along it is `input`.
    ///
    /// The formulas are those of ONNX Resize. They are computed in `f32`, as ONNX Runtime does: with a scale that
    /// `f32` rounds (1/3), `f64` would put coordinates just beside the integers that the nearest modes round at.
    /// `AlignCorners` uses the extent that the result has, also where a scale gives a fraction of it (as the text of
    /// the operator, ONNX Runtime and PyTorch do; two of ONNX's node tests use the fraction).
    pub fn coordinate(&self, axis: usize, input: usize, i: usize) -> f32 {
        let (input, output, scale) = (input as f32, self.sizes[axis] as f32, self.scales[axis]);
        let i = i as f32;
        match self.coordinates {
            CoordinateMode::HalfPixel => (i + 0.5) / scale - 0.5,
            CoordinateMode::HalfPixelSymmetric => {
                let adjustment = output / (scale * input);
                let offset = input / 2.0 * (1.0 - adjustment);
                offset + (i + 0.5) / scale - 0.5
            }
            CoordinateMode::PytorchHalfPixel if output > 1.0 => (i + 0.5) / scale - 0.5,
            CoordinateMode::PytorchHalfPixel => 0.0,
            CoordinateMode::AlignCorners if output > 1.0 => i * (input - 1.0) / (output - 1.0),
            CoordinateMode::AlignCorners => 0.0,
            CoordinateMode::Asymmetric => i / scale,
        }
    }

    /// For each element of an axis of the result, what it is made of, when the input's extent is `input`.
    pub fn taps(&self, axis: usize, input: usize) -> Vec<Vec<Tap>> {
        let last = input.saturating_sub(1);
        let clamped = |index: f32| (index.max(0.0) as usize).min(last);
        (0..self.sizes[axis])
            .map(|i| {
                let x = self.coordinate(axis, input, i);
                match self.mode {
                    ResizeMode::Nearest(mode) => vec![Tap { index: clamped(mode.round(x)), weight: 1.0 }],
                    ResizeMode::Linear => {
                        let x = x.clamp(0.0, last as f32);
                        let (low, part) = (x.floor(), f64::from(x - x.floor()));
                        let taps = [(low, 1.0 - part), (low + 1.0, part)];
                        taps.map(|(index, weight)| Tap { index: clamped(index), weight }).to_vec()
                    }
                    ResizeMode::Cubic { coeff_a, exclude_outside } => {
                        cubic(x, f64::from(coeff_a), exclude_outside, last)
                    }
                }
            })
            .collect()
    }
}

/// Cubic convolution (Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981, with parameter `a`).
/// Elements outside are those at the edge; or have no weight, the others sharing theirs.
fn cubic(x: f32, a: f64, exclude_outside: bool, last: usize) -> Vec<Tap> {
    let floor = x.floor();
    let s = f64::from(x - floor);
    let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
    let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
    let weights = [far(s + 1.0), near(s), near(1.0 - s), far(2.0 - s)];
    let mut taps: Vec<Tap> = Vec::with_capacity(4);
    let mut sum = 0.0;
    for (i, weight) in weights.into_iter().enumerate() {
        let index = floor + i as f32 - 1.0;
        let inside = index >= 0.0 && index <= last as f32;
        if inside || !exclude_outside {
            sum += weight;
            taps.push(Tap { index: (index.max(0.0) as usize).min(last), weight });
        }
    }
    if exclude_outside && sum != 0.0 {
        taps.iter_mut().for_each(|t| t.weight /= sum);
    }
    taps
}

impl Operator for Resize {
    fn name(&self) -> &'static str {
        "Resize"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        let rank = x.shape.rank();
        if self.sizes.len() != rank || self.scales.len() != rank {
            return Err(OpError::Mismatch(format!(
                "{} sizes and {} scales for x of type {x}, expected {rank} of each",
                self.sizes.len(),
                self.scales.len()
            )));
        }
        if let Some(scale) = self.scales.iter().find(|s| !s.is_finite() || **s <= 0.0) {
            return Err(OpError::Mismatch(format!("scale {scale}, expected a number above 0")));
        }
        if !matches!(self.mode, ResizeMode::Nearest(_)) && !x.dtype.is_float() {
            return Err(OpError::Unsupported(format!(
                "linear or cubic mode for elements of type {}; expected floating-point elements",
                x.dtype
            )));
        }
        if x.shape.iter().zip(&self.sizes).any(|(&from, &to)| from == 0 && to != 0) {
            return Err(check::unfit(0, "x", x, "a tensor that is not empty"));
        }
        Ok(vec![check::result(x.dtype, self.sizes.clone())?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let mut shape = x.shape().to_vec();
        if let ResizeMode::Nearest(_) = self.mode {
            let size = y.dtype.bytes();
            let mut bytes = x.bytes().to_vec();
            for axis in 0..shape.len() {
                let indices: Vec<Option<usize>> =
                    self.taps(axis, shape[axis]).iter().map(|t| t.first().map(|t| t.index)).collect();
                bytes = strided::pick(&bytes, size, &shape, axis, &indices, &vec![0; size]);
                shape[axis] = self.sizes[axis];
            }
            return Ok(vec![Tensor::from_bytes(y.clone(), bytes)?]);
        }
        let mut values = number::floats(x)?;
        for axis in 0..shape.len() {
            let taps = self.taps(axis, shape[axis]);
            let identity = taps.len() == shape[axis]
                && taps.iter().enumerate().all(|(i, t)| t.iter().all(|t| t.index == i || t.weight == 0.0));
            if !identity {
                values = resample(&values, &shape, axis, &taps);
                shape[axis] = self.sizes[axis];
            }
        }
        Ok(vec![number::from_floats(y.clone(), &values)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let taps = match self.mode {
            ResizeMode::Nearest(_) => 0u64,
            ResizeMode::Linear => 2,
            ResizeMode::Cubic { .. } => 4,
        };
        let resized = optional(operands, 0)
            .map_or(0, |x| x.shape.iter().zip(&self.sizes).filter(|(from, to)| from != to).count());
        let each = taps.saturating_pow(resized as u32);
        Arithmetic { macc: 0, ops: check::result_elems(results).saturating_mul(each) }
    }
}

/// The elements of one axis replaced by weighted sums of them.
fn resample(values: &[f64], shape: &[usize], axis: usize, table: &[Vec<Tap>]) -> Vec<f64> {
    let (outer, extent, inner) = strided::around(shape, axis);
    let mut out = vec![0.0; outer * table.len() * inner];
    for o in 0..outer {
        for (i, taps) in table.iter().enumerate() {
            let sums = &mut out[(o * table.len() + i) * inner..][..inner];
            for tap in taps {
                let row = &values[(o * extent + tap.index) * inner..][..inner];
                sums.iter_mut().zip(row).for_each(|(s, v)| *s += tap.weight * v);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
