//! A dense tile whose sums are in matrix registers.
//!
//! ```text
//!                            B: a step's rows of the panel, 16 lanes of one column
//!   A: `height` pixels   ×                                                          →  C, of a block and a column
//!      of a step's lanes
//! ```
//!
//! A panel lies as it does for vectors: a row of it holds a lane's worth of channels (four bytes, two `bf16`) for each output channel, so a
//! step of up to 16 lanes of a run is up to 16 rows of a matrix register, one panel row apart.
//!
//! # Steps
//!
//! The sizes of matrix registers are configured for all kernels of a layer, so runs of channels are cut into steps of two widths at most:
//!
//! ```text
//!   36 lanes    12 12 12        even, where that leaves no rest
//!   29 lanes    16 13           full ones and the rest
//! ```
//!
//! # Blocks
//!
//! The pixels of a tile are blocks of `height`, one behind the other. What is left for the last one is a block that begins `lead` pixels early, in the
//! tile or, where it is the only one, before it: they are summed up and not stored. With two sets of sums the products of a block are computed before the sums of the last one are fetched:
//!
//! ```text
//!   P0  P1  S0 E0  P2  S1 E1  …  Sn En       products, storing sums to scratch, epilogue
//! ```
//!
//! A store waits some 50 cycles for the products of its register; the epilogue runs beside the next block's.

use super::super::super::error::TileError;
use super::super::super::ir::{
    Inst, Int, Lanes, MATRIX_ROWS, Matrix, MatrixProducts, MatrixShape, TileProgram, Trips, Vector, at,
};
use super::super::epilogue::Clamp;
use super::super::rescale::LanesAt;
use super::emit::{DenseEmitter, Rescaled, stretches};
use super::{Col, DenseTile, LINE, Products, RunClass, Runs, Tap, UNROLL};
use crate::code::float::Float;

/// Bytes of a lane.
const LANE: i64 = 4;
/// Bytes of 16 lanes: a row of sums.
const ROW: i64 = 64;
/// Registers of sums.
pub const SUMS: usize = 4;
/// Steps, or runs, that are written one behind the other; more of them are a loop.
const UNROLLED: u32 = 4;

/// How a tile uses matrix registers. All tiles of a layer agree but in `lead`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatrixTile {
    /// Pixels of a block.
    pub height: u8,
    /// Lanes of the steps: of most, and of those that have another width, or 0.
    pub widths: [u8; 2],
    /// Sets of sums: 2 where their columns fit twice, and the products of the next block go first.
    pub sets: u8,
    /// Whether the one step's rows of the panel stay in registers for all blocks.
    pub resident: bool,
    /// Pixels before those of the last block that it sums up, too.
    pub lead: u8,
}

/// The widths of the steps that a run of so many lanes is cut into, and how many there are of each.
pub fn steps(lanes: u32) -> [(u32, u32); 2] {
    let most = u32::from(MATRIX_ROWS);
    let count = lanes.div_ceil(most).max(1);
    match lanes.is_multiple_of(count) {
        true => [(lanes / count, count), (0, 0)],
        false => [(most, lanes / most), (lanes % most, 1)],
    }
}

/// The widths of the steps of runs, if there are two at most.
pub fn widths(runs: impl IntoIterator<Item = u32>) -> Option<[u8; 2]> {
    let mut found = [0; 2];
    for (width, _) in runs.into_iter().flat_map(steps).filter(|(width, count)| *width > 0 && *count > 0) {
        let width = width as u8;
        match found {
            [first, _] if first == width => {}
            [_, second] if second == width => {}
            [0, _] => found[0] = width,
            [_, 0] => found[1] = width,
            _ => return None,
        }
    }
    (found[0] > 0).then_some(found)
}

impl MatrixTile {
    /// The sizes of the registers: sums, A and B of a width, and of another one, or more of B.
    pub fn shapes(self) -> Vec<MatrixShape> {
        let shape = |rows: u8, lanes: u8| MatrixShape { rows, lanes };
        let [first, second] = self.widths;
        let mut shapes = vec![shape(self.height, MATRIX_ROWS); SUMS];
        shapes.extend([shape(self.height, first), shape(first, MATRIX_ROWS)]);
        match (self.resident, second) {
            (true, _) => shapes.extend([shape(first, MATRIX_ROWS); 2]),
            (false, 0) => {}
            (false, second) => shapes.extend([shape(self.height, second), shape(second, MATRIX_ROWS)]),
        }
        shapes
    }

    /// The same for a tile of so many pixels.
    pub fn of_pixels(self, pixels: usize) -> MatrixTile {
        let height = usize::from(self.height).max(1);
        MatrixTile { lead: (pixels.next_multiple_of(height) - pixels) as u8, ..self }
    }

    /// Pixels before a tile of so many that are read.
    pub fn before(self, pixels: usize) -> usize {
        if pixels < usize::from(self.height) { self.lead.into() } else { 0 }
    }

    /// Blocks of a tile of so many pixels.
    fn blocks(self, pixels: u32) -> u32 {
        (pixels + u32::from(self.lead)).div_ceil(u32::from(self.height).max(1))
    }

    /// Bytes of scratch that a tile of pixels by columns needs.
    pub fn scratch(self, pixels: u32, columns: usize) -> i64 {
        self.half(columns) * i64::from(self.blocks(pixels).min(2))
    }

    /// The same of one block.
    fn half(self, columns: usize) -> i64 {
        i64::from(self.height) * columns as i64 * ROW
    }

    /// What is wrong with it for a tile.
    pub(super) fn check(self, tile: &DenseTile) -> Option<&'static str> {
        let height = u32::from(self.height);
        let whole = |tap: &Tap| tap.rows == (0..tile.rows);
        let full = |col: &Col| col.lanes == Lanes::X16 && col.fold == 1;
        if !(1..=u32::from(MATRIX_ROWS)).contains(&height)
            || !(tile.rows + u32::from(self.lead)).is_multiple_of(height)
            || u32::from(self.lead) >= height
        {
            return Some(
                "the pixels of a tile are blocks of 1 to 16, of which the first may have some before it",
            );
        }
        if tile.cols.len() * usize::from(self.sets) > SUMS || !matches!(self.sets, 1 | 2) {
            return Some("there are four registers of sums, for one or two sets of columns");
        }
        if !tile.cols.iter().all(full) || tile.split > 1 || tile.weights_row.is_some() {
            return Some("matrix registers have columns of 16 lanes from a panel, and one sum for each");
        }
        if tile.kernel_rows > 1 || !tile.taps.iter().all(whole) {
            return Some("in matrix registers, all taps lie inside for all pixels");
        }
        let widths = match tile.products {
            Products::Bytes | Products::Halves => {
                lanes_of_runs(&tile.k, &tile.taps, tile.floats.input, tile.products).and_then(widths)
            }
            Products::Floats | Products::Words | Products::Widened(_) => None,
        };
        if widths != Some(self.widths) {
            return Some(
                "matrix registers multiply bytes, or pairs of bf16 in runs of even length, in steps of two widths",
            );
        }
        let one_step =
            self.widths[1] == 0 && tile.panel_row_bytes() == tile.panel_step() * i64::from(self.widths[0]);
        if self.resident && !(one_step && tile.cols.len() <= 3) {
            return Some("up to three columns of one step stay in registers");
        }
        None
    }
}

/// Lanes of the runs of channels, those of neighbouring taps that follow each other as one; `None` where some of a run are apart, or
/// have no partner.
pub fn lanes_of_runs(k: &Runs, taps: &[Tap], float: Float, products: Products) -> Option<Vec<u32>> {
    let pair = products.together();
    match k {
        Runs::Contiguous(k) => {
            let stretches = stretches(taps, *k, float, pair);
            k.is_multiple_of(pair).then(|| stretches.iter().map(|s| s.taps * k / pair).collect())
        }
        Runs::Table(classes) => {
            let even = classes.iter().all(|class| class.length.is_multiple_of(pair));
            let runs = classes.iter().flat_map(|c| std::iter::repeat_n(c.length / pair, c.count as usize));
            even.then(|| runs.collect())
        }
        Runs::Stepped { .. } => None,
    }
}

/// The program of a tile that has been checked.
pub(super) fn program(tile: &DenseTile, matrix: MatrixTile) -> Result<TileProgram, TileError> {
    let mut dense = DenseEmitter::new(tile);
    let registers: Vec<Matrix> = matrix.shapes().into_iter().map(|shape| dense.b.matrix(shape)).collect();
    let mut emit = MatrixEmitter { dense, matrix, registers, rows_used: 0 };
    let (rescaled, constants) = emit.begin();
    let blocks = matrix.blocks(tile.rows);
    if matrix.resident {
        emit.load_panel();
    }
    for block in 0..blocks {
        emit.products(block);
        if matrix.sets == 1 {
            emit.finish(block, &rescaled, constants);
        } else if block > 0 {
            emit.finish(block - 1, &rescaled, constants);
        }
    }
    if matrix.sets > 1 {
        emit.finish(blocks - 1, &rescaled, constants);
    }
    emit.dense.done()
}

struct MatrixEmitter<'a> {
    dense: DenseEmitter<'a>,
    matrix: MatrixTile,
    registers: Vec<Matrix>,
    /// Rows of the panel that the block has used.
    rows_used: i64,
}

/// Where the lanes of a step are.
#[derive(Clone, Copy)]
struct StepAt {
    base: Int,
    disp: i64,
}

impl MatrixEmitter<'_> {
    /// Loads what all pixels share.
    fn begin(&mut self) -> (Vec<Option<Rescaled>>, Clamp) {
        let dense = &mut self.dense;
        let constants = dense.tile.epilogue.begin(&mut dense.b, Lanes::X16);
        let columns = dense.tile.cols.len() as i32;
        let rescaled = (0..columns).map(|col| {
            let (rescale, params) = dense.rescale?;
            let mut load =
                |base: Int| LanesAt::Register(dense.b.load(Lanes::X16, 16, at(base, col * ROW as i32)));
            Some(Rescaled { rescale, factor: load(params.factor), addend: params.addend.map(load) })
        });
        (rescaled.collect(), constants)
    }

    fn columns(&self) -> usize {
        self.dense.tile.cols.len()
    }

    /// By how many pixels a block begins early.
    fn early(&self, block: u32) -> i64 {
        let is_last = block + 1 == self.matrix.blocks(self.dense.tile.rows);
        if is_last { self.matrix.lead.into() } else { 0 }
    }

    /// The register of a block's sums of a column.
    fn sum(&self, block: u32, col: usize) -> Matrix {
        let set = (block % u32::from(self.matrix.sets)) as usize;
        self.registers[set * self.columns() + col]
    }

    /// The registers of a step of some lanes.
    fn operands(&self, width: u32) -> (Matrix, Matrix) {
        let first = if width == u32::from(self.matrix.widths[0]) { SUMS } else { SUMS + 2 };
        (self.registers[first], self.registers[first + 1])
    }

    /// The register that a column's rows of the panel stay in.
    fn resident(&self, col: usize) -> Matrix {
        self.registers[SUMS + 1 + col]
    }

    /// Loads the rows of the one step that stay in registers.
    fn load_panel(&mut self) {
        for col in 0..self.columns() {
            let dst = self.resident(col);
            self.load_columns(dst, col, 0);
        }
    }

    /// Loads rows of a column of the panel, so many behind the first one.
    fn load_columns(&mut self, dst: Matrix, col: usize, row: i64) {
        let dense = &mut self.dense;
        let step = dense.tile.panel_step();
        let addr = at(dense.weights, dense.displacements.get(row * step + col as i64 * ROW));
        let pitch = dense.displacements.get(step);
        dense.b.push(Inst::MatrixLoad { dst, addr, pitch });
    }

    /// All products of a block.
    fn products(&mut self, block: u32) {
        for col in 0..self.columns() {
            let dst = self.sum(block, col);
            self.dense.b.push(match self.dense.bias {
                // The bias of all pixels is one row.
                Some(bias) => Inst::MatrixLoad { dst, addr: at(bias, col as i32 * ROW as i32), pitch: 0 },
                None => Inst::MatrixZero { dst },
            });
        }
        self.rows_used = 0;
        let tile = self.dense.tile;
        let first = i64::from(block) * i64::from(self.matrix.height) - self.early(block);
        let from = first * i64::from(tile.a_pixel);
        let pair = tile.products.together();
        match &tile.k {
            Runs::Contiguous(k) => {
                for stretch in stretches(&tile.taps, *k, tile.floats.input, pair) {
                    let start = StepAt { base: self.dense.input, disp: from + stretch.disp };
                    self.run(block, start, stretch.taps * k / pair);
                }
            }
            Runs::Table(classes) => {
                for tap in &tile.taps {
                    let mut entry = 0;
                    for class in classes.iter().filter(|class| class.length > 0 && class.count > 0) {
                        self.class(block, from + i64::from(tap.disp), class, &mut entry);
                    }
                }
            }
            Runs::Stepped { .. } => {}
        }
    }

    /// Runs of a table that are as long as each other.
    fn class(&mut self, block: u32, disp: i64, class: &RunClass, entry: &mut i64) {
        let Some(table) = self.dense.table else { return };
        let lanes = class.length / self.dense.tile.products.together();
        let run = |emit: &mut Self, entry: i64| {
            let (dst, base) = (emit.dense.b.pointer(), emit.dense.input);
            let entry = at(table, emit.dense.displacements.get(entry));
            emit.dense.b.push(Inst::Lookup { dst, base, entry });
            emit.run(block, StepAt { base: dst, disp }, lanes);
        };
        if class.count <= UNROLLED {
            for _ in 0..class.count {
                run(self, *entry);
                *entry += LANE;
            }
            return;
        }
        let (count, used) = (i64::from(class.count), self.rows_used);
        self.dense.b.begin();
        run(self, *entry);
        let rows = self.rows_used - used;
        let weights = rows * self.dense.tile.panel_step();
        self.advance(table, LANE);
        self.advance(self.dense.weights, weights);
        self.dense.b.end(Trips::Imm(class.count));
        self.advance(table, -count * LANE);
        self.advance(self.dense.weights, -count * weights);
        self.rows_used = used + count * rows;
        *entry += count * LANE;
    }

    /// A run of lanes, step by step.
    fn run(&mut self, block: u32, start: StepAt, lanes: u32) {
        let mut done = 0;
        for (width, count) in steps(lanes).into_iter().filter(|(width, count)| *width > 0 && *count > 0) {
            let place = |done: u32| StepAt { disp: start.disp + i64::from(done) * LANE, ..start };
            if count <= UNROLLED {
                for _ in 0..count {
                    self.step(block, place(done), width);
                    done += width;
                }
                continue;
            }
            let (times, used) = (i64::from(count), self.rows_used);
            let (bytes, weights) = (i64::from(width) * LANE, i64::from(width) * self.dense.tile.panel_step());
            self.dense.b.begin();
            self.step(block, place(done), width);
            self.advance(start.base, bytes);
            self.advance(self.dense.weights, weights);
            self.dense.b.end(Trips::Imm(count));
            self.advance(start.base, -times * bytes);
            self.advance(self.dense.weights, -times * weights);
            self.rows_used = used + times * i64::from(width);
            done += width * count;
        }
    }

    /// One step: a load of pixels, and for each column a load of the panel and the products.
    fn step(&mut self, block: u32, place: StepAt, width: u32) {
        let (a, b) = self.operands(width);
        let products = match self.dense.tile.products {
            Products::Halves => MatrixProducts::Halves,
            _ => MatrixProducts::Bytes,
        };
        let addr = at(place.base, self.dense.displacements.get(place.disp));
        self.dense.b.push(Inst::MatrixLoad { dst: a, addr, pitch: self.dense.tile.a_pixel });
        for col in 0..self.columns() {
            let acc = self.sum(block, col);
            let b = if self.matrix.resident { self.resident(col) } else { b };
            if !self.matrix.resident {
                self.load_columns(b, col, self.rows_used);
            }
            self.dense.b.push(Inst::MatrixDot { acc, a, b, products });
        }
        self.rows_used += i64::from(width);
        if block == 0 {
            self.prefetch(width);
        }
    }

    /// Asks for the lines ahead that fall to a step.
    fn prefetch(&mut self, width: u32) {
        let Some(ahead) = self.dense.ahead else { return };
        let lines = self.dense.tile.ahead * width / UNROLL;
        for line in 0..i64::from(lines) {
            let addr = at(ahead, self.dense.displacements.get(line * i64::from(LINE)));
            self.dense.b.push(Inst::Prefetch { addr });
        }
        self.advance(ahead, i64::from(lines) * i64::from(LINE));
    }

    fn advance(&mut self, ptr: Int, bytes: i64) {
        let bytes = self.dense.displacements.get(bytes);
        self.dense.b.advance(ptr, bytes);
    }

    /// Stores a block's sums to scratch, and from there its pixels, one by one, through the epilogue.
    fn finish(&mut self, block: u32, rescaled: &[Option<Rescaled>], constants: Clamp) {
        let Some(scratch) = self.dense.scratch else { return };
        let columns = self.columns();
        let row = columns as i64 * ROW;
        let half = i64::from(block % 2) * self.matrix.half(columns);
        for col in 0..columns {
            let (src, disp) = (self.sum(block, col), half + col as i64 * ROW);
            let (addr, pitch) = (at(scratch, disp as i32), row as i32);
            self.dense.b.push(Inst::MatrixStore { src, addr, pitch });
        }
        let skipped = self.early(block);
        let pixels = i64::from(self.matrix.height) - skipped;
        let from = half + skipped * row;
        self.dense.b.begin();
        let sums: Vec<Vector> = (0..columns as i64)
            .map(|col| self.dense.b.load(Lanes::X16, 16, at(scratch, (from + col * ROW) as i32)))
            .collect();
        self.dense.pixel(&sums, rescaled, constants, [0; 2]);
        let tile = self.dense.tile;
        self.advance(scratch, row);
        self.advance(self.dense.output, tile.c_pixel.into());
        if let Some(residual) = self.dense.residual {
            self.advance(residual, tile.residual_pixel.into());
        }
        self.dense.b.end(Trips::Imm(pixels as u32));
        self.advance(scratch, -pixels * row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_into_steps_of_two_widths_at_most() {
        for lanes in 1..200 {
            let [(a, n), (b, m)] = steps(lanes);
            assert!(a * n + b * m == lanes && a <= 16 && b <= 16 && n > 0 && (m == 0) == (b == 0));
        }
        assert_eq!(steps(36), [(12, 3), (0, 0)]);
        assert_eq!(steps(29), [(16, 1), (13, 1)]);
        assert_eq!(widths([36, 12]), Some([12, 0]));
        assert_eq!(widths([29, 16]), Some([16, 13]));
        assert_eq!(widths([29, 12]), None);
        assert_eq!(widths([]), None);
    }
}
