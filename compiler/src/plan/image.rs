//! Images: activations with their channels innermost, and where each channel lives.
//!
//! An image is addressed as `buffer + n·image + y·row + x·pixel + slot(c)` (f32 elements). NHWC is `slot(c) = c`;
//! the caller's NCHW picture is the same form with a pixel pitch of 1 and `slot(c) = c·H·W`. Because the slot is a
//! table and not a formula, concat, split, slice and shuffle along channels are new tables over old bytes:
//!
//! ```text
//!   x1: buffer 3, slots 0 1 2 3        y: buffer 7, slots 0 1 2 3
//!   shuffle(concat(x1, y)):  (3,0) (7,0) (3,1) (7,1) (3,2) (7,2) (3,3) (7,3)
//! ```

use std::collections::BTreeSet;

use super::buffer::BufferId;
use super::pitch::Extent;

/// Where one channel lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// The buffer.
    pub buffer: BufferId,
    /// Elements from the buffer's first pixel.
    pub at: usize,
}

/// An image: its extent, and a slot for each channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Extent without channels.
    pub extent: Extent,
    /// One slot for each channel.
    pub slots: Vec<Slot>,
}

/// Neighbouring slots of one buffer that hold channels of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotRun {
    /// The buffer.
    pub buffer: BufferId,
    /// First slot.
    pub at: usize,
    /// Number of slots.
    pub len: usize,
}

impl Image {
    /// Channels `channels` in the given order, all in one buffer from slot `at` on.
    pub fn contiguous(extent: Extent, channels: usize, buffer: BufferId, at: usize) -> Image {
        Image { extent, slots: (0..channels).map(|c| Slot { buffer, at: at + c }).collect() }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.slots.len()
    }

    /// Buffers that hold channels of it, ascending.
    pub fn buffers(&self) -> Vec<BufferId> {
        let mut buffers: Vec<BufferId> = self.slots.iter().map(|s| s.buffer).collect();
        buffers.sort_unstable();
        buffers.dedup();
        buffers
    }

    /// Buffer, first slot and distance, when the channels lie at equal distances in one buffer.
    pub fn affine(&self) -> Option<(BufferId, usize, usize)> {
        let first = *self.slots.first()?;
        let step = match self.slots.get(1) {
            Some(second) => second.at.checked_sub(first.at)?,
            None => 1,
        };
        let regular = self
            .slots
            .iter()
            .enumerate()
            .all(|(c, s)| s.buffer == first.buffer && s.at == first.at + c * step);
        regular.then_some((first.buffer, first.at, step))
    }

    /// How many slots of it are slots of `other` too, pixel by pixel.
    pub fn slots_in(&self, other: &Image) -> usize {
        let slots = |image: &Image| image.slots.iter().copied().collect::<BTreeSet<Slot>>();
        match self.extent == other.extent {
            true => slots(self).intersection(&slots(other)).count(),
            false => 0,
        }
    }

    /// The slots of all channels as runs in memory order.
    pub fn runs(&self) -> Vec<SlotRun> {
        let mut slots = self.slots.clone();
        slots.sort_unstable();
        slots.dedup();
        runs_of(&slots)
    }
}

/// Splits slots into runs of neighbours, keeping their order.
pub fn runs_of(slots: &[Slot]) -> Vec<SlotRun> {
    let mut runs: Vec<SlotRun> = Vec::new();
    for s in slots {
        match runs.last_mut() {
            Some(r) if r.buffer == s.buffer && r.at + r.len == s.at => r.len += 1,
            _ => runs.push(SlotRun { buffer: s.buffer, at: s.at, len: 1 }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(buffer: u32, at: usize) -> Slot {
        Slot { buffer: BufferId(buffer), at }
    }

    #[test]
    fn shuffled_channels_form_runs_in_memory_order() {
        let extent = Extent { n: 1, h: 2, w: 2 };
        let image = Image { extent, slots: vec![slot(1, 0), slot(2, 4), slot(1, 1), slot(2, 5)] };
        let run = |b, at, len| SlotRun { buffer: BufferId(b), at, len };
        assert_eq!(image.runs(), [run(1, 0, 2), run(2, 4, 2)]);
        assert_eq!(image.affine(), None);
        assert_eq!(image.slots_in(&Image::contiguous(extent, 3, BufferId(1), 1)), 1);
        assert_eq!(Image::contiguous(extent, 3, BufferId(1), 4).affine(), Some((BufferId(1), 4, 1)));
    }
}
