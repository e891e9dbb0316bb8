//! Offsets for very many buffers, in one walk over the steps.
//!
//! First fit over several orders looks at each pair of buffers. A graph of a hundred thousand nodes has too many pairs, so
//! there buffers are placed in the order of their lives, as linear-scan register allocators do (M. Poletto and V. Sarkar,
//! 1999): what has ended leaves a gap, neighbouring gaps become one, and a new buffer takes the smallest gap that holds it.
//!
//! ```text
//!   step 0   [ a ][   b   ]
//!   step 1   [gap][   b   ][ c ]        a has ended
//!   step 2   [ d ][  gap      ]         b and c have; their gaps are one
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::arena::{Arena, Lifetime};

/// Gaps between buffers, by place and by size.
#[derive(Default)]
struct Gaps {
    /// End of each gap, by its start.
    ends: BTreeMap<u64, u64>,
    /// Size and start of each.
    sizes: BTreeSet<(u64, u64)>,
}

impl Gaps {
    fn add(&mut self, mut start: u64, mut end: u64) {
        let before = self.ends.range(..start).next_back().map(|(&s, &e)| (s, e));
        let after = self.ends.get(&end).map(|&e| (end, e));
        if let Some((s, e)) = before.filter(|(_, e)| *e == start) {
            self.remove(s, e);
            start = s;
        }
        if let Some((s, e)) = after {
            self.remove(s, e);
            end = e;
        }
        if start < end {
            self.ends.insert(start, end);
            self.sizes.insert((end - start, start));
        }
    }

    fn remove(&mut self, start: u64, end: u64) {
        self.ends.remove(&start);
        self.sizes.remove(&(end - start, start));
    }

    /// The start of the smallest gap that holds so many bytes; what is left of it stays a gap.
    fn take(&mut self, bytes: u64) -> Option<u64> {
        let &(size, start) = self.sizes.range((bytes, 0)..).next()?;
        self.remove(start, start + size);
        self.add(start + bytes, start + size);
        Some(start)
    }

    /// The gap that ends here.
    fn at_end(&self, end: u64) -> Option<u64> {
        self.ends.last_key_value().filter(|(_, e)| **e == end).map(|(&start, _)| start)
    }
}

/// Gives every buffer its offset.
pub(super) fn place(buffers: &[Lifetime]) -> Arena {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    // Of those that begin together, large ones first: small ones fit into what is left.
    order.sort_by_key(|&i| (buffers[i].first, std::cmp::Reverse(buffers[i].size()), i));
    let mut arena = Arena { offsets: vec![0; buffers.len()], bytes: 0 };
    let mut gaps = Gaps::default();
    // Last step and number of each buffer that is alive.
    let mut alive: BTreeSet<(usize, usize)> = BTreeSet::new();
    for index in order {
        let buffer = &buffers[index];
        while let Some((last, ended)) = alive.first().copied().filter(|(last, _)| *last < buffer.first) {
            alive.remove(&(last, ended));
            gaps.add(arena.offsets[ended], arena.offsets[ended] + buffers[ended].size());
        }
        let offset = gaps.take(buffer.size()).unwrap_or_else(|| {
            let start = gaps.at_end(arena.bytes).unwrap_or(arena.bytes);
            gaps.remove(start, arena.bytes);
            start
        });
        arena.offsets[index] = offset;
        arena.bytes = arena.bytes.max(offset + buffer.size());
        alive.insert((buffer.last, index));
    }
    arena
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn life(bytes: u64, first: usize, last: usize) -> Lifetime {
        Lifetime { bytes, first, last }
    }

    #[test]
    fn a_chain_of_any_length_needs_two_buffers() {
        let chain: Vec<Lifetime> = (0..200_000).map(|i| life(640, i, i + 1)).collect();
        assert_eq!(place(&chain).bytes, 1280);
    }

    #[test]
    fn gaps_of_neighbours_become_one_and_the_last_one_grows() {
        let arena = place(&[life(64, 0, 0), life(64, 0, 0), life(128, 1, 1), life(256, 2, 2)]);
        assert_eq!((arena.offsets[2], arena.offsets[3], arena.bytes), (0, 0, 256));
    }

    proptest! {
        #[test]
        fn buffers_alive_together_never_overlap(
            raw in prop::collection::vec((1u64..5000, 0usize..40, 0usize..10), 0..60)
        ) {
            let buffers: Vec<Lifetime> = raw.iter().map(|&(b, f, l)| life(b, f, f + l)).collect();
            let arena = place(&buffers);
            prop_assert!(arena.bytes >= super::super::memory::peak(&buffers));
            for (i, a) in buffers.iter().enumerate() {
                prop_assert_eq!(arena.offsets[i] % 64, 0);
                prop_assert!(arena.offsets[i] + a.bytes <= arena.bytes);
                for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                    let apart = arena.offsets[i] + a.bytes <= arena.offsets[j]
                        || arena.offsets[j] + b.bytes <= arena.offsets[i];
                    let meet = a.first <= b.last && b.first <= a.last;
                    prop_assert!(apart || !meet, "buffers {} and {} overlap", i, j);
                }
            }
        }
    }
}
