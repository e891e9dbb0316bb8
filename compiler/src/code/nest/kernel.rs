//! The innermost loop of an element-wise nest as a tile program, over the target's widest vectors.
//!
//! ```text
//!   y[i] = gelu(a[i] + b)      b in all lanes of a register, before the loop
//!                              loop: a few vectors of a, the functions, as many of y
//!                              then the vectors that are left, and the part of one
//! ```
//!
//! Layer functions are Cranelift's, which knows vectors of 128 bits on x86-64 and multiplies and adds apart. What is left over at
//! the end of a row goes through the same instructions as a vector of which only a part is read and written: an element has the
//! same bits wherever it stands.

use std::cell::RefCell;
use std::collections::HashMap;

use super::line::{Line, name};
use super::{Nest, Vectorised, byte_rows, resample, row, scan, window};
use crate::code::float::Float;
use crate::code::tile::ir::{self, TileProgram, Trips};
use crate::code::tile::{self, verify, x86};
use crate::target::Target;

impl Nest {
    /// The kernel of the innermost loop or of the reduction, where the nest has one, in vectors of at most `widest` lanes.
    ///
    /// Its parameters are the addresses of each operand, of the result, of the scratch that it needs, if it does, and of the tables that
    /// it goes through, if it does.
    pub fn kernel(&self, widest: ir::Lanes) -> Option<TileProgram> {
        match (self.vectorised, self.reduce.is_empty()) {
            (Vectorised::Kernel, true) => map(self, widest),
            (Vectorised::Kernel, false) => row::program(self, widest),
            (Vectorised::Bytes, _) => byte_rows::program(self, widest),
            (Vectorised::Windows, _) => window::program(self, widest),
            (Vectorised::Resampled { .. }, _) => resample::program(self, widest),
            (Vectorised::Scan, _) => scan::program(self, widest),
            _ => None,
        }
    }

    /// The kernel for a target. Functions of elements go through two machine registers at a time where these are not the widest
    /// vectors and there are enough of them: what one waits for, the other does.
    pub fn kernel_for(&self, target: &Target) -> Option<TileProgram> {
        let widest = tile::widest(target);
        let maps = self.vectorised == Vectorised::Kernel && self.reduce.is_empty();
        let twice = ir::Lanes::holding(2 * widest.count()).filter(|_| maps);
        let fits = |program: &TileProgram| tile::fits_registers(program, target).is_ok();
        twice.and_then(|twice| self.kernel(twice)).filter(fits).or_else(|| self.kernel(widest))
    }

    /// Whether the kernel that the nest asks for, if it does, can be written for every target: with Cranelift, any can.
    pub fn kernel_fits(&self) -> bool {
        use Vectorised::{Bytes, Kernel, Resampled, Scan, Windows};
        if !matches!(self.vectorised, Kernel | Bytes | Windows | Resampled { .. } | Scan) {
            return true;
        }
        let nest = self.nowhere();
        KNOWN.with_borrow_mut(|known| {
            if let Some(&fits) = known.get(&nest) {
                return fits;
            }
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            let fits = nest.fits_every_target();
            known.insert(nest, fits);
            fits
        })
    }

    fn fits_every_target(&self) -> bool {
        let fits = |(lanes, level): (ir::Lanes, x86::Level)| {
            self.kernel(lanes).is_some_and(|program| {
                verify::verify(&program).is_ok()
                    && x86::fits(&program, level, x86::Extensions::default()).is_ok()
            })
        };
        [(ir::Lanes::X8, x86::Level::Avx2), (ir::Lanes::X16, x86::Level::Avx512)].into_iter().all(fits)
    }

    /// The same nest over memory that lies anywhere: its kernel gets addresses.
    fn nowhere(&self) -> Nest {
        let mut nest = self.clone();
        for operand in nest.operands.iter_mut().chain([&mut nest.result]) {
            (operand.arg, operand.offset) = (0, 0);
            operand.tables.iter_mut().for_each(|table| (table.arg, table.offset) = (0, 0));
        }
        nest
    }
}

/// Nests of which it is remembered whether their kernels fit.
const MOST_KNOWN: usize = 256;

thread_local! {
    /// Whether kernels fit that were asked for before. Layers of a network are alike, and each nest is scheduled several times.
    static KNOWN: RefCell<HashMap<Nest, bool>> = RefCell::default();
}

/// Elements up to which a row is short: what a call takes, and what is the same for all rows, would take as long as the row.
const SHORT: usize = 256;

/// Rows that go together, where there are as many: pointers move once for all.
const TOGETHER: u32 = 4;

impl Nest {
    /// The loop that the kernel of a map goes through besides the innermost one: rows that are short follow each other in it.
    pub fn map_rows(&self) -> Option<usize> {
        let inner = self.loops.len().checked_sub(1)?;
        let rows = inner.checked_sub(1).filter(|&rows| rows >= self.unit_axes)?;
        // Where a table is involved, the next row is not always as far away.
        let even = |o: &super::Operand| {
            let last = o.strides[rows].checked_mul(self.loops[rows] as i64);
            last.is_some_and(|last| i32::try_from(last).is_ok()) && o.tables.is_empty()
        };
        (self.loops[inner] < SHORT && self.operands.iter().chain([&self.result]).all(even)).then_some(rows)
    }
}

/// `result[i] = value(operands[i])` along the innermost loop, for each row of the loop before it where rows are short.
fn map(nest: &Nest, widest: ir::Lanes) -> Option<TileProgram> {
    let inner = nest.loops.len().checked_sub(1)?;
    let extent = u32::try_from(nest.loops[inner]).ok()?;
    let value = nest.mapped()?;
    let rows = nest.map_rows();
    let extents = rows.map_or_else(|| extent.to_string(), |rows| format!("{}x{extent}", nest.loops[rows]));
    let name = name("map", [&*value], Float::stored(nest.result.dtype)?, extents);
    let mut line = Line::new(nest, inner, rows, name, widest)?;
    let Some(rows) = rows else {
        line.begin(1)?;
        line.hoist(&value)?;
        line.store_all(&value)?;
        return Some(line.b.finish());
    };
    let rows = u32::try_from(nest.loops[rows]).ok()?;
    line.begin_for_all()?;
    line.hoist(&value)?;
    line.held_for_all();
    let together = if extent <= 2 * widest.count() { TOGETHER } else { 1 };
    for (together, rounds) in [(together, rows / together), (1, rows % together)] {
        if rounds > 0 {
            line.b.begin();
            line.begin_rows(together as usize)?;
            for turn in 0..together as usize {
                line.turn(turn);
                line.hoist(&value)?;
                line.store_all(&value)?;
            }
            line.next(together)?;
            line.b.end(Trips::Imm(rounds));
        }
    }
    Some(line.b.finish())
}
