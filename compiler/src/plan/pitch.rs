//! How far apart the pixels of an image lie: its extent, and the distances between neighbours along each axis.
//!
//! A buffer has one pitch for all of its pixels, whichever channels they have; so images, which say where channels lie in
//! buffers, and buffers both know it.
//!
//! ```text
//!   extent 2 × 3, 5 channels:   pixel pitch 8, row pitch 24
//!     | 0 1 2 3 4 . . . | 0 1 2 3 4 . . . | 0 1 2 3 4 . . . |
//!     | 0 1 2 3 4 . . . | 0 1 2 3 4 . . . | 0 1 2 3 4 . . . |
//! ```

use crate::code::float::Float;

/// Extents of an image without its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Pictures in the batch.
    pub n: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Extent {
    /// Number of pixels in the batch.
    pub fn pixels(self) -> usize {
        self.n * self.h * self.w
    }
}

/// Distances, in elements, between neighbours of an image in one buffer, and what its elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pitch {
    /// The elements.
    pub float: Float,
    /// To the next column.
    pub pixel: usize,
    /// To the next row.
    pub row: usize,
    /// To the next picture.
    pub image: usize,
}

/// Widest vector that a buffer's pixels are padded for: lanes of the narrowest register.
pub const LANES: usize = 4;
/// Of pixels at multiples of so many bytes, many fall into the same cache sets.
const SAME_SETS: usize = 1024;

impl Pitch {
    /// Dense pixels of `channels` slots, padded to whole vectors of four, and moved off pitches of which many fall into
    /// the same cache sets.
    pub fn padded(extent: Extent, channels: usize, float: Float) -> Pitch {
        let mut pixel = channels.next_multiple_of(LANES);
        if (pixel * float.bytes() as usize).is_multiple_of(SAME_SETS) && extent.h * extent.w > 1 {
            pixel += 16;
        }
        Pitch::of_pixel(extent, pixel, float)
    }

    /// Rows and pictures one after another, with this pixel pitch.
    pub fn of_pixel(extent: Extent, pixel: usize, float: Float) -> Pitch {
        let row = pixel * extent.w;
        Pitch { float, pixel, row, image: row * extent.h }
    }

    /// The bytes of so many elements.
    pub fn bytes(self, elems: usize) -> i64 {
        elems as i64 * i64::from(self.float.bytes())
    }

    /// Elements of the whole batch.
    pub fn elems(self, extent: Extent) -> usize {
        self.image * extent.n
    }

    /// Bytes of the whole batch.
    pub fn size(self, extent: Extent) -> u64 {
        self.bytes(self.elems(extent)) as u64
    }

    /// Whether all pixels of the batch follow each other at the pixel pitch, so that they can be swept as one row.
    pub fn is_flat(self, extent: Extent) -> bool {
        (extent.h == 1 || self.row == self.pixel * extent.w)
            && (extent.n == 1 || self.image == self.pixel * extent.w * extent.h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixel_pitches_are_whole_vectors_and_never_a_kibibyte() {
        let extent = Extent { n: 1, h: 14, w: 14 };
        for c in 1..2000 {
            for float in Float::ALL {
                let pitch = Pitch::padded(extent, c, float);
                assert!(pitch.pixel >= c && pitch.pixel.is_multiple_of(LANES));
                assert_ne!(pitch.bytes(pitch.pixel) % 1024, 0);
            }
        }
        assert_eq!(
            Pitch::padded(Extent { n: 1, h: 1, w: 1 }, 1024, Float::F32).pixel,
            1024,
            "one pixel has no pitch to avoid"
        );
    }
}
