//! What a model says about itself beside its graph: who wrote it, what it is for, and what its users keep in it.

use std::collections::BTreeMap;

use onnx_protobuf::ModelProto;

/// What a model says about itself. All of it may be empty; nothing of it changes what the model computes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelInfo {
    /// The program that wrote the model.
    pub producer_name: String,
    /// That program's version.
    pub producer_version: String,
    /// Whom the model belongs to, as a reversed domain name.
    pub domain: String,
    /// The model's own version.
    pub version: i64,
    /// The model in words.
    pub description: String,
    /// The graph's name.
    pub graph_name: String,
    /// The graph in words.
    pub graph_description: String,
    /// Properties by name (`metadata_props`): class names, character sets, and what else belongs to a model.
    pub properties: BTreeMap<String, String>,
}

impl ModelInfo {
    /// Of a message. Of two properties with one name, the last counts.
    pub(super) fn new(model: &ModelProto) -> ModelInfo {
        let properties = model.metadata_props.iter().map(|entry| (entry.key.clone(), entry.value.clone()));
        let graph = model.graph.as_ref();
        ModelInfo {
            producer_name: model.producer_name.clone(),
            producer_version: model.producer_version.clone(),
            domain: model.domain.clone(),
            version: model.model_version,
            description: model.doc_string.clone(),
            graph_name: graph.map(|graph| graph.name.clone()).unwrap_or_default(),
            graph_description: graph.map(|graph| graph.doc_string.clone()).unwrap_or_default(),
            properties: properties.collect(),
        }
    }
}
