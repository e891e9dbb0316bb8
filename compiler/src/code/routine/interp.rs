//! Runs a routine without compiling it, on the operators of the evaluator: what the emitter is tested against.

use std::ops::Range;

use nnc_ir::op::{Binary, Cast};
use nnc_ir::{DType, Op, Tensor, TensorType};

use super::{Access, Routine, RoutineExpr, Stmt};
use crate::code::nest::Constant;

/// Runs some units. `memory` holds the bytes from each base pointer.
///
/// # Panics
///
/// The routine has not passed [`Routine::check`] for this memory, or it touches what lies outside.
pub fn run(routine: &Routine, memory: &mut [Vec<u8>], units: Range<usize>) {
    for unit in units {
        let mut locals: Vec<Tensor> = routine.locals.iter().map(|&d| scalar(d, 0)).collect();
        let mut left = unit;
        for (local, &extent) in locals.iter_mut().zip(&routine.units).rev() {
            *local = scalar(DType::I64, (left % extent) as i64);
            left /= extent;
        }
        Interpreter { routine, memory, locals }.body(&routine.body);
    }
}

struct Interpreter<'a> {
    routine: &'a Routine,
    memory: &'a mut [Vec<u8>],
    locals: Vec<Tensor>,
}

/// A scalar of an integer type, or 0 of any type.
fn scalar(dtype: DType, v: i64) -> Tensor {
    of_bytes(dtype, &v.to_le_bytes()[..dtype.bytes()])
}

fn of_bytes(dtype: DType, bytes: &[u8]) -> Tensor {
    Tensor::from_bytes(TensorType::new(dtype, []), bytes.to_vec()).expect("as many bytes as an element has")
}

fn applied(op: impl Into<Op>, operands: &[&Tensor]) -> Tensor {
    let operands: Vec<Option<&Tensor>> = operands.iter().map(|t| Some(*t)).collect();
    op.into().eval(&operands).expect("checked types").remove(0)
}

fn int(v: &Tensor) -> i64 {
    v.elems::<i64>().expect("a checked index")[0]
}

fn holds(v: &Tensor) -> bool {
    v.bytes()[0] != 0
}

impl Interpreter<'_> {
    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Set { local, value } => self.locals[*local] = self.value(value),
                Stmt::Store { to, value } => self.store(to, value),
                Stmt::For { local, low, high, body } => {
                    for i in int(&self.value(low))..int(&self.value(high)) {
                        self.locals[*local] = scalar(DType::I64, i);
                        self.body(body);
                    }
                }
                Stmt::While { condition, most, body } => {
                    let mut trips = 0;
                    while trips < *most && holds(&self.value(condition)) {
                        trips += 1;
                        self.body(body);
                    }
                }
                Stmt::If { condition, then, otherwise } => {
                    let chosen = if holds(&self.value(condition)) { then } else { otherwise };
                    self.body(chosen);
                }
            }
        }
    }

    fn value(&self, e: &RoutineExpr) -> Tensor {
        match e {
            RoutineExpr::Const(Constant::F32(bits)) => of_bytes(DType::F32, &bits.to_le_bytes()),
            RoutineExpr::Const(Constant::F64(bits)) => of_bytes(DType::F64, &bits.to_le_bytes()),
            RoutineExpr::Const(Constant::Int(dtype, v)) => scalar(*dtype, *v),
            RoutineExpr::Local(local) => self.locals[*local].clone(),
            RoutineExpr::Load(from) => self.load(from),
            RoutineExpr::Unary(f, x) => applied(f.0, &[&self.value(x)]),
            RoutineExpr::Binary(function, x, y) => {
                let op = Binary { function: *function, activation: None };
                applied(op, &[&self.value(x), &self.value(y)])
            }
            RoutineExpr::Cast(to, x) => applied(Cast { to: *to }, &[&self.value(x)]),
            RoutineExpr::Select(c, x, y) => self.value(if holds(&self.value(c)) { x } else { y }),
        }
    }

    fn load(&self, from: &Access) -> Tensor {
        let memory = &self.routine.memory[from.memory];
        let index: Vec<i64> = from
            .index
            .iter()
            .zip(&memory.shape)
            .map(|(i, &extent)| int(&self.value(i)).clamp(0, extent as i64 - 1))
            .collect();
        let at = self.place(from.memory, &index);
        let element = of_bytes(memory.dtype, &self.memory[memory.arg][at]);
        if memory.value_type() == memory.dtype {
            element
        } else {
            applied(Cast { to: memory.value_type() }, &[&element])
        }
    }

    fn store(&mut self, to: &Access, value: &RoutineExpr) {
        let memory = &self.routine.memory[to.memory];
        let value = self.value(value);
        let index: Vec<i64> = to.index.iter().map(|i| int(&self.value(i))).collect();
        if index.iter().zip(&memory.shape).any(|(&i, &extent)| !(0..extent as i64).contains(&i)) {
            return;
        }
        let at = self.place(to.memory, &index);
        let value = if memory.value_type() == memory.dtype {
            value
        } else {
            applied(Cast { to: memory.dtype }, &[&value])
        };
        self.memory[memory.arg][at].copy_from_slice(value.bytes());
    }

    fn place(&self, memory: usize, index: &[i64]) -> Range<usize> {
        let memory = &self.routine.memory[memory];
        let moved: i64 = index.iter().zip(&memory.strides).map(|(i, stride)| i * stride).sum();
        let at = usize::try_from(memory.offset + moved).expect("checked memory");
        at..at + memory.dtype.bytes()
    }
}
