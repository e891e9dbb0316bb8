//! GhostNet's module and bottleneck: half of the channels are cheap functions of the other half.

use super::{Activation, Gate, conv_bn, conv_bn_relu, squeeze_excite};
use crate::builder::{Conv, Gamma, Map, Net};

/// What differs from block to block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GhostBlock {
    pub(crate) kernel: usize,
    pub(crate) expanded: usize,
    pub(crate) channels: usize,
    pub(crate) stride: usize,
    /// Channels in the middle of squeeze and excitation.
    pub(crate) squeeze: Option<usize>,
}

/// Han et al. 2020, "GhostNet: More Features from Cheap Operations", figure 3.
///
/// ```text
/// x ─┬─ ghost ── depthwise stride 2, BN ── squeeze and excitation ── ghost without ReLU ──(+)──►
///    └─ x, or depthwise, BN ── 1×1, BN if the shape changes ──────────────────────────────┘
/// ```
pub(crate) fn ghost_bottleneck(net: &mut Net, path: &str, x: &Map, block: GhostBlock) -> Map {
    let keeps = block.stride == 1 && x.channels == block.channels;
    let mut y = ghost_module(net, &format!("{path}.ghost1"), x, block.expanded, true);
    if block.stride > 1 {
        y = depthwise_bn(net, &format!("{path}.dw"), &y, block);
    }
    if let Some(squeezed) = block.squeeze {
        y = squeeze_excite(net, &format!("{path}.se"), &y, squeezed, Activation::Relu, Gate::ClippedSum);
    }
    y = ghost_module(net, &format!("{path}.ghost2"), &y, block.channels, false);
    let shortcut = if keeps {
        x.clone()
    } else {
        let z = depthwise_bn(net, &format!("{path}.shortcut.dw"), x, block);
        let pointwise = Conv::pointwise(block.channels);
        conv_bn(net, &format!("{path}.shortcut.pw"), &z, pointwise, Gamma::Unit)
    };
    net.add(path, &y, &shortcut)
}

fn depthwise_bn(net: &mut Net, path: &str, x: &Map, block: GhostBlock) -> Map {
    let depthwise = Conv::depthwise(x, block.kernel).stride(block.stride).centred();
    conv_bn(net, path, x, depthwise, Gamma::Unit)
}

/// Figure 1 b there. The slice is in the authors' code for odd numbers of channels, and always in what is exported.
///
/// ```text
/// x ── 1×1, BN, ReLU ─┬─────────────────────────────┬─ concat ── slice ──►
///                     └─ depthwise 3×3, BN, ReLU ───┘
/// ```
fn ghost_module(net: &mut Net, path: &str, x: &Map, channels: usize, rectified: bool) -> Map {
    let half = Conv::pointwise(channels.div_ceil(2));
    let mut layer = |name: &str, x: &Map, conv: Conv| {
        let path = format!("{path}.{name}");
        if rectified {
            conv_bn_relu(net, &path, x, conv)
        } else {
            conv_bn(net, &path, x, conv, Gamma::Damped)
        }
    };
    let primary = layer("primary", x, half);
    let cheap = layer("cheap", &primary, Conv::depthwise(&primary, 3).centred());
    let joined = net.concat(path, &[&primary, &cheap]);
    net.first_channels(path, &joined, channels)
}
