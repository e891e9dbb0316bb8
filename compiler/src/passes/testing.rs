//! Random networks, and what a pass must not change about them.
//!
//! A network is built from a recipe: a list of byte strings, each of which says what block to put on which of the values
//! there are so far. Any recipe makes a valid graph, so that a failing one shrinks to a few blocks.

use nnc_ir::op::*;
use nnc_ir::{Graph, NodeId, Op, Tensor, TensorType, Value, eval};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::PassReport;

/// One block of a recipe.
type Block = [u8; 8];

/// How close the outputs after a pass must be to those before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Agreement {
    /// Equal: the pass moves data and computes nothing anew.
    Exact,
    /// Within 1e-5 of the largest element: the pass changes where results are rounded.
    Rounding,
}

/// Checks that passes keep what random networks compute, and that they have something to do in many of them. The networks
/// are the same at each run; the environment variable `PROPTEST_CASES` asks for more of them.
pub(super) fn check_random_networks(passes: &[&str], agreement: Agreement) {
    check_random_rewrites(agreement, |graph| {
        let reports: Vec<PassReport> = passes
            .iter()
            .map(|pass| super::run(pass, graph).unwrap_or_else(|e| panic!("{}", chain(&e))))
            .collect();
        reports.last().is_some_and(|r| !r.counts.is_empty())
    });
}

/// The same for any rewrite that says whether it had something to do.
pub(super) fn check_random_rewrites(agreement: Agreement, rewrite: impl Fn(&mut Graph) -> bool) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(120);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let changed = std::cell::Cell::new(0);
    let recipe = (any::<[u8; 4]>(), vec(any::<Block>(), 1..9));
    let result = runner.run(&recipe, |(image, blocks)| {
        let before = random_network(image, &blocks);
        let mut after = before.clone();
        if rewrite(&mut after) {
            changed.set(changed.get() + 1);
        }
        compare(&before, &after, agreement).map_err(TestCaseError::fail)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(changed.get() * 20 >= cases, "there was work in only {} of {cases} networks", changed.get());
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Evaluates both graphs and compares all outputs.
pub(super) fn compare(before: &Graph, after: &Graph, agreement: Agreement) -> Result<(), String> {
    after.verify().map_err(|e| format!("does not verify: {e}"))?;
    let inputs: Vec<Tensor> = before
        .inputs()
        .iter()
        .enumerate()
        .map(|(i, id)| noise(&before.node(*id).outputs[0].shape, i as u64 + 1, -2.0, 2.0))
        .collect();
    let expected = eval::run(before, &inputs).map_err(|e| format!("before: {e}"))?;
    let got = eval::run(after, &inputs).map_err(|e| format!("after: {e}"))?;
    for (((name, _), expected), got) in before.outputs().iter().zip(&expected).zip(&got) {
        let (a, b) = (expected.elems::<f32>().expect("f32"), got.elems::<f32>().expect("f32"));
        if expected.ty() != got.ty() {
            return Err(format!("output {name} changed from {} to {}", expected.ty(), got.ty()));
        }
        let largest = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let bound = if agreement == Agreement::Exact { 0.0 } else { 1e-5 * largest.max(1e-3) };
        // Not close: NaN is close to nothing.
        let close = |x: f32, y: f32| x == y || (x - y).abs() <= bound;
        if let Some(i) = (0..a.len()).find(|&i| !close(a[i], b[i])) {
            return Err(format!("output {name}[{i}] was {}, is {}; largest {largest}", a[i], b[i]));
        }
    }
    Ok(())
}

/// Deterministic elements between two bounds.
pub(super) fn noise(shape: &[usize], seed: u64, min: f32, max: f32) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        min + (max - min) * ((state >> 40) as f32 / (1u32 << 24) as f32)
    };
    let elems: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::new(shape, &elems).expect("a tensor")
}

/// Builds graphs, naming nodes by number.
#[derive(Default)]
pub(super) struct Builder {
    pub graph: Graph,
    seed: u64,
}

impl Builder {
    pub fn input(&mut self, shape: &[usize]) -> Value {
        self.graph.add_input("x", TensorType::f32(shape))
    }

    pub fn add(&mut self, op: impl Into<Op>, operands: &[Value]) -> Value {
        let op = op.into();
        let name = format!("{}{}", op.name().to_lowercase(), self.graph.len());
        let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
        let id: NodeId = self.graph.add(name, op, &operands).unwrap_or_else(|e| panic!("{e}"));
        id.into()
    }

    pub fn constant(&mut self, shape: &[usize], min: f32, max: f32) -> Value {
        self.seed += 1;
        let tensor = noise(shape, self.seed, min, max);
        self.graph.add_constant(format!("c{}", self.seed), tensor)
    }

    pub fn scalar(&mut self, value: f32) -> Value {
        let tensor = Tensor::new(Vec::new(), &[value]).expect("a scalar");
        self.seed += 1;
        self.graph.add_constant(format!("c{}", self.seed), tensor)
    }

    pub fn shape(&self, value: Value) -> Vec<usize> {
        self.graph.ty(value).shape.to_vec()
    }

    pub fn conv(
        &mut self,
        x: Value,
        m: usize,
        kernel: usize,
        groups: usize,
        window: Window,
        bias: bool,
    ) -> Value {
        let c = self.shape(x)[1];
        let bound = 1.5 / ((c / groups * kernel * kernel) as f32).sqrt();
        let w = self.constant(&[m, c / groups, kernel, kernel], -bound, bound);
        let conv = Conv { window, groups, prologue: Prologue::default(), epilogue: Epilogue::default() };
        if bias {
            let b = self.constant(&[m], -0.5, 0.5);
            self.add(conv, &[x, w, b])
        } else {
            self.add(conv, &[x, w])
        }
    }

    pub fn conv1x1(&mut self, x: Value, m: usize) -> Value {
        self.conv(x, m, 1, 1, square(1, 1, 1, 0, 0), false)
    }

    pub fn batch_norm(&mut self, x: Value) -> Value {
        let c = [self.shape(x)[1]];
        let (gamma, beta) = (self.constant(&c, 0.5, 1.5), self.constant(&c, -0.5, 0.5));
        let (mean, var) = (self.constant(&c, -0.5, 0.5), self.constant(&c, 0.5, 1.5));
        self.add(BatchNorm { epsilon: 1e-5 }, &[x, gamma, beta, mean, var])
    }

    pub fn binary(&mut self, function: BinaryFn, a: Value, b: Value) -> Value {
        self.add(Binary { function, activation: None }, &[a, b])
    }

    pub fn reshape(&mut self, x: Value, shape: &[usize]) -> Value {
        self.add(Reshape { shape: shape.to_vec() }, &[x])
    }

    pub fn transpose(&mut self, x: Value, perm: &[usize]) -> Value {
        self.add(Transpose { perm: perm.to_vec() }, &[x])
    }

    pub fn pool(&mut self, kind: PoolKind, window: Window, x: Value) -> Value {
        let ceil_pads = vec![0; window.kernel.len()];
        let pool =
            Pool { kind, window, ceil_pads, prologue: Prologue::default(), epilogue: Epilogue::default() };
        self.add(pool, &[x])
    }

    pub fn shuffle(&mut self, x: Value, groups: usize) -> Value {
        let [n, c, h, w] = self.shape(x)[..] else { panic!("an image") };
        let grouped = self.reshape(x, &[n, groups, c / groups, h, w]);
        let swapped = self.transpose(grouped, &[0, 2, 1, 3, 4]);
        self.reshape(swapped, &[n, c, h, w])
    }

    pub fn split(&mut self, x: Value, at: usize) -> (Value, Value) {
        let c = self.shape(x)[1];
        let first = self.add(Split { axis: 1, parts: vec![at, c - at] }, &[x]);
        (first, Value { node: first.node, output: 1 })
    }

    /// Makes outputs of everything that nothing reads, and of what is given.
    pub fn finish(mut self, more: &[Value]) -> Graph {
        let mut outputs = Vec::new();
        for id in self.graph.node_ids() {
            for output in 0..self.graph.node(id).outputs.len() as u32 {
                let value = Value { node: id, output };
                if self.graph.consumers(value).is_empty() && self.graph.constant(value).is_none() {
                    outputs.push(value);
                }
            }
        }
        outputs.extend(more.iter().filter(|v| self.graph.constant(**v).is_none()));
        for (i, value) in outputs.into_iter().enumerate() {
            self.graph.add_output(format!("y{i}"), value);
        }
        self.graph
    }
}

/// A square window.
pub(super) fn square(kernel: usize, stride: usize, dilation: usize, begin: isize, end: isize) -> Window {
    Window {
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        dilations: vec![dilation; 2],
        pads_begin: vec![begin; 2],
        pads_end: vec![end; 2],
    }
}

/// The network that a recipe says.
pub(super) fn random_network(image: [u8; 4], blocks: &[Block]) -> Graph {
    let mut b = Builder::default();
    let [n, c, h, w] = image.map(usize::from);
    let x = b.input(&[n % 2 + 1, [2, 4, 6, 8][c % 4], h % 7 + 3, w % 7 + 3]);
    let mut images = vec![x];
    for block in blocks {
        let latest = images.len() - 1;
        let chosen = match block[1] % 4 {
            0 => usize::from(block[1] / 4) % images.len(),
            _ => latest,
        };
        let y = add_block(&mut b, images[chosen], &images, block);
        images.push(y);
    }
    let outputs: Vec<Value> = match blocks.first() {
        Some(block) if block[7] % 4 == 0 => vec![images[usize::from(block[7] / 4) % images.len()]],
        _ => Vec::new(),
    };
    b.finish(&outputs)
}

fn add_block(b: &mut Builder, x: Value, images: &[Value], block: &Block) -> Value {
    let [kind, _, p, q, r, s, t, _] = block.map(usize::from);
    let [n, c, h, w] = b.shape(x)[..] else { panic!("an image") };
    let divisors: Vec<usize> = (1..=c).filter(|g| c % g == 0).collect();
    let groups = divisors[q % divisors.len()];
    let channels = groups * (p % 12 / groups + 1);
    let smallest = h.min(w);
    match kind % 30 {
        0 | 1 => {
            let kernel = [1, 3, 2, 5][r % 4].min(smallest);
            let window =
                square(kernel, s % 2 + 1, 1, (t % 2).min(kernel - 1) as isize, (t / 2 % 3) as isize - 1);
            let valid = smallest as isize + window.pads_begin[0] + window.pads_end[0] >= kernel as isize;
            let window = if valid { window } else { square(kernel, 1, 1, 0, 0) };
            b.conv(x, channels, kernel, groups, window, s & 2 == 0)
        }
        2..=4 => {
            let y = b.conv(x, channels, 1, groups, square(1, 1, 1, 0, 0), r % 2 == 0);
            let y = if s % 4 == 0 { y } else { b.batch_norm(y) };
            activation(b, y, t)
        }
        5 => {
            let y = b.conv(x, c, 3, c, square(3, 1, 1, 1, 1), false);
            b.batch_norm(y)
        }
        6 => b.batch_norm(x),
        7 | 8 => activation(b, x, p),
        9 | 10 => {
            let same = images.iter().rev().find(|v| **v != x && b.shape(**v) == [n, c, h, w]);
            let other = match same {
                Some(v) => *v,
                None => b.conv1x1(x, c),
            };
            let sum = if p % 2 == 0 {
                b.binary(BinaryFn::Add, x, other)
            } else {
                b.binary(BinaryFn::Add, other, x)
            };
            if q % 2 == 0 { activation(b, sum, q / 2) } else { sum }
        }
        11 | 12 => {
            let fits = |v: &&Value| {
                let s = b.shape(**v);
                s[0] == n && s[2..] == [h, w] && c + s[1] <= 24
            };
            let other = match images.iter().rev().find(fits) {
                Some(v) => *v,
                None => b.conv1x1(x, 2),
            };
            let y = b.add(Concat { axis: 1 }, &[x, other]);
            if p % 3 == 0 { activation(b, y, q) } else { y }
        }
        13 if c > 1 => {
            let (first, second) = b.split(x, p % (c - 1) + 1);
            if q % 2 == 0 { first } else { second }
        }
        14 => b.shuffle(x, groups),
        15 => {
            // A ShuffleNet v2 unit.
            let (left, right) = if c > 1 { b.split(x, c / 2) } else { (x, x) };
            let half = b.shape(right)[1];
            let y = b.conv1x1(right, half);
            let y = b.batch_norm(y);
            let y = b.add(Unary::Relu, &[y]);
            let y = b.add(Concat { axis: 1 }, &[left, y]);
            if c % 2 == 0 { b.shuffle(y, 2) } else { y }
        }
        16 if smallest > 1 => {
            let pads = [p % 2, q % 2, r % 2, s % 2].map(|n| n as isize);
            let pad = Pad {
                begin: vec![0, 0, pads[0], pads[1]],
                end: vec![0, 0, pads[2], pads[3]],
                mode: PadMode::Constant(0.0),
            };
            let y = b.add(pad, &[x]);
            match t % 3 {
                0 => y,
                1 => b.conv(y, channels, 2, groups, square(2, t % 2 + 1, 1, 0, 0), false),
                _ => pool(b, y, p / 2, 2, 1, q / 2 % 2),
            }
        }
        17 if h > 1 && w > 1 => {
            // The shifted path of NASNet's reduction.
            let y = b.add(Unary::Relu, &[x]);
            let pad = Pad { begin: vec![0; 4], end: vec![0, 0, 1, 1], mode: PadMode::Constant(0.0) };
            let y = b.add(pad, &[y]);
            let axes = vec![
                AxisSlice { axis: 2, start: 1, step: 1, len: h },
                AxisSlice { axis: 3, start: 1, step: 1, len: w },
            ];
            let y = b.add(Slice { axes }, &[y]);
            let y = b.pool(PoolKind::Average { count_include_pad: false }, square(1, 2, 1, 0, 0), y);
            let y = b.conv1x1(y, channels);
            if p % 2 == 0 { b.batch_norm(y) } else { y }
        }
        18 => pool(b, x, p, [1, 2, 3][q % 3].min(smallest), r % 2 + 1, (s % 2).min(q % 3)),
        19 => {
            let step = (q % 2 + 1) as isize;
            let start = r % 2;
            let len = (h - start.min(h - 1)).div_ceil(step as usize);
            let axes = vec![AxisSlice { axis: 2, start: start.min(h - 1), step, len }];
            let y = b.add(Slice { axes }, &[x]);
            if p % 2 == 0 { b.conv1x1(y, channels) } else { y }
        }
        20 => {
            let k = b.constant(&[[1, c, 1, 1], [1, 1, 1, 1]][p % 2], 0.5, 1.5);
            let function = [BinaryFn::Add, BinaryFn::Mul, BinaryFn::Sub, BinaryFn::Div][q % 4];
            if r % 3 == 0 && function != BinaryFn::Div {
                b.binary(function, k, x)
            } else {
                b.binary(function, x, k)
            }
        }
        21 => composite(b, x, p),
        22 => {
            // Normalised by each of its readers in another way, as in DenseNet.
            let y = b.batch_norm(x);
            let y = b.add(Unary::Relu, &[y]);
            let y1 = b.conv(y, channels, 3, groups, square(3, 1, 1, 1, 1), false);
            let y2 = if p % 2 == 0 { y1 } else { pool(b, y, q, 3, 1, 1) };
            if p % 2 == 0 { y1 } else { b.add(Concat { axis: 1 }, &[y1, y2]).min_image(b, y1) }
        }
        23 => {
            // Squeeze and excite.
            let reduce = Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep_dims: p % 2 == 0 };
            let y = b.add(reduce, &[x]);
            let y = b.reshape(y, &[n, c]);
            let y = fully_connected(b, y, c, q);
            let y = b.add(Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }, &[y]);
            let y = b.reshape(y, &[n, c, 1, 1]);
            b.binary(BinaryFn::Mul, x, y)
        }
        24 => {
            let y = b.reshape(x, &[n, c * h * w]);
            let y = fully_connected(b, y, 6, p);
            let y = activation(b, y, q);
            let y = fully_connected(b, y, 4, r);
            b.reshape(y, &[n, 4, 1, 1])
        }
        25 => {
            // As channels-last exporters write it.
            let y = b.transpose(x, &[0, 2, 3, 1]);
            let y = activation(b, y, p);
            let k = b.constant(&[c], 0.5, 1.5);
            let y = b.binary(BinaryFn::Mul, y, k);
            let y = match q % 4 {
                0 => {
                    let begin = vec![0, 1, 0, 0];
                    b.add(Pad { begin, end: vec![0, 0, 1, 0], mode: PadMode::Constant(0.0) }, &[y])
                }
                1 => b.add(Softmax { axis: 3 }, &[y]),
                2 => b.add(Reduce { kind: ReduceKind::Mean, axes: vec![1, 2], keep_dims: true }, &[y]),
                _ => y,
            };
            b.transpose(y, &[0, 3, 1, 2])
        }
        26 => {
            let y = b.reshape(x, &[n, c, h * w]);
            let y = b.reshape(y, &[n, c, h, w, 1]);
            b.reshape(y, &[n, c, h, w])
        }
        27 => {
            // Twice the same, and something that a constant folder sees.
            let (k1, k2) = (b.constant(&[1, c, 1, 1], 0.5, 1.0), b.constant(&[1, c, 1, 1], 0.5, 1.0));
            let k = b.binary(BinaryFn::Mul, k1, k2);
            let (y1, y2) = (b.add(Unary::Tanh, &[x]), b.add(Unary::Tanh, &[x]));
            let y = b.binary(BinaryFn::Mul, y1, k);
            b.binary(BinaryFn::Add, y, y2)
        }
        28 => {
            let window = square(2, 2, 1, 0, 0);
            let m = channels / groups;
            let weights = b.constant(&[c, m, 2, 2], -0.7, 0.7);
            let conv = ConvTranspose { window, output_padding: vec![0, 0], groups, activation: None };
            let y = b.add(conv, &[x, weights]);
            let y = b.batch_norm(y);
            pool(b, y, p, 2, 2, 0)
        }
        29 => {
            // Two halves of a concat with one batch norm behind, as in NASNet.
            let (y1, y2) = (b.conv1x1(x, channels), b.conv1x1(x, 3));
            let y = b.add(Concat { axis: 1 }, &[y1, y2]);
            b.batch_norm(y)
        }
        _ => b.add(Unary::Relu, &[x]),
    }
}

trait MinImage {
    fn min_image(self, b: &Builder, other: Value) -> Value;
}

impl MinImage for Value {
    /// The image itself while it has few channels, else the other.
    fn min_image(self, b: &Builder, other: Value) -> Value {
        if b.shape(self)[1] <= 24 { self } else { other }
    }
}

fn activation(b: &mut Builder, x: Value, which: usize) -> Value {
    let clip = Unary::Clip { min: 0.0, max: 6.0 };
    let all =
        [Unary::Relu, Unary::Relu, clip, Unary::HardSwish, Unary::Sigmoid, Unary::LeakyRelu { alpha: 0.1 }];
    b.add(all[which % all.len()], &[x])
}

fn pool(b: &mut Builder, x: Value, kind: usize, kernel: usize, stride: usize, pad: usize) -> Value {
    let kinds = [
        PoolKind::Max,
        PoolKind::Average { count_include_pad: false },
        PoolKind::Average { count_include_pad: true },
    ];
    let pad = pad.min(kernel - 1) as isize;
    b.pool(kinds[kind % 3], square(kernel, stride, 1, pad, pad), x)
}

fn fully_connected(b: &mut Builder, x: Value, m: usize, how: usize) -> Value {
    let k = b.shape(x)[1];
    let bound = 1.0 / (k as f32).sqrt();
    if how.is_multiple_of(3) {
        let weights = b.constant(&[k, m], -bound, bound);
        let y = b.add(MatMul, &[x, weights]);
        let bias = b.constant(&[m], -0.5, 0.5);
        return b.binary(BinaryFn::Add, y, bias);
    }
    let trans_b = how % 3 == 1;
    let weights = b.constant(&if trans_b { [m, k] } else { [k, m] }, -bound, bound);
    let bias = b.constant(&[m], -0.5, 0.5);
    let (alpha, beta) = if how.is_multiple_of(2) { (1.0, 1.0) } else { (0.5, 2.0) };
    b.add(Gemm { alpha, beta, trans_a: false, trans_b, activation: None }, &[x, weights, bias])
}

fn composite(b: &mut Builder, x: Value, which: usize) -> Value {
    use BinaryFn::{Add, Div, Max, Min, Mul};
    let half = b.scalar(0.5);
    match which % 8 {
        0 | 1 => {
            let (three, six) = (b.scalar(3.0), b.scalar(6.0));
            let y = b.binary(Add, x, three);
            let y = b.add(Unary::Clip { min: 0.0, max: 6.0 }, &[y]);
            if which.is_multiple_of(8) {
                let y = b.binary(Div, y, six);
                b.binary(Mul, x, y)
            } else {
                let y = b.binary(Mul, x, y);
                b.binary(Div, y, six)
            }
        }
        2 => {
            let y = b.add(Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, &[x]);
            b.binary(Mul, y, x)
        }
        3 => {
            let y = b.add(Unary::Sigmoid, &[x]);
            b.binary(Mul, x, y)
        }
        4 => {
            let y = b.add(Unary::Softplus, &[x]);
            let y = b.add(Unary::Tanh, &[y]);
            b.binary(Mul, x, y)
        }
        5 => {
            let (root, one) = (b.scalar(std::f32::consts::SQRT_2), b.scalar(1.0));
            let y = b.binary(Div, x, root);
            let y = b.add(Unary::Erf, &[y]);
            let y = b.binary(Add, y, one);
            let y = b.binary(Mul, x, y);
            b.binary(Mul, y, half)
        }
        6 => {
            let (zero, six) = (b.scalar(0.0), b.scalar(6.0));
            let y = b.binary(Max, x, zero);
            b.binary(Min, six, y)
        }
        _ => {
            let (three, c, k, one) = (
                b.scalar(3.0),
                b.scalar(0.044715),
                b.scalar((2.0 / std::f32::consts::PI).sqrt()),
                b.scalar(1.0),
            );
            let y = b.binary(BinaryFn::Pow, x, three);
            let y = b.binary(Mul, y, c);
            let y = b.binary(Add, x, y);
            let y = b.binary(Mul, y, k);
            let y = b.add(Unary::Tanh, &[y]);
            let y = b.binary(Add, y, one);
            let y = b.binary(Mul, half, y);
            b.binary(Mul, x, y)
        }
    }
}

/// Property tests of a pass, run alone and after passes that make work for it.
macro_rules! random_networks {
    ($($pass:literal),* ; $agreement:ident) => {
        #[test]
        fn random_networks_compute_the_same_as_before() {
            crate::passes::testing::check_random_networks(
                &[$($pass),*],
                crate::passes::testing::Agreement::$agreement,
            );
        }
    };
}
pub(super) use random_networks;
