//! Artefacts: programs as files that need neither this compiler nor a linker.
//!
//! An artefact is an ELF shared object with code, description and constants. The runtime loads it by itself
//! ([`nnc_runtime::artefact`] shows the layout and says why); a C host may `dlopen` it and call `nnc_run`, which the
//! [`driver`] adds. It imports nothing, so no relocation is left to do when it is loaded.
//!
//! ```text
//!   layer functions ┐
//!   driver::define  ┴→ ObjectModule → object bytes ─ link::write_shared_object → file
//!   header::write   ──────────────────────────────────────────────────────────→ C header for it
//! ```

pub mod driver;
mod elf;
pub mod header;
mod input;
mod json;
mod link;
mod relocate;

pub use link::{LinkError, write_shared_object};

/// The symbol of the constants: the driver uses it, the linker says where it is.
pub const CONSTS: &str = "nnc_consts";
/// What the names of an artefact's C functions and data begin with. Only these are visible from outside.
const EXPORT_PREFIX: &str = "nnc_";
