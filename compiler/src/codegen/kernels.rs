//! The kernels of a module: each distinct tile program once.

use std::collections::HashMap;

use cranelift_module::{FuncId, Module};

use super::tile::ir::{Param, Program};
use super::tile::{self, TileError};
use crate::target::Target;

/// A kernel in a module: its function, and which arguments it takes.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The function.
    pub id: FuncId,
    /// Its parameters, in order.
    pub params: Vec<Param>,
}

/// Kernels that have been defined so far.
#[derive(Debug)]
pub struct Kernels<'t> {
    target: &'t Target,
    known: HashMap<Program, Kernel>,
}

impl<'t> Kernels<'t> {
    /// None yet.
    pub fn new(target: &'t Target) -> Kernels<'t> {
        Kernels { target, known: HashMap::new() }
    }

    /// The kernel of a program; defined when it is new.
    pub fn get(&mut self, module: &mut dyn Module, program: Program) -> Result<Kernel, TileError> {
        if let Some(kernel) = self.known.get(&program) {
            return Ok(kernel.clone());
        }
        let name = format!("nnc_k{}_{}", self.known.len(), program.name);
        let id = tile::define(module, &name, &program, self.target)?;
        let kernel = Kernel { id, params: program.params.clone() };
        self.known.insert(program, kernel.clone());
        Ok(kernel)
    }
}
