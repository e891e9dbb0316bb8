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

use super::line::{Line, has};
use super::{Bound, Constant, Expr, Fold, Nest, Operand, ReduceAxis, Vectorised, weighted};
use crate::code::float::Float;
use crate::code::tile::ir::{
    self, BinOp, Builder, ByteRange, Int, ParamKind, ParamRole, Source, TileProgram, Trips, Vector, at,
};

/// Rows of the result that are taken together: what is read of the scratch was stored a while ago, and rows of the plane that several
/// of them see are loaded once.
const ROWS: usize = 4;

/// Vectors of a row that are written out, or windows that go one by one; more go in a loop.
const WRITTEN_OUT: u32 = 4;

/// The most taps of a window, so that programs stay short.
const MOST_TAPS: usize = 256;

/// The most columns from the first tap of a window to its last one.
const WIDEST: i64 = 64;

/// The most columns that are kept in scratch of a row.
const MOST_COLUMNS: u32 = 1 << 13;

/// Floats of the widest vector, at whose multiple the first column of a plane is in scratch.
const ALIGNED: u32 = 16;

/// A nest as windows over planes.
pub(super) struct Windows<'n> {
    pub(super) nest: &'n Nest,
    pub(super) input: Float,
    pub(super) output: Float,
    function: BinaryFn,
    /// What is in the place of a column beside the picture.
    neutral: u32,
    /// Taps along rows, in columns from the first one.
    pub(super) along: Vec<u32>,
    /// Columns from a window to the next one.
    pub(super) step: u32,
    /// Columns that all windows of a row see together, and those of them that there are.
    pub(super) columns: u32,
    pub(super) inside: Range<u32>,
    /// The axis across rows of which the loop over rows restricts the taps.
    bounded: Option<(&'n ReduceAxis, Bound, i64)>,
    /// Bytes to each tap across rows, apart from those.
    across: Vec<i64>,
    /// What each tap is multiplied with, if it is.
    pub(super) weights: Option<Weights>,
    /// What else the stored value reads.
    pub(super) beside: Vec<Beside>,
}

/// One factor for each tap, the same for all windows of a plane: bytes to it along each axis of taps, which add up.
pub(super) struct Weights {
    pub(super) float: Float,
    pub(super) along: Vec<i64>,
    bounded: i64,
    across: Vec<i64>,
}

/// Where a row of windows finds some of its taps: bytes to the row that is read, and to the factors of its taps.
pub(super) struct TapRow {
    pub(super) place: i64,
    pub(super) weights: i64,
}

/// An operand that the stored value reads: an element for each of the result, for each row, for each column, or for all.
pub(super) struct Beside {
    pub(super) float: Float,
    /// Bytes from a row to the next one.
    pub(super) row: i64,
    /// Whether each column has another one.
    pub(super) varies: bool,
}

impl Weights {
    /// An operand that is the same for all windows of a plane.
    fn of(operand: &Operand, loops: &[usize]) -> Option<Weights> {
        let [.., rows, columns] = operand.strides.get(..loops.len())? else { return None };
        let fits = (*rows, *columns) == (0, 0) && operand.tables.is_empty();
        let float = Float::of(operand.dtype).filter(|_| fits)?;
        Some(Weights { float, along: vec![0], bounded: 0, across: vec![0] })
    }
}

impl Nest {
    /// Whether what is summed up are products of the first two operands.
    pub fn weighs(&self) -> bool {
        let product = Expr::Operand(0) * Expr::Operand(1);
        let [accumulator] = self.accumulators.as_slice() else { return false };
        accumulator.fold == Fold::With(BinaryFn::Add) && accumulator.value == product
    }

    /// Whether [`program`] can write the nest: an element or a function of it is folded for each tap of a window, and the loop before the
    /// innermost one goes over rows.
    pub(super) fn is_windows(&self) -> bool {
        self.vectorised == Vectorised::Windows
            && self.unit_axes + 2 <= self.loops.len()
            && Windows::of(self).is_some()
    }

    /// Bytes of scratch that the nest needs.
    pub fn scratch(&self) -> usize {
        match self.vectorised {
            Vectorised::Windows => Windows::of(self).map_or(0, |windows| windows.scratch()),
            _ => 0,
        }
    }
}

/// The kernel of a plane.
pub(super) fn program(nest: &Nest, widest: ir::Lanes) -> Option<TileProgram> {
    let windows = Windows::of(nest)?;
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

impl<'n> Windows<'n> {
    fn of(nest: &'n Nest) -> Option<Windows<'n>> {
        let inner = nest.loops.len().checked_sub(1)?;
        let rows = inner.checked_sub(1)?;
        let ([operand, others @ ..], [accumulator]) =
            (nest.operands.as_slice(), nest.accumulators.as_slice())
        else {
            return None;
        };
        let factor = others.first().filter(|_| nest.weighs());
        let others = if factor.is_some() { &others[1..] } else { others };
        let (input, output) = (Float::of(operand.dtype)?, Float::of(nest.result.dtype)?);
        let (Fold::With(function), Constant::F32(neutral)) = (accumulator.fold, accumulator.init) else {
            return None;
        };
        let reads = |e: &Expr, wanted: &dyn Fn(usize) -> bool| {
            let mut reads = false;
            e.walk(&mut |e| reads |= matches!(e, Expr::Operand(i) if wanted(*i)));
            reads
        };
        let folds = matches!(function, BinaryFn::Add | BinaryFn::Min | BinaryFn::Max);
        let computed = has(&accumulator.value, 0)
            && has(&nest.value, 1)
            && !reads(&accumulator.value, &|operand| operand > usize::from(factor.is_some()))
            && !reads(&nest.value, &|operand| operand <= usize::from(factor.is_some()));
        let dense = nest.result.strides[inner] == output.span(1) && operand.tables.is_empty();
        let step = operand.strides[inner] / input.span(1);
        let steps = step > 0 && operand.strides[inner] == step * input.span(1);
        if !(folds && computed && dense && steps && !nest.stores_rows()) {
            return None;
        }
        let beside = others.iter().map(|operand| {
            let fits = operand.is_vector_along(inner) && operand.tables.is_empty();
            let varies = operand.strides[inner] != 0;
            Some(Beside { float: Float::of(operand.dtype)?, row: operand.strides[rows], varies })
                .filter(|_| fits)
        });
        let weights = match factor {
            Some(factor) => Some(Weights::of(factor, &nest.loops)?),
            None => None,
        };
        let mut windows = Windows {
            nest,
            weights,
            beside: beside.collect::<Option<Vec<Beside>>>()?,
            input,
            output,
            function,
            neutral,
            along: vec![0],
            step: step.try_into().ok()?,
            columns: 0,
            inside: 0..0,
            bounded: None,
            across: vec![0],
        };
        let span = (i64::try_from(nest.loops[inner]).ok()? - 1).checked_mul(step)?;
        let (mut columns, mut bound) = (span + 1, None);
        for (r, axis) in nest.reduce.iter().enumerate() {
            let (stride, extent) = (operand.strides[nest.loops.len() + r], i64::try_from(axis.extent).ok()?);
            let apart = stride / input.span(1);
            let reach = apart.checked_mul(extent - 1)?;
            let last = r + 1 == nest.reduce.len();
            let is_along = apart > 0 && apart * input.span(1) == stride && reach <= WIDEST;
            let factors = factor.map_or(0, |factor| factor.strides[nest.loops.len() + r]);
            match axis.bound {
                Some(b) if b.axis == inner => {
                    if !(last && is_along && b.scale == step && b.step == apart) {
                        return None;
                    }
                    (columns, bound) = (span + reach + 1, Some(b));
                    windows.set_along(extent, apart, factors);
                }
                Some(b) if b.axis == rows && windows.bounded.is_none() => {
                    windows.bounded = Some((axis, b, stride));
                    if let Some(weights) = &mut windows.weights {
                        weights.bounded = factors;
                    }
                }
                Some(_) => return None,
                None if last && is_along => {
                    columns = span + reach + 1;
                    windows.set_along(extent, apart, factors);
                }
                None => {
                    let taps = (0..extent).map(|tap| tap.checked_mul(stride)).collect::<Option<Vec<_>>>()?;
                    let before = std::mem::take(&mut windows.across);
                    if before.len().saturating_mul(taps.len()) > MOST_TAPS {
                        return None;
                    }
                    windows.across =
                        before.iter().flat_map(|&one| taps.iter().map(move |tap| one + tap)).collect();
                    if let Some(weights) = &mut windows.weights {
                        let before = std::mem::take(&mut weights.across);
                        let taps = || (0..extent).map(|tap| tap * factors);
                        weights.across =
                            before.iter().flat_map(|&one| taps().map(move |tap| one + tap)).collect();
                    }
                }
            }
        }
        let within = bound.map_or(0..columns, |b| (-b.base).max(0)..(b.extent - b.base).min(columns));
        windows.columns = columns.try_into().ok().filter(|&n| n <= MOST_COLUMNS)?;
        windows.inside = within.start.try_into().ok()?..within.end.try_into().ok()?;
        let taps = windows.across.len() * windows.bounded.map_or(1, |(axis, ..)| axis.extent);
        let few = match windows.weights {
            Some(_) => taps.saturating_mul(windows.along.len()) <= weighted::MOST_TAPS && windows.step <= 2,
            None => taps <= MOST_TAPS && windows.along.len() <= MOST_TAPS,
        };
        (few && !windows.inside.is_empty()).then_some(windows)
    }

    fn set_along(&mut self, taps: i64, apart: i64, factors: i64) {
        self.along = (0..taps).map(|tap| (tap * apart) as u32).collect();
        if let Some(weights) = &mut self.weights {
            weights.along = (0..taps).map(|tap| tap * factors).collect();
        }
    }

    pub(super) fn name(&self) -> String {
        let across = self.across.len() * self.bounded.map_or(1, |(axis, ..)| axis.extent);
        let (rows, columns) = (self.nest.loops[self.rows()], self.nest.loops[self.rows() + 1]);
        let word = match self.weights {
            Some(_) => "weighted".to_owned(),
            None => format!("{:?}", self.function).to_lowercase(),
        };
        let (along, step) = (self.along.len(), self.step);
        format!("windows_{}_{word}_{rows}x{columns}_k{across}x{along}s{step}", self.output.word())
    }

    /// The loop over rows.
    pub(super) fn rows(&self) -> usize {
        self.nest.loops.len() - 2
    }

    /// Bytes from the operand's first tap of a row of windows to that of the next one.
    pub(super) fn stride(&self) -> i64 {
        self.nest.operands.first().map_or(0, |operand| operand.strides[self.rows()])
    }

    /// The taps of a row that the bound leaves: those of the bounded axis.
    fn taps(&self, row: usize) -> Range<i64> {
        match self.bounded {
            Some((axis, bound, _)) => bound.range(row as i64, axis.extent as i64),
            None => 0..1,
        }
    }

    /// Bytes from a row of windows' first tap to each tap.
    fn places(&self, taps: &Range<i64>) -> Vec<i64> {
        let stride = self.bounded.map_or(0, |(.., stride)| stride);
        taps.clone().flat_map(|tap| self.across.iter().map(move |across| tap * stride + across)).collect()
    }

    /// The same, with the factors of each.
    pub(super) fn tap_rows(&self, taps: &Range<i64>) -> Vec<TapRow> {
        let Some(weights) = &self.weights else { return Vec::new() };
        let factors = taps
            .clone()
            .flat_map(|tap| weights.across.iter().map(move |across| tap * weights.bounded + across));
        self.places(taps).into_iter().zip(factors).map(|(place, weights)| TapRow { place, weights }).collect()
    }

    /// The number of taps of a window, inside or not.
    pub(super) fn all_taps(&self) -> usize {
        self.across.len() * self.bounded.map_or(1, |(axis, ..)| axis.extent) * self.along.len()
    }

    /// The taps of some rows at a time, and how many times such rows follow each other.
    pub(super) fn blocks(&self, together: usize) -> Vec<(Vec<Range<i64>>, u32)> {
        let rows = self.nest.loops[self.rows()];
        let mut blocks: Vec<(Vec<Range<i64>>, u32)> = Vec::new();
        for first in (0..rows).step_by(together) {
            let taps: Vec<Range<i64>> =
                (first..rows.min(first + together)).map(|row| self.taps(row)).collect();
            match blocks.last_mut() {
                Some((same, count)) if *same == taps => *count += 1,
                _ => blocks.push((taps, 1)),
            }
        }
        blocks
    }

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

    /// Bytes of the operand that a plane's kernel reads.
    pub(super) fn read(&self) -> Option<ByteRange> {
        let mut range = ByteRange::default();
        for row in 0..self.nest.loops[self.rows()] {
            let start = self.stride().checked_mul(i64::try_from(row).ok()?)?;
            for place in self.places(&self.taps(row)) {
                let at = start.checked_add(place)?;
                let [low, high] = [self.inside.start, self.inside.end].map(|column| self.input.span(column));
                range = range.union(ByteRange::new(at.checked_add(low)?, at.checked_add(high)?));
            }
        }
        Some(range)
    }

    /// Bytes of the result that it writes.
    pub(super) fn written(&self) -> Option<ByteRange> {
        let columns = u32::try_from(self.nest.loops[self.rows() + 1]).ok()?;
        self.of_all_rows(self.nest.result.strides[self.rows()], self.output.span(columns))
    }

    /// Bytes of another operand that it reads.
    pub(super) fn read_beside(&self, beside: &Beside) -> Option<ByteRange> {
        let columns = if beside.varies { u32::try_from(self.nest.loops[self.rows() + 1]).ok()? } else { 1 };
        self.of_all_rows(beside.row, beside.float.span(columns))
    }

    fn of_all_rows(&self, stride: i64, row: i64) -> Option<ByteRange> {
        let last = stride.checked_mul(i64::try_from(self.nest.loops[self.rows()]).ok()? - 1)?;
        Some(ByteRange::new(last.min(0), last.max(0).checked_add(row)?))
    }
}

struct Pointers {
    input: Int,
    beside: Vec<Int>,
    output: Int,
    scratch: Int,
}

struct WindowWriter<'w, 'n> {
    windows: &'w Windows<'n>,
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
                let mut known = vec![(Expr::Acc(0), folded?)];
                for (i, beside) in w.beside.iter().enumerate() {
                    let column = if beside.varies { first } else { 0 };
                    let disp = row as i64 * beside.row + beside.float.span(column);
                    let from = at(*writer.at.beside.get(i)?, disp.try_into().ok()?).of(beside.float);
                    let x = match beside.varies {
                        true => writer.line.b.load(lanes, used, from),
                        false => writer.line.b.splat(lanes, from),
                    };
                    known.push((Expr::Operand(i + 1), x));
                }
                let value = writer.line.value(&w.nest.value, &known, lanes)?;
                let disp = row as i64 * w.nest.result.strides[w.rows()] + w.output.span(first);
                let to = at(writer.at.output, disp.try_into().ok()?).of(w.output);
                writer.line.b.store(value, used, to);
                Some(())
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
