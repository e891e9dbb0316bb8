//! SqueezeNet's fire module.

use crate::builder::{Conv, Map, Net};

/// Squeeze, then expand by two kinds of filter (Iandola et al. 2016, figure 1).
///
/// ```text
///                              ┌─ expand 1×1, ReLU ─┐
/// x ── squeeze 1×1, ReLU ──────┤                    ├─ concat ──►
///                              └─ expand 3×3, ReLU ─┘
/// ```
pub(crate) fn fire(net: &mut Net, path: &str, x: &Map, squeeze: usize, expand: usize) -> Map {
    let squeezed = conv_relu(net, &format!("{path}.squeeze"), x, Conv::pointwise(squeeze));
    let narrow = conv_relu(net, &format!("{path}.expand1x1"), &squeezed, Conv::pointwise(expand));
    let wide = conv_relu(net, &format!("{path}.expand3x3"), &squeezed, Conv::new(expand, 3).centred());
    net.concat(path, &[&narrow, &wide])
}

fn conv_relu(net: &mut Net, path: &str, x: &Map, conv: Conv) -> Map {
    let x = net.conv_bias(path, x, conv);
    net.relu(&format!("{path}_activation"), &x)
}
