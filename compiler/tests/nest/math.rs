//! The stated errors of mathematical functions, over dense ranges of arguments.

use nnc_ir::op::Binary;
use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::{Op, Tensor};

use crate::harness::{Layout, compiled, floats};

/// Arguments of every size and sign: all exponents, several mantissas of each, and what is special.
fn all_sizes() -> Vec<f32> {
    let mut x = vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0, -1.0, f32::MAX, f32::MIN];
    for exponent in 0..255u32 {
        for mantissa in [0, 1, 0x0B_ED1E, 0x35_04F3, 0x35_04F4, 0x5A_5A5A, 0x7F_FFFF] {
            let v = f32::from_bits(exponent << 23 | mantissa);
            x.extend([v, -v]);
        }
    }
    x
}

fn range(low: f32, high: f32, steps: usize) -> impl Iterator<Item = f32> {
    (0..=steps).map(move |i| low + (high - low) * i as f32 / steps as f32)
}

fn run(op: impl Into<Op>, operands: &[&Tensor]) -> Vec<f64> {
    let operands: Vec<Option<&Tensor>> = operands.iter().map(|t| Some(*t)).collect();
    floats(&compiled(&op.into(), &operands, &[], Layout::Dense)[0])
}

/// The distance between neighbouring `f32` (or `f64`) at a number; that of the least normal ones below.
fn ulp(v: f64, bits: i32, least: i32) -> f64 {
    let exponent = if v == 0.0 { least } else { v.abs().log2().floor() as i32 };
    2f64.powi(exponent.max(least) - bits)
}

fn ulp_f32(v: f64) -> f64 {
    ulp(v, 23, -126)
}

/// How `got` misses `exact`: nothing where both are NaN or the same infinity (or what rounds to it).
fn miss(exact: f64, got: f64) -> f64 {
    let same = got == exact || f64::from(exact as f32) == got || (exact.is_nan() && got.is_nan());
    if same { 0.0 } else { (got - exact).abs() }
}

/// Checks a function of `f32` over arguments of all sizes and densely from `low` to `high`.
fn check(function: Unary, (low, high): (f32, f32), allowed: impl Fn(f64, f64) -> f64) {
    // An odd number of elements: lanes and scalars both run.
    let x: Vec<f32> = all_sizes().into_iter().chain(range(low, high, 200_002)).collect();
    let tensor = Tensor::new([x.len()], &x).unwrap();
    let y = run(function, &[&tensor]);
    let mut worst = (0.0, 0.0, 0.0, 0.0);
    for (&x, &got) in x.iter().zip(&y) {
        let exact = function.apply(x.into());
        let miss = match miss(exact, got) {
            0.0 => 0.0,
            miss => miss / allowed(x.into(), exact),
        };
        if miss > worst.0 || miss.is_nan() {
            worst = (miss, x.into(), exact, got);
        }
    }
    let (miss, x, exact, got) = worst;
    assert!(miss <= 1.0, "{function:?}({x:e}) is {got:e}, expected {exact:e}: {miss} times the stated error");
}

#[test]
fn exponentials_and_logarithms_keep_their_error() {
    check(Unary::Exp, (-110.0, 92.0), |_, y| 2.0 * ulp_f32(y));
    check(Unary::Exp, (-1.0, 1.0), |_, y| 2.0 * ulp_f32(y));
    check(Unary::Log, (0.0, 100.0), |_, y| 2.0 * ulp_f32(y));
    check(Unary::Log, (0.5, 2.0), |_, y| 2.0 * ulp_f32(y));
    check(Unary::Elu { alpha: 1.0 }, (-20.0, 1.0), |_, y| 2.0 * ulp_f32(y));
    check(Unary::Celu { alpha: 2.0 }, (-20.0, 1.0), |_, y| 3.0 * ulp_f32(y));
    check(Unary::Selu { alpha: 1.673, gamma: 1.05 }, (-20.0, 1.0), |_, y| 4.0 * ulp_f32(y));
}

#[test]
fn an_arc_tangent_keeps_its_error() {
    check(Unary::Atan, (-9.0, 9.0), |_, y| 2.0 * ulp_f32(y));
    check(Unary::Atan, (-0.5, 0.5), |_, y| 2.0 * ulp_f32(y));
}

#[test]
fn sigmoids_keep_their_error() {
    check(Unary::Sigmoid, (-105.0, 20.0), |_, y| 3.0 * ulp_f32(y));
    check(Unary::Tanh, (-10.0, 10.0), |_, y| 3.0 * ulp_f32(y));
    check(Unary::Tanh, (-0.5, 0.5), |_, y| 3.0 * ulp_f32(y));
    check(Unary::Silu, (-105.0, 20.0), |x, y| 4.0 * ulp_f32(y) + x.abs() * 3e-45);
    check(Unary::Softplus, (-105.0, 30.0), |_, y| 4.0 * ulp_f32(y));
    check(Unary::Mish, (-30.0, 30.0), |x, y| 4.0 * ulp_f32(y) + x.abs() * 3e-45);
    check(Unary::Erf, (-4.5, 4.5), |_, y| 3.0 * ulp_f32(y));
    check(Unary::Erf, (-1.0, 1.0), |_, y| 3.0 * ulp_f32(y));
    check(Unary::Softsign, (-10.0, 10.0), |_, y| 2.0 * ulp_f32(y));
}

#[test]
fn gelus_keep_an_error_relative_to_their_argument() {
    let size = |x: f64, y: f64| 2e-7 * x.abs() + ulp_f32(y);
    // Where x is negative the result is much smaller than x, and keeps most of its digits.
    let digits = |x: f64, y: f64| (2e-5 * y.abs()).min(2e-7 * x.abs()) + ulp_f32(y) + x.abs() * 1.2e-38;
    check(Unary::Gelu { tanh: false }, (-6.0, 6.0), digits);
    check(Unary::Gelu { tanh: false }, (-15.0, 0.0), digits);
    check(Unary::Gelu { tanh: true }, (-6.0, 6.0), size);
    check(Unary::Gelu { tanh: true }, (-10.0, 0.0), digits);
}

#[test]
fn piecewise_linear_functions_are_rounded_once_or_twice() {
    check(Unary::Relu, (-5.0, 5.0), |_, y| 1e-9 * ulp_f32(y));
    check(Unary::Clip { min: -1.0, max: 6.0 }, (-5.0, 9.0), |_, y| 1e-9 * ulp_f32(y));
    check(Unary::LeakyRelu { alpha: 0.1 }, (-5.0, 5.0), |_, y| ulp_f32(y));
    check(Unary::ThresholdedRelu { alpha: 1.5 }, (-5.0, 5.0), |_, y| 1e-9 * ulp_f32(y));
    check(Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }, (-5.0, 5.0), |_, _| 1.2e-7);
    check(Unary::HardSwish, (-5.0, 5.0), |x, _| 1.2e-7 * x.abs().min(f32::MAX.into()) + 1e-45);
    for f in [
        Unary::Sqrt,
        Unary::Reciprocal,
        Unary::Abs,
        Unary::Neg,
        Unary::Sign,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::IsNan,
        Unary::IsInf { negative: true, positive: false },
        Unary::IsInf { negative: true, positive: true },
    ] {
        check(f, (-5.0, 5.0), |_, y| 0.5001 * ulp_f32(y));
    }
}

#[test]
fn powers_round_as_often_as_they_multiply() {
    for (exponent, error) in
        [(2.0, 0.5001), (3.0, 2.0), (8.0, 7.0), (-2.0, 3.0), (0.5, 0.5001), (-0.5, 2.0), (-2.5, 6.0)]
    {
        check(Unary::Power { exponent }, (-2.0, 5.0), |_, y| error * ulp_f32(y));
    }
    // Neither whole nor half a whole number: by way of the logarithm.
    for exponent in [0.3, -1.7, 9.5] {
        check(Unary::Power { exponent }, (-2.0, 5.0), |_, y| 2.0 * ulp_f32(y));
    }
}

#[test]
fn functions_that_are_computed_in_double_are_off_by_one_ulp() {
    for (f, low, high) in [
        (Unary::Tan, -8.0, 8.0),
        (Unary::Asin, -1.1, 1.1),
        (Unary::Acos, -1.1, 1.1),
        (Unary::Sinh, -90.0, 90.0),
        (Unary::Cosh, -90.0, 90.0),
        (Unary::Asinh, -9.0, 9.0),
        (Unary::Acosh, 0.9, 9.0),
        (Unary::Atanh, -1.1, 1.1),
        (Unary::Sin, -8.0, 8.0),
        (Unary::Cos, -8.0, 8.0),
        (Unary::Sin, -4e6, 4e6),
        (Unary::Cos, -4e6, 4e6),
    ] {
        let periodic = matches!(f, Unary::Sin | Unary::Cos | Unary::Tan);
        check(f, (low, high), |x, y| {
            // Beyond its stated range the reduction loses bits with the size of the argument.
            if periodic && x.abs() > 4194304.0 { f64::INFINITY } else { ulp_f32(y) }
        });
    }
}

#[test]
fn sines_of_huge_arguments_stay_sines() {
    let x = [1e10f32, -3e20, f32::MAX, 1e38];
    let tensor = Tensor::new([4], &x).unwrap();
    for f in [Unary::Sin, Unary::Cos] {
        assert!(run(f, &[&tensor]).iter().all(|y| y.abs() <= 1.0));
    }
}

#[test]
fn a_power_is_off_by_two_ulp() {
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for base in range(0.0, 20.0, 90).chain([1e-40, 1e-20, 1e20, 3e38, 0.999999, 1.000001]) {
        for exponent in range(-9.0, 9.0, 72).chain([0.5, 40.0, -40.0, 127.0, 1e-5]) {
            x.extend([base, -base]);
            y.extend([exponent, exponent]);
        }
    }
    let tensors = [&x, &y].map(|v| Tensor::new([v.len()], v).unwrap());
    let op = Binary { function: BinaryFn::Pow, activation: None };
    let got = run(op, &[&tensors[0], &tensors[1]]);
    for ((&x, &y), &got) in x.iter().zip(&y).zip(&got) {
        let exact = f64::from(x).powf(y.into());
        assert!(miss(exact, got) <= 2.0 * ulp_f32(exact), "{x:e} to the {y} is {got:e}, expected {exact:e}");
    }
}

#[test]
fn functions_of_double_keep_their_error() {
    let dense: Vec<f64> = (0..=40_000).map(|i| -10.0 + 20.0 * f64::from(i) / 40_000.0).collect();
    let sizes = (-300..300).flat_map(|e| [1.3 * 10f64.powi(e), -1.3 * 10f64.powi(e)]);
    let special = [0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1.0, -1.0, 5e-324, 709.5, -740.0, 710.2];
    let x: Vec<f64> = dense.into_iter().chain(sizes).chain(special).collect();
    let tensor = Tensor::new([x.len()], &x).unwrap();
    let cases = [
        (Unary::Exp, 2.0),
        (Unary::Log, 3.0),
        (Unary::Sigmoid, 4.0),
        (Unary::Tanh, 4.0),
        (Unary::Softplus, 4.0),
        (Unary::Mish, 5.0),
        (Unary::Elu { alpha: 1.0 }, 2.0),
        (Unary::Erf, 6.0),
        (Unary::Asin, 4.0),
        (Unary::Acos, 4.0),
        (Unary::Atan, 4.0),
        (Unary::Sinh, 8.0),
        (Unary::Cosh, 8.0),
        (Unary::Asinh, 8.0),
        (Unary::Acosh, 8.0),
        (Unary::Atanh, 8.0),
    ];
    for (f, ulps) in cases {
        for (&x, got) in x.iter().zip(run(f, &[&tensor])) {
            let exact = match f {
                // The evaluator's lose digits near 1 and near -1, where they need not be better.
                Unary::Atanh => f.apply(x.abs()).copysign(x),
                Unary::Acosh if (1.0..1e100).contains(&x) => {
                    ((x - 1.0) + ((x - 1.0) * (x + 1.0)).sqrt()).ln_1p()
                }
                _ => f.apply(x),
            };
            let miss =
                if got == exact || (exact.is_nan() && got.is_nan()) { 0.0 } else { (got - exact).abs() };
            // The library that the evaluator calls is off by a unit itself, and its sigmoid of -740 is 0.
            let allowed = (ulps + 1.0) * ulp(exact, 52, -1022) + f64::MIN_POSITIVE;
            assert!(miss <= allowed, "{f:?}({x:e}) is {got:e}, expected {exact:e}, off by {miss:e}");
        }
    }
    for (&x, got) in x.iter().zip(run(Unary::Gelu { tanh: false }, &[&tensor])) {
        let exact = Unary::Gelu { tanh: false }.apply(x);
        let close =
            got == exact || (exact.is_nan() && got.is_nan()) || (got - exact).abs() <= 1e-15 * x.abs();
        assert!(close, "gelu({x:e}) is {got:e}, expected {exact:e}");
    }
    let moderate: Vec<f64> = x.into_iter().filter(|x| x.abs() < 1000.0).collect();
    let tensor = Tensor::new([moderate.len()], &moderate).unwrap();
    for f in [Unary::Sin, Unary::Cos] {
        for (&x, got) in moderate.iter().zip(run(f, &[&tensor])) {
            assert!(
                (got - f.apply(x)).abs() <= 2.3e-16,
                "{f:?}({x:e}) is {got:e}, expected {:e}",
                f.apply(x)
            );
        }
    }
}
