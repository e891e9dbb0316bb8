//! One look for all tables: no frame, a line under the heading, columns of numbers to the right.

use comfy_table::{CellAlignment, ContentArrangement, Row, Table};

/// A table with these headings.
pub fn new<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset("     ──            ").set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(Row::from(headings));
    table
}

/// Sets these columns to the right.
pub fn numbers(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
