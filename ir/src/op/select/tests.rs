use super::super::testing::{f32s, tensor, ty};
use super::*;
use crate::op::Op;

fn results(op: impl Into<Op>, operands: &[&Tensor]) -> Vec<Tensor> {
    let operands: Vec<Option<&Tensor>> = operands.iter().map(|t| Some(*t)).collect();
    op.into().eval(&operands).unwrap()
}

fn ints(t: &Tensor) -> Vec<i64> {
    t.elems::<i64>().unwrap().into_owned()
}

#[test]
fn non_zero_lists_positions_row_by_row() {
    // ONNX test_nonzero_example: [[1, 0], [1, 1]].
    let x = Tensor::bools([2, 2], &[true, false, true, true]).unwrap();
    let r = results(NonZero, &[&x]);
    assert_eq!((ints(&r[0]), ints(&r[1])), (vec![0, 1, 1, 0, 0, 0, 1, 0], vec![3]));
    let r = results(NonZero, &[&tensor([3], &[f32::NAN, -0.0, 1e-40])]);
    assert_eq!((ints(&r[0]), ints(&r[1])), (vec![0, 2, 0], vec![2]));
}

#[test]
fn compress_takes_what_the_condition_says() {
    // ONNX test_compress_0, _1, _default_axis.
    let x = tensor([3, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let chosen = |axis, condition: &[bool]| {
        let condition = Tensor::bools([condition.len()], condition).unwrap();
        let r = results(Compress { axis }, &[&x, &condition]);
        (r[0].elems::<f32>().unwrap().into_owned(), ints(&r[1]))
    };
    assert_eq!(chosen(Some(0), &[false, true, true]), (vec![3.0, 4.0, 5.0, 6.0, 0.0, 0.0], vec![2]));
    assert_eq!(chosen(Some(1), &[false, true]), (vec![2.0, 0.0, 4.0, 0.0, 6.0, 0.0], vec![1]));
    let flat = chosen(None, &[false, true, false, false, true]);
    assert_eq!(flat, (vec![2.0, 5.0, 0.0, 0.0, 0.0], vec![2]));
    assert_eq!(chosen(Some(1), &[true, false, true, true]), (vec![1.0, 0.0, 3.0, 0.0, 5.0, 0.0], vec![1]));
}

#[test]
fn unique_sorts_or_keeps_the_order() {
    // ONNX test_unique_sorted_without_axis and _not_sorted_without_axis.
    let x = tensor([6], &[2.0f32, 1.0, 1.0, 3.0, 4.0, 3.0]);
    let unique = |sorted| {
        let r = results(Unique { axis: None, sorted }, &[&x]);
        let y = r[0].elems::<f32>().unwrap()[..4].to_vec();
        (y, ints(&r[1])[..4].to_vec(), ints(&r[2]), ints(&r[3])[..4].to_vec(), ints(&r[4]))
    };
    let sorted =
        (vec![1.0, 2.0, 3.0, 4.0], vec![1, 0, 3, 4], vec![1, 0, 0, 2, 3, 2], vec![2, 1, 2, 1], vec![4]);
    assert_eq!(unique(true), sorted);
    let found =
        (vec![2.0, 1.0, 3.0, 4.0], vec![0, 1, 3, 4], vec![0, 1, 1, 2, 3, 2], vec![1, 2, 2, 1], vec![4]);
    assert_eq!(unique(false), found);
}

#[test]
fn unique_compares_whole_slices_of_an_axis() {
    // ONNX test_unique_sorted_with_axis.
    let x = tensor([3, 3], &[1i32, 0, 0, 1, 0, 0, 2, 3, 4]);
    let r = results(Unique { axis: Some(0), sorted: true }, &[&x]);
    assert_eq!(r[0].elems::<i32>().unwrap()[..6], [1, 0, 0, 2, 3, 4]);
    assert_eq!((ints(&r[1]), ints(&r[2])), (vec![0, 2, 0], vec![0, 0, 1]));
    assert_eq!((ints(&r[3]), ints(&r[4])), (vec![2, 1, 0], vec![2]));
}

#[test]
fn a_prefix_has_as_many_elements_as_its_count_says() {
    let x = tensor([2, 3], &[1u8, 2, 3, 4, 5, 6]);
    for (count, expected) in [(2, vec![1u8, 2, 4, 5]), (0, vec![]), (-5, vec![]), (9, vec![1, 2, 3, 4, 5, 6])]
    {
        let y = results(Prefix { axes: vec![1] }, &[&x, &tensor([], &[count as i64])]).remove(0);
        assert_eq!(y, tensor([2, expected.len() / 2], &expected));
    }
    let counts = [tensor([], &[1i64]), tensor([], &[2i64])];
    let y = results(Prefix { axes: vec![0, 1] }, &[&x, &counts[0], &counts[1]]).remove(0);
    assert_eq!(y, tensor([1, 2], &[1u8, 2]));
    let backwards = Op::from(Prefix { axes: vec![1, 0] });
    let error = backwards.eval(&[Some(&x), Some(&counts[0]), Some(&counts[1])]).unwrap_err();
    assert!(error.to_string().contains("axes [1, 0] do not ascend"), "{error}");
}

/// Of ONNX's examples for NonMaxSuppression: six boxes in three places.
fn boxes() -> Tensor {
    let corners = [
        [0.0f32, 0.0, 1.0, 1.0],
        [0.0, 0.1, 1.0, 1.1],
        [0.0, -0.1, 1.0, 0.9],
        [0.0, 10.0, 1.0, 11.0],
        [0.0, 10.1, 1.0, 11.1],
        [0.0, 100.0, 1.0, 101.0],
    ];
    tensor([1, 6, 4], &corners.concat())
}

fn scores() -> Tensor {
    tensor([1, 1, 6], &[0.9f32, 0.75, 0.6, 0.95, 0.5, 0.3])
}

fn suppressed(op: NonMaxSuppression, boxes: &Tensor, scores: &Tensor, least: f32) -> Vec<i64> {
    let (iou, least) = (tensor([1], &[0.5f32]), tensor([1], &[least]));
    let r = results(op, &[boxes, scores, &iou, &least]);
    let count = ints(&r[1])[0] as usize;
    assert!(ints(&r[0])[3 * count..].iter().all(|&i| i == 0));
    ints(&r[0])[..3 * count].to_vec()
}

#[test]
fn boxes_that_overlap_better_ones_are_suppressed() {
    // ONNX test_nonmaxsuppression_suppress_by_IOU, _and_scores, _limit_output_size, _flipped_coordinates.
    let corners = |most| NonMaxSuppression { most, center_point_box: false };
    let all = [0, 0, 3, 0, 0, 0, 0, 0, 5];
    assert_eq!(suppressed(corners(3), &boxes(), &scores(), 0.0), all);
    assert_eq!(suppressed(corners(3), &boxes(), &scores(), 0.4), all[..6]);
    assert_eq!(suppressed(corners(2), &boxes(), &scores(), 0.0), all[..6]);
    let flipped: Vec<f32> =
        boxes().elems::<f32>().unwrap().chunks(4).flat_map(|b| [b[2], b[3], b[0], b[1]]).collect();
    assert_eq!(suppressed(corners(3), &tensor([1, 6, 4], &flipped), &scores(), 0.0), all);
}

#[test]
fn boxes_may_be_given_by_their_centres() {
    // ONNX test_nonmaxsuppression_center_point_box_format.
    let centers: Vec<f32> = boxes()
        .elems::<f32>()
        .unwrap()
        .chunks(4)
        .flat_map(|b| [(b[1] + b[3]) / 2.0, (b[0] + b[2]) / 2.0, b[3] - b[1], b[2] - b[0]])
        .collect();
    let op = NonMaxSuppression { most: 3, center_point_box: true };
    let found = suppressed(op, &tensor([1, 6, 4], &centers), &scores(), 0.0);
    assert_eq!(found, [0, 0, 3, 0, 0, 0, 0, 0, 5]);
}

#[test]
fn each_batch_and_class_is_for_itself() {
    // ONNX test_nonmaxsuppression_two_classes and _identical_boxes.
    let twice = [scores().elems::<f32>().unwrap(), scores().elems::<f32>().unwrap()].concat();
    let op = NonMaxSuppression { most: 2, center_point_box: false };
    let found = suppressed(op.clone(), &boxes(), &tensor([1, 2, 6], &twice), 0.0);
    assert_eq!(found, [0, 0, 3, 0, 0, 0, 0, 1, 3, 0, 1, 0]);
    let same = tensor([1, 3, 4], &[0.0f32, 0.0, 1.0, 1.0].repeat(3));
    let found = suppressed(op.clone(), &same, &tensor([1, 1, 3], &[0.9f32; 3]), 0.0);
    assert_eq!(found, [0, 0, 0]);
    let refused = Op::from(op).infer(&[Some(&f32s([1, 3, 4])), Some(&f32s([1, 1, 4]))]);
    assert!(refused.unwrap_err().to_string().contains("f32[1, classes, 3]"));
}

#[test]
fn results_have_the_size_of_the_most_that_can_come_out() {
    let infer = |op: Op, operands: &[&TensorType]| {
        let operands: Vec<Option<&TensorType>> = operands.iter().map(|t| Some(*t)).collect();
        op.infer(&operands).unwrap()[0].clone()
    };
    assert_eq!(infer(NonZero.into(), &[&f32s([2, 3])]), ty(DType::I64, [2, 6]));
    assert_eq!(infer(NonZero.into(), &[&f32s([])]), ty(DType::I64, [0, 1]));
    let condition = ty(DType::Bool, [2]);
    assert_eq!(infer(Compress { axis: Some(1) }.into(), &[&f32s([2, 3]), &condition]), f32s([2, 2]));
    let nms = NonMaxSuppression { most: usize::MAX, center_point_box: false };
    assert_eq!(infer(nms.into(), &[&f32s([2, 5, 4]), &f32s([2, 3, 5])]), ty(DType::I64, [30, 3]));
}

#[test]
fn boxes_after_as_many_as_there_are_are_no_candidates() {
    let op = Op::from(NonMaxSuppression { most: 3, center_point_box: false });
    let (boxes, scores) = (boxes(), scores());
    let chosen = |count: i64| {
        let count = tensor([], &[count]);
        let results = op.eval(&[Some(&boxes), Some(&scores), None, None, Some(&count)]).unwrap();
        let there = results[1].elems::<i64>().unwrap()[0] as usize;
        results[0].elems::<i64>().unwrap()[..3 * there].iter().skip(2).step_by(3).copied().collect::<Vec<_>>()
    };
    // Box 3 has the best score of all, and box 5 touches no other one.
    assert_eq!(chosen(6), [3, 0, 5]);
    assert_eq!(chosen(3), [0]);
    assert_eq!(chosen(-1), [0i64; 0]);
    assert_eq!(chosen(i64::MAX), chosen(6));
}

#[test]
fn slices_that_differ_in_any_element_are_unique() {
    // Along axis 1: columns 0 and 2 are equal, 1 differs in the last element alone.
    let x = tensor([2, 3, 2], &[1i32, 2, 1, 2, 1, 2, 3, 4, 3, 5, 3, 4]);
    let all = results(Unique { axis: Some(1), sorted: true }, &[&x]);
    assert_eq!(ints(&all[2]), [0, 1, 0]);
    assert_eq!(ints(&all[4]), [2]);
    let values = results(Unique { axis: None, sorted: true }, &[&tensor([2], &[f32::NAN, 1.0])]);
    assert_eq!(values[0].elems::<f32>().unwrap()[0], 1.0, "numbers come before NaN");
    let mixed = tensor([2, 2], &[f32::NAN, 1.0, 1.0, f32::NAN]);
    assert_eq!(ints(&results(Unique { axis: Some(0), sorted: true }, &[&mixed])[4]), [2]);
}

#[test]
fn a_box_is_given_by_corners_in_any_order_or_by_its_centre() {
    assert_eq!(corners(&[3.0, 8.0, 1.0, 2.0], false), [1.0, 2.0, 3.0, 8.0]);
    assert_eq!(corners(&[5.0, 7.0, 2.0, 6.0], true), [4.0, 4.0, 10.0, 6.0]);
    assert_eq!(corners(&[0.5, 0.0, 1.0, 1.0], true), [-0.5, 0.0, 0.5, 1.0]);
}

#[test]
fn boxes_overlap_by_the_part_of_their_union_that_they_share() {
    let overlap = |a, b, threshold| {
        let got = overlap(a, b, threshold);
        assert_eq!(super::overlap(b, a, threshold), got, "either way");
        got
    };
    // 2 × 4 in 12 and 12: a third, and 8 of 16.
    let (a, b) = ([10.0, 20.0, 13.0, 24.0], [11.0, 20.0, 14.0, 24.0]);
    assert!(overlap(a, b, 0.49));
    assert!(!overlap(a, b, 0.5), "no more than that");
    assert!(!overlap(a, b, 0.51));
    // Beside, below, and across from each other; side by side, whatever the threshold is.
    let unit = [0.0, 0.0, 1.0, 1.0];
    for apart in [[0.0, 5.0, 1.0, 6.0], [5.0, 0.0, 6.0, 1.0], [5.0, 5.0, 9.0, 9.0]] {
        assert!(!overlap(unit, apart, 0.0), "{apart:?}");
    }
    for beside in [[0.0, 1.0, 1.0, 2.0], [1.0, 0.0, 2.0, 1.0]] {
        assert!(!overlap(unit, beside, -1.0), "{beside:?}");
    }
    // An area that `f32` has no number for.
    assert!(!overlap([0.0, 0.0, 1e-30, 1e-30], unit, -1.0));
}

#[test]
fn each_class_and_batch_has_scores_and_boxes_of_its_own() {
    // In the first image both boxes are the same, in the second they lie apart.
    let boxes = tensor(
        [2, 2, 4],
        &[0.0f32, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 5.0, 5.0, 6.0, 6.0],
    );
    let scores = tensor([2, 2, 2], &[0.9f32, 0.8, 0.1, 0.7, 0.6, 0.5, 0.5, 0.25]);
    let op = NonMaxSuppression { most: 2, center_point_box: false };
    let selected = suppressed(op, &boxes, &scores, 0.25);
    // A score at the threshold is none.
    assert_eq!(selected, [0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0]);
}
