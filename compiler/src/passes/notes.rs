//! What passes tell about their work: counts for the summary line, and which node went into which layer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::EditError;
use super::known_sums::KnownSums;

/// A node that became part of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absorbed {
    /// Its name.
    pub name: String,
    /// Name of its operator.
    pub op: &'static str,
    /// What became of it: `weights and bias`, `activation`, `residual` …
    pub how: &'static str,
}

/// For each layer, by name, what was fused into it, in that order.
///
/// ```text
///   block1/conv ← block1/bn (BatchNormalization: weights and bias), block1/relu6 (Clip: activation)
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FusionLog {
    layers: BTreeMap<String, Vec<Absorbed>>,
}

impl FusionLog {
    /// What was fused into a layer.
    pub fn absorbed(&self, layer: &str) -> &[Absorbed] {
        self.layers.get(layer).map_or(&[], Vec::as_slice)
    }

    /// Layers into which something was fused, by name.
    pub fn layers(&self) -> impl Iterator<Item = (&str, &[Absorbed])> {
        self.layers.iter().map(|(name, list)| (name.as_str(), list.as_slice()))
    }

    fn absorb(&mut self, layer: &str, absorbed: Absorbed) {
        // What had gone into the absorbed node before goes along with it. A node that is absorbed by several
        // readers tells each of them.
        let mut list =
            if absorbed.name == layer { Vec::new() } else { self.absorbed(&absorbed.name).to_vec() };
        list.push(absorbed);
        let layer = self.layers.entry(layer.to_string()).or_default();
        for absorbed in list {
            if !layer.contains(&absorbed) {
                layer.push(absorbed);
            }
        }
    }

    pub(super) fn retain(&mut self, mut exists: impl FnMut(&str) -> bool) {
        self.layers.retain(|name, _| exists(name));
    }
}

/// An edit that the graph refused. It would have been wrong, so the pass has a fault; the graph is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedEdit {
    /// Name of the node that was to be edited.
    pub node: String,
    /// Why it was refused.
    pub why: String,
}

impl fmt::Display for RefusedEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an edit of \"{}\" was refused: {}", self.node, self.why)
    }
}

/// Where one run of a pass writes down what it does, and finds what was done before.
#[derive(Debug, Default)]
pub struct Notes {
    counts: Vec<(&'static str, usize)>,
    log: FusionLog,
    refusals: Vec<RefusedEdit>,
    /// What was computed for another shape of the model.
    sums: Arc<KnownSums>,
}

impl Notes {
    pub(super) fn new(log: FusionLog, sums: Arc<KnownSums>) -> Notes {
        Notes { log, sums, ..Notes::default() }
    }

    /// Sums over weights that need not be made again.
    pub(super) fn sums(&self) -> &KnownSums {
        &self.sums
    }

    /// Counts one more of what the summary line names.
    pub fn count(&mut self, what: &'static str) {
        add_count(&mut self.counts, what, 1);
    }

    /// Records that `layer` took in a node named `name` with operator `op`.
    pub fn absorbed(&mut self, layer: &str, name: &str, op: &'static str, how: &'static str) {
        self.log.absorb(layer, Absorbed { name: name.to_string(), op, how });
    }

    /// Records that an edit at a node was refused, before which the counts were these.
    pub(super) fn refused(&mut self, node: String, counts: Vec<(&'static str, usize)>, error: &EditError) {
        self.counts = counts;
        self.refusals.push(RefusedEdit { node, why: error.to_string() });
    }

    /// Counts, in the order in which they first came up.
    pub fn counts(&self) -> &[(&'static str, usize)] {
        &self.counts
    }

    pub(super) fn into_parts(self) -> (Vec<(&'static str, usize)>, FusionLog, Vec<RefusedEdit>) {
        (self.counts, self.log, self.refusals)
    }
}

pub(super) fn add_count(counts: &mut Vec<(&'static str, usize)>, what: &'static str, n: usize) {
    match counts.iter_mut().find(|(w, _)| *w == what) {
        Some((_, count)) => *count += n,
        None => counts.push((what, n)),
    }
}

/// `52 folded into convolutions, 1 as prologue`; `nothing to do` for none.
pub(super) fn write_counts(f: &mut fmt::Formatter<'_>, counts: &[(&'static str, usize)]) -> fmt::Result {
    if counts.is_empty() {
        return f.write_str("nothing to do");
    }
    for (i, (what, n)) in counts.iter().enumerate() {
        write!(f, "{}{n} {what}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_into_an_absorbed_node_goes_along_with_it() {
        let mut notes = Notes::default();
        notes.absorbed("affine", "bn", "BatchNormalization", "scale and shift");
        notes.absorbed("conv", "affine", "ChannelAffine", "weights and bias");
        let names: Vec<&str> = notes.log.absorbed("conv").iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, ["bn", "affine"]);
    }

    #[test]
    fn counts_of_one_kind_add_up() {
        let mut notes = Notes::default();
        notes.count("folded");
        notes.count("merged");
        notes.count("folded");
        assert_eq!(notes.counts(), [("folded", 2), ("merged", 1)]);
    }
}
