//! Gives each virtual register a machine register, in program order, without spilling.
//!
//! Tile programs are written to fit the register file, so allocation is simple and exact: a register is taken at a
//! definition and given back after the last use. One rule makes loops right: what is live at the head of a loop keeps
//! its register until the loop is over, so every round finds it in the same place.
//!
//! A lowering is a [`Sink`] that [`assign`] walks through the program. A virtual register wider than the machine's
//! takes several machine registers, its *pieces*. Programs that do not fit are a [`TileError`], by which the planner
//! learns that a tile is too large.

use super::error::TileError;
use super::ir::{Inst, Int, Lanes, TileProgram, Trips, Vector};

/// The registers that a leaf function may use without saving any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterFile {
    /// Name of the instruction set, for errors.
    pub isa: &'static str,
    /// Number of vector registers.
    pub vectors: u32,
    /// Widest vector register.
    pub widest: Lanes,
    /// Number of integer registers.
    pub ints: u32,
}

impl RegisterFile {
    /// Number of machine registers that a virtual one takes.
    pub fn pieces(&self, lanes: Lanes) -> usize {
        lanes.count().div_ceil(self.widest.count()) as usize
    }
}

/// Machine registers of the live virtual registers.
#[derive(Debug)]
pub struct Regs {
    vectors: Vec<Pieces>,
    ints: Vec<Option<u8>>,
    temps: Vec<u8>,
}

/// The machine registers of a virtual one: four at most, 16 lanes in registers of 4.
#[derive(Clone, Copy, Debug, Default)]
struct Pieces {
    regs: [u8; 4],
    len: u8,
}

impl Pieces {
    fn as_slice(&self) -> &[u8] {
        self.regs.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl Regs {
    /// The pieces of a vector register, first lanes first; empty if it is not live.
    pub fn vector(&self, v: Vector) -> &[u8] {
        self.vectors.get(v.0 as usize).map_or(&[], Pieces::as_slice)
    }

    /// The machine register of an integer register; `None` if it is not live.
    pub fn int(&self, r: Int) -> Option<u8> {
        self.ints.get(r.0 as usize).copied().flatten()
    }

    /// The scratch vector registers of the current instruction.
    pub fn temps(&self) -> &[u8] {
        &self.temps
    }
}

/// Where a loop counts.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// The machine register that counts down.
    pub reg: u8,
    /// How often the loop runs.
    pub count: Trips,
    /// The register to copy the count from; `None` if `reg` already holds it, or the count is constant.
    pub from: Option<u8>,
}

/// What walks along with the assignment.
pub trait Sink {
    /// Number of scratch vector registers that an instruction needs.
    fn temps(&self, inst: &Inst, program: &TileProgram) -> usize;
    /// The function starts: parameters are in place.
    fn enter(&mut self, regs: &Regs) -> Result<(), TileError>;
    /// An instruction that is no loop. Sources and results are live.
    fn inst(&mut self, inst: &Inst, regs: &Regs) -> Result<(), TileError>;
    /// A loop starts.
    fn begin(&mut self, counter: Counter) -> Result<(), TileError>;
    /// The loop that was begun last ends.
    fn end(&mut self, counter: Counter) -> Result<(), TileError>;
}

/// Walks through a verified program. Parameters arrive in integer registers 0, 1, … as far as they fit. Returns how many of the
/// vector registers are used: no other than the first ones.
pub fn assign(program: &TileProgram, file: RegisterFile, sink: &mut dyn Sink) -> Result<u32, TileError> {
    let mut live = vec![false; program.vectors.len() + program.ints as usize];
    let held = live.clone();
    let notes = Liveness { program }.body(&program.body, &mut live, &held);
    let mut walk = ProgramWalk {
        program,
        file,
        sink,
        regs: Regs {
            vectors: vec![Pieces::default(); program.vectors.len()],
            ints: vec![None; program.ints as usize],
            temps: Vec::new(),
        },
        free_vectors: vec![true; file.vectors as usize],
        free_ints: vec![true; file.ints as usize],
        used: 0,
    };
    walk.parameters(&live)?;
    walk.sink.enter(&walk.regs)?;
    walk.body(&program.body, &notes)?;
    Ok(walk.used)
}

/// Only finds out whether a program fits, and how many vector registers it uses, given the scratch registers that each
/// instruction needs.
pub fn measure(
    program: &TileProgram,
    file: RegisterFile,
    scratch: &dyn Fn(&Inst) -> usize,
) -> Result<u32, TileError> {
    struct Measure<'a>(&'a dyn Fn(&Inst) -> usize);
    impl Sink for Measure<'_> {
        fn temps(&self, inst: &Inst, _: &TileProgram) -> usize {
            (self.0)(inst)
        }
        fn enter(&mut self, _: &Regs) -> Result<(), TileError> {
            Ok(())
        }
        fn inst(&mut self, _: &Inst, _: &Regs) -> Result<(), TileError> {
            Ok(())
        }
        fn begin(&mut self, _: Counter) -> Result<(), TileError> {
            Ok(())
        }
        fn end(&mut self, _: Counter) -> Result<(), TileError> {
            Ok(())
        }
    }
    assign(program, file, &mut Measure(scratch))
}

/// Index of a register of either class in a set of live registers: vectors first.
type Index = usize;

/// What is known about one instruction.
#[derive(Debug, Default)]
struct Deaths {
    /// Registers that end here.
    dead: Vec<Index>,
    /// For a loop: the notes of its body.
    body: Vec<Deaths>,
    /// For a loop: nobody needs its count parameter afterwards.
    count_dies: bool,
}

struct Liveness<'a> {
    program: &'a TileProgram,
}

impl Liveness<'_> {
    fn int(&self, r: Int) -> Index {
        self.program.vectors.len() + r.0 as usize
    }

    /// Goes backwards through a body. `live` is what is live after it, and becomes what is live before it; `held`
    /// never ends in here.
    fn body(&self, body: &[Inst], live: &mut Vec<bool>, held: &[bool]) -> Vec<Deaths> {
        let mut notes: Vec<Deaths> = body.iter().rev().map(|inst| self.inst(inst, live, held)).collect();
        notes.reverse();
        notes
    }

    fn inst(&self, inst: &Inst, live: &mut Vec<bool>, held: &[bool]) -> Deaths {
        if let Inst::Loop { trips: count, body } = inst {
            return self.repeat(*count, body, live, held);
        }
        // An instruction touches few registers, and most end nowhere: no list is made for nothing.
        let mut dead = Vec::new();
        let mut touch = |r: Index| {
            if !live[r] && !held[r] {
                dead.push(r);
            }
        };
        let vector_write = inst.vector_write().map(|v| v.0 as usize);
        let int_write = inst.int_write().map(|r| self.int(r));
        inst.vector_reads(|v| touch(v.0 as usize));
        inst.int_reads(|r| touch(self.int(r)));
        vector_write.into_iter().chain(int_write).for_each(&mut touch);
        dead.sort_unstable();
        dead.dedup();
        vector_write.into_iter().chain(int_write).for_each(|r| live[r] = false);
        inst.vector_reads(|v| live[v.0 as usize] = true);
        inst.int_reads(|r| live[self.int(r)] = true);
        Deaths { dead, ..Deaths::default() }
    }

    fn repeat(&self, count: Trips, body: &[Inst], live: &mut Vec<bool>, held: &[bool]) -> Deaths {
        let after = live.clone();
        // What one more round needs is live at the end of a round. Since the set of registers that a body reads
        // before writing them does not depend on what is live after it, one look suffices.
        let mut head = after.clone();
        self.body(body, &mut head, held);
        if matches!(count, Trips::Param(_)) {
            head.iter_mut().zip(&after).for_each(|(h, a)| *h |= a);
        }
        let inside: Vec<bool> = held.iter().zip(&head).map(|(a, b)| *a || *b).collect();
        let mut end: Vec<bool> = after.iter().zip(&head).map(|(a, b)| *a || *b).collect();
        let notes = self.body(body, &mut end, &inside);

        let mut count_dies = false;
        let mut ends = head.clone();
        *live = head;
        if let Trips::Param(p) = count {
            let p = self.int(p);
            count_dies = !live[p] && !held[p];
            live[p] = true;
            ends[p] = true;
        }
        let dead = (0..ends.len()).filter(|&r| ends[r] && !after[r] && !held[r]).collect();
        Deaths { dead, body: notes, count_dies }
    }
}

struct ProgramWalk<'a> {
    program: &'a TileProgram,
    file: RegisterFile,
    sink: &'a mut dyn Sink,
    regs: Regs,
    free_vectors: Vec<bool>,
    free_ints: Vec<bool>,
    /// Vector registers up to the last that was taken.
    used: u32,
}

impl ProgramWalk<'_> {
    fn take_vector(&mut self) -> Result<u8, TileError> {
        let free =
            self.free_vectors.iter().position(|free| *free).ok_or_else(|| TileError::VectorPressure {
                program: self.program.name.clone(),
                isa: self.file.isa,
                available: self.file.vectors,
            })?;
        self.free_vectors[free] = false;
        self.used = self.used.max(free as u32 + 1);
        Ok(free as u8)
    }

    fn take_int(&mut self) -> Result<u8, TileError> {
        // From the end, so that parameters which arrive in the first registers are not in the way.
        let free = self.free_ints.iter().rposition(|free| *free).ok_or_else(|| TileError::IntPressure {
            program: self.program.name.clone(),
            available: self.file.ints,
        })?;
        self.free_ints[free] = false;
        Ok(free as u8)
    }

    /// The register parameters stay where they arrive; those on the stack get a register.
    fn parameters(&mut self, live: &[bool]) -> Result<(), TileError> {
        const IN_REGISTERS: usize = 6;
        let first = self.program.vectors.len();
        let wanted = |i: usize| live[first + i];
        for i in (0..self.program.params.len().min(IN_REGISTERS)).filter(|&i| wanted(i)) {
            self.regs.ints[i] = Some(i as u8);
            self.free_ints[i] = false;
        }
        for i in (IN_REGISTERS..self.program.params.len()).filter(|&i| wanted(i)) {
            self.regs.ints[i] = Some(self.take_int()?);
        }
        Ok(())
    }

    fn body(&mut self, body: &[Inst], notes: &[Deaths]) -> Result<(), TileError> {
        for (inst, note) in body.iter().zip(notes) {
            match inst {
                Inst::Loop { trips: count, body } => self.repeat(*count, body, note)?,
                _ => self.inst(inst)?,
            }
            note.dead.iter().for_each(|&r| self.end(r));
        }
        Ok(())
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), TileError> {
        if let Some(v) = inst.vector_write()
            && self.regs.vector(v).is_empty()
        {
            let mut pieces = Pieces::default();
            for reg in pieces.regs.iter_mut().take(self.file.pieces(self.program.lanes(v))) {
                *reg = self.take_vector()?;
                pieces.len += 1;
            }
            self.regs.vectors[v.0 as usize] = pieces;
        }
        if let Some(r) = inst.int_write()
            && self.regs.int(r).is_none()
        {
            self.regs.ints[r.0 as usize] = Some(self.take_int()?);
        }
        for _ in 0..self.sink.temps(inst, self.program) {
            let temp = self.take_vector()?;
            self.regs.temps.push(temp);
        }
        self.sink.inst(inst, &self.regs)?;
        for temp in self.regs.temps.drain(..) {
            self.free_vectors[temp as usize] = true;
        }
        Ok(())
    }

    fn repeat(&mut self, count: Trips, body: &[Inst], note: &Deaths) -> Result<(), TileError> {
        let source = match count {
            Trips::Param(p) => self.regs.int(p),
            Trips::Imm(_) => None,
        };
        let counter = match source {
            Some(reg) if note.count_dies => Counter { reg, count, from: None },
            from => Counter { reg: self.take_int()?, count, from },
        };
        self.sink.begin(counter)?;
        self.body(body, &note.body)?;
        self.sink.end(counter)?;
        if source != Some(counter.reg) {
            self.free_ints[counter.reg as usize] = true;
        }
        Ok(())
    }

    fn end(&mut self, r: Index) {
        match r.checked_sub(self.program.vectors.len()) {
            None => {
                for &reg in std::mem::take(&mut self.regs.vectors[r]).as_slice() {
                    self.free_vectors[reg as usize] = true;
                }
            }
            Some(int) => {
                if let Some(reg) = self.regs.ints[int].take() {
                    self.free_ints[reg as usize] = true;
                }
            }
        }
    }
}
