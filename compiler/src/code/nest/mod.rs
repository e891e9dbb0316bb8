//! The general loop nest: how every operator without a kernel of its own is compiled.
//!
//! A [`Nest`] is plain data and says everything: extents, addresses, what is accumulated, what is stored, what goes in
//! vectors. The emitter ([`emit`](emit::emit)) decides nothing.
//!
//! ```text
//!   for unit in begin..end:                  loops[..unit_axes], flattened
//!     for i in loops[unit_axes..]:
//!       acc = init
//!       for r in reduce:                     each over its whole extent, or the part that its bound leaves
//!         acc = fold(acc, accumulator.value(operands[i, r]))
//!       result[i] = value(operands[i], acc)
//! ```
//!
//! An operand's address is its base pointer plus, for each loop, index times stride, all constants but the indices;
//! operands whose elements lie irregularly (Gather, Resize) add an entry of a table of byte offsets.
//!
//! Where one reduction needs the result of another, they go over the same elements one after another, and what is stored may be a
//! whole row again ([`row`]):
//!
//! ```text
//!   for unit, for i:
//!     m = max over r of x[i, r]
//!     s = Σ over r of exp(x[i, r] - m)       Fold::After
//!     for r: result[i, r] = exp(x[i, r] - m) / s
//! ```

mod axes;
mod byte_rows;
mod bytes;
pub mod emit;
pub mod expr;
mod group;
mod inline;
pub mod kernel;
mod line;
mod plane_windows;
mod resample;
pub mod row;
pub(in crate::code) mod scalar;
mod scan;
mod traffic;
mod weighted;
mod window;

use std::borrow::Cow;
use std::ops::Range;

use crate::code::float::Float;
use nnc_ir::DType;
use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;

pub use expr::{Constant, Expr, UnaryFn, computed};
pub use group::GROUP;
pub use resample::{ColumnReach, MOST_TAPS, reach};
pub use scan::COLUMNS;

/// Lanes of a vector of `f32`.
pub const LANES: usize = 4;

/// Entries of a table that is read at the places that bytes say.
pub const ENTRIES: usize = 256;

/// A loop nest over one result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nest {
    /// Extents of the loops, outermost first; none is 0.
    pub loops: Vec<usize>,
    /// How many of the leading loops are flattened into units of work.
    pub unit_axes: usize,
    /// Reduction loops, outermost first, inside all loops.
    pub reduce: Vec<ReduceAxis>,
    /// What is read.
    pub operands: Vec<Operand>,
    /// What is written; its strides are those of the loops alone, or of the reduction too, for whose every index it is computed
    /// then, behind the accumulators.
    pub result: Operand,
    /// What the reduction keeps.
    pub accumulators: Vec<Accumulator>,
    /// What is stored.
    pub value: Expr,
    /// What goes in vectors.
    pub vectorised: Vectorised,
}

/// A reduction loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReduceAxis {
    /// Its extent.
    pub extent: usize,
    /// Which of its indices count, where not all do.
    pub bound: Option<Bound>,
}

/// Restricts a reduction index `r` by a loop index `i`: `0 ≤ base + scale · i + step · r < extent`. A window that
/// hangs over the border of an image skips the taps outside in this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bound {
    /// The loop.
    pub axis: usize,
    /// Its factor.
    pub scale: i64,
    /// The factor of the reduction index; positive.
    pub step: i64,
    /// Added.
    pub base: i64,
    /// Elements there are.
    pub extent: i64,
}

impl Bound {
    /// The indices out of `0..count` that count at loop index `i`.
    pub fn range(&self, i: i64, count: i64) -> Range<i64> {
        let at = self.base + self.scale * i;
        let low = if at >= 0 { 0 } else { (-at + self.step - 1) / self.step };
        let room = self.extent - 1 - at;
        let high = if room < 0 { 0 } else { (room / self.step + 1).min(count) };
        low..high.max(low)
    }
}

/// A strided operand or result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// Index into the base pointers.
    pub arg: usize,
    /// Bytes from the base pointer.
    pub offset: i64,
    /// Element type.
    pub dtype: DType,
    /// Bytes for each step of each loop, then of each reduction axis.
    pub strides: Vec<i64>,
    /// Byte offsets that are added, one table entry of each.
    pub tables: Vec<Table>,
}

/// A constant table of `i32` byte offsets, indexed like an operand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// Index into the base pointers.
    pub arg: usize,
    /// Bytes from the base pointer.
    pub offset: i64,
    /// Bytes for each step of each loop, then of each reduction axis.
    pub strides: Vec<i64>,
    /// The least entry.
    pub low: i32,
    /// The greatest entry.
    pub high: i32,
}

/// A value that the reduction keeps. All are updated at once, from their old values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accumulator {
    /// What it starts from.
    pub init: Constant,
    /// How it takes in a new value.
    pub fold: Fold,
    /// The new value.
    pub value: Expr,
}

/// How an accumulator takes in a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fold {
    /// By a function that may be applied in any order (its init is its neutral element): Add, Mul, Min, Max.
    With(BinaryFn),
    /// In the same way, but behind the accumulators before it, whose results its value may name.
    After(BinaryFn),
    /// The new value replaces it.
    Replace,
    /// It is added, and each index of the reduction stores the sum up to there, that index's own value included.
    Through,
    /// The same without that value.
    Before,
}

impl Fold {
    /// Whether what is stored for an index depends on those before it alone.
    pub fn goes_on(self) -> bool {
        matches!(self, Fold::Through | Fold::Before)
    }
}

/// What goes in vectors: of four `f32`, unless said otherwise, which are converted where half floats lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vectorised {
    /// Nothing.
    Scalar,
    /// The innermost loop, `unroll` vectors at a time: every operand is dense there, or the same element for all.
    Loop {
        /// Vectors in flight.
        unroll: u8,
        /// Steps of the loop before it that are taken together, so that a reduction reads once what they share.
        rows: u8,
    },
    /// The innermost loop of a map, by groups of sixteen elements of any types, so many in flight: see [`group`].
    Groups {
        /// Groups in flight.
        unroll: u8,
    },
    /// The innermost reduction axis, likewise; lanes are folded into one at the end.
    Reduce {
        /// Vectors in flight.
        unroll: u8,
    },
    /// The innermost loop, or the only reduction axis where there is one, by a tile program over the target's widest vectors: see
    /// [`kernel`] and [`row`].
    Kernel,
    /// The innermost loop and the only reduction axis, whose every index stores what has been summed up so far: see [`scan`].
    Scan,
    /// The last two loops and the reduction by a tile program, as windows over planes: see [`window`].
    Windows,
    /// A copy of elements of 2 or 4 bytes by blocks of 4 × 4, of bytes by blocks of up to 16 × 16: the innermost loop is dense in the
    /// result, the loop before it, which may have only 2 or 3 steps of 4 bytes, in the only operand.
    Transpose,
    /// The innermost loop, whose bytes are moved or looked up, by a tile program: see [`byte_rows`].
    Bytes,
    /// The last two loops and the two axes of the reduction by a tile program, as planes that are made larger or smaller: see
    /// [`resample`].
    Resampled {
        /// How far elements that go together see.
        reach: ColumnReach,
    },
}

/// Bytes that an operand or the result of a nest touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Index into the base pointers.
    pub arg: usize,
    /// From the lowest byte to one past the highest, from the base pointer.
    pub bytes: Range<i64>,
    /// Whether it is written.
    pub written: bool,
}

/// Why a nest is not well formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NestError {
    /// An extent of 0, or strides that are not one for each axis.
    #[error("the loops of the nest and the strides of {0} do not fit each other")]
    Shape(&'static str),
    /// Expressions whose types do not fit each other or the result.
    #[error("the {0} expression of the nest has no type that fits")]
    Type(&'static str),
    /// A function that generated code does not have for a type.
    #[error("{function} of {dtype} is not compiled")]
    Unsupported {
        /// The function.
        function: String,
        /// The type.
        dtype: DType,
    },
    /// What is asked to go in vectors cannot.
    #[error("the nest asks for {0:?}, but its strides or types do not allow it")]
    Lanes(Vectorised),
    /// Sizes that do not fit.
    #[error("the addresses of the nest overflow")]
    Overflow,
    /// An element outside of every view.
    #[error("the nest touches bytes {bytes:?} of argument {arg}, outside of its view {allowed:?}")]
    OutOfBounds {
        /// Index into the base pointers.
        arg: usize,
        /// What it touches.
        bytes: Range<i64>,
        /// What it may touch.
        allowed: Option<Range<i64>>,
    },
}

impl Nest {
    /// Number of independent units of work.
    pub fn units(&self) -> usize {
        self.loops[..self.unit_axes].iter().product()
    }

    /// Extents of loops and reduction axes.
    pub fn extents(&self) -> impl Iterator<Item = usize> + '_ {
        self.loops.iter().copied().chain(self.reduce.iter().map(|r| r.extent))
    }

    /// Checks that the nest is well formed and touches nothing but the `allowed` bytes of each argument.
    pub fn check(&self, allowed: &dyn Fn(usize) -> Option<Range<i64>>) -> Result<(), NestError> {
        self.check_unscheduled(allowed)?;
        if self.lanes_fit() { Ok(()) } else { Err(NestError::Lanes(self.vectorised)) }
    }

    /// The same without a look at what goes in vectors.
    pub fn check_unscheduled(&self, allowed: &dyn Fn(usize) -> Option<Range<i64>>) -> Result<(), NestError> {
        self.check_shape()?;
        self.check_types()?;
        for Touched { arg, bytes, .. } in self.accesses()? {
            let allowed = allowed(arg);
            if !allowed.as_ref().is_some_and(|a| a.start <= bytes.start && bytes.end <= a.end) {
                return Err(NestError::OutOfBounds { arg, bytes, allowed });
            }
        }
        Ok(())
    }

    fn check_shape(&self) -> Result<(), NestError> {
        let (loops, all) = (self.loops.len(), self.loops.len() + self.reduce.len());
        if self.loops.contains(&0) || self.unit_axes > loops {
            return Err(NestError::Shape("the result"));
        }
        let table_fits = |t: &Table| t.strides.len() == all;
        if !self.operands.iter().all(|o| o.strides.len() == all && o.tables.iter().all(table_fits)) {
            return Err(NestError::Shape("an operand"));
        }
        if ![loops, all].contains(&self.result.strides.len()) || !self.result.tables.is_empty() {
            return Err(NestError::Shape("the result"));
        }
        // What is stored is computed behind the reduction, where its indices are gone.
        let finished = |o: &Operand| {
            let fixed = |s: &[i64]| s[loops..].iter().all(|&s| s == 0);
            fixed(&o.strides) && o.tables.iter().all(|t| fixed(&t.strides))
        };
        if !self.stores_rows() && !self.reads(&self.value).all(finished) {
            return Err(NestError::Shape("an operand of the stored value"));
        }
        let bound_fits = |b: &Bound| b.step > 0 && b.axis < loops;
        if !self.reduce.iter().filter_map(|r| r.bound.as_ref()).all(bound_fits) {
            return Err(NestError::Shape("a bound"));
        }
        Ok(())
    }

    fn check_types(&self) -> Result<(), NestError> {
        let (operands, accumulators) = self.dtypes();
        for a in &self.accumulators {
            if a.value.dtype(&operands, &accumulators) != Some(a.init.dtype()) {
                return Err(NestError::Type("accumulated"));
            }
        }
        if self.value.dtype(&operands, &accumulators) != Some(computed(self.result.dtype)) {
            return Err(NestError::Type("stored"));
        }
        self.check_support()?;
        let all = self.loops.len() + self.reduce.len();
        let mut fits = true;
        let mut index_fits = |e: &Expr| fits &= !matches!(e, Expr::Index(i) if *i >= all);
        self.value.walk(&mut index_fits);
        self.accumulators.iter().for_each(|a| a.value.walk(&mut index_fits));
        if fits { Ok(()) } else { Err(NestError::Type("index")) }
    }

    /// Some functions are not written for all types.
    fn check_support(&self) -> Result<(), NestError> {
        let (operands, accumulators) = self.dtypes();
        let mut refused = None;
        let mut visit = |e: &Expr| {
            let dtype = |e: &Expr| e.dtype(&operands, &accumulators);
            let (function, types) = match e {
                Expr::Unary(f, x) if dtype(x).is_some_and(|t| !scalar::supports_unary(f.0, t)) => {
                    (format!("{:?}", f.0), [dtype(x), None])
                }
                Expr::Binary(f, x, y) => (format!("{f:?}"), [dtype(x), dtype(y)]),
                Expr::Cast(to, x) => ("Cast".to_owned(), [dtype(x), Some(computed(*to))]),
                Expr::Const(c) => ("a constant".to_owned(), [Some(c.dtype()), None]),
                Expr::Unary(..) | Expr::Operand(_) | Expr::Index(_) | Expr::Acc(_) => return,
                Expr::Entry(..) | Expr::MulAdd(..) | Expr::Select(..) => return,
            };
            let unary = matches!(e, Expr::Unary(..));
            let bad = types.into_iter().flatten().find(|&t| unary || scalar::element_type(t).is_none());
            if let (None, Some(dtype)) = (&refused, bad) {
                refused = Some(NestError::Unsupported { function, dtype });
            }
        };
        self.value.walk(&mut visit);
        self.accumulators.iter().for_each(|a| a.value.walk(&mut visit));
        refused.map_or(Ok(()), Err)
    }

    /// Types of operands and accumulators as they are computed with.
    pub fn dtypes(&self) -> (Vec<DType>, Vec<DType>) {
        let operands = self.operands.iter().map(|o| computed(o.dtype)).collect();
        (operands, self.accumulators.iter().map(|a| a.init.dtype()).collect())
    }

    /// Whether the result has an element for each index of the reduction.
    pub fn stores_rows(&self) -> bool {
        self.result.strides.len() > self.loops.len()
    }

    /// Whether the strides, types and expressions allow what [`Nest::lanes`] asks for.
    pub fn lanes_fit(&self) -> bool {
        if self.vectorised == Vectorised::Kernel && !self.reduce.is_empty() {
            return self.is_row();
        }
        if self.vectorised == Vectorised::Windows {
            return self.is_windows();
        }
        if let Vectorised::Resampled { .. } = self.vectorised {
            return self.is_resampled();
        }
        if self.vectorised == Vectorised::Scan || self.accumulators.iter().any(|a| a.fold.goes_on()) {
            return self.is_scan();
        }
        if self.stores_rows() || self.accumulators.iter().any(|a| matches!(a.fold, Fold::After(_))) {
            return false;
        }
        let Some(inner) = self.loops.len().checked_sub(1) else {
            return match self.vectorised {
                Vectorised::Scalar => true,
                Vectorised::Reduce { unroll } => unroll > 0 && self.reduces_in_vectors(),
                Vectorised::Loop { .. } | Vectorised::Groups { .. } => false,
                Vectorised::Kernel | Vectorised::Bytes | Vectorised::Transpose => false,
                Vectorised::Windows | Vectorised::Resampled { .. } | Vectorised::Scan => false,
            };
        };
        match self.vectorised {
            Vectorised::Scalar => true,
            Vectorised::Loop { unroll, rows } => {
                let bound = |axis| self.reduce.iter().any(|r| r.bound.is_some_and(|b| b.axis == axis));
                let indexed = bound(inner) || (rows > 1 && (inner <= self.unit_axes || bound(inner - 1)));
                let read = self.operands.iter().all(|o| o.is_vector_along(inner));
                let expressions = self
                    .accumulators
                    .iter()
                    .map(|a| &a.value)
                    .chain([&self.value])
                    .all(|e| self.is_vector(e));
                let folded = self.accumulators.iter().all(|a| a.init.dtype() == DType::F32);
                let written = Float::of(self.result.dtype)
                    .is_some_and(|float| self.result.strides[inner] == float.span(1));
                unroll > 0 && rows > 0 && !indexed && read && expressions && folded && written
            }
            Vectorised::Reduce { unroll } => unroll > 0 && self.reduces_in_vectors(),
            Vectorised::Groups { unroll } => {
                let (operands, _) = self.dtypes();
                unroll > 0
                    && self.unit_axes <= inner
                    && self.reduce.is_empty()
                    && self.accumulators.is_empty()
                    && self.operands.iter().all(|o| o.is_dense_along(inner))
                    && self.result.strides[inner] == self.result.dtype.bytes() as i64
                    && group::has(&self.value, &operands)
            }
            Vectorised::Kernel => {
                self.unit_axes <= inner
                    && self.reduce.is_empty()
                    && self.accumulators.is_empty()
                    && self.operands.iter().all(|o| o.is_dense_along(inner))
                    && self.result.is_dense_along(inner)
                    && self.result.strides[inner] != 0
                    // What only moves half floats moves their bits.
                    && !self.moves().is_some_and(Float::is_half)
                    && self.mapped().is_some()
            }
            Vectorised::Bytes => self.is_byte_rows(),
            Vectorised::Windows => self.is_windows(),
            Vectorised::Resampled { .. } => self.is_resampled(),
            Vectorised::Scan => self.is_scan(),
            Vectorised::Transpose => {
                let (Some(size), [operand]) = (self.moved_bytes(), self.operands.as_slice()) else {
                    return false;
                };
                inner > self.unit_axes
                    && self.blocks_fit(size, operand)
                    && operand.tables.is_empty()
                    && operand.strides[inner - 1] == size
                    && self.result.strides[inner] == size
            }
        }
    }

    /// Whether a block of a transposing copy may read whole vectors: those of fewer elements end in the elements behind.
    fn blocks_fit(&self, size: i64, operand: &Operand) -> bool {
        let [.., rows, columns] = self.loops[..] else { return false };
        let step = operand.strides[self.loops.len() - 1];
        match size {
            1 => rows >= LANES && columns >= LANES,
            _ => rows >= LANES || (rows > 1 && size == 4 && step >= size * (LANES - rows) as i64),
        }
    }

    /// The value of a map in floats, if kernels have all that is in it.
    fn mapped(&self) -> Option<Cow<'_, Expr>> {
        let (operands, result) = (self.dtypes().0, self.result.dtype);
        let all = operands.iter().chain([&result]).all(|dtype| Float::of(*dtype).is_some());
        let value = match all {
            true => Cow::Borrowed(&self.value),
            false => match bytes::in_floats(&self.value, &operands, result)? {
                // Storing bytes rounds.
                Expr::Unary(UnaryFn(Unary::Round), value) if result == DType::U8 => Cow::Owned(*value),
                value => Cow::Owned(value),
            },
        };
        line::has(&value, 0).then_some(value)
    }

    /// What is copied, if the nest does nothing else: such floats are moved as they are.
    pub fn moves(&self) -> Option<Float> {
        let [operand] = self.operands.as_slice() else { return None };
        let plain = self.reduce.is_empty() && self.value == Expr::Operand(0);
        Float::of(operand.dtype).filter(|_| plain && operand.dtype == self.result.dtype)
    }

    /// The bytes of an element, of at most 4, if the nest copies elements and does nothing else.
    fn moved_bytes(&self) -> Option<i64> {
        let [operand] = self.operands.as_slice() else { return None };
        let plain = self.reduce.is_empty() && self.value == Expr::Operand(0);
        let size = operand.dtype.bytes() as i64;
        (plain && operand.dtype == self.result.dtype && size <= 4).then_some(size)
    }

    fn reduces_in_vectors(&self) -> bool {
        let Some(last) = self.reduce.last() else { return false };
        let axis = self.loops.len() + self.reduce.len() - 1;
        last.bound.is_none()
            && self.accumulators.iter().all(|a| {
                a.init.dtype() == DType::F32 && matches!(a.fold, Fold::With(_)) && self.is_vector(&a.value)
            })
            && self.accumulators.iter().all(|a| self.reads(&a.value).all(|o| o.is_vector_along(axis)))
    }

    /// Operands that an expression reads.
    fn reads<'a>(&'a self, e: &Expr) -> impl Iterator<Item = &'a Operand> + use<'a> {
        let mut indices = Vec::new();
        e.walk(&mut |e| {
            if let Expr::Operand(i) = e {
                indices.push(*i);
            }
        });
        indices.into_iter().filter_map(|i| self.operands.get(i))
    }

    /// Whether an operand is the first entry of a table.
    pub(in crate::code) fn is_table(&self, operand: usize) -> bool {
        let mut is_table = false;
        let mut visit =
            |e: &Expr| is_table |= matches!(e, Expr::Entry(table, _) if **table == Expr::Operand(operand));
        self.value.walk(&mut visit);
        self.accumulators.iter().for_each(|a| a.value.walk(&mut visit));
        is_table
    }

    /// Whether an expression can be computed in vectors: all its parts are `f32` or conditions on them.
    fn is_vector(&self, e: &Expr) -> bool {
        let (operands, accumulators) = self.dtypes();
        let mut fits = true;
        e.walk(&mut |e| {
            fits &= match e {
                Expr::Operand(i) => operands.get(*i) == Some(&DType::F32),
                Expr::Acc(i) => accumulators.get(*i) == Some(&DType::F32),
                Expr::Const(c) => c.dtype() == DType::F32,
                Expr::Index(_) | Expr::Entry(..) => false,
                // Between floats that are all `f32` here.
                Expr::Cast(to, x) => {
                    [x.dtype(&operands, &accumulators), Some(computed(*to))] == [Some(DType::F32); 2]
                }
                Expr::Unary(f, _) => scalar::has_vector_unary(f.0),
                Expr::Binary(f, a, b) => {
                    let both = [a, b].map(|e| e.dtype(&operands, &accumulators));
                    scalar::has_vector_binary(*f) && both != [Some(DType::Bool); 2]
                }
                Expr::MulAdd(..) | Expr::Select(..) => true,
            };
        });
        fits
    }

    /// What each operand and the result touch.
    pub fn accesses(&self) -> Result<Vec<Touched>, NestError> {
        let mut all = Vec::new();
        for (number, operand) in self.operands.iter().enumerate() {
            let Some(bytes) = self.touched_by(number, operand)? else { continue };
            for table in &operand.tables {
                if let Some(bytes) = self.touched(table.offset, DType::I32.bytes(), &table.strides)? {
                    all.push(Touched { arg: table.arg, bytes, written: false });
                }
            }
            all.push(Touched { arg: operand.arg, bytes, written: false });
        }
        let result = &self.result;
        if let Some(bytes) = self.touched(result.offset, result.dtype.bytes(), &result.strides)? {
            all.push(Touched { arg: result.arg, bytes, written: true });
        }
        Ok(all)
    }

    /// From the lowest to one past the highest byte of an operand, wherever its tables lead.
    fn touched_by(&self, number: usize, operand: &Operand) -> Result<Option<Range<i64>>, NestError> {
        let entries = if self.is_table(number) { ENTRIES } else { 1 };
        let bytes = self.touched(operand.offset, entries * operand.dtype.bytes(), &operand.strides)?;
        let Some(mut bytes) = bytes else { return Ok(None) };
        for table in &operand.tables {
            bytes.start = bytes.start.checked_add(table.low.into()).ok_or(NestError::Overflow)?;
            bytes.end = bytes.end.checked_add(table.high.into()).ok_or(NestError::Overflow)?;
        }
        Ok(Some(bytes))
    }

    /// From the lowest to one past the highest byte of a strided access; `None` where it never happens. What depends
    /// on reduction indices is read only where they are inside of their bounds.
    fn touched(&self, offset: i64, size: usize, strides: &[i64]) -> Result<Option<Range<i64>>, NestError> {
        let mut range = offset..offset.checked_add(size as i64).ok_or(NestError::Overflow)?;
        let mut add = |low: i64, high: i64| {
            range.start = range.start.checked_add(low)?;
            range.end = range.end.checked_add(high)?;
            Some(())
        };
        let reduced = strides.get(self.loops.len()..).is_some_and(|s| s.iter().any(|&s| s != 0));
        if reduced && self.reduce.iter().any(|r| r.extent == 0) {
            return Ok(None);
        }
        let mut free: Vec<bool> = vec![true; strides.len()];
        for (r, axis) in self.reduce.iter().enumerate() {
            let (Some(bound), true) = (axis.bound, reduced) else { continue };
            let (outer, inner) = (bound.axis, self.loops.len() + r);
            let mut reach: Option<(i64, i64)> = None;
            // Two reduction axes bound by one loop: the loop's own stride counts with the first.
            let stride = if std::mem::replace(&mut free[outer], false) { strides[outer] } else { 0 };
            free[inner] = false;
            for i in 0..self.loops[outer] as i64 {
                let indices = bound.range(i, axis.extent as i64);
                if indices.is_empty() {
                    continue;
                }
                for r in [indices.start, indices.end - 1] {
                    let at = (i.checked_mul(stride))
                        .and_then(|at| at.checked_add(r.checked_mul(strides[inner])?))
                        .ok_or(NestError::Overflow)?;
                    reach = Some(reach.map_or((at, at), |(low, high)| (low.min(at), high.max(at))));
                }
            }
            let Some((low, high)) = reach else { return Ok(None) };
            add(low, high).ok_or(NestError::Overflow)?;
        }
        for ((extent, &stride), _) in self.extents().zip(strides).zip(&free).filter(|(_, free)| **free) {
            let last = i64::try_from(extent.saturating_sub(1)).map_err(|_| NestError::Overflow)?;
            let reach = stride.checked_mul(last).ok_or(NestError::Overflow)?;
            add(reach.min(0), reach.max(0)).ok_or(NestError::Overflow)?;
        }
        Ok(Some(range))
    }

    /// Renumbers arguments in the order of their first use and moves their offsets out, so that nests which differ in
    /// nothing else become equal and share one function. Returns which argument and byte offset each new one is.
    ///
    /// A base pointer has to point into its buffer. A window over padding may begin before its buffer, or behind it when
    /// it runs backwards: what leads from there to the nearest byte that is touched stays in the nest.
    ///
    /// ```text
    ///   3 × 3, pad 1, rows forward:    base 0,   offset −32      rows backward:    base 192, offset +28
    /// ```
    pub fn relocate(&mut self) -> Result<Vec<(usize, u64)>, NestError> {
        let read = self.operands.iter().enumerate().map(|(number, o)| self.touched_by(number, o));
        let read = read.collect::<Result<Vec<_>, _>>()?;
        let written = self.touched(self.result.offset, self.result.dtype.bytes(), &self.result.strides)?;
        let mut args: Vec<(usize, u64)> = Vec::new();
        let mut place = |arg: &mut usize, offset: &mut i64, touched: Option<&Range<i64>>| {
            let base = touched.map_or(0, |bytes| (*offset).clamp(bytes.start, bytes.end - 1).max(0));
            let place = (*arg, base.unsigned_abs());
            let index = args.iter().position(|a| *a == place).unwrap_or_else(|| {
                args.push(place);
                args.len() - 1
            });
            (*arg, *offset) = (index, *offset - base);
        };
        for (o, touched) in self.operands.iter_mut().zip(&read) {
            place(&mut o.arg, &mut o.offset, touched.as_ref());
            for t in &mut o.tables {
                // The first entry of a table is an entry of it.
                let first = t.offset..t.offset + 1;
                place(&mut t.arg, &mut t.offset, Some(&first));
            }
        }
        place(&mut self.result.arg, &mut self.result.offset, written.as_ref());
        Ok(args)
    }
}

impl Operand {
    /// Whether neighbours along an axis can be loaded as one vector of `f32`, or are all the same element.
    pub fn is_vector_along(&self, axis: usize) -> bool {
        Float::of(self.dtype).is_some() && self.is_dense_along(axis)
    }

    /// Whether neighbours along an axis are neighbours in memory, or all the same element.
    fn is_dense_along(&self, axis: usize) -> bool {
        let size = self.dtype.bytes() as i64;
        self.strides.get(axis).is_some_and(|&stride| stride == 0 || stride == size)
            && self.tables.iter().all(|t| t.strides.get(axis) == Some(&0))
    }
}
