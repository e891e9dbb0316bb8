//! ViT-Tiny/16: pictures cut into patches of 16 × 16 pixels, a class token, a plain transformer.
//! Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", figure 1; the
//! tiny width is of Touvron et al. 2021, "Training data-efficient image transformers", table 1. Written as timm's
//! `vit_tiny_patch16_224` exports; 5,717,416 parameters and 1.26 G multiply-accumulates are from there.

use crate::blocks::{Spelling, Transformer, transformer_block};
use crate::builder::{Conv, Map, Net, Tensor};
use crate::catalogue::Config;

const PATCH: usize = 16;
const FEATURES: usize = 192;
const DEPTH: usize = 12;
const BLOCK: Transformer =
    Transformer { heads: 3, hidden: 4 * FEATURES, activation: Net::gelu, spelling: Spelling::Gather };

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    net.set_epsilon(1e-6);
    let x = net.conv_bias("patch_embed.proj", input, Conv::new(FEATURES, PATCH).stride(PATCH));
    let x = net.pixels("patch_embed", &x);
    let x = net.class_token("cls_token", &x);
    let mut x = net.positions("pos_embed", &x);
    for block in 0..DEPTH {
        x = transformer_block(net, &format!("blocks.{block}"), &x, BLOCK);
    }
    let x = net.layer_norm("norm", &x);
    let x = net.row("class", &x, 0);
    net.logits("head", &x, config.classes)
}
