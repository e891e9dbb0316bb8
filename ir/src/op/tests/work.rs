//! Names and work, counted by hand.

use super::parsed;

/// An operator, its name, and its multiply-accumulates and other operations.
#[rustfmt::skip]
const WORK: &[(&str, &str, u64, u64)] = &[
    // 12 sums over 2 × 3 × 3 products, each with a bias.
    ("conv f32[1x2x4x4], f32[3x2x3x3], f32[3] : f32[1x3x2x2]", "Conv", 12 * 18, 12),
    // Scale, shift and activation of each of 32 elements read, residual and activation of each of 12.
    ("conv f32[1x2x4x4], f32[3x2x3x3], _, f32[1x3x2x2], f32[2], f32[2] {prologue=affine+relu, epilogue=residual+relu} : f32[1x3x2x2]",
        "Conv", 12 * 18, 12 * 2 + 32 * 3),
    // 18 elements go into 3 × 2 × 2 products each.
    ("conv_transpose f32[1x2x3x3], f32[2x3x2x2], f32[3] {activation=relu} : f32[1x3x4x4]", "ConvTranspose", 18 * 12, 48 * 2),
    ("conv_transpose f32[1x2x3x3], f32[2x3x2x2] : f32[1x3x4x4]", "ConvTranspose", 18 * 12, 0),
    ("integer_conv u8[1x2x4x4], i8[3x2x3x3] {to=i32} : i32[1x3x2x2]", "IntegerConv", 12 * 18, 0),
    // Scale and shift of each result.
    ("integer_conv u8[1x2x4x4], i8[3x2x3x3], i32[3], f32[3], f32[3] {to=u8, zero=3} : u8[1x3x2x2]", "IntegerConv", 12 * 18, 24),
    // Four products to read an element between pixels, and one with the weight.
    ("deform_conv f32[1x2x3x3], f32[4x2x2x2], f32[1x8x2x2] : f32[1x4x2x2]", "DeformConv", 16 * 8 * 5, 0),
    ("col2_im f32[1x4x4] {image=3x3, kernel=2x2} : f32[1x1x3x3]", "Col2Im", 0, 16),
    ("grid_sample f32[1x2x4x4], f32[1x3x5x2] {mode=nearest} : f32[1x2x3x5]", "GridSample", 30, 0),
    ("grid_sample f32[1x2x4x4], f32[1x3x5x2] : f32[1x2x3x5]", "GridSample", 30 * 4, 0),
    ("grid_sample f32[1x2x4x4], f32[1x3x5x2] {mode=cubic} : f32[1x2x3x5]", "GridSample", 30 * 16, 0),
    ("roi_align f32[1x2x4x4], f32[3x4], i64[3] {bins=2x2, samples=3} : f32[3x2x2x2]", "RoiAlign", 24 * 9 * 4, 0),
    ("max_roi_pool f32[1x2x4x4], f32[3x5] {bins=2x2} : f32[3x2x2x2]", "MaxRoiPool", 0, 24),
    // A third of the cube of the extent.
    ("det f32[2x6x6] : f32[2]", "Det", 2 * 72, 0),
    ("mat_mul f32[5x2x3], f32[3x4] : f32[5x2x4]", "MatMul", 40 * 3, 0),
    ("mat_mul f32[2x3], f32[3x4], f32[4], f32[2x4] {epilogue=residual+relu} : f32[2x4]", "MatMul", 8 * 3, 8 * 3),
    // Steps over all of i, j and k: a product of two factors each, and one of three.
    ("einsum f32[2x3], f32[3x4] {equation=ij*jk->ik} : f32[2x4]", "Einsum", 24, 0),
    ("einsum f32[2x3], f32[3x4], f32[4] {equation=ij*jk*k->ik} : f32[2x4]", "Einsum", 48, 0),
    ("einsum f32[2x3] {equation=ij->i} : f32[2]", "Einsum", 0, 6),
    // Each window's elements, residual and activation of each of 8 results, scale and shift of each of 32 elements.
    ("max_pool f32[1x2x4x4], f32[1x2x2x2], f32[2], f32[2] {kernel=2x2, strides=2x2, prologue=affine, epilogue=residual+relu} : f32[1x2x2x2]",
        "MaxPool", 0, 8 * 6 + 32 * 2),
    ("average_pool f32[1x2x4x4] {kernel=3x3} : f32[1x2x2x2]", "AveragePool", 0, 8 * 9),
    ("lp_pool f32[1x2x4x4] {kernel=3x3} : f32[1x2x2x2]", "LpPool", 0, 8 * 9),
    ("global_max_pool f32[1x2x4x4] {activation=relu} : f32[1x2x1x1]", "GlobalMaxPool", 0, 32 + 2),
    ("global_average_pool f32[1x2x4x4], f32[2], f32[2] {prologue=affine+relu} : f32[1x2x1x1]", "GlobalAveragePool", 0, 32 * 4),
    ("batch_normalization f32[1x2x3], f32[2], f32[2], f32[2], f32[2] : f32[1x2x3]", "BatchNormalization", 0, 6 * 4),
    ("channel_affine f32[1x2x3], f32[2], f32[2] : f32[1x2x3]", "ChannelAffine", 0, 6 * 2),
    ("channel_affine f32[1x2x3], f32[2], f32[2] {activation=relu} : f32[1x2x3]", "ChannelAffine", 0, 6 * 3),
    ("instance_normalization f32[1x2x3], f32[2], f32[2] : f32[1x2x3]", "InstanceNormalization", 0, 6 * 6),
    ("layer_normalization f32[2x3], f32[3] {axis=1} : f32[2x3]", "LayerNormalization", 0, 6 * 6),
    ("lrn f32[1x2x3] {size=5} : f32[1x2x3]", "LRN", 0, 6 * (2 * 5 + 3)),
    ("relu f32[2x3] : f32[2x3]", "Relu", 0, 6),
    ("add f32[2x3], f32[3] {activation=relu} : f32[2x3]", "Add", 0, 6 * 2),
    ("where bool[2x1], f32[3], f32[3] : f32[2x3]", "Where", 0, 6),
    ("cast f32[2x3] {to=i64} : i64[2x3]", "Cast", 0, 6),
    ("bit_cast f32[3] {to=u32} : u32[3]", "BitCast", 0, 0),
    ("quantize f32[2x3], f32[] {to=u8} : u8[2x3]", "Quantize", 0, 6 * 4),
    ("dequantize u8[2x3], f32[], u8[] : f32[2x3]", "Dequantize", 0, 6 * 2),
    ("integer_sum u8[2x3], u8[2x3] {factors=[0.5, 2], to=u8} : u8[2x3]", "IntegerSum", 0, 42),
    ("byte_table u8[2x3], i8[256] : i8[2x3]", "ByteTable", 0, 6),
    ("softmax f32[2x3] {axis=1} : f32[2x3]", "Softmax", 0, 6 * 5),
    ("log_softmax f32[2x3] {axis=1} : f32[2x3]", "LogSoftmax", 0, 6 * 5),
    ("reduce_sum f32[2x3] {axes=[1], keep_dims=false} : f32[2]", "ReduceSum", 0, 6),
    // Two, four taps along each axis whose extent changes.
    ("resize f32[2x3] {sizes=4x3, scales=[2, 1], mode=nearest} : f32[4x3]", "Resize", 0, 0),
    ("resize f32[2x3] {sizes=4x3, scales=[2, 1], mode=linear} : f32[4x3]", "Resize", 0, 12 * 2),
    ("resize f32[2x3] {sizes=4x6, scales=[2, 2], mode=cubic} : f32[4x6]", "Resize", 0, 24 * 16),
    ("concat f32[2], f32[3] {axis=0} : f32[5]", "Concat", 0, 0),
    ("split f32[5] {axis=0, parts=[2, 3]} : f32[2], f32[3]", "Split", 0, 0),
    ("slice f32[5] {axes=[0:1..5 by 2]} : f32[2]", "Slice", 0, 0),
    ("reshape f32[2x3] {shape=6} : f32[6]", "Reshape", 0, 0),
    ("transpose f32[2x3] {perm=[1, 0]} : f32[3x2]", "Transpose", 0, 0),
    ("pad f32[2] {pads=1:1} : f32[4]", "Pad", 0, 0),
    ("expand f32[3] {shape=2x3} : f32[2x3]", "Expand", 0, 0),
    ("gather f32[3] {axis=0, indices=i64[1] {2}} : f32[1]", "Gather", 0, 0),
    ("channel_select f32[1x2x3] {select=[0[1]]} : f32[1x1x3]", "ChannelSelect", 0, 0),
    ("gather_at f32[3], i64[2] {axis=0} : f32[2]", "GatherAt", 0, 0),
    ("gather_elements f32[3], i64[2] {axis=0} : f32[2]", "GatherElements", 0, 0),
    ("gather_nd f32[3x2], i64[2x1] : f32[2x2]", "GatherND", 0, 0),
    ("inside i64[2x3], i64[] {axis=0} : i64[2x3]", "Inside", 0, 6),
    ("scatter_elements f32[3], i64[2], f32[2] {axis=0} : f32[3]", "ScatterElements", 0, 0),
    ("scatter_elements f32[3], i64[2], f32[2] {axis=0, reduction=add} : f32[3]", "ScatterElements", 0, 2),
    ("scatter_nd f32[4x2], i64[3x1], f32[3x2] {reduction=max} : f32[4x2]", "ScatterND", 0, 6),
    // A comparison for each of the levels of a heap of k.
    ("top_k f32[2x9] {axis=1, k=4} : f32[2x4], i64[2x4]", "TopK", 0, 18 * 3),
    ("cum_sum f32[2x3] {axis=0} : f32[2x3]", "CumSum", 0, 6),
    ("cum_prod f32[2x3] {axis=0} : f32[2x3]", "CumProd", 0, 6),
    ("reverse_sequence f32[4x2], i64[2] {batch_axis=1, time_axis=0} : f32[4x2]", "ReverseSequence", 0, 0),
    ("max_pool_arg f32[1x1x4] {kernel=3} : f32[1x1x2], i64[1x1x2]", "MaxPoolArg", 0, 2 * 3),
    ("max_unpool f32[1x1x2], i64[1x1x2] {sizes=5} : f32[1x1x5]", "MaxUnpool", 0, 0),
    ("non_zero f32[2x3] : i64[2x6], i64[]", "NonZero", 0, 6),
    ("compress f32[2x3], bool[3] {axis=1} : f32[2x3], i64[]", "Compress", 0, 0),
    // As many comparisons for each of 8 as a sorted list has levels.
    ("unique f32[8] : f32[8], i64[8], i64[8], i64[8], i64[]", "Unique", 0, 8 * 4),
    ("non_max_suppression f32[1x6x4], f32[1x2x6] {most=3} : i64[6x3], i64[]", "NonMaxSuppression", 0, 12 * 3),
    ("prefix f32[4], i64[] {axes=[0]} : f32[4]", "Prefix", 0, 0),
    // Six operations and the look at the node, three times; beside another with a product, once.
    ("loop f32[2x3] {trips=3, states=1} body {
        %i = input : i64[]
        %s = input : f32[2x3]
        %t = relu %s : f32[2x3]
        output s = %t
      } : f32[2x3]", "Loop", 0, 3 * (6 + 1 + 2)),
    ("if bool[], f32[2x3], f32[2x3], f32[3x3]
      then {
        %s = input : f32[2x3]
        %t = relu %s : f32[2x3]
        output s = %t
      } else {
        %a = input : f32[2x3]
        %b = input : f32[3x3]
        %t = mat_mul %a, %b : f32[2x3]
        output s = %t
      } : f32[2x3]", "If", 18, 6 + 2 + 1),
];

#[test]
fn operators_are_called_as_in_onnx_and_compute_so_much() {
    for &(statement, name, macc, ops) in WORK {
        let (graph, node) = parsed(statement).unwrap_or_else(|e| panic!("{e}\n{statement}"));
        assert_eq!((graph.node(node).op.name(), graph.node(node).op.to_string()), (name, name.to_owned()));
        let cost = graph.cost(node);
        assert_eq!((cost.macc, cost.ops), (macc, ops), "{statement}");
    }
}
