//! Blocks that add their input, or a projection of it, to what they compute.

use super::{conv_bn, conv_bn_relu, conv_bn_relu6};
use crate::builder::{Conv, Gamma, Map, Net};

/// MobileNet v2's block (Sandler et al. 2018, table 1): expand, filter, project to a linear bottleneck.
///
/// ```text
/// x ─┬─ 1×1 ×t, BN, ReLU6 ── depthwise 3×3, BN, ReLU6 ── 1×1, BN ──(+)──►
///    └───────────── if stride is 1 and the channels match ──────────┘
/// ```
pub(crate) fn inverted_residual(
    net: &mut Net,
    path: &str,
    x: &Map,
    expansion: usize,
    channels: usize,
    stride: usize,
) -> Map {
    let mut y = x.clone();
    if expansion != 1 {
        y = conv_bn_relu6(net, &format!("{path}.expand"), x, Conv::pointwise(x.channels * expansion));
    }
    let depthwise = Conv::depthwise(&y, 3).stride(stride).centred();
    y = conv_bn_relu6(net, &format!("{path}.depthwise"), &y, depthwise);
    let adds = stride == 1 && x.channels == channels;
    let gamma = if adds { Gamma::Damped } else { Gamma::Unit };
    y = conv_bn(net, &format!("{path}.project"), &y, Conv::pointwise(channels), gamma);
    if adds { net.add(path, x, &y) } else { y }
}

/// The two-layer block of ResNet-18 (He et al. 2016, figure 5 left).
pub(crate) fn basic(net: &mut Net, path: &str, x: &Map, channels: usize, stride: usize) -> Map {
    let shortcut = projection(net, path, x, channels, stride);
    let y = conv_bn_relu(net, &format!("{path}.1"), x, Conv::new(channels, 3).stride(stride).centred());
    let y = conv_bn(net, &format!("{path}.2"), &y, Conv::new(channels, 3).centred(), Gamma::Damped);
    let sum = net.add(path, &y, &shortcut);
    net.relu(path, &sum)
}

/// The three-layer block of ResNet-50 (He et al. 2016, figure 5 right), with the stride at the 3 × 3 convolution.
///
/// ```text
/// x ─┬─ 1×1, BN, ReLU ── 3×3 stride s, BN, ReLU ── 1×1 ×4, BN ──(+)── ReLU ──►
///    └─ x, or 1×1 stride s, BN if the shape changes ─────────────┘
/// ```
pub(crate) fn bottleneck(net: &mut Net, path: &str, x: &Map, inner: usize, stride: usize) -> Map {
    let channels = 4 * inner;
    let shortcut = projection(net, path, x, channels, stride);
    let y = conv_bn_relu(net, &format!("{path}.1"), x, Conv::pointwise(inner));
    let y = conv_bn_relu(net, &format!("{path}.2"), &y, Conv::new(inner, 3).stride(stride).centred());
    let y = conv_bn(net, &format!("{path}.3"), &y, Conv::pointwise(channels), Gamma::Damped);
    let sum = net.add(path, &y, &shortcut);
    net.relu(path, &sum)
}

/// The shortcut of a ResNet block: the input, or its projection where the shape changes.
fn projection(net: &mut Net, path: &str, x: &Map, channels: usize, stride: usize) -> Map {
    if stride == 1 && x.channels == channels {
        return x.clone();
    }
    let conv = Conv::pointwise(channels).stride(stride);
    conv_bn(net, &format!("{path}.downsample"), x, conv, Gamma::Unit)
}
