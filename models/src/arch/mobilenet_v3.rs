//! MobileNet v3, small and large: blocks found by search, hard swish, squeeze and excitation.
//! Howard et al. 2019, "Searching for MobileNetV3", tables 1 and 2, as torchvision has them, whose model table counts
//! 2,542,856 and 5,483,032 parameters, 0.057 and 0.217 G multiply-accumulates.

use super::scaled_channels;
use crate::blocks::{Activation, Gate, MobileBlock, conv_bn_act, mobile_block};
use crate::builder::{Conv, Map, Net, Tensor};
use crate::catalogue::Config;

/// Kernel, expanded channels, channels, squeeze and excitation, activation, stride.
type Row = (usize, usize, usize, bool, Activation, usize);

const RE: Activation = Activation::Relu;
const HS: Activation = Activation::HardSwish;

const SMALL: [Row; 11] = [
    (3, 16, 16, true, RE, 2),
    (3, 72, 24, false, RE, 2),
    (3, 88, 24, false, RE, 1),
    (5, 96, 40, true, HS, 2),
    (5, 240, 40, true, HS, 1),
    (5, 240, 40, true, HS, 1),
    (5, 120, 48, true, HS, 1),
    (5, 144, 48, true, HS, 1),
    (5, 288, 96, true, HS, 2),
    (5, 576, 96, true, HS, 1),
    (5, 576, 96, true, HS, 1),
];

const LARGE: [Row; 15] = [
    (3, 16, 16, false, RE, 1),
    (3, 64, 24, false, RE, 2),
    (3, 72, 24, false, RE, 1),
    (5, 72, 40, true, RE, 2),
    (5, 120, 40, true, RE, 1),
    (5, 120, 40, true, RE, 1),
    (3, 240, 80, false, HS, 2),
    (3, 200, 80, false, HS, 1),
    (3, 184, 80, false, HS, 1),
    (3, 184, 80, false, HS, 1),
    (3, 480, 112, true, HS, 1),
    (3, 672, 112, true, HS, 1),
    (5, 672, 160, true, HS, 2),
    (5, 960, 160, true, HS, 1),
    (5, 960, 160, true, HS, 1),
];

pub(crate) fn build_small(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    build(net, input, config, &SMALL, 1024)
}

pub(crate) fn build_large(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    build(net, input, config, &LARGE, 1280)
}

/// `hidden` features lie between the classifier's two fully connected layers.
fn build(net: &mut Net, input: &Map, config: &Config, rows: &[Row], hidden: usize) -> Tensor {
    net.set_epsilon(1e-3);
    let mut x = conv_bn_act(net, "features.0", input, Conv::new(16, 3).stride(2).centred(), HS);
    for (i, &(kernel, expanded, channels, squeezes, activation, stride)) in rows.iter().enumerate() {
        let squeeze = (scaled_channels(expanded, 0.25), Activation::Relu, Gate::HardSigmoid);
        let squeeze = squeezes.then_some(squeeze);
        let block = MobileBlock { kernel, expanded, channels, stride, activation, squeeze };
        x = mobile_block(net, &format!("features.{}", i + 1), &x, block);
    }
    let last = Conv::pointwise(6 * x.channels);
    let x = conv_bn_act(net, &format!("features.{}", rows.len() + 1), &x, last, HS);
    let x = net.global_avg_pool("avgpool", &x);
    let x = net.flatten("flatten", &x);
    let x = net.linear("classifier.0", &x, hidden);
    let x = net.hard_swish("classifier.1", &x);
    net.logits("classifier.3", &x, config.classes)
}
