//! Digests of tensors: what is packed, or shared between programs, is known by one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use nnc_ir::{Tensor, TensorOrigin};

/// Digests of tensors. Of those that are in a model's file they are kept: another program of the model reads none of them again, if
/// it has them as they are. The model must outlive this.
#[derive(Debug, Default)]
pub(super) struct TensorDigests {
    known: Mutex<HashMap<TensorOrigin, [u8; 32]>>,
}

impl TensorDigests {
    /// The digest of a tensor's bytes, or of what they are products of: those are multiplied where they are packed, if they are.
    pub fn of(&self, tensor: &Tensor) -> [u8; 32] {
        if let Some((weights, factors)) = tensor.products() {
            let mut hasher = blake3::Hasher::new_derive_key("nnc weights times factors");
            hasher.update(&self.of(weights));
            let numbers: Vec<u8> = factors.numbers().flat_map(u64::to_le_bytes).collect();
            return *hasher.update(&numbers).finalize().as_bytes();
        }
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = tensor.origin();
        if let Some(digest) = origin.and_then(|origin| known().get(&origin).copied()) {
            return digest;
        }
        let mut hasher = blake3::Hasher::new();
        hash(tensor, &mut hasher);
        let digest = *hasher.finalize().as_bytes();
        if let Some(origin) = origin {
            known().insert(origin, digest);
        }
        digest
    }
}

/// Hashes a tensor's bytes. Those that are in a file are no more in memory afterwards.
fn hash(tensor: &Tensor, hasher: &mut blake3::Hasher) {
    const PIECE: usize = 1 << 16;
    let len = tensor.ty().bytes();
    if let Some(bytes) = tensor.at_hand(0..len) {
        hasher.update(bytes);
        return;
    }
    let mut piece = vec![0; len.min(PIECE)];
    for at in (0..len).step_by(PIECE) {
        let piece = &mut piece[..PIECE.min(len - at)];
        tensor.read(at..at + piece.len(), piece);
        hasher.update(piece);
    }
}

#[cfg(test)]
mod tests {
    use nnc_ir::Deadline;
    use nnc_ir::onnx::{Bindings, Model};
    use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
    use onnx_protobuf::{
        GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
        TypeProto, ValueInfoProto, type_proto,
    };
    use protobuf::MessageField;

    use super::*;

    /// More weights than a piece has.
    const COUNT: i64 = 20_000;

    /// `y = x · w`
    fn model(weights: &[f32]) -> ModelProto {
        let value = |name: &str| {
            let dim = Dimension { value: Some(dimension::Value::DimValue(COUNT)), ..Default::default() };
            let shape = TensorShapeProto { dim: vec![dim], ..Default::default() };
            let tensor =
                type_proto::Tensor { elem_type: 1, shape: MessageField::some(shape), ..Default::default() };
            let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
            ValueInfoProto { name: name.into(), type_: MessageField::some(kind), ..Default::default() }
        };
        let w = TensorProto {
            name: "w".into(),
            data_type: 1,
            dims: vec![COUNT],
            raw_data: weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
            ..Default::default()
        };
        let mul = NodeProto {
            op_type: "Mul".into(),
            input: vec!["x".into(), "w".into()],
            output: vec!["y".into()],
            ..Default::default()
        };
        let graph = GraphProto {
            input: vec![value("x")],
            output: vec![value("y")],
            initializer: vec![w],
            node: vec![mul],
            ..Default::default()
        };
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { version: 17, ..Default::default() }],
            graph: MessageField::some(graph),
            ..Default::default()
        }
    }

    fn digest(tensor: &Tensor) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hash(tensor, &mut hasher);
        hasher.finalize()
    }

    /// Weights, and a file that holds a model with them.
    fn in_a_file() -> (Vec<f32>, tempfile::NamedTempFile) {
        let weights: Vec<f32> = (0..COUNT).map(|i| i as f32).collect();
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), model(&weights).write_to_bytes().expect("a message")).expect("a file");
        (weights, file)
    }

    #[test]
    fn products_are_known_by_what_is_multiplied() {
        let (weights, file) = in_a_file();
        let (digests, stored) = (TensorDigests::default(), stored(file.path()));
        let scaled = |mut weights: Tensor, factor: f64, inner: usize| {
            assert!(weights.scale(nnc_ir::Factors::each(vec![factor, 2.0], inner)));
            weights
        };
        let half = COUNT as usize / 2;
        let first = digests.of(&scaled(stored.clone(), 3.0, half));
        // Nothing is read for those that follow.
        std::fs::write(file.path(), []).expect("a file");
        assert_eq!(digests.of(&scaled(stored.clone(), 3.0, half)), first);
        let others = [
            scaled(stored.clone(), 4.0, half),
            scaled(stored.clone(), 3.0, half / 2),
            scaled(scaled(stored.clone(), 3.0, half), 3.0, half),
            stored.clone(),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(digests.of(other), first, "{i}");
        }
        // What is in memory is known by its bytes.
        let at_hand = Tensor::new([COUNT as usize], &weights).expect("a tensor");
        assert!(scaled(at_hand, 3.0, half).products().is_none());
    }

    /// The weights of a model, left in its file.
    fn stored(file: &std::path::Path) -> Tensor {
        let model = Model::open(file).expect("a model");
        let graph = model.graph_of_stored_weights(&Bindings::new(), Deadline::never()).expect("a graph");
        graph.node_ids().find_map(|id| graph.constant(id.into()).cloned()).expect("the weights")
    }

    #[test]
    fn what_is_in_a_file_has_the_digest_of_its_bytes() {
        let (weights, file) = in_a_file();
        let stored = stored(file.path());
        assert!(stored.at_hand(0..4).is_none(), "they stay in the file");
        let at_hand = Tensor::new([COUNT as usize], &weights).expect("a tensor");
        assert_eq!(digest(&stored), digest(&at_hand));
        assert!(stored.at_hand(0..4).is_none(), "nobody has looked at them");
    }

    #[test]
    fn what_is_in_a_file_is_read_once() {
        let (weights, file) = in_a_file();
        let stored = stored(file.path());
        let digests = TensorDigests::default();
        let first = digests.of(&stored);
        assert_eq!(first, digests.of(&Tensor::new([COUNT as usize], &weights).expect("a tensor")));
        // Nobody can tell any more what it was, but by its place.
        std::fs::write(file.path(), []).expect("a file");
        assert_eq!(digests.of(&stored), first);
        assert_ne!(TensorDigests::default().of(&stored), first);
    }
}
