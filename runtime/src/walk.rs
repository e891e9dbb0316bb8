//! Walking through a program: which calls follow each other, and who does what of them.
//!
//! A [`Turn`] is what the threads do between two moments at which they wait for each other: one step, whose units they
//! claim, or neighbouring steps that run strip by strip, whose strips they claim. In a strip a thread is alone: it calls
//! step after step, with base pointers of its own wherever these lead into the strip's buffers.
//!
//! ```text
//!   turns      step 0          steps 1, 2, 3 in 8 strips                        step 4
//!   thread 0   units 0..14 │   strips 0..4: ┌ 1: 0..9   2: 0..4    3: 0..28 …   │ …
//!   thread 1   units 14..28│   strips 4..8: └ 1: 31..41 2: 16..20  3: 112..140  │ …
//! ```
//!
//! The turns of a loop are walked through again and again ([`crate::rounds`]), each time as if they were others; base pointers that
//! move on are computed by whoever makes the call.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::abi::{Arg, Denormals, LayerFn, Region, Repeat, Strips};
use crate::claims::{Claims, is_over};
use crate::fpenv::Environment;
use crate::pool::Member;
use crate::program::Program;
use crate::rounds::{Round, Verdicts};

/// Keeps the base pointers of two threads on different cache lines.
const GAP: usize = 16;

/// All turns of a program, resolved as far as they are the same in every run.
#[derive(Default)]
pub(crate) struct Schedule {
    calls: Vec<Call>,
    turns: Vec<Turn>,
    repeats: Vec<Circuit>,
    way: Vec<Stop>,
    own_bases: usize,
    denormals: Denormals,
}

/// The way through a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// A turn, by its number.
    Turn(usize),
    /// The beginning of a repeat, by its number.
    Enter(usize),
    /// The end of an iteration.
    Again(usize),
}

/// A repeat on the way.
struct Circuit {
    trips: u64,
    /// The byte of the arena that says whether it goes on.
    going: Option<usize>,
    /// Index on the way of its first stop, and of the first one behind it.
    first: usize,
    behind: usize,
}

struct Call {
    func: LayerFn,
    units: u32,
    /// Indices of the step's base pointers.
    bases: Range<usize>,
    /// Those that move on, counted from the first: with which repeat, and by how many bytes.
    moves: Vec<Moved>,
}

struct Moved {
    arg: usize,
    repeat: usize,
    stride: i64,
}

struct Turn {
    calls: Range<usize>,
    /// Units of the one step, or strips.
    units: u32,
    /// Whether the next turn waits until this one is done.
    barrier: bool,
    strips: Option<Bands>,
    /// The innermost repeat that it is in.
    repeat: Option<usize>,
}

/// How some calls run strip by strip.
struct Bands {
    /// Their base pointers, all of them.
    bases: Range<usize>,
    /// Those that lead into a strip's buffers, counted from the first.
    own: Vec<usize>,
    /// For each strip, each of these pointers as a distance from the thread's scratch, modulo the address space: buffers
    /// are seen as the whole tensors of which they hold a part.
    distances: Vec<usize>,
    /// For each strip, the units of each call.
    units: Vec<Range<u32>>,
}

impl Schedule {
    /// The turns of a program, which is verified.
    pub(crate) fn of(program: &Program) -> Schedule {
        let desc = program.desc();
        let mut schedule = Schedule { denormals: desc.denormals, ..Schedule::default() };
        let mut bases = 0;
        for step in &desc.steps {
            let end = bases + step.args.len();
            // The table has a function for each index: that was verified.
            if let Some(func) = program.func(step.func) {
                schedule.calls.push(Call { func, units: step.units, bases: bases..end, moves: Vec::new() });
            }
            bases = end;
        }
        for (repeat, moved) in
            desc.repeats.iter().enumerate().flat_map(|(at, repeat)| repeat.moves.iter().map(move |m| (at, m)))
        {
            if let Some(call) = schedule.calls.get_mut(moved.step as usize) {
                call.moves.push(Moved { arg: moved.arg as usize, repeat, stride: moved.stride });
            }
        }
        let mut strips = desc.strips.iter().peekable();
        let mut at = 0;
        while let Some(call) = schedule.calls.get(at) {
            let turn = match strips.next_if(|group| group.first as usize == at) {
                Some(group) => {
                    let bands = Bands::of(program, group, &schedule.calls);
                    let units = group.strips.len() as u32;
                    let strips = Some(bands);
                    Turn { calls: group.steps(), units, barrier: true, strips, repeat: None }
                }
                None => {
                    Turn { calls: at..at + 1, units: call.units, barrier: true, strips: None, repeat: None }
                }
            };
            at = turn.calls.end;
            schedule.turns.push(turn);
        }
        let bands = schedule.turns.iter().filter_map(|turn| turn.strips.as_ref());
        let bands = bands.map(|bands| bands.bases.len());
        let moved = schedule.calls.iter().filter(|call| !call.moves.is_empty()).map(|call| call.bases.len());
        schedule.own_bases = bands.chain(moved).max().map_or(0, |most| most + GAP);
        schedule.lay_way(&desc.repeats);
        // Single units are all done by one thread, the caller, in order, so it need not wait for itself.
        let single = |stop: &Stop| match stop {
            Stop::Turn(turn) => schedule.turns.get(*turn).is_some_and(|turn| turn.units == 1),
            Stop::Enter(_) | Stop::Again(_) => false,
        };
        let singles: Vec<bool> = schedule.way.iter().map(single).collect();
        for (at, stop) in schedule.way.iter().enumerate() {
            let Stop::Turn(turn) = *stop else { continue };
            let last = at + 1 == singles.len();
            let alone = singles.get(at) == Some(&true) && (last || singles.get(at + 1) == Some(&true));
            if let Some(turn) = schedule.turns.get_mut(turn) {
                turn.barrier = !alone;
            }
        }
        schedule
    }

    /// Puts turns and repeats in a row.
    fn lay_way(&mut self, repeats: &[Repeat]) {
        let mut waiting = repeats.iter().enumerate().peekable();
        let mut inside: Vec<(usize, usize)> = Vec::new();
        for (number, turn) in self.turns.iter_mut().enumerate() {
            while let Some((repeat, of)) = waiting.next_if(|(_, of)| of.steps().start == turn.calls.start) {
                self.way.push(Stop::Enter(repeat));
                inside.push((repeat, of.steps().end));
                let (first, going) = (self.way.len(), of.going.map(|at| at as usize));
                self.repeats.push(Circuit { trips: of.trips, going, first, behind: first });
            }
            turn.repeat = inside.last().map(|&(repeat, _)| repeat);
            self.way.push(Stop::Turn(number));
            while let Some((repeat, _)) = inside.pop_if(|(_, end)| *end == turn.calls.end) {
                self.way.push(Stop::Again(repeat));
                if let Some(circuit) = self.repeats.get_mut(repeat) {
                    circuit.behind = self.way.len();
                }
            }
        }
    }

    /// Number of turns.
    pub(crate) fn turns(&self) -> usize {
        self.turns.len()
    }

    /// Number of calls: one for each step.
    pub(crate) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Number of repeats.
    pub(crate) fn repeats(&self) -> usize {
        self.repeats.len()
    }

    /// Room that each thread needs for base pointers of its own.
    pub(crate) fn own_bases(&self) -> usize {
        self.own_bases
    }
}

impl Bands {
    fn of(program: &Program, group: &Strips, calls: &[Call]) -> Bands {
        let steps = program.desc().steps.get(group.steps()).unwrap_or_default();
        let first = calls.get(group.first as usize).map_or(0, |call| call.bases.start);
        let args: Vec<&Arg> = steps.iter().flat_map(|step| &step.args).collect();
        let own: Vec<(usize, &Arg)> = (args.iter().copied().enumerate())
            .filter(|(_, arg)| matches!(arg.region, Region::Strip(_)))
            .collect();
        let distances = group
            .strips
            .iter()
            .flat_map(|strip| own.iter().map(|(_, arg)| group.offset(strip, arg) as usize));
        Bands {
            bases: first..first + args.len(),
            distances: distances.collect(),
            own: own.iter().map(|&(at, ..)| at).collect(),
            units: group.strips.iter().flat_map(|strip| strip.units.iter().cloned()).collect(),
        }
    }

    /// What a strip has of a list with as many entries for each strip.
    fn of_strip<'a, T>(&self, list: &'a [T], strip: usize, each: usize) -> &'a [T] {
        list.get(strip * each..(strip + 1) * each).unwrap_or_default()
    }
}

/// What all threads of a run need: everything is resolved, nothing changes while they walk.
pub(crate) struct Walk<'a> {
    pub schedule: &'a Schedule,
    pub bases: *const *mut u8,
    /// Room for base pointers of each thread's own, [`Schedule::own_bases`] each.
    pub own_bases: *mut *mut u8,
    /// Where each thread's scratch begins.
    pub scratch: &'a [*mut u8],
    pub arena: *const u8,
    /// Where each thread is in each repeat, [`Schedule::repeats`] for each thread.
    pub rounds: *mut Round,
    pub claims: &'a Claims,
    pub verdicts: &'a Verdicts,
    pub nanos: Option<&'a [AtomicU64]>,
}

// SAFETY: the pointers lead into memory of the session, which is borrowed for as long as the walk lasts; layer functions
// write what their units own, and each thread has its own scratch, its own room for base pointers, and its own rounds.
unsafe impl Sync for Walk<'_> {}

impl Walk<'_> {
    /// Does one thread's part of all turns.
    pub(crate) fn turns(&self, member: &Member<'_>) {
        let _environment = Environment::enter(self.schedule.denormals);
        let mut watch = self.nanos.filter(|_| member.is_caller()).map(Watch::start);
        let place = member.place();
        let count = self.schedule.repeats.len();
        // SAFETY: each thread has room for so many rounds, which nobody else uses during the run.
        let rounds =
            unsafe { std::slice::from_raw_parts_mut(self.rounds.add(count * place.0 as usize), count) };
        rounds.fill(Round::default());
        let (mut at, mut verdicts) = (0, 0u32);
        while let Some(&stop) = self.schedule.way.get(at) {
            at += 1;
            let (repeat, again) = match stop {
                Stop::Turn(index) => {
                    let Some(turn) = self.schedule.turns.get(index) else { continue };
                    match place {
                        (thread, 1) => self.units(turn, 0..u64::from(turn.units), thread, rounds, &mut watch),
                        _ => self.turn(index, turn, member, rounds, &mut watch),
                    }
                    if let Some(watch) = &mut watch {
                        watch.lap(turn.calls.end.saturating_sub(1));
                    }
                    continue;
                }
                Stop::Enter(repeat) => (repeat, false),
                Stop::Again(repeat) => (repeat, true),
            };
            let (Some(circuit), Some(round)) = (self.schedule.repeats.get(repeat), rounds.get_mut(repeat))
            else {
                continue;
            };
            round.iteration = if again { round.iteration + 1 } else { 0 };
            let goes_on = match circuit.going.filter(|_| round.iteration < circuit.trips) {
                None => round.iteration < circuit.trips,
                Some(byte) => {
                    verdicts = verdicts.wrapping_add(1);
                    // SAFETY: the byte is in the arena: that was verified. What is before this stop is done.
                    let look = || unsafe { self.arena.add(byte).read() != 0 };
                    match place {
                        (_, 1) => look(),
                        _ => match self.verdicts.verdict(verdicts, member, look) {
                            Some(goes_on) => goes_on,
                            None => return,
                        },
                    }
                }
            };
            if goes_on {
                round.begun = round.begun.wrapping_add(1);
                at = circuit.first;
            } else {
                round.iteration = 0;
                at = circuit.behind;
            }
        }
    }

    /// Does units of a turn as long as there are any, and waits until all are done.
    fn turn(
        &self,
        index: usize,
        turn: &Turn,
        member: &Member<'_>,
        rounds: &[Round],
        watch: &mut Option<Watch<'_>>,
    ) {
        let place = member.place();
        let nth = turn.repeat.and_then(|repeat| rounds.get(repeat)).map_or(1, |round| round.begun);
        let (visit, progress) = (self.claims.visit(index, nth), self.claims.progress(index));
        let mut mine = 0;
        if turn.units > 1 {
            for units in self.claims.of(visit, index, turn.units, place) {
                mine += (units.end - units.start) as u32;
                self.units(turn, units, place.0, rounds, watch);
            }
        } else if member.is_caller() {
            self.units(turn, 0..u64::from(turn.units), place.0, rounds, watch);
            mine = turn.units;
        }
        if progress.count(visit, mine, turn.units) {
            member.wake(progress.visits());
        }
        if turn.barrier {
            member.wait(progress.visits(), |visits| is_over(visit, visits));
        }
    }

    fn units(
        &self,
        turn: &Turn,
        units: Range<u64>,
        thread: u32,
        rounds: &[Round],
        watch: &mut Option<Watch<'_>>,
    ) {
        let Some(calls) = self.schedule.calls.get(turn.calls.clone()) else { return };
        match (&turn.strips, calls) {
            (Some(bands), calls) => {
                for strip in units {
                    self.strip(bands, turn.calls.start, calls, strip as usize, thread, watch);
                }
            }
            // SAFETY: the call's base pointers are resolved and in place.
            (None, [call]) => unsafe { self.call(call, self.moved(call, thread, rounds), units, thread) },
            (None, _) => {}
        }
    }

    /// Does one strip, call after call.
    fn strip(
        &self,
        bands: &Bands,
        first: usize,
        calls: &[Call],
        strip: usize,
        thread: u32,
        watch: &mut Option<Watch<'_>>,
    ) {
        let scratch = self.scratch(thread);
        // SAFETY: each thread has room for `own_bases` pointers, at least as many as these, and nobody else uses it. The
        // pointers that are copied are those of the calls of this turn.
        let own = unsafe {
            let own = self.own_bases.add(self.schedule.own_bases() * thread as usize);
            let shared = self.bases.add(bands.bases.start);
            std::ptr::copy_nonoverlapping(shared, own, bands.bases.len());
            for (&at, &distance) in
                bands.own.iter().zip(bands.of_strip(&bands.distances, strip, bands.own.len()))
            {
                own.add(at).write(scratch.wrapping_add(distance));
            }
            own
        };
        let units = bands.of_strip(&bands.units, strip, calls.len());
        for ((index, call), units) in (first..).zip(calls).zip(units) {
            // SAFETY: the call's pointers begin as far behind the turn's as in the list they are copied from. Units of the
            // steps before that these depend on have been done in this strip.
            unsafe {
                let bases = own.add(call.bases.start - bands.bases.start);
                self.call(call, bases, u64::from(units.start)..u64::from(units.end), thread);
            }
            if let Some(watch) = watch {
                watch.lap(index);
            }
        }
    }

    /// The base pointers of a call in the iterations that a thread is in.
    ///
    /// # Safety
    ///
    /// The pointers are resolved.
    unsafe fn moved(&self, call: &Call, thread: u32, rounds: &[Round]) -> *const *mut u8 {
        // SAFETY: the caller's promise. Each thread has room for `own_bases` pointers, at least as many as these, and nobody
        // else uses it.
        unsafe {
            let shared = self.bases.add(call.bases.start);
            if call.moves.is_empty() {
                return shared;
            }
            let own = self.own_bases.add(self.schedule.own_bases() * thread as usize);
            std::ptr::copy_nonoverlapping(shared, own, call.bases.len());
            for &Moved { arg, repeat, stride } in &call.moves {
                let iteration = rounds.get(repeat).map_or(0, |round| round.iteration);
                let base = own.add(arg);
                base.write(base.read().wrapping_add((iteration as usize).wrapping_mul(stride as usize)));
            }
            own
        }
    }

    fn scratch(&self, thread: u32) -> *mut u8 {
        self.scratch.get(thread as usize).copied().unwrap_or(std::ptr::null_mut())
    }

    /// # Safety
    ///
    /// `bases` leads to the call's base pointers, resolved.
    unsafe fn call(&self, call: &Call, bases: *const *mut u8, units: Range<u64>, thread: u32) {
        if units.is_empty() {
            return;
        }
        // SAFETY: `Program::from_parts` had the promise that the function keeps the contract of `LayerFn`. Nobody else has
        // these units, and what they depend on is done.
        unsafe { (call.func)(bases, units.start, units.end, self.scratch(thread)) };
    }
}

/// The time that the caller spends, step by step.
struct Watch<'a> {
    nanos: &'a [AtomicU64],
    since: Instant,
}

impl<'a> Watch<'a> {
    fn start(nanos: &'a [AtomicU64]) -> Watch<'a> {
        nanos.iter().for_each(|time| time.store(0, Ordering::Relaxed));
        Watch { nanos, since: Instant::now() }
    }

    /// Adds the time since the last lap to a step's.
    fn lap(&mut self, step: usize) {
        let now = Instant::now();
        if let Some(time) = self.nanos.get(step) {
            time.fetch_add((now - self.since).as_nanos() as u64, Ordering::Relaxed);
        }
        self.since = now;
    }
}
