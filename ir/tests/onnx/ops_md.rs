//! `docs/ops.md` is what the table of operators says.
//!
//! `NNC_BLESS=1 cargo test -p nnc-ir --test onnx ops_md` writes it.

use std::fmt::Write as _;

use nnc_ir::onnx::operators;

const HEAD: &str = "\
# Operators

What nnc reads of ONNX: one row for each operator of ONNX's own domain, with the versions of the operator set that its definitions
are read of. Written by `NNC_BLESS=1 cargo test -p nnc-ir --test onnx ops_md` from `ir/src/onnx/table.rs` and `notes.rs`; a test
fails when it differs from them.

*Elements*: floats are f32, f64, f16 and bf16; numbers are floats and integers of 8 to 64 bits; any is numbers and bool. Not read at all
are strings, complex numbers and elements of less than 8 bits. *At compile time* means that the operand is a constant of the model,
follows from constants and shapes, or is bound with `--const NAME=FILE` or `Options::bind`. Functions that a model defines are put
in place of their calls. What is asked for and not read is an error that names the node.

| Operator | Opsets | Elements | Limits |
|---|---|---|---|
";

#[test]
fn ops_md_has_a_row_for_each_operator_of_the_table() {
    let mut text = HEAD.to_string();
    let newest = operators().iter().map(|op| op.until).max().unwrap();
    for op in operators() {
        let opsets = if op.until == newest {
            format!("{} and later", op.since)
        } else {
            format!("{} to {}", op.since, op.until)
        };
        let elements = op.elements.map_or("", |elements| elements.word());
        let _ = writeln!(text, "| {} | {opsets} | {elements} | {} |", op.name, op.limits);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ops.md");
    if std::env::var_os("NNC_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(path, &text).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == text,
        "docs/ops.md differs; NNC_BLESS=1 cargo test -p nnc-ir --test onnx ops_md writes it anew"
    );
}
