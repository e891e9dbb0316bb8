//! BatchNormalization in all its versions: whose statistics normalise, and what else there is to read.

use nnc_ir::{Tensor, eval};
use onnx_protobuf::AttributeProto;

use crate::build::{Onnx, f32s, float, int, onnx};

const ALL: [&str; 5] = ["y", "mean", "var", "saved_mean", "saved_var"];

/// Two channels of two elements, in a batch of two.
const X: [f32; 8] = [1.0, 3.0, 10.0, 20.0, 5.0, 7.0, 30.0, 40.0];

/// Statistics of the channels of [`X`].
const MEAN: [f32; 2] = [4.0, 25.0];
const VAR: [f32; 2] = [5.0, 125.0];

/// A node with these outputs, of which some are read.
fn node(opset: i64, outputs: &[&str], read: &[&str], attributes: &[AttributeProto]) -> Onnx {
    let model = onnx(opset)
        .input("x", &["2", "2", "2"])
        .floats("scale", &[2], &[2.0, 1.0])
        .floats("b", &[2], &[0.5, 0.0])
        .floats("m", &[2], &[1.0, 2.0])
        .floats("v", &[2], &[4.0, 1.0]);
    let model = read.iter().fold(model, |model, name| model.output(name));
    model.node("BatchNormalization", &["x", "scale", "b", "m", "v"], outputs, attributes)
}

fn run(model: &Onnx) -> Vec<Vec<f32>> {
    let x = Tensor::new([2, 2, 2], &X).unwrap();
    eval::run(&model.graph(), &[x]).unwrap().iter().map(f32s).collect()
}

/// `(x - mean) / √(var + ε) · scale + b`, in double precision.
fn normal(mean: [f32; 2], var: [f32; 2], epsilon: f64) -> Vec<f64> {
    let (scale, bias) = ([2.0, 1.0], [0.5, 0.0]);
    let at = |i: usize| {
        let c = i / 2 % 2;
        (f64::from(X[i]) - f64::from(mean[c])) / (f64::from(var[c]) + epsilon).sqrt() * scale[c] + bias[c]
    };
    (0..8).map(at).collect()
}

fn close(got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((f64::from(*got) - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{got} for {expected}");
    }
}

/// The results of training mode with these numbers of outputs that are read.
fn trained(results: &[Vec<f32>], momentum: f64) {
    close(&results[0], &normal(MEAN, VAR, 1e-5));
    let mix = |old: [f64; 2], new: [f32; 2]| {
        [0, 1].map(|c| old[c] * momentum + f64::from(new[c]) * (1.0 - momentum)).to_vec()
    };
    let (mean, var) = (mix([1.0, 2.0], MEAN), mix([4.0, 1.0], VAR));
    let saved = [MEAN, VAR].map(|list| list.map(f64::from).to_vec());
    for (got, expected) in results[1..].iter().zip([&mean, &var, &saved[0], &saved[1]]) {
        close(got, expected);
    }
}

#[test]
fn more_than_one_output_between_opsets_7_and_13_is_training_mode() {
    for opset in 7..=13 {
        close(&run(&node(opset, &["y"], &["y"], &[]))[0], &normal([1.0, 2.0], [4.0, 1.0], 1e-5));
        // Outputs that nobody reads count as well, but not those without a name.
        trained(&run(&node(opset, &ALL, &["y"], &[])), 0.9);
        trained(&run(&node(opset, &ALL, &ALL, &[float("momentum", 0.75)])), 0.75);
        trained(&run(&node(opset, &["y", "", "", "", "saved_var"], &["y"], &[])), 0.9);
        let unnamed = run(&node(opset, &["y", "", "", "", ""], &["y"], &[]));
        close(&unnamed[0], &normal([1.0, 2.0], [4.0, 1.0], 1e-5));
    }
}

#[test]
fn before_opset_7_and_since_14_an_attribute_says_so() {
    for opset in [1, 6] {
        trained(&run(&node(opset, &ALL, &ALL, &[])), 0.9);
        trained(&run(&node(opset, &ALL, &["y"], &[int("is_test", 0)])), 0.9);
        let test = run(&node(opset, &["y"], &["y"], &[int("is_test", 1)]));
        close(&test[0], &normal([1.0, 2.0], [4.0, 1.0], 1e-5));
    }
    for opset in [14, 15] {
        let training = [int("training_mode", 1), float("momentum", 0.5)];
        trained(&run(&node(opset, &ALL[..3], &ALL[..3], &training)), 0.5);
        trained(&run(&node(opset, &["y"], &["y"], &training[..1])), 0.9);
        let test = run(&node(opset, &["y"], &["y"], &[]));
        close(&test[0], &normal([1.0, 2.0], [4.0, 1.0], 1e-5));
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let error = |opset, outputs: &[&str], attributes: &[AttributeProto]| {
        node(opset, outputs, &["y"], attributes).error()
    };
    assert!(error(6, &["y"], &[int("is_test", 0)]).contains("training mode (attribute \"is_test\" is 0)"));
    assert!(error(6, &["y"], &[]).contains("export the model for inference"));
    for (opset, attribute) in [(6, int("is_test", 1)), (14, int("training_mode", 0))] {
        let error = error(opset, &ALL[..3], std::slice::from_ref(&attribute));
        assert!(error.contains("asks for inference") && error.contains(&attribute.name), "{error}");
    }
    for (opset, attribute) in [(7, int("is_test", 1)), (13, int("training_mode", 1)), (9, int("spatial", 1))]
    {
        let error = error(opset, &["y"], &[attribute]);
        assert!(error.contains("is not one of this operator"), "{error}");
    }
}

#[test]
fn statistics_for_each_element_of_a_member_of_the_batch() {
    let model = |outputs: &[&str]| {
        let ones = [1.0; 4];
        onnx(7)
            .input("x", &["2", "2", "2"])
            .floats("scale", &[2, 2], &ones)
            .floats("b", &[2, 2], &[0.0, 1.0, 2.0, 3.0])
            .floats("m", &[2, 2], &ones)
            .floats("v", &[2, 2], &[4.0; 4])
            .output("y")
            .node(
                "BatchNormalization",
                &["x", "scale", "b", "m", "v"],
                outputs,
                &[int("spatial", 0), float("epsilon", 0.0)],
            )
    };
    close(&run(&model(&["y"]))[0], &[0.0, 2.0, 6.5, 12.5, 2.0, 4.0, 16.5, 22.5]);
    close(&run(&model(&ALL))[0], &[-1.0, 0.0, 1.0, 2.0, 1.0, 2.0, 3.0, 4.0]);
    let flat = node(7, &["y"], &["y"], &[int("spatial", 0)]).error();
    assert!(flat.contains("expected one number for each element of a member of the batch"), "{flat}");
}

#[test]
fn a_row_of_numbers_is_a_batch_of_one_channel() {
    let model = |outputs: &[&str]| {
        let one = |model: Onnx, name: &str, v: f32| model.floats(name, &[1], &[v]);
        let model = onnx(9).input("x", &["4"]).output("y");
        let model = one(one(one(one(model, "scale", 1.0), "b", 0.0), "m", 1.0), "v", 4.0);
        let epsilon = float("epsilon", 0.0);
        model.node("BatchNormalization", &["x", "scale", "b", "m", "v"], outputs, &[epsilon])
    };
    let x = Tensor::new([4], &[1.0f32, 1.0, 3.0, 3.0]).unwrap();
    assert_eq!(f32s(&model(&["y"]).run([x.clone()])), [0.0, 0.0, 1.0, 1.0]);
    assert_eq!(f32s(&model(&ALL).run([x])), [-1.0, -1.0, 1.0, 1.0]);
}

#[test]
fn halves_have_statistics_in_single_precision() {
    // Squares of these are beyond the largest half.
    let halves = |list: &[f32]| {
        let list: Vec<half::f16> = list.iter().map(|&v| half::f16::from_f32(v)).collect();
        Tensor::new([list.len(), 1], &list).unwrap()
    };
    let model = |dtype| {
        let mut model = onnx(15).input_of("x", 10, &["4", "1"]);
        for name in ["scale", "b", "m", "v"] {
            model = model.input_of(name, dtype, &["1"]);
        }
        let training = [int("training_mode", 1), float("epsilon", 0.0)];
        model.output("y").output("mean").node(
            "BatchNormalization",
            &["x", "scale", "b", "m", "v"],
            &["y", "mean"],
            &training,
        )
    };
    let x = halves(&[-600.0, -600.0, 600.0, 600.0]);
    let number = |v: f32| Tensor::new([1], &[v]).unwrap();
    let inputs = [x, number(1.0), number(0.0), number(10.0), number(1.0)];
    let results = eval::run(&model(1).graph(), &inputs).unwrap();
    assert_eq!(results[0], halves(&[-1.0, -1.0, 1.0, 1.0]));
    assert_eq!(f32s(&results[1]), [9.0]);
}
