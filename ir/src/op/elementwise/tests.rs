use super::*;
use crate::op::testing::{elems, eval, f32s, refusal, tensor, ty};

fn binary(function: BinaryFn) -> Binary {
    Binary { function, activation: None }
}

#[test]
fn operands_broadcast_against_each_other() {
    let (a, b) = (tensor([2, 1], &[10.0f32, 20.0]), tensor([3], &[1.0f32, 2.0, 3.0]));
    let y = eval(binary(BinaryFn::Add), &[&a, &b]);
    assert_eq!(y.shape()[..], [2, 3]);
    assert_eq!(*y.elems::<f32>().unwrap(), [11.0, 12.0, 13.0, 21.0, 22.0, 23.0]);
}

#[test]
fn a_scalar_broadcasts_to_anything() {
    let (a, b) = (tensor([], &[2i64]), tensor([1, 2], &[3i64, -4]));
    assert_eq!(elems::<i64>(binary(BinaryFn::Mul), &[&a, &b]), [6, -8]);
}

#[test]
fn integer_division_truncates_and_survives_zero_and_overflow() {
    let (a, b) = (tensor([4], &[7i32, -7, 5, i32::MIN]), tensor([4], &[2i32, 2, 0, -1]));
    assert_eq!(elems::<i32>(binary(BinaryFn::Div), &[&a, &b]), [3, -3, 0, i32::MIN]);
    assert_eq!(elems::<i32>(binary(BinaryFn::Mod { fmod: false }), &[&a, &b]), [1, 1, 0, 0]);
    assert_eq!(elems::<i32>(binary(BinaryFn::Mod { fmod: true }), &[&a, &b]), [1, -1, 0, 0]);
}

#[test]
fn integers_wrap_around() {
    let (a, b) = (tensor([2], &[200u8, 0]), tensor([2], &[100u8, 1]));
    assert_eq!(elems::<u8>(binary(BinaryFn::Add), &[&a, &b]), [44, 1]);
    assert_eq!(elems::<u8>(binary(BinaryFn::Sub), &[&a, &b]), [100, 255]);
    let big = tensor([1], &[u64::MAX]);
    assert_eq!(elems::<u64>(binary(BinaryFn::Mul), &[&big, &big]), [1]);
}

#[test]
fn a_power_takes_an_exponent_of_another_type() {
    let x = tensor([2], &[2.0f32, 3.0]);
    assert_eq!(elems::<f32>(binary(BinaryFn::Pow), &[&x, &tensor([2], &[3i64, -1])]), [8.0, 1.0 / 3.0]);
    let i = tensor([2], &[2i32, 9]);
    assert_eq!(elems::<i32>(binary(BinaryFn::Pow), &[&i, &tensor([], &[0.5f32])]), [1, 3]);
    assert_eq!(elems::<i32>(binary(BinaryFn::Pow), &[&i, &tensor([2], &[10i64, -1])]), [1024, 0]);
}

#[test]
fn the_sign_of_a_remainder_follows_fmod() {
    let (a, b) = (tensor([2], &[-4.5f32, 4.5]), tensor([2], &[2.0f32, -2.0]));
    assert_eq!(elems::<f32>(binary(BinaryFn::Mod { fmod: true }), &[&a, &b]), [-0.5, 0.5]);
    assert_eq!(elems::<f32>(binary(BinaryFn::Mod { fmod: false }), &[&a, &b]), [1.5, -1.5]);
}

#[test]
fn nan_is_the_minimum_and_the_maximum() {
    let (a, b) = (tensor([2], &[f32::NAN, 1.0]), tensor([2], &[1.0f32, f32::NAN]));
    for function in [BinaryFn::Min, BinaryFn::Max] {
        assert!(elems::<f32>(binary(function), &[&a, &b]).iter().all(|v| v.is_nan()));
    }
}

#[test]
fn comparisons_give_booleans() {
    let (a, b) = (tensor([3], &[1.0f32, 2.0, f32::NAN]), tensor([3], &[2.0f32, 2.0, f32::NAN]));
    let bools = |f| eval(binary(f), &[&a, &b]).to_bools().unwrap();
    assert_eq!(bools(BinaryFn::Less), [true, false, false]);
    assert_eq!(bools(BinaryFn::GreaterOrEqual), [false, true, false]);
    assert_eq!(bools(BinaryFn::Equal), [false, true, false]);
}

#[test]
fn shifts_beyond_the_type_leave_the_sign() {
    let (a, b) = (tensor([3], &[1u8, 129, 255]), tensor([3], &[7u8, 1, 200]));
    assert_eq!(elems::<u8>(binary(BinaryFn::ShiftLeft), &[&a, &b]), [128, 2, 0]);
    assert_eq!(elems::<u8>(binary(BinaryFn::ShiftRight), &[&a, &b]), [0, 64, 0]);
    let (a, b) = (tensor([4], &[-8i8, -8, -8, 64]), tensor([4], &[1i8, 8, -1, 1]));
    assert_eq!(elems::<i8>(binary(BinaryFn::ShiftRight), &[&a, &b]), [-4, -1, -1, 32]);
    assert_eq!(elems::<i8>(binary(BinaryFn::ShiftLeft), &[&a, &b]), [-16, 0, 0, -128]);
}

#[test]
fn a_fused_activation_applies_to_the_result() {
    let add = Binary { function: BinaryFn::Add, activation: Some(Unary::Relu) };
    let (a, b) = (tensor([2], &[1.0f32, 1.0]), tensor([2], &[-3.0f32, 3.0]));
    assert_eq!(elems::<f32>(add, &[&a, &b]), [0.0, 4.0]);
}

#[test]
fn where_takes_from_x_or_y() {
    let condition = Tensor::bools([2, 1], &[true, false]).unwrap();
    let (x, y) = (tensor([2], &[1i64, 2]), tensor([], &[9i64]));
    assert_eq!(elems::<i64>(Where, &[&condition, &x, &y]), [1, 2, 9, 9]);
}

#[test]
fn casts_cut_saturate_and_wrap() {
    let x = tensor([5], &[-1.9f32, 1.9, 300.0, f32::NAN, 0.0]);
    assert_eq!(elems::<u8>(Cast { to: DType::U8 }, &[&x]), [0, 1, 255, 0, 0]);
    let bools = eval(Cast { to: DType::Bool }, &[&x]).to_bools().unwrap();
    assert_eq!(bools, [true, true, true, true, false]);
    assert_eq!(elems::<i8>(Cast { to: DType::I8 }, &[&tensor([1], &[200i64])]), [-56]);
    assert_eq!(elems::<f32>(Cast { to: DType::F32 }, &[&tensor([1], &[16777217i32])]), [16777216.0]);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    assert_eq!(
        refusal(binary(BinaryFn::Add), &[&f32s([2, 3]), &f32s([4])]),
        "types f32[2x3] and f32[4] do not broadcast against each other"
    );
    assert_eq!(
        refusal(binary(BinaryFn::Add), &[&f32s([2]), &ty(DType::I64, [2])]),
        "operands have types f32[2] and i64[2], for which it is not defined"
    );
    assert_eq!(
        refusal(binary(BinaryFn::PRelu), &[&f32s([2]), &f32s([3, 2])]),
        "operand 1 (slope) has type f32[3x2], expected a shape that broadcasts to 2"
    );
    assert!(
        refusal(
            Binary { function: BinaryFn::Less, activation: Some(Unary::Tanh) },
            &[&f32s([2]), &f32s([2])]
        )
        .contains("activation Tanh does not map elements of type bool")
    );
}

#[test]
fn every_function_of_numbers_is_as_computed_by_hand() {
    use BinaryFn::*;
    let (a, b) = ([-3.0f32, -3.0, 2.0, 0.0], [2.0f32, -2.0, 2.0, -1.0]);
    #[rustfmt::skip]
    let expected = [
        (Add, [-1.0, -5.0, 4.0, -1.0]), (Sub, [-5.0, -1.0, 0.0, 1.0]), (Mul, [-6.0, 6.0, 4.0, 0.0]),
        (Div, [-1.5, 1.5, 1.0, 0.0]), (Min, [-3.0, -3.0, 2.0, -1.0]), (Max, [2.0, -2.0, 2.0, 0.0]),
        (Mod { fmod: true }, [-1.0, -1.0, 0.0, 0.0]), (Mod { fmod: false }, [1.0, -1.0, 0.0, 0.0]),
        (PRelu, [-6.0, 6.0, 2.0, 0.0]),
        (Equal, [0.0, 0.0, 1.0, 0.0]), (Less, [1.0, 1.0, 0.0, 0.0]), (LessOrEqual, [1.0, 1.0, 1.0, 0.0]),
        (Greater, [0.0, 0.0, 0.0, 1.0]), (GreaterOrEqual, [0.0, 0.0, 1.0, 1.0]),
    ];
    for (function, expected) in expected {
        let got: Vec<f64> = a.iter().zip(b).map(|(&a, b)| function.apply(a.into(), b.into())).collect();
        assert_eq!(got, expected, "{function:?}");
        let integers: Vec<f64> =
            a.iter().zip(b).map(|(&a, b)| function.apply_integer(a as i128, b as i128) as f64).collect();
        assert_eq!(integers, expected.map(f64::trunc), "{function:?} of integers");
    }
}

#[test]
fn powers_of_integers_are_exact_and_cut_where_the_exponent_is_negative() {
    let bases = tensor([5], &[-2i32, -1, 0, 1, 3]);
    let powers = |exponent: i32| elems::<i32>(binary(BinaryFn::Pow), &[&bases, &tensor([], &[exponent])]);
    assert_eq!(powers(0), [1, 1, 1, 1, 1]);
    assert_eq!(powers(1), [-2, -1, 0, 1, 3]);
    assert_eq!(powers(5), [-32, -1, 0, 1, 243]);
    assert_eq!(powers(6), [64, 1, 0, 1, 729]);
    assert_eq!(powers(-1), [0, -1, 0, 1, 0]);
    assert_eq!(powers(-4), [0, 1, 0, 1, 0]);
}

#[test]
fn booleans_and_bits_are_combined() {
    let (a, b) = ([false, false, true, true], [false, true, false, true]);
    let bits = [a, b].map(|bools| tensor([4], &bools.map(|b| 2 * u8::from(b))));
    let bools = [a, b].map(|bools| Tensor::bools([4], &bools).unwrap());
    for (function, of_bits, expected) in [
        (BinaryFn::And, BinaryFn::BitAnd, [false, false, false, true]),
        (BinaryFn::Or, BinaryFn::BitOr, [false, true, true, true]),
        (BinaryFn::Xor, BinaryFn::BitXor, [false, true, true, false]),
    ] {
        assert_eq!(eval(binary(function), &[&bools[0], &bools[1]]).to_bools().unwrap(), expected);
        assert_eq!(elems::<u8>(binary(of_bits), &[&bits[0], &bits[1]]), expected.map(|b| 2 * u8::from(b)));
    }
}

#[test]
fn an_integer_is_shifted_by_up_to_63_bits() {
    let (one, by) = (tensor([1], &[1u64]), |n: u64| tensor([1], &[n]));
    assert_eq!(elems::<u64>(binary(BinaryFn::ShiftLeft), &[&one, &by(63)]), [1 << 63]);
    assert_eq!(elems::<u64>(binary(BinaryFn::ShiftLeft), &[&one, &by(64)]), [0]);
    let top = tensor([1], &[1u64 << 63]);
    assert_eq!(elems::<u64>(binary(BinaryFn::ShiftRight), &[&top, &by(63)]), [1]);
}

#[test]
fn bits_are_the_same_whatever_they_are_called() {
    let x = tensor([2], &[1.0f32, -0.0]);
    assert_eq!(elems::<u32>(BitCast { to: DType::U32 }, &[&x]), [0x3f80_0000, 0x8000_0000]);
}
