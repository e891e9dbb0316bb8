//! Models to start from, made in memory.
//!
//! ```text
//!   operators.txt ─▶ a model or more of each operator ─┐
//!   nnc-models ───▶ the first layers of each network ──┴─▶ mutate.rs
//! ```

mod operators;

use std::collections::{BTreeMap, BTreeSet};

use nnc_models::Spec;
use onnx_protobuf::{ModelProto, ValueInfoProto};

use super::choices::Rng;

/// Networks whose first layers have few weights.
const NETWORKS: [&str; 6] =
    ["mobilenet-v1", "mobilenet-v2", "shufflenet-v1", "shufflenet-v2", "squeezenet-1.1", "nasnet-a-mobile"];

/// The most nodes of a network's beginning.
const LAYERS: usize = 24;

/// All models to start from. Networks are built when they are first asked for.
#[derive(Debug)]
pub struct Corpus {
    operators: Vec<ModelProto>,
    networks: BTreeMap<&'static str, ModelProto>,
}

impl Default for Corpus {
    fn default() -> Corpus {
        Corpus { operators: operators::models(), networks: BTreeMap::new() }
    }
}

impl Corpus {
    /// One of the models: mostly one of an operator.
    pub fn pick(&mut self, rng: &mut Rng) -> ModelProto {
        if !rng.one_in(8) {
            return self.operators[rng.below(self.operators.len())].clone();
        }
        let name = rng.of(&NETWORKS);
        let network = self.networks.entry(name).or_insert_with(|| {
            let spec = Spec::new(name).resolution(32).classes(10);
            let network = nnc_models::build(&spec).unwrap_or_else(|error| panic!("{error}"));
            beginning(network.model, LAYERS)
        });
        beginning(network.clone(), 1 + rng.below(LAYERS))
    }
}

/// The first nodes of a model. What they leave unread is its result.
fn beginning(mut model: ModelProto, nodes: usize) -> ModelProto {
    let graph = model.graph.mut_or_insert_default();
    graph.node.truncate(nodes);
    let read: BTreeSet<String> = graph.node.iter().flat_map(|node| node.input.iter().cloned()).collect();
    graph.initializer.retain(|tensor| read.contains(&tensor.name));
    graph.value_info.clear();
    let made = graph.node.iter().flat_map(|node| &node.output);
    let unread = made.filter(|name| !read.contains(*name));
    graph.output = unread.map(|name| ValueInfoProto { name: name.clone(), ..Default::default() }).collect();
    model
}
