//! Rows of bytes that are moved, or looked up in a table, as a tile program: four bytes to a lane.
//!
//! ```text
//!   y[i] = table[x[i]]      whole vectors, some in a round
//!                           what is left over: the last vector of the row, part of which was written before
//! ```
//!
//! The last vector is read before anything is written, so a result may lie where its operand does. A row that is no vector ends with a lane.

use super::{ENTRIES, Expr, Nest, Operand};
use crate::code::tile::ir::{
    self, Builder, ByteRange, Int, Lanes, ParamKind, ParamRole, TileProgram, Trips, Vector, at,
};

/// Bytes of a lane: no row is shorter.
pub(super) const LEAST: usize = 4;

/// Vectors of a round.
const TOGETHER: u32 = 4;

/// What is done to the bytes of the first operand.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Done {
    /// Nothing: they are moved.
    Moved,
    /// They are looked up in the second one.
    Translated,
}

impl Nest {
    fn done_to_bytes(&self) -> Option<Done> {
        let bytes = |operand: &Operand| operand.dtype.bytes() == 1;
        let done = match (&self.value, self.operands.as_slice()) {
            (Expr::Operand(0), [x]) if x.dtype == self.result.dtype => Done::Moved,
            (Expr::Entry(table, x), [_, _]) if **table == Expr::Operand(1) && **x == Expr::Operand(0) => {
                Done::Translated
            }
            _ => return None,
        };
        self.operands.iter().chain([&self.result]).all(bytes).then_some(done)
    }

    /// Whether rows of bytes are moved or looked up as they lie.
    pub(super) fn is_byte_rows(&self) -> bool {
        let Some(inner) = self.loops.len().checked_sub(1) else { return false };
        let dense = |o: &Operand| o.strides[inner] == 1 && o.tables.iter().all(|t| t.strides[inner] == 0);
        let fixed = |o: &Operand| o.strides.iter().all(|&stride| stride == 0) && o.tables.is_empty();
        self.reduce.is_empty()
            && self.accumulators.is_empty()
            && self.unit_axes <= inner
            && self.loops[inner] >= LEAST
            && self.done_to_bytes().is_some()
            && self.operands.first().is_some_and(dense)
            && self.operands.get(1).is_none_or(fixed)
            && dense(&self.result)
    }
}

/// The program, in vectors of at most `widest` lanes.
pub(super) fn program(nest: &Nest, widest: Lanes) -> Option<TileProgram> {
    let inner = nest.loops.len().checked_sub(1)?;
    let extent = u32::try_from(nest.loops[inner]).ok()?;
    let rows = nest.map_rows();
    let count = rows.map_or(Some(1), |axis| u32::try_from(nest.loops[axis]).ok())?;
    let done = nest.done_to_bytes()?;
    let word = if done == Done::Moved { "move" } else { "translate" };
    let mut b = Builder::new(format!("{word}_bytes_{count}x{extent}"));
    let stream = |b: &mut Builder, operand: &Operand, role, kind: fn(ByteRange) -> ParamKind| {
        let step = rows.map_or(0, |axis| operand.strides[axis]);
        let last = step.checked_mul(i64::from(count) - 1)?;
        let range = ByteRange::new(last.min(0), last.max(0).checked_add(i64::from(extent))?);
        Some(RowStream { pointer: b.param(role, kind(range)), step: step.try_into().ok()? })
    };
    let read = |range| ParamKind::Read { range };
    let x = stream(&mut b, nest.operands.first()?, ParamRole::Input, read)?;
    let entries = read(ByteRange::new(0, ENTRIES as i64));
    let table = (done == Done::Translated).then(|| b.param(ParamRole::Input, entries));
    let y = stream(&mut b, &nest.result, ParamRole::Output, |range| ParamKind::Write { range })?;
    let mut row = ByteRow { b, x, y, table, extent, widest };
    row.b.begin();
    row.write()?;
    row.b.advance(x.pointer, x.step);
    row.b.advance(y.pointer, y.step);
    row.b.end(Trips::Imm(count));
    Some(row.b.finish())
}

/// Where rows are.
#[derive(Clone, Copy)]
struct RowStream {
    pointer: Int,
    /// Bytes to the next row.
    step: i32,
}

/// A row that is being written.
struct ByteRow {
    b: Builder,
    x: RowStream,
    y: RowStream,
    table: Option<Int>,
    /// Bytes.
    extent: u32,
    widest: Lanes,
}

impl ByteRow {
    fn write(&mut self) -> Option<()> {
        let bytes = self.widest.bytes() as u32;
        let (vectors, rest) = (self.extent / bytes, self.extent % bytes);
        let (rounds, left) = (vectors / TOGETHER, vectors % TOGETHER);
        // Lanes from a byte of the row on.
        let mut ends: Vec<(u32, u32)> = Vec::new();
        match (vectors, rest) {
            (_, 0) => {}
            (0, _) => {
                ends.push((0, rest / 4));
                if rest % 4 > 0 {
                    ends.push((rest - 4, 1));
                }
            }
            _ => ends.push((self.extent - bytes, self.widest.count())),
        }
        let read: Vec<Vector> =
            ends.iter().map(|&(from, lanes)| self.read(from, lanes)).collect::<Option<_>>()?;
        if rounds > 0 {
            let step = (TOGETHER * bytes) as i32;
            self.b.begin();
            self.vectors(TOGETHER)?;
            self.b.advance(self.x.pointer, step);
            self.b.advance(self.y.pointer, step);
            self.b.end(Trips::Imm(rounds));
        }
        self.vectors(left)?;
        let back = i32::try_from(rounds * TOGETHER * bytes).ok()?;
        self.b.advance(self.x.pointer, -back);
        self.b.advance(self.y.pointer, -back);
        for ((from, lanes), x) in ends.into_iter().zip(read) {
            self.store(x, from, lanes)?;
        }
        Some(())
    }

    /// Whole vectors from where the pointers are.
    fn vectors(&mut self, count: u32) -> Option<()> {
        let (lanes, bytes) = (self.widest.count(), self.widest.bytes() as u32);
        let read: Vec<Vector> = (0..count).map(|i| self.read(i * bytes, lanes)).collect::<Option<_>>()?;
        (0..count).zip(read).try_for_each(|(i, x)| self.store(x, i * bytes, lanes))
    }

    fn read(&mut self, from: u32, lanes: u32) -> Option<Vector> {
        let width = ir::Lanes::holding(lanes)?;
        Some(self.b.load(width, lanes, at(self.x.pointer, from.try_into().ok()?)))
    }

    fn store(&mut self, x: Vector, from: u32, lanes: u32) -> Option<()> {
        let y = match self.table {
            Some(table) => self.b.translate(x, at(table, 0)),
            None => x,
        };
        self.b.store(y, lanes, at(self.y.pointer, from.try_into().ok()?));
        Some(())
    }
}
