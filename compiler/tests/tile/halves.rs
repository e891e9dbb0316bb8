//! Half floats in memory: every lowering against the conversions of the `half` crate, bit by bit.

use nnc::code::float::Float;
use nnc::code::tile::ir::{
    Addr, BinOp, Builder, ByteRange, Inst, Int, Lanes, ParamKind, ParamRole, Source, TileProgram, Trips, at,
};

use super::support::{Engine, Given, bytes, floats};

const HALVES: [Float; 2] = [Float::F16, Float::Bf16];

fn builder(read: i64, write: i64) -> (Builder, Int, Int) {
    let mut b = Builder::new("halves");
    let input = b.param(ParamRole::Input, ParamKind::Read { range: ByteRange::new(0, read) });
    let output = b.param(ParamRole::Output, ParamKind::Write { range: ByteRange::new(0, write) });
    (b, input, output)
}

/// What a program makes of some bytes.
fn run(engine: &Engine, program: &TileProgram, input: &[u8], output: &[u8]) -> Vec<u8> {
    let ready = engine.prepare(program).expect("few registers");
    let (mut input, mut output) = (input.to_vec(), output.to_vec());
    let buffers = vec![(ParamRole::Input, &mut input, 0), (ParamRole::Output, &mut output, 0)];
    ready.call(&mut Given { buffers, ..Given::default() }.args(program));
    output
}

/// Goes over `n` floats, `lanes` at a time.
fn converter(lanes: Lanes, n: usize, from: Float, to: Float) -> TileProgram {
    let bytes = |float: Float| float.bytes() as i64 * n as i64;
    let (mut b, input, output) = builder(bytes(from), bytes(to));
    b.begin();
    let x = b.load(lanes, lanes.count(), at(input, 0).of(from));
    b.store(x, lanes.count(), at(output, 0).of(to));
    b.advance(input, lanes.span(from));
    b.advance(output, lanes.span(to));
    b.end(Trips::Imm(n as u32 / lanes.count()));
    b.finish()
}

#[test]
fn every_half_float_is_widened_exactly() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for engine in Engine::all() {
        for float in HALVES {
            for lanes in [Lanes::X4, Lanes::X8, Lanes::X16] {
                let program = converter(lanes, 1 << 16, float, Float::F32);
                let found = floats(&run(&engine, &program, &all, &vec![0; 4 << 16]));
                for (bits, found) in (0..=u16::MAX).zip(found) {
                    let exact = float.read(&bits.to_le_bytes());
                    let same = found.to_bits() == exact.to_bits() || found.is_nan() && exact.is_nan();
                    assert!(same, "{}: {float:?} {bits:#x} is {found}, not {exact}", engine.name());
                }
            }
        }
    }
}

/// Every half float of a type, the ties between neighbours, their neighbours, and odd ones.
fn numbers(float: Float) -> Vec<f32> {
    let mut numbers = Vec::new();
    for bits in 0..=u16::MAX {
        let value = float.read(&bits.to_le_bytes());
        // The bits halfway to the next one: a tie, except above the largest number, where infinity begins.
        let tie = match float {
            Float::Bf16 => (u32::from(bits) << 16) + 0x8000,
            _ => {
                let next = float.read(&bits.wrapping_add(1).to_le_bytes());
                ((value + next) / 2.0).to_bits()
            }
        };
        let near = [tie.wrapping_sub(1), tie, tie.wrapping_add(1)].map(f32::from_bits);
        numbers.extend([value].into_iter().chain(near));
    }
    let nan = [0x7f80_0001, 0xff80_0001, 0x7fc0_1234, 0xffff_ffff, 0x7fa0_0000];
    let odd = [65519.99, 65520.0, -65520.0, 1e5, f32::MAX, f32::MIN, 2f32.powi(-25), 1e-30, 1e-45];
    numbers.extend(nan.map(f32::from_bits).into_iter().chain(odd));
    numbers.resize(numbers.len().next_multiple_of(16), 0.0);
    numbers
}

#[test]
fn floats_are_rounded_to_the_nearest_half_float_and_nan_keeps_its_sign_and_first_bits() {
    for engine in Engine::all() {
        for float in HALVES {
            let numbers = numbers(float);
            for lanes in [Lanes::X4, Lanes::X8, Lanes::X16] {
                let program = converter(lanes, numbers.len(), Float::F32, float);
                let found = run(&engine, &program, &bytes(&numbers), &vec![0; 2 * numbers.len()]);
                for (x, found) in numbers.iter().zip(found.as_chunks::<2>().0) {
                    let mut exact = [0; 2];
                    let flushes = matches!(&engine, Engine::Native(target) if target.rounds_to_halves());
                    let zero = x.is_subnormal() && float == Float::Bf16 && flushes;
                    float.write(if zero { 0f32.copysign(*x) } else { *x }, &mut exact);
                    let bits = x.to_bits();
                    assert_eq!(found, &exact, "{}: {x:e} ({bits:#x}) as {float:?}", engine.name());
                }
            }
        }
    }
}

/// The first `n` lanes and no more, one after another at odd distances.
#[test]
fn parts_touch_their_own_lanes_only() {
    for engine in Engine::all() {
        for float in HALVES {
            for lanes in [Lanes::X4, Lanes::X8, Lanes::X16] {
                for n in 1..=lanes.count() {
                    let size = float.span(n);
                    let (mut b, input, output) = builder(size, size + 64);
                    let x = b.load(lanes, n, at(input, 0).of(float));
                    b.store(x, lanes.count(), at(output, 0));
                    let narrow = size + 4 * i64::from(lanes.count());
                    b.store(x, n, at(output, 4 * lanes.count() as i32).of(float));
                    let mut program = b.finish();
                    program.params[1].kind = ParamKind::Write { range: ByteRange::new(0, narrow) };
                    let input: Vec<u8> = (0..n).flat_map(|i| (0x3c00 + 7 * i as u16).to_le_bytes()).collect();
                    let found = run(&engine, &program, &input, &[0xaa; 160]);
                    let (wide, rest) = found.split_at(4 * lanes.count() as usize);
                    for (i, found) in floats(wide).into_iter().enumerate() {
                        let exact = input.get(2 * i..).map_or(0.0, |at| float.read(at));
                        assert_eq!(found, exact, "{}: lane {i} of {n}, {float:?}", engine.name());
                    }
                    assert_eq!(&rest[..input.len()], input, "{}: {n} lanes of {float:?}", engine.name());
                    assert!(rest[input.len()..].iter().all(|b| *b == 0xaa), "{}: {n}", engine.name());
                }
            }
        }
    }
}

#[test]
fn half_floats_are_splat_spread_and_operands_in_high_registers_too() {
    for engine in Engine::all() {
        for float in HALVES {
            for lanes in [Lanes::X4, Lanes::X8, Lanes::X16] {
                let (mut b, input, output) = builder(64, 4096);
                let addr = |i: i32| -> Addr { at(input, 2 * i).of(float) };
                // Registers that push the others to numbers from 16 on, where there are so many.
                let held = if engine.name().contains("v4") { 20 } else { 4 };
                let held: Vec<_> = (0..held).map(|i| b.constant(lanes, i as f32)).collect();
                for i in 0..4 {
                    let x = match i {
                        3 => {
                            let sum = b.constant(lanes, 0.25);
                            b.fma(sum, held[1], Source::Mem(addr(3)));
                            b.fma(sum, held[2], Source::Splat(addr(5)));
                            b.bin(BinOp::Sub, sum, sum, Source::Mem(addr(1)));
                            sum
                        }
                        i => b.spread(lanes, addr(1 << i), 1 << i),
                    };
                    b.store(x, lanes.count(), at(output, 64 * i));
                    b.store(x, lanes.count(), at(output, 512 + 64 * i).of(float));
                }
                let total = b.constant(lanes, 0.0);
                held.iter().for_each(|x| b.bin(BinOp::Add, total, total, Source::Reg(*x)));
                b.push(Inst::Store { src: total, addr: at(output, 1024) });
                let program = b.finish();
                let numbers: Vec<f32> = (0..32).map(|i| i as f32 * 0.5 - 3.0).collect();
                let input: Vec<u8> = numbers
                    .iter()
                    .flat_map(|x| {
                        let mut bytes = [0; 2];
                        float.write(*x, &mut bytes);
                        bytes
                    })
                    .collect();
                let found = run(&engine, &program, &input, &[0; 4096]);
                for lane in 0..lanes.count() as usize {
                    let spread = [1, 2, 4].map(|n| numbers[n + lane % n]);
                    let sum = 0.25 + numbers[3 + lane] + 2.0 * numbers[5] - numbers[1 + lane];
                    for (i, exact) in spread.into_iter().chain([sum]).enumerate() {
                        let wide = floats(&found[64 * i..])[lane];
                        let narrow = float.read(&found[512 + 64 * i + 2 * lane..]);
                        assert_eq!((wide, narrow), (exact, exact), "{}: {i}, lane {lane}", engine.name());
                    }
                }
            }
        }
    }
}
