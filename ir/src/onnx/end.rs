//! Where a graph ends: at the model's outputs, or at the nodes and values that the caller names.
//!
//! ```text
//!   x ─▶ a ─▶ b ─▶ c ─▶ y        until ["b"]:    x ─▶ a ─▶ b
//! ```
//!
//! Nothing behind the end is looked at, so a model can be read up to what is not supported.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Fault;
use super::model::{Model, NodeDef, PortInfo};
use super::order;
use crate::nearest::nearest;
use crate::setting::Setting;

/// The part of a model that a graph is made of.
pub(super) struct ModelPart<'m> {
    /// The nodes, sorted.
    pub nodes: Vec<&'m NodeDef>,
    /// The outputs.
    pub outputs: Vec<End<'m>>,
}

/// A value that is an output.
pub(super) struct End<'m> {
    /// Its name.
    pub name: &'m str,
    /// What the model declares for it, if it is one of its outputs.
    declared: Option<&'m PortInfo>,
}

impl<'m> End<'m> {
    fn declared(port: &'m PortInfo) -> End<'m> {
        End { name: &port.name, declared: Some(port) }
    }

    /// As the model declares it, or as if it did not say more than its name.
    pub fn port(&self) -> PortInfo {
        let bare = || PortInfo { name: self.name.to_string(), dtype: None, dims: None };
        self.declared.cloned().unwrap_or_else(bare)
    }
}

impl<'m> ModelPart<'m> {
    /// All of it that leads to the values and nodes of `until`; without these, to the model's outputs.
    pub fn new(model: &'m Model, until: &[String]) -> Result<ModelPart<'m>, Fault> {
        if until.is_empty() {
            let outputs = model.outputs.iter().map(End::declared).collect();
            return Ok(ModelPart { nodes: model.nodes.iter().collect(), outputs });
        }
        let mut names: Vec<&str> = Vec::new();
        let mut seen = BTreeSet::new();
        for end in until {
            names.extend(results(model, end)?.into_iter().filter(|name| seen.insert(*name)));
        }
        let declared: BTreeMap<&str, &PortInfo> =
            model.outputs.iter().map(|o| (o.name.as_str(), o)).collect();
        let output = |&name: &&'m str| End { name, declared: declared.get(name).copied() };
        let needed = order::needed(&model.nodes, names.iter().copied());
        let nodes = model.nodes.iter().zip(needed).filter(|(_, needed)| *needed).map(|(node, _)| node);
        Ok(ModelPart { nodes: nodes.collect(), outputs: names.iter().map(output).collect() })
    }
}

/// The values that a name stands for: the one of that name, or the results of the node of that name.
fn results<'m>(model: &'m Model, end: &str) -> Result<Vec<&'m str>, Fault> {
    let values = |node: &'m NodeDef| node.outputs.iter().map(String::as_str).filter(|o| !o.is_empty());
    if let Some(value) = model.nodes.iter().flat_map(values).find(|value| *value == end) {
        return Ok(vec![value]);
    }
    let mut nodes = model.nodes.iter().filter(|node| node.name == end);
    match (nodes.next(), nodes.count()) {
        (Some(node), 0) => Ok(values(node).collect()),
        (Some(node), more) => Err(misnamed(
            end,
            format!(
                "{} nodes have the name \"{end}\"; name a value, such as \"{}\"",
                more + 1,
                values(node).next().unwrap_or_default()
            ),
        )),
        (None, _) => {
            let names = model.nodes.iter().flat_map(|node| values(node).chain([node.name.as_str()]));
            let names: Vec<&str> = names.collect();
            let hint = match nearest(end, &names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!(
                    "its outputs depend on {} nodes, one is \"{}\"",
                    model.nodes.len(),
                    names.last().unwrap_or(&"")
                ),
            };
            let what = format!("no output of the model depends on a node or value \"{end}\"; {hint}");
            Err(misnamed(end, what))
        }
    }
}

fn misnamed(end: &str, what: String) -> Fault {
    Fault::Binding { setting: Setting::Until { name: Some(end.to_string()) }, what, by: None }
}
