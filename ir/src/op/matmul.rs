//! Matrix products.

use super::number::Number;
use super::strided::{broadcast_strides, for_each_row, last};
use super::{
    Arithmetic, OpError, Operator, Tensors, Types, Unary, check, number, optional, required, strided,
};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// ONNX Gemm (opsets 1 to 13): `activation(alpha · A′ · B′ + beta · C)`.
///
/// Operands: 0 `a` `[M, K]`, 1 `b` `[K, N]`, 2 `c` (optional, broadcast to `[M, N]`); `a` and `b` transposed where asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Gemm {
    /// Scale of the product.
    pub alpha: f32,
    /// Scale of `c`.
    pub beta: f32,
    /// Whether `a` is given as `[K, M]`.
    pub trans_a: bool,
    /// Whether `b` is given as `[N, K]`.
    pub trans_b: bool,
    /// Applied to the result.
    pub activation: Option<Unary>,
}

/// ONNX MatMul (opsets 1 to 13), with numpy's rules for batches and vectors. Operands: 0 `a`, 1 `b`.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul;

/// Adds `a · b` for a matrix `a` of `m` by `k`, `b` of `k` by `n`, to `sums`.
fn multiply<T: Number>(a: &[T], b: &[T], k: usize, n: usize, sums: &mut [T]) {
    if n == 0 || k == 0 {
        return;
    }
    for (row, sums) in a.chunks(k).zip(sums.chunks_mut(n)) {
        for (&a, b) in row.iter().zip(b.chunks(n)) {
            sums.iter_mut().zip(b).for_each(|(s, &b)| *s = s.add(a.mul(b)));
        }
    }
}

/// The same for `b` given as its transpose: as it is, rows against rows, for the large weights of classifiers.
fn multiply_rows(a: &[f64], b: &[f64], k: usize, n: usize, sums: &mut [f64]) {
    if n == 0 || k == 0 {
        return;
    }
    for (row, sums) in a.chunks(k).zip(sums.chunks_mut(n)) {
        for (sum, column) in sums.iter_mut().zip(b.chunks(k)) {
            *sum += row.iter().zip(column).map(|(a, b)| a * b).sum::<f64>();
        }
    }
}

/// The transpose of a matrix of `rows` by `columns`.
fn transposed(values: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

impl Gemm {
    /// `(rows, columns)` of an operand as it is multiplied.
    fn matrix(
        operands: &Types<'_>,
        index: usize,
        name: &'static str,
        transposed: bool,
    ) -> Result<(usize, usize), OpError> {
        let ty = check::float(operands, index, name)?;
        match ty.shape[..] {
            [rows, columns] if transposed => Ok((columns, rows)),
            [rows, columns] => Ok((rows, columns)),
            _ => Err(check::unfit(index, name, ty, "a matrix (rank 2)")),
        }
    }
}

impl Operator for Gemm {
    fn name(&self) -> &'static str {
        "Gemm"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let (m, k) = Gemm::matrix(operands, 0, "a", self.trans_a)?;
        let (rows, n) = Gemm::matrix(operands, 1, "b", self.trans_b)?;
        let (a, b) = (required(operands, 0, "a")?, required(operands, 1, "b")?);
        check::parameter(1, "b", b, a.dtype)?;
        if rows != k {
            return Err(OpError::Mismatch(format!(
                "a of type {a} has {k} columns, b of type {b} has {rows} rows (after transposition), expected as many"
            )));
        }
        let y = check::result(a.dtype, vec![m, n])?;
        if let Some(c) = optional(operands, 2) {
            check::parameter(2, "c", c, a.dtype)?;
            if !check::broadcasts_to(&c.shape, &y.shape) {
                return Err(check::unfit(2, "c", c, format_args!("a shape that broadcasts to {}", y.shape)));
            }
        }
        check::activation(self.activation, &y)?;
        Ok(vec![y])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (a, b) = (required(operands, 0, "a")?, required(operands, 1, "b")?);
        let [y] = results else { return Ok(Vec::new()) };
        let (m, n) = (y.shape[0], y.shape[1]);
        let k = a.shape()[if self.trans_a { 0 } else { 1 }];
        let (mut a, b) = (number::floats(a)?, number::floats(b)?);
        if self.trans_a {
            a = transposed(&a, k, m);
        }
        let mut out = vec![0.0; m * n];
        if self.trans_b {
            multiply_rows(&a, &b, k, n, &mut out);
        } else {
            multiply(&a, &b, k, n, &mut out);
        }
        out.iter_mut().for_each(|v| *v *= f64::from(self.alpha));
        if let Some(c) = optional(operands, 2) {
            let c = strided::broadcast_to(&number::floats(c)?, c.shape(), &y.shape);
            out.iter_mut().zip(c).for_each(|(v, c)| *v += f64::from(self.beta) * c);
        }
        if let Some(activation) = self.activation {
            out.iter_mut().for_each(|v| *v = activation.apply(*v));
        }
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let elems = check::result_elems(results);
        let depth = optional(operands, 0)
            .and_then(|a| a.shape.get(if self.trans_a { 0 } else { 1 }).copied())
            .unwrap_or(0);
        let own = (self.alpha != 1.0) as u64
            + optional(operands, 2).is_some() as u64
            + self.activation.is_some() as u64;
        Arithmetic { macc: elems.saturating_mul(depth as u64), ops: elems.saturating_mul(own) }
    }
}

/// The shapes of a product by numpy's rules: a vector on the left is one row, on the right one column, and that axis
/// is not in the result; axes before the last two are batches, and broadcast.
struct ProductShape {
    batch: Vec<usize>,
    a_batch: Shape,
    b_batch: Shape,
    m: usize,
    k: usize,
    n: usize,
    result: Vec<usize>,
}

impl ProductShape {
    fn new(a: &TensorType, b: &TensorType) -> Result<ProductShape, OpError> {
        let fault = || OpError::Mismatch(format!("types {a} and {b} cannot be multiplied as matrices"));
        let (a_batch, m, k) = match a.shape[..] {
            [] => return Err(fault()),
            [k] => (&[][..], 1, k),
            [ref batch @ .., m, k] => (batch, m, k),
        };
        let (b_batch, rows, n) = match b.shape[..] {
            [] => return Err(fault()),
            [k] => (&[][..], k, 1),
            [ref batch @ .., k, n] => (batch, k, n),
        };
        if rows != k {
            return Err(fault());
        }
        let batch = check::broadcast(a_batch, b_batch).ok_or_else(fault)?;
        let mut result = batch.clone();
        if a.shape.rank() > 1 {
            result.push(m);
        }
        if b.shape.rank() > 1 {
            result.push(n);
        }
        Ok(ProductShape { batch, a_batch: a_batch.into(), b_batch: b_batch.into(), m, k, n, result })
    }

    fn eval<T: Number>(&self, a: &[T], b: &[T]) -> Vec<T> {
        let (m, k, n) = (self.m, self.k, self.n);
        let a_strides = broadcast_strides(&self.a_batch, &self.batch);
        let b_strides = broadcast_strides(&self.b_batch, &self.batch);
        let (len, a_step) = last(&self.batch, &a_strides);
        let (_, b_step) = last(&self.batch, &b_strides);
        let mut out = vec![T::ZERO; self.batch.iter().product::<usize>() * m * n];
        for_each_row(&self.batch, [&a_strides, &b_strides], [0, 0], |first, [a_at, b_at]| {
            for i in 0..len {
                let a = &a[(a_at + i as isize * a_step) as usize * m * k..][..m * k];
                let b = &b[(b_at + i as isize * b_step) as usize * k * n..][..k * n];
                multiply(a, b, k, n, &mut out[(first + i) * m * n..][..m * n]);
            }
        });
        out
    }
}

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 2)?;
        let (a, b) = (required(operands, 0, "a")?, required(operands, 1, "b")?);
        if a.dtype == DType::Bool {
            return Err(check::unfit(0, "a", a, "numbers"));
        }
        check::dtype(1, "b", b, a.dtype)?;
        Ok(vec![check::result(a.dtype, ProductShape::new(a, b)?.result)?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (a, b) = (required(operands, 0, "a")?, required(operands, 1, "b")?);
        let [y] = results else { return Ok(Vec::new()) };
        let product = ProductShape::new(a.ty(), b.ty())?;
        Ok(vec![if y.dtype.is_float() {
            number::from_floats(y.clone(), &product.eval(&number::floats(a)?, &number::floats(b)?))?
        } else {
            number::from_integers(y.clone(), &product.eval(&number::integers(a)?, &number::integers(b)?))?
        }])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let depth = optional(operands, 0).and_then(|a| a.shape.last().copied()).unwrap_or(0);
        Arithmetic { macc: check::result_elems(results).saturating_mul(depth as u64), ops: 0 }
    }
}

#[cfg(test)]
mod tests;
