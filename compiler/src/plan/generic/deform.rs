//! DeformConv: a routine reads the image where the offsets point, once for each channel and tap; what sums them up is a product of
//! matrices (`deform_step`), or a nest where weights are computed.
//!
//! ```text
//!   image, offset, mask ─ routine ─▶ samples [N, positions…, groups, kernel…, C / groups] ─▶ Σ over taps and channels of w · sample
//! ```

use std::ops::{Add, Mul};

use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::{DeformConv, Unary};
use nnc_ir::{DType, Tensor, TensorType};

use super::copy::{channels_innermost, copy};
use super::draft::NestDraft;
use super::reduce::sum;
use super::window::{grouped, push};
use super::{GenericError, Lowering, OpenStep};
use crate::code::nest;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};
use crate::code::view::View;

/// Operations that find a place and its four neighbours.
const WORK: usize = 48;

/// How the samples of a deformable convolution lie: what one sum takes is side by side.
pub(in crate::plan) struct SampleLayout {
    images: usize,
    positions: [usize; 2],
    groups: usize,
    kernel: [usize; 2],
    /// Channels of a group.
    channels: usize,
}

impl SampleLayout {
    /// Of a convolution of an image of shape `x` with a result of shape `y`.
    pub(in crate::plan) fn of(op: &DeformConv, x: &[usize], y: &[usize]) -> SampleLayout {
        SampleLayout {
            images: x[0],
            positions: [y[2], y[3]],
            groups: op.groups,
            kernel: [op.window.kernel[0], op.window.kernel[1]],
            channels: x[1] / op.groups.max(1),
        }
    }

    /// `[N, positions…, groups, kernel…, C / groups]`
    pub(in crate::plan) fn shape(&self) -> Vec<usize> {
        let SampleLayout { images, positions: [p, q], groups, kernel: [r, s], channels } = *self;
        vec![images, p, q, groups, r, s, channels]
    }

    /// Pictures, rows and columns of positions.
    pub(in crate::plan) fn rows(&self) -> [usize; 3] {
        [self.images, self.positions[0], self.positions[1]]
    }

    /// What one sum takes.
    pub(in crate::plan) fn depth(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }
}

/// The samples of a deformable convolution, as [`super::open`] lowers operators.
pub(in crate::plan) fn samples(
    op: &DeformConv,
    layout: &SampleLayout,
    inputs: &[Option<View>],
    samples: &View,
    temp: &mut dyn FnMut(TensorType) -> View,
    constant: &mut dyn FnMut(Tensor) -> View,
) -> Result<Vec<OpenStep>, GenericError> {
    let (steps, extra) = (Vec::new(), Vec::new());
    let outputs = std::slice::from_ref(samples);
    let mut lowering =
        Lowering { op: "DeformConv", inputs, outputs, temp, constant, records: None, steps, extra };
    let l = &mut lowering;
    let x = l.input(DeformConv::X)?;
    let x = channels_innermost(l, &x)?;
    sample(l, op, layout, &x, samples)?;
    lowering.finish()
}

pub(super) fn deform_conv(l: &mut Lowering<'_>, op: &DeformConv) -> Result<(), GenericError> {
    let (x, y) = (l.input(DeformConv::X)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    let layout = SampleLayout::of(op, &x.shape, &y.shape);
    let samples = l.temp(x.dtype, &layout.shape());
    if !samples.is_empty() {
        let x = channels_innermost(l, &x)?;
        sample(l, op, &layout, &x, &samples)?;
    }
    contract(l, op, &samples, &y)
}

/// The image at every tap of every position, times the mask. Channels that have their offsets, and the group that sums them up, in
/// common go together.
fn sample(
    l: &mut Lowering<'_>,
    op: &DeformConv,
    layout: &SampleLayout,
    x: &View,
    samples: &View,
) -> Result<(), GenericError> {
    let offset = l.input(DeformConv::OFFSET)?;
    let dtype = samples.dtype;
    let window = &op.window;
    let (height, width) = (x.shape[2], x.shape[3]);
    let parts = common_parts(op.groups, op.offset_groups);
    let per_part = x.shape[1] / parts;
    let mut w = Writer::new();
    let (image, offsets) = (w.memory(x, MemoryUse::Read), w.memory(&offset, MemoryUse::Read));
    let mask = l.optional(DeformConv::MASK).map(|mask| w.memory(&mask, MemoryUse::Read));
    let to = w.memory(samples, MemoryUse::Write);
    let axes = [&layout.rows()[..], &layout.kernel, &[parts]].concat();
    w.over(&axes, WORK + 16 * per_part, |w, at| {
        let [batch, row, column, kernel_row, kernel_column, part] = at else { return };
        let of = |groups: usize| part.clone() / RoutineExpr::index(parts / groups);
        let (group, offset_group) = (w.value(of(op.groups)), w.value(of(op.offset_groups)));
        let first = part.clone() * RoutineExpr::index(per_part);
        let within = w.value(first.clone() - group.clone() * RoutineExpr::index(layout.channels));
        let tap = kernel_row.clone() * RoutineExpr::index(window.kernel[1]) + kernel_column.clone();
        let moved = w.value(offset_group * RoutineExpr::index(op.taps()) + tap);
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
        // Where a corner is outside, something is read all the same, which may be no number.
        let all = corners.iter().map(|(.., inside)| inside.clone());
        let all = all.reduce(RoutineExpr::and).unwrap_or(RoutineExpr::bool(true));
        let channels = |w: &mut Writer, all_inside: bool| {
            w.for_each(RoutineExpr::int(0), RoutineExpr::index(per_part), |w, c| {
                let channel = w.value(first.clone() + c.clone());
                let mut sum: Option<RoutineExpr> = None;
                for (i, j, weight, inside) in &corners {
                    let element = w.load(image, &[batch.clone(), channel.clone(), i.clone(), j.clone()]);
                    let mut term = element * weight.clone();
                    if !all_inside {
                        term = inside.clone().select(term, RoutineExpr::constant(dtype, 0.0));
                    }
                    sum = Some(w.value(match sum {
                        Some(sum) => sum + term,
                        None => term,
                    }));
                }
                let mut sum = sum.unwrap_or(RoutineExpr::constant(dtype, 0.0));
                if let Some(scale) = &scale {
                    sum = sum * scale.clone();
                }
                let within = w.value(within.clone() + c);
                let target = [batch, row, column, &group, kernel_row, kernel_column, &within];
                w.store(to, &target.map(Clone::clone), sum);
            });
        };
        w.choose(all, |w| channels(w, true), |w| channels(w, false));
    });
    l.push_routine(w)
}

/// Into how many parts channels fall that belong to one group of each kind.
fn common_parts(groups: usize, others: usize) -> usize {
    let (mut divisor, mut rest) = (groups.max(1), others.max(1));
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    groups.max(1) * (others.max(1) / divisor)
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
    let from =
        View { shape: all.clone(), strides: vec![s[0], s[3], 0, s[1], s[2], s[4], s[5], s[6]], ..*samples };
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
