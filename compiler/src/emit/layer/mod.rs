//! Layer functions: from a plan's decision to loops around kernels.
//!
//! A layer function gets base pointers, a range of units, and scratch; see [`nnc_runtime::abi::LayerFn`]. It names no
//! symbol but the kernels of its module.

mod dense;
mod lanes;
mod loops;
pub mod reach;
pub mod trace;
mod winograd;

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{
    ExtFuncData, ExternalName, FuncRef, Function, InstBuilder, MemFlagsData, UserExternalName, UserFuncName,
    Value, types::I64,
};
use cranelift_codegen::isa::{TargetFrontendConfig, TargetIsa};
use cranelift_codegen::{CodegenError as CraneliftError, Context};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, ModuleReloc, ModuleRelocTarget};

use self::trace::{Act, Base, Recorder, Symbol, Term, Trace};
use super::CodegenError;
use crate::code::kernels::{KernelRef, TilePrograms};
use crate::code::nest::emit::{LayerArgs, layer_signature};
use crate::code::tile::ir::{ParamRole, TileProgram};
use crate::code::{nest, routine, tile};
use crate::plan::LayerCode;
use crate::target::Target;

/// The Cranelift IR of a layer function. It belongs to no module yet: the kernels that it calls are numbered by its own
/// list.
pub struct LayerIr {
    function: Function,
    /// The kernels that it calls.
    pub programs: Vec<TileProgram>,
    /// What it does, as far as addresses go; empty for nests and routines, which say that themselves.
    pub trace: Trace,
}

/// The machine code of a layer function.
pub struct CompiledLayer {
    /// The code, then constants.
    pub bytes: Vec<u8>,
    /// Alignment that it needs.
    pub align: u64,
    relocs: Vec<ModuleReloc>,
    /// The kernels that it calls.
    pub programs: Vec<TileProgram>,
}

/// Writes the function of a layer. `layer` is the name to use in errors.
pub fn emit(
    layer: &str,
    code: &LayerCode,
    target: &Target,
    config: TargetFrontendConfig,
) -> Result<LayerIr, CodegenError> {
    let mut function = Function::with_name_signature(UserFuncName::user(0, 0), layer_signature());
    let mut scratch = FunctionBuilderContext::new();
    let mut kernels = Kernels::default();
    let mut trace = Trace::default();
    if let LayerCode::Nest(n) = code {
        let kernel = n.kernel_for(target).map_or(0, |program| kernels.programs.number(program));
        nest::emit::build(n, kernel as u32, target, &mut function, &mut scratch, config);
    } else if let LayerCode::Routine(r) = code {
        routine::emit::build(r, &mut function, &mut scratch, config);
    } else {
        let builder = FunctionBuilder::new(&mut function, &mut scratch);
        let mut emit = LayerEmitter::start(builder, &mut kernels, layer, target);
        match code {
            LayerCode::Dense(plan) => dense::emit(&mut emit, plan)?,
            LayerCode::Winograd(plan) => winograd::emit(&mut emit, plan)?,
            LayerCode::Lanes(plan) => lanes::emit(&mut emit, plan)?,
            LayerCode::Nest(_) | LayerCode::Routine(_) => {}
        }
        trace = emit.finish(config);
    }
    Ok(LayerIr { function, programs: kernels.programs.into_list(), trace })
}

impl LayerIr {
    /// The function as text, headed by the name that it will have. Kernels are called by their numbers in its list.
    pub fn text(&self, symbol: &str) -> String {
        let mut text = format!("; {symbol}\n");
        for (number, program) in self.programs.iter().enumerate() {
            text += &format!("; u0:{number} is {}\n", program.name);
        }
        text + &self.function.display().to_string()
    }

    /// Compiles the function. `layer` is the name to use in errors.
    pub fn compile(self, layer: &str, isa: &dyn TargetIsa) -> Result<CompiledLayer, CodegenError> {
        let mut context = Context::for_function(self.function);
        if let Err(e) = context.compile(isa, &mut ControlPlane::default()) {
            let message = refusal(e.inner);
            return Err(CodegenError::Function { layer: layer.to_string(), message });
        }
        let Some(code) = context.compiled_code() else {
            return Err(CodegenError::Module("a function was compiled to nothing".into()));
        };
        let (bytes, align) = (code.buffer.data().to_vec(), u64::from(code.buffer.alignment));
        let own = FuncId::from_u32(0);
        let relocs = code.buffer.relocs().iter();
        let relocs = relocs.map(|r| ModuleReloc::from_mach_reloc(r, &context.func, own)).collect();
        Ok(CompiledLayer { bytes, align, relocs, programs: self.programs })
    }
}

impl CompiledLayer {
    /// What the linker has to fill in, when the function is `own` in its module and kernel `n` of its list is
    /// `kernels[n]`.
    pub fn relocs(&self, own: FuncId, kernels: &[FuncId]) -> Vec<ModuleReloc> {
        let linked = self.relocs.iter().map(|reloc| {
            let name = match &reloc.name {
                ModuleRelocTarget::User { index, .. } => match kernels.get(*index as usize) {
                    Some(&kernel) => kernel.into(),
                    None => reloc.name.clone(),
                },
                ModuleRelocTarget::FunctionOffset(_, offset) => {
                    ModuleRelocTarget::FunctionOffset(own, *offset)
                }
                other => other.clone(),
            };
            ModuleReloc { offset: reloc.offset, kind: reloc.kind, name, addend: reloc.addend }
        });
        linked.collect()
    }
}

/// What Cranelift said, with all that its verifier found: its own text leaves that out.
fn refusal(error: CraneliftError) -> String {
    match error {
        CraneliftError::Verifier(errors) => errors.to_string(),
        other => other.to_string(),
    }
}

/// Arguments of a kernel call, by role; those that the kernel does not take are ignored.
type Args<'a> = &'a dyn Fn(ParamRole) -> Option<Value>;

/// The kernels that a layer function calls.
#[derive(Default)]
struct Kernels {
    programs: TilePrograms,
    /// The function's name for each of them.
    functions: Vec<FuncRef>,
}

/// Writes the body of a layer function.
struct LayerEmitter<'a, 'k, 't> {
    b: FunctionBuilder<'a>,
    kernels: &'k mut Kernels,
    layer: &'k str,
    target: &'t Target,
    trace: Recorder,
    bases: Value,
    begin: Value,
    end: Value,
    scratch: Value,
}

impl<'a, 'k, 't> LayerEmitter<'a, 'k, 't> {
    fn start(
        mut b: FunctionBuilder<'a>,
        kernels: &'k mut Kernels,
        layer: &'k str,
        target: &'t Target,
    ) -> LayerEmitter<'a, 'k, 't> {
        let LayerArgs { bases, begin, end, scratch } = LayerArgs::enter(&mut b);
        let mut trace = Recorder::default();
        trace.is(begin, Some(Term::symbol(Symbol::BEGIN)));
        trace.is(end, Some(Term::symbol(Symbol::END)));
        trace.is(scratch, Some(Term::base(Base::Scratch)));
        LayerEmitter { b, kernels, layer, target, trace, bases, begin, end, scratch }
    }

    fn finish(mut self, config: TargetFrontendConfig) -> Trace {
        self.b.ins().return_(&[]);
        self.b.finalize(config);
        self.trace.finish()
    }

    /// The target's widest vector.
    fn lanes(&self) -> tile::ir::Lanes {
        tile::widest(self.target)
    }

    /// The base pointer of an argument.
    fn base(&mut self, arg: usize) -> Value {
        let base = self.b.ins().load(I64, MemFlagsData::trusted(), self.bases, arg as i32 * 8);
        self.trace.base(base, arg);
        base
    }

    /// The kernel of a tile program.
    fn kernel(&mut self, program: Result<TileProgram, tile::TileError>) -> Result<KernelRef, CodegenError> {
        let program =
            program.map_err(|source| CodegenError::Tile { layer: self.layer.to_string(), source })?;
        let params = program.params.clone();
        let number = self.kernels.programs.number(program);
        let function = match self.kernels.functions.get(number) {
            Some(&function) => function,
            None => {
                let function = self.import(number, params.len());
                self.kernels.functions.push(function);
                function
            }
        };
        Ok(KernelRef { function, number, params })
    }

    /// Declares the kernel of a number: near enough for a direct call, because it will be in the same module.
    fn import(&mut self, number: usize, params: usize) -> FuncRef {
        let signature = self.b.func.import_signature(tile::signature(params));
        let name = UserExternalName { namespace: 0, index: number as u32 };
        let name = ExternalName::user(self.b.func.declare_imported_user_function(name));
        self.b.func.import_function(ExtFuncData { name, signature, colocated: true, patchable: false })
    }

    /// Calls a kernel.
    fn call(&mut self, kernel: &KernelRef, args: Args<'_>) -> Result<(), CodegenError> {
        let mut values = Vec::with_capacity(kernel.params.len());
        for param in &kernel.params {
            values.push(args(param.role).ok_or_else(|| {
                CodegenError::Module(format!(
                    "layer \"{}\" has no {:?} for its kernel",
                    self.layer, param.role
                ))
            })?);
        }
        self.b.ins().call(kernel.function, &values);
        let args = values.iter().map(|&value| self.trace.id(value)).collect();
        self.trace.push(Act::Call { program: kernel.number, args });
        Ok(())
    }
}
