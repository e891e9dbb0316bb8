//! The constants of a program: packed weights, biases, tables of displacements, one block of bytes.
//!
//! Equal constants are stored once. While a network is planned, constants only get their places; the block is written
//! at the end, once, by all cores: weights are most of what a compiler moves. Each part goes when it has been written, so
//! that weights are not in memory twice. Tables of channel runs hold arena displacements, which are known only when the
//! arena has been laid out; their bytes are reserved first and filled in then.

use std::collections::BTreeMap;

use nnc_ir::Tensor;
use nnc_runtime::{MemoryError, Pages};

use super::PlanError;
use super::content::{ALIGN, Content, PlacedContent, write};
use super::packing::Packing;
use super::shared::SharedConstants;

/// A growing block of constants.
#[derive(Debug, Default)]
pub struct PlannedConstants {
    len: usize,
    parts: Vec<PlacedContent>,
    known: BTreeMap<[u8; 32], u64>,
}

impl PlannedConstants {
    /// Bytes of the block so far.
    pub fn bytes(&self) -> u64 {
        self.len as u64
    }

    /// Adds bytes and returns their offset; bytes that are there already are not added again.
    pub fn add(&mut self, data: &[u8]) -> u64 {
        self.add_once(data, || Content::Bytes(data.to_vec()))
    }

    /// Adds a tensor's bytes as they are and returns their offset; bytes that are there already are not added again.
    pub fn add_tensor(&mut self, tensor: &Tensor) -> u64 {
        self.add_once(tensor.bytes(), || Content::Tensor(tensor.clone()))
    }

    fn add_once(&mut self, data: &[u8], content: impl FnOnce() -> Content) -> u64 {
        let digest = *blake3::hash(data).as_bytes();
        if let Some(&offset) = self.known.get(&digest) {
            return offset;
        }
        let offset = self.place(data.len(), content());
        self.known.insert(digest, offset);
        offset
    }

    /// Adds `f32`s and returns their byte offset.
    pub fn add_f32(&mut self, data: &[f32]) -> u64 {
        self.add(bytemuck::cast_slice(data))
    }

    /// Adds weights that will be packed, and returns their offset. Those that are packed already, in the same way, are not
    /// added again.
    pub fn add_packed(&mut self, packing: Packing) -> u64 {
        let equal = self.parts.iter().find(|p| matches!(&p.content, Content::Packed(p) if *p == packing));
        if let Some(part) = equal {
            return part.at as u64;
        }
        self.place(packing.bytes(), Content::Packed(packing))
    }

    /// Reserves zeroed bytes that [`PlannedConstants::fill`] will set.
    pub fn reserve(&mut self, len: usize) -> u64 {
        self.place(len, Content::Bytes(vec![0; len]))
    }

    /// Sets reserved bytes.
    pub fn fill(&mut self, offset: u64, data: &[u8]) {
        let index = self.parts.partition_point(|part| (part.at as u64) < offset);
        // Parts of no bytes share their offset with the next one.
        let place = self.parts.iter_mut().skip(index).take_while(|part| part.at as u64 == offset);
        for part in place {
            if let Content::Bytes(bytes) = &mut part.content
                && bytes.len() == data.len()
            {
                bytes.copy_from_slice(data);
            }
        }
    }

    fn place(&mut self, len: usize, content: Content) -> u64 {
        let at = self.len.next_multiple_of(ALIGN);
        self.len = at + len;
        self.parts.push(PlacedContent { at, content });
        at as u64
    }

    /// All in one block, written by up to `threads` threads.
    pub fn finish(self, threads: usize) -> Result<nnc_runtime::Constants, MemoryError> {
        let mut pages = Pages::zeroed(self.len as u64, "constants")?;
        write(threads, vec![(&mut pages, self.parts)]);
        nnc_runtime::Constants::new(pages)
    }

    /// Those that other programs have at the places where these have them, and the rest in new blocks.
    pub fn finish_shared(
        self,
        threads: usize,
        shared: &SharedConstants,
    ) -> Result<nnc_runtime::Constants, PlanError> {
        shared.place(self.parts, self.len, threads)
    }
}

#[cfg(test)]
mod tests {
    use super::super::packing::PackedPanel;
    use super::*;
    use crate::code::tile::ir::Lanes;
    use crate::code::tile::programs::dense::{Col, Products};

    fn packing(first: f32) -> Packing {
        Packing {
            weights: Tensor::new(vec![4, 1, 1, 1], &[first, 2.0, 3.0, 4.0]).unwrap(),
            columns: false,
            products: Products::Floats,
            taps: 1,
            winograd: None,
            depth: 1,
            orders: vec![vec![0]],
            panels: vec![PackedPanel {
                channels: vec![3, 2, 1, 0],
                cols: vec![Col::full(Lanes::X4)],
                order: 0,
            }],
        }
    }

    #[test]
    fn equal_constants_are_stored_once_and_every_one_is_aligned() {
        let mut c = PlannedConstants::default();
        let (a, b) = (c.add_f32(&[1.0, 2.0, 3.0]), c.add_f32(&[4.0]));
        assert_eq!(c.add_f32(&[1.0, 2.0, 3.0]), a);
        assert_eq!(c.add_tensor(&Tensor::new([3, 1], &[1.0f32, 2.0, 3.0]).unwrap()), a);
        assert_eq!((a % 64, b % 64), (0, 0));
        let (p, q) = (c.add_packed(packing(1.0)), c.add_packed(packing(5.0)));
        assert_ne!(p, q);
        assert_eq!(c.add_packed(packing(1.0)), p);
        assert_eq!(c.finish(1).unwrap().len(), 3 * 64 + 16);
    }

    #[test]
    fn the_block_has_each_constant_at_its_offset_for_any_number_of_threads() {
        for threads in [1, 2, 5] {
            let mut c = PlannedConstants::default();
            let empty = c.add(&[]);
            let table = c.reserve(8);
            let packed = c.add_packed(packing(1.0)) as usize;
            let bias = c.add_f32(&[0.5]) as usize;
            let tensor = c.add_tensor(&Tensor::new([2], &[6.0f32, 7.0]).unwrap()) as usize;
            c.fill(table, &[7; 8]);
            let (table, block) = (table as usize, c.finish(threads).unwrap().bytes().into_owned());
            let floats = |at: usize, n: usize| -> Vec<f32> {
                let (fours, _) = block[at..at + 4 * n].as_chunks::<4>();
                fours.iter().map(|b| f32::from_le_bytes(*b)).collect()
            };
            assert_eq!(empty, 0);
            assert_eq!(block[table..table + 8], [7; 8]);
            assert_eq!(floats(packed, 4), [4.0, 3.0, 2.0, 1.0]);
            assert_eq!(floats(bias, 1), [0.5]);
            assert_eq!(floats(tensor, 2), [6.0, 7.0]);
        }
    }
}
