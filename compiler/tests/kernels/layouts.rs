//! Operands that lie as no kernel reads them are copied first; the layer stays what it is.

use nnc::plan::Winograd;
use nnc::target::Target;

use super::support::{TARGETS, compare, graph, keeps_its_kernel, planned};

#[test]
fn a_convolution_of_rows_that_run_backwards() {
    keeps_its_kernel(
        "%x = input : f32[1x6x7x5]
%back = slice %x {axes=[2:6..-1 by -1]} : f32[1x6x7x5]
%w = const f32[9x6x3x3] hash(seed=2, scale=1)
%y = conv %back, %w {pads=1x1:1x1} : f32[1x9x7x5]
output y = %y",
    );
}

#[test]
fn a_pool_of_rows_that_run_backwards() {
    keeps_its_kernel(
        "%x = input : f32[1x6x7x5]
%back = slice %x {axes=[2:6..-1 by -1]} : f32[1x6x7x5]
%y = max_pool %back {kernel=3x3, pads=1x1:1x1} : f32[1x6x7x5]
output y = %y",
    );
}

#[test]
fn a_convolution_with_a_constant_residual() {
    keeps_its_kernel(
        "%x = input : f32[1x6x7x5]
%w = const f32[9x6x1x1] hash(seed=2, scale=1)
%r = const f32[1x9x7x5] hash(seed=3, scale=1)
%y = conv %x, %w, _, %r {epilogue=residual+relu} : f32[1x9x7x5]
output y = %y",
    );
}

#[test]
fn a_depthwise_convolution_whose_residual_lies_in_another_order() {
    keeps_its_kernel(
        "%x = input : f32[1x8x7x5]
%w0 = const f32[8x8x1x1] hash(seed=4, scale=1)
%p = conv %x, %w0 : f32[1x8x7x5]
%q = channel_select %p {select=[0[7], 0[1], 0[5], 0[0], 0[2], 0[6], 0[3], 0[4]]} : f32[1x8x7x5]
%w = const f32[8x1x3x3] hash(seed=2, scale=1)
%y = conv %q, %w, _, %x {pads=1x1:1x1, groups=8, epilogue=residual} : f32[1x8x7x5]
output y = %y
output p = %p",
    );
}

/// The result is the second half of a concat: the copy of the residual begins where no slot of it is.
#[test]
fn a_residual_in_another_order_of_what_is_a_part_of_a_concat() {
    keeps_its_kernel(
        "%x = input : f32[1x24x6x6]
%w1 = const f32[16x24x1x1] hash(seed=1, scale=1)
%a = conv %x, %w1 : f32[1x16x6x6]
%w2 = const f32[16x24x3x3] hash(seed=2, scale=1)
%b = conv %x, %w2 {pads=1x1:1x1, epilogue=relu} : f32[1x16x6x6]
%shuffled = channel_select %b {select=[zip(0[0..8], 0[8..16])]} : f32[1x16x6x6]
%c = conv %x, %w1 {epilogue=relu6} : f32[1x16x6x6]
%w3 = const f32[16x1x3x3] hash(seed=3, scale=1)
%y = conv %c, %w3, _, %shuffled {groups=16, pads=1x1:1x1, epilogue=residual} : f32[1x16x6x6]
%both = channel_select %a, %y {select=[0[0..16], 1[0..16]]} : f32[1x32x6x6]
%w4 = const f32[8x32x1x1] hash(seed=4, scale=1)
%all = conv %both, %w4 : f32[1x8x6x6]
output all = %all
output b = %b",
    );
}

#[test]
fn rows_of_pixels_are_pooled_where_they_lie() {
    for pool in ["global_average_pool", "global_max_pool"] {
        for shape in ["2x5x4x30", "1x7x33x1", "1x3x1x32"] {
            let channels = shape.split('x').take(2).collect::<Vec<_>>().join("x");
            let text =
                format!("%x = input : f32[{shape}]\n%y = {pool} %x : f32[{channels}x1x1]\noutput y = %y");
            let graph = graph(&text);
            for name in TARGETS {
                let target = Target::named(name).expect("a target");
                let plan = planned(&graph, &target, Winograd::Never);
                assert_eq!(plan.steps.len(), 1, "{name}\n{text}");
                if target.runs_here() {
                    compare(&graph, &graph, &plan, &target);
                }
            }
        }
    }
}

/// Rolled along both axes: both slices read the channels side by side, which lie in two runs.
#[test]
fn channels_that_several_read_together_are_gathered_once() {
    let text = "%x = input : f32[1x8x6x5]
%w = const f32[8x8x1x1] hash(seed=1, scale=1)
%c = conv %x, %w : f32[1x8x6x5]
%s = channel_select %c {select=[0[3..8], 0[0..3]]} : f32[1x8x6x5]
%low = slice %s {axes=[2:4..6 by 1]} : f32[1x8x2x5]
%high = slice %s {axes=[2:0..4 by 1]} : f32[1x8x4x5]
%rolled = concat %low, %high {axis=2} : f32[1x8x6x5]
%after = softmax %s {axis=3} : f32[1x8x6x5]
output rolled = %rolled
output after = %after";
    keeps_its_kernel(text);
    let plan = planned(&graph(text), &Target::named("x86-64-v4").expect("a target"), Winograd::Never);
    let gathered = |layer: &str| plan.steps.iter().any(|step| step.name == format!("{layer}.gather"));
    assert_eq!(["low", "high", "after"].map(gathered), [true, false, false]);
}
