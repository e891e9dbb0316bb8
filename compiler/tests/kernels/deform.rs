//! Deformable convolutions: samples by a routine, and their sums by kernels; by a nest where weights are computed.

use nnc::plan::{LayerCode, Winograd};
use nnc::target::Target;

use super::support::{TARGETS, compare, graph, planned};

/// A convolution of 3 × 2 taps with all operands, whose weights are `given`: constants or an input.
fn text(
    given: &str,
    dtype: &str,
    [channels, results]: [usize; 2],
    groups: usize,
    offset_groups: usize,
) -> String {
    let each = channels / groups;
    let (offsets, masks) = (offset_groups * 12, offset_groups * 6);
    format!(
        "%x = input : {dtype}[2x{channels}x7x9]
%w = {given}{dtype}[{results}x{each}x3x2]{}
%o = input : {dtype}[2x{offsets}x4x10]
%b = const {dtype}[{results}] hash(seed=4, scale=1)
%m = input : {dtype}[2x{masks}x4x10]
%y = deform_conv %x, %w, %o, %b, %m {{strides=2x1, pads=1x1:1x1, groups={groups}, offset_groups={offset_groups}}} : {dtype}[2x{results}x4x10]
%z = relu %y : {dtype}[2x{results}x4x10]
output y = %y
output z = %z",
        if given == "const " { " hash(seed=3, scale=1)" } else { "" }
    )
}

/// Runs it on all targets; says how many steps are products of kernels.
fn products(text: &str) -> usize {
    let graph = graph(text);
    let mut count = 0;
    for name in TARGETS {
        let target = Target::named(name).expect("a target");
        let plan = planned(&graph, &target, Winograd::Never);
        count = plan.steps.iter().filter(|step| matches!(step.code, LayerCode::Dense(_))).count();
        if target.runs_here() {
            compare(&graph, &graph, &plan, &target);
        }
    }
    count
}

#[test]
fn sums_over_samples_are_products() {
    for (shape, groups, offset_groups) in [
        ([4, 8], 1, 1),
        ([16, 33], 1, 1),
        ([16, 8], 1, 4),
        ([12, 18], 3, 1),
        ([12, 6], 2, 6),
        ([12, 8], 4, 2),
        ([12, 6], 3, 2),
        ([5, 1], 1, 5),
    ] {
        let text = text("const ", "f32", shape, groups, offset_groups);
        assert_eq!(products(&text), groups, "{text}");
    }
}

#[test]
fn half_floats_are_sampled_and_summed_up_as_f32() {
    for dtype in ["f16", "bf16"] {
        assert_eq!(products(&text("const ", dtype, [16, 20], 2, 2)), 2);
    }
}

#[test]
fn computed_weights_are_left_to_a_nest() {
    assert_eq!(products(&text("input : ", "f32", [6, 8], 2, 1)), 0);
}
