//! Operators of ONNX Runtime's domain, as they are read and evaluated, with numbers that can be followed by hand. Cases with onnxruntime's
//! own values are `contrib` of tests/onnx.

use nnc_ir::{DType, Tensor};
use onnx_protobuf::AttributeProto;

use crate::build::{Onnx, f32s, float, floats as float_list, int, onnx, string};

/// A model of one node over these inputs; `None` leaves one out.
fn model(op: &str, inputs: &[Option<&Tensor>], outputs: usize, attributes: &[AttributeProto]) -> Onnx {
    let mut model = onnx(17);
    let mut names = Vec::new();
    for (index, tensor) in inputs.iter().enumerate() {
        let Some(tensor) = tensor else {
            names.push(String::new());
            continue;
        };
        let code = match tensor.dtype() {
            DType::U8 => 2,
            DType::I8 => 3,
            DType::I32 => 6,
            _ => 1,
        };
        let dims: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
        let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
        names.push(format!("x{index}"));
        model = model.input_of(&names[index], code, &dims);
    }
    let results: Vec<String> = (0..outputs).map(|index| format!("y{index}")).collect();
    for name in &results {
        model = model.output(name);
    }
    let operands: Vec<&str> = names.iter().map(String::as_str).collect();
    let results: Vec<&str> = results.iter().map(String::as_str).collect();
    model.node(op, &operands, &results, attributes).of_domain("com.microsoft")
}

fn run(op: &str, inputs: &[Option<&Tensor>], attributes: &[AttributeProto]) -> Tensor {
    let given: Vec<Tensor> = inputs.iter().flatten().map(|t| (*t).clone()).collect();
    model(op, inputs, 1, attributes).run(given)
}

fn refused(op: &str, inputs: &[Option<&Tensor>], attributes: &[AttributeProto]) -> String {
    model(op, inputs, 1, attributes).error()
}

fn floats(shape: &[usize], elems: &[f32]) -> Tensor {
    Tensor::new(shape, elems).unwrap()
}

fn scalar(number: f32) -> Tensor {
    floats(&[], &[number])
}

fn bytes(shape: &[usize], elems: &[u8]) -> Tensor {
    Tensor::new(shape, elems).unwrap()
}

fn u8s(t: &Tensor) -> Vec<u8> {
    t.elems::<u8>().unwrap().to_vec()
}

#[test]
fn sums_are_rounded_together_with_the_zero_point_and_saturate() {
    let (a, b) = (bytes(&[5], &[0, 1, 2, 3, 255]), bytes(&[], &[0]));
    let (half, one, zero, odd) = (scalar(0.5), scalar(1.0), bytes(&[], &[0]), bytes(&[], &[1]));
    let sum = |zero_point| {
        let operands = [&a, &half, &zero, &b, &half, &zero, &one, zero_point].map(Some);
        u8s(&run("QLinearAdd", &operands, &[]))
    };
    // 0, 0.5, 1, 1.5, 127.5 to even; then 1, 1.5, 2, 2.5, 128.5.
    assert_eq!(sum(&zero), [0, 0, 1, 2, 128]);
    assert_eq!(sum(&odd), [1, 2, 2, 2, 128]);
    let quarter = scalar(0.25);
    let large = [&a, &one, &odd, &b, &half, &zero, &quarter, &odd].map(Some);
    assert_eq!(u8s(&run("QLinearAdd", &large, &[])), [0, 1, 5, 9, 255]);
    let product = [&a, &half, &odd, &a, &half, &zero, &half, &zero].map(Some);
    // (a − 1) · a / 2
    assert_eq!(u8s(&run("QLinearMul", &product, &[])), [0, 0, 1, 3, 255]);
}

#[test]
fn what_is_no_sum_is_rounded_before_the_zero_point_is_added() {
    let x = bytes(&[4], &[0, 1, 2, 3]);
    let (half, one, zero, odd) = (scalar(0.5), scalar(1.0), bytes(&[], &[0]), bytes(&[], &[1]));
    let operands = [&one, &odd, &x, &half, &zero].map(Some);
    assert_eq!(u8s(&run("QLinearConcat", &operands, &[int("axis", 0)])), [1, 1, 2, 3]);
    let operands = [&x, &half, &zero, &one, &odd].map(Some);
    assert_eq!(u8s(&run("QLinearLeakyRelu", &operands, &[])), [1, 1, 2, 3]);
}

#[test]
fn parts_with_the_scale_of_the_whole_are_taken_as_they_are() {
    let graph = onnx(13)
        .input_of("x", 2, &["2"])
        .floats("s", &[], &[0.1])
        .output("y")
        .node("QLinearConcat", &["s", "", "x", "s", "", "x", "s", ""], &["y"], &[int("axis", 0)])
        .of_domain("com.microsoft")
        .graph();
    assert_eq!(graph.order().unwrap().len(), 2, "an input and a concatenation");
}

#[test]
fn packed_weights_have_their_low_bits_first() {
    // Columns 1 2 3 4 and 15 0 8 7 of 4 bits, around 8; blocks of 2 with their scales.
    let b = bytes(&[2, 2, 1], &[0x21, 0x43, 0x0f, 0x78]);
    let a = floats(&[1, 4], &[1.0, 10.0, 100.0, 1000.0]);
    let scales = floats(&[4], &[1.0, 2.0, 3.0, 4.0]);
    let attributes = [int("K", 4), int("N", 2), int("bits", 4), int("block_size", 2)];
    let y = run("MatMulNBits", &[Some(&a), Some(&b), Some(&scales)], &attributes);
    // −7 − 60 + 2 · (−500 − 4000); 3 · (7 − 80) + 4 · (0 − 1000)
    assert_eq!(f32s(&y), [-9067.0, -4219.0]);
    // Zero points 1, 2 and 0, 8 of the blocks of each column.
    let zeros = bytes(&[2], &[0x21, 0x80]);
    let y = run("MatMulNBits", &[Some(&a), Some(&b), Some(&scales), Some(&zeros)], &attributes);
    assert_eq!(f32s(&y), [10.0 + 2.0 * 2100.0, 3.0 * 15.0 - 4.0 * 1000.0]);
}

#[test]
fn a_fused_convolution_adds_its_residual_before_its_activation() {
    let x = floats(&[1, 1, 3], &[1.0, 2.0, 3.0]);
    let (w, b) = (floats(&[1, 1, 1], &[2.0]), floats(&[1], &[-5.0]));
    let z = floats(&[1, 1, 3], &[1.0, 0.5, 1.0]);
    let operands = [Some(&x), Some(&w), Some(&b), Some(&z)];
    assert_eq!(f32s(&run("FusedConv", &operands, &[string("activation", "Relu")])), [0.0, 0.0, 2.0]);
    let leaky = [string("activation", "LeakyRelu"), float_list("activation_params", &[0.5])];
    assert_eq!(f32s(&run("FusedConv", &operands, &leaky)), [-1.0, -0.25, 2.0]);
    let clip = [string("activation", "Clip"), float_list("activation_params", &[-1.0, 1.0])];
    assert_eq!(f32s(&run("FusedConv", &operands, &clip)), [-1.0, -0.5, 1.0]);
    let error = refused("FusedConv", &operands, &[string("activation", "Swish")]);
    assert!(error.contains("\"activation\" is \"Swish\", supported: Celu, Clip, Elu"), "{error}");
}

#[test]
fn a_fused_product_takes_its_batch_from_between() {
    // A [M = 2, batch = 2, K = 1], B [batch = 2, K = 1, N = 1].
    let a = floats(&[2, 2, 1], &[1.0, 2.0, 3.0, 4.0]);
    let b = floats(&[2, 1, 1], &[10.0, 100.0]);
    let attributes = [int("transBatchA", 1), float("alpha", 0.5)];
    let y = run("FusedMatMul", &[Some(&a), Some(&b)], &attributes);
    assert_eq!(y.shape()[..], [2, 2, 1]);
    assert_eq!(f32s(&y), [5.0, 15.0, 100.0, 200.0]);
}

#[test]
fn a_query_that_sees_nothing_sees_everything_and_a_causal_one_its_past() {
    // One head of one element; keys are all alike, so each query takes the mean of the values that it sees.
    let (q, k) = (floats(&[1, 3, 1], &[1.0; 3]), floats(&[1, 3, 1], &[0.0; 3]));
    let v = floats(&[1, 3, 1], &[1.0, 2.0, 6.0]);
    let attend = |mask: Option<&Tensor>, attributes: &[AttributeProto]| {
        let attributes = [&[int("num_heads", 1)], attributes].concat();
        f32s(&run("MultiHeadAttention", &[Some(&q), Some(&k), Some(&v), None, mask], &attributes))
    };
    let ints = |shape: &[usize], elems: &[i32]| Tensor::new(shape, elems).unwrap();
    assert_eq!(attend(None, &[]), [3.0; 3]);
    assert_eq!(attend(Some(&ints(&[1, 3], &[0, 1, 0])), &[]), [2.0; 3]);
    assert_eq!(attend(Some(&ints(&[1, 3], &[0, 0, 0])), &[]), [3.0; 3]);
    assert_eq!(attend(Some(&ints(&[1], &[2])), &[]), [1.5; 3]);
    assert_eq!(attend(None, &[int("unidirectional", 1)]), [1.0, 1.5, 3.0]);
    let error = refused(
        "MultiHeadAttention",
        &[Some(&q), Some(&k), Some(&v), None, Some(&ints(&[5], &[0; 5]))],
        &[int("num_heads", 1)],
    );
    assert!(error.contains("a mask of shape 5; read are [1], [2], [1, 3] and [1, queries, 3]"), "{error}");
}

#[test]
fn residuals_and_biases_come_before_the_normal_form() {
    let (x, skip) = (floats(&[1, 2], &[1.0, 2.0]), floats(&[1, 2], &[0.0, 4.0]));
    let (gamma, bias) = (floats(&[2], &[2.0, 3.0]), floats(&[2], &[0.0, -1.0]));
    let operands = [Some(&x), Some(&skip), Some(&gamma), None, Some(&bias)];
    let given = operands.iter().flatten().map(|t| (*t).clone()).collect::<Vec<_>>();
    let graph = model("SkipLayerNormalization", &operands, 4, &[float("epsilon", 0.0)]).graph();
    let results = nnc_ir::eval::run(&graph, &given).unwrap();
    let results: Vec<Vec<f32>> = results.iter().map(f32s).collect();
    // The sum is 1 and 5: their mean is 3, their deviation 2.
    assert_eq!(results, [vec![-2.0, 3.0], vec![3.0], vec![0.5], vec![1.0, 5.0]]);
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let (x, s, z) = (bytes(&[2], &[1, 2]), scalar(0.5), bytes(&[], &[0]));
    let pair = floats(&[2], &[0.5, 0.5]);
    let error = refused("QLinearSigmoid", &[Some(&x), Some(&pair), Some(&z), Some(&s), Some(&z)], &[]);
    assert!(error.contains("X_scale or its zero point must be one number, it is f32[2]"), "{error}");
    let error = refused("QLinearAdd", &[&s, &s, &z, &x, &s, &z, &s, &z].map(Some), &[]);
    assert!(error.contains("operand 0 (A) holds f32, the operator takes u8, i8"), "{error}");
    let signed = Tensor::new([].as_slice(), &[0i8]).unwrap();
    let error = refused("QLinearAdd", &[&x, &s, &signed, &x, &s, &z, &s, &z].map(Some), &[]);
    assert!(error.contains("operand 2 (A_zero_point) holds i8, but operand 0 (A) holds u8"), "{error}");
    let error = refused("QLinearConcat", &[&s, &z, &s, &s, &z].map(Some), &[int("axis", 0)]);
    assert!(error.contains("elements of f32, expected i8 or u8"), "{error}");
    let error = refused("QLinearConcat", &[&s, &z, &x, &s].map(Some), &[int("axis", 0)]);
    assert!(error.contains("has 4 operands; expected are Y_scale and Y_zero_point, then three"), "{error}");
    let matrix = floats(&[1, 4], &[0.0; 4]);
    let packed = [Some(&matrix), Some(&x), Some(&pair)];
    let attributes = |bits| [int("K", 4), int("N", 1), int("bits", bits), int("block_size", 4)];
    let error = refused("MatMulNBits", &packed, &attributes(3));
    assert!(error.contains("\"bits\" is 3, supported: 2, 4, 8"), "{error}");
    let error = refused("MatMulNBits", &packed, &attributes(4));
    assert!(error.contains("scales is f32[2], but 1 columns of 1 blocks need 1 elements"), "{error}");
    let error = refused("BiasGelu", &[Some(&matrix), Some(&pair)], &[]);
    assert!(error.contains("one element for each of the last axis of f32[1x4], it is f32[2]"), "{error}");
}

#[test]
fn a_function_of_the_model_comes_before_an_operator_of_its_name() {
    let body = onnx(13).input("a", &["1"]).output("b").node("Neg", &["a"], &["b"], &[]);
    let mut model = onnx(13).input("x", &["1"]).output("y").function("Gelu", &[], body);
    model.proto.functions[0].domain = "com.microsoft".into();
    let model = model.node("Gelu", &["x"], &["y"], &[]).of_domain("com.microsoft");
    assert_eq!(f32s(&model.run(vec![floats(&[1], &[2.0])])), [-2.0]);
}
