//! What a loop nest computes for one element: a small tree of scalar expressions.
//!
//! ```text
//!   y = clip(a · 0.5 + b, 0, 6)        Unary(Clip, Binary(Add, Binary(Mul, Operand(0), Const(0.5)), Operand(1)))
//! ```
//!
//! Trees are plain data: they compare and hash by their bits, so that equal layers share one function.

use std::hash::{Hash, Hasher};

use nnc_ir::DType;
use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;

/// The type in which elements are computed: half floats lie in memory only, and are `f32` everywhere else.
pub fn computed(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        DType::F32
        | DType::F64
        | DType::I8
        | DType::U8
        | DType::I16
        | DType::U16
        | DType::I32
        | DType::U32
        | DType::I64
        | DType::U64
        | DType::Bool => dtype,
    }
}

/// A constant, by its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Constant {
    /// The bits of an `f32`.
    F32(u32),
    /// The bits of an `f64`.
    F64(u64),
    /// An integer or boolean of this type.
    Int(DType, i64),
}

impl Constant {
    /// A float constant of a type, or of `f32` for a half float; integers are cut towards zero and saturate.
    pub fn of(dtype: DType, value: f64) -> Constant {
        match computed(dtype) {
            DType::F32 => Constant::F32((value as f32).to_bits()),
            DType::F64 => Constant::F64(value.to_bits()),
            DType::U64 => Constant::Int(dtype, value as u64 as i64),
            dtype => Constant::Int(dtype, value as i64),
        }
    }

    /// Its type.
    pub fn dtype(self) -> DType {
        match self {
            Constant::F32(_) => DType::F32,
            Constant::F64(_) => DType::F64,
            Constant::Int(dtype, _) => dtype,
        }
    }
}

impl From<f32> for Constant {
    fn from(v: f32) -> Constant {
        Constant::F32(v.to_bits())
    }
}

/// A [`Unary`] that compares and hashes by the bits of its parameters.
#[derive(Clone, Copy, Debug)]
pub struct UnaryFn(pub Unary);

impl UnaryFn {
    fn key(&self) -> (std::mem::Discriminant<Unary>, u32, u32) {
        let (a, b) = match self.0 {
            Unary::Clip { min, max } => (min.to_bits(), max.to_bits()),
            Unary::HardSigmoid { alpha, beta } => (alpha.to_bits(), beta.to_bits()),
            Unary::Selu { alpha, gamma } => (alpha.to_bits(), gamma.to_bits()),
            Unary::LeakyRelu { alpha }
            | Unary::ThresholdedRelu { alpha }
            | Unary::Elu { alpha }
            | Unary::Celu { alpha } => (alpha.to_bits(), 0),
            Unary::Power { exponent } => (exponent.to_bits(), 0),
            Unary::Gelu { tanh } => (tanh.into(), 0),
            Unary::IsInf { negative, positive } => (negative.into(), positive.into()),
            // Named one by one, without `..`: a parameter that is left out here shares code with another.
            Unary::Relu
            | Unary::Sigmoid
            | Unary::HardSwish
            | Unary::Silu
            | Unary::Tanh
            | Unary::Softplus
            | Unary::Softsign
            | Unary::Mish
            | Unary::Erf
            | Unary::Exp
            | Unary::Log
            | Unary::Sqrt
            | Unary::Reciprocal
            | Unary::Abs
            | Unary::Neg
            | Unary::Sign
            | Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Sin
            | Unary::Cos
            | Unary::Tan
            | Unary::Asin
            | Unary::Acos
            | Unary::Atan
            | Unary::Sinh
            | Unary::Cosh
            | Unary::Asinh
            | Unary::Acosh
            | Unary::Atanh
            | Unary::Not
            | Unary::IsNan => (0, 0),
        };
        (std::mem::discriminant(&self.0), a, b)
    }
}

impl PartialEq for UnaryFn {
    fn eq(&self, other: &UnaryFn) -> bool {
        self.key() == other.key()
    }
}

impl Eq for UnaryFn {}

impl Hash for UnaryFn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// A scalar expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// The element of an operand at the current indices.
    Operand(usize),
    /// A constant.
    Const(Constant),
    /// The index of a loop, as `i64`: loops first, reduction axes behind them.
    Index(usize),
    /// An accumulator: its result where the value is computed, its state so far inside the reduction.
    Acc(usize),
    /// A function of one element.
    Unary(UnaryFn, Box<Expr>),
    /// A function of two elements of one type.
    Binary(BinaryFn, Box<Expr>, Box<Expr>),
    /// Another element type. Floats become integers by cutting towards zero, and saturate (NaN gives 0); integers
    /// wrap around; booleans are "not zero". What is cast to a half float is the `f32` that rounds to it once stored.
    Cast(DType, Box<Expr>),
    /// `condition ? then : otherwise`
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
    /// The element behind that of an operand by as many as an unsigned byte says: the operand is the first of 256 entries.
    Entry(Box<Expr>, Box<Expr>),
    /// `x · y + z` of `f32`, rounded once where the target has fused multiply-add.
    MulAdd(Box<Expr>, Box<Expr>, Box<Expr>),
}

impl Expr {
    /// A float constant of a type.
    pub fn constant(dtype: DType, value: f64) -> Expr {
        Expr::Const(Constant::of(dtype, value))
    }

    /// `function(self)`
    pub fn unary(self, function: Unary) -> Expr {
        Expr::Unary(UnaryFn(function), Box::new(self))
    }

    /// `function(self)`, where there is one.
    pub fn activated(self, function: Option<Unary>) -> Expr {
        match function {
            Some(function) => self.unary(function),
            None => self,
        }
    }

    /// `function(self, other)`
    pub fn binary(self, function: BinaryFn, other: Expr) -> Expr {
        Expr::Binary(function, Box::new(self), Box::new(other))
    }

    /// `self` as another type; nothing where it is computed with in the same one: half floats are rounded when they are stored.
    pub fn cast(self, from: DType, to: DType) -> Expr {
        if computed(from) == computed(to) { self } else { Expr::Cast(to, Box::new(self)) }
    }

    /// `self · factor + addend`
    pub fn mul_add(self, factor: Expr, addend: Expr) -> Expr {
        Expr::MulAdd(Box::new(self), Box::new(factor), Box::new(addend))
    }

    /// The entry of a table, whose first one is an operand, at the place that `self` says.
    pub fn entry_of(self, table: usize) -> Expr {
        Expr::Entry(Box::new(Expr::Operand(table)), Box::new(self))
    }

    /// `self ? then : otherwise`
    pub fn select(self, then: Expr, otherwise: Expr) -> Expr {
        Expr::Select(Box::new(self), Box::new(then), Box::new(otherwise))
    }

    /// Puts `with(e)` in the place of every expression for which there is one.
    pub fn replace(&mut self, with: &mut dyn FnMut(&Expr) -> Option<Expr>) {
        if let Some(new) = with(self) {
            *self = new;
            return;
        }
        match self {
            Expr::Operand(_) | Expr::Const(_) | Expr::Index(_) | Expr::Acc(_) => {}
            Expr::Unary(_, x) | Expr::Cast(_, x) => x.replace(with),
            Expr::Binary(_, a, b) | Expr::Entry(a, b) => {
                a.replace(with);
                b.replace(with);
            }
            Expr::Select(c, a, b) | Expr::MulAdd(c, a, b) => {
                c.replace(with);
                a.replace(with);
                b.replace(with);
            }
        }
    }

    /// Calls `visit` with this expression and all inside it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Expr)) {
        visit(self);
        match self {
            Expr::Operand(_) | Expr::Const(_) | Expr::Index(_) | Expr::Acc(_) => {}
            Expr::Unary(_, x) | Expr::Cast(_, x) => x.walk(visit),
            Expr::Binary(_, a, b) | Expr::Entry(a, b) => {
                a.walk(visit);
                b.walk(visit);
            }
            Expr::Select(c, a, b) | Expr::MulAdd(c, a, b) => {
                c.walk(visit);
                a.walk(visit);
                b.walk(visit);
            }
        }
    }

    /// Its element type, given those of operands and accumulators; `None` where types do not fit each other or a
    /// function is not defined for them.
    pub fn dtype(&self, operands: &[DType], accumulators: &[DType]) -> Option<DType> {
        let of = |e: &Expr| e.dtype(operands, accumulators);
        match self {
            Expr::Operand(i) => operands.get(*i).copied().map(computed),
            Expr::Const(c) => Some(c.dtype()),
            Expr::Index(_) => Some(DType::I64),
            Expr::Acc(i) => accumulators.get(*i).copied(),
            Expr::Unary(f, x) => f.0.result_dtype(of(x)?),
            Expr::Binary(f, a, b) => {
                let (a, b) = (of(a)?, of(b)?);
                f.result_dtype(a, b)
            }
            Expr::Cast(to, x) => of(x).map(|_| computed(*to)),
            Expr::Entry(table, place) => {
                let is_table = matches!(**table, Expr::Operand(_)) && of(place)? == DType::U8;
                is_table.then(|| of(table)).flatten()
            }
            Expr::MulAdd(x, y, z) => {
                let all = [of(x)?, of(y)?, of(z)?];
                (all == [DType::F32; 3]).then_some(DType::F32)
            }
            Expr::Select(c, a, b) => {
                let (a, b) = (of(a)?, of(b)?);
                (of(c)? == DType::Bool && a == b).then_some(a)
            }
        }
    }
}

macro_rules! operators {
    ($($operator:ident $method:ident),*) => {
        $(impl std::ops::$operator for Expr {
            type Output = Expr;
            fn $method(self, other: Expr) -> Expr {
                self.binary(BinaryFn::$operator, other)
            }
        })*
    };
}
operators!(Add add, Sub sub, Mul mul, Div div);

#[cfg(test)]
mod tests {
    use super::*;

    /// Two functions that differ in any parameter must not share code.
    #[test]
    fn functions_differ_when_any_parameter_does() {
        use Unary::*;
        let (a, b) = (0.25, 0.5);
        let functions = [
            Relu,
            Clip { min: a, max: b },
            Clip { min: -a, max: b },
            Clip { min: a, max: a },
            Clip { min: 0.0, max: b },
            Clip { min: -0.0, max: b },
            LeakyRelu { alpha: a },
            LeakyRelu { alpha: b },
            ThresholdedRelu { alpha: a },
            ThresholdedRelu { alpha: b },
            HardSigmoid { alpha: a, beta: b },
            HardSigmoid { alpha: b, beta: b },
            HardSigmoid { alpha: a, beta: a },
            Elu { alpha: a },
            Elu { alpha: b },
            Celu { alpha: a },
            Celu { alpha: b },
            Selu { alpha: a, gamma: b },
            Selu { alpha: b, gamma: b },
            Selu { alpha: a, gamma: a },
            Power { exponent: a },
            Power { exponent: b },
            Gelu { tanh: false },
            Gelu { tanh: true },
            IsInf { negative: true, positive: true },
            IsInf { negative: true, positive: false },
            IsInf { negative: false, positive: true },
            Sigmoid,
            Silu,
        ];
        for (i, f) in functions.iter().enumerate() {
            for (j, g) in functions.iter().enumerate() {
                assert_eq!(UnaryFn(*f) == UnaryFn(*g), i == j, "{f:?} {g:?}");
            }
        }
        // By their bits: a parameter that is no number is one function, too.
        assert_eq!(UnaryFn(Elu { alpha: f32::NAN }), UnaryFn(Elu { alpha: f32::NAN }));
    }
}
