//! Prefetching: while a dense layer computes, it asks for the weights that are needed next.
//!
//! The weights of a network are read once a run, in order, and are more than the second-level cache holds. So each
//! layer meets its own in the last level or in memory, at a rate that a tile of few pixels cannot hide: 49 pixels of
//! 13 × 32 sums take 128 bytes of weights in 13 cycles. Spread over the arithmetic before, the same bytes take no time.
//!
//! ```text
//!   panels outermost   panel 0             panel 1             …
//!     tiles of pixels  t0   t1   t2   t3   t0   t1   t2   t3
//!     ask for          ¼ of panel 1 each   ¼ of panel 2 each
//!
//!   tiles outermost    all tiles of layer 1, all panels   layer 2
//!     ask for          a part of layer 2's weights each
//! ```
//!
//! What two threads ask for twice costs nothing but the instruction.

use nnc_runtime::abi::Arg;

use super::dense::{Ahead, DenseArg, DensePlan, LoopOrder};
use super::strips::Groups;
use super::winograd::WinogradArg;
use super::{LayerCode, PlanStep};
use crate::code::tile::programs::dense::{LINE, Runs, UNROLL, panel_width};

/// The most lines that a tile asks for in the channels of one round of its loop.
const MOST_LINES: u64 = 8;
/// More tiles than these hide the way of their panel's weights by themselves.
const MANY_TILES: usize = 16;

/// Decides for each dense layer what it asks for.
pub(super) fn decide(steps: &mut [PlanStep], groups: &Groups, l2: u64) {
    // What the steps behind the one at hand read first: where, and how many bytes.
    let mut next: Option<(Arg, u64)> = None;
    for (index, step) in steps.iter_mut().enumerate().rev() {
        let inside_group = groups.of(index).is_some_and(|group| index + 1 < group.steps.end);
        let plan = match &mut step.code {
            LayerCode::Dense(plan) => plan,
            LayerCode::Winograd(plan) => {
                let first = plan.panels.first().map_or(0, |p| p.bytes(plan));
                next = Some((step.args[WinogradArg::Weights as usize], first as u64));
                continue;
            }
            LayerCode::Lanes(_) | LayerCode::Nest(_) | LayerCode::Routine(_) => continue,
        };
        match plan.order {
            LoopOrder::Panels => plan.ahead = next_panel(plan),
            // From the second strip on, the next layer's weights are near.
            LoopOrder::Tiles if inside_group => {}
            LoopOrder::Tiles => {
                if let Some((at, bytes)) = next {
                    plan.ahead = next_layer(plan, step.units, bytes.min(l2 / 4));
                    step.args[DenseArg::Ahead as usize] = at;
                }
            }
        }
        let at = step.args[DenseArg::Weights as usize];
        let bytes = match plan.order {
            LoopOrder::Panels => plan.panels.first().map_or(0, |p| p.bytes(plan)),
            LoopOrder::Tiles => plan.panels.iter().map(|p| p.bytes(plan) * p.count as i64).sum(),
        };
        next = Some((at, bytes as u64));
    }
}

/// The tiles of a panel share the next one.
fn next_panel(plan: &DensePlan) -> Ahead {
    let tiles = plan.images * plan.y.output * plan.tiles_per_row();
    let widest = plan.panels.iter().map(|p| u64::from(panel_width(&p.cols))).max().unwrap_or(0);
    // A row of weights for each channel of a round.
    let round = u64::from(UNROLL) * widest * 4;
    match can_ask(plan) && (2..=MANY_TILES).contains(&tiles) {
        true => Ahead { lines: lines(round, tiles as u64), period: tiles },
        false => Ahead::default(),
    }
}

/// The calls of all tiles and panels share what comes next, twice over, so that each half of the tiles, should another
/// thread have it, asks for all.
fn next_layer(plan: &DensePlan, units: usize, bytes: u64) -> Ahead {
    let calls = (units * plan.panel_count()) as u64;
    let rounds = plan.rounds();
    if !can_ask(plan) || bytes == 0 {
        return Ahead::default();
    }
    let lines = lines(2 * bytes, calls * rounds);
    Ahead { lines, period: bytes.div_ceil(u64::from(lines) * LINE as u64 * rounds) as usize }
}

/// Lines to ask for in each of some rounds, so that all together ask for so many bytes.
fn lines(bytes: u64, rounds: u64) -> u32 {
    bytes.div_ceil(LINE as u64 * rounds.max(1)).clamp(1, MOST_LINES) as u32
}

/// Whether the kernels have a loop over channels that prefetches can be part of.
fn can_ask(plan: &DensePlan) -> bool {
    plan.panels.iter().all(|p| matches!(p.k, Runs::Contiguous(k) if k >= 3 * UNROLL)) && plan.rounds() > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::tile::ir::Lanes;
    use crate::code::tile::programs::dense::{Accumulators, Col};
    use crate::code::tile::programs::epilogue::KernelEpilogue;
    use crate::plan::dense::{PanelRun, Progression, WeightsPitch};
    use crate::plan::sweep::{Axis, BytePitch, x_tiles};

    /// A 1×1 layer of 49 pixels in tiles of 13, with panels of 32 channels.
    fn layer(channels: u32, panels: usize, order: LoopOrder) -> DensePlan {
        let x = Axis::point(49);
        let panel = 4 * 32 * i64::from(channels);
        DensePlan {
            accumulators: Accumulators::Vectors,
            products: Default::default(),
            images: 1,
            y: Axis::point(1),
            x,
            tiles: x_tiles(&x, 13),
            input: BytePitch::default(),
            output: BytePitch::default(),
            residual: BytePitch::default(),
            weights: WeightsPitch::default(),
            panels: vec![PanelRun {
                count: panels,
                cols: vec![Col::full(Lanes::X16); 2],
                k: Runs::Contiguous(channels),
                input: Progression::default(),
                weights: Progression { start: 0, step: panel },
                output: Progression::default(),
                bias: Progression::default(),
                residual: Progression::default(),
                table: Progression::default(),
            }],
            order,
            ahead: Ahead::default(),
            epilogue: KernelEpilogue::default(),
            stage: None,
        }
    }

    #[test]
    fn the_tiles_of_a_panel_ask_for_all_of_the_next_one() {
        let mut plan = layer(160, 10, LoopOrder::Panels);
        plan.ahead = next_panel(&plan);
        assert_eq!(plan.ahead, Ahead { lines: 2, period: 4 });
        assert!(plan.ahead_share() * 4 >= plan.panels[0].bytes(&plan));
    }

    #[test]
    fn either_half_of_the_tiles_asks_for_all_of_the_next_layer() {
        for bytes in [1, 20_000, 100_000] {
            let mut plan = layer(160, 10, LoopOrder::Tiles);
            plan.ahead = next_layer(&plan, 4, bytes);
            let (share, period) = (plan.ahead_share() as u64, plan.ahead.period as u64);
            assert!(share * period >= bytes && share * (period - 1) < bytes, "{:?}", plan.ahead);
            assert!(period <= 4 * 10 / 2, "{:?}", plan.ahead);
        }
    }

    #[test]
    fn short_sums_and_single_tiles_ask_for_nothing() {
        assert_eq!(next_layer(&layer(8, 10, LoopOrder::Tiles), 4, 1000), Ahead::default());
        let mut single = layer(160, 10, LoopOrder::Panels);
        single.tiles = x_tiles(&Axis::point(13), 13);
        assert_eq!(next_panel(&single), Ahead::default());
    }
}
