//! Elements in order: a binary heap over indices, and TopK on it.
//!
//! A heap of indices has the worst of them at its root. The best `k` of many are found by replacing the root by whatever is better;
//! then the root is taken away again and again, and what is left behind it stands in order. Ties are decided by the indices, so every
//! order is a total one, and there is one result.
//!
//! ```text
//!   x = 5 9 1 7 8    k = 3    heap 0: 5        replaced by 7, 8     8            sorted 9 8 7
//!                                 1: 9 2: 1                        9 7 …
//! ```

use nnc_ir::op::{TopK, Unary};

use super::{GenericError, Lowering};
use crate::code::routine::write::{Local, Mem};
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};
use nnc_ir::DType;

/// The depth of the deepest heap.
const DEPTH: u64 = 64;

/// A heap of indices in the last axis of a memory of `i64`.
pub(super) struct Heap<'a> {
    pub slots: Mem,
    /// Where in the other axes.
    pub at: Vec<RoutineExpr>,
    /// Whether one index ranks before another.
    pub before: &'a dyn Fn(&mut Writer, RoutineExpr, RoutineExpr) -> RoutineExpr,
}

impl Heap<'_> {
    fn place(&self, slot: RoutineExpr) -> Vec<RoutineExpr> {
        [self.at.as_slice(), &[slot]].concat()
    }

    pub(super) fn get(&self, w: &mut Writer, slot: RoutineExpr) -> RoutineExpr {
        w.load(self.slots, &self.place(slot))
    }

    pub(super) fn put(&self, w: &mut Writer, slot: RoutineExpr, index: RoutineExpr) {
        w.store(self.slots, &self.place(slot), index);
    }

    /// Moves what is in a slot down until nothing below ranks behind it.
    fn sink(&self, w: &mut Writer, slot: RoutineExpr, size: &RoutineExpr) {
        let (hole, sinks) = (w.local(DType::I64), w.local(DType::Bool));
        w.set(hole, slot);
        w.set(sinks, RoutineExpr::bool(true));
        let item = self.get(w, hole.get());
        let left = || hole.get() * RoutineExpr::int(2) + RoutineExpr::int(1);
        w.repeat(sinks.get().and(left().less(size.clone())), DEPTH, |w| {
            let child = w.local(DType::I64);
            w.set(child, left());
            let index = w.local(DType::I64);
            let first = self.get(w, child.get());
            w.set(index, first);
            let right = w.value(left() + RoutineExpr::int(1));
            w.when(right.clone().less(size.clone()), |w| {
                let second = self.get(w, right.clone());
                let behind = (self.before)(w, index.get(), second.clone());
                w.when(behind, |w| {
                    w.set(child, right);
                    w.set(index, second);
                });
            });
            let behind = (self.before)(w, item.clone(), index.get());
            w.choose(
                behind,
                |w| {
                    self.put(w, hole.get(), index.get());
                    w.set(hole, child.get());
                },
                |w| w.set(sinks, RoutineExpr::bool(false)),
            );
        });
        self.put(w, hole.get(), item);
    }

    /// Makes a heap of the first `size` slots, no more than `most`.
    pub(super) fn build(&self, w: &mut Writer, size: &RoutineExpr, most: usize) {
        let half = w.value(size.clone() / RoutineExpr::int(2));
        w.for_each(RoutineExpr::int(0), half.clone().min(RoutineExpr::index(most)), |w, i| {
            let slot = w.value(half - RoutineExpr::int(1) - i);
            self.sink(w, slot, size);
        });
    }

    /// Takes the root away; what is left of `size` slots is a heap.
    pub(super) fn pop(&self, w: &mut Writer, size: Local) -> RoutineExpr {
        let root = self.get(w, RoutineExpr::int(0));
        w.set(size, size.get() - RoutineExpr::int(1));
        let last = self.get(w, size.get());
        self.put(w, RoutineExpr::int(0), last);
        self.sink(w, RoutineExpr::int(0), &size.get());
        root
    }

    /// Turns a heap into a list, the best first.
    pub(super) fn sort(&self, w: &mut Writer, size: &RoutineExpr, most: usize) {
        let size = w.value(size.clone());
        w.for_each(RoutineExpr::int(1), size.clone().min(RoutineExpr::index(most)), |w, taken| {
            let last = w.value(size - taken);
            let (root, other) = (self.get(w, RoutineExpr::int(0)), self.get(w, last.clone()));
            self.put(w, last.clone(), root);
            self.put(w, RoutineExpr::int(0), other);
            self.sink(w, RoutineExpr::int(0), &last);
        });
    }
}

/// `a < b`, with NaN behind all numbers.
pub(super) fn below(dtype: DType, a: RoutineExpr, b: RoutineExpr) -> RoutineExpr {
    match dtype {
        DType::Bool => a.cast(DType::U8).less(b.cast(DType::U8)),
        _ if dtype.is_float() => {
            let nan = |e: &RoutineExpr| e.clone().unary(Unary::IsNan);
            let only_b = nan(&b).and(nan(&a).not());
            a.less(b).or(only_b)
        }
        _ => a.less(b),
    }
}

pub(super) fn top_k(l: &mut Lowering<'_>, op: &TopK) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let indices = l.outputs.get(1).cloned().ok_or_else(|| l.misfit("there are no indices"))?;
    if y.is_empty() {
        return Ok(());
    }
    let (axis, k, extent) = (op.axis, op.k, x.shape[op.axis]);
    let mut others = y.shape.clone();
    others.remove(axis);
    // The axis behind the others, so that a heap lies in the last one.
    let last = |view: &crate::code::view::View| {
        let perm: Vec<usize> = (0..view.rank()).filter(|&a| a != axis).chain([axis]).collect();
        view.permuted(&perm).ok_or_else(|| l.misfit("no such axis"))
    };
    let (x, y, indices) = (last(&x)?, last(&y)?, last(&indices)?);
    let mut w = Writer::new();
    let (from, bits) = (w.memory(&x, MemoryUse::Read), w.moved(&x, MemoryUse::Read));
    let (to, slots) = (w.moved(&y, MemoryUse::Write), w.memory(&indices, MemoryUse::Write));
    let dtype = w.value_type(from);
    let work = extent.saturating_mul(1 + k.max(1).ilog2() as usize);
    w.over(&others, work, |w, at| {
        let before = |w: &mut Writer, a: RoutineExpr, b: RoutineExpr| {
            let value =
                |w: &mut Writer, i: &RoutineExpr| w.load(from, &[at, std::slice::from_ref(i)].concat());
            let (u, v) = (value(w, &a), value(w, &b));
            let (u, v) = if op.largest { (v, u) } else { (u, v) };
            let first = w.value(below(dtype, u.clone(), v.clone()));
            first.or(below(dtype, v, u).not().and(a.less(b)))
        };
        let heap = Heap { slots, at: at.to_vec(), before: &before };
        let size = RoutineExpr::index(k);
        w.for_each(RoutineExpr::int(0), size.clone(), |w, i| heap.put(w, i.clone(), i));
        heap.build(w, &size, k);
        // Few are better than the worst so far, whose value is at hand; of two equal ones the first is.
        let worst = w.local(dtype);
        let root = |w: &mut Writer| {
            let index = heap.get(w, RoutineExpr::int(0));
            w.load(from, &[at, &[index]].concat())
        };
        let value = root(w);
        w.set(worst, value);
        w.for_each(size.clone(), RoutineExpr::index(extent), |w, i| {
            let value = w.load(from, &[at, std::slice::from_ref(&i)].concat());
            let better = match op.largest {
                true => below(dtype, worst.get(), value),
                false => below(dtype, value, worst.get()),
            };
            w.when(better, |w| {
                heap.put(w, RoutineExpr::int(0), i);
                heap.sink(w, RoutineExpr::int(0), &size);
                let value = root(w);
                w.set(worst, value);
            });
        });
        heap.sort(w, &size, k);
        w.for_each(RoutineExpr::int(0), size, |w, rank| {
            let index = heap.get(w, rank.clone());
            let element = w.load(bits, &[at, &[index]].concat());
            w.store(to, &[at, &[rank]].concat(), element);
        });
    });
    l.push_routine(w)
}
