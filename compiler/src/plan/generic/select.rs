//! Operators whose data decide how large their results are: first zeros everywhere, then what there is, then how many.

use nnc_ir::DType;
use nnc_ir::op::{Compress, Prefix, Unique};

use super::rank::{Heap, below};
use super::{GenericError, Lowering, copy};
use crate::code::routine::write::Mem;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};
use crate::code::view::View;

impl Lowering<'_> {
    pub(super) fn result(&self, index: usize) -> Result<View, GenericError> {
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
