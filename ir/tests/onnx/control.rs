//! If, Loop, Scan, sequences and optional values.

use nnc_ir::Tensor;
use nnc_ir::onnx::Bindings;
use onnx_protobuf::TensorProto;

use crate::build::{BOOL, I64, Onnx, f32s, graph, int, iota, onnx, tensor, value_info};

fn flag(value: bool) -> Tensor {
    Tensor::bools([], &[value]).unwrap()
}

/// `y = x + 10` or, from a branch that reads `x` from outside, `−x`.
fn branches() -> Onnx {
    let then = onnx(13).floats("ten", &[], &[10.0]).output("t").node("Add", &["x", "ten"], &["t"], &[]);
    let otherwise = onnx(13).output("e").node("Neg", &["x"], &["e"], &[]);
    onnx(13).input_of("c", 9, &[]).input("x", &["2"]).output("y").node(
        "If",
        &["c"],
        &["y"],
        &[graph("then_branch", then), graph("else_branch", otherwise)],
    )
}

#[test]
fn a_condition_at_run_time_chooses_among_both_branches() {
    let model = branches();
    let x = iota(&[2]);
    assert_eq!(f32s(&model.run([flag(true), x.clone()])), [10.0, 11.0]);
    assert_eq!(f32s(&model.run([flag(false), x])), [0.0, -1.0]);
}

#[test]
fn a_condition_that_is_bound_leaves_one_branch() {
    let mut bindings = Bindings::new();
    bindings.constants.insert("c".into(), flag(false));
    assert_eq!(branches().graph_with(&bindings).unwrap().len(), 2);
}

#[test]
fn branches_of_different_sizes_make_as_much_as_the_one_that_is_taken() {
    let then = onnx(13).floats("t", &[1], &[10.0]).output("t");
    let otherwise = onnx(13).floats("e", &[3], &[10.0, 11.0, 12.0]).output("e");
    let branches = [graph("then_branch", then), graph("else_branch", otherwise)];
    let model = onnx(13).input_of("c", 9, &[]).output("y").node("If", &["c"], &["y"], &branches);
    assert_eq!(f32s(&model.run([flag(true)])), [10.0]);
    assert_eq!(f32s(&model.run([flag(false)])), [10.0, 11.0, 12.0]);
}

#[test]
fn branches_of_different_ranks_ask_for_the_condition() {
    let then = onnx(13).floats("t", &[1], &[10.0]).output("t");
    let otherwise = onnx(13).floats("e", &[1, 2], &[10.0, 11.0]).output("e");
    let branches = [graph("then_branch", then), graph("else_branch", otherwise)];
    let error = onnx(13).input_of("c", 9, &[]).output("y").node("If", &["c"], &["y"], &branches).error();
    assert!(error.contains("is f32[1] or f32[1x2] as cond says"), "{error}");
    assert!(error.ends_with("known at compile time: Bindings::constants[\"c\"]"), "{error}");
}

/// The end of a detector asks first whether there is anything.
#[test]
fn a_branch_for_no_rows_may_be_of_another_size() {
    let none = onnx(13).floats("none", &[0, 2], &[]).output("none");
    let some = onnx(13).ints("two", &[2]).output("first");
    let some = some.node("Slice", &["rows", "zeros", "two", "zeros"], &["first"], &[]);
    let branches = [graph("then_branch", none), graph("else_branch", some)];
    let model = onnx(13)
        .input("x", &["4", "2"])
        .input_of("chosen", 9, &["4"])
        .ints("zeros", &[0])
        .output("y")
        .node("Compress", &["x", "chosen"], &["rows"], &[int("axis", 0)])
        .node("Size", &["rows"], &["size"], &[])
        .node("Equal", &["size", "zeros"], &["empty"], &[])
        .node("If", &["empty"], &["y"], &branches);
    for (chosen, expected) in [
        ([false, false, false, false], &[][..]),
        ([false, true, false, false], &[2.0, 3.0]),
        ([true, true, false, true], &[0.0, 1.0, 2.0, 3.0]),
    ] {
        let y = model.run([iota(&[4, 2]), Tensor::bools([4], &chosen).unwrap()]);
        assert_eq!((y.shape()[0], &f32s(&y)[..]), (expected.len() / 2, expected));
    }
}

#[test]
fn branches_have_as_many_outputs_as_each_other_and_as_the_node() {
    let branch = |count: usize| {
        let names = ["p", "q", "r"];
        names[..count].iter().fold(onnx(13), |model, name| model.floats(name, &[1], &[1.0]).output(name))
    };
    let model = |then, otherwise, outputs: &[&str], taken: Option<bool>| {
        let model = onnx(13).output("y");
        let model = match taken {
            None => model.input_of("c", BOOL, &[]),
            Some(taken) => {
                let c = TensorProto { data_type: BOOL, int32_data: vec![taken.into()], ..Default::default() };
                model.node("Constant", &[], &["c"], &[tensor("value", c)])
            }
        };
        let branches = [graph("then_branch", branch(then)), graph("else_branch", branch(otherwise))];
        model.node("If", &["c"], outputs, &branches)
    };
    for taken in [None, Some(true), Some(false)] {
        let error = model(1, 2, &["y"], taken).error();
        assert!(error.ends_with("its branches have 1 and 2 outputs, they must have as many"), "{error}");
        let error = model(1, 1, &["y", "z"], taken).error();
        assert!(error.ends_with("has 2 outputs, the operator has 1"), "{error}");
        let error = model(2, 2, &["y"], taken).error();
        assert!(error.ends_with("has 1 outputs, but its branches have 2; they must have as many"), "{error}");
        assert_eq!(model(2, 2, &["y", "z"], taken).ty().to_string(), "f32[1]");
    }
    let mut takes = branch(1).input("i", &[]);
    takes.graph_mut().name = "then".into();
    let branches = [graph("then_branch", takes), graph("else_branch", branch(1))];
    let error = onnx(13).input_of("c", BOOL, &[]).output("y").node("If", &["c"], &["y"], &branches).error();
    assert!(error.ends_with("a branch has the input \"i\", but branches take none"), "{error}");
}

#[test]
fn a_loop_that_counts_otherwise_than_it_declares_is_refused() {
    // The body takes its counter for a row of one number: ten of them would be [10, 1], not [10].
    let body = onnx(13)
        .input_of("i", I64, &["1"])
        .input_of("going", BOOL, &[])
        .output("going")
        .output("part")
        .node("Identity", &["i"], &["part"], &[]);
    let mut model = onnx(13).ints("M", &[10]).node("Loop", &["M", ""], &["all"], &[graph("body", body)]);
    model.graph_mut().output.push(value_info("all", I64, Some(&["10", "1"])));
    let error = model.error();
    assert!(error.contains("is declared as i64[10, 1], but its node makes i64[10]"), "{error}");
}

/// `trips` times `s = s + x`, with each `s` as a scan output.
fn summing(trips: i64) -> Onnx {
    let body = onnx(13)
        .input("i", &[])
        .input("going", &[])
        .input("s", &["2"])
        .output("going")
        .output("t")
        .output("t")
        .node("Add", &["s", "x"], &["t"], &[]);
    onnx(13).ints("M", &[trips]).input("x", &["2"]).output("y").output("all").node(
        "Loop",
        &["M", "", "x"],
        &["y", "all"],
        &[graph("body", body)],
    )
}

#[test]
fn a_loop_stays_a_loop_however_long_it_is() {
    let graph = summing(3).graph();
    let results = nnc_ir::eval::run(&graph, &[iota(&[2])]).unwrap();
    assert_eq!(f32s(&results[0]), [0.0, 4.0]);
    assert_eq!(results[1].ty().to_string(), "f32[3x2]");
    assert_eq!(f32s(&results[1]), [0.0, 2.0, 0.0, 3.0, 0.0, 4.0]);
    assert_eq!(summing(1 << 17).graph().len(), graph.len());
}

#[test]
fn a_loop_that_never_comes_to_its_end_is_refused() {
    for trips in [1 << 40, 1 << 62, i64::MAX] {
        let error = summing(trips).error();
        assert!(error.contains("a loop must have fewer iterations"), "{error}");
    }
}

/// `trips` times `s = [s, x]`, which is longer each time.
fn growing(trips: i64) -> Onnx {
    let body = onnx(13)
        .input("i", &[])
        .input("going", &[])
        .input("s", &["n"])
        .output("going")
        .output("t")
        .node("Concat", &["s", "x"], &["t"], &[int("axis", 0)]);
    onnx(13).ints("M", &[trips]).input("x", &["2"]).output("y").node(
        "Loop",
        &["M", "", "x"],
        &["y"],
        &[graph("body", body)],
    )
}

#[test]
fn a_loop_whose_values_grow_is_written_out() {
    assert_eq!(f32s(&growing(2).run([iota(&[2])])), [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    let error = growing(1 << 17).error();
    assert!(error.contains("a loop must have fewer iterations"), "{error}");
}

#[test]
fn no_iteration_leaves_the_first_values_and_empty_scan_outputs() {
    let results = nnc_ir::eval::run(&summing(0).graph(), &[iota(&[2])]).unwrap();
    assert_eq!(f32s(&results[0]), [0.0, 1.0]);
    assert_eq!(results[1].ty().to_string(), "f32[0x2]");
    assert_eq!(f32s(&growing(0).run([iota(&[2])])), [0.0, 1.0]);
    // Nor does it have to be known what the scan outputs would be, if nobody reads them.
    let body = onnx(13)
        .input("i", &[])
        .input("going", &[])
        .input("s", &["n"])
        .output("going")
        .output("s")
        .output("part")
        .node("Slice", &["x", "i", "i"], &["part"], &[]);
    let model = onnx(13).ints("M", &[0]).input("x", &["2"]).output("y").node(
        "Loop",
        &["M", "", "x"],
        &["y", "parts"],
        &[graph("body", body)],
    );
    assert_eq!(f32s(&model.run([iota(&[2])])), [0.0, 1.0]);
}

#[test]
fn a_loop_ends_when_its_condition_does() {
    // Without a number of trips: goes on while i < 3.
    let body = onnx(13)
        .input("i", &[])
        .input("going", &[])
        .ints("three", &[3])
        .ints("one", &[1])
        .output("next")
        .output("j")
        .node("Add", &["i", "one"], &["j"], &[])
        .node("Less", &["j", "three"], &["next"], &[]);
    let model = onnx(13).output("y").node("Loop", &["", ""], &["y"], &[graph("body", body)]);
    let y = model.run([]);
    assert_eq!(y.elems::<i64>().unwrap()[..], [1, 2, 3]);
}

/// Doubles `x` while it is below 10: at most `M` times, if that is given, and not at all unless `go`. Shows each value before.
fn doubling(trips: Option<i64>, shown: bool) -> Onnx {
    let body = onnx(13)
        .input("i", &[])
        .input("going", &[])
        .input("s", &[])
        .output("next")
        .output("t")
        .floats("ten", &[], &[10.0])
        .node("Add", &["s", "s"], &["t"], &[])
        .node("Less", &["t", "ten"], &["next"], &[]);
    let (body, results) = if shown { (body.output("s"), &["y", "all"][..]) } else { (body, &["y"][..]) };
    let model = onnx(13).input("x", &[]).input_of("go", 9, &[]);
    let model = results.iter().fold(model, |model, name| model.output(name));
    let bound = if trips.is_some() { "M" } else { "" };
    let model = trips.iter().fold(model, |model, &trips| model.ints("M", &[trips]));
    model.node("Loop", &[bound, "go", "x"], results, &[graph("body", body)])
}

#[test]
fn a_loop_may_end_by_its_data_below_its_bound() {
    let run = |model: &Onnx, x: f32, go: bool| {
        let inputs = [Tensor::new([], &[x]).unwrap(), flag(go)];
        nnc_ir::eval::run(&model.graph(), &inputs).unwrap()
    };
    for shown in [false, true] {
        let model = doubling(Some(3), shown);
        for (x, go, y, values) in [
            (3.0, false, 3.0, &[][..]),
            (5.0, true, 10.0, &[5.0]),
            (3.0, true, 12.0, &[3.0, 6.0]),
            (1.0, true, 8.0, &[1.0, 2.0, 4.0]),
        ] {
            let results = run(&model, x, go);
            assert_eq!(f32s(&results[0]), [y], "{x}");
            if shown {
                assert_eq!(f32s(&results[1]), values, "{x}");
            }
        }
    }
    assert_eq!(f32s(&run(&doubling(None, false), 0.001, true)[0]), [16.384]);
    assert!(doubling(None, true).error().contains("M is missing"), "{}", doubling(None, true).error());
}

#[test]
fn a_number_of_iterations_may_come_from_data() {
    let body = onnx(13).input("i", &[]).input("going", &[]).input("s", &[]).output("going").output("t").node(
        "Add",
        &["s", "s"],
        &["t"],
        &[],
    );
    let model = onnx(13).input("x", &[]).input_of("M", 7, &["1"]).output("y").node(
        "Loop",
        &["M", "", "x"],
        &["y"],
        &[graph("body", body)],
    );
    for (trips, y) in [(-1i64, 3f32), (0, 3.0), (1, 6.0), (4, 48.0)] {
        let inputs = [Tensor::new([], &[3f32]).unwrap(), Tensor::new([1], &[trips]).unwrap()];
        assert_eq!(f32s(&model.run(&inputs)), [y]);
    }
}

#[test]
fn what_a_body_must_know_is_said_in_names_of_the_models_inputs() {
    let body = onnx(13)
        .input("i", &[])
        .input("going", &[])
        .output("going")
        .output("part")
        .ints("one", &[1])
        .node("Reshape", &["i", "one"], &["start"], &[])
        .node("Add", &["start", "one"], &["end"], &[])
        .node("Slice", &["x", "start", "end"], &["part"], &[]);
    let model = onnx(13).input("x", &["4"]).input_of("trips", 7, &[]).output("y").node(
        "Loop",
        &["trips", ""],
        &["y"],
        &[graph("body", body)],
    );
    let error = model.error();
    assert!(error.contains("in its node \"part\" (Slice): operand 1 (starts)"), "{error}");
    assert!(error.contains("Bindings::constants[\"trips\"]"), "{error}");
}

#[test]
fn bodies_read_what_is_around_all_of_them() {
    // y = x · (1 + w + 2), with an If in a Loop in a Loop, that read from each of the graphs around.
    let then = onnx(13).output("b").node("Mul", &["x", "w"], &["b"], &[]);
    let otherwise = onnx(13).output("b").node("Identity", &["t"], &["b"], &[]);
    let inner = onnx(13)
        .input("i", &[])
        .input("going", &[])
        .input("u", &["2"])
        .output("going")
        .output("v")
        .node("If", &["c"], &["b"], &[graph("then_branch", then), graph("else_branch", otherwise)])
        .node("Add", &["u", "b"], &["v"], &[]);
    let outer = onnx(13)
        .input("i", &[])
        .input("going", &[])
        .input("s", &["2"])
        .output("going")
        .output("r")
        .node("Add", &["s", "x"], &["t"], &[])
        .node("Loop", &["two", "", "t"], &["r"], &[graph("body", inner)]);
    let model = onnx(13)
        .ints("two", &[2])
        .floats("w", &[], &[7.0])
        .input_of("c", 9, &[])
        .input("x", &["2"])
        .output("y")
        .node("Loop", &["two", "", "x"], &["y"], &[graph("body", outer)]);
    // t = s + x, then twice u += 7 x, or u += t.
    assert_eq!(f32s(&model.run([flag(true), iota(&[2])])), [0.0, 1.0 + 2.0 * 15.0]);
    assert_eq!(f32s(&model.run([flag(false), iota(&[2])])), [0.0, ((1.0 + 1.0) * 3.0 + 1.0) * 3.0]);
    // Only what is read is an operand.
    let text = nnc_ir::text::print(&model.graph());
    assert!(text.contains("%y = loop %x, %x, %c {trips=2, states=1} body {"), "{text}");
}

#[test]
fn an_error_inside_of_a_body_names_its_node() {
    let body = onnx(13).input("i", &[]).input("going", &[]).output("going").output("t").node(
        "Add",
        &["x", "nowhere"],
        &["t"],
        &[],
    );
    let model = onnx(13).ints("M", &[2]).input("x", &["2"]).output("y").node(
        "Loop",
        &["M", ""],
        &["y"],
        &[graph("body", body)],
    );
    assert!(model.error().contains("reads \"nowhere\""), "{}", model.error());
    let body = onnx(13).input("i", &[]).input("going", &[]).output("going").output("t").node(
        "Strange",
        &["x"],
        &["t"],
        &[],
    );
    let model = onnx(13).ints("M", &[2]).input("x", &["2"]).output("y").node(
        "Loop",
        &["M", ""],
        &["y"],
        &[graph("body", body)],
    );
    assert!(model.error().contains("Strange of opset 13"), "{}", model.error());
}

#[test]
fn a_scan_walks_over_slices_in_both_directions() {
    let body = onnx(13).input("s", &[]).input("slice", &[]).output("t").output("t").node(
        "Add",
        &["s", "slice"],
        &["t"],
        &[],
    );
    let scan = |direction: i64| {
        onnx(13).floats("zero", &[], &[0.0]).input("x", &["3"]).output("all").node(
            "Scan",
            &["zero", "x"],
            &["y", "all"],
            &[
                graph("body", body.clone()),
                int("num_scan_inputs", 1),
                crate::build::ints("scan_input_directions", &[direction]),
                crate::build::ints("scan_output_directions", &[direction]),
            ],
        )
    };
    let x = [Tensor::new([3], &[1f32, 10.0, 100.0]).unwrap()];
    assert_eq!(f32s(&scan(0).run(&x)), [1.0, 11.0, 111.0]);
    assert_eq!(f32s(&scan(1).run(&x)), [111.0, 110.0, 100.0]);
}

#[test]
fn sequences_leave_no_trace() {
    let model = onnx(13)
        .input("x", &["4"])
        .ints("last", &[-1])
        .output("y")
        .node("SplitToSequence", &["x"], &["s"], &[])
        .node("SequenceErase", &["s", "last"], &["t"], &[])
        .node("SequenceInsert", &["t", "x", "last"], &["u"], &[])
        .node("SequenceAt", &["u", "last"], &["a"], &[])
        .node("SequenceConstruct", &["a", "x"], &["v"], &[])
        .node("ConcatFromSequence", &["v"], &["y"], &[int("axis", 0)]);
    assert_eq!(f32s(&model.run([iota(&[4])])), [2.0, 0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn a_sequence_is_no_output_and_no_operand() {
    let model = onnx(13).input("x", &["4"]).output("s").node("SequenceConstruct", &["x"], &["s"], &[]);
    assert!(model.error().contains("output \"s\": is a sequence"), "{}", model.error());
    let model = onnx(13).input("x", &["4"]).output("y").node("SequenceConstruct", &["x"], &["s"], &[]).node(
        "Relu",
        &["s"],
        &["y"],
        &[],
    );
    assert!(model.error().contains("operand 0 (\"s\") is a sequence"), "{}", model.error());
}

#[test]
fn a_scan_of_opset_8_goes_over_each_element_of_a_batch() {
    let body = onnx(8).input("s", &[]).input("slice", &[]).output("t").output("t").node(
        "Add",
        &["s", "slice"],
        &["t"],
        &[],
    );
    let scan = |direction: i64| {
        onnx(8).input("s0", &["2"]).input("x", &["2", "3"]).output("all").output("last").node(
            "Scan",
            &["", "s0", "x"],
            &["last", "all"],
            &[
                graph("body", body.clone()),
                int("num_scan_inputs", 1),
                crate::build::ints("directions", &[direction]),
            ],
        )
    };
    let inputs = [
        Tensor::new([2], &[0f32, 1000.0]).unwrap(),
        Tensor::new([2, 3], &[1f32, 10.0, 100.0, 2.0, 20.0, 200.0]).unwrap(),
    ];
    let run = |direction| nnc_ir::eval::run(&scan(direction).graph(), &inputs).unwrap();
    let forward = run(0);
    assert_eq!(f32s(&forward[0]), [1.0, 11.0, 111.0, 1002.0, 1022.0, 1222.0]);
    assert_eq!(f32s(&forward[1]), [111.0, 1222.0]);
    assert_eq!(forward[0].ty().to_string(), "f32[2x3]");
    assert_eq!(f32s(&run(1)[0]), [100.0, 110.0, 111.0, 1200.0, 1220.0, 1222.0]);
}

#[test]
fn a_scan_may_go_along_any_axis() {
    let body =
        onnx(13).input("a", &["2"]).input("b", &["2"]).output("t").node("Sub", &["a", "b"], &["t"], &[]);
    let model = onnx(13).input("a", &["3", "2"]).input("b", &["2", "3"]).output("y").node(
        "Scan",
        &["a", "b"],
        &["y"],
        &[
            graph("body", body),
            int("num_scan_inputs", 2),
            crate::build::ints("scan_input_axes", &[0, -1]),
            crate::build::ints("scan_input_directions", &[0, 1]),
            crate::build::ints("scan_output_axes", &[1]),
        ],
    );
    let (a, b) = (iota(&[3, 2]), iota(&[2, 3]));
    // y[:, t] = a[t] − b[:, 2 − t]
    let y = model.run([a, b]);
    assert_eq!(y.ty().to_string(), "f32[2x3]");
    assert_eq!(f32s(&y), [-2.0, 1.0, 4.0, -4.0, -1.0, 2.0]);
}

/// Sums along the steps: `h = relu(x + h)`, of two sequences of one element.
fn sums(steps: usize, direction: &str, lens: Option<&[i64]>) -> Onnx {
    let model = onnx(14)
        .input("x", &[&steps.to_string(), "2", "1"])
        .floats("w", &[1, 1, 1], &[1.0])
        .floats("r", &[1, 1, 1], &[1.0])
        .output("y")
        .output("last");
    let model = match lens {
        Some(lens) => model.ints("lens64", lens).node("Cast", &["lens64"], &["lens"], &[int("to", 6)]),
        None => model,
    };
    let lens = if lens.is_some() { "lens" } else { "" };
    model.node(
        "RNN",
        &["x", "w", "r", "", lens],
        &["y", "last"],
        &[
            int("hidden_size", 1),
            crate::build::string("direction", direction),
            crate::build::strings("activations", &["Relu"]),
        ],
    )
}

#[test]
fn a_recurrent_layer_has_one_step_however_many_there_are() {
    assert_eq!(sums(3, "forward", None).graph().len(), sums(100_000, "forward", None).graph().len());
}

#[test]
fn sequences_that_are_over_keep_their_state_and_show_zeros() {
    let x = Tensor::new([3, 2, 1], &[1f32, 2.0, 10.0, 20.0, 100.0, 200.0]).unwrap();
    let run = |direction: &str, lens: Option<&[i64]>| {
        let results = nnc_ir::eval::run(&sums(3, direction, lens).graph(), std::slice::from_ref(&x)).unwrap();
        (f32s(&results[0]), f32s(&results[1]))
    };
    let whole = (vec![1.0, 2.0, 11.0, 22.0, 111.0, 222.0], vec![111.0, 222.0]);
    assert_eq!(run("forward", None), whole);
    assert_eq!(run("forward", Some(&[3, 3])), whole);
    assert_eq!(run("forward", Some(&[2, 0])), (vec![1.0, 0.0, 11.0, 0.0, 0.0, 0.0], vec![11.0, 0.0]));
    assert_eq!(run("reverse", None).0, [111.0, 222.0, 110.0, 220.0, 100.0, 200.0]);
    assert_eq!(
        run("reverse", Some(&[2, 3])),
        (vec![11.0, 222.0, 10.0, 220.0, 0.0, 200.0], vec![11.0, 222.0])
    );
    let error = sums(3, "forward", Some(&[4, 1])).error();
    assert!(error.contains("sequence_lens has 4, X has 3 steps"), "{error}");
}
