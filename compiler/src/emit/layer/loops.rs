//! Small vocabulary for loops and addresses in Cranelift IR. Each word is written down in the [trace](super::trace) as well.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types::I64};

use super::LayerEmitter;
use super::trace::{Act, Monotone, Term};
use crate::emit::CodegenError;

impl LayerEmitter<'_, '_, '_> {
    /// A constant.
    pub(super) fn int(&mut self, n: i64) -> Value {
        let value = self.b.ins().iconst(I64, n);
        self.trace.is(value, Some(Term::constant(n)));
        value
    }

    /// `value + n`
    pub(super) fn add(&mut self, value: Value, n: i64) -> Value {
        match n {
            0 => value,
            _ => {
                let sum = self.b.ins().iadd_imm_s(value, n);
                self.is_sum(sum, value, &Term::constant(n), 1);
                sum
            }
        }
    }

    /// `base + index · step`
    pub(super) fn offset(&mut self, base: Value, index: Value, step: i64) -> Value {
        match step {
            0 => base,
            _ => {
                let bytes = self.b.ins().imul_imm_s(index, step);
                let sum = self.b.ins().iadd(base, bytes);
                self.is_sum_of(sum, base, index, step);
                sum
            }
        }
    }

    /// `a + b`
    pub(super) fn sum(&mut self, a: Value, b: Value) -> Value {
        let sum = self.b.ins().iadd(a, b);
        self.is_sum_of(sum, a, b, 1);
        sum
    }

    /// A value is `a + term · factor`.
    fn is_sum(&mut self, value: Value, a: Value, term: &Term, factor: i64) {
        let sum = self.trace.term(a).and_then(|a| a.plus(term, factor));
        self.trace.is(value, sum);
    }

    /// A value is `a + b · factor`.
    fn is_sum_of(&mut self, value: Value, a: Value, b: Value, factor: i64) {
        let sum = self.trace.term(b).and_then(|b| self.trace.term(a)?.plus(b, factor));
        self.trace.is(value, sum);
    }

    /// A value is a function of another.
    fn is_result(&mut self, result: Value, function: Monotone, of: Value) {
        let (value, result) = (self.trace.id(of), self.trace.symbol(result));
        self.trace.push(Act::Apply { function, value, result });
    }

    /// For `from ≤ i < to`.
    pub(super) fn range(
        &mut self,
        from: Value,
        to: Value,
        body: &mut dyn FnMut(&mut Self, Value) -> Result<(), CodegenError>,
    ) -> Result<(), CodegenError> {
        let (head, inside, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.append_block_param(head, I64);
        self.b.ins().jump(head, &[from.into()]);
        self.b.switch_to_block(head);
        let i = self.b.block_params(head)[0];
        let more = self.b.ins().icmp(IntCC::SignedLessThan, i, to);
        self.b.ins().brif(more, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        self.b.seal_block(inside);
        let (from, to, index) = (self.trace.id(from), self.trace.id(to), self.trace.symbol(i));
        self.trace.begin();
        body(self, i)?;
        let body = self.trace.end();
        self.trace.push(Act::Loop { index, from, to, body });
        let next = self.b.ins().iadd_imm_s(i, 1);
        self.b.ins().jump(head, &[next.into()]);
        self.b.seal_block(head);
        self.b.switch_to_block(after);
        self.b.seal_block(after);
        Ok(())
    }

    /// For `0 ≤ i < n`; a single round needs no loop.
    pub(super) fn repeat(
        &mut self,
        n: usize,
        body: &mut dyn FnMut(&mut Self, Value) -> Result<(), CodegenError>,
    ) -> Result<(), CodegenError> {
        let zero = self.int(0);
        if n == 1 {
            return body(self, zero);
        }
        let to = self.int(n as i64);
        self.range(zero, to, body)
    }

    /// `value / n` and `value % n`.
    pub(super) fn div_rem(&mut self, value: Value, n: usize) -> (Value, Value) {
        if n == 1 {
            // A quotient of its own, so that the proof of addresses can narrow it where `value` is a sum.
            let (quotient, remainder) = (self.b.ins().iadd_imm_s(value, 0), self.int(0));
            let symbol = self.trace.symbol(quotient);
            let (value, rest) = (self.trace.id(value), self.trace.fresh());
            self.trace.push(Act::Divide { value, by: 1, quotient: symbol, remainder: rest });
            return (quotient, remainder);
        }
        let divisor = self.int(n as i64);
        let quotient = self.b.ins().udiv(value, divisor);
        let whole = self.b.ins().imul(quotient, divisor);
        let remainder = self.b.ins().isub(value, whole);
        let act = Act::Divide {
            value: self.trace.id(value),
            by: n as i64,
            quotient: self.trace.symbol(quotient),
            remainder: self.trace.symbol(remainder),
        };
        self.trace.push(act);
        (quotient, remainder)
    }

    /// `-value`
    pub(super) fn negate(&mut self, value: Value) -> Value {
        let negative = self.b.ins().ineg(value);
        let term = self.trace.term(value).and_then(|term| Term::default().plus(term, -1));
        self.trace.is(negative, term);
        negative
    }

    /// `a - b`
    pub(super) fn sub(&mut self, a: Value, b: Value) -> Value {
        let difference = self.b.ins().isub(a, b);
        self.is_sum_of(difference, a, b, -1);
        difference
    }

    /// `value / n`, rounded up, for a value that may be negative (then not exactly, but at most 0).
    pub(super) fn div_up(&mut self, value: Value, n: i64) -> Value {
        match n {
            1 => value,
            _ => {
                let up = self.b.ins().iadd_imm_s(value, n - 1);
                let divisor = self.int(n);
                let quotient = self.b.ins().sdiv(up, divisor);
                self.is_result(quotient, Monotone::DivideUp(n), value);
                quotient
            }
        }
    }

    /// The larger of a value and a constant, as signed integers.
    pub(super) fn at_least(&mut self, value: Value, n: i64) -> Value {
        let least = self.int(n);
        let larger = self.b.ins().smax(value, least);
        self.is_result(larger, Monotone::AtLeast(n), value);
        larger
    }

    /// The smaller of a value and a constant, as signed integers.
    pub(super) fn at_most(&mut self, value: Value, n: i64) -> Value {
        let most = self.int(n);
        let smaller = self.b.ins().smin(value, most);
        self.is_result(smaller, Monotone::AtMost(n), value);
        smaller
    }

    /// Runs `body` if `low ≤ value < high`.
    pub(super) fn when_within(
        &mut self,
        value: Value,
        low: i64,
        high: i64,
        body: &mut dyn FnMut(&mut Self) -> Result<(), CodegenError>,
    ) -> Result<(), CodegenError> {
        let (inside, after) = (self.b.create_block(), self.b.create_block());
        let from_low = self.add(value, -low);
        let length = self.int(high - low);
        let within = self.b.ins().icmp(IntCC::UnsignedLessThan, from_low, length);
        self.b.ins().brif(within, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        self.b.seal_block(inside);
        self.trace.begin();
        body(self)?;
        let body = self.trace.end();
        let value = self.trace.id(value);
        self.trace.push(Act::When { value, within: low..high, body });
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
        self.b.seal_block(after);
        Ok(())
    }

    /// For the units `begin..end` that fall into `first .. first + count`, with their index from `first`.
    pub(super) fn units_of(
        &mut self,
        first: usize,
        count: usize,
        body: &mut dyn FnMut(&mut Self, Value) -> Result<(), CodegenError>,
    ) -> Result<(), CodegenError> {
        let (begin, end) = (self.begin, self.end);
        let from = self.at_least(begin, first as i64);
        let to = self.at_most(end, (first + count) as i64);
        let from = self.add(from, -(first as i64));
        let to = self.add(to, -(first as i64));
        self.range(from, to, body)
    }
}
