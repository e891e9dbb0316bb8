//! A register block of a dense convolution or matrix product: some pixels of one output row by some vectors of output
//! channels.
//!
//! ```text
//!              weights (packed)  k ↓  [ lanes | lanes ]
//!                                       16      16
//!   input    pixel 0   ▸ ▸ ▸ ▸        [ sum0  | sum0 ]     output, row of pixels
//!            pixel 1   ▸ ▸ ▸ ▸        [ sum1  | sum1 ]
//!            …          channels
//! ```
//!
//! Each step of the inner loop loads one row of the weight panel and multiplies it by one channel of every pixel.
//! Input is addressed where it lies: a kernel tap is a displacement, a kernel row an advance of a pitch, channels are
//! contiguous, evenly spaced (planes of an NCHW image), or in runs listed in a table (channel shuffles). No halo is
//! stored: a tap says for which of the pixels it lies inside the image, and the caller leaves out kernel rows above and
//! below it by passing a later start and a smaller count. So 1×1, K×K, strided, dilated, grouped and fully connected
//! layers are all this program.
//!
//! Columns of few output channels may be folded; see [`panel`].
//!
//! # Numeric contract
//!
//! An output is `bias` (or 0), plus its products in the order kernel row, kernel column, channel, each added by one
//! fused multiply-add where the target has it. With [`DenseTile::split`] = s > 1 there are s such sums, the j-th over
//! the channels at positions j, j+s, … of each tap; the first starts at the bias, the others at 0, and they are added
//! pairwise at the end. Outputs of a folded column are sums of sums over every second or fourth channel, neighbours first,
//! to which the bias is added last. Taps outside the image contribute nothing. The result depends on the layer and on `split`
//! only, not on the tile that computes it.
//!
//! Sums of products of [bytes](Products) are exact, so they depend on the layer alone. A bias is an `i32` then. In [matrix
//! registers](matrix), sums of products of `bf16` are added up step by step of the depth, as the layer's runs of channels are cut.
//!
//! # Parameters, in this order, those not needed left out
//!
//! | role | meaning |
//! |---|---|
//! | `Input` | first pixel of the tile, at displacement 0 of the taps, in the first kernel row inside the image |
//! | `Weights` | the panel, at that kernel row |
//! | `Output` | first pixel and channel of the tile |
//! | `KernelRows` | number of kernel rows inside the image; if [`DenseTile::kernel_rows`] > 1 |
//! | `Table` | displacements of the channel runs; with [`Runs::Table`] |
//! | `Bias` | packed like one row of the panel; if the epilogue has a bias |
//! | `Factor`, `Addend` | packed like the bias; if the epilogue rescales, and adds |
//! | `Residual` | as `Output`; if the epilogue has a residual |
//! | `Ahead` | where prefetching starts; if [`DenseTile::ahead`] > 0 |
//! | `Scratch` | sums between the matrix registers and the epilogue; with [`Accumulators::Matrices`] |

mod emit;
pub mod matrix;
pub mod panel;

use std::ops::Range;

use super::super::error::TileError;
use super::super::ir::{ByteRange, TileProgram};
use super::epilogue::KernelEpilogue;
use super::strided;
use crate::code::float::{Float, Floats};
pub use matrix::MatrixTile;
use panel::together;
pub use panel::{Col, pack, pack_row, panel_channels, panel_width, position};

/// One column of the convolution kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tap {
    /// Bytes from the tile's input pointer to the tap of pixel 0.
    pub disp: i32,
    /// The pixels of the tile for which the tap lies inside the image. A tap without pixels still has weights.
    pub rows: Range<u32>,
}

/// How the input channels of one tap lie in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Runs {
    /// That many, one after another.
    Contiguous(u32),
    /// Evenly spaced.
    Stepped {
        /// Number of channels.
        count: u32,
        /// Bytes from one to the next.
        step: i32,
    },
    /// Runs of contiguous channels that start where a table of displacements says.
    Table(Vec<RunClass>),
}

/// Runs of equal length that follow one another in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunClass {
    /// Channels of each run.
    pub length: u32,
    /// Number of runs.
    pub count: u32,
    /// The smallest of their displacements, in bytes.
    pub least: i32,
    /// The largest of their displacements, in bytes.
    pub most: i32,
}

impl RunClass {
    /// Groups runs, given by displacement in bytes and length in channels, into classes without changing their order.
    pub fn of(runs: impl IntoIterator<Item = (i32, u32)>) -> Vec<RunClass> {
        let mut classes: Vec<RunClass> = Vec::new();
        for (disp, length) in runs {
            match classes.last_mut() {
                Some(last) if last.length == length => {
                    last.count += 1;
                    last.least = last.least.min(disp);
                    last.most = last.most.max(disp);
                }
                _ => classes.push(RunClass { length, count: 1, least: disp, most: disp }),
            }
        }
        classes
    }
}

impl Runs {
    /// Number of channels.
    pub fn channels(&self) -> u64 {
        match self {
            Runs::Contiguous(count) | Runs::Stepped { count, .. } => u64::from(*count),
            Runs::Table(classes) => classes.iter().map(|c| u64::from(c.length) * u64::from(c.count)).sum(),
        }
    }

    /// Rows of a panel for the channels of a tap.
    pub fn rows(&self, products: Products) -> u64 {
        let of_run = |length: u32| u64::from(length.div_ceil(products.together()));
        match self {
            Runs::Contiguous(count) | Runs::Stepped { count, .. } => of_run(*count),
            Runs::Table(classes) => classes.iter().map(|c| of_run(c.length) * u64::from(c.count)).sum(),
        }
    }

    /// Bytes that the channels of a tap occupy, from its displacement.
    fn range(&self, float: Float) -> ByteRange {
        match self {
            Runs::Contiguous(count) => ByteRange::new(0, float.span(*count)),
            Runs::Stepped { count, step } => strided(*count, i64::from(*step), float.span(1)),
            Runs::Table(classes) => classes
                .iter()
                .filter(|c| c.count > 0 && c.length > 0)
                .map(|c| ByteRange::new(i64::from(c.least), i64::from(c.most) + float.span(c.length)))
                .fold(ByteRange::default(), ByteRange::union),
        }
    }
}

/// How an input value gets into all lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broadcast {
    /// As an operand of each multiply-add: saves a register and an instruction, costs a load for each column.
    Embedded,
    /// Once, into a register.
    Register,
}

/// What is multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Products {
    /// Floats: a channel is one of them.
    #[default]
    Floats,
    /// Bytes, unsigned ones of the input and signed ones of the weights. A *quad* of four channels takes the place of a channel: it is as wide
    /// as an `f32`, and its products go into one lane, whose sum is an `i32`.
    Bytes,
    /// Words, likewise: a pair of channels takes the place of one.
    Words,
    /// Floats, by weights that lie as half floats and are widened when they are loaded.
    Widened(Float),
    /// `bf16`: two neighbouring channels of a run are multiplied together. The last one of a run of odd length is by itself: widened to
    /// `f32`, it is a pair whose lower half is zero.
    Halves,
}

impl Products {
    /// Whether they are of floats, one by one.
    pub const fn is_of_floats(self) -> bool {
        matches!(self, Products::Floats | Products::Widened(_))
    }

    /// Whether sums are integers.
    pub const fn is_of_integers(self) -> bool {
        matches!(self, Products::Bytes | Products::Words)
    }

    /// What lanes of a panel are loaded as.
    pub const fn weights(self) -> Float {
        match self {
            Products::Widened(float) => float,
            Products::Floats | Products::Bytes | Products::Words | Products::Halves => Float::F32,
        }
    }

    /// Multiply-adds of a lane in one step.
    pub const fn in_a_lane(self) -> u32 {
        match self {
            Products::Floats | Products::Widened(_) => 1,
            Products::Halves | Products::Words => 2,
            Products::Bytes => 4,
        }
    }

    /// Channels in a run that a row of a panel is for.
    const fn together(self) -> u32 {
        match self {
            Products::Halves => 2,
            _ => 1,
        }
    }
}

/// The registers that sums are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Accumulators {
    /// Vectors.
    #[default]
    Vectors,
    /// Matrix registers.
    Matrices(MatrixTile),
}

/// A register block of a dense layer; see the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DenseTile {
    /// Number of output pixels.
    pub rows: u32,
    /// Bytes from the input of one output pixel to that of the next.
    pub a_pixel: i32,
    /// The vectors of output channels.
    pub cols: Vec<Col>,
    /// The columns of the kernel, in order.
    pub taps: Vec<Tap>,
    /// Bytes from one kernel row to the next in the input.
    pub a_row: i32,
    /// The most kernel rows that a call may ask for; with 1 there is no count parameter.
    pub kernel_rows: u32,
    /// The input channels.
    pub k: Runs,
    /// Bytes from one output pixel to the next.
    pub c_pixel: i32,
    /// Bytes from one pixel of the residual to the next.
    pub residual_pixel: i32,
    /// Independent sums per output: 1, 2 or 4.
    pub split: u32,
    /// How input values are broadcast.
    pub broadcast: Broadcast,
    /// The registers that sums are in.
    pub accumulators: Accumulators,
    /// What is multiplied. Quads of bytes are as wide as the `f32` that the input is said to have then.
    pub products: Products,
    /// What lies in the input, the output and the residual.
    pub floats: Floats,
    /// Bytes from the weights of one channel to those of the next, where they lie in the rows of a matrix; in a panel they follow each
    /// other.
    pub weights_row: Option<i32>,
    /// Cache lines of what a later call reads that are asked for in four channels; with 0 there is no such parameter.
    pub ahead: u32,
    /// What happens before the store.
    pub epilogue: KernelEpilogue,
}

/// Channels handled in one round of the inner loop.
pub const UNROLL: u32 = 4;
/// Bytes of a cache line.
pub const LINE: i32 = 64;
/// The longest run of a table that is unrolled as a whole.
const UNROLL_RUN: u32 = 16;

impl DenseTile {
    /// A name that tells kernels apart for people.
    pub fn name(&self) -> String {
        let (width, taps) = (panel_channels(&self.cols), self.taps.len());
        let (rows, k, epilogue) = (self.rows, self.k.channels(), self.epilogue.word());
        let floats = match self.products {
            Products::Floats => self.floats.word(),
            Products::Bytes => format!("bytesto{}", self.floats.output.word()),
            Products::Words => format!("wordsto{}", self.floats.output.word()),
            Products::Widened(weights) => format!("{}by{}", self.floats.word(), weights.word()),
            Products::Halves => format!("pairsto{}", self.floats.output.word()),
        };
        let kind = match self.accumulators {
            Accumulators::Vectors => "dense",
            Accumulators::Matrices(_) => "matrix",
        };
        format!("{kind}_{floats}_{rows}x{width}_k{}x{taps}x{k}{epilogue}", self.kernel_rows)
    }

    /// Bytes of the panel for one kernel row.
    pub fn panel_row_bytes(&self) -> i64 {
        self.panel_step() * self.taps.len() as i64 * self.k.rows(self.products) as i64
    }

    /// Bytes of a row of the panel.
    fn panel_step(&self) -> i64 {
        self.products.weights().span(panel_width(&self.cols))
    }

    /// Bytes from one channel to the next in the weights.
    fn channel_row(&self) -> i64 {
        self.weights_row.map_or(self.panel_step(), i64::from)
    }

    /// The weights that a call reads.
    fn weights_range(&self) -> ByteRange {
        match self.weights_row {
            None => ByteRange::new(0, self.panel_row_bytes().saturating_mul(i64::from(self.kernel_rows))),
            Some(row) => {
                let channels = u32::try_from(self.k.channels()).unwrap_or(u32::MAX);
                strided(channels, row.into(), 4 * i64::from(panel_width(&self.cols)))
            }
        }
    }

    /// The program.
    pub fn program(&self) -> Result<TileProgram, TileError> {
        self.check()?;
        match self.accumulators {
            Accumulators::Vectors => emit::program(self),
            Accumulators::Matrices(tile) => matrix::program(self, tile),
        }
    }

    fn check(&self) -> Result<(), TileError> {
        let wrong = |what: &str| Err(TileError::Descriptor { program: self.name(), what: what.into() });
        if self.rows == 0 || self.cols.is_empty() {
            return wrong("a tile needs at least one pixel and one column");
        }
        if self.cols.iter().any(|c| c.used == 0 || c.used > c.lanes.count()) {
            return wrong("a column stores at least one lane and at most all");
        }
        let fits = |c: &Col| matches!(c.fold, 1 | 2 | 4) && c.lanes.count() * c.fold <= 16;
        if !self.cols.iter().all(fits) {
            return wrong("a column is folded by 1, 2 or 4, in at most 16 lanes");
        }
        let (channels, round) = (self.k.channels(), u64::from(together(&self.cols)));
        if round > 1 && !(matches!(self.k, Runs::Contiguous(_)) && channels.is_multiple_of(round)) {
            return wrong("folded columns need contiguous channels, and as many as fill all rounds");
        }
        if self.taps.iter().any(|t| t.rows.end > self.rows) {
            return wrong("a tap names a pixel that the tile does not have");
        }
        if self.products.is_of_integers() && (self.split > 1 || round > 1 || self.floats.input != Float::F32)
        {
            return wrong("integers are multiplied four bytes at a time, into one sum for each output");
        }
        let neighbours = self.floats.input == Float::Bf16 && !matches!(self.k, Runs::Stepped { .. });
        if self.products == Products::Halves && (round > 1 || !neighbours) {
            return wrong("pairs are of neighbouring channels of bf16, by a panel without folded columns");
        }
        if self.weights_row.is_some() && self.products != Products::Floats {
            return wrong("the rows of a matrix are f32");
        }
        if !matches!(self.split, 1 | 2 | 4) {
            return wrong("the number of sums per output must be 1, 2 or 4");
        }
        let is_packed = self.kernel_rows > 1 || self.taps.len() > 1 || round > 1;
        if self.weights_row.is_some() && (is_packed || matches!(self.k, Runs::Table(_))) {
            return wrong(
                "the rows of a matrix are no panel of several taps, of folded columns or of channels in a table",
            );
        }
        if self.kernel_rows == 0 {
            return wrong("a tile needs at least one kernel row");
        }
        match self.accumulators {
            Accumulators::Vectors => Ok(()),
            Accumulators::Matrices(tile) => tile.check(self).map_or(Ok(()), wrong),
        }
    }

    fn input_range(&self) -> ByteRange {
        let run = self.k.range(self.floats.input);
        let rows = strided(self.kernel_rows, i64::from(self.a_row), 0);
        let lead = match self.accumulators {
            Accumulators::Vectors => 0,
            Accumulators::Matrices(tile) => tile.before(self.rows as usize) as i64,
        };
        let taps = self.taps.iter().filter(|t| !t.rows.is_empty() && !run.is_empty()).map(|tap| {
            let pixels = [i64::from(tap.rows.start) - lead, i64::from(tap.rows.end) - 1];
            let pixels = pixels.map(|r| r * i64::from(self.a_pixel));
            let (first, last) = (pixels[0].min(pixels[1]), pixels[0].max(pixels[1]));
            let disp = i64::from(tap.disp);
            ByteRange::new(disp + first + rows.lo + run.lo, disp + last + rows.hi + run.hi)
        });
        taps.fold(ByteRange::default(), ByteRange::union)
    }

    /// The outputs at a distance of pixels, as floats of a type.
    fn output_range(&self, pixel: i32, float: Float) -> ByteRange {
        strided(self.rows, i64::from(pixel), float.span(panel_channels(&self.cols)))
    }
}
