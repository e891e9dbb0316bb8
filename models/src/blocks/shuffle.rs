//! The units of ShuffleNet v1 and v2: cheap convolutions within groups of channels, and a shuffle across them.

use super::{conv_bn, conv_bn_relu};
use crate::builder::{Border, Conv, Gamma, Map, Net, Padding, Window};

/// ShuffleNet v1's unit (Zhang et al. 2017, figure 2 b and c).
///
/// ```text
/// stride 1   x ─┬─ 1×1 group, BN, ReLU ── shuffle ── 3×3 depthwise, BN ── 1×1 group, BN ─(+)─ ReLU ──►
///               └────────────────────────────────────────────────────────────────────────┘
///
/// stride 2   the same with a strided depthwise convolution; instead of the sum, a concat with x averaged over
///            3×3 at stride 2, so that the branch computes only the channels that are new
/// ```
///
/// `first_groups` is 1 in the first unit of the network, whose input has too few channels to be grouped.
pub(crate) fn group_conv_unit(
    net: &mut Net,
    path: &str,
    x: &Map,
    channels: usize,
    groups: usize,
    first_groups: usize,
    stride: usize,
) -> Map {
    let inner = channels / 4;
    let branch = if stride == 1 { channels } else { channels - x.channels };

    let mut y = conv_bn_relu(net, &format!("{path}.reduce"), x, Conv::pointwise(inner).groups(first_groups));
    if groups > 1 {
        y = net.channel_shuffle(&format!("{path}.shuffle"), &y, groups);
    }
    let depthwise = Conv::depthwise(&y, 3).stride(stride).centred();
    y = conv_bn(net, &format!("{path}.depthwise"), &y, depthwise, Gamma::Unit);
    let gamma = if stride == 1 { Gamma::Damped } else { Gamma::Unit };
    y = conv_bn(net, &format!("{path}.expand"), &y, Conv::pointwise(branch).groups(groups), gamma);

    let joined = if stride == 1 {
        net.add(path, x, &y)
    } else {
        let window = Window::new(3, stride, Padding::Each(1));
        let shortcut = net.avg_pool(&format!("{path}.shortcut"), x, window, Border::Counted);
        net.concat(path, &[&shortcut, &y])
    };
    net.relu(path, &joined)
}

/// ShuffleNet v2's unit (Ma et al. 2018, figure 3 c and d).
///
/// ```text
/// stride 1   x ── split ─┬──────────────────────────────────────────────────────────┬─ concat ── shuffle ──►
///                        └─ 1×1, BN, ReLU ── 3×3 depthwise, BN ── 1×1, BN, ReLU ────┘
///
/// stride 2   x ─┬─ 3×3 depthwise stride 2, BN ── 1×1, BN, ReLU ─────────────────────┬─ concat ── shuffle ──►
///               └─ 1×1, BN, ReLU ── 3×3 depthwise stride 2, BN ── 1×1, BN, ReLU ────┘
/// ```
pub(crate) fn split_unit(net: &mut Net, path: &str, x: &Map, channels: usize, stride: usize) -> Map {
    let half = channels / 2;
    let (left, right) = if stride == 1 {
        net.split_halves(path, x)
    } else {
        let depthwise = Conv::depthwise(x, 3).stride(stride).centred();
        let left = conv_bn(net, &format!("{path}.branch1.depthwise"), x, depthwise, Gamma::Unit);
        let left = conv_bn_relu(net, &format!("{path}.branch1.pointwise"), &left, Conv::pointwise(half));
        (left, x.clone())
    };
    let y = conv_bn_relu(net, &format!("{path}.branch2.reduce"), &right, Conv::pointwise(half));
    let depthwise = Conv::depthwise(&y, 3).stride(stride).centred();
    let y = conv_bn(net, &format!("{path}.branch2.depthwise"), &y, depthwise, Gamma::Unit);
    let y = conv_bn_relu(net, &format!("{path}.branch2.pointwise"), &y, Conv::pointwise(half));
    let joined = net.concat(path, &[&left, &y]);
    net.channel_shuffle(&format!("{path}.shuffle"), &joined, 2)
}
