//! Computes what depends on constants alone.
//!
//! ```text
//!   weights ─▶ transpose ─▶ matmul                weights′ ─▶ matmul
//!                           ▲             becomes             ▲
//!                           x                                 x
//! ```
//!
//! Results that are much larger than what they are made from (an Expand of a scalar) stay unfolded: the artefact
//! would carry them. So do results that take long to compute.

use nnc_ir::op::Tensors;
use nnc_ir::{Graph, NodeId, Op, Tensor, Value};

use super::{EditError, Notes};

/// Bytes a result may have, however small its operands are.
const SMALL: usize = 64 * 1024;

/// Multiply-accumulates and other operations that a folded node may take.
const MAX_WORK: u64 = 50_000_000;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    for id in graph.order()? {
        if !graph.contains(id) {
            continue;
        }
        let Some(results) = results(graph, id) else { continue };
        let name = graph.node(id).name.clone();
        let single = results.len() == 1;
        for (output, tensor) in results.into_iter().enumerate() {
            let name = if single { name.clone() } else { format!("{name}:{output}") };
            let constant = graph.add_constant(name, tensor);
            graph.replace_value(Value { node: id, output: output as u32 }, constant)?;
            graph.prune(constant.node);
        }
        graph.prune(id);
        notes.count("folded");
    }
    Ok(())
}

/// What a node computes, when that is known and worth storing.
fn results(graph: &Graph, id: NodeId) -> Option<Vec<Tensor>> {
    let node = graph.node(id);
    if matches!(node.op, Op::Input | Op::Constant(_)) {
        return None;
    }
    let operands = graph.operands(id);
    let mut tensors: Vec<Option<&Tensor>> = Vec::with_capacity(operands.len());
    for operand in &operands {
        tensors.push(match operand {
            None => None,
            Some(v) => Some(graph.constant(*v)?),
        });
    }
    let types: Vec<_> = tensors.iter().map(|t| t.map(Tensor::ty)).collect();
    let work = node.op.arithmetic(&types, &node.outputs);
    let read: usize = types.iter().flatten().map(|t| t.bytes()).sum();
    let written: usize = node.outputs.iter().map(|t| t.bytes()).sum();
    if written > read.max(SMALL) || work.macc.saturating_add(work.ops) > MAX_WORK {
        return None;
    }
    let tensors: &Tensors<'_> = &tensors;
    // A node that cannot be computed now is left to fail where its error names the layer.
    let results = node.op.eval(tensors).ok()?;
    let as_inferred = results.len() == node.outputs.len()
        && results.iter().zip(&node.outputs).all(|(tensor, ty)| tensor.ty() == ty);
    as_inferred.then_some(results)
}

#[cfg(test)]
mod tests {
    crate::passes::testing::random_networks!("fold_constants"; Exact);
}
