//! How an extent is cut where pieces have a longest size: into as few as possible, and those equal.
//!
//! ```text
//!   50 columns, at most 14 in a tile:   13 13 13 11, not 14 14 14 8
//! ```
//!
//! A tile that is nearly full and a small rest take longer than equal ones: the rest uses few of the registers.

use std::ops::Range;

/// How many pieces there are; one where there is nothing to cut.
pub fn piece_count(extent: usize, longest: usize) -> usize {
    extent.div_ceil(longest.max(1)).max(1)
}

/// The length of all pieces but the last, which may be shorter.
pub fn piece_length(extent: usize, longest: usize) -> usize {
    extent.div_ceil(piece_count(extent, longest))
}

/// The pieces, one behind the other.
pub fn pieces(extent: usize, longest: usize) -> impl Iterator<Item = Range<usize>> {
    let length = piece_length(extent, longest).max(1);
    (0..extent).step_by(length).map(move |at| at..(at + length).min(extent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_as_few_as_possible_and_equal_but_for_the_last() {
        for extent in 0..130 {
            for longest in 0..20 {
                let lengths: Vec<usize> = pieces(extent, longest).map(|piece| piece.len()).collect();
                assert_eq!(lengths.iter().sum::<usize>(), extent);
                assert!(lengths.iter().all(|&n| 0 < n && n <= longest.max(1)));
                assert_eq!(lengths.len(), extent.div_ceil(longest.max(1)), "{extent} by {longest}");
                let Some((last, others)) = lengths.split_last() else { continue };
                assert!(others.iter().all(|&n| n == piece_length(extent, longest) && n >= *last));
            }
        }
    }
}
