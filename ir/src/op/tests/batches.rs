//! Each image of a batch is computed as if it were alone.

use crate::op::testing::{filled, tensor};
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// Operators over a batch of two; behind each operand, whether it has an axis for the batch or is the same for all.
fn over_batches() -> Vec<(Op, Vec<(Tensor, bool)>)> {
    let window = || Window {
        kernel: vec![2, 3],
        strides: vec![1, 2],
        dilations: vec![2, 1],
        pads_begin: vec![1, 0],
        pads_end: vec![0, 1],
    };
    let image = || (filled([2, 4, 4, 6], 1), true);
    let shared = |shape: &[usize], seed| (filled(shape, seed), false);
    let integers = |shape: &[usize]| {
        let elems: Vec<i32> = (0..Shape::from(shape).elems() as i32).map(|i| i * 37 % 101).collect();
        (tensor(shape, &elems), true)
    };
    let bytes = |shape: &[usize]| {
        let elems: Vec<u8> = (0..Shape::from(shape).elems()).map(|i| (i * 37 % 256) as u8).collect();
        (tensor(shape, &elems), true)
    };
    let ints = |shape: &[usize]| (integers(shape).0, false);
    let weights = |shape: &[usize]| {
        let elems: Vec<i8> = (0..Shape::from(shape).elems()).map(|i| (i * 53 % 256) as u8 as i8).collect();
        (tensor(shape, &elems), false)
    };
    let pool = |kind| Pool {
        kind,
        window: window(),
        ceil_pads: vec![0, 0],
        prologue: Prologue::default(),
        epilogue: Epilogue::default(),
    };
    let scaled = Prologue { affine: true, activation: None };
    let mut cases: Vec<(Op, Vec<(Tensor, bool)>)> = vec![
        (
            Conv { window: window(), groups: 2, prologue: Default::default(), epilogue: Default::default() }
                .into(),
            vec![image(), shared(&[6, 2, 2, 3], 2), shared(&[6], 3)],
        ),
        (
            ConvTranspose { window: window(), output_padding: vec![0, 1], groups: 2, activation: None }
                .into(),
            vec![image(), shared(&[4, 3, 2, 3], 2), shared(&[6], 3)],
        ),
        (
            DeformConv { window: window(), groups: 2, offset_groups: 2 }.into(),
            vec![
                image(),
                shared(&[6, 2, 2, 3], 2),
                (filled([2, 24, 3, 3], 3), true),
                shared(&[6], 4),
                (filled([2, 12, 3, 3], 5), true),
            ],
        ),
        (
            IntegerConv { window: window(), groups: 2, x_zero: 9, result: Requantize::steps(DType::U8, 100) }
                .into(),
            vec![bytes(&[2, 4, 4, 6]), weights(&[6, 2, 2, 3]), ints(&[6]), shared(&[6], 3), shared(&[6], 4)],
        ),
        (Quantize { to: DType::I8 }.into(), vec![image(), shared(&[4, 1, 1], 2)]),
        (Dequantize.into(), vec![bytes(&[2, 4, 4, 6]), shared(&[4, 1, 1], 2)]),
        (Col2Im { image: vec![4, 6], window: window() }.into(), vec![(filled([2, 12, 9], 1), true)]),
        (Col2Im { image: vec![4, 6], window: window() }.into(), vec![integers(&[2, 12, 9])]),
        (pool(PoolKind::Average { count_include_pad: false }).into(), vec![image()]),
        (pool(PoolKind::Max).into(), vec![integers(&[2, 4, 4, 6])]),
        (
            GlobalPool { kind: PoolKind::Max, prologue: scaled, activation: None }.into(),
            vec![image(), shared(&[4], 2), shared(&[4], 3)],
        ),
        (InstanceNorm { epsilon: 0.5 }.into(), vec![image(), shared(&[4], 2), shared(&[4], 3)]),
        (Lrn { size: 3, alpha: 0.5, beta: 0.75, bias: 1.5 }.into(), vec![image()]),
        (TopK { axis: 2, k: 3, largest: true }.into(), vec![image()]),
        (TopK { axis: 2, k: 3, largest: false }.into(), vec![integers(&[2, 4, 4, 6])]),
        (
            Einsum {
                terms: ["nij", "njk"].map(|t| t.chars().collect()).into(),
                result: "nki".chars().collect(),
            }
            .into(),
            vec![(filled([2, 3, 4], 1), true), (filled([2, 4, 5], 2), true)],
        ),
    ];
    for mode in [SampleMode::Nearest, SampleMode::Linear, SampleMode::Cubic] {
        let op = GridSample { mode, padding: SamplePadding::Reflection, align_corners: false };
        cases.push((op.into(), vec![image(), (filled([2, 3, 5, 2], 2), true)]));
    }
    let nearest =
        GridSample { mode: SampleMode::Nearest, padding: SamplePadding::Zeros, align_corners: true };
    cases.push((nearest.into(), vec![integers(&[2, 4, 4, 6]), (filled([2, 3, 5, 2], 2), true)]));
    cases
}

/// One image of two.
fn half(t: &Tensor, n: usize) -> Tensor {
    let (dims, size) = (&t.shape()[..], t.bytes().len() / 2);
    let ty = TensorType::new(t.dtype(), [&[dims[0] / 2], &dims[1..]].concat());
    Tensor::from_bytes(ty, t.bytes()[n * size..][..size].to_vec()).unwrap()
}

#[test]
fn an_image_of_a_batch_is_computed_as_if_it_were_alone() {
    for (op, operands) in over_batches() {
        let all: Vec<Option<&Tensor>> = operands.iter().map(|(t, _)| Some(t)).collect();
        let together = op.eval(&all).unwrap_or_else(|e| panic!("{op}: {e}"));
        for n in 0..2 {
            let alone: Vec<Tensor> =
                operands.iter().map(|(t, own)| if *own { half(t, n) } else { t.clone() }).collect();
            let alone: Vec<Option<&Tensor>> = alone.iter().map(Some).collect();
            for (together, alone) in together.iter().zip(op.eval(&alone).unwrap()) {
                assert!(together.bytes().iter().any(|&b| b != 0), "{op} computes nothing");
                assert_eq!(half(together, n), alone, "image {n} of {op}");
            }
        }
    }
}
