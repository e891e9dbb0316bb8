//! Layers over `bf16`, two channels at a time where the target multiplies pairs, and one by one where it does not.

use super::support::{braced, check, graph};

/// Targets with an instruction for pairs, and without.
const TARGETS: [&str; 6] =
    ["x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4+bf16", "x86-64-v4+bf16-clif", "aarch64"];

fn keeps_its_kernel(text: &str) {
    let graph = graph(text);
    check(&graph, &graph, &TARGETS);
}

#[test]
fn convolutions_read_odd_channels_grouped_ones_and_runs_of_a_shuffle() {
    for (channels, kernel, more, result) in [
        (20, "1x1", "", "9x9"),
        (7, "3x3", "pads=1x1:1x1", "9x9"),
        (1, "3x2", "strides=2x1", "4x8"),
        (33, "3x3", "dilations=2x1, pads=2x0:2x1, strides=2x2", "5x4"),
    ] {
        let attributes = braced(more);
        keeps_its_kernel(&format!(
            "%x = input : bf16[2x{channels}x9x9]
%w1 = const bf16[{channels}x{channels}x1x1] hash(seed=1, scale=0.3)
%a = conv %x, %w1 : bf16[2x{channels}x9x9]
%w2 = const bf16[19x{channels}x{kernel}] hash(seed=2, scale=0.3)
%y = conv %a, %w2 {attributes} : bf16[2x19x{result}]
output y = %y
"
        ));
    }
    keeps_its_kernel(
        "%x = input : bf16[1x24x6x7]
%w1 = const bf16[36x8x1x1] hash(seed=1, scale=0.3)
%b1 = const f32[36] hash(seed=2, scale=0.2)
%a = conv %x, %w1, %b1 {groups=3, epilogue=relu} : bf16[1x36x6x7]
%s = channel_select %a, %x {select=[zip(0[0..9], 0[9..18]), 1[3..8], 0[30..33]]} : bf16[1x26x6x7]
%w2 = const bf16[20x26x3x3] hash(seed=3, scale=0.2)
%y = conv %s, %w2 {pads=1x1:1x1} : bf16[1x20x6x7]
%w3 = const bf16[36x12x1x1] hash(seed=4, scale=0.3)
%z = conv %a, %w3, _, %a {groups=3, epilogue=residual+relu6} : bf16[1x36x6x7]
output y = %y
output z = %z
",
    );
}

#[test]
fn a_bound_in_front_is_applied_while_channels_are_copied_and_results_are_stored_as_f32() {
    keeps_its_kernel(
        "%x = input : bf16[1x30x7x7]
%w1 = const bf16[40x30x1x1] hash(seed=1, scale=0.3)
%a = conv %x, %w1 : bf16[1x40x7x7]
%w2 = const bf16[24x40x1x1] hash(seed=2, scale=0.3)
%y = conv %a, %w2 {prologue=relu} : bf16[1x24x7x7]
%scale = const f32[40] hash(seed=3, scale=1)
%shift = const f32[40] hash(seed=4, scale=1)
%z = conv %a, %w2, _, _, %scale, %shift {prologue=affine+relu} : bf16[1x24x7x7]
%both = channel_select %x, %a {select=[0[0..30], 1[0..40]]} : bf16[1x70x7x7]
%w3 = const bf16[9x70x1x1] hash(seed=5, scale=0.2)
%wide = conv %both, %w3 {prologue=relu} : bf16[1x9x7x7]
output y = %y
output z = %z
output wide = %wide
",
    );
    keeps_its_kernel(
        "%x = input : bf16[1x33x7x7]
%w = const bf16[10x33x7x7] hash(seed=1, scale=0.1)
%y = conv %x, %w {epilogue=f32} : f32[1x10x1x1]
output y = %y
",
    );
}

#[test]
fn products_of_matrices_of_all_sorts() {
    keeps_its_kernel(
        "%x = input : bf16[2x17x45]
%w1 = const bf16[45x96] hash(seed=1, scale=0.2)
%b1 = const f32[96] hash(seed=2, scale=0.2)
%h = mat_mul %x, %w1, %b1 {epilogue=relu} : bf16[2x17x96]
%w2 = const bf16[50x96] hash(seed=3, scale=0.1)
%t = mat_mul %h, %w2 {trans_b=true} : bf16[2x17x50]
%turned = transpose %h {perm=[0, 2, 1]} : bf16[2x96x17]
%w3 = const bf16[17x20] hash(seed=4, scale=0.2)
%columns = mat_mul %turned, %w3 : bf16[2x96x20]
%scores = mat_mul %t, %t {trans_b=true} : bf16[2x17x17]
%w4 = const bf16[2x45x6] hash(seed=5, scale=0.2)
%own = mat_mul %x, %w4 : bf16[2x17x6]
%v = const bf16[45] hash(seed=6, scale=0.2)
%dot = mat_mul %x, %v : bf16[2x17]
output t = %t
output columns = %columns
output scores = %scores
output own = %own
output dot = %dot
",
    );
    // Few rows: a classifier.
    keeps_its_kernel(
        "%x = input : bf16[2x131]
%w = const bf16[131x1000] hash(seed=1, scale=0.1)
%y = mat_mul %x, %w {epilogue=f32} : f32[2x1000]
output y = %y
",
    );
}

#[test]
fn volumes_and_transposed_convolutions() {
    keeps_its_kernel(
        "%x = input : bf16[1x13x5x6x6]
%w = const bf16[20x13x3x3x3] hash(seed=1, scale=0.1)
%y = conv %x, %w {pads=1x1x1:1x1x1} : bf16[1x20x5x6x6]
output y = %y
",
    );
    keeps_its_kernel(
        "%x = input : bf16[1x21x6x6]
%w = const bf16[21x10x4x4] hash(seed=1, scale=0.2)
%y = conv_transpose %x, %w {strides=2x2, pads=1x1:1x1} : bf16[1x10x12x12]
output y = %y
",
    );
}
