//! Tiles whose sums are in matrix registers compute what those do whose sums are in vectors: of bytes to the bit, of `bf16` within
//! rounding; and a machine that has such registers computes what the interpreter says, to the bit.

use nnc::code::float::{Float, Floats};
use nnc::code::tile::ir::{
    Builder, ByteRange, Inst, Lanes, MatrixProducts, MatrixShape, ParamKind, ParamRole, TileProgram, at,
};
use nnc::code::tile::programs::dense::matrix::{self, MatrixTile};
use nnc::code::tile::programs::dense::{
    Accumulators, Broadcast, Col, DenseTile, Products, RunClass, Runs, Tap, panel_channels, panel_width,
};
use nnc::code::tile::programs::epilogue::{Activation, KernelEpilogue, KernelResidual};
use nnc::code::tile::programs::rescale::{KernelSteps, Rescale};
use nnc::code::tile::{TileError, lower, verify};
use nnc::target::Target;

use super::support::{Engine as Runner, Given, Random, floats};

/// The interpreter, and the machine if it has matrix registers.
fn runners() -> Vec<Runner> {
    let target = Target::named("sapphirerapids").expect("a known name");
    let mut all = vec![Runner::Interpreter { fused: true }];
    match target.runs_here() {
        true => all.push(Runner::Native(target)),
        false => eprintln!("left out: this machine has no matrix registers"),
    }
    all
}

/// A tile and what its buffers are.
struct Case {
    tile: DenseTile,
    input: Vec<u8>,
    origin: usize,
    panel: Vec<u8>,
    table: Vec<u8>,
}

impl Case {
    /// What a program of it stores.
    fn run(&self, runner: &Runner, program: &TileProgram) -> Vec<u8> {
        let ready = runner.prepare(program).expect("few registers");
        let tile = &self.tile;
        let lanes = panel_width(&tile.cols) as usize;
        let words = |of: &dyn Fn(usize) -> [u8; 4]| (0..lanes).flat_map(of).collect::<Vec<u8>>();
        let (mut input, mut panel, mut table) = (self.input.clone(), self.panel.clone(), self.table.clone());
        let is_float = tile.products == Products::Halves;
        let mut bias = words(&|i| match is_float {
            true => (i as f32 / 3.0).to_le_bytes(),
            false => (i as i32 * 77 - 900).to_le_bytes(),
        });
        let mut factor = words(&|i| (0.001 * (1.0 + i as f32)).to_le_bytes());
        let mut addend = words(&|i| (i as f32 - 20.5).to_le_bytes());
        let end = tile.rows as usize * tile.c_pixel as usize;
        let mut output = vec![0xaa; end];
        let mut residual: Vec<u8> = (0..end / 4).flat_map(|i| (i as f32 / 7.0 - 5.0).to_le_bytes()).collect();
        let mut ahead = vec![0; 64];
        let mut scratch = vec![0x55; 1 << 14];
        let mut given = Given {
            buffers: vec![
                (ParamRole::Input, &mut input, self.origin),
                (ParamRole::Weights, &mut panel, 0),
                (ParamRole::Output, &mut output, 0),
                (ParamRole::Table, &mut table, 0),
                (ParamRole::Bias, &mut bias, 0),
                (ParamRole::Factor, &mut factor, 0),
                (ParamRole::Addend, &mut addend, 0),
                (ParamRole::Residual, &mut residual, 0),
                (ParamRole::Ahead, &mut ahead, 0),
                (ParamRole::Scratch, &mut scratch, 0),
            ],
            counts: Vec::new(),
        };
        ready.call(&mut given.args(program));
        output
    }
}

/// A random tile of some pixels in matrix registers.
fn case(random: &mut Random, products: Products) -> Option<Case> {
    let lane = if products == Products::Bytes { 4 } else { 2 };
    let run = |random: &mut Random| [1, 3, 15, 16, 17, 29, 36, 64, 100, 150][random.below(10)];
    let pair = if products == Products::Bytes { 1 } else { 2 };
    let k = match random.below(3) {
        0 => {
            let (long, short) = (run(random), run(random));
            let class = |length: u32, count: usize| RunClass {
                length: pair * length,
                count: count as u32,
                least: 0,
                most: 4000,
            };
            Runs::Table(vec![class(long, 1 + random.below(6)), class(short, 1 + random.below(3))])
        }
        _ => Runs::Contiguous(pair * run(random)),
    };
    let taps = [1, 1, 2, 9][random.below(4)];
    let longest = match &k {
        Runs::Table(classes) => classes.iter().map(|class| class.length).max()?,
        _ => k.channels() as u32,
    };
    // Neighbouring taps follow each other at times.
    let apart = if random.below(2) == 0 { longest } else { longest + 3 };
    let a_pixel = (lane * (apart + random.below(4) as u32)) as i32;
    let taps: Vec<Tap> = (0..taps).map(|tap| Tap { disp: (tap * apart * lane) as i32, rows: 0..0 }).collect();
    let float = if products == Products::Bytes { Float::F32 } else { Float::Bf16 };
    let widths = matrix::widths(matrix::lanes_of_runs(&k, &taps, float, products)?)?;
    let height = 1 + random.below(16) as u32;
    let rows = height * (1 + random.below(4)) as u32 - random.below(height as usize) as u32;
    let taps: Vec<Tap> = taps.into_iter().map(|tap| Tap { rows: 0..rows, ..tap }).collect();
    let columns = 1 + random.below(4);
    let mut cols = vec![Col::full(Lanes::X16); columns];
    *cols.last_mut()? = Col::part(Lanes::X16, 1 + random.below(16) as u32);
    let steps = random.below(2) == 0;
    let epilogue = match products {
        Products::Bytes => KernelEpilogue {
            bias: random.below(2) == 0,
            rescale: (random.below(4) > 0).then_some(Rescale {
                addend: random.below(2) == 0,
                steps: steps.then_some(KernelSteps { zero: 3 * random.below(2) as u8, low: 2, high: 250 }),
                near: random.below(2) == 0,
            }),
            ..KernelEpilogue::default()
        },
        _ => KernelEpilogue {
            bias: random.below(2) == 0,
            residual: [KernelResidual::None, KernelResidual::BeforeActivation][random.below(2)],
            activation: [Activation::None, Activation::relu6()][random.below(2)],
            ..KernelEpilogue::default()
        },
    };
    let is_steps = epilogue.rescale.is_some_and(|rescale| rescale.steps.is_some());
    let output = match (is_steps, products) {
        (true, _) => Float::U8,
        (false, Products::Halves) => [Float::F32, Float::Bf16][random.below(2)],
        (false, _) => Float::F32,
    };
    let channels = panel_channels(&cols);
    let sets = if 2 * columns <= 4 { 1 + random.below(2) as u8 } else { 1 };
    let one_step = widths[1] == 0 && u64::from(widths[0]) == k.rows(products) * taps.len() as u64;
    let resident = one_step && columns <= 3 && random.below(2) == 0;
    let tile = MatrixTile { height: height as u8, widths, sets, resident, lead: 0 }.of_pixels(rows as usize);
    let pixel = (output.span(channels) as u32 + random.below(9) as u32).next_multiple_of(4) as i32;
    let tile = DenseTile {
        accumulators: Accumulators::Matrices(tile),
        products,
        rows,
        a_pixel,
        cols,
        taps,
        a_row: 0,
        kernel_rows: 1,
        k,
        c_pixel: pixel,
        residual_pixel: 4 * channels as i32,
        split: 1,
        broadcast: Broadcast::Register,
        floats: Floats { input: float, output, residual: Float::F32 },
        weights_row: None,
        ahead: random.below(3) as u32,
        epilogue,
    };
    let residual = rows as i32 * tile.residual_pixel > rows as i32 * tile.c_pixel;
    let tile = DenseTile { c_pixel: if residual { tile.residual_pixel } else { tile.c_pixel }, ..tile };
    let Accumulators::Matrices(matrix) = tile.accumulators else { return None };
    let origin = a_pixel as usize * matrix.before(rows as usize);
    let last_tap = tile.taps.last()?.disp as usize;
    let reach =
        origin + rows as usize * a_pixel as usize + last_tap + 4000 + lane as usize * longest as usize;
    let mut value = || match products {
        Products::Bytes => [random.next() as u8, random.next() as u8],
        _ => half::bf16::from_f32(random.float()).to_le_bytes(),
    };
    let input: Vec<u8> = (0..reach.div_ceil(2)).flat_map(|_| value()).collect();
    let panel: Vec<u8> = (0..tile.panel_row_bytes() / 2).flat_map(|_| value()).collect();
    let entries = match &tile.k {
        Runs::Table(classes) => classes.iter().map(|class| class.count).sum(),
        _ => 0,
    };
    let table = (0..entries).flat_map(|_| (random.below(1000) as i32 * 4).to_le_bytes()).collect();
    Some(Case { tile, input, origin, panel, table })
}

#[test]
fn tiles_of_bytes_in_matrix_registers_store_the_bytes_of_those_in_vectors() {
    let mut random = Random::new(3);
    let mut found = 0;
    for _ in 0..120 {
        let Some(case) = case(&mut random, Products::Bytes) else { continue };
        let vectors =
            DenseTile { accumulators: Accumulators::Vectors, ..case.tile.clone() }.program().unwrap();
        let expected = case.run(&Runner::Interpreter { fused: true }, &vectors);
        let program = case.tile.program().unwrap_or_else(|e| panic!("{e}"));
        verify::verify(&program).unwrap_or_else(|e| panic!("{e}"));
        let program = program.configured();
        for runner in runners() {
            assert!(case.run(&runner, &program) == expected, "{}: {:?}", runner.name(), case.tile);
        }
        found += 1;
    }
    assert!(found > 60, "{found} tiles");
}

#[test]
fn tiles_of_halves_in_matrix_registers_are_those_in_vectors_within_rounding() {
    let mut random = Random::new(4);
    let mut found = 0;
    for _ in 0..120 {
        let Some(case) = case(&mut random, Products::Halves) else { continue };
        let vectors =
            DenseTile { accumulators: Accumulators::Vectors, ..case.tile.clone() }.program().unwrap();
        let near = case.run(&Runner::Interpreter { fused: true }, &vectors);
        let program = case.tile.program().unwrap_or_else(|e| panic!("{e}")).configured();
        let stored: Vec<Vec<u8>> = runners().iter().map(|runner| case.run(runner, &program)).collect();
        assert!(stored.iter().all(|found| found == &stored[0]), "{:?}", case.tile);
        let depth = (case.tile.k.channels() * case.tile.taps.len() as u64) as f32;
        let (floats, bound): (fn(&[u8]) -> Vec<f32>, f32) = match case.tile.floats.output {
            Float::Bf16 => (halves, 0.02),
            _ => (floats, 1e-5),
        };
        for (x, y) in floats(&stored[0]).into_iter().zip(floats(&near)) {
            assert!((x - y).abs() <= bound * (y.abs() + depth.sqrt()), "{x} and {y}: {:?}", case.tile);
        }
        found += 1;
    }
    assert!(found > 60, "{found} tiles");
}

fn halves(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|two| half::bf16::from_le_bytes(*two).to_f32()).collect()
}

/// A product of 2 × 3 lanes by 3 × 4.
fn product(acc: MatrixShape, a: MatrixShape, b: MatrixShape, products: MatrixProducts) -> TileProgram {
    let mut m = Builder::new("product");
    let read = |end: i64| ParamKind::Read { range: ByteRange::new(0, end) };
    let left = m.param(ParamRole::Input, read(256));
    let right = m.param(ParamRole::Weights, read(256));
    let sums = m.param(ParamRole::Output, ParamKind::Write { range: ByteRange::new(0, 256) });
    let [acc, a, b] = [acc, a, b].map(|shape| m.matrix(shape));
    m.push(Inst::MatrixLoad { dst: a, addr: at(left, 0), pitch: 12 });
    m.push(Inst::MatrixLoad { dst: b, addr: at(right, 0), pitch: 16 });
    m.push(Inst::MatrixLoad { dst: acc, addr: at(sums, 0), pitch: 16 });
    m.push(Inst::MatrixDot { acc, a, b, products });
    m.push(Inst::MatrixStore { src: acc, addr: at(sums, 0), pitch: 16 });
    m.finish()
}

const fn shape(rows: u8, lanes: u8) -> MatrixShape {
    MatrixShape { rows, lanes }
}

#[test]
fn a_machine_adds_up_bf16_with_all_their_special_values_as_the_interpreter_does() {
    let program = product(shape(2, 4), shape(2, 3), shape(3, 4), MatrixProducts::Halves).configured();
    let mut random = Random::new(9);
    // Infinities, NaN, denormals, the largest and the least numbers, and any others.
    let special = [0x0000, 0x8000, 0x0001, 0x807f, 0x7f80, 0xff80, 0x7fc0, 0x0080, 0x7f7f, 0xff7f, 0x3f80];
    for round in 0..400 {
        let mut word = || match random.below(3) {
            0 => special[random.below(special.len())],
            1 => random.next() as u16,
            _ => half::bf16::from_f32(random.float()).to_bits(),
        };
        let values: Vec<u8> = (0..3 * 128).flat_map(|_| word().to_le_bytes()).collect();
        let stored: Vec<Vec<u32>> = runners()
            .iter()
            .map(|runner| {
                let ready = runner.prepare(&program).expect("few registers");
                let [mut left, mut right, mut sums] = [0, 1, 2].map(|i| values[256 * i..][..256].to_vec());
                let mut given = Given {
                    buffers: vec![
                        (ParamRole::Input, &mut left, 0),
                        (ParamRole::Weights, &mut right, 0),
                        (ParamRole::Output, &mut sums, 0),
                    ],
                    counts: Vec::new(),
                };
                ready.call(&mut given.args(&program));
                // One NaN is as good as another.
                let bits = |x: f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
                floats(&sums).into_iter().map(bits).collect()
            })
            .collect();
        assert!(stored.iter().all(|found| found == &stored[0]), "round {round}: {stored:x?}");
    }
}

#[test]
fn products_of_registers_that_do_not_fit_are_refused() {
    let refused = |acc, a, b| {
        let program = product(acc, a, b, MatrixProducts::Bytes);
        verify::verify(&program).expect_err("a product that does not exist").to_string()
    };
    assert_eq!(
        refused(shape(2, 4), shape(2, 3), shape(2, 4)),
        "tile \"product\": a product of 2x3 by 2x4 to 2x4 is out of range"
    );
    assert!(refused(shape(3, 4), shape(2, 3), shape(3, 4)).contains("2x3 by 3x4 to 3x4"));
    assert!(
        refused(shape(17, 4), shape(2, 3), shape(3, 4)).contains("a matrix register of 17 rows of 4 lanes")
    );
    // Rows that end beyond what may be read.
    let error = refused(shape(2, 4), shape(2, 3), shape(16, 4)).replace("the product", "");
    assert!(error.contains("2x3 by 16x4"), "{error}");
    let fits = |target| {
        let program = product(shape(2, 4), shape(2, 3), shape(3, 4), MatrixProducts::Bytes);
        lower(&program, &Target::named(target).unwrap())
    };
    assert!(fits("sapphirerapids").is_ok());
    for other in ["icelake-server", "x86-64-v3", "aarch64", "sapphirerapids-clif"] {
        assert!(matches!(fits(other), Err(TileError::NoMatrices { .. })), "{other}");
    }
}

#[test]
fn sums_are_read_behind_a_configuration_only() {
    let mut b = Builder::new("early");
    let sums = b.param(ParamRole::Output, ParamKind::Write { range: ByteRange::new(0, 64) });
    let src = b.matrix(shape(1, 16));
    b.push(Inst::MatrixStore { src, addr: at(sums, 0), pitch: 64 });
    let program = b.finish();
    let error = verify::verify(&program).expect_err("nothing was written").to_string();
    assert_eq!(error, "tile \"early\": matrix register 0 is read before it is written");
    verify::verify(&program.configured()).expect("a configuration clears registers");
}
