//! Reductions over axes.

use super::number::{Number, Numbers};
use super::strided::{for_each_row, last};
use super::{Arithmetic, OpError, Operator, Tensors, Types, check, number, optional, required, strided};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// What a [`Reduce`] does to the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ReduceKind {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
    /// Index of the largest; the result is `i64`.
    ArgMax {
        last: bool,
    },
    /// Index of the smallest; the result is `i64`.
    ArgMin {
        last: bool,
    },
}

/// ONNX Reduce… and ArgMax / ArgMin. Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// What is done.
    pub kind: ReduceKind,
    /// Axes that are reduced, ascending.
    pub axes: Vec<usize>,
    /// Whether they stay, with extent 1.
    pub keep_dims: bool,
}

/// ONNX Softmax over one axis (opset 13; older ones are read as reshape, softmax, reshape). Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    /// The axis.
    pub axis: usize,
}

/// ONNX LogSoftmax over one axis. Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSoftmax {
    /// The axis.
    pub axis: usize,
}

impl ReduceKind {
    fn is_arg(self) -> bool {
        matches!(self, ReduceKind::ArgMax { .. } | ReduceKind::ArgMin { .. })
    }

    /// Whether integers have integers as result; those with roots and logarithms do not.
    pub(crate) fn is_exact(self) -> bool {
        !matches!(self, ReduceKind::L2 | ReduceKind::LogSum | ReduceKind::LogSumExp)
    }

    /// Whether it is defined for elements of a type.
    fn takes(self, dtype: DType) -> bool {
        match self {
            ReduceKind::Max | ReduceKind::Min => true,
            _ if self.is_exact() => dtype != DType::Bool,
            _ => dtype.is_float(),
        }
    }

    fn floats(self, group: &[f64]) -> f64 {
        let sum = |f: fn(f64) -> f64| group.iter().map(|&v| f(v)).sum::<f64>();
        match self {
            ReduceKind::Sum => sum(|v| v),
            ReduceKind::Mean => sum(|v| v) / group.len() as f64,
            ReduceKind::Max => group.iter().fold(f64::NEG_INFINITY, |a, &b| a.max_nan(b)),
            ReduceKind::Min => group.iter().fold(f64::INFINITY, |a, &b| a.min_nan(b)),
            ReduceKind::Prod => group.iter().product(),
            ReduceKind::L1 => sum(f64::abs),
            ReduceKind::L2 => sum(|v| v * v).sqrt(),
            ReduceKind::SumSquare => sum(|v| v * v),
            ReduceKind::LogSum => sum(|v| v).ln(),
            ReduceKind::LogSumExp => {
                let max = ReduceKind::Max.floats(group);
                if max.is_finite() {
                    max + group.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
                } else {
                    max
                }
            }
            ReduceKind::ArgMax { last } => arg(group, last, |a, b| a > b) as f64,
            ReduceKind::ArgMin { last } => arg(group, last, |a, b| a < b) as f64,
        }
    }

    fn integers(self, group: &[i128], (least, largest): (i128, i128)) -> i128 {
        let sum = |f: fn(i128) -> i128| group.iter().fold(0i128, |a, &b| a.wrapping_add(f(b)));
        match self {
            ReduceKind::Sum => sum(|v| v),
            ReduceKind::Mean => sum(|v| v).checked_div(group.len() as i128).unwrap_or(0),
            ReduceKind::Max => group.iter().copied().fold(least, i128::max),
            ReduceKind::Min => group.iter().copied().fold(largest, i128::min),
            ReduceKind::Prod => group.iter().fold(1, |a, &b| a.wrapping_mul(b)),
            ReduceKind::L1 => sum(i128::abs),
            ReduceKind::SumSquare => sum(|v| v.wrapping_mul(v)),
            ReduceKind::ArgMax { last } => arg(group, last, |a, b| a > b) as i128,
            ReduceKind::ArgMin { last } => arg(group, last, |a, b| a < b) as i128,
            // Refused by `takes`.
            ReduceKind::L2 | ReduceKind::LogSum | ReduceKind::LogSumExp => 0,
        }
    }
}

/// Index of the element that none is `better` than; of the first or last such. NaN is better than every number.
fn arg<T: Number>(group: &[T], last: bool, better: impl Fn(T, T) -> bool) -> usize {
    let mut best = 0;
    for (i, &v) in group.iter().enumerate().skip(1) {
        let b = group[best];
        let wins = better(v, b) || (v.is_nan() && !b.is_nan());
        let ties = v == b || (v.is_nan() && b.is_nan());
        if wins || (ties && last) {
            best = i;
        }
    }
    best
}

/// For each result (in row-major order of the axes that stay), the elements that go into it.
fn groups<T: Copy>(values: &[T], shape: &Shape, axes: &[usize], mut each: impl FnMut(&[T])) {
    let strides: Vec<isize> = shape.strides().iter().map(|&s| s as isize).collect();
    let split = |reduced: bool| -> (Vec<usize>, Vec<isize>) {
        (0..shape.rank()).filter(|a| axes.contains(a) == reduced).map(|a| (shape[a], strides[a])).unzip()
    };
    let ((kept, kept_strides), (reduced, reduced_strides)) = (split(false), split(true));
    let (len, step) = last(&kept, &kept_strides);
    let (inner_len, inner_step) = last(&reduced, &reduced_strides);
    let mut group = Vec::with_capacity(reduced.iter().product());
    for_each_row(&kept, [&kept_strides], [0], |_, [at]| {
        for i in 0..len as isize {
            group.clear();
            for_each_row(&reduced, [&reduced_strides], [at + i * step], |_, [at]| {
                group.extend((0..inner_len as isize).map(|j| values[(at + j * inner_step) as usize]));
            });
            each(&group);
        }
    });
}

impl Operator for Reduce {
    fn name(&self) -> &'static str {
        match self.kind {
            ReduceKind::Sum => "ReduceSum",
            ReduceKind::Mean => "ReduceMean",
            ReduceKind::Max => "ReduceMax",
            ReduceKind::Min => "ReduceMin",
            ReduceKind::Prod => "ReduceProd",
            ReduceKind::L1 => "ReduceL1",
            ReduceKind::L2 => "ReduceL2",
            ReduceKind::SumSquare => "ReduceSumSquare",
            ReduceKind::LogSum => "ReduceLogSum",
            ReduceKind::LogSumExp => "ReduceLogSumExp",
            ReduceKind::ArgMax { .. } => "ArgMax",
            ReduceKind::ArgMin { .. } => "ArgMin",
        }
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        if !self.kind.takes(x.dtype) {
            return Err(check::unfit(0, "x", x, "elements for which it is defined"));
        }
        self.axes.iter().try_for_each(|&axis| check::axis(axis, &x.shape))?;
        if !self.axes.is_sorted_by(|a, b| a < b) {
            return Err(OpError::Mismatch(format!("axes {:?} are not ascending", self.axes)));
        }
        if self.kind.is_arg() {
            if self.axes.len() != 1 {
                return Err(OpError::Mismatch(format!("axes are {:?}, expected exactly one", self.axes)));
            }
            if x.shape[self.axes[0]] == 0 {
                return Err(check::unfit(0, "x", x, "an axis that is not empty"));
            }
        }
        let shape = (0..x.shape.rank())
            .filter_map(|axis| match self.axes.contains(&axis) {
                true => self.keep_dims.then_some(1),
                false => Some(x.shape[axis]),
            })
            .collect();
        let dtype = if self.kind.is_arg() { DType::I64 } else { x.dtype };
        Ok(vec![check::result(dtype, shape)?])
    }

    /// Of no elements, the sum is 0, the product 1, the largest the least number there is, the mean of floats NaN.
    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        Ok(vec![match number::numbers(x)? {
            Numbers::Floats(values) => {
                let mut out = Vec::with_capacity(y.shape.elems());
                groups(&values, x.shape(), &self.axes, |group| out.push(self.kind.floats(group)));
                number::from_floats(y.clone(), &out)?
            }
            Numbers::Integers(values) => {
                let mut out = Vec::with_capacity(y.shape.elems());
                let range = number::integer_range(x.dtype());
                groups(&values, x.shape(), &self.axes, |group| out.push(self.kind.integers(group, range)));
                number::from_integers(y.clone(), &out)?
            }
        }])
    }

    fn arithmetic(&self, operands: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: optional(operands, 0).map_or(0, |x| check::count(x.shape.iter())) }
    }
}

/// Types of a softmax over an axis.
fn infer_softmax(axis: usize, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
    check::at_most(operands, 1)?;
    let x = check::float(operands, 0, "x")?;
    check::axis(axis, &x.shape)?;
    Ok(vec![x.clone()])
}

/// Applies `f` to all groups of elements along an axis.
fn along_axis(
    axis: usize,
    operands: &Tensors<'_>,
    results: &[TensorType],
    f: impl Fn(&mut [f64]),
) -> Result<Vec<Tensor>, OpError> {
    let x = required(operands, 0, "x")?;
    let [y] = results else { return Ok(Vec::new()) };
    let (outer, extent, inner) = strided::around(x.shape(), axis);
    let mut values = number::floats(x)?;
    let mut group = vec![0.0; extent];
    for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
        let at = |e: usize| (o * extent + e) * inner + i;
        group.iter_mut().enumerate().for_each(|(e, v)| *v = values[at(e)]);
        f(&mut group);
        group.iter().enumerate().for_each(|(e, &v)| values[at(e)] = v);
    }
    Ok(vec![number::from_floats(y.clone(), &values)?])
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        "Softmax"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        infer_softmax(self.axis, operands)
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        along_axis(self.axis, operands, results, |group| {
            let max = ReduceKind::Max.floats(group);
            group.iter_mut().for_each(|v| *v = (*v - max).exp());
            let sum: f64 = group.iter().sum();
            group.iter_mut().for_each(|v| *v /= sum);
        })
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results).saturating_mul(5) }
    }
}

impl Operator for LogSoftmax {
    fn name(&self) -> &'static str {
        "LogSoftmax"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        infer_softmax(self.axis, operands)
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        along_axis(self.axis, operands, results, |group| {
            let max = ReduceKind::Max.floats(group);
            let log_sum = group.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
            group.iter_mut().for_each(|v| *v = *v - max - log_sum);
        })
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results).saturating_mul(5) }
    }
}

#[cfg(test)]
mod tests;
