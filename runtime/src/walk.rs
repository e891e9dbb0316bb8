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

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::abi::{Arg, Denormals, LayerFn, Region, Strips};
use crate::claims::Claims;
use crate::fpenv::Environment;
use crate::pool::Member;
use crate::program::Program;

/// Keeps the base pointers of two threads on different cache lines.
const GAP: usize = 16;

/// All turns of a program, resolved as far as they are the same in every run.
#[derive(Default)]
pub(crate) struct Schedule {
    calls: Vec<Call>,
    turns: Vec<Turn>,
    own_bases: usize,
    denormals: Denormals,
}

struct Call {
    func: LayerFn,
    units: u32,
    /// Index of the step's first base pointer.
    bases: usize,
}

struct Turn {
    calls: Range<usize>,
    /// Units of the one step, or strips.
    units: u32,
    /// Whether the next turn waits until this one is done.
    barrier: bool,
    strips: Option<Bands>,
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
            // The table has a function for each index: that was verified.
            if let Some(func) = program.func(step.func) {
                schedule.calls.push(Call { func, units: step.units, bases });
            }
            bases += step.args.len();
        }
        let mut strips = desc.strips.iter().peekable();
        let mut at = 0;
        while let Some(call) = schedule.calls.get(at) {
            let turn = match strips.next_if(|group| group.first as usize == at) {
                Some(group) => {
                    let bands = Bands::of(program, group, &schedule.calls);
                    let units = group.strips.len() as u32;
                    Turn { calls: group.steps(), units, barrier: true, strips: Some(bands) }
                }
                None => Turn { calls: at..at + 1, units: call.units, barrier: true, strips: None },
            };
            at = turn.calls.end;
            schedule.turns.push(turn);
        }
        let bands = schedule.turns.iter().filter_map(|turn| turn.strips.as_ref());
        schedule.own_bases = bands.map(|bands| bands.bases.len() + GAP).max().unwrap_or(0);
        // Single units are all done by one thread, the caller, in order, so it need not wait for itself.
        let single: Vec<bool> = schedule.turns.iter().map(|turn| turn.units == 1).collect();
        for (turn, pair) in schedule.turns.iter_mut().zip(single.windows(2)) {
            turn.barrier = pair != [true, true];
        }
        if let Some(last) = schedule.turns.last_mut() {
            last.barrier = last.units > 1;
        }
        schedule
    }

    /// Number of turns.
    pub(crate) fn turns(&self) -> usize {
        self.turns.len()
    }

    /// Number of calls: one for each step.
    pub(crate) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Room that each thread needs for base pointers of its own.
    pub(crate) fn own_bases(&self) -> usize {
        self.own_bases
    }
}

impl Bands {
    fn of(program: &Program, group: &Strips, calls: &[Call]) -> Bands {
        let steps = program.desc().steps.get(group.steps()).unwrap_or_default();
        let first = calls.get(group.first as usize).map_or(0, |call| call.bases);
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
    pub claims: &'a Claims,
    pub run: u32,
    pub nanos: Option<&'a [AtomicU64]>,
}

// SAFETY: the pointers lead into memory of the session, which is borrowed for as long as the walk lasts; layer functions
// write what their units own, and each thread has its own scratch and its own room for base pointers.
unsafe impl Sync for Walk<'_> {}

impl Walk<'_> {
    /// Does one thread's part of all turns.
    pub(crate) fn turns(&self, member: &Member<'_>) {
        let _environment = Environment::enter(self.schedule.denormals);
        let mut watch = self.nanos.filter(|_| member.is_caller()).map(Watch::start);
        for (index, turn) in self.schedule.turns.iter().enumerate() {
            match member.place() {
                (thread, 1) => self.units(turn, 0..u64::from(turn.units), thread, &mut watch),
                place => self.turn(index, turn, member, place, &mut watch),
            }
            if let Some(watch) = &mut watch {
                watch.lap(turn.calls.end.saturating_sub(1));
            }
        }
    }

    /// Does units of a turn as long as there are any, and waits until all are done.
    fn turn(
        &self,
        index: usize,
        turn: &Turn,
        member: &Member<'_>,
        place: (u32, u32),
        watch: &mut Option<Watch<'_>>,
    ) {
        let done = self.claims.done(self.run, index, turn.units);
        if turn.units > 1 {
            let mut mine = 0;
            for units in self.claims.of(self.run, index, turn.units, place) {
                mine += (units.end - units.start) as u32;
                self.units(turn, units, place.0, watch);
            }
            member.count(done, mine);
        } else if member.is_caller() {
            self.units(turn, 0..u64::from(turn.units), place.0, watch);
            member.count(done, turn.units);
        }
        if turn.barrier {
            member.wait(done);
        }
    }

    fn units(&self, turn: &Turn, units: Range<u64>, thread: u32, watch: &mut Option<Watch<'_>>) {
        let Some(calls) = self.schedule.calls.get(turn.calls.clone()) else { return };
        match (&turn.strips, calls) {
            (Some(bands), calls) => {
                for strip in units {
                    self.strip(bands, turn.calls.start, calls, strip as usize, thread, watch);
                }
            }
            // SAFETY: the call's base pointers are resolved and in place.
            (None, [call]) => unsafe { self.call(call, self.bases.add(call.bases), units, thread) },
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
                let bases = own.add(call.bases - bands.bases.start);
                self.call(call, bases, u64::from(units.start)..u64::from(units.end), thread);
            }
            if let Some(watch) = watch {
                watch.lap(index);
            }
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
