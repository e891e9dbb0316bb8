//! Whether the sums of a dense layer are in matrix registers, and in which tiles.
//!
//! A step multiplies up to 16 pixels by 16 columns over up to 16 lanes of the depth, and takes as long for fewer lanes or columns. What costs beside
//! the steps is the way of the sums to what is stored: a store of the register that waits for its products, and the epilogue of its pixels. So
//! a layer with few channels is as fast in vectors:
//!
//! ```text
//!   cycles of 16 × 16 results, as estimated here        depth 16   64    576 bytes
//!   matrix registers                                        69   69    205
//!   vectors (VNNI)                                          62  158   1182
//! ```
//!
//! All windows have to lie inside: a register has all of its pixels for each tap.

use std::ops::Range;

use super::dense::taps;
use super::pieces::{piece_count, piece_length, pieces};
use super::sweep::{Axis, BytePitch, XTiles};
use super::tiling::{LayerShape, TileShape};
use crate::code::float::Float;
use crate::code::tile::ir::MATRIX_ROWS;
use crate::code::tile::programs::dense::matrix::{SUMS, lanes_of_runs, steps, widths};
use crate::code::tile::programs::dense::{MatrixTile, Products, Runs};

/// Cycles of the products of a step, and of a step whose rows of the panel come from the second-level cache.
const STEP: f64 = 17.0;
const STEP_FROM_L2: f64 = 28.0;
/// Cycles of the sums of a register: to clear, to store, and to go through the epilogue.
const FINISH: f64 = 52.0;
/// Cycles that a store waits for the last products, where nothing is done meanwhile.
const WAIT: f64 = 52.0;
/// Cycles of a call.
const CALL: f64 = 40.0;
/// The most blocks of a tile.
const MOST_BLOCKS: usize = 4;
/// Blocks of a layer from which tiles have several: fewer leave threads without work.
const MANY_BLOCKS: usize = 32;
/// Units of work that a layer has at least, if it can.
const LEAST_UNITS: usize = 4;
/// The most columns of one step that stay in registers.
const RESIDENT: usize = 3;
/// Bytes of a panel that stay in the first-level cache beside pixels and scratch.
const NEAR_PANEL: u64 = 24 << 10;

/// How a layer is done in matrix registers.
pub(super) struct MatrixCut {
    pub tile: MatrixTile,
    pub shape: TileShape,
    pub cycles: f64,
}

/// What of a layer decides.
pub(super) struct MatrixLayer<'a> {
    pub shape: &'a LayerShape<'a>,
    pub input: BytePitch,
    pub axes: (&'a Axis, &'a Axis),
    /// How each group reads its channels.
    pub groups: &'a [Runs],
    pub products: Products,
}

/// The tiles that take least, for a layer that matrix registers can do.
pub(super) fn choose(layer: &MatrixLayer<'_>) -> Option<MatrixCut> {
    let (y, x) = layer.axes;
    let inside = |axis: &Axis| (0..axis.output).all(|o| axis.taps(o) == (0..axis.kernel));
    if !(inside(y) && inside(x)) || layer.shape.row == 0 || layer.shape.k == 0 {
        return None;
    }
    let float = if layer.products == Products::Bytes { Float::F32 } else { layer.input.float };
    let taps = taps(Some(layer.input), (y, x), y.kernel, &vec![0..1; x.kernel]);
    let of_group = |group: &Runs| lanes_of_runs(group, &taps, float, layer.products);
    let runs: Option<Vec<Vec<u32>>> = layer.groups.iter().map(of_group).collect();
    let widths = widths(runs?.into_iter().flatten())?;
    let each = |group: &Runs| -> Option<u32> {
        let times = match group {
            Runs::Table(_) => taps.len() as u32,
            _ => 1,
        };
        Some(of_group(group)?.into_iter().flat_map(steps).map(|(_, count)| count).sum::<u32>() * times)
    };
    let steps = layer.groups.iter().filter_map(each).max()?;
    let height = piece_length(layer.shape.row, MATRIX_ROWS.into());
    let blocks = piece_count(layer.shape.row, MATRIX_ROWS.into());
    let all = blocks * layer.shape.rows;
    let mut best: Option<MatrixCut> = None;
    for vectors in 1..=SUMS {
        let panels = |run: &usize| piece_count(run.div_ceil(MATRIX_ROWS.into()), vectors);
        let panels: usize = layer.shape.runs.iter().map(panels).sum();
        // Few pixels are done panel by panel, all of them at once, where there are panels enough for all threads.
        let in_tile = match (all < MANY_BLOCKS, panels < LEAST_UNITS) {
            (false, _) => MOST_BLOCKS.min(blocks),
            (true, false) => blocks,
            (true, true) => (all / LEAST_UNITS).clamp(1, blocks),
        };
        let sets = if 2 * vectors <= SUMS && in_tile > 1 { 2 } else { 1 };
        let resident = widths[1] == 0 && steps == 1 && vectors <= RESIDENT;
        let tile = MatrixTile { height: height as u8, widths, sets, resident, lead: 0 };
        let cycles = cycles(layer, tile, (vectors, in_tile), (blocks, steps));
        if best.as_ref().is_none_or(|best| cycles < best.cycles) {
            let shape = TileShape { rows: in_tile * height, vectors };
            best = Some(MatrixCut { tile, shape, cycles });
        }
    }
    best
}

/// Cycles of a layer, in tiles of some blocks by some vectors.
fn cycles(
    layer: &MatrixLayer<'_>,
    tile: MatrixTile,
    (vectors, in_tile): (usize, usize),
    (blocks, steps): (usize, u32),
) -> f64 {
    let panel = vectors as u64 * 64 * layer.shape.k as u64;
    let near = panel <= NEAR_PANEL;
    let again = |n: usize| if near { STEP_FROM_L2 + (n - 1) as f64 * STEP } else { n as f64 * STEP_FROM_L2 };
    let height = f64::from(tile.height) / f64::from(MATRIX_ROWS);
    let finish = 21.0 + (FINISH - 21.0) * height;
    let call = |blocks: usize, columns: usize| {
        let columns = columns as f64;
        let waits = if tile.sets == 2 { 1 } else { blocks };
        f64::from(steps) * columns * again(blocks)
            + blocks as f64 * columns * finish
            + WAIT * waits as f64
            + CALL
    };
    let mut total = 0.0;
    for &run in layer.shape.runs {
        let columns = run.div_ceil(MATRIX_ROWS.into());
        for panel in pieces(columns, vectors) {
            let (whole, rest) = (blocks / in_tile, blocks % in_tile);
            total += whole as f64 * call(in_tile, panel.len());
            total += if rest > 0 { call(rest, panel.len()) } else { 0.0 };
        }
    }
    total * layer.shape.rows as f64
}

/// Cuts a row into tiles of so many pixels, and what is left of it.
pub(super) fn matrix_tiles(axis: &Axis, width: usize) -> Vec<XTiles> {
    let tiles = |x: usize, count: usize, width: usize| {
        let taps: Vec<Range<usize>> = vec![0..width; axis.kernel];
        (count > 0 && width > 0).then_some(XTiles { x, count, width, taps })
    };
    let count = axis.output / width.max(1);
    [tiles(0, count, width), tiles(count * width, 1, axis.output - count * width)]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tiling::Folding;

    /// The tiles of a 1×1 layer over bytes.
    fn pointwise(pixels: usize, from: usize, to: usize) -> MatrixCut {
        let group = Runs::Contiguous(from.div_ceil(4) as u32);
        let runs = [to];
        let folding = Folding::NONE;
        let shape =
            LayerShape { row: pixels, rows: 1, k: from.div_ceil(4), runs: &runs, folding, epilogue: 2 };
        let input = BytePitch { float: Float::U8, pixel: from as i64, row: 0, image: 0 };
        let axis = Axis::point(pixels);
        let axes = (&Axis::point(1), &axis);
        let (groups, products) = (&[group][..], Products::Bytes);
        choose(&MatrixLayer { shape: &shape, input, axes, groups, products }).expect("all windows lie inside")
    }

    #[test]
    fn pixels_are_divided_into_blocks_that_are_as_full_as_each_other() {
        assert_eq!(pointwise(49, 960, 160).tile.height, 13);
        assert_eq!(pointwise(56 * 56, 96, 24).tile.height, 16);
        assert_eq!(pointwise(7, 96, 24).tile.height, 7);
    }

    #[test]
    fn one_step_of_a_few_columns_stays_in_registers() {
        let cut = pointwise(56 * 56, 24, 144);
        assert!(cut.tile.resident && cut.tile.widths == [6, 0], "{:?}", cut.tile);
        assert!(!pointwise(56 * 56, 144, 24).tile.resident);
    }

    #[test]
    fn a_window_that_reaches_beyond_the_picture_is_for_vectors() {
        let axis = Axis { input: 7, output: 7, kernel: 3, stride: 1, dilation: 1, pad: 1 };
        let group = Runs::Contiguous(16);
        let (runs, folding) = ([64], Folding::NONE);
        let shape = LayerShape { row: 7, rows: 7, k: 144, runs: &runs, folding, epilogue: 2 };
        let input = BytePitch { float: Float::U8, pixel: 64, row: 448, image: 0 };
        let groups = &[group][..];
        let of = |axis: &Axis| {
            let axes = (axis, axis);
            choose(&MatrixLayer { shape: &shape, input, axes, groups, products: Products::Bytes })
        };
        assert!(of(&axis).is_none());
        let cut = of(&Axis { input: 9, pad: 0, ..axis }).expect("a picture with its border");
        // The taps of a row follow each other: 3 · 16 lanes are three steps.
        assert_eq!((cut.tile.widths, cut.tile.height), ([16, 0], 7));
    }

    #[test]
    fn a_row_is_cut_into_whole_tiles_and_a_rest() {
        let cut = |pixels, width| -> Vec<(usize, usize, usize)> {
            matrix_tiles(&Axis::point(pixels), width).iter().map(|t| (t.x, t.count, t.width)).collect()
        };
        assert_eq!(cut(49, 52), [(0, 1, 49)]);
        assert_eq!(cut(62, 26), [(0, 2, 26), (52, 1, 10)]);
        assert_eq!(cut(64, 32), [(0, 2, 32)]);
    }
}
