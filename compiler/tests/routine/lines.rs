//! Innermost loops that go in vectors, and those that look like it: compiled and interpreted.

use nnc::code::routine::write::Mem;
use nnc::code::routine::{MemoryUse, Routine, RoutineExpr, Writer, emit, interp};
use nnc::code::view::View;
use nnc_ir::op::Unary;
use nnc_ir::{DType, TensorType};
use nnc_runtime::abi::LayerFn;

use crate::harness::{Random, module};

/// Elements of a row: a few vectors of any type, and a rest.
const LENGTH: usize = 91;

/// Rows of each memory.
const ROWS: usize = 3;

/// Memory as it is after a routine, compiled and interpreted.
fn both(routine: &Routine, memory: &[Vec<u8>]) -> [Vec<Vec<u8>>; 2] {
    let mut module = module();
    let id = emit::emit(routine, &mut module, "routine").unwrap();
    module.finalize_definitions().unwrap();
    let code = module.get_finalized_function(id);
    // SAFETY: `emit` gives every function the signature of a layer.
    let function = unsafe { std::mem::transmute::<*const u8, LayerFn>(code) };
    let mut compiled = memory.to_vec();
    let bases: Vec<*mut u8> = compiled.iter_mut().map(|m| m.as_mut_ptr()).collect();
    // SAFETY: the routine was checked for this memory.
    unsafe { function(bases.as_ptr(), 0, routine.units() as u64, std::ptr::null_mut()) };
    // SAFETY: no function of the module is called any more.
    unsafe { module.free_memory() };
    let mut interpreted = memory.to_vec();
    interp::run(routine, &mut interpreted, 0..routine.units());
    [compiled, interpreted]
}

/// Checks what `body` writes, of memory `x`, `y` and `rows` (indices of rows): once along rows, once across.
fn check(
    dtype: DType,
    body: impl Fn(&mut Writer, [Mem; 3], &dyn Fn(RoutineExpr, RoutineExpr) -> [RoutineExpr; 2]),
) {
    let mut random = Random::new(1);
    let shape = [LENGTH, LENGTH];
    for along in [true, false] {
        let mut w = Writer::new();
        let x = w.memory(&View::dense(0, dtype, shape), MemoryUse::Read);
        let y = w.memory(&View::dense(1, dtype, shape), MemoryUse::Update);
        let rows = w.memory(&View::dense(2, DType::I64, [ROWS]), MemoryUse::Read);
        body(&mut w, [x, y, rows], &|row, column| if along { [row, column] } else { [column, row] });
        let routine = w.finish();
        let tensors = [random.tensor(dtype, &shape), random.tensor(dtype, &shape)];
        let mut memory: Vec<Vec<u8>> = tensors.iter().map(|t| t.bytes().to_vec()).collect();
        memory.push([-5i64, 7, 1000].iter().flat_map(|i| i.to_le_bytes()).collect());
        let sizes: Vec<i64> = memory.iter().map(|m| m.len() as i64).collect();
        assert_eq!(routine.check(&|arg| sizes.get(arg).map(|&n| 0..n)), Ok(()));
        let [compiled, interpreted] = both(&routine, &memory);
        let ty = TensorType::new(dtype, shape.to_vec());
        let tensor = |m: &[u8]| nnc_ir::Tensor::from_bytes(ty.clone(), m.to_vec()).unwrap();
        let (got, expected) = (tensor(&compiled[1]), tensor(&interpreted[1]));
        assert!(got.bytes() == expected.bytes(), "{dtype:?}, along rows: {along}: {routine:?}");
        assert!(compiled[0] == memory[0], "{dtype:?}: an operand was written");
    }
}

fn each_column(w: &mut Writer, body: impl FnOnce(&mut Writer, RoutineExpr)) {
    w.for_each(RoutineExpr::int(1), RoutineExpr::index(LENGTH), body);
}

#[test]
fn rows_that_data_name_are_copied() {
    for dtype in [DType::U8, DType::U16, DType::I32, DType::F32, DType::I64, DType::F64] {
        check(dtype, |w, [x, y, rows], at| {
            w.for_each(RoutineExpr::int(0), RoutineExpr::index(ROWS), |w, i| {
                let row = w.load(rows, std::slice::from_ref(&i));
                each_column(w, |w, j| {
                    let element = w.load(x, &at(row.clone(), j.clone()));
                    // Where data say, too: some of the rows are none.
                    w.store(y, &at(row.clone() + RoutineExpr::int(3), j), element);
                });
            });
        });
    }
}

#[test]
fn arithmetic_of_neighbours_is_that_of_single_elements() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        check(dtype, |w, [x, y, rows], at| {
            let row = w.load(rows, &[RoutineExpr::int(1)]);
            let first = w.load(x, &at(row.clone(), RoutineExpr::int(0)));
            let positive = w.value(RoutineExpr::constant(DType::F32, 0.0).less(first.clone()));
            each_column(w, |w, j| {
                let column = w.value(j.clone() - RoutineExpr::int(1));
                let (u, v) =
                    (w.load(x, &at(row.clone(), j)), w.load(x, &at(RoutineExpr::int(2), column.clone())));
                let product = w.value(u.clone() * first.clone() + v.clone().unary(Unary::Relu));
                let chosen =
                    w.value(positive.clone().select(product, RoutineExpr::constant(DType::F32, 2.0)));
                let old = w.load(y, &at(RoutineExpr::int(4), column.clone()));
                w.store(y, &at(RoutineExpr::int(4), column), old + chosen.min(u));
            });
        });
    }
}

/// Loops whose steps are not independent, or not neighbours.
#[test]
fn what_depends_on_the_step_before_goes_step_by_step() {
    for dtype in [DType::F32, DType::I32] {
        check(dtype, |w, [x, y, _], at| {
            let (row, one) = (RoutineExpr::int(3), RoutineExpr::int(1));
            // Each element on its neighbour.
            each_column(w, |w, j| {
                let before = w.load(y, &at(row.clone(), j.clone() - one.clone()));
                w.store(y, &at(row.clone(), j), before);
            });
            // A sum.
            let sum = w.local(dtype);
            each_column(w, |w, j| {
                let element = w.load(x, &at(row.clone(), j.clone()));
                w.set(sum, sum.get() + element);
                w.store(y, &at(RoutineExpr::int(5), j), sum.get());
            });
            // The last value is asked for behind the loop.
            let last = w.local(dtype);
            each_column(w, |w, j| {
                let element = w.load(x, &at(row.clone(), j.clone()));
                w.set(last, element);
                w.store(y, &at(RoutineExpr::int(6), j), last.get());
            });
            w.store(y, &at(RoutineExpr::int(7), one.clone()), last.get());
            // All on one element, every second one, backwards, and past the end.
            each_column(w, |w, j| {
                let element = w.load(x, &at(row.clone(), j.clone()));
                w.store(y, &at(RoutineExpr::int(8), one.clone()), element.clone());
                w.store(y, &at(RoutineExpr::int(9), RoutineExpr::index(LENGTH) - j.clone()), element.clone());
                w.store(y, &at(RoutineExpr::int(10), j.clone() * RoutineExpr::int(2)), element);
            });
            each_column(w, |w, j| {
                let element = w.load(x, &at(row.clone(), j.clone() + RoutineExpr::int(40)));
                w.store(y, &at(RoutineExpr::int(11), j), element);
            });
        });
    }
}

/// Conditions of elements are masks; what is said of all of them holds in each lane.
#[test]
fn comparisons_choose_lane_by_lane() {
    check(DType::F32, |w, [x, y, rows], at| {
        let row = w.load(rows, &[RoutineExpr::int(1)]);
        let limit = w.load(x, &at(row.clone(), RoutineExpr::int(0)));
        let large = w.value(RoutineExpr::constant(DType::F32, 0.5).less(limit.clone()));
        each_column(w, |w, j| {
            let (u, v) =
                (w.load(x, &at(row.clone(), j.clone())), w.load(x, &at(RoutineExpr::int(2), j.clone())));
            let between = limit.clone().less(u.clone()).and(u.clone().less(v.clone()));
            let condition = between.or(u.clone().equals(v.clone()).or(large.clone()));
            w.store(y, &at(RoutineExpr::int(4), j), condition.select(u - v.clone(), v));
        });
    });
}
