//! Constants that programs have in common: each is in memory once.
//!
//! Programs for different shapes of one model are planned one by one, and most of their weights come out packed the same way:
//! how, depends on a layer's channels, and on its height and width only where these decide the tile or the algorithm. So
//! what is packed is known by a digest of all that decides its bytes, and a program takes what is there already.
//!
//! ```text
//!   480 wide   biases   expand, 4 vectors wide   project   table          all new: four blocks, small parts in one
//!                 │               │                 │
//!   640 wide   biases   expand, 4 vectors wide   project   table          new: its table
//!                 │                                 │
//!    32 wide   biases   expand, 2 vectors wide   project   table          new: its table, and "expand" once more
//! ```
//!
//! Large parts have a block each, so that a block lives just as long as a program reads it; the small ones that a program
//! adds share one, so that none takes a page alone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nnc_runtime::{Block, Constants, MemoryError, Pages, Piece};

use super::PlanError;
use super::content::{ALIGN, PlacedContent, write};
use super::digest::TensorDigests;
use crate::parallel;

/// From so many bytes on, a part has a block of its own: less than a sixteenth of it is lost to the last page.
const LARGE: usize = 16 * nnc_runtime::PAGE;

/// What is packed for some programs of one model, by what it is. It keeps nothing alive: a block goes with the last program that has it.
#[derive(Debug, Default)]
pub struct SharedConstants {
    places: Mutex<BTreeMap<[u8; 32], SharedPiece>>,
    tensors: TensorDigests,
}

/// Where a constant is.
#[derive(Debug)]
struct SharedPiece {
    block: Weak<Block>,
    place: Range<usize>,
}

/// Parts that are new, on their way to one block.
#[derive(Default)]
struct New {
    bytes: usize,
    /// With their offsets in this block.
    parts: Vec<PlacedContent>,
    /// What they are, and their offsets in the program's constants.
    names: Vec<([u8; 32], usize)>,
}

impl New {
    fn add(&mut self, part: PlacedContent, digest: [u8; 32]) {
        self.names.push((digest, part.at));
        let at = self.bytes.next_multiple_of(ALIGN);
        self.bytes = at + part.content.len();
        self.parts.push(PlacedContent { at, ..part });
    }
}

impl SharedConstants {
    /// Finds a place for each part: where it is already, or in new blocks, which up to `threads` threads write. `len` is the
    /// size of the range that the parts lie in.
    pub(super) fn place(
        &self,
        parts: Vec<PlacedContent>,
        len: usize,
        threads: usize,
    ) -> Result<Constants, PlanError> {
        let digests = parallel::map(threads, &parts, |part| part.content.digest(&self.tensors));
        // Held while new parts are packed: whoever needs the same ones meanwhile waits instead of packing them, too.
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, place| place.block.strong_count() > 0);
        let mut pieces = Vec::with_capacity(parts.len());
        let mut small = New::default();
        let mut news = Vec::new();
        for (part, digest) in parts.into_iter().zip(digests) {
            let known = |place: &SharedPiece| Some((place.block.upgrade()?, place.place.clone()));
            match (places.get(&digest).and_then(known), part.content.len()) {
                (_, 0) => {}
                (Some((block, place)), _) => pieces.push(Piece { at: part.at, block, place }),
                (None, bytes) if bytes < LARGE => small.add(part, digest),
                (None, _) => {
                    let mut alone = New::default();
                    alone.add(part, digest);
                    news.push(alone);
                }
            }
        }
        if small.bytes > 0 {
            news.push(small);
        }
        for (block, names) in written(news, threads)? {
            for (digest, at, place) in names {
                places.insert(digest, SharedPiece { block: Arc::downgrade(&block), place: place.clone() });
                pieces.push(Piece { at, block: Arc::clone(&block), place });
            }
        }
        pieces.sort_by_key(|piece| piece.at);
        Constants::of_pieces(pieces, len).ok_or_else(|| PlanError::Internal("constants overlap".to_owned()))
    }
}

/// The blocks of new parts; of each part what it is, its offset in the program's constants, and its place in the block.
fn written(
    news: Vec<New>,
    threads: usize,
) -> Result<Vec<(Arc<Block>, Vec<([u8; 32], usize, Range<usize>)>)>, MemoryError> {
    let mut names = Vec::with_capacity(news.len());
    let mut pages = Vec::with_capacity(news.len());
    let mut parts = Vec::with_capacity(news.len());
    for new in news {
        let places = new.parts.iter().map(|part| part.at..part.at + part.content.len());
        names.push(
            new.names.into_iter().zip(places).map(|((digest, at), place)| (digest, at, place)).collect(),
        );
        pages.push(Pages::zeroed(new.bytes as u64, "constants")?);
        parts.push(new.parts);
    }
    write(threads, pages.iter_mut().zip(parts).collect());
    let blocks = pages.into_iter().map(|pages| Block::new(pages).map(Arc::new));
    blocks.zip(names).map(|(block, names)| Ok((block?, names))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::constants::PlannedConstants;
    use super::*;

    fn constants(shared: &SharedConstants, parts: &[&[u8]]) -> nnc_runtime::Constants {
        let mut all = PlannedConstants::default();
        parts.iter().for_each(|part| {
            all.add(part);
        });
        all.finish_shared(2, shared).unwrap()
    }

    fn blocks(all: &[&nnc_runtime::Constants]) -> Vec<usize> {
        let pieces = all.iter().flat_map(|constants| constants.pieces());
        let mut sizes: Vec<(usize, usize)> =
            pieces.map(|piece| (Arc::as_ptr(&piece.block).addr(), piece.block.len())).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let mut sizes: Vec<usize> = sizes.into_iter().map(|(_, len)| len).collect();
        sizes.sort_unstable();
        sizes
    }

    #[test]
    fn equal_constants_of_several_programs_are_in_memory_once() {
        let (large, other) = (vec![1; LARGE], vec![2; LARGE + 1]);
        let shared = SharedConstants::default();
        let first = constants(&shared, &[b"bias", &large, b"", b"table"]);
        assert_eq!(blocks(&[&first]), [64 + 5, LARGE]);
        // Other offsets, the same memory.
        let second = constants(&shared, &[&other, b"table", &large, b"bias"]);
        assert_eq!(blocks(&[&first, &second]), [64 + 5, LARGE, LARGE + 1]);
        let alone = |parts: &[&[u8]]| {
            let mut all = PlannedConstants::default();
            parts.iter().for_each(|part| {
                all.add(part);
            });
            all.finish(1).unwrap().bytes().into_owned()
        };
        assert_eq!(*first.bytes(), alone(&[b"bias", &large, b"", b"table"]));
        assert_eq!(*second.bytes(), alone(&[&other, b"table", &large, b"bias"]));
    }

    #[test]
    fn what_no_program_has_any_more_is_made_anew() {
        let shared = SharedConstants::default();
        let large = vec![3; LARGE];
        let first = constants(&shared, &[&large]);
        let block = Arc::downgrade(&first.pieces()[0].block);
        drop(first);
        assert!(block.upgrade().is_none(), "the store keeps nothing alive");
        assert_eq!(*constants(&shared, &[&large]).bytes(), large);
    }

    #[test]
    fn programs_made_at_the_same_time_share_as_well() {
        let shared = SharedConstants::default();
        let parts: Vec<Vec<u8>> = (0..8).map(|n| vec![n; LARGE + usize::from(n)]).collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let made: Vec<nnc_runtime::Constants> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| constants(&shared, &parts))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(blocks(&made.iter().collect::<Vec<_>>()).len(), parts.len());
    }
}
