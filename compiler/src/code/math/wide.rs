//! Functions of one or two `f64`, for `f64` tensors and for those `f32` functions that are too rare to deserve lanes.
//!
//! Errors, in ULP of `f64`, unless said otherwise (an `f32` result is rounded from them, so it is off by 1 ULP of
//! `f32` at most):
//!
//! - sin, cos: 2^-52 absolute and 2^-52·|x|·2^-30 beyond |x| = 2^22; the reduction has 113 bits of π/2. Beyond 2^52 the
//!   results are between -1 and 1 and mean nothing;
//! - tan: sin / cos;
//! - asin, acos, atan: 4; sinh, cosh, asinh, acosh, atanh: 8;
//! - erf: 6;
//! - pow: relative error 2^-52 · (2 + |y · ln x|).

use std::f64::consts::{FRAC_2_SQRT_PI, FRAC_PI_2, FRAC_PI_4, LN_2, SQRT_2};

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::Math;

/// π/2 in parts: products of the first two with integers below 2^23 are exact.
const PIO2: [f64; 3] = [1.570796325802803, 9.920935791635221e-10, 5.170182981794105e-19];

/// (sin r - r) / r³ in r², for |r| ≤ π/4.
const SIN: [f64; 7] = [
    -0.16666666666666666,
    0.008333333333333099,
    -0.00019841269841054977,
    2.7557319128354717e-06,
    -2.5052085799640506e-08,
    1.605623627992505e-10,
    -7.484694978390869e-13,
];

/// (cos r - 1 + r²/2) / r⁴ in r², for |r| ≤ π/4.
const COS: [f64; 7] = [
    0.041666666666666664,
    -0.0013888888888888434,
    2.480158730124282e-05,
    -2.7557319092672943e-07,
    2.0876729910634883e-09,
    -1.146780335987989e-11,
    4.6362356361583556e-14,
];

/// (atan t - t) / t³ in t², for |t| ≤ tan(π/8).
const ATAN: [f64; 12] = [
    -0.33333333333333326,
    0.1999999999999725,
    -0.14285714285346868,
    0.11111111086072116,
    -0.09090908080086167,
    0.07692281493370803,
    -0.06666210242141654,
    0.058768768497271966,
    -0.05217558685852446,
    0.04500403697390684,
    -0.03340694324170557,
    0.015131526328000031,
];

impl Math<'_, '_> {
    /// Splits `x = n · π/2 + r`, |r| ≤ π/4, and returns `r` and the lowest bits of `n`.
    fn quadrant(&mut self, x: Value) -> (Value, Value) {
        let n = self.scaled(x, 1.0 / FRAC_PI_2);
        let n = self.b.ins().nearest(n);
        let mut r = x;
        for part in PIO2 {
            let part = self.scaled(n, part);
            r = self.sub(r, part);
        }
        let r = self.clamp(r, -1.0, 1.0);
        let low = self.plus(n, super::MAGIC_F64);
        (r, self.to_bits(low))
    }

    fn sin_and_cos(&mut self, r: Value) -> (Value, Value) {
        let z = self.mul(r, r);
        let s = self.polynomial(z, &SIN);
        let s = self.mul(s, z);
        let s = self.mul_add(s, r, r);
        let c = self.polynomial(z, &COS);
        let c = self.mul(c, z);
        let c = self.plus(c, -0.5);
        let c = self.mul(c, z);
        (s, self.plus(c, 1.0))
    }

    fn in_quadrant(&mut self, n: Value, sin: Value, cos: Value) -> Value {
        let odd = self.has_bit(n, 1);
        let y = self.select(odd, cos, sin);
        let negated = self.b.ins().fneg(y);
        let lower = self.has_bit(n, 2);
        self.select(lower, negated, y)
    }

    /// Whether an integer has a bit, as a condition.
    fn has_bit(&mut self, n: Value, bit: i64) -> Value {
        let (bit, zero) = (self.int_constant(bit), self.int_constant(0));
        let found = self.b.ins().band(n, bit);
        self.b.ins().icmp(IntCC::NotEqual, found, zero)
    }

    /// The next quadrant.
    fn next(&mut self, n: Value) -> Value {
        let one = self.int_constant(1);
        self.b.ins().iadd(n, one)
    }

    /// The sine.
    pub fn sin(&mut self, x: Value) -> Value {
        let (r, n) = self.quadrant(x);
        let (sin, cos) = self.sin_and_cos(r);
        self.in_quadrant(n, sin, cos)
    }

    /// The cosine.
    pub fn cos(&mut self, x: Value) -> Value {
        let (r, n) = self.quadrant(x);
        let (sin, cos) = self.sin_and_cos(r);
        let n = self.next(n);
        self.in_quadrant(n, sin, cos)
    }

    /// The tangent.
    pub fn tan(&mut self, x: Value) -> Value {
        let (r, n) = self.quadrant(x);
        let (sin, cos) = self.sin_and_cos(r);
        let next = self.next(n);
        let (sin, cos) = (self.in_quadrant(n, sin, cos), self.in_quadrant(next, sin, cos));
        self.div(sin, cos)
    }

    /// The arc tangent: reduced to |t| ≤ tan(π/8) by -1/x and (x - 1)/(x + 1).
    pub fn atan(&mut self, x: Value) -> Value {
        let a = self.abs(x);
        let (minus, plus) = (self.plus(a, -1.0), self.plus(a, 1.0));
        let middle = self.div(minus, plus);
        let one = self.constant(-1.0);
        let far = self.div(one, a);
        let (zero, quarter, half) = (self.constant(0.0), self.constant(FRAC_PI_4), self.constant(FRAC_PI_2));
        let is_middle = self.above(a, SQRT_2 - 1.0);
        let is_far = self.above(a, SQRT_2 + 1.0);
        let t = self.select(is_middle, middle, a);
        let t = self.select(is_far, far, t);
        let base = self.select(is_middle, quarter, zero);
        let base = self.select(is_far, half, base);
        let z = self.mul(t, t);
        let p = self.polynomial(z, &ATAN);
        let p = self.mul(p, z);
        let p = self.mul_add(p, t, t);
        let y = self.add(base, p);
        self.with_sign(y, x)
    }

    /// The arc sine, as atan(x / √((1 - x)(1 + x))).
    pub fn asin(&mut self, x: Value) -> Value {
        let one = self.constant(1.0);
        let (minus, plus) = (self.sub(one, x), self.add(one, x));
        let below = self.mul(minus, plus);
        let below = self.b.ins().sqrt(below);
        let t = self.div(x, below);
        self.atan(t)
    }

    /// The arc cosine, as 2·atan(√((1 - x) / (1 + x))).
    pub fn acos(&mut self, x: Value) -> Value {
        let one = self.constant(1.0);
        let (minus, plus) = (self.sub(one, x), self.add(one, x));
        let t = self.div(minus, plus);
        let t = self.b.ins().sqrt(t);
        let y = self.atan(t);
        self.add(y, y)
    }

    /// e^a / 2, for large `a`, where e^a alone could overflow.
    fn half_exp(&mut self, a: Value) -> Value {
        let half = self.scaled(a, 0.5);
        let e = self.exp(half);
        let half = self.scaled(e, 0.5);
        self.mul(half, e)
    }

    /// The hyperbolic sine, as (m + m / (m + 1)) / 2 with m = e^|x| - 1.
    pub fn sinh(&mut self, x: Value) -> Value {
        let a = self.abs(x);
        let m = self.expm1(a);
        let below = self.plus(m, 1.0);
        let rest = self.div(m, below);
        let small = self.add(m, rest);
        let small = self.scaled(small, 0.5);
        let large = self.half_exp(a);
        let is_large = self.above(a, 40.0);
        let y = self.select(is_large, large, small);
        self.with_sign(y, x)
    }

    /// The hyperbolic cosine, as e^|x| / 2 + 1 / (2·e^|x|).
    pub fn cosh(&mut self, x: Value) -> Value {
        let a = self.abs(x);
        let half = self.half_exp(a);
        let quarter = self.constant(0.25);
        let rest = self.div(quarter, half);
        self.add(half, rest)
    }

    /// The inverse of sinh, as ln(1 + (a + a² / (1 + √(a² + 1)))), for large `a` as ln a + ln 2.
    pub fn asinh(&mut self, x: Value) -> Value {
        let a = self.abs(x);
        let square = self.mul(a, a);
        let root = self.plus(square, 1.0);
        let root = self.b.ins().sqrt(root);
        let below = self.plus(root, 1.0);
        let rest = self.div(square, below);
        let t = self.add(a, rest);
        let y = self.log1p(t);
        let y = self.or_log_of_twice(a, y);
        self.with_sign(y, x)
    }

    /// The inverse of cosh, as ln(1 + (t + √(t·(t + 2)))) with t = x - 1, for large `x` as ln x + ln 2.
    pub fn acosh(&mut self, x: Value) -> Value {
        let t = self.plus(x, -1.0);
        let root = self.plus(t, 2.0);
        let root = self.mul(root, t);
        let root = self.b.ins().sqrt(root);
        let t = self.add(t, root);
        let y = self.log1p(t);
        let y = self.or_log_of_twice(x, y);
        // Far below 1 the product above is positive again.
        let (one, nan) = (self.constant(1.0), self.constant(f64::NAN));
        let below = self.compare(FloatCC::LessThan, x, one);
        self.select(below, nan, y)
    }

    fn or_log_of_twice(&mut self, a: Value, y: Value) -> Value {
        let log = self.log(a);
        let large = self.plus(log, LN_2);
        let is_large = self.above(a, 268435456.0);
        self.select(is_large, large, y)
    }

    /// The inverse of tanh, as ln(1 + 2a / (1 - a)) / 2.
    pub fn atanh(&mut self, x: Value) -> Value {
        let a = self.abs(x);
        let one = self.constant(1.0);
        let below = self.sub(one, a);
        let above = self.add(a, a);
        let t = self.div(above, below);
        let y = self.log1p(t);
        let y = self.scaled(y, 0.5);
        self.with_sign(y, x)
    }

    /// `x` to the power of `y`, with the special cases of C's pow.
    pub fn pow(&mut self, x: Value, y: Value) -> Value {
        let (zero, one) = (self.constant(0.0), self.constant(1.0));
        let a = self.abs(x);
        let log = self.log(a);
        let product = self.mul(y, log);
        let power = self.exp(product);
        // 1^y and x^0 are 1, whatever the other is.
        let unit = self.compare(FloatCC::Equal, a, one);
        let power = self.select(unit, one, power);
        let whole = self.b.ins().nearest(y);
        let is_whole = self.compare(FloatCC::Equal, whole, y);
        let half = self.scaled(y, 0.5);
        let even = self.b.ins().nearest(half);
        let is_odd = self.compare(FloatCC::NotEqual, even, half);
        let is_odd = self.b.ins().band(is_odd, is_whole);
        // The sign of x, -0 included, for odd y.
        let signed = self.with_sign(power, x);
        let power = self.select(is_odd, signed, power);
        // A negative x has no power that is not whole, but for -∞.
        let nan = self.constant(f64::NAN);
        let infinity = self.constant(f64::NEG_INFINITY);
        let negative = self.compare(FloatCC::LessThan, x, zero);
        let finite = self.compare(FloatCC::GreaterThan, x, infinity);
        let negative = self.b.ins().band(negative, finite);
        let or_nan = self.select(is_whole, power, nan);
        let power = self.select(negative, or_nan, power);
        let is_one = self.compare(FloatCC::Equal, x, one);
        let is_zero = self.compare(FloatCC::Equal, y, zero);
        let trivial = self.b.ins().bor(is_one, is_zero);
        let power = self.select(trivial, one, power);
        // NaN in x, unless y is 0: the logarithm let it through; NaN in y likewise, unless x is 1 (or -1: not whole).
        power
    }

    /// The error function. Up to 2 it is e^-x² · 2/√π · Σ x · (2x²)^n / (1 · 3 · … · (2n + 1)), all terms positive, until
    /// they do not count; from there 1 - e^-x² / √π / (x + ½/(x + 1/(x + 1½/(x + …)))) (Abramowitz and Stegun, 7.1.6 and
    /// 7.1.14).
    pub(super) fn erf_f64(&mut self, x: Value) -> Value {
        let six = self.constant(6.0);
        let size = self.abs(x);
        let size = self.min(six, size);
        let square = self.mul(size, size);
        let double = self.add(square, square);
        let one = self.constant(1.0);
        // The term, and the odd number that the next one is divided by, less 2.
        let sum = self.repeated([size, size, one], |m, [term, sum, odd]| {
            let last_place = m.scaled(sum, f64::EPSILON / 4.0);
            let more = m.compare(FloatCC::GreaterThan, term, last_place);
            let odd = m.plus(odd, 2.0);
            let next = m.mul(term, double);
            let next = m.div(next, odd);
            (more, [next, m.add(sum, next), odd])
        })[1];
        // From the 60th part of the fraction to the first.
        let depth = self.constant(30.0);
        let zero = self.constant(0.0);
        let fraction = self.repeated([size, depth, zero], |m, [fraction, part, unused]| {
            let more = m.compare(FloatCC::GreaterThan, part, zero);
            let rest = m.div(part, fraction);
            (more, [m.add(size, rest), m.plus(part, -0.5), unused])
        })[0];
        let square = self.b.ins().fneg(square);
        let e = self.exp(square);
        let series = self.scaled(e, FRAC_2_SQRT_PI);
        let series = self.mul(series, sum);
        let rest = self.scaled(e, FRAC_2_SQRT_PI / 2.0);
        let rest = self.div(rest, fraction);
        let far = self.sub(one, rest);
        let is_far = self.above(size, 2.0);
        let y = self.select(is_far, far, series);
        self.with_sign(y, x)
    }

    /// Numbers that a loop carries, as long as its condition holds for them.
    fn repeated(
        &mut self,
        start: [Value; 3],
        step: impl FnOnce(&mut Self, [Value; 3]) -> (Value, [Value; 3]),
    ) -> [Value; 3] {
        let (head, done) = (self.b.create_block(), self.b.create_block());
        let carried = start.map(|_| self.b.append_block_param(head, types::F64));
        self.b.ins().jump(head, &start.map(Into::into));
        self.b.switch_to_block(head);
        let (more, next) = step(self, carried);
        self.b.ins().brif(more, head, &next.map(Into::into), done, &[]);
        self.b.seal_block(head);
        self.b.switch_to_block(done);
        self.b.seal_block(done);
        carried
    }
}
