//! Guard pages: a way to run in which accesses beyond a buffer do not go unnoticed.
//!
//! ```text
//!   NNC_GUARD_PAGES=after     ▒▒▒▒▒▒▒▒|        ███████|▒▒▒▒▒▒▒▒     ▒ faults when it is touched
//!   NNC_GUARD_PAGES=before    ▒▒▒▒▒▒▒▒|███████        |▒▒▒▒▒▒▒▒
//! ```
//!
//! With this variable in the environment, the arena, each thread's scratch, and a copy of each input and output lie at the
//! edge of a page that may not be touched, and a layer function that reads or writes one byte beyond stops the process where
//! it does. It is meant for tests, of nnc and of applications that use it: every run copies its inputs and outputs.

use std::sync::OnceLock;

use crate::abi::Port;
use crate::memory::{MemoryError, Pages};

/// At which end of a buffer an access beyond it is noticed to the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// At its first byte.
    Before,
    /// At its last one.
    After,
}

/// What the environment asks for.
pub(crate) fn side() -> Option<Side> {
    static SIDE: OnceLock<Option<Side>> = OnceLock::new();
    *SIDE.get_or_init(|| match std::env::var("NNC_GUARD_PAGES").ok()?.as_str() {
        "before" => Some(Side::Before),
        "after" | "1" => Some(Side::After),
        _ => None,
    })
}

/// Guarded copies of a caller's buffers.
pub(crate) struct Copies {
    inputs: Vec<Pages>,
    outputs: Vec<Pages>,
    /// Where each input and each output begins.
    bases: (Vec<*mut u8>, Vec<*mut u8>),
}

impl Copies {
    /// For the ports of a program, if they are wanted.
    pub(crate) fn wanted(inputs: &[Port], outputs: &[Port]) -> Result<Option<Copies>, MemoryError> {
        let Some(side) = side() else { return Ok(None) };
        let copies = |ports: &[Port], purpose| {
            let copy = |port: &Port| Pages::guarded(port.bytes() as u64, port.elem.bytes(), side, purpose);
            ports.iter().map(copy).collect::<Result<Vec<_>, _>>()
        };
        let (inputs, outputs) = (copies(inputs, "an input")?, copies(outputs, "an output")?);
        let bases = |copies: &[Pages]| copies.iter().map(Pages::base).collect();
        let bases = (bases(&inputs), bases(&outputs));
        Ok(Some(Copies { inputs, outputs, bases }))
    }

    /// Takes over the inputs of a run. Gives the copies' addresses, of inputs and outputs.
    ///
    /// # Safety
    ///
    /// Each pointer leads to as many bytes as its port has.
    pub(crate) unsafe fn enter(&mut self, given: &[*mut u8]) -> (&[*mut u8], &[*mut u8]) {
        for (copy, &from) in self.inputs.iter_mut().zip(given) {
            // SAFETY: the caller vouches for as many bytes, and the copy is ours alone.
            unsafe { std::ptr::copy_nonoverlapping(from, copy.base(), copy.len()) };
        }
        (&self.bases.0, &self.bases.1)
    }

    /// Hands over the outputs of a run.
    ///
    /// # Safety
    ///
    /// Each pointer leads to as many writable bytes as its port has.
    pub(crate) unsafe fn leave(&self, room: &[*mut u8]) {
        for (copy, &to) in self.outputs.iter().zip(room) {
            // SAFETY: the caller vouches for as many bytes, which are not the copy's.
            unsafe { std::ptr::copy_nonoverlapping(copy.base(), to, copy.len()) };
        }
    }
}
