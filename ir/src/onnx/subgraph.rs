//! Graphs inside of nodes: the branches of an If, the bodies of Loop and Scan.
//!
//! They read names of the graph around them, which are no operands of their node. [`capture`] finds these once, so that
//! what sorts nodes and drops unused ones knows about them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::attribute::Attribute;
use super::model::NodeDef;
use crate::tensor::Tensor;

/// A graph that is an attribute.
#[derive(Clone, Debug)]
pub(super) struct GraphDef {
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub nodes: Vec<NodeDef>,
    pub initializers: BTreeMap<String, Tensor>,
}

impl GraphDef {
    /// Names that it reads from the graph around it; its own nodes know theirs already.
    fn free(&self) -> BTreeSet<&str> {
        let mut own: BTreeSet<&str> = self.initializers.keys().map(String::as_str).collect();
        own.extend(self.inputs.iter().map(String::as_str));
        own.extend(self.nodes.iter().flat_map(|node| &node.outputs).map(String::as_str));
        let mut read: BTreeSet<&str> = self.outputs.iter().map(String::as_str).collect();
        for node in &self.nodes {
            read.extend(node.reads().map(String::as_str));
        }
        read.into_iter().filter(|name| !name.is_empty() && !own.contains(name)).collect()
    }

    /// All names that anything in it reads.
    pub fn reads<'g>(&'g self, names: &mut BTreeSet<&'g str>) {
        names.extend(self.outputs.iter().map(String::as_str));
        for node in &self.nodes {
            names.extend(node.inputs.iter().map(String::as_str));
            for graph in node.graphs() {
                graph.reads(names);
            }
        }
    }
}

impl NodeDef {
    /// The graphs inside of it.
    pub fn graphs(&self) -> impl Iterator<Item = &GraphDef> {
        self.attributes.values().filter_map(|attribute| match attribute {
            Attribute::Graph(graph) => Some(&**graph),
            _ => None,
        })
    }

    /// Everything that it reads: its operands, and what the graphs inside of it take from around.
    pub fn reads(&self) -> impl Iterator<Item = &String> {
        self.inputs.iter().chain(&self.captured).filter(|name| !name.is_empty())
    }
}

/// Fills in what nodes read beside their operands, from the innermost graphs outwards.
pub(super) fn capture(nodes: &mut [NodeDef]) {
    for node in nodes {
        for attribute in node.attributes.values_mut() {
            if let Attribute::Graph(graph) = attribute {
                capture(&mut Arc::make_mut(graph).nodes);
            }
        }
        let free: BTreeSet<&str> = node.graphs().flat_map(GraphDef::free).collect();
        node.captured = free.into_iter().map(String::from).collect();
    }
}
