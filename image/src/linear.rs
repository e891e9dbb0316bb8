//! Resizing as OpenCV's `INTER_LINEAR` does for bytes: two pixels of each axis and no antialiasing, weights of 11 bits, and the rounding of
//! its vertical pass (`modules/imgproc/src/resize.cpp`).

use crate::picture::Picture;
use crate::resample::AxisCrop;

/// What stands for 1 among weights.
const ONE: f32 = 2048.0;

/// Two neighbours, and their weights.
struct Pair {
    at: [usize; 2],
    weights: [i32; 2],
}

/// The pairs of each wanted pixel. At the borders both are the same pixel: columns have it whole, rows in two parts that are rounded each.
fn pairs(source: usize, crop: AxisCrop, whole_at_borders: bool) -> Vec<Pair> {
    let (scale, last) = (crop.scale(source), source - 1);
    let of = |index: u64| {
        let place = ((index as f64 + 0.5) * scale - 0.5) as f32;
        let first = place.floor();
        let beyond = first < 0.0 || first as usize >= last;
        let share = if beyond && whole_at_borders { 0.0 } else { place - first };
        let fixed = |weight: f32| (weight * ONE).round_ties_even() as i32;
        let at = [first, first + 1.0].map(|at| (at.max(0.0) as usize).min(last));
        Pair { at, weights: [fixed(1.0 - share), fixed(share)] }
    };
    crop.indices().map(of).collect()
}

pub(crate) fn resample(picture: &Picture, x: AxisCrop, y: AxisCrop) -> Picture {
    let columns = pairs(picture.width, x, true);
    let row = |y: usize| -> Vec<i32> {
        let row = picture.row(y);
        let value = |pair: &Pair, c: usize| {
            let part = |i: usize| i32::from(row[pair.at[i] * 3 + c]) * pair.weights[i];
            part(0) + part(1)
        };
        columns.iter().flat_map(|pair| (0..3).map(move |c| value(pair, c))).collect()
    };
    let mut bytes = Vec::with_capacity(x.len * y.len * 3);
    let mut kept: Option<([usize; 2], [Vec<i32>; 2])> = None;
    for pair in pairs(picture.height, y, false) {
        let rows = match kept.take() {
            Some((at, rows)) if at == pair.at => rows,
            _ => pair.at.map(row),
        };
        let part = |value: i32, weight: i32| (weight * (value >> 4)) >> 16;
        let sums = rows[0].iter().zip(&rows[1]);
        let sums = sums.map(|(&a, &b)| (part(a, pair.weights[0]) + part(b, pair.weights[1]) + 2) >> 2);
        bytes.extend(sums.map(|sum| sum.clamp(0, 255) as u8));
        kept = Some((pair.at, rows));
    }
    Picture { width: x.len, height: y.len, bytes }
}
