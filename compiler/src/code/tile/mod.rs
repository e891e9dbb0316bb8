//! Innermost vector loops: a small IR, its lowerings, and the kernel programs written in it.
//!
//! ```text
//!   programs/*      a descriptor (plain data)  → Program
//!   verify          every byte that a program can touch lies in the ranges of its parameters
//!   interp          what a program means; the oracle of the tests
//!   x86             AVX2 and AVX-512 machine code        ┐
//!   clif            F32X4 Cranelift IR → machine code    ┘ the same bytes for the JIT and for a file
//! ```
//!
//! Cranelift's x86-64 back end knows 128-bit vectors only, half of what the machine can do at most, so the innermost
//! loops bypass it. Everything around them is ordinary Cranelift IR, which calls these kernels.
//!
//! Kernels take 64-bit integers in the System V convention (the platform's on aarch64), in the order of
//! [`TileProgram::params`](ir::Program::params), and return nothing. They call nothing and name no symbol.

pub mod clif;
pub mod error;
pub mod interp;
pub mod ir;
pub mod programs;
pub mod registers;
pub mod run;
mod scale;
pub mod verify;
pub mod x86;

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{AbiParam, Function, Signature, UserFuncName, types::I64};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::{FuncId, Linkage, Module};
use nnc_runtime::abi::CpuFeatures;

pub use self::error::TileError;
use self::ir::TileProgram;
use crate::code::features;
use crate::code::float::Float;
use crate::code::isa;
use crate::target::{Isa, Target};

/// Kernels start at a multiple of this many bytes, so that their loops stay aligned.
pub const ALIGN: u64 = 64;

/// The signature of a kernel with that many parameters.
pub fn signature(params: usize) -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(I64); params];
    signature
}

/// The widest vector that is one machine register of a target.
pub fn widest(target: &Target) -> ir::Lanes {
    ir::Lanes::holding(target.isa.lanes()).unwrap_or(ir::Lanes::X4)
}

/// The machine code of a program for a target. Verifies it first.
pub fn lower(program: &TileProgram, target: &Target) -> Result<Vec<u8>, TileError> {
    verify::verify(program)?;
    if !program.matrices.is_empty() && !target.has_matrices() {
        return Err(TileError::NoMatrices { program: program.name.clone() });
    }
    match target.isa {
        Isa::Avx512 => x86::lower(program, x86::Level::Avx512, extensions(target)),
        Isa::Avx2 => x86::lower(program, x86::Level::Avx2, extensions(target)),
        Isa::Clif128 => lower_clif(program, target),
    }
}

/// What x86 machines of a target do in one instruction.
fn extensions(target: &Target) -> x86::Extensions {
    x86::Extensions {
        dot: target.has_dot(),
        look_up: target.looks_up_bytes(),
        dot_of_halves: target.has_dot_of_halves(),
        rounds_to_halves: target.rounds_to_halves(),
    }
}

/// Whether a program fits the registers of a target. Always so with Cranelift, which can spill.
pub fn fits(program: &TileProgram, target: &Target) -> Result<(), TileError> {
    match target.isa {
        Isa::Avx512 => x86::fits(program, x86::Level::Avx512, extensions(target)),
        Isa::Avx2 => x86::fits(program, x86::Level::Avx2, extensions(target)),
        Isa::Clif128 => Ok(()),
    }
}

/// Whether a program fits the registers of a target without spilling: as [`fits`], but with Cranelift, too.
pub fn fits_registers(program: &TileProgram, target: &Target) -> Result<(), TileError> {
    match target.isa {
        Isa::Avx512 | Isa::Avx2 => fits(program, target),
        Isa::Clif128 => clif::fits(program, target.isa.registers(target.arch)),
    }
}

/// Scratch registers that it takes to store a vector of floats of a type.
pub fn store_registers(float: Float, target: &Target) -> usize {
    match target.isa {
        Isa::Avx512 | Isa::Avx2 if float == Float::U8 => x86::PACK_SCRATCH,
        Isa::Avx512 => x86::store_scratch(float, x86::Level::Avx512, true),
        Isa::Avx2 => x86::store_scratch(float, x86::Level::Avx2, true),
        Isa::Clif128 => clif::store_scratch(float),
    }
}

/// The machine code of a program, with what a module must know of it.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The program's name.
    pub name: String,
    /// How many parameters it has.
    pub params: usize,
    /// The code.
    pub code: Box<[u8]>,
    /// What it needs of the processor beyond its target's level.
    pub features: CpuFeatures,
}

impl Lowered {
    /// Lowers a program.
    pub fn new(program: &TileProgram, target: &Target) -> Result<Lowered, TileError> {
        let code = lower(program, target)?.into_boxed_slice();
        let features = features::beyond_level(&code, target);
        Ok(Lowered { name: program.name.clone(), params: program.params.len(), code, features })
    }

    /// Defines the code in a module, as a local function of that name.
    pub fn define(&self, module: &mut dyn Module, name: &str) -> Result<FuncId, TileError> {
        let refused = |e: cranelift_module::ModuleError| TileError::Define {
            program: self.name.clone(),
            message: e.to_string(),
        };
        let id = module.declare_function(name, Linkage::Local, &signature(self.params)).map_err(refused)?;
        module.define_function_bytes(id, ALIGN, &self.code, &[]).map_err(refused)?;
        Ok(id)
    }
}

/// Kernels are compiled apart from the module's other functions, because they want another register allocator.
fn lower_clif(program: &TileProgram, target: &Target) -> Result<Vec<u8>, TileError> {
    let encode = |message: String| TileError::Encode { program: program.name.clone(), message };
    let isa = isa::for_kernels(target).map_err(|e| encode(e.to_string()))?;
    let name = UserFuncName::user(0, 0);
    let function = Function::with_name_signature(name, signature(program.params.len()));
    let mut context = cranelift_codegen::Context::for_function(function);
    let mut scratch = FunctionBuilderContext::new();
    clif::lower(program, target.fma, &mut context.func, &mut scratch, isa.frontend_config());
    let code =
        context.compile(&*isa, &mut ControlPlane::default()).map_err(|e| encode(format!("{:?}", e.inner)))?;
    if !code.buffer.relocs().is_empty() {
        return Err(encode("a kernel must not name symbols".into()));
    }
    Ok(code.code_buffer().to_vec())
}
