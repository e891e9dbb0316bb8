//! Functions that a model defines: each call is replaced by the nodes of its body, so that nothing behind knows of them.
//!
//! ```text
//!   y = F⟨a = 2⟩(x)        F(u) → w:  v = Relu(u)            #1 = Relu(x)
//!                                     w = Pow⟨e = @a⟩(v)      y  = Pow⟨e = 2⟩(#1)
//! ```
//!
//! A few functions that call each other twice describe more nodes than memory can hold, so what all calls come to is added
//! up before the first one is replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attribute::Attribute;
use super::error::{Fault, NodeFault};
use super::model::NodeDef;
use super::subgraph::GraphDef;
use crate::limits::{Exceeded, LimitName};

/// Functions that call functions that call functions.
const MOST_NESTED: usize = 32;
/// Characters of a node's name that are kept when it becomes a part of others'.
const LONGEST_NAME: usize = 120;
/// Elements of attributes and characters of names that weigh as much as a node.
const ELEMS_PER_NODE: usize = 64;

/// What a call names: domain, name and overload.
pub(super) type FunctionId = (String, String, String);

/// A function as the model defines it.
#[derive(Clone, Debug)]
pub(super) struct FunctionDef {
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// Attributes that a call may give; those with a default have it here.
    pub attributes: BTreeMap<String, Option<Attribute>>,
    pub nodes: Vec<NodeDef>,
}

/// Replaces all calls, in subgraphs too. More than `limit` nodes are refused before any is made.
pub(super) fn inline(
    nodes: Vec<NodeDef>,
    functions: &BTreeMap<FunctionId, FunctionDef>,
    limit: usize,
) -> Result<Vec<NodeDef>, Fault> {
    if functions.is_empty() {
        return Ok(nodes);
    }
    let mut census = Weigher { functions, known: BTreeMap::new() };
    let total = census.weigh_all(&nodes, 0)?;
    if total > limit as u64 {
        return Err(Exceeded {
            what: format!("the model with {total} nodes after its functions are put in place of their calls"),
            limit: limit as u64,
            name: LimitName::Nodes,
        }
        .into());
    }
    let mut inliner = Inliner { functions, made: 0 };
    let mut inlined = Vec::with_capacity(total as usize);
    for node in nodes {
        inliner.expand(node, &mut inlined)?;
    }
    Ok(inlined)
}

/// Adds up what calls come to.
struct Weigher<'f> {
    functions: &'f BTreeMap<FunctionId, FunctionDef>,
    /// Weights of functions; none while one is being weighed.
    known: BTreeMap<&'f FunctionId, Option<u64>>,
}

impl<'f> Weigher<'f> {
    fn weigh_all(&mut self, nodes: &[NodeDef], depth: usize) -> Result<u64, Fault> {
        nodes.iter().try_fold(0u64, |sum, node| Ok(sum.saturating_add(self.weigh(node, depth)?)))
    }

    fn weigh(&mut self, node: &NodeDef, depth: usize) -> Result<u64, Fault> {
        let mut total = weight(node);
        for attribute in node.attributes.values() {
            if let Attribute::Graph(graph) = attribute {
                total = total.saturating_add(self.weigh_all(&graph.nodes, depth)?);
            }
        }
        let Some((id, function)) = self.functions.get_key_value(&callee(node)) else {
            return Ok(total);
        };
        if depth == MOST_NESTED {
            let what = format!("functions that call each other more than {MOST_NESTED} levels deep");
            return Err(Fault::Unsupported(what));
        }
        match self.known.get(id) {
            Some(Some(weight)) => return Ok(total.saturating_add(*weight)),
            Some(None) => {
                return Err(Fault::Unsupported(format!("function \"{}\", which calls itself", id.1)));
            }
            None => {}
        }
        self.known.insert(id, None);
        let weight = self.weigh_all(&function.nodes, depth + 1)?;
        self.known.insert(id, Some(weight));
        Ok(total.saturating_add(weight))
    }
}

/// What a copy of a node takes, in nodes.
fn weight(node: &NodeDef) -> u64 {
    let names: usize = node.inputs.iter().chain(&node.outputs).map(|name| name.len() + 8).sum();
    let attributes = node.attributes.values().map(|attribute| match attribute {
        Attribute::Ints(list) => list.len(),
        Attribute::Floats(list) => list.len(),
        Attribute::String(text) => text.len() / 8,
        Attribute::Strings(texts) => texts.iter().map(|text| 4 + text.len() / 8).sum(),
        _ => 1,
    });
    1 + ((names + attributes.sum::<usize>()) / ELEMS_PER_NODE) as u64
}

fn callee(node: &NodeDef) -> FunctionId {
    (node.domain.clone(), node.op.clone(), node.overload.clone())
}

/// What the names of a function's body stand for where it is called.
struct Call<'c> {
    node: &'c NodeDef,
    function: &'c FunctionDef,
    names: BTreeMap<String, String>,
}

struct Inliner<'f> {
    functions: &'f BTreeMap<FunctionId, FunctionDef>,
    /// Names made so far.
    made: usize,
}

impl Inliner<'_> {
    /// Adds a node, or what its function is.
    fn expand(&mut self, mut node: NodeDef, nodes: &mut Vec<NodeDef>) -> Result<(), Fault> {
        for attribute in node.attributes.values_mut() {
            if let Attribute::Graph(graph) = attribute {
                let mut inner = GraphDef::clone(graph);
                let mut inlined = Vec::with_capacity(inner.nodes.len());
                for node in std::mem::take(&mut inner.nodes) {
                    self.expand(node, &mut inlined)?;
                }
                inner.nodes = inlined;
                *graph = Arc::new(inner);
            }
        }
        let Some(function) = self.functions.get(&callee(&node)) else {
            nodes.push(node);
            return Ok(());
        };
        let mut call = Call { node: &node, function, names: BTreeMap::new() };
        call.check()?;
        for (index, name) in function.inputs.iter().enumerate() {
            call.names.insert(name.clone(), node.inputs.get(index).cloned().unwrap_or_default());
        }
        for (index, name) in function.outputs.iter().enumerate() {
            let result = node.outputs.get(index).filter(|result| !result.is_empty());
            match call.names.get(name).cloned() {
                // An operand that is passed on gets a second name.
                Some(operand) => {
                    if let Some(result) = result {
                        nodes.push(identity(&node, operand, result.clone()));
                    }
                }
                None => {
                    if let Some(result) = result {
                        call.names.insert(name.clone(), result.clone());
                    }
                }
            }
        }
        for inner in &function.nodes {
            let inner = self.copy(inner, &mut call)?;
            self.expand(inner, nodes)?;
        }
        Ok(())
    }

    /// A node of the body with the names and attributes of the call.
    fn copy(&mut self, node: &NodeDef, call: &mut Call<'_>) -> Result<NodeDef, Fault> {
        let mut attributes = BTreeMap::new();
        for (name, attribute) in &node.attributes {
            let attribute = match attribute {
                Attribute::Reference(outer) => match call.attribute(outer) {
                    Some(attribute) => attribute.clone(),
                    None => continue,
                },
                Attribute::Graph(graph) => Attribute::Graph(Arc::new(self.copy_graph(graph, call)?)),
                other => other.clone(),
            };
            attributes.insert(name.clone(), attribute);
        }
        Ok(NodeDef {
            name: inner_name(&call.node.name, &node.name),
            inputs: node.inputs.iter().map(|name| self.name(name, call)).collect(),
            outputs: node.outputs.iter().map(|name| self.name(name, call)).collect(),
            attributes,
            captured: Vec::new(),
            op: node.op.clone(),
            domain: node.domain.clone(),
            overload: node.overload.clone(),
            opset: node.opset,
        })
    }

    fn copy_graph(&mut self, graph: &GraphDef, call: &mut Call<'_>) -> Result<GraphDef, Fault> {
        let inputs = graph.inputs.iter().map(|name| self.name(name, call)).collect();
        let initializers =
            graph.initializers.iter().map(|(name, t)| (self.name(name, call), t.clone())).collect();
        let nodes = graph.nodes.iter().map(|node| self.copy(node, call)).collect::<Result<_, _>>()?;
        let outputs = graph.outputs.iter().map(|name| self.name(name, call)).collect();
        Ok(GraphDef { inputs, outputs, nodes, initializers })
    }

    /// What a name of the body is called outside. No name of a model starts like those that are made here and continues
    /// with a number, or it is refused as one that is made twice.
    fn name(&mut self, inner: &str, call: &mut Call<'_>) -> String {
        if inner.is_empty() {
            return String::new();
        }
        if let Some(name) = call.names.get(inner) {
            return name.clone();
        }
        self.made += 1;
        let name = format!("{}#{}", shortened(inner), self.made);
        call.names.insert(inner.to_string(), name.clone());
        name
    }
}

impl Call<'_> {
    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.node.attributes.get(name).or_else(|| self.function.attributes.get(name)?.as_ref())
    }

    fn check(&self) -> Result<(), Fault> {
        let fault = |fault: NodeFault| Fault::Node {
            node: self.node.name.clone(),
            op: self.node.op.clone(),
            opset: self.node.opset,
            fault: Box::new(fault),
        };
        let unknown = self.node.attributes.keys().find(|name| !self.function.attributes.contains_key(*name));
        if let Some(name) = unknown {
            return Err(fault(NodeFault::UnknownAttribute(name.clone())));
        }
        let (max, got) = (self.function.inputs.len(), self.node.inputs.len());
        if got > max {
            return Err(fault(NodeFault::Operands { max, got }));
        }
        let (supported, index) = (self.function.outputs.len(), self.node.outputs.len());
        match self.node.outputs.get(supported) {
            Some(value) => {
                Err(fault(NodeFault::Output { index: index - 1, value: value.clone(), supported }))
            }
            None => Ok(()),
        }
    }
}

fn identity(call: &NodeDef, from: String, to: String) -> NodeDef {
    NodeDef {
        name: call.name.clone(),
        op: "Identity".into(),
        domain: String::new(),
        overload: String::new(),
        opset: 1,
        inputs: vec![from],
        outputs: vec![to],
        attributes: BTreeMap::new(),
        captured: Vec::new(),
    }
}

fn inner_name(outer: &str, inner: &str) -> String {
    format!("{}/{}", shortened(outer), shortened(inner))
}

fn shortened(name: &str) -> &str {
    let end = name.char_indices().nth(LONGEST_NAME / 2).map_or(name.len(), |(at, _)| at);
    &name[..end]
}
