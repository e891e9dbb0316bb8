//! Dense layers: convolutions that sum over channels (1×1, K×K, grouped, fully connected), and products of matrices, as a batch-reduce
//! GEMM. Rows of a matrix are pixels.
//!
//! ```text
//!   C[pixel, n] = Σ over taps, over runs of channels:  A[pixel + tap, run] · B[tap, run, n]
//!
//!           panel 0   panel 1   rest
//!          ┌─────────┬─────────┬────┐
//!   tile 0 │ kernel  │ kernel  │ k' │   one kernel call: `rows` pixels × the panel's vectors,
//!   tile 1 │         │         │    │   all of K inside, result stored once through the epilogue
//!          └─────────┴─────────┴────┘
//! ```
//!
//! A panel's weights are packed in the order in which its kernel reads them, `[ky][kx][k][lanes]`, with the channels
//! permuted to where the input has them. Panels that differ only by constant distances form a [`PanelRun`].

use std::ops::Range;

use nnc_ir::op::Window;

use super::sweep::{Axis, BytePitch, XTiles};
use crate::code::float::{Float, Floats};
use crate::code::tile::programs::dense::{
    Accumulators, Col, LINE, MatrixTile, Products, Runs, Tap, UNROLL, panel_width,
};
use crate::code::tile::programs::epilogue::{Activation, KernelEpilogue};

/// Which base pointer is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DenseArg {
    /// The input's buffer, or the start of the arena when channels come from several buffers.
    Input,
    /// Packed weights.
    Weights,
    /// The output's buffer.
    Output,
    /// Displacements of channel runs.
    Table,
    /// Bias, in slot order.
    Bias,
    /// What sums of integers are rescaled by, in slot order.
    Factor,
    /// What is added to rescaled sums, likewise.
    Addend,
    /// The residual's buffer.
    Residual,
    /// Prologue: scale, in the order in which channels are staged.
    Scale,
    /// Prologue: shift, likewise.
    Shift,
    /// What is prefetched, when tiles are outermost.
    Ahead,
    /// The first of the buffers that are staged from.
    Staged,
}

/// How the outermost loops are nested, and what a unit of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoopOrder {
    /// A unit is a tile of pixels, and computes all its channels: the weights stay in the cache.
    Tiles,
    /// A unit is a panel of channels, and computes all pixels: each weight is fetched once.
    Panels,
}

/// What a layer asks for while it computes. The n-th call of a kernel (of a panel, or of the layer, as the loops are
/// nested) asks for the `n % period`-th share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ahead {
    /// Cache lines in a round of the loop over channels; 0 for none.
    pub lines: u32,
    /// Number of shares.
    pub period: usize,
}

/// Panels that follow each other at constant distances. Distances are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PanelRun {
    /// Number of panels.
    pub count: usize,
    /// Vectors of one panel.
    pub cols: Vec<Col>,
    /// How channels are read.
    pub k: Runs,
    /// From the base pointers to the first panel's data, and from one panel to the next.
    pub input: Progression,
    /// Packed weights.
    pub weights: Progression,
    /// Output slots.
    pub output: Progression,
    /// Bias, factor and addend.
    pub bias: Progression,
    /// Residual slots.
    pub residual: Progression,
    /// Table of runs.
    pub table: Progression,
}

/// A start and a constant distance, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progression {
    /// Of the first panel.
    pub start: i64,
    /// From one panel to the next.
    pub step: i64,
}

impl Progression {
    /// A start alone.
    pub fn at(start: i64) -> Progression {
        Progression { start, step: 0 }
    }

    /// Whether `starts` are where the next of `count` regular starts would be, all of them; if so, they are taken up. Two
    /// starts are always regular.
    pub(super) fn take_up<const N: usize>(
        runs: [&mut Progression; N],
        count: &mut usize,
        starts: [i64; N],
    ) -> bool {
        let n = *count as i64;
        let regular = runs.iter().zip(starts).all(|(run, start)| n == 1 || run.start + run.step * n == start);
        if regular {
            for (run, start) in runs.into_iter().zip(starts) {
                run.step = (start - run.start) / n;
            }
            *count += 1;
        }
        regular
    }
}

/// Bytes from some weights to the next: 0 for rows and pictures that have the same ones, as those of a convolution have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WeightsPitch {
    /// Between rows.
    pub row: i64,
    /// Between pictures.
    pub image: i64,
    /// Between the channels of one panel, where they lie in the rows of a matrix that is not packed; 0 where they are.
    pub channel: i64,
}

impl WeightsPitch {
    /// Whether all have the same weights.
    pub fn is_shared(self) -> bool {
        self.row == 0 && self.image == 0
    }
}

/// Channels of one buffer that are staged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StageSource {
    /// Of the buffer.
    pub pitch: BytePitch,
    /// Runs of channels: byte offset of the first in a pixel, and their number.
    pub runs: Vec<(i64, usize)>,
}

/// Channels that are copied into scratch in front of the kernels, with the prologue applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stage {
    /// Where channels come from, in the order of the copy.
    pub sources: Vec<StageSource>,
    /// Scale and shift each channel.
    pub affine: bool,
    /// Applied after that.
    pub activation: Activation,
    /// Bytes from one pixel to the next in scratch.
    pub pixel: i64,
}

/// Everything that decides the code of a dense layer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DensePlan {
    /// Pictures in the batch (1 when all pixels are swept as one row).
    pub images: usize,
    /// The registers that sums are in.
    pub accumulators: Accumulators,
    /// What is multiplied; of integers, quads or pairs take the place of channels.
    pub products: Products,
    /// The vertical axis.
    pub y: Axis,
    /// The horizontal axis.
    pub x: Axis,
    /// Tiles of a row.
    pub tiles: Vec<XTiles>,
    /// Of the input.
    pub input: BytePitch,
    /// Of the output.
    pub output: BytePitch,
    /// Of the residual.
    pub residual: BytePitch,
    /// Which weights rows have.
    pub weights: WeightsPitch,
    /// The panels, in slot order.
    pub panels: Vec<PanelRun>,
    /// Which loop is outermost.
    pub order: LoopOrder,
    /// What is prefetched meanwhile.
    pub ahead: Ahead,
    /// Applied before the store.
    pub epilogue: KernelEpilogue,
    /// Channels copied to scratch first.
    pub stage: Option<Stage>,
}

impl PanelRun {
    /// Bytes of one panel's weights.
    pub fn bytes(&self, plan: &DensePlan) -> i64 {
        let taps = plan.y.kernel as i64 * plan.x.kernel as i64;
        let row = plan.products.weights().span(panel_width(&self.cols));
        row * taps * self.k.rows(plan.products) as i64
    }
}

impl DensePlan {
    /// What the kernels read and write: what was copied to scratch is as wide as it is multiplied, and quads of bytes, or pairs of words, are as wide.
    pub fn kernel_floats(&self) -> Floats {
        let input = match (self.products, &self.stage) {
            (Products::Bytes | Products::Words, _) => Float::F32,
            (_, Some(_)) => self.staged(),
            (_, None) => self.input.float,
        };
        Floats { input, output: self.output.float, residual: self.residual.float }
    }

    /// What channels are copied to scratch as.
    pub fn staged(&self) -> Float {
        if self.products == Products::Halves { Float::Bf16 } else { Float::F32 }
    }

    /// Rounds of the loops over channels that one call of a kernel runs through.
    pub fn rounds(&self) -> u64 {
        let rows = self.panels.first().map_or(0, |p| p.k.rows(self.products));
        self.y.kernel as u64 * self.x.kernel as u64 * rows / u64::from(UNROLL)
    }

    /// Bytes that one call asks for.
    pub fn ahead_share(&self) -> i64 {
        i64::from(LINE) * i64::from(self.ahead.lines) * self.rounds() as i64
    }

    /// Tiles in one row.
    pub fn tiles_per_row(&self) -> usize {
        self.tiles.iter().map(|t| t.count).sum()
    }

    /// Number of panels.
    pub fn panel_count(&self) -> usize {
        self.panels.iter().map(|p| p.count).sum()
    }

    /// Number of units of work.
    pub fn units(&self) -> usize {
        match self.order {
            LoopOrder::Tiles => self.images * self.y.output * self.tiles_per_row(),
            LoopOrder::Panels => self.panel_count(),
        }
    }

    /// Scratch that a thread needs, in bytes.
    pub fn scratch(&self) -> u64 {
        let widest = self.tiles.iter().map(|t| t.width).max().unwrap_or(0);
        let staged = self.stage.as_ref().map_or(0, |s| s.pixel as u64 * widest as u64);
        let sums = self.panels.iter().flat_map(|panels| {
            let columns = panels.cols.len();
            self.tiles.iter().filter_map(move |tiles| {
                Some(self.matrices(tiles.width)?.scratch(tiles.width as u32, columns) as u64)
            })
        });
        staged.max(sums.max().unwrap_or(0))
    }

    /// How a tile of so many pixels uses matrix registers, if sums are there.
    pub fn matrices(&self, width: usize) -> Option<MatrixTile> {
        match self.accumulators {
            Accumulators::Vectors => None,
            Accumulators::Matrices(tile) => Some(tile.of_pixels(width)),
        }
    }

    /// The taps of some tiles, rows of a window one by one where all lie inside for matrix registers.
    pub fn taps(&self, tiles: &XTiles) -> Vec<Tap> {
        let rows = if self.accumulators == Accumulators::Vectors { 1 } else { self.y.kernel };
        let first = if self.stage.is_some() { None } else { Some(self.input) };
        taps(first, (&self.y, &self.x), rows, &tiles.taps)
    }
}

/// The taps of so many rows of a window, which read an image, or all the same pixels; for each column, the pixels of a tile that have it
/// inside.
pub(super) fn taps(
    input: Option<BytePitch>,
    (y, x): (&Axis, &Axis),
    rows: usize,
    columns: &[Range<usize>],
) -> Vec<Tap> {
    let disp = |row: usize, column: usize| {
        let from_row = |input: BytePitch| input.row * (row * y.dilation) as i64;
        let from_column = |input: BytePitch| input.pixel * ((column * x.dilation) as i64 - x.pad as i64);
        input.map_or(0, |input| (from_row(input) + from_column(input)) as i32)
    };
    let of_row = |row: usize| {
        columns.iter().enumerate().map(move |(column, pixels)| Tap {
            disp: disp(row, column),
            rows: pixels.start as u32..pixels.end as u32,
        })
    };
    (0..rows).flat_map(of_row).collect()
}

/// The last two axes of a window, which are those of a picture; `None` for fewer.
pub fn axes(window: &Window, input: (usize, usize), output: (usize, usize)) -> Option<(Axis, Axis)> {
    let front = window.kernel.len().checked_sub(2)?;
    Some((axis(window, front, input.0, output.0)?, axis(window, front + 1, input.1, output.1)?))
}

/// One axis of a window.
pub fn axis(window: &Window, axis: usize, input: usize, output: usize) -> Option<Axis> {
    Some(Axis {
        input,
        output,
        kernel: *window.kernel.get(axis)?,
        stride: *window.strides.get(axis)?,
        dilation: *window.dilations.get(axis)?,
        pad: *window.pads_begin.get(axis)?,
    })
}
