//! A picture as the input of a network, prepared as networks trained on ImageNet expect it.
//!
//! ```text
//!   decode ─▶ resize, shorter side to size / 0.875 ─▶ crop the centre ─▶ (x / 255 − mean) / std ─▶ [1, 3, H, W]
//!   500×375      341×256 (bilinear, antialiased)        224×224                                     or [1, H, W, 3]
//! ```
//!
//! What is done, and in which numbers, is `nnc-image`'s preset of torchvision unless flags say otherwise; here is which input it is for.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use nnc_image::{Filter, Order, Picture, Preparation, Scaling};
use nnc_ir::{DType, Tensor, TensorType};

use super::failure::usage;
use super::shots::Shot;

/// How much of the shorter side is left by the centre crop: 224 of 256.
const CROP: f64 = 0.875;

/// How a picture becomes a tensor.
#[derive(Args, Clone, Debug)]
pub struct PictureArgs {
    /// A picture (JPEG or PNG), or a folder of them, for the one input that --input does not give; - is standard input (repeatable)
    #[arg(long = "image", value_name = "FILE")]
    pub images: Vec<PathBuf>,

    /// Mean of each channel, subtracted after scaling to 0…1
    #[arg(long, value_name = "R,G,B", value_parser = channels, default_value = "0.485,0.456,0.406", help_heading = "Picture")]
    pub mean: Channels,

    /// Standard deviation of each channel, divided by
    #[arg(long, value_name = "R,G,B", value_parser = divisors, default_value = "0.229,0.224,0.225", help_heading = "Picture")]
    pub std: Channels,

    /// Height and width that the model sees [default: those of its input]
    #[arg(long, value_name = "N|HxW", value_parser = size, help_heading = "Picture")]
    pub size: Option<(u32, u32)>,

    /// How a picture of another shape is made to fit
    #[arg(long, value_enum, default_value_t = Fit::Crop, help_heading = "Picture")]
    pub fit: Fit,

    /// Order of the axes [default: where the 3 stands in the input's shape]
    #[arg(long, value_enum, help_heading = "Picture")]
    pub layout: Option<Layout>,

    /// Channels in the order blue, green, red; mean and std are then given in that order too
    #[arg(long, help_heading = "Picture")]
    pub bgr: bool,
}

/// A number for each of three channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Channels(pub [f32; 3]);

/// How a picture of another shape is made to fit.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Resize the shorter side to size / 0.875 and cut out the centre
    Crop,
    /// Resize each side on its own
    Stretch,
}

/// Order of the axes of an input.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channels before height and width
    Nchw,
    /// Channels last
    Nhwc,
}

fn channels(text: &str) -> Result<Channels, String> {
    let numbers = text.split(',').map(|n| n.trim().parse::<f32>().ok().filter(|n| n.is_finite()));
    match numbers.collect::<Option<Vec<f32>>>().as_deref() {
        Some(&[all]) => Ok(Channels([all; 3])),
        Some(&[a, b, c]) => Ok(Channels([a, b, c])),
        _ => Err("expected one number, or three with commas between".into()),
    }
}

fn divisors(text: &str) -> Result<Channels, String> {
    let Channels(std) = channels(text)?;
    if std.contains(&0.0) {
        return Err("nothing can be divided by 0".into());
    }
    Ok(Channels(std))
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let mut sides = text.split('x').map(|n| n.parse::<u32>().ok().filter(|n| (1..=16384).contains(n)));
    match (sides.next().flatten(), sides.next(), sides.next()) {
        (Some(n), None, None) => Ok((n, n)),
        (Some(h), Some(Some(w)), None) => Ok((h, w)),
        _ => Err("expected N or HxW, such as 224 or 480x640".into()),
    }
}

/// Where the pixels go: the axes of an input that takes a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    layout: Layout,
    channels: usize,
    height: u32,
    width: u32,
}

impl PictureArgs {
    /// The shape of an input that leaves dims open, of which `declared` has `None`: `--size` says height and width, and a batch that
    /// is open has one picture. `None` where they do not say it all.
    pub fn complete(&self, declared: &[Option<usize>]) -> Option<Vec<usize>> {
        let &[n, a, b, c] = declared else { return None };
        if self.size.is_none() && (self.images.is_empty() || [a, b, c].contains(&None)) {
            return None;
        }
        let (h, w) = self.size.map_or((1, 1), |(height, width)| (height as usize, width as usize));
        let layout = self.layout.unwrap_or(match (a, c) {
            (None | Some(1 | 3), _) => Layout::Nchw,
            (_, Some(1 | 3)) => Layout::Nhwc,
            _ => Layout::Nchw,
        });
        let n = n.unwrap_or(1);
        Some(match layout {
            Layout::Nchw => vec![n, a.unwrap_or(3), b.unwrap_or(h), c.unwrap_or(w)],
            Layout::Nhwc => vec![n, a.unwrap_or(h), b.unwrap_or(w), c.unwrap_or(3)],
        })
    }

    /// Makes the tensor for input `name` of type `ty` out of as many pictures as its batch has.
    pub fn load(&self, shots: &[Shot], name: &str, ty: &TensorType) -> Result<Tensor> {
        let frame = self.frame(name, ty)?;
        let pictures = shots.iter().map(|shot| {
            let bytes = shot.bytes()?;
            Picture::decode(&bytes).with_context(|| format!("\"{}\"", shot.name()))
        });
        self.tensor(pictures, frame, ty)
    }

    /// The tensor of some pictures, one of which is in memory at a time.
    fn tensor(
        &self,
        pictures: impl Iterator<Item = Result<Picture>>,
        frame: Frame,
        ty: &TensorType,
    ) -> Result<Tensor> {
        let preparation = self.preparation(frame);
        if ty.dtype == DType::U8 {
            // Whole numbers: the network does its own scaling.
            let bytes = all(pictures, |picture| preparation.bytes(picture).elements)?;
            return Ok(Tensor::new(ty.shape.clone(), &bytes)?);
        }
        let floats = all(pictures, |picture| preparation.floats(picture).elements)?;
        Ok(match ty.dtype {
            DType::F16 => {
                let halves: Vec<half::f16> = floats.into_iter().map(half::f16::from_f32).collect();
                Tensor::new(ty.shape.clone(), &halves)?
            }
            _ => Tensor::new(ty.shape.clone(), &floats)?,
        })
    }

    fn preparation(&self, frame: Frame) -> Preparation {
        let Frame { height, width, .. } = frame;
        let (Channels(mean), Channels(std)) = (self.mean, self.std);
        Preparation {
            fit: match self.fit {
                Fit::Crop => nnc_image::Fit::Crop { height, width, share: CROP },
                Fit::Stretch => nnc_image::Fit::Stretch { height, width },
            },
            filter: Filter::Bilinear,
            order: match (frame.channels, self.bgr) {
                (1, _) => Order::Grey,
                (_, false) => Order::Rgb,
                (_, true) => Order::Bgr,
            },
            scaling: Scaling::DividedBy(255.0),
            mean,
            std,
            layout: match frame.layout {
                Layout::Nchw => nnc_image::Layout::Nchw,
                Layout::Nhwc => nnc_image::Layout::Nhwc,
            },
        }
    }

    /// Finds the axes of an input, or says why a picture does not fit there.
    fn frame(&self, name: &str, ty: &TensorType) -> Result<Frame> {
        if !matches!(ty.dtype, DType::F32 | DType::F16 | DType::U8) {
            bail!(
                "input \"{name}\" has elements of type {}; a picture fits f32, f16 and u8, give --input instead",
                ty.dtype
            );
        }
        let unfit = || {
            anyhow!(
                "a picture does not fit input \"{name}\" of shape {}; it fits [batch, 3, height, width] and [batch, height, width, 3], with 3 or 1 channels, so give --input instead",
                ty.shape
            )
        };
        let &[1..=usize::MAX, a, b, c] = &ty.shape[..] else { return Err(unfit()) };
        let layout = match (self.layout, a, c) {
            (Some(layout), ..) => layout,
            (None, 1 | 3, _) => Layout::Nchw,
            (None, _, 1 | 3) => Layout::Nhwc,
            _ => return Err(unfit()),
        };
        let (channels, height, width) = match layout {
            Layout::Nchw => (a, b, c),
            Layout::Nhwc => (c, a, b),
        };
        if !matches!(channels, 1 | 3) {
            return Err(unfit());
        }
        let (height, width) = (u32::try_from(height)?, u32::try_from(width)?);
        if height == 0 || width == 0 {
            return Err(unfit());
        }
        if let Some((h, w)) = self.size.filter(|&size| size != (height, width)) {
            usage!("--size {h}x{w} is not what input \"{name}\" takes, {height}x{width}; leave it out");
        }
        Ok(Frame { layout, channels, height, width })
    }
}

/// What becomes of all pictures, one behind another.
fn all<T>(
    pictures: impl Iterator<Item = Result<Picture>>,
    of: impl Fn(&Picture) -> Vec<T>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    for picture in pictures {
        found.extend(of(&picture?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        picture: PictureArgs,
    }

    impl PictureArgs {
        /// The tensor of one picture, as often as the batch is large.
        fn repeated(&self, picture: &Picture, name: &str, ty: &TensorType) -> Result<Tensor> {
            let frame = self.frame(name, ty)?;
            self.tensor(std::iter::repeat_n(picture, ty.shape[0]).map(|p| Ok(p.clone())), frame, ty)
        }
    }

    fn args(flags: &[&str]) -> PictureArgs {
        Command::parse_from(std::iter::once("test").chain(flags.iter().copied())).picture
    }

    /// Red goes up to the right, green goes up downwards, blue is 10.
    fn gradient(width: usize, height: usize) -> Picture {
        Picture::from_fn(width, height, |x, y| [x as u8, y as u8, 10])
    }

    #[test]
    fn a_picture_of_the_right_shape_keeps_its_centre() {
        let ty = TensorType::new(DType::U8, [1, 3, 7, 7]);
        let tensor = args(&[]).repeated(&gradient(8, 8), "x", &ty).unwrap();
        let elems = tensor.elems::<u8>().unwrap();
        // 8 = 7 / 0.875: nothing is resized, and the crop starts at the first row and column.
        assert_eq!(elems[..7], [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(elems[49..56], [0; 7]);
        assert_eq!(elems[56..63], [1; 7]);
        assert_eq!(elems[98..], [10; 49]);
    }

    #[test]
    fn channels_last_and_bgr_change_the_order() {
        let ty = TensorType::new(DType::U8, [1, 7, 7, 3]);
        let tensor = args(&["--bgr"]).repeated(&gradient(8, 8), "x", &ty).unwrap();
        assert_eq!(tensor.elems::<u8>().unwrap()[..6], [10, 0, 0, 10, 0, 1]);
    }

    #[test]
    fn floats_are_scaled_by_mean_and_deviation_of_their_channel() {
        let ty = TensorType::f32([1, 3, 1, 1]);
        let flags = ["--mean", "0,0.5,1", "--std", "1,0.5,0.25", "--fit", "stretch"];
        let white = Picture::from_fn(3, 2, |_, _| [255; 3]);
        let tensor = args(&flags).repeated(&white, "x", &ty).unwrap();
        assert_eq!(*tensor.elems::<f32>().unwrap(), [1.0, 1.0, 0.0]);
    }

    #[test]
    fn the_longer_side_is_cut_at_both_ends() {
        let ty = TensorType::new(DType::U8, [1, 1, 7, 7]);
        let stripes = Picture::from_fn(80, 8, |x, _| [if (36..44).contains(&x) { 255 } else { 0 }; 3]);
        let tensor = args(&[]).repeated(&stripes, "x", &ty).unwrap();
        assert_eq!(*tensor.elems::<u8>().unwrap(), [255; 49]);
    }

    #[test]
    fn inputs_that_take_no_picture_are_refused_with_their_shape() {
        for ty in [
            TensorType::f32([1, 10]),
            TensorType::f32([0, 3, 8, 8]),
            TensorType::f32([1, 16, 8, 8]),
            TensorType::f32([1, 3, 0, 8]),
        ] {
            let error = args(&[]).repeated(&gradient(8, 8), "x", &ty).unwrap_err().to_string();
            assert!(error.contains(&format!("\"x\" of shape {}", ty.shape)), "{error}");
        }
        let ty = TensorType::new(DType::I64, [1, 3, 8, 8]);
        assert!(args(&[]).repeated(&gradient(8, 8), "x", &ty).unwrap_err().to_string().contains("i64"));
    }

    #[test]
    fn a_size_binds_open_dims_and_no_others() {
        let args = args(&["--size", "48x192"]);
        assert_eq!(args.complete(&[None, Some(3), None, None]), Some(vec![1, 3, 48, 192]));
        assert_eq!(args.complete(&[Some(2), None, None, Some(3)]), Some(vec![2, 3, 48, 3]));
        assert_eq!(args.complete(&[None, Some(10)]), None);
    }

    #[test]
    fn an_open_batch_has_one_picture() {
        let pictures = args(&["--image", "a.png"]);
        assert_eq!(pictures.complete(&[None, Some(3), Some(8), Some(9)]), Some(vec![1, 3, 8, 9]));
        assert_eq!(pictures.complete(&[None, Some(3), None, Some(9)]), None);
        assert_eq!(args(&[]).complete(&[None, Some(3), Some(8), Some(9)]), None);
    }

    #[test]
    fn a_batch_has_its_pictures_one_behind_another() {
        let tensor =
            args(&[]).repeated(&gradient(8, 8), "x", &TensorType::new(DType::U8, [2, 3, 7, 7])).unwrap();
        let elems = tensor.elems::<u8>().unwrap();
        assert_eq!(elems[..147], elems[147..]);
        let flags = ["--mean", "0,0.5,1", "--std", "1,0.5,0.25", "--fit", "stretch"];
        let white = Picture::from_fn(3, 2, |_, _| [255; 3]);
        let tensor = args(&flags).repeated(&white, "x", &TensorType::f32([2, 3, 1, 1])).unwrap();
        assert_eq!(*tensor.elems::<f32>().unwrap(), [1.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn nothing_is_divided_by_0() {
        assert!(Command::try_parse_from(["test", "--std", "1,0,1"]).is_err());
        assert!(Command::try_parse_from(["test", "--std", "0"]).is_err());
    }
}
