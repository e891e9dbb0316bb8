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
use super::{Nest, Vectorised, row, scan, window};
use crate::code::float::Float;
use crate::code::tile::ir::{self, TileProgram};
use crate::code::tile::{self, verify, x86};
use crate::target::Target;

impl Nest {
    /// The kernel of the innermost loop or of the reduction, where the nest has one, in vectors of at most `widest` lanes.
    ///
    /// Its parameters are the addresses of each operand, of the result, and of the scratch that it needs, if it does.
    pub fn kernel(&self, widest: ir::Lanes) -> Option<TileProgram> {
        match (self.vectorised, self.reduce.is_empty()) {
            (Vectorised::Kernel, true) => map(self, widest),
            (Vectorised::Kernel, false) => row::program(self, widest),
            (Vectorised::Windows, _) => window::program(self, widest),
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
        if !matches!(self.vectorised, Vectorised::Kernel | Vectorised::Windows | Vectorised::Scan) {
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
                verify::verify(&program).is_ok() && x86::fits(&program, level, false).is_ok()
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

/// `result[i] = value(operands[i])` along the innermost loop.
fn map(nest: &Nest, widest: ir::Lanes) -> Option<TileProgram> {
    let inner = nest.loops.len().checked_sub(1)?;
    let extent = u32::try_from(nest.loops[inner]).ok()?;
    let value = nest.mapped()?;
    let name = name("map", [&*value], Float::stored(nest.result.dtype)?, extent);
    let mut line = Line::new(nest, inner, None, name, widest)?;
    line.begin(1)?;
    line.hoist(&value)?;
    line.store_all(&value)?;
    Some(line.b.finish())
}
