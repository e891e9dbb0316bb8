//! A reduction along a row, and what follows from it for the row's elements, as one tile program.
//!
//! ```text
//!   softmax of a row      m = max x           loop: a few vectors of x, each into the maxima of its own lanes
//!                                             then those into one, and its lanes into one number, in all lanes of a register
//!                         s = Σ exp(x - m)    loop: likewise; the powers stay where the result will be
//!                         y = power · 1/s     1/s once, then a loop
//! ```
//!
//! The kernel goes on to the next row by itself, so that constants are in registers before the first one.
//!
//! Passes go over the row one after another, so that all but the first find it in the cache. The order of a sum depends on
//! the row's length and the vectors' width alone: neither on the number of threads, nor on where the row lies.

use nnc_ir::op::elementwise::BinaryFn;

use super::line::{Line, LinePiece, has, name};
use super::{Accumulator, Constant, Expr, Fold, Nest, Vectorised};
use crate::code::float::Float;
use crate::code::tile::ir::{self, BinOp, Inst, Source, Test, TileProgram, Trips, Vector};
use crate::code::tile::{clif, x86};

/// Vectors that are folded apart from each other, so that a sum need not wait for the one before it.
const CHAINS: u32 = 4;

/// Vectors of a row up to which four rows go together, and not two, and what is kept stays in registers.
const SHORT: u32 = 4;

/// The vector registers that any target has.
const FEW_REGISTERS: u32 = 16;

impl Nest {
    /// Whether [`program`] can write the nest: one reduction axis, along which everything is dense or the same for all; accumulators
    /// one after another; and what is stored is one number for a row, or a row.
    pub(super) fn is_row(&self) -> bool {
        let axis = self.loops.len();
        let [reduced] = self.reduce.as_slice() else { return false };
        // Where a table is involved, the next row is not always as far away.
        let dense = |o: &super::Operand| o.is_vector_along(axis) && o.tables.is_empty();
        let turns = self.accumulators.iter().enumerate().all(|(i, a)| {
            let fold = match a.fold {
                Fold::With(f) if i == 0 => f,
                Fold::After(f) if i > 0 => f,
                Fold::With(_) | Fold::After(_) | Fold::Replace => return false,
                Fold::Through | Fold::Before => return false,
            };
            is_fold(fold) && matches!(a.init, Constant::F32(_)) && has(&a.value, i)
        });
        let stored = match self.stores_rows() {
            true => dense(&self.result) && self.result.strides.get(axis) != Some(&0),
            false => Float::of(self.result.dtype).is_some(),
        };
        self.vectorised == Vectorised::Kernel
            && reduced.bound.is_none()
            && reduced.extent > 0
            && !self.accumulators.is_empty()
            && self.operands.iter().all(dense)
            && turns
            && stored
            && has(&self.value, self.accumulators.len())
    }
}

fn is_fold(function: BinaryFn) -> bool {
    matches!(function, BinaryFn::Add | BinaryFn::Mul | BinaryFn::Min | BinaryFn::Max)
}

/// The kernel of a row: of as many rows at a time as there are registers for.
pub(super) fn program(nest: &Nest, widest: ir::Lanes) -> Option<TileProgram> {
    let [reduced] = nest.reduce.as_slice() else { return None };
    let short = reduced.extent <= (SHORT * widest.count()) as usize;
    let mut programs =
        [4, 2].into_iter().filter(|&rows| short || rows < 4).map(|rows| some(nest, widest, rows));
    let fits = |program: &TileProgram| match widest {
        ir::Lanes::X16 => x86::fits(program, x86::Level::Avx512, x86::Extensions::default()).is_ok(),
        ir::Lanes::X8 => x86::fits(program, x86::Level::Avx2, x86::Extensions::default()).is_ok(),
        ir::Lanes::X4 => clif::fits(program, FEW_REGISTERS).is_ok(),
    };
    programs.find_map(|program| program.filter(fits)).or_else(|| some(nest, widest, 1))
}

/// The kernel of a row that takes so many at a time.
fn some(nest: &Nest, widest: ir::Lanes, together: u32) -> Option<TileProgram> {
    let [reduced] = nest.reduce.as_slice() else { return None };
    let extent = u32::try_from(reduced.extent).ok()?;
    let stored = Float::of(nest.result.dtype)?;
    let expressions = nest.accumulators.iter().map(|a| &a.value).chain([&nest.value]);
    let name = name("row", expressions, stored, extent);
    // The last loop inside of a unit, if there is one, is the kernel's, too.
    let again = nest.loops.len().checked_sub(1).filter(|_| nest.unit_axes < nest.loops.len());
    let rows = u32::try_from(again.map_or(1, |axis| nest.loops[axis])).ok()?;
    let mut line = Line::new(nest, nest.loops.len(), again, name, widest)?;
    for (together, rounds) in [(together, rows / together), (1, rows % together)] {
        if rounds > 0 {
            line.b.begin();
            several(&mut line, nest, together)?;
            line.next(together)?;
            line.b.end(Trips::Imm(rounds));
        }
    }
    Some(line.b.finish())
}

/// What is done with some rows at a time, pass by pass: while the lanes of one's sum are added up, there is work for the next one.
fn several(line: &mut Line, nest: &Nest, rows: u32) -> Option<()> {
    let stored = Float::of(nest.result.dtype)?;
    let (mut value, operands) = (nest.value.clone(), nest.operands.len());
    line.begin(rows as usize)?;
    for (i, accumulator) in nest.accumulators.iter().enumerate() {
        let last = i + 1 == nest.accumulators.len();
        let kept = (last && nest.stores_rows() && stored == Float::F32)
            .then(|| without(line, &value, &accumulator.value, operands))
            .flatten();
        for row in 0..rows as usize {
            line.turn(row);
            line.hoist(&accumulator.value)?;
            let total = accumulate(line, accumulator, kept.is_some().then_some(operands))?;
            line.hold(Expr::Acc(i), total);
        }
        if let Some(rest) = kept {
            line.read_back(operands, true);
            value = rest;
        }
    }
    for row in 0..rows as usize {
        line.turn(row);
        line.hoist(&value)?;
        if nest.stores_rows() {
            line.store_all(&value)?;
        } else {
            let one = line.value(&value, &[], line.widest)?;
            let to = line.start(line.result)?;
            line.b.store(one, 1, to);
        }
    }
    line.read_back(operands, false);
    Some(())
}

/// `value` with a number that was computed of each element already in the place of `part`, as operand `kept`. `None` where that
/// would save nothing, or where other parts of `value` read what the kept numbers may lie on.
fn without(line: &Line, value: &Expr, part: &Expr, kept: usize) -> Option<Expr> {
    let mut costly = false;
    part.walk(&mut |e| costly |= matches!(e, Expr::Unary(..)));
    let mut rest = value.clone();
    rest.replace(&mut |e| (e == part).then_some(Expr::Operand(kept)));
    (costly && rest != *value && !line.varies(&rest)).then_some(rest)
}

/// A pass over the row: the value of an accumulator at its end, in all lanes. Each vector's values are stored where the result
/// will be, if they are to be kept, as an operand of that number; or they stay in registers.
fn accumulate(line: &mut Line, accumulator: &Accumulator, keep: Option<usize>) -> Option<Vector> {
    let (Fold::With(function) | Fold::After(function)) = accumulator.fold else { return None };
    let Constant::F32(neutral) = accumulator.init else { return None };
    let value = &accumulator.value;
    let chains = CHAINS.min(line.extent().div_ceil(line.widest.count()));
    let sums: Vec<Chain> = (0..chains).map(|_| Chain::new(line, function, neutral)).collect();
    let short = line.extent() <= SHORT * line.widest.count();
    let mut moving = line.moving(&[value]);
    moving.extend(keep.map(|_| line.result));
    line.sweep(chains, false, &moving, &mut |line, piece| {
        let sum = *sums.get(piece.slot as usize)?;
        let known = line.load(value, piece)?;
        if let (BinaryFn::Add, Expr::Binary(BinaryFn::Mul, x, y), true) =
            (function, value, piece.used == piece.lanes.count())
        {
            let first = line.value(x, &known, piece.lanes)?;
            let second = if x == y { first } else { line.value(y, &known, piece.lanes)? };
            line.b.fma(sum.best, first, Source::Reg(second));
            return Some(());
        }
        let new = line.value(value, &known, piece.lanes)?;
        if let (Some(operand), Some(number), true) = (keep, piece.number, short || piece.is_part()) {
            line.hold_piece(number, Expr::Operand(operand), new);
        } else if keep.is_some() {
            let to = line.place(line.result, piece)?;
            line.b.store(new, piece.used, to);
        }
        let new = filled(line, new, piece, neutral);
        sum.take(line, new);
        Some(())
    })?;
    let mut left = chains as usize;
    while left > 1 {
        let half = left.div_ceil(2);
        for i in half..left {
            sums[i - half].join(line, sums[i]);
        }
        left = half;
    }
    Some(sums.first()?.across(line))
}

/// What has been folded of every so many vectors.
///
/// A comparison forgets NaN. A sum of squares does not, and nothing else makes one of it; so it goes along with the best.
#[derive(Clone, Copy)]
struct Chain {
    op: BinOp,
    best: Vector,
    squares: Option<Vector>,
}

impl Chain {
    fn new(line: &mut Line, function: BinaryFn, neutral: u32) -> Chain {
        let (op, compares) = match function {
            BinaryFn::Max => (BinOp::Max, true),
            BinaryFn::Min => (BinOp::Min, true),
            BinaryFn::Mul => (BinOp::Mul, false),
            _ => (BinOp::Add, false),
        };
        let best = line.b.constant(line.widest, f32::from_bits(neutral));
        let squares = compares.then(|| line.b.constant(line.widest, 0.0));
        Chain { op, best, squares }
    }

    /// Takes a vector in; of two that cannot be compared, the best so far stays.
    fn take(self, line: &mut Line, new: Vector) {
        let (first, second) = if self.squares.is_some() { (new, self.best) } else { (self.best, new) };
        line.b.bin(self.op, self.best, first, Source::Reg(second));
        if let Some(squares) = self.squares {
            line.b.fma(squares, new, Source::Reg(new));
        }
    }

    /// Takes in what another has folded.
    fn join(self, line: &mut Line, other: Chain) {
        line.b.bin(self.op, self.best, self.best, Source::Reg(other.best));
        if let (Some(squares), Some(others)) = (self.squares, other.squares) {
            line.b.bin(BinOp::Add, squares, squares, Source::Reg(others));
        }
    }

    /// All lanes as one number, in every lane.
    fn across(self, line: &mut Line) -> Vector {
        let mut all = |op: BinOp, src: Vector| {
            let dst = line.b.vector(line.widest);
            line.b.push(Inst::Across { op, dst, src });
            dst
        };
        let best = all(self.op, self.best);
        let Some(squares) = self.squares else { return best };
        let x = all(BinOp::Add, squares);
        let dst = line.b.vector(line.widest);
        line.b.push(Inst::Select { test: Test::Equal, x, y: x, dst, then: best, otherwise: x });
        dst
    }
}

/// Elements that are none of the row's count for nothing.
fn filled(line: &mut Line, src: Vector, piece: LinePiece, bits: u32) -> Vector {
    if piece.used == piece.lanes.count() {
        return src;
    }
    let dst = line.b.vector(piece.lanes);
    line.b.push(Inst::Fill { dst, src, n: piece.used as u8, bits });
    dst
}
