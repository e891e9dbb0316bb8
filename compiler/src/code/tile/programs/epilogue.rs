//! What happens to an output vector between the last accumulation and its only store: the same code for all kernels.
//!
//! ```text
//!   y = activation(sum + bias + residual)      Residual::BeforeActivation
//!   y = activation(sum + bias) + residual      Residual::AfterActivation
//! ```
//!
//! The bias is where accumulation starts: `sum` begins at the bias instead of zero, in every kernel and variant.
//!
//! # Accuracy
//!
//! All activations let NaN through. Those made of `max`, `min`, `+` and `·` are exactly what the same f32 expression
//! gives. [`Activation::Sigmoid`] and [`Activation::Silu`] use an exponential of our own (below) and stay within
//! 4·10⁻⁷ of the true value, relative to it, where the result is a normal number; below about -88 they are 0. The others
//! are those of [`functions`](super::functions).
//!
//! # The exponential
//!
//! `exp(z) = 2^n · exp(r)` with `n = round(z / ln 2)` and `|r| ≤ ln 2 / 2`. Adding `1.5·2²³ + 127` rounds to an
//! integer and leaves `n + 127`, the exponent field of `2^n`, in the low bits, from where a shift moves it into place.
//! `exp(r)` is its Taylor polynomial of degree 7, whose remainder is below 6·10⁻⁹.

use nnc_ir::op::Unary;

use super::super::ir::{Addr, BinOp, Builder, Inst, Lanes, Source, Vector};
use super::functions::VectorMath;
use super::rescale::Rescale;

/// The function applied to each output. Parameters are the bits of f32 values, so that descriptors hash and compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(0, x)`
    Relu,
    /// `min(hi, max(lo, x))`; ReLU6 is 0 to 6.
    Clip {
        /// Bits of the lower bound.
        lo: u32,
        /// Bits of the upper bound.
        hi: u32,
    },
    /// `x` where positive, `alpha · x` where negative.
    LeakyRelu {
        /// Bits of the slope.
        alpha: u32,
    },
    /// `max(0, min(1, alpha · x + beta))`
    HardSigmoid {
        /// Bits of the slope.
        alpha: u32,
        /// Bits of the offset.
        beta: u32,
    },
    /// `x · max(0, min(1, alpha · x + beta))`; HardSwish is 1/6 and 1/2.
    HardSwish {
        /// Bits of the slope.
        alpha: u32,
        /// Bits of the offset.
        beta: u32,
    },
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x / (1 + exp(-x))`
    Silu,
    /// The hyperbolic tangent.
    Tanh,
    /// `x/2 · (1 + erf(x / √2))`
    Gelu,
    /// Its approximation by a hyperbolic tangent.
    GeluTanh,
    /// `x · tanh(ln(1 + exp(x)))`
    Mish,
    /// `ln(1 + exp(x))`
    Softplus,
    /// `x` where positive, `alpha · (exp(x) - 1)` where negative.
    Elu {
        /// Bits of the factor.
        alpha: u32,
    },
}

impl Activation {
    /// One of each, with parameters as networks have them: what tests of all activations go through.
    pub fn examples() -> [Activation; 14] {
        let f = f32::to_bits;
        [
            Activation::None,
            Activation::Relu,
            Activation::Clip { lo: f(-0.25), hi: f(0.5) },
            Activation::LeakyRelu { alpha: f(0.1) },
            Activation::HardSigmoid { alpha: f(0.2), beta: f(0.5) },
            Activation::HardSwish { alpha: f(1.0 / 6.0), beta: f(0.5) },
            Activation::Sigmoid,
            Activation::Silu,
            Activation::Tanh,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Mish,
            Activation::Softplus,
            Activation::Elu { alpha: f(0.5) },
        ]
    }

    /// An activation that kernels apply in registers; `None` for those that only loop nests know.
    pub fn of(unary: &Unary) -> Option<Activation> {
        Some(match *unary {
            Unary::Relu => Activation::Relu,
            Unary::Clip { min, max } => Activation::Clip { lo: min.to_bits(), hi: max.to_bits() },
            Unary::LeakyRelu { alpha } => Activation::LeakyRelu { alpha: alpha.to_bits() },
            Unary::HardSigmoid { alpha, beta } => {
                Activation::HardSigmoid { alpha: alpha.to_bits(), beta: beta.to_bits() }
            }
            Unary::HardSwish => {
                Activation::HardSwish { alpha: (1.0f32 / 6.0).to_bits(), beta: 0.5f32.to_bits() }
            }
            Unary::Sigmoid => Activation::Sigmoid,
            Unary::Silu => Activation::Silu,
            Unary::Tanh => Activation::Tanh,
            Unary::Gelu { tanh: false } => Activation::Gelu,
            Unary::Gelu { tanh: true } => Activation::GeluTanh,
            Unary::Mish => Activation::Mish,
            Unary::Softplus => Activation::Softplus,
            Unary::Elu { alpha } => Activation::Elu { alpha: alpha.to_bits() },
            _ => return None,
        })
    }

    /// Those that are a [function](VectorMath) of the sum in a fresh register.
    fn function(self) -> Option<Unary> {
        match self {
            Activation::Tanh => Some(Unary::Tanh),
            Activation::Gelu => Some(Unary::Gelu { tanh: false }),
            Activation::GeluTanh => Some(Unary::Gelu { tanh: true }),
            Activation::Mish => Some(Unary::Mish),
            Activation::Softplus => Some(Unary::Softplus),
            Activation::Elu { alpha } => Some(Unary::Elu { alpha: f32::from_bits(alpha) }),
            Activation::None | Activation::Relu | Activation::Clip { .. } => None,
            Activation::LeakyRelu { .. } | Activation::HardSigmoid { .. } => None,
            Activation::HardSwish { .. } | Activation::Sigmoid | Activation::Silu => None,
        }
    }

    /// ReLU6.
    pub fn relu6() -> Activation {
        Activation::Clip { lo: 0f32.to_bits(), hi: 6f32.to_bits() }
    }

    /// A short word for kernel names; empty for none.
    pub fn word(self) -> &'static str {
        match self {
            Activation::None => "",
            Activation::Relu => "_relu",
            Activation::Clip { .. } => "_clip",
            Activation::LeakyRelu { .. } => "_leakyrelu",
            Activation::HardSigmoid { .. } => "_hardsigmoid",
            Activation::HardSwish { .. } => "_hardswish",
            Activation::Sigmoid => "_sigmoid",
            Activation::Silu => "_silu",
            Activation::Tanh => "_tanh",
            Activation::Gelu => "_gelu",
            Activation::GeluTanh => "_gelutanh",
            Activation::Mish => "_mish",
            Activation::Softplus => "_softplus",
            Activation::Elu { .. } => "_elu",
        }
    }
}

/// Whether, and when, a tensor of the output's shape is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelResidual {
    /// None is added.
    #[default]
    None,
    /// Added to the sum; the activation sees it.
    BeforeActivation,
    /// Added to the activation's result.
    AfterActivation,
}

/// What a kernel does to its sums before it stores them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelEpilogue {
    /// Whether sums start at a bias per output channel (else at zero).
    pub bias: bool,
    /// How sums of integers are rescaled; they have neither residual nor activation.
    pub rescale: Option<Rescale>,
    /// Whether sums that are whole numbers are stored as `i32`, and nothing else is done to them.
    pub sums: bool,
    /// The tensor that is added.
    pub residual: KernelResidual,
    /// The function that is applied.
    pub activation: Activation,
}

impl KernelEpilogue {
    /// A suffix for kernel names.
    pub fn word(self) -> String {
        let residual = match self.residual {
            KernelResidual::None => "",
            KernelResidual::BeforeActivation | KernelResidual::AfterActivation => "_add",
        };
        let rescale = self.rescale.map_or(if self.sums { "_sums" } else { "" }, Rescale::word);
        format!("{rescale}{}{residual}", self.activation.word())
    }

    /// Registers that outputs of one register each need at most, besides the sums: bounds, intermediate values, and
    /// a scratch register for immediates where an instruction set has no operand for them. Storing takes `stored`; see
    /// [`store_registers`](super::super::store_registers).
    pub fn registers(self, stored: usize) -> usize {
        let (bounds, values) = match self.activation {
            Activation::None => (0, 0),
            Activation::Relu => (1, 0),
            Activation::Clip { .. } => (2, 0),
            Activation::LeakyRelu { .. } => (1, 2),
            Activation::HardSigmoid { .. } => (2, 1),
            Activation::HardSwish { .. } => (2, 2),
            Activation::Sigmoid | Activation::Silu => (0, 4),
            Activation::Tanh | Activation::Mish | Activation::Elu { .. } => (0, 6),
            Activation::Gelu | Activation::GeluTanh | Activation::Softplus => (0, 7),
        };
        let part_of_residual = if self.residual == KernelResidual::None { 0 } else { 2 };
        let factor = usize::from(self.rescale.is_some());
        bounds + values.max(part_of_residual).max(stored).max(1) + factor
    }

    /// Writes the constants that all outputs share; `widest` is the widest output.
    pub(super) fn begin(self, b: &mut Builder, widest: Lanes) -> Clamp {
        let mut held = |value: u32| {
            let dst = b.vector(widest);
            b.push(Inst::Const { dst, bits: value });
            dst
        };
        let (low, high) = match self.activation {
            Activation::None => (None, None),
            Activation::Relu | Activation::LeakyRelu { .. } => (Some(held(0)), None),
            Activation::Clip { lo, hi } => (Some(held(lo)), Some(held(hi))),
            Activation::HardSigmoid { .. } | Activation::HardSwish { .. } => {
                (Some(held(0)), Some(held(1f32.to_bits())))
            }
            // The exponential needs four registers besides; it makes its constants anew each time.
            Activation::Sigmoid | Activation::Silu => (None, None),
            Activation::Tanh | Activation::Gelu | Activation::GeluTanh => (None, None),
            Activation::Mish | Activation::Softplus | Activation::Elu { .. } => (None, None),
        };
        Clamp { low, high }
    }

    /// Turns the sum in `x` into the output. `residual` is the address and the number of lanes to add, if any.
    pub(super) fn apply(self, b: &mut Builder, constants: Clamp, x: Vector, residual: Option<(Addr, u32)>) {
        if self.residual == KernelResidual::BeforeActivation {
            add(b, x, residual);
        }
        self.activation.apply(b, constants, x);
        if self.residual == KernelResidual::AfterActivation {
            add(b, x, residual);
        }
    }
}

/// Registers that hold the bounds of an activation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clamp {
    pub(super) low: Option<Vector>,
    high: Option<Vector>,
}

/// Adds memory to `x`, touching only the lanes that exist.
fn add(b: &mut Builder, x: Vector, residual: Option<(Addr, u32)>) {
    match residual {
        None => {}
        Some((addr, n)) if n >= b.lanes(x).count() => b.bin(BinOp::Add, x, x, Source::Mem(addr)),
        Some((addr, n)) => {
            let lanes = b.lanes(x);
            let r = b.load(lanes, n, addr);
            b.bin(BinOp::Add, x, x, Source::Reg(r));
        }
    }
}

impl Activation {
    /// Applies the function to `x` in place.
    pub(super) fn apply(self, b: &mut Builder, constants: Clamp, x: Vector) {
        let Clamp { low, high } = constants;
        let clip = |b: &mut Builder, x: Vector| {
            // The bound comes first, so that NaN in x wins.
            if let Some(low) = low {
                b.bin(BinOp::Max, x, low, Source::Reg(x));
            }
            if let Some(high) = high {
                b.bin(BinOp::Min, x, high, Source::Reg(x));
            }
        };
        let lanes = b.lanes(x);
        match self {
            Activation::None => {}
            Activation::Relu | Activation::Clip { .. } => clip(b, x),
            Activation::LeakyRelu { alpha } => {
                // One of the two parts is zero.
                let negative = b.vector(lanes);
                if let Some(zero) = low {
                    b.bin(BinOp::Min, negative, zero, Source::Reg(x));
                }
                clip(b, x);
                b.fma(x, negative, Source::Imm(alpha));
            }
            Activation::HardSigmoid { alpha, beta } => {
                b.bin(BinOp::Mul, x, x, Source::Imm(alpha));
                b.bin(BinOp::Add, x, x, Source::Imm(beta));
                clip(b, x);
            }
            Activation::HardSwish { alpha, beta } => {
                let gate = b.vector(lanes);
                b.bin(BinOp::Mul, gate, x, Source::Imm(alpha));
                b.bin(BinOp::Add, gate, gate, Source::Imm(beta));
                clip(b, gate);
                b.bin(BinOp::Mul, x, x, Source::Reg(gate));
            }
            Activation::Sigmoid => {
                let d = one_plus_exp_minus(b, x);
                let one = b.constant(lanes, 1.0);
                b.bin(BinOp::Div, x, one, Source::Reg(d));
            }
            Activation::Silu => {
                let d = one_plus_exp_minus(b, x);
                b.bin(BinOp::Div, x, x, Source::Reg(d));
            }
            Activation::Tanh
            | Activation::Gelu
            | Activation::GeluTanh
            | Activation::Mish
            | Activation::Softplus
            | Activation::Elu { .. } => {
                let y = self.function().and_then(|f| VectorMath::new(b, lanes).apply(f, x));
                if let Some(src) = y {
                    b.push(Inst::Copy { dst: x, src });
                }
            }
        }
    }
}

/// ln(2⁻¹²⁶), rounded up: the smallest argument whose exponential is a normal number.
const EXP_LO: f32 = -87.336_54;
/// An argument whose exponential has left the range of f32: it becomes infinity.
const EXP_HI: f32 = 89.0;
/// Rounds to an integer and adds the exponent bias.
const ROUND: f32 = 12_582_912.0 + 127.0;
/// ln 2 in two parts; the first has trailing zeros, so that its product with n is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `1 + exp(-x)` in a fresh register.
fn one_plus_exp_minus(b: &mut Builder, x: Vector) -> Vector {
    let lanes = b.lanes(x);
    let imm = |value: f32| Source::Imm(value.to_bits());
    let z = b.vector(lanes);
    b.bin(BinOp::Mul, z, x, imm(-1.0));
    let low = b.constant(lanes, EXP_LO);
    b.bin(BinOp::Max, z, low, Source::Reg(z));
    let high = b.constant(lanes, EXP_HI);
    b.bin(BinOp::Min, z, high, Source::Reg(z));
    let power = b.constant(lanes, ROUND);
    b.fma(power, z, imm(std::f32::consts::LOG2_E));
    let n = b.vector(lanes);
    b.bin(BinOp::Sub, n, power, imm(ROUND));
    b.fma(z, n, imm(-LN2_HIGH));
    b.fma(z, n, imm(-LN2_LOW));
    b.push(Inst::Shl { dst: power, src: power, by: 23 });
    // 1/7! … 1/0!, by Horner's rule.
    let mut sum = b.constant(lanes, 1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        let next = b.constant(lanes, coefficient);
        b.fma(next, sum, Source::Reg(z));
        sum = next;
    }
    b.bin(BinOp::Mul, sum, sum, Source::Reg(power));
    b.bin(BinOp::Add, sum, sum, imm(1.0));
    sum
}

#[cfg(test)]
mod tests {
    use super::super::super::ir::{ByteRange, ParamKind, ParamRole, at};
    use super::super::super::x86;
    use super::*;

    /// A planner that trusts in too few registers makes tiles that no kernel can be written for.
    #[test]
    fn every_activation_needs_no_more_registers_than_it_says() {
        for activation in Activation::examples() {
            let epilogue = KernelEpilogue { activation, ..KernelEpilogue::default() };
            let sums = 16 - epilogue.registers(1);
            let mut b = Builder::new(epilogue.word());
            let bytes = ByteRange::new(0, 32 * sums as i64);
            let input = b.param(ParamRole::Input, ParamKind::Read { range: bytes });
            let output = b.param(ParamRole::Output, ParamKind::Write { range: bytes });
            let constants = epilogue.begin(&mut b, Lanes::X8);
            let sums: Vec<Vector> =
                (0..sums as i32).map(|i| b.load(Lanes::X8, 8, at(input, 32 * i))).collect();
            for &x in &sums {
                epilogue.apply(&mut b, constants, x, None);
            }
            for (i, &x) in sums.iter().enumerate() {
                b.store(x, 8, at(output, 32 * i as i32));
            }
            let fits = x86::fits(&b.finish(), x86::Level::Avx2, x86::Extensions::default());
            assert!(fits.is_ok(), "{activation:?}: {fits:?}");
        }
    }
}
