//! Buffers: the memory that steps read and write, before it has an address.

use nnc_runtime::abi::{Arg, Region};

use super::pitch::{Extent, Pitch};

/// Index of a buffer in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub u32);

/// Which memory a buffer is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The arena, where the plan decides about the place.
    Arena,
    /// The caller's n-th input.
    Input(u32),
    /// The caller's n-th output.
    Output(u32),
    /// The constants, at this offset.
    Const(u64),
    /// The bytes of another buffer, seen under another pitch.
    Alias(BufferId),
    /// The start of the arena, for steps that address several buffers by displacements.
    ArenaStart,
}

/// A buffer of a plan.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// The value it was made for.
    pub name: String,
    /// Which memory it is in.
    pub home: Home,
    /// Size in bytes.
    pub bytes: u64,
    /// Extent and pitch when it holds images.
    pub image: Option<(Extent, Pitch)>,
    /// How it moves along the bytes of another buffer: for some loops, by their number in the plan, the bytes from one iteration to
    /// the next.
    pub moves: Vec<(usize, i64)>,
}

impl Buffer {
    /// Where it is, given its offset in the arena.
    pub fn arg(&self, arena_offset: u64, offset: u64) -> Arg {
        let (region, base) = match self.home {
            Home::Arena => (Region::Arena, arena_offset),
            Home::ArenaStart => (Region::Arena, 0),
            Home::Alias(_) => (Region::Arena, arena_offset),
            Home::Input(i) => (Region::Input(i), 0),
            Home::Output(i) => (Region::Output(i), 0),
            Home::Const(at) => (Region::Const, at),
        };
        Arg { region, offset: base + offset }
    }
}
