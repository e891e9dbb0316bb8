//! Functions that versions of a program for several targets have in common: each is in the object once.
//!
//! ```text
//!   x86-64-v4        k0 k1 k2   layer_0 layer_1 layer_2
//!   x86-64-v4+vnni      ·  v1_k2     ·     ·    v1_layer_2      · is what the version before has, byte for byte
//! ```
//!
//! A function is known by its bytes and by what it calls, so a layer whose kernel differs is another layer.

use std::collections::HashMap;

use cranelift_module::{FuncId, ModuleReloc};
use nnc_runtime::abi::CpuFeatures;

/// A function that [`emit`](super::emit) has put into a module.
#[derive(Clone, Debug)]
pub struct Emitted {
    /// The function.
    pub id: FuncId,
    /// Its symbol.
    pub name: String,
    /// Size of its code in bytes.
    pub bytes: usize,
    /// What it needs of the processor beyond its target's level, kernels that it calls included.
    pub features: CpuFeatures,
}

/// What versions that were emitted before have put into the module.
#[derive(Debug, Default)]
pub struct Earlier {
    versions: usize,
    functions: HashMap<Identity, Emitted>,
}

/// All that decides what a function does.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Identity([u8; 32]);

impl Identity {
    /// Of a function with these bytes that calls these functions, in the order of its list; `relocs` are its calls, as they are for a
    /// function of number 0.
    pub fn new(bytes: &[u8], align: u64, relocs: &[ModuleReloc]) -> Identity {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&align.to_le_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
        for ModuleReloc { offset, kind, name, addend } in relocs {
            hasher.update(format!("{offset} {kind:?} {name:?} {addend};").as_bytes());
        }
        Identity(*hasher.finalize().as_bytes())
    }
}

/// The function that stands for any other where calls of itself are compared.
pub fn nobody() -> FuncId {
    FuncId::from_u32(0)
}

impl Earlier {
    /// What symbols of the version at hand begin with: nothing of the first one.
    pub fn prefix(&self) -> String {
        if self.versions == 0 { String::new() } else { format!("v{}_", self.versions) }
    }

    /// The function that is equal, of a version before.
    pub fn find(&self, identity: &Identity) -> Option<Emitted> {
        self.functions.get(identity).cloned()
    }

    /// Ends a version, of which these functions are new.
    pub fn add(&mut self, fresh: Vec<(Identity, Emitted)>) {
        self.versions += 1;
        for (identity, emitted) in fresh {
            self.functions.entry(identity).or_insert(emitted);
        }
    }
}
