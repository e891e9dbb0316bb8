use super::*;
use crate::op::{Binary, BinaryFn, Concat, Split, Unary};

/// `x` split in two; `b` is `exp` of the second part; outputs: `b`, then the parts added.
fn graph() -> Graph {
    let mut g = Graph::new();
    let x = g.add_input("x", TensorType::f32([4]));
    let y = g.add_input("y", TensorType::f32([1]));
    let parts = g.add("split", Op::Split(Split { axis: 0, parts: vec![2, 2] }), &[Some(x)]).unwrap();
    let second = Value { node: parts, output: 1 };
    let b = g.add("b", Op::Unary(Unary::Neg), &[Some(second)]).unwrap();
    let add = Binary { function: BinaryFn::Add, activation: None };
    let sum = g.add("sum", add.into(), &[Some(parts.into()), Some(second)]).unwrap();
    let all = g.add("all", Concat { axis: 0 }.into(), &[Some(sum.into()), Some(y)]).unwrap();
    g.add_output("b", b.into());
    g.add_output("all", all.into());
    g
}

fn t(elems: &[f32]) -> Tensor {
    Tensor::new([elems.len()], elems).unwrap()
}

#[test]
fn outputs_come_in_the_order_of_the_graph() {
    let outputs = run(&graph(), &[t(&[1.0, 2.0, 3.0, 4.0]), t(&[9.0])]).unwrap();
    assert_eq!(outputs, [t(&[-3.0, -4.0]), t(&[4.0, 6.0, 9.0])]);
}

#[test]
fn inputs_may_be_given_by_name_in_any_order() {
    let (x, y) = (t(&[1.0, 2.0, 3.0, 4.0]), t(&[9.0]));
    let by_name = run_named(&graph(), &[("y", y.clone()), ("x", x.clone())]).unwrap();
    assert_eq!(by_name, run(&graph(), &[x, y]).unwrap());
}

#[test]
fn every_value_can_be_looked_at() {
    let g = graph();
    let values = run_all(&g, &[t(&[1.0, 2.0, 3.0, 4.0]), t(&[9.0])]).unwrap();
    let count: usize = g.node_ids().map(|id| g.node(id).outputs.len()).sum();
    assert_eq!(values.len(), count);
    let sum = g.node_ids().find(|&id| g.node(id).name == "sum").unwrap();
    assert_eq!(values[&sum.into()], t(&[4.0, 6.0]));
}

#[test]
fn results_may_be_changed_before_they_are_read() {
    let inputs = [t(&[1.0, 2.0, 3.0, 4.0]), t(&[9.0])];
    assert_eq!(run_changed(&graph(), &inputs, |_| ()).unwrap(), run(&graph(), &inputs).unwrap());
    let doubled = run_changed(&graph(), &inputs, |result| {
        let twice: Vec<f32> = result.elems::<f32>().unwrap().iter().map(|v| 2.0 * v).collect();
        *result = t(&twice);
    });
    assert_eq!(doubled.unwrap(), [t(&[-12.0, -16.0]), t(&[32.0, 48.0, 18.0])]);
}

#[test]
fn an_output_may_be_an_input_or_a_constant() {
    let mut g = Graph::new();
    let x = g.add_input("x", TensorType::f32([1]));
    let c = g.add_constant("c", t(&[5.0]));
    g.add_output("x", x);
    g.add_output("c", c);
    g.add_output("x again", x);
    assert_eq!(run(&g, &[t(&[1.0])]).unwrap(), [t(&[1.0]), t(&[5.0]), t(&[1.0])]);
}

#[test]
fn inputs_that_do_not_fit_are_refused_by_name() {
    let g = graph();
    let x = t(&[1.0, 2.0, 3.0, 4.0]);
    let text = |r: Result<Vec<Tensor>, EvalError>| r.unwrap_err().to_string();
    assert_eq!(text(run(&g, std::slice::from_ref(&x))), "the graph takes 2 inputs, got 1");
    assert_eq!(text(run(&g, &[t(&[1.0]), t(&[1.0])])), "input \"x\" has type f32[4], got f32[1]");
    assert_eq!(text(run_named(&g, &[("x", x.clone())])), "input \"y\" is missing");
    assert_eq!(text(run_named(&g, &[("z", x)])), "the graph has no input \"z\"; its inputs are \"x\", \"y\"");
}

#[test]
fn the_cost_of_a_node_counts_constants_as_parameters_and_every_operand_once() {
    let mut g = Graph::new();
    let x = g.add_input("x", TensorType::f32([2, 3]));
    let w = g.add_constant("w", Tensor::new([3, 4], &[0.0f32; 12]).unwrap());
    let y = g.add("y", crate::op::MatMul::default().into(), &[Some(x), Some(w)]).unwrap();
    let add = Binary { function: BinaryFn::Add, activation: Some(Unary::Relu) };
    let z = g.add("z", add.into(), &[Some(y.into()), Some(y.into())]).unwrap();
    let cost = g.cost(y);
    assert_eq!((cost.macc, cost.ops, cost.params), (24, 0, 12));
    assert_eq!((cost.bytes_read, cost.bytes_written), (18 * 4, 8 * 4));
    let cost = g.cost(z);
    assert_eq!((cost.ops, cost.params, cost.bytes_read), (16, 0, 8 * 4));
    assert_eq!(g.cost(x.node), crate::Cost::default());
}
