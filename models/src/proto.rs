//! The few ONNX messages that the builders write, without their ceremony.

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_proto::DataType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::type_proto::{Tensor, Value};
use onnx_protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
};
use protobuf::{Enum, EnumOrUnknown, MessageField};

/// The ONNX IR version of the written models.
pub(crate) const IR_VERSION: i64 = 8;
/// The version of the default operator set.
pub(crate) const OPSET: i64 = 17;

pub(crate) fn node(op: &str, name: &str, inputs: Vec<String>, outputs: Vec<String>) -> NodeProto {
    NodeProto { op_type: op.into(), name: name.into(), input: inputs, output: outputs, ..Default::default() }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), type_: EnumOrUnknown::new(kind), ..Default::default() }
}

pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: value, ..attribute(name, AttributeType::INT) }
}

pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::INTS) }
}

pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: value, ..attribute(name, AttributeType::FLOAT) }
}

pub(crate) fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: value.into(), ..attribute(name, AttributeType::STRING) }
}

pub(crate) fn tensor_attribute(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto { t: MessageField::some(value), ..attribute(name, AttributeType::TENSOR) }
}

/// A tensor of f32, little-endian in `raw_data`.
pub(crate) fn f32_tensor(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    raw_tensor(name, dims, DataType::FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// A tensor of i64, little-endian in `raw_data`.
pub(crate) fn i64_tensor(name: &str, dims: &[usize], values: &[i64]) -> TensorProto {
    raw_tensor(name, dims, DataType::INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn raw_tensor(name: &str, dims: &[usize], dtype: DataType, raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.iter().map(|&d| d as i64).collect(),
        data_type: dtype.value(),
        raw_data,
        ..Default::default()
    }
}

/// An f32 graph input or output; without `dims`, of any shape.
fn f32_value(name: &str, dims: Option<&[usize]>) -> ValueInfoProto {
    let dim =
        |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), ..Default::default() };
    let shape =
        |dims: &[usize]| TensorShapeProto { dim: dims.iter().map(dim).collect(), ..Default::default() };
    let shape = dims.map(shape).into();
    let tensor = Tensor { elem_type: DataType::FLOAT.value(), shape, ..Default::default() };
    let ty = TypeProto { value: Some(Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), type_: MessageField::some(ty), ..Default::default() }
}

/// Appends f32 outputs of any shape.
pub(crate) fn add_outputs<'a>(model: &mut ModelProto, names: impl IntoIterator<Item = &'a str>) {
    model.graph.mut_or_insert_default().output.extend(names.into_iter().map(|name| f32_value(name, None)));
}

/// A model with one f32 input and one f32 output.
pub(crate) fn model(
    name: &str,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    input: (&str, &[usize]),
    output: (&str, &[usize]),
) -> ModelProto {
    let graph = GraphProto {
        name: name.into(),
        node: nodes,
        initializer: initializers,
        input: vec![f32_value(input.0, Some(input.1))],
        output: vec![f32_value(output.0, Some(output.1))],
        ..Default::default()
    };
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "nnc-models".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: vec![OperatorSetIdProto { version: OPSET, ..Default::default() }],
        graph: MessageField::some(graph),
        ..Default::default()
    }
}
