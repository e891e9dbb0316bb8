//! What is in a block of constants: where each part begins, what its bytes are made of, and how they are written.
//!
//! A block of one program and the blocks that programs share are filled in the same way: all cores write parts, and each
//! part goes when it has been written.

use std::sync::Arc;

use nnc_ir::Tensor;
use nnc_runtime::Pages;

use super::digest::TensorDigests;
use super::packing::Packing;
use crate::parallel;

/// Alignment of every constant: a cache line, and the widest vector.
pub(super) const ALIGN: usize = 64;

/// What is at a place of the block.
#[derive(Debug)]
pub(super) struct PlacedContent {
    pub at: usize,
    pub content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    Tensor(Tensor),
    Packed(Packing),
}

impl Content {
    /// Size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Content::Bytes(bytes) => bytes.len(),
            Content::Tensor(tensor) => tensor.ty().bytes(),
            Content::Packed(packing) => packing.bytes(),
        }
    }

    /// A digest of the bytes that it makes, or of all that decides them.
    pub fn digest(&self, tensors: &TensorDigests) -> [u8; 32] {
        match self {
            Content::Bytes(bytes) => *blake3::hash(bytes).as_bytes(),
            Content::Tensor(tensor) => tensors.of(tensor),
            Content::Packed(packing) => packing.digest(tensors),
        }
    }
}

/// What is still to be written to a piece of the block. Whoever has written the last piece of some weights drops them.
enum Pending {
    Bytes(Vec<u8>),
    Tensor(Tensor),
    /// A panel, by its number.
    Pack(Arc<Packing>, usize),
}

impl Pending {
    fn write(self, to: &mut [u8]) {
        match self {
            Pending::Bytes(bytes) => to.copy_from_slice(&bytes),
            Pending::Tensor(tensor) => tensor.read(0..to.len(), to),
            Pending::Pack(packing, panel) => packing.write(&packing.panels[panel], to),
        }
    }
}

/// Writes parts to zeroed blocks, on up to `threads` threads. The parts of a block lie one behind the other.
pub(super) fn write(threads: usize, blocks: Vec<(&mut Pages, Vec<PlacedContent>)>) {
    let mut jobs: Vec<(&mut [u8], Pending)> = Vec::new();
    for (pages, parts) in blocks {
        let mut rest: &mut [u8] = pages;
        let mut end = 0;
        let mut add = |at: usize, len: usize, work: Pending| {
            let (piece, after) = std::mem::take(&mut rest).split_at_mut(at - end).1.split_at_mut(len);
            (rest, end) = (after, at + len);
            jobs.push((piece, work));
        };
        for PlacedContent { at, content } in parts {
            match content {
                Content::Bytes(bytes) => add(at, bytes.len(), Pending::Bytes(bytes)),
                Content::Tensor(tensor) => add(at, tensor.ty().bytes(), Pending::Tensor(tensor)),
                Content::Packed(packing) => {
                    let (mut at, packing) = (at, Arc::new(packing));
                    for (index, panel) in packing.panels.iter().enumerate() {
                        let len = packing.panel_bytes(panel);
                        add(at, len, Pending::Pack(Arc::clone(&packing), index));
                        at += len;
                    }
                }
            }
        }
    }
    parallel::consume(threads, jobs, |(to, work)| work.write(to));
}
