//! How the units of a step follow the pixels of its result: which units have some pixels, and which pixels of the input some units read.
//!
//! ```text
//!   unit      0       1       2           written by unit 1: pixels 10 … 19
//!   pixels    0 … 9   10 … 19   20 …      read by it, 3×3:   rows of 5 … 24
//! ```
//!
//! Pixels are counted through the whole batch: a batch is a tall picture whose windows stay in theirs. [`strips`](super::strips) asks from
//! the last step back to the first.

use std::ops::Range;

use super::LayerCode;
use super::dense::{DensePlan, LoopOrder};
use super::lanes::{LanesOp, LanesPlan};
use super::sweep::Axis;

/// How the units of a step follow the pixels of its result, and what they read.
#[derive(Debug)]
pub(super) struct Sweep {
    /// The first pixel of each unit, and the end.
    edges: Vec<usize>,
    /// Pixels of a row of the result.
    width: usize,
    /// Pixels of a row of the input.
    input_width: usize,
    /// The vertical axis of a picture; `None` where each pixel needs just its own.
    y: Option<Axis>,
    /// Pixels before its first one that the last unit of a row reads, too; see `MatrixTile::before`.
    lead: usize,
    /// Units of a row.
    in_row: usize,
}

impl Sweep {
    pub fn of(code: &LayerCode) -> Option<Sweep> {
        match code {
            LayerCode::Dense(plan) if plan.order == LoopOrder::Tiles => Some(Sweep::dense(plan)),
            LayerCode::Lanes(plan) if !matches!(plan.op, LanesOp::GlobalPool(_)) => Some(Sweep::lanes(plan)),
            _ => None,
        }
    }

    fn dense(plan: &DensePlan) -> Sweep {
        let width = plan.x.output;
        let tiles = plan.tiles.iter().flat_map(|t| (0..t.count).map(move |i| t.x + i * t.width));
        let row: Vec<usize> = tiles.collect();
        let height = plan.images * plan.y.output;
        let rows = (0..height).flat_map(|y| row.iter().map(move |x| y * width + x));
        let own =
            |axis: &Axis| axis.kernel == 1 && axis.stride == 1 && axis.pad == 0 && axis.input == axis.output;
        Sweep {
            edges: rows.chain([height * width]).collect(),
            width,
            input_width: plan.x.input,
            y: (!own(&plan.y) || !own(&plan.x)).then_some(plan.y),
            lead: plan.tiles.last().map_or(0, |t| plan.matrices(t.width).map_or(0, |m| m.before(t.width))),
            in_row: row.len(),
        }
    }

    fn lanes(plan: &LanesPlan) -> Sweep {
        let width = plan.x.output;
        let blocks = plan.blocks.iter().flat_map(|b| (0..b.count).map(move |i| b.first + i * b.taps.len()));
        let blocks: Vec<usize> = blocks.collect();
        let height = plan.images * plan.y.output;
        let rows = (0..plan.images).flat_map(|image| blocks.iter().map(move |y| image * plan.y.output + y));
        Sweep {
            edges: rows.chain([height]).map(|y| y * width).collect(),
            width,
            input_width: plan.x.input,
            y: Some(plan.y),
            lead: 0,
            in_row: 1,
        }
    }

    pub fn units(&self) -> usize {
        self.edges.len() - 1
    }

    /// The fewest units that have all of some pixels.
    pub fn covering(&self, pixels: &Range<usize>) -> Range<usize> {
        if pixels.is_empty() {
            return 0..0;
        }
        let first = self.edges.partition_point(|&edge| edge <= pixels.start) - 1;
        first..self.edges.partition_point(|&edge| edge < pixels.end)
    }

    /// The pixels of some units.
    pub fn written(&self, units: &Range<usize>) -> Range<usize> {
        self.edges[units.start]..self.edges[units.end]
    }

    /// The pixels of the input that some units read.
    pub fn read(&self, units: &Range<usize>) -> Range<usize> {
        let written = self.written(units);
        if written.is_empty() {
            return written;
        }
        let is_last = (units.start + 1).is_multiple_of(self.in_row);
        let early = written.start - if is_last { self.lead.min(written.start) } else { 0 };
        let Some(y) = self.y else { return early..written.end };
        let rows = written.start / self.width..written.end.div_ceil(self.width);
        // Windows move down with the rows. At the border of a picture they begin with the first tap inside, which with dilation may be a
        // few rows further down for one row than for those behind it: so many rows that have taps tell where all begin, and end.
        let read = |row: usize| {
            let (image, row) = (row / y.output, row % y.output);
            let read = y.taps(row).filter_map(move |tap| usize::try_from(y.position(row, tap)).ok());
            read.map(|at| image * y.input + at).fold(None, |hull: Option<(usize, usize)>, at| {
                Some(hull.map_or((at, at + 1), |(first, end)| (first.min(at), end.max(at + 1))))
            })
        };
        let firsts = rows.clone().filter_map(read).take(y.dilation).map(|(first, _)| first);
        let ends = rows.rev().filter_map(read).take(y.dilation).map(|(_, end)| end);
        let (Some(first), Some(end)) = (firsts.min(), ends.max()) else { return 0..0 };
        first * self.input_width..end * self.input_width
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::lanes::blocks;

    /// Depthwise 3×3 over 12 rows of 5 pixels, in blocks of `block` rows.
    fn depthwise(stride: usize, block: usize) -> Sweep {
        let y = Axis { input: 12, output: 12 / stride, kernel: 3, stride, dilation: 1, pad: 1 };
        let starts = blocks(&y, block);
        let rows = starts.iter().flat_map(|b| (0..b.count).map(move |i| b.first + i * b.taps.len()));
        let width = 5 / stride;
        let edges = rows.chain([y.output]).map(|row| row * width).collect();
        Sweep { edges, width, input_width: 5, y: Some(y), lead: 0, in_row: 1 }
    }

    #[test]
    fn units_cover_what_is_needed_and_no_unit_more() {
        let sweep = depthwise(1, 2);
        assert_eq!(sweep.units(), 6);
        assert_eq!(sweep.covering(&(10..20)), 1..2);
        assert_eq!(sweep.covering(&(9..21)), 0..3);
        assert_eq!(sweep.covering(&(0..60)), 0..6);
        assert_eq!(sweep.covering(&(30..30)), 0..0);
        assert_eq!(sweep.written(&(1..3)), 10..30);
    }

    #[test]
    fn the_last_unit_of_a_row_reads_the_pixels_that_lead_to_it() {
        let edges = vec![0, 26, 52, 62, 88, 114, 124];
        let sweep = Sweep { edges, width: 62, input_width: 62, y: None, lead: 3, in_row: 3 };
        assert_eq!(sweep.read(&(0..1)), 0..26);
        assert_eq!(sweep.read(&(2..3)), 49..62);
        assert_eq!(sweep.read(&(1..4)), 26..88, "what leads to it is read anyway");
        assert_eq!(sweep.read(&(5..6)), 111..124);
    }

    #[test]
    fn what_covers_pixels_has_all_of_them() {
        for (stride, block) in [(1, 1), (1, 2), (1, 5), (2, 1), (2, 4)] {
            let sweep = depthwise(stride, block);
            let pixels = *sweep.edges.last().unwrap();
            for start in 0..pixels {
                for end in start + 1..=pixels {
                    let units = sweep.covering(&(start..end));
                    let written = sweep.written(&units);
                    let all = written.start <= start && end <= written.end;
                    assert!(all, "{start}..{end} is not in {written:?} of units {units:?}");
                    let fewer = [units.start + 1..units.end, units.start..units.end - 1];
                    let enough = fewer.iter().filter(|units| !units.is_empty()).find(|units| {
                        let written = sweep.written(units);
                        written.start <= start && end <= written.end
                    });
                    assert_eq!(enough, None, "{start}..{end}");
                }
            }
        }
    }

    #[test]
    fn windows_reach_beyond_their_rows_but_not_beyond_the_picture() {
        let sweep = depthwise(1, 2);
        assert_eq!(sweep.read(&(0..1)), 0..15, "two rows and one below");
        assert_eq!(sweep.read(&(2..3)), 15..35, "one row above, two, one below");
        assert_eq!(sweep.read(&(5..6)), 45..60, "one row above and two");
        assert_eq!(depthwise(2, 1).read(&(3..4)), 25..40, "rows 5 to 7");
        assert_eq!(sweep.read(&(2..2)), 20..20, "no units read nothing");
    }

    #[test]
    fn windows_of_a_batch_stay_in_their_picture() {
        let one = depthwise(1, 2);
        let edges = [0, 60].iter().flat_map(|image| one.edges.iter().take(6).map(move |edge| image + edge));
        let sweep = Sweep { edges: edges.chain([120]).collect(), ..one };
        assert_eq!(sweep.units(), 12);
        assert_eq!(sweep.read(&(5..6)), 45..60, "the last rows of the first picture");
        assert_eq!(sweep.read(&(6..7)), 60..75, "the first ones of the second");
        assert_eq!(sweep.read(&(8..9)), 75..95, "as in the first picture, one picture further");
        assert_eq!(sweep.read(&(5..7)), 45..75, "across both");
    }

    #[test]
    fn what_is_read_is_what_some_tap_of_some_row_reads() {
        for (kernel, stride, dilation, pad, input) in [
            (3, 1, 3, 3, 4),
            (4, 1, 3, 4, 3),
            (3, 2, 2, 2, 9),
            (2, 1, 5, 4, 3),
            (5, 3, 2, 6, 8),
            (1, 1, 1, 1, 4),
        ] {
            let output = (input + 2 * pad as usize - dilation * (kernel - 1) - 1) / stride + 1;
            let y = Axis { input, output, kernel, stride, dilation, pad };
            let images = 2;
            let edges = (0..=images * output).map(|row| row * 5).collect();
            let sweep = Sweep { edges, width: 5, input_width: 7, y: Some(y), lead: 0, in_row: 1 };
            for start in 0..images * output {
                for end in start + 1..=images * output {
                    let of_row = |row: usize| {
                        let taps = y.taps(row % output);
                        taps.map(move |tap| (row / output * input) as isize + y.position(row % output, tap))
                    };
                    let inside = |at: &isize| (0..(images * input) as isize).contains(at);
                    let read: Vec<isize> = (start..end).flat_map(of_row).filter(inside).collect();
                    let hull = match (read.iter().min(), read.iter().max()) {
                        (Some(&first), Some(&last)) => first as usize * 7..(last as usize + 1) * 7,
                        _ => 0..0,
                    };
                    assert_eq!(sweep.read(&(start..end)), hull, "rows {start}..{end} of {y:?}");
                }
            }
        }
    }
}
