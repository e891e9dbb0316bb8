//! Convolutions, pools and resizing.

use nnc_ir::op::{
    Col2Im, Conv, ConvTranspose, CoordinateMode, Crop, Epilogue, GlobalPool, NearestMode, Pool, PoolKind,
    Prologue, Residual, Resize, ResizeMode, Unary, Window,
};
use nnc_ir::{DType, Op, Tensor, TensorType};

use nnc::code::nest::Vectorised;
use nnc::code::view::View;
use nnc::plan::generic::GenericStep;

use crate::harness::{GuardedWindow, Layout, Random, check, check_optional, compiled, layouts, lowered};

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

fn windows() -> Vec<Window> {
    vec![
        window(&[3, 3], &[1, 1], &[1, 1], &[1, 1], &[1, 1]),
        window(&[3, 3], &[2, 2], &[1, 1], &[0, 1], &[1, 0]),
        window(&[1, 1], &[1, 1], &[1, 1], &[0, 0], &[0, 0]),
        window(&[2, 3], &[1, 2], &[2, 3], &[2, 3], &[1, 4]),
        window(&[5, 1], &[3, 1], &[1, 1], &[4, -1], &[4, -1]),
        window(&[1, 1], &[2, 2], &[1, 1], &[2, 2], &[2, 2]),
    ]
}

#[test]
fn a_convolution_of_any_window_and_grouping_is_as_evaluated() {
    let mut random = Random::new(31);
    for (channels, out_channels, groups) in [(4, 8, 1), (6, 6, 6), (6, 12, 3), (8, 8, 8), (3, 5, 1)] {
        let x = random.tensor(DType::F32, &[2, channels, 7, 11]);
        let b = random.tensor(DType::F32, &[out_channels]);
        for window in windows() {
            let w = [&[out_channels, channels / groups][..], &window.kernel].concat();
            let w = random.tensor(DType::F32, &w);
            let op = Conv { window, groups, prologue: Prologue::default(), epilogue: Epilogue::default() };
            for (inputs, out) in layouts() {
                check(op.clone(), &[&x, &w, &b], &inputs, out, 1e-5);
            }
        }
    }
}

#[test]
fn a_convolution_of_integers_wraps_like_them() {
    let mut random = Random::new(39);
    for dtype in [DType::I32, DType::U8, DType::I64] {
        let (x, w) = (random.tensor(dtype, &[2, 4, 7, 11]), random.tensor(dtype, &[6, 2, 3, 3]));
        let b = random.tensor(dtype, &[6]);
        let window = window(&[3, 3], &[1, 2], &[1, 1], &[1, 0], &[0, 1]);
        let op = Conv { window, groups: 2, prologue: Prologue::default(), epilogue: Epilogue::default() };
        for (inputs, out) in layouts() {
            check(op.clone(), &[&x, &w, &b], &inputs, out, 0.0);
        }
    }
}

#[test]
fn a_convolution_has_prologue_epilogue_and_any_number_of_axes() {
    let mut random = Random::new(32);
    let cases = [
        (vec![2, 4, 9], window(&[3], &[2], &[1], &[1], &[1])),
        (vec![1, 4, 30], window(&[5], &[1], &[1], &[2], &[2])),
        (vec![2, 4, 7, 11], window(&[3, 3], &[1, 1], &[1, 1], &[1, 1], &[1, 1])),
        (vec![1, 4, 3, 4, 6], window(&[2, 3, 3], &[1, 1, 2], &[1, 1, 1], &[1, 1, 1], &[0, 1, 1])),
    ];
    for (shape, window) in cases {
        for dtype in [DType::F32, DType::F64] {
            let x = random.tensor(dtype, &shape);
            let w = random.tensor(dtype, &[&[6, 2][..], &window.kernel].concat());
            let (scale, shift) = (random.tensor(dtype, &[4]), random.tensor(dtype, &[4]));
            let prologue = Prologue { affine: true, activation: Some(Unary::Relu) };
            for residual in [None, Some(Residual::BeforeActivation), Some(Residual::AfterActivation)] {
                let epilogue = Epilogue { residual, activation: Some(Unary::HardSwish), stored: None };
                let op = Op::from(Conv { window: window.clone(), groups: 2, prologue, epilogue });
                let plain = Op::from(Conv {
                    window: window.clone(),
                    groups: 2,
                    prologue,
                    epilogue: Epilogue::default(),
                });
                let types = [Some(x.ty()), Some(w.ty()), None, None, Some(scale.ty()), Some(shift.ty())];
                let y = plain.infer(&types).unwrap();
                let r = residual.map(|_| random.tensor(dtype, &y[0].shape));
                let operands = [Some(&x), Some(&w), None, r.as_ref(), Some(&scale), Some(&shift)];
                for (inputs, out) in layouts() {
                    check_optional(&op, &operands, &inputs, out, 1e-5);
                }
            }
        }
    }
}

#[test]
fn a_reduction_in_lanes_reads_a_scale_that_is_the_same_for_all_of_it() {
    // Two results a channel keep this off the depthwise kernels; rows of five taps lie in lanes.
    let mut random = Random::new(35);
    let tensors = [[1, 17, 3, 7].as_slice(), &[34, 1, 5, 5], &[34], &[17], &[17]]
        .map(|shape| random.tensor(DType::F32, shape));
    let [x, w, b, scale, shift] = &tensors;
    let op = Op::from(Conv {
        window: window(&[5, 5], &[1, 1], &[1, 1], &[2, 2], &[2, 2]),
        groups: 17,
        prologue: Prologue { affine: true, activation: Some(Unary::Relu) },
        epilogue: Epilogue::default(),
    });
    let operands = [Some(x), Some(w), Some(b), None, Some(scale), Some(shift)];
    for (inputs, out) in layouts() {
        check_optional(&op, &operands, &inputs, out, 1e-5);
    }
}

#[test]
fn a_transposed_convolution_of_any_window_is_as_evaluated() {
    let mut random = Random::new(33);
    let cases = [
        (window(&[2, 2], &[2, 2], &[1, 1], &[0, 0], &[0, 0]), [0, 0]),
        (window(&[4, 4], &[2, 2], &[1, 1], &[1, 1], &[1, 1]), [0, 0]),
        (window(&[3, 3], &[2, 2], &[1, 1], &[1, 1], &[1, 1]), [1, 1]),
        (window(&[3, 2], &[1, 3], &[2, 2], &[0, 1], &[1, 0]), [0, 2]),
        (window(&[1, 1], &[3, 2], &[1, 1], &[0, 0], &[0, 0]), [1, 0]),
        (window(&[2, 3], &[2, 4], &[1, 2], &[0, 0], &[0, 0]), [0, 0]),
        (window(&[3, 3], &[3, 3], &[1, 1], &[1, 0], &[0, 0]), [0, 1]),
        (window(&[3, 3], &[1, 1], &[1, 1], &[1, 1], &[1, 1]), [0, 0]),
    ];
    for (channels, out, groups) in [(4, 6, 1), (6, 6, 6), (6, 4, 2), (3, 16, 1)] {
        let x = random.tensor(DType::F32, &[2, channels, 4, 5]);
        let b = random.tensor(DType::F32, &[out]);
        for (window, output_padding) in &cases {
            let w = random.tensor(DType::F32, &[&[channels, out / groups][..], &window.kernel].concat());
            let op = Op::from(ConvTranspose {
                window: window.clone(),
                output_padding: output_padding.to_vec(),
                groups,
                activation: Some(Unary::Relu),
            });
            for (i, (inputs, layout)) in layouts().enumerate() {
                let b = (i % 2 == 0).then_some(&b);
                check_optional(&op, &[Some(&x), Some(&w), b], &inputs, layout, 1e-5);
            }
        }
    }
}

#[test]
fn pools_of_every_kind_skip_what_lies_outside() {
    let mut random = Random::new(34);
    let kinds = [
        PoolKind::Max,
        PoolKind::Average { count_include_pad: false },
        PoolKind::Average { count_include_pad: true },
        PoolKind::Lp { p: 1 },
        PoolKind::Lp { p: 2 },
        PoolKind::Lp { p: 3 },
    ];
    let x = random.tensor(DType::F32, &[2, 9, 7, 11]);
    let (scale, shift) = (random.tensor(DType::F32, &[9]), random.tensor(DType::F32, &[9]));
    for kind in kinds {
        for (i, window) in windows().into_iter().enumerate() {
            let ceil_pads: Vec<usize> = window.pads_end.iter().map(|&p| usize::from(p > 0)).collect();
            let prologue = Prologue { affine: i % 2 == 1, activation: (i % 3 == 0).then_some(Unary::Relu) };
            let epilogue = Epilogue {
                residual: None,
                activation: Some(Unary::Clip { min: -1.0, max: 2.0 }),
                stored: None,
            };
            let op = Op::from(Pool { kind, window, ceil_pads, prologue, epilogue });
            let affine = prologue.affine;
            let operands = [Some(&x), None, affine.then_some(&scale), affine.then_some(&shift)];
            for (inputs, out) in layouts() {
                check_optional(&op, &operands, &inputs, out, 1e-5);
            }
        }
        let op = GlobalPool { kind, prologue: Prologue::default(), activation: Some(Unary::Relu) };
        for (inputs, out) in layouts() {
            check(op.clone(), &[&x], &inputs, out, 1e-5);
        }
    }
}

/// Windows over planes: strides along rows of one, two and more, padding of all kinds, windows of nothing but padding, slices.
fn over_planes() -> Vec<(Vec<usize>, Window)> {
    vec![
        (vec![2, 3, 7, 11], window(&[3, 3], &[1, 1], &[1, 1], &[1, 1], &[1, 1])),
        (vec![1, 2, 23, 70], window(&[3, 3], &[2, 2], &[1, 1], &[1, 1], &[0, 1])),
        (vec![1, 2, 10, 36], window(&[2, 2], &[2, 2], &[1, 1], &[0, 0], &[0, 0])),
        (vec![1, 1, 13, 13], window(&[13, 13], &[1, 1], &[1, 1], &[6, 6], &[6, 6])),
        (vec![1, 2, 9, 160], window(&[2, 5], &[1, 2], &[2, 3], &[0, 7], &[3, 2])),
        (vec![1, 2, 14, 29], window(&[7, 7], &[7, 7], &[1, 1], &[0, 0], &[0, 0])),
        (vec![1, 2, 9, 90], window(&[3, 4], &[2, 3], &[1, 1], &[1, 2], &[1, 2])),
        (vec![1, 2, 5, 17], window(&[1, 1], &[2, 2], &[1, 1], &[2, 2], &[2, 2])),
        (vec![1, 2, 5, 17], window(&[2, 2], &[1, 1], &[1, 1], &[3, 20], &[3, 20])),
        (vec![1, 3, 4, 6, 19], window(&[2, 2, 2], &[2, 2, 2], &[1, 1, 1], &[0, 0, 1], &[0, 0, 0])),
        (vec![1, 3, 4, 6, 19], window(&[3, 3, 3], &[1, 1, 1], &[1, 1, 1], &[0, 1, 1], &[0, 1, 1])),
    ]
}

#[test]
fn a_pool_over_planes_is_as_evaluated() {
    let mut random = Random::new(36);
    let kinds = [
        PoolKind::Max,
        PoolKind::Average { count_include_pad: false },
        PoolKind::Average { count_include_pad: true },
        PoolKind::Lp { p: 1 },
        PoolKind::Lp { p: 2 },
    ];
    for (shape, window) in over_planes() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let x = random.tensor(dtype, &shape);
            for kind in kinds {
                let ceil_pads = window.pads_end.iter().map(|&p| usize::from(p > 0)).collect();
                let prologue = Prologue { affine: false, activation: Some(Unary::Abs) };
                let epilogue = Epilogue {
                    residual: None,
                    activation: Some(Unary::Clip { min: 0.1, max: 2.0 }),
                    stored: None,
                };
                let op = Op::from(Pool { kind, window: window.clone(), ceil_pads, prologue, epilogue });
                let tolerance = if dtype == DType::F32 { 1e-5 } else { 1e-2 };
                check(op.clone(), &[&x], &[], Layout::Dense, tolerance);
                // As it lies in a larger picture, and in a result whose rows are apart.
                check(op, &[&x], &[Layout::Strided(4)], Layout::Strided(4), tolerance);
            }
        }
    }
}

#[test]
fn a_pool_over_planes_goes_by_windows() {
    for (shape, window) in over_planes() {
        let x = Random::new(37).tensor(DType::F32, &shape);
        let (prologue, epilogue) = (Prologue::default(), Epilogue::default());
        let ceil_pads = vec![0; window.kernel.len()];
        let op = Op::from(Pool { kind: PoolKind::Max, window, ceil_pads, prologue, epilogue });
        let y = op.infer(&[Some(x.ty())]).unwrap().remove(0);
        let views = [(0, x.ty()), (1, &y)].map(|(arg, ty)| View::dense(arg, ty.dtype, ty.shape.to_vec()));
        let [x, y] = views;
        let steps = lowered(&op, &[Some(x)], &[y]).unwrap().steps;
        let by_windows = |step: &GenericStep| matches!(step, GenericStep::Nest(nest) if nest.vectorised == Vectorised::Windows);
        assert!(steps.iter().all(by_windows), "{op} of {shape:?}: {steps:?}");
    }
}

/// Planes of at least 128 windows: strides of one and two, padding of all kinds, few taps and many, one row, slices of volumes' rows.
fn weighed_planes() -> Vec<(Vec<usize>, Window)> {
    vec![
        (vec![2, 3, 13, 17], window(&[3, 3], &[1, 1], &[1, 1], &[1, 1], &[1, 1])),
        (vec![1, 3, 23, 70], window(&[3, 3], &[2, 2], &[1, 1], &[1, 1], &[0, 1])),
        (vec![1, 2, 22, 67], window(&[3, 3], &[2, 2], &[1, 1], &[0, 2], &[1, 0])),
        (vec![1, 3, 29, 31], window(&[5, 5], &[1, 1], &[2, 2], &[4, 4], &[4, 4])),
        (vec![1, 3, 20, 33], window(&[7, 7], &[1, 1], &[1, 1], &[3, 3], &[3, 3])),
        (vec![1, 2, 20, 100], window(&[5, 4], &[3, 2], &[1, 3], &[2, 5], &[2, 4])),
        (vec![1, 3, 12, 16], window(&[1, 11], &[1, 1], &[1, 1], &[0, 5], &[0, 5])),
        (vec![2, 3, 1, 300], window(&[1, 31], &[1, 1], &[1, 1], &[0, 15], &[0, 15])),
        (vec![1, 3, 1, 500], window(&[1, 3], &[1, 2], &[1, 8], &[0, 16], &[0, 0])),
        (vec![1, 3, 20, 19], window(&[4, 1], &[1, 1], &[1, 1], &[30, 0], &[3, 0])),
        (vec![1, 2, 9, 20], window(&[2, 2], &[1, 1], &[1, 1], &[3, 20], &[3, 20])),
    ]
}

fn weighed(window: &Window, shape: &[usize], epilogue: Epilogue) -> Op {
    Op::from(Conv { window: window.clone(), groups: shape[1], prologue: Prologue::default(), epilogue })
}

#[test]
fn a_convolution_of_each_plane_by_itself_is_as_evaluated() {
    let mut random = Random::new(39);
    for (shape, window) in weighed_planes() {
        for (multiplier, dtype) in [(1, DType::F32), (2, DType::F32), (1, DType::F16), (1, DType::BF16)] {
            let results = shape[1] * multiplier;
            let x = random.tensor(dtype, &shape);
            let w = random.tensor(dtype, &[&[results, 1][..], &window.kernel].concat());
            let b = random.tensor(dtype, &[results]);
            let tolerance = if dtype == DType::F32 { 1e-5 } else { 2e-2 };
            let plain = weighed(&window, &shape, Epilogue::default());
            check_optional(&plain, &[Some(&x), Some(&w), None], &[], Layout::Dense, tolerance);
            let y = plain.infer(&[Some(x.ty()), Some(w.ty())]).unwrap().remove(0);
            let r = random.tensor(dtype, &y.shape);
            for residual in [Residual::BeforeActivation, Residual::AfterActivation] {
                let epilogue = Epilogue {
                    residual: Some(residual),
                    activation: Some(Unary::Clip { min: -0.5, max: 0.9 }),
                    ..Epilogue::default()
                };
                let op = weighed(&window, &shape, epilogue);
                let operands = [Some(&x), Some(&w), Some(&b), Some(&r)];
                check_optional(&op, &operands, &[], Layout::Dense, tolerance);
                // As they lie in larger pictures, and in a result whose rows are apart.
                let apart = [Layout::Strided(4), Layout::Dense, Layout::Dense, Layout::Strided(3)];
                check_optional(&op, &operands, &apart, Layout::Strided(4), tolerance);
            }
        }
    }
}

#[test]
fn a_convolution_of_each_plane_by_itself_goes_by_windows() {
    for (shape, window) in weighed_planes() {
        let op = weighed(&window, &shape, Epilogue::default());
        let x = TensorType::f32(shape.clone());
        let w = TensorType::f32([&[shape[1], 1][..], &window.kernel].concat());
        let y = op.infer(&[Some(&x), Some(&w)]).unwrap().remove(0);
        let [x, w, y] =
            [(0, &x), (1, &w), (2, &y)].map(|(arg, ty)| View::dense(arg, ty.dtype, ty.shape.to_vec()));
        let steps = lowered(&op, &[Some(x), Some(w)], &[y]).unwrap().steps;
        let by_windows = |step: &GenericStep| matches!(step, GenericStep::Nest(nest) if nest.vectorised == Vectorised::Windows);
        assert!(steps.iter().all(by_windows), "{op} of {shape:?}: {steps:?}");
    }
}

#[test]
fn a_maximum_over_planes_is_nan_where_any_element_is_and_else_exact() {
    let mut random = Random::new(38);
    for (shape, window) in over_planes() {
        let elements: Vec<f32> = (0..shape.iter().product())
            .map(|_| match random.below(40) {
                0 => f32::NAN,
                1 => f32::NEG_INFINITY,
                2 => f32::INFINITY,
                _ => random.float(-3.0, 3.0) as f32,
            })
            .collect();
        let x = Tensor::new(shape, &elements).unwrap();
        let (prologue, epilogue) = (Prologue::default(), Epilogue::default());
        let ceil_pads = vec![0; window.kernel.len()];
        let op = Op::from(Pool { kind: PoolKind::Max, window, ceil_pads, prologue, epilogue });
        let (expected, got) = (op.eval(&[Some(&x)]).unwrap(), compiled(&op, &[Some(&x)], &[], Layout::Dense));
        let same = |(e, g): (&f32, &f32)| e == g || (e.is_nan() && g.is_nan());
        let (expected, got) = (expected[0].elems::<f32>().unwrap(), got[0].elems::<f32>().unwrap());
        assert!(expected.iter().zip(got.iter()).all(same), "{op}: {expected:?}, got {got:?}");
    }
}

#[test]
fn a_pool_of_integers_starts_from_the_least_there_is() {
    let mut random = Random::new(35);
    for dtype in [DType::I8, DType::U8, DType::I64] {
        let x = random.tensor(dtype, &[1, 3, 6, 7]);
        for window in windows() {
            let ceil_pads = vec![0; 2];
            let op = Pool {
                kind: PoolKind::Max,
                window,
                ceil_pads,
                prologue: Prologue::default(),
                epilogue: Epilogue::default(),
            };
            check(op, &[&x], &[], Layout::Dense, 0.0);
        }
    }
}

#[test]
fn columns_are_added_into_an_image_as_evaluated() {
    let mut random = Random::new(41);
    for (image, window) in [
        ([7, 9], window(&[3, 2], &[1, 1], &[1, 1], &[0, 0], &[0, 0])),
        ([7, 9], window(&[3, 2], &[2, 3], &[1, 2], &[1, 0], &[0, 2])),
        ([6, 8], window(&[2, 4], &[2, 4], &[1, 1], &[0, 0], &[0, 0])),
        ([5, 5], window(&[1, 1], &[3, 2], &[1, 1], &[0, 0], &[0, 0])),
    ] {
        let positions: usize = window.positions(&image).unwrap().iter().product();
        let taps: usize = window.kernel.iter().product();
        for dtype in [DType::F32, DType::F16, DType::I32] {
            let x = random.tensor(dtype, &[2, 3 * taps, positions]);
            let op = Col2Im { image: image.to_vec(), window: window.clone() };
            let tolerance = if dtype == DType::F16 { 1e-3 } else { 1e-6 };
            for (inputs, out) in layouts() {
                check(op.clone(), &[&x], &inputs, out, tolerance);
            }
        }
    }
}

#[test]
fn a_resize_filters_excludes_and_extrapolates_as_evaluated() {
    let mut random = Random::new(37);
    let x = random.tensor(DType::F32, &[1, 3, 9, 7]);
    let (sizes, scales) = ([1, 3, 4, 3], [1.0, 1.0, 4.0 / 9.0, 3.0 / 7.0]);
    let modes = [
        ResizeMode::Nearest(NearestMode::RoundPreferCeil),
        ResizeMode::Linear,
        ResizeMode::Cubic { coeff_a: -0.5 },
    ];
    for mode in modes {
        let plain = Resize::new(sizes, scales, mode, CoordinateMode::HalfPixel);
        let crop =
            Crop { begin: vec![0.0, 0.0, -0.3, 0.2], end: vec![1.0, 1.0, 0.8, 1.4], extrapolation: -7.5 };
        let ops = [
            Resize { antialias: true, ..plain.clone() },
            Resize { exclude_outside: true, ..plain.clone() },
            Resize { antialias: true, exclude_outside: true, ..plain.clone() },
            Resize { crop: Some(crop), ..plain },
        ];
        for op in ops {
            for (inputs, out) in layouts().take(6) {
                check(op.clone(), &[&x], &inputs, out, 1e-5);
            }
        }
    }
}

#[test]
fn every_mode_of_resize_is_as_evaluated() {
    let mut random = Random::new(36);
    let coordinates = [
        CoordinateMode::HalfPixel,
        CoordinateMode::HalfPixelSymmetric,
        CoordinateMode::PytorchHalfPixel,
        CoordinateMode::AlignCorners,
        CoordinateMode::Asymmetric,
    ];
    let modes = [
        ResizeMode::Nearest(NearestMode::RoundPreferFloor),
        ResizeMode::Nearest(NearestMode::Floor),
        ResizeMode::Nearest(NearestMode::Ceil),
        ResizeMode::Linear,
        ResizeMode::Cubic { coeff_a: -0.75 },
    ];
    let x = random.tensor(DType::F32, &[1, 6, 5, 7]);
    for sizes in [[1, 6, 10, 14], [1, 6, 3, 9], [1, 6, 5, 30], [1, 6, 1, 1]] {
        let scales: Vec<f32> =
            sizes.iter().zip(x.shape().iter()).map(|(&o, &i)| o as f32 / i as f32).collect();
        for mode in modes {
            for coordinates in coordinates {
                let op = Resize::new(sizes, scales.clone(), mode, coordinates);
                for (inputs, out) in layouts().take(6) {
                    check(op.clone(), &[&x], &inputs, out, 1e-5);
                }
            }
        }
    }
    let nearest = ResizeMode::Nearest(NearestMode::Floor);
    let doubled = Resize::new([1, 2, 6], [1.0, 1.0, 2.0], nearest, CoordinateMode::Asymmetric);
    check(doubled, &[&Tensor::new([1, 2, 3], &[1u8, 2, 3, 4, 5, 6]).unwrap()], &[], Layout::Dense, 0.0);
}

/// Each remainder of a position by the stride is a nest of its own; not so where every element has positions of its own.
#[test]
fn a_transposed_convolution_has_no_more_than_so_many_phases() {
    let refused = |kernel: usize, stride: usize| {
        let window = Window {
            kernel: vec![kernel],
            strides: vec![stride],
            dilations: vec![1],
            pads_begin: vec![0],
            pads_end: vec![0],
        };
        let op = ConvTranspose { window, output_padding: vec![0], groups: 1, activation: None }.into();
        let types = [TensorType::new(DType::F64, [1, 1, 2]), TensorType::new(DType::F64, [1, 1, kernel])];
        let result = Op::infer(&op, &[Some(&types[0]), Some(&types[1])]).expect("a type").remove(0);
        let view = |arg, ty| GuardedWindow::new(arg, ty, Layout::Dense).view;
        let operands = [Some(view(0, &types[0])), Some(view(1, &types[1])), None];
        lowered(&op, &operands, &[view(3, &result)]).err().map(|e| e.to_string())
    };
    assert_eq!(refused(3, 1024), None);
    assert_eq!(refused(1025, 1025), None);
    assert!(refused(3, 1025).is_some_and(|why| why.contains("more than 1024 phases")));
}
