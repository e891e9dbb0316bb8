//! DenseNet-121: every layer sees all layers before it in its block.
//! Huang et al. 2017, "Densely Connected Convolutional Networks", table 1.

use crate::blocks::{classifier, conv_bn_relu, dense_block, transition};
use crate::builder::{Conv, Gamma, Map, Net, Padding, Tensor, Window};
use crate::catalogue::Config;

/// Layers per dense block.
const LAYERS: [usize; 4] = [6, 12, 24, 16];

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    let x = conv_bn_relu(net, "features.stem", input, Conv::new(64, 7).stride(2).centred());
    let mut x = net.max_pool("features.pool0", &x, Window::new(3, 2, Padding::Each(1)));
    for (i, layers) in LAYERS.into_iter().enumerate() {
        if i > 0 {
            x = transition(net, &format!("features.transition{i}"), &x);
        }
        x = dense_block(net, &format!("features.denseblock{}", i + 1), &x, layers);
    }
    let x = net.batch_norm("features.norm5", &x, Gamma::Unit);
    let x = net.relu("features.relu5", &x);
    classifier(net, "classifier", &x, config.classes)
}
