//! Dense tiles put together to whole layers, against a plain convolution in f64.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use nnc::code::float::Floats;
use nnc::code::tile::ir::{Lanes, ParamRole};
use nnc::code::tile::programs::dense::{
    Accumulators, Broadcast, Col, DenseTile, Products, RunClass, Runs, Tap, pack, pack_row, panel_channels,
};
use nnc::code::tile::programs::epilogue::{Activation, KernelEpilogue, KernelResidual};
use nnc_ir::op::Unary;

use super::support::{Engine, Given, Random, bytes, floats, same};

/// A convolution of one image in NHWC (or NCHW input), with everything that a dense tile can say about it.
#[derive(Clone, Debug)]
struct Layer {
    height: usize,
    width: usize,
    channels: usize,
    outputs: usize,
    kernel: (usize, usize),
    stride: usize,
    pad: usize,
    dilation: usize,
    groups: usize,
    planar: bool,
    /// Runs of channels (first channel, length) in the order in which they are read; none for contiguous.
    runs: Vec<(usize, usize)>,
    /// Pixels of a tile.
    rows: usize,
    /// Lanes of the widest column, and columns of a panel.
    lanes: Lanes,
    columns: usize,
    split: u32,
    /// By how much narrow columns are folded.
    fold: u32,
    /// Cache lines that are prefetched in a round.
    ahead: u32,
    epilogue: KernelEpilogue,
}

impl Default for Layer {
    fn default() -> Layer {
        Layer {
            height: 7,
            width: 7,
            channels: 8,
            outputs: 16,
            kernel: (1, 1),
            stride: 1,
            pad: 0,
            dilation: 1,
            groups: 1,
            planar: false,
            runs: Vec::new(),
            rows: 4,
            lanes: Lanes::X16,
            columns: 1,
            split: 1,
            fold: 1,
            ahead: 0,
            epilogue: KernelEpilogue { bias: true, ..KernelEpilogue::default() },
        }
    }
}

impl Layer {
    fn out(&self) -> (usize, usize) {
        let extent = |size: usize, kernel: usize| {
            (size + 2 * self.pad - self.dilation * (kernel - 1) - 1) / self.stride + 1
        };
        (extent(self.height, self.kernel.0), extent(self.width, self.kernel.1))
    }

    /// Position of an input value.
    fn input(&self, y: usize, x: usize, c: usize) -> usize {
        match self.planar {
            true => (c * self.height + y) * self.width + x,
            false => (y * self.width + x) * self.channels + c,
        }
    }

    fn group_channels(&self) -> usize {
        self.channels / self.groups
    }

    /// The channels of a group in the order in which tiles read them.
    fn order(&self) -> Vec<usize> {
        match self.runs.is_empty() {
            true => (0..self.group_channels()).collect(),
            false => self.runs.iter().flat_map(|(first, length)| *first..first + length).collect(),
        }
    }
}

struct Data {
    input: Vec<f32>,
    /// `[n][k in order of use][ky][kx]`
    weights: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Data {
    fn new(layer: &Layer, seed: u64) -> Data {
        let mut random = Random::new(seed);
        let (oh, ow) = layer.out();
        let k = layer.order().len();
        Data {
            input: random.floats(layer.height * layer.width * layer.channels),
            weights: random.floats(layer.outputs * k * layer.kernel.0 * layer.kernel.1),
            bias: random.floats(layer.outputs),
            residual: random.floats(oh * ow * layer.outputs),
        }
    }

    fn weight(&self, layer: &Layer, n: usize, k: usize, ky: usize, kx: usize) -> f32 {
        let channels = layer.order().len();
        self.weights[((n * channels + k) * layer.kernel.0 + ky) * layer.kernel.1 + kx]
    }
}

fn activate(activation: Activation, x: f64) -> f64 {
    let f = |bits: u32| f64::from(f32::from_bits(bits));
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Clip { lo, hi } => x.max(f(lo)).min(f(hi)),
        Activation::LeakyRelu { alpha } => x.max(0.0) + f(alpha) * x.min(0.0),
        Activation::HardSigmoid { alpha, beta } => (f(alpha) * x + f(beta)).clamp(0.0, 1.0),
        Activation::HardSwish { alpha, beta } => x * (f(alpha) * x + f(beta)).clamp(0.0, 1.0),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Tanh => Unary::Tanh.apply(x),
        Activation::Gelu => Unary::Gelu { tanh: false }.apply(x),
        Activation::GeluTanh => Unary::Gelu { tanh: true }.apply(x),
        Activation::Mish => Unary::Mish.apply(x),
        Activation::Softplus => Unary::Softplus.apply(x),
        Activation::Elu { alpha } => Unary::Elu { alpha: f32::from_bits(alpha) }.apply(x),
    }
}

/// Each output with a bound on the error that rounding may cause.
fn reference(layer: &Layer, data: &Data) -> Vec<(f64, f64)> {
    let (oh, ow) = layer.out();
    let order = layer.order();
    let mut result = Vec::new();
    for oy in 0..oh {
        for ox in 0..ow {
            for n in 0..layer.outputs {
                let group = n / (layer.outputs / layer.groups);
                let (mut sum, mut magnitude) = (0.0, 0.0);
                if layer.epilogue.bias {
                    sum += f64::from(data.bias[n]);
                }
                for ky in 0..layer.kernel.0 {
                    for kx in 0..layer.kernel.1 {
                        let y = (oy * layer.stride + ky * layer.dilation).checked_sub(layer.pad);
                        let x = (ox * layer.stride + kx * layer.dilation).checked_sub(layer.pad);
                        let (Some(y), Some(x)) = (y, x) else { continue };
                        if y >= layer.height || x >= layer.width {
                            continue;
                        }
                        for (k, c) in order.iter().enumerate() {
                            let c = c + group * layer.group_channels();
                            let a = f64::from(data.input[layer.input(y, x, c)]);
                            let product = a * f64::from(data.weight(layer, n, k, ky, kx));
                            sum += product;
                            magnitude += product.abs();
                        }
                    }
                }
                let residual = f64::from(data.residual[(oy * ow + ox) * layer.outputs + n]);
                let value = match layer.epilogue.residual {
                    KernelResidual::None => activate(layer.epilogue.activation, sum),
                    KernelResidual::BeforeActivation => activate(layer.epilogue.activation, sum + residual),
                    KernelResidual::AfterActivation => activate(layer.epilogue.activation, sum) + residual,
                };
                result.push((value, (magnitude + 1.0) * 2e-6));
            }
        }
    }
    result
}

/// Columns for `n` channels: as wide as allowed, the last with a tail.
fn columns(layer: &Layer, n: usize) -> Vec<Col> {
    let mut cols = Vec::new();
    let mut left = n as u32;
    while left > 0 {
        let lanes = Lanes::holding(left.min(layer.lanes.count())).expect("at most 16");
        let used = left.min(lanes.count());
        let fold = layer.fold.min(layer.lanes.count() / lanes.count());
        cols.push(Col { fold, ..Col::part(lanes, used) });
        left -= used;
    }
    cols
}

/// The layer by tiles: `None` if a tile does not fit the registers.
fn by_tiles(layer: &Layer, data: &Data, engine: &Engine, broadcast: Broadcast) -> Option<Vec<f32>> {
    let (oh, ow) = layer.out();
    let mut residual = bytes(&data.residual);
    let mut ahead = Vec::new();
    let mut output = vec![0; oh * ow * layer.outputs * 4];
    let group_outputs = layer.outputs / layer.groups;
    let (pixel, row, channel) = match layer.planar {
        true => (4, 4 * layer.width, 4 * layer.height * layer.width),
        false => (4 * layer.channels, 4 * layer.channels * layer.width, 4),
    };
    // A pointer may lie before the image by the padding on the left; nothing there may be read, so it holds NaN.
    let margin = layer.pad * pixel;
    let mut input = bytes(&vec![f32::NAN; margin / 4]);
    input.extend(bytes(&data.input));
    let k = layer.order().len();
    let mut table = Vec::new();
    let runs = match (layer.planar, layer.runs.is_empty()) {
        (true, _) => Runs::Stepped { count: k as u32, step: channel as i32 },
        (false, true) => Runs::Contiguous(k as u32),
        (false, false) => {
            let runs = layer.runs.iter().map(|(first, length)| (4 * *first as i32, *length as u32));
            table.extend(runs.clone().flat_map(|(disp, _)| disp.to_le_bytes()));
            Runs::Table(RunClass::of(runs))
        }
    };
    let mut kernels = BTreeMap::new();
    for group in 0..layer.groups {
        let all = columns(layer, group_outputs);
        let mut n0 = group * group_outputs;
        for cols in all.chunks(layer.columns) {
            let kernel = (layer.kernel.0 as u32, layer.kernel.1 as u32);
            let mut panel = bytes(&pack(cols, kernel, k as u32, |n, k, ky, kx| {
                data.weight(layer, n0 + n as usize, k as usize, ky as usize, kx as usize)
            }));
            let mut bias = bytes(&pack_row(cols, |n| data.bias[n0 + n as usize]));
            for oy in 0..oh {
                let above = (layer.pad as i64 - (oy * layer.stride) as i64).max(0);
                let ky0 = (above as usize).div_ceil(layer.dilation).min(layer.kernel.0);
                let inside = |ky: &usize| oy * layer.stride + ky * layer.dilation < layer.height + layer.pad;
                let count = (ky0..layer.kernel.0).take_while(inside).count();
                // A tile without a count always does its one kernel row; its taps can be outside instead.
                let (outside, ky0) = if kernel.0 == 1 && count == 0 { (true, 0) } else { (false, ky0) };
                let y0 = oy * layer.stride + ky0 * layer.dilation;
                let y0 = if count > 0 { y0 - layer.pad } else { 0 };
                for ox in (0..ow).step_by(layer.rows) {
                    let rows = layer.rows.min(ow - ox);
                    let x0 = (ox * layer.stride) as i64 - layer.pad as i64;
                    let taps = (0..layer.kernel.1)
                        .map(|kx| {
                            let first = kx as i64 * layer.dilation as i64;
                            let x = |r: usize| x0 + (r * layer.stride) as i64 + first;
                            let ok = |r: &usize| (0..layer.width as i64).contains(&x(*r));
                            let valid: Vec<usize> = (0..rows).filter(ok).collect();
                            let range = match (valid.first(), valid.last()) {
                                (Some(a), Some(b)) if !outside => *a as u32..*b as u32 + 1,
                                _ => 0..0,
                            };
                            Tap { disp: (first as usize * pixel) as i32, rows: range }
                        })
                        .collect();
                    let tile = DenseTile {
                        accumulators: Accumulators::Vectors,
                        products: Products::Floats,
                        rows: rows as u32,
                        a_pixel: (layer.stride * pixel) as i32,
                        cols: cols.to_vec(),
                        taps,
                        a_row: (layer.dilation * row) as i32,
                        kernel_rows: kernel.0,
                        k: runs.clone(),
                        c_pixel: 4 * layer.outputs as i32,
                        residual_pixel: 4 * layer.outputs as i32,
                        split: layer.split,
                        broadcast,
                        floats: Floats::default(),
                        weights_row: None,
                        ahead: layer.ahead,
                        epilogue: layer.epilogue,
                    };
                    let program = tile.program().unwrap_or_else(|e| panic!("{e}"));
                    let ready = match kernels.entry(format!("{tile:?}")) {
                        Entry::Occupied(entry) => entry.into_mut(),
                        Entry::Vacant(entry) => entry.insert(engine.prepare(&program)?),
                    };
                    // The pointer may lie before the image by the padding; the taps do not.
                    let start = y0 as i64 * row as i64
                        + x0 * pixel as i64
                        + (group * layer.group_channels() * channel) as i64;
                    let origin = (start + margin as i64) as usize;
                    let at = (oy * ow + ox) * layer.outputs + n0;
                    let mut given = Given {
                        buffers: vec![
                            (ParamRole::Input, &mut input, origin),
                            (ParamRole::Weights, &mut panel, 0),
                            (ParamRole::Output, &mut output, 4 * at),
                            (ParamRole::Bias, &mut bias, 0),
                            (ParamRole::Residual, &mut residual, 4 * at),
                            (ParamRole::Table, &mut table, 0),
                            // Nothing of it is read.
                            (ParamRole::Ahead, &mut ahead, 0),
                        ],
                        counts: vec![(ParamRole::KernelRows, count as u64)],
                    };
                    // Skipped kernel rows are skipped in the panel, too.
                    given.buffers[1].2 = (tile.panel_row_bytes() as usize) * ky0;
                    ready.call(&mut given.args(&program));
                }
            }
            n0 += panel_channels(cols) as usize;
        }
    }
    Some(floats(&output))
}

/// Runs a layer on every engine with both broadcasts: right within rounding, and the same bits wherever multiply-add
/// rounds in the same way.
#[track_caller]
fn check(layer: &Layer) {
    let data = Data::new(layer, 7);
    let expected = reference(layer, &data);
    let mut fused: Option<Vec<f32>> = None;
    let mut ran = 0;
    for engine in Engine::all() {
        for broadcast in [Broadcast::Register, Broadcast::Embedded] {
            let Some(found) = by_tiles(layer, &data, &engine, broadcast) else { continue };
            ran += 1;
            for (i, (x, (y, bound))) in found.iter().zip(&expected).enumerate() {
                let error = (f64::from(*x) - y).abs();
                assert!(error <= *bound, "{}: output {i} is {x}, not {y}: {layer:?}", engine.name());
            }
            if engine.fused() {
                let first = fused.get_or_insert_with(|| found.clone());
                let equal = found.iter().zip(first.iter()).all(|(a, b)| same(*a, *b));
                assert!(equal, "{} differs from the interpreter: {layer:?}", engine.name());
            }
        }
    }
    assert!(ran > 2, "some lowering ran");
}

#[test]
fn a_pointwise_layer_of_mobilenet_is_right_with_every_unrolling_of_channels() {
    for channels in [1, 3, 4, 7, 8, 11, 12, 16, 21, 24] {
        check(&Layer { channels, outputs: 32, columns: 2, ..Layer::default() });
    }
}

#[test]
fn prefetching_changes_no_result() {
    let epilogue =
        KernelEpilogue { bias: true, residual: KernelResidual::AfterActivation, ..KernelEpilogue::default() };
    for ahead in [1, 2, 7] {
        let layer = Layer { channels: 50, ahead, epilogue, ..Layer::default() };
        check(&layer);
        check(&Layer { kernel: (3, 3), pad: 1, ..layer.clone() });
        check(&Layer { planar: true, ..layer });
    }
}

#[test]
fn a_three_by_three_on_seven_by_seven_needs_no_halo() {
    for stride in [1, 2] {
        for rows in [1, 3, 4, 7] {
            let kernel = (3, 3);
            check(&Layer { kernel, pad: 1, stride, rows, ..Layer::default() });
        }
    }
}

#[test]
fn wide_kernels_and_dilation_reach_over_the_border() {
    check(&Layer { kernel: (5, 5), pad: 2, channels: 4, ..Layer::default() });
    check(&Layer { kernel: (7, 7), pad: 3, stride: 2, channels: 3, ..Layer::default() });
    check(&Layer { kernel: (3, 3), pad: 2, dilation: 2, ..Layer::default() });
    check(&Layer { kernel: (1, 7), pad: 0, ..Layer::default() });
    // Some outputs see no pixel of the image at all.
    check(&Layer { kernel: (1, 1), pad: 2, ..Layer::default() });
}

#[test]
fn the_first_layer_reads_planes() {
    for stride in [1, 2] {
        let (height, width, channels) = (9, 11, 3);
        let planar = true;
        check(&Layer { height, width, channels, planar, stride, kernel: (3, 3), pad: 1, ..Layer::default() });
    }
    check(&Layer { channels: 20, planar: true, ..Layer::default() });
}

#[test]
fn outputs_need_no_lane_padding() {
    for outputs in [1, 2, 3, 5, 6, 7, 9, 11, 13, 15, 17, 20, 24, 27] {
        check(&Layer { outputs, columns: 2, rows: 3, ..Layer::default() });
    }
}

#[test]
fn grouped_layers_of_shufflenet_are_one_call_per_group() {
    check(&Layer { channels: 24, outputs: 60, groups: 3, columns: 3, rows: 5, ..Layer::default() });
    check(&Layer { channels: 16, outputs: 16, groups: 8, rows: 7, ..Layer::default() });
}

#[test]
fn channels_come_in_runs_from_a_table() {
    let runs: [Vec<(usize, usize)>; 5] = [
        (0..13).map(|i| ((i * 7) % 30, 1)).collect(),
        vec![(3, 2), (9, 2), (1, 2), (20, 2), (15, 2)],
        vec![(14, 7), (0, 7), (7, 7), (21, 7)],
        vec![(29, 29), (0, 29)],
        vec![(5, 18), (40, 18), (0, 5), (7, 1), (2, 1), (11, 1), (1, 1), (6, 1), (3, 1)],
    ];
    for runs in runs {
        let (channels, outputs) = (60, 24);
        for kernel in [(1, 1), (3, 3)] {
            let (pad, columns) = (kernel.0 / 2, 2);
            check(&Layer { runs: runs.clone(), channels, outputs, kernel, pad, columns, ..Layer::default() });
        }
    }
}

#[test]
fn several_sums_hide_latency_and_agree_between_tiles() {
    for split in [2, 4] {
        for channels in [1, 3, 4, 6, 15, 32] {
            check(&Layer { split, channels, rows: 1, columns: 2, outputs: 32, ..Layer::default() });
        }
        let runs: Vec<(usize, usize)> = vec![(0, 3), (10, 3), (20, 3), (4, 3), (14, 3), (24, 1), (26, 1)];
        let (channels, kernel, pad) = (30, (3, 3), 1);
        check(&Layer { split, runs, channels, kernel, pad, rows: 2, ..Layer::default() });

        // The same layer in other tiles gives the same bits.
        let layer = Layer { split, channels: 7, kernel: (3, 3), pad: 1, ..Layer::default() };
        let data = Data::new(&layer, 3);
        let engine = Engine::Interpreter { fused: true };
        let of = |rows| by_tiles(&Layer { rows, ..layer.clone() }, &data, &engine, Broadcast::Register);
        let (one, two) = (of(1).expect("runs"), of(5).expect("runs"));
        assert!(one.iter().zip(&two).all(|(a, b)| same(*a, *b)));
    }
}

#[test]
fn narrow_columns_are_folded_over_channels() {
    let epilogue = KernelEpilogue {
        bias: true,
        residual: KernelResidual::BeforeActivation,
        ..KernelEpilogue::default()
    };
    for (fold, lanes) in [(2, Lanes::X16), (4, Lanes::X16), (2, Lanes::X8)] {
        for outputs in [1, 3, 4, 6, 8, 12, 20, 23, 24, 28] {
            let layer = Layer { fold, lanes, outputs, columns: 3, ..Layer::default() };
            for channels in [4, 8, 12, 16, 20, 36] {
                check(&Layer { channels, ..layer.clone() });
            }
            check(&Layer { ahead: 3, channels: 24, epilogue, ..layer.clone() });
            check(&Layer { split: 2, rows: 1, channels: 20, ..layer.clone() });
            check(&Layer { split: 4, rows: 1, channels: 32, ..layer.clone() });
            check(&Layer { kernel: (3, 3), pad: 1, stride: 2, ..layer.clone() });
            check(&Layer { groups: 2, outputs: 2 * outputs, channels: 24, ..layer });
        }
    }
}

#[test]
fn columns_cannot_be_folded_over_channels_that_are_not_there() {
    let cols = vec![Col { fold: 4, ..Col::full(Lanes::X4) }];
    let tile = |k| DenseTile {
        accumulators: Accumulators::Vectors,
        products: Products::Floats,
        rows: 1,
        a_pixel: 4,
        cols: cols.clone(),
        taps: vec![Tap { disp: 0, rows: 0..1 }],
        a_row: 0,
        kernel_rows: 1,
        k,
        c_pixel: 16,
        residual_pixel: 0,
        split: 1,
        broadcast: Broadcast::Register,
        floats: Floats::default(),
        weights_row: None,
        ahead: 0,
        epilogue: KernelEpilogue::default(),
    };
    assert!(tile(Runs::Contiguous(8)).program().is_ok());
    assert!(tile(Runs::Contiguous(6)).program().is_err());
    assert!(tile(Runs::Stepped { count: 8, step: 8 }).program().is_err());
}

#[test]
fn the_rows_of_a_matrix_are_read_as_the_rows_of_a_panel() {
    const ROW: usize = 60;
    let mut random = Random::new(9);
    for (channels, split) in [(1usize, 1), (7, 1), (13, 2), (40, 4)] {
        for cols in [vec![Col::full(Lanes::X16); 2], vec![Col::full(Lanes::X8), Col::full(Lanes::X4)]] {
            let width = panel_channels(&cols) as usize;
            let tile = DenseTile {
                accumulators: Accumulators::Vectors,
                products: Products::Floats,
                rows: 3,
                a_pixel: 4 * channels as i32,
                cols,
                taps: vec![Tap { disp: 0, rows: 0..3 }],
                a_row: 0,
                kernel_rows: 1,
                k: Runs::Contiguous(channels as u32),
                c_pixel: 4 * width as i32,
                residual_pixel: 0,
                split,
                broadcast: Broadcast::Embedded,
                floats: Floats::default(),
                weights_row: Some(4 * ROW as i32),
                ahead: 0,
                epilogue: KernelEpilogue::default(),
            };
            let (a, b) = (random.floats(3 * channels), random.floats((channels - 1) * ROW + width));
            for engine in Engine::all() {
                let program = tile.program().unwrap_or_else(|e| panic!("{e}"));
                let Some(ready) = engine.prepare(&program) else { continue };
                let (mut input, mut weights, mut output) = (bytes(&a), bytes(&b), vec![0; 12 * width]);
                let mut given = Given {
                    buffers: vec![
                        (ParamRole::Input, &mut input, 0),
                        (ParamRole::Weights, &mut weights, 0),
                        (ParamRole::Output, &mut output, 0),
                    ],
                    ..Given::default()
                };
                ready.call(&mut given.args(&program));
                for (i, found) in floats(&output).into_iter().enumerate() {
                    let term =
                        |k: usize| f64::from(a[i / width * channels + k]) * f64::from(b[k * ROW + i % width]);
                    let sum: f64 = (0..channels).map(term).sum();
                    let miss = (f64::from(found) - sum).abs();
                    assert!(miss < 1e-5, "{} by {}: {found}, not {sum}", tile.name(), engine.name());
                }
            }
        }
    }
}

#[test]
fn the_rows_of_a_matrix_have_one_tap_and_no_folded_columns() {
    let tile = DenseTile {
        accumulators: Accumulators::Vectors,
        products: Products::Floats,
        rows: 1,
        a_pixel: 32,
        cols: vec![Col::full(Lanes::X4)],
        taps: vec![Tap { disp: 0, rows: 0..1 }],
        a_row: 32,
        kernel_rows: 1,
        k: Runs::Contiguous(8),
        c_pixel: 16,
        residual_pixel: 0,
        split: 1,
        broadcast: Broadcast::Register,
        floats: Floats::default(),
        weights_row: Some(64),
        ahead: 0,
        epilogue: KernelEpilogue::default(),
    };
    assert!(tile.program().is_ok());
    let taps = vec![tile.taps[0].clone(); 2];
    assert!(DenseTile { taps, ..tile.clone() }.program().is_err());
    assert!(DenseTile { kernel_rows: 2, ..tile.clone() }.program().is_err());
    let cols = vec![Col { fold: 4, ..Col::full(Lanes::X4) }];
    assert!(DenseTile { cols, ..tile.clone() }.program().is_err());
    assert!(DenseTile { k: Runs::Table(Vec::new()), ..tile }.program().is_err());
}

#[test]
fn every_epilogue_is_applied_in_its_order() {
    for activation in Activation::examples() {
        for residual in
            [KernelResidual::None, KernelResidual::BeforeActivation, KernelResidual::AfterActivation]
        {
            for bias in [false, true] {
                let epilogue = KernelEpilogue { bias, residual, activation, ..KernelEpilogue::default() };
                check(&Layer { epilogue, outputs: 21, columns: 2, height: 3, ..Layer::default() });
            }
        }
    }
}

#[test]
fn residual_and_table_and_kernel_rows_together_fit_the_integer_registers() {
    let epilogue = KernelEpilogue {
        bias: true,
        residual: KernelResidual::BeforeActivation,
        activation: Activation::Relu,
        ..KernelEpilogue::default()
    };
    let runs = vec![(0, 20), (25, 20), (50, 3), (55, 3)];
    check(&Layer { runs, channels: 60, kernel: (3, 3), pad: 1, epilogue, ..Layer::default() });
}
