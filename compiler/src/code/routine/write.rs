//! Writing a routine: statements in the order in which they run, loops and conditions as closures.
//!
//! ```
//! use nnc::code::routine::{MemoryUse, Writer};
//! use nnc::code::view::View;
//! use nnc_ir::DType;
//!
//! // y[i] = x[indices[i]]
//! let mut w = Writer::new();
//! let x = w.memory(&View::dense(0, DType::F32, [10]), MemoryUse::Read);
//! let indices = w.memory(&View::dense(1, DType::I64, [4]), MemoryUse::Read);
//! let y = w.memory(&View::dense(2, DType::F32, [4]), MemoryUse::Write);
//! w.over(&[4], 1, |w, at| {
//!     let index = w.load(indices, at);
//!     let element = w.load(x, &[index]);
//!     w.store(y, at, element);
//! });
//! let routine = w.finish();
//! assert_eq!(routine.check(&|arg| [Some(0..40), Some(0..32), Some(0..16)][arg].clone()), Ok(()));
//! ```

use nnc_ir::DType;

use super::{Access, Memory, MemoryUse, Routine, RoutineExpr, Stmt};
use crate::code::units::{ENOUGH_UNITS, UNIT_WORK};
use crate::code::view::View;

/// A memory of the routine that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mem(usize);

/// A local that statements set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local(usize);

impl Local {
    /// Its value.
    pub fn get(self) -> RoutineExpr {
        RoutineExpr::Local(self.0)
    }
}

/// A routine that is being written.
#[derive(Debug)]
pub struct Writer {
    routine: Routine,
    /// The statements of the block that is being written.
    body: Vec<Stmt>,
    /// Where units tell of indices outside, if they do.
    records: Option<Mem>,
}

/// Words of a unit's record: position + 1, the index, and the extent that it was held against.
pub const RECORD_WORDS: usize = 3;

impl Default for Writer {
    fn default() -> Writer {
        Writer::new()
    }
}

impl Writer {
    /// A routine of one unit.
    pub fn new() -> Writer {
        let (units, locals, memory, body) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Writer { routine: Routine { units, locals, memory, body }, body: Vec::new(), records: None }
    }

    /// Memory that a view describes.
    pub fn memory(&mut self, view: &View, usage: MemoryUse) -> Mem {
        self.routine.memory.push(Memory {
            arg: view.arg,
            offset: view.offset,
            dtype: view.dtype,
            shape: view.shape.clone(),
            strides: view.strides.clone(),
            usage,
        });
        Mem(self.routine.memory.len() - 1)
    }

    /// Memory whose elements are moved and never computed with: half floats as the integers of their bits.
    pub fn moved(&mut self, view: &View, usage: MemoryUse) -> Mem {
        let memory = self.memory(view, usage);
        if let Some(Memory { dtype, .. }) = self.routine.memory.last_mut()
            && matches!(dtype, DType::F16 | DType::BF16)
        {
            *dtype = DType::U16;
        }
        memory
    }

    /// Extents of a memory.
    pub fn shape(&self, memory: Mem) -> &[usize] {
        self.routine.memory.get(memory.0).map_or(&[], |m| &m.shape)
    }

    /// Type of a memory's elements when they are loaded.
    pub fn value_type(&self, memory: Mem) -> DType {
        self.routine.memory.get(memory.0).map_or(DType::F32, Memory::value_type)
    }

    /// A new local; it is 0 at the start of each unit.
    pub fn local(&mut self, dtype: DType) -> Local {
        self.routine.locals.push(dtype);
        Local(self.routine.locals.len() - 1)
    }

    /// A new local that is set once, here.
    pub fn value(&mut self, value: RoutineExpr) -> RoutineExpr {
        let dtype = value.dtype(&self.routine).unwrap_or(DType::I64);
        let local = self.local(dtype);
        self.set(local, value);
        local.get()
    }

    /// An element, or the nearest one where an index lies outside.
    pub fn load(&mut self, memory: Mem, index: &[RoutineExpr]) -> RoutineExpr {
        let element = RoutineExpr::Load(Access { memory: memory.0, index: index.to_vec() });
        self.value(element)
    }

    /// Sets a local.
    pub fn set(&mut self, local: Local, value: RoutineExpr) {
        self.body.push(Stmt::Set { local: local.0, value });
    }

    /// Sets an element, if the indices lie inside.
    pub fn store(&mut self, memory: Mem, index: &[RoutineExpr], value: RoutineExpr) {
        self.body.push(Stmt::Store { to: Access { memory: memory.0, index: index.to_vec() }, value });
    }

    /// The statements that a closure writes.
    fn block(&mut self, write: impl FnOnce(&mut Writer)) -> Vec<Stmt> {
        let outer = std::mem::take(&mut self.body);
        write(self);
        std::mem::replace(&mut self.body, outer)
    }

    /// For each index from `low` to before `high`.
    pub fn for_each(
        &mut self,
        low: RoutineExpr,
        high: RoutineExpr,
        body: impl FnOnce(&mut Writer, RoutineExpr),
    ) {
        let local = self.local(DType::I64);
        let body = self.block(|w| body(w, local.get()));
        self.body.push(Stmt::For { local: local.0, low, high, body });
    }

    /// As long as a condition holds, at most so many times.
    pub fn repeat(&mut self, condition: RoutineExpr, most: u64, body: impl FnOnce(&mut Writer)) {
        let body = self.block(body);
        self.body.push(Stmt::While { condition, most, body });
    }

    /// Where a condition holds.
    pub fn when(&mut self, condition: RoutineExpr, then: impl FnOnce(&mut Writer)) {
        self.choose(condition, then, |_| ());
    }

    /// One thing where a condition holds, another one where it does not.
    pub fn choose(
        &mut self,
        condition: RoutineExpr,
        then: impl FnOnce(&mut Writer),
        otherwise: impl FnOnce(&mut Writer),
    ) {
        let (then, otherwise) = (self.block(then), self.block(otherwise));
        self.body.push(Stmt::If { condition, then, otherwise });
    }

    /// For all indices of some axes. Leading ones become units of work, as many as `work` operations for each index
    /// are worth: called once, before any local is made.
    pub fn over(&mut self, axes: &[usize], work: usize, body: impl FnOnce(&mut Writer, &[RoutineExpr])) {
        let all = axes.iter().fold(work.max(1), |n, &extent| n.saturating_mul(extent));
        let pieces = (all / UNIT_WORK).clamp(1, ENOUGH_UNITS);
        let (mut units, mut cut) = (Vec::new(), None);
        for &extent in axes {
            let so_far: usize = units.iter().product();
            if so_far >= pieces || !self.routine.locals.is_empty() {
                break;
            }
            if so_far.saturating_mul(extent) > 4 * pieces {
                // An axis that is too long is cut into pieces of equal length.
                let length = extent.div_ceil(pieces.div_ceil(so_far));
                units.push(extent.div_ceil(length.max(1)));
                cut = Some((length, extent));
                break;
            }
            units.push(extent);
        }
        let mut at: Vec<RoutineExpr> = units.iter().map(|_| self.local(DType::I64).get()).collect();
        if !units.is_empty() {
            self.routine.units.clone_from(&units);
        }
        if let Some((length, extent)) = cut {
            let piece = at.pop().unwrap_or(RoutineExpr::int(0));
            let low = piece * RoutineExpr::index(length);
            let high = (low.clone() + RoutineExpr::index(length)).min(RoutineExpr::index(extent));
            let rest = axes[units.len()..].to_vec();
            self.for_each(low, high, |w, i| {
                at.push(i);
                w.nested(&rest, at, body);
            });
        } else {
            let rest = axes[units.len()..].to_vec();
            self.nested(&rest, at, body);
        }
    }

    /// For all indices of some axes, one loop inside the other; `body` gets those behind the indices given.
    pub fn nested(
        &mut self,
        axes: &[usize],
        at: Vec<RoutineExpr>,
        body: impl FnOnce(&mut Writer, &[RoutineExpr]),
    ) {
        // Loops are closed from the inside out: a closure for each level would be a type without end.
        let indices: Vec<Local> = axes.iter().map(|_| self.local(DType::I64)).collect();
        let mut all = at;
        all.extend(indices.iter().map(|i| i.get()));
        let mut block = self.block(|w| body(w, &all));
        for (index, &extent) in indices.iter().zip(axes).rev() {
            let (low, high) = (RoutineExpr::int(0), RoutineExpr::index(extent));
            block = vec![Stmt::For { local: index.0, low, high, body: block }];
        }
        self.body.append(&mut block);
    }

    /// Lets each unit keep a record of the first index that leads outside; see [`Writer::check_index`]. Where the records are is said
    /// when the routine is written.
    pub fn keep_records(&mut self) {
        self.records =
            Some(self.memory(&View::dense(usize::MAX, DType::I64, [RECORD_WORDS]), MemoryUse::Update));
    }

    /// Whether units keep such records.
    pub fn tells_of_indices(&self) -> bool {
        self.records.is_some()
    }

    /// Notes that `index`, of the element at `position` of a row-major `shape`, lies outside of an axis of `extent` elements, if it
    /// does and no lower position has been noted. Negative indices count from the end.
    pub fn check_index(
        &mut self,
        index: &RoutineExpr,
        extent: &RoutineExpr,
        position: &[RoutineExpr],
        shape: &[usize],
    ) {
        let Some(records) = self.records else { return };
        // From the start of the axis, as a number without a sign, of which negative ones are larger than any extent.
        let from_end = index.clone() + extent.clone();
        let found = index.clone().less(RoutineExpr::int(0)).select(from_end, index.clone());
        let outside = found.cast(DType::U64).less(extent.clone().cast(DType::U64)).not();
        let unit: Vec<RoutineExpr> = (0..self.routine.units.len()).map(RoutineExpr::Local).collect();
        let word = |n: usize| [unit.as_slice(), &[RoutineExpr::index(n)]].concat();
        self.when(outside, |w| {
            let steps = position.iter().zip(shape);
            let flat = steps.fold(RoutineExpr::int(0), |flat, (i, &extent)| {
                flat * RoutineExpr::index(extent) + i.clone()
            });
            let number = w.value(flat + RoutineExpr::int(1));
            let noted = w.load(records, &word(0));
            let first = noted.clone().equals(RoutineExpr::int(0)).or(number.clone().less(noted));
            w.when(first, |w| {
                w.store(records, &word(0), number);
                w.store(records, &word(1), index.clone());
                w.store(records, &word(2), extent.clone());
            });
        });
    }

    /// Puts the records, if there are any, where `place` says for their number.
    pub fn place_records(&mut self, place: impl FnOnce(usize) -> View) {
        let Some(Mem(records)) = self.records else { return };
        let shape = [self.routine.units.as_slice(), &[RECORD_WORDS]].concat();
        let view = place(self.routine.units());
        if let Some(memory) = self.routine.memory.get_mut(records) {
            let dense = View::dense(view.arg, DType::I64, shape.clone());
            *memory = Memory { arg: view.arg, offset: view.offset, shape, strides: dense.strides, ..*memory };
        }
    }

    /// The routine.
    pub fn finish(mut self) -> Routine {
        self.routine.body = self.body;
        self.routine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each element of a dense memory is stored to.
    fn counted(axes: &[usize], work: usize) -> (Vec<u32>, usize) {
        let mut w = Writer::new();
        let y = w.memory(&View::dense(0, DType::U32, axes), MemoryUse::Update);
        w.over(axes, work, |w, at| {
            let old = w.load(y, at);
            w.store(y, at, old + RoutineExpr::constant(DType::U32, 1.0));
        });
        let routine = w.finish();
        let bytes = 4 * axes.iter().product::<usize>();
        assert_eq!(routine.check(&|_| Some(0..bytes as i64)), Ok(()));
        let mut memory = vec![vec![0u8; bytes]];
        super::super::interp::run(&routine, &mut memory, 0..routine.units());
        let counts = memory[0].chunks(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        (counts, routine.units())
    }

    #[test]
    fn every_index_is_visited_once_however_the_work_is_cut() {
        for (axes, work, units) in [
            (vec![], 1, 1),
            (vec![3, 5], 1, 1),
            (vec![3, 5], 10_000, 15),
            (vec![1000], 1000, 63),
            (vec![7, 1000, 2], 1000, 70),
            (vec![64, 64], 1, 1),
            (vec![1, 1, 997], 100, 24),
        ] {
            let (counts, found) = counted(&axes, work);
            assert!(counts.iter().all(|&n| n == 1), "{axes:?}: {counts:?}");
            assert_eq!(found, units, "{axes:?} {work}");
        }
    }
}
