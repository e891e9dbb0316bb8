//! Depthwise and pool blocks put together to whole layers, against plain loops in f64.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use nnc::code::float::Floats;
use nnc::code::tile::ir::{Lanes, ParamRole, TileProgram};
use nnc::code::tile::programs::dense::Col;
use nnc::code::tile::programs::depthwise::{DepthwiseTile, WeightPlace, pack};
use nnc::code::tile::programs::epilogue::{Activation, KernelEpilogue, KernelResidual};
use nnc::code::tile::programs::pool::{GlobalPoolTile, PoolFunction, PoolTile};
use nnc::code::tile::programs::window::{Along, KernelPrologue, PixelBlock};

use super::support::{Engine, Given, Random, bytes, floats, same};

/// A layer that treats channels one by one.
#[derive(Clone, Debug)]
struct Layer {
    size: (usize, usize),
    channels: usize,
    kernel: (usize, usize),
    stride: usize,
    dilation: usize,
    pad: usize,
    /// Output rows and columns of a block.
    block: (usize, usize),
    /// How the blocks of a call follow one another.
    along: Along,
    lanes: Lanes,
    prologue: KernelPrologue,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Depthwise(WeightPlace, KernelEpilogue),
    Pool(PoolFunction),
}

impl Default for Layer {
    fn default() -> Layer {
        let epilogue = KernelEpilogue { bias: true, ..KernelEpilogue::default() };
        Layer {
            size: (7, 7),
            channels: 16,
            kernel: (3, 3),
            stride: 1,
            dilation: 1,
            pad: 1,
            block: (1, 3),
            along: Along::Columns,
            lanes: Lanes::X16,
            prologue: KernelPrologue::default(),
            kind: Kind::Depthwise(WeightPlace::Held, epilogue),
        }
    }
}

impl Layer {
    fn out(&self) -> (usize, usize) {
        let extent = |size: usize, kernel: usize| {
            (size + 2 * self.pad - self.dilation * (kernel - 1) - 1) / self.stride + 1
        };
        (extent(self.size.0, self.kernel.0), extent(self.size.1, self.kernel.1))
    }

    /// The kernel elements inside the image for one output row or column.
    fn inside(&self, out: usize, kernel: usize, size: usize) -> Range<u32> {
        let at = |k: &usize| (out * self.stride + k * self.dilation) as i64 - self.pad as i64;
        let valid: Vec<usize> = (0..kernel).filter(|k| (0..size as i64).contains(&at(k))).collect();
        match (valid.first(), valid.last()) {
            (Some(a), Some(b)) => *a as u32..*b as u32 + 1,
            _ => 0..0,
        }
    }
}

struct Data {
    input: Vec<f32>,
    /// `[channel][ky][kx]`
    weights: Vec<f32>,
    bias: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    residual: Vec<f32>,
}

impl Data {
    fn new(layer: &Layer) -> Data {
        let mut random = Random::new(11);
        let (oh, ow) = layer.out();
        let c = layer.channels;
        Data {
            input: random.floats(layer.size.0 * layer.size.1 * c),
            weights: random.floats(c * layer.kernel.0 * layer.kernel.1),
            bias: random.floats(c),
            scale: random.floats(c),
            shift: random.floats(c),
            residual: random.floats(oh * ow * c),
        }
    }

    fn weight(&self, layer: &Layer, c: usize, ky: usize, kx: usize) -> f32 {
        self.weights[(c * layer.kernel.0 + ky) * layer.kernel.1 + kx]
    }

    fn prologue(&self, prologue: KernelPrologue, x: f32, c: usize) -> f64 {
        let x = if prologue.affine { x * self.scale[c] + self.shift[c] } else { x };
        let (x, bound) = (f64::from(x), |bits: u32| f64::from(f32::from_bits(bits)));
        match prologue.activation {
            Activation::None => x,
            Activation::Relu => x.max(0.0),
            Activation::Clip { lo, hi } => x.max(bound(lo)).min(bound(hi)),
            Activation::LeakyRelu { alpha } => x.max(0.0) + x.min(0.0) * bound(alpha),
            Activation::HardSwish { alpha, beta } => x * (x * bound(alpha) + bound(beta)).clamp(0.0, 1.0),
            other => panic!("{other:?} has no reference here"),
        }
    }
}

const RELU: KernelPrologue = KernelPrologue { affine: false, activation: Activation::Relu };
const AFFINE_RELU: KernelPrologue = KernelPrologue { affine: true, activation: Activation::Relu };

/// Prologues of all sorts. The clip makes something of nothing, so that padding would show.
fn prologues() -> Vec<KernelPrologue> {
    let activations = [
        Activation::None,
        Activation::Relu,
        Activation::Clip { lo: 0.25f32.to_bits(), hi: 0.75f32.to_bits() },
        Activation::LeakyRelu { alpha: 0.1f32.to_bits() },
        Activation::HardSwish { alpha: (1.0f32 / 6.0).to_bits(), beta: 0.5f32.to_bits() },
    ];
    let both = |activation| [false, true].map(|affine| KernelPrologue { affine, activation });
    activations.into_iter().flat_map(both).collect()
}

fn reference(layer: &Layer, data: &Data) -> Vec<f64> {
    let (oh, ow) = layer.out();
    let mut result = Vec::new();
    for oy in 0..oh {
        for ox in 0..ow {
            for c in 0..layer.channels {
                let mut seen = Vec::new();
                for ky in layer.inside(oy, layer.kernel.0, layer.size.0) {
                    for kx in layer.inside(ox, layer.kernel.1, layer.size.1) {
                        let y = oy * layer.stride + ky as usize * layer.dilation - layer.pad;
                        let x = ox * layer.stride + kx as usize * layer.dilation - layer.pad;
                        let value = data.input[(y * layer.size.1 + x) * layer.channels + c];
                        let weight = data.weight(layer, c, ky as usize, kx as usize);
                        seen.push((data.prologue(layer.prologue, value, c), f64::from(weight)));
                    }
                }
                let sum = seen.iter().map(|(x, _)| x).sum::<f64>();
                result.push(match layer.kind {
                    Kind::Pool(PoolFunction::Max) => {
                        seen.iter().map(|(x, _)| *x).fold(f64::NEG_INFINITY, f64::max)
                    }
                    Kind::Pool(PoolFunction::MeanInside) => sum / seen.len().max(1) as f64,
                    Kind::Pool(PoolFunction::MeanOf(n)) => sum / f64::from(n),
                    Kind::Pool(PoolFunction::MaxBytes) => panic!("the reference knows no bytes"),
                    Kind::Depthwise(_, epilogue) => {
                        let mut y = seen.iter().map(|(x, w)| x * w).sum::<f64>();
                        if epilogue.bias {
                            y += f64::from(data.bias[c]);
                        }
                        let residual = f64::from(data.residual[(oy * ow + ox) * layer.channels + c]);
                        if epilogue.residual == KernelResidual::BeforeActivation {
                            y += residual;
                        }
                        match epilogue.activation {
                            Activation::None => y,
                            Activation::Relu => y.max(0.0),
                            other => panic!("the reference knows no {other:?}"),
                        }
                    }
                });
            }
        }
    }
    result
}

/// Packed parameters of some vectors of channels.
fn lanes_of(values: &[f32], c0: usize, used: usize, lanes: usize, vectors: usize) -> Vec<u8> {
    let value = |v: usize, l: usize| if l < used { values[c0 + v * lanes + l] } else { 0.0 };
    let padded: Vec<f32> = (0..vectors).flat_map(|v| (0..lanes).map(move |l| value(v, l))).collect();
    bytes(&padded)
}

fn by_blocks(layer: &Layer, data: &Data, engine: &Engine) -> Option<Vec<f32>> {
    let (oh, ow) = layer.out();
    let pixel = 4 * layer.channels;
    let (in_row, out_row) = (pixel * layer.size.1, pixel * ow);
    // The first element of a window may lie outside; nothing there may be read, so it holds NaN.
    let margin = layer.pad * (in_row + pixel);
    let mut input = bytes(&vec![f32::NAN; margin / 4]);
    input.extend(bytes(&data.input));
    let mut residual = bytes(&data.residual);
    let mut output = vec![0xff; 4 * oh * ow * layer.channels];
    let mut kernels = BTreeMap::new();
    let mut c0 = 0;
    while c0 < layer.channels {
        let widest = layer.lanes.count() as usize;
        let used = (layer.channels - c0).min(widest);
        // As many whole vectors as follow, up to three, are one call.
        let vectors = match layer.along {
            Along::Columns => 1,
            Along::Channels => ((layer.channels - c0) / widest).clamp(1, 3),
        };
        let lanes = Lanes::holding(used as u32).expect("at most 16");
        let width = lanes.count() as usize;
        let kernel = (layer.kernel.0 as u32, layer.kernel.1 as u32);
        let mut weights = Vec::new();
        for v in 0..vectors {
            weights.extend(bytes(&pack(width as u32, used as u32, kernel, |c, ky, kx| {
                data.weight(layer, c0 + v * width + c as usize, ky as usize, kx as usize)
            })));
        }
        let mut bias = lanes_of(&data.bias, c0, used, width, vectors);
        let mut scale = lanes_of(&data.scale, c0, used, width, vectors);
        let mut shift = lanes_of(&data.shift, c0, used, width, vectors);
        let mut oy = 0;
        while oy < oh {
            let rows: Vec<Range<u32>> = (oy..oh.min(oy + layer.block.0))
                .map(|y| layer.inside(y, layer.kernel.0, layer.size.0))
                .collect();
            let mut ox = 0;
            while ox < ow {
                let columns = |ox: usize| -> Vec<Range<u32>> {
                    (ox..ow.min(ox + layer.block.1))
                        .map(|x| layer.inside(x, layer.kernel.1, layer.size.1))
                        .collect()
                };
                let cols = columns(ox);
                // As many equal blocks as follow are one call.
                let (tiles, most) = match layer.along {
                    Along::Columns => {
                        ((0..).take_while(|t| columns(ox + t * cols.len()) == cols).take(4).count(), 4)
                    }
                    Along::Channels => (vectors, 3),
                };
                let window = PixelBlock {
                    rows: rows.clone(),
                    cols: cols.clone(),
                    kernel,
                    stride: (layer.stride as u32, layer.stride as u32),
                    dilation: (layer.dilation as u32, layer.dilation as u32),
                    floats: Floats::default(),
                    a_pixel: pixel as i32,
                    a_row: in_row as i32,
                    c_pixel: pixel as i32,
                    c_row: out_row as i32,
                    lanes,
                    used: used as u32,
                    tiles: if tiles > 1 { most } else { 1 },
                    along: layer.along,
                };
                let program: TileProgram = match layer.kind {
                    Kind::Pool(pool) => PoolTile {
                        block: window,
                        pool,
                        residual_pixel: 0,
                        residual_row: 0,
                        prologue: layer.prologue,
                        epilogue: KernelEpilogue::default(),
                    }
                    .program(),
                    Kind::Depthwise(weights, epilogue) => DepthwiseTile {
                        block: window,
                        weights,
                        residual_pixel: pixel as i32,
                        residual_row: out_row as i32,
                        prologue: layer.prologue,
                        epilogue,
                    }
                    .program(),
                }
                .unwrap_or_else(|e| panic!("{e}"));
                let ready = match kernels.entry(format!("{program:?}")) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => entry.insert(engine.prepare(&program)?),
                };
                let (y, x) = (oy * layer.stride, ox * layer.stride);
                let at = 4 * ((oy * ow + ox) * layer.channels + c0);
                let mut given = Given {
                    buffers: vec![
                        (
                            ParamRole::Input,
                            &mut input,
                            y * in_row + x * pixel + 4 * c0 + margin - layer.pad * (in_row + pixel),
                        ),
                        (ParamRole::Weights, &mut weights, 0),
                        (ParamRole::Output, &mut output, at),
                        (ParamRole::Bias, &mut bias, 0),
                        (ParamRole::Scale, &mut scale, 0),
                        (ParamRole::Shift, &mut shift, 0),
                        (ParamRole::Residual, &mut residual, at),
                    ],
                    counts: vec![(ParamRole::Tiles, tiles as u64)],
                };
                ready.call(&mut given.args(&program));
                ox += match layer.along {
                    Along::Columns => tiles * cols.len(),
                    Along::Channels => cols.len(),
                };
            }
            oy += rows.len();
        }
        c0 += vectors * used;
    }
    Some(floats(&output))
}

#[track_caller]
fn check(layer: &Layer) {
    let data = Data::new(layer);
    let expected = reference(layer, &data);
    let mut fused: Option<Vec<f32>> = None;
    let mut ran = 0;
    for engine in Engine::all() {
        let Some(found) = by_blocks(layer, &data, &engine) else { continue };
        ran += 1;
        for (i, (x, y)) in found.iter().zip(&expected).enumerate() {
            let error = (f64::from(*x) - y).abs();
            assert!(error <= 5e-6 || f64::from(*x) == *y, "{}: {i}: {x}, not {y}: {layer:?}", engine.name());
        }
        if engine.fused() {
            let first = fused.get_or_insert_with(|| found.clone());
            let equal = found.iter().zip(first.iter()).all(|(a, b)| same(*a, *b));
            assert!(equal, "{} differs from the interpreter: {layer:?}", engine.name());
        }
    }
    assert!(ran > 2, "some lowering ran");
}

#[test]
fn depthwise_layers_of_mobilenet_are_right_with_every_block() {
    for stride in [1, 2] {
        for block in [(1, 1), (1, 4), (2, 3), (3, 2)] {
            check(&Layer { stride, block, size: (8, 9), ..Layer::default() });
        }
    }
    check(&Layer { size: (5, 23), ..Layer::default() });
}

#[test]
fn blocks_may_follow_one_another_across_channels() {
    let residual = KernelEpilogue {
        bias: true,
        residual: KernelResidual::BeforeActivation,
        ..KernelEpilogue::default()
    };
    for channels in [16, 32, 53, 80] {
        let layer = Layer { channels, along: Along::Channels, block: (2, 3), ..Layer::default() };
        for weights in [WeightPlace::Held, WeightPlace::Rows, WeightPlace::Memory] {
            check(&Layer { kind: Kind::Depthwise(weights, residual), ..layer.clone() });
        }
        for prologue in [RELU, AFFINE_RELU] {
            check(&Layer { prologue, stride: 2, ..layer.clone() });
            check(&Layer { prologue, kind: Kind::Pool(PoolFunction::Max), ..layer.clone() });
        }
        check(&Layer { kind: Kind::Pool(PoolFunction::MeanInside), ..layer.clone() });
    }
}

#[test]
fn depthwise_weights_may_be_held_or_loaded_by_rows_or_stay_in_memory() {
    for kernel in [(3, 3), (5, 5), (7, 7), (1, 7)] {
        for weights in [WeightPlace::Held, WeightPlace::Rows, WeightPlace::Memory] {
            let kind = Kind::Depthwise(weights, KernelEpilogue::default());
            let pad = kernel.1 / 2;
            check(&Layer { kernel, pad, kind, block: (2, 3), size: (9, 9), ..Layer::default() });
        }
    }
}

#[test]
fn depthwise_layers_dilate_and_end_in_part_of_a_vector() {
    check(&Layer { dilation: 2, pad: 2, ..Layer::default() });
    for channels in [1, 5, 11, 20, 24, 29, 58] {
        check(&Layer { channels, size: (5, 6), ..Layer::default() });
    }
    for lanes in [Lanes::X4, Lanes::X8] {
        check(&Layer { channels: 29, lanes, ..Layer::default() });
    }
}

#[test]
fn depthwise_layers_without_any_pixel_under_the_kernel_give_the_bias() {
    check(&Layer { kernel: (1, 1), pad: 2, size: (3, 3), ..Layer::default() });
    let kind = Kind::Depthwise(WeightPlace::Held, KernelEpilogue::default());
    check(&Layer { kernel: (1, 1), pad: 2, size: (3, 3), kind, ..Layer::default() });
}

#[test]
fn a_sum_of_negative_zeros_is_zero() {
    let layer = Layer {
        kind: Kind::Depthwise(WeightPlace::Held, KernelEpilogue::default()),
        pad: 0,
        ..Layer::default()
    };
    let mut data = Data::new(&layer);
    data.input.fill(0.0);
    data.weights.iter_mut().for_each(|weight| *weight = -weight.abs());
    for engine in Engine::all() {
        let Some(found) = by_blocks(&layer, &data, &engine) else { continue };
        assert!(found.iter().all(|y| y.to_bits() == 0), "{}: {found:?}", engine.name());
    }
}

#[test]
fn a_prologue_changes_pixels_but_not_the_padding() {
    for prologue in prologues() {
        for channels in [16, 21] {
            check(&Layer { prologue, channels, ..Layer::default() });
            check(&Layer {
                prologue,
                channels,
                kind: Kind::Pool(PoolFunction::MeanOf(9)),
                ..Layer::default()
            });
            check(&Layer { prologue, channels, kind: Kind::Pool(PoolFunction::Max), ..Layer::default() });
        }
    }
}

#[test]
fn depthwise_layers_add_a_residual_and_activate() {
    let epilogue = KernelEpilogue {
        bias: true,
        residual: KernelResidual::BeforeActivation,
        activation: Activation::Relu,
        ..KernelEpilogue::default()
    };
    for channels in [16, 13] {
        let kind = Kind::Depthwise(WeightPlace::Held, epilogue);
        check(&Layer { kind, channels, size: (4, 15), ..Layer::default() });
    }
}

#[test]
fn pools_of_squeezenet_and_googlenet_are_right_at_borders() {
    for pool in [PoolFunction::Max, PoolFunction::MeanInside, PoolFunction::MeanOf(9)] {
        for (stride, pad) in [(1, 1), (2, 0), (2, 1)] {
            for block in [(1, 1), (1, 4), (2, 2)] {
                let (kind, size) = (Kind::Pool(pool), (9, 10));
                check(&Layer { kind, stride, pad, block, size, channels: 20, ..Layer::default() });
            }
        }
    }
}

#[test]
fn a_maximum_is_nan_if_a_value_of_its_window_is_and_may_be_infinite() {
    let layer =
        Layer { kind: Kind::Pool(PoolFunction::Max), size: (6, 6), block: (2, 2), ..Layer::default() };
    let mut data = Data::new(&layer);
    let special = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for (i, x) in special.into_iter().enumerate() {
        // A pixel of its own in each quarter, channel i.
        let at = [(0, 0), (0, 5), (5, 0), (5, 5)][i];
        data.input[(at.0 * 6 + at.1) * 16 + i] = x;
    }
    for engine in Engine::all() {
        let found = by_blocks(&layer, &data, &engine).expect("fits");
        let out = |y: usize, x: usize, c: usize| found[(y * 6 + x) * 16 + c];
        for (y, x) in [(0, 0), (1, 1), (0, 1)] {
            assert!(out(y, x, 0).is_nan(), "{}", engine.name());
        }
        assert!(out(0, 5, 1).is_nan() && out(1, 4, 1).is_nan(), "{}", engine.name());
        assert_eq!(out(5, 0, 2), f32::INFINITY, "{}", engine.name());
        assert!(out(5, 5, 3).is_finite(), "{}", engine.name());
        let nans = found.iter().filter(|x| x.is_nan()).count();
        assert_eq!(nans, 8, "{}: only windows that see a NaN are NaN", engine.name());
    }
}

fn global(
    (width, height): (u32, u32),
    gap: usize,
    channels: usize,
    pool: PoolFunction,
    prologue: KernelPrologue,
    activation: Activation,
) {
    let mut cols = Vec::new();
    let mut left = channels as u32;
    while left > 0 {
        let lanes = Lanes::holding(left.min(16)).expect("at most 16");
        cols.push(Col::part(lanes, left.min(lanes.count())));
        left -= left.min(lanes.count());
    }
    let row = width as usize * channels + gap;
    let tile = GlobalPoolTile {
        cols,
        width,
        height,
        floats: Floats::default(),
        a_pixel: 4 * channels as i32,
        a_row: 4 * row as i32,
        pool,
        prologue,
        activation,
    };
    let program = tile.program().unwrap_or_else(|e| panic!("{e}"));
    let mut random = Random::new(5);
    let layer = Layer { channels, ..Layer::default() };
    let data = Data { input: random.floats(row * height as usize), ..Data::new(&layer) };
    for engine in Engine::all() {
        let Some(ready) = engine.prepare(&program) else { continue };
        let mut output = vec![0; 4 * channels];
        let (mut input, mut scale, mut shift) = (bytes(&data.input), bytes(&data.scale), bytes(&data.shift));
        let mut given = Given {
            buffers: vec![
                (ParamRole::Input, &mut input, 0),
                (ParamRole::Output, &mut output, 0),
                (ParamRole::Scale, &mut scale, 0),
                (ParamRole::Shift, &mut shift, 0),
            ],
            ..Given::default()
        };
        ready.call(&mut given.args(&program));
        for (c, found) in floats(&output).into_iter().enumerate() {
            let pixels = (0..height as usize)
                .flat_map(|y| (0..width as usize).map(move |x| y * row + x * channels + c))
                .map(|i| data.prologue(prologue, data.input[i], c));
            let expected = match pool {
                PoolFunction::Max => pixels.fold(f64::NEG_INFINITY, f64::max),
                PoolFunction::MaxBytes => panic!("the reference knows no bytes"),
                PoolFunction::MeanInside | PoolFunction::MeanOf(_) => {
                    pixels.sum::<f64>() / f64::from(width * height)
                }
            };
            let expected = if activation == Activation::Relu { expected.max(0.0) } else { expected };
            let error = (f64::from(found) - expected).abs();
            assert!(error < 1e-6, "{}: {found}, not {expected}: {tile:?}", engine.name());
        }
    }
}

#[test]
fn global_pools_take_every_pixel_once() {
    for pool in [PoolFunction::Max, PoolFunction::MeanInside] {
        for (width, height) in [(1, 1), (2, 3), (7, 7), (4, 4), (13, 13)] {
            for gap in [0, 16] {
                global((width, height), gap, 40, pool, KernelPrologue::default(), Activation::None);
            }
        }
        for prologue in prologues() {
            global((7, 7), 0, 21, pool, prologue, Activation::None);
            global((3, 2), 0, 13, pool, prologue, Activation::Relu);
        }
    }
}
