//! Computes once what is computed twice.
//!
//! ```text
//!   x ─┬─▶ relu ─▶ conv a                 x ─▶ relu ─┬─▶ conv a
//!      └─▶ relu ─▶ conv b       becomes              └─▶ conv b
//! ```
//!
//! Two nodes are the same when their operators are equal and they read the same values. Constants are compared by
//! their bytes while they are small (scalars, shapes, biases); weights that are equal by accident are not looked for.

use std::collections::BTreeMap;

use nnc_ir::{Graph, NodeId, Op, Value};

use super::{EditError, Notes};

/// Constants up to this size, in bytes, are compared.
const SMALL: usize = 1024;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    let mut constants: BTreeMap<(String, Vec<u8>), NodeId> = BTreeMap::new();
    let mut seen: BTreeMap<(&'static str, Vec<Option<Value>>), Vec<NodeId>> = BTreeMap::new();
    for id in graph.order()? {
        let twin = match &graph.node(id).op {
            Op::Input => continue,
            Op::Constant(t) if t.ty().bytes() > SMALL => continue,
            Op::Constant(t) => {
                let first = *constants.entry((t.ty().to_string(), t.bytes().to_vec())).or_insert(id);
                Some(first).filter(|first| *first != id)
            }
            op => {
                let same = seen.entry((op.name(), graph.operands(id))).or_default();
                let twin = same.iter().copied().find(|other| graph.node(*other).op == *op);
                if twin.is_none() {
                    same.push(id);
                }
                twin
            }
        };
        let Some(twin) = twin else { continue };
        for output in 0..graph.node(id).outputs.len() as u32 {
            graph.replace_value(Value { node: id, output }, Value { node: twin, output })?;
        }
        // Its operands stay, at least its twin reads them: nothing that is listed in `seen` goes away.
        graph.prune(id);
        notes.count("merged");
    }
    Ok(())
}
