//! Reductions along rows, and rows made of them: sums in the order that the interpreter has on every lowering, near to the exact
//! result, whatever the length; special values; half floats.

use nnc::code::float::Float;
use nnc::code::nest::{
    Accumulator, Bound, Constant, Expr, Fold, Nest, Operand, ReduceAxis, Table, Vectorised,
};
use nnc::code::tile;
use nnc::code::tile::interp::KernelArg;
use nnc::code::tile::ir;
use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;

use super::support::{self, Engine, Random, same};

const LENGTHS: [usize; 14] = [1, 2, 3, 5, 8, 15, 16, 17, 31, 64, 65, 127, 196, 1000];

/// Accumulators over one operand, which is a row, and a value for each row, or for each element of it.
struct Row {
    accumulators: Vec<Accumulator>,
    value: Expr,
    stored: bool,
}

impl Row {
    fn nest(&self, n: usize, from: Float, to: Float) -> Nest {
        let operand = |arg, float: Float, strides: &[i64]| Operand {
            arg,
            offset: 0,
            dtype: float.dtype(),
            strides: strides.to_vec(),
            tables: Vec::new(),
        };
        let along = i64::from(to.bytes());
        let nest = Nest {
            loops: vec![1],
            unit_axes: 0,
            reduce: vec![ReduceAxis { extent: n, bound: None }],
            operands: vec![operand(0, from, &[0, i64::from(from.bytes())])],
            result: operand(1, to, &[0, along][..1 + usize::from(self.stored)]),
            accumulators: self.accumulators.clone(),
            value: self.value.clone(),
            vectorised: Vectorised::Kernel,
        };
        assert!(nest.lanes_fit() && nest.kernel_fits(), "{:?}", nest.value);
        nest
    }

    /// For rows of `n` elements on one engine.
    fn on(&self, engine: &Engine, n: usize, from: Float, to: Float) -> Ready {
        let widest = match engine {
            Engine::Interpreter { .. } => ir::Lanes::X16,
            Engine::Native(target) => tile::widest(target),
        };
        let program = self.nest(n, from, to).kernel(widest).expect("a kernel");
        let ready = |engine: &Engine| engine.prepare(&program).expect("it fits");
        Ready {
            what: format!("{} by {}", program.name, engine.name()),
            here: ready(engine),
            meant: ready(&Engine::Interpreter { fused: engine.fused() }),
            results: if self.stored { n } else { 1 },
            from,
            to,
        }
    }
}

/// A row's kernel on an engine, and the same program in the interpreter.
struct Ready {
    what: String,
    here: support::Ready,
    meant: support::Ready,
    results: usize,
    from: Float,
    to: Float,
}

impl Ready {
    /// What the engine makes of a row, which is also what the interpreter makes of it.
    fn of(&self, x: &[f32]) -> Vec<f32> {
        let (from, to) = (self.from, self.to);
        let call = |ready: &support::Ready| {
            let mut input = vec![0; x.len() * from.bytes() as usize];
            for (&x, bytes) in x.iter().zip(input.chunks_mut(from.bytes() as usize)) {
                from.write(x, bytes);
            }
            let mut output = vec![0; self.results * to.bytes() as usize];
            let mut args = [&mut input, &mut output].map(|bytes| KernelArg::Memory { bytes, origin: 0 });
            ready.call(&mut args);
            output.chunks(to.bytes() as usize).map(|bytes| to.read(bytes)).collect::<Vec<f32>>()
        };
        let (got, meant) = (call(&self.here), call(&self.meant));
        let equal = got.iter().zip(&meant).all(|(a, b)| same(*a, *b));
        assert!(equal, "{}: {got:?}, not {meant:?}", self.what);
        got
    }
}

fn accumulator(function: BinaryFn, value: Expr) -> Accumulator {
    let neutral = match function {
        BinaryFn::Mul => 1.0,
        BinaryFn::Max => f32::NEG_INFINITY,
        BinaryFn::Min => f32::INFINITY,
        _ => 0.0,
    };
    Accumulator { init: Constant::from(neutral), fold: Fold::With(function), value }
}

fn after(accumulator: Accumulator) -> Accumulator {
    let Fold::With(function) = accumulator.fold else { return accumulator };
    Accumulator { fold: Fold::After(function), ..accumulator }
}

fn total(function: BinaryFn, value: Expr) -> Row {
    Row { accumulators: vec![accumulator(function, value)], value: Expr::Acc(0), stored: false }
}

fn x() -> Expr {
    Expr::Operand(0)
}

fn square() -> Expr {
    x().binary(BinaryFn::Mul, x())
}

fn softmax() -> Row {
    let power = || x().binary(BinaryFn::Sub, Expr::Acc(0)).unary(Unary::Exp);
    let share = Expr::Const(Constant::from(1.0)).binary(BinaryFn::Div, Expr::Acc(1));
    Row {
        accumulators: vec![accumulator(BinaryFn::Max, x()), after(accumulator(BinaryFn::Add, power()))],
        value: power().binary(BinaryFn::Mul, share),
        stored: true,
    }
}

#[test]
fn totals_of_rows_of_any_length_are_near_the_exact_ones() {
    for engine in Engine::all() {
        for n in LENGTHS {
            let row: Vec<f32> = Random::new(n as u64).floats(n).iter().map(|v| v + 0.25).collect();
            let wide = || row.iter().map(|&v| f64::from(v));
            let check = |of: Row, row: &[f32], exact: f64, allowed: f64| {
                let ready = of.on(&engine, n, Float::F32, Float::F32);
                let got = ready.of(row)[0];
                assert!((f64::from(got) - exact).abs() <= allowed, "{}: {got}, not {exact}", ready.what);
            };
            let sizes: f64 = wide().map(f64::abs).sum();
            check(total(BinaryFn::Add, x()), &row, wide().sum(), 1e-6 * sizes);
            let squares: f64 = wide().map(|v| v * v).sum();
            check(total(BinaryFn::Add, square()), &row, squares, 1e-6 * squares);
            check(total(BinaryFn::Add, x().unary(Unary::Abs)), &row, sizes, 1e-6 * sizes);
            check(total(BinaryFn::Max, x()), &row, wide().fold(f64::NEG_INFINITY, f64::max), 0.0);
            check(total(BinaryFn::Min, x()), &row, wide().fold(f64::INFINITY, f64::min), 0.0);
            let near_one: Vec<f32> = row.iter().map(|v| 1.0 + v / 64.0).collect();
            let product: f64 = near_one.iter().map(|&v| f64::from(v)).product();
            check(total(BinaryFn::Mul, x()), &near_one, product, 6e-8 * (n as f64 + 16.0) * product);
        }
    }
}

#[test]
fn nan_goes_through_from_every_place_and_infinities_count() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for engine in Engine::all() {
        for n in [1, 7, 16, 33, 150] {
            let on = |row: Row| row.on(&engine, n, Float::F32, Float::F32);
            let [sum, product, max, min] = [BinaryFn::Add, BinaryFn::Mul, BinaryFn::Max, BinaryFn::Min]
                .map(|function| on(total(function, x())));
            let shares = on(softmax());
            for place in 0..n {
                let mut row: Vec<f32> = (0..n).map(|i| i as f32 - 20.5).collect();
                row[place] = nan;
                for all in [&sum, &product, &max, &min, &shares] {
                    assert!(all.of(&row).iter().all(|v| v.is_nan()), "{}: NaN at {place}", all.what);
                }
                for (limit, best, other) in [(inf, &max, &min), (-inf, &min, &max)] {
                    row[place] = limit;
                    assert_eq!(best.of(&row), [limit], "{}: at {place}", best.what);
                    assert_eq!(other.of(&row)[0].is_infinite(), n == 1, "{}: at {place}", other.what);
                    assert_eq!(sum.of(&row), [limit], "{}: at {place}", sum.what);
                }
            }
            let both: Vec<f32> = (0..n).map(|i| if i % 2 == 0 { inf } else { -inf }).collect();
            assert_eq!(max.of(&both), [inf], "{}", max.what);
            assert_eq!(min.of(&both), [if n == 1 { inf } else { -inf }], "{}", min.what);
            assert_eq!(sum.of(&both)[0].is_nan(), n > 1, "{}", sum.what);
        }
    }
}

#[test]
fn rows_of_powers_are_shares_of_one_and_rounded_once_where_they_are_half_floats() {
    for engine in Engine::all() {
        for n in LENGTHS {
            for (from, to, error) in [
                (Float::F32, Float::F32, 1e-6),
                (Float::F16, Float::F16, 4.9e-4 + 1e-6),
                (Float::Bf16, Float::Bf16, 3.91e-3 + 1e-6),
                (Float::F16, Float::F32, 1e-6),
            ] {
                let row: Vec<f32> = Random::new(n as u64).floats(n).iter().map(|v| 8.0 * v).collect();
                let got = softmax().on(&engine, n, from, to).of(&row);
                let mut bytes = [0; 4];
                let read = |v: &f32, bytes: &mut [u8; 4]| {
                    let bytes = &mut bytes[..from.bytes() as usize];
                    from.write(*v, bytes);
                    f64::from(from.read(bytes))
                };
                let powers: Vec<f64> = row.iter().map(|v| read(v, &mut bytes).exp()).collect();
                let sum: f64 = powers.iter().sum();
                for (power, &got) in powers.iter().zip(&got) {
                    let share = power / sum;
                    // The least step of half floats, for shares that are denormal ones.
                    let miss = (f64::from(got) - share).abs();
                    assert!(miss <= error * share + 3e-8, "{got}, not {share}, of {n} by {}", engine.name());
                }
            }
        }
    }
}

#[test]
fn rows_that_one_kernel_goes_through_are_as_each_alone() {
    let (rows, n) = (5, 37);
    for row in [softmax(), total(BinaryFn::Max, x())] {
        for engine in Engine::all() {
            let one = row.on(&engine, n, Float::F32, Float::F32);
            let mut nest = row.nest(n, Float::F32, Float::F32);
            // Rows of operands lie 40 elements apart, backwards, those of results side by side.
            let results = if row.stored { n } else { 1 };
            nest.loops = vec![rows];
            nest.operands[0].strides[0] = -160;
            nest.result.strides[0] = 4 * results as i64;
            assert!(nest.lanes_fit() && nest.kernel_fits());
            let widest = match &engine {
                Engine::Interpreter { .. } => ir::Lanes::X16,
                Engine::Native(target) => tile::widest(target),
            };
            let program = nest.kernel(widest).expect("a kernel");
            let x = Random::new(7).floats(40 * rows);
            let (mut input, mut output) = (support::bytes(&x), vec![0; 4 * rows * results]);
            let mut args = [
                KernelArg::Memory { bytes: &mut input, origin: 160 * (rows - 1) },
                KernelArg::Memory { bytes: &mut output, origin: 0 },
            ];
            engine.prepare(&program).expect("it fits").call(&mut args);
            for (i, got) in support::floats(&output).chunks(results).enumerate() {
                let start = 40 * (rows - 1 - i);
                assert_eq!(got, one.of(&x[start..start + n]), "{}: row {i}", one.what);
            }
        }
    }
}

#[test]
fn what_the_whole_row_has_in_common_is_computed_once() {
    // (x - mean)·(1 / √(variance + ε)): neither root nor quotient is in the loop.
    let n = 64;
    let count = || Expr::Const(Constant::from(n as f32));
    let mean = || Expr::Acc(0).binary(BinaryFn::Div, count());
    let difference = || x().binary(BinaryFn::Sub, mean());
    let variance =
        Expr::Acc(1).binary(BinaryFn::Div, count()).binary(BinaryFn::Add, Expr::Const(1e-5.into()));
    let inverse = Expr::Const(1.0.into()).binary(BinaryFn::Div, variance.unary(Unary::Sqrt));
    let row = Row {
        accumulators: vec![
            accumulator(BinaryFn::Add, x()),
            after(accumulator(BinaryFn::Add, difference().binary(BinaryFn::Mul, difference()))),
        ],
        value: difference().binary(BinaryFn::Mul, inverse),
        stored: true,
    };
    let program = row.nest(n, Float::F32, Float::F32).kernel(ir::Lanes::X4).expect("a kernel");
    fn divisions(body: &[ir::Inst], in_loop: bool) -> [usize; 2] {
        body.iter().fold([0, 0], |[outside, inside], inst| match inst {
            ir::Inst::Loop { body, .. } => {
                let [a, b] = divisions(body, true);
                [outside + a, inside + b]
            }
            ir::Inst::Bin { op: ir::BinOp::Div, .. } | ir::Inst::Un { .. } => {
                [outside + usize::from(!in_loop), inside + usize::from(in_loop)]
            }
            _ => [outside, inside],
        })
    }
    assert_eq!(divisions(&program.body, false), [4, 0]);
    for engine in Engine::all() {
        let x: Vec<f32> = (0..n).map(|i| (i * i % 23) as f32 * 0.5 + 100.0).collect();
        let got = row.on(&engine, n, Float::F32, Float::F32).of(&x);
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
        let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n as f64;
        for (&x, &got) in x.iter().zip(&got) {
            let exact = (f64::from(x) - mean) / (variance + 1e-5).sqrt();
            assert!((f64::from(got) - exact).abs() < 1e-5, "{got}, not {exact}, by {}", engine.name());
        }
    }
}

#[test]
fn what_no_kernel_goes_along_is_refused() {
    let nest = || softmax().nest(40, Float::F32, Float::F32);
    let refused = |change: fn(&mut Nest)| {
        let mut nest = nest();
        change(&mut nest);
        assert!(!nest.lanes_fit(), "{nest:?}");
    };
    refused(|nest| nest.operands[0].strides[1] = 8);
    refused(|nest| nest.result.strides[1] = 8);
    refused(|nest| {
        let table = Table { arg: 2, offset: 0, strides: vec![4, 0], low: 0, high: 400 };
        nest.operands[0].tables.push(table);
    });
    refused(|nest| nest.reduce[0].bound = Some(Bound { axis: 0, scale: 0, step: 1, base: 0, extent: 40 }));
    // Each may name those before it alone, and none that is updated together with it.
    refused(|nest| nest.accumulators.reverse());
    refused(|nest| nest.accumulators[1].value = Expr::Acc(1));
    refused(|nest| nest.accumulators[1].fold = Fold::With(BinaryFn::Add));
    refused(|nest| nest.vectorised = Vectorised::Reduce { unroll: 2 });
    refused(|nest| nest.vectorised = Vectorised::Scalar);
}
