//! Operators that read where data point: an index for each slice or element of the result, as the data say.

use nnc_ir::DType;
use nnc_ir::op::{GatherAt, GatherElements, GatherNd, Inside, Outside};

use super::{GenericError, Lowering};
use crate::code::routine::write::Mem;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};

/// Operations for each element.
const WORK: usize = 4;

/// The index at a position of a tensor of indices, as `i64` from the start of an axis: negative ones count from its end. One that
/// lies outside is told of.
pub(super) fn index_at(w: &mut Writer, indices: Mem, position: &[RoutineExpr], extent: usize) -> RoutineExpr {
    let index = w.load(indices, position);
    let index = w.value(index.cast(DType::I64));
    let shape = w.shape(indices).to_vec();
    w.check_index(&index, &RoutineExpr::index(extent), position, &shape);
    from_start(w, index, RoutineExpr::index(extent))
}

/// The same, of an element that is read. Where an index that lies outside is told of, it makes no difference which element it is then,
/// and one comparison keeps it inside.
fn read_at(w: &mut Writer, indices: Mem, position: &[RoutineExpr], extent: usize) -> RoutineExpr {
    let index = index_at(w, indices, position, extent);
    if !w.tells_of_indices() || extent == 0 {
        return index;
    }
    let last = RoutineExpr::constant(DType::U64, (extent - 1) as f64);
    w.value(index.cast(DType::U64).min(last).cast(DType::I64))
}

fn from_start(w: &mut Writer, index: RoutineExpr, extent: RoutineExpr) -> RoutineExpr {
    let from_end = index.clone() + extent;
    w.value(index.clone().less(RoutineExpr::int(0)).select(from_end, index))
}

/// Indices from the start of what is there.
pub(super) fn inside(l: &mut Lowering<'_>, op: &Inside) -> Result<(), GenericError> {
    let (indices, extents, y) = (l.input(0)?, l.input(1)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    let axes = op.axis..op.axis + extents.shape.first().copied().unwrap_or(1);
    let extents = l.broadcast(&extents, &y.shape)?;
    let there = match l.optional(2) {
        Some(there) => Some(l.broadcast(&there, &y.shape)?),
        None => None,
    };
    let told = l.records.is_some();
    let mut w = l.follower();
    let (from, extents) = (w.memory(&indices, MemoryUse::Read), w.memory(&extents, MemoryUse::Read));
    let (there, to) = (there.map(|there| w.memory(&there, MemoryUse::Read)), w.memory(&y, MemoryUse::Write));
    let zero = || RoutineExpr::int(0);
    w.over(&y.shape, WORK, |w, at| {
        let extent = w.load(extents, at);
        let extent = w.value(extent.max(zero()));
        let index = w.load(from, at);
        let index = w.value(index.cast(DType::I64));
        let resolve = |w: &mut Writer| {
            if told {
                w.check_index(&index, &extent, at, &y.shape);
            }
            let found = from_start(w, index.clone(), extent.clone());
            let found = match op.outside {
                Outside::Nearest => found.min(extent.clone() - RoutineExpr::int(1)).max(zero()),
                Outside::Nowhere => {
                    let largest = if y.dtype == DType::I32 { i64::from(i32::MAX) } else { i64::MAX };
                    let is_there = zero()
                        .less(found.clone() + RoutineExpr::int(1))
                        .and(found.clone().less(extent.clone()));
                    is_there.select(found, RoutineExpr::int(largest))
                }
            };
            w.store(to, at, found.cast(y.dtype));
        };
        match there {
            None => resolve(w),
            Some(there) => {
                let is_there = w.load(there, at);
                w.choose(is_there, resolve, |w| w.store(to, at, zero().cast(y.dtype)));
            }
        }
    });
    l.push_follower(w, axes.collect())
}

pub(super) fn gather_at(l: &mut Lowering<'_>, op: &GatherAt) -> Result<(), GenericError> {
    let (x, indices, y) = (l.input(0)?, l.input(1)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    let (axis, rank, extent) = (op.axis, indices.rank(), x.shape[op.axis]);
    let mut w = l.follower();
    let (from, at_, to) =
        (w.moved(&x, MemoryUse::Read), w.memory(&indices, MemoryUse::Read), w.moved(&y, MemoryUse::Write));
    let (outer, slice) = y.shape.split_at(axis + rank);
    w.over(outer, WORK + slice.iter().product::<usize>(), |w, at| {
        let index = read_at(w, at_, &at[axis..], extent);
        w.nested(slice, Vec::new(), |w, rest| {
            let element = w.load(from, &[&at[..axis], std::slice::from_ref(&index), rest].concat());
            w.store(to, &[at, rest].concat(), element);
        });
    });
    l.push_follower(w, vec![axis])
}

pub(super) fn gather_elements(l: &mut Lowering<'_>, op: &GatherElements) -> Result<(), GenericError> {
    let (x, indices, y) = (l.input(0)?, l.input(1)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    let mut w = l.follower();
    let (from, at_, to) =
        (w.moved(&x, MemoryUse::Read), w.memory(&indices, MemoryUse::Read), w.moved(&y, MemoryUse::Write));
    w.over(&y.shape, WORK, |w, at| {
        let mut source = at.to_vec();
        source[op.axis] = read_at(w, at_, at, x.shape[op.axis]);
        let element = w.load(from, &source);
        w.store(to, at, element);
    });
    l.push_follower(w, vec![op.axis])
}

pub(super) fn gather_nd(l: &mut Lowering<'_>, op: &GatherNd) -> Result<(), GenericError> {
    let (x, indices, y) = (l.input(0)?, l.input(1)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    let (batch, outer) = (op.batch_dims, indices.rank() - 1);
    let depth = indices.shape[outer];
    let mut w = l.follower();
    let (from, at_, to) =
        (w.moved(&x, MemoryUse::Read), w.memory(&indices, MemoryUse::Read), w.moved(&y, MemoryUse::Write));
    let (tuples, slice) = y.shape.split_at(outer);
    w.over(tuples, WORK + depth + slice.iter().product::<usize>(), |w, at| {
        let mut source = at[..batch].to_vec();
        for i in 0..depth {
            source.push(read_at(w, at_, &[at, &[RoutineExpr::index(i)]].concat(), x.shape[batch + i]));
        }
        w.nested(slice, Vec::new(), |w, rest| {
            let element = w.load(from, &[source.as_slice(), rest].concat());
            w.store(to, &[at, rest].concat(), element);
        });
    });
    l.push_follower(w, (batch..batch + depth).collect())
}
