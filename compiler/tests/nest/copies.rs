//! Operators that move elements.

use nnc_ir::op::{
    AxisSlice, BitCast, ChannelSelect, ChannelSource, Concat, Expand, Gather, Pad, PadMode, Reshape, Slice,
    Split, Transpose,
};
use nnc_ir::{DType, Tensor};

use crate::harness::{Layout, Random, check, layouts};

const TYPES: [DType; 6] = [DType::F32, DType::I64, DType::U8, DType::F16, DType::Bool, DType::I16];

#[test]
fn a_bit_cast_keeps_the_bits() {
    let mut random = Random::new(12);
    for (from, to) in [
        (DType::F32, DType::I32),
        (DType::I64, DType::F64),
        (DType::F16, DType::I16),
        (DType::U16, DType::BF16),
        (DType::Bool, DType::U8),
    ] {
        let x = random.tensor(from, &[3, 5, 2]);
        for (inputs, out) in layouts() {
            check(BitCast { to }, &[&x], &inputs, out, 0.0);
        }
    }
}

#[test]
fn a_transpose_moves_every_element_whatever_its_size() {
    let mut random = Random::new(11);
    for dtype in TYPES {
        for shape in [[2, 5, 3, 7], [1, 16, 9, 4], [1, 3, 8, 13]] {
            let x = random.tensor(dtype, &shape);
            for perm in [[0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0], [0, 1, 3, 2]] {
                for (inputs, out) in layouts() {
                    check(Transpose { perm: perm.to_vec() }, &[&x], &inputs, out, 0.0);
                }
            }
        }
    }
}

/// Units have so many rows that some are left, of which there are too few for a block.
#[test]
fn a_transpose_leaves_any_number_of_rows_to_its_last_unit() {
    let mut random = Random::new(13);
    for dtype in [DType::F32, DType::F16, DType::U8, DType::F64] {
        for rows in 256..=266 {
            let x = random.tensor(dtype, &[250, rows]);
            check(Transpose { perm: vec![1, 0] }, &[&x], &[Layout::Dense], Layout::Dense, 0.0);
        }
    }
}

/// Of bytes, blocks have 4, 8 or 16 rows and columns, and the last ones reach back over what was moved before.
#[test]
fn blocks_of_any_extents_are_transposed() {
    let mut random = Random::new(21);
    let extents = [3, 4, 5, 8, 11, 13, 16, 21, 33];
    for dtype in [DType::U8, DType::I8, DType::U16] {
        for rows in extents {
            for columns in extents {
                let x = random.tensor(dtype, &[2, rows, columns]);
                for layout in [Layout::Dense, Layout::Strided(3)] {
                    check(Transpose { perm: vec![0, 2, 1] }, &[&x], &[layout], layout, 0.0);
                }
            }
        }
    }
}

/// The displacements of its elements are in a table, of which each unit has a part.
#[test]
fn a_long_gather_is_cut_into_units() {
    let mut random = Random::new(14);
    let x = random.tensor(DType::F32, &[1000]);
    for count in [20_000, 20_003, 33_333] {
        let indices: Vec<i64> = (0..count).map(|_| random.below(1000) as i64).collect();
        let indices = Tensor::new([count], &indices).unwrap();
        check(Gather { axis: 0, indices }, &[&x], &[Layout::Dense], Layout::Dense, 0.0);
    }
}

#[test]
fn a_reshape_keeps_the_order_of_elements() {
    let mut random = Random::new(12);
    let cases: [(&[usize], &[usize]); 6] = [
        (&[2, 6, 3, 4], &[2, 2, 3, 12]),
        (&[2, 6, 3, 4], &[144]),
        (&[4, 9], &[6, 6]),
        (&[2, 6, 3, 4], &[3, 2, 4, 6]),
        (&[1, 1, 1], &[]),
        (&[0, 3], &[3, 0, 2]),
    ];
    for dtype in TYPES {
        for (from, to) in cases {
            let x = random.tensor(dtype, from);
            for (inputs, out) in layouts() {
                check(Reshape { shape: to.to_vec() }, &[&x], &inputs, out, 0.0);
            }
        }
    }
}

#[test]
fn concat_split_slice_and_expand_move_the_right_elements() {
    let mut random = Random::new(13);
    for dtype in TYPES {
        let parts: Vec<Tensor> = [3, 1, 0, 6].iter().map(|&c| random.tensor(dtype, &[2, c, 3, 5])).collect();
        let parts: Vec<&Tensor> = parts.iter().collect();
        let x = random.tensor(dtype, &[2, 10, 3, 5]);
        let small = random.tensor(dtype, &[2, 1, 5]);
        let axes = vec![
            AxisSlice { axis: 1, start: 9, step: -2, len: 4 },
            AxisSlice { axis: 3, start: 1, step: 1, len: 3 },
        ];
        for (inputs, out) in layouts() {
            check(Concat { axis: 1 }, &parts, &inputs, out, 0.0);
            check(Split { axis: 1, parts: vec![4, 0, 6] }, &[&x], &inputs, out, 0.0);
            check(Slice { axes: axes.clone() }, &[&x], &inputs, out, 0.0);
            check(Expand { shape: vec![3, 2, 4, 5] }, &[&small], &inputs, out, 0.0);
        }
    }
}

#[test]
fn a_gather_follows_regular_and_irregular_indices() {
    let mut random = Random::new(14);
    let indices = |n: usize, extent: usize, random: &mut Random| -> Vec<i64> {
        (0..n).map(|_| random.below(extent) as i64).collect()
    };
    for dtype in TYPES {
        let x = random.tensor(dtype, &[2, 10, 3, 5]);
        let many = indices(60, 10, &mut random);
        let few = indices(4, 5, &mut random);
        let cases = [
            (1, Tensor::new([60], &many).unwrap()),
            (1, Tensor::new([4, 15], &many).unwrap()),
            (3, Tensor::new([2, 2], &few).unwrap()),
            (1, Tensor::new([], &[7i64]).unwrap()),
            (1, Tensor::new([8], &[0i64, 0, 1, 1, 2, 2, 3, 3]).unwrap()),
            (0, Tensor::new([0], &[] as &[i64]).unwrap()),
        ];
        for (axis, indices) in cases {
            for (inputs, out) in layouts() {
                check(Gather { axis, indices: indices.clone() }, &[&x], &inputs, out, 0.0);
            }
        }
    }
}

#[test]
fn every_mode_of_padding_fills_and_crops() {
    let mut random = Random::new(15);
    let modes =
        [PadMode::Constant(0.0), PadMode::Constant(2.0), PadMode::Reflect, PadMode::Edge, PadMode::Wrap];
    for dtype in [DType::F32, DType::I64, DType::U8] {
        let x = random.tensor(dtype, &[1, 3, 4, 6]);
        for mode in modes {
            for (begin, end) in
                [([0, 0, 1, 2], [0, 0, 2, 1]), ([0, 1, -1, 3], [0, -1, 5, 13]), ([0; 4], [0; 4])]
            {
                for (inputs, out) in layouts() {
                    let op = Pad { begin: begin.to_vec(), end: end.to_vec(), mode };
                    check(op, &[&x], &inputs, out, 0.0);
                }
            }
        }
    }
}

#[test]
fn channels_are_selected_from_several_operands() {
    let mut random = Random::new(16);
    let (a, b) = (random.tensor(DType::F32, &[2, 6, 3, 5]), random.tensor(DType::F32, &[2, 4, 3, 5]));
    let source = |operand, channel| ChannelSource { operand, channel };
    let shuffled: Vec<ChannelSource> = (0..4).flat_map(|c| [source(0, c), source(1, c)]).collect();
    let runs: Vec<ChannelSource> = (1..6).map(|c| source(0, c)).chain((0..4).map(|c| source(1, c))).collect();
    let scattered: Vec<ChannelSource> = (0..50).map(|i| source(0, i * i % 6)).collect();
    for sources in [shuffled, runs, scattered] {
        for (inputs, out) in layouts() {
            check(ChannelSelect { sources: sources.clone() }, &[&a, &b], &inputs, out, 0.0);
        }
    }
}

#[test]
fn a_large_transposing_copy_is_exact() {
    let mut random = Random::new(17);
    let x = random.tensor(DType::F32, &[2, 34, 33, 37]);
    check(Transpose { perm: vec![0, 1, 2, 3] }, &[&x], &[Layout::Dense], Layout::ChannelsLast, 0.0);
    check(Transpose { perm: vec![0, 1, 2, 3] }, &[&x], &[Layout::ChannelsLast], Layout::Dense, 0.0);
}

#[test]
fn elements_that_are_there_twice_are_copied_together() {
    let mut random = Random::new(18);
    for dtype in [DType::U8, DType::Bool, DType::F16, DType::I16, DType::F32, DType::I32, DType::I64] {
        let x = random.tensor(dtype, &[3, 1, 53, 1]);
        for (inputs, out) in layouts() {
            check(Expand { shape: vec![3, 2, 53, 2] }, &[&x], &inputs, out, 0.0);
        }
    }
}

#[test]
fn a_few_channels_are_transposed() {
    let mut random = Random::new(19);
    for channels in [2, 3] {
        for width in [4, 5, 8, 33, 34, 35, 36] {
            let x = random.tensor(DType::F32, &[2, channels, 3, width]);
            for (inputs, out) in layouts() {
                check(Transpose { perm: vec![0, 1, 2, 3] }, &[&x], &inputs, out, 0.0);
            }
        }
    }
}
