//! Graphs inside of the graph while they are read: bodies of loops, and branches.
//!
//! ```text
//!   around      x ──────────────┬─▶ loop (x, h0)            what a body reads of the graph around it
//!               w (constant)    │                           becomes an input of the body and an operand of
//!   ┌ body ─────────────────────┴──────────────────┐        its node; a constant becomes one of the body
//!   │ iteration, h, x = input     w = constant     │
//!   └──────────────────────────────────────────────┘
//! ```
//!
//! One graph is being read at any time; those around it wait. A name may stand for a value of any of them, and is handed
//! inwards, graph by graph, when it is read.

use std::collections::{BTreeMap, BTreeSet};

use super::error::NodeFault;
use super::import::Importer;
use super::node::NodeReader;
use super::varying::Sizes;
use crate::graph::{Graph, Value};
use crate::op::Op;
use crate::types::TensorType;

/// A graph that waits until the one inside of it is read.
pub(super) struct Around {
    pub graph: Graph,
    sizes: Sizes,
    /// Its values that the graph inside reads, and what they are there.
    inside: BTreeMap<Value, Value>,
    /// Those of them that are inputs of the graph inside, in order.
    captured: Vec<Value>,
    /// What decides how often the graph inside runs: if that were known, so would be what its own inputs are.
    decided_by: Vec<Value>,
}

/// A graph that has been read.
pub(super) struct Nested {
    pub graph: Graph,
    /// What its last inputs stand for in the graph around.
    pub captured: Vec<Value>,
}

impl Importer<'_> {
    /// How many graphs are around the one that is being read.
    pub(super) fn depth(&self) -> usize {
        self.around.len()
    }

    /// A graph that is being read: the outermost is number 0.
    pub(super) fn level(&mut self, depth: usize) -> &mut Graph {
        match self.around.get_mut(depth) {
            Some(around) => &mut around.graph,
            None => &mut self.graph,
        }
    }

    fn open(&mut self, decided_by: Vec<Value>) {
        let graph = std::mem::take(&mut self.graph);
        let sizes = std::mem::take(&mut self.sizes);
        let (inside, captured) = (BTreeMap::new(), Vec::new());
        self.around.push(Around { graph, sizes, inside, captured, decided_by });
    }

    fn close(&mut self) -> Nested {
        let Some(around) = self.around.pop() else {
            return Nested { graph: Graph::new(), captured: Vec::new() };
        };
        self.sizes = around.sizes;
        let graph = std::mem::replace(&mut self.graph, around.graph);
        Nested { graph, captured: around.captured }
    }

    /// What a value of graph `depth` is in the one that is being read.
    pub(super) fn inwards(&mut self, value: Value, depth: usize) -> Value {
        (depth..self.depth()).fold(value, |value, depth| self.capture(value, depth))
    }

    /// What a value of graph `depth` is in the graph inside of that.
    fn capture(&mut self, value: Value, depth: usize) -> Value {
        let Some(around) = self.around.get_mut(depth) else { return value };
        if let Some(&known) = around.inside.get(&value) {
            return known;
        }
        let name = around.graph.node(value.node).name.clone();
        let (constant, ty) = (around.graph.constant(value).cloned(), around.graph.ty(value).clone());
        if constant.is_none() {
            around.captured.push(value);
        }
        let inner = match constant {
            Some(tensor) => self.level(depth + 1).add_constant(name, tensor),
            None => self.level(depth + 1).add_input(name, ty),
        };
        if let Some(around) = self.around.get_mut(depth) {
            around.inside.insert(value, inner);
        }
        inner
    }

    /// Names of the inputs of the model that a value of the graph that is being read is computed from.
    pub(super) fn sources(&self, value: Value) -> Vec<String> {
        let mut inputs = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut stack = vec![(self.depth(), value)];
        while let Some((depth, value)) = stack.pop() {
            if !seen.insert((depth, value.node)) {
                continue;
            }
            let graph = self.around.get(depth).map_or(&self.graph, |around| &around.graph);
            if matches!(graph.node(value.node).op, Op::Input) {
                match depth.checked_sub(1) {
                    None => {
                        inputs.insert(graph.node(value.node).name.as_str());
                    }
                    Some(outer) => {
                        let around = &self.around[outer];
                        match around.inside.iter().find(|(_, inner)| **inner == value) {
                            Some((&from, _)) => stack.push((outer, from)),
                            None => stack.extend(around.decided_by.iter().map(|&from| (outer, from))),
                        }
                    }
                }
            }
            stack.extend(graph.operands(value.node).into_iter().flatten().map(|v| (depth, v)));
        }
        inputs.into_iter().map(str::to_string).collect()
    }
}

impl NodeReader<'_, '_> {
    /// Reads a graph inside of the one at hand: whatever `read` adds is of it. `read` adds its inputs first
    /// ([`NodeReader::input`]) and returns its outputs. After an error, all is as it was before. An error that asks for something
    /// to be known names what `decided_by` depends on for inputs of the graph's own.
    pub(super) fn nested(
        &mut self,
        decided_by: &[Value],
        read: impl FnOnce(&mut Self) -> Result<Vec<Value>, NodeFault>,
    ) -> Result<Nested, NodeFault> {
        self.importer.open(decided_by.to_vec());
        let read = read(self).and_then(|outputs| {
            for (index, output) in outputs.into_iter().enumerate() {
                self.fixed(output)?;
                self.importer.graph.add_output(format!("y{index}"), output);
            }
            Ok(())
        });
        let mut nested = self.importer.close();
        nested.graph.remove_unused();
        read?;
        // How much is there of a value is known in its own graph only.
        nested.captured.iter().try_for_each(|&value| self.fixed(value))?;
        Ok(nested)
    }

    /// Adds an input to a nested graph.
    pub(super) fn input(&mut self, name: &str, ty: TensorType) -> Value {
        self.importer.graph.add_input(name, ty)
    }

    /// What a value of the graph around is in the nested graph at hand.
    pub(super) fn captured(&mut self, value: Value) -> Value {
        let depth = self.importer.depth().saturating_sub(1);
        self.importer.inwards(value, depth)
    }
}
