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
const GRAPH_INITIALIZER: u64 = 5;
const TENSOR_RAW_DATA: u64 = 9;

/// Splits a model that [`wire::scan`](super::wire::scan) has passed. What cannot be walked over goes to the parser, whose
/// it is to refuse it.
pub(super) fn split(model: &mut impl Bytes) -> SplitModel {
    let mut split = SplitModel::default();
    let mut place = 0..model.len();
    while let Some(field) = next_field(model, &mut place) {
        match graph(model, &field, &mut split.initializers) {
            Some(graph) => append(&mut split.skeleton, MODEL_GRAPH, &graph),
            None => model.append(field.all, &mut split.skeleton),
        }
    }
    split
}

/// The graph in a field of a model, without its initializers.
fn graph(model: &mut impl Bytes, field: &Field, initializers: &mut Vec<Initializer>) -> Option<Vec<u8>> {
    let mut skeleton = Vec::new();
    let mut place = field.body(MODEL_GRAPH)?;
    while let Some(field) = next_field(model, &mut place) {
        match field.body(GRAPH_INITIALIZER) {
            Some(tensor) => initializers.push(initializer(model, tensor)),
            None => model.append(field.all, &mut skeleton),
        }
    }
    Some(skeleton)
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
    use onnx_protobuf::{GraphProto, Message, ModelProto, NodeProto, TensorProto};
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
        assert_eq!(split(&mut &number[..]), SplitModel { skeleton: number.to_vec(), initializers: vec![] });
    }
}
