//! MobileNet v2: inverted residuals with linear bottlenecks.
//! Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", table 2.

use super::scaled_channels;
use crate::blocks::{classifier, conv_bn_relu6, inverted_residual};
use crate::builder::{Conv, Map, Net, Tensor};
use crate::catalogue::Config;

/// Expansion t, channels c, repeats n, stride s of the first repeat.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    let channels = |full| scaled_channels(full, config.width);
    let mut x = conv_bn_relu6(net, "features.0", input, Conv::new(channels(32), 3).stride(2).centred());
    let mut index = 1;
    for (expansion, full, repeats, first_stride) in STAGES {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            x = inverted_residual(net, &format!("features.{index}"), &x, expansion, channels(full), stride);
            index += 1;
        }
    }
    // Narrower networks keep the full width here, "to maintain performance" (section 6.1).
    let last = scaled_channels(1280, config.width.max(1.0));
    let x = conv_bn_relu6(net, &format!("features.{index}"), &x, Conv::pointwise(last));
    classifier(net, "classifier", &x, config.classes)
}
