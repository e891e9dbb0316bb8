//! Layers with channels in lanes: depthwise convolutions, pools, global pools.
//!
//! They do the same to every channel, so they work on slots, not on channels: the output takes over the order of the
//! input's slots, and parameters are permuted to it. An input whose channels lie in several buffers is read from each.
//!
//! ```text
//!   unit = a block of output rows
//!
//!     along columns                            along channels
//!     for each vector of slots                 for each tile of the row
//!       left border, interior, right border:     all vectors of slots:
//!       one kernel call each                     one kernel call
//! ```
//!
//! Along the columns the weights of a vector are loaded once a row; along the channels the pixels of a tile are read from
//! end to end while they are near. The second wins where a block's rows of input do not stay in the first-level cache.

use std::ops::Range;

use super::dense::Progression;
use super::pieces::pieces;
use super::sweep::{Axis, BytePitch};
use crate::code::float::{Float, Floats};
pub use crate::code::layers::LanesOp;
use crate::code::tile::ir::Lanes;
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::tile::programs::window::{Along, KernelPrologue};

/// Which base pointer is which. The input's buffers follow behind these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum LanesArg {
    /// The output's buffer.
    Output,
    /// Packed weights, `[vector][ky][kx][lane]`.
    Weights,
    /// Bias, in slot order.
    Bias,
    /// What sums of integers are rescaled by, in slot order.
    Factor,
    /// What is added to rescaled sums, likewise.
    Addend,
    /// The residual's buffer.
    Residual,
    /// Prologue: scale, in slot order.
    Scale,
    /// Prologue: shift.
    Shift,
    /// The first buffer of the input.
    Inputs,
}

/// Equal blocks of outputs along an axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AxisBlocks {
    /// First output.
    pub first: usize,
    /// Number of blocks.
    pub count: usize,
    /// For each output of a block, the taps inside the picture.
    pub taps: Vec<Range<u32>>,
}

/// Vectors that follow each other at constant distances, in one buffer of the input. Distances are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VectorRun {
    /// Number of vectors.
    pub count: usize,
    /// Lanes of each.
    pub lanes: Lanes,
    /// Lanes that exist.
    pub used: u32,
    /// Which of the input's buffers.
    pub source: usize,
    /// Slots in the input.
    pub input: Progression,
    /// Slots in the output.
    pub output: Progression,
    /// Packed weights.
    pub weights: Progression,
    /// Bias, scale and shift.
    pub parameters: Progression,
    /// Slots in the residual.
    pub residual: Progression,
}

impl VectorRun {
    /// Whether each vector lies directly behind the one before it, in input, output and residual.
    pub fn touch(&self, floats: Floats) -> bool {
        let slots =
            [(self.input, floats.input), (self.output, floats.output), (self.residual, floats.residual)];
        slots.iter().all(|(slots, float)| slots.step == i64::from(self.lanes.span(*float)))
    }
}

/// Everything that decides the code of a layer with channels in lanes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LanesPlan {
    /// What is computed.
    pub op: LanesOp,
    /// Pictures in the batch.
    pub images: usize,
    /// The vertical axis.
    pub y: Axis,
    /// The horizontal axis.
    pub x: Axis,
    /// Blocks of rows.
    pub blocks: Vec<AxisBlocks>,
    /// Tiles of a row.
    pub tiles: Vec<AxisBlocks>,
    /// Of each buffer of the input.
    pub inputs: Vec<BytePitch>,
    /// Of the output.
    pub output: BytePitch,
    /// Of the residual.
    pub residual: BytePitch,
    /// The vectors, in slot order.
    pub vectors: Vec<VectorRun>,
    /// The order of a block's tiles and vectors.
    pub along: Along,
    /// Applied to the input.
    pub prologue: KernelPrologue,
    /// Applied to the result.
    pub epilogue: KernelEpilogue,
}

impl LanesPlan {
    /// What the kernels for some vectors read and write.
    pub fn floats(&self, vectors: &VectorRun) -> Floats {
        let input = self.inputs.get(vectors.source).map_or(Float::F32, |pitch| pitch.float);
        Floats { input, output: self.output.float, residual: self.residual.float }
    }

    /// Blocks of rows in one picture.
    pub fn blocks_per_image(&self) -> usize {
        self.blocks.iter().map(|b| b.count).sum()
    }

    /// Number of units of work.
    pub fn units(&self) -> usize {
        match self.op {
            LanesOp::GlobalPool(_) => self.images * self.vectors.iter().map(|v| v.count).sum::<usize>(),
            LanesOp::Depthwise | LanesOp::Pool(_) | LanesOp::Convert => self.images * self.blocks_per_image(),
        }
    }
}

/// Cuts an axis into blocks of at most `longest` outputs and groups neighbours that are alike.
pub fn blocks(axis: &Axis, longest: usize) -> Vec<AxisBlocks> {
    let mut groups: Vec<AxisBlocks> = Vec::new();
    for block in pieces(axis.output, longest) {
        let first = block.start;
        let taps: Vec<Range<u32>> =
            block.map(|o| axis.taps(o)).map(|t| t.start as u32..t.end as u32).collect();
        match groups.last_mut() {
            Some(g) if g.taps == taps => g.count += 1,
            _ => groups.push(AxisBlocks { first, count: 1, taps }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn border_blocks_leave_out_taps_and_interior_blocks_are_one_group() {
        let axis = Axis { input: 56, output: 56, kernel: 3, stride: 1, dilation: 1, pad: 1 };
        let groups = blocks(&axis, 2);
        assert_eq!(groups.iter().map(|g| g.count).collect::<Vec<_>>(), [1, 26, 1]);
        assert_eq!(groups[0].taps, [1..3, 0..3]);
        assert_eq!(groups[2].taps, [0..3, 0..2]);
    }

    #[test]
    fn vectors_touch_where_all_that_they_read_and_write_follows_directly() {
        let dense = |float: Float| Progression { start: 64, step: Lanes::X8.span(float).into() };
        let floats = Floats { input: Float::F16, output: Float::F32, residual: Float::F32 };
        let run = VectorRun {
            count: 3,
            lanes: Lanes::X8,
            used: 8,
            source: 0,
            input: dense(floats.input),
            output: dense(floats.output),
            weights: Progression::default(),
            parameters: Progression::default(),
            residual: dense(floats.residual),
        };
        assert!(run.touch(floats));
        let apart = Progression { start: 64, step: 64 };
        assert!(!VectorRun { input: apart, ..run.clone() }.touch(floats));
        assert!(!VectorRun { output: apart, ..run.clone() }.touch(floats));
        assert!(!VectorRun { residual: apart, ..run }.touch(floats));
    }
}
