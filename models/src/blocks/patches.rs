//! MobileViT's block: convolutions see what is near, a transformer what is far.

use super::attention::{Spelling, Transformer, transformer_block};
use super::{Activation, conv_bn_act};
use crate::builder::{Conv, Handle, Map, Net, Tokens};

/// Height and width of a patch.
const PATCH: usize = 2;
const HEADS: usize = 4;

/// Mehta and Rastegari 2022, "MobileViT", figure 1 b: `blocks` transformers over `features` features.
///
/// ```text
/// x ─┬─ 3×3, BN, SiLU ── 1×1 ── unfold ── transformers, LN ── fold ── 1×1, BN, SiLU ─┬─ concat ── 3×3, BN, SiLU ──►
///    └──────────────────────────────────────────────────────────────────────────────┘
/// ```
pub(crate) fn patches_block(net: &mut Net, path: &str, x: &Map, features: usize, blocks: usize) -> Map {
    let near = Conv::new(x.channels, 3).centred();
    let y = conv_bn_act(net, &format!("{path}.conv_kxk"), x, near, Activation::Silu);
    let y = net.conv(&format!("{path}.conv_1x1"), &y, Conv::pointwise(features));

    let mut tokens = unfold(net, &format!("{path}.unfold"), &y);
    let shape =
        Transformer { heads: HEADS, hidden: 2 * features, activation: Net::silu, spelling: Spelling::Split };
    for block in 0..blocks {
        tokens = transformer_block(net, &format!("{path}.transformer.{block}"), &tokens, shape);
    }
    let tokens = net.layer_norm(&format!("{path}.norm"), &tokens);
    let y = fold(net, &format!("{path}.fold"), &tokens, &y);

    let back = Conv::pointwise(x.channels);
    let y = conv_bn_act(net, &format!("{path}.conv_proj"), &y, back, Activation::Silu);
    let y = net.concat(path, &[x, &y]);
    conv_bn_act(net, &format!("{path}.conv_fusion"), &y, near, Activation::Silu)
}

/// Of each patch's pixels, the first of all patches are a sequence, the second ones another, and so on:
/// `[1, c, h, w]` becomes `[4, patches, c]`.
fn unfold(net: &mut Net, path: &str, x: &Map) -> Tokens {
    let (c, rows, columns) = (x.channels, x.height / PATCH, x.width / PATCH);
    let (patches, area) = (rows * columns, PATCH * PATCH);
    let y = net.reshape(&format!("{path}.rows"), &x.tensor(), &[c * rows, PATCH, columns, PATCH]);
    let y = net.transpose(&format!("{path}.rows"), &y, &[0, 2, 1, 3]);
    let y = net.reshape(&format!("{path}.patches"), &y, &[1, c, patches, area]);
    let y = net.transpose(&format!("{path}.patches"), &y, &[0, 3, 2, 1]);
    let y = net.reshape(&format!("{path}.pixels"), &y, &[area, patches, c]);
    y.into_tokens(x.moments.clone())
}

/// The way back, to a map as large as `like`.
fn fold(net: &mut Net, path: &str, x: &Tokens, like: &Map) -> Map {
    let (c, rows, columns) = (like.channels, like.height / PATCH, like.width / PATCH);
    let (patches, area) = (rows * columns, PATCH * PATCH);
    let y = net.reshape(&format!("{path}.pixels"), &x.tensor(), &[1, area, patches, c]);
    let y = net.transpose(&format!("{path}.patches"), &y, &[0, 3, 2, 1]);
    let y = net.reshape(&format!("{path}.patches"), &y, &[c * rows, columns, PATCH, PATCH]);
    let y = net.transpose(&format!("{path}.rows"), &y, &[0, 2, 1, 3]);
    let y = net.reshape(&format!("{path}.rows"), &y, &[1, c, like.height, like.width]);
    y.into_map(x.moments.clone())
}
