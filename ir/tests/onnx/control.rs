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
    assert!(error.ends_with("known at compile time: --const c=FILE.npy"), "{error}");
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
fn a_loop_is_written_out() {
    let graph = summing(3).graph();
    let results = nnc_ir::eval::run(&graph, &[iota(&[2])]).unwrap();
    assert_eq!(f32s(&results[0]), [0.0, 4.0]);
    assert_eq!(results[1].ty().to_string(), "f32[3x2]");
    assert_eq!(f32s(&results[1]), [0.0, 2.0, 0.0, 3.0, 0.0, 4.0]);
}

#[test]
fn a_loop_of_too_many_iterations_is_refused() {
    for trips in [1 << 17, 1 << 62, i64::MAX] {
        let error = summing(trips).error();
        assert!(error.contains("a loop must have fewer iterations"), "{error}");
    }
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

#[test]
fn a_loop_that_only_its_data_end_is_refused() {
    let body = onnx(13)
        .input("i", &[])
        .input("going", &[])
        .input("s", &[])
        .output("next")
        .output("s")
        .floats("ten", &[], &[10.0])
        .node("Less", &["s", "ten"], &["next"], &[]);
    let model = onnx(13).ints("M", &[5]).input("x", &[]).output("y").node(
        "Loop",
        &["M", "", "x"],
        &["y"],
        &[graph("body", body)],
    );
    let error = model.error();
    assert!(error.contains("whether it goes on after iteration 0 is only known at run time"), "{error}");
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
