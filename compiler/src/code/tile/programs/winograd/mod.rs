//! Winograd's minimal filtering of 3×3 windows: fewer multiplications, paid for by additions.
//!
//! `F(m×m, 3×3)` computes a tile of `m×m` outputs from the window of `(m+2)×(m+2)` inputs under it (Lavin and Gray, *Fast
//! Algorithms for Convolutional Neural Networks*, 2016, arXiv 1509.09308). Two polynomials are multiplied by evaluating
//! both at enough points, multiplying the values, and interpolating; in two dimensions that is done to the rows and then to
//! the columns:
//!
//! ```text
//!   window d  (m+2)²  ──▶  V = Bᵀ d B   ┐
//!                                       ├ (m+2)² products, each summed over the channels ──▶  y = Aᵀ M A   m² outputs
//!   kernel g  3×3     ──▶  U = G g Gᵀ   ┘   M[e] = V[e] · U[e]
//! ```
//!
//! The kernel's transform is done once, by the compiler, or before its products where that is less work than to fetch
//! the larger result ([`kernel::KernelTile`]). For each element `e` of the `(m+2)²` the sums over channels of all
//! tiles and all output channels are one matrix product, done by [dense](super::dense) tiles. What is left for this module
//! are the transforms of activations, with channels in lanes: [`input::InputTile`] and [`output::OutputTile`].
//!
//! | form | window | products for an output, of 9 | points |
//! |---|---|---|---|
//! | `F(2×2, 3×3)` | 4×4 | 4 | 0, ±1, ∞ |
//! | `F(4×4, 3×3)` | 6×6 | 2.25 | 0, ±3/4, ±3/2, ∞ |
//!
//! # The points
//!
//! Which points are taken decides how much rounding errors grow. The usual 0, ±1, ±2, ∞ of `F(4×4, 3×3)` make factors from
//! 1/24 to 8; with 0, ±3/4, ±3/2 they stay within 0.4 to 3.4, the same number of operations gives an error three times
//! smaller, and every coefficient of the two transforms of activations is a dyadic fraction, exact in f32. The kernel's
//! transform is not exact: the compiler computes it in f64 and rounds once.
//!
//! # The matrices
//!
//! With the points 0, ±p₁ … ±pₖ, ∞, and `N(x) = x · Π (x² − pᵢ²)`:
//!
//! - the row of `Bᵀ` for a point `p` holds the coefficients of `N(x) / (x − p)`, that of ∞ those of `N(x)`;
//! - the row of `G` for `p` is `(1, p, p²) / N'(p)`, that of ∞ is `(0, 0, 1)`;
//! - the column of `Aᵀ` for `p` is `(1, p, p², …)`, that of ∞ is `(0, …, 0, 1)`.
//!
//! The rows for `p` and `−p` have the same even and the opposite odd part, so both together cost little more than one.

pub mod input;
pub mod kernel;
pub mod output;

use std::ops::Range;

use super::super::error::TileError;
use super::super::fits_registers;
use super::super::ir::{BinOp, Builder, Inst, Lanes, Source, TileProgram, Vector};
use crate::target::Target;

/// Taps of the kernel along an axis.
pub const KERNEL: usize = 3;

/// How many outputs a tile has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// `F(2×2, 3×3)`
    F2,
    /// `F(4×4, 3×3)`
    F4,
}

impl Form {
    /// Outputs of a tile along an axis.
    pub const fn outputs(self) -> usize {
        match self {
            Form::F2 => 2,
            Form::F4 => 4,
        }
    }

    /// Inputs of a tile along an axis, and the number of points.
    pub const fn window(self) -> usize {
        self.outputs() + KERNEL - 1
    }

    /// Elements of a transformed tile.
    pub const fn elements(self) -> usize {
        self.window() * self.window()
    }

    /// The points that are neither 0 nor ∞, one of each pair.
    const fn pairs(self) -> &'static [f64] {
        match self {
            Form::F2 => &[1.0],
            Form::F4 => &[0.75, 1.5],
        }
    }

    /// The finite points: 0, p₁, −p₁, p₂, −p₂, …
    fn points(self) -> Vec<f64> {
        std::iter::once(0.0).chain(self.pairs().iter().flat_map(|&p| [p, -p])).collect()
    }

    /// `G`: one row of three for each point, ∞ last.
    fn kernel_rows(self) -> Vec<[f64; KERNEL]> {
        let points = self.points();
        let row = |(i, &p): (usize, &f64)| {
            let others = points.iter().enumerate().filter(|(j, _)| *j != i);
            let derivative: f64 = others.map(|(_, q)| p - q).product();
            [1.0 / derivative, p / derivative, p * p / derivative]
        };
        points.iter().enumerate().map(row).chain([[0.0, 0.0, 1.0]]).collect()
    }
}

/// The transform of kernels, `U = G g Gᵀ`.
#[derive(Clone, Debug)]
pub struct KernelTransform {
    rows: Vec<[f64; KERNEL]>,
}

impl KernelTransform {
    /// That of a form.
    pub fn new(form: Form) -> KernelTransform {
        KernelTransform { rows: form.kernel_rows() }
    }

    /// The elements of one 3×3 kernel, row by row, as many as there is room for.
    pub fn apply(&self, g: &[f32; KERNEL * KERNEL], elements: &mut [f32]) {
        let g = g.map(f64::from);
        for (vertical, elements) in self.rows.iter().zip(elements.chunks_mut(self.rows.len())) {
            let column =
                |x: usize| vertical[0] * g[x] + vertical[1] * g[KERNEL + x] + vertical[2] * g[2 * KERNEL + x];
            let columns = [column(0), column(1), column(2)];
            for (element, row) in elements.iter_mut().zip(&self.rows) {
                *element = (columns[0] * row[0] + columns[1] * row[1] + columns[2] * row[2]) as f32;
            }
        }
    }
}

/// Coefficients of `Π (z − p²)` over the points `pairs`, from the constant on.
fn product_of_squares(pairs: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut coefficients = vec![1.0];
    for p in pairs {
        let mut next = vec![0.0; coefficients.len() + 1];
        for (i, c) in coefficients.iter().enumerate() {
            next[i] -= c * p * p;
            next[i + 1] += c;
        }
        coefficients = next;
    }
    coefficients
}

/// A summand: a factor and a register; `None` is zero.
type Summand = (f64, Option<Vector>);

/// The sum of `terms`, after `start` if there is one, in a fresh register (or in `start`'s); `None` when nothing is there to add.
fn sum(b: &mut Builder, lanes: Lanes, start: Option<Vector>, terms: &[Summand]) -> Option<Vector> {
    let terms = terms.iter().filter_map(|&(factor, x)| x.map(|x| (factor, x)));
    // Whole summands first: the sum starts with one of them.
    let (whole, scaled): (Vec<_>, Vec<_>) = terms.partition(|(factor, _)| factor.abs() == 1.0);
    let (plus, minus): (Vec<_>, Vec<_>) = whole.into_iter().partition(|(factor, _)| *factor > 0.0);
    let mut total = start;
    let mut waiting = None;
    let fresh = |b: &mut Builder, op: BinOp, a: Vector, x: Vector| {
        let dst = b.vector(lanes);
        b.bin(op, dst, a, Source::Reg(x));
        dst
    };
    let ordered = plus.iter().map(|t| (BinOp::Add, t.1)).chain(minus.iter().map(|t| (BinOp::Sub, t.1)));
    for (op, x) in ordered {
        match (total, waiting.take()) {
            (Some(total), _) => b.bin(op, total, total, Source::Reg(x)),
            (None, Some(first)) => total = Some(fresh(b, op, first, x)),
            (None, None) if op == BinOp::Add => waiting = Some(x),
            (None, None) => {
                let negative = b.vector(lanes);
                b.bin(BinOp::Mul, negative, x, Source::Imm((-1f32).to_bits()));
                total = Some(negative);
            }
        }
    }
    if let Some(first) = waiting {
        let dst = b.vector(lanes);
        b.push(Inst::Copy { dst, src: first });
        total = Some(dst);
    }
    for (factor, x) in scaled {
        let factor = Source::Imm((factor as f32).to_bits());
        match total {
            Some(total) => b.fma(total, x, factor),
            None => {
                let dst = b.vector(lanes);
                b.bin(BinOp::Mul, dst, x, factor);
                total = Some(dst);
            }
        }
    }
    total
}

/// Rows of a transform that are computed in one sweep over the columns. More sweeps need fewer registers and load more often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sweeps {
    /// One for each half of the rows: for files of 32 registers.
    Halves,
    /// One for each pair of rows that share work: for files of 16.
    Pairs,
    /// One for each row.
    Rows,
}

impl Sweeps {
    /// From few loads to few registers.
    pub const ALL: [Sweeps; 3] = [Sweeps::Halves, Sweeps::Pairs, Sweeps::Rows];

    /// Which rows of `Bᵀ`, or of `G`, are computed together. Row 0 is for the point 0, then come the pairs, ∞ is last.
    pub fn rows(self, form: Form) -> Vec<Range<usize>> {
        let last = form.window() - 1;
        match self {
            Sweeps::Halves => {
                let half = form.window() / 2;
                vec![0..half, half..last + 1]
            }
            Sweeps::Pairs => {
                let pairs = (1..last).step_by(2).map(|first| first..first + 2);
                std::iter::once(0..1).chain(pairs).chain(std::iter::once(last..last + 1)).collect()
            }
            Sweeps::Rows => (0..=last).map(|row| row..row + 1).collect(),
        }
    }

    /// Makes programs until the registers of a target hold one.
    fn fit(
        target: &Target,
        mut program: impl FnMut(Sweeps) -> Result<TileProgram, TileError>,
    ) -> Result<TileProgram, TileError> {
        let [first @ .., last] = Sweeps::ALL;
        for sweeps in first {
            let program = program(sweeps)?;
            if fits_registers(&program, target).is_ok() {
                return Ok(program);
            }
        }
        let program = program(last)?;
        fits_registers(&program, target)?;
        Ok(program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_of_the_small_form_is_transformed_as_in_the_paper() {
        let rows = Form::F2.kernel_rows();
        // The paper's G but for signs and factors that the other matrices make up for.
        let expected = [[-1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
        assert_eq!(rows, expected);
    }

    #[test]
    fn coefficients_of_the_large_form_are_exact_in_single_precision() {
        let all = product_of_squares(Form::F4.pairs().iter().copied());
        assert_eq!(all, [81.0 / 64.0, -45.0 / 16.0, 1.0]);
        assert!(all.iter().all(|&c| f64::from(c as f32) == c));
    }

    #[test]
    fn transformed_kernels_are_rounded_once() {
        let g: [f32; 9] = std::array::from_fn(|i| 0.1 * (i as f32 + 1.0));
        let rows = Form::F4.kernel_rows();
        let mut elements = [0.0; 36];
        KernelTransform::new(Form::F4).apply(&g, &mut elements);
        for (e, found) in elements.into_iter().enumerate() {
            let exact: f64 = (0..9).map(|i| rows[e / 6][i / 3] * rows[e % 6][i % 3] * f64::from(g[i])).sum();
            assert!((f64::from(found) - exact).abs() <= exact.abs() * f64::from(f32::EPSILON) / 2.0 + 1e-15);
        }
    }
}
