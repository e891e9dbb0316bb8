//! Values whose size only the run knows.

use nnc_ir::onnx::Bindings;
use nnc_ir::{Tensor, eval};

use crate::build::{BOOL, F32, I64, Onnx, f32s, int, iota, onnx, typed};

/// The positions of what is not zero, on their way through some nodes to the output `y`.
fn non_zero(nodes: &[(&str, &[&str], &str)]) -> Onnx {
    let mut model = onnx(13).input("x", &["2", "3"]).ints("zero", &[0]).ints("one", &[1]).output("y");
    model = model.node("NonZero", &["x"], &["n"], &[]);
    for (op, inputs, output) in nodes {
        let attributes = match *op {
            "Cast" => vec![int("to", F32.into())],
            "Gather" | "Concat" => vec![int("axis", 0)],
            _ => vec![],
        };
        model = model.node(op, inputs, &[output], &attributes);
    }
    model
}

/// Not zero at [0, 1] and [1, 2].
fn x() -> Tensor {
    Tensor::new([2, 3], &[0.0f32, 4.0, 0.0, 0.0, 0.0, 5.0]).unwrap()
}

fn ints_of(t: &Tensor) -> (String, Vec<i64>) {
    (t.shape().to_string(), t.elems::<i64>().unwrap().into_owned())
}

#[test]
fn an_output_has_as_many_elements_as_there_are() {
    let y = non_zero(&[("Identity", &["n"], "y")]).run([x()]);
    assert_eq!(ints_of(&y), ("2x2".into(), vec![0, 1, 1, 2]));
    let y = non_zero(&[("Transpose", &["n"], "y")]).run([x()]);
    assert_eq!(ints_of(&y), ("2x2".into(), vec![0, 1, 1, 2]));
    let y = non_zero(&[("Transpose", &["n"], "y")]).run([iota(&[2, 3])]);
    assert_eq!(ints_of(&y), ("5x2".into(), vec![0, 1, 0, 2, 1, 0, 1, 1, 1, 2]));
}

#[test]
fn operators_on_single_elements_hand_the_size_on() {
    let y = non_zero(&[("Transpose", &["n"], "t"), ("GatherND", &["x", "t"], "y")]).run([x()]);
    assert_eq!(f32s(&y), [4.0, 5.0]);
    let y = non_zero(&[
        ("Gather", &["n", "one"], "column"),
        ("Squeeze", &["column", "zero"], "flat"),
        ("Cast", &["flat"], "floats"),
        ("Neg", &["floats"], "y"),
    ])
    .run([x()]);
    assert_eq!(f32s(&y), [-1.0, -2.0]);
    let y = non_zero(&[("Gather", &["n", "zero"], "row"), ("Add", &["row", "n"], "y")]).run([x()]);
    assert_eq!(ints_of(&y), ("2x2".into(), vec![0, 2, 1, 3]));
}

#[test]
fn operators_that_would_compute_with_what_is_not_there_are_refused() {
    for nodes in [
        &[("Cast", &["n"][..], "c"), ("RandomNormalLike", &["c"], "y")][..],
        &[("Cast", &["n"], "c"), ("RandomUniformLike", &["c"], "y")],
    ] {
        let error = non_zero(nodes).error();
        assert!(error.contains("only the run knows"), "{error}");
    }
    let error = non_zero(&[("RandomNormalLike", &["n"], "y")]).error();
    assert!(error.contains("axis 1 of i64[2x6]"), "{error}");
    assert!(error.contains("let the result of node \"n\" be an output"), "{error}");
}

#[test]
fn a_number_of_which_nothing_is_known_decides_no_size() {
    const I32: i32 = 6;
    let model = onnx(13)
        .input_of("n", I32, &[])
        .input_of("start", I32, &[])
        .input_of("step", I32, &[])
        .output("y")
        .node("Range", &["start", "n", "step"], &["y"], &[]);
    assert!(model.error().contains("must be known at compile time"), "{}", model.error());
    let model = onnx(13).input("x", &["3"]).input_of("n", I64, &["1"]).ints("zero", &[0]).output("y").node(
        "Slice",
        &["x", "zero", "n"],
        &["y"],
        &[],
    );
    assert!(model.error().contains("Bindings::constants[\"n\"]"), "{}", model.error());
}

#[test]
fn a_tensor_that_is_all_there_is_no_partner_of_one_that_is_not() {
    let model = onnx(13)
        .input("x", &["6"])
        .input_of("c", BOOL, &["6"])
        .output("y")
        .node("Compress", &["x", "c"], &["some"], &[int("axis", 0)])
        .node("Add", &["some", "x"], &["y"], &[]);
    assert!(model.error().contains("only the run knows"), "{}", model.error());
}

#[test]
fn what_may_not_be_there_is_not_repeated() {
    let model = onnx(13)
        .input("x", &["1"])
        .input_of("c", BOOL, &["1"])
        .input("z", &["3"])
        .output("y")
        .node("Compress", &["x", "c"], &["some"], &[int("axis", 0)])
        .node("Add", &["some", "z"], &["y"], &[]);
    assert!(model.error().contains("only the run knows"), "{}", model.error());
}

#[test]
fn an_output_has_as_much_as_there_is_along_each_axis() {
    let graph = onnx(13)
        .input("x", &["4"])
        .input_of("c", BOOL, &["4"])
        .input("z", &["3"])
        .input_of("d", BOOL, &["3"])
        .ints("zero", &[0])
        .ints("one", &[1])
        .output("y")
        .node("Compress", &["x", "c"], &["some"], &[int("axis", 0)])
        .node("Compress", &["z", "d"], &["others"], &[int("axis", 0)])
        .node("Unsqueeze", &["some", "one"], &["column"], &[])
        .node("Unsqueeze", &["others", "zero"], &["row"], &[])
        .node("Mul", &["column", "row"], &["y"], &[])
        .graph();
    let (x, z) = ([1.0f32, 2.0, 3.0, 4.0], [10.0f32, 100.0, 1000.0]);
    for (c, d) in [
        ([true, false, true, true], [false, true, true]),
        ([true; 4], [true; 3]),
        ([false; 4], [true, false, false]),
        ([false, true, false, false], [false; 3]),
    ] {
        let inputs = [
            Tensor::new([4], &x).unwrap(),
            Tensor::bools([4], &c).unwrap(),
            Tensor::new([3], &z).unwrap(),
            Tensor::bools([3], &d).unwrap(),
        ];
        let y = eval::run(&graph, &inputs).unwrap().remove(0);
        let chosen = |all: &[f32], which: &[bool]| -> Vec<f32> {
            all.iter().zip(which).filter(|(_, is)| **is).map(|(v, _)| *v).collect()
        };
        let (some, others) = (chosen(&x, &c), chosen(&z, &d));
        let expected: Vec<f32> = some.iter().flat_map(|a| others.iter().map(move |b| a * b)).collect();
        assert_eq!((y.shape().to_vec(), f32s(&y)), (vec![some.len(), others.len()], expected));
    }
}

/// The chosen of six numbers in parts.
fn parts(given: &[&str], outputs: &[&str]) -> Onnx {
    let mut model = onnx(13)
        .input("x", &["6"])
        .input_of("c", BOOL, &["6"])
        .ints("one_three", &[1, 3])
        .ints("many", &[4, 3]);
    for output in outputs {
        model = model.output(output);
    }
    let inputs = [&["some"], given].concat();
    model.node("Compress", &["x", "c"], &["some"], &[int("axis", 0)]).node(
        "Split",
        &inputs,
        outputs,
        &[int("axis", 0)],
    )
}

#[test]
fn parts_that_do_not_come_to_what_is_there_are_an_error_of_the_run() {
    let chosen = |count: usize| {
        let c: Vec<bool> = (0..6).map(|i| i < count).collect();
        [iota(&[6]), Tensor::bools([6], &c).unwrap()]
    };
    for (given, whole) in [(&["one_three"][..], &[4][..]), (&[], &[0, 2, 4, 6])] {
        let graph = parts(given, &["y", "z"]).graph();
        for count in 0..=6 {
            let found = eval::run(&graph, &chosen(count));
            assert_eq!(found.is_ok(), whole.contains(&count), "{count} in parts {given:?}");
            if let (Err(error), [4]) = (&found, whole) {
                let (last, all) = if count < 4 { (3, count) } else { (count - 1, 4) };
                let text = format!("index {last} lies outside of axis 0, which has {all} elements");
                assert!(error.to_string().contains(&text), "{error}");
            }
            if let Ok(found) = found {
                let all: Vec<f32> = found.iter().flat_map(f32s).collect();
                assert_eq!(all, f32s(&iota(&[count])));
            }
        }
    }
}

#[test]
fn parts_that_can_never_be_are_refused() {
    let error = parts(&["many"], &["y", "z"]).error();
    assert!(error.contains("node \"y\" (Split"), "{error}");
    assert!(error.contains("parts that come to 7 elements do not split axis 0 of f32[6]"), "{error}");
    let error = parts(&["one_three"], &["y", "z", "w"]).error();
    assert!(error.contains("has 2 parts for 3 outputs"), "{error}");
}

#[test]
fn a_known_condition_is_a_gather() {
    let model =
        typed(11, "Compress", &[("x", F32, &["3", "2"]), ("c", BOOL, &["3"])], &["y"], &[int("axis", 0)]);
    let condition = Tensor::bools([3], &[true, false, true]).unwrap();
    let y = model.run([iota(&[3, 2]), condition.clone()]);
    assert_eq!((y.shape().to_string(), f32s(&y)), ("2x2".into(), vec![0.0, 1.0, 4.0, 5.0]));
    let mut bindings = Bindings::new();
    bindings.constants.insert("c".into(), condition);
    let graph = model.graph_with(&bindings).unwrap();
    assert_eq!(graph.node(graph.outputs()[0].1.node).op.name(), "Gather");
    assert_eq!(eval::run(&graph, &[iota(&[3, 2])]).unwrap().remove(0), y);
}

#[test]
fn positions_in_a_known_tensor_are_known() {
    let model = onnx(13)
        .input("x", &["4"])
        .floats("known", &[4], &[0.0, 1.0, 0.0, 2.0])
        .ints("zero", &[0])
        .output("y")
        .node("NonZero", &["known"], &["n"], &[])
        .node("Squeeze", &["n", "zero"], &["i"], &[])
        .node("Gather", &["x", "i"], &["y"], &[]);
    assert_eq!(model.ty().to_string(), "f32[2]");
    assert_eq!(f32s(&model.run([iota(&[4])])), [1.0, 3.0]);
}

#[test]
fn boxes_are_selected_up_to_a_known_number() {
    let model = |most: &[i64]| {
        onnx(11)
            .input("boxes", &["1", "6", "4"])
            .input("scores", &["1", "2", "6"])
            .ints("most", most)
            .output("y")
            .node("NonMaxSuppression", &["boxes", "scores", "most"], &["y"], &[])
    };
    assert_eq!(model(&[3]).ty().to_string(), "i64[6x3]");
    assert_eq!(model(&[i64::MAX]).ty().to_string(), "i64[12x3]");
    assert_eq!(model(&[-1]).ty().to_string(), "i64[0x3]");
    assert!(model(&[1, 2]).error().contains("one number"));
}

#[test]
fn each_result_of_unique_has_its_own_size() {
    let model = |output: &str| {
        let mut model = onnx(11).input("x", &["6"]).output(output);
        model = model.node("Unique", &["x"], &["y", "first", "inverse", "counts"], &[int("sorted", 1)]);
        model.run([Tensor::new([6], &[2.0f32, 1.0, 1.0, 3.0, 4.0, 3.0]).unwrap()])
    };
    assert_eq!(f32s(&model("y")), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(ints_of(&model("first")).1, [1, 0, 3, 4]);
    assert_eq!(ints_of(&model("inverse")).1, [1, 0, 0, 2, 3, 2]);
    assert_eq!(ints_of(&model("counts")).1, [2, 1, 2, 1]);
}
