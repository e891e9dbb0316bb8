//! What a host asks of the compiler. It is below the driver, which does what it says, and the cache, whose keys have what of it
//! decides the bytes of a program.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use nnc_ir::onnx::Bindings;
use nnc_runtime::abi::Denormals;

use crate::error::Error;
use crate::parallel;
use crate::passes;
use crate::plan;
use crate::target::Target;

/// What is asked of the compiler. The default compiles for the machine at hand, with all passes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Dims, shapes and constants for inputs that the model leaves open, and where the program ends.
    pub bindings: Bindings,
    /// Passes to leave out.
    pub passes: passes::PassOptions,
    /// What the planner may do.
    pub plan: plan::PlanOptions,
    /// What to compile for; `None` is the machine at hand.
    pub target: Option<Target>,
    /// Threads that compile; `None` is one for each core.
    pub threads: Option<NonZeroUsize>,
    /// A folder with programs that were compiled before.
    pub cache: Option<PathBuf>,
    /// Whether Linux `perf` is told the names of functions in memory.
    pub perf_map: bool,
}

impl Options {
    /// Binds a named dim of the model's inputs.
    pub fn dim(mut self, name: impl Into<String>, extent: usize) -> Options {
        self.bindings.dims.insert(name.into(), extent);
        self
    }

    /// Binds the shape of an input. One that has a default in the model becomes an input like others, behind those, when its
    /// shape is bound; else it is the constant that it has there.
    pub fn shape(mut self, input: impl Into<String>, shape: impl Into<Vec<usize>>) -> Options {
        self.bindings.shapes.insert(input.into(), shape.into());
        self
    }

    /// Makes an input a constant of the program: one that decides a shape has to be. One that has a default gets another.
    pub fn bind(mut self, input: impl Into<String>, tensor: nnc_ir::Tensor) -> Options {
        self.bindings.constants.insert(input.into(), tensor);
        self
    }

    /// Ends the program at a value of the model, or at a node for all its results, by name; may be said several times. These are
    /// its outputs then, and nothing behind them is looked at: to see what is inside, or to leave to the host what is not
    /// supported.
    pub fn until(mut self, name: impl Into<String>) -> Options {
        self.bindings.until.push(name.into());
        self
    }

    /// Compiles for a target, by its name.
    pub fn target(mut self, name: &str) -> Result<Options, Error> {
        self.target = Some(Target::named(name)?);
        Ok(self)
    }

    /// Compiles on up to so many threads, 0 being one for each core. The program is the same for any number.
    pub fn threads(mut self, threads: usize) -> Options {
        self.threads = NonZeroUsize::new(threads);
        self
    }

    /// Keeps compiled programs in a folder, which is made if need be, and loads them from there the next time. Only
    /// [`Model::compile`](crate::Model::compile) and [`Model::compile_reported`](crate::Model::compile_reported) look there.
    ///
    /// The code of such a program runs in this process: name a folder that only those can write to whom you trust. There is
    /// an entry for each model, binding, target and version of the compiler; none is ever removed. One that is damaged is
    /// compiled anew. When the folder cannot be written to, programs are compiled each time and `tracing` gets a warning.
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Options {
        self.cache = Some(folder.into());
        self
    }

    /// Enters the functions of programs in `/tmp/perf-PID.map`, so that Linux `perf` shows their names. Such programs are
    /// compiled in memory, whether they are in a cache or not.
    pub fn perf_map(mut self, wanted: bool) -> Options {
        self.perf_map = wanted;
        self
    }

    /// Threads that compile.
    pub(crate) fn thread_count(&self) -> usize {
        self.threads.map_or_else(parallel::available, NonZeroUsize::get)
    }

    /// Leaves out a pass, by its name.
    pub fn disable_pass(mut self, name: &str) -> Result<Options, Error> {
        self.passes.disable(name)?;
        Ok(self)
    }

    /// Whether dense 3×3 convolutions may be done by Winograd's algorithm, which is faster and rounds differently; they may
    /// unless this says no.
    pub fn winograd(mut self, allowed: bool) -> Options {
        self.plan.winograd = if allowed { plan::Winograd::WhereFaster } else { plan::Winograd::Never };
        self
    }

    /// How large the program's constants may become, in hundredths of the model's weights: Winograd's algorithm is faster with kernels
    /// that are transformed when the model is compiled, and two to four times as large then. 150 unless this says otherwise; 100
    /// keeps them as they are. Kernels for it are `f32`: those that are half floats elsewhere count as that.
    pub fn most_constants(mut self, percent: u32) -> Options {
        self.plan.constants = plan::ConstantsLimit { percent };
        self
    }

    /// What weights and what lies between layers are stored in: `f32` unless this says otherwise. Sums are `f32`, rounded once, to nearest
    /// even, when they are stored; inputs and outputs stay as the model has them.
    pub fn precision(mut self, precision: passes::Precision) -> Options {
        self.passes.precision = precision;
        self
    }

    /// Keeps a layer in `f32` whatever the precision, by its name in the model; may be said several times.
    pub fn keep_f32(mut self, layer: impl Into<String>) -> Options {
        self.passes.keep_f32.push(layer.into());
        self
    }

    /// What runs of the program do with denormals, numbers nearer to zero than 2⁻¹²⁶ in `f32`. Unless this says otherwise,
    /// arithmetic takes them for zero: many processors take a hundred cycles for each, and weights and activations of trained
    /// networks run into them. The results are the same bits for any number of threads either way, and the environment of the
    /// calling thread is as it was behind each run. What the compiler computes beforehand from constants keeps denormals.
    pub fn denormals(mut self, treatment: Denormals) -> Options {
        self.plan.denormals = treatment;
        self
    }

    /// Whether an index from data that leads outside of what it points into is taken for the nearest one inside (Gather and its
    /// kin), or its update left out (Scatter and its kin). Unless this says so, it is an error of the run that names node, axis and
    /// index. What is computed while a model is compiled is checked in any case.
    pub fn clamp_indices(mut self, wanted: bool) -> Options {
        self.plan.indices = if wanted { plan::Indices::Clamped } else { plan::Indices::Checked };
        self
    }

    /// Whether neighbouring layers may run strip by strip, so that large images between them stay in the cache; they may
    /// unless this says no. The results are the same.
    pub fn strips(mut self, allowed: bool) -> Options {
        self.plan.strips = if allowed { plan::StripRule::WhereFaster } else { plan::StripRule::Never };
        self
    }
}
