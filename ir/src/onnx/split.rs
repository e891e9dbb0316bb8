//! Sets the weights of a model aside before it is parsed.
//!
//! Nearly all bytes of a model are raw data of initializers. A parser would copy them into messages of its own; here
//! they stay where they are, and the parser sees the rest.
//!
//! ```text
//!   model ┬ graph ┬ nodes, inputs, outputs …   ──▶ skeleton, for the parser
//!         │       └ initializer ┬ name, dims … ──▶ header, for the parser
//!         │                     └ raw data     ──▶ a range of the model's bytes
//!         └ opsets …                           ──▶ skeleton
//! ```
//!
//! Some exporters write every weight as a node of its own, a Constant. A large one is taken for an initializer that is called as
//! its result.

use std::ops::Range;

use super::source::Bytes;
use super::wire::{Field, next_field};

/// A model in parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SplitModel {
    /// The model without initializers.
    pub skeleton: Vec<u8>,
    /// The initializers, in order.
    pub initializers: Vec<Initializer>,
    /// Those among the last of them that are nodes in the model.
    pub constants: usize,
}

/// An initializer in parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Initializer {
    /// The message without its raw data.
    pub header: Vec<u8>,
    /// Where in the model its raw data are, if it has any.
    pub raw: Option<Range<usize>>,
}

// Numbers of fields in `onnx.proto`.
const MODEL_GRAPH: u64 = 7;
const GRAPH_NODE: u64 = 1;
const GRAPH_INITIALIZER: u64 = 5;
const NODE_OUTPUT: u64 = 2;
const NODE_NAME: u64 = 3;
const NODE_OP_TYPE: u64 = 4;
const NODE_ATTRIBUTE: u64 = 5;
const NODE_DOC: u64 = 6;
const ATTRIBUTE_NAME: u64 = 1;
const ATTRIBUTE_TENSOR: u64 = 5;
const ATTRIBUTE_DOC: u64 = 13;
/// A number, so its body is none: the type of an attribute that holds a tensor, with its key.
const ATTRIBUTE_IS_TENSOR: &[u8] = &[0xa0, 0x01, 4];
const TENSOR_NAME: u64 = 8;
const TENSOR_RAW_DATA: u64 = 9;

/// Raw data of fewer bytes may as well be parsed.
const LARGE_CONSTANT: usize = 1 << 10;

/// Splits a model that [`wire::scan`](super::wire::scan) has passed. What cannot be walked over goes to the parser, whose
/// it is to refuse it.
pub(super) fn split(model: &mut impl Bytes) -> SplitModel {
    let (mut split, mut constants) = (SplitModel::default(), Vec::new());
    let mut place = 0..model.len();
    while let Some(field) = next_field(model, &mut place) {
        match graph(model, &field, &mut split.initializers, &mut constants) {
            Some(graph) => append(&mut split.skeleton, MODEL_GRAPH, &graph),
            None => model.append(field.all, &mut split.skeleton),
        }
    }
    split.constants = constants.len();
    split.initializers.extend(constants);
    split
}

/// The graph in a field of a model, without its initializers.
fn graph(
    model: &mut impl Bytes,
    field: &Field,
    initializers: &mut Vec<Initializer>,
    constants: &mut Vec<Initializer>,
) -> Option<Vec<u8>> {
    let mut skeleton = Vec::new();
    let mut place = field.body(MODEL_GRAPH)?;
    while let Some(field) = next_field(model, &mut place) {
        if let Some(tensor) = field.body(GRAPH_INITIALIZER) {
            initializers.push(initializer(model, tensor));
        } else if let Some(constant) = field.body(GRAPH_NODE).and_then(|node| constant(model, node)) {
            constants.push(constant);
        } else {
            model.append(field.all, &mut skeleton);
        }
    }
    Some(skeleton)
}

/// A node as an initializer, if it is a large Constant with nothing that has to be looked at. All others go to the parser.
fn constant(model: &mut impl Bytes, mut node: Range<usize>) -> Option<Initializer> {
    if node.len() < LARGE_CONSTANT {
        return None;
    }
    let (mut is_constant, mut outputs, mut tensors) = (false, Vec::new(), Vec::new());
    while let Some(field) = next_field(model, &mut node) {
        if let Some(op) = field.body(NODE_OP_TYPE) {
            is_constant = is(model, op, b"Constant");
        } else if let Some(name) = field.body(NODE_OUTPUT) {
            outputs.push(name);
        } else if let Some(attribute) = field.body(NODE_ATTRIBUTE) {
            tensors.push(value(model, attribute)?);
        } else if field.body(NODE_NAME).or(field.body(NODE_DOC)).is_none() {
            return None;
        }
    }
    let ([output], [tensor], true) = (&outputs[..], &tensors[..], is_constant) else { return None };
    let mut constant = initializer(model, tensor.clone());
    let large = constant.raw.as_ref().is_some_and(|raw| raw.len() >= LARGE_CONSTANT);
    if !large || output.is_empty() {
        return None;
    }
    let mut name = Vec::new();
    model.append(output.clone(), &mut name);
    // Of a field that is there twice, the last one counts.
    append(&mut constant.header, TENSOR_NAME, &name);
    Some(constant)
}

/// The tensor of an attribute that is called `value` and is one.
fn value(model: &mut impl Bytes, mut attribute: Range<usize>) -> Option<Range<usize>> {
    let (mut tensor, mut is_value, mut is_tensor) = (None, false, false);
    while let Some(field) = next_field(model, &mut attribute) {
        if let Some(name) = field.body(ATTRIBUTE_NAME) {
            is_value = is(model, name, b"value");
        } else if let Some(body) = field.body(ATTRIBUTE_TENSOR) {
            // One that comes in parts is put together by the parser.
            if tensor.replace(body).is_some() {
                return None;
            }
        } else if is(model, field.all.clone(), ATTRIBUTE_IS_TENSOR) {
            is_tensor = true;
        } else {
            field.body(ATTRIBUTE_DOC)?;
        }
    }
    tensor.filter(|_| is_value && is_tensor)
}

fn is(model: &mut impl Bytes, place: Range<usize>, bytes: &[u8]) -> bool {
    place.len() == bytes.len() && model.peek(place.start, place.len()) == bytes
}

fn initializer(model: &mut impl Bytes, mut place: Range<usize>) -> Initializer {
    let mut initializer = Initializer::default();
    while let Some(field) = next_field(model, &mut place) {
        match field.body(TENSOR_RAW_DATA) {
            // Of a field that is there twice, the last one counts.
            Some(raw) => initializer.raw = Some(raw),
            None => model.append(field.all, &mut initializer.header),
        }
    }
    initializer
}

/// Appends a field that holds a message.
fn append(to: &mut Vec<u8>, number: u64, body: &[u8]) {
    for mut n in [number << 3 | 2, body.len() as u64] {
        while n >= 0x80 {
            to.push(n as u8 | 0x80);
            n >>= 7;
        }
        to.push(n as u8);
    }
    to.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use onnx_protobuf::{
        AttributeProto, GraphProto, Message, ModelProto, NodeProto, TensorProto, attribute_proto,
    };
    use protobuf::MessageField;

    #[test]
    fn weights_stay_in_place_and_all_the_rest_goes_to_the_parser() {
        let weights = |name: &str, n: u8| TensorProto {
            name: name.into(),
            dims: vec![i64::from(n)],
            data_type: 2,
            raw_data: (0..n).collect(),
            ..TensorProto::new()
        };
        let node = NodeProto { name: "a node".into(), ..NodeProto::new() };
        let typed = TensorProto { name: "typed".into(), int32_data: vec![7], ..TensorProto::new() };
        let graph = GraphProto {
            name: "net".into(),
            node: vec![node; 40],
            initializer: vec![weights("w", 200), typed.clone(), weights("v", 3)],
            ..GraphProto::new()
        };
        let model = ModelProto {
            producer_name: "a test".into(),
            graph: MessageField::some(graph.clone()),
            ..ModelProto::new()
        };
        let bytes = model.write_to_bytes().unwrap();
        let split = split(&mut &bytes[..]);

        let mut rest = model.clone();
        rest.graph.mut_or_insert_default().initializer.clear();
        assert_eq!(ModelProto::parse_from_bytes(&split.skeleton).unwrap(), rest);
        let whole: Vec<TensorProto> = split
            .initializers
            .iter()
            .map(|i| TensorProto {
                raw_data: i.raw.clone().map(|raw| bytes[raw].to_vec()).unwrap_or_default(),
                ..TensorProto::parse_from_bytes(&i.header).unwrap()
            })
            .collect();
        assert_eq!(whole, graph.initializer);
        assert_eq!(split.initializers[1].raw, None);
    }

    #[test]
    fn a_graph_in_the_wrong_wire_type_is_left_to_the_parser() {
        let number = [7 << 3, 5];
        assert_eq!(
            split(&mut &number[..]),
            SplitModel { skeleton: number.to_vec(), ..SplitModel::default() }
        );
    }

    /// A model with one node.
    fn with_node(node: NodeProto) -> Vec<u8> {
        let graph = GraphProto { node: vec![node], ..GraphProto::new() };
        let model = ModelProto { graph: MessageField::some(graph), ..ModelProto::new() };
        model.write_to_bytes().unwrap()
    }

    fn constant_node() -> NodeProto {
        let tensor = TensorProto {
            name: "a name of its own".into(),
            dims: vec![LARGE_CONSTANT as i64],
            data_type: 2,
            raw_data: (0..LARGE_CONSTANT).map(|i| i as u8).collect(),
            ..TensorProto::new()
        };
        let attribute = AttributeProto {
            name: "value".into(),
            type_: attribute_proto::AttributeType::TENSOR.into(),
            t: MessageField::some(tensor),
            ..AttributeProto::new()
        };
        NodeProto {
            name: "a node".into(),
            op_type: "Constant".into(),
            output: vec!["weights".into()],
            attribute: vec![attribute],
            ..NodeProto::new()
        }
    }

    #[test]
    fn a_large_constant_is_an_initializer_that_is_called_as_its_result() {
        let bytes = with_node(constant_node());
        let split = split(&mut &bytes[..]);
        assert_eq!(ModelProto::parse_from_bytes(&split.skeleton).unwrap().graph.node.len(), 0);
        let [constant] = &split.initializers[..] else { panic!("{split:?}") };
        assert_eq!(split.constants, 1);
        let header = TensorProto::parse_from_bytes(&constant.header).unwrap();
        assert_eq!((header.name.as_str(), &header.dims[..]), ("weights", &[LARGE_CONSTANT as i64][..]));
        let raw = constant.raw.clone().unwrap();
        assert_eq!(bytes[raw], constant_node().attribute[0].t.raw_data);
    }

    #[test]
    fn what_is_not_quite_a_large_constant_is_left_to_the_parser() {
        type Change = fn(&mut NodeProto);
        let changes: [(&str, Change); 11] = [
            ("another operator", |n| n.op_type = "Constants".into()),
            ("a domain", |n| n.domain = "mine".into()),
            ("an operand", |n| n.input = vec!["x".into()]),
            ("two results", |n| n.output.push("other".into())),
            ("no result", |n| n.output.clear()),
            ("a result without a name", |n| n.output = vec![String::new()]),
            ("two attributes", |n| n.attribute.push(AttributeProto::new())),
            ("another attribute", |n| n.attribute[0].name = "sparse_value".into()),
            ("another type", |n| n.attribute[0].type_ = attribute_proto::AttributeType::FLOAT.into()),
            ("a reference", |n| n.attribute[0].ref_attr_name = "of a function".into()),
            ("little data", |n| n.attribute[0].t.mut_or_insert_default().raw_data.truncate(9)),
        ];
        for (what, change) in changes {
            let mut node = constant_node();
            change(&mut node);
            let bytes = with_node(node);
            let expected = SplitModel { skeleton: bytes.clone(), ..SplitModel::default() };
            assert_eq!(split(&mut &bytes[..]), expected, "{what}");
        }
    }
}
