use crate::tensor::Tensor;
use crate::{Graph, eval, text};

fn graph(text: &str) -> Graph {
    let graph = text::parse(text).unwrap();
    assert_eq!(text::print(&text::parse(&text::print(&graph)).unwrap()), text::print(&graph));
    graph
}

/// Sums of what is scanned, each shown, with a captured factor.
const SUMS: &str = "
    %s = input : f32[2]
    %x = input : f32[3x2]
    %k = input : f32[2]
    %y = loop %s, %x, %k {trips=3, states=1, scanned=1} body {
      %i = input : i64[]
      %s = input : f32[2]
      %x = input : f32[2]
      %k = input : f32[2]
      %p = mul %x, %k : f32[2]
      %t = add %s, %p : f32[2]
      output s = %t
      output y = %t
    } : f32[2], f32[3x2]
    output last = %y
    output all = %y:1
";

#[test]
fn states_go_on_and_parts_are_stacked() {
    let inputs = [
        Tensor::new([2], &[1f32, 2.0]).unwrap(),
        Tensor::new([3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap(),
        Tensor::new([2], &[10f32, 1.0]).unwrap(),
    ];
    let out = eval::run(&graph(SUMS), &inputs).unwrap();
    assert_eq!(out[0], Tensor::new([2], &[91f32, 14.0]).unwrap());
    assert_eq!(out[1], Tensor::new([3, 2], &[11f32, 4.0, 41.0, 8.0, 91.0, 14.0]).unwrap());
}

/// Doubles until the condition says no more.
const DOUBLES: &str = "
    %go = input : bool[]
    %x = input : f32[]
    %y = loop %go, %x {trips=5, by_data=true, states=1} body {
      %i = input : i64[]
      %x = input : f32[]
      %limit = const f32[] {10}
      %d = add %x, %x : f32[]
      %more = less %d, %limit : bool[]
      output go = %more
      output x = %d
      output part = %x
    } : f32[], f32[5], i64[]
    output x = %y
    output count = %y:2
";

#[test]
fn a_loop_ends_by_data_at_the_start_between_and_at_its_bound() {
    let run = |go: bool, x: f32| -> (f32, i64) {
        let inputs = [Tensor::bools([], &[go]).unwrap(), Tensor::new([], &[x]).unwrap()];
        let out = eval::run(&graph(DOUBLES), &inputs).unwrap();
        (out[0].elems::<f32>().unwrap()[0], out[1].elems::<i64>().unwrap()[0])
    };
    assert_eq!(run(false, 3.0), (3.0, 0));
    assert_eq!(run(true, 11.0), (22.0, 1));
    assert_eq!(run(true, 3.0), (12.0, 2));
    assert_eq!(run(true, 0.001), (0.032, 5));
}

const EITHER: &str = "
    %c = input : bool[]
    %a = input : f32[2]
    %b = input : f32[2]
    %y = if %c, %a, %b, %b then {
      %a = input : f32[2]
      %b = input : f32[2]
      %s = add %a, %b : f32[2]
      output y = %s
    } else {
      %b = input : f32[2]
      %n = neg %b : f32[2]
      output y = %n
    } : f32[2]
    output y = %y
";

#[test]
fn one_branch_gives_the_results() {
    for (holds, expected) in [(true, [4f32, 6.0]), (false, [-3.0, -4.0])] {
        let inputs = [
            Tensor::bools([], &[holds]).unwrap(),
            Tensor::new([2], &[1f32, 2.0]).unwrap(),
            Tensor::new([2], &[3f32, 4.0]).unwrap(),
        ];
        let out = eval::run(&graph(EITHER), &inputs).unwrap();
        assert_eq!(out[0], Tensor::new([2], &expected).unwrap());
    }
}

#[test]
fn equal_bodies_are_equal_whatever_their_nodes_are_called() {
    let (a, b) = (graph(SUMS), graph(&SUMS.replace("%p", "%product").replace("%t", "%total")));
    let op = |graph: &Graph| graph.node(graph.outputs()[0].1.node).op.clone();
    assert_eq!(op(&a), op(&b));
    assert_ne!(op(&a), op(&graph(&SUMS.replace("mul", "sub"))));
    assert_ne!(op(&a), op(&graph(&SUMS.replace("mul %x, %k", "mul %x, %x"))));
    assert_ne!(op(&a), op(&graph(&SUMS.replace("trips=3", "trips=4").replace("3x2", "4x2"))));
}

#[test]
fn bodies_that_do_not_fit_are_refused_with_what_does_not() {
    let fault = |text: String| text::parse(&text).unwrap_err().what;
    let cases = [
        (SUMS.replace("%s = input : f32[2]\n    %x", "%s = input : f32[1]\n    %x"), "operand 0 (state)"),
        (SUMS.replace("{trips=3", "{trips=4"), "operand 1 (scanned)"),
        (SUMS.replace("%k = input : f32[2]\n    %y", "%k = input : f32[1]\n    %y"), "operand 2 (captured)"),
        (SUMS.replace("%i = input : i64[]", "%i = input : i32[]"), "takes the iteration as i32[]"),
        (
            SUMS.replace("output s = %t", "output s = %k")
                .replace("%k = input : f32[2]\n      %p", "%k = input : f32[1]\n      %p"),
            "its body makes f32[1] of a state of type f32[2]",
        ),
        (SUMS.replace("output s = %t\n      output y = %t", ""), "too few"),
        (DOUBLES.replace("output go = %more", "output go = %d"), "whether it goes on"),
        (EITHER.replace("%n = neg %b : f32[2]", "%n = is_nan %b : bool[2]"), "its branches make"),
        (EITHER.replace("%c = input : bool[]", "%c = input : i64[]"), "operand 0 (condition)"),
    ];
    for (text, part) in cases {
        let what = fault(text);
        assert!(what.contains(part), "{what}");
    }
}

#[test]
fn what_a_body_costs_counts_for_each_iteration() {
    let graph = graph(SUMS);
    let id = graph.outputs()[0].1.node;
    // Two additions or products of two elements, and six nodes to look at.
    assert_eq!(graph.cost(id).ops, 3 * (2 + 2 + 6));
}

#[test]
fn bodies_are_told_apart_by_their_types_and_by_what_is_left_out() {
    let op = |text: &str| {
        let graph = graph(text);
        graph.node(graph.outputs()[0].1.node).op.clone()
    };
    let conv = "
        %x = input : f32[1x1x3]
        %w = input : f32[1x1x1]
        %r = input : f32[1x1x3]
        %y = loop %x, %w, %r {trips=1, states=1} body {
          %i = input : i64[]
          %x = input : f32[1x1x3]
          %w = input : f32[1x1x1]
          %r = input : f32[1x1x3]
          %c = conv %x, %w, _, %r {epilogue=residual} : f32[1x1x3]
          output x = %c
        } : f32[1x1x3]
        output y = %y
    ";
    assert_eq!(op(conv), op(conv));
    assert_ne!(op(conv), op(&conv.replace("%x, %w, _, %r {epilogue=residual}", "%x, %w")));
    assert_ne!(op(conv), op(&conv.replace("f32", "f16")), "types of all inputs");
    assert_ne!(op(conv), op(&conv.replace("1x1x3", "1x1x4")));
}

#[test]
fn a_body_is_changed_alone() {
    let whole = graph(SUMS);
    let mut op = whole.node(whole.outputs()[0].1.node).op.clone();
    let before = op.clone();
    let output = op.bodies()[0].graph().outputs()[0].1;
    op.bodies_mut()[0].graph_mut().add_output("again", output);
    assert_eq!(op.bodies()[0].graph().outputs().len(), 3);
    assert_eq!(before.bodies()[0].graph().outputs().len(), 2, "who shared it before has it as it was");
    assert_ne!(op, before);
}
