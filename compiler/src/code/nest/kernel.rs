//! The innermost loop of an element-wise nest as a tile program, over the target's widest vectors.
//!
//! ```text
//!   y[i] = gelu(a[i] + b)      b in all lanes of a register, before the loop
//!                              loop: a few vectors of a, the functions, as many of y
//!                              then the vectors that are left, and the part of one
//! ```
//!
//! Layer functions are Cranelift's, which knows vectors of 128 bits on x86-64 and multiplies and adds apart. What is left over at
//! the end of a row goes through the same instructions as a vector of which only a part is read and written: an element has the
//! same bits wherever it stands.

use nnc_ir::op::elementwise::BinaryFn;

use super::{Constant, Expr, Nest, Vectorised};
use crate::code::float::Float;
use crate::code::tile::ir::{
    self, BinOp, Builder, ByteRange, ParamKind, ParamRole, Source, Test, TileProgram, Trips, Vector, at,
};
use crate::code::tile::programs::functions::{self, VectorMath};
use crate::code::tile::{verify, x86};

/// Instructions of a round, beyond which more vectors in a round gain nothing: the loop itself counts for three.
const ROUND: usize = 32;

impl Nest {
    /// The kernel of the innermost loop, where the nest has one, in vectors of at most `widest` lanes.
    ///
    /// Its parameters are the addresses of each operand and of the result.
    pub fn kernel(&self, widest: ir::Lanes) -> Option<TileProgram> {
        (self.vectorised == Vectorised::Kernel).then(|| RowKernel { nest: self, widest }.program())?
    }

    /// Whether the kernel that the nest asks for, if it does, can be written for every target: registers are fewest with AVX2.
    pub fn kernel_fits(&self) -> bool {
        self.vectorised != Vectorised::Kernel
            || self.kernel(ir::Lanes::X8).is_some_and(|program| {
                verify::verify(&program).is_ok() && x86::fits(&program, x86::Level::Avx2).is_ok()
            })
    }
}

/// Whether a kernel can compute an expression: in `f32`, whatever floats lie in memory, and comparisons where something depends on them.
pub(super) fn has(e: &Expr) -> bool {
    match e {
        Expr::Operand(_) | Expr::Const(Constant::F32(_)) => true,
        Expr::Unary(f, x) => functions::has(f.0) && has(x),
        Expr::Binary(f, a, b) => is_arithmetic(*f) && has(a) && has(b),
        Expr::Select(c, a, b) => comparison(c).is_some_and(|(_, x, y)| has(x) && has(y)) && has(a) && has(b),
        Expr::Const(Constant::F64(_) | Constant::Int(..)) => false,
        Expr::Index(_) | Expr::Acc(_) | Expr::Cast(..) => false,
    }
}

fn is_arithmetic(function: BinaryFn) -> bool {
    use BinaryFn::*;
    match function {
        Add | Sub | Mul | Div | Min | Max | PRelu => true,
        Pow | Mod { .. } | And | Or | Xor | BitAnd | BitOr | BitXor | ShiftLeft | ShiftRight => false,
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

/// A kernel that is being written.
struct RowKernel<'n> {
    nest: &'n Nest,
    widest: ir::Lanes,
}

/// Operands of the vectors that are being computed.
struct Vectors<'v> {
    operands: &'v [Vector],
    lanes: ir::Lanes,
}

impl RowKernel<'_> {
    fn program(&self) -> Option<TileProgram> {
        let nest = self.nest;
        let inner = nest.loops.len().checked_sub(1)?;
        let extent = u32::try_from(nest.loops[inner]).ok()?;
        let mut b = Builder::new(name(&nest.value, Float::of(nest.result.dtype)?, extent));
        let varies: Vec<bool> = nest.operands.iter().map(|o| o.strides[inner] != 0).collect();
        let floats: Vec<Float> = nest.operands.iter().map(|o| Float::of(o.dtype)).collect::<Option<_>>()?;
        let stored = Float::of(nest.result.dtype)?;
        let bytes =
            |varies: bool, float: Float| ByteRange::new(0, float.span(if varies { extent } else { 1 }));
        let mut pointers = Vec::new();
        for (&varies, &float) in varies.iter().zip(&floats) {
            pointers.push(b.param(ParamRole::Input, ParamKind::Read { range: bytes(varies, float) }));
        }
        let output = b.param(ParamRole::Output, ParamKind::Write { range: bytes(true, stored) });
        // What is the same for all elements stays in registers.
        let held: Vec<Option<Vector>> = varies
            .iter()
            .zip(pointers.iter().zip(&floats))
            .map(|(&varies, (&pointer, &float))| {
                (!varies).then(|| b.splat(self.widest, at(pointer, 0).of(float)))
            })
            .collect();
        let lanes = self.widest.count();
        let (vectors, rest) = (extent / lanes, extent % lanes);
        let write = |b: &mut Builder, first: u32, used: u32| {
            let width = ir::Lanes::holding(used)?;
            let place =
                |pointer, float: Float| Some(at(pointer, i32::try_from(float.span(first)).ok()?).of(float));
            let mut operands = Vec::new();
            for (held, (&pointer, &float)) in held.iter().zip(pointers.iter().zip(&floats)) {
                operands.push(match held {
                    Some(held) => *held,
                    None => b.load(width, used, place(pointer, float)?),
                });
            }
            let result = value(b, &nest.value, &Vectors { operands: &operands, lanes: width })?;
            b.store(result, used, place(output, stored)?);
            Some(())
        };
        // How many instructions a vector takes is known when one is written.
        let mut trial = Builder::new("");
        let blanks: Vec<Vector> = varies.iter().map(|_| trial.vector(self.widest)).collect();
        value(&mut trial, &nest.value, &Vectors { operands: &blanks, lanes: self.widest })?;
        let weight = trial.finish().body.len() + varies.len() + 1;
        let together = (ROUND / weight).clamp(1, 4) as u32;
        let rounds = vectors / together;
        b.begin();
        for i in 0..together {
            write(&mut b, i * lanes, lanes)?;
        }
        if rounds > 0 {
            let step = |float: Float| i32::try_from(float.span(together * lanes)).ok();
            for ((&pointer, &float), _) in pointers.iter().zip(&floats).zip(&varies).filter(|(_, v)| **v) {
                b.advance(pointer, step(float)?);
            }
            b.advance(output, step(stored)?);
        }
        b.end(Trips::Imm(rounds));
        let left = vectors % together;
        for i in 0..left {
            write(&mut b, i * lanes, lanes)?;
        }
        if rest > 0 {
            write(&mut b, left * lanes, rest)?;
        }
        Some(b.finish())
    }
}

/// Writes an expression; its operands are left as they are.
fn value(b: &mut Builder, e: &Expr, at: &Vectors<'_>) -> Option<Vector> {
    Some(match e {
        Expr::Operand(i) => *at.operands.get(*i)?,
        Expr::Const(Constant::F32(bits)) => b.constant(at.lanes, f32::from_bits(*bits)),
        Expr::Unary(f, x) => {
            let x = value(b, x, at)?;
            VectorMath::new(b, at.lanes).apply(f.0, x)?
        }
        Expr::Binary(f, x, y) => {
            let (x, y) = (value(b, x, at)?, value(b, y, at)?);
            arithmetic(&mut VectorMath::new(b, at.lanes), *f, x, y)?
        }
        Expr::Select(c, then, otherwise) => {
            let (test, x, y) = comparison(c)?;
            let (x, y) = (value(b, x, at)?, value(b, y, at)?);
            let (then, otherwise) = (value(b, then, at)?, value(b, otherwise, at)?);
            VectorMath::new(b, at.lanes).select(test, [x, y], then, otherwise)
        }
        Expr::Const(Constant::F64(_) | Constant::Int(..)) => return None,
        Expr::Index(_) | Expr::Acc(_) | Expr::Cast(..) => return None,
    })
}

fn arithmetic(f: &mut VectorMath<'_>, function: BinaryFn, x: Vector, y: Vector) -> Option<Vector> {
    let plain = |f: &mut VectorMath<'_>, op| f.bin(op, x, Source::Reg(y));
    Some(match function {
        BinaryFn::Add => plain(f, BinOp::Add),
        BinaryFn::Sub => plain(f, BinOp::Sub),
        BinaryFn::Mul => plain(f, BinOp::Mul),
        BinaryFn::Div => plain(f, BinOp::Div),
        BinaryFn::Min | BinaryFn::Max => {
            let op = if function == BinaryFn::Min { BinOp::Min } else { BinOp::Max };
            // NaN in `x` goes through the comparison, NaN in `y` through the selection.
            let limited = f.bin(op, y, Source::Reg(x));
            f.select(Test::Equal, [y, y], limited, y)
        }
        BinaryFn::PRelu => {
            let scaled = plain(f, BinOp::Mul);
            let zero = f.constant(0.0);
            f.select(Test::Less, [x, zero], scaled, x)
        }
        _ => return None,
    })
}

/// A name that says what is computed of how many elements.
fn name(e: &Expr, stored: Float, extent: u32) -> String {
    let mut words = Vec::new();
    e.walk(&mut |e| {
        let word = match e {
            Expr::Unary(f, _) => format!("{:?}", f.0),
            Expr::Binary(f, ..) => format!("{f:?}"),
            Expr::Select(..) => "Select".to_owned(),
            Expr::Operand(_) | Expr::Const(_) | Expr::Index(_) | Expr::Acc(_) | Expr::Cast(..) => return,
        };
        words.extend(word.split(' ').next().map(str::to_lowercase));
    });
    words.reverse();
    words.truncate(4);
    format!("map_{}_{extent}_{}", stored.word(), words.join("_"))
}
