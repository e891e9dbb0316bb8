//! Windows over planes, whose rows lie dense, as one tile program for a plane: first across its rows, then along them.
//!
//! ```text
//!   rows of the plane      across them, in scratch          along it
//!   a0 a1 a2 a3 …
//!   b0 b1 b2 b3 …    ─▶    -∞ m0 m1 m2 m3 … -∞    ─▶    max(-∞, m0, m1)  max(m0, m1, m2)  …
//!   c0 c1 c2 c3 …             m = max(a, b, c)
//! ```
//!
//! So a window of 3 × 3 taps takes six of them, and columns beside the picture are no case of their own: in scratch, what changes
//! nothing is in their places. Where windows are two columns apart, each tap is every second lane of two vectors; where they are further
//! apart, they go one by one.
//!
//! # NaN in a maximum
//!
//! `max(x, m)` and `max(m, x)` of the tile IR are two numbers only where one of them is NaN, and then one of the two is. So the bits
//! of both together are a NaN, and the maximum otherwise.

use std::ops::Range;

use nnc_ir::op::elementwise::BinaryFn;

use super::line::Line;
use super::plane_windows::PlaneWindows;
use super::{Expr, Nest, Vectorised, resample, weighted};
use crate::code::float::Float;
use crate::code::tile::ir::{
    self, BinOp, Builder, ByteRange, Int, ParamKind, ParamRole, Source, TileProgram, Trips, Vector, at,
};

/// Rows of the result that are taken together: what is read of the scratch was stored a while ago, and rows of the plane that several
/// of them see are loaded once.
const ROWS: usize = 4;

/// Vectors of a row that are written out, or windows that go one by one; more go in a loop.
const WRITTEN_OUT: u32 = 4;

/// Floats of the widest vector, at whose multiple the first column of a plane is in scratch.
const ALIGNED: u32 = 16;

impl Nest {
    /// Whether [`program`] can write the nest: an element or a function of it is folded for each tap of a window, and the loop before the
    /// innermost one goes over rows.
    pub(super) fn is_windows(&self) -> bool {
        self.vectorised == Vectorised::Windows
            && self.unit_axes + 2 <= self.loops.len()
            && PlaneWindows::of(self).is_some()
    }

    /// Bytes of scratch that the nest needs.
    pub fn scratch(&self) -> usize {
        match self.vectorised {
            Vectorised::Windows => PlaneWindows::of(self).map_or(0, |windows| windows.scratch()),
            Vectorised::Resampled { .. } => resample::scratch(self),
            _ => 0,
        }
    }
}

/// The kernel of a plane.
pub(super) fn program(nest: &Nest, widest: ir::Lanes) -> Option<TileProgram> {
    let windows = PlaneWindows::of(nest)?;
    if windows.weights.is_some() {
        return weighted::program(&windows, widest);
    }
    let mut b = Builder::new(windows.name());
    let read = ParamKind::Read { range: windows.read()? };
    let written = ParamKind::Write { range: windows.written()? };
    let kept = ParamKind::Write { range: ByteRange::new(0, i64::try_from(windows.scratch()).ok()?) };
    let pointers = Pointers {
        input: b.param(ParamRole::Input, read),
        beside: (windows.beside.iter())
            .map(|beside| {
                Some(b.param(ParamRole::Residual, ParamKind::Read { range: windows.read_beside(beside)? }))
            })
            .collect::<Option<Vec<Int>>>()?,
        output: b.param(ParamRole::Output, written),
        scratch: b.param(ParamRole::Scratch, kept),
    };
    let mut writer = WindowWriter { windows: &windows, line: Line::bare(b, widest), at: pointers };
    writer.fill_beside();
    for (taps, count) in windows.blocks(ROWS) {
        writer.line.b.begin();
        writer.across(&taps)?;
        writer.along(taps.len())?;
        let rows = taps.len() as i64;
        let output = windows.nest.result.strides[windows.rows()];
        let mut moves = vec![(writer.at.input, windows.stride()), (writer.at.output, output)];
        moves.extend(writer.at.beside.iter().zip(&windows.beside).map(|(&at, beside)| (at, beside.row)));
        writer.advance(&moves, rows)?;
        writer.line.b.end(Trips::Imm(count));
    }
    Some(writer.line.b.finish())
}

impl PlaneWindows<'_> {
    /// Floats of a row in scratch before the first column.
    fn lead(&self) -> u32 {
        self.inside.start.next_multiple_of(ALIGNED) - self.inside.start
    }

    /// Floats of a row in scratch: whole vectors are read of it, wherever the last window is.
    fn row(&self) -> u32 {
        let windows = self.nest.loops[self.rows() + 1] as u32;
        let last = windows.next_multiple_of(ALIGNED) * self.step + self.along.last().copied().unwrap_or(0);
        (self.lead() + last.max(self.columns) + 2 * ALIGNED).next_multiple_of(ALIGNED)
    }

    fn scratch(&self) -> usize {
        if self.weights.is_some() {
            return weighted::scratch(self);
        }
        4 * ROWS * self.row() as usize
    }
}

struct Pointers {
    input: Int,
    beside: Vec<Int>,
    output: Int,
    scratch: Int,
}

struct WindowWriter<'w, 'n> {
    windows: &'w PlaneWindows<'n>,
    line: Line,
    at: Pointers,
}

impl WindowWriter<'_, '_> {
    /// Where a column of a row is in scratch.
    fn kept(&self, row: usize, column: u32) -> ir::Addr {
        let w = self.windows;
        at(self.at.scratch, Float::F32.span(row as u32 * w.row() + w.lead() + column) as i32)
    }

    /// Columns beside the picture, which stay as they are.
    fn fill_beside(&mut self) {
        let w = self.windows;
        let neutral = self.line.b.constant(self.line.widest, f32::from_bits(w.neutral));
        let lanes = self.line.widest.count();
        for row in 0..ROWS {
            for Range { start, end } in [0..w.inside.start, w.inside.end..w.columns] {
                for column in (start..end).step_by(lanes as usize) {
                    let to = self.kept(row, column);
                    self.line.b.store(neutral, (end - column).min(lanes), to);
                }
            }
        }
    }

    /// Folds the rows that some rows of windows see.
    fn across(&mut self, taps: &[Range<i64>]) -> Option<()> {
        let w = self.windows;
        // Each place that is read, and the rows of windows that see it, from the first place on.
        let mut uses: Vec<(i64, usize)> = Vec::new();
        for (row, taps) in taps.iter().enumerate() {
            uses.extend(w.places(taps).into_iter().map(|place| (row as i64 * w.stride() + place, row)));
        }
        uses.sort_unstable();
        let value = w.nest.accumulators.first()?.value.clone();
        let lanes = self.line.widest.count();
        let moving = [(self.at.input, w.input.span(lanes)), (self.at.scratch, Float::F32.span(lanes))];
        self.sweep(w.inside.end - w.inside.start, lanes, &moving, &mut |writer, column, used| {
            let lanes = ir::Lanes::holding(used)?;
            let mut folded: Vec<Option<Vector>> = vec![None; taps.len()];
            for same in uses.chunk_by(|a, b| a.0 == b.0) {
                let disp = same.first()?.0 + w.input.span(w.inside.start + column);
                let from = at(writer.at.input, disp.try_into().ok()?).of(w.input);
                let x = writer.line.b.load(lanes, used, from);
                let x = writer.line.value(&value, &[(Expr::Operand(0), x)], lanes)?;
                for &(_, row) in same {
                    folded[row] = Some(match folded[row] {
                        None => x,
                        Some(so_far) => fold(&mut writer.line.b, w.function, so_far, x),
                    });
                }
            }
            for (row, folded) in folded.into_iter().enumerate() {
                let neutral = f32::from_bits(w.neutral);
                let folded = folded.unwrap_or_else(|| writer.line.b.constant(lanes, neutral));
                let to = writer.kept(row, w.inside.start + column);
                writer.line.b.store(folded, used, to);
            }
            Some(())
        })
    }

    /// Folds the columns that each window of some rows sees, and stores what follows from them.
    fn along(&mut self, rows: usize) -> Option<()> {
        let w = self.windows;
        let windows = u32::try_from(w.nest.loops[w.rows() + 1]).ok()?;
        let lanes = if w.step > 2 { 1 } else { self.line.widest.count() };
        let mut moving =
            vec![(self.at.scratch, Float::F32.span(lanes * w.step)), (self.at.output, w.output.span(lanes))];
        let varying = self.at.beside.iter().zip(&w.beside).filter(|(_, beside)| beside.varies);
        moving.extend(varying.map(|(&at, beside)| (at, beside.float.span(lanes))));
        for row in 0..rows {
            self.sweep(windows, lanes, &moving, &mut |writer, first, used| {
                let lanes = ir::Lanes::holding(used)?;
                let mut loaded: Vec<(u32, Vector)> = Vec::new();
                let mut load = |writer: &mut Self, column: u32| {
                    if let Some((_, x)) = loaded.iter().find(|(at, _)| *at == column) {
                        return *x;
                    }
                    let from = writer.kept(row, first * w.step + column);
                    let x = writer.line.b.load(lanes, lanes.count(), from);
                    loaded.push((column, x));
                    x
                };
                let mut folded: Option<Vector> = None;
                for &tap in &w.along {
                    let x = match w.step {
                        2 => {
                            let even = tap - tap % 2;
                            let (low, high) = (load(writer, even), load(writer, even + lanes.count()));
                            writer.line.b.pick(low, high, (tap % 2) as u8)
                        }
                        _ => load(writer, tap),
                    };
                    folded = Some(match folded {
                        None => x,
                        Some(so_far) => fold(&mut writer.line.b, w.function, so_far, x),
                    });
                }
                let at = (&writer.at.beside[..], writer.at.output);
                w.store(&mut writer.line, at, (row, first, used), (folded?, 1))
            })?;
        }
        Some(())
    }

    /// Writes what is done with some elements, so many at a time: `write` gets the first one, from where the pointers are, and how many
    /// there are. Pointers, of which each moves by so many bytes for those, are where they were afterwards.
    fn sweep(
        &mut self,
        elements: u32,
        lanes: u32,
        moving: &[(Int, i64)],
        write: &mut dyn FnMut(&mut Self, u32, u32) -> Option<()>,
    ) -> Option<()> {
        let (vectors, rest) = (elements / lanes, elements % lanes);
        let together = if vectors <= WRITTEN_OUT { vectors } else { 2 };
        let rounds = vectors.checked_div(together).unwrap_or(0);
        let left = vectors - rounds * together;
        if rounds > 0 {
            self.line.b.begin();
            (0..together).try_for_each(|vector| write(self, vector * lanes, lanes))?;
            if rounds > 1 {
                self.advance(moving, i64::from(together))?;
            }
            self.line.b.end(Trips::Imm(rounds));
        }
        let done = if rounds > 1 { 0 } else { rounds * together };
        (0..left).try_for_each(|vector| write(self, (done + vector) * lanes, lanes))?;
        if rest > 0 {
            write(self, (done + left) * lanes, rest)?;
        }
        if rounds > 1 { self.advance(moving, -i64::from(rounds * together)) } else { Some(()) }
    }

    fn advance(&mut self, moving: &[(Int, i64)], vectors: i64) -> Option<()> {
        for &(pointer, bytes) in moving {
            self.line.b.advance(pointer, (bytes * vectors).try_into().ok()?);
        }
        Some(())
    }
}

/// Takes another vector in.
fn fold(b: &mut Builder, function: BinaryFn, so_far: Vector, x: Vector) -> Vector {
    let lanes = b.lanes(x);
    let mut bin = |op, x, y| {
        let dst = b.vector(lanes);
        b.bin(op, dst, x, Source::Reg(y));
        dst
    };
    let op = match function {
        BinaryFn::Max => BinOp::Max,
        BinaryFn::Min => BinOp::Min,
        _ => return bin(BinOp::Add, so_far, x),
    };
    let (one, other) = (bin(op, x, so_far), bin(op, so_far, x));
    bin(BinOp::Or, one, other)
}
