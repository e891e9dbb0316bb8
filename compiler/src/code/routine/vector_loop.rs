//! Innermost loops of a routine whose elements lie side by side: those go in vectors of 128 bits.
//!
//! ```text
//!   l0 = indices[i]                          where to, once
//!   for j in 0..64: y[i, j] = x[l0, j]       4 vectors at a time, a vector, then single elements
//! ```
//!
//! A loop is one if it only sets and stores, every element that it touches is next to that of the step before, and what it computes
//! of one step nothing asks for in another one. Indices have to be known to lie inside as far as they depend on the step; the others
//! are checked as they always are.

use std::collections::BTreeMap;

use nnc_ir::DType;
use nnc_ir::op::elementwise::BinaryFn;

use super::ranges::Ranges;
use super::{Access, Memory, Routine, RoutineExpr, Stmt};
use crate::code::nest::{Constant, scalar};

/// An innermost loop in vectors.
pub(super) struct VectorLoop {
    /// The type of what goes in vectors.
    pub(super) dtype: DType,
    /// The loop's index.
    index: usize,
    /// The locals that it sets: how much each grows from step to step, or that it is a vector.
    inner: BTreeMap<usize, Option<i64>>,
}

impl VectorLoop {
    /// The loop over `index` with this body, if it is one. `ranges` are those inside of the loop.
    pub(super) fn of(routine: &Routine, ranges: &Ranges, index: usize, body: &[Stmt]) -> Option<VectorLoop> {
        let stored = body.iter().find_map(|stmt| match stmt {
            Stmt::Store { to, .. } => routine.memory.get(to.memory),
            _ => None,
        })?;
        let mut line = VectorLoop { dtype: stored.value_type(), index, inner: BTreeMap::new() };
        let mut ranges = ranges.clone();
        for (n, stmt) in body.iter().enumerate() {
            // What a step carries on to the next one is named before it is set.
            let carried =
                |later: &Stmt| matches!(later, Stmt::Set { local, .. } if uses(&body[n..=n], *local) > 0);
            if body[n..].iter().any(carried) {
                return None;
            }
            match stmt {
                Stmt::Set { local, value } => {
                    let once = uses(&routine.body, *local) == uses(body, *local);
                    let set = ranges.times_set(*local) == 1 && !line.inner.contains_key(local);
                    let growth = line.growth(value);
                    if !once || !set || (growth.is_none() && !line.is_vector(routine, &ranges, value)) {
                        return None;
                    }
                    line.inner.insert(*local, growth);
                    ranges.set(*local, &ranges.of(value, routine));
                }
                Stmt::Store { to, value } => {
                    let fits = line.step(routine, &ranges, to)? == element(routine.memory.get(to.memory)?);
                    if !fits || !line.is_vector(routine, &ranges, value) {
                        return None;
                    }
                }
                Stmt::For { .. } | Stmt::While { .. } | Stmt::If { .. } => return None,
            }
        }
        line.keeps_apart(body).then_some(line)
    }

    /// Elements of a vector.
    pub(super) fn lanes(&self) -> i64 {
        16 / self.dtype.bytes() as i64
    }

    /// Whether a value is a vector, and not one number for all.
    pub(super) fn varies(&self, e: &RoutineExpr) -> bool {
        let mut varies = false;
        e.walk(&mut |e| {
            varies |= matches!(e, RoutineExpr::Local(l) if *l == self.index || self.inner.contains_key(l))
        });
        varies
    }

    /// Whether a local is a number that grows evenly.
    pub(super) fn is_even(&self, local: usize) -> bool {
        matches!(self.inner.get(&local), Some(Some(_)))
    }

    /// How much an integer grows from step to step, if it does so evenly.
    fn growth(&self, e: &RoutineExpr) -> Option<i64> {
        match e {
            RoutineExpr::Local(local) if *local == self.index => Some(1),
            RoutineExpr::Local(local) => self.inner.get(local).copied().unwrap_or(Some(0)),
            RoutineExpr::Const(Constant::Int(DType::I64, _)) => Some(0),
            RoutineExpr::Binary(BinaryFn::Add, a, b) => self.growth(a)?.checked_add(self.growth(b)?),
            RoutineExpr::Binary(BinaryFn::Sub, a, b) => self.growth(a)?.checked_sub(self.growth(b)?),
            RoutineExpr::Binary(BinaryFn::Mul, a, b) => match (&**a, &**b) {
                (RoutineExpr::Const(Constant::Int(DType::I64, k)), e)
                | (e, RoutineExpr::Const(Constant::Int(DType::I64, k))) => self.growth(e)?.checked_mul(*k),
                _ => None,
            },
            _ => None,
        }
    }

    /// Bytes from an element that is touched to that of the next step; `None` where that is not the same everywhere.
    fn step(&self, routine: &Routine, ranges: &Ranges, access: &Access) -> Option<i64> {
        let memory = routine.memory.get(access.memory)?;
        let mut step = 0i64;
        for ((index, &stride), &extent) in access.index.iter().zip(&memory.strides).zip(&memory.shape) {
            if !self.varies(index) {
                continue;
            }
            let span = ranges.of(index, routine);
            if *span.start() < 0 || *span.end() >= extent as i128 {
                return None;
            }
            step = step.checked_add(self.growth(index)?.checked_mul(stride)?)?;
        }
        Some(step)
    }

    /// Whether a value can be computed in vectors.
    fn is_vector(&self, routine: &Routine, ranges: &Ranges, e: &RoutineExpr) -> bool {
        let is_vector = |e: &RoutineExpr| self.is_vector(routine, ranges, e);
        let floats = self.dtype == DType::F32;
        if !self.varies(e) {
            return e.dtype(routine) == Some(self.dtype);
        }
        match e {
            RoutineExpr::Local(local) => self.inner.get(local) == Some(&None),
            RoutineExpr::Load(from) => routine.memory.get(from.memory).is_some_and(|memory| {
                memory.value_type() == self.dtype && self.step(routine, ranges, from) == Some(element(memory))
            }),
            RoutineExpr::Unary(f, x) => {
                floats
                    && is_vector(x)
                    && scalar::has_vector_unary(f.0)
                    && e.dtype(routine) == Some(DType::F32)
            }
            RoutineExpr::Binary(f, a, b) => {
                floats
                    && is_vector(a)
                    && is_vector(b)
                    && scalar::has_vector_binary(*f)
                    && e.dtype(routine) == Some(DType::F32)
            }
            RoutineExpr::Select(c, a, b) => {
                self.is_condition(routine, ranges, c) && is_vector(a) && is_vector(b)
            }
            RoutineExpr::Const(_) | RoutineExpr::Cast(..) => false,
        }
    }

    /// Whether a condition can be computed in vectors, as a mask: comparisons of floats, and what is made of them.
    fn is_condition(&self, routine: &Routine, ranges: &Ranges, e: &RoutineExpr) -> bool {
        use BinaryFn::*;
        if !self.varies(e) {
            return e.dtype(routine) == Some(DType::Bool);
        }
        match e {
            RoutineExpr::Binary(And | Or, a, b) => {
                [a, b].into_iter().all(|e| self.is_condition(routine, ranges, e))
            }
            RoutineExpr::Binary(Equal | Less | LessOrEqual | Greater | GreaterOrEqual, a, b) => {
                self.dtype == DType::F32 && [a, b].into_iter().all(|e| self.is_vector(routine, ranges, e))
            }
            _ => false,
        }
    }

    /// Whether no step reads what another one stores: what is stored to is read at the same place, if at all.
    fn keeps_apart(&self, body: &[Stmt]) -> bool {
        let mut stored: Vec<&Access> = Vec::new();
        let mut loaded: Vec<&Access> = Vec::new();
        for stmt in body {
            match stmt {
                Stmt::Set { value, .. } => loads(value, &mut loaded),
                Stmt::Store { to, value } => {
                    loads(value, &mut loaded);
                    to.index.iter().for_each(|i| loads(i, &mut loaded));
                    stored.push(to);
                }
                Stmt::For { .. } | Stmt::While { .. } | Stmt::If { .. } => {}
            }
        }
        let apart = |b: &&Access| stored.iter().all(|a| a.memory != b.memory || a == b);
        stored.iter().all(apart) && loaded.iter().all(apart)
    }
}

/// Bytes between neighbours.
fn element(memory: &Memory) -> i64 {
    memory.dtype.bytes() as i64
}

fn loads<'e>(e: &'e RoutineExpr, found: &mut Vec<&'e Access>) {
    e.walk(&mut |e| {
        if let RoutineExpr::Load(access) = e {
            found.push(access);
        }
    });
}

/// How often some statements name a local's value.
fn uses(body: &[Stmt], local: usize) -> usize {
    let of = |e: &RoutineExpr| {
        let mut count = 0;
        e.walk(&mut |e| count += usize::from(*e == RoutineExpr::Local(local)));
        count
    };
    let each = |stmt: &Stmt| match stmt {
        Stmt::Set { value, .. } => of(value),
        Stmt::Store { to, value } => of(value) + to.index.iter().map(of).sum::<usize>(),
        Stmt::For { low, high, body, .. } => of(low) + of(high) + uses(body, local),
        Stmt::While { condition, body, .. } => of(condition) + uses(body, local),
        Stmt::If { condition, then, otherwise } => of(condition) + uses(then, local) + uses(otherwise, local),
    };
    body.iter().map(each).sum()
}
