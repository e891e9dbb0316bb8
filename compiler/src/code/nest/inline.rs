//! What one nest computes for each element, in the place of the operands of another nest that read it.
//!
//! ```text
//!   b[i, j] = exp(a[j, i])            loops of extents I, J;   b dense
//!   d[k] = Σ over r of b[k, r] · c    ─▶   d[k] = Σ over r of exp(a[r, k]) · c
//! ```
//!
//! An address of the element that is read leads to the indices of the element that is written: the strides of the written result are
//! a number system, of which an index is a digit. Axes of the reader that go over several digits are split where a digit ends.

use std::collections::BTreeMap;

use super::{Expr, Nest, Operand};
use crate::code::float::Float;

/// A loop of what is written: its stride is the worth of a digit.
#[derive(Clone, Copy, Debug)]
struct Digit {
    axis: usize,
    stride: i64,
    extent: i64,
}

/// What a step along an axis of the reader is among the digits.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// Nothing: the same element.
    Stays,
    /// So many steps of a digit.
    Along { digit: usize, steps: i64 },
    /// The axis has to be split first, with inner parts of this extent.
    Split(usize),
}

impl Nest {
    /// Whether others can compute an element of the result themselves: it depends on elements of operands, or on sums of them, and
    /// on nothing else.
    ///
    /// A half float is rounded when it is stored: only what is moved is the same without.
    pub fn can_be_inlined(&self) -> bool {
        let mut indexed = false;
        let mut visit = |e: &Expr| indexed |= matches!(e, Expr::Index(_));
        self.value.walk(&mut visit);
        self.accumulators.iter().for_each(|a| a.value.walk(&mut visit));
        let rounds = Float::of(self.result.dtype).is_some_and(Float::is_half) && self.moves().is_none();
        let bounded = self.reduce.iter().any(|r| r.bound.is_some());
        let tabled = self.operands.iter().any(|o| !o.tables.is_empty());
        !(indexed || rounds || bounded || tabled || self.stores_rows())
    }

    /// This nest with the value of `producer` in the place of some operands. They read no byte but what that writes, which lies where
    /// these operands do: the arguments of both nests are the same memory. What reduces goes into maps only, as one operand.
    ///
    /// `None` where strides cannot say it.
    pub fn inlined(&self, producer: &Nest, operands: &[usize]) -> Option<Nest> {
        let digits = digits(producer)?;
        let mut nest = self.clone();
        for &operand in operands {
            let read = nest.operands.get(operand)?;
            if read.dtype != producer.result.dtype || !read.tables.is_empty() || self.is_table(operand) {
                return None;
            }
            while let Some((axis, extent)) = nest.axis_to_split(operand, &digits)? {
                nest.split_axis(axis, extent)?;
            }
        }
        for &operand in operands {
            nest.put(operand, producer, &digits)?;
        }
        if !producer.reduce.is_empty() || !producer.accumulators.is_empty() {
            nest.reduce_as(producer, operands)?;
        }
        nest.compact();
        Some(nest)
    }

    /// An axis that goes over more than one digit, and where to split it.
    fn axis_to_split(&self, operand: usize, digits: &[Digit]) -> Option<Option<(usize, usize)>> {
        for (axis, extent) in self.extents().enumerate() {
            let stride = self.operands[operand].strides[axis];
            if let Move::Split(inner) = step(stride, extent, digits)? {
                return Some(Some((axis, inner)));
            }
        }
        Some(None)
    }

    /// Puts the producer's value in the place of one operand.
    fn put(&mut self, operand: usize, producer: &Nest, digits: &[Digit]) -> Option<()> {
        let read = self.operands[operand].clone();
        // Where the first element is, and how far the others lead.
        let mut rest = read.offset.checked_sub(producer.result.offset)?;
        let mut first = vec![0; digits.len()];
        for (digit, first) in digits.iter().zip(&mut first) {
            *first = rest.div_euclid(digit.stride);
            rest = rest.rem_euclid(digit.stride);
        }
        if rest != 0 {
            return None;
        }
        let mut last = first.clone();
        let mut moves = Vec::new();
        for (axis, extent) in self.extents().enumerate() {
            let along = step(read.strides[axis], extent, digits)?;
            if let Move::Along { digit, steps } = along {
                last[digit] += steps * (i64::try_from(extent).ok()? - 1);
            }
            moves.push(along);
        }
        let inside = |((first, last), digit): ((&i64, &i64), &Digit)| *first >= 0 && *last < digit.extent;
        if !first.iter().zip(&last).zip(digits).all(inside) {
            return None;
        }
        let base = self.operands.len();
        for from in &producer.operands {
            let stride = |at: usize| from.strides[digits[at].axis];
            let offset = first.iter().enumerate().try_fold(from.offset, |offset, (at, first)| {
                offset.checked_add(first.checked_mul(stride(at))?)
            })?;
            let strides = moves.iter().map(|along| match *along {
                Move::Along { digit, steps } => stride(digit).checked_mul(steps),
                Move::Stays | Move::Split(_) => Some(0),
            });
            let strides = strides.collect::<Option<Vec<i64>>>()?;
            self.operands.push(Operand { offset, strides, ..from.clone() });
        }
        let mut value = producer.value.clone();
        value.replace(&mut |e| behind(e, base));
        let mut with = |e: &Expr| (*e == Expr::Operand(operand)).then(|| value.clone());
        self.value.replace(&mut with);
        self.accumulators.iter_mut().for_each(|a| a.value.replace(&mut with));
        Some(())
    }

    /// A map into which a nest that reduces was put becomes a reduction.
    fn reduce_as(&mut self, producer: &Nest, operands: &[usize]) -> Option<()> {
        if operands.len() != 1 || !self.reduce.is_empty() || !self.accumulators.is_empty() {
            return None;
        }
        let base = self.operands.len() - producer.operands.len();
        let none = vec![0; producer.reduce.len()];
        let (own, put) = self.operands.split_at_mut(base);
        for operand in own {
            operand.strides.extend(&none);
            operand.tables.iter_mut().for_each(|table| table.strides.extend(&none));
        }
        for (operand, from) in put.iter_mut().zip(&producer.operands) {
            operand.strides.extend(&from.strides[producer.loops.len()..]);
        }
        self.reduce = producer.reduce.clone();
        self.accumulators = producer.accumulators.clone();
        let mut rename = |e: &Expr| behind(e, base);
        self.accumulators.iter_mut().for_each(|a| a.value.replace(&mut rename));
        Some(())
    }

    /// Drops operands that no expression reads, and names those that are equal once.
    pub fn compact(&mut self) {
        let mut used = vec![false; self.operands.len()];
        let mut visit = |e: &Expr| {
            if let Expr::Operand(i) = e
                && let Some(used) = used.get_mut(*i)
            {
                *used = true;
            }
        };
        self.value.walk(&mut visit);
        self.accumulators.iter().for_each(|a| a.value.walk(&mut visit));
        let mut kept: Vec<Operand> = Vec::new();
        let mut numbers = BTreeMap::new();
        for (number, operand) in std::mem::take(&mut self.operands).into_iter().enumerate() {
            if !used[number] {
                continue;
            }
            let known = kept.iter().position(|k| *k == operand);
            numbers.insert(number, known.unwrap_or(kept.len()));
            if known.is_none() {
                kept.push(operand);
            }
        }
        self.operands = kept;
        let mut rename = |e: &Expr| match e {
            Expr::Operand(i) => numbers.get(i).copied().map(Expr::Operand),
            _ => None,
        };
        self.value.replace(&mut rename);
        self.accumulators.iter_mut().for_each(|a| a.value.replace(&mut rename));
    }
}

/// An operand that stands behind so many others.
fn behind(e: &Expr, base: usize) -> Option<Expr> {
    match e {
        Expr::Operand(i) => Some(Expr::Operand(base + i)),
        _ => None,
    }
}

/// The loops of what a nest writes by falling stride; `None` where its elements do not lie one behind the other.
fn digits(producer: &Nest) -> Option<Vec<Digit>> {
    let result = &producer.result;
    let mut digits: Vec<Digit> = Vec::new();
    for (axis, (&extent, &stride)) in producer.loops.iter().zip(&result.strides).enumerate() {
        if extent > 1 {
            digits.push(Digit { axis, stride, extent: i64::try_from(extent).ok()? });
        }
    }
    digits.sort_by_key(|digit| std::cmp::Reverse(digit.stride));
    let mut below = result.dtype.bytes() as i64;
    for digit in digits.iter().rev() {
        if digit.stride < below {
            return None;
        }
        below = digit.stride.checked_mul(digit.extent)?;
    }
    Some(digits)
}

/// What a step along an axis is; `None` where it is nothing that digits can say.
fn step(stride: i64, extent: usize, digits: &[Digit]) -> Option<Move> {
    if stride == 0 || extent == 1 {
        return Some(Move::Stays);
    }
    let at = digits.iter().position(|digit| digit.stride <= stride)?;
    let digit = digits[at];
    if stride % digit.stride != 0 {
        return None;
    }
    let steps = stride / digit.stride;
    let last = i64::try_from(extent).ok()?.checked_sub(1)?.checked_mul(steps)?;
    if last < digit.extent {
        return Some(Move::Along { digit: at, steps });
    }
    let inner = usize::try_from(digit.extent / steps).ok()?;
    let splits = digit.extent % steps == 0 && inner > 1 && extent.is_multiple_of(inner);
    splits.then_some(Move::Split(inner))
}

#[cfg(test)]
mod tests {
    use nnc_ir::DType;
    use nnc_ir::op::Unary;

    use super::super::{Accumulator, Bound, Constant, Fold, ReduceAxis, Vectorised};
    use super::*;

    fn operand(arg: usize, offset: i64, strides: &[i64]) -> Operand {
        Operand { arg, offset, dtype: DType::F32, strides: strides.to_vec(), tables: Vec::new() }
    }

    fn map(loops: &[usize], operands: Vec<Operand>, result: Operand, value: Expr) -> Nest {
        Nest {
            loops: loops.to_vec(),
            unit_axes: 0,
            reduce: Vec::new(),
            operands,
            result,
            accumulators: Vec::new(),
            value,
            vectorised: Vectorised::Scalar,
        }
    }

    fn exp(i: usize) -> Expr {
        Expr::Operand(i).unary(Unary::Exp)
    }

    /// `b[i, j] = exp(a[j, i])`, 3 × 5, dense, in argument 1.
    fn transposed() -> Nest {
        map(&[3, 5], vec![operand(0, 8, &[4, 12])], operand(1, 0, &[20, 4]), exp(0))
    }

    #[test]
    fn a_reader_of_the_same_loops_reads_what_the_producer_reads() {
        let reader = map(&[3, 5], vec![operand(1, 0, &[20, 4])], operand(2, 0, &[20, 4]), exp(0));
        let both = reader.inlined(&transposed(), &[0]).unwrap();
        assert_eq!(both.operands, [operand(0, 8, &[4, 12])]);
        assert_eq!(both.value, exp(0).unary(Unary::Exp));
    }

    #[test]
    fn a_loop_over_two_of_the_producers_is_split() {
        let reader = map(&[15], vec![operand(1, 0, &[4])], operand(2, 0, &[4]), exp(0));
        let both = reader.inlined(&transposed(), &[0]).unwrap();
        assert_eq!((&both.loops[..], &both.result.strides[..]), (&[3, 5][..], &[20, 4][..]));
        assert_eq!(both.operands, [operand(0, 8, &[4, 12])]);
    }

    #[test]
    fn part_of_what_is_written_begins_where_the_part_does() {
        // b[1.., ::2]
        let reader = map(&[2, 3], vec![operand(1, 20, &[20, 8])], operand(2, 0, &[12, 4]), exp(0));
        let both = reader.inlined(&transposed(), &[0]).unwrap();
        assert_eq!(both.operands, [operand(0, 12, &[4, 24])]);
    }

    #[test]
    fn several_axes_may_go_along_one_loop() {
        let one = map(&[12], vec![operand(0, 0, &[8])], operand(1, 0, &[4]), exp(0));
        let reader = map(&[4, 3], vec![operand(1, 0, &[4, 16])], operand(2, 0, &[12, 4]), exp(0));
        assert_eq!(reader.inlined(&one, &[0]).unwrap().operands, [operand(0, 0, &[8, 32])]);
    }

    #[test]
    fn reductions_compute_what_they_sum() {
        let mut reader = map(&[3], vec![operand(1, 0, &[20, 4])], operand(2, 0, &[4]), Expr::Acc(0));
        reader.reduce = vec![ReduceAxis { extent: 5, bound: None }];
        let fold = Fold::With(nnc_ir::op::elementwise::BinaryFn::Add);
        reader.accumulators = vec![Accumulator { init: Constant::from(0.0), fold, value: exp(0) }];
        let both = reader.inlined(&transposed(), &[0]).unwrap();
        assert_eq!(both.operands, [operand(0, 8, &[4, 12])]);
        assert_eq!(both.accumulators[0].value, exp(0).unary(Unary::Exp));
    }

    #[test]
    fn equal_operands_are_one() {
        let value = Expr::Operand(0) * Expr::Operand(1);
        let (strides, from) = ([20, 4], operand(0, 8, &[4, 12]));
        let reader =
            map(&[3, 5], vec![operand(1, 0, &strides), from.clone()], operand(2, 0, &strides), value);
        let both = reader.inlined(&transposed(), &[0]).unwrap();
        assert_eq!((both.operands, both.value), (vec![from], exp(0) * Expr::Operand(0)));
    }

    #[test]
    fn what_strides_cannot_say_is_refused() {
        let producer = transposed();
        let reads = |loops: &[usize], offset: i64, strides: &[i64]| {
            let reader = map(loops, vec![operand(1, offset, strides)], operand(2, 0, strides), exp(0));
            reader.inlined(&producer, &[0])
        };
        assert!(reads(&[3, 5], 0, &[20, 4]).is_some());
        for (what, got) in [
            ("a row more than there are", reads(&[4, 5], 0, &[20, 4])),
            ("an element behind the last", reads(&[3, 5], 4, &[20, 4])),
            ("an element before the first", reads(&[3, 5], -4, &[20, 4])),
            ("half an element", reads(&[3, 5], 2, &[20, 4])),
            ("a step of one and a half", reads(&[3, 2], 0, &[20, 6])),
            ("backwards", reads(&[3, 5], 16, &[20, -4])),
            ("windows over the end of a row", reads(&[3, 3, 4], 0, &[20, 4, 4])),
            ("steps of two over rows of five", reads(&[7], 0, &[8])),
        ] {
            assert_eq!(got, None, "{what}");
        }
        let mut indexed = map(&[15], vec![operand(1, 0, &[4])], operand(2, 0, &[4]), exp(0));
        indexed.value = Expr::Index(0).cast(DType::I64, DType::F32) * exp(0);
        assert_eq!(indexed.inlined(&producer, &[0]), None, "an index of a loop that would be split");
        let mut bounded = map(&[15], vec![operand(1, 0, &[4, 0])], operand(2, 0, &[4]), exp(0));
        let bound = Bound { axis: 0, scale: 1, step: 1, base: 0, extent: 15 };
        bounded.reduce = vec![ReduceAxis { extent: 2, bound: Some(bound) }];
        assert_eq!(bounded.inlined(&producer, &[0]), None, "a loop that bounds another");
    }

    #[test]
    fn what_reduces_goes_into_maps() {
        let sum = |value| {
            let fold = Fold::With(nnc_ir::op::elementwise::BinaryFn::Add);
            vec![Accumulator { init: Constant::from(0.0), fold, value }]
        };
        let mut total = map(&[3], vec![operand(0, 0, &[20, 4])], operand(1, 0, &[4]), Expr::Acc(0));
        (total.reduce, total.accumulators) = (vec![ReduceAxis { extent: 5, bound: None }], sum(exp(0)));
        let value = Expr::Operand(0) * Expr::Operand(1);
        let operands = vec![operand(2, 0, &[8]), operand(1, 0, &[4])];
        let mut reader = map(&[3], operands, operand(3, 0, &[4]), value);
        let both = reader.inlined(&total, &[1]).unwrap();
        assert_eq!(both.operands, [operand(2, 0, &[8, 0]), operand(0, 0, &[20, 4])]);
        assert_eq!((&both.value, both.reduce.len()), (&(Expr::Operand(0) * Expr::Acc(0)), 1));
        assert_eq!(both.accumulators, sum(exp(1)));
        // Not into another reduction, nor twice.
        reader.operands[0] = operand(1, 0, &[4]);
        assert_eq!(reader.inlined(&total, &[0, 1]), None);
        let mut reducing = map(&[1], vec![operand(1, 0, &[0, 4])], operand(3, 0, &[4]), Expr::Acc(0));
        (reducing.reduce, reducing.accumulators) = (vec![ReduceAxis { extent: 3, bound: None }], sum(exp(0)));
        assert_eq!(reducing.inlined(&total, &[0]), None);
    }

    #[test]
    fn what_depends_on_more_than_operands_stays() {
        assert!(transposed().can_be_inlined());
        let half = |value: Expr| {
            let mut nest = map(&[3], vec![operand(0, 0, &[2])], operand(1, 0, &[2]), value);
            (nest.operands[0].dtype, nest.result.dtype) = (DType::F16, DType::F16);
            nest.can_be_inlined()
        };
        assert!(half(Expr::Operand(0)));
        assert!(!half(exp(0)), "what is stored is rounded");
        let mut indexed = transposed();
        indexed.value = Expr::Index(0).cast(DType::I64, DType::F32);
        assert!(!indexed.can_be_inlined());
    }
}
