//! The best of many items, again and again: each block of eight says which is its best one, and so do eight blocks together.
//!
//! ```text
//!   the best            9
//!   of eight blocks     9               7
//!   of eight items      5    9    2     7   …
//!   items               …   9 4 1 …         9 is taken: only the maxima above it are found anew
//! ```
//!
//! What a heap asks of two items at a time, and guesses wrong half of the time, is asked here of eight without a branch.

use nnc_ir::DType;

use super::Lowering;
use crate::code::routine::write::Mem;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};
use crate::code::view::View;

/// Items that are compared at once.
pub(super) const BLOCK: usize = 8;

/// Slots of the last level at most, which are compared at once as well.
const LAST: usize = 12;

/// What stands where no item is: less than each of them.
pub(super) fn none() -> RoutineExpr {
    RoutineExpr::int(i64::MIN)
}

/// Tournaments of the same size, each in a row of a memory of `i64`.
pub(super) struct Tournament {
    slots: Mem,
    /// Slots of each level, the items first. All but the last are whole blocks, of which each has a slot in the next one.
    levels: Vec<usize>,
}

/// The slots of each level above so many items.
fn levels(items: usize) -> Vec<usize> {
    let mut levels = vec![items.next_multiple_of(BLOCK)];
    while let Some(&last) = levels.last()
        && last > LAST
    {
        let above = last / BLOCK;
        levels.push(if above > LAST { above.next_multiple_of(BLOCK) } else { above });
    }
    levels
}

fn best_of(w: &mut Writer, mut items: Vec<RoutineExpr>) -> RoutineExpr {
    while items.len() > 1 {
        let half = items.split_off(items.len().div_ceil(2));
        let mut half = half.into_iter();
        items = items.into_iter().map(|a| half.next().map_or(a.clone(), |b| a.max(b))).collect();
        items = items.into_iter().map(|item| w.value(item)).collect();
    }
    items.pop().unwrap_or_else(none)
}

impl Tournament {
    /// Memory for tournaments of up to so many items, one for each index of some axes.
    pub(super) fn memory(l: &mut Lowering<'_>, axes: &[usize], items: usize) -> View {
        l.temp(DType::I64, &[axes, &[levels(items).iter().sum()]].concat())
    }

    pub(super) fn new(w: &mut Writer, memory: &View, items: usize) -> Tournament {
        Tournament { slots: w.memory(memory, MemoryUse::Write), levels: levels(items) }
    }

    fn place(&self, at: &[RoutineExpr], level: usize, slot: RoutineExpr) -> Vec<RoutineExpr> {
        let start: usize = self.levels[..level].iter().sum();
        [at, &[RoutineExpr::index(start) + slot]].concat()
    }

    /// The items of a block come in; where there are fewer than eight, nothing stands in the other slots.
    pub(super) fn enter(
        &self,
        w: &mut Writer,
        at: &[RoutineExpr],
        block: &RoutineExpr,
        mut items: Vec<RoutineExpr>,
    ) {
        items.resize(BLOCK, none());
        for (i, item) in items.iter().enumerate() {
            let slot = block.clone() * RoutineExpr::index(BLOCK) + RoutineExpr::index(i);
            w.store(self.slots, &self.place(at, 0, slot), item.clone());
        }
        if self.levels.len() > 1 {
            let best = best_of(w, items);
            w.store(self.slots, &self.place(at, 1, block.clone()), best);
        }
    }

    /// Nothing of a block comes in.
    pub(super) fn leave(&self, w: &mut Writer, at: &[RoutineExpr], block: &RoutineExpr) {
        match self.levels.len() {
            1 => self.enter(w, at, block, Vec::new()),
            _ => w.store(self.slots, &self.place(at, 1, block.clone()), none()),
        }
    }

    /// All blocks are in: the levels above them.
    pub(super) fn begin(&self, w: &mut Writer, at: &[RoutineExpr]) {
        for level in 1..self.levels.len() {
            let there = self.levels[level - 1] / BLOCK;
            if level > 1 {
                w.for_each(RoutineExpr::int(0), RoutineExpr::index(there), |w, block| {
                    self.find(w, at, level, &block);
                });
            }
            for slot in there..self.levels[level] {
                w.store(self.slots, &self.place(at, level, RoutineExpr::index(slot)), none());
            }
        }
    }

    /// Finds the best of a block of the level below.
    fn find(&self, w: &mut Writer, at: &[RoutineExpr], level: usize, block: &RoutineExpr) {
        let item = |w: &mut Writer, i: usize| {
            let slot = block.clone() * RoutineExpr::index(BLOCK) + RoutineExpr::index(i);
            w.load(self.slots, &self.place(at, level - 1, slot))
        };
        let items = (0..BLOCK).map(|i| item(w, i)).collect();
        let best = best_of(w, items);
        w.store(self.slots, &self.place(at, level, block.clone()), best);
    }

    /// The best item, or [`none`].
    pub(super) fn best(&self, w: &mut Writer, at: &[RoutineExpr]) -> RoutineExpr {
        let top = self.levels.len() - 1;
        let item = |w: &mut Writer, i| w.load(self.slots, &self.place(at, top, RoutineExpr::index(i)));
        let items = (0..self.levels[top]).map(|i| item(w, i)).collect();
        best_of(w, items)
    }

    /// Takes the item in a slot away. `slot` is known to be one.
    pub(super) fn remove(&self, w: &mut Writer, at: &[RoutineExpr], slot: &RoutineExpr) {
        w.store(self.slots, &self.place(at, 0, slot.clone()), none());
        let mut block = slot.clone();
        for level in 1..self.levels.len() {
            block = w.value(block / RoutineExpr::index(BLOCK));
            self.find(w, at, level, &block);
        }
    }
}
