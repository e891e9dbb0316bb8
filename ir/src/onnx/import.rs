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
use super::end::ModelPart;
use super::error::{Fault, NodeFault, UnsupportedOperator};
use super::model::{Dim, Model, NodeDef, PortInfo};
use super::nested::Around;
use super::node::NodeReader;
use super::signature::{self, Signature, TypeVariables};
use super::subgraph::GraphDef;
use super::table;
use super::varying::{self, Sizes};
use super::weights::{self, Reading};
use crate::graph::{Graph, Value};
use crate::limits::Deadline;
use crate::tensor::Tensor;
use crate::types::DType;

/// Nodes that bodies of loops and branches may become. Each that is computed while reading may leave a constant behind.
const MOST_UNROLLED: usize = 1 << 16;

/// Bytes of constants that constructors may make of a few numbers: masks, grids, random numbers.
const MOST_MADE: usize = 256 << 20;

/// The state of the walk.
pub(super) struct Importer<'m> {
    pub model: &'m Model,
    /// The graph that is being read, and those around it, outermost first.
    pub graph: Graph,
    pub around: Vec<Around>,
    /// What names stand for: in the graph, and in the bodies inside of each other that are being read.
    scopes: Vec<Scope<'m>>,
    /// Names that some node or graph output reads.
    pub used: BTreeSet<&'m str>,
    /// Nodes of bodies that have been read, and how many there may be.
    pub(super) unrolled: usize,
    pub(super) most_unrolled: usize,
    /// Bytes of constants that constructors have made.
    made: usize,
    /// Values whose size only the run knows.
    pub sizes: Sizes,
    /// Bytes of constants that may still be made by evaluating nodes.
    pub foldable: usize,
    deadline: Deadline,
}

/// The names of one graph.
struct Scope<'m> {
    /// How many graphs are around the one that its values are of.
    depth: usize,
    values: BTreeMap<&'m str, Item>,
    /// Initializers that nothing has read yet. Each goes into the graph, which is their only owner.
    weights: BTreeMap<&'m str, Tensor>,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A value of the graph.
    Value(Value),
    /// A sequence of values.
    Sequence(Vec<Value>),
}

impl<'m> Scope<'m> {
    fn new(depth: usize, weights: BTreeMap<&'m str, Tensor>) -> Scope<'m> {
        Scope { depth, values: BTreeMap::new(), weights }
    }
}

/// Bytes of constants that are made while reading. What exporters compute of shapes takes a few kilobytes.
const FOLD_BYTES: usize = 64 << 20;

/// Builds the graph.
pub(super) fn import(
    model: &Model,
    bindings: &Bindings,
    deadline: Deadline,
    reading: Reading,
) -> Result<Graph, Fault> {
    let part = ModelPart::new(model, &bindings.until)?;
    let rows = rows(&part.nodes)?;
    let inputs = bindings.resolve(model)?;
    let mut importer = Importer {
        model,
        graph: Graph::new(),
        around: Vec::new(),
        scopes: vec![Scope::new(0, weights::tensors(&model.initializers, reading)?)],
        used: used_names(&part),
        unrolled: 0,
        most_unrolled: MOST_UNROLLED.min(model.limits.nodes),
        made: 0,
        sizes: Sizes::default(),
        foldable: FOLD_BYTES,
        deadline,
    };
    let are_known = inputs.iter().all(|(input, _)| is_known(input));
    for (input, ty) in inputs {
        let value = match bindings.constants.get(&input.name) {
            Some(tensor) => importer.graph.add_constant(&input.name, tensor.clone()),
            None => {
                model.limits.admit(&ty, || format!("input \"{}\"", input.name))?;
                importer.graph.add_input(&input.name, ty)
            }
        };
        importer.define(&input.name, Item::Value(value));
    }
    for (node, row) in part.nodes.iter().zip(rows) {
        deadline.check(|| format!("node \"{}\"", node.name))?;
        importer.node(node, row)?;
    }
    for end in &part.outputs {
        let output = end.port();
        let value = match importer.item(end.name) {
            Some(Item::Value(value)) => value,
            Some(Item::Sequence(_)) => {
                let what = "is a sequence; a program gives tensors only".to_string();
                return Err(Fault::Port { kind: "output", name: output.name.clone(), what });
            }
            None => {
                let reader = "the graph output".to_string();
                return Err(Fault::Undefined { reader, value: output.name.clone() });
            }
        };
        let ty = importer.graph.ty(value).clone();
        if output.dtype.is_some_and(|d| d != ty.dtype) {
            return Err(Fault::Port {
                kind: "output",
                name: output.name.clone(),
                what: format!("is declared as {output}, but its node makes {ty}"),
            });
        }
        let varying: Vec<usize> = importer.sizes.axes(value).iter().map(|(axis, _)| *axis).collect();
        if !is_as_declared(&output, are_known, &ty.shape, &varying) {
            return Err(Fault::Port {
                kind: "output",
                name: output.name.clone(),
                what: format!(
                    "is declared as {output}, but its node makes {ty}; correct the declaration, or the node"
                ),
            });
        }
        let value = varying::as_there(&mut importer, &output.name, value)?;
        importer.graph.add_output(&output.name, value);
    }
    let mut graph = importer.graph;
    graph.remove_unused();
    Ok(graph)
}

/// Whether an output has the shape that the model declares for it, as far as it does. Where inputs are open, exporters
/// leave extents of the outputs as they were for one input; then only the number of axes counts, and not even that where
/// one has a name: people give these names by hand, and leave them there when they cut the end off (the texts of ddddocr
/// are declared `[1, seqlen]`, and are `[columns, 1, characters]`). Along an axis whose extent is the most that the data
/// can come to, the extent does not count, nor does an extent of 0, which some write for any.
fn is_as_declared(output: &PortInfo, inputs_known: bool, shape: &[usize], varying: &[usize]) -> bool {
    let Some(dims) = &output.dims else { return true };
    if !inputs_known && dims.iter().any(|dim| matches!(dim, Dim::Named(_))) {
        return true;
    }
    let fits = |(axis, (dim, &extent)): (usize, (&Dim, &usize))| match dim {
        Dim::Known(declared) => {
            *declared == 0 || *declared == extent || !inputs_known || varying.contains(&axis)
        }
        Dim::Named(_) | Dim::Unknown => true,
    };
    dims.len() == shape.len() && dims.iter().zip(shape).enumerate().all(fits)
}

/// Whether a model fixes the shape of an input.
fn is_known(input: &PortInfo) -> bool {
    input.dims.as_ref().is_some_and(|dims| dims.iter().all(|dim| matches!(dim, Dim::Known(_))))
}

/// The table's row for each node, or all operators that have none.
fn rows(nodes: &[&NodeDef]) -> Result<Vec<&'static table::Row>, Fault> {
    let mut rows = Vec::with_capacity(nodes.len());
    let mut missing: BTreeMap<(&str, &str), UnsupportedOperator> = BTreeMap::new();
    for node in nodes {
        match table::find(&node.domain, &node.op, node.opset) {
            Some(row) => rows.push(row),
            None => missing
                .entry((&node.domain, &node.op))
                .or_insert_with(|| unsupported(node))
                .nodes
                .push(node.name.clone()),
        }
    }
    if missing.is_empty() { Ok(rows) } else { Err(Fault::Operators(missing.into_values().collect())) }
}

fn unsupported(node: &NodeDef) -> UnsupportedOperator {
    UnsupportedOperator {
        domain: node.domain.clone(),
        op: node.op.clone(),
        opset: node.opset,
        supported: table::versions(&node.domain, &node.op),
        advice: table::advice(&node.domain),
        nodes: Vec::new(),
    }
}

fn used_names<'m>(part: &ModelPart<'m>) -> BTreeSet<&'m str> {
    let read = part.nodes.iter().flat_map(|n| n.inputs.iter().map(String::as_str));
    let outputs = part.outputs.iter().map(|end| end.name);
    let mut names: BTreeSet<&str> = read.chain(outputs).filter(|name| !name.is_empty()).collect();
    for graph in part.nodes.iter().flat_map(|node| node.graphs()) {
        graph.reads(&mut names);
    }
    names
}

impl<'m> Importer<'m> {
    /// What a name stands for in the graph that is being read. A constant enters its graph when it is first read.
    pub(super) fn item(&mut self, name: &'m str) -> Option<Item> {
        let known = |scope: &Scope<'_>| scope.values.contains_key(name) || scope.weights.contains_key(name);
        let place = self.scopes.iter().rposition(known)?;
        let depth = self.scopes[place].depth;
        // An input that has a default is given where it is defined.
        if !self.scopes[place].values.contains_key(name)
            && let Some(tensor) = self.scopes[place].weights.remove(name)
        {
            let value = self.level(depth).add_constant(name, tensor);
            self.scopes[place].values.insert(name, Item::Value(value));
        }
        Some(match self.scopes[place].values.get(name)?.clone() {
            Item::Value(value) => Item::Value(self.inwards(value, depth)),
            Item::Sequence(list) => {
                Item::Sequence(list.into_iter().map(|value| self.inwards(value, depth)).collect())
            }
        })
    }

    /// Gives a name a meaning; tells whether it had none in this graph.
    fn define(&mut self, name: &'m str, item: Item) -> bool {
        self.scopes.last_mut().is_some_and(|scope| scope.values.insert(name, item).is_none())
    }

    fn node(&mut self, def: &'m NodeDef, row: &'static table::Row) -> Result<(), Fault> {
        self.results(def, row).map_err(|fault| Fault::Node {
            node: def.name.clone(),
            op: operator(def),
            opset: def.opset,
            fault: Box::new(fault),
        })
    }

    fn results(&mut self, def: &'m NodeDef, row: &'static table::Row) -> Result<(), NodeFault> {
        let signature = signature::find(&def.domain, &def.op, def.opset);
        let bound = signature.map(|signature| self.check_node(def, signature)).transpose()?;
        let mut reader = NodeReader::new(self, def);
        let results = (row.read)(&mut reader)?;
        let items = match reader.finish()? {
            Some(sequence) => vec![Item::Sequence(sequence)],
            None => results.into_iter().map(Item::Value).collect(),
        };
        if let Some((signature, bound)) = signature.zip(bound) {
            let dtypes: Vec<Option<DType>> = items.iter().map(|item| self.dtype(item)).collect();
            signature.check_results(&def.outputs, &dtypes, &bound)?;
        }
        for (index, name) in def.outputs.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let Some(item) = items.get(index) else {
                if self.used.contains(name.as_str()) {
                    return Err(NodeFault::Output { index, value: name.clone(), supported: items.len() });
                }
                continue;
            };
            if !self.define(name, item.clone()) {
                return Err(NodeFault::invalid(format!("value \"{name}\" is made twice")));
            }
        }
        Ok(())
    }

    /// Holds a node against what ONNX says of its operator's operands and outputs.
    fn check_node(&mut self, def: &'m NodeDef, signature: &Signature) -> Result<TypeVariables, NodeFault> {
        signature.check_outputs(&def.outputs)?;
        let items = def.inputs.iter().map(|name| self.item(name).filter(|_| !name.is_empty()));
        let items: Vec<Option<Item>> = items.collect();
        let dtypes = items.iter().map(|item| self.dtype(item.as_ref()?));
        signature.check_operands(&dtypes.collect::<Vec<_>>())
    }

    /// The element type of a tensor.
    fn dtype(&self, item: &Item) -> Option<DType> {
        match item {
            Item::Value(value) => Some(self.graph.ty(*value).dtype),
            Item::Sequence(_) => None,
        }
    }

    /// Reads a graph inside of a node, once for these arguments.
    pub(super) fn body(&mut self, body: &'m GraphDef, arguments: &[Value]) -> Result<Vec<Value>, NodeFault> {
        if body.inputs.len() != arguments.len() {
            return Err(NodeFault::invalid(format!(
                "the body takes {} values, there are {}",
                body.inputs.len(),
                arguments.len()
            )));
        }
        // An iteration of nothing still is one.
        self.unroll(body.nodes.len().max(1))?;
        let weights = body.initializers.iter().map(|(name, tensor)| (name.as_str(), tensor.clone()));
        self.scopes.push(Scope::new(self.depth(), weights.collect()));
        let results = self.inside(body, arguments);
        self.scopes.pop();
        results
    }

    /// Counts nodes that are written out for a loop, a branch or the steps of a sequence.
    pub(super) fn unroll(&mut self, nodes: usize) -> Result<(), NodeFault> {
        let limit = self.most_unrolled;
        self.unrolled = self.unrolled.saturating_add(nodes);
        if self.unrolled <= limit {
            return Ok(());
        }
        Err(NodeFault::unsupported(format!(
            "more than {limit} nodes when loops and branches are written out; a loop must have fewer iterations"
        )))
    }

    /// Counts bytes of constants that constructors make.
    pub(super) fn make(&mut self, bytes: usize) -> Result<(), NodeFault> {
        self.made = self.made.saturating_add(bytes);
        if self.made <= MOST_MADE {
            return Ok(());
        }
        Err(NodeFault::unsupported(format!(
            "more than {MOST_MADE} bytes of constants that nodes make of nothing; store them in the model"
        )))
    }

    fn inside(&mut self, body: &'m GraphDef, arguments: &[Value]) -> Result<Vec<Value>, NodeFault> {
        for (name, &value) in body.inputs.iter().zip(arguments) {
            self.define(name, Item::Value(value));
        }
        for def in &body.nodes {
            self.deadline.check(|| format!("node \"{}\"", def.name))?;
            let row = table::find(&def.domain, &def.op, def.opset);
            let row = row.ok_or_else(|| {
                NodeFault::unsupported(format!(
                    "operator that nnc does not read, in a graph of it: {}",
                    unsupported(def)
                ))
            })?;
            self.results(def, row).map_err(|fault| NodeFault::Inside {
                node: def.name.clone(),
                op: operator(def),
                fault: Box::new(fault),
            })?;
        }
        let outputs = body.outputs.iter().map(|name| match self.item(name) {
            Some(Item::Value(value)) => Ok(value),
            Some(Item::Sequence(_)) => {
                Err(NodeFault::unsupported(format!("\"{name}\" leaves a body, but is a sequence")))
            }
            None => Err(NodeFault::invalid(format!("the output \"{name}\" of a body has no source"))),
        });
        outputs.collect()
    }
}

/// An operator's name, with its domain when that is not ONNX's own.
fn operator(def: &NodeDef) -> String {
    if def.domain.is_empty() { def.op.clone() } else { format!("{}:{}", def.domain, def.op) }
}
