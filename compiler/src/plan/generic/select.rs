//! Operators whose data decide how large their results are: first zeros everywhere, then what there is, then how many.

use nnc_ir::DType;
use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::{Compress, NonMaxSuppression, Prefix, Unique};

use super::rank::{Heap, ItemOrder, below};
use super::{GenericError, Lowering, copy};
use crate::code::routine::write::Mem;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};
use crate::code::view::View;

impl Lowering<'_> {
    fn result(&self, index: usize) -> Result<View, GenericError> {
        self.outputs.get(index).cloned().ok_or_else(|| self.misfit(format!("result {index} is missing")))
    }
}

/// The first elements of some axes, one after another in row-major order: what is behind them in memory stays as it was.
pub(super) fn prefix(l: &mut Lowering<'_>, op: &Prefix) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let Some(&first) = op.axes.first().filter(|_| !y.is_empty()) else {
        return if y.is_empty() { Ok(()) } else { copy::copy(l, &x, &y) };
    };
    let flat = y.reshaped(&[y.elems()]).ok_or_else(|| l.unsupported("a result that is not dense"))?;
    let mut counts = Vec::with_capacity(op.axes.len());
    for index in 0..op.axes.len() {
        counts.push(l.input(1 + index)?);
    }
    let mut w = Writer::new();
    let (from, to) = (w.moved(&x, MemoryUse::Read), w.moved(&flat, MemoryUse::Write));
    let counts: Vec<Mem> = counts.iter().map(|count| w.memory(count, MemoryUse::Read)).collect();
    let (outer, inner) = x.shape.split_at(first);
    w.over(outer, inner.iter().fold(1, |work: usize, extent| work.saturating_mul(*extent)), |w, at| {
        let mut extents: Vec<RoutineExpr> = inner.iter().map(|&extent| RoutineExpr::index(extent)).collect();
        for (&axis, &count) in op.axes.iter().zip(&counts) {
            let there = w.load(count, &[]);
            extents[axis - first] =
                w.value(there.max(RoutineExpr::int(0)).min(RoutineExpr::index(x.shape[axis])));
        }
        let number = row_major(at, outer);
        each_there(w, &extents, at.to_vec(), number, &mut |w, at, number| {
            let element = w.load(from, at);
            w.store(to, &[number], element);
        });
    });
    l.push_routine(w)
}

/// The number of an element in row-major order.
fn row_major(at: &[RoutineExpr], shape: &[usize]) -> RoutineExpr {
    at.iter()
        .zip(shape)
        .fold(RoutineExpr::int(0), |n, (i, &extent)| n * RoutineExpr::index(extent) + i.clone())
}

/// What is done with an element: where it is, and its number among those that are there.
type EachElement<'f> = dyn FnMut(&mut Writer, &[RoutineExpr], RoutineExpr) + 'f;

/// For all indices of some axes of which so many elements are there, behind the indices given, which have this number.
fn each_there(
    w: &mut Writer,
    extents: &[RoutineExpr],
    at: Vec<RoutineExpr>,
    number: RoutineExpr,
    body: &mut EachElement<'_>,
) {
    let Some((extent, rest)) = extents.split_first() else { return body(w, &at, number) };
    let before = w.value(number * extent.clone());
    w.for_each(RoutineExpr::int(0), extent.clone(), |w, i| {
        let number = w.value(before + i.clone());
        each_there(w, rest, [at, vec![i]].concat(), number, body);
    });
}

pub(super) fn non_zero(l: &mut Lowering<'_>) -> Result<(), GenericError> {
    let (x, indices, count) = (l.input(0)?, l.result(0)?, l.result(1)?);
    copy::zeros(l, &indices)?;
    if x.is_empty() {
        return copy::zeros(l, &count);
    }
    let mut w = Writer::new();
    let (from, count) = (w.memory(&x, MemoryUse::Read), w.memory(&count, MemoryUse::Write));
    // A scalar has no positions, only their number.
    let to = (!indices.is_empty()).then(|| w.memory(&indices, MemoryUse::Update));
    let dtype = w.value_type(from);
    let found = w.local(DType::I64);
    w.nested(&x.shape, Vec::new(), |w, at| {
        let v = w.load(from, at);
        let is_set = if dtype == DType::Bool { v } else { v.equals(RoutineExpr::constant(dtype, 0.0)).not() };
        w.when(is_set, |w| {
            for (row, i) in at.iter().enumerate() {
                if let Some(to) = to {
                    w.store(to, &[RoutineExpr::index(row), found.get()], i.clone());
                }
            }
            w.set(found, found.get() + RoutineExpr::int(1));
        });
    });
    w.store(count, &[], found.get());
    l.push_routine(w)
}

/// `x` and a result seen along an axis that is chosen from: the axis first, then the others. Without an axis, elements in
/// row-major order.
struct Chosen {
    x: View,
    y: View,
    /// Extents of the other axes.
    rest: Vec<usize>,
}

fn choice(l: &mut Lowering<'_>, axis: Option<usize>, y: View) -> Result<Chosen, GenericError> {
    let x = l.input(0)?;
    let Some(axis) = axis else {
        let elems = x.elems();
        let x = match x.reshaped(&[elems]) {
            Some(flat) => flat,
            None => {
                let dense = l.temp(x.dtype, &x.shape);
                copy::copy(l, &x, &dense)?;
                dense.reshaped(&[elems]).ok_or_else(|| l.misfit("a dense view is not flat"))?
            }
        };
        return Ok(Chosen { x, y, rest: Vec::new() });
    };
    let first = |view: &View| {
        let perm: Vec<usize> = std::iter::once(axis).chain((0..view.rank()).filter(|&a| a != axis)).collect();
        view.permuted(&perm).ok_or_else(|| l.misfit("no such axis"))
    };
    let (x, y) = (first(&x)?, first(&y)?);
    let rest = x.shape[1..].to_vec();
    Ok(Chosen { x, y, rest })
}

/// Copies one slice.
fn slice(w: &mut Writer, rest: &[usize], (from, i): (Mem, RoutineExpr), (to, j): (Mem, RoutineExpr)) {
    w.nested(rest, Vec::new(), |w, at| {
        let element = w.load(from, &[&[i], at].concat());
        w.store(to, &[&[j], at].concat(), element);
    });
}

pub(super) fn compress(l: &mut Lowering<'_>, op: &Compress) -> Result<(), GenericError> {
    let (condition, y, count) = (l.input(1)?, l.result(0)?, l.result(1)?);
    copy::zeros(l, &y)?;
    let Chosen { x, y, rest } = choice(l, op.axis, y)?;
    let bound = y.shape.first().copied().unwrap_or(0);
    if bound == 0 {
        return copy::zeros(l, &count);
    }
    let mut w = Writer::new();
    let moved = (!x.is_empty()).then(|| (w.moved(&x, MemoryUse::Read), w.moved(&y, MemoryUse::Update)));
    let (condition, count) = (w.memory(&condition, MemoryUse::Read), w.memory(&count, MemoryUse::Write));
    let found = w.local(DType::I64);
    w.for_each(RoutineExpr::int(0), RoutineExpr::index(bound), |w, i| {
        let chosen = w.load(condition, std::slice::from_ref(&i));
        w.when(chosen, |w| {
            if let Some((from, to)) = moved {
                slice(w, &rest, (from, i), (to, found.get()));
            }
            w.set(found, found.get() + RoutineExpr::int(1));
        });
    });
    w.store(count, &[], found.get());
    l.push_routine(w)
}

/// ```text
///   x = 2 1 1 3 4 3     order   1 2 0 3 5 4     by value, then by index
///                       group   1 0 0 2 3 2     of each element, in ascending order
///                       leader  1 0 3 4         the first element of each group
///                       rank    1 0 2 3         of each group, as they occur first
/// ```
pub(super) fn unique(l: &mut Lowering<'_>, op: &Unique) -> Result<(), GenericError> {
    let results: Vec<View> = (0..5).map(|i| l.result(i)).collect::<Result<_, _>>()?;
    for result in [0, 1, 3] {
        copy::zeros(l, &results[result])?;
    }
    let Chosen { x, y, rest } = choice(l, op.axis, results[0].clone())?;
    let all = x.shape.first().copied().unwrap_or(0);
    if all == 0 {
        return copy::zeros(l, &results[4]);
    }
    if x.is_empty() {
        return Err(l.unsupported("slices without elements"));
    }
    let temps: Vec<View> = (0..4).map(|_| l.temp(DType::I64, &[all])).collect();
    let mut w = Writer::new();
    let (values, from, to) =
        (w.memory(&x, MemoryUse::Read), w.moved(&x, MemoryUse::Read), w.moved(&y, MemoryUse::Update));
    let (firsts, counts) =
        (w.memory(&results[1], MemoryUse::Update), w.memory(&results[3], MemoryUse::Update));
    let (inverse, count) = (w.memory(&results[2], MemoryUse::Write), w.memory(&results[4], MemoryUse::Write));
    let mut temp = |i: usize| w.memory(&temps[i], MemoryUse::Write);
    let (order, group, leader, rank) = (temp(0), temp(1), temp(2), temp(3));
    let (size, dtype) = (RoutineExpr::index(all), w.value_type(values));

    // 0 where two slices are equal, 1 where the first is less, 2 where it is greater.
    let decided = w.local(DType::I64);
    let compare = |w: &mut Writer, a: &RoutineExpr, b: &RoutineExpr| {
        w.set(decided, RoutineExpr::int(0));
        w.nested(&rest, Vec::new(), |w, at| {
            w.when(decided.get().equals(RoutineExpr::int(0)), |w| {
                let element =
                    |w: &mut Writer, i: &RoutineExpr| w.load(values, &[std::slice::from_ref(i), at].concat());
                let (u, v) = (element(w, a), element(w, b));
                let less = w.value(below(dtype, u.clone(), v.clone()));
                let greater = w.value(below(dtype, v.clone(), u.clone()));
                let sign = less
                    .select(RoutineExpr::int(1), greater.select(RoutineExpr::int(2), RoutineExpr::int(0)));
                w.set(decided, sign);
                if dtype.is_float() {
                    // NaN equals no other element.
                    let is_nan = |e: RoutineExpr| e.unary(nnc_ir::op::Unary::IsNan);
                    let by_index = a.clone().less(b.clone()).select(RoutineExpr::int(1), RoutineExpr::int(2));
                    let differ = a.clone().equals(b.clone()).select(RoutineExpr::int(0), by_index);
                    let both = is_nan(u).and(is_nan(v));
                    w.set(decided, both.select(differ, decided.get()));
                }
            });
        });
    };
    let before = |w: &mut Writer, a: RoutineExpr, b: RoutineExpr| {
        compare(w, &a, &b);
        let equal = decided.get().equals(RoutineExpr::int(0)).and(a.less(b));
        w.value(decided.get().equals(RoutineExpr::int(1)).or(equal))
    };
    let heap = Heap { slots: order, at: Vec::new(), before: &before };
    w.for_each(RoutineExpr::int(0), size.clone(), |w, i| heap.put(w, i.clone(), i));
    heap.build(&mut w, &size, all);
    heap.sort(&mut w, &size, all);

    let groups = w.local(DType::I64);
    w.for_each(RoutineExpr::int(0), size.clone(), |w, j| {
        let here = heap.get(w, j.clone());
        let previous = heap.get(w, j.clone() - RoutineExpr::int(1));
        compare(w, &previous, &here);
        let starts = j.equals(RoutineExpr::int(0)).or(decided.get().equals(RoutineExpr::int(0)).not());
        w.when(starts, |w| {
            w.store(leader, &[groups.get()], here.clone());
            w.store(rank, &[groups.get()], groups.get());
            w.set(groups, groups.get() + RoutineExpr::int(1));
        });
        w.store(group, &[here], groups.get() - RoutineExpr::int(1));
    });
    if !op.sorted {
        let next = w.local(DType::I64);
        w.for_each(RoutineExpr::int(0), size.clone(), |w, i| {
            let own = w.load(group, std::slice::from_ref(&i));
            let first = w.load(leader, std::slice::from_ref(&own));
            w.when(first.equals(i), |w| {
                w.store(rank, &[own], next.get());
                w.set(next, next.get() + RoutineExpr::int(1));
            });
        });
    }
    w.for_each(RoutineExpr::int(0), size, |w, i| {
        let own = w.load(group, std::slice::from_ref(&i));
        let place = w.load(rank, std::slice::from_ref(&own));
        w.store(inverse, std::slice::from_ref(&i), place.clone());
        let so_far = w.load(counts, std::slice::from_ref(&place));
        w.store(counts, std::slice::from_ref(&place), so_far + RoutineExpr::int(1));
        let first = w.load(leader, &[own]);
        w.when(first.equals(i.clone()), |w| {
            w.store(firsts, std::slice::from_ref(&place), i.clone());
            slice(w, &rest, (from, i), (to, place));
        });
    });
    w.store(count, &[], groups.get());
    l.push_routine(w)
}

/// Two routines: each class by itself, in parallel; then all of them one after another.
pub(super) fn non_max_suppression(l: &mut Lowering<'_>, op: &NonMaxSuppression) -> Result<(), GenericError> {
    let (boxes, scores) = (l.input(0)?, l.input(1)?);
    let (selected, count) = (l.result(0)?, l.result(1)?);
    copy::zeros(l, &selected)?;
    if selected.is_empty() {
        return copy::zeros(l, &count);
    }
    let (classes, n) = (&scores.shape[..2], scores.shape[2]);
    let most = op.most.min(n);
    let slots = l.temp(DType::I64, &[classes, &[n]].concat());
    let kept = l.temp(DType::I64, &[classes, &[most]].concat());
    let counts = l.temp(DType::I64, classes);
    let blocks = most.div_ceil(BLOCK);
    let sides = l.temp(DType::F32, &[classes, &[SIDES, blocks * BLOCK]].concat());
    let hits = l.temp(DType::F32, &[classes, &[BLOCK]].concat());
    class_by_class(l, op, [&boxes, &scores], [&slots, &kept, &counts, &sides, &hits])?;

    let mut w = Writer::new();
    let (kept, counts) = (w.memory(&kept, MemoryUse::Read), w.memory(&counts, MemoryUse::Read));
    let (to, count) = (w.memory(&selected, MemoryUse::Update), w.memory(&count, MemoryUse::Write));
    let row = w.local(DType::I64);
    w.nested(classes, Vec::new(), |w, at| {
        let there = w.load(counts, at);
        w.for_each(
            RoutineExpr::int(0),
            there.max(RoutineExpr::int(0)).min(RoutineExpr::index(most)),
            |w, i| {
                let number = w.load(kept, &[at, &[i]].concat());
                for (column, v) in at.iter().cloned().chain([number]).enumerate() {
                    w.store(to, &[row.get(), RoutineExpr::index(column)], v);
                }
                w.set(row, row.get() + RoutineExpr::int(1));
            },
        );
    });
    w.store(count, &[], row.get());
    l.push_routine(w)
}

fn class_by_class(
    l: &mut Lowering<'_>,
    op: &NonMaxSuppression,
    [boxes, scores]: [&View; 2],
    [slots, kept, counts, sides, hits]: [&View; 5],
) -> Result<(), GenericError> {
    let (n, most) = (scores.shape[2], kept.shape[2]);
    let threshold = |index: usize| -> Result<Option<View>, GenericError> {
        let Some(view) = l.optional(index) else { return Ok(None) };
        view.reshaped(&[]).map(Some).ok_or_else(|| l.misfit("a threshold is no scalar"))
    };
    let (iou, least, count) = (threshold(2)?, threshold(3)?, l.optional(4));
    let order = ItemOrder::of(scores.dtype, n, true).ok_or_else(|| l.unsupported("so many boxes"))?;
    let mut w = Writer::new();
    let numbers = order.numbers(&mut w, scores);
    let (boxes, scores_) = (w.memory(boxes, MemoryUse::Read), w.memory(scores, MemoryUse::Read));
    let [slots, kept, counts, sides, hits] =
        [slots, kept, counts, sides, hits].map(|view| w.memory(view, MemoryUse::Write));
    let [iou, least, count] =
        [iou, least, count].map(|view| view.map(|view| w.memory(&view, MemoryUse::Read)));
    let work = n.saturating_mul(most.saturating_add(8));
    w.over(&scores.shape[..2], work, |w, at| {
        let iou = match iou {
            Some(iou) => w.load(iou, &[]),
            None => RoutineExpr::constant(DType::F32, 0.0),
        };
        let least = least.map(|least| w.load(least, &[]));
        let score =
            |w: &mut Writer, i: &RoutineExpr| w.load(scores_, &[at, std::slice::from_ref(i)].concat());
        // The root is the largest, and the best.
        let behind = |_: &mut Writer, a: RoutineExpr, b: RoutineExpr| a.less(b);
        let heap = Heap { slots, at: at.to_vec(), before: &behind };
        let candidates = w.local(DType::I64);
        w.set(candidates, RoutineExpr::int(0));
        let there = match count {
            Some(count) => {
                let count = w.load(count, &[]);
                w.value(count.max(RoutineExpr::int(0)).min(RoutineExpr::index(n)))
            }
            None => RoutineExpr::index(n),
        };
        let passes = |w: &mut Writer, i: &RoutineExpr| match &least {
            Some(least) => least.clone().less(score(w, i)),
            None => RoutineExpr::bool(true),
        };
        // Among many that count, which do is a matter of chance: all are put down, and those that do not are overwritten by the next.
        let take = |w: &mut Writer, i: RoutineExpr, passes: RoutineExpr| {
            let number = w.load(numbers, &[at, std::slice::from_ref(&i)].concat());
            let item = match &least {
                Some(_) => order.item_of_number(w, number, &i),
                None => order.item(w, number, &i),
            };
            heap.put(w, candidates.get(), item);
            let one = passes.select(RoutineExpr::int(1), RoutineExpr::int(0));
            w.set(candidates, candidates.get() + one);
        };
        let blocks = (there.clone() / RoutineExpr::index(TAKEN)).min(RoutineExpr::index(n / TAKEN));
        let blocks = w.value(blocks);
        w.for_each(RoutineExpr::int(0), blocks.clone(), |w, block| {
            let first = w.value(block * RoutineExpr::index(TAKEN));
            let place = |i: usize| first.clone() + RoutineExpr::index(i);
            let pass: Vec<RoutineExpr> = (0..TAKEN)
                .map(|i| {
                    let passes = passes(w, &place(i));
                    w.value(passes)
                })
                .collect();
            let some = pass.iter().cloned().reduce(RoutineExpr::or).unwrap_or(RoutineExpr::bool(true));
            w.when(some, |w| {
                for (i, pass) in pass.into_iter().enumerate() {
                    let i = w.value(place(i));
                    take(w, i, pass);
                }
            });
        });
        w.for_each(blocks * RoutineExpr::index(TAKEN), there, |w, i| {
            let passes = passes(w, &i);
            let passes = w.value(passes);
            take(w, i, passes);
        });
        heap.build(w, &candidates.get(), n);

        let corners = |w: &mut Writer, i: &RoutineExpr| {
            let mut part = |k: usize| w.load(boxes, &[at[0].clone(), i.clone(), RoutineExpr::index(k)]);
            let [a, b, c, d] = [part(0), part(1), part(2), part(3)];
            let half = |e: RoutineExpr| e / RoutineExpr::constant(DType::F32, 2.0);
            let box_ = match op.center_point_box {
                true => [b.clone() - half(d.clone()), a.clone() - half(c.clone()), b + half(d), a + half(c)],
                false => [a.clone().min(c.clone()), b.clone().min(d.clone()), a.max(c), b.max(d)],
            };
            box_.map(|corner| w.value(corner))
        };
        let selected = w.local(DType::I64);
        w.set(selected, RoutineExpr::int(0));
        // Most are never asked for: the next one comes from the heap when it is its turn.
        let none = RoutineExpr::int(0);
        let more = none.less(candidates.get()).and(selected.get().less(RoutineExpr::index(most)));
        w.repeat(more, n as u64, |w| {
            let item = heap.pop(w, candidates);
            let candidate = order.index(w, item);
            let own = corners(w, &candidate);
            let area = w.value(area(own.clone()));
            let own = [&own[..], &[area]].concat();
            let side = |k: usize, i: RoutineExpr| [at, &[RoutineExpr::index(k), i]].concat();
            let hit = |i: RoutineExpr| [at, &[i]].concat();
            let free = w.local(DType::Bool);
            w.set(free, RoutineExpr::bool(true));
            let filled = (selected.get() + RoutineExpr::index(BLOCK - 1)) / RoutineExpr::index(BLOCK);
            let filled = filled.max(RoutineExpr::int(0)).min(RoutineExpr::index(most.div_ceil(BLOCK)));
            w.for_each(RoutineExpr::int(0), filled, |w, block| {
                w.when(free.get(), |w| {
                    let start = w.value(block * RoutineExpr::index(BLOCK));
                    w.for_each(RoutineExpr::int(0), RoutineExpr::index(BLOCK), |w, i| {
                        let other = w.value(start.clone() + i.clone());
                        let that: Vec<RoutineExpr> =
                            (0..SIDES).map(|k| w.load(sides, &side(k, other.clone()))).collect();
                        let shares = overlap(w, &own, &that, iou.clone());
                        let [one, none] = [1.0, 0.0].map(|v| RoutineExpr::constant(DType::F32, v));
                        w.store(hits, &hit(i), shares.select(one, none));
                    });
                    let mut all: Vec<RoutineExpr> =
                        (0..BLOCK).map(|i| w.load(hits, &hit(RoutineExpr::index(i)))).collect();
                    while all.len() > 1 {
                        let half = all.split_off(all.len() / 2);
                        all = all.into_iter().zip(half).map(|(a, b)| a + b).collect();
                    }
                    for hits in all {
                        w.set(free, hits.equals(RoutineExpr::constant(DType::F32, 0.0)));
                    }
                });
            });
            w.when(free.get(), |w| {
                let number = selected.get();
                let place = number.clone().binary(BinaryFn::BitAnd, RoutineExpr::index(BLOCK - 1));
                // A block begins with boxes that share nothing.
                w.when(place.equals(RoutineExpr::int(0)), |w| {
                    w.nested(&[SIDES, BLOCK], Vec::new(), |w, empty| {
                        let i = number.clone() + empty[1].clone();
                        let to = [at, &[empty[0].clone(), i]].concat();
                        w.store(sides, &to, RoutineExpr::constant(DType::F32, 0.0));
                    });
                });
                w.store(kept, &[at, std::slice::from_ref(&number)].concat(), candidate);
                for (k, v) in own.into_iter().enumerate() {
                    w.store(sides, &side(k, number.clone()), v);
                }
                w.set(selected, number + RoutineExpr::int(1));
            });
        });
        w.store(counts, at, selected.get());
    });
    l.push_routine(w)
}

/// Scores of which one question finds out that none counts.
const TAKEN: usize = 8;

/// Boxes that a candidate is compared with at once.
const BLOCK: usize = 16;

/// What is kept of a box: its corners and its area.
const SIDES: usize = 5;

fn area([top, left, bottom, right]: [RoutineExpr; 4]) -> RoutineExpr {
    (bottom - top) * (right - left)
}

/// Whether two boxes share more of their union than a threshold. Boxes without area share nothing.
fn overlap(w: &mut Writer, a: &[RoutineExpr], b: &[RoutineExpr], threshold: RoutineExpr) -> RoutineExpr {
    let ([top_a, left_a, bottom_a, right_a, area_a], [top_b, left_b, bottom_b, right_b, area_b]) = (a, b)
    else {
        return RoutineExpr::bool(false);
    };
    let least = |a: &RoutineExpr, b: &RoutineExpr| a.clone().min(b.clone());
    let most = |a: &RoutineExpr, b: &RoutineExpr| a.clone().max(b.clone());
    let height = w.value(least(bottom_a, bottom_b) - most(top_a, top_b));
    let width = w.value(least(right_a, right_b) - most(left_a, left_b));
    let shared = w.value(height.clone() * width.clone());
    let all = w.value(area_a.clone() + area_b.clone() - shared.clone());
    let positive = |e: RoutineExpr| RoutineExpr::constant(DType::F32, 0.0).less(e);
    [height, width, area_a.clone(), area_b.clone(), all.clone()]
        .into_iter()
        .map(positive)
        .fold((shared / all).binary(BinaryFn::Greater, threshold), RoutineExpr::and)
}
