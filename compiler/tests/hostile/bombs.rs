//! Small models that ask for much: memory, time, nodes.

use onnx_protobuf::{GraphProto, NodeProto};

use crate::case::Case;
use crate::model::*;

/// A chain of nodes, each made of the value before and the one to make.
fn chain(start: HostileModel, length: usize, link: impl Fn(&str, &str) -> NodeProto) -> HostileModel {
    let mut model = start;
    let name = |n: usize| if n == 0 { "x".to_string() } else { format!("v{n}") };
    let nodes = (0..length).map(|n| link(&name(n), &name(n + 1)));
    model.graph().node.extend(nodes);
    model.output(&name(length))
}

/// Values that are much larger than the file.
pub fn large_values() -> Vec<Case> {
    let twice = |x: &str, y: &str| node("Concat", &[x, x], &[y], &[int("axis", 0)]);
    let gigabyte = || model().input("x", &[1, 1]).ints("s", &[1 << 14, 1 << 14]);
    let outer = |n: i64| model().input("x", &[n, 1]).node("Transpose", &["x"], &["t"], &[]);
    vec![
        Case::refused(
            "doubling_input",
            "an input concatenated with itself 40 times over: 4 TiB",
            chain(model().input("x", &[1]), 40, twice).bytes(),
            &["(Concat", "--limit-tensor"],
        ),
        Case::refused(
            "doubling_constant",
            "the same with a constant, which can be computed at once",
            chain(model().floats("x", &[1], &[1.0]), 40, twice).bytes(),
            &["(Concat", "--limit-tensor"],
        ),
        Case::compiled(
            "doubling_constant_to_a_gigabyte",
            "a constant doubled 28 times, of which one element is returned: it is computed at run time, or never",
            chain(model().floats("x", &[1], &[1.0]), 28, twice)
                .ints("zero", &[0])
                .node("Gather", &["v28", "zero"], &["y"], &[])
                .output("y")
                .bytes(),
        )
        .flags(&["--limit-arena", "2G"]),
        Case::compiled(
            "gigabyte_between",
            "a gigabyte between two nodes: planned, and nothing of it is taken",
            gigabyte()
                .node("Expand", &["x", "s"], &["e"], &[])
                .node("Exp", &["e"], &["f"], &[])
                .node("ReduceSum", &["f"], &["y"], &[])
                .output("y")
                .bytes(),
        ),
        Case::refused(
            "gigabytes_between",
            "three gigabytes at once between nodes: more than a program may take",
            gigabyte()
                .node("Expand", &["x", "s"], &["e"], &[])
                .node("Exp", &["e"], &["a"], &[])
                .node("Neg", &["a"], &["b"], &[])
                .node("Sin", &["a"], &["c"], &[])
                .node("MatMul", &["b", "c"], &["d"], &[])
                .node("Add", &["a", "d"], &["f"], &[])
                .node("ReduceSum", &["f"], &["y"], &[])
                .output("y")
                .bytes(),
            &["memory for activations", "--limit-arena"],
        ),
        Case::refused(
            "limited_arena",
            "16 MiB of activations where 1 MiB is allowed",
            outer(2048)
                .node("MatMul", &["x", "t"], &["m"], &[])
                .node("ReduceSum", &["m"], &["y"], &[])
                .output("y")
                .bytes(),
            &["memory for activations", "1048576 (arena_bytes)", "--limit-arena"],
        )
        .flags(&["--limit-arena", "1M"]),
        Case::refused(
            "outer_product",
            "the product of a column and a row of a million: 4 TB",
            outer(1_000_000).node("MatMul", &["x", "t"], &["y"], &[]).output("y").bytes(),
            &["(MatMul", "--limit-tensor"],
        ),
        Case::refused(
            "broadcast",
            "a column and a row of a million added",
            outer(1_000_000).node("Add", &["x", "t"], &["y"], &[]).output("y").bytes(),
            &["(Add", "--limit-tensor"],
        ),
        Case::refused(
            "output_of_two_gigabytes",
            "a graph output of 2^31 bytes and more",
            model()
                .input("x", &[1])
                .ints("s", &[3 << 28])
                .node("Expand", &["x", "s"], &["y"], &[])
                .output("y")
                .bytes(),
            &["--limit-tensor"],
        )
        .flags(&["--limit-tensor", "2G"]),
        Case::bounded(
            "weights_of_nothing",
            "a convolution with 256 MiB of weights that an Expand makes",
            model()
                .input("x", &[1, 4096, 2, 2])
                .floats("one", &[1], &[1.0])
                .ints("s", &[16384, 4096, 1, 1])
                .node("Expand", &["one", "s"], &["w"], &[])
                .node("Conv", &["x", "w"], &["y"], &[])
                .output("y")
                .bytes(),
            &["error: "],
        ),
        Case::compiled(
            "many_foldings",
            "2,000 transposes of one constant of 64 KiB, each worth folding, together 125 MiB",
            {
                let mut model = model().floats("w", &[128, 128], &[0.5; 1 << 14]).input("x", &[128, 128]);
                for n in 0..2000 {
                    // Each adds another constant, so that none is like another.
                    model = model
                        .floats(&format!("k{n}"), &[1], &[n as f32])
                        .node("Add", &["w", &format!("k{n}")], &[&format!("s{n}")], &[])
                        .node("Transpose", &[&format!("s{n}")], &[&format!("t{n}")], &[]);
                }
                let names: Vec<String> = (0..2000).map(|n| format!("t{n}")).collect();
                let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
                all.push("x");
                model.node("Max", &all, &["y"], &[]).output("y").bytes()
            },
        ),
        Case::bounded(
            "heavy_foldings",
            "400 products of constants of 128 by 128, each on top of the last",
            chain(model().floats("x", &[128, 128], &[0.001; 1 << 14]), 400, |x, y| {
                node("MatMul", &[x, x], &[y], &[])
            })
            .bytes(),
            &["--limit-time"],
        ),
    ]
}

/// More of everything than anybody writes.
pub fn large_numbers() -> Vec<Case> {
    let one = |op: &'static str| move |x: &str, y: &str| node(op, &[x], &[y], &[]);
    let x = || model().input("x", &[8]);
    let input = || [("x", array(&[8], &[-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]))];
    let relu = array(&[8], &[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
    let same = input().map(|(_, x)| ("v100000", x));
    vec![
        Case::right(
            "chain_of_identities",
            "100,000 nodes that do nothing",
            chain(x(), 100_000, one("Identity")).bytes(),
            &input(),
            &same,
        ),
        Case::right(
            "chain_of_relus",
            "100,000 nodes that all but the first do nothing",
            chain(x(), 100_000, one("Relu")).bytes(),
            &input(),
            &[("v100000", relu.clone())],
        ),
        Case::right(
            "chain_of_negations",
            "100,000 nodes that each do something",
            chain(x(), 100_000, one("Neg")).bytes(),
            &input(),
            &same,
        ),
        Case::right(
            "chain_of_transposes",
            "20,000 transposes, each of which undoes the last",
            chain(model().input("x", &[2, 2]), 20_000, one("Transpose")).bytes(),
            &[("x", array(&[2, 2], &[1.0, 2.0, 3.0, 4.0]))],
            &[("v20000", array(&[2, 2], &[1.0, 2.0, 3.0, 4.0]))],
        ),
        Case::right(
            "chain_of_sums",
            "30,000 sums of a value with itself, which end at infinity",
            chain(x(), 30_000, |x, y| node("Add", &[x, x], &[y], &[])).bytes(),
            &input(),
            &[("v30000", {
                let inf = f32::INFINITY;
                array(&[8], &[-inf, -inf, -inf, -inf, 0.0, inf, inf, inf])
            })],
        ),
        Case::compiled(
            "chain_of_convolutions",
            "5,000 convolutions with one weight each",
            chain(model().input("x", &[1, 1, 2, 2]).floats("w", &[1, 1, 1, 1], &[0.5]), 5_000, |x, y| {
                node("Conv", &[x, "w"], &[y], &[])
            })
            .bytes(),
        ),
        Case::compiled(
            "chain_of_constants",
            "20,000 nodes that can be computed at once",
            chain(model().floats("x", &[8], &[1.0; 8]), 20_000, one("Neg")).bytes(),
        ),
        Case::bounded(
            "wide_concat",
            "5,000 parts put together by one node",
            {
                let mut model = x();
                let names: Vec<String> = (0..5_000).map(|n| format!("v{n}")).collect();
                model.graph().node = names.iter().map(|name| node("Neg", &["x"], &[name], &[])).collect();
                let parts: Vec<&str> = names.iter().map(String::as_str).collect();
                model.node("Concat", &parts, &["y"], &[int("axis", 0)]).output("y").bytes()
            },
            &["error: "],
        ),
        Case::bounded(
            "wide_reader",
            "an input that 20,000 nodes read, each in its own way",
            {
                let mut model = x();
                for n in 0..20_000 {
                    let before = if n == 0 { "x".to_string() } else { format!("s{}", n - 1) };
                    let (k, s) = (format!("k{n}"), format!("s{n}"));
                    model = model.floats(&k, &[1], &[n as f32]);
                    model.graph().node.extend([
                        node("Mul", &["x", &k], &[&format!("m{n}")], &[]),
                        node("Max", &[&before, &format!("m{n}")], &[&s], &[]),
                    ]);
                }
                model.output("s19999").bytes()
            },
            &["--limit-time"],
        )
        .flags(&["--limit-time", "15"]),
        Case::refused(
            "5000_outputs",
            "more outputs than anybody can take",
            {
                let mut model = x();
                for n in 0..5_000 {
                    let name = format!("v{n}");
                    model = model.node("Neg", &["x"], &[&name], &[]).output(&name);
                }
                model.bytes()
            },
            &["5000 outputs", "--limit-ports"],
        ),
        Case::refused(
            "5000_inputs",
            "more inputs than anybody can give",
            (0..5_000).fold(x(), |model, n| model.input(&format!("x{n}"), &[1])).output("x").bytes(),
            &["5001 inputs", "--limit-ports"],
        ),
        Case::refused(
            "empty_nodes",
            "2,000,000 nodes of nothing, in 4 MB",
            field(7, &field(1, &[]).repeat(2_000_000)),
            &["2000000 nodes", "--limit-nodes"],
        ),
        Case::refused(
            "empty_attributes",
            "10,000,000 attributes of nothing, which would take 4 GB once read",
            field(7, &field(1, &field(5, &[]).repeat(10_000_000))),
            &["parts", "--limit-parts"],
        ),
        Case::refused(
            "empty_names",
            "10,000,000 operands without names, in 20 MB",
            field(7, &field(1, &field(1, &[]).repeat(10_000_000))),
            &["parts", "--limit-parts"],
        ),
        Case::refused(
            "large_file",
            "a file of 2 MB where 1 MB is allowed",
            field(7, &vec![0; 2 << 20]),
            &["--limit-file", "1048576 (file_bytes)"],
        )
        .flags(&["--limit-file", "1M"]),
        Case::refused(
            "limited_nodes",
            "a node more than is allowed",
            chain(x(), 11, one("Relu")).bytes(),
            &["11 nodes", "10 (nodes)", "--limit-nodes"],
        )
        .flags(&["--limit-nodes", "10"]),
        Case::refused(
            "limited_weights",
            "two tensors that are small, but together larger than is allowed",
            model()
                .input("x", &[64])
                .floats("a", &[64], &[1.0; 64])
                .floats("b", &[64], &[2.0; 64])
                .node("Sum", &["x", "a", "b"], &["y"], &[])
                .output("y")
                .bytes(),
            &["512 bytes of constants", "--limit-weights"],
        )
        .flags(&["--limit-weights", "300"]),
        Case::refused(
            "limited_time",
            "20,000 nodes in no time at all",
            chain(x(), 20_000, one("Sin")).bytes(),
            &["0 (compile_time)", "--limit-time"],
        )
        .flags(&["--limit-time", "0"]),
    ]
}

/// Functions and subgraphs that call for more of themselves.
pub fn control_flow() -> Vec<Case> {
    let calls = |function: &str| {
        let mut model = model().input("x", &[2]).import("f", 1).output("y");
        model.graph().node.push(call(function, "x", "y"));
        model
    };
    let twice = |function: &str| vec![call(function, "x", "a"), call(function, "a", "y")];
    let mut doubling = calls("f40").function("f0", vec![node("Neg", &["x"], &["y"], &[])]);
    for level in 1..=40 {
        doubling = doubling.function(&format!("f{level}"), twice(&format!("f{}", level - 1)));
    }
    let mut deep = calls("f5000").function("f0", vec![node("Neg", &["x"], &["y"], &[])]);
    for level in 1..=5000 {
        deep = deep.function(&format!("f{level}"), vec![call(&format!("f{}", level - 1), "x", "y")]);
    }
    let body = |nodes: Vec<NodeProto>| GraphProto {
        name: "body".into(),
        input: vec![value_info("i", I64, &[]), value_info("go", BOOL, &[]), value_info("a", F32, &[2])],
        output: vec![value_info("go", BOOL, &[]), value_info("b", F32, &[2])],
        node: nodes,
        ..Default::default()
    };
    let looping = |trips: i64, body: GraphProto| {
        let mut count = tensor("n", I64, &[]);
        count.int64_data = vec![trips];
        let mut always = tensor("go", BOOL, &[]);
        always.int32_data = vec![1];
        model()
            .input("x", &[2])
            .tensor(count)
            .tensor(always)
            .node("Loop", &["n", "go", "x"], &["y"], &[graph("body", body)])
            .output("y")
    };
    let neg = || vec![node("Neg", &["a"], &["b"], &[])];
    let mut nested = body(neg());
    for _ in 0..6 {
        let inner = node("Loop", &["m", "go", "a"], &["b"], &[graph("body", nested)]);
        let mut thousand = tensor("m", I64, &[]);
        thousand.int64_data = vec![1000];
        nested = GraphProto { initializer: vec![thousand], ..body(vec![inner]) };
    }
    vec![
        Case::refused(
            "function_calls_itself",
            "a function that calls itself",
            calls("f").function("f", vec![call("f", "x", "y")]).bytes(),
            &["function"],
        ),
        Case::refused(
            "functions_call_each_other",
            "two functions that call each other",
            calls("f")
                .function("f", vec![call("g", "x", "y")])
                .function("g", vec![call("f", "x", "y")])
                .bytes(),
            &["function"],
        ),
        Case::refused(
            "functions_double",
            "functions that call the next twice, 40 levels deep: onnxruntime does not come to an end",
            doubling.bytes(),
            &["error: "],
        ),
        Case::bounded(
            "functions_5000_deep",
            "5,000 functions, each within the next",
            deep.bytes(),
            &["error: "],
        ),
        Case::refused(
            "function_undefined",
            "a call of a function that is not there",
            calls("nowhere").bytes(),
            &["nowhere"],
        ),
        Case::refused(
            "two_functions",
            "two functions of one name",
            calls("f").function("f", neg()).function("f", neg()).bytes(),
            &["function"],
        ),
        Case::refused(
            "loop_of_2_62",
            "a loop of 2^62 trips: onnxruntime does not come to an end",
            looping(1 << 62, body(neg())).bytes(),
            &["Loop"],
        ),
        Case::refused(
            "loops_of_loops",
            "loops of 1,000 trips, 7 levels deep",
            looping(1000, nested).bytes(),
            &["error: "],
        ),
        Case::bounded("loop_of_3", "a loop of 3 trips", looping(3, body(neg())).bytes(), &["Loop"]),
        Case::bounded("loop_of_minus_1", "a loop of -1 trips", looping(-1, body(neg())).bytes(), &["Loop"]),
        Case::refused(
            "loop_without_body",
            "a loop without a body",
            {
                let mut model = looping(1, body(neg()));
                model.graph().node[0].attribute.clear();
                model.bytes()
            },
            &["Loop"],
        ),
    ]
}
