//! Coordinates of a Resize, exactly.
//!
//! Coordinates are quotients of whole numbers: of extents, positions, and scales. A nearest mode asks on which side of
//! an integer or a half one lies, and many lie exactly there; a rounded quotient would be beside it. So nothing is
//! rounded here.
//!
//! A scale or a bound that a model gives as an `f32` is itself rounded: 0.6 is stored as 0.60000002384. It stands for
//! the simplest fraction that rounds to it, which is 3/5: elements then lie where who wrote 0.6 expects them, and where
//! implementations that compute in `f32` have them, whose roundings mostly undo that of the scale.

use std::cmp::Ordering;

/// A quotient of whole numbers, whose denominator is positive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exact {
    num: i128,
    den: i128,
}

/// Numerators and denominators of what a model gives: up to here, products of four of them fit in an [`Exact`].
const MOST: i128 = 1 << 31;

impl Exact {
    /// `num / den`; infinite quotients are the largest one.
    pub(super) fn new(num: i128, den: i128) -> Exact {
        match den.cmp(&0) {
            Ordering::Greater => Exact { num, den },
            Ordering::Less => Exact { num: -num, den: -den },
            Ordering::Equal => Exact { num: num.signum() * MOST, den: 1 },
        }
    }

    /// The simplest fraction that rounds to a number. Those beyond 2^31 and below its inverse lead beside all elements,
    /// wherever they are exactly.
    pub(super) fn simplest(number: f32) -> Exact {
        let v = f64::from(number.abs());
        let sign = if number < 0.0 { -1 } else { 1 };
        if v == 0.0 || v.is_nan() {
            return Exact { num: 0, den: 1 };
        }
        if v >= MOST as f64 {
            return Exact { num: sign * MOST, den: 1 };
        }
        if v <= 1.0 / MOST as f64 {
            return Exact { num: sign, den: MOST };
        }
        // The number is mantissa · 2^exponent; half a unit of the mantissa around it rounds to it, and below a power of two a quarter.
        let bits = number.to_bits();
        let (mantissa, exponent) =
            (i128::from(bits & 0x7f_ffff | 0x80_0000), (bits >> 23 & 0xff) as i32 - 150);
        let (up, down) = (1i128 << exponent.max(0), 1i128 << (-exponent).max(0));
        let below = if mantissa == 0x80_0000 { 1 } else { 2 };
        let low = Exact { num: (4 * mantissa - below) * up, den: 4 * down };
        let high = Exact { num: (2 * mantissa + 1) * up, den: 2 * down };
        let Exact { num, den } = between(low, high);
        Exact { num: sign * num, den }
    }

    /// Numerator and denominator.
    pub(super) fn parts(self) -> (i128, i128) {
        (self.num, self.den)
    }

    /// The largest integer that is not above.
    pub(super) fn floor(self) -> i128 {
        self.num.div_euclid(self.den)
    }

    /// The least integer that is not below.
    pub(super) fn ceil(self) -> i128 {
        -(-self.num).div_euclid(self.den)
    }

    /// The nearest integer, and of two the lower one.
    pub(super) fn round_half_down(self) -> i128 {
        Exact { num: 2 * self.num - self.den, den: 2 * self.den }.ceil()
    }

    /// The nearest integer, and of two the upper one.
    pub(super) fn round_half_up(self) -> i128 {
        Exact { num: 2 * self.num + self.den, den: 2 * self.den }.floor()
    }

    /// How far it lies above the integer below.
    pub(super) fn fraction(self) -> f64 {
        self.num.rem_euclid(self.den) as f64 / self.den as f64
    }

    /// The nearest number of double precision.
    pub(super) fn to_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }

    /// Whether it is an element's place, or lies between two, when the last one is at `last`.
    pub(super) fn is_within(self, last: usize) -> bool {
        0 <= self.num && self.num <= last as i128 * self.den
    }
}

/// The fraction of the smallest numerator and denominator between two positive ones, which are not equal (by the
/// Stern-Brocot tree: down to where the bounds part).
fn between(low: Exact, high: Exact) -> Exact {
    let whole = low.floor();
    let next = whole + 1;
    if next * high.den < high.num {
        return Exact { num: next, den: 1 };
    }
    // Both are in one unit: what is left of them, turned over.
    let (rest_low, rest_high) = (low.num - whole * low.den, high.num - whole * high.den);
    let part = match rest_low {
        0 => Exact { num: high.den / rest_high + 1, den: 1 },
        _ => between(Exact { num: high.den, den: rest_high }, Exact { num: low.den, den: rest_low }),
    };
    Exact { num: whole * part.num + part.den, den: part.num }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simplest(v: f32) -> (i128, i128) {
        Exact::simplest(v).parts()
    }

    #[test]
    fn numbers_stand_for_what_was_written() {
        assert_eq!(simplest(0.6), (3, 5));
        assert_eq!(simplest(2.0), (2, 1));
        assert_eq!(simplest(-0.4), (-2, 5));
        assert_eq!(simplest(1.0 / 3.0), (1, 3));
        assert_eq!(simplest(28.0 / 24.0), (7, 6));
        assert_eq!(simplest(0.0), (0, 1));
        assert_eq!(simplest(1234.5678), (145_679, 118));
    }

    #[test]
    fn every_quotient_of_small_numbers_is_found_again() {
        for num in 1..=200i128 {
            for den in 1..=200 {
                let divisor = (1..=num).rev().find(|d| num % d == 0 && den % d == 0).unwrap_or(1);
                assert_eq!(simplest(num as f32 / den as f32), (num / divisor, den / divisor));
            }
        }
    }

    #[test]
    fn a_simplest_fraction_rounds_to_its_number() {
        let mut bits = 1u32;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let v = f32::from_bits((bits >> 9) | (127 - 24 + (bits % 48)) << 23);
            let (num, den) = simplest(v);
            assert!(0 < num && num < MOST && 0 < den && den < MOST, "{v}: {num}/{den}");
            assert_eq!((num as f64 / den as f64) as f32, v, "{num}/{den}");
        }
    }

    #[test]
    fn numbers_far_from_one_are_bounded() {
        for (v, expected) in [
            (f32::MAX, (MOST, 1)),
            (f32::INFINITY, (MOST, 1)),
            (f32::NEG_INFINITY, (-MOST, 1)),
            (1e-30, (1, MOST)),
            (-1e-40, (-1, MOST)),
        ] {
            assert_eq!(simplest(v), expected, "{v}");
        }
    }

    #[test]
    fn integers_and_halves_are_told_from_their_neighbours() {
        let at = |num| Exact::new(num, 1 << 40);
        let half = 1i128 << 39;
        for k in [-3i128, -1, 0, 1, 7] {
            let x = (k << 40) + half;
            assert_eq!((at(x).round_half_down(), at(x).round_half_up()), (k, k + 1));
            assert_eq!((at(x - 1).round_half_up(), at(x + 1).round_half_down()), (k, k + 1));
            let x = k << 40;
            assert_eq!((at(x).floor(), at(x).ceil()), (k, k));
            assert_eq!((at(x - 1).floor(), at(x + 1).ceil()), (k - 1, k + 1));
        }
        assert_eq!((Exact::new(-1, 4).fraction(), Exact::new(1, -4).to_f64()), (0.75, -0.25));
        assert!(Exact::new(9, 3).is_within(3) && !Exact::new(10, 3).is_within(3) && !at(-1).is_within(3));
    }

    #[test]
    fn large_numbers_stand_for_an_integer_that_rounds_to_them() {
        for v in [16777216.0f32, 33554436.0, 1073741824.0, 1073741952.0, -2147483520.0] {
            let (num, den) = simplest(v);
            assert_eq!((num as f32, den), (v, 1));
        }
    }
}
