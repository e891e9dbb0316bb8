//! What users read when a model is refused: one test for each kind of error.

use nnc_ir::Limits;
use nnc_ir::onnx::{Bindings, Model};
use onnx_protobuf::{TensorProto, TypeProto, ValueInfoProto, type_proto};
use protobuf::MessageField;

use crate::build::{F32, I64, float, int, ints, one, onnx, string, typed, value_info};

fn bytes_error(bytes: &[u8]) -> String {
    Model::from_bytes(bytes, None).unwrap_err().to_string()
}

#[test]
fn a_missing_file_is_named() {
    let error = Model::open("/nowhere/net.onnx").unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/net.onnx: cannot be read: No such file"), "{error}");
}

#[test]
fn a_folder_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let error = Model::open(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("not an ONNX model: it is a folder"), "{error}");
}

#[test]
fn other_files_are_told_apart() {
    assert_eq!(bytes_error(b""), "model: not an ONNX model: the file is empty");
    assert!(bytes_error(b"hello\n").contains("it is a text file that starts with \"hello\""));
    let graphless = [0x08, 0x08];
    assert!(bytes_error(&graphless).ends_with("it is a protocol buffer, but holds no graph"));
}

#[test]
fn a_truncated_file_is_called_truncated() {
    let bytes = one(13, "Relu", &["1"], &[], &[]).bytes();
    let error = bytes_error(&bytes[..bytes.len() - 10]);
    assert!(error.contains("not an ONNX model") && error.contains("truncated"), "{error}");
}

#[test]
fn limits_are_named_when_exceeded() {
    let model = one(13, "Relu", &["1"], &[], &[]).bytes();
    let read = |limits| Model::from_bytes_with(model.clone(), None, limits).unwrap_err().to_string();
    let error = read(Limits { file_bytes: 10, ..Limits::default() });
    assert!(error.contains("is over the limit of 10 (file_bytes)"), "{error}");
    assert!(error.contains("Limits::file_bytes"), "{error}");
    let error = read(Limits { nodes: 0, ..Limits::default() });
    assert!(error.contains("the model with 1 nodes is over the limit of 0 (nodes)"), "{error}");
    let error = read(Limits { ports: 0, ..Limits::default() });
    assert!(error.contains("the graph with 1 inputs is over the limit of 0 (ports)"), "{error}");
}

#[test]
fn an_opset_from_the_future_is_refused() {
    assert_eq!(
        onnx(99).output("y").error(),
        "model: the model is written for opset 99, nnc knows those up to 28; export it for an older one"
    );
    let mut model = one(13, "Relu", &["1"], &[], &[]);
    model.proto.opset_import.clear();
    assert_eq!(model.error(), "model: the model does not say which opset it is written for");
}

#[test]
fn all_unsupported_operators_are_listed_at_once() {
    let model = onnx(13)
        .input("x", &["1"])
        .output("y")
        .node("TfIdf", &["x"], &["a"], &[])
        .node("Upsample", &["a"], &["b"], &[])
        .named("up")
        .node("TfIdf", &["b"], &["y"], &[])
        .named("second");
    assert_eq!(
        model.error(),
        "model: operators that nnc does not read: TfIdf of opset 13 × 2 (\"a\", \"second\"); Upsample of opset 13 (read: \
         1 to 9) × 1 (\"up\")"
    );
    let mut custom = one(13, "Relu", &["1"], &[], &[]);
    custom.graph_mut().node[0].domain = "my.ops".into();
    assert_eq!(
        custom.error(),
        "model: operators that nnc does not read: my.ops:Relu of opset 0 × 1 (\"y\"); domain my.ops is not read, but ONNX's own \
         and com.microsoft"
    );
}

#[test]
fn a_domain_that_is_not_read_is_named_once_with_what_to_do() {
    let mut model = onnx(13).input("x", &["1"]).output("y").node("Conv", &["x"], &["a"], &[]).node(
        "ReorderOutput",
        &["a"],
        &["y"],
        &[],
    );
    model.graph_mut().node.iter_mut().for_each(|node| node.domain = "com.microsoft.nchwc".into());
    let error = model.error();
    assert_eq!(error.matches("domain com.microsoft.nchwc is a layout").count(), 1, "{error}");
    assert!(error.contains("ORT_ENABLE_EXTENDED"), "{error}");
    // One of a domain that is read, but in a version that does not exist.
    let mut model = one(13, "FusedConv", &["1"], &[], &[]).imports("com.microsoft", 2);
    model.graph_mut().node[0].domain = "com.microsoft".into();
    assert_eq!(
        model.error(),
        "model: operators that nnc does not read: com.microsoft:FusedConv of opset 2 (read: 1) × 1 (\"y\")"
    );
}

#[test]
fn a_value_with_two_sources_names_both() {
    let model = one(13, "Relu", &["1"], &[], &[]).node("Abs", &["x"], &["y"], &[]).named("again");
    assert_eq!(model.error(), "model: value \"y\" is made twice: by node \"y\" and by node \"again\"");
    let model = one(13, "Relu", &["1"], &[], &[]).floats("w", &[1], &[1.0]).floats("w", &[1], &[1.0]);
    assert_eq!(model.error(), "model: value \"w\" is made twice: by an initializer and by an initializer");
}

#[test]
fn a_value_without_a_source_names_its_reader() {
    let model = onnx(13).input("x", &["1"]).output("y").node("Add", &["x", "gone"], &["y"], &[]);
    assert_eq!(
        model.error(),
        "model: node \"y\" (Add) reads \"gone\", which is no input, no initializer and no node's output"
    );
    let model = onnx(13).input("x", &["1"]).output("z").node("Relu", &["x"], &["y"], &[]);
    assert_eq!(
        model.error(),
        "model: the graph output reads \"z\", which is no input, no initializer and no node's output"
    );
}

#[test]
fn damaged_initializers_are_named() {
    let model = one(13, "Relu", &["1"], &[], &[]).floats("w", &[2, 2], &[1.0]);
    assert_eq!(model.error(), "model: tensor \"w\": f32[2x2] needs 16 bytes of data, it has 4");
}

#[test]
fn inputs_and_outputs_that_are_no_tensors_are_refused() {
    let mut model = one(13, "Relu", &["1"], &[], &[]);
    let sequence =
        TypeProto { value: Some(type_proto::Value::SequenceType(Default::default())), ..Default::default() };
    model.graph_mut().input[0].type_ = MessageField::some(sequence);
    assert!(model.error().starts_with("model: input \"x\": is no tensor"));
    model.graph_mut().input[0] = ValueInfoProto { name: "x".into(), ..Default::default() };
    assert_eq!(model.error(), "model: input \"x\": has no type");
    let mut model = one(13, "Relu", &["1"], &[], &[]);
    model.graph_mut().output[0] = crate::build::value_info("y", 7, Some(&["1"]));
    assert_eq!(model.error(), "model: output \"y\": is declared as i64[1], but its node makes f32[1]");
}

#[test]
fn parts_of_onnx_that_are_not_read_are_named() {
    let mut model = one(13, "Relu", &["1"], &[], &[]);
    model.graph_mut().sparse_initializer.push(Default::default());
    assert_eq!(model.error(), "model: unsupported: sparse initializers");
    let mut model = onnx(13).input("x", &["1"]);
    model.graph_mut().output.clear();
    assert_eq!(model.error(), "model: unsupported: a graph without outputs");
}

#[test]
fn attributes_are_checked_by_name_type_and_value() {
    let error = |op: &str, attributes: &[_]| one(13, op, &["1", "2"], &[], attributes).named("n").error();
    assert_eq!(
        error("Flatten", &[float("axis", 1.0)]),
        "model: node \"n\" (Flatten, opset 13): attribute \"axis\" must be an integer, it is a float"
    );
    assert_eq!(
        error("Relu", &[int("alpha", 1)]),
        "model: node \"n\" (Relu, opset 13): attribute \"alpha\" is not one of this operator; the model may need a \
         newer operator set than it imports"
    );
    assert!(error("Flatten", &[int("axis", 3)]).ends_with("axis 3 is outside a tensor of rank 2"));
    assert!(error("Dropout", &[int("seed", 1), int("seed", 1)]).ends_with("has attribute \"seed\" twice"));
    let bad = TensorProto { data_type: 8, ..Default::default() };
    let model = onnx(13).output("y").node("Constant", &[], &["y"], &[crate::build::tensor("value", bad)]);
    assert!(
        model.error().ends_with("cannot be read: elements of type string are not supported"),
        "{}",
        model.error()
    );
}

#[test]
fn operands_are_counted() {
    let model = onnx(13).input("x", &["1"]).output("y").node("Relu", &["x", "x"], &["y"], &[]);
    assert_eq!(model.error(), "model: node \"y\" (Relu, opset 13): has 2 operands, the operator takes 1");
    let model = onnx(13).input("x", &["1"]).output("y").node("Add", &["x"], &["y"], &[]);
    assert_eq!(model.error(), "model: node \"y\" (Add, opset 13): operand 1 (B) is missing");
}

#[test]
fn a_shape_that_is_computed_at_run_time_names_what_it_depends_on() {
    let model = onnx(13)
        .input("x", &["4"])
        .input_of("n", 7, &["1"])
        .output("y")
        .node("Add", &["n", "n"], &["twice"], &[])
        .node("Reshape", &["x", "twice"], &["y"], &[]);
    assert_eq!(
        model.error(),
        "model: node \"y\" (Reshape, opset 13): operand 1 (shape) must be known at compile time, but \"twice\" is \
         computed at run time; binding what it depends on would help: Bindings::constants[\"n\"]"
    );
}

#[test]
fn a_node_with_more_outputs_than_its_operator_is_refused() {
    for (op, outputs, error) in [
        ("Relu", &["y", "more"][..], "has 2 outputs, the operator has 1"),
        ("MaxPool", &["y", "", "more"], "has 3 outputs, the operator has 2"),
        ("BatchNormalization", &["y", "a", "b", "c"], "has 4 outputs, the operator has 3"),
    ] {
        let model = onnx(15).input("x", &["2", "2"]).output("y").node(op, &["x"], outputs, &[]);
        let text = model.error();
        assert!(text.ends_with(error), "{text}");
    }
    // An output without a name is none.
    let model = onnx(13).input("x", &["1", "4"]).output("y").node("Relu", &["x"], &["y", ""], &[]);
    assert_eq!(model.ty().to_string(), "f32[1x4]");
}

#[test]
fn operands_of_other_types_than_the_operator_takes_are_refused() {
    let error = |op: &str, opset, types: &[i32]| {
        let names = ["a", "b", "c", "d"];
        let inputs: Vec<(&str, i32, &[&str])> =
            names.into_iter().zip(types).map(|(name, ty)| (name, *ty, &["2"][..])).collect();
        typed(opset, op, &inputs, &["y"], &[]).error()
    };
    let (u8, i8, i32) = (2, 3, 6);
    for (op, opset, types, expected) in [
        (
            "DequantizeLinear",
            13,
            &[u8, F32, i8][..],
            "operand 2 (x_zero_point) holds i8, but operand 0 (x) holds u8",
        ),
        (
            "QuantizeLinear",
            10,
            &[F32, F32, F32],
            "operand 2 (y_zero_point) holds f32, the operator takes u8, i8",
        ),
        (
            "Add",
            13,
            &[F32, I64],
            "operand 1 (B) holds i64, but operand 0 (A) holds f32; they must hold the same",
        ),
        ("Relu", 13, &[i32], "operand 0 (X) holds i32, the operator takes f16, bf16, f32, f64"),
        ("Where", 16, &[F32, F32, F32], "operand 0 (condition) holds f32, the operator takes bool"),
        ("Concat", 13, &[F32, F32, I64], "operand 2 (inputs) holds i64, but operand 0 (inputs) holds f32"),
        ("Gather", 13, &[F32, F32], "operand 1 (indices) holds f32, the operator takes i32, i64"),
    ] {
        let text = error(op, opset, types);
        assert!(text.contains(expected), "{text}");
    }
    assert!(error("Sigmoid", 13, &[F32, F32]).ends_with("has 2 operands, the operator takes 1"));
}

#[test]
fn an_output_must_have_the_shape_that_is_declared() {
    let declared = |input: &[&str], dims: &[&str]| {
        let mut model = onnx(13).input("x", input).node("Relu", &["x"], &["y"], &[]);
        let info = value_info("y", F32, Some(dims));
        model.graph_mut().output.push(info);
        model
    };
    let fixed = ["10", "2"];
    for dims in [&["10", "2"][..], &["n", "2"], &["?", "?"], &["-1", "2"], &["0", "2"]] {
        assert_eq!(declared(&fixed, dims).ty().to_string(), "f32[10x2]");
    }
    assert_eq!(
        declared(&fixed, &["10", "3"]).error(),
        "model: output \"y\": is declared as f32[10, 3], but its node makes f32[10x2]; correct the declaration, or \
         the node"
    );
    assert!(
        declared(&fixed, &["10"]).error().contains("is declared as f32[10], but its node makes f32[10x2]")
    );
    // Exporters leave the extent of the example in outputs of open models; people name dims, whatever is there.
    let bound = |dims: &[&str]| {
        let mut bindings = Bindings::new();
        bindings.dims.insert("n".into(), 8);
        declared(&["n", "2"], dims).graph_with(&bindings)
    };
    assert_eq!(bound(&["1", "2"]).unwrap().len(), 2);
    assert!(bound(&["1", "2", "1"]).unwrap_err().to_string().contains("is declared as f32[1, 2, 1]"));
    assert_eq!(bound(&["1", "2", "length"]).unwrap().len(), 2);
    assert!(declared(&fixed, &["length"]).error().contains("is declared as f32[length]"));
}

#[test]
fn a_format_that_does_not_exist_is_refused() {
    for version in [0, -3] {
        let mut model = one(13, "Relu", &["1"], &[], &[]);
        model.proto.ir_version = version;
        let error = model.error();
        let expected = format!("its ir_version is {version}; the first version of the format is 1");
        assert!(error.ends_with(&expected), "{error}");
    }
}

#[test]
fn axes_of_a_transpose_do_not_count_from_the_end() {
    for perm in [&[0, -1][..], &[-1, -2], &[0, 2], &[1, 1], &[0], &[0, 1, 1]] {
        let error = one(13, "Transpose", &["2", "3"], &[], &[ints("perm", perm)]).error();
        let expected = format!("attribute \"perm\" must name each of 2 axes once, from 0, it is {perm:?}");
        assert!(error.ends_with(&expected), "{error}");
    }
}

#[test]
fn an_operator_that_refuses_its_operands_is_named() {
    let model =
        onnx(13).input("x", &["2"]).input("z", &["3"]).output("y").node("Add", &["x", "z"], &["y"], &[]);
    let error = model.error();
    assert!(error.starts_with("model: node \"y\" (Add, opset 13): "), "{error}");
    let error = one(13, "Resize", &["1", "1", "2", "2"], &[], &[string("mode", "area")]).error();
    assert!(
        error.ends_with("attribute \"mode\" is \"area\", supported: \"nearest\", \"linear\", \"cubic\""),
        "{error}"
    );
}

#[test]
fn errors_keep_their_source() {
    let model =
        onnx(13).input("x", &["2"]).input("z", &["3"]).output("y").node("Add", &["x", "z"], &["y"], &[]);
    let error = model.graph_with(&Bindings::new()).unwrap_err();
    assert_eq!(error.file, "model");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_model_with_two_graphs_is_refused_because_parsers_differ_in_which_one_counts() {
    let bytes = one(13, "Relu", &["1"], &[], &[]).bytes();
    let error = bytes_error(&bytes.repeat(2));
    assert_eq!(error, "model: not an ONNX model: it has two graphs");
}

#[test]
fn an_output_that_is_listed_twice_is_refused() {
    let error = bytes_error(&one(13, "Relu", &["1"], &[], &[]).output("y").bytes());
    assert_eq!(error, "model: output \"y\": is listed twice; give the second a name of its own");
}

#[test]
fn an_initializer_that_is_too_large_is_named() {
    let error = bytes_error(&onnx(13).floats("w", &[1 << 40], &[]).output("w").bytes());
    assert!(error.starts_with("model: tensor \"w\" of type f32[1099511627776]"), "{error}");
}

#[test]
fn long_lists_of_unknown_operators_end_with_their_number() {
    let mut model = onnx(13).input("x", &["1"]);
    for n in 0..100 {
        let name = format!("y{n}");
        model = model.node(&format!("Op{n}"), &["x"], &[&name], &[]).output(&name);
    }
    let error = model.graph_with(&Bindings::new()).unwrap_err().to_string();
    assert!(error.ends_with("; … and 76 more"), "{error}");
}
