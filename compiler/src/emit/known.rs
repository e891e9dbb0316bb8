//! Kernels that were made before: programs of one model for other shapes have most of theirs in common.
//!
//! A kernel is known by a digest of its tile program, which decides its code for a target. Functions of layers are not kept: they
//! hold the addresses and extents of one shape.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use crate::code::tile::ir::TileProgram;
use crate::code::tile::{Lowered, TileError};
use crate::target::Target;

/// Bytes of code that are kept. Beyond, it begins anew.
const MOST_BYTES: usize = 16 << 20;

/// Kernels for one target.
#[derive(Debug, Default)]
pub struct KnownKernels {
    known: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    kernels: HashMap<[u8; 32], Arc<Lowered>>,
    bytes: usize,
}

impl KnownKernels {
    /// The code of a program: that of its equal, if there was one.
    pub fn lowered(&self, program: &TileProgram, target: &Target) -> Result<Arc<Lowered>, TileError> {
        let digest = digest(program);
        let kept = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = kept().kernels.get(&digest) {
            return Ok(Arc::clone(kernel));
        }
        // Nobody waits meanwhile; two that need the same one at the same time make it twice.
        let kernel = Arc::new(Lowered::new(program, target)?);
        let mut kept = kept();
        if kept.bytes > MOST_BYTES {
            *kept = Kept::default();
        }
        kept.bytes += kernel.code.len();
        kept.kernels.insert(digest, Arc::clone(&kernel));
        Ok(kernel)
    }

    /// How many kernels are kept.
    pub fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).kernels.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A digest of all that a program says.
fn digest(program: &TileProgram) -> [u8; 32] {
    let mut digest = Digest { pending: Vec::with_capacity(4 << 10), hasher: blake3::Hasher::new() };
    program.hash(&mut digest);
    digest.hasher.update(&digest.pending);
    *digest.hasher.finalize().as_bytes()
}

/// Bytes that are hashed together, side by side in vectors: numbers one by one would take long.
const PENDING: usize = 64 << 10;

/// What `derive(Hash)` tells, hashed by BLAKE3: equal digests mean equal programs.
struct Digest {
    pending: Vec<u8>,
    hasher: blake3::Hasher,
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        if self.pending.len() + bytes.len() > PENDING {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
        self.pending.extend_from_slice(bytes);
    }

    /// Nobody asks: the digest is longer.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::float::Float;
    use crate::code::tile::ir::{Addr, Builder, ByteRange, Lanes, ParamKind, ParamRole};

    /// A kernel that copies a vector from so many bytes on.
    fn program(disp: i32) -> TileProgram {
        let mut b = Builder::new("copy");
        let range = ByteRange { lo: 0, hi: 64 };
        let from = b.param(ParamRole::Input, ParamKind::Read { range });
        let to = b.param(ParamRole::Output, ParamKind::Write { range });
        let v = b.load(Lanes::X4, 4, Addr { base: from, disp, float: Float::F32 });
        b.store(v, 4, Addr { base: to, disp: 0, float: Float::F32 });
        b.finish()
    }

    #[test]
    fn an_equal_program_has_its_code_from_the_first() {
        let (known, target) = (KnownKernels::default(), Target::host().unwrap());
        let first = known.lowered(&program(0), &target).unwrap();
        assert!(Arc::ptr_eq(&first, &known.lowered(&program(0), &target).unwrap()));
        let other = known.lowered(&program(4), &target).unwrap();
        assert_ne!(first.code, other.code);
        assert_eq!(known.len(), 2);
        assert_eq!(other.code, Lowered::new(&program(4), &target).unwrap().code);
    }

    #[test]
    fn programs_that_differ_anywhere_have_other_digests() {
        let mut renamed = program(0);
        renamed.name.push('2');
        let mut longer = program(0);
        longer.body.push(longer.body[0].clone());
        let mut wider = program(0);
        wider.ints += 1;
        let all = [program(0), program(4), renamed, longer, wider].map(|program| digest(&program));
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "{i}");
        }
        assert_eq!(digest(&program(0)), all[0]);
    }
}
