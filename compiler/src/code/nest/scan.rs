//! Sums that go on across rows, as one tile program: some columns at a time, from the first row to the last one.
//!
//! ```text
//!   columns 0 to 63      row 0    s  = x0      y0 = s
//!                        row 1    s += x1      y1 = s
//!                        …
//!   columns 64 to 127    likewise
//! ```
//!
//! # Numeric contract
//!
//! What a sum loses when it is rounded to `f32` is known, and is a number of `f32` itself (Knuth, *The Art of Computer Programming*,
//! volume 2, theorem 4.2.2 B):
//!
//! ```text
//!   t = s + x     b = t - s     lost = (s - (t - b)) + (x - b)
//! ```
//!
//! It is summed up beside the sum and added to what is stored, which so is the sum in real numbers to about one unit in the last place,
//! however many rows there are, unless they cancel out. A sum that has left the range of `f32` stays infinite.

use super::{Constant, Expr, Fold, Nest, Vectorised};
use crate::code::float::Float;
use crate::code::tile::ir::{
    self, BinOp, Builder, ByteRange, Inst, Int, ParamKind, ParamRole, Source, Test, TileProgram, Trips,
    Vector, at,
};

/// Columns that should go together, so that each row is read in a few pieces.
pub const COLUMNS: usize = 64;

/// Vectors that go together, so that one sum need not wait for the one before it.
const TOGETHER: u32 = 4;

impl Nest {
    /// Whether [`program`] can write the nest: elements of one operand are summed up along the only reduction axis, and lie side by side
    /// along the innermost loop.
    pub(super) fn is_scan(&self) -> bool {
        let Some(inner) = self.loops.len().checked_sub(1) else { return false };
        let ([operand], [reduced], [sum]) =
            (self.operands.as_slice(), self.reduce.as_slice(), self.accumulators.as_slice())
        else {
            return false;
        };
        let dense = |o: &super::Operand| {
            Float::of(o.dtype).is_some_and(|float| o.strides[inner] == float.span(1)) && o.tables.is_empty()
        };
        self.vectorised == Vectorised::Scan
            && self.unit_axes <= inner
            && self.stores_rows()
            && reduced.bound.is_none()
            && reduced.extent > 0
            && dense(operand)
            && dense(&self.result)
            && sum.fold.goes_on()
            && sum.init == Constant::F32(0)
            && sum.value == Expr::Operand(0)
            && self.value == Expr::Acc(0)
    }
}

/// The kernel of all columns.
pub(super) fn program(nest: &Nest, widest: ir::Lanes) -> Option<TileProgram> {
    let ([operand], [reduced], [sum]) =
        (nest.operands.as_slice(), nest.reduce.as_slice(), nest.accumulators.as_slice())
    else {
        return None;
    };
    let inner = nest.loops.len().checked_sub(1)?;
    let columns = u32::try_from(nest.loops[inner]).ok()?;
    let rows = u32::try_from(reduced.extent).ok()?;
    let (input, output) = (Float::of(operand.dtype)?, Float::of(nest.result.dtype)?);
    let mut b = Builder::new(format!("scan_{}_{rows}x{columns}", output.word()));
    let stream = |b: &mut Builder, o: &super::Operand, float: Float, written: bool| {
        let row = o.strides[inner + 1];
        let last = row.checked_mul(i64::from(rows) - 1)?;
        let range = ByteRange::new(last.min(0), last.max(0).checked_add(float.span(columns))?);
        let (role, kind) = match written {
            false => (ParamRole::Input, ParamKind::Read { range }),
            true => (ParamRole::Output, ParamKind::Write { range }),
        };
        // From behind the last row back to the first one.
        let back = i32::try_from(-row.checked_mul(i64::from(rows))?).ok()?;
        Some(ScanStream { pointer: b.param(role, kind), float, row: row.try_into().ok()?, back })
    };
    let from = stream(&mut b, operand, input, false)?;
    let to = stream(&mut b, &nest.result, output, true)?;
    let mut scan = Scan { b, from, to, rows, with_own: sum.fold == Fold::Through };
    let (lanes, together) = (widest.count(), TOGETHER);
    let (rounds, left) = (columns / (lanes * together), columns % (lanes * together));
    if rounds > 0 {
        scan.b.begin();
        scan.down(&vec![(widest, lanes); together as usize]);
        scan.advance(|stream| i32::try_from(stream.float.span(lanes * together)).ok())?;
        scan.b.end(Trips::Imm(rounds));
    }
    if left > 0 {
        let mut pieces = vec![(widest, lanes); (left / lanes) as usize];
        pieces.extend(ir::Lanes::holding(left % lanes).map(|narrow| (narrow, left % lanes)));
        scan.down(&pieces);
    }
    Some(scan.b.finish())
}

#[derive(Clone, Copy)]
struct ScanStream {
    pointer: Int,
    float: Float,
    /// Bytes from a row to the next one, and back from behind the last one.
    row: i32,
    back: i32,
}

struct Scan {
    b: Builder,
    from: ScanStream,
    to: ScanStream,
    rows: u32,
    /// Whether what is stored for a row has that row in it.
    with_own: bool,
}

impl Scan {
    /// Some vectors of columns, of which so many lanes are used, from the first row to the last one; pointers are where they were
    /// afterwards.
    fn down(&mut self, pieces: &[(ir::Lanes, u32)]) {
        let sums: Vec<[Vector; 2]> = (pieces.iter())
            .map(|&(lanes, _)| [self.b.constant(lanes, 0.0), self.b.constant(lanes, 0.0)])
            .collect();
        self.b.begin();
        let mut column = 0;
        for (&(lanes, used), &[sum, lost]) in pieces.iter().zip(&sums) {
            let place =
                |stream: ScanStream| at(stream.pointer, stream.float.span(column) as i32).of(stream.float);
            let x = self.b.load(lanes, used, place(self.from));
            if !self.with_own {
                self.store([sum, lost], used, place(self.to));
            }
            self.add([sum, lost], x);
            if self.with_own {
                self.store([sum, lost], used, place(self.to));
            }
            column += used;
        }
        for stream in [self.from, self.to] {
            self.b.advance(stream.pointer, stream.row);
        }
        self.b.end(Trips::Imm(self.rows));
        for stream in [self.from, self.to] {
            self.b.advance(stream.pointer, stream.back);
        }
    }

    /// Takes a vector into a sum, and what that loses into the other one.
    fn add(&mut self, [sum, lost]: [Vector; 2], x: Vector) {
        let lanes = self.b.lanes(sum);
        let [total, added, kept] = [(); 3].map(|()| self.b.vector(lanes));
        self.b.bin(BinOp::Add, total, sum, Source::Reg(x));
        self.b.bin(BinOp::Sub, added, total, Source::Reg(sum));
        self.b.bin(BinOp::Sub, kept, total, Source::Reg(added));
        self.b.bin(BinOp::Sub, kept, sum, Source::Reg(kept));
        self.b.bin(BinOp::Sub, added, x, Source::Reg(added));
        self.b.bin(BinOp::Add, kept, kept, Source::Reg(added));
        self.b.bin(BinOp::Add, lost, lost, Source::Reg(kept));
        self.b.push(Inst::Copy { dst: sum, src: total });
    }

    /// Stores a sum. Of infinite ones, what they lose is no number.
    fn store(&mut self, [sum, lost]: [Vector; 2], used: u32, to: ir::Addr) {
        let lanes = self.b.lanes(sum);
        let [both, dst] = [(); 2].map(|()| self.b.vector(lanes));
        self.b.bin(BinOp::Add, both, sum, Source::Reg(lost));
        let (test, x, y) = (Test::Equal, both, both);
        self.b.push(Inst::Select { test, x, y, dst, then: both, otherwise: sum });
        self.b.store(dst, used, to);
    }

    fn advance(&mut self, bytes: impl Fn(ScanStream) -> Option<i32>) -> Option<()> {
        for stream in [self.from, self.to] {
            self.b.advance(stream.pointer, bytes(stream)?);
        }
        Some(())
    }
}
