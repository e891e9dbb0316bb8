//! Words for constructors whose operator is a composition: each emits one operator.

use super::reshaped;
use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::elementwise::BinaryFn;
use crate::op::{
    AxisSlice, Binary, Cast, Concat, Expand, MatMul, Pad, PadMode, Reduce, ReduceKind, Slice, Transpose,
    Unary, Where,
};
use crate::tensor::Tensor;
use crate::types::{DType, Shape};

type One = Result<Value, NodeFault>;

impl NodeReader<'_, '_> {
    /// A function of two elements, with broadcasting.
    pub(in crate::onnx) fn binary(&mut self, function: BinaryFn, a: Value, b: Value) -> One {
        self.emit(Binary { function, activation: None }, &[a, b])
    }

    /// A function of two elements, the second being the same number everywhere.
    pub(in crate::onnx) fn binary_with(&mut self, function: BinaryFn, a: Value, number: f64) -> One {
        let scalar = self.scalar(self.dtype(a), number)?;
        self.binary(function, a, scalar)
    }

    /// A function of one element.
    pub(in crate::onnx) fn unary(&mut self, function: Unary, x: Value) -> One {
        self.emit(function, &[x])
    }

    /// The same numbers as another type.
    pub(in crate::onnx) fn cast(&mut self, x: Value, to: DType) -> One {
        if self.dtype(x) == to { Ok(x) } else { self.emit(Cast { to }, &[x]) }
    }

    /// Elements of `a` where a condition holds, else of `b`; with broadcasting.
    pub(in crate::onnx) fn choose(&mut self, condition: Value, a: Value, b: Value) -> One {
        self.emit(Where, &[condition, a, b])
    }

    /// A reduction over axes, which stay with extent 1 if asked for.
    pub(in crate::onnx) fn reduce(
        &mut self,
        kind: ReduceKind,
        x: Value,
        axes: Vec<usize>,
        keep_dims: bool,
    ) -> One {
        self.emit(Reduce { kind, axes, keep_dims }, &[x])
    }

    /// Axes in another order.
    pub(in crate::onnx) fn transpose(&mut self, x: Value, perm: &[usize]) -> One {
        self.emit(Transpose { perm: perm.to_vec() }, &[x])
    }

    /// Values one behind the other along an axis.
    pub(in crate::onnx) fn concat(&mut self, axis: usize, parts: &[Value]) -> One {
        match parts {
            [one] => Ok(*one),
            _ => self.emit(Concat { axis }, parts),
        }
    }

    /// `len` elements along an axis, from `start` in steps of `step`.
    pub(in crate::onnx) fn part(
        &mut self,
        x: Value,
        axis: usize,
        start: usize,
        len: usize,
        step: isize,
    ) -> One {
        if start == 0 && step == 1 && self.ty(x).shape.get(axis) == Some(&len) {
            return Ok(x);
        }
        self.emit(Slice { axes: vec![AxisSlice { axis, start, step, len }] }, &[x])
    }

    /// The same elements under another shape.
    pub(in crate::onnx) fn reshape(&mut self, x: Value, shape: impl Into<Vec<usize>>) -> One {
        reshaped(self, x, shape.into())
    }

    /// Elements repeated along axes of extent 1.
    pub(in crate::onnx) fn expand(&mut self, x: Value, shape: impl Into<Vec<usize>>) -> One {
        let shape = shape.into();
        if self.ty(x).shape[..] == shape[..] { Ok(x) } else { self.emit(Expand { shape }, &[x]) }
    }

    /// Matrix product over the last two axes.
    pub(in crate::onnx) fn mat_mul(&mut self, a: Value, b: Value) -> One {
        self.emit(MatMul::default(), &[a, b])
    }

    /// Elements of one value before and behind those of an axis.
    pub(in crate::onnx) fn pad(
        &mut self,
        x: Value,
        axis: usize,
        before: usize,
        behind: usize,
        number: f64,
    ) -> One {
        if before == 0 && behind == 0 {
            return Ok(x);
        }
        let rank = self.ty(x).shape.rank();
        let (mut begin, mut end) = (vec![0isize; rank], vec![0isize; rank]);
        begin[axis] = super::window::signed(before)?;
        end[axis] = super::window::signed(behind)?;
        self.emit(Pad { begin, end, mode: PadMode::Constant(number) }, &[x])
    }

    /// A scalar of integers, exactly.
    pub(in crate::onnx) fn integer(&mut self, number: i64) -> One {
        Ok(self.add_constant(Tensor::new(Shape::default(), &[number])?))
    }

    /// The constant 0, 1, 2 … of a shape in which one axis counts and the others have extent 1.
    pub(in crate::onnx) fn counting(&mut self, dtype: DType, shape: impl Into<Shape>) -> One {
        let shape = shape.into();
        let count = shape.checked_elems().ok_or(crate::op::OpError::Overflow)?;
        self.make(count, DType::I64)?;
        let numbers: Vec<i64> = (0..count as i64).collect();
        let tensor = self.add_constant(Tensor::new(shape, &numbers)?);
        self.cast(tensor, dtype)
    }
}
