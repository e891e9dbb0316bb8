//! From a [`Routine`] to a layer function in Cranelift IR.
//!
//! Locals are variables of the function builder, memory has its base address computed at the start, statements become blocks as they
//! are written. An index that is not known to lie inside ([`Ranges`]) is clamped before a load, and a store with such an index
//! stands behind a branch.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    ConstantData, Endianness, Function, InstBuilder, MemFlagsData, Type, Value, types,
};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use cranelift_module::{FuncId, Module, ModuleError};
use nnc_ir::DType;
use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;

use super::ranges::Ranges;
use super::vector_loop::VectorLoop;
use super::{Access, Memory, Routine, RoutineExpr, Stmt};
use crate::code::half;
use crate::code::nest::emit::LayerArgs;
use crate::code::nest::{self, Constant, scalar};

/// Defines the layer function of a routine in a module. The routine must have passed [`Routine::check`].
pub fn emit(routine: &Routine, module: &mut dyn Module, name: &str) -> Result<FuncId, Box<ModuleError>> {
    nest::emit::define(module, name, |function, context, config| build(routine, function, context, config))
}

/// Fills in the body of a layer function. The routine must have passed [`Routine::check`].
pub fn build(
    routine: &Routine,
    function: &mut Function,
    context: &mut FunctionBuilderContext,
    config: TargetFrontendConfig,
) {
    let mut b = FunctionBuilder::new(function, context);
    let LayerArgs { bases, begin, end, .. } = LayerArgs::enter(&mut b);
    let locals = routine.locals.iter().map(|&dtype| b.declare_var(element(dtype))).collect();
    let mut emitter =
        RoutineEmitter { routine, b: &mut b, locals, at: Vec::new(), ranges: Ranges::new(routine) };
    emitter.at = emitter.base_addresses(bases);
    emitter.units(begin, end);
    b.ins().return_(&[]);
    b.finalize(config);
}

/// The type of a value. Half floats are none: the check refused them.
fn element(dtype: DType) -> cranelift_codegen::ir::Type {
    scalar::element_type(dtype).unwrap_or(types::I16)
}

/// The vector of 128 bits of values.
fn vector_type(dtype: DType) -> Type {
    match dtype {
        DType::F32 => types::F32X4,
        DType::F64 => types::F64X2,
        dtype => element(dtype).by(16 / dtype.bytes() as u32).unwrap_or(types::I8X16),
    }
}

struct RoutineEmitter<'a, 'f> {
    routine: &'a Routine,
    b: &'a mut FunctionBuilder<'f>,
    locals: Vec<Variable>,
    /// The address of the first element of each memory.
    at: Vec<Value>,
    ranges: Ranges,
}

impl RoutineEmitter<'_, '_> {
    fn base_addresses(&mut self, bases: Value) -> Vec<Value> {
        let flags = MemFlagsData::trusted().with_readonly();
        let address = |memory: &Memory| {
            let base = self.b.ins().load(types::I64, flags, bases, (memory.arg * 8) as i32);
            if memory.offset == 0 { base } else { self.b.ins().iadd_imm_s(base, memory.offset) }
        };
        self.routine.memory.iter().map(address).collect()
    }

    fn int(&mut self, v: i64) -> Value {
        self.b.ins().iconst(types::I64, v)
    }

    /// `for unit in begin..end`, with the unit's indices in the first locals and 0 in the others.
    fn units(&mut self, begin: Value, end: Value) {
        let routine = self.routine;
        let counter = self.b.declare_var(types::I64);
        self.counted(counter, begin, end, |e| {
            let mut left = e.b.use_var(counter);
            for (axis, &extent) in routine.units.iter().enumerate().rev() {
                let index = if axis == 0 {
                    left
                } else {
                    let divisor = e.int(extent as i64);
                    let index = e.b.ins().urem(left, divisor);
                    left = e.b.ins().udiv(left, divisor);
                    index
                };
                e.b.def_var(e.locals[axis], index);
            }
            for local in routine.units.len()..routine.locals.len() {
                let zero = scalar::constant(e.b, Constant::of(routine.locals[local], 0.0), false);
                e.b.def_var(e.locals[local], zero);
            }
            e.body(&routine.body);
        });
    }

    /// `for index in low..high`
    fn counted(&mut self, index: Variable, low: Value, high: Value, body: impl FnOnce(&mut Self)) {
        self.b.def_var(index, low);
        self.repeated(
            |e| {
                let i = e.b.use_var(index);
                e.b.ins().icmp(IntCC::SignedLessThan, i, high)
            },
            |e| {
                body(e);
                let i = e.b.use_var(index);
                let next = e.b.ins().iadd_imm_s(i, 1);
                e.b.def_var(index, next);
            },
        );
    }

    /// `while condition { body }`. The condition is written a second time behind the body, so that the block that begins the loop
    /// dominates all of it: what does not change in the loop leaves it only then.
    fn repeated(&mut self, condition: impl Fn(&mut Self) -> Value, body: impl FnOnce(&mut Self)) {
        let (inside, done) = (self.b.create_block(), self.b.create_block());
        let any = condition(self);
        self.b.ins().brif(any, inside, &[], done, &[]);
        self.b.switch_to_block(inside);
        body(self);
        let more = condition(self);
        self.b.ins().brif(more, inside, &[], done, &[]);
        self.b.seal_block(inside);
        self.b.switch_to_block(done);
        self.b.seal_block(done);
    }

    /// `if condition { then } else { otherwise }`
    fn chosen(&mut self, condition: Value, then: impl FnOnce(&mut Self), otherwise: impl FnOnce(&mut Self)) {
        let (yes, no, done) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, yes, &[], no, &[]);
        self.b.switch_to_block(yes);
        self.b.seal_block(yes);
        then(self);
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(no);
        self.b.seal_block(no);
        otherwise(self);
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(done);
        self.b.seal_block(done);
    }

    fn body(&mut self, body: &[Stmt]) {
        body.iter().for_each(|stmt| self.stmt(stmt));
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Set { local, value } => {
                let v = self.value(value);
                self.b.def_var(self.locals[*local], v);
                self.ranges.set(*local, &self.ranges.of(value, self.routine));
            }
            Stmt::Store { to, value } => {
                let v = self.value(value);
                self.store(to, v);
            }
            Stmt::For { local, low, high, body } => {
                let (first, end) = (self.value(low), self.value(high));
                let spans = [low, high].map(|bound| self.ranges.of(bound, self.routine));
                self.ranges.entered(*local, &spans[0], &spans[1]);
                let line = VectorLoop::of(self.routine, &self.ranges, *local, body);
                let first = match line {
                    Some(line) => self.line(&line, self.locals[*local], first, end, body),
                    None => first,
                };
                self.counted(self.locals[*local], first, end, |e| e.body(body));
                self.ranges.left(self.routine, *local);
            }
            Stmt::While { condition, most, body } => {
                let trips = self.b.declare_var(types::I64);
                let none = self.int(0);
                self.b.def_var(trips, none);
                self.repeated(
                    |e| {
                        let holds = e.value(condition);
                        let taken = e.b.use_var(trips);
                        let more = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, taken, *most as i64);
                        e.b.ins().band(holds, more)
                    },
                    |e| {
                        let taken = e.b.use_var(trips);
                        let next = e.b.ins().iadd_imm_s(taken, 1);
                        e.b.def_var(trips, next);
                        e.body(body);
                    },
                );
            }
            Stmt::If { condition, then, otherwise } => {
                // A branch tells both ways.
                let (condition, then, otherwise) = match condition {
                    RoutineExpr::Unary(f, x) if f.0 == Unary::Not => (&**x, otherwise, then),
                    _ => (condition, then, otherwise),
                };
                let holds = self.value(condition);
                self.chosen(holds, |e| e.body(then), |e| e.body(otherwise));
            }
        }
    }

    fn value(&mut self, e: &RoutineExpr) -> Value {
        match e {
            RoutineExpr::Const(c) => scalar::constant(self.b, *c, false),
            RoutineExpr::Local(local) => self.b.use_var(self.locals[*local]),
            RoutineExpr::Load(from) => self.load(from),
            RoutineExpr::Unary(f, x) => {
                let dtype = self.dtype(x);
                let x = self.value(x);
                scalar::unary(self.b, f.0, dtype, x, false)
            }
            RoutineExpr::Binary(f, x, y) => {
                let (x_type, y_type) = (self.dtype(x), self.dtype(y));
                let (x, y) = (self.value(x), self.value(y));
                scalar::binary(self.b, *f, (x, x_type), (y, y_type), false)
            }
            RoutineExpr::Cast(to, x) => {
                let from = self.dtype(x);
                let x = self.value(x);
                scalar::cast(self.b, from, *to, x)
            }
            RoutineExpr::Select(c, x, y) => {
                let (c, x, y) = (self.value(c), self.value(x), self.value(y));
                self.b.ins().select(c, x, y)
            }
        }
    }

    /// The steps of a loop that fill vectors; the first one that is left. Several vectors go together where they are only moved.
    fn line(&mut self, line: &VectorLoop, index: Variable, first: Value, end: Value, body: &[Stmt]) -> Value {
        let moves = !body.iter().any(|stmt| {
            matches!(stmt, Stmt::Set { value, .. } | Stmt::Store { value, .. }
            if matches!(value, RoutineExpr::Unary(..) | RoutineExpr::Binary(..)) && line.varies(value))
        });
        let mut first = first;
        for vectors in if moves { [4, 1] } else { [2, 1] } {
            let step = vectors * line.lanes();
            // No loop takes more than 2^32 trips.
            let last = self.b.ins().iadd_imm_s(end, 1 - step);
            self.b.def_var(index, first);
            self.repeated(
                |e| {
                    let i = e.b.use_var(index);
                    e.b.ins().icmp(IntCC::SignedLessThan, i, last)
                },
                |e| {
                    for _ in 0..vectors {
                        e.vectors(line, body);
                        let i = e.b.use_var(index);
                        let next = e.b.ins().iadd_imm_s(i, line.lanes());
                        e.b.def_var(index, next);
                    }
                },
            );
            first = self.b.use_var(index);
        }
        first
    }

    /// As many steps of a loop as a vector has lanes, from the one that its index says.
    fn vectors(&mut self, line: &VectorLoop, body: &[Stmt]) {
        let mut known: Vec<(usize, Value)> = Vec::new();
        for stmt in body {
            match stmt {
                Stmt::Set { local, value } if line.is_even(*local) => {
                    let v = self.value(value);
                    self.b.def_var(self.locals[*local], v);
                    self.ranges.set(*local, &self.ranges.of(value, self.routine));
                }
                Stmt::Set { local, value } => {
                    let v = self.vector(line, value, &known);
                    known.push((*local, v));
                }
                Stmt::Store { to, value } => {
                    let v = self.vector(line, value, &known);
                    self.store(to, v);
                }
                // A line has none.
                Stmt::For { .. } | Stmt::While { .. } | Stmt::If { .. } => {}
            }
        }
    }

    /// The value of an expression for the lanes of a vector.
    fn vector(&mut self, line: &VectorLoop, e: &RoutineExpr, known: &[(usize, Value)]) -> Value {
        let ty = vector_type(line.dtype);
        if !line.varies(e) {
            let one = self.value(e);
            return self.b.ins().splat(ty, one);
        }
        match e {
            RoutineExpr::Load(from) => {
                let (memory, at) = (&self.routine.memory[from.memory], self.element_read(from));
                match memory.dtype {
                    DType::F16 | DType::BF16 => half::load_four(self.b, memory.dtype, at, 0),
                    _ => self.b.ins().load(ty, flags(), at, 0),
                }
            }
            RoutineExpr::Unary(f, x) => {
                let x = self.vector(line, x, known);
                let v = scalar::unary(self.b, f.0, DType::F32, x, true);
                self.floats(v)
            }
            RoutineExpr::Binary(f, x, y) => {
                let (x, y) = (self.vector(line, x, known), self.vector(line, y, known));
                let v = scalar::binary(self.b, *f, (x, DType::F32), (y, DType::F32), true);
                self.floats(v)
            }
            RoutineExpr::Select(c, x, y) => {
                let mask = self.mask(line, c, known);
                let (x, y) = (self.vector(line, x, known), self.vector(line, y, known));
                self.b.ins().bitselect(mask, x, y)
            }
            RoutineExpr::Local(local) => match known.iter().find(|(l, _)| l == local) {
                Some(&(_, v)) => v,
                None => self.zeros(ty),
            },
            RoutineExpr::Const(_) | RoutineExpr::Cast(..) => self.zeros(ty),
        }
    }

    /// A condition as all ones or none in each lane.
    fn mask(&mut self, line: &VectorLoop, e: &RoutineExpr, known: &[(usize, Value)]) -> Value {
        let mask = match e {
            RoutineExpr::Binary(f @ (BinaryFn::And | BinaryFn::Or), x, y) if line.varies(e) => {
                let (x, y) = (self.mask(line, x, known), self.mask(line, y, known));
                match f {
                    BinaryFn::And => self.b.ins().band(x, y),
                    _ => self.b.ins().bor(x, y),
                }
            }
            RoutineExpr::Binary(f, x, y) if line.varies(e) => {
                let (x, y) = (self.vector(line, x, known), self.vector(line, y, known));
                scalar::binary(self.b, *f, (x, DType::F32), (y, DType::F32), true)
            }
            _ => {
                let holds = self.value(e);
                let mask = self.b.ins().bmask(types::I64, holds);
                self.b.ins().splat(types::I64X2, mask)
            }
        };
        self.seen_as(vector_type(line.dtype), mask)
    }

    fn seen_as(&mut self, ty: Type, v: Value) -> Value {
        let bits = MemFlagsData::new().with_endianness(Endianness::Little);
        if self.b.func.dfg.value_type(v) == ty { v } else { self.b.ins().bitcast(ty, bits, v) }
    }

    /// A vector of floats, whatever its lanes were seen as.
    fn floats(&mut self, v: Value) -> Value {
        self.seen_as(types::F32X4, v)
    }

    fn zeros(&mut self, ty: Type) -> Value {
        let zero = self.b.func.dfg.constants.insert(ConstantData::from(vec![0; 16]));
        self.b.ins().vconst(ty, zero)
    }

    /// The type of an expression that was checked.
    fn dtype(&self, e: &RoutineExpr) -> DType {
        e.dtype(self.routine).unwrap_or(DType::F32)
    }

    /// The nearest element.
    fn load(&mut self, from: &Access) -> Value {
        let (memory, at) = (&self.routine.memory[from.memory], self.element_read(from));
        match scalar::element_type(memory.dtype) {
            Some(ty) => self.b.ins().load(ty, flags(), at, 0),
            None => {
                let bits = self.b.ins().load(types::I16, flags(), at, 0);
                half::widened(self.b, memory.dtype, bits)
            }
        }
    }

    /// The address of the nearest element.
    fn element_read(&mut self, from: &Access) -> Value {
        let memory = &self.routine.memory[from.memory];
        let mut at = self.at[from.memory];
        for (axis, index) in outermost_first(from) {
            let mut i = self.value(index);
            let (above, below) = self.known(index, memory.shape[axis]);
            if !above {
                let least = self.int(0);
                i = self.b.ins().smax(i, least);
            }
            if !below {
                let most = self.int(memory.shape[axis] as i64 - 1);
                i = self.b.ins().smin(i, most);
            }
            at = self.moved(at, i, memory.strides[axis]);
        }
        at
    }

    /// Stores an element, or a vector of some from there.
    fn store(&mut self, to: &Access, value: Value) {
        let memory = &self.routine.memory[to.memory];
        let mut at = self.at[to.memory];
        let mut holds: Option<Value> = None;
        for (axis, index) in outermost_first(to) {
            let i = self.value(index);
            if self.known(index, memory.shape[axis]) != (true, true) {
                let extent = self.int(memory.shape[axis] as i64);
                // Negative numbers are larger than any extent.
                let inside = self.b.ins().icmp(IntCC::UnsignedLessThan, i, extent);
                holds = Some(match holds {
                    Some(others) => self.b.ins().band(others, inside),
                    None => inside,
                });
            }
            at = self.moved(at, i, memory.strides[axis]);
        }
        let value = match (scalar::element_type(memory.dtype), self.b.func.dfg.value_type(value)) {
            (Some(_), _) => value,
            (None, types::F32X4) => half::packed(self.b, memory.dtype, value),
            (None, _) => half::narrowed(self.b, memory.dtype, value),
        };
        match holds {
            None => {
                self.b.ins().store(flags(), value, at, 0);
            }
            Some(holds) => self.chosen(
                holds,
                |e| {
                    e.b.ins().store(flags(), value, at, 0);
                },
                |_| (),
            ),
        }
    }

    /// Whether an index is known not to lie before the first element, and not behind the last one.
    fn known(&self, index: &RoutineExpr, extent: usize) -> (bool, bool) {
        let span = self.ranges.of(index, self.routine);
        (*span.start() >= 0, *span.end() < extent as i128)
    }

    fn moved(&mut self, at: Value, index: Value, stride: i64) -> Value {
        match stride {
            0 => at,
            _ => {
                let by = self.b.ins().imul_imm_s(index, stride);
                self.b.ins().iadd(at, by)
            }
        }
    }
}

/// The axes of an access, those last that depend on the locals made last: what comes before them is the same in each step of an inner
/// loop, and its sum leaves it.
fn outermost_first(access: &Access) -> Vec<(usize, &RoutineExpr)> {
    let latest = |index: &RoutineExpr| {
        let mut latest = None;
        index.walk(&mut |e| {
            if let RoutineExpr::Local(local) = e {
                latest = latest.max(Some(*local));
            }
        });
        latest
    };
    let mut axes: Vec<(usize, &RoutineExpr)> = access.index.iter().enumerate().collect();
    axes.sort_by_key(|(_, index)| latest(index));
    axes
}

/// No trap: every access is checked. Not aligned: operands start anywhere.
fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_endianness(Endianness::Little)
}
