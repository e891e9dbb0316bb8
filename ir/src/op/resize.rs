//! ONNX Resize (opsets 10 to 19) and Upsample (1 to 9).
//!
//! Resizing is separable: along each axis, every element of the result is a weighted sum of a few elements of the
//! input. [`Resize::taps`] is that table; who evaluates or compiles a Resize applies it axis by axis. Where an element
//! lies is computed exactly (`resize/coordinate.rs`).

mod coordinate;

use coordinate::Exact;

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
    /// `(i + ½) / scale`, of opset 11 for the nearest mode.
    TfHalfPixelForNn,
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
    Cubic { coeff_a: f32 },
}

/// Resizes some axes. Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// Extents of the result, one for each axis.
    pub sizes: Vec<usize>,
    /// Scale of each axis, as the model gives it or as the extents say, rounded; decides coordinates.
    pub scales: Vec<f32>,
    /// How elements are made.
    pub mode: ResizeMode,
    /// How coordinates are made, without a `crop`.
    pub coordinates: CoordinateMode,
    /// Whether elements outside have no weight, the others sharing theirs; else they are those at the edge.
    pub exclude_outside: bool,
    /// Whether the linear and the cubic filter are stretched where an axis shrinks, so that all elements count.
    pub antialias: bool,
    /// The region that is resized.
    pub crop: Option<Crop>,
}

/// The region of `tf_crop_and_resize`, in parts of the extents.
#[derive(Clone, Debug, PartialEq)]
pub struct Crop {
    /// Where it begins along each axis; 0 is the first element.
    pub begin: Vec<f32>,
    /// Where it ends; 1 is the last element.
    pub end: Vec<f32>,
    /// What lies outside of the input.
    pub extrapolation: f32,
}

/// The part that one element of the input has in one of the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResizeTap {
    /// Which element of the axis.
    pub index: usize,
    /// Its weight.
    pub weight: f64,
}

impl NearestMode {
    fn round(self, x: Exact) -> i128 {
        match self {
            NearestMode::RoundPreferFloor => x.round_half_down(),
            NearestMode::RoundPreferCeil => x.round_half_up(),
            NearestMode::Floor => x.floor(),
            NearestMode::Ceil => x.ceil(),
        }
    }
}

/// The longest axis of which coordinates are computed: products of four such numbers fit in 128 bits.
const LONGEST: usize = 1 << 31;

/// The least scale of an antialiased axis: beyond it one element would be made of 2^20 others.
const LEAST_ANTIALIASED: f32 = 1.0 / 262144.0;

impl Resize {
    /// A plain resize.
    pub fn new(
        sizes: impl Into<Vec<usize>>,
        scales: impl Into<Vec<f32>>,
        mode: ResizeMode,
        coordinates: CoordinateMode,
    ) -> Resize {
        Resize {
            sizes: sizes.into(),
            scales: scales.into(),
            mode,
            coordinates,
            exclude_outside: false,
            antialias: false,
            crop: None,
        }
    }

    /// The scale of an axis whose extent is `input`, as a numerator and a denominator: the quotient of the extents where
    /// it is that, rounded, else what it stands for.
    fn scale(&self, axis: usize, input: usize) -> (i128, i128) {
        let (output, scale) = (self.sizes[axis], self.scales[axis]);
        if output as f32 / input as f32 == scale {
            return (output as i128, input as i128);
        }
        Exact::simplest(scale).parts()
    }

    /// Where element `i` of an axis of the result lies in the input, whose extent along it is `input`.
    ///
    /// The formulas are those of ONNX Resize. `AlignCorners` uses the extent that the result has, also where a scale gives
    /// a fraction of it (as the text of the operator, ONNX Runtime and PyTorch do; two of ONNX's node tests use the
    /// fraction).
    fn coordinate(&self, axis: usize, input: usize, i: usize) -> Exact {
        let (num, den) = self.scale(axis, input);
        let (input, output, i) = (input as i128, self.sizes[axis] as i128, i as i128);
        let first = Exact::new(0, 1);
        if let Some(crop) = &self.crop {
            let (begin, begin_den) = Exact::simplest(crop.begin[axis]).parts();
            let (end, end_den) = Exact::simplest(crop.end[axis]).parts();
            // Over the common denominator of both.
            let (begin, end, den) = (begin * end_den, end * begin_den, begin_den * end_den);
            return match output > 1 {
                true => {
                    Exact::new((begin * (output - 1) + i * (end - begin)) * (input - 1), den * (output - 1))
                }
                false => Exact::new((begin + end) * (input - 1), 2 * den),
            };
        }
        // Centres are half an element behind its begin: everything is counted in halves.
        match self.coordinates {
            CoordinateMode::HalfPixel => Exact::new((2 * i + 1) * den - num, 2 * num),
            CoordinateMode::HalfPixelSymmetric => {
                Exact::new((2 * i + 1 - output) * den + (input - 1) * num, 2 * num)
            }
            CoordinateMode::PytorchHalfPixel if output > 1 => Exact::new((2 * i + 1) * den - num, 2 * num),
            CoordinateMode::PytorchHalfPixel => first,
            CoordinateMode::AlignCorners if output > 1 => Exact::new(i * (input - 1), output - 1),
            CoordinateMode::AlignCorners => first,
            CoordinateMode::Asymmetric => Exact::new(i * den, num),
            CoordinateMode::TfHalfPixelForNn => Exact::new((2 * i + 1) * den, 2 * num),
        }
    }

    /// The elements of an axis of the result that a crop has outside of the input: they are the extrapolation.
    pub fn outside(&self, axis: usize, input: usize) -> Vec<usize> {
        if self.crop.is_none() {
            return Vec::new();
        }
        let last = input.saturating_sub(1);
        let inside = |&i: &usize| self.coordinate(axis, input, i).is_within(last);
        (0..self.sizes[axis]).filter(|i| !inside(i)).collect()
    }

    /// For each element of an axis of the result, what it is made of, when the input's extent is `input`.
    pub fn taps(&self, axis: usize, input: usize) -> Vec<Vec<ResizeTap>> {
        let last = input.saturating_sub(1);
        let (num, den) = self.scale(axis, input);
        // How far the filter is stretched, where it is.
        let stretch = (self.antialias && num < den).then(|| den as f64 / num as f64);
        (0..self.sizes[axis])
            .map(|i| {
                let x = self.coordinate(axis, input, i);
                match (self.mode, stretch) {
                    (ResizeMode::Nearest(mode), _) => {
                        vec![ResizeTap { index: clamped(mode.round(x), last), weight: 1.0 }]
                    }
                    (ResizeMode::Linear, Some(stretch)) => {
                        self.filtered(x.to_f64(), stretch, 1.0, |d| (1.0 - d.abs()).max(0.0), last)
                    }
                    (ResizeMode::Cubic { coeff_a }, Some(stretch)) => {
                        self.filtered(x.to_f64(), stretch, 2.0, |d| keys(d.abs(), coeff_a.into()), last)
                    }
                    (ResizeMode::Linear, None) => {
                        // Beyond the first and the last element, they stand alone.
                        let (low, part) = match x.is_within(last) {
                            true => (x.floor(), x.fraction()),
                            false => (x.floor(), 0.0),
                        };
                        let taps = [(low, 1.0 - part), (low + 1, part)];
                        taps.map(|(index, weight)| ResizeTap { index: clamped(index, last), weight }).to_vec()
                    }
                    (ResizeMode::Cubic { coeff_a }, None) => {
                        let (floor, s) = (x.floor(), x.fraction());
                        let weights = [s + 1.0, s, 1.0 - s, 2.0 - s].map(|d| keys(d, coeff_a.into()));
                        self.inside((floor - 1..).zip(weights), last)
                    }
                }
            })
            .collect()
    }
}

impl Resize {
    /// The taps of a filter of radius `radius`, stretched by a factor, around `x`.
    fn filtered(
        &self,
        x: f64,
        stretch: f64,
        radius: f64,
        filter: impl Fn(f64) -> f64,
        last: usize,
    ) -> Vec<ResizeTap> {
        let (first, end) = ((x - radius * stretch).ceil() as i128, (x + radius * stretch).floor() as i128);
        let weights: Vec<(i128, f64)> =
            (first..=end).map(|index| (index, filter((index as f64 - x) / stretch))).collect();
        let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
        self.inside(weights.into_iter().map(|(index, weight)| (index, weight / sum)), last)
    }

    /// Taps at any indices: outside they are those at the edge, or left out.
    fn inside(&self, taps: impl Iterator<Item = (i128, f64)>, last: usize) -> Vec<ResizeTap> {
        let mut inside: Vec<ResizeTap> = Vec::new();
        for (at, weight) in taps {
            let index = clamped(at, last);
            if index as i128 != at && self.exclude_outside {
                continue;
            }
            match inside.last_mut().filter(|tap| tap.index == index) {
                Some(tap) => tap.weight += weight,
                None => inside.push(ResizeTap { index, weight }),
            }
        }
        let sum: f64 = inside.iter().map(|t| t.weight).sum();
        if self.exclude_outside && sum != 0.0 {
            inside.iter_mut().for_each(|t| t.weight /= sum);
        }
        if inside.is_empty() {
            inside.push(ResizeTap { index: 0, weight: 0.0 });
        }
        inside
    }
}

/// The element at an index, or the one at the edge.
fn clamped(index: i128, last: usize) -> usize {
    usize::try_from(index.max(0)).map_or(last, |index| index.min(last))
}

/// The weight of an element at a distance (NaN goes through), by cubic convolution (Keys, Cubic Convolution Interpolation for Digital
/// Image Processing, 1981, with parameter `a`).
pub(super) fn keys(d: f64, a: f64) -> f64 {
    if d.is_nan() {
        d
    } else if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
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
        if let Some(&extent) = x.shape.iter().chain(&self.sizes).find(|&&extent| extent > LONGEST) {
            return Err(OpError::Unsupported(format!(
                "an axis of {extent} elements; expected {LONGEST} or less"
            )));
        }
        if let Some(crop) = &self.crop
            && (crop.begin.len() != rank || crop.end.len() != rank)
        {
            return Err(OpError::Mismatch(format!("the region does not have {rank} begins and ends")));
        }
        if self.antialias && self.scales.iter().any(|&s| s < LEAST_ANTIALIASED) {
            return Err(OpError::Unsupported(format!(
                "antialiasing at scales {:?}; expected {LEAST_ANTIALIASED} or more",
                self.scales
            )));
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
            let fill = number::from_floats(TensorType::new(y.dtype, Vec::new()), &[self.extrapolation()])?;
            for at in self.outside_elements(x.shape(), &y.shape) {
                bytes[at * size..][..size].copy_from_slice(fill.bytes());
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
        for at in self.outside_elements(x.shape(), &y.shape) {
            values[at] = self.extrapolation();
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

impl Resize {
    fn extrapolation(&self) -> f64 {
        self.crop.as_ref().map_or(0.0, |crop| crop.extrapolation.into())
    }

    /// Positions of the elements of the result that are outside along some axis.
    fn outside_elements(&self, x: &[usize], y: &[usize]) -> Vec<usize> {
        let mut all = Vec::new();
        for (axis, &input) in x.iter().enumerate() {
            let (outer, extent, inner) = strided::around(y, axis);
            for i in self.outside(axis, input) {
                all.extend((0..outer).flat_map(|o| (o * extent + i) * inner..(o * extent + i + 1) * inner));
            }
        }
        all
    }
}

/// The elements of one axis replaced by weighted sums of them.
fn resample(values: &[f64], shape: &[usize], axis: usize, table: &[Vec<ResizeTap>]) -> Vec<f64> {
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
