use super::*;
use crate::op::Op;
use crate::op::testing::{elems, eval, f32s, refusal, tensor, ty};
use crate::types::DType;

fn counted(shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    tensor(shape.clone(), &(0..shape.elems() as i32).collect::<Vec<_>>())
}

fn slice(axis: usize, start: usize, step: isize, len: usize) -> Slice {
    Slice { axes: vec![AxisSlice { axis, start, step, len }] }
}

fn pad(begin: &[isize], end: &[isize], mode: PadMode) -> Pad {
    Pad { begin: begin.to_vec(), end: end.to_vec(), mode }
}

fn select(sources: &[(u32, u32)]) -> ChannelSelect {
    let sources = sources.iter().map(|&(operand, channel)| ChannelSource { operand, channel }).collect();
    ChannelSelect { sources }
}

#[test]
fn a_transpose_permutes_axes() {
    let y = eval(Transpose { perm: vec![2, 0, 1] }, &[&counted([1, 2, 3])]);
    assert_eq!(y.shape()[..], [3, 1, 2]);
    assert_eq!(*y.elems::<i32>().unwrap(), [0, 3, 1, 4, 2, 5]);
}

#[test]
fn a_concat_puts_operands_one_after_another() {
    let (a, b) = (counted([2, 1]), counted([2, 2]));
    assert_eq!(elems::<i32>(Concat { axis: 1 }, &[&a, &b]), [0, 0, 1, 1, 2, 3]);
}

#[test]
fn a_split_is_undone_by_a_concat() {
    let x = counted([2, 5, 2]);
    let parts = Op::from(Split { axis: 1, parts: vec![1, 0, 4] }).eval(&[Some(&x)]).unwrap();
    assert_eq!(parts[2].shape()[..], [2, 4, 2]);
    let back = eval(Concat { axis: 1 }, &parts.iter().collect::<Vec<_>>());
    assert_eq!(back.bytes(), x.bytes());
}

#[test]
fn a_slice_steps_both_ways() {
    let x = counted([2, 4]);
    assert_eq!(elems::<i32>(slice(1, 0, 2, 2), &[&x]), [0, 2, 4, 6]);
    assert_eq!(elems::<i32>(slice(1, 3, -1, 4), &[&x]), [3, 2, 1, 0, 7, 6, 5, 4]);
    assert_eq!(elems::<i32>(slice(0, 1, isize::MAX, 1), &[&x]), [4, 5, 6, 7]);
    assert_eq!(elems::<i32>(slice(1, 9, 1, 0), &[&x]), [0i32; 0]);
}

#[test]
fn elements_of_every_size_are_moved() {
    for dtype in DType::ALL {
        let size = dtype.bytes();
        let bytes: Vec<u8> = if dtype == DType::Bool { vec![0, 1] } else { (0..2 * size as u8).collect() };
        let x = Tensor::from_bytes(ty(dtype, [2]), bytes.clone()).unwrap();
        let y = eval(slice(0, 1, -1, 2), &[&x]);
        assert_eq!(y.bytes(), [&bytes[size..], &bytes[..size]].concat());
    }
}

#[test]
fn pads_fill_reflect_repeat_wrap_and_crop() {
    let x = counted([3]);
    let at = |begin, end, mode| elems::<i32>(pad(&[begin], &[end], mode), &[&x]);
    assert_eq!(at(2, 1, PadMode::Constant(7.0)), [7, 7, 0, 1, 2, 7]);
    assert_eq!(at(2, 3, PadMode::Reflect), [2, 1, 0, 1, 2, 1, 0, 1]);
    assert_eq!(at(2, 1, PadMode::Edge), [0, 0, 0, 1, 2, 2]);
    assert_eq!(at(2, 4, PadMode::Wrap), [1, 2, 0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(at(-1, 1, PadMode::Constant(9.0)), [1, 2, 9]);
    assert_eq!(at(-1, 2, PadMode::Reflect), [1, 2, 1, 2]);
    assert_eq!(at(-2, -1, PadMode::Constant(0.0)), [0i32; 0]);
}

#[test]
fn a_pad_of_one_element_repeats_it() {
    let x = counted([1]);
    for mode in [PadMode::Reflect, PadMode::Edge, PadMode::Wrap] {
        assert_eq!(elems::<i32>(pad(&[2], &[1], mode), &[&x]), [0; 4]);
    }
}

#[test]
fn an_expand_repeats_axes_of_one() {
    let x = counted([2, 1]);
    assert_eq!(elems::<i32>(Expand { shape: vec![2, 2, 2] }, &[&x]), [0, 0, 1, 1, 0, 0, 1, 1]);
}

#[test]
fn a_gather_replaces_the_axis_by_the_shape_of_the_indices() {
    let gather = Gather { axis: 1, indices: tensor([2, 1], &[2i64, 0]) };
    let y = eval(gather, &[&counted([2, 3])]);
    assert_eq!(y.shape()[..], [2, 2, 1]);
    assert_eq!(*y.elems::<i32>().unwrap(), [2, 0, 5, 3]);
    let scalar = Gather { axis: 0, indices: tensor([], &[1i64]) };
    assert_eq!(eval(scalar, &[&counted([2, 3])]).shape()[..], [3]);
}

#[test]
fn channels_are_selected_from_any_operand_in_any_order() {
    let (a, b) = (counted([2, 2, 1]), tensor([2, 1, 1], &[10i32, 20]));
    let y = eval(select(&[(1, 0), (0, 1), (1, 0)]), &[&a, &b]);
    assert_eq!(y.shape()[..], [2, 3, 1]);
    assert_eq!(*y.elems::<i32>().unwrap(), [10, 1, 10, 20, 3, 20]);
}

#[test]
fn what_lies_outside_is_refused() {
    let x = f32s([2, 3]);
    assert_eq!(refusal(Reshape { shape: vec![4] }, &[&x]), "x of type f32[2x3] cannot be reshaped to 4");
    assert_eq!(
        refusal(Transpose { perm: vec![0, 0] }, &[&x]),
        "perm [0, 0] is no permutation of the axes of x of type f32[2x3]"
    );
    assert_eq!(
        refusal(Concat { axis: 1 }, &[&x, &f32s([3, 3])]),
        "operand 1 (x) has type f32[3x3], expected the type of the first, f32[2x3], in all but axis 1"
    );
    assert_eq!(
        refusal(slice(1, 1, 2, 2), &[&x]),
        "2 elements from 1 in steps of 2 are not inside axis 1 of x of type f32[2x3]"
    );
    assert_eq!(
        refusal(pad(&[0, -2], &[0, -2], PadMode::Edge), &[&x]),
        "pads -2 and -2 leave nothing of axis 1 of x of type f32[2x3]"
    );
    assert_eq!(
        refusal(Gather { axis: 0, indices: tensor([1], &[2i64]) }, &[&x]),
        "index 2 is outside axis 0 of x of type f32[2x3]"
    );
    assert_eq!(
        refusal(select(&[(0, 0), (0, 3)]), &[&x]),
        "channel 1 of the result is channel 3 of operand 0, which has 3"
    );
    assert_eq!(refusal(Expand { shape: vec![2, 4] }, &[&x]), "x of type f32[2x3] does not broadcast to 2x4");
    let split = Op::from(Split { axis: 1, parts: vec![1, 1] }).infer(&[Some(&x)]).unwrap_err().to_string();
    assert_eq!(split, "parts [1, 1] do not add up to axis 1 of x of type f32[2x3]");
}

#[test]
fn sizes_that_overflow_are_refused() {
    use crate::op::OpError;
    let shape = vec![usize::MAX / 2, 4];
    assert_eq!(Op::from(Expand { shape }).infer(&[Some(&f32s([1]))]), Err(OpError::Overflow));
    let huge = pad(&[isize::MAX], &[isize::MAX], PadMode::Constant(0.0));
    assert_eq!(Op::from(huge).infer(&[Some(&f32s([9]))]), Err(OpError::Overflow));
}

#[test]
fn pads_repeat_what_crops_leave() {
    // The last of 0 1 2 3 4 is cropped.
    let row = |mode, begin, end| elems::<i32>(pad(&[begin], &[end], mode), &[&counted([5])]);
    assert_eq!(row(PadMode::Edge, 2, -1), [0, 0, 0, 1, 2, 3]);
    assert_eq!(row(PadMode::Wrap, 2, -1), [2, 3, 0, 1, 2, 3]);
    assert_eq!(row(PadMode::Reflect, 2, -1), [2, 1, 0, 1, 2, 3]);
    assert_eq!(row(PadMode::Reflect, -1, 7), [1, 2, 3, 4, 3, 2, 1, 2, 3, 4, 3]);
}

#[test]
fn a_slice_of_nothing_may_begin_anywhere() {
    assert_eq!(eval(slice(0, usize::MAX, 1, 0), &[&counted([4, 4])]).shape()[..], [0, 4]);
}
