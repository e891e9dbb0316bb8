//! How a windowed layer walks over its output: rows, and runs of pixels in a row.
//!
//! No halo is stored. A tile is a run of pixels of one output row; for each tap of the window the tile knows which of its
//! pixels have that tap inside the picture. Taps of rows that fall outside are left out by starting later and
//! counting fewer rows:
//!
//! ```text
//!   3×3, pad 1, 7 columns in tiles of 4 and 3:    tap −1: pixels 1..4   0..3
//!                                                 tap  0: pixels 0..4   0..3
//!                                                 tap +1: pixels 0..4   0..2
//! ```

use std::ops::Range;

use super::pieces::pieces;
use crate::code::float::Float;

/// Distances in bytes, and what lies there: the one place where elements become bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BytePitch {
    /// The elements.
    pub float: Float,
    /// Between columns.
    pub pixel: i64,
    /// Between rows.
    pub row: i64,
    /// Between pictures.
    pub image: i64,
}

impl From<super::pitch::Pitch> for BytePitch {
    fn from(p: super::pitch::Pitch) -> BytePitch {
        let [pixel, row, image] = [p.pixel, p.row, p.image].map(|elems| p.bytes(elems));
        BytePitch { float: p.float, pixel, row, image }
    }
}

/// One spatial axis of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axis {
    /// Extent of the input.
    pub input: usize,
    /// Extent of the output.
    pub output: usize,
    /// Taps.
    pub kernel: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Distance between taps.
    pub dilation: usize,
    /// Padding before the first element; negative where the window starts inside.
    pub pad: isize,
}

impl Axis {
    /// An axis of `n` elements with a window of one.
    pub fn point(n: usize) -> Axis {
        Axis { input: n, output: n, kernel: 1, stride: 1, dilation: 1, pad: 0 }
    }

    /// Input position of a tap; outside when negative or not below `input`.
    pub fn position(&self, output: usize, tap: usize) -> isize {
        (output * self.stride + tap * self.dilation) as isize - self.pad
    }

    /// Which taps lie inside for one output.
    pub fn taps(&self, output: usize) -> Range<usize> {
        inside(self.position(output, 0), self.dilation, self.kernel, self.input)
    }

    /// Which of the outputs from `first` on have a tap inside, of so many.
    fn outputs(&self, first: usize, count: usize, tap: usize) -> Range<usize> {
        inside(self.position(first, tap), self.stride, count, self.input)
    }

    /// How many positions of the input some window reads.
    pub fn positions_read(&self) -> usize {
        let dense = self.dilation == 1 || self.kernel == 1;
        if dense && self.stride > self.kernel {
            // Windows that have nothing in common.
            return (0..self.output).map(|output| self.taps(output).len()).sum();
        }
        if dense {
            let all =
                self.output.saturating_sub(1) * self.stride + self.kernel.min(self.output * self.kernel);
            return inside(-self.pad, 1, all, self.input).len();
        }
        let mut read = vec![false; self.input];
        for output in 0..self.output {
            for tap in self.taps(output) {
                if let Some(read) =
                    usize::try_from(self.position(output, tap)).ok().and_then(|p| read.get_mut(p))
                {
                    *read = true;
                }
            }
        }
        read.iter().filter(|&&read| read).count()
    }

    /// How many of the taps some window has inside.
    pub fn taps_used(&self) -> usize {
        (0..self.kernel).filter(|&tap| !self.outputs(0, self.output, tap).is_empty()).count()
    }

    /// Whether every window has a tap inside.
    pub fn always_touches(&self) -> bool {
        (0..self.output).all(|o| !self.taps(o).is_empty())
    }
}

/// Which of `count` positions, `step` apart from `first` on, are below `extent` and not negative.
fn inside(first: isize, step: usize, count: usize, extent: usize) -> Range<usize> {
    // How many of them are below a position.
    let below = |position: isize| {
        let distance = usize::try_from(position - first).unwrap_or(0);
        distance.div_ceil(step.max(1)).min(count)
    };
    match below(0)..below(extent as isize) {
        range if range.is_empty() => 0..0,
        range => range,
    }
}

/// Equal tiles at equal distances in one row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct XTiles {
    /// First output column.
    pub x: usize,
    /// Number of tiles.
    pub count: usize,
    /// Columns of each.
    pub width: usize,
    /// For each tap, which columns of a tile have it inside.
    pub taps: Vec<Range<usize>>,
}

/// Cuts a row into tiles of at most `widest` columns, equal ones as far as possible, and groups neighbours that are alike.
pub fn x_tiles(axis: &Axis, widest: usize) -> Vec<XTiles> {
    let mut groups: Vec<XTiles> = Vec::new();
    for tile in pieces(axis.output, widest) {
        let taps = (0..axis.kernel).map(|tap| axis.outputs(tile.start, tile.len(), tap));
        match groups.last_mut() {
            Some(g) if g.width == tile.len() && taps.clone().eq(g.taps.iter().cloned()) => g.count += 1,
            _ => groups.push(XTiles { x: tile.start, count: 1, width: tile.len(), taps: taps.collect() }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn border_tiles_say_which_columns_have_a_tap_inside() {
        let axis = Axis { input: 7, output: 7, kernel: 3, stride: 1, dilation: 1, pad: 1 };
        let tiles = x_tiles(&axis, 4);
        assert_eq!(tiles[0], XTiles { x: 0, count: 1, width: 4, taps: vec![1..4, 0..4, 0..4] });
        assert_eq!(tiles[1], XTiles { x: 4, count: 1, width: 3, taps: vec![0..3, 0..3, 0..2] });
    }

    #[test]
    fn interior_tiles_are_one_group() {
        let axis = Axis { input: 56, output: 56, kernel: 3, stride: 1, dilation: 1, pad: 1 };
        let counts: Vec<usize> = x_tiles(&axis, 8).iter().map(|t| t.count).collect();
        assert_eq!(counts, [1, 5, 1]);
    }

    #[test]
    fn tiles_cover_the_row_once() {
        for (output, widest) in [(1, 8), (49, 14), (55, 14), (13, 16), (112, 6)] {
            let tiles = x_tiles(&Axis::point(output), widest);
            let mut next = 0;
            for t in &tiles {
                assert_eq!(t.x, next);
                assert!(t.width <= widest);
                next += t.count * t.width;
            }
            assert_eq!(next, output);
        }
    }

    #[test]
    fn what_no_window_reaches_is_not_read() {
        let axis = Axis { input: 8, output: 3, kernel: 2, stride: 3, dilation: 1, pad: 0 };
        assert_eq!((axis.positions_read(), axis.taps_used()), (6, 2), "0 1, 3 4, 6 7");
        let axis = Axis { input: 1, output: 1, kernel: 3, stride: 1, dilation: 1, pad: 1 };
        assert_eq!(
            (axis.positions_read(), axis.taps_used()),
            (1, 1),
            "only the tap in the middle lies inside"
        );
    }

    #[test]
    fn what_is_inside_is_what_a_look_at_each_position_finds() {
        for (input, output, kernel, stride) in (0..4).flat_map(|i| {
            (0..4).flat_map(move |o| (1..4).flat_map(move |k| (1..5).map(move |s| (3 * i, o, k, s))))
        }) {
            for (dilation, pad) in (1..4).flat_map(|dilation| (-3..6).map(move |pad| (dilation, pad))) {
                let axis = Axis { input, output, kernel, stride, dilation, pad };
                let is_inside = |o: usize, t: usize| (0..input as isize).contains(&axis.position(o, t));
                let mut read = std::collections::BTreeSet::new();
                let mut used = std::collections::BTreeSet::new();
                for o in 0..output {
                    let taps: Vec<usize> = (0..kernel).filter(|&t| is_inside(o, t)).collect();
                    assert_eq!(axis.taps(o).collect::<Vec<_>>(), taps, "{axis:?}");
                    read.extend(taps.iter().map(|&t| axis.position(o, t)));
                    used.extend(taps);
                }
                assert_eq!((axis.positions_read(), axis.taps_used()), (read.len(), used.len()), "{axis:?}");
                for tiles in x_tiles(&axis, 2) {
                    for (tile, (t, columns)) in (0..tiles.count)
                        .flat_map(|n| tiles.taps.iter().enumerate().map(move |taps| (n, taps)))
                    {
                        let first = tiles.x + tile * tiles.width;
                        let seen: Vec<usize> =
                            (0..tiles.width).filter(|column| is_inside(first + column, t)).collect();
                        assert_eq!(columns.clone().collect::<Vec<_>>(), seen, "{axis:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_negative_pad_starts_inside() {
        let axis = Axis { input: 4, output: 2, kernel: 1, stride: 2, dilation: 1, pad: -1 };
        assert_eq!((axis.position(0, 0), axis.position(1, 0)), (1, 3));
        assert!(axis.always_touches());
    }
}
