//! Structured programs: how operators are compiled whose addresses depend on data.
//!
//! A loop nest knows every address when it is compiled. A [`Routine`] reads indices and goes where they point: a small
//! program of assignments, loops and conditions over typed locals and strided memory. It is plain data, as a nest is; the
//! emitter ([`emit`](emit::emit)) decides nothing.
//!
//! ```text
//!   y = x[indices], along axis 0           unit (i):  for j in 0..3:
//!                                                       l0 = indices[i]
//!                                                       y[i, j] = x[l0 < 0 ? l0 + 10 : l0, j]
//! ```
//!
//! Whatever the data are, no access leaves its memory: an index names one axis of it, and unless its range is known to lie
//! inside ([`ranges`]), it is checked where it is used. A load takes the nearest element instead, a store is left out; and unless
//! a program is asked to say nothing, the routine notes such an index in a record, which makes it an error of the run. Every
//! routine ends: the trips of each loop have a bound that is known when it is compiled.

pub mod check;
pub mod emit;
pub mod expr;
pub mod interp;
pub mod ranges;
mod vector_loop;
pub mod write;

use std::ops::Range;

use nnc_ir::DType;

pub use check::RoutineError;
pub use expr::{Access, RoutineExpr};
pub use write::{RECORD_WORDS, Writer};

use super::nest::{Touched, computed};

/// A program that runs once for each unit of work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Routine {
    /// Extents whose product is the number of units, outermost first; none is 0. Units are independent of each other. The first
    /// locals are the unit's indices.
    pub units: Vec<usize>,
    /// Types of the locals. They start as 0 in each unit.
    pub locals: Vec<DType>,
    /// What is read and written.
    pub memory: Vec<Memory>,
    /// What is done.
    pub body: Vec<Stmt>,
}

/// A strided window of memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Memory {
    /// Index into the base pointers.
    pub arg: usize,
    /// Bytes from the base pointer.
    pub offset: i64,
    /// Type of the elements. Half floats are loaded and stored as `f32`, rounded to the nearest.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Bytes from an element to its neighbour along each axis.
    pub strides: Vec<i64>,
    /// What is done with it.
    pub usage: MemoryUse,
}

/// What a routine does with a window of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryUse {
    /// It is read.
    Read,
    /// Elements are written before they are read, here and by whoever comes behind.
    Write,
    /// Some elements are written, and what was there before counts.
    Update,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// A local gets a value.
    Set {
        /// The local.
        local: usize,
        /// Its value.
        value: RoutineExpr,
    },
    /// An element gets a value, if its indices lie inside of the memory.
    Store {
        /// The element.
        to: Access,
        /// Its value.
        value: RoutineExpr,
    },
    /// For each index from `low` to before `high`, both computed once.
    For {
        /// The local that holds the index; the body does not set it.
        local: usize,
        /// The first index.
        low: RoutineExpr,
        /// One past the last index.
        high: RoutineExpr,
        /// What is done.
        body: Vec<Stmt>,
    },
    /// As long as a condition holds, but no more than so many times.
    While {
        /// The condition.
        condition: RoutineExpr,
        /// The most trips.
        most: u64,
        /// What is done.
        body: Vec<Stmt>,
    },
    /// One of two things.
    If {
        /// The condition.
        condition: RoutineExpr,
        /// Where it holds.
        then: Vec<Stmt>,
        /// Where it does not.
        otherwise: Vec<Stmt>,
    },
}

impl Memory {
    /// Bytes that its elements span: from the lowest to one past the highest, from the base pointer. `None` where that
    /// overflows, or there is no element.
    pub fn extent(&self) -> Option<Range<i64>> {
        let (mut low, mut high) = (self.offset, self.offset.checked_add(self.dtype.bytes() as i64)?);
        for (&extent, &stride) in self.shape.iter().zip(&self.strides) {
            let reach = stride.checked_mul(i64::try_from(extent.checked_sub(1)?).ok()?)?;
            low = low.checked_add(reach.min(0))?;
            high = high.checked_add(reach.max(0))?;
        }
        Some(low..high)
    }

    /// Bytes of its elements, repeated ones once.
    fn bytes(&self) -> u64 {
        let axes = self.shape.iter().zip(&self.strides).filter(|(_, stride)| **stride != 0);
        axes.fold(self.dtype.bytes() as u64, |n, (&extent, _)| n.saturating_mul(extent as u64))
    }

    /// The type of a loaded element.
    pub fn value_type(&self) -> DType {
        computed(self.dtype)
    }
}

impl Routine {
    /// Number of independent units of work.
    pub fn units(&self) -> usize {
        self.units.iter().product()
    }

    /// What each memory touches at most.
    pub fn accesses(&self) -> Vec<Touched> {
        let mut all = Vec::new();
        for memory in &self.memory {
            let Some(bytes) = memory.extent() else { continue };
            let touched = |written| Touched { arg: memory.arg, bytes: bytes.clone(), written };
            match memory.usage {
                MemoryUse::Read => all.push(touched(false)),
                MemoryUse::Write => all.push(touched(true)),
                MemoryUse::Update => all.extend([touched(false), touched(true)]),
            }
        }
        all
    }

    /// The most bytes that it reads, each once: which ones, the data decide.
    pub fn read_bytes(&self) -> u64 {
        self.bytes(|usage| usage != MemoryUse::Write)
    }

    /// The most bytes that it writes, each once.
    pub fn written_bytes(&self) -> u64 {
        self.bytes(|usage| usage != MemoryUse::Read)
    }

    fn bytes(&self, counts: impl Fn(MemoryUse) -> bool) -> u64 {
        let counted = self.memory.iter().filter(|m| counts(m.usage));
        counted.map(Memory::bytes).fold(0, u64::saturating_add)
    }

    /// Renumbers arguments in the order of their first use and moves their offsets out, so that routines which differ in
    /// nothing else become equal and share one function. Returns which argument and byte offset each new one is.
    pub fn relocate(&mut self) -> Vec<(usize, u64)> {
        let mut args: Vec<(usize, u64)> = Vec::new();
        for memory in &mut self.memory {
            let place = (memory.arg, u64::try_from(memory.offset).unwrap_or(0));
            let index = args.iter().position(|a| *a == place).unwrap_or_else(|| {
                args.push(place);
                args.len() - 1
            });
            (memory.arg, memory.offset) = (index, memory.offset.min(0));
        }
        args
    }
}
