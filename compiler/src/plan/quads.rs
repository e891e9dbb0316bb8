//! How the channels of a group are read by quads: four bytes side by side, of which those that are no channel of it are multiplied by 0.
//!
//! ```text
//!   slots    4 5 6 7 8 9 · · 12 · 14        · others' bytes
//!   quads    └─────┘ └─────┘ └──────┘        one run of three quads: holes at 10, 11, 13 and 15
//! ```
//!
//! A quad more costs a product for each vector of outputs; a copy that brings channels together costs a read and a write of each of its runs,
//! and a step.

use super::image::{Slot, SlotRun};
use super::packing::{HOLE, QUAD};

/// Quads that hold the channels of a group.
pub(super) struct Quads {
    /// Runs of quads, in memory order; the length of each counts quads.
    pub runs: Vec<SlotRun>,
    /// For each byte of all quads, the channel of the group, or a [`HOLE`].
    pub order: Vec<usize>,
}

impl Quads {
    /// The quads of channels that lie in `slots`, in pixels of so many bytes; `None` where one would reach beyond its pixel.
    pub fn of(slots: &[Slot], pixel: usize) -> Option<Quads> {
        let mut channels: Vec<usize> = (0..slots.len()).collect();
        channels.sort_by_key(|&c| slots[c]);
        let mut quads = Quads { runs: Vec::new(), order: Vec::new() };
        for channel in channels {
            let slot = slots[channel];
            let lane = quads.lane(slot).or_else(|| quads.add(slot, pixel))?;
            quads.order[lane] = channel;
        }
        Some(quads)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.order.len() / QUAD
    }

    /// The byte of the last run that a slot is, if no channel has it.
    fn lane(&self, slot: Slot) -> Option<usize> {
        let run = self.runs.last().filter(|run| run.buffer == slot.buffer)?;
        let first = self.order.len() - run.len * QUAD;
        let lane = first + slot.at.checked_sub(run.at)?;
        (self.order.get(lane) == Some(&HOLE)).then_some(lane)
    }

    /// A quad more, from a slot on or behind the last one, and the byte of it that the slot is.
    fn add(&mut self, slot: Slot, pixel: usize) -> Option<usize> {
        let lane = self.order.len();
        self.order.extend([HOLE; QUAD]);
        match self.runs.last_mut() {
            Some(run)
                if run.buffer == slot.buffer
                    && run.at + run.len * QUAD == slot.at
                    && slot.at + QUAD <= pixel =>
            {
                run.len += 1;
                Some(lane)
            }
            _ => {
                // The last one of a pixel begins before it.
                let at = slot.at.min(pixel.checked_sub(QUAD)?);
                self.runs.push(SlotRun { buffer: slot.buffer, at, len: 1 });
                Some(lane + slot.at.checked_sub(at).filter(|&lane| lane < QUAD)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::buffer::BufferId;

    fn slots(of: &[(u32, usize)]) -> Vec<Slot> {
        of.iter().map(|&(buffer, at)| Slot { buffer: BufferId(buffer), at }).collect()
    }

    fn runs(of: &[(u32, usize, usize)]) -> Vec<SlotRun> {
        of.iter().map(|&(buffer, at, len)| SlotRun { buffer: BufferId(buffer), at, len }).collect()
    }

    #[test]
    fn channels_side_by_side_fill_their_quads() {
        let quads = Quads::of(&slots(&[(1, 3), (1, 4), (1, 5), (1, 6), (1, 7)]), 12).unwrap();
        assert_eq!(quads.runs, runs(&[(1, 3, 2)]));
        assert_eq!(quads.order, [0, 1, 2, 3, 4, HOLE, HOLE, HOLE]);
        assert_eq!(quads.count(), 2);
    }

    #[test]
    fn bytes_of_others_are_holes() {
        let quads = Quads::of(&slots(&[(2, 9), (1, 6), (1, 4), (2, 0), (1, 9)]), 16).unwrap();
        assert_eq!(quads.runs, runs(&[(1, 4, 1), (1, 9, 1), (2, 0, 1), (2, 9, 1)]));
        let hole = HOLE;
        let order = [2, hole, 1, hole, 4, hole, hole, hole, 3, hole, hole, hole, 0, hole, hole, hole];
        assert_eq!(quads.order, order);
    }

    #[test]
    fn the_last_quad_of_a_pixel_begins_before_its_channel() {
        let quads = Quads::of(&slots(&[(1, 10), (1, 11)]), 12).unwrap();
        assert_eq!(quads.runs, runs(&[(1, 8, 1)]));
        assert_eq!(quads.order, [HOLE, HOLE, 0, 1]);
        let quads =
            Quads::of(&slots(&[(1, 5), (1, 6), (1, 7), (1, 8), (1, 9), (1, 10), (1, 11)]), 12).unwrap();
        assert_eq!(quads.runs, runs(&[(1, 5, 1), (1, 8, 1)]));
        assert!(Quads::of(&slots(&[(1, 0)]), 3).is_none());
    }

    #[test]
    fn a_channel_that_is_there_twice_is_read_twice() {
        let quads = Quads::of(&slots(&[(1, 0), (1, 0)]), 4).unwrap();
        assert_eq!(quads.runs, runs(&[(1, 0, 1), (1, 0, 1)]));
        assert_eq!(quads.order, [0, HOLE, HOLE, HOLE, 1, HOLE, HOLE, HOLE]);
    }
}
