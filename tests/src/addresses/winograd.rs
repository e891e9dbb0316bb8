//! The addresses of a layer by Winograd's algorithm.
//!
//! ```text
//!   for each picture, row and column of tiles:
//!     read   input[the window's pixels that lie inside][channels]         to scratch
//!   for each panel:
//!     read   weights[panel][element, or tap][channels][lanes]
//!     read   bias[panel][lanes], residual[the tile's outputs][lanes that exist]
//!     write  output[the tile's outputs][lanes that exist]
//! ```
//!
//! Tiles are a grid, so rows, columns and channels are three independent sets.

use nnc::code::tile::programs::epilogue::KernelResidual;
use nnc::plan::dense::Progression;
use nnc::plan::sweep::BytePitch;
use nnc::plan::winograd::{TileSpan, WinogradArg, WinogradPanels, WinogradPlan};

use super::{Bases, Intervals, Walk, over_pixels, sorted, steps};

/// Positions along an axis: of the input that some tile reads, of the outputs that tiles have.
fn positions(spans: &[TileSpan], step: i64, pad: i64) -> (Vec<i64>, Vec<i64>) {
    let (mut read, mut written) = (Vec::new(), Vec::new());
    for span in spans {
        for start in steps(span.count, step).map(|offset| span.first as i64 * step + offset) {
            read.extend(span.inside.clone().map(|at| start - pad + i64::from(at)));
            written.extend((0..i64::from(span.outputs)).map(|at| start + at));
        }
    }
    (sorted(read), written)
}

pub(super) fn walk(plan: &WinogradPlan, bases: Bases<'_>) -> Result<Walk, String> {
    let mut walk = Walk::default();
    let arg = |arg: WinogradArg| bases.arg(arg as usize);
    let step = plan.form.outputs() as i64;
    let (rows, out_rows) = positions(&plan.rows, step, plan.y.pad as i64);
    let (columns, out_columns) = positions(&plan.cols, step, plan.x.pad as i64);
    for (number, pitch) in plan.inputs.iter().enumerate() {
        let runs = plan.channels.iter().filter(|run| run.source == number);
        let pixel: Intervals =
            runs.map(|run| run.input..run.input + pitch.float.span(run.used) * run.vectors as i64).collect();
        let input = over_pixels(&pixel, *pitch, &columns, &rows, plan.images);
        walk.reads(bases.arg(WinogradArg::Inputs as usize + number)?, &input);
    }
    let (mut output, mut residual) = (Intervals::default(), Intervals::default());
    for panels in &plan.panels {
        let all = |bytes: i64, at: Progression| over_panels(panels, bytes, at);
        let lanes: i64 = panels.cols.iter().map(|col| 4 * i64::from(col.lanes.count())).sum();
        let stored =
            |pitch: BytePitch| -> i64 { panels.cols.iter().map(|col| pitch.float.span(col.used)).sum() };
        let weights = lanes * (plan.depth * plan.kernels.floats(plan.form)) as i64;
        walk.reads(arg(WinogradArg::Weights)?, &all(weights, panels.weights));
        if plan.epilogue.bias {
            walk.reads(arg(WinogradArg::Bias)?, &all(lanes, panels.bias));
        }
        output = output.or(&all(stored(plan.output), panels.output));
        residual = residual.or(&all(stored(plan.residual), panels.residual));
    }
    let everywhere = |pixel, pitch| over_pixels(pixel, pitch, &out_columns, &out_rows, plan.images);
    walk.writes(arg(WinogradArg::Output)?, &everywhere(&output, plan.output));
    if plan.epilogue.residual != KernelResidual::None {
        walk.reads(arg(WinogradArg::Residual)?, &everywhere(&residual, plan.residual));
    }
    Ok(walk)
}

/// What all panels of a run touch, when each touches `bytes` bytes.
fn over_panels(panels: &WinogradPanels, bytes: i64, at: Progression) -> Intervals {
    Intervals::first(bytes).spread(steps(panels.count, at.step).map(|offset| at.start + offset))
}

#[cfg(test)]
mod tests {
    use nnc::code::float::Float;
    use nnc::code::tile::ir::Lanes;
    use nnc::code::tile::programs::dense::Col;
    use nnc::code::tile::programs::epilogue::KernelEpilogue;
    use nnc::code::tile::programs::winograd::Form;
    use nnc::plan::Traffic;
    use nnc::plan::sweep::Axis;
    use nnc::plan::winograd::{ChannelRun, ScratchPitch, StoredKernels, spans};
    use nnc_runtime::abi::{Arg, Region};

    use super::*;

    /// 5 × 5 pixels of 6 channels in 8 slots, to two panels of 4 channels.
    fn layer(pad: isize) -> WinogradPlan {
        let form = Form::F4;
        let axis = Axis { input: 5, output: (3 + 2 * pad) as usize, kernel: 3, stride: 1, dilation: 1, pad };
        let at = |step| Progression { start: 0, step };
        let pitch = BytePitch { pixel: 32, row: 256, image: 0, float: Float::F32 };
        WinogradPlan {
            form,
            kernels: StoredKernels::Transformed,
            images: 1,
            y: axis,
            x: axis,
            rows: spans(&axis, form),
            cols: spans(&axis, form),
            block: 4,
            tile_rows: 4,
            depth: 6,
            inputs: vec![pitch],
            output: pitch,
            residual: pitch,
            channels: vec![ChannelRun {
                source: 0,
                input: 0,
                position: 0,
                vectors: 1,
                lanes: Lanes::X8,
                used: 6,
            }],
            panels: vec![WinogradPanels {
                count: 2,
                cols: vec![Col::full(Lanes::X4)],
                weights: at(36 * 6 * 16),
                output: at(16),
                bias: at(16),
                residual: at(16),
            }],
            transformed: ScratchPitch::of(4, 6),
            product: ScratchPitch::of(4, 4),
            epilogue: KernelEpilogue { bias: true, ..KernelEpilogue::default() },
        }
    }

    #[test]
    fn pixels_count_once_though_windows_overlap_and_every_element_has_weights() {
        let args: Vec<Arg> = (0..5).map(|i| Arg { region: Region::Arena, offset: 65536 * i }).collect();
        for (pad, outputs) in [(0, 9), (1, 25)] {
            let walk = walk(&layer(pad), Bases { args: &args, constants: &[] });
            let traffic = walk.unwrap_or_else(|error| panic!("{error}")).traffic();
            let read = 25 * 24 + 2 * 36 * 6 * 16 + 2 * 16;
            assert_eq!(traffic, Traffic { read, written: outputs * 32 });
        }
    }
}
