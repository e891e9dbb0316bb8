//! Whole 3×3 layers by Winograd's algorithm, in both forms, against the evaluator.

use nnc::code::tile::programs::winograd::{Form, Sweeps};
use nnc::plan::winograd::StoredKernels;
use nnc::plan::{ConstantsLimit, LayerCode, Plan, PlanOptions, Winograd};
use nnc::target::Target;
use nnc_ir::op::*;
use nnc_ir::{Graph, Op, Tensor, TensorType, Value, eval};
use nnc_tests::addresses::Audit;
use nnc_tests::goldens::deviation;
use nnc_tests::pipeline;

/// What may differ from the evaluator's sums, relative to the largest value.
const ROUNDING: f64 = 1e-5;

/// Both forms, with kernels that the compiler transforms, and that layers do.
const FORMS: [(Form, StoredKernels); 5] = [
    (Form::F4, StoredKernels::Plain(Sweeps::Pairs)),
    (Form::F2, StoredKernels::Transformed),
    (Form::F2, StoredKernels::Plain(Sweeps::Pairs)),
    (Form::F4, StoredKernels::Transformed),
    (Form::F4, StoredKernels::Plain(Sweeps::Rows)),
];

/// A graph whose constants are noise.
#[derive(Default)]
struct NoiseGraph {
    graph: Graph,
    constants: u32,
}

impl NoiseGraph {
    fn input(&mut self, shape: [usize; 4]) -> Value {
        self.graph.add_input("x", TensorType::f32(shape))
    }

    fn add(&mut self, op: impl Into<Op>, operands: &[Value]) -> Value {
        let op = op.into();
        let name = format!("{}{}", op.name().to_lowercase(), self.graph.len());
        let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
        self.graph.add(name, op, &operands).unwrap_or_else(|error| panic!("{error}")).into()
    }

    fn constant(&mut self, shape: &[usize], bound: f32) -> Value {
        self.constants += 1;
        self.graph.add_constant(format!("c{}", self.constants), noise(shape, self.constants, bound))
    }

    /// A convolution with pads top, left, bottom, right.
    fn conv(&mut self, x: Value, channels: usize, kernel: usize, pads: [isize; 4]) -> Value {
        let depth = self.graph.ty(x).shape[1];
        let bound = 1.7 / ((depth * kernel * kernel) as f32).sqrt();
        let w = self.constant(&[channels, depth, kernel, kernel], bound);
        let b = self.constant(&[channels], 0.3);
        let window = Window {
            kernel: vec![kernel; 2],
            strides: vec![1; 2],
            dilations: vec![1; 2],
            pads_begin: pads[..2].to_vec(),
            pads_end: pads[2..].to_vec(),
        };
        let conv = Conv { window, groups: 1, prologue: Prologue::default(), epilogue: Epilogue::default() };
        self.add(conv, &[x, w, b])
    }

    fn point(&mut self, x: Value, channels: usize) -> Value {
        self.conv(x, channels, 1, [0; 4])
    }

    fn same(&mut self, x: Value, channels: usize) -> Value {
        self.conv(x, channels, 3, [1; 4])
    }

    fn sum(&mut self, a: Value, b: Value) -> Value {
        self.add(Binary { function: BinaryFn::Add, activation: None }, &[a, b])
    }

    fn finish(mut self, y: Value) -> Graph {
        self.graph.add_output("y", y);
        self.graph
    }
}

fn noise(shape: &[usize], seed: u32, bound: f32) -> Tensor {
    let element = |i: u32| {
        let mut h = (i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        h ^= h >> 13;
        h = h.wrapping_mul(0xc2b2_ae35);
        h ^= h >> 16;
        bound * ((h >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    let elements: Vec<f32> = (0..shape.iter().product::<usize>() as u32).map(element).collect();
    Tensor::new(shape, &elements).unwrap_or_else(|error| panic!("{error}"))
}

fn targets() -> Vec<Target> {
    ["native", "x86-64-v3", "x86-64-v2", "native-clif"]
        .iter()
        .map(|name| Target::named(name).unwrap_or_else(|error| panic!("{error}")))
        .filter(Target::runs_here)
        .collect()
}

/// How many steps of a plan have a form of Winograd's algorithm.
fn count(plan: &Plan, form: Form) -> usize {
    plan.steps.iter().filter(|step| matches!(&step.code, LayerCode::Winograd(w) if w.form == form)).count()
}

/// A 3×3 layer of the given extent and, behind its means, one output for each of `outputs` rows of weights that are used once.
fn classifier(extent: usize, outputs: usize) -> Graph {
    let mut b = NoiseGraph::default();
    let x = b.input([1, 64, extent, extent]);
    let y = b.same(x, 64);
    let pool = GlobalPool {
        kind: PoolKind::Average { count_include_pad: false },
        prologue: Prologue::default(),
        activation: None,
    };
    let means = b.add(pool, &[y]);
    let y = b.point(means, outputs);
    b.finish(y)
}

/// Checks a graph of which `layers` steps must be done by Winograd's algorithm when they may: results, and that one, two
/// and three threads compute the same bits.
#[track_caller]
fn check(graph: &Graph, layers: usize) {
    let id = graph.inputs()[0];
    let input = noise(&graph.node(id).outputs[0].shape, 77, 2.0);
    let expected = eval::run(graph, std::slice::from_ref(&input)).unwrap_or_else(|error| panic!("{error}"));
    let expected = expected[0].elems::<f32>().unwrap_or_else(|error| panic!("{error}"));
    let input = input.elems::<f32>().unwrap_or_else(|error| panic!("{error}"));
    let graph = pipeline::optimise(graph).unwrap_or_else(|error| panic!("{error}"));
    for target in targets() {
        for (form, kernels) in FORMS {
            let what = format!("{}, {form:?}, {kernels:?}", target.name);
            let options = PlanOptions { winograd: Winograd::Always(form, kernels), ..PlanOptions::default() };
            let plan =
                pipeline::plan_with(&graph, &target, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(count(&plan, form), layers, "{what}:\n{plan}");
            let audit = Audit::of(&plan).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(audit.faults().next(), None, "{what}:\n{plan}");
            let program = pipeline::jit(&plan, &target).unwrap_or_else(|e| panic!("{what}: {e}"));
            let run = |threads| {
                pipeline::run(&program, &[&input], threads).unwrap_or_else(|e| panic!("{what}: {e}"))
            };
            let one = run(1);
            let off = deviation(&one[0], &expected);
            assert!(off <= ROUNDING, "{what}: off by {off:.1e}\n{plan}");
            for threads in [2, 3] {
                let same = pipeline::bits(&run(threads)) == pipeline::bits(&one);
                assert!(same, "{what}: {threads} threads compute other bits");
            }
        }
    }
}

#[test]
fn pictures_of_any_size_with_any_padding_are_right() {
    for (h, w) in [(1, 1), (3, 8), (7, 7), (13, 13), (9, 30)] {
        for pads in [[1; 4], [0, 1, 2, 1], [2, 0, 0, 2], [2, 3, 2, 1]] {
            let mut b = NoiseGraph::default();
            let x = b.input([1, 4, h, w]);
            let x = b.point(x, 24);
            let y = b.conv(x, 40, 3, pads);
            check(&b.finish(y), 1);
        }
    }
    let mut b = NoiseGraph::default();
    let x = b.input([1, 4, 12, 7]);
    let x = b.point(x, 16);
    let y = b.conv(x, 16, 3, [0; 4]);
    check(&b.finish(y), 1);
}

#[test]
fn tiles_of_all_pictures_of_a_batch_share_blocks() {
    let mut b = NoiseGraph::default();
    let x = b.input([3, 4, 10, 9]);
    let x = b.point(x, 20);
    let y = b.same(x, 36);
    check(&b.finish(y), 1);
}

#[test]
fn many_channels_make_many_panels_and_several_blocks() {
    let mut b = NoiseGraph::default();
    let x = b.input([1, 4, 30, 26]);
    let x = b.point(x, 144);
    let y = b.same(x, 200);
    check(&b.finish(y), 1);
}

#[test]
fn a_residual_is_added_before_or_after_an_activation() {
    for activate_last in [true, false] {
        let mut b = NoiseGraph::default();
        let x = b.input([1, 4, 11, 10]);
        let x = b.point(x, 28);
        let x = b.add(Unary::Relu, &[x]);
        let mut y = b.same(x, 28);
        if !activate_last {
            y = b.add(Unary::Relu, &[y]);
        }
        let mut y = b.sum(y, x);
        if activate_last {
            y = b.add(Unary::Relu, &[y]);
        }
        let y = b.same(y, 28);
        check(&b.finish(y), 2);
    }
}

#[test]
fn every_activation_is_applied_in_registers() {
    for unary in [
        Unary::Relu,
        Unary::Clip { min: -0.25, max: 0.5 },
        Unary::HardSwish,
        Unary::LeakyRelu { alpha: 0.125 },
        Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Unary::Silu,
        Unary::Sigmoid,
    ] {
        let mut b = NoiseGraph::default();
        let x = b.input([1, 4, 6, 7]);
        let x = b.point(x, 16);
        let y = b.same(x, 24);
        let y = b.add(unary, &[y]);
        check(&b.finish(y), 1);
    }
}

#[test]
fn channels_come_from_several_buffers_in_any_order() {
    // A pool's result and a convolution's, shuffled: the channels alternate between two places.
    let mut b = NoiseGraph::default();
    let x = b.input([1, 4, 9, 9]);
    let left = b.point(x, 24);
    let right = b.point(left, 24);
    let both = b.add(Concat { axis: 1 }, &[left, right]);
    let split = b.add(Reshape { shape: vec![1, 2, 24, 9, 9] }, &[both]);
    let turned = b.add(Transpose { perm: vec![0, 2, 1, 3, 4] }, &[split]);
    let shuffled = b.add(Reshape { shape: vec![1, 48, 9, 9] }, &[turned]);
    let y = b.same(shuffled, 32);
    let other = b.point(right, 32);
    let y = b.sum(y, other);
    check(&b.finish(y), 1);
}

#[test]
fn a_wide_buffer_holds_the_results_of_a_fire_module() {
    let mut b = NoiseGraph::default();
    let x = b.input([1, 4, 14, 13]);
    let squeeze = b.point(x, 16);
    let one = b.point(squeeze, 20);
    let three = b.same(squeeze, 44);
    let y = b.add(Concat { axis: 1 }, &[one, three]);
    let y = b.same(y, 19);
    check(&b.finish(y), 2);
}

#[test]
fn infinities_and_nans_spread_no_farther_than_the_tiles_that_see_them() {
    let mut b = NoiseGraph::default();
    let x = b.input([1, 16, 12, 12]);
    let x = b.point(x, 16);
    let y = b.same(x, 16);
    let graph = pipeline::optimise(&b.finish(y)).unwrap_or_else(|error| panic!("{error}"));
    let mut input = noise(&[1, 16, 12, 12], 5, 1.0).elems::<f32>().expect("f32").into_owned();
    input[0] = f32::NAN;
    for target in targets() {
        let options = PlanOptions {
            winograd: Winograd::Always(Form::F4, StoredKernels::Transformed),
            ..PlanOptions::default()
        };
        let plan = pipeline::plan_with(&graph, &target, &options).unwrap_or_else(|error| panic!("{error}"));
        let program = pipeline::jit(&plan, &target).unwrap_or_else(|error| panic!("{error}"));
        let output = &pipeline::run(&program, &[&input], 1).unwrap_or_else(|error| panic!("{error}"))[0];
        let nan = |y: usize, x: usize| output[y * 12 + x].is_nan();
        assert!(nan(0, 0) && nan(1, 1), "{}: the windows that see it", target.name);
        let outside = (0..12).flat_map(|y| (0..12).map(move |x| (y, x))).filter(|&(y, x)| y >= 4 || x >= 4);
        for (y, x) in outside {
            assert!(!nan(y, x), "{}: ({y}, {x})", target.name);
        }
    }
}

#[test]
fn the_planner_takes_the_form_that_a_layer_gains_most_from() {
    let target = Target::named("x86-64-v4").unwrap_or_else(|error| panic!("{error}"));
    let kinds = |size: usize, depth: usize, channels: usize, winograd: Winograd| {
        let mut b = NoiseGraph::default();
        let x = b.input([1, 4, size, size]);
        let x = b.point(x, depth);
        let y = b.same(x, channels);
        let graph = pipeline::optimise(&b.finish(y)).unwrap_or_else(|error| panic!("{error}"));
        // The layer is all of the network, which could not become larger otherwise.
        let constants = ConstantsLimit { percent: 1000 };
        let options = PlanOptions { winograd, constants, ..PlanOptions::default() };
        let plan = pipeline::plan_with(&graph, &target, &options).unwrap_or_else(|e| panic!("{e}"));
        let mut convolutions = plan.steps.iter().filter(|step| step.op == "Conv");
        convolutions.next_back().map(|step| step.code.kind()).unwrap_or_default()
    };
    let free = Winograd::WhereFaster;
    assert_eq!(kinds(56, 64, 64, free), "winograd 4x4");
    assert_eq!(kinds(28, 128, 128, free), "winograd 4x4");
    assert_eq!(kinds(14, 256, 256, free), "winograd 2x2", "weights of the large form are too large");
    assert_eq!(kinds(7, 512, 512, free), "dense", "few pixels, many weights");
    assert_eq!(kinds(56, 64, 64, Winograd::Never), "dense");
}

#[test]
fn strides_dilations_groups_and_other_kernels_stay_direct() {
    let mut b = NoiseGraph::default();
    let x = b.input([1, 32, 16, 16]);
    let x = b.point(x, 32);
    let w = b.constant(&[32, 32, 3, 3], 0.1);
    let conv = |strides: usize, dilations: usize, groups: usize, kernel: usize| Conv {
        window: Window {
            kernel: vec![kernel; 2],
            strides: vec![strides; 2],
            dilations: vec![dilations; 2],
            pads_begin: vec![1; 2],
            pads_end: vec![1; 2],
        },
        groups,
        prologue: Prologue::default(),
        epilogue: Epilogue::default(),
    };
    let grouped = b.constant(&[32, 8, 3, 3], 0.1);
    let five = b.constant(&[32, 32, 5, 5], 0.1);
    let results = [
        b.add(conv(2, 1, 1, 3), &[x, w]),
        b.add(conv(1, 2, 1, 3), &[x, w]),
        b.add(conv(1, 1, 4, 3), &[x, grouped]),
        b.add(conv(1, 1, 1, 5), &[x, five]),
    ];
    for (i, y) in results.into_iter().enumerate() {
        b.graph.add_output(format!("y{i}"), y);
    }
    let graph = pipeline::optimise(&b.graph).unwrap_or_else(|error| panic!("{error}"));
    for target in targets() {
        for (form, kernels) in FORMS {
            let options = PlanOptions { winograd: Winograd::Always(form, kernels), ..PlanOptions::default() };
            let plan = pipeline::plan_with(&graph, &target, &options).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(count(&plan, form), 0, "{plan}");
        }
    }
}

#[test]
fn a_network_that_waits_for_its_weights_has_direct_layers() {
    let target = Target::named("x86-64-v4").unwrap_or_else(|error| panic!("{error}"));
    let layers = |extent, outputs| {
        let graph =
            pipeline::optimise(&classifier(extent, outputs)).unwrap_or_else(|error| panic!("{error}"));
        let plan = pipeline::plan_with(&graph, &target, &PlanOptions::default());
        let plan = plan.unwrap_or_else(|error| panic!("{error}"));
        count(&plan, Form::F2) + count(&plan, Form::F4)
    };
    // 6 MB come in 0.8 million cycles; 7 million multiply-adds take 0.2, 38 million 1.2.
    assert_eq!(layers(14, 24_576), 0);
    assert_eq!(layers(14, 8192), 1);
    assert_eq!(layers(32, 24_576), 1);
}
