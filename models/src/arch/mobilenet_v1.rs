//! MobileNet v1: depthwise-separable convolutions all the way.
//! Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", table 1.

use super::scaled_channels;
use crate::blocks::{classifier, conv_bn_relu6, depthwise_separable};
use crate::builder::{Conv, Map, Net, Tensor};
use crate::catalogue::Config;

/// (channels, stride) of each separable block.
const BLOCKS: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    let channels = |full| scaled_channels(full, config.width);
    let mut x = conv_bn_relu6(net, "features.0", input, Conv::new(channels(32), 3).stride(2).centred());
    for (i, (full, stride)) in BLOCKS.into_iter().enumerate() {
        x = depthwise_separable(net, &format!("features.{}", i + 1), &x, channels(full), stride);
    }
    classifier(net, "classifier", &x, config.classes)
}
