//! The inverted residual of the networks after MobileNet v2, which chose its kernel, width and activation by search.

use super::{Activation, Gate, conv_bn, squeeze_excite};
use crate::builder::{Conv, Gamma, Map, Net};

/// What differs from block to block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MobileBlock {
    /// Of the depthwise convolution.
    pub(crate) kernel: usize,
    /// Channels between the two 1 × 1 convolutions.
    pub(crate) expanded: usize,
    pub(crate) channels: usize,
    pub(crate) stride: usize,
    pub(crate) activation: Activation,
    /// Channels in the middle of squeeze and excitation, its activation and its gate.
    pub(crate) squeeze: Option<(usize, Activation, Gate)>,
}

/// Howard et al. 2019, "Searching for MobileNetV3", figure 4; Tan and Le 2019 have the same.
///
/// ```text
/// x ─┬─ 1×1, BN, act ── depthwise, BN, act ── squeeze and excitation ── 1×1, BN ──(+)──►
///    └──────────────────── if stride is 1 and the channels match ─────────────────┘
/// ```
pub(crate) fn mobile_block(net: &mut Net, path: &str, x: &Map, block: MobileBlock) -> Map {
    let mut y = x.clone();
    if block.expanded != x.channels {
        let expand = Conv::pointwise(block.expanded);
        y = conv_bn_act(net, &format!("{path}.expand"), x, expand, block.activation);
    }
    let depthwise = Conv::depthwise(&y, block.kernel).stride(block.stride).centred();
    y = conv_bn_act(net, &format!("{path}.depthwise"), &y, depthwise, block.activation);
    if let Some((squeezed, activation, gate)) = block.squeeze {
        y = squeeze_excite(net, &format!("{path}.se"), &y, squeezed, activation, gate);
    }
    let adds = block.stride == 1 && x.channels == block.channels;
    let gamma = if adds { Gamma::Damped } else { Gamma::Unit };
    y = conv_bn(net, &format!("{path}.project"), &y, Conv::pointwise(block.channels), gamma);
    if adds { net.add(path, x, &y) } else { y }
}

/// Convolution, batch normalisation, activation.
pub(crate) fn conv_bn_act(net: &mut Net, path: &str, x: &Map, conv: Conv, activation: Activation) -> Map {
    let gamma = match activation {
        Activation::Relu => Gamma::Unit,
        Activation::HardSwish | Activation::Silu => Gamma::Twice,
    };
    let x = conv_bn(net, path, x, conv, gamma);
    activation.apply(net, path, &x)
}
