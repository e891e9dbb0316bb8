//! Which bytes a layer function can touch: its trace, gone through once with ranges for indices.
//!
//! Each symbol has a range; a loop gives one to its index, a condition narrows it, and a kernel touches the bytes that it is
//! verified for ([`tile::verify`](crate::code::tile::verify)) around every address that its pointers can have. Nothing is
//! enumerated: a layer of a thousand tiles costs as much as one of two.
//!
//! A sum of ranges loses how its parts depend on each other, so two things are cut into cases in which they are independent:
//!
//! ```text
//!   u / 14 and u % 14, for u in 27..58        {1} × 13..14,   2..4 × 0..14,   {4} × 0..2
//!   at least(1 - y, 0), for y in 0..56        {0} gives 1,    1..56 gives 0
//! ```
//!
//! The second one is a window that hangs over the border: the rows above are left out where, and only where, there are any.

use std::collections::BTreeMap;
use std::ops::Range;

use super::trace::{Act, Base, Monotone, Symbol, Term, TermId, Trace};
use crate::code::tile::ir::{ByteRange, Param, ParamKind, ParamRole, TileProgram};
use crate::code::tile::verify;
use crate::code::tile::{TileError, verify::Assume};

/// What a layer function can touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// How many base pointers it loads.
    pub bases: usize,
    /// From the lowest byte to one past the highest, from each pointer; whether they are written.
    pub touched: BTreeMap<(Base, bool), ByteRange>,
    /// Tables whose entries say where more is read.
    pub tables: BTreeMap<TableAt, Vec<TableClass>>,
}

/// A table of displacements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableAt {
    /// The base pointer that it is counted from.
    pub table: usize,
    /// Its first byte.
    pub at: i64,
    /// The base pointer that its entries are added to.
    pub input: usize,
}

/// TableClass of a table that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableClass {
    /// Their number.
    pub entries: u32,
    /// The values that the kernel takes them to have.
    pub values: ByteRange,
    /// What is read around where each of them leads.
    pub read: ByteRange,
}

/// Why it cannot be told what a layer function touches.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReachError {
    /// A kernel gets an address that is no sum over indices.
    #[error("the address that a kernel gets for {0:?} cannot be followed")]
    Address(ParamRole),
    /// A loop whose bounds are no sums over indices.
    #[error("the bounds of a loop cannot be followed")]
    Loop,
    /// What is divided may be negative.
    #[error("the index {0:?} is divided, and may be negative")]
    Negative(Range<i64>),
    /// A kernel is asked for more rounds than it has been verified for.
    #[error("a kernel is asked for {asked:?} of {role:?}, of which there are at most {most}")]
    Count {
        /// Which number.
        role: ParamRole,
        /// How many at least, and at most.
        asked: Range<i64>,
        /// How many it may.
        most: u32,
    },
    /// Numbers that do not fit.
    #[error("an address overflows")]
    Overflow,
    /// A kernel is not well formed.
    #[error(transparent)]
    Tile(#[from] TileError),
}

impl Trace {
    /// What the function touches when it is called for any part of some units.
    pub fn reach(&self, programs: &[TileProgram], units: Range<u64>) -> Result<Reach, ReachError> {
        let mut walk = TraceWalk {
            trace: self,
            programs,
            intervals: vec![Interval { low: 0, high: 0 }; self.symbols],
            reach: Reach { bases: self.bases, ..Reach::default() },
            footprints: BTreeMap::new(),
        };
        let bound = |at: u64| i64::try_from(at).map_err(|_| ReachError::Overflow);
        let units = Interval { low: bound(units.start)?, high: bound(units.end)? };
        walk.set(Symbol::BEGIN, units);
        walk.set(Symbol::END, units);
        walk.body(&self.acts)?;
        Ok(walk.reach)
    }
}

/// Numbers from the least to the largest, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval {
    low: i64,
    high: i64,
}

impl Interval {
    fn one(n: i64) -> Interval {
        Interval { low: n, high: n }
    }

    fn is_one(self) -> bool {
        self.low == self.high
    }
}

/// What a kernel touches through each parameter, at some count of kernel rows and through some class of a table.
type Footprints = BTreeMap<(usize, Assume), Vec<ByteRange>>;

struct TraceWalk<'a> {
    trace: &'a Trace,
    programs: &'a [TileProgram],
    intervals: Vec<Interval>,
    reach: Reach,
    footprints: Footprints,
}

impl<'a> TraceWalk<'a> {
    fn term(&self, id: TermId) -> Option<&'a Term> {
        self.trace.term(id)
    }

    fn get(&self, symbol: Symbol) -> Interval {
        self.intervals.get(symbol.0 as usize).copied().unwrap_or(Interval { low: i64::MIN, high: i64::MAX })
    }

    fn set(&mut self, symbol: Symbol, interval: Interval) {
        if let Some(known) = self.intervals.get_mut(symbol.0 as usize) {
            *known = interval;
        }
    }

    /// The values of a term, counted from its base.
    fn interval(&self, term: &Term) -> Result<Interval, ReachError> {
        let mut sum = Interval::one(term.constant);
        for (symbol, factor) in term.parts() {
            let Interval { low, high } = self.get(symbol);
            let (low, high) = if factor < 0 { (high, low) } else { (low, high) };
            let add = |to: i64, n: i64| n.checked_mul(factor).and_then(|n| to.checked_add(n));
            let (low, high) = (add(sum.low, low), add(sum.high, high));
            sum = Interval { low: low.ok_or(ReachError::Overflow)?, high: high.ok_or(ReachError::Overflow)? };
        }
        Ok(sum)
    }

    fn body(&mut self, acts: &[Act]) -> Result<(), ReachError> {
        let mut rest = acts;
        while let Some((act, behind)) = rest.split_first() {
            rest = behind;
            match act {
                Act::Divide { value, by, quotient, remainder } => {
                    let cases = self.divided(self.term(*value), *by)?;
                    let several = cases.len() > 1;
                    let (told_apart, behind) = self.split(several, rest, [*quotient, *remainder]);
                    for (q, r) in cases {
                        self.set(*quotient, q);
                        self.set(*remainder, r);
                        self.body(told_apart)?;
                    }
                    rest = behind;
                }
                Act::Apply { function, value, result } => {
                    let cases = self.applied(*function, self.term(*value))?;
                    let several = cases.iter().any(|(symbol, _)| symbol.is_some());
                    let (told_apart, behind) = self.split(several, rest, [*result]);
                    for (x, y) in cases {
                        self.set(*result, y);
                        let Some((symbol, interval)) = x else { continue };
                        let before = self.get(symbol);
                        self.set(symbol, interval);
                        self.body(told_apart)?;
                        self.set(symbol, before);
                    }
                    rest = behind;
                }
                Act::Loop { index, from, to, body } => {
                    let (Some(from), Some(to)) = (self.term(*from), self.term(*to)) else {
                        return Err(ReachError::Loop);
                    };
                    let (low, end) = (self.interval(from)?.low, self.interval(to)?.high);
                    if low < end {
                        self.set(*index, Interval { low, high: end - 1 });
                        self.body(body)?;
                    }
                }
                Act::When { value, within, body } => self.when(self.term(*value), within, body)?,
                Act::Call { program, args } => self.call(*program, args)?,
            }
        }
        Ok(())
    }

    /// Acts up to the last one for which it matters which case of some symbols it is, and those behind: cases of one thing after
    /// the other add up, only cases within cases multiply. Where there are not `several` cases, it matters to none.
    fn split<'b, const N: usize>(
        &self,
        several: bool,
        acts: &'b [Act],
        symbols: [Symbol; N],
    ) -> (&'b [Act], &'b [Act]) {
        let mut dependent = symbols.to_vec();
        let mut end = 0;
        for (at, act) in acts.iter().enumerate().filter(|_| several) {
            if self.depends(act, &mut dependent) {
                end = at + 1;
            }
        }
        acts.split_at(end)
    }

    /// Whether an act, or one in its body, has to do with some symbols; what it computes from them is added to these.
    fn depends(&self, act: &Act, symbols: &mut Vec<Symbol>) -> bool {
        let has = |id: &TermId, symbols: &[Symbol]| {
            self.term(*id).is_some_and(|term| term.parts().any(|(symbol, _)| symbols.contains(&symbol)))
        };
        // All of the body, as each act may add to the symbols.
        let in_body = |body: &[Act], symbols: &mut Vec<Symbol>| {
            let acts: Vec<bool> = body.iter().map(|act| self.depends(act, symbols)).collect();
            acts.contains(&true)
        };
        match act {
            Act::Divide { value, quotient, remainder, .. } if has(value, symbols) => {
                symbols.extend([*quotient, *remainder]);
                true
            }
            Act::Apply { value, result, .. } if has(value, symbols) => {
                symbols.push(*result);
                true
            }
            Act::Divide { .. } | Act::Apply { .. } => false,
            Act::Loop { index, from, to, body } => {
                let bounds = has(from, symbols) || has(to, symbols);
                symbols.extend(bounds.then_some(*index));
                in_body(body, symbols) || bounds
            }
            Act::When { value, body, .. } => {
                let condition = has(value, symbols);
                in_body(body, symbols) || condition
            }
            Act::Call { args, .. } => args.iter().any(|arg| has(arg, symbols)),
        }
    }

    /// The cases of a quotient and a remainder.
    fn divided(&self, value: Option<&Term>, by: i64) -> Result<Vec<(Interval, Interval)>, ReachError> {
        let whole = Interval { low: 0, high: by - 1 };
        let Some(value) = value else {
            return Ok(vec![(Interval { low: 0, high: i64::MAX }, whole)]);
        };
        let Interval { low, high } = self.interval(value)?;
        if low < 0 || by < 1 {
            return Err(ReachError::Negative(low..high));
        }
        let (mut first, mut last) = (low / by, high / by);
        let (from, to) = (low % by, high % by);
        if first == last {
            return Ok(vec![(Interval::one(first), Interval { low: from, high: to })]);
        }
        let mut cases = Vec::new();
        if from != 0 {
            cases.push((Interval::one(first), Interval { low: from, high: by - 1 }));
            first += 1;
        }
        if to != by - 1 {
            cases.push((Interval::one(last), Interval { low: 0, high: to }));
            last -= 1;
        }
        if first <= last {
            cases.push((Interval { low: first, high: last }, whole));
        }
        Ok(cases)
    }

    /// The cases of a function: in each, a symbol has a range, and the function a value. One case without a symbol where there
    /// is nothing to tell apart.
    fn applied(
        &self,
        function: Monotone,
        value: Option<&Term>,
    ) -> Result<Vec<(Option<(Symbol, Interval)>, Interval)>, ReachError> {
        let Some(value) = value else {
            return Ok(vec![(None, Interval { low: i64::MIN, high: i64::MAX })]);
        };
        let of = |x: i64| function.of(x).ok_or(ReachError::Overflow);
        let Interval { low, high } = self.interval(value)?;
        // Where a share of the units begins and ends is up to the threads.
        let given = |symbol: Symbol| matches!(symbol, Symbol::BEGIN | Symbol::END);
        let mut wide = value.parts().filter(|&(s, _)| !given(s) && !self.get(s).is_one());
        let (Some((symbol, factor)), None, false) =
            (wide.next(), wide.next(), value.parts().any(|(s, _)| given(s)))
        else {
            return Ok(vec![(None, Interval { low: of(low)?, high: of(high)? })]);
        };
        let range = self.get(symbol);
        // The term where the symbol is 0: both products have been made without overflow for the interval.
        let least = if factor < 0 { range.high } else { range.low };
        let rest = low.checked_sub(least * factor).ok_or(ReachError::Overflow)?;
        let mut cases: Vec<(Option<(Symbol, Interval)>, Interval)> = Vec::new();
        for x in range.low..=range.high {
            let y = of(rest + x * factor)?;
            match cases.last_mut() {
                Some((Some((_, interval)), last)) if last.low == y => interval.high = x,
                _ => cases.push((Some((symbol, Interval::one(x))), Interval::one(y))),
            }
        }
        Ok(cases)
    }

    fn when(&mut self, value: Option<&Term>, within: &Range<i64>, body: &[Act]) -> Result<(), ReachError> {
        let Some(value) = value else { return self.body(body) };
        let interval = self.interval(value)?;
        let inside =
            Interval { low: interval.low.max(within.start), high: interval.high.min(within.end - 1) };
        if inside.low > inside.high {
            return Ok(());
        }
        let mut wide = value.parts().filter(|&(s, _)| !self.get(s).is_one());
        match (wide.next(), wide.next()) {
            (Some((symbol, 1)), None) => {
                let before = self.get(symbol);
                let rest = interval.low - before.low;
                self.set(symbol, Interval { low: inside.low - rest, high: inside.high - rest });
                self.body(body)?;
                self.set(symbol, before);
                Ok(())
            }
            _ => self.body(body),
        }
    }

    fn call(&mut self, number: usize, args: &[TermId]) -> Result<(), ReachError> {
        let Some(program) = self.programs.get(number) else { return Err(ReachError::Overflow) };
        let mut rows = None;
        for (param, &term) in program.params.iter().zip(args) {
            let ParamKind::Count { max } = param.kind else { continue };
            let interval = self.interval(self.term(term).ok_or(ReachError::Address(param.role))?)?;
            if interval.low < 0 || interval.high > max.into() {
                let (role, asked) = (param.role, interval.low..interval.high);
                return Err(ReachError::Count { role, asked, most: max });
            }
            // A kernel of fewer rows touches less.
            rows = (interval.is_one() && interval.low < max.into()).then_some(interval.low as u32);
        }
        let table = program.params.iter().zip(args).find_map(|(param, &term)| match &param.kind {
            ParamKind::Table { classes } => Some((classes, self.term(term))),
            _ => None,
        });
        let assume = Assume { count: rows, class: None };
        for (index, (param, &term)) in program.params.iter().zip(args).enumerate() {
            let (written, range) = match &param.kind {
                ParamKind::Count { .. } => continue,
                ParamKind::Read { .. } if param.role == ParamRole::Input && table.is_some() => continue,
                ParamKind::Read { range } => (false, *range),
                ParamKind::Write { range } => (true, *range),
                ParamKind::Table { classes } => {
                    (false, ByteRange::new(0, classes.iter().map(|(n, _)| 4 * i64::from(*n)).sum()))
                }
            };
            let range = match rows {
                Some(_) => self.footprint(number, assume, index)?,
                None => range,
            };
            if range.is_empty() {
                continue;
            }
            let (base, interval) = self.pointer(param, self.term(term))?;
            self.touch(base, written, interval, range)?;
        }
        match table {
            Some((classes, Some(at))) => self.by_table(number, rows, classes, at, args),
            Some((_, None)) => Err(ReachError::Address(ParamRole::Table)),
            None => Ok(()),
        }
    }

    fn pointer(&self, param: &Param, term: Option<&Term>) -> Result<(Base, Interval), ReachError> {
        let unknown = ReachError::Address(param.role);
        let Some(term) = term else { return Err(unknown) };
        match term.base {
            Some(base) => Ok((base, self.interval(term)?)),
            None => Err(unknown),
        }
    }

    fn touch(&mut self, base: Base, written: bool, at: Interval, range: ByteRange) -> Result<(), ReachError> {
        let known = self.reach.touched.entry((base, written)).or_default();
        *known = known.union(around(at, range)?);
        Ok(())
    }

    /// What a kernel reads by way of a table: class by class, as their entries lead to different places.
    fn by_table(
        &mut self,
        number: usize,
        rows: Option<u32>,
        classes: &[(u32, ByteRange)],
        table: &Term,
        args: &[TermId],
    ) -> Result<(), ReachError> {
        let Some(program) = self.programs.get(number) else { return Err(ReachError::Overflow) };
        let Some((index, input)) = program.param(ParamRole::Input) else { return Ok(()) };
        let (base, interval) = self.pointer(input, args.get(index).and_then(|&term| self.term(term)))?;
        let (Base::Arg(input), Some(Base::Arg(arg))) = (base, table.base) else {
            return Err(ReachError::Address(ParamRole::Table));
        };
        let mut read = Vec::with_capacity(classes.len());
        for (class, &(entries, values)) in classes.iter().enumerate() {
            let assume = Assume { count: rows, class: Some(class) };
            let range = self.footprint(number, assume, index)?;
            let read_there = if range.is_empty() { range } else { around(interval, range)? };
            read.push(TableClass { entries, values, read: read_there });
        }
        // One table for each panel.
        let mut wide = table.parts().filter(|&(s, _)| !self.get(s).is_one());
        let (first, step, count) = match (wide.next(), wide.next()) {
            (None, _) => (self.interval(table)?.low, 0, 1),
            (Some((symbol, factor)), None) => {
                let Interval { low, high } = self.get(symbol);
                let all = self.interval(table)?;
                (if factor < 0 { all.high } else { all.low }, factor, high - low + 1)
            }
            _ => return Err(ReachError::Address(ParamRole::Table)),
        };
        for n in 0..count {
            let at = TableAt { table: arg, at: first + n * step, input };
            match self.reach.tables.get_mut(&at) {
                Some(known) => known.iter_mut().zip(&read).for_each(|(k, r)| k.read = k.read.union(r.read)),
                None => {
                    self.reach.tables.insert(at, read.clone());
                }
            }
        }
        Ok(())
    }

    fn footprint(&mut self, number: usize, assume: Assume, param: usize) -> Result<ByteRange, ReachError> {
        let found = match self.footprints.get(&(number, assume)) {
            Some(found) => found,
            None => {
                let Some(program) = self.programs.get(number) else { return Err(ReachError::Overflow) };
                let found = verify::footprints_when(program, assume)?;
                self.footprints.entry((number, assume)).or_insert(found)
            }
        };
        Ok(found.get(param).copied().unwrap_or_default())
    }
}

/// The bytes around any of some addresses.
fn around(at: Interval, range: ByteRange) -> Result<ByteRange, ReachError> {
    let add = |a: i64, b: i64| a.checked_add(b).ok_or(ReachError::Overflow);
    Ok(ByteRange::new(add(at.low, range.lo)?, add(at.high, range.hi)?))
}

#[cfg(test)]
mod tests {
    use cranelift_codegen::ir::Value;

    use super::super::trace::Recorder;
    use super::*;
    use crate::code::tile::ir::{Builder, Lanes, Trips, at};

    /// Copies a vector for each kernel row, of which there are at most three, from rows 100 bytes apart.
    fn kernel() -> TileProgram {
        let mut b = Builder::new("kernel");
        let input = b.param(ParamRole::Input, ParamKind::Read { range: ByteRange::new(0, 216) });
        let output = b.param(ParamRole::Output, ParamKind::Write { range: ByteRange::new(0, 16) });
        let rows = b.param(ParamRole::KernelRows, ParamKind::Count { max: 3 });
        b.begin();
        let vector = b.load(Lanes::X4, 4, at(input, 0));
        b.store(vector, 4, at(output, 0));
        b.advance(input, 100);
        b.end(Trips::Param(rows));
        b.finish()
    }

    /// A trace that is written by hand: `value` gives the n-th value a meaning.
    #[derive(Default)]
    struct Script {
        recorder: Recorder,
        values: u32,
    }

    impl Script {
        fn value(&mut self, term: Option<Term>) -> Value {
            let value = self.symbolic();
            self.recorder.is(value, term);
            value
        }

        fn symbolic(&mut self) -> Value {
            self.values += 1;
            Value::from_u32(self.values)
        }

        fn term(&self, value: Value) -> Term {
            self.recorder.term(value).copied().unwrap_or_default()
        }

        fn number(&mut self, n: i64) -> TermId {
            let value = self.value(Some(Term::constant(n)));
            self.recorder.id(value)
        }

        /// A base pointer plus a multiple of a value.
        fn pointer(&mut self, arg: usize, at: i64, value: Value, factor: i64) -> TermId {
            let moved = Term::constant(at).plus(&self.term(value), factor);
            let moved = moved.and_then(|moved| Term::base(Base::Arg(arg)).plus(&moved, 1));
            let value = self.value(moved);
            self.recorder.id(value)
        }

        fn for_units(&mut self, body: impl FnOnce(&mut Script, Value)) {
            let (begin, end) = (Term::symbol(Symbol::BEGIN), Term::symbol(Symbol::END));
            let (from, to) = (self.value(Some(begin)), self.value(Some(end)));
            let unit = self.symbolic();
            let (from, to) = (self.recorder.id(from), self.recorder.id(to));
            let index = self.recorder.symbol(unit);
            self.recorder.begin();
            body(self, unit);
            let body = self.recorder.end();
            self.recorder.push(Act::Loop { index, from, to, body });
        }

        fn apply(&mut self, function: Monotone, value: Value) -> Value {
            let result = self.symbolic();
            let (value, result_symbol) = (self.recorder.id(value), self.recorder.symbol(result));
            self.recorder.push(Act::Apply { function, value, result: result_symbol });
            result
        }

        fn call(&mut self, args: [TermId; 3]) {
            self.recorder.push(Act::Call { program: 0, args: args.to_vec() });
        }

        fn reach(self, units: Range<u64>) -> Result<Reach, ReachError> {
            self.recorder.finish().reach(&[kernel()], units)
        }
    }

    fn touched(reach: &Reach, arg: usize, written: bool) -> Range<i64> {
        let range = reach.touched.get(&(Base::Arg(arg), written)).copied().unwrap_or_default();
        range.lo..range.hi
    }

    #[test]
    fn a_loop_reaches_from_its_first_index_to_its_last() -> Result<(), ReachError> {
        let script = || {
            let mut s = Script::default();
            s.for_units(|s, unit| {
                let args = [s.pointer(0, 8, unit, 32), s.pointer(1, 0, unit, -16), s.number(3)];
                s.call(args);
            });
            s
        };
        let all = script().reach(0..5)?;
        assert_eq!((touched(&all, 0, false), touched(&all, 1, true)), (8..4 * 32 + 8 + 216, -64..16));
        let some = script().reach(2..4)?;
        assert_eq!(touched(&some, 0, false), 72..3 * 32 + 8 + 216);
        assert!(script().reach(3..3)?.touched.is_empty(), "no units touch nothing");
        Ok(())
    }

    #[test]
    fn fewer_kernel_rows_reach_less_and_more_are_refused() -> Result<(), ReachError> {
        let reach = |rows: i64| {
            let mut s = Script::default();
            s.for_units(|s, unit| {
                let args = [s.pointer(0, 0, unit, 0), s.pointer(1, 0, unit, 0), s.number(rows)];
                s.call(args);
            });
            s.reach(0..1)
        };
        let input = |rows| reach(rows).map(|reach| touched(&reach, 0, false));
        assert_eq!((input(3)?, input(2)?, input(1)?, input(0)?), (0..216, 0..116, 0..16, 0..0));
        let most = ReachError::Count { role: ParamRole::KernelRows, asked: 4..4, most: 3 };
        assert_eq!(reach(4), Err(most));
        assert!(reach(-1).is_err());
        Ok(())
    }

    #[test]
    fn windows_over_the_border_leave_out_the_rows_outside_and_no_others() -> Result<(), ReachError> {
        // 3 × 3 with a padding of one over `side` rows, 100 bytes apart.
        let reach = |side: i64| {
            let mut s = Script::default();
            s.for_units(|s, y| {
                let term = s.term(y);
                let above = Term::constant(1).plus(&term, -1);
                let below = Term::constant(1 + side).plus(&term, -1);
                let (above, below) = (s.value(above), s.value(below));
                let (skipped, last) =
                    (s.apply(Monotone::AtLeast(0), above), s.apply(Monotone::AtMost(3), below));
                let rows = s.term(last).plus(&s.term(skipped), -1);
                let rows = s.value(rows);
                let rows = s.apply(Monotone::AtLeast(0), rows);
                let input = Term::base(Base::Arg(0)).plus(&Term::constant(-100), 1);
                let input = input.and_then(|t| t.plus(&term, 100)?.plus(&s.term(skipped), 100));
                let input = s.value(input);
                let args = [s.recorder.id(input), s.pointer(1, 0, y, 16), s.recorder.id(rows)];
                s.call(args);
            });
            s.reach(0..side as u64)
        };
        for side in [1, 2, 3, 7] {
            assert_eq!(touched(&reach(side)?, 0, false), 0..(side - 1) * 100 + 16, "{side} rows");
        }
        Ok(())
    }

    #[test]
    fn cases_of_divisions_that_follow_each_other_do_not_multiply() -> Result<(), ReachError> {
        let mut s = Script::default();
        s.for_units(|s, unit| {
            for n in 0..200 {
                let (shifted, line, tile) =
                    (Term::constant(n).plus(&s.term(unit), 1), s.symbolic(), s.symbolic());
                let shifted = s.value(shifted);
                let value = s.recorder.id(shifted);
                let (quotient, remainder) = (s.recorder.symbol(line), s.recorder.symbol(tile));
                s.recorder.push(Act::Divide { value, by: 10, quotient, remainder });
                let args = [s.pointer(0, 0, tile, 16), s.pointer(1, 0, line, 16), s.number(1)];
                s.call(args);
            }
        });
        // Three cases of each: gone through within each other, they would never come to an end.
        let reach = s.reach(5..27)?;
        assert_eq!((touched(&reach, 0, false), touched(&reach, 1, true)), (0..9 * 16 + 16, 0..22 * 16 + 16));
        Ok(())
    }

    #[test]
    fn quotients_and_remainders_are_told_apart_where_units_begin_within_a_row() -> Result<(), ReachError> {
        let reach = |units| {
            let mut s = Script::default();
            s.for_units(|s, unit| {
                let (line, tile) = (s.symbolic(), s.symbolic());
                let act = Act::Divide {
                    value: s.recorder.id(unit),
                    by: 10,
                    quotient: s.recorder.symbol(line),
                    remainder: s.recorder.symbol(tile),
                };
                s.recorder.push(act);
                let place = Term::base(Base::Arg(0)).plus(&s.term(line), 1000);
                let place = place.and_then(|t| t.plus(&s.term(tile), 16));
                let place = s.value(place);
                let args = [s.recorder.id(place), s.pointer(1, 0, unit, 0), s.number(1)];
                s.call(args);
            });
            s.reach(units).map(|reach| touched(&reach, 0, false))
        };
        assert_eq!(reach(0..30)?, 0..2000 + 9 * 16 + 16);
        assert_eq!(reach(7..32)?, 7 * 16..3000 + 16 + 16, "from tile 7 of line 0 to tile 1 of line 3");
        assert_eq!(reach(13..16)?, 1000 + 3 * 16..1000 + 5 * 16 + 16);
        Ok(())
    }

    #[test]
    fn addresses_that_cannot_be_followed_are_refused() {
        let mut s = Script::default();
        s.for_units(|s, unit| {
            let args = [TermId::UNKNOWN, s.pointer(1, 0, unit, 0), s.number(1)];
            s.call(args);
        });
        assert_eq!(s.reach(0..1), Err(ReachError::Address(ParamRole::Input)));
        let mut s = Script::default();
        s.for_units(|s, unit| {
            let args = [s.recorder.id(unit), s.pointer(1, 0, unit, 0), s.number(1)];
            s.call(args);
        });
        assert_eq!(s.reach(0..1), Err(ReachError::Address(ParamRole::Input)), "an index is no pointer");
        let mut s = Script::default();
        s.for_units(|s, unit| {
            let args = [s.pointer(0, i64::MAX, unit, 1), s.pointer(1, 0, unit, 0), s.number(1)];
            s.call(args);
        });
        assert_eq!(s.reach(0..2), Err(ReachError::Overflow));
    }
}
