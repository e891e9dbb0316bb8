//! The geometry that depthwise convolutions and pools share: a block of output pixels, channels in lanes, and the
//! window of input that each of them sees.
//!
//! ```text
//!   out   x0  x1  x2        kernel 3×3, stride 1: input column i serves kernel column i - x of output x,
//!        ╱│╲ ╱│╲ ╱│╲        so each input vector is loaded once and used up to 3·3 times
//!   in  0 1 2 3 4
//! ```
//!
//! No halo is stored. Each output row says which kernel rows lie inside the image, each output column which kernel
//! columns, so border tiles are descriptors of their own that leave the rest out. Input rows and columns are visited in
//! ascending order, so every output accumulates in the order kernel row, kernel column, whatever block it is part of.

use std::ops::Range;

use super::super::error::TileError;
use super::super::ir::{
    Addr, BinOp, Builder, ByteRange, Inst, Int, Lanes, ParamKind, ParamRole, Source, Trips, Vector, at,
};
use super::epilogue::{Activation, Clamp, KernelEpilogue};
use super::{Displacements, strided};
use crate::code::float::{Float, Floats};

/// A block of output pixels and the input under it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PixelBlock {
    /// For each output row of the block: the kernel rows inside the image.
    pub rows: Vec<Range<u32>>,
    /// For each output column of the block: the kernel columns inside the image.
    pub cols: Vec<Range<u32>>,
    /// Kernel rows and columns.
    pub kernel: (u32, u32),
    /// Input rows and columns from one output pixel to the next.
    pub stride: (u32, u32),
    /// Input rows and columns from one kernel element to the next.
    pub dilation: (u32, u32),
    /// What lies in the input, the output and the residual.
    pub floats: Floats,
    /// Bytes from one input pixel to the next.
    pub a_pixel: i32,
    /// Bytes from one input row to the next.
    pub a_row: i32,
    /// Bytes from one output pixel to the next.
    pub c_pixel: i32,
    /// Bytes from one output row to the next.
    pub c_row: i32,
    /// Channels in lanes.
    pub lanes: Lanes,
    /// Lanes that exist; fewer than `lanes` only where tensors have no lane padding.
    pub used: u32,
    /// The most blocks that a call may ask for; with 1 there is no count parameter.
    pub tiles: u32,
    /// Where the next block of a call is.
    pub along: Along,
}

/// How the blocks of a call follow one another.
///
/// Along the columns, weights stay in registers, but each pixel gives one vector at a time: when a row of pixels does not
/// fit the first-level cache, all of it comes from the second once for each vector. Across the channels, the pixels under
/// a block are used up while they are near, and weights are loaded for each block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Along {
    /// The same channels of the next columns.
    #[default]
    Columns,
    /// The next vector of channels of the same pixels, directly behind this one in input, output and residual.
    Channels,
}

/// What happens to an input value before it is used: `activation(x · scale + shift)`. Padding stays zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelPrologue {
    /// Whether there are a scale and a shift for each channel.
    pub affine: bool,
    /// Applied after them.
    pub activation: Activation,
}

/// One use of an input vector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    /// Index of the output, row by row.
    pub output: usize,
    /// Kernel element.
    pub ky: u32,
    pub kx: u32,
}

/// The input vectors of a block and their uses.
#[derive(Clone, Debug)]
pub(super) struct InputVectors {
    /// By vector.
    uses: Vec<Use>,
    /// For each vector: its displacement, and where its uses end.
    vectors: Vec<(i64, usize)>,
}

impl InputVectors {
    /// Each vector: its displacement and its uses.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &[Use])> {
        let starts = [0].into_iter().chain(self.vectors.iter().map(|(_, end)| *end));
        starts.zip(&self.vectors).map(|(start, &(disp, end))| (disp, &self.uses[start..end]))
    }
}

impl PixelBlock {
    /// The window of an unpadded block: all of the kernel for each of `rows` by `cols` outputs.
    pub fn interior(rows: usize, cols: usize, kernel: (u32, u32)) -> (Vec<Range<u32>>, Vec<Range<u32>>) {
        (vec![0..kernel.0; rows], vec![0..kernel.1; cols])
    }

    /// Number of output pixels.
    pub fn outputs(&self) -> usize {
        self.rows.len() * self.cols.len()
    }

    /// How many blocks a call computes.
    pub(super) fn count(&self, b: &mut Builder) -> Trips {
        match self.tiles {
            0 | 1 => Trips::Imm(1),
            max => Trips::Param(b.param(ParamRole::Tiles, ParamKind::Count { max })),
        }
    }

    pub(super) fn check(&self, program: &str) -> Result<(), TileError> {
        let wrong = |what: &str| Err(TileError::Descriptor { program: program.into(), what: what.into() });
        if self.rows.is_empty() || self.cols.is_empty() || self.tiles == 0 {
            return wrong(
                "a block needs at least one output row and column, and one call at least one block",
            );
        }
        if self.used == 0 || self.used > self.lanes.count() {
            return wrong("a block stores at least one lane and at most all");
        }
        if self.rows.iter().any(|r| r.end > self.kernel.0) || self.cols.iter().any(|c| c.end > self.kernel.1)
        {
            return wrong("a block names a kernel element that the kernel does not have");
        }
        Ok(())
    }

    /// The input vectors in ascending order of row and column, by displacement, each with its uses.
    pub(super) fn inputs(&self) -> InputVectors {
        let mut all: Vec<((u32, u32), Use)> = Vec::new();
        for (r, kernel_rows) in self.rows.iter().enumerate() {
            for (x, kernel_cols) in self.cols.iter().enumerate() {
                for ky in kernel_rows.clone() {
                    for kx in kernel_cols.clone() {
                        let iy = r as u32 * self.stride.0 + ky * self.dilation.0;
                        let ix = x as u32 * self.stride.1 + kx * self.dilation.1;
                        all.push(((iy, ix), Use { output: r * self.cols.len() + x, ky, kx }));
                    }
                }
            }
        }
        all.sort_unstable_by_key(|(at, u)| (*at, u.output));
        let mut inputs = InputVectors { uses: all.iter().map(|(_, u)| *u).collect(), vectors: Vec::new() };
        let mut end = 0;
        for uses in all.chunk_by(|a, b| a.0 == b.0) {
            let (iy, ix) = uses[0].0;
            end += uses.len();
            let disp = i64::from(iy) * i64::from(self.a_row) + i64::from(ix) * i64::from(self.a_pixel);
            inputs.vectors.push((disp, end));
        }
        inputs
    }

    /// Bytes by which the input pointer moves from one block to the next.
    pub(super) fn input_step(&self) -> i64 {
        match self.along {
            Along::Columns => i64::from(self.a_pixel) * i64::from(self.stride.1) * self.cols.len() as i64,
            Along::Channels => i64::from(self.lanes.span(self.floats.input)),
        }
    }

    /// Bytes by which a pointer over outputs `pixel` bytes apart, of a type, moves from one block to the next.
    pub(super) fn output_step(&self, pixel: i32, float: Float) -> i64 {
        match self.along {
            Along::Columns => i64::from(pixel) * self.cols.len() as i64,
            Along::Channels => i64::from(self.lanes.span(float)),
        }
    }

    /// Bytes by which a pointer over parameters, of which a vector of channels has so many, moves from one block to the
    /// next.
    pub(super) fn parameter_step(&self, bytes: i64) -> i64 {
        match self.along {
            Along::Columns => 0,
            Along::Channels => bytes,
        }
    }

    /// The parameters that all blocks of a call read: `used` bytes of every `step`.
    pub(super) fn parameter_range(&self, step: i64, used: i64) -> ByteRange {
        strided(self.tiles, self.parameter_step(step), used)
    }

    /// The input that all blocks of a call touch.
    pub(super) fn input_range(&self, inputs: &InputVectors) -> ByteRange {
        let vector = self.floats.input.span(self.used);
        let one = |(disp, _): &(i64, usize)| ByteRange::new(*disp, *disp + vector);
        let block = inputs.vectors.iter().map(one).fold(ByteRange::default(), ByteRange::union);
        match block.is_empty() {
            true => block,
            false => {
                let steps = strided(self.tiles, self.input_step(), 0);
                ByteRange::new(block.lo + steps.lo, block.hi + steps.hi)
            }
        }
    }

    /// The output, at a pitch of pixels and rows, that all blocks of a call touch.
    pub(super) fn output_range(&self, pixel: i32, row: i32, float: Float) -> ByteRange {
        let rows = strided(self.rows.len() as u32, i64::from(row), 0);
        let cols = strided(self.cols.len() as u32, i64::from(pixel), float.span(self.used));
        let steps = strided(self.tiles, self.output_step(pixel, float), 0);
        ByteRange::new(rows.lo + cols.lo + steps.lo, rows.hi + cols.hi + steps.hi)
    }

    /// Displacement of an output at a pitch of pixels and rows.
    pub(super) fn output_disp(&self, output: usize, pixel: i32, row: i32) -> i64 {
        let (r, x) = (output / self.cols.len(), output % self.cols.len());
        r as i64 * i64::from(row) + x as i64 * i64::from(pixel)
    }
}

/// Moves pointers, each by its number of bytes, to the next block.
pub(super) fn step(b: &mut Builder, displacements: &mut Displacements, steps: &[(Int, i64)]) {
    for &(pointer, bytes) in steps.iter().filter(|(_, bytes)| *bytes != 0) {
        let bytes = displacements.get(bytes);
        b.advance(pointer, bytes);
    }
}

/// The registers of a prologue, loaded once per call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prepared {
    activation: Activation,
    constants: Clamp,
    affine: Option<(Vector, Vector)>,
}

impl KernelPrologue {
    /// Whether it changes nothing.
    pub fn is_none(self) -> bool {
        self == KernelPrologue::default()
    }

    /// Registers that it needs at most, besides that of the value.
    pub fn registers(self) -> usize {
        let activation = match self.activation {
            Activation::None => 0,
            Activation::Relu => 1,
            Activation::Clip { .. } => 2,
            activation => KernelEpilogue { activation, ..KernelEpilogue::default() }.registers(0),
        };
        activation + if self.affine { 2 } else { 0 }
    }

    /// Declares the parameters that a prologue needs: scale and shift.
    pub(super) fn params(self, b: &mut Builder, range: ByteRange) -> Option<(Int, Int)> {
        let read = ParamKind::Read { range };
        self.affine.then(|| (b.param(ParamRole::Scale, read.clone()), b.param(ParamRole::Shift, read)))
    }

    /// Loads what a prologue needs for the vector `disp` bytes into scale and shift.
    pub(super) fn begin(
        self,
        b: &mut Builder,
        params: Option<(Int, Int)>,
        disp: i32,
        lanes: Lanes,
        used: u32,
    ) -> Prepared {
        let constants =
            KernelEpilogue { activation: self.activation, ..KernelEpilogue::default() }.begin(b, lanes);
        let affine = params.map(|(scale, shift)| {
            (b.load(lanes, used, at(scale, disp)), b.load(lanes, used, at(shift, disp)))
        });
        Prepared { activation: self.activation, constants, affine }
    }
}

impl Prepared {
    /// Loads an input vector and applies the prologue: scale and shift are rounded one after the other.
    pub(super) fn load(self, b: &mut Builder, lanes: Lanes, used: u32, addr: Addr) -> Vector {
        // One instruction where the operand can come from memory.
        if let (Activation::Relu, Some(zero), None) = (self.activation, self.constants.low, self.affine)
            && used == lanes.count()
        {
            let x = b.vector(lanes);
            b.bin(BinOp::Max, x, zero, Source::Mem(addr));
            return x;
        }
        let x = b.load(lanes, used, addr);
        if let Some((scale, shift)) = self.affine {
            b.bin(BinOp::Mul, x, x, Source::Reg(scale));
            b.bin(BinOp::Add, x, x, Source::Reg(shift));
        }
        self.activation.apply(b, self.constants, x);
        x
    }
}

/// `dst` = `src` in a fresh register.
pub(super) fn copy(b: &mut Builder, src: Vector) -> Vector {
    let dst = b.vector(b.lanes(src));
    b.push(Inst::Copy { dst, src });
    dst
}
