//! What a layer has of its own, weights and bias: known when it is compiled, and then packed into the constants, or computed, and then
//! packed by steps of the run, in the same order.
//!
//! ```text
//!   W [M, K, ky, kx]  ─▶  copies  ─▶  [panel][ky][kx][k][lanes]
//!
//!   a copy has the panels that are alike, and in them the channels that lie at equal distances in W
//! ```

use nnc_ir::{DType, NodeId, Tensor, Value};

use super::PlanError;
use super::buffer::{BufferId, Home};
use super::dense::Progression;
use super::fits::KernelLayer;
use super::planner::Planner;
use crate::code::tile::programs::dense::Products;
use crate::code::view::View;

/// Weights and bias of a layer.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// One for each output channel, summand and tap.
    pub weights: Parameter,
    /// One for each output channel.
    pub bias: Option<Parameter>,
    /// What is multiplied.
    pub products: Products,
    /// What sums of integers are rescaled by: a factor, and perhaps an addend, for each output channel.
    pub rescale: Option<(Tensor, Option<Tensor>)>,
}

/// Weights, or a bias.
#[derive(Clone, Debug)]
pub(super) enum Parameter {
    /// A constant: `[channel, summand, ky, kx]`, or `[channel]`.
    Known(Tensor),
    /// What the run computes.
    Computed(ComputedElements),
}

/// Where the elements lie that the run computes: each at the sum of what its channel, its summand and its tap say, in bytes.
#[derive(Clone, Debug)]
pub(super) struct ComputedElements {
    pub buffer: BufferId,
    pub dtype: DType,
    pub channels: Vec<i64>,
    pub summands: Vec<i64>,
    /// Number of taps, and their distance, of both axes of a picture.
    pub taps: [(usize, i64); 2],
    /// Likewise along the axis of slices.
    pub slices: (usize, i64),
}

/// Channels that one kernel computes: lanes behind them are zero.
#[derive(Clone, Debug)]
pub(super) struct ComputedPanel<'a> {
    pub channels: Vec<usize>,
    pub lanes: usize,
    /// The order of its summands.
    pub order: &'a [usize],
}

impl Own {
    /// Number of weights.
    pub fn elems(&self) -> usize {
        match &self.weights {
            Parameter::Known(tensor) => tensor.shape().elems(),
            Parameter::Computed(e) => e.channels.len() * e.summands.len() * e.taps[0].0 * e.taps[1].0,
        }
    }

    /// Whether the weights are computed.
    pub fn is_computed(&self) -> bool {
        matches!(self.weights, Parameter::Computed(_))
    }
}

impl ComputedElements {
    /// Those of a window `[channel, summand, ky, kx]`, or with slices `[channel, summand, kz, ky, kx]`, or `[channel]`.
    fn of(view: &View) -> ComputedElements {
        let along = |axis: usize| -> Vec<i64> {
            let (extent, stride) = (view.shape.get(axis), view.strides.get(axis));
            (0..extent.copied().unwrap_or(1)).map(|i| i as i64 * stride.copied().unwrap_or(0)).collect()
        };
        let taps = |axis: usize| match (view.shape.get(axis), view.strides.get(axis)) {
            (Some(&extent), Some(&stride)) => (extent, stride),
            _ => (1, 0),
        };
        ComputedElements {
            buffer: BufferId(view.arg as u32),
            dtype: view.dtype,
            channels: along(0).into_iter().map(|at| at + view.offset).collect(),
            summands: along(1),
            taps: if view.rank() > 4 { [taps(3), taps(4)] } else { [taps(2), taps(3)] },
            slices: if view.rank() > 4 { taps(2) } else { (1, 0) },
        }
    }
}

/// ComputedElements that one copy moves, of each of some panels that are alike.
struct Piece {
    count: usize,
    from: Progression,
    to: Progression,
    like: Like,
}

/// What pieces of one copy have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Like {
    /// Channels and summands: number, and distance in what is computed.
    channels: (usize, i64),
    summands: (usize, i64),
    /// Lanes and summands of the panel.
    lanes: usize,
    depth: usize,
}

impl Planner<'_> {
    /// Weights and bias of a convolution.
    pub(super) fn own(&mut self, layer: &KernelLayer) -> Result<Own, PlanError> {
        let weights = layer.weights.ok_or_else(|| PlanError::Internal("a layer has no weights".into()))?;
        let weights = self.own_parameter(layer.node, weights)?;
        let bias = layer.bias.map(|bias| self.own_parameter(layer.node, bias)).transpose()?;
        Ok(Own { weights, bias, products: Products::Floats, rescale: None })
    }

    fn own_parameter(&mut self, id: NodeId, value: Value) -> Result<Parameter, PlanError> {
        Ok(match self.graph.constant(value) {
            Some(tensor) => Parameter::Known(tensor.clone()),
            None => Parameter::Computed(ComputedElements::of(&self.view_or_gather(id, value)?)),
        })
    }

    /// Packs what is computed: `[panel][ky][kx][summand][lanes]`.
    pub(super) fn packed_by_run(
        &mut self,
        id: NodeId,
        elements: &ComputedElements,
        panels: &[ComputedPanel<'_>],
    ) -> Result<BufferId, PlanError> {
        let name = format!("{}.pack", self.graph.node(id).name);
        let taps = elements.taps[0].0 * elements.taps[1].0;
        let bytes = |panel: &ComputedPanel<'_>| (panel.lanes * panel.order.len() * taps * 4) as i64;
        let buffer = self.buffer(&name, Home::Arena, panels.iter().map(bytes).sum::<i64>() as u64, None);
        let (mut pieces, mut zeros): (Vec<Piece>, Vec<Piece>) = (Vec::new(), Vec::new());
        let mut at = 0;
        for panel in panels {
            let (lanes, depth) = (panel.lanes, panel.order.len());
            let channels: Vec<i64> = panel.channels.iter().map(|&c| elements.channels[c]).collect();
            let summands: Vec<i64> = panel.order.iter().map(|&k| elements.summands[k]).collect();
            for (lane, channels) in progressions(&channels) {
                for (k, summands) in progressions(&summands) {
                    let like = Like {
                        channels: (channels.count, channels.step),
                        summands: (summands.count, summands.step),
                        lanes,
                        depth,
                    };
                    let to = at + ((k * lanes + lane) * 4) as i64;
                    take_up(&mut pieces, like, channels.first + summands.first, to);
                }
            }
            if let Some(spare) = lanes.checked_sub(channels.len()).filter(|&spare| spare > 0) {
                let like = Like { channels: (spare, 0), summands: (depth, 0), lanes, depth };
                take_up(&mut zeros, like, 0, at + (channels.len() * 4) as i64);
            }
            at += bytes(panel);
        }
        let zero = match zeros.is_empty() {
            true => None,
            false => Some(self.constant(&name, &Tensor::new([1], &[0.0f32])?)),
        };
        for (piece, is_zero) in pieces.iter().map(|p| (p, false)).chain(zeros.iter().map(|p| (p, true))) {
            let Like { channels, summands, lanes, depth } = piece.like;
            let [(rows, row), (columns, column)] = elements.taps;
            let shape = vec![piece.count, rows, columns, summands.0, channels.0];
            let tap = (depth * lanes * 4) as i64;
            let to = View {
                arg: buffer.0 as usize,
                offset: piece.to.start,
                dtype: DType::F32,
                shape: shape.clone(),
                strides: vec![piece.to.step, tap * columns as i64, tap, lanes as i64 * 4, 4],
            };
            let (from, why) = match &zero {
                Some(zero) if is_zero => (
                    zero.broadcast(&shape).unwrap_or_else(|| zero.clone()),
                    "lanes without a channel are zero",
                ),
                _ => {
                    let strides = vec![piece.from.step, row, column, summands.1, channels.1];
                    let (arg, dtype) = (elements.buffer.0 as usize, elements.dtype);
                    let from = View { arg, offset: piece.from.start, dtype, shape, strides };
                    (from, "what is computed is packed in the order in which kernels read it")
                }
            };
            self.copy(id, &name, from, to, why)?;
        }
        Ok(buffer)
    }
}

/// Adds a piece to the last one that is like it, where it is the next at an equal distance.
fn take_up(pieces: &mut Vec<Piece>, like: Like, from: i64, to: i64) {
    let last = pieces.iter_mut().rev().find(|piece| piece.like == like);
    let follows =
        last.is_some_and(|p| Progression::take_up([&mut p.from, &mut p.to], &mut p.count, [from, to]));
    if !follows {
        pieces.push(Piece { count: 1, from: Progression::at(from), to: Progression::at(to), like });
    }
}

/// Numbers at equal distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EqualSteps {
    first: i64,
    step: i64,
    count: usize,
}

/// Numbers as runs at equal distances, and the position of each.
fn progressions(numbers: &[i64]) -> Vec<(usize, EqualSteps)> {
    let mut runs: Vec<(usize, EqualSteps)> = Vec::new();
    for (at, &number) in numbers.iter().enumerate() {
        match runs.last_mut() {
            Some((_, run)) if run.count == 1 => {
                run.step = number - run.first;
                run.count = 2;
            }
            Some((_, run)) if run.first + run.step * run.count as i64 == number => run.count += 1,
            _ => runs.push((at, EqualSteps { first: number, step: 0, count: 1 })),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_equal_distances_are_one_run() {
        let run = |at, first, step, count| (at, EqualSteps { first, step, count });
        assert_eq!(progressions(&[5, 9, 13, 2]), [run(0, 5, 4, 3), run(3, 2, 0, 1)]);
        assert_eq!(progressions(&[7]), [run(0, 7, 0, 1)]);
        assert_eq!(progressions(&[3, 3, 3, 1, 0]), [run(0, 3, 0, 3), run(3, 1, -1, 2)]);
        assert_eq!(progressions(&[]), []);
    }
}
