//! ShuffleNet v1: grouped 1 × 1 convolutions with channel shuffles between.
//! Zhang et al. 2017, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices", table 1.

use crate::blocks::{classifier, conv_bn_relu, group_conv_unit};
use crate::builder::{Conv, Map, Net, Padding, Tensor, Window};
use crate::catalogue::Config;

/// Units per stage, the strided one included.
const STAGES: [(usize, usize); 3] = [(2, 4), (3, 8), (4, 4)];

/// Channels of stage 2 at width 1, by number of groups: more groups make room for more channels (table 1).
fn stage2_channels(groups: usize) -> usize {
    match groups {
        1 => 144,
        2 => 200,
        3 => 240,
        4 => 272,
        _ => 384,
    }
}

/// Channels of the first convolution: 24, halved for width 0.5 and doubled for width 2, but as they are for 1.5
/// (so in the authors' code), in whole groups.
fn stem_channels(width: f64, groups: usize) -> usize {
    let channels = if width < 1.0 {
        12
    } else if width < 2.0 {
        24
    } else {
        48
    };
    usize::next_multiple_of(channels, groups)
}

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    let groups = config.groups;
    // A quarter of the channels is divided into groups; table 1 at width 1 already fits.
    let scaled = (stage2_channels(groups) as f64 * config.width) as usize;
    let stage2 = scaled.next_multiple_of(4 * groups);

    let stem = Conv::new(stem_channels(config.width, groups), 3).stride(2).centred();
    let x = conv_bn_relu(net, "stem", input, stem);
    let mut x = net.max_pool("stem.pool", &x, Window::new(3, 2, Padding::Each(1)));
    for (stage, units) in STAGES {
        let channels = stage2 << (stage - 2);
        for unit in 0..units {
            let stride = if unit == 0 { 2 } else { 1 };
            let first_groups = if stage == 2 && unit == 0 { 1 } else { groups };
            let path = format!("stage{stage}.{unit}");
            x = group_conv_unit(net, &path, &x, channels, groups, first_groups, stride);
        }
    }
    classifier(net, "classifier", &x, config.classes)
}
