//! Activations: what they do to special values, and how accurate the exponential is.

use nnc::code::float::Floats;
use nnc::code::tile::ir::{Lanes, ParamRole};
use nnc::code::tile::programs::dense::{Accumulators, Broadcast, Col, DenseTile, Products, Runs, Tap};
use nnc::code::tile::programs::epilogue::{Activation, KernelEpilogue};

use super::support::{Engine, Given, bytes, floats};

/// Applies an activation to each value: a dense tile of one weight, which is 1.
fn apply(engine: &Engine, activation: Activation, values: &[f32]) -> Vec<f32> {
    let tile = DenseTile {
        accumulators: Accumulators::Vectors,
        products: Products::Floats,
        rows: 1,
        a_pixel: 0,
        cols: vec![Col::full(Lanes::X4)],
        taps: vec![Tap { disp: 0, rows: 0..1 }],
        a_row: 0,
        kernel_rows: 1,
        k: Runs::Contiguous(1),
        c_pixel: 0,
        residual_pixel: 0,
        split: 1,
        broadcast: Broadcast::Register,
        floats: Floats::default(),
        weights_row: None,
        ahead: 0,
        epilogue: KernelEpilogue { activation, ..KernelEpilogue::default() },
    };
    let program = tile.program().unwrap_or_else(|e| panic!("{e}"));
    let ready = engine.prepare(&program).expect("one row fits");
    // Lanes are values; the input is 1.
    let mut results = Vec::new();
    for four in values.chunks(4) {
        let mut lanes = [0.0; 4];
        lanes[..four.len()].copy_from_slice(four);
        let (mut input, mut weights, mut output) = (bytes(&[1.0]), bytes(&lanes), vec![0; 16]);
        let mut given = Given {
            buffers: vec![
                (ParamRole::Input, &mut input, 0),
                (ParamRole::Weights, &mut weights, 0),
                (ParamRole::Output, &mut output, 0),
            ],
            ..Given::default()
        };
        ready.call(&mut given.args(&program));
        results.extend(floats(&output).into_iter().take(four.len()));
    }
    results
}

#[test]
fn every_activation_lets_nan_through() {
    for engine in Engine::all() {
        for activation in Activation::examples() {
            let found = apply(&engine, activation, &[f32::NAN, 1.0, -f32::NAN, -1.0]);
            let nan: Vec<bool> = found.iter().map(|x| x.is_nan()).collect();
            assert_eq!(nan, [true, false, true, false], "{}: {activation:?}", engine.name());
        }
    }
}

#[test]
fn infinities_saturate() {
    let (inf, f) = (f32::INFINITY, f32::to_bits);
    let cases = [
        (Activation::Relu, [inf, 0.0]),
        (Activation::relu6(), [6.0, 0.0]),
        (Activation::LeakyRelu { alpha: f(0.5) }, [inf, -inf]),
        (Activation::HardSigmoid { alpha: f(0.2), beta: f(0.5) }, [1.0, 0.0]),
        (Activation::Sigmoid, [1.0, 0.0]),
    ];
    for engine in Engine::all() {
        for (activation, expected) in cases {
            let found = apply(&engine, activation, &[inf, -inf]);
            assert_eq!(found, expected, "{}: {activation:?}", engine.name());
        }
        // As the formula says: ∞ · 1, and -∞ · 0.
        let silu = apply(&engine, Activation::Silu, &[inf, -inf]);
        assert!(silu[0] == inf && silu[1].is_nan(), "{}: {silu:?}", engine.name());
    }
}

/// Values over the whole range, denser around zero.
fn sweep() -> Vec<f32> {
    let wide = (-9000..=9000).map(|i| i as f32 / 100.0);
    let near = (-2000..=2000).map(|i| i as f32 / 1500.0 * 1.000_123);
    let tiny = (0..60).flat_map(|i| [f32::powi(0.5, i), -f32::powi(0.5, i)]);
    wide.chain(near).chain(tiny).chain([0.0, -0.0, f32::MAX, f32::MIN]).collect()
}

#[test]
fn sigmoid_and_silu_are_within_four_in_ten_million() {
    let values = sweep();
    for engine in Engine::all() {
        let sigmoid = apply(&engine, Activation::Sigmoid, &values);
        let silu = apply(&engine, Activation::Silu, &values);
        for ((x, sigmoid), silu) in values.iter().zip(sigmoid).zip(silu) {
            let exact = 1.0 / (1.0 + (-f64::from(*x)).exp());
            for (found, exact) in [(sigmoid, exact), (silu, f64::from(*x) * exact)] {
                let error = (f64::from(found) - exact).abs();
                let bound = exact.abs() * 4e-7;
                // Results that are not normal numbers may be flushed to zero.
                let tiny = exact.abs() < 1.1 * f64::from(f32::MIN_POSITIVE) * x.abs().max(1.0) as f64;
                assert!(
                    error <= bound || (tiny && error <= 1.1 * exact.abs()),
                    "{}: at {x}: {found}, not {exact}",
                    engine.name()
                );
            }
        }
    }
}
