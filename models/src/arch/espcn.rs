//! ESPCN ×3: super-resolution of brightness, by convolutions at the low resolution and a shuffle at the end.
//! Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
//! Network", section 3.1: kernels of 5, 3, 3 pixels and 64, 32, r² channels, which is 22,729 parameters at r = 3.

use crate::builder::{Conv, Handle, Map, Net, Tensor};
use crate::catalogue::Config;

const FACTOR: usize = 3;

pub(crate) fn build(net: &mut Net, input: &Map, _config: &Config) -> Tensor {
    let x = net.conv_bias("conv1", input, Conv::new(64, 5).centred());
    let x = net.tanh("tanh1", &x);
    let x = net.conv_bias("conv2", &x, Conv::new(32, 3).centred());
    let x = net.tanh("tanh2", &x);
    let x = net.conv_bias("conv3", &x, Conv::new(FACTOR * FACTOR * input.channels, 3).centred());
    net.pixel_shuffle("pixel_shuffle", &x, FACTOR).tensor()
}
