//! Values without a source, with two, or in a circle; operators that do not exist; names made to harm who reads them.

use crate::case::Case;
use crate::model::*;

/// Names of values.
pub fn values() -> Vec<Case> {
    let relu = |x: &str, y: &str| node("Relu", &[x], &[y], &[]);
    let with = |nodes: Vec<_>| {
        let mut model = model().input("x", &[4]).output("y");
        model.graph().node = nodes;
        model
    };
    let twice = |model: HostileModel| model.bytes();
    vec![
        Case::refused(
            "undefined_operand",
            "a node reads what nobody makes",
            with(vec![relu("nowhere", "y")]).bytes(),
            &["reads \"nowhere\"", "no input"],
        ),
        Case::refused(
            "undefined_output",
            "the graph returns what nobody makes",
            with(vec![relu("x", "z")]).bytes(),
            &["graph output reads \"y\""],
        ),
        Case::refused(
            "made_by_two_nodes",
            "two nodes make one value",
            with(vec![relu("x", "y"), relu("x", "y")]).bytes(),
            &["\"y\" is made twice"],
        ),
        Case::refused(
            "made_twice_by_one_node",
            "a node gives both of its results one name",
            with(vec![node("Split", &["x"], &["y", "y"], &[])]).bytes(),
            &["\"y\" is made twice"],
        ),
        Case::refused(
            "node_makes_the_input",
            "a node makes the graph's input",
            with(vec![relu("x", "x"), relu("x", "y")]).bytes(),
            &["\"x\" is made twice", "a graph input"],
        ),
        Case::refused(
            "node_makes_an_initializer",
            "a node makes what is an initializer",
            twice(with(vec![relu("x", "w"), relu("w", "y")]).floats("w", &[1], &[1.0])),
            &["\"w\" is made twice", "an initializer"],
        ),
        Case::refused(
            "two_initializers",
            "two initializers of one name, of which onnxruntime takes one",
            twice(with(vec![relu("x", "y")]).floats("w", &[1], &[1.0]).floats("w", &[1], &[2.0])),
            &["\"w\" is made twice"],
        ),
        Case::refused(
            "two_inputs",
            "two inputs of one name",
            twice(with(vec![relu("x", "y")]).input("x", &[4])),
            &["\"x\" is made twice"],
        ),
        Case::refused(
            "two_outputs",
            "two outputs of one name",
            twice(with(vec![relu("x", "y")]).output("y")),
            &["output \"y\"", "twice"],
        ),
        Case::refused(
            "cycle_of_two",
            "two nodes that read each other",
            with(vec![node("Add", &["x", "b"], &["a"], &[]), relu("a", "b"), relu("b", "y")]).bytes(),
            &["cycle"],
        ),
        Case::refused(
            "cycle_of_one",
            "a node that reads itself",
            with(vec![node("Add", &["x", "y"], &["y"], &[])]).bytes(),
            &["cycle"],
        ),
        Case::refused(
            "cycle_of_50000",
            "50,000 nodes in a circle",
            {
                let next = |n: usize| format!("v{}", (n + 1) % 50_000);
                let mut nodes: Vec<_> = (0..50_000).map(|n| relu(&format!("v{n}"), &next(n))).collect();
                nodes.push(relu("v7", "y"));
                with(nodes).bytes()
            },
            &["cycle"],
        ),
        Case::compiled(
            "unsorted",
            "a node before the one that it reads",
            with(vec![relu("z", "y"), relu("x", "z")]).bytes(),
        ),
        Case::refused(
            "no_operand",
            "an operand that is left out, though the operator needs it",
            with(vec![relu("", "y")]).bytes(),
            &["\"y\" (Relu"],
        ),
        Case::refused(
            "too_many_operands",
            "an operand more than the operator has",
            with(vec![node("Relu", &["x", "x"], &["y"], &[])]).bytes(),
            &["2 operands", "takes 1"],
        ),
        Case::refused(
            "too_many_results",
            "a result more than the operator has",
            with(vec![node("Relu", &["x"], &["z", "y"], &[])]).bytes(),
            &["2 outputs", "has 1"],
        ),
    ]
}

/// Names of operators and nodes.
pub fn operators() -> Vec<Case> {
    let of = |op: &str| model().input("x", &[4]).node(op, &["x"], &["y"], &[]).output("y");
    let long: String = "n".repeat(1 << 20);
    let named = |name: &str| of("Reluu").change(|node| node.name = name.into()).bytes();
    vec![
        Case::refused("unknown", "an operator that does not exist", of("Reluu").bytes(), &["Reluu", "× 1"]),
        Case::refused(
            "no_name",
            "an operator without a name",
            of("").bytes(),
            &["operators that nnc does not read"],
        ),
        Case::refused(
            "unknown_domain",
            "an operator of a domain that is not known",
            of("Relu").change(|node| node.domain = "evil".into()).import("evil", 1).bytes(),
            &["evil:Relu"],
        ),
        Case::refused(
            "domain_without_import",
            "an operator of a domain that the model does not import",
            of("Relu").change(|node| node.domain = "ai.onnx.ml".into()).bytes(),
            &["ai.onnx.ml:Relu"],
        ),
        Case::refused("opset_0", "opset 0", opset(0).output("y").bytes(), &["opset 0", "does not exist"]),
        Case::refused("opset_min", "opset -2^63", opset(i64::MIN).output("y").bytes(), &["does not exist"]),
        Case::refused(
            "opset_max",
            "opset 2^63-1",
            opset(i64::MAX).output("y").bytes(),
            &["knows those up to"],
        ),
        Case::refused(
            "two_opsets",
            "ONNX's own operators in two versions",
            of("Relu").import("ai.onnx", 7).bytes(),
            &["in versions 17 and 7"],
        ),
        Case::refused("long", "a node with a name of a megabyte", named(&long), &["Reluu", "…"]),
        Case::refused(
            "escapes",
            "a node whose name clears the screen and starts a line of its own",
            named("\u{1b}[2J\nerror: all is well\u{7}\u{202e}"),
            &["Reluu", "\\u{1b}"],
        ),
        Case::refused(
            "many_unknown",
            "10,000 operators that do not exist",
            {
                let mut model = model().input("x", &[4]).output("y9999");
                let nodes = (0..10_000).map(|n| {
                    let before = if n == 0 { "x".into() } else { format!("y{}", n - 1) };
                    node(&format!("Op{n}"), &[&before], &[&format!("y{n}")], &[])
                });
                model.graph().node = nodes.collect();
                model.bytes()
            },
            &["operators that nnc does not read", "…"],
        ),
    ]
}
