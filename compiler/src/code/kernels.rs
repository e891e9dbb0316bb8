//! The kernels that layer functions call: each distinct tile program once.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use cranelift_codegen::ir::FuncRef;

use super::tile::ir::{Param, TileProgram};

/// A kernel, as the layer function that calls it sees it.
#[derive(Clone, Debug)]
pub struct KernelRef {
    /// The function.
    pub function: FuncRef,
    /// Its number among the programs of the layer.
    pub number: usize,
    /// Its parameters, in order.
    pub params: Vec<Param>,
}

/// Distinct programs, numbered in the order in which they came.
#[derive(Debug, Default)]
pub struct TilePrograms {
    list: Vec<TileProgram>,
    /// Numbers of programs by a hash of their names and parameters: bodies are long, and programs with different bodies
    /// nearly always reach different memory.
    alike: BTreeMap<u64, Vec<usize>>,
}

impl TilePrograms {
    /// The number of a program: its own if it is new, else that of its equal.
    pub fn number(&mut self, program: TileProgram) -> usize {
        let mut hasher = DefaultHasher::new();
        (&program.name, &program.params).hash(&mut hasher);
        let alike = self.alike.entry(hasher.finish()).or_default();
        if let Some(&equal) = alike.iter().find(|&&n| self.list.get(n) == Some(&program)) {
            return equal;
        }
        let number = self.list.len();
        alike.push(number);
        self.list.push(program);
        number
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them, by number.
    pub fn into_list(self) -> Vec<TileProgram> {
        self.list
    }
}
