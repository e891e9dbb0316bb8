//! MobileViT-XXS: inverted residuals, and transformers over patches at the three coarsest resolutions.
//! Mehta and Rastegari 2022, "MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer", table 4,
//! where it has 1.3 M parameters; timm's `mobilevit_xxs` counts 1.27 M and 0.4 G multiply-accumulates.

use crate::blocks::{Activation, MobileBlock, classifier, conv_bn_act, mobile_block, patches_block};
use crate::builder::{Conv, Map, Net, Tensor};
use crate::catalogue::Config;

/// Channels, strides and numbers of the stages that are inverted residuals alone.
const CONVOLUTIONS: [(usize, usize, usize); 2] = [(16, 1, 1), (24, 2, 3)];
/// Channels of the stages that end with transformers, and the features and numbers of these.
const TRANSFORMERS: [(usize, usize, usize); 3] = [(48, 64, 2), (64, 80, 4), (80, 96, 3)];
const EXPANSION: usize = 2;

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    let stem = Conv::new(16, 3).stride(2).centred();
    let mut x = conv_bn_act(net, "stem", input, stem, Activation::Silu);
    for (stage, (channels, first_stride, repeats)) in CONVOLUTIONS.into_iter().enumerate() {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            x = residual(net, &format!("stages.{stage}.{repeat}"), &x, channels, stride);
        }
    }
    for (i, (channels, features, blocks)) in TRANSFORMERS.into_iter().enumerate() {
        let stage = CONVOLUTIONS.len() + i;
        x = residual(net, &format!("stages.{stage}.0"), &x, channels, 2);
        x = patches_block(net, &format!("stages.{stage}.1"), &x, features, blocks);
    }
    let x = conv_bn_act(net, "final_conv", &x, Conv::pointwise(320), Activation::Silu);
    classifier(net, "head.fc", &x, config.classes)
}

fn residual(net: &mut Net, path: &str, x: &Map, channels: usize, stride: usize) -> Map {
    let block = MobileBlock {
        kernel: 3,
        expanded: EXPANSION * x.channels,
        channels,
        stride,
        activation: Activation::Silu,
        squeeze: None,
    };
    mobile_block(net, path, x, block)
}
