//! Models changed a little: field by field, so that they still parse and reach the operators, and byte by byte.

use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{AttributeProto, GraphProto, Message, ModelProto, NodeProto, TensorProto, type_proto};

use super::choices::Rng;
use super::corpus::Corpus;

/// Numbers at which something ends.
const EDGES: [i64; 14] = [
    0,
    -1,
    1,
    2,
    i64::MIN,
    i64::MAX,
    i64::MIN + 1,
    i64::MAX - 1,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 32,
    1 << 62,
    65_536,
];

/// The same among floats.
const FLOAT_EDGES: [f32; 10] =
    [0.0, -0.0, 1.0, -1.0, 0.5, 1e-6, 1e4, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

/// Texts that some attribute knows.
const TEXTS: [&str; 14] = [
    "",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "NOTSET",
    "nearest",
    "linear",
    "cubic",
    "reflect",
    "edge",
    "wrap",
    "add",
    "max",
    "half_pixel",
];

/// A changed model of the corpus.
pub fn model(corpus: &mut Corpus, rng: &mut Rng) -> Vec<u8> {
    let mut model = corpus.pick(rng);
    if rng.one_in(6) {
        let other = corpus.pick(rng);
        splice(&mut model, &other, rng);
    }
    for _ in 0..rng.of(&[1, 1, 1, 2, 3, 0]) {
        change(&mut model, corpus, rng);
    }
    // A message that is too large for the wire is none.
    let mut bytes = model.write_to_bytes().unwrap_or_default();
    if rng.one_in(6) {
        for _ in 0..1 + rng.below(4) {
            change_bytes(&mut bytes, rng);
        }
    }
    bytes
}

/// Puts another model behind this one: it reads what this one makes.
fn splice(model: &mut ModelProto, other: &ModelProto, rng: &mut Rng) {
    let graph = model.graph.mut_or_insert_default();
    let mut other = other.graph.clone().unwrap_or_default();
    let made: Vec<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let first = other.input.first().map(|input| input.name.clone()).unwrap_or_default();
    let joined = if made.is_empty() { String::new() } else { made[rng.below(made.len())].clone() };
    let rename = |name: &mut String| {
        if *name == first {
            *name = joined.clone();
        } else if !name.is_empty() {
            name.push('\'');
        }
    };
    for node in &mut other.node {
        node.input.iter_mut().chain(&mut node.output).for_each(rename);
    }
    other.initializer.iter_mut().for_each(|tensor| rename(&mut tensor.name));
    other.output.iter_mut().for_each(|output| rename(&mut output.name));
    graph.node.extend(other.node);
    graph.initializer.extend(other.initializer);
    graph.output.extend(other.output);
    graph.input.extend(other.input.into_iter().skip(1).map(|mut input| {
        rename(&mut input.name);
        input
    }));
}

/// One change in one place.
fn change(model: &mut ModelProto, corpus: &mut Corpus, rng: &mut Rng) {
    if rng.one_in(16)
        && let Some(import) = model.opset_import.first_mut()
    {
        import.version = 1 + rng.below(29) as i64;
        return;
    }
    let graph = model.graph.mut_or_insert_default();
    match rng.below(8) {
        0..=3 => {
            let nodes = graph.node.len();
            if let Some(node) = graph.node.get_mut(rng.below(nodes)) {
                change_node(node, corpus, rng);
            }
        }
        4 => {
            let tensors = graph.initializer.len();
            if let Some(tensor) = graph.initializer.get_mut(rng.below(tensors)) {
                change_tensor(tensor, rng);
            }
        }
        5 => change_input(graph, rng),
        6 => rewire(graph, rng),
        _ => {
            let nodes = graph.node.len();
            if nodes > 1 {
                let at = rng.below(nodes);
                let node = graph.node.remove(at);
                if rng.one_in(2) {
                    graph.node.push(node);
                }
            }
        }
    }
}

fn change_node(node: &mut NodeProto, corpus: &mut Corpus, rng: &mut Rng) {
    let attributes = node.attribute.len();
    match rng.below(8) {
        0..=4 if attributes > 0 => change_attribute(&mut node.attribute[rng.below(attributes)], rng),
        5 if attributes > 0 => {
            let at = rng.below(attributes);
            let attribute = node.attribute.remove(at);
            if rng.one_in(4) {
                node.attribute.extend([attribute.clone(), attribute]);
            }
        }
        6 => {
            let donor = corpus.pick(rng);
            let donors = donor.graph.node.len();
            if let Some(other) = donor.graph.node.get(rng.below(donors)) {
                if rng.one_in(2) {
                    node.op_type = other.op_type.clone();
                } else {
                    node.attribute.extend(other.attribute.iter().cloned());
                }
            }
        }
        _ => {
            let operands = node.input.len();
            if operands > 0 {
                let at = rng.below(operands);
                match rng.below(3) {
                    0 => node.input[at].clear(),
                    1 => drop(node.input.remove(at)),
                    _ => node.input.push(node.input[at].clone()),
                }
            }
        }
    }
}

fn change_attribute(attribute: &mut AttributeProto, rng: &mut Rng) {
    match attribute.type_.value() {
        1 => attribute.f = rng.of(&FLOAT_EDGES),
        2 => attribute.i = number(attribute.i, rng),
        3 => attribute.s = rng.of(&TEXTS).into(),
        6 => change_list(&mut attribute.floats, |_, rng| rng.of(&FLOAT_EDGES), rng),
        7 => change_list(&mut attribute.ints, number, rng),
        _ => {}
    }
}

fn change_list<T: Copy>(list: &mut Vec<T>, other: impl Fn(T, &mut Rng) -> T, rng: &mut Rng) {
    let Some(&element) = list.get(rng.below(list.len())) else { return };
    let at = rng.below(list.len());
    match rng.below(8) {
        0 => drop(list.remove(at)),
        1 => list.push(element),
        2 => list.clear(),
        _ => list[at] = other(list[at], rng),
    }
}

/// A number nearby, or one at which something ends.
fn number(n: i64, rng: &mut Rng) -> i64 {
    match rng.below(4) {
        0 => n.wrapping_add(1),
        1 => n.wrapping_sub(1),
        2 => rng.below(9) as i64 - 3,
        _ => rng.of(&EDGES),
    }
}

fn change_tensor(tensor: &mut TensorProto, rng: &mut Rng) {
    match rng.below(6) {
        0 => change_list(&mut tensor.dims, number, rng),
        1 => tensor.data_type = rng.below(24) as i32,
        2 if !tensor.raw_data.is_empty() => {
            let at = rng.below(tensor.raw_data.len());
            tensor.raw_data[at] = rng.bits() as u8;
        }
        3 if !tensor.float_data.is_empty() => {
            change_list(&mut tensor.float_data, |_, rng| rng.of(&FLOAT_EDGES), rng)
        }
        _ if !tensor.int64_data.is_empty() => change_list(&mut tensor.int64_data, number, rng),
        _ => change_list(&mut tensor.dims, number, rng),
    }
}

fn change_input(graph: &mut GraphProto, rng: &mut Rng) {
    let inputs = graph.input.len();
    let Some(input) = graph.input.get_mut(rng.below(inputs)) else { return };
    let ty = input.type_.mut_or_insert_default();
    let Some(type_proto::Value::TensorType(tensor)) = &mut ty.value else { return };
    if rng.one_in(4) {
        tensor.elem_type = rng.below(24) as i32;
        return;
    }
    let dims = &mut tensor.shape.mut_or_insert_default().dim;
    let extent = |rng: &mut Rng| {
        let value = match rng.below(8) {
            0 => dimension::Value::DimParam("n".into()),
            1 => dimension::Value::DimValue(rng.of(&EDGES)),
            _ => dimension::Value::DimValue(rng.below(10) as i64),
        };
        Dimension { value: Some(value), ..Default::default() }
    };
    let at = rng.below(dims.len());
    match rng.below(6) {
        0 if !dims.is_empty() => drop(dims.remove(at)),
        1 => dims.insert(at, extent(rng)),
        _ if !dims.is_empty() => dims[at] = extent(rng),
        _ => dims.push(extent(rng)),
    }
}

/// Lets a node read another value, or write one that is there.
fn rewire(graph: &mut GraphProto, rng: &mut Rng) {
    let made = graph.node.iter().flat_map(|node| node.output.iter());
    let names = graph
        .input
        .iter()
        .map(|input| &input.name)
        .chain(graph.initializer.iter().map(|t| &t.name))
        .chain(made);
    let names: Vec<String> = names.cloned().collect();
    let nodes = graph.node.len();
    let (Some(name), Some(node)) = (names.get(rng.below(names.len())), graph.node.get_mut(rng.below(nodes)))
    else {
        return;
    };
    let places = if rng.one_in(6) { &mut node.output } else { &mut node.input };
    let at = rng.below(places.len());
    if let Some(place) = places.get_mut(at) {
        place.clone_from(name);
    }
}

fn change_bytes(bytes: &mut Vec<u8>, rng: &mut Rng) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.below(bytes.len());
    let end = (at + 1 + rng.below(32)).min(bytes.len());
    match rng.below(6) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.of(&[0x00, 0x01, 0x7f, 0x80, 0xff]),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let part = bytes[at..end].to_vec();
            let to = rng.below(bytes.len());
            drop(bytes.splice(to..to, part));
        }
        _ => {
            let part = bytes[at..end].to_vec();
            let to = rng.below(bytes.len());
            for (to, from) in bytes[to..].iter_mut().zip(part) {
                *to = from;
            }
        }
    }
}
