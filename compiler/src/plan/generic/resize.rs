//! Resize: a gather for the nearest modes, else weighted sums over a few taps along each resized axis.
//!
//! ```text
//!   y[i, j] = Σ_s Σ_t  v[i, s] · w[j, t] · x[row[i, s], column[j, t]]
//! ```
//!
//! Rows and columns come from constant tables of byte offsets, weights are constant operands. Both were computed by
//! the operator itself, so that coordinates are those of the evaluator to the bit.

use std::ops::Mul;

use nnc_ir::op::{Resize, ResizeMode};
use nnc_ir::{DType, Tensor};

use super::copy::{part, picked, with_table};
use super::draft::NestDraft;
use super::reduce::sum;
use super::{GenericError, Lowering};
use crate::code::nest::{Expr, computed};
use crate::code::view::View;

pub(super) fn resize(l: &mut Lowering<'_>, op: &Resize) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    resampled(l, op, &x, &y)?;
    // What a crop has outside of the input was given some element or other; it is filled at last.
    let Some(crop) = &op.crop else { return Ok(()) };
    let value = Expr::constant(y.dtype, crop.extrapolation.into());
    for axis in 0..x.rank() {
        let outside = op.outside(axis, x.shape[axis]);
        for run in outside.chunk_by(|a, b| a + 1 == *b) {
            let Some(&first) = run.first() else { continue };
            let stripe = part(l, &y, axis, first, 1, run.len())?;
            l.push(NestDraft::map(&[], &stripe, value.clone()))?;
        }
    }
    Ok(())
}

fn resampled(l: &mut Lowering<'_>, op: &Resize, x: &View, y: &View) -> Result<(), GenericError> {
    let taps: Vec<_> = (0..x.rank()).map(|axis| op.taps(axis, x.shape[axis])).collect();
    // Axes along which every element is itself.
    let resized = |axis: &usize| {
        taps[*axis].len() != x.shape[*axis]
            || taps[*axis].iter().enumerate().any(|(i, t)| t.iter().any(|t| t.index != i && t.weight != 0.0))
    };
    let axes: Vec<usize> = (0..x.rank()).filter(resized).collect();
    if let ResizeMode::Nearest(_) = op.mode {
        let sources = |axis: usize| taps[axis].iter().filter_map(|t| t.first().map(|t| t.index)).collect();
        let axes: Vec<(usize, Vec<usize>)> = axes.iter().map(|&a| (a, sources(a))).collect();
        return picked(l, x, y, &axes);
    }
    let rank = y.rank();
    let counts: Vec<usize> =
        axes.iter().map(|&a| taps[a].iter().map(Vec::len).max().unwrap_or(1).max(1)).collect();
    let mut from = View { shape: [&y.shape[..], &counts].concat(), ..x.clone() };
    from.strides.resize(rank + counts.len(), 0);
    let mut operands = vec![from.clone()];
    let mut value = Expr::Operand(0);
    let mut tables = Vec::new();
    for (i, (&axis, &count)) in axes.iter().zip(&counts).enumerate() {
        let mut offsets = Vec::new();
        let mut weights = Vec::new();
        for element in &taps[axis] {
            for tap in 0..count {
                // Elements of fewer taps have the rest with weight 0, at an index that counts.
                let (index, weight) = match (element.get(tap), element.first()) {
                    (Some(t), _) => (t.index, t.weight),
                    (None, first) => (first.map_or(0, |t| t.index), 0.0),
                };
                let offset = i64::try_from(index).ok().and_then(|i| i.checked_mul(x.strides[axis]));
                let offset = offset.and_then(|o| i32::try_from(o).ok());
                offsets.push(offset.ok_or_else(|| l.unsupported("tensors of more than 2 GiB"))?);
                weights.push(weight);
            }
        }
        from.strides[axis] = 0;
        tables.push((offsets, [(axis, 4 * count as i64), (rank + i, 4)]));
        let dtype = computed(x.dtype);
        let tensor = match dtype {
            DType::F64 => Tensor::new([weights.len()], &weights),
            _ => Tensor::new([weights.len()], &weights.iter().map(|&w| w as f32).collect::<Vec<f32>>()),
        };
        let mut weight = l.constant(tensor.map_err(nnc_ir::OpError::from)?);
        let size = dtype.bytes() as i64;
        weight.shape = from.shape.clone();
        weight.strides = vec![0; from.shape.len()];
        weight.strides[axis] = size * count as i64;
        weight.strides[rank + i] = size;
        operands.push(weight);
        value = value.mul(Expr::Operand(i + 1));
    }
    operands[0] = from;
    let mut draft = NestDraft::reduce(&operands, y, &counts, vec![sum(x.dtype, value)], Expr::Acc(0));
    for (offsets, strides) in tables {
        draft = with_table(l, draft, 0, &offsets, &strides, rank + counts.len())?;
    }
    l.push(draft)
}
