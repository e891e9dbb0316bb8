//! Operators that read an image where data point, and determinants.

use nnc_ir::op::{DeformConv, Det, GridSample, MaxRoiPool, RoiAlign, SampleMode, SamplePadding, Window};
use nnc_ir::{DType, Op, Tensor};

use crate::harness::{Layout, Random, check, check_optional, layouts};

/// Numbers of a grid: inside, at edges, far outside, and no numbers at all.
fn grid(random: &mut Random, shape: &[usize]) -> Tensor {
    let special = [-1.0, 1.0, 0.0, -1.5, 7.25, -123.0, 1e9, 0.5, f32::INFINITY, f32::NAN];
    let count: usize = shape.iter().product();
    let elems: Vec<f32> =
        (0..count)
            .map(|i| {
                if i % 7 == 3 { special[random.below(special.len())] } else { random.float(-1.4, 1.4) as f32 }
            })
            .collect();
    Tensor::new(shape, &elems).unwrap()
}

#[test]
fn an_image_is_sampled_as_evaluated() {
    let mut random = Random::new(91);
    let image = random.tensor(DType::F32, &[2, 3, 5, 4]);
    let volume = random.tensor(DType::F32, &[1, 2, 3, 1, 4]);
    let (places, spatial) = (grid(&mut random, &[2, 6, 3, 2]), grid(&mut random, &[1, 2, 3, 2, 3]));
    for mode in [SampleMode::Nearest, SampleMode::Linear, SampleMode::Cubic] {
        for padding in [SamplePadding::Zeros, SamplePadding::Border, SamplePadding::Reflection] {
            for align_corners in [false, true] {
                let op = GridSample { mode, padding, align_corners };
                for (inputs, out) in layouts().take(6) {
                    check(op, &[&image, &places], &inputs, out, 1e-4);
                }
                check(op, &[&volume, &spatial], &[], Layout::Dense, 1e-4);
            }
        }
    }
}

#[test]
fn elements_of_any_type_are_sampled_at_the_nearest_place() {
    let mut random = Random::new(92);
    let places = grid(&mut random, &[1, 4, 5, 2]);
    let op = GridSample { mode: SampleMode::Nearest, padding: SamplePadding::Zeros, align_corners: false };
    for dtype in [DType::U8, DType::I64, DType::F16, DType::F64] {
        let x = random.tensor(dtype, &[1, 2, 3, 4]);
        check(op, &[&x, &places], &[], Layout::Dense, 0.0);
    }
    let (x, half) = (random.tensor(DType::F16, &[1, 2, 3, 4]), random.tensor(DType::F16, &[1, 4, 5, 2]));
    let op = GridSample { mode: SampleMode::Linear, ..op };
    check(op, &[&x, &half], &[], Layout::Dense, 1e-3);
}

#[test]
fn regions_are_pooled_as_evaluated() {
    let mut random = Random::new(93);
    let x = random.tensor(DType::F32, &[2, 3, 9, 11]);
    let corners: [[f32; 4]; 7] = [
        [0.0, 0.0, 10.0, 8.0],
        [1.5, 2.25, 7.0, 5.5],
        [-4.0, -3.0, 3.0, 2.0],
        [5.0, 5.0, 5.0, 5.0],
        [9.0, 7.0, 2.0, 1.0],
        [8.0, 8.0, 40.0, 30.0],
        [f32::NAN, 0.0, 3.0, 3.0],
    ];
    let rois = Tensor::new([7, 4], &corners.concat()).unwrap();
    let batches = Tensor::new([7], &[0i64, 1, 0, 1, 7, -1, 0]).unwrap();
    for (samples, half_pixel, max) in [(0, true, false), (2, false, false), (3, true, true), (0, false, true)]
    {
        let op = RoiAlign { bins: [3, 2], samples, scale: 0.75, half_pixel, max };
        for (inputs, out) in layouts().take(6) {
            check(op.clone(), &[&x, &rois, &batches], &inputs, out, 1e-4);
        }
    }
    let whole: Vec<f32> = corners
        .iter()
        .zip([0.0f32, 1.0, 0.0, 1.0, 9.0, -2.0, 0.0])
        .flat_map(|(c, b)| [b, c[0], c[1], c[2], c[3]])
        .collect();
    let rois = Tensor::new([7, 5], &whole).unwrap();
    for (inputs, out) in layouts().take(6) {
        check(MaxRoiPool { bins: [3, 2], scale: 0.75 }, &[&x, &rois], &inputs, out, 0.0);
    }
}

#[test]
fn a_deformable_convolution_is_as_evaluated() {
    let mut random = Random::new(94);
    for (groups, offset_groups, stride, dilation, pad) in [(1, 1, 1, 1, 1), (2, 4, 2, 1, 0), (4, 2, 1, 2, 2)]
    {
        let window = Window {
            kernel: vec![3, 2],
            strides: vec![stride, 1],
            dilations: vec![1, dilation],
            pads_begin: vec![pad; 2],
            pads_end: vec![pad, 0],
        };
        let positions = window.positions(&[6, 7]).unwrap();
        let shape = |channels: usize| [&[2, channels][..], &positions].concat();
        let x = random.tensor(DType::F32, &[2, 4, 6, 7]);
        let w = random.tensor(DType::F32, &[8, 4 / groups, 3, 2]);
        let offset = random.tensor(DType::F32, &shape(offset_groups * 12));
        let (b, mask) =
            (random.tensor(DType::F32, &[8]), random.tensor(DType::F32, &shape(offset_groups * 6)));
        let op = Op::from(DeformConv { window, groups, offset_groups });
        for (inputs, out) in layouts().take(6) {
            check_optional(&op, &[Some(&x), Some(&w), Some(&offset)], &inputs, out, 1e-4);
            let all = [Some(&x), Some(&w), Some(&offset), Some(&b), Some(&mask)];
            check_optional(&op, &all, &inputs, out, 1e-4);
        }
    }
}

#[test]
fn determinants_are_as_evaluated() {
    let mut random = Random::new(95);
    for (size, dtype, tolerance) in
        [(1, DType::F32, 1e-6), (2, DType::F32, 1e-5), (5, DType::F32, 1e-3), (7, DType::F64, 1e-9)]
    {
        let x = random.tensor(dtype, &[2, 3, size, size]);
        for (inputs, out) in layouts() {
            check(Det, &[&x], &inputs, out, tolerance);
        }
    }
    let singular = Tensor::new([3, 3], &[0.0f32, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 5.0, 3.0]).unwrap();
    check(Det, &[&singular], &[], Layout::Dense, 0.0);
    check(Det, &[&Tensor::new([2, 0, 0], &[0.0f32; 0]).unwrap()], &[], Layout::Dense, 0.0);
}
