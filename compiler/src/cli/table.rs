//! One look for all tables: no frame, a line under the heading, columns of numbers to the right.

use comfy_table::{CellAlignment, ContentArrangement, Row, Table};

/// A table with these headings.
pub fn new<'h>(headings: impl IntoIterator<Item = &'h str>) -> Table {
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

/// Characters of a name in a table, at most.
const LONGEST: usize = 48;

/// The name of a layer as a table shows it: of one that would push all columns out of sight a few characters of the beginning, and the
/// end, by which such names differ. JSON has them whole.
pub fn name(name: &str) -> String {
    const HEAD: usize = LONGEST / 4;
    let length = name.chars().count();
    if length <= LONGEST {
        return name.to_string();
    }
    let head: String = name.chars().take(HEAD).collect();
    let tail: String = name.chars().skip(length - (LONGEST - HEAD - 1)).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn long_names_lose_what_is_in_the_middle() {
        let longest = "x".repeat(48);
        assert_eq!(name(&longest), longest);
        let long = "jax2tf_get_logits_/pjit_get_logits_/MagikaV2/Dense_0/einsum/Einsüm";
        assert_eq!(name(long), "jax2tf_get_l…its_/MagikaV2/Dense_0/einsum/Einsüm");
    }
}
