//! Names and order: every value has one source, and nodes come after those whose results they read.
//!
//! ONNX demands that order of a file, but tools that edit models leave others, and which one is meant is never in doubt. So
//! nodes are sorted, in the graph and in the graphs inside of nodes; those that are sorted stay as they are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use super::attribute::Attribute;
use super::error::{Fault, Link};
use super::model::{Model, NodeDef};

/// Checks that no value is made twice and none is missing.
pub(super) fn check(model: &Model) -> Result<(), Fault> {
    let makers = makers(model)?;
    let inputs: BTreeSet<&str> = model.inputs.iter().map(|input| input.name.as_str()).collect();
    let known = |value: &str| {
        makers.contains_key(value) || model.initializers.contains_key(value) || inputs.contains(value)
    };
    for node in &model.nodes {
        if let Some(value) = node.reads().find(|value| !known(value)) {
            let reader = format!("node \"{}\" ({})", node.name, node.op);
            return Err(Fault::Undefined { reader, value: value.clone() });
        }
    }
    match model.outputs.iter().find(|output| !known(&output.name)) {
        Some(output) => {
            Err(Fault::Undefined { reader: "the graph output".into(), value: output.name.clone() })
        }
        None => Ok(()),
    }
}

/// Which node makes each value.
fn makers(model: &Model) -> Result<BTreeMap<&str, usize>, Fault> {
    let mut sources: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    let describe = |source: Option<usize>, value: &str| match source {
        Some(index) => format!("node \"{}\"", model.nodes[index].name),
        None if model.initializers.contains_key(value) => "an initializer".to_string(),
        None => "a graph input".to_string(),
    };
    let inputs = model.inputs.iter().map(|i| (i.name.as_str(), None));
    let initializers = model.initializers.keys().map(|name| (name.as_str(), None));
    let results = model.nodes.iter().enumerate().flat_map(|(index, node)| {
        node.outputs.iter().filter(|o| !o.is_empty()).map(move |o| (o.as_str(), Some(index)))
    });
    for (value, source) in inputs.chain(initializers).chain(results) {
        if let Some(first) = sources.insert(value, source) {
            return Err(Fault::Duplicate {
                value: value.to_string(),
                first: describe(first, value),
                second: describe(source, value),
            });
        }
    }
    Ok(sources.into_iter().filter_map(|(value, source)| Some((value, source?))).collect())
}

/// Sorts nodes, and those of the graphs inside of them.
pub(super) fn sort(nodes: &mut Vec<NodeDef>) -> Result<(), Fault> {
    sort_within(nodes, None)
}

fn sort_within(nodes: &mut Vec<NodeDef>, within: Option<&str>) -> Result<(), Fault> {
    let order = order(nodes).map_err(|links| Fault::Cycle { within: within.map(str::to_owned), links })?;
    if let Some(order) = order {
        let mut unsorted: Vec<Option<NodeDef>> = std::mem::take(nodes).into_iter().map(Some).collect();
        nodes.extend(order.into_iter().filter_map(|index| unsorted[index].take()));
    }
    for node in nodes {
        for attribute in node.attributes.values_mut() {
            if let Attribute::Graph(graph) = attribute {
                sort_within(&mut Arc::make_mut(graph).nodes, Some(&node.name))?;
            }
        }
    }
    Ok(())
}

/// An order in which each node comes after those that it reads, as near to the given one as can be; `None` when that is such
/// an order, and a circle when there is none.
fn order(nodes: &[NodeDef]) -> Result<Option<Vec<usize>>, Vec<Link>> {
    let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for value in node.outputs.iter().filter(|value| !value.is_empty()) {
            makers.entry(value).or_insert(index);
        }
    }
    let sources = |index: usize| {
        nodes[index].reads().filter_map(|v| makers.get(v.as_str()).map(|&maker| (v.as_str(), maker)))
    };
    if (0..nodes.len()).all(|index| sources(index).all(|(_, maker)| maker < index)) {
        return Ok(None);
    }
    let mut waits: Vec<usize> = (0..nodes.len()).map(|index| sources(index).count()).collect();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for index in 0..nodes.len() {
        for (_, maker) in sources(index) {
            readers[maker].push(index);
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..nodes.len()).filter(|&index| waits[index] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for &reader in &readers[index] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    let Some(left) = (0..nodes.len()).find(|&index| waits[index] > 0) else {
        return Ok(Some(order));
    };
    // Every node that is left reads one that is left: going back from any of them leads into a circle.
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut places: BTreeMap<usize, usize> = BTreeMap::new();
    let mut at = left;
    while let Some((value, maker)) = sources(at).find(|(_, maker)| waits[*maker] > 0) {
        places.insert(at, path.len());
        path.push((at, value));
        if let Some(&start) = places.get(&maker) {
            path.drain(..start);
            break;
        }
        at = maker;
    }
    let link = |(node, value): (usize, &str)| Link { node: nodes[node].name.clone(), value: value.into() };
    Err(path.into_iter().map(link).collect())
}

/// Which nodes some values depend on. The nodes are sorted.
pub(super) fn needed<'n>(nodes: &'n [NodeDef], values: impl Iterator<Item = &'n str>) -> Vec<bool> {
    let mut used: BTreeSet<&str> = values.collect();
    let mut needed = vec![false; nodes.len()];
    for (needed, node) in needed.iter_mut().zip(nodes).rev() {
        if node.outputs.iter().any(|o| used.contains(o.as_str())) {
            *needed = true;
            used.extend(node.reads().map(String::as_str));
        }
    }
    needed
}

/// Drops nodes that no output depends on, and initializers that nothing reads.
pub(super) fn drop_unused(model: &mut Model) {
    let outputs = || model.outputs.iter().map(|o| o.name.as_str());
    let needed = needed(&model.nodes, outputs());
    let outputs: Vec<String> = outputs().map(str::to_owned).collect();
    let mut needed = needed.into_iter();
    model.nodes.retain(|_| needed.next() == Some(true));
    let read = model.nodes.iter().flat_map(NodeDef::reads);
    let used: BTreeSet<&String> = read.chain(&outputs).collect();
    model.initializers.retain(|name, _| used.contains(name));
    model.constants.retain(|name| model.initializers.contains_key(name));
}
