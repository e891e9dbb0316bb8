use super::*;
use crate::op::testing::{assert_close, elems, f32s, refusal, tensor};

#[test]
fn a_batch_norm_normalises_each_channel() {
    let x = tensor([1, 2, 2], &[1.0f32, 3.0, 10.0, 20.0]);
    let v = |a: f32, b: f32| tensor([2], &[a, b]);
    let y = elems::<f32>(
        BatchNorm { epsilon: 1.0 },
        &[&x, &v(2.0, 1.0), &v(0.5, -1.0), &v(1.0, 10.0), &v(3.0, 24.0)],
    );
    assert_close(&y, &[0.5, 2.5, -1.0, 1.0]);
}

#[test]
fn a_channel_affine_scales_shifts_and_activates() {
    let x = tensor([2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
    let op = ChannelAffine { activation: Some(Unary::Relu) };
    let (scale, shift) = (tensor([2], &[2.0f32, -1.0]), tensor([2], &[0.0f32, 3.0]));
    assert_eq!(elems::<f32>(op, &[&x, &scale, &shift]), [2.0, 1.0, 6.0, 0.0]);
}

#[test]
fn an_instance_norm_uses_the_statistics_of_each_plane() {
    let x = tensor([1, 2, 2], &[1.0f32, 3.0, 10.0, 30.0]);
    let one = tensor([2], &[1.0f32, 1.0]);
    let y = elems::<f32>(InstanceNorm { epsilon: 0.0 }, &[&x, &one, &tensor([2], &[0.0f32, 5.0])]);
    assert_close(&y, &[-1.0, 1.0, 4.0, 6.0]);
}

#[test]
fn a_layer_norm_runs_over_the_last_axes_and_needs_no_bias() {
    let x = tensor([2, 2], &[1.0f32, 3.0, 10.0, 30.0]);
    let op = LayerNorm { axis: 1, epsilon: 0.0 };
    assert_close(&elems::<f32>(op, &[&x, &tensor([2], &[1.0f32, 2.0])]), &[-1.0, 2.0, -1.0, 2.0]);
}

#[test]
fn a_response_is_normalised_over_the_channels_that_exist() {
    let x = tensor([1, 3, 1], &[1.0f32, 2.0, 3.0]);
    let op = Lrn { size: 2, alpha: 2.0, beta: 1.0, bias: 1.0 };
    // An even size reaches one channel further up: sums 1 + 4, 4 + 9, 9.
    assert_close(&elems::<f32>(op, &[&x]), &[1.0 / 6.0, 2.0 / 14.0, 3.0 / 10.0]);
}

#[test]
fn statistics_of_another_length_are_refused() {
    let (x, c) = (f32s([1, 3, 4]), f32s([3]));
    assert_eq!(
        refusal(BatchNorm { epsilon: 0.0 }, &[&x, &c, &c, &f32s([4]), &c]),
        "operand 3 (mean) has type f32[4], expected shape 3 for x of type f32[1x3x4]"
    );
    assert_eq!(
        refusal(LayerNorm { axis: 3, epsilon: 0.0 }, &[&x, &c]),
        "axis 3 does not exist in shape 1x3x4 of rank 3"
    );
}

#[test]
fn statistics_are_of_all_elements_around_their_mean() {
    // Mean 4, variance 6, and 3 more under the root.
    let x = tensor([1, 1, 3], &[1.0f32, 4.0, 7.0]);
    let one = |v: f32| tensor([1], &[v]);
    let y = elems::<f32>(InstanceNorm { epsilon: 3.0 }, &[&x, &one(2.0), &one(0.5)]);
    assert_close(&y, &[0.5 - 2.0, 0.5, 0.5 + 2.0]);
    let y = elems::<f32>(LayerNorm { axis: 2, epsilon: 3.0 }, &[&x, &one(2.0), &one(0.5)]);
    assert_close(&y, &[0.5 - 2.0, 0.5, 0.5 + 2.0]);
}

#[test]
fn each_plane_has_the_scale_of_its_channel() {
    let x = tensor([2, 2, 2], &[1.0f32, 3.0, 10.0, 30.0, -1.0, 1.0, 5.0, 1.0]);
    let (scale, bias) = (tensor([2], &[1.0f32, 2.0]), tensor([2], &[0.0f32, 10.0]));
    let y = elems::<f32>(InstanceNorm { epsilon: 0.0 }, &[&x, &scale, &bias]);
    assert_close(&y, &[-1.0, 1.0, 8.0, 12.0, -1.0, 1.0, 12.0, 8.0]);
}

#[test]
fn responses_are_those_of_each_pixel() {
    let x = tensor([2, 2, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let op = Lrn { size: 3, alpha: 3.0, beta: 1.0, bias: 1.0 };
    let [a, b, c, d] = [1.0 + 9.0, 4.0 + 16.0, 25.0 + 49.0, 36.0 + 64.0].map(|sum| 1.0 + sum);
    assert_close(
        &elems::<f32>(op, &[&x]),
        &[1.0 / a, 2.0 / b, 3.0 / a, 4.0 / b, 5.0 / c, 6.0 / d, 7.0 / c, 8.0 / d],
    );
}
