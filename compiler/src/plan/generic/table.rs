//! Functions of a byte, read from their table.

use nnc_ir::DType;
use nnc_ir::op::ByteTable;

use super::{GenericError, Lowering};
use crate::code::routine::{MemoryUse, Writer};

/// Operations for each element.
const WORK: usize = 2;

pub(super) fn byte_table(l: &mut Lowering<'_>) -> Result<(), GenericError> {
    let (x, table, y) = (l.input(ByteTable::X)?, l.input(ByteTable::TABLE)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    let mut w = Writer::new();
    let (from, table) = (w.memory(&x, MemoryUse::Read), w.moved(&table, MemoryUse::Read));
    let to = w.moved(&y, MemoryUse::Write);
    w.over(&y.shape, WORK, |w, at| {
        let byte = w.load(from, at);
        let entry = w.load(table, &[byte.cast(DType::I64)]);
        w.store(to, at, entry);
    });
    l.push_routine(w)
}
