//! Which elements of an image each tap of a sliding window touches.
//!
//! For one tap, the window positions at which it lies inside the image form a box; a row of that box is a run along
//! the last axis. Convolutions and pools loop over taps and runs, so that padding costs nothing and is never seen:
//!
//! ```text
//!   image of 5, kernel 3, pad 1, stride 2        position  0  1  2
//!     tap 0 lies inside at positions 1, 2                  ·  1  3     run { position: 1, element: 1, len: 2 }
//!     tap 1 lies inside at positions 0, 1, 2               0  2  4
//!     tap 2 lies inside at positions 0, 1                  1  3  ·
//! ```

use super::{OpError, Window};

/// Taps that a window may have: more than any image has pixels along two axes, less than what takes minutes.
const MAX_TAPS: usize = 1 << 24;

/// What extents, distances and pads of a window stay below: with much room, sums and products of them and of the
/// extents of images fit 64 bits wherever they are computed with.
const MAX_EXTENT: usize = 1 << 30;

/// Window positions `position`, `position + 1`, … `len` of them, that touch elements `element`, `element + step`, ….
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TapRun {
    pub position: usize,
    pub element: usize,
    pub len: usize,
}

/// The runs of all taps, taps in row-major order.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    taps: Vec<Vec<TapRun>>,
    /// Distance between the elements of a run.
    pub step: usize,
}

impl Windows {
    /// For a window that slides over an image of extents `image` and takes `positions` positions along each axis.
    pub fn new(window: &Window, image: &[usize], positions: &[usize]) -> Windows {
        let step = window.strides.last().copied().unwrap_or(1);
        let taps = Odometer::new(&window.kernel)
            .map(|tap| {
                let ranges: Vec<(usize, usize)> =
                    (0..tap.len()).map(|a| window.inside(a, tap[a], image[a], positions[a])).collect();
                runs(window, &tap, image, positions, &ranges, step)
            })
            .collect();
        Windows { taps, step }
    }

    /// The runs of each tap.
    pub fn taps(&self) -> impl Iterator<Item = &[TapRun]> {
        self.taps.iter().map(Vec::as_slice)
    }
}

fn runs(
    window: &Window,
    tap: &[usize],
    image: &[usize],
    positions: &[usize],
    ranges: &[(usize, usize)],
    step: usize,
) -> Vec<TapRun> {
    let (Some(&(first, end)), Some(outer)) = (ranges.last(), ranges.len().checked_sub(1)) else {
        return vec![TapRun { position: 0, element: 0, len: 1 }];
    };
    let mut runs: Vec<TapRun> = Vec::new();
    if first >= end {
        return runs;
    }
    let extents: Vec<usize> = ranges[..outer].iter().map(|&(lo, hi)| hi.saturating_sub(lo)).collect();
    for index in Odometer::new(&extents) {
        let (mut position, mut element) = (0, 0);
        for axis in 0..=outer {
            let p = if axis < outer { ranges[axis].0 + index[axis] } else { first };
            position = position * positions[axis] + p;
            element = element * image[axis] + window.element(axis, tap[axis], p).unsigned_abs();
        }
        match runs.last_mut() {
            Some(r) if step == 1 && r.position + r.len == position && r.element + r.len == element => {
                r.len += end - first;
            }
            _ => runs.push(TapRun { position, element, len: end - first }),
        }
    }
    runs
}

impl Window {
    /// Checks that there is one entry for each of `rank` axes, that none is zero, and that all are below 2^30.
    pub fn check(&self, rank: usize) -> Result<(), OpError> {
        let lens = [
            ("kernel", self.kernel.len()),
            ("strides", self.strides.len()),
            ("dilations", self.dilations.len()),
            ("pads_begin", self.pads_begin.len()),
            ("pads_end", self.pads_end.len()),
        ];
        for (name, len) in lens {
            if len != rank {
                return Err(OpError::Mismatch(format!(
                    "window has {len} {name} where the image has {rank} spatial axes"
                )));
            }
        }
        for (name, values) in
            [("kernel", &self.kernel), ("strides", &self.strides), ("dilations", &self.dilations)]
        {
            if values.contains(&0) {
                return Err(OpError::Mismatch(format!(
                    "window has {name} {values:?}, expected none to be 0"
                )));
            }
            check_extents(name, values, |&n| n)?;
        }
        for (name, pads) in [("pads_begin", &self.pads_begin), ("pads_end", &self.pads_end)] {
            check_extents(name, pads, |n| n.unsigned_abs())?;
        }
        // A weight of this size is refused for its bytes; a pool has no weight that would bound its window.
        match self.kernel.iter().try_fold(1usize, |n, &k| n.checked_mul(k)) {
            Some(taps) if taps <= MAX_TAPS => Ok(()),
            _ => Err(OpError::Unsupported(format!(
                "a window of kernel {:?}; expected at most {MAX_TAPS} taps",
                self.kernel
            ))),
        }
    }

    /// Elements from the first tap to the last along an axis, both included.
    fn span(&self, axis: usize) -> i128 {
        (self.kernel[axis] as i128 - 1).saturating_mul(self.dilations[axis] as i128).saturating_add(1)
    }

    /// How many positions the window takes along each axis of an image.
    pub fn positions(&self, image: &[usize]) -> Result<Vec<usize>, OpError> {
        self.check(image.len())?;
        image
            .iter()
            .enumerate()
            .map(|(axis, &extent)| {
                let padded =
                    extent as i128 + self.pads_begin[axis] as i128 + self.pads_end[axis] as i128;
                let span = self.span(axis);
                if padded < span {
                    return Err(OpError::Mismatch(format!(
                        "a window that spans {span} elements does not fit into spatial axis {axis} of {padded} \
                         elements, padding included"
                    )));
                }
                usize::try_from((padded - span) / self.strides[axis] as i128 + 1)
                    .map_err(|_| OpError::Overflow)
            })
            .collect()
    }

    /// Extents of the image of which the window takes `positions` positions: what a transposed convolution makes.
    pub(crate) fn image(&self, positions: &[usize], extra: &[usize]) -> Result<Vec<usize>, OpError> {
        self.check(positions.len())?;
        positions
            .iter()
            .enumerate()
            .map(|(axis, &n)| {
                let full = (n as i128 - 1)
                    .checked_mul(self.strides[axis] as i128)
                    .and_then(|v| v.checked_add(self.span(axis)))
                    .ok_or(OpError::Overflow)?
                    + extra[axis] as i128;
                let extent = full - self.pads_begin[axis] as i128 - self.pads_end[axis] as i128;
                if extent < 1 {
                    return Err(OpError::Mismatch(format!(
                        "pads cut all {full} elements off spatial axis {axis} of the result"
                    )));
                }
                usize::try_from(extent).map_err(|_| OpError::Overflow)
            })
            .collect()
    }

    /// The element of an axis that a tap touches at a position; outside the image when it lies in the padding.
    pub(crate) fn element(&self, axis: usize, tap: usize, position: usize) -> isize {
        let element = (position as i128 * self.strides[axis] as i128)
            .saturating_add(tap as i128 * self.dilations[axis] as i128)
            .saturating_sub(self.pads_begin[axis] as i128);
        isize::try_from(element).unwrap_or(isize::MAX)
    }

    /// The positions of an axis at which a tap touches elements `0..extent`, as a half-open range.
    fn inside(&self, axis: usize, tap: usize, extent: usize, positions: usize) -> (usize, usize) {
        let stride = self.strides[axis] as i128;
        let shift = self.pads_begin[axis] as i128 - tap as i128 * self.dilations[axis] as i128;
        let first = (shift + stride - 1).div_euclid(stride).max(0);
        let end = ((extent as i128 - 1 + shift).div_euclid(stride) + 1).min(positions as i128);
        if first < end { (first as usize, end as usize) } else { (0, 0) }
    }
}

fn check_extents<T: std::fmt::Debug>(
    name: &str,
    values: &[T],
    extent: impl Fn(&T) -> usize,
) -> Result<(), OpError> {
    if values.iter().all(|v| extent(v) < MAX_EXTENT) {
        return Ok(());
    }
    Err(OpError::Unsupported(format!("a window with {name} {values:?}; expected numbers below 2^30")))
}

/// All index tuples below `extents`, the last index fastest.
pub(crate) struct Odometer<'a> {
    extents: &'a [usize],
    next: Option<Vec<usize>>,
}

impl<'a> Odometer<'a> {
    pub fn new(extents: &'a [usize]) -> Odometer<'a> {
        let next = if extents.contains(&0) { None } else { Some(vec![0; extents.len()]) };
        Odometer { extents, next }
    }
}

impl Iterator for Odometer<'_> {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let current = self.next.take()?;
        let mut index = current.clone();
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < self.extents[axis] {
                self.next = Some(index);
                break;
            }
            index[axis] = 0;
        }
        Some(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: usize, stride: usize, dilation: usize, pads: [isize; 2]) -> Window {
        Window {
            kernel: vec![kernel],
            strides: vec![stride],
            dilations: vec![dilation],
            pads_begin: vec![pads[0]],
            pads_end: vec![pads[1]],
        }
    }

    #[test]
    fn a_window_of_numbers_that_arithmetic_would_not_hold_is_refused() {
        assert_eq!(window(3, 1, 2, [2, 2]).positions(&[9]), Ok(vec![9]));
        let most = MAX_EXTENT - 1;
        assert!(window(2, most, most, [most as isize, most as isize]).check(1).is_ok());
        let pad = MAX_EXTENT as isize;
        for (huge, what) in [
            (window(3, 1, 1 << 62, [1 << 62, 1 << 62]), "dilations [4611686018427387904]"),
            (window(1, MAX_EXTENT, 1, [0, 0]), "strides [1073741824]"),
            (window(1, 1, 1, [pad, 0]), "pads_begin [1073741824]"),
            (window(1, 1, 1, [0, -pad]), "pads_end [-1073741824]"),
        ] {
            let error = huge.positions(&[9]).unwrap_err().to_string();
            assert!(error.contains(&format!("{what}; expected numbers below 2^30")), "{error}");
        }
    }

    #[test]
    fn an_element_that_no_image_has_lies_behind_all() {
        let far = window(1, MAX_EXTENT - 1, 1, [0, 0]);
        assert_eq!(far.element(0, 0, usize::MAX), isize::MAX);
        assert_eq!(window(1, 1, 1, [7, 0]).element(0, 0, 3), -4);
    }

    #[test]
    fn rows_are_one_run_only_where_their_elements_follow_each_other() {
        let runs = |stride: usize, pads: isize| {
            let window = Window {
                kernel: vec![1, 1],
                strides: vec![1, stride],
                dilations: vec![1, 1],
                pads_begin: vec![0, pads],
                pads_end: vec![0, pads],
            };
            let image = [3, 1];
            let windows = Windows::new(&window, &image, &window.positions(&image).unwrap());
            windows.taps().next().unwrap().iter().map(|run| run.len).collect::<Vec<_>>()
        };
        assert_eq!(runs(1, 0), [3]);
        assert_eq!(runs(2, 0), [1, 1, 1], "steps of two");
        assert_eq!(runs(1, 1), [1, 1, 1], "padding between them");
    }
}
