//! What becomes of operators, in their different versions.

use nnc_ir::{Op, Tensor};
use onnx_protobuf::{AttributeProto, TensorProto};

use crate::build::{F32, I64, Onnx, f32s, float, floats, int, ints, iota, one, onnx, string, typed};

fn type_of(model: Onnx) -> String {
    model.ty().to_string()
}

#[test]
fn automatic_padding_becomes_explicit() {
    for (auto_pad, begin, end) in [("SAME_UPPER", 0, 1), ("SAME_LOWER", 1, 0), ("VALID", 0, 0)] {
        let model = onnx(11)
            .input("x", &["1", "1", "8", "8"])
            .floats("w", &[1, 1, 3, 3], &[1.0; 9])
            .output("y")
            .node("Conv", &["x", "w"], &["y"], &[string("auto_pad", auto_pad), ints("strides", &[2, 2])]);
        let graph = model.graph();
        let Op::Conv(conv) = &graph.node(graph.outputs()[0].1.node).op else { panic!("no convolution") };
        assert_eq!(
            (&conv.window.pads_begin[..], &conv.window.pads_end[..]),
            (&[begin; 2][..], &[end; 2][..])
        );
    }
}

#[test]
fn convolutions_of_one_and_three_axes_are_read() {
    for (x, w, y) in [
        (&["1", "2", "9"][..], &[4i64, 2, 3][..], "f32[1x4x7]"),
        (&["1", "2", "5", "6", "7"], &[4, 2, 3, 3, 3], "f32[1x4x3x4x5]"),
    ] {
        let data = vec![0.5; w.iter().product::<i64>() as usize];
        let model =
            onnx(11).input("x", x).floats("w", w, &data).output("y").node("Conv", &["x", "w"], &["y"], &[]);
        assert_eq!(type_of(model), y);
    }
}

#[test]
fn a_transposed_convolution_reaches_its_output_shape() {
    let model = |attributes: &[_]| {
        onnx(11).input("x", &["1", "1", "3", "3"]).floats("w", &[1, 2, 3, 3], &[1.0; 18]).output("y").node(
            "ConvTranspose",
            &["x", "w"],
            &["y"],
            attributes,
        )
    };
    let strides = ints("strides", &[3, 2]);
    assert_eq!(type_of(model(std::slice::from_ref(&strides))), "f32[1x2x9x7]");
    assert_eq!(type_of(model(&[strides.clone(), ints("output_shape", &[10, 8])])), "f32[1x2x10x8]");
    assert_eq!(type_of(model(&[strides.clone(), ints("output_padding", &[1, 1])])), "f32[1x2x10x8]");
    assert_eq!(type_of(model(&[strides.clone(), string("auto_pad", "SAME_UPPER")])), "f32[1x2x9x6]");
    assert_eq!(type_of(model(&[strides, ints("pads", &[1, 0, 1, 1])])), "f32[1x2x7x6]");
}

#[test]
fn ceil_mode_rounds_up_but_drops_windows_in_the_padding() {
    let pool = |extent: &str, pads: &[i64], stride: i64| {
        let attributes = [
            ints("kernel_shape", &[3, 3]),
            ints("strides", &[stride, stride]),
            ints("pads", pads),
            int("ceil_mode", 1),
        ];
        type_of(one(10, "MaxPool", &["1", "1", extent, extent], &[], &attributes))
    };
    assert_eq!(pool("6", &[0, 0, 0, 0], 2), "f32[1x1x3x3]");
    assert_eq!(pool("5", &[0, 0, 0, 0], 2), "f32[1x1x2x2]");
    assert_eq!(pool("2", &[1, 1, 1, 1], 3), "f32[1x1x1x1]");
}

#[test]
fn an_average_does_not_count_what_ceil_mode_adds() {
    let attributes =
        [ints("kernel_shape", &[2]), ints("strides", &[2]), int("ceil_mode", 1), int("count_include_pad", 1)];
    let y = one(10, "AveragePool", &["1", "1", "3"], &[], &attributes).run([iota(&[1, 1, 3])]);
    assert_eq!(f32s(&y), [0.5, 2.0]);
}

#[test]
fn clip_reads_its_bounds_in_every_version() {
    let x = Tensor::new([4], &[-1.0f32, 0.5, 5.0, 9.0]).unwrap();
    let relu6 = onnx(6).input("x", &["4"]).output("y").node(
        "Clip",
        &["x"],
        &["y"],
        &[float("min", 0.0), float("max", 6.0)],
    );
    let operands = |inputs: &[&str]| {
        onnx(13).input("x", &["4"]).floats("low", &[], &[0.0]).floats("high", &[], &[6.0]).output("y").node(
            "Clip",
            inputs,
            &["y"],
            &[],
        )
    };
    assert_eq!(f32s(&relu6.run([x.clone()])), [0.0, 0.5, 5.0, 6.0]);
    assert_eq!(f32s(&operands(&["x", "low", "high"]).run([x.clone()])), [0.0, 0.5, 5.0, 6.0]);
    assert_eq!(f32s(&operands(&["x", "", "high"]).run([x.clone()])), [-1.0, 0.5, 5.0, 6.0]);
    assert_eq!(f32s(&operands(&["x", "low"]).run([x])), [0.0, 0.5, 5.0, 9.0]);
}

#[test]
fn a_clip_of_integers_is_a_maximum_and_a_minimum() {
    let model = onnx(12)
        .input_of("x", 7, &["3"])
        .ints("low", &[0])
        .input_of("high", 7, &[])
        .output("y")
        .node("Clip", &["x", "low", "high"], &["y"], &[]);
    let x = Tensor::new([3], &[-5i64, 2, 1 << 60]).unwrap();
    let high = Tensor::new(Vec::new(), &[(1i64 << 60) - 1]).unwrap();
    assert_eq!(model.run([x, high]).elems::<i64>().unwrap()[..], [0, 2, (1 << 60) - 1]);
}

#[test]
fn roots_of_integers_are_cut() {
    let x = Tensor::new([2, 2], &[3i32, 4, 1, 1]).unwrap();
    let model = |op: &str| {
        onnx(13).input_of("x", 6, &["2", "2"]).output("y").node(op, &["x"], &["y"], &[ints("axes", &[1])])
    };
    assert_eq!(model("ReduceL2").run([x.clone()]).elems::<i32>().unwrap()[..], [5, 1]);
    assert_eq!(model("ReduceLogSum").run([x]).elems::<i32>().unwrap()[..], [1, 0]);
}

#[test]
fn softmax_was_flat_before_13() {
    let x = Tensor::new([1, 2, 2], &[0f32; 4]).unwrap();
    let old = one(11, "Softmax", &["1", "2", "2"], &[], &[]);
    let new = one(13, "Softmax", &["1", "2", "2"], &[], &[]);
    assert_eq!(f32s(&old.run([x.clone()])), [0.25; 4]);
    assert_eq!(f32s(&new.run([x])), [0.5; 4]);
}

#[test]
fn split_reads_parts_from_attribute_operand_and_count() {
    let parts = |model: Onnx| -> Vec<String> {
        let graph = model.graph();
        graph.outputs().iter().map(|(_, v)| graph.ty(*v).to_string()).collect()
    };
    let base = |opset| onnx(opset).input("x", &["2", "7"]).ints("parts", &[3, 4]).output("a").output("b");
    let axis = int("axis", -1);
    let split = base(11).node("Split", &["x"], &["a", "b"], &[axis.clone(), ints("split", &[3, 4])]);
    assert_eq!(parts(split), ["f32[2x3]", "f32[2x4]"]);
    let split = base(13).node("Split", &["x", "parts"], &["a", "b"], std::slice::from_ref(&axis));
    assert_eq!(parts(split), ["f32[2x3]", "f32[2x4]"]);
    let split = base(18).node("Split", &["x"], &["a", "b"], &[axis.clone(), int("num_outputs", 2)]);
    assert_eq!(parts(split), ["f32[2x4]", "f32[2x3]"]);
    let split = base(13).node("Split", &["x"], &["a", "b"], &[axis]);
    assert!(split.error().ends_with("7 elements cannot be split into 2 equal parts"));
}

#[test]
fn slice_reads_bounds_from_attributes_and_operands() {
    let old = one(9, "Slice", &["5"], &[], &[ints("starts", &[1]), ints("ends", &[-1])]);
    assert_eq!(f32s(&old.run([iota(&[5])])), [1.0, 2.0, 3.0]);
    let new = one(13, "Slice", &["5"], &[("s", &[-1]), ("e", &[i64::MIN]), ("a", &[0]), ("t", &[-2])], &[]);
    assert_eq!(f32s(&new.run([iota(&[5])])), [4.0, 2.0, 0.0]);
}

#[test]
fn axes_of_squeeze_and_unsqueeze_moved_to_an_operand() {
    assert_eq!(type_of(one(11, "Squeeze", &["1", "3", "1"], &[], &[ints("axes", &[-1])])), "f32[1x3]");
    assert_eq!(type_of(one(13, "Squeeze", &["1", "3", "1"], &[("axes", &[0])], &[])), "f32[3x1]");
    assert_eq!(type_of(one(13, "Squeeze", &["1", "3", "1"], &[], &[])), "f32[3]");
    assert_eq!(type_of(one(11, "Unsqueeze", &["3"], &[], &[ints("axes", &[0, 2])])), "f32[1x3x1]");
    assert_eq!(type_of(one(13, "Unsqueeze", &["3"], &[("axes", &[-1])], &[])), "f32[3x1]");
    assert!(one(13, "Squeeze", &["2", "3"], &[("axes", &[0])], &[]).error().contains("cannot be squeezed"));
}

#[test]
fn pad_reads_every_version() {
    let pads = [0, 1, 0, 2];
    let old = one(2, "Pad", &["1", "2"], &[], &[ints("pads", &pads), float("value", 9.0)]);
    assert_eq!(f32s(&old.run([iota(&[1, 2])])), [9.0, 0.0, 1.0, 9.0, 9.0]);
    let axes =
        one(18, "Pad", &["1", "2"], &[("p", &[1, -1]), ("", &[]), ("a", &[-1])], &[string("mode", "edge")]);
    assert_eq!(f32s(&axes.run([iota(&[1, 2])])), [0.0, 0.0]);
    let too_much = one(13, "Pad", &["1", "2"], &[("p", &[0, -2, 0, -1])], &[]);
    assert!(too_much.error().contains("pads -2 and -1 make no sense for 2 elements"));
}

#[test]
fn tile_repeats_along_each_axis() {
    let tile = one(13, "Tile", &["1", "2"], &[("r", &[2, 2])], &[]);
    let y = tile.run([iota(&[1, 2])]);
    assert_eq!(
        (y.shape().to_string(), f32s(&y)),
        ("2x4".into(), vec![0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    );
}

#[test]
fn gather_counts_negative_indices_from_the_end() {
    let gather = one(13, "Gather", &["3"], &[("i", &[-1, 0])], &[]);
    assert_eq!(f32s(&gather.run([iota(&[3])])), [2.0, 0.0]);
    assert!(
        one(13, "Gather", &["3"], &[("i", &[3])], &[])
            .error()
            .contains("index 3 is outside axis 0 of shape 3")
    );
}

#[test]
fn reductions_read_axes_from_attribute_and_operand() {
    assert_eq!(
        type_of(one(11, "ReduceMean", &["2", "3", "4"], &[], &[ints("axes", &[-1, 1])])),
        "f32[2x1x1]"
    );
    assert_eq!(
        type_of(one(18, "ReduceMean", &["2", "3", "4"], &[("a", &[1])], &[int("keepdims", 0)])),
        "f32[2x4]"
    );
    assert_eq!(type_of(one(13, "ReduceSum", &["2", "3"], &[], &[])), "f32[1x1]");
    assert_eq!(
        type_of(one(13, "ReduceSum", &["2", "3"], &[], &[int("noop_with_empty_axes", 1)])),
        "f32[2x3]"
    );
    assert_eq!(type_of(one(13, "ArgMax", &["2", "3"], &[], &[int("axis", 1)])), "i64[2x1]");
}

#[test]
fn upsample_and_resize_agree_on_sizes() {
    let dims = ["1", "1", "2", "3"];
    assert_eq!(
        type_of(one(7, "Upsample", &dims, &[], &[floats("scales", &[1.0, 1.0, 2.0, 1.5])])),
        "f32[1x1x4x4]"
    );
    let resize = |opset, inputs: &[&str]| {
        onnx(opset)
            .input("x", &dims)
            .floats("scales", &[4], &[1.0, 1.0, 2.0, 1.5])
            .ints("sizes", &[1, 1, 4, 4])
            .floats("none", &[0], &[])
            .output("y")
            .node("Resize", inputs, &["y"], &[])
    };
    assert_eq!(type_of(resize(10, &["x", "scales"])), "f32[1x1x4x4]");
    assert_eq!(type_of(resize(11, &["x", "none", "scales"])), "f32[1x1x4x4]");
    assert_eq!(type_of(resize(13, &["x", "", "", "sizes"])), "f32[1x1x4x4]");
    assert_eq!(type_of(resize(13, &["x", "none", "none", "sizes"])), "f32[1x1x4x4]");
    assert!(resize(13, &["x", "", "scales", "sizes"]).error().ends_with("has both scales and sizes"));
}

#[test]
fn a_resize_of_opset_10_takes_the_element_above_where_an_axis_shrinks() {
    let model = |op: &str, opset, scales: &[f32]| {
        let model = onnx(opset).input("x", &["1", "1", "2", "4"]).floats("scales", &[4], scales).output("y");
        model.node(op, &["x", "scales"], &["y"], &[])
    };
    // ONNX Resize 10, example resize_downsample_nearest.
    let x = Tensor::new([1, 1, 2, 4], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).unwrap();
    assert_eq!(f32s(&model("Resize", 10, &[1.0, 1.0, 0.6, 0.6]).run([x.clone()])), [1.0, 3.0]);
    // As ONNX Runtime: rows are repeated, columns left out.
    let mixed = model("Resize", 10, &[1.0, 1.0, 1.5, 0.75]).run([x.clone()]);
    assert_eq!(f32s(&mixed), [1.0, 3.0, 4.0, 1.0, 3.0, 4.0, 5.0, 7.0, 8.0]);
    assert_eq!(f32s(&model("Resize", 10, &[1.0, 1.0, 1.0, 1.0]).run([x.clone()])), f32s(&x));
    let small = model("Upsample", 9, &[1.0, 1.0, 2.0, 0.5]).error();
    assert!(
        small.ends_with("attribute \"scales\" must be 1 or more, one is 0.5; Resize makes data smaller"),
        "{small}"
    );
}

#[test]
fn a_row_of_24_is_resized_to_28_alike_by_sizes_and_by_scales() {
    let row = |by: &str| {
        let model = onnx(13)
            .input("x", &["1", "24"])
            .floats("scales", &[2], &[1.0, 28.0 / 24.0])
            .ints("sizes", &[1, 28])
            .output("y");
        let operands = if by == "sizes" { vec!["x", "", "", "sizes"] } else { vec!["x", "", "scales"] };
        f32s(&model.node("Resize", &operands, &["y"], &[]).run([iota(&[1, 24])]))
    };
    let y = row("sizes");
    assert_eq!(y, row("scales"));
    // Of each 7 elements, the one at a half takes the lower neighbour.
    assert_eq!(y[..8], [0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn depth_to_space_and_back_is_the_identity() {
    for mode in ["DCR", "CRD"] {
        let model = onnx(28)
            .input("x", &["1", "8", "2", "3"])
            .output("y")
            .node("DepthToSpace", &["x"], &["s"], &[int("blocksize", 2), string("mode", mode)])
            .node("SpaceToDepth", &["s"], &["y"], &[int("blocksize", 2), string("mode", mode)]);
        let x = iota(&[1, 8, 2, 3]);
        assert_eq!(f32s(&model.run([x.clone()])), f32s(&x));
    }
    let crd =
        one(11, "DepthToSpace", &["1", "4", "1", "1"], &[], &[int("blocksize", 2), string("mode", "CRD")]);
    assert_eq!(f32s(&crd.run([iota(&[1, 4, 1, 1])])), [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn operators_of_any_number_of_operands_become_chains() {
    let model = |op: &str| {
        onnx(13).input("a", &["2"]).input("b", &["1"]).input("c", &[]).output("y").node(
            op,
            &["a", "b", "c"],
            &["y"],
            &[],
        )
    };
    let inputs =
        [iota(&[2]), Tensor::new([1], &[4.0f32]).unwrap(), Tensor::new(Vec::new(), &[-1.0f32]).unwrap()];
    let run = |op| f32s(&model(op).run(&inputs));
    assert_eq!(run("Sum"), [3.0, 4.0]);
    assert_eq!(run("Mean"), [1.0, 4.0 / 3.0]);
    assert_eq!(run("Max"), [4.0, 4.0]);
    assert_eq!(run("Min"), [-1.0, -1.0]);
}

#[test]
fn a_power_takes_the_type_of_its_base() {
    let model =
        onnx(13).input("x", &["3"]).ints("two", &[2]).output("y").node("Pow", &["x", "two"], &["y"], &[]);
    assert_eq!(f32s(&model.run([iota(&[3])])), [0.0, 1.0, 4.0]);
}

#[test]
fn dropout_is_the_identity_and_its_mask_keeps_everything() {
    let model =
        |used: &str| onnx(13).input("x", &["2"]).output(used).node("Dropout", &["x"], &["y", "mask"], &[]);
    assert_eq!(model("y").graph().len(), 1);
    assert_eq!(model("mask").run([iota(&[2])]).to_bools().unwrap(), [true, true]);
    let old = onnx(9).input("x", &["2"]).output("mask").node("Dropout", &["x"], &["y", "mask"], &[]);
    assert_eq!(f32s(&old.run([iota(&[2])])), [1.0, 1.0]);
}

#[test]
fn what_dropout_drops_in_training_is_decided_by_the_seed_and_told_by_the_mask() {
    let model = |used: &str, seed: i64| {
        let training =
            TensorProto { name: "training".into(), data_type: 9, int32_data: vec![1], ..Default::default() };
        let mut model = onnx(13).input("x", &["1000"]).floats("ratio", &[], &[0.25]).output(used);
        model.graph_mut().initializer.push(training);
        model.node("Dropout", &["x", "ratio", "training"], &["y", "mask"], &[int("seed", seed)])
    };
    let ones = [Tensor::new([1000], &[1f32; 1000]).unwrap()];
    let (y, mask) = (f32s(&model("y", 1).run(&ones)), model("mask", 1).run(&ones).to_bools().unwrap());
    assert!(y.iter().zip(&mask).all(|(&y, &kept)| y == if kept { 1.0 / 0.75 } else { 0.0 }));
    let kept = mask.iter().filter(|kept| **kept).count();
    assert!((700..800).contains(&kept), "{kept} of 1000 are kept");
    assert_ne!(f32s(&model("y", 2).run(&ones)), y);
}

#[test]
fn operands_before_opset_7_broadcast_along_the_axis_that_they_name() {
    let model = |attributes: &[AttributeProto]| {
        onnx(6).input("x", &["2", "3", "2"]).floats("v", &[3], &[0.0, 10.0, 20.0]).output("y").node(
            "Add",
            &["x", "v"],
            &["y"],
            attributes,
        )
    };
    let y = model(&[int("broadcast", 1), int("axis", 1)]).run([iota(&[2, 3, 2])]);
    assert_eq!(f32s(&y)[..6], [0.0, 1.0, 12.0, 13.0, 24.0, 25.0]);
    assert!(model(&[]).error().contains("B of shape 3 does not broadcast to A of shape 2x3x2"));
    assert!(model(&[int("broadcast", 1)]).error().contains("does not broadcast"));
}

#[test]
fn constants_come_in_all_forms() {
    for (attribute, ty) in [
        (float("value_float", 1.0), "f32[]"),
        (floats("value_floats", &[1.0, 2.0]), "f32[2]"),
        (int("value_int", 1), "i64[]"),
        (ints("value_ints", &[1, 2, 3]), "i64[3]"),
    ] {
        let model = onnx(13).output("y").node("Constant", &[], &["y"], &[attribute]);
        assert_eq!(type_of(model), ty);
    }
    let none = onnx(13).output("y").node("Constant", &[], &["y"], &[]);
    assert!(none.error().ends_with("needs exactly one value, it has 0"));
}

#[test]
fn a_large_constant_of_shape_stays_an_expand() {
    let model = |extent: i64| {
        let graph =
            onnx(9).ints("s", &[extent]).output("y").node("ConstantOfShape", &["s"], &["y"], &[]).graph();
        graph.node(graph.outputs()[0].1.node).op.name()
    };
    assert_eq!((model(10), model(1 << 20)), ("Constant", "Expand"));
}

#[test]
fn ranges_and_shapes_are_constants() {
    let range = onnx(11).ints("a", &[10]).ints("b", &[4]).ints("c", &[-2]).output("y").node(
        "Range",
        &["a", "b", "c"],
        &["y"],
        &[],
    );
    assert_eq!(range.run([]).elems::<i64>().unwrap()[..], [10, 8, 6]);
    let part = one(15, "Shape", &["2", "3", "4"], &[], &[int("start", -2), int("end", 100)]);
    assert_eq!(part.run([iota(&[2, 3, 4])]).elems::<i64>().unwrap()[..], [3, 4]);
    let size = one(13, "Size", &["2", "3", "4"], &[], &[]);
    assert_eq!(size.run([iota(&[2, 3, 4])]).elems::<i64>().unwrap()[..], [24]);
}

#[test]
fn group_normalization_scales_groups_in_18_and_channels_in_21() {
    let model = |opset, scales: &[f32]| {
        onnx(opset)
            .input("x", &["1", "4", "1", "2"])
            .floats("s", &[scales.len() as i64], scales)
            .floats("b", &[scales.len() as i64], &vec![1.0; scales.len()])
            .output("y")
            .node(
                "GroupNormalization",
                &["x", "s", "b"],
                &["y"],
                &[int("num_groups", 2), float("epsilon", 0.0)],
            )
    };
    let by_group = f32s(&model(18, &[1.0, 2.0]).run([iota(&[1, 4, 1, 2])]));
    let by_channel = f32s(&model(21, &[1.0, 1.0, 2.0, 2.0]).run([iota(&[1, 4, 1, 2])]));
    assert_eq!(by_group, by_channel);
    // Each group is 0 1 2 3 shifted: mean 1.5, variance 1.25.
    let first = (0.0 - 1.5) / 1.25f32.sqrt() + 1.0;
    assert!((by_group[0] - first).abs() < 1e-6 && (by_group[4] - (2.0 * (first - 1.0) + 1.0)).abs() < 1e-6);
}

#[test]
fn indices_may_be_known_only_at_run_time() {
    let gather =
        typed(13, "Gather", &[("x", F32, &["4", "3"]), ("i", I64, &["2"])], &["y"], &[int("axis", 1)]);
    let i = Tensor::new([2], &[-1i64, 0]).unwrap();
    assert_eq!(f32s(&gather.run([iota(&[4, 3]), i])), [2.0, 0.0, 5.0, 3.0, 8.0, 6.0, 11.0, 9.0]);
    let nd = |opset, attributes: &[AttributeProto]| {
        typed(opset, "GatherND", &[("x", F32, &["2", "2"]), ("i", I64, &["2", "1"])], &["y"], attributes)
    };
    assert_eq!(type_of(nd(11, &[])), "f32[2x2]");
    assert_eq!(type_of(nd(12, &[int("batch_dims", 1)])), "f32[2]");
    assert!(nd(11, &[int("batch_dims", 1)]).error().contains("batch_dims"));
    assert!(nd(12, &[int("batch_dims", -1)]).error().contains("cannot be negative"));
}

#[test]
fn scattering_reduces_from_the_versions_that_can() {
    let scatter = |opset, op, attributes: &[AttributeProto]| {
        let operands = [("x", F32, &["3"][..]), ("i", I64, &["2"]), ("u", F32, &["2"])];
        typed(opset, op, &operands, &["y"], attributes)
    };
    let run = |model: Onnx| {
        let (i, u) = (Tensor::new([2], &[1i64, 1]).unwrap(), Tensor::new([2], &[10.0f32, 20.0]).unwrap());
        f32s(&model.run([iota(&[3]), i, u]))
    };
    assert_eq!(run(scatter(9, "Scatter", &[])), [0.0, 20.0, 2.0]);
    assert_eq!(run(scatter(16, "ScatterElements", &[string("reduction", "add")])), [0.0, 31.0, 2.0]);
    assert_eq!(run(scatter(18, "ScatterElements", &[string("reduction", "min")])), [0.0, 1.0, 2.0]);
    assert!(scatter(16, "ScatterElements", &[string("reduction", "min")]).error().contains("\"mul\""));
    assert!(scatter(13, "ScatterElements", &[string("reduction", "add")]).error().contains("reduction"));
    assert!(scatter(11, "Scatter", &[]).error().contains("Scatter"));
}

#[test]
fn top_k_takes_k_from_attribute_and_operand() {
    assert_eq!(type_of(one(1, "TopK", &["2", "5"], &[], &[int("k", 2)])), "f32[2x2]");
    assert_eq!(type_of(one(10, "TopK", &["2", "5"], &[("k", &[3])], &[int("axis", 1)])), "f32[2x3]");
    let smallest = one(11, "TopK", &["5"], &[("k", &[2])], &[int("largest", 0), int("sorted", 0)]);
    assert_eq!(f32s(&smallest.run([iota(&[5])])), [0.0, 1.0]);
    assert!(one(11, "TopK", &["5"], &[("k", &[6])], &[]).error().contains("k is 6"));
    assert!(one(11, "TopK", &["5"], &[("k", &[-1])], &[]).error().contains("cannot be negative"));
}

#[test]
fn one_hot_counts_from_the_end_and_leaves_out_what_is_beyond() {
    let model = onnx(11)
        .input_of("i", I64, &["4"])
        .ints("depth", &[3])
        .floats("values", &[2], &[-1.0, 5.0])
        .output("y")
        .node("OneHot", &["i", "depth", "values"], &["y"], &[int("axis", 0)]);
    let y = model.run([Tensor::new([4], &[0i64, -1, 3, -4]).unwrap()]);
    assert_eq!(y.shape().to_string(), "3x4");
    assert_eq!(f32s(&y), [5.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 5.0, -1.0, -1.0]);
}

#[test]
fn trilu_keeps_a_triangle() {
    let y = one(14, "Trilu", &["2", "3"], &[], &[]).run([iota(&[2, 3])]);
    assert_eq!(f32s(&y), [0.0, 1.0, 2.0, 0.0, 4.0, 5.0]);
    let y = one(14, "Trilu", &["2", "3"], &[("k", &[-1])], &[int("upper", 0)]).run([iota(&[2, 3])]);
    assert_eq!(f32s(&y), [0.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
}

#[test]
fn cumulative_sums_take_their_axis_from_an_operand() {
    let y = one(11, "CumSum", &["2", "2"], &[("axis", &[-1])], &[int("reverse", 1)]).run([iota(&[2, 2])]);
    assert_eq!(f32s(&y), [1.0, 1.0, 5.0, 3.0]);
    assert!(one(11, "CumSum", &["2", "2"], &[("axis", &[2])], &[]).error().contains("axis 2"));
}

#[test]
fn places_of_the_largest_are_computed_where_they_are_read() {
    let pool = |outputs: &[&str]| {
        typed(
            8,
            "MaxPool",
            &[("x", F32, &["1", "1", "4"])],
            outputs,
            &[ints("kernel_shape", &[2]), ints("strides", &[2])],
        )
    };
    let op = |model: &Onnx| {
        let graph = model.graph();
        graph.node(graph.outputs()[0].1.node).op.name()
    };
    assert_eq!(op(&pool(&["y"])), "MaxPool");
    assert_eq!(op(&pool(&["y", "places"])), "MaxPoolArg");
    let unpool = typed(
        9,
        "MaxUnpool",
        &[("x", F32, &["1", "1", "2"]), ("i", I64, &["1", "1", "2"])],
        &["y"],
        &[ints("kernel_shape", &[2]), ints("strides", &[2])],
    );
    let places = Tensor::new([1, 1, 2], &[1i64, 2]).unwrap();
    assert_eq!(f32s(&unpool.run([iota(&[1, 1, 2]), places])), [0.0, 0.0, 1.0, 0.0]);
}

#[test]
fn sequences_are_reversed_by_default_along_the_first_axis() {
    let flipped = typed(10, "ReverseSequence", &[("x", F32, &["2", "2"]), ("l", I64, &["2"])], &["y"], &[]);
    let y = flipped.run([iota(&[2, 2]), Tensor::new([2], &[2i64, 1]).unwrap()]);
    assert_eq!(f32s(&y), [2.0, 1.0, 0.0, 3.0]);
}

#[test]
fn grids_are_sampled_in_the_words_of_their_version() {
    let model = |opset, mode: &str, spatial: &[&str]| {
        let axes = spatial.len().to_string();
        let x = [&["1", "1"], spatial].concat();
        let grid = [&["1"], spatial, &[&axes]].concat();
        let inputs = [("x", F32, &x[..]), ("g", F32, &grid[..])];
        typed(opset, "GridSample", &inputs, &["y"], &[string("mode", mode)])
    };
    let (image, volume) = (["3", "4"], ["2", "3", "4"]);
    for (opset, words, others) in [
        (16, ["bilinear", "nearest", "bicubic"], ["linear", "cubic"]),
        (20, ["linear", "nearest", "cubic"], ["bilinear", "bicubic"]),
    ] {
        for mode in words {
            assert_eq!(type_of(model(opset, mode, &image)), "f32[1x1x3x4]");
        }
        for mode in others {
            let error = model(opset, mode, &image).error();
            assert!(error.contains(&format!("attribute \"mode\" is \"{mode}\", supported")), "{error}");
        }
    }
    assert_eq!(type_of(model(20, "linear", &volume)), "f32[1x1x2x3x4]");
    let error = model(16, "bilinear", &volume).error();
    assert!(error.contains("X has rank 5; before opset 20 it must be 4"), "{error}");
}
