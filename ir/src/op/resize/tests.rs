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

const COORDINATES: [CoordinateMode; 6] = [
    CoordinateMode::HalfPixel,
    CoordinateMode::HalfPixelSymmetric,
    CoordinateMode::PytorchHalfPixel,
    CoordinateMode::AlignCorners,
    CoordinateMode::Asymmetric,
    CoordinateMode::TfHalfPixelForNn,
];

const ROUNDINGS: [NearestMode; 4] =
    [NearestMode::RoundPreferFloor, NearestMode::RoundPreferCeil, NearestMode::Floor, NearestMode::Ceil];

/// Numerator and denominator of the coordinate of element `i`, at a scale of `p / q`: the formulas of ONNX Resize 19,
/// multiplied out.
fn by_formula(mode: CoordinateMode, input: i64, output: i64, (p, q): (i64, i64), i: i64) -> (i64, i64) {
    match mode {
        // (i + 1/2) / scale - 1/2
        CoordinateMode::HalfPixel => (2 * i * q + q - p, 2 * p),
        CoordinateMode::PytorchHalfPixel if output == 1 => (0, 1),
        CoordinateMode::PytorchHalfPixel => (2 * i * q + q - p, 2 * p),
        // input / 2 · (1 - output / (scale · input)), and a half pixel
        CoordinateMode::HalfPixelSymmetric => (input * p - output * q + 2 * i * q + q - p, 2 * p),
        CoordinateMode::AlignCorners if output == 1 => (0, 1),
        CoordinateMode::AlignCorners => (i * (input - 1), output - 1),
        CoordinateMode::Asymmetric => (i * q, p),
        // (i + 1/2) / scale
        CoordinateMode::TfHalfPixelForNn => (2 * i * q + q, 2 * p),
    }
}

/// The element of the input that a mode takes at `num / den`, found by trying those around.
fn by_trying(mode: NearestMode, input: i64, (num, den): (i64, i64)) -> usize {
    let around = || num / den - 2..num / den + 3;
    let distance = |k: &i64| (k * den - num).abs();
    let index = match mode {
        NearestMode::Floor => around().filter(|k| k * den <= num).max(),
        NearestMode::Ceil => around().find(|k| k * den >= num),
        // Of two that are equally near, min_by_key takes the first.
        NearestMode::RoundPreferFloor => around().min_by_key(distance),
        NearestMode::RoundPreferCeil => around().rev().min_by_key(distance),
    };
    index.unwrap().clamp(0, input - 1) as usize
}

fn check_nearest(resize: &Resize, input: usize, scale: (i64, i64)) {
    let ResizeMode::Nearest(rounding) = resize.mode else { panic!("not a nearest mode") };
    let output = resize.sizes[0];
    let taps = resize.taps(0, input);
    assert_eq!(taps.len(), output);
    for (i, taps) in taps.iter().enumerate() {
        let at = by_formula(resize.coordinates, input as i64, output as i64, scale, i as i64);
        let expected = ResizeTap { index: by_trying(rounding, input as i64, at), weight: 1.0 };
        assert_eq!(
            taps[..],
            [expected],
            "{:?} {rounding:?}, {input} to {output}, element {i}",
            resize.coordinates
        );
    }
}

#[test]
fn the_nearest_element_is_exact_for_every_pair_of_sizes() {
    for input in 1..=64 {
        for output in 1..=64 {
            for coordinates in COORDINATES {
                for rounding in ROUNDINGS {
                    let resize = row(input, output, ResizeMode::Nearest(rounding), coordinates);
                    check_nearest(&resize, input, (output as i64, input as i64));
                }
            }
        }
    }
}

#[test]
fn the_nearest_element_is_exact_for_scales_that_leave_a_fraction() {
    // Every scale of small numbers, as an f32: 7 elements at 3/5 make 4, not 4.2.
    for (p, q) in (1..=12i64).flat_map(|p| (1..=12i64).map(move |q| (p, q))) {
        for input in 1..=24i64 {
            let output = (input * p / q) as usize;
            let scale = p as f32 / q as f32;
            for coordinates in COORDINATES {
                for rounding in ROUNDINGS {
                    let resize = Resize::new([output], [scale], ResizeMode::Nearest(rounding), coordinates);
                    check_nearest(&resize, input as usize, (p, q));
                }
            }
        }
    }
}

#[test]
fn a_row_of_24_becomes_28_as_exact_arithmetic_says() {
    // (i + 1/2) · 6/7 - 1/2 is 5/2 for i = 3, and so on every seventh element.
    let resize = row(24, 28, ResizeMode::Nearest(NearestMode::RoundPreferFloor), CoordinateMode::HalfPixel);
    let indices: Vec<usize> = resize.taps(0, 24).iter().map(|t| t[0].index).collect();
    #[rustfmt::skip]
    let expected = [0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13, 14, 14, 15, 16, 17, 18, 19, 20, 20, 21, 22, 23];
    assert_eq!(indices, expected);
}

#[test]
fn weights_between_elements_are_exact_quotients() {
    for (input, output) in [(24, 28), (7, 64), (64, 9), (1, 5), (49, 49), (3, 10)] {
        for coordinates in COORDINATES {
            let scale = (output as i64, input as i64);
            let linear = row(input, output, ResizeMode::Linear, coordinates);
            let cubic = row(input, output, ResizeMode::Cubic { coeff_a: -0.75 }, coordinates);
            for i in 0..output {
                let (num, den) = by_formula(coordinates, input as i64, output as i64, scale, i as i64);
                let x = (num as f64 / den as f64).clamp(0.0, input as f64 - 1.0);
                let ramp = |taps: &[ResizeTap]| taps.iter().map(|t| t.index as f64 * t.weight).sum::<f64>();
                assert!((ramp(&linear.taps(0, input)[i]) - x).abs() < 1e-12);
                if num % den == 0 {
                    let index = (num / den).clamp(0, input as i64 - 1) as usize;
                    let heaviest =
                        cubic.taps(0, input)[i].iter().find(|t| t.index == index).map(|t| t.weight);
                    assert_eq!(heaviest, Some(1.0));
                }
            }
        }
    }
}

#[test]
fn a_crop_takes_the_nearest_element_exactly() {
    // From 1/10 to 9/10 of 11 elements, in 9: elements 1 to 9. f32 rounds both bounds.
    let x: Vec<i32> = (0..11).collect();
    for rounding in ROUNDINGS {
        let plain = row(11, 9, ResizeMode::Nearest(rounding), CoordinateMode::HalfPixel);
        let crop = Crop { begin: vec![0.1], end: vec![0.9], extrapolation: -1.0 };
        let y = elems::<i32>(Resize { crop: Some(crop), ..plain }, &[&tensor([11], &x)]);
        assert_eq!(y, [1, 2, 3, 4, 5, 6, 7, 8, 9], "{rounding:?}");
    }
}

#[test]
fn axes_that_are_too_long_for_exact_coordinates_are_refused() {
    let long = 1 << 33;
    let resize = Resize::new([long], [1.0], FLOOR, CoordinateMode::Asymmetric);
    assert!(refusal(resize, &[&ty(DType::U8, [1])]).contains("an axis of 8589934592 elements"));
}

#[test]
fn sizes_say_what_the_scale_is_where_f32_cannot() {
    // At i · 100000 / 99999, the last element is a hundred thousandth short of the next one.
    let resize = row(100_000, 99_999, FLOOR, CoordinateMode::Asymmetric);
    let taps = resize.taps(0, 100_000);
    assert!((0..99_999).all(|i| taps[i] == [ResizeTap { index: i, weight: 1.0 }]));
}

/// A row of as many elements as it has, of which a part is taken.
fn part_of(input: usize, output: usize, [begin, end]: [f32; 2]) -> Resize {
    let crop = Crop { begin: vec![begin], end: vec![end], extrapolation: -1.0 };
    Resize { crop: Some(crop), ..row(input, output, ResizeMode::Linear, CoordinateMode::HalfPixel) }
}

#[test]
fn the_middle_of_a_part_stands_for_it() {
    let x = tensor([5], &[0.0f32, 10.0, 20.0, 30.0, 40.0]);
    assert_eq!(elems::<f32>(part_of(5, 1, [0.25, 0.5]), &[&x]), [15.0]);
    assert_eq!(elems::<f32>(part_of(5, 2, [0.25, 0.5]), &[&x]), [10.0, 20.0]);
}

#[test]
fn a_part_as_long_as_the_whole_is_moved() {
    let x = tensor([5], &[0.0f32, 10.0, 20.0, 30.0, 40.0]);
    assert_eq!(elems::<f32>(part_of(5, 5, [0.125, 1.125]), &[&x]), [5.0, 15.0, 25.0, 35.0, -1.0]);
    assert_eq!(elems::<f32>(part_of(5, 5, [0.0, 1.0]), &[&x]), [0.0, 10.0, 20.0, 30.0, 40.0]);
}

#[test]
fn what_a_part_has_outside_is_filled_along_every_axis() {
    let x: Vec<f32> = (0..24).map(|i| i as f32).collect();
    for mode in [ResizeMode::Nearest(NearestMode::RoundPreferFloor), ResizeMode::Linear] {
        // Rows 1 to 4 of 0 to 2, and columns -1 to 2 of 0 to 3.
        let (begin, end) = (vec![0.0, 0.5, -1.0 / 3.0], vec![1.0, 2.0, 2.0 / 3.0]);
        let resize = Resize::new([2, 4, 4], [1.0, 4.0 / 3.0, 1.0], mode, CoordinateMode::HalfPixel);
        let crop = Some(Crop { begin, end, extrapolation: -1.0 });
        let y = elems::<f32>(Resize { crop, ..resize }, &[&tensor([2, 3, 4], &x)]);
        let expected: Vec<f32> = (0..2)
            .flat_map(|n| (1..5).flat_map(move |row| (-1..3).map(move |column| (n, row, column))))
            .map(
                |(n, row, column)| {
                    if row > 2 || column < 0 { -1.0 } else { (n * 12 + row * 4 + column) as f32 }
                },
            )
            .collect();
        assert_close(&y, &expected);
    }
}

#[test]
fn an_antialiased_cubic_filter_is_as_much_wider_as_the_image_shrinks() {
    let x: Vec<f32> = (0..64).map(|i| (i * i % 13) as f32).collect();
    let cubic = ResizeMode::Cubic { coeff_a: -0.5 };
    let resize = Resize { antialias: true, ..row(64, 16, cubic, CoordinateMode::HalfPixel) };
    let y = elems::<f32>(resize, &[&tensor([64], &x)]);
    // Element 8 lies in the middle of those from 32 to 35, and the filter reaches 8 elements to each side.
    let weight = |i: usize| keys((i as f64 - 33.5).abs() / 4.0, -0.5);
    let sum: f64 = (26..42).map(|i| weight(i) * f64::from(x[i])).sum();
    assert_close(&y[8..9], &[(sum / (26..42).map(weight).sum::<f64>()) as f32]);
}
