//! Gather, GatherElements and GatherND with indices that are only known when they run.

use nnc_ir::op::{GatherAt, GatherElements, GatherNd, Inside, Op, Outside};
use nnc_ir::{DType, Tensor};

use crate::harness::{Layout, Random, check, compiled, layouts};

/// Indices into an axis, some from its end.
pub fn indices(random: &mut Random, shape: &[usize], extent: usize) -> Tensor {
    let elems: usize = shape.iter().product();
    let all: Vec<i64> = (0..elems).map(|_| random.below(2 * extent) as i64 - extent as i64).collect();
    if random.below(2) == 0 {
        return Tensor::new(shape.to_vec(), &all).unwrap();
    }
    let narrow: Vec<i32> = all.iter().map(|&i| i as i32).collect();
    Tensor::new(shape.to_vec(), &narrow).unwrap()
}

#[test]
fn gather_follows_its_indices_in_any_layout() {
    let mut random = Random::new(1);
    for (shape, axis, picked) in [
        (vec![2, 3, 4, 5], 1, vec![7]),
        (vec![2, 3, 4, 5], 3, vec![2, 3]),
        (vec![70], 0, vec![5000]),
        (vec![30, 40], 0, vec![]),
        (vec![6, 3], 1, vec![0]),
    ] {
        for dtype in [DType::F32, DType::F16, DType::U8, DType::F64] {
            let x = random.tensor(dtype, &shape);
            let i = indices(&mut random, &picked, shape[axis]);
            for (operands, out) in layouts() {
                check(GatherAt { axis }, &[&x, &i], &operands, out, 0.0);
            }
        }
    }
}

#[test]
fn gather_elements_follows_its_indices_in_any_layout() {
    let mut random = Random::new(2);
    for (shape, axis, picked) in
        [(vec![2, 3, 4, 5], 1, vec![2, 7, 3, 5]), (vec![9], 0, vec![4]), (vec![50, 60], 1, vec![50, 90])]
    {
        let x = random.tensor(DType::F32, &shape);
        let i = indices(&mut random, &picked, shape[axis]);
        for (operands, out) in layouts() {
            check(GatherElements { axis }, &[&x, &i], &operands, out, 0.0);
        }
    }
}

#[test]
fn gather_nd_follows_its_positions_in_any_layout() {
    let mut random = Random::new(3);
    for (shape, batch_dims, picked) in [
        (vec![3, 3, 4, 5], 0, vec![6, 2]),
        (vec![2, 3, 4, 3], 1, vec![2, 5, 3]),
        (vec![2, 3, 4], 2, vec![2, 3, 7, 1]),
        (vec![8], 0, vec![1]),
    ] {
        let x = random.tensor(DType::I32, &shape);
        let i = indices(&mut random, &picked, shape[batch_dims]);
        for (operands, out) in layouts() {
            check(GatherNd { batch_dims }, &[&x, &i], &operands, out, 0.0);
        }
    }
}

/// Where nobody wants to be told, an index outside is that of the nearest element.
#[test]
fn an_index_outside_reads_the_nearest_element() {
    let x = Random::new(6).tensor(DType::I32, &[5]);
    let outside = Tensor::new([6, 1], &[5i64, -6, i64::MAX, i64::MIN, 2, -1]).unwrap();
    let nearest = Tensor::new([6, 1], &[4i64, 0, 4, 0, 2, 4]).unwrap();
    for op in [Op::from(GatherAt { axis: 0 }), GatherNd { batch_dims: 0 }.into()] {
        let expected = op.eval(&[Some(&x), Some(&nearest)]).unwrap();
        assert_eq!(compiled(&op, &[Some(&x), Some(&outside)], &[], Layout::Dense), expected, "{op}");
    }
    let (outside, nearest) = (outside.reshaped([6]).unwrap(), nearest.reshaped([6]).unwrap());
    let op = Op::from(GatherElements { axis: 0 });
    let expected = op.eval(&[Some(&x), Some(&nearest)]).unwrap();
    assert_eq!(compiled(&op, &[Some(&x), Some(&outside)], &[], Layout::Dense), expected);
}

#[test]
fn indices_inside_of_what_is_there_count_from_its_start_in_any_layout() {
    let mut random = Random::new(7);
    for (shape, extents) in [(vec![6, 3], vec![4i64, 1, 9]), (vec![5000], vec![7]), (vec![2, 3, 4], vec![2])]
    {
        let rank = usize::from(extents.len() > 1);
        let extent = extents.iter().copied().min().unwrap_or(1) as usize;
        let i = indices(&mut random, &shape, extent);
        let extents = Tensor::new(vec![extents.len(); rank], &extents).unwrap();
        let rows: Vec<bool> = (0..shape[0]).map(|_| random.below(3) > 0).collect();
        let there = Tensor::bools([&[shape[0]][..], &vec![1; shape.len() - 1]].concat(), &rows).unwrap();
        for (operands, out) in layouts() {
            let op = Inside { axis: 2, outside: Outside::Nearest };
            check(op.clone(), &[&i, &extents], &operands, out, 0.0);
            check(op, &[&i, &extents, &there], &operands, out, 0.0);
        }
    }
}

/// Where nobody wants to be told, readers get the nearest element that is there, and writers one that is nowhere.
#[test]
fn an_index_outside_of_what_is_there_is_the_nearest_one_or_none() {
    let outside = Tensor::new([7], &[3i64, -4, i64::MAX, i64::MIN, 2, -1, 9]).unwrap();
    let narrow = Tensor::new([7], &[3i32, -4, i32::MAX, i32::MIN, 2, -1, 9]).unwrap();
    let there = Tensor::bools([7], &[true, true, true, true, true, true, false]).unwrap();
    let run = |kind, indices: &Tensor, extent: i64| {
        let op = Op::from(Inside { axis: 0, outside: kind });
        let extent = Tensor::new([], &[extent]).unwrap();
        compiled(&op, &[Some(indices), Some(&extent), Some(&there)], &[], Layout::Dense)
    };
    let wide = |elems: [i64; 7]| vec![Tensor::new([7], &elems).unwrap()];
    const NONE: i64 = i64::MAX;
    assert_eq!(run(Outside::Nearest, &outside, 3), wide([2, 0, 2, 0, 2, 2, 0]));
    assert_eq!(run(Outside::Nowhere, &outside, 3), wide([NONE, NONE, NONE, NONE, 2, 2, 0]));
    assert_eq!(run(Outside::Nearest, &outside, 0), wide([0; 7]));
    assert_eq!(run(Outside::Nowhere, &outside, 0), wide([NONE, NONE, NONE, NONE, NONE, NONE, 0]));
    const NARROW: i32 = i32::MAX;
    let expected = Tensor::new([7], &[NARROW, NARROW, NARROW, NARROW, 2, 2, 0]).unwrap();
    assert_eq!(run(Outside::Nowhere, &narrow, 3), [expected]);
}
