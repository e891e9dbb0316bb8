//! Layers over signals, and reductions of images along their axes, are done by kernels, and compute what the evaluator does.

use nnc::plan::Plan;
use nnc::target::Target;
use nnc_ir::{Graph, Tensor, eval, text};
use nnc_tests::goldens::{deviation, input};
use nnc_tests::pipeline;

/// What may differ from the evaluator's sums, relative to the largest value.
const ROUNDING: f64 = 1e-5;

/// Compiles a network of one input, compares its results with the evaluator's, and returns its plan.
fn compiled(source: &str) -> Plan {
    let graph: Graph = text::parse(source).unwrap_or_else(|e| panic!("{e}\n{source}"));
    let ty = graph.ty(graph.inputs()[0].into()).clone();
    let x = input(ty.shape.elems());
    let expected = eval::run(&graph, &[Tensor::new(ty.shape.clone(), &x).unwrap()]).unwrap();
    let target = Target::host().unwrap();
    let plan = pipeline::plan(&pipeline::optimise(&graph).unwrap(), &target).unwrap();
    let program = pipeline::jit(&plan, &target).unwrap();
    for threads in [1, 3] {
        let got = pipeline::run(&program, &[&x], threads).unwrap();
        assert_eq!(got.len(), expected.len());
        for (expected, got) in expected.iter().zip(&got) {
            let expected = expected.elems::<f32>().unwrap();
            let off = deviation(got, &expected);
            assert!(off <= ROUNDING, "off by {off}:\n{source}");
        }
    }
    plan
}

/// The kinds of the steps that compute something.
fn kinds(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().filter(|step| step.macc > 0).map(|step| step.code.kind()).collect()
}

#[test]
fn chains_of_layers_over_one_axis_have_the_kernels_of_images() {
    let plan = compiled(
        "
%x = input : f32[2x8x50]
%w = const f32[24x8x9] hash(seed=1, scale=0.3)
%b = const f32[24] hash(seed=2, scale=0.3)
%c = conv %x, %w, %b {pads=4:4} : f32[2x24x50]
%gamma = const f32[24] hash(seed=3, scale=1)
%beta = const f32[24] hash(seed=4, scale=1)
%mean = const f32[24] hash(seed=5, scale=0.1)
%one = const f32[24] {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}
%norm = batch_normalization %c, %gamma, %beta, %mean, %one : f32[2x24x50]
%r = relu %norm : f32[2x24x50]
%v = const f32[24x1x5] hash(seed=6, scale=0.4)
%dw = conv %r, %v {groups=24, pads=2:2} : f32[2x24x50]
%sum = add %dw, %r : f32[2x24x50]
%p = max_pool %sum {kernel=3, strides=2, pads=1:1} : f32[2x24x25]
%q = average_pool %sum {kernel=2, strides=2} : f32[2x24x25]
%both = concat %p, %q {axis=1} : f32[2x48x25]
%u = const f32[16x48x3] hash(seed=7, scale=0.2)
%d = conv %both, %u {dilations=2} : f32[2x16x21]
%s = sigmoid %d : f32[2x16x21]
%g = global_average_pool %s : f32[2x16x1]
output y = %s
output z = %g
",
    );
    let kinds = kinds(&plan);
    assert!(kinds.contains(&"dense") && kinds.contains(&"depthwise"), "{kinds:?}");
    assert!(kinds.iter().all(|kind| *kind != "nest" && *kind != "routine"), "{kinds:?}");
    let copies = plan.steps.iter().filter(|step| step.note.is_some()).map(|step| &step.name);
    // Signals lie with their samples side by side, images with their channels: the borders alone are copied.
    assert!(copies.count() <= 2, "{plan}");
}

#[test]
fn axes_that_run_along_samples_follow() {
    compiled(
        "
%x = input : f32[1x6x20]
%w = const f32[10x6x3] hash(seed=1, scale=0.3)
%c = conv %x, %w {pads=1:1} : f32[1x10x20]
%soft = softmax %c {axis=2} : f32[1x10x20]
%part = slice %soft {axes=[2:3..19]} : f32[1x10x16]
%pad = pad %part {pads=0x0x2:0x0x2} : f32[1x10x20]
%both = concat %pad, %c {axis=2} : f32[1x10x40]
%k = const f32[40] hash(seed=2, scale=1)
%scaled = mul %both, %k : f32[1x10x40]
%t = const f32[10x4x4] hash(seed=3, scale=0.3)
%up = conv_transpose %scaled, %t {strides=2, pads=1:1} : f32[1x4x80]
output y = %up
",
    );
}

#[test]
fn reductions_along_any_axes_of_an_image_are_as_the_evaluator_has_them() {
    let kinds = ["sum", "mean", "max", "min", "prod", "l1", "l2", "sum_square", "log_sum", "log_sum_exp"];
    for kind in kinds {
        for (axes, kept, dropped) in
            [("[2]", "1x20x1x9", "1x20x9"), ("[3]", "1x20x7x1", "1x20x7"), ("[2, 3]", "1x20x1x1", "1x20")]
        {
            for (keep, shape) in [("true", kept), ("false", dropped)] {
                compiled(&format!(
                    "
%x = input : f32[1x5x7x9]
%w = const f32[20x5x1x1] hash(seed=1, scale=0.3)
%c = conv %x, %w : f32[1x20x7x9]
%s = sigmoid %c : f32[1x20x7x9]
%r = reduce_{kind} %s {{axes={axes}, keep_dims={keep}}} : f32[{shape}]
%y = relu %r : f32[{shape}]
output y = %y
output r = %r
"
                ));
            }
        }
    }
}
