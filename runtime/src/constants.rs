//! The constants of a program: one range of bytes that steps address by offsets, in one block of memory or in many.
//!
//! A program alone has them in one block. Programs that were specialised from one model for different shapes have most of
//! their weights in common, and share the memory: then the range is put together from pieces of blocks.
//!
//! ```text
//!   offsets            0         4096                        90112      94208
//!   program for 480    ├─ biases ┼─ weights of "expand" ─────┼─ table ──┤
//!                          │           │                         └──────── block of its own
//!   one block of small parts       one block
//!                          │           │                         ┌──────── block of its own
//!   program for 640    ├─ biases ┼─ weights of "expand" ─────┼─ table ───────┤
//! ```
//!
//! Base pointers are resolved when a session is made, so what lies where makes no difference to generated code: no function
//! reaches from a base pointer beyond the piece it leads to.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::memory::{Block, MemoryError, Pages};

/// What of an offset every piece keeps: as it is aligned in the range, it is in memory.
const ALIGN: usize = 64;

/// A part of the constants, somewhere in a block.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its offset in the constants.
    pub at: usize,
    /// The block.
    pub block: Arc<Block>,
    /// Where it is in the block.
    pub place: Range<usize>,
}

/// The packed constants of a program: read only, aligned to 64 bytes. Cheap to clone. There are none by default.
#[derive(Clone, Debug, Default)]
pub struct Constants {
    /// In order of their offsets, without overlaps; none is empty unless it is the only one.
    pieces: Arc<[Piece]>,
    len: usize,
}

impl Constants {
    /// All in one block of their own, which is write-protected.
    pub fn new(pages: Pages) -> Result<Constants, MemoryError> {
        let place = 0..pages.len();
        Ok(Constants::in_block(Arc::new(Block::new(pages)?), place))
    }

    /// A write-protected copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Result<Constants, MemoryError> {
        Constants::new(Pages::copy_of(bytes, "constants")?)
    }

    /// All at one place of a block.
    pub(crate) fn in_block(block: Arc<Block>, place: Range<usize>) -> Constants {
        let len = place.len();
        Constants { pieces: Arc::new([Piece { at: 0, block, place }]), len }
    }

    /// `len` bytes, put together from pieces in the order of their offsets; bytes between pieces belong to none. `None` when
    /// the pieces overlap, or one is empty, outside of its block or of the range, or aligned differently in the two.
    pub fn of_pieces(pieces: Vec<Piece>, len: usize) -> Option<Constants> {
        let mut end = 0;
        for Piece { at, block, place } in &pieces {
            let inside = block.get(place.clone()).is_some_and(|bytes| !bytes.is_empty());
            if !inside || *at < end || *at % ALIGN != place.start % ALIGN {
                return None;
            }
            end = at.checked_add(place.len())?;
        }
        (end <= len).then(|| Constants { pieces: pieces.into(), len })
    }

    /// Size of the range in bytes, what lies between pieces included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in the order of their offsets. A block may have several.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// All of them: borrowed when they are one piece, otherwise put together, with zeros between pieces.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        if let [piece] = &*self.pieces
            && piece.place.len() == self.len
        {
            return Cow::Borrowed(piece.bytes());
        }
        let mut whole = vec![0; self.len];
        for piece in &*self.pieces {
            // The pieces lie inside the range, one behind the other.
            whole[piece.at..piece.at + piece.place.len()].copy_from_slice(piece.bytes());
        }
        Cow::Owned(whole)
    }

    /// The bytes of a part that lies in one piece.
    pub fn get(&self, part: Range<u64>) -> Option<&[u8]> {
        let (start, end) = (usize::try_from(part.start).ok()?, usize::try_from(part.end).ok()?);
        let next = self.pieces.partition_point(|piece| piece.at <= start);
        let piece = self.pieces.get(next.checked_sub(1)?)?;
        piece.bytes().get(start - piece.at..end.checked_sub(piece.at)?)
    }

    /// The address of an offset: of a byte of a piece, or of the end of all. `None` where no piece is.
    pub(crate) fn at(&self, offset: u64) -> Option<*mut u8> {
        let offset = usize::try_from(offset).ok()?;
        let next = self.pieces.partition_point(|piece| piece.at <= offset);
        let piece = next.checked_sub(1).and_then(|index| self.pieces.get(index));
        match piece {
            Some(piece) if offset - piece.at < piece.place.len() || offset == self.len => {
                Some(piece.block.base().wrapping_add(piece.place.start).wrapping_add(offset - piece.at))
            }
            // Nobody reads what has no bytes.
            None if offset == self.len => Some(std::ptr::without_provenance_mut(ALIGN)),
            _ => None,
        }
    }
}

impl Piece {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.block.get(self.place.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(bytes: &[u8]) -> Arc<Block> {
        Arc::new(Block::new(Pages::copy_of(bytes, "a test").unwrap()).unwrap())
    }

    fn byte(constants: &Constants, offset: u64) -> Option<u8> {
        // SAFETY: the offsets of the tests lie in pieces, not at the end.
        constants.at(offset).map(|at| unsafe { *at })
    }

    #[test]
    fn pieces_of_several_blocks_are_one_range() {
        let bytes: Vec<u8> = (0..200).collect();
        let (a, b) = (block(&bytes), block(&bytes[100..]));
        let pieces = vec![
            Piece { at: 0, block: Arc::clone(&a), place: 64..80 },
            Piece { at: 64, block: b, place: 0..10 },
            Piece { at: 128, block: a, place: 0..3 },
        ];
        let constants = Constants::of_pieces(pieces, 131).unwrap();
        assert_eq!(constants.len(), 131);
        for (offset, expected) in [
            (0, Some(64)),
            (15, Some(79)),
            (16, None),
            (64, Some(100)),
            (73, Some(109)),
            (74, None),
            (130, Some(2)),
        ] {
            assert_eq!(byte(&constants, offset), expected, "offset {offset}");
        }
        assert!(constants.at(131).is_some(), "the end has an address");
        assert!(constants.at(132).is_none());
        let whole = constants.bytes();
        assert_eq!((&whole[..16], whole[16], &whole[64..74]), (&bytes[64..80], 0, &bytes[100..110]));
    }

    #[test]
    fn one_block_is_borrowed_as_it_is() {
        let constants = Constants::copy_of(&[1, 2, 3]).unwrap();
        assert!(matches!(constants.bytes(), Cow::Borrowed([1, 2, 3])));
        let empty = Constants::copy_of(&[]).unwrap();
        assert!(empty.is_empty() && empty.at(0).is_some());
        let none = Constants::of_pieces(vec![], 0).unwrap();
        assert!(none.at(0).is_some() && none.at(1).is_none());
    }

    #[test]
    fn pieces_that_do_not_fit_are_refused() {
        let a = block(&[7; 200]);
        let piece = |at, place| Piece { at, block: Arc::clone(&a), place };
        let refused = |pieces, len| Constants::of_pieces(pieces, len).is_none();
        assert!(refused(vec![piece(0, 0..201)], 300), "outside of the block");
        assert!(refused(vec![piece(0, 0..10)], 9), "outside of the range");
        assert!(refused(vec![piece(0, 0..65), piece(64, 0..10)], 300), "overlapping");
        assert!(refused(vec![piece(64, 0..10), piece(0, 0..10)], 300), "out of order");
        assert!(refused(vec![piece(64, 1..10)], 300), "aligned differently");
        assert!(refused(vec![piece(64, 64..64)], 300), "empty");
        assert!(refused(vec![piece(usize::MAX - 63, 0..100)], usize::MAX), "beyond the address space");
        assert!(!refused(vec![piece(0, 128..200), piece(128, 0..128)], 256));
    }
}
