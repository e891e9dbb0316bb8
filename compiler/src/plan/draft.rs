//! Steps before the arena is laid out: what strips are chosen of, and what the planner makes steps of a plan of.

use nnc_ir::NodeId;
use nnc_ir::op::Cost;

use super::buffer::BufferId;
use super::generic::NestDraft;
use super::{LayerCode, MergedStep, Refusal, Traffic};

/// A step as it is planned.
#[derive(Clone, Debug)]
pub(super) enum StepDraft {
    /// Its code is decided.
    Layer(Box<Draft>),
    /// A nest that may still become part of another one.
    Loops(Box<LoopsDraft>),
}

impl StepDraft {
    pub(super) fn name(&self) -> &str {
        match self {
            StepDraft::Layer(draft) => &draft.name,
            StepDraft::Loops(draft) => &draft.name,
        }
    }
}

/// A nest whose arguments are the numbers of buffers.
#[derive(Clone, Debug)]
pub(super) struct LoopsDraft {
    pub name: String,
    pub node: Option<NodeId>,
    /// The operator.
    pub op: &'static str,
    pub nest: NestDraft,
    /// Why it is there, for steps that only move data.
    pub note: Option<String>,
}

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

/// What a step says of itself, taken from its graph while that is at hand.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub op: &'static str,
    pub shape: String,
    pub cost: Cost,
    /// Why it has no kernel, for matrix products and the like.
    pub refused: Option<Refusal>,
    /// Steps that it computes, too.
    pub merged: Vec<MergedStep>,
}

/// What a step is called that belongs to no node.
pub(super) const COPY: &str = "Copy";

impl Default for About {
    fn default() -> About {
        About { op: COPY, shape: String::new(), cost: Cost::default(), refused: None, merged: Vec::new() }
    }
}
