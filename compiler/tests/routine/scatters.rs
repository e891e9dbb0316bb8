//! ScatterElements and ScatterND, with updates that meet and, where nobody wants to be told, updates outside.

use nnc_ir::op::{Op, ScatterElements, ScatterNd, ScatterReduction};
use nnc_ir::{DType, Tensor};

use crate::gathers::indices;
use crate::harness::{Layout, Random, check, compiled, layouts};

const ALL: [ScatterReduction; 5] = [
    ScatterReduction::Replace,
    ScatterReduction::Add,
    ScatterReduction::Mul,
    ScatterReduction::Max,
    ScatterReduction::Min,
];

/// Half floats of any bits can only be moved: among them are NaN and what overflows.
fn takes(reduction: ScatterReduction, dtype: DType) -> bool {
    reduction == ScatterReduction::Replace || dtype != DType::F16
}

#[test]
fn scatter_elements_puts_updates_where_their_indices_say() {
    let mut random = Random::new(4);
    for (shape, axis, picked) in
        [(vec![2, 3, 4, 5], 1, vec![2, 6, 3, 5]), (vec![9], 0, vec![30]), (vec![40, 50], 1, vec![40, 20])]
    {
        for (reduction, dtype) in ALL
            .into_iter()
            .flat_map(|r| [DType::F32, DType::I32, DType::U8, DType::F16].map(move |dtype| (r, dtype)))
        {
            if !takes(reduction, dtype) {
                continue;
            }
            let (x, updates) = (random.tensor(dtype, &shape), random.tensor(dtype, &picked));
            let i = indices(&mut random, &picked, shape[axis]);
            for (operands, out) in layouts() {
                check(ScatterElements { axis, reduction }, &[&x, &i, &updates], &operands, out, 1e-5);
            }
        }
    }
}

#[test]
fn scatter_nd_puts_slices_where_their_positions_say() {
    let mut random = Random::new(5);
    for (shape, picked) in
        [(vec![3, 3, 4, 5], vec![6, 2]), (vec![4, 3], vec![2, 9, 1]), (vec![8], vec![5, 1])]
    {
        let depth = *picked.last().unwrap();
        let dims = [&picked[..picked.len() - 1], &shape[depth..]].concat();
        for reduction in ALL {
            let (x, updates) = (random.tensor(DType::F32, &shape), random.tensor(DType::F32, &dims));
            let i = indices(&mut random, &picked, shape[0]);
            for (operands, out) in layouts() {
                check(ScatterNd { reduction }, &[&x, &i, &updates], &operands, out, 1e-5);
            }
        }
    }
}

#[test]
fn half_floats_are_added_as_numbers() {
    let half = |values: &[f32]| {
        let values: Vec<half::f16> = values.iter().map(|&v| half::f16::from_f32(v)).collect();
        Tensor::new([values.len()], &values).unwrap()
    };
    let (x, updates) = (half(&[1.0, 2.0, 3.0]), half(&[0.5, 0.25, -8.0]));
    let i = Tensor::new([3], &[0i64, 0, 2]).unwrap();
    let op = ScatterElements { axis: 0, reduction: ScatterReduction::Add };
    check(op, &[&x, &i, &updates], &[], crate::harness::Layout::Dense, 0.0);
}

#[test]
fn an_update_outside_is_left_out() {
    let x = Tensor::new([3], &[1u8, 2, 3]).unwrap();
    let updates = Tensor::new([4], &[10u8, 20, 30, 40]).unwrap();
    let places = Tensor::new([4], &[3i64, -4, i64::MIN, 2]).unwrap();
    let op = Op::from(ScatterElements { axis: 0, reduction: ScatterReduction::Replace });
    let y = compiled(&op, &[Some(&x), Some(&places), Some(&updates)], &[], Layout::Dense);
    assert_eq!(y, [Tensor::new([3], &[1u8, 2, 40]).unwrap()]);
    let op = Op::from(ScatterNd { reduction: ScatterReduction::Add });
    let tuples = places.reshaped([4, 1]).unwrap();
    let y = compiled(&op, &[Some(&x), Some(&tuples), Some(&updates)], &[], Layout::Dense);
    assert_eq!(y, [Tensor::new([3], &[1u8, 2, 43]).unwrap()]);
}
