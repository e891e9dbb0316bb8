//! Operators that write where indices point: a copy of `x` in which some elements are replaced, or combined with what is there.
//!
//! Updates are applied in the order of their indices, which ONNX leaves open. Indices are `i32` or `i64`, negative ones count from the
//! end; one outside of its axis is an error, of the first one in the order of the elements.

use super::gather::{elementwise, flat, indices, inside, not_empty, positions, resolved};
use super::number::{Number, Numbers};
use super::{Arithmetic, OpError, Operator, Tensors, Types, check, number, required};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// How an update is combined with what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScatterReduction {
    /// It replaces it.
    #[default]
    Replace,
    /// Their sum.
    Add,
    /// Their product.
    Mul,
    /// The larger one.
    Max,
    /// The smaller one.
    Min,
}

/// ONNX ScatterElements (opsets 11 to 18) and Scatter (9). Operands: 0 `x`, 1 `indices`, of the same rank and nowhere longer but along
/// the axis, 2 `updates`, of the same shape.
///
/// ```text
///   y = x, then for each (a, i, b):  y[a, indices[a, i, b], b] = updates[a, i, b]
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterElements {
    /// The axis.
    pub axis: usize,
    /// How updates are combined with what is there.
    pub reduction: ScatterReduction,
}

/// ONNX ScatterND (opsets 11 to 18). Operands: 0 `x`, 1 `indices`, whose last axis holds positions in the first axes of `x`, 2 `updates`:
/// a slice of the other axes for each position.
///
/// ```text
///   y = x, then for each i:  y[indices[i, …], :] = updates[i, :]
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterNd {
    /// How updates are combined with what is there.
    pub reduction: ScatterReduction,
}

impl ScatterReduction {
    fn check(self, x: &TensorType) -> Result<(), OpError> {
        match (self, x.dtype) {
            (ScatterReduction::Replace, _) => Ok(()),
            (_, DType::Bool) => Err(check::unfit(0, "x", x, "numbers, which can be reduced")),
            _ => Ok(()),
        }
    }

    fn combined<T: Number>(self, old: T, new: T) -> T {
        match self {
            ScatterReduction::Replace => new,
            ScatterReduction::Add => old.add(new),
            ScatterReduction::Mul => old.mul(new),
            ScatterReduction::Max => old.max_nan(new),
            ScatterReduction::Min => old.min_nan(new),
        }
    }

    /// Applies updates: pairs of an element of the result and one of the updates.
    fn applied(
        self,
        x: &Tensor,
        updates: &Tensor,
        y: &TensorType,
        moves: impl Iterator<Item = (usize, usize)>,
    ) -> Result<Tensor, OpError> {
        if self == ScatterReduction::Replace {
            let (mut bytes, size) = (x.bytes().to_vec(), y.dtype.bytes());
            for (to, from) in moves {
                bytes[to * size..][..size].copy_from_slice(&updates.bytes()[from * size..][..size]);
            }
            return Ok(Tensor::from_bytes(y.clone(), bytes)?);
        }
        match (number::numbers(x)?, number::numbers(updates)?) {
            (Numbers::Floats(mut out), Numbers::Floats(new)) => {
                moves.for_each(|(to, from)| out[to] = self.combined(out[to], new[from]));
                number::from_floats(y.clone(), &out)
            }
            (Numbers::Integers(mut out), Numbers::Integers(new)) => {
                moves.for_each(|(to, from)| out[to] = self.combined(out[to], new[from]));
                number::from_integers(y.clone(), &out)
            }
            _ => Err(OpError::mismatch("x and updates have different types")),
        }
    }
}

impl Operator for ScatterElements {
    fn name(&self) -> &'static str {
        "ScatterElements"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let (x, indices) = (required(operands, 0, "x")?, indices(operands, 1)?);
        elementwise(self.axis, x, indices)?;
        check::exactly(operands, 2, "updates", &TensorType::new(x.dtype, indices.shape.clone()))?;
        not_empty(x, &x.shape[self.axis..=self.axis], &indices.shape)?;
        self.reduction.check(x)?;
        Ok(vec![x.clone()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, indices) = (required(operands, 0, "x")?, required(operands, 1, "indices")?);
        let updates = required(operands, 2, "updates")?;
        let [y] = results else { return Ok(Vec::new()) };
        let extent = y.shape[self.axis];
        let all = resolved(indices, self.axis, extent)?;
        let moves = positions(indices.shape()).zip(all).enumerate().map(|(from, (mut at, index))| {
            at[self.axis] = index;
            (flat(&at, &y.shape), from)
        });
        Ok(vec![self.reduction.applied(x, updates, y, moves)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        updates(self.reduction, operands)
    }
}

impl Operator for ScatterNd {
    fn name(&self) -> &'static str {
        "ScatterND"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let (x, indices) = (required(operands, 0, "x")?, indices(operands, 1)?);
        let fits = |depth: usize| depth > 0 && depth <= x.shape.rank();
        let Some((&depth, outer)) = indices.shape.split_last().filter(|(d, _)| fits(**d)) else {
            return Err(check::unfit(1, "indices", indices, "at its end positions in the first axes of x"));
        };
        let dims = [outer, &x.shape[depth..]].concat();
        not_empty(x, &x.shape[..depth], &dims)?;
        check::exactly(operands, 2, "updates", &TensorType::new(x.dtype, dims))?;
        self.reduction.check(x)?;
        Ok(vec![x.clone()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, indices) = (required(operands, 0, "x")?, required(operands, 1, "indices")?);
        let updates = required(operands, 2, "updates")?;
        let [y] = results else { return Ok(Vec::new()) };
        let depth = indices.shape().last().copied().unwrap_or(1);
        let block: usize = y.shape[depth..].iter().product();
        if block == 0 {
            return Ok(vec![x.clone()]);
        }
        let all = number::integers(indices)?;
        let target = |tuple: &[i128]| {
            let at = tuple.iter().enumerate().map(|(axis, &index)| inside(index, axis, y.shape[axis]));
            at.collect::<Result<Vec<usize>, OpError>>().map(|at| flat(&at, &y.shape[..depth]))
        };
        let targets = all.chunks(depth).map(target).collect::<Result<Vec<usize>, OpError>>()?;
        let moves = (targets.into_iter().enumerate())
            .flat_map(|(from, to)| (0..block).map(move |i| (to * block + i, from * block + i)));
        Ok(vec![self.reduction.applied(x, updates, y, moves)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        updates(self.reduction, operands)
    }
}

/// One operation for each update, where it is not only moved.
fn updates(reduction: ScatterReduction, operands: &Types<'_>) -> Arithmetic {
    let each = u64::from(reduction != ScatterReduction::Replace);
    let updates = operands.get(2).copied().flatten();
    Arithmetic { macc: 0, ops: updates.map_or(0, |ty| check::count(ty.shape.iter())) * each }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{elems, f32s, fault, infer, refusal, tensor, ty};
    use super::*;

    fn elements(axis: usize, reduction: ScatterReduction) -> ScatterElements {
        ScatterElements { axis, reduction }
    }

    #[test]
    fn scatter_elements_puts_each_update_where_its_index_says() {
        // ONNX test_scatter_elements_without_axis, _with_axis, _with_negative_indices.
        let (x, updates) = (tensor([3, 3], &[0.0f32; 9]), tensor([2, 3], &[1.0f32, 1.1, 1.2, 2.0, 2.1, 2.2]));
        let rows = tensor([2, 3], &[1i64, 0, 2, 0, 2, 1]);
        let y = elems::<f32>(elements(0, ScatterReduction::Replace), &[&x, &rows, &updates]);
        assert_eq!(y, [2.0, 1.1, 0.0, 1.0, 0.0, 2.2, 0.0, 2.1, 1.2]);
        let (x, updates) = (tensor([1, 5], &[1.0f32, 2.0, 3.0, 4.0, 5.0]), tensor([1, 2], &[1.1f32, 2.1]));
        let places = tensor([1, 2], &[1i32, 3]);
        let y = elems::<f32>(elements(1, ScatterReduction::Replace), &[&x, &places, &updates]);
        assert_eq!(y, [1.0, 1.1, 3.0, 2.1, 5.0]);
        let places = tensor([1, 2], &[1i64, -3]);
        let y = elems::<f32>(elements(1, ScatterReduction::Replace), &[&x, &places, &updates]);
        assert_eq!(y, [1.0, 1.1, 2.1, 4.0, 5.0]);
    }

    #[test]
    fn updates_of_one_element_are_reduced_one_after_another() {
        // ONNX test_scatter_elements_with_duplicate_indices and its kin.
        let (x, updates) = (tensor([1, 5], &[1.0f32, 2.0, 3.0, 4.0, 5.0]), tensor([1, 2], &[1.1f32, 2.1]));
        let twice = tensor([1, 2], &[1i64, 1]);
        let second = |reduction| elems::<f32>(elements(1, reduction), &[&x, &twice, &updates])[1];
        assert_eq!(second(ScatterReduction::Replace), 2.1);
        assert_eq!(second(ScatterReduction::Add), 5.2);
        assert_eq!(second(ScatterReduction::Mul), (2.0 * f64::from(1.1f32) * f64::from(2.1f32)) as f32);
        assert_eq!(second(ScatterReduction::Max), 2.1);
        assert_eq!(second(ScatterReduction::Min), 1.1);
    }

    #[test]
    fn the_first_index_outside_is_an_error() {
        let (x, updates) = (tensor([3], &[1u8, 2, 3]), tensor([4], &[10u8, 20, 30, 40]));
        for index in [3, -4, i64::MAX, i64::MIN] {
            let error = OpError::Index { index, axis: 0, extent: 3 };
            let places = tensor([4], &[-3, 2, index, 99]);
            assert_eq!(fault(elements(0, ScatterReduction::Replace), &[&x, &places, &updates]), error);
            let tuples = places.reshaped([4, 1]).unwrap();
            let op = ScatterNd { reduction: ScatterReduction::Add };
            assert_eq!(fault(op, &[&x, &tuples, &updates]), error);
        }
    }

    #[test]
    fn scatter_nd_puts_slices_at_positions() {
        // The first example of ONNX ScatterND, and a slice of rank 1 as in test_scatternd.
        let x = tensor([8], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let (places, updates) = (tensor([4, 1], &[4i64, 3, 1, 7]), tensor([4], &[9.0f32, 10.0, 11.0, 12.0]));
        let y = elems::<f32>(ScatterNd { reduction: ScatterReduction::Replace }, &[&x, &places, &updates]);
        assert_eq!(y, [1.0, 11.0, 3.0, 10.0, 9.0, 6.0, 7.0, 12.0]);
        let (x, updates) = (tensor([3, 2], &[0i32, 1, 2, 3, 4, 5]), tensor([2, 2], &[10i32, 11, 20, 21]));
        let rows = tensor([2, 1], &[-1i64, 0]);
        let y = elems::<i32>(ScatterNd { reduction: ScatterReduction::Replace }, &[&x, &rows, &updates]);
        assert_eq!(y, [20, 21, 2, 3, 10, 11]);
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let (x, i) = (f32s([4, 3]), ty(DType::I64, [2, 3]));
        let add = elements(1, ScatterReduction::Add);
        assert_eq!(infer(add.clone(), &[&x, &i, &f32s([2, 3])]), Ok(x.clone()));
        assert!(refusal(add.clone(), &[&x, &i, &f32s([2, 4])]).contains("updates"));
        let bools = |dims: [usize; 2]| ty(DType::Bool, dims);
        assert!(refusal(add, &[&bools([4, 3]), &i, &bools([2, 3])]).contains("numbers"));
        let nd = ScatterNd { reduction: ScatterReduction::Replace };
        assert!(refusal(nd.clone(), &[&x, &i, &f32s([2])]).contains("positions"));
        assert!(refusal(nd, &[&x, &ty(DType::I64, [2, 1]), &f32s([2])]).contains("updates"));
    }

    #[test]
    fn integers_are_combined_as_numbers_of_their_type() {
        let (x, indices) = (tensor([3], &[250u8, 2, 3]), tensor([2], &[0i64, 2]));
        let updates = tensor([2], &[10u8, 2]);
        let of = |reduction| elems::<u8>(ScatterElements { axis: 0, reduction }, &[&x, &indices, &updates]);
        assert_eq!(of(ScatterReduction::Replace), [10, 2, 2]);
        assert_eq!(of(ScatterReduction::Add), [4, 2, 5]);
        assert_eq!(of(ScatterReduction::Mul), [196, 2, 6]);
        assert_eq!(of(ScatterReduction::Max), [250, 2, 3]);
        assert_eq!(of(ScatterReduction::Min), [10, 2, 2]);
    }
}
