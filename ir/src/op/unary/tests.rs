use std::f32::consts::{FRAC_PI_3, FRAC_PI_6, LN_2, SQRT_2};

use super::*;
use crate::op::testing::{assert_close, elems, eval, refusal, tensor, ty};

/// Values from the ONNX formulas in exact arithmetic, at 1.5 and -1.5.
const AT_ONE_AND_A_HALF: &[(Unary, f32, f32)] = &[
    (Unary::Relu, 1.5, 0.0),
    (Unary::Clip { min: -1.0, max: 1.0 }, 1.0, -1.0),
    (Unary::LeakyRelu { alpha: 0.5 }, 1.5, -0.75),
    (Unary::ThresholdedRelu { alpha: 1.0 }, 1.5, 0.0),
    (Unary::Sigmoid, 0.817_574_5, 0.182_425_52),
    (Unary::HardSigmoid { alpha: 0.25, beta: 0.5 }, 0.875, 0.125),
    (Unary::HardSwish, 1.125, -0.375),
    (Unary::Silu, 1.226_361_8, -0.273_638_28),
    (Unary::Tanh, 0.905_148_27, -0.905_148_27),
    (Unary::Elu { alpha: 2.0 }, 1.5, -1.553_739_7),
    (Unary::Celu { alpha: 2.0 }, 1.5, -1.055_266_9),
    (Unary::Selu { alpha: 2.0, gamma: 3.0 }, 4.5, -4.661_219),
    (Unary::Softplus, 1.701_413_3, 0.201_413_27),
    (Unary::Softsign, 0.6, -0.6),
    (Unary::Mish, 1.403_378_3, -0.298_099_74),
    (Unary::Gelu { tanh: false }, 1.399_789_2, -0.100_210_8),
    (Unary::Gelu { tanh: true }, 1.399_571_6, -0.100_428_43),
    (Unary::Erf, 0.966_105_16, -0.966_105_16),
    (Unary::Exp, 4.481_689, 0.223_130_16),
    (Unary::Reciprocal, 0.666_666_7, -0.666_666_7),
    (Unary::Abs, 1.5, 1.5),
    (Unary::Neg, -1.5, 1.5),
    (Unary::Sign, 1.0, -1.0),
    (Unary::Floor, 1.0, -2.0),
    (Unary::Ceil, 2.0, -1.0),
    (Unary::Round, 2.0, -2.0),
    (Unary::Sin, 0.997_495, -0.997_495),
    (Unary::Cos, 0.070_737_2, 0.070_737_2),
    (Unary::Tan, 14.101_42, -14.101_42),
    (Unary::Atan, 0.982_793_75, -0.982_793_75),
    (Unary::Sinh, 2.129_279_4, -2.129_279_4),
    (Unary::Cosh, 2.352_409_6, 2.352_409_6),
    (Unary::Asinh, 1.194_763_2, -1.194_763_2),
];

#[test]
fn functions_have_the_values_of_their_formulas() {
    let x = tensor([2], &[1.5f32, -1.5]);
    for &(unary, positive, negative) in AT_ONE_AND_A_HALF {
        assert_close(&elems::<f32>(unary, &[&x]), &[positive, negative]);
    }
}

#[test]
fn functions_defined_on_a_part_of_the_line_are_nan_elsewhere() {
    for (unary, x, y) in [
        (Unary::Log, 2.0f32, LN_2),
        (Unary::Sqrt, 2.0, SQRT_2),
        (Unary::Asin, 0.5, FRAC_PI_6),
        (Unary::Acos, 0.5, FRAC_PI_3),
        (Unary::Acosh, 2.0, 1.316_958),
        (Unary::Atanh, 0.5, 0.549_306_15),
    ] {
        let got = elems::<f32>(unary, &[&tensor([2], &[x, -2.0])]);
        assert_close(&got[..1], &[y]);
        assert!(got[1].is_nan(), "{unary:?}");
    }
}

#[test]
fn nan_goes_through_activations() {
    let x = tensor([1], &[f32::NAN]);
    for &(unary, ..) in AT_ONE_AND_A_HALF {
        let y = elems::<f32>(unary, &[&x])[0];
        assert_eq!(y.is_nan(), !matches!(unary, Unary::ThresholdedRelu { .. }), "{unary:?}");
    }
}

#[test]
fn large_arguments_do_not_overflow_on_the_way() {
    let x = tensor([2], &[1000.0f32, -1000.0]);
    for (unary, expected) in [
        (Unary::Sigmoid, [1.0, 0.0]),
        (Unary::Silu, [1000.0, -0.0]),
        (Unary::Softplus, [1000.0, 0.0]),
        (Unary::Mish, [1000.0, -0.0]),
        (Unary::Gelu { tanh: false }, [1000.0, -0.0]),
        (Unary::Gelu { tanh: true }, [1000.0, -0.0]),
        (Unary::Erf, [1.0, -1.0]),
        (Unary::Elu { alpha: 1.0 }, [1000.0, -1.0]),
    ] {
        assert_eq!(elems::<f32>(unary, &[&x]), expected, "{unary:?}");
    }
}

#[test]
fn erf_agrees_with_published_values() {
    // Abramowitz and Stegun, table 7.1; and erfc(3), erfc(5) to as many digits.
    for (x, y) in [
        (0.5, 0.520_499_877_813_046_5),
        (1.0, 0.842_700_792_949_714_9),
        (2.0, 0.995_322_265_018_952_7),
        (3.0, 1.0 - 2.209_049_699_858_544e-5),
        (5.0, 1.0 - 1.537_459_794_428_035e-12),
    ] {
        assert!((erf(x) - y).abs() < 4e-16, "erf({x}) = {:e}", erf(x));
        assert_eq!(erf(-x), -erf(x));
    }
    assert_eq!(erf(0.0), 0.0);
    assert!((erf(2.999_999_999) - erf(3.0)).abs() < 1e-12);
}

#[test]
fn gelus_keep_their_digits_where_they_are_small() {
    // x · e^(2 · inner), of which 1 + e^(2 · inner) is no more than a ten-millionth less.
    for x in [-5.0f64, -7.0, -9.0] {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        let (y, expected) = (Unary::Gelu { tanh: true }.apply(x), x * (2.0 * inner).exp());
        assert!((y / expected - 1.0).abs() < 1e-6, "{x}: {y:e}, not {expected:e}");
    }
    let y = Unary::Gelu { tanh: false }.apply(-9.0);
    // Φ(-9), from tables of the normal distribution.
    assert!((y / (-9.0 * 1.128_588_4e-19) - 1.0).abs() < 1e-6, "{y:e}");
}

#[test]
fn erfc_keeps_its_digits_where_it_is_small() {
    for (x, y) in [
        (-1.0, 1.842_700_792_949_715),
        (0.0, 1.0),
        (1.0, 0.157_299_207_050_285_13),
        (3.0, 2.209_049_699_858_544e-5),
        (5.0, 1.537_459_794_428_035e-12),
        (10.0, 2.088_487_583_762_545e-45),
    ] {
        assert!((erfc(x) - y).abs() < 2e-14 * y, "erfc({x}) = {:e}", erfc(x));
    }
}

#[test]
fn rounding_ties_go_to_even() {
    let x = tensor([5], &[0.5f32, 1.5, 2.5, -0.5, -1.5]);
    assert_eq!(elems::<f32>(Unary::Round, &[&x]), [0.0, 2.0, 2.0, -0.0, -2.0]);
}

#[test]
fn a_clip_of_crossed_bounds_is_the_upper_one() {
    let x = tensor([2], &[0.0f32, 9.0]);
    assert_eq!(elems::<f32>(Unary::Clip { min: 5.0, max: 2.0 }, &[&x]), [2.0, 2.0]);
}

#[test]
fn integers_keep_their_type() {
    let x = tensor([3], &[-5i8, 0, i8::MIN]);
    assert_eq!(elems::<i8>(Unary::Relu, &[&x]), [0, 0, 0]);
    assert_eq!(elems::<i8>(Unary::Neg, &[&x]), [5, 0, i8::MIN]);
    assert_eq!(elems::<i8>(Unary::Sign, &[&x]), [-1, 0, -1]);
    let clip = Unary::Clip { min: -4.5, max: f32::INFINITY };
    assert_eq!(elems::<i8>(clip, &[&x]), [-4, 0, -4]);
}

#[test]
fn tests_for_nan_and_infinity_give_booleans() {
    let x = tensor([3], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    assert_eq!(eval(Unary::IsNan, &[&x]).to_bools().unwrap(), [true, false, false]);
    let positive = Unary::IsInf { negative: false, positive: true };
    assert_eq!(eval(positive, &[&x]).to_bools().unwrap(), [false, true, false]);
    let not = eval(Unary::Not, &[&eval(Unary::IsNan, &[&x])]);
    assert_eq!(not.to_bools().unwrap(), [false, true, true]);
}

#[test]
fn elements_for_which_a_function_is_not_defined_are_refused() {
    assert_eq!(
        refusal(Unary::Exp, &[&ty(DType::I64, [2])]),
        "operand 0 (x) has type i64[2], expected floating-point elements"
    );
    assert_eq!(
        refusal(Unary::Not, &[&ty(DType::F32, [])]),
        "operand 0 (x) has type f32[], expected elements of type bool"
    );
}

#[test]
fn functions_at_the_numbers_where_they_turn() {
    assert_eq!([-2.0, -0.0, 0.0, 3.0].map(|x| Unary::Sign.apply(x)), [-1.0, 0.0, 0.0, 1.0]);
    assert!(Unary::Sign.apply(f64::NAN).is_nan() && Unary::Erf.apply(f64::NAN).is_nan());
    assert_eq!(Unary::Erf.apply(0.0), 0.0);
    let from_one = Unary::ThresholdedRelu { alpha: 1.0 };
    assert_eq!([0.5, 1.0, 1.5].map(|x| from_one.apply(x)), [0.0, 0.0, 1.5]);
    assert_eq!([0.0, 0.5, -1.0].map(|x| Unary::Not.apply(x)), [1.0, 0.0, 0.0]);
    let ends = [f64::NEG_INFINITY, 1.0, f64::INFINITY, f64::NAN];
    for (negative, positive) in [(false, false), (false, true), (true, false), (true, true)] {
        let expected = [f64::from(negative), 0.0, f64::from(positive), 0.0];
        assert_eq!(ends.map(|x| Unary::IsInf { negative, positive }.apply(x)), expected);
    }
}
