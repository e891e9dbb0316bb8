//! Factors of weights that are multiplied when somebody looks at them.
//!
//! What a batch norm does goes into the weights of the layer before it. Large weights are still in the model's file then, and need
//! not be read for that: the tensor remembers its factors, and a piece that is read is multiplied. So weights are multiplied
//! where they are packed, by all cores; and those that a program takes from another one, never.
//!
//! ```text
//!   file ──read──▶ weights ──factors──▶ what a pass, or packing, sees
//! ```

use crate::block::Store;
use crate::tensor::Tensor;

/// A factor for each of some weights: `weights[…, c, i]`, with `inner` elements for each of `count` channels, times the factor
/// of `c`. The next `repeat` blocks of all channels have the same factors, those behind them the next ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    factors: Vec<f64>,
    inner: usize,
    count: usize,
    repeat: usize,
}

impl Factors {
    /// One for each of the channels, which have `inner` elements side by side, again and again.
    pub fn each(factors: Vec<f64>, inner: usize) -> Factors {
        let count = factors.len();
        Factors::grouped(factors, inner, count, usize::MAX)
    }

    /// `count` for each group, which has `repeat` blocks of all its channels.
    pub fn grouped(factors: Vec<f64>, inner: usize, count: usize, repeat: usize) -> Factors {
        Factors { factors, inner: inner.max(1), count: count.max(1), repeat: repeat.max(1) }
    }

    /// Whether there is a factor for each of so many elements.
    pub(crate) fn suffice(&self, elems: usize) -> bool {
        let groups = elems.div_ceil(self.inner.saturating_mul(self.count)).div_ceil(self.repeat);
        groups.saturating_mul(self.count) <= self.factors.len()
    }

    /// All that decides what they do, as numbers.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        let places = [self.inner, self.count, self.repeat].map(|n| n as u64);
        places.into_iter().chain(self.factors.iter().map(|factor| factor.to_bits()))
    }

    /// Multiplies elements, of which the first is that with index `first`. Each is rounded once.
    pub(crate) fn apply(&self, first: usize, elems: &mut [[u8; 4]]) {
        let block = self.inner.saturating_mul(self.count);
        let (mut at, mut rest) = (first, elems);
        while !rest.is_empty() {
            let within = at % block;
            let (piece, after) = rest.split_at_mut((block - within).min(rest.len()));
            let group = at / block / self.repeat * self.count;
            at += piece.len();
            self.apply_in_block(group + within / self.inner, within % self.inner, piece);
            rest = after;
        }
    }

    /// Multiplies elements of one block. The first one is that many elements behind the first of its channel.
    fn apply_in_block(&self, channel: usize, skipped: usize, elems: &mut [[u8; 4]]) {
        let factors = self.factors.get(channel..).unwrap_or_default();
        if self.inner == 1 {
            elems.iter_mut().zip(factors).for_each(|(w, factor)| times(w, *factor));
            return;
        }
        let (begun, rest) = elems.split_at_mut((self.inner - skipped).min(elems.len()));
        for (elems, factor) in std::iter::once(begun).chain(rest.chunks_mut(self.inner)).zip(factors) {
            elems.iter_mut().for_each(|w| times(w, *factor));
        }
    }
}

fn times(weight: &mut [u8; 4], factor: f64) {
    *weight = ((f64::from(f32::from_le_bytes(*weight)) * factor) as f32).to_le_bytes();
}

/// Weights with their factors.
pub(crate) struct Scaled {
    pub weights: Tensor,
    pub factors: Factors,
}

impl Store for Scaled {
    fn read_or_zero(&self, at: u64, to: &mut [u8]) {
        let start = at as usize;
        let (first, end) = (start / 4, (start + to.len()).div_ceil(4));
        if start == 4 * first && start + to.len() == 4 * end {
            self.weights.read(start..4 * end, to);
            self.factors.apply(first, to.as_chunks_mut::<4>().0);
        } else {
            // Somebody who wants a part of an element gets it from the whole of it.
            let mut whole = vec![0; 4 * (end - first)];
            self.weights.read(4 * first..4 * end, &mut whole);
            self.factors.apply(first, whole.as_chunks_mut::<4>().0);
            to.copy_from_slice(&whole[start - 4 * first..][..to.len()]);
        }
    }

    fn scaled(&self) -> Option<&Scaled> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::{DType, TensorType};

    fn f32s(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// Weights 1, 2, 3 … in a store.
    struct Counting;

    impl Store for Counting {
        fn read_or_zero(&self, at: u64, to: &mut [u8]) {
            for (i, byte) in to.iter_mut().enumerate() {
                let at = at as usize + i;
                *byte = ((at / 4 + 1) as f32).to_le_bytes()[at % 4];
            }
        }
    }

    fn stored(elems: usize) -> Tensor {
        let store: Arc<dyn Store> = Arc::new(Counting);
        Tensor::stored(TensorType::new(DType::F32, [elems]), store, 0).unwrap()
    }

    fn scaled(mut weights: Tensor, factors: Factors) -> Tensor {
        assert!(weights.scale(factors));
        weights
    }

    #[test]
    fn each_weight_meets_the_factor_of_its_channel() {
        let rows = Factors::each(vec![2.0, 3.0], 3);
        assert_eq!(f32s(scaled(stored(6), rows).bytes()), [2.0, 4.0, 6.0, 12.0, 15.0, 18.0]);
        let columns = Factors::each(vec![2.0, 3.0, 4.0], 1);
        assert_eq!(f32s(scaled(stored(6), columns).bytes()), [2.0, 6.0, 12.0, 8.0, 15.0, 24.0]);
        // Two groups of two rows of two channels with two elements each.
        let groups = Factors::grouped(vec![1.0, 10.0, 100.0, 1000.0], 2, 2, 2);
        let scaled = scaled(stored(16), groups);
        let expected: Vec<f32> =
            (0..16).map(|i| (i + 1) as f32 * [1.0, 10.0, 100.0, 1000.0][i / 8 * 2 + i / 2 % 2]).collect();
        assert_eq!(f32s(scaled.bytes()), expected);
    }

    #[test]
    fn what_is_in_a_file_is_multiplied_piece_by_piece_and_what_is_in_memory_at_once() {
        let factors = || Factors::grouped(vec![2.0, 3.0, 5.0, 7.0], 3, 2, 2);
        let at_hand = scaled(Tensor::new([24], &f32s(stored(24).bytes())).unwrap(), factors());
        let later = scaled(stored(24), factors());
        assert!(at_hand.at_hand(0..96).is_some() && later.at_hand(0..96).is_none());
        for start in 0..96 {
            for end in start..=96 {
                let mut piece = vec![0; end - start];
                later.read(start..end, &mut piece);
                assert_eq!(piece, at_hand.bytes()[start..end], "{start}..{end}");
            }
        }
        assert!(later.at_hand(0..96).is_none(), "nobody has looked at all of it");
        assert!(later.same_bytes(&at_hand));
    }

    #[test]
    fn factors_go_upon_factors_and_each_product_is_rounded() {
        let third = || Factors::each(vec![1.0 / 3.0], 8);
        let twice = scaled(scaled(stored(8), third()), third());
        let expected: Vec<f32> =
            (1..9).map(|w| (f64::from((f64::from(w) / 3.0) as f32) * (1.0 / 3.0)) as f32).collect();
        assert_eq!(f32s(twice.bytes()), expected);
    }

    #[test]
    fn too_few_factors_and_other_types_are_refused() {
        let two = || Factors::grouped(vec![1.0, 2.0], 3, 2, 1);
        assert!(!stored(7).scale(two()) && stored(6).scale(two()));
        assert!(!stored(6).scale(Factors::each(Vec::new(), 3)));
        assert!(!Tensor::new([1], &[1i32]).unwrap().scale(Factors::each(vec![1.0], 1)));
    }
}
