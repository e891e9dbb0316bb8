//! ShuffleNet v2: half of the channels pass each unit untouched.
//! Ma et al. 2018, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", table 5.

use crate::blocks::{classifier, conv_bn_relu, split_unit};
use crate::builder::{Conv, Map, Net, Padding, Tensor, Window};
use crate::catalogue::Config;

/// Units per stage, the strided one included.
const UNITS: [usize; 3] = [4, 8, 4];

/// Channels of stages 2 to 4 and of the last convolution, by width.
fn channels(width: f64) -> ([usize; 3], usize) {
    match width {
        w if w < 1.0 => ([48, 96, 192], 1024),
        w if w < 1.5 => ([116, 232, 464], 1024),
        w if w < 2.0 => ([176, 352, 704], 1024),
        _ => ([244, 488, 976], 2048),
    }
}

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    let (stages, last) = channels(config.width);
    let x = conv_bn_relu(net, "conv1", input, Conv::new(24, 3).stride(2).centred());
    let mut x = net.max_pool("maxpool", &x, Window::new(3, 2, Padding::Each(1)));
    for (i, (channels, units)) in stages.into_iter().zip(UNITS).enumerate() {
        for unit in 0..units {
            let stride = if unit == 0 { 2 } else { 1 };
            x = split_unit(net, &format!("stage{}.{unit}", i + 2), &x, channels, stride);
        }
    }
    let x = conv_bn_relu(net, "conv5", &x, Conv::pointwise(last));
    classifier(net, "fc", &x, config.classes)
}
