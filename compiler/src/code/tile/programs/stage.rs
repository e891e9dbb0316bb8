//! Copies the channels of some pixels side by side and applies a prologue on the way: what a dense layer reads when its input
//! needs an activation first, or lies in pieces.
//!
//! ```text
//!   pixel   ┌ run ┐      ┌── run ──┐             ┌──────────────┐
//!    in     └─────┘      └─────────┘   ──▶  out  └──────────────┘   activation(x · scale + shift)
//! ```
//!
//! | role | meaning |
//! |---|---|
//! | `Input` | first pixel |
//! | `Output` | first pixel of the copy |
//! | `Scale`, `Shift` | one value a channel, in the order of the copy; if [`StageTile::affine`] |

use super::super::error::TileError;
use super::super::ir::{Builder, ByteRange, Lanes, ParamKind, ParamRole, Source, TileProgram, Trips, at};
use super::epilogue::{Activation, KernelEpilogue};
use super::{Displacements, strided};
use crate::code::float::Float;

/// A copy of some pixels; see the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StageTile {
    /// Number of pixels.
    pub rows: u32,
    /// Byte offset in a pixel, and number of channels, of each run.
    pub runs: Vec<(i32, u32)>,
    /// What lies in the input.
    pub input: Float,
    /// What the copy has.
    pub output: Float,
    /// Bytes from one pixel to the next in the input.
    pub input_pixel: i32,
    /// Bytes from one pixel to the next in the copy.
    pub output_pixel: i32,
    /// Whether channels are scaled and shifted.
    pub affine: bool,
    /// What is applied last.
    pub activation: Activation,
}

impl StageTile {
    /// The program, in vectors of at most `widest` lanes.
    pub fn program(&self, widest: Lanes) -> Result<TileProgram, TileError> {
        let channels: u32 = self.runs.iter().map(|r| r.1).sum();
        let word = self.activation.word();
        let affine = if self.affine { "_affine" } else { "" };
        let floats = match self.output {
            Float::F32 => self.input.word().to_string(),
            output => format!("{}to{}", self.input.word(), output.word()),
        };
        let name = format!("stage_{floats}_{}x{channels}{affine}{word}", self.rows);
        let mut b = Builder::new(name.clone());
        let mut displacements = Displacements::default();
        let bytes = 4 * i64::from(channels);
        let source = self.runs.iter().fold(ByteRange::default(), |e, &(offset, len)| {
            let pixels = strided(self.rows, i64::from(self.input_pixel), self.input.span(len));
            e.union(ByteRange::new(i64::from(offset) + pixels.lo, i64::from(offset) + pixels.hi))
        });
        let copy = strided(self.rows, i64::from(self.output_pixel), self.output.span(channels));
        let input = b.param(ParamRole::Input, ParamKind::Read { range: source });
        let output = b.param(ParamRole::Output, ParamKind::Write { range: copy });
        let constants = ParamKind::Read { range: ByteRange::new(0, bytes) };
        let affine = self.affine.then(|| {
            (b.param(ParamRole::Scale, constants.clone()), b.param(ParamRole::Shift, constants.clone()))
        });
        let epilogue = KernelEpilogue { activation: self.activation, ..KernelEpilogue::default() };
        let bounds = epilogue.begin(&mut b, widest);
        b.begin();
        let mut done = 0u32;
        for &(offset, len) in &self.runs {
            let mut c = 0;
            while c < len {
                let lanes = Lanes::holding((len - c).min(widest.count())).unwrap_or(Lanes::X4);
                let n = lanes.count().min(len - c);
                let from = displacements.get(i64::from(offset) + self.input.span(c));
                let of = displacements.get(4 * i64::from(done + c));
                let to = displacements.get(self.output.span(done + c));
                let mut x = b.load(lanes, n, at(input, from).of(self.input));
                if let Some((scale, shift)) = affine {
                    let sum = b.load(lanes, n, at(shift, of));
                    let factor = b.load(lanes, n, at(scale, of));
                    b.fma(sum, x, Source::Reg(factor));
                    x = sum;
                }
                epilogue.apply(&mut b, bounds, x, None);
                b.store(x, n, at(output, to).of(self.output));
                c += n;
            }
            done += len;
        }
        b.advance(input, self.input_pixel);
        b.advance(output, self.output_pixel);
        b.end(Trips::Imm(self.rows));
        displacements.check(&name)?;
        Ok(b.finish())
    }
}
