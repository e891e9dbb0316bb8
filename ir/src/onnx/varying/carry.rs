//! How an axis that varies goes through each operator.
//!
//! [`way`] says it of one axis of one operand: which axis of the results it becomes, and what has to lie behind what is there. Operators whose axes
//! do not go one by one have a function each, which prepares operands so that they do, or composes the operator.

use std::collections::BTreeMap;

use super::NodeReader;
use super::amount::Amount;
use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::ops::Results;
use crate::op::{
    AxisSlice, BinaryFn, Compress, CumulativeKind, GatherAt, GatherElements, GatherNd, Inside, MatMul,
    NonMaxSuppression, Op, Outside, Pad, PadMode, Reduce, ReduceKind, Reshape, ScatterElements, Slice, TopK,
    Unique, Where,
};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// How an axis of an operand goes through an operator.
enum Way {
    /// It becomes this axis of all results; whatever lies behind what is there leads to what lies behind there.
    Kept(usize),
    /// It becomes this axis, but this number has to lie behind what is there.
    Filled(usize, f64),
    /// It is summed over, together with those of other operands that have this key; the number counts for nothing.
    Summed(usize, f64),
    /// Nothing behind what is there is read.
    Unread,
}

/// The shapes of a node.
struct Shapes<'s> {
    operands: &'s [Option<Shape>],
    result: &'s Shape,
}

impl Shapes<'_> {
    fn operand(&self, index: usize) -> Option<&Shape> {
        self.operands.get(index)?.as_ref()
    }

    /// The axis of the result that an axis is when both shapes are aligned at their ends and `behind` axes follow that are not: where it does
    /// not repeat.
    fn aligned(&self, from: &Shape, axis: usize) -> Option<usize> {
        let to = (axis + self.result.rank()).checked_sub(from.rank())?;
        (self.result[to] == from[axis]).then_some(to)
    }
}

/// What an axis of an operand becomes. `None`: this operator cannot tell what is there from what is not.
fn way(op: &Op, index: usize, axis: usize, shapes: &Shapes<'_>) -> Option<Way> {
    let from = shapes.operand(index)?;
    let kept = |axis: usize| Some(Way::Kept(axis));
    match op {
        Op::Unary(_) | Op::Cast(_) => kept(axis),
        Op::Binary(_) | Op::Where(_) | Op::Expand(_) => kept(shapes.aligned(from, axis)?),
        Op::Quantize(_) | Op::Dequantize(_) => kept(shapes.aligned(from, axis)?),
        Op::Transpose(op) => kept(op.perm.iter().position(|&a| a == axis)?),
        Op::Slice(op) if op.axes.iter().all(|s| s.axis != axis) => kept(axis),
        Op::Split(op) if op.axis != axis => kept(axis),
        Op::Concat(op) if op.axis != axis => kept(axis),
        Op::Pad(op) if op.begin[axis] == 0 && op.end[axis] == 0 => kept(axis),
        Op::Gather(op) if op.axis != axis => {
            kept(if axis < op.axis { axis } else { axis + op.indices.shape().rank() - 1 })
        }
        Op::GatherAt(op) => match index {
            1 => Some(Way::Filled(op.axis + axis, 0.0)),
            _ if axis == op.axis => Some(Way::Unread),
            _ if axis < op.axis => kept(axis),
            _ => kept(axis + shapes.result.rank() - from.rank()),
        },
        Op::GatherElements(op) => match index {
            1 => Some(Way::Filled(axis, 0.0)),
            _ if axis == op.axis => Some(Way::Unread),
            _ => kept(axis),
        },
        Op::GatherNd(op) => {
            let indices = shapes.operand(1)?;
            let depth = *indices.last()?;
            match index {
                1 if axis + 1 == indices.rank() => None,
                1 => Some(Way::Filled(axis, 0.0)),
                _ if axis < op.batch_dims => kept(axis),
                _ if axis < op.batch_dims + depth => Some(Way::Unread),
                _ => kept(indices.rank() - 1 + axis - op.batch_dims - depth),
            }
        }
        // Rows behind what is there go where nobody reads them, see `scatter`.
        Op::ScatterElements(_) | Op::ScatterNd(_) => {
            if index == 0 {
                kept(axis)
            } else {
                Some(Way::Unread)
            }
        }
        Op::TopK(op) if op.axis != axis => kept(axis),
        Op::TopK(op) => {
            // Of equal elements those with lower indices come first, and NaN is larger than every number.
            let last = if op.largest { f64::NEG_INFINITY } else { f64::NAN };
            Some(Way::Summed(0, last))
        }
        Op::Cumulative(op) if op.axis == axis && op.reverse => {
            Some(Way::Filled(axis, if op.kind == CumulativeKind::Prod { 1.0 } else { 0.0 }))
        }
        Op::Cumulative(_) => kept(axis),
        Op::ReverseSequence(op) => match index {
            1 => kept(op.batch_axis),
            _ => (axis != op.time_axis).then_some(Way::Kept(axis)),
        },
        Op::Reduce(op) if op.axes.contains(&axis) => Some(Way::Summed(axis, neutral(op.kind))),
        Op::Reduce(op) => {
            let gone = op.axes.iter().filter(|&&a| a < axis).count();
            kept(if op.keep_dims { axis } else { axis - gone })
        }
        Op::Softmax(crate::op::Softmax { axis: along })
        | Op::LogSoftmax(crate::op::LogSoftmax { axis: along }) => {
            if *along == axis {
                Some(Way::Filled(axis, f64::NEG_INFINITY))
            } else {
                kept(axis)
            }
        }
        Op::MatMul(op) => product(op, index, axis, shapes),
        Op::Einsum(op) => {
            let name = op.terms.get(index)?.get(axis)?;
            match op.result.iter().position(|other| other == name) {
                Some(to) => (shapes.result[to] == from[axis]).then_some(Way::Kept(to)),
                None => Some(Way::Summed(*name as usize, 0.0)),
            }
        }
        Op::LayerNorm(op) => (index == 0 && axis < op.axis).then_some(Way::Kept(axis)),
        Op::BatchNorm(_) | Op::ChannelAffine(_) | Op::Lrn(_) => {
            (index == 0 && axis != 1).then_some(Way::Kept(axis))
        }
        // Images of a batch are independent of each other.
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Pool(_) | Op::GlobalPool(_) | Op::InstanceNorm(_) => {
            (index == 0 && axis == 0).then_some(Way::Kept(0))
        }
        Op::Resize(op) => {
            (index == 0 && axis == 0 && op.sizes.first() == from.first()).then_some(Way::Kept(0))
        }
        Op::GridSample(_) => (axis == 0).then_some(Way::Kept(0)),
        Op::RoiAlign(_) | Op::MaxRoiPool(_) => (index > 0 && axis == 0).then_some(Way::Filled(0, 0.0)),
        Op::NonZero(_) => Some(Way::Summed(axis, 0.0)),
        _ => None,
    }
}

/// What counts for nothing in a reduction; infinities are the ends of types that have none.
fn neutral(kind: ReduceKind) -> f64 {
    use ReduceKind::*;
    match kind {
        Sum | Mean | L1 | L2 | SumSquare | LogSum => 0.0,
        Prod => 1.0,
        Max | LogSumExp | ArgMax { .. } => f64::NEG_INFINITY,
        Min | ArgMin { .. } => f64::INFINITY,
    }
}

/// An axis of a matrix product: rows, columns, those that are summed over, and those of a batch.
fn product(op: &MatMul, index: usize, axis: usize, shapes: &Shapes<'_>) -> Option<Way> {
    let (a, b, to) = (shapes.operand(0)?.rank(), shapes.operand(1)?.rank(), shapes.result);
    match index {
        MatMul::BIAS => return Some(Way::Kept(to.rank() - 1)),
        MatMul::RESIDUAL => return Some(Way::Kept(axis)),
        _ => {}
    }
    let (from, rank) = (shapes.operand(index)?, if index == 0 { a } else { b });
    let summed = if index == 0 || rank == 1 || op.trans_b { rank - 1 } else { rank - 2 };
    if axis == summed {
        return Some(Way::Summed(0, 0.0));
    }
    // A vector has no rows, or no columns.
    let (rows, columns) = (usize::from(a > 1), usize::from(b > 1));
    if axis + 2 >= rank {
        return Some(Way::Kept(if index == 0 { to.rank() - 1 - columns } else { to.rank() - 1 }));
    }
    let at = (axis + to.rank() - rows - columns).checked_sub(rank - 2)?;
    (to[at] == from[axis]).then_some(Way::Kept(at))
}

/// Whether an operator only moves elements, so that 0 stays 0.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Transpose(_)
            | Op::Slice(_)
            | Op::Split(_)
            | Op::Gather(_)
            | Op::Cast(_)
            | Op::Expand(_)
            | Op::Concat(_)
    )
}

impl NodeReader<'_, '_> {
    /// Adds an operator some of whose operands vary.
    pub(in crate::onnx) fn emit_varying(&mut self, op: Op, operands: &[Option<Value>]) -> Results {
        let given = |index: usize| operands.get(index).copied().flatten();
        let varies = |n: &Self, index: usize, axis: usize| {
            given(index).is_some_and(|value| n.extent(value, axis).known().is_none())
        };
        // What does not fit is refused before anything is prepared.
        self.infer(&op, operands)?;
        match (&op, given(0), given(1)) {
            (Op::Reshape(op), Some(x), _) => Ok(vec![self.reshape_varying(x, &op.shape)?]),
            (Op::Concat(op), ..)
                if operands.iter().flatten().any(|&v| self.extent(v, op.axis).known().is_none()) =>
            {
                let parts: Vec<Value> = operands.iter().copied().flatten().collect();
                Ok(vec![self.joined(op.axis, &parts)?])
            }
            (Op::Reduce(op), Some(x), _) if op.axes.iter().any(|&axis| varies(self, 0, axis)) => {
                Ok(vec![self.reduced(op, x)?])
            }
            (Op::Gather(op), Some(x), _) if varies(self, 0, op.axis) => {
                let indices = self.add_constant(op.indices.clone());
                self.emit_varying(GatherAt { axis: op.axis }.into(), &[Some(x), Some(indices)])
            }
            (Op::GatherAt(GatherAt { axis }), Some(x), Some(indices))
            | (Op::GatherElements(GatherElements { axis }), Some(x), Some(indices))
                if varies(self, 0, *axis) =>
            {
                let inside = self.inside(indices, *axis, &[self.extent(x, *axis)], Outside::Nearest)?;
                self.carried(op, &[Some(x), Some(inside)])
            }
            (Op::GatherNd(GatherNd { batch_dims }), Some(x), Some(indices)) => {
                let inside = self.inside_axes(x, indices, *batch_dims)?;
                self.carried(op, &[Some(x), Some(inside)])
            }
            (Op::ScatterElements(_) | Op::ScatterNd(_), Some(x), Some(indices)) => {
                let updates = given(2).ok_or_else(|| NodeFault::invalid("has no updates"))?;
                Ok(vec![self.scattered(&op, x, indices, updates)?])
            }
            (Op::TopK(op), Some(x), _) if varies(self, 0, op.axis) => self.best(op, x, &op.k.into()),
            (Op::NonZero(_), ..) => self.carried_as(op, operands, false),
            (Op::Compress(op), Some(x), Some(condition)) => self.compressed(op, x, condition),
            (Op::Unique(op), Some(x), _) => self.different(op, x),
            (Op::NonMaxSuppression(op), Some(boxes), Some(scores)) => {
                self.suppressed(op, boxes, scores, operands)
            }
            _ => self.carried(op, operands),
        }
    }

    fn infer(&self, op: &Op, operands: &[Option<Value>]) -> Result<Vec<TensorType>, NodeFault> {
        let types: Vec<Option<&TensorType>> = operands.iter().map(|v| v.map(|v| self.ty(v))).collect();
        Ok(op.infer(&types)?)
    }

    /// Adds an operator, of which each axis of an operand goes a way of its own.
    fn carried(&mut self, op: Op, operands: &[Option<Value>]) -> Results {
        self.carried_as(op, operands, true)
    }

    /// The same; `sizes` says whether results are as large as the axes that go through.
    fn carried_as(&mut self, op: Op, operands: &[Option<Value>], sizes: bool) -> Results {
        let shapes: Vec<Option<Shape>> = operands.iter().map(|v| v.map(|v| self.shape(v))).collect();
        let result = self.infer(&op, operands)?.first().map(|ty| ty.shape.clone()).unwrap_or_default();
        let shapes = Shapes { operands: &shapes, result: &result };
        let mut along: BTreeMap<usize, Amount> = BTreeMap::new();
        let mut summed: BTreeMap<usize, Amount> = BTreeMap::new();
        let mut prepared = operands.to_vec();
        let mut zeros = moves(&op);
        for (index, value) in operands.iter().enumerate().filter_map(|(i, v)| v.map(|v| (i, v))) {
            let mut filler: Option<(f64, Vec<usize>)> = None;
            for (axis, amount) in self.extents(value).into_iter().enumerate() {
                let varies = amount.known().is_none();
                let way = match way(&op, index, axis, &shapes) {
                    None if varies => return Err(self.refused(value, axis)),
                    None => continue,
                    Some(way) => way,
                };
                let (group, key, fill) = match way {
                    Way::Unread => continue,
                    Way::Kept(to) => (&mut along, to, None),
                    Way::Filled(to, number) => (&mut along, to, Some(number)),
                    Way::Summed(key, number) => (&mut summed, key, Some(number)),
                };
                // What has one element is repeated.
                match group.get(&key) {
                    Some(known) if *known == amount || amount.is_one() => {}
                    Some(known) if !known.is_one() && (varies || known.known().is_none()) => {
                        return Err(self.unequal(value, axis));
                    }
                    _ => {
                        group.insert(key, amount);
                    }
                }
                if let Some(number) = fill.filter(|_| varies) {
                    filler.get_or_insert((number, Vec::new())).1.push(axis);
                }
            }
            if let Some((number, axes)) = filler {
                prepared[index] = Some(self.masked(value, &axes, number)?);
            }
            zeros &= self.importer.sizes.all.get(&value).is_none_or(|varying| varying.zeros);
        }
        let results = self.emit_plain(op, &prepared)?;
        if !sizes {
            return Ok(results);
        }
        let mut varying = Vec::with_capacity(results.len());
        for result in results {
            let shape = self.shape(result);
            let extents = (0..shape.rank()).map(|axis| match along.get(&axis) {
                Some(amount) if amount.known().is_none() => amount.clone(),
                _ => shape[axis].into(),
            });
            let extents: Vec<Amount> = extents.collect();
            varying.push(self.sized(result, &extents, zeros)?);
        }
        Ok(varying)
    }

    /// A reduction over axes of which some vary.
    fn reduced(&mut self, op: &Reduce, x: Value) -> Result<Value, NodeFault> {
        let dtype = self.dtype(x);
        let result = |n: &mut Self, op: Reduce, x: Value| n.one(op, &[x]);
        match op.kind {
            ReduceKind::Mean => {
                // A sum of half floats has no more than 11 bits, and ends at 65504.
                let wide = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
                let x = self.cast(x, wide)?;
                let extents = self.extents(x);
                let count = op.axes.iter().fold(Amount::from(1i64), |n, &axis| n.product(&extents[axis]));
                let sum = result(self, Reduce { kind: ReduceKind::Sum, ..op.clone() }, x)?;
                let count = self.amount(&count)?;
                let count = self.cast(count, wide)?;
                let mean = self.binary(BinaryFn::Div, sum, count)?;
                self.cast(mean, dtype)
            }
            // What lies behind may equal the last of those that are there.
            ReduceKind::ArgMax { last: true } | ReduceKind::ArgMin { last: true } => {
                let extent = op.axes.first().map(|&axis| self.extent(x, axis)).unwrap_or_default();
                let found = result(self, op.clone(), x)?;
                let last = self.amount(&extent.minus(&1i64.into()).larger(&0i64.into()))?;
                self.binary(BinaryFn::Min, found, last)
            }
            _ => result(self, op.clone(), x),
        }
    }

    /// The one result of an operator whose axes go through one by one.
    fn one(&mut self, op: impl Into<Op>, operands: &[Value]) -> Result<Value, NodeFault> {
        let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
        let results = self.carried(op.into(), &operands)?;
        results.first().copied().ok_or_else(|| NodeFault::invalid("has no results"))
    }

    /// Indices into axes of which less is there than their bounds say, from a first axis on, the last axis of the indices going over them if there
    /// are many: from the start of what is there. Those behind what is there of the indices themselves are 0.
    fn inside(
        &mut self,
        indices: Value,
        axis: usize,
        extents: &[Amount],
        outside: Outside,
    ) -> Result<Value, NodeFault> {
        let rows = self.varying_axes(indices);
        let there = match rows.is_empty() {
            true => None,
            false => Some(self.there(&self.shape(indices), &rows)?),
        };
        let there_of_each = match extents {
            [one] => self.amount(one)?,
            many => self.tensor_of(many)?,
        };
        let operands = [Some(indices), Some(there_of_each), there];
        let operands = if there.is_some() { &operands[..] } else { &operands[..2] };
        let inside = self.emit_plain(Inside { axis, outside }.into(), operands)?;
        let inside = inside.first().copied().ok_or_else(|| NodeFault::invalid("has no results"))?;
        self.sized(inside, &self.extents(indices), true)
    }

    /// Indices of which each row has one for each axis, from a first one on.
    fn inside_axes(&mut self, x: Value, indices: Value, first: usize) -> Result<Value, NodeFault> {
        let depth = self.shape(indices).last().copied().unwrap_or(0);
        let extents: Vec<Amount> = (first..first + depth).map(|axis| self.extent(x, axis)).collect();
        if extents.iter().all(|extent| extent.known().is_some()) {
            return Ok(indices);
        }
        self.inside(indices, first, &extents, Outside::Nearest)
    }

    /// Elements behind what is there of indices and updates go to a row of their own, which is cut off.
    fn scattered(&mut self, op: &Op, x: Value, indices: Value, updates: Value) -> Result<Value, NodeFault> {
        let extents = self.extents(x);
        let rows = self.varying_axes(indices);
        let pointed = match op {
            Op::ScatterElements(ScatterElements { axis, .. }) => *axis..*axis + 1,
            _ => 0..self.shape(indices).last().copied().unwrap_or(0),
        };
        let axis = pointed.start;
        let cut = !rows.is_empty() && !extents.is_empty();
        // The row of their own is one that no index of the data may mean: neither from the end nor from outside.
        let indices = match cut || extents[pointed.clone()].iter().any(|extent| extent.known().is_none()) {
            true => self.inside(indices, axis, &extents[pointed], Outside::Nowhere)?,
            false => indices,
        };
        let lead = match op {
            Op::ScatterElements(_) => self.ty(indices).shape.rank(),
            _ => self.ty(indices).shape.rank().saturating_sub(1),
        };
        for axis in 0..lead {
            if self.extent(indices, axis) != self.extent(updates, axis) {
                return Err(self.unequal(updates, axis));
            }
        }
        if let Some(&(axis, _)) = rows.iter().find(|(axis, _)| *axis >= lead) {
            return Err(self.refused(indices, axis));
        }
        if !cut {
            let y = self.emit_plain(op.clone(), &[Some(x), Some(indices), Some(updates)])?;
            let y = y.first().copied().ok_or_else(|| NodeFault::invalid("has no results"))?;
            return self.sized(y, &extents, false);
        }
        let (shape, rank) = (self.shape(x), self.ty(x).shape.rank());
        let mut end = vec![0; rank];
        end[axis] = 1;
        let more = self.plain(Pad { begin: vec![0; rank], end, mode: PadMode::Constant(0.0) }, &[x])?;
        let outside = match op {
            Op::ScatterElements(_) => Tensor::new([1], &[shape[axis] as i64])?,
            _ => {
                let depth = self.shape(indices).last().copied().unwrap_or(0);
                let row: Vec<i64> = (0..depth).map(|i| if i == 0 { shape[0] as i64 } else { 0 }).collect();
                Tensor::new([depth], &row)?
            }
        };
        let outside = self.add_constant(outside);
        let outside = self.cast(outside, self.dtype(indices))?;
        let there = self.there(&self.shape(indices), &rows)?;
        let indices = self.plain(Where, &[there, indices, outside])?;
        let y = self.emit_plain(op.clone(), &[Some(more), Some(indices), Some(updates)])?;
        let y = y.first().copied().ok_or_else(|| NodeFault::invalid("has no results"))?;
        let cut = Slice { axes: vec![AxisSlice { axis, start: 0, step: 1, len: shape[axis] }] };
        let y = self.plain(cut, &[y])?;
        self.sized(y, &extents, false)
    }

    /// The best elements along an axis, of which as many are wanted as the run says, or which varies: no more than there are.
    pub(in crate::onnx) fn best(&mut self, op: &TopK, x: Value, wanted: &Amount) -> Results {
        let extent = self.extent(x, op.axis);
        let (wanted, bound) = (self.bounded(wanted)?, self.ty(x).shape[op.axis]);
        let k = super::size(&wanted)?.min(bound);
        let op = TopK { k, ..op.clone() };
        let mut results = Vec::new();
        for result in self.carried(op.clone().into(), &[Some(x)])? {
            let mut extents = self.extents(result);
            extents[op.axis] = wanted.smaller(&bound.into());
            let result = self.demand([&wanted, &extent], op.axis, result)?;
            results.push(self.sized(result, &extents, false)?);
        }
        Ok(results)
    }

    /// Slices of an axis that varies, or for a condition that does.
    fn compressed(&mut self, op: &Compress, x: Value, condition: Value) -> Results {
        let Some(axis) = op.axis else {
            let flat = self.flattened(x)?;
            return self.compressed(&Compress { axis: Some(0) }, flat, condition);
        };
        let mut condition = self.masked(condition, &[0], 0.0)?;
        let extent = self.extent(x, axis);
        if extent.known().is_none() && self.extent(condition, 0) != extent {
            let length = self.ty(condition).shape[0];
            let numbers = self.numbers_along(1, 0, length)?;
            let count = self.amount(&extent)?;
            let there = self.number(BinaryFn::Less, numbers, count)?;
            condition = self.number(BinaryFn::And, condition, there)?;
        }
        let results = self.emit_plain(Compress { axis: Some(axis) }.into(), &[Some(x), Some(condition)])?;
        let &[y, count] = &results[..] else { return Err(NodeFault::invalid("has no results")) };
        let mut extents = self.extents(x);
        extents[axis] = self.ty(y).shape[axis].into();
        Ok(vec![self.sized(y, &extents, false)?, count])
    }

    /// The different elements of a list of which some are there: what lies behind is different from all, or equal to the first.
    fn different(&mut self, op: &Unique, x: Value) -> Results {
        if op.axis.is_some_and(|_| self.ty(x).shape.rank() > 1) {
            let axis = self.varying_axes(x).first().map_or(0, |(axis, _)| *axis);
            return Err(self.refused(x, axis));
        }
        let flat = self.flattened(x)?;
        let op = Unique { axis: None, sorted: op.sorted };
        let extent = self.extent(flat, 0);
        let bound = self.ty(flat).shape[0];
        if extent.known().is_some() || bound == 0 {
            return self.emit_plain(op.into(), &[Some(flat)]);
        }
        let behind = self.amount(&Amount::from(bound).minus(&extent))?;
        let there = self.amount(&extent)?;
        if self.dtype(flat).is_float() {
            // Each NaN is different from everything, and they come last: sorted, and as they occur.
            let filled = self.masked(flat, &[0], f64::NAN)?;
            let mut results = self.emit_plain(op.into(), &[Some(filled)])?;
            if let Some(count) = results.last_mut() {
                *count = self.number(BinaryFn::Sub, *count, behind)?;
            }
            return self.sized_inverse(results, extent);
        }
        let first =
            self.plain(Slice { axes: vec![AxisSlice { axis: 0, start: 0, step: 1, len: 1 }] }, &[flat])?;
        let mask = self.there(&self.shape(flat), &[(0, extent.clone())])?;
        let filled = self.plain(Where, &[mask, flat, first])?;
        let mut results = self.emit_plain(op.into(), &[Some(filled)])?;
        if let [_, _, inverse, counts, count] = &mut results[..] {
            let own = self
                .plain(Slice { axes: vec![AxisSlice { axis: 0, start: 0, step: 1, len: 1 }] }, &[*inverse])?;
            let numbers = self.numbers_along(1, 0, bound)?;
            let here = self.number(BinaryFn::Equal, numbers, own)?;
            let fewer = self.number(BinaryFn::Sub, *counts, behind)?;
            *counts = self.plain(Where, &[here, fewer, *counts])?;
            *count = self.number(BinaryFn::Min, *count, there)?;
        }
        self.sized_inverse(results, extent)
    }

    /// There is one number of a group for each element.
    fn sized_inverse(&mut self, mut results: Vec<Value>, extent: Amount) -> Results {
        if let Some(inverse) = results.get_mut(2) {
            *inverse = self.sized(*inverse, &[extent], false)?;
        }
        Ok(results)
    }

    /// Boxes are selected of those that are there.
    fn suppressed(
        &mut self,
        op: &NonMaxSuppression,
        boxes: Value,
        scores: Value,
        operands: &[Option<Value>],
    ) -> Results {
        let extent = self.extent(boxes, 1);
        if extent != self.extent(scores, 2) {
            return Err(self.unequal(scores, 2));
        }
        for (value, axes) in [(boxes, &[0][..]), (scores, &[0, 1])] {
            if let Some(&axis) = axes.iter().find(|&&axis| self.extent(value, axis).known().is_none()) {
                return Err(self.refused(value, axis));
            }
        }
        let thresholds = [2, 3].map(|index| operands.get(index).copied().flatten());
        let count = self.amount(&extent)?;
        let [iou, least] = thresholds;
        self.emit_plain(op.clone().into(), &[Some(boxes), Some(scores), iou, least, Some(count)])
    }

    /// A value, where one amount is at most another one; else the last element of the one is an index outside of an axis that has as many
    /// as the other, and the run is an error.
    pub(super) fn demand(
        &mut self,
        [less, more]: [&Amount; 2],
        axis: usize,
        value: Value,
    ) -> Result<Value, NodeFault> {
        if less.at_most(more) {
            return Ok(value);
        }
        let (zero, last) = (self.integer(0)?, self.amount(&less.minus(&1i64.into()))?);
        let any = self.number(BinaryFn::GreaterOrEqual, last, zero)?;
        let extent = self.amount(more)?;
        let inside = Inside { axis, outside: Outside::Nearest };
        let last = self.plain(inside, &[last, extent, any])?;
        // None of the indices inside is less than the only one of a list of one.
        let index = self.number(BinaryFn::Min, last, zero)?;
        let extents = self.extents(value);
        let shape = self.shape(value).to_vec();
        let list = self.plain(Reshape { shape: [&[1], &shape[..]].concat() }, &[value])?;
        let same = self.plain(GatherAt { axis: 0 }, &[list, index])?;
        self.sized(same, &extents, false)
    }
}
