//! From the messages of `onnx.proto` to a [`Model`]. Nothing behind this file knows protocol buffers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use onnx_protobuf::tensor_shape_proto::dimension;
use onnx_protobuf::{
    AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TypeProto, ValueInfoProto, type_proto,
};

use super::about::ModelInfo;
use super::attribute::Attribute;
use super::dtype::dtype;
use super::error::Fault;
use super::functions::{self, FunctionDef, FunctionId};
use super::model::{Dim, Model, NodeDef, PortInfo};
use super::narrow::{self, Narrow};
use super::source::ModelSource;
use super::split::Initializer;
use super::subgraph::{self, GraphDef};
use super::table;
use super::tensor::{TensorFault, TensorReader};
use super::wire;
use crate::limits::{Exceeded, LimitName, Limits};
use crate::tensor::Tensor;

/// Parses bytes that [`wire::scan`](super::wire::scan) has passed.
pub(super) fn parse(bytes: &[u8]) -> Result<ModelProto, Fault> {
    parse_message(bytes)
}

fn parse_message<M: Message>(bytes: &[u8]) -> Result<M, Fault> {
    M::parse_from_bytes(bytes).map_err(|e| Fault::NotOnnx(format!("it cannot be parsed: {e}")))
}

/// Reads a tensor that is a file by itself, and its name.
pub(super) fn tensor(bytes: &[u8], tensors: &mut TensorReader<'_>) -> Result<(String, Tensor), Fault> {
    let bad = |what: String| Fault::Tensor { tensor: String::new(), what };
    wire::scan_tensor(bytes, tensors.limits).map_err(|fault| match fault {
        Fault::NotOnnx(what) => bad(what),
        other => other,
    })?;
    let mut proto =
        TensorProto::parse_from_bytes(bytes).map_err(|e| bad(format!("it cannot be parsed: {e}")))?;
    let name = std::mem::take(&mut proto.name);
    let tensor = tensors.read(proto).map_err(|fault| tensor_fault(fault, &name))?;
    Ok((name, tensor))
}

/// Takes the message apart.
///
/// `source` is where the model is, and in it its initializers, the last of which are nodes in the model.
pub(super) fn model(
    proto: ModelProto,
    (initializers, constants): (Vec<Initializer>, usize),
    source: ModelSource,
    file: &str,
    tensors: &mut TensorReader<'_>,
) -> Result<Model, Fault> {
    let about = ModelInfo::new(&proto);
    let Some(graph) = proto.graph.into_option() else {
        return Err(Fault::NotOnnx("it is a protocol buffer, but holds no graph".into()));
    };
    check_ir_version(proto.ir_version)?;
    let opsets = opsets(&proto.opset_import, &graph)?;
    if !graph.sparse_initializer.is_empty() {
        return Err(Fault::Unsupported("sparse initializers".into()));
    }
    let first_constant = initializers.len() - constants;
    let parts = initializers.into_iter().enumerate();
    let (mut initializers, mut constants) = (BTreeMap::new(), BTreeSet::new());
    let mut narrows: BTreeMap<String, Narrow> = BTreeMap::new();
    for (number, part) in parts {
        let proto = parse_message::<TensorProto>(&part.header)?;
        let name = proto.name.clone();
        if name.is_empty() {
            return Err(Fault::Tensor { tensor: name, what: "an initializer needs a name".into() });
        }
        let raw = part.raw.map(|place| (&source, place));
        let weights = match Narrow::of(proto.data_type.into()) {
            Some(narrow) => {
                narrows.insert(name.clone(), narrow);
                tensors.narrow(narrow, proto, raw)
            }
            None => tensors.weights(proto, raw),
        };
        let weights = weights.map_err(|fault| tensor_fault(fault, &name))?;
        if initializers.contains_key(&name) {
            let by = "an initializer".to_string();
            return Err(Fault::Duplicate { value: name, first: by.clone(), second: by });
        }
        if number >= first_constant {
            constants.insert(name.clone());
        }
        initializers.insert(name, weights);
    }
    for (what, number) in [("inputs", graph.input.len()), ("outputs", graph.output.len())] {
        if number > tensors.limits.ports.saturating_add(initializers.len()) {
            let what = format!("the graph with {number} {what}");
            let limit = tensors.limits.ports as u64;
            return Err(Exceeded { what, limit, name: LimitName::Ports }.into());
        }
    }
    let (mut inputs, mut defaults) = (Vec::new(), Vec::new());
    for info in graph.input {
        match initializers.get(&info.name) {
            None => inputs.push(port("input", info)?),
            // Old models list all their weights; what is wrong with how they are listed harms nobody.
            Some(weights) => defaults.push(port("input", info.clone()).unwrap_or_else(|_| {
                let ty = weights.ty();
                let dims = ty.shape.iter().copied().map(Dim::Known).collect();
                PortInfo { name: info.name, dtype: Some(ty.dtype), dims: Some(dims) }
            })),
        }
    }
    let outputs = graph.output.into_iter().map(|info| port("output", info)).collect::<Result<Vec<_>, _>>()?;
    let mut names = BTreeSet::new();
    if let Some(twice) = outputs.iter().find(|output| !names.insert(output.name.as_str())) {
        let what = "is listed twice; give the second a name of its own".to_string();
        return Err(Fault::Port { kind: "output", name: twice.name.clone(), what });
    }
    if outputs.is_empty() {
        return Err(Fault::Unsupported("a graph without outputs".into()));
    }
    let nodes = graph
        .node
        .into_iter()
        .enumerate()
        .map(|(index, proto)| node(index, proto, &opsets, tensors))
        .collect::<Result<Vec<_>, _>>()?;
    let functions = proto.functions.into_iter().map(|proto| function(proto, &opsets, tensors));
    let mut known = BTreeMap::new();
    for function in functions {
        let (id, function) = function?;
        if let Some(name) = known.insert(id.clone(), function).map(|_| id.1) {
            return Err(Fault::Unsupported(format!("function \"{name}\", which is defined twice")));
        }
    }
    let mut nodes = functions::inline(nodes, &known, tensors.limits.nodes)?;
    subgraph::capture(&mut nodes);
    narrow::check_readers(&nodes, |name| narrows.get(name).copied())?;
    if let Some((output, narrow)) = outputs.iter().find_map(|o| Some((o, narrows.get(&o.name)?))) {
        let what = format!("is a constant of {}, which no caller can read", narrow.name);
        return Err(Fault::Port { kind: "output", name: output.name.clone(), what });
    }
    Ok(Model {
        file: file.to_string(),
        limits: Limits::default(),
        about,
        ir_version: proto.ir_version,
        opsets,
        inputs,
        defaults,
        outputs,
        nodes,
        initializers,
        constants,
        source,
        outside: Vec::new(),
    })
}

fn tensor_fault(fault: TensorFault, tensor: &str) -> Fault {
    match fault {
        TensorFault::Unread(fault) => fault,
        TensorFault::Bad(what) => Fault::Tensor { tensor: tensor.to_string(), what },
        TensorFault::Large(exceeded) => exceeded.into(),
    }
}

/// ONNX's own domain is written in two ways.
fn domain(name: String) -> String {
    if name == "ai.onnx" { String::new() } else { name }
}

fn opsets(imports: &[OperatorSetIdProto], graph: &GraphProto) -> Result<BTreeMap<String, i64>, Fault> {
    let mut opsets = BTreeMap::new();
    for import in imports {
        let name = domain(import.domain.clone());
        if let Some(other) = opsets.insert(name.clone(), import.version)
            && other != import.version
        {
            let what =
                format!("the model imports domain \"{name}\" in versions {other} and {}", import.version);
            return Err(Fault::Opset(what));
        }
    }
    match opsets.get("") {
        Some(version) if *version > table::NEWEST_OPSET => Err(Fault::Opset(format!(
            "the model is written for opset {version}, nnc knows those up to {}; export it for an older one",
            table::NEWEST_OPSET
        ))),
        Some(version) if *version < 1 => {
            Err(Fault::Opset(format!("the model is written for opset {version}, which does not exist")))
        }
        None if graph.node.iter().any(|n| domain(n.domain.clone()).is_empty()) => {
            Err(Fault::Opset("the model does not say which opset it is written for".into()))
        }
        _ => Ok(opsets),
    }
}

/// Refuses a version of the file format that does not exist; newer ones are known by what they use.
fn check_ir_version(version: i64) -> Result<(), Fault> {
    match version {
        1.. => Ok(()),
        _ => {
            Err(Fault::NotOnnx(format!("its ir_version is {version}; the first version of the format is 1")))
        }
    }
}

fn port(kind: &'static str, info: ValueInfoProto) -> Result<PortInfo, Fault> {
    let name = info.name;
    let fault = |what: &str| Fault::Port { kind, name: name.clone(), what: what.to_string() };
    let tensor = match info.type_.into_option() {
        Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. }) => tensor,
        Some(TypeProto { value: Some(_), .. }) => {
            return Err(fault(
                "is no tensor; sequences, maps, optional values and sparse tensors are not supported",
            ));
        }
        // Old exporters leave the types of outputs away.
        _ if kind == "output" => return Ok(PortInfo { name, dtype: None, dims: None }),
        _ => return Err(fault("has no type")),
    };
    let dtype = dtype(i64::from(tensor.elem_type)).map_err(|what| fault(&what))?;
    let dims = tensor.shape.into_option().map(|shape| shape.dim.into_iter().map(|d| dim(d.value)).collect());
    Ok(PortInfo { name, dtype: Some(dtype), dims })
}

fn dim(value: Option<dimension::Value>) -> Dim {
    match value {
        // Exporters write -1 for a dim that they do not know.
        Some(dimension::Value::DimValue(n)) => usize::try_from(n).map_or(Dim::Unknown, Dim::Known),
        // "?" stands for several dims at once, so it is no name.
        Some(dimension::Value::DimParam(name)) if !name.is_empty() && name != "?" => Dim::Named(name),
        _ => Dim::Unknown,
    }
}

/// A function that the model defines.
fn function(
    proto: FunctionProto,
    model: &BTreeMap<String, i64>,
    tensors: &mut TensorReader<'_>,
) -> Result<(FunctionId, FunctionDef), Fault> {
    let mut opsets = model.clone();
    for import in proto.opset_import {
        if import.version > table::NEWEST_OPSET && domain(import.domain.clone()).is_empty() {
            let what = format!(
                "function \"{}\" is written for opset {}, nnc knows those up to {}",
                proto.name,
                import.version,
                table::NEWEST_OPSET
            );
            return Err(Fault::Opset(what));
        }
        opsets.insert(domain(import.domain), import.version);
    }
    let nodes = proto.node.into_iter().enumerate().map(|(index, proto)| node(index, proto, &opsets, tensors));
    let nodes = nodes.collect::<Result<_, _>>()?;
    let mut attributes: BTreeMap<String, Option<Attribute>> =
        proto.attribute.into_iter().map(|name| (name, None)).collect();
    for default in proto.attribute_proto {
        let (name, default) = attribute(default, &opsets, tensors)?;
        attributes.insert(name, Some(default));
    }
    let id = (domain(proto.domain), proto.name, proto.overload);
    Ok((id, FunctionDef { inputs: proto.input, outputs: proto.output, attributes, nodes }))
}

fn graph(
    proto: GraphProto,
    opsets: &BTreeMap<String, i64>,
    tensors: &mut TensorReader<'_>,
) -> Result<GraphDef, Fault> {
    if !proto.sparse_initializer.is_empty() {
        return Err(Fault::Unsupported("sparse initializers".into()));
    }
    let mut initializers = BTreeMap::new();
    for mut proto in proto.initializer {
        let name = std::mem::take(&mut proto.name);
        let tensor = tensors.read(proto).map_err(|fault| tensor_fault(fault, &name))?;
        initializers.insert(name, tensor);
    }
    let nodes = proto.node.into_iter().enumerate().map(|(index, proto)| node(index, proto, opsets, tensors));
    Ok(GraphDef {
        nodes: nodes.collect::<Result<_, _>>()?,
        inputs: proto.input.into_iter().map(|info| info.name).collect(),
        outputs: proto.output.into_iter().map(|info| info.name).collect(),
        initializers,
    })
}

fn node(
    index: usize,
    proto: NodeProto,
    opsets: &BTreeMap<String, i64>,
    tensors: &mut TensorReader<'_>,
) -> Result<NodeDef, Fault> {
    let name = if !proto.name.is_empty() {
        proto.name
    } else {
        proto.output.iter().find(|o| !o.is_empty()).cloned().unwrap_or_else(|| format!("node {index}"))
    };
    let mut attributes = BTreeMap::new();
    for a in proto.attribute {
        let (attribute_name, attribute) = attribute(a, opsets, tensors)?;
        if attributes.insert(attribute_name.clone(), attribute).is_some() {
            return Err(Fault::Unsupported(format!(
                "node \"{name}\" ({}) has attribute \"{attribute_name}\" twice",
                proto.op_type
            )));
        }
    }
    let domain = domain(proto.domain);
    Ok(NodeDef {
        name,
        op: proto.op_type,
        opset: opsets.get(&domain).copied().unwrap_or_else(|| table::unstated(&domain)),
        domain,
        overload: proto.overload,
        captured: Vec::new(),
        inputs: proto.input,
        outputs: proto.output,
        attributes,
    })
}

fn attribute(
    proto: AttributeProto,
    opsets: &BTreeMap<String, i64>,
    tensors: &mut TensorReader<'_>,
) -> Result<(String, Attribute), Fault> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let value = match proto.type_.value() {
        _ if !proto.ref_attr_name.is_empty() => Attribute::Reference(proto.ref_attr_name),
        1 => Attribute::Float(proto.f),
        2 => Attribute::Int(proto.i),
        3 => Attribute::String(text(proto.s)),
        4 => match proto.t.into_option().map(|t| tensors.read(t)) {
            Some(Ok(tensor)) => Attribute::Tensor(tensor),
            Some(Err(TensorFault::Bad(what))) => Attribute::Unreadable(what),
            Some(Err(refused)) => return Err(tensor_fault(refused, &proto.name)),
            None => Attribute::Unreadable("it is said to be a tensor, but there is none".into()),
        },
        6 => Attribute::Floats(proto.floats),
        7 => Attribute::Ints(proto.ints),
        8 => Attribute::Strings(proto.strings.into_iter().map(text).collect()),
        5 => match proto.g.into_option() {
            Some(inner) => Attribute::Graph(Arc::new(graph(inner, opsets, tensors)?)),
            None => Attribute::Unreadable("it is said to be a graph, but there is none".into()),
        },
        10 => Attribute::Other("graphs"),
        9 => Attribute::Other("tensors"),
        11 | 12 => Attribute::Other("a sparse tensor"),
        13 | 14 => Attribute::Other("a type"),
        _ => Attribute::Other("a value of unknown type"),
    };
    Ok((proto.name, value))
}
