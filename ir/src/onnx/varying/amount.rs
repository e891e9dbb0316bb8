//! Whole numbers that only the run knows, as far as they are known: sums of multiples of what nodes compute, and how large they can be.
//!
//! ```text
//!   n of NonZero ∈ 0 … 12      min(n, 5) ∈ 0 … 5      4·n + 1 ∈ 1 … 49      min(n, 5) + max(5 − n, 0) = 5
//! ```
//!
//! The smaller and the larger of two are sums as well, with `x⁺ = max(x, 0)` as the only term that is not linear: `max(a, b) = b + (a − b)⁺`,
//! `min(a, b) = a − (a − b)⁺`, and `(−x)⁺ = x⁺ − x`, so that of `x` and `−x` one is written.
//!
//! Two amounts that are written the same are equal whatever the data are; that is how the sizes of two operands are known to agree.

use std::collections::BTreeMap;

use crate::graph::Value;

/// Where a number lies, both ends included. The ends of `i64` stand for no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::onnx) struct Range {
    pub low: i64,
    pub high: i64,
}

impl Range {
    pub const ANY: Range = Range { low: i64::MIN, high: i64::MAX };
    pub const BOOL: Range = Range { low: 0, high: 1 };

    pub fn new(low: i64, high: i64) -> Range {
        Range { low, high }
    }

    pub fn one(number: i64) -> Range {
        Range { low: number, high: number }
    }

    pub fn contains(self, other: Range) -> bool {
        self.low <= other.low && other.high <= self.high
    }

    /// What lies in both.
    pub fn both(self, other: Range) -> Range {
        let low = self.low.max(other.low);
        Range { low, high: self.high.min(other.high).max(low) }
    }

    pub fn hull(self, other: Range) -> Range {
        Range { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    pub fn add(self, other: Range) -> Range {
        let low = match self.low == i64::MIN || other.low == i64::MIN {
            true => i64::MIN,
            false => self.low.saturating_add(other.low),
        };
        let high = match self.high == i64::MAX || other.high == i64::MAX {
            true => i64::MAX,
            false => self.high.saturating_add(other.high),
        };
        Range { low, high }
    }

    pub fn mul(self, other: Range) -> Range {
        let ends =
            [(self.low, other.low), (self.low, other.high), (self.high, other.low), (self.high, other.high)];
        let products = ends.map(|(a, b)| a.saturating_mul(b));
        Range {
            low: products.into_iter().fold(i64::MAX, i64::min),
            high: products.into_iter().fold(i64::MIN, i64::max),
        }
    }

    pub fn min(self, other: Range) -> Range {
        Range { low: self.low.min(other.low), high: self.high.min(other.high) }
    }

    pub fn max(self, other: Range) -> Range {
        Range { low: self.low.max(other.low), high: self.high.max(other.high) }
    }
}

/// Positive parts that are looked at together to find where an amount lies: each takes six times as long.
const SPLITS: usize = 2;

/// A number that is no sum.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Atom {
    /// An element of a value, in row-major order.
    Element {
        value: Value,
        index: usize,
        range: Range,
    },
    /// The number, or 0 where that is negative.
    Positive(Box<Amount>),
    Product(Box<[Amount; 2]>),
    /// Divided by a positive number, rounded down.
    Quotient(Box<Amount>, i64),
}

/// A whole number: a constant and multiples of terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::onnx) struct Amount {
    constant: i64,
    terms: BTreeMap<Atom, i64>,
}

/// How an amount is computed, one step.
pub(in crate::onnx) enum Formula<'a> {
    Constant(i64),
    Element {
        value: Value,
        index: usize,
    },
    /// The number, or 0 where that is negative.
    Positive(&'a Amount),
    Product(&'a [Amount; 2]),
    Quotient(&'a Amount, i64),
    /// A constant, and amounts of one term each that come so many times.
    Sum(i64, Vec<(Amount, i64)>),
}

impl From<i64> for Amount {
    fn from(constant: i64) -> Amount {
        Amount { constant, terms: BTreeMap::new() }
    }
}

impl From<usize> for Amount {
    fn from(extent: usize) -> Amount {
        i64::try_from(extent).unwrap_or(i64::MAX).into()
    }
}

impl Amount {
    fn of(term: Atom) -> Amount {
        Amount { constant: 0, terms: BTreeMap::from([(term, 1)]) }
    }

    /// An element of a value, counted in row-major order, of which this much is known.
    pub fn element(value: Value, index: usize, range: Range) -> Amount {
        match range.low == range.high {
            true => range.low.into(),
            false => Amount::of(Atom::Element { value, index, range }),
        }
    }

    /// The number, where it is known.
    pub fn known(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }

    pub fn is_one(&self) -> bool {
        self.known() == Some(1)
    }

    pub fn range(&self) -> Range {
        self.range_within(SPLITS)
    }

    /// Where it lies, its positive parts `x⁺` being looked at one after the other: where `x ≥ 0` it is `x`, and any number less `x` is less; where
    /// `x ≤ 0`, it is 0.
    fn range_within(&self, splits: usize) -> Range {
        let inner = splits.saturating_sub(1);
        let terms = self.terms.iter().map(|(term, &times)| term.range(inner).mul(Range::one(times)));
        let plain = terms.fold(Range::one(self.constant), Range::add);
        let positive = self.terms.iter().find_map(|(term, &times)| match term {
            Atom::Positive(x) => Some((term, x, times)),
            _ => None,
        });
        let (Some((term, x, times)), Some(splits)) = (positive, splits.checked_sub(1)) else { return plain };
        let without = self.combined(&Amount::of(term.clone()), -times);
        let case = |rest: &Amount, sign: i64| {
            let own = rest.range_within(splits);
            let (below, above) = (rest.combined(x, -sign), rest.combined(x, sign));
            own.both(Range::new(below.range_within(splits).low, above.range_within(splits).high))
        };
        let (with, none) = (case(&without.combined(x, times), 1), case(&without, -1));
        plain.both(with.hull(none))
    }

    /// How much there is to it: terms, and what they are made of.
    pub fn weight(&self) -> usize {
        1 + self.terms.keys().map(Atom::weight).sum::<usize>()
    }

    fn combined(&self, other: &Amount, times: i64) -> Amount {
        let mut sum = self.clone();
        sum.constant = sum.constant.saturating_add(other.constant.saturating_mul(times));
        for (term, &count) in &other.terms {
            let here = sum.terms.entry(term.clone()).or_insert(0);
            *here = here.saturating_add(count.saturating_mul(times));
        }
        sum.terms.retain(|_, count| *count != 0);
        sum
    }

    pub fn plus(&self, other: &Amount) -> Amount {
        self.combined(other, 1)
    }

    pub fn minus(&self, other: &Amount) -> Amount {
        self.combined(other, -1)
    }

    pub fn times(&self, factor: i64) -> Amount {
        Amount::default().combined(self, factor)
    }

    pub fn product(&self, other: &Amount) -> Amount {
        match (self.known(), other.known()) {
            (_, Some(factor)) => self.times(factor),
            (Some(factor), _) => other.times(factor),
            _ => {
                let (a, b) = if self <= other { (self, other) } else { (other, self) };
                Amount::of(Atom::Product(Box::new([a.clone(), b.clone()])))
            }
        }
    }

    /// Whether it is at most another one, whatever the data are.
    pub fn at_most(&self, other: &Amount) -> bool {
        self.minus(other).range().high <= 0
    }

    /// The number, or 0 where that is negative.
    pub fn positive(&self) -> Amount {
        let Range { low, high } = self.range();
        match self.terms.values().next() {
            _ if low >= 0 => self.clone(),
            _ if high <= 0 => Amount::default(),
            Some(first) if *first < 0 => {
                let other = self.times(-1);
                Amount::of(Atom::Positive(Box::new(other.clone()))).minus(&other)
            }
            _ => Amount::of(Atom::Positive(Box::new(self.clone()))),
        }
    }

    pub fn smaller(&self, other: &Amount) -> Amount {
        self.minus(&self.minus(other).positive())
    }

    pub fn larger(&self, other: &Amount) -> Amount {
        other.plus(&self.minus(other).positive())
    }

    /// Divided by a positive number, where nothing is left over whatever the data are.
    pub fn divided(&self, by: i64) -> Option<Amount> {
        let whole = |n: i64| (n % by == 0).then_some(n / by);
        let terms = self.terms.iter().map(|(term, &count)| Some((term.clone(), whole(count)?)));
        Some(Amount { constant: whole(self.constant)?, terms: terms.collect::<Option<_>>()? })
    }

    /// Divided by a positive number, rounded down.
    pub fn quotient(&self, by: i64) -> Amount {
        match (self.divided(by), self.known()) {
            (Some(exact), _) => exact,
            (None, Some(number)) => number.div_euclid(by).into(),
            (None, None) => Amount::of(Atom::Quotient(Box::new(self.clone()), by)),
        }
    }

    /// What it is a product of: a number, and others that no number divides. Extents are equal as products of these.
    pub fn factors(&self) -> (i64, Vec<Amount>) {
        if let Some(number) = self.known() {
            return (number, Vec::new());
        }
        let content = self.terms.values().fold(self.constant, |a, &b| common(a, b)).max(1);
        let Some(rest) = self.divided(content) else { return (1, vec![self.clone()]) };
        let Formula::Product([a, b]) = rest.formula() else { return (content, vec![rest]) };
        let ((a, mut others), (b, more)) = (a.factors(), b.factors());
        others.extend(more);
        (content.saturating_mul(a).saturating_mul(b), others)
    }

    pub fn formula(&self) -> Formula<'_> {
        let mut terms = self.terms.iter();
        match (terms.next(), terms.next()) {
            (None, _) => Formula::Constant(self.constant),
            (Some((term, 1)), None) if self.constant == 0 => match term {
                &Atom::Element { value, index, .. } => Formula::Element { value, index },
                Atom::Positive(amount) => Formula::Positive(amount),
                Atom::Product(pair) => Formula::Product(pair),
                Atom::Quotient(amount, by) => Formula::Quotient(amount, *by),
            },
            _ => {
                let terms = self.terms.iter().map(|(term, &count)| (Amount::of(term.clone()), count));
                Formula::Sum(self.constant, terms.collect())
            }
        }
    }
}

/// The greatest common divisor.
fn common(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i64::try_from(a).unwrap_or(1)
}

impl Atom {
    fn range(&self, splits: usize) -> Range {
        match self {
            Atom::Element { range, .. } => *range,
            Atom::Positive(amount) => {
                let Range { low, high } = amount.range_within(splits);
                Range::new(low.max(0), high.max(0))
            }
            Atom::Product(pair) => pair[0].range_within(splits).mul(pair[1].range_within(splits)),
            Atom::Quotient(amount, by) => {
                let Range { low, high } = amount.range_within(splits);
                let divided =
                    |end: i64| if [i64::MIN, i64::MAX].contains(&end) { end } else { end.div_euclid(*by) };
                Range::new(divided(low), divided(high))
            }
        }
    }

    fn weight(&self) -> usize {
        match self {
            Atom::Element { .. } => 1,
            Atom::Product(pair) => 1 + pair[0].weight() + pair[1].weight(),
            Atom::Positive(amount) | Atom::Quotient(amount, _) => 1 + amount.weight(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::types::{DType, TensorType};

    fn value(output: u32) -> Value {
        let value = Graph::new().add_input("n", TensorType::new(DType::I64, []));
        Value { output, ..value }
    }

    /// A number between 0 and a bound.
    fn n(high: i64) -> Amount {
        Amount::element(value(0), 0, Range::new(0, high))
    }

    #[test]
    fn sums_that_are_written_in_another_order_are_equal() {
        let n = n(10);
        assert_eq!(n.plus(&2i64.into()).times(3), n.times(2).plus(&6i64.into()).plus(&n));
        assert_eq!(n.minus(&n).known(), Some(0));
        assert_eq!(n.times(6).divided(3), Some(n.times(2)));
        assert_eq!(n.times(4).plus(&2i64.into()).divided(4), None);
        assert_eq!(n.times(4).plus(&6i64.into()).factors(), (2, vec![n.times(2).plus(&3i64.into())]));
        assert_eq!(n.times(4).product(&n.plus(&1i64.into())).factors().0, 4);
    }

    #[test]
    fn ranges_decide_what_is_less() {
        let n = n(10);
        assert_eq!(n.smaller(&20i64.into()), n);
        assert_eq!(n.larger(&0i64.into()), n);
        assert_eq!(n.smaller(&n.plus(&1i64.into())), n);
        assert_eq!(n.smaller(&5i64.into()).range(), Range::new(0, 5));
        assert_eq!(n.times(-2).plus(&1i64.into()).range(), Range::new(-19, 1));
        assert_eq!(n.quotient(3).range(), Range::new(0, 3));
        assert!(n.smaller(&5i64.into()).at_most(&n));
        let m = Amount::element(value(1), 0, Range::new(0, 7));
        let both = n.smaller(&m);
        assert_eq!((both.range(), &both), (Range::new(0, 7), &m.smaller(&n)));
        assert!(both.at_most(&n) && both.at_most(&m) && !both.at_most(&3i64.into()));
        assert_eq!(Range::ANY.add(Range::one(-1)), Range::ANY);
    }

    #[test]
    fn many_that_are_nested_do_not_take_forever() {
        let all: Vec<Amount> = (0..8).map(|i| Amount::element(value(i), 0, Range::new(0, 9))).collect();
        let least = all.iter().skip(1).fold(all[0].clone(), |least, n| least.smaller(n));
        let most = all.iter().skip(1).fold(least, |most, n| most.larger(&n.times(2)));
        assert!(Range::new(-400, 400).contains(most.range()), "{:?}", most.range());
    }

    #[test]
    fn what_is_padded_to_a_size_has_that_size() {
        let n = n(10);
        let (eight, zero) = (Amount::from(8i64), Amount::from(0i64));
        let more = eight.minus(&n).larger(&zero);
        assert_eq!(n.plus(&more), n.larger(&eight));
        assert_eq!(n.larger(&eight).range(), Range::new(8, 10));
        assert_eq!(n.plus(&more).smaller(&eight), eight);
        assert_eq!(n.smaller(&eight).plus(&eight.minus(&n.smaller(&eight))), eight);
    }
}
