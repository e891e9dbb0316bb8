//! Computes what depends on constants alone.
//!
//! ```text
//!   weights ─▶ transpose ─▶ matmul                weights′ ─▶ matmul
//!                           ▲             becomes             ▲
//!                           x                                 x
//! ```
//!
//! Results that are much larger than what they are made from (an Expand of a scalar) stay unfolded: the artefact
//! would carry them. So do results that take long to compute, and all that are left when the results so far are larger than
//! the weights of the model, or took longer than anybody waits.

use nnc_ir::op::Tensors;
use nnc_ir::{Graph, NodeId, Op, Tensor, Value};

use super::edit::each_node;
use super::{EditError, Notes};

/// Bytes a result may have, however small its operands are.
const SMALL: usize = 64 * 1024;

/// Multiply-accumulates and other operations that a folded node may take.
const MAX_WORK: u64 = 50_000_000;

/// The same of all nodes that one run of the pass folds.
const MAX_WORK_TOGETHER: u64 = 2_000_000_000;

/// Bytes that constants may grow by in one run of the pass, if the model's own constants are smaller.
const MAX_GROWTH: usize = 64 << 20;

/// What a run of the pass may still spend.
struct Budget {
    bytes: usize,
    work: u64,
}

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    let constants = graph.node_ids().filter_map(|id| graph.constant(id.into()));
    let bytes = constants.map(|tensor| tensor.ty().bytes()).sum::<usize>();
    let mut budget = Budget { bytes: bytes.max(MAX_GROWTH), work: MAX_WORK_TOGETHER };
    each_node(graph, notes, |graph, notes, id| {
        let Some(results) = results(graph, id, &mut budget) else { return Ok(()) };
        let operands: Vec<Value> = graph.operands(id).into_iter().flatten().collect();
        let sizes: Vec<usize> = operands.iter().map(|v| graph.ty(*v).bytes()).collect();
        let name = graph.node(id).name.clone();
        let single = results.len() == 1;
        for (output, tensor) in results.into_iter().enumerate() {
            let name = if single { name.clone() } else { format!("{name}:{output}") };
            let constant = graph.add_constant(name, tensor);
            graph.replace_value(Value { node: id, output: output as u32 }, constant)?;
            graph.prune(constant.node);
        }
        graph.prune(id);
        // What the node alone had read is gone with it.
        let gone = operands.iter().zip(sizes).filter(|(v, _)| !graph.contains(v.node));
        budget.bytes += gone.map(|(_, bytes)| bytes).sum::<usize>();
        notes.count("folded");
        Ok(())
    })
}

/// What a node computes, when that is known, worth storing, and within the budget, which it is taken from.
fn results(graph: &Graph, id: NodeId, budget: &mut Budget) -> Option<Vec<Tensor>> {
    let node = graph.node(id);
    // `integer_layers` has a use for steps.
    if matches!(node.op, Op::Input | Op::Constant(_) | Op::Dequantize(_)) {
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
    let work = work.macc.saturating_add(work.ops);
    if written > read.max(SMALL) || work > MAX_WORK {
        return None;
    }
    let left = Budget { bytes: budget.bytes.checked_sub(written)?, work: budget.work.checked_sub(work)? };
    *budget = left;
    let tensors: &Tensors<'_> = &tensors;
    // A node that cannot be computed now is left to fail where its error names the layer.
    let results = node.op.eval(tensors).ok()?;
    let as_inferred = results.len() == node.outputs.len()
        && results.iter().zip(&node.outputs).all(|(tensor, ty)| tensor.ty() == ty);
    as_inferred.then_some(results)
}

#[cfg(test)]
mod tests {
    use nnc_ir::op::{MatMul, Transpose};
    use nnc_ir::{Graph, NodeId, Op, Tensor, Value};

    use super::{Budget, MAX_GROWTH, results};

    fn bytes_of_constants(graph: &Graph) -> usize {
        let constants = graph.node_ids().filter_map(|id| graph.constant(id.into()));
        constants.map(|tensor| tensor.ty().bytes()).sum()
    }

    fn square(graph: &mut Graph, name: &str, rows: usize) -> Value {
        let tensor = Tensor::new([rows, rows], &vec![0.5f32; rows * rows]).unwrap();
        graph.add_constant(name, tensor)
    }

    fn transpose(graph: &mut Graph, name: String, x: Value) -> NodeId {
        graph.add(name, Op::from(Transpose { perm: vec![1, 0] }), &[Some(x)]).unwrap()
    }

    #[test]
    fn copies_of_one_constant_are_not_made_without_end() {
        let mut graph = Graph::new();
        let weights = square(&mut graph, "w", 1 << 10);
        let bytes = bytes_of_constants(&graph);
        for n in 0..100 {
            let id = transpose(&mut graph, format!("t{n}"), weights);
            graph.add_output(format!("t{n}"), id.into());
        }
        crate::passes::run("fold_constants", &mut graph).unwrap();
        assert_eq!(bytes_of_constants(&graph), bytes + MAX_GROWTH);
    }

    #[test]
    fn what_a_result_takes_the_place_of_is_no_growth() {
        let mut graph = Graph::new();
        let mut last = square(&mut graph, "w", 1 << 10);
        let bytes = bytes_of_constants(&graph);
        for n in 0..MAX_GROWTH / bytes + 1 {
            last = transpose(&mut graph, format!("t{n}"), last).into();
        }
        graph.add_output("y", last);
        let report = crate::passes::run("fold_constants", &mut graph).unwrap();
        assert_eq!(report.counts, [("folded", MAX_GROWTH / bytes + 1)]);
        assert_eq!(bytes_of_constants(&graph), bytes);
    }

    #[test]
    fn what_takes_long_is_not_computed() {
        let mut graph = Graph::new();
        let (small, large) = (square(&mut graph, "small", 8), square(&mut graph, "large", 369));
        let quick = graph.add("quick", MatMul::default().into(), &[Some(small), Some(small)]).unwrap();
        let slow = graph.add("slow", MatMul::default().into(), &[Some(large), Some(large)]).unwrap();
        let results = |id: NodeId, work: u64| {
            let mut budget = Budget { bytes: 1 << 20, work };
            results(&graph, id, &mut budget).map(|_| (budget.bytes, budget.work))
        };
        assert_eq!(results(quick, 600), Some(((1 << 20) - 256, 600 - 512)));
        assert_eq!(results(quick, 511), None, "all nodes together");
        assert_eq!(results(slow, 1 << 40), None, "one node");
    }
}
