//! Sets of bytes, as ranges in ascending order that do not touch each other.
//!
//! ```text
//!   {[0, 8)} spread over 0, 16, 24      ▮▮▮▮▮▮▮▮········▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮    {[0, 8), [16, 32)}
//!                                       0               16      24
//! ```
//!
//! A set costs what its gaps cost, not its bytes: a picture that is read as a whole is one range.

use std::ops::Range;

/// A set of byte addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals {
    /// Ascending, none empty, a gap between any two.
    ranges: Vec<Range<i64>>,
}

impl Intervals {
    /// `len` bytes from 0 on.
    pub fn first(len: i64) -> Intervals {
        std::iter::once(0..len).collect()
    }

    /// Number of bytes.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|r| r.end.abs_diff(r.start)).sum()
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// From the lowest to one past the highest byte.
    pub fn bounds(&self) -> Range<i64> {
        match (self.ranges.first(), self.ranges.last()) {
            (Some(first), Some(last)) => first.start..last.end,
            _ => 0..0,
        }
    }

    /// The set moved up by `by` bytes.
    pub fn moved(&self, by: i64) -> Intervals {
        Intervals { ranges: self.ranges.iter().map(|r| r.start + by..r.end + by).collect() }
    }

    /// All copies of the set, one moved by each of the offsets: what a loop touches whose body touches this.
    pub fn spread(&self, offsets: impl IntoIterator<Item = i64>) -> Intervals {
        offsets.into_iter().flat_map(|by| self.ranges.iter().map(move |r| r.start + by..r.end + by)).collect()
    }

    /// The bytes of both.
    pub fn or(&self, other: &Intervals) -> Intervals {
        self.ranges.iter().chain(&other.ranges).cloned().collect()
    }

    /// The bytes that are not in `other`.
    pub fn minus(&self, other: &Intervals) -> Intervals {
        let mut left = Vec::new();
        let mut others = other.ranges.iter().peekable();
        for range in &self.ranges {
            let mut start = range.start;
            while let Some(next) = others.peek().filter(|next| next.start < range.end) {
                left.push(start..next.start);
                start = start.max(next.end);
                if next.end > range.end {
                    break;
                }
                others.next();
            }
            left.push(start..range.end);
        }
        left.into_iter().collect()
    }
}

impl FromIterator<Range<i64>> for Intervals {
    /// The bytes of all ranges, in whatever order.
    fn from_iter<T: IntoIterator<Item = Range<i64>>>(all: T) -> Intervals {
        let mut ranges: Vec<Range<i64>> = Vec::new();
        let mut ascending = true;
        for range in all.into_iter().filter(|r| !r.is_empty()) {
            ascending &= join(&mut ranges, range);
        }
        if !ascending {
            ranges.sort_unstable_by_key(|r| r.start);
            let mut joined = Vec::with_capacity(ranges.len());
            ranges.into_iter().for_each(|range| {
                join(&mut joined, range);
            });
            ranges = joined;
        }
        Intervals { ranges }
    }
}

/// Adds a range behind the others, or to the last one if they touch. `false` if it starts below the last one.
fn join(ranges: &mut Vec<Range<i64>>, range: Range<i64>) -> bool {
    match ranges.last_mut() {
        Some(last) if (last.start..=last.end).contains(&range.start) => {
            last.end = last.end.max(range.end);
            true
        }
        last => {
            let ascends = last.is_none_or(|last| last.end < range.start);
            ranges.push(range);
            ascends
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(i64, i64)]) -> Intervals {
        ranges.iter().map(|&(from, to)| from..to).collect()
    }

    #[test]
    fn ranges_that_touch_become_one_whatever_their_order() {
        assert_eq!(set(&[(8, 12), (0, 4), (4, 8), (20, 20), (16, 18)]), set(&[(0, 12), (16, 18)]));
        assert_eq!(set(&[(4, 8), (0, 20), (6, 30)]).bounds(), 0..30);
    }

    #[test]
    fn bytes_that_several_ranges_name_count_once() {
        assert_eq!(set(&[(0, 10), (5, 15), (2, 3)]).bytes(), 15);
        assert_eq!(Intervals::first(4).spread([0, 4, 16]).bytes(), 12);
        assert_eq!(Intervals::first(8).spread([24, 0, 16]), set(&[(0, 8), (16, 32)]));
    }

    #[test]
    fn what_is_left_are_the_bytes_that_the_other_does_not_have() {
        let whole = set(&[(0, 10), (20, 30), (40, 50)]);
        assert_eq!(
            whole.minus(&set(&[(-5, 2), (8, 22), (45, 46)])),
            set(&[(2, 8), (22, 30), (40, 45), (46, 50)])
        );
        assert_eq!(whole.minus(&set(&[(0, 100)])), Intervals::default());
        assert_eq!(whole.minus(&set(&[(3, 4), (5, 6)])), set(&[(0, 3), (4, 5), (6, 10), (20, 30), (40, 50)]));
        assert_eq!(whole.minus(&Intervals::default()), whole);
        assert_eq!(whole.or(&set(&[(10, 20)])), set(&[(0, 30), (40, 50)]));
    }
}
