//! Dims that a model leaves open, and what callers bind.

use nnc_ir::Limits;
use nnc_ir::onnx::{Bindings, Dim, Model};
use nnc_ir::{Op, Tensor};

use crate::build::{Onnx, ints, iota, one, onnx, value_info};

fn bound(dims: &[&str], shapes: &[&str]) -> Bindings {
    let mut bindings = Bindings::new();
    dims.iter().for_each(|d| bindings.bind_dim(d).unwrap());
    shapes.iter().for_each(|s| bindings.bind_shape(s).unwrap());
    bindings
}

fn open_model() -> Onnx {
    one(13, "Relu", &["batch", "3", "?", "-1"], &[], &[])
}

fn failure(model: &Onnx, bindings: &Bindings) -> String {
    model.graph_with(bindings).unwrap_err().to_string()
}

#[test]
fn inputs_say_what_is_known_named_and_open() {
    let model = open_model().read().unwrap();
    let dims = [Dim::Named("batch".into()), Dim::Known(3), Dim::Unknown, Dim::Unknown];
    assert_eq!(model.inputs()[0].dims.as_deref(), Some(&dims[..]));
    assert_eq!(model.inputs()[0].to_string(), "f32[batch, 3, ?, ?]");
    assert_eq!((model.named_dims(), model.opset()), (vec!["batch"], 13));
}

#[test]
fn a_shape_binds_open_and_named_dims() {
    let graph = open_model().graph_with(&bound(&[], &["x=2x3x8x9"])).unwrap();
    assert_eq!(graph.ty(graph.outputs()[0].1).to_string(), "f32[2x3x8x9]");
}

#[test]
fn a_named_dim_binds_every_input_that_has_it() {
    let model = onnx(13).input("a", &["n", "4"]).input("b", &["n", "1"]).output("y").node(
        "Add",
        &["a", "b"],
        &["y"],
        &[],
    );
    for bindings in [bound(&["n=5"], &[]), bound(&[], &["b=5x1"])] {
        let graph = model.graph_with(&bindings).unwrap();
        assert_eq!(graph.ty(graph.outputs()[0].1).to_string(), "f32[5x4]");
    }
}

#[test]
fn unbound_dims_are_listed_with_what_binds_them() {
    assert_eq!(
        failure(&open_model(), &bound(&["batch=1"], &[])),
        "model: some input dims are not known; input \"x\" is f32[batch, 3, ?, ?]: give Bindings::shapes[\"x\"] = 1x3x?x? \
         (a number for each ?)"
    );
    let model = onnx(13).input("a", &["n", "4"]).input("b", &["n", "m"]).output("y").node(
        "Add",
        &["a", "b"],
        &["y"],
        &[],
    );
    assert_eq!(
        failure(&model, &Bindings::new()),
        "model: some input dims are not known; input \"a\" is f32[n, 4]: give Bindings::dims[\"n\"] = ?; input \
         \"b\" is f32[n, m]: give Bindings::dims[\"n\"] = ? and Bindings::dims[\"m\"] = ? (a number for each ?)"
    );
}

#[test]
fn an_input_of_unknown_rank_needs_a_shape() {
    let mut model = onnx(13).output("y").node("Relu", &["x"], &["y"], &[]);
    model.graph_mut().input.push(value_info("x", 1, None));
    assert!(
        failure(&model, &Bindings::new())
            .contains("input \"x\" is f32 of any shape: give Bindings::shapes[\"x\"] = ?x?x…")
    );
    assert!(model.graph_with(&bound(&[], &["x=7"])).is_ok());
}

#[test]
fn a_binding_for_nothing_names_what_was_probably_meant() {
    assert_eq!(
        failure(&open_model(), &bound(&["btach=1"], &[])),
        "model: Bindings::dims[\"btach\"] = 1: the model has no named dim \"btach\"; did you mean \"batch\"?"
    );
    assert_eq!(
        failure(&open_model(), &bound(&[], &["image=1x3x8x8"])),
        "model: Bindings::shapes[\"image\"] = 1x3x8x8: the model has no input \"image\"; it has \"x\""
    );
}

#[test]
fn a_shape_that_contradicts_the_model_is_refused() {
    assert_eq!(
        failure(&open_model(), &bound(&[], &["x=1x4x8x8"])),
        "model: Bindings::shapes[\"x\"] = 1x4x8x8: input \"x\" is f32[batch, 3, ?, ?], it cannot be 1x4x8x8: \
         dim 1 is fixed at 3 by the model"
    );
    assert_eq!(
        failure(&open_model(), &bound(&["batch=2"], &["x=1x3x8x8"])),
        "model: Bindings::shapes[\"x\"] = 1x3x8x8: input \"x\" is f32[batch, 3, ?, ?], it cannot be 1x3x8x8: \
         dim 0, \"batch\", is 2 by Bindings::dims[\"batch\"] = 2"
    );
    assert!(failure(&open_model(), &bound(&[], &["x=1x3x8"])).ends_with("it has 4 dims, not 3"));
}

#[test]
fn an_input_bound_to_a_constant_decides_a_shape() {
    let model = onnx(13)
        .input("x", &["2", "6"])
        .input_of("shape", 7, &["k"])
        .output("y")
        .node("Reshape", &["x", "shape"], &["y"], &[])
        .named("flat");
    assert_eq!(
        failure(&model, &bound(&["k=2"], &[])),
        "model: node \"flat\" (Reshape, opset 13): operand 1 (shape) must be known at compile time, but \"shape\" is a \
         graph input; bind it with Bindings::constants[\"shape\"]"
    );
    let mut bindings = Bindings::new();
    bindings.constants.insert("shape".into(), Tensor::new([2], &[3i64, -1]).unwrap());
    let graph = model.graph_with(&bindings).unwrap();
    assert_eq!(graph.ty(graph.outputs()[0].1).to_string(), "f32[3x4]");
    assert_eq!(graph.inputs().len(), 1);
    bindings.constants.insert("shape".into(), iota(&[2]));
    assert_eq!(
        failure(&model, &bindings),
        "model: Bindings::constants[\"shape\"]: the constant for input \"shape\" is f32[2], the input is i64[k]"
    );
}

#[test]
fn an_initializer_that_is_also_an_input_is_a_constant() {
    let model = onnx(9)
        .input("x", &["2"])
        .input("w", &["2"])
        .floats("w", &[2], &[10.0, 20.0])
        .output("y")
        .node("Add", &["x", "w"], &["y"], &[]);
    assert_eq!(model.read().unwrap().inputs().len(), 1);
    assert_eq!(model.graph().inputs().len(), 1);
}

#[test]
fn shape_arithmetic_of_exporters_becomes_one_reshape() {
    let model = onnx(13)
        .input("x", &["n", "3", "4"])
        .ints("zero", &[0])
        .ints("rest", &[-1])
        .output("y")
        .node("Shape", &["x"], &["shape"], &[])
        .node("Gather", &["shape", "zero"], &["n"], &[])
        .node("Concat", &["n", "rest"], &["wanted"], &[crate::build::int("axis", 0)])
        .node("Reshape", &["x", "wanted"], &["y"], &[]);
    let graph = model.graph_with(&bound(&["n=2"], &[])).unwrap();
    let ops: Vec<&str> = graph.node_ids().map(|id| graph.node(id).op.name()).collect();
    assert_eq!(ops, ["Input", "Reshape"]);
    assert_eq!(graph.ty(graph.outputs()[0].1).to_string(), "f32[2x12]");
}

#[test]
fn what_no_output_depends_on_is_not_read() {
    let model = onnx(13)
        .input("x", &["2"])
        .floats("unused", &[1], &[1.0])
        .output("y")
        .node("Relu", &["x"], &["y"], &[])
        .node("Unheard", &["x"], &["z"], &[]);
    assert_eq!(model.read().unwrap().node_count(), 1);
    assert_eq!(model.graph().len(), 2);
}

#[test]
fn an_output_may_be_an_input_or_an_initializer() {
    let model = onnx(13).input("x", &["2"]).floats("w", &[1], &[5.0]).output("x").output("w");
    let graph = model.graph();
    let op = |i: usize| &graph.node(graph.outputs()[i].1.node).op;
    assert!(matches!((op(0), op(1)), (Op::Input, Op::Constant(_))));
}

#[test]
fn limits_hold_for_inputs_and_results() {
    let limits = Limits { tensor_bytes: 100, ..Limits::default() };
    let expand = one(13, "Expand", &["1"], &[("shape", &[1000])], &[]);
    let model = Model::from_bytes_with(expand.bytes(), None, limits.clone()).unwrap();
    let error = model.graph(&Bindings::new()).unwrap_err().to_string();
    assert!(
        error.contains("its result of type f32[1000] and 4000 bytes is over the limit of 100 (tensor_bytes)"),
        "{error}"
    );
    let model = Model::from_bytes_with(one(13, "Relu", &["1000"], &[], &[]).bytes(), None, limits).unwrap();
    let error = model.graph(&Bindings::new()).unwrap_err().to_string();
    assert_eq!(
        error,
        "model: input \"x\" of type f32[1000] and 4000 bytes is over the limit of 100 (tensor_bytes); if you trust the \
         model, raise it with Limits::tensor_bytes"
    );
}

#[test]
fn a_stride_that_jumps_over_everything_counts_as_the_shortest_that_does() {
    let attributes =
        [ints("kernel_shape", &[2, 1]), ints("strides", &[i64::MAX; 2]), ints("dilations", &[2, i64::MAX])];
    let graph = one(13, "MaxPool", &["1", "1", "4", "4"], &[], &attributes).graph();
    let pool = graph.node_ids().find_map(|id| match &graph.node(id).op {
        Op::Pool(pool) => Some(pool),
        _ => None,
    });
    let window = &pool.unwrap().window;
    assert_eq!((&window.strides[..], &window.dilations[..]), (&[2, 4][..], &[2, 1][..]));
}

#[test]
fn constants_are_not_computed_while_reading_past_a_budget() {
    let mut model = onnx(13).ints("n", &[1 << 13]).output("y");
    for n in 0..1100 {
        // 64 KiB of constants each.
        model = model.node("ConstantOfShape", &["n"], &[&format!("c{n}")], &[]);
        model = model.node("Neg", &[&format!("c{n}")], &[&format!("v{n}")], &[]);
    }
    let names: Vec<String> = (0..1100).map(|n| format!("v{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let graph = model.node("Sum", &names, &["y"], &[]).graph();
    let constants = graph.node_ids().filter_map(|id| graph.constant(id.into()));
    let bytes: usize = constants.map(|tensor| tensor.bytes().len()).sum();
    assert!(bytes <= 100 << 20, "{bytes}");
    assert!(graph.len() > 1100, "some nodes are left to be computed later");
}
