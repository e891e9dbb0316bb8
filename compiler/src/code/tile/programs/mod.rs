//! The kernel programs: one descriptor per kernel family, plain data that hashes and compares, and what it turns into.
//!
//! A descriptor is a decision already made: the planner chooses, a program only writes down. All families share
//! [`epilogue::KernelEpilogue`]. Callers find out which arguments a kernel takes, and in which order, from
//! [`TileProgram::params`](super::ir::Program::params), by role.

pub mod dense;
pub mod depthwise;
pub mod epilogue;
pub mod functions;
pub mod pool;
mod powers;
pub mod rescale;
pub mod stage;
pub mod window;
pub mod winograd;

use super::error::TileError;
use super::ir::ByteRange;

/// Collects byte displacements that must fit 32 bits.
#[derive(Debug, Default)]
struct Displacements {
    overflow: bool,
}

impl Displacements {
    /// The displacement, or 0 and a note that it did not fit.
    fn get(&mut self, bytes: i64) -> i32 {
        i32::try_from(bytes).unwrap_or_else(|_| {
            self.overflow = true;
            0
        })
    }

    fn check(&self, program: &str) -> Result<(), TileError> {
        if self.overflow {
            let what = "a displacement does not fit 32 bits; split the tensor or lower its pitches".into();
            return Err(TileError::Descriptor { program: program.into(), what });
        }
        Ok(())
    }
}

/// The bytes from the lowest to the highest of `n` windows of `bytes` bytes, `pitch` apart.
fn strided(n: u32, pitch: i64, bytes: i64) -> ByteRange {
    match n {
        0 => ByteRange::default(),
        n => {
            let last = i64::from(n - 1) * pitch;
            ByteRange::new(last.min(0), last.max(0) + bytes)
        }
    }
}
