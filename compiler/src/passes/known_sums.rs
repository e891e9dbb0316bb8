//! Sums over weights that were made before: what a batch norm in front of a layer adds to its bias is the same for every shape of
//! a model.
//!
//! ```text
//!   weights, by their place in the file ┐
//!   factors that they have by now       ├─▶ Σ weights · shift, for each row
//!   shifts                              ┘
//! ```
//!
//! They are small, and the weights, which stay in the file, need not be read for them again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nnc_ir::{Tensor, TensorOrigin};

/// Sums for one model, which must outlive this.
#[derive(Debug, Default)]
pub struct KnownSums {
    known: Mutex<HashMap<SumKey, Arc<[f64]>>>,
}

/// All that decides some sums.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SumKey {
    weights: TensorOrigin,
    numbers: Vec<u64>,
}

impl KnownSums {
    /// The sums that `make` makes of weights and of these numbers, and of nothing else.
    pub fn of(
        &self,
        weights: &Tensor,
        numbers: impl Iterator<Item = u64>,
        make: impl FnOnce() -> Vec<f64>,
    ) -> Arc<[f64]> {
        let Some(key) = key(weights, numbers.collect()) else { return make().into() };
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sums) = known().get(&key) {
            return Arc::clone(sums);
        }
        // Nobody waits meanwhile; two that need the same ones at the same time make them twice.
        let sums: Arc<[f64]> = make().into();
        known().insert(key, Arc::clone(&sums));
        sums
    }
}

/// `None` for weights that are in memory.
fn key(weights: &Tensor, mut numbers: Vec<u64>) -> Option<SumKey> {
    let mut weights = weights;
    while let Some((inner, factors)) = weights.products() {
        let from = numbers.len();
        numbers.extend(factors.numbers());
        numbers.push((numbers.len() - from) as u64);
        weights = inner;
    }
    Some(SumKey { weights: weights.origin()?, numbers })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use nnc_ir::onnx::{Bindings, Model};
    use nnc_ir::{Deadline, Factors};

    use super::*;

    #[test]
    fn sums_over_weights_of_a_file_are_made_once_for_each_of_what_decides_them() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let spec = nnc_models::Spec::new("squeezenet-1.1").resolution(32).classes(64);
        std::fs::write(file.path(), nnc_models::encode(&spec).expect("a network")).expect("a file");
        let model = Model::open(file.path()).expect("a model");
        let graph = model.graph_of_stored_weights(&Bindings::new(), Deadline::never()).expect("a graph");
        let mut constants = graph.node_ids().filter_map(|id| graph.constant(id.into()));
        let stored = constants.find(|tensor| tensor.origin().is_some()).expect("large weights").clone();
        let mut scaled = stored.clone();
        assert!(scaled.scale(Factors::each(vec![2.0], 1)));

        let (known, made) = (KnownSums::default(), Cell::new(0));
        let sums = |weights: &Tensor, numbers: &[u64]| {
            let make = || {
                made.set(made.get() + 1);
                vec![f64::from(made.get())]
            };
            known.of(weights, numbers.iter().copied(), make)[0]
        };
        assert_eq!([sums(&stored, &[1, 2]), sums(&stored, &[1, 3]), sums(&scaled, &[1, 2])], [1.0, 2.0, 3.0]);
        assert_eq!([sums(&stored, &[1, 2]), sums(&stored, &[1, 3]), sums(&scaled, &[1, 2])], [1.0, 2.0, 3.0]);
        // What is in memory has no name.
        let at_hand = Tensor::new([1], &[1.0f32]).expect("a tensor");
        assert_eq!([sums(&at_hand, &[1]), sums(&at_hand, &[1])], [4.0, 5.0]);
    }
}
