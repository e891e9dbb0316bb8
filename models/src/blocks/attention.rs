//! The transformer's block (Vaswani et al. 2017), with normalisation before each half as in Dosovitskiy et al. 2021.

use crate::builder::{Handle, Net, Tensor, Tokens};

/// How wide a block is, and what is written for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transformer {
    pub(crate) heads: usize,
    /// Features between the two fully connected layers.
    pub(crate) hidden: usize,
    pub(crate) activation: fn(&mut Net, &str, &Tokens) -> Tokens,
    pub(crate) spelling: Spelling,
}

/// What an exporter makes of queries, keys and values, which one fully connected layer computes together.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spelling {
    /// A `Gather` of each; queries are scaled by `1 / √d`.
    Gather,
    /// A `Split` and a `Squeeze` of each; queries and keys are scaled by `1 / ⁴√d`, as PyTorch writes
    /// `scaled_dot_product_attention`.
    Split,
}

/// ```text
/// x ─┬─ LN ── attention ──(+)─┬─ LN ── rows to hidden, activation ── rows back ──(+)──►
///    └────────────────────┘   └──────────────────────────────────────────────┘
/// ```
pub(crate) fn transformer_block(net: &mut Net, path: &str, x: &Tokens, block: Transformer) -> Tokens {
    let y = net.layer_norm(&format!("{path}.norm1"), x);
    let y = attention(net, &format!("{path}.attn"), &y, block.heads, block.spelling);
    let x = net.add(&format!("{path}.attn.add"), x, &y);

    let y = net.layer_norm(&format!("{path}.norm2"), &x);
    let y = net.rows(&format!("{path}.mlp.fc1"), &y, block.hidden, 1.0);
    let y = (block.activation)(net, &format!("{path}.mlp.act"), &y);
    let y = net.rows(&format!("{path}.mlp.fc2"), &y, x.features(), DAMPED);
    net.add(&format!("{path}.mlp.add"), &x, &y)
}

/// The deviation of what a branch adds, which keeps sums from growing with depth.
const DAMPED: f64 = 0.5;

/// Self-attention of several heads (Vaswani et al. 2017, section 3.2): of d features each, over n rows,
///
/// ```text
///            ┌ q [b, heads, n, d] ─┐
/// x ── qkv ──┼ k ── transpose ─────┴ q·kᵀ / √d ── softmax ─┐
///            └ v ──────────────────────────────────────────┴ product ── [b, n, heads · d] ── proj ──►
/// ```
fn attention(net: &mut Net, path: &str, x: &Tokens, heads: usize, spelling: Spelling) -> Tokens {
    let [batch, rows, features] = x.dims;
    let each = features / heads;
    let qkv = net.rows(&format!("{path}.qkv"), x, 3 * features, 1.0);
    let parts = net.reshape(&format!("{path}.heads"), &qkv.tensor(), &[batch, rows, 3, heads, each]);
    let parts = net.transpose(&format!("{path}.heads"), &parts, &[2, 0, 3, 1, 4]);
    let [q, k, v] = take_apart(net, path, &parts, spelling);
    let k = net.transpose(&format!("{path}.k"), &k, &[0, 1, 3, 2]);
    let scale = 1.0 / (each as f32).sqrt();
    let (q, k) = match spelling {
        Spelling::Gather => (net.scalar(&format!("{path}.q.scale"), "Mul", &q, scale), k),
        Spelling::Split => {
            let root = scale.sqrt();
            let q = net.scalar(&format!("{path}.q.scale"), "Mul", &q, root);
            (q, net.scalar(&format!("{path}.k.scale"), "Mul", &k, root))
        }
    };
    let scores = net.matmul(&format!("{path}.scores"), &q, &k);
    let weights = net.softmax(path, &scores, -1);
    let y = net.matmul(&format!("{path}.values"), &weights, &v);
    let y = net.transpose(&format!("{path}.join"), &y, &[0, 2, 1, 3]);
    let y = net.reshape(&format!("{path}.join"), &y, &[batch, rows, features]);
    let values = qkv.moments.select(features, |i| 2 * features + i);
    let y = y.into_tokens(values.average_pool(rows));
    net.rows(&format!("{path}.proj"), &y, features, DAMPED)
}

fn take_apart(net: &mut Net, path: &str, parts: &Tensor, spelling: Spelling) -> [Tensor; 3] {
    const NAMES: [&str; 3] = ["q", "k", "v"];
    match spelling {
        Spelling::Gather => std::array::from_fn(|i| net.pick(&format!("{path}.{}", NAMES[i]), parts, 0, i)),
        Spelling::Split => {
            let split = net.split(path, parts, 0, [1; 3]);
            std::array::from_fn(|i| net.squeeze(&format!("{path}.{}", NAMES[i]), &split[i], 0))
        }
    }
}
