//! The loops around the tiles of a layer by Winograd's algorithm.

use std::ops::Range;

use cranelift_codegen::ir::{InstBuilder, Value};

use super::LayerEmitter;
use super::dense::sums;
use crate::code::float::Floats;
use crate::code::tile::ir::{Lanes, ParamRole};
use crate::code::tile::programs::dense::{Accumulators, Col, DenseTile, LINE, Products, Runs, Tap, UNROLL};
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::tile::programs::winograd::Sweeps;
use crate::code::tile::programs::winograd::input::InputTile;
use crate::code::tile::programs::winograd::kernel::KernelTile;
use crate::code::tile::programs::winograd::output::OutputTile;
use crate::emit::CodegenError;
use crate::plan::dense::Progression;
use crate::plan::tiling::Registers;
use crate::plan::winograd::{
    ChannelRun, StoredKernels, TileSpan, WinogradArg, WinogradPanels, WinogradPlan, kernel_rows,
};

/// Base pointers, loaded once.
struct Bases {
    output: Value,
    weights: Value,
    bias: Value,
    residual: Value,
    inputs: Vec<Value>,
    /// `V`
    transformed: Value,
    /// `M`
    product: Value,
    /// Where a unit transforms kernels.
    kernels: Value,
}

/// The first tile of a block, and how many it has.
#[derive(Clone, Copy)]
struct TileBlock {
    first: Value,
    tiles: Value,
}

/// A panel of a run of panels.
#[derive(Clone, Copy)]
struct PanelAt<'p> {
    of: &'p WinogradPanels,
    index: Value,
}

/// What is computed for a tile, given where it is: its picture, and its place among the tiles of its spans.
struct TileAt<'p> {
    image: Value,
    rows: (&'p TileSpan, Value),
    cols: (&'p TileSpan, Value),
    /// Number of the tile in its block.
    tile: Value,
}

pub(super) fn emit(e: &mut LayerEmitter<'_, '_, '_>, plan: &WinogradPlan) -> Result<(), CodegenError> {
    let transformed = e.scratch;
    let product = e.add(transformed, plan.product_at());
    let kernels = e.add(transformed, plan.kernels_at());
    let bases = Bases {
        output: e.base(WinogradArg::Output as usize),
        weights: e.base(WinogradArg::Weights as usize),
        bias: e.base(WinogradArg::Bias as usize),
        residual: e.base(WinogradArg::Residual as usize),
        inputs: (0..plan.inputs.len()).map(|i| e.base(WinogradArg::Inputs as usize + i)).collect(),
        transformed,
        product,
        kernels,
    };
    let (begin, end) = (e.begin, e.end);
    let panels = plan.panel_count();
    let whole = plan.tiles() / plan.block;
    let rest = plan.tiles() % plan.block;
    e.range(begin, end, &mut |e, unit| {
        let (number, panel) = e.div_rem(unit, panels);
        let zero = e.int(0);
        let first = e.offset(zero, number, plan.block as i64);
        let left = e.negate(first);
        let left = e.add(left, plan.tiles() as i64);
        let block = TileBlock { first, tiles: e.at_most(left, plan.block as i64) };
        // The first unit of a block in this thread's share transforms its inputs.
        let done = e.sub(unit, begin);
        let fresh = e.b.ins().umin(panel, done);
        e.when_within(fresh, 0, 1, &mut |e| {
            each_tile(e, plan, block, &mut |e, at| transform_inputs(e, plan, &bases, at))
        })?;
        let mut before = 0;
        for of in &plan.panels {
            e.when_within(panel, before as i64, (before + of.count) as i64, &mut |e| {
                let panel = PanelAt { of, index: e.add(panel, -(before as i64)) };
                e.when_within(number, 0, whole as i64, &mut |e| {
                    multiply(e, plan, &bases, panel, plan.block)
                })?;
                if rest > 0 {
                    e.when_within(number, whole as i64, whole as i64 + 1, &mut |e| {
                        multiply(e, plan, &bases, panel, rest)
                    })?;
                }
                each_tile(e, plan, block, &mut |e, at| transform_outputs(e, plan, &bases, panel, at))
            })?;
            before += of.count;
        }
        Ok(())
    })
}

/// Runs `body` for each tile of a block, once for each kind of tile in the code.
fn each_tile(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &WinogradPlan,
    block: TileBlock,
    body: &mut dyn FnMut(&mut LayerEmitter<'_, '_, '_>, &TileAt<'_>) -> Result<(), CodegenError>,
) -> Result<(), CodegenError> {
    let (grid_rows, grid_cols) = plan.grid();
    let zero = e.int(0);
    e.range(zero, block.tiles, &mut |e, tile| {
        let number = e.sum(block.first, tile);
        let (image, inside) = match plan.images {
            1 => (e.int(0), number),
            _ => e.div_rem(number, grid_rows * grid_cols),
        };
        let (row, col) = e.div_rem(inside, grid_cols);
        for rows in &plan.rows {
            e.when_within(row, rows.first as i64, (rows.first + rows.count) as i64, &mut |e| {
                for cols in &plan.cols {
                    e.when_within(col, cols.first as i64, (cols.first + cols.count) as i64, &mut |e| {
                        body(e, &TileAt { image, rows: (rows, row), cols: (cols, col), tile })
                    })?;
                }
                Ok(())
            })?;
        }
        Ok(())
    })
}

fn transform_inputs(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &WinogradPlan,
    bases: &Bases,
    at: &TileAt<'_>,
) -> Result<(), CodegenError> {
    let step = plan.form.outputs() as i64;
    for channels in &plan.channels {
        let &ChannelRun { source, input, position, .. } = channels;
        let pitch = plan.inputs[source];
        let kernel = e.kernel(input_kernel(e, plan, channels, at))?;
        let from = e.offset(bases.inputs[source], at.image, pitch.image);
        let from = e.offset(from, at.rows.1, step * pitch.row);
        let from = e.offset(from, at.cols.1, step * pitch.pixel);
        let above = plan.y.pad as i64 * pitch.row + plan.x.pad as i64 * pitch.pixel;
        let from = e.add(from, input - above);
        let to = e.offset(bases.transformed, at.tile, plan.transformed.tile);
        let to = e.add(to, position);
        e.call(&kernel, &|role| {
            Some(match role {
                ParamRole::Input => from,
                ParamRole::Output => to,
                _ => return None,
            })
        })?;
    }
    Ok(())
}

fn input_kernel(
    e: &LayerEmitter<'_, '_, '_>,
    plan: &WinogradPlan,
    channels: &ChannelRun,
    at: &TileAt<'_>,
) -> Result<crate::code::tile::ir::TileProgram, crate::code::tile::TileError> {
    let pitch = plan.inputs[channels.source];
    InputTile {
        form: plan.form,
        rows: at.rows.0.inside.clone(),
        cols: at.cols.0.inside.clone(),
        input: pitch.float,
        a_pixel: pitch.pixel as i32,
        a_row: pitch.row as i32,
        element: plan.transformed.element as i32,
        lanes: channels.lanes,
        used: channels.used,
        vectors: channels.vectors as u32,
        sweeps: Sweeps::Halves,
    }
    .fitted(e.target)
    .map(|(_, program)| program)
}

/// The products of all elements of a block of `tiles` tiles with one panel.
fn multiply(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &WinogradPlan,
    bases: &Bases,
    panel: PanelAt<'_>,
    tiles: usize,
) -> Result<(), CodegenError> {
    let stored = step(e, bases.weights, panel.of.weights, panel.index);
    let window = plan.form.window();
    match plan.kernels {
        StoredKernels::Transformed => {
            let pitch = panel.of.tap_bytes(plan);
            // What is fetched are the weights of the next element.
            let fetched = e.add(stored, pitch);
            let all = ElementRun { of: 0..window * window, weights: stored, pitch, fetched, share: pitch };
            products(e, plan, bases, panel, tiles, &all)
        }
        StoredKernels::Plain(sweeps) => {
            let bytes = panel.of.bytes(plan);
            // A part of those of the next panel.
            let share = (bytes as usize).div_ceil(window * window).next_multiple_of(LINE as usize) as i64;
            let fetched = e.add(stored, bytes);
            for rows in sweeps.rows(plan.form) {
                transform_kernels(e, plan, bases, panel, stored, &rows)?;
                let of = rows.start * window..rows.end * window;
                let pitch = plan.kernel_pitch().element;
                let fetched = e.add(fetched, of.start as i64 * share);
                let elements = ElementRun { of, weights: bases.kernels, pitch, fetched, share };
                products(e, plan, bases, panel, tiles, &elements)?;
            }
            Ok(())
        }
    }
}

/// Some rows of elements of a panel's kernels, of which all lanes of all channels lie in a row.
fn transform_kernels(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &WinogradPlan,
    bases: &Bases,
    panel: PanelAt<'_>,
    stored: Value,
    rows: &Range<usize>,
) -> Result<(), CodegenError> {
    let (tap, element) = (panel.of.tap_bytes(plan), plan.kernel_pitch().element);
    let mut done = 0;
    for lanes in [Lanes::X16, Lanes::X8, Lanes::X4].into_iter().filter(|l| l.count() <= e.target.isa.lanes())
    {
        let bytes = i64::from(lanes.bytes());
        let vectors = (tap - done) / bytes;
        if vectors == 0 {
            continue;
        }
        let (tap, element, vectors) = (tap as i32, element as i32, vectors as u32);
        let tile = KernelTile { form: plan.form, tap, element, lanes, vectors, rows: rows.clone() };
        let kernel = e.kernel(tile.program())?;
        let (from, to) = (e.add(stored, done), e.add(bases.kernels, done));
        e.call(&kernel, &|role| {
            Some(match role {
                ParamRole::Weights => from,
                ParamRole::Output => to,
                _ => return None,
            })
        })?;
        done += i64::from(vectors) * bytes;
    }
    Ok(())
}

/// Elements whose kernels lie at constant distances.
struct ElementRun {
    of: Range<usize>,
    /// Kernels of the first.
    weights: Value,
    /// From one to the next.
    pitch: i64,
    /// Weights that are asked for during the first, for later.
    fetched: Value,
    /// From what one of them asks for to what the next one does.
    share: i64,
}

/// The products of some elements.
fn products(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &WinogradPlan,
    bases: &Bases,
    panel: PanelAt<'_>,
    tiles: usize,
    elements: &ElementRun,
) -> Result<(), CodegenError> {
    let (v, m) = (plan.transformed, plan.product);
    let first = elements.of.start as i64;
    let from = e.add(bases.transformed, first * v.element);
    let to = e.add(bases.product, first * m.element);
    e.repeat(elements.of.len(), &mut |e, element| {
        let weights = e.offset(elements.weights, element, elements.pitch);
        let from = e.offset(from, element, v.element);
        let to = e.offset(to, element, m.element);
        let kernels = kernel_rows(tiles, plan.tile_rows);
        let calls: usize = kernels.iter().map(|k| k.1).sum();
        let fetch = Fetch::of(plan.depth, elements.share, calls);
        let next = e.offset(elements.fetched, element, elements.share);
        let mut before = 0;
        for (first, count, rows) in kernels {
            let (split, broadcast) = sums(Registers::of(e.target), rows, panel.of.cols.len());
            let tile = DenseTile {
                accumulators: Accumulators::Vectors,
                rows: rows as u32,
                a_pixel: v.tile as i32,
                cols: panel.of.cols.iter().map(|c| Col::full(c.lanes)).collect(),
                taps: vec![Tap { disp: 0, rows: 0..rows as u32 }],
                a_row: 0,
                kernel_rows: 1,
                k: Runs::Contiguous(plan.depth as u32),
                c_pixel: m.tile as i32,
                residual_pixel: 0,
                split,
                weights_row: None,
                ahead: fetch.lines,
                products: Products::Floats,
                broadcast,
                floats: Floats::default(),
                epilogue: KernelEpilogue::default(),
            };
            let kernel = e.kernel(tile.program())?;
            let (from, to) = (e.add(from, first as i64 * v.tile), e.add(to, first as i64 * m.tile));
            let next = e.add(next, before as i64 * fetch.share);
            e.repeat(count, &mut |e, index| {
                let from = e.offset(from, index, rows as i64 * v.tile);
                let to = e.offset(to, index, rows as i64 * m.tile);
                let next = e.offset(next, index, fetch.share);
                e.call(&kernel, &|role| {
                    Some(match role {
                        ParamRole::Input => from,
                        ParamRole::Weights => weights,
                        ParamRole::Output => to,
                        ParamRole::Ahead => next,
                        _ => return None,
                    })
                })
            })?;
            before += count;
        }
        Ok(())
    })
}

/// What each of the kernels of an element asks for of the weights that come next. They come by once for few tiles, faster than
/// memory, and often the last-level cache, can bring them at once; spread over all the arithmetic of an element they
/// take little time.
struct Fetch {
    /// Cache lines in a round of the loop over channels.
    lines: u32,
    /// Bytes of a kernel's share.
    share: i64,
}

impl Fetch {
    /// For so many channels, bytes of an element's weights, and calls of kernels.
    fn of(depth: usize, bytes: i64, calls: usize) -> Fetch {
        let rounds = depth as i64 / i64::from(UNROLL);
        // Shorter loops over channels are not loops.
        if rounds < 3 {
            return Fetch { lines: 0, share: 0 };
        }
        let round = i64::from(LINE) * rounds;
        let lines = (bytes as u64).div_ceil(round as u64 * calls as u64);
        Fetch { lines: lines as u32, share: lines as i64 * round }
    }
}

fn transform_outputs(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &WinogradPlan,
    bases: &Bases,
    panel: PanelAt<'_>,
    at: &TileAt<'_>,
) -> Result<(), CodegenError> {
    let tile = OutputTile {
        form: plan.form,
        rows: at.rows.0.outputs,
        cols: at.cols.0.outputs,
        element: plan.product.element as i32,
        output: plan.output.float,
        c_pixel: plan.output.pixel as i32,
        c_row: plan.output.row as i32,
        residual: plan.residual.float,
        residual_pixel: plan.residual.pixel as i32,
        residual_row: plan.residual.row as i32,
        panel: panel.of.cols.clone(),
        epilogue: plan.epilogue,
        sweeps: Sweeps::Halves,
    };
    let kernel = e.kernel(tile.fitted(e.target).map(|(_, program)| program))?;
    let size = plan.form.outputs() as i64;
    let mut place = |base: Value, pitch: crate::plan::sweep::BytePitch, slots: Progression| {
        let base = e.offset(base, at.image, pitch.image);
        let base = e.offset(base, at.rows.1, size * pitch.row);
        let base = e.offset(base, at.cols.1, size * pitch.pixel);
        step(e, base, slots, panel.index)
    };
    let output = place(bases.output, plan.output, panel.of.output);
    let residual = place(bases.residual, plan.residual, panel.of.residual);
    let from = e.offset(bases.product, at.tile, plan.product.tile);
    let bias = step(e, bases.bias, panel.of.bias, panel.index);
    e.call(&kernel, &|role| {
        Some(match role {
            ParamRole::Input => from,
            ParamRole::Output => output,
            ParamRole::Bias => bias,
            ParamRole::Residual => residual,
            _ => return None,
        })
    })
}

fn step(e: &mut LayerEmitter<'_, '_, '_>, base: Value, at: Progression, index: Value) -> Value {
    let base = e.add(base, at.start);
    e.offset(base, index, at.step)
}
