//! Elements in order: a binary heap over indices, or over elements with their indices, and TopK on it.
//!
//! A heap of indices has the worst of them at its root. The best `k` of many are found by replacing the root by whatever is better;
//! then the root is taken away again and again, and what is left behind it stands in order. Ties are decided by the indices, so every
//! order is a total one, and there is one result.
//!
//! ```text
//!   x = 5 9 1 7 8    k = 3    heap 0: 5        replaced by 7, 8     8            sorted 9 8 7
//!                                 1: 9 2: 1                        9 7 …
//! ```

use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::{TopK, Unary};

use super::{GenericError, Lowering};
use crate::code::routine::write::Mem;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};
use crate::code::view::View;
use nnc_ir::DType;

/// Elements of which one question finds out that all are behind those that are kept.
const BLOCK: usize = 8;

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

    /// Replaces the root where another index ranks before it.
    fn offer(&self, w: &mut Writer, index: RoutineExpr, size: &RoutineExpr) {
        let root = self.get(w, RoutineExpr::int(0));
        let better = (self.before)(w, index.clone(), root);
        w.when(better, |w| {
            self.put(w, RoutineExpr::int(0), index);
            self.sink(w, RoutineExpr::int(0), size);
        });
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
    let (axis, extent) = (op.axis, x.shape[op.axis]);
    let mut others = y.shape.clone();
    others.remove(axis);
    // The axis behind the others, so that a heap lies in the last one.
    let last = |view: &View| {
        let perm: Vec<usize> = (0..view.rank()).filter(|&a| a != axis).chain([axis]).collect();
        view.permuted(&perm).ok_or_else(|| l.misfit("no such axis"))
    };
    let (x, y, indices) = (last(&x)?, last(&y)?, last(&indices)?);
    match ItemOrder::of(x.dtype, extent, op.largest) {
        Some(order) => top_items(l, [&x, &y, &indices], &others, &order),
        None => top_indices(l, op, [&x, &y, &indices], &others),
    }
}

/// Elements of a short type and their indices as one number each, which are in the same order: of equal elements the first is the
/// larger one.
///
/// ```text
///   item = element · 2^31 + (2^31 - 1 - index)
/// ```
///
/// Floats are ordered as the numbers that their bits are, negative ones backwards.
pub(super) struct ItemOrder {
    dtype: DType,
    largest: bool,
}

/// Indices of an item.
const ITEM_INDICES: i64 = 1 << 31;

impl ItemOrder {
    /// The order of an axis of so many elements, the largest (or the smallest) first; `None` where an item has no room for them.
    pub(super) fn of(dtype: DType, extent: usize, largest: bool) -> Option<ItemOrder> {
        let fits = dtype.bytes() < 8 && extent as u64 <= ITEM_INDICES as u64;
        fits.then_some(ItemOrder { dtype, largest })
    }

    /// The elements as integers.
    pub(super) fn numbers(&self, w: &mut Writer, elements: &View) -> Mem {
        let dtype = match self.dtype {
            DType::F32 => DType::I32,
            DType::F16 | DType::BF16 => DType::I16,
            DType::Bool => DType::U8,
            dtype => dtype,
        };
        w.memory(&View { dtype, ..elements.clone() }, MemoryUse::Read)
    }

    /// The item of an element.
    pub(super) fn item(&self, w: &mut Writer, number: RoutineExpr, index: &RoutineExpr) -> RoutineExpr {
        self.item_of(w, number, index, false)
    }

    /// The item of an element that is a number: one that a comparison has let pass.
    pub(super) fn item_of_number(
        &self,
        w: &mut Writer,
        number: RoutineExpr,
        index: &RoutineExpr,
    ) -> RoutineExpr {
        self.item_of(w, number, index, true)
    }

    fn item_of(
        &self,
        w: &mut Writer,
        number: RoutineExpr,
        index: &RoutineExpr,
        is_number: bool,
    ) -> RoutineExpr {
        let int = RoutineExpr::int;
        let number = w.value(number.cast(DType::I64));
        let infinity = match self.dtype {
            DType::F32 => Some(0x7f80_0000),
            DType::F16 => Some(0x7c00),
            DType::BF16 => Some(0x7f80),
            _ => None,
        };
        let number = match infinity {
            Some(infinity) => {
                let least = -(1 << (8 * self.dtype.bytes() - 1));
                let negative = number.clone().less(int(0));
                let number = w.value(negative.select(int(least) - number.clone(), number));
                if is_number {
                    number
                } else {
                    let beyond = int(infinity).less(number.clone()).or(number.clone().less(int(-infinity)));
                    w.value(beyond.select(int(infinity + 1), number))
                }
            }
            None => number,
        };
        let number = if self.largest { number } else { int(0) - number };
        w.value(number * int(ITEM_INDICES) + (int(ITEM_INDICES - 1) - index.clone()))
    }

    /// The index in an item.
    pub(super) fn index(&self, w: &mut Writer, item: RoutineExpr) -> RoutineExpr {
        let low = item.binary(BinaryFn::BitAnd, RoutineExpr::int(ITEM_INDICES - 1));
        w.value(RoutineExpr::int(ITEM_INDICES - 1) - low)
    }
}

/// TopK of elements that go into items: the heap is one of these.
fn top_items(
    l: &mut Lowering<'_>,
    [x, y, indices]: [&View; 3],
    others: &[usize],
    order: &ItemOrder,
) -> Result<(), GenericError> {
    let rank = others.len();
    let (extent, k) = (x.shape[rank], y.shape[rank]);
    let mut w = Writer::new();
    let (numbers, bits) = (order.numbers(&mut w, x), w.moved(x, MemoryUse::Read));
    // As elements that a comparison tells apart: bits of floats are not in their order.
    let values = if x.dtype.is_float() { w.memory(x, MemoryUse::Read) } else { numbers };
    let (to, slots) = (w.moved(y, MemoryUse::Write), w.memory(indices, MemoryUse::Write));
    let work = extent.saturating_mul(1 + k.max(1).ilog2() as usize);
    w.over(others, work, |w, at| {
        let before = |_: &mut Writer, a: RoutineExpr, b: RoutineExpr| b.less(a);
        let heap = Heap { slots, at: at.to_vec(), before: &before };
        let size = RoutineExpr::index(k);
        let item = |w: &mut Writer, i: &RoutineExpr| {
            let number = w.load(numbers, &[at, std::slice::from_ref(i)].concat());
            order.item(w, number, i)
        };
        w.for_each(RoutineExpr::int(0), size.clone(), |w, i| {
            let item = item(w, &i);
            heap.put(w, i, item);
        });
        heap.build(w, &size, k);
        // Few are better than the worst so far, which is at hand, as an item and as it is.
        let (worst, bound) = (w.local(DType::I64), w.local(w.value_type(values)));
        let value = |w: &mut Writer, i: RoutineExpr| w.load(values, &[at, &[i]].concat());
        let note = |w: &mut Writer| {
            let root = heap.get(w, RoutineExpr::int(0));
            let index = order.index(w, root.clone());
            w.set(worst, root);
            let element = value(w, index);
            w.set(bound, element);
        };
        note(w);
        // Of equal ones the first is the better one. What is no number is neither.
        let is_behind = |w: &mut Writer, i: RoutineExpr| {
            let element = value(w, i);
            let (low, high) = if order.largest { (element, bound.get()) } else { (bound.get(), element) };
            low.binary(BinaryFn::LessOrEqual, high)
        };
        let offer = |w: &mut Writer, i: RoutineExpr| {
            let item = item(w, &i);
            w.when(worst.get().less(item.clone()), |w| {
                heap.put(w, RoutineExpr::int(0), item);
                heap.sink(w, RoutineExpr::int(0), &size);
                note(w);
            });
        };
        let blocks = (extent - k) / BLOCK;
        w.for_each(RoutineExpr::int(0), RoutineExpr::index(blocks), |w, block| {
            let first = w.value(size.clone() + block * RoutineExpr::index(BLOCK));
            let behind: Vec<RoutineExpr> =
                (0..BLOCK).map(|i| is_behind(w, first.clone() + RoutineExpr::index(i))).collect();
            let all = behind.into_iter().reduce(RoutineExpr::and).unwrap_or(RoutineExpr::bool(false));
            w.when(all.not(), |w| {
                w.for_each(first.clone(), first.clone() + RoutineExpr::index(BLOCK), |w, i| {
                    let behind = is_behind(w, i.clone());
                    w.when(behind.not(), |w| offer(w, i));
                });
            });
        });
        w.for_each(RoutineExpr::index(k + blocks * BLOCK), RoutineExpr::index(extent), offer);
        heap.sort(w, &size, k);
        w.for_each(RoutineExpr::int(0), size, |w, rank| {
            let item = heap.get(w, rank.clone());
            let index = order.index(w, item);
            let element = w.load(bits, &[at, std::slice::from_ref(&index)].concat());
            w.store(to, &[at, std::slice::from_ref(&rank)].concat(), element);
            heap.put(w, rank, index);
        });
    });
    l.push_routine(w)
}

/// TopK of long elements: the heap is one of indices.
fn top_indices(
    l: &mut Lowering<'_>,
    op: &TopK,
    [x, y, indices]: [&View; 3],
    others: &[usize],
) -> Result<(), GenericError> {
    let rank = others.len();
    let (extent, k) = (x.shape[rank], y.shape[rank]);
    let mut w = Writer::new();
    let (from, bits) = (w.memory(x, MemoryUse::Read), w.moved(x, MemoryUse::Read));
    let (to, slots) = (w.moved(y, MemoryUse::Write), w.memory(indices, MemoryUse::Write));
    let dtype = w.value_type(from);
    let work = extent.saturating_mul(1 + k.max(1).ilog2() as usize);
    w.over(others, work, |w, at| {
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
        w.for_each(size.clone(), RoutineExpr::index(extent), |w, i| heap.offer(w, i, &size));
        heap.sort(w, &size, k);
        w.for_each(RoutineExpr::int(0), size, |w, rank| {
            let index = heap.get(w, rank.clone());
            let element = w.load(bits, &[at, &[index]].concat());
            w.store(to, &[at, &[rank]].concat(), element);
        });
    });
    l.push_routine(w)
}
