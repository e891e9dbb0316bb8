//! Running a program: one session is one caller's arena, scratch and resolved base pointers.
//!
//! A session is made once and run often. All base pointers are computed when it is made; a run writes only those that
//! point into the caller's inputs and outputs, then walks the steps with the pool. After the first run nothing is
//! allocated and no lock is taken.
//!
//! ```
//! # fn example(program: &nnc_runtime::Program, image: &[f32]) -> Result<(), Box<dyn std::error::Error>> {
//! use nnc_runtime::{InputRef, Pool, Session};
//!
//! let pool = Pool::for_this_machine()?;
//! let mut session = Session::new(program, &pool)?;
//! let outputs = session.run(&[InputRef::new(image)])?;
//! let scores: &[f32] = outputs.get(0)?;
//! # Ok(()) }
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{ElemType, Port, ProgramDesc, Region};
use crate::claims::Claims;
use crate::guard::{self, Copies};
use crate::index;
use crate::memory::{MemoryError, Pages};
use crate::outputs::{Outputs, real_shape};
use crate::poison;
use crate::pool::{Member, Pool};
use crate::program::Program;
use crate::rounds::{Round, Verdicts};
use crate::run_error::{Role, RunError};
use crate::tensor::{InputRef, OutputMut};
use crate::walk::{Schedule, Walk};

/// Alignment of each output that a session owns.
const ALIGN: u64 = 64;
/// Keeps the scratch of two threads on different cache lines, and their strides off powers of two, which would share
/// the same few sets of a cache.
const SCRATCH_GAP: u64 = 128;

/// One caller's state for running a program. Threads may share a [`Program`] and a [`Pool`], each with its own session.
pub struct Session {
    program: Program,
    pool: Pool,
    schedule: Schedule,
    /// The base pointers of all steps, one after the other, into `memory`, constants, and the buffers of a run.
    bases: Vec<*mut u8>,
    /// Room for base pointers of each thread's own.
    own_bases: Vec<*mut u8>,
    /// The entries of `bases` that point into the caller's buffers.
    inputs: Vec<Patch>,
    outputs: Vec<Patch>,
    /// Buffers of the current run by position; null: not given yet.
    given: Vec<*mut u8>,
    room: Vec<*mut u8>,
    /// Memory for the results of `run`, made by the first one; where in it each output begins, and how much they need.
    results: Option<Pages>,
    offsets: Vec<usize>,
    result_bytes: u64,
    /// Whether a run has filled `results`.
    filled: bool,
    /// Where each thread is in each loop.
    rounds: Vec<Round>,
    claims: Claims,
    verdicts: Verdicts,
    nanos: Vec<AtomicU64>,
    profile: Vec<u64>,
    /// Copies of the caller's buffers between guard pages, if they are wanted.
    copies: Option<Copies>,
    memory: SessionMemory,
}

/// A session's own memory.
struct SessionMemory {
    arena: Pages,
    /// Where each thread's scratch begins, and how long it is.
    scratch: Vec<*mut u8>,
    scratch_bytes: u64,
    /// Held for the pointers in `scratch`.
    blocks: Vec<Pages>,
}

// SAFETY: the raw pointers lead into the session's own arena, into the program that it holds, and, during a run, into
// buffers that the caller has lent to that run.
unsafe impl Send for Session {}

#[derive(Clone, Copy)]
struct Patch {
    /// Index in `bases`.
    base: usize,
    /// Position of the input or output.
    port: usize,
    /// Bytes from the start of its buffer.
    offset: usize,
}

impl Session {
    /// A session that runs `program` on the threads of `pool`.
    pub fn new(program: &Program, pool: &Pool) -> Result<Session, MemoryError> {
        let memory = SessionMemory::for_program(program.desc(), pool.threads())?;
        let copies = Copies::wanted(program.inputs(), program.outputs())?;
        let mut session = Session {
            program: program.clone(),
            pool: pool.clone(),
            schedule: Schedule::default(),
            bases: Vec::new(),
            own_bases: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            given: Vec::new(),
            room: Vec::new(),
            results: None,
            offsets: Vec::new(),
            result_bytes: 0,
            filled: false,
            rounds: Vec::new(),
            claims: Claims::new(0, pool.threads()),
            verdicts: Verdicts::default(),
            nanos: Vec::new(),
            profile: Vec::new(),
            copies: None,
            memory,
        };
        session.prepare(program, copies);
        Ok(session)
    }

    /// Turns to another program, in the memory that there is where that is enough: a session that goes from program to
    /// program keeps what the largest of them needs. The results of the last run are gone. After an error the session is as
    /// it was.
    pub fn switch_to(&mut self, program: &Program) -> Result<(), MemoryError> {
        let desc = program.desc();
        // Between guard pages, sizes are exact.
        let fits = guard::side().is_none()
            && desc.arena_bytes <= self.memory.arena.len() as u64
            && desc.scratch_bytes <= self.memory.scratch_bytes;
        let copies = Copies::wanted(&desc.inputs, &desc.outputs)?;
        if !fits {
            self.memory = SessionMemory::for_program(desc, self.pool.threads())?;
        }
        self.prepare(program, copies);
        Ok(())
    }

    /// Makes everything ready for a program, for which the memory is large enough.
    fn prepare(&mut self, program: &Program, copies: Option<Copies>) {
        let desc = program.desc();
        let threads = self.pool.threads();
        self.program = program.clone();
        self.schedule = Schedule::of(program);
        self.claims = Claims::new(self.schedule.turns(), threads);
        self.rounds.clear();
        self.rounds.resize(self.schedule.repeats() * threads, Round::default());
        refill(&mut self.own_bases, self.schedule.own_bases() * threads);
        refill(&mut self.given, desc.inputs.len());
        refill(&mut self.room, desc.outputs.len());
        self.copies = copies;
        self.filled = false;
        self.result_bytes = 0;
        self.offsets.clear();
        for port in &desc.outputs {
            self.offsets.push(self.result_bytes as usize);
            let end = self.result_bytes.saturating_add(port.bytes() as u64);
            self.result_bytes = end.checked_next_multiple_of(ALIGN).unwrap_or(u64::MAX);
        }
        self.resolve();
    }

    /// Fills `bases` and the patches. The program is verified, so that indices and offsets hold.
    fn resolve(&mut self) {
        self.bases.clear();
        self.bases.reserve_exact(self.program.desc().steps.iter().map(|step| step.args.len()).sum());
        self.inputs.clear();
        self.outputs.clear();
        for arg in self.program.desc().steps.iter().flat_map(|step| &step.args) {
            let offset = arg.offset as usize;
            let patch = |port: u32| Patch { base: self.bases.len(), port: port as usize, offset };
            let region = match arg.region {
                Region::Arena => self.memory.arena.base(),
                Region::Const => {
                    self.bases.push(self.program.constants().at(arg.offset).unwrap_or(std::ptr::null_mut()));
                    continue;
                }
                Region::Input(port) => {
                    self.inputs.push(patch(port));
                    std::ptr::null_mut()
                }
                Region::Output(port) => {
                    self.outputs.push(patch(port));
                    std::ptr::null_mut()
                }
                // Different for each thread and each strip.
                Region::Strip(_) => std::ptr::null_mut(),
            };
            self.bases.push(region.wrapping_add(offset));
        }
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Runs the program; the outputs are in memory of the session's own, until the next run.
    pub fn run(&mut self, inputs: &[InputRef<'_>]) -> Result<Outputs<'_>, RunError> {
        self.accept_inputs(inputs)?;
        self.use_own_outputs()?;
        self.filled = false;
        self.execute(None)?;
        self.filled = true;
        Ok(self.own_outputs())
    }

    /// Runs the program; the outputs go to the caller's buffers.
    pub fn run_into(
        &mut self,
        inputs: &[InputRef<'_>],
        outputs: &mut [OutputMut<'_>],
    ) -> Result<(), RunError> {
        self.accept_inputs(inputs)?;
        let ports = self.program.outputs();
        let mut room = Slots::new(Role::Output, ports, &mut self.room, outputs.len())?;
        for output in outputs {
            room.shaped(output.name, output.shape.as_deref())?;
            room.put(output.name, output.elem, output.bytes.as_mut_ptr(), output.bytes.len())?;
        }
        self.execute(None)
    }

    /// Runs the program on buffers that are given by their addresses, in the order of the ports: for hosts whose memory another
    /// language has. A buffer may be null where its tensor has no elements.
    ///
    /// # Safety
    ///
    /// Each pointer is null or leads to a buffer of its port's size, and no output overlaps another buffer.
    pub unsafe fn run_pointers(&mut self, inputs: &[*const u8], outputs: &[*mut u8]) -> Result<(), RunError> {
        let mut given = Slots::new(Role::Input, self.program.inputs(), &mut self.given, inputs.len())?;
        inputs.iter().try_for_each(|input| given.put_pointer(input.cast_mut()))?;
        let mut room = Slots::new(Role::Output, self.program.outputs(), &mut self.room, outputs.len())?;
        outputs.iter().try_for_each(|&output| room.put_pointer(output))?;
        self.execute(None)
    }

    /// Runs the program as [`Session::run`] does and measures each step: nanoseconds on the calling thread, in
    /// the order of the steps, waiting for other threads included. The results are in [`Session::outputs`].
    pub fn run_profiled(&mut self, inputs: &[InputRef<'_>]) -> Result<&[u64], RunError> {
        self.accept_inputs(inputs)?;
        self.use_own_outputs()?;
        let mut nanos = std::mem::take(&mut self.nanos);
        nanos.resize_with(self.schedule.calls(), AtomicU64::default);
        self.filled = false;
        let done = self.execute(Some(&nanos));
        self.profile.clear();
        self.profile.extend(nanos.iter().map(|time| time.load(Ordering::Relaxed)));
        self.nanos = nanos;
        done?;
        self.filled = true;
        Ok(&self.profile)
    }

    /// The outputs of the last [`Session::run`]; `None` before the first.
    pub fn outputs(&self) -> Option<Outputs<'_>> {
        self.filled.then(|| self.own_outputs())
    }

    /// The extents of output `index`, counted from 0, after a run: those of its port, but where data decide how large it is.
    pub fn output_shape(&self, index: usize) -> Result<Vec<usize>, RunError> {
        let ports = self.program.outputs();
        let port = ports.get(index).ok_or(RunError::NoSuchOutput { index, count: ports.len() })?;
        Ok(real_shape(port, &self.memory.arena))
    }

    fn own_outputs(&self) -> Outputs<'_> {
        let memory = self.results.as_deref().unwrap_or_default();
        Outputs { ports: self.program.outputs(), offsets: &self.offsets, memory, arena: &self.memory.arena }
    }

    fn accept_inputs(&mut self, inputs: &[InputRef<'_>]) -> Result<(), RunError> {
        let ports = self.program.inputs();
        let mut given = Slots::new(Role::Input, ports, &mut self.given, inputs.len())?;
        for input in inputs {
            given.shaped(input.name, input.shape)?;
            given.put(input.name, input.elem, input.bytes.as_ptr().cast_mut(), input.bytes.len())?;
        }
        Ok(())
    }

    /// Lets the outputs go to the session's own memory.
    fn use_own_outputs(&mut self) -> Result<(), RunError> {
        let enough = |memory: &Pages| memory.len() as u64 >= self.result_bytes;
        let memory = match self.results.take().filter(enough) {
            Some(memory) => memory,
            None => Pages::zeroed(self.result_bytes, "the outputs")?,
        };
        for (room, &offset) in self.room.iter_mut().zip(&self.offsets) {
            *room = memory.base().wrapping_add(offset);
        }
        self.results = Some(memory);
        Ok(())
    }

    /// Does all steps on the buffers in `given` and `room`.
    fn execute(&mut self, nanos: Option<&[AtomicU64]>) -> Result<(), RunError> {
        // SAFETY: the pointers that were given have been checked: each leads to a buffer of its port's size.
        let copies = self.copies.as_mut().map(|copies| unsafe { copies.enter(&self.given) });
        let (given, room) = copies.unwrap_or((&self.given, &self.room));
        for (patches, buffers) in [(&self.inputs, given), (&self.outputs, room)] {
            for patch in patches {
                if let (Some(base), Some(buffer)) = (self.bases.get_mut(patch.base), buffers.get(patch.port))
                {
                    *base = buffer.wrapping_add(patch.offset);
                }
            }
        }
        if poison::wanted() {
            poison::spread(&mut self.memory.arena);
            self.memory.blocks.iter_mut().for_each(|block| poison::spread(block));
            for (port, &buffer) in self.program.outputs().iter().zip(room) {
                // SAFETY: each output has been checked to lead to a buffer of its port's size that is ours for the run.
                poison::spread(unsafe { std::slice::from_raw_parts_mut(buffer, port.bytes()) });
            }
        }
        index::clear(self.program.desc(), &mut self.memory.arena);
        self.claims.begin();
        self.verdicts.begin();
        let walk = Walk {
            schedule: &self.schedule,
            bases: self.bases.as_ptr(),
            own_bases: self.own_bases.as_mut_ptr(),
            scratch: &self.memory.scratch,
            arena: self.memory.arena.base(),
            rounds: self.rounds.as_mut_ptr(),
            claims: &self.claims,
            verdicts: &self.verdicts,
            nanos,
        };
        self.pool.run(&|member: &Member<'_>| walk.turns(member));
        if let Some(copies) = &self.copies {
            // SAFETY: as above.
            unsafe { copies.leave(&self.room) };
        }
        index::check(self.program.desc(), &self.memory.arena)
    }
}

/// `len` pointers to nothing, in place of what there was.
fn refill(pointers: &mut Vec<*mut u8>, len: usize) {
    pointers.clear();
    pointers.resize(len, std::ptr::null_mut());
}

impl SessionMemory {
    /// What a program needs on some threads.
    fn for_program(desc: &ProgramDesc, threads: usize) -> Result<SessionMemory, MemoryError> {
        let arena = Pages::buffer(desc.arena_bytes, ALIGN as usize, "the arena")?;
        let (scratch, blocks) = scratch(desc.scratch_bytes, threads)?;
        Ok(SessionMemory { arena, scratch, scratch_bytes: desc.scratch_bytes, blocks })
    }
}

/// Scratch for some threads: where each one's begins, and the memory.
fn scratch(bytes: u64, threads: usize) -> Result<(Vec<*mut u8>, Vec<Pages>), MemoryError> {
    const PURPOSE: &str = "scratch";
    if guard::side().is_some() {
        let blocks = (0..threads).map(|_| Pages::buffer(bytes, ALIGN as usize, PURPOSE));
        let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
        return Ok((blocks.iter().map(Pages::base).collect(), blocks));
    }
    let too_much = || MemoryError { purpose: PURPOSE, bytes, source: std::io::ErrorKind::OutOfMemory.into() };
    let stride = bytes.checked_next_multiple_of(SCRATCH_GAP).ok_or_else(too_much)?;
    let stride = stride.checked_add(SCRATCH_GAP).ok_or_else(too_much)?;
    let all = Pages::zeroed(stride.checked_mul(threads as u64).ok_or_else(too_much)?, PURPOSE)?;
    let starts = (0..threads).map(|thread| all.base().wrapping_add(stride as usize * thread)).collect();
    Ok((starts, vec![all]))
}

/// The buffers of one side of a run, filled one after the other.
struct Slots<'a> {
    role: Role,
    ports: &'a [Port],
    buffers: &'a mut [*mut u8],
    next: usize,
}

impl<'a> Slots<'a> {
    fn new(
        role: Role,
        ports: &'a [Port],
        buffers: &'a mut [*mut u8],
        found: usize,
    ) -> Result<Slots<'a>, RunError> {
        if found != ports.len() {
            return Err(RunError::Count { role, expected: ports.len(), found });
        }
        buffers.fill(std::ptr::null_mut());
        Ok(Slots { role, ports, buffers, next: 0 })
    }

    /// Keeps the next buffer, whose type and size are what they should be.
    fn put_pointer(&mut self, buffer: *mut u8) -> Result<(), RunError> {
        let Some(port) = self.ports.get(self.next) else { return Ok(()) };
        let (elem, bytes) = (port.elem, port.bytes());
        match (buffer.is_null(), bytes) {
            // Nobody looks at a buffer without bytes, but it counts as given.
            (true, 0) => self.put(None, elem, std::ptr::without_provenance_mut(elem.bytes()), 0),
            (true, _) => Err(RunError::Null { role: self.role, name: port.name.clone() }),
            (false, _) => self.put(None, elem, buffer, bytes),
        }
    }

    /// The port of the next buffer, or of that of a name, and its position.
    fn port(&self, name: Option<&str>) -> Result<(usize, &'a Port), RunError> {
        let position = match name {
            Some(name) => self.ports.iter().position(|port| port.name == name),
            None => Some(self.next),
        };
        position.and_then(|at| Some((at, self.ports.get(at)?))).ok_or_else(|| RunError::NoSuchName {
            role: self.role,
            name: name.unwrap_or_default().to_owned(),
            known: self.ports.iter().map(|port| port.name.clone()).collect(),
        })
    }

    /// Checks the extents of the next buffer, where it has some.
    fn shaped(&self, name: Option<&str>, shape: Option<&[usize]>) -> Result<(), RunError> {
        let Some(found) = shape else { return Ok(()) };
        let (_, port) = self.port(name)?;
        match port.shape == found {
            true => Ok(()),
            false => Err(RunError::Shape {
                role: self.role,
                name: port.name.clone(),
                expected: port.shape.clone(),
                found: found.to_vec(),
            }),
        }
    }

    /// Checks a buffer against its port and keeps it. As many different buffers as there are ports fill all slots.
    fn put(
        &mut self,
        name: Option<&str>,
        elem: ElemType,
        buffer: *mut u8,
        bytes: usize,
    ) -> Result<(), RunError> {
        let role = self.role;
        let (position, port) = self.port(name)?;
        self.next += 1;
        let Some(slot) = self.buffers.get_mut(position) else { return Ok(()) };
        let name = || port.name.clone();
        if !slot.is_null() {
            return Err(RunError::Twice { role, name: name() });
        }
        if elem != port.elem {
            return Err(RunError::Type { role, name: name(), expected: port.elem, found: elem });
        }
        if bytes != port.bytes() {
            return Err(RunError::Size {
                role,
                name: name(),
                elem,
                shape: port.shape.clone(),
                expected: port.bytes(),
                found: bytes,
            });
        }
        if !buffer.addr().is_multiple_of(elem.bytes()) {
            return Err(RunError::Misaligned { role, name: name(), align: elem.bytes() });
        }
        *slot = buffer;
        Ok(())
    }
}
