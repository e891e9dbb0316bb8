//! Operators that read where indices point which are only known when they run.
//!
//! ```text
//!   GatherAt        y[a, i, b] = x[a, indices[i], b]          whole slices of an axis
//!   GatherElements  y[a, i, b] = x[a, indices[a, i, b], b]    single elements along an axis
//!   GatherND        y[i, b]    = x[indices[i, …], b]          slices at full or partial positions
//! ```
//!
//! Indices are `i32` or `i64`; negative ones count from the end. An index outside of its axis is an error, of the first one in the order
//! of the elements.

use super::{Arithmetic, OpError, Operator, Tensors, Types, check, number, required, strided};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// ONNX Gather (opsets 1 to 13) with indices that are only known when it runs. Operands: 0 `x`, 1 `indices`. The result's shape
/// is `x`'s with the axis replaced by the shape of the indices.
#[derive(Clone, Debug, PartialEq)]
pub struct GatherAt {
    /// The axis.
    pub axis: usize,
}

/// ONNX GatherElements (opsets 11 and 13). Operands: 0 `x`, 1 `indices`, of the same rank and nowhere longer but along the axis; the
/// result has its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct GatherElements {
    /// The axis.
    pub axis: usize,
}

/// ONNX GatherND (opsets 11 to 13). Operands: 0 `x`, 1 `indices`, whose last axis holds positions in the axes of `x` that follow those
/// of the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct GatherNd {
    /// Leading axes that both operands share.
    pub batch_dims: usize,
}

/// No arithmetic: all operators of this file.
const MOVES: Arithmetic = Arithmetic { macc: 0, ops: 0 };

/// The operand at a position, which must hold indices.
pub(super) fn indices<'a>(operands: &Types<'a>, index: usize) -> Result<&'a TensorType, OpError> {
    let ty = required(operands, index, "indices")?;
    match ty.dtype {
        DType::I32 | DType::I64 => Ok(ty),
        _ => Err(check::unfit(index, "indices", ty, "elements of type i32 or i64")),
    }
}

/// An index from the start of an axis.
pub(super) fn inside(index: i128, axis: usize, extent: usize) -> Result<usize, OpError> {
    let from_start = if index < 0 { index + extent as i128 } else { index };
    let found = usize::try_from(from_start).ok().filter(|&i| i < extent);
    found.ok_or(OpError::Index { index: index as i64, axis, extent })
}

/// Indices into one axis, from its start.
pub(super) fn resolved(indices: &Tensor, axis: usize, extent: usize) -> Result<Vec<usize>, OpError> {
    number::integers(indices)?.into_iter().map(|index| inside(index, axis, extent)).collect()
}

/// Refuses an empty axis from which elements are taken.
pub(super) fn not_empty(x: &TensorType, axes: &[usize], result: &[usize]) -> Result<(), OpError> {
    if axes.contains(&0) && !result.contains(&0) {
        return Err(check::unfit(0, "x", x, "an axis that is not empty"));
    }
    Ok(())
}

impl Operator for GatherAt {
    fn name(&self) -> &'static str {
        "GatherAt"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 2)?;
        let (x, indices) = (required(operands, 0, "x")?, indices(operands, 1)?);
        check::axis(self.axis, &x.shape)?;
        let dims = [&x.shape[..self.axis], &indices.shape, &x.shape[self.axis + 1..]].concat();
        not_empty(x, &x.shape[self.axis..=self.axis], &dims)?;
        Ok(vec![check::result(x.dtype, dims)?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, indices) = (required(operands, 0, "x")?, required(operands, 1, "indices")?);
        let [y] = results else { return Ok(Vec::new()) };
        if y.shape.elems() == 0 {
            return Ok(vec![Tensor::from_bytes(y.clone(), Vec::new())?]);
        }
        let extent = x.shape()[self.axis];
        let picked: Vec<Option<usize>> =
            resolved(indices, self.axis, extent)?.into_iter().map(Some).collect();
        let bytes = strided::pick(x.bytes(), y.dtype.bytes(), x.shape(), self.axis, &picked, &[]);
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        MOVES
    }
}

/// Refuses indices whose shape does not fit that of what they point into: the same rank, and nowhere longer but along the axis.
pub(super) fn elementwise(axis: usize, x: &TensorType, indices: &TensorType) -> Result<(), OpError> {
    check::axis(axis, &x.shape)?;
    let fits = |(a, (i, x)): (usize, (&usize, &usize))| a == axis || i <= x;
    let same_rank = x.shape.rank() == indices.shape.rank();
    if same_rank && indices.shape.iter().zip(x.shape.iter()).enumerate().all(fits) {
        return Ok(());
    }
    let expected = format!("rank {} and, but along axis {axis}, no extent above {}", x.shape.rank(), x.shape);
    Err(check::unfit(1, "indices", indices, expected))
}

/// For each element of a row-major shape, its index along each axis.
pub(super) fn positions(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    let elems = if shape.contains(&0) { 0 } else { shape.iter().product() };
    (0..elems).map(move |mut i: usize| {
        let mut at = vec![0; shape.len()];
        for (at, &extent) in at.iter_mut().zip(shape).rev() {
            *at = i % extent;
            i /= extent;
        }
        at
    })
}

/// Where an element of a row-major shape lies.
pub(super) fn flat(at: &[usize], shape: &[usize]) -> usize {
    at.iter().zip(shape).fold(0, |n, (i, extent)| n * extent + i)
}

impl Operator for GatherElements {
    fn name(&self) -> &'static str {
        "GatherElements"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 2)?;
        let (x, indices) = (required(operands, 0, "x")?, indices(operands, 1)?);
        elementwise(self.axis, x, indices)?;
        not_empty(x, &x.shape[self.axis..=self.axis], &indices.shape)?;
        Ok(vec![check::result(x.dtype, indices.shape.to_vec())?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, indices) = (required(operands, 0, "x")?, required(operands, 1, "indices")?);
        let [y] = results else { return Ok(Vec::new()) };
        let (extent, size) = (x.shape()[self.axis], y.dtype.bytes());
        let mut bytes = Vec::with_capacity(y.bytes());
        for (mut at, index) in positions(&y.shape).zip(resolved(indices, self.axis, extent)?) {
            at[self.axis] = index;
            bytes.extend_from_slice(&x.bytes()[flat(&at, x.shape()) * size..][..size]);
        }
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        MOVES
    }
}

impl Operator for GatherNd {
    fn name(&self) -> &'static str {
        "GatherND"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 2)?;
        let (x, indices) = (required(operands, 0, "x")?, indices(operands, 1)?);
        let b = self.batch_dims;
        let fits = |&(_, depth): &(_, usize)| {
            let batches = indices.shape.len() > b && x.shape.get(..b) == indices.shape.get(..b);
            batches && depth > 0 && b + depth <= x.shape.rank()
        };
        let Some((outer, depth)) = indices.shape.split_last().map(|(d, outer)| (outer, *d)).filter(fits)
        else {
            let expected = format!("{b} axes of x and at its end positions in the others");
            return Err(check::unfit(1, "indices", indices, expected));
        };
        let dims = [outer, &x.shape[b + depth..]].concat();
        not_empty(x, &x.shape[b..b + depth], &dims)?;
        Ok(vec![check::result(x.dtype, dims)?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, indices) = (required(operands, 0, "x")?, required(operands, 1, "indices")?);
        let [y] = results else { return Ok(Vec::new()) };
        let mut bytes = Vec::with_capacity(y.bytes());
        if y.shape.elems() > 0 {
            let (b, depth) = (self.batch_dims, indices.shape().last().copied().unwrap_or(1));
            let block = x.shape()[b + depth..].iter().product::<usize>() * y.dtype.bytes();
            let outer = &indices.shape()[..indices.shape().rank() - 1];
            let all = number::integers(indices)?;
            for (at, tuple) in positions(outer).zip(all.chunks(depth)) {
                let mut source = at[..b].to_vec();
                for (axis, &index) in (b..).zip(tuple) {
                    source.push(inside(index, axis, x.shape()[axis])?);
                }
                bytes.extend_from_slice(&x.bytes()[flat(&source, x.shape()) * block..][..block]);
            }
        }
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        MOVES
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{elems, f32s, fault, infer, refusal, tensor, ty};
    use super::*;

    #[test]
    fn gather_takes_slices_in_any_order_and_from_the_end() {
        // ONNX test_gather_0, _1 and _negative_indices in the small.
        let x = tensor([3, 2], &[0.0f32, 1.0, 10.0, 11.0, 20.0, 21.0]);
        let rows = tensor([2, 1], &[2i64, -3]);
        assert_eq!(elems::<f32>(GatherAt { axis: 0 }, &[&x, &rows]), [20.0, 21.0, 0.0, 1.0]);
        let columns = tensor([2], &[-1i32, -1]);
        assert_eq!(elems::<f32>(GatherAt { axis: 1 }, &[&x, &columns]), [1.0, 1.0, 11.0, 11.0, 21.0, 21.0]);
        let scalar = tensor([], &[1i64]);
        assert_eq!(elems::<f32>(GatherAt { axis: 0 }, &[&x, &scalar]), [10.0, 11.0]);
    }

    #[test]
    fn the_first_index_outside_is_an_error() {
        let x = tensor([1, 3], &[5u8, 6, 7]);
        for index in [3, -4, i64::MAX, i64::MIN] {
            let error = OpError::Index { index, axis: 1, extent: 3 };
            let indices = tensor([1, 3], &[-3, index, 99]);
            assert_eq!(fault(GatherAt { axis: 1 }, &[&x, &indices]), error);
            assert_eq!(fault(GatherElements { axis: 1 }, &[&x, &indices]), error);
            let tuples = indices.reshaped([1, 3, 1]).unwrap();
            assert_eq!(fault(GatherNd { batch_dims: 1 }, &[&x, &tuples]), error);
            let pairs = tensor([2, 2], &[0, -1, -1, index]);
            assert_eq!(fault(GatherNd { batch_dims: 0 }, &[&x, &pairs]), error);
        }
    }

    #[test]
    fn gather_elements_takes_one_along_the_axis_for_each_index() {
        // ONNX test_gather_elements_0, _1, _negative_indices.
        let x = tensor([2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
        let indices = tensor([2, 2], &[0i64, 0, 1, 0]);
        assert_eq!(elems::<f32>(GatherElements { axis: 1 }, &[&x, &indices]), [1.0, 1.0, 4.0, 3.0]);
        let x = tensor([3, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        let indices = tensor([2, 3], &[1i32, 2, 0, 2, 0, 0]);
        assert_eq!(elems::<f32>(GatherElements { axis: 0 }, &[&x, &indices]), [4.0, 8.0, 3.0, 7.0, 2.0, 3.0]);
        let negative = tensor([2, 3], &[-1i64, -2, 0, -2, 0, 0]);
        assert_eq!(
            elems::<f32>(GatherElements { axis: 0 }, &[&x, &negative]),
            [7.0, 5.0, 3.0, 4.0, 2.0, 3.0]
        );
    }

    #[test]
    fn gather_nd_takes_slices_at_positions() {
        // ONNX test_gathernd_example_int32, _float32, _int32_batch_dim1.
        let x = tensor([2, 2], &[0i32, 1, 2, 3]);
        let pairs = tensor([2, 2], &[0i64, 0, 1, 1]);
        assert_eq!(elems::<i32>(GatherNd { batch_dims: 0 }, &[&x, &pairs]), [0, 3]);
        let x = tensor([2, 2, 2], &[0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        let pairs = tensor([2, 1, 2], &[0i64, 1, 1, 0]);
        assert_eq!(elems::<f32>(GatherNd { batch_dims: 0 }, &[&x, &pairs]), [2.0, 3.0, 4.0, 5.0]);
        let rows = tensor([2, 1], &[1i64, 0]);
        assert_eq!(elems::<f32>(GatherNd { batch_dims: 1 }, &[&x, &rows]), [2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (x, i) = (f32s([4, 3]), ty(DType::I64, [2, 5]));
        assert_eq!(infer(GatherAt { axis: 1 }, &[&x, &i]), Ok(f32s([4, 2, 5])));
        assert_eq!(infer(GatherElements { axis: 1 }, &[&x, &i]), Ok(f32s([2, 5])));
        assert!(refusal(GatherElements { axis: 0 }, &[&x, &i]).contains("no extent above 4x3"));
        assert!(refusal(GatherAt { axis: 2 }, &[&x, &i]).contains("axis 2"));
        assert!(refusal(GatherAt { axis: 0 }, &[&x, &f32s([2])]).contains("i32 or i64"));
        assert!(refusal(GatherAt { axis: 0 }, &[&f32s([0, 3]), &i]).contains("not empty"));
        assert_eq!(infer(GatherAt { axis: 0 }, &[&f32s([0, 0]), &i]), Ok(f32s([2, 5, 0])));
        assert!(refusal(GatherNd { batch_dims: 0 }, &[&x, &i]).contains("positions"));
        assert!(refusal(GatherNd { batch_dims: 1 }, &[&x, &ty(DType::I64, [2, 1])]).contains("positions"));
    }

    #[test]
    fn gather_nd_takes_from_the_part_of_the_batch_that_the_indices_lie_in() {
        let x = tensor([2, 3, 4], &(0..24).collect::<Vec<i32>>());
        let pairs = tensor([2, 2, 2], &[0i64, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!(elems::<i32>(GatherNd { batch_dims: 1 }, &[&x, &pairs]), [1, 11, 13, 23]);
    }
}
