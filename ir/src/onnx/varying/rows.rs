//! Elements along an axis that varies: some of them, those of several values one behind the other, more of them.

use super::amount::{Amount, Range};
use super::{NodeReader, size};
use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::ops::Results;
use crate::op::{
    AxisSlice, BinaryFn, Cast, Concat, Expand, GatherAt, OpError, Pad, PadMode, Reshape, Slice, Where,
};
use crate::types::{DType, Shape};

impl NodeReader<'_, '_> {
    /// Which elements of a shape are there: a mask that is broadcast to it.
    pub(super) fn there(&mut self, shape: &Shape, axes: &[(usize, Amount)]) -> Result<Value, NodeFault> {
        let mut mask = None;
        for (axis, amount) in axes {
            let numbers = self.numbers_along(shape.rank(), *axis, shape[*axis])?;
            let count = self.amount(amount)?;
            let there = self.number(BinaryFn::Less, numbers, count)?;
            mask = Some(match mask {
                Some(mask) => self.number(BinaryFn::And, mask, there)?,
                None => there,
            });
        }
        mask.ok_or_else(|| NodeFault::invalid("nothing varies"))
    }

    /// Values one behind the other along an axis along which some vary.
    ///
    /// ```text
    ///   bounds 3 and 2, of which 2 and 1 are there:   a b · │ c ·   ─▶   a b c · ·     elements 0 1 3 4 4
    /// ```
    pub(super) fn joined(&mut self, axis: usize, parts: &[Value]) -> Result<Value, NodeFault> {
        let mut extents = self.extents(parts[0]);
        for &part in &parts[1..] {
            for (other, extent) in
                self.extents(part).into_iter().enumerate().filter(|(other, _)| *other != axis)
            {
                if extents.get(other) != Some(&extent) {
                    return Err(self.unequal(part, other));
                }
            }
        }
        let whole = self.plain(Concat { axis }, parts)?;
        let bound = self.ty(whole).shape[axis];
        let (mut total, mut shifts) = (Amount::default(), Vec::new());
        for (index, &part) in parts.iter().enumerate() {
            let extent = self.extent(part, axis);
            let missing = Amount::from(self.ty(part).shape[axis]).minus(&extent);
            total = total.plus(&extent);
            if missing.known() != Some(0) && index + 1 < parts.len() {
                shifts.push((total.clone(), missing));
            }
        }
        extents[axis] = total;
        if shifts.is_empty() {
            return self.sized(whole, &extents, false);
        }
        let numbers = self.numbers_along(1, 0, bound)?;
        let mut places = numbers;
        for (end, missing) in shifts {
            let (end, missing, zero) = (self.amount(&end)?, self.amount(&missing)?, self.integer(0)?);
            let behind = self.number(BinaryFn::GreaterOrEqual, numbers, end)?;
            let shift = self.plain(Where, &[behind, missing, zero])?;
            places = self.number(BinaryFn::Add, places, shift)?;
        }
        let last = self.integer(bound as i64 - 1)?;
        let places = self.number(BinaryFn::Min, places, last)?;
        let joined = self.plain(GatherAt { axis }, &[whole, places])?;
        self.sized(joined, &extents, false)
    }

    /// One of two values, as a condition says, which may have other extents than the other one.
    ///
    /// ```text
    ///   a [2, 4]   b [n, 4]      c ? a : b   [c ? 2 : n, 4]
    /// ```
    pub(in crate::onnx) fn either(
        &mut self,
        condition: Value,
        a: Value,
        b: Value,
    ) -> Result<Value, NodeFault> {
        let (of_a, of_b) = (self.extents(a), self.extents(b));
        let mut extents = Vec::with_capacity(of_a.len());
        for (a, b) in of_a.into_iter().zip(of_b) {
            if a == b {
                extents.push(a);
                continue;
            }
            let range = a.range().hull(b.range());
            let (a, b) = (self.amount(&a)?, self.amount(&b)?);
            let chosen = self.plain(Where, &[condition, a, b])?;
            extents.push(Amount::element(chosen, 0, range));
        }
        let (a, b) = (self.grown(a, &extents)?, self.grown(b, &extents)?);
        let chosen = self.plain(Where, &[condition, a, b])?;
        self.sized(chosen, &extents, false)
    }

    /// A value with as much room as some extents may take.
    fn grown(&mut self, x: Value, extents: &[Amount]) -> Result<Value, NodeFault> {
        let shape = self.shape(x);
        let mut end = vec![0isize; shape.rank()];
        for (axis, extent) in extents.iter().enumerate() {
            let more = size(extent)?.saturating_sub(shape[axis]);
            end[axis] = isize::try_from(more).map_err(|_| OpError::Overflow)?;
        }
        match end.iter().any(|&more| more > 0) {
            true => self.plain(Pad { begin: vec![0; end.len()], end, mode: PadMode::Constant(0.0) }, &[x]),
            false => Ok(x),
        }
    }

    /// A bound of a slice, counted from the front: negative ones count from the end.
    fn counted_from_front(&mut self, bound: &Amount, extent: &Amount) -> Result<Amount, NodeFault> {
        let Range { low, high } = bound.range();
        if low >= 0 {
            return Ok(bound.clone());
        }
        if high < 0 {
            return Ok(match bound.known() {
                Some(i64::MIN..=-0x4000_0000_0000_0000) => (-0x4000_0000_0000_0000i64).into(),
                _ => bound.plus(extent),
            });
        }
        let (value, all, zero) = (self.amount(bound)?, self.amount(extent)?, self.integer(0)?);
        let negative = self.number(BinaryFn::Less, value, zero)?;
        let moved = self.number(BinaryFn::Add, value, all)?;
        let front = self.plain(Where, &[negative, moved, value])?;
        Ok(Amount::element(front, 0, Range::new(low, high)))
    }

    /// The elements from one bound to another along an axis, as ONNX clamps them, where an extent or a bound varies.
    pub(in crate::onnx) fn cut(
        &mut self,
        x: Value,
        axis: usize,
        [start, end]: [&Amount; 2],
        step: i64,
    ) -> Result<Value, NodeFault> {
        let (extent, bound) = (self.extent(x, axis), self.ty(x).shape[axis]);
        let (start, end) = (self.counted_from_front(start, &extent)?, self.counted_from_front(end, &extent)?);
        let (zero, one) = (Amount::from(0i64), Amount::from(1i64));
        let (start, span) = match step {
            0 => return Err(NodeFault::invalid("a step of 0 makes no sense")),
            1.. => {
                let (start, end) = (start.larger(&zero).smaller(&extent), end.larger(&zero).smaller(&extent));
                (start.clone(), end.minus(&start))
            }
            _ => {
                let last = extent.minus(&one);
                let below = Amount::from(-1i64);
                let (start, end) = (start.larger(&zero).smaller(&last), end.larger(&below).smaller(&last));
                (start.clone(), start.minus(&end))
            }
        };
        let pace = i64::try_from(step.unsigned_abs()).map_err(|_| OpError::Overflow)?;
        let len = match pace {
            1 => span.larger(&zero),
            _ => span.plus(&(pace - 1).into()).quotient(pace).larger(&zero),
        };
        // However the bounds depend on each other, there are no more than lie on the axis.
        let most = Amount::from(bound.div_ceil(usize::try_from(pace).unwrap_or(usize::MAX)));
        let len = len.smaller(&most);
        self.taken(x, axis, [&start, &len], step)
    }

    /// So many elements along an axis from one on, in steps; those behind what is there are any.
    fn taken(
        &mut self,
        x: Value,
        axis: usize,
        [start, len]: [&Amount; 2],
        step: i64,
    ) -> Result<Value, NodeFault> {
        let mut extents = self.extents(x);
        let (extent, bound) = (extents[axis].clone(), self.ty(x).shape[axis]);
        extents[axis] = len.clone();
        if *start == extent || len.range().high == 0 {
            extents[axis] = 0i64.into();
            let none = self.first(x, axis, 0, 0)?;
            return self.sized(none, &extents, false);
        }
        let count = size(len)?;
        let zeros = self.importer.sizes.all.get(&x).is_none_or(|varying| varying.zeros);
        if let (Some(first), 1) = (start.known(), step)
            && let Ok(first) = usize::try_from(first)
            && first + count <= bound
        {
            if extents == self.extents(x) {
                return Ok(x);
            }
            let part = self.first(x, axis, first, count)?;
            let zeros = zeros && start.plus(len) == extent;
            return self.sized(part, &extents, zeros);
        }
        let numbers = self.numbers_along(1, 0, count)?;
        let (pace, first) = (self.integer(step)?, self.amount(start)?);
        let steps = self.number(BinaryFn::Mul, numbers, pace)?;
        let places = self.number(BinaryFn::Add, steps, first)?;
        let places = self.held(places, bound)?;
        let part = self.plain(GatherAt { axis }, &[x, places])?;
        self.sized(part, &extents, false)
    }

    /// An axis that varies, or of which the parts do, in parts of given sizes, one behind the other. That they come to what there is
    /// may be known, or is asked of the run.
    ///
    /// ```text
    ///   a b c · · in parts of 1 and 2   ─▶   a   b c        one of three elements, and none of two, is an error of the run
    /// ```
    pub(in crate::onnx) fn parted(&mut self, x: Value, axis: usize, parts: &[Amount]) -> Results {
        let extent = self.extent(x, axis);
        let total = parts.iter().fold(Amount::default(), |sum, part| sum.plus(part));
        let (wanted, there) = (total.range(), extent.range());
        if wanted.low > there.high
            || wanted.high < there.low
            || parts.iter().any(|part| part.range().high < 0)
        {
            let all = if wanted.low == wanted.high { String::new() } else { "at least ".to_owned() };
            return Err(NodeFault::invalid(format!(
                "parts that come to {all}{} elements do not split axis {axis} of {}",
                wanted.low,
                self.ty(x)
            )));
        }
        let mut x = self.demand([&total, &extent], axis, x)?;
        x = self.demand([&extent, &total], axis, x)?;
        let zero = Amount::default();
        for part in parts {
            x = self.demand([&part.times(-1), &zero], axis, x)?;
        }
        let mut start = zero;
        let mut results = Vec::with_capacity(parts.len());
        for part in parts {
            let len = self.bounded(part)?;
            results.push(self.taken(x, axis, [&start, &len], 1)?);
            start = start.plus(part);
        }
        Ok(results)
    }

    /// An axis that varies in so many equal parts. What cannot be divided is an error of the run, unless the last ones may be `shorter`.
    pub(in crate::onnx) fn parted_evenly(
        &mut self,
        mut x: Value,
        axis: usize,
        count: usize,
        shorter: bool,
    ) -> Results {
        let extent = self.extent(x, axis);
        let count = i64::try_from(count).map_err(|_| OpError::Overflow)?;
        let part = match shorter {
            true => extent.plus(&(count - 1).into()).quotient(count),
            false => extent.quotient(count),
        };
        if !shorter {
            x = self.demand([&extent, &part.times(count)], axis, x)?;
        }
        let mut results = Vec::new();
        for number in 0..count {
            let start = part.times(number);
            let len = match shorter && number > 0 {
                true => extent.minus(&start).larger(&0i64.into()).smaller(&part),
                false => part.clone(),
            };
            let len = self.bounded(&len)?;
            results.push(self.taken(x, axis, [&start, &len], 1)?);
        }
        Ok(results)
    }

    /// Neighbouring elements of an axis, as a value of its own, of which other things may be said.
    fn first(&mut self, x: Value, axis: usize, start: usize, len: usize) -> Result<Value, NodeFault> {
        self.plain(Slice { axes: vec![AxisSlice { axis, start, step: 1, len }] }, &[x])
    }

    /// Indices, those outside of an axis being the nearest ones inside.
    fn held(&mut self, places: Value, bound: usize) -> Result<Value, NodeFault> {
        let (zero, last) = (self.integer(0)?, self.integer(bound as i64 - 1)?);
        let places = self.number(BinaryFn::Max, places, zero)?;
        self.number(BinaryFn::Min, places, last)
    }

    /// Elements before and behind those of an axis, where how many varies; negative numbers cut.
    pub(in crate::onnx) fn padded(
        &mut self,
        x: Value,
        axis: usize,
        [before, behind]: [&Amount; 2],
        mode: PadMode,
    ) -> Result<Value, NodeFault> {
        let mut extents = self.extents(x);
        let (extent, bound) = (extents[axis].clone(), self.ty(x).shape[axis]);
        let total = self.bounded(&extent.plus(before).plus(behind))?;
        let count = size(&total)?;
        extents[axis] = total;
        if bound == 0 || count == 0 {
            let filler = match mode {
                PadMode::Constant(filler) => filler,
                _ => 0.0,
            };
            let none = self.first(x, axis, 0, 0)?;
            let (mut end, begin) = (vec![0; extents.len()], vec![0; extents.len()]);
            end[axis] = isize::try_from(count).map_err(|_| OpError::Overflow)?;
            let full = self.plain(Pad { begin, end, mode: PadMode::Constant(filler) }, &[none])?;
            return self.sized(full, &extents, false);
        }
        let numbers = self.numbers_along(1, 0, count)?;
        let first = self.amount(before)?;
        let places = self.number(BinaryFn::Sub, numbers, first)?;
        let there = self.amount(&extent)?;
        let moved = match mode {
            PadMode::Constant(_) | PadMode::Edge => {
                let one = self.integer(1)?;
                let last = self.number(BinaryFn::Sub, there, one)?;
                let nearest = self.number(BinaryFn::Min, places, last)?;
                let nearest = self.held(nearest, bound)?;
                self.plain(GatherAt { axis }, &[x, nearest])?
            }
            _ => return Err(self.refused(x, axis)),
        };
        let PadMode::Constant(filler) = mode else { return self.sized(moved, &extents, false) };
        let zero = self.integer(0)?;
        let above = self.number(BinaryFn::GreaterOrEqual, places, zero)?;
        let below = self.number(BinaryFn::Less, places, there)?;
        let inside = self.number(BinaryFn::And, above, below)?;
        let mut shape = vec![1; extents.len()];
        shape[axis] = count;
        let inside = self.plain(Reshape { shape }, &[inside])?;
        let filler = self.add_constant(super::filler_of(self.dtype(x), filler)?);
        let padded = self.plain(Where, &[inside, moved, filler])?;
        self.sized(padded, &extents, false)
    }

    /// The integers from one to before another one in steps.
    pub(in crate::onnx) fn counted_up(
        &mut self,
        start: &Amount,
        limit: &Amount,
        delta: i64,
        dtype: DType,
    ) -> Result<Value, NodeFault> {
        let span = if delta > 0 { limit.minus(start) } else { start.minus(limit) };
        let pace = i64::try_from(delta.unsigned_abs()).map_err(|_| OpError::Overflow)?;
        let count = self.bounded(&span.plus(&(pace - 1).into()).quotient(pace))?;
        let bound = size(&count)?;
        let numbers = self.numbers_along(1, 0, bound)?;
        let (pace, first) = (self.integer(delta)?, self.amount(start)?);
        let steps = self.number(BinaryFn::Mul, numbers, pace)?;
        let mut list = self.number(BinaryFn::Add, steps, first)?;
        if dtype != DType::I64 {
            list = self.plain(Cast { to: dtype }, &[list])?;
        }
        self.sized(list, &[count], false)
    }

    /// A value repeated along axes of extent 1, to a shape that varies.
    pub(in crate::onnx) fn spread(&mut self, x: Value, wanted: &[Amount]) -> Result<Value, NodeFault> {
        let from = self.extents(x);
        let rank = from.len().max(wanted.len());
        let (mut to, mut bounds) = (Vec::with_capacity(rank), Vec::with_capacity(rank));
        for i in 0..rank {
            let own = (i + from.len()).checked_sub(rank).map(|k| (k, from[k].clone()));
            let asked =
                (i + wanted.len()).checked_sub(rank).map_or(Amount::from(1i64), |k| wanted[k].clone());
            let asked = self.bounded(&asked)?;
            to.push(match own {
                None => asked,
                Some((_, own)) if own == asked || asked.is_one() => own,
                Some((_, own)) if own.is_one() => asked,
                Some((axis, _)) => return Err(self.unequal(x, axis)),
            });
            bounds.push(size(&to[i])?);
        }
        if to == from {
            return Ok(x);
        }
        if to.iter().all(|extent| extent.known().is_some()) {
            return self.emit(Expand { shape: bounds }, &[x]);
        }
        let y = self.plain(Expand { shape: bounds }, &[x])?;
        self.sized(y, &to, false)
    }
}
