//! Pools: the largest or the mean value of each window, and of whole images.
//!
//! # Numeric contract
//!
//! - A maximum is NaN if any value is; a window without any pixel gives -∞. Which zero wins, +0 or -0, is not specified.
//! - A mean is the sum in that order, times the reciprocal of the number of pixels rounded to f32.
//! - A global mean has four sums, the j-th over the pixels j, j+4, … of each row (of the whole image where rows follow
//!   one another without a gap), added pairwise, times the rounded reciprocal. A global maximum is a maximum.
//!
//! # NaN in a maximum
//!
//! `max(x, m)` of the tile IR keeps `m` when `x` is NaN, and when `m` is. So NaN stays in a maximum once it is there,
//! and only has to get in: `min(0, max(0, x))` is 0, or NaN where x is, and is added to the maximum after each step.
//!
//! # Parameters, in this order, those not needed left out
//!
//! | role | meaning |
//! |---|---|
//! | `Input` | where kernel element (0, 0) of the first output lies, perhaps outside the image; the first pixel |
//! | `Output` | the first output |
//! | `Tiles` | number of blocks; if [`PixelBlock::tiles`] > 1 |
//! | `Scale`, `Shift` | one per lane; if the prologue is affine |
//! | `Residual` | as `Output`; if the epilogue has a residual |

use super::super::error::TileError;
use super::super::ir::{
    BinOp, Builder, ByteRange, Lanes, ParamKind, ParamRole, Source, TileProgram, Trips, Vector, at,
};
use super::dense::{Col, panel_channels};
use super::epilogue::{Activation, KernelEpilogue, KernelResidual};
use super::window::{self, Along, KernelPrologue, PixelBlock};
use super::{Displacements, strided};
use crate::code::float::{Float, Floats};

/// What is computed of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolFunction {
    /// The largest value.
    Max,
    /// The sum over the number of pixels inside the image.
    MeanInside,
    /// The sum over a fixed number of pixels: the kernel's, where padding counts.
    MeanOf(u32),
    /// The largest unsigned byte, of which each element has four. A window without any pixel gives 0.
    MaxBytes,
}

/// A block of a pool; the geometry is that of a depthwise convolution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolTile {
    /// The outputs and what they see.
    pub block: PixelBlock,
    /// What is computed.
    pub pool: PoolFunction,
    /// Bytes from one pixel of the residual to the next.
    pub residual_pixel: i32,
    /// Bytes from one row of the residual to the next.
    pub residual_row: i32,
    /// What happens to the input.
    pub prologue: KernelPrologue,
    /// What happens before the store; a pool has no bias.
    pub epilogue: KernelEpilogue,
}

impl PoolTile {
    /// A name that tells kernels apart for people.
    pub fn name(&self) -> String {
        let PixelBlock { rows, cols, kernel: (kh, kw), stride, .. } = &self.block;
        let kind = word(self.pool);
        let floats = self.block.floats.word();
        format!("{kind}pool_{floats}_{}x{}_k{kh}x{kw}s{}", rows.len(), cols.len(), stride.1)
    }

    /// The program.
    pub fn program(&self) -> Result<TileProgram, TileError> {
        let block = &self.block;
        block.check(&self.name())?;
        let (lanes, used) = (block.lanes, block.used);
        let inputs = block.inputs();
        let mut displacements = Displacements::default();
        let mut b = Builder::new(self.name());
        let input = b.param(ParamRole::Input, ParamKind::Read { range: block.input_range(&inputs) });
        let output_range = block.output_range(block.c_pixel, block.c_row, block.floats.output);
        let output = b.param(ParamRole::Output, ParamKind::Write { range: output_range });
        let tiles = block.count(&mut b);
        let vector = i64::from(lanes.bytes());
        let prologue = self.prologue.params(&mut b, block.parameter_range(vector, 4 * i64::from(used)));
        let residual = (self.epilogue.residual != KernelResidual::None).then(|| {
            let float = block.floats.residual;
            let range = block.output_range(self.residual_pixel, self.residual_row, float);
            b.param(ParamRole::Residual, ParamKind::Read { range })
        });
        let start = start(self.pool);
        let maximum = (self.pool == PoolFunction::Max).then(|| Maximum::begin(&mut b, lanes));
        if block.along == Along::Channels {
            b.begin();
        }
        let prepared = self.prologue.begin(&mut b, prologue, 0, lanes, used);
        if block.along == Along::Columns {
            b.begin();
        }
        let mut results: Vec<Option<Vector>> = vec![None; block.outputs()];
        for (disp, uses) in inputs.iter() {
            let x =
                prepared.load(&mut b, lanes, used, at(input, displacements.get(disp)).of(block.floats.input));
            let poison = maximum.map(|m| m.poison(&mut b, x));
            for u in uses {
                let result = results[u.output];
                let next = match (result, maximum) {
                    (Some(result), _) => result,
                    (None, Some(_)) => b.vector(lanes),
                    (None, None) => window::copy(&mut b, x),
                };
                match (maximum, poison, result) {
                    (Some(m), Some(poison), so_far) => {
                        b.bin(BinOp::Max, next, x, Source::Reg(so_far.unwrap_or(m.least)));
                        b.bin(BinOp::Add, next, next, Source::Reg(poison));
                    }
                    (_, _, Some(so_far)) => b.bin(join(self.pool), next, so_far, Source::Reg(x)),
                    (_, _, None) => {}
                }
                results[u.output] = Some(next);
            }
        }
        let constants = self.epilogue.begin(&mut b, lanes);
        for (i, result) in results.into_iter().enumerate() {
            let result = result.unwrap_or_else(|| b.constant(lanes, start));
            let (r, x) = (i / block.cols.len(), i % block.cols.len());
            let inside = block.rows[r].len() * block.cols[x].len();
            scale(&mut b, self.pool, result, inside as u64);
            let residual = residual.map(|base| {
                let disp = block.output_disp(i, self.residual_pixel, self.residual_row);
                (at(base, displacements.get(disp)).of(block.floats.residual), used)
            });
            self.epilogue.apply(&mut b, constants, result, residual);
            let disp = block.output_disp(i, block.c_pixel, block.c_row);
            b.store(result, used, at(output, displacements.get(disp)).of(block.floats.output));
        }
        if block.tiles > 1 {
            let output_step = block.output_step(block.c_pixel, block.floats.output);
            let mut steps = vec![(input, block.input_step()), (output, output_step)];
            let residual_step = block.output_step(self.residual_pixel, block.floats.residual);
            steps.extend(residual.map(|r| (r, residual_step)));
            let parameters = prologue.into_iter().flat_map(|(a, b)| [a, b]);
            steps.extend(parameters.map(|p| (p, block.parameter_step(vector))));
            window::step(&mut b, &mut displacements, &steps);
        }
        b.end(tiles);
        displacements.check(&self.name())?;
        Ok(b.finish())
    }
}

/// The constants of maxima.
#[derive(Clone, Copy, Debug)]
struct Maximum {
    least: Vector,
    /// -0, because adding it changes nothing.
    zero: Vector,
}

impl Maximum {
    fn begin(b: &mut Builder, lanes: Lanes) -> Maximum {
        Maximum { least: b.constant(lanes, f32::NEG_INFINITY), zero: b.constant(lanes, -0.0) }
    }

    /// A zero, or NaN where `x` is.
    fn poison(self, b: &mut Builder, x: Vector) -> Vector {
        let poison = b.vector(b.lanes(x));
        b.bin(BinOp::Max, poison, self.zero, Source::Reg(x));
        b.bin(BinOp::Min, poison, self.zero, Source::Reg(poison));
        poison
    }
}

fn word(pool: PoolFunction) -> &'static str {
    match pool {
        PoolFunction::Max => "max",
        PoolFunction::MaxBytes => "maxbytes",
        PoolFunction::MeanInside | PoolFunction::MeanOf(_) => "mean",
    }
}

/// What no pixel at all gives.
fn start(pool: PoolFunction) -> f32 {
    match pool {
        PoolFunction::Max => f32::NEG_INFINITY,
        PoolFunction::MeanInside | PoolFunction::MeanOf(_) | PoolFunction::MaxBytes => 0.0,
    }
}

/// What takes in another pixel, of all but maxima of floats.
fn join(pool: PoolFunction) -> BinOp {
    if pool == PoolFunction::MaxBytes { BinOp::MaxBytes } else { BinOp::Add }
}

/// Turns a sum into a mean.
fn scale(b: &mut Builder, pool: PoolFunction, sum: Vector, inside: u64) {
    let pixels = match pool {
        PoolFunction::Max | PoolFunction::MaxBytes => return,
        PoolFunction::MeanInside => inside.max(1),
        PoolFunction::MeanOf(pixels) => u64::from(pixels),
    };
    if pixels == 1 {
        return;
    }
    let reciprocal = (1.0 / pixels as f64) as f32;
    b.bin(BinOp::Mul, sum, sum, Source::Imm(reciprocal.to_bits()));
}

/// A pool over a whole image, for some vectors of channels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GlobalPoolTile {
    /// The vectors of channels.
    pub cols: Vec<Col>,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// What lies in the input and the output.
    pub floats: Floats,
    /// Bytes from one pixel to the next.
    pub a_pixel: i32,
    /// Bytes from one row to the next.
    pub a_row: i32,
    /// What is computed.
    pub pool: PoolFunction,
    /// What happens to the input.
    pub prologue: KernelPrologue,
    /// What happens before the store.
    pub activation: Activation,
}

/// Sums, or maxima, that grow side by side, and pixels of one round.
const PARTS: u32 = 4;

impl GlobalPoolTile {
    /// A name that tells kernels apart for people.
    pub fn name(&self) -> String {
        let (kind, channels) = (word(self.pool), panel_channels(&self.cols));
        format!("global{kind}pool_{}_{}x{}x{channels}", self.floats.word(), self.height, self.width)
    }

    /// The program.
    pub fn program(&self) -> Result<TileProgram, TileError> {
        let wrong = |what: &str| Err(TileError::Descriptor { program: self.name(), what: what.into() });
        if self.cols.is_empty() || self.cols.iter().any(|c| c.used == 0 || c.used > c.lanes.count()) {
            return wrong("a pool needs columns that store at least one lane and at most all");
        }
        if self.width == 0 || self.height == 0 {
            return wrong("an image needs at least one pixel");
        }
        // Rows without a gap between them are one long row.
        let gapless = i64::from(self.a_row) == i64::from(self.width) * i64::from(self.a_pixel);
        let (width, height) = match self.width.checked_mul(self.height) {
            Some(pixels) if gapless => (pixels, 1),
            _ => (self.width, self.height),
        };
        let mut displacements = Displacements::default();
        let bytes = |float: Float| float.span(panel_channels(&self.cols));
        let row = strided(width, self.a_pixel.into(), bytes(self.floats.input));
        let rows = strided(height, self.a_row.into(), 0);
        let mut b = Builder::new(self.name());
        let input_range = ByteRange::new(row.lo + rows.lo, row.hi + rows.hi);
        let input = b.param(ParamRole::Input, ParamKind::Read { range: input_range });
        let output = b.param(
            ParamRole::Output,
            ParamKind::Write { range: ByteRange::new(0, bytes(self.floats.output)) },
        );
        let prologue = self.prologue.params(&mut b, ByteRange::new(0, bytes(Float::F32)));

        // Each vector, and its first channel.
        let firsts = self.cols.iter().scan(0, |next, col| {
            let first = *next;
            *next += col.used;
            Some(first)
        });
        let columns: Vec<(Col, u32)> = self.cols.iter().copied().zip(firsts).collect();
        let prepared: Vec<_> = columns
            .iter()
            .map(|(col, first)| {
                let offset = Float::F32.span(*first) as i32;
                self.prologue.begin(&mut b, prologue, offset, col.lanes, col.used)
            })
            .collect();
        let parts: Vec<Vec<Vector>> = (0..PARTS)
            .map(|_| columns.iter().map(|(col, _)| b.constant(col.lanes, start(self.pool))).collect())
            .collect();
        let widest = self.cols.iter().map(|c| c.lanes).max().unwrap_or(Lanes::X4);
        let maximum = (self.pool == PoolFunction::Max).then(|| Maximum::begin(&mut b, widest));
        let pixel = |b: &mut Builder, displacements: &mut Displacements, position: u32| {
            let disp = i64::from(position) * i64::from(self.a_pixel);
            let float = self.floats.input;
            for (v, (col, first)) in columns.iter().enumerate() {
                let addr = at(input, displacements.get(disp + float.span(*first))).of(float);
                let x = prepared[v].load(b, col.lanes, col.used, addr);
                let part = parts[(position % PARTS) as usize][v];
                match maximum {
                    Some(m) => {
                        let poison = m.poison(b, x);
                        b.bin(BinOp::Max, part, x, Source::Reg(part));
                        b.bin(BinOp::Add, part, part, Source::Reg(poison));
                    }
                    None => b.bin(join(self.pool), part, part, Source::Reg(x)),
                }
            }
        };
        b.begin();
        let rounds = width / PARTS;
        b.begin();
        (0..PARTS).for_each(|p| pixel(&mut b, &mut displacements, p));
        let round_bytes = i64::from(PARTS) * i64::from(self.a_pixel);
        window::step(&mut b, &mut displacements, &[(input, round_bytes)]);
        b.end(Trips::Imm(rounds));
        (0..width % PARTS).for_each(|p| pixel(&mut b, &mut displacements, p));
        if height > 1 {
            let rest = i64::from(self.a_row) - i64::from(rounds) * round_bytes;
            window::step(&mut b, &mut displacements, &[(input, rest)]);
        }
        b.end(Trips::Imm(height));

        let epilogue = KernelEpilogue { activation: self.activation, ..KernelEpilogue::default() };
        let constants = epilogue.begin(&mut b, widest);
        for (v, (col, first)) in columns.iter().enumerate() {
            let mut join = |into: usize, from: usize| {
                let (into, from) = (parts[into][v], parts[from][v]);
                match maximum {
                    Some(m) => {
                        let poison = m.poison(&mut b, from);
                        b.bin(BinOp::Max, into, from, Source::Reg(into));
                        b.bin(BinOp::Add, into, into, Source::Reg(poison));
                    }
                    None => b.bin(join(self.pool), into, into, Source::Reg(from)),
                }
            };
            join(0, 1);
            join(2, 3);
            join(0, 2);
            let pixels = u64::from(self.width) * u64::from(self.height);
            scale(&mut b, self.pool, parts[0][v], pixels);
            epilogue.apply(&mut b, constants, parts[0][v], None);
            let float = self.floats.output;
            b.store(parts[0][v], col.used, at(output, float.span(*first) as i32).of(float));
        }
        displacements.check(&self.name())?;
        Ok(b.finish())
    }
}
