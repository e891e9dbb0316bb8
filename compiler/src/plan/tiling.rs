//! Tile shapes: how many pixels and how many vectors of output channels one kernel holds in registers.
//!
//! A dense tile of `r` pixels by `v` vectors does `r·v` multiply-adds for `v` vector loads and `r` broadcasts, and needs
//! `r·v` accumulators. Which shape is best depends on how the layer's pixels and channels divide by it: 49 pixels are
//! seven tiles of 7 and no rest. So every shape that fits the registers is costed over the whole layer.

use crate::codegen::tile::ir::Lanes;
use crate::target::{FMA_LATENCY, FMA_PER_CYCLE, L2_BYTES_PER_CYCLE, Target};

/// Cycles that calling a tile costs besides its arithmetic: call, addresses, loop.
const CALL_CYCLES: f64 = 14.0;

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

    /// The widest vector.
    pub fn widest(self) -> Lanes {
        Lanes::holding(self.lanes as u32).unwrap_or(Lanes::X4)
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
    /// cent of what tiles of all shapes were measured to take.
    fn step(self, rows: usize, vectors: usize) -> f64 {
        let fma = (rows * vectors) as f64 / f64::from(FMA_PER_CYCLE);
        let loads = (rows + vectors) as f64 / 2.0;
        let latency = f64::from(FMA_LATENCY) / self.split(rows, vectors) as f64;
        let weights = (4 * self.lanes * vectors) as f64 / f64::from(L2_BYTES_PER_CYCLE);
        fma.max(loads).max(latency).max(weights) + 0.5
    }
}

/// The shape of a layer that matters for its tiles.
#[derive(Clone, Debug)]
pub struct Work<'a> {
    /// Pixels of one row of the sweep.
    pub row: usize,
    /// Number of such rows.
    pub rows: usize,
    /// Steps of K: taps times channels.
    pub k: usize,
    /// Lengths, in channels, of the runs that the output is cut into.
    pub runs: &'a [usize],
    /// Registers that the epilogue needs besides the accumulators.
    pub epilogue: usize,
}

/// Pixels and vectors of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileShape {
    /// Pixels.
    pub rows: usize,
    /// Vectors of output channels.
    pub vectors: usize,
}

/// The tile shape with the lowest cost over a whole layer.
pub fn choose(registers: Registers, work: &Work<'_>) -> TileShape {
    let mut best = (f64::INFINITY, TileShape { rows: 1, vectors: 1 });
    for vectors in 1..registers.count {
        for rows in (1..=work.row.min(registers.count)).rev() {
            if !registers.hold(rows, vectors, work.epilogue) {
                continue;
            }
            let shape = TileShape { rows, vectors };
            let cost = cycles(registers, work, shape);
            if cost < best.0 {
                best = (cost, shape);
            }
        }
    }
    best.1
}

/// Cycles of the layer with tiles of this shape.
pub fn cycles(registers: Registers, work: &Work<'_>, shape: TileShape) -> f64 {
    let TileShape { rows, vectors } = shape;
    let tiles = work.row.div_ceil(rows);
    let even = work.row.div_ceil(tiles);
    let rest = work.row - even * (tiles - 1);
    let mut total = 0.0;
    for &run in work.runs {
        let columns = run.div_ceil(registers.lanes);
        let panels = columns.div_ceil(vectors);
        let wide = columns.div_ceil(panels);
        let last = columns - wide * (panels - 1);
        for (panel_vectors, panel_count) in [(wide, panels - 1), (last, 1)] {
            for (tile_rows, tile_count) in [(even, tiles - 1), (rest, 1)] {
                let store = (tile_rows * panel_vectors) as f64;
                let tile = work.k as f64 * registers.step(tile_rows, panel_vectors) + store + CALL_CYCLES;
                total += tile * (panel_count * tile_count) as f64;
            }
        }
    }
    total * work.rows as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_fits_the_registers_and_the_row() {
        for registers in [Registers { lanes: 16, count: 32 }, Registers { lanes: 8, count: 16 }] {
            for (row, n, k) in [(12544, 64, 32), (49, 1024, 1024), (7, 58, 58), (1, 1000, 1024)] {
                for epilogue in [0, 4] {
                    let shape = choose(registers, &Work { row, rows: 1, k, runs: &[n], epilogue });
                    assert!(registers.hold(shape.rows, shape.vectors, epilogue), "{shape:?}");
                    assert!(shape.rows <= row);
                }
            }
        }
    }

    #[test]
    fn rows_of_seven_are_not_split() {
        let shape = choose(
            Registers { lanes: 16, count: 32 },
            &Work { row: 7, rows: 7, k: 1152, runs: &[64], epilogue: 1 },
        );
        assert_eq!(shape.rows, 7, "{shape:?}");
    }
}
