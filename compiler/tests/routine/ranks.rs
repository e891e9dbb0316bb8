//! TopK, cumulative sums, reversed sequences, and the largest elements of windows with their places.

use nnc_ir::op::{Cumulative, CumulativeKind, MaxPoolArg, MaxUnpool, ReverseSequence, TopK, Window};
use nnc_ir::{DType, Tensor};

use crate::harness::{Layout, Random, check, layouts};

#[test]
fn the_best_elements_come_in_order_in_any_layout() {
    let mut random = Random::new(6);
    for (shape, axis) in [(vec![2, 3, 7, 5], 2), (vec![2, 9, 3, 4], 1), (vec![300], 0), (vec![4, 1], 1)] {
        for dtype in [DType::F32, DType::I8, DType::U64, DType::F64] {
            let x = random.tensor(dtype, &shape);
            let n = shape[axis];
            for (k, largest) in [(1, true), (n.min(3), false), (n, true), (n, false), (n / 2, true)] {
                for (operands, out) in layouts() {
                    check(TopK { axis, k, largest }, &[&x], &operands, out, 0.0);
                }
            }
        }
    }
}

#[test]
fn ties_and_special_values_have_their_place_in_the_order() {
    let special = [0.0f32, -0.0, f32::NAN, 1.0, f32::INFINITY, -f32::NAN, f32::NEG_INFINITY, 1.0, 0.0];
    let x = Tensor::new([9], &special).unwrap();
    for k in 0..=9 {
        for largest in [true, false] {
            check(TopK { axis: 0, k, largest }, &[&x], &[], Layout::Dense, 0.0);
        }
    }
    let equal = Tensor::new([100], &[7i32; 100]).unwrap();
    check(TopK { axis: 0, k: 40, largest: true }, &[&equal], &[], Layout::Dense, 0.0);
}

#[test]
fn half_floats_are_ranked_as_numbers() {
    for dtype in [DType::F16, DType::BF16] {
        let x = Random::new(7).tensor(dtype, &[3, 50]);
        check(TopK { axis: 1, k: 20, largest: true }, &[&x], &[], Layout::Dense, 0.0);
    }
}

#[test]
fn sums_and_products_run_along_any_axis() {
    let mut random = Random::new(8);
    for (dtype, kind) in [
        (DType::F32, CumulativeKind::Sum),
        (DType::F32, CumulativeKind::Prod),
        (DType::I32, CumulativeKind::Sum),
        (DType::U8, CumulativeKind::Prod),
        (DType::F64, CumulativeKind::Sum),
    ] {
        let x = random.tensor(dtype, &[2, 3, 4, 5]);
        for (axis, exclusive, reverse) in
            [(0, false, true), (1, true, false), (2, true, true), (3, false, false)]
        {
            for (operands, out) in layouts() {
                check(Cumulative { kind, axis, exclusive, reverse }, &[&x], &operands, out, 1e-6);
            }
        }
    }
}

#[test]
fn sequences_are_reversed_up_to_their_lengths() {
    let mut random = Random::new(9);
    let x = random.tensor(DType::F32, &[4, 3, 5, 2]);
    let lengths = Tensor::new([3], &[2i64, -7, 99]).unwrap();
    for (operands, out) in layouts() {
        for time_axis in [0, 2] {
            check(ReverseSequence { batch_axis: 1, time_axis }, &[&x, &lengths], &operands, out, 0.0);
        }
    }
}

fn window(kernel: [usize; 2], stride: usize, dilation: usize, pad: isize) -> Window {
    Window {
        kernel: kernel.to_vec(),
        strides: vec![stride; 2],
        dilations: vec![dilation; 2],
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
    }
}

#[test]
fn the_largest_of_a_window_comes_with_its_place() {
    let mut random = Random::new(10);
    for (kernel, stride, dilation, pad) in
        [([2, 2], 2, 1, 0), ([3, 2], 1, 2, 1), ([3, 3], 2, 1, 1), ([1, 1], 1, 1, 2)]
    {
        for dtype in [DType::F32, DType::I8, DType::U8, DType::F64] {
            let x = random.tensor(dtype, &[2, 3, 7, 6]);
            for column_major in [false, true] {
                let window = window(kernel, stride, dilation, pad);
                let op = MaxPoolArg { window, column_major };
                for (operands, out) in layouts() {
                    check(op.clone(), &[&x], &operands, out, 0.0);
                }
            }
        }
    }
    let x = Tensor::new([1, 1, 2, 3], &[1.0f32, f32::NAN, 9.0, f32::NAN, 2.0, f32::NEG_INFINITY]).unwrap();
    let op = MaxPoolArg { window: window([2, 2], 1, 1, 1), column_major: false };
    check(op, &[&x], &[], Layout::Dense, 0.0);
}

#[test]
fn unpooled_elements_stand_at_their_places() {
    let mut random = Random::new(11);
    let x = random.tensor(DType::F32, &[2, 3, 4, 2]);
    let places: Vec<i64> = (0..48)
        .map(|_| match random.below(8) {
            0 => [-1, -200, 2 * 3 * 8 * 5, i64::MAX, i64::MIN][random.below(5)],
            _ => random.below(2 * 3 * 8 * 5) as i64,
        })
        .collect();
    let places = Tensor::new([2, 3, 4, 2], &places).unwrap();
    for (operands, out) in layouts() {
        check(MaxUnpool { sizes: vec![8, 5] }, &[&x, &places], &operands, out, 0.0);
    }
}
