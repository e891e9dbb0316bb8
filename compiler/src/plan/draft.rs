//! Steps before the arena is laid out: what strips are chosen of, and what the planner makes steps of a plan of.

use nnc_ir::NodeId;

use super::buffer::BufferId;
use super::{LayerCode, Traffic};

/// A step whose buffers have no address yet.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub name: String,
    pub node: Option<NodeId>,
    pub code: LayerCode,
    /// Base pointers: buffer and byte offset.
    pub args: Vec<(BufferId, u64)>,
    /// Buffers it reads besides (through displacements from the start of the arena).
    pub also_reads: Vec<BufferId>,
    pub units: usize,
    pub scratch: u64,
    pub traffic: Traffic,
    /// Why it is there, for steps that only move data.
    pub note: Option<String>,
}
