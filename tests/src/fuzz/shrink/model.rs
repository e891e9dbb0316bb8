//! Parts of a model, and of bytes that are none.

use onnx_protobuf::{Message, ModelProto};

/// Smaller files, those first that are much smaller.
pub fn simpler(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    if let Ok(model) = ModelProto::parse_from_bytes(bytes) {
        all.extend(parts(&model).iter().filter_map(|part| part.write_to_bytes().ok()));
    }
    let mut len = bytes.len() / 2;
    while len > 0 {
        // Large files are not cut byte by byte.
        for at in (0..bytes.len()).step_by(len).take(256) {
            let end = (at + len).min(bytes.len());
            all.push([&bytes[..at], &bytes[end..]].concat());
        }
        len /= 2;
    }
    all.retain(|part| part.len() < bytes.len());
    all
}

/// The model without one of each of its parts.
fn parts(model: &ModelProto) -> Vec<ModelProto> {
    let mut all = Vec::new();
    let graph = model.graph.clone().unwrap_or_default();
    let mut without = |change: &dyn Fn(&mut ModelProto)| {
        let mut part = model.clone();
        change(&mut part);
        all.push(part);
    };
    for at in 0..graph.node.len() {
        without(&|part| drop(part.graph.mut_or_insert_default().node.remove(at)));
    }
    for at in 0..graph.initializer.len() {
        without(&|part| drop(part.graph.mut_or_insert_default().initializer.remove(at)));
    }
    for at in 0..graph.output.len() {
        without(&|part| drop(part.graph.mut_or_insert_default().output.remove(at)));
    }
    for at in 0..graph.input.len() {
        without(&|part| drop(part.graph.mut_or_insert_default().input.remove(at)));
    }
    for (node, inside) in graph.node.iter().enumerate() {
        for at in 0..inside.attribute.len() {
            without(&|part| drop(part.graph.mut_or_insert_default().node[node].attribute.remove(at)));
        }
    }
    all
}
