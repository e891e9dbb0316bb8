//! Operators that write where data point: a copy, into which updates go one after another.

use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::{ScatterElements, ScatterNd, ScatterReduction};

use super::gather::index_at;
use super::{GenericError, Lowering, copy};
use crate::code::routine::write::Mem;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};
use crate::code::view::View;

/// Operations for each update.
const WORK: usize = 6;

/// The result and the updates as memory: as they are where they are reduced, as bits where they are moved.
fn memory(w: &mut Writer, reduction: ScatterReduction, updates: &View, y: &View) -> (Mem, Mem) {
    match reduction {
        ScatterReduction::Replace => (w.moved(updates, MemoryUse::Read), w.moved(y, MemoryUse::Update)),
        _ => (w.memory(updates, MemoryUse::Read), w.memory(y, MemoryUse::Update)),
    }
}

/// Puts an update where it belongs; one outside of the result is left out, as every such store is.
fn put(w: &mut Writer, reduction: ScatterReduction, to: Mem, at: &[RoutineExpr], update: RoutineExpr) {
    let function = match reduction {
        ScatterReduction::Replace => return w.store(to, at, update),
        ScatterReduction::Add => BinaryFn::Add,
        ScatterReduction::Mul => BinaryFn::Mul,
        ScatterReduction::Max => BinaryFn::Max,
        ScatterReduction::Min => BinaryFn::Min,
    };
    let old = w.load(to, at);
    w.store(to, at, old.binary(function, update));
}

pub(super) fn scatter_elements(l: &mut Lowering<'_>, op: &ScatterElements) -> Result<(), GenericError> {
    let (x, indices, updates, y) = (l.input(0)?, l.input(1)?, l.input(2)?, l.output()?);
    copy::copy(l, &x, &y)?;
    if indices.is_empty() || y.is_empty() {
        return Ok(());
    }
    // Updates that differ in another axis never meet.
    let mut others = indices.shape.clone();
    let along = others.remove(op.axis);
    let mut w = l.follower();
    let at_ = w.memory(&indices, MemoryUse::Read);
    let (from, to) = memory(&mut w, op.reduction, &updates, &y);
    w.over(&others, WORK * along, |w, others| {
        w.for_each(RoutineExpr::int(0), RoutineExpr::index(along), |w, i| {
            let mut at = others.to_vec();
            at.insert(op.axis, i);
            let (index, update) = (index_at(w, at_, &at, y.shape[op.axis]), w.load(from, &at));
            at[op.axis] = index;
            put(w, op.reduction, to, &at, update);
        });
    });
    l.push_follower(w, vec![op.axis])
}

pub(super) fn scatter_nd(l: &mut Lowering<'_>, op: &ScatterNd) -> Result<(), GenericError> {
    let (x, indices, updates, y) = (l.input(0)?, l.input(1)?, l.input(2)?, l.output()?);
    copy::copy(l, &x, &y)?;
    if updates.is_empty() || y.is_empty() {
        return Ok(());
    }
    let outer = indices.rank() - 1;
    let depth = indices.shape[outer];
    let mut w = l.follower();
    let at_ = w.memory(&indices, MemoryUse::Read);
    let (from, to) = memory(&mut w, op.reduction, &updates, &y);
    // Any two updates may meet: all by one unit, in order.
    w.nested(&indices.shape[..outer], Vec::new(), |w, tuple| {
        let mut target = Vec::new();
        for i in 0..depth {
            target.push(index_at(w, at_, &[tuple, &[RoutineExpr::index(i)]].concat(), y.shape[i]));
        }
        w.nested(&y.shape[depth..], Vec::new(), |w, slice| {
            let update = w.load(from, &[tuple, slice].concat());
            put(w, op.reduction, to, &[&target, slice].concat(), update);
        });
    });
    l.push_follower(w, (0..depth).collect())
}
