//! Transposed convolutions, which are done phase by phase.

use super::support::keeps_its_kernel;

/// One of 6 channels to some, with a bias and an activation.
fn transposed(channels: usize, groups: usize, kernel: &str, attributes: &str, result: &str) {
    let each = channels / groups;
    keeps_its_kernel(&format!(
        "%x = input : f32[2x6x5x4]
%w = const f32[6x{each}x{kernel}] hash(seed=2, scale=1)
%b = const f32[{channels}] hash(seed=3, scale=1)
%y = conv_transpose %x, %w, %b {{groups={groups}, {attributes}}} : f32[2x{channels}x{result}]
output y = %y"
    ));
}

#[test]
fn kernels_and_strides_of_all_kinds() {
    transposed(8, 1, "4x4", "strides=2x2, pads=1x1:1x1", "10x8");
    transposed(20, 1, "3x3", "strides=2x2, pads=1x1:1x1, output_padding=1x1", "10x8");
    transposed(7, 1, "3x3", "pads=1x1:1x1", "5x4");
    transposed(3, 1, "2x2", "strides=2x2", "10x8");
    transposed(1, 1, "5x4", "strides=3x2, activation=relu", "17x10");
    transposed(33, 1, "1x1", "", "5x4");
}

#[test]
fn kernels_smaller_than_the_stride_leave_the_bias() {
    transposed(5, 1, "2x1", "strides=3x4, output_padding=1x2", "15x15");
    transposed(17, 1, "1x1", "strides=2x3, activation=sigmoid", "9x10");
}

#[test]
fn groups_dilations_and_cut_results() {
    transposed(6, 2, "4x4", "strides=2x2, pads=1x1:1x1", "10x8");
    transposed(12, 3, "3x2", "strides=2x1, dilations=1x3", "11x7");
    transposed(8, 1, "3x3", "strides=2x2, dilations=2x3", "13x13");
    transposed(8, 1, "3x3", "strides=4x4, dilations=2x2, pads=3x2:2x4", "16x11");
}

#[test]
fn half_floats() {
    for dtype in ["f16", "bf16"] {
        keeps_its_kernel(&format!(
            "%x = input : {dtype}[1x6x5x4]
%w = const {dtype}[6x9x4x4] hash(seed=2, scale=1)
%y = conv_transpose %x, %w {{strides=2x2, pads=1x1:1x1}} : {dtype}[1x9x10x8]
output y = %y"
        ));
    }
}

#[test]
fn a_result_that_is_a_part_of_a_concat_and_input_that_is_shuffled() {
    keeps_its_kernel(
        "%x = input : f32[1x6x5x4]
%w0 = const f32[6x6x1x1] hash(seed=5, scale=1)
%p = conv %x, %w0 : f32[1x6x5x4]
%s = channel_select %p {select=[0[3], 0[0], 0[4], 0[1], 0[5], 0[2]]} : f32[1x6x5x4]
%w = const f32[6x5x2x2] hash(seed=2, scale=1)
%up = conv_transpose %s, %w {strides=2x2} : f32[1x5x10x8]
%skip = input : f32[1x3x10x8]
%w1 = const f32[4x3x1x1] hash(seed=4, scale=1)
%q = conv %skip, %w1 : f32[1x4x10x8]
%all = channel_select %q, %up {select=[0[0..4], 1[0..5]]} : f32[1x9x10x8]
%w2 = const f32[3x9x3x3] hash(seed=3, scale=1)
%y = conv %all, %w2 {pads=1x1:1x1} : f32[1x3x10x8]
output y = %y",
    );
}

#[test]
fn channels_of_their_own() {
    let each = |channels: usize, results: usize, kernel: &str, attributes: &str, result: &str| {
        keeps_its_kernel(&format!(
            "%x = input : f32[2x{channels}x5x4]
%w = const f32[{channels}x{each}x{kernel}] hash(seed=2, scale=1)
%b = const f32[{results}] hash(seed=3, scale=1)
%y = conv_transpose %x, %w, %b {{groups={channels}, {attributes}}} : f32[2x{results}x{result}]
output y = %y",
            each = results / channels,
        ));
    };
    each(6, 6, "4x4", "strides=2x2, pads=1x1:1x1", "10x8");
    each(37, 37, "3x3", "strides=2x2, pads=1x1:1x1, output_padding=1x1, activation=relu", "10x8");
    each(16, 32, "2x2", "strides=2x2", "10x8");
    each(5, 15, "3x2", "strides=1x3, dilations=2x1", "9x11");
    each(3, 24, "3x2", "strides=2x1", "11x5");
    each(20, 20, "1x1", "strides=2x3", "9x10");
}

#[test]
fn strides_of_vocoders_are_few_bands() {
    for (kernel, stride, pad, length) in [(128, 128, 0, 640), (16, 8, 4, 40), (20, 10, 5, 50), (11, 5, 3, 25)]
    {
        for channels in [1, 3, 20] {
            keeps_its_kernel(&format!(
                "%x = input : f32[1x6x1x5]
%w = const f32[6x{channels}x1x{kernel}] hash(seed=2, scale=1)
%b = const f32[{channels}] hash(seed=3, scale=1)
%y = conv_transpose %x, %w, %b {{strides=1x{stride}, pads=0x{pad}:0x{pad}}} : f32[1x{channels}x1x{length}]
output y = %y",
                length = length - 2 * pad + kernel - stride,
            ));
        }
    }
}
