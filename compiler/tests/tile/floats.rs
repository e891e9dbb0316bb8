//! Kernel programs over half floats: what the same program over `f32` makes of the widened values, rounded once.

use std::ops::Range;

use nnc::code::float::{Float, Floats};
use nnc::code::tile::ir::{Lanes, ParamKind, ParamRole, TileProgram};
use nnc::code::tile::programs::dense::{
    Accumulators, Broadcast, Col, DenseTile, Products, RunClass, Runs, Tap,
};
use nnc::code::tile::programs::depthwise::{DepthwiseTile, WeightPlace};
use nnc::code::tile::programs::epilogue::{Activation, KernelEpilogue, KernelResidual};
use nnc::code::tile::programs::pool::{GlobalPoolTile, PoolFunction, PoolTile};
use nnc::code::tile::programs::stage::StageTile;
use nnc::code::tile::programs::window::{Along, KernelPrologue, PixelBlock};
use nnc::code::tile::programs::winograd::input::InputTile;
use nnc::code::tile::programs::winograd::output::OutputTile;
use nnc::code::tile::programs::winograd::{Form, Sweeps};
use nnc::code::tile::verify::footprints;
use nnc::code::tile::{TileError, fits, store_registers};

use super::support::{Engine, Given, Random};

/// All types of inputs with all of outputs, and residuals of another one than either.
fn mixtures() -> Vec<Floats> {
    let mut all = Vec::new();
    for (i, input) in Float::ALL.into_iter().enumerate() {
        for (j, output) in Float::ALL.into_iter().enumerate() {
            all.extend([1, 2].map(|k| Floats { input, output, residual: Float::ALL[(i + 2 * j + k) % 3] }));
        }
    }
    all
}

/// What lies in the memory of a role.
fn float(floats: Floats, role: ParamRole) -> Float {
    match role {
        ParamRole::Input => floats.input,
        ParamRole::Output => floats.output,
        ParamRole::Residual => floats.residual,
        _ => Float::F32,
    }
}

fn encoded(values: &[f32], float: Float) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * float.bytes() as usize];
    for (value, bytes) in values.iter().zip(bytes.chunks_mut(float.bytes() as usize)) {
        float.write(*value, bytes);
    }
    bytes
}

/// The output of a call, as bytes. Values are the same for programs that differ in their types only: `values` of each role,
/// from this element on.
fn run(
    engine: &Engine,
    program: &TileProgram,
    floats: Floats,
    values: &[(ParamRole, Vec<f32>, usize)],
    table: &[i32],
    counts: &[(ParamRole, u64)],
) -> Option<Vec<u8>> {
    let ready = engine.prepare(program)?;
    let mut buffers: Vec<(ParamRole, Vec<u8>, usize)> = values
        .iter()
        .map(|(role, values, origin)| {
            let float = float(floats, *role);
            (*role, encoded(values, float), origin * float.bytes() as usize)
        })
        .collect();
    let size = floats.input.bytes() as i32;
    buffers.push((ParamRole::Table, table.iter().flat_map(|at| (at * size).to_le_bytes()).collect(), 0));
    let borrowed = buffers.iter_mut().map(|(role, bytes, origin)| (*role, bytes, *origin)).collect();
    ready.call(&mut Given { buffers: borrowed, counts: counts.to_vec() }.args(program));
    let output = buffers.into_iter().find(|(role, ..)| *role == ParamRole::Output)?;
    Some(output.1)
}

/// Checks a program for all mixtures of types. `make` writes it for some.
fn check(
    make: &dyn Fn(Floats) -> Result<TileProgram, TileError>,
    mixtures: &[Floats],
    table: &[i32],
    counts: &[(ParamRole, u64)],
) {
    let wide = make(Floats::default()).unwrap_or_else(|e| panic!("{e}"));
    let touched = footprints(&wide).expect("a program of this compiler");
    for &floats in mixtures {
        let narrow = make(floats).unwrap_or_else(|e| panic!("{e}"));
        let mut random = Random::new(7);
        let mut values = Vec::new();
        for (param, touched) in wide.params.iter().zip(&touched) {
            if let ParamKind::Read { .. } | ParamKind::Write { .. } = param.kind {
                let (before, behind) = ((-touched.lo).max(0) as usize / 4, touched.hi.max(0) as usize / 4);
                let float = float(floats, param.role);
                let mut value = |_| {
                    let mut bytes = [0; 4];
                    float.write(4.0 * random.float(), &mut bytes);
                    float.read(&bytes)
                };
                // A few elements around, which stay as they are.
                values.push((param.role, (0..before + behind + 8).map(&mut value).collect(), before + 4));
            }
        }
        for engine in Engine::all() {
            let run = |program, floats| run(&engine, program, floats, &values, table, counts);
            let (Some(exact), Some(found)) = (run(&wide, Floats::default()), run(&narrow, floats)) else {
                continue;
            };
            let sizes = [4, floats.output.bytes() as usize];
            for (i, (exact, found)) in exact.chunks(sizes[0]).zip(found.chunks(sizes[1])).enumerate() {
                let mut rounded = vec![0; sizes[1]];
                floats.output.write(Float::F32.read(exact), &mut rounded);
                assert_eq!(found, rounded, "{}, {}, {floats:?}: element {i}", engine.name(), narrow.name);
            }
        }
    }
}

fn epilogue(residual: KernelResidual) -> KernelEpilogue {
    KernelEpilogue { bias: true, residual, activation: Activation::relu6(), ..KernelEpilogue::default() }
}

/// Three taps over two kernel rows, for four pixels, of which the border has some outside.
fn dense(k: Runs, cols: &[Col], split: u32, broadcast: Broadcast, floats: Floats) -> DenseTile {
    let [input, output, residual] = [floats.input, floats.output, floats.residual].map(|f| f.bytes() as i32);
    let tap = |disp: i32, rows: Range<u32>| Tap { disp: disp * input, rows };
    DenseTile {
        accumulators: Accumulators::Vectors,
        products: Products::Floats,
        rows: 4,
        a_pixel: 24 * input,
        cols: cols.to_vec(),
        taps: vec![tap(-24, 1..4), tap(0, 0..4), tap(24, 0..3)],
        a_row: 300 * input,
        kernel_rows: 2,
        k,
        c_pixel: 40 * output,
        residual_pixel: 44 * residual,
        split,
        broadcast,
        floats,
        weights_row: None,
        ahead: 0,
        epilogue: epilogue(KernelResidual::BeforeActivation),
    }
}

#[test]
fn dense_tiles_read_channels_side_by_side() {
    let flat = [Col::full(Lanes::X8), Col::part(Lanes::X4, 3)];
    let folded = [Col { fold: 2, ..Col::full(Lanes::X8) }, Col { fold: 4, ..Col::part(Lanes::X4, 3) }];
    for (cols, split, broadcast) in
        [(flat, 1, Broadcast::Register), (flat, 2, Broadcast::Embedded), (folded, 1, Broadcast::Register)]
    {
        let make = |f: Floats| dense(Runs::Contiguous(20), &cols, split, broadcast, f).program();
        check(&make, &mixtures(), &[], &[(ParamRole::KernelRows, 2)]);
    }
}

#[test]
fn dense_tiles_read_planes_and_runs_from_a_table() {
    let cols = [Col::part(Lanes::X16, 13)];
    let planes = |f: Floats| {
        let k = Runs::Stepped { count: 3, step: 900 * f.input.bytes() as i32 };
        dense(k, &cols, 1, Broadcast::Register, f).program()
    };
    check(&planes, &mixtures(), &[], &[(ParamRole::KernelRows, 1)]);
    let table = |f: Floats| {
        let size = f.input.bytes() as i32;
        let class = |length, count| RunClass { length, count, least: 0, most: 2000 * size };
        let k = Runs::Table(vec![class(20, 2), class(4, 3), class(1, 1)]);
        dense(k, &cols, 1, Broadcast::Register, f).program()
    };
    check(&table, &mixtures(), &[0, 1980, 1000, 40, 700, 5], &[(ParamRole::KernelRows, 2)]);
}

fn window(along: Along, lanes: Lanes, used: u32, floats: Floats) -> PixelBlock {
    let (input, output) = (floats.input.bytes() as i32, floats.output.bytes() as i32);
    PixelBlock {
        rows: vec![1..3, 0..3],
        cols: vec![0..3, 0..3, 0..2],
        kernel: (3, 3),
        stride: (1, 2),
        dilation: (1, 1),
        floats,
        a_pixel: 36 * input,
        a_row: 600 * input,
        c_pixel: 40 * output,
        c_row: 700 * output,
        lanes,
        used,
        tiles: 2,
        along,
    }
}

#[test]
fn depthwise_blocks_go_along_columns_and_channels() {
    for (along, lanes, used) in [
        (Along::Columns, Lanes::X16, 16),
        (Along::Columns, Lanes::X8, 7),
        (Along::Channels, Lanes::X16, 16),
        (Along::Channels, Lanes::X4, 4),
    ] {
        let relu = |affine| KernelPrologue { affine, activation: Activation::Relu };
        for prologue in [KernelPrologue::default(), relu(false), relu(true)] {
            let make = |floats: Floats| {
                let residual = floats.residual.bytes() as i32;
                DepthwiseTile {
                    block: window(along, lanes, used, floats),
                    weights: WeightPlace::Memory,
                    residual_pixel: 44 * residual,
                    residual_row: 800 * residual,
                    prologue,
                    epilogue: epilogue(KernelResidual::AfterActivation),
                }
                .program()
            };
            check(&make, &mixtures(), &[], &[(ParamRole::Tiles, 2)]);
        }
    }
}

#[test]
fn pools_of_windows_and_of_pictures() {
    for pool in [PoolFunction::Max, PoolFunction::MeanInside, PoolFunction::MeanOf(9)] {
        for (along, lanes, used) in [(Along::Columns, Lanes::X8, 5), (Along::Channels, Lanes::X16, 16)] {
            let make = |floats: Floats| {
                let residual = floats.residual.bytes() as i32;
                PoolTile {
                    block: window(along, lanes, used, floats),
                    pool,
                    residual_pixel: 44 * residual,
                    residual_row: 800 * residual,
                    prologue: KernelPrologue::default(),
                    epilogue: KernelEpilogue {
                        residual: KernelResidual::BeforeActivation,
                        ..KernelEpilogue::default()
                    },
                }
                .program()
            };
            check(&make, &mixtures(), &[], &[(ParamRole::Tiles, 2)]);
        }
        let global = |floats: Floats| {
            let input = floats.input.bytes() as i32;
            let (a_pixel, a_row) = (20 * input, 170 * input);
            let cols = vec![Col::full(Lanes::X8), Col::part(Lanes::X4, 2)];
            let prologue = KernelPrologue { affine: true, activation: Activation::None };
            let (width, height, activation) = (7, 3, Activation::Relu);
            GlobalPoolTile { cols, width, height, floats, a_pixel, a_row, pool, prologue, activation }
                .program()
        };
        check(&global, &mixtures(), &[], &[]);
    }
}

/// Of those, the ones that write or read `f32` where a kind of program has nothing else.
fn of_input() -> Vec<Floats> {
    Float::ALL.map(|input| Floats { input, ..Floats::default() }).to_vec()
}

#[test]
fn copies_to_scratch_and_the_transforms_of_winograds_algorithm() {
    let stage = |floats: Floats| {
        let size = floats.input.bytes() as i32;
        let runs = vec![(3 * size, 21), (40 * size, 4)];
        let (input_pixel, activation) = (50 * size, Activation::Relu);
        let Floats { input, output, .. } = floats;
        let (rows, affine, output_pixel) = (5, true, 32 * output.bytes() as i32);
        StageTile { rows, runs, input, output, input_pixel, output_pixel, affine, activation }
            .program(Lanes::X8)
    };
    check(&stage, &mixtures(), &[], &[]);
    for form in [Form::F2, Form::F4] {
        for (lanes, used, vectors) in [(Lanes::X8, 8, 2), (Lanes::X4, 3, 1)] {
            let input = |floats: Floats| {
                let size = floats.input.bytes() as i32;
                InputTile {
                    form,
                    rows: 1..form.window() as u32,
                    cols: 0..form.window() as u32 - 1,
                    input: floats.input,
                    a_pixel: 20 * size,
                    a_row: 300 * size,
                    element: 256,
                    lanes,
                    used,
                    vectors,
                    sweeps: Sweeps::Rows,
                }
                .program()
            };
            check(&input, &of_input(), &[], &[]);
        }
        let output = |floats: Floats| {
            let (output, residual) = (floats.output.bytes() as i32, floats.residual.bytes() as i32);
            OutputTile {
                form,
                rows: form.outputs() as u32,
                cols: form.outputs() as u32 - 1,
                element: 256,
                output: floats.output,
                c_pixel: 30 * output,
                c_row: 400 * output,
                residual: floats.residual,
                residual_pixel: 34 * residual,
                residual_row: 500 * residual,
                panel: vec![Col::full(Lanes::X8), Col::full(Lanes::X8), Col::part(Lanes::X8, 5)],
                epilogue: epilogue(KernelResidual::BeforeActivation),
                sweeps: Sweeps::Rows,
            }
            .program()
        };
        let outputs = mixtures().into_iter().filter(|floats| floats.input == Float::F32);
        check(&output, &outputs.collect::<Vec<_>>(), &[], &[]);
    }
}

#[test]
fn blocks_with_room_for_their_epilogue_fit_whatever_they_store() {
    let target = nnc::target::Target::named("x86-64-v3").expect("a known name");
    for float in Float::ALL {
        let epilogue = KernelEpilogue {
            bias: true,
            residual: KernelResidual::None,
            activation: Activation::Silu,
            ..KernelEpilogue::default()
        };
        let rows = 16 - epilogue.registers(store_registers(float, &target)) as u32;
        let tile = DenseTile {
            accumulators: Accumulators::Vectors,
            products: Products::Floats,
            rows,
            taps: vec![Tap { disp: 0, rows: 0..rows }],
            kernel_rows: 1,
            epilogue,
            ..dense(Runs::Contiguous(8), &[Col::full(Lanes::X8)], 1, Broadcast::Embedded, Floats::all(float))
        };
        let program = tile.program().unwrap_or_else(|e| panic!("{e}"));
        fits(&program, &target).unwrap_or_else(|e| panic!("{float:?}: {e}"));
    }
}
