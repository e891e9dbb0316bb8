//! Element-wise operators of several operands, with ONNX (numpy) broadcasting.

use super::number::{Number, Numbers};
use super::strided::{broadcast_strides, for_each_row, last};
use super::{Arithmetic, OpError, Operator, Tensors, Types, Unary, check, number, required, strided};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// The function of a [`Binary`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BinaryFn {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    /// ONNX Mod; `fmod` takes the sign of the dividend, else of the divisor.
    Mod {
        fmod: bool,
    },
    /// `x < 0 ? slope · x : x`
    PRelu,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Xor,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
}

/// A function of two elements. Operands: 0 `a`, 1 `b`, broadcast against each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The function.
    pub function: BinaryFn,
    /// Applied to the result.
    pub activation: Option<Unary>,
}

/// ONNX Where. Operands: 0 `condition` (bool), 1 `x`, 2 `y`, broadcast.
#[derive(Clone, Debug, PartialEq)]
pub struct Where;

/// ONNX Cast. Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cast {
    /// Type of the result's elements.
    pub to: DType,
}

/// ONNX BitCast (opset 26): the same bits as elements of another type of that size. Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct BitCast {
    /// Type of the result's elements; no boolean, which not all bits are.
    pub to: DType,
}

impl BinaryFn {
    /// Element type of the result for these elements; `None` where the function is not defined for them.
    pub fn result_dtype(self, a: DType, b: DType) -> Option<DType> {
        use BinaryFn::*;
        let numbers = a != DType::Bool && b != DType::Bool;
        let integers = numbers && !a.is_float();
        match self {
            Pow => numbers.then_some(a),
            _ if a != b => None,
            Add | Sub | Mul | Div | Min | Max | Mod { .. } | PRelu => numbers.then_some(a),
            Equal => Some(DType::Bool),
            Less | LessOrEqual | Greater | GreaterOrEqual => numbers.then_some(DType::Bool),
            And | Or | Xor => (!numbers).then_some(DType::Bool),
            BitAnd | BitOr | BitXor | ShiftLeft | ShiftRight => integers.then_some(a),
        }
    }

    /// The function, of floats; those that give booleans give 0 or 1.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        use BinaryFn::*;
        match self {
            Add => a + b,
            Sub => a - b,
            Mul => a * b,
            Div => a / b,
            Pow => a.powf(b),
            Min => a.min_nan(b),
            Max => a.max_nan(b),
            Mod { fmod: true } => a % b,
            Mod { fmod: false } => {
                let r = a % b;
                if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
            }
            PRelu => {
                if a < 0.0 {
                    a * b
                } else {
                    a
                }
            }
            Equal => f64::from(a == b),
            Less => f64::from(a < b),
            LessOrEqual => f64::from(a <= b),
            Greater => f64::from(a > b),
            GreaterOrEqual => f64::from(a >= b),
            // Not defined for floats: `result_dtype` refuses them.
            And | Or | Xor | BitAnd | BitOr | BitXor | ShiftLeft | ShiftRight => f64::NAN,
        }
    }

    /// The function, of integers or booleans. Results wrap around when they are stored; a quotient or remainder by 0
    /// is 0, a power of negative exponent is cut towards zero.
    pub fn apply_integer(self, a: i128, b: i128) -> i128 {
        use BinaryFn::*;
        match self {
            Add => a.wrapping_add(b),
            Sub => a.wrapping_sub(b),
            Mul => a.wrapping_mul(b),
            Div => a.checked_div(b).unwrap_or(0),
            Pow => power(a, b),
            Min => a.min(b),
            Max => a.max(b),
            Mod { fmod: true } => a.checked_rem(b).unwrap_or(0),
            Mod { fmod: false } => {
                let r = a.checked_rem(b).unwrap_or(0);
                if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
            }
            PRelu => {
                if a < 0 {
                    a.wrapping_mul(b)
                } else {
                    a
                }
            }
            Equal => i128::from(a == b),
            Less => i128::from(a < b),
            LessOrEqual => i128::from(a <= b),
            Greater => i128::from(a > b),
            GreaterOrEqual => i128::from(a >= b),
            And | BitAnd => a & b,
            Or | BitOr => a | b,
            Xor | BitXor => a ^ b,
            ShiftLeft => shift(b).map_or(0, |n| a << n),
            ShiftRight => a >> shift(b).unwrap_or(127),
        }
    }
}

/// How far to shift; `None` (negative, or 64 and more) where only the sign is left of an integer of any type.
fn shift(by: i128) -> Option<u32> {
    u32::try_from(by).ok().filter(|&n| n < 64)
}

/// `a` to the power of `b`, modulo 2^128.
fn power(a: i128, b: i128) -> i128 {
    if b < 0 {
        return match a {
            1 => 1,
            -1 if b % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let (mut base, mut exponent, mut result) = (a, b, 1i128);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    result
}

/// `function` of all pairs of elements that meet when `a` and `b` are broadcast to `shape`.
fn zip<T: Copy, R>(
    (a, a_shape): (&[T], &Shape),
    (b, b_shape): (&[T], &Shape),
    shape: &Shape,
    function: impl Fn(T, T) -> R,
) -> Vec<R> {
    let (a_strides, b_strides) = (broadcast_strides(a_shape, shape), broadcast_strides(b_shape, shape));
    let (len, a_step) = last(shape, &a_strides);
    let (_, b_step) = last(shape, &b_strides);
    let mut out = Vec::with_capacity(shape.elems());
    for_each_row(shape, [&a_strides, &b_strides], [0, 0], |_, [a_at, b_at]| {
        out.extend(
            (0..len as isize)
                .map(|i| function(a[(a_at + i * a_step) as usize], b[(b_at + i * b_step) as usize])),
        );
    });
    out
}

impl Operator for Binary {
    fn name(&self) -> &'static str {
        match self.function {
            BinaryFn::Add => "Add",
            BinaryFn::Sub => "Sub",
            BinaryFn::Mul => "Mul",
            BinaryFn::Div => "Div",
            BinaryFn::Pow => "Pow",
            BinaryFn::Min => "Min",
            BinaryFn::Max => "Max",
            BinaryFn::Mod { .. } => "Mod",
            BinaryFn::PRelu => "PRelu",
            BinaryFn::Equal => "Equal",
            BinaryFn::Less => "Less",
            BinaryFn::LessOrEqual => "LessOrEqual",
            BinaryFn::Greater => "Greater",
            BinaryFn::GreaterOrEqual => "GreaterOrEqual",
            BinaryFn::And => "And",
            BinaryFn::Or => "Or",
            BinaryFn::Xor => "Xor",
            BinaryFn::BitAnd => "BitwiseAnd",
            BinaryFn::BitOr => "BitwiseOr",
            BinaryFn::BitXor => "BitwiseXor",
            BinaryFn::ShiftLeft => "ShiftLeft",
            BinaryFn::ShiftRight => "ShiftRight",
        }
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 2)?;
        let (a, b) = (required(operands, 0, "a")?, required(operands, 1, "b")?);
        let dtype = self.function.result_dtype(a.dtype, b.dtype).ok_or_else(|| {
            OpError::Mismatch(format!("operands have types {a} and {b}, for which it is not defined"))
        })?;
        let shape = check::broadcast_types(a, b)?;
        if self.function == BinaryFn::PRelu && shape[..] != a.shape[..] {
            return Err(check::unfit(1, "slope", b, format_args!("a shape that broadcasts to {}", a.shape)));
        }
        let y = check::result(dtype, shape)?;
        check::activation(self.activation, &y)?;
        Ok(vec![y])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (a, b) = (required(operands, 0, "a")?, required(operands, 1, "b")?);
        let [y] = results else { return Ok(Vec::new()) };
        let (a_shape, b_shape) = (a.shape(), b.shape());
        let out = if a.dtype().is_float() || b.dtype().is_float() {
            let (a, b) = (number::floats(a)?, number::floats(b)?);
            let f = |a, b| self.function.apply(a, b);
            number::from_floats(y.clone(), &zip((&a, a_shape), (&b, b_shape), &y.shape, f))?
        } else {
            let (a, b) = (number::integers(a)?, number::integers(b)?);
            let f = |a, b| self.function.apply_integer(a, b);
            number::from_integers(y.clone(), &zip((&a, a_shape), (&b, b_shape), &y.shape, f))?
        };
        match self.activation {
            Some(activation) => activation.eval(&[Some(&out)], results),
            None => Ok(vec![out]),
        }
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let each = 1 + self.activation.is_some() as u64;
        Arithmetic { macc: 0, ops: check::result_elems(results).saturating_mul(each) }
    }
}

impl Operator for Where {
    fn name(&self) -> &'static str {
        "Where"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let condition = required(operands, 0, "condition")?;
        let (x, y) = (required(operands, 1, "x")?, required(operands, 2, "y")?);
        check::dtype(0, "condition", condition, DType::Bool)?;
        check::dtype(2, "y", y, x.dtype)?;
        let values = TensorType::new(x.dtype, check::broadcast_types(x, y)?);
        Ok(vec![check::result(x.dtype, check::broadcast_types(condition, &values)?)?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let condition = required(operands, 0, "condition")?;
        let (x, y) = (required(operands, 1, "x")?, required(operands, 2, "y")?);
        let [result] = results else { return Ok(Vec::new()) };
        let shape = &result.shape;
        let condition = strided::broadcast_to(&condition.to_bools()?, condition.shape(), shape);
        let size = result.dtype.bytes();
        let [x, y] =
            [x, y].map(|t| strided::copy(t.bytes(), size, shape, 0, &broadcast_strides(t.shape(), shape)));
        let bytes: Vec<u8> = condition
            .iter()
            .zip(x.chunks_exact(size).zip(y.chunks_exact(size)))
            .flat_map(|(&c, (x, y))| if c { x } else { y })
            .copied()
            .collect();
        Ok(vec![Tensor::from_bytes(result.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results) }
    }
}

impl Operator for Cast {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        Ok(vec![check::result(self.to, x.shape.to_vec())?])
    }

    /// Floats become integers by cutting towards zero, and saturate (ONNX leaves it open); integers wrap around.
    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        Ok(vec![match number::numbers(x)? {
            Numbers::Floats(v) => number::from_floats(y.clone(), &v)?,
            Numbers::Integers(v) => number::from_integers(y.clone(), &v)?,
        }])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results) }
    }
}

impl Operator for BitCast {
    fn name(&self) -> &'static str {
        "BitCast"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        if x.dtype.bytes() != self.to.bytes() {
            return Err(check::unfit(0, "x", x, format_args!("elements as large as those of {}", self.to)));
        }
        if self.to == DType::Bool && x.dtype != DType::Bool {
            return Err(OpError::Unsupported(format!("the bits of {} as booleans", x.dtype)));
        }
        Ok(vec![check::result(self.to, x.shape.to_vec())?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        Ok(vec![Tensor::from_bytes(y.clone(), x.bytes().to_vec())?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        Arithmetic::default()
    }
}

#[cfg(test)]
mod tests;
