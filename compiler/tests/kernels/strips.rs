//! Strips and lane padding, from the graph to the plan and the numbers.

use nnc::plan::{self, LayerCode, StripRule};
use nnc::target::Target;
use nnc::{InputRef, Pool, Session, emit};
use nnc_runtime::abi::Region;

use super::support::graph;
use super::watchdog::Watchdog;

const LAYERS: &str = "%x = input : f32[1x3x33x9]
%w1 = const f32[10x3x3x3] hash(seed=1, scale=1)
%c1 = conv %x, %w1 {strides=1x1, pads=1x1:1x1, epilogue=relu} : f32[1x10x33x9]
%w2 = const f32[10x1x3x3] hash(seed=2, scale=1)
%c2 = conv %c1, %w2 {strides=2x1, pads=1x1:1x1, groups=10} : f32[1x10x17x9]
%w3 = const f32[7x10x1x1] hash(seed=3, scale=1)
%c3 = conv %c2, %w3 : f32[1x7x17x9]
%p = max_pool %c3 {kernel=3x3, pads=1x1:1x1} : f32[1x7x17x9]
output y = %p
";

/// The results of a graph, planned in some way, with so many threads.
fn run(text: &str, target: &Target, strips: StripRule, threads: usize) -> (plan::Plan, Vec<u32>) {
    let graph = graph(text);
    let options = plan::PlanOptions { strips, ..Default::default() };
    let plan = plan::plan(&graph, target, &options, &Default::default()).expect("a plan");
    let program = emit::jit::compile(plan.clone(), target).expect("a program");
    let elems = program.inputs()[0].elems();
    let input: Vec<f32> = (0..elems).map(|i| (i % 31) as f32 * 0.125 - 1.5).collect();
    let _watchdog = Watchdog::seconds(60);
    let mut session = Session::new(&program, &Pool::new(threads).expect("threads")).expect("a session");
    let outputs = session.run(&[InputRef::new(&input)]).expect("a run");
    let bits = outputs.get::<f32>(0).expect("floats").iter().map(|x| x.to_bits()).collect();
    (plan, bits)
}

#[test]
fn any_number_of_strips_computes_every_row() {
    same_in_strips(LAYERS, &[2, 3, 5, 8, 16, 17]);
}

/// Strips that are parts of pictures, some pictures, or begin in one and end in another.
#[test]
fn strips_of_a_batch_compute_every_picture() {
    same_in_strips(&LAYERS.replace(": f32[1x", ": f32[4x"), &[2, 3, 4, 5, 8, 16, 17, 40]);
}

/// An inverted residual, whose first layer reads what its last one adds.
const BOTTLENECK: &str = "%x = input : f32[4x3x9x7]
%w0 = const f32[6x3x3x3] hash(seed=4, scale=1)
%c0 = conv %x, %w0 {pads=1x1:1x1} : f32[4x6x9x7]
%w1 = const f32[24x6x1x1] hash(seed=1, scale=1)
%c1 = conv %c0, %w1 {epilogue=relu} : f32[4x24x9x7]
%w2 = const f32[24x1x3x3] hash(seed=2, scale=1)
%c2 = conv %c1, %w2 {pads=1x1:1x1, groups=24, epilogue=relu} : f32[4x24x9x7]
%w3 = const f32[6x24x1x1] hash(seed=3, scale=1)
%c3 = conv %c2, %w3, _, %c0 {epilogue=residual} : f32[4x6x9x7]
%p = max_pool %c3 {kernel=3x3, pads=1x1:1x1} : f32[4x6x9x7]
output y = %p
";

#[test]
fn pictures_of_a_batch_go_through_a_whole_bottleneck() {
    same_in_strips(BOTTLENECK, &[2, 4, 5, 9]);
    let target = Target::host().expect("a target");
    let (plan, _) = run(BOTTLENECK, &target, StripRule::Always(4), 1);
    let named = |name: &str| plan.steps.iter().position(|step| step.name.contains(name));
    let (first, last) = (named("c1").expect("a layer"), named("c3").expect("a layer"));
    assert!(plan.strips.iter().any(|group| group.steps().start <= first && last < group.steps().end));
}

fn same_in_strips(text: &str, counts: &[usize]) {
    let target = Target::host().expect("a target");
    let (_, whole) = run(text, &target, StripRule::Never, 1);
    for &count in counts {
        for threads in [1, 2] {
            let (plan, bits) = run(text, &target, StripRule::Always(count), threads);
            assert!(!plan.strips.is_empty(), "{count} strips");
            assert!(bits == whole, "{count} strips on {threads} threads");
        }
    }
}

/// For each step that writes channels in vectors: how many lanes it stores of a pixel, and whether at an output.
fn stored(plan: &plan::Plan) -> Vec<(u32, bool)> {
    let at_output =
        |args: &[nnc_runtime::abi::Arg], arg: usize| matches!(args[arg].region, Region::Output(_));
    let steps = plan.steps.iter().filter_map(|step| match &step.code {
        LayerCode::Dense(dense) => {
            let used = dense.panels.iter().flat_map(|p| p.cols.iter().map(|col| col.used * p.count as u32));
            let output = plan::dense::DenseArg::Output as usize;
            Some((used.sum(), at_output(&step.args, output)))
        }
        LayerCode::Lanes(lanes) => {
            let used = lanes.vectors.iter().map(|v| v.used * v.count as u32);
            let output = plan::lanes::LanesArg::Output as usize;
            Some((used.sum(), at_output(&step.args, output)))
        }
        _ => None,
    });
    steps.collect()
}

#[test]
fn whole_vectors_are_stored_where_there_is_padding_and_channels_alone_where_the_caller_reads_them() {
    let text = "%x = input : f32[1x8x1x1]
%w1 = const f32[14x8x1x1] hash(seed=1, scale=1)
%c1 = conv %x, %w1 : f32[1x14x1x1]
%w2 = const f32[14x1x1x1] hash(seed=2, scale=1)
%c2 = conv %c1, %w2 {groups=14} : f32[1x14x1x1]
%w3 = const f32[14x14x1x1] hash(seed=3, scale=1)
%c3 = conv %c2, %w3 : f32[1x14x1x1]
output y = %c3
";
    for name in ["x86-64-v2", "x86-64-v3", "x86-64-v4"] {
        let target = Target::named(name).expect("a target");
        let plan =
            plan::plan(&graph(text), &target, &Default::default(), &Default::default()).expect("a plan");
        assert_eq!(stored(&plan), [(16, false), (16, false), (14, true)], "{name}");
    }
}
