//! YOLOv8's blocks, with normalisation folded into the convolutions, as the authors export them.

use crate::builder::{Conv, Map, Net, Padding, Window};

/// Convolution with bias, SiLU.
pub(crate) fn conv_silu(net: &mut Net, path: &str, x: &Map, conv: Conv) -> Map {
    // As much as `Gamma::Twice`.
    let x = net.conv_deviation(&format!("{path}.conv"), x, conv.centred(), 2.0);
    net.silu(&format!("{path}.act"), &x)
}

/// Half of the channels pass, the other half goes through bottlenecks, and all that is on the way is kept (ultralytics,
/// `C2f`, after Wang et al. 2020, "CSPNet").
///
/// ```text
///                    ┌───────────────────────────────────────────────┐
/// x ── 1×1 ── split ─┼───────────────────┬────────────────────────┬──┼─ concat ── 1×1 ──►
///                    └─ 3×3 ── 3×3 ─(+)──┴─ 3×3 ── 3×3 ─(+)── … ──┴──┘
/// ```
pub(crate) fn c2f(net: &mut Net, path: &str, x: &Map, channels: usize, repeats: usize, adds: bool) -> Map {
    let y = conv_silu(net, &format!("{path}.cv1"), x, Conv::pointwise(channels));
    let (passed, mut last) = net.split_halves(path, &y);
    let mut kept = vec![passed, last.clone()];
    for repeat in 0..repeats {
        let path = format!("{path}.m.{repeat}");
        let half = Conv::new(channels / 2, 3);
        let y = conv_silu(net, &format!("{path}.cv1"), &last, half);
        let y = conv_silu(net, &format!("{path}.cv2"), &y, half);
        last = if adds { net.add(&path, &last, &y) } else { y };
        kept.push(last.clone());
    }
    let y = net.concat(path, &kept.iter().collect::<Vec<_>>());
    conv_silu(net, &format!("{path}.cv2"), &y, Conv::pointwise(channels))
}

/// Maxima over windows of 5, 9 and 13 pixels, one from the other (ultralytics, `SPPF`, after He et al. 2015, "Spatial
/// Pyramid Pooling").
///
/// ```text
/// x ── 1×1 ─┬────────────────────────────────────────────┬─ concat ── 1×1 ──►
///           └─ max 5×5 ─┬─ max 5×5 ─┬─ max 5×5 ──────────┤
///                       └───────────┴────────────────────┘
/// ```
pub(crate) fn sppf(net: &mut Net, path: &str, x: &Map) -> Map {
    let mut kept = vec![conv_silu(net, &format!("{path}.cv1"), x, Conv::pointwise(x.channels / 2))];
    for turn in 1..=3 {
        let pool = Window::new(5, 1, Padding::Each(2));
        kept.push(net.max_pool(&format!("{path}.m.{turn}"), &kept[turn - 1], pool));
    }
    let y = net.concat(path, &kept.iter().collect::<Vec<_>>());
    conv_silu(net, &format!("{path}.cv2"), &y, Conv::pointwise(x.channels))
}
