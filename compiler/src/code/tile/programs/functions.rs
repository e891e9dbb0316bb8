//! Functions of vectors of f32, as sequences of instructions: what epilogues apply to sums, and maps to whole tensors.
//!
//! Each takes a register, leaves it as it is, and gives its result in a fresh one. They are made of a range reduction and a
//! polynomial, the same ones as [`nest::math`](crate::code::nest::math), which says how they were fitted. Here products and sums
//! are fused where the target does that.
//!
//! # Accuracy
//!
//! | function | error, ULP |
//! |---|---|
//! | exp, expm1, log | 2 |
//! | sigmoid, tanh, erf | 3 |
//! | softplus | 4 |
//! | x · sigmoid, mish | 4, and \|x\| times the least denormal |
//! | gelu | 2·10⁻⁷ of x, and 2·10⁻⁵ of the result |
//! | powers | one for each multiplication, root and division, where `x^n` has n - 1 and `1/x` counts n times |
//!
//! NaN goes through, infinities and denormals are as IEEE says.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E, SQRT_2};

use nnc_ir::op::Unary;

use super::super::ir::{BinOp, Builder, Inst, Lanes, Source, Test, UnOp, Vector};
use crate::code::nest::math::{ERF_LARGE, ERF_SMALL, ERFC, EXP_F32, LOG_F32};
use crate::code::nest::power::{self, Power};

/// Rounds what is added to it to an integer, in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has trailing zeros, so that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
const SIGN: u32 = 1 << 31;

/// (2·artanh(s) - 2s) / s³ in s², for 0 ≤ s ≤ ⅓.
const LOG1P: [f64; 5] =
    [0.6666667461395264, 0.39998888969421387, 0.2861659824848175, 0.21430733799934387, 0.24289582669734955];

/// Whether [`VectorMath::apply`] has a function.
pub fn has(function: Unary) -> bool {
    use Unary::*;
    match function {
        Relu | Clip { .. } | LeakyRelu { .. } | ThresholdedRelu { .. } | Sigmoid | HardSigmoid { .. } => true,
        HardSwish | Silu | Tanh | Elu { .. } | Celu { .. } | Selu { .. } | Softplus | Softsign | Mish => true,
        Gelu { .. } | Erf | Exp | Log | Sqrt | Reciprocal | Abs | Neg | Sign | Floor | Ceil | Round => true,
        Power { exponent } => power::Power::of(exponent).is_some(),
        Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh | Asinh | Acosh | Atanh => false,
        Not | IsNan | IsInf { .. } => false,
    }
}

/// Writes functions of vectors of one width.
pub struct VectorMath<'b> {
    b: &'b mut Builder,
    lanes: Lanes,
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
                let below = self.expm1(x);
                let below = self.scaled(below, alpha);
                self.if_negative(x, below, x)
            }
            Unary::Celu { alpha } => {
                let divisor = self.constant(alpha);
                let below = self.div(x, divisor);
                let below = self.expm1(below);
                let below = self.scaled(below, alpha);
                self.if_negative(x, below, x)
            }
            Unary::Selu { alpha, gamma } => {
                let below = self.expm1(x);
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
            Unary::Neg => self.imm_bits(BinOp::Xor, x, SIGN),
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
            Unary::Power { exponent } => {
                let power = Power::of(exponent)?;
                self.power(x, power)
            }
            Unary::Sin | Unary::Cos | Unary::Tan | Unary::Asin | Unary::Acos | Unary::Atan => return None,
            Unary::Sinh | Unary::Cosh | Unary::Asinh | Unary::Acosh | Unary::Atanh => return None,
            Unary::Not | Unary::IsNan | Unary::IsInf { .. } => return None,
        })
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

    fn add(&mut self, a: Vector, b: Vector) -> Vector {
        self.bin(BinOp::Add, a, Source::Reg(b))
    }

    fn mul(&mut self, a: Vector, b: Vector) -> Vector {
        self.bin(BinOp::Mul, a, Source::Reg(b))
    }

    fn div(&mut self, a: Vector, b: Vector) -> Vector {
        self.bin(BinOp::Div, a, Source::Reg(b))
    }

    fn plus(&mut self, a: Vector, value: f32) -> Vector {
        self.imm(BinOp::Add, a, value)
    }

    fn scaled(&mut self, a: Vector, value: f32) -> Vector {
        self.imm(BinOp::Mul, a, value)
    }

    /// `acc` += `a` · `value`
    fn fma_imm(&mut self, acc: Vector, a: Vector, value: f32) {
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

    fn clamp(&mut self, x: Vector, low: f32, high: f32) -> Vector {
        let x = self.at_least(x, low);
        self.at_most(x, high)
    }

    fn abs(&mut self, x: Vector) -> Vector {
        self.imm_bits(BinOp::And, x, !SIGN)
    }

    /// The size of `a` (not negative) with the sign of `sign`.
    fn with_sign(&mut self, a: Vector, sign: Vector) -> Vector {
        let sign = self.imm_bits(BinOp::And, sign, SIGN);
        self.bin(BinOp::Or, a, Source::Reg(sign))
    }

    fn if_negative(&mut self, x: Vector, then: Vector, otherwise: Vector) -> Vector {
        let zero = self.constant(0.0);
        self.select(Test::Less, [x, zero], then, otherwise)
    }

    fn reciprocal(&mut self, x: Vector) -> Vector {
        let one = self.constant(1.0);
        self.div(one, x)
    }

    /// `c[0] + c[1]·x + c[2]·x² + …`
    fn polynomial(&mut self, x: Vector, coefficients: &[f64]) -> Vector {
        let mut highest_first = coefficients.iter().rev();
        let mut sum = self.constant(highest_first.next().map_or(0.0, |&c| c as f32));
        for &c in highest_first {
            let next = self.constant(c as f32);
            self.b.fma(next, sum, Source::Reg(x));
            sum = next;
        }
        sum
    }

    /// Splits `x = n · ln 2 + r`, |r| ≤ ln 2 / 2, and returns `n` and e^r - 1 = r + r²·P(r).
    fn exp_parts(&mut self, x: Vector) -> (Vector, Vector) {
        let shifted = self.constant(ROUND);
        self.fma_imm(shifted, x, LOG2_E);
        let n = self.imm(BinOp::Sub, shifted, ROUND);
        let r = self.copy(x);
        self.fma_imm(r, n, -LN2_HIGH);
        self.fma_imm(r, n, -LN2_LOW);
        let p = self.polynomial(r, &EXP_F32);
        let square = self.mul(r, r);
        self.b.fma(r, p, Source::Reg(square));
        (n, r)
    }

    /// `2^(n + bias)` for a whole `n`, the result a normal number.
    fn power_of_two(&mut self, n: Vector, bias: f32) -> Vector {
        let bits = self.plus(n, ROUND + 127.0 + bias);
        self.b.push(Inst::Shl { dst: bits, src: bits, by: 23 });
        bits
    }

    fn exp(&mut self, x: Vector) -> Vector {
        let x = self.clamp(x, -104.0, 89.0);
        let (n, m) = self.exp_parts(x);
        let m = self.plus(m, 1.0);
        // In two steps, so that results may be denormal or overflow.
        let half = self.constant(ROUND);
        self.fma_imm(half, n, 0.5);
        let half = self.imm(BinOp::Sub, half, ROUND);
        let rest = self.bin(BinOp::Sub, n, Source::Reg(half));
        let (half, rest) = (self.power_of_two(half, 0.0), self.power_of_two(rest, 0.0));
        let y = self.mul(m, half);
        self.mul(y, rest)
    }

    /// `e^x - 1`, exact for small `x`.
    fn expm1(&mut self, x: Vector) -> Vector {
        let x = self.clamp(x, -50.0, 89.0);
        let (n, m) = self.exp_parts(x);
        // 2·(s·m + (s - ½)) with s = 2^(n-1): 2^n alone could overflow.
        let s = self.power_of_two(n, -1.0);
        let y = self.plus(s, -0.5);
        self.b.fma(y, s, Source::Reg(m));
        self.add(y, y)
    }

    fn log(&mut self, x: Vector) -> Vector {
        // x = 2^e · m, √½ ≤ m < √2
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

    /// `1 / (1 + e^-x)`
    fn sigmoid(&mut self, x: Vector) -> Vector {
        let e = self.imm_bits(BinOp::Or, x, SIGN);
        let e = self.exp(e);
        let below = self.plus(e, 1.0);
        let one = self.constant(1.0);
        let above = self.if_negative(x, e, one);
        self.div(above, below)
    }

    fn hard_sigmoid(&mut self, x: Vector, alpha: f32, beta: f32) -> Vector {
        let y = self.scaled(x, alpha);
        let y = self.plus(y, beta);
        self.clamp(y, 0.0, 1.0)
    }

    /// m / (m + 2) with m = e^2|x| - 1
    fn tanh(&mut self, x: Vector) -> Vector {
        let size = self.abs(x);
        let size = self.at_most(size, 22.0);
        let twice = self.add(size, size);
        let m = self.expm1(twice);
        let below = self.plus(m, 2.0);
        let y = self.div(m, below);
        self.with_sign(y, x)
    }

    /// max(x, 0) + ln(1 + e^-|x|), the logarithm as 2·artanh(s) with s = t / (t + 2)
    fn softplus(&mut self, x: Vector) -> Vector {
        let t = self.imm_bits(BinOp::Or, x, SIGN);
        let t = self.exp(t);
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
        let e = self.exp(small);
        let n = self.plus(e, 2.0);
        let n = self.mul(e, n);
        let below = self.plus(n, 2.0);
        let share = self.div(n, below);
        self.mul(x, share)
    }

    /// x + x·E(x²) up to 1, then 1 - e^(|x|·G(|x|))
    fn erf(&mut self, x: Vector) -> Vector {
        let size = self.abs(x);
        let size = self.at_most(size, 4.0);
        let g = self.polynomial(size, &ERF_LARGE);
        let g = self.mul(size, g);
        let rest = self.exp(g);
        let one = self.constant(1.0);
        let large = self.bin(BinOp::Sub, one, Source::Reg(rest));
        let large = self.with_sign(large, x);
        let square = self.mul(x, x);
        let factor = self.polynomial(square, &ERF_SMALL);
        let small = self.copy(x);
        self.b.fma(small, factor, Source::Reg(x));
        let one = self.constant(1.0);
        self.select(Test::Less, [one, size], large, small)
    }

    /// x times the share ½ · t · e^(ERFC(t) - a²), or 1 less that, with a = |x| / √2 and t = 1 / (1 + a / 2)
    fn gelu(&mut self, x: Vector) -> Vector {
        let size = self.abs(x);
        let size = self.scaled(size, FRAC_1_SQRT_2);
        // From there on the result is 0.
        let size = self.at_most(size, 12.0);
        let t = self.constant(1.0);
        self.fma_imm(t, size, 0.5);
        let t = self.reciprocal(t);
        let g = self.polynomial(t, &ERFC);
        let minus = self.imm_bits(BinOp::Xor, size, SIGN);
        self.b.fma(g, minus, Source::Reg(size));
        let e = self.exp(g);
        let below = self.mul(t, e);
        let below = self.scaled(below, 0.5);
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
