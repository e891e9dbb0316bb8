//! Lifetimes to offsets: every buffer gets its place in one arena.
//!
//! A buffer lives from the first step that writes it to the last that reads it, both included. Two buffers may share
//! bytes only if their lives do not meet:
//!
//! ```text
//!   offset
//!     ▲   ┌── b ──┐   ┌── d ──┐
//!     │   └───────┘   └───────┘
//!     │ ┌──── a ────┐ ┌── c ──┐
//!     └─┴───────────┴─┴───────┴─▶ step
//! ```
//!
//! Finding the smallest arena is NP-hard. First fit over a handful of orders, keeping the best, comes within a few
//! percent of the lower bound (the largest sum of what is alive at one step) on the networks that nnc is made for.

use std::collections::{BTreeMap, BTreeSet};

use super::arena::{Arena, Lifetime};
use super::linear_scan;

/// The largest sum of bytes that are alive at one step: no arena can be smaller.
pub fn peak(buffers: &[Lifetime]) -> u64 {
    let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
    let mut change = vec![0i128; steps + 1];
    for b in buffers {
        change[b.first] += i128::from(b.size());
        change[b.last + 1] -= i128::from(b.size());
    }
    let mut alive = 0i128;
    change
        .iter()
        .map(|c| {
            alive += c;
            alive
        })
        .max()
        .unwrap_or(0)
        .max(0) as u64
}

/// Two buffers that are alive at the same step and share bytes, or one that lies outside of the arena: none, unless the allocator
/// is wrong. It is asked of every plan. Buffers are taken in the order of their lives; each needs to be compared only with its
/// neighbours among those alive, which share nothing with each other.
pub fn overlap(buffers: &[Lifetime], arena: &Arena) -> Option<(usize, usize)> {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| buffers[i].first);
    // By offset, and by the last step.
    let mut alive: BTreeMap<u64, usize> = BTreeMap::new();
    let mut ends: BTreeSet<(usize, usize)> = BTreeSet::new();
    for index in order {
        let Lifetime { bytes, first, last } = buffers[index];
        let Some(&start) = arena.offsets.get(index) else { return Some((index, index)) };
        let Some(end) = start.checked_add(bytes).filter(|end| *end <= arena.bytes) else {
            return Some((index, index));
        };
        if start == end {
            continue;
        }
        while let Some((ended, over)) = ends.first().copied().filter(|(ended, _)| *ended < first) {
            ends.remove(&(ended, over));
            alive.remove(&arena.offsets[over]);
        }
        let reaches = |&other: &usize| arena.offsets[other] + buffers[other].bytes > start;
        let before = alive.range(..=start).next_back().map(|(_, other)| *other).filter(reaches);
        let behind = alive.range(start..end).next().map(|(_, other)| *other);
        if let Some(other) = before.or(behind) {
            return Some((other, index));
        }
        alive.insert(start, index);
        ends.insert((last, index));
    }
    None
}

/// Buffers up to which every pair is looked at. The largest networks have less than half as many.
const MANY: usize = 4000;

/// Gives every buffer its offset.
pub fn allocate(buffers: &[Lifetime]) -> Arena {
    if buffers.len() > MANY {
        return linear_scan::place(buffers);
    }
    let bound = peak(buffers);
    let mut best: Option<Arena> = None;
    for order in orders(buffers) {
        let arena = first_fit(buffers, &order);
        if best.as_ref().is_none_or(|b| arena.bytes < b.bytes) {
            best = Some(arena);
        }
        if best.as_ref().is_some_and(|b| b.bytes == bound) {
            break;
        }
    }
    best.unwrap_or_default()
}

/// Orders that are worth trying: the one that wins differs from network to network.
fn orders(buffers: &[Lifetime]) -> Vec<Vec<usize>> {
    let sorted = |key: &dyn Fn(&Lifetime) -> (std::cmp::Reverse<u64>, usize)| {
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&i| (key(&buffers[i]), i));
        order
    };
    use std::cmp::Reverse;
    let life = |b: &Lifetime| (b.last - b.first + 1) as u64;
    vec![
        sorted(&|b| (Reverse(b.size()), b.first)),
        sorted(&|b| (Reverse(b.size().saturating_mul(life(b))), b.first)),
        sorted(&|b| (Reverse(life(b)), b.first)),
        sorted(&|b| (Reverse(0), b.first)),
        sorted(&|b| (Reverse(b.last as u64), b.first)),
    ]
}

fn first_fit(buffers: &[Lifetime], order: &[usize]) -> Arena {
    let mut offsets = vec![0u64; buffers.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(buffers.len());
    let mut bytes = 0;
    for &i in order {
        let buffer = &buffers[i];
        let mut taken: Vec<(u64, u64)> = placed
            .iter()
            .filter(|&&p| buffers[p].meets(buffer))
            .map(|&p| (offsets[p], offsets[p] + buffers[p].size()))
            .collect();
        taken.sort_unstable();
        // The smallest gap that holds it, so that large gaps stay for large buffers.
        let (mut end, mut choice) = (0u64, None::<(u64, u64)>);
        for &(from, to) in &taken {
            if from > end && from - end >= buffer.size() {
                let gap = from - end;
                if choice.is_none_or(|(size, _)| gap < size) {
                    choice = Some((gap, end));
                }
            }
            end = end.max(to);
        }
        let offset = choice.map_or(end, |(_, at)| at);
        offsets[i] = offset;
        bytes = bytes.max(offset + buffer.size());
        placed.push(i);
    }
    Arena { offsets, bytes }
}

#[cfg(test)]
mod tests {
    use super::super::arena::ALIGN;
    use super::*;
    use proptest::prelude::*;

    fn life(bytes: u64, first: usize, last: usize) -> Lifetime {
        Lifetime { bytes, first, last }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let chain: Vec<Lifetime> = (0..10).map(|i| life(640, i, i + 1)).collect();
        assert_eq!(allocate(&chain).bytes, 1280);
    }

    #[test]
    fn a_buffer_takes_the_smallest_gap_that_holds_it() {
        let arena = allocate(&[life(1024, 0, 1), life(64, 0, 4), life(512, 2, 4), life(512, 2, 4)]);
        assert_eq!(arena.bytes, 1088);
    }

    #[test]
    fn an_overlap_is_found() {
        let buffers = [life(100, 0, 2), life(100, 1, 3), life(100, 3, 4)];
        let placed = |offsets: [u64; 3], bytes| Arena { offsets: offsets.to_vec(), bytes };
        assert_eq!(overlap(&buffers, &placed([0, 100, 0], 200)), None);
        assert_eq!(overlap(&buffers, &placed([0, 99, 0], 200)), Some((0, 1)), "one byte");
        assert_eq!(overlap(&buffers, &placed([100, 1, 200], 300)), Some((0, 1)), "from below");
        assert_eq!(overlap(&buffers, &placed([0, 100, 150], 250)), Some((1, 2)), "at one step");
        assert_eq!(overlap(&buffers, &placed([0, 101, 0], 200)), Some((1, 1)), "outside");
        assert_eq!(overlap(&buffers, &placed([0, u64::MAX, 0], u64::MAX)), Some((1, 1)));
    }

    proptest! {
        #[test]
        fn what_is_found_to_overlap_is_what_overlaps(
            raw in prop::collection::vec((0u64..200, 0usize..12, 0usize..4, 0u64..1000), 0..12)
        ) {
            let buffers: Vec<Lifetime> = raw.iter().map(|&(b, f, l, _)| life(b, f, f + l)).collect();
            let offsets: Vec<u64> = raw.iter().map(|&(.., at)| at).collect();
            let pairs = (0..raw.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
            let share = |(i, j): (usize, usize)| {
                buffers[i].meets(&buffers[j])
                    && offsets[i].max(offsets[j])
                        < (offsets[i] + buffers[i].bytes).min(offsets[j] + buffers[j].bytes)
            };
            let expected = pairs.into_iter().any(share);
            prop_assert_eq!(overlap(&buffers, &Arena { offsets, bytes: 2000 }).is_some(), expected);
        }

        #[test]
        fn buffers_alive_together_never_overlap(
            raw in prop::collection::vec((1u64..5000, 0usize..40, 0usize..10), 0..60)
        ) {
            let buffers: Vec<Lifetime> = raw.iter().map(|&(b, f, l)| life(b, f, f + l)).collect();
            let arena = allocate(&buffers);
            prop_assert!(arena.bytes >= peak(&buffers));
            for (i, a) in buffers.iter().enumerate() {
                prop_assert_eq!(arena.offsets[i] % ALIGN, 0);
                prop_assert!(arena.offsets[i] + a.bytes <= arena.bytes);
                for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                    let apart = arena.offsets[i] + a.bytes <= arena.offsets[j]
                        || arena.offsets[j] + b.bytes <= arena.offsets[i];
                    prop_assert!(apart || !a.meets(b), "buffers {} and {} overlap", i, j);
                }
            }
        }
    }
}
