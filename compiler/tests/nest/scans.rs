//! Sums that go on across rows, in vectors of columns: as evaluated, and as precise.

use nnc::code::nest::Vectorised;
use nnc::code::view::View;
use nnc::plan::generic::GenericStep;
use nnc_ir::op::{Cumulative, CumulativeKind};
use nnc_ir::{DType, Op, Tensor};

use crate::harness::{Layout, Random, check, compiled, layouts, lowered};

fn sum(axis: usize, exclusive: bool, reverse: bool) -> Cumulative {
    Cumulative { kind: CumulativeKind::Sum, axis, exclusive, reverse }
}

#[test]
fn sums_across_rows_go_in_vectors_and_are_as_evaluated() {
    let mut random = Random::new(61);
    let shapes: [(&[usize], usize); 7] = [
        (&[9, 8], 0),
        (&[5, 32], 0),
        (&[200, 70], 0),
        (&[3, 17, 129], 1),
        (&[2, 3, 19, 33], 2),
        (&[2, 6, 4, 31], 1),
        (&[2, 45], 0),
    ];
    for (shape, axis) in shapes {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let x = random.tensor(dtype, shape);
            for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
                let op = sum(axis, exclusive, reverse);
                let views = [0, 1].map(|arg| View::dense(arg, dtype, shape.to_vec()));
                let [from, to] = views;
                let steps = lowered(&op.clone().into(), &[Some(from)], &[to]).unwrap().steps;
                let scans = |step: &GenericStep| matches!(step, GenericStep::Nest(nest) if nest.vectorised == Vectorised::Scan);
                assert!(steps.iter().all(scans), "{op:?} of {shape:?}: {steps:?}");
                // A sum of half floats is rounded once; that of `f64` may be the other one of two neighbours.
                let tolerance = if dtype == DType::F32 { 1e-6 } else { 1e-2 };
                for (inputs, out) in layouts() {
                    check(op.clone(), &[&x], &inputs, out, tolerance);
                }
            }
        }
    }
}

#[test]
fn a_sum_of_many_rows_is_as_precise_as_one_of_a_few() {
    let (rows, columns) = (30_000, 40);
    let mut random = Random::new(62);
    let elements: Vec<f32> = (0..rows * columns).map(|_| random.float(0.0, 1.0) as f32).collect();
    let op = Op::from(sum(0, false, false));
    let x = Tensor::new([rows, columns], &elements).unwrap();
    let got = compiled(&op, &[Some(&x)], &[], Layout::Dense);
    let got = got[0].elems::<f32>().unwrap();
    for column in 0..columns {
        let mut exact = 0.0;
        for row in 0..rows {
            let at = row * columns + column;
            exact += f64::from(elements[at]);
            let off = (f64::from(got[at]) - exact).abs();
            assert!(off <= exact * f64::from(f32::EPSILON), "row {row}: {}, not {exact}", got[at]);
        }
    }
}

#[test]
fn sums_that_are_no_numbers_stay_what_they_are() {
    let mut elements = vec![1.0f32; 6 * 16];
    let places = [(1, 0, f32::INFINITY), (2, 1, f32::NAN), (1, 2, f32::INFINITY), (3, 2, f32::NEG_INFINITY)];
    for (row, column, x) in places {
        elements[row * 16 + column] = x;
    }
    let x = Tensor::new([6, 16], &elements).unwrap();
    for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
        check(sum(0, exclusive, reverse), &[&x], &[], Layout::Dense, 1e-6);
    }
}
