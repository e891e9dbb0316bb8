//! DenseNet's blocks, where normalisation comes before the convolution.

use crate::builder::{Border, Conv, Gamma, Map, Net, Padding, Window};

/// Channels that each layer adds (k in the paper).
const GROWTH: usize = 32;

/// Layers that each see the outputs of all layers before (Huang et al. 2017, section 3).
pub(crate) fn dense_block(net: &mut Net, path: &str, x: &Map, layers: usize) -> Map {
    let mut seen = vec![x.clone()];
    for layer in 1..=layers {
        let path = format!("{path}.denselayer{layer}");
        let all = match seen.as_slice() {
            [only] => only.clone(),
            several => net.concat(&path, &several.iter().collect::<Vec<_>>()),
        };
        seen.push(dense_layer(net, &path, &all));
    }
    net.concat(path, &seen.iter().collect::<Vec<_>>())
}

/// `x ── BN, ReLU, 1×1 to 4k ── BN, ReLU, 3×3 to k ──►`
fn dense_layer(net: &mut Net, path: &str, x: &Map) -> Map {
    let y = bn_relu(net, path, 1, x);
    let y = net.conv(&format!("{path}.conv1"), &y, Conv::pointwise(4 * GROWTH));
    let y = bn_relu(net, path, 2, &y);
    net.conv(&format!("{path}.conv2"), &y, Conv::new(GROWTH, 3).centred())
}

fn bn_relu(net: &mut Net, path: &str, index: usize, x: &Map) -> Map {
    let y = net.batch_norm(&format!("{path}.norm{index}"), x, Gamma::Unit);
    net.relu(&format!("{path}.relu{index}"), &y)
}

/// Half the channels, half the resolution: `x ── BN, ReLU, 1×1 ── average 2×2 ──►`
pub(crate) fn transition(net: &mut Net, path: &str, x: &Map) -> Map {
    let y = net.batch_norm(&format!("{path}.norm"), x, Gamma::Unit);
    let y = net.relu(&format!("{path}.relu"), &y);
    let y = net.conv(&format!("{path}.conv"), &y, Conv::pointwise(x.channels / 2));
    net.avg_pool(&format!("{path}.pool"), &y, Window::new(2, 2, Padding::Each(0)), Border::LeftOut)
}
