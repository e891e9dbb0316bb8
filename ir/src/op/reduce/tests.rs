use super::*;
use crate::op::testing::{assert_close, elems, eval, f32s, refusal, tensor, ty};

fn over(kind: ReduceKind, axes: &[usize]) -> Reduce {
    Reduce { kind, axes: axes.to_vec(), keep_dims: false }
}

#[test]
fn every_reduction_has_the_value_of_its_formula() {
    let x = tensor([2], &[3.0f32, -4.0]);
    for (kind, expected) in [
        (ReduceKind::Sum, -1.0),
        (ReduceKind::Mean, -0.5),
        (ReduceKind::Max, 3.0),
        (ReduceKind::Min, -4.0),
        (ReduceKind::Prod, -12.0),
        (ReduceKind::L1, 7.0),
        (ReduceKind::L2, 5.0),
        (ReduceKind::SumSquare, 25.0),
        (ReduceKind::LogSumExp, 3.000_911_5),
    ] {
        assert_close(&elems::<f32>(over(kind, &[0]), &[&x]), &[expected]);
    }
    assert_close(
        &elems::<f32>(over(ReduceKind::LogSum, &[0]), &[&tensor([2], &[1.0f32, 1.0])]),
        &[std::f32::consts::LN_2],
    );
}

#[test]
fn axes_that_are_reduced_need_not_be_neighbours() {
    let x = tensor([2, 3, 2], &(0..12).collect::<Vec<i32>>());
    let sum = Reduce { kind: ReduceKind::Sum, axes: vec![0, 2], keep_dims: true };
    let y = eval(sum, &[&x]);
    assert_eq!(y.shape()[..], [1, 3, 1]);
    assert_eq!(*y.elems::<i32>().unwrap(), [14, 22, 30]);
    assert_eq!(elems::<i32>(over(ReduceKind::Max, &[1]), &[&x]), [4, 5, 10, 11]);
}

#[test]
fn ties_go_to_the_first_or_the_last() {
    let x = tensor([1, 4], &[2.0f32, 7.0, 7.0, 2.0]);
    for (kind, expected) in [
        (ReduceKind::ArgMax { last: false }, 1i64),
        (ReduceKind::ArgMax { last: true }, 2),
        (ReduceKind::ArgMin { last: false }, 0),
        (ReduceKind::ArgMin { last: true }, 3),
    ] {
        assert_eq!(elems::<i64>(over(kind, &[1]), &[&x]), [expected]);
    }
}

#[test]
fn nan_is_the_largest_of_any_group() {
    let x = tensor([3], &[1.0f32, f32::NAN, 2.0]);
    assert!(elems::<f32>(over(ReduceKind::Max, &[0]), &[&x])[0].is_nan());
    assert_eq!(elems::<i64>(over(ReduceKind::ArgMax { last: false }, &[0]), &[&x]), [1]);
}

#[test]
fn a_reduction_over_nothing_is_its_neutral_element() {
    let x = tensor([2, 0], &[0.0f32; 0]);
    assert_eq!(elems::<f32>(over(ReduceKind::Sum, &[1]), &[&x]), [0.0, 0.0]);
    assert_eq!(elems::<f32>(over(ReduceKind::Prod, &[1]), &[&x]), [1.0, 1.0]);
    let max = elems::<f32>(over(ReduceKind::Max, &[1]), &[&x]);
    assert_eq!(max, [f32::NEG_INFINITY, f32::NEG_INFINITY]);
    assert_eq!(elems::<i8>(over(ReduceKind::Min, &[0]), &[&tensor([0], &[0i8; 0])]), [127]);
}

#[test]
fn a_softmax_of_large_numbers_is_finite() {
    let x = tensor([1, 2, 2], &[1000.0f32, 5.0, 1000.0, 5.0 + 3f32.ln()]);
    let y = elems::<f32>(Softmax { axis: 1 }, &[&x]);
    assert_close(&y, &[0.5, 0.25, 0.5, 0.75]);
    let log = elems::<f32>(LogSoftmax { axis: 1 }, &[&x]);
    assert_close(&log, &y.iter().map(|v| v.ln()).collect::<Vec<_>>());
}

#[test]
fn axes_that_do_not_exist_or_repeat_are_refused() {
    let x = f32s([2, 3]);
    assert_eq!(refusal(over(ReduceKind::Sum, &[2]), &[&x]), "axis 2 does not exist in shape 2x3 of rank 2");
    assert_eq!(refusal(over(ReduceKind::Sum, &[1, 1]), &[&x]), "axes [1, 1] are not ascending");
    let arg = ReduceKind::ArgMax { last: false };
    assert_eq!(refusal(over(arg, &[0, 1]), &[&x]), "axes are [0, 1], expected exactly one");
    assert_eq!(
        refusal(over(arg, &[0]), &[&f32s([0])]),
        "operand 0 (x) has type f32[0], expected an axis that is not empty"
    );
    assert!(refusal(over(ReduceKind::L2, &[0]), &[&ty(DType::I32, [2])]).contains("i32[2]"));
}

#[test]
fn the_place_of_an_extreme_is_that_of_the_first_or_last_such() {
    let x = [2.0f32, 7.0, -1.0, 7.0, -1.0];
    let integers = x.map(|v| v as i32);
    let place = |kind: fn(bool) -> ReduceKind, last: bool| {
        let op = || Reduce { kind: kind(last), axes: vec![0], keep_dims: false };
        let places = elems::<i64>(op(), &[&tensor([5], &x)]);
        assert_eq!(elems::<i64>(op(), &[&tensor([5], &integers)]), places);
        places[0]
    };
    let (max, min) = (|last| ReduceKind::ArgMax { last }, |last| ReduceKind::ArgMin { last });
    assert_eq!([place(max, false), place(max, true), place(min, false), place(min, true)], [1, 3, 2, 4]);
    let numbers_behind = tensor([3], &[f32::NAN, 1.0, 2.0]);
    let op = Reduce { kind: ReduceKind::ArgMax { last: true }, axes: vec![0], keep_dims: false };
    assert_eq!(elems::<i64>(op, &[&numbers_behind]), [0], "a number is no tie with NaN");
}

#[test]
fn booleans_have_a_largest_and_a_smallest() {
    let x = Tensor::bools([2, 2], &[true, false, true, true]).unwrap();
    let of = |kind| eval(Reduce { kind, axes: vec![1], keep_dims: false }, &[&x]).to_bools().unwrap();
    assert_eq!([of(ReduceKind::Max), of(ReduceKind::Min)], [[true, true], [false, true]]);
}
