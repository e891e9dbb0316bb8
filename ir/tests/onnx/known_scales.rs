//! Quantised operators whose scales, zero points and weights are initializers: the graphs that passes know, and the same numbers as where
//! all of them are inputs.

use nnc_ir::{DType, Graph, Op, Tensor, TensorType, eval};
use onnx_protobuf::{AttributeProto, TensorProto};

use crate::build::{Onnx, float, int, ints, onnx, string};

/// A model of one node of this domain; `known` says of which operands the values are in the model.
fn model(
    (domain, op): (&str, &str),
    operands: &[Option<Tensor>],
    known: impl Fn(usize) -> bool,
    attributes: &[AttributeProto],
) -> Onnx {
    let mut model = onnx(if domain.is_empty() { 10 } else { 17 }).output("y");
    let mut names = Vec::new();
    for (index, tensor) in operands.iter().enumerate() {
        let Some(tensor) = tensor else {
            names.push(String::new());
            continue;
        };
        names.push(format!("x{index}"));
        let code = match tensor.dtype() {
            DType::U8 => 2,
            DType::I8 => 3,
            DType::I32 => 6,
            DType::Bool => 9,
            _ => 1,
        };
        if known(index) {
            let initializer = TensorProto {
                name: names[index].clone(),
                data_type: code,
                dims: tensor.shape().iter().map(|&extent| extent as i64).collect(),
                raw_data: tensor.bytes().to_vec(),
                ..Default::default()
            };
            model.graph_mut().initializer.push(initializer);
        } else {
            let dims: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
            let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
            model = model.input_of(&names[index], code, &dims);
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let model = model.node(op, &names, &["y"], attributes);
    if domain.is_empty() { model } else { model.of_domain(domain) }
}

/// The graph with all operands but `given` known. It must compute what the one that knows none computes.
fn read(
    name: (&str, &str),
    operands: &[Option<Tensor>],
    given: &[usize],
    attributes: &[AttributeProto],
) -> Graph {
    let inputs = |indices: &dyn Fn(usize) -> bool| -> Vec<Tensor> {
        let of = operands.iter().enumerate().filter(|(index, _)| indices(*index));
        of.filter_map(|(_, tensor)| tensor.clone()).collect()
    };
    let plain = model(name, operands, |_| false, attributes).graph();
    let graph = model(name, operands, |index| !given.contains(&index), attributes).graph();
    let expected = eval::run(&plain, &inputs(&|_| true)).unwrap();
    let got = eval::run(&graph, &inputs(&|index| given.contains(&index))).unwrap();
    assert!(expected[0].bytes().iter().any(|&byte| byte != 0), "{name:?} computes nothing");
    assert_eq!(expected, got, "{name:?}");
    graph
}

fn names(graph: &Graph) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for id in graph.order().unwrap() {
        match &graph.node(id).op {
            Op::Input | Op::Constant(_) => {}
            op => names.push(op.name()),
        }
    }
    names
}

fn bytes(shape: &[usize]) -> Option<Tensor> {
    let len = shape.iter().product::<usize>();
    let elems: Vec<u8> = (0..len).map(|i| (i * 89 % 256) as u8).collect();
    Tensor::new(shape, &elems).ok()
}

fn signed(shape: &[usize]) -> Option<Tensor> {
    let len = shape.iter().product::<usize>();
    let elems: Vec<i8> = (0..len).map(|i| (i * 37 % 101) as i8 - 50).collect();
    Tensor::new(shape, &elems).ok()
}

fn scale(scale: f32) -> Option<Tensor> {
    Tensor::new([], &[scale]).ok()
}

fn zero(zero: u8) -> Option<Tensor> {
    Tensor::new([], &[zero]).ok()
}

const MICROSOFT: &str = "com.microsoft";

#[test]
fn what_is_computed_of_real_numbers_lies_between_a_dequantize_and_a_quantize() {
    let one = [bytes(&[1, 3, 4, 4]), scale(0.03), zero(120), scale(0.02), zero(7)];
    let of = |op: &str, attributes: &[AttributeProto]| read((MICROSOFT, op), &one, &[0], attributes);
    assert_eq!(names(&of("QLinearSigmoid", &[])), ["Dequantize", "Sigmoid", "Quantize"]);
    let leaky = of("QLinearLeakyRelu", &[float("alpha", 0.125)]);
    assert_eq!(names(&leaky), ["Dequantize", "LeakyRelu", "Quantize"]);
    let mean = of("QLinearReduceMean", &[ints("axes", &[2, 3])]);
    assert_eq!(names(&mean), ["Dequantize", "ReduceMean", "Quantize"]);
    let softmax = of("QLinearSoftmax", &[int("axis", 1), int("opset", 13)]);
    assert_eq!(names(&softmax), ["Dequantize", "Reshape", "Softmax", "Reshape", "Quantize"]);
    let pooled = |zero_point: u8| {
        let one = [bytes(&[1, 3, 4, 4]), scale(0.03), zero(120), scale(0.02), zero(zero_point)];
        names(&read((MICROSOFT, "QLinearAveragePool"), &one, &[0], &[ints("kernel_shape", &[2, 2])]))
    };
    assert_eq!(pooled(0), ["Dequantize", "AveragePool", "Quantize"]);
    assert!(!pooled(7).contains(&"Quantize"), "it rounds with the zero point");
}

#[test]
fn parts_and_choices_have_steps_of_their_own() {
    let (x, y) = (bytes(&[1, 2, 3]), bytes(&[1, 4, 3]));
    let parts = [scale(0.02), zero(7), x.clone(), scale(0.02), zero(7), y, scale(0.05), zero(100)];
    let graph = read((MICROSOFT, "QLinearConcat"), &parts, &[2, 5], &[int("axis", 1)]);
    assert_eq!(names(&graph), ["Dequantize", "Quantize", "Concat"]);
    let condition = Tensor::from_bytes(TensorType::new(DType::Bool, [3]), vec![1, 0, 1]).ok();
    let choice = [condition, x.clone(), scale(0.03), zero(1), x, scale(0.05), zero(2), scale(0.04), zero(3)];
    let graph = read((MICROSOFT, "QLinearWhere"), &choice, &[0, 1, 4], &[]);
    assert_eq!(names(&graph), ["Dequantize", "Dequantize", "Where", "Quantize"]);
}

#[test]
fn a_fully_connected_layer_is_a_product_between_a_dequantize_and_a_quantize() {
    let bias = Tensor::new([2], &[300i32, -70]).ok();
    let operands = |bias: Option<Tensor>| {
        let (a, b) = (bytes(&[3, 5]), signed(&[2, 5]));
        let of_b = Tensor::new([], &[0i8]).ok();
        vec![a, scale(0.5), zero(120), b, scale(0.25), of_b, bias, scale(16.0), zero(9)]
    };
    for bias in [bias, None] {
        let weights = [int("transB", 1)];
        let graph = read((MICROSOFT, "QGemm"), &operands(bias.clone()), &[0], &weights);
        let of_bias = if bias.is_some() { vec!["Dequantize"] } else { vec![] };
        let expected = [&of_bias[..], &["Dequantize", "Dequantize", "MatMul", "Quantize"]].concat();
        let mut got = names(&graph);
        got.retain(|name| *name != "Transpose");
        assert_eq!(got.len(), expected.len(), "{got:?}");
        assert!(got.ends_with(&["MatMul", "Quantize"]), "{got:?}");
        // A factor goes into the scale of the weights.
        let times = [int("transB", 1), float("alpha", 0.5)];
        let graph = read((MICROSOFT, "QGemm"), &operands(bias.clone()), &[0], &times);
        assert!(names(&graph).ends_with(&["MatMul", "Quantize"]));
        // Without a scale, results are numbers.
        let floats = &operands(bias)[..7];
        let graph = read((MICROSOFT, "QGemm"), floats, &[0], &weights);
        assert!(names(&graph).ends_with(&["MatMul"]));
    }
    // A bias for each element is added behind.
    let mut each = operands(None);
    each[6] = Tensor::new([3, 2], &[300i32, -70, 1, 2, 5000, 0]).ok();
    let graph = read((MICROSOFT, "QGemm"), &each, &[0], &[int("transB", 1)]);
    assert!(names(&graph).ends_with(&["Add", "Quantize"]));
    // What comes from outside is added to the sums.
    let graph = read((MICROSOFT, "QGemm"), &each, &[0, 6], &[int("transB", 1)]);
    assert!(!names(&graph).contains(&"Dequantize"));
}

#[test]
fn sums_products_and_means_are_those_of_floats_unless_many_fall_halfway() {
    let of = |op: &str, scales: [f32; 3]| {
        let [a, b, c] = scales.map(scale);
        let two = [bytes(&[2, 3]), a, zero(120), bytes(&[3]), b, zero(7), c, zero(131)];
        names(&read((MICROSOFT, op), &two, &[0, 3], &[]))
    };
    let odd = [0.0173, 0.0251, 0.0389];
    assert_eq!(of("QLinearAdd", odd), ["Dequantize", "Dequantize", "Add", "Quantize"]);
    assert_eq!(of("QLinearMul", odd), ["Dequantize", "Dequantize", "Mul", "Quantize"]);
    let even = [0.25, 0.25, 0.5];
    assert!(!of("QLinearAdd", even).contains(&"Quantize"));
    assert!(!of("QLinearMul", even).contains(&"Quantize"));
    let mean = |extent: usize| {
        let x = [bytes(&[1, 2, extent, extent]), scale(0.03), zero(120), scale(0.03), zero(7)];
        names(&read((MICROSOFT, "QLinearGlobalAveragePool"), &x, &[0], &[]))
    };
    assert_eq!(mean(7), ["Dequantize", "GlobalAveragePool", "Quantize"]);
    assert!(!mean(8).contains(&"Quantize"), "of 64 sums, one is halfway");
    let last = [bytes(&[1, 7, 7, 2]), scale(0.03), zero(120), scale(0.03), zero(7)];
    let graph = read((MICROSOFT, "QLinearGlobalAveragePool"), &last, &[0], &[int("channels_last", 1)]);
    assert_eq!(names(&graph), ["Dequantize", "Transpose", "GlobalAveragePool", "Transpose", "Quantize"]);
}

#[test]
fn a_softmax_has_as_many_steps_as_one_has_whole_ones() {
    let x = bytes(&[2, 3]).unwrap();
    let of = |given: f32| {
        let operands = [Some(x.clone()), scale(0.01), zero(0), scale(given), zero(0)];
        let known = |index: usize| index != 0;
        let attributes = [int("axis", 1), int("opset", 13)];
        model((MICROSOFT, "QLinearSoftmax"), &operands, known, &attributes).run([x.clone()])
    };
    assert_eq!(of(1.0 / 256.0), of(1.0 / 256.9), "256 steps");
    assert_ne!(of(1.0 / 256.0), of(1.0 / 100.0));
}

#[test]
fn sums_of_bytes_by_known_weights_are_layers_of_integers() {
    let (a, weights) = (bytes(&[2, 3, 5]), signed(&[5, 4]));
    let product = |zeros: [Option<Tensor>; 2], given: &[usize]| {
        let [a_zero, b_zero] = zeros;
        let operands = [a.clone(), weights.clone(), a_zero, b_zero];
        names(&read(("", "MatMulInteger"), &operands, given, &[]))
    };
    let none = || Tensor::new([], &[0i8]).ok();
    let plain = ["Reshape", "IntegerConv", "Reshape"];
    assert_eq!(product([zero(120), none()], &[0]), plain);
    assert_eq!(product([None, None], &[0]), plain);
    // Each column around its own number.
    assert_eq!(product([zero(3), Tensor::new([4], &[1i8, -2, 0, 7]).ok()], &[0]), plain);
    // A zero point from the data: times the sums of the weights.
    let by_data = product([zero(120), none()], &[0, 2]);
    assert!(by_data.contains(&"IntegerConv") && by_data.contains(&"Sub") && !by_data.contains(&"MatMul"));
    // Weights beyond an i8 around their zero point.
    let far = Tensor::new([], &[100i8]).ok();
    assert_eq!(product([zero(3), far], &[0]), ["Reshape", "Gather", "IntegerConv", "Reshape"]);
    // A zero point for each row, and weights that are not known.
    assert!(product([zero(3), none()], &[0, 1]).contains(&"MatMul"));
    let each_row = Tensor::new([2, 3, 1], &[1u8, 2, 3, 4, 5, 6]).ok();
    let operands = [a.clone(), weights.clone(), each_row, none()];
    let graph = model(("", "MatMulInteger"), &operands, |index| index != 0, &[]).graph();
    assert!(names(&graph).contains(&"MatMul"));
}

#[test]
fn convolutions_of_bytes_take_away_what_the_window_reads_of_a_zero_point() {
    let operands = |zero_point: Option<Tensor>| {
        [bytes(&[2, 2, 4, 5]), signed(&[4, 1, 3, 2]), zero_point, Tensor::new([], &[-2i8]).ok()]
    };
    for pads in [[0, 0, 0, 0], [1, 0, 2, 1]] {
        let attributes = [ints("pads", &pads), int("group", 2), ints("strides", &[1, 2])];
        let known = read(("", "ConvInteger"), &operands(zero(120)), &[0], &attributes);
        assert_eq!(names(&known), ["IntegerConv"]);
        let given = read(("", "ConvInteger"), &operands(zero(120)), &[0, 2], &attributes);
        assert!(names(&given).contains(&"IntegerConv") && !names(&given).contains(&"Conv"));
        // What the zero point takes away is the same at all places: one window of ones tells it.
        let sums =
            given.order().unwrap().into_iter().filter(|&id| matches!(given.node(id).op, Op::IntegerConv(_)));
        let places: Vec<usize> = sums.map(|id| given.ty(id.into()).shape[2..].iter().product()).collect();
        let image = known.ty(known.outputs()[0].1).shape[2..].iter().product();
        assert!(places == [image] || places == [image, 1] || places == [1, image], "{places:?}");
    }
}

#[test]
fn a_quantised_lstm_multiplies_by_layers_of_integers_within_its_loop_too() {
    let floats = |shape: &[usize], numbers: &[f32]| Tensor::new(shape.to_vec(), numbers).ok();
    let of = |zero: Option<Tensor>, weights: fn(&[usize]) -> Option<Tensor>| {
        let x = floats(&[3, 2, 4], &(0..24).map(|i| (i * 7 % 11) as f32 / 4.0 - 1.0).collect::<Vec<_>>());
        let mut operands = vec![x, weights(&[2, 4, 12]), weights(&[2, 3, 12])];
        operands.resize(8, None);
        let scale = || floats(&[2], &[0.01, 0.02]);
        operands.extend([scale(), zero.clone(), scale(), zero]);
        let attributes = [int("hidden_size", 3), string("direction", "bidirectional")];
        read(("com.microsoft", "DynamicQuantizeLSTM"), &operands, &[0], &attributes)
    };
    for graph in
        [of(Tensor::new([2], &[0i8, 0]).ok(), signed), of(Tensor::new([2], &[120u8, 131]).ok(), bytes)]
    {
        assert!(names(&graph).contains(&"IntegerConv") && !names(&graph).contains(&"MatMul"));
        let loops = graph.order().unwrap().into_iter().filter_map(|id| match &graph.node(id).op {
            Op::Loop(repeated) => Some(names(repeated.body.graph())),
            _ => None,
        });
        let loops: Vec<_> = loops.collect();
        assert_eq!(loops.len(), 2);
        assert!(loops.iter().all(|body| body.contains(&"IntegerConv") && !body.contains(&"MatMul")));
    }
}

#[test]
fn sums_of_few_products_are_floats_and_as_exact_as_those_of_many() {
    let sums = |products: usize| {
        let bytes = |shape: [usize; 2]| Tensor::new(shape, &vec![255u8; products]).ok();
        let operands = [bytes([1, products]), bytes([products, 1])];
        let model = model(("", "MatMulInteger"), &operands, |_| false, &[]);
        let graph = model.graph();
        let product =
            graph.order().unwrap().into_iter().find(|&id| matches!(graph.node(id).op, Op::MatMul(_)));
        let sum = model.run(operands.map(Option::unwrap)).elems::<i32>().unwrap()[0];
        (graph.ty(product.unwrap().into()).dtype, sum)
    };
    assert_eq!(sums(257), (DType::F32, 257 * 255 * 255));
    assert_eq!(sums(258), (DType::I32, 258 * 255 * 255));

    // Windows by weights that are not known, with a zero point for each result.
    let operands =
        [bytes(&[1, 2, 4, 4]), signed(&[3, 2, 3, 3]), zero(120), Tensor::new([3], &[1i8, 0, -128]).ok()];
    let of = |known: fn(usize) -> bool| {
        let model = model(("", "ConvInteger"), &operands, known, &[]);
        let inputs = operands.iter().enumerate().filter(|(i, _)| !known(*i)).filter_map(|(_, x)| x.clone());
        (names(&model.graph()), model.run(inputs.collect::<Vec<_>>()))
    };
    let (all, by_layer) = of(|index| index != 0);
    assert_eq!(all, ["Gather", "IntegerConv"]);
    let (all, by_floats) = of(|_| false);
    assert!(all.contains(&"Conv"));
    assert_eq!(by_floats, by_layer);
}
