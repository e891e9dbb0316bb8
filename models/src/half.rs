//! A network in half floats, as converters write it: the caller gives and gets `f32`, and casts stand at both ends.
//!
//! ```text
//!   input f32 ─▶ Cast f16 ─▶ …  the network, weights and constants in f16  … ─▶ Cast f32 ─▶ logits
//! ```

use onnx_protobuf::tensor_proto::DataType;
use onnx_protobuf::{ModelProto, NodeProto, TensorProto};
use protobuf::Enum;

use crate::proto;

/// A type of half floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// IEEE half precision.
    F16,
    /// The upper half of an `f32`.
    Bf16,
}

impl Half {
    fn data_type(self) -> DataType {
        match self {
            Half::F16 => DataType::FLOAT16,
            Half::Bf16 => DataType::BFLOAT16,
        }
    }

    fn bytes(self, value: f32) -> [u8; 2] {
        match self {
            Half::F16 => ::half::f16::from_f32(value).to_le_bytes(),
            Half::Bf16 => ::half::bf16::from_f32(value).to_le_bytes(),
        }
    }
}

/// The first version of the default operator set in which convolutions and pools take `bf16`.
const BF16_OPSET: i64 = 22;

/// Turns a model of `f32` into one of half floats.
pub(crate) fn convert(model: &mut ModelProto, half: Half) {
    if half == Half::Bf16 {
        model.opset_import.iter_mut().for_each(|set| set.version = set.version.max(BF16_OPSET));
    }
    let graph = model.graph.mut_or_insert_default();
    graph.initializer.iter_mut().for_each(|tensor| narrow(tensor, half));
    // A Resize takes its scales as f32, whatever it resizes.
    let scales: Vec<String> = graph
        .node
        .iter()
        .filter(|node| node.op_type == "Resize")
        .filter_map(|node| node.input.get(2).cloned())
        .collect();
    let constants =
        graph.node.iter_mut().filter(|node| node.output.iter().all(|name| !scales.contains(name)));
    let attributes = constants.flat_map(|node| &mut node.attribute);
    attributes.filter_map(|attribute| attribute.t.as_mut()).for_each(|tensor| narrow(tensor, half));
    let inputs: Vec<String> = graph.input.iter().map(|value| value.name.clone()).collect();
    let outputs: Vec<String> = graph.output.iter().map(|value| value.name.clone()).collect();
    let inside = |name: &String| format!("{name}/half");
    for name in graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output)) {
        if inputs.contains(name) || outputs.contains(name) {
            *name = inside(name);
        }
    }
    let before = inputs.iter().map(|name| cast(name, &inside(name), half.data_type()));
    let behind = outputs.iter().map(|name| cast(&inside(name), name, DataType::FLOAT));
    let nodes = std::mem::take(&mut graph.node);
    graph.node = before.chain(nodes).chain(behind).collect();
}

fn cast(from: &str, to: &str, dtype: DataType) -> NodeProto {
    let mut node = proto::node("Cast", &format!("/{to}/Cast"), vec![from.into()], vec![to.into()]);
    node.attribute.push(proto::int("to", i64::from(dtype.value())));
    node
}

/// Rounds a tensor of `f32`; leaves others as they are.
fn narrow(tensor: &mut TensorProto, half: Half) {
    if tensor.data_type == DataType::FLOAT.value() {
        let floats = tensor.raw_data.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
        tensor.raw_data = floats.flat_map(|value| half.bytes(value)).collect();
        tensor.data_type = half.data_type().value();
    }
}
