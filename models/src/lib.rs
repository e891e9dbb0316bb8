//! Network architectures as ONNX builders: the compact convolutional ones that nnc began with, and others.
//!
//! [`build`] writes a network as common exporters do: batch normalisation as a node of its own, ReLU6 as `Clip`,
//! channel shuffles as reshape, transpose, reshape, Gelu by `Erf`, attention as products of matrices, and logits as the
//! output of classifiers. Weights are random, deterministic and
//! scaled such that activations stay near unit scale through the deepest network, so that a wrong layer shows in the
//! output. The same specification gives the same bytes on every machine.
//!
//! ```text
//! Spec ── catalogue ──► Config ── arch/NAME.rs ──► Net ──► ModelProto, Cost
//!         which options,          blocks/          builder.rs: one method per layer
//!         which values                             weights.rs, moments.rs: what the tensors hold
//! ```
//!
//! ```
//! use nnc_models::{Spec, build};
//!
//! let network = build(&Spec::new("mobilenet-v2").width(0.5).resolution(96))?;
//! assert_eq!(network.model.graph.input[0].name, "input");
//! assert!(network.cost.macc < 20_000_000);
//! # Ok::<(), nnc_models::Error>(())
//! ```

#![deny(missing_docs)]

mod arch;
mod blocks;
mod builder;
mod catalogue;
mod error;
mod half;
mod moments;
mod proto;
mod weights;

pub use builder::Cost;
pub use catalogue::{Allowed, Architecture, Choice, Family};
pub use error::Error;
pub use half::Half;

use builder::Net;
use onnx_protobuf::{Message, ModelProto};

/// Which network to build. What is `None` has the architecture's default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spec {
    /// The name of an architecture in [`list`].
    pub name: String,
    /// Width multiplier: scales the channels of every layer.
    pub width: Option<f64>,
    /// Height and width of the input, in pixels; of a line of text, its width.
    pub resolution: Option<usize>,
    /// Groups of the grouped convolutions.
    pub groups: Option<usize>,
    /// Number of classes: of logits, or of scores.
    pub classes: Option<usize>,
    /// Seeds all weights.
    pub seed: u64,
}

impl Spec {
    /// The architecture called `name` with all defaults and seed 0.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Sets the width multiplier.
    pub fn width(self, width: f64) -> Self {
        Self { width: Some(width), ..self }
    }

    /// Sets the input's height and width.
    pub fn resolution(self, resolution: usize) -> Self {
        Self { resolution: Some(resolution), ..self }
    }

    /// Sets the number of groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups: Some(groups), ..self }
    }

    /// Sets the number of classes.
    pub fn classes(self, classes: usize) -> Self {
        Self { classes: Some(classes), ..self }
    }

    /// Sets the seed.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }
}

/// A built network.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The model. Its input is called `input`, and shaped as [`Architecture::input`] says: mostly
    /// `[1, 3, resolution, resolution]`. Its output is mostly `logits`, of shape `[1, classes]`.
    pub model: ModelProto,
    /// What one run takes.
    pub cost: Cost,
}

impl Network {
    /// Makes the weights and what lies between the layers half floats; input and output stay `f32`, with casts behind and
    /// before them.
    pub fn halve(&mut self, half: Half) {
        half::convert(&mut self.model, half);
    }

    /// The bytes of the network's ONNX file.
    ///
    /// # Errors
    ///
    /// The model is larger than a protobuf message can be.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let name = self.model.graph.name.clone();
        self.model.write_to_bytes().map_err(|error| Error::Encode { model: name, reason: error.to_string() })
    }

    /// Makes further values outputs of the model, so that what happens inside can be looked at. A value is named as
    /// in the graph, such as `/features/0/Conv_output_0`; its shape is left to shape inference.
    pub fn expose<'a>(&mut self, values: impl IntoIterator<Item = &'a str>) {
        proto::add_outputs(&mut self.model, values);
    }
}

/// All architectures, the seeds first.
pub fn list() -> &'static [Architecture] {
    catalogue::ARCHITECTURES
}

/// Builds the network that `spec` asks for.
///
/// # Errors
///
/// The name is unknown, an option does not apply to the architecture, or a value is out of range.
pub fn build(spec: &Spec) -> Result<Network, Error> {
    let architecture = Architecture::find(&spec.name)?;
    let config = architecture.configure(spec)?;
    let [_, shape @ ..] = architecture.input(config.resolution);
    let (mut net, input) = Net::new(spec.seed, shape, architecture.family == Family::More);
    let result = architecture.build(&mut net, &input, &config);
    let (model, cost) = net.finish(architecture.name, architecture.output, &result);
    Ok(Network { model, cost })
}

/// Builds the network that `spec` asks for and returns the bytes of its ONNX file.
///
/// # Errors
///
/// As [`build`], or the model is larger than a protobuf message can be.
pub fn encode(spec: &Spec) -> Result<Vec<u8>, Error> {
    build(spec)?.encode()
}
