//! The graph: nodes are operators, edges say which output feeds which input.
//!
//! ```text
//!   input ──▶ conv ──▶ relu ──▶ (graph output "logits")
//!   const ───▶ (input 1)
//! ```
//!
//! A [`Value`] is one output of one node. Passes edit the graph through a small vocabulary: [`Graph::add`] infers
//! types, [`Graph::replace_value`] refuses a value of another type, [`Graph::remove_unused`] drops what nothing
//! reads; [`Graph::verify`] holds after every pass.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use crate::factors::Factors;
use crate::op::{Body, Cost, Op, OpError};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// A node of a [`Graph`]; stays valid while other nodes come and go.
pub type NodeId = NodeIndex<u32>;

/// One output of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    /// The node that makes it.
    pub node: NodeId,
    /// Which of the node's outputs it is.
    pub output: u32,
}

impl From<NodeId> for Value {
    /// The first output of a node.
    fn from(node: NodeId) -> Value {
        Value { node, output: 0 }
    }
}

/// An operator in a graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// The name that the model gave it, or one made from its output; not necessarily unique.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Types of its outputs.
    pub outputs: Vec<TensorType>,
}

/// From an output of the source node to an input of the target node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Which output of the source.
    pub output: u32,
    /// Which input of the target.
    pub input: u32,
}

/// What is wrong with a graph, or with an edit of one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GraphError {
    /// An operator refuses its inputs.
    #[error("node \"{node}\" ({op}): {source}")]
    Op {
        /// Name of the node.
        node: String,
        /// Name of its operator.
        op: &'static str,
        /// What it says.
        source: OpError,
    },
    /// A value was to be replaced by one of another type.
    #[error("node \"{node}\": a value of type {old} cannot be replaced by one of type {new}")]
    TypeChange {
        /// Name of the node that makes the old value.
        node: String,
        /// The old type.
        old: TensorType,
        /// The new type.
        new: TensorType,
    },
    /// The stored types are not what inference finds.
    #[error("node \"{node}\" ({op}): recorded output {index} as {recorded}, inference finds {inferred}")]
    StaleType {
        /// Name of the node.
        node: String,
        /// Name of its operator.
        op: &'static str,
        /// Which output.
        index: usize,
        /// As recorded.
        recorded: String,
        /// As inferred.
        inferred: String,
    },
    /// The nodes depend on each other in a circle.
    #[error("the graph has a cycle through node \"{0}\"")]
    Cycle(String),
    /// An edge names an output or input that does not exist, or an input is fed twice.
    #[error("node \"{node}\": {what}")]
    Edge {
        /// Name of the node.
        node: String,
        /// What is wrong.
        what: String,
    },
}

/// A computation: operators, its inputs and its outputs.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: StableDiGraph<Node, Edge, u32>,
    inputs: Vec<NodeId>,
    outputs: Vec<(String, Value)>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Adds a graph input.
    pub fn add_input(&mut self, name: impl Into<String>, ty: TensorType) -> Value {
        let id = self.nodes.add_node(Node { name: name.into(), op: Op::Input, outputs: vec![ty] });
        self.inputs.push(id);
        id.into()
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: impl Into<String>, tensor: Tensor) -> Value {
        let ty = tensor.ty().clone();
        self.nodes.add_node(Node { name: name.into(), op: Op::Constant(tensor), outputs: vec![ty] }).into()
    }

    /// Adds an operator that reads `inputs` (`None` where an optional input is left out), and infers its outputs.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        op: Op,
        inputs: &[Option<Value>],
    ) -> Result<NodeId, GraphError> {
        let name = name.into();
        let outputs = self.infer(&name, &op, inputs)?;
        let id = self.nodes.add_node(Node { name, op, outputs });
        for (i, value) in inputs.iter().enumerate() {
            if let Some(v) = value {
                self.nodes.add_edge(v.node, id, Edge { output: v.output, input: i as u32 });
            }
        }
        Ok(id)
    }

    fn infer(&self, name: &str, op: &Op, inputs: &[Option<Value>]) -> Result<Vec<TensorType>, GraphError> {
        let types: Vec<Option<&TensorType>> = inputs.iter().map(|v| v.map(|v| self.ty(v))).collect();
        op.infer(&types).map_err(|source| GraphError::Op { node: name.to_string(), op: op.name(), source })
    }

    /// Names a value as the next output of the graph.
    pub fn add_output(&mut self, name: impl Into<String>, value: Value) {
        self.outputs.push((name.into(), value));
    }

    /// The graph's inputs, in order.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// The graph's outputs, in order.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// A node.
    ///
    /// # Panics
    /// When the node was removed: holding on to removed nodes is an error of the caller.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// Whether the node is still there.
    pub fn contains(&self, id: NodeId) -> bool {
        self.nodes.contains_node(id)
    }

    /// Number of nodes, inputs and constants included.
    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All nodes, in the order in which they were added.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.node_indices()
    }

    /// Type of a value.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.nodes[value.node].outputs[value.output as usize]
    }

    /// The tensor behind a value that is a constant.
    pub fn constant(&self, value: Value) -> Option<&Tensor> {
        match &self.nodes[value.node].op {
            Op::Constant(t) => Some(t),
            _ => None,
        }
    }

    /// The bytes of a constant, to be changed; its type stays.
    pub fn constant_bytes_mut(&mut self, value: Value) -> Option<&mut [u8]> {
        match &mut self.nodes.node_weight_mut(value.node)?.op {
            Op::Constant(t) => t.bytes_mut().ok(),
            _ => None,
        }
    }

    /// Multiplies a constant by factors, as [`Tensor::scale`] does; `false` where that cannot be.
    pub fn scale_constant(&mut self, value: Value, factors: Factors) -> bool {
        match self.nodes.node_weight_mut(value.node).map(|node| &mut node.op) {
            Some(Op::Constant(tensor)) => tensor.scale(factors),
            _ => false,
        }
    }

    /// What a node reads, by position; `None` for an optional input that is left out. Trailing ones are absent.
    pub fn operands(&self, id: NodeId) -> Vec<Option<Value>> {
        let mut operands = Vec::new();
        for edge in self.nodes.edges_directed(id, Direction::Incoming) {
            let index = edge.weight().input as usize;
            if operands.len() <= index {
                operands.resize(index + 1, None);
            }
            operands[index] = Some(Value { node: edge.source(), output: edge.weight().output });
        }
        operands
    }

    /// The value that a node reads at a position.
    pub fn operand(&self, id: NodeId, input: usize) -> Option<Value> {
        self.operands(id).get(input).copied().flatten()
    }

    /// Who reads a value: node and input position, ordered by both.
    pub fn consumers(&self, value: Value) -> Vec<(NodeId, usize)> {
        let mut consumers: Vec<(NodeId, usize)> = self
            .nodes
            .edges_directed(value.node, Direction::Outgoing)
            .filter(|e| e.weight().output == value.output)
            .map(|e| (e.target(), e.weight().input as usize))
            .collect();
        consumers.sort_unstable();
        consumers
    }

    /// The one reader of a value; `None` when it has several, none, or is an output of the graph.
    pub fn single_consumer(&self, value: Value) -> Option<(NodeId, usize)> {
        let consumers = self.consumers(value);
        if consumers.len() == 1 && !self.is_output(value) { Some(consumers[0]) } else { None }
    }

    /// Whether a value is an output of the graph.
    pub fn is_output(&self, value: Value) -> bool {
        self.outputs.iter().any(|(_, v)| *v == value)
    }

    /// Lets everything that reads `old`, graph outputs included, read `new` instead.
    pub fn replace_value(&mut self, old: Value, new: Value) -> Result<(), GraphError> {
        if self.ty(old) != self.ty(new) {
            return Err(GraphError::TypeChange {
                node: self.node(old.node).name.clone(),
                old: self.ty(old).clone(),
                new: self.ty(new).clone(),
            });
        }
        for (node, input) in self.consumers(old) {
            // A node that makes `new` out of `old` goes on reading `old`.
            if node != new.node {
                self.connect(node, input, Some(new));
            }
        }
        for (_, v) in &mut self.outputs {
            if *v == old {
                *v = new;
            }
        }
        Ok(())
    }

    fn connect(&mut self, node: NodeId, input: usize, value: Option<Value>) {
        let old = self
            .nodes
            .edges_directed(node, Direction::Incoming)
            .find(|e| e.weight().input as usize == input)
            .map(|e| e.id());
        if let Some(edge) = old {
            self.nodes.remove_edge(edge);
        }
        if let Some(v) = value {
            self.nodes.add_edge(v.node, node, Edge { output: v.output, input: input as u32 });
        }
    }

    /// Whether [`Graph::rewrite`] would do what it is asked for: the types of the outputs that it would record.
    pub fn admits(
        &self,
        id: NodeId,
        op: &Op,
        operands: &[Option<Value>],
    ) -> Result<Vec<TensorType>, GraphError> {
        let name = &self.node(id).name;
        let outputs = self.infer(name, op, operands)?;
        if let Some((old, new)) = self.node(id).outputs.iter().zip(&outputs).find(|(a, b)| a != b) {
            return Err(GraphError::TypeChange { node: name.clone(), old: old.clone(), new: new.clone() });
        }
        Ok(outputs)
    }

    /// Gives a node another operator and other operands. The types of its outputs must stay as they are; where they would not, the
    /// graph stays as it was.
    pub fn rewrite(&mut self, id: NodeId, op: Op, operands: &[Option<Value>]) -> Result<(), GraphError> {
        let outputs = self.admits(id, &op, operands)?;
        let positions = self.operands(id).len().max(operands.len());
        for input in 0..positions {
            self.connect(id, input, operands.get(input).copied().flatten());
        }
        self.nodes[id].op = op;
        self.nodes[id].outputs = outputs;
        Ok(())
    }

    /// The graphs inside of a node, to be changed. Types of their inputs and outputs must stay: [`Graph::verify`] looks.
    pub fn bodies_mut(&mut self, id: NodeId) -> Vec<&mut Graph> {
        let node = self.nodes.node_weight_mut(id);
        node.into_iter().flat_map(|node| node.op.bodies_mut()).map(Body::graph_mut).collect()
    }

    /// Renames a node.
    pub fn rename(&mut self, id: NodeId, name: impl Into<String>) {
        self.nodes[id].name = name.into();
    }

    /// Removes an input that nothing reads; one that is read stays.
    pub fn remove_input(&mut self, id: NodeId) {
        let read = self.nodes.neighbors_directed(id, Direction::Outgoing).next().is_some();
        if !read && !self.outputs.iter().any(|(_, v)| v.node == id) && self.inputs.contains(&id) {
            self.inputs.retain(|&input| input != id);
            self.nodes.remove_node(id);
        }
    }

    /// Removes a node that nothing reads, then those that it alone had read. A node that is read, an input or an
    /// output of the graph stays.
    pub fn prune(&mut self, id: NodeId) {
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            let unread = self.nodes.contains_node(id)
                && self.nodes.neighbors_directed(id, Direction::Outgoing).next().is_none()
                && !self.inputs.contains(&id)
                && !self.outputs.iter().any(|(_, v)| v.node == id);
            if unread {
                stack.extend(self.nodes.neighbors_directed(id, Direction::Incoming));
                self.nodes.remove_node(id);
            }
        }
    }

    /// What a node costs: nothing for inputs and constants, whose elements count where they are read.
    pub fn cost(&self, id: NodeId) -> Cost {
        let node = self.node(id);
        if matches!(node.op, Op::Input | Op::Constant(_)) {
            return Cost::default();
        }
        let operands = self.operands(id);
        let types: Vec<Option<&TensorType>> = operands.iter().map(|v| v.map(|v| self.ty(v))).collect();
        let arithmetic = node.op.arithmetic(&types, &node.outputs);
        let params = operands.iter().flatten().filter_map(|&v| self.constant(v));
        let read: BTreeSet<Value> = operands.iter().flatten().copied().collect();
        Cost {
            macc: arithmetic.macc,
            ops: arithmetic.ops,
            params: params.map(|t| t.shape().elems() as u64).sum(),
            bytes_read: read.iter().map(|&v| self.ty(v).bytes() as u64).sum(),
            bytes_written: node.outputs.iter().map(|ty| ty.bytes() as u64).sum(),
        }
    }

    /// Removes every node that no graph output depends on (inputs of the graph stay). Returns how many.
    pub fn remove_unused(&mut self) -> usize {
        let mut live: BTreeSet<NodeId> = self.inputs.iter().copied().collect();
        let mut stack: Vec<NodeId> = self.outputs.iter().map(|(_, v)| v.node).collect();
        while let Some(id) = stack.pop() {
            if live.insert(id) || self.inputs.contains(&id) {
                stack.extend(self.nodes.neighbors_directed(id, Direction::Incoming));
            }
        }
        let before = self.len();
        self.nodes.retain_nodes(|_, id| live.contains(&id));
        before - self.len()
    }

    /// All nodes such that each comes after what it reads; among those that are ready, the one added first.
    pub fn order(&self) -> Result<Vec<NodeId>, GraphError> {
        let mut waiting: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut ready = BinaryHeap::new();
        for id in self.nodes.node_indices() {
            let count = self.nodes.edges_directed(id, Direction::Incoming).count();
            if count == 0 {
                ready.push(Reverse(id));
            } else {
                waiting.insert(id, count);
            }
        }
        let mut order = Vec::with_capacity(self.len());
        while let Some(Reverse(id)) = ready.pop() {
            order.push(id);
            for edge in self.nodes.edges_directed(id, Direction::Outgoing) {
                if let Some(count) = waiting.get_mut(&edge.target()) {
                    *count -= 1;
                    if *count == 0 {
                        waiting.remove(&edge.target());
                        ready.push(Reverse(edge.target()));
                    }
                }
            }
        }
        match waiting.first_key_value() {
            Some((id, _)) => Err(GraphError::Cycle(self.node(*id).name.clone())),
            None => Ok(order),
        }
    }

    /// Checks that edges name inputs and outputs that exist, that nothing is fed twice, that there is no cycle,
    /// and that every recorded type is what inference finds.
    pub fn verify(&self) -> Result<(), GraphError> {
        for id in self.order()? {
            let node = self.node(id);
            let fault = |what: String| GraphError::Edge { node: node.name.clone(), what };
            let mut fed = BTreeSet::new();
            for edge in self.nodes.edges_directed(id, Direction::Incoming) {
                if edge.weight().output as usize >= self.nodes[edge.source()].outputs.len() {
                    return Err(fault(format!("reads output {} of a node with fewer", edge.weight().output)));
                }
                if !fed.insert(edge.weight().input) {
                    return Err(fault(format!("input {} is fed twice", edge.weight().input)));
                }
            }
            if matches!(node.op, Op::Input | Op::Constant(_)) {
                continue;
            }
            let inferred = self.infer(&node.name, &node.op, &self.operands(id))?;
            for index in 0..inferred.len().max(node.outputs.len()) {
                let (a, b) = (node.outputs.get(index), inferred.get(index));
                if a != b {
                    let text = |t: Option<&TensorType>| t.map_or("nothing".to_string(), ToString::to_string);
                    return Err(GraphError::StaleType {
                        node: node.name.clone(),
                        op: node.op.name(),
                        index,
                        recorded: text(a),
                        inferred: text(b),
                    });
                }
            }
        }
        for (name, value) in &self.outputs {
            let exists =
                self.nodes.node_weight(value.node).is_some_and(|n| (value.output as usize) < n.outputs.len());
            if !exists {
                return Err(GraphError::Edge {
                    node: name.clone(),
                    what: "the graph output does not exist".into(),
                });
            }
        }
        Ok(())
    }
}
