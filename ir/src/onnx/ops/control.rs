//! If, Loop and Scan.
//!
//! A body is read once, as a graph of its own: so a loop takes as long to compile, and as much code, for a thousand iterations
//! as for ten. For that, everything must have one type in all iterations, and nothing that decides a shape may differ between
//! them. Otherwise, if it is known when the model is compiled what decides how often something runs, the graph gets every iteration
//! in a row. So do a branch whose condition is known, and a loop of at most one iteration.

use super::Results;
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::nested::Nested;
use crate::onnx::node::{NodeReader, axis, integers};
use crate::onnx::subgraph::GraphDef;
use crate::op::elementwise::BinaryFn;
use crate::op::{Body, If, Loop, Op};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Nodes that are written out to find out whether a loop that ends by data ends by data that are known.
const FEW_NODES: usize = 4096;

/// Nodes that all iterations of a loop together may run, where their number is known: more would run for hours.
const MOST_RUNS: u64 = 1 << 32;

/// If, since 1. A constant condition chooses the branch. Else one of them runs; but where a branch cannot stand alone, both are
/// computed and each result is taken from one: no operator does anything but compute, so what is not taken leaves no trace.
pub(in crate::onnx) fn branch(n: &mut NodeReader<'_, '_>) -> Results {
    let condition = n.operand(0, "cond")?;
    let then = graph(n, "then_branch")?;
    let otherwise = graph(n, "else_branch")?;
    let (a, b) = (then.outputs.len(), otherwise.outputs.len());
    if a != b {
        return Err(NodeFault::invalid(format!(
            "its branches have {a} and {b} outputs, they must have as many"
        )));
    }
    if n.output_count() < a {
        return Err(NodeFault::invalid(format!(
            "has {} outputs, but its branches have {a}; they must have as many",
            n.output_count()
        )));
    }
    if let Some(name) = then.inputs.iter().chain(&otherwise.inputs).next() {
        return Err(NodeFault::invalid(format!("a branch has the input \"{name}\", but branches take none")));
    }
    if n.dtype(condition) != DType::Bool || super::product(&n.shape(condition))? != 1 {
        return Err(NodeFault::invalid(format!("cond must be one bool, it is {}", n.ty(condition))));
    }
    if let Some(taken) = n.constant_of(condition).map(|tensor| tensor.bytes().contains(&1)) {
        return n.body(if taken { then } else { otherwise }, &[]);
    }
    let condition = n.reshape(condition, [])?;
    let branches = (n.nested(&[], |n| n.body(then, &[])), n.nested(&[], |n| n.body(otherwise, &[])));
    if let (Ok(a), Ok(b)) = branches {
        let operands = [&[condition], &a.captured[..], &b.captured].concat();
        let op = If { then: a.graph.into(), otherwise: b.graph.into() };
        if let Ok(results) = n.emit_control(op, &operands) {
            return Ok(results);
        }
    }
    let results = (n.body(then, &[])?, n.body(otherwise, &[])?);
    let mut chosen = Vec::new();
    for (index, (&a, &b)) in results.0.iter().zip(&results.1).enumerate() {
        let (ty_a, ty_b) = (n.ty(a), n.ty(b));
        if ty_a.dtype != ty_b.dtype || ty_a.shape.rank() != ty_b.shape.rank() {
            let what = format!("result {index} is {ty_a} or {ty_b} as cond says");
            return Err(n.decided_at_run_time(condition, what));
        }
        chosen.push(n.either(condition, a, b)?);
    }
    Ok(chosen)
}

/// A Loop of ONNX.
///
/// ```text
///   iteration, condition, carried … ─▶ body ─▶ condition, carried …, a part of each scan output
/// ```
struct Repetition<'m> {
    body: &'m GraphDef,
    /// The most iterations, an `i64`; without it there is no bound.
    limit: Option<Value>,
    /// Whether there is a first iteration; without it there is.
    going: Option<Value>,
    carried: Vec<Value>,
    /// Number of scan outputs that are wanted.
    parts: usize,
}

/// Loop, since 1.
pub(in crate::onnx) fn repeat(n: &mut NodeReader<'_, '_>) -> Results {
    let scalar = |n: &mut NodeReader<'_, '_>, value: Option<Value>, name: &str, dtype| match value {
        Some(value) if super::product(&n.shape(value))? != 1 => {
            Err(NodeFault::invalid(format!("{name} must be one element, it is {}", n.ty(value))))
        }
        Some(value) if dtype == DType::Bool && n.dtype(value) != dtype => {
            Err(NodeFault::invalid(format!("{name} must be one bool, it is {}", n.ty(value))))
        }
        Some(value) => {
            let value = n.cast(value, dtype)?;
            n.reshape(value, []).map(Some)
        }
        None => Ok(None),
    };
    let (limit, going) = (n.optional(0)?, n.optional(1)?);
    let (limit, going) = (scalar(n, limit, "M", DType::I64)?, scalar(n, going, "cond", DType::Bool)?);
    let body = graph(n, "body")?;
    let count = n.operand_count().saturating_sub(2);
    let carried = (0..count).map(|i| n.operand(2 + i, "v_initial")).collect::<Result<Vec<_>, _>>()?;
    let parts = body
        .outputs
        .len()
        .checked_sub(1 + count)
        .filter(|_| body.inputs.len() == 2 + count)
        .ok_or_else(|| NodeFault::invalid(format!("the body does not carry {count} values on")))?;
    // Scan outputs that nobody reads need not be there; something stands for them.
    let read = (0..parts).rposition(|part| n.output_used(count + part)).map_or(0, |last| last + 1);
    let mut results = Repetition { body, limit, going, carried, parts: read }.results(n)?;
    for _ in read..parts {
        results.push(n.add_constant(Tensor::zeros(TensorType::f32([0]))?));
    }
    Ok(results)
}

impl<'m> Repetition<'m> {
    /// Its results, by whichever way there is.
    fn results(&self, n: &mut NodeReader<'_, 'm>) -> Results {
        let Some(most) = self.known_trips(n)? else {
            let (nested, by_data) = self.nested(n)?;
            return self.emit(n, nested, by_data);
        };
        if most == 0 {
            return self.nothing(n);
        }
        if most == 1 {
            return self.written_out(n);
        }
        match self.nested(n) {
            Ok((nested, false)) => self.emit(n, nested, false),
            Ok((nested, true)) => match n.tentatively(FEW_NODES, |n| self.written_out(n)) {
                Ok(results) => Ok(results),
                Err(_) => self.emit(n, nested, true),
            },
            Err(_) => self.written_out(n),
        }
    }

    /// The most iterations, if it is known whether there is a first one and how many there may be.
    fn known_trips(&self, n: &NodeReader<'_, 'm>) -> Result<Option<i64>, NodeFault> {
        let going = match self.going.map(|going| n.constant_of(going)) {
            None => true,
            Some(None) => return Ok(None),
            Some(Some(tensor)) => tensor.bytes().contains(&1),
        };
        Ok(match self.limit.map(|limit| n.constant_of(limit)) {
            _ if !going => Some(0),
            None => Some(i64::MAX),
            Some(None) => None,
            Some(Some(tensor)) => Some(scalar(&integers(tensor, "M")?, "M")?.max(0)),
        })
    }

    /// The body as a graph, and whether data decide when it ends: then its first output says whether it goes on.
    fn nested(&self, n: &mut NodeReader<'_, 'm>) -> Result<(Nested, bool), NodeFault> {
        let types: Vec<TensorType> = self.carried.iter().map(|&v| n.ty(v).clone()).collect();
        let known = self.known_trips(n)?;
        let limit = self.limit.filter(|&limit| n.constant_of(limit).is_none());
        let mut by_data = false;
        let decided_by: Vec<Value> = [self.limit, self.going].into_iter().flatten().collect();
        let nested = n.nested(&decided_by, |n| {
            let iteration = n.input("iteration", TensorType::new(DType::I64, []));
            // It runs only while the condition holds.
            let mut arguments = vec![iteration, n.scalar(DType::Bool, 1.0)?];
            for (index, ty) in types.iter().enumerate() {
                arguments.push(n.input(&self.body.inputs[2 + index], ty.clone()));
            }
            let mut outputs = n.body(self.body, &arguments)?;
            outputs.truncate(1 + types.len() + self.parts);
            let mut going = outputs.remove(0);
            if n.dtype(going) != DType::Bool || super::product(&n.shape(going))? != 1 {
                return Err(NodeFault::invalid(format!("the body's condition is {}", n.ty(going))));
            }
            for (index, (ty, &output)) in types.iter().zip(&outputs).enumerate() {
                if n.ty(output) != ty {
                    let made = n.ty(output);
                    return Err(NodeFault::unsupported(format!(
                        "carried value {index} is {ty} before an iteration and {made} after it; \
                         its number of iterations has to be known at compile time"
                    )));
                }
            }
            let always = n.constant_of(going).is_some_and(|tensor| tensor.bytes().contains(&1));
            by_data = !always || known.is_none();
            if by_data {
                going = n.reshape(going, [])?;
                if let Some(limit) = limit {
                    let limit = n.captured(limit);
                    let next = n.binary_with(BinaryFn::Add, iteration, 1.0)?;
                    let more = n.binary(BinaryFn::Less, next, limit)?;
                    going = n.binary(BinaryFn::And, going, more)?;
                }
                outputs.insert(0, going);
            }
            Ok(outputs)
        })?;
        Ok((nested, by_data))
    }

    fn emit(&self, n: &mut NodeReader<'_, 'm>, nested: Nested, by_data: bool) -> Results {
        let limit = self.limit.map(|limit| n.constant_of(limit).cloned());
        let trips = match &limit {
            Some(Some(tensor)) => scalar(&integers(tensor, "M")?, "M")?.max(0),
            _ => i64::MAX,
        };
        if self.parts > 0 && !matches!(limit, Some(Some(_))) {
            // How large they may become has to be known.
            n.constant(0, "M")?;
            return Err(NodeFault::unsupported(
                "scan outputs of a loop that its data alone end: M is missing",
            ));
        }
        let mut operands = Vec::new();
        if by_data {
            let mut going = match self.going {
                Some(going) => going,
                None => n.scalar(DType::Bool, 1.0)?,
            };
            if let Some(limit) = self.limit.filter(|&limit| n.constant_of(limit).is_none()) {
                let zero = n.integer(0)?;
                let any = n.binary(BinaryFn::Less, zero, limit)?;
                going = n.binary(BinaryFn::And, going, any)?;
            }
            operands.push(going);
        }
        operands.extend(&self.carried);
        operands.extend(&nested.captured);
        let states = self.carried.len();
        let op = Loop { trips: trips as u64, by_data, states, scanned: 0, body: nested.graph.into() };
        let mut results = n.emit_control(op, &operands)?;
        if by_data && let Some(count) = results.pop() {
            for part in &mut results[states..] {
                *part = n.counted(*part, 0, count)?;
            }
        }
        Ok(results)
    }

    /// No iteration: only what type the parts would have is to be found out.
    fn nothing(&self, n: &mut NodeReader<'_, 'm>) -> Results {
        let mut results = self.carried.clone();
        if self.parts > 0 {
            let (nested, by_data) = self.nested(n)?;
            results.extend(no_parts(n, &nested, usize::from(by_data) + self.carried.len())?);
        }
        Ok(results)
    }

    /// Every iteration in a row.
    fn written_out(&self, n: &mut NodeReader<'_, 'm>) -> Results {
        let trips = self.known_trips(n)?.unwrap_or(0);
        let count = self.carried.len();
        let mut carried = self.carried.clone();
        let mut parts: Vec<Vec<Value>> = vec![Vec::new(); self.parts];
        let (mut trip, mut going) = (0, true);
        while going && trip < trips {
            let (iteration, condition) = (n.integer(trip)?, n.scalar(DType::Bool, 1.0)?);
            let arguments = [&[iteration, condition], &carried[..]].concat();
            let results = n.body(self.body, &arguments)?;
            let (condition, results) =
                results.split_first().ok_or_else(|| NodeFault::invalid("the body has no condition"))?;
            going = match n.constant_of(*condition) {
                Some(tensor) => tensor.bytes().contains(&1),
                // What would follow the last iteration does not matter.
                None if trip + 1 == trips => false,
                None => {
                    let what = format!("whether it goes on after iteration {trip} is only known at run time");
                    return Err(n.decided_at_run_time(*condition, what));
                }
            };
            carried = results[..count].to_vec();
            for (parts, &part) in parts.iter_mut().zip(&results[count..]) {
                parts.push(part);
            }
            trip += 1;
        }
        for parts in parts {
            carried.push(stacked(n, &parts, 0)?);
        }
        Ok(carried)
    }
}

/// A Scan of ONNX, a body for each slice of its operands.
///
/// ```text
///   states …, a slice of each scan input ─▶ body ─▶ states …, a part of each scan output
/// ```
struct Scanning<'m> {
    body: &'m GraphDef,
    trips: usize,
    states: Vec<Value>,
    /// Each with its iterations in order along axis 0.
    scanned: Vec<Value>,
}

/// Scan, since 9.
pub(in crate::onnx) fn scan(n: &mut NodeReader<'_, '_>) -> Results {
    let (body, inputs) = scan_body(n)?;
    let operands = n.operands("initial_state_and_scan_inputs")?;
    let (states, outputs) = scan_counts(body, operands.len(), inputs)?;
    let input_axes = list(n, "scan_input_axes", inputs)?;
    let input_turns = list(n, "scan_input_directions", inputs)?;
    let output_axes = list(n, "scan_output_axes", outputs)?;
    let output_turns = list(n, "scan_output_directions", outputs)?;
    let mut scanned = Vec::new();
    for ((&x, &along), &turned) in operands[states..].iter().zip(&input_axes).zip(&input_turns) {
        let along = axis(along, n.ty(x).shape.rank())?;
        let first = move_axis(n, x, along, 0)?;
        scanned.push(turn(n, first, 0, turned == 1)?);
    }
    let mut results = scanned_over(n, body, operands[..states].to_vec(), scanned)?;
    for ((result, &along), &turned) in results[states..].iter_mut().zip(&output_axes).zip(&output_turns) {
        let along = axis(along, n.ty(*result).shape.rank())?;
        let turned = turn(n, *result, 0, turned == 1)?;
        *result = move_axis(n, turned, 0, along)?;
    }
    Ok(results)
}

/// Scan of opset 8: each element of a batch on its own, along axis 1.
///
/// ```text
///   batch ─▶ ┌ states[b], scanned[b] ─▶ a Scan of opset 9 ─▶ states, outputs ┐ ─▶ along axis 0
/// ```
pub(in crate::onnx) fn scan_of_batch(n: &mut NodeReader<'_, '_>) -> Results {
    let (body, inputs) = scan_body(n)?;
    let lens = n.constant(0, "sequence_lens")?;
    let count = n.operand_count().saturating_sub(1);
    let operands = (0..count)
        .map(|i| n.operand(1 + i, "initial_state_and_scan_inputs"))
        .collect::<Result<Vec<_>, _>>()?;
    let (states, _) = scan_counts(body, count, inputs)?;
    let turns = list(n, "directions", inputs)?;
    let first = *operands.first().ok_or_else(|| NodeFault::invalid("it has no operands"))?;
    let batch = *n.shape(first).first().ok_or_else(|| NodeFault::invalid("its operands have no batch"))?;
    for (index, &x) in operands.iter().enumerate() {
        let shape = n.shape(x);
        if shape.first() != Some(&batch) || (index >= states && shape.rank() < 2) {
            return Err(NodeFault::invalid(format!(
                "operand {} is {}, for a batch of {batch}",
                index + 1,
                n.ty(x)
            )));
        }
    }
    let length = operands.last().map_or(0, |&x| n.shape(x)[1]);
    if let Some(lens) = lens
        && integers(&lens, "sequence_lens")?.iter().any(|&len| usize::try_from(len) != Ok(length))
    {
        return Err(NodeFault::unsupported(format!(
            "sequences that are shorter than the {length} elements of its inputs"
        )));
    }
    let mut turned = operands[..states].to_vec();
    for (&x, &direction) in operands[states..].iter().zip(&turns) {
        turned.push(turn(n, x, 1, direction == 1)?);
    }
    let types: Vec<TensorType> = turned.iter().map(|&x| without_first(n.ty(x))).collect();
    let nested = n.nested(&[], |n| {
        n.input("batch", TensorType::new(DType::I64, []));
        let slices: Vec<Value> = types.iter().map(|ty| n.input("slice", ty.clone())).collect();
        scanned_over(n, body, slices[..states].to_vec(), slices[states..].to_vec())
    })?;
    let operands = [turned, nested.captured].concat();
    let op =
        Loop { trips: batch as u64, by_data: false, states: 0, scanned: count, body: nested.graph.into() };
    n.emit_control(op, &operands)
}

fn scan_body<'m>(n: &mut NodeReader<'_, 'm>) -> Result<(&'m GraphDef, usize), NodeFault> {
    let body = graph(n, "body")?;
    match n.attributes.int("num_scan_inputs")? {
        Some(count) => {
            let inputs = usize::try_from(count);
            Ok((body, inputs.map_err(|_| value("num_scan_inputs", format!("is {count}")))?))
        }
        None => Err(value("num_scan_inputs", "is missing")),
    }
}

/// How many states and scan outputs there are.
fn scan_counts(body: &GraphDef, operands: usize, inputs: usize) -> Result<(usize, usize), NodeFault> {
    let states = operands.checked_sub(inputs).filter(|_| body.inputs.len() == operands);
    let states = states.filter(|states| body.outputs.len() >= *states && inputs > 0);
    let states = states.ok_or_else(|| NodeFault::invalid("its body does not fit its operands"))?;
    Ok((states, body.outputs.len() - states))
}

/// The states after all slices along axis 0, and the scan outputs along a new axis 0.
fn scanned_over<'m>(
    n: &mut NodeReader<'_, 'm>,
    body: &'m GraphDef,
    states: Vec<Value>,
    scanned: Vec<Value>,
) -> Results {
    let mut extents = scanned.iter().map(|&x| n.shape(x).first().copied());
    let trips = extents.next().flatten().ok_or_else(|| NodeFault::invalid("it scans a scalar"))?;
    if !extents.all(|extent| extent == Some(trips)) {
        return Err(NodeFault::invalid("its scan inputs have different lengths"));
    }
    let scanning = Scanning { body, trips, states, scanned };
    if trips == 1 {
        return scanning.written_out(n);
    }
    match scanning.nested(n) {
        Ok(nested) if trips == 0 => {
            let parts = no_parts(n, &nested, scanning.states.len())?;
            Ok([scanning.states, parts].concat())
        }
        Ok(nested) => {
            let (states, scanned) = (scanning.states.len(), scanning.scanned.len());
            let operands = [scanning.states, scanning.scanned, nested.captured].concat();
            let body = nested.graph.into();
            n.emit_control(Loop { trips: trips as u64, by_data: false, states, scanned, body }, &operands)
        }
        Err(fault) if trips == 0 => Err(fault),
        Err(_) => scanning.written_out(n),
    }
}

impl<'m> Scanning<'m> {
    fn nested(&self, n: &mut NodeReader<'_, 'm>) -> Result<Nested, NodeFault> {
        let states: Vec<TensorType> = self.states.iter().map(|&x| n.ty(x).clone()).collect();
        let slices: Vec<TensorType> = self.scanned.iter().map(|&x| without_first(n.ty(x))).collect();
        n.nested(&[], |n| {
            n.input("iteration", TensorType::new(DType::I64, []));
            let inputs = states.iter().chain(&slices).zip(&self.body.inputs);
            let arguments: Vec<Value> = inputs.map(|(ty, name)| n.input(name, ty.clone())).collect();
            let outputs = n.body(self.body, &arguments)?;
            match states.iter().zip(&outputs).find(|(ty, output)| n.ty(**output) != *ty) {
                None => Ok(outputs),
                Some((ty, &output)) => {
                    let made = n.ty(output);
                    let what = format!("a state is {ty} before an iteration and {made} after it");
                    Err(NodeFault::unsupported(what))
                }
            }
        })
    }

    /// Every iteration in a row.
    fn written_out(self, n: &mut NodeReader<'_, 'm>) -> Results {
        let states = self.states.len();
        let mut carried = self.states;
        let mut parts: Vec<Vec<Value>> = vec![Vec::new(); self.body.outputs.len() - states];
        for trip in 0..self.trips {
            let mut arguments = carried;
            for &x in &self.scanned {
                let slice = n.part(x, 0, trip, 1, 1)?;
                let shape = n.shape(slice)[1..].to_vec();
                arguments.push(n.reshape(slice, shape)?);
            }
            let results = n.body(self.body, &arguments)?;
            carried = results[..states].to_vec();
            for (parts, &part) in parts.iter_mut().zip(&results[states..]) {
                parts.push(part);
            }
        }
        for parts in parts {
            carried.push(stacked(n, &parts, 0)?);
        }
        Ok(carried)
    }
}

fn without_first(ty: &TensorType) -> TensorType {
    TensorType::new(ty.dtype, ty.shape[1..].to_vec())
}

/// A value with one axis at another place.
fn move_axis(n: &mut NodeReader<'_, '_>, x: Value, from: usize, to: usize) -> Result<Value, NodeFault> {
    if from == to {
        return Ok(x);
    }
    let mut perm: Vec<usize> = (0..n.shape(x).rank()).filter(|&a| a != from).collect();
    perm.insert(to, from);
    n.transpose(x, &perm)
}

/// A value in the other direction along an axis, if it is to be turned.
pub(super) fn turn(
    n: &mut NodeReader<'_, '_>,
    x: Value,
    axis: usize,
    turned: bool,
) -> Result<Value, NodeFault> {
    match n.shape(x)[axis] {
        len if turned && len > 1 => n.part(x, axis, len - 1, len, -1),
        _ => Ok(x),
    }
}

/// A list of integers, one for each; 0 where it is left out.
fn list(n: &mut NodeReader<'_, '_>, name: &str, count: usize) -> Result<Vec<i64>, NodeFault> {
    match n.attributes.ints(name)? {
        None => Ok(vec![0; count]),
        Some(list) if list.len() == count => Ok(list.to_vec()),
        Some(list) => Err(value(name, format!("must have {count} entries, it has {}", list.len()))),
    }
}

/// The scan outputs of a body that never runs, which are its outputs from `first` on.
fn no_parts(n: &mut NodeReader<'_, '_>, nested: &Nested, first: usize) -> Result<Vec<Value>, NodeFault> {
    let mut results = Vec::new();
    for (_, part) in nested.graph.outputs().iter().skip(first) {
        let ty = nested.graph.ty(*part);
        let shape = [&[0], &ty.shape[..]].concat();
        results.push(n.add_constant(Tensor::zeros(TensorType::new(ty.dtype, shape))?));
    }
    Ok(results)
}

/// Parts of iterations along a new axis.
fn stacked(n: &mut NodeReader<'_, '_>, parts: &[Value], along: usize) -> Result<Value, NodeFault> {
    let mut slices = Vec::with_capacity(parts.len());
    for &part in parts {
        let mut shape = n.shape(part).to_vec();
        shape.insert(along, 1);
        slices.push(n.reshape(part, shape)?);
    }
    n.concat(along, &slices)
}

fn graph<'m>(n: &mut NodeReader<'_, 'm>, name: &str) -> Result<&'m GraphDef, NodeFault> {
    n.attributes.graph(name)?.ok_or_else(|| value(name, "is missing"))
}

fn scalar(list: &[i64], name: &str) -> Result<i64, NodeFault> {
    match list {
        [one] => Ok(*one),
        other => Err(NodeFault::invalid(format!("{name} must be one number, it is {other:?}"))),
    }
}

/// How many nodes run for a node. Loops that end by data count as if they ended after one iteration.
fn runs_of(op: &Op) -> u64 {
    let inside = |body: &Body| {
        let graph = body.graph();
        graph.node_ids().map(|id| runs_of(&graph.node(id).op)).fold(1, u64::saturating_add)
    };
    let bodies = op.bodies().into_iter().map(inside);
    match op {
        Op::Loop(op) if !op.by_data => bodies.fold(1, u64::max).saturating_mul(op.trips),
        _ => bodies.fold(1, u64::max),
    }
}

impl NodeReader<'_, '_> {
    /// Adds an operator with graphs of its own; all of its results.
    pub(super) fn emit_control(&mut self, op: impl Into<Op>, operands: &[Value]) -> Results {
        let op = op.into();
        if runs_of(&op) > MOST_RUNS {
            return Err(NodeFault::unsupported(format!(
                "more than {MOST_RUNS} nodes that run in all iterations together; a loop must have fewer iterations"
            )));
        }
        let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
        self.emit_all(op, &operands)
    }
}
