//! Operators whose data decide the size of their results: NonZero, Compress, Unique, NonMaxSuppression.

use nnc_ir::op::{Compress, NonMaxSuppression, NonZero, Unique};
use nnc_ir::{DType, Op, Tensor};

use crate::harness::{Layout, Random, check, check_optional, layouts};

/// Numbers from 0 to 2, so that many are equal and some are 0.
fn few(random: &mut Random, dtype: DType, shape: &[usize]) -> Tensor {
    let elems: usize = shape.iter().product();
    let values: Vec<f32> = (0..elems).map(|_| random.below(3) as f32).collect();
    let x = Tensor::new(shape.to_vec(), &values).unwrap();
    if dtype == DType::F32 {
        x
    } else {
        Op::from(nnc_ir::op::Cast { to: dtype }).eval(&[Some(&x)]).unwrap().remove(0)
    }
}

#[test]
fn positions_of_what_is_not_zero_come_row_by_row() {
    let mut random = Random::new(12);
    for shape in [vec![2, 3, 4, 5], vec![17], vec![3, 1], vec![]] {
        for dtype in [DType::F32, DType::I64, DType::Bool, DType::U8] {
            let x = few(&mut random, dtype, &shape);
            for (operands, out) in layouts() {
                check(NonZero, &[&x], &operands, out, 0.0);
            }
        }
    }
    let special = Tensor::new([4], &[-0.0f32, f32::NAN, 1e-45, 0.0]).unwrap();
    check(NonZero, &[&special], &[], Layout::Dense, 0.0);
    check(NonZero, &[&Tensor::new([0, 3], &[0.0f32; 0]).unwrap()], &[], Layout::Dense, 0.0);
}

#[test]
fn slices_are_chosen_by_a_condition() {
    let mut random = Random::new(13);
    let x = random.tensor(DType::F32, &[2, 3, 4, 5]);
    for axis in [Some(0), Some(2), Some(3), None] {
        for n in [0, 1, 3, 6, 130] {
            let condition = few(&mut random, DType::Bool, &[n]);
            for (operands, out) in layouts() {
                check(Compress { axis }, &[&x, &condition], &operands, out, 0.0);
            }
        }
    }
}

#[test]
fn each_different_element_or_slice_comes_once() {
    let mut random = Random::new(14);
    for (shape, axis) in [
        (vec![3, 2, 4, 2], None),
        (vec![30], None),
        (vec![12, 2], Some(0)),
        (vec![2, 9, 1, 2], Some(1)),
        (vec![1], None),
    ] {
        for dtype in [DType::F32, DType::I32, DType::Bool, DType::F64] {
            let x = few(&mut random, dtype, &shape);
            for sorted in [true, false] {
                for (operands, out) in layouts() {
                    check(Unique { axis, sorted }, &[&x], &operands, out, 0.0);
                }
            }
        }
    }
    let special = Tensor::new([6], &[f32::NAN, 0.0, -0.0, f32::NAN, f32::INFINITY, 0.0]).unwrap();
    for sorted in [true, false] {
        check(Unique { axis: None, sorted }, &[&special], &[], Layout::Dense, 0.0);
    }
}

#[test]
fn boxes_that_overlap_better_ones_are_suppressed() {
    let mut random = Random::new(15);
    for (batch, classes, n, most) in [(1, 1, 12, 12), (2, 3, 40, 5), (1, 80, 20, 100), (1, 2, 5, 0)] {
        let corners: Vec<f32> = (0..batch * n * 4)
            .map(|i| random.float(0.0, 3.0) as f32 + if i % 4 > 1 { 2.0 } else { 0.0 })
            .collect();
        let boxes = Tensor::new([batch, n, 4], &corners).unwrap();
        // In steps, so that some are equal.
        let scores: Vec<f32> = (0..batch * classes * n).map(|_| random.below(50) as f32 / 50.0).collect();
        let scores = Tensor::new([batch, classes, n], &scores).unwrap();
        let (iou, least) = (Tensor::new([1], &[0.3f32]).unwrap(), Tensor::new([], &[0.2f32]).unwrap());
        let [some, none, all] = [3, -1, i64::MAX].map(|count| Tensor::new([], &[count]).unwrap());
        for center_point_box in [false, true] {
            let op = Op::from(NonMaxSuppression { most, center_point_box });
            for operands in [
                vec![Some(&boxes), Some(&scores), Some(&iou), Some(&least)],
                vec![Some(&boxes), Some(&scores), None, Some(&least)],
                vec![Some(&boxes), Some(&scores), Some(&iou), None],
                vec![Some(&boxes), Some(&scores)],
                vec![Some(&boxes), Some(&scores), Some(&iou), Some(&least), Some(&some)],
                vec![Some(&boxes), Some(&scores), None, None, Some(&some)],
                vec![Some(&boxes), Some(&scores), Some(&iou), None, Some(&none)],
                vec![Some(&boxes), Some(&scores), Some(&iou), None, Some(&all)],
            ] {
                check_optional(&op, &operands, &[Layout::Dense; 5], Layout::Dense, 0.0);
                check_optional(&op, &operands, &[Layout::Strided(3); 5], Layout::Strided(5), 0.0);
            }
        }
    }
}

/// More are selected than are compared with at once.
#[test]
fn many_boxes_beside_each_other_are_selected() {
    let mut random = Random::new(16);
    let n = 150;
    let corners: Vec<f32> = (0..n)
        .flat_map(|i| {
            let (y, x) = ((i % 10) as f64, (i / 10 % 8) as f64);
            let [a, b] = [(); 2].map(|()| random.float(-0.3, 0.3));
            [y + a, x + b, y + a + 1.0, x + b + 1.0].map(|v| v as f32)
        })
        .collect();
    let boxes = Tensor::new([1, n, 4], &corners).unwrap();
    let scores: Vec<f32> = (0..2 * n).map(|_| random.below(50) as f32 / 50.0).collect();
    let scores = Tensor::new([1, 2, n], &scores).unwrap();
    for threshold in [0.05f32, 0.4, 0.9] {
        let iou = Tensor::new([], &[threshold]).unwrap();
        for most in [31, 32, 33, 100, n] {
            let op = Op::from(NonMaxSuppression { most, center_point_box: false });
            let operands = [Some(&boxes), Some(&scores), Some(&iou)];
            check_optional(&op, &operands, &[Layout::Dense; 3], Layout::Dense, 0.0);
        }
    }
}

#[test]
fn boxes_of_nan_and_without_area_do_no_harm() {
    let corners = [
        [f32::NAN, 0.0, 1.0, 1.0],
        [0.0, 0.0, 1.0, 1.0],
        [0.0, 0.0, 0.0, 1.0],
        [0.0, f32::NEG_INFINITY, 1.0, f32::INFINITY],
        [1.0, 1.0, 0.0, 0.0],
    ];
    let boxes = Tensor::new([1, 5, 4], &corners.concat()).unwrap();
    let scores = Tensor::new([1, 1, 5], &[0.5f32, f32::NAN, f32::INFINITY, 0.5, f32::NEG_INFINITY]).unwrap();
    let op = NonMaxSuppression { most: 5, center_point_box: false };
    check(op.clone(), &[&boxes, &scores], &[], Layout::Dense, 0.0);
    let (iou, least) = (Tensor::new([], &[0.5f32]).unwrap(), Tensor::new([], &[0.4f32]).unwrap());
    check(op, &[&boxes, &scores, &iou, &least], &[], Layout::Dense, 0.0);
}

/// So many that blocks of blocks have blocks, of which some have no box that counts; their number is no multiple of anything.
#[test]
fn few_of_very_many_boxes_count() {
    let mut random = Random::new(17);
    let n = 1237;
    let corners: Vec<f32> = (0..n)
        .flat_map(|_| {
            let [y, x] = [(); 2].map(|()| random.float(0.0, 40.0) as f32);
            [y, x, y + 3.0, x + 3.0]
        })
        .collect();
    let boxes = Tensor::new([1, n, 4], &corners).unwrap();
    let scores: Vec<f32> = (0..n)
        .map(|i| match i % 19 {
            4 => f32::NAN,
            7 => -0.0,
            11 => 0.0,
            _ => random.below(900) as f32 / 450.0 - 1.0,
        })
        .collect();
    let scores = Tensor::new([1, 1, n], &scores).unwrap();
    let iou = Tensor::new([], &[0.2f32]).unwrap();
    for least in [-2.0f32, -0.01, 0.8, 5.0] {
        let least = Tensor::new([], &[least]).unwrap();
        for most in [1, 60, n] {
            let op = Op::from(NonMaxSuppression { most, center_point_box: false });
            for operands in [
                vec![Some(&boxes), Some(&scores), Some(&iou), Some(&least)],
                vec![Some(&boxes), Some(&scores), Some(&iou)],
            ] {
                check_optional(&op, &operands, &[Layout::Dense; 4], Layout::Dense, 0.0);
            }
        }
    }
}
