//! A panel: the weights of some vectors of output channels, in the order in which a tile reads them.
//!
//! # Few output channels
//!
//! Four output channels do not fill a register of sixteen lanes. So a column may be *folded*: its register holds sums of
//! two or four neighbouring input channels side by side, which are added up at the end:
//!
//! ```text
//!   folded by 4        weights        n0: k0 k1 k2 k3   n1: k0 k1 k2 k3   n2: …
//!                    × input              a0 a1 a2 a3       a0 a1 a2 a3       …      one load of four channels
//! ```
//!
//! A column of four channels then takes a quarter of the multiply-adds. The panel's rows come in rounds of as many
//! channels as its columns are folded by: first each channel's row of the columns that are not folded, then those that are,
//! `[k / fold][n][k % fold]` for each.

use super::super::super::ir::Lanes;

/// One vector of output channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Col {
    /// Lanes that are computed, and that the panel holds.
    pub lanes: Lanes,
    /// Lanes that exist in the output. Fewer than `lanes` only where the output has no lane padding.
    pub used: u32,
    /// Input channels that are summed side by side: 1, 2 or 4.
    pub fold: u32,
}

impl Col {
    /// A vector that is stored as a whole.
    pub const fn full(lanes: Lanes) -> Col {
        Col::part(lanes, lanes.count())
    }

    /// A vector of which the first `used` lanes are stored.
    pub const fn part(lanes: Lanes, used: u32) -> Col {
        Col { lanes, used, fold: 1 }
    }

    /// The register that holds its sums.
    pub(super) fn register(self) -> Lanes {
        Lanes::holding(self.lanes.count() * self.fold).unwrap_or(Lanes::X16)
    }
}

/// Channels whose rows of a panel come together: as many as its columns are folded by.
pub(super) fn together(cols: &[Col]) -> u32 {
    cols.iter().map(|col| col.fold).max().unwrap_or(1)
}

/// Where one tap's panel has the weight of lane `lane` and the `k`-th channel, in floats.
pub fn position(cols: &[Col], lane: u32, k: u32) -> usize {
    let (round, k) = (k / together(cols), k % together(cols));
    let start = round * together(cols) * panel_width(cols);
    let flat: u32 = cols.iter().filter(|col| col.fold == 1).map(|col| col.lanes.count()).sum();
    let (mut lane, mut flat_before) = (lane, 0);
    let mut folded_before = flat * together(cols);
    for col in cols {
        let lanes = col.lanes.count();
        if lane >= lanes {
            lane -= lanes;
            match col.fold {
                1 => flat_before += lanes,
                _ => folded_before += lanes * together(cols),
            }
            continue;
        }
        let within = match col.fold {
            1 => k * flat + flat_before + lane,
            fold => folded_before + (k / fold * lanes + lane) * fold + k % fold,
        };
        return (start + within) as usize;
    }
    start as usize
}

/// Floats of the columns that are not folded, in one row of a panel.
pub(super) fn flat_width(cols: &[Col]) -> i64 {
    cols.iter().filter(|col| col.fold == 1).map(|col| i64::from(col.lanes.count())).sum()
}

/// Floats in one row of a panel.
pub fn panel_width(cols: &[Col]) -> u32 {
    cols.iter().map(|c| c.lanes.count()).sum()
}

/// Output channels of a panel.
pub fn panel_channels(cols: &[Col]) -> u32 {
    cols.iter().map(|c| c.used).sum()
}

/// The weights of one panel in order of use, `[ky][kx][k][lane]` where no column is folded, zero in lanes without a channel. `weight(n, k, ky, kx)`
/// is asked for output channels `0..panel_channels(cols)` and for channels `k` in the order in which the tile reads them.
pub fn pack(
    cols: &[Col],
    kernel: (u32, u32),
    channels: u32,
    weight: impl Fn(u32, u32, u32, u32) -> f32,
) -> Vec<f32> {
    let tap = channels as usize * panel_width(cols) as usize;
    let mut panel = vec![0.0; kernel.0 as usize * kernel.1 as usize * tap];
    let taps = (0..kernel.0).flat_map(|ky| (0..kernel.1).map(move |kx| (ky, kx)));
    for (panel, (ky, kx)) in panel.chunks_exact_mut(tap.max(1)).zip(taps) {
        let (mut lane, mut n) = (0, 0);
        for col in cols {
            for used in 0..col.used {
                for k in 0..channels {
                    panel[position(cols, lane + used, k)] = weight(n + used, k, ky, kx);
                }
            }
            lane += col.lanes.count();
            n += col.used;
        }
    }
    panel
}

/// One value per lane of a panel, zero in lanes without a channel: a bias, or a row of weights.
pub fn pack_row(cols: &[Col], value: impl Fn(u32) -> f32) -> Vec<f32> {
    let mut row = Vec::with_capacity(panel_width(cols) as usize);
    let mut first = 0;
    for col in cols {
        row.extend((0..col.lanes.count()).map(|l| if l < col.used { value(first + l) } else { 0.0 }));
        first += col.used;
    }
    row
}
