//! Share of the multiply-add peak that tile kernels reach, on the machine at hand, one thread.
//!
//! ```text
//! cargo run --release -p nnc --no-default-features --example tile_peak [TARGET] [dense|shapes|depthwise]
//! ```
//!
//! The peak is measured in the same run, again and again between the kernels, by a tile program that does nothing but
//! independent multiply-adds; each figure is the best of many rounds, as a share of the best peak.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;

use nnc::codegen::tile::ir::{Builder, Count, Extent, Kind, Lanes, Operand, Program, Role, at};
use nnc::codegen::tile::programs::dense::{Broadcast, Col, DenseTile, Runs, Tap};
use nnc::codegen::tile::programs::depthwise::{DepthwiseTile, Weights};
use nnc::codegen::tile::programs::epilogue::{Activation, Epilogue};
use nnc::codegen::tile::programs::window::{Along, Prologue, Window};
use nnc::codegen::tile::run::Kernel;
use nnc::target::{Isa, Target};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("native", |s| s.as_str());
    let what = arguments.get(1).map_or("all", |s| s.as_str());
    let target = Target::named(name).unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(2);
    });
    let peak = Peak::new(&target);
    println!("{name} ({:?}): {:.1} GFLOP/s at the peak", target.isa, peak.gflops());
    if what == "all" || what == "shapes" {
        shapes(&target, &peak);
    }
    if what == "all" || what == "dense" {
        dense(&target, &peak);
    }
    if what == "all" || what == "depthwise" {
        depthwise(&target, &peak);
    }
}

/// A function of up to six 64-bit integers.
type Code = extern "C" fn(i64, i64, i64, i64, i64, i64);

struct Compiled {
    // Keeps the code alive.
    _kernel: Kernel,
    code: Code,
}

fn compile(program: &Program, target: &Target) -> Compiled {
    let kernel = Kernel::new(program, target).unwrap_or_else(|e| panic!("{e}"));
    // SAFETY: the kernel takes at most six integers in the C convention, of which it ignores those it does not name.
    let code = unsafe { std::mem::transmute::<*const u8, Code>(kernel.address()) };
    Compiled { _kernel: kernel, code }
}

/// A buffer aligned to a page.
struct Buffer {
    data: Vec<f32>,
    skip: usize,
}

impl Buffer {
    fn new(floats: usize) -> Buffer {
        let mut x = 12345u32;
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            (x >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let data: Vec<f32> = (0..floats + 1024).map(|_| next()).collect();
        let skip = (4096 - data.as_ptr() as usize % 4096) / 4 % 1024;
        Buffer { data, skip }
    }

    fn address(&self) -> i64 {
        self.data[self.skip..].as_ptr() as i64
    }
}

/// The best time of many rounds of `f`, in seconds, within a budget.
fn best(seconds: f64, mut f: impl FnMut()) -> f64 {
    f();
    let start = Instant::now();
    f();
    let one = start.elapsed().as_secs_f64().max(1e-8);
    let inner = (2e-4 / one).ceil().max(1.0) as usize;
    let (mut best, begin) = (f64::MAX, Instant::now());
    while begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        (0..inner).for_each(|_| f());
        best = best.min(start.elapsed().as_secs_f64() / inner as f64);
    }
    best
}

/// Independent multiply-adds on registers.
struct Peak {
    code: Compiled,
    flops: f64,
    buffer: Buffer,
    best: std::cell::Cell<f64>,
}

impl Peak {
    fn new(target: &Target) -> Peak {
        let lanes = match target.isa {
            Isa::Clif128 => Lanes::X4,
            Isa::Avx2 => Lanes::X8,
            Isa::Avx512 => Lanes::X16,
        };
        const ROUNDS: u32 = 1000;
        let mut b = Builder::new("peak");
        let input = b.param(Role::Input, Kind::Read { extent: Extent::new(0, 64) });
        let output = b.param(Role::Output, Kind::Write { extent: Extent::new(0, 64) });
        let sums: Vec<_> = (0..12).map(|_| b.constant(lanes, 0.0)).collect();
        let x = b.load(lanes, lanes.count(), at(input, 0));
        b.begin();
        for _ in 0..4 {
            sums.iter().for_each(|sum| b.fma(*sum, x, Operand::Reg(x)));
        }
        b.end(Count::Imm(ROUNDS));
        sums.iter().for_each(|sum| b.store(*sum, lanes.count(), at(output, 0)));
        let flops = f64::from(2 * lanes.count() * ROUNDS * 4) * sums.len() as f64;
        let code = compile(&b.finish(), target);
        Peak { code, flops, buffer: Buffer::new(64), best: std::cell::Cell::new(0.0) }
    }

    /// The best so far, measured once more.
    fn gflops(&self) -> f64 {
        let at = self.buffer.address();
        let time = best(0.02, || (self.code.code)(at, at, 0, 0, 0, 0));
        self.best.set(self.best.get().max(self.flops / time / 1e9));
        self.best.get()
    }

    fn share(&self, flops: f64, time: f64) -> f64 {
        100.0 * flops / time / 1e9 / self.gflops()
    }
}

/// One layer: output pixels, input channels, output channels.
type Layer = (usize, usize, usize);

const LAYERS: [Layer; 12] = [
    (12544, 32, 64),
    (12544, 16, 96),
    (3136, 24, 144),
    (3136, 144, 24),
    (784, 128, 256),
    (784, 192, 32),
    (196, 96, 576),
    (196, 512, 512),
    (196, 576, 96),
    (49, 160, 960),
    (49, 960, 160),
    (49, 1024, 1024),
];

fn tile(rows: usize, cols: &[Col], k: usize, c_pixel: usize, broadcast: Broadcast) -> DenseTile {
    DenseTile {
        rows: rows as u32,
        a_pixel: 4 * k as i32,
        cols: cols.to_vec(),
        taps: vec![Tap { disp: 0, rows: 0..rows as u32 }],
        a_row: 0,
        kernel_rows: 1,
        k: Runs::Contiguous(k as u32),
        c_pixel: 4 * c_pixel as i32,
        residual_pixel: 0,
        split: 1,
        broadcast,
        ahead: 0,
        epilogue: Epilogue { bias: true, activation: Activation::relu6(), ..Epilogue::default() },
    }
}

/// The whole layer in blocks of `rows` pixels by `vectors` vectors, smaller ones at the ends; seconds.
fn layer_time(
    target: &Target,
    layer: Layer,
    rows: usize,
    vectors: usize,
    broadcast: Broadcast,
) -> Option<f64> {
    let (m, k, n) = layer;
    let lanes = match target.isa {
        Isa::Clif128 => Lanes::X4,
        Isa::Avx2 => Lanes::X8,
        Isa::Avx512 => Lanes::X16,
    };
    let width = lanes.count() as usize;
    let (a, b, c) = (Buffer::new(m * k), Buffer::new((n + 16) * k), Buffer::new(m * (n + 16)));
    let bias = Buffer::new(n + 16);
    let mut calls = Vec::new();
    let mut kernels = BTreeMap::new();
    let mut n0 = 0;
    while n0 < n {
        let mut cols = Vec::new();
        let mut taken = 0;
        while cols.len() < vectors && n0 + taken < n {
            let left = (n - n0 - taken).min(width) as u32;
            let lanes = Lanes::holding(left)?;
            cols.push(Col::part(lanes, left));
            taken += left as usize;
        }
        let mut m0 = 0;
        while m0 < m {
            let r = rows.min(m - m0);
            let code = match kernels.entry((r, cols.clone())) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let program = tile(r, &cols, k, n, broadcast).program().ok()?;
                    nnc::codegen::tile::fits(&program, target).ok()?;
                    entry.insert(compile(&program, target))
                }
            };
            let code = code.code;
            let (a, w) = (a.address() + 4 * (m0 * k) as i64, b.address() + 4 * (n0 * k) as i64);
            let (c, bias) = (c.address() + 4 * (m0 * n + n0) as i64, bias.address() + 4 * n0 as i64);
            calls.push((code, a, w, c, bias));
            m0 += r;
        }
        n0 += taken;
    }
    Some(best(0.03, || calls.iter().for_each(|(code, a, w, c, bias)| code(*a, *w, *c, *bias, 0, 0))))
}

/// Which register blocks do best: a medium layer for each shape of block.
fn shapes(target: &Target, peak: &Peak) {
    println!(
        "\nblocks (pixels × vectors), share of peak on (196, 512, 512), broadcast through a register | embedded"
    );
    for vectors in 1..=6 {
        for rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28] {
            let layer = (196, 512, 512);
            let flops = 2.0 * (layer.0 * layer.1 * layer.2) as f64;
            let run = |broadcast| layer_time(target, layer, rows, vectors, broadcast);
            let share = |time: Option<f64>| match time {
                Some(time) => format!("{:5.1}", peak.share(flops, time)),
                None => "    -".into(),
            };
            let (register, embedded) = (run(Broadcast::Register), run(Broadcast::Embedded));
            if register.is_some() || embedded.is_some() {
                println!("{rows:3} × {vectors}: {} | {}", share(register), share(embedded));
            }
        }
    }
}

/// The 1×1 layers of MobileNet v1 and v2.
fn dense(target: &Target, peak: &Peak) {
    let blocks: &[(usize, usize)] = match target.isa {
        Isa::Avx512 => &[(8, 2), (14, 2), (7, 3), (9, 3), (7, 4)],
        Isa::Avx2 => &[(6, 2), (4, 3)],
        Isa::Clif128 => &[(4, 2), (4, 3), (6, 2), (8, 2)],
    };
    println!("\n1×1 layers (M, K, N), bias and ReLU6: best block, share of peak");
    for layer in LAYERS {
        let flops = 2.0 * (layer.0 * layer.1 * layer.2) as f64;
        print!("{layer:?}:");
        for (rows, vectors) in blocks {
            for broadcast in [Broadcast::Register, Broadcast::Embedded] {
                if let Some(time) = layer_time(target, layer, *rows, *vectors, broadcast) {
                    let mark = if broadcast == Broadcast::Embedded { "e" } else { "r" };
                    print!("  {rows}×{vectors}{mark} {:.0}", peak.share(flops, time));
                }
            }
        }
        println!();
    }
}

/// A depthwise layer: rows and columns, channels, kernel, stride; padded to keep its size over the stride.
type Depthwise = (usize, usize, usize, usize);

const DEPTHWISE: [Depthwise; 15] = [
    (112, 32, 3, 1),
    (112, 96, 3, 2),
    (56, 128, 3, 1),
    (56, 144, 3, 1),
    (56, 144, 3, 2),
    (28, 192, 3, 1),
    (28, 256, 3, 1),
    (28, 256, 3, 2),
    (28, 58, 3, 1),
    (14, 512, 3, 1),
    (14, 576, 3, 2),
    (7, 960, 3, 1),
    (7, 1024, 3, 1),
    (28, 88, 5, 1),
    (28, 88, 7, 1),
];

/// The kernel elements inside an image of `size` for one output row or column.
fn inside(out: usize, kernel: usize, stride: usize, size: usize) -> std::ops::Range<u32> {
    let pad = kernel / 2;
    let first = pad.saturating_sub(out * stride);
    let end = kernel.min(size + pad - out * stride);
    first as u32..end as u32
}

/// The whole layer in blocks of `rows` by `cols` outputs, no halo; seconds and multiply-adds.
fn depthwise_time(target: &Target, layer: Depthwise, rows: usize, cols: usize) -> Option<(f64, f64)> {
    let (size, channels, kernel, stride) = layer;
    let out = size.div_ceil(stride);
    let width = target.isa.lanes() as usize;
    let padded = channels.next_multiple_of(width);
    // Pitches that are multiples of 1 KiB would put all rows into the same few sets of the cache.
    let pitch = if (4 * padded).is_multiple_of(1024) { padded + 16 } else { padded };
    let margin = (size + 1) * pitch * (kernel / 2);
    let (input, output) = (Buffer::new(margin + size * size * pitch), Buffer::new(out * out * pitch));
    let (weights, bias) = (Buffer::new(kernel * kernel * padded), Buffer::new(padded));
    let lanes = Lanes::holding(width as u32)?;
    let epilogue = Epilogue { bias: true, activation: Activation::relu6(), ..Epilogue::default() };
    let (mut calls, mut kernels, mut macs) = (Vec::new(), BTreeMap::new(), 0.0);
    let mut oy = 0;
    while oy < out {
        let ys: Vec<_> = (oy..out.min(oy + rows)).map(|y| inside(y, kernel, stride, size)).collect();
        for c in (0..padded).step_by(width) {
            let mut ox = 0;
            while ox < out {
                let columns = |ox: usize| -> Vec<_> {
                    (ox..out.min(ox + cols)).map(|x| inside(x, kernel, stride, size)).collect()
                };
                let xs = columns(ox);
                let tiles = (0..).take_while(|t| columns(ox + t * xs.len()) == xs).count();
                let taps = |ranges: &[std::ops::Range<u32>]| ranges.iter().map(|r| r.len()).sum::<usize>();
                macs += (tiles * taps(&ys) * taps(&xs) * width) as f64;
                let code = match kernels.entry((format!("{ys:?}{xs:?}"), tiles > 1)) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        let tile = DepthwiseTile {
                            window: Window {
                                rows: ys.clone(),
                                cols: xs.clone(),
                                kernel: (kernel as u32, kernel as u32),
                                stride: (stride as u32, stride as u32),
                                dilation: (1, 1),
                                a_pixel: 4 * pitch as i32,
                                a_row: 4 * (pitch * size) as i32,
                                c_pixel: 4 * pitch as i32,
                                c_row: 4 * (pitch * out) as i32,
                                lanes,
                                used: lanes.count(),
                                tiles: if tiles > 1 { out as u32 } else { 1 },
                                along: Along::Columns,
                            },
                            weights: Weights::Held,
                            residual_pixel: 0,
                            residual_row: 0,
                            prologue: Prologue::None,
                            epilogue,
                        };
                        let (tile, program) = tile.fitted(target).ok()?;
                        if tile.weights == Weights::Memory {
                            return None;
                        }
                        entry.insert(compile(&program, target))
                    }
                };
                let place = (oy * stride * size + ox * stride) * pitch + c + margin;
                let a = input.address() + 4 * (place - (size + 1) * pitch * (kernel / 2)) as i64;
                let w = weights.address() + 4 * (c * kernel * kernel) as i64;
                let o = output.address() + 4 * ((oy * out + ox) * pitch + c) as i64;
                let b = bias.address() + 4 * c as i64;
                let (x, y) = if tiles > 1 { (tiles as i64, b) } else { (b, 0) };
                calls.push((code.code, a, w, o, x, y));
                ox += tiles * xs.len();
            }
        }
        oy += ys.len();
    }
    let time = best(0.03, || calls.iter().for_each(|(code, a, w, o, x, y)| code(*a, *w, *o, *x, *y, 0)));
    Some((time, macs))
}

/// Depthwise layers of MobileNet, ShuffleNet and NASNet.
fn depthwise(target: &Target, peak: &Peak) {
    println!(
        "\ndepthwise (size, channels, kernel, stride), bias and ReLU6, no halo: blocks (rows × columns), share of peak"
    );
    for layer in DEPTHWISE {
        print!("{layer:?}:");
        for rows in [1, 2, 3] {
            for cols in [4, 7, 8, 14] {
                if let Some((time, macs)) = depthwise_time(target, layer, rows, cols) {
                    print!("  {rows}×{cols} {:.0}", peak.share(2.0 * macs, time));
                }
            }
        }
        println!();
    }
}
