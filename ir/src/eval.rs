//! Plain evaluation of a whole graph: the oracle that passes and compiled code are measured against.
//!
//! ```text
//!   inputs ──▶ node by node, in [`Graph::order`], each by [`Op::eval`] ──▶ outputs
//! ```
//!
//! Every operator computes floats in `f64` and rounds when it stores its result, so a graph in which a pass has fused
//! layers rounds less often than before: results agree to a few units in the last place, not bit by bit.

use std::collections::BTreeMap;

use crate::graph::{Graph, GraphError, NodeId, Value};
use crate::op::{Op, OpError};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// Why a graph cannot be evaluated.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EvalError {
    /// The number of inputs is not what the graph takes.
    #[error("the graph takes {expected} inputs, got {got}")]
    InputCount {
        /// Inputs that the graph has.
        expected: usize,
        /// Inputs that were given.
        got: usize,
    },
    /// An input is missing.
    #[error("input \"{0}\" is missing")]
    MissingInput(String),
    /// An input is given that the graph does not have.
    #[error("the graph has no input \"{name}\"; its inputs are {known}")]
    UnknownInput {
        /// The name given.
        name: String,
        /// Names that there are.
        known: String,
    },
    /// An input has another type than the graph says.
    #[error("input \"{name}\" has type {expected}, got {got}")]
    InputType {
        /// Name of the input.
        name: String,
        /// Its type.
        expected: TensorType,
        /// The type of the tensor.
        got: TensorType,
    },
    /// An operator refuses its operands.
    #[error("node \"{node}\" ({op}): {source}")]
    Op {
        /// Name of the node.
        node: String,
        /// Name of its operator.
        op: &'static str,
        /// What it says.
        source: OpError,
    },
    /// The graph is not sound.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// The outputs of a graph for these inputs, in the order of [`Graph::inputs`]. A value is freed after its last reader.
pub fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let order = graph.order()?;
    let mut readers: BTreeMap<Value, usize> = BTreeMap::new();
    let operands = order.iter().flat_map(|&id| graph.operands(id)).flatten();
    for value in operands.chain(graph.outputs().iter().map(|(_, v)| *v)) {
        *readers.entry(value).or_default() += 1;
    }
    let mut values = BTreeMap::new();
    walk(graph, &order, inputs, &mut values, |id, values| {
        for value in graph.operands(id).into_iter().flatten() {
            if let Some(count) = readers.get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    values.remove(&value);
                }
            }
        }
        // Results that nothing reads.
        for output in 0..graph.node(id).outputs.len() as u32 {
            if !readers.contains_key(&Value { node: id, output }) {
                values.remove(&Value { node: id, output });
            }
        }
    })?;
    outputs(graph, &values)
}

/// The outputs of a graph for inputs given by name, in any order.
pub fn run_named(graph: &Graph, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, EvalError> {
    let names: Vec<&str> = graph.inputs().iter().map(|&id| graph.node(id).name.as_str()).collect();
    if let Some((name, _)) = inputs.iter().find(|(name, _)| !names.contains(name)) {
        return Err(EvalError::UnknownInput { name: name.to_string(), known: quoted(&names) });
    }
    let ordered: Vec<Tensor> = names
        .iter()
        .map(|name| {
            let given = inputs.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone());
            given.ok_or_else(|| EvalError::MissingInput(name.to_string()))
        })
        .collect::<Result<_, _>>()?;
    run(graph, &ordered)
}

/// Every value of a graph for these inputs, in the order of [`Graph::inputs`]: for whoever looks for the first layer
/// that differs.
pub fn run_all(graph: &Graph, inputs: &[Tensor]) -> Result<BTreeMap<Value, Tensor>, EvalError> {
    let order = graph.order()?;
    let mut values = BTreeMap::new();
    walk(graph, &order, inputs, &mut values, |_, _| ())?;
    Ok(values)
}

/// The outputs of a graph for these inputs, in the order of [`Graph::inputs`]. `change` gets each result that is computed
/// before anybody reads it, for whoever asks what an error there would do.
pub fn run_changed(
    graph: &Graph,
    inputs: &[Tensor],
    mut change: impl FnMut(&mut Tensor),
) -> Result<Vec<Tensor>, EvalError> {
    let order = graph.order()?;
    let mut values = BTreeMap::new();
    walk(graph, &order, inputs, &mut values, |id, values| {
        if !matches!(graph.node(id).op, Op::Input | Op::Constant(_)) {
            let results = (0..graph.node(id).outputs.len() as u32).map(|output| Value { node: id, output });
            results.for_each(|result| {
                values.get_mut(&result).into_iter().for_each(&mut change);
            });
        }
    })?;
    outputs(graph, &values)
}

/// Evaluates nodes in order; `done` is called after each.
fn walk(
    graph: &Graph,
    order: &[NodeId],
    inputs: &[Tensor],
    values: &mut BTreeMap<Value, Tensor>,
    mut done: impl FnMut(NodeId, &mut BTreeMap<Value, Tensor>),
) -> Result<(), EvalError> {
    let expected = graph.inputs().len();
    if inputs.len() != expected {
        return Err(EvalError::InputCount { expected, got: inputs.len() });
    }
    for (&id, tensor) in graph.inputs().iter().zip(inputs) {
        let expected = graph.ty(id.into());
        if tensor.ty() != expected {
            return Err(EvalError::InputType {
                name: graph.node(id).name.clone(),
                expected: expected.clone(),
                got: tensor.ty().clone(),
            });
        }
        values.insert(id.into(), tensor.clone());
    }
    for &id in order {
        let node = graph.node(id);
        if !matches!(node.op, Op::Input) {
            let operands = graph.operands(id);
            let tensors: Vec<Option<&Tensor>> =
                operands.iter().map(|v| v.and_then(|v| values.get(&v))).collect();
            let results = node.op.eval(&tensors).map_err(|source| EvalError::Op {
                node: node.name.clone(),
                op: node.op.name(),
                source,
            })?;
            for (output, tensor) in results.into_iter().enumerate() {
                values.insert(Value { node: id, output: output as u32 }, tensor);
            }
        }
        done(id, values);
    }
    Ok(())
}

fn outputs(graph: &Graph, values: &BTreeMap<Value, Tensor>) -> Result<Vec<Tensor>, EvalError> {
    let missing = |name: &str| GraphError::Edge {
        node: name.to_string(),
        what: "the graph output does not exist".to_string(),
    };
    graph
        .outputs()
        .iter()
        .map(|(name, v)| values.get(v).cloned().ok_or_else(|| missing(name).into()))
        .collect()
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
