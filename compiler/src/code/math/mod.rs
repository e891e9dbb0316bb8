//! Mathematical functions as Cranelift IR: polynomials after range reduction, no library call.
//!
//! [`Math`] writes every function once, for one `f32`, four lanes of `f32`, one `f64`, or two lanes of `f64`: Cranelift's
//! instructions take all of them, and a lane gives the same bits as a scalar. Functions that networks rarely use exist for `f64`
//! alone ([`wide`]); an `f32` is widened for them and rounded once.
//!
//! | function | error for `f32`, ULP | error for `f64`, ULP |
//! |---|---|---|
//! | exp, expm1 | 2 | 2 |
//! | log, log1p | 2 | 3 |
//! | sigmoid, tanh | 3 | 4 |
//! | softplus | 4 | 4 |
//! | x · sigmoid, mish | 4, and |x| times the least denormal | 5 |
//! | gelu | 2·10⁻⁷ of x, and 2·10⁻⁵ of the result | tanh form: 2·10⁻¹⁶ of x; erf form: 10⁻¹⁵ of x |
//! | erf | 3 | see [`wide`] |
//! | whole and half powers up to 8 | one for each multiplication, root and division; `1/x` counts in each | the same |
//! | sin, cos, tan; asin, acos, atan; sinh, cosh, asinh, acosh, atanh; pow | 1 | see [`wide`] |
//!
//! NaN goes through, infinities and denormals are as IEEE says. Coefficients were fitted for this file by weighted
//! least squares that were driven to equal ripples, one coefficient rounded after another and the rest refitted.

pub mod power;
pub mod wide;

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

use power::Power;

/// Writes functions of one float type: `F32`, `F32X4`, `F64` or `F64X2`.
pub struct Math<'a, 'f> {
    /// Where instructions go.
    pub b: &'a mut FunctionBuilder<'f>,
    ty: Type,
}

/// 1.5 · 2^52: what is added to it leaves a whole number in the low bits.
const MAGIC_F64: f64 = 6755399441055744.0;

/// e^r - 1 - r over r², for |r| ≤ ln 2 / 2.
pub(in crate::code) const EXP_F32: [f64; 5] =
    [0.5, 0.166665181517601, 0.041666433215141296, 0.00836898386478424, 0.0013937861658632755];
const EXP_F64: [f64; 11] = [
    0.5,
    0.16666666666666685,
    0.04166666666666669,
    0.008333333333315896,
    0.0013888888888869185,
    0.0001984126989890037,
    2.4801587357537348e-05,
    2.7557232563821353e-06,
    2.755724474113613e-07,
    2.5112780836564445e-08,
    2.0923918817149242e-09,
];

/// ln 2 in two parts: products of the first with exponents are exact.
const LN2_F32: (f64, f64) = (0.693145751953125, 1.428606765330187e-06);
const LN2_F64: (f64, f64) = (0.6931471803691238, 1.9082149292705877e-10);

/// ln(1 + f) - f + f²/2 over f³, for √½ ≤ 1 + f ≤ √2.
pub(in crate::code) const LOG_F32: [f64; 9] = [
    0.3333331346511841,
    -0.25000011920928955,
    0.20002073049545288,
    -0.1666785478591919,
    0.14220233261585236,
    -0.12408196926116943,
    0.11886204034090042,
    -0.11660660803318024,
    0.06733010709285736,
];

/// (2·artanh(s) - 2s) / s³ in s², for |s| ≤ 0.1716.
const LOG_F64: [f64; 8] = [
    0.6666666666666666,
    0.4000000000000497,
    0.28571428569384943,
    0.22222222612194,
    0.18181777857144868,
    0.15387013440694172,
    0.1325154191879297,
    0.13240680844475808,
];

/// erf(x) / x - 1 in x², for |x| ≤ 1.
pub(in crate::code) const ERF_SMALL: [f64; 7] = [
    0.12837916612625122,
    -0.3761262893676758,
    0.11283618956804276,
    -0.02685517445206642,
    0.005190844647586346,
    -0.0008031835895963013,
    7.924130477476865e-05,
];

/// ln(1 - erf(a)) / a, for 1 ≤ a ≤ 3.95.
pub(in crate::code) const ERF_LARGE: [f64; 8] = [
    -1.1285879611968994,
    -0.6354612708091736,
    -0.10557446628808975,
    0.022996405139565468,
    -0.0031256696674972773,
    0.00011916855874005705,
    3.213489617337473e-05,
    -3.850071607303107e-06,
];

/// ln((1 - erf(a)) / t) + a² over t = 1 / (1 + a / 2), for 0 ≤ a ≤ 9.6.
pub(in crate::code) const ERFC: [f64; 10] = [
    -1.2654300928115845,
    0.9982666373252869,
    0.3898036777973175,
    0.01941474713385105,
    0.046070341020822525,
    -0.16478027403354645,
    -0.5939928293228149,
    1.0799026489257812,
    -0.6482022404670715,
    0.13894742727279663,
];

impl<'a, 'f> Math<'a, 'f> {
    /// Functions of `ty`.
    pub fn new(b: &'a mut FunctionBuilder<'f>, ty: Type) -> Math<'a, 'f> {
        Math { b, ty }
    }

    fn single(&self) -> bool {
        self.ty.lane_type() == types::F32
    }

    fn int_ty(&self) -> Type {
        match self.ty {
            types::F32 => types::I32,
            types::F64 => types::I64,
            types::F64X2 => types::I64X2,
            _ => types::I32X4,
        }
    }

    /// A constant, in every lane.
    pub fn constant(&mut self, v: f64) -> Value {
        match self.ty {
            types::F32 => self.b.ins().f32const(v as f32),
            types::F64 => self.b.ins().f64const(v),
            types::F64X2 => self.vector_constant(&v.to_bits().to_le_bytes()),
            _ => self.vector_constant(&(v as f32).to_bits().to_le_bytes()),
        }
    }

    /// An integer as wide as the float, in every lane.
    pub fn int_constant(&mut self, v: i64) -> Value {
        match self.int_ty() {
            types::I32X4 => {
                let v = self.vector_constant(&(v as u32).to_le_bytes());
                self.to_bits(v)
            }
            types::I64X2 => {
                let v = self.vector_constant(&v.to_le_bytes());
                self.to_bits(v)
            }
            ty => self.b.ins().iconst(ty, if ty == types::I32 { i64::from(v as u32) } else { v }),
        }
    }

    fn vector_constant(&mut self, lane: &[u8]) -> Value {
        let bytes: Vec<u8> = lane.repeat(16 / lane.len().max(1));
        let constant = self.b.func.dfg.constants.insert(ConstantData::from(bytes));
        let ty = self.ty;
        self.b.ins().vconst(ty, constant)
    }

    /// The bits of a float.
    pub fn to_bits(&mut self, v: Value) -> Value {
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        let ty = self.int_ty();
        self.b.ins().bitcast(ty, flags, v)
    }

    /// The float of these bits.
    pub fn from_bits(&mut self, v: Value) -> Value {
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        let ty = self.ty;
        self.b.ins().bitcast(ty, flags, v)
    }

    /// `a + b`
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().fadd(a, b)
    }

    /// `a - b`
    pub fn sub(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().fsub(a, b)
    }

    /// `a · b`
    pub fn mul(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().fmul(a, b)
    }

    /// `a / b`
    pub fn div(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().fdiv(a, b)
    }

    /// `a · k + c`, rounded twice.
    pub(super) fn mul_add(&mut self, a: Value, k: Value, c: Value) -> Value {
        let product = self.b.ins().fmul(a, k);
        self.b.ins().fadd(product, c)
    }

    pub(super) fn scaled(&mut self, a: Value, k: f64) -> Value {
        let k = self.constant(k);
        self.mul(a, k)
    }

    pub(super) fn plus(&mut self, a: Value, k: f64) -> Value {
        let k = self.constant(k);
        self.add(a, k)
    }

    /// `|a|`
    pub fn abs(&mut self, a: Value) -> Value {
        self.b.ins().fabs(a)
    }

    /// A comparison: one boolean, or a mask of ones and zeros in each lane.
    pub fn compare(&mut self, cc: FloatCC, a: Value, b: Value) -> Value {
        self.b.ins().fcmp(cc, a, b)
    }

    pub(super) fn below(&mut self, a: Value, k: f64) -> Value {
        let k = self.constant(k);
        self.compare(FloatCC::LessThan, a, k)
    }

    pub(super) fn above(&mut self, a: Value, k: f64) -> Value {
        let k = self.constant(k);
        self.compare(FloatCC::GreaterThan, a, k)
    }

    /// `condition ? a : b`, for a condition made by [`Math::compare`].
    pub fn select(&mut self, condition: Value, a: Value, b: Value) -> Value {
        if !self.ty.is_vector() {
            return self.b.ins().select(condition, a, b);
        }
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        let mask = self.b.ins().bitcast(self.ty, flags, condition);
        self.b.ins().bitselect(mask, a, b)
    }

    /// `a < b ? a : b`: NaN in `b` goes through.
    pub fn min(&mut self, a: Value, b: Value) -> Value {
        let less = self.compare(FloatCC::LessThan, a, b);
        self.select(less, a, b)
    }

    /// `a > b ? a : b`: NaN in `b` goes through.
    pub fn max(&mut self, a: Value, b: Value) -> Value {
        let less = self.compare(FloatCC::LessThan, b, a);
        self.select(less, a, b)
    }

    /// `x` not below `low` and not above `high`; NaN goes through.
    pub fn clamp(&mut self, x: Value, low: f64, high: f64) -> Value {
        let (low, high) = (self.constant(low), self.constant(high));
        let x = self.max(low, x);
        self.min(high, x)
    }

    /// Magnitude of `a` (not negative), sign of `sign`.
    pub(super) fn with_sign(&mut self, a: Value, sign: Value) -> Value {
        let mask = self.sign_mask();
        let (a, sign) = (self.to_bits(a), self.to_bits(sign));
        let sign = self.b.ins().band(sign, mask);
        let bits = self.b.ins().bor(a, sign);
        self.from_bits(bits)
    }

    fn sign_mask(&mut self) -> Value {
        let mask = if self.single() { i64::from(i32::MIN) } else { i64::MIN };
        self.int_constant(mask)
    }

    /// `c[0] + c[1]·x + c[2]·x² + …`
    pub(super) fn polynomial(&mut self, x: Value, coefficients: &[f64]) -> Value {
        let mut highest_first = coefficients.iter().rev();
        let mut sum = self.constant(highest_first.next().copied().unwrap_or(0.0));
        for &c in highest_first {
            let c = self.constant(c);
            sum = self.mul_add(sum, x, c);
        }
        sum
    }

    fn mantissa_bits(&self) -> i64 {
        if self.single() { 23 } else { 52 }
    }

    /// `2^n`, for `n` in the range of normal exponents.
    pub(super) fn power_of_two(&mut self, n: Value) -> Value {
        let bias = self.int_constant(if self.single() { 127 } else { 1023 });
        let exponent = self.b.ins().iadd(n, bias);
        let shift = self.mantissa_bits();
        let bits = self.b.ins().ishl_imm_s(exponent, shift);
        self.from_bits(bits)
    }

    /// Splits `x = n · ln 2 + r`, |r| ≤ ln 2 / 2, and returns `n` and e^r - 1 = r + r²·P(r).
    fn exp_parts(&mut self, x: Value) -> (Value, Value) {
        // Adding 1.5 · 2^mantissa rounds to an integer and leaves it in the low bits.
        let magic = if self.single() { 12582912.0 } else { MAGIC_F64 };
        let shifted = self.scaled(x, std::f64::consts::LOG2_E);
        let magic = self.constant(magic);
        let shifted = self.add(shifted, magic);
        let whole = self.sub(shifted, magic);
        let (shifted, magic) = (self.to_bits(shifted), self.to_bits(magic));
        let n = self.b.ins().isub(shifted, magic);
        let (high, low) = if self.single() { LN2_F32 } else { LN2_F64 };
        let high = self.scaled(whole, high);
        let low = self.scaled(whole, low);
        let r = self.sub(x, high);
        let r = self.sub(r, low);
        let p = if self.single() { self.polynomial(r, &EXP_F32) } else { self.polynomial(r, &EXP_F64) };
        let square = self.mul(r, r);
        (n, self.mul_add(p, square, r))
    }

    /// `e^x`
    pub fn exp(&mut self, x: Value) -> Value {
        let (low, high) = if self.single() { (-104.0, 89.0) } else { (-746.0, 710.0) };
        let x = self.clamp(x, low, high);
        let (n, m) = self.exp_parts(x);
        let m = self.plus(m, 1.0);
        // In two steps, so that results may be denormal or overflow.
        let half = self.b.ins().sshr_imm_s(n, 1);
        let rest = self.b.ins().isub(n, half);
        let (half, rest) = (self.power_of_two(half), self.power_of_two(rest));
        let y = self.mul(m, half);
        self.mul(y, rest)
    }

    /// `e^x - 1`, exact for small `x`.
    pub fn expm1(&mut self, x: Value) -> Value {
        let high = if self.single() { 89.0 } else { 710.0 };
        let x = self.clamp(x, -50.0, high);
        let (n, m) = self.exp_parts(x);
        // 2·(s·m + (s - ½)) with s = 2^(n-1): 2^n alone could overflow.
        let one = self.int_constant(1);
        let n = self.b.ins().isub(n, one);
        let s = self.power_of_two(n);
        let rest = self.plus(s, -0.5);
        let y = self.mul_add(s, m, rest);
        self.add(y, y)
    }

    /// The natural logarithm.
    pub fn log(&mut self, x: Value) -> Value {
        let (least, up, down) = if self.single() {
            (f32::MIN_POSITIVE.into(), 8388608.0, -23.0)
        } else {
            (f64::MIN_POSITIVE, 4503599627370496.0, -52.0)
        };
        let denormal = self.below(x, least);
        let scaled = self.scaled(x, up);
        let normal = self.select(denormal, scaled, x);
        let (down, zero) = (self.constant(down), self.constant(0.0));
        let correction = self.select(denormal, down, zero);
        // x = 2^e · m, √½ ≤ m < √2
        let bits = self.to_bits(normal);
        let root = self.constant(std::f64::consts::FRAC_1_SQRT_2);
        let root = self.to_bits(root);
        let e = self.b.ins().isub(bits, root);
        let shift = self.mantissa_bits();
        let e = self.b.ins().sshr_imm_s(e, shift);
        let exponent = self.b.ins().ishl_imm_s(e, shift);
        let m = self.b.ins().isub(bits, exponent);
        let m = self.from_bits(m);
        let e = self.small_integer(e);
        let e = self.add(e, correction);
        let f = self.plus(m, -1.0);
        let y = if self.single() { self.log_f32(f, e) } else { self.log_f64(f, e) };
        // NaN and infinity stay, less than 0 has no logarithm, that of 0 is -∞.
        let finite = self.below(x, f64::INFINITY);
        let y = self.select(finite, y, x);
        let negative = self.below(x, 0.0);
        let nan = self.constant(f64::NAN);
        let y = self.select(negative, nan, y);
        let is_zero = self.compare(FloatCC::Equal, x, zero);
        let infinity = self.constant(f64::NEG_INFINITY);
        self.select(is_zero, infinity, y)
    }

    /// An integer of less than 51 bits as a float.
    fn small_integer(&mut self, n: Value) -> Value {
        let ty = self.ty;
        if ty != types::F64X2 {
            return self.b.ins().fcvt_from_sint(ty, n);
        }
        // No vectors of long integers are converted: they are put into the low bits of a float, and taken away again as one.
        let magic = self.constant(MAGIC_F64);
        let bits = self.to_bits(magic);
        let sum = self.b.ins().iadd(bits, n);
        let sum = self.from_bits(sum);
        self.sub(sum, magic)
    }

    /// ln(1 + f) + e · ln 2 as f - f²/2 + f³·Q(f) + e · ln 2
    fn log_f32(&mut self, f: Value, e: Value) -> Value {
        let q = self.polynomial(f, &LOG_F32);
        let square = self.mul(f, f);
        let cube = self.mul(square, f);
        let y = self.mul(cube, q);
        let low = self.scaled(e, LN2_F32.1);
        let y = self.add(y, low);
        let half = self.scaled(square, -0.5);
        let y = self.add(y, half);
        let y = self.add(f, y);
        let high = self.scaled(e, LN2_F32.0);
        self.add(y, high)
    }

    /// With s = f / (2 + f): ln(1 + f) = 2s + s³·L(s²) = f - s·(f - s²·L(s²))
    fn log_f64(&mut self, f: Value, e: Value) -> Value {
        let two = self.plus(f, 2.0);
        let s = self.div(f, two);
        let z = self.mul(s, s);
        let l = self.polynomial(z, &LOG_F64);
        let l = self.mul(z, l);
        let l = self.sub(f, l);
        let l = self.mul(s, l);
        let low = self.scaled(e, LN2_F64.1);
        let l = self.sub(low, l);
        let y = self.add(f, l);
        let high = self.scaled(e, LN2_F64.0);
        self.add(y, high)
    }

    /// `ln(1 + x)`, exact for small `x`.
    pub fn log1p(&mut self, x: Value) -> Value {
        let u = self.plus(x, 1.0);
        let y = self.log(u);
        // What 1 + x lost by rounding; nothing where u is 0 or infinite.
        let kept = self.plus(u, -1.0);
        let lost = self.sub(x, kept);
        let lost = self.div(lost, u);
        let size = self.abs(lost);
        let small = self.below(size, 1.0);
        let zero = self.constant(0.0);
        let lost = self.select(small, lost, zero);
        self.add(y, lost)
    }

    /// `1 / (1 + e^-x)`
    pub fn sigmoid(&mut self, x: Value) -> Value {
        let size = self.abs(x);
        let e = self.b.ins().fneg(size);
        let e = self.exp(e);
        let below = self.plus(e, 1.0);
        let one = self.constant(1.0);
        let negative = self.below(x, 0.0);
        let above = self.select(negative, e, one);
        self.div(above, below)
    }

    /// The hyperbolic tangent, as m / (m + 2) with m = e^2|x| - 1.
    pub fn tanh(&mut self, x: Value) -> Value {
        let size = self.abs(x);
        let high = self.constant(22.0);
        let size = self.min(high, size);
        let twice = self.add(size, size);
        let m = self.expm1(twice);
        let below = self.plus(m, 2.0);
        let y = self.div(m, below);
        self.with_sign(y, x)
    }

    /// `ln(1 + e^x)` as max(x, 0) + ln(1 + e^-|x|)
    pub fn softplus(&mut self, x: Value) -> Value {
        let size = self.abs(x);
        let e = self.b.ins().fneg(size);
        let e = self.exp(e);
        let rest = self.log1p(e);
        let zero = self.constant(0.0);
        let positive = self.max(zero, x);
        self.add(positive, rest)
    }

    /// `x · tanh(softplus(x))` as x · n / (n + 2) with n = e^x · (e^x + 2)
    pub fn mish(&mut self, x: Value) -> Value {
        let high = self.constant(22.0);
        let small = self.min(high, x);
        let e = self.exp(small);
        let n = self.plus(e, 2.0);
        let n = self.mul(e, n);
        let below = self.plus(n, 2.0);
        let share = self.div(n, below);
        self.mul(x, share)
    }

    /// The error function; of `f32`: x + x·E(x²) up to 1, then 1 - e^(|x|·G(|x|)).
    pub fn erf(&mut self, x: Value) -> Value {
        if !self.single() {
            return self.erf_f64(x);
        }
        let square = self.mul(x, x);
        let small = self.polynomial(square, &ERF_SMALL);
        let small = self.mul_add(small, x, x);
        let size = self.abs(x);
        let high = self.constant(4.0);
        let size = self.min(high, size);
        let g = self.polynomial(size, &ERF_LARGE);
        let g = self.mul(size, g);
        let rest = self.exp(g);
        let one = self.constant(1.0);
        let large = self.sub(one, rest);
        let large = self.with_sign(large, x);
        let is_large = self.compare(FloatCC::GreaterThan, size, one);
        self.select(is_large, large, small)
    }

    /// `x / 2 · (1 + erf(x / √2))`; the error is relative to `x`, and of `f32` to the result, too, small as it is where x is
    /// negative: `1 + erf` is computed as such, as t · e^(ERFC(t) - x²/2) of |x| or 2 less that.
    pub fn gelu(&mut self, x: Value) -> Value {
        if !self.single() {
            let inner = self.scaled(x, std::f64::consts::FRAC_1_SQRT_2);
            let e = self.erf(inner);
            let e = self.plus(e, 1.0);
            let half = self.scaled(x, 0.5);
            return self.mul(half, e);
        }
        let size = self.abs(x);
        let size = self.scaled(size, std::f64::consts::FRAC_1_SQRT_2);
        // From there on the result is 0.
        let high = self.constant(12.0);
        let size = self.min(high, size);
        let (zero, one) = (self.constant(0.0), self.constant(1.0));
        let t = self.scaled(size, 0.5);
        let t = self.plus(t, 1.0);
        let t = self.div(one, t);
        let g = self.polynomial(t, &ERFC);
        let minus = self.b.ins().fneg(size);
        let g = self.mul_add(minus, size, g);
        let e = self.exp(g);
        let below = self.mul(t, e);
        let below = self.scaled(below, 0.5);
        let above = self.sub(one, below);
        let positive = self.compare(FloatCC::GreaterThan, x, zero);
        let share = self.select(positive, above, below);
        self.mul(x, share)
    }

    /// `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715·x³)))` as x · sigmoid(2·inner)
    pub fn gelu_tanh(&mut self, x: Value) -> Value {
        let k = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
        let square = self.mul(x, x);
        let inner = self.scaled(square, 0.044715 * k);
        let inner = self.plus(inner, k);
        let inner = self.mul(x, inner);
        let share = self.sigmoid(inner);
        self.mul(x, share)
    }

    /// Powers with few multiplications; see [`Power`].
    pub fn power(&mut self, x: Value, power: Power) -> Value {
        let Power { whole, root, inverse } = power;
        let one = self.constant(1.0);
        let base = if inverse { self.div(one, x) } else { x };
        let product = (1..whole).fold(base, |product, _| self.mul(product, base));
        if !root {
            return if whole == 0 { one } else { product };
        }
        // -0 becomes 0, and -∞ becomes ∞, as the root of a power has it.
        let (low, high) = (self.constant(f64::NEG_INFINITY), self.constant(f64::INFINITY));
        let of = self.plus(x, 0.0);
        let is_low = self.compare(FloatCC::Equal, of, low);
        let of = self.select(is_low, high, of);
        let root = self.b.ins().sqrt(of);
        let root = if inverse { self.div(one, root) } else { root };
        if whole == 0 {
            return root;
        }
        let size = self.abs(product);
        self.mul(size, root)
    }

    /// A number with the product of both signs.
    pub(super) fn mul_signs(&mut self, a: Value, b: Value) -> Value {
        let (a, b) = (self.to_bits(a), self.to_bits(b));
        let signs = self.b.ins().bxor(a, b);
        let signs = self.from_bits(signs);
        let one = self.constant(1.0);
        self.with_sign(one, signs)
    }
}

macro_rules! lanes {
    ($($(#[$doc:meta])* $name:ident = $function:ident),* $(,)?) => {
        $($(#[$doc])*
        pub fn $name(b: &mut FunctionBuilder<'_>, x: Value) -> Value {
            Math::new(b, types::F32X4).$function(x)
        })*
    };
}

lanes!(
    /// `e^x` in four lanes.
    exp_f32x4 = exp,
    /// The natural logarithm in four lanes.
    log_f32x4 = log,
    /// `1 / (1 + e^-x)` in four lanes.
    sigmoid_f32x4 = sigmoid,
    /// The hyperbolic tangent in four lanes.
    tanh_f32x4 = tanh,
    /// The error function in four lanes.
    erf_f32x4 = erf,
);
