//! The expressions of a routine: those of a loop nest, over locals and elements of memory.

use nnc_ir::DType;
use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;

use super::{Memory, Routine};
use crate::code::nest::{Constant, UnaryFn};

/// An element of a memory, by an index of type `i64` for each axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// Which memory.
    pub memory: usize,
    /// Where in it.
    pub index: Vec<RoutineExpr>,
}

/// A scalar expression. Both sides of a [`Select`](RoutineExpr::Select) are computed: nothing that is computed does any harm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RoutineExpr {
    /// A constant.
    Const(Constant),
    /// A local.
    Local(usize),
    /// An element; where an index lies outside, the nearest one inside.
    Load(Access),
    /// A function of one element.
    Unary(UnaryFn, Box<RoutineExpr>),
    /// A function of two elements of one type. An integer divided by 0 is 0.
    Binary(BinaryFn, Box<RoutineExpr>, Box<RoutineExpr>),
    /// Another element type, as in a nest.
    Cast(DType, Box<RoutineExpr>),
    /// `condition ? then : otherwise`
    Select(Box<RoutineExpr>, Box<RoutineExpr>, Box<RoutineExpr>),
}

impl RoutineExpr {
    /// An index.
    pub fn index(value: usize) -> RoutineExpr {
        RoutineExpr::int(value as i64)
    }

    /// A constant `i64`.
    pub fn int(value: i64) -> RoutineExpr {
        RoutineExpr::Const(Constant::Int(DType::I64, value))
    }

    /// A constant boolean.
    pub fn bool(value: bool) -> RoutineExpr {
        RoutineExpr::Const(Constant::Int(DType::Bool, value.into()))
    }

    /// A constant of a type; integers are cut towards zero and saturate.
    pub fn constant(dtype: DType, value: f64) -> RoutineExpr {
        RoutineExpr::Const(Constant::of(dtype, value))
    }

    /// `function(self)`
    pub fn unary(self, function: Unary) -> RoutineExpr {
        RoutineExpr::Unary(UnaryFn(function), Box::new(self))
    }

    /// `function(self, other)`
    pub fn binary(self, function: BinaryFn, other: RoutineExpr) -> RoutineExpr {
        RoutineExpr::Binary(function, Box::new(self), Box::new(other))
    }

    /// `self < other`
    pub fn less(self, other: RoutineExpr) -> RoutineExpr {
        self.binary(BinaryFn::Less, other)
    }

    /// `self == other`
    pub fn equals(self, other: RoutineExpr) -> RoutineExpr {
        self.binary(BinaryFn::Equal, other)
    }

    /// Both hold.
    pub fn and(self, other: RoutineExpr) -> RoutineExpr {
        self.binary(BinaryFn::And, other)
    }

    /// One of them holds.
    pub fn or(self, other: RoutineExpr) -> RoutineExpr {
        self.binary(BinaryFn::Or, other)
    }

    /// The smaller one.
    pub fn min(self, other: RoutineExpr) -> RoutineExpr {
        self.binary(BinaryFn::Min, other)
    }

    /// The larger one.
    pub fn max(self, other: RoutineExpr) -> RoutineExpr {
        self.binary(BinaryFn::Max, other)
    }

    /// It does not hold.
    #[allow(clippy::should_implement_trait)]
    pub fn not(self) -> RoutineExpr {
        self.unary(Unary::Not)
    }

    /// As another type.
    pub fn cast(self, to: DType) -> RoutineExpr {
        RoutineExpr::Cast(to, Box::new(self))
    }

    /// `self ? then : otherwise`
    pub fn select(self, then: RoutineExpr, otherwise: RoutineExpr) -> RoutineExpr {
        RoutineExpr::Select(Box::new(self), Box::new(then), Box::new(otherwise))
    }

    /// Calls `visit` with this expression and all inside it.
    pub fn walk<'e>(&'e self, visit: &mut dyn FnMut(&'e RoutineExpr)) {
        visit(self);
        match self {
            RoutineExpr::Const(_) | RoutineExpr::Local(_) => {}
            RoutineExpr::Load(access) => access.index.iter().for_each(|i| i.walk(visit)),
            RoutineExpr::Unary(_, x) | RoutineExpr::Cast(_, x) => x.walk(visit),
            RoutineExpr::Binary(_, a, b) => [a, b].into_iter().for_each(|e| e.walk(visit)),
            RoutineExpr::Select(c, a, b) => [c, a, b].into_iter().for_each(|e| e.walk(visit)),
        }
    }

    /// Its type; `None` where types do not fit each other.
    pub fn dtype(&self, routine: &Routine) -> Option<DType> {
        match self {
            RoutineExpr::Const(c) => Some(c.dtype()),
            RoutineExpr::Local(local) => routine.locals.get(*local).copied(),
            RoutineExpr::Load(access) => routine.memory.get(access.memory).map(Memory::value_type),
            RoutineExpr::Unary(f, x) => f.0.result_dtype(x.dtype(routine)?),
            RoutineExpr::Binary(f, a, b) => f.result_dtype(a.dtype(routine)?, b.dtype(routine)?),
            RoutineExpr::Cast(to, x) => x.dtype(routine).map(|_| *to),
            RoutineExpr::Select(c, a, b) => {
                let (a, b) = (a.dtype(routine)?, b.dtype(routine)?);
                (c.dtype(routine)? == DType::Bool && a == b).then_some(a)
            }
        }
    }
}

macro_rules! operators {
    ($($operator:ident $method:ident),*) => {
        $(impl std::ops::$operator for RoutineExpr {
            type Output = RoutineExpr;
            fn $method(self, other: RoutineExpr) -> RoutineExpr {
                self.binary(BinaryFn::$operator, other)
            }
        })*
    };
}
operators!(Add add, Sub sub, Mul mul, Div div);
