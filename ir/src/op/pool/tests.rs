use super::*;
use crate::op::testing::{elems, f32s, refusal, tensor};
use crate::op::{Op, Unary};

fn row(kind: PoolKind, kernel: usize, stride: usize, begin: isize, end: isize, ceil: usize) -> Pool {
    Pool {
        kind,
        window: Window {
            kernel: vec![kernel],
            strides: vec![stride],
            dilations: vec![1],
            pads_begin: vec![begin],
            pads_end: vec![end],
        },
        ceil_pads: vec![ceil],
        prologue: Prologue::default(),
        epilogue: Epilogue::default(),
    }
}

const INCLUDE: PoolKind = PoolKind::Average { count_include_pad: true };
const EXCLUDE: PoolKind = PoolKind::Average { count_include_pad: false };

#[test]
fn padding_never_wins_a_maximum() {
    let x = tensor([1, 1, 4], &[-4.0f32, -3.0, -2.0, -1.0]);
    assert_eq!(elems::<f32>(row(PoolKind::Max, 3, 2, 1, 1, 0), &[&x]), [-3.0, -1.0]);
}

#[test]
fn a_maximum_of_integers_is_one_of_them() {
    let x = tensor([1, 1, 3], &[-128i8, -127, 5]);
    assert_eq!(elems::<i8>(row(PoolKind::Max, 2, 1, 1, 0, 0), &[&x]), [-128, -127, 5]);
}

#[test]
fn nan_in_a_window_is_its_maximum() {
    let x = tensor([1, 1, 4], &[1.0f32, f32::NAN, 2.0, 3.0]);
    let y = elems::<f32>(row(PoolKind::Max, 2, 1, 0, 0, 0), &[&x]);
    assert!(y[0].is_nan() && y[1].is_nan());
    assert_eq!(y[2], 3.0);
}

#[test]
fn an_average_counts_padding_only_when_asked() {
    let x = tensor([1, 1, 2], &[3.0f32, 6.0]);
    assert_eq!(elems::<f32>(row(INCLUDE, 3, 1, 1, 1, 0), &[&x]), [3.0, 3.0]);
    assert_eq!(elems::<f32>(row(EXCLUDE, 3, 1, 1, 1, 0), &[&x]), [4.5, 4.5]);
}

#[test]
fn what_hangs_over_by_ceil_mode_never_counts() {
    let x = tensor([1, 1, 3], &[2.0f32, 4.0, 6.0]);
    // Pads 1 and 1, one more element by ceil_mode: windows [·,2,4] [6,·,-]: the last divides by two.
    assert_eq!(elems::<f32>(row(INCLUDE, 3, 3, 1, 2, 1), &[&x]), [2.0, 3.0]);
    assert_eq!(elems::<f32>(row(EXCLUDE, 3, 3, 1, 2, 1), &[&x]), [3.0, 6.0]);
}

#[test]
fn a_negative_pad_starts_inside_the_image() {
    let x = tensor([1, 1, 5], &[1.0f32, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(elems::<f32>(row(INCLUDE, 2, 2, -1, 0, 0), &[&x]), [2.5, 4.5]);
}

#[test]
fn an_lp_pool_is_the_root_of_the_sum_of_powers() {
    let x = tensor([1, 1, 2], &[-3.0f32, 4.0]);
    assert_eq!(elems::<f32>(row(PoolKind::Lp { p: 2 }, 2, 1, 0, 0, 0), &[&x]), [5.0]);
    assert_eq!(elems::<f32>(row(PoolKind::Lp { p: 1 }, 2, 1, 0, 0, 0), &[&x]), [7.0]);
}

#[test]
fn a_prologue_applies_before_and_an_epilogue_after_the_window() {
    let mut pool = row(INCLUDE, 2, 2, 0, 0, 0);
    pool.prologue = Prologue { affine: true, activation: Some(Unary::Relu) };
    pool.epilogue.activation = Some(Unary::Clip { min: 0.0, max: 6.0 });
    let x = tensor([1, 2, 2], &[-1.0f32, 3.0, 1.0, 20.0]);
    let (scale, shift) = (tensor([2], &[2.0f32, 1.0]), tensor([2], &[0.0f32, -1.0]));
    let y = Op::from(pool).eval(&[Some(&x), None, Some(&scale), Some(&shift)]).unwrap().remove(0);
    assert_eq!(*y.elems::<f32>().unwrap(), [3.0, 6.0]);
}

#[test]
fn a_global_pool_reduces_the_image() {
    let x = tensor([1, 2, 2, 2], &[1.0f32, 2.0, 3.0, 6.0, -1.0, -2.0, -3.0, -6.0]);
    for (kind, expected) in [(EXCLUDE, [3.0, -3.0]), (PoolKind::Max, [6.0, -1.0])] {
        let pool = GlobalPool { kind, prologue: Prologue::default(), activation: None };
        assert_eq!(elems::<f32>(pool, &[&x]), expected);
    }
}

#[test]
fn a_pool_without_spatial_axes_is_refused() {
    assert_eq!(
        refusal(row(PoolKind::Max, 2, 1, 0, 0, 0), &[&f32s([4, 4])]),
        "operand 0 (x) has type f32[4x4], expected rank 3 or more"
    );
}

#[test]
fn a_window_of_absurd_extent_is_refused() {
    let pool = row(PoolKind::Max, 1 << 25, 1, 0, 1 << 25, 0);
    assert!(refusal(pool, &[&f32s([1, 1, 4])]).contains("expected at most 16777216 taps"));
}

#[test]
fn a_maximum_of_integers_is_over_the_elements_of_its_window() {
    let x = tensor([1, 1, 7], &[3i32, -5, 2, 9, 1, -7, -6]);
    assert_eq!(elems::<i32>(row(PoolKind::Max, 2, 3, 0, 0, 0), &[&x]), [3, 9]);
    assert_eq!(elems::<i32>(row(PoolKind::Max, 2, 5, 0, 0, 0), &[&x]), [3, -6]);
}
