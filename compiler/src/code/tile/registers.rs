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

/// The registers that a leaf function may use.
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
    /// How many of these, the last ones, a function has to save before it uses them.
    pub saved: u32,
}

/// What a program takes of a register file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Vector registers: no other than the first ones.
    pub vectors: u32,
    /// Integer registers that have to be saved: the first ones of these.
    pub saved: u32,
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

/// Walks through a verified program. Parameters arrive in integer registers 0, 1, … as far as they fit.
pub fn assign(
    program: &TileProgram,
    lifetimes: &Lifetimes,
    file: RegisterFile,
    sink: &mut dyn Sink,
) -> Result<Used, TileError> {
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
        used: Used::default(),
        notes: &lifetimes.notes,
    };
    walk.parameters(&lifetimes.at_entry)?;
    walk.sink.enter(&walk.regs)?;
    walk.body(&program.body)?;
    Ok(walk.used)
}

/// Only finds out whether a program fits, and what it takes, given the scratch registers that each instruction needs.
pub fn measure(
    program: &TileProgram,
    lifetimes: &Lifetimes,
    file: RegisterFile,
    scratch: &dyn Fn(&Inst) -> usize,
) -> Result<Used, TileError> {
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
    assign(program, lifetimes, file, &mut Measure(scratch))
}

/// Index of a register of either class in a set of live registers: vectors first.
type Index = u32;

/// Where registers end. A program has the same for any register file.
///
/// The notes are a stack. Going backwards through the program writes them, going forwards takes them off again:
///
/// ```text
///   instruction   the registers that end there, how many these are
///   loop          the registers that end with it, how many; the notes of its body; whether its count parameter ends
/// ```
#[derive(Debug)]
pub struct Lifetimes {
    notes: Vec<Index>,
    /// What is live where the program begins.
    at_entry: Vec<bool>,
}

impl Lifetimes {
    /// Those of a verified program.
    pub fn of(program: &TileProgram) -> Lifetimes {
        let mut live = vec![false; program.vectors.len() + program.ints as usize];
        let held = live.clone();
        let mut liveness = Liveness { vectors: program.vectors.len() as Index, notes: Vec::new() };
        liveness.body(&program.body, &mut live, &held);
        Lifetimes { notes: liveness.notes, at_entry: live }
    }
}

/// Goes backwards through a program.
struct Liveness {
    /// How many vector registers there are.
    vectors: Index,
    notes: Vec<Index>,
}

impl Liveness {
    fn int(&self, r: Int) -> usize {
        (self.vectors + r.0) as usize
    }

    /// `live` is what is live after a body, and becomes what is live before it; `held` never ends in here.
    fn body(&mut self, body: &[Inst], live: &mut Vec<bool>, held: &[bool]) {
        for inst in body.iter().rev() {
            match inst {
                Inst::Loop { trips, body } => self.repeat(*trips, body, live, held),
                _ => self.inst(inst, live, held),
            }
        }
    }

    fn inst(&mut self, inst: &Inst, live: &mut [bool], held: &[bool]) {
        let before = self.notes.len();
        let vector_write = inst.vector_write().map(|v| v.0 as usize);
        let int_write = inst.int_write().map(|r| self.int(r));
        let mut touch = |r: usize| {
            if !live[r] && !held[r] {
                self.notes.push(r as Index);
            }
            live[r] = true;
        };
        // What is read twice, or read and written, ends once: it is live by then.
        let (mut vector_read, mut int_read) = (false, false);
        inst.vector_reads(|v| {
            let v = v.0 as usize;
            vector_read |= vector_write == Some(v);
            touch(v);
        });
        let first = self.vectors;
        inst.int_reads(|r| {
            let r = (first + r.0) as usize;
            int_read |= int_write == Some(r);
            touch(r);
        });
        for (write, read) in [(vector_write, vector_read), (int_write, int_read)] {
            if let (Some(write), false) = (write, read) {
                if !live[write] && !held[write] {
                    self.notes.push(write as Index);
                }
                live[write] = false;
            }
        }
        self.notes.push((self.notes.len() - before) as Index);
    }

    fn repeat(&mut self, count: Trips, body: &[Inst], live: &mut Vec<bool>, held: &[bool]) {
        let after = live.clone();
        // What one more round needs is live at the end of a round. Since the set of registers that a body reads
        // before writing them does not depend on what is live after it, one look suffices.
        let head = self.head(count, body, &after);
        let counter = match count {
            Trips::Param(p) => Some(self.int(p)),
            Trips::Imm(_) => None,
        };
        let before = self.notes.len();
        let ends = |r: &usize| (head[*r] || counter == Some(*r)) && !after[*r] && !held[*r];
        self.notes.extend((0..head.len()).filter(ends).map(|r| r as Index));
        self.notes.push((self.notes.len() - before) as Index);

        let inside: Vec<bool> = held.iter().zip(&head).map(|(a, b)| *a || *b).collect();
        let mut end: Vec<bool> = after.iter().zip(&head).map(|(a, b)| *a || *b).collect();
        self.body(body, &mut end, &inside);

        *live = head;
        let mut count_ends = false;
        if let Some(p) = counter {
            count_ends = !live[p] && !held[p];
            live[p] = true;
        }
        self.notes.push(count_ends.into());
    }

    /// What is live at the head of a loop, its count aside.
    fn head(&self, count: Trips, body: &[Inst], after: &[bool]) -> Vec<bool> {
        let mut head = after.to_vec();
        self.before(body, &mut head);
        if matches!(count, Trips::Param(_)) {
            head.iter_mut().zip(after).for_each(|(h, a)| *h |= a);
        }
        head
    }

    /// Makes what is live after a body what is live before it, and notes nothing.
    fn before(&self, body: &[Inst], live: &mut Vec<bool>) {
        for inst in body.iter().rev() {
            if let Inst::Loop { trips, body } = inst {
                *live = self.head(*trips, body, live);
                if let Trips::Param(p) = trips {
                    live[self.int(*p)] = true;
                }
                continue;
            }
            if let Some(v) = inst.vector_write() {
                live[v.0 as usize] = false;
            }
            if let Some(r) = inst.int_write() {
                live[self.int(r)] = false;
            }
            inst.vector_reads(|v| live[v.0 as usize] = true);
            inst.int_reads(|r| live[self.int(r)] = true);
        }
    }
}

struct ProgramWalk<'a> {
    program: &'a TileProgram,
    file: RegisterFile,
    sink: &'a mut dyn Sink,
    regs: Regs,
    free_vectors: Vec<bool>,
    free_ints: Vec<bool>,
    used: Used,
    /// Those of [`Lifetimes`] that are still to be taken.
    notes: &'a [Index],
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
        self.used.vectors = self.used.vectors.max(free as u32 + 1);
        Ok(free as u8)
    }

    fn take_int(&mut self) -> Result<u8, TileError> {
        let RegisterFile { ints, saved, .. } = self.file;
        let first_saved = ints.saturating_sub(saved);
        // From the end, so that parameters which arrive in the first registers are not in the way.
        let mut order = (0..first_saved).rev().chain(first_saved..ints);
        let free = order
            .find(|&reg| self.free_ints[reg as usize])
            .ok_or_else(|| TileError::IntPressure { program: self.program.name.clone(), available: ints })?;
        self.used.saved = self.used.saved.max((free + 1).saturating_sub(first_saved));
        let free = free as usize;
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

    fn body(&mut self, body: &[Inst]) -> Result<(), TileError> {
        for inst in body {
            match inst {
                Inst::Loop { trips: count, body } => self.repeat(*count, body)?,
                _ => self.inst(inst)?,
            }
            let count = self.note() as usize;
            let (rest, ends) = self.notes.split_at(self.notes.len().saturating_sub(count));
            self.notes = rest;
            ends.iter().for_each(|&r| self.end(r as usize));
        }
        Ok(())
    }

    /// The next note.
    fn note(&mut self) -> Index {
        let Some((&note, rest)) = self.notes.split_last() else { return 0 };
        self.notes = rest;
        note
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

    fn repeat(&mut self, count: Trips, body: &[Inst]) -> Result<(), TileError> {
        let count_ends = self.note() != 0;
        let source = match count {
            Trips::Param(p) => self.regs.int(p),
            Trips::Imm(_) => None,
        };
        let counter = match source {
            Some(reg) if count_ends => Counter { reg, count, from: None },
            from => Counter { reg: self.take_int()?, count, from },
        };
        self.sink.begin(counter)?;
        self.body(body)?;
        self.sink.end(counter)?;
        if source != Some(counter.reg) {
            self.free_ints[counter.reg as usize] = true;
        }
        Ok(())
    }

    fn end(&mut self, r: usize) {
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
