//! A part of a resized picture, without resizing the rest.
//!
//! ```text
//!   source            resized (never made)        what is asked for
//!   ┌────────┐        ┌──────────────────┐
//!   │        │   ─▶   │     ┌──────┐     │   ─▶   ┌──────┐
//!   └────────┘        │     └──────┘     │        └──────┘
//!                     └──────────────────┘
//! ```
//!
//! The arithmetic is that of Pillow (`src/libImaging/Resample.c`): a filter that is as wide as its support where the picture grows, and
//! wide enough to see each pixel where it shrinks (antialiasing); weights of 22 bits; columns of each row first, rounded to bytes, then
//! rows. So results are Pillow's, byte for byte; from version 13 on, Pillow takes rows first where a picture is made flatter, and a byte may
//! differ by 1 there.

use crate::picture::Picture;

/// How pixels between pixels are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The nearest pixel, as Pillow's `NEAREST`.
    Nearest,
    /// A triangle, as Pillow's `BILINEAR`; antialiased.
    Bilinear,
    /// A cubic with a = −1⁄2, as Pillow's `BICUBIC`; antialiased.
    Bicubic,
    /// A windowed sinc of three lobes, as Pillow's `LANCZOS`; antialiased.
    Lanczos,
    /// Two pixels of each axis, however much the picture shrinks, as OpenCV's `INTER_LINEAR`.
    Linear,
}

/// What is asked for of one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AxisCrop {
    /// Pixels that the whole axis would have.
    pub scaled: u64,
    /// The first that is wanted.
    pub from: u64,
    /// How many are wanted.
    pub len: usize,
}

impl AxisCrop {
    /// All of an axis.
    pub fn whole(len: usize) -> AxisCrop {
        AxisCrop { scaled: len as u64, from: 0, len }
    }

    /// The middle of an axis. Where it is between two pixels, the even one is taken, as Python rounds.
    pub fn centre(scaled: u64, len: usize) -> AxisCrop {
        let spare = scaled.saturating_sub(len as u64);
        let half = spare / 2;
        AxisCrop { scaled, from: half + (spare % 2) * (half % 2), len }
    }

    /// Pixels of the source for each of the result.
    pub(crate) fn scale(self, source: usize) -> f64 {
        source as f64 / self.scaled.max(1) as f64
    }

    /// The indices that are wanted.
    pub(crate) fn indices(self) -> std::ops::Range<u64> {
        self.from..self.from.saturating_add(self.len as u64)
    }
}

/// Bits behind the point of weights.
const BITS: u32 = 32 - 8 - 2;

/// The pixels that one result sums, and their weights, which add up to about 1.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// A filter's half width where it does not shrink, and its curve.
fn curve(filter: Filter) -> (f64, fn(f64) -> f64) {
    match filter {
        Filter::Nearest => (0.5, |_| 1.0),
        Filter::Bilinear | Filter::Linear => (1.0, |x| (1.0 - x.abs()).max(0.0)),
        Filter::Bicubic => (2.0, |x| {
            const A: f64 = -0.5;
            match x.abs() {
                x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                _ => 0.0,
            }
        }),
        Filter::Lanczos => (3.0, |x| if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }),
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// The taps of each wanted pixel of an axis of `source` pixels.
fn taps(source: usize, crop: AxisCrop, filter: Filter) -> Vec<Taps> {
    let scale = crop.scale(source);
    if filter == Filter::Nearest {
        return nearest(source, crop, scale);
    }
    let (support, curve) = curve(filter);
    let wide = scale.max(1.0);
    let reach = support * wide;
    let of = |index: u64| {
        let centre = (index as f64 + 0.5) * scale;
        let first = ((centre - reach + 0.5).max(0.0) as usize).min(source - 1);
        let end = ((centre + reach + 0.5).max(0.0) as usize).clamp(first + 1, source);
        let weights: Vec<f64> =
            (first..end).map(|i| curve((i as f64 - centre + 0.5) * (1.0 / wide))).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| {
            let weight = if sum == 0.0 { *weight } else { weight / sum };
            (weight * f64::from(1 << BITS) + 0.5f64.copysign(weight)) as i32
        };
        Taps { first, weights: weights.iter().map(fixed).collect() }
    };
    crop.indices().map(of).collect()
}

/// The pixels under the middles of those that are wanted. Pillow adds up from pixel to pixel, so that errors of rounding do, too.
fn nearest(source: usize, crop: AxisCrop, scale: f64) -> Vec<Taps> {
    let mut at = scale * 0.5;
    (0..crop.from).for_each(|_| at += scale);
    let of = |_| {
        let first = (at as usize).min(source - 1);
        at += scale;
        Taps { first, weights: vec![1 << BITS] }
    };
    crop.indices().map(of).collect()
}

fn rounded(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Cuts a window out of a picture that is resized to its extents.
pub(crate) fn resample(picture: &Picture, x: AxisCrop, y: AxisCrop, filter: Filter) -> Picture {
    let (columns, rows) = (taps(picture.width, x, filter), taps(picture.height, y, filter));
    let first = rows.iter().map(|taps| taps.first).min().unwrap_or(0);
    let end = rows.iter().map(|taps| taps.first + taps.weights.len()).max().unwrap_or(first);
    let squeezed: Vec<Vec<u8>> = (first..end).map(|row| squeeze(picture.row(row), &columns)).collect();

    let mut bytes = Vec::with_capacity(x.len * y.len * 3);
    let mut sums = vec![0i32; x.len * 3];
    for taps in &rows {
        sums.fill(1 << (BITS - 1));
        for (row, &weight) in squeezed[taps.first - first..].iter().zip(&taps.weights) {
            sums.iter_mut().zip(row).for_each(|(sum, &byte)| *sum += i32::from(byte) * weight);
        }
        bytes.extend(sums.iter().map(|&sum| rounded(sum)));
    }
    Picture { width: x.len, height: y.len, bytes }
}

/// The wanted pixels of a row.
fn squeeze(row: &[u8], columns: &[Taps]) -> Vec<u8> {
    let of = |taps: &Taps| {
        let mut sums = [1i32 << (BITS - 1); 3];
        for (pixel, &weight) in row[taps.first * 3..].chunks_exact(3).zip(&taps.weights) {
            sums.iter_mut().zip(pixel).for_each(|(sum, &byte)| *sum += i32::from(byte) * weight);
        }
        sums.map(rounded)
    };
    columns.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTERS: [Filter; 5] =
        [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos, Filter::Linear];

    fn noise(width: usize, height: usize) -> Picture {
        Picture::from_fn(width, height, |x, y| {
            let n = x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503_277) ^ (x * y * 97);
            [n as u8, (n >> 8) as u8, (n >> 16) as u8]
        })
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let picture = noise(5, 4);
        for filter in FILTERS {
            let same = picture.resized(AxisCrop::whole(5), AxisCrop::whole(4), filter);
            assert_eq!(same, picture, "{filter:?}");
        }
    }

    #[test]
    fn a_window_is_what_a_crop_of_the_whole_would_be() {
        let picture = noise(37, 23);
        for filter in FILTERS {
            for (width, height) in [(74, 60), (16, 9), (37, 5), (100, 23)] {
                let whole = picture.resized(AxisCrop::whole(width), AxisCrop::whole(height), filter);
                let x = AxisCrop { scaled: width as u64, from: 3, len: width - 7 };
                let y = AxisCrop { scaled: height as u64, from: 1, len: height - 2 };
                let part = picture.resized(x, y, filter);
                let at = |x: usize, y: usize| -> [u8; 3] { whole.row(y)[x * 3..][..3].try_into().unwrap() };
                let cropped = Picture::from_fn(width - 7, height - 2, |x, y| at(x + 3, y + 1));
                assert_eq!(part, cropped, "{filter:?} {width}×{height}");
            }
        }
    }

    #[test]
    fn shrinking_sees_every_pixel() {
        let stripes = Picture::from_fn(64, 64, |x, _| [if x % 2 == 0 { 0 } else { 200 }; 3]);
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            let small = stripes.resized(AxisCrop::whole(4), AxisCrop::whole(4), filter);
            assert!(small.bytes.iter().all(|b| b.abs_diff(100) <= 6), "{filter:?} {:?}", small.bytes);
        }
    }

    #[test]
    fn growing_is_linear_between_the_centres_of_pixels() {
        let two = Picture::from_fn(2, 1, |x, _| [(x * 200) as u8; 3]);
        for filter in [Filter::Bilinear, Filter::Linear] {
            let grown = two.resized(AxisCrop::whole(8), AxisCrop::whole(1), filter);
            let row: Vec<u8> = grown.pixels().map(|p| p[0]).collect();
            assert_eq!(row, [0, 0, 25, 75, 125, 175, 200, 200], "{filter:?}");
        }
    }

    #[test]
    fn the_middle_between_two_pixels_is_the_even_one() {
        let from = |scaled, len| AxisCrop::centre(scaled, len).from;
        assert_eq!([from(256, 224), from(341, 224), from(7, 4), from(9, 4), from(3, 8)], [16, 58, 2, 2, 0]);
    }

    #[test]
    fn a_sliver_of_a_huge_scaled_picture_costs_what_the_sliver_has() {
        // Scaled whole, this would have 256 × 15,360,000 pixels.
        let sliver = Picture::from_fn(1, 60_000, |_, y| [(y / 256) as u8; 3]);
        for filter in FILTERS {
            let part =
                sliver.resized(AxisCrop::centre(256, 224), AxisCrop::centre(60_000 * 256, 224), filter);
            let found = (part.width, part.height, part.bytes[0]);
            assert_eq!(found, (224, 224, (30_000 / 256) as u8), "{filter:?}");
        }
    }
}
