//! Planes that are made larger or smaller, as one tile program for some rows of a plane: first across its rows, then along them.
//!
//! ```text
//!   rows of the plane      across them, in scratch          along it
//!   a0 a1 a2 a3 …
//!   b0 b1 b2 b3 …    ─▶    m0 m1 m2 m3 …    ─▶    ¼ m0 + ¾ m1   ¾ m1 + ¼ m2   ¼ m1 + ¾ m2   …
//!                          m = ¼ a + ¾ b
//! ```
//!
//! Along a row, neighbours of the result see few columns of the plane: they are gathered out of one, two or four vectors of scratch, which
//! are permutations, where a gather from memory reads each element by itself. Which rows, which columns, and what each weighs are
//! tables in memory. The places of some columns are computed once for the rows that go together:
//!
//! ```text
//!   table     bytes to a column's first tap, second tap, …     28  28  32  32  36  36 …
//!   vector    begins at the first column's first tap           28
//!   places    what is left, in elements                         0   0   1   1   2   2 …
//! ```

use std::ops::Range;

use nnc_ir::op::elementwise::BinaryFn;

use super::{Constant, Expr, Fold, Nest, Operand, Table, Vectorised};
use crate::code::float::Float;
use crate::code::tile::ir::{
    self, BinOp, Builder, ByteRange, Inst, Int, ParamKind, ParamRole, Source, TileProgram, Trips, UnOp,
    Vector, at,
};

/// Rows of the result that are taken together: what a vector needs besides the plane is the same for all.
const ROWS: usize = 4;

/// The most taps along an axis, so that programs stay short.
pub const MOST_TAPS: usize = 64;

/// The most columns of a plane, so that rows stay in the first-level cache.
const MOST_COLUMNS: i64 = 1 << 13;

/// Vectors in a round across rows.
const TOGETHER: u32 = 4;

/// Taps that go together across rows: each takes a pointer.
const TAPS: usize = 2;

/// How far elements of a row that go in a vector see: columns from the first tap of the first one, where 4, 8, and 16 go together.
pub type ColumnReach = [u16; 3];

/// The reaches of a row: the columns that each element has as its taps. `None` where an element sees one before the first one of its vector,
/// or too far.
pub fn reach(columns: &[Vec<usize>]) -> Option<ColumnReach> {
    let mut reaches = [0; 3];
    for (reach, lanes) in reaches.iter_mut().zip([4, 8, 16]) {
        for together in columns.chunks(lanes) {
            let first = *together.first()?.first()?;
            for &column in together.iter().flatten() {
                *reach = u16::try_from(column.checked_sub(first)? + 1).ok()?.max(*reach);
            }
        }
    }
    Some(reaches)
}

/// A nest as planes that are resampled.
struct Resampled<'n> {
    input: Float,
    output: Float,
    rows: ResampledAxis<'n>,
    columns: ResampledAxis<'n>,
    reach: ColumnReach,
}

/// An axis of the result, and where its taps are.
#[derive(Clone, Copy)]
struct ResampledAxis<'n> {
    extent: u32,
    taps: u32,
    table: &'n Table,
    /// Bytes from an element's entry, or weight, to the next one's, and from a tap's to the next one's.
    step: i64,
    tap: i64,
}

impl Nest {
    /// Whether [`program`] can write the nest: the last two loops are rows and columns of planes, the reduction their taps, whose
    /// products with a weight of the row and one of the column are summed up.
    pub(super) fn is_resampled(&self) -> bool {
        Resampled::of(self).is_some()
    }
}

/// Bytes of scratch.
pub(super) fn scratch(nest: &Nest) -> usize {
    Resampled::of(nest).map_or(0, |resampled| ROWS * 4 * resampled.pitch() as usize)
}

impl<'n> Resampled<'n> {
    fn of(nest: &'n Nest) -> Option<Resampled<'n>> {
        let Vectorised::Resampled { reach } = nest.vectorised else { return None };
        let ([x, of_rows, of_columns], [sum], [_, _]) =
            (nest.operands.as_slice(), nest.accumulators.as_slice(), nest.reduce.as_slice())
        else {
            return None;
        };
        let rows = nest.loops.len().checked_sub(2).filter(|&rows| rows >= nest.unit_axes)?;
        let columns = rows + 1;
        let [row_table, column_table] = x.tables.as_slice() else { return None };
        let axis = |axis: usize, table: &'n Table, weights: &Operand| {
            let taps = axis + 2;
            let strides = |strides: &[i64]| {
                let others = (0..strides.len()).filter(|&a| a >= rows && a != axis && a != taps);
                others.into_iter().all(|a| strides[a] == 0).then_some((strides[axis], strides[taps]))
            };
            let (step, tap) = strides(&table.strides)?;
            let plain = weights.tables.is_empty() && Float::of(weights.dtype) == Some(Float::F32);
            let fits = plain && strides(&weights.strides)? == (step, tap);
            let reduced = nest.reduce.get(taps - nest.loops.len())?;
            let few = (1..=MOST_TAPS).contains(&reduced.extent) && reduced.bound.is_none();
            let extent = u32::try_from(nest.loops[axis]).ok()?;
            let taps = reduced.extent as u32;
            (fits && few && table.low >= 0).then_some(ResampledAxis { extent, taps, table, step, tap })
        };
        let resampled = Resampled {
            input: Float::of(x.dtype)?,
            output: Float::of(nest.result.dtype)?,
            rows: axis(rows, row_table, of_rows)?,
            columns: axis(columns, column_table, of_columns)?,
            reach,
        };
        let product = Expr::Operand(0) * (Expr::Operand(1) * Expr::Operand(2));
        let computed = sum.fold == Fold::With(BinaryFn::Add)
            && sum.init == Constant::F32(0)
            && sum.value == product
            && nest.value == Expr::Acc(0);
        // The result goes on from column to column, as do the entries of a tap.
        let dense = nest.result.strides[columns] == resampled.output.span(1)
            && resampled.columns.step == 4
            && resampled.columns.tap >= 0
            && resampled.rows.step >= 0
            && resampled.rows.tap >= 0
            && !nest.stores_rows();
        let still = x.strides[rows..].iter().all(|&stride| stride == 0);
        let halves = matches!(resampled.input, Float::F32 | Float::F16 | Float::Bf16);
        let fits = computed && dense && still && halves && resampled.seen().end <= MOST_COLUMNS;
        fits.then_some(resampled)
    }

    /// The columns of a plane that are read.
    fn seen(&self) -> Range<i64> {
        let column = |offset: i32| i64::from(offset) / self.input.span(1);
        column(self.columns.table.low)..column(self.columns.table.high) + 1
    }

    /// How many columns some lanes are gathered from.
    fn among(&self, lanes: ir::Lanes) -> u32 {
        let reach = match lanes {
            ir::Lanes::X4 => self.reach[0],
            ir::Lanes::X8 => self.reach[1],
            ir::Lanes::X16 => self.reach[2],
        };
        u32::from(reach).next_power_of_two().max(lanes.count())
    }

    /// Floats of a row in scratch, whatever the vectors: behind the last column may be read, too.
    fn pitch(&self) -> u32 {
        let beyond = [ir::Lanes::X4, ir::Lanes::X8, ir::Lanes::X16].map(|lanes| self.among(lanes));
        self.seen().end as u32 + beyond.into_iter().max().unwrap_or(0)
    }

    fn name(&self) -> String {
        let (rows, columns) = (self.rows, self.columns);
        let extents = format!("{}x{}", rows.extent, columns.extent);
        format!("resample_{}_{extents}_k{}x{}", self.output.word(), rows.taps, columns.taps)
    }
}

impl ResampledAxis<'_> {
    /// Bytes from the first entry, or weight, to one past the last.
    fn bytes(&self) -> Option<i64> {
        let last = self.step.checked_mul(i64::from(self.extent) - 1)?;
        self.tap.checked_mul(i64::from(self.taps) - 1)?.checked_add(last)?.checked_add(4)
    }

    fn entries(&self) -> Option<ParamKind> {
        let entries = u32::try_from(self.bytes()? / 4).ok()?;
        let values = ByteRange::new(self.table.low.into(), i64::from(self.table.high) + 1);
        Some(ParamKind::Table { classes: vec![(entries, values)] })
    }

    fn weights(&self) -> Option<ParamKind> {
        Some(ParamKind::Read { range: ByteRange::new(0, self.bytes()?) })
    }
}

/// The kernel of some rows of a plane. Parameters: the plane, weights of rows, weights of columns, the result, scratch, the tables of rows and
/// of columns.
pub(super) fn program(nest: &Nest, widest: ir::Lanes) -> Option<TileProgram> {
    let resampled = Resampled::of(nest)?;
    let (rows, columns) = (resampled.rows, resampled.columns);
    let mut b = Builder::new(resampled.name());
    let seen = resampled.seen();
    let read = ByteRange::new(
        i64::from(rows.table.low).checked_add(seen.start * resampled.input.span(1))?,
        i64::from(rows.table.high).checked_add(seen.end * resampled.input.span(1))?,
    );
    let row = nest.result.strides[nest.loops.len() - 2];
    let last = row.checked_mul(i64::from(rows.extent) - 1)?;
    let written =
        ByteRange::new(last.min(0), last.max(0).checked_add(resampled.output.span(columns.extent))?);
    let kept = ByteRange::new(0, i64::try_from(scratch(nest)).ok()?);
    let pointers = ResamplePointers {
        input: b.param(ParamRole::Input, ParamKind::Read { range: read }),
        of_rows: b.param(ParamRole::Weights, rows.weights()?),
        of_columns: b.param(ParamRole::Weights, columns.weights()?),
        output: b.param(ParamRole::Output, ParamKind::Write { range: written }),
        scratch: b.param(ParamRole::Scratch, ParamKind::Write { range: kept }),
        rows: b.param(ParamRole::Table, rows.entries()?),
        columns: b.param(ParamRole::Table, columns.entries()?),
    };
    let mut writer =
        ResampleWriter { resampled: &resampled, b, widest, at: pointers, row: row.try_into().ok()? };
    let (together, left) = (rows.extent / ROWS as u32, rows.extent % ROWS as u32);
    for (together, rounds) in [(ROWS as u32, together), (left, 1)] {
        if together == 0 || rounds == 0 {
            continue;
        }
        writer.b.begin();
        (0..together).try_for_each(|row| writer.across(row))?;
        writer.along(together)?;
        let table = (rows.step * i64::from(together)).try_into().ok()?;
        writer.b.advance(writer.at.rows, table);
        writer.b.advance(writer.at.of_rows, table);
        writer.b.advance(writer.at.output, writer.row.checked_mul(together as i32)?);
        writer.b.end(Trips::Imm(rounds));
    }
    Some(writer.b.finish())
}

struct ResamplePointers {
    input: Int,
    of_rows: Int,
    of_columns: Int,
    output: Int,
    scratch: Int,
    rows: Int,
    columns: Int,
}

struct ResampleWriter<'w, 'n> {
    resampled: &'w Resampled<'n>,
    b: Builder,
    widest: ir::Lanes,
    at: ResamplePointers,
    /// Bytes from a row of the result to the next one.
    row: i32,
}

impl ResampleWriter<'_, '_> {
    /// The rows of the plane that one of the result sees, weighed and summed up into scratch: a few taps at a time.
    fn across(&mut self, row: u32) -> Option<()> {
        let Resampled { input, rows, .. } = *self.resampled;
        let seen = self.resampled.seen();
        let lanes = self.widest.count();
        let columns = u32::try_from(seen.end - seen.start).ok()?;
        let place = |tap: u32| i32::try_from(i64::from(row) * rows.step + i64::from(tap) * rows.tap).ok();
        let start = i32::try_from(seen.start * input.span(1)).ok()?;
        let kept = 4 * (row * self.resampled.pitch() + u32::try_from(seen.start).ok()?) as i32;
        let taps: Vec<u32> = (0..rows.taps).collect();
        for (number, taps) in taps.chunks(TAPS).enumerate() {
            let mut read: Vec<(Int, Vector)> = Vec::new();
            for &tap in taps {
                let dst = self.b.pointer();
                let entry = at(self.at.rows, place(tap)?);
                self.b.push(Inst::Lookup { dst, base: self.at.input, entry });
                read.push((dst, self.b.splat(self.widest, at(self.at.of_rows, place(tap)?))));
            }
            let write = |b: &mut Builder, scratch: Int, column: u32, used: u32| {
                let to = at(scratch, kept + 4 * column as i32);
                let mut sum = (number > 0).then(|| b.load(self.widest, used, to));
                for &(pointer, weight) in &read {
                    let from = at(pointer, start + input.span(column) as i32).of(input);
                    let x = b.load(self.widest, used, from);
                    match sum {
                        Some(sum) => b.fma(sum, x, Source::Reg(weight)),
                        None => {
                            b.bin(BinOp::Mul, x, x, Source::Reg(weight));
                            sum = Some(x);
                        }
                    }
                }
                b.store(sum?, used, to);
                Some(())
            };
            let (rounds, left) = (columns / (lanes * TOGETHER), columns % (lanes * TOGETHER));
            let moving: Vec<(Int, i32)> =
                (read.iter().map(|&(pointer, _)| (pointer, input.span(lanes) as i32)))
                    .chain([(self.at.scratch, 4 * lanes as i32)])
                    .collect();
            let step = TOGETHER as i32;
            if rounds > 0 {
                self.b.begin();
                (0..TOGETHER).try_for_each(|i| write(&mut self.b, self.at.scratch, i * lanes, lanes))?;
                moving.iter().for_each(|&(pointer, bytes)| self.b.advance(pointer, bytes * step));
                self.b.end(Trips::Imm(rounds));
            }
            for column in (0..left).step_by(lanes as usize) {
                write(&mut self.b, self.at.scratch, column, (left - column).min(lanes))?;
            }
            self.b.advance(self.at.scratch, -(4 * lanes as i32 * step) * rounds as i32);
        }
        Some(())
    }

    /// The columns that those of some rows of the result see, weighed and summed up.
    fn along(&mut self, rows: u32) -> Option<()> {
        let Resampled { output, columns, .. } = *self.resampled;
        let lanes = self.widest.count();
        let (rounds, left) = (columns.extent / lanes, columns.extent % lanes);
        let bytes = 4 * lanes as i32;
        let moving = [
            (self.at.columns, bytes),
            (self.at.of_columns, bytes),
            (self.at.output, output.span(lanes) as i32),
        ];
        if rounds > 0 {
            self.b.begin();
            self.columns(rows, lanes)?;
            moving.iter().for_each(|&(pointer, bytes)| self.b.advance(pointer, bytes));
            self.b.end(Trips::Imm(rounds));
        }
        if left > 0 {
            self.columns(rows, left)?;
        }
        moving.iter().for_each(|&(pointer, bytes)| self.b.advance(pointer, -bytes * rounds as i32));
        Some(())
    }

    /// So many columns, from where the pointers are.
    fn columns(&mut self, rows: u32, used: u32) -> Option<()> {
        let Resampled { input, output, columns, .. } = *self.resampled;
        let widest = self.widest;
        // Entries are bytes of the plane, of which an element may have fewer than one of scratch.
        let mut from = self.at.scratch;
        for _ in 0..4 / input.span(1) {
            let dst = self.b.pointer();
            self.b.push(Inst::Lookup { dst, base: from, entry: at(self.at.columns, 0) });
            from = dst;
        }
        let first = self.b.splat(widest, at(self.at.columns, 0));
        self.b.push(Inst::Un { op: UnOp::Number, dst: first, src: first });
        let mut sums: Vec<Vector> = Vec::new();
        for tap in 0..columns.taps {
            let disp = i32::try_from(i64::from(tap) * columns.tap).ok()?;
            let places = self.b.load(widest, used, at(self.at.columns, disp));
            self.b.push(Inst::Un { op: UnOp::Number, dst: places, src: places });
            self.b.bin(BinOp::Sub, places, places, Source::Reg(first));
            let element = (1.0 / input.span(1) as f32).to_bits();
            self.b.bin(BinOp::Mul, places, places, Source::Imm(element));
            self.b.push(Inst::Un { op: UnOp::Integer, dst: places, src: places });
            let weight = self.b.load(widest, used, at(self.at.of_columns, disp));
            for row in 0..rows {
                let from = at(from, 4 * (row * self.resampled.pitch()) as i32);
                let x = self.b.gather(from, places, self.resampled.among(widest));
                match sums.get(row as usize) {
                    Some(&sum) => self.b.fma(sum, x, Source::Reg(weight)),
                    None => {
                        self.b.bin(BinOp::Mul, x, x, Source::Reg(weight));
                        sums.push(x);
                    }
                }
            }
        }
        for (row, &sum) in sums.iter().enumerate() {
            self.b.store(sum, used, at(self.at.output, self.row.checked_mul(row as i32)?).of(output));
        }
        Some(())
    }
}
