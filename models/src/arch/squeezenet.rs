//! SqueezeNet 1.0 and 1.1: fire modules, no fully connected layer, no normalisation.
//! Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", table 1; version 1.1 from
//! the authors' repository.

use crate::blocks::fire;
use crate::builder::{Conv, Handle, Map, Net, Padding, Tensor, Window};
use crate::catalogue::Config;

/// (squeeze, expand) channels of each fire module.
const FIRES: [(usize, usize); 8] =
    [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)];

/// 7 × 7 stem of 96 channels; pools after the stem, the third and the seventh fire module.
pub(crate) fn build_1_0(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    build(net, input, config, Conv::new(96, 7), &[3, 7])
}

/// 3 × 3 stem of 64 channels; pools come earlier: after the stem, the second and the fourth fire module.
pub(crate) fn build_1_1(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    build(net, input, config, Conv::new(64, 3), &[2, 4])
}

fn build(net: &mut Net, input: &Map, config: &Config, stem: Conv, pool_after: &[usize]) -> Tensor {
    let pool = Window::new(3, 2, Padding::Each(0)).ceil();
    let x = net.conv_bias("features.conv1", input, stem.stride(2));
    let x = net.relu("features.relu1", &x);
    let mut x = net.max_pool("features.pool1", &x, pool);
    for (i, (squeeze, expand)) in FIRES.into_iter().enumerate() {
        x = fire(net, &format!("features.fire{}", i + 2), &x, squeeze, expand);
        if pool_after.contains(&(i + 1)) {
            x = net.max_pool(&format!("features.pool{}", i + 2), &x, pool);
        }
    }
    let x = net.conv_bias("classifier.conv10", &x, Conv::pointwise(config.classes));
    let x = net.relu("classifier.relu10", &x);
    let x = net.global_avg_pool("classifier.pool10", &x);
    net.flatten("flatten", &x).tensor()
}
