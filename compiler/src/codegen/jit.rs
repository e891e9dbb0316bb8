//! Code in memory: a plan becomes a program that runs in this process.

use std::any::Any;
use std::sync::{Arc, Mutex};

use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::default_libcall_names;
use nnc_runtime::abi::LayerFn;
use nnc_runtime::{Constants, Program};

use super::{CodegenError, describe, emit};
use crate::plan::Plan;
use crate::target::{Target, cranelift_isa};

/// Address space set aside for the code of one program. Only what is used takes memory.
const CODE_SPACE: usize = 256 << 20;

/// Owns the memory of a module's code and gives it back.
struct Code(Mutex<Option<JITModule>>);

impl Drop for Code {
    fn drop(&mut self) {
        let module = self.0.get_mut().map(Option::take).unwrap_or_default();
        if let Some(module) = module {
            // SAFETY: the program that holds function pointers into this module owns this value, and is being dropped:
            // nothing can call its functions any more.
            unsafe { module.free_memory() };
        }
    }
}

/// Compiles a plan for the machine at hand.
pub fn compile(plan: Plan, target: &Target) -> Result<Program, CodegenError> {
    let isa = cranelift_isa(target, false)?;
    let mut builder = JITBuilder::with_isa(isa, default_libcall_names());
    let memory = ArenaMemoryProvider::new_with_size(CODE_SPACE)
        .map_err(|e| CodegenError::Module(format!("no address space for code: {e}")))?;
    builder.memory_provider(Box::new(memory));
    let mut module = JITModule::new(builder);
    let emitted = emit(&mut module, &plan, target, false)?;
    // From here on the code is read and executed, never written.
    module.finalize_definitions()?;
    let functions: Vec<LayerFn> = emitted
        .functions
        .iter()
        .map(|&id| {
            let code = module.get_finalized_function(id);
            // SAFETY: `emit` defined this function with the layer signature and the System V convention, which is
            // what `LayerFn` says; it stays mapped as long as `Code` lives.
            unsafe { std::mem::transmute::<*const u8, LayerFn>(code) }
        })
        .collect();
    let desc = describe(&plan, &emitted, target);
    let constants = Constants::copy_of(&plan.constants)?;
    drop(plan);
    let owner: Arc<dyn Any + Send + Sync> = Arc::new(Code(Mutex::new(Some(module))));
    // SAFETY: the functions are the plan's, generated for exactly this description, and the owner keeps them mapped.
    Ok(unsafe { Program::from_parts(desc, functions, constants, owner)? })
}
