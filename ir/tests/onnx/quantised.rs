//! Quantised operators, as they are read and evaluated. Values are those of ONNX's own examples where named.

use nnc_ir::{DType, Tensor};

use crate::build::{Onnx, f32s, int, ints, onnx};

/// A model of one node over inputs of these tensors' types, with all its results.
fn model(
    opset: i64,
    op: &str,
    inputs: &[&Tensor],
    outputs: usize,
    attributes: &[onnx_protobuf::AttributeProto],
) -> Onnx {
    let names: Vec<String> = (0..inputs.len()).map(|i| format!("x{i}")).collect();
    let results: Vec<String> = (0..outputs).map(|i| format!("y{i}")).collect();
    let mut model = onnx(opset);
    for (name, tensor) in names.iter().zip(inputs) {
        let code = match tensor.dtype() {
            DType::U8 => 2,
            DType::I8 => 3,
            DType::I16 => 5,
            DType::I32 => 6,
            _ => 1,
        };
        let dims: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
        model = model.input_of(name, code, &dims.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for name in &results {
        model = model.output(name);
    }
    let strings = |list: &[String]| list.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let (inputs, outputs) = (strings(&names), strings(&results));
    model.node(
        op,
        &inputs.split(' ').collect::<Vec<_>>(),
        &outputs.split(' ').collect::<Vec<_>>(),
        attributes,
    )
}

fn run(opset: i64, op: &str, inputs: &[&Tensor], attributes: &[onnx_protobuf::AttributeProto]) -> Tensor {
    let owned: Vec<Tensor> = inputs.iter().map(|t| (*t).clone()).collect();
    model(opset, op, inputs, 1, attributes).run(owned)
}

fn floats(shape: &[usize], elems: &[f32]) -> Tensor {
    Tensor::new(shape, elems).unwrap()
}

fn bytes(shape: &[usize], elems: &[u8]) -> Tensor {
    Tensor::new(shape, elems).unwrap()
}

fn u8s(t: &Tensor) -> Vec<u8> {
    t.elems::<u8>().unwrap().to_vec()
}

#[test]
fn quantisation_rounds_to_even_and_saturates() {
    // ONNX QuantizeLinear, example quantizelinear.
    let x = floats(&[6], &[0.0, 2.0, 3.0, 1000.0, -254.0, -1000.0]);
    let (scale, zero_point) = (floats(&[], &[2.0]), bytes(&[], &[128]));
    assert_eq!(u8s(&run(10, "QuantizeLinear", &[&x, &scale, &zero_point], &[])), [128, 129, 130, 255, 1, 0]);
    assert_eq!(u8s(&run(13, "QuantizeLinear", &[&x, &scale], &[])), [0, 1, 2, 255, 0, 0]);
    let y = run(21, "QuantizeLinear", &[&x, &scale], &[int("output_dtype", 5)]);
    assert_eq!(y.elems::<i16>().unwrap()[..], [0, 1, 2, 500, -127, -500]);
}

#[test]
fn scales_lie_along_an_axis_or_are_those_of_blocks() {
    let x = bytes(&[2, 3], &[1, 2, 3, 4, 5, 6]);
    let (scale, zero_point) = (floats(&[2], &[1.0, 10.0]), bytes(&[2], &[0, 4]));
    let y = run(13, "DequantizeLinear", &[&x, &scale, &zero_point], &[int("axis", 0)]);
    assert_eq!(f32s(&y), [1.0, 2.0, 3.0, 0.0, 10.0, 20.0]);
    // Blocks of 2 along the second axis, the last of them short.
    let (scale, zero_point) = (floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), bytes(&[2, 2], &[0, 1, 2, 3]));
    let attributes = [int("axis", 1), int("block_size", 2)];
    let y = run(21, "DequantizeLinear", &[&x, &scale, &zero_point], &attributes);
    assert_eq!(f32s(&y), [1.0, 2.0, 4.0, 6.0, 9.0, 12.0]);
    let y = floats(&[2, 3], &[1.0, 2.0, 4.0, 6.0, 9.0, 12.0]);
    assert_eq!(u8s(&run(21, "QuantizeLinear", &[&y, &scale, &zero_point], &attributes)), [1, 2, 3, 4, 5, 6]);
    let short = floats(&[2, 1], &[1.0, 2.0]);
    let error = model(21, "DequantizeLinear", &[&x, &short], 1, &attributes).error();
    assert!(error.contains("one for each block of 2 along axis 1"), "{error}");
}

/// A model with a constant `w` of four bits, [2, 3], and a node that reads it.
fn of_four_bits(op: &str, inputs: &[&str], attributes: &[onnx_protobuf::AttributeProto]) -> Onnx {
    let mut model = onnx(21).output("y");
    let w = onnx_protobuf::TensorProto {
        name: "w".into(),
        data_type: 22,
        dims: vec![2, 3],
        // 1 -2 3, -4 5 -8
        raw_data: vec![0xe1, 0xc3, 0x85],
        ..Default::default()
    };
    model.graph_mut().initializer.push(w);
    let model = model.floats("scale", &[2, 1], &[0.5, 2.0]);
    model.node(op, inputs, &["y"], attributes)
}

#[test]
fn constants_of_four_bits_are_dequantised_and_read_by_nothing_else() {
    let attributes = [int("axis", 1), int("block_size", 3)];
    let y = of_four_bits("DequantizeLinear", &["w", "scale"], &attributes).run([]);
    assert_eq!(f32s(&y), [0.5, -1.0, 1.5, -8.0, 10.0, -16.0]);
    let error = of_four_bits("Cast", &["w"], &[int("to", 1)]).error();
    assert!(error.contains("reads \"w\", whose elements are int4; only DequantizeLinear can"), "{error}");
    let error = of_four_bits("QuantizeLinear", &["scale", "scale", "w"], &[]).error();
    assert!(error.contains("(QuantizeLinear) reads \"w\""), "{error}");
    let error = of_four_bits("DequantizeLinear", &["w", "scale"], &attributes).output("w").error();
    assert!(error.contains("output \"w\": is a constant of int4"), "{error}");
}

#[test]
fn integers_are_multiplied_around_their_zero_points() {
    // ONNX MatMulInteger, example matmulinteger.
    let a = bytes(&[4, 3], &[11, 7, 3, 10, 6, 2, 9, 5, 1, 8, 4, 0]);
    let b = bytes(&[3, 2], &[1, 4, 2, 5, 3, 6]);
    let y = run(10, "MatMulInteger", &[&a, &b, &bytes(&[1], &[12]), &bytes(&[1], &[0])], &[]);
    assert_eq!(y.elems::<i32>().unwrap()[..], [-38, -83, -44, -98, -50, -113, -56, -128]);
    // One zero point for each row and column.
    let y = run(10, "MatMulInteger", &[&a, &b, &bytes(&[4], &[0, 1, 2, 3]), &bytes(&[2], &[1, 4])], &[]);
    assert_eq!(y.elems::<i32>().unwrap()[..], [13, 13, 7, 7, 1, 1, -5, -5]);
}

#[test]
fn an_integer_convolution_pads_with_the_zero_point() {
    // ONNX ConvInteger, examples convinteger_without_padding and convinteger_with_padding.
    let x = bytes(&[1, 1, 3, 3], &[2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let (w, zero_point) = (bytes(&[1, 1, 2, 2], &[1; 4]), bytes(&[], &[1]));
    let y = run(10, "ConvInteger", &[&x, &w, &zero_point], &[]);
    assert_eq!(y.elems::<i32>().unwrap()[..], [12, 16, 24, 28]);
    let y = run(10, "ConvInteger", &[&x, &w, &zero_point], &[ints("pads", &[1, 1, 1, 1])]);
    assert_eq!(y.elems::<i32>().unwrap()[..], [1, 3, 5, 3, 5, 12, 16, 9, 11, 24, 28, 15, 7, 15, 17, 9]);
}

#[test]
fn a_quantised_product_is_rescaled() {
    // ONNX QLinearMatMul, example qlinearmatmul_2D_uint8_float32.
    let a = bytes(&[2, 4], &[208, 236, 0, 238, 3, 214, 255, 29]);
    let b = bytes(&[4, 3], &[152, 51, 244, 60, 26, 255, 0, 127, 246, 127, 254, 247]);
    let y = run(
        10,
        "QLinearMatMul",
        &[
            &a,
            &floats(&[1], &[0.0066]),
            &bytes(&[1], &[113]),
            &b,
            &floats(&[1], &[0.00705]),
            &bytes(&[1], &[114]),
            &floats(&[1], &[0.0107]),
            &bytes(&[1], &[118]),
        ],
        &[],
    );
    assert_eq!(u8s(&y), [168, 115, 255, 1, 66, 151]);
}

#[test]
fn a_quantised_convolution_has_a_scale_for_each_output_and_a_bias() {
    let x = bytes(&[1, 1, 1, 3], &[10, 20, 30]);
    let w = Tensor::new([2, 1, 1, 1], &[2i8, -3]).unwrap();
    let bias = Tensor::new([2], &[5i32, 7]).unwrap();
    let y = run(
        10,
        "QLinearConv",
        &[
            &x,
            &floats(&[], &[0.5]),
            &bytes(&[], &[10]),
            &w,
            &floats(&[2], &[1.0, 2.0]),
            &Tensor::new([2], &[0i8, 0]).unwrap(),
            &floats(&[], &[1.0]),
            &bytes(&[], &[100]),
            &bias,
        ],
        &[],
    );
    // (x - 10) · w + b = [5, 25, 45], [7, -23, -53]; times 0.5 and 1, to even, plus 100.
    assert_eq!(u8s(&y), [102, 112, 122, 107, 77, 47]);
}

#[test]
fn a_dynamic_quantisation_finds_its_scale() {
    // ONNX DynamicQuantizeLinear, example dynamicquantizelinear.
    let run = |elems: &[f32]| {
        let x = floats(&[elems.len()], elems);
        let model = model(11, "DynamicQuantizeLinear", &[&x], 3, &[]);
        nnc_ir::eval::run(&model.graph(), &[x]).unwrap()
    };
    let y = run(&[0.0, 2.0, -3.0, -2.5, 1.34, 0.5]);
    assert_eq!(u8s(&y[0]), [153, 255, 0, 26, 221, 179]);
    assert!((f32s(&y[1])[0] - 0.019_607_844).abs() < 1e-8);
    assert_eq!(u8s(&y[2]), [153]);
    let zeros = run(&[0.0, 0.0]);
    assert_eq!((u8s(&zeros[0]), f32s(&zeros[1]), u8s(&zeros[2])), (vec![0, 0], vec![1.0], vec![0]));
}

#[test]
fn what_cannot_be_quantised_is_refused() {
    let x = floats(&[2], &[1.0, 2.0]);
    let scale = floats(&[], &[1.0]);
    let error = model(23, "QuantizeLinear", &[&x, &scale], 1, &[int("output_dtype", 17)]).error();
    assert!(error.contains("elements of type float8e4m3fn are not supported"), "{error}");
    let error = model(13, "DequantizeLinear", &[&x, &scale], 1, &[]).error();
    assert!(error.contains("operand 0 (x) holds f32, the operator takes u8, i8, i32"), "{error}");
    let error = model(10, "MatMulInteger", &[&x, &x], 1, &[]).error();
    assert!(error.contains("operand 0 (A) holds f32, the operator takes u8, i8"), "{error}");
}
