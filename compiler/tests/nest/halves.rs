//! Half floats: f16 and bf16 are computed in f32 and rounded once, when they are stored.

use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::{
    BatchNorm, Binary, Cast, Conv, CoordinateMode, Epilogue, InstanceNorm, LayerNorm, MatMul, Pad, PadMode,
    Pool, PoolKind, Prologue, Reduce, ReduceKind, Resize, ResizeMode, Softmax, Unary, Where, Window,
};
use nnc_ir::{DType, Tensor};

use crate::harness::{Layout, Random, check, layouts};

/// The half floats, and what one place less than theirs is of 1.
const HALVES: [(DType, f64); 2] = [(DType::F16, 1.0 / 1024.0), (DType::BF16, 1.0 / 128.0)];

/// All 65536 half floats of a type.
fn all(dtype: DType) -> Tensor {
    let bits: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    Tensor::from_bytes(nnc_ir::TensorType::new(dtype, [1 << 16]), bits).unwrap()
}

#[test]
fn every_half_float_widens_exactly() {
    for (dtype, _) in HALVES {
        for to in [DType::F32, DType::F64, DType::I32, DType::U8, DType::I64, DType::Bool] {
            check(Cast { to }, &[&all(dtype)], &[], Layout::Dense, 1e-300);
        }
    }
}

#[test]
fn a_number_becomes_the_nearest_half_float_with_ties_to_even() {
    for (dtype, _) in HALVES {
        // Every half float, the ties between neighbours, and what lies just beside those.
        let mut numbers: Vec<f64> = Vec::new();
        for bits in 0..=u16::MAX {
            let value = |bits: u16| match dtype {
                DType::F16 => half::f16::from_bits(bits).to_f64(),
                _ => half::bf16::from_bits(bits).to_f64(),
            };
            let (v, next) = (value(bits), value(bits.wrapping_add(1)));
            if v.is_finite() && next.is_finite() {
                let tie = (v + next) / 2.0;
                numbers.extend([v, tie, tie * (1.0 + 1e-12), tie * (1.0 - 1e-12)]);
            }
        }
        numbers.extend([
            65504.0,
            65519.9,
            65520.0,
            1e5,
            -1e5,
            3.5e38,
            1e300,
            1e-300,
            f64::INFINITY,
            f64::NAN,
            -0.0,
        ]);
        check(
            Cast { to: dtype },
            &[&Tensor::new([numbers.len()], &numbers).unwrap()],
            &[],
            Layout::Dense,
            1e-300,
        );
        let single: Vec<f32> = numbers.iter().map(|&v| v as f32).collect();
        check(
            Cast { to: dtype },
            &[&Tensor::new([single.len()], &single).unwrap()],
            &[],
            Layout::Dense,
            1e-300,
        );
    }
}

#[test]
fn integers_are_rounded_once_to_half_floats() {
    let mut integers: Vec<i64> = (0..4000).collect();
    for shift in 0..55 {
        // Ties of bf16, and one more or less.
        integers.extend([-1, 0, 1].map(|d| (0x101 << shift) + d));
        integers.extend([-1, 0, 1].map(|d| -((0x103 << shift) + d)));
    }
    let signed = Tensor::new([integers.len()], &integers).unwrap();
    let unsigned: Vec<u64> = integers.iter().map(|v| v.unsigned_abs() << 1).collect();
    let unsigned = Tensor::new([unsigned.len()], &unsigned).unwrap();
    for (to, _) in HALVES {
        check(Cast { to }, &[&signed], &[], Layout::Dense, 1e-300);
        check(Cast { to }, &[&unsigned], &[], Layout::Dense, 1e-300);
    }
}

#[test]
fn functions_of_half_floats_are_as_evaluated() {
    let mut random = Random::new(71);
    for (dtype, place) in HALVES {
        let (a, b) = (random.tensor(dtype, &[2, 5, 3, 6]), random.tensor(dtype, &[5, 1, 1]));
        let c = random.tensor(DType::Bool, &[5, 3, 6]);
        for (inputs, out) in layouts() {
            for f in [
                Unary::Sigmoid,
                Unary::Exp,
                Unary::Gelu { tanh: false },
                Unary::Sin,
                Unary::Round,
                Unary::IsNan,
            ] {
                check(f, &[&a], &inputs, out, place);
            }
            for function in
                [BinaryFn::Add, BinaryFn::Div, BinaryFn::Max, BinaryFn::Mod { fmod: true }, BinaryFn::Less]
            {
                check(Binary { function, activation: None }, &[&a, &b], &inputs, out, place);
            }
            check(Where, &[&c, &a, &b], &inputs, out, 0.0);
        }
        let every = all(dtype);
        check(Unary::Neg, &[&every], &[], Layout::Dense, 1e-300);
    }
}

/// Rows of several of the widest vectors and a part of one, which kernels compute.
#[test]
fn functions_of_long_rows_of_half_floats_are_as_evaluated() {
    let mut random = Random::new(74);
    for (dtype, place) in HALVES {
        let (a, b) = (random.tensor(dtype, &[3, 77]), random.tensor(dtype, &[3, 1]));
        for (inputs, out) in layouts() {
            for f in [
                Unary::Exp,
                Unary::Tanh,
                Unary::Gelu { tanh: false },
                Unary::Power { exponent: 3.0 },
                Unary::LeakyRelu { alpha: 0.1 },
            ] {
                check(f, &[&a], &inputs, out, place);
            }
            for function in [BinaryFn::Add, BinaryFn::Max] {
                check(Binary { function, activation: None }, &[&a, &b], &inputs, out, place);
            }
        }
        check(Unary::Abs, &[&all(dtype)], &[], Layout::Dense, 1e-300);
        check(Unary::Relu, &[&all(dtype)], &[], Layout::Dense, 1e-300);
    }
}

#[test]
fn sums_and_norms_of_half_floats_keep_the_precision_of_f32() {
    let mut random = Random::new(72);
    for (dtype, place) in HALVES {
        let x = random.tensor(dtype, &[2, 4, 5, 9]);
        let channels = random.tensor(dtype, &[4]);
        let variance = {
            let positive = random.tensor(DType::U8, &[4]);
            nnc_ir::Op::from(Cast { to: dtype }).eval(&[Some(&positive)]).unwrap().remove(0)
        };
        for kind in [
            ReduceKind::Sum,
            ReduceKind::Mean,
            ReduceKind::Max,
            ReduceKind::L2,
            ReduceKind::LogSumExp,
            ReduceKind::ArgMax { last: false },
        ] {
            check(
                Reduce {
                    kind,
                    axes: vec![1, 3][..if kind == (ReduceKind::ArgMax { last: false }) { 1 } else { 2 }]
                        .to_vec(),
                    keep_dims: true,
                },
                &[&x],
                &[],
                Layout::Dense,
                place,
            );
        }
        check(Softmax { axis: 1 }, &[&x], &[], Layout::Dense, place);
        check(InstanceNorm { epsilon: 1e-3 }, &[&x, &channels, &channels], &[], Layout::Dense, 2.0 * place);
        check(
            BatchNorm { epsilon: 1.0 },
            &[&x, &channels, &channels, &channels, &variance],
            &[],
            Layout::Dense,
            2.0 * place,
        );
        let row = random.tensor(dtype, &[9]);
        check(LayerNorm { axis: 3, epsilon: 1e-3 }, &[&x, &row, &row], &[], Layout::Dense, 2.0 * place);
    }
}

#[test]
fn products_convolutions_and_pools_of_half_floats_are_as_evaluated() {
    let mut random = Random::new(73);
    for (dtype, place) in HALVES {
        let window = Window {
            kernel: vec![3, 3],
            strides: vec![1, 2],
            dilations: vec![1, 1],
            pads_begin: vec![1, 1],
            pads_end: vec![1, 0],
        };
        let (x, w) = (random.tensor(dtype, &[1, 4, 6, 9]), random.tensor(dtype, &[6, 4, 3, 3]));
        let conv = Conv {
            window: window.clone(),
            groups: 1,
            prologue: Prologue::default(),
            epilogue: Epilogue { residual: None, activation: Some(Unary::Relu), stored: None },
        };
        let bias = random.tensor(dtype, &[6]);
        for (inputs, out) in layouts() {
            check(conv.clone(), &[&x, &w, &bias], &inputs, out, place);
        }
        for kind in [PoolKind::Max, PoolKind::Average { count_include_pad: false }, PoolKind::Lp { p: 2 }] {
            let op = Pool {
                kind,
                window: window.clone(),
                ceil_pads: vec![0, 0],
                prologue: Prologue::default(),
                epilogue: Epilogue::default(),
            };
            check(op, &[&x], &[], Layout::Dense, place);
        }
        let (a, b) = (random.tensor(dtype, &[7, 33]), random.tensor(dtype, &[33, 5]));
        check(MatMul::default(), &[&a, &b], &[], Layout::Dense, place);
        check(MatMul::default(), &[&a, &b, &random.tensor(dtype, &[5])], &[], Layout::Dense, place);
    }
}

#[test]
fn half_floats_are_padded_with_any_value_and_resized() {
    let mut random = Random::new(74);
    for (dtype, place) in HALVES {
        let x = random.tensor(dtype, &[1, 2, 3, 5]);
        let op = Pad { begin: vec![0, 0, 1, 2], end: vec![0, 0, 0, 1], mode: PadMode::Constant(1.3) };
        for (inputs, out) in layouts() {
            check(op.clone(), &[&x], &inputs, out, 0.0);
        }
        let scales = [1.0, 1.0, 7.0 / 3.0, 9.0 / 5.0];
        let op = Resize::new([1, 2, 7, 9], scales, ResizeMode::Linear, CoordinateMode::HalfPixel);
        check(op, &[&x], &[], Layout::Dense, place);
    }
}
