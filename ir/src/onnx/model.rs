//! A model as its file describes it: inputs, outputs, nodes by name, constants; dims may still be open.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::about::ModelInfo;
use super::attribute::Attribute;
use super::bindings::Bindings;
use super::decode;
use super::end::{End, ModelPart};
use super::error::{Fault, OnnxError};
use super::external::External;
use super::import;
use super::order;
use super::source::{Bytes, FileWindow, ModelSource, SourceFile};
use super::split;
use super::tensor::TensorReader;
use super::weights::{self, Reading, StoredTensor, Weights};
use super::wire;
use crate::graph::Graph;
use crate::limits::{Deadline, Exceeded, LimitName, Limits};
use crate::tensor::Tensor;
use crate::types::DType;

/// An ONNX model, read and checked but for what depends on its input shapes.
///
/// Of a model in a file only the structure is in memory. Its weights are read whenever a graph is built or used, so the file
/// stays open; when it has been written to meanwhile, that fails.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) file: String,
    pub(super) limits: Limits,
    pub(super) about: ModelInfo,
    pub(super) ir_version: i64,
    /// Version of each imported operator set, by domain; `""` is ONNX's own.
    pub(super) opsets: BTreeMap<String, i64>,
    pub(super) inputs: Vec<PortInfo>,
    /// Inputs with an initializer, which is what they are unless the caller says otherwise.
    pub(super) defaults: Vec<PortInfo>,
    pub(super) outputs: Vec<PortInfo>,
    /// Nodes that an output depends on, each after those that it reads.
    pub(super) nodes: Vec<NodeDef>,
    pub(super) initializers: BTreeMap<String, Weights>,
    /// The initializers that are nodes in the model.
    pub(super) constants: BTreeSet<String>,
    /// What it is read from; most initializers lie in here.
    pub(super) source: ModelSource,
    /// Tensors in files beside the model.
    pub(super) outside: Vec<StoredTensor>,
}

/// A part of what a model is read from.
#[derive(Clone, Copy, Debug)]
pub struct SourcePart<'m> {
    model: &'m Model,
    outside: Option<&'m StoredTensor>,
}

/// A graph input or output as the model declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// Its name.
    pub name: String,
    /// Type of its elements; always known for an input.
    pub dtype: Option<DType>,
    /// Its dims; `None` when not even their number is declared.
    pub dims: Option<Vec<Dim>>,
}

/// A dim of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Fixed by the model.
    Known(usize),
    /// Named; equal names mean equal extents.
    Named(String),
    /// Open, without a name of its own.
    Unknown,
}

/// A node of the model.
#[derive(Clone, Debug)]
pub(super) struct NodeDef {
    /// Its name, or the name of its first output.
    pub name: String,
    pub op: String,
    /// `""` for ONNX's own operators.
    pub domain: String,
    /// Which of the functions of this name, where a model defines several.
    pub overload: String,
    /// The version of its operator set; 0 when its domain is neither imported nor known.
    pub opset: i64,
    /// Names of the operands; empty where one is left out.
    pub inputs: Vec<String>,
    /// Names of the results; empty where one is not wanted.
    pub outputs: Vec<String>,
    pub attributes: BTreeMap<String, Attribute>,
    /// Names that the graphs in its attributes read from around it.
    pub captured: Vec<String>,
}

impl Model {
    /// Reads a model from a file, with the data that it keeps in files beside it.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, OnnxError> {
        Model::open_with(path, Limits::default())
    }

    /// Like [`Model::open`], with other limits.
    pub fn open_with(path: impl AsRef<Path>, limits: Limits) -> Result<Model, OnnxError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let source = open_file(path, &name, &limits).map_err(|f| f.in_file(&name))?;
        let folder = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => Path::new("/"),
        };
        parse(source, &name, Some(folder), limits).map_err(|f| f.in_file(&name))
    }

    /// Reads a model from memory. Data outside the model are looked for below `folder`, if there is one.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>, folder: Option<&Path>) -> Result<Model, OnnxError> {
        Model::from_bytes_with(bytes, folder, Limits::default())
    }

    /// Like [`Model::from_bytes`], with other limits.
    pub fn from_bytes_with(
        bytes: impl Into<Vec<u8>>,
        folder: Option<&Path>,
        limits: Limits,
    ) -> Result<Model, OnnxError> {
        let bytes: Vec<u8> = bytes.into();
        let read = || {
            check_size(bytes.len() as u64, &limits)?;
            parse(ModelSource::Memory(Arc::new(bytes.into())), "model", folder, limits)
        };
        read().map_err(|f| f.in_file("model"))
    }

    /// The inputs that a caller has to give: those without an initializer.
    pub fn inputs(&self) -> &[PortInfo] {
        &self.inputs
    }

    /// The inputs with an initializer, their default: constants, unless [`Bindings::shapes`] or [`Bindings::constants`] name
    /// them.
    pub fn defaults(&self) -> &[PortInfo] {
        &self.defaults
    }

    /// The inputs that these bindings leave or make, constants among them: those without a default in order, then the others
    /// that are named.
    pub fn inputs_with(&self, bindings: &Bindings) -> impl Iterator<Item = &PortInfo> {
        let named =
            |name: &String| bindings.shapes.contains_key(name) || bindings.constants.contains_key(name);
        self.inputs.iter().chain(self.defaults.iter().filter(move |input| named(&input.name)))
    }

    /// The outputs, in order.
    pub fn outputs(&self) -> &[PortInfo] {
        &self.outputs
    }

    /// The outputs of a graph with these bindings: other ones when they say where it ends.
    pub fn outputs_with(&self, bindings: &Bindings) -> Result<Vec<PortInfo>, OnnxError> {
        let part = ModelPart::new(self, &bindings.until).map_err(|f| f.in_file(&self.file))?;
        Ok(part.outputs.iter().map(End::port).collect())
    }

    /// Version of ONNX's own operator set that the model is written for; 0 when it imports none.
    pub fn opset(&self) -> i64 {
        self.opsets.get("").copied().unwrap_or(0)
    }

    /// Versions of all operator sets that the model imports, by domain (`""` is ONNX's own).
    pub fn opsets(&self) -> &BTreeMap<String, i64> {
        &self.opsets
    }

    /// The program that wrote the model and its version, as far as given.
    pub fn producer(&self) -> String {
        format!("{} {}", self.about.producer_name, self.about.producer_version).trim().to_string()
    }

    /// What the model says about itself beside its graph.
    pub fn about(&self) -> &ModelInfo {
        &self.about
    }

    /// Version of the file format.
    pub fn ir_version(&self) -> i64 {
        self.ir_version
    }

    /// All that it is read from: the model itself, then each tensor in a file beside it. Models for which the bytes of all
    /// parts are equal are equal.
    pub fn source(&self) -> impl Iterator<Item = SourcePart<'_>> {
        let outside = self.outside.iter().map(Some);
        [None].into_iter().chain(outside).map(|outside| SourcePart { model: self, outside })
    }

    /// Number of nodes that the outputs depend on.
    pub fn node_count(&self) -> usize {
        self.nodes.len() + self.constants.len()
    }

    /// Operators of the nodes that an output depends on, with how many nodes each has.
    pub fn operators(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for node in &self.nodes {
            *counts.entry(node.op.as_str()).or_default() += 1;
        }
        if !self.constants.is_empty() {
            *counts.entry("Constant").or_default() += self.constants.len();
        }
        counts
    }

    /// Names of the dims that a [`Bindings`] can bind, in order of the inputs.
    pub fn named_dims(&self) -> Vec<&str> {
        named_dims(&self.inputs)
    }

    /// The limits that it was opened with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The graph for these bindings, with every shape known.
    pub fn graph(&self, bindings: &Bindings) -> Result<Graph, OnnxError> {
        self.graph_before(bindings, Deadline::after(self.limits.compile_time))
    }

    /// Like [`Model::graph`], as a part of work that must be over by `deadline`.
    pub fn graph_before(&self, bindings: &Bindings, deadline: Deadline) -> Result<Graph, OnnxError> {
        import::import(self, bindings, deadline, Reading::AtOnce).map_err(|f| f.in_file(&self.file))
    }

    /// Like [`Model::graph_before`], but large weights stay in their files until somebody looks at them. Where a file cannot be
    /// read then, there are zeros instead: what was made of the graph is worth something only if
    /// [`Model::check_weights`] finds nothing wrong afterwards.
    pub fn graph_of_stored_weights(
        &self,
        bindings: &Bindings,
        deadline: Deadline,
    ) -> Result<Graph, OnnxError> {
        import::import(self, bindings, deadline, Reading::Later).map_err(|f| f.in_file(&self.file))
    }

    /// Whether all weights that graphs have looked at could be read, from files that have not changed since the model was opened.
    pub fn check_weights(&self) -> Result<(), OnnxError> {
        weights::check(&self.initializers).map_err(|f| f.in_file(&self.file))
    }
}

/// Names of the dims of some inputs, in order.
pub(super) fn named_dims<'m>(inputs: impl IntoIterator<Item = &'m PortInfo>) -> Vec<&'m str> {
    let mut seen = BTreeSet::new();
    let dims = inputs.into_iter().flat_map(|input| input.dims.iter().flatten());
    let names = dims.filter_map(|dim| match dim {
        Dim::Named(name) => Some(name.as_str()),
        _ => None,
    });
    names.filter(|name| seen.insert(*name)).collect()
}

/// Reads a tensor from a file of its own, as the ONNX test suite keeps inputs and outputs. Returns its name too, which
/// may be empty.
pub fn read_tensor(path: impl AsRef<Path>) -> Result<(String, Tensor), OnnxError> {
    let path = path.as_ref();
    let limits = Limits::default();
    let read = || {
        let bytes = read_all(File::open(path).map_err(Fault::Io)?, &limits)?;
        decode::tensor(&bytes, &mut TensorReader::new(External::new(None), &limits))
    };
    read().map_err(|f| f.in_file(&path.display().to_string()))
}

/// A regular file is read when it is needed. A pipe has no length, and is read as a whole.
fn open_file(path: &Path, name: &str, limits: &Limits) -> Result<ModelSource, Fault> {
    let file = File::open(path).map_err(Fault::Io)?;
    let metadata = file.metadata().map_err(Fault::Io)?;
    if !metadata.is_file() {
        return Ok(ModelSource::Memory(Arc::new(read_all(file, limits)?.into())));
    }
    check_size(metadata.len(), limits)?;
    Ok(ModelSource::File(Arc::new(SourceFile::new(name.to_string(), file).map_err(Fault::Io)?)))
}

fn read_all(file: File, limits: &Limits) -> Result<Vec<u8>, Fault> {
    if file.metadata().map_err(Fault::Io)?.is_dir() {
        return Err(Fault::NotOnnx("it is a folder".into()));
    }
    let mut bytes = Vec::new();
    file.take(limits.file_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(Fault::Io)?;
    check_size(bytes.len() as u64, limits)?;
    Ok(bytes)
}

fn check_size(size: u64, limits: &Limits) -> Result<(), Fault> {
    if size <= limits.file_bytes {
        return Ok(());
    }
    Err(Exceeded {
        what: format!("the file of {size} bytes"),
        limit: limits.file_bytes,
        name: LimitName::FileBytes,
    }
    .into())
}

fn parse(source: ModelSource, file: &str, folder: Option<&Path>, limits: Limits) -> Result<Model, Fault> {
    let split = match &source {
        ModelSource::Memory(bytes) => split(&mut &bytes[..], &limits)?,
        ModelSource::File(file) => {
            let mut window = FileWindow::new(file);
            let split = split(&mut window, &limits);
            // Where the file cannot be read, what was made of it means nothing.
            window.finish()?;
            split?
        }
    };
    let proto = decode::parse(&split.skeleton)?;
    let mut tensors = TensorReader::new(External::new(folder), &limits);
    let mut model = decode::model(proto, (split.initializers, split.constants), source, file, &mut tensors)?;
    model.outside = tensors.outside;
    model.limits = limits;
    order::check(&model)?;
    order::sort(&mut model.nodes)?;
    order::drop_unused(&mut model);
    Ok(model)
}

/// Sets the weights aside, once the rest is known to be sound.
fn split(bytes: &mut impl Bytes, limits: &Limits) -> Result<split::SplitModel, Fault> {
    wire::scan(bytes, limits)?;
    Ok(split::split(bytes))
}

impl SourcePart<'_> {
    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        match (self.outside, &self.model.source) {
            (Some(stored), _) => stored.ty.bytes() as u64,
            (None, ModelSource::Memory(bytes)) => bytes.len() as u64,
            (None, ModelSource::File(file)) => file.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives all its bytes to `take`, a piece at a time.
    pub fn read(&self, mut take: impl FnMut(&[u8])) -> Result<(), OnnxError> {
        let (file, start) = match (self.outside, &self.model.source) {
            (Some(stored), _) => (&stored.file, stored.at),
            (None, ModelSource::File(file)) => (file, 0),
            (None, ModelSource::Memory(bytes)) => {
                take(bytes);
                return Ok(());
            }
        };
        const PIECE: u64 = 64 << 10;
        let mut piece = vec![0; self.len().min(PIECE) as usize];
        let mut read = || {
            for at in (0..self.len()).step_by(PIECE as usize) {
                let piece = &mut piece[..(self.len() - at).min(PIECE) as usize];
                file.read(start + at, piece)?;
                take(piece);
            }
            file.check()
        };
        read().map_err(|fault: Fault| fault.in_file(&self.model.file))
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(n) => write!(f, "{n}"),
            Dim::Named(name) => f.write_str(name),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

impl fmt::Display for PortInfo {
    /// `f32[batch, 3, ?, ?]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            Some(dtype) => write!(f, "{dtype}")?,
            None => f.write_str("?")?,
        }
        match &self.dims {
            Some(dims) => {
                let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", dims.join(", "))
            }
            None => f.write_str(" of any shape"),
        }
    }
}
