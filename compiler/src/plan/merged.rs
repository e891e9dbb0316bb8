//! The constants of several plans of one model in one range: each is there once.
//!
//! Plans for several targets are made with one [`SharedConstants`](super::SharedConstants), so parts that are packed in the same way are
//! at one place of one block. A file has one range for all of them:
//!
//! ```text
//!   x86-64-v4   biases  expand, 16 wide   table
//!                  │        │               │
//!   file        biases  expand, 16 wide   table   expand, 8 wide
//!                  │                        │        │
//!   x86-64-v3   biases                    table   expand, 8 wide
//! ```
//!
//! No base pointer reaches beyond the part that it leads to; so a step is at home in the file when its base pointers are.

use std::collections::BTreeMap;
use std::sync::Arc;

use nnc_runtime::Constants;
use nnc_runtime::abi::{ProgramDesc, Region};

use super::content::ALIGN;

/// Constants of some plans.
#[derive(Debug, Default)]
pub struct MergedConstants {
    bytes: Vec<u8>,
    /// Of each plan: where its parts begin and end there, and where they begin here.
    places: Vec<Vec<MovedPart>>,
}

#[derive(Debug)]
struct MovedPart {
    from: u64,
    end: u64,
    to: u64,
}

impl MergedConstants {
    /// Of some plans, in this order.
    pub fn of<'c>(plans: impl IntoIterator<Item = &'c Constants>) -> MergedConstants {
        let mut merged = MergedConstants::default();
        let mut known = BTreeMap::new();
        for constants in plans {
            let mut parts = Vec::with_capacity(constants.pieces().len());
            for piece in constants.pieces() {
                let key = (Arc::as_ptr(&piece.block).addr(), piece.place.start, piece.place.end);
                let to = *known.entry(key).or_insert_with(|| {
                    merged.bytes.resize(merged.bytes.len().next_multiple_of(ALIGN), 0);
                    let to = merged.bytes.len();
                    merged.bytes.extend_from_slice(piece.bytes());
                    to as u64
                });
                let from = piece.at as u64;
                parts.push(MovedPart { from, end: from + piece.place.len() as u64, to });
            }
            merged.places.push(parts);
        }
        merged
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes the description of the plan of a number one with these constants.
    pub fn move_constants(&self, plan: usize, desc: &mut ProgramDesc) {
        desc.const_bytes = self.bytes.len() as u64;
        for arg in desc.steps.iter_mut().flat_map(|step| &mut step.args) {
            if arg.region == Region::Const {
                arg.offset = self.place(plan, arg.offset);
            }
        }
    }

    /// Where a byte of the constants of a plan is. What has no bytes is behind all that has.
    fn place(&self, plan: usize, offset: u64) -> u64 {
        let parts = self.places.get(plan).map_or(&[][..], Vec::as_slice);
        let next = parts.partition_point(|part| part.from <= offset);
        let part = next.checked_sub(1).and_then(|index| parts.get(index));
        let inside = part.filter(|part| offset <= part.end);
        inside.map_or(self.bytes.len() as u64, |part| part.to + (offset - part.from))
    }
}

#[cfg(test)]
mod tests {
    use super::super::constants::PlannedConstants;
    use super::super::shared::SharedConstants;
    use super::*;

    fn constants(shared: &SharedConstants, parts: &[&[u8]]) -> (Constants, Vec<u64>) {
        let mut all = PlannedConstants::default();
        let offsets = parts.iter().map(|part| all.add(part)).collect();
        (all.finish_shared(1, shared).unwrap(), offsets)
    }

    #[test]
    fn what_plans_have_in_common_is_there_once_and_each_finds_its_own() {
        let shared = SharedConstants::default();
        let large = vec![7; 100_000];
        let plans: [&[&[u8]]; 3] = [&[b"bias", &large, b"table"], &[&[9; 70], b"table", b"bias", b""], &[]];
        let made: Vec<_> = plans.iter().map(|parts| constants(&shared, parts)).collect();
        let merged = MergedConstants::of(made.iter().map(|(constants, _)| constants));
        for (number, (parts, (_, offsets))) in plans.iter().zip(&made).enumerate() {
            for (part, &offset) in parts.iter().zip(offsets) {
                let at = merged.place(number, offset) as usize;
                assert_eq!(&merged.bytes()[at..at + part.len()], *part, "{number}");
                assert!(part.is_empty() || at.is_multiple_of(ALIGN));
                assert!(part.is_empty() || merged.place(number, offset + 1) as usize == at + 1);
            }
        }
        assert!(merged.bytes().len() < 100_000 + 4 * ALIGN + 70);
    }
}
