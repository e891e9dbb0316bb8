//! Models built field by field, without anything that would keep them sound; and the wire format, for what no builder makes.

use nnc_ir::Tensor;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::type_proto;
use onnx_protobuf::{
    AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};
use protobuf::{EnumOrUnknown, MessageField};

// Element types, as ONNX numbers them.
pub const F32: i32 = 1;
pub const I64: i32 = 7;
pub const STRING: i32 = 8;
pub const BOOL: i32 = 9;

/// A model under construction.
#[derive(Clone, Debug)]
pub struct HostileModel(pub ModelProto);

/// A model of opset 17 with nothing in it.
pub fn model() -> HostileModel {
    opset(17)
}

/// A model of an opset with nothing in it.
pub fn opset(version: i64) -> HostileModel {
    let import = OperatorSetIdProto { version, ..Default::default() };
    HostileModel(ModelProto {
        ir_version: 8,
        opset_import: vec![import],
        graph: MessageField::some(GraphProto { name: "g".into(), ..Default::default() }),
        ..Default::default()
    })
}

/// A model with input `x` of these dims, one node, and its output `y`.
pub fn unary(op: &str, dims: &[i64], attributes: &[AttributeProto]) -> HostileModel {
    model().input("x", dims).node(op, &["x"], &["y"], attributes).output("y")
}

impl HostileModel {
    pub fn graph(&mut self) -> &mut GraphProto {
        self.0.graph.mut_or_insert_default()
    }

    /// An input of `f32`.
    pub fn input(self, name: &str, dims: &[i64]) -> HostileModel {
        self.input_of(name, F32, dims)
    }

    pub fn input_of(mut self, name: &str, elem_type: i32, dims: &[i64]) -> HostileModel {
        self.graph().input.push(value_info(name, elem_type, dims));
        self
    }

    /// An input of any kind of type.
    pub fn input_as(mut self, name: &str, value: type_proto::Value) -> HostileModel {
        let type_ = TypeProto { value: Some(value), ..Default::default() };
        let info =
            ValueInfoProto { name: name.into(), type_: MessageField::some(type_), ..Default::default() };
        self.graph().input.push(info);
        self
    }

    /// An output of undeclared type.
    pub fn output(mut self, name: &str) -> HostileModel {
        self.graph().output.push(ValueInfoProto { name: name.into(), ..Default::default() });
        self
    }

    pub fn output_of(mut self, name: &str, elem_type: i32, dims: &[i64]) -> HostileModel {
        self.graph().output.push(value_info(name, elem_type, dims));
        self
    }

    pub fn tensor(mut self, tensor: TensorProto) -> HostileModel {
        self.graph().initializer.push(tensor);
        self
    }

    pub fn floats(self, name: &str, dims: &[i64], data: &[f32]) -> HostileModel {
        self.tensor(floats(name, dims, data))
    }

    pub fn ints(self, name: &str, data: &[i64]) -> HostileModel {
        self.tensor(TensorProto { int64_data: data.to_vec(), ..tensor(name, I64, &[data.len() as i64]) })
    }

    pub fn node(
        mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[AttributeProto],
    ) -> HostileModel {
        self.graph().node.push(node(op, inputs, outputs, attributes));
        self
    }

    /// Changes the node that was added last.
    pub fn change(mut self, change: impl FnOnce(&mut NodeProto)) -> HostileModel {
        change(self.graph().node.last_mut().expect("a node"));
        self
    }

    pub fn import(mut self, domain: &str, version: i64) -> HostileModel {
        let import = OperatorSetIdProto { domain: domain.into(), version, ..Default::default() };
        self.0.opset_import.push(import);
        self
    }

    /// A function of domain `f`, with input `x` and output `y`.
    pub fn function(mut self, name: &str, nodes: Vec<NodeProto>) -> HostileModel {
        let imports = [("", 17), ("f", 1)].map(|(domain, version)| OperatorSetIdProto {
            domain: domain.into(),
            version,
            ..Default::default()
        });
        self.0.functions.push(FunctionProto {
            name: name.into(),
            domain: "f".into(),
            input: vec!["x".into()],
            output: vec!["y".into()],
            node: nodes,
            opset_import: imports.to_vec(),
            ..Default::default()
        });
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.write_to_bytes().expect("messages can be written")
    }
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[AttributeProto]) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        attribute: attributes.to_vec(),
        ..Default::default()
    }
}

/// A call of a function of domain `f`.
pub fn call(function: &str, input: &str, output: &str) -> NodeProto {
    NodeProto { domain: "f".into(), ..node(function, &[input], &[output], &[]) }
}

pub fn shape(dims: &[i64]) -> TensorShapeProto {
    let dim = |&n: &i64| Dimension { value: Some(dimension::Value::DimValue(n)), ..Default::default() };
    TensorShapeProto { dim: dims.iter().map(dim).collect(), ..Default::default() }
}

pub fn tensor_type(elem_type: i32, dims: &[i64]) -> TypeProto {
    let tensor =
        type_proto::Tensor { elem_type, shape: MessageField::some(shape(dims)), ..Default::default() };
    TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }
}

pub fn value_info(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    let type_ = MessageField::some(tensor_type(elem_type, dims));
    ValueInfoProto { name: name.into(), type_, ..Default::default() }
}

/// A tensor without data.
pub fn tensor(name: &str, data_type: i32, dims: &[i64]) -> TensorProto {
    TensorProto { name: name.into(), data_type, dims: dims.to_vec(), ..Default::default() }
}

pub fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto { float_data: data.to_vec(), ..tensor(name, F32, dims) }
}

/// A tensor of `f32` whose data are in a file.
pub fn external(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> TensorProto {
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    };
    TensorProto {
        external_data: entries.iter().map(entry).collect(),
        data_location: EnumOrUnknown::from_i32(1),
        ..tensor(name, F32, dims)
    }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: name.into(), type_: EnumOrUnknown::from_i32(kind), ..Default::default() }
}

pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..attribute(name, 1) }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, 2) }
}

pub fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: s.into(), ..attribute(name, 3) }
}

pub fn value(name: &str, t: TensorProto) -> AttributeProto {
    AttributeProto { t: MessageField::some(t), ..attribute(name, 4) }
}

pub fn graph(name: &str, g: GraphProto) -> AttributeProto {
    AttributeProto { g: MessageField::some(g), ..attribute(name, 5) }
}

pub fn ints(name: &str, list: &[i64]) -> AttributeProto {
    AttributeProto { ints: list.to_vec(), ..attribute(name, 7) }
}

/// A tensor of `f32` as an input or output.
pub fn array(dims: &[usize], data: &[f32]) -> Tensor {
    Tensor::new(dims.to_vec(), data).expect("as many elements as the shape has")
}

/// A field of the wire format that holds bytes.
pub fn field(number: u64, body: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(body.len() as u64), body.to_vec()].concat()
}

/// A number of the wire format.
pub fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

/// Numbers that look random, the same each time (xorshift, G. Marsaglia 2003).
pub fn noise(mut state: u64) -> impl Iterator<Item = u8> {
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}
