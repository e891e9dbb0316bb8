//! Tile shapes: how many pixels and how many vectors of output channels one kernel holds in registers.
//!
//! A dense tile of `r` pixels by `v` vectors does `r·v` multiply-adds for `v` vector loads and `r` broadcasts, and needs
//! `r·v` accumulators. Which shape is best depends on how the layer's pixels and channels divide by it: 49 pixels are
//! seven tiles of 7 and no rest. So every shape that fits the registers is costed over the whole layer.

use std::ops::Range;

use super::pieces::{piece_count, piece_length, pieces};
use crate::code::tile::ir::Lanes;
use crate::code::tile::programs::dense::{Col, Products};
use crate::target::{FMA_LATENCY, FMA_PER_CYCLE, L2_BYTES_PER_CYCLE, Target};

/// Cycles that calling a tile costs besides its arithmetic: call, addresses, loop.
const CALL_CYCLES: f64 = 14.0;

/// Cycles that it takes to add neighbouring lanes of one register, and a bias behind them.
const CYCLES_PER_FOLD: f64 = 4.0;

/// What the register file of a target holds.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    /// Lanes of the widest vector.
    pub lanes: usize,
    /// Number of vector registers.
    pub count: usize,
}

impl Registers {
    /// Registers of a target's tile lowering.
    pub fn of(target: &Target) -> Registers {
        Registers { lanes: target.isa.lanes() as usize, count: target.isa.registers(target.arch) as usize }
    }

    /// The same, but for what multiplying takes beside.
    pub fn multiplying(target: &Target, products: Products) -> Registers {
        let registers = Registers::of(target);
        let taken = usize::from(products == Products::Words);
        Registers { count: registers.count - taken, ..registers }
    }

    /// The widest vector.
    pub fn widest(self) -> Lanes {
        Lanes::holding(self.lanes as u32).unwrap_or(Lanes::X4)
    }

    /// Whether instructions take a broadcast from memory as an operand: those of AVX-512 do.
    pub fn embed(self) -> bool {
        self.lanes == Lanes::X16.count() as usize
    }

    /// Whether a dense tile of `rows` pixels by `vectors` fits: accumulators, and beside them first the weights' vectors
    /// and one broadcast, then what the epilogue needs.
    pub fn hold(self, rows: usize, vectors: usize, epilogue: usize) -> bool {
        rows * vectors + epilogue.max(vectors + 1) <= self.count
    }

    /// Into how many sums each output is split, so that few outputs need not wait for their own sums.
    pub fn split(self, rows: usize, vectors: usize) -> usize {
        let block = rows * vectors;
        let enough = (FMA_LATENCY * FMA_PER_CYCLE) as usize;
        let fits = |s: usize| block * s <= enough && block * s + vectors + 2 <= self.count;
        [4, 2].into_iter().find(|&s| fits(s)).unwrap_or(1)
    }

    /// Cycles of one step of K of a dense tile: its multiply-adds, or its loads, two of each a cycle; or the latency of its
    /// sums; or the weights' way from the second-level cache; and half a cycle for what does not overlap. Within ten per
    /// cent of what tiles of all shapes were measured to take. A column folded by two or four does a half or a quarter of a
    /// step.
    fn step(self, rows: usize, cols: &[Col]) -> f64 {
        let share =
            |cols: &mut dyn Iterator<Item = &Col>| -> f64 { cols.map(|c| 1.0 / f64::from(c.fold)).sum() };
        let columns = share(&mut cols.iter());
        // Columns that are not folded share one broadcast of a pixel's channel.
        let broadcasts = share(&mut cols.iter().filter(|c| c.fold > 1))
            + f64::from(u8::from(cols.iter().any(|c| c.fold == 1)));
        let fma = rows as f64 * columns / f64::from(FMA_PER_CYCLE);
        let loads = (rows as f64 * broadcasts + columns) / 2.0;
        let latency = f64::from(FMA_LATENCY) / self.split(rows, cols.len()) as f64;
        let weights = 4.0 * self.lanes as f64 * columns / f64::from(L2_BYTES_PER_CYCLE);
        fma.max(loads).max(latency).max(weights) + 0.5
    }
}

/// The shape of a layer that matters for its tiles.
#[derive(Clone, Debug)]
pub struct LayerShape<'a> {
    /// Pixels of one row of the sweep.
    pub row: usize,
    /// Number of such rows.
    pub rows: usize,
    /// Steps of K: taps times channels.
    pub k: usize,
    /// Lengths, in channels, of the runs that the output is cut into.
    pub runs: &'a [usize],
    /// Whether columns of few channels may be folded.
    pub folding: Folding,
    /// Registers that the epilogue needs besides the accumulators.
    pub epilogue: usize,
}

impl LayerShape<'_> {
    /// The columns of each run.
    fn columns(&self, registers: Registers) -> Vec<Vec<Col>> {
        self.runs.iter().map(|&run| columns(run, 0, registers, self.folding)).collect()
    }
}

/// Pixels and vectors of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileShape {
    /// Pixels.
    pub rows: usize,
    /// Vectors of output channels.
    pub vectors: usize,
}

/// Whether columns of few channels may be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folding {
    /// By how much at most: 1, 2 or 4.
    pub most: u32,
    /// Products of an output: what folding makes fewer steps of.
    pub products: usize,
}

impl Folding {
    /// Not at all.
    pub const NONE: Folding = Folding { most: 1, products: 0 };

    /// Cycles that one pixel of some columns takes: the multiply-adds, and adding up what is folded.
    fn cycles(self, cols: &[Col]) -> f64 {
        let steps = |col: &Col| self.products as f64 / f64::from(FMA_PER_CYCLE * col.fold);
        cols.iter().map(|col| steps(col) + sums(col)).sum()
    }
}

/// Cycles that it takes to add up what is folded into a column of a pixel.
fn sums(col: &Col) -> f64 {
    match col.fold {
        1 => 0.0,
        2 => CYCLES_PER_FOLD,
        _ => 2.0 * CYCLES_PER_FOLD,
    }
}

/// Vectors for a run of `len` channels, behind which `spare` lanes may be overwritten: full ones, then the narrowest that
/// hold the rest; or, where that takes less, narrow ones that are folded.
///
/// ```text
///   20 channels    16 + 4          2 multiply-adds for each input channel
///                  16 + 4 folded   5 for every four
/// ```
pub fn columns(len: usize, spare: usize, registers: Registers, folding: Folding) -> Vec<Col> {
    let widest = registers.widest();
    let lanes = widest.count() as usize;
    let mut cols = vec![Col::full(widest); len / lanes];
    let plain = rest(len % lanes, spare, widest, widest, 1);
    let narrow = if lanes > 8 { Lanes::X8 } else { Lanes::X4 };
    let folded = rest(len % lanes, spare, widest, narrow, folding.most);
    let folds = folding.cycles(&folded) < folding.cycles(&plain);
    cols.extend(if folds { folded } else { plain });
    cols
}

/// Vectors of at most `width` for fewer channels than the widest vector holds, folded up to its width.
fn rest(mut len: usize, spare: usize, widest: Lanes, width: Lanes, fold: u32) -> Vec<Col> {
    let mut cols = Vec::new();
    while len > 0 {
        // Three quarters of a wide vector cost less as one than as two narrower ones.
        let lanes = Lanes::holding(len as u32).unwrap_or(width).min(width);
        let count = lanes.count() as usize;
        let take = len.min(count);
        let used = if count - take <= spare && take == len { count } else { take };
        let fold = fold.min(widest.count() / lanes.count());
        cols.push(Col { fold, ..Col::part(lanes, used as u32) });
        len -= take;
    }
    cols
}

/// The tile shape with the lowest cost over a whole layer.
pub fn choose(registers: Registers, layer: &LayerShape<'_>) -> TileShape {
    cheapest(registers, layer, 1..registers.count).1
}

/// Pixels of an image for which all widths of panels are near their best.
const LARGE_IMAGE: usize = 1 << 12;
/// How much longer a layer may take with panels of the common width.
const FOR_COMMON_PANELS: f64 = 1.1;

/// The tile shape with the lowest cost among those with as many vectors as a large image would have, whose weights are packed
/// the same way; unless that costs too much. It depends on nothing but the layer, as everything that a plan decides.
pub fn choose_common(registers: Registers, layer: &LayerShape<'_>) -> TileShape {
    let best = cheapest(registers, layer, 1..registers.count);
    let vectors = choose(registers, &LayerShape { row: LARGE_IMAGE, rows: 1, ..layer.clone() }).vectors;
    let common = cheapest(registers, layer, vectors..vectors + 1);
    if common.0 <= FOR_COMMON_PANELS * best.0 { common.1 } else { best.1 }
}

/// The cheapest tile shape with so many vectors, and its cost.
fn cheapest(registers: Registers, layer: &LayerShape<'_>, vectors: Range<usize>) -> (f64, TileShape) {
    let mut best = (f64::INFINITY, TileShape { rows: 1, vectors: 1 });
    let columns = layer.columns(registers);
    for vectors in vectors {
        for rows in (1..=layer.row.min(registers.count)).rev() {
            if !registers.hold(rows, vectors, layer.epilogue) {
                continue;
            }
            let shape = TileShape { rows, vectors };
            let cost = cycles_of(registers, layer, &columns, shape);
            if cost < best.0 {
                best = (cost, shape);
            }
        }
    }
    best
}

/// Cycles of the layer with tiles of this shape.
pub fn cycles(registers: Registers, layer: &LayerShape<'_>, shape: TileShape) -> f64 {
    cycles_of(registers, layer, &layer.columns(registers), shape)
}

/// The same, given the columns of each run.
fn cycles_of(registers: Registers, layer: &LayerShape<'_>, columns: &[Vec<Col>], shape: TileShape) -> f64 {
    let TileShape { rows, vectors } = shape;
    let tiles = piece_count(layer.row, rows);
    let even = piece_length(layer.row, rows);
    let rest = layer.row - even * (tiles - 1);
    let tile = |rows: usize, panel: &[Col]| {
        let store = rows as f64 * panel.iter().map(|col| 1.0 + sums(col)).sum::<f64>();
        layer.k as f64 * registers.step(rows, panel) + store + CALL_CYCLES
    };
    let mut total = 0.0;
    for columns in columns {
        // Most panels are like the one before.
        let mut last: (&[Col], [f64; 2]) = (&[], [0.0; 2]);
        for panel in pieces(columns.len(), vectors) {
            let panel = &columns[panel];
            if last.0 != panel {
                last = (panel, [even, rest].map(|rows| tile(rows, panel)));
            }
            for (tile, count) in last.1.iter().zip([tiles - 1, 1]) {
                total += tile * count as f64;
            }
        }
    }
    total * layer.rows as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_fits_the_registers_and_the_row() {
        for registers in [Registers { lanes: 16, count: 32 }, Registers { lanes: 8, count: 16 }] {
            for (row, n, k) in [(12544, 64, 32), (49, 1024, 1024), (7, 58, 58), (1, 1000, 1024)] {
                for epilogue in [0, 4] {
                    let shape = choose(
                        registers,
                        &LayerShape { row, rows: 1, k, runs: &[n], folding: Folding::NONE, epilogue },
                    );
                    assert!(registers.hold(shape.rows, shape.vectors, epilogue), "{shape:?}");
                    assert!(shape.rows <= row);
                }
            }
        }
    }

    #[test]
    fn images_of_all_sizes_have_panels_of_one_width_where_that_costs_little() {
        let registers = Registers { lanes: 16, count: 32 };
        let folding = Folding::NONE;
        let layer = |row, rows| LayerShape { row, rows, k: 192, runs: &[320], folding, epilogue: 1 };
        let common = choose_common(registers, &layer(LARGE_IMAGE, 1)).vectors;
        let others = (40..400).filter(|&n| choose_common(registers, &layer(n, 1)).vectors != common).count();
        assert!(others < 36, "{others} of 360 sizes have panels of another width than {common}");
        for pixels in [1, 7, 49, 64, 72, 1000] {
            let (common, best) =
                (choose_common(registers, &layer(pixels, 1)), choose(registers, &layer(pixels, 1)));
            let cost = |shape| cycles(registers, &layer(pixels, 1), shape);
            assert!(cost(common) <= FOR_COMMON_PANELS * cost(best), "{pixels} pixels: {common:?}");
        }
    }

    #[test]
    fn the_width_of_a_large_image_is_taken_where_its_best_tile_costs_little() {
        let registers = Registers { lanes: 16, count: 32 };
        let folding = Folding::NONE;
        let layer = |row| LayerShape { row, rows: 1, k: 192, runs: &[320], folding, epilogue: 1 };
        let vectors = choose(registers, &layer(LARGE_IMAGE)).vectors;
        let (mut taken, mut left) = (0, 0);
        for row in (1..200).filter(|&row| choose(registers, &layer(row)).vectors != vectors) {
            let tiles = (1..=row.min(32)).map(|rows| TileShape { rows, vectors });
            let costs = tiles.filter(|tile| registers.hold(tile.rows, vectors, 1));
            let cost = costs.map(|tile| cycles(registers, &layer(row), tile)).fold(f64::INFINITY, f64::min);
            let best = cycles(registers, &layer(row), choose(registers, &layer(row)));
            let is_taken = choose_common(registers, &layer(row)).vectors == vectors;
            assert_eq!(is_taken, cost <= 1.1 * best, "{row} pixels: {cost} instead of {best}");
            *(if is_taken { &mut taken } else { &mut left }) += 1;
        }
        assert!(taken > 0 && left > 0, "{taken} of {}", taken + left);
    }

    #[test]
    fn few_channels_are_folded_where_sums_are_long() {
        let registers = Registers { lanes: 16, count: 32 };
        let folds = |len, products| -> Vec<(u32, u32)> {
            let cols = columns(len, 0, registers, Folding { most: 4, products });
            cols.iter().map(|col| (col.lanes.count(), col.fold)).collect()
        };
        assert_eq!(folds(20, 240), [(16, 1), (4, 4)]);
        assert_eq!(folds(24, 96), [(16, 1), (8, 2)]);
        assert_eq!(folds(12, 48), [(16, 1)], "one vector of 16 lanes is not that much more");
        assert_eq!(folds(44, 264), [(16, 1), (16, 1), (8, 2), (4, 4)]);
        assert_eq!(folds(30, 1000), [(16, 1), (16, 1)]);
        assert_eq!(folds(4, 9), [(4, 1)], "short sums");
        let cols = columns(3, 0, Registers { lanes: 8, count: 16 }, Folding { most: 4, products: 100 });
        assert_eq!(cols, [Col { fold: 2, ..Col::part(Lanes::X4, 3) }]);
        let cols = columns(3, 0, Registers { lanes: 4, count: 16 }, Folding { most: 4, products: 100 });
        assert_eq!(cols, [Col::part(Lanes::X4, 3)]);
    }

    #[test]
    fn rows_of_seven_are_not_split() {
        let shape = choose(
            Registers { lanes: 16, count: 32 },
            &LayerShape { row: 7, rows: 7, k: 1152, runs: &[64], folding: Folding::NONE, epilogue: 1 },
        );
        assert_eq!(shape.rows, 7, "{shape:?}");
    }
}
