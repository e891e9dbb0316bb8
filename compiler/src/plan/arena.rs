//! What an arena is made of: buffers that live for some steps, and where each stands.
//!
//! Several allocators fill in the same arena ([`memory`](super::memory) chooses), and what they made is checked by the lives
//! that they were given.

use super::Life;

/// Alignment of every buffer: a cache line, and the widest vector.
pub const ALIGN: u64 = 64;

/// One buffer: its size in bytes and the steps at which it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Size in bytes.
    pub bytes: u64,
    /// First step that writes it.
    pub first: usize,
    /// Last step that reads or writes it.
    pub last: usize,
}

impl Lifetime {
    /// Whether both are alive at some step.
    pub(super) fn meets(&self, other: &Lifetime) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The buffer at a place in the arena.
    pub(super) fn at(&self, offset: u64) -> Life {
        Life { bytes: offset..offset.saturating_add(self.bytes), steps: self.first..self.last + 1 }
    }

    /// Bytes that it takes in the arena.
    pub(super) fn size(&self) -> u64 {
        self.bytes.next_multiple_of(ALIGN)
    }
}

/// Where each buffer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arena {
    /// Byte offset of each buffer, in the order in which they were given.
    pub offsets: Vec<u64>,
    /// Size of the whole.
    pub bytes: u64,
}
