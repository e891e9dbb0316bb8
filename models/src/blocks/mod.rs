//! The blocks that the papers draw as one box, made of the layers of [`crate::builder`].
//!
//! A block takes the network, its own path and its input, and returns its output.

mod attention;
mod cell;
mod dense;
mod detect;
mod fire;
mod gate;
mod ghost;
mod mobile;
mod patches;
mod residual;
mod separable;
mod shuffle;
mod stages;

pub(crate) use attention::{Spelling, Transformer, transformer_block};
pub(crate) use cell::{normal_cell, reduction_cell};
pub(crate) use dense::{dense_block, transition};
pub(crate) use detect::detect;
pub(crate) use fire::fire;
pub(crate) use gate::{Activation, Gate, squeeze_excite};
pub(crate) use ghost::{GhostBlock, ghost_bottleneck};
pub(crate) use mobile::{MobileBlock, conv_bn_act, mobile_block};
pub(crate) use patches::patches_block;
pub(crate) use residual::{basic, bottleneck, inverted_residual};
pub(crate) use separable::{depthwise_separable, separable_conv};
pub(crate) use shuffle::{group_conv_unit, split_unit};
pub(crate) use stages::{c2f, conv_silu, sppf};

use crate::builder::{Conv, Gamma, Map, Net, Tensor};

/// Convolution, then batch normalisation.
pub(crate) fn conv_bn(net: &mut Net, path: &str, x: &Map, conv: Conv, gamma: Gamma) -> Map {
    let x = net.conv(&format!("{path}.conv"), x, conv);
    net.batch_norm(&format!("{path}.bn"), &x, gamma)
}

/// Convolution, batch normalisation, ReLU.
pub(crate) fn conv_bn_relu(net: &mut Net, path: &str, x: &Map, conv: Conv) -> Map {
    let x = conv_bn(net, path, x, conv, Gamma::Unit);
    net.relu(path, &x)
}

/// Convolution, batch normalisation, ReLU6.
pub(crate) fn conv_bn_relu6(net: &mut Net, path: &str, x: &Map, conv: Conv) -> Map {
    let x = conv_bn(net, path, x, conv, Gamma::Wide);
    net.relu6(path, &x)
}

/// Global average pooling and one fully connected layer.
pub(crate) fn classifier(net: &mut Net, path: &str, x: &Map, classes: usize) -> Tensor {
    let x = net.global_avg_pool("pool", x);
    let x = net.flatten("flatten", &x);
    net.logits(path, &x, classes)
}
