//! Names: every value has one source, which comes before its readers, as ONNX demands.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Fault;
use super::model::Model;

/// Checks that no value is made twice, none is missing, and nodes are sorted.
pub(super) fn check(model: &Model) -> Result<(), Fault> {
    let makers = makers(model)?;
    let mut known: BTreeSet<&str> = model.initializers.keys().map(String::as_str).collect();
    known.extend(model.inputs.iter().map(|i| i.name.as_str()));
    for node in &model.nodes {
        for value in node.reads() {
            if known.contains(value.as_str()) {
                continue;
            }
            let Some(&maker) = makers.get(value.as_str()) else {
                return Err(Fault::Undefined {
                    reader: format!("node \"{}\" ({})", node.name, node.op),
                    value: value.clone(),
                });
            };
            if let Some(cycle) = find_cycle(model, &makers) {
                return Err(cycle);
            }
            return Err(Fault::NotSorted {
                node: node.name.clone(),
                value: value.clone(),
                maker: model.nodes[maker].name.clone(),
            });
        }
        known.extend(node.outputs.iter().map(String::as_str));
    }
    for output in &model.outputs {
        if !known.contains(output.name.as_str()) {
            return Err(Fault::Undefined { reader: "the graph output".into(), value: output.name.clone() });
        }
    }
    Ok(())
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

/// A node that depends on itself, if there is one: what is left when nodes that wait for nothing are taken away.
fn find_cycle(model: &Model, makers: &BTreeMap<&str, usize>) -> Option<Fault> {
    let sources = |index: usize| {
        model.nodes[index].reads().filter_map(|v| makers.get(v.as_str()).map(|&m| (v.as_str(), m)))
    };
    let mut waits: Vec<usize> = (0..model.nodes.len()).map(|i| sources(i).count()).collect();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); model.nodes.len()];
    for index in 0..model.nodes.len() {
        for (_, maker) in sources(index) {
            readers[maker].push(index);
        }
    }
    let mut ready: Vec<usize> = (0..waits.len()).filter(|&i| waits[i] == 0).collect();
    while let Some(index) = ready.pop() {
        for &reader in &readers[index] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(reader);
            }
        }
    }
    // Every node that is left reads one that is left: going back from any of them leads into a circle.
    let mut at = (0..waits.len()).find(|&i| waits[i] > 0)?;
    let mut seen = BTreeSet::new();
    loop {
        let (value, before) = sources(at).find(|(_, m)| waits[*m] > 0)?;
        if !seen.insert(at) {
            return Some(Fault::Cycle { node: model.nodes[at].name.clone(), value: value.to_string() });
        }
        at = before;
    }
}

/// Drops nodes that no output depends on.
pub(super) fn drop_unused(model: &mut Model) {
    let mut used: BTreeSet<String> = model.outputs.iter().map(|o| o.name.clone()).collect();
    let mut keep = vec![false; model.nodes.len()];
    for (index, node) in model.nodes.iter().enumerate().rev() {
        if node.outputs.iter().any(|o| used.contains(o)) {
            keep[index] = true;
            used.extend(node.reads().cloned());
        }
    }
    let mut keep = keep.into_iter();
    model.nodes.retain(|_| keep.next() == Some(true));
    model.initializers.retain(|name, _| used.contains(name));
}
