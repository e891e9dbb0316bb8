//! Windows over planes whose taps are weighed: a convolution of each channel by itself, where planes come from the caller and
//! go back to it.
//!
//! ```text
//!   rows of the plane     in scratch              a vector of windows, for some rows at once
//!   a0 a1 a2 …            0 a0 a1 a2 … 0          y0 += w0 · (0 a0 a1 …) + w1 · (a0 a1 a2 …) + …
//!   b0 b1 b2 …     ─▶     0 b0 b1 b2 … 0          y1 += …            what several rows see is loaded once
//! ```
//!
//! In scratch, zeros are in the place of columns beside the picture. Where windows are two columns apart, even and odd columns are put apart
//! there, so that each tap is a vector side by side again.

use std::ops::Range;

use super::line::Line;
use super::plane_windows::{PlaneWindows, TapRow};
use crate::code::float::Float;
use crate::code::tile::ir::{
    self, BinOp, Builder, ByteRange, Int, ParamKind, ParamRole, Source, TileProgram, Trips, Vector, at,
};

/// Rows of windows that are taken together: as many as there are registers for their sums, beside the factors of all taps.
const ROWS: [usize; 2] = [8, 4];

/// Registers for what is loaded, and for what functions of results need.
const SPARE: usize = 6;

/// Vectors of a row that are written out.
const WRITTEN_OUT: u32 = 2;

/// Floats of the widest vector, at whose multiple the first column of a plane is in scratch.
const ALIGNED: u32 = 16;

/// Bytes of scratch that a kernel needs, for any vectors.
pub(super) fn scratch(windows: &PlaneWindows<'_>) -> usize {
    let slots = ROWS.iter().map(|&rows| slots(windows, rows)).max().unwrap_or(0);
    4 * slots * row(windows) as usize
}

/// The rows of the plane that so many rows of windows see at most.
fn slots(windows: &PlaneWindows<'_>, rows: usize) -> usize {
    windows.blocks(rows).iter().map(|(taps, _)| places(windows, taps).len()).max().unwrap_or(0)
}

/// Bytes to the rows of the plane that some rows of windows see, from the first row's first tap.
fn places(windows: &PlaneWindows<'_>, taps: &[Range<i64>]) -> Vec<i64> {
    let row = |(row, taps): (usize, &Range<i64>)| {
        let first = row as i64 * windows.stride();
        windows.tap_rows(taps).into_iter().map(move |tap| first + tap.place)
    };
    let mut places: Vec<i64> = taps.iter().enumerate().flat_map(row).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// Floats of each part of a row in scratch: whole vectors are read of it, wherever the last window is.
fn part(windows: &PlaneWindows<'_>) -> u32 {
    let last = (windows.nest.loops[windows.rows() + 1] as u32).next_multiple_of(ALIGNED);
    let reach = windows.along.last().copied().unwrap_or(0) / windows.step;
    let columns = windows.columns.div_ceil(windows.step);
    (columns.max(last + reach) + 3 * ALIGNED).next_multiple_of(ALIGNED)
}

/// Floats of a row in scratch.
fn row(windows: &PlaneWindows<'_>) -> u32 {
    windows.step * part(windows)
}

/// The kernel of a plane.
pub(super) fn program(windows: &PlaneWindows<'_>, widest: ir::Lanes) -> Option<TileProgram> {
    let weights = windows.weights.as_ref()?;
    let taps = windows.all_taps();
    let registers = if widest == ir::Lanes::X16 { 32 } else { 16 };
    let holds = |rows: usize| taps + rows + SPARE <= registers;
    let (rows, held) = match ROWS.into_iter().find(|&rows| holds(rows)) {
        Some(rows) => (rows, true),
        None => (ROWS[0], false),
    };
    let mut b = Builder::new(windows.name());
    let mut factors = ByteRange::default();
    for (taps, _) in windows.blocks(rows) {
        for tap in taps.iter().flat_map(|taps| windows.tap_rows(taps)) {
            for along in &weights.along {
                let from = tap.weights.checked_add(*along)?;
                factors = factors.union(ByteRange::new(from, from.checked_add(weights.float.span(1))?));
            }
        }
    }
    let kept = ByteRange::new(0, i64::try_from(scratch(windows)).ok()?);
    let input = b.param(ParamRole::Input, ParamKind::Read { range: windows.read()? });
    let factors = b.param(ParamRole::Weights, ParamKind::Read { range: factors });
    let beside = windows.beside.iter().map(|beside| {
        Some(b.param(ParamRole::Residual, ParamKind::Read { range: windows.read_beside(beside)? }))
    });
    let beside = beside.collect::<Option<Vec<Int>>>()?;
    let output = b.param(ParamRole::Output, ParamKind::Write { range: windows.written()? });
    let scratch = b.param(ParamRole::Scratch, ParamKind::Write { range: kept });
    let at = Pointers { input, factors, beside, output, scratch };
    let mut writer = WeightedWriter { windows, line: Line::bare(b, widest), at, held: Vec::new() };
    writer.fill_beside(slots(windows, rows));
    if held {
        writer.hold()?;
    }
    for (taps, count) in windows.blocks(rows) {
        writer.line.b.begin();
        writer.stage(&places(windows, &taps))?;
        writer.sums(&taps)?;
        let rows = taps.len() as i64;
        let output = windows.nest.result.strides[windows.rows()];
        let mut moves = vec![(writer.at.input, windows.stride()), (writer.at.output, output)];
        moves.extend(writer.at.beside.iter().zip(&windows.beside).map(|(&at, beside)| (at, beside.row)));
        writer.advance(&moves, rows)?;
        writer.line.b.end(Trips::Imm(count));
    }
    Some(writer.line.b.finish())
}

struct Pointers {
    input: Int,
    factors: Int,
    beside: Vec<Int>,
    output: Int,
    scratch: Int,
}

struct WeightedWriter<'w, 'n> {
    windows: &'w PlaneWindows<'n>,
    line: Line,
    at: Pointers,
    /// The factors of taps in registers, by the bytes to them.
    held: Vec<(i64, Vector)>,
}

impl WeightedWriter<'_, '_> {
    /// The first column of a part that is in the plane.
    fn first(&self, part: u32) -> u32 {
        let w = self.windows;
        (w.inside.start + w.step - 1 - part) / w.step
    }

    /// Where a column of a part of a row is in scratch: that of the plane's first one at a multiple of a vector.
    fn kept(&self, slot: usize, parity: u32, column: u32) -> ir::Addr {
        let w = self.windows;
        let first = self.first(parity);
        let lead = first.next_multiple_of(ALIGNED) - first;
        let float = slot as u32 * row(w) + parity * part(w) + lead + column;
        at(self.at.scratch, Float::F32.span(float) as i32)
    }

    /// Columns beside the picture, which stay as they are.
    fn fill_beside(&mut self, slots: usize) {
        let w = self.windows;
        let lanes = self.line.widest.count();
        let mut zero = None;
        for slot in 0..slots {
            for part in 0..w.step {
                let count = |columns: u32| columns.saturating_sub(part).div_ceil(w.step);
                for Range { start, end } in [0..count(w.inside.start), count(w.inside.end)..count(w.columns)]
                {
                    for column in (start..end).step_by(lanes as usize) {
                        let zero = *zero.get_or_insert_with(|| self.line.b.constant(self.line.widest, 0.0));
                        let to = self.kept(slot, part, column);
                        self.line.b.store(zero, (end - column).min(lanes), to);
                    }
                }
            }
        }
    }

    /// Takes the factors of all taps into registers.
    fn hold(&mut self) -> Option<()> {
        let w = self.windows;
        let weights = w.weights.as_ref()?;
        let rows = w.blocks(1).into_iter().flat_map(|(taps, _)| taps).flat_map(|taps| w.tap_rows(&taps));
        let mut places: Vec<i64> =
            rows.flat_map(|tap| weights.along.iter().map(move |along| tap.weights + along)).collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            let from = at(self.at.factors, place.try_into().ok()?).of(weights.float);
            let factor = self.line.b.splat(self.line.widest, from);
            self.held.push((place, factor));
        }
        Some(())
    }

    fn factor(&self, place: i64) -> Option<Source> {
        let weights = self.windows.weights.as_ref()?;
        Some(match self.held.iter().find(|(held, _)| *held == place) {
            Some(&(_, factor)) => Source::Reg(factor),
            None => Source::Splat(at(self.at.factors, place.try_into().ok()?).of(weights.float)),
        })
    }

    /// Copies rows of the plane into scratch.
    fn stage(&mut self, places: &[i64]) -> Option<()> {
        let w = self.windows;
        let (lanes, vector) = (self.line.widest.count(), self.line.widest);
        let moving =
            [(self.at.input, w.input.span(lanes * w.step)), (self.at.scratch, Float::F32.span(lanes))];
        self.sweep(w.inside.end - w.inside.start, lanes * w.step, &moving, &mut |writer, column, used| {
            for (slot, place) in places.iter().enumerate() {
                let mut load = |first: u32| {
                    let disp = place + w.input.span(w.inside.start + column + first);
                    let from = at(writer.at.input, disp.try_into().ok()?).of(w.input);
                    Some(match used.saturating_sub(first).min(lanes) {
                        0 => writer.line.b.constant(vector, 0.0),
                        there => writer.line.b.load(vector, there, from),
                    })
                };
                // Of the plane's columns from the first one inside, `column / step` vectors of each part came before.
                let done = column / w.step;
                if w.step == 1 {
                    let x = load(0)?;
                    let to = writer.kept(slot, 0, w.inside.start + done);
                    writer.line.b.store(x, used, to);
                    continue;
                }
                let (low, high) = (load(0)?, load(lanes)?);
                for (parity, there) in [(0, used.div_ceil(2)), (1, used / 2)] {
                    if there > 0 {
                        let x = writer.line.b.pick(low, high, parity as u8);
                        let part = (w.inside.start + parity) % 2;
                        let to = writer.kept(slot, part, writer.first(part) + done);
                        writer.line.b.store(x, there, to);
                    }
                }
            }
            Some(())
        })
    }

    /// Sums up the taps of some rows of windows, and stores what follows from them.
    fn sums(&mut self, taps: &[Range<i64>]) -> Option<()> {
        let w = self.windows;
        let weights = w.weights.as_ref()?;
        let slots = places(w, taps);
        // Each row in scratch, with the rows of windows that see it.
        let mut uses: Vec<(usize, usize, TapRow)> = Vec::new();
        for (row, taps) in taps.iter().enumerate() {
            for tap in w.tap_rows(taps) {
                let place = row as i64 * w.stride() + tap.place;
                uses.push((slots.binary_search(&place).ok()?, row, tap));
            }
        }
        uses.sort_by_key(|(slot, row, _)| (*slot, *row));
        let windows = u32::try_from(w.nest.loops[w.rows() + 1]).ok()?;
        let lanes = self.line.widest.count();
        let mut moving =
            vec![(self.at.scratch, Float::F32.span(lanes)), (self.at.output, w.output.span(lanes))];
        let varying = self.at.beside.iter().zip(&w.beside).filter(|(_, beside)| beside.varies);
        moving.extend(varying.map(|(&at, beside)| (at, beside.float.span(lanes))));
        self.sweep(windows, lanes, &moving, &mut |writer, first, used| {
            let lanes = ir::Lanes::holding(used)?;
            let mut sums: Vec<Option<Vector>> = vec![None; taps.len()];
            for same in uses.chunk_by(|a, b| a.0 == b.0) {
                let slot = same.first()?.0;
                for (&column, along) in w.along.iter().zip(&weights.along) {
                    let from = writer.kept(slot, column % w.step, first + column / w.step);
                    let x = writer.line.b.load(lanes, lanes.count(), from);
                    for (_, row, tap) in same {
                        let factor = writer.factor(tap.weights + along)?;
                        match sums[*row] {
                            Some(sum) => writer.line.b.fma(sum, x, factor),
                            None => {
                                let sum = writer.line.b.vector(lanes);
                                writer.line.b.bin(BinOp::Mul, sum, x, factor);
                                sums[*row] = Some(sum);
                            }
                        }
                    }
                }
            }
            for (row, sum) in sums.into_iter().enumerate() {
                let sum = sum.unwrap_or_else(|| writer.line.b.constant(lanes, 0.0));
                let at = (&writer.at.beside[..], writer.at.output);
                w.store(&mut writer.line, at, (row, first, used), (sum, 2))?;
            }
            Some(())
        })
    }

    /// Writes what is done with some elements, so many at a time: `write` gets the first one, from where the pointers are, and how many
    /// there are. Pointers, of which each moves by so many bytes for those, are where they were afterwards.
    fn sweep(
        &mut self,
        elements: u32,
        piece: u32,
        moving: &[(Int, i64)],
        write: &mut dyn FnMut(&mut Self, u32, u32) -> Option<()>,
    ) -> Option<()> {
        let (pieces, rest) = (elements / piece, elements % piece);
        let in_loop = if pieces > WRITTEN_OUT { pieces } else { 0 };
        if in_loop > 0 {
            self.line.b.begin();
            write(self, 0, piece)?;
            self.advance(moving, 1)?;
            self.line.b.end(Trips::Imm(in_loop));
        }
        let left = pieces - in_loop;
        (0..left).try_for_each(|n| write(self, n * piece, piece))?;
        if rest > 0 {
            write(self, left * piece, rest)?;
        }
        self.advance(moving, -i64::from(in_loop))
    }

    fn advance(&mut self, moving: &[(Int, i64)], pieces: i64) -> Option<()> {
        for &(pointer, bytes) in moving {
            self.line.b.advance(pointer, (bytes * pieces).try_into().ok()?);
        }
        Some(())
    }
}
