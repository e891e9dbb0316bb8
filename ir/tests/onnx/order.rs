//! Nodes in any order.

use nnc_ir::Tensor;
use nnc_ir::onnx::Bindings;

use crate::build::{Onnx, f32s, graph, iota, onnx};

/// Names of the graph's nodes in the order in which they were added.
fn added(model: &Onnx) -> Vec<String> {
    let graph = model.graph();
    graph.order().unwrap().iter().map(|id| graph.node(*id).name.clone()).collect()
}

#[test]
fn nodes_are_sorted() {
    let model = onnx(13)
        .input("x", &["3"])
        .output("y")
        .node("Add", &["b", "a"], &["y"], &[])
        .node("Exp", &["a"], &["b"], &[])
        .node("Neg", &["x"], &["a"], &[]);
    let y = f32s(&model.run([iota(&[3])]));
    let expected: Vec<f32> = (0..3).map(|i| (-(i as f32)).exp() - i as f32).collect();
    assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?}");
}

#[test]
fn any_order_gives_the_same_result() {
    let nodes: [(&str, &[&str], &str); 5] = [
        ("Neg", &["x"], "a"),
        ("Abs", &["a"], "b"),
        ("Add", &["a", "b"], "c"),
        ("Mul", &["c", "x"], "d"),
        ("Sub", &["d", "b"], "y"),
    ];
    // All 120 orders, by the factorial number system.
    for mut number in 0..120usize {
        let mut left: Vec<usize> = (0..5).collect();
        let mut model = onnx(14).input("x", &["4"]).output("y");
        for count in (1..=5).rev() {
            let (op, inputs, output) = nodes[left.remove(number % count)];
            number /= count;
            model = model.node(op, inputs, &[output], &[]);
        }
        let x = Tensor::new([4], &[-2f32, -1.0, 1.0, 2.0]).unwrap();
        assert_eq!(f32s(&model.run([x])), [-10.0, -3.0, -1.0, -2.0]);
    }
}

#[test]
fn nodes_that_are_sorted_stay_in_their_order() {
    let model = onnx(13)
        .input("x", &["3"])
        .output("y")
        .node("Neg", &["x"], &["z"], &[])
        .node("Exp", &["x"], &["a"], &[])
        .node("Add", &["a", "z"], &["y"], &[]);
    assert_eq!(added(&model), ["x", "z", "a", "y"]);
}

#[test]
fn nodes_are_sorted_inside_of_branches_and_functions() {
    // The branch reads "late" from around it, whose node stands behind the If.
    let then = onnx(13).output("t").node("Add", &["u", "late"], &["t"], &[]).node("Neg", &["x"], &["u"], &[]);
    let inner = onnx(13).output("i").node("Abs", &["v"], &["i"], &[]).node("Neg", &["late"], &["v"], &[]);
    let otherwise = onnx(13).output("e").node("Exp", &["f"], &["e"], &[]).node(
        "If",
        &["c"],
        &["f"],
        &[graph("then_branch", inner), graph("else_branch", onnx(13).output("x"))],
    );
    let model = onnx(13)
        .input_of("c", 9, &[])
        .input("x", &["2"])
        .output("y")
        .node("If", &["c"], &["y"], &[graph("then_branch", then), graph("else_branch", otherwise)])
        .node("Abs", &["x"], &["late"], &[]);
    let (yes, no) = (Tensor::bools([], &[true]).unwrap(), Tensor::bools([], &[false]).unwrap());
    let x = Tensor::new([2], &[-1f32, 2.0]).unwrap();
    assert_eq!(f32s(&model.run([yes, x.clone()])), [2.0, 0.0]);
    assert_eq!(f32s(&model.run([no, x])), [(-1f32).exp(), 2f32.exp()]);

    let body = onnx(13).input("u", &[]).output("w").node("Abs", &["v"], &["w"], &[]).node(
        "Neg",
        &["u"],
        &["v"],
        &[],
    );
    let model = onnx(13)
        .input("x", &["2"])
        .output("y")
        .function("F", &[], body)
        .node("Neg", &["z"], &["y"], &[])
        .call("F", &["x"], &["z"], &[]);
    assert_eq!(f32s(&model.run([Tensor::new([2], &[-1f32, 2.0]).unwrap()])), [-1.0, -2.0]);
}

#[test]
fn a_cycle_is_named_from_node_to_node() {
    let model = onnx(13)
        .input("x", &["1"])
        .output("y")
        .node("Abs", &["b"], &["y"], &[])
        .node("Add", &["x", "b"], &["a"], &[])
        .named("sum")
        .node("Relu", &["a"], &["b"], &[])
        .named("act");
    assert_eq!(
        model.error(),
        "model: the nodes form a cycle: node \"act\" reads \"a\" of node \"sum\", which reads \"b\" of node \"act\""
    );
    let model = onnx(13).input("x", &["1"]).output("y").node("Add", &["x", "y"], &["y"], &[]);
    assert_eq!(model.error(), "model: the nodes form a cycle: node \"y\" reads \"y\" of node \"y\"");
}

#[test]
fn a_cycle_inside_of_a_branch_names_the_node_around_it() {
    let then = onnx(13).output("t").node("Add", &["x", "u"], &["t"], &[]).node("Neg", &["t"], &["u"], &[]);
    let model = onnx(13).input_of("c", 9, &[]).input("x", &["2"]).output("y").node(
        "If",
        &["c"],
        &["y"],
        &[graph("then_branch", then), graph("else_branch", onnx(13).output("x"))],
    );
    let model = model.named("choice");
    assert_eq!(
        model.error(),
        "model: the nodes in a graph of node \"choice\" form a cycle: node \"t\" reads \"u\" of node \"u\", which reads \
         \"t\" of node \"t\""
    );
}

#[test]
fn a_cycle_of_very_many_nodes_is_found_and_named_briefly() {
    let names: Vec<String> = (0..20_000).map(|i| format!("v{i}")).collect();
    let mut model = onnx(13).output("v0");
    for (i, name) in names.iter().enumerate() {
        model = model.node("Neg", &[&names[(i + 1) % names.len()]], &[name], &[]);
    }
    let error = model.error();
    assert!(error.starts_with("model: the nodes form a cycle: node \"v0\" reads \"v1\""), "{error}");
    assert!(error.ends_with(", and so on through 20000 nodes") && error.len() < 2000, "{error}");
}

#[test]
fn what_no_output_needs_is_dropped_wherever_it_stands() {
    let model = onnx(13)
        .input("x", &["1"])
        .output("y")
        .node("TfIdf", &["y"], &["unused"], &[])
        .node("Neg", &["a"], &["y"], &[])
        .node("Abs", &["x"], &["a"], &[]);
    assert_eq!(model.graph_with(&Bindings::new()).unwrap().len(), 3);
}
