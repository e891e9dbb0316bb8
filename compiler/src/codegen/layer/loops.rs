//! Small vocabulary for loops and addresses in Cranelift IR.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types::I64};

use super::LayerEmitter;
use crate::codegen::CodegenError;

impl LayerEmitter<'_, '_, '_> {
    /// A constant.
    pub(super) fn int(&mut self, n: i64) -> Value {
        self.b.ins().iconst(I64, n)
    }

    /// `value + n`
    pub(super) fn add(&mut self, value: Value, n: i64) -> Value {
        match n {
            0 => value,
            _ => self.b.ins().iadd_imm_s(value, n),
        }
    }

    /// `base + index · step`
    pub(super) fn offset(&mut self, base: Value, index: Value, step: i64) -> Value {
        match step {
            0 => base,
            _ => {
                let bytes = self.b.ins().imul_imm_s(index, step);
                self.b.ins().iadd(base, bytes)
            }
        }
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
        body(self, i)?;
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
            let zero = self.int(0);
            return (value, zero);
        }
        let divisor = self.int(n as i64);
        let quotient = self.b.ins().udiv(value, divisor);
        let whole = self.b.ins().imul(quotient, divisor);
        (quotient, self.b.ins().isub(value, whole))
    }

    /// `-value`
    pub(super) fn negate(&mut self, value: Value) -> Value {
        self.b.ins().ineg(value)
    }

    /// `a - b`
    pub(super) fn sub(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().isub(a, b)
    }

    /// `value / n`, rounded up, for a value that may be negative (then not exactly, but at most 0).
    pub(super) fn div_up(&mut self, value: Value, n: i64) -> Value {
        match n {
            1 => value,
            _ => {
                let up = self.b.ins().iadd_imm_s(value, n - 1);
                let divisor = self.int(n);
                self.b.ins().sdiv(up, divisor)
            }
        }
    }

    /// The larger of a value and a constant, as signed integers.
    pub(super) fn at_least(&mut self, value: Value, n: i64) -> Value {
        let n = self.int(n);
        self.b.ins().smax(value, n)
    }

    /// The smaller of a value and a constant, as signed integers.
    pub(super) fn at_most(&mut self, value: Value, n: i64) -> Value {
        let n = self.int(n);
        self.b.ins().smin(value, n)
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
        body(self)?;
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
