//! The vocabulary in which graphs are edited: what it tells about readers, and what it refuses.

use nnc_ir::op::{Pad, PadMode, Unary};
use nnc_ir::{Graph, TensorType, Value};

fn graph() -> (Graph, Value) {
    let mut graph = Graph::new();
    let x = graph.add_input("x", TensorType::f32([2, 3]));
    (graph, x)
}

fn add(graph: &mut Graph, name: &str, of: Value) -> Value {
    graph.add(name, Unary::Relu.into(), &[Some(of)]).expect("a relu").into()
}

#[test]
fn a_value_that_is_an_output_has_no_single_consumer() {
    let (mut graph, x) = graph();
    let a = add(&mut graph, "a", x);
    assert_eq!(graph.single_consumer(a), None, "nobody reads it");
    let b = add(&mut graph, "b", a);
    assert_eq!(graph.single_consumer(a), Some((b.node, 0)));
    graph.add_output("a", a);
    assert_eq!(graph.single_consumer(a), None, "the caller reads it, too");
}

#[test]
fn a_value_that_is_read_twice_has_no_single_consumer() {
    let (mut graph, x) = graph();
    let a = add(&mut graph, "a", x);
    for name in ["b", "c"] {
        let y = add(&mut graph, name, a);
        graph.add_output(name, y);
    }
    assert_eq!(graph.single_consumer(a), None);
}

#[test]
fn a_rewrite_that_is_refused_changes_nothing() {
    let (mut graph, x) = graph();
    let a = add(&mut graph, "a", x);
    graph.add_output("y", a);
    let before = nnc_ir::text::print(&graph);
    let pad = |begin: isize, end: isize| Pad {
        begin: vec![0, begin],
        end: vec![0, end],
        mode: PadMode::Constant(0.0),
    };
    for (pad, why) in [(pad(4, -4), "leave nothing of axis 1"), (pad(1, 0), "cannot be replaced")] {
        let refused = graph.admits(a.node, &pad.clone().into(), &[Some(x)]).expect_err("refused");
        assert!(refused.to_string().contains(why), "{refused}");
        graph.rewrite(a.node, pad.into(), &[Some(x)]).expect_err("refused");
        assert_eq!(nnc_ir::text::print(&graph), before);
    }
    graph.admits(a.node, &pad(1, -1).into(), &[Some(x)]).expect("the same type");
}

#[test]
fn what_replaces_a_value_replaces_it_as_an_output_too() {
    let (mut graph, x) = graph();
    let (a, b) = (add(&mut graph, "a", x), add(&mut graph, "b", x));
    graph.add_output("y", a);
    graph.replace_value(a, b).expect("the same type");
    assert_eq!(graph.outputs(), [("y".to_string(), b)]);
    graph.prune(a.node);
    assert!(!graph.contains(a.node) && graph.contains(b.node), "an output is not pruned");
    graph.prune(b.node);
    assert!(graph.contains(b.node));
}
