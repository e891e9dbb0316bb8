//! Artefacts: programs as files that need neither this compiler nor a linker.
//!
//! An artefact is an ELF shared object with code, description and constants. The runtime loads it by itself
//! ([`nnc_runtime::artefact`] shows the layout and says why); a C host may `dlopen` it and call `NAME_run`, which the
//! [`driver`] adds; NAME is what the program is called ([`CName`]). It imports nothing, so no relocation is left to do when it is loaded.
//!
//! ```text
//!   layer functions ┐
//!   driver::define  ┴→ ObjectModule → object bytes ─ link::write_shared_object → file
//!   header::write   ──────────────────────────────────────────────────────────→ C header for it
//! ```
//!
//! A file may have several [`versions`] of a program, for processors that have more or less; it runs the best that it can.

mod archive;
mod cpu_check;
pub mod driver;
mod elf;
mod fault;
mod float_mode;
pub mod header;
mod input;
mod json;
mod link;
mod name;
mod parallel;
mod pkg_config;
mod records;
mod relocate;
mod rust_module;
pub mod versions;

pub use archive::write_archive;
pub use fault::LinkError;
pub use link::{LinkedVersion, write_shared_object, write_versions};
pub use name::{CName, CNameError, MADE_BY};
pub use parallel::PARTS;
pub use pkg_config::{Linked, write_pkg_config};
pub use rust_module::write_rust_module;
