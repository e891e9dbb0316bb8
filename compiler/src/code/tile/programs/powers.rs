//! Powers of vectors of f32 with any exponent, as 2^(y · log2 x), for which the logarithm has two parts: what it is off by counts y times.
//!
//! ```text
//!   |x| = 2^e · m, √½ ≤ m < √2         s = (m - 1) / (m + 1), in two parts
//!   log2 |x| = e + 2/ln 2 · s · (1 + u)     in two parts; u = s²·W(s²) in two parts too, as it comes to a hundredth
//!   y · log2 |x| = n + r, |r| ≤ ½      2^n · P(r)
//! ```
//!
//! What a product or a sum loses by rounding is exact where it is computed by an `fma` that rounds once. The result is off by 1.7 ULP at
//! most, where m is near √2 and y large, and by 1 where y is of the size that networks have.
//!
//! Signs and special cases are those of C's pow: `x^0` and `1^y` are 1 whatever the other is, a negative `x` has powers that are whole
//! only, of which the odd ones are negative, and zeros and infinities go by their limits.

use super::super::ir::{BinOp, Inst, Source, Test, Vector};
use super::functions::{EXP2, VectorMath};

/// 2 / ln 2 in two parts.
const LOG2_SCALE: f32 = 2.885_39;
const LOG2_SCALE_REST: f32 = 3.851_926e-8;

/// (artanh(s) / s - 1) / s² in s², for |s| ≤ 0.1716.
const ARTANH: [f64; 4] = [0.3333333134651184, 0.20000486075878143, 0.1424938440322876, 0.12139932811260223];

/// From there on, a power is infinite, or 0 on the other side.
const LARGE: f32 = 200.0;

impl VectorMath<'_> {
    /// `x` to the power of `y`.
    pub fn pow(&mut self, x: Vector, y: Vector) -> Vector {
        let power = self.power_of_size(x, y);
        // 1^y is 1 for an infinite y, too, and NaN.
        let [zero, one] = [0.0, 1.0].map(|v| self.constant(v));
        let size = self.abs(x);
        let power = self.select(Test::Equal, [size, one], one, power);
        let whole = self.nearest(y);
        let half = self.scaled(y, 0.5);
        let even = self.nearest(half);
        let sign = self.sign(x);
        let sign = self.select(Test::Equal, [even, half], zero, sign);
        let sign = self.select(Test::Equal, [whole, y], sign, zero);
        let signed = self.bin(BinOp::Or, power, Source::Reg(sign));
        let nan = self.constant(f32::NAN);
        let of_negative = self.select(Test::Equal, [whole, y], signed, nan);
        let power = self.if_negative_and_finite(x, of_negative, signed);
        self.select(Test::Equal, [y, zero], one, power)
    }

    /// `x` to the power of a constant that is not 0.
    pub fn constant_power(&mut self, x: Vector, exponent: f32) -> Vector {
        let y = self.constant(exponent);
        if !exponent.is_finite() {
            return self.pow(x, y);
        }
        let power = self.power_of_size(x, y);
        let is_whole = exponent.round_ties_even() == exponent;
        let is_even = (exponent * 0.5).round_ties_even() == exponent * 0.5;
        match (is_whole, is_even) {
            (true, true) => power,
            (true, false) => self.with_sign(power, x),
            (false, _) => {
                let nan = self.constant(f32::NAN);
                self.if_negative_and_finite(x, nan, power)
            }
        }
    }

    /// `then` where `x` is below 0 and not -∞, which has powers of all kinds.
    fn if_negative_and_finite(&mut self, x: Vector, then: Vector, otherwise: Vector) -> Vector {
        let infinity = self.constant(f32::NEG_INFINITY);
        let then = self.select(Test::Equal, [x, infinity], otherwise, then);
        self.if_negative(x, then, otherwise)
    }

    /// `|x|` to the power of `y`; NaN for 1 to the power of what is not finite, and for 0 and ∞ to the power of 0.
    fn power_of_size(&mut self, x: Vector, y: Vector) -> Vector {
        let [high, low] = self.log2_of_size(x);
        let e = self.mul(y, high);
        let rest = self.rest_of_product(y, high, e);
        self.b.fma(rest, y, Source::Reg(low));
        // Where the product is infinite, its rest is none.
        let (large, zero) = (self.constant(LARGE), self.constant(0.0));
        let size = self.abs(e);
        let rest = self.select(Test::Less, [size, large], rest, zero);
        let e = self.clamp(e, -LARGE, LARGE);
        let n = self.nearest(e);
        let r = self.bin(BinOp::Sub, e, Source::Reg(n));
        let r = self.add(r, rest);
        let src = self.polynomial(r, &EXP2);
        let dst = self.b.vector(self.lanes);
        self.b.push(Inst::Scale { dst, src, by: n });
        dst
    }

    /// The logarithm of `|x|` to base 2 in two parts, of which the second is less than half of the last place of the first; it is 0 or
    /// NaN where the first is infinite.
    fn log2_of_size(&mut self, x: Vector) -> [Vector; 2] {
        let size = self.abs(x);
        let [e, m] = self.exponent_and_mantissa(size);
        let f = self.plus(m, -1.0);
        let d = self.plus(m, 1.0);
        let kept = self.plus(d, -1.0);
        let lost = self.bin(BinOp::Sub, m, Source::Reg(kept));
        let inverse = self.reciprocal(d);
        // What is left of f when s · (m + 1) is taken away.
        let s = self.mul(f, inverse);
        let minus = self.negated(s);
        let left = f;
        self.b.fma_once(left, minus, Source::Reg(d));
        self.b.fma(left, minus, Source::Reg(lost));
        let s_low = self.mul(left, inverse);
        let z = self.mul(s, s);
        let z_low = self.rest_of_product(s, s, z);
        let twice = self.add(s, s);
        self.b.fma(z_low, twice, Source::Reg(s_low));
        let w = self.polynomial(z, &ARTANH);
        let u = self.mul(w, z);
        let u_low = self.rest_of_product(w, z, u);
        self.b.fma(u_low, z_low, Source::Reg(w));
        let scale = self.constant(LOG2_SCALE);
        let high = self.mul(s, scale);
        let low = self.rest_of_product(s, scale, high);
        self.fma_imm(low, s, LOG2_SCALE_REST);
        self.fma_imm(low, s_low, LOG2_SCALE);
        self.b.mul_add(low, u, Source::Reg(low));
        self.b.fma(low, high, Source::Reg(u_low));
        self.b.fma(low, high, Source::Reg(u));
        // The exponent is larger than the rest, or 0.
        let sum = self.add(e, high);
        let rest = self.bin(BinOp::Sub, e, Source::Reg(sum));
        let rest = self.add(rest, high);
        let rest = self.add(rest, low);
        let log = self.add(sum, rest);
        let gone = self.bin(BinOp::Sub, sum, Source::Reg(log));
        let low = self.add(gone, rest);
        // NaN and infinity stay, that of 0 is -∞.
        let [zero, infinity, minus] = [0.0, f32::INFINITY, f32::NEG_INFINITY].map(|v| self.constant(v));
        let log = self.select(Test::Less, [size, infinity], log, size);
        let log = self.select(Test::Equal, [size, zero], minus, log);
        [log, low]
    }

    /// What a product lost when it was rounded.
    fn rest_of_product(&mut self, a: Vector, b: Vector, product: Vector) -> Vector {
        let rest = self.negated(product);
        self.b.fma_once(rest, a, Source::Reg(b));
        rest
    }
}
