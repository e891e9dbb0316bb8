//! Random programs give the same values on every lowering as in the interpreter.

use nnc::code::float::Float;
use nnc::code::tile::interp::KernelArg;
use nnc::code::tile::ir::{
    Addr, BinOp, Builder, ByteRange, Inst, Int, Lanes, ParamKind, ParamRole, Source, Test, TileProgram,
    Trips, UnOp, Vector, at,
};
use nnc::code::tile::verify::{footprints, verify};
use proptest::prelude::*;

use super::support::{Engine, Random, bytes, same};

/// A program under construction, and what may be used at this point.
struct Maker {
    random: Random,
    b: Builder,
    input: Int,
    /// One for each type, which would not be told apart in one buffer where NaN is stored.
    outputs: [Int; 4],
    table: Int,
    rounds: Int,
    defined: Vec<Vector>,
    /// Loops that are open.
    depth: u32,
}

const OUTPUTS: [ParamRole; 4] = [ParamRole::Output, ParamRole::Bias, ParamRole::Scale, ParamRole::Factor];
const STORED: [Float; 4] = [Float::F32, Float::F16, Float::Bf16, Float::U8];
const CLASS: (u32, ByteRange) = (8, ByteRange::new(-64, 65));

/// A verified program of about `size` instructions whose ranges are exactly what it touches.
fn program(seed: u64, size: u32, vectors: usize) -> TileProgram {
    let mut b = Builder::new(format!("random{seed}"));
    let anywhere = ByteRange::new(i64::MIN / 4, i64::MAX / 4);
    let input = b.param(ParamRole::Input, ParamKind::Read { range: anywhere });
    let outputs = OUTPUTS.map(|role| b.param(role, ParamKind::Write { range: anywhere }));
    let table = b.param(ParamRole::Table, ParamKind::Table { classes: vec![CLASS] });
    let rounds = b.param(ParamRole::Tiles, ParamKind::Count { max: 3 });
    let mut maker =
        Maker { random: Random::new(seed), b, input, outputs, table, rounds, defined: Vec::new(), depth: 0 };
    for i in 0..vectors {
        let lanes = [Lanes::X4, Lanes::X8, Lanes::X16][i % 3];
        let v = maker.b.vector(lanes);
        maker.load(v);
        maker.defined.push(v);
    }
    maker.block(size);
    // Everything is stored at the end, so that no result goes unseen.
    let defined = maker.defined.clone();
    for (i, v) in defined.into_iter().enumerate() {
        let n = maker.b.lanes(v).count();
        maker.b.store(v, n, at(outputs[0], 4096 + 64 * i as i32));
    }
    let mut program = maker.b.finish();
    let touched = footprints(&program).expect("random programs are well formed");
    for (param, touched) in program.params.iter_mut().zip(touched) {
        match &mut param.kind {
            ParamKind::Read { range } | ParamKind::Write { range } => *range = touched,
            ParamKind::Table { .. } | ParamKind::Count { .. } => {}
        }
    }
    verify(&program).expect("the ranges are what is touched");
    program
}

impl Maker {
    fn address(&mut self, base: Int) -> Addr {
        at(base, 2 * self.random.below(128) as i32 - 128).of(self.float())
    }

    fn float(&mut self) -> Float {
        STORED[self.random.below(4)]
    }

    fn any(&mut self) -> Vector {
        let i = self.random.below(self.defined.len());
        self.defined[i]
    }

    /// A register at least as wide as `v`.
    fn as_wide(&mut self, v: Vector) -> Vector {
        loop {
            let candidate = self.any();
            if self.b.lanes(candidate) >= self.b.lanes(v) {
                return candidate;
            }
        }
    }

    fn operand(&mut self, result: Vector) -> Source {
        match self.random.below(5) {
            0 => Source::Mem(self.address(self.input)),
            1 => Source::Splat(self.address(self.input)),
            2 => Source::Imm(self.random.float().to_bits()),
            3 => Source::Imm([0, 1 << 31, 0x7f80_0000, 0x7fc0_0000][self.random.below(4)]),
            _ => Source::Reg(self.as_wide(result)),
        }
    }

    fn load(&mut self, dst: Vector) {
        let addr = self.address(self.input);
        let n = 1 + self.random.below(self.b.lanes(dst).count() as usize) as u8;
        let inst = match self.random.below(5) {
            0 => Inst::LoadPart { dst, addr, n },
            1 => Inst::Splat { dst, addr },
            4 => Inst::Spread { dst, addr, n: [2, 4][self.random.below(2)] },
            2 => Inst::Const { dst, bits: self.random.float().to_bits() },
            _ => Inst::Load { dst, addr },
        };
        self.b.push(inst);
    }

    fn block(&mut self, size: u32) {
        let mut left = size;
        while left > 0 {
            left -= 1;
            let dst = self.any();
            match self.random.below(20) {
                0 | 1 => self.load(dst),
                2 => {
                    let (a, b) = (self.as_wide(dst), self.operand(dst));
                    self.b.fma(dst, a, b);
                }
                3 => {
                    let (x, add) = (self.as_wide(dst), self.operand(dst));
                    self.b.mul_add(dst, x, add);
                }
                4..=6 => {
                    let op = [BinOp::Add, BinOp::Sub, BinOp::Mul, BinOp::Div, BinOp::Max, BinOp::Min];
                    let op = op[self.random.below(op.len())];
                    let (a, b) = (self.as_wide(dst), self.operand(dst));
                    self.b.bin(op, dst, a, b);
                }
                7 => {
                    let src = self.as_wide(dst);
                    self.b.push(Inst::Copy { dst, src });
                }
                8 => {
                    // Bits of a NaN that arithmetic made are not specified, so only loaded bits are shifted.
                    let addr = self.address(self.input).of(Float::F32);
                    self.b.push(Inst::Load { dst, addr });
                    let by = 1 + self.random.below(31) as u8;
                    self.b.push(match self.random.below(2) {
                        0 => Inst::Shl { dst, src: dst, by },
                        _ => Inst::Shr { dst, src: dst, by },
                    });
                }
                12 if self.random.below(2) == 0 => {
                    // As above: bits of what was loaded, and not converted, which makes a NaN quiet.
                    let addr = self.address(self.input).of(Float::F32);
                    self.b.push(Inst::Load { dst, addr });
                    let op = [BinOp::And, BinOp::Or, BinOp::Xor][self.random.below(3)];
                    let bits = [0x7fff_ffff, 1 << 31, 0x007f_ffff, 0x3f80_0000][self.random.below(4)];
                    self.b.bin(op, dst, dst, Source::Imm(bits));
                }
                12 => {
                    let src = self.as_wide(dst);
                    let op = [UnOp::Sqrt, UnOp::Floor, UnOp::Ceil, UnOp::Nearest][self.random.below(4)];
                    self.b.push(Inst::Un { op, dst, src });
                }
                13 => {
                    let test = [Test::Less, Test::LessOrEqual, Test::Equal][self.random.below(3)];
                    let [x, y, then, otherwise] = [(); 4].map(|()| self.as_wide(dst));
                    self.b.push(Inst::Select { test, x, y, dst, then, otherwise });
                }
                9 => {
                    let n = 1 + self.random.below(self.b.lanes(dst).count() as usize) as u32;
                    let which = self.random.below(4);
                    // Whole floats of its buffer.
                    let disp = 4 * self.random.below(64) as i32 - 128;
                    let addr = at(self.outputs[which], disp).of(STORED[which]);
                    self.b.store(dst, n, addr);
                }
                10 => {
                    let bytes = 4 * self.random.below(17) as i32 - 32;
                    let [single, half, brain, byte] = self.outputs;
                    let ptr = [self.input, single, half, brain, byte][self.random.below(5)];
                    self.b.advance(ptr, bytes);
                }
                18 => {
                    // Bits of a NaN that arithmetic made are not specified, so only loaded bytes are multiplied.
                    let [acc, a, b] =
                        [dst, self.b.vector(self.b.lanes(dst)), self.b.vector(self.b.lanes(dst))];
                    for dst in [acc, a, b] {
                        let addr = self.address(self.input).of(Float::F32);
                        self.b.push(Inst::Load { dst, addr });
                    }
                    let addr = self.address(self.input).of(Float::F32);
                    let bytes =
                        [Source::Mem(addr), Source::Splat(addr), Source::Reg(b), Source::Imm(0x80ff_7f01)];
                    match self.random.below(5) {
                        0 => self.b.dot(acc, a, bytes[self.random.below(4)]),
                        1 => self.b.dot_words(acc, a, bytes[self.random.below(4)]),
                        2 => self.b.bin(BinOp::MaxBytes, acc, a, bytes[2 * self.random.below(2)]),
                        3 => {
                            let among = self.b.lanes(dst).count() << self.random.below(4);
                            self.b.push(Inst::Gather { dst: acc, addr, places: a, among });
                        }
                        _ => {
                            let table = self.address(self.input).of(Float::U8);
                            self.b.push(Inst::Translate { dst: acc, src: a, table });
                        }
                    }
                    self.b.push(Inst::Un { op: UnOp::Number, dst: acc, src: acc });
                }
                19 => {
                    let lanes = self.b.lanes(dst);
                    let alike: Vec<Vector> =
                        self.defined.iter().copied().filter(|v| self.b.lanes(*v) == lanes).collect();
                    let count = [2, 4][self.random.below(2)];
                    let parts: Vec<Vector> =
                        (0..count).map(|_| alike[self.random.below(alike.len())]).collect();
                    let disp = 4 * self.random.below(64) as i32 - 128;
                    self.b.pack(&parts, at(self.outputs[3], disp).of(Float::U8));
                }
                15 if self.random.below(2) == 0 => {
                    let op = [BinOp::Add, BinOp::Mul, BinOp::Max, BinOp::Min, BinOp::Sub];
                    let op = op[self.random.below(op.len())];
                    let src = self.any();
                    self.b.push(Inst::Across { op, dst, src });
                }
                16 if self.random.below(2) == 0 => {
                    let (low, high) = (self.any(), self.any());
                    if [low, high].map(|v| self.b.lanes(v)) == [self.b.lanes(dst); 2] {
                        let first = self.random.below(2) as u8;
                        self.b.push(Inst::Pick { dst, low, high, first });
                    }
                }
                16 => {
                    let src = self.as_wide(dst);
                    let n = 1 + self.random.below(self.b.lanes(dst).count() as usize) as u8;
                    let bits = [0, 0xff80_0000, 0x3f80_0000][self.random.below(3)];
                    self.b.push(Inst::Fill { dst, src, n, bits });
                }
                15 => {
                    let src = self.any();
                    if self.b.lanes(src).count() == 2 * self.b.lanes(dst).count() {
                        self.b.push(Inst::Fold { dst, src });
                    }
                }
                14 => {
                    // Far outside every buffer: nothing is touched.
                    let addr = at(self.input, 1 << 30);
                    self.b.push(Inst::Prefetch { addr });
                }
                11 => {
                    let pointer = self.b.pointer();
                    let entry = at(self.table, 4 * self.random.below(8) as i32);
                    self.b.push(Inst::Lookup { dst: pointer, base: self.input, entry });
                    let addr = self.address(pointer);
                    self.b.push(Inst::Splat { dst, addr });
                    self.b.advance(pointer, 8);
                    let addr = self.address(pointer);
                    let a = self.as_wide(dst);
                    self.b.fma(dst, a, Source::Splat(addr));
                }
                _ if self.depth < 2 && left > 3 => {
                    let inner = self.random.below(left as usize / 2) as u32 + 1;
                    let count = match self.random.below(2) {
                        0 => Trips::Imm(1 + self.random.below(4) as u32),
                        _ => Trips::Param(self.rounds),
                    };
                    self.depth += 1;
                    self.b.begin();
                    self.block(inner);
                    self.b.end(count);
                    self.depth -= 1;
                    left = left.saturating_sub(inner);
                }
                _ => {}
            }
        }
    }
}

/// The floats of the output buffers after a run.
fn run(program: &TileProgram, engine: &Engine, seed: u64, rounds: u64, fused: bool) -> Option<Vec<f32>> {
    let mut random = Random::new(seed);
    let touched = footprints(program).expect("verified");
    let mut buffer = |i: usize| {
        let n = (touched[i].hi - touched[i].lo).max(0) as usize / 2 + 2;
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, f32::MIN_POSITIVE / 2.0];
        let mut value = |_| match random.below(12) {
            0 => special[random.below(special.len())],
            // Among them what is out of the range of f16, or a denormal of it.
            1 => random.float() * 2f32.powi(random.below(60) as i32 - 30),
            _ => random.float(),
        };
        let values: Vec<f32> = (0..n.div_ceil(2)).map(&mut value).collect();
        // A range may start after the pointer; then the buffer gets the bytes between.
        let mut bytes = bytes(&values);
        bytes.splice(0..0, std::iter::repeat_n(0, touched[i].lo.max(0) as usize));
        (bytes, (-touched[i].lo).max(0) as usize)
    };
    let mut buffers: Vec<(Vec<u8>, usize)> = (0..1 + OUTPUTS.len()).map(&mut buffer).collect();
    let displacements: Vec<i32> = (0..CLASS.0).map(|_| 4 * random.below(33) as i32 - 64).collect();
    let mut table: Vec<u8> = displacements.iter().flat_map(|d| d.to_le_bytes()).collect();
    let memory = buffers.iter_mut().map(|(bytes, origin)| KernelArg::Memory { bytes, origin: *origin });
    let mut args: Vec<KernelArg<'_>> = memory.collect();
    args.extend([KernelArg::Memory { bytes: &mut table, origin: 0 }, KernelArg::Count(rounds)]);
    let engine = match engine {
        Engine::Interpreter { .. } => &Engine::Interpreter { fused },
        native => native,
    };
    engine.prepare(program)?.call(&mut args);
    let outputs = buffers[1..].iter().zip(STORED);
    let floats = outputs.flat_map(|((bytes, _), float)| {
        // Some processors take a denormal for zero where they round to `bf16`, of which the largest may be the least normal number.
        let told = move |x: f32| {
            if float == Float::Bf16 && x.abs() <= f32::MIN_POSITIVE { 0.0f32.copysign(x) } else { x }
        };
        bytes.chunks(float.bytes() as usize).map(move |bytes| told(float.read(bytes)))
    });
    Some(floats.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_lowering_computes_what_the_interpreter_does(
        seed in any::<u64>(), size in 1u32..80, vectors in 3usize..10, rounds in 0u64..4,
    ) {
        let program = program(seed, size, vectors);
        let oracle = |fused| run(&program, &Engine::Interpreter { fused }, seed, rounds, fused);
        let expected = [oracle(false), oracle(true)];
        for engine in Engine::all() {
            let Some(found) = run(&program, &engine, seed, rounds, engine.fused()) else { continue };
            let expected = expected[usize::from(engine.fused())].as_ref().expect("the interpreter runs all");
            for (i, (a, b)) in found.iter().zip(expected).enumerate() {
                prop_assert!(same(*a, *b), "{}: float {i} is {a}, not {b}\n{program:#?}", engine.name());
            }
        }
    }
}
