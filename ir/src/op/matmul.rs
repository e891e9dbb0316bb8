//! Matrix products.

use super::number::Number;
use super::strided::{broadcast_strides, for_each_row, last};
use super::{Arithmetic, Epilogue, OpError, Operator, Tensors, Types, check, number, optional, required};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// ONNX MatMul (opsets 1 to 13), with numpy's rules for batches and vectors, and what was fused into it; of integers too, which wrap
/// around. ONNX's Gemm is one, with transposes, factors and an addition around.
///
/// Operands: 0 `a` `[batch…, M, K]`, 1 `b` `[batch…, K, N]`, 2 `bias` `[N]` (optional), 3 `residual` (the result's type, when the
/// epilogue has one). A vector is a matrix of one row on the left, of one column on the right, and that axis is not in the result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MatMul {
    /// Whether `b` is given as `[batch…, N, K]`.
    pub trans_b: bool,
    /// Applied to the result.
    pub epilogue: Epilogue,
}

impl MatMul {
    /// Position of operand `a`.
    pub const A: usize = 0;
    /// Position of operand `b`.
    pub const B: usize = 1;
    /// Position of operand `bias`.
    pub const BIAS: usize = 2;
    /// Position of operand `residual`.
    pub const RESIDUAL: usize = 3;
}

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
fn multiply_rows<T: Number>(a: &[T], b: &[T], k: usize, n: usize, sums: &mut [T]) {
    if n == 0 || k == 0 {
        return;
    }
    for (row, sums) in a.chunks(k).zip(sums.chunks_mut(n)) {
        for (sum, column) in sums.iter_mut().zip(b.chunks(k)) {
            *sum = row.iter().zip(column).fold(*sum, |sum, (&a, &b)| sum.add(a.mul(b)));
        }
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
    trans_b: bool,
    result: Vec<usize>,
}

impl ProductShape {
    fn new(a: &TensorType, b: &TensorType, trans_b: bool) -> Result<ProductShape, OpError> {
        let turned = if trans_b { ", the second one transposed" } else { "" };
        let fault =
            || OpError::Mismatch(format!("types {a} and {b} cannot be multiplied as matrices{turned}"));
        let (a_batch, m, k) = match a.shape[..] {
            [] => return Err(fault()),
            [k] => (&[][..], 1, k),
            [ref batch @ .., m, k] => (batch, m, k),
        };
        let (b_batch, rows, n) = match b.shape[..] {
            [] => return Err(fault()),
            [k] => (&[][..], k, 1),
            [ref batch @ .., n, k] if trans_b => (batch, k, n),
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
        Ok(ProductShape { batch, a_batch: a_batch.into(), b_batch: b_batch.into(), m, k, n, trans_b, result })
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
                let sums = &mut out[(first + i) * m * n..][..m * n];
                if self.trans_b {
                    multiply_rows(a, b, k, n, sums);
                } else {
                    multiply(a, b, k, n, sums);
                }
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
        check::at_most(operands, 4)?;
        let (a, b) = (required(operands, Self::A, "a")?, required(operands, Self::B, "b")?);
        if a.dtype == DType::Bool {
            return Err(check::unfit(Self::A, "a", a, "numbers"));
        }
        let bias = optional(operands, Self::BIAS).is_some();
        if !a.dtype.is_float() && (bias || !self.epilogue.is_none()) {
            return Err(check::unfit(Self::A, "a", a, "floating-point elements for a bias or an epilogue"));
        }
        check::parameter(Self::B, "b", b, a.dtype)?;
        let product = ProductShape::new(a, b, self.trans_b)?;
        if bias {
            if b.shape.rank() < 2 {
                return Err(check::unfit(Self::B, "b", b, "a matrix, whose columns a bias has elements for"));
            }
            check::parameters(operands, Self::BIAS, "bias", a.dtype, product.n)?;
        }
        let y = check::result(self.epilogue.result(a.dtype)?, product.result)?;
        self.epilogue.check(operands, Self::RESIDUAL, &y)?;
        Ok(vec![y])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (a, b) = (required(operands, Self::A, "a")?, required(operands, Self::B, "b")?);
        let [y] = results else { return Ok(Vec::new()) };
        let product = ProductShape::new(a.ty(), b.ty(), self.trans_b)?;
        if !y.dtype.is_float() {
            let out = product.eval(&number::integers(a)?, &number::integers(b)?);
            return Ok(vec![number::from_integers(y.clone(), &out)?]);
        }
        let mut out = product.eval(&number::floats(a)?, &number::floats(b)?);
        if let Some(bias) = number::optional_floats(optional(operands, Self::BIAS))? {
            for row in out.chunks_mut(bias.len().max(1)) {
                row.iter_mut().zip(&bias).for_each(|(v, b)| *v += b);
            }
        }
        self.epilogue.eval(&mut out, operands, Self::RESIDUAL)?;
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let elems = check::result_elems(results);
        let depth = optional(operands, Self::A).and_then(|a| a.shape.last().copied()).unwrap_or(0);
        let own = optional(operands, Self::BIAS).is_some() as u64 + self.epilogue.ops();
        Arithmetic { macc: elems.saturating_mul(depth as u64), ops: elems.saturating_mul(own) }
    }
}

#[cfg(test)]
mod tests;
