//! Pools over regions that data name: [`RoiAlign`] (ONNX opsets 10, 16, 22) and [`MaxRoiPool`] (1, 22).

use super::number::Number;
use super::{Arithmetic, OpError, Operator, Tensors, Types, check, number, required};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Samples that one bin takes along an axis at most, however large the data say a region is.
pub const MOST_SAMPLES: usize = 4096;

/// Bilinear samples of each bin of a region, averaged, or their largest product of weight and element.
///
/// Operands: 0 `x` `[N, C, H, W]`, 1 `rois` `[R, 4]` (x1, y1, x2, y2), 2 `batches` `[R]`, `i64`. The result is
/// `[R, C, bins…]`. Places are computed in `f32` (`f64` where `x` is).
#[derive(Clone, Debug, PartialEq)]
pub struct RoiAlign {
    /// Bins along height and width.
    pub bins: [usize; 2],
    /// Samples along each axis of a bin; 0 takes as many as a bin has pixels, rounded up.
    pub samples: usize,
    /// Factor from coordinates of regions to those of the image.
    pub scale: f32,
    /// Whether pixels are squares around half coordinates; else regions are at least one pixel large.
    pub half_pixel: bool,
    /// The largest instead of the mean.
    pub max: bool,
}

/// The largest element of each bin of a region of whole pixels; 0 where a bin is empty.
///
/// Operands: 0 `x` `[N, C, H, W]`, 1 `rois` `[R, 5]` (batch, x1, y1, x2, y2). The result is `[R, C, bins…]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxRoiPool {
    /// Bins along height and width.
    pub bins: [usize; 2],
    /// Factor from coordinates of regions to those of the image.
    pub scale: f32,
}

/// Types of image and regions; the result's type.
fn infer(operands: &Types<'_>, columns: usize, bins: [usize; 2]) -> Result<Vec<TensorType>, OpError> {
    let (x, rois) = (check::float(operands, 0, "x")?, required(operands, 1, "rois")?);
    if x.shape.rank() != 4 || x.shape.contains(&0) {
        return Err(check::unfit(0, "x", x, "images [N, C, H, W] that are not empty"));
    }
    check::dtype(1, "rois", rois, x.dtype)?;
    if rois.shape.rank() != 2 || rois.shape[1] != columns {
        return Err(check::unfit(1, "rois", rois, format_args!("shape [R, {columns}]")));
    }
    if bins.contains(&0) {
        return Err(OpError::mismatch("a region has no bins"));
    }
    Ok(vec![check::result(x.dtype, vec![rois.shape[0], x.shape[1], bins[0], bins[1]])?])
}

/// The image of a region; an index outside is the nearest one.
fn batch(index: f64, batches: usize) -> usize {
    index.max(0.0).min(batches as f64 - 1.0) as usize
}

impl RoiAlign {
    /// A sample's two elements along an axis with their weights; `None` where it is too far outside.
    fn pair(at: f64, extent: usize, r: fn(f64) -> f64) -> Option<[(usize, f64); 2]> {
        let size = extent as f64;
        if !(-1.0..=size).contains(&at) {
            return None;
        }
        let at = at.max(0.0);
        let low = at.trunc();
        if low >= size - 1.0 {
            return Some([(extent - 1, 1.0), (extent - 1, 0.0)]);
        }
        let part = r(at - low);
        Some([(low as usize, r(1.0 - part)), (low as usize + 1, part)])
    }

    /// Along an axis, the samples of each bin.
    fn samples(
        &self,
        (begin, end): (f64, f64),
        bins: usize,
        extent: usize,
        r: fn(f64) -> f64,
    ) -> Vec<Vec<Option<[(usize, f64); 2]>>> {
        let (scale, offset) = (f64::from(self.scale), if self.half_pixel { 0.5 } else { 0.0 });
        let (begin, end) = (r(r(begin * scale) - offset), r(r(end * scale) - offset));
        let mut size = r(end - begin);
        if !self.half_pixel {
            size = size.max(1.0);
        }
        let bin = r(size / bins as f64);
        let count =
            if self.samples > 0 { self.samples } else { (bin.ceil().max(0.0) as usize).min(MOST_SAMPLES) };
        let sample = |b: usize, s: usize| {
            let inside = r(r((s as f64 + 0.5) * bin) / count as f64);
            Self::pair(r(r(begin + r(b as f64 * bin)) + inside), extent, r)
        };
        (0..bins).map(|b| (0..count).map(|s| sample(b, s)).collect()).collect()
    }
}

impl Operator for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let result = infer(operands, 4, self.bins)?;
        let rois = required(operands, 1, "rois")?;
        check::exactly(operands, 2, "batches", &TensorType::new(DType::I64, [rois.shape[0]]))?;
        if self.samples > MOST_SAMPLES {
            return Err(OpError::Unsupported(format!(
                "{} samples a bin; expected at most {MOST_SAMPLES}",
                self.samples
            )));
        }
        Ok(result)
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, rois) = (required(operands, 0, "x")?, required(operands, 1, "rois")?);
        let batches = number::integers(required(operands, 2, "batches")?)?;
        let [y] = results else { return Ok(Vec::new()) };
        let r = number::rounding(x.dtype());
        let (channels, height, width) = (x.shape()[1], x.shape()[2], x.shape()[3]);
        let (values, rois) = (number::floats(x)?, number::floats(rois)?);
        let mut out = Vec::with_capacity(y.shape.elems());
        for (roi, &image) in rois.chunks(4).zip(&batches) {
            let rows = self.samples((roi[1], roi[3]), self.bins[0], height, r);
            let columns = self.samples((roi[0], roi[2]), self.bins[1], width, r);
            let image = batch(image as f64, x.shape()[0]);
            for c in 0..channels {
                let plane = &values[(image * channels + c) * height * width..][..height * width];
                for (row, column) in rows.iter().flat_map(|r| columns.iter().map(move |c| (r, c))) {
                    let products = row.iter().flat_map(|y| column.iter().map(move |x| (y, x))).map(|pair| {
                        let (Some(y), Some(x)) = pair else { return [0.0; 4] };
                        let product =
                            |(i, v): (usize, f64), (j, w): (usize, f64)| v * w * plane[i * width + j];
                        [product(y[0], x[0]), product(y[0], x[1]), product(y[1], x[0]), product(y[1], x[1])]
                    });
                    out.push(if self.max {
                        let best = |p: [f64; 4]| p[1..].iter().fold(p[0], |a, &b| a.max_nan(b));
                        products.map(best).reduce(f64::max_nan).unwrap_or(0.0)
                    } else {
                        let count = (row.len() * column.len()).max(1);
                        products.fold(0.0, |sum, p| p.iter().fold(sum, |sum, v| sum + v)) / count as f64
                    });
                }
            }
        }
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let samples = (self.samples as u64).max(1).saturating_pow(2).saturating_mul(4);
        Arithmetic { macc: check::result_elems(results).saturating_mul(samples), ops: 0 }
    }
}

impl MaxRoiPool {
    /// Along an axis, the pixels of each bin.
    fn pixels(
        &self,
        (begin, end): (f64, f64),
        bins: usize,
        extent: usize,
        r: fn(f64) -> f64,
    ) -> Vec<std::ops::Range<usize>> {
        let scale = f64::from(self.scale);
        // Halves away from zero, as C rounds.
        let (begin, end) = (r(begin * scale).round(), r(end * scale).round());
        let size = r(r(end - begin) + 1.0).max(1.0);
        let bin = r(size / bins as f64);
        let inside = |v: f64| v.max(0.0).min(extent as f64) as usize;
        (0..bins)
            .map(|b| {
                let low = r(r(b as f64 * bin).floor() + begin);
                let high = r(r((b + 1) as f64 * bin).ceil() + begin);
                inside(low)..inside(high)
            })
            .collect()
    }
}

impl Operator for MaxRoiPool {
    fn name(&self) -> &'static str {
        "MaxRoiPool"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 2)?;
        infer(operands, 5, self.bins)
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, rois) = (required(operands, 0, "x")?, required(operands, 1, "rois")?);
        let [y] = results else { return Ok(Vec::new()) };
        let r = number::rounding(x.dtype());
        let (channels, height, width) = (x.shape()[1], x.shape()[2], x.shape()[3]);
        let (values, rois) = (number::floats(x)?, number::floats(rois)?);
        let mut out = Vec::with_capacity(y.shape.elems());
        for roi in rois.chunks(5) {
            let rows = self.pixels((roi[2], roi[4]), self.bins[0], height, r);
            let columns = self.pixels((roi[1], roi[3]), self.bins[1], width, r);
            let image = batch(roi[0], x.shape()[0]);
            for c in 0..channels {
                let plane = &values[(image * channels + c) * height * width..][..height * width];
                for (row, column) in rows.iter().flat_map(|r| columns.iter().map(move |c| (r, c))) {
                    let pixels = row.clone().flat_map(|i| column.clone().map(move |j| i * width + j));
                    out.push(pixels.map(|at| plane[at]).reduce(f64::max_nan).unwrap_or(0.0));
                }
            }
        }
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{elems, f32s, refusal, tensor};

    #[test]
    fn a_region_is_averaged_bin_by_bin() {
        // One sample in the middle of each of 2 by 2 bins of the whole 4 by 4 ramp.
        let x: Vec<f32> = (0..16).map(|v| v as f32).collect();
        let (x, batches) = (tensor([1, 1, 4, 4], &x), tensor([1], &[0i64]));
        let rois = tensor([1, 4], &[0.0f32, 0.0, 4.0, 4.0]);
        let op = RoiAlign { bins: [2, 2], samples: 1, scale: 1.0, half_pixel: true, max: false };
        assert_eq!(elems::<f32>(op.clone(), &[&x, &rois, &batches]), [2.5, 4.5, 10.5, 12.5]);
        // As many samples as there are pixels: their centres, the mean of four pixels.
        let adaptive = RoiAlign { samples: 0, ..op.clone() };
        assert_eq!(elems::<f32>(adaptive, &[&x, &rois, &batches]), [2.5, 4.5, 10.5, 12.5]);
        // Without the half, places are half a pixel further; the last row and column repeat.
        let plain = RoiAlign { half_pixel: false, ..op.clone() };
        assert_eq!(elems::<f32>(plain, &[&x, &rois, &batches]), [5.0, 7.0, 13.0, 15.0]);
        let max = RoiAlign { max: true, ..op };
        assert_eq!(elems::<f32>(max, &[&x, &rois, &batches]), [1.25, 1.75, 3.25, 3.75]);
    }

    #[test]
    fn a_region_without_end_takes_a_bounded_number_of_samples() {
        let x = tensor([1, 1, 1, 1], &[1.0f32]);
        let rois = tensor([2, 4], &[0.0f32, 0.0, 1e30, 1.0, f32::NAN, 0.0, 1.0, 1.0]);
        let op = RoiAlign { bins: [1, 1], samples: 0, scale: 1.0, half_pixel: true, max: false };
        let y = elems::<f32>(op, &[&x, &rois, &tensor([2], &[0i64, 7])]);
        assert!(y.iter().all(|v| v.is_finite()), "{y:?}");
    }

    #[test]
    fn the_largest_pixel_of_each_bin_is_kept() {
        let x: Vec<f32> = (0..16).map(|v| v as f32).collect();
        let x = tensor([1, 1, 4, 4], &x);
        let rois = tensor([2, 5], &[0.0f32, 0.0, 0.0, 3.0, 3.0, 0.0, 9.0, 9.0, 9.0, 9.0]);
        let op = MaxRoiPool { bins: [2, 2], scale: 1.0 };
        assert_eq!(elems::<f32>(op, &[&x, &rois]), [5.0, 7.0, 13.0, 15.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn regions_that_do_not_fit_are_refused() {
        let op = MaxRoiPool { bins: [2, 2], scale: 1.0 };
        assert_eq!(
            refusal(op, &[&f32s([1, 1, 4, 4]), &f32s([2, 4])]),
            "operand 1 (rois) has type f32[2x4], expected shape [R, 5]"
        );
    }

    /// Two images of two channels: the hundreds are the channel, the thousands the image, the tens the row.
    fn images() -> crate::tensor::Tensor {
        let at = |i: usize| (i / 48 * 1000 + i / 24 % 2 * 100 + i / 6 % 4 * 10 + i % 6) as f32;
        tensor([2, 2, 4, 6], &(0..96).map(at).collect::<Vec<f32>>())
    }

    #[test]
    fn a_region_lies_in_its_image_at_its_scale() {
        let rois = tensor([2, 4], &[2.0f32, 2.0, 6.0, 4.0, 4.0, 0.0, 8.0, 4.0]);
        let op = RoiAlign { bins: [1, 2], samples: 1, scale: 0.5, half_pixel: false, max: false };
        let y = elems::<f32>(op, &[&images(), &rois, &tensor([2], &[1i64, 0])]);
        // From (1, 1) to (3, 2) and from (2, 0) to (4, 2): the middles of two bins of each, x before y.
        assert_eq!(y, [1016.5, 1017.5, 1116.5, 1117.5, 12.5, 13.5, 112.5, 113.5]);
    }

    #[test]
    fn a_small_region_is_a_pixel_wide_where_corners_are_pixels() {
        let (rois, first) = (tensor([1, 4], &[1.0f32, 1.0, 1.5, 1.5]), tensor([1], &[0i64]));
        let middle = |half_pixel| {
            let op = RoiAlign { bins: [1, 1], samples: 1, scale: 1.0, half_pixel, max: false };
            elems::<f32>(op, &[&images(), &rois, &first])[0]
        };
        assert_eq!([middle(false), middle(true)], [16.5, 8.25]);
    }

    #[test]
    fn the_largest_pixels_are_those_of_the_region_in_its_image() {
        let rois = tensor([2, 5], &[1.0f32, 2.0, 4.0, 10.0, 6.0, 0.0, 0.0, 2.0, 2.0, 2.0]);
        let y = elems::<f32>(MaxRoiPool { bins: [2, 2], scale: 0.5 }, &[&images(), &rois]);
        // Columns 1 to 5 in halves of two and a half, rows 2 and 3; then row and column 0 and 1.
        assert_eq!(y[..8], [1023.0, 1025.0, 1033.0, 1035.0, 1123.0, 1125.0, 1133.0, 1135.0]);
        assert_eq!(y[8..], [10.0, 11.0, 10.0, 11.0, 110.0, 111.0, 110.0, 111.0]);
    }
}
