//! Transposed convolution without wasted taps, and Col2Im, which is one without weights.
//!
//! Element `o` of the result gets tap `k` from element `i` of the image where `o = i · s + k · d - p`: only every
//! `s`-th tap. So the result is cut into phases, `o = s · q + f`; in each the taps that meet form a smaller kernel, and
//! the phase is an ordinary correlation, written with stride `s`:
//!
//! ```text
//!   stride 2, kernel 4, pad 1      phase 0:  y[2q]     = w[1]·x[q] + w[3]·x[q - 1]
//!                                  phase 1:  y[2q + 1] = w[0]·x[q + 1] + w[2]·x[q]
//! ```
//!
//! Where kernel and stride are equal and nothing is cut off, every phase has one tap, and all phases are one nest with
//! the tap as a loop: the matrix product that PP-OCR's 2 × 2 heads are.

use std::ops::{Add, Mul};

use nnc_ir::DType;
use nnc_ir::op::{Col2Im, ConvTranspose, Unary, Window};

use super::draft::NestDraft;
use super::reduce::sum;
use super::window::{grouped, packed, push};
use super::{GenericError, Lowering};
use crate::code::nest::{Bound, Expr};
use crate::code::view::{View, dense_strides};

/// Phases beyond which a convolution is refused: each is a function of its own.
const MAX_PHASES: usize = 1024;

/// A spatial axis while it is brought into the form of a correlation.
struct CorrelationAxis {
    /// Elements of the result that are made.
    positions: usize,
    /// Taps that meet.
    taps: usize,
    /// Element of the image that tap 0 of position 0 touches; it grows by 1 a position and by `step` a tap.
    base: i64,
    step: i64,
}

/// What is added up.
struct Summed<'a> {
    window: &'a Window,
    /// Whether an element is weighted; else the taps of `w` are distances in the image, whose elements have one for
    /// each tap.
    weighted: bool,
    activation: Option<Unary>,
}

pub(super) fn conv_transpose(l: &mut Lowering<'_>, op: &ConvTranspose) -> Result<(), GenericError> {
    let (x, w, y) = (l.input(0)?, l.input(1)?, l.output()?);
    // [C, M / groups, taps…] as [groups, M / groups, C / groups, taps…]
    let mut w = grouped(&w, 0, op.groups);
    w.shape.swap(1, 2);
    w.strides.swap(1, 2);
    if y.strides[1].abs() <= y.strides[y.rank() - 1].abs() {
        w = packed(l, &w)?;
    }
    phases(l, &Summed { window: &op.window, weighted: true, activation: op.activation }, &x, &w, &y)
}

/// A transposed convolution of one channel a group, whose weights are all 1, but for each tap of another channel.
pub(super) fn col2im(l: &mut Lowering<'_>, op: &Col2Im) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let positions = op.window.positions(&op.image)?;
    let (row, column) = (x.strides[1], x.strides[2]);
    let dense = |shape: &[usize], step: i64| -> Vec<i64> {
        dense_strides(shape, DType::U8).into_iter().map(|s| s * step).collect()
    };
    let channels = y.shape[1];
    let taps = op.window.kernel.iter().product::<usize>() as i64;
    let image = View {
        shape: [&[x.shape[0], channels], &positions[..]].concat(),
        strides: [&[x.strides[0], row * taps], &dense(&positions, column)[..]].concat(),
        ..x
    };
    let w = View {
        offset: 0,
        shape: [&[channels, 1, 1], &op.window.kernel[..]].concat(),
        strides: [&[0, 0, 0], &dense(&op.window.kernel, row)[..]].concat(),
        ..image
    };
    phases(l, &Summed { window: &op.window, weighted: false, activation: None }, &image, &w, &y)
}

fn phases(l: &mut Lowering<'_>, op: &Summed<'_>, x: &View, w: &View, y: &View) -> Result<(), GenericError> {
    let window = op.window;
    let spatial = x.rank() - 2;
    // An axis with one tap a phase is seen as two: the elements of the image, and the taps.
    let whole = |a: usize| {
        window.kernel[a] == window.strides[a]
            && window.dilations[a] == 1
            && window.pads_begin[a] == 0
            && y.shape[a + 2] == x.shape[a + 2] * window.strides[a]
    };
    let phases =
        (0..spatial).filter(|&a| !whole(a)).try_fold(1usize, |n, a| n.checked_mul(window.strides[a]));
    if phases.is_none_or(|n| n > MAX_PHASES) {
        return Err(l.unsupported(format!("strides {:?}, more than {MAX_PHASES} phases", window.strides)));
    }
    phase(l, op, x, w, y, &whole, &mut Vec::new())
}

/// Fixes the phase of one axis after another, then writes the correlation.
fn phase(
    l: &mut Lowering<'_>,
    op: &Summed<'_>,
    x: &View,
    w: &View,
    y: &View,
    whole: &dyn Fn(usize) -> bool,
    axes: &mut Vec<CorrelationAxis>,
) -> Result<(), GenericError> {
    let axis = axes.len();
    let window = op.window;
    if axis == x.rank() - 2 {
        return correlation(l, op, x, w, y, axes, whole);
    }
    let (stride, dilation) = (window.strides[axis], window.dilations[axis]);
    if whole(axis) {
        axes.push(CorrelationAxis { positions: x.shape[axis + 2], taps: 1, base: 0, step: 1 });
        phase(l, op, x, w, y, whole, axes)?;
        axes.pop();
        return Ok(());
    }
    let divisor = gcd(stride, dilation);
    for first in 0..stride.min(y.shape[axis + 2]) {
        let positions = (y.shape[axis + 2] - first).div_ceil(stride);
        let y = super::copy::part(l, y, axis + 2, first, stride as isize, positions)?;
        let target = first as i64 + window.pads_begin[axis] as i64;
        // The first tap with target ≡ tap · dilation (mod stride), then every (stride / divisor)-th.
        let every = stride / divisor;
        let meets = |k: &usize| (target - (*k * dilation) as i64).rem_euclid(stride as i64) == 0;
        let tap = (0..every.min(window.kernel[axis])).find(meets);
        let (w, meeting) = match tap {
            Some(tap) => {
                let taps = (window.kernel[axis] - tap).div_ceil(every);
                let last = tap + (taps - 1) * every;
                // From the last tap, so that the image is walked through forwards.
                let w = super::copy::part(l, w, axis + 3, last, -(every as isize), taps)?;
                let base = (target - (last * dilation) as i64) / stride as i64;
                (w, CorrelationAxis { positions, taps, base, step: (dilation / divisor) as i64 })
            }
            None => {
                let w = super::copy::part(l, w, axis + 3, 0, 1, 0)?;
                (w, CorrelationAxis { positions, taps: 0, base: 0, step: 1 })
            }
        };
        axes.push(meeting);
        phase(l, op, x, &w, &y, whole, axes)?;
        axes.pop();
    }
    Ok(())
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Loops [N, groups, M / groups, positions…, whole taps…], reduction [taps…, C / groups].
fn correlation(
    l: &mut Lowering<'_>,
    op: &Summed<'_>,
    x: &View,
    w: &View,
    y: &View,
    axes: &[CorrelationAxis],
    whole: &dyn Fn(usize) -> bool,
) -> Result<(), GenericError> {
    let spatial = axes.len();
    let (groups, out, inner) = (w.shape[0], w.shape[1], w.shape[2]);
    let positions: Vec<usize> = axes.iter().map(|a| a.positions).collect();
    let wholes: Vec<usize> = (0..spatial).filter(|&a| whole(a)).collect();
    let taps: Vec<usize> = axes.iter().map(|a| a.taps).collect();
    let whole_taps: Vec<usize> = wholes.iter().map(|&a| op.window.kernel[a]).collect();
    let shape = [&[y.shape[0], groups, out], &positions[..], &whole_taps].concat();
    let all = [&shape[..], &taps, &[inner]].concat();

    let result = grouped(y, 1, groups);
    let mut written = View { shape: shape.clone(), strides: result.strides.clone(), ..result };
    for &a in &wholes {
        let stride = result.strides[3 + a];
        written.strides[3 + a] = stride * op.window.strides[a] as i64;
        written.strides.push(stride);
    }
    let none = vec![0; wholes.len()];
    let steps: Vec<i64> = axes.iter().zip(&x.strides[2..]).map(|(a, s)| a.step * s).collect();
    let offset = axes.iter().zip(&x.strides[2..]).fold(x.offset, |o, (a, s)| o + a.base * s);
    let from = View {
        offset,
        shape: all.clone(),
        strides: [
            &[x.strides[0], x.strides[1] * inner as i64, 0],
            &x.strides[2..],
            &none,
            &steps,
            &[x.strides[1]],
        ]
        .concat(),
        ..*x
    };
    let by_whole: Vec<i64> = wholes.iter().map(|&a| w.strides[3 + a]).collect();
    let by_tap: Vec<i64> = (0..spatial).map(|a| if whole(a) { 0 } else { w.strides[3 + a] }).collect();
    let weights = View {
        shape: all.clone(),
        strides: [
            &[0, w.strides[0], w.strides[1]],
            &vec![0; spatial][..],
            &by_whole,
            &by_tap,
            &[w.strides[2]],
        ]
        .concat(),
        ..*w
    };
    let mut value = Expr::Acc(0);
    let (mut operands, term) = if op.weighted {
        (vec![from, weights], Expr::Operand(0).mul(Expr::Operand(1)))
    } else {
        let strides = from.strides.iter().zip(&weights.strides).map(|(a, b)| a + b).collect();
        (vec![View { offset: from.offset + weights.offset, strides, ..from }], Expr::Operand(0))
    };
    let terms = vec![sum(y.dtype, term)];
    if taps.contains(&0) {
        (operands, value) = (Vec::new(), Expr::constant(y.dtype, 0.0));
    }
    if let Some(b) = l.optional(2).filter(|_| op.weighted) {
        let s = b.strides.first().copied().unwrap_or(0);
        let mut strides = vec![0; shape.len()];
        (strides[1], strides[2]) = (s * out as i64, s);
        value = value.add(push(&mut operands, View { shape: shape.clone(), strides, ..b }));
    }
    let value = value.activated(op.activation);
    if taps.contains(&0) {
        return l.push(NestDraft::map(&operands, &written, value));
    }
    let reduced = [&taps[..], &[inner]].concat();
    let mut draft = NestDraft::reduce(&operands, &written, &reduced, terms, value);
    for (a, axis) in axes.iter().enumerate() {
        let extent = x.shape[a + 2] as i64;
        let last = axis.base + axis.positions as i64 - 1 + (axis.taps as i64 - 1) * axis.step;
        if axis.base < 0 || last >= extent {
            let bound = Bound { axis: 3 + a, scale: 1, step: axis.step, base: axis.base, extent };
            draft = draft.bounded(a, bound);
        }
    }
    l.push(draft)
}
