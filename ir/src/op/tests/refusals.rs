//! What `infer` refuses, next to what it takes.

use super::parsed;

/// Operators that fit their operands, just.
const TAKEN: &[&str] = &[
    "channel_affine f16[1x2x3], f32[2], f32[2] : f16[1x2x3]",
    "conv f16[1x1x3], f32[1x1x2] : f16[1x1x2]",
    "add f32[2], f32[2] {activation=relu} : f32[2]",
    "bit_cast bool[2] {to=bool} : bool[2]",
    "conv_transpose f32[1x1x1], f32[1x1x3] {pads=1:1} : f32[1x1x1]",
    "gather_nd f32[2x0x3], i64[0x1] : f32[0x0x3]",
    "grid_sample f32[1x1x4], f32[1x3x1] : f32[1x1x3]",
    "grid_sample f32[1x1x0x2], f32[1x3x0x2] : f32[1x1x3x0]",
    "max_pool i32[1x1x4] {kernel=2} : i32[1x1x3]",
    "pad f32[0] {pads=0:0, mode=reflect} : f32[0]",
    "resize f32[1] {sizes=2147483648, scales=[2147483648], mode=linear} : f32[2147483648]",
    "resize f32[262144] {sizes=1, scales=[0.000003814697265625], mode=linear, antialias=true} : f32[1]",
    "resize f32[0] {sizes=0, scales=[1], mode=linear} : f32[0]",
    "roi_align f32[1x1x1x1], f32[1x4], i64[1] {bins=1x1, samples=4096} : f32[1x1x1x1]",
    "scatter_elements bool[3], i64[2], bool[2] {axis=0} : bool[3]",
    "slice f32[4] {axes=[0:3..1 by -1]} : f32[2]",
];

/// Operators that do not fit their operands, and what is said of them.
#[rustfmt::skip]
const REFUSED: &[(&str, &str)] = &[
    ("add f32[2], f32[2] {activation=is_nan} : f32[2]", "activation IsNan does not map elements of type f32 to the same type"),
    ("add bool[2], bool[2] : bool[2]", "operands have types bool[2] and bool[2], for which it is not defined"),
    ("bitwise_and bool[2], bool[2] : bool[2]", "for which it is not defined"),
    ("bitwise_and f32[2], f32[2] : f32[2]", "for which it is not defined"),
    ("pow f32[2], bool[2] : f32[2]", "for which it is not defined"),
    ("pow bool[2], f32[2] : bool[2]", "for which it is not defined"),
    ("bit_cast u8[2] {to=bool} : bool[2]", "unsupported: the bits of u8 as booleans"),
    ("relu bool[2] : bool[2]", "expected numbers"),
    ("exp i32[2] : i32[2]", "expected floating-point elements"),
    ("not f32[2] : f32[2]", "expected elements of type bool"),
    ("col2_im f32[1x5x4] {image=3x3, kernel=2x2} : f32[1x1x3x3]", "expected numbers [N, C · 4, 4]"),
    ("col2_im f32[1x4x5] {image=3x3, kernel=2x2} : f32[1x1x3x3]", "expected numbers [N, C · 4, 4]"),
    ("col2_im bool[1x4x4] {image=3x3, kernel=2x2} : bool[1x1x3x3]", "expected numbers [N, C · 4, 4]"),
    ("compress f32[3], f32[3] {axis=0} : f32[3], i64[]", "expected bool of rank 1"),
    ("compress f32[3], bool[1x3] {axis=0} : f32[3], i64[]", "expected bool of rank 1"),
    ("concat f32[2], f32[2x1] {axis=0} : f32[4]", "operand 1"),
    ("concat f32[2], i32[2] {axis=0} : f32[4]", "operand 1"),
    ("conv bool[1x1x3], bool[1x1x2] : bool[1x1x2]", "expected numbers of rank 3 or more"),
    ("conv f32[1x1], f32[1x1] : f32[1x1]", "expected numbers of rank 3 or more"),
    ("conv i32[1x1x3], i32[1x1x2] {epilogue=relu} : i32[1x1x2]", "floating-point elements for a prologue or epilogue"),
    ("conv i32[1x1x3], i32[1x1x2] {prologue=relu} : i32[1x1x2]", "floating-point elements for a prologue or epilogue"),
    ("conv f32[1x2x3], f32[2x2x2] {prologue=is_nan} : f32[1x2x2]", "activation IsNan"),
    ("conv f32[1x2x3], f32[2x2x2] {groups=0} : f32[1x2x2]", "with M a multiple of 0"),
    ("conv f32[1x2x3], f32[3x1x2] {groups=2} : f32[1x3x2]", "with M a multiple of 2"),
    ("conv f32[1x2x3], f32[4x2x2] {groups=2} : f32[1x4x2]", "with M a multiple of 2"),
    ("conv_transpose f32[1x2x3], f32[2x1x2] {groups=0} : f32[1x1x4]", "with C a multiple of 0"),
    ("conv_transpose f32[1x3x3], f32[3x1x2] {groups=2} : f32[1x2x4]", "with C a multiple of 2"),
    ("conv_transpose f32[1x2x3], f32[4x1x2] {groups=2} : f32[1x2x4]", "with C a multiple of 2"),
    ("conv_transpose f32[1x1x1], f32[1x1x2] {pads=1:1} : f32[1x1x0]", "pads cut all 2 elements off spatial axis 0"),
    ("conv_transpose f32[1x1x1], f32[1x1x2] {pads=2:2} : f32[1x1x0]", "pads cut all 2 elements off spatial axis 0"),
    ("deform_conv f32[1x4x3x3], f32[2x4x2x2], f32[1x24x2x2] {offset_groups=3} : f32[1x2x2x2]", "4 channels have no 3 groups"),
    ("deform_conv f32[1x4x3x3], f32[2x4x2x2], f32[1x0x2x2] {offset_groups=0} : f32[1x2x2x2]", "4 channels have no 0 groups"),
    ("gather_nd f32[2x3x4], i64[2] {batch_dims=1} : f32[]", "at its end positions in the others"),
    ("gather_nd f32[2x3], i64[2x0] : f32[2x2x3]", "at its end positions in the others"),
    ("gather_nd f32[2x0x3], i64[2x1] {batch_dims=1} : f32[2x3]", "not empty"),
    ("scatter_nd f32[2x3], i64[2x0], f32[2x2x3] : f32[2x3]", "operand 1 (indices)"),
    ("scatter_elements bool[3], i64[2], bool[2] {axis=0, reduction=add} : bool[3]", "numbers, which can be reduced"),
    ("grid_sample f32[1x1], f32[1x0] : f32[1x1]", "operand 1 (grid)"),
    ("grid_sample f32[1x1x4], f32[1x3x2] : f32[1x1x3]", "operand 1 (grid)"),
    ("grid_sample f32[1x1x0x2], f32[1x3x1x2] : f32[1x1x3x1]", "an image that is not empty"),
    ("layer_normalization f32[2x3], _, f32[3] {axis=1} : f32[2x3]", "operand 1 (scale)"),
    ("layer_normalization f32[2x3], f32[3], f32[2] {axis=1} : f32[2x3]", "operand 2 (bias)"),
    ("mat_mul i32[2x3], i32[3x4], i32[4] : i32[2x4]", "floating-point elements for a bias or an epilogue"),
    ("mat_mul i32[2x3], i32[3x4] {epilogue=relu} : i32[2x4]", "floating-point elements for a bias or an epilogue"),
    ("max_pool bool[1x1x4] {kernel=2} : bool[1x1x3]", "floating-point elements (or integers for the largest)"),
    ("average_pool i32[1x1x4] {kernel=2} : i32[1x1x3]", "floating-point elements (or integers for the largest)"),
    ("max_pool i32[1x1x4] {kernel=2, epilogue=relu} : i32[1x1x3]", "floating-point elements for a prologue or epilogue"),
    ("max_pool i32[1x1x4] {kernel=2, prologue=relu} : i32[1x1x3]", "floating-point elements for a prologue or epilogue"),
    ("lp_pool f32[1x1x4] {kernel=2, p=0} : f32[1x1x3]", "exponent p is 0"),
    ("max_pool_arg bool[1x1x4] {kernel=3} : bool[1x1x2], i64[1x1x2]", "expected numbers of rank 3 or more"),
    ("max_pool_arg f32[1x4] {kernel=3} : f32[1x2], i64[1x2]", "expected numbers of rank 3 or more"),
    ("non_max_suppression f32[1x6x4], f32[1x2x6], f32[2] {most=3} : i64[6x3], i64[]", "operand 2 (iou_threshold)"),
    ("non_max_suppression f32[1x6x4], f32[1x2x6], f64[] {most=3} : i64[6x3], i64[]", "operand 2 (iou_threshold)"),
    ("pad f32[2] {pads=1:1x1} : f32[4]", "pads for 1 and 2 axes"),
    ("pad f32[0] {pads=1:0, mode=edge} : f32[1]", "leave nothing of axis 0"),
    ("pad f32[0] {pads=0:1, mode=edge} : f32[1]", "leave nothing of axis 0"),
    ("prefix f32[4x4], i64[], i64[] {axes=[0, 0]} : f32[4x4]", "do not ascend"),
    ("resize f32[2x3] {sizes=4x3, scales=[2], mode=linear} : f32[4x3]", "2 sizes and 1 scales"),
    ("resize f32[2x3] {sizes=4, scales=[2, 1], mode=linear} : f32[4]", "1 sizes and 2 scales"),
    ("resize f32[1] {sizes=2147483649, scales=[2147483648], mode=linear} : f32[2147483649]", "expected 2147483648 or less"),
    ("resize f32[2] {sizes=2, scales=[1], mode=linear, crop_begin=[0], crop_end=[1, 1]} : f32[2]", "does not have 1 begins and ends"),
    ("resize f32[2] {sizes=2, scales=[1], mode=linear, crop_begin=[0, 0], crop_end=[1]} : f32[2]", "does not have 1 begins and ends"),
    ("resize f32[9] {sizes=1, scales=[0.0000038], mode=linear, antialias=true} : f32[1]", "antialiasing at scales"),
    ("resize f32[0] {sizes=1, scales=[1], mode=linear} : f32[1]", "a tensor that is not empty"),
    ("roi_align f32[1x1x1x1], f32[1x4], i64[1] {bins=1x1, samples=4097} : f32[1x1x1x1]", "4097 samples a bin"),
    ("roi_align f32[1x1x1], f32[1x4], i64[1] {bins=1x1} : f32[1x1x1x1]", "images [N, C, H, W] that are not empty"),
    ("max_roi_pool f32[1x1x0x1], f32[1x5] {bins=1x1} : f32[1x1x1x1]", "images [N, C, H, W] that are not empty"),
    ("max_roi_pool f32[1x1x1x1], f32[5] {bins=1x1} : f32[1x1x1x1]", "shape [R, 5]"),
    ("max_roi_pool f32[1x1x1x1], f32[1x5] {bins=1x0} : f32[1x1x1x0]", "a region has no bins"),
    ("slice f32[4x4] {axes=[0:0..1, 0:0..1]} : f32[1x4]", "sliced axes are not ascending"),
    ("slice f32[4] {axes=[0:4..2 by -1]} : f32[2]", "are not inside axis 0"),
    ("slice f32[4] {axes=[0:1..-3 by -2]} : f32[2]", "are not inside axis 0"),
    ("loop {trips=1} body {
        %c = const i64[] {1}
        output y = %c
      } : i64[1]", "its body has 0 inputs and 1 outputs"),
    ("loop f32[2], f32[2] {trips=1, states=1} body {
        %i = input : i64[]
        %s = input : f32[2]
        output s = %s
      } : f32[2]", "at most 1"),
];

#[test]
fn what_just_fits_is_taken() {
    for statement in TAKEN {
        parsed(statement).unwrap_or_else(|e| panic!("{e}\n{statement}"));
    }
}

#[test]
fn what_does_not_fit_is_refused_and_the_message_says_why() {
    for (statement, why) in REFUSED {
        match parsed(statement) {
            Err(refused) => assert!(refused.contains(why), "{refused}\n{statement}"),
            Ok(_) => panic!("taken: {statement}"),
        }
    }
}
