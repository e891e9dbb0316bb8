//! Depthwise-separable convolutions: a filter per channel, then a 1 × 1 convolution across channels.

use super::conv_bn_relu6;
use crate::builder::{Conv, Map, Net};

/// MobileNet v1's block (Howard et al. 2017, figure 3), with normalisation and ReLU6 after both halves.
///
/// ```text
/// x ── depthwise 3×3, BN, ReLU6 ── 1×1, BN, ReLU6 ──►
/// ```
pub(crate) fn depthwise_separable(net: &mut Net, path: &str, x: &Map, channels: usize, stride: usize) -> Map {
    let depthwise = Conv::depthwise(x, 3).stride(stride).centred();
    let x = conv_bn_relu6(net, &format!("{path}.depthwise"), x, depthwise);
    conv_bn_relu6(net, &format!("{path}.pointwise"), &x, Conv::pointwise(channels))
}

/// A separable convolution with nothing between its halves, as Xception and NASNet have it. The caller normalises.
pub(crate) fn separable_conv(
    net: &mut Net,
    path: &str,
    x: &Map,
    channels: usize,
    kernel: usize,
    stride: usize,
) -> Map {
    let depthwise = Conv::depthwise(x, kernel).stride(stride).same();
    let x = net.conv(&format!("{path}.depthwise"), x, depthwise);
    net.conv(&format!("{path}.pointwise"), &x, Conv::pointwise(channels))
}
