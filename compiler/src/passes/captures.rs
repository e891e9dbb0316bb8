//! Gives loops and branches the constants that they read, and nothing that they don't read.
//!
//! ```text
//!   weights ─▶ loop (x, weights)                      loop (x)
//!              body: input x, input w       becomes   body: input x, constant w
//! ```
//!
//! What a body captures is an operand of its node. When the operand has become a constant, the body has it instead, where the
//! other passes find it: a layer needs to see its weights. An operand that no node of the body reads any more goes, and two that are
//! the same become one.

use std::collections::BTreeMap;

use nnc_ir::op::Body;
use nnc_ir::{Graph, NodeId, Op, Value};

use super::edit::rewrite;
use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    for id in graph.order()? {
        let mut operands: Vec<Option<Value>> = graph.operands(id);
        let before = operands.clone();
        let mut op = graph.node(id).op.clone();
        match &mut op {
            Op::Loop(repeated) => {
                let first = repeated.first_captured();
                let captured = operands.split_off(first.min(operands.len()));
                let inputs = 1 + first - repeated.first_state();
                operands.extend(trim(graph, &mut repeated.body, inputs, captured, notes)?);
            }
            Op::If(branch) => {
                let otherwise = operands.split_off(branch.first_otherwise().min(operands.len()));
                let then = operands.split_off(1.min(operands.len()));
                operands.extend(trim(graph, &mut branch.then, 0, then, notes)?);
                operands.extend(trim(graph, &mut branch.otherwise, 0, otherwise, notes)?);
            }
            _ => continue,
        }
        if operands != before {
            rewrite(graph, id, op, &operands)?;
        }
    }
    Ok(())
}

/// Takes out of a body the inputs from `first` on that it need not have; what is left of `captured`, which they stand for.
fn trim(
    graph: &Graph,
    body: &mut Body,
    first: usize,
    captured: Vec<Option<Value>>,
    notes: &mut Notes,
) -> Result<Vec<Option<Value>>, EditError> {
    let mut left = Vec::new();
    let mut known: BTreeMap<Value, NodeId> = BTreeMap::new();
    for operand in captured {
        let Some(&input) = body.graph().inputs().get(first + left.len()) else { break };
        let value = Value::from(input);
        let read = !body.graph().consumers(value).is_empty() || body.graph().is_output(value);
        let twin = operand.and_then(|operand| known.get(&operand).copied());
        let constant = operand.and_then(|operand| graph.constant(operand));
        match (read, twin, constant) {
            (false, ..) => notes.count("unread operands removed"),
            (true, Some(twin), _) => {
                body.graph_mut().replace_value(value, twin.into())?;
                notes.count("operands merged");
            }
            (true, None, Some(tensor)) => {
                let name = body.graph().node(input).name.clone();
                let inner = body.graph_mut().add_constant(name, tensor.clone());
                body.graph_mut().replace_value(value, inner)?;
                notes.count("constants moved in");
            }
            (true, None, None) => {
                known.extend(operand.map(|operand| (operand, input)));
                left.push(operand);
                continue;
            }
        }
        body.graph_mut().remove_input(input);
    }
    Ok(left)
}
