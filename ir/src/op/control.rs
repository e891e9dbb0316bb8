//! Operators that hold graphs: a body that runs again and again, and two branches of which one runs.
//!
//! ```text
//!   states ──▶ ┌ body ────────────────────────────────┐ ──▶ states after the last iteration
//!              │ iteration, states, slices, captured  │
//!   scanned ─▶ │        ▼                             │ ──▶ parts of all iterations, along a new axis 0
//!   captured ▶ │ (going,) states, parts               │ ──▶ (how many iterations there were)
//!              └──────────────────────────────────────┘
//! ```
//!
//! A body reads nothing but its own inputs and constants: what it takes from around is an operand, and an input of the body
//! likewise. The type of everything is the same in each iteration.

use std::sync::Arc;

use super::{Arithmetic, OpError, Operator, Tensors, Types, check, optional, required};
use crate::eval;
use crate::graph::{Graph, Value};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// A graph inside of a node. Cheap to clone; an edit copies what others share.
#[derive(Clone, Debug, Default)]
pub struct Body(Arc<Graph>);

impl Body {
    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.0
    }

    /// The graph, to be changed.
    pub fn graph_mut(&mut self) -> &mut Graph {
        Arc::make_mut(&mut self.0)
    }

    /// Types of the inputs.
    fn inputs(&self) -> impl ExactSizeIterator<Item = &TensorType> {
        self.0.inputs().iter().map(|&id| self.0.ty(id.into()))
    }

    /// Types of the outputs.
    fn outputs(&self) -> impl ExactSizeIterator<Item = &TensorType> {
        self.0.outputs().iter().map(|(_, value)| self.0.ty(*value))
    }

    /// What its nodes cost together; each counts as an operation at least, since somebody has to look at it.
    fn arithmetic(&self) -> Arithmetic {
        let mut sum = Arithmetic::default();
        for id in self.0.node_ids() {
            let cost = self.0.cost(id);
            sum.macc = sum.macc.saturating_add(cost.macc);
            sum.ops = sum.ops.saturating_add(cost.ops).saturating_add(1);
        }
        sum
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
        eval::run(&self.0, inputs).map_err(|e| OpError::mismatch(format!("in its body: {e}")))
    }
}

impl From<Graph> for Body {
    fn from(graph: Graph) -> Body {
        Body(Arc::new(graph))
    }
}

impl PartialEq for Body {
    /// Whether both compute the same in the same way, whatever their nodes are called.
    fn eq(&self, other: &Body) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || same(&self.0, &other.0)
    }
}

fn same(a: &Graph, b: &Graph) -> bool {
    let (Ok(order_a), Ok(order_b)) = (a.order(), b.order()) else { return false };
    let places = |order: &[crate::NodeId]| -> std::collections::BTreeMap<crate::NodeId, usize> {
        order.iter().enumerate().map(|(place, &id)| (id, place)).collect()
    };
    let (places_a, places_b) = (places(&order_a), places(&order_b));
    let equal = |x: Value, y: Value| places_a[&x.node] == places_b[&y.node] && x.output == y.output;
    let nodes = order_a.iter().zip(&order_b).all(|(&x, &y)| {
        let (reads_x, reads_y) = (a.operands(x), b.operands(y));
        a.node(x).outputs == b.node(y).outputs
            && reads_x.len() == reads_y.len()
            && reads_x.into_iter().zip(reads_y).all(|pair| match pair {
                (Some(x), Some(y)) => equal(x, y),
                (None, None) => true,
                _ => false,
            })
            && a.node(x).op == b.node(y).op
    });
    let ports = |x: &[crate::NodeId], y: &[crate::NodeId]| {
        x.len() == y.len() && x.iter().zip(y).all(|(&x, &y)| equal(x.into(), y.into()))
    };
    order_a.len() == order_b.len()
        && nodes
        && ports(a.inputs(), b.inputs())
        && a.outputs().len() == b.outputs().len()
        && a.outputs().iter().zip(b.outputs()).all(|((_, x), (_, y))| equal(*x, *y))
}

/// A body that runs once for each iteration: Loop and Scan of ONNX, and the steps of a recurrent layer.
///
/// - Operands: `going`, a bool, if data decide when it ends; the first states; what is scanned, with an axis 0 of as many
///   elements as there are iterations; what the body captures.
/// - Inputs of the body: the iteration, an `i64` from 0; the states; a slice of each scanned operand, without its axis 0;
///   what it captures.
/// - Outputs of the body: whether it goes on, if data decide that; the states; parts of results.
/// - Results: the last states; the parts of all iterations, along a new axis 0; if data decide when it ends, the number of
///   iterations, an `i64`. Parts of iterations that there were not mean nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loop {
    /// The iterations, or the most of them.
    pub trips: u64,
    /// Whether data decide when it ends, at the latest after `trips` iterations.
    pub by_data: bool,
    /// How many states there are.
    pub states: usize,
    /// How many operands are scanned.
    pub scanned: usize,
    /// What runs.
    pub body: Body,
}

impl Loop {
    /// Position of the first state among operands and outputs of the body.
    pub fn first_state(&self) -> usize {
        usize::from(self.by_data)
    }

    /// Position of the first scanned operand.
    pub fn first_scanned(&self) -> usize {
        self.first_state() + self.states
    }

    /// Position of the first operand that the body captures.
    pub fn first_captured(&self) -> usize {
        self.first_scanned() + self.scanned
    }

    /// How many results are parts of iterations.
    pub fn parts(&self) -> usize {
        self.body.graph().outputs().len().saturating_sub(self.first_scanned())
    }

    fn extent(&self) -> Result<usize, OpError> {
        usize::try_from(self.trips).map_err(|_| OpError::Overflow)
    }
}

impl Operator for Loop {
    fn name(&self) -> &'static str {
        "Loop"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        self.body.graph().verify().map_err(|e| OpError::mismatch(format!("in its body: {e}")))?;
        let inputs: Vec<&TensorType> = self.body.inputs().collect();
        let outputs: Vec<&TensorType> = self.body.outputs().collect();
        let count = inputs.len() - usize::from(!inputs.is_empty()) + self.first_state();
        if count < self.first_captured() || inputs.is_empty() || outputs.len() < self.first_scanned() {
            return Err(OpError::mismatch(format!(
                "its body has {} inputs and {} outputs, which are too few for {} states and {} scanned operands",
                inputs.len(),
                outputs.len(),
                self.states,
                self.scanned
            )));
        }
        check::at_most(operands, count)?;
        let bool = TensorType::new(DType::Bool, []);
        if *inputs[0] != TensorType::new(DType::I64, []) {
            let ty = inputs[0];
            return Err(OpError::mismatch(format!("its body takes the iteration as {ty}, expected i64[]")));
        }
        if self.by_data {
            check::exactly(operands, 0, "going", &bool)?;
            if *outputs[0] != bool {
                let ty = outputs[0];
                return Err(OpError::mismatch(format!(
                    "its body says as {ty} whether it goes on, expected {bool}"
                )));
            }
        }
        for (operand, &expected) in (self.first_state()..count).zip(&inputs[1..]) {
            match operand {
                _ if operand < self.first_scanned() => {
                    check::exactly(operands, operand, "state", expected)?;
                    let made = outputs[operand];
                    if made != expected {
                        let what = format!("its body makes {made} of a state of type {expected}");
                        return Err(OpError::mismatch(what));
                    }
                }
                _ if operand < self.first_captured() => {
                    let whole = [&[self.extent()?], &expected.shape[..]].concat();
                    check::exactly(operands, operand, "scanned", &TensorType::new(expected.dtype, whole))?;
                }
                _ => check::exactly(operands, operand, "captured", expected)?,
            }
        }
        let mut results: Vec<TensorType> =
            outputs[self.first_state()..self.first_scanned()].iter().map(|&ty| ty.clone()).collect();
        for part in &outputs[self.first_scanned()..] {
            results.push(check::result(part.dtype, [&[self.extent()?], &part.shape[..]].concat())?);
        }
        if self.by_data {
            results.push(TensorType::new(DType::I64, []));
        }
        Ok(results)
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let operand = |index: usize| required(operands, index, "operand").cloned();
        let mut states =
            (self.first_state()..self.first_scanned()).map(operand).collect::<Result<Vec<_>, _>>()?;
        let captured = operands.get(self.first_captured()..).unwrap_or_default();
        let captured: Vec<Tensor> = captured.iter().flatten().map(|&t| t.clone()).collect();
        let mut going = match self.by_data {
            true => required(operands, 0, "going")?.bytes().contains(&1),
            false => true,
        };
        let mut parts: Vec<Vec<u8>> = vec![Vec::new(); self.parts()];
        let mut trip = 0;
        while going && trip < self.trips {
            let mut inputs = vec![Tensor::new([], &[trip as i64])?];
            inputs.append(&mut states);
            for index in self.first_scanned()..self.first_captured() {
                inputs.push(slice(required(operands, index, "scanned")?, trip as usize)?);
            }
            inputs.extend(captured.iter().cloned());
            let mut made = self.body.run(&inputs)?.into_iter();
            if self.by_data {
                going = made.next().is_some_and(|t| t.bytes().contains(&1));
            }
            states.extend(made.by_ref().take(self.states));
            parts.iter_mut().zip(made).for_each(|(all, part)| all.extend_from_slice(part.bytes()));
            trip += 1;
        }
        let mut types = results.iter().skip(self.states);
        for (mut bytes, ty) in parts.into_iter().zip(types.by_ref()) {
            bytes.resize(ty.bytes(), 0);
            states.push(Tensor::from_bytes(ty.clone(), bytes)?);
        }
        if self.by_data {
            states.push(Tensor::new([], &[trip as i64])?);
        }
        Ok(states)
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        let Arithmetic { macc, ops } = self.body.arithmetic();
        let ops = ops.max(1).saturating_mul(self.trips);
        Arithmetic { macc: macc.saturating_mul(self.trips), ops }
    }
}

/// Element `index` along axis 0, without that axis.
fn slice(tensor: &Tensor, index: usize) -> Result<Tensor, OpError> {
    let ty = TensorType::new(tensor.dtype(), tensor.shape()[1..].to_vec());
    let bytes = ty.bytes();
    let part = tensor.bytes().get(index * bytes..(index + 1) * bytes).ok_or(OpError::Overflow)?;
    Ok(Tensor::from_bytes(ty, part.to_vec())?)
}

/// One of two graphs runs, as a bool says.
///
/// - Operands: the condition; what `then` takes; what `otherwise` takes.
/// - Results: those of the graph that runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct If {
    /// What runs if the condition holds.
    pub then: Body,
    /// What runs if not.
    pub otherwise: Body,
}

impl If {
    /// Position of the first operand of `otherwise`.
    pub fn first_otherwise(&self) -> usize {
        1 + self.then.graph().inputs().len()
    }
}

impl Operator for If {
    fn name(&self) -> &'static str {
        "If"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        for (body, name) in [(&self.then, "then"), (&self.otherwise, "otherwise")] {
            body.graph().verify().map_err(|e| OpError::mismatch(format!("in \"{name}\": {e}")))?;
        }
        check::exactly(operands, 0, "condition", &TensorType::new(DType::Bool, []))?;
        let inputs: Vec<&TensorType> = self.then.inputs().chain(self.otherwise.inputs()).collect();
        check::at_most(operands, 1 + inputs.len())?;
        for (index, expected) in (1..).zip(inputs) {
            check::exactly(operands, index, "captured", expected)?;
        }
        let (a, b): (Vec<_>, Vec<_>) = (self.then.outputs().collect(), self.otherwise.outputs().collect());
        if a != b {
            let list =
                |types: &[&TensorType]| types.iter().map(|ty| ty.to_string()).collect::<Vec<_>>().join(", ");
            return Err(OpError::mismatch(format!("its branches make [{}] and [{}]", list(&a), list(&b))));
        }
        Ok(a.into_iter().cloned().collect())
    }

    fn eval(&self, operands: &Tensors<'_>, _: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let holds = required(operands, 0, "condition")?.bytes().contains(&1);
        let (body, first) = match holds {
            true => (&self.then, 1),
            false => (&self.otherwise, self.first_otherwise()),
        };
        let inputs = (first..first + body.inputs().len()).map(|index| optional(operands, index).cloned());
        let inputs: Option<Vec<Tensor>> = inputs.collect();
        body.run(&inputs.ok_or_else(|| OpError::mismatch("an operand of the branch is missing"))?)
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        let (a, b) = (self.then.arithmetic(), self.otherwise.arithmetic());
        Arithmetic { macc: a.macc.max(b.macc), ops: a.ops.max(b.ops).saturating_add(1) }
    }
}

impl super::Op {
    /// The graphs inside of the operator.
    pub fn bodies(&self) -> Vec<&Body> {
        match self {
            super::Op::Loop(op) => vec![&op.body],
            super::Op::If(op) => vec![&op.then, &op.otherwise],
            _ => Vec::new(),
        }
    }

    /// The graphs inside of the operator, to be changed.
    pub fn bodies_mut(&mut self) -> Vec<&mut Body> {
        match self {
            super::Op::Loop(op) => vec![&mut op.body],
            super::Op::If(op) => vec![&mut op.then, &mut op.otherwise],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
