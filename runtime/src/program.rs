//! A program that can run: its description, its functions and its constants, shared by any number of sessions.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::abi::{Arg, Count, LayerFn, Port, ProgramDesc, Region, Repeat, Step, Strips};
use crate::constants::Constants;

/// A compiled program. Cheap to clone; all clones share code and constants, which live until the last one is gone.
#[derive(Clone)]
pub struct Program(Arc<Inner>);

struct Inner {
    desc: ProgramDesc,
    funcs: Vec<LayerFn>,
    consts: Constants,
    /// Keeps the code alive that `funcs` points into.
    _owner: Arc<dyn Any + Send + Sync>,
}

/// A description that does not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// The function table has another length than the description says.
    #[error("the program describes {expected} functions but comes with {found}; compile it again")]
    FunctionCount {
        /// What the description says.
        expected: u32,
        /// Length of the table.
        found: usize,
    },
    /// The constants have another size than the description says.
    #[error("the program describes {expected} bytes of constants but comes with {found}; compile it again")]
    ConstantBytes {
        /// What the description says.
        expected: u64,
        /// Size of the block.
        found: usize,
    },
    /// A step names a function that is not in the table.
    #[error("step \"{step}\" calls function {func} of {functions}; compile the program again")]
    NoSuchFunction {
        /// The step's name.
        step: String,
        /// The index it names.
        func: u32,
        /// Number of functions.
        functions: u32,
    },
    /// A step without work.
    #[error("step \"{step}\" has no units of work; compile the program again")]
    NoUnits {
        /// The step's name.
        step: String,
    },
    /// A base pointer into an input or output that the program does not have.
    #[error(
        "argument {arg} of step \"{step}\" names {region:?}, which does not exist; compile the program again"
    )]
    NoSuchPort {
        /// The step's name.
        step: String,
        /// Position of the argument.
        arg: usize,
        /// What it names.
        region: Region,
    },
    /// A base pointer outside its memory.
    #[error(
        "argument {arg} of step \"{step}\" is at byte {offset} of {region:?}, which has {size}; \
         compile the program again"
    )]
    OutsideRegion {
        /// The step's name.
        step: String,
        /// Position of the argument.
        arg: usize,
        /// The memory it names.
        region: Region,
        /// Its offset in bytes.
        offset: u64,
        /// Size of that memory in bytes.
        size: u64,
    },
    /// A base pointer to where no piece of the constants lies.
    #[error(
        "argument {arg} of step \"{step}\" is at byte {offset} of the constants, where there is none; compile the program again"
    )]
    NoSuchConstant {
        /// The step's name.
        step: String,
        /// Position of the argument.
        arg: usize,
        /// Its offset in bytes.
        offset: u64,
    },
    /// Steps that cannot run strip by strip as described.
    #[error("the strips from step {first} on {problem}; compile the program again")]
    Strips {
        /// Index of the first step.
        first: u32,
        /// What does not fit.
        problem: &'static str,
    },
    /// Steps that cannot run again and again as described.
    #[error("the loop over steps {first} to {end} {problem}; compile the program again")]
    Repeat {
        /// Index of the first step.
        first: u32,
        /// Index of the first step behind them.
        end: u32,
        /// What does not fit.
        problem: &'static str,
    },
    /// An input or output whose size is not a number of bytes.
    #[error("\"{port}\" of shape {shape:?} is larger than the address space; use smaller extents")]
    TooLarge {
        /// Name of the input or output.
        port: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Two inputs, or two outputs, of one name.
    #[error("the name \"{port}\" stands for two inputs or two outputs; rename one in the model")]
    DuplicateName {
        /// The name.
        port: String,
    },
    /// A port whose number of elements is said to be where there is none.
    #[error(
        "the size of \"{port}\" along axis {axis} is at byte {at} of the arena, where it cannot be; compile the model again"
    )]
    Count {
        /// Name of the input or output.
        port: String,
        /// The axis.
        axis: u32,
        /// Where its extent should be.
        at: u64,
    },
    /// Records of indices that are not where they can be.
    #[error("the records of indices of \"{node}\" {problem}; compile the model again")]
    IndexCheck {
        /// The node.
        node: String,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Program {
    /// Puts a program together from what a compiler made in memory, after checking what can be checked: counts,
    /// function indices, offsets inside their regions, at least one unit for each step.
    ///
    /// # Safety
    ///
    /// The machine code itself cannot be checked. The caller guarantees that
    ///
    /// - each of `funcs` stays callable, and its code unchanged, as long as `owner` lives;
    /// - each step's function, called with the step's base pointers and any range of its units, keeps the contract
    ///   of [`LayerFn`]: it reads and writes inside the regions of its base pointers only, of constants inside the
    ///   [`Piece`](crate::Piece) that the pointer leads to, writes neither inputs nor constants, different units of a step never write the same byte, and it does not unwind;
    /// - it expects of inputs and outputs the alignment of one element, and of the arena, of scratch and of constants that of
    ///   their offsets, up to 64 bytes;
    /// - any output byte is written before a step reads it, and the CPU that runs it has `desc.features`.
    #[doc(hidden)]
    pub unsafe fn from_parts(
        desc: ProgramDesc,
        funcs: Vec<LayerFn>,
        consts: Constants,
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Result<Program, ProgramError> {
        desc.verify()?;
        if funcs.len() as u64 != u64::from(desc.functions) {
            return Err(ProgramError::FunctionCount { expected: desc.functions, found: funcs.len() });
        }
        if consts.len() as u64 != desc.const_bytes {
            return Err(ProgramError::ConstantBytes { expected: desc.const_bytes, found: consts.len() });
        }
        for step in &desc.steps {
            let missing =
                |(_, arg): &(usize, &Arg)| arg.region == Region::Const && consts.at(arg.offset).is_none();
            if let Some((arg, place)) = step.args.iter().enumerate().find(missing) {
                let (step, offset) = (step.name.clone(), place.offset);
                return Err(ProgramError::NoSuchConstant { step, arg, offset });
            }
        }
        Ok(Program(Arc::new(Inner { desc, funcs, consts, _owner: owner })))
    }

    /// What the program is.
    #[doc(hidden)]
    pub fn desc(&self) -> &ProgramDesc {
        &self.0.desc
    }

    /// Its inputs, in the model's order.
    pub fn inputs(&self) -> &[Port] {
        &self.0.desc.inputs
    }

    /// Its outputs, in the model's order.
    pub fn outputs(&self) -> &[Port] {
        &self.0.desc.outputs
    }

    pub(crate) fn func(&self, index: u32) -> Option<LayerFn> {
        self.0.funcs.get(index as usize).copied()
    }

    /// Its constants, some of which other programs may share.
    #[doc(hidden)]
    pub fn constants(&self) -> &Constants {
        &self.0.consts
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let desc = self.desc();
        f.debug_struct("Program")
            .field("target", &desc.target)
            .field("inputs", &desc.inputs)
            .field("outputs", &desc.outputs)
            .field("steps", &desc.steps.len())
            .finish_non_exhaustive()
    }
}

impl ProgramDesc {
    /// Checks everything that a description alone can show. What passes here cannot make the runtime overflow,
    /// index outside a table or form a pointer outside its memory.
    pub fn verify(&self) -> Result<(), ProgramError> {
        for ports in [&self.inputs, &self.outputs] {
            verify_ports(ports)?;
        }
        for port in self.inputs.iter().chain(&self.outputs) {
            self.verify_counts(port)?;
        }
        for step in &self.steps {
            let name = || step.name.clone();
            if step.func >= self.functions {
                return Err(ProgramError::NoSuchFunction {
                    step: name(),
                    func: step.func,
                    functions: self.functions,
                });
            }
            if step.units == 0 {
                return Err(ProgramError::NoUnits { step: name() });
            }
            for (arg, &place) in step.args.iter().enumerate() {
                let region = place.region;
                // Strips check their own.
                if let Region::Strip(_) = region {
                    continue;
                }
                let Some(size) = self.region_bytes(region) else {
                    return Err(ProgramError::NoSuchPort { step: name(), arg, region });
                };
                if place.offset > size {
                    return Err(ProgramError::OutsideRegion {
                        step: name(),
                        arg,
                        region,
                        offset: place.offset,
                        size,
                    });
                }
            }
        }
        self.verify_index_checks()?;
        self.verify_strips()?;
        self.verify_repeats()
    }

    /// Repeats are of existing steps, inside of each other or apart; what they look at is in the arena, and no base pointer moves
    /// out of its memory. Strips are no part of them.
    fn verify_repeats(&self) -> Result<(), ProgramError> {
        // The repeats that the one at hand is inside of.
        let mut around: Vec<&Repeat> = Vec::new();
        // How far each moved base pointer may be from where it begins.
        let mut reaches: BTreeMap<(u32, u32), Range<i128>> = BTreeMap::new();
        let mut last = 0;
        for repeat in &self.repeats {
            let (first, end) = (repeat.steps.start, repeat.steps.end);
            let fault = |problem| Err(ProgramError::Repeat { first, end, problem });
            if first >= end || end as usize > self.steps.len() {
                return fault("is of steps that do not exist");
            }
            around.retain(|outer| outer.steps.end > first);
            if first < last || around.last().is_some_and(|outer| outer.steps.end < end) {
                return fault("is neither inside of another one nor behind it");
            }
            last = first;
            if repeat.trips == 0 {
                return fault("has no iterations");
            }
            if repeat.going.is_some_and(|at| at >= self.arena_bytes) {
                return fault("has a condition outside of the arena");
            }
            let apart = |group: &Strips| {
                let steps = group.steps();
                steps.end <= first as usize || end as usize <= steps.start
            };
            if !self.strips.iter().all(apart) {
                return fault("has steps that run strip by strip");
            }
            for moved in &repeat.moves {
                let of_step = repeat.steps.contains(&moved.step).then(|| self.steps.get(moved.step as usize));
                if of_step.flatten().and_then(|step| step.args.get(moved.arg as usize)).is_none() {
                    return fault("moves a base pointer that it does not have");
                }
                let reach = reaches.entry((moved.step, moved.arg)).or_insert(0..0);
                let more = repeat.reach(moved.stride);
                *reach = reach.start.saturating_add(more.start)..reach.end.saturating_add(more.end);
            }
            around.push(repeat);
        }
        for ((step, arg), reach) in reaches {
            let place = self.steps.get(step as usize).and_then(|step| step.args.get(arg as usize));
            let size = place.and_then(|place| self.region_bytes(place.region));
            let inside = place.zip(size).is_some_and(|(place, size)| {
                let offset = i128::from(place.offset);
                offset + reach.start >= 0 && offset + reach.end <= i128::from(size)
            });
            if !inside {
                let end = step.saturating_add(1);
                let problem = "moves a base pointer out of its memory";
                return Err(ProgramError::Repeat { first: step, end, problem });
            }
        }
        Ok(())
    }

    /// Records follow each other in the arena, and belong to axes.
    fn verify_index_checks(&self) -> Result<(), ProgramError> {
        let mut next = self.index_records().start;
        for check in &self.index_checks {
            let fault = |problem| Err(ProgramError::IndexCheck { node: check.node.clone(), problem });
            if check.axes.is_empty() {
                return fault("have no axis");
            }
            if check.at != next || !next.is_multiple_of(8) {
                return fault("do not follow those before");
            }
            match check.range().filter(|range| range.end <= self.arena_bytes) {
                Some(range) => next = range.end,
                None => return fault("lie outside of the arena"),
            }
        }
        Ok(())
    }

    /// Strips are in order and of existing steps, have units of all of them, and buffers inside of scratch; no other step
    /// has such a buffer.
    fn verify_strips(&self) -> Result<(), ProgramError> {
        // How many buffers of strips each step may name.
        let mut buffers = vec![0; self.steps.len()];
        let mut free = 0;
        for group in &self.strips {
            let fault = |problem| Err(ProgramError::Strips { first: group.first, problem });
            let range = group.steps();
            let Some(steps) = self.steps.get(range.clone()).filter(|steps| !steps.is_empty()) else {
                return fault("are of steps that do not exist");
            };
            if range.start < free {
                return fault("are of steps that others have");
            }
            free = range.end;
            if group.buffers.iter().any(|&at| at > self.scratch_bytes) {
                return fault("have a buffer outside of scratch");
            }
            for strip in &group.strips {
                if strip.origins.len() != group.buffers.len() || strip.units.len() != steps.len() {
                    return fault("are not all of the same steps and buffers");
                }
                let inside =
                    |(units, step): (&Range<u32>, &Step)| units.start <= units.end && units.end <= step.units;
                if !strip.units.iter().zip(steps).all(inside) {
                    return fault("have units that a step does not have");
                }
            }
            buffers[range].fill(group.buffers.len());
        }
        for (step, buffers) in self.steps.iter().zip(buffers) {
            let missing =
                |(_, arg): &(usize, &Arg)| matches!(arg.region, Region::Strip(n) if n as usize >= buffers);
            if let Some((arg, place)) = step.args.iter().enumerate().find(missing) {
                return Err(ProgramError::NoSuchPort { step: step.name.clone(), arg, region: place.region });
            }
        }
        Ok(())
    }

    /// Only an output has counts, of its axes in order, in the arena.
    fn verify_counts(&self, port: &Port) -> Result<(), ProgramError> {
        let mut least = 0;
        for &Count { axis, at } in &port.counts {
            let inside = at.checked_add(8).is_some_and(|end| end <= self.arena_bytes);
            let of_axis = axis >= least && (axis as usize) < port.shape.len();
            if !(inside && of_axis && self.outputs.contains(port)) {
                return Err(ProgramError::Count { port: port.name.clone(), axis, at });
            }
            least = axis + 1;
        }
        Ok(())
    }

    /// Size of a region in bytes; `None` for an input or output that does not exist, and for a strip's buffer, which has
    /// no size of its own.
    pub fn region_bytes(&self, region: Region) -> Option<u64> {
        let port_bytes = |ports: &[Port], n: u32| ports.get(n as usize).map(|port| port.bytes() as u64);
        match region {
            Region::Input(n) => port_bytes(&self.inputs, n),
            Region::Output(n) => port_bytes(&self.outputs, n),
            Region::Arena => Some(self.arena_bytes),
            Region::Const => Some(self.const_bytes),
            Region::Strip(_) => None,
        }
    }
}

fn verify_ports(ports: &[Port]) -> Result<(), ProgramError> {
    let mut names = BTreeSet::new();
    if let Some(port) = ports.iter().find(|port| !names.insert(port.name.as_str())) {
        return Err(ProgramError::DuplicateName { port: port.name.clone() });
    }
    match ports.iter().find(|port| port.bytes() > isize::MAX as usize) {
        Some(port) => Err(ProgramError::TooLarge { port: port.name.clone(), shape: port.shape.clone() }),
        None => Ok(()),
    }
}
