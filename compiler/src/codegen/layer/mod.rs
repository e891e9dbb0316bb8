//! Layer functions: from a plan's decision to loops around kernels.
//!
//! A layer function gets base pointers, a range of units, and scratch; see [`nnc_runtime::abi::LayerFn`]. It names no
//! symbol but the kernels of its module.

mod dense;
mod lanes;
mod loops;

use cranelift_codegen::ir::{
    AbiParam, Function, InstBuilder, MemFlagsData, Signature, UserFuncName, Value, types::I64,
};
use cranelift_codegen::isa::CallConv;
use cranelift_codegen::{CodegenError as CraneliftError, Context};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Linkage, Module, ModuleError};

use super::kernels::{Kernel, Kernels};
use super::tile::ir::{Program, Role};
use super::{CodegenError, nest, tile};
use crate::plan::LayerCode;
use crate::target::Target;

/// A defined layer function.
pub struct Defined {
    /// The function.
    pub id: FuncId,
    /// Its Cranelift IR as text, when asked for.
    pub clif: Option<String>,
}

/// Defines the function of a layer. `layer` is the name to use in errors.
pub fn define<'t>(
    module: &mut dyn Module,
    symbol: &str,
    layer: &str,
    code: &LayerCode,
    kernels: &mut Kernels<'t>,
    target: &'t Target,
    keep_clif: bool,
) -> Result<Defined, CodegenError> {
    let id = module.declare_function(symbol, Linkage::Export, &signature())?;
    let mut context =
        Context::for_function(Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature()));
    let mut scratch = FunctionBuilderContext::new();
    if let LayerCode::Nest(n) = code {
        nest::emit::build(n, &mut context.func, &mut scratch, module.target_config());
    } else {
        let builder = FunctionBuilder::new(&mut context.func, &mut scratch);
        let mut emit = LayerEmitter::start(builder, module, kernels, layer, target);
        match code {
            LayerCode::Dense(plan) => dense::emit(&mut emit, plan)?,
            LayerCode::Lanes(plan) => lanes::emit(&mut emit, plan)?,
            LayerCode::Nest(_) => {}
        }
        emit.finish();
    }
    let clif = keep_clif.then(|| format!("; {symbol}\n{}", context.func.display()));
    module
        .define_function(id, &mut context)
        .map_err(|e| CodegenError::Function { layer: layer.to_string(), message: refusal(e) })?;
    Ok(Defined { id, clif })
}

/// What Cranelift said, with all that its verifier found: its own text leaves that out.
fn refusal(error: ModuleError) -> String {
    match error {
        ModuleError::Compilation(CraneliftError::Verifier(errors)) => errors.to_string(),
        other => other.to_string(),
    }
}

/// The signature of layer functions.
pub fn signature() -> Signature {
    let mut s = Signature::new(CallConv::SystemV);
    s.params = vec![AbiParam::new(I64); 4];
    s
}

/// Arguments of a kernel call, by role; those that the kernel does not take are ignored.
type Args<'a> = &'a dyn Fn(Role) -> Option<Value>;

/// Writes the body of a layer function.
struct LayerEmitter<'a, 'k, 't> {
    b: FunctionBuilder<'a>,
    module: &'k mut dyn Module,
    kernels: &'k mut Kernels<'t>,
    layer: &'k str,
    target: &'t Target,
    bases: Value,
    begin: Value,
    end: Value,
    scratch: Value,
}

impl<'a, 'k, 't> LayerEmitter<'a, 'k, 't> {
    fn start(
        mut b: FunctionBuilder<'a>,
        module: &'k mut dyn Module,
        kernels: &'k mut Kernels<'t>,
        layer: &'k str,
        target: &'t Target,
    ) -> LayerEmitter<'a, 'k, 't> {
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        b.seal_block(entry);
        let p = b.block_params(entry).to_vec();
        LayerEmitter { b, module, kernels, layer, target, bases: p[0], begin: p[1], end: p[2], scratch: p[3] }
    }

    fn finish(mut self) {
        self.b.ins().return_(&[]);
        let config = self.module.target_config();
        self.b.finalize(config);
    }

    /// The target's widest vector.
    fn lanes(&self) -> tile::ir::Lanes {
        tile::ir::Lanes::holding(self.target.isa.lanes()).unwrap_or(tile::ir::Lanes::X4)
    }

    /// The base pointer of an argument.
    fn base(&mut self, arg: usize) -> Value {
        self.b.ins().load(I64, MemFlagsData::trusted(), self.bases, arg as i32 * 8)
    }

    /// The kernel of a tile program.
    fn kernel(&mut self, program: Result<Program, tile::TileError>) -> Result<Kernel, CodegenError> {
        let kernel = program.and_then(|p| self.kernels.get(self.module, p));
        kernel.map_err(|source| CodegenError::Tile { layer: self.layer.to_string(), source })
    }

    /// Calls a kernel.
    fn call(&mut self, kernel: &Kernel, args: Args<'_>) -> Result<(), CodegenError> {
        let mut values = Vec::with_capacity(kernel.params.len());
        for param in &kernel.params {
            values.push(args(param.role).ok_or_else(|| {
                CodegenError::Module(format!(
                    "layer \"{}\" has no {:?} for its kernel",
                    self.layer, param.role
                ))
            })?);
        }
        let function = self.module.declare_func_in_func(kernel.id, self.b.func);
        self.b.ins().call(function, &values);
        Ok(())
    }
}
