//! A part of a scaled picture, without scaling the rest.
//!
//! ```text
//!   source            scaled (never made)         what is asked for
//!   ┌────────┐        ┌──────────────────┐
//!   │        │   ─▶   │     ┌──────┐     │   ─▶   ┌──────┐
//!   └────────┘        │     └──────┘     │        └──────┘
//!                     └──────────────────┘
//! ```
//!
//! The filter is a triangle, bilinear where the picture grows and wide enough to see each pixel where it shrinks (antialiasing), as
//! in Pillow. It is the product of a filter of rows and one of columns. Columns are summed first, a row at a time; only for
//! pictures that are much wider than what is asked for it is the other way round.

use super::decode::Picture;

/// What is asked for of one axis.
#[derive(Clone, Copy, Debug)]
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

    /// The middle of an axis.
    pub fn centre(scaled: u64, len: usize) -> AxisCrop {
        AxisCrop { scaled, from: scaled.saturating_sub(len as u64) / 2, len }
    }
}

/// The pixels that one result sums, and their weights, which add up to 1.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Taps {
    fn end(&self) -> usize {
        self.first + self.weights.len()
    }
}

/// The taps of each wanted pixel of an axis of `source` pixels.
fn taps(source: usize, crop: AxisCrop) -> Vec<Taps> {
    let ratio = source as f64 / crop.scaled as f64;
    let reach = ratio.max(1.0);
    let of = |index: u64| {
        let centre = (index as f64 + 0.5) * ratio;
        let first = ((centre - reach).floor().max(0.0) as usize).min(source - 1);
        let end = ((centre + reach).ceil().max(0.0) as usize).clamp(first + 1, source);
        let weight = |i: usize| (1.0 - ((i as f64 + 0.5 - centre) / reach).abs()).max(0.0);
        let sum: f64 = (first..end).map(weight).sum();
        Taps { first, weights: (first..end).map(|i| (weight(i) / sum) as f32).collect() }
    };
    (0..crop.len as u64).map(|i| of(crop.from + i)).collect()
}

/// Sums that are wanted of two axes, and what they cost: additions of whichever is summed first.
struct Axes {
    rows: Vec<Taps>,
    columns: Vec<Taps>,
}

impl Axes {
    /// The part of an axis of the source that is read.
    fn read(taps: &[Taps]) -> std::ops::Range<usize> {
        let first = taps.iter().map(|t| t.first).min().unwrap_or(0);
        first..taps.iter().map(Taps::end).max().unwrap_or(first)
    }

    fn rows_come_first(&self) -> bool {
        let sums = |taps: &[Taps]| taps.iter().map(|t| t.weights.len() as f64).sum::<f64>();
        let (down, across) = (sums(&self.rows), sums(&self.columns));
        let (height, width) = (Axes::read(&self.rows).len() as f64, Axes::read(&self.columns).len() as f64);
        let columns_first = down * width + across * self.rows.len() as f64;
        let rows_first = across * height + down * self.columns.len() as f64;
        rows_first * 4.0 < columns_first
    }
}

/// Cuts a window out of a picture that is scaled to its extents.
pub fn resample(picture: &Picture, x: AxisCrop, y: AxisCrop) -> Picture {
    let axes = Axes { rows: taps(picture.height, y), columns: taps(picture.width, x) };
    let (read_rows, read_columns) = (Axes::read(&axes.rows), Axes::read(&axes.columns));
    let source = |row: usize| &picture.row(row)[read_columns.start * 3..read_columns.end * 3];
    let mut bytes = Vec::with_capacity(x.len * y.len * 3);
    let mut emit = |line: &[f32]| bytes.extend(line.iter().map(|v| v.round().clamp(0.0, 255.0) as u8));
    if axes.rows_come_first() {
        let squeezed: Vec<Vec<f32>> = read_rows
            .clone()
            .map(|row| {
                let line: Vec<f32> = source(row).iter().map(|&b| f32::from(b)).collect();
                squeeze(&line, read_columns.start, &axes.columns)
            })
            .collect();
        let mut line = vec![0f32; x.len * 3];
        for taps in &axes.rows {
            line.fill(0.0);
            for (squeezed, weight) in squeezed[taps.first - read_rows.start..].iter().zip(&taps.weights) {
                line.iter_mut().zip(squeezed).for_each(|(sum, v)| *sum += v * weight);
            }
            emit(&line);
        }
    } else {
        let mut line = vec![0f32; read_columns.len() * 3];
        for taps in &axes.rows {
            line.fill(0.0);
            for (row, weight) in (taps.first..).zip(&taps.weights) {
                line.iter_mut().zip(source(row)).for_each(|(sum, &b)| *sum += f32::from(b) * weight);
            }
            emit(&squeeze(&line, read_columns.start, &axes.columns));
        }
    }
    Picture { width: x.len, height: y.len, bytes }
}

/// The wanted pixels of a row, whose first pixel is number `start` of the source.
fn squeeze(line: &[f32], start: usize, columns: &[Taps]) -> Vec<f32> {
    let of = |taps: &Taps| {
        let mut sum = [0f32; 3];
        let pixels = line[(taps.first - start) * 3..].chunks_exact(3);
        for (pixel, weight) in pixels.zip(&taps.weights) {
            sum.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += v * weight);
        }
        sum
    };
    columns.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: usize, height: usize) -> Picture {
        Picture::from_fn(width, height, |x, y| {
            let n = x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503_277) ^ (x * y * 97);
            [n as u8, (n >> 8) as u8, (n >> 16) as u8]
        })
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let picture = noise(5, 4);
        assert_eq!(resample(&picture, AxisCrop::whole(5), AxisCrop::whole(4)), picture);
    }

    #[test]
    fn a_window_is_what_a_crop_of_the_whole_would_be() {
        let picture = noise(37, 23);
        for (width, height) in [(74, 60), (16, 9), (37, 5), (100, 23)] {
            let whole = resample(&picture, AxisCrop::whole(width), AxisCrop::whole(height));
            let x = AxisCrop { scaled: width as u64, from: 3, len: width - 7 };
            let y = AxisCrop { scaled: height as u64, from: 1, len: height - 2 };
            let part = resample(&picture, x, y);
            let at = |x: usize, y: usize| -> [u8; 3] { whole.row(y)[x * 3..][..3].try_into().unwrap() };
            assert_eq!(part, Picture::from_fn(width - 7, height - 2, |x, y| at(x + 3, y + 1)));
        }
    }

    #[test]
    fn shrinking_sees_every_pixel() {
        let stripes = Picture::from_fn(64, 64, |x, _| [if x % 2 == 0 { 0 } else { 200 }; 3]);
        let small = resample(&stripes, AxisCrop::whole(4), AxisCrop::whole(4));
        assert!(small.bytes.iter().all(|b| b.abs_diff(100) <= 4), "{:?}", small.bytes);
    }

    #[test]
    fn growing_is_linear_between_the_centres_of_pixels() {
        let two = Picture::from_fn(2, 1, |x, _| [(x * 200) as u8; 3]);
        let grown = resample(&two, AxisCrop::whole(8), AxisCrop::whole(1));
        let row: Vec<u8> = grown.pixels().map(|p| p[0]).collect();
        assert_eq!(row, [0, 0, 25, 75, 125, 175, 200, 200]);
    }

    #[test]
    fn both_orders_of_the_axes_give_the_same_picture() {
        // So wide that rows come first, and the same lying on its side.
        let wide = noise(4096, 2);
        let (x, y) = (AxisCrop::whole(3), AxisCrop::whole(50));
        assert!(Axes { rows: taps(2, y), columns: taps(4096, x) }.rows_come_first());
        let tall = Picture::from_fn(2, 4096, |x, y| wide.row(x)[y * 3..][..3].try_into().unwrap());
        let turned = resample(&tall, y, x);
        let back = Picture::from_fn(3, 50, |x, y| turned.row(x)[y * 3..][..3].try_into().unwrap());
        let close = resample(&wide, x, y).bytes.iter().zip(&back.bytes).all(|(a, b)| a.abs_diff(*b) <= 1);
        assert!(close);
    }

    #[test]
    fn a_sliver_of_a_huge_scaled_picture_costs_what_the_sliver_has() {
        // Scaled whole, this would have 256 × 15,360,000 pixels.
        let sliver = Picture::from_fn(1, 60_000, |_, y| [(y / 256) as u8; 3]);
        let part = resample(&sliver, AxisCrop::centre(256, 224), AxisCrop::centre(60_000 * 256, 224));
        assert_eq!((part.width, part.height, part.bytes[0]), (224, 224, (30_000 / 256) as u8));
    }
}
