//! Products of pairs of `bf16`: the instruction against the interpreter, bit by bit, and tiles of them against tiles of floats.

use std::ops::Range;

use nnc::code::float::{Float, Floats};
use nnc::code::tile::ir::{Builder, ByteRange, Inst, Lanes, ParamKind, ParamRole, Source, TileProgram, at};
use nnc::code::tile::programs::dense::{
    Accumulators, Broadcast, Col, DenseTile, Products, RunClass, Runs, Tap, pack, panel_channels, panel_width,
};
use nnc::code::tile::programs::epilogue::KernelEpilogue;

use super::support::{Engine, Given, Random, Ready, bytes, floats, same};

/// Whether an engine takes denormals for zero whatever the thread does.
fn flushes(engine: &Engine) -> bool {
    match engine {
        Engine::Interpreter { .. } => true,
        Engine::Native(target) => target.has_dot_of_halves(),
    }
}

/// How the second factors come.
const SOURCES: usize = 4;

/// `acc`, `a` and `b` of some lanes each in a row in memory; `acc` with the products goes out.
fn program(lanes: Lanes, source: usize) -> TileProgram {
    let mut b = Builder::new("pairs");
    let span = i64::from(lanes.bytes());
    let input = b.param(ParamRole::Input, ParamKind::Read { range: ByteRange::new(0, 3 * span) });
    let output = b.param(ParamRole::Output, ParamKind::Write { range: ByteRange::new(0, span) });
    let place = |i: i64| at(input, (i * span) as i32);
    let acc = b.load(lanes, lanes.count(), place(0));
    let a = b.load(lanes, lanes.count(), place(1));
    let factor = match source {
        0 => Source::Reg(b.load(lanes, lanes.count(), place(2))),
        1 => Source::Mem(place(2)),
        2 => Source::Splat(place(2)),
        _ => Source::Imm(0x3fc0_c040),
    };
    b.dot_halves(acc, a, factor);
    b.push(Inst::Store { src: acc, addr: at(output, 0) });
    b.finish()
}

fn run(ready: &Ready, program: &TileProgram, input: &[u8], lanes: Lanes) -> Vec<f32> {
    let (mut input, mut output) = (input.to_vec(), vec![0; lanes.bytes() as usize]);
    let buffers = vec![(ParamRole::Input, &mut input, 0), (ParamRole::Output, &mut output, 0)];
    ready.call(&mut Given { buffers, ..Given::default() }.args(program));
    floats(&output)
}

/// A `bf16`: any bits, or a number whose products and sums are normal.
fn half(random: &mut Random, any: bool) -> u16 {
    let bits = random.next() as u16;
    match random.below(16) {
        _ if any && random.below(4) > 0 => bits,
        0 => {
            [0, 0x8000, 0x7f80, 0xff80, 0x7fc0, 0x7f7f, 0x0080, 0x0001][random.below(if any { 8 } else { 5 })]
        }
        _ => bits & 0x807f | (117 + random.below(20) as u16) << 7,
    }
}

#[test]
fn the_upper_product_is_added_first_then_the_lower_one_and_each_sum_is_rounded() {
    for engine in Engine::all() {
        let interpreter = Engine::Interpreter { fused: engine.fused() };
        for any in [false, true].into_iter().filter(|any| !any || flushes(&engine)) {
            let mut random = Random::new(11);
            for lanes in [Lanes::X4, Lanes::X8, Lanes::X16] {
                for source in 0..SOURCES {
                    let program = program(lanes, source);
                    let ready = |engine: &Engine| engine.prepare(&program).expect("few registers");
                    let both = [ready(&interpreter), ready(&engine)];
                    for round in 0..300 {
                        let count = lanes.count() as usize;
                        let acc = (0..count).map(|_| match any {
                            true if round % 2 == 0 => f32::from_bits(random.next() as u32),
                            _ => random.float() * (1 << (round % 20)) as f32,
                        });
                        let mut input = bytes(&acc.collect::<Vec<_>>());
                        input.extend((0..4 * count).flat_map(|_| half(&mut random, any).to_le_bytes()));
                        let [expected, found] = [0, 1].map(|of| run(&both[of], &program, &input, lanes));
                        for (lane, (e, f)) in expected.iter().zip(&found).enumerate() {
                            assert!(
                                same(*e, *f),
                                "{}: {lane} is {f:e}, not {e:e}: {input:x?}",
                                engine.name()
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn denormals_are_zero_before_and_after() {
    let least = f32::MIN_POSITIVE;
    let one = 0x3f80_0000u32;
    for (acc, a, b, expected) in [
        (least / 2.0, one, one, 1.0),
        (-least / 4.0, 0, one, 0.0),
        (0.0, 0x0040_0000, one, 0.0),
        (1.5 * least, 0xbf80_0000, least.to_bits(), 0.0),
    ] {
        let input =
            bytes(&[acc, 0.0, 0.0, 0.0, f32::from_bits(a), 0.0, 0.0, 0.0, f32::from_bits(b), 0.0, 0.0, 0.0]);
        for engine in Engine::all().iter().filter(|engine| flushes(engine)) {
            let program = program(Lanes::X4, 0);
            let ready = engine.prepare(&program).expect("few registers");
            let found = run(&ready, &program, &input, Lanes::X4)[0];
            assert_eq!(found, expected, "{}: {acc:e} + {a:x} · {b:x}", engine.name());
        }
    }
}

/// Three taps over two kernel rows, for four pixels, of which the border has some outside.
fn tile(k: Runs, cols: &[Col], split: u32, broadcast: Broadcast, products: Products) -> DenseTile {
    let tap = |disp: i32, rows: Range<u32>| Tap { disp: 2 * disp, rows };
    DenseTile {
        accumulators: Accumulators::Vectors,
        products,
        rows: 4,
        a_pixel: 2 * 90,
        cols: cols.to_vec(),
        taps: vec![tap(0, 1..4), tap(90, 0..4), tap(180, 0..3)],
        a_row: 2 * 700,
        kernel_rows: 2,
        k,
        c_pixel: 4 * panel_channels(cols) as i32,
        residual_pixel: 0,
        split,
        broadcast,
        floats: Floats { input: Float::Bf16, output: Float::F32, residual: Float::F32 },
        weights_row: None,
        ahead: 0,
        epilogue: KernelEpilogue::default(),
    }
}

/// Lengths of the runs.
fn lengths(k: &Runs) -> Vec<u32> {
    match k {
        Runs::Contiguous(count) | Runs::Stepped { count, .. } => vec![*count],
        Runs::Table(classes) => {
            classes.iter().flat_map(|class| vec![class.length; class.count as usize]).collect()
        }
    }
}

/// The weight of a lane; a `bf16`.
fn weight(n: u32, k: u32, ky: u32, kx: u32) -> f32 {
    let some = (n * 37 + k * 11 + ky * 5 + kx * 3 + n * k) % 61;
    half::bf16::from_f32(some as f32 / 31.0 - 1.0).to_f32()
}

/// The panel as pairs, `[ky][kx][pair][lane]`.
fn pairs(tile: &DenseTile) -> Vec<u8> {
    let mut panel = Vec::new();
    let lanes: Vec<Option<u32>> = {
        let mut next = 0;
        tile.cols
            .iter()
            .flat_map(|col| {
                let first = next;
                next += col.used;
                (0..col.lanes.count()).map(move |lane| (lane < col.used).then_some(first + lane))
            })
            .collect()
    };
    for (ky, kx) in (0..2).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
        let mut first = 0;
        for length in lengths(&tile.k) {
            for pair in 0..length.div_ceil(2) {
                let (lower, upper) = match 2 * pair + 1 < length {
                    true => (Some(first + 2 * pair), first + 2 * pair + 1),
                    false => (None, first + 2 * pair),
                };
                for lane in &lanes {
                    let of = |k: u32| lane.map_or(0.0, |n| weight(n, k, ky, kx));
                    for value in [lower.map_or(0.0, of), of(upper)] {
                        panel.extend(half::bf16::from_f32(value).to_le_bytes());
                    }
                }
            }
            first += length;
        }
    }
    panel
}

/// What a tile computes.
fn computed(
    engine: &Engine,
    tile: &DenseTile,
    input: &[u8],
    panel: &[u8],
    table: &[i32],
) -> Option<Vec<f32>> {
    let program = tile.program().unwrap_or_else(|e| panic!("{e}"));
    let ready = engine.prepare(&program)?;
    let (mut input, mut panel) = (input.to_vec(), panel.to_vec());
    assert_eq!(panel.len() as i64, 2 * tile.panel_row_bytes(), "{}", program.name);
    let mut table = table.iter().flat_map(|disp| (2 * disp).to_le_bytes()).collect();
    let mut output = vec![0; 4 * 4 * panel_channels(&tile.cols) as usize];
    let mut given = Given {
        buffers: vec![
            (ParamRole::Input, &mut input, 0),
            (ParamRole::Weights, &mut panel, 0),
            (ParamRole::Output, &mut output, 0),
            (ParamRole::Table, &mut table, 0),
        ],
        counts: vec![(ParamRole::KernelRows, 2)],
    };
    ready.call(&mut given.args(&program));
    Some(floats(&output))
}

#[test]
fn tiles_in_pairs_and_by_narrow_weights_compute_what_tiles_of_floats_do() {
    let class = |length, count| RunClass { length, count, least: 0, most: 1200 };
    let shapes = [
        (Runs::Contiguous(1), &[][..]),
        (Runs::Contiguous(7), &[]),
        (Runs::Contiguous(32), &[]),
        (Runs::Contiguous(45), &[]),
        (
            Runs::Table(vec![class(41, 2), class(6, 1), class(3, 5), class(1, 3)]),
            &[0, 41, 500, 90, 300, 7, 99, 200, 11, 13, 600],
        ),
    ];
    let cols = [Col::full(Lanes::X16), Col::part(Lanes::X8, 5), Col::full(Lanes::X4)];
    let mut random = Random::new(5);
    // Beyond the image are numbers that no sum may touch.
    let mut input: Vec<u8> =
        (0..700 + 700 + 6 * 90).flat_map(|_| half::bf16::from_f32(random.float()).to_le_bytes()).collect();
    input.extend([0xff; 64]);
    let mut ran = 0;
    for (k, table) in &shapes {
        for cols in [&cols[..1], &cols[..]] {
            for (split, broadcast) in [
                (1, Broadcast::Register),
                (1, Broadcast::Embedded),
                (2, Broadcast::Register),
                (4, Broadcast::Embedded),
            ] {
                let make = |products| tile(k.clone(), cols, split, broadcast, products);
                let plain = bytes(&pack(cols, (2, 3), k.channels() as u32, weight));
                let narrow: Vec<u8> =
                    floats(&plain).into_iter().flat_map(|w| half::bf16::from_f32(w).to_le_bytes()).collect();
                let in_pairs = pairs(&make(Products::Halves));
                assert_eq!(
                    in_pairs.len() as u64,
                    6 * 4 * u64::from(panel_width(cols)) * k.rows(Products::Halves)
                );
                let mut fused: Option<Vec<f32>> = None;
                for engine in Engine::all() {
                    let of =
                        |products, panel: &[u8]| computed(&engine, &make(products), &input, panel, table);
                    let Some(expected) = of(Products::Floats, &plain) else { continue };
                    if let Some(found) = of(Products::Widened(Float::Bf16), &narrow) {
                        assert_eq!(found, expected, "{}: {k:?}", engine.name());
                    }
                    let Some(found) = of(Products::Halves, &in_pairs) else { continue };
                    ran += 1;
                    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
                        let bound = k.channels() as f32 * 6.0 * 1e-6;
                        assert!((f - e).abs() <= bound, "{}: {k:?}: {i} is {f}, not {e}", engine.name());
                    }
                    if engine.fused() {
                        assert_eq!(fused.get_or_insert_with(|| found.clone()), &found, "{}", engine.name());
                    }
                }
            }
        }
    }
    assert!(ran > 100, "{ran}");
}

#[test]
fn pairs_are_of_neighbours_in_a_panel_without_folded_columns() {
    let cols = [Col::full(Lanes::X4)];
    let make = |k, cols: &[Col]| tile(k, cols, 1, Broadcast::Register, Products::Halves);
    let folded = [Col { fold: 2, ..cols[0] }];
    let of_f32 = DenseTile { floats: Floats::default(), ..make(Runs::Contiguous(4), &cols) };
    for tile in
        [make(Runs::Stepped { count: 4, step: 20 }, &cols), make(Runs::Contiguous(4), &folded), of_f32]
    {
        let error = tile.program().unwrap_err().to_string();
        assert!(error.contains("neighbouring channels"), "{error}");
    }
}
