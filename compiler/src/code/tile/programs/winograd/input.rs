//! The transform of inputs, `V = Bᵀ d B`: from a window of pixels to the elements of a transformed tile.
//!
//! ```text
//!   picture                         scratch
//!   ┌ · · · · · ┐   lanes are       V[0]   tile 0, 1, 2 …   one row of channels each
//!   · window d  ·   channels        V[1]   tile 0, 1, 2 …
//!   └ · · · · · ┘      ──▶          …
//! ```
//!
//! Columns first: some rows of `Bᵀ d` are computed for every column and stay in registers; then each of them is multiplied
//! by `B` and stored. [`Sweeps`] says how many rows at once.
//!
//! No border is stored around pictures: a tile says which rows and columns of its window lie inside, and what lies outside is
//! zero by leaving out its summands.
//!
//! # Parameters
//!
//! | role | meaning |
//! |---|---|
//! | `Input` | the first pixel of the window, perhaps outside the picture |
//! | `Output` | element 0 of the transformed tile |

use std::ops::Range;

use super::super::super::error::TileError;
use super::super::super::ir::{
    Builder, ByteRange, Lanes, ParamKind, ParamRole, TileProgram, Trips, Vector, at,
};
use super::super::{Displacements, strided};
use super::{Form, Sweeps, product_of_squares, sum};
use crate::code::float::Float;
use crate::target::Target;

/// The transform of one window; see the module's documentation. Distances are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InputTile {
    /// How large the window is.
    pub form: Form,
    /// Rows of the window inside the picture.
    pub rows: Range<u32>,
    /// Columns of the window inside the picture.
    pub cols: Range<u32>,
    /// What lies in the picture; the tile has `f32`.
    pub input: Float,
    /// From one pixel to the next.
    pub a_pixel: i32,
    /// From one row of pixels to the next.
    pub a_row: i32,
    /// From one element of the transformed tile to the next.
    pub element: i32,
    /// Channels in lanes.
    pub lanes: Lanes,
    /// Lanes that exist.
    pub used: u32,
    /// Number of vectors of channels, one after another in the picture and in the tile.
    pub vectors: u32,
    /// Rows at once.
    pub sweeps: Sweeps,
}

impl InputTile {
    /// A name that tells kernels apart for people.
    pub fn name(&self) -> String {
        let (rows, cols, window) = (self.rows.len(), self.cols.len(), self.form.window());
        let float = self.input.word();
        format!("winograd_input_{float}_{window}x{window}_{rows}x{cols}_{}x{}", self.vectors, self.used)
    }

    /// The same with as many rows at once as the registers of a target hold, and its program.
    pub fn fitted(mut self, target: &Target) -> Result<(InputTile, TileProgram), TileError> {
        let program = Sweeps::fit(target, |sweeps| {
            self.sweeps = sweeps;
            self.program()
        })?;
        Ok((self, program))
    }

    fn check(&self) -> Result<(), TileError> {
        let wrong = |what: &str| Err(TileError::Descriptor { program: self.name(), what: what.into() });
        let window = self.form.window() as u32;
        if self.rows.end > window || self.cols.end > window {
            return wrong("a tile names a pixel that its window does not have");
        }
        if self.used == 0 || self.used > self.lanes.count() || self.vectors == 0 {
            return wrong("a tile needs at least one vector, of at least one lane and at most all");
        }
        Ok(())
    }

    /// Bytes of all vectors of one pixel, as floats of a type.
    fn channel_bytes(&self, float: Float) -> i64 {
        float.span(self.used) * i64::from(self.vectors)
    }

    fn input_range(&self) -> ByteRange {
        if self.rows.is_empty() || self.cols.is_empty() {
            return ByteRange::default();
        }
        let along = |range: &Range<u32>, pitch: i32| {
            let ends = [range.start, range.end - 1].map(|i| i64::from(i) * i64::from(pitch));
            (ends[0].min(ends[1]), ends[0].max(ends[1]))
        };
        let (y, x) = (along(&self.rows, self.a_row), along(&self.cols, self.a_pixel));
        ByteRange::new(y.0 + x.0, y.1 + x.1 + self.channel_bytes(self.input))
    }

    /// The program.
    pub fn program(&self) -> Result<TileProgram, TileError> {
        self.check()?;
        let (form, lanes, used) = (self.form, self.lanes, self.used);
        let window = form.window();
        let mut displacements = Displacements::default();
        let mut b = Builder::new(self.name());
        let input = b.param(ParamRole::Input, ParamKind::Read { range: self.input_range() });
        let elements =
            strided(form.elements() as u32, i64::from(self.element), self.channel_bytes(Float::F32));
        let output = b.param(ParamRole::Output, ParamKind::Write { range: elements });
        b.begin();
        for rows in self.sweeps.rows(form) {
            let rows: Vec<usize> = rows.collect();
            let mut columns: Vec<Vec<Option<Vector>>> = Vec::new();
            for x in 0..window {
                let mut pixels: Vec<Option<Vector>> = vec![None; window];
                for (y, pixel) in pixels.iter_mut().enumerate() {
                    let inside = self.rows.contains(&(y as u32)) && self.cols.contains(&(x as u32));
                    if inside && rows.iter().any(|&row| reads(form, row, y)) {
                        let disp = y as i64 * i64::from(self.a_row) + x as i64 * i64::from(self.a_pixel);
                        let addr = at(input, displacements.get(disp)).of(self.input);
                        *pixel = Some(b.load(lanes, used, addr));
                    }
                }
                columns.push(line(&mut b, form, lanes, &pixels, &rows));
            }
            for (i, &row) in rows.iter().enumerate() {
                let values: Vec<Option<Vector>> = columns.iter().map(|column| column[i]).collect();
                let every: Vec<usize> = (0..window).collect();
                for (x, value) in line(&mut b, form, lanes, &values, &every).into_iter().enumerate() {
                    let value = value.unwrap_or_else(|| b.constant(lanes, 0.0));
                    let disp = (row * window + x) as i64 * i64::from(self.element);
                    b.store(value, used, at(output, displacements.get(disp)));
                }
            }
        }
        if self.vectors > 1 {
            b.advance(input, self.input.span(used) as i32);
            b.advance(output, Float::F32.span(used) as i32);
        }
        b.end(Trips::Imm(self.vectors));
        displacements.check(&self.name())?;
        Ok(b.finish())
    }
}

/// Whether row `row` of `Bᵀ` has a factor other than zero for input `i`.
fn reads(form: Form, row: usize, i: usize) -> bool {
    let last = form.window() - 1;
    match row {
        0 => i.is_multiple_of(2),
        _ if row == last => i % 2 == 1,
        _ => (1..last).contains(&i),
    }
}

/// Some rows of `Bᵀ d` for one line `d` of the window; what is `None` is zero.
fn line(
    b: &mut Builder,
    form: Form,
    lanes: Lanes,
    d: &[Option<Vector>],
    rows: &[usize],
) -> Vec<Option<Vector>> {
    let last = form.window() - 1;
    let pairs = form.pairs();
    let whole = product_of_squares(pairs.iter().copied());
    // Every second input from `first` on, times these factors.
    let every_second = |b: &mut Builder, first: usize, factors: &[f64]| {
        let terms: Vec<_> = factors.iter().enumerate().map(|(i, &f)| (f, d[first + 2 * i])).collect();
        sum(b, lanes, None, &terms)
    };
    let mut results = vec![None; rows.len()];
    let place = |row: usize| rows.iter().position(|&r| r == row);
    if let Some(i) = place(0) {
        results[i] = every_second(b, 0, &whole);
    }
    for (k, &p) in pairs.iter().enumerate() {
        let (plus, minus) = (place(1 + 2 * k), place(2 + 2 * k));
        if plus.is_none() && minus.is_none() {
            continue;
        }
        let others = pairs.iter().enumerate().filter(|(j, _)| *j != k).map(|(_, &q)| q);
        let factors = product_of_squares(others);
        let even = every_second(b, 2, &factors);
        let odd = every_second(b, 1, &factors);
        for (place, sign) in [(plus, 1.0), (minus, -1.0)] {
            if let Some(i) = place {
                results[i] = sum(b, lanes, None, &[(1.0, even), (sign * p, odd)]);
            }
        }
    }
    if let Some(i) = place(last) {
        results[i] = every_second(b, 1, &whole);
    }
    results
}
