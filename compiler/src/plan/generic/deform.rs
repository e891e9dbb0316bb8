//! DeformConv: a routine reads the image where the offsets point, once for each channel and tap; a nest sums.
//!
//! ```text
//!   image, offset, mask ─ routine ─▶ samples [N, positions…, kernel…, C] ─ nest ─▶ Σ over taps and C / groups of w · sample
//! ```

use std::ops::{Add, Mul};

use nnc_ir::DType;
use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::{DeformConv, Unary};

use super::copy::{channels_innermost, copy};
use super::draft::NestDraft;
use super::reduce::sum;
use super::window::{grouped, push};
use super::{GenericError, Lowering};
use crate::code::nest;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};
use crate::code::view::View;

/// Operations that find a place and its four neighbours.
const WORK: usize = 48;

pub(super) fn deform_conv(l: &mut Lowering<'_>, op: &DeformConv) -> Result<(), GenericError> {
    let (x, y) = (l.input(DeformConv::X)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    // [N, C, kernel…, positions…], with what one sum takes side by side: kernel and channels.
    let [n, c, p, q] = [x.shape[0], x.shape[1], y.shape[2], y.shape[3]];
    let [r, s] = [op.window.kernel[0], op.window.kernel[1]];
    let samples = l.temp(x.dtype, &[n, p, q, r, s, c]);
    let samples = samples.permuted(&[0, 5, 3, 4, 1, 2]).ok_or_else(|| l.misfit("no such axes"))?;
    if !samples.is_empty() {
        let x = channels_innermost(l, &x)?;
        sample(l, op, &x, &samples)?;
    }
    contract(l, op, &samples, &y)
}

/// The image at every tap of every position, times the mask.
fn sample(l: &mut Lowering<'_>, op: &DeformConv, x: &View, samples: &View) -> Result<(), GenericError> {
    let offset = l.input(DeformConv::OFFSET)?;
    let dtype = samples.dtype;
    let window = &op.window;
    let (height, width) = (x.shape[2], x.shape[3]);
    let per_group = x.shape[1] / op.offset_groups;
    let mut w = Writer::new();
    let (image, offsets) = (w.memory(x, MemoryUse::Read), w.memory(&offset, MemoryUse::Read));
    let mask = l.optional(DeformConv::MASK).map(|mask| w.memory(&mask, MemoryUse::Read));
    let to = w.memory(samples, MemoryUse::Write);
    let axes = [&[x.shape[0]], &samples.shape[4..], &samples.shape[2..4], &[op.offset_groups]].concat();
    w.over(&axes, WORK + 16 * per_group, |w, at| {
        let [batch, row, column, kernel_row, kernel_column, group] = at else { return };
        let tap = kernel_row.clone() * RoutineExpr::index(window.kernel[1]) + kernel_column.clone();
        let moved = w.value(group.clone() * RoutineExpr::index(op.taps()) + tap);
        let mut place = |axis: usize, tap: &RoutineExpr, position: &RoutineExpr| {
            let fixed = position.clone() * RoutineExpr::index(window.strides[axis])
                + tap.clone() * RoutineExpr::index(window.dilations[axis])
                - RoutineExpr::int(window.pads_begin[axis] as i64);
            let channel = moved.clone() * RoutineExpr::int(2) + RoutineExpr::index(axis);
            let by = w.load(offsets, &[batch.clone(), channel, row.clone(), column.clone()]);
            w.value(fixed.cast(dtype) + by)
        };
        let (y, x) = (place(0, kernel_row, row), place(1, kernel_column, column));
        // The two neighbours along each axis: index, weight, and whether it is inside.
        let mut neighbours = |at: RoutineExpr, extent: usize| {
            let low = w.value(at.clone().unary(Unary::Floor));
            let part = w.value(at - low.clone());
            let one = RoutineExpr::constant(dtype, 1.0);
            [(low.clone(), one.clone() - part.clone()), (low + one, part)].map(|(at, weight)| {
                let at = w.value(at);
                let inside = RoutineExpr::constant(dtype, 0.0)
                    .binary(BinaryFn::LessOrEqual, at.clone())
                    .and(at.clone().less(RoutineExpr::constant(dtype, extent as f64)));
                (w.value(at.cast(DType::I64)), w.value(weight), w.value(inside))
            })
        };
        let (rows, columns) = (neighbours(y, height), neighbours(x, width));
        let mut corners = Vec::new();
        for (i, by_row, inside_row) in &rows {
            for (j, by_column, inside_column) in &columns {
                let weight = w.value(by_row.clone() * by_column.clone());
                let inside = w.value(inside_row.clone().and(inside_column.clone()));
                corners.push((i.clone(), j.clone(), weight, inside));
            }
        }
        let scale =
            mask.map(|mask| w.load(mask, &[batch.clone(), moved.clone(), row.clone(), column.clone()]));
        w.for_each(RoutineExpr::int(0), RoutineExpr::index(per_group), |w, c| {
            let channel = w.value(group.clone() * RoutineExpr::index(per_group) + c);
            let mut sum = RoutineExpr::constant(dtype, 0.0);
            for (i, j, weight, inside) in &corners {
                let element = w.load(image, &[batch.clone(), channel.clone(), i.clone(), j.clone()]);
                let term = inside.clone().select(element * weight.clone(), RoutineExpr::constant(dtype, 0.0));
                sum = w.value(sum + term);
            }
            if let Some(scale) = scale {
                sum = sum * scale;
            }
            let target = [batch, &channel, kernel_row, kernel_column, row, column].map(Clone::clone);
            w.store(to, &target, sum);
        });
    });
    l.push_routine(w)
}

/// Loops [N, groups, M / groups, positions…], reduction [kernel…, C / groups].
fn contract(l: &mut Lowering<'_>, op: &DeformConv, samples: &View, y: &View) -> Result<(), GenericError> {
    // Weights of a sum side by side, in the order of its samples.
    let given = l.input(DeformConv::W)?;
    let [m, c, r, s] = [0, 1, 2, 3].map(|axis| given.shape[axis]);
    let weights = l.temp(given.dtype, &[m, r, s, c]);
    let weights = weights.permuted(&[0, 3, 1, 2]).ok_or_else(|| l.misfit("no such axes"))?;
    copy(l, &given, &weights)?;
    let w = grouped(&weights, 0, op.groups);
    let written = grouped(y, 1, op.groups);
    let inner = w.shape[2];
    let all = [&written.shape[..], &op.window.kernel, &[inner]].concat();
    let s = &samples.strides;
    let from = View {
        shape: all.clone(),
        strides: vec![s[0], s[1] * inner as i64, 0, s[4], s[5], s[2], s[3], s[1]],
        ..*samples
    };
    let [group, row, channel, up, along] = [0, 1, 2, 3, 4].map(|axis| w.strides[axis]);
    let weights = View { shape: all, strides: vec![0, group, row, 0, 0, up, along, channel], ..w };
    let mut operands = vec![from, weights];
    let (v, acc) = (nest::Expr::Operand, nest::Expr::Acc(0));
    let terms = vec![sum(y.dtype, v(0).mul(v(1)))];
    let value = match l.optional(DeformConv::B) {
        Some(b) => {
            let stride = b.strides.first().copied().unwrap_or(0);
            let strides = vec![0, stride * written.shape[2] as i64, stride, 0, 0];
            let bias = View { shape: written.shape.clone(), strides, ..b };
            acc.add(push(&mut operands, bias))
        }
        None => acc,
    };
    let reduced = [&op.window.kernel[..], &[inner]].concat();
    l.push(NestDraft::reduce(&operands, &written, &reduced, terms, value))
}
