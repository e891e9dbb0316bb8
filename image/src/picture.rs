//! Pixels.

use crate::decode::{DecodeError, decode};
use crate::resample::{AxisCrop, Filter};
use crate::{linear, resample};

/// Rows of pixels, three bytes each: red, green, blue. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// `height × width × 3` bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Picture {
    /// Reads a JPEG or PNG from the bytes of its file.
    ///
    /// Whatever the file has becomes eight bits of each colour: grey and palettes are spelled out, CMYK is converted, of sixteen bits
    /// the upper eight stay, and transparency is left out. A picture that says how the camera was held is turned upright. A damaged or
    /// cut-off file is refused.
    pub fn decode(file: &[u8]) -> Result<Picture, DecodeError> {
        decode(file)
    }

    /// A picture of pixels that are there: three bytes each, row after row. `None` if there are too few or too many.
    pub fn from_rgb(width: usize, height: usize, bytes: Vec<u8>) -> Option<Picture> {
        let wanted = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        (wanted == Some(bytes.len()) && !bytes.is_empty()).then_some(Picture { width, height, bytes })
    }

    /// A picture whose pixels a function says, by column and row.
    pub fn from_fn(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) -> Picture {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let bytes = pixels.flat_map(|(x, y)| pixel(x, y)).collect();
        Picture { width, height, bytes }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, three bytes each, row after row.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A part of a resized picture; of the rest nothing is computed. An axis of no pixels is taken for one of one.
    pub fn resized(&self, x: AxisCrop, y: AxisCrop, filter: Filter) -> Picture {
        match filter {
            Filter::Linear => linear::resample(self, x, y),
            filter => resample::resample(self, x, y, filter),
        }
    }

    /// A row of bytes.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.bytes[y * self.width * 3..][..self.width * 3]
    }

    /// The pixels, row after row.
    pub fn pixels(&self) -> impl Iterator<Item = [u8; 3]> {
        self.bytes.chunks_exact(3).map(|p| [p[0], p[1], p[2]])
    }

    /// The picture as it was seen, when `orientation` (EXIF tag 0x0112) says how it lies.
    pub(crate) fn upright(self, orientation: u16) -> Picture {
        let (w, h) = (self.width, self.height);
        let at = |x: usize, y: usize| {
            let i = (y * w + x) * 3;
            [self.bytes[i], self.bytes[i + 1], self.bytes[i + 2]]
        };
        match orientation {
            2 => Picture::from_fn(w, h, |x, y| at(w - 1 - x, y)),
            3 => Picture::from_fn(w, h, |x, y| at(w - 1 - x, h - 1 - y)),
            4 => Picture::from_fn(w, h, |x, y| at(x, h - 1 - y)),
            5 => Picture::from_fn(h, w, |x, y| at(y, x)),
            6 => Picture::from_fn(h, w, |x, y| at(y, h - 1 - x)),
            7 => Picture::from_fn(h, w, |x, y| at(w - 1 - y, h - 1 - x)),
            8 => Picture::from_fn(h, w, |x, y| at(w - 1 - y, x)),
            _ => self,
        }
    }
}
