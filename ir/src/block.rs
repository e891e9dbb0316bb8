//! Memory for the bytes of tensors.
//!
//! Weights are most of what a compiler holds, and each of them only for a while. Large blocks have pages of their own, which
//! the system has back as soon as nobody needs them; an allocator would keep them for later, with small pieces in between.

use std::fmt;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Blocks of so many bytes and more have pages of their own.
const LARGE: usize = 64 << 10;

/// A block of bytes.
pub(crate) enum Block {
    /// From the allocator, or from a caller.
    Heap(Vec<u8>),
    /// Anonymous pages.
    Pages(MmapMut),
}

impl Block {
    /// So many zero bytes; `None` when there is no memory for a large block.
    pub(crate) fn zeroed(len: usize) -> Option<Block> {
        match len {
            LARGE.. => MmapMut::map_anon(len).ok().map(Block::Pages),
            _ => Some(Block::Heap(vec![0; len])),
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
        }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Block::Heap(bytes) => bytes,
            Block::Pages(pages) => pages,
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

    #[test]
    fn a_block_that_no_machine_has_is_none() {
        assert!(Block::zeroed(isize::MAX as usize).is_none());
    }
}
