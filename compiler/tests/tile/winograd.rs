//! The transforms of Winograd's algorithm around plain products, as whole layers, against plain loops in f64.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use nnc::code::float::Float;
use nnc::code::tile::ir::{Lanes, ParamRole, TileProgram};
use nnc::code::tile::programs::dense::Col;
use nnc::code::tile::programs::epilogue::{Activation, KernelEpilogue, KernelResidual};
use nnc::code::tile::programs::winograd::input::InputTile;
use nnc::code::tile::programs::winograd::kernel::KernelTile;
use nnc::code::tile::programs::winograd::output::OutputTile;
use nnc::code::tile::programs::winograd::{Form, KernelTransform, Sweeps};

use super::support::{Engine, Given, Random, Ready, bytes, floats, same};

/// A convolution of stride 1 with a 3×3 kernel.
#[derive(Clone, Debug)]
struct Layer {
    form: Form,
    size: (usize, usize),
    /// Before and after, of both axes.
    pads: (usize, usize),
    channels: usize,
    /// Vectors of output channels.
    panel: Vec<Col>,
    epilogue: KernelEpilogue,
    sweeps: Sweeps,
}

impl Default for Layer {
    fn default() -> Layer {
        Layer {
            form: Form::F4,
            size: (9, 13),
            pads: (1, 1),
            channels: 16,
            panel: vec![Col::full(Lanes::X16)],
            epilogue: KernelEpilogue { bias: true, ..KernelEpilogue::default() },
            sweeps: Sweeps::Halves,
        }
    }
}

impl Layer {
    fn out(&self) -> (usize, usize) {
        let extent = |size: usize| size + self.pads.0 + self.pads.1 - 2;
        (extent(self.size.0), extent(self.size.1))
    }

    fn outputs(&self) -> usize {
        self.panel.iter().map(|c| c.used as usize).sum()
    }

    fn lanes(&self) -> usize {
        self.panel.iter().map(|c| c.lanes.count() as usize).sum()
    }
}

struct Data {
    input: Vec<f32>,
    /// `[n][c][ky][kx]`
    weights: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Data {
    fn new(layer: &Layer) -> Data {
        let mut random = Random::new(3);
        let (oh, ow) = layer.out();
        Data {
            input: random.floats(layer.size.0 * layer.size.1 * layer.channels),
            weights: random.floats(layer.outputs() * layer.channels * 9),
            bias: random.floats(layer.outputs()),
            residual: random.floats(oh * ow * layer.outputs()),
        }
    }
}

fn reference(layer: &Layer, data: &Data) -> Vec<f64> {
    let (oh, ow) = layer.out();
    let (h, w) = layer.size;
    let mut result = Vec::new();
    for oy in 0..oh {
        for ox in 0..ow {
            for n in 0..layer.outputs() {
                let mut sum = if layer.epilogue.bias { f64::from(data.bias[n]) } else { 0.0 };
                for tap in 0..9 {
                    let (y, x) = (oy + tap / 3, ox + tap % 3);
                    let (Some(y), Some(x)) = (y.checked_sub(layer.pads.0), x.checked_sub(layer.pads.0))
                    else {
                        continue;
                    };
                    if y >= h || x >= w {
                        continue;
                    }
                    for c in 0..layer.channels {
                        sum += f64::from(data.input[(y * w + x) * layer.channels + c])
                            * f64::from(data.weights[(n * layer.channels + c) * 9 + tap]);
                    }
                }
                let residual = f64::from(data.residual[(oy * ow + ox) * layer.outputs() + n]);
                if layer.epilogue.residual == KernelResidual::BeforeActivation {
                    sum += residual;
                }
                sum = match layer.epilogue.activation {
                    Activation::None => sum,
                    Activation::Relu => sum.max(0.0),
                    other => panic!("the reference knows no {other:?}"),
                };
                if layer.epilogue.residual == KernelResidual::AfterActivation {
                    sum += residual;
                }
                result.push(sum);
            }
        }
    }
    result
}

/// Programs that were prepared already.
#[derive(Default)]
struct Prepared(BTreeMap<String, Ready>);

impl Prepared {
    fn get(&mut self, engine: &Engine, program: &TileProgram) -> Option<&Ready> {
        Some(match self.0.entry(format!("{program:?}")) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(engine.prepare(program)?),
        })
    }
}

/// The layer tile by tile; `None` if a program does not fit the engine's registers.
fn by_tiles(layer: &Layer, data: &Data, engine: &Engine) -> Option<Vec<f32>> {
    let (form, (h, w), (oh, ow)) = (layer.form, layer.size, layer.out());
    let (m, window, elements) = (form.outputs(), form.window(), form.elements());
    let (channels, outputs, lanes) = (layer.channels, layer.outputs(), layer.lanes());
    let transform = KernelTransform::new(form);
    let kernels: Vec<Vec<f32>> = data
        .weights
        .as_chunks::<9>()
        .0
        .iter()
        .map(|g| {
            let mut transformed = vec![0.0; elements];
            transform.apply(g, &mut transformed);
            transformed
        })
        .collect();
    let mut lane_channels: Vec<Option<usize>> = Vec::new();
    for col in &layer.panel {
        let first = lane_channels.iter().filter(|c| c.is_some()).count();
        lane_channels.extend((0..col.lanes.count()).map(|l| (l < col.used).then_some(first + l as usize)));
    }
    let in_lanes =
        |f: &dyn Fn(usize) -> f32| -> Vec<f32> { lane_channels.iter().map(|c| c.map_or(0.0, f)).collect() };
    // Nothing outside the picture may be read, so it holds NaN.
    let margin = layer.pads.0 * (w + 1) * channels;
    let mut input = bytes(&vec![f32::NAN; margin]);
    input.extend(bytes(&data.input));
    let mut residual = bytes(&data.residual);
    let mut bias = bytes(&in_lanes(&|n| data.bias[n]));
    let mut output = bytes(&vec![f32::NAN; oh * ow * outputs]);
    let mut prepared = Prepared::default();
    for ty in (0..oh).step_by(m) {
        for tx in (0..ow).step_by(m) {
            let inside = |start: usize, size: usize| {
                let edge = |at: usize| (at as isize - start as isize).clamp(0, window as isize) as u32;
                let (first, end) = (edge(layer.pads.0), edge(layer.pads.0 + size));
                if first < end { first..end } else { 0..0 }
            };
            let mut v = bytes(&vec![f32::NAN; elements * channels]);
            let mut done = 0;
            while done < channels {
                let col = Lanes::holding((channels - done).min(16) as u32).expect("1 to 16");
                let used = (channels - done).min(col.count() as usize);
                // Two full vectors at once, where there are.
                let vectors = if used == 16 && channels - done >= 32 { 2 } else { 1 };
                let tile = InputTile {
                    form,
                    rows: inside(ty, h),
                    cols: inside(tx, w),
                    input: Float::F32,
                    a_pixel: 4 * channels as i32,
                    a_row: 4 * (w * channels) as i32,
                    element: 4 * channels as i32,
                    lanes: col,
                    used: used as u32,
                    vectors,
                    sweeps: layer.sweeps,
                };
                let program = tile.program().unwrap_or_else(|e| panic!("{e}"));
                let at = 4 * (margin + (ty * w + tx) * channels + done) as isize
                    - 4 * ((layer.pads.0 * (w + 1)) * channels) as isize;
                let mut given = Given {
                    buffers: vec![
                        (ParamRole::Input, &mut input, at as usize),
                        (ParamRole::Output, &mut v, 4 * done),
                    ],
                    ..Given::default()
                };
                prepared.get(engine, &program)?.call(&mut given.args(&program));
                done += used * vectors as usize;
            }
            let v = floats(&v);
            let mut product = vec![0.0f32; elements * lanes];
            for e in 0..elements {
                for c in 0..channels {
                    let row = in_lanes(&|n| kernels[n * channels + c][e]);
                    for (sum, weight) in product[e * lanes..].iter_mut().zip(row) {
                        *sum = v[e * channels + c].mul_add(weight, *sum);
                    }
                }
            }
            let mut product = bytes(&product);
            let tile = OutputTile {
                form,
                rows: m.min(oh - ty) as u32,
                cols: m.min(ow - tx) as u32,
                element: 4 * lanes as i32,
                output: Float::F32,
                residual: Float::F32,
                c_pixel: 4 * outputs as i32,
                c_row: 4 * (ow * outputs) as i32,
                residual_pixel: 4 * outputs as i32,
                residual_row: 4 * (ow * outputs) as i32,
                panel: layer.panel.clone(),
                epilogue: layer.epilogue,
                sweeps: layer.sweeps,
            };
            let program = tile.program().unwrap_or_else(|e| panic!("{e}"));
            let at = 4 * (ty * ow + tx) * outputs;
            let mut given = Given {
                buffers: vec![
                    (ParamRole::Input, &mut product, 0),
                    (ParamRole::Output, &mut output, at),
                    (ParamRole::Bias, &mut bias, 0),
                    (ParamRole::Residual, &mut residual, at),
                ],
                ..Given::default()
            };
            prepared.get(engine, &program)?.call(&mut given.args(&program));
        }
    }
    Some(floats(&output))
}

/// Runs the layer on every engine, and says on how many it fits.
#[track_caller]
fn check(layer: &Layer) -> usize {
    let data = Data::new(layer);
    let expected = reference(layer, &data);
    let mut fused: Option<Vec<f32>> = None;
    // Rounding errors of independent summands grow with the root of their number.
    let bound = 2e-6 * (layer.channels.max(16) as f64).sqrt();
    let mut ran = 0;
    for engine in Engine::all() {
        let Some(found) = by_tiles(layer, &data, &engine) else { continue };
        ran += 1;
        for (i, (x, y)) in found.iter().zip(&expected).enumerate() {
            let error = (f64::from(*x) - y).abs();
            assert!(error <= bound, "{}: {i}: {x}, not {y}: {layer:?}", engine.name());
        }
        if engine.fused() {
            let first = fused.get_or_insert_with(|| found.clone());
            let equal = found.iter().zip(first.iter()).all(|(a, b)| same(*a, *b));
            assert!(equal, "{} differs from the interpreter: {layer:?}", engine.name());
        }
    }
    ran
}

#[test]
fn layers_of_both_forms_are_right_at_every_border() {
    for form in [Form::F2, Form::F4] {
        for size in [(1, 1), (2, 7), (4, 4), (7, 7), (13, 5), (8, 14)] {
            for pads in [(1, 1), (0, 2), (2, 0), (2, 1)] {
                assert!(check(&Layer { form, size, pads, ..Layer::default() }) > 2);
            }
        }
        assert!(check(&Layer { form, size: (6, 9), pads: (0, 0), ..Layer::default() }) > 2);
        assert!(check(&Layer { form, size: (1, 2), pads: (5, 4), ..Layer::default() }) > 2);
    }
}

#[test]
fn any_number_of_rows_at_once_computes_the_same() {
    for form in [Form::F2, Form::F4] {
        for sweeps in Sweeps::ALL {
            let layer = Layer { form, sweeps, ..Layer::default() };
            let data = Data::new(&layer);
            let run = |layer: &Layer| {
                by_tiles(layer, &data, &Engine::Interpreter { fused: true }).expect("the interpreter spills")
            };
            let plain = run(&Layer { sweeps: Sweeps::Rows, ..layer.clone() });
            assert_eq!(run(&layer), plain, "{form:?} {sweeps:?}");
            check(&layer);
        }
    }
}

#[test]
fn channels_need_not_fill_vectors() {
    for form in [Form::F2, Form::F4] {
        for channels in [1, 5, 11, 20, 24, 48, 53] {
            check(&Layer { form, channels, size: (5, 6), ..Layer::default() });
        }
        let part = |lanes, used| Col::part(lanes, used);
        let full = Col::full;
        for panel in [
            vec![part(Lanes::X16, 13)],
            vec![full(Lanes::X16), full(Lanes::X16), part(Lanes::X8, 5)],
            vec![full(Lanes::X8), full(Lanes::X4), part(Lanes::X4, 1)],
        ] {
            check(&Layer { form, panel, size: (5, 6), ..Layer::default() });
        }
    }
}

#[test]
fn outputs_go_through_every_epilogue_of_residual_networks() {
    for form in [Form::F2, Form::F4] {
        for residual in
            [KernelResidual::None, KernelResidual::BeforeActivation, KernelResidual::AfterActivation]
        {
            for bias in [false, true] {
                let epilogue = KernelEpilogue {
                    bias,
                    residual,
                    activation: Activation::Relu,
                    ..KernelEpilogue::default()
                };
                let panel = vec![Col::full(Lanes::X16), Col::part(Lanes::X16, 11)];
                check(&Layer { form, epilogue, panel, size: (7, 6), ..Layer::default() });
            }
        }
    }
}

#[test]
fn every_target_has_registers_for_some_number_of_rows() {
    let mut wide = 0;
    for target in super::support::targets() {
        for form in [Form::F2, Form::F4] {
            let widest = Lanes::holding(target.isa.lanes()).expect("4 to 16");
            let input = InputTile {
                form,
                rows: 0..form.window() as u32,
                cols: 0..form.window() as u32,
                input: Float::F32,
                a_pixel: 256,
                a_row: 4096,
                element: 64,
                lanes: widest,
                used: widest.count(),
                vectors: 1,
                sweeps: Sweeps::Halves,
            };
            let (input, _) = input.fitted(&target).unwrap_or_else(|e| panic!("{}: {e}", target.name));
            let silu = KernelEpilogue {
                bias: true,
                residual: KernelResidual::BeforeActivation,
                activation: Activation::Silu,
                ..KernelEpilogue::default()
            };
            let output = OutputTile {
                form,
                rows: form.outputs() as u32,
                cols: form.outputs() as u32,
                element: 64,
                output: Float::F32,
                residual: Float::F32,
                c_pixel: 256,
                c_row: 4096,
                residual_pixel: 256,
                residual_row: 4096,
                panel: vec![Col::full(widest)],
                epilogue: silu,
                sweeps: Sweeps::Halves,
            };
            let (output, _) = output.fitted(&target).unwrap_or_else(|e| panic!("{}: {e}", target.name));
            println!("{} {form:?}: {:?}, {:?}", target.name, input.sweeps, output.sweeps);
            wide += usize::from(input.sweeps == Sweeps::Halves && output.sweeps == Sweeps::Halves);
        }
    }
    assert!(wide > 0, "some target holds half of all rows");
}

/// Some rows of elements of kernels that are transformed in vectors of these lanes; `None` if the program does not fit.
fn transformed(engine: &Engine, tile: &KernelTile, weights: &[f32]) -> Option<Vec<f32>> {
    let program = tile.program().unwrap_or_else(|e| panic!("{e}"));
    let ready = engine.prepare(&program)?;
    let elements = tile.rows.len() * tile.form.window();
    let (mut weights, mut output) = (bytes(weights), bytes(&vec![f32::NAN; elements * weights.len() / 9]));
    let buffers = [(ParamRole::Weights, &mut weights, 0), (ParamRole::Output, &mut output, 0)];
    let mut given = Given { buffers: buffers.into(), ..Given::default() };
    ready.call(&mut given.args(&program));
    Some(floats(&output))
}

#[test]
fn kernels_are_transformed_as_by_the_compiler() {
    let kernels = 48;
    let weights = Random::new(5).floats(9 * kernels);
    for form in [Form::F2, Form::F4] {
        let exact = |kernel: usize| {
            let g: [f32; 9] = std::array::from_fn(|tap| weights[tap * kernels + kernel]);
            let mut elements = vec![0.0; form.elements()];
            KernelTransform::new(form).apply(&g, &mut elements);
            elements
        };
        let exact: Vec<Vec<f32>> = (0..kernels).map(exact).collect();
        for engine in Engine::all() {
            for rows in Sweeps::ALL.into_iter().flat_map(|sweeps| sweeps.rows(form)) {
                let mut ran = 0;
                for lanes in [Lanes::X16, Lanes::X8, Lanes::X4] {
                    let (vectors, pitch) = (kernels as u32 / lanes.count(), 4 * kernels as i32);
                    let rows = rows.clone();
                    let tile = KernelTile { form, tap: pitch, element: pitch, lanes, vectors, rows };
                    let Some(found) = transformed(&engine, &tile, &weights) else { continue };
                    ran += 1;
                    for (i, found) in found.into_iter().enumerate() {
                        let (element, kernel) = (tile.rows.start * form.window() + i / kernels, i % kernels);
                        let off = (found - exact[kernel][element]).abs();
                        assert!(off <= 1e-6, "{}: element {element} of {tile:?} is off", engine.name());
                    }
                }
                assert!(ran > 0, "{} transforms rows {rows:?} of {form:?}", engine.name());
            }
        }
    }
}

#[test]
fn tiles_that_cannot_be_are_refused() {
    let input = InputTile {
        form: Form::F2,
        rows: 0..5,
        cols: 0..4,
        input: Float::F32,
        a_pixel: 64,
        a_row: 256,
        element: 64,
        lanes: Lanes::X16,
        used: 16,
        vectors: 1,
        sweeps: Sweeps::Rows,
    };
    assert!(input.program().is_err());
    assert!(InputTile { rows: 0..4, used: 0, ..input.clone() }.program().is_err());
    assert!(InputTile { rows: 0..4, a_row: i32::MAX, ..input.clone() }.program().is_err());
    assert!(InputTile { rows: 0..4, ..input }.program().is_ok());
}
