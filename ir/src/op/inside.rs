//! Indices into axes of which only the run knows how much is there.
//!
//! Gathers and scatters hold their indices against shapes, which are bounds; what may be pointed to is less. So this operator goes before
//! them: it knows the indices as the data have them, and how much there is, and so which index is an error.
//!
//! ```text
//!   bound 4, of which 3 are there      indices -1 0 3  ─▶  2 0, and "index 3 lies outside, there are 3"
//! ```

use super::gather::{indices, inside};
use super::{Arithmetic, OpError, Operator, Tensors, Types, check, number, required, strided};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// What becomes of an index outside, in programs that tell nobody of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outside {
    /// The nearest element that is there, for those who read.
    #[default]
    Nearest,
    /// The largest number, which is outside of every axis, for those who write.
    Nowhere,
}

/// Indices from the start of what is there. Operands: 0 `indices`; 1 `extents`, `i64`, broadcast to them: a scalar for indices into one axis, or
/// one extent for each element along the last axis of the indices, which are for an axis each; 2 `there`, `bool`, broadcast to them
/// (optional): an index that is not there becomes 0, whatever it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Inside {
    /// The axis that the indices are for, or the first of them.
    pub axis: usize,
    /// What becomes of one outside.
    pub outside: Outside,
}

impl Inside {
    /// The axes that indices are for, one after the other.
    pub fn axes(&self, extents: &TensorType) -> std::ops::Range<usize> {
        self.axis..self.axis + extents.shape.first().copied().unwrap_or(1)
    }
}

impl Operator for Inside {
    fn name(&self) -> &'static str {
        "Inside"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let (indices, extents) = (indices(operands, 0)?, required(operands, 1, "extents")?);
        check::dtype(1, "extents", extents, DType::I64)?;
        let fits = match extents.shape.rank() {
            0 => true,
            1 => indices.shape.last() == extents.shape.first(),
            _ => false,
        };
        if !fits {
            return Err(check::unfit(
                1,
                "extents",
                extents,
                "one extent, or as many as the indices have axes",
            ));
        }
        if let Some(there) = operands.get(2).copied().flatten() {
            check::dtype(2, "there", there, DType::Bool)?;
            if !check::broadcasts_to(&there.shape, &indices.shape) {
                return Err(check::unfit(
                    2,
                    "there",
                    there,
                    format!("a shape that broadcasts to {}", indices.shape),
                ));
            }
        }
        Ok(vec![indices.clone()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (indices, extents) = (required(operands, 0, "indices")?, required(operands, 1, "extents")?);
        let [result] = results else { return Ok(Vec::new()) };
        let shape = &result.shape;
        let there = match operands.get(2).copied().flatten() {
            Some(there) => strided::broadcast_to(&there.to_bools()?, there.shape(), shape),
            None => vec![true; shape.elems()],
        };
        let axes = self.axes(extents.ty());
        let extents = strided::broadcast_to(&extents.elems::<i64>()?, extents.shape(), shape);
        let all = number::integers(indices)?.into_iter().zip(extents).zip(there).enumerate();
        let found = all.map(|(at, ((index, extent), there))| match there {
            true => inside(index, axes.start + at % axes.len().max(1), usize::try_from(extent).unwrap_or(0)),
            false => Ok(0),
        });
        let found: Vec<usize> = found.collect::<Result<_, _>>()?;
        Ok(vec![match result.dtype {
            DType::I32 => Tensor::new(shape.clone(), &found.iter().map(|&i| i as i32).collect::<Vec<_>>())?,
            _ => Tensor::new(shape.clone(), &found.iter().map(|&i| i as i64).collect::<Vec<_>>())?,
        }])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{elems, f32s, fault, infer, refusal, tensor, ty};
    use super::*;

    const ONE: Inside = Inside { axis: 1, outside: Outside::Nearest };

    #[test]
    fn indices_count_from_the_start_of_what_is_there() {
        let three = tensor([], &[3i64]);
        let indices = tensor([2, 2], &[0i64, -1, 2, -3]);
        assert_eq!(elems::<i64>(ONE, &[&indices, &three]), [0, 2, 2, 0]);
        let extents = tensor([2], &[1i64, 4]);
        let narrow = tensor([2, 2], &[0i32, -1, -1, 3]);
        assert_eq!(elems::<i32>(ONE, &[&narrow, &extents]), [0, 3, 0, 3]);
    }

    #[test]
    fn an_index_outside_is_told_of_as_the_data_have_it() {
        let extents = tensor([2], &[3i64, 0]);
        let there = Tensor::bools([3, 1], &[false, false, true]).unwrap();
        let fault = |row: [i64; 2]| {
            let indices = tensor([3, 2], &[99, 99, 3, -9, row[0], row[1]]);
            fault(ONE, &[&indices, &extents, &there])
        };
        assert_eq!(fault([3, 7]), OpError::Index { index: 3, axis: 1, extent: 3 });
        assert_eq!(fault([-4, 7]), OpError::Index { index: -4, axis: 1, extent: 3 });
        assert_eq!(fault([-3, 0]), OpError::Index { index: 0, axis: 2, extent: 0 });
        let none = Tensor::bools([], &[false]).unwrap();
        assert_eq!(elems::<i64>(ONE, &[&tensor([1, 2], &[5i64, -5]), &extents, &none]), [0, 0]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (indices, one) = (ty(DType::I64, [4, 2]), ty(DType::I64, []));
        assert_eq!(infer(ONE, &[&indices, &one, &ty(DType::Bool, [4, 1])]), Ok(indices.clone()));
        assert!(refusal(ONE, &[&f32s([4]), &one]).contains("i32 or i64"));
        assert!(refusal(ONE, &[&indices, &ty(DType::I64, [4])]).contains("as many as the indices have axes"));
        assert!(refusal(ONE, &[&indices, &f32s([])]).contains("extents"));
        assert!(refusal(ONE, &[&indices, &one, &ty(DType::Bool, [3, 1])]).contains("broadcasts to 4x2"));
    }
}
