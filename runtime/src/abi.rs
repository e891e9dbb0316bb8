//! What a compiled program is, seen from the runtime.
//!
//! A program is a flat list of [`Step`]s over four kinds of memory. A step names a function, the base pointers
//! that the function gets, and how many units of work it has. The runtime resolves the base pointers once per
//! session, then for each step hands disjoint ranges of units to its threads:
//!
//! ```text
//!   step "block3.expand"   func 7   units 28
//!     bases: [ arena+4096, const+81920, arena+602112 ]
//!   thread 0: f7(bases, 0, 14, scratch0)      thread 1: f7(bases, 14, 28, scratch1)
//! ```
//!
//! Functions name no symbol and hold no address, so equal layers share one function and the same bytes serve the
//! JIT and a file.
//!
//! # Strips
//!
//! Large images between small layers are written to memory only to be read back once. So some neighbouring steps run strip
//! by strip ([`Strips`]): a thread takes a band of the last step's result and does, step after step, just the units that
//! the band needs. What lies between the steps is a few rows, in the thread's scratch, and never leaves its cache:
//!
//! ```text
//!   strip 2 of 4              expand                depthwise 3×3          project
//!                          units 27..58              units 14..28         units 28..56
//!   arena ────────────────▶ rows 27..57 ───────────▶ rows 28..56 ───────▶ rows 28..56 ──▶ arena
//!                             Strip(0)                 Strip(1)
//! ```
//!
//! Rows at the edge of a strip that its neighbour needs as well are computed by both, each in its own scratch. So strips
//! depend on nothing but what was there before the first of the steps, and can be done in any order by any thread.

//!
//! # Loops and branches
//!
//! Some neighbouring steps may run again and again ([`Repeat`]), and repeats may be inside of each other. How often is
//! known before, or a byte of the arena says before each iteration whether there is one; a branch is a repeat of at most one
//! iteration. Base pointers may move on from iteration to iteration, along slices of a tensor:
//!
//! ```text
//!   steps 3..7, 10 times     step 3 reads x + 128·i     step 6 writes y + 64·i     states stay where they are
//! ```

use std::fmt;
use std::ops::Range;

/// A layer function. `bases` points to as many pointers as the step has arguments; the function does the units
/// `begin..end`; `scratch` is memory of its own for the calling thread ([`ProgramDesc::scratch_bytes`] long, aligned to 64).
///
/// Different units never write the same byte, and no unit reads what another unit of the same step writes.
pub type LayerFn = unsafe extern "C" fn(bases: *const *mut u8, begin: u64, end: u64, scratch: *mut u8);

/// The memory a base pointer points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Region {
    /// The caller's buffer of the n-th input: dense, row-major in the model's own axis order (NCHW).
    Input(u32),
    /// The caller's buffer of the n-th output, dense and row-major likewise.
    Output(u32),
    /// The session's arena, aligned to 64 bytes.
    Arena,
    /// Packed constants: weights, tables. Read only, aligned to 64 bytes; see [`Constants`](crate::Constants).
    Const,
    /// The n-th buffer of the [`Strips`] that the step belongs to. Offsets count from the start of the whole tensor, of
    /// which the buffer holds what one strip needs.
    Strip(u32),
}

/// One base pointer of a step: a byte offset into a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arg {
    /// The memory it points into.
    pub region: Region,
    /// Bytes from the start of that memory.
    pub offset: u64,
}

/// One call of a layer function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The layer's name, for profiles and errors.
    pub name: String,
    /// Index of the function in the program's function table.
    pub func: u32,
    /// Number of independent units of work; at least 1.
    pub units: u32,
    /// Base pointers, in the order in which the function expects them.
    pub args: Vec<Arg>,
}

/// Neighbouring steps that run strip by strip. No strip reads what another one writes; outside of the strip's own buffers
/// different strips never write the same byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strips {
    /// Index of the first of the steps.
    pub first: u32,
    /// Where in a thread's scratch the buffers of a strip are, in bytes.
    pub buffers: Vec<u64>,
    /// The strips; at least one.
    pub strips: Vec<Strip>,
}

/// A part of the result of some neighbouring steps, and what is needed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strip {
    /// What is done of each step; one range for each, the same number in every strip.
    pub units: Vec<Range<u32>>,
    /// For each buffer, which byte of the whole tensor is its first.
    pub origins: Vec<u64>,
}

impl Strips {
    /// The steps.
    pub fn steps(&self) -> Range<usize> {
        let first = self.first as usize;
        first..first.saturating_add(self.strips.first().map_or(0, |strip| strip.units.len()))
    }

    /// The offset of an argument in a strip, from the start of its region, or of scratch if it is in a buffer of the strip;
    /// modulo 2⁶⁴, as the tensor of which such a buffer is a part may begin before scratch does.
    pub fn offset(&self, strip: &Strip, arg: &Arg) -> u64 {
        let Region::Strip(buffer) = arg.region else { return arg.offset };
        let of = |list: &[u64]| list.get(buffer as usize).copied().unwrap_or(0);
        of(&self.buffers).wrapping_add(arg.offset).wrapping_sub(of(&strip.origins))
    }
}

/// Neighbouring steps that run once for each iteration, one iteration after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// The steps; at least one.
    pub steps: Range<u32>,
    /// The most iterations; at least one.
    pub trips: u64,
    /// A byte of the arena that is looked at before each iteration: 0 ends the loop.
    pub going: Option<u64>,
    /// Base pointers that are not the same in each iteration.
    pub moves: Vec<Move>,
}

/// A base pointer that moves on in each iteration of a [`Repeat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Index of the step.
    pub step: u32,
    /// Position of the argument.
    pub arg: u32,
    /// Bytes from one iteration to the next.
    pub stride: i64,
}

impl Repeat {
    /// The steps.
    pub fn steps(&self) -> Range<usize> {
        self.steps.start as usize..self.steps.end as usize
    }

    /// The distances that a base pointer has in the first and the last iteration.
    pub fn reach(&self, stride: i64) -> Range<i128> {
        let last = i128::from(stride) * i128::from(self.trips.saturating_sub(1));
        last.min(0)..last.max(0)
    }
}

/// Element type of a program's input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum ElemType {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    U16 = 4,
    I16 = 5,
    I32 = 6,
    I64 = 7,
    Bool = 9,
    F16 = 10,
    F64 = 11,
    U32 = 12,
    U64 = 13,
    BF16 = 16,
}

impl fmt::Display for ElemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ElemType::F32 => "f32",
            ElemType::U8 => "u8",
            ElemType::I8 => "i8",
            ElemType::U16 => "u16",
            ElemType::I16 => "i16",
            ElemType::I32 => "i32",
            ElemType::I64 => "i64",
            ElemType::Bool => "bool",
            ElemType::F16 => "f16",
            ElemType::F64 => "f64",
            ElemType::U32 => "u32",
            ElemType::U64 => "u64",
            ElemType::BF16 => "bf16",
        })
    }
}

impl ElemType {
    /// All of them.
    const ALL: [ElemType; 13] = [
        ElemType::F32,
        ElemType::U8,
        ElemType::I8,
        ElemType::U16,
        ElemType::I16,
        ElemType::I32,
        ElemType::I64,
        ElemType::Bool,
        ElemType::F16,
        ElemType::F64,
        ElemType::U32,
        ElemType::U64,
        ElemType::BF16,
    ];

    /// The type with this number, which is ONNX's own for it.
    pub fn from_code(code: u8) -> Option<ElemType> {
        ElemType::ALL.into_iter().find(|&elem| elem as u8 == code)
    }

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            ElemType::U8 | ElemType::I8 | ElemType::Bool => 1,
            ElemType::U16 | ElemType::I16 | ElemType::F16 | ElemType::BF16 => 2,
            ElemType::F32 | ElemType::I32 | ElemType::U32 => 4,
            ElemType::I64 | ElemType::F64 | ElemType::U64 => 8,
        }
    }
}

/// An input or output of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the model.
    pub name: String,
    /// Element type.
    pub elem: ElemType,
    /// Extents, outermost first, in the model's axis order.
    pub shape: Vec<usize>,
    /// Where data decide how large an output is: then these extents are the most that can come out. By ascending axis.
    pub counts: Vec<Count>,
}

/// How many elements along one axis of an output a run has made. What it has made stands first in the output's buffer, as a dense tensor;
/// what is behind means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The axis.
    pub axis: u32,
    /// Bytes from the start of the arena to the number, an `i64`.
    pub at: u64,
}

impl Port {
    /// Number of elements; `usize::MAX` stands for more than that.
    pub fn elems(&self) -> usize {
        if self.shape.contains(&0) {
            return 0;
        }
        self.shape.iter().fold(1, |product: usize, &extent| product.saturating_mul(extent))
    }

    /// Size of a dense buffer of it, in bytes; `usize::MAX` stands for more than that.
    pub fn bytes(&self) -> usize {
        self.elems().saturating_mul(self.elem.bytes())
    }
}

/// Where a step tells of indices that lead outside of what they point into: a record for each of its units, in the arena, that
/// is zero before a run.
///
/// ```text
///   record   position + 1 u64, index i64, extent u64       position: of the index among all of the step's indices; 0 stands for none
/// ```
///
/// A unit keeps its first position, so which index is told of does not depend on threads. The index is as the data have it, and the
/// extent what it was held against, which data may decide as well. A position counts through the axes that indices are for: the n-th
/// one is an index of the axis `axes[n mod length]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexCheck {
    /// The node that the step is of.
    pub node: String,
    /// Bytes from the start of the arena to the records.
    pub at: u64,
    /// Number of records.
    pub records: u32,
    /// The axes that indices are for; at least one.
    pub axes: Vec<u32>,
}

impl IndexCheck {
    /// Bytes of a record.
    pub const RECORD: u64 = 24;

    /// Where the records are in the arena; `None` where that overflows.
    pub fn range(&self) -> Option<Range<u64>> {
        let bytes = u64::from(self.records) * IndexCheck::RECORD;
        Some(self.at..self.at.checked_add(bytes)?)
    }
}

/// CPU features that the code of a program needs, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CpuFeatures(pub u64);

/// What a run does with denormals: numbers so near to zero that floating point has fewer digits for them, and many processors take
/// a hundred cycles for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Denormals {
    /// Arithmetic takes them for zero, of the same sign, and gives zero in their place.
    #[default]
    Flush = 0,
    /// They are numbers like others, as IEEE 754 says.
    Keep = 1,
}

impl Denormals {
    /// The choice with this number.
    pub fn from_code(code: u8) -> Option<Denormals> {
        [Denormals::Flush, Denormals::Keep].into_iter().find(|&choice| choice as u8 == code)
    }

    /// MXCSR of x86-64: all six exceptions masked, their flags clear, round to nearest; FTZ and DAZ.
    pub const fn mxcsr(self) -> u32 {
        match self {
            Denormals::Flush => 0x1f80 | 0x8000 | 0x0040,
            Denormals::Keep => 0x1f80,
        }
    }

    /// FPCR of AArch64: no traps, round to nearest; FZ.
    pub const fn fpcr(self) -> u64 {
        match self {
            Denormals::Flush => 1 << 24,
            Denormals::Keep => 0,
        }
    }
}

/// Everything about a program but its code and constants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramDesc {
    /// Name of the target it was compiled for, such as `x86-64-v4`.
    pub target: String,
    /// What the CPU must offer.
    pub features: CpuFeatures,
    /// What runs do with denormals.
    pub denormals: Denormals,
    /// Inputs, in the model's order.
    pub inputs: Vec<Port>,
    /// Outputs, in the model's order.
    pub outputs: Vec<Port>,
    /// Size of the arena in bytes.
    pub arena_bytes: u64,
    /// Size of each thread's scratch in bytes.
    pub scratch_bytes: u64,
    /// Size of the constants in bytes.
    pub const_bytes: u64,
    /// Number of functions in the function table.
    pub functions: u32,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Which of them run strip by strip, in order.
    pub strips: Vec<Strips>,
    /// Which of them tell of indices that lead outside, in the order of the steps. The records of one begin where those of the one
    /// before end.
    pub index_checks: Vec<IndexCheck>,
    /// Which of them run again and again, or not always: in order, those outside before those inside of them.
    pub repeats: Vec<Repeat>,
}

impl ProgramDesc {
    /// Where in the arena all records of [`IndexCheck`]s are.
    pub fn index_records(&self) -> Range<u64> {
        let first = self.index_checks.first().map_or(0, |check| check.at);
        let last = self.index_checks.last().and_then(IndexCheck::range);
        first..last.map_or(first, |range| range.end)
    }
}
