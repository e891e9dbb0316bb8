//! Elements side by side, in vectors: what kernels of maps and of reductions along a row are written with.
//!
//! ```text
//!   operands that vary        loaded, a vector at a time
//!   operands that do not      in all lanes of a register, once
//!   parts of an expression    computed once, where no operand that varies is in them
//! ```

use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;

use super::{Constant, Expr, Nest, UnaryFn};
use crate::code::float::Float;
use crate::code::tile::ir::{
    self, BinOp, Builder, ByteRange, Int, ParamKind, ParamRole, Source, Test, Trips, Vector, at,
};
use crate::code::tile::programs::functions::{self, VectorMath};
use crate::code::tile::programs::rescale::NEAR;

/// Instructions of a round, beyond which more vectors in a round gain nothing: the loop itself counts for three.
const ROUND: usize = 32;

/// Vectors that are stored together as bytes, where they are near enough to be [packed](ir::Inst::Pack).
const PACKED: u32 = 4;

/// Whether a kernel can compute an expression: in `f32`, whatever floats lie in memory, and comparisons where something depends on them.
/// It may name the first `accumulators`.
pub(super) fn has(e: &Expr, accumulators: usize) -> bool {
    let has = |e: &Expr| has(e, accumulators);
    match e {
        Expr::Operand(_) | Expr::Const(Constant::F32(_)) => true,
        Expr::Acc(i) => *i < accumulators,
        Expr::Unary(f, x) => functions::has(f.0) && has(x),
        Expr::Binary(f, a, b) => is_arithmetic(*f) && has(a) && has(b),
        Expr::MulAdd(x, y, z) => [x, y, z].into_iter().all(|e| has(e)),
        Expr::Select(c, a, b) => comparison(c).is_some_and(|(_, x, y)| has(x) && has(y)) && has(a) && has(b),
        Expr::Const(Constant::F64(_) | Constant::Int(..)) => false,
        Expr::Index(_) | Expr::Cast(..) | Expr::Entry(..) => false,
    }
}

fn is_arithmetic(function: BinaryFn) -> bool {
    use BinaryFn::*;
    match function {
        Add | Sub | Mul | Div | Min | Max | PRelu | Pow => true,
        Mod { .. } | And | Or | Xor | BitAnd | BitOr | BitXor | ShiftLeft | ShiftRight => false,
        Equal | Less | LessOrEqual | Greater | GreaterOrEqual => false,
    }
}

/// A condition as a test of two values.
fn comparison(e: &Expr) -> Option<(Test, &Expr, &Expr)> {
    let Expr::Binary(function, x, y) = e else { return None };
    match function {
        BinaryFn::Equal => Some((Test::Equal, x, y)),
        BinaryFn::Less => Some((Test::Less, x, y)),
        BinaryFn::LessOrEqual => Some((Test::LessOrEqual, x, y)),
        BinaryFn::Greater => Some((Test::Less, y, x)),
        BinaryFn::GreaterOrEqual => Some((Test::LessOrEqual, y, x)),
        _ => None,
    }
}

/// What a parameter leads to along the axis that goes in vectors.
#[derive(Clone, Copy)]
pub(super) struct LineStream {
    pub(super) pointer: Int,
    float: Float,
    /// Whether each element is another one.
    varies: bool,
    /// Bytes to the next step of the loop around, if there is one.
    step: i32,
}

/// A kernel that is being written: elements side by side, each computed in the same way.
pub(super) struct Line {
    pub(super) b: Builder,
    pub(super) widest: ir::Lanes,
    extent: u32,
    operands: Vec<LineStream>,
    pub(super) result: LineStream,
    /// What is the same for all elements of all steps of the loop around, in a register each.
    common: Vec<(Expr, Vector)>,
    /// Steps of the loop around that are taken together: what is the same for all elements of each, in a register each.
    held: Vec<Vec<(Expr, Vector)>>,
    /// Which of them is being written.
    turn: usize,
    /// At each turn, what is known of some pieces, by their numbers, in place of memory: what was just stored takes a while to come
    /// back, and a part of a vector takes long.
    pieces: Vec<Vec<(u32, Expr, Vector)>>,
}

/// Elements that are computed at once.
#[derive(Clone, Copy)]
pub(super) struct LinePiece {
    /// Which of those that a round has.
    pub(super) slot: u32,
    /// Elements before it, from where the pointers are.
    first: u32,
    /// How many there are; the rest of the vector is nobody's.
    pub(super) used: u32,
    /// Lanes of the vector.
    pub(super) lanes: ir::Lanes,
    /// How many come before it, where that is known: in a loop it is not.
    pub(super) number: Option<u32>,
}

impl LinePiece {
    /// Whether it is what is left over and fills no vector, whatever is before it.
    pub(super) fn is_part(self) -> bool {
        self.used < self.lanes.count()
    }
}

impl Line {
    /// The parameters of a kernel that goes along a loop or a reduction axis, and does so again for each step of another loop, where
    /// one is given.
    pub(super) fn new(
        nest: &Nest,
        axis: usize,
        again: Option<usize>,
        name: String,
        widest: ir::Lanes,
    ) -> Option<Line> {
        let mut b = Builder::new(name);
        let extent = u32::try_from(nest.extents().nth(axis)?).ok()?;
        let mut stream = |operand: &super::Operand, role, kind: fn(ByteRange) -> ParamKind| {
            let float = Float::stored(operand.dtype)?;
            let varies = operand.strides.get(axis).is_some_and(|&stride| stride != 0);
            let step = again.map_or(0, |axis| operand.strides[axis]);
            let steps = again.map_or(1, |axis| nest.loops[axis]);
            let last = step.checked_mul(i64::try_from(steps).ok()? - 1)?;
            let span = float.span(if varies { extent } else { 1 });
            let bytes = ByteRange::new(last.min(0), last.max(0).checked_add(span)?);
            Some(LineStream {
                pointer: b.param(role, kind(bytes)),
                float,
                varies,
                step: step.try_into().ok()?,
            })
        };
        let operands: Option<Vec<LineStream>> = nest
            .operands
            .iter()
            .map(|operand| stream(operand, ParamRole::Input, |extent| ParamKind::Read { range: extent }))
            .collect();
        let result = stream(&nest.result, ParamRole::Output, |extent| ParamKind::Write { range: extent })?;
        Some(Line {
            b,
            widest,
            extent,
            operands: operands?,
            result,
            common: Vec::new(),
            held: vec![Vec::new()],
            turn: 0,
            pieces: vec![Vec::new()],
        })
    }

    /// A kernel without parameters yet, whose elements come in registers.
    pub(super) fn bare(b: Builder, widest: ir::Lanes) -> Line {
        let result = LineStream { pointer: Int(0), float: Float::F32, varies: false, step: 0 };
        let (held, pieces) = (vec![Vec::new()], vec![Vec::new()]);
        let (operands, common) = (Vec::new(), Vec::new());
        Line { b, widest, extent: 0, operands, result, common, held, turn: 0, pieces }
    }

    /// Starts on so many steps of the loop around at once: operands that do not vary come into registers.
    pub(super) fn begin(&mut self, steps: usize) -> Option<()> {
        self.common.clear();
        self.begin_rows(steps)
    }

    /// What no step of the loop around changes comes into registers, once for all.
    pub(super) fn begin_for_all(&mut self) -> Option<()> {
        for i in 0..self.operands.len() {
            let stream = self.operands[i];
            if !stream.varies && stream.step == 0 {
                let from = self.start(stream)?;
                let one = self.b.splat(self.widest, from);
                self.hold(Expr::Operand(i), one);
            }
        }
        Some(())
    }

    /// From here on, what is held is the same for all steps of the loop around.
    pub(super) fn held_for_all(&mut self) {
        self.common.extend(self.held.drain(..).flatten());
    }

    /// As [`Line::begin`], behind what is the same for all steps.
    pub(super) fn begin_rows(&mut self, steps: usize) -> Option<()> {
        (self.held, self.pieces) = (vec![Vec::new(); steps], vec![Vec::new(); steps]);
        for turn in 0..steps {
            self.turn = turn;
            for i in 0..self.operands.len() {
                let stream = self.operands[i];
                if !stream.varies && !self.is_held(&Expr::Operand(i)) {
                    let from = self.start(stream)?;
                    let one = self.b.splat(self.widest, from);
                    self.hold(Expr::Operand(i), one);
                }
            }
        }
        self.turn = 0;
        Some(())
    }

    /// From here on, it is the turn of another of the steps.
    pub(super) fn turn(&mut self, turn: usize) {
        self.turn = turn;
    }

    /// Moves on by some steps of the loop around.
    pub(super) fn next(&mut self, steps: u32) -> Option<()> {
        for stream in self.operands.iter().chain([&self.result]) {
            let bytes = i64::from(stream.step) * i64::from(steps);
            self.b.advance(stream.pointer, bytes.try_into().ok()?);
        }
        Some(())
    }

    /// Where a stream is at this turn.
    pub(super) fn start(&self, stream: LineStream) -> Option<ir::Addr> {
        let disp = i64::from(stream.step).checked_mul(self.turn as i64)?;
        Some(at(stream.pointer, disp.try_into().ok()?).of(stream.float))
    }

    /// How many elements there are.
    pub(super) fn extent(&self) -> u32 {
        self.extent
    }

    /// What is in the result's place is the operand behind the first `operands` from here on, or no longer.
    pub(super) fn read_back(&mut self, operands: usize, read: bool) {
        self.operands.truncate(operands);
        self.operands.extend(read.then_some(self.result));
    }

    /// Gives an expression a value that is in a register from here on.
    pub(super) fn hold(&mut self, e: Expr, value: Vector) {
        if let Some(held) = self.held.get_mut(self.turn) {
            held.push((e, value));
        }
    }

    /// Gives an expression a value in a piece.
    pub(super) fn hold_piece(&mut self, number: u32, e: Expr, value: Vector) {
        if let Some(pieces) = self.pieces.get_mut(self.turn) {
            pieces.push((number, e, value));
        }
    }

    /// What is the same for all elements at this turn.
    fn held(&self) -> impl Iterator<Item = &(Expr, Vector)> {
        self.common.iter().chain(self.held.get(self.turn).into_iter().flatten())
    }

    fn is_held(&self, e: &Expr) -> bool {
        self.held().any(|(held, _)| held == e)
    }

    /// Whether all operands of an expression are in registers.
    fn is_known(&self, e: &Expr) -> bool {
        let mut known = true;
        e.walk(&mut |e| known &= !matches!(e, Expr::Operand(_)) || self.is_held(e));
        known
    }

    /// Whether an expression differs from element to element.
    pub(super) fn varies(&self, e: &Expr) -> bool {
        let mut varies = false;
        e.walk(&mut |e| {
            varies |= matches!(e, Expr::Operand(i) if self.operands.get(*i).is_some_and(|o| o.varies))
        });
        varies
    }

    /// Computes the parts of an expression that are the same for all elements.
    pub(super) fn hoist(&mut self, e: &Expr) -> Option<()> {
        if self.is_held(e) {
            return Some(());
        }
        let parts: Vec<&Expr> = match e {
            Expr::Operand(_) | Expr::Const(_) | Expr::Index(_) | Expr::Acc(_) => return Some(()),
            _ if !self.varies(e) && self.is_known(e) => {
                let value = self.value(e, &[], self.widest)?;
                self.hold(e.clone(), value);
                return Some(());
            }
            Expr::Unary(_, x) | Expr::Cast(_, x) => vec![x],
            Expr::Binary(_, x, y) | Expr::Entry(x, y) => vec![x, y],
            Expr::MulAdd(x, y, z) => vec![x, y, z],
            Expr::Select(c, then, otherwise) => {
                let (_, x, y) = comparison(c)?;
                vec![x, y, then, otherwise]
            }
        };
        parts.into_iter().try_for_each(|part| self.hoist(part))
    }

    /// The streams that some expressions read element by element.
    fn read_by(&self, expressions: &[&Expr]) -> Vec<usize> {
        let mut read = Vec::new();
        for e in expressions {
            e.walk(&mut |e| match e {
                Expr::Operand(i) if self.operands.get(*i).is_some_and(|o| o.varies) => read.push(*i),
                _ => {}
            });
        }
        read.sort_unstable();
        read.dedup();
        read
    }

    /// Instructions for a vector of an expression's values.
    pub(super) fn weight(&self, e: &Expr) -> Option<usize> {
        let Line { widest, extent, result, .. } = *self;
        let mut b = Builder::new("");
        let held = vec![self.held().map(|(e, _)| (e.clone(), b.vector(widest))).collect()];
        let mut trial = Line {
            b,
            widest,
            extent,
            operands: self.operands.clone(),
            result,
            common: Vec::new(),
            held,
            turn: 0,
            pieces: Vec::new(),
        };
        let read = self.read_by(&[e]);
        let known: Vec<(Expr, Vector)> =
            read.iter().map(|&i| (Expr::Operand(i), trial.b.vector(self.widest))).collect();
        trial.value(e, &known, self.widest)?;
        Some(trial.b.finish().body.len() + read.len() + 1)
    }

    /// Loads what an expression reads of a piece.
    pub(super) fn load(&mut self, e: &Expr, piece: LinePiece) -> Option<Vec<(Expr, Vector)>> {
        let mut known = Vec::new();
        for i in self.read_by(&[e]) {
            let operand = Expr::Operand(i);
            let mut pieces = self.pieces.get(self.turn).into_iter().flatten();
            if let Some((_, _, value)) = pieces.find(|(n, e, _)| Some(*n) == piece.number && *e == operand) {
                known.push((operand, *value));
                continue;
            }
            let from = self.place(*self.operands.get(i)?, piece)?;
            known.push((operand, self.b.load(piece.lanes, piece.used, from)));
        }
        Some(known)
    }

    /// Where a piece is in memory.
    pub(super) fn place(&self, stream: LineStream, piece: LinePiece) -> Option<ir::Addr> {
        let start = self.start(stream)?;
        let disp = i64::from(start.disp).checked_add(stream.float.span(piece.first))?;
        Some(ir::Addr { disp: disp.try_into().ok()?, ..start })
    }

    /// Writes what is done with all pieces: rounds of so many, then those that are left. Pointers are where they were, afterwards.
    /// The vector of the last piece is narrower where all others are gone and `narrow` says so.
    pub(super) fn sweep(
        &mut self,
        together: u32,
        narrow: bool,
        moving: &[LineStream],
        write: &mut dyn FnMut(&mut Line, LinePiece) -> Option<()>,
    ) -> Option<()> {
        let lanes = self.widest.count();
        let (vectors, rest) = (self.extent / lanes, self.extent % lanes);
        let (rounds, left) = (vectors / together, vectors % together);
        let full = |slot: u32, number: Option<u32>| LinePiece {
            slot,
            first: slot * lanes,
            used: lanes,
            lanes: self.widest,
            number,
        };
        let looped: Vec<LinePiece> =
            (0..together).map(|slot| full(slot, (rounds == 1).then_some(slot))).collect();
        let behind: Vec<LinePiece> =
            (0..left).map(|slot| full(slot, Some(rounds * together + slot))).collect();
        let part = LinePiece {
            slot: left,
            first: left * lanes,
            used: rest,
            lanes: if narrow { ir::Lanes::holding(rest).unwrap_or(self.widest) } else { self.widest },
            number: Some(vectors),
        };
        if rounds > 0 {
            self.b.begin();
            looped.into_iter().try_for_each(|piece| write(self, piece))?;
            self.advance(moving, i64::from(together * lanes))?;
            self.b.end(Trips::Imm(rounds));
        }
        behind.into_iter().try_for_each(|piece| write(self, piece))?;
        if rest > 0 {
            write(self, part)?;
        }
        self.advance(moving, -i64::from(rounds * together * lanes))
    }

    fn advance(&mut self, moving: &[LineStream], elements: i64) -> Option<()> {
        for stream in moving {
            let bytes = i32::try_from(elements * i64::from(stream.float.bytes())).ok()?;
            self.b.advance(stream.pointer, bytes);
        }
        Some(())
    }

    /// The streams that some expressions read, which move with the elements.
    pub(super) fn moving(&self, expressions: &[&Expr]) -> Vec<LineStream> {
        self.read_by(expressions).into_iter().filter_map(|i| self.operands.get(i).copied()).collect()
    }

    /// How many vectors go in a round.
    pub(super) fn together(&self, e: &Expr) -> Option<u32> {
        Some((ROUND / self.weight(e)?).clamp(1, 4) as u32)
    }

    /// Stores an expression for every element.
    pub(super) fn store_all(&mut self, e: &Expr) -> Option<()> {
        let mut moving = self.moving(&[e]);
        // What is read back lies there.
        moving.retain(|stream| stream.pointer != self.result.pointer);
        moving.push(self.result);
        // Pieces that are not in memory have to be known by their numbers.
        let held = self.pieces.get(self.turn).map_or(0, Vec::len) as u32;
        let near = self.result.float == Float::U8 && self.largest(e).is_some_and(|largest| largest < NEAR);
        let packs = near && self.extent >= PACKED * self.widest.count();
        let together = if packs { PACKED } else { self.together(e)?.max(held) };
        // Those of a round, which come before what is left over.
        let mut packed: Vec<Vector> = Vec::new();
        let mut first = None;
        self.sweep(together, true, &moving, &mut |line, piece| {
            let known = line.load(e, piece)?;
            let value = line.value(e, &known, piece.lanes)?;
            let to = line.place(line.result, piece)?;
            if packs && packed.len() < PACKED as usize {
                packed.push(value);
                let first = *first.get_or_insert(to);
                if packed.len() == PACKED as usize {
                    line.b.pack(&packed, first);
                }
                return Some(());
            }
            line.b.store(value, piece.used, to);
            Some(())
        })
    }

    /// Writes an expression, of which some parts are known; what is held or known is left as it is.
    pub(super) fn value(&mut self, e: &Expr, known: &[(Expr, Vector)], lanes: ir::Lanes) -> Option<Vector> {
        let mut known = known.to_vec();
        self.part(e, &mut known, lanes)
    }

    fn part(&mut self, e: &Expr, known: &mut Vec<(Expr, Vector)>, lanes: ir::Lanes) -> Option<Vector> {
        if let Some((_, value)) = self.held().chain(known.iter()).find(|(known, _)| known == e) {
            return Some(*value);
        }
        let value = match e {
            Expr::Const(Constant::F32(bits)) => return Some(self.b.constant(lanes, f32::from_bits(*bits))),
            Expr::Unary(f, x) => {
                let x = self.part(x, known, lanes)?;
                VectorMath::new(&mut self.b, lanes).apply(f.0, x)?
            }
            Expr::Binary(f, x, y) if plain(*f).is_some() => {
                let (x, y) = (self.part(x, known, lanes)?, self.source(y, known, lanes)?);
                VectorMath::new(&mut self.b, lanes).bin(plain(*f)?, x, y)
            }
            Expr::Binary(f, x, y) => {
                let (x, y) = (self.part(x, known, lanes)?, self.part(y, known, lanes)?);
                arithmetic(&mut VectorMath::new(&mut self.b, lanes), *f, x, y)?
            }
            Expr::MulAdd(x, y, z) => {
                let (x, z) = (self.part(x, known, lanes)?, self.part(z, known, lanes)?);
                let y = self.source(y, known, lanes)?;
                let sum = self.b.vector(lanes);
                self.b.push(ir::Inst::Copy { dst: sum, src: z });
                self.b.fma(sum, x, y);
                sum
            }
            Expr::Select(c, then, otherwise) => {
                let (test, x, y) = comparison(c)?;
                let (x, y) = (self.part(x, known, lanes)?, self.part(y, known, lanes)?);
                let (then, otherwise) = (self.part(then, known, lanes)?, self.part(otherwise, known, lanes)?);
                VectorMath::new(&mut self.b, lanes).select(test, [x, y], then, otherwise)
            }
            Expr::Operand(_) | Expr::Acc(_) | Expr::Index(_) | Expr::Cast(..) => return None,
            Expr::Entry(..) => return None,
            Expr::Const(Constant::F64(_) | Constant::Int(..)) => return None,
        };
        known.push((e.clone(), value));
        Some(value)
    }

    /// An expression as the second source of an instruction: constants are part of it.
    fn source(&mut self, e: &Expr, known: &mut Vec<(Expr, Vector)>, lanes: ir::Lanes) -> Option<Source> {
        match e {
            Expr::Const(Constant::F32(bits)) if !self.is_held(e) => Some(Source::Imm(*bits)),
            _ => Some(Source::Reg(self.part(e, known, lanes)?)),
        }
    }

    /// A bound on what an expression can be, where its operands are bytes; NaN it is never.
    fn largest(&self, e: &Expr) -> Option<f64> {
        let largest = |e: &Expr| self.largest(e);
        Some(match e {
            Expr::Operand(i) if self.operands.get(*i)?.float == Float::U8 => u8::MAX.into(),
            Expr::Const(Constant::F32(bits)) => {
                Some(f64::from(f32::from_bits(*bits)).abs()).filter(|v| v.is_finite())?
            }
            Expr::MulAdd(x, y, z) => largest(x)? * largest(y)? + largest(z)?,
            Expr::Binary(BinaryFn::Mul, x, y) => largest(x)? * largest(y)?,
            Expr::Binary(BinaryFn::Add | BinaryFn::Sub, x, y) => largest(x)? + largest(y)?,
            Expr::Unary(UnaryFn(Unary::Round), x) => largest(x)? + 1.0,
            Expr::Unary(UnaryFn(Unary::Clip { min, max }), x) => {
                let bound = |v: f32| if v.is_finite() { f64::from(v).abs() } else { 0.0 };
                largest(x)?.max(bound(*min)).max(bound(*max))
            }
            _ => return None,
        })
    }
}

/// Sums and products as one instruction.
fn plain(function: BinaryFn) -> Option<BinOp> {
    match function {
        BinaryFn::Add => Some(BinOp::Add),
        BinaryFn::Sub => Some(BinOp::Sub),
        BinaryFn::Mul => Some(BinOp::Mul),
        BinaryFn::Div => Some(BinOp::Div),
        _ => None,
    }
}

fn arithmetic(f: &mut VectorMath<'_>, function: BinaryFn, x: Vector, y: Vector) -> Option<Vector> {
    Some(match function {
        BinaryFn::Min | BinaryFn::Max => {
            let op = if function == BinaryFn::Min { BinOp::Min } else { BinOp::Max };
            // NaN in `x` goes through the comparison, NaN in `y` through the selection.
            let limited = f.bin(op, y, Source::Reg(x));
            f.select(Test::Equal, [y, y], limited, y)
        }
        BinaryFn::Pow => f.pow(x, y),
        BinaryFn::PRelu => {
            let scaled = f.bin(BinOp::Mul, x, Source::Reg(y));
            let zero = f.constant(0.0);
            f.select(Test::Less, [x, zero], scaled, x)
        }
        _ => return None,
    })
}

/// A name that says what is computed of how many elements.
pub(super) fn name<'e>(
    what: &str,
    of: impl IntoIterator<Item = &'e Expr>,
    stored: Float,
    extents: impl std::fmt::Display,
) -> String {
    let mut words = Vec::new();
    let mut visit = |e: &Expr| {
        let word = match e {
            Expr::Unary(f, _) => format!("{:?}", f.0),
            Expr::Binary(f, ..) => format!("{f:?}"),
            Expr::Select(..) => "Select".to_owned(),
            Expr::MulAdd(..) => "MulAdd".to_owned(),
            Expr::Operand(_) | Expr::Const(_) | Expr::Index(_) | Expr::Acc(_) => return,
            Expr::Cast(..) | Expr::Entry(..) => return,
        };
        words.extend(word.split(' ').next().map(str::to_lowercase));
    };
    of.into_iter().for_each(|e| e.walk(&mut visit));
    words.reverse();
    words.truncate(4);
    format!("{what}_{}_{extents}_{}", stored.word(), words.join("_"))
}
