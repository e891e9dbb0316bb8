//! Plan → machine code: a Cranelift function per distinct layer and tile kernels, all in one module.
//!
//! ```text
//!   step ──▶ layer function (Cranelift IR: units, rows, tiles, addresses) ──calls──▶ kernels (tile programs)
//!   equal LayerCode → one function        equal tile program → one kernel
//! ```
//!
//! An object may have several plans; what these have in common is there once, too.
//!
//! The same [`emit`] fills a JIT module and an object module, so both hold the same code. Functions are compiled on all
//! cores, and put into the module in the plan's order.

pub mod bounds;
pub mod disassemble;
pub mod earlier;
pub mod jit;
pub mod known;
pub mod layer;
pub mod object;
pub mod perf_map;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cranelift_module::{FuncId, Linkage, Module, ModuleError};
use nnc_ir::{Deadline, Exceeded};
use nnc_runtime::abi::{CpuFeatures, Denormals, ProgramDesc, Step};

use crate::code::features;
use crate::code::isa;
use crate::code::kernels::TilePrograms;
use crate::code::nest::emit::layer_signature;
use crate::code::tile::ir::TileProgram;
use crate::code::tile::{self, Lowered};
use crate::parallel;
use crate::plan::{LayerCode, Plan, PlanStep};
use crate::target::{Target, TargetError};
use earlier::{Earlier, Emitted, Identity};
use known::KnownKernels;

/// Why code generation failed. But for the limit, none of these is the model's fault.
#[derive(Debug, thiserror::Error)]
pub enum CodegenError {
    /// A tile program is not well formed or does not fit the target.
    #[error("layer \"{layer}\": its kernel cannot be generated")]
    Tile {
        /// The layer.
        layer: String,
        /// Why.
        source: tile::TileError,
    },
    /// Cranelift refused a function.
    #[error("layer \"{layer}\": the code generator refused it: {message}")]
    Function {
        /// The layer.
        layer: String,
        /// What it said.
        message: String,
    },
    /// A layer would touch memory that is not its own.
    #[error(
        "internal error in code generation: layer \"{layer}\" {source}; this is a defect of nnc, please report it"
    )]
    Bounds {
        /// The layer.
        layer: String,
        /// What it would do.
        source: bounds::BoundsError,
    },
    /// A module could not be finished.
    #[error("the code generator failed: {0}")]
    Module(String),
    /// There is no such target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The program does not fit together.
    #[error(transparent)]
    Program(#[from] nnc_runtime::ProgramError),
    /// No C function can run the program.
    #[error(transparent)]
    Driver(#[from] crate::artefact::driver::DriverError),
    /// The time is up.
    #[error(transparent)]
    Limit(#[from] Exceeded),
    /// The names for `perf` cannot be written.
    #[error(transparent)]
    PerfMap(#[from] perf_map::PerfMapError),
}

impl From<ModuleError> for CodegenError {
    fn from(e: ModuleError) -> CodegenError {
        CodegenError::Module(e.to_string())
    }
}

/// Functions of some plans in a module.
#[derive(Debug, Default)]
pub struct Functions {
    /// Those of each plan.
    pub programs: Vec<FunctionTable>,
    /// What the layers call.
    pub kernels: Vec<Emitted>,
    /// What it took to make them.
    pub times: CodeTimes,
}

/// The functions of one plan. Several plans may have some of them in common.
#[derive(Debug, Default)]
pub struct FunctionTable {
    /// One entry for each distinct layer.
    pub layers: Vec<Emitted>,
    /// For each step, its function's place in the table.
    pub step_functions: Vec<u32>,
}

impl FunctionTable {
    /// What the program needs of the processor.
    fn features(&self, target: &Target) -> CpuFeatures {
        self.layers.iter().fold(features::of_level(target), |all, layer| all.with(layer.features))
    }
}

/// What the time to make code went into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeTimes {
    /// Functions of layers: Cranelift, and the proof that they stay in their memory.
    pub layers: Duration,
    /// Kernels: tile programs, and their code.
    pub kernels: Duration,
    /// To put all of it into one module.
    pub link: Duration,
}

impl CodeTimes {
    /// These and those.
    fn with(self, more: CodeTimes) -> CodeTimes {
        CodeTimes {
            layers: self.layers + more.layers,
            kernels: self.kernels + more.kernels,
            link: self.link + more.link,
        }
    }

    /// With what was left of the time since `start` for the rest.
    fn since(self, start: Instant) -> CodeTimes {
        CodeTimes { link: start.elapsed().saturating_sub(self.layers + self.kernels), ..self }
    }
}

/// The distinct layers of some plans.
struct Layers<'p> {
    distinct: Vec<DistinctLayer<'p>>,
    /// For each plan.
    tables: Vec<LayerTable>,
}

/// A layer's code, as the first step that has it says it.
struct DistinctLayer<'p> {
    step: &'p PlanStep,
    /// The steps that have it, of each plan that has some.
    users: Vec<(&'p Plan, Vec<usize>)>,
}

/// The layers of one plan.
#[derive(Default)]
struct LayerTable {
    /// Places among the distinct layers of all plans, in the order in which the plan has them.
    layers: Vec<usize>,
    /// For each step, the place of its layer in that list.
    step_functions: Vec<u32>,
}

impl<'p> Layers<'p> {
    fn of(plans: &[&'p Plan]) -> Layers<'p> {
        let mut known: HashMap<&LayerCode, usize> = HashMap::new();
        let mut layers = Layers { distinct: vec![], tables: vec![] };
        for &plan in plans {
            let mut table = LayerTable::default();
            let mut places: HashMap<usize, u32> = HashMap::new();
            for (number, step) in plan.steps.iter().enumerate() {
                let next = layers.distinct.len();
                let index = *known.entry(&step.code).or_insert(next);
                if index == next {
                    layers.distinct.push(DistinctLayer { step, users: vec![] });
                }
                let place = *places.entry(index).or_insert(table.layers.len() as u32);
                let users = &mut layers.distinct[index].users;
                if place as usize == table.layers.len() {
                    table.layers.push(index);
                    users.push((plan, vec![]));
                }
                // The last plan that has this layer is the one at hand.
                users.last_mut().into_iter().for_each(|(_, steps)| steps.push(number));
                table.step_functions.push(place);
            }
            layers.tables.push(table);
        }
        layers
    }
}

impl DistinctLayer<'_> {
    /// Proves that no step with this layer touches memory that is not its own.
    fn check(&self, emitted: &layer::LayerIr) -> Result<(), CodegenError> {
        self.users.iter().try_for_each(|(plan, steps)| bounds::check(plan, steps, emitted))
    }
}

/// The symbol of a layer's function. Not `nnc_…`: those are what an artefact shows to the outside.
fn symbol(index: usize, step: &PlanStep) -> String {
    format!("layer_{index}_{}_{}", symbol_part(step.code.kind()), symbol_part(&step.name))
}

/// Generates every function of some plans into a module, on up to `threads` threads. Kernels that are `known` are not made again.
/// What plans have in common is there once, and so is what they have in common with versions for other targets, which `earlier`
/// knows.
///
/// Layers and kernels are compiled each on its own and then put into the module in the order of the plans, so that the
/// module's bytes do not depend on the number of threads.
pub fn emit(
    module: &mut dyn Module,
    plans: &[&Plan],
    target: &Target,
    threads: usize,
    deadline: Deadline,
    known: Option<&KnownKernels>,
    earlier: &mut Earlier,
) -> Result<Functions, CodegenError> {
    let start = Instant::now();
    // What keeps denormals in one plan does no harm in another.
    let kept = plans.iter().find(|plan| plan.denormals == Denormals::Keep);
    let target = &target.treating(kept.map_or(Denormals::Flush, |plan| plan.denormals));
    let Layers { distinct, tables } = Layers::of(plans);
    let pic = module.isa().flags().is_pic();
    let calls_kernels = isa::for_layers(target, pic)?;
    let loops = isa::for_loops(target, pic)?;
    let compiled = parallel::map(threads, &distinct, |layer| {
        let step = layer.step;
        deadline.check(|| format!("the code of layer \"{}\"", step.name))?;
        let emitted = layer::emit(&step.name, &step.code, target, calls_kernels.frontend_config())?;
        layer.check(&emitted)?;
        let own_work = matches!(step.code, LayerCode::Nest(_) | LayerCode::Routine(_));
        let isa = if own_work && emitted.programs.is_empty() { &*loops } else { &*calls_kernels };
        let compiled = emitted.compile(&step.name, isa)?;
        let features = features::beyond_level(&compiled.bytes, target);
        Ok((compiled, features))
    });
    let mut compiled = compiled.into_iter().collect::<Result<Vec<_>, CodegenError>>()?;
    let layers = start.elapsed();

    // Kernels are numbered by their first use. Which each layer calls, and who was the first to call each.
    let mut programs = TilePrograms::default();
    let mut calls: Vec<Vec<usize>> = Vec::with_capacity(compiled.len());
    let mut callers: Vec<&str> = Vec::new();
    for ((layer, _), DistinctLayer { step, .. }) in compiled.iter_mut().zip(&distinct) {
        calls.push(std::mem::take(&mut layer.programs).into_iter().map(|p| programs.number(p)).collect());
        callers.resize(programs.len(), &step.name);
    }
    let kernels: Vec<(TileProgram, &str)> = programs.into_list().into_iter().zip(callers).collect();
    let fault = |layer: &str, source| CodegenError::Tile { layer: layer.into(), source };
    // Programs are larger than their code; each goes when it is lowered.
    let lowered = parallel::consume(threads, kernels, |(program, layer)| {
        deadline.check(|| format!("a kernel of layer \"{layer}\""))?;
        let kernel = match known {
            Some(known) => known.lowered(&program, target),
            None => Lowered::new(&program, target).map(Arc::new),
        };
        kernel.map_err(|source| fault(layer, source))
    });

    let times = CodeTimes { layers, kernels: start.elapsed() - layers, ..CodeTimes::default() };
    let mut functions = Functions { times, ..Functions::default() };
    let mut emitted = Vec::with_capacity(compiled.len());
    let mut lowered = lowered.into_iter().enumerate();
    let compiled = compiled.iter().zip(&distinct);
    let (prefix, mut new) = (earlier.prefix(), Vec::new());
    for ((index, ((layer, features), DistinctLayer { step, .. })), calls) in compiled.enumerate().zip(&calls)
    {
        // Each kernel stands in front of the first layer that calls it.
        let fresh = calls.iter().map(|n| n + 1).max().unwrap_or(0).saturating_sub(functions.kernels.len());
        for (number, kernel) in lowered.by_ref().take(fresh) {
            let kernel = kernel?;
            let identity = Identity::new(&kernel.code, tile::ALIGN, &[]);
            if let Some(equal) = earlier.find(&identity) {
                functions.kernels.push(equal);
                continue;
            }
            let name = format!("nnc_{prefix}k{number}_{}", kernel.name);
            let id = kernel.define(module, &name).map_err(|source| fault(&step.name, source))?;
            let kernel = Emitted { id, name, bytes: kernel.code.len(), features: kernel.features };
            new.push((identity, kernel.clone()));
            functions.kernels.push(kernel);
        }
        let called = || calls.iter().filter_map(|&n| functions.kernels.get(n));
        let callees: Vec<FuncId> = called().map(|kernel| kernel.id).collect();
        let identity = Identity::new(&layer.bytes, layer.align, &layer.relocs(earlier::nobody(), &callees));
        if let Some(equal) = earlier.find(&identity) {
            emitted.push(equal);
            continue;
        }
        let name = format!("{prefix}{}", symbol(index, step));
        let id = module.declare_function(&name, Linkage::Local, &layer_signature())?;
        module.define_function_bytes(id, layer.align, &layer.bytes, &layer.relocs(id, &callees))?;
        let features = called().fold(*features, |all, kernel| all.with(kernel.features));
        let layer = Emitted { id, name, bytes: layer.bytes.len(), features };
        new.push((identity, layer.clone()));
        emitted.push(layer);
    }
    earlier.add(new);
    let programs = tables.into_iter().map(|table| FunctionTable {
        layers: table.layers.iter().filter_map(|&index| emitted.get(index).cloned()).collect(),
        step_functions: table.step_functions,
    });
    functions.programs = programs.collect();
    Ok(functions)
}

/// Proves that no step of a plan touches memory that is not its own, as [`emit`] does before it makes code of it.
pub fn prove(plan: &Plan, target: &Target) -> Result<(), CodegenError> {
    let config = isa::for_layers(target, true)?.frontend_config();
    Layers::of(&[plan])
        .distinct
        .iter()
        .try_for_each(|layer| layer.check(&layer::emit(&layer.step.name, &layer.step.code, target, config)?))
}

/// The Cranelift IR of each distinct layer, as text.
pub fn clif(plan: &Plan, target: &Target) -> Result<Vec<String>, CodegenError> {
    let config = isa::for_layers(target, true)?.frontend_config();
    let distinct = Layers::of(&[plan]).distinct;
    let text = |(index, DistinctLayer { step, .. }): (usize, &DistinctLayer<'_>)| {
        Ok(layer::emit(&step.name, &step.code, target, config)?.text(&symbol(index, step)))
    };
    distinct.iter().enumerate().map(text).collect()
}

/// The description of the program that the runtime needs.
pub fn describe(plan: &Plan, functions: &FunctionTable, target: &Target) -> ProgramDesc {
    let steps = plan.steps.iter().zip(&functions.step_functions).map(|(step, &func)| Step {
        name: step.name.clone(),
        func,
        units: step.units as u32,
        args: step.args.clone(),
    });
    ProgramDesc {
        target: target.name.clone(),
        features: functions.features(target),
        denormals: plan.denormals,
        inputs: plan.inputs.clone(),
        outputs: plan.outputs.clone(),
        arena_bytes: plan.arena_bytes,
        scratch_bytes: plan.scratch_bytes,
        const_bytes: plan.constants.len() as u64,
        functions: functions.layers.len() as u32,
        steps: steps.collect(),
        strips: plan.strips.clone(),
        index_checks: plan.index_checks.clone(),
        repeats: plan.repeats.clone(),
    }
}

/// What a symbol may carry of a name.
fn symbol_part(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    plain.chars().take(48).collect()
}
