//! Sixteen elements of a map at once, of any types: each value is as many vectors of 128 bits as its type has bytes.
//!
//! ```text
//!   y: u8 = cast(round(x: f32 / s))          x    4 vectors of 4 floats
//!                                            y    1 vector of 16 bytes
//!   where(c: bool, a: f32, b: f32)           c    1 vector of 16 bytes, which become 4 vectors of masks
//!   y: f32 = tan(x: f32)                     x    4 vectors of 4 floats, which become 8 of 2 `f64`
//! ```
//!
//! Tile programs know vectors of `f32` alone. What has integers or booleans in it is bound by memory, and narrow vectors keep up
//! with that, on every target that Cranelift has. Functions of `f64`, and those of `f32` that are computed as such, are bound by
//! what they compute, which two lanes do in half the time.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;
use nnc_ir::DType;
use nnc_ir::op::Unary;
use nnc_ir::op::elementwise::BinaryFn;

use super::expr::{Constant, Expr, computed};
use super::scalar;
use crate::code::half;
use crate::target::Arch;

/// Elements that go together.
pub const GROUP: usize = 16;

/// Whether an expression is written for groups.
pub(super) fn has(e: &Expr, operands: &[DType]) -> bool {
    let has = |e: &Expr| has(e, operands);
    let dtype = |e: &Expr| e.dtype(operands, &[]);
    match e {
        Expr::Operand(_) | Expr::Const(_) => dtype(e).is_some(),
        Expr::Index(_) | Expr::Acc(_) | Expr::Entry(..) | Expr::MulAdd(..) => false,
        Expr::Unary(f, x) => has(x) && dtype(x).is_some_and(|x| has_unary(f.0, x)),
        Expr::Binary(f, x, y) => {
            has(x) && has(y) && dtype(x) == dtype(y) && dtype(x).is_some_and(|x| has_binary(*f, x))
        }
        Expr::Cast(to, x) => has(x) && dtype(x).is_some_and(|from| has_cast(from, *to)),
        Expr::Select(c, x, y) => has(c) && has(x) && has(y),
    }
}

fn has_unary(function: Unary, dtype: DType) -> bool {
    match function {
        _ if dtype.is_float() => {
            scalar::has_wide_unary(function) || (dtype == DType::F32 && scalar::has_vector_unary(function))
        }
        Unary::Not => dtype == DType::Bool,
        Unary::Relu | Unary::Abs | Unary::Neg | Unary::Sign | Unary::Clip { .. } => dtype != DType::Bool,
        _ => false,
    }
}

fn has_binary(function: BinaryFn, dtype: DType) -> bool {
    use BinaryFn::*;
    match function {
        _ if dtype.is_float() => scalar::has_vector_binary(function) || function == Pow,
        Add | Sub | Mul | Min | Max | BitAnd | BitOr | BitXor => dtype != DType::Bool,
        Less | LessOrEqual | Greater | GreaterOrEqual => dtype != DType::Bool,
        Equal | And | Or | Xor => true,
        Div | Mod { .. } | Pow | PRelu | ShiftLeft | ShiftRight => false,
    }
}

/// Numbers of 64 bits become floats where they are signed, and floats of 64 bits those of 32, and the other way around; all else goes.
fn has_cast(from: DType, to: DType) -> bool {
    let is_long = |dtype| matches!(dtype, DType::I64 | DType::U64);
    match (from, to) {
        (DType::F64, to) => to == DType::F32,
        (from, DType::F64) => from.is_float(),
        (DType::U64, _) if to.is_float() => false,
        // What rounds to `f32` on its way rounds twice.
        (_, DType::F16 | DType::BF16) => from.is_float() || (from.bytes() < 4 && !is_long(from)),
        _ => true,
    }
}

/// The integer of half as many bytes that an expression has twice, side by side: `x · (2^bits + 1)`.
fn twice(e: &Expr, dtype: DType) -> Option<&Expr> {
    let Expr::Binary(BinaryFn::Mul, x, factor) = e else { return None };
    let (Expr::Cast(_, narrow), Expr::Const(Constant::Int(_, factor))) = (&**x, &**factor) else {
        return None;
    };
    (*factor == (1i64 << (4 * dtype.bytes())) + 1).then_some(narrow)
}

/// Whether an expression does nothing but that to each element.
pub(super) fn doubles(e: &Expr, operands: &[DType]) -> bool {
    let dtype = |e: &Expr| e.dtype(operands, &[]);
    let narrow = dtype(e).and_then(|wide| Some((twice(e, wide)?, wide)));
    narrow.is_some_and(|(narrow, wide)| {
        matches!(narrow, Expr::Operand(_)) && dtype(narrow).is_some_and(|narrow| is_half_of(narrow, wide))
    })
}

/// Whether integers of one type have half as many bytes as those of another one, and no sign that a cast repeats.
fn is_half_of(narrow: DType, wide: DType) -> bool {
    let pairs = [(DType::U8, DType::U16), (DType::U16, DType::U32), (DType::U32, DType::U64)];
    pairs.contains(&(narrow, wide))
}

/// What sixteen elements are.
#[derive(Clone)]
pub(super) enum ElementGroup {
    /// Elements of a type, as many vectors as it has bytes; booleans are 0 and 1.
    Elements(Vec<Value>),
    /// Conditions: lanes of as many bytes as there are vectors, with all bits or none.
    Mask(Vec<Value>),
}

/// Writes the instructions of groups.
pub(super) struct GroupWriter<'a, 'f> {
    pub(super) b: &'a mut FunctionBuilder<'f>,
    pub(super) operands: &'a [DType],
    pub(super) arch: Arch,
}

/// The vector of 128 bits of elements.
pub(super) fn vector_type(dtype: DType) -> Type {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => types::F32X4,
        DType::F64 => types::F64X2,
        dtype => int_type(dtype.bytes()),
    }
}

fn int_type(bytes: usize) -> Type {
    match bytes {
        1 => types::I8X16,
        2 => types::I16X8,
        4 => types::I32X4,
        _ => types::I64X2,
    }
}

fn is_wide(dtype: DType) -> bool {
    dtype.bytes() == 8
}

impl GroupWriter<'_, '_> {
    /// The group at an address.
    pub(super) fn load(&mut self, dtype: DType, at: Value, displacement: i32) -> ElementGroup {
        let (ty, bytes) = (vector_type(dtype), computed(dtype).bytes());
        let part = |i: usize| displacement + (i * GROUP / bytes * dtype.bytes()) as i32;
        let parts = (0..bytes).map(|i| match dtype {
            DType::F16 | DType::BF16 => half::load_four(self.b, dtype, at, part(i)),
            _ => self.b.ins().load(ty, memory(), at, part(i)),
        });
        ElementGroup::Elements(parts.collect())
    }

    /// Stores a group of elements of a type.
    pub(super) fn store(&mut self, dtype: DType, group: &ElementGroup, at: Value, displacement: i32) {
        let parts = self.elements(group);
        for (i, part) in parts.iter().enumerate() {
            let to = displacement + (i * GROUP / parts.len() * dtype.bytes()) as i32;
            match dtype {
                DType::F16 | DType::BF16 => half::store_four(self.b, dtype, *part, at, to),
                DType::F32 => {
                    let part = self.seen_as(types::F32X4, *part);
                    self.b.ins().store(memory(), part, at, to);
                }
                _ => {
                    self.b.ins().store(memory(), *part, at, to);
                }
            }
        }
    }

    /// An element in all lanes, as [`scalar`] computes with it.
    pub(super) fn splat(&mut self, dtype: DType, one: Value) -> Value {
        self.b.ins().splat(vector_type(dtype), one)
    }

    /// The group of one element in memory.
    pub(super) fn load_repeated(&mut self, dtype: DType, at: Value) -> ElementGroup {
        let one = match scalar::element_type(dtype) {
            Some(ty) => self.b.ins().load(ty, memory(), at, 0),
            None => {
                let bits = self.b.ins().load(types::I16, memory(), at, 0);
                half::widened(self.b, dtype, bits)
            }
        };
        let all = self.splat(dtype, one);
        self.repeated(dtype, all)
    }

    /// The group of such a vector.
    pub(super) fn repeated(&self, dtype: DType, all: Value) -> ElementGroup {
        ElementGroup::Elements(vec![all; computed(dtype).bytes()])
    }

    /// The value of an expression, given those of operands.
    pub(super) fn value(
        &mut self,
        e: &Expr,
        operand: &mut dyn FnMut(&mut Self, usize) -> ElementGroup,
    ) -> ElementGroup {
        let dtype = |w: &Self, e: &Expr| e.dtype(w.operands, &[]).unwrap_or(DType::F32);
        match e {
            Expr::Operand(i) => operand(self, *i),
            Expr::Const(c) => self.constant(*c),
            Expr::Unary(f, x) => {
                let of = dtype(self, x);
                let x = self.value(x, operand);
                self.unary(f.0, of, &x)
            }
            Expr::Binary(f, x, y) => {
                let of = dtype(self, x);
                if let Some(narrow) = twice(e, of).filter(|e| is_half_of(dtype(self, e), of)) {
                    let x = self.value(narrow, operand);
                    return self.doubled(&x);
                }
                let (x, y) = (self.value(x, operand), self.value(y, operand));
                self.binary(*f, of, &x, &y)
            }
            Expr::Cast(to, x) => {
                let from = dtype(self, x);
                let x = self.value(x, operand);
                self.cast(from, *to, x)
            }
            Expr::Select(c, x, y) => {
                let of = dtype(self, x);
                let c = self.value(c, operand);
                let (x, y) = (self.value(x, operand), self.value(y, operand));
                let (x, y) = (self.elements(&x), self.elements(&y));
                let mask = self.mask(&c, of.bytes());
                let chosen = (mask.iter().zip(x.iter().zip(&y)))
                    .map(|(&mask, (&x, &y))| {
                        let ty = self.b.func.dfg.value_type(mask);
                        let (x, y) = (self.seen_as(ty, x), self.seen_as(ty, y));
                        let chosen = self.b.ins().bitselect(mask, x, y);
                        self.seen_as(vector_type(of), chosen)
                    })
                    .collect();
                ElementGroup::Elements(chosen)
            }
            // `has` refuses them.
            Expr::Index(_) | Expr::Acc(_) | Expr::Entry(..) | Expr::MulAdd(..) => {
                self.constant(Constant::F32(0))
            }
        }
    }

    fn constant(&mut self, c: Constant) -> ElementGroup {
        let dtype = c.dtype();
        let all = match c {
            Constant::F32(bits) => self.bytes_of(types::F32X4, &bits.to_le_bytes()),
            Constant::F64(bits) => self.bytes_of(types::F64X2, &bits.to_le_bytes()),
            Constant::Int(dtype, v) => self.int(dtype.bytes(), v),
        };
        self.repeated(dtype, all)
    }

    /// An integer in all lanes; what does not fit wraps around.
    fn int(&mut self, bytes: usize, v: i64) -> Value {
        self.bytes_of(int_type(bytes), &v.to_le_bytes()[..bytes])
    }

    /// Some bytes over and over.
    fn bytes_of(&mut self, ty: Type, bytes: &[u8]) -> Value {
        let all = bytes.repeat(GROUP / bytes.len().max(1));
        let constant = self.b.func.dfg.constants.insert(ConstantData::from(all));
        self.b.ins().vconst(ty, constant)
    }

    fn seen_as(&mut self, ty: Type, v: Value) -> Value {
        if self.b.func.dfg.value_type(v) == ty { v } else { self.b.ins().bitcast(ty, little(), v) }
    }

    /// Elements; of conditions, 0 and 1.
    fn elements(&mut self, group: &ElementGroup) -> Vec<Value> {
        match group {
            ElementGroup::Elements(parts) => parts.clone(),
            ElementGroup::Mask(_) => {
                let mask = self.mask(group, 1);
                let one = self.int(1, 1);
                mask.into_iter().map(|mask| self.b.ins().band(mask, one)).collect()
            }
        }
    }

    /// Conditions as masks in lanes of so many bytes.
    fn mask(&mut self, group: &ElementGroup, bytes: usize) -> Vec<Value> {
        let mut parts = match group {
            ElementGroup::Mask(parts) => parts.clone(),
            // 0 - 1 is all ones.
            ElementGroup::Elements(parts) => parts.iter().map(|&part| self.b.ins().ineg(part)).collect(),
        };
        while parts.len() < bytes {
            parts = self.widened(&parts, true);
        }
        while parts.len() > bytes {
            parts = match parts.len() {
                8 => self.shortened(&parts),
                _ => (parts.chunks_exact(2)).map(|pair| self.b.ins().snarrow(pair[0], pair[1])).collect(),
            };
        }
        parts
    }

    /// Integers of twice as many bytes.
    fn widened(&mut self, parts: &[Value], signed: bool) -> Vec<Value> {
        let widen = |part: &Value| match signed {
            true => [self.b.ins().swiden_low(*part), self.b.ins().swiden_high(*part)],
            false => [self.b.ins().uwiden_low(*part), self.b.ins().uwiden_high(*part)],
        };
        parts.iter().flat_map(widen).collect()
    }

    /// Each element twice, side by side, as one of twice as many bytes.
    fn doubled(&mut self, x: &ElementGroup) -> ElementGroup {
        let parts = self.elements(x);
        let bytes = parts.len() as u8;
        let half = GROUP as u8 / bytes / 2;
        let mut twice = Vec::new();
        for part in parts {
            let part = self.seen_as(types::I8X16, part);
            for first in [0, half] {
                let lanes = (first..first + half).flat_map(|lane| [lane, GROUP as u8 / bytes + lane]);
                let order: Vec<u8> =
                    lanes.flat_map(|lane| (0..bytes).map(move |b| bytes * lane + b)).collect();
                let order = self.b.func.dfg.immediates.push(ConstantData::from(order));
                let doubled = self.b.ins().shuffle(part, part, order);
                twice.push(self.seen_as(int_type(2 * usize::from(bytes)), doubled));
            }
        }
        ElementGroup::Elements(twice)
    }

    /// Integers of half as many bytes: the lower ones.
    fn shortened(&mut self, parts: &[Value]) -> Vec<Value> {
        let bytes = parts.len();
        let kept = (0..2 * GROUP as u8).filter(|&byte| usize::from(byte) % bytes < bytes / 2);
        let kept = ConstantData::from(kept.collect::<Vec<u8>>());
        let kept = self.b.func.dfg.immediates.push(kept);
        let shorten = |pair: &[Value]| {
            let (x, y) = (self.seen_as(types::I8X16, pair[0]), self.seen_as(types::I8X16, pair[1]));
            let shuffled = self.b.ins().shuffle(x, y, kept);
            self.seen_as(int_type(bytes / 2), shuffled)
        };
        parts.chunks_exact(2).map(shorten).collect()
    }

    fn unary(&mut self, function: Unary, dtype: DType, x: &ElementGroup) -> ElementGroup {
        match (dtype, x) {
            (DType::Bool, ElementGroup::Mask(mask)) => {
                ElementGroup::Mask(mask.iter().map(|&mask| self.b.ins().bnot(mask)).collect())
            }
            (DType::Bool, ElementGroup::Elements(parts)) => {
                let one = self.int(1, 1);
                ElementGroup::Elements(parts.iter().map(|&part| self.b.ins().bxor(part, one)).collect())
            }
            (DType::F32, x) if !scalar::has_vector_unary(function) => {
                let parts = self.elements(x);
                let of = |w: &mut Self, x: &[Value]| scalar::unary(w.b, function, DType::F64, x[0], true);
                ElementGroup::Elements(parts.iter().map(|&x| self.by_halves(&[x], of)).collect())
            }
            (DType::F32 | DType::F64, x) => {
                let parts = self.elements(x);
                let parts: Vec<Value> =
                    parts.iter().map(|&x| scalar::unary(self.b, function, dtype, x, true)).collect();
                match function {
                    Unary::IsNan | Unary::IsInf { .. } => ElementGroup::Mask(parts),
                    _ => {
                        let parts = parts.iter().map(|&part| self.seen_as(vector_type(dtype), part));
                        ElementGroup::Elements(parts.collect())
                    }
                }
            }
            (_, x) => {
                let parts = self.elements(x);
                ElementGroup::Elements(parts.iter().map(|&x| self.int_unary(function, dtype, x)).collect())
            }
        }
    }

    /// A function of four `f32` as one of two `f64` each.
    fn by_halves(&mut self, x: &[Value], of: impl Fn(&mut Self, &[Value]) -> Value) -> Value {
        let order: Vec<u8> = (8..16).chain(0..8).collect();
        let mut results = Vec::new();
        for upper in [false, true] {
            let halves = x.iter().map(|&x| {
                let half = if upper { self.shuffled([x, x], &order) } else { x };
                self.b.ins().fvpromote_low(half)
            });
            let halves: Vec<Value> = halves.collect();
            let y = of(self, &halves);
            results.push(self.b.ins().fvdemote(y));
        }
        let both: Vec<u8> = (0..8).chain(16..24).collect();
        self.shuffled([results[0], results[1]], &both)
    }

    /// Bytes of two vectors of `f32`, in some order.
    fn shuffled(&mut self, pair: [Value; 2], order: &[u8]) -> Value {
        let [x, y] = pair.map(|v| self.seen_as(types::I8X16, v));
        let order = self.b.func.dfg.immediates.push(ConstantData::from(order));
        let shuffled = self.b.ins().shuffle(x, y, order);
        self.seen_as(types::F32X4, shuffled)
    }

    fn int_unary(&mut self, function: Unary, dtype: DType, x: Value) -> Value {
        let (signed, bytes) = (scalar::is_signed(dtype), dtype.bytes());
        match function {
            Unary::Relu if signed => {
                let zero = self.int(bytes, 0);
                self.extreme(dtype, true, x, zero)
            }
            Unary::Clip { min, max } => {
                let (min, max) = scalar::int_bounds(dtype, min, max);
                let mut x = x;
                for (bound, is_least) in [(min, true), (max, false)] {
                    if let Some(bound) = bound {
                        let bound = self.int(bytes, bound as i64);
                        x = self.extreme(dtype, is_least, x, bound);
                    }
                }
                x
            }
            Unary::Abs if signed => self.b.ins().iabs(x),
            Unary::Neg => self.b.ins().ineg(x),
            Unary::Sign => {
                let zero = self.int(bytes, 0);
                if signed {
                    // All ones are -1.
                    let below = self.b.ins().icmp(IntCC::SignedLessThan, x, zero);
                    let above = self.b.ins().icmp(IntCC::SignedGreaterThan, x, zero);
                    self.b.ins().isub(below, above)
                } else {
                    let some = self.b.ins().icmp(IntCC::NotEqual, x, zero);
                    self.b.ins().ineg(some)
                }
            }
            _ => x,
        }
    }

    /// The larger or the smaller one of two integers.
    fn extreme(&mut self, dtype: DType, larger: bool, x: Value, y: Value) -> Value {
        match (larger, scalar::is_signed(dtype)) {
            _ if is_wide(dtype) => {
                let less = self.less(dtype, x, y);
                let (then, otherwise) = if larger { (y, x) } else { (x, y) };
                self.b.ins().bitselect(less, then, otherwise)
            }
            (true, true) => self.b.ins().smax(x, y),
            (true, false) => self.b.ins().umax(x, y),
            (false, true) => self.b.ins().smin(x, y),
            (false, false) => self.b.ins().umin(x, y),
        }
    }

    /// `x < y`, as a mask.
    fn less(&mut self, dtype: DType, mut x: Value, mut y: Value) -> Value {
        if scalar::is_signed(dtype) {
            return self.b.ins().icmp(IntCC::SignedLessThan, x, y);
        }
        if is_wide(dtype) {
            // There are vector comparisons of signed numbers only: the order is the same with half the range taken off.
            let half = self.int(8, i64::MIN);
            (x, y) = (self.b.ins().bxor(x, half), self.b.ins().bxor(y, half));
            return self.b.ins().icmp(IntCC::SignedLessThan, x, y);
        }
        self.b.ins().icmp(IntCC::UnsignedLessThan, x, y)
    }

    fn binary(
        &mut self,
        function: BinaryFn,
        dtype: DType,
        x: &ElementGroup,
        y: &ElementGroup,
    ) -> ElementGroup {
        use BinaryFn::*;
        let compares = matches!(function, Equal | Less | LessOrEqual | Greater | GreaterOrEqual);
        if let (And | Or | Xor, ElementGroup::Mask(first), ElementGroup::Mask(second)) = (function, x, y) {
            let bytes = first.len().min(second.len());
            let (x, y) = (self.mask(x, bytes), self.mask(y, bytes));
            let both = x.iter().zip(&y);
            return ElementGroup::Mask(both.map(|(&x, &y)| self.int_binary(function, dtype, x, y)).collect());
        }
        let (x, y) = (self.elements(x), self.elements(y));
        if function == Mul && dtype.bytes() == 1 {
            // The lower half of a product is that of wider factors.
            let (x, y) = (self.widened(&x, false), self.widened(&y, false));
            let products: Vec<Value> = x.iter().zip(&y).map(|(&x, &y)| self.b.ins().imul(x, y)).collect();
            return ElementGroup::Elements(self.shortened(&products));
        }
        let mut parts = Vec::new();
        for (&x, &y) in x.iter().zip(&y) {
            parts.push(match dtype {
                DType::F32 if function == Pow => self.by_halves(&[x, y], |w, x| {
                    scalar::binary(w.b, Pow, (x[0], DType::F64), (x[1], DType::F64), true)
                }),
                DType::F32 | DType::F64 => {
                    let part = scalar::binary(self.b, function, (x, dtype), (y, dtype), true);
                    if compares { part } else { self.seen_as(vector_type(dtype), part) }
                }
                _ => self.int_binary(function, dtype, x, y),
            });
        }
        if compares { ElementGroup::Mask(parts) } else { ElementGroup::Elements(parts) }
    }

    fn int_binary(&mut self, function: BinaryFn, dtype: DType, x: Value, y: Value) -> Value {
        match function {
            BinaryFn::Add => self.b.ins().iadd(x, y),
            BinaryFn::Sub => self.b.ins().isub(x, y),
            BinaryFn::Mul => self.b.ins().imul(x, y),
            BinaryFn::Min => self.extreme(dtype, false, x, y),
            BinaryFn::Max => self.extreme(dtype, true, x, y),
            BinaryFn::Equal => self.b.ins().icmp(IntCC::Equal, x, y),
            BinaryFn::Less => self.less(dtype, x, y),
            BinaryFn::Greater => self.less(dtype, y, x),
            BinaryFn::LessOrEqual | BinaryFn::GreaterOrEqual => {
                let (x, y) = if function == BinaryFn::LessOrEqual { (y, x) } else { (x, y) };
                let less = self.less(dtype, x, y);
                self.b.ins().bnot(less)
            }
            BinaryFn::And | BinaryFn::BitAnd => self.b.ins().band(x, y),
            BinaryFn::Or | BinaryFn::BitOr => self.b.ins().bor(x, y),
            BinaryFn::Xor | BinaryFn::BitXor => self.b.ins().bxor(x, y),
            // `has` refuses them.
            BinaryFn::Div | BinaryFn::Mod { .. } | BinaryFn::Pow | BinaryFn::PRelu => x,
            BinaryFn::ShiftLeft | BinaryFn::ShiftRight => x,
        }
    }

    /// As [`scalar::cast`].
    fn cast(&mut self, from: DType, to: DType, x: ElementGroup) -> ElementGroup {
        if computed(from) == computed(to) {
            return x;
        }
        if let (ElementGroup::Mask(mask), true) = (&x, to != DType::Bool) {
            // The bits of one, or none.
            let mask = self.mask(&ElementGroup::Mask(mask.clone()), computed(to).bytes());
            let one = match to.is_float() {
                true => self.int(4, i64::from(1f32.to_bits())),
                false => self.int(to.bytes(), 1),
            };
            let ones = mask.into_iter().map(|mask| self.b.ins().band(mask, one));
            let ones: Vec<Value> = ones.collect();
            return ElementGroup::Elements(
                ones.into_iter().map(|one| self.seen_as(vector_type(computed(to)), one)).collect(),
            );
        }
        let parts = self.elements(&x);
        match (from.is_float(), to.is_float()) {
            (_, false) if to == DType::Bool => ElementGroup::Mask(self.not_zero(from, &parts)),
            (true, true) if to == DType::F64 => ElementGroup::Elements(self.promoted(&parts)),
            (true, true) => ElementGroup::Elements(self.demoted(&parts)),
            (true, false) => ElementGroup::Elements(self.float_to_int(to, &parts)),
            (false, true) => ElementGroup::Elements(self.int_to_float(from, &parts)),
            _ => ElementGroup::Elements(self.resized(from, to.bytes(), parts)),
        }
    }

    fn not_zero(&mut self, from: DType, parts: &[Value]) -> Vec<Value> {
        if from.is_float() {
            let zero = self.bytes_of(types::F32X4, &[0]);
            return parts.iter().map(|&x| self.b.ins().fcmp(FloatCC::NotEqual, x, zero)).collect();
        }
        let zero = self.int(from.bytes(), 0);
        parts.iter().map(|&x| self.b.ins().icmp(IntCC::NotEqual, x, zero)).collect()
    }

    fn resized(&mut self, from: DType, bytes: usize, mut parts: Vec<Value>) -> Vec<Value> {
        while parts.len() < bytes {
            parts = self.widened(&parts, scalar::is_signed(from));
        }
        while parts.len() > bytes {
            parts = self.shortened(&parts);
        }
        parts
    }

    fn float_to_int(&mut self, to: DType, parts: &[Value]) -> Vec<Value> {
        match to {
            DType::I64 => return self.float_to_long(parts),
            DType::U32 | DType::U64 => return self.float_to_natural(to, parts),
            _ => {}
        }
        let limited = self.at_most_the_largest(to, parts);
        let whole = match &limited {
            Some(limited) => self.cut_to_word(limited),
            None => self.float_to_word(parts),
        };
        // Narrowing saturates likewise, from signed numbers to either kind.
        let signed = scalar::is_signed(to);
        let mut parts = whole;
        while parts.len() > to.bytes() {
            let last = parts.len() / 2 == to.bytes();
            parts = (parts.chunks_exact(2))
                .map(|pair| match signed || !last {
                    true => self.b.ins().snarrow(pair[0], pair[1]),
                    false => self.b.ins().unarrow(pair[0], pair[1]),
                })
                .collect();
        }
        parts
    }

    /// Floats not above the largest number of a narrow type without signs. Of those, the instruction of x86 gives the least integer for
    /// NaN and for what is far below, and narrowing makes 0 of that, as both have to be.
    fn at_most_the_largest(&mut self, to: DType, parts: &[Value]) -> Option<Vec<Value>> {
        if self.arch != Arch::X86_64 || scalar::is_signed(to) || to.bytes() > 2 {
            return None;
        }
        let most = ((1u32 << (8 * to.bytes())) - 1) as f32;
        let most = self.bytes_of(types::F32X4, &most.to_le_bytes());
        let limited = parts.iter().map(|&x| {
            let less = self.b.ins().fcmp(FloatCC::LessThan, most, x);
            let less = self.seen_as(types::F32X4, less);
            self.b.ins().bitselect(less, most, x)
        });
        Some(limited.collect())
    }

    /// Integers of 32 bits by the instruction of x86.
    fn cut_to_word(&mut self, parts: &[Value]) -> Vec<Value> {
        parts.iter().map(|&x| self.b.ins().x86_cvtt2dq(types::I32X4, x)).collect()
    }

    /// Integers of 32 bits, which saturate. The instruction of x86 gives the least one for all that is none of them, which is seldom; so
    /// only then the others are told apart.
    fn float_to_word(&mut self, parts: &[Value]) -> Vec<Value> {
        let saturated = |w: &mut Self| {
            parts.iter().map(|&x| w.b.ins().fcvt_to_sint_sat(types::I32X4, x)).collect::<Vec<Value>>()
        };
        if self.arch != Arch::X86_64 {
            return saturated(self);
        }
        let words = self.cut_to_word(parts);
        let least = self.int(4, i64::from(i32::MIN));
        let outside: Vec<Value> = words.iter().map(|&x| self.b.ins().icmp(IntCC::Equal, x, least)).collect();
        self.unless_any(&outside, |_| words, saturated)
    }

    /// Integers of 32 or 64 bits without signs. Negative numbers and NaN are 0; what is left goes by way of 31 bits where all have room
    /// there, as most have.
    fn float_to_natural(&mut self, to: DType, parts: &[Value]) -> Vec<Value> {
        let zero = self.bytes_of(types::F32X4, &[0]);
        let beyond = self.bytes_of(types::F32X4, &2f32.powi(31).to_le_bytes());
        let positive = parts.iter().map(|&x| {
            let above = self.b.ins().fcmp(FloatCC::GreaterThan, x, zero);
            let above = self.seen_as(types::F32X4, above);
            self.b.ins().band(x, above)
        });
        let positive: Vec<Value> = positive.collect();
        let outside = positive.iter().map(|&x| self.b.ins().fcmp(FloatCC::GreaterThanOrEqual, x, beyond));
        let outside: Vec<Value> = outside.collect();
        self.unless_any(
            &outside,
            |w| {
                let words = match w.arch {
                    Arch::X86_64 => w.cut_to_word(&positive),
                    _ => positive.iter().map(|&x| w.b.ins().fcvt_to_sint_sat(types::I32X4, x)).collect(),
                };
                w.resized(DType::U32, to.bytes(), words)
            },
            |w| match to {
                DType::U32 => parts.iter().map(|&x| w.b.ins().fcvt_to_uint_sat(types::I32X4, x)).collect(),
                _ => w.by_lanes(DType::F32, to, parts),
            },
        )
    }

    /// Floats of 64 bits of such of 32.
    fn promoted(&mut self, parts: &[Value]) -> Vec<Value> {
        let order: Vec<u8> = (8..16).chain(0..8).collect();
        let halves = parts.iter().flat_map(|&x| {
            let upper = self.shuffled([x, x], &order);
            [x, upper].map(|half| self.b.ins().fvpromote_low(half))
        });
        halves.collect()
    }

    /// Floats of 32 bits of such of 64.
    fn demoted(&mut self, parts: &[Value]) -> Vec<Value> {
        let both: Vec<u8> = (0..8).chain(16..24).collect();
        let pairs = parts.chunks_exact(2).map(|pair| {
            let [low, high] = [pair[0], pair[1]].map(|half| self.b.ins().fvdemote(half));
            self.shuffled([low, high], &both)
        });
        pairs.collect()
    }

    fn int_to_float(&mut self, from: DType, parts: &[Value]) -> Vec<Value> {
        if from == DType::I64 {
            return self.long_to_float(parts);
        }
        let words = self.resized(from, 4, parts.to_vec());
        (words.into_iter())
            .map(|x| match from {
                DType::U32 => self.b.ins().fcvt_from_uint(types::F32X4, x),
                _ => self.b.ins().fcvt_from_sint(types::F32X4, x),
            })
            .collect()
    }

    /// By way of 32 bits where all have room there, as most have; one by one where not.
    fn float_to_long(&mut self, parts: &[Value]) -> Vec<Value> {
        // Bits of sizes are in their order, and NaN is above all.
        let most = self.int(4, i64::from(2f32.powi(31).to_bits() - 1));
        let outside = parts.iter().map(|&x| {
            let size = self.b.ins().fabs(x);
            let size = self.seen_as(types::I32X4, size);
            self.b.ins().icmp(IntCC::SignedGreaterThan, size, most)
        });
        let outside: Vec<Value> = outside.collect();
        self.unless_any(
            &outside,
            |w| {
                let words: Vec<Value> =
                    parts.iter().map(|&x| w.b.ins().fcvt_to_sint_sat(types::I32X4, x)).collect();
                w.widened(&words, true)
            },
            |w| w.by_lanes(DType::F32, DType::I64, parts),
        )
    }

    fn long_to_float(&mut self, parts: &[Value]) -> Vec<Value> {
        let words = self.shortened(parts);
        let back = self.widened(&words, true);
        // Bits that differ.
        let outside = back.iter().zip(parts).map(|(&x, &y)| self.b.ins().bxor(x, y));
        let outside: Vec<Value> = outside.collect();
        self.unless_any(
            &outside,
            |w| words.iter().map(|&x| w.b.ins().fcvt_from_sint(types::F32X4, x)).collect(),
            |w| w.by_lanes(DType::I64, DType::F32, parts),
        )
    }

    /// `then` where no condition holds in any lane, else `otherwise`.
    fn unless_any(
        &mut self,
        conditions: &[Value],
        then: impl FnOnce(&mut Self) -> Vec<Value>,
        otherwise: impl FnOnce(&mut Self) -> Vec<Value>,
    ) -> Vec<Value> {
        let any = conditions.iter().copied().reduce(|x, y| {
            let ty = self.b.func.dfg.value_type(x);
            let y = self.seen_as(ty, y);
            self.b.ins().bor(x, y)
        });
        let Some(any) = any else { return then(self) };
        let any = self.b.ins().vany_true(any);
        let [usual, seldom, done] = [(); 3].map(|()| self.b.create_block());
        self.b.set_cold_block(seldom);
        self.b.ins().brif(any, seldom, &[], usual, &[]);
        self.b.switch_to_block(usual);
        self.b.seal_block(usual);
        let values = then(self);
        for &v in &values {
            let ty = self.b.func.dfg.value_type(v);
            self.b.append_block_param(done, ty);
        }
        let args: Vec<_> = values.into_iter().map(Into::into).collect();
        self.b.ins().jump(done, &args);
        self.b.switch_to_block(seldom);
        self.b.seal_block(seldom);
        let args: Vec<_> = otherwise(self).into_iter().map(Into::into).collect();
        self.b.ins().jump(done, &args);
        self.b.switch_to_block(done);
        self.b.seal_block(done);
        self.b.block_params(done).to_vec()
    }

    /// A cast of one element after the other.
    fn by_lanes(&mut self, from: DType, to: DType, parts: &[Value]) -> Vec<Value> {
        let mut elements = Vec::new();
        for &part in parts {
            for lane in 0..(GROUP / from.bytes()) as u8 {
                let one = self.b.ins().extractlane(part, lane);
                elements.push(scalar::cast(self.b, from, to, one));
            }
        }
        let lanes = GROUP / to.bytes();
        (elements.chunks(lanes))
            .map(|ones| {
                let mut all = self.b.ins().splat(vector_type(to), ones[0]);
                for (lane, &one) in ones.iter().enumerate().skip(1) {
                    all = self.b.ins().insertlane(all, one, lane as u8);
                }
                all
            })
            .collect()
    }
}

/// How bits are seen as another type.
fn little() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

/// No trap: every access was checked. Not aligned: windows start anywhere.
fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_endianness(Endianness::Little)
}
