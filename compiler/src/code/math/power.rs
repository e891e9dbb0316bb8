//! Powers with a constant exponent that need few multiplications, and no logarithm.
//!
//! ```text
//!   x^3 = x·x·x       x^-2 = (1/x)·(1/x)       x^2.5 = x·x·√x       x^-0.5 = 1/√x
//! ```
//!
//! What is inverted is inverted first: the power itself may overflow, or lose its digits, where its inverse is a number.

/// The largest exponent: its power rounds four times.
const MOST: f32 = 8.0;

/// `x^(whole + ½·root)`, of `1/x` where it is inverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Power {
    /// How often `x` is multiplied with itself.
    pub whole: u32,
    /// Whether its square root is a factor.
    pub root: bool,
    /// Whether the exponent is negative.
    pub inverse: bool,
}

impl Power {
    /// The power of an exponent; `None` for those that are neither whole nor half a whole number, or large.
    pub fn of(exponent: f32) -> Option<Power> {
        let size = exponent.abs();
        // NaN compares to nothing.
        let short = size <= MOST && (2.0 * size).fract() == 0.0;
        short.then(|| Power { whole: size as u32, root: size.fract() != 0.0, inverse: exponent < 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_whole_numbers_are_powers() {
        let of = |e: f32| Power::of(e).map(|p| (p.whole, p.root, p.inverse));
        assert_eq!(of(2.0), Some((2, false, false)));
        assert_eq!(of(-0.5), Some((0, true, true)));
        assert_eq!(of(2.5), Some((2, true, false)));
        assert_eq!(of(-0.0), Some((0, false, false)));
        assert_eq!(of(8.0), Some((8, false, false)));
        for other in [0.3, 8.5, -9.0, f32::NAN, f32::INFINITY] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
