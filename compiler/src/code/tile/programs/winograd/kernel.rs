//! The transform of kernels, `U = G g Gᵀ`, where a layer does it when it runs.
//!
//! ```text
//!   weights, as the model has them        scratch
//!   g[tap]  channel, lane …               U[element]  channel, lane …        lanes are output channels, and need not be told
//!            9 of them           ──▶                  16 or 36 of them       apart from channels: all are alike
//! ```
//!
//! Transformed kernels are up to four times as large. A layer with many channels and few pixels, the late ones of a network,
//! may take as long to fetch them as to make them: there the smaller ones are stored, and the kernels of a panel are
//! transformed before its products, some rows of elements at a time, which stay in the first-level cache.
//!
//! The rows of `G` for the points `p` and `−p` are `(1, ±p, p²) / N'(p)`: half of the work is shared. Its factors are not
//! exact in f32, so elements are rounded more than once here.
//!
//! # Parameters
//!
//! | role | meaning |
//! |---|---|
//! | `Weights` | the first tap |
//! | `Output` | the first element of the rows |

use std::ops::Range;

use super::super::super::error::TileError;
use super::super::super::ir::{Builder, Lanes, ParamKind, ParamRole, TileProgram, Trips, Vector, at};
use super::super::{Displacements, strided};
use super::{Form, KERNEL, sum};

/// The transform of neighbouring kernels; see the module's documentation. Distances are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelTile {
    /// How many elements there are.
    pub form: Form,
    /// From one tap to the next.
    pub tap: i32,
    /// From one element to the next.
    pub element: i32,
    /// Kernels in a vector.
    pub lanes: Lanes,
    /// Number of vectors.
    pub vectors: u32,
    /// Rows of elements that are made.
    pub rows: Range<usize>,
}

impl KernelTile {
    /// A name that tells kernels apart for people.
    pub fn name(&self) -> String {
        let window = self.form.window();
        let Range { start, end } = self.rows;
        format!("winograd_kernel_f32_{start}to{end}of{window}_{}x{}", self.vectors, self.lanes.count())
    }

    /// The program.
    pub fn program(&self) -> Result<TileProgram, TileError> {
        let (form, lanes) = (self.form, self.lanes);
        if self.vectors == 0 || self.rows.is_empty() || self.rows.end > form.window() {
            let what = "there is nothing to transform, or more rows than elements have".to_string();
            return Err(TileError::Descriptor { program: self.name(), what });
        }
        let bytes = i64::from(lanes.bytes()) * i64::from(self.vectors);
        let mut displacements = Displacements::default();
        let mut b = Builder::new(self.name());
        let taps = strided((KERNEL * KERNEL) as u32, i64::from(self.tap), bytes);
        let weights = b.param(ParamRole::Weights, ParamKind::Read { range: taps });
        let elements = strided((self.rows.len() * form.window()) as u32, i64::from(self.element), bytes);
        let output = b.param(ParamRole::Output, ParamKind::Write { range: elements });
        b.begin();
        let every: Vec<usize> = (0..form.window()).collect();
        let rows: Vec<usize> = self.rows.clone().collect();
        // By rows, then by the three columns of taps.
        let mut columns = vec![[None; KERNEL]; rows.len()];
        for x in 0..KERNEL {
            let mut taps = [None; KERNEL];
            for (y, tap) in taps.iter_mut().enumerate() {
                if rows.iter().any(|&row| reads(form, row, y)) {
                    let disp = (y * KERNEL + x) as i64 * i64::from(self.tap);
                    *tap = Some(b.load(lanes, lanes.count(), at(weights, displacements.get(disp))));
                }
            }
            for (columns, value) in columns.iter_mut().zip(line(&mut b, form, lanes, taps, &rows)) {
                columns[x] = value;
            }
        }
        for (row, taps) in columns.into_iter().enumerate() {
            for (x, value) in line(&mut b, form, lanes, taps, &every).into_iter().enumerate() {
                let value = value.unwrap_or_else(|| b.constant(lanes, 0.0));
                let disp = (row * form.window() + x) as i64 * i64::from(self.element);
                b.store(value, lanes.count(), at(output, displacements.get(disp)));
            }
        }
        if self.vectors > 1 {
            b.advance(weights, lanes.bytes());
            b.advance(output, lanes.bytes());
        }
        b.end(Trips::Imm(self.vectors));
        displacements.check(&self.name())?;
        Ok(b.finish())
    }
}

/// Whether row `row` of `G` has a factor other than zero for tap `i`.
fn reads(form: Form, row: usize, i: usize) -> bool {
    match row {
        0 => i == 0,
        _ if row == form.window() - 1 => i == KERNEL - 1,
        _ => true,
    }
}

/// Some rows of `G g` for one line `g` of the kernel.
fn line(
    b: &mut Builder,
    form: Form,
    lanes: Lanes,
    g: [Option<Vector>; KERNEL],
    rows: &[usize],
) -> Vec<Option<Vector>> {
    let factors = form.kernel_rows();
    let mut results = vec![None; rows.len()];
    let place = |row: usize| rows.iter().position(|&r| r == row);
    for ends in [0, form.window() - 1] {
        if let Some(i) = place(ends) {
            let terms: Vec<_> =
                factors[ends].into_iter().zip(g).filter(|(factor, _)| *factor != 0.0).collect();
            results[i] = sum(b, lanes, None, &terms);
        }
    }
    for plus in (1..form.window() - 1).step_by(2) {
        let places = [place(plus), place(plus + 1)];
        if places == [None, None] {
            continue;
        }
        let [constant, linear, square] = factors[plus];
        let even = sum(b, lanes, None, &[(constant, g[0]), (square, g[2])]);
        for (place, factor) in places.into_iter().zip([linear, -linear]) {
            if let Some(i) = place {
                results[i] = sum(b, lanes, None, &[(1.0, even), (factor, g[1])]);
            }
        }
    }
    results
}
