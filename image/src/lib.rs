//! Pictures as inputs of networks, prepared as those who trained them did.
//!
//! ```text
//!   Picture::decode ─▶ Fit: resize, crop ─▶ Order ─▶ (Scaling − mean) / std ─▶ Layout ─▶ [1, 3, H, W]
//!     JPEG, PNG          Filter               RGB                                         or [1, H, W, 3]
//!     upright
//! ```
//!
//! A [`Preparation`] says how; there is one for each of the usual toolkits. What it computes is theirs bit for bit as far as that is
//! defined: resizing is Pillow's, which torchvision and Keras use, or OpenCV's, which PaddleOCR does.
//!
//! ```no_run
//! use nnc_image::{Picture, Preparation};
//!
//! let picture = Picture::decode(&std::fs::read("photo.jpg")?)?;
//! let input = Preparation::torchvision(256, 224).floats(&picture);
//! assert_eq!(input.shape, [1, 3, 224, 224]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The crate needs neither the compiler nor the runtime: `input.elements` goes to `nnc_runtime::InputRef::new`, or anywhere else.
#![deny(missing_docs)]

mod decode;
mod linear;
mod picture;
mod prepare;
mod presets;
mod resample;

pub use decode::DecodeError;
pub use picture::Picture;
pub use prepare::{Fit, Layout, Limit, Order, Preparation, Prepared, Scaling};
pub use presets::KerasMode;
pub use resample::{AxisCrop, Filter};
