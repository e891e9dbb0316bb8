//! CRNN: reads a line of text, column by column.
//! Shi et al. 2017, "An End-to-End Trainable Neural Network for Image-based Sequence Recognition", table 1; table 2 has
//! 8.3 M parameters. Padding of the narrow pools as in the port to PyTorch by Meijieru, `crnn.pytorch`.
//!
//! ```text
//! line [1, 1, 32, w] ── convolutions ──► [1, 512, 1, w/4 + 1] ──► [w/4 + 1, 1, 512] ── LSTMs ──► logits [w/4 + 1, 1, classes]
//! ```

use crate::builder::{Conv, Gamma, Handle, Map, Net, Padding, Tensor, Tokens, Window};
use crate::catalogue::Config;

/// Channels, whether batch normalisation follows, and the pool behind.
const CONVOLUTIONS: [(usize, bool, Pool); 6] = [
    (64, false, Pool::Square),
    (128, false, Pool::Square),
    (256, true, Pool::None),
    (256, false, Pool::Rows),
    (512, true, Pool::None),
    (512, false, Pool::Rows),
];
/// Features of one direction of the recurrent layers.
const HIDDEN: usize = 256;

#[derive(Debug, Clone, Copy)]
enum Pool {
    None,
    /// Halves height and width.
    Square,
    /// Halves the height: text is read along the width.
    Rows,
}

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    let mut x = input.clone();
    for (i, (channels, normalised, pool)) in CONVOLUTIONS.into_iter().enumerate() {
        x = layer(net, i, &x, Conv::new(channels, 3).centred(), normalised);
        let pool = match pool {
            Pool::None => continue,
            Pool::Square => Window::new(2, 2, Padding::Each(0)),
            Pool::Rows => Window::new(2, 2, Padding::Sides([0, 1])).strides(2, 1),
        };
        x = net.max_pool(&format!("cnn.pooling{i}"), &x, pool);
    }
    // The last one takes the two rows that are left.
    let x = layer(net, CONVOLUTIONS.len(), &x, Conv::new(512, 2), true);

    let x = columns(net, "columns", &x);
    let x = net.bidirectional_lstm("rnn.0.rnn", &x, HIDDEN);
    let x = net.rows("rnn.0.embedding", &x, HIDDEN, 1.0);
    let x = net.bidirectional_lstm("rnn.1.rnn", &x, HIDDEN);
    net.rows("rnn.1.embedding", &x, config.classes, 2.0).tensor()
}

fn layer(net: &mut Net, index: usize, x: &Map, conv: Conv, normalised: bool) -> Map {
    let mut x = net.conv_bias(&format!("cnn.conv{index}"), x, conv);
    if normalised {
        x = net.batch_norm(&format!("cnn.batchnorm{index}"), &x, Gamma::Unit);
    }
    net.relu(&format!("cnn.relu{index}"), &x)
}

/// The columns of a map of one row: `[1, c, 1, w]` becomes `[w, 1, c]`.
fn columns(net: &mut Net, path: &str, x: &Map) -> Tokens {
    let y = net.squeeze(path, &x.tensor(), 2);
    net.transpose(path, &y, &[2, 0, 1]).into_tokens(x.moments.clone())
}
