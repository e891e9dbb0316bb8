//! U-Net of 32 channels: down to a sixteenth and up again, with what was there before at each resolution.
//! Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", figure 1, at half its width,
//! padded, and with batch normalisation: PyTorch Hub's `mateuszbuda/brain-segmentation-pytorch` (Buda et al. 2019), which
//! has 7,763,041 parameters.

use crate::blocks::conv_bn_relu;
use crate::builder::{Conv, Handle, Map, Net, Padding, Tensor, Window};
use crate::catalogue::Config;

const CHANNELS: usize = 32;
const LEVELS: usize = 4;

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    let mut x = input.clone();
    let mut skips = vec![];
    for level in 1..=LEVELS {
        x = twice(net, &format!("encoder{level}"), &x, CHANNELS << (level - 1));
        skips.push(x.clone());
        x = net.max_pool(&format!("pool{level}"), &x, Window::new(2, 2, Padding::Each(0)));
    }
    x = twice(net, "bottleneck", &x, CHANNELS << LEVELS);
    for (i, skip) in skips.iter().enumerate().rev() {
        let level = i + 1;
        x = net.conv_transpose(&format!("upconv{level}"), &x, skip.channels);
        x = net.concat(&format!("decoder{level}"), &[&x, skip]);
        x = twice(net, &format!("decoder{level}"), &x, skip.channels);
    }
    let x = net.conv_bias("conv", &x, Conv::pointwise(config.classes));
    net.sigmoid("sigmoid", &x).tensor()
}

fn twice(net: &mut Net, path: &str, x: &Map, channels: usize) -> Map {
    let conv = Conv::new(channels, 3).centred();
    let x = conv_bn_relu(net, &format!("{path}.1"), x, conv);
    conv_bn_relu(net, &format!("{path}.2"), &x, conv)
}
