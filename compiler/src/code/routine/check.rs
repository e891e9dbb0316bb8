//! Whether a routine is well formed: types fit, memory lies where it may, every loop ends.

use std::ops::Range;

use nnc_ir::DType;

use super::ranges::Ranges;
use super::{Access, Memory, MemoryUse, Routine, RoutineExpr, Stmt};
use crate::code::nest::scalar;

/// The most trips of one loop. No axis of what a program can address is longer.
pub const MOST_TRIPS: u64 = 1 << 32;

/// Why a routine is not well formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoutineError {
    /// Extents of units, or strides that are not one for each axis.
    #[error("the extents and strides of the routine do not fit each other")]
    Shape,
    /// Something names a local or a memory that there is not, or an index for each axis is not given.
    #[error("the routine names {0} that it does not have")]
    Name(&'static str),
    /// A unit's index, or that of a loop, is set by a statement.
    #[error("the routine sets local {0}, which is the index of a loop")]
    Index(usize),
    /// Types that do not fit each other.
    #[error("the {0} of the routine has no type that fits")]
    Type(&'static str),
    /// A function that generated code does not have for a type.
    #[error("{function} of {dtype} is not compiled")]
    Unsupported {
        /// The function.
        function: String,
        /// The type.
        dtype: DType,
    },
    /// An access that its memory's usage does not allow.
    #[error("the routine {0}")]
    Role(&'static str),
    /// No bound is known for the trips of a loop.
    #[error("a loop of the routine may take more than {MOST_TRIPS} trips")]
    Endless,
    /// Memory outside of every view.
    #[error("the routine touches bytes {bytes:?} of argument {arg}, outside of its view {allowed:?}")]
    OutOfBounds {
        /// Index into the base pointers.
        arg: usize,
        /// What it touches; `None` where that overflows or is empty.
        bytes: Option<Range<i64>>,
        /// What it may touch.
        allowed: Option<Range<i64>>,
    },
}

impl Routine {
    /// Checks that the routine is well formed and touches nothing but the `allowed` bytes of each argument.
    pub fn check(&self, allowed: &dyn Fn(usize) -> Option<Range<i64>>) -> Result<(), RoutineError> {
        let indexed = |(dtype, _): (&DType, &usize)| *dtype == DType::I64;
        let fits = self.locals.len() >= self.units.len() && self.locals.iter().zip(&self.units).all(indexed);
        if self.units.contains(&0) || !fits {
            return Err(RoutineError::Shape);
        }
        if let Some(&dtype) = self.locals.iter().find(|d| scalar::element_type(**d).is_none()) {
            return Err(RoutineError::Unsupported { function: "a local".into(), dtype });
        }
        self.memory.iter().try_for_each(|memory| check_memory(memory, allowed))?;
        let mut check = RoutineCheck { routine: self, ranges: Ranges::new(self), indices: Vec::new() };
        check.indices.extend(0..self.units.len());
        loops(&self.body, &mut check.indices);
        check.body(&self.body, &mut Vec::new())
    }
}

fn check_memory(memory: &Memory, allowed: &dyn Fn(usize) -> Option<Range<i64>>) -> Result<(), RoutineError> {
    if memory.shape.len() != memory.strides.len() {
        return Err(RoutineError::Shape);
    }
    let (bytes, allowed) = (memory.extent(), allowed(memory.arg));
    let inside = match (&bytes, &allowed) {
        (Some(bytes), Some(allowed)) => allowed.start <= bytes.start && bytes.end <= allowed.end,
        _ => false,
    };
    if inside { Ok(()) } else { Err(RoutineError::OutOfBounds { arg: memory.arg, bytes, allowed }) }
}

/// The locals that are indices of loops.
fn loops(body: &[Stmt], found: &mut Vec<usize>) {
    for stmt in body {
        match stmt {
            Stmt::Set { .. } | Stmt::Store { .. } => {}
            Stmt::For { local, body, .. } => {
                found.push(*local);
                loops(body, found);
            }
            Stmt::While { body, .. } => loops(body, found),
            Stmt::If { then, otherwise, .. } => [then, otherwise].into_iter().for_each(|b| loops(b, found)),
        }
    }
}

struct RoutineCheck<'a> {
    routine: &'a Routine,
    ranges: Ranges,
    /// Indices of units and of loops.
    indices: Vec<usize>,
}

impl RoutineCheck<'_> {
    /// `open` are the loops around.
    fn body(&mut self, body: &[Stmt], open: &mut Vec<usize>) -> Result<(), RoutineError> {
        body.iter().try_for_each(|stmt| self.stmt(stmt, open))
    }

    fn stmt(&mut self, stmt: &Stmt, open: &mut Vec<usize>) -> Result<(), RoutineError> {
        match stmt {
            Stmt::Set { local, value } => {
                let dtype = self.value(value)?;
                if self.indices.contains(local) {
                    return Err(RoutineError::Index(*local));
                }
                match self.routine.locals.get(*local) {
                    None => return Err(RoutineError::Name("a local")),
                    Some(&own) if own != dtype => return Err(RoutineError::Type("value of a local")),
                    Some(_) => {}
                }
                self.ranges.set(*local, &self.ranges.of(value, self.routine));
            }
            Stmt::Store { to, value } => {
                let dtype = self.value(value)?;
                to.index.iter().try_for_each(|i| self.value(i).map(|_| ()))?;
                let memory = self.access(to)?;
                if memory.usage == MemoryUse::Read {
                    return Err(RoutineError::Role("stores to what it only reads"));
                }
                if memory.value_type() != dtype {
                    return Err(RoutineError::Type("stored value"));
                }
            }
            Stmt::For { local, low, high, body } => {
                let types = (self.value(low)?, self.value(high)?, self.routine.locals.get(*local));
                if types != (DType::I64, DType::I64, Some(&DType::I64)) {
                    return Err(RoutineError::Type("index of a loop"));
                }
                if *local < self.routine.units.len() || open.contains(local) {
                    return Err(RoutineError::Index(*local));
                }
                let (low, high) = (self.ranges.of(low, self.routine), self.ranges.of(high, self.routine));
                if high.end() - low.start() > MOST_TRIPS.into() {
                    return Err(RoutineError::Endless);
                }
                self.ranges.entered(*local, &low, &high);
                open.push(*local);
                self.body(body, open)?;
                open.pop();
                self.ranges.left(self.routine, *local);
            }
            Stmt::While { condition, most, body } => {
                self.condition(condition)?;
                if *most > MOST_TRIPS {
                    return Err(RoutineError::Endless);
                }
                self.body(body, open)?;
            }
            Stmt::If { condition, then, otherwise } => {
                self.condition(condition)?;
                self.body(then, open)?;
                self.body(otherwise, open)?;
            }
        }
        Ok(())
    }

    fn condition(&self, e: &RoutineExpr) -> Result<(), RoutineError> {
        match self.value(e)? {
            DType::Bool => Ok(()),
            _ => Err(RoutineError::Type("condition")),
        }
    }

    /// The type of an expression of which all parts are sound.
    fn value(&self, e: &RoutineExpr) -> Result<DType, RoutineError> {
        let mut result = Ok(());
        e.walk(&mut |e| {
            if result.is_ok() {
                result = self.part(e);
            }
        });
        result?;
        e.dtype(self.routine).ok_or(RoutineError::Type("expression"))
    }

    fn part(&self, e: &RoutineExpr) -> Result<(), RoutineError> {
        let dtype = |e: &RoutineExpr| e.dtype(self.routine);
        let (function, types) = match e {
            RoutineExpr::Local(local) if self.routine.locals.get(*local).is_none() => {
                return Err(RoutineError::Name("a local"));
            }
            RoutineExpr::Load(access) => {
                let usage = self.access(access)?.usage;
                return match usage == MemoryUse::Write && !self.stores(access.memory) {
                    true => Err(RoutineError::Role("reads what nothing writes")),
                    false => Ok(()),
                };
            }
            RoutineExpr::Unary(f, x) => match dtype(x) {
                Some(t) if !scalar::supports_unary(f.0, t) => {
                    return Err(RoutineError::Unsupported { function: format!("{:?}", f.0), dtype: t });
                }
                _ => return Ok(()),
            },
            RoutineExpr::Binary(f, x, y) => (format!("{f:?}"), [dtype(x), dtype(y)]),
            RoutineExpr::Cast(to, x) => ("Cast".to_owned(), [dtype(x), Some(*to)]),
            RoutineExpr::Const(c) => ("a constant".to_owned(), [Some(c.dtype()), None]),
            _ => return Ok(()),
        };
        match types.into_iter().flatten().find(|&t| scalar::element_type(t).is_none()) {
            Some(dtype) => Err(RoutineError::Unsupported { function, dtype }),
            None => Ok(()),
        }
    }

    fn access(&self, access: &Access) -> Result<&Memory, RoutineError> {
        let memory = self.routine.memory.get(access.memory).ok_or(RoutineError::Name("a memory"))?;
        if access.index.len() != memory.shape.len() {
            return Err(RoutineError::Name("an axis"));
        }
        if access.index.iter().any(|i| i.dtype(self.routine) != Some(DType::I64)) {
            return Err(RoutineError::Type("index"));
        }
        Ok(memory)
    }

    /// Whether some statement stores to a memory, or to the same bytes as elements of another type.
    fn stores(&self, memory: usize) -> bool {
        fn any(body: &[Stmt], of: &dyn Fn(usize) -> bool) -> bool {
            body.iter().any(|stmt| match stmt {
                Stmt::Set { .. } => false,
                Stmt::Store { to, .. } => of(to.memory),
                Stmt::For { body, .. } | Stmt::While { body, .. } => any(body, of),
                Stmt::If { then, otherwise, .. } => any(then, of) || any(otherwise, of),
            })
        }
        let place = |memory: usize| self.routine.memory.get(memory).map(|m| (m.arg, m.extent()));
        any(&self.routine.body, &|stored| place(stored) == place(memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `memory[unit] = 1` for each of four units.
    fn fill() -> Routine {
        let to = Access { memory: 0, index: vec![RoutineExpr::Local(0)] };
        Routine {
            units: vec![4],
            locals: vec![DType::I64, DType::I64],
            memory: vec![Memory {
                arg: 0,
                offset: 8,
                dtype: DType::F32,
                shape: vec![4],
                strides: vec![4],
                usage: MemoryUse::Write,
            }],
            body: vec![Stmt::Store { to, value: RoutineExpr::constant(DType::F32, 1.0) }],
        }
    }

    fn checked(routine: &Routine) -> Result<(), RoutineError> {
        routine.check(&|arg| (arg == 0).then_some(8..24))
    }

    #[test]
    fn memory_must_lie_inside_of_its_view() {
        assert_eq!(checked(&fill()), Ok(()));
        let changes: [fn(&mut Memory); 4] =
            [|m| m.offset = 12, |m| m.shape = vec![5], |m| m.strides = vec![8], |m| m.arg = 1];
        for change in changes {
            let mut routine = fill();
            change(&mut routine.memory[0]);
            assert!(matches!(checked(&routine), Err(RoutineError::OutOfBounds { .. })), "{routine:?}");
        }
        let mut empty = fill();
        empty.memory[0].shape = vec![0];
        assert!(matches!(checked(&empty), Err(RoutineError::OutOfBounds { bytes: None, .. })));
    }

    #[test]
    fn types_must_fit() {
        let mut routine = fill();
        routine.body = vec![Stmt::Set { local: 1, value: RoutineExpr::bool(true) }];
        assert_eq!(checked(&routine), Err(RoutineError::Type("value of a local")));
        let to = Access { memory: 0, index: vec![RoutineExpr::constant(DType::I32, 0.0)] };
        routine.body = vec![Stmt::Store { to, value: RoutineExpr::constant(DType::F32, 1.0) }];
        assert_eq!(checked(&routine), Err(RoutineError::Type("index")));
        let to = Access { memory: 0, index: Vec::new() };
        routine.body = vec![Stmt::Store { to, value: RoutineExpr::constant(DType::F32, 1.0) }];
        assert_eq!(checked(&routine), Err(RoutineError::Name("an axis")));
    }

    #[test]
    fn loops_must_end_and_keep_their_indices() {
        let mut routine = fill();
        let lasting =
            |high: RoutineExpr, body| vec![Stmt::For { local: 1, low: RoutineExpr::int(0), high, body }];
        let element = Access { memory: 0, index: vec![RoutineExpr::int(0)] };
        let data = || RoutineExpr::Load(element.clone()).cast(DType::I64);
        routine.memory[0].usage = MemoryUse::Update;
        routine.body = lasting(data(), Vec::new());
        assert_eq!(checked(&routine), Err(RoutineError::Endless));
        routine.body = lasting(data().min(RoutineExpr::int(100)), Vec::new());
        assert_eq!(checked(&routine), Ok(()));
        routine.body = lasting(RoutineExpr::int(9), vec![Stmt::Set { local: 1, value: RoutineExpr::int(0) }]);
        assert_eq!(checked(&routine), Err(RoutineError::Index(1)));
        routine.body = lasting(RoutineExpr::int(9), lasting(RoutineExpr::int(9), Vec::new()));
        assert_eq!(checked(&routine), Err(RoutineError::Index(1)));
    }

    #[test]
    fn what_is_only_read_is_not_written() {
        let mut routine = fill();
        routine.memory[0].usage = MemoryUse::Read;
        assert_eq!(checked(&routine), Err(RoutineError::Role("stores to what it only reads")));
    }

    #[test]
    fn what_is_read_behind_writing_is_written_under_one_name_or_another() {
        let mut routine = fill();
        let pairs =
            Memory { dtype: DType::I64, shape: vec![2], strides: vec![8], ..routine.memory[0].clone() };
        routine.memory.push(pairs);
        let pair = RoutineExpr::Load(Access { memory: 1, index: vec![RoutineExpr::int(0)] });
        routine.body.push(Stmt::Set { local: 1, value: pair });
        assert_eq!(checked(&routine), Ok(()));
        routine.memory[1].shape = vec![1];
        assert_eq!(checked(&routine), Err(RoutineError::Role("reads what nothing writes")));
        routine.memory[1].usage = MemoryUse::Read;
        assert_eq!(checked(&routine), Ok(()));
    }
}
