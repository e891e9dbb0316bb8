use proptest::prelude::*;

use super::*;
use crate::op::Op;
use crate::op::testing::{assert_close, elems, eval, f32s, filled, infer, refusal, tensor};
use crate::types::DType;

fn window(
    kernel: &[usize],
    strides: &[usize],
    dilations: &[usize],
    begin: &[isize],
    end: &[isize],
) -> Window {
    Window {
        kernel: kernel.to_vec(),
        strides: strides.to_vec(),
        dilations: dilations.to_vec(),
        pads_begin: begin.to_vec(),
        pads_end: end.to_vec(),
    }
}

fn plain(window: Window, groups: usize) -> Conv {
    Conv { window, groups, prologue: Prologue::default(), epilogue: Epilogue::default() }
}

fn conv_3x3(groups: usize) -> Conv {
    plain(window(&[3, 3], &[1, 1], &[1, 1], &[1, 1], &[1, 1]), groups)
}

#[test]
fn a_padded_row_is_convolved_as_computed_by_hand() {
    let conv = plain(window(&[3], &[2], &[1], &[1], &[1]), 1);
    let x = tensor([1, 1, 5], &[1.0f32, 2.0, 3.0, 4.0, 5.0]);
    let w = tensor([1, 1, 3], &[1.0f32, 10.0, 100.0]);
    let b = tensor([1], &[0.5f32]);
    assert_eq!(elems::<f32>(conv, &[&x, &w, &b]), [210.5, 432.5, 54.5]);
}

#[test]
fn a_negative_pad_starts_inside_the_image() {
    let conv = plain(window(&[1], &[2], &[1], &[-1], &[-1]), 1);
    let x = tensor([1, 1, 6], &[0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(elems::<f32>(conv, &[&x, &tensor([1, 1, 1], &[1.0f32])]), [1.0, 3.0]);
}

#[test]
fn padding_stays_zero_whatever_the_prologue_makes_of_zero() {
    let mut conv = plain(window(&[3], &[1], &[1], &[1], &[1]), 1);
    conv.prologue = Prologue { affine: true, activation: Some(Unary::Relu) };
    let x = tensor([1, 1, 2], &[1.0f32, -9.0]);
    let (w, scale, shift) = (tensor([1, 1, 3], &[1.0f32; 3]), tensor([1], &[2.0f32]), tensor([1], &[5.0f32]));
    let operands = [Some(&x), Some(&w), None, None, Some(&scale), Some(&shift)];
    let y = Op::from(conv).eval(&operands).unwrap().remove(0);
    assert_eq!(*y.elems::<f32>().unwrap(), [7.0, 7.0]);
}

#[test]
fn a_residual_is_added_on_the_side_of_the_activation_that_the_epilogue_says() {
    let x = tensor([1, 1, 2], &[-3.0f32, 2.0]);
    let (w, r) = (tensor([1, 1, 1], &[1.0f32]), tensor([1, 1, 2], &[1.0f32, 1.0]));
    for (residual, expected) in
        [(Residual::BeforeActivation, [0.0, 3.0]), (Residual::AfterActivation, [1.0, 3.0])]
    {
        let mut conv = plain(window(&[1], &[1], &[1], &[0], &[0]), 1);
        conv.epilogue = Epilogue { residual: Some(residual), activation: Some(Unary::Relu), stored: None };
        let y = Op::from(conv).eval(&[Some(&x), Some(&w), None, Some(&r)]).unwrap().remove(0);
        assert_eq!(*y.elems::<f32>().unwrap(), expected);
    }
}

#[test]
fn a_result_is_stored_as_the_epilogue_says_and_rounded_once() {
    let mut conv = plain(window(&[2], &[1], &[1], &[0], &[0]), 1);
    conv.epilogue.stored = Some(DType::BF16);
    // 257 lies between two bf16; the sum of the rounded products would be 256.
    let (x, w) = (tensor([1, 1, 2], &[257.0f32, 0.5]), tensor([1, 1, 2], &[1.0f32, 2.0]));
    assert_eq!(elems::<half::bf16>(conv.clone(), &[&x, &w]), [half::bf16::from_f32(258.0)]);
    conv.epilogue.stored = Some(DType::I32);
    let types = [Some(x.ty()), Some(w.ty())];
    let error = Op::from(conv).infer(&types).unwrap_err().to_string();
    assert!(error.contains("stored as i32"), "{error}");
}

#[test]
fn a_sum_that_f32_would_lose_is_kept() {
    let conv = plain(window(&[3], &[1], &[1], &[0], &[0]), 1);
    let x = tensor([1, 1, 3], &[1e8f32, 1.0, -1e8]);
    assert_eq!(elems::<f32>(conv, &[&x, &tensor([1, 1, 3], &[1.0f32; 3])]), [1.0]);
}

#[test]
fn half_precision_is_rounded_once() {
    let conv = plain(window(&[2], &[1], &[1], &[0], &[0]), 1);
    let h = |v: &[f32]| v.iter().map(|&v| half::f16::from_f32(v)).collect::<Vec<_>>();
    let (x, w) = (tensor([1, 1, 2], &h(&[2048.0, 1.5])), tensor([1, 1, 2], &h(&[1.0, 1.0])));
    assert_eq!(elems::<half::f16>(conv, &[&x, &w]), h(&[2050.0]));
}

#[test]
fn a_weight_that_does_not_fit_is_refused_with_the_expected_layout() {
    assert_eq!(
        refusal(conv_3x3(2), &[&f32s([1, 8, 9, 9]), &f32s([6, 8, 3, 3])]),
        "operand 1 (w) has type f32[6x8x3x3], expected [M, C / 2, 3x3] with M a multiple of 2 for x of type \
         f32[1x8x9x9]"
    );
}

#[test]
fn operands_of_other_types_are_refused_by_name() {
    let (x, w) = (f32s([1, 8, 9, 9]), f32s([4, 8, 3, 3]));
    assert_eq!(refusal(conv_3x3(1), &[&x, &w, &f32s([5])]), "operand 2 (b) has type f32[5], expected f32[4]");
    assert_eq!(
        refusal(conv_3x3(1), &[&x, &TensorType::new(DType::F16, [4, 8, 3, 3])]),
        "operand 1 (w) has type f16[4x8x3x3], expected elements of type f32"
    );
    assert_eq!(
        refusal(conv_3x3(1), &[&x, &w, &f32s([4]), &f32s([1, 4, 9, 9])]),
        "operand 3 (residual) has type f32[1x4x9x9], expected none: the epilogue has none"
    );
    assert_eq!(refusal(conv_3x3(1), &[&x]), "operand 1 (w) is missing");
    let seven = [&x, &w, &x, &x, &x, &x, &x];
    assert_eq!(refusal(conv_3x3(1), &seven), "takes at most 6 operands, got 7");
}

#[test]
fn a_window_larger_than_the_padded_image_is_refused() {
    let conv = plain(window(&[5], &[1], &[2], &[1], &[1]), 1);
    assert_eq!(
        refusal(conv, &[&f32s([1, 1, 6]), &f32s([1, 1, 5])]),
        "a window that spans 9 elements does not fit into spatial axis 0 of 8 elements, padding included"
    );
}

#[test]
fn a_result_that_no_memory_holds_is_refused() {
    let conv = plain(window(&[1; 3], &[1; 3], &[1; 3], &[1 << 29; 3], &[1 << 29; 3]), 1);
    assert_eq!(infer(conv, &[&f32s([1, 1, 6, 6, 6]), &f32s([1, 1, 1, 1, 1])]), Err(OpError::Overflow));
}

#[test]
fn multiply_accumulates_are_counted_for_each_group() {
    let (x, w) = (f32s([1, 8, 9, 9]), f32s([8, 1, 3, 3]));
    let op = Op::from(conv_3x3(8));
    let y = op.infer(&[Some(&x), Some(&w)]).unwrap();
    assert_eq!(op.arithmetic(&[Some(&x), Some(&w)], &y).macc, 8 * 81 * 9);
}

#[test]
fn a_transposed_convolution_spreads_each_element_as_computed_by_hand() {
    let op = ConvTranspose {
        window: window(&[3], &[2], &[1], &[0], &[0]),
        output_padding: vec![1],
        groups: 1,
        activation: None,
    };
    let (x, w) = (tensor([1, 1, 2], &[1.0f32, 2.0]), tensor([1, 1, 3], &[1.0f32, 10.0, 100.0]));
    assert_eq!(elems::<f32>(op, &[&x, &w]), [1.0, 10.0, 102.0, 20.0, 200.0, 0.0]);
}

/// The definition, index by index: for every element of the result, over all of the kernel, reading zero outside.
fn by_definition(conv: &Conv, x: &Tensor, w: &Tensor, y: &[usize]) -> Vec<f32> {
    let (xs, ws) = (x.shape(), w.shape());
    let (x, w) = (x.elems::<f32>().unwrap(), w.elems::<f32>().unwrap());
    let win = &conv.window;
    let mut out = Vec::new();
    for n in 0..y[0] {
        for m in 0..y[1] {
            for (oh, ow) in (0..y[2]).flat_map(|h| (0..y[3]).map(move |w| (h, w))) {
                let mut sum = 0.0f64;
                for c in 0..ws[1] {
                    for (kh, kw) in (0..ws[2]).flat_map(|h| (0..ws[3]).map(move |w| (h, w))) {
                        let ih = (oh * win.strides[0] + kh * win.dilations[0]) as isize - win.pads_begin[0];
                        let iw = (ow * win.strides[1] + kw * win.dilations[1]) as isize - win.pads_begin[1];
                        if ih < 0 || iw < 0 || ih >= xs[2] as isize || iw >= xs[3] as isize {
                            continue;
                        }
                        let channel = m / (y[1] / conv.groups) * ws[1] + c;
                        let at = ((n * xs[1] + channel) * xs[2] + ih as usize) * xs[3] + iw as usize;
                        sum += x[at] as f64 * w[((m * ws[1] + c) * ws[2] + kh) * ws[3] + kw] as f64;
                    }
                }
                out.push(sum as f32);
            }
        }
    }
    out
}

fn pair(range: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = [usize; 2]> {
    prop::array::uniform2(range)
}

fn pads() -> impl Strategy<Value = [isize; 2]> {
    prop::array::uniform2(-2..=3isize)
}

proptest! {
    #[test]
    fn every_convolution_is_what_the_definition_says(
        (batch, groups, in_group, out_group) in (1..=2usize, 1..=3usize, 1..=3usize, 1..=3usize),
        (image, kernel) in (pair(3..=9), pair(1..=3)),
        (strides, dilations) in (pair(1..=3), pair(1..=2)),
        (begin, end) in (pads(), pads()),
        seed in 0..100u32,
    ) {
        let conv = plain(window(&kernel, &strides, &dilations, &begin, &end), groups);
        let x = filled([batch, groups * in_group, image[0], image[1]], seed);
        let w = filled([groups * out_group, in_group, kernel[0], kernel[1]], seed + 1);
        prop_assume!(conv.window.positions(&image).is_ok());
        let y = eval(conv.clone(), &[&x, &w]);
        let expected = by_definition(&conv, &x, &w, y.shape());
        assert_close(&y.elems::<f32>().unwrap(), &expected);
    }

    /// `<conv(x), y> = <x, conv_transpose(y)>`: what "transpose" means.
    #[test]
    fn a_transposed_convolution_is_the_adjoint_of_the_convolution(
        (groups, in_group, out_group) in (1..=2usize, 1..=3usize, 1..=3usize),
        (positions, kernel) in (pair(1..=5), pair(1..=3)),
        (strides, dilations, pads) in (pair(1..=3), pair(1..=2), pair(0..=1)),
    ) {
        let pads = pads.map(|p| p as isize);
        let window = window(&kernel, &strides, &dilations, &pads, &pads);
        let transpose =
            ConvTranspose { window: window.clone(), output_padding: vec![0; 2], groups, activation: None };
        // The weight of both: [channels of y, channels of x / groups, …].
        let w = filled([groups * in_group, out_group, kernel[0], kernel[1]], 5);
        let y = filled([1, groups * in_group, positions[0], positions[1]], 6);
        prop_assume!(window.image(&positions, &[0, 0]).is_ok());
        let back = eval(transpose, &[&y, &w]);
        let x = filled(back.shape().clone(), 7);
        let forth = eval(plain(window, groups), &[&x, &w]);
        prop_assert_eq!(forth.shape(), y.shape());
        let dot = |a: &Tensor, b: &Tensor| -> f64 {
            let (a, b) = (a.elems::<f32>().unwrap(), b.elems::<f32>().unwrap());
            a.iter().zip(b.iter()).map(|(&a, &b)| a as f64 * b as f64).sum()
        };
        prop_assert!((dot(&forth, &y) - dot(&x, &back)).abs() < 1e-3);
    }
}

#[test]
fn a_bias_an_activation_and_a_prologue_count_as_operations() {
    let ty = |shape: &[usize]| TensorType::f32(shape);
    let (x, w, b, y) = (ty(&[1, 4, 5, 5]), ty(&[6, 2, 3, 3]), ty(&[6]), ty(&[1, 6, 5, 5]));
    let counted = |conv: &Conv, operands: &Types<'_>| {
        let Arithmetic { macc, ops } = conv.arithmetic(operands, std::slice::from_ref(&y));
        assert_eq!(macc, 150 * 2 * 9, "each result is a sum over two channels of nine taps");
        ops
    };
    let plain = conv_3x3(2);
    assert_eq!(counted(&plain, &[Some(&x), Some(&w)]), 0);
    assert_eq!(counted(&plain, &[Some(&x), Some(&w), Some(&b)]), 150, "one for each result");
    let epilogue = Epilogue { residual: None, activation: Some(Unary::Relu), stored: None };
    let activated = Conv { epilogue, ..plain.clone() };
    assert_eq!(counted(&activated, &[Some(&x), Some(&w), Some(&b)]), 300);
    let prologue = Prologue { affine: false, activation: Some(Unary::Relu) };
    assert_eq!(counted(&Conv { prologue, ..plain }, &[Some(&x), Some(&w)]), 100, "one for each element read");
}

#[test]
fn a_weight_of_another_window_is_refused() {
    let (x, w) = (f32s([1, 1, 5, 5]), f32s([1, 1, 3, 2]));
    assert!(refusal(conv_3x3(1), &[&x, &w]).contains("[M, C / 1, 3x3] with M a multiple of 1"));
    assert!(refusal(conv_3x3(1), &[&x, &f32s([1, 1, 3])]).contains("[M, C / 1, 3x3]"));
}
