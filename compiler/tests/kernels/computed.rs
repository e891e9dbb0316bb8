//! Convolutions whose weights and bias are computed while the model runs: they are packed by steps of the run.

use super::support::{braced, keeps_its_kernel};

/// A convolution of inputs, with a bias that is known, computed or none.
fn computed(x: &str, w: &str, attributes: &str, result: &str) {
    let channels = result.split('x').nth(1).expect("channels");
    let attributes = braced(attributes);
    let bias = ["", ", %k", ", %b"];
    for bias in bias {
        keeps_its_kernel(&format!(
            "%x = input : f32[{x}]
%w = input : f32[{w}]
%k = const f32[{channels}] hash(seed=3, scale=1)
%b = input : f32[{channels}]
%y = conv %x, %w{bias} {attributes} : f32[{result}]
output y = %y",
        ));
    }
}

#[test]
fn windows_of_all_kinds() {
    computed("1x8x7x6", "16x8x3x3", "pads=1x1:1x1", "1x16x7x6");
    computed("2x5x7x6", "21x5x3x2", "strides=2x1", "2x21x3x5");
    computed("1x40x4x4", "70x40x1x1", "", "1x70x4x4");
    computed("1x6x9x9", "1x6x5x5", "dilations=2x1", "1x1x1x5");
    computed("1x3x12x12", "7x3x4x4", "strides=4x4, epilogue=relu", "1x7x3x3");
}

#[test]
fn groups_and_channels_of_their_own() {
    computed("1x8x7x6", "12x4x3x3", "groups=2, pads=1x1:1x1", "1x12x7x6");
    computed("1x20x9x8", "20x1x3x3", "groups=20", "1x20x7x6");
    computed("2x37x6x6", "37x1x5x5", "groups=37, pads=2x2:2x2", "2x37x6x6");
    computed("1x6x7x6", "12x1x3x3", "groups=6, pads=1x1:1x1", "1x12x7x6");
    computed("1x3x7x6", "24x1x3x3", "groups=3, pads=1x1:1x1", "1x24x7x6");
}

#[test]
fn transposed_convolutions() {
    let transposed = |w: &str, attributes: &str, result: &str| {
        let channels = result.split('x').nth(1).expect("channels");
        keeps_its_kernel(&format!(
            "%x = input : f32[2x6x5x4]
%w = input : f32[{w}]
%b = input : f32[{channels}]
%y = conv_transpose %x, %w, %b {{{attributes}}} : f32[{result}]
%z = conv_transpose %x, %w {{{attributes}}} : f32[{result}]
output y = %y
output z = %z",
        ));
    };
    transposed("6x8x4x4", "strides=2x2, pads=1x1:1x1", "2x8x10x8");
    transposed("6x5x2x2", "strides=2x2", "2x5x10x8");
    transposed("6x3x3x2", "groups=2, strides=2x1, dilations=1x3", "2x6x11x7");
    transposed("6x9x1x1", "strides=2x3", "2x9x9x10");
    transposed("6x1x4x4", "groups=6, strides=2x2, pads=1x1:1x1", "2x6x10x8");
    transposed("6x2x3x3", "groups=6, strides=2x2", "2x12x11x9");
}

#[test]
fn half_floats() {
    for dtype in ["f16", "bf16"] {
        keeps_its_kernel(&format!(
            "%x = input : {dtype}[1x6x5x4]
%w = input : {dtype}[9x6x3x3]
%d = input : {dtype}[6x1x3x3]
%t = input : {dtype}[6x9x4x4]
%y1 = conv %x, %w : {dtype}[1x9x3x2]
%y2 = conv %x, %d {{groups=6}} : {dtype}[1x6x3x2]
%y3 = conv_transpose %x, %t {{strides=2x2, pads=1x1:1x1}} : {dtype}[1x9x10x8]
output y1 = %y1
output y2 = %y2
output y3 = %y3"
        ));
    }
}

#[test]
fn what_lies_shuffled_and_weights_that_are_pictures() {
    // A template is correlated with a picture, as trackers do.
    keeps_its_kernel(
        "%a = input : f32[1x3x8x8]
%t = input : f32[1x3x4x4]
%k = const f32[8x3x3x3] hash(seed=1, scale=1)
%p = conv %a, %k : f32[1x8x6x6]
%q = conv %t, %k : f32[1x8x2x2]
%w = reshape %q {shape=8x1x2x2} : f32[8x1x2x2]
%y1 = conv %p, %q : f32[1x1x5x5]
%y2 = conv %p, %w {groups=8} : f32[1x8x5x5]
output y1 = %y1
output y2 = %y2",
    );
    keeps_its_kernel(
        "%x = input : f32[1x6x5x4]
%w0 = const f32[6x6x1x1] hash(seed=5, scale=1)
%p = conv %x, %w0 : f32[1x6x5x4]
%s = channel_select %p {select=[0[3], 0[0], 0[4], 0[1], 0[5], 0[2]]} : f32[1x6x5x4]
%w = input : f32[20x6x3x3]
%d = input : f32[6x1x3x3]
%t = input : f32[6x3x2x2]
%r = input : f32[1x20x3x2]
%y1 = conv %s, %w, _, %r {epilogue=residual+relu} : f32[1x20x3x2]
%y2 = conv %s, %d {groups=6} : f32[1x6x3x2]
%y3 = conv_transpose %s, %t {strides=2x2} : f32[1x3x10x8]
output y1 = %y1
output y2 = %y2
output y3 = %y3",
    );
}
