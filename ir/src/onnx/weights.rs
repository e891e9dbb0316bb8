//! The data of an initializer: at hand, or in a file from which they are read when a graph is built, or later still.
//!
//! So a model that is open costs no more memory than its structure, and a graph is the only owner of its weights: a pass
//! may change them in place, and whoever is done with a graph has their memory back. Large weights that nobody looks at before they
//! are packed are never in memory as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::Fault;
use super::source::SourceFile;
use crate::block::LARGE;
use crate::tensor::{Tensor, TensorError};
use crate::types::{DType, TensorType};

/// Constant data of a model.
#[derive(Clone, Debug)]
pub(super) enum Weights {
    /// In memory.
    Here(Tensor),
    /// In a file.
    Stored(StoredTensor),
}

/// A tensor in a file.
#[derive(Clone, Debug)]
pub(super) struct StoredTensor {
    pub ty: TensorType,
    pub file: Arc<SourceFile>,
    /// Where its bytes begin.
    pub at: u64,
}

impl Weights {
    /// The tensor; `name` is for errors.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, Fault> {
        match self {
            Weights::Here(tensor) => Ok(tensor.clone()),
            Weights::Stored(stored) => stored.tensor(name),
        }
    }

    /// Its type.
    pub(super) fn ty(&self) -> &TensorType {
        match self {
            Weights::Here(tensor) => tensor.ty(),
            Weights::Stored(stored) => &stored.ty,
        }
    }

    fn at(&self) -> u64 {
        match self {
            Weights::Here(_) => 0,
            Weights::Stored(stored) => stored.at,
        }
    }
}

/// What is wrong with a tensor.
fn bad(name: &str) -> impl Fn(TensorError) -> Fault {
    move |e| Fault::Tensor { tensor: name.to_string(), what: e.to_string() }
}

impl StoredTensor {
    /// Whether it is worth the while, and nothing is to be done with what is read.
    fn can_wait(&self) -> bool {
        self.ty.bytes() >= LARGE && self.ty.dtype != DType::Bool
    }

    fn later(&self, name: &str) -> Result<Tensor, Fault> {
        Tensor::stored(self.ty.clone(), Arc::clone(&self.file) as _, self.at).map_err(bad(name))
    }

    fn tensor(&self, name: &str) -> Result<Tensor, Fault> {
        let bad = bad(name);
        let mut tensor = Tensor::zeros(self.ty.clone()).map_err(&bad)?;
        self.file.read(self.at, tensor.bytes_mut().map_err(&bad)?)?;
        if self.ty.dtype == DType::Bool {
            normalise(tensor.bytes_mut().map_err(&bad)?);
        }
        Ok(tensor)
    }
}

/// When large weights are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Before the graph is built.
    AtOnce,
    /// When somebody looks at them. The files must be [checked](check) when the graph has been used.
    Later,
}

/// Makes booleans 0 or 1.
pub(super) fn normalise(bytes: &mut [u8]) {
    for byte in bytes {
        *byte = u8::from(*byte != 0);
    }
}

/// All tensors of some names.
pub(super) fn tensors(
    weights: &BTreeMap<String, Weights>,
    reading: Reading,
) -> Result<BTreeMap<&str, Tensor>, Fault> {
    // In the order in which they lie in the file: a disk reads ahead.
    let mut sorted: Vec<(&String, &Weights)> = weights.iter().collect();
    sorted.sort_by_key(|(_, weights)| weights.at());
    let mut tensors = BTreeMap::new();
    for (name, weights) in sorted {
        let tensor = match weights {
            Weights::Stored(stored) if reading == Reading::Later && stored.can_wait() => {
                stored.later(name)?
            }
            _ => weights.tensor(name)?,
        };
        tensors.insert(name.as_str(), tensor);
    }
    check(weights)?;
    Ok(tensors)
}

/// Refuses weights from files that could not be read, or that have changed since they were opened.
pub(super) fn check(weights: &BTreeMap<String, Weights>) -> Result<(), Fault> {
    let mut checked: Vec<&Arc<SourceFile>> = Vec::new();
    for weights in weights.values() {
        if let Weights::Stored(StoredTensor { file, .. }) = weights
            && !checked.iter().any(|known| Arc::ptr_eq(known, file))
        {
            file.check()?;
            checked.push(file);
        }
    }
    Ok(())
}
