//! Random programs, compiled and interpreted: same memory, and nothing outside of it touched.

use nnc::code::nest::Constant;
use nnc::code::routine::{Access, Memory, MemoryUse, Routine, RoutineExpr, Stmt, emit, interp};
use nnc_ir::DType;
use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;
use nnc_runtime::abi::LayerFn;

use crate::harness::{Random, module};

const GUARD: usize = 64;

/// What comes out of a routine, from base pointers behind a guard.
fn compiled(routine: &Routine, memory: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut module = module();
    let id = emit::emit(routine, &mut module, "routine").unwrap();
    module.finalize_definitions().unwrap();
    let code = module.get_finalized_function(id);
    // SAFETY: `emit` gives every function the signature of a layer.
    let function = unsafe { std::mem::transmute::<*const u8, LayerFn>(code) };
    let mut guarded: Vec<Vec<u8>> =
        memory.iter().map(|m| [vec![0xA5; GUARD], m.clone(), vec![0xA5; GUARD]].concat()).collect();
    let bases: Vec<*mut u8> = guarded.iter_mut().map(|m| m[GUARD..].as_mut_ptr()).collect();
    // SAFETY: the routine was checked for the memory between the guards.
    unsafe { function(bases.as_ptr(), 0, routine.units() as u64, std::ptr::null_mut()) };
    // SAFETY: no function of the module is called any more.
    unsafe { module.free_memory() };
    for m in &guarded {
        let (head, tail) = (&m[..GUARD], &m[m.len() - GUARD..]);
        assert!(head.iter().chain(tail).all(|&b| b == 0xA5), "a byte outside was written: {routine:?}");
    }
    guarded.into_iter().map(|m| m[GUARD..m.len() - GUARD].to_vec()).collect()
}

/// Types that programs compute with.
const TYPES: [DType; 6] = [DType::I64, DType::I32, DType::U8, DType::F32, DType::F64, DType::Bool];

/// Types that memory holds.
const STORED: [DType; 8] =
    [DType::I64, DType::I32, DType::U8, DType::F32, DType::F64, DType::Bool, DType::F16, DType::BF16];

struct Author {
    random: Random,
    routine: Routine,
    /// Loops that are open.
    open: Vec<usize>,
}

impl Author {
    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.random.below(list.len())]
    }

    /// A routine over three memories.
    fn routine(seed: u64) -> Routine {
        let random = Random::new(seed);
        let mut locals = vec![DType::I64; 5];
        locals.extend(TYPES);
        locals.extend(TYPES);
        let routine = Routine { units: vec![2, 3], locals, memory: Vec::new(), body: Vec::new() };
        let mut author = Author { random, routine, open: vec![0, 1] };
        for arg in 0..3 {
            let dtype = author.pick(&STORED);
            let size = dtype.bytes() as i64;
            let (rows, columns) = (1 + author.random.below(4), 1 + author.random.below(5));
            let backwards = author.random.below(3) == 0;
            let stride = size * (columns as i64 + author.random.below(2) as i64);
            author.routine.memory.push(Memory {
                arg,
                offset: if backwards { stride * (rows as i64 - 1) } else { 0 },
                dtype,
                shape: vec![rows, columns],
                strides: vec![if backwards { -stride } else { stride }, size],
                usage: MemoryUse::Update,
            });
        }
        author.routine.body = author.body(3, 4);
        author.routine
    }

    fn body(&mut self, depth: usize, most: usize) -> Vec<Stmt> {
        (0..1 + self.random.below(most)).map(|_| self.stmt(depth)).collect()
    }

    fn stmt(&mut self, depth: usize) -> Stmt {
        match self.random.below(if depth == 0 { 4 } else { 8 }) {
            0 | 1 => {
                let local = 5 + self.random.below(2 * TYPES.len());
                let value = self.value(self.routine.locals[local], 3);
                Stmt::Set { local, value }
            }
            2 | 3 => {
                let to = self.access();
                let value = self.value(self.routine.memory[to.memory].value_type(), 3);
                Stmt::Store { to, value }
            }
            4 | 5 if self.open.len() < 5 => {
                let local = self.open.len();
                let (low, high) = (self.bound(), self.bound());
                self.open.push(local);
                let body = self.body(depth - 1, 3);
                self.open.pop();
                Stmt::For { local, low, high, body }
            }
            6 => {
                let (condition, most) = (self.value(DType::Bool, 2), self.random.below(4) as u64);
                Stmt::While { condition, most, body: self.body(depth - 1, 3) }
            }
            _ => {
                let condition = self.value(DType::Bool, 2);
                Stmt::If { condition, then: self.body(depth - 1, 2), otherwise: self.body(depth - 1, 2) }
            }
        }
    }

    /// The bound of a short loop: a number, or data that are clamped.
    fn bound(&mut self) -> RoutineExpr {
        match self.random.below(2) {
            0 => RoutineExpr::int(self.random.below(6) as i64 - 2),
            _ => self.value(DType::I64, 2).max(RoutineExpr::int(-2)).min(RoutineExpr::int(4)),
        }
    }

    fn access(&mut self) -> Access {
        let memory = self.random.below(3);
        Access { memory, index: (0..2).map(|_| self.index()).collect() }
    }

    /// An index: that of a loop, something near, or anything.
    fn index(&mut self) -> RoutineExpr {
        let local = self.pick(&self.open.clone());
        match self.random.below(4) {
            0 => RoutineExpr::Local(local),
            1 => {
                RoutineExpr::Local(local) * RoutineExpr::int(2)
                    - RoutineExpr::int(self.random.below(4) as i64)
            }
            2 => RoutineExpr::Local(local) / RoutineExpr::int(1 + self.random.below(3) as i64),
            _ => self.value(DType::I64, 2),
        }
    }

    fn constant(&mut self, dtype: DType) -> RoutineExpr {
        match dtype {
            DType::Bool => RoutineExpr::bool(self.random.below(2) == 0),
            DType::I64 if self.random.below(8) == 0 => {
                RoutineExpr::int(self.pick(&[i64::MIN, i64::MAX, i64::MAX - 1, -1, 1 << 40]))
            }
            DType::F32 | DType::F64 => RoutineExpr::constant(dtype, self.random.float(-5.0, 5.0)),
            _ => RoutineExpr::Const(Constant::Int(dtype, self.random.below(7) as i64)),
        }
    }

    fn value(&mut self, dtype: DType, depth: usize) -> RoutineExpr {
        if depth == 0 {
            let locals: Vec<usize> = (0..self.routine.locals.len())
                .filter(|&l| self.routine.locals[l] == dtype && (l >= 5 || self.open.contains(&l)))
                .collect();
            return match self.random.below(2) {
                0 => self.constant(dtype),
                _ => RoutineExpr::Local(self.pick(&locals)),
            };
        }
        let d = depth - 1;
        match self.random.below(6) {
            0 => self.value(dtype, 0),
            1 => {
                let from = self.access();
                let loaded = self.routine.memory[from.memory].value_type();
                if loaded == dtype { RoutineExpr::Load(from) } else { RoutineExpr::Load(from).cast(dtype) }
            }
            2 => {
                let from = self.pick(&TYPES);
                if from == dtype { self.value(dtype, d) } else { self.value(from, d).cast(dtype) }
            }
            3 => self.value(DType::Bool, d).select(self.value(dtype, d), self.value(dtype, d)),
            _ if dtype == DType::Bool => {
                use BinaryFn::*;
                if self.random.below(3) == 0 {
                    return self.value(dtype, d).unary(Unary::Not);
                }
                let of = self.pick(&TYPES);
                let function = match of {
                    DType::Bool => self.pick(&[And, Or, Xor]),
                    _ => self.pick(&[Equal, Less, LessOrEqual, Greater, GreaterOrEqual]),
                };
                self.value(of, d).binary(function, self.value(of, d))
            }
            _ => {
                use BinaryFn::*;
                let function = match dtype.is_float() {
                    true => self.pick(&[Add, Sub, Mul, Min, Max]),
                    false => self.pick(&[Add, Sub, Mul, Div, Mod { fmod: false }, Min, Max]),
                };
                self.value(dtype, d).binary(function, self.value(dtype, d))
            }
        }
    }
}

#[test]
fn compiled_programs_do_what_interpreted_ones_do() {
    let mut checks = 0;
    for seed in 0..400 {
        let routine = Author::routine(seed);
        let mut random = Random::new(seed + 1000);
        let mut memory: Vec<Vec<u8>> = (routine.memory.iter())
            .map(|m| {
                let bytes = m.extent().unwrap();
                assert_eq!(bytes.start, 0, "{m:?}");
                let elements = bytes.end as usize / m.dtype.bytes();
                random.tensor(m.dtype, &[elements]).bytes().to_vec()
            })
            .collect();
        let sizes: Vec<i64> = memory.iter().map(|m| m.len() as i64).collect();
        routine
            .check(&|arg| sizes.get(arg).map(|&n| 0..n))
            .unwrap_or_else(|e| panic!("{seed}: {e} {routine:#?}"));
        let found = compiled(&routine, &memory);
        checks += usize::from(found != memory);
        interp::run(&routine, &mut memory, 0..routine.units());
        for (arg, (expected, found)) in memory.iter().zip(&found).enumerate() {
            assert!(
                same(routine.memory[arg].dtype, expected, found),
                "{seed}: memory {arg}\n{expected:?}\n{found:?}\n{routine:#?}"
            );
        }
    }
    assert!(checks > 200, "only {checks} programs have changed their memory");
}

/// Whether bytes are the same, where any NaN is as good as any other.
fn same(dtype: DType, a: &[u8], b: &[u8]) -> bool {
    let is_nan = |bytes: &[u8]| match *bytes {
        [a, b] if dtype == DType::F16 => u16::from_le_bytes([a, b]) & 0x7FFF > 0x7C00,
        [a, b] if dtype == DType::BF16 => u16::from_le_bytes([a, b]) & 0x7FFF > 0x7F80,
        [a, b, c, d] if dtype == DType::F32 => f32::from_le_bytes([a, b, c, d]).is_nan(),
        _ if dtype == DType::F64 => f64::from_le_bytes(bytes.try_into().unwrap()).is_nan(),
        _ => false,
    };
    a.chunks(dtype.bytes()).zip(b.chunks(dtype.bytes())).all(|(a, b)| a == b || (is_nan(a) && is_nan(b)))
}
