//! Which values an integer expression can have, as far as the program alone tells.
//!
//! An index that provably lies inside of its axis needs no check. The index of a loop lies between the bounds of the loop, a
//! local that one statement sets has the range of that statement's value, and sums, products, quotients and clamps of what is known
//! are known. Of everything else, any value of its type is assumed.

use std::ops::RangeInclusive;

use nnc_ir::DType;
use nnc_ir::op::elementwise::BinaryFn;

use super::{Routine, RoutineExpr, Stmt};
use crate::code::nest::Constant;

/// Least and largest value.
pub type Span = RangeInclusive<i128>;

/// What is known of the locals at some place of a routine.
#[derive(Clone, Debug)]
pub struct Ranges {
    locals: Vec<Span>,
    /// How many statements set each local.
    set: Vec<usize>,
}

/// All values of a type; for floats, of any integer.
pub fn all(dtype: DType) -> Span {
    let bits = 8 * dtype.bytes() as u32;
    match dtype {
        DType::Bool => 0..=1,
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => 0..=(1 << bits) - 1,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => -(1 << (bits - 1))..=(1 << (bits - 1)) - 1,
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => i64::MIN.into()..=u64::MAX.into(),
    }
}

impl Ranges {
    /// At the start of a routine.
    pub fn new(routine: &Routine) -> Ranges {
        let mut set = vec![0; routine.locals.len()];
        count(&routine.body, &mut set);
        let mut locals: Vec<Span> = routine.locals.iter().map(|&dtype| all(dtype)).collect();
        for (local, &extent) in locals.iter_mut().zip(&routine.units) {
            *local = 0..=extent.saturating_sub(1) as i128;
        }
        Ranges { locals, set }
    }

    /// How many statements set a local.
    pub fn times_set(&self, local: usize) -> usize {
        self.set.get(local).copied().unwrap_or(0)
    }

    /// Behind the head of a loop whose bounds have these ranges.
    pub fn entered(&mut self, local: usize, low: &Span, high: &Span) {
        if let Some(span) = self.locals.get_mut(local) {
            // The body runs only where there is an index.
            *span = *low.start()..=(*high.end() - 1).max(*low.start());
        }
    }

    /// Behind a loop.
    pub fn left(&mut self, routine: &Routine, local: usize) {
        if let (Some(span), Some(&dtype)) = (self.locals.get_mut(local), routine.locals.get(local)) {
            *span = all(dtype);
        }
    }

    /// Behind a statement that sets a local to a value of some range.
    pub fn set(&mut self, local: usize, value: &Span) {
        if let (Some(span), Some(1)) = (self.locals.get_mut(local), self.set.get(local)) {
            // It is 0 until then.
            *span = (*value.start()).min(0)..=(*value.end()).max(0);
        }
    }

    /// The values that an expression can have. What leaves its type wraps around, to any value.
    pub fn of(&self, e: &RoutineExpr, routine: &Routine) -> Span {
        let Some(dtype) = e.dtype(routine) else { return all(DType::F64) };
        let whole = all(dtype);
        let span = match e {
            RoutineExpr::Const(Constant::Int(_, v)) => i128::from(*v)..=i128::from(*v),
            RoutineExpr::Local(local) => self.locals.get(*local).cloned().unwrap_or_else(|| whole.clone()),
            RoutineExpr::Select(_, a, b) => hull(&self.of(a, routine), &self.of(b, routine)),
            RoutineExpr::Cast(_, x)
                if x.dtype(routine).is_some_and(|t| !t.is_float()) && dtype != DType::Bool =>
            {
                self.of(x, routine)
            }
            RoutineExpr::Binary(f, a, b) => combined(*f, &self.of(a, routine), &self.of(b, routine)),
            _ => whole.clone(),
        };
        let inside = whole.contains(span.start()) && whole.contains(span.end());
        if inside && !dtype.is_float() { span } else { whole }
    }
}

fn hull(a: &Span, b: &Span) -> Span {
    *a.start().min(b.start())..=*a.end().max(b.end())
}

/// The results of a function; an empty promise (wider than any type) where nothing is known.
fn combined(function: BinaryFn, a: &Span, b: &Span) -> Span {
    let nothing = i128::MIN..=i128::MAX;
    let corners = |f: &dyn Fn(i128, i128) -> Option<i128>| -> Option<Span> {
        let all = [(a.start(), b.start()), (a.start(), b.end()), (a.end(), b.start()), (a.end(), b.end())];
        let all: Vec<i128> = all.iter().map(|(x, y)| f(**x, **y)).collect::<Option<_>>()?;
        Some(*all.iter().min()?..=*all.iter().max()?)
    };
    let found = match function {
        BinaryFn::Add => corners(&i128::checked_add),
        BinaryFn::Sub => corners(&i128::checked_sub),
        BinaryFn::Mul => corners(&i128::checked_mul),
        BinaryFn::Min => corners(&|x, y| Some(x.min(y))),
        BinaryFn::Max => corners(&|x, y| Some(x.max(y))),
        BinaryFn::Div if *b.start() > 0 => corners(&i128::checked_div),
        BinaryFn::Mod { .. } if *b.start() > 0 && *a.start() >= 0 => Some(0..=(*b.end() - 1).min(*a.end())),
        _ => None,
    };
    found.unwrap_or(nothing)
}

/// Counts the statements that set each local. The head of a loop is none: see [`Ranges::entered`].
fn count(body: &[Stmt], set: &mut [usize]) {
    for stmt in body {
        match stmt {
            Stmt::Set { local, .. } => {
                if let Some(n) = set.get_mut(*local) {
                    *n += 1;
                }
            }
            Stmt::Store { .. } => {}
            Stmt::For { body, .. } | Stmt::While { body, .. } => count(body, set),
            Stmt::If { then, otherwise, .. } => [then, otherwise].into_iter().for_each(|b| count(b, set)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routine() -> Routine {
        let (units, locals) = (vec![4], vec![DType::I64, DType::I32]);
        Routine { units, locals, memory: Vec::new(), body: Vec::new() }
    }

    #[test]
    fn sums_and_products_of_loop_indices_are_known() {
        let routine = routine();
        let ranges = Ranges::new(&routine);
        let unit = || RoutineExpr::Local(0);
        assert_eq!(ranges.of(&(unit() * RoutineExpr::int(3) - RoutineExpr::int(2)), &routine), -2..=7);
        assert_eq!(ranges.of(&(unit() * unit()), &routine), 0..=9);
        assert_eq!(ranges.of(&(unit() / RoutineExpr::int(2)).max(RoutineExpr::int(1)), &routine), 1..=1);
    }

    #[test]
    fn data_may_be_anything_until_they_are_clamped() {
        let routine = routine();
        let ranges = Ranges::new(&routine);
        let data = || RoutineExpr::Local(1);
        assert_eq!(ranges.of(&data(), &routine), i32::MIN.into()..=i32::MAX.into());
        assert_eq!(
            ranges.of(&data().cast(DType::I64).max(RoutineExpr::int(0)), &routine),
            0..=i32::MAX.into()
        );
        let wrapped = data().cast(DType::I64) * RoutineExpr::int(i64::MAX);
        assert_eq!(ranges.of(&wrapped, &routine), all(DType::I64));
    }

    #[test]
    fn a_local_that_is_set_twice_may_be_anything() {
        let mut routine = routine();
        let set = || Stmt::Set { local: 1, value: RoutineExpr::constant(DType::I32, 5.0) };
        routine.body = vec![set()];
        let mut ranges = Ranges::new(&routine);
        ranges.set(1, &(5..=5));
        assert_eq!(ranges.of(&RoutineExpr::Local(1), &routine), 0..=5, "0 until then");
        routine.body.push(set());
        let mut ranges = Ranges::new(&routine);
        ranges.set(1, &(5..=5));
        assert_eq!(ranges.of(&RoutineExpr::Local(1), &routine), all(DType::I32));
    }
}
