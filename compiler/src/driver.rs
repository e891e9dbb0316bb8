//! The way through the compiler, for hosts and for the `nnc` command: a [`Model`] is lowered to a [`Compilation`],
//! which becomes a [`Program`] in memory or the bytes of an artefact.
//!
//! ```text
//!   Model::open ─▶ lower(&Options) ─▶ Compilation ─┬─ program()   code in memory
//!     parsed        passes, plan        plan,       └─ code()      code for a file: artefact, object, text
//!                                       report
//! ```

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nnc_ir::Graph;
use nnc_ir::onnx::{self, PortInfo};
use nnc_ir::{Deadline, Limits};
use nnc_runtime::Program;
use nnc_runtime::abi::ProgramDesc;

use crate::artefact::{self, CName};
use crate::cache::{CacheEntry, CacheUse};
use crate::emit::disassemble::{code_bytes, disassemble};
use crate::emit::known::KnownKernels;
use crate::emit::object::{ConstantPlace, Object};
use crate::emit::{self, CodegenError, jit};
use crate::error::Error;
use crate::options::Options;
use crate::passes::{self, KnownSums};
use crate::plan::{self, Plan, PlanError};
use crate::report::{CompileReport, CompileTimes, SlowLayer};
use crate::target::{Target, TargetError};

/// An ONNX model, parsed and checked.
#[derive(Clone, Debug)]
pub struct Model {
    onnx: onnx::Model,
    file: String,
    /// Time to read it.
    read: Duration,
}

impl Model {
    /// Reads a model from a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, Error> {
        Model::open_with(path, Limits::default())
    }

    /// Like [`Model::open`], with other limits: for the file, and for all that is compiled from it.
    pub fn open_with(path: impl AsRef<Path>, limits: Limits) -> Result<Model, Error> {
        let (path, start) = (path.as_ref(), Instant::now());
        let onnx = onnx::Model::open_with(path, limits)?;
        Ok(Model { onnx, file: path.display().to_string(), read: start.elapsed() })
    }

    /// Reads a model from memory. Weights outside the model are looked for nowhere.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Model, Error> {
        Model::from_bytes_with(bytes, Limits::default())
    }

    /// Like [`Model::from_bytes`], with other limits.
    pub fn from_bytes_with(bytes: impl Into<Vec<u8>>, limits: Limits) -> Result<Model, Error> {
        let start = Instant::now();
        let onnx = onnx::Model::from_bytes_with(bytes, None, limits)?;
        Ok(Model { onnx, file: "model".into(), read: start.elapsed() })
    }

    /// The inputs that have no default, as the model declares them: dims may be open.
    pub fn inputs(&self) -> &[PortInfo] {
        self.onnx.inputs()
    }

    /// The outputs, as the model declares them.
    pub fn outputs(&self) -> &[PortInfo] {
        self.onnx.outputs()
    }

    /// What else the model says about itself.
    pub fn onnx(&self) -> &onnx::Model {
        &self.onnx
    }

    /// Compiles the model to code in memory, or takes the code from a cache.
    pub fn compile(&self, options: &Options) -> Result<Program, Error> {
        Ok(self.compile_reported(options)?.program)
    }

    /// Compiles the model, and tells what the compiler and the cache did.
    pub fn compile_reported(&self, options: &Options) -> Result<Compiled, Error> {
        let Some(folder) = options.cache.as_deref().filter(|_| !options.perf_map) else {
            let (program, report) = self.lower(options)?.program_reported()?;
            return Ok(Compiled { program, report: Some(report), cache: None });
        };
        let entry = CacheEntry::new(folder, &self.onnx, options, &target(options)?)?;
        // A program that was compiled within other limits may be too large for these: then compiling says so.
        let fits = |program: &Program| program.desc().arena_bytes <= self.onnx.limits().arena_bytes;
        if let Some(program) = entry.load().filter(fits) {
            let cache = Some(CacheUse::Hit(entry.path().to_owned()));
            return Ok(Compiled { program, report: None, cache });
        }
        let compilation = self.lower(options)?;
        // Whoever has the same model shares the entry, whatever their files are called.
        let code = compilation.code_called(&CName::default())?;
        let (report, artefact) = (Some(code.report()), code.artefact()?);
        // SAFETY: these bytes are an artefact that this very compiler has just made, and nobody else has seen.
        let program = unsafe { Program::from_bytes(&artefact) };
        let program =
            program.map_err(|source| Error::Load { file: self.file.clone(), source: source.into() })?;
        Ok(Compiled { program, report, cache: Some(entry.store(&artefact)) })
    }

    /// The model's graph as it was read, before any pass.
    pub fn graph(&self, options: &Options) -> Result<Graph, Error> {
        Ok(self.onnx.graph(&options.bindings)?)
    }

    /// The model's graph after all passes.
    pub fn optimised(&self, options: &Options) -> Result<Graph, Error> {
        let deadline = Deadline::after(self.onnx.limits().compile_time);
        let mut graph = self.onnx.graph_before(&options.bindings, deadline)?;
        passes::optimise_before(&mut graph, &options.passes, &Arc::default(), &mut |_, _| (), deadline)
            .map_err(|source| Error::in_pass(&self.file, source))?;
        Ok(graph)
    }

    /// Runs passes and plans, so that what remains is to make code.
    pub fn lower(&self, options: &Options) -> Result<Compilation, Error> {
        self.lower_observed(options, &mut |_, _| ())
    }

    /// Like [`Model::lower`]; `observer` sees the graph after each pass, with the pass's name.
    pub fn lower_observed(
        &self,
        options: &Options,
        observer: &mut dyn FnMut(&str, &Graph),
    ) -> Result<Compilation, Error> {
        self.lower_to(options, observer, &Arc::default(), &|plan, threads| plan.pack(threads))
    }

    /// Compiles the model to code in memory. Constants that `shared` has are the program's, too, and kernels that are `known`; `sums`
    /// are not made again.
    pub(crate) fn compile_sharing(
        &self,
        options: &Options,
        shared: &plan::SharedConstants,
        known: &KnownKernels,
        sums: &Arc<KnownSums>,
    ) -> Result<Program, Error> {
        let pack = |plan: plan::Unpacked, threads| plan.pack_shared(threads, shared);
        Ok(self.lower_to(options, &mut |_, _| (), sums, &pack)?.program_with(Some(known))?.0)
    }

    /// Plans the model for a target, with the constants that `shared` has where they are.
    pub(crate) fn lower_sharing(
        &self,
        options: &Options,
        target: Target,
        shared: &plan::SharedConstants,
        sums: &Arc<KnownSums>,
    ) -> Result<Compilation, Error> {
        let options = Options { target: Some(target), ..options.clone() };
        let pack = |plan: plan::Unpacked, threads| plan.pack_shared(threads, shared);
        self.lower_to(&options, &mut |_, _| (), sums, &pack)
    }

    fn lower_to(
        &self,
        options: &Options,
        observer: &mut dyn FnMut(&str, &Graph),
        sums: &Arc<KnownSums>,
        pack: &dyn Fn(plan::Unpacked, usize) -> Result<Plan, PlanError>,
    ) -> Result<Compilation, Error> {
        let target = target(options)?;
        let threads = options.thread_count();
        let start = Instant::now();
        let limits = self.onnx.limits();
        let deadline = Deadline::after(limits.compile_time);
        let mut graph = self.onnx.graph_of_stored_weights(&options.bindings, deadline)?;
        let import = start.elapsed();
        let passes = passes::optimise_before(&mut graph, &options.passes, sums, observer, deadline)
            .map_err(|source| Error::in_pass(&self.file, source))?;
        let passed = start.elapsed();
        let fused = passes.fusions.layers().map(|(layer, absorbed)| {
            (layer.to_string(), absorbed.iter().map(|a| format!("{} ({})", a.name, a.op)).collect())
        });
        let fault = |source: PlanError| Error::Plan { file: self.file.clone(), source: source.into() };
        let bounds = plan::Bounds::new(limits, deadline);
        let plan =
            plan::unpacked(&graph, &target, &options.plan, &fused.collect(), &bounds).map_err(fault)?;
        let planned = start.elapsed();
        // Weights are let go one by one while they are packed, if they are in memory at all; a graph would keep them.
        drop(graph);
        let plan = pack(plan, threads).map_err(fault)?;
        self.onnx.check_weights()?;
        let report = CompileReport {
            passes,
            steps: plan.steps.len(),
            arena_bytes: plan.arena_bytes,
            const_bytes: plan.constants.len() as u64,
            slow: plan.steps.iter().filter_map(SlowLayer::of).collect(),
            times: CompileTimes {
                read: self.read,
                import,
                passes: passed - import,
                plan: planned - passed,
                pack: start.elapsed() - planned,
                code: None,
            },
        };
        Ok(Compilation {
            file: self.file.clone(),
            target,
            threads,
            perf_map: options.perf_map,
            compile_time: limits.compile_time,
            spent: start.elapsed(),
            plan,
            report,
        })
    }
}

/// What the options ask to compile for.
fn target(options: &Options) -> Result<Target, TargetError> {
    options.target.clone().map_or_else(Target::host, Ok)
}

/// A program, and how it came about.
#[derive(Debug)]
pub struct Compiled {
    /// The program.
    pub program: Program,
    /// What the compiler did; `None` for a program that came from a cache.
    pub report: Option<CompileReport>,
    /// What the cache did, if there is one.
    pub cache: Option<CacheUse>,
}

/// A model on its way to code: its plan.
#[derive(Clone, Debug)]
pub struct Compilation {
    file: String,
    target: Target,
    threads: usize,
    perf_map: bool,
    /// The limit of the time to compile, and how much of it passes and plan took.
    compile_time: Duration,
    spent: Duration,
    plan: Plan,
    report: CompileReport,
}

impl Compilation {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What it is compiled for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What the compiler did so far.
    pub fn report(&self) -> &CompileReport {
        &self.report
    }

    /// On how many threads code is made.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// When code must be made: what passes and plan have left of the time.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after_some(self.compile_time, self.spent)
    }

    /// Makes code in the memory of this process.
    pub fn program(self) -> Result<Program, Error> {
        Ok(self.program_reported()?.0)
    }

    /// Makes code in the memory of this process, and tells what the compiler did.
    pub fn program_reported(self) -> Result<(Program, CompileReport), Error> {
        self.program_with(None)
    }

    fn program_with(self, known: Option<&KnownKernels>) -> Result<(Program, CompileReport), Error> {
        let deadline = self.deadline();
        let Compilation { file, target, plan, threads, perf_map, mut report, .. } = self;
        let settings = jit::Settings { threads, perf_map, deadline, known };
        let made = emit::jit::compile_timed(plan, &target, settings);
        let (program, times) = made.map_err(|source| Error::Code { file, source: source.into() })?;
        report.times.code = Some(times);
        Ok((program, report))
    }

    /// Makes code for a file. C knows the program by the name of the model's file, made an identifier, or as `model` if the
    /// model came from memory.
    pub fn code(&self) -> Result<Code<'_>, Error> {
        self.code_called(&CName::of_file(Path::new(&self.file)))
    }

    /// Makes code for a file, for a program that C knows by `name`. Programs of one process need different names.
    pub fn code_called(&self, name: &CName) -> Result<Code<'_>, Error> {
        let fault = |source: CodegenError| Error::Code { file: self.file.clone(), source: source.into() };
        let object = emit::object::compile_on(
            &self.plan,
            &self.target,
            name,
            ConstantPlace::Outside,
            self.threads,
            self.deadline(),
        )
        .map_err(fault)?;
        Ok(Code { compilation: self, name: name.clone(), object, for_linkers: OnceLock::new() })
    }
}

/// The code of a model, on its way to a file.
#[derive(Debug)]
pub struct Code<'c> {
    compilation: &'c Compilation,
    name: CName,
    object: Object,
    /// The object with its constants, once it was asked for.
    for_linkers: OnceLock<Vec<u8>>,
}

impl Code<'_> {
    /// The bytes of an artefact: a shared object that runs wherever the target does. Whoever links with it looks for
    /// `NAME.nnc.so`.
    pub fn artefact(&self) -> Result<Vec<u8>, Error> {
        self.artefact_in(&self.name.file())
    }

    /// The bytes of an artefact that whoever links with it looks for under the name `file`.
    pub fn artefact_in(&self, file: &str) -> Result<Vec<u8>, Error> {
        let (object, constants) = (&self.object, self.compilation.plan.constants.bytes());
        artefact::write_shared_object(
            &object.bytes,
            &self.name,
            file,
            &object.functions,
            &object.desc,
            &constants,
        )
        .map_err(|source| Error::Link { file: self.compilation.file.clone(), source: source.into() })
    }

    /// A relocatable ELF object with code and constants, for a linker.
    pub fn object(&self) -> Result<Vec<u8>, Error> {
        let Compilation { file, plan, target, threads, .. } = self.compilation;
        let deadline = self.compilation.deadline();
        if let Some(object) = self.for_linkers.get() {
            return Ok(object.clone());
        }
        match emit::object::compile_on(plan, target, &self.name, ConstantPlace::Inside, *threads, deadline) {
            Ok(object) => Ok(self.for_linkers.get_or_init(|| object.bytes).clone()),
            Err(source) => Err(Error::Code { file: file.clone(), source: source.into() }),
        }
    }

    /// A static library: an archive with the object.
    pub fn static_library(&self) -> Result<Vec<u8>, Error> {
        artefact::write_archive(&self.object()?, &format!("{}.nnc.o", self.name))
            .map_err(|source| Error::Link { file: self.compilation.file.clone(), source: source.into() })
    }

    /// A C header for the artefact or object.
    pub fn header(&self) -> Result<String, Error> {
        artefact::header::write(&self.object.desc, &self.name)
            .map_err(|source| Error::Header { file: self.compilation.file.clone(), source: source.into() })
    }

    /// A Rust module for the artefact in `file`, which lies beside it: the program, with the types of its inputs and outputs.
    pub fn rust_module(&self, file: &str) -> String {
        artefact::write_rust_module(&self.object.desc, &self.name, file)
    }

    /// The machine code of all functions, disassembled.
    pub fn asm(&self) -> Result<String, Error> {
        disassemble(&self.object.bytes).map_err(|source| Error::Disassemble {
            file: self.compilation.file.clone(),
            source: source.into(),
        })
    }

    /// The Cranelift IR of all layer functions.
    pub fn clif(&self) -> Result<String, Error> {
        let Compilation { file, plan, target, .. } = self.compilation;
        let text = emit::clif(plan, target);
        let fault = |source: CodegenError| Error::Code { file: file.clone(), source: source.into() };
        Ok(text.map_err(fault)?.join("\n"))
    }

    /// What the compiler did.
    pub fn report(&self) -> CompileReport {
        let mut report = self.compilation.report.clone();
        report.times.code = Some(self.object.times);
        report
    }

    /// What the program is.
    pub fn desc(&self) -> &ProgramDesc {
        &self.object.desc
    }

    /// Bytes of machine code.
    pub fn bytes(&self) -> u64 {
        code_bytes(&self.object.bytes)
    }
}
