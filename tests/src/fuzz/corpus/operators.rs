//! Small models of each operator, from the lines of `operators.txt`.

use onnx_protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use protobuf::{EnumOrUnknown, MessageField};

/// The element types of the lines, as ONNX numbers them, and their sizes.
const TYPES: &[(&str, i32, usize)] = &[
    ("f32", 1, 4),
    ("u8", 2, 1),
    ("i8", 3, 1),
    ("i16", 5, 2),
    ("i32", 6, 4),
    ("i64", 7, 8),
    ("bool", 9, 1),
    ("u32", 12, 4),
];

/// All models.
///
/// # Panics
///
/// If a line, which is part of this crate, is malformed.
pub fn models() -> Vec<ModelProto> {
    let lines = include_str!("operators.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.flat_map(|line| alternatives(line).into_iter().map(|line| model(&line))).collect()
}

/// A line for each of the operators that its first node may be.
fn alternatives(line: &str) -> Vec<String> {
    let (operators, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
    operators.split('|').map(|operator| format!("{operator} {rest}")).collect()
}

fn model(line: &str) -> ModelProto {
    let mut graph = GraphProto { name: "g".into(), ..Default::default() };
    let mut opset = 22;
    for text in line.split(';') {
        let mut words = text.split_whitespace();
        let operator = words.next().unwrap_or_default();
        let (domain, op) = operator.split_once(':').unwrap_or(("", operator));
        let mut node = NodeProto { domain: domain.into(), op_type: op.into(), ..Default::default() };
        let (mut attributes, mut results) = (false, false);
        for word in words {
            match word {
                "{" | "}" => attributes = word == "{",
                "->" => results = true,
                _ if word.starts_with('@') => opset = word[1..].parse().unwrap_or_else(|_| panic!("{line}")),
                _ if attributes => {
                    node.attribute.push(attribute(word).unwrap_or_else(|| panic!("{line}: {word}")))
                }
                _ if results => node.output.push(word.into()),
                _ => node.input.push(operand(word, &mut graph).unwrap_or_else(|| panic!("{line}: {word}"))),
            }
        }
        graph.node.push(node);
    }
    let read: Vec<String> = graph.node.iter().flat_map(|node| node.input.clone()).collect();
    let made = graph.node.iter().flat_map(|node| &node.output);
    let unread = made.filter(|name| !read.contains(name));
    graph.output = unread.map(|name| ValueInfoProto { name: name.clone(), ..Default::default() }).collect();
    ModelProto {
        ir_version: 10,
        opset_import: vec![OperatorSetIdProto { version: opset, ..Default::default() }],
        graph: MessageField::some(graph),
        ..Default::default()
    }
}

/// The name of an operand; an input or a constant is declared.
fn operand(word: &str, graph: &mut GraphProto) -> Option<String> {
    if word == "_" {
        return Some(String::new());
    }
    if let Some((name, ty)) = word.split_once(':') {
        let ((elem_type, _), dims) = typed(ty)?;
        graph.input.push(value_info(name, elem_type, &dims));
        return Some(name.into());
    }
    let Some((name, value)) = word.split_once('=') else { return Some(word.into()) };
    let mut tensor = TensorProto { name: name.into(), ..Default::default() };
    if let Some((ty, list)) = value.split_once('{') {
        let list: Vec<&str> = list.strip_suffix('}')?.split(',').filter(|n| !n.is_empty()).collect();
        let (_, number, _) = TYPES.iter().find(|(name, ..)| *name == ty)?;
        tensor.data_type = *number;
        // A lone number has no axes, but for the lists that attributes have become.
        let scalar = list.len() == 1 && !matches!(name, "k" | "s" | "a" | "n" | "p") || ty == "u8";
        tensor.dims = if scalar { vec![] } else { vec![list.len() as i64] };
        match ty {
            "f32" => tensor.float_data = list.iter().map(|n| n.parse().ok()).collect::<Option<_>>()?,
            "i64" => tensor.int64_data = list.iter().map(|n| n.parse().ok()).collect::<Option<_>>()?,
            _ => tensor.int32_data = list.iter().map(|n| n.parse().ok()).collect::<Option<_>>()?,
        }
    } else {
        let ((elem_type, bytes), dims) = typed(value)?;
        let count: i64 = dims.iter().product();
        tensor.data_type = elem_type;
        tensor.dims = dims;
        match elem_type {
            1 => tensor.float_data = (0..count).map(|i| (i * 7 % 11) as f32 / 8.0 - 0.6).collect(),
            _ => tensor.raw_data = (0..count as usize * bytes).map(|i| (i % 5) as u8).collect(),
        }
    }
    graph.initializer.push(tensor);
    Some(name.into())
}

/// `f32[2x3]`.
fn typed(text: &str) -> Option<((i32, usize), Vec<i64>)> {
    let (name, dims) = text.strip_suffix(']')?.split_once('[')?;
    let (_, number, bytes) = TYPES.iter().find(|(known, ..)| *known == name)?;
    let dims = dims.split('x').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    Some(((*number, *bytes), dims))
}

fn value_info(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    let dim = |&n: &i64| Dimension { value: Some(dimension::Value::DimValue(n)), ..Default::default() };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect(), ..Default::default() };
    let tensor = type_proto::Tensor { elem_type, shape: MessageField::some(shape), ..Default::default() };
    let type_ = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), type_: MessageField::some(type_), ..Default::default() }
}

/// `name=value`.
fn attribute(word: &str) -> Option<AttributeProto> {
    let (name, value) = word.split_once('=')?;
    let mut attribute = AttributeProto { name: name.into(), ..Default::default() };
    let mut kind = |number| attribute.type_ = EnumOrUnknown::from_i32(number);
    if let Some(text) = value.strip_prefix('\'') {
        kind(3);
        attribute.s = text.strip_suffix('\'')?.into();
    } else if let Some(list) = value.strip_prefix('[') {
        let list: Vec<&str> = list.strip_suffix(']')?.split(',').collect();
        if value.contains('.') {
            kind(6);
            attribute.floats = list.iter().map(|n| n.parse().ok()).collect::<Option<_>>()?;
        } else {
            kind(7);
            attribute.ints = list.iter().map(|n| n.parse().ok()).collect::<Option<_>>()?;
        }
    } else if value.contains('.') {
        kind(1);
        attribute.f = value.parse().ok()?;
    } else {
        kind(2);
        attribute.i = value.parse().ok()?;
    }
    Some(attribute)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nnc_ir::onnx::{Bindings, Model, Supported, operators};
    use onnx_protobuf::Message;

    use super::*;

    /// Operators with graphs within, which lines do not have.
    const WITH_GRAPHS: [&str; 3] = ["If", "Loop", "Scan"];

    #[test]
    fn every_operator_that_is_read_has_a_model_that_is_read() {
        let mut read = BTreeSet::new();
        let mut refused = Vec::new();
        for model in models() {
            let bytes = model.write_to_bytes().unwrap();
            match Model::from_bytes(bytes, None).and_then(|model| model.graph(&Bindings::new())) {
                Ok(_) => {
                    read.extend(
                        model.graph.node.iter().map(|node| (node.domain.clone(), node.op_type.clone())),
                    );
                }
                Err(error) => refused.push(error.to_string()),
            }
        }
        assert_eq!(refused, Vec::<String>::new());
        let name = |row: &Supported| (row.domain.to_string(), row.name.to_string());
        let all: BTreeSet<(String, String)> = operators().iter().map(name).collect();
        let missing: Vec<&(String, String)> =
            all.difference(&read).filter(|(_, name)| !WITH_GRAPHS.contains(&name.as_str())).collect();
        assert_eq!(missing, Vec::<&(String, String)>::new());
    }
}
