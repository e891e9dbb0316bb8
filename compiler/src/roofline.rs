//! What one core of this machine can do at most: multiply-adds a second, and bytes a second from each level of memory.
//!
//! A layer's *limit* is the longer of its arithmetic at the peak and its data at the rate at which they can arrive
//! (Williams, Waterman and Patterson, "Roofline", 2009). Both are measured, by tile programs of the target that a layer
//! would use, so that a share of the limit compares like with like. The machine may be shared: the best of several
//! rounds counts.
//!
//! ```text
//!   time ≥ max(2 · MACC / peak(products),  activations / rate(arena) + weights / rate(constants))
//! ```
//!
//! where `peak(products)` is that of floats, of pairs of `bf16`, or of bytes or words, whichever the layer multiplies, in the registers in which it does, and `rate(n)`
//! that of reading `n` bytes again and again: what stays in a cache between two runs comes fast.

use std::time::{Duration, Instant};

use crate::code::tile::TileError;
use crate::code::tile::interp::KernelArg;
use crate::code::tile::ir::{
    BinOp, Builder, ByteRange, Inst, Lanes, MATRIX_ROWS, MatrixProducts, MatrixShape, ParamKind, ParamRole,
    Source, TileProgram, Trips, at,
};
use crate::code::tile::programs::dense::Products;
use crate::code::tile::run::Kernel;
use crate::target::Target;

/// Sums that hide the latency of a multiply-add on every machine known.
const SUMS: u32 = 12;
/// Matrix registers of sums.
const MATRIX_SUMS: u32 = 6;
/// Rounds of a loop of multiply-adds.
const TIMES: u32 = 100_000;
/// Vectors that one round of the reading loop loads.
const LOADS: i64 = 8;
/// Rounds of measuring, of which the best counts.
const ROUNDS: usize = 15;
/// How long one round takes at least, so that the clock is fine enough.
const ROUND: Duration = Duration::from_micros(500);
/// Bytes that one call of a kernel reads at least, so that calling it takes next to nothing of the time.
const AT_LEAST: usize = 16 << 20;
/// The largest working set that is read: far beyond every cache.
const LARGEST: u64 = 256 << 20;

/// What one core can do.
#[derive(Debug)]
pub struct Roofline {
    target: Target,
    floats: f64,
    halves: f64,
    bytes: f64,
    words: f64,
    /// Of bytes and of halves in matrix registers; 0 without.
    matrices: [f64; 2],
}

impl Roofline {
    /// Measures the arithmetic peaks. The target must be one that runs here.
    pub fn measure(target: &Target) -> Result<Roofline, TileError> {
        let lanes = widest(target);
        let peak = |products: Products| -> Result<f64, TileError> {
            let kernel = Kernel::new(&multiply_adds(lanes, TIMES, products), target)?;
            let mut bytes = aligned(64);
            let seconds =
                best(|| kernel.call(&mut [KernelArg::Memory { bytes: window(&mut bytes, 64), origin: 0 }]))?;
            let macc = products.in_a_lane() * lanes.count() * SUMS;
            Ok(2.0 * f64::from(macc) * f64::from(TIMES) / seconds)
        };
        let in_matrices = |products: MatrixProducts| -> Result<f64, TileError> {
            if !target.has_matrices() {
                return Ok(0.0);
            }
            let kernel = Kernel::new(&matrix_products(TIMES / 16, products), target)?;
            let seconds = best(|| kernel.call(&mut []))?;
            let in_a_lane = match products {
                MatrixProducts::Bytes => 4,
                MatrixProducts::Halves => 2,
            };
            let macc = in_a_lane * u32::from(MATRIX_ROWS).pow(3) * MATRIX_SUMS;
            Ok(2.0 * f64::from(macc) * f64::from(TIMES / 16) / seconds)
        };
        Ok(Roofline {
            matrices: [in_matrices(MatrixProducts::Bytes)?, in_matrices(MatrixProducts::Halves)?],
            target: target.clone(),
            floats: peak(Products::Floats)?,
            halves: peak(Products::Halves)?,
            bytes: peak(Products::Bytes)?,
            words: peak(Products::Words)?,
        })
    }

    /// Arithmetic operations a second; a multiply-add is two.
    pub fn flops(&self, products: Products) -> f64 {
        match products {
            Products::Floats | Products::Widened(_) => self.floats,
            Products::Halves => self.halves,
            Products::Bytes => self.bytes,
            Products::Words => self.words,
        }
    }

    /// The same in matrix registers, of what these multiply; 0 for a target without.
    pub fn flops_in_matrices(&self, products: Products) -> f64 {
        let [bytes, halves] = self.matrices;
        match products {
            Products::Bytes => bytes,
            Products::Halves => halves,
            Products::Floats | Products::Widened(_) | Products::Words => 0.0,
        }
    }

    /// Bytes a second when so many bytes are read again and again.
    pub fn read_rate(&self, working_set: u64) -> Result<f64, TileError> {
        let lanes = widest(&self.target);
        let round = i64::from(lanes.bytes()) * LOADS;
        let rounds = (working_set.clamp(round as u64, LARGEST) / round as u64).max(1);
        let length = rounds as usize * round as usize;
        let times = (AT_LEAST / length).clamp(1, 4096);
        let kernel = Kernel::new(&reads(lanes, rounds as u32, times as u32), &self.target)?;
        let (mut input, mut output) = (aligned(length), aligned(64));
        let seconds = best(|| {
            kernel.call(&mut [
                KernelArg::Memory { bytes: window(&mut input, length), origin: 0 },
                KernelArg::Memory { bytes: window(&mut output, 64), origin: 0 },
            ])
        })?;
        Ok((times * length) as f64 / seconds)
    }
}

fn widest(target: &Target) -> Lanes {
    Lanes::holding(target.isa.lanes()).unwrap_or(Lanes::X4)
}

/// `SUMS` independent multiply-adds on registers, so many times.
fn multiply_adds(lanes: Lanes, times: u32, products: Products) -> TileProgram {
    let mut b = Builder::new("peak");
    let place = b.param(ParamRole::Output, ParamKind::Write { range: ByteRange::new(0, 64) });
    let x = b.constant(lanes, 1.0);
    let sums: Vec<_> = (0..SUMS).map(|_| b.constant(lanes, 0.0)).collect();
    b.begin();
    for &sum in &sums {
        match products {
            Products::Floats | Products::Widened(_) => b.fma(sum, x, Source::Reg(x)),
            Products::Halves => b.dot_halves(sum, x, Source::Reg(x)),
            Products::Bytes => b.dot(sum, x, Source::Reg(x)),
            Products::Words => b.dot_words(sum, x, Source::Reg(x)),
        }
    }
    b.end(Trips::Imm(times));
    sums.iter().for_each(|&sum| b.store(sum, lanes.count(), at(place, 0)));
    b.finish()
}

/// Independent products of full matrix registers, so many times.
fn matrix_products(times: u32, products: MatrixProducts) -> TileProgram {
    let mut b = Builder::new("matrix_peak");
    let full = MatrixShape { rows: MATRIX_ROWS, lanes: MATRIX_ROWS };
    let [x, y] = [b.matrix(full), b.matrix(full)];
    let sums: Vec<_> = (0..MATRIX_SUMS).map(|_| b.matrix(full)).collect();
    b.begin();
    for &acc in &sums {
        b.push(Inst::MatrixDot { acc, a: x, b: y, products });
    }
    b.end(Trips::Imm(times));
    b.finish().configured()
}

/// The largest values of a buffer, again and again, which are stored so that no lowering leaves out the loads.
fn reads(lanes: Lanes, rounds: u32, times: u32) -> TileProgram {
    let step = i64::from(lanes.bytes());
    let mut b = Builder::new("read");
    let length = i64::from(rounds) * LOADS * step;
    let input = b.param(ParamRole::Input, ParamKind::Read { range: ByteRange::new(0, length) });
    let output = b.param(ParamRole::Output, ParamKind::Write { range: ByteRange::new(0, 64) });
    let sums: Vec<_> = (0..LOADS).map(|_| b.constant(lanes, 0.0)).collect();
    b.begin();
    b.begin();
    for (i, &sum) in sums.iter().enumerate() {
        let value = b.load(lanes, lanes.count(), at(input, (i as i64 * step) as i32));
        b.bin(BinOp::Max, sum, sum, Source::Reg(value));
    }
    b.advance(input, (LOADS * step) as i32);
    b.end(Trips::Imm(rounds));
    b.advance(input, -length as i32);
    b.end(Trips::Imm(times));
    sums.iter().for_each(|&sum| b.store(sum, lanes.count(), at(output, 0)));
    b.finish()
}

/// Room for `length` bytes from a multiple of 64 on, touched.
fn aligned(length: usize) -> Vec<u8> {
    vec![1; length + 64]
}

/// The part of it that starts at a multiple of 64.
fn window(bytes: &mut [u8], length: usize) -> &mut [u8] {
    let skip = bytes.as_ptr().align_offset(64).min(64);
    bytes.get_mut(skip..skip + length).unwrap_or_default()
}

/// Seconds that `work` takes once, the best of some rounds.
fn best(mut work: impl FnMut() -> Result<(), TileError>) -> Result<f64, TileError> {
    work()?;
    let start = Instant::now();
    work()?;
    let once = start.elapsed().max(Duration::from_nanos(50));
    let times = ROUND.as_nanos().div_ceil(once.as_nanos()).max(1) as u32;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..times {
            work()?;
        }
        best = best.min(start.elapsed() / times);
    }
    Ok(best.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_accepted_on_every_target_that_runs_here() {
        for name in ["x86-64-v2", "x86-64-v3", "x86-64-v4", "sapphirerapids", "aarch64"] {
            let target = Target::named(name).unwrap();
            if target.runs_here() {
                let roofline = Roofline::measure(&target).unwrap();
                for products in [Products::Bytes, Products::Halves] {
                    assert_eq!(roofline.flops_in_matrices(products) > 0.0, target.has_matrices(), "{name}");
                }
                for products in [Products::Floats, Products::Halves, Products::Bytes, Products::Words] {
                    assert!(roofline.flops(products) > 0.0, "{name}, {products:?}");
                }
                // Less than one round of the loop, and a number of bytes that is no multiple of it.
                assert!(roofline.read_rate(1).unwrap() > 0.0, "{name}");
                assert!(roofline.read_rate(100_000).unwrap() > 0.0, "{name}");
            }
        }
    }
}
