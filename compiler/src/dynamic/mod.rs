//! Models whose shapes are known only when they run.
//!
//! Everything that nnc generates is made for one shape. A model that leaves dims open is compiled for each shape that comes
//! along, when it comes along, and the programs are kept for the next time. They differ in code and in tables, hardly in
//! weights, and these they share ([`crate::plan::SharedConstants`]); of the code, kernels are made once
//! ([`crate::emit::known`]), as are sums over weights ([`KnownSums`]):
//!
//! ```text
//!   DynamicModel ─┬─ 1×3×48×320 ─▶ Program ─┐
//!     model       ├─ 6×3×48×320 ─▶ Program ─┼─▶ blocks of packed weights, each in memory once
//!     options     └─ 6×3×48×487 ─▶ Program ─┘
//!        │
//!        └─ DynamicSession   one caller's memory: as much as the largest shape needs
//!             run(shapes, data) ─▶ program for these shapes ─▶ outputs with their shapes
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `shapes.rs` | whether given shapes fit what the model declares |
//! | `programs.rs` | which programs are kept, and who compiles them |
//! | `session.rs` | running |

mod programs;
mod session;
mod shapes;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use nnc_ir::onnx::PortInfo;
use nnc_runtime::{MemoryError, Pool, Program, RunError};

pub use programs::Usage;
pub use session::{DynamicSession, TensorRef};
pub use shapes::{ShapeError, Unfit};

use crate::driver::Model;
use crate::emit::known::KnownKernels;
use crate::error::Error;
use crate::options::Options;
use crate::passes::KnownSums;
use crate::plan::{PanelWidth, SharedConstants};
use programs::{Capacity, ProgramEntry, Programs};
use shapes::{Declared, Key};

/// A model that is compiled for each shape of its inputs when it first meets it.
///
/// Programs are kept, [64 of them](DynamicModel::capacity) and [1 GiB of their weights](DynamicModel::capacity_bytes) at most;
/// then the one goes that was not used for the longest time. Equal weights are in memory once, however many programs read
/// them. Most are packed the same way for all shapes: the planner prefers [panels of one width](crate::plan::PanelWidth::Common) to
/// those that are best for one shape, where it costs little. Some are not, because the best algorithm, too, depends on how large
/// the image is. What a program computes depends on its shapes alone, not on those that came before.
///
/// Clones are the same model. It may be used by any number of threads, each with a [`DynamicSession`] of its own: two that
/// need a program for the same shapes at the same time get it from one compilation, and others go on meanwhile.
///
/// [`Limits`](crate::Limits) hold for each program. With [`Options::cache`] programs are kept in a folder, too; those that come
/// from there have their weights in their files, and share none.
#[derive(Clone)]
pub struct DynamicModel(Arc<Inner>);

struct Inner {
    model: Model,
    options: Options,
    declared: Declared,
    outputs: Vec<PortInfo>,
    programs: Programs,
    shared: SharedConstants,
    kernels: KnownKernels,
    sums: Arc<KnownSums>,
}

/// Why a model does not run on given inputs.
#[derive(Debug, thiserror::Error)]
pub enum DynamicError {
    /// The inputs have shapes that the model does not take.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The model cannot be compiled for these shapes.
    #[error(transparent)]
    Compile(#[from] Error),
    /// There is no memory for the activations of these shapes.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The inputs are not what the program takes.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl DynamicModel {
    /// Reads a model from a file.
    pub fn open(path: impl AsRef<Path>) -> Result<DynamicModel, Error> {
        Ok(DynamicModel::new(Model::open(path)?))
    }

    /// A model that was read already; [`Model::open_with`] sets limits.
    pub fn new(model: Model) -> DynamicModel {
        DynamicModel::of(model, Options::default(), Capacity::default())
    }

    /// The same model, compiled as `options` say, with no program yet. Dims that they bind stay bound, and inputs that they make
    /// constants are no inputs any more.
    pub fn with(self, options: Options) -> DynamicModel {
        let (model, _, capacity) = self.settings();
        DynamicModel::of(model, options, capacity)
    }

    /// The same model, with no program yet, that keeps at most so many programs, and at least the last one; 64 unless it is set.
    pub fn capacity(self, programs: usize) -> DynamicModel {
        let (model, options, capacity) = self.settings();
        DynamicModel::of(model, options, Capacity { programs, ..capacity })
    }

    /// The same model, with no program yet, that keeps at most so many bytes of constants, and at least the last program; 1 GiB
    /// unless it is set. What programs share counts once.
    pub fn capacity_bytes(self, bytes: u64) -> DynamicModel {
        let (model, options, capacity) = self.settings();
        DynamicModel::of(model, options, Capacity { bytes, ..capacity })
    }

    fn of(model: Model, options: Options, capacity: Capacity) -> DynamicModel {
        let declared = Declared::new(model.onnx(), &options.bindings);
        // An end that does not exist is the error of the first compilation.
        let outputs = model.onnx().outputs_with(&options.bindings).unwrap_or_default();
        DynamicModel(Arc::new(Inner {
            model,
            options,
            declared,
            outputs,
            programs: Programs::new(capacity),
            shared: SharedConstants::default(),
            kernels: KnownKernels::default(),
            sums: Arc::default(),
        }))
    }

    fn settings(&self) -> (Model, Options, Capacity) {
        (self.0.model.clone(), self.0.options.clone(), self.0.programs.capacity())
    }

    /// The inputs, in the model's order, as it declares them, without those that are bound to constants. Inputs that have a
    /// default come last, if the options bind their shapes; then they may be given.
    pub fn inputs(&self) -> &[PortInfo] {
        self.0.declared.inputs()
    }

    /// The outputs, as the model declares them; where the options end it earlier, by name.
    pub fn outputs(&self) -> &[PortInfo] {
        &self.0.outputs
    }

    /// What else the model says about itself.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// A session that runs the model on the threads of `pool`.
    pub fn session(&self, pool: &Pool) -> DynamicSession {
        DynamicSession::new(self.clone(), pool.clone())
    }

    /// The program for a shape of each input, in the order of [`DynamicModel::inputs`]: the one that is kept, or a new one. To
    /// compile before the first run, or to run it by a plain [`Session`](crate::Session).
    pub fn program(&self, shapes: &[&[usize]]) -> Result<Program, DynamicError> {
        let expected = self.inputs().len();
        if shapes.len() != expected {
            return Err(ShapeError::Count { expected, found: shapes.len() }.into());
        }
        let mut key = Key::default();
        shapes.iter().for_each(|shape| key.push(shape));
        Ok(self.entry(&key)?.1)
    }

    /// What is kept, and what was done for it.
    pub fn usage(&self) -> Usage {
        self.0.programs.usage()
    }

    /// The program for some shapes, and its entry.
    fn entry(&self, key: &Key) -> Result<(Arc<ProgramEntry>, Program), DynamicError> {
        self.0.programs.get(key, || {
            self.0.declared.check(key)?;
            Ok(self.compile(key)?)
        })
    }

    fn compile(&self, key: &Key) -> Result<Program, Error> {
        let mut options = self.0.options.clone();
        options.plan.panels = PanelWidth::Common;
        for (input, shape) in self.inputs().iter().zip(key.shapes()) {
            options.bindings.shapes.insert(input.name.clone(), shape.to_vec());
        }
        match options.cache {
            Some(_) => self.0.model.compile(&options),
            None => self.0.model.compile_sharing(&options, &self.0.shared, &self.0.kernels, &self.0.sums),
        }
    }
}

impl From<Model> for DynamicModel {
    fn from(model: Model) -> DynamicModel {
        DynamicModel::new(model)
    }
}

impl fmt::Debug for DynamicModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicModel")
            .field("inputs", &self.inputs())
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
