//! Small models, node by node.

use nnc_ir::onnx::{Bindings, Model, OnnxError};
use nnc_ir::{Graph, Tensor, TensorType, eval};
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::type_proto;
use onnx_protobuf::{
    AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};
use protobuf::{EnumOrUnknown, MessageField};

/// A model under construction: input `x`, output `y` unless said otherwise.
#[derive(Clone)]
pub struct Onnx {
    pub proto: ModelProto,
}

pub fn onnx(opset: i64) -> Onnx {
    let import = OperatorSetIdProto { version: opset, ..Default::default() };
    let graph = GraphProto { name: "test".into(), ..Default::default() };
    Onnx {
        proto: ModelProto {
            ir_version: 8,
            opset_import: vec![import],
            graph: MessageField::some(graph),
            ..Default::default()
        },
    }
}

impl Onnx {
    pub fn graph_mut(&mut self) -> &mut GraphProto {
        self.proto.graph.mut_or_insert_default()
    }

    /// An `f32` input; dims are numbers, names, or `?`.
    pub fn input(mut self, name: &str, dims: &[&str]) -> Onnx {
        let info = value_info(name, 1, Some(dims));
        self.graph_mut().input.push(info);
        self
    }

    pub fn input_of(mut self, name: &str, elem_type: i32, dims: &[&str]) -> Onnx {
        let info = value_info(name, elem_type, Some(dims));
        self.graph_mut().input.push(info);
        self
    }

    pub fn output(mut self, name: &str) -> Onnx {
        self.graph_mut().output.push(ValueInfoProto { name: name.into(), ..Default::default() });
        self
    }

    pub fn floats(mut self, name: &str, dims: &[i64], data: &[f32]) -> Onnx {
        let float_data = data.to_vec();
        let tensor = TensorProto {
            name: name.into(),
            data_type: 1,
            dims: dims.to_vec(),
            float_data,
            ..Default::default()
        };
        self.graph_mut().initializer.push(tensor);
        self
    }

    pub fn ints(mut self, name: &str, data: &[i64]) -> Onnx {
        let tensor = TensorProto {
            name: name.into(),
            data_type: 7,
            dims: vec![data.len() as i64],
            int64_data: data.to_vec(),
            ..Default::default()
        };
        self.graph_mut().initializer.push(tensor);
        self
    }

    pub fn node(
        mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[AttributeProto],
    ) -> Onnx {
        self.graph_mut().node.push(NodeProto {
            op_type: op.into(),
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: outputs.iter().map(|s| s.to_string()).collect(),
            attribute: attributes.to_vec(),
            ..Default::default()
        });
        self
    }

    pub fn named(mut self, name: &str) -> Onnx {
        if let Some(node) = self.graph_mut().node.last_mut() {
            node.name = name.into();
        }
        self
    }

    /// Of what domain the last node is.
    pub fn of_domain(mut self, domain: &str) -> Onnx {
        if let Some(node) = self.graph_mut().node.last_mut() {
            node.domain = domain.into();
        }
        self
    }

    /// A version of another domain.
    pub fn imports(mut self, domain: &str, version: i64) -> Onnx {
        let import = OperatorSetIdProto { domain: domain.into(), version, ..Default::default() };
        self.proto.opset_import.push(import);
        self
    }

    /// A function of domain `f`, whose body is that of another model and of its opset.
    pub fn function(mut self, name: &str, attributes: &[&str], body: Onnx) -> Onnx {
        let graph = body.proto.graph.unwrap_or_default();
        self.proto.functions.push(FunctionProto {
            name: name.into(),
            domain: "f".into(),
            input: graph.input.into_iter().map(|i| i.name).collect(),
            output: graph.output.into_iter().map(|o| o.name).collect(),
            attribute: attributes.iter().map(|a| a.to_string()).collect(),
            node: graph.node,
            opset_import: body.proto.opset_import,
            ..Default::default()
        });
        self
    }

    /// A call of a function.
    pub fn call(self, name: &str, inputs: &[&str], outputs: &[&str], attributes: &[AttributeProto]) -> Onnx {
        self.node(name, inputs, outputs, attributes).of_domain("f")
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.proto.write_to_bytes().unwrap()
    }

    pub fn read(&self) -> Result<Model, OnnxError> {
        Model::from_bytes(self.bytes(), None)
    }

    pub fn graph_with(&self, bindings: &Bindings) -> Result<Graph, OnnxError> {
        self.read()?.graph(bindings)
    }

    /// The graph of a model that must be sound.
    pub fn graph(&self) -> Graph {
        let graph = self.graph_with(&Bindings::new()).unwrap_or_else(|e| panic!("{e}"));
        graph.verify().unwrap();
        graph
    }

    pub fn error(&self) -> String {
        match self.graph_with(&Bindings::new()) {
            Ok(_) => panic!("the model is read"),
            Err(e) => e.to_string(),
        }
    }

    /// The first output for these inputs.
    pub fn run(&self, inputs: impl AsRef<[Tensor]>) -> Tensor {
        eval::run(&self.graph(), inputs.as_ref()).unwrap().remove(0)
    }

    /// Type of the first output.
    pub fn ty(&self) -> TensorType {
        let graph = self.graph();
        graph.ty(graph.outputs()[0].1).clone()
    }
}

/// A model of one node `op(x, …constants)` with an input of these dims.
pub fn one(
    opset: i64,
    op: &str,
    dims: &[&str],
    constants: &[(&str, &[i64])],
    attributes: &[AttributeProto],
) -> Onnx {
    let mut model = onnx(opset).input("x", dims).output("y");
    let mut inputs = vec!["x"];
    for (name, data) in constants {
        if !name.is_empty() {
            model = model.ints(name, data);
        }
        inputs.push(name);
    }
    model.node(op, &inputs, &["y"], attributes)
}

/// ONNX's numbers of element types.
pub const F32: i32 = 1;
pub const I64: i32 = 7;
pub const BOOL: i32 = 9;

/// An operator whose results have other types than its inputs.
pub fn typed(
    opset: i64,
    op: &str,
    inputs: &[(&str, i32, &[&str])],
    outputs: &[&str],
    attributes: &[AttributeProto],
) -> Onnx {
    let mut model = onnx(opset);
    for (name, dtype, dims) in inputs {
        model = model.input_of(name, *dtype, dims);
    }
    for output in outputs {
        model = model.output(output);
    }
    let names: Vec<&str> = inputs.iter().map(|(name, ..)| *name).collect();
    model.node(op, &names, outputs, attributes)
}

pub fn value_info(name: &str, elem_type: i32, dims: Option<&[&str]>) -> ValueInfoProto {
    let dim = |text: &&str| {
        let value = match text.parse() {
            Ok(n) => dimension::Value::DimValue(n),
            Err(_) => dimension::Value::DimParam(text.to_string()),
        };
        Dimension { value: Some(value), ..Default::default() }
    };
    let shape =
        dims.map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect(), ..Default::default() });
    let tensor = type_proto::Tensor { elem_type, shape: shape.into(), ..Default::default() };
    let type_ = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), type_: MessageField::some(type_), ..Default::default() }
}

fn attribute(name: &str, code: i32) -> AttributeProto {
    AttributeProto { name: name.into(), type_: EnumOrUnknown::from_i32(code), ..Default::default() }
}

pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..attribute(name, 1) }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, 2) }
}

pub fn string(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: s.as_bytes().to_vec(), ..attribute(name, 3) }
}

pub fn strings(name: &str, strings: &[&str]) -> AttributeProto {
    let strings = strings.iter().map(|s| s.as_bytes().to_vec()).collect();
    AttributeProto { strings, ..attribute(name, 8) }
}

pub fn tensor(name: &str, t: TensorProto) -> AttributeProto {
    AttributeProto { t: MessageField::some(t), ..attribute(name, 4) }
}

pub fn floats(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto { floats: floats.to_vec(), ..attribute(name, 6) }
}

pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..attribute(name, 7) }
}

/// The graph of another model.
pub fn graph(name: &str, inner: Onnx) -> AttributeProto {
    AttributeProto { g: inner.proto.graph, ..attribute(name, 5) }
}

/// In a function: the attribute of its call that is called `outer`; `code` is its type.
pub fn reference(name: &str, outer: &str, code: i32) -> AttributeProto {
    AttributeProto { ref_attr_name: outer.into(), ..attribute(name, code) }
}

/// 0, 1, 2 … of a shape.
pub fn iota(shape: &[usize]) -> Tensor {
    let data: Vec<f32> = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
    Tensor::new(shape, &data).unwrap()
}

pub fn f32s(t: &Tensor) -> Vec<f32> {
    t.elems::<f32>().unwrap().to_vec()
}
