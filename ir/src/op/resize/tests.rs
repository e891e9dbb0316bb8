use super::*;
use crate::op::testing::{assert_close, elems, f32s, refusal, tensor, ty};
use crate::types::DType;

fn row(input: usize, output: usize, mode: ResizeMode, coordinates: CoordinateMode) -> Resize {
    Resize::new([output], [output as f32 / input as f32], mode, coordinates)
}

const FLOOR: ResizeMode = ResizeMode::Nearest(NearestMode::Floor);

#[test]
fn an_upsampled_row_repeats_its_elements() {
    let x = tensor([2], &[1i64, 2]);
    assert_eq!(elems::<i64>(row(2, 4, FLOOR, CoordinateMode::Asymmetric), &[&x]), [1, 1, 2, 2]);
}

#[test]
fn a_scale_that_f32_rounds_still_meets_whole_coordinates() {
    let x = tensor([9], &(0..9).collect::<Vec<i32>>());
    assert_eq!(elems::<i32>(row(9, 3, FLOOR, CoordinateMode::Asymmetric), &[&x]), [0, 3, 6]);
}

#[test]
fn nearest_modes_differ_at_halves() {
    // Asymmetric coordinates of a row of 3 from 6, 4 times longer: 0, 0.25, 0.5, 0.75, 1 …
    let x = tensor([2], &[0i32, 1]);
    let at = |mode| elems::<i32>(row(2, 8, ResizeMode::Nearest(mode), CoordinateMode::Asymmetric), &[&x]);
    assert_eq!(at(NearestMode::RoundPreferFloor), [0, 0, 0, 1, 1, 1, 1, 1]);
    assert_eq!(at(NearestMode::RoundPreferCeil), [0, 0, 1, 1, 1, 1, 1, 1]);
    assert_eq!(at(NearestMode::Floor), [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(at(NearestMode::Ceil), [0, 1, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn linear_rows_follow_the_coordinate_mode() {
    let x = tensor([2], &[0.0f32, 8.0]);
    let at = |mode| elems::<f32>(row(2, 4, ResizeMode::Linear, mode), &[&x]);
    assert_close(&at(CoordinateMode::HalfPixel), &[0.0, 2.0, 6.0, 8.0]);
    assert_close(&at(CoordinateMode::HalfPixelSymmetric), &[0.0, 2.0, 6.0, 8.0]);
    assert_close(&at(CoordinateMode::PytorchHalfPixel), &[0.0, 2.0, 6.0, 8.0]);
    assert_close(&at(CoordinateMode::AlignCorners), &[0.0, 8.0 / 3.0, 16.0 / 3.0, 8.0]);
    assert_close(&at(CoordinateMode::Asymmetric), &[0.0, 4.0, 8.0, 8.0]);
}

#[test]
fn a_single_element_takes_the_middle_or_the_first() {
    let x = tensor([4], &[0.0f32, 1.0, 2.0, 3.0]);
    let at = |mode| elems::<f32>(row(4, 1, ResizeMode::Linear, mode), &[&x]);
    assert_eq!(at(CoordinateMode::HalfPixel), [1.5]);
    assert_eq!(at(CoordinateMode::PytorchHalfPixel), [0.0]);
    assert_eq!(at(CoordinateMode::AlignCorners), [0.0]);
}

#[test]
fn symmetric_coordinates_stay_centred_when_the_scale_is_not_exact() {
    // 4 elements at scale 0.6 make 2 (2.4 cut): the ONNX operator's example of a centred result.
    let resize = Resize::new([2], [0.6], ResizeMode::Linear, CoordinateMode::HalfPixelSymmetric);
    let y = elems::<f32>(resize, &[&tensor([4], &[0.0f32, 1.0, 2.0, 3.0])]);
    assert!((y[0] + y[1] - 3.0).abs() < 1e-6, "{y:?} is not symmetric");
    assert!((y[1] - y[0] - 1.0 / 0.6).abs() < 1e-6);
}

#[test]
fn cubic_weights_sum_to_one_and_pass_through_whole_coordinates() {
    for exclude_outside in [false, true] {
        let mode = ResizeMode::Cubic { coeff_a: -0.75 };
        let resize = Resize { exclude_outside, ..row(4, 8, mode, CoordinateMode::AlignCorners) };
        for taps in resize.taps(0, 4) {
            assert!((taps.iter().map(|t| t.weight).sum::<f64>() - 1.0).abs() < 1e-12);
        }
        let y = elems::<f32>(resize, &[&tensor([4], &[3.0f32, 1.0, 4.0, 1.0])]);
        assert_close(&[y[0], y[7]], &[3.0, 1.0]);
    }
}

#[test]
fn a_cubic_row_is_as_computed_by_hand() {
    let mode = ResizeMode::Cubic { coeff_a: -0.5 };
    // At 0.5: weights -1/16, 9/16, 9/16, -1/16, the first element standing for the one before it.
    let y = elems::<f32>(
        row(4, 8, mode, CoordinateMode::Asymmetric),
        &[&tensor([4], &[0.0f32, 16.0, 32.0, 48.0])],
    );
    assert_close(&y[1..3], &[9.0 - 2.0, 16.0]);
}

#[test]
fn axes_are_resized_independently() {
    let x = tensor([2, 2], &[0.0f32, 4.0, 8.0, 12.0]);
    let resize = Resize::new([2, 3], [1.0, 1.5], ResizeMode::Linear, CoordinateMode::AlignCorners);
    assert_close(&elems::<f32>(resize, &[&x]), &[0.0, 2.0, 4.0, 8.0, 10.0, 12.0]);
}

#[test]
fn an_antialiased_row_counts_all_elements_that_shrink_into_one() {
    // ONNX Resize 19, example downsample_scales_linear_antialias: 1 to 16 in rows of 4 at scale 0.6.
    let x: Vec<f32> = (1..17).map(|v| v as f32).collect();
    let plain = Resize::new([2, 2], [0.6, 0.6], ResizeMode::Linear, CoordinateMode::HalfPixel);
    let y = elems::<f32>(Resize { antialias: true, ..plain.clone() }, &[&tensor([4, 4], &x)]);
    assert_close(&y, &[2.875, 4.5, 9.375, 11.0]);
    // Example downsample_scales_cubic_antialias.
    let cubic = Resize { mode: ResizeMode::Cubic { coeff_a: -0.75 }, antialias: true, ..plain };
    let y = elems::<f32>(cubic, &[&tensor([4, 4], &x)]);
    assert_close(&y, &[2.5180721, 4.2858863, 9.589329, 11.357142]);
}

#[test]
fn a_crop_is_resized_and_extrapolated() {
    let x: Vec<f32> = (0..5).map(|v| v as f32).collect();
    let plain = row(5, 3, ResizeMode::Linear, CoordinateMode::HalfPixel);
    let crop = |begin, end| {
        let crop = Crop { begin: vec![begin], end: vec![end], extrapolation: 10.0 };
        elems::<f32>(Resize { crop: Some(crop), ..plain.clone() }, &[&tensor([5], &x)])
    };
    assert_eq!(crop(0.25, 0.75), [1.0, 2.0, 3.0]);
    assert_eq!(crop(0.5, 1.5), [2.0, 4.0, 10.0]);
    assert_eq!(crop(-0.5, 0.5), [10.0, 0.0, 2.0]);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let resize = row(2, 4, ResizeMode::Linear, CoordinateMode::HalfPixel);
    assert_eq!(
        refusal(resize.clone(), &[&f32s([1, 2])]),
        "1 sizes and 1 scales for x of type f32[1x2], expected 2 of each"
    );
    assert!(refusal(resize.clone(), &[&ty(DType::U8, [2])]).starts_with("unsupported: linear or cubic"));
    let flat = Resize { scales: vec![0.0], ..resize };
    assert_eq!(refusal(flat, &[&f32s([2])]), "scale 0, expected a number above 0");
}
