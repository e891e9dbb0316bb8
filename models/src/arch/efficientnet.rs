//! EfficientNet-B0: inverted residuals with squeeze and excitation and SiLU.
//! Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", table 1. torchvision's
//! `efficientnet_b0` counts 5,288,548 parameters and 0.386 G multiply-accumulates.

use crate::blocks::{Activation, Gate, MobileBlock, classifier, conv_bn_act, mobile_block};
use crate::builder::{Conv, Map, Net, Tensor};
use crate::catalogue::Config;

/// Expansion, kernel, stride of the first repeat, channels, repeats.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
];

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    let act = Activation::Silu;
    let mut x = conv_bn_act(net, "features.0", input, Conv::new(32, 3).stride(2).centred(), act);
    for (i, (expansion, kernel, first_stride, channels, repeats)) in STAGES.into_iter().enumerate() {
        for repeat in 0..repeats {
            let block = MobileBlock {
                kernel,
                expanded: expansion * x.channels,
                channels,
                stride: if repeat == 0 { first_stride } else { 1 },
                activation: act,
                // A quarter of the block's input, not of what is squeezed.
                squeeze: Some((x.channels / 4, act, Gate::Sigmoid)),
            };
            x = mobile_block(net, &format!("features.{}.{repeat}", i + 1), &x, block);
        }
    }
    let x = conv_bn_act(net, "features.8", &x, Conv::pointwise(1280), act);
    classifier(net, "classifier.1", &x, config.classes)
}
