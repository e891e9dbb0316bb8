//! Inputs that have a default, and graphs that end before the model does.

use nnc_ir::onnx::Bindings;
use nnc_ir::{Tensor, eval};

use crate::build::{Onnx, f32s, graph, int, iota, onnx};

/// `y = x + w`, where `w` is an input with the default 10, 20.
fn with_default() -> Onnx {
    onnx(13).input("x", &["2"]).input("w", &["2"]).floats("w", &[2], &[10.0, 20.0]).output("y").node(
        "Add",
        &["x", "w"],
        &["y"],
        &[],
    )
}

fn run(model: &Onnx, bindings: &Bindings, inputs: &[Tensor]) -> Vec<f32> {
    let graph = model.graph_with(bindings).unwrap();
    f32s(&eval::run(&graph, inputs).unwrap()[0])
}

#[test]
fn an_input_with_a_default_is_a_constant_until_it_is_named() {
    let model = with_default();
    assert_eq!(f32s(&model.run([iota(&[2])])), [10.0, 21.0]);
    let read = model.read().unwrap();
    let names = |bindings: &Bindings| -> Vec<String> {
        read.inputs_with(bindings).map(|input| input.name.clone()).collect()
    };
    assert_eq!(names(&Bindings::new()), ["x"]);
    assert_eq!(read.defaults().iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["w"]);

    let mut bindings = Bindings::new();
    bindings.bind_shape("w=2").unwrap();
    assert_eq!(names(&bindings), ["x", "w"]);
    let w = Tensor::new([2], &[5f32, 7.0]).unwrap();
    assert_eq!(run(&model, &bindings, &[iota(&[2]), w.clone()]), [5.0, 8.0]);

    let mut bindings = Bindings::new();
    bindings.constants.insert("w".into(), w);
    assert_eq!(run(&model, &bindings, &[iota(&[2])]), [5.0, 8.0]);
}

#[test]
fn an_input_with_a_default_keeps_its_declared_type() {
    let error = |bindings: &Bindings| with_default().graph_with(bindings).unwrap_err().to_string();
    let mut bindings = Bindings::new();
    bindings.bind_shape("w=3").unwrap();
    assert!(error(&bindings).contains("input \"w\" is f32[2], it cannot be 3"), "{}", error(&bindings));
    let mut bindings = Bindings::new();
    bindings.constants.insert("w".into(), Tensor::new([2], &[1i64, 2]).unwrap());
    assert!(error(&bindings).contains("the constant for input \"w\" is i64[2]"), "{}", error(&bindings));
    let mut bindings = Bindings::new();
    bindings.bind_shape("v=2").unwrap();
    assert!(error(&bindings).contains("has no input \"v\""), "{}", error(&bindings));
}

#[test]
fn a_default_that_nothing_reads_may_be_given_too() {
    let model = onnx(13)
        .input("x", &["1"])
        .input("unused", &["n"])
        .floats("unused", &[2], &[1.0, 2.0])
        .output("y")
        .node("Neg", &["x"], &["y"], &[]);
    let mut bindings = Bindings::new();
    bindings.bind_shape("unused=3").unwrap();
    assert_eq!(run(&model, &bindings, &[iota(&[1]), iota(&[3])]), [0.0]);
}

/// x ─▶ a = −x ─▶ b, c = Split(a) ─▶ d = what nnc does not read (b) ─▶ y
fn chain() -> Onnx {
    onnx(13)
        .input("x", &["4"])
        .output("y")
        .node("Neg", &["x"], &["a"], &[])
        .named("minus")
        .node("Split", &["a"], &["b", "c"], &[])
        .named("halves")
        .node("TfIdf", &["b"], &["d"], &[])
        .node("Add", &["d", "c"], &["y"], &[])
}

fn until(names: &[&str]) -> Bindings {
    Bindings { until: names.iter().map(ToString::to_string).collect(), ..Bindings::new() }
}

fn outputs(model: &Onnx, bindings: &Bindings) -> Vec<String> {
    let graph = model.graph_with(bindings).unwrap();
    graph.outputs().iter().map(|(name, _)| name.clone()).collect()
}

#[test]
fn a_graph_ends_at_a_node_or_a_value_and_nothing_behind_is_looked_at() {
    let model = chain();
    assert!(model.error().contains("TfIdf"));
    assert_eq!(run(&model, &until(&["minus"]), &[iota(&[4])]), [0.0, -1.0, -2.0, -3.0]);
    assert_eq!(run(&model, &until(&["c"]), &[iota(&[4])]), [-2.0, -3.0]);
    assert_eq!(outputs(&model, &until(&["halves"])), ["b", "c"]);
    assert_eq!(outputs(&model, &until(&["c", "halves", "minus", "a"])), ["c", "b", "a"]);
    let ends = model.read().unwrap().outputs_with(&until(&["halves"])).unwrap();
    assert_eq!(ends.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn a_shape_that_a_picture_decides_is_no_setting_to_bind() {
    let model = |dims: &[&str]| {
        onnx(13)
            .input("image", dims)
            .input("n", &["1"])
            .output("y")
            .node("ReduceMax", &["image"], &["most"], &[int("keepdims", 0)])
            .node("Add", &["most", "n"], &["sum"], &[])
            .node("Cast", &["sum"], &["size"], &[int("to", 7)])
            .node("Tile", &["n", "size"], &["y"], &[])
    };
    let error = model(&["1", "3", "4", "4"]).error();
    assert!(error.contains("Bindings::constants[\"n\"]") && !error.contains("image"), "{error}");
    let only = onnx(13)
        .input("image", &["1", "3", "4", "4"])
        .ints("n", &[1])
        .output("y")
        .node("ReduceMax", &["image"], &["most"], &[int("keepdims", 0)])
        .node("Cast", &["most"], &["size"], &[int("to", 7)])
        .node("Reshape", &["size", "n"], &["sizes"], &[])
        .node("ConstantOfShape", &["sizes"], &["y"], &[]);
    let error = only.error();
    assert!(
        error.contains("from what \"image\" holds") && error.contains("with Bindings::until,"),
        "{error}"
    );
    assert!(!error.contains("constants"), "{error}");
    let bindings = until(&["sizes"]);
    assert_eq!(outputs(&only, &bindings), ["sizes"], "as it advises");
}

#[test]
fn an_end_that_does_not_exist_gets_the_nearest_name() {
    let error = |end| chain().graph_with(&until(&[end])).unwrap_err().to_string();
    assert!(
        error("halfes").ends_with("a node or value \"halfes\"; did you mean \"halves\"?"),
        "{}",
        error("halfes")
    );
    assert!(
        error("something else").ends_with("depend on 4 nodes, one is \"y\""),
        "{}",
        error("something else")
    );
    let twice = onnx(13)
        .input("x", &["1"])
        .output("y")
        .node("Neg", &["x"], &["a"], &[])
        .named("n")
        .node("Neg", &["a"], &["y"], &[])
        .named("n");
    let error = twice.graph_with(&until(&["n"])).unwrap_err().to_string();
    assert!(error.ends_with("2 nodes have the name \"n\"; name a value, such as \"a\""), "{error}");
}

#[test]
fn what_a_branch_reads_from_around_it_is_needed_before_the_end() {
    let then = onnx(13).output("t").node("Neg", &["a"], &["t"], &[]);
    let otherwise = onnx(13).output("a");
    let model = onnx(13)
        .input_of("c", 9, &[])
        .input("x", &["2"])
        .output("y")
        .node("Abs", &["x"], &["a"], &[])
        .node("If", &["c"], &["z"], &[graph("then_branch", then), graph("else_branch", otherwise)])
        .node("Concat", &["z", "a"], &["y"], &[int("axis", 0)]);
    let graph = model.graph_with(&until(&["z"])).unwrap();
    let no = Tensor::bools([], &[false]).unwrap();
    assert_eq!(f32s(&eval::run(&graph, &[no, iota(&[2])]).unwrap()[0]), [0.0, 1.0]);
}
