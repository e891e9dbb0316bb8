//! How the output of a dense layer is cut: into runs of channels that lie together, and these into panels of some vectors,
//! each computed by one kernel.
//!
//! ```text
//!   output slots   0 … 57              64 … 121            two runs of 58 channels: an image in two halves of a buffer
//!   panels         16 + 16, 16 + 10    16 + 16, 16 + 10    of at most three vectors of 16 lanes, as wide as each other
//! ```

use std::borrow::Cow;

use nnc_ir::{DType, Tensor, TensorError};

use super::image::Image;
use super::pieces::pieces;
use super::tiling::{self, Folding, Registers};
use crate::code::float::Float;
use crate::code::tile::ir::Lanes;
use crate::code::tile::programs::dense::Col;

/// Neighbouring output channels of one group that lie together in the output and in the residual.
#[derive(Clone, Debug)]
pub(super) struct OutputRun {
    pub group: usize,
    pub channels: Vec<usize>,
    /// First slot in the output buffer.
    pub at: usize,
    /// First slot in the residual's buffer.
    residual_at: usize,
    /// Slots up to the next run that belong to this value and may be overwritten.
    spare: usize,
}

impl OutputRun {
    /// All columns of a matrix.
    pub fn all(columns: usize) -> OutputRun {
        OutputRun { group: 0, channels: (0..columns).collect(), at: 0, residual_at: 0, spare: 0 }
    }
}

/// A panel before panels that are alike are put together.
pub(super) struct Panel {
    pub cols: Vec<Col>,
    pub group: usize,
    pub channels: Vec<usize>,
    pub at: usize,
    pub residual_at: usize,
}

impl Panel {
    /// The same, in columns of 16 lanes, of which the last one may have fewer that exist.
    pub fn in_full_vectors(self) -> Panel {
        let widen = |col: Col| Col::part(Lanes::X16, col.used);
        Panel { cols: self.cols.into_iter().map(widen).collect(), ..self }
    }

    /// Lanes that are computed.
    pub fn lanes(&self) -> usize {
        self.cols.iter().map(|c| c.lanes.count() as usize).sum()
    }
}

/// Cuts the output's channels, in slot order, where the group changes or a slot is skipped, in the output or in the residual.
pub(super) fn output_runs(
    output: &Image,
    residual: Option<&Image>,
    groups: usize,
    padding: usize,
) -> Vec<OutputRun> {
    let per_group = output.channels() / groups.max(1);
    let mut order: Vec<usize> = (0..output.channels()).collect();
    order.sort_by_key(|&c| output.slots[c].at);
    let mut runs: Vec<OutputRun> = Vec::new();
    for c in order {
        let (group, at) = (c / per_group.max(1), output.slots[c].at);
        let residual_at = residual.map_or(0, |r| r.slots[c].at);
        match runs.last_mut() {
            Some(r)
                if r.group == group
                    && r.at + r.channels.len() == at
                    && (residual.is_none() || r.residual_at + r.channels.len() == residual_at) =>
            {
                r.channels.push(c)
            }
            _ => runs.push(OutputRun { group, channels: vec![c], at, residual_at, spare: 0 }),
        }
    }
    // Only behind the last channel is padding that surely belongs to this value.
    if let (Some(last), None) = (runs.last_mut(), residual) {
        last.spare = padding;
    }
    runs
}

/// Cuts runs of channels into panels of at most `widest` vectors.
pub(super) fn cut_panels(
    runs: &[OutputRun],
    registers: Registers,
    widest: usize,
    folding: Folding,
) -> Vec<Panel> {
    let mut panels = Vec::new();
    for run in runs {
        let cols = tiling::columns(run.channels.len(), run.spare, registers, folding);
        let mut done = 0;
        for panel in pieces(cols.len(), widest) {
            let chunk = &cols[panel];
            let slots: usize = chunk.iter().map(|c| c.lanes.count() as usize).sum();
            let end = (done + slots).min(run.channels.len());
            panels.push(Panel {
                cols: chunk.to_vec(),
                group: run.group,
                channels: run.channels[done..end].to_vec(),
                at: run.at + done,
                residual_at: run.residual_at + done,
            });
            done += slots;
        }
    }
    panels
}

/// The elements of a parameter, half floats widened.
pub(super) fn f32_elems(tensor: &Tensor) -> Result<Cow<'_, [f32]>, TensorError> {
    let refused = || TensorError::DType { expected: DType::F32, got: tensor.dtype() };
    Float::elems(tensor).ok_or_else(refused)
}

/// One word for each channel, `[panel][lane]`, zero in lanes without a channel.
pub(super) fn packed_words(panels: &[Panel], words: &[[u8; 4]]) -> Vec<[u8; 4]> {
    let mut packed = Vec::new();
    for panel in panels {
        let start = packed.len();
        packed.extend(panel.channels.iter().map(|&c| words[c]));
        packed.resize(start + panel.lanes(), [0; 4]);
    }
    packed
}

/// The bias, `[panel][lane]`, zero in lanes without a channel; empty if there is none.
pub(super) fn packed_bias(panels: &[Panel], bias: Option<&Tensor>) -> Result<Vec<f32>, TensorError> {
    let Some(bias) = bias else { return Ok(Vec::new()) };
    let values = f32_elems(bias)?;
    let mut packed = Vec::new();
    for panel in panels {
        let start = packed.len();
        packed.extend(panel.channels.iter().map(|&c| values[c]));
        packed.resize(start + panel.lanes(), 0.0);
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::buffer::BufferId;
    use crate::plan::image::Slot;
    use crate::plan::pitch::Extent;
    use crate::target::Target;

    /// An image whose channels lie in these slots.
    fn image(slots: &[usize]) -> Image {
        let slot = |&at: &usize| Slot { buffer: BufferId(1), at };
        Image { extent: Extent { n: 1, h: 2, w: 2 }, slots: slots.iter().map(slot).collect() }
    }

    fn lanes(panels: &[Panel]) -> Vec<(usize, usize, u32)> {
        let stored = |p: &Panel| p.cols.iter().map(|col| col.used).sum();
        panels.iter().map(|p| (p.at, p.channels.len(), stored(p))).collect()
    }

    fn cut(output: &Image, residual: Option<&Image>, groups: usize, padding: usize) -> Vec<Panel> {
        let registers = Registers::of(&Target::named("x86-64-v4").unwrap());
        let runs = output_runs(output, residual, groups, padding);
        cut_panels(&runs, registers, 2, Folding::NONE)
    }

    #[test]
    fn only_padding_that_is_there_is_written_and_only_behind_the_last_channel() {
        let all: Vec<usize> = (0..5).collect();
        assert_eq!(lanes(&cut(&image(&all), None, 1, 3)), [(0, 5, 8)], "as one vector of eight");
        assert_eq!(lanes(&cut(&image(&all), None, 1, 0)), [(0, 5, 5)], "just its five channels");
        let apart = image(&[0, 1, 2, 16, 17]);
        assert_eq!(lanes(&cut(&apart, None, 1, 2)), [(0, 3, 3), (16, 2, 4)]);
        let groups = image(&[0, 1, 2, 3, 4, 5]);
        assert_eq!(lanes(&cut(&groups, None, 2, 1)), [(0, 3, 3), (3, 3, 4)], "the next group is no padding");
        // What lies behind a residual's channels may be anything.
        assert_eq!(lanes(&cut(&image(&all), Some(&image(&all)), 1, 3)), [(0, 5, 5)]);
    }

    #[test]
    fn a_bias_is_zero_in_lanes_without_a_channel() {
        let panels = cut(&image(&[0, 1, 2, 16, 17]), None, 1, 0);
        let bias = Tensor::new([5], &[1.0f32, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let packed = packed_bias(&panels, Some(&bias)).unwrap();
        assert_eq!(packed, [1.0, 2.0, 3.0, 0.0, 4.0, 5.0, 0.0, 0.0]);
    }
}
