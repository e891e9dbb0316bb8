//! Values whose size only the run knows, while a model is read.
//!
//! Such a value has the shape of the most that there can be, its bounds; along some axes, [`Amount`]s say how many there are. What lies
//! behind those is there as memory only, and may be anything. For each operator, `carry.rs` says how an axis goes through it: whether it stays, what has to
//! lie behind for the operator to see what is there alone, and how large the results are. Where elements change places, `rows.rs` and
//! `regroup.rs` compute where they come from. At an output of the graph, a [`Prefix`](crate::op::Prefix) says that only those that are there are meant.
//!
//! ```text
//!   NonZero ─▶ i64[2, 12], n along axis 1 ─▶ Transpose ─▶ i64[12, 2], n along axis 0 ─▶ output
//!                                            ReduceSum ─▶ with 0 behind n, i64[2]
//!                                            Shape ─▶ [2, n]     (numbers.rs: what is computed of it)
//! ```
//!
//! So all that the graph has are common operators over known shapes; nothing behind the reader knows of varying sizes but the prefix, and
//! [`Inside`](crate::op::Inside), which holds indices of the data against what is there.

mod amount;
mod carry;
mod numbers;
mod regroup;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use amount::Formula;
pub(super) use amount::{Amount, Range};
use numbers::Known;

use super::error::{Fault, NodeFault};
use super::import::Importer;
use super::node::{NodeReader, scalar_tensor};
use crate::graph::{Graph, NodeId, Value};
use crate::op::{
    AxisSlice, Binary, BinaryFn, Cast, Op, OpError, Pad, PadMode, Prefix, Reshape, Slice, Where,
};
use crate::tensor::Tensor;
use crate::types::DType;

/// Parts of an amount, before the size of a value is taken as a number of its own.
const MOST_WEIGHT: usize = 24;

/// The largest extent that a size which only the run knows may come to. It is less than what types of 32 bits hold: that alone is no bound.
const MOST_EXTENT: i64 = 1 << 30;

/// What of a value varies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Varying {
    /// Axes along which less is there than the shape says, ascending, and how much.
    axes: Vec<(usize, Amount)>,
    /// Whether 0 lies behind what is there.
    zeros: bool,
}

/// What varies so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    all: BTreeMap<Value, Varying>,
    known: Known,
    /// Values that hold an amount.
    made: BTreeMap<Amount, Value>,
    /// Small tensors that are computed from sizes: some of their elements may be known.
    counts: BTreeSet<Value>,
    /// Nodes whose data decide how much there is, by their operands: the same ones make as many again.
    counters: BTreeMap<Vec<Option<Value>>, Vec<(Op, Vec<Value>)>>,
    /// Values with a number behind what is there, by value, axes, and the bits of that number.
    masked: BTreeMap<(Value, Vec<usize>, u64), Value>,
    /// The constants 0, 1, 2 … along an axis, by rank, axis and extent.
    numbers: BTreeMap<(usize, usize, usize), Value>,
}

impl Sizes {
    /// Whether less is there of a value than its shape says.
    pub(super) fn varies(&self, value: Value) -> bool {
        self.all.contains_key(&value)
    }

    /// The axes along which a value varies, and how much there is.
    pub(super) fn axes(&self, value: Value) -> &[(usize, Amount)] {
        self.all.get(&value).map_or(&[], |varying| &varying.axes)
    }

    /// How much there is along an axis.
    fn extent(&self, graph: &Graph, value: Value, axis: usize) -> Amount {
        let varying = self.axes(value).iter().find(|(a, _)| *a == axis).map(|(_, amount)| amount.clone());
        varying.unwrap_or_else(|| graph.ty(value).shape.get(axis).copied().unwrap_or(1).into())
    }
}

/// What an output returns of a value: as much as there is.
pub(super) fn as_there(importer: &mut Importer<'_>, name: &str, value: Value) -> Result<Value, Fault> {
    let varying = importer.sizes.axes(value).to_vec();
    if varying.is_empty() {
        return Ok(value);
    }
    let counts = varying.iter().map(|(_, amount)| importer.sizes.made.get(amount).copied());
    let operands: Vec<Option<Value>> = std::iter::once(Some(value)).chain(counts).collect();
    let axes = varying.iter().map(|(axis, _)| *axis).collect();
    let added = importer.graph.add(name, Prefix { axes }.into(), &operands);
    let fault = |what: String| Fault::Port { kind: "output", name: name.to_string(), what };
    added.map(Value::from).map_err(|e| fault(e.to_string()))
}

impl NodeReader<'_, '_> {
    fn sizes(&mut self) -> &mut Sizes {
        &mut self.importer.sizes
    }

    /// Whether less is there of a value than its shape says.
    pub(super) fn varies(&self, value: Value) -> bool {
        self.importer.sizes.varies(value)
    }

    /// The axes along which a value varies, and how much there is.
    fn varying_axes(&self, value: Value) -> Vec<(usize, Amount)> {
        self.importer.sizes.axes(value).to_vec()
    }

    /// How many elements there are of a value along an axis.
    pub(super) fn extent(&self, value: Value, axis: usize) -> Amount {
        self.importer.sizes.extent(&self.importer.graph, value, axis)
    }

    /// How many elements there are of a value along each axis.
    pub(super) fn extents(&self, value: Value) -> Vec<Amount> {
        (0..self.ty(value).shape.rank()).map(|axis| self.extent(value, axis)).collect()
    }

    /// Refuses an operand whose size only the run knows.
    pub(super) fn fixed(&self, value: Value) -> Result<(), NodeFault> {
        match self.importer.sizes.axes(value).first() {
            Some(&(axis, _)) => Err(self.refused(value, axis)),
            None => Ok(()),
        }
    }

    /// What to say of an operand that this operator cannot take.
    fn refused(&self, value: Value, axis: usize) -> NodeFault {
        NodeFault::unsupported(format!(
            "an operand of which only the run knows how many elements it has along axis {axis} of {}; \
             let the result of node \"{}\" be an output of the model, and do the rest behind it",
            self.ty(value),
            self.importer.graph.node(value.node).name
        ))
    }

    /// What to say of sizes of which it is not certain that they are equal.
    fn unequal(&self, value: Value, axis: usize) -> NodeFault {
        NodeFault::unsupported(format!(
            "operands of which only the run knows whether they have as many elements: along axis {axis} of {}; \
             let the result of node \"{}\" be an output of the model, and do the rest behind it",
            self.ty(value),
            self.importer.graph.node(value.node).name
        ))
    }

    /// Says how many elements there are of a value that has just been made, of which each extent is a bound. The value is cut or padded to the
    /// least bounds that these amounts have.
    fn sized(&mut self, value: Value, extents: &[Amount], zeros: bool) -> Result<Value, NodeFault> {
        let mut axes = Vec::new();
        let (mut slices, mut end) = (Vec::new(), vec![0isize; extents.len()]);
        for (axis, amount) in extents.iter().enumerate() {
            let there = self.ty(value).shape[axis];
            let amount = self.bounded(amount)?;
            let bound = amount.range().high as usize;
            if bound < there {
                slices.push(AxisSlice { axis, start: 0, step: 1, len: bound });
            }
            end[axis] = isize::try_from(bound.saturating_sub(there)).map_err(|_| OpError::Overflow)?;
            if amount.known().is_none() {
                // An output of the graph tells this number.
                self.amount(&amount)?;
                axes.push((axis, amount));
            }
        }
        let mut value = value;
        if !slices.is_empty() {
            value = self.plain(Slice { axes: slices }, &[value])?;
        }
        if end.iter().any(|&more| more != 0) {
            value =
                self.plain(Pad { begin: vec![0; end.len()], end, mode: PadMode::Constant(0.0) }, &[value])?;
        }
        if !axes.is_empty() {
            self.sizes().all.insert(value, Varying { axes, zeros });
        }
        Ok(value)
    }

    /// A constant that goes on as far as another value's bounds, of which as much is there as of that one.
    pub(super) fn as_far(&mut self, constant: Value, extents: &[Amount]) -> Result<Value, NodeFault> {
        if extents.iter().all(|extent| extent.known().is_some()) {
            return Ok(constant);
        }
        let own = self.plain(Reshape { shape: self.shape(constant).to_vec() }, &[constant])?;
        self.sized(own, extents, false)
    }

    /// An amount as an extent: not negative, and with a bound.
    fn bounded(&mut self, amount: &Amount) -> Result<Amount, NodeFault> {
        let amount = amount.larger(&0i64.into());
        let Range { low, high } = amount.range();
        if low == high {
            return Ok(low.into());
        }
        if high > MOST_EXTENT && amount.known().is_none() {
            return Err(NodeFault::unsupported(
                "a size that only the run knows, and of which no bound is known; take the Min of it and a constant",
            ));
        }
        if amount.weight() <= MOST_WEIGHT {
            return Ok(amount);
        }
        let value = self.amount(&amount)?;
        Ok(Amount::element(value, 0, amount.range()))
    }

    /// A value that has as many elements along an axis as another one says.
    pub(super) fn counted(&mut self, value: Value, axis: usize, count: Value) -> Result<Value, NodeFault> {
        if let (Some(tensor), Some(count)) =
            (self.constant_of(value).cloned(), self.constant_of(count).cloned())
        {
            let mut real = Op::from(Prefix { axes: vec![axis] }).eval(&[Some(&tensor), Some(&count)])?;
            let real = real.pop().ok_or_else(|| NodeFault::invalid("has no results"))?;
            return Ok(self.add_constant(real));
        }
        let mut extents = self.extents(value);
        extents[axis] = self.number_in(count, 0)?;
        self.sized(value, &extents, true)
    }

    /// The results of a node that does the same and whose data decide how much there is: then as much is there of both.
    pub(super) fn counted_before(&self, op: &Op, operands: &[Option<Value>]) -> Option<Vec<Value>> {
        let before = self.importer.sizes.counters.get(operands)?;
        before.iter().find(|(other, _)| other == op).map(|(_, results)| results.clone())
    }

    /// Keeps a node in mind if its data decide how much there is.
    pub(super) fn remember_counter(&mut self, node: NodeId, operands: &[Option<Value>], results: &[Value]) {
        let op = &self.importer.graph.node(node).op;
        if matches!(op, Op::NonZero(_) | Op::Compress(_) | Op::Unique(_) | Op::NonMaxSuppression(_)) {
            let known = (op.clone(), results.to_vec());
            self.sizes().counters.entry(operands.to_vec()).or_default().push(known);
        }
    }

    /// An element of a tensor of integers.
    fn number_in(&mut self, value: Value, index: usize) -> Result<Amount, NodeFault> {
        let found = self.numbers_in(value).and_then(|list| list.get(index).cloned().flatten());
        found.ok_or_else(|| NodeFault::invalid("a size that is no whole number"))
    }

    fn numbers_in(&mut self, value: Value) -> Option<Vec<Option<Amount>>> {
        let importer = &mut *self.importer;
        importer.sizes.known.numbers(&importer.graph, value)
    }

    /// The integers of an operand that decides sizes; `None` when it is left out.
    pub(super) fn amounts(
        &mut self,
        index: usize,
        operand: &'static str,
    ) -> Result<Option<Vec<Amount>>, NodeFault> {
        let Some(value) = self.optional(index)? else { return Ok(None) };
        if self.constant_of(value).is_some() {
            let list = self.ints(index, operand)?.unwrap_or_default();
            return Ok(Some(list.into_iter().map(Amount::from).collect()));
        }
        let integers = !self.dtype(value).is_float() && !self.varies(value);
        let found = self.numbers_in(value).filter(|_| integers);
        match found.and_then(|list| list.into_iter().collect::<Option<Vec<Amount>>>()) {
            // What nothing is known of has to become known first.
            Some(list) if list.iter().all(|n| n.range().high <= MOST_EXTENT || n.known().is_some()) => {
                Ok(Some(list))
            }
            _ => self.constant(index, operand).map(|_| None),
        }
    }

    /// A tensor that is computed from sizes, of which every element is known whatever the data are.
    pub(super) fn settled(&mut self, value: Value) -> Option<Tensor> {
        if !self.importer.sizes.counts.contains(&value) {
            return None;
        }
        let known: Vec<i64> =
            self.numbers_in(value)?.into_iter().map(|n| n?.known()).collect::<Option<_>>()?;
        let ty = self.ty(value).clone();
        let wide = Tensor::new(ty.shape, &known).ok()?;
        if ty.dtype == DType::I64 {
            return Some(wide);
        }
        Op::from(Cast { to: ty.dtype }).eval(&[Some(&wide)]).ok()?.pop()
    }

    /// Keeps in mind that small results are computed from sizes, when an operand is; gives those that are known as constants.
    pub(super) fn follow(&mut self, operands: &[Option<Value>], results: Vec<Value>) -> Vec<Value> {
        let counts = &self.importer.sizes.counts;
        if counts.is_empty() || !operands.iter().flatten().any(|value| counts.contains(value)) {
            return results;
        }
        results
            .into_iter()
            .map(|result| {
                self.sizes().counts.insert(result);
                match self.settled(result) {
                    Some(tensor) => self.add_constant(tensor),
                    None => result,
                }
            })
            .collect()
    }

    /// A tensor `i64[n]` of amounts.
    pub(super) fn tensor_of(&mut self, amounts: &[Amount]) -> Result<Value, NodeFault> {
        if let Some(known) = amounts.iter().map(Amount::known).collect::<Option<Vec<i64>>>() {
            return Ok(self.add_constant(Tensor::new([known.len()], &known)?));
        }
        let mut parts = Vec::with_capacity(amounts.len());
        for amount in amounts {
            let scalar = self.amount(amount)?;
            parts.push(self.plain(Reshape { shape: vec![1] }, &[scalar])?);
        }
        let all = self.concat(0, &parts)?;
        self.sizes().counts.insert(all);
        Ok(all)
    }

    /// A scalar of type `i64` that holds an amount.
    pub(super) fn amount(&mut self, amount: &Amount) -> Result<Value, NodeFault> {
        if let Some(number) = amount.known() {
            return self.integer(number);
        }
        if let Some(&made) = self.importer.sizes.made.get(amount) {
            return Ok(made);
        }
        let value = match amount.formula() {
            Formula::Constant(number) => self.integer(number)?,
            Formula::Element { value, index } => self.element(value, index)?,
            Formula::Positive(part) => {
                let (part, zero) = (self.amount(part)?, self.integer(0)?);
                self.number(BinaryFn::Max, part, zero)?
            }
            Formula::Product([a, b]) => {
                let (a, b) = (self.amount(a)?, self.amount(b)?);
                self.number(BinaryFn::Mul, a, b)?
            }
            Formula::Quotient(amount, by) => {
                let amount = amount.clone();
                let whole = self.amount(&amount)?;
                // Integers are cut towards 0, amounts are rounded down.
                let divisor = self.integer(by)?;
                let rest = self.number(BinaryFn::Mod { fmod: false }, whole, divisor)?;
                let exact = self.number(BinaryFn::Sub, whole, rest)?;
                self.number(BinaryFn::Div, exact, divisor)?
            }
            Formula::Sum(constant, terms) => {
                let mut sum = None;
                for (term, times) in terms {
                    let mut value = self.amount(&term)?;
                    if times != 1 {
                        let times = self.integer(times)?;
                        value = self.number(BinaryFn::Mul, value, times)?;
                    }
                    sum = Some(match sum {
                        Some(sum) => self.number(BinaryFn::Add, sum, value)?,
                        None => value,
                    });
                }
                let first = self.integer(constant)?;
                match sum {
                    Some(sum) if constant == 0 => sum,
                    Some(sum) => self.number(BinaryFn::Add, sum, first)?,
                    None => first,
                }
            }
        };
        let sizes = self.sizes();
        sizes.made.insert(amount.clone(), value);
        sizes.known.tell(value, vec![amount.clone()]);
        sizes.counts.insert(value);
        Ok(value)
    }

    /// A function of two values that are all there, or of whose elements behind nothing is read.
    fn number(&mut self, function: BinaryFn, a: Value, b: Value) -> Result<Value, NodeFault> {
        self.plain(Binary { function, activation: None }, &[a, b])
    }

    /// An element of a value as a scalar `i64`.
    fn element(&mut self, value: Value, index: usize) -> Result<Value, NodeFault> {
        let elems = self.ty(value).shape.elems();
        let mut one = value;
        if elems != 1 {
            one = self.plain(Reshape { shape: vec![elems] }, &[one])?;
            one = self
                .plain(Slice { axes: vec![AxisSlice { axis: 0, start: index, step: 1, len: 1 }] }, &[one])?;
        }
        if self.ty(one).shape.rank() != 0 {
            one = self.plain(Reshape { shape: Vec::new() }, &[one])?;
        }
        if self.dtype(one) == DType::I64 { Ok(one) } else { self.plain(Cast { to: DType::I64 }, &[one]) }
    }

    /// Adds an operator with one result, which sees its operands as large as their shapes say.
    fn plain(&mut self, op: impl Into<Op>, operands: &[Value]) -> Result<Value, NodeFault> {
        let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
        let results = self.emit_plain(op.into(), &operands)?;
        results.first().copied().ok_or_else(|| NodeFault::invalid("has no results"))
    }

    /// The numbers 0, 1, 2 … along one axis of `rank`.
    fn numbers_along(&mut self, rank: usize, axis: usize, extent: usize) -> Result<Value, NodeFault> {
        if let Some(&made) = self.importer.sizes.numbers.get(&(rank, axis, extent)) {
            return Ok(made);
        }
        let mut shape = vec![1; rank];
        shape[axis] = extent;
        let numbers = self.counting(DType::I64, shape)?;
        self.sizes().numbers.insert((rank, axis, extent), numbers);
        Ok(numbers)
    }

    /// Puts a number behind what is there of a value, along some of its axes.
    fn masked(&mut self, value: Value, axes: &[usize], filler: f64) -> Result<Value, NodeFault> {
        let Some(varying) = self.importer.sizes.all.get(&value).cloned() else { return Ok(value) };
        if varying.zeros && filler == 0.0 {
            return Ok(value);
        }
        let key = (value, axes.to_vec(), filler.to_bits());
        if let Some(&made) = self.importer.sizes.masked.get(&key) {
            return Ok(made);
        }
        let (shape, dtype) = (self.shape(value), self.dtype(value));
        let mut masked = value;
        for (axis, amount) in varying.axes.iter().filter(|(axis, _)| axes.contains(axis)) {
            let numbers = self.numbers_along(shape.rank(), *axis, shape[*axis])?;
            let count = self.amount(amount)?;
            let there = self.number(BinaryFn::Less, numbers, count)?;
            let filler = self.add_constant(filler_of(dtype, filler)?);
            masked = self.plain(Where, &[there, masked, filler])?;
        }
        let zeros = filler == 0.0 && varying.axes.iter().all(|(axis, _)| axes.contains(axis));
        let sizes = self.sizes();
        sizes.all.insert(masked, Varying { zeros, ..varying });
        sizes.masked.insert(key, masked);
        Ok(masked)
    }
}

/// A scalar; infinities are the ends of types that have none, and NaN, which is larger than every number, is the upper end.
fn filler_of(dtype: DType, number: f64) -> Result<Tensor, NodeFault> {
    let number = if number.is_nan() && !dtype.is_float() { f64::INFINITY } else { number };
    match dtype {
        DType::Bool => Ok(Tensor::bools([], &[number > 0.0])?),
        _ => scalar_tensor(dtype, number),
    }
}

/// An extent that memory has.
fn size(amount: &Amount) -> Result<usize, NodeFault> {
    usize::try_from(amount.range().high).map_err(|_| NodeFault::Op(OpError::Overflow))
}
