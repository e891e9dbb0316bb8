//! Planes that are made larger or smaller, rows and columns in one step: as evaluated, whatever the taps.

use nnc::code::nest::Vectorised;
use nnc::code::view::View;
use nnc::plan::generic::GenericStep;
use nnc_ir::op::{CoordinateMode, Crop, Resize, ResizeMode};
use nnc_ir::{DType, Op, Tensor};

use crate::harness::{Layout, Random, check, lowered};

/// Extents, and those of the result.
const PLANES: [(&[usize], &[usize]); 12] = [
    (&[2, 3, 7, 9], &[2, 3, 14, 18]),
    (&[1, 2, 5, 40], &[1, 2, 9, 100]),
    (&[1, 3, 12, 70], &[1, 3, 5, 33]),
    (&[1, 1, 8, 130], &[1, 1, 3, 37]),
    (&[1, 2, 4, 300], &[1, 2, 4, 20]),
    (&[2, 2, 6, 3], &[2, 2, 6, 17]),
    (&[1, 2, 1, 5], &[1, 2, 7, 64]),
    (&[1, 2, 9, 1], &[1, 2, 3, 16]),
    (&[3, 20], &[5, 33]),
    (&[2, 4, 10], &[2, 4, 47]),
    (&[1, 2, 3, 6, 8], &[1, 2, 5, 9, 19]),
    (&[1, 2, 3, 5], &[1, 2, 2, 3]),
];

const MODES: [ResizeMode; 2] = [ResizeMode::Linear, ResizeMode::Cubic { coeff_a: -0.75 }];

fn resizes(from: &[usize], to: &[usize]) -> Vec<Resize> {
    let scales: Vec<f32> = to.iter().zip(from).map(|(&to, &from)| to as f32 / from as f32).collect();
    let mut all = Vec::new();
    for mode in MODES {
        for coordinates in
            [CoordinateMode::HalfPixel, CoordinateMode::AlignCorners, CoordinateMode::Asymmetric]
        {
            let plain = Resize::new(to, scales.clone(), mode, coordinates);
            all.push(Resize { antialias: true, ..plain.clone() });
            all.push(Resize { exclude_outside: true, ..plain.clone() });
            all.push(plain);
        }
    }
    all
}

fn steps(op: &Resize, dtype: DType, from: &[usize], to: &[usize]) -> Vec<GenericStep> {
    let [x, y] = [(0, from), (1, to)].map(|(arg, shape)| View::dense(arg, dtype, shape.to_vec()));
    lowered(&op.clone().into(), &[Some(x)], &[y]).unwrap().steps
}

fn resampled(step: &GenericStep) -> bool {
    matches!(step, GenericStep::Nest(nest) if matches!(nest.vectorised, Vectorised::Resampled { .. }))
}

#[test]
fn rows_and_columns_of_planes_are_resampled_as_evaluated() {
    let mut random = Random::new(71);
    for (from, to) in PLANES {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let x = random.tensor(dtype, from);
            let tolerance = match dtype {
                DType::F32 => 1e-5,
                // Of a product of weights and halves up to 3, what is rounded last.
                DType::F16 => 4e-3,
                _ => 3e-2,
            };
            for op in resizes(from, to) {
                check(op.clone(), &[&x], &[], Layout::Dense, tolerance);
                // In larger planes, and a result whose rows are apart.
                check(op, &[&x], &[Layout::Strided(4)], Layout::Strided(4), tolerance);
            }
        }
    }
}

#[test]
fn a_plane_is_resampled_in_one_step() {
    for (from, to) in PLANES {
        for op in resizes(from, to) {
            let steps = steps(&op, DType::F32, from, to);
            // What is resized besides rows and columns comes first, and its border apart.
            let apart = from.len().saturating_sub(2);
            let along_others = (0..apart).any(|axis| from[axis] != to[axis]);
            assert!(steps.iter().any(resampled), "{op:?} of {from:?}: {steps:?}");
            assert!(along_others || steps.iter().all(resampled), "{op:?} of {from:?}: {steps:?}");
        }
    }
}

#[test]
fn planes_whose_columns_run_backwards_are_resampled_as_evaluated() {
    let mut random = Random::new(72);
    let (from, to) = ([1, 2, 6, 20], [1, 2, 9, 33]);
    let x = random.tensor(DType::F32, &from);
    let scales: Vec<f32> = to.iter().zip(from).map(|(&to, from)| to as f32 / from as f32).collect();
    for (begin, end) in [([0.1, 0.9], [0.8, 0.1]), ([0.9, 0.2], [0.2, 1.3])] {
        let crop = Crop {
            begin: [&[0.0, 0.0][..], &begin].concat(),
            end: [&[1.0, 1.0][..], &end].concat(),
            extrapolation: -7.5,
        };
        let plain = Resize::new(to, scales.clone(), ResizeMode::Linear, CoordinateMode::HalfPixel);
        check(Resize { crop: Some(crop), ..plain }, &[&x], &[], Layout::Dense, 1e-5);
    }
}

#[test]
fn what_has_no_part_in_an_element_does_not_reach_it() {
    // An infinite column, away from which everything is finite.
    let mut elements = vec![1.0f32; 2 * 40];
    elements[20] = f32::INFINITY;
    let x = Tensor::new([1, 1, 2, 40], &elements).unwrap();
    let op = Resize::new([1, 1, 4, 80], [1.0, 1.0, 2.0, 2.0], ResizeMode::Linear, CoordinateMode::HalfPixel);
    check(Op::from(op), &[&x], &[], Layout::Dense, 1e-6);
}
