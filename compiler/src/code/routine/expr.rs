//! The expressions of a routine: those of a loop nest, over locals and elements of memory.

use nnc_ir::DType;
use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;

use super::{Memory, Routine};
use crate::code::nest::{Constant, Function};

/// An element of a memory, by an index of type `i64` for each axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// Which memory.
    pub memory: usize,
    /// Where in it.
    pub index: Vec<Expr>,
}

/// A scalar expression. Both sides of a [`Select`](Expr::Select) are computed: nothing that is computed does any harm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// A constant.
    Const(Constant),
    /// A local.
    Local(usize),
    /// An element; where an index lies outside, the nearest one inside.
    Load(Access),
    /// A function of one element.
    Unary(Function, Box<Expr>),
    /// A function of two elements of one type. An integer divided by 0 is 0.
    Binary(BinaryFn, Box<Expr>, Box<Expr>),
    /// Another element type, as in a nest.
    Cast(DType, Box<Expr>),
    /// `condition ? then : otherwise`
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
}

impl Expr {
    /// An index.
    pub fn index(value: usize) -> Expr {
        Expr::int(value as i64)
    }

    /// A constant `i64`.
    pub fn int(value: i64) -> Expr {
        Expr::Const(Constant::Int(DType::I64, value))
    }

    /// A constant boolean.
    pub fn bool(value: bool) -> Expr {
        Expr::Const(Constant::Int(DType::Bool, value.into()))
    }

    /// A constant of a type; integers are cut towards zero and saturate.
    pub fn constant(dtype: DType, value: f64) -> Expr {
        Expr::Const(Constant::of(dtype, value))
    }

    /// `function(self)`
    pub fn unary(self, function: Unary) -> Expr {
        Expr::Unary(Function(function), Box::new(self))
    }

    /// `function(self, other)`
    pub fn binary(self, function: BinaryFn, other: Expr) -> Expr {
        Expr::Binary(function, Box::new(self), Box::new(other))
    }

    /// `self < other`
    pub fn less(self, other: Expr) -> Expr {
        self.binary(BinaryFn::Less, other)
    }

    /// `self == other`
    pub fn equals(self, other: Expr) -> Expr {
        self.binary(BinaryFn::Equal, other)
    }

    /// Both hold.
    pub fn and(self, other: Expr) -> Expr {
        self.binary(BinaryFn::And, other)
    }

    /// One of them holds.
    pub fn or(self, other: Expr) -> Expr {
        self.binary(BinaryFn::Or, other)
    }

    /// The smaller one.
    pub fn min(self, other: Expr) -> Expr {
        self.binary(BinaryFn::Min, other)
    }

    /// The larger one.
    pub fn max(self, other: Expr) -> Expr {
        self.binary(BinaryFn::Max, other)
    }

    /// It does not hold.
    #[allow(clippy::should_implement_trait)]
    pub fn not(self) -> Expr {
        self.unary(Unary::Not)
    }

    /// As another type.
    pub fn cast(self, to: DType) -> Expr {
        Expr::Cast(to, Box::new(self))
    }

    /// `self ? then : otherwise`
    pub fn select(self, then: Expr, otherwise: Expr) -> Expr {
        Expr::Select(Box::new(self), Box::new(then), Box::new(otherwise))
    }

    /// Calls `visit` with this expression and all inside it.
    pub fn walk<'e>(&'e self, visit: &mut dyn FnMut(&'e Expr)) {
        visit(self);
        match self {
            Expr::Const(_) | Expr::Local(_) => {}
            Expr::Load(access) => access.index.iter().for_each(|i| i.walk(visit)),
            Expr::Unary(_, x) | Expr::Cast(_, x) => x.walk(visit),
            Expr::Binary(_, a, b) => [a, b].into_iter().for_each(|e| e.walk(visit)),
            Expr::Select(c, a, b) => [c, a, b].into_iter().for_each(|e| e.walk(visit)),
        }
    }

    /// Its type; `None` where types do not fit each other.
    pub fn dtype(&self, routine: &Routine) -> Option<DType> {
        match self {
            Expr::Const(c) => Some(c.dtype()),
            Expr::Local(local) => routine.locals.get(*local).copied(),
            Expr::Load(access) => routine.memory.get(access.memory).map(Memory::value_type),
            Expr::Unary(f, x) => f.0.result_dtype(x.dtype(routine)?),
            Expr::Binary(f, a, b) => f.result_dtype(a.dtype(routine)?, b.dtype(routine)?),
            Expr::Cast(to, x) => x.dtype(routine).map(|_| *to),
            Expr::Select(c, a, b) => {
                let (a, b) = (a.dtype(routine)?, b.dtype(routine)?);
                (c.dtype(routine)? == DType::Bool && a == b).then_some(a)
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
