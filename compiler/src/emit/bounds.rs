//! The proof that no step touches memory that is not its own. Every compilation makes it; where it fails there is an error and
//! no code.
//!
//! ```text
//!   tile::verify    kernel    what it touches around each of its pointers, whatever its counts are
//!   layer::reach    layer     which addresses the pointers can have: loops, strides, units    ──▶ bytes from each base pointer
//!   here            step      where the base pointers lead: one buffer each                   ──▶ inside of it, or refused
//! ```
//!
//! Loop nests and routines say themselves what they touch: [`Nest::accesses`], and the windows of
//! [`Memory`](super::routine::Memory) that a routine's indices are checked against when it runs. Tables of displacements are part
//! of the constants, so their entries are looked up one by one.
//!
//! Of steps that run strip by strip each strip is looked at, as each has other units, and other rows of the images in
//! scratch. A base pointer that moves on in a loop is looked at where it is in the first iteration and in the last: it is between
//! those in all others.

use std::collections::BTreeMap;
use std::ops::Range;

use nnc_ir::DType;
use nnc_runtime::abi::{Arg, Region};

use super::CodegenError;
use super::layer::LayerIr;
use super::layer::reach::{Reach, ReachError, TableAt, TableClass};
use super::layer::trace::Base;
use crate::code::nest::{self, Nest, NestError, Table};
use crate::code::routine::{Routine, RoutineError};
use crate::code::tile::ir::ByteRange;
use crate::plan::{LayerCode, Plan, PlanStep};

/// What a step would do, or why that cannot be told.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BoundsError {
    /// A byte outside of the buffer.
    #[error("would {} bytes {bytes:?} of {}, of which it has {window:?}", verb(.written), place(.region))]
    Outside {
        /// Whether it writes.
        written: bool,
        /// The memory; `None` for scratch.
        region: Option<Region>,
        /// What it touches of that memory.
        bytes: Range<i128>,
        /// What it may touch.
        window: Range<u64>,
    },
    /// A buffer outside of its memory.
    #[error("has a buffer at bytes {window:?} of {}, which has {size}", place(.region))]
    Buffer {
        /// The memory; `None` for scratch.
        region: Option<Region>,
        /// Where the buffer is.
        window: Range<u64>,
        /// How large the memory is.
        size: u64,
    },
    /// A write to what is only read.
    #[error("would write to {}", place(&Some(*.region)))]
    ReadOnly {
        /// The memory.
        region: Region,
    },
    /// An entry of a table that leads elsewhere.
    #[error("has a table whose entry {entry} leads to bytes {bytes:?}, outside of its buffers")]
    Entry {
        /// The entry.
        entry: i32,
        /// Where it leads.
        bytes: Range<i128>,
    },
    /// A table that is not among the constants, or beyond them.
    #[error("has a table at byte {at} of {}", place(&Some(*.region)))]
    Table {
        /// Where it is.
        region: Region,
        /// Its first byte.
        at: i128,
    },
    /// More base pointers than the step has.
    #[error("looks at {wanted} base pointers, of which it has {found}")]
    Bases {
        /// How many are looked at.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
    /// Other units than its loops have.
    #[error("has {units} units, its loops have {loops}")]
    Units {
        /// The step's.
        units: usize,
        /// Those of its loops.
        loops: usize,
    },
    /// It cannot be told what a layer touches.
    #[error("has addresses that cannot be bounded: {0}")]
    Reach(#[from] ReachError),
    /// A nest that is not well formed.
    #[error("is not well formed: {0}")]
    Nest(#[from] NestError),
    /// A routine that is not well formed.
    #[error("is not well formed: {0}")]
    Routine(#[from] RoutineError),
}

fn verb(written: &bool) -> &'static str {
    if *written { "write" } else { "read" }
}

fn place(region: &Option<Region>) -> String {
    match region {
        None | Some(Region::Strip(_)) => "scratch".into(),
        Some(Region::Arena) => "the arena".into(),
        Some(Region::Const) => "the constants".into(),
        Some(Region::Input(n)) => format!("input {n}"),
        Some(Region::Output(n)) => format!("output {n}"),
    }
}

/// Proves that the steps `users`, which share a layer function, touch nothing but their buffers.
pub fn check(plan: &Plan, users: &[usize], emitted: &LayerIr) -> Result<(), CodegenError> {
    let mut whole: Option<Reach> = None;
    for &number in users {
        let Some(step) = plan.steps.get(number) else { continue };
        let fault = |source| CodegenError::Bounds { layer: step.name.clone(), source };
        if whole.is_none() {
            whole = Some(reach(step, emitted).map_err(fault)?);
        }
        if let Some(reach) = &whole {
            BoundsCheck { plan, step, moves: moves(plan, number) }.whole(reach).map_err(fault)?;
        }
        strips(plan, number, step, emitted).map_err(fault)?;
    }
    Ok(())
}

/// How far each base pointer of a step that moves on in loops may be from where it begins.
fn moves(plan: &Plan, number: usize) -> BTreeMap<usize, Range<i128>> {
    let mut reaches = BTreeMap::new();
    for repeat in plan.repeats.iter().filter(|repeat| repeat.steps().contains(&number)) {
        for moved in repeat.moves.iter().filter(|moved| moved.step as usize == number) {
            let reach: &mut Range<i128> = reaches.entry(moved.arg as usize).or_insert(0..0);
            let more = repeat.reach(moved.stride);
            *reach = reach.start.saturating_add(more.start)..reach.end.saturating_add(more.end);
        }
    }
    reaches
}

/// What all units of a step touch.
fn reach(step: &PlanStep, emitted: &LayerIr) -> Result<Reach, BoundsError> {
    let everything = |_: usize| Some(i64::MIN..i64::MAX);
    match &step.code {
        LayerCode::Dense(_) | LayerCode::Winograd(_) | LayerCode::Lanes(_) => {
            Ok(emitted.trace.reach(&emitted.programs, 0..step.units as u64)?)
        }
        LayerCode::Nest(nest) => {
            nest.check(&everything)?;
            let mut reach = accessed(nest.accesses()?);
            let scratch = ByteRange::new(0, nest.scratch() as i64);
            if !scratch.is_empty() {
                reach.touched.extend([false, true].map(|written| ((Base::Scratch, written), scratch)));
            }
            Ok(reach)
        }
        LayerCode::Routine(routine) => {
            routine.check(&everything)?;
            Ok(accessed(Routine::accesses(routine)))
        }
    }
}

fn accessed(accesses: Vec<nest::Touched>) -> Reach {
    let mut reach = Reach::default();
    for access in accesses {
        reach.bases = reach.bases.max(access.arg.saturating_add(1));
        let touched = reach.touched.entry((Base::Arg(access.arg), access.written)).or_default();
        *touched = touched.union(ByteRange::new(access.bytes.start, access.bytes.end));
    }
    reach
}

/// Checks each strip of a step that runs strip by strip.
fn strips(plan: &Plan, number: usize, step: &PlanStep, emitted: &LayerIr) -> Result<(), BoundsError> {
    let check = BoundsCheck { plan, step, moves: BTreeMap::new() };
    // Groups are in order, and have no step in common.
    let behind = plan.strips.partition_point(|group| group.first as usize <= number);
    let last = behind.checked_sub(1).and_then(|at| plan.strips.get(at));
    let Some(group) = last.filter(|group| group.steps().contains(&number)) else { return Ok(()) };
    for strip in &group.strips {
        let Some(units) = strip.units.get(number - group.first as usize) else { continue };
        if units.is_empty() {
            continue;
        }
        let reach = emitted.trace.reach(&emitted.programs, units.start.into()..units.end.into())?;
        for (&(base, written), &range) in &reach.touched {
            let Base::Arg(index) = base else { continue };
            let (arg, window) = check.arg(index)?;
            if matches!(arg.region, Region::Strip(_)) {
                // Modulo 2⁶⁴: the image of which scratch holds some rows may begin before scratch does.
                let start = i128::from(group.offset(strip, arg) as i64);
                check.inside(Some(arg.region), written, start, range, window)?;
            }
        }
    }
    Ok(())
}

struct BoundsCheck<'a> {
    plan: &'a Plan,
    step: &'a PlanStep,
    moves: BTreeMap<usize, Range<i128>>,
}

impl BoundsCheck<'_> {
    /// Checks what all units touch, but for images in strips: those are checked strip by strip.
    fn whole(&self, reach: &Reach) -> Result<(), BoundsError> {
        let (step, plan) = (self.step, self.plan);
        if step.units != step.code.units() {
            return Err(BoundsError::Units { units: step.units, loops: step.code.units() });
        }
        let found = step.args.len().min(step.memory.args.len());
        if reach.bases > found {
            return Err(BoundsError::Bases { wanted: reach.bases, found });
        }
        let scratch = 0..step.memory.scratch;
        self.buffer(None, &scratch, plan.scratch_bytes)?;
        for (&(base, written), &range) in &reach.touched {
            match base {
                Base::Scratch => self.inside(None, written, 0, range, &scratch)?,
                Base::Arg(index) => {
                    let (arg, window) = self.arg(index)?;
                    if let Region::Strip(_) = arg.region {
                        self.buffer(None, window, plan.scratch_bytes)?;
                        continue;
                    }
                    self.buffer(Some(arg.region), window, self.size(arg.region))?;
                    if written && matches!(arg.region, Region::Const | Region::Input(_)) {
                        return Err(BoundsError::ReadOnly { region: arg.region });
                    }
                    let moved = self.moves.get(&index).cloned().unwrap_or(0..0);
                    for distance in [moved.start, moved.end] {
                        let start = i128::from(arg.offset).saturating_add(distance);
                        self.inside(Some(arg.region), written, start, range, window)?;
                    }
                }
            }
        }
        for (at, classes) in &reach.tables {
            self.runs(at, classes)?;
        }
        if let LayerCode::Nest(nest) = &step.code {
            self.offsets(nest)?;
        }
        Ok(())
    }

    fn arg(&self, index: usize) -> Result<(&Arg, &Range<u64>), BoundsError> {
        let (args, windows) = (&self.step.args, &self.step.memory.args);
        let missing = BoundsError::Bases { wanted: index.saturating_add(1), found: args.len() };
        args.get(index).zip(windows.get(index)).ok_or(missing)
    }

    /// An argument whose entries are looked up one by one: it may not move.
    fn fixed(&self, index: usize) -> Result<(&Arg, &Range<u64>), BoundsError> {
        let (arg, window) = self.arg(index)?;
        match self.moves.contains_key(&index) {
            false => Ok((arg, window)),
            true => Err(BoundsError::Table { region: arg.region, at: arg.offset.into() }),
        }
    }

    fn size(&self, region: Region) -> u64 {
        let port =
            |ports: &[nnc_runtime::abi::Port], n: u32| ports.get(n as usize).map_or(0, |p| p.bytes() as u64);
        match region {
            Region::Arena => self.plan.arena_bytes,
            Region::Const => self.plan.constants.len() as u64,
            Region::Input(n) => port(&self.plan.inputs, n),
            Region::Output(n) => port(&self.plan.outputs, n),
            Region::Strip(_) => self.plan.scratch_bytes,
        }
    }

    /// Whether a buffer lies in its memory; constants are in pieces, and a buffer is in one of them.
    fn buffer(&self, region: Option<Region>, window: &Range<u64>, size: u64) -> Result<(), BoundsError> {
        let one_piece = |window: &Range<u64>| self.plan.constants.get(window.clone()).is_some();
        let pieces = region == Some(Region::Const) && !window.is_empty();
        match window.end <= size && (!pieces || one_piece(window)) {
            true => Ok(()),
            false => Err(BoundsError::Buffer { region, window: window.clone(), size }),
        }
    }

    fn inside(
        &self,
        region: Option<Region>,
        written: bool,
        start: i128,
        range: ByteRange,
        window: &Range<u64>,
    ) -> Result<(), BoundsError> {
        let bytes = moved(start, range);
        match contains(window, &bytes) {
            true => Ok(()),
            false => Err(BoundsError::Outside { written, region, bytes, window: window.clone() }),
        }
    }

    /// Follows a table of runs of channels.
    fn runs(&self, at: &TableAt, classes: &[TableClass]) -> Result<(), BoundsError> {
        let (table, _) = self.fixed(at.table)?;
        let (input, _) = self.arg(at.input)?;
        let mut next = i128::from(table.offset) + i128::from(at.at);
        for class in classes {
            for _ in 0..class.entries {
                let entry = self.entry(table.region, next)?;
                next += 4;
                let bytes = moved(i128::from(input.offset) + i128::from(entry), class.read);
                let known = class.values.contains(ByteRange::new(entry.into(), i64::from(entry) + 1));
                // Where nothing is read, an entry leads nowhere.
                let mut buffers = self.step.memory.displaced.iter();
                let fits = class.read.is_empty() || buffers.any(|window| contains(window, &bytes));
                let fixed = input.region == Region::Arena && !self.moves.contains_key(&at.input);
                if !known || !fits || !fixed {
                    return Err(BoundsError::Entry { entry, bytes });
                }
            }
        }
        Ok(())
    }

    /// Looks up the entries of a nest's tables: they lie between the bounds that its addresses are computed with.
    fn offsets(&self, nest: &Nest) -> Result<(), BoundsError> {
        for table in nest.operands.iter().flat_map(|operand| &operand.tables) {
            let (arg, _) = self.fixed(table.arg)?;
            let start = i128::from(arg.offset) + i128::from(table.offset);
            let axes: Vec<(usize, i64)> = nest
                .extents()
                .zip(table.strides.iter().copied())
                .filter(|(_, stride)| *stride != 0)
                .collect();
            self.entries(table, arg.region, start, &axes)?;
        }
        Ok(())
    }

    fn entries(
        &self,
        table: &Table,
        region: Region,
        at: i128,
        axes: &[(usize, i64)],
    ) -> Result<(), BoundsError> {
        let Some((&(extent, stride), inner)) = axes.split_first() else {
            let entry = self.entry(region, at)?;
            return match (table.low..=table.high).contains(&entry) {
                true => Ok(()),
                false => {
                    let bytes = moved(entry.into(), ByteRange::new(0, DType::I32.bytes() as i64));
                    Err(BoundsError::Entry { entry, bytes })
                }
            };
        };
        (0..extent as i128).try_for_each(|i| self.entries(table, region, at + i * i128::from(stride), inner))
    }

    /// An entry of a table.
    fn entry(&self, region: Region, at: i128) -> Result<i32, BoundsError> {
        let at_constant = u64::try_from(at).ok().filter(|_| region == Region::Const);
        let bytes = at_constant.and_then(|at| self.plan.constants.get(at..at.checked_add(4)?)?.first_chunk());
        bytes.map(|bytes| i32::from_le_bytes(*bytes)).ok_or(BoundsError::Table { region, at })
    }
}

fn moved(start: i128, range: ByteRange) -> Range<i128> {
    start.saturating_add(range.lo.into())..start.saturating_add(range.hi.into())
}

fn contains(window: &Range<u64>, bytes: &Range<i128>) -> bool {
    bytes.is_empty() || (i128::from(window.start) <= bytes.start && bytes.end <= i128::from(window.end))
}
