//! Weights around a zero point, as bytes with a sign.
//!
//! ```text
//!   w − zero = 131 of channel c    ─▶    127 of channel c,  4 of channel c once more
//! ```
//!
//! What `u8` weights are around their zero point may be beyond an `i8`, mostly by little and at one of its ends. The channels that meet such
//! weights are read twice, and once more for ±255: sums are the same. A layer that does not sum over channels would have to begin to, so
//! its weights stay what they are.

use crate::tensor::{Tensor, TensorError};
use crate::types::{DType, TensorType};

/// Weights `[M, C, kernel…]` of `i8`, and which channels of a group they meet.
#[derive(Clone, Debug, PartialEq)]
pub struct ByteWeights {
    /// `[M, channels, kernel…]`.
    pub weights: Tensor,
    /// The channel of each; `None` where each is met once, in order.
    pub channels: Option<Vec<usize>>,
}

impl ByteWeights {
    /// Weights `[M, C, kernel…]` of bytes around one zero point, or around one for each of the `M`. `None` where elements are no bytes, and
    /// where the only channel would be read again.
    pub fn around(zero: &[i32], weights: &Tensor) -> Result<Option<ByteWeights>, TensorError> {
        let shape = weights.shape();
        let (Some(&results), Some(&channels)) = (shape.first(), shape.get(1)) else { return Ok(None) };
        if zero.len() != 1 && zero.len() != results {
            return Ok(None);
        }
        let elems: Vec<i32> = match weights.dtype() {
            DType::I8 if zero.iter().all(|&zero| zero == 0) => {
                return Ok(Some(ByteWeights { weights: weights.clone(), channels: None }));
            }
            DType::I8 => less(zero, results, weights.elems::<i8>()?.iter().map(|&w| w.into())),
            DType::U8 => less(zero, results, weights.elems::<u8>()?.iter().map(|&w| w.into())),
            _ => return Ok(None),
        };
        let plain: Option<Vec<i8>> = elems.iter().map(|&w| i8::try_from(w).ok()).collect();
        match plain {
            Some(plain) => {
                let weights = Tensor::new(shape.clone(), &plain)?;
                Ok(Some(ByteWeights { weights, channels: None }))
            }
            None if channels == 1 => Ok(None),
            None => ByteWeights::in_parts(elems, shape).map(Some),
        }
    }

    /// Channels again and again, until their weights are used up.
    fn in_parts(mut rest: Vec<i32>, shape: &[usize]) -> Result<ByteWeights, TensorError> {
        let (results, channels) = (shape[0], shape[1]);
        let taps: usize = shape[2..].iter().product();
        let places =
            |channel: usize| (0..results).flat_map(move |m| ((m * channels + channel) * taps..).take(taps));
        let mut chosen: Vec<usize> = (0..channels).collect();
        let (mut list, mut parts) = (Vec::new(), Vec::new());
        while !chosen.is_empty() {
            for &channel in &chosen {
                let part = places(channel).map(|i| {
                    let byte = rest[i].clamp(i8::MIN.into(), i8::MAX.into()) as i8;
                    rest[i] -= i32::from(byte);
                    byte
                });
                parts.push(part.collect::<Vec<i8>>());
                list.push(channel);
            }
            chosen.retain(|&channel| places(channel).any(|i| rest[i] != 0));
        }
        let of_result = |m: usize| parts.iter().flat_map(move |part| &part[m * taps..][..taps]).copied();
        let elems: Vec<i8> = (0..results).flat_map(of_result).collect();
        let mut shape = shape.to_vec();
        shape[1] = list.len();
        Ok(ByteWeights { weights: Tensor::new(shape, &elems)?, channels: Some(list) })
    }

    /// The channels of an image of so many groups that these weights meet, if they are not all of them in order.
    pub fn selected(&self, groups: usize, channels: usize) -> Option<Vec<usize>> {
        let local = self.channels.as_ref()?;
        let each = channels / groups.max(1);
        Some((0..groups).flat_map(|group| local.iter().map(move |channel| group * each + channel)).collect())
    }
}

/// Weights less the zero points of their results.
fn less(zero: &[i32], results: usize, weights: impl ExactSizeIterator<Item = i32>) -> Vec<i32> {
    let each = (weights.len() / results.max(1)).max(1);
    weights.enumerate().map(|(i, w)| w - zero[if zero.len() == 1 { 0 } else { i / each }]).collect()
}

/// A matrix `[K, N]` of bytes as weights `[N, K, 1, 1]`. `None` if it is none.
pub fn weights_of_columns(matrix: &Tensor) -> Result<Option<Tensor>, TensorError> {
    let &[rows, columns] = &matrix.shape()[..] else { return Ok(None) };
    if matrix.dtype().bytes() != 1 {
        return Ok(None);
    }
    let from = matrix.bytes();
    let mut to = vec![0; from.len()];
    // So many rows at a time stay in the cache.
    for first in (0..rows).step_by(64) {
        for column in 0..columns {
            for row in first..rows.min(first + 64) {
                to[column * rows + row] = from[row * columns + column];
            }
        }
    }
    Tensor::from_bytes(TensorType::new(matrix.dtype(), [columns, rows, 1, 1]), to).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(zero: &[i32], shape: &[usize], weights: &[u8]) -> Option<ByteWeights> {
        ByteWeights::around(zero, &Tensor::new(shape.to_vec(), weights).unwrap()).unwrap()
    }

    #[test]
    fn channels_are_read_again_as_often_as_their_weights_need() {
        // Three results over four channels.
        let weights = [1, 0, 129, 2, 129, 2, 0, 2, 11, 11, 11, 202];
        let of = around(&[2], &[3, 4], &weights).unwrap();
        assert_eq!(of.channels, Some(vec![0, 1, 2, 3, 3]));
        assert_eq!(of.weights.shape()[..], [3, 5]);
        let elems = [-1, -2, 127, 0, 0, 127, 0, -2, 0, 0, 9, 9, 9, 127, 73];
        assert_eq!(of.weights.elems::<i8>().unwrap()[..], elems);
        assert_eq!(of.selected(2, 8), Some(vec![0, 1, 2, 3, 3, 4, 5, 6, 7, 7]));
        // 255 is the sum of three, -255 of two.
        let of = around(&[0, 255], &[2, 2], &[255, 0, 255, 0]).unwrap();
        assert_eq!(of.channels, Some(vec![0, 1, 0, 1, 0]));
        assert_eq!(of.weights.elems::<i8>().unwrap()[..], [127, 0, 127, 0, 1, 0, -128, 0, -127, 0]);
        // Windows keep their taps together.
        let of = around(&[0], &[1, 3, 2], &[1, 2, 3, 4, 5, 128]).unwrap();
        assert_eq!(of.weights.elems::<i8>().unwrap()[..], [1, 2, 3, 4, 5, 127, 0, 1]);
    }

    #[test]
    fn weights_that_are_bytes_meet_each_channel_once() {
        let of = around(&[128], &[1, 2], &[0, 255]).unwrap();
        assert_eq!(of.weights.elems::<i8>().unwrap()[..], [-128, 127]);
        assert_eq!((of.channels.clone(), of.selected(1, 2)), (None, None));
        let bytes = Tensor::new([1, 2], &[-128i8, 127]).unwrap();
        assert_eq!(ByteWeights::around(&[0], &bytes).unwrap().unwrap().weights, bytes);
        let less = ByteWeights::around(&[1], &bytes).unwrap().unwrap();
        assert_eq!(less.weights.elems::<i8>().unwrap()[..], [-128, 126, -1]);
        assert_eq!(around(&[0], &[1, 1], &[200]), None, "one channel of one");
        assert_eq!(around(&[0, 0], &[1, 2], &[1, 2]), None, "a zero point for no result");
        assert_eq!(around(&[0], &[2], &[1, 2]), None);
        let words = Tensor::new([1, 2], &[1i16, 2]).unwrap();
        assert_eq!(ByteWeights::around(&[0], &words).unwrap(), None);
    }

    #[test]
    fn columns_become_weights_of_a_result_each() {
        let (rows, columns) = (70, 3);
        let matrix: Vec<u8> = (0..rows * columns).map(|i| i as u8).collect();
        let turned = weights_of_columns(&Tensor::new([rows, columns], &matrix).unwrap()).unwrap().unwrap();
        assert_eq!(turned.shape()[..], [3, 70, 1, 1]);
        let turned = turned.elems::<u8>().unwrap();
        assert!((0..rows * columns).all(|i| turned[i % columns * rows + i / columns] == matrix[i]));
        assert_eq!(weights_of_columns(&Tensor::new([2, 2], &[1i16; 4]).unwrap()).unwrap(), None);
        assert_eq!(weights_of_columns(&Tensor::new([2], &[1i8; 2]).unwrap()).unwrap(), None);
    }
}
