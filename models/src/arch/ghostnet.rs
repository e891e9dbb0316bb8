//! GhostNet 1.0: half of each layer's channels come from a depthwise convolution of the other half.
//! Han et al. 2020, "GhostNet: More Features from Cheap Operations", table 1; table 7 has 5.2 M parameters and 141 M
//! multiply-accumulates. The details (squeezed channels, a bias before the classifier) are of the authors' code.

use crate::blocks::{GhostBlock, conv_bn_relu, ghost_bottleneck};
use crate::builder::{Conv, Map, Net, Tensor};
use crate::catalogue::Config;

/// Kernel, expanded channels, channels, squeeze and excitation, stride.
const BLOCKS: [(usize, usize, usize, bool, usize); 16] = [
    (3, 16, 16, false, 1),
    (3, 48, 24, false, 2),
    (3, 72, 24, false, 1),
    (5, 72, 40, true, 2),
    (5, 120, 40, true, 1),
    (3, 240, 80, false, 2),
    (3, 200, 80, false, 1),
    (3, 184, 80, false, 1),
    (3, 184, 80, false, 1),
    (3, 480, 112, true, 1),
    (3, 672, 112, true, 1),
    (5, 672, 160, true, 2),
    (5, 960, 160, false, 1),
    (5, 960, 160, true, 1),
    (5, 960, 160, false, 1),
    (5, 960, 160, true, 1),
];

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    let mut x = conv_bn_relu(net, "conv_stem", input, Conv::new(16, 3).stride(2).centred());
    for (i, (kernel, expanded, channels, squeezes, stride)) in BLOCKS.into_iter().enumerate() {
        let squeeze = squeezes.then_some(quarter(expanded));
        let block = GhostBlock { kernel, expanded, channels, stride, squeeze };
        x = ghost_bottleneck(net, &format!("blocks.{i}"), &x, block);
    }
    let x = conv_bn_relu(net, "blocks.last", &x, Conv::pointwise(960));
    let x = net.global_avg_pool("global_pool", &x);
    let x = net.conv_bias("conv_head", &x, Conv::pointwise(1280));
    let x = net.relu("conv_head", &x);
    let x = net.flatten("flatten", &x);
    net.logits("classifier", &x, config.classes)
}

/// A quarter of the channels, as the nearest multiple of four.
fn quarter(channels: usize) -> usize {
    (channels / 4 + 2) / 4 * 4
}
