//! Attributes and operands that decide shapes, with values that make no sense or too much of it.

use onnx_protobuf::AttributeProto;

use crate::case::Case;
use crate::model::*;

/// Windows of convolutions and pools.
pub fn windows() -> Vec<Case> {
    let conv = |attributes: &[AttributeProto]| {
        model()
            .input("x", &[1, 4, 8, 8])
            .floats("w", &[4, 4, 3, 3], &[0.5; 144])
            .node("Conv", &["x", "w"], &["y"], attributes)
            .output("y")
            .bytes()
    };
    let pool = |op: &str, attributes: &[AttributeProto]| unary(op, &[1, 4, 8, 8], attributes).bytes();
    let kernel = |k: i64| ints("kernel_shape", &[k, k]);
    let mut cases = vec![];
    let extremes = [("0", 0), ("minus_1", -1), ("min", i64::MIN), ("max", i64::MAX)];
    for (name, n) in extremes {
        for what in ["strides", "dilations"] {
            // A stride that jumps over everything is legal and leaves one column; onnxruntime takes it too.
            let legal = n == i64::MAX && what == "strides";
            let about = format!("a convolution with {what} of {n}");
            let model = conv(&[ints(what, &[n, n])]);
            let name = format!("conv_{what}_{name}");
            cases.push(match legal {
                true => Case::bounded(name, about, model, &["\"y\" (Conv"]),
                false => Case::refused(name, about, model, &["\"y\" (Conv"]),
            });
        }
        let about = format!("a pool with a kernel of {n}");
        cases.push(Case::refused(
            format!("pool_kernel_{name}"),
            about,
            pool("MaxPool", &[kernel(n)]),
            &["\"y\" (MaxPool"],
        ));
        let about = format!("a convolution of {n} groups");
        cases.push(Case::refused(
            format!("conv_group_{name}"),
            about,
            conv(&[int("group", n)]),
            &["\"y\" (Conv"],
        ));
    }
    let refused = |name, about: &str, model, words| Case::refused(name, about, model, words);
    let deconv = |attributes: &[AttributeProto]| {
        model()
            .input("x", &[1, 4, 8, 8])
            .floats("w", &[4, 4, 3, 3], &[0.5; 144])
            .node("ConvTranspose", &["x", "w"], &["y"], attributes)
            .output("y")
            .bytes()
    };
    let resize = |scales: &[f32], sizes: &[i64]| {
        let inputs: &[&str] = if sizes.is_empty() { &["x", "", "scales"] } else { &["x", "", "", "sizes"] };
        model()
            .input("x", &[1, 1, 4, 4])
            .floats("scales", &[scales.len() as i64], scales)
            .ints("sizes", sizes)
            .node("Resize", inputs, &["y"], &[text("mode", "nearest")])
            .output("y")
            .bytes()
    };
    let in_conv = &["\"y\" (Conv"][..];
    let in_resize = &["\"y\" (Resize"][..];
    cases.extend([
        refused(
            "conv_dilations_padded",
            "dilations of 2^62 that automatic padding makes room for",
            conv(&[ints("dilations", &[1 << 62, 1]), text("auto_pad", "SAME_LOWER")]),
            &["\"y\" (Conv", "dilations [4611686018427387904, 1]", "below 2^30"],
        ),
        refused("conv_group_3", "3 groups of 4 channels", conv(&[int("group", 3)]), in_conv),
        refused(
            "conv_kernel_lies",
            "a kernel_shape that the weights do not have",
            conv(&[kernel(5)]),
            in_conv,
        ),
        refused("conv_pads_max", "pads of 2^63-1", conv(&[ints("pads", &[i64::MAX; 4])]), in_conv),
        refused("conv_pads_min", "pads of -2^63", conv(&[ints("pads", &[i64::MIN; 4])]), in_conv),
        refused("conv_pads_2_40", "pads of 2^40", conv(&[ints("pads", &[1 << 40; 4])]), in_conv),
        refused("conv_pads_minus_9", "pads that leave nothing", conv(&[ints("pads", &[-9; 4])]), in_conv),
        refused("conv_three_pads", "three pads for two axes", conv(&[ints("pads", &[1; 3])]), in_conv),
        refused(
            "conv_auto_pad",
            "an auto_pad that does not exist",
            conv(&[text("auto_pad", "SAME_SIDE")]),
            in_conv,
        ),
        refused(
            "conv_channels",
            "weights for more channels than there are",
            model()
                .input("x", &[1, 2, 8, 8])
                .floats("w", &[4, 4, 3, 3], &[0.5; 144])
                .node("Conv", &["x", "w"], &["y"], &[])
                .output("y")
                .bytes(),
            in_conv,
        ),
        refused(
            "conv_rank_1",
            "a convolution over no axes",
            model()
                .input("x", &[4])
                .floats("w", &[4], &[0.5; 4])
                .node("Conv", &["x", "w"], &["y"], &[])
                .output("y")
                .bytes(),
            in_conv,
        ),
        refused(
            "deconv_strides_2_40",
            "a transposed convolution with strides of 2^40",
            deconv(&[ints("strides", &[1 << 40; 2])]),
            &["\"y\" (ConvTranspose"],
        ),
        refused(
            "deconv_output_shape",
            "a transposed convolution to 2^62 pixels",
            deconv(&[ints("output_shape", &[1 << 31; 2])]),
            &["\"y\" (ConvTranspose"],
        ),
        refused(
            "deconv_output_padding",
            "a transposed convolution with output_padding of -2^63",
            deconv(&[ints("output_padding", &[i64::MIN; 2])]),
            &["\"y\" (ConvTranspose"],
        ),
        refused(
            "pool_outside",
            "a pool whose kernel is larger than the image",
            pool("AveragePool", &[kernel(9)]),
            &["\"y\" (AveragePool"],
        ),
        Case::bounded(
            "pool_of_padding",
            "a pool with windows that see nothing but padding",
            pool("MaxPool", &[kernel(2), ints("strides", &[2, 2]), ints("pads", &[2, 2, 2, 2])]),
            &["\"y\" (MaxPool"],
        ),
        refused("pool_no_kernel", "a pool without a kernel", pool("MaxPool", &[]), &["kernel_shape"]),
        refused(
            "lrn_size_0",
            "a normalization over no channels",
            pool("LRN", &[int("size", 0)]),
            &["\"y\" (LRN"],
        ),
        Case::runs(
            "lrn_size_max",
            "a normalization over 2^63-1 channels, which is one over all",
            pool("LRN", &[int("size", i64::MAX)]),
            &[("x", array(&[1, 4, 8, 8], &[1.0; 256]))],
        ),
        refused(
            "resize_nan",
            "a scale that is no number",
            resize(&[1.0, 1.0, f32::NAN, 2.0], &[]),
            in_resize,
        ),
        refused("resize_inf", "a scale of infinity", resize(&[1.0, 1.0, f32::INFINITY, 2.0], &[]), in_resize),
        refused("resize_1e30", "a scale of 10^30", resize(&[1.0, 1.0, 1e30, 1e30], &[]), in_resize),
        refused("resize_negative", "a scale of -1", resize(&[1.0, 1.0, -1.0, 2.0], &[]), in_resize),
        refused("resize_zero", "a scale of 0", resize(&[1.0, 1.0, 0.0, 2.0], &[]), in_resize),
        refused("resize_sizes", "a size of 2^40", resize(&[], &[1, 1, 1 << 40, 1 << 40]), in_resize),
        refused("resize_sizes_min", "a size of -2^63", resize(&[], &[1, 1, i64::MIN, 4]), in_resize),
    ]);
    cases
}

/// Operators whose operands are shapes, axes and places.
pub fn shape_operators() -> Vec<Case> {
    let with = |op: &str, operands: &[&[i64]], attributes: &[AttributeProto]| {
        let mut model = model().input("x", &[2, 3]);
        let mut inputs = vec!["x".to_string()];
        for (index, list) in operands.iter().enumerate() {
            let name = format!("p{index}");
            model = model.ints(&name, list);
            inputs.push(name);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        model.node(op, &inputs, &["y"], attributes).output("y").bytes()
    };
    let alone = |op: &str, operands: &[&[i64]]| {
        let mut model = model();
        let names: Vec<String> = (0..operands.len()).map(|n| format!("p{n}")).collect();
        for (name, list) in names.iter().zip(operands) {
            model = model.ints(name, list);
        }
        let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
        model.node(op, &inputs, &["y"], &[]).output("y").bytes()
    };
    let scalars = |numbers: [i64; 3]| {
        let mut model = model();
        for (name, number) in ["a", "b", "c"].into_iter().zip(numbers) {
            let mut scalar = tensor(name, I64, &[]);
            scalar.int64_data = vec![number];
            model = model.tensor(scalar);
        }
        model.node("Range", &["a", "b", "c"], &["y"], &[]).output("y").bytes()
    };
    let x = || ("x", array(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let refused = |name, about: &str, model, words| Case::refused(name, about, model, words);
    const MIN: i64 = i64::MIN;
    const MAX: i64 = i64::MAX;
    vec![
        refused("reshape_count", "6 elements as 7", with("Reshape", &[&[7]], &[]), &["\"y\" (Reshape"]),
        refused("reshape_two_open", "two open dims", with("Reshape", &[&[-1, -1]], &[]), &["\"y\" (Reshape"]),
        refused("reshape_minus_2", "a dim of -2", with("Reshape", &[&[-2, 3]], &[]), &["\"y\" (Reshape"]),
        refused("reshape_min", "a dim of -2^63", with("Reshape", &[&[MIN]], &[]), &["\"y\" (Reshape"]),
        refused(
            "reshape_overflow",
            "2^64 + 6 elements",
            with("Reshape", &[&[1 << 62, 4, -1]], &[]),
            &["\"y\" (Reshape"],
        ),
        refused(
            "reshape_copies_nothing",
            "a third dim copied",
            with("Reshape", &[&[2, 3, 0]], &[]),
            &["\"y\" (Reshape"],
        ),
        refused(
            "reshape_rank_500",
            "500 axes",
            with("Reshape", &[&[&[2i64, 3][..], &[1; 498]].concat()], &[]),
            &["--limit-rank"],
        ),
        refused(
            "split_sum",
            "parts of 2 and 2 out of 3",
            with("Split", &[&[2, 2]], &[int("axis", 1)]),
            &["\"y\" (Split"],
        ),
        refused(
            "split_negative",
            "parts of 4 and -1",
            with("Split", &[&[4, -1]], &[int("axis", 1)]),
            &["\"y\" (Split"],
        ),
        refused(
            "split_overflow",
            "parts whose sum overflows to 3",
            with("Split", &[&[MAX, MAX, 5]], &[int("axis", 1)]),
            &["\"y\" (Split"],
        ),
        refused(
            "slice_step_0",
            "a step of 0",
            with("Slice", &[&[0], &[2], &[0], &[0]], &[]),
            &["\"y\" (Slice"],
        ),
        Case::right(
            "slice_step_min",
            "a step of -2^63 from the end: the last row",
            with("Slice", &[&[-1], &[MIN], &[0], &[MIN]], &[]),
            &[x()],
            &[("y", array(&[1, 3], &[4.0, 5.0, 6.0]))],
        ),
        Case::right(
            "slice_far",
            "from -2^63 to 2^63-1: all",
            with("Slice", &[&[MIN], &[MAX], &[1]], &[]),
            &[x()],
            &[x()].map(|(_, all)| ("y", all)),
        ),
        refused("slice_axis", "axis 2^63-1", with("Slice", &[&[0], &[1], &[MAX]], &[]), &["\"y\" (Slice"]),
        refused(
            "slice_axis_twice",
            "an axis twice",
            with("Slice", &[&[0, 0], &[1, 1], &[0, -2]], &[]),
            &["\"y\" (Slice"],
        ),
        refused("gather_outside", "row 7 of 2", with("Gather", &[&[7]], &[]), &["\"y\" (Gather"]),
        refused("gather_min", "row -2^63 of 2", with("Gather", &[&[MIN]], &[]), &["\"y\" (Gather"]),
        refused(
            "pad_huge",
            "2^62 columns of padding",
            with("Pad", &[&[0, 0, 0, 1 << 62]], &[]),
            &["\"y\" (Pad"],
        ),
        refused(
            "pad_overflow",
            "2 · (2^63-1) columns",
            with("Pad", &[&[0, MAX, 0, MAX]], &[]),
            &["\"y\" (Pad"],
        ),
        refused("pad_min", "-2^63 columns", with("Pad", &[&[0, MIN, 0, 0]], &[]), &["\"y\" (Pad"]),
        Case::right(
            "pad_reflect",
            "more reflected columns than there are: reflected again, as NumPy does",
            with("Pad", &[&[0, 4, 0, 0]], &[text("mode", "reflect")]),
            &[x()],
            &[("y", array(&[2, 7], &[1.0, 2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 5.0, 4.0, 5.0, 6.0]))],
        ),
        refused(
            "pad_reflect_nothing",
            "reflections of an empty axis",
            {
                model()
                    .input("x", &[2, 0])
                    .ints("p", &[0, 3, 0, 3])
                    .node("Pad", &["x", "p"], &["y"], &[text("mode", "reflect")])
                    .output("y")
                    .bytes()
            },
            &["\"y\" (Pad"],
        ),
        refused(
            "expand_bomb",
            "an expansion to 2^60 rows",
            with("Expand", &[&[1 << 60, 2, 3]], &[]),
            &["\"y\" (Expand", "overflows"],
        ),
        refused(
            "expand_overflow",
            "an expansion whose size overflows",
            with("Expand", &[&[1 << 62, 1 << 62, 2, 3]], &[]),
            &["\"y\" (Expand"],
        ),
        refused("expand_wrong", "3 columns as 4", with("Expand", &[&[2, 4]], &[]), &["\"y\" (Expand"]),
        refused(
            "tile_bomb",
            "2^40 by 2^40 copies",
            with("Tile", &[&[1 << 40, 1 << 40]], &[]),
            &["\"y\" (Tile"],
        ),
        refused("tile_negative", "-1 copies", with("Tile", &[&[-1, 1]], &[]), &["\"y\" (Tile"]),
        refused(
            "constant_of_shape_bomb",
            "2^60 zeros",
            alone("ConstantOfShape", &[&[1 << 60]]),
            &["\"y\" (ConstantOfShape", "--limit-tensor"],
        ),
        refused(
            "constant_of_shape_overflow",
            "2^124 zeros",
            alone("ConstantOfShape", &[&[1 << 62, 1 << 62]]),
            &["\"y\" (ConstantOfShape"],
        ),
        refused(
            "constant_of_shape_negative",
            "-1 zeros",
            alone("ConstantOfShape", &[&[-1]]),
            &["\"y\" (ConstantOfShape"],
        ),
        refused("range_bomb", "the numbers below 2^62", scalars([0, 1 << 62, 1]), &["\"y\" (Range"]),
        refused("range_whole", "from -2^63 to 2^63-1", scalars([MIN, MAX, 1]), &["\"y\" (Range"]),
        refused("range_step_0", "a step of 0", scalars([0, 5, 0]), &["\"y\" (Range"]),
        refused(
            "transpose_twice",
            "an axis twice",
            with("Transpose", &[], &[ints("perm", &[0, 0])]),
            &["\"y\" (Transpose"],
        ),
        refused(
            "transpose_outside",
            "axis 2^62",
            with("Transpose", &[], &[ints("perm", &[0, 1 << 62])]),
            &["\"y\" (Transpose"],
        ),
        refused("concat_axis", "axis 9", with("Concat", &[], &[int("axis", 9)]), &["\"y\" (Concat"]),
        refused(
            "squeeze_wide",
            "an axis of 3 that is squeezed",
            with("Squeeze", &[&[1]], &[]),
            &["\"y\" (Squeeze"],
        ),
        refused("unsqueeze_max", "axis 2^63-1", with("Unsqueeze", &[&[MAX]], &[]), &["\"y\" (Unsqueeze"]),
        refused(
            "unsqueeze_many",
            "100,000 axes",
            with("Unsqueeze", &[&(0..100_000).collect::<Vec<_>>()], &[]),
            &["\"y\" (Unsqueeze"],
        ),
        refused("flatten_min", "axis -2^63", with("Flatten", &[], &[int("axis", MIN)]), &["\"y\" (Flatten"]),
        refused(
            "eye_like_bomb",
            "an identity of 60,000 rows, in doubles",
            {
                model()
                    .input_of("x", 2, &[60_000, 60_000])
                    .node("EyeLike", &["x"], &["y"], &[int("dtype", 11)])
                    .output("y")
                    .bytes()
            },
            &["\"y\" (EyeLike", "3600000000 elements"],
        ),
        refused(
            "depth_to_space_0",
            "blocks of 0",
            unary("DepthToSpace", &[1, 4, 2, 2], &[int("blocksize", 0)]).bytes(),
            &["\"y\" (DepthToSpace"],
        ),
        refused(
            "depth_to_space_max",
            "blocks of 2^63-1",
            unary("DepthToSpace", &[1, 4, 2, 2], &[int("blocksize", MAX)]).bytes(),
            &["\"y\" (DepthToSpace"],
        ),
        refused(
            "space_to_depth_3",
            "blocks that do not divide",
            unary("SpaceToDepth", &[1, 4, 2, 2], &[int("blocksize", 3)]).bytes(),
            &["\"y\" (SpaceToDepth"],
        ),
        refused(
            "reduce_axis",
            "axis -9",
            unary("ReduceMean", &[2, 3], &[ints("axes", &[-9])]).bytes(),
            &["\"y\" (ReduceMean"],
        ),
        refused(
            "softmax_axis",
            "axis 2^62",
            unary("Softmax", &[2, 3], &[int("axis", 1 << 62)]).bytes(),
            &["\"y\" (Softmax"],
        ),
    ]
}

/// Attributes of wrong kinds, operands of wrong types.
pub fn attributes() -> Vec<Case> {
    let relu = |attributes: &[AttributeProto]| unary("LeakyRelu", &[2], attributes).bytes();
    let in_y = &["\"y\" (LeakyRelu", "\"alpha\""][..];
    let mixed = |dtype: i32, op: &str| {
        model()
            .input("x", &[1, 4, 4, 4])
            .input_of("w", dtype, &[1, 4, 1, 1])
            .node(op, &["x", "w"], &["y"], &[])
            .output("y")
            .bytes()
    };
    let mut reference = float("alpha", 1.0);
    reference.ref_attr_name = "beta".into();
    let mut unknown_kind = float("alpha", 1.0);
    unknown_kind.type_ = protobuf::EnumOrUnknown::from_i32(77);
    vec![
        Case::refused("of_another_kind", "a number as a text", relu(&[text("alpha", "1")]), in_y),
        Case::refused("of_no_kind", "an attribute of kind 77", relu(&[unknown_kind]), in_y),
        Case::refused("list_for_a_number", "a list where a number goes", relu(&[ints("alpha", &[1])]), in_y),
        Case::refused(
            "twice",
            "an attribute twice",
            relu(&[float("alpha", 0.1), float("alpha", 0.2)]),
            &["\"alpha\" twice"],
        ),
        Case::refused(
            "unknown",
            "an attribute that the operator does not have",
            relu(&[float("beta", 1.0)]),
            &["\"y\" (LeakyRelu", "\"beta\""],
        ),
        Case::refused(
            "reference",
            "a reference to an attribute of a function, where there is no function",
            relu(&[reference]),
            in_y,
        ),
        Case::refused(
            "missing",
            "a Cast to nothing",
            unary("Cast", &[2], &[]).bytes(),
            &["\"y\" (Cast", "\"to\""],
        ),
        Case::refused(
            "cast_99",
            "a Cast to type 99",
            unary("Cast", &[2], &[int("to", 99)]).bytes(),
            &["\"y\" (Cast", "99"],
        ),
        Case::refused(
            "cast_min",
            "a Cast to type -2^63",
            unary("Cast", &[2], &[int("to", i64::MIN)]).bytes(),
            &["\"y\" (Cast"],
        ),
        Case::refused(
            "cast_wraps",
            "a Cast to type 2^32 + 1, which is f32 when it is cut short",
            unary("Cast", &[2], &[int("to", (1 << 32) + 1)]).bytes(),
            &["\"y\" (Cast"],
        ),
        Case::refused(
            "conv_of_integers",
            "a convolution with integers for weights",
            mixed(I64, "Conv"),
            &["\"y\" (Conv"],
        ),
        Case::refused("sum_of_two_types", "a sum of floats and integers", mixed(I64, "Add"), &["\"y\" (Add"]),
        Case::refused("and_of_floats", "a logical operator on floats", mixed(F32, "And"), &["\"y\" (And"]),
        Case::refused(
            "shape_of_floats",
            "a shape of floats",
            model()
                .input("x", &[2])
                .floats("s", &[1], &[2.0])
                .node("Reshape", &["x", "s"], &["y"], &[])
                .output("y")
                .bytes(),
            &["\"y\" (Reshape", "takes i64"],
        ),
        Case::refused(
            "shape_at_run_time",
            "a shape that is an input",
            model()
                .input("x", &[2])
                .input_of("s", I64, &[1])
                .node("Reshape", &["x", "s"], &["y"], &[])
                .output("y")
                .bytes(),
            &["\"y\" (Reshape", "--const s="],
        ),
        Case::refused(
            "broken_constant",
            "a Constant with 3 bytes for a float",
            {
                let mut broken = tensor("", F32, &[1]);
                broken.raw_data = vec![0; 3];
                model().node("Constant", &[], &["y"], &[value("value", broken)]).output("y").bytes()
            },
            &["\"y\" (Constant", "needs 4 bytes"],
        ),
        Case::refused(
            "two_constants",
            "a Constant with two values",
            model()
                .node("Constant", &[], &["y"], &[float("value_float", 1.0), int("value_int", 1)])
                .output("y")
                .bytes(),
            &["\"y\" (Constant"],
        ),
    ]
}
