//! Operators that go along an axis step by step.

use nnc_ir::DType;
use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::scan::CumulativeKind;
use nnc_ir::op::{Cumulative, ReverseSequence};

use super::draft::NestDraft;
use super::{GenericError, Lowering};
use crate::code::float::Float;
use crate::code::nest::{Accumulator, Constant, Expr, Fold};
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};
use crate::code::view::View;

pub(super) fn cumulative(l: &mut Lowering<'_>, op: &Cumulative) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    if let Some(draft) = across_rows(op, &x, &y) {
        return l.push(draft);
    }
    let mut others = y.shape.clone();
    let extent = others.remove(op.axis);
    let (function, start) = match op.kind {
        CumulativeKind::Sum => (BinaryFn::Add, 0.0),
        CumulativeKind::Prod => (BinaryFn::Mul, 1.0),
    };
    let mut w = Writer::new();
    let (from, to) = (w.memory(&x, MemoryUse::Read), w.memory(&y, MemoryUse::Write));
    let dtype = w.value_type(from);
    // Long sums of floats lose little in f64.
    let wide = if dtype.is_float() { DType::F64 } else { dtype };
    w.over(&others, extent, |w, others| {
        let sum = w.local(wide);
        w.set(sum, RoutineExpr::constant(wide, start));
        w.for_each(RoutineExpr::int(0), RoutineExpr::index(extent), |w, step| {
            let mut at = others.to_vec();
            at.insert(op.axis, if op.reverse { RoutineExpr::index(extent - 1) - step } else { step });
            let element = w.load(from, &at);
            let with = w.value(sum.get().binary(function, element.cast(wide)));
            let result = if op.exclusive { sum.get() } else { with.clone() };
            w.store(to, &at, result.cast(dtype));
            w.set(sum, with);
        });
    });
    l.push_routine(w)
}

/// The fewest columns that are worth a kernel.
const FEW_COLUMNS: usize = 8;

/// Sums of floats across rows, whose columns go in vectors.
fn across_rows(op: &Cumulative, x: &View, y: &View) -> Option<NestDraft> {
    let rank = x.rank();
    let dense = |axis: usize| {
        axis != op.axis
            && y.shape[axis] >= FEW_COLUMNS
            && [x, y].iter().all(|v| v.strides[axis] == v.dtype.bytes() as i64)
    };
    let floats = Float::of(x.dtype).is_some() && op.kind == CumulativeKind::Sum;
    if !floats || !(0..rank).any(dense) {
        return None;
    }
    let rows: Vec<usize> = (0..rank).filter(|&axis| axis != op.axis).chain([op.axis]).collect();
    let extent = x.shape[op.axis];
    let in_order = |v: &View| match op.reverse {
        true => v.sliced(op.axis, extent - 1, -1, extent)?.permuted(&rows),
        false => v.permuted(&rows),
    };
    let fold = if op.exclusive { Fold::Before } else { Fold::Through };
    let sum = Accumulator { init: Constant::F32(0), fold, value: Expr::Operand(0) };
    NestDraft::rows(&[in_order(x)?], &in_order(y)?, &[extent], vec![sum], Expr::Acc(0)).across_rows()
}

pub(super) fn reverse_sequence(l: &mut Lowering<'_>, op: &ReverseSequence) -> Result<(), GenericError> {
    let (x, lengths, y) = (l.input(0)?, l.input(1)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    let time = y.shape[op.time_axis];
    let mut w = Writer::new();
    let (from, to) = (w.moved(&x, MemoryUse::Read), w.moved(&y, MemoryUse::Write));
    let lengths = w.memory(&lengths, MemoryUse::Read);
    w.over(&y.shape, 4, |w, at| {
        let length = w.load(lengths, &at[op.batch_axis..=op.batch_axis]);
        let length = w.value(length.max(RoutineExpr::int(0)).min(RoutineExpr::index(time)));
        let t = at[op.time_axis].clone();
        let mirrored = length.clone() - RoutineExpr::int(1) - t.clone();
        let mut source = at.to_vec();
        source[op.time_axis] = w.value(t.clone().less(length).select(mirrored, t));
        let element = w.load(from, &source);
        w.store(to, at, element);
    });
    l.push_routine(w)
}
