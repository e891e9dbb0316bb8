//! Drops what no output of the graph depends on.
//!
//! ```text
//!   x ─▶ conv ─▶ (output)                 x ─▶ conv ─▶ (output)
//!   └──▶ relu ─▶ mul          becomes
//! ```

use nnc_ir::Graph;

use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    for _ in 0..graph.remove_unused() {
        notes.count("removed");
    }
    Ok(())
}
