//! Squeeze and excitation: channels are weighted by what the whole picture holds.

use crate::builder::{Conv, Map, Net};

/// What follows a normalisation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Activation {
    Relu,
    HardSwish,
    Silu,
}

impl Activation {
    pub(crate) fn apply(self, net: &mut Net, path: &str, x: &Map) -> Map {
        match self {
            Self::Relu => net.relu(path, x),
            Self::HardSwish => net.hard_swish(path, x),
            Self::Silu => net.silu(path, x),
        }
    }
}

/// What brings the weights of channels between 0 and 1.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gate {
    Sigmoid,
    HardSigmoid,
    /// A hard sigmoid that is written out.
    ClippedSum,
}

impl Gate {
    fn apply(self, net: &mut Net, path: &str, x: &Map) -> Map {
        match self {
            Self::Sigmoid => net.sigmoid(path, x),
            Self::HardSigmoid => net.hard_sigmoid(path, x),
            Self::ClippedSum => net.clipped_sum(path, x),
        }
    }
}

/// Hu et al. 2018, "Squeeze-and-Excitation Networks", figure 2, with 1 × 1 convolutions as fully connected layers.
///
/// ```text
/// x ─┬─────────────────────────────────────────────────────────────────(×)──►
///    └─ average of each channel ── 1×1 to few, activation ── 1×1, gate ─┘
/// ```
pub(crate) fn squeeze_excite(
    net: &mut Net,
    path: &str,
    x: &Map,
    squeezed: usize,
    activation: Activation,
    gate: Gate,
) -> Map {
    let y = net.global_avg_pool(&format!("{path}.avgpool"), x);
    let y = net.conv_bias(&format!("{path}.fc1"), &y, Conv::pointwise(squeezed));
    let y = activation.apply(net, &format!("{path}.activation"), &y);
    let y = net.conv_bias(&format!("{path}.fc2"), &y, Conv::pointwise(x.channels));
    let y = gate.apply(net, &format!("{path}.gate"), &y);
    net.gate(path, x, &y)
}
