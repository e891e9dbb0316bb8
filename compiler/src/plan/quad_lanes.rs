//! Lanes of four bytes that lie side by side: what takes the larger of two bytes does so with four at once.
//!
//! ```text
//!   bytes     a b c d e f g h i j .  .       runs of slots, pitches in bytes
//!   quads     |  0  | |  1  | |  2  |        the same memory as a third of the slots, of the size of an f32
//! ```
//!
//! What fills up the last quad is padding, which a result has as well.

use std::collections::BTreeMap;

use super::image::{Slot, SlotRun};
use super::packing::QUAD;
use super::pitch::Pitch;
use crate::code::float::Float;

/// Where a layer with channels in lanes reads and writes.
pub(super) struct LaneSlots {
    /// What it reads.
    pub runs: Vec<SlotRun>,
    /// Where the result of each slot goes.
    pub target: BTreeMap<Slot, usize>,
    /// Of the buffers that are read.
    pub pitches: Vec<Pitch>,
    /// Of what is written.
    pub output: Pitch,
}

impl LaneSlots {
    /// The same in quads; `None` where these are no bytes, or lie otherwise. `exact` says that nothing may be written behind a run.
    pub fn in_quads(&self, exact: bool) -> Option<LaneSlots> {
        let pitch = |pitch: &Pitch| {
            let all = [pitch.pixel, pitch.row, pitch.image];
            let whole = pitch.float == Float::U8 && all.iter().all(|elems| elems.is_multiple_of(QUAD));
            let [pixel, row, image] = all.map(|elems| elems / QUAD);
            whole.then_some(Pitch { float: Float::F32, pixel, row, image })
        };
        let mut target = BTreeMap::new();
        let mut runs = Vec::new();
        for run in &self.runs {
            let padding = run.len.next_multiple_of(QUAD) - run.len;
            let quads = (run.len + padding) / QUAD;
            // Of a transposed image, rows may be nearer to each other than pixels.
            let has_room = |p: &Pitch| p.image.min(p.row).min(p.pixel) >= run.at + run.len + padding;
            if padding > 0 && (exact || !self.pitches.iter().all(has_room)) {
                return None;
            }
            let first = Slot { buffer: run.buffer, at: run.at };
            let to = *self.target.get(&first)?;
            if !run.at.is_multiple_of(QUAD) || !to.is_multiple_of(QUAD) {
                return None;
            }
            let last = Slot { at: run.at + run.len - 1, ..first };
            if self.target.get(&last) != Some(&(to + run.len - 1)) {
                return None;
            }
            for quad in 0..quads {
                target.insert(Slot { at: run.at / QUAD + quad, ..first }, to / QUAD + quad);
            }
            runs.push(SlotRun { buffer: run.buffer, at: run.at / QUAD, len: quads });
        }
        let pitches = self.pitches.iter().map(pitch).collect::<Option<_>>()?;
        Some(LaneSlots { runs, target, pitches, output: pitch(&self.output)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::buffer::BufferId;

    fn slots(runs: &[(usize, usize, usize)], pixel: usize) -> LaneSlots {
        let buffer = BufferId(0);
        let pitch = Pitch { float: Float::U8, pixel, row: 8 * pixel, image: 64 * pixel };
        let moved = |&(at, len, to): &(usize, usize, usize)| {
            (0..len).map(move |i| (Slot { buffer, at: at + i }, to + i))
        };
        LaneSlots {
            runs: runs.iter().map(|&(at, len, _)| SlotRun { buffer, at, len }).collect(),
            target: runs.iter().flat_map(moved).collect(),
            pitches: vec![pitch],
            output: pitch,
        }
    }

    #[test]
    fn runs_of_bytes_become_a_quarter_of_the_slots() {
        let quads = slots(&[(8, 11, 0), (20, 8, 12)], 28).in_quads(false).unwrap();
        assert_eq!(quads.runs.iter().map(|run| (run.at, run.len)).collect::<Vec<_>>(), [(2, 3), (5, 2)]);
        assert_eq!(quads.target.values().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!((quads.output.float, quads.output.pixel, quads.output.row), (Float::F32, 7, 56));
    }

    #[test]
    fn what_is_no_whole_quads_is_left() {
        assert!(slots(&[(0, 11, 0)], 12).in_quads(true).is_none(), "nothing may be written behind");
        assert!(slots(&[(2, 8, 0)], 12).in_quads(false).is_none());
        assert!(slots(&[(0, 8, 3)], 12).in_quads(false).is_none());
        assert!(slots(&[(0, 8, 0)], 11).in_quads(false).is_none());
        let mut floats = slots(&[(0, 8, 0)], 8);
        floats.output.float = Float::F32;
        assert!(floats.in_quads(false).is_none());
    }
}
