//! Random small networks compute, as machine code, what the evaluator computes.
//!
//! A recipe of bytes makes a network: each block says what layer to put on which of the values there are so far, so that
//! any recipe is valid and a failing one shrinks to a few blocks. Every lowering that runs here must agree with
//! [`nnc_ir::eval`] of the network as it was *before* the passes.

use std::cell::Cell;

use nnc::codegen::tile::programs::winograd::{Form, Sweeps};
use nnc::plan::winograd::Kernels;
use nnc::plan::{LayerCode, Options, Strips, Winograd};
use nnc::target::Target;
use nnc_ir::op::*;
use nnc_ir::{Graph, Op, Tensor, TensorType, Value, eval};
use nnc_tests::addresses::Audit;
use nnc_tests::goldens::deviation;
use nnc_tests::pipeline;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// One block of a recipe: kind, operand, and what else the kind wants to know.
type Block = [u8; 8];

/// The networks that are tried unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 24;

/// What sums in another order may differ by, relative to the largest value.
const ROUNDING: f64 = 2e-5;

#[test]
fn random_networks_compute_what_the_evaluator_computes() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let targets = targets();
    let recipe = (any::<[u8; 4]>(), vec(any::<Block>(), 1..10));
    let forced = Cell::new(Forced::default());
    let result = runner.run(&recipe, |(image, blocks)| {
        let more = check(&network(image, &blocks), &targets).map_err(TestCaseError::fail)?;
        let Forced { winograd, strips } = forced.get();
        forced.set(Forced { winograd: winograd + more.winograd, strips: strips + more.strips });
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let Forced { winograd, strips } = forced.get();
    assert!(winograd > 0, "some network had a layer for Winograd's algorithm");
    assert!(strips > 0, "some network had layers that ran in strips");
}

#[test]
fn a_padded_depthwise_convolution_with_two_results_a_channel_starts_before_its_input() {
    let mut b = Builder::default();
    let x = b.graph.add_input("x", TensorType::f32([1, 3, 5, 4]));
    let y = b.conv(x, 6, 3, square(3, 1, 1));
    b.graph.add_output("y", y);
    check(&b.graph, &targets()).map(|_| ()).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_activation_fits_beside_the_accumulators_of_a_tall_tile() {
    for residual in [false, true] {
        for activation in 0..8 {
            for channels in [8, 11, 16, 24] {
                let mut b = Builder::default();
                let x = b.graph.add_input("x", TensorType::f32([1, channels, 11, 10]));
                let y = b.conv(x, channels, 1, square(1, 1, 0));
                let y = if residual { b.sum(y, x) } else { y };
                let y = b.activation(y, activation);
                b.graph.add_output("y", y);
                check(&b.graph, &targets())
                    .map(|_| ())
                    .unwrap_or_else(|error| panic!("{activation}, {channels}: {error}"));
            }
        }
    }
}

/// All lowerings that run here.
fn targets() -> Vec<Target> {
    ["native", "x86-64-v3", "x86-64-v2", "native-clif"]
        .iter()
        .map(|name| Target::named(name).unwrap_or_else(|error| panic!("{error}")))
        .filter(Target::runs_here)
        .collect()
}

/// How often something was forced.
#[derive(Clone, Copy, Debug, Default)]
struct Forced {
    /// Layers by Winograd's algorithm.
    winograd: usize,
    /// Layers that ran strip by strip.
    strips: usize,
}

/// Compiles and runs a network for each target, as the planner likes, with all 3×3 convolutions in a form of Winograd's
/// algorithm, and with all layers in strips that can be, and compares all outputs. Says how many layers were forced.
fn check(graph: &Graph, targets: &[Target]) -> Result<Forced, String> {
    let id = graph.inputs()[0];
    let input = noise(&graph.node(id).outputs[0].shape, 1, 2.0);
    let expected = eval::run(graph, std::slice::from_ref(&input)).map_err(|error| error.to_string())?;
    let input = input.elems::<f32>().map_err(|error| error.to_string())?;
    let optimised = pipeline::optimise(graph).map_err(|error| error.to_string())?;
    let mut forced = Forced::default();
    let forms = [
        (Form::F4, Kernels::Transformed, 3),
        (Form::F2, Kernels::Plain(Sweeps::Pairs), 2),
        (Form::F4, Kernels::Plain(Sweeps::Pairs), 2),
    ];
    for (target, (form, kernels, strips)) in targets.iter().zip(forms.into_iter().cycle()) {
        let free = Options::default();
        let by_winograd = Options { winograd: Winograd::Always(form, kernels), ..free };
        let in_strips = Options { strips: Strips::Always(strips), ..free };
        let mut plain: Option<Vec<Vec<u32>>> = None;
        for options in [free, by_winograd, in_strips] {
            let plan = pipeline::plan_with(&optimised, target, &options)
                .map_err(|error| format!("{}: {error:?}", target.name))?;
            let winograd = plan.steps.iter().filter(|s| matches!(s.code, LayerCode::Winograd(_))).count();
            let strips: usize = plan.strips.iter().map(|group| group.steps().len()).sum();
            match options {
                _ if options == by_winograd && winograd == 0 => continue,
                _ if options == by_winograd => forced.winograd += winograd,
                _ if options == in_strips && strips == 0 => continue,
                _ if options == in_strips => forced.strips += strips,
                _ => {}
            }
            let what = format!("{}, {options:?}", target.name);
            let audit = Audit::of(&plan).map_err(|error| format!("{what}: {error}"))?;
            if let Some(fault) = audit.faults().next() {
                return Err(format!("{what}: {fault}"));
            }
            let run = || -> Result<_, pipeline::Failure> {
                let program = pipeline::jit(&plan, target)?;
                Ok([pipeline::run(&program, &[&input], 1)?, pipeline::run(&program, &[&input], 2)?])
            };
            let [one, two] = run().map_err(|error| format!("{what}: {error:?}"))?;
            for ((expected, got), (name, value)) in expected.iter().zip(&one).zip(graph.outputs()) {
                let expected = expected.elems::<f32>().map_err(|error| error.to_string())?;
                let off = deviation(got, &expected);
                if off > ROUNDING {
                    let node = &graph.node(value.node).name;
                    return Err(format!("{what}: {name} (node \"{node}\") is off by {off:.1e}"));
                }
            }
            if pipeline::bits(&one) != pipeline::bits(&two) {
                return Err(format!("{what}: two threads compute other bits"));
            }
            match &plain {
                None => plain = Some(pipeline::bits(&one)),
                Some(bits) if options == in_strips && *bits != pipeline::bits(&one) => {
                    return Err(format!("{what}: strips compute other bits"));
                }
                Some(_) => {}
            }
        }
    }
    Ok(forced)
}

/// Deterministic elements within `±bound`.
fn noise(shape: &[usize], seed: u32, bound: f32) -> Tensor {
    let len = shape.iter().product::<usize>() as u32;
    let element = |i: u32| {
        let mut h = (i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        h ^= h >> 13;
        h = h.wrapping_mul(0xc2b2_ae35);
        h ^= h >> 16;
        bound * ((h >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    let elements: Vec<f32> = (0..len).map(element).collect();
    Tensor::new(shape, &elements).unwrap_or_else(|error| panic!("{error}"))
}

/// Builds a graph node by node.
#[derive(Default)]
struct Builder {
    graph: Graph,
    constants: u32,
}

impl Builder {
    fn add(&mut self, op: impl Into<Op>, operands: &[Value]) -> Value {
        let op = op.into();
        let name = format!("{}{}", op.name().to_lowercase(), self.graph.len());
        let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
        self.graph.add(name, op, &operands).unwrap_or_else(|error| panic!("{error}")).into()
    }

    fn constant(&mut self, shape: &[usize], bound: f32) -> Value {
        self.constants += 1;
        let tensor = noise(shape, self.constants, bound);
        self.graph.add_constant(format!("c{}", self.constants), tensor)
    }

    fn shape(&self, value: Value) -> [usize; 4] {
        self.graph.ty(value).shape[..].try_into().unwrap_or_else(|_| panic!("every value is an image"))
    }

    fn conv(&mut self, x: Value, channels: usize, groups: usize, window: Window) -> Value {
        let [_, c, _, _] = self.shape(x);
        let [kh, kw] = window.kernel[..] else { panic!("a window in the plane") };
        let bound = 1.7 / ((c / groups * kh * kw) as f32).sqrt();
        let w = self.constant(&[channels, c / groups, kh, kw], bound);
        let b = self.constant(&[channels], 0.3);
        let conv = Conv { window, groups, prologue: Prologue::default(), epilogue: Epilogue::default() };
        self.add(conv, &[x, w, b])
    }

    fn batch_norm(&mut self, x: Value) -> Value {
        let c = self.shape(x)[1];
        let (scale, shift, mean) =
            (self.constant(&[c], 1.5), self.constant(&[c], 0.5), self.constant(&[c], 0.5));
        self.constants += 1;
        let variance =
            Tensor::new(vec![c], &(0..c).map(|i| 0.5 + 0.1 * (i % 7) as f32).collect::<Vec<f32>>())
                .unwrap_or_else(|error| panic!("{error}"));
        let variance = self.graph.add_constant(format!("c{}", self.constants), variance);
        self.add(BatchNorm { epsilon: 1e-5 }, &[x, scale, shift, mean, variance])
    }

    fn sum(&mut self, a: Value, b: Value) -> Value {
        self.add(Binary { function: BinaryFn::Add, activation: None }, &[a, b])
    }

    fn activation(&mut self, x: Value, which: usize) -> Value {
        let unary = match which % 8 {
            0 | 1 => Unary::Relu,
            2 => Unary::Clip { min: 0.0, max: 6.0 },
            3 => Unary::HardSwish,
            4 => Unary::LeakyRelu { alpha: 0.125 },
            5 => Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
            6 => Unary::Silu,
            _ => Unary::Sigmoid,
        };
        self.add(unary, &[x])
    }

    fn shuffle(&mut self, x: Value, groups: usize) -> Value {
        let [n, c, h, w] = self.shape(x);
        let y = self.add(Reshape { shape: vec![n, groups, c / groups, h, w] }, &[x]);
        let y = self.add(Transpose { perm: vec![0, 2, 1, 3, 4] }, &[y]);
        self.add(Reshape { shape: vec![n, c, h, w] }, &[y])
    }

    fn split(&mut self, x: Value, at: usize) -> [Value; 2] {
        let c = self.shape(x)[1];
        let first = self.add(Split { axis: 1, parts: vec![at, c - at] }, &[x]);
        [first, Value { node: first.node, output: 1 }]
    }
}

/// The network that a recipe says: its last value is an output, and so is everything that nothing reads.
fn network(image: [u8; 4], blocks: &[Block]) -> Graph {
    let mut b = Builder::default();
    let [n, c, h, w] = image.map(usize::from);
    let shape = [n % 8 / 7 + 1, [3, 4, 8, 16, 17, 24, 32, 40][c % 8], h % 13 + 3, w % 13 + 3];
    let mut values = vec![b.graph.add_input("x", TensorType::f32(shape))];
    for block in blocks {
        let chosen = match block[1] % 4 {
            0 => usize::from(block[1] / 4) % values.len(),
            _ => values.len() - 1,
        };
        let made = layer(&mut b, values[chosen], &values, block);
        values.extend(made);
    }
    let outputs: Vec<Value> = values
        .iter()
        .skip(1)
        .copied()
        .filter(|value| b.graph.consumers(*value).is_empty() || value == &values[values.len() - 1])
        .collect();
    for (i, value) in outputs.into_iter().enumerate() {
        b.graph.add_output(format!("y{i}"), value);
    }
    b.graph
}

/// A window that fits an image of `h` × `w`, strides, dilations and lopsided pads included.
fn window(h: usize, w: usize, [kernel, stride, pads]: [usize; 3]) -> Window {
    let side = [1, 3, 3, 2, 5, 7][kernel % 6];
    let dilation = if kernel / 6 % 4 == 3 { 2 } else { 1 };
    let stride = [1, 1, 2, 3][stride % 4];
    let largest = (side - 1) / 2;
    let [begin, end] = [pads % 4, pads / 4 % 4].map(|pad| if pad == 3 { pad % side } else { largest });
    let reach = dilation * (side - 1) + 1;
    let axis = |extent: usize| extent + begin + end >= reach;
    if !axis(h) || !axis(w) {
        return window(h, w, [0, stride, 0]);
    }
    Window {
        kernel: vec![side; 2],
        strides: vec![stride; 2],
        dilations: vec![dilation; 2],
        pads_begin: vec![begin as isize; 2],
        pads_end: vec![end as isize; 2],
    }
}

/// A square window with the same padding on all sides.
fn square(kernel: usize, stride: usize, pad: isize) -> Window {
    Window {
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
    }
}

fn layer(b: &mut Builder, x: Value, values: &[Value], block: &Block) -> Vec<Value> {
    let [kind, _, p, q, r, s, t, u] = block.map(usize::from);
    let [n, c, h, w] = b.shape(x);
    let divisors: Vec<usize> = (1..=c).filter(|g| c % g == 0).collect();
    let groups = divisors[q % divisors.len()];
    let channels = groups * (p % 48 / groups + 1);
    let view = window(h, w, [r, s, t]);
    let like = |b: &Builder, accept: &dyn Fn([usize; 4]) -> bool| {
        values.iter().rev().copied().find(|value| *value != x && accept(b.shape(*value)))
    };
    match kind % 12 {
        0 | 1 => {
            let y = b.conv(x, channels, groups, view);
            vec![if u % 2 == 0 { b.activation(y, u / 2) } else { y }]
        }
        2 => {
            let y = b.conv(x, p % 48 + 1, 1, window(h, w, [0, s, 0]));
            let y = b.batch_norm(y);
            vec![b.activation(y, u)]
        }
        3 => {
            let y = b.conv(x, c * (u % 4 / 3 + 1), c, view);
            let y = b.batch_norm(y);
            vec![if u % 2 == 0 { b.activation(y, t) } else { y }]
        }
        4 => {
            let y = b.batch_norm(x);
            vec![b.activation(y, p)]
        }
        5 => {
            let other = like(b, &|shape| shape == [n, c, h, w]);
            let y = b.conv(x, c, groups, window(h, w, [0, 0, 0]));
            let sum = b.sum(y, other.unwrap_or(x));
            vec![if u % 2 == 0 { b.activation(sum, u / 2) } else { sum }]
        }
        6 => {
            let other = like(b, &|[on, oc, oh, ow]| [on, oh, ow] == [n, h, w] && oc + c <= 96);
            let other = other.unwrap_or_else(|| b.conv(x, 5, 1, window(h, w, [0, 0, 0])));
            vec![b.add(Concat { axis: 1 }, &[x, other])]
        }
        7 if c > 1 => b.split(x, p % (c - 1) + 1).to_vec(),
        8 => vec![b.shuffle(x, groups)],
        9 if c > 1 => {
            // A unit of ShuffleNet v2.
            let [left, right] = b.split(x, c / 2);
            let y = b.conv(right, c - c / 2, 1, window(h, w, [0, 0, 0]));
            let y = b.activation(y, 0);
            let y = b.add(Concat { axis: 1 }, &[left, y]);
            vec![if c % 2 == 0 { b.shuffle(y, 2) } else { y }]
        }
        10 => {
            let kind = [
                PoolKind::Max,
                PoolKind::Average { count_include_pad: false },
                PoolKind::Average { count_include_pad: true },
            ][p % 3];
            // A window that lies in the padding alone has no mean: pads stay below the kernel's side.
            let pool = Pool {
                kind,
                window: Window { dilations: vec![1; 2], ..view },
                ceil_pads: vec![0; 2],
                prologue: Prologue::default(),
                epilogue: Epilogue::default(),
            };
            vec![b.add(pool, &[x])]
        }
        11 => {
            // Squeeze and excite.
            let kind = PoolKind::Average { count_include_pad: false };
            let y = b.add(GlobalPool { kind, prologue: Prologue::default(), activation: None }, &[x]);
            let y = b.conv(y, c, 1, window(1, 1, [0, 0, 0]));
            let y = b.activation(y, 5);
            vec![b.add(Binary { function: BinaryFn::Mul, activation: None }, &[x, y])]
        }
        _ => vec![b.activation(x, p)],
    }
}
