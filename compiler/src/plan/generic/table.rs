//! Functions of a byte, read from their table.

use nnc_ir::op::ByteTable;

use super::copy;
use super::{GenericError, Lowering};
use crate::code::nest::Expr;
use crate::code::view::View;

pub(super) fn byte_table(l: &mut Lowering<'_>) -> Result<(), GenericError> {
    let (x, table, y) = (l.input(ByteTable::X)?, l.input(ByteTable::TABLE)?, l.output()?);
    let first = View { shape: Vec::new(), strides: Vec::new(), ..table };
    let first = l.broadcast(&first, &y.shape)?;
    copy::map(l, vec![x, first], &y, Expr::Operand(0).entry_of(1))
}
