//! Functions of one element: activations and the ONNX unary operators.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::number::Numbers;
use super::{Arithmetic, OpError, Operator, Tensors, Types, check, number, required};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// A function of one element. Operand: 0 `x`.
///
/// Parameters are those of the ONNX operator of that name, with ONNX's defaults filled in by the reader.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Unary {
    /// `max(0, x)`; NaN goes through.
    Relu,
    /// `min(max(x, min), max)` (ReLU6: 0 and 6); NaN goes through.
    Clip {
        min: f32,
        max: f32,
    },
    LeakyRelu {
        alpha: f32,
    },
    /// `x > alpha ? x : 0`
    ThresholdedRelu {
        alpha: f32,
    },
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `max(0, min(1, alpha · x + beta))`
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    /// `x · max(0, min(1, x / 6 + 1/2))`
    HardSwish,
    /// `x · sigmoid(x)`
    Silu,
    Tanh,
    Elu {
        alpha: f32,
    },
    Celu {
        alpha: f32,
    },
    Selu {
        alpha: f32,
        gamma: f32,
    },
    Softplus,
    Softsign,
    Mish,
    /// `x/2 · (1 + erf(x / √2))`, or its tanh approximation.
    Gelu {
        tanh: bool,
    },
    Erf,
    Exp,
    Log,
    Sqrt,
    /// `x^exponent`, with the special cases of C's pow.
    Power {
        exponent: f32,
    },
    Reciprocal,
    Abs,
    Neg,
    Sign,
    Floor,
    Ceil,
    /// To the nearest, ties to even.
    Round,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    /// Logical not, of booleans.
    Not,
    IsNan,
    IsInf {
        negative: bool,
        positive: bool,
    },
}

impl Unary {
    /// Element type of the result for elements of type `x`; `None` where the function is not defined for them.
    pub fn result_dtype(self, x: DType) -> Option<DType> {
        let defined = match self {
            Unary::Not => x == DType::Bool,
            Unary::Relu | Unary::Clip { .. } | Unary::Abs | Unary::Neg | Unary::Sign => x != DType::Bool,
            _ => x.is_float(),
        };
        let result = if matches!(self, Unary::IsNan | Unary::IsInf { .. }) { DType::Bool } else { x };
        defined.then_some(result)
    }

    /// The function, of a float. NaN goes through everything that is not a comparison (`ThresholdedRelu`, `IsNan`,
    /// `IsInf`); the latter two and `Not` give 0 or 1.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Unary::Relu => clip(x, 0.0, f64::INFINITY),
            Unary::Clip { min, max } => clip(x, min.into(), max.into()),
            Unary::LeakyRelu { alpha } => {
                if x < 0.0 {
                    f64::from(alpha) * x
                } else {
                    x
                }
            }
            Unary::ThresholdedRelu { alpha } => {
                if x > f64::from(alpha) {
                    x
                } else {
                    0.0
                }
            }
            Unary::Sigmoid => sigmoid(x),
            Unary::HardSigmoid { alpha, beta } => clip(f64::from(alpha) * x + f64::from(beta), 0.0, 1.0),
            Unary::HardSwish => x * clip(x / 6.0 + 0.5, 0.0, 1.0),
            Unary::Silu => x * sigmoid(x),
            Unary::Tanh => x.tanh(),
            Unary::Elu { alpha } => {
                if x < 0.0 {
                    f64::from(alpha) * x.exp_m1()
                } else {
                    x
                }
            }
            Unary::Celu { alpha } => {
                if x < 0.0 {
                    f64::from(alpha) * (x / f64::from(alpha)).exp_m1()
                } else {
                    x
                }
            }
            Unary::Selu { alpha, gamma } => {
                f64::from(gamma) * if x <= 0.0 { f64::from(alpha) * x.exp_m1() } else { x }
            }
            Unary::Softplus => softplus(x),
            Unary::Softsign => x / (1.0 + x.abs()),
            Unary::Mish => x * softplus(x).tanh(),
            Unary::Gelu { tanh: false } => x / 2.0 * erfc(-x * FRAC_1_SQRT_2),
            Unary::Gelu { tanh: true } => {
                // As x · (1 + tanh(inner)) / 2 it would lose its digits where x is negative.
                let inner = FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (x + 0.044715 * x * x * x);
                x * sigmoid(2.0 * inner)
            }
            Unary::Erf => erf(x),
            Unary::Exp => x.exp(),
            Unary::Log => x.ln(),
            Unary::Sqrt => x.sqrt(),
            Unary::Power { exponent } => x.powf(exponent.into()),
            Unary::Reciprocal => 1.0 / x,
            Unary::Abs => x.abs(),
            Unary::Neg => -x,
            Unary::Sign => {
                if x == 0.0 || x.is_nan() {
                    x
                } else {
                    x.signum()
                }
            }
            Unary::Floor => x.floor(),
            Unary::Ceil => x.ceil(),
            Unary::Round => x.round_ties_even(),
            Unary::Sin => x.sin(),
            Unary::Cos => x.cos(),
            Unary::Tan => x.tan(),
            Unary::Asin => x.asin(),
            Unary::Acos => x.acos(),
            Unary::Atan => x.atan(),
            Unary::Sinh => x.sinh(),
            Unary::Cosh => x.cosh(),
            Unary::Asinh => x.asinh(),
            Unary::Acosh => x.acosh(),
            Unary::Atanh => x.atanh(),
            Unary::Not => f64::from(x == 0.0),
            Unary::IsNan => f64::from(x.is_nan()),
            Unary::IsInf { negative, positive } => {
                f64::from((negative && x == f64::NEG_INFINITY) || (positive && x == f64::INFINITY))
            }
        }
    }

    /// The function, of an integer (or a boolean, for `Not`); functions that are not defined for integers leave it.
    fn apply_integer(self, x: i128) -> i128 {
        match self {
            Unary::Relu => x.max(0),
            // A bound that is no integer lies between two; those beyond it are the next ones inside.
            Unary::Clip { min, max } => x.max(min.ceil() as i128).min(max.floor() as i128),
            Unary::Abs => x.abs(),
            Unary::Neg => -x,
            Unary::Sign => x.signum(),
            Unary::Not => i128::from(x == 0),
            _ => x,
        }
    }
}

/// `min(max(x, low), high)` where NaN goes through.
fn clip(x: f64, low: f64, high: f64) -> f64 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `ln(1 + e^x)`, without overflow.
fn softplus(x: f64) -> f64 {
    clip(x, 0.0, f64::INFINITY) + (-x.abs()).exp().ln_1p()
}

/// The error function, to a few units in the last place of `f64`.
///
/// Abramowitz and Stegun, Handbook of Mathematical Functions: the series 7.1.6 (all terms positive) up to 2, from
/// there the continued fraction 7.1.14 of `1 - erf`.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let y = if a < ERF_SERIES { erf_series(a) } else { 1.0 - erfc_fraction(a) };
    y.copysign(x)
}

/// `1 - erf(x)`, without losing digits where that is small.
fn erfc(x: f64) -> f64 {
    if x < ERF_SERIES { 1.0 - erf(x) } else { erfc_fraction(x) }
}

/// Up to where the series takes few terms, and from where the fraction takes few parts.
const ERF_SERIES: f64 = 2.0;

fn erf_series(a: f64) -> f64 {
    let (mut term, mut sum, mut n) = (a, a, 0.0);
    while term > sum * f64::EPSILON / 4.0 {
        n += 1.0;
        term *= 2.0 * a * a / (2.0 * n + 1.0);
        sum += term;
    }
    FRAC_2_SQRT_PI * (-a * a).exp() * sum
}

fn erfc_fraction(a: f64) -> f64 {
    let fraction = (1..60).rev().fold(a, |f, k| a + f64::from(k) / 2.0 / f);
    (-a * a).exp() * FRAC_2_SQRT_PI / 2.0 / fraction
}

impl Operator for Unary {
    fn name(&self) -> &'static str {
        match self {
            Unary::Relu => "Relu",
            Unary::Clip { .. } => "Clip",
            Unary::LeakyRelu { .. } => "LeakyRelu",
            Unary::ThresholdedRelu { .. } => "ThresholdedRelu",
            Unary::Sigmoid => "Sigmoid",
            Unary::HardSigmoid { .. } => "HardSigmoid",
            Unary::HardSwish => "HardSwish",
            Unary::Silu => "Silu",
            Unary::Tanh => "Tanh",
            Unary::Elu { .. } => "Elu",
            Unary::Celu { .. } => "Celu",
            Unary::Selu { .. } => "Selu",
            Unary::Softplus => "Softplus",
            Unary::Softsign => "Softsign",
            Unary::Mish => "Mish",
            Unary::Gelu { .. } => "Gelu",
            Unary::Erf => "Erf",
            Unary::Exp => "Exp",
            Unary::Log => "Log",
            Unary::Sqrt => "Sqrt",
            Unary::Reciprocal => "Reciprocal",
            Unary::Abs => "Abs",
            Unary::Neg => "Neg",
            Unary::Sign => "Sign",
            Unary::Floor => "Floor",
            Unary::Ceil => "Ceil",
            Unary::Round => "Round",
            Unary::Sin => "Sin",
            Unary::Cos => "Cos",
            Unary::Tan => "Tan",
            Unary::Asin => "Asin",
            Unary::Acos => "Acos",
            Unary::Atan => "Atan",
            Unary::Sinh => "Sinh",
            Unary::Cosh => "Cosh",
            Unary::Asinh => "Asinh",
            Unary::Acosh => "Acosh",
            Unary::Atanh => "Atanh",
            Unary::Not => "Not",
            Unary::IsNan => "IsNaN",
            Unary::IsInf { .. } => "IsInf",
            Unary::Power { .. } => "Power",
        }
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        match self.result_dtype(x.dtype) {
            Some(dtype) => Ok(vec![TensorType::new(dtype, x.shape.clone())]),
            None => {
                let expected = match self {
                    Unary::Not => "elements of type bool",
                    Unary::Relu | Unary::Clip { .. } | Unary::Abs | Unary::Neg | Unary::Sign => "numbers",
                    _ => "floating-point elements",
                };
                Err(check::unfit(0, "x", x, expected))
            }
        }
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        Ok(vec![match number::numbers(x)? {
            Numbers::Floats(mut v) => {
                v.iter_mut().for_each(|v| *v = self.apply(*v));
                number::from_floats(y.clone(), &v)?
            }
            Numbers::Integers(mut v) => {
                v.iter_mut().for_each(|v| *v = self.apply_integer(*v));
                number::from_integers(y.clone(), &v)?
            }
        }])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results) }
    }
}

#[cfg(test)]
mod tests;
