//! ConvNeXt-Atto: depthwise 7 × 7 convolutions, layer normalisation, Gelu.
//! Liu et al. 2022, "A ConvNet for the 2020s", figure 4; the width is of Woo et al. 2023, "ConvNeXt V2", table 12, in
//! timm's form of the first version, `convnext_atto`: 3.70 M parameters and 0.55 G multiply-accumulates.

use crate::builder::{Conv, Map, Net, Tensor};
use crate::catalogue::Config;

/// (blocks, channels) of each stage.
const STAGES: [(usize, usize); 4] = [(2, 40), (2, 80), (6, 160), (2, 320)];

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    net.set_epsilon(1e-6);
    let x = net.conv_bias("stem.0", input, Conv::new(STAGES[0].1, 4).stride(4));
    let mut x = net.layer_norm_channels("stem.1", &x);
    for (stage, (blocks, channels)) in STAGES.into_iter().enumerate() {
        let path = format!("stages.{stage}");
        if stage > 0 {
            x = net.layer_norm_channels(&format!("{path}.downsample.0"), &x);
            x = net.conv_bias(&format!("{path}.downsample.1"), &x, Conv::new(channels, 2).stride(2));
        }
        for block in 0..blocks {
            x = residual(net, &format!("{path}.blocks.{block}"), &x);
        }
    }
    let x = net.global_avg_pool("head.global_pool", &x);
    let x = net.layer_norm_channels("head.norm", &x);
    let x = net.flatten("head.flatten", &x);
    net.logits("head.fc", &x, config.classes)
}

/// ```text
/// x ─┬─ depthwise 7×7 ── LN ── 1×1 to 4c, Gelu ── 1×1 ── layer scale ──(+)──►
///    └────────────────────────────────────────────────────────────────┘
/// ```
fn residual(net: &mut Net, path: &str, x: &Map) -> Map {
    let y = net.conv_bias(&format!("{path}.conv_dw"), x, Conv::depthwise(x, 7).centred());
    let y = net.layer_norm_channels(&format!("{path}.norm"), &y);
    let y = net.conv_bias(&format!("{path}.mlp.fc1"), &y, Conv::pointwise(4 * x.channels));
    let y = net.gelu(&format!("{path}.mlp.act"), &y);
    let y = net.conv_bias(&format!("{path}.mlp.fc2"), &y, Conv::pointwise(x.channels));
    let y = net.layer_scale(path, &y);
    net.add(path, &y, x)
}
