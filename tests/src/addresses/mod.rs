//! Which bytes a step of a plan reads and writes: its loops replayed on sets of addresses.
//!
//! The planner says of each step how many bytes it moves, and code generation writes the loops that move them. This is a
//! third party: it knows nothing but the decision of a step ([`LayerCode`]), its base pointers and the constants, and goes
//! through the loops as generated code does. A loop whose body touches a set of bytes touches that set once for each of its
//! indices, moved by index times distance; so loops are not run, their offsets are added up, innermost first:
//!
//! ```text
//!   a pixel's channels       ▮▮▮·                            {[0, 12)}
//!   … for each column        ▮▮▮·▮▮▮·▮▮▮·                    spread over 0, 16, 32
//!   … for each row           ▮▮▮·▮▮▮·▮▮▮·····▮▮▮·▮▮▮·▮▮▮·    spread over 0, row
//! ```
//!
//! Taps outside of the picture are not read, a byte that is touched twice counts once, scratch does not count.
//!
//! Of steps that run strip by strip, images in between count as if they were whole: [`strips`] shows what a strip has of them.
//!
//! [`walk`] gives the bytes of a step, [`outside`] says whether they lie where they may, [`Defined`] whether something has
//! been written before it is read, and [`Audit`] is all of it for a plan. Each kind of layer has a file of its own; a new kind is one more arm of [`walk`].

mod audit;
mod defined;
mod dense;
mod intervals;
mod lanes;
mod nest;
mod routine;
mod strips;
mod winograd;

use std::collections::BTreeMap;

use nnc::plan::sweep::BytePitch;
use nnc::plan::{LayerCode, Plan, PlanStep, Traffic};
use nnc_runtime::abi::{Arg, Region};

pub use audit::Audit;
pub use defined::Defined;
pub use intervals::Intervals;
pub use strips::strips;

/// The bytes that a step touches, by the memory they are in, counted from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Bytes that are read.
    pub read: BTreeMap<Region, Intervals>,
    /// Bytes that are written.
    pub written: BTreeMap<Region, Intervals>,
}

impl Walk {
    /// How many different bytes are read and written.
    pub fn traffic(&self) -> Traffic {
        let bytes = |touched: &BTreeMap<Region, Intervals>| touched.values().map(Intervals::bytes).sum();
        Traffic { read: bytes(&self.read), written: bytes(&self.written) }
    }

    /// Reads bytes, given from a base pointer.
    fn reads(&mut self, base: Arg, bytes: &Intervals) {
        touch(&mut self.read, base, bytes);
    }

    /// Writes bytes, given from a base pointer.
    fn writes(&mut self, base: Arg, bytes: &Intervals) {
        touch(&mut self.written, base, bytes);
    }
}

fn touch(touched: &mut BTreeMap<Region, Intervals>, base: Arg, bytes: &Intervals) {
    if bytes.is_empty() {
        return;
    }
    let set = touched.entry(base.region).or_default();
    *set = set.or(&bytes.moved(base.offset as i64));
}

/// The base pointers of a step, and the constants.
#[derive(Clone, Copy)]
struct Bases<'a> {
    args: &'a [Arg],
    constants: &'a [u8],
}

impl Bases<'_> {
    /// A base pointer.
    fn arg(&self, index: usize) -> Result<Arg, String> {
        self.args.get(index).copied().ok_or_else(|| format!("there is no base pointer {index}"))
    }

    /// The entry of a table of displacements, `at` bytes from its base pointer.
    fn entry(&self, table: Arg, at: i64) -> Result<i64, String> {
        if table.region != Region::Const {
            return Err(format!("a table lies in {:?}", table.region));
        }
        let start = usize::try_from(table.offset as i64 + at).map_err(|e| e.to_string())?;
        let bytes = self.constants.get(start..).and_then(|rest| rest.first_chunk());
        let bytes = bytes.ok_or_else(|| format!("a table has no entry at constant {start}"))?;
        Ok(i32::from_le_bytes(*bytes).into())
    }
}

/// The offsets of `count` equal steps.
fn steps(count: usize, step: i64) -> impl Iterator<Item = i64> + Clone {
    (0..count as i64).map(move |i| i * step)
}

/// A set of bytes of one pixel, for each pixel in some rows and columns of each picture.
fn over_pixels(
    pixel: &Intervals,
    pitch: BytePitch,
    columns: &[i64],
    rows: &[i64],
    images: usize,
) -> Intervals {
    pixel
        .spread(columns.iter().map(|x| x * pitch.pixel))
        .spread(rows.iter().map(|y| y * pitch.row))
        .spread(steps(images, pitch.image))
}

/// In ascending order, each once.
fn sorted(mut positions: Vec<i64>) -> Vec<i64> {
    positions.sort_unstable();
    positions.dedup();
    positions
}

/// The bytes that a step of a plan reads and writes.
///
/// # Errors
///
/// The step names a base pointer or a table that it does not have, or another number of units than its loops have.
pub fn walk(plan: &Plan, step: &PlanStep) -> Result<Walk, String> {
    let constants = plan.constants.bytes();
    let bases = Bases { args: &step.args, constants: &constants };
    let (units, walk) = match &step.code {
        LayerCode::Dense(code) => (code.units(), dense::walk(code, bases)?),
        LayerCode::Winograd(code) => (code.units(), winograd::walk(code, bases)?),
        LayerCode::Lanes(code) => (code.units(), lanes::walk(code, bases)?),
        LayerCode::Nest(code) => (code.units(), nest::walk(code, bases)?),
        LayerCode::Routine(code) => (code.units(), routine::walk(code, bases)?),
    };
    match units == step.units {
        true => Ok(walk),
        false => Err(format!("\"{}\" has {} units, its loops have {units}", step.name, step.units)),
    }
}

/// What a step touches that it may not: bytes outside of the arena, the constants or a port, or writes to what is only read.
/// `None` if all is well.
pub fn outside(plan: &Plan, walk: &Walk) -> Option<String> {
    let size = |region: Region| match region {
        Region::Arena => Some(plan.arena_bytes as usize),
        Region::Const => Some(plan.constants.len()),
        Region::Input(i) => plan.inputs.get(i as usize).map(|port| port.bytes()),
        Region::Output(i) => plan.outputs.get(i as usize).map(|port| port.bytes()),
        // A part of a tensor: strips are looked at one by one.
        Region::Strip(_) => Some(usize::MAX >> 1),
    };
    for (region, bytes) in walk.read.iter().chain(&walk.written) {
        let bounds = bytes.bounds();
        let Some(size) = size(*region) else { return Some(format!("there is no {region:?}")) };
        if bounds.start < 0 || bounds.end > size as i64 {
            return Some(format!("touches bytes {bounds:?} of {region:?}, which has {size}"));
        }
    }
    let constant = |region: &&Region| matches!(region, Region::Const | Region::Input(_));
    walk.written.keys().find(constant).map(|region| format!("writes to {region:?}"))
}
