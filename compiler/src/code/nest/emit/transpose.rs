//! Transposing copies, in blocks that are turned in registers: of 4 × 4 elements, of bytes up to 16 × 16.

use cranelift_codegen::ir::{ConstantData, InstBuilder, Value, types};

use super::{NestEmitter, Position, Width, little, memory};
use crate::code::bytes;
use crate::code::nest::LANES;

impl NestEmitter<'_, '_> {
    /// The two innermost loops of a transposing copy: blocks of 4 × 4 in registers, what is left over one by one.
    pub(super) fn transposed(&mut self, axis: usize, place: &Position) {
        let nest = self.nest;
        let (rows, columns) = (nest.loops[axis], nest.loops[axis + 1]);
        if nest.result.dtype.bytes() == 1 {
            return self.transposed_bytes(axis, place);
        }
        if rows < LANES {
            return self.transposed_few(axis, place);
        }
        let [whole_rows, whole_columns] = [rows, columns].map(|extent| extent / LANES * LANES);
        self.fixed((0, rows / LANES, LANES), &[], |e, row, _| {
            let place = e.entered(place, axis, row);
            e.fixed((0, columns / LANES, LANES), &[], |e, column, _| {
                let place = e.entered(&place, axis + 1, column);
                e.block(axis, &place, LANES);
                Vec::new()
            })
        });
        self.one_by_one(axis, place, (0, whole_rows), (whole_columns, columns));
        self.one_by_one(axis, place, (whole_rows, rows), (0, columns));
    }

    /// Elements of some rows and columns of a transposing copy.
    fn one_by_one(&mut self, axis: usize, place: &Position, rows: (usize, usize), columns: (usize, usize)) {
        if columns.0 == columns.1 {
            return;
        }
        self.fixed((rows.0, rows.1 - rows.0, 1), &[], |e, row, _| {
            let place = e.entered(place, axis, row);
            e.fixed((columns.0, columns.1 - columns.0, 1), &[], |e, column, _| {
                let place = e.entered(&place, axis + 1, column);
                e.elements(std::slice::from_ref(&place), Width::One);
                Vec::new()
            })
        });
    }

    /// The same for fewer rows than a block has. What is read beyond them is of the next column; the last one is read element by
    /// element.
    fn transposed_few(&mut self, axis: usize, place: &Position) {
        let nest = self.nest;
        let (rows, columns) = (nest.loops[axis], nest.loops[axis + 1]);
        let blocks = (columns - 1) / LANES;
        self.fixed((0, blocks, LANES), &[], |e, column, _| {
            let place = e.entered(place, axis + 1, column);
            e.block(axis, &place, rows);
            Vec::new()
        });
        self.fixed((0, rows, 1), &[], |e, row, _| {
            let place = e.entered(place, axis, row);
            e.fixed((blocks * LANES, columns - blocks * LANES, 1), &[], |e, column, _| {
                let place = e.entered(&place, axis + 1, column);
                e.elements(std::slice::from_ref(&place), Width::One);
                Vec::new()
            })
        });
    }

    /// The same of bytes, by blocks as large as there is room for. What they leave is done by a block that ends with the last row or
    /// column, so some bytes are moved twice.
    fn transposed_bytes(&mut self, axis: usize, place: &Position) {
        let (rows, columns) = (self.nest.loops[axis], self.nest.loops[axis + 1]);
        for (low, steps, height) in byte_blocks(rows) {
            self.fixed((low, steps, height), &[], |e, row, _| {
                let place = e.entered(place, axis, row);
                for (low, steps, width) in byte_blocks(columns) {
                    e.fixed((low, steps, width), &[], |e, column, _| {
                        let place = e.entered(&place, axis + 1, column);
                        e.block_of_bytes(axis, &place, (height, width));
                        Vec::new()
                    });
                }
                Vec::new()
            });
        }
    }

    /// Columns are read, 4, 8 or 16 bytes of each, and rows are written, of as many.
    fn block_of_bytes(&mut self, axis: usize, place: &Position, (rows, columns): (usize, usize)) {
        let nest = self.nest;
        let part = |size: usize| match size {
            16 => (types::I8X16, types::I8X16),
            8 => (types::I64, types::I64X2),
            _ => (types::I32, types::I32X4),
        };
        let (step, (narrow, lanes)) = (nest.operands[0].strides[axis + 1], part(rows));
        let mut read = Vec::new();
        for column in 0..columns {
            let at = self.displaced(place.at[0], step * column as i64);
            let loaded = self.b.ins().load(narrow, memory(), at, 0);
            let vector = match rows {
                16 => loaded,
                _ => self.b.ins().scalar_to_vector(lanes, loaded),
            };
            read.push(bytes::cast(self.b, types::I8X16, vector));
        }
        let turned = bytes::transposed(self.b, read);
        let (step, (_, lanes), each) = (nest.result.strides[axis], part(columns), 16 / columns);
        for row in 0..rows {
            let at = self.displaced(place.at[1], step * row as i64);
            let vector = bytes::cast(self.b, lanes, turned[row / each]);
            let stored = match columns {
                16 => vector,
                _ => self.b.ins().extractlane(vector, (row % each) as u8),
            };
            self.b.ins().store(memory(), stored, at, 0);
        }
    }

    /// Of which the first few are stored:
    ///
    /// ```text
    ///   a0 a1 a2 a3        a0 b0 c0 d0
    ///   b0 b1 b2 b3   ─▶   a1 b1 c1 d1      by interleaving a with c and b with d, then the results
    ///   c0 c1 c2 c3        a2 b2 c2 d2
    ///   d0 d1 d2 d3        a3 b3 c3 d3
    /// ```
    fn block(&mut self, axis: usize, place: &Position, stored: usize) {
        let nest = self.nest;
        if nest.result.dtype.bytes() == 2 {
            return self.block_of_halves(axis, place);
        }
        let step = nest.operands[0].strides[axis + 1];
        let mut at = place.at[0];
        let mut rows = Vec::new();
        for _ in 0..LANES {
            rows.push(self.b.ins().load(types::I32X4, memory(), at, 0));
            at = self.displaced(at, step);
        }
        let low = self.interleaved(rows[0], rows[2], false);
        let high = self.interleaved(rows[0], rows[2], true);
        let other_low = self.interleaved(rows[1], rows[3], false);
        let other_high = self.interleaved(rows[1], rows[3], true);
        let step = nest.result.strides[axis];
        let mut at = place.at[1];
        let halves = [(low, other_low, false), (low, other_low, true), (high, other_high, false)];
        for (x, y, upper) in halves.into_iter().chain([(high, other_high, true)]).take(stored) {
            let column = self.interleaved(x, y, upper);
            self.b.ins().store(memory(), column, at, 0);
            at = self.displaced(at, step);
        }
    }

    /// The same with rows of 64 bits: columns come out in pairs.
    fn block_of_halves(&mut self, axis: usize, place: &Position) {
        let nest = self.nest;
        let step = nest.operands[0].strides[axis + 1];
        let mut at = place.at[0];
        let mut rows = Vec::new();
        for _ in 0..LANES {
            let row = self.b.ins().load(types::I64, memory(), at, 0);
            rows.push(self.b.ins().scalar_to_vector(types::I64X2, row));
            at = self.displaced(at, step);
        }
        // a0 c0 a1 c1 …, b0 d0 b1 d1 …
        let odd = self.words_by_turns(rows[0], rows[2], false);
        let even = self.words_by_turns(rows[1], rows[3], false);
        let step = nest.result.strides[axis];
        let mut at = place.at[1];
        for upper in [false, true] {
            let pair = self.words_by_turns(odd, even, upper);
            let pair = self.b.ins().bitcast(types::I64X2, little(), pair);
            for lane in [0, 1] {
                let column = self.b.ins().extractlane(pair, lane);
                self.b.ins().store(memory(), column, at, 0);
                at = self.displaced(at, step);
            }
        }
    }

    /// Words of the lower (or upper) halves of two vectors by turns.
    fn words_by_turns(&mut self, x: Value, y: Value, upper: bool) -> Value {
        let first = if upper { 8 } else { 0 };
        let bytes: Vec<u8> = (0..4)
            .flat_map(|word| [0, 16].map(|of| of + first + 2 * word))
            .flat_map(|b| [b, b + 1])
            .collect();
        let mask = self.b.func.dfg.immediates.push(ConstantData::from(bytes));
        let [x, y] = [x, y].map(|v| self.b.ins().bitcast(types::I8X16, little(), v));
        self.b.ins().shuffle(x, y, mask)
    }

    /// Lanes of the lower (or upper) halves of two vectors by turns.
    fn interleaved(&mut self, x: Value, y: Value, upper: bool) -> Value {
        let lanes: [u8; LANES] = if upper { [2, 6, 3, 7] } else { [0, 4, 1, 5] };
        let bytes: Vec<u8> = lanes.iter().flat_map(|&lane| (0..4).map(move |byte| 4 * lane + byte)).collect();
        let mask = self.b.func.dfg.immediates.push(ConstantData::from(bytes));
        let [x, y] = [x, y].map(|v| self.b.ins().bitcast(types::I8X16, little(), v));
        let shuffled = self.b.ins().shuffle(x, y, mask);
        self.b.ins().bitcast(types::I32X4, little(), shuffled)
    }
}

/// The blocks of bytes of a loop that is transposed: where the first is, how many there are, and how many steps they have.
fn byte_blocks(extent: usize) -> Vec<(usize, usize, usize)> {
    let sizes = [4, 8, 16];
    let Some(size) = sizes.into_iter().rfind(|&size| size <= extent) else { return Vec::new() };
    let rest = extent % size;
    let last = sizes.into_iter().find(|&size| size >= rest).filter(|_| rest > 0);
    let last = last.map(|size| (extent - size, 1, size));
    [(0, extent / size, size)].into_iter().chain(last).collect()
}
