//! ONNX Einsum (opset 12): sums of products over named axes.

use std::collections::BTreeMap;

use super::number::{Number, Numbers};
use super::{Arithmetic, OpError, Operator, Tensors, Types, check, number, required};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Sums of products: `result[i, k] = Σ_j a[i, j] · b[j, k]` is `ij,jk->ik`. Operands: one for each term.
///
/// A name that a term has twice walks along a diagonal; a name that the result does not have is summed over. Extents
/// of one name are equal, or 1 where an operand repeats along it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Einsum {
    /// The names of the axes of each operand.
    pub terms: Vec<Vec<char>>,
    /// The names of the axes of the result, each once.
    pub result: Vec<char>,
}

impl Einsum {
    /// The extent of each name.
    fn extents(&self, operands: &Types<'_>) -> Result<BTreeMap<char, usize>, OpError> {
        let mut extents: BTreeMap<char, usize> = BTreeMap::new();
        for (index, term) in self.terms.iter().enumerate() {
            let ty = required(operands, index, "term")?;
            if ty.dtype == DType::Bool || ty.shape.rank() != term.len() {
                return Err(check::unfit(index, "term", ty, format_args!("numbers of rank {}", term.len())));
            }
            for (&name, &extent) in term.iter().zip(ty.shape.iter()) {
                let known = extents.entry(name).or_insert(extent);
                match (*known, extent) {
                    (a, b) if a == b => {}
                    (1, b) => *known = b,
                    (_, 1) => {}
                    (a, b) => {
                        return Err(OpError::Mismatch(format!("axis \"{name}\" has extents {a} and {b}")));
                    }
                }
            }
        }
        Ok(extents)
    }

    /// The names that are summed over, each once, in the order in which the terms have them.
    pub fn summed(&self) -> Vec<char> {
        let mut summed = Vec::new();
        for &name in self.terms.iter().flatten() {
            if !self.result.contains(&name) && !summed.contains(&name) {
                summed.push(name);
            }
        }
        summed
    }

    /// For each name of `axes`, the distance in an operand of this shape and these strides along it.
    pub fn strides(&self, term: usize, shape: &[usize], strides: &[i64], axes: &[char]) -> Vec<i64> {
        let names = self.terms.get(term).map_or(&[][..], Vec::as_slice);
        let along = |axis: &char| {
            let of = names
                .iter()
                .zip(shape)
                .zip(strides)
                .filter(|((name, extent), _)| *name == axis && **extent > 1);
            of.map(|(_, stride)| stride).sum()
        };
        axes.iter().map(along).collect()
    }

    /// The sums, for operands given as their elements.
    fn sums<T: Number>(
        &self,
        one: T,
        operands: &[(Vec<T>, Vec<usize>)],
        extents: &[(char, usize)],
    ) -> Vec<T> {
        let axes: Vec<char> = extents.iter().map(|(name, _)| *name).collect();
        let shape: Vec<usize> = extents.iter().map(|(_, extent)| *extent).collect();
        let strides: Vec<Vec<i64>> = (operands.iter().enumerate())
            .map(|(term, (_, shape))| {
                let dense = crate::types::Shape::from(shape.as_slice()).strides();
                let dense: Vec<i64> = dense.into_iter().map(|s| s as i64).collect();
                self.strides(term, shape, &dense, &axes)
            })
            .collect();
        let (kept, summed) = shape.split_at(self.result.len());
        let mut out = Vec::new();
        for outer in super::windows::Odometer::new(kept) {
            let mut sum = T::ZERO;
            for inner in super::windows::Odometer::new(summed) {
                let index = outer.iter().chain(&inner);
                let product = operands.iter().zip(&strides).fold(one, |product, ((values, _), strides)| {
                    let at: i64 = index.clone().zip(strides).map(|(&i, s)| i as i64 * s).sum();
                    product.mul(values[at as usize])
                });
                sum = sum.add(product);
            }
            out.push(sum);
        }
        out
    }
}

impl Operator for Einsum {
    fn name(&self) -> &'static str {
        "Einsum"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, self.terms.len())?;
        let first = required(operands, 0, "term")?;
        let extents = self.extents(operands)?;
        for (index, ty) in operands.iter().enumerate() {
            if let Some(ty) = ty {
                check::dtype(index, "term", ty, first.dtype)?;
            }
        }
        let mut shape = Vec::new();
        for (i, name) in self.result.iter().enumerate() {
            match extents.get(name) {
                Some(&extent) if !self.result[..i].contains(name) => shape.push(extent),
                _ => {
                    return Err(OpError::Mismatch(format!(
                        "axis \"{name}\" of the result is of no term, or twice"
                    )));
                }
            }
        }
        Ok(vec![check::result(first.dtype, shape)?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let [y] = results else { return Ok(Vec::new()) };
        let types: Vec<Option<&TensorType>> = operands.iter().map(|t| t.map(Tensor::ty)).collect();
        let extents = self.extents(&types)?;
        let axes = self.result.iter().copied().chain(self.summed());
        let extents: Vec<(char, usize)> =
            axes.map(|name| (name, extents.get(&name).copied().unwrap_or(1))).collect();
        let (mut floats, mut integers) = (Vec::new(), Vec::new());
        for t in operands.iter().flatten() {
            match number::numbers(t)? {
                Numbers::Floats(v) => floats.push((v, t.shape().to_vec())),
                Numbers::Integers(v) => integers.push((v, t.shape().to_vec())),
            }
        }
        Ok(vec![if y.dtype.is_float() {
            number::from_floats(y.clone(), &self.sums(1.0, &floats, &extents))?
        } else {
            number::from_integers(y.clone(), &self.sums(1, &integers, &extents))?
        }])
    }

    fn arithmetic(&self, operands: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        let extents = self.extents(operands).unwrap_or_default();
        let steps = check::count(extents.values());
        match self.terms.len() {
            0 | 1 => Arithmetic { macc: 0, ops: steps },
            n => Arithmetic { macc: steps.saturating_mul(n as u64 - 1), ops: 0 },
        }
    }
}

#[cfg(test)]
mod tests;
