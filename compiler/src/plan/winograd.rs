//! Dense 3×3 layers of stride 1 by Winograd's algorithm: transform, multiply, transform back.
//!
//! ```text
//!   unit = a block of tiles × a panel of output channels                    F(4×4, 3×3): 36 elements e
//!
//!     picture ── input tiles ──▶ V[e][tile][channel]        once for all panels of a block in the thread's share
//!                                  │  dense tiles, for each e:  [tiles × C] · [C × panel]
//!                                  ▼
//!             U[panel][e][C][lane]  M[e][tile][lane]
//!                                  │
//!     picture ◀─ output tiles ─────┘                        bias, residual, activation
//! ```
//!
//! `V` and `M` are scratch of the thread; for 16 tiles of 128 channels they are 300 and 74 KB, so they stay in its second-level
//! cache. `U` is four times as large as the layer's weights for `F(4×4, 3×3)` and comes by once for each block, which is
//! why late layers, with few pixels and many channels, have one block only. Either `U` is what is stored, or the weights are
//! as the model has them, and each unit transforms those of its panel before it needs them ([`StoredKernels`]): a few rows of
//! elements, then their products. All distances in scratch are whole cache lines, an
//! odd number of them from one element to the next, so that the elements of a tile fall into different cache sets.
//!
//! Channels are read as [lanes](super::lanes) layers read them, in vectors of neighbouring slots, from however many buffers;
//! weights are permuted to the order in which that lays them into `V`.

use std::ops::Range;

use super::dense::Progression;
use super::pieces::piece_count;
use super::sweep::{Axis, BytePitch};
use crate::code::tile::ir::Lanes;
use crate::code::tile::programs::dense::{Col, panel_width};
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::tile::programs::winograd::{Form, KERNEL, Sweeps};

/// Which base pointer is which. The input's buffers follow behind these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum WinogradArg {
    /// The output's buffer.
    Output,
    /// Packed weights, `[panel][element][channel][lane]`, or `[panel][tap][channel][lane]`.
    Weights,
    /// Bias, in slot order.
    Bias,
    /// The residual's buffer.
    Residual,
    /// The first buffer of the input.
    Inputs,
}

/// How the kernels are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoredKernels {
    /// Transformed.
    Transformed,
    /// As the model has them; a unit transforms those of its panel, to scratch of the thread, some rows of elements at a time.
    Plain(Sweeps),
}

impl StoredKernels {
    /// Floats of one kernel.
    pub fn floats(self, form: Form) -> usize {
        match self {
            StoredKernels::Transformed => form.elements(),
            StoredKernels::Plain(_) => KERNEL * KERNEL,
        }
    }
}

/// Tiles that follow one another along an axis and are alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileSpan {
    /// The first of them.
    pub first: usize,
    /// Their number.
    pub count: usize,
    /// Positions of the window that lie inside the picture.
    pub inside: Range<u32>,
    /// Outputs of a tile that exist.
    pub outputs: u32,
}

/// Vectors of channels that follow one another in a buffer of the input, and in `V`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelRun {
    /// Which of the input's buffers.
    pub source: usize,
    /// Bytes from the first slot of a pixel.
    pub input: i64,
    /// Bytes from the first channel of a transformed tile.
    pub position: i64,
    /// Number of vectors.
    pub vectors: usize,
    /// Lanes of each.
    pub lanes: Lanes,
    /// Lanes that exist.
    pub used: u32,
}

/// Panels of output channels that follow one another at constant distances.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WinogradPanels {
    /// Their number.
    pub count: usize,
    /// Vectors of each.
    pub cols: Vec<Col>,
    /// Packed weights.
    pub weights: Progression,
    /// Output slots.
    pub output: Progression,
    /// Bias.
    pub bias: Progression,
    /// Residual slots.
    pub residual: Progression,
}

/// Distances in scratch, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScratchPitch {
    /// From one tile to the next.
    pub tile: i64,
    /// From one element to the next.
    pub element: i64,
}

/// A cache line, in bytes.
const LINE: i64 = 64;

impl ScratchPitch {
    /// For `tiles` tiles of `floats` floats.
    pub fn of(tiles: usize, floats: usize) -> ScratchPitch {
        let lines =
            (floats as i64 * 4).div_euclid(LINE) + i64::from(!(floats * 4).is_multiple_of(LINE as usize));
        // Rows of a block that are a multiple of 512 bytes apart fall into few sets.
        let lines = if lines % 8 == 0 { lines + 1 } else { lines };
        let element = lines * tiles as i64;
        ScratchPitch { tile: lines * LINE, element: (element | 1) * LINE }
    }

    /// Of all elements.
    fn bytes(self, form: Form) -> u64 {
        self.element as u64 * form.elements() as u64
    }
}

/// Everything that decides the code of a layer by Winograd's algorithm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WinogradPlan {
    /// Outputs of a tile.
    pub form: Form,
    /// How its weights are stored.
    pub kernels: StoredKernels,
    /// Pictures in the batch.
    pub images: usize,
    /// The vertical axis.
    pub y: Axis,
    /// The horizontal axis.
    pub x: Axis,
    /// Rows of tiles.
    pub rows: Vec<TileSpan>,
    /// Columns of tiles.
    pub cols: Vec<TileSpan>,
    /// Tiles of a block; the last one may have fewer.
    pub block: usize,
    /// Tiles of one dense kernel, at most.
    pub tile_rows: usize,
    /// Channels that are summed over.
    pub depth: usize,
    /// Of each buffer of the input.
    pub inputs: Vec<BytePitch>,
    /// Of the output.
    pub output: BytePitch,
    /// Of the residual.
    pub residual: BytePitch,
    /// How channels are read.
    pub channels: Vec<ChannelRun>,
    /// The panels, in slot order.
    pub panels: Vec<WinogradPanels>,
    /// `V`
    pub transformed: ScratchPitch,
    /// `M`
    pub product: ScratchPitch,
    /// Applied before the store.
    pub epilogue: KernelEpilogue,
}

impl WinogradPanels {
    /// Bytes of one element, or one tap, of all kernels of a panel.
    pub fn tap_bytes(&self, plan: &WinogradPlan) -> i64 {
        4 * i64::from(panel_width(&self.cols)) * plan.depth as i64
    }

    /// Bytes of one panel's weights.
    pub fn bytes(&self, plan: &WinogradPlan) -> i64 {
        self.tap_bytes(plan) * plan.kernels.floats(plan.form) as i64
    }
}

impl WinogradPlan {
    /// Rows and columns of tiles in a picture.
    pub fn grid(&self) -> (usize, usize) {
        let count = |spans: &[TileSpan]| spans.iter().map(|s| s.count).sum();
        (count(&self.rows), count(&self.cols))
    }

    /// Tiles of the whole batch.
    pub fn tiles(&self) -> usize {
        let (rows, cols) = self.grid();
        self.images * rows * cols
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.tiles().div_ceil(self.block)
    }

    /// Number of panels.
    pub fn panel_count(&self) -> usize {
        self.panels.iter().map(|p| p.count).sum()
    }

    /// Number of units of work.
    pub fn units(&self) -> usize {
        self.blocks() * self.panel_count()
    }

    /// Byte of the scratch at which `M` starts, behind `V`.
    pub fn product_at(&self) -> i64 {
        self.transformed.bytes(self.form) as i64
    }

    /// Byte of the scratch at which transformed kernels of some rows start, behind `M`.
    pub fn kernels_at(&self) -> i64 {
        self.product_at() + self.product.bytes(self.form) as i64
    }

    /// From one element of transformed kernels to the next in scratch.
    pub fn kernel_pitch(&self) -> ScratchPitch {
        let widest = self.panels.iter().map(|panels| panel_width(&panels.cols) as usize).max();
        ScratchPitch::of(1, self.depth * widest.unwrap_or(0))
    }

    /// Scratch that a thread needs, in bytes.
    pub fn scratch(&self) -> u64 {
        let kernels = match self.kernels {
            StoredKernels::Transformed => 0,
            StoredKernels::Plain(sweeps) => {
                let rows = sweeps.rows(self.form).iter().map(ExactSizeIterator::len).max().unwrap_or(0);
                self.kernel_pitch().element as u64 * (rows * self.form.window()) as u64
            }
        };
        self.transformed.bytes(self.form) + self.product.bytes(self.form) + kernels
    }
}

/// The tiles along an axis, those that are alike together.
pub fn spans(axis: &Axis, form: Form) -> Vec<TileSpan> {
    let step = form.outputs();
    let mut spans: Vec<TileSpan> = Vec::new();
    for tile in 0..axis.output.div_ceil(step) {
        let start = (tile * step) as isize - axis.pad;
        let edge = |at: isize| (at - start).clamp(0, form.window() as isize) as u32;
        let outputs = step.min(axis.output - tile * step) as u32;
        // Outputs that do not exist need no input.
        let (first, end) = (edge(0), edge(axis.input as isize).min(outputs + KERNEL as u32 - 1));
        let inside = if first < end { first..end } else { 0..0 };
        match spans.last_mut() {
            Some(s) if s.inside == inside && s.outputs == outputs => s.count += 1,
            _ => spans.push(TileSpan { first: tile, count: 1, inside, outputs }),
        }
    }
    spans
}

/// How `tiles` tiles are cut into dense kernels of at most `widest`: groups of equal ones, as (first, count, tiles of each).
/// What does not divide evenly is spread over the first ones, where [pieces](super::pieces) have a shorter last one.
pub fn kernel_rows(tiles: usize, widest: usize) -> Vec<(usize, usize, usize)> {
    let kernels = piece_count(tiles, widest);
    let (low, more) = (tiles / kernels, tiles % kernels);
    let groups = [(0, more, low + 1), (more * (low + 1), kernels - more, low)];
    groups.into_iter().filter(|&(_, count, rows)| count > 0 && rows > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(input: usize, output: usize, pad: isize) -> Axis {
        Axis { input, output, kernel: 3, stride: 1, dilation: 1, pad }
    }

    #[test]
    fn border_tiles_say_what_of_their_window_is_inside_and_how_many_outputs_exist() {
        let found: Vec<_> =
            spans(&axis(13, 13, 1), Form::F4).into_iter().map(|s| (s.count, s.inside, s.outputs)).collect();
        assert_eq!(found, [(1, 1..6, 4), (2, 0..6, 4), (1, 0..2, 1)]);
    }

    #[test]
    fn unpadded_and_lopsided_pictures_have_other_borders() {
        let found = |input, output, pad| -> Vec<_> {
            spans(&axis(input, output, pad), Form::F2)
                .into_iter()
                .map(|s| (s.count, s.inside, s.outputs))
                .collect()
        };
        assert_eq!(found(6, 4, 0), [(2, 0..4, 2)]);
        assert_eq!(found(5, 5, 2), [(1, 2..4, 2), (1, 0..4, 2), (1, 0..3, 1)]);
        assert_eq!(found(1, 5, 3), [(1, 3..4, 2), (1, 1..2, 2), (1, 0..0, 1)]);
        assert_eq!(found(9, 3, -1), [(1, 0..4, 2), (1, 0..3, 1)], "what is cut off is not read");
    }

    #[test]
    fn kernels_cover_a_block_once_and_are_nearly_equal() {
        for (tiles, widest) in [(16, 14), (13, 14), (49, 9), (1, 8), (28, 14)] {
            let groups = kernel_rows(tiles, widest);
            let mut next = 0;
            for &(first, count, rows) in &groups {
                assert_eq!(first, next);
                assert!(rows <= widest);
                next += count * rows;
            }
            assert_eq!(next, tiles);
            assert!(groups.len() <= 2);
        }
    }

    #[test]
    fn elements_in_scratch_lie_an_odd_number_of_lines_apart() {
        for tiles in 1..40 {
            for floats in [16, 20, 64, 128, 512] {
                let pitch = ScratchPitch::of(tiles, floats);
                assert!(pitch.tile >= floats as i64 * 4 && pitch.tile % 512 != 0);
                assert!(pitch.element >= pitch.tile * tiles as i64);
                assert_eq!(pitch.element / LINE % 2, 1);
            }
        }
    }
}
