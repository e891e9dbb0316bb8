//! What the usual toolkits do to pictures, by their names.

use crate::prepare::{Fit, Layout, Limit, Order, Preparation, Scaling};
use crate::resample::Filter;

/// Mean and standard deviation of ImageNet's channels, of numbers from 0 to 1.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// The `mode` of Keras' `preprocess_input`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KerasMode {
    /// −1 to 1: MobileNet, MobileNet v2, Inception v3, Xception, NASNet.
    Tf,
    /// ImageNet's mean and deviation: DenseNet.
    Torch,
    /// Blue, green, red, minus ImageNet's mean: ResNet, VGG.
    Caffe,
    /// 0 to 255, as they are: EfficientNet, MobileNet v3 and ConvNeXt, which scale inside.
    Raw,
}

impl Preparation {
    /// torchvision's `ImageClassification(crop_size=crop, resize_size=resize)`, which most of its weights have with 256 or 232, and 224: the
    /// shorter side is resized to `resize` (`BILINEAR`), the centre cut out, and scaled by ImageNet's mean and deviation. NCHW.
    ///
    /// The other values of `interpolation` are [`Filter`]s.
    pub fn torchvision(resize: u32, crop: u32) -> Preparation {
        let share = f64::from(crop) / f64::from(resize.max(1));
        let (mean, std) = IMAGENET;
        Preparation {
            fit: Fit::Crop { height: crop, width: crop, share },
            filter: Filter::Bilinear,
            order: Order::Rgb,
            scaling: Scaling::DividedBy(255.0),
            mean,
            std,
            layout: Layout::Nchw,
        }
    }

    /// Keras' `load_img(target_size=(height, width))`, which takes the nearest pixels, and `preprocess_input` of a network in that mode. NHWC.
    pub fn keras(height: u32, width: u32, mode: KerasMode) -> Preparation {
        let (order, scaling, mean, std) = match mode {
            KerasMode::Tf => (Order::Rgb, Scaling::DividedBy(127.5), [1.0; 3], [1.0; 3]),
            KerasMode::Torch => (Order::Rgb, Scaling::DividedBy(255.0), IMAGENET.0, IMAGENET.1),
            KerasMode::Caffe => (Order::Bgr, Scaling::None, [103.939, 116.779, 123.68], [1.0; 3]),
            KerasMode::Raw => (Order::Rgb, Scaling::None, [0.0; 3], [1.0; 3]),
        };
        let fit = Fit::Stretch { height, width };
        Preparation { fit, filter: Filter::Nearest, order, scaling, mean, std, layout: Layout::Nhwc }
    }

    /// What PaddleOCR's detectors see (`DetResizeForTest` with `limit_side_len` and `limit_type`, `NormalizeImage`, `ToCHWImage`): sides are
    /// multiples of 32, channels blue, green, red. `Limit::Longer(960)` is what PaddleOCR takes unless it is told otherwise, and
    /// `Limit::Shorter(736)` what RapidOCR does. NCHW.
    pub fn paddle_ocr_detector(limit: Limit) -> Preparation {
        let (mean, std) = IMAGENET;
        Preparation {
            fit: Fit::Multiples { limit },
            filter: Filter::Linear,
            order: Order::Bgr,
            scaling: Scaling::Times(1.0 / 255.0),
            mean,
            std,
            layout: Layout::Nchw,
        }
    }

    /// What PaddleOCR's recognisers see of a line of text (`resize_norm_img` with `rec_image_shape` 3, 48, 320): 48 rows, as many columns as that
    /// makes and at least 320, −1 to 1, zeros on the right. `most` is the width that a network has at most. NCHW.
    pub fn paddle_ocr_recogniser(most: Option<u32>) -> Preparation {
        Preparation {
            fit: Fit::Line { height: 48, least: 320, most },
            filter: Filter::Linear,
            order: Order::Bgr,
            scaling: Scaling::DividedBy(255.0),
            mean: [0.5; 3],
            std: [0.5; 3],
            layout: Layout::Nchw,
        }
    }

    /// What PaddleOCR's classifiers of the direction of text see (`cls_image_shape` 3, 48, 192): as recognisers, with 192 columns.
    pub fn paddle_ocr_classifier() -> Preparation {
        let fit = Fit::Line { height: 48, least: 192, most: Some(192) };
        Preparation { fit, ..Preparation::paddle_ocr_recogniser(None) }
    }
}
