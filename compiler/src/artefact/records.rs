//! Numbers in the table of steps: sizes of its parts, and the places where the starts of regions are kept.

/// Bytes of a record of a step, and of one of an argument.
pub(super) const RECORD: u32 = 16;

/// Places of the first regions.
pub(super) const ARENA: u32 = 0;
pub(super) const CONSTANTS: u32 = 1;
pub(super) const SCRATCH: u32 = 2;
pub(super) const PORTS: u32 = 3;
