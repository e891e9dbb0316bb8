//! Digests of tensors: what is packed, or shared between programs, is known by one.

use nnc_ir::Tensor;

/// Hashes a tensor's bytes. Those that are in a file are no more in memory afterwards.
pub(super) fn hash(tensor: &Tensor, hasher: &mut blake3::Hasher) {
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
