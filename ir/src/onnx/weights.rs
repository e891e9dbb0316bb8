//! The data of an initializer: at hand, or in a file from which they are read when a graph is built.
//!
//! So a model that is open costs no more memory than its structure, and a graph is the only owner of its weights: a pass
//! may change them in place, and whoever is done with a graph has their memory back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::Fault;
use super::source::SourceFile;
use crate::tensor::{Tensor, TensorError};
use crate::types::{DType, TensorType};

/// Constant data of a model.
#[derive(Clone, Debug)]
pub(super) enum Weights {
    /// In memory.
    Here(Tensor),
    /// In a file.
    Stored(Stored),
}

/// A tensor in a file.
#[derive(Clone, Debug)]
pub(super) struct Stored {
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

    fn at(&self) -> u64 {
        match self {
            Weights::Here(_) => 0,
            Weights::Stored(stored) => stored.at,
        }
    }
}

impl Stored {
    fn tensor(&self, name: &str) -> Result<Tensor, Fault> {
        let bad = |e: TensorError| Fault::Tensor { tensor: name.to_string(), what: e.to_string() };
        let mut tensor = Tensor::zeros(self.ty.clone()).map_err(bad)?;
        self.file.read(self.at, tensor.bytes_mut().map_err(bad)?)?;
        if self.ty.dtype == DType::Bool {
            normalise(tensor.bytes_mut().map_err(bad)?);
        }
        Ok(tensor)
    }
}

/// Makes booleans 0 or 1.
pub(super) fn normalise(bytes: &mut [u8]) {
    for byte in bytes {
        *byte = u8::from(*byte != 0);
    }
}

/// All tensors of some names, from files that have not changed since they were opened.
pub(super) fn read_all(weights: &BTreeMap<String, Weights>) -> Result<BTreeMap<&str, Tensor>, Fault> {
    // In the order in which they lie in the file: a disk reads ahead.
    let mut sorted: Vec<(&String, &Weights)> = weights.iter().collect();
    sorted.sort_by_key(|(_, weights)| weights.at());
    let mut tensors = BTreeMap::new();
    for (name, weights) in sorted {
        tensors.insert(name.as_str(), weights.tensor(name)?);
    }
    let mut checked: Vec<&Arc<SourceFile>> = Vec::new();
    for weights in weights.values() {
        if let Weights::Stored(Stored { file, .. }) = weights
            && !checked.iter().any(|known| Arc::ptr_eq(known, file))
        {
            file.check_unchanged()?;
            checked.push(file);
        }
    }
    Ok(tensors)
}
