//! Xception: separable convolutions with residual connections.
//! Chollet 2017, "Xception: Deep Learning with Depthwise Separable Convolutions", figure 5.

use crate::blocks::{classifier, conv_bn, conv_bn_relu, separable_conv};
use crate::builder::{Conv, Gamma, Map, Net, Padding, Tensor, Window};
use crate::catalogue::Config;

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    net.set_epsilon(1e-3);

    // Entry flow.
    let x = conv_bn_relu(net, "block1.1", input, Conv::new(32, 3).stride(2));
    let mut x = conv_bn_relu(net, "block1.2", &x, Conv::new(64, 3));
    for (block, channels) in [(2, 128), (3, 256), (4, 728)] {
        x = downsampling_block(net, block, &x, [channels, channels]);
    }

    // Middle flow.
    for block in 5..=12 {
        let path = format!("block{block}");
        let mut y = x.clone();
        for turn in 1..=3 {
            y = net.relu(&format!("{path}.{turn}"), &y);
            let gamma = if turn == 3 { Gamma::Damped } else { Gamma::Unit };
            y = separable_bn(net, &format!("{path}.{turn}"), &y, 728, gamma);
        }
        x = net.add(&path, &y, &x);
    }

    // Exit flow.
    x = downsampling_block(net, 13, &x, [728, 1024]);
    for (turn, channels) in [(1, 1536), (2, 2048)] {
        x = separable_bn(net, &format!("block14.{turn}"), &x, channels, Gamma::Unit);
        x = net.relu(&format!("block14.{turn}"), &x);
    }
    classifier(net, "classifier", &x, config.classes)
}

/// Two separable convolutions and a maximum over 3 × 3 at stride 2, beside a strided 1 × 1 convolution. The second
/// block of the network has no ReLU at its start, since its input just had one.
fn downsampling_block(net: &mut Net, block: usize, x: &Map, channels: [usize; 2]) -> Map {
    let path = format!("block{block}");
    let projection = Conv::pointwise(channels[1]).stride(2).same();
    let shortcut = conv_bn(net, &format!("{path}.shortcut"), x, projection, Gamma::Unit);
    let mut y = x.clone();
    for (turn, channels) in channels.into_iter().enumerate() {
        let path = format!("{path}.{}", turn + 1);
        if block > 2 || turn > 0 {
            y = net.relu(&path, &y);
        }
        y = separable_bn(net, &path, &y, channels, Gamma::Unit);
    }
    let y = net.max_pool(&format!("{path}.pool"), &y, Window::new(3, 2, Padding::Same));
    net.add(&path, &y, &shortcut)
}

/// A separable 3 × 3 convolution and its normalisation.
fn separable_bn(net: &mut Net, path: &str, x: &Map, channels: usize, gamma: Gamma) -> Map {
    let y = separable_conv(net, path, x, channels, 3, 1);
    net.batch_norm(&format!("{path}.bn"), &y, gamma)
}
