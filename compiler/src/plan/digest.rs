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
    /// The digest of a tensor's bytes.
    pub fn of(&self, tensor: &Tensor) -> [u8; 32] {
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
