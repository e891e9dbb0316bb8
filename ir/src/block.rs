//! Memory for the bytes of tensors.
//!
//! Weights are most of what a compiler holds, and each of them only for a while. Large blocks have pages of their own, which
//! the system has back as soon as nobody needs them; an allocator would keep them for later, with small pieces in between.
//!
//! Large weights may also stay in their file until somebody looks at them. Who wants a piece only, as packing does, has it read
//! and nothing else: the largest matrix of a network is never in memory beside its packed form.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, LazyLock};

use memmap2::MmapMut;

use crate::factors::Scaled;

/// Blocks of so many bytes and more have pages of their own.
pub(crate) const LARGE: usize = 64 << 10;

/// Where bytes are read from later. Whoever reads cannot be told of a failure then; the store is asked afterwards.
pub(crate) trait Store: Send + Sync {
    /// Reads the bytes from `at` on; zeros where that fails, which the store remembers.
    fn read_or_zero(&self, at: u64, to: &mut [u8]);

    /// The weights and factors whose products it gives, if that is what it does.
    fn scaled(&self) -> Option<&Scaled> {
        None
    }
}

/// A block of bytes.
pub(crate) enum Block {
    /// From the allocator, or from a caller.
    Heap(Vec<u8>),
    /// Anonymous pages.
    Pages(MmapMut),
    /// Bytes that are read when somebody looks at them.
    Stored(Stored),
}

/// A part of a store.
pub(crate) struct Stored {
    store: Arc<dyn Store>,
    at: u64,
    len: usize,
    /// Whether somebody may have changed them in memory.
    changed: bool,
    /// The pages are there from the beginning, so that there is no failure later; untouched, they take no memory.
    pages: LazyLock<MmapMut, Box<dyn FnOnce() -> MmapMut + Send>>,
}

impl Block {
    /// So many zero bytes; `None` when there is no memory for a large block.
    pub(crate) fn zeroed(len: usize) -> Option<Block> {
        match len {
            LARGE.. => MmapMut::map_anon(len).ok().map(Block::Pages),
            _ => Some(Block::Heap(vec![0; len])),
        }
    }

    /// Bytes that stay where they are until somebody looks at them; `None` when there is no memory for them.
    pub(crate) fn stored(store: Arc<dyn Store>, at: u64, len: usize) -> Option<Block> {
        let mut pages = MmapMut::map_anon(len).ok()?;
        let from = Arc::clone(&store);
        let read = move || {
            from.read_or_zero(at, &mut pages);
            pages
        };
        let pages = LazyLock::new(Box::new(read) as Box<dyn FnOnce() -> MmapMut + Send>);
        Some(Block::Stored(Stored { store, at, len, changed: false, pages }))
    }

    /// A piece of a block that is in a file and not in memory.
    pub(crate) fn piece_in_file(&self, at: usize, len: usize) -> Option<Block> {
        self.origin()?;
        match self {
            Block::Stored(stored) if self.at_hand().is_none() => {
                Block::stored(Arc::clone(&stored.store), stored.at + at as u64, len)
            }
            _ => None,
        }
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Block::Heap(bytes) => bytes.len(),
            Block::Pages(pages) => pages.len(),
            Block::Stored(stored) => stored.len,
        }
    }

    /// Which store its bytes are from, and where they begin there. It names them as long as somebody has the store.
    pub(crate) fn origin(&self) -> Option<(usize, u64)> {
        match self {
            // A store of products lives as long as its block only.
            Block::Stored(stored) if !stored.changed && stored.store.scaled().is_none() => {
                Some((Arc::as_ptr(&stored.store).addr(), stored.at))
            }
            _ => None,
        }
    }

    /// The weights and factors whose products its bytes are, all of them.
    pub(crate) fn scaled(&self) -> Option<&Scaled> {
        match self {
            Block::Stored(stored) if !stored.changed => stored.store.scaled(),
            _ => None,
        }
    }

    /// The bytes if they are in memory.
    pub(crate) fn at_hand(&self) -> Option<&[u8]> {
        match self {
            Block::Stored(stored) => LazyLock::get(&stored.pages).map(|pages| &pages[..]),
            _ => Some(self),
        }
    }

    /// Copies some of its bytes; those that are not in memory are read, and no others.
    pub(crate) fn read(&self, place: Range<usize>, to: &mut [u8]) {
        match (self, self.at_hand()) {
            (Block::Stored(stored), None) => stored.store.read_or_zero(stored.at + place.start as u64, to),
            (_, bytes) => to.copy_from_slice(&bytes.unwrap_or_default()[place]),
        }
    }

    /// A copy of bytes; `None` when there is no memory for it.
    pub(crate) fn copy_of(bytes: &[u8]) -> Option<Block> {
        let mut block = Block::zeroed(bytes.len())?;
        block.copy_from_slice(bytes);
        Some(block)
    }
}

impl From<Vec<u8>> for Block {
    fn from(bytes: Vec<u8>) -> Block {
        Block::Heap(bytes)
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Block::Heap(bytes) => bytes,
            Block::Pages(pages) => pages,
            Block::Stored(stored) => &stored.pages,
        }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Block::Heap(bytes) => bytes,
            Block::Pages(pages) => pages,
            Block::Stored(stored) => {
                stored.changed = true;
                &mut LazyLock::force_mut(&mut stored.pages)[..]
            }
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn blocks_of_any_size_are_zero_and_writable() {
        for len in [0, 1, LARGE - 1, LARGE, 3 * LARGE + 5] {
            let mut block = Block::zeroed(len).unwrap();
            assert_eq!((block.len(), block.iter().any(|&b| b != 0)), (len, false));
            block.fill(7);
            assert!(Block::copy_of(&block).unwrap().iter().all(|&b| b == 7));
        }
    }

    /// Gives 0, 1, 2 … and counts the bytes that it was asked for.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Store for Counting {
        fn read_or_zero(&self, at: u64, to: &mut [u8]) {
            self.0.fetch_add(to.len(), Ordering::Relaxed);
            to.iter_mut().enumerate().for_each(|(i, byte)| *byte = (at as usize + i) as u8);
        }
    }

    #[test]
    fn stored_bytes_are_read_piece_by_piece_or_once() {
        let store = Arc::new(Counting::default());
        let mut block = Block::stored(store.clone(), 3, 100).unwrap();
        let read = || store.0.load(Ordering::Relaxed);
        assert_eq!((block.len(), block.at_hand(), read()), (100, None, 0));
        let mut piece = [0; 4];
        block.read(10..14, &mut piece);
        assert_eq!((piece, block.at_hand(), read()), ([13, 14, 15, 16], None, 4));
        let part = block.piece_in_file(10, 20).unwrap();
        assert_eq!((part.len(), part[0], part.origin().unwrap().1, read()), (20, 13, 13, 24));
        assert_eq!((block[0], block[99], read()), (3, 102, 124));
        assert!(block.piece_in_file(10, 20).is_none(), "it is in memory");
        block.read(1..5, &mut piece);
        assert_eq!((piece, read()), ([4, 5, 6, 7], 124), "from memory now");
        block[2] = 77;
        block.read(1..5, &mut piece);
        assert_eq!((piece, read()), ([4, 77, 6, 7], 124));
    }

    #[test]
    fn bytes_that_were_changed_are_those_of_no_store() {
        let store: Arc<dyn Store> = Arc::new(Counting::default());
        let mut block = Block::stored(Arc::clone(&store), 3, 100).unwrap();
        let origin = (Arc::as_ptr(&store).addr(), 3);
        assert_eq!((block[0], block.origin()), (3, Some(origin)));
        block[0] = 4;
        assert_eq!(block.origin(), None);
    }

    #[test]
    fn a_block_that_no_machine_has_is_none() {
        assert!(Block::zeroed(isize::MAX as usize).is_none());
    }
}
