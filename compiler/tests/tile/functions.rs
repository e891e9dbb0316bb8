//! Functions of whole rows: their stated errors over all sizes of arguments on every lowering, and the same bits wherever an
//! element stands.

use nnc::code::nest::{Constant, Expr, Nest, Operand, Vectorised};
use nnc::code::tile;
use nnc::code::tile::interp::KernelArg;
use nnc::code::tile::ir;
use nnc_ir::DType;
use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;

use super::support::{Engine, Random, bytes, floats, same};

/// A row of `n` results, of operands that vary along it or do not.
fn row(value: Expr, n: usize, varies: &[bool]) -> Nest {
    let operand = |arg: usize, varies: bool| Operand {
        arg,
        offset: 0,
        dtype: DType::F32,
        strides: vec![if varies { 4 } else { 0 }],
        tables: Vec::new(),
    };
    let nest = Nest {
        loops: vec![n],
        unit_axes: 0,
        reduce: Vec::new(),
        operands: varies.iter().enumerate().map(|(arg, &varies)| operand(arg, varies)).collect(),
        result: operand(varies.len(), true),
        accumulators: Vec::new(),
        value,
        vectorised: Vectorised::Kernel,
    };
    assert!(nest.lanes_fit() && nest.kernel_fits(), "{:?}", nest.value);
    nest
}

fn run(engine: &Engine, nest: &Nest, operands: &[&[f32]]) -> Vec<f32> {
    let widest = match engine {
        Engine::Interpreter { .. } => ir::Lanes::X16,
        Engine::Native(target) => tile::widest(target),
    };
    let program = nest.kernel(widest).expect("a kernel");
    let mut buffers: Vec<Vec<u8>> = operands.iter().map(|x| bytes(x)).collect();
    buffers.push(vec![0; 4 * nest.loops[0]]);
    let mut args: Vec<KernelArg<'_>> =
        buffers.iter_mut().map(|bytes| KernelArg::Memory { bytes, origin: 0 }).collect();
    engine.prepare(&program).expect("it fits").call(&mut args);
    floats(buffers.last().expect("a result"))
}

/// All exponents with several mantissas and both signs, what is special, and a dense range.
fn arguments(low: f32, high: f32) -> Vec<f32> {
    let mut x = vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN];
    for exponent in 0..255u32 {
        for mantissa in [0, 1, 0x35_04F3, 0x35_04F4, 0x5A_5A5A, 0x7F_FFFF] {
            let v = f32::from_bits(exponent << 23 | mantissa);
            x.extend([v, -v]);
        }
    }
    x.extend((0..=2000).map(|i| low + (high - low) * i as f32 / 2000.0));
    x
}

/// The distance between neighbouring `f32`; that of the least normal ones below.
fn ulp(v: f64) -> f64 {
    let exponent = if v == 0.0 { -126.0 } else { v.abs().log2().floor() };
    2f64.powf(exponent.max(-126.0) - 23.0)
}

/// Each function with its range and its error in ULP, in parts of its argument, and in parts of its result.
fn functions() -> Vec<(Unary, (f32, f32), [f64; 3])> {
    use Unary::*;
    let ulps = |n: f64| [n, 0.0, 0.0];
    let mut all = vec![
        (Exp, (-110.0, 92.0), ulps(2.0)),
        (Log, (0.0, 4.0), ulps(2.0)),
        (Elu { alpha: 1.0 }, (-20.0, 1.0), ulps(2.0)),
        (Celu { alpha: 2.0 }, (-20.0, 1.0), ulps(3.0)),
        (Selu { alpha: 1.673, gamma: 1.05 }, (-20.0, 1.0), ulps(4.0)),
        (Sigmoid, (-105.0, 20.0), ulps(3.0)),
        (Tanh, (-10.0, 10.0), ulps(3.0)),
        (Silu, (-105.0, 20.0), [4.0, 3e-45, 0.0]),
        (Softplus, (-105.0, 30.0), ulps(4.0)),
        (Mish, (-30.0, 30.0), [4.0, 3e-45, 0.0]),
        (Erf, (-4.5, 4.5), ulps(3.0)),
        (Atan, (-5.0, 5.0), ulps(2.0)),
        (Softsign, (-10.0, 10.0), ulps(2.0)),
        (Gelu { tanh: false }, (-15.0, 6.0), [1.0, 1.2e-38, 2e-5]),
        (Gelu { tanh: true }, (-10.0, 6.0), [1.0, 1.2e-38, 2e-5]),
        (Relu, (-5.0, 5.0), ulps(0.0)),
        (Clip { min: -1.0, max: 6.0 }, (-5.0, 9.0), ulps(0.0)),
        (LeakyRelu { alpha: 0.1 }, (-5.0, 5.0), ulps(1.0)),
        (ThresholdedRelu { alpha: 1.5 }, (-5.0, 5.0), ulps(0.0)),
    ];
    all.extend(
        [Sqrt, Reciprocal, Abs, Neg, Sign, Floor, Ceil, Round].map(|f| (f, (-5.0, 5.0), ulps(0.5001))),
    );
    for (exponent, error) in [
        (0.0, 0.0),
        (1.0, 0.0),
        (2.0, 0.5001),
        (3.0, 2.0),
        (8.0, 7.0),
        (-1.0, 0.5001),
        (-2.0, 3.0),
        (-3.0, 5.0),
        (0.5, 0.5001),
        (-0.5, 2.0),
        (1.5, 2.0),
        (2.5, 3.0),
        (-1.5, 4.0),
        (-2.5, 6.0),
    ] {
        all.push((Power { exponent }, (0.0, 5.0), ulps(error)));
        all.push((Power { exponent }, (-5.0, 0.0), ulps(error)));
    }
    for exponent in
        [0.3, -1.7, 9.0, -11.0, 10.0, 9.5, 1e-30, 40.0, 3e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]
    {
        all.push((Power { exponent }, (-3.0, 3.0), ulps(2.0)));
    }
    all.extend([Sin, Cos].map(|f| (f, (-30.0, 30.0), ulps(1.0))));
    all
}

#[test]
fn every_function_keeps_its_error_on_every_lowering() {
    for engine in Engine::all() {
        for (function, (low, high), [ulps, of_argument, of_result]) in functions() {
            let x = arguments(low, high);
            let nest = row(Expr::Operand(0).unary(function), x.len(), &[true]);
            for (&x, &got) in x.iter().zip(&run(&engine, &nest, &[&x])) {
                let exact = function.apply(x.into());
                if same(exact as f32, got) || exact == f64::from(got) {
                    continue;
                }
                if matches!(function, Unary::Sin | Unary::Cos) && x.abs() > 4_194_304.0 {
                    assert!(got.abs() <= 1.0, "{function:?}({x:e}) is {got:e} by {}", engine.name());
                    continue;
                }
                let allowed = ulps * ulp(exact) + of_argument * f64::from(x).abs() + of_result * exact.abs();
                let miss = (f64::from(got) - exact).abs();
                assert!(
                    miss <= allowed,
                    "{function:?}({x:e}) is {got:e}, not {exact:e}, by {}",
                    engine.name()
                );
            }
        }
    }
}

#[test]
fn an_element_has_the_same_bits_wherever_it_stands() {
    let x: Vec<f32> = (0..37).map(|i| (i as f32 - 18.0) * 0.37).collect();
    for engine in Engine::all() {
        for (function, ..) in functions() {
            let whole = run(&engine, &row(Expr::Operand(0).unary(function), x.len(), &[true]), &[&x]);
            for (start, len) in [(0, 36), (1, 36), (2, 17), (5, 32), (19, 4), (36, 1)] {
                let part = &x[start..start + len];
                let got = run(&engine, &row(Expr::Operand(0).unary(function), len, &[true]), &[part]);
                let equal = got.iter().zip(&whole[start..]).all(|(a, b)| same(*a, *b));
                assert!(equal, "{function:?} from {start} on, by {}: {got:?}", engine.name());
            }
        }
    }
}

#[test]
fn functions_of_two_treat_special_values_as_the_evaluator_does() {
    use BinaryFn::*;
    let special = [0.0, -0.0, 1.5, -2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 3e38, 1e-40];
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for a in special {
        for b in special {
            x.push(a);
            y.push(b);
        }
    }
    let expected = |f: BinaryFn, a: f32, b: f32| match f {
        Add => a + b,
        Sub => a - b,
        Mul => a * b,
        Div => a / b,
        Min if a.is_nan() || b.is_nan() => f32::NAN,
        Min if b < a => b,
        Max if a.is_nan() || b.is_nan() => f32::NAN,
        Max if b > a => b,
        PRelu if a < 0.0 => a * b,
        _ => a,
    };
    for engine in Engine::all() {
        for f in [Add, Sub, Mul, Div, Min, Max, PRelu] {
            let value = || Expr::Operand(0).binary(f, Expr::Operand(1));
            let got = run(&engine, &row(value(), x.len(), &[true, true]), &[&x, &y]);
            for ((&a, &b), &got) in x.iter().zip(&y).zip(&got) {
                let expected = expected(f, a, b);
                assert!(
                    same(expected, got),
                    "{f:?}({a}, {b}) is {got}, not {expected}, by {}",
                    engine.name()
                );
            }
            // One side is the same for all.
            for one in special {
                let got = run(&engine, &row(value(), x.len(), &[true, false]), &[&x, &[one]]);
                let equal = x.iter().zip(&got).all(|(&a, &got)| same(expected(f, a, one), got));
                assert!(equal, "{f:?} with {one}, by {}", engine.name());
            }
        }
        for f in [Equal, Less, LessOrEqual, Greater, GreaterOrEqual] {
            let constant = |v: f32| Expr::Const(Constant::from(v));
            let value = Expr::Operand(0)
                .binary(f, Expr::Operand(1))
                .select(constant(1.0), Expr::Operand(0).unary(Unary::Neg));
            let got = run(&engine, &row(value, x.len(), &[true, true]), &[&x, &y]);
            for ((&a, &b), &got) in x.iter().zip(&y).zip(&got) {
                let holds = match f {
                    Equal => a == b,
                    Less => a < b,
                    LessOrEqual => a <= b,
                    Greater => a > b,
                    _ => a >= b,
                };
                assert!(same(if holds { 1.0 } else { -a }, got), "{a} {f:?} {b} by {}", engine.name());
            }
        }
    }
}

/// Bases and exponents: of all sizes, those whose power comes near to the largest or to the least number, and what is special.
fn powers() -> (Vec<f32>, Vec<f32>) {
    let special = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let large = [f32::MAX, f32::MIN, 1e-40, -1e-40, 1e9, 16_777_215.0, -16_777_215.0, 8_388_607.5];
    let all = [special.as_slice(), large.as_slice()].concat();
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for &a in &all {
        for &b in &all {
            x.push(a);
            y.push(b);
        }
    }
    let mut random = Random::new(3);
    for i in 0..40_000 {
        let near = 1.0 + random.float() * 2f32.powi(-(i % 20));
        let anywhere = f32::from_bits((random.next() % 0x7f80_0000) as u32);
        let base =
            [near, anywhere, 1.41 + random.float() * 0.03, 4.0 * (random.float() + 0.5)][i as usize % 4];
        let log = f64::from(base).log2();
        let exponent = f64::from(random.float() * 290.0 - 10.0) / log;
        x.push(base);
        y.push(if i % 4 == 3 { 40.0 * random.float() } else { exponent as f32 });
    }
    (x, y)
}

#[test]
fn a_power_is_off_by_two_ulp_and_has_the_special_cases_of_the_evaluator() {
    let (x, y) = powers();
    for engine in Engine::all() {
        let value = Expr::Operand(0).binary(BinaryFn::Pow, Expr::Operand(1));
        let got = run(&engine, &row(value, x.len(), &[true, true]), &[&x, &y]);
        for ((&x, &y), &got) in x.iter().zip(&y).zip(&got) {
            let exact = f64::from(x).powf(y.into());
            let miss = (f64::from(got) - exact).abs();
            assert!(
                same(exact as f32, got) || miss <= 2.0 * ulp(exact),
                "{x:e} to the {y:e} is {got:e}, not {exact:e}, by {}",
                engine.name()
            );
        }
    }
}
