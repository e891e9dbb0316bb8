//! Convolutions over volumes, slice by slice.

use super::support::{braced, keeps_its_kernel};

/// A convolution with a bias, of known and of computed weights.
fn volumes(x: &str, w: &str, attributes: &str, result: &str) {
    let channels = result.split('x').nth(1).expect("channels");
    let attributes = braced(attributes);
    keeps_its_kernel(&format!(
        "%x = input : f32[{x}]
%w = const f32[{w}] hash(seed=2, scale=1)
%v = input : f32[{w}]
%b = const f32[{channels}] hash(seed=3, scale=1)
%y1 = conv %x, %w, %b {attributes} : f32[{result}]
%y2 = conv %x, %v {attributes} : f32[{result}]
output y1 = %y1
output y2 = %y2",
    ));
}

#[test]
fn windows_of_all_kinds() {
    volumes("1x6x5x7x6", "16x6x3x3x3", "pads=1x1x1:1x1x1", "1x16x5x7x6");
    volumes("2x3x6x7x6", "5x3x3x3x2", "strides=2x1x2, pads=1x0x0:0x0x0", "2x5x3x5x3");
    volumes("1x1x4x5x6", "3x1x2x2x2", "", "1x3x3x4x5");
    volumes("2x20x3x4x5", "33x20x1x1x1", "", "2x33x3x4x5");
    volumes("2x8x4x7x6", "20x8x1x3x3", "pads=0x1x1:0x1x1", "2x20x4x7x6");
    volumes("2x8x5x4x3", "20x8x3x1x1", "pads=1x0x0:1x0x0", "2x20x5x4x3");
    volumes("1x8x9x4x3", "7x8x3x1x1", "strides=2x1x1, dilations=2x1x1", "1x7x3x4x3");
    volumes("1x5x9x6x5", "17x5x3x2x3", "dilations=3x1x2", "1x17x3x5x1");
    volumes("1x4x1x6x5", "9x4x3x3x3", "pads=1x1x1:1x1x1, epilogue=relu", "1x9x1x6x5");
    volumes("1x4x2x6x5", "6x4x1x3x3", "pads=2x1x1:1x1x1", "1x6x5x6x5");
}

#[test]
fn groups() {
    volumes("2x6x4x5x6", "10x3x3x3x3", "groups=2, pads=1x1x1:1x1x1", "2x10x4x5x6");
    volumes("1x3x4x5x6", "24x1x2x2x2", "groups=3", "1x24x3x4x5");
}

#[test]
fn transposed() {
    let transposed = |w: &str, attributes: &str, result: &str| {
        let channels = result.split('x').nth(1).expect("channels");
        let attributes = braced(attributes);
        keeps_its_kernel(&format!(
            "%x = input : f32[2x6x3x5x4]
%w = const f32[{w}] hash(seed=2, scale=1)
%v = input : f32[{w}]
%b = input : f32[{channels}]
%y1 = conv_transpose %x, %w, %b {attributes} : f32[{result}]
%y2 = conv_transpose %x, %v {attributes} : f32[{result}]
output y1 = %y1
output y2 = %y2",
        ));
    };
    transposed("6x9x2x2x2", "strides=2x2x2", "2x9x6x10x8");
    transposed("6x16x4x4x4", "strides=2x2x2, pads=1x1x1:1x1x1", "2x16x6x10x8");
    transposed("6x4x3x1x2", "groups=2, strides=2x3x1, dilations=1x1x2", "2x8x7x13x6");
    transposed("6x5x1x1x1", "strides=2x1x2", "2x5x5x5x7");
    transposed("6x5x3x3x3", "pads=1x1x1:1x1x1", "2x5x3x5x4");
}

#[test]
fn half_floats() {
    for dtype in ["f16", "bf16"] {
        keeps_its_kernel(&format!(
            "%x = input : {dtype}[1x6x4x5x4]
%w = const {dtype}[9x6x3x3x3] hash(seed=2, scale=1)
%t = const {dtype}[6x5x2x2x2] hash(seed=2, scale=1)
%y1 = conv %x, %w {{pads=1x1x1:1x1x1}} : {dtype}[1x9x4x5x4]
%y2 = conv_transpose %x, %t {{strides=2x2x2}} : {dtype}[1x5x8x10x8]
output y1 = %y1
output y2 = %y2"
        ));
    }
}

#[test]
fn layers_one_behind_the_other_with_residuals_concats_and_what_has_no_kernels() {
    keeps_its_kernel(
        "%x = input : f32[2x6x4x5x4]
%w0 = const f32[8x6x3x3x3] hash(seed=1, scale=1)
%w1 = const f32[8x8x3x3x3] hash(seed=2, scale=1)
%w2 = const f32[8x8x1x1x1] hash(seed=3, scale=1)
%w3 = const f32[5x16x3x3x3] hash(seed=4, scale=1)
%w4 = const f32[16x4x2x2x2] hash(seed=5, scale=1)
%a = conv %x, %w0 {pads=1x1x1:1x1x1, epilogue=relu} : f32[2x8x4x5x4]
%b = conv %a, %w1, _, %a {pads=1x1x1:1x1x1, epilogue=residual+relu} : f32[2x8x4x5x4]
%c = conv %b, %w2, _, %a {epilogue=residual} : f32[2x8x4x5x4]
%d = tanh %c : f32[2x8x4x5x4]
%s = channel_select %d, %b {select=[0[0..8], 1[0..8]]} : f32[2x16x4x5x4]
%e = conv %s, %w3 {pads=1x1x1:1x1x1} : f32[2x5x4x5x4]
%t = channel_select %s {select=[0[3..6], 0[0..3], 0[6..16]]} : f32[2x16x4x5x4]
%up = conv_transpose %t, %w4 {strides=2x2x2} : f32[2x4x8x10x8]
output e = %e
output up = %up
output d = %d
output t = %t",
    );
}

#[test]
fn channels_of_their_own() {
    volumes("1x6x5x7x6", "6x1x3x3x3", "groups=6, pads=1x1x1:1x1x1", "1x6x5x7x6");
    volumes(
        "2x37x6x5x6",
        "37x1x3x3x3",
        "groups=37, strides=2x1x2, pads=1x1x1:1x1x1, epilogue=relu",
        "2x37x3x5x3",
    );
    volumes("1x6x4x5x6", "12x1x2x3x2", "groups=6", "1x12x3x3x5");
    volumes("2x8x4x5x6", "8x1x1x3x3", "groups=8", "2x8x4x3x4");
    volumes("2x8x4x5x6", "8x1x3x1x1", "groups=8, pads=2x0x0:2x0x0, dilations=2x1x1", "2x8x4x5x6");
    volumes("1x8x1x5x6", "8x1x1x3x3", "groups=8, pads=2x0x0:1x0x0", "1x8x4x3x4");
}

#[test]
fn sums_of_slices_with_residuals_and_of_half_floats() {
    for dtype in ["f32", "f16", "bf16"] {
        keeps_its_kernel(&format!(
            "%x = input : {dtype}[2x6x4x5x4]
%r = input : {dtype}[2x6x4x5x4]
%w = const {dtype}[6x1x3x3x3] hash(seed=2, scale=1)
%b = const {dtype}[6] hash(seed=3, scale=1)
%y = conv %x, %w, %b, %r {{groups=6, pads=1x1x1:1x1x1, epilogue=residual+relu}} : {dtype}[2x6x4x5x4]
%s = channel_select %r {{select=[0[3], 0[0], 0[4], 0[1], 0[5], 0[2]]}} : {dtype}[2x6x4x5x4]
%z = conv %y, %w, _, %s {{groups=6, pads=1x1x1:1x1x1, epilogue=residual}} : {dtype}[2x6x4x5x4]
output y = %y
output z = %z"
        ));
    }
}

/// The residuals are the second and the first half of a concat that others read: their slots, slices and pictures lie further apart
/// than those of the results.
#[test]
fn residuals_that_are_parts_of_a_wider_volume() {
    for dtype in ["f32", "f16"] {
        keeps_its_kernel(&format!(
            "%x = input : {dtype}[2x6x4x5x4]
%w0 = const {dtype}[16x6x1x1x1] hash(seed=1, scale=1)
%w1 = const {dtype}[16x1x3x3x3] hash(seed=2, scale=1)
%w2 = const {dtype}[16x16x3x3x3] hash(seed=3, scale=1)
%w3 = const {dtype}[4x32x1x1x1] hash(seed=4, scale=1)
%first = conv %x, %w0 : {dtype}[2x16x4x5x4]
%second = conv %x, %w0 {{epilogue=relu}} : {dtype}[2x16x4x5x4]
%both = channel_select %first, %second {{select=[0[0..16], 1[0..16]]}} : {dtype}[2x32x4x5x4]
%third = conv %x, %w0 {{epilogue=relu6}} : {dtype}[2x16x4x5x4]
%own = conv %third, %w1, _, %second {{groups=16, pads=1x1x1:1x1x1, epilogue=residual+relu}} : {dtype}[2x16x4x5x4]
%again = conv %third, %w1, _, %first {{groups=16, pads=1x1x1:1x1x1, epilogue=residual}} : {dtype}[2x16x4x5x4]
%pool = max_pool %third, %second {{kernel=3x3x3, pads=1x1x1:1x1x1, epilogue=residual}} : {dtype}[2x16x4x5x4]
%dense = conv %third, %w2, _, %second {{pads=1x1x1:1x1x1, epilogue=residual}} : {dtype}[2x16x4x5x4]
%all = conv %both, %w3 : {dtype}[2x4x4x5x4]
output own = %own
output again = %again
output pool = %pool
output dense = %dense
output all = %all"
        ));
    }
}

#[test]
fn pools() {
    for (kind, more) in [("max_pool", ""), ("average_pool", ""), ("average_pool", ", count_include_pad=true")]
    {
        for (attributes, result) in [
            ("kernel=2x2x2, strides=2x2x2", "2x6x3x3x2"),
            ("kernel=3x3x3, pads=1x1x1:1x1x1", "2x6x6x6x5"),
            ("kernel=1x2x3, strides=1x2x1", "2x6x6x3x3"),
            ("kernel=3x1x1, strides=2x1x1, pads=1x0x0:0x0x0", "2x6x3x6x5"),
        ] {
            keeps_its_kernel(&format!(
                "%x = input : f32[2x6x6x6x5]
%w = const f32[6x6x1x1x1] hash(seed=2, scale=1)
%c = conv %x, %w : f32[2x6x6x6x5]
%y = {kind} %x {{{attributes}{more}}} : f32[{result}]
%z = {kind} %c, %y {{{attributes}{more}, epilogue=residual+relu}} : f32[{result}]
output y = %y
output z = %z"
            ));
        }
    }
}

#[test]
fn whole_volumes_are_pooled() {
    keeps_its_kernel(
        "%x = input : f32[2x6x3x4x5]
%w = const f32[6x6x1x1x1] hash(seed=2, scale=1)
%c = conv %x, %w : f32[2x6x3x4x5]
%y = global_max_pool %x : f32[2x6x1x1x1]
%z = global_average_pool %c : f32[2x6x1x1x1]
output y = %y
output z = %z",
    );
}
