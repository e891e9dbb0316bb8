//! Where a graph begins and ends; numbers that are none.

use nnc_ir::Tensor;
use onnx_protobuf::ValueInfoProto;

use crate::case::Case;
use crate::model::*;

/// Inputs and outputs of the graph.
pub fn graph_ends() -> Vec<Case> {
    let x = || ("x", array(&[2], &[1.0, -2.0]));
    let relu = || unary("Relu", &[2], &[]);
    let with_dims = |dims: &[i64]| unary("Relu", dims, &[]).bytes();
    let mut untyped = relu();
    untyped.graph().input[0] = ValueInfoProto { name: "x".into(), ..Default::default() };
    let mut no_graph = relu();
    no_graph.0.graph.take();
    let mut no_opset = relu();
    no_opset.0.opset_import.clear();
    vec![
        Case::refused("no_graph", "a model without a graph", no_graph.bytes(), &["holds no graph"]),
        Case::refused(
            "no_opset",
            "a model that imports no operators",
            no_opset.bytes(),
            &["does not say which opset"],
        ),
        Case::refused(
            "no_outputs",
            "a graph without outputs",
            model().input("x", &[2]).bytes(),
            &["without outputs"],
        ),
        Case::refused(
            "untyped_input",
            "an input without a type",
            untyped.bytes(),
            &["input \"x\": has no type"],
        ),
        Case::right(
            "output_is_input",
            "an output that is an input",
            model().input("x", &[2]).output("x").bytes(),
            &[x()],
            &[x()],
        ),
        Case::right(
            "output_is_initializer",
            "an output that is an initializer",
            model().floats("w", &[2], &[5.0, f32::NAN]).output("w").bytes(),
            &[],
            &[("w", array(&[2], &[5.0, f32::NAN]))],
        ),
        Case::right(
            "input_unused",
            "an input that nobody reads",
            model().input("x", &[2]).input("z", &[3]).node("Relu", &["x"], &["y"], &[]).output("y").bytes(),
            &[x(), ("z", array(&[3], &[0.0; 3]))],
            &[("y", array(&[2], &[1.0, 0.0]))],
        ),
        Case::right(
            "two_outputs_one_value",
            "one value under two names",
            model()
                .input("x", &[2])
                .node("Relu", &["x"], &["y"], &[])
                .node("Identity", &["y"], &["z"], &[])
                .output("y")
                .output("z")
                .bytes(),
            &[x()],
            &[("y", array(&[2], &[1.0, 0.0])), ("z", array(&[2], &[1.0, 0.0]))],
        ),
        Case::right(
            "unused_nodes",
            "a node that no output depends on, and which makes no sense",
            relu().node("Frobnicate", &["y"], &["z"], &[]).bytes(),
            &[x()],
            &[("y", array(&[2], &[1.0, 0.0]))],
        ),
        Case::refused(
            "output_of_another_type",
            "an output that is said to hold integers",
            model().input("x", &[2]).node("Relu", &["x"], &["y"], &[]).output_of("y", I64, &[2]).bytes(),
            &["output \"y\"", "is declared"],
        ),
        Case::refused(
            "output_of_another_shape",
            "an output that is said to have three elements",
            model().input("x", &[2]).node("Relu", &["x"], &["y"], &[]).output_of("y", F32, &[3]).bytes(),
            &["output \"y\"", "is declared as f32[3], but its node makes f32[2]"],
        ),
        Case::refused(
            "open_dims",
            "an input of -1 elements, which leaves them open",
            with_dims(&[-1]),
            &["--shape x="],
        )
        .code(2),
        Case::refused("dim_min", "an input of -2^63 elements", with_dims(&[i64::MIN]), &["--shape x="])
            .code(2),
        Case::refused(
            "dims_overflow",
            "an input of 2^124 elements",
            with_dims(&[1 << 62, 1 << 62]),
            &["input \"x\"", "--limit-tensor"],
        ),
        Case::refused(
            "dims_wrap",
            "an input of 2^64 elements, which is none when it overflows",
            with_dims(&[1 << 32, 1 << 32]),
            &["input \"x\"", "--limit-tensor"],
        ),
        Case::refused(
            "dims_exabyte",
            "an input of 2^60 elements",
            with_dims(&[1 << 60]),
            &["input \"x\"", "--limit-tensor"],
        ),
        Case::refused(
            "rank_1000",
            "an input of 1,000 axes",
            with_dims(&[1; 1000]),
            &["input \"x\"", "1000 axes", "--limit-rank"],
        ),
        Case::right(
            "rank_32",
            "an input of 32 axes",
            with_dims(&[1; 32]),
            &[("x", array(&[1; 32], &[-1.0]))],
            &[("y", array(&[1; 32], &[0.0]))],
        ),
        Case::right(
            "no_elements",
            "an input of no elements",
            with_dims(&[0, 1000]),
            &[("x", array(&[0, 1000], &[]))],
            &[("y", array(&[0, 1000], &[]))],
        ),
        Case::refused(
            "no_elements_of_many",
            "a pool over no images of 2^40 by 2^40 pixels",
            unary("MaxPool", &[0, 4, 1 << 40, 1 << 40], &[ints("kernel_shape", &[2, 2])]).bytes(),
            &["input \"x\"", "--limit-tensor"],
        ),
        Case::refused(
            "no_elements_last",
            "the same where the extent of 0 comes last",
            unary("Transpose", &[1 << 40, 1 << 40, 0], &[]).bytes(),
            &["input \"x\"", "--limit-tensor"],
        ),
        Case::right(
            "empty_image",
            "a pool and a reduction over no images",
            model()
                .input("x", &[0, 4, 8, 8])
                .node("MaxPool", &["x"], &["p"], &[ints("kernel_shape", &[2, 2])])
                .node("GlobalAveragePool", &["p"], &["y"], &[])
                .output("y")
                .bytes(),
            &[("x", array(&[0, 4, 8, 8], &[]))],
            &[("y", array(&[0, 4, 1, 1], &[]))],
        ),
    ]
}

/// NaN, infinity and what is next to them, where a sound model has ordinary numbers.
pub fn odd_numbers() -> Vec<Case> {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let x = || ("x", array(&[1, 2, 1, 1], &[1.0, -2.0]));
    let norm = |mean: f32, var: [f32; 2], attributes: &[_]| {
        model()
            .input("x", &[1, 2, 1, 1])
            .floats("one", &[2], &[1.0; 2])
            .floats("m", &[2], &[mean; 2])
            .floats("v", &[2], &var)
            .floats("w", &[2, 2, 1, 1], &[1.0, 0.0, 0.0, 1.0])
            .node("Conv", &["x", "w"], &["c"], &[])
            .node("BatchNormalization", &["c", "one", "one", "m", "v"], &["y"], attributes)
            .output("y")
            .bytes()
    };
    let y = |a: f32, b: f32| [("y", array(&[1, 2, 1, 1], &[a, b]))];
    let point = |op: &str, attributes: &[_]| unary(op, &[1, 2, 1, 1], attributes).bytes();
    let quantised = |scale: f32, zero: u8| {
        let mut z = tensor("z", 2, &[]);
        z.int32_data = vec![zero.into()];
        model()
            .input("x", &[2])
            .floats("s", &[], &[scale])
            .tensor(z)
            .node("QuantizeLinear", &["x", "s", "z"], &["q"], &[])
            .node("DequantizeLinear", &["q", "s", "z"], &["y"], &[])
            .output("y")
            .bytes()
    };
    vec![
        Case::right(
            "variance_nan",
            "a variance that is no number",
            norm(0.0, [nan; 2], &[]),
            &[x()],
            &y(nan, nan),
        ),
        Case::right("variance_negative", "a variance of -1", norm(0.0, [-1.0; 2], &[]), &[x()], &y(nan, nan)),
        Case::right("variance_inf", "an infinite variance", norm(0.0, [inf; 2], &[]), &[x()], &y(1.0, 1.0)),
        Case::right(
            "variance_zero",
            "a variance of 0, without an epsilon: folded into weights, infinity would meet zeros",
            norm(0.0, [0.0; 2], &[float("epsilon", 0.0)]),
            &[x()],
            &y(inf, -inf),
        ),
        Case::right("mean_inf", "an infinite mean", norm(inf, [1.0; 2], &[]), &[x()], &y(-inf, -inf)),
        Case::right(
            "epsilon_nan",
            "an epsilon that is no number",
            norm(0.0, [1.0; 2], &[float("epsilon", nan)]),
            &[x()],
            &y(nan, nan),
        ),
        Case::right(
            "relu_of_nan",
            "a NaN that goes through a Relu",
            point("Relu", &[]),
            &[("x", array(&[1, 2, 1, 1], &[nan, -inf]))],
            &y(nan, 0.0),
        ),
        Case::right(
            "slope_nan",
            "a slope that is no number",
            point("LeakyRelu", &[float("alpha", nan)]),
            &[x()],
            &y(1.0, nan),
        ),
        Case::right(
            "slope_inf",
            "an infinite slope",
            point("LeakyRelu", &[float("alpha", inf)]),
            &[x()],
            &y(1.0, -inf),
        ),
        Case::right(
            "weights_nan_and_inf",
            "weights that are infinite or no number, and a channel that they do not touch",
            model()
                .input("x", &[1, 1, 1, 1])
                .floats("w", &[3, 1, 1, 1], &[nan, inf, 2.0])
                .node("Conv", &["x", "w"], &["y"], &[])
                .output("y")
                .bytes(),
            &[("x", array(&[1, 1, 1, 1], &[-3.0]))],
            &[("y", array(&[1, 3, 1, 1], &[nan, -inf, -6.0]))],
        ),
        Case::bounded("quantise_nan", "a scale that is no number", quantised(nan, 0), &["Quantize"]),
        Case::bounded("quantise_zero", "a scale of 0", quantised(0.0, 0), &["Quantize"]),
        Case::bounded("quantise_negative", "a scale of -1", quantised(-1.0, 255), &["Quantize"]),
    ]
}

/// Integers where processors trap: divisions by zero, and results that have no place.
pub fn integers() -> Vec<Case> {
    let pair =
        |name: &'static str, numbers: [i64; 2]| (name, Tensor::new(vec![2], &numbers).expect("two numbers"));
    let at_run_time = |op: &str, attributes: &[_]| {
        model()
            .input_of("x", I64, &[2])
            .input_of("z", I64, &[2])
            .node(op, &["x", "z"], &["y"], attributes)
            .output("y")
            .bytes()
    };
    let constant = |op: &str, attributes: &[_]| {
        model()
            .input_of("x", I64, &[2])
            .ints("a", &[7, i64::MIN])
            .ints("b", &[0, -1])
            .node(op, &["a", "b"], &["d"], attributes)
            .node("Add", &["d", "x"], &["y"], &[])
            .output("y")
            .bytes()
    };
    let operands = || [pair("x", [7, i64::MIN]), pair("z", [0, -1])];
    vec![
        Case::runs("div", "7 / 0 and -2^63 / -1 at run time", at_run_time("Div", &[]), &operands()),
        Case::runs("mod", "7 mod 0 and -2^63 mod -1 at run time", at_run_time("Mod", &[]), &operands()),
        Case::runs("fmod", "the same with the sign of C", at_run_time("Mod", &[int("fmod", 1)]), &operands()),
        Case::runs(
            "div_constant",
            "7 / 0 and -2^63 / -1 of constants",
            constant("Div", &[]),
            &[pair("x", [0, 0])],
        ),
        Case::runs(
            "mod_constant",
            "7 mod 0 and -2^63 mod -1 of constants",
            constant("Mod", &[]),
            &[pair("x", [0, 0])],
        ),
        Case::runs(
            "pow",
            "0 to the power of -1, -2^63 to that of 2^62",
            at_run_time("Pow", &[]),
            &[pair("x", [0, i64::MIN]), pair("z", [-1, 1 << 62])],
        ),
        Case::runs(
            "overflow",
            "the largest number and one more, doubled",
            at_run_time("Add", &[]),
            &[pair("x", [i64::MAX, i64::MIN]), pair("z", [1, i64::MIN])],
        ),
        Case::runs(
            "cast_nan",
            "NaN and infinity as integers",
            unary("Cast", &[2], &[int("to", 6)]).bytes(),
            &[("x", array(&[2], &[f32::NAN, f32::INFINITY]))],
        ),
        Case::runs_or_refused(
            "gather",
            "rows that the inputs name, far outside",
            model()
                .input("w", &[3, 2])
                .input_of("x", I64, &[2])
                .node("Gather", &["w", "x"], &["y"], &[])
                .output("y")
                .bytes(),
            &[("w", array(&[3, 2], &[1.0; 6])), pair("x", [i64::MIN, i64::MAX])],
            &["lies outside of axis 0, which has 3 elements"],
        ),
        Case::bounded(
            "shift_by_1000",
            "a shift by more bits than there are",
            model()
                .tensor({
                    let mut a = tensor("a", 12, &[2]);
                    a.uint64_data = vec![1, 1000];
                    a
                })
                .node("BitShift", &["a", "a"], &["y"], &[text("direction", "LEFT")])
                .output("y")
                .bytes(),
            &["BitShift"],
        ),
    ]
}
