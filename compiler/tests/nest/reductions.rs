//! Reductions, softmaxes, normalisations, matrix products.

use nnc::code::view::View;
use nnc_ir::op::{
    BatchNorm, ChannelAffine, Epilogue, InstanceNorm, LayerNorm, LogSoftmax, Lrn, MatMul, Reduce, ReduceKind,
    Residual, Softmax, Unary,
};
use nnc_ir::{DType, Op, Tensor};

use crate::harness::{Layout, Random, check, check_optional, layouts, lowered};

const KINDS: [ReduceKind; 14] = [
    ReduceKind::Sum,
    ReduceKind::Mean,
    ReduceKind::Max,
    ReduceKind::Min,
    ReduceKind::Prod,
    ReduceKind::L1,
    ReduceKind::L2,
    ReduceKind::SumSquare,
    ReduceKind::LogSum,
    ReduceKind::LogSumExp,
    ReduceKind::ArgMax { last: false },
    ReduceKind::ArgMax { last: true },
    ReduceKind::ArgMin { last: false },
    ReduceKind::ArgMin { last: true },
];

#[test]
fn every_reduction_of_floats_is_as_evaluated() {
    let mut random = Random::new(21);
    for dtype in [DType::F32, DType::F64] {
        let x = random.tensor(dtype, &[2, 5, 3, 18]);
        for kind in KINDS {
            let arg = matches!(kind, ReduceKind::ArgMax { .. } | ReduceKind::ArgMin { .. });
            for axes in [&[1][..], &[3], &[1, 3], &[2, 3], &[0, 1, 2, 3], &[0]] {
                if arg && axes.len() > 1 {
                    continue;
                }
                for (i, (inputs, out)) in layouts().enumerate() {
                    let op = Reduce { kind, axes: axes.to_vec(), keep_dims: i % 2 == 0 };
                    check(op, &[&x], &inputs, out, 2e-5);
                }
            }
        }
    }
}

#[test]
fn reductions_of_integers_are_exact() {
    let mut random = Random::new(22);
    for dtype in [DType::I8, DType::U8, DType::I32, DType::I64, DType::Bool] {
        let x = random.tensor(dtype, &[3, 4, 7]);
        for kind in KINDS {
            let op = Reduce { kind, axes: vec![1], keep_dims: false };
            if Op::from(op.clone()).infer(&[Some(x.ty())]).is_ok() {
                check(op, &[&x], &[], Layout::Dense, 0.0);
            }
        }
    }
}

#[test]
fn nan_and_infinity_go_through_reductions_and_softmax() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let rows = [
        [1.0, nan, 2.0, 3.0, -1.0, 0.0, 5.0, 2.0, 1.0],
        [nan, nan, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [-inf, -inf, -inf, -inf, -inf, -inf, -inf, -inf, -inf],
        [inf, 1.0, inf, 2.0, 0.0, -inf, 0.0, 3.0, 3.0],
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, nan],
        [3.0, 3.0, -2.0, -2.0, 3.0, -2.0, 0.0, 3.0, -2.0],
    ];
    let x = Tensor::new([6, 9], rows.as_flattened()).unwrap();
    for axis in [0, 1] {
        for kind in KINDS {
            check(Reduce { kind, axes: vec![axis], keep_dims: false }, &[&x], &[], Layout::Dense, 1e-5);
        }
        check(Softmax { axis }, &[&x], &[], Layout::Dense, 1e-6);
        check(LogSoftmax { axis }, &[&x], &[], Layout::Dense, 1e-6);
    }
}

#[test]
fn softmaxes_normalise_along_any_axis() {
    let mut random = Random::new(23);
    for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-13)] {
        for shape in [&[2, 5, 3, 18][..], &[1, 1000], &[7]] {
            let x = random.tensor(dtype, shape);
            for axis in 0..shape.len() {
                for (inputs, out) in layouts() {
                    check(Softmax { axis }, &[&x], &inputs, out, tolerance);
                    check(LogSoftmax { axis }, &[&x], &inputs, out, tolerance * 4.0);
                }
            }
        }
    }
}

#[test]
fn rows_of_any_length_are_as_evaluated() {
    let mut random = Random::new(28);
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F16, 2e-3), (DType::BF16, 1.6e-2)] {
        for n in [0, 1, 7, 8, 13, 16, 31, 32, 33, 48, 100, 257] {
            let x = random.tensor(dtype, &[3, 2, n]);
            let (scale, bias) = (random.tensor(dtype, &[n]), random.tensor(dtype, &[n]));
            let (channel, shift) = (random.tensor(dtype, &[2]), random.tensor(dtype, &[2]));
            for (inputs, out) in layouts().take(6) {
                check(Softmax { axis: 2 }, &[&x], &inputs, out, tolerance);
                check(LogSoftmax { axis: 2 }, &[&x], &inputs, out, tolerance);
                check(LayerNorm { axis: 2, epsilon: 1e-5 }, &[&x, &scale, &bias], &inputs, out, tolerance);
                check(InstanceNorm { epsilon: 1e-5 }, &[&x, &channel, &shift], &inputs, out, tolerance);
                for kind in
                    [ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min, ReduceKind::L2, ReduceKind::LogSumExp]
                {
                    let op = Reduce { kind, axes: vec![2], keep_dims: false };
                    check(op, &[&x], &inputs, out, tolerance);
                }
            }
        }
    }
}

#[test]
fn normalisations_are_as_evaluated() {
    let mut random = Random::new(24);
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-12)] {
        let x = random.tensor(dtype, &[2, 9, 3, 6]);
        let channel = |random: &mut Random| random.tensor(dtype, &[9]);
        let (scale, bias, mean) = (channel(&mut random), channel(&mut random), channel(&mut random));
        let variance = match dtype {
            DType::F32 => Tensor::new([9], &[0.5f32, 1.0, 2.0, 0.1, 3.0, 4.0, 0.7, 0.2, 1.5]).unwrap(),
            _ => Tensor::new([9], &[0.5f64, 1.0, 2.0, 0.1, 3.0, 4.0, 0.7, 0.2, 1.5]).unwrap(),
        };
        let (row, rows) = (random.tensor(dtype, &[6]), random.tensor(dtype, &[9, 3, 6]));
        for (inputs, out) in layouts() {
            let op = BatchNorm { epsilon: 1e-5 };
            check(op, &[&x, &scale, &bias, &mean, &variance], &inputs, out, tolerance);
            let op = ChannelAffine { activation: Some(Unary::Relu) };
            check(op, &[&x, &scale, &bias], &inputs, out, tolerance);
            check(InstanceNorm { epsilon: 1e-5 }, &[&x, &scale, &bias], &inputs, out, tolerance);
            let op = Op::from(LayerNorm { axis: 3, epsilon: 1e-5 });
            check_optional(&op, &[Some(&x), Some(&row), None], &inputs, out, tolerance);
            let op = LayerNorm { axis: 1, epsilon: 1e-5 };
            check(op, &[&x, &rows, &row], &inputs, out, tolerance);
        }
    }
}

#[test]
fn lrn_sums_over_the_channels_that_exist() {
    let mut random = Random::new(25);
    for channels in [9, 3, 40] {
        let x = random.tensor(DType::F32, &[2, channels, 3, 5]);
        for (size, beta) in [(5, 0.75), (4, 0.5), (1, 1.0), (3, 0.6), (100, 0.75)] {
            for (inputs, out) in layouts() {
                let op = Lrn { size, alpha: 0.3, beta, bias: 1.5 };
                check(op, &[&x], &inputs, out, 2e-6);
            }
        }
    }
}

#[test]
fn products_take_transposed_operands_a_bias_and_a_residual() {
    let mut random = Random::new(26);
    for (m, k, n) in [(1, 33, 20), (7, 16, 10), (5, 1, 3), (4, 0, 6), (17, 40, 64)] {
        for trans_b in [false, true] {
            let a = random.tensor(DType::F32, &[2, m, k]);
            let b = random.tensor(DType::F32, &if trans_b { [n, k] } else { [k, n] });
            let bias = random.tensor(DType::F32, &[n]);
            let addend = random.tensor(DType::F32, &[2, m, n]);
            for residual in [None, Some(Residual::BeforeActivation), Some(Residual::AfterActivation)] {
                let epilogue = Epilogue { residual, activation: Some(Unary::Relu), stored: None };
                let op = Op::from(MatMul { trans_b, epilogue });
                let operands = [Some(&a), Some(&b), Some(&bias), residual.map(|_| &addend)];
                for (inputs, out) in layouts().take(7) {
                    check_optional(&op, &operands, &inputs, out, 2e-5);
                }
            }
        }
    }
}

#[test]
fn matmul_broadcasts_batches_and_takes_vectors() {
    let mut random = Random::new(27);
    let cases: [(&[usize], &[usize]); 7] = [
        (&[3, 8], &[8, 12]),
        (&[2, 3, 8], &[8, 12]),
        (&[2, 1, 3, 8], &[5, 8, 4]),
        (&[8], &[8]),
        (&[8], &[2, 8, 5]),
        (&[2, 3, 8], &[8]),
        (&[1, 4, 6, 8], &[1, 4, 8, 6]),
    ];
    for dtype in [DType::F32, DType::F64, DType::I32, DType::U8] {
        for (a, b) in cases {
            let (a, b) = (random.tensor(dtype, a), random.tensor(dtype, b));
            for (inputs, out) in layouts() {
                check(MatMul::default(), &[&a, &b], &inputs, out, 2e-5);
            }
        }
    }
}

#[test]
fn what_is_made_of_dense_rows_takes_one_nest() {
    for n in [8, 30, 50, 200] {
        one_nest(&[2, 3, 4, n]);
    }
}

fn one_nest(x: &[usize]) {
    let view = |arg, shape: &[usize]| View::dense(arg, DType::F32, shape.to_vec());
    let (channel, row) = ([x[1]], [x[3]]);
    let of = |op: Op, others: &[&[usize]]| {
        let mut inputs = vec![Some(view(0, x))];
        inputs.extend(others.iter().enumerate().map(|(i, shape)| Some(view(i + 1, shape))));
        lowered(&op, &inputs, &[view(inputs.len(), x)]).unwrap().steps.len()
    };
    assert_eq!(of(Softmax { axis: 3 }.into(), &[]), 1);
    assert_eq!(of(LogSoftmax { axis: 3 }.into(), &[]), 1);
    assert_eq!(of(InstanceNorm { epsilon: 0.1 }.into(), &[&channel, &channel]), 1);
    assert_eq!(of(LayerNorm { axis: 3, epsilon: 0.1 }.into(), &[&row, &row]), 1);
    // Rows that are not dense are summed up apart.
    assert!(of(Softmax { axis: 1 }.into(), &[]) > 1);
}

/// Ties, infinities and NaN, by rows and by columns, in vectors and in what is left over.
#[test]
fn the_place_of_an_extreme_is_that_of_the_first_or_the_last() {
    let mut random = Random::new(27);
    let values = [1.0, -1.0, 0.0, -0.0, 2.0, 2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    for few in [2, 6, 8, 9] {
        let numbers: Vec<f32> = (0..2 * 45 * 51).map(|_| values[random.below(few)]).collect();
        let mut numbers = numbers;
        // Of a whole row, and of a whole column.
        numbers[..51].fill(f32::NEG_INFINITY);
        numbers[51..2 * 51].fill(f32::NAN);
        numbers.iter_mut().skip(3).step_by(51).for_each(|v| *v = f32::INFINITY);
        numbers.iter_mut().skip(7).step_by(51).for_each(|v| *v = f32::NAN);
        let x = Tensor::new([2, 45, 51], &numbers).unwrap();
        for last in [false, true] {
            for kind in [ReduceKind::ArgMax { last }, ReduceKind::ArgMin { last }] {
                for axis in 0..3 {
                    for (inputs, out) in layouts() {
                        let op = Reduce { kind, axes: vec![axis], keep_dims: axis == 1 };
                        check(op, &[&x], &inputs, out, 0.0);
                    }
                }
            }
        }
    }
}
