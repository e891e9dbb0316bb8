//! Plan → machine code: a Cranelift function per distinct layer and tile kernels, all in one module.
//!
//! ```text
//!   step ──▶ layer function (Cranelift IR: units, rows, tiles, addresses) ──calls──▶ kernels (tile programs)
//!   equal LayerCode → one function        equal tile program → one kernel
//! ```
//!
//! The same [`emit`] fills a JIT module and an object module, so both hold the same code.

pub mod disassemble;
pub mod jit;
pub mod kernels;
pub mod layer;
pub mod nest;
pub mod object;
pub mod tile;

use std::collections::HashMap;

use cranelift_module::{FuncId, Module, ModuleError};
use nnc_runtime::abi::{CpuFeatures, ProgramDesc, Step};

use crate::plan::{LayerCode, Plan};
use crate::target::{Target, TargetError};
use kernels::Kernels;

/// Why code generation failed. None of these is the model's fault.
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
    /// No memory for the constants.
    #[error(transparent)]
    Memory(#[from] nnc_runtime::MemoryError),
}

impl From<ModuleError> for CodegenError {
    fn from(e: ModuleError) -> CodegenError {
        CodegenError::Module(e.to_string())
    }
}

/// Functions of a plan in a module.
#[derive(Debug)]
pub struct Emitted {
    /// The function table: one entry for each distinct layer.
    pub functions: Vec<FuncId>,
    /// Their names.
    pub names: Vec<String>,
    /// For each step, its function's place in the table.
    pub step_functions: Vec<u32>,
    /// Text of the Cranelift IR of each layer function, when it was asked for.
    pub clif: Vec<String>,
}

/// Generates every function of a plan into a module.
pub fn emit(
    module: &mut dyn Module,
    plan: &Plan,
    target: &Target,
    keep_clif: bool,
) -> Result<Emitted, CodegenError> {
    let mut known: HashMap<&LayerCode, u32> = HashMap::new();
    let mut kernels = Kernels::new(target);
    let mut emitted = Emitted { functions: vec![], names: vec![], step_functions: vec![], clif: vec![] };
    for step in &plan.steps {
        if let Some(&index) = known.get(&step.code) {
            emitted.step_functions.push(index);
            continue;
        }
        let index = emitted.functions.len() as u32;
        // Not `nnc_…`: those are what an artefact shows to the outside.
        let symbol = format!("layer_{index}_{}_{}", step.code.kind(), symbol_part(&step.name));
        let layer = layer::define(module, &symbol, &step.name, &step.code, &mut kernels, target, keep_clif)?;
        emitted.functions.push(layer.id);
        emitted.names.push(symbol);
        emitted.clif.extend(layer.clif);
        known.insert(&step.code, index);
        emitted.step_functions.push(index);
    }
    Ok(emitted)
}

/// The description of the program that the runtime needs.
pub fn describe(plan: &Plan, emitted: &Emitted, target: &Target) -> ProgramDesc {
    let steps = plan.steps.iter().zip(&emitted.step_functions).map(|(step, &func)| Step {
        name: step.name.clone(),
        func,
        units: step.units as u32,
        args: step.args.clone(),
    });
    ProgramDesc {
        target: target.name.clone(),
        features: cpu_features(target),
        inputs: plan.inputs.clone(),
        outputs: plan.outputs.clone(),
        arena_bytes: plan.arena_bytes,
        scratch_bytes: plan.scratch_bytes,
        const_bytes: plan.constants.len() as u64,
        functions: emitted.functions.len() as u32,
        steps: steps.collect(),
    }
}

/// The CPU features that a target's code needs, as the runtime's bits. All that a target names have one.
fn cpu_features(target: &Target) -> CpuFeatures {
    let known = target.features.iter().filter_map(|name| CpuFeatures::named(name));
    known.fold(CpuFeatures::default(), CpuFeatures::with)
}

/// The part of a layer's name that a symbol may carry.
fn symbol_part(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    plain.chars().take(48).collect()
}
