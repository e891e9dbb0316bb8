//! From a [`Model`] and [`Bindings`] to a [`Graph`]: one walk over the nodes, in order.
//!
//! ```text
//!   names: "x" ─▶ Value, "conv1.weight" ─▶ Value, …
//!   for each node:  table row for (op, opset)  ─▶  its constructor reads attributes and operands,
//!                                                  emits operators, names the results
//! ```
//!
//! Small computations of constants are evaluated on the way, so that a chain like Shape → Gather → Concat → Reshape,
//! which exporters write for every flatten, ends as the attribute of one Reshape.

use std::collections::{BTreeMap, BTreeSet};

use super::bindings::Bindings;
use super::error::{Fault, NodeFault, UnsupportedOperator};
use super::limits::Deadline;
use super::model::{Model, NodeDef};
use super::node::NodeReader;
use super::table;
use super::varying::{Sizes, Varying};
use crate::graph::{Graph, GraphError, Value};
use crate::op::Prefix;

/// The state of the walk.
pub(super) struct Importer<'m> {
    pub model: &'m Model,
    pub graph: Graph,
    /// What each name stands for.
    values: BTreeMap<&'m str, Value>,
    /// Names that some node or graph output reads.
    pub used: BTreeSet<&'m str>,
    /// Values whose size only the run knows.
    pub sizes: Sizes,
    /// Bytes of constants that may still be made by evaluating nodes.
    pub foldable: usize,
}

/// Bytes of constants that are made while reading. What exporters compute of shapes takes a few kilobytes.
const FOLD_BYTES: usize = 64 << 20;

/// Builds the graph.
pub(super) fn import(model: &Model, bindings: &Bindings, deadline: Deadline) -> Result<Graph, Fault> {
    let rows = rows(model)?;
    let types = bindings.resolve(model)?;
    let mut importer = Importer {
        model,
        graph: Graph::new(),
        values: BTreeMap::new(),
        used: used_names(model),
        sizes: Sizes::default(),
        foldable: FOLD_BYTES,
    };
    for (input, ty) in model.inputs.iter().zip(types) {
        let value = match bindings.constants.get(&input.name) {
            Some(tensor) => importer.graph.add_constant(&input.name, tensor.clone()),
            None => {
                model.limits.admit(&ty, || format!("input \"{}\"", input.name))?;
                importer.graph.add_input(&input.name, ty)
            }
        };
        importer.values.insert(&input.name, value);
    }
    for (node, (row, opset)) in model.nodes.iter().zip(rows) {
        deadline.check(|| format!("node \"{}\"", node.name))?;
        importer.node(node, row, opset)?;
    }
    for output in &model.outputs {
        let value = importer.value(&output.name).ok_or_else(|| Fault::Undefined {
            reader: "the graph output".into(),
            value: output.name.clone(),
        })?;
        let ty = importer.graph.ty(value);
        if output.dtype.is_some_and(|d| d != ty.dtype) {
            return Err(Fault::Port {
                kind: "output",
                name: output.name.clone(),
                what: format!("is declared as {output}, but its node makes {ty}"),
            });
        }
        let value = importer.real_size(&output.name, value)?;
        importer.graph.add_output(&output.name, value);
    }
    let mut graph = importer.graph;
    graph.remove_unused();
    Ok(graph)
}

/// The table's row for each node, or all operators that have none.
fn rows(model: &Model) -> Result<Vec<(&'static table::Row, i64)>, Fault> {
    let mut rows = Vec::with_capacity(model.nodes.len());
    let mut missing: BTreeMap<(&str, &str), UnsupportedOperator> = BTreeMap::new();
    for node in &model.nodes {
        let opset = model.opsets.get(&node.domain).copied().unwrap_or(0);
        match table::find(&node.domain, &node.op, opset) {
            Some(row) => rows.push((row, opset)),
            None => missing
                .entry((&node.domain, &node.op))
                .or_insert_with(|| UnsupportedOperator {
                    domain: node.domain.clone(),
                    op: node.op.clone(),
                    opset,
                    supported: table::versions(&node.domain, &node.op),
                    nodes: Vec::new(),
                })
                .nodes
                .push(node.name.clone()),
        }
    }
    if missing.is_empty() { Ok(rows) } else { Err(Fault::Operators(missing.into_values().collect())) }
}

fn used_names(model: &Model) -> BTreeSet<&str> {
    let read = model.nodes.iter().flat_map(|n| n.inputs.iter().map(String::as_str));
    read.chain(model.outputs.iter().map(|o| o.name.as_str())).filter(|name| !name.is_empty()).collect()
}

impl<'m> Importer<'m> {
    /// What a name stands for. A constant enters the graph when it is first read.
    pub(super) fn value(&mut self, name: &'m str) -> Option<Value> {
        if let Some(value) = self.values.get(name) {
            return Some(*value);
        }
        let tensor = self.model.initializers.get(name)?;
        let value = self.graph.add_constant(name, tensor.clone());
        self.values.insert(name, value);
        Some(value)
    }

    /// What an output returns of a value: as much as there is.
    fn real_size(&mut self, name: &str, value: Value) -> Result<Value, Fault> {
        let Some(Varying { axis, count }) = self.sizes.get(value) else { return Ok(value) };
        let added = self.graph.add(name, Prefix { axis }.into(), &[Some(value), Some(count)]);
        let what =
            |e: GraphError| Fault::Port { kind: "output", name: name.to_string(), what: e.to_string() };
        added.map(Value::from).map_err(what)
    }

    fn node(&mut self, def: &'m NodeDef, row: &'static table::Row, opset: i64) -> Result<(), Fault> {
        self.results(def, row, opset).map_err(|fault| Fault::Node {
            node: def.name.clone(),
            op: if def.domain.is_empty() { def.op.clone() } else { format!("{}:{}", def.domain, def.op) },
            opset,
            fault: Box::new(fault),
        })
    }

    fn results(&mut self, def: &'m NodeDef, row: &'static table::Row, opset: i64) -> Result<(), NodeFault> {
        let mut reader = NodeReader::new(self, def, opset);
        let results = (row.read)(&mut reader)?;
        reader.finish()?;
        for (index, name) in def.outputs.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            match results.get(index) {
                Some(value) => {
                    self.values.insert(name, *value);
                }
                None if self.used.contains(name.as_str()) => {
                    return Err(NodeFault::Output { index, value: name.clone(), supported: results.len() });
                }
                None => {}
            }
        }
        Ok(())
    }
}
