//! From a picture to the elements of a tensor.

use crate::picture::Picture;
use crate::resample::{AxisCrop, Filter};

/// How a picture becomes a tensor. The presets are functions of the same name as what they follow; any field may be changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preparation {
    /// How a picture of any shape becomes one that the network takes.
    pub fit: Fit,
    /// How pixels between pixels are found.
    pub filter: Filter,
    /// Which channels there are.
    pub order: Order,
    /// From bytes to the numbers that `mean` and `std` are of.
    pub scaling: Scaling,
    /// What is subtracted from each channel, in `order`.
    pub mean: [f32; 3],
    /// By what each channel is divided then.
    pub std: [f32; 3],
    /// The order of the axes.
    pub layout: Layout,
}

/// How a picture of any shape becomes one that the network takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fit {
    /// Each side is resized on its own.
    Stretch {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
    },
    /// The picture is resized in proportion, until it is larger than what is kept by `share` along the side that binds, and the middle is cut
    /// out: 224 of 256, a share of 0.875.
    Crop {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
        /// What is kept of the side that binds.
        share: f64,
    },
    /// A line of text: resized in proportion to a height. What is missing to the least width is 0 behind normalisation, on the right.
    Line {
        /// Rows.
        height: u32,
        /// Columns that there are at least.
        least: u32,
        /// Columns that there are at most; a longer line is squeezed.
        most: Option<u32>,
    },
    /// Resized in proportion where a side is beyond a limit, then each side to a multiple of 32.
    Multiples {
        /// The limit.
        limit: Limit,
    },
}

/// A limit of a side, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The longer side has at most so many.
    Longer(u32),
    /// The shorter side has at least so many.
    Shorter(u32),
}

/// Which channels there are, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red: OpenCV's order.
    Bgr,
    /// One, brightness by the weights of Rec. 601, as Pillow's mode `L`. The first of `mean` and `std` are its.
    Grey,
}

/// From bytes to numbers. How it is done decides the last bit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// 0 to 255.
    None,
    /// Divided by a number.
    DividedBy(f32),
    /// Times a number.
    Times(f32),
}

/// The order of the axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channels before height and width.
    Nchw,
    /// Channels last.
    Nhwc,
}

/// One picture as a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared<T> {
    /// `[1, channels, height, width]` or `[1, height, width, channels]`.
    pub shape: [usize; 4],
    /// Dense and row-major.
    pub elements: Vec<T>,
}

/// What is resized to what, and the size of all with what is put behind.
struct Sizes {
    x: AxisCrop,
    y: AxisCrop,
    width: usize,
}

impl Order {
    /// How many channels there are.
    pub fn channels(self) -> usize {
        match self {
            Order::Rgb | Order::Bgr => 3,
            Order::Grey => 1,
        }
    }

    fn value(self, pixel: [u8; 3], channel: usize) -> u8 {
        match self {
            Order::Rgb => pixel[channel],
            Order::Bgr => pixel[2 - channel],
            Order::Grey => luma(pixel),
        }
    }
}

impl Preparation {
    /// The picture as 32-bit floats, normalised.
    pub fn floats(&self, picture: &Picture) -> Prepared<f32> {
        self.prepared(picture, |byte, channel| self.normalised(byte, channel))
    }

    /// The picture as bytes, for networks that do their own scaling: `scaling`, `mean` and `std` mean nothing here.
    pub fn bytes(&self, picture: &Picture) -> Prepared<u8> {
        self.prepared(picture, |byte, _| byte)
    }

    /// A byte as the number that the network sees.
    fn normalised(&self, byte: u8, channel: usize) -> f32 {
        let byte = f32::from(byte);
        let scaled = match self.scaling {
            Scaling::None => byte,
            Scaling::DividedBy(divisor) => byte / divisor,
            Scaling::Times(factor) => byte * factor,
        };
        (scaled - self.mean[channel]) / self.std[channel]
    }

    fn prepared<T: Copy + Default>(&self, picture: &Picture, of: impl Fn(u8, usize) -> T) -> Prepared<T> {
        let sizes = self.fit.sizes(picture);
        let fitted = picture.resized(sizes.x, sizes.y, self.filter);
        let (height, width, channels) = (fitted.height(), sizes.width, self.order.channels());
        let mut elements = vec![T::default(); height * width * channels];
        // All results that a channel can have.
        let table: Vec<Vec<T>> =
            (0..channels).map(|channel| (0..=255).map(|byte| of(byte, channel)).collect()).collect();
        for (y, row) in fitted.bytes().chunks_exact(fitted.width() * 3).enumerate() {
            for (x, pixel) in row.chunks_exact(3).enumerate() {
                for (channel, table) in table.iter().enumerate() {
                    let at = match self.layout {
                        Layout::Nchw => (channel * height + y) * width + x,
                        Layout::Nhwc => (y * width + x) * channels + channel,
                    };
                    let byte = self.order.value([pixel[0], pixel[1], pixel[2]], channel);
                    elements[at] = table[usize::from(byte)];
                }
            }
        }
        let shape = match self.layout {
            Layout::Nchw => [1, channels, height, width],
            Layout::Nhwc => [1, height, width, channels],
        };
        Prepared { shape, elements }
    }
}

impl Fit {
    fn sizes(self, picture: &Picture) -> Sizes {
        let (w, h) = (picture.width() as f64, picture.height() as f64);
        let all = |width: usize, height: usize| Sizes {
            x: AxisCrop::whole(width.max(1)),
            y: AxisCrop::whole(height.max(1)),
            width: width.max(1),
        };
        match self {
            Fit::Stretch { height, width } => all(width as usize, height as usize),
            Fit::Crop { height, width, share } => {
                let (across, down) = (f64::from(width.max(1)), f64::from(height.max(1)));
                // The side that binds has a size of its own; the other one follows, and is cut off to a whole number.
                let (x, y) = if across / w >= down / h {
                    let scaled = (across / share).round().max(across);
                    (scaled, (scaled * h / w).floor())
                } else {
                    let scaled = (down / share).round().max(down);
                    ((scaled * w / h).floor(), scaled)
                };
                let crop = |scaled: f64, len: f64| AxisCrop::centre(scaled.max(len) as u64, len as usize);
                Sizes { x: crop(x, across), y: crop(y, down), width: across as usize }
            }
            Fit::Line { height, least, most } => {
                let in_proportion = f64::from(height) * (w / h);
                let cut = (in_proportion as u32).max(least);
                let width = most.map_or(cut, |most| cut.min(most)).max(1);
                let text = (in_proportion.ceil() as u32).clamp(1, width);
                Sizes { width: width as usize, ..all(text as usize, height as usize) }
            }
            Fit::Multiples { limit } => {
                let ratio = match limit {
                    Limit::Longer(most) => (f64::from(most) / w.max(h)).min(1.0),
                    Limit::Shorter(least) => (f64::from(least) / w.min(h)).max(1.0),
                };
                let side = |side: f64| {
                    let whole = (side * ratio).trunc();
                    ((whole / 32.0).round_ties_even() * 32.0).max(32.0) as usize
                };
                all(side(w), side(h))
            }
        }
    }
}

/// Brightness by the weights of Rec. 601, as Pillow's mode `L`.
fn luma(pixel: [u8; 3]) -> u8 {
    let [r, g, b] = pixel.map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red goes up to the right, green goes up downwards, blue is 10.
    fn gradient(width: usize, height: usize) -> Picture {
        Picture::from_fn(width, height, |x, y| [x as u8, y as u8, 10])
    }

    fn crop(height: u32, width: u32) -> Preparation {
        let fit = Fit::Crop { height, width, share: 0.875 };
        Preparation { fit, ..Preparation::torchvision(256, 224) }
    }

    #[test]
    fn a_picture_of_the_right_shape_keeps_its_centre() {
        let found = crop(7, 7).bytes(&gradient(8, 8));
        // 8 = 7 / 0.875: nothing is resized. Half a pixel is spare on each side, and 0 is even.
        assert_eq!(found.shape, [1, 3, 7, 7]);
        assert_eq!(found.elements[..7], [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(found.elements[49..56], [0; 7]);
        assert_eq!(found.elements[98..], [10; 49]);
    }

    #[test]
    fn channels_last_and_other_orders_change_places_alone() {
        let preparation = Preparation { layout: Layout::Nhwc, order: Order::Bgr, ..crop(7, 7) };
        let found = preparation.bytes(&gradient(8, 8));
        assert_eq!((found.shape, &found.elements[..6]), ([1, 7, 7, 3], &[10, 0, 0, 10, 0, 1][..]));
        let grey = Preparation { order: Order::Grey, ..crop(7, 7) }.bytes(&gradient(8, 8));
        assert_eq!((grey.shape, grey.elements[0]), ([1, 1, 7, 7], 1));
    }

    #[test]
    fn numbers_are_scaled_by_mean_and_deviation_of_their_channel() {
        let fit = Fit::Stretch { height: 1, width: 1 };
        let (mean, std) = ([0.0, 0.5, 1.0], [1.0, 0.5, 0.25]);
        let preparation = Preparation { fit, mean, std, ..crop(1, 1) };
        let white = Picture::from_fn(3, 2, |_, _| [255; 3]);
        assert_eq!(preparation.floats(&white).elements, [1.0, 1.0, 0.0]);
    }

    #[test]
    fn the_longer_side_is_cut_at_both_ends() {
        let stripes = Picture::from_fn(80, 8, |x, _| [if (36..44).contains(&x) { 255 } else { 0 }; 3]);
        assert_eq!(crop(7, 7).bytes(&stripes).elements, [255; 147]);
        let found = crop(7, 14).bytes(&stripes);
        assert_eq!(found.shape, [1, 3, 7, 14]);
    }

    #[test]
    fn every_picture_has_a_size_however_odd_it_is() {
        let fits = [
            Fit::Stretch { height: 0, width: 0 },
            Fit::Crop { height: 0, width: 3, share: 0.5 },
            Fit::Crop { height: 9, width: 3, share: 2.0 },
            Fit::Line { height: 0, least: 0, most: None },
            Fit::Line { height: 4, least: 8, most: Some(0) },
            Fit::Multiples { limit: Limit::Longer(0) },
            Fit::Multiples { limit: Limit::Shorter(0) },
        ];
        for fit in fits {
            for (width, height) in [(1, 1), (1, 300), (300, 1)] {
                let found = Preparation { fit, ..crop(1, 1) }.bytes(&gradient(width, height));
                assert_eq!(found.elements.len(), found.shape.iter().product::<usize>(), "{fit:?}");
                assert!(!found.elements.is_empty(), "{fit:?}");
            }
        }
    }

    #[test]
    fn a_line_is_filled_up_with_zeros_and_squeezed_where_it_must_be() {
        let line = |most| Preparation {
            fit: Fit::Line { height: 4, least: 10, most },
            ..Preparation::paddle_ocr_recogniser(None)
        };
        let white = |width, height| Picture::from_fn(width, height, |_, _| [255; 3]);
        let short = line(None).floats(&white(8, 8));
        assert_eq!(short.shape, [1, 3, 4, 10]);
        assert_eq!(short.elements[..10], [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(line(None).floats(&white(50, 8)).shape, [1, 3, 4, 25]);
        let squeezed = line(Some(12)).floats(&white(50, 8));
        assert_eq!((squeezed.shape, squeezed.elements.contains(&0.0)), ([1, 3, 4, 12], false));
    }
}
