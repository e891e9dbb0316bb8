//! Inputs whose values decide shapes or branches: a sampling rate that picks one of two networks, the size of what is asked for.
//!
//! Code is made for known shapes, so such an input has to be a constant. Callers from Python give it with each run like any other;
//! what it is then becomes a constant of the program of that run, and programs are kept for the values that were seen last:
//!
//! ```text
//!   run(x, sr=16000) ─▶ sr decides ─▶ model with sr = 16000 ─▶ its programs, one for each shape of x
//!   run(x, sr=8000)  ─▶               model with sr = 8000
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nnc::{DynamicModel, DynamicSession, Model, Options, Pool};
use nnc_ir::onnx::PortInfo;
use nnc_ir::{DType, Tensor};

/// So many values are kept of each; then the one goes that was not used for the longest time.
const KEPT: usize = 16;
/// An input with more elements than this decides nothing.
const MOST_ELEMENTS: usize = 64;

/// A model, and the sessions that no thread uses at the moment.
pub struct Shared {
    /// The model.
    pub model: DynamicModel,
    idle: Mutex<Vec<DynamicSession>>,
}

impl Shared {
    fn new(model: DynamicModel) -> Arc<Shared> {
        Arc::new(Shared { model, idle: Mutex::default() })
    }

    /// A session for the calling thread.
    pub fn take(&self, pool: &Pool) -> DynamicSession {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| self.model.session(pool))
    }

    /// Lets others have a session.
    pub fn put_back(&self, session: DynamicSession) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}

/// A model, and for the values of its inputs that decide, the models in which they are constants.
pub struct Deciding {
    model: Model,
    options: Options,
    /// Nothing decides, as far as is known.
    open: Arc<Shared>,
    bound: Mutex<Bound>,
}

#[derive(Default)]
struct Bound {
    /// The inputs that decide; none until a compilation has said so.
    names: Vec<String>,
    models: BTreeMap<Vec<u8>, (u64, Arc<Shared>)>,
    clock: u64,
}

impl Deciding {
    /// A model of which nothing is known yet.
    pub fn new(model: Model, options: Options) -> Deciding {
        let open = Shared::new(DynamicModel::new(model.clone()).with(options.clone()));
        Deciding { model, options, open, bound: Mutex::default() }
    }

    /// The model as it declares its inputs and outputs.
    pub fn open(&self) -> &Arc<Shared> {
        &self.open
    }

    /// The inputs that are known to decide.
    pub fn names(&self) -> Vec<String> {
        self.bound().names.clone()
    }

    /// From now on these inputs decide.
    pub fn decide(&self, names: Vec<String>) {
        self.bound().names = names;
    }

    /// The inputs that may decide, after a compilation failed: those that its error names, or else small ones of integers and
    /// booleans, as floats decide nothing in the models there are.
    pub fn suspects(&self, error: &nnc::Error, elements: impl Fn(&str) -> usize) -> Vec<String> {
        let inputs = self.open.model.inputs();
        let small = |input: &&PortInfo| elements(&input.name) <= MOST_ELEMENTS;
        let integer = |input: &&PortInfo| {
            !matches!(input.dtype, Some(DType::F32 | DType::F64 | DType::F16 | DType::BF16) | None)
        };
        let named = error.inputs_to_bind();
        let suspects = inputs.iter().filter(small).filter(|input| match named {
            [] => integer(input),
            named => named.contains(&input.name),
        });
        suspects.map(|input| input.name.clone()).collect()
    }

    /// The model in which inputs have these values.
    pub fn with(&self, constants: Vec<(String, Tensor)>) -> Arc<Shared> {
        let mut key = Vec::new();
        for (name, tensor) in &constants {
            let dims = tensor.shape().iter().map(|extent| extent.to_string()).collect::<Vec<_>>().join("x");
            key.extend(format!("{name} {:?} {dims} ", tensor.dtype()).bytes());
            key.extend(tensor.bytes());
        }
        let mut bound = self.bound();
        bound.clock += 1;
        let clock = bound.clock;
        if let Some((used, model)) = bound.models.get_mut(&key) {
            *used = clock;
            return Arc::clone(model);
        }
        let mut options = self.options.clone();
        options.bindings.constants.extend(constants);
        let model = Shared::new(DynamicModel::new(self.model.clone()).with(options));
        if bound.models.len() >= KEPT {
            let oldest = bound.models.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            oldest.map(|key| bound.models.remove(&key));
        }
        bound.models.insert(key, (clock, Arc::clone(&model)));
        model
    }

    /// How many programs there are, the bytes of their weights, how many were compiled, and how many let go.
    pub fn usage(&self) -> (usize, u64, u64, u64) {
        let bound = self.bound();
        let models = bound.models.values().map(|(_, model)| model).chain([&self.open]);
        models.map(|shared| shared.model.usage()).fold(
            (0, 0, 0, 0),
            |(programs, bytes, compiled, evicted), usage| {
                (
                    programs + usage.programs,
                    bytes + usage.constant_bytes,
                    compiled + usage.compiled,
                    evicted + usage.evicted,
                )
            },
        )
    }

    fn bound(&self) -> MutexGuard<'_, Bound> {
        // Each change is whole before anything can panic.
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
