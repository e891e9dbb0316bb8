//! ResNet-18 and ResNet-50.
//! He et al. 2016, "Deep Residual Learning for Image Recognition", table 1.

use crate::blocks::{basic, bottleneck, classifier, conv_bn_relu};
use crate::builder::{Conv, Map, Net, Padding, Tensor, Window};
use crate::catalogue::Config;

/// A residual block: (network, path, input, channels, stride).
type Block = fn(&mut Net, &str, &Map, usize, usize) -> Map;

pub(crate) fn build_18(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    build(net, input, config, basic, [2, 2, 2, 2])
}

pub(crate) fn build_50(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    build(net, input, config, bottleneck, [3, 4, 6, 3])
}

fn build(net: &mut Net, input: &Map, config: &Config, block: Block, repeats: [usize; 4]) -> Tensor {
    let x = conv_bn_relu(net, "stem", input, Conv::new(64, 7).stride(2).centred());
    let mut x = net.max_pool("maxpool", &x, Window::new(3, 2, Padding::Each(1)));
    for (stage, repeats) in repeats.into_iter().enumerate() {
        for repeat in 0..repeats {
            let stride = if stage > 0 && repeat == 0 { 2 } else { 1 };
            x = block(net, &format!("layer{}.{repeat}", stage + 1), &x, 64 << stage, stride);
        }
    }
    classifier(net, "fc", &x, config.classes)
}
