//! Windows over planes, as a nest goes through them: where each row of windows finds its taps, which of them are inside, and what each is
//! multiplied with. [`window`](super::window) folds them, [`weighted`](super::weighted) sums up products.

use std::ops::Range;

use nnc_ir::op::elementwise::BinaryFn;

use super::line::{Line, has};
use super::{Bound, Constant, Expr, Fold, Nest, Operand, ReduceAxis};
use crate::code::float::Float;
use crate::code::tile::ir::{ByteRange, Int, Vector, at};

/// The most taps of a window, so that programs stay short.
const MOST_TAPS: usize = 256;

/// The most that have factors: each is an instruction of its own, for each row of windows that are taken together.
const MOST_FACTORS: usize = 64;

/// The most columns from the first tap of a window to its last one.
const WIDEST: i64 = 64;

/// The most columns that are kept in scratch of a row.
const MOST_COLUMNS: u32 = 1 << 13;

/// A nest as windows over planes.
pub(super) struct PlaneWindows<'n> {
    pub(super) nest: &'n Nest,
    pub(super) input: Float,
    pub(super) output: Float,
    pub(super) function: BinaryFn,
    /// What is in the place of a column beside the picture.
    pub(super) neutral: u32,
    /// Taps along rows, in columns from the first one.
    pub(super) along: Vec<u32>,
    /// Columns from a window to the next one.
    pub(super) step: u32,
    /// Columns that all windows of a row see together, and those of them that there are.
    pub(super) columns: u32,
    pub(super) inside: Range<u32>,
    /// The axis across rows of which the loop over rows restricts the taps.
    pub(super) bounded: Option<(&'n ReduceAxis, Bound, i64)>,
    /// Bytes to each tap across rows, apart from those.
    pub(super) across: Vec<i64>,
    /// What each tap is multiplied with, if it is.
    pub(super) weights: Option<TapWeights>,
    /// What else the stored value reads.
    pub(super) beside: Vec<Beside>,
}

/// One factor for each tap, the same for all windows of a plane: bytes to it along each axis of taps, which add up.
pub(super) struct TapWeights {
    pub(super) float: Float,
    pub(super) along: Vec<i64>,
    bounded: i64,
    across: Vec<i64>,
}

/// Where a row of windows finds some of its taps: bytes to the row that is read, and to the factors of its taps.
pub(super) struct TapRow {
    pub(super) place: i64,
    pub(super) weights: i64,
}

/// An operand that the stored value reads: an element for each of the result, for each row, for each column, or for all.
pub(super) struct Beside {
    pub(super) float: Float,
    /// Bytes from a row to the next one.
    pub(super) row: i64,
    /// Whether each column has another one.
    pub(super) varies: bool,
}

impl TapWeights {
    /// An operand that is the same for all windows of a plane.
    fn of(operand: &Operand, loops: &[usize]) -> Option<TapWeights> {
        let [.., rows, columns] = operand.strides.get(..loops.len())? else { return None };
        let fits = (*rows, *columns) == (0, 0) && operand.tables.is_empty();
        let float = Float::of(operand.dtype).filter(|_| fits)?;
        Some(TapWeights { float, along: vec![0], bounded: 0, across: vec![0] })
    }
}

impl Nest {
    /// Whether what is summed up are products of the first two operands.
    pub fn weighs(&self) -> bool {
        let product = Expr::Operand(0) * Expr::Operand(1);
        let [accumulator] = self.accumulators.as_slice() else { return false };
        accumulator.fold == Fold::With(BinaryFn::Add) && accumulator.value == product
    }
}

impl<'n> PlaneWindows<'n> {
    pub(super) fn of(nest: &'n Nest) -> Option<PlaneWindows<'n>> {
        let inner = nest.loops.len().checked_sub(1)?;
        let rows = inner.checked_sub(1)?;
        let ([operand, others @ ..], [accumulator]) =
            (nest.operands.as_slice(), nest.accumulators.as_slice())
        else {
            return None;
        };
        let factor = others.first().filter(|_| nest.weighs());
        let others = if factor.is_some() { &others[1..] } else { others };
        let (input, output) = (Float::of(operand.dtype)?, Float::of(nest.result.dtype)?);
        let (Fold::With(function), Constant::F32(neutral)) = (accumulator.fold, accumulator.init) else {
            return None;
        };
        let reads = |e: &Expr, wanted: &dyn Fn(usize) -> bool| {
            let mut reads = false;
            e.walk(&mut |e| reads |= matches!(e, Expr::Operand(i) if wanted(*i)));
            reads
        };
        let folds = matches!(function, BinaryFn::Add | BinaryFn::Min | BinaryFn::Max);
        let computed = has(&accumulator.value, 0)
            && has(&nest.value, 1)
            && !reads(&accumulator.value, &|operand| operand > usize::from(factor.is_some()))
            && !reads(&nest.value, &|operand| operand <= usize::from(factor.is_some()));
        let dense = nest.result.strides[inner] == output.span(1) && operand.tables.is_empty();
        let step = operand.strides[inner] / input.span(1);
        let steps = step > 0 && operand.strides[inner] == step * input.span(1);
        if !(folds && computed && dense && steps && !nest.stores_rows()) {
            return None;
        }
        let beside = others.iter().map(|operand| {
            let fits = operand.is_vector_along(inner) && operand.tables.is_empty();
            let varies = operand.strides[inner] != 0;
            Some(Beside { float: Float::of(operand.dtype)?, row: operand.strides[rows], varies })
                .filter(|_| fits)
        });
        let weights = match factor {
            Some(factor) => Some(TapWeights::of(factor, &nest.loops)?),
            None => None,
        };
        let mut windows = PlaneWindows {
            nest,
            weights,
            beside: beside.collect::<Option<Vec<Beside>>>()?,
            input,
            output,
            function,
            neutral,
            along: vec![0],
            step: step.try_into().ok()?,
            columns: 0,
            inside: 0..0,
            bounded: None,
            across: vec![0],
        };
        let span = (i64::try_from(nest.loops[inner]).ok()? - 1).checked_mul(step)?;
        let (mut columns, mut bound) = (span + 1, None);
        for (r, axis) in nest.reduce.iter().enumerate() {
            let (stride, extent) = (operand.strides[nest.loops.len() + r], i64::try_from(axis.extent).ok()?);
            let apart = stride / input.span(1);
            let reach = apart.checked_mul(extent - 1)?;
            let last = r + 1 == nest.reduce.len();
            let is_along = apart > 0 && apart * input.span(1) == stride && reach <= WIDEST;
            let factors = factor.map_or(0, |factor| factor.strides[nest.loops.len() + r]);
            match axis.bound {
                Some(b) if b.axis == inner => {
                    if !(last && is_along && b.scale == step && b.step == apart) {
                        return None;
                    }
                    (columns, bound) = (span + reach + 1, Some(b));
                    windows.set_along(extent, apart, factors);
                }
                Some(b) if b.axis == rows && windows.bounded.is_none() => {
                    windows.bounded = Some((axis, b, stride));
                    if let Some(weights) = &mut windows.weights {
                        weights.bounded = factors;
                    }
                }
                Some(_) => return None,
                None if last && is_along => {
                    columns = span + reach + 1;
                    windows.set_along(extent, apart, factors);
                }
                None => {
                    let taps = (0..extent).map(|tap| tap.checked_mul(stride)).collect::<Option<Vec<_>>>()?;
                    let before = std::mem::take(&mut windows.across);
                    if before.len().saturating_mul(taps.len()) > MOST_TAPS {
                        return None;
                    }
                    windows.across =
                        before.iter().flat_map(|&one| taps.iter().map(move |tap| one + tap)).collect();
                    if let Some(weights) = &mut windows.weights {
                        let before = std::mem::take(&mut weights.across);
                        let taps = || (0..extent).map(|tap| tap * factors);
                        weights.across =
                            before.iter().flat_map(|&one| taps().map(move |tap| one + tap)).collect();
                    }
                }
            }
        }
        let within = bound.map_or(0..columns, |b| (-b.base).max(0)..(b.extent - b.base).min(columns));
        windows.columns = columns.try_into().ok().filter(|&n| n <= MOST_COLUMNS)?;
        windows.inside = within.start.try_into().ok()?..within.end.try_into().ok()?;
        let taps = windows.across.len() * windows.bounded.map_or(1, |(axis, ..)| axis.extent);
        let few = match windows.weights {
            Some(_) => taps.saturating_mul(windows.along.len()) <= MOST_FACTORS && windows.step <= 2,
            None => taps <= MOST_TAPS && windows.along.len() <= MOST_TAPS,
        };
        (few && !windows.inside.is_empty()).then_some(windows)
    }

    fn set_along(&mut self, taps: i64, apart: i64, factors: i64) {
        self.along = (0..taps).map(|tap| (tap * apart) as u32).collect();
        if let Some(weights) = &mut self.weights {
            weights.along = (0..taps).map(|tap| tap * factors).collect();
        }
    }

    pub(super) fn name(&self) -> String {
        let across = self.across.len() * self.bounded.map_or(1, |(axis, ..)| axis.extent);
        let (rows, columns) = (self.nest.loops[self.rows()], self.nest.loops[self.rows() + 1]);
        let word = match self.weights {
            Some(_) => "weighted".to_owned(),
            None => format!("{:?}", self.function).to_lowercase(),
        };
        let (along, step) = (self.along.len(), self.step);
        format!("windows_{}_{word}_{rows}x{columns}_k{across}x{along}s{step}", self.output.word())
    }

    /// The loop over rows.
    pub(super) fn rows(&self) -> usize {
        self.nest.loops.len() - 2
    }

    /// Bytes from the operand's first tap of a row of windows to that of the next one.
    pub(super) fn stride(&self) -> i64 {
        self.nest.operands.first().map_or(0, |operand| operand.strides[self.rows()])
    }

    /// The taps of a row that the bound leaves: those of the bounded axis.
    pub(super) fn taps(&self, row: usize) -> Range<i64> {
        match self.bounded {
            Some((axis, bound, _)) => bound.range(row as i64, axis.extent as i64),
            None => 0..1,
        }
    }

    /// Bytes from a row of windows' first tap to each tap.
    pub(super) fn places(&self, taps: &Range<i64>) -> Vec<i64> {
        let stride = self.bounded.map_or(0, |(.., stride)| stride);
        taps.clone().flat_map(|tap| self.across.iter().map(move |across| tap * stride + across)).collect()
    }

    /// The same, with the factors of each.
    pub(super) fn tap_rows(&self, taps: &Range<i64>) -> Vec<TapRow> {
        let Some(weights) = &self.weights else { return Vec::new() };
        let factors = taps
            .clone()
            .flat_map(|tap| weights.across.iter().map(move |across| tap * weights.bounded + across));
        self.places(taps).into_iter().zip(factors).map(|(place, weights)| TapRow { place, weights }).collect()
    }

    /// The number of taps of a window, inside or not.
    pub(super) fn all_taps(&self) -> usize {
        self.across.len() * self.bounded.map_or(1, |(axis, ..)| axis.extent) * self.along.len()
    }

    /// The taps of some rows at a time, and how many times such rows follow each other.
    pub(super) fn blocks(&self, together: usize) -> Vec<(Vec<Range<i64>>, u32)> {
        let rows = self.nest.loops[self.rows()];
        let mut blocks: Vec<(Vec<Range<i64>>, u32)> = Vec::new();
        for first in (0..rows).step_by(together) {
            let taps: Vec<Range<i64>> =
                (first..rows.min(first + together)).map(|row| self.taps(row)).collect();
            match blocks.last_mut() {
                Some((same, count)) if *same == taps => *count += 1,
                _ => blocks.push((taps, 1)),
            }
        }
        blocks
    }

    /// Stores what follows from the results of some windows of a row, from the first one on. So many operands come before those beside
    /// them, to which pointers lead, as one does to what is stored.
    pub(super) fn store(
        &self,
        line: &mut Line,
        (beside, output): (&[Int], Int),
        (row, first, used): (usize, u32, u32),
        (result, operands): (Vector, usize),
    ) -> Option<()> {
        let lanes = line.b.lanes(result);
        let mut known = vec![(Expr::Acc(0), result)];
        for (i, operand) in self.beside.iter().enumerate() {
            let column = if operand.varies { first } else { 0 };
            let disp = row as i64 * operand.row + operand.float.span(column);
            let from = at(*beside.get(i)?, disp.try_into().ok()?).of(operand.float);
            let x = match operand.varies {
                true => line.b.load(lanes, used, from),
                false => line.b.splat(lanes, from),
            };
            known.push((Expr::Operand(i + operands), x));
        }
        let value = line.value(&self.nest.value, &known, lanes)?;
        let disp = row as i64 * self.nest.result.strides[self.rows()] + self.output.span(first);
        let to = at(output, disp.try_into().ok()?).of(self.output);
        line.b.store(value, used, to);
        Some(())
    }

    /// Bytes of the operand that a plane's kernel reads.
    pub(super) fn read(&self) -> Option<ByteRange> {
        let mut range = ByteRange::default();
        for row in 0..self.nest.loops[self.rows()] {
            let start = self.stride().checked_mul(i64::try_from(row).ok()?)?;
            for place in self.places(&self.taps(row)) {
                let at = start.checked_add(place)?;
                let [low, high] = [self.inside.start, self.inside.end].map(|column| self.input.span(column));
                range = range.union(ByteRange::new(at.checked_add(low)?, at.checked_add(high)?));
            }
        }
        Some(range)
    }

    /// Bytes of the result that it writes.
    pub(super) fn written(&self) -> Option<ByteRange> {
        let columns = u32::try_from(self.nest.loops[self.rows() + 1]).ok()?;
        self.of_all_rows(self.nest.result.strides[self.rows()], self.output.span(columns))
    }

    /// Bytes of another operand that it reads.
    pub(super) fn read_beside(&self, beside: &Beside) -> Option<ByteRange> {
        let columns = if beside.varies { u32::try_from(self.nest.loops[self.rows() + 1]).ok()? } else { 1 };
        self.of_all_rows(beside.row, beside.float.span(columns))
    }

    fn of_all_rows(&self, stride: i64, row: i64) -> Option<ByteRange> {
        let last = stride.checked_mul(i64::try_from(self.nest.loops[self.rows()]).ok()? - 1)?;
        Some(ByteRange::new(last.min(0), last.max(0).checked_add(row)?))
    }
}
