//! Functions of vectors of f32, as sequences of instructions: what epilogues apply to sums, and maps to whole tensors.
//!
//! Each takes a register, leaves it as it is, and gives its result in a fresh one. They are made of a range reduction and a
//! polynomial, fitted as [`math`](crate::code::math) says. Products and sums are fused where the target does that.
//!
//! A power of two is a whole number in the exponent's bits. Added to 1½ · 2²³ + 127, a number is rounded, and stands with the bias of exponents
//! in the low bits of the sum: one shift away. That is enough for powers from 2⁻¹²⁶ to 2¹²⁷; those below are 0.
//!
//! # Accuracy
//!
//! | function | error, ULP |
//! |---|---|
//! | exp, expm1, log, atan | 2 |
//! | sigmoid, tanh, erf | 3 |
//! | sin, cos | 1 up to 2²²; beyond, as [`Inst::Sine`] says, and between -1 and 1 |
//! | powers of any exponent | 2 |
//! | softplus | 4 |
//! | x · sigmoid, mish | 4, and \|x\| times the least denormal |
//! | gelu | 2·10⁻⁷ of x, and 2·10⁻⁵ of the result |
//! | whole and half powers up to 8 | one for each multiplication, root and division, where `x^n` has n - 1 and `1/x` counts n times |
//!
//! NaN goes through, infinities and denormals are as IEEE says.

use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, LOG2_E, SQRT_2};

use nnc_ir::op::Unary;

use super::super::ir::{BinOp, Builder, Inst, Lanes, Source, Test, UnOp, Vector};
use crate::code::math::power::Power;
use crate::code::math::{EXP_F32, LOG_F32};

/// Rounds what is added to it to an integer, in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has trailing zeros, so that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
const SIGN: u32 = 1 << 31;
/// The bias of exponents.
const BIAS: f32 = 127.0;

/// 2^r for |r| ≤ ½.
pub(super) const EXP2: [f64; 7] = [
    1.0,
    0.6931471824645996,
    0.24022647738456726,
    0.05550359562039375,
    0.00961849931627512,
    0.0013390971580520272,
    0.00015329279995057732,
];

/// erf(x) / x - 1 in x², for |x| ≤ [`ERF_SPLIT`].
const ERF_SMALL: [f64; 6] = [
    0.12837915122509003,
    -0.37612512707710266,
    0.11282113194465637,
    -0.026780178770422935,
    0.005016573239117861,
    -0.0006126324879005551,
];
const ERF_SPLIT: f32 = 0.875;

/// log2(1 - erf(a)) / a, from there to 3.95.
const ERF_LARGE: [f64; 6] = [
    -1.6281137466430664,
    -0.9171087145805359,
    -0.15191136300563812,
    0.03305527940392494,
    -0.004648074973374605,
    0.0003099004679825157,
];

/// The share Φ(-a) · e^(a²/2) over t = 1 / (1 + 0.4·a), for 0 ≤ a ≤ 13.3.
const NORMAL_SHARE: [f64; 8] = [
    0.1596316695213318,
    0.1582333743572235,
    0.14702889323234558,
    0.01800801418721676,
    0.20269955694675446,
    -0.32859545946121216,
    0.17773950099945068,
    -0.034745555371046066,
];

/// (2·artanh(s) - 2s) / s³ in s², for 0 ≤ s ≤ ⅓.
const LOG1P: [f64; 5] =
    [0.6666667461395264, 0.39998888969421387, 0.2861659824848175, 0.21430733799934387, 0.24289582669734955];

/// (atan t - t) / t³ in t², for |t| ≤ tan(π/8).
const ATAN: [f64; 5] = [
    -0.33333316445350647,
    0.1999852955341339,
    -0.14244434237480164,
    0.10599558055400848,
    -0.0609116367995739,
];

/// What π/2 and π/4 are beyond the nearest `f32`, in parts of that.
const PI_REST: f32 = -2.782_753_2e-8;

/// `scale · e^(sign · r)` for |r| ≤ ln 2 / 2.
fn exp_coefficients(sign: f64, scale: f64) -> Vec<f64> {
    let all = [1.0, 1.0].into_iter().chain(EXP_F32);
    all.enumerate().map(|(i, c)| scale * c * sign.powi(i as i32)).collect()
}

/// Whether [`Functions::apply`] has a function.
pub fn has(function: Unary) -> bool {
    use Unary::*;
    match function {
        Relu | Clip { .. } | LeakyRelu { .. } | ThresholdedRelu { .. } | Sigmoid | HardSigmoid { .. } => true,
        HardSwish | Silu | Tanh | Elu { .. } | Celu { .. } | Selu { .. } | Softplus | Softsign | Mish => true,
        Gelu { .. } | Erf | Exp | Log | Sqrt | Reciprocal | Abs | Neg | Sign | Floor | Ceil | Round => true,
        Power { .. } | Atan | Sin | Cos => true,
        Tan | Asin | Acos | Sinh | Cosh | Asinh | Acosh | Atanh => false,
        Not | IsNan | IsInf { .. } => false,
    }
}

/// Writes functions of vectors of one width.
pub struct VectorMath<'b> {
    pub(super) b: &'b mut Builder,
    pub(super) lanes: Lanes,
}

impl<'b> VectorMath<'b> {
    /// Functions of vectors of so many lanes.
    pub fn new(b: &'b mut Builder, lanes: Lanes) -> VectorMath<'b> {
        VectorMath { b, lanes }
    }

    /// `function(x)`; `None` for those that [`has`] refuses.
    pub fn apply(&mut self, function: Unary, x: Vector) -> Option<Vector> {
        Some(match function {
            Unary::Relu => self.at_least(x, 0.0),
            Unary::Clip { min, max } => self.clamp(x, min, max),
            Unary::LeakyRelu { alpha } => {
                let scaled = self.scaled(x, alpha);
                self.if_negative(x, scaled, x)
            }
            Unary::ThresholdedRelu { alpha } => {
                let (alpha, zero) = (self.constant(alpha), self.constant(0.0));
                self.select(Test::Less, [alpha, x], x, zero)
            }
            Unary::Sigmoid => self.sigmoid(x),
            Unary::HardSigmoid { alpha, beta } => self.hard_sigmoid(x, alpha, beta),
            Unary::HardSwish => {
                let gate = self.hard_sigmoid(x, 1.0 / 6.0, 0.5);
                self.mul(x, gate)
            }
            Unary::Silu => {
                let gate = self.sigmoid(x);
                self.mul(x, gate)
            }
            Unary::Tanh => self.tanh(x),
            Unary::Elu { alpha } => {
                let below = self.expm1_below(x);
                let below = self.scaled(below, alpha);
                self.if_negative(x, below, x)
            }
            Unary::Celu { alpha } => {
                let divisor = self.constant(alpha);
                let below = self.div(x, divisor);
                let below = self.expm1_below(below);
                let below = self.scaled(below, alpha);
                self.if_negative(x, below, x)
            }
            Unary::Selu { alpha, gamma } => {
                let below = self.expm1_below(x);
                let below = self.scaled(below, alpha);
                let zero = self.constant(0.0);
                let y = self.select(Test::Less, [zero, x], x, below);
                self.scaled(y, gamma)
            }
            Unary::Softplus => self.softplus(x),
            Unary::Softsign => {
                let below = self.abs(x);
                let below = self.plus(below, 1.0);
                self.div(x, below)
            }
            Unary::Mish => self.mish(x),
            Unary::Gelu { tanh: false } => self.gelu(x),
            Unary::Gelu { tanh: true } => self.gelu_tanh(x),
            Unary::Erf => self.erf(x),
            Unary::Exp => self.exp(x),
            Unary::Log => self.log(x),
            Unary::Sqrt => self.un(UnOp::Sqrt, x),
            Unary::Reciprocal => self.reciprocal(x),
            Unary::Abs => self.abs(x),
            Unary::Neg => self.negated(x),
            Unary::Sign => {
                // 0 and NaN stay.
                let one = self.constant(1.0);
                let unit = self.with_sign(one, x);
                let (zero, size) = (self.constant(0.0), self.abs(x));
                self.select(Test::Less, [zero, size], unit, x)
            }
            Unary::Floor => self.un(UnOp::Floor, x),
            Unary::Ceil => self.un(UnOp::Ceil, x),
            Unary::Round => self.un(UnOp::Nearest, x),
            Unary::Power { exponent } => match Power::of(exponent) {
                Some(power) => self.power(x, power),
                None => self.constant_power(x, exponent),
            },
            Unary::Atan => self.atan(x),
            Unary::Sin => self.sine(x, false),
            Unary::Cos => self.sine(x, true),
            Unary::Tan | Unary::Asin | Unary::Acos => return None,
            Unary::Sinh | Unary::Cosh | Unary::Asinh | Unary::Acosh | Unary::Atanh => return None,
            Unary::Not | Unary::IsNan | Unary::IsInf { .. } => return None,
        })
    }

    /// As atan t, π/4 + atan t, or π/2 + atan t, with t = a, (a - 1) / (a + 1), or -1 / a, whichever is the smallest.
    fn atan(&mut self, x: Vector) -> Vector {
        let a = self.abs(x);
        let (above, below) = (self.plus(a, 1.0), self.plus(a, -1.0));
        let [zero, one, minus] = [0.0, 1.0, -1.0].map(|v| self.constant(v));
        let [quarter, half] = [FRAC_PI_4, FRAC_PI_2].map(|v| self.constant(v));
        let [middle, far] = [SQRT_2 - 1.0, SQRT_2 + 1.0].map(|v| self.constant(v));
        // What a + 1 lost by rounding, in parts of the sum, of which the reciprocal is near to a line.
        let kept = self.plus(above, -1.0);
        let lost = self.bin(BinOp::Sub, a, Source::Reg(kept));
        let part = self.constant(0.78);
        self.fma_imm(part, a, -0.21);
        let lost = self.mul(lost, part);
        let mut chosen = |then: Vector, behind: Vector, otherwise: Vector| {
            let near = self.select(Test::Less, [middle, a], then, otherwise);
            self.select(Test::Less, [far, a], behind, near)
        };
        let (over, under) = (chosen(below, minus, a), chosen(above, a, one));
        let (base, lost) = (chosen(quarter, half, zero), chosen(lost, zero, zero));
        let t = self.div(over, under);
        let z = self.mul(t, t);
        let p = self.polynomial(z, &ATAN);
        let p = self.mul(p, z);
        let p = self.bin(BinOp::Sub, p, Source::Reg(lost));
        // What is small comes together first.
        let rest = self.mul(p, t);
        self.fma_imm(rest, base, PI_REST);
        let y = self.add(t, rest);
        let y = self.add(base, y);
        self.with_sign(y, x)
    }

    fn sine(&mut self, x: Vector, cosine: bool) -> Vector {
        let dst = self.b.vector(self.lanes);
        self.b.push(Inst::Sine { dst, src: x, cosine });
        self.clamp(dst, -1.0, 1.0)
    }

    /// A constant in every lane.
    pub fn constant(&mut self, value: f32) -> Vector {
        self.b.constant(self.lanes, value)
    }

    /// `op(a, b)`
    pub fn bin(&mut self, op: BinOp, a: Vector, b: Source) -> Vector {
        let dst = self.b.vector(self.lanes);
        self.b.bin(op, dst, a, b);
        dst
    }

    /// `test(x, y) ? then : otherwise`
    pub fn select(&mut self, test: Test, [x, y]: [Vector; 2], then: Vector, otherwise: Vector) -> Vector {
        let dst = self.b.vector(self.lanes);
        self.b.push(Inst::Select { test, x, y, dst, then, otherwise });
        dst
    }

    fn un(&mut self, op: UnOp, src: Vector) -> Vector {
        let dst = self.b.vector(self.lanes);
        self.b.push(Inst::Un { op, dst, src });
        dst
    }

    fn copy(&mut self, src: Vector) -> Vector {
        let dst = self.b.vector(self.lanes);
        self.b.push(Inst::Copy { dst, src });
        dst
    }

    fn imm_bits(&mut self, op: BinOp, a: Vector, bits: u32) -> Vector {
        self.bin(op, a, Source::Imm(bits))
    }

    fn imm(&mut self, op: BinOp, a: Vector, value: f32) -> Vector {
        self.imm_bits(op, a, value.to_bits())
    }

    pub(super) fn add(&mut self, a: Vector, b: Vector) -> Vector {
        self.bin(BinOp::Add, a, Source::Reg(b))
    }

    pub(super) fn mul(&mut self, a: Vector, b: Vector) -> Vector {
        self.bin(BinOp::Mul, a, Source::Reg(b))
    }

    fn div(&mut self, a: Vector, b: Vector) -> Vector {
        self.bin(BinOp::Div, a, Source::Reg(b))
    }

    pub(super) fn plus(&mut self, a: Vector, value: f32) -> Vector {
        self.imm(BinOp::Add, a, value)
    }

    pub(super) fn scaled(&mut self, a: Vector, value: f32) -> Vector {
        self.imm(BinOp::Mul, a, value)
    }

    /// `acc` += `a` · `value`
    pub(super) fn fma_imm(&mut self, acc: Vector, a: Vector, value: f32) {
        self.b.fma(acc, a, Source::Imm(value.to_bits()));
    }

    /// `x`, but not below `low`; NaN goes through.
    fn at_least(&mut self, x: Vector, low: f32) -> Vector {
        let low = self.constant(low);
        self.bin(BinOp::Max, low, Source::Reg(x))
    }

    /// `x`, but not above `high`; NaN goes through.
    fn at_most(&mut self, x: Vector, high: f32) -> Vector {
        let high = self.constant(high);
        self.bin(BinOp::Min, high, Source::Reg(x))
    }

    pub(super) fn clamp(&mut self, x: Vector, low: f32, high: f32) -> Vector {
        let x = self.at_least(x, low);
        self.at_most(x, high)
    }

    pub(super) fn abs(&mut self, x: Vector) -> Vector {
        self.imm_bits(BinOp::And, x, !SIGN)
    }

    pub(super) fn negated(&mut self, x: Vector) -> Vector {
        self.imm_bits(BinOp::Xor, x, SIGN)
    }

    /// The sign alone: 0 or -0.
    pub(super) fn sign(&mut self, x: Vector) -> Vector {
        self.imm_bits(BinOp::And, x, SIGN)
    }

    pub(super) fn nearest(&mut self, x: Vector) -> Vector {
        self.un(UnOp::Nearest, x)
    }

    /// The size of `a` (not negative) with the sign of `sign`.
    pub(super) fn with_sign(&mut self, a: Vector, sign: Vector) -> Vector {
        let sign = self.sign(sign);
        self.bin(BinOp::Or, a, Source::Reg(sign))
    }

    pub(super) fn if_negative(&mut self, x: Vector, then: Vector, otherwise: Vector) -> Vector {
        let zero = self.constant(0.0);
        self.select(Test::Less, [x, zero], then, otherwise)
    }

    pub(super) fn reciprocal(&mut self, x: Vector) -> Vector {
        let one = self.constant(1.0);
        self.div(one, x)
    }

    /// `c[0] + c[1]·x + c[2]·x² + …`
    pub(super) fn polynomial(&mut self, x: Vector, coefficients: &[f64]) -> Vector {
        let mut highest_first = coefficients.iter().map(|&c| c as f32).rev();
        let sum = self.constant(highest_first.next().unwrap_or(0.0));
        for c in highest_first {
            self.b.mul_add(sum, x, Source::Imm(c.to_bits()));
        }
        sum
    }

    /// Splits `x = scale · n · ln 2 + r`, |r| ≤ scale · ln 2 / 2: `n + bias` in low bits, `n`, and `r`.
    fn split(&mut self, x: Vector, scale: f32, bias: f32) -> [Vector; 3] {
        let shifted = self.constant(ROUND + bias);
        self.fma_imm(shifted, x, LOG2_E / scale);
        let n = self.imm(BinOp::Sub, shifted, ROUND + bias);
        let r = self.copy(x);
        self.fma_imm(r, n, -LN2_HIGH * scale);
        self.fma_imm(r, n, -LN2_LOW * scale);
        [shifted, n, r]
    }

    /// The power of two of which the exponent is in the low bits, bias and all.
    fn power_of_two(&mut self, shifted: Vector) -> Vector {
        let dst = self.b.vector(self.lanes);
        self.b.push(Inst::Shl { dst, src: shifted, by: 23 });
        dst
    }

    fn exp(&mut self, x: Vector) -> Vector {
        let x = self.at_most(x, 89.0);
        self.exp_of_at_most_89(x)
    }

    fn exp_of_at_most_89(&mut self, x: Vector) -> Vector {
        let x = self.at_least(x, -104.0);
        let [_, n, r] = self.split(x, 1.0, 0.0);
        let src = self.polynomial(r, &exp_coefficients(1.0, 1.0));
        let dst = self.b.vector(self.lanes);
        self.b.push(Inst::Scale { dst, src, by: n });
        dst
    }

    /// `2^y` for `y` from -127.5, where it is 0, to 127.
    fn exp2(&mut self, y: Vector) -> Vector {
        let shifted = self.plus(y, ROUND + BIAS);
        let n = self.imm(BinOp::Sub, shifted, ROUND + BIAS);
        let r = self.bin(BinOp::Sub, y, Source::Reg(n));
        let p = self.polynomial(r, &EXP2);
        let power = self.power_of_two(shifted);
        self.mul(p, power)
    }

    /// `e^x - 1` for `x` up to 0, exact where it is small.
    fn expm1_below(&mut self, x: Vector) -> Vector {
        let x = self.at_least(x, -50.0);
        let [shifted, _, r] = self.split(x, 1.0, BIAS);
        // s·m + (s - 1) with m = e^r - 1
        let m = self.small_expm1(r, 1.0);
        let s = self.power_of_two(shifted);
        let y = self.plus(s, -1.0);
        self.b.fma(y, s, Source::Reg(m));
        y
    }

    /// `(e^(r·by) - 1) / by` as r + r²·P(r).
    fn small_expm1(&mut self, r: Vector, by: f64) -> Vector {
        let coefficients: Vec<f64> =
            EXP_F32.iter().enumerate().map(|(i, c)| c * by.powi(i as i32 + 1)).collect();
        let p = self.polynomial(r, &coefficients);
        let square = self.mul(r, r);
        let m = self.copy(r);
        self.b.fma(m, p, Source::Reg(square));
        m
    }

    /// The exponent and the mantissa: x = 2^e · m, √½ ≤ m < √2, of a positive number.
    pub(super) fn exponent_and_mantissa(&mut self, x: Vector) -> [Vector; 2] {
        let least = self.constant(f32::MIN_POSITIVE);
        let up = self.scaled(x, 8_388_608.0);
        let normal = self.select(Test::Less, [x, least], up, x);
        let (down, zero) =
            (self.constant(-(8_388_608.0 + 127.0 + 23.0)), self.constant(-(8_388_608.0 + 127.0)));
        let bias = self.select(Test::Less, [x, least], down, zero);
        // The exponent in the low bits of 2²³ is that number as a float.
        let e = self.b.vector(self.lanes);
        self.b.push(Inst::Shr { dst: e, src: normal, by: 23 });
        let e = self.imm_bits(BinOp::Or, e, 8_388_608f32.to_bits());
        let e = self.add(e, bias);
        let m = self.imm_bits(BinOp::And, normal, 0x007f_ffff);
        let m = self.imm_bits(BinOp::Or, m, 1f32.to_bits());
        let root = self.constant(SQRT_2);
        let half = self.scaled(m, 0.5);
        let next = self.plus(e, 1.0);
        let e = self.select(Test::Less, [root, m], next, e);
        let m = self.select(Test::Less, [root, m], half, m);
        [e, m]
    }

    fn log(&mut self, x: Vector) -> Vector {
        let [e, m] = self.exponent_and_mantissa(x);
        let f = self.plus(m, -1.0);
        // f - f²/2 + f³·Q(f) + e · ln 2
        let q = self.polynomial(f, &LOG_F32);
        let square = self.mul(f, f);
        let cube = self.mul(square, f);
        let y = self.mul(cube, q);
        self.fma_imm(y, e, LN2_LOW);
        self.fma_imm(y, square, -0.5);
        let y = self.add(f, y);
        self.fma_imm(y, e, LN2_HIGH);
        // NaN and infinity stay, less than 0 has no logarithm, that of 0 is -∞.
        let infinity = self.constant(f32::INFINITY);
        let y = self.select(Test::Less, [x, infinity], y, x);
        let nan = self.constant(f32::NAN);
        let y = self.if_negative(x, nan, y);
        let (zero, infinity) = (self.constant(0.0), self.constant(f32::NEG_INFINITY));
        self.select(Test::Equal, [x, zero], infinity, y)
    }

    /// `1 / (1 + e^-x)` as s / (s + e^-r) with x = n · ln 2 + r and s = 2^n, both times 2²⁴: so s is a normal number where the result
    /// is none, and the quotient is rounded to a denormal once.
    fn sigmoid(&mut self, x: Vector) -> Vector {
        const UP: f32 = 24.0;
        let x = self.clamp(x, -104.0, 71.0);
        let [shifted, _, r] = self.split(x, 1.0, BIAS + UP);
        let rest = self.polynomial(r, &exp_coefficients(-1.0, f64::from(UP).exp2()));
        let s = self.power_of_two(shifted);
        let below = self.add(s, rest);
        self.div(s, below)
    }

    fn hard_sigmoid(&mut self, x: Vector, alpha: f32, beta: f32) -> Vector {
        let y = self.scaled(x, alpha);
        let y = self.plus(y, beta);
        self.clamp(y, 0.0, 1.0)
    }

    /// m / (m + 1) with m = (e^2|x| - 1) / 2
    fn tanh(&mut self, x: Vector) -> Vector {
        let size = self.abs(x);
        // From 9.1 on, the result is 1.
        let size = self.at_most(size, 10.0);
        // s·m + (s - 1)/2 with s = 2^n and m of what is left of the argument.
        let [shifted, _, r] = self.split(size, 0.5, BIAS);
        let small = self.small_expm1(r, 2.0);
        let s = self.power_of_two(shifted);
        let m = self.constant(-0.5);
        self.fma_imm(m, s, 0.5);
        self.b.fma(m, s, Source::Reg(small));
        let below = self.plus(m, 1.0);
        let y = self.div(m, below);
        self.with_sign(y, x)
    }

    /// max(x, 0) + ln(1 + e^-|x|), the logarithm as 2·artanh(s) with s = t / (t + 2)
    fn softplus(&mut self, x: Vector) -> Vector {
        let t = self.imm_bits(BinOp::Or, x, SIGN);
        let t = self.exp_of_at_most_89(t);
        let below = self.plus(t, 2.0);
        let s = self.div(t, below);
        let square = self.mul(s, s);
        let rest = self.polynomial(square, &LOG1P);
        let cube = self.mul(square, s);
        let y = self.add(s, s);
        self.b.fma(y, cube, Source::Reg(rest));
        let positive = self.at_least(x, 0.0);
        self.add(positive, y)
    }

    /// x · n / (n + 2) with n = e^x · (e^x + 2)
    fn mish(&mut self, x: Vector) -> Vector {
        let small = self.at_most(x, 22.0);
        let e = self.exp_of_at_most_89(small);
        let n = self.plus(e, 2.0);
        let n = self.mul(e, n);
        let below = self.plus(n, 2.0);
        let share = self.div(n, below);
        self.mul(x, share)
    }

    /// x + x·E(x²) up to [`ERF_SPLIT`], then 1 - 2^(|x|·G(|x|))
    fn erf(&mut self, x: Vector) -> Vector {
        let size = self.abs(x);
        let size = self.at_most(size, 4.0);
        let g = self.polynomial(size, &ERF_LARGE);
        let g = self.mul(size, g);
        let rest = self.exp2(g);
        let one = self.constant(1.0);
        let large = self.bin(BinOp::Sub, one, Source::Reg(rest));
        let large = self.with_sign(large, x);
        let square = self.mul(x, x);
        let small = self.polynomial(square, &ERF_SMALL);
        self.b.mul_add(small, x, Source::Reg(x));
        let split = self.constant(ERF_SPLIT);
        self.select(Test::Less, [split, size], large, small)
    }

    /// x times the share t · S(t) · 2^(-a² · log2(e) / 2), or 1 less that, with a = |x| and t = 1 / (1 + 0.4·a)
    fn gelu(&mut self, x: Vector) -> Vector {
        let size = self.abs(x);
        // From there on the result is 0.
        let size = self.at_most(size, 13.25);
        let t = self.constant(1.0);
        self.fma_imm(t, size, 0.4);
        let t = self.reciprocal(t);
        let s = self.polynomial(t, &NORMAL_SHARE);
        let s = self.mul(s, t);
        let exponent = self.scaled(size, -0.5 * LOG2_E);
        let exponent = self.mul(exponent, size);
        let e = self.exp2(exponent);
        let below = self.mul(e, s);
        let (zero, one) = (self.constant(0.0), self.constant(1.0));
        let above = self.bin(BinOp::Sub, one, Source::Reg(below));
        let share = self.select(Test::Less, [zero, x], above, below);
        self.mul(x, share)
    }

    /// x · sigmoid(2·√(2/π) · (x + 0.044715·x³))
    fn gelu_tanh(&mut self, x: Vector) -> Vector {
        let k = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
        let square = self.mul(x, x);
        let inner = self.constant(k as f32);
        self.fma_imm(inner, square, (0.044715 * k) as f32);
        let inner = self.mul(x, inner);
        let share = self.sigmoid(inner);
        self.mul(x, share)
    }

    /// Powers with few multiplications; see [`Power`].
    fn power(&mut self, x: Vector, power: Power) -> Vector {
        let Power { whole, root, inverse } = power;
        let base = if inverse { self.reciprocal(x) } else { x };
        let whole = self.whole_power(base, whole);
        if !root {
            return whole.unwrap_or_else(|| self.constant(1.0));
        }
        // -0 becomes 0, and -∞ becomes ∞, as the root of a power has it.
        let (low, high) = (self.constant(f32::NEG_INFINITY), self.constant(f32::INFINITY));
        let base = self.plus(x, 0.0);
        let base = self.select(Test::Equal, [base, low], high, base);
        let root = self.un(UnOp::Sqrt, base);
        let root = if inverse { self.reciprocal(root) } else { root };
        match whole {
            // Of a negative number, the root is none, whatever its sign; of -∞ it is ∞ in every power.
            Some(whole) => {
                let size = self.abs(whole);
                self.mul(size, root)
            }
            None => root,
        }
    }

    /// `x^n` by squaring; `None` for 0.
    fn whole_power(&mut self, x: Vector, n: u32) -> Option<Vector> {
        let (mut result, mut base, mut left) = (None, x, n);
        while left > 0 {
            if left % 2 == 1 {
                result = Some(match result {
                    Some(result) => self.mul(result, base),
                    None => base,
                });
            }
            left /= 2;
            if left > 0 {
                base = self.mul(base, base);
            }
        }
        result
    }
}
