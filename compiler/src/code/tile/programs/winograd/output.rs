//! The transform of outputs, `y = Aᵀ M A`: from the elements of a tile's product to pixels, through the epilogue.
//!
//! ```text
//!   scratch                                          picture
//!   M[0]   tile 0, 1, 2 …  one panel of channels     ┌───────┐
//!   M[1]   tile 0, 1, 2 …                     ──▶    │ m × m │   bias, residual, activation, store
//!   …                                                └───────┘
//! ```
//!
//! A tile at the lower or right border may have fewer outputs than `m × m`: only those that exist are computed, and only
//! they have their residual read and are stored.
//!
//! # Parameters, in this order, those not needed left out
//!
//! | role | meaning |
//! |---|---|
//! | `Input` | element 0 of the tile's product |
//! | `Output` | first pixel and channel of the tile |
//! | `Bias` | `[lanes]`; if the epilogue has a bias |
//! | `Residual` | as `Output`; if the epilogue has a residual |

use super::super::super::error::TileError;
use super::super::super::ir::{
    Builder, ByteRange, Int, Lanes, ParamKind, ParamRole, TileProgram, Trips, Vector, at,
};
use super::super::dense::{Col, panel_channels, panel_width};
use super::super::epilogue::{KernelEpilogue, KernelResidual};
use super::super::{Displacements, strided};
use super::{Form, Summand, Sweeps, sum};
use crate::code::float::Float;
use crate::target::Target;

/// The transform of one tile; see the module's documentation. Distances are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutputTile {
    /// How many outputs a whole tile has.
    pub form: Form,
    /// Rows of outputs that exist, from the first on.
    pub rows: u32,
    /// Columns of outputs that exist, from the first on.
    pub cols: u32,
    /// From one element of the product to the next.
    pub element: i32,
    /// What lies in the picture; the product has `f32`.
    pub output: Float,
    /// From one pixel to the next.
    pub c_pixel: i32,
    /// From one row of pixels to the next.
    pub c_row: i32,
    /// What lies in the residual.
    pub residual: Float,
    /// From one pixel of the residual to the next.
    pub residual_pixel: i32,
    /// From one row of the residual to the next.
    pub residual_row: i32,
    /// The vectors of output channels. Their lanes follow one another in the product, what they use of them in the picture.
    pub panel: Vec<Col>,
    /// What happens before the store.
    pub epilogue: KernelEpilogue,
    /// Rows at once.
    pub sweeps: Sweeps,
}

/// The pointers of a program.
#[derive(Clone, Copy)]
struct Pointers {
    input: Int,
    output: Int,
    bias: Option<Int>,
    residual: Option<Int>,
}

impl OutputTile {
    /// A name that tells kernels apart for people.
    pub fn name(&self) -> String {
        let (rows, cols, width) = (self.rows, self.cols, panel_channels(&self.panel));
        let float = self.output.word();
        format!("winograd_output_{float}_{rows}x{cols}_{width}{}", self.epilogue.word())
    }

    /// The same with as many rows at once as the registers of a target hold, and its program.
    pub fn fitted(mut self, target: &Target) -> Result<(OutputTile, TileProgram), TileError> {
        let program = Sweeps::fit(target, |sweeps| {
            self.sweeps = sweeps;
            self.program()
        })?;
        Ok((self, program))
    }

    fn check(&self) -> Result<(), TileError> {
        let wrong = |what: &str| Err(TileError::Descriptor { program: self.name(), what: what.into() });
        let outputs = 1..=self.form.outputs() as u32;
        if !outputs.contains(&self.rows) || !outputs.contains(&self.cols) {
            return wrong("a tile has at least one row and column of outputs and at most all");
        }
        if self.panel.is_empty() || self.panel.iter().any(|c| c.used == 0 || c.used > c.lanes.count()) {
            return wrong("a tile needs at least one vector, of at least one lane and at most all");
        }
        Ok(())
    }

    fn pixels(&self, float: Float, pixel: i32, row: i32) -> ByteRange {
        let rows = strided(self.rows, i64::from(row), 0);
        let cols = strided(self.cols, i64::from(pixel), float.span(panel_channels(&self.panel)));
        ByteRange::new(rows.lo + cols.lo, rows.hi + cols.hi)
    }

    /// The program.
    pub fn program(&self) -> Result<TileProgram, TileError> {
        self.check()?;
        let mut displacements = Displacements::default();
        let mut b = Builder::new(self.name());
        let lane_bytes = 4 * i64::from(panel_width(&self.panel));
        let elements = strided(self.form.elements() as u32, i64::from(self.element), lane_bytes);
        let input = b.param(ParamRole::Input, ParamKind::Read { range: elements });
        let pixels = self.pixels(self.output, self.c_pixel, self.c_row);
        let output = b.param(ParamRole::Output, ParamKind::Write { range: pixels });
        let bias = self
            .epilogue
            .bias
            .then(|| b.param(ParamRole::Bias, ParamKind::Read { range: ByteRange::new(0, lane_bytes) }));
        let residual = (self.epilogue.residual != KernelResidual::None).then(|| {
            let range = self.pixels(self.residual, self.residual_pixel, self.residual_row);
            b.param(ParamRole::Residual, ParamKind::Read { range })
        });
        let pointers = Pointers { input, output, bias, residual };
        let alike = self.panel.chunk_by(|a, b| a == b && a.used == a.lanes.count());
        for cols in alike {
            let Some(&col) = cols.first() else { continue };
            b.begin();
            self.vector(&mut b, &mut displacements, pointers, col);
            for pointer in [Some(input), bias].into_iter().flatten() {
                b.advance(pointer, col.lanes.bytes());
            }
            b.advance(output, self.output.span(col.used) as i32);
            if let Some(residual) = residual {
                b.advance(residual, self.residual.span(col.used) as i32);
            }
            b.end(Trips::Imm(cols.len() as u32));
        }
        displacements.check(&self.name())?;
        Ok(b.finish())
    }

    /// One vector of channels, at the pointers.
    fn vector(&self, b: &mut Builder, displacements: &mut Displacements, at_: Pointers, col: Col) {
        let (form, lanes) = (self.form, col.lanes);
        let window = form.window();
        for rows in row_groups(form, self.sweeps) {
            let rows: Vec<usize> = rows.into_iter().filter(|&row| row < self.rows as usize).collect();
            if rows.is_empty() {
                continue;
            }
            let mut columns: Vec<Vec<Vector>> = Vec::new();
            for x in 0..window {
                let mut elements: Vec<Option<Vector>> = vec![None; window];
                for (y, element) in elements.iter_mut().enumerate() {
                    if rows.iter().any(|&row| reads(form, row, y)) {
                        let disp = (y * window + x) as i64 * i64::from(self.element);
                        let addr = at(at_.input, displacements.get(disp));
                        *element = Some(b.load(lanes, lanes.count(), addr));
                    }
                }
                columns.push(line(b, form, lanes, &elements, &rows, &mut |_| None));
            }
            let constants = self.epilogue.begin(b, lanes);
            for (i, &row) in rows.iter().enumerate() {
                let values: Vec<Option<Vector>> = columns.iter().map(|column| Some(column[i])).collect();
                let every: Vec<usize> = (0..self.cols as usize).collect();
                let sums = line(b, form, lanes, &values, &every, &mut |b| {
                    at_.bias.map(|bias| b.load(lanes, lanes.count(), at(bias, 0)))
                });
                for (x, y) in sums.into_iter().enumerate() {
                    let place = |displacements: &mut Displacements, row_pitch: i32, pixel: i32| {
                        displacements.get(row as i64 * i64::from(row_pitch) + x as i64 * i64::from(pixel))
                    };
                    let residual = at_.residual.map(|base| {
                        let disp = place(displacements, self.residual_row, self.residual_pixel);
                        (at(base, disp).of(self.residual), col.used)
                    });
                    self.epilogue.apply(b, constants, y, residual);
                    let disp = place(displacements, self.c_row, self.c_pixel);
                    b.store(y, col.used, at(at_.output, disp).of(self.output));
                }
            }
        }
    }
}

/// Which rows of `Aᵀ` are computed together: even ones share sums, odd ones differences.
fn row_groups(form: Form, sweeps: Sweeps) -> Vec<Vec<usize>> {
    let all = form.outputs();
    match sweeps {
        Sweeps::Halves => vec![(0..all).collect()],
        Sweeps::Pairs => (0..2).map(|parity| (parity..all).step_by(2).collect()).collect(),
        Sweeps::Rows => (0..all).map(|row| vec![row]).collect(),
    }
}

/// Whether row `row` of `Aᵀ` has a factor other than zero for element `i`.
fn reads(form: Form, row: usize, i: usize) -> bool {
    match i {
        0 => row == 0,
        _ if i == form.window() - 1 => row == form.outputs() - 1,
        _ => true,
    }
}

/// Some rows of `Aᵀ m` for one line `m` of the product, each added to what `start` loads for it, if anything.
fn line(
    b: &mut Builder,
    form: Form,
    lanes: Lanes,
    m: &[Option<Vector>],
    rows: &[usize],
    start: &mut dyn FnMut(&mut Builder) -> Option<Vector>,
) -> Vec<Vector> {
    let pairs = form.pairs();
    let parity = |parity: usize| rows.iter().any(|row| row % 2 == parity);
    // Of each pair of points the sum, for even powers, and the difference, for odd ones.
    let mut parts: Vec<[Option<Vector>; 2]> = Vec::new();
    for k in 0..pairs.len() {
        let (plus, minus) = (m[1 + 2 * k], m[2 + 2 * k]);
        let even = if parity(0) { sum(b, lanes, None, &[(1.0, plus), (1.0, minus)]) } else { None };
        let odd = if parity(1) { sum(b, lanes, None, &[(1.0, plus), (-1.0, minus)]) } else { None };
        parts.push([even, odd]);
    }
    let mut results = Vec::new();
    for &row in rows {
        let mut terms: Vec<Summand> = Vec::new();
        if row == 0 {
            terms.push((1.0, m[0]));
        }
        terms.extend(pairs.iter().zip(&parts).map(|(p, part)| (p.powi(row as i32), part[row % 2])));
        if row == form.outputs() - 1 {
            terms.push((1.0, m[form.window() - 1]));
        }
        let start = start(b);
        results.push(sum(b, lanes, start, &terms).unwrap_or_else(|| b.constant(lanes, 0.0)));
    }
    results
}
