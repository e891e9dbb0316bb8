//! Code in memory: a plan becomes a program that runs in this process.

use std::any::Any;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::default_libcall_names;
use nnc_ir::Deadline;
use nnc_runtime::Program;
use nnc_runtime::abi::LayerFn;

use super::earlier::Earlier;
use super::known::KnownKernels;
use super::{CodeTimes, CodegenError, describe, emit, perf_map};
use crate::code::isa;
use crate::parallel;
use crate::plan::Plan;
use crate::target::Target;

/// Address space set aside for the code of one program. Only what is used takes memory.
const CODE_SPACE: usize = 256 << 20;

/// Owns the memory of a module's code and gives it back.
struct JitCode(Mutex<Option<JITModule>>);

impl Drop for JitCode {
    fn drop(&mut self) {
        let module = self.0.get_mut().map(Option::take).unwrap_or_default();
        if let Some(module) = module {
            // SAFETY: the program that holds function pointers into this module owns this value, and is being dropped:
            // nothing can call its functions any more.
            unsafe { module.free_memory() };
        }
    }
}

/// How code in memory is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'k> {
    /// Threads that compile.
    pub threads: usize,
    /// Whether functions are entered in the perf map; see [`perf_map`](super::perf_map).
    pub perf_map: bool,
    /// When the code must be made.
    pub deadline: Deadline,
    /// Kernels that other programs have.
    pub known: Option<&'k KnownKernels>,
}

impl Default for Settings<'_> {
    /// All cores, no perf map, all the time.
    fn default() -> Self {
        Settings { threads: parallel::available(), perf_map: false, deadline: Deadline::never(), known: None }
    }
}

/// Compiles a plan for the machine at hand.
pub fn compile(plan: Plan, target: &Target) -> Result<Program, CodegenError> {
    compile_with(plan, target, Settings::default())
}

/// Compiles a plan for the machine at hand, with other settings.
pub fn compile_with(plan: Plan, target: &Target, settings: Settings<'_>) -> Result<Program, CodegenError> {
    Ok(compile_timed(plan, target, settings)?.0)
}

/// The same, and what the time went into.
pub fn compile_timed(
    plan: Plan,
    target: &Target,
    Settings { threads, perf_map, deadline, known }: Settings<'_>,
) -> Result<(Program, CodeTimes), CodegenError> {
    let start = Instant::now();
    let isa = isa::for_layers(target, false)?;
    let mut builder = JITBuilder::with_isa(isa, default_libcall_names());
    let memory = ArenaMemoryProvider::new_with_size(CODE_SPACE)
        .map_err(|e| CodegenError::Module(format!("no address space for code: {e}")))?;
    builder.memory_provider(Box::new(memory));
    let mut module = JITModule::new(builder);
    let mut emitted = emit(&mut module, &[&plan], target, threads, deadline, known, &mut Earlier::default())?;
    let table = emitted.programs.pop().unwrap_or_default();
    // From here on the code is read and executed, never written.
    module.finalize_definitions()?;
    if perf_map {
        let named = table.layers.iter().chain(&emitted.kernels);
        perf_map::append(named.map(|f| perf_map::MappedFunction {
            address: module.get_finalized_function(f.id) as usize,
            bytes: f.bytes,
            name: &f.name,
        }))?;
    }
    let functions: Vec<LayerFn> = table
        .layers
        .iter()
        .map(|layer| {
            let code = module.get_finalized_function(layer.id);
            // SAFETY: `emit` defined this function with the layer signature and the System V convention, which is
            // what `LayerFn` says; it stays mapped as long as `JitCode` lives.
            unsafe { std::mem::transmute::<*const u8, LayerFn>(code) }
        })
        .collect();
    let desc = describe(&plan, &table, target);
    let constants = plan.constants;
    let owner: Arc<dyn Any + Send + Sync> = Arc::new(JitCode(Mutex::new(Some(module))));
    // SAFETY: the functions are the plan's, generated for exactly this description, and the owner keeps them mapped.
    let program = unsafe { Program::from_parts(desc, functions, constants, owner)? };
    Ok((program, emitted.times.since(start)))
}
