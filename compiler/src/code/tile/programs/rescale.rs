//! What becomes of a sum of integers before it is stored: a real number, or steps of the result's scale.
//!
//! ```text
//!   real  = sum · factor + addend              rounded once, where the target has fused multiply-add
//!   steps = clamp(round(real) + zero)          ties to even
//! ```
//!
//! Storing bytes rounds and holds them between 0 and 255, so where the zero point is 0 and the bounds are these there is nothing to do after
//! the multiplication.

use nnc_ir::DType;
use nnc_ir::op::Requantize;

use super::super::ir::{
    Addr, BinOp, Builder, ByteRange, Inst, Int, ParamKind, ParamRole, Source, UnOp, Vector,
};

/// The step for 0, and the least and the largest step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelSteps {
    /// What stands for 0.
    pub zero: u8,
    /// The least step.
    pub low: u8,
    /// The largest step.
    pub high: u8,
}

/// How sums are rescaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rescale {
    /// Whether a number for each channel is added.
    pub addend: bool,
    /// Whether the result are steps; else it is real.
    pub steps: Option<KernelSteps>,
    /// Whether all rescaled sums are within ±2³⁰: as far as [packing](Inst::Pack) looks.
    pub near: bool,
}

/// What packing looks at, with room for a zero point.
pub(in crate::code) const NEAR: f64 = 1_073_741_824.0;

/// Where a kernel has what it rescales by: one element for each lane of a panel, packed as a bias is.
#[derive(Clone, Copy, Debug)]
pub(super) struct RescaleParams {
    pub factor: Int,
    pub addend: Option<Int>,
}

/// Where a vector of factors or addends is.
#[derive(Clone, Copy, Debug)]
pub(super) enum LanesAt {
    Memory(Addr),
    Register(Vector),
}

impl LanesAt {
    fn source(self) -> Source {
        match self {
            LanesAt::Memory(addr) => Source::Mem(addr),
            LanesAt::Register(v) => Source::Reg(v),
        }
    }
}

impl Rescale {
    /// What kernels do of it, for sums that are rescaled to at most `largest`; `None` for sums as they are, and for steps that are no
    /// unsigned bytes.
    pub fn of(result: &Requantize, addend: bool, largest: f64) -> Option<Rescale> {
        let steps = match result.to {
            DType::F32 => None,
            DType::U8 => {
                let byte = |step: i32| u8::try_from(step).ok();
                Some(KernelSteps {
                    zero: byte(result.zero)?,
                    low: byte(result.low)?,
                    high: byte(result.high)?,
                })
            }
            _ => return None,
        };
        Some(Rescale { addend, steps, near: largest < NEAR })
    }

    /// A suffix for kernel names.
    pub fn word(self) -> &'static str {
        if self.steps.is_some() { "_steps" } else { "_real" }
    }

    /// Declares the parameters, of which each has so many bytes.
    pub(super) fn params(self, b: &mut Builder, range: ByteRange) -> RescaleParams {
        let factor = b.param(ParamRole::Factor, ParamKind::Read { range });
        let addend = self.addend.then(|| b.param(ParamRole::Addend, ParamKind::Read { range }));
        RescaleParams { factor, addend }
    }

    /// Rescales the sum in `x` by factors and addends.
    pub(super) fn apply(self, b: &mut Builder, x: Vector, factor: LanesAt, addend: Option<LanesAt>) {
        match addend {
            None => b.bin(BinOp::Mul, x, x, factor.source()),
            Some(addend) => {
                let factor = match factor {
                    LanesAt::Register(factor) => factor,
                    LanesAt::Memory(addr) => {
                        let lanes = b.lanes(x);
                        b.load(lanes, lanes.count(), addr)
                    }
                };
                b.mul_add(x, factor, addend.source());
            }
        }
        let Some(KernelSteps { zero, low, high }) = self.steps else { return };
        let number = |step: u8| Source::Imm(f32::from(step).to_bits());
        if zero != 0 {
            b.push(Inst::Un { op: UnOp::Nearest, dst: x, src: x });
            b.bin(BinOp::Add, x, x, number(zero));
        }
        if low > 0 {
            b.bin(BinOp::Max, x, x, number(low));
        }
        if high < u8::MAX || !self.near {
            b.bin(BinOp::Min, x, x, number(high));
        }
    }
}
