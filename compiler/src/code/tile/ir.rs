//! The tile IR: a small structured language for innermost vector loops.
//!
//! A [`TileProgram`] is one leaf function: parameters, virtual registers, and a body of instructions and counted loops.
//! It is what a kernel family (dense, depthwise, pooling …) writes down once, and what each lowering turns into
//! code for one instruction set. A dense tile of one pixel by sixteen columns over 32 channels reads:
//!
//! ```text
//! dense(input: ptr [0, 128), weights: ptr [0, 2048), output: ptr [0, 64))
//!   v0 = const 0.0                       x16
//!   loop 8
//!     v1 = load weights+0                x16
//!     v0 += v1 * splat input+0           x16
//!     …
//!     input += 16
//!     weights += 256
//!   store output+0 <- v0                 x16
//! ```
//!
//! # Registers
//!
//! A vector register has 4, 8 or 16 lanes of f32, fixed when it is declared. A lowering may keep it in several
//! machine registers. An operand may be wider than the result: its first lanes are read, which costs nothing and lets
//! one broadcast serve columns of mixed widths. Integer registers hold pointers and counts; the first ones are the
//! parameters, in order. Registers are not SSA: an instruction may overwrite its own operand.
//!
//! A matrix register has up to 16 rows of up to 16 lanes, its [`MatrixShape`]. There are [`MATRICES`] of them, they are configured once for
//! many calls, and they are given numbers by whoever writes the program.
//!
//! # Arithmetic
//!
//! Every lane is IEEE f32 with round-to-nearest-even. Two points go beyond IEEE and hold in every lowering:
//!
//! - `max(a, b)` is `a > b ? a : b` and `min(a, b)` is `a < b ? a : b`. When either is NaN, or both are zero, the
//!   result is **b**. So `max(0, x)` is a ReLU that lets NaN through.
//! - `fma` rounds once where the target has fused multiply-add, and twice (product, then sum) where it has not, unless it says that
//!   it has to be once.
//!
//! That, and the last place of a sine, are the only differences in value between targets.
//!
//! # Memory
//!
//! Addresses are a pointer plus a constant displacement in bytes, and need no alignment. An address says which [`Float`]
//! lies there: a load widens half floats, which is exact, and a store rounds to them, to nearest even, NaN to a quiet NaN. Partial loads and stores touch
//! only the bytes of their first `n` lanes; a partial load clears the other lanes. Memory effects happen in program
//! order, so parameters may alias.

use crate::code::float::Float;

/// Number of f32 lanes of a vector register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lanes {
    /// 4 lanes, 128 bits.
    X4 = 4,
    /// 8 lanes, 256 bits.
    X8 = 8,
    /// 16 lanes, 512 bits.
    X16 = 16,
}

impl Lanes {
    /// The number of lanes.
    pub const fn count(self) -> u32 {
        self as u32
    }

    /// The size in bytes of a register, and of as many `f32` in memory.
    pub const fn bytes(self) -> i32 {
        self as i32 * 4
    }

    /// The size in bytes of as many floats in memory.
    pub const fn span(self, float: Float) -> i32 {
        self as i32 * float.bytes() as i32
    }

    /// The narrowest register that holds `n` lanes; `None` above 16 and for 0.
    pub const fn holding(n: u32) -> Option<Lanes> {
        match n {
            1..=4 => Some(Lanes::X4),
            5..=8 => Some(Lanes::X8),
            9..=16 => Some(Lanes::X16),
            _ => None,
        }
    }
}

/// A virtual vector register: an index into [`TileProgram::vectors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vector(pub u32);

/// A virtual integer register, holding a pointer or a count. Register `i` is parameter `i` for `i` below the number
/// of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Int(pub u32);

/// A matrix register: an index into [`TileProgram::matrices`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Matrix(pub u8);

/// The size of a matrix register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatrixShape {
    /// Rows, 1 to 16.
    pub rows: u8,
    /// Lanes of 32 bits in a row, 1 to 16.
    pub lanes: u8,
}

/// How many matrix registers there are.
pub const MATRICES: usize = 8;

/// The most rows, and lanes in a row, of a matrix register.
pub const MATRIX_ROWS: u8 = 16;

impl MatrixShape {
    /// Bytes from the first one of its first row to behind the last one of its last row, in memory in which rows are so far apart.
    pub fn span(self, pitch: i32) -> ByteRange {
        let last = i64::from(self.rows.saturating_sub(1)) * i64::from(pitch);
        ByteRange::new(last.min(0), last.max(0) + 4 * i64::from(self.lanes))
    }
}

/// What is multiplied in the lanes of matrix registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatrixProducts {
    /// Four bytes of a lane, unsigned ones by signed ones. Sums are `i32`.
    Bytes,
    /// Two `bf16` of a lane. Sums are `f32`.
    Halves,
}

/// What a parameter means to the caller, the same word in every kernel family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ParamRole {
    /// The activations that are read.
    Input,
    /// Packed weights.
    Weights,
    /// Where the results go.
    Output,
    /// How many kernel rows lie inside the image.
    KernelRows,
    /// How many tiles are computed one after another.
    Tiles,
    /// Byte displacements of channel runs.
    Table,
    /// One value per output channel, added to the sum.
    Bias,
    /// One factor per output channel, by which sums of integers are rescaled.
    Factor,
    /// One summand per output channel, added to the rescaled sum.
    Addend,
    /// A tensor of the output's shape that is added.
    Residual,
    /// One factor per channel, applied to the input.
    Scale,
    /// One summand per channel, applied to the input after the scale.
    Shift,
    /// What a later call will read: only prefetched, so any address will do.
    Ahead,
    /// Values that a kernel keeps between two of its parts.
    Scratch,
}

/// A half-open range of bytes relative to a pointer parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ByteRange {
    /// First byte that may be touched.
    pub lo: i64,
    /// One past the last byte that may be touched.
    pub hi: i64,
}

impl ByteRange {
    /// The bytes `lo..hi`.
    pub const fn new(lo: i64, hi: i64) -> ByteRange {
        ByteRange { lo, hi }
    }

    /// Whether nothing may be touched.
    pub const fn is_empty(self) -> bool {
        self.lo >= self.hi
    }

    /// Whether every byte of `other` lies in this range.
    pub const fn contains(self, other: ByteRange) -> bool {
        other.is_empty() || (self.lo <= other.lo && other.hi <= self.hi)
    }

    /// The smallest range that holds both.
    pub fn union(self, other: ByteRange) -> ByteRange {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => ByteRange { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) },
        }
    }
}

/// The type of a parameter. All are passed as 64-bit integers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ParamKind {
    /// A pointer to memory that is only read; only `range` may be touched.
    Read {
        /// The bytes that may be touched.
        range: ByteRange,
    },
    /// A pointer to memory that is written, and possibly read.
    Write {
        /// The bytes that may be touched.
        range: ByteRange,
    },
    /// A pointer to a table of signed 32-bit byte displacements, in classes that follow one another.
    Table {
        /// The number of entries of each class, and the range `lo..hi` that they keep to.
        classes: Vec<(u32, ByteRange)>,
    },
    /// A number of loop rounds from 0 to `max`.
    Count {
        /// The largest value that a caller may pass.
        max: u32,
    },
}

/// A parameter of a program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Param {
    /// Its meaning.
    pub role: ParamRole,
    /// Its type.
    pub kind: ParamKind,
}

/// A pointer plus a constant displacement in bytes, and what lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addr {
    /// The pointer.
    pub base: Int,
    /// Bytes added to it.
    pub disp: i32,
    /// The floats there. Of no meaning where no vector is read or written.
    pub float: Float,
}

impl Addr {
    /// The same place, with floats of another type.
    pub const fn of(self, float: Float) -> Addr {
        Addr { float, ..self }
    }
}

/// The second source of an arithmetic instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A register, at least as wide as the result.
    Reg(Vector),
    /// As many floats from memory as the result has lanes.
    Mem(Addr),
    /// One float from memory in every lane.
    Splat(Addr),
    /// One constant, given by its bits, in every lane.
    Imm(u32),
}

/// A lane-wise operation on two sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinOp {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// `a > b ? a : b`
    Max,
    /// `a < b ? a : b`
    Min,
    /// The bits that both have.
    And,
    /// The bits that either has.
    Or,
    /// The bits that one of them has.
    Xor,
    /// The larger of each two unsigned bytes, of which a lane has four. The second source is a register, or memory.
    MaxBytes,
}

impl BinOp {
    /// The value of one lane.
    pub fn apply(self, a: f32, b: f32) -> f32 {
        match self {
            BinOp::Add => a + b,
            BinOp::Sub => a - b,
            BinOp::Mul => a * b,
            BinOp::Div => a / b,
            BinOp::Max => {
                if a > b {
                    a
                } else {
                    b
                }
            }
            BinOp::Min => {
                if a < b {
                    a
                } else {
                    b
                }
            }
            BinOp::And => f32::from_bits(a.to_bits() & b.to_bits()),
            BinOp::Or => f32::from_bits(a.to_bits() | b.to_bits()),
            BinOp::Xor => f32::from_bits(a.to_bits() ^ b.to_bits()),
            BinOp::MaxBytes => {
                let (mut a, b) = (a.to_bits().to_le_bytes(), b.to_bits().to_le_bytes());
                a.iter_mut().zip(b).for_each(|(a, b)| *a = b.max(*a));
                f32::from_bits(u32::from_le_bytes(a))
            }
        }
    }
}

/// A lane-wise operation on one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnOp {
    /// The square root.
    Sqrt,
    /// The nearest whole number that is not above.
    Floor,
    /// The nearest whole number that is not below.
    Ceil,
    /// The nearest whole number, of two the even one.
    Nearest,
    /// The number that the bits are as a signed integer, rounded to the nearest.
    Number,
    /// The bits of a whole number as a signed integer; what is beyond ±2³⁰, or no whole number, becomes any.
    Integer,
}

impl UnOp {
    /// The value of one lane.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            UnOp::Sqrt => x.sqrt(),
            UnOp::Floor => x.floor(),
            UnOp::Ceil => x.ceil(),
            UnOp::Nearest => x.round_ties_even(),
            UnOp::Number => x.to_bits() as i32 as f32,
            UnOp::Integer => f32::from_bits(x.round_ties_even() as i32 as u32),
        }
    }
}

/// A comparison of two lanes; false where either is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// `x < y`
    Less,
    /// `x <= y`
    LessOrEqual,
    /// `x == y`
    Equal,
}

impl Test {
    /// What it says of one lane.
    pub fn apply(self, x: f32, y: f32) -> bool {
        match self {
            Test::Less => x < y,
            Test::LessOrEqual => x <= y,
            Test::Equal => x == y,
        }
    }
}

/// How often a loop runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trips {
    /// That many times, at least once.
    Imm(u32),
    /// As often as a count parameter says, possibly never.
    Param(Int),
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Inst {
    /// `dst` = as many floats from memory as it has lanes.
    Load {
        /// Result.
        dst: Vector,
        /// Source.
        addr: Addr,
    },
    /// The first `n` lanes of `dst` from memory, 0 in the others.
    LoadPart {
        /// Result.
        dst: Vector,
        /// Source.
        addr: Addr,
        /// Lanes read, 1 up to the lanes of `dst`.
        n: u8,
    },
    /// One float from memory in every lane of `dst`.
    Splat {
        /// Result.
        dst: Vector,
        /// Source.
        addr: Addr,
    },
    /// `n` floats from memory, over and over: lane `i` of `dst` gets the `i % n`-th.
    Spread {
        /// Result.
        dst: Vector,
        /// Source.
        addr: Addr,
        /// How many, 2 or 4.
        n: u8,
    },
    /// Sums of neighbours: lane `i` of `dst` = lane `2i` + lane `2i + 1` of `src`, which has twice as many lanes.
    Fold {
        /// Result.
        dst: Vector,
        /// Source.
        src: Vector,
    },
    /// Every second lane of `low` and `high`, one behind the other: lane `i` of `dst` = lane `2i + first` of both together.
    Pick {
        /// Result.
        dst: Vector,
        /// The lower lanes; as many as `dst` has.
        low: Vector,
        /// The upper lanes, likewise.
        high: Vector,
        /// 0 for the even lanes, 1 for the odd ones.
        first: u8,
    },
    /// Floats from the places that the bits of `places` say: lane `i` of `dst` = float number `places[i]` modulo `among` of those at
    /// `addr`, which are `f32`.
    Gather {
        /// Result.
        dst: Vector,
        /// The first float.
        addr: Addr,
        /// Numbers of floats, as integers.
        places: Vector,
        /// How many floats are there, all of which may be read: a power of two that is not below the lanes of `dst`.
        among: u32,
    },
    /// All lanes of `src` by `op` in every lane of `dst`, which may have any width: lanes of the lower half with those of the
    /// upper one, until one is left.
    Across {
        /// The operation.
        op: BinOp,
        /// Result.
        dst: Vector,
        /// Source.
        src: Vector,
    },
    /// The first `n` lanes of `src`, and the constant with these bits in the others: what an operation over all lanes has to
    /// leave out, as its neutral element.
    Fill {
        /// Result.
        dst: Vector,
        /// Source.
        src: Vector,
        /// Lanes that stay, 1 up to the lanes of `dst`.
        n: u8,
        /// Bits of the f32 in the others.
        bits: u32,
    },
    /// The constant with these bits in every lane of `dst`.
    Const {
        /// Result.
        dst: Vector,
        /// Bits of the f32.
        bits: u32,
    },
    /// `dst` = `src`.
    Copy {
        /// Result.
        dst: Vector,
        /// Source.
        src: Vector,
    },
    /// All lanes of `src` to memory.
    Store {
        /// Source.
        src: Vector,
        /// Destination.
        addr: Addr,
    },
    /// All lanes of a few registers of one width to memory, one behind the other, as bytes: rounded to the nearest, ties to even, and held
    /// between 0 and 255. What is no number below 2³¹ is 0.
    Pack {
        /// Sources, 2 or 4 of them.
        parts: Vec<Vector>,
        /// Destination.
        addr: Addr,
    },
    /// The first `n` lanes of `src` to memory.
    StorePart {
        /// Source.
        src: Vector,
        /// Destination.
        addr: Addr,
        /// Lanes written, 1 up to the lanes of `src`.
        n: u8,
    },
    /// `acc` += `a` · `b`.
    Fma {
        /// Summand and result.
        acc: Vector,
        /// First factor.
        a: Vector,
        /// Second factor.
        b: Source,
        /// Whether it rounds as the fused one does on every target: what a product lost by rounding is exact then.
        once: bool,
    },
    /// Sums of products of bytes, of which each lane has four: `acc`, an `i32` in each lane, += Σ `a`ᵢ · `b`ᵢ over the signed bytes of
    /// `a` and the unsigned ones of `b`. Sums wrap around. In memory, `b` lies as `f32` do.
    Dot {
        /// Summand and result.
        acc: Vector,
        /// Signed bytes.
        a: Vector,
        /// Unsigned bytes.
        b: Source,
    },
    /// The same of words: each lane has two signed ones.
    DotWords {
        /// Summand and result.
        acc: Vector,
        /// The words of one side.
        a: Vector,
        /// Those of the other.
        b: Source,
    },
    /// Sums of products of `bf16`, of which each lane has two: `acc`, an `f32`, += the product of the upper ones, then that of the lower ones.
    /// Each addition is fused and rounds to nearest even; denormals are taken for zero. In memory, `b` lies as `f32` do.
    DotHalves {
        /// Summand and result.
        acc: Vector,
        /// The pairs of one side.
        a: Vector,
        /// Those of the other.
        b: Source,
    },
    /// `dst` = the bytes of a table of 256 at the places that the bytes of `src` say, of which a lane has four.
    Translate {
        /// Result.
        dst: Vector,
        /// Places in the table.
        src: Vector,
        /// The first byte of the table.
        table: Addr,
    },
    /// `dst` = `dst` · `x` + `add`, which rounds as `fma` does: a step of Horner's scheme.
    MulAdd {
        /// First factor and result.
        dst: Vector,
        /// Second factor.
        x: Vector,
        /// Summand.
        add: Source,
    },
    /// `dst` = `src` · 2^`by`, rounded once: `src` from 2⁻²⁰ to 2²⁰, or NaN, and `by` a whole number from -200 to 200, or anything
    /// where `src` is NaN.
    Scale {
        /// Result.
        dst: Vector,
        /// Source.
        src: Vector,
        /// The exponent.
        by: Vector,
    },
    /// `dst` = `op(a, b)`.
    Bin {
        /// The operation.
        op: BinOp,
        /// Result.
        dst: Vector,
        /// First source.
        a: Vector,
        /// Second source.
        b: Source,
    },
    /// The bits of each lane, taken as an unsigned integer, shifted left by `by` (1 to 31). Builds powers of two.
    Shl {
        /// Result.
        dst: Vector,
        /// Source.
        src: Vector,
        /// Number of bits.
        by: u8,
    },
    /// The bits of each lane, taken as an unsigned integer, shifted right by `by` (1 to 31). Takes exponents out.
    Shr {
        /// Result.
        dst: Vector,
        /// Source.
        src: Vector,
        /// Number of bits.
        by: u8,
    },
    /// `dst` = `op(src)`.
    Un {
        /// The operation.
        op: UnOp,
        /// Result.
        dst: Vector,
        /// Source.
        src: Vector,
    },
    /// `dst` = the sine of `src`, or its cosine, computed in f64 and rounded to f32 once. Beyond 2²² it may be off by some 2⁻⁵² of the
    /// argument, and beyond 2⁴⁸ it is any number.
    Sine {
        /// Result.
        dst: Vector,
        /// Source, an angle in radians.
        src: Vector,
        /// Whether it is the cosine.
        cosine: bool,
    },
    /// `dst` = `test(x, y) ? then : otherwise`, lane by lane.
    Select {
        /// The comparison.
        test: Test,
        /// Its first side.
        x: Vector,
        /// Its second side.
        y: Vector,
        /// Result.
        dst: Vector,
        /// Where it holds.
        then: Vector,
        /// Where it does not.
        otherwise: Vector,
    },
    /// Asks for the cache line at an address, up to the second-level cache. No result depends on it, it cannot fault, and
    /// lowerings may leave it out.
    Prefetch {
        /// Any byte of the line.
        addr: Addr,
    },
    /// `ptr` += `bytes`.
    Advance {
        /// The pointer that moves.
        ptr: Int,
        /// Bytes added to it.
        bytes: i32,
    },
    /// `dst` = `base` + the signed 32-bit displacement at `entry`, whose base derives from a table parameter.
    Lookup {
        /// The new pointer.
        dst: Int,
        /// What the displacement is added to.
        base: Int,
        /// Where the displacement is.
        entry: Addr,
    },
    /// Gives the matrix registers the sizes that the program says, and zeros. Other programs that name equal ones may follow on the same
    /// thread, and find what it left in them.
    Configure,
    /// Gives the matrix registers up.
    Release,
    /// Zeros.
    MatrixZero {
        /// Result.
        dst: Matrix,
    },
    /// `dst` = rows of memory.
    MatrixLoad {
        /// Result.
        dst: Matrix,
        /// The first row; floats do not matter.
        addr: Addr,
        /// Bytes from one row to the next.
        pitch: i32,
    },
    /// `acc` += `a` · `b`: row by row of `a`, of which each lane has a row of `b`.
    ///
    /// Sums of bytes wrap around. Of halves, the upper ones of all lanes are added up, and the lower ones, in the order of lanes; both sums are
    /// added, and then to `acc`. Each product is fused with its addition, each addition rounds to nearest even, denormals are taken for
    /// zero.
    MatrixDot {
        /// Summand and result.
        acc: Matrix,
        /// As many rows as `acc`.
        a: Matrix,
        /// As many rows as `a` has lanes, as many lanes as `acc`.
        b: Matrix,
        /// What lanes hold.
        products: MatrixProducts,
    },
    /// Rows to memory.
    MatrixStore {
        /// Source.
        src: Matrix,
        /// The first row; floats do not matter.
        addr: Addr,
        /// Bytes from one row to the next.
        pitch: i32,
    },
    /// Runs `body` over and over.
    Loop {
        /// How often.
        trips: Trips,
        /// What is repeated.
        body: Vec<Inst>,
    },
}

/// A leaf function over vectors; see the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileProgram {
    /// A name for people: it appears in symbol tables, profiles and errors.
    pub name: String,
    /// The parameters; parameter `i` is integer register `i`.
    pub params: Vec<Param>,
    /// The width of each vector register.
    pub vectors: Vec<Lanes>,
    /// The sizes of the matrix registers.
    pub matrices: Vec<MatrixShape>,
    /// Number of integer registers, the parameters included.
    pub ints: u32,
    /// The instructions.
    pub body: Vec<Inst>,
}

impl TileProgram {
    /// The width of a vector register. Registers are made by [`Builder`], so a foreign one is a defect of the caller;
    /// [`super::verify::verify`] reports it.
    pub fn lanes(&self, v: Vector) -> Lanes {
        self.vectors.get(v.0 as usize).copied().unwrap_or(Lanes::X4)
    }

    /// The size of a matrix register.
    pub fn shape(&self, m: Matrix) -> Option<MatrixShape> {
        self.matrices.get(usize::from(m.0)).copied()
    }

    /// A program that gives the matrix registers the sizes that this one names, for kernels that are called behind it; and one that gives
    /// them up.
    pub fn configuration(matrices: &[MatrixShape]) -> [TileProgram; 2] {
        [("configure", Inst::Configure), ("release", Inst::Release)].map(|(name, inst)| {
            let sizes: Vec<String> = matrices.iter().map(|m| format!("_{}x{}", m.rows, m.lanes)).collect();
            let mut b = Builder::new(if name == "configure" {
                name.to_owned() + &sizes.concat()
            } else {
                name.into()
            });
            b.push(inst.clone());
            let mut program = b.finish();
            if matches!(inst, Inst::Configure) {
                program.matrices = matrices.to_vec();
            }
            program
        })
    }

    /// The same program, which configures the matrix registers itself: to be run alone.
    pub fn configured(mut self) -> TileProgram {
        if !self.matrices.is_empty() {
            self.body.insert(0, Inst::Configure);
            self.body.push(Inst::Release);
        }
        self
    }

    /// The parameter with a role, and its position.
    pub fn param(&self, role: ParamRole) -> Option<(usize, &Param)> {
        self.params.iter().enumerate().find(|(_, p)| p.role == role)
    }
}

/// Writes a [`TileProgram`] instruction by instruction.
#[derive(Debug)]
pub struct Builder {
    program: TileProgram,
    /// Bodies of the loops that are open, outermost first.
    open: Vec<Vec<Inst>>,
}

/// Instructions that a body has room for from the start: most have fewer.
const TYPICAL: usize = 128;

impl Builder {
    /// An empty program.
    pub fn new(name: impl Into<String>) -> Builder {
        let program = TileProgram {
            name: name.into(),
            params: Vec::new(),
            vectors: Vec::new(),
            matrices: Vec::new(),
            ints: 0,
            body: Vec::new(),
        };
        Builder { program, open: vec![Vec::with_capacity(TYPICAL)] }
    }

    /// Adds a parameter. All parameters come before [`Builder::pointer`].
    pub fn param(&mut self, role: ParamRole, kind: ParamKind) -> Int {
        debug_assert_eq!(self.program.ints as usize, self.program.params.len(), "parameters come first");
        self.program.params.push(Param { role, kind });
        self.pointer()
    }

    /// A fresh integer register.
    pub fn pointer(&mut self) -> Int {
        self.program.ints += 1;
        Int(self.program.ints - 1)
    }

    /// A fresh vector register.
    pub fn vector(&mut self, lanes: Lanes) -> Vector {
        self.program.vectors.push(lanes);
        Vector(self.program.vectors.len() as u32 - 1)
    }

    /// A fresh matrix register.
    pub fn matrix(&mut self, shape: MatrixShape) -> Matrix {
        self.program.matrices.push(shape);
        Matrix(self.program.matrices.len() as u8 - 1)
    }

    /// Appends an instruction to the innermost open body.
    pub fn push(&mut self, inst: Inst) {
        if let Some(body) = self.open.last_mut() {
            body.push(inst);
        }
    }

    /// A fresh register with the value of memory: all lanes if `n` is their number, else the first `n`.
    pub fn load(&mut self, lanes: Lanes, n: u32, addr: Addr) -> Vector {
        let dst = self.vector(lanes);
        self.push(match n {
            n if n >= lanes.count() => Inst::Load { dst, addr },
            n => Inst::LoadPart { dst, addr, n: n as u8 },
        });
        dst
    }

    /// Stores the first `n` lanes, or all.
    pub fn store(&mut self, src: Vector, n: u32, addr: Addr) {
        self.push(match n {
            n if n >= self.program.lanes(src).count() => Inst::Store { src, addr },
            n => Inst::StorePart { src, addr, n: n as u8 },
        });
    }

    /// Stores all lanes of some registers, 2 or 4, as bytes, one behind the other.
    pub fn pack(&mut self, parts: &[Vector], addr: Addr) {
        self.push(Inst::Pack { parts: parts.to_vec(), addr });
    }

    /// A fresh register with a constant in every lane.
    pub fn constant(&mut self, lanes: Lanes, value: f32) -> Vector {
        let dst = self.vector(lanes);
        self.push(Inst::Const { dst, bits: value.to_bits() });
        dst
    }

    /// A fresh register with one float of memory in every lane.
    pub fn splat(&mut self, lanes: Lanes, addr: Addr) -> Vector {
        let dst = self.vector(lanes);
        self.push(Inst::Splat { dst, addr });
        dst
    }

    /// A fresh register with a few floats of memory over and over: 2 or 4, or 1.
    pub fn spread(&mut self, lanes: Lanes, addr: Addr, n: u32) -> Vector {
        let dst = self.vector(lanes);
        self.push(match n {
            1 => Inst::Splat { dst, addr },
            n => Inst::Spread { dst, addr, n: n as u8 },
        });
        dst
    }

    /// A fresh register with every second lane of two.
    pub fn pick(&mut self, low: Vector, high: Vector, first: u8) -> Vector {
        let dst = self.vector(self.lanes(low));
        self.push(Inst::Pick { dst, low, high, first });
        dst
    }

    /// A fresh register with the floats of some at the places that a register says.
    pub fn gather(&mut self, addr: Addr, places: Vector, among: u32) -> Vector {
        let dst = self.vector(self.lanes(places));
        self.push(Inst::Gather { dst, addr, places, among });
        dst
    }

    /// `acc` += `a` · `b`.
    pub fn fma(&mut self, acc: Vector, a: Vector, b: Source) {
        self.push(Inst::Fma { acc, a, b, once: false });
    }

    /// `acc` += `a` · `b`, rounded once on every target.
    pub fn fma_once(&mut self, acc: Vector, a: Vector, b: Source) {
        self.push(Inst::Fma { acc, a, b, once: true });
    }

    /// `acc` += four products of bytes in each lane.
    pub fn dot(&mut self, acc: Vector, a: Vector, b: Source) {
        self.push(Inst::Dot { acc, a, b });
    }

    /// `acc` += two products of words in each lane.
    pub fn dot_words(&mut self, acc: Vector, a: Vector, b: Source) {
        self.push(Inst::DotWords { acc, a, b });
    }

    /// `acc` += two products of `bf16` in each lane.
    pub fn dot_halves(&mut self, acc: Vector, a: Vector, b: Source) {
        self.push(Inst::DotHalves { acc, a, b });
    }

    /// A fresh register with bytes of a table of 256, at the places that the bytes of `src` say.
    pub fn translate(&mut self, src: Vector, table: Addr) -> Vector {
        let dst = self.vector(self.lanes(src));
        self.push(Inst::Translate { dst, src, table });
        dst
    }

    /// `dst` = `dst` · `x` + `add`.
    pub fn mul_add(&mut self, dst: Vector, x: Vector, add: Source) {
        self.push(Inst::MulAdd { dst, x, add });
    }

    /// `dst` = `op(a, b)`.
    pub fn bin(&mut self, op: BinOp, dst: Vector, a: Vector, b: Source) {
        self.push(Inst::Bin { op, dst, a, b });
    }

    /// `ptr` += `bytes`; nothing for 0.
    pub fn advance(&mut self, ptr: Int, bytes: i32) {
        if bytes != 0 {
            self.push(Inst::Advance { ptr, bytes });
        }
    }

    /// Starts a loop body, which [`Builder::end`] closes.
    pub fn begin(&mut self) {
        self.open.push(Vec::with_capacity(TYPICAL));
    }

    /// Closes the innermost loop body. A constant count of one leaves its instructions in place of the loop, a count of
    /// zero drops them.
    pub fn end(&mut self, count: Trips) {
        if self.open.len() < 2 {
            return;
        }
        let mut body = self.open.pop().unwrap_or_default();
        match count {
            Trips::Imm(0) => {}
            Trips::Imm(1) => body.into_iter().for_each(|inst| self.push(inst)),
            _ => {
                // A large network has some thousand loops in memory at a time.
                body.shrink_to_fit();
                self.push(Inst::Loop { trips: count, body });
            }
        }
    }

    /// The width of a register.
    pub fn lanes(&self, v: Vector) -> Lanes {
        self.program.lanes(v)
    }

    /// The finished program.
    pub fn finish(mut self) -> TileProgram {
        self.program.body = self.open.pop().unwrap_or_default();
        self.program.body.shrink_to_fit();
        self.program.vectors.shrink_to_fit();
        self.program
    }
}

/// The address `disp` bytes after `base`, of `f32`.
pub const fn at(base: Int, disp: i32) -> Addr {
    Addr { base, disp, float: Float::F32 }
}

impl Inst {
    /// Calls `f` for each vector register that is read, the accumulator of an `Fma` included. A loop reads none itself.
    pub fn vector_reads(&self, mut f: impl FnMut(Vector)) {
        let operand = |b: &Source, f: &mut dyn FnMut(Vector)| {
            if let Source::Reg(v) = b {
                f(*v)
            }
        };
        match self {
            Inst::Copy { src, .. } | Inst::Shl { src, .. } | Inst::Fold { src, .. } => f(*src),
            Inst::Across { src, .. } | Inst::Fill { src, .. } => f(*src),
            Inst::Shr { src, .. } | Inst::Un { src, .. } | Inst::Sine { src, .. } => f(*src),
            Inst::Select { x, y, then, otherwise, .. } => [*x, *y, *then, *otherwise].into_iter().for_each(f),
            Inst::Store { src, .. } | Inst::StorePart { src, .. } => f(*src),
            Inst::Pack { parts, .. } => parts.iter().copied().for_each(f),
            Inst::Fma { acc, a, b, .. }
            | Inst::Dot { acc, a, b }
            | Inst::DotWords { acc, a, b }
            | Inst::DotHalves { acc, a, b } => {
                f(*acc);
                f(*a);
                operand(b, &mut f);
            }
            Inst::Bin { a, b, .. } => {
                f(*a);
                operand(b, &mut f);
            }
            Inst::MulAdd { dst, x, add } => {
                f(*dst);
                f(*x);
                operand(add, &mut f);
            }
            Inst::Scale { src, by, .. } => [*src, *by].into_iter().for_each(f),
            Inst::Pick { low, high, .. } => [*low, *high].into_iter().for_each(f),
            Inst::Translate { src, .. } | Inst::Gather { places: src, .. } => f(*src),
            Inst::Load { .. } | Inst::LoadPart { .. } | Inst::Splat { .. } => {}
            Inst::Spread { .. } | Inst::Const { .. } => {}
            Inst::Prefetch { .. } | Inst::Advance { .. } | Inst::Lookup { .. } | Inst::Loop { .. } => {}
            Inst::Configure | Inst::Release | Inst::MatrixZero { .. } | Inst::MatrixLoad { .. } => {}
            Inst::MatrixDot { .. } | Inst::MatrixStore { .. } => {}
        }
    }

    /// The vector register that is written.
    pub fn vector_write(&self) -> Option<Vector> {
        match self {
            Inst::Load { dst, .. } | Inst::LoadPart { dst, .. } | Inst::Splat { dst, .. } => Some(*dst),
            Inst::Spread { dst, .. }
            | Inst::Fold { dst, .. }
            | Inst::Pick { dst, .. }
            | Inst::Gather { dst, .. }
            | Inst::Across { dst, .. }
            | Inst::Fill { dst, .. }
            | Inst::Const { dst, .. }
            | Inst::Copy { dst, .. }
            | Inst::Bin { dst, .. }
            | Inst::Translate { dst, .. }
            | Inst::MulAdd { dst, .. }
            | Inst::Scale { dst, .. }
            | Inst::Shl { dst, .. }
            | Inst::Shr { dst, .. }
            | Inst::Un { dst, .. }
            | Inst::Sine { dst, .. }
            | Inst::Select { dst, .. } => Some(*dst),
            Inst::Fma { acc, .. } | Inst::Dot { acc, .. } => Some(*acc),
            Inst::DotWords { acc, .. } | Inst::DotHalves { acc, .. } => Some(*acc),
            Inst::Store { .. } | Inst::StorePart { .. } | Inst::Pack { .. } => None,
            Inst::Prefetch { .. } | Inst::Advance { .. } | Inst::Lookup { .. } | Inst::Loop { .. } => None,
            Inst::Configure | Inst::Release | Inst::MatrixZero { .. } | Inst::MatrixLoad { .. } => None,
            Inst::MatrixDot { .. } | Inst::MatrixStore { .. } => None,
        }
    }

    /// Calls `f` for each integer register that is read. A loop reads its count.
    pub fn int_reads(&self, mut f: impl FnMut(Int)) {
        match self {
            Inst::Load { addr, .. } | Inst::LoadPart { addr, .. } | Inst::Splat { addr, .. } => f(addr.base),
            Inst::Store { addr, .. } | Inst::StorePart { addr, .. } | Inst::Pack { addr, .. } => f(addr.base),
            Inst::Prefetch { addr } | Inst::Spread { addr, .. } => f(addr.base),
            Inst::MatrixLoad { addr, .. } | Inst::MatrixStore { addr, .. } => f(addr.base),
            Inst::Configure | Inst::Release | Inst::MatrixZero { .. } | Inst::MatrixDot { .. } => {}
            Inst::Translate { table: addr, .. } | Inst::Gather { addr, .. } => f(addr.base),
            Inst::Fma { b, .. }
            | Inst::Dot { b, .. }
            | Inst::DotWords { b, .. }
            | Inst::DotHalves { b, .. }
            | Inst::Bin { b, .. }
            | Inst::MulAdd { add: b, .. } => match b {
                Source::Mem(addr) | Source::Splat(addr) => f(addr.base),
                Source::Reg(_) | Source::Imm(_) => {}
            },
            Inst::Advance { ptr, .. } => f(*ptr),
            Inst::Lookup { base, entry, .. } => {
                f(*base);
                f(entry.base);
            }
            Inst::Loop { trips: Trips::Param(n), .. } => f(*n),
            Inst::Loop { trips: Trips::Imm(_), .. } => {}
            Inst::Const { .. } | Inst::Copy { .. } | Inst::Shl { .. } | Inst::Fold { .. } => {}
            Inst::Across { .. } | Inst::Fill { .. } | Inst::Scale { .. } | Inst::Pick { .. } => {}
            Inst::Shr { .. } | Inst::Un { .. } | Inst::Sine { .. } | Inst::Select { .. } => {}
        }
    }

    /// The integer register that is written.
    pub fn int_write(&self) -> Option<Int> {
        match self {
            Inst::Advance { ptr, .. } => Some(*ptr),
            Inst::Lookup { dst, .. } => Some(*dst),
            Inst::Load { .. } | Inst::LoadPart { .. } | Inst::Splat { .. } | Inst::Spread { .. } => None,
            Inst::Store { .. } | Inst::StorePart { .. } | Inst::Const { .. } | Inst::Copy { .. } => None,
            Inst::Fold { .. } | Inst::Fma { .. } | Inst::Bin { .. } | Inst::Shl { .. } => None,
            Inst::Dot { .. } | Inst::DotWords { .. } | Inst::DotHalves { .. } | Inst::Pack { .. } => None,
            Inst::Across { .. } | Inst::Fill { .. } | Inst::MulAdd { .. } | Inst::Scale { .. } => None,
            Inst::Pick { .. } | Inst::Translate { .. } | Inst::Gather { .. } => None,
            Inst::Shr { .. } | Inst::Un { .. } | Inst::Sine { .. } | Inst::Select { .. } => None,
            Inst::Prefetch { .. } | Inst::Loop { .. } => None,
            Inst::Configure | Inst::Release | Inst::MatrixZero { .. } | Inst::MatrixLoad { .. } => None,
            Inst::MatrixDot { .. } | Inst::MatrixStore { .. } => None,
        }
    }
}
