//! Graph to text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::graph::{Graph, NodeId, Value};
use crate::op::Op;
use crate::types::TensorType;

use super::attrs::Fields;
use super::constant::{self, Detail};
use super::name;
use super::ops::{Described, body_words, keyword};

/// A graph as text, to be looked at: of constants that are neither short nor regular, a digest.
pub fn print(graph: &Graph) -> String {
    print_in(graph, Detail::Brief)
}

/// A graph as text that [`parse`](super::parse) reads back as the same graph, constants and all.
pub fn print_full(graph: &Graph) -> String {
    print_in(graph, Detail::Full)
}

/// An operator as text, without its operands: `conv {strides=2x2, epilogue=relu6}`.
pub fn describe(op: &Op, operands: &[Option<&TensorType>]) -> String {
    let attributes = attributes(op, operands);
    let word = keyword(op.name());
    if attributes.is_empty() { word } else { format!("{word} {{{attributes}}}") }
}

/// The attributes that differ from their defaults, separated by commas.
pub(crate) fn attributes(op: &Op, operands: &[Option<&TensorType>]) -> String {
    let mut fields = Fields::writer(operands);
    // A walk that writes finds no fault.
    let _ = op.clone().fields(&mut fields);
    fields.written()
}

fn print_in(graph: &Graph, detail: Detail) -> String {
    let order = order(graph);
    let labels = labels(graph, &order);
    let value = |v: Value| match v.output {
        0 => labels[&v.node].clone(),
        output => format!("{}:{output}", labels[&v.node]),
    };
    let mut text = String::new();
    for &id in &order {
        let node = graph.node(id);
        let types: Vec<String> = node.outputs.iter().map(ToString::to_string).collect();
        let types = types.join(", ");
        let label = &labels[&id];
        // Writing to a string does not fail.
        let _ = match &node.op {
            Op::Input => writeln!(text, "{label} = input : {types}"),
            Op::Constant(t) => writeln!(text, "{label} = const {types} {}", constant::write(t, detail)),
            op => {
                let operands = graph.operands(id);
                let tys: Vec<Option<&TensorType>> = operands.iter().map(|v| v.map(|v| graph.ty(v))).collect();
                let mut line = format!("{label} = {}", keyword(op.name()));
                for (i, operand) in operands.iter().enumerate() {
                    line.push_str(if i == 0 { " " } else { ", " });
                    line.push_str(&operand.map_or("_".to_string(), value));
                }
                let attributes = attributes(op, &tys);
                if !attributes.is_empty() {
                    line.push_str(&format!(" {{{attributes}}}"));
                }
                for (word, body) in body_words(op).iter().zip(op.bodies()) {
                    let inside = print_in(body.graph(), detail).replace('\n', "\n  ");
                    line.push_str(&format!(" {word} {{\n  {}\n}}", inside.trim_end()));
                }
                writeln!(text, "{line} : {types}")
            }
        };
    }
    for (output, v) in graph.outputs() {
        let _ = writeln!(text, "output {} = {}", name(output), value(*v));
    }
    text
}

/// Inputs first, in their order; then all nodes, each after what it reads. A graph with a cycle is printed all the
/// same, in the order in which its nodes were added: whoever looks for the mistake wants to see it.
fn order(graph: &Graph) -> Vec<NodeId> {
    let inputs: BTreeSet<NodeId> = graph.inputs().iter().copied().collect();
    let nodes = graph.order().unwrap_or_else(|_| graph.node_ids().collect());
    let others = nodes.into_iter().filter(|id| !inputs.contains(id));
    graph.inputs().iter().copied().chain(others).collect()
}

/// `%name`, `%name#2` for the second node of a name, `%0` for nodes without one.
fn labels(graph: &Graph, order: &[NodeId]) -> BTreeMap<NodeId, String> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut labels = BTreeMap::new();
    for &id in order {
        let node = graph.node(id);
        let count = seen.entry(&node.name).or_default();
        let label = match (node.name.as_str(), *count) {
            ("", n) => format!("%{n}"),
            (text, 0) => format!("%{}", name(text)),
            (text, n) => format!("%{}#{}", name(text), n + 1),
        };
        *count += 1;
        labels.insert(id, label);
    }
    labels
}
