//! What operators of two vectors give for special values, by the bits, on every lowering: it is said which of two equal values a maximum
//! is, and what becomes of NaN.

use nnc::code::tile::ir::{BinOp, Builder, ByteRange, Inst, Lanes, ParamKind, ParamRole, Source, Trips, at};

use super::support::{Engine, Given, bytes, floats, same};

const SPECIAL: [f32; 11] =
    [0.0, -0.0, 1.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-40, f32::MAX, f32::MIN];

/// `op` of each lane of four numbers each; the second operand comes from memory or from a register.
fn apply(engine: &Engine, op: BinOp, from_memory: bool, pairs: &[(f32, f32)]) -> Vec<f32> {
    let mut b = Builder::new("pair");
    let range = ByteRange::new(0, 16);
    let x = b.param(ParamRole::Input, ParamKind::Read { range });
    let y = b.param(ParamRole::Weights, ParamKind::Read { range });
    let result = b.param(ParamRole::Output, ParamKind::Write { range });
    b.begin();
    let first = b.load(Lanes::X4, 4, at(x, 0));
    let to = b.vector(Lanes::X4);
    let second = match from_memory {
        true => Source::Mem(at(y, 0)),
        false => Source::Reg(b.load(Lanes::X4, 4, at(y, 0))),
    };
    b.bin(op, to, first, second);
    b.store(to, 4, at(result, 0));
    b.end(Trips::Imm(1));
    let program = b.finish();
    let ready = engine.prepare(&program).expect("three registers");
    let mut results = Vec::new();
    for four in pairs.chunks(4) {
        let mut lanes = [[0.0f32; 4]; 2];
        for (i, &(a, b)) in four.iter().enumerate() {
            (lanes[0][i], lanes[1][i]) = (a, b);
        }
        let (mut input, mut weights, mut output) = (bytes(&lanes[0]), bytes(&lanes[1]), vec![0; 16]);
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

/// What the words of the tile IR say.
fn expected(op: BinOp, a: f32, b: f32) -> f32 {
    match op {
        BinOp::Add => a + b,
        BinOp::Sub => a - b,
        BinOp::Mul => a * b,
        BinOp::Div => a / b,
        // The second where they are equal, as zeros of both signs are, and where one is NaN.
        BinOp::Max => match a.partial_cmp(&b) {
            Some(std::cmp::Ordering::Greater) => a,
            _ => b,
        },
        BinOp::Min => match a.partial_cmp(&b) {
            Some(std::cmp::Ordering::Less) => a,
            _ => b,
        },
        BinOp::And => f32::from_bits(a.to_bits() & b.to_bits()),
        BinOp::Or => f32::from_bits(a.to_bits() | b.to_bits()),
        BinOp::Xor => f32::from_bits(a.to_bits() ^ b.to_bits()),
        BinOp::MaxBytes => {
            let bytes = |shift: u32| {
                let of = |x: f32| (x.to_bits() >> shift) & 0xff;
                of(a).max(of(b)) << shift
            };
            f32::from_bits([0, 8, 16, 24].map(bytes).iter().sum())
        }
    }
}

#[test]
fn special_values_give_the_same_on_every_lowering() {
    let pairs: Vec<(f32, f32)> = SPECIAL.iter().flat_map(|&a| SPECIAL.map(|b| (a, b))).collect();
    for engine in Engine::all() {
        let arithmetic = [BinOp::Add, BinOp::Sub, BinOp::Mul, BinOp::Div, BinOp::Max, BinOp::Min];
        for op in arithmetic.into_iter().chain([BinOp::And, BinOp::Or, BinOp::Xor, BinOp::MaxBytes]) {
            for from_memory in [false, true] {
                let found = apply(&engine, op, from_memory, &pairs);
                for (&(a, b), found) in pairs.iter().zip(found) {
                    let expected = expected(op, a, b);
                    assert!(
                        same(found, expected),
                        "{}: {op:?} of {a:?} and {b:?} is {found:?}, not {expected:?}",
                        engine.name()
                    );
                }
            }
        }
    }
}

#[test]
fn a_power_of_two_is_multiplied_with_one_rounding_on_every_lowering() {
    let numbers = [1.0, -1.0, 0.71, 1.41, 1.999_999_9, 0.5, 3e-6, 1e6, f32::NAN];
    let pairs: Vec<(f32, f32)> =
        numbers.iter().flat_map(|&x| (-200..=200).map(move |n| (x, n as f32))).collect();
    for engine in Engine::all() {
        for lanes in [Lanes::X4, Lanes::X8, Lanes::X16] {
            let mut b = Builder::new("scale");
            let extent = ByteRange::new(0, lanes.bytes().into());
            let x = b.param(ParamRole::Input, ParamKind::Read { range: extent });
            let n = b.param(ParamRole::Weights, ParamKind::Read { range: extent });
            let result = b.param(ParamRole::Output, ParamKind::Write { range: extent });
            let src = b.load(lanes, lanes.count(), at(x, 0));
            let by = b.load(lanes, lanes.count(), at(n, 0));
            // In place of the source, and of the exponent.
            let dst = b.vector(lanes);
            b.push(Inst::Scale { dst, src, by });
            b.push(Inst::Scale { dst: by, src, by });
            b.bin(BinOp::Add, dst, dst, Source::Reg(by));
            let by = b.load(lanes, lanes.count(), at(n, 0));
            b.push(Inst::Scale { dst: src, src, by });
            b.bin(BinOp::Add, dst, dst, Source::Reg(src));
            b.store(dst, lanes.count(), at(result, 0));
            let program = b.finish();
            let ready = engine.prepare(&program).expect("few registers");
            for some in pairs.chunks_exact(lanes.count() as usize) {
                let (x, n): (Vec<f32>, Vec<f32>) = some.iter().copied().unzip();
                let (mut input, mut weights) = (bytes(&x), bytes(&n));
                let mut output = vec![0; lanes.bytes() as usize];
                let mut given = Given {
                    buffers: vec![
                        (ParamRole::Input, &mut input, 0),
                        (ParamRole::Weights, &mut weights, 0),
                        (ParamRole::Output, &mut output, 0),
                    ],
                    ..Given::default()
                };
                ready.call(&mut given.args(&program));
                for (&(x, n), found) in some.iter().zip(floats(&output)) {
                    let once = (f64::from(x) * f64::from(n).exp2()) as f32;
                    let expected = once + once + once;
                    assert!(
                        same(found, expected),
                        "{}: {x} · 2^{n} is {found:e} three times, not {expected:e}",
                        engine.name()
                    );
                }
            }
        }
    }
}
