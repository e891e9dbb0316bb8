//! Numbers the nodes anew, in the order in which the model has its layers.
//!
//! ```text
//!   conv 3, conv 7, scale 2 (new, for conv 7), scale 9 (new, for conv 3)
//!                       ▼
//!   scale 0, conv 1, scale 2, conv 3
//! ```
//!
//! Graphs are walked in the order of their node numbers, as far as dependencies allow. Passes take up free numbers for new
//! constants, and a layer that has to wait for a constant with a high number would run late, its operands kept alive. So
//! constants don't count when the layers are put in order, and stand right before their first reader.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use nnc_ir::{Graph, GraphError, NodeId, Op, Value};

/// The same graph with its nodes in order.
pub(super) fn in_order(graph: &Graph) -> Result<Graph, GraphError> {
    let mut copy = GraphCopy { from: graph, to: Graph::new(), ids: BTreeMap::new() };
    for &id in graph.inputs() {
        let node = graph.node(id);
        if let [ty] = node.outputs.as_slice() {
            let input = copy.to.add_input(node.name.clone(), ty.clone());
            copy.ids.insert(id, input.node);
        }
    }
    for id in layers(graph)? {
        copy.add(id)?;
    }
    for (name, value) in graph.outputs() {
        let value = copy.value(*value)?;
        copy.to.add_output(name.clone(), value);
    }
    Ok(copy.to)
}

struct GraphCopy<'a> {
    from: &'a Graph,
    to: Graph,
    ids: BTreeMap<NodeId, NodeId>,
}

impl GraphCopy<'_> {
    /// Adds a node, and the constants that it is the first to read.
    fn add(&mut self, id: NodeId) -> Result<(), GraphError> {
        let mut operands = Vec::new();
        for operand in self.from.operands(id) {
            operands.push(operand.map(|value| self.value(value)).transpose()?);
        }
        let node = self.from.node(id);
        let new = self.to.add(node.name.clone(), node.op.clone(), &operands)?;
        self.ids.insert(id, new);
        Ok(())
    }

    /// A value in the new graph; a constant is added when it is first asked for.
    fn value(&mut self, value: Value) -> Result<Value, GraphError> {
        let node = match (self.ids.get(&value.node), self.from.constant(value)) {
            (Some(node), _) => *node,
            (None, Some(tensor)) => {
                let name = self.from.node(value.node).name.clone();
                let constant = self.to.add_constant(name, tensor.clone());
                self.ids.insert(value.node, constant.node);
                constant.node
            }
            (None, None) => return Err(GraphError::Cycle(self.from.node(value.node).name.clone())),
        };
        Ok(Value { node, output: value.output })
    }
}

/// All nodes but inputs and constants, such that each comes after what it reads; among those that are ready, the one with
/// the lowest number.
fn layers(graph: &Graph) -> Result<Vec<NodeId>, GraphError> {
    let is_layer = |id: NodeId| !matches!(graph.node(id).op, Op::Input | Op::Constant(_));
    let mut waiting: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut readers: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    let mut ready = BinaryHeap::new();
    for id in graph.node_ids().filter(|id| is_layer(*id)) {
        let before: BTreeSet<NodeId> =
            graph.operands(id).into_iter().flatten().map(|v| v.node).filter(|id| is_layer(*id)).collect();
        if before.is_empty() {
            ready.push(Reverse(id));
        } else {
            waiting.insert(id, before.len());
        }
        for node in before {
            readers.entry(node).or_default().push(id);
        }
    }
    let mut order = Vec::new();
    while let Some(Reverse(id)) = ready.pop() {
        order.push(id);
        for &reader in readers.get(&id).map_or(&[][..], Vec::as_slice) {
            if let Some(count) = waiting.get_mut(&reader) {
                *count -= 1;
                if *count == 0 {
                    waiting.remove(&reader);
                    ready.push(Reverse(reader));
                }
            }
        }
    }
    match waiting.first_key_value() {
        Some((id, _)) => Err(GraphError::Cycle(graph.node(*id).name.clone())),
        None => Ok(order),
    }
}

#[cfg(test)]
mod tests {
    use nnc_ir::Graph;

    #[test]
    fn a_layer_does_not_wait_for_a_constant_that_was_added_late() {
        use nnc_ir::op::{Binary, BinaryFn};
        use nnc_ir::{Tensor, TensorType};
        let constant = |i: i32| Tensor::new([1], &[i as f32]).expect("a tensor");
        let mut graph = Graph::new();
        let x = graph.add_input("x", TensorType::f32([1]));
        let early = graph.add_constant("early", constant(1));
        let sum = Binary { function: BinaryFn::Add, activation: None };
        let first = graph.add("first", sum.clone().into(), &[Some(x), Some(early)]).expect("adds");
        let second = graph.add("second", sum.clone().into(), &[Some(x), Some(early)]).expect("adds");
        let late = graph.add_constant("late", constant(2));
        graph.rewrite(first, sum.into(), &[Some(x), Some(late)]).expect("rewrites");
        graph.add_output("a", first.into());
        graph.add_output("b", second.into());
        let names = |graph: &Graph| -> Vec<String> {
            let order = graph.order().expect("no cycle");
            order.into_iter().map(|id| graph.node(id).name.clone()).collect()
        };
        assert_eq!(names(&graph), ["x", "early", "second", "late", "first"]);
        let graph = super::in_order(&graph).expect("in order");
        assert_eq!(names(&graph), ["x", "late", "first", "early", "second"]);
    }
}
