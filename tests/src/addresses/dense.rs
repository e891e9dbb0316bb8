//! The addresses of a dense layer.
//!
//! ```text
//!   for each picture, row y, tile of columns, panel:            in one order or the other
//!     for each kernel row and column with a pixel inside:
//!       read   input[pixel + tap][the panel's channels]         or scratch, filled from the staged buffers
//!       read   weights[panel][ky][kx][channels][lanes]        or, of a matrix that is not packed, [channel · pitch][lanes]
//!     read   bias[panel][lanes], residual[pixel][lanes that exist]
//!     write  output[pixel][lanes that exist]
//! ```
//!
//! Every tile of every row meets every panel, so the rows, the columns and the channels that are touched are three
//! independent sets.

use nnc::code::tile::programs::dense::{Col, Runs};
use nnc::code::tile::programs::epilogue::KernelResidual;
use nnc::plan::dense::{DenseArg, DensePlan, PanelRun, Progression, Stage};
use nnc::plan::sweep::{BytePitch, XTiles};

use super::{Bases, Intervals, Walk, over_pixels, sorted, steps};

/// Rows and columns, in pixels from the first one of the picture.
struct Sweep {
    /// Rows of the input that some kernel row reads.
    rows: Vec<i64>,
    /// Columns of the input that some tap reads.
    columns: Vec<i64>,
    /// Kernel rows that lie inside for some output row.
    kernel_rows: Vec<i64>,
    /// Kernel columns that lie inside for some pixel.
    kernel_columns: Vec<i64>,
    /// All rows of the output.
    out_rows: Vec<i64>,
    /// All columns of the output.
    out_columns: Vec<i64>,
}

impl Sweep {
    fn of(plan: &DensePlan) -> Sweep {
        let (mut rows, mut kernel_rows) = (Vec::new(), Vec::new());
        let axis = &plan.y;
        for y in 0..axis.output as i64 {
            let top = y * axis.stride as i64 - axis.pad as i64;
            let at = |tap: i64| top + tap * axis.dilation as i64;
            let inside = (0..axis.kernel as i64).filter(|&tap| (0..axis.input as i64).contains(&at(tap)));
            inside.for_each(|tap| {
                rows.push(at(tap));
                kernel_rows.push(tap);
            });
        }
        let (mut columns, mut kernel_columns, mut out_columns) = (Vec::new(), Vec::new(), Vec::new());
        for (tiles, first) in plan.tiles.iter().flat_map(|tiles| starts(tiles).map(move |x| (tiles, x))) {
            out_columns.extend((0..tiles.width as i64).map(|c| first + c));
            for (tap, inside) in tiles.taps.iter().enumerate() {
                let shift = tap as i64 * plan.x.dilation as i64 - plan.x.pad as i64;
                // A tile of matrix registers may begin early.
                let lead = plan.matrices(tiles.width).map_or(0, |matrix| matrix.before(tiles.width) as i64);
                let inside_of = inside.start as i64 - lead..inside.end as i64;
                columns.extend(inside_of.map(|c| (first + c) * plan.x.stride as i64 + shift));
                kernel_columns.extend((!inside.is_empty()).then_some(tap as i64));
            }
        }
        Sweep {
            rows: sorted(rows),
            columns: sorted(columns),
            kernel_rows: sorted(kernel_rows),
            kernel_columns: sorted(kernel_columns),
            out_rows: (0..axis.output as i64).collect(),
            out_columns: sorted(out_columns),
        }
    }

    /// Whether no product is added to any output.
    fn is_empty(&self) -> bool {
        self.rows.is_empty() || self.columns.is_empty()
    }
}

/// First output column of each tile.
fn starts(tiles: &XTiles) -> impl Iterator<Item = i64> + use<> {
    let (x, width) = (tiles.x as i64, tiles.width as i64);
    steps(tiles.count, width).map(move |offset| x + offset)
}

pub(super) fn walk(plan: &DensePlan, bases: Bases<'_>) -> Result<Walk, String> {
    let mut walk = Walk::default();
    let sweep = Sweep::of(plan);
    let arg = |arg: DenseArg| bases.arg(arg as usize);
    if !sweep.is_empty() {
        match &plan.stage {
            Some(stage) => staged(&mut walk, plan, stage, &sweep, bases)?,
            None => {
                let channels = channels(&mut walk, plan, bases)?;
                let input = over_pixels(&channels, plan.input, &sweep.columns, &sweep.rows, plan.images);
                walk.reads(arg(DenseArg::Input)?, &input);
            }
        }
    }
    let (mut output, mut residual) = (Intervals::default(), Intervals::default());
    for panels in &plan.panels {
        let lanes: i64 = panels.cols.iter().map(lanes).sum();
        let (rows, row) = (panels.k.rows(plan.products), plan.products.weights().span(lanes as u32));
        let tap = row * rows as i64;
        // The rows of a matrix, where that is not packed.
        let of_tap = match plan.weights.channel {
            0 => Intervals::first(tap),
            pitch => Intervals::first(row).spread(steps(rows as usize, pitch)),
        };
        let weights = of_tap
            .spread(sweep.kernel_columns.iter().map(|t| t * tap))
            .spread(sweep.kernel_rows.iter().map(|t| t * tap * plan.x.kernel as i64))
            .spread(steps(plan.y.output, plan.weights.row))
            .spread(steps(plan.images, plan.weights.image));
        walk.reads(arg(DenseArg::Weights)?, &panel_steps(&weights, panels, panels.weights));
        if plan.epilogue.bias {
            let bias = panel_steps(&Intervals::first(4 * lanes), panels, panels.bias);
            walk.reads(arg(DenseArg::Bias)?, &bias);
        }
        let stored = |pitch: BytePitch| {
            Intervals::first(panels.cols.iter().map(|col| pitch.float.span(col.used)).sum())
        };
        output = output.or(&panel_steps(&stored(plan.output), panels, panels.output));
        residual = residual.or(&panel_steps(&stored(plan.residual), panels, panels.residual));
    }
    let everywhere =
        |pixel, pitch| over_pixels(pixel, pitch, &sweep.out_columns, &sweep.out_rows, plan.images);
    walk.writes(arg(DenseArg::Output)?, &everywhere(&output, plan.output));
    if plan.epilogue.residual != KernelResidual::None {
        walk.reads(arg(DenseArg::Residual)?, &everywhere(&residual, plan.residual));
    }
    Ok(walk)
}

fn lanes(col: &Col) -> i64 {
    col.lanes.count().into()
}

/// What all panels of a run touch, when the first touches `bytes` at its start.
fn panel_steps(bytes: &Intervals, panels: &PanelRun, at: Progression) -> Intervals {
    bytes.spread(steps(panels.count, at.step).map(|offset| at.start + offset))
}

/// The channels that any panel reads of a pixel, from the input's base pointer; reads the tables that say so.
fn channels(walk: &mut Walk, plan: &DensePlan, bases: Bases<'_>) -> Result<Intervals, String> {
    let mut all = Intervals::default();
    let float = plan.input.float;
    for panels in &plan.panels {
        let channels = match &panels.k {
            Runs::Contiguous(count) => {
                panel_steps(&Intervals::first(float.span(*count)), panels, panels.input)
            }
            Runs::Stepped { count, step } => {
                let pixel = Intervals::first(float.span(1)).spread(steps(*count as usize, (*step).into()));
                panel_steps(&pixel, panels, panels.input)
            }
            Runs::Table(classes) => {
                let table = bases.arg(DenseArg::Table as usize)?;
                let lengths: Vec<i64> = classes
                    .iter()
                    .flat_map(|class| std::iter::repeat_n(float.span(class.length), class.count as usize))
                    .collect();
                let entries = Intervals::first(4 * lengths.len() as i64);
                walk.reads(table, &panel_steps(&entries, panels, panels.table));
                let mut runs = Vec::new();
                for panel in 0..panels.count as i64 {
                    let first = panels.table.start + panel * panels.table.step;
                    let start = panels.input.start + panel * panels.input.step;
                    for (entry, length) in lengths.iter().enumerate() {
                        let run = start + bases.entry(table, first + 4 * entry as i64)?;
                        runs.push(run..run + length);
                    }
                }
                runs.into_iter().collect()
            }
        };
        all = all.or(&channels);
    }
    Ok(all)
}

/// What is read on the way to scratch: a pixel's channels and what they are scaled and shifted by.
fn staged(
    walk: &mut Walk,
    plan: &DensePlan,
    stage: &Stage,
    sweep: &Sweep,
    bases: Bases<'_>,
) -> Result<(), String> {
    let mut channels = 0;
    for (number, source) in stage.sources.iter().enumerate() {
        let pixel =
            source.runs.iter().map(|&(at, count)| at..at + source.pitch.float.span(count as u32)).collect();
        let input = over_pixels(&pixel, source.pitch, &sweep.columns, &sweep.rows, plan.images);
        walk.reads(bases.arg(DenseArg::Staged as usize + number)?, &input);
        channels += source.runs.iter().map(|run| run.1 as i64).sum::<i64>();
    }
    if stage.affine {
        for parameter in [DenseArg::Scale, DenseArg::Shift] {
            walk.reads(bases.arg(parameter as usize)?, &Intervals::first(4 * channels));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use nnc::code::float::Float;
    use nnc::code::tile::ir::Lanes;
    use nnc::code::tile::programs::dense::{Accumulators, Products, RunClass};
    use nnc::code::tile::programs::epilogue::{Activation, KernelEpilogue};
    use nnc::plan::Traffic;
    use nnc::plan::dense::{Ahead, LoopOrder, StageSource, WeightsPitch};
    use nnc::plan::sweep::{Axis, x_tiles};
    use nnc_runtime::abi::{Arg, Region};

    use super::*;

    const ARENA: Arg = Arg { region: Region::Arena, offset: 0 };
    const OUTPUT: Arg = Arg { region: Region::Arena, offset: 4096 };
    const WEIGHTS: Arg = Arg { region: Region::Const, offset: 0 };
    const BIAS: Arg = Arg { region: Region::Const, offset: 65536 };
    const TABLE: Arg = Arg { region: Region::Const, offset: 131072 };

    fn at(start: i64) -> Progression {
        Progression { start, step: 0 }
    }

    /// A 3×3 convolution with padding of `side` × `side` pixels, 3 channels in pixels of 4 slots, to 5 channels in pixels
    /// of 8.
    fn convolution(side: usize) -> DensePlan {
        let axis = Axis { input: side, output: side, kernel: 3, stride: 1, dilation: 1, pad: 1 };
        let pitch = |slots: i64| BytePitch {
            pixel: 4 * slots,
            row: 4 * slots * side as i64,
            image: 0,
            float: Float::F32,
        };
        DensePlan {
            accumulators: Accumulators::Vectors,
            products: Default::default(),
            images: 1,
            y: axis,
            x: axis,
            tiles: x_tiles(&axis, 2),
            input: pitch(4),
            output: pitch(8),
            residual: pitch(8),
            weights: WeightsPitch::default(),
            panels: vec![PanelRun {
                count: 1,
                cols: vec![Col::full(Lanes::X4), Col::part(Lanes::X4, 1)],
                k: Runs::Contiguous(3),
                input: at(0),
                weights: at(0),
                output: at(0),
                bias: at(0),
                residual: at(0),
                table: at(0),
            }],
            order: LoopOrder::Tiles,
            ahead: Ahead::default(),
            epilogue: KernelEpilogue { bias: true, ..KernelEpilogue::default() },
            stage: None,
        }
    }

    fn walked(plan: &DensePlan, constants: &[u8]) -> Walk {
        let mut args = vec![ARENA; DenseArg::Staged as usize + 1];
        args[DenseArg::Weights as usize] = WEIGHTS;
        args[DenseArg::Output as usize] = OUTPUT;
        args[DenseArg::Bias as usize] = BIAS;
        args[DenseArg::Table as usize] = TABLE;
        args[DenseArg::Scale as usize] = BIAS;
        args[DenseArg::Shift as usize] = Arg { offset: BIAS.offset + 64, ..BIAS };
        walk(plan, Bases { args: &args, constants }).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn channels_that_exist_are_read_and_written_and_panels_are_read_as_a_whole() {
        let walk = walked(&convolution(2), &[]);
        // 4 pixels of 3 channels; 9 taps of 3 channels by 8 lanes; a bias of 8 lanes; 4 pixels of 5 channels.
        assert_eq!(walk.traffic(), Traffic { read: 48 + 864 + 32, written: 80 });
        assert_eq!(walk.read[&Region::Arena], Intervals::first(12).spread([0, 16, 32, 48]));
        assert_eq!(walk.written[&Region::Arena], Intervals::first(20).spread([4096, 4128, 4160, 4192]));
    }

    #[test]
    fn weights_of_half_floats_take_half_and_a_pair_of_channels_the_place_of_one() {
        for products in [Products::Widened(Float::F16), Products::Halves] {
            let walk = walked(&DensePlan { products, ..convolution(1) }, &[]);
            let (lanes, rows) = if products == Products::Halves { (32, 2) } else { (16, 3) };
            // The tap in the middle, and the bias.
            let taps = [4 * lanes * rows..5 * lanes * rows, 65536..65568];
            assert_eq!(walk.read[&Region::Const], taps.into_iter().collect(), "{products:?}");
        }
    }

    #[test]
    fn weights_of_taps_that_are_always_outside_are_not_read() {
        let walk = walked(&convolution(1), &[]);
        assert_eq!(walk.traffic(), Traffic { read: 12 + 96 + 32, written: 20 });
        let middle = 4 * 96..5 * 96;
        assert_eq!(walk.read[&Region::Const], [middle, 65536..65568].into_iter().collect());
    }

    #[test]
    fn rows_that_have_weights_of_their_own_read_all_of_them() {
        let mut plan = convolution(2);
        plan.y = Axis::point(2);
        plan.x = Axis::point(2);
        plan.tiles = x_tiles(&plan.x, 2);
        plan.weights = WeightsPitch { row: 4096, image: 0, channel: 0 };
        let walk = walked(&plan, &[]);
        // 3 channels by 8 lanes for each row, and the bias.
        assert_eq!(walk.read[&Region::Const], [0..96, 4096..4192, 65536..65568].into_iter().collect());
    }

    #[test]
    fn the_rows_of_a_matrix_are_as_far_apart_as_it_says() {
        let mut plan = convolution(2);
        plan.y = Axis::point(1);
        plan.x = Axis::point(2);
        plan.tiles = x_tiles(&plan.x, 2);
        plan.weights = WeightsPitch { row: 0, image: 0, channel: 1024 };
        let walk = walked(&plan, &[]);
        // 3 channels by 8 lanes, and the bias.
        let rows = [0..32, 1024..1056, 2048..2080, 65536..65568];
        assert_eq!(walk.read[&Region::Const], rows.into_iter().collect());
    }

    #[test]
    fn strides_skip_pixels() {
        let mut plan = convolution(5);
        let axis = Axis { input: 5, output: 2, kernel: 1, stride: 3, dilation: 1, pad: 0 };
        (plan.y, plan.x, plan.tiles) = (axis, axis, x_tiles(&axis, 2));
        let walk = walked(&plan, &[]);
        assert_eq!(walk.read[&Region::Arena], Intervals::first(12).spread([0, 48]).spread([0, 240]));
        assert_eq!(walk.traffic(), Traffic { read: 48 + 96 + 32, written: 80 });
    }

    #[test]
    fn a_table_says_where_channels_are() {
        let mut plan = convolution(2);
        let class = |length, count| RunClass { length, count, least: 0, most: 4096 };
        plan.panels[0].k = Runs::Table(vec![class(2, 1), class(1, 1)]);
        let mut constants = vec![0; TABLE.offset as usize];
        constants.extend([256i32, 1024].map(i32::to_le_bytes).concat());
        let walk = walked(&plan, &constants);
        let runs: Intervals = [256..264, 1024..1028].into_iter().collect();
        assert_eq!(walk.read[&Region::Arena], runs.spread([0, 16, 32, 48]));
        assert_eq!(walk.traffic(), Traffic { read: 48 + 864 + 32 + 8, written: 80 });
    }

    #[test]
    fn a_residual_is_read_where_results_are_stored() {
        let mut plan = convolution(2);
        plan.epilogue.residual = KernelResidual::BeforeActivation;
        plan.panels[0].residual = at(2048);
        let walk = walked(&plan, &[]);
        assert_eq!(walk.traffic().read, 48 + 864 + 32 + 80);
        assert_eq!(walk.read[&Region::Arena].bounds(), 0..2048 + 3 * 32 + 20);
    }

    #[test]
    fn what_is_staged_is_read_from_its_buffers_and_scratch_does_not_count() {
        let mut plan = convolution(2);
        let axis = Axis::point(2);
        (plan.y, plan.x, plan.tiles) = (axis, axis, x_tiles(&axis, 2));
        plan.stage = Some(Stage {
            sources: vec![StageSource { pitch: plan.input, runs: vec![(4, 1), (12, 1)] }],
            affine: true,
            activation: Activation::Relu,
            pixel: 128,
        });
        plan.panels[0].k = Runs::Contiguous(2);
        let walk = walked(&plan, &[]);
        let pixel: Intervals = [4..8, 12..16].into_iter().collect();
        assert_eq!(walk.read[&Region::Arena], pixel.spread([0, 16, 32, 48]));
        // 4 pixels of 2 channels; 2 channels by 8 lanes; bias, of which scale is a part; shift.
        assert_eq!(walk.traffic(), Traffic { read: 32 + 64 + 32 + 8, written: 80 });
    }
}
