//! Weights that stay in their file until they are packed: what is folded into them is multiplied then.
#![cfg(all(feature = "cli", target_arch = "x86_64", target_os = "linux"))]

use nnc::plan::PanelWidth;
use nnc::{DynamicModel, InputRef, Model, Options, Pool, Program, Session};
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};
use protobuf::MessageField;

const WIDE: i64 = 160;
const NARROW: i64 = 128;
const SIDE: i64 = 4;

fn tensor(name: &str, dims: &[i64], value: impl Fn(i64) -> f32) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: 1,
        dims: dims.to_vec(),
        raw_data: (0..dims.iter().product()).flat_map(|i| value(i).to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn port(name: &str) -> ValueInfoProto {
    let known = |dim| dimension::Value::DimValue(dim);
    let dims = [dimension::Value::DimParam("batch".into()), known(WIDE), known(SIDE), known(SIDE)];
    let dim = dims.map(|dim| Dimension { value: Some(dim), ..Default::default() }).to_vec();
    let shape = MessageField::some(TensorShapeProto { dim, ..Default::default() });
    let tensor = type_proto::Tensor { elem_type: 1, shape, ..Default::default() };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), type_: MessageField::some(kind), ..Default::default() }
}

/// Batch norms in front of 1×1 convolutions, whose weights a reader leaves in the file, and one behind.
fn model() -> Vec<u8> {
    let mut graph = GraphProto { input: vec![port("x")], output: vec![port("y")], ..Default::default() };
    let mut node = |op: &str, inputs: &[String], output: &str| {
        let (input, output) = (inputs.to_vec(), vec![output.to_owned()]);
        graph.node.push(NodeProto {
            op_type: op.into(),
            input,
            output,
            name: op.into(),
            ..Default::default()
        });
    };
    let norm = |n: usize| ["scale", "shift", "mean", "variance"].map(|what| format!("{what}{n}"));
    let read = |x: &str, constants: &[String]| [&[x.to_owned()], constants].concat();
    node("BatchNormalization", &read("x", &norm(0)), "a");
    node("Conv", &read("a", &["w0".into(), "b0".into()]), "b");
    node("BatchNormalization", &read("b", &norm(1)), "c");
    node("Conv", &read("c", &["w1".into()]), "d");
    node("BatchNormalization", &read("d", &norm(2)), "y");
    for (n, channels) in [WIDE, NARROW, WIDE].into_iter().enumerate() {
        for (k, name) in norm(n).iter().enumerate() {
            let least = if k == 3 { 0.25 } else { -0.5 };
            graph.initializer.push(tensor(name, &[channels], |i| {
                least + ((i * 7 + 3 * k as i64 + n as i64) % 29) as f32 * 0.037
            }));
        }
    }
    let weight = |i: i64| ((i * 13 % 101) - 50) as f32 * 0.0031;
    graph.initializer.push(tensor("w0", &[NARROW, WIDE, 1, 1], weight));
    graph.initializer.push(tensor("b0", &[NARROW], weight));
    graph.initializer.push(tensor("w1", &[WIDE, NARROW, 1, 1], |i| weight(i * 3 + 1)));
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { version: 17, ..Default::default() }],
        graph: MessageField::some(graph),
        ..Default::default()
    };
    model.write_to_bytes().expect("a message")
}

fn in_a_file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("a file");
    file
}

fn run(program: &Program, batch: usize) -> Vec<u32> {
    let count = batch * (WIDE * SIDE * SIDE) as usize;
    let x: Vec<f32> = (0..count).map(|i| (i * 7 % 31) as f32 * 0.0625 - 1.0).collect();
    let mut session = Session::new(program, &Pool::new(1).expect("a pool")).expect("a session");
    let outputs = session.run(&[InputRef::new(&x)]).expect("results");
    outputs.get::<f32>(0).expect("floats").iter().map(|x| x.to_bits()).collect()
}

#[test]
fn weights_in_a_file_become_what_those_in_memory_become() {
    let bytes = model();
    let file = in_a_file(&bytes);
    let code = |model: Model| {
        let compilation = model.lower(&Options::default().dim("batch", 2)).expect("a plan");
        let counts: Vec<&str> = compilation
            .report()
            .passes
            .passes
            .iter()
            .flat_map(|p| &p.counts)
            .map(|(what, _)| *what)
            .collect();
        for what in ["folded into the convolution behind", "folded into the layer before"] {
            assert!(counts.contains(&what), "{counts:?}");
        }
        compilation.plan().constants.bytes().into_owned()
    };
    let in_memory = code(Model::from_bytes(bytes).expect("a model"));
    assert_eq!(code(Model::open(file.path()).expect("a model")), in_memory);
}

#[test]
fn a_further_shape_finds_what_is_folded_into_its_weights() {
    let bytes = model();
    let file = in_a_file(&bytes);
    let stored = DynamicModel::open(file.path()).expect("a model");
    let in_memory = Model::from_bytes(bytes).expect("a model");
    for batch in [1, 3, 2] {
        let mut options = Options::default().dim("batch", batch);
        options.plan.panels = PanelWidth::Common;
        let alone = in_memory.compile(&options).expect("a program");
        let shape = [batch, WIDE as usize, SIDE as usize, SIDE as usize];
        let program = stored.program(&[&shape]).expect("a program");
        assert_eq!(run(&program, batch), run(&alone, batch), "{batch}");
    }
    let once = stored.program(&[&[1, WIDE as usize, SIDE as usize, SIDE as usize]]).expect("a program");
    let packed = once.constants().len() as u64;
    assert!(stored.usage().constant_bytes < 2 * packed, "{:?}", stored.usage());
}
