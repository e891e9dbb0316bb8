//! What a layer function does, as far as addresses go.
//!
//! Beside the Cranelift IR of a layer, the emitter writes down what it has emitted: loops, conditions, the few integer
//! functions in between, and the calls of kernels, with every address as a base pointer plus a sum over indices.
//! [`super::reach`] finds from this which bytes the function can touch.
//!
//! ```text
//!   Cranelift IR                                  trace
//!     v9 = load v0+8                              v9 = base 1
//!   block2(v12):                                  loop s3 in 0..14:
//!     v13 = imul_imm v12, 896
//!     v14 = iadd v9, v13                            v14 = base 1 + 896·s3
//!     call fn0(v14, …)                              call kernel 0(base 1 + 896·s3, …)
//! ```
//!
//! Both are written by the same dozen methods of the emitter, and by nothing else: what is checked is what runs.

use std::ops::Range;

use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::Value;

/// What a pointer is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// A base pointer of the step, by its number.
    Arg(usize),
    /// The thread's scratch.
    Scratch,
}

/// An integer that is not known before the function runs: an index, or what is computed from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol(pub u32);

impl Symbol {
    /// The first unit of a call.
    pub const BEGIN: Symbol = Symbol(0);
    /// The end of the units of a call.
    pub const END: Symbol = Symbol(1);
}

/// The most symbols in a sum. An address has one for the picture, the row, the rows left out above it, the tile, and the
/// panel.
const MOST: usize = 6;

/// A base pointer, perhaps, plus a constant, plus multiples of symbols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// What it is counted from; `None` for a number.
    pub base: Option<Base>,
    /// The constant.
    pub constant: i64,
    /// The symbols, and the factor of each.
    symbols: [u32; MOST],
    factors: [i64; MOST],
    len: u8,
}

impl Term {
    /// A number.
    pub fn constant(n: i64) -> Term {
        Term { constant: n, ..Term::default() }
    }

    /// A pointer.
    pub fn base(base: Base) -> Term {
        Term { base: Some(base), ..Term::default() }
    }

    /// A symbol.
    pub fn symbol(symbol: Symbol) -> Term {
        let mut term = Term { len: 1, ..Term::default() };
        (term.symbols[0], term.factors[0]) = (symbol.0, 1);
        term
    }

    /// The symbols and their factors, none of which is 0.
    pub fn parts(&self) -> impl Iterator<Item = (Symbol, i64)> + '_ {
        let parts = self.symbols.iter().zip(&self.factors).take(self.len.into());
        parts.map(|(&symbol, &factor)| (Symbol(symbol), factor))
    }

    /// `self + other · factor`; `None` where that is no such term.
    pub fn plus(mut self, other: &Term, factor: i64) -> Option<Term> {
        self.base = match (self.base, other.base) {
            (base, None) => base,
            (None, base) if factor == 1 => base,
            _ => return None,
        };
        self.constant = self.constant.checked_add(other.constant.checked_mul(factor)?)?;
        for (symbol, part) in other.parts() {
            let part = part.checked_mul(factor)?;
            let len = usize::from(self.len);
            match self.symbols.iter().take(len).position(|known| *known == symbol.0) {
                Some(at) => self.factors[at] = self.factors[at].checked_add(part)?,
                None => {
                    *self.symbols.get_mut(len)? = symbol.0;
                    self.factors[len] = part;
                    self.len += 1;
                }
            }
        }
        let mut kept = 0;
        for at in 0..usize::from(self.len) {
            if self.factors[at] != 0 {
                (self.symbols[kept], self.factors[kept]) = (self.symbols[at], self.factors[at]);
                kept += 1;
            }
        }
        self.len = kept as u8;
        Some(self)
    }
}

/// A term of a trace, by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TermId(u32);

impl TermId {
    /// Something that a trace does not follow.
    pub const UNKNOWN: TermId = TermId(0);
}

/// A function of one number that never falls when the number rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Monotone {
    /// The larger of it and a constant.
    AtLeast(i64),
    /// The smaller of it and a constant.
    AtMost(i64),
    /// `(it + n - 1) / n`, rounded towards 0.
    DivideUp(i64),
}

impl Monotone {
    /// Its value; `None` where that overflows.
    pub fn of(self, x: i64) -> Option<i64> {
        match self {
            Monotone::AtLeast(n) => Some(x.max(n)),
            Monotone::AtMost(n) => Some(x.min(n)),
            Monotone::DivideUp(n) => x.checked_add(n - 1)?.checked_div(n),
        }
    }
}

/// Something that a layer function does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Unsigned division with remainder.
    Divide {
        /// What is divided.
        value: TermId,
        /// By what.
        by: i64,
        /// Results.
        quotient: Symbol,
        /// Results.
        remainder: Symbol,
    },
    /// A function of a number.
    Apply {
        /// The function.
        function: Monotone,
        /// The number.
        value: TermId,
        /// Its result.
        result: Symbol,
    },
    /// For each index from one number to before another.
    Loop {
        /// The index.
        index: Symbol,
        /// The first one.
        from: TermId,
        /// One past the last one.
        to: TermId,
        /// What is done.
        body: Vec<Act>,
    },
    /// If a number lies in a range.
    When {
        /// The number.
        value: TermId,
        /// The range.
        within: Range<i64>,
        /// What is done.
        body: Vec<Act>,
    },
    /// Calls a kernel.
    Call {
        /// Its number in the function's list.
        program: usize,
        /// What each of its parameters gets.
        args: Vec<TermId>,
    },
}

/// What is emitted, while it is emitted.
pub struct Recorder {
    values: SecondaryMap<Value, TermId>,
    terms: Vec<Term>,
    symbols: u32,
    /// Bodies that are open, outermost first.
    open: Vec<Vec<Act>>,
    /// How many base pointers are looked at: one more than the last of them.
    bases: usize,
}

impl Default for Recorder {
    fn default() -> Recorder {
        let (values, terms) = (SecondaryMap::new(), Vec::new());
        Recorder { values, terms, symbols: 2, open: vec![Vec::new()], bases: 0 }
    }
}

impl Recorder {
    /// What is known of a value.
    pub fn term(&self, value: Value) -> Option<&Term> {
        known(&self.terms, self.values[value])
    }

    /// The number of what is known of a value.
    pub fn id(&self, value: Value) -> TermId {
        self.values[value]
    }

    /// Says what a value is.
    pub fn is(&mut self, value: Value, term: Option<Term>) {
        if let Some(term) = term {
            self.terms.push(term);
            self.values[value] = TermId(self.terms.len() as u32);
        }
    }

    /// A symbol that no value has.
    pub fn fresh(&mut self) -> Symbol {
        self.symbols += 1;
        Symbol(self.symbols - 1)
    }

    /// A value that is a fresh symbol.
    pub fn symbol(&mut self, value: Value) -> Symbol {
        let symbol = self.fresh();
        self.is(value, Some(Term::symbol(symbol)));
        symbol
    }

    /// A base pointer is loaded.
    pub fn base(&mut self, value: Value, arg: usize) {
        self.bases = self.bases.max(arg + 1);
        self.is(value, Some(Term::base(Base::Arg(arg))));
    }

    /// Appends to the innermost body.
    pub fn push(&mut self, act: Act) {
        if let Some(body) = self.open.last_mut() {
            body.push(act);
        }
    }

    /// Opens a body.
    pub fn begin(&mut self) {
        self.open.push(Vec::new());
    }

    /// Closes the innermost body.
    pub fn end(&mut self) -> Vec<Act> {
        self.open.pop().unwrap_or_default()
    }

    /// All that has been emitted.
    pub fn finish(mut self) -> Trace {
        Trace { acts: self.end(), symbols: self.symbols as usize, bases: self.bases, terms: self.terms }
    }
}

/// What a layer function does.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// In order.
    pub acts: Vec<Act>,
    /// Number of symbols.
    pub symbols: usize,
    /// How many base pointers it looks at.
    pub bases: usize,
    terms: Vec<Term>,
}

impl Trace {
    /// A term; `None` for one that is not followed.
    pub fn term(&self, id: TermId) -> Option<&Term> {
        known(&self.terms, id)
    }
}

fn known(terms: &[Term], id: TermId) -> Option<&Term> {
    (id.0 as usize).checked_sub(1).and_then(|at| terms.get(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_sums_in_which_symbols_cancel() {
        let (x, y) = (Term::symbol(Symbol(5)), Term::symbol(Symbol(9)));
        let sum = Term::base(Base::Scratch).plus(&x, 3).and_then(|t| t.plus(&y, -2)).unwrap();
        assert_eq!(sum.parts().collect::<Vec<_>>(), [(Symbol(5), 3), (Symbol(9), -2)]);
        let rest = sum.plus(&x, -3).unwrap();
        assert_eq!(rest.parts().collect::<Vec<_>>(), [(Symbol(9), -2)]);
        assert_eq!(rest.base, Some(Base::Scratch));
    }

    #[test]
    fn what_is_no_address_is_no_term() {
        let pointer = Term::base(Base::Arg(0));
        assert_eq!(pointer.plus(&Term::base(Base::Arg(1)), 1), None, "the sum of two pointers");
        assert_eq!(Term::constant(0).plus(&pointer, 4), None, "a multiple of a pointer");
        assert_eq!(Term::constant(i64::MAX).plus(&Term::constant(1), 1), None);
        let many = (0..=MOST as u32).try_fold(Term::default(), |t, s| t.plus(&Term::symbol(Symbol(s)), 1));
        assert_eq!(many, None);
    }
}
