//! Functions that a model defines.

use nnc_ir::Limits;
use nnc_ir::onnx::{Bindings, Model};

use crate::build::{Onnx, f32s, float, graph, iota, onnx, reference};

/// `y = f(x)`, where `f` is the body.
fn calling(body: Onnx) -> Onnx {
    onnx(13).input("x", &["3"]).output("y").function("F", &["a"], body).call("F", &["x"], &["y"], &[])
}

#[test]
fn a_call_becomes_the_nodes_of_its_function() {
    let body = onnx(13).input("u", &[]).output("w").node("Neg", &["u"], &["v"], &[]).node(
        "Abs",
        &["v"],
        &["w"],
        &[],
    );
    let model = calling(body).graph();
    assert_eq!(model.len(), 3);
    let names: Vec<&str> = model.order().unwrap().iter().map(|id| model.node(*id).name.as_str()).collect();
    assert_eq!(names, ["x", "y/v", "y/w"]);
}

#[test]
fn attributes_are_those_of_the_call_or_left_to_the_operator() {
    let body = || {
        onnx(13).input("u", &[]).output("w").node("LeakyRelu", &["u"], &["w"], &[reference("alpha", "a", 1)])
    };
    let model = |attributes: &[_]| {
        let model = onnx(13).input("x", &["1"]).output("y").function("F", &["a"], body());
        model.call("F", &["x"], &["y"], attributes)
    };
    let minus = [nnc_ir::Tensor::new([1], &[-1f32]).unwrap()];
    assert_eq!(f32s(&model(&[float("a", 0.5)]).run(&minus)), [-0.5]);
    assert_eq!(f32s(&model(&[]).run(&minus)), [-0.01]);
    assert!(model(&[float("b", 0.5)]).error().contains("attribute \"b\" is not one of this operator"));
}

#[test]
fn names_of_two_calls_do_not_meet() {
    let body = onnx(13).input("u", &[]).output("w").node("Neg", &["u"], &["v"], &[]).node(
        "Exp",
        &["v"],
        &["w"],
        &[],
    );
    let model = onnx(13)
        .input("x", &["1"])
        .output("y")
        .function("F", &[], body)
        .call("F", &["x"], &["v"], &[])
        .call("F", &["v"], &["y"], &[]);
    let y = f32s(&model.run([iota(&[1])]))[0];
    assert!((y - (-1f32).exp()).abs() < 1e-6);
}

#[test]
fn a_body_has_the_operator_sets_of_its_function() {
    // Softmax of opset 12 flattens from axis 1 on.
    let body = onnx(12).input("u", &[]).output("w").node("Softmax", &["u"], &["w"], &[]);
    let model = onnx(13).input("x", &["1", "2", "2"]).output("y").function("F", &[], body);
    let y = f32s(&model.call("F", &["x"], &["y"], &[]).run([iota(&[1, 2, 2])]));
    assert!((y.iter().sum::<f32>() - 1.0).abs() < 1e-6);
}

#[test]
fn operands_that_are_passed_on_or_left_out_stay_so() {
    let body = onnx(13).input("u", &[]).input("low", &[]).output("w").output("u").node(
        "Clip",
        &["u", "low"],
        &["w"],
        &[],
    );
    let model = onnx(13).input("x", &["3"]).output("z").function("F", &[], body);
    let model = model.call("F", &["x"], &["y", "same"], &[]).node("Add", &["y", "same"], &["z"], &[]);
    assert_eq!(f32s(&model.run([iota(&[3])])), [0.0, 2.0, 4.0]);
}

#[test]
fn calls_inside_of_branches_are_replaced_too() {
    let body = onnx(13).input("u", &[]).output("w").node("Neg", &["u"], &["w"], &[]);
    let branch = || onnx(13).output("b").call("F", &["x"], &["b"], &[]);
    let model = onnx(13).input_of("c", 9, &[]).input("x", &["1"]).output("y").function("F", &[], body).node(
        "If",
        &["c"],
        &["y"],
        &[graph("then_branch", branch()), graph("else_branch", branch())],
    );
    let held = nnc_ir::Tensor::bools([], &[true]).unwrap();
    assert_eq!(f32s(&model.run([held, nnc_ir::Tensor::new([1], &[2f32]).unwrap()])), [-2.0]);
}

#[test]
fn functions_that_call_themselves_are_refused() {
    let body = |callee: &str| onnx(13).input("u", &[]).output("w").call(callee, &["u"], &["w"], &[]);
    let model = calling(body("F"));
    assert!(model.error().contains("function \"F\", which calls itself"), "{}", model.error());
    let model = calling(body("G")).function("G", &[], body("F"));
    assert!(model.error().contains("calls itself"), "{}", model.error());
}

#[test]
fn functions_that_double_at_each_level_are_refused_before_they_are_written_out() {
    let twice = |callee: &str| {
        onnx(13).input("u", &[]).output("w").call(callee, &["u"], &["v"], &[]).call(
            callee,
            &["v"],
            &["w"],
            &[],
        )
    };
    let last = onnx(13).input("u", &[]).output("w").node("Neg", &["u"], &["w"], &[]);
    let mut model = onnx(13).input("x", &["1"]).output("y").function("F30", &[], last);
    for level in 0..30 {
        model = model.function(&format!("F{level}"), &[], twice(&format!("F{}", level + 1)));
    }
    let error = model.call("F0", &["x"], &["y"], &[]).error();
    assert!(error.contains("after its functions are put in place of their calls"), "{error}");
    assert!(error.contains("(nodes)"), "{error}");
}

#[test]
fn a_long_chain_of_functions_is_refused() {
    let last = onnx(13).input("u", &[]).output("w").node("Neg", &["u"], &["w"], &[]);
    let mut model = onnx(13).input("x", &["1"]).output("y").function("F5000", &[], last);
    for level in 0..5000 {
        let body = onnx(13).input("u", &[]).output("w").call(&format!("F{}", level + 1), &["u"], &["w"], &[]);
        model = model.function(&format!("F{level}"), &[], body);
    }
    let error = model.call("F0", &["x"], &["y"], &[]).error();
    assert!(error.contains("levels deep"), "{error}");
}

#[test]
fn the_limit_of_nodes_counts_what_functions_come_to() {
    let body = onnx(13).input("u", &[]).output("w").node("Neg", &["u"], &["v"], &[]).node(
        "Neg",
        &["v"],
        &["w"],
        &[],
    );
    let bytes = calling(body).bytes();
    let read = |nodes| Model::from_bytes_with(bytes.clone(), None, Limits { nodes, ..Limits::default() });
    assert!(read(3).unwrap().graph(&Bindings::new()).is_ok());
    assert!(read(2).is_err());
}
