//! From a file to a program that can run: an ONNX model is compiled in memory, an artefact is loaded. Which one a file
//! is, its first bytes say, not its name.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nnc::code::tile::programs::dense::Products;
use nnc::plan::PlanStep;
use nnc::{CacheUse, Compilation, CompileReport, Compiled, Model, Options, Program};
use nnc_ir::Tensor;
use nnc_ir::onnx::{Bindings, Dim, PortInfo};
use nnc_runtime::trim_heap;

use super::args::{CacheArgs, CompileArgs, PerfArgs};
use super::failure::usage;
use super::picture::PictureArgs;
use super::progress::Progress;
use super::stats::timed;

/// How ELF files begin, artefacts among them.
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";

/// A program that can run, and what it took to get there.
pub struct Ready {
    /// What was read, for headings.
    pub name: String,
    /// The program.
    pub program: Program,
    /// What the compiler did; `None` for an artefact.
    pub report: Option<CompileReport>,
    /// What each step computes; empty for an artefact, or a program from a cache, which know that no longer.
    pub work: Vec<StepWork>,
    /// What the cache did, if there is one.
    pub cache: Option<CacheUse>,
    /// Time to read and parse the file, or to load the artefact, in milliseconds.
    pub load_ms: f64,
    /// Time for passes, plan and code, in milliseconds; 0 for an artefact.
    pub compile_ms: f64,
}

/// How a file is made ready, as the flags of a command say.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// How it is compiled.
    pub compile: &'a CompileArgs,
    /// The folder of a cache.
    pub cache: Option<&'a Path>,
    /// Whether `perf` is told the names of functions.
    pub perf_map: bool,
    /// Arrays for inputs: what the model leaves open of their shapes is as it is in these, and inputs that have a default are
    /// given.
    pub arrays: &'a [(String, Tensor)],
}

impl<'a> From<&'a CompileArgs> for How<'a> {
    fn from(compile: &'a CompileArgs) -> How<'a> {
        How { compile, cache: None, perf_map: false, arrays: &[] }
    }
}

impl<'a> How<'a> {
    /// With the folder of a cache, if there is one.
    pub fn cache(self, args: &'a CacheArgs) -> How<'a> {
        How { cache: args.cache.as_deref(), ..self }
    }

    /// With names for `perf`, if they are asked for.
    pub fn perf(self, args: PerfArgs) -> How<'a> {
        How { perf_map: args.perf_map, ..self }
    }

    /// With arrays for inputs.
    pub fn arrays(self, arrays: &'a [(String, Tensor)]) -> How<'a> {
        How { arrays, ..self }
    }

    /// What the flags ask of the compiler.
    pub fn options(&self) -> Result<Options> {
        let mut options = options(self.compile)?.perf_map(self.perf_map);
        options.cache = self.cache.map(Path::to_owned);
        Ok(options)
    }

    /// The first flag that was given, for the error that it does not apply.
    fn first_given(&self) -> Option<&'static str> {
        let given = [(self.cache.is_some(), "--cache"), (self.perf_map, "--perf-map")];
        let other = given.into_iter().find(|(given, _)| *given).map(|(_, flag)| flag);
        self.compile.first_given().or(other)
    }
}

impl Ready {
    /// How the program came about, for people: a line for each thing worth saying.
    pub fn cache_line(&self) -> Option<String> {
        match self.cache.as_ref()? {
            CacheUse::Hit(path) => Some(format!("loaded from {}", path.display())),
            CacheUse::Stored(path) => Some(format!("compiled, kept in {}", path.display())),
            CacheUse::NotStored { path, source } => {
                Some(format!("compiled, but not kept: cannot write {}: {source}", path.display()))
            }
        }
    }
}

/// What one step computes and moves.
#[derive(Clone, Debug)]
pub struct StepWork {
    /// The operator.
    pub op: String,
    /// Type of its result.
    pub result: String,
    /// What computes it.
    pub kind: &'static str,
    /// Multiply-accumulates.
    pub macc: u64,
    /// Of what.
    pub products: Products,
    /// Whether its sums are in matrix registers.
    pub in_matrices: bool,
    /// Elements of constants.
    pub params: u64,
    /// Bytes read, constants included.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

impl StepWork {
    fn of(step: &PlanStep) -> StepWork {
        StepWork {
            op: step.op_and_times(),
            result: step.shape.clone(),
            kind: step.code.kind(),
            macc: step.macc,
            products: step.code.products(),
            in_matrices: step.code.in_matrices(),
            params: step.params,
            read: step.traffic.read,
            written: step.traffic.written,
        }
    }

    /// Bytes of constants.
    pub fn weights(&self) -> u64 {
        let lane = u64::from(self.products.weights().bytes());
        self.params * lane / u64::from(self.products.in_a_lane())
    }

    /// Bytes moved.
    pub fn bytes(&self) -> u64 {
        self.read + self.written
    }
}

/// Makes the program of a file ready. `picture` may bind the height and width that a model leaves open.
pub fn ready(path: &Path, args: &How<'_>, picture: Option<&PictureArgs>) -> Result<Ready> {
    if is_artefact(path) {
        return load(path, args);
    }
    let progress = Progress::new("reading the model");
    let (model, load_ms) = timed(|| Model::open_with(path, args.compile.limits.limits()));
    let (model, mut options) = (model?, args.options()?);
    take_shapes(&mut options, &model, args.arrays);
    compiled(path.display().to_string(), &model, load_ms, &options, picture, &progress)
}

/// Compiles a model in memory.
pub fn compiled(
    name: String,
    model: &Model,
    load_ms: f64,
    options: &Options,
    picture: Option<&PictureArgs>,
    progress: &Progress,
) -> Result<Ready> {
    progress.say("compiling");
    let mut options = options.clone();
    if let Some(picture) = picture {
        complete(&mut options, model, picture);
    }
    let (made, compile_ms) = timed(|| -> Result<_> {
        if options.cache.is_some() {
            runs_here(&options)?;
            return Ok((model.compile_reported(&options)?, Vec::new()));
        }
        let compilation = lower(model, &options)?;
        let work = compilation.plan().steps.iter().map(StepWork::of).collect();
        let (program, report) = compilation.program_reported()?;
        Ok((Compiled { program, report: Some(report), cache: None }, work))
    });
    let (Compiled { program, report, cache }, work) = made?;
    // The arena, scratch and inputs of a session come next: not on top of what the compiler has left.
    trim_heap();
    Ok(Ready { name, program, report, work, cache, load_ms, compile_ms })
}

/// Plans a model for a target whose code this machine can run.
fn lower(model: &Model, options: &Options) -> Result<Compilation> {
    runs_here(options)?;
    Ok(model.lower(options)?)
}

/// Refuses a target whose code this machine cannot run.
fn runs_here(options: &Options) -> Result<()> {
    match &options.target {
        Some(target) if !target.runs_here() => usage!(
            "this machine cannot run code for target \"{}\"; leave --target out, or use `nnc compile` to write a file for the machine that can",
            target.name
        ),
        _ => Ok(()),
    }
}

/// The shapes that arrays give to inputs with open dims that are not bound otherwise, and to those that have a default, which
/// are given by it.
fn take_shapes(options: &mut Options, model: &Model, arrays: &[(String, Tensor)]) {
    for (name, tensor) in arrays {
        let named = |inputs: &'_ [PortInfo]| inputs.iter().find(|input| input.name == *name).cloned();
        let has_default = named(model.onnx().defaults()).is_some();
        let Some(input) = named(model.inputs()).or_else(|| named(model.onnx().defaults())) else { continue };
        let Bindings { dims: bound, shapes, constants, .. } = &mut options.bindings;
        let open = |dim: &Dim| match dim {
            Dim::Known(_) => false,
            Dim::Named(name) => !bound.contains_key(name),
            Dim::Unknown => true,
        };
        if shapes.contains_key(name) || constants.contains_key(name) {
            continue;
        }
        let takes = match &input.dims {
            None => true,
            // Another number of dims is refused when the tensor is taken, or for what is still open.
            Some(dims) => has_default || dims.iter().any(open) && tensor.shape().rank() == dims.len(),
        };
        if takes {
            shapes.insert(name.clone(), tensor.shape().to_vec());
        }
    }
}

/// The shapes that `--size` gives to inputs whose height and width are open and not bound otherwise.
fn complete(options: &mut Options, model: &Model, picture: &PictureArgs) {
    for input in model.inputs() {
        let Some(dims) = &input.dims else { continue };
        let bound = |dim: &Dim| match dim {
            Dim::Known(n) => Some(*n),
            Dim::Named(name) => options.bindings.dims.get(name).copied(),
            Dim::Unknown => None,
        };
        let known: Vec<Option<usize>> = dims.iter().map(bound).collect();
        if known.iter().all(Option::is_some) || options.bindings.shapes.contains_key(&input.name) {
            continue;
        }
        if let Some(shape) = picture.complete(&known) {
            options.bindings.shapes.insert(input.name.clone(), shape);
        }
    }
}

fn load(path: &Path, args: &How<'_>) -> Result<Ready> {
    if let Some(flag) = args.first_given() {
        usage!("\"{}\" is compiled already, so {flag} has no effect on it; {}", path.display(), remedy(flag));
    }
    let (program, load_ms) = timed(|| {
        // SAFETY: the file was named by the one who runs this command, as the file of any other program is. That it
        // is whole and fits this machine is verified.
        unsafe { Program::load(path) }
    });
    let program = program.with_context(|| format!("\"{}\"", path.display()))?;
    Ok(Ready {
        name: path.display().to_string(),
        program,
        report: None,
        work: Vec::new(),
        cache: None,
        load_ms,
        compile_ms: 0.0,
    })
}

/// Where a flag would have an effect.
fn remedy(flag: &str) -> String {
    match flag {
        "--cache" => "leave it out: nothing is compiled that could be kept".into(),
        "--perf-map" => "give it with the model, which is compiled in memory".into(),
        _ => format!("give {flag} to `nnc compile`"),
    }
}

/// Whether a file starts as compiled programs do.
pub fn is_artefact(path: &Path) -> bool {
    let mut start = [0; ELF_MAGIC.len()];
    // A pipe is left alone: what is read from it is gone, and nobody may have begun to write.
    path.is_file()
        && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && start == ELF_MAGIC
}

/// What the flags ask of the compiler.
pub fn options(args: &CompileArgs) -> Result<Options> {
    let target = if args.targets.is_empty() { None } else { Some(args.one_target()?) };
    options_for(args, target)
}

/// The same, for a target; `None` is the machine at hand, or left to the caller.
pub fn options_for(args: &CompileArgs, target: Option<&str>) -> Result<Options> {
    let mut options = Options::default()
        .winograd(!args.no_winograd)
        .strips(!args.no_strips)
        .denormals(args.denormals.unwrap_or_default())
        .clamp_indices(args.clamp_indices)
        .threads(args.jobs.unwrap_or(0).into());
    options = options.precision(args.precision.unwrap_or_default());
    options = args.keep_f32.iter().fold(options, |options, layer| options.keep_f32(layer));
    if let Some(percent) = args.most_constants {
        options = options.most_constants(percent);
    }
    if let Some(target) = target {
        options = options.target(target)?;
    }
    for pass in &args.disabled {
        options = options.disable_pass(pass)?;
    }
    once("--dim", args.dims.iter().map(|(name, _)| name))?;
    once("--shape", args.shapes.iter().map(|(name, _)| name))?;
    once("--const", args.constants.iter().map(|(name, _)| name))?;
    options.bindings.until.clone_from(&args.until);
    options.bindings.dims.extend(args.dims.iter().cloned());
    options.bindings.shapes.extend(args.shapes.iter().cloned());
    for (name, file) in &args.constants {
        let tensor = match file.extension() {
            Some(end) if end == "pb" => nnc_ir::onnx::read_tensor(file).map(|(_, t)| t).map_err(Into::into),
            _ => nnc::npz::read_npy(file).map_err(anyhow::Error::from),
        };
        let tensor = tensor.with_context(|| format!("--const {name}"))?;
        options.bindings.constants.insert(name.clone(), tensor);
    }
    Ok(options)
}

/// Refuses a flag that is given twice for one name.
fn once<'a>(flag: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            usage!("{flag} is given twice for \"{name}\"; give it once");
        }
    }
    Ok(())
}

/// The file beside a model with another ending: `dir/net.onnx` and `nnc.so` give `dir/net.nnc.so`.
pub fn beside(model: &Path, ending: &str) -> PathBuf {
    model.with_extension(ending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::compile::Compile;
    use clap::{Args, Command};

    #[test]
    fn a_flag_is_sent_to_nnc_compile_only_where_that_has_it() {
        let flags = |command: Command| -> Vec<String> {
            command.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect()
        };
        let compile = flags(Compile::augment_args(Command::new("compile")));
        let ours = CompileArgs::augment_args(Command::new("run"));
        let ours = flags(PerfArgs::augment_args(CacheArgs::augment_args(ours)));
        for flag in ours {
            let sent = remedy(&flag).contains("nnc compile");
            assert_eq!(sent, compile.contains(&flag), "{flag}: {}", remedy(&flag));
        }
    }

    #[test]
    fn weights_take_what_is_multiplied_takes() {
        let of = |products| {
            let (op, result, kind) = (String::new(), String::new(), "dense");
            let in_matrices = false;
            StepWork { op, result, kind, macc: 0, products, in_matrices, params: 10, read: 0, written: 0 }
                .weights()
        };
        let half = Products::Widened(nnc::code::float::Float::F16);
        let all = [Products::Floats, half, Products::Halves, Products::Words, Products::Bytes];
        assert_eq!(all.map(of), [40, 20, 20, 20, 10]);
    }
}
