//! The constants of a program: packed weights, biases, tables of displacements, one block of bytes.
//!
//! Equal constants are stored once. Tables of channel runs hold arena displacements, which are known only when the
//! arena has been laid out; their bytes are reserved first and filled in then.

use std::collections::BTreeMap;

/// Alignment of every constant: a cache line, and the widest vector.
const ALIGN: usize = 64;

/// A growing block of constants.
#[derive(Debug, Default)]
pub struct Constants {
    bytes: Vec<u8>,
    known: BTreeMap<[u8; 32], u64>,
}

impl Constants {
    /// Adds bytes and returns their offset; bytes that are there already are not added again.
    pub fn add(&mut self, data: &[u8]) -> u64 {
        let digest = *blake3::hash(data).as_bytes();
        if let Some(&offset) = self.known.get(&digest) {
            return offset;
        }
        let offset = self.reserve(data.len());
        let at = offset as usize;
        self.bytes[at..at + data.len()].copy_from_slice(data);
        self.known.insert(digest, offset);
        offset
    }

    /// Adds `f32`s and returns their byte offset.
    pub fn add_f32(&mut self, data: &[f32]) -> u64 {
        self.add(bytemuck::cast_slice(data))
    }

    /// Reserves zeroed bytes that [`Constants::fill`] will set.
    pub fn reserve(&mut self, len: usize) -> u64 {
        let offset = self.bytes.len().next_multiple_of(ALIGN);
        self.bytes.resize(offset + len, 0);
        offset as u64
    }

    /// Sets reserved bytes.
    pub fn fill(&mut self, offset: u64, data: &[u8]) {
        let at = offset as usize;
        self.bytes[at..at + data.len()].copy_from_slice(data);
    }

    /// The whole block.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_constants_are_stored_once_and_every_one_is_aligned() {
        let mut c = Constants::default();
        let (a, b) = (c.add_f32(&[1.0, 2.0, 3.0]), c.add_f32(&[4.0]));
        assert_eq!(c.add_f32(&[1.0, 2.0, 3.0]), a);
        assert_eq!((a % 64, b % 64), (0, 0));
        assert_eq!(c.into_bytes().len(), 64 + 4);
    }
}
