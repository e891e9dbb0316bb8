//! `docs/ops.md` is what the table of operators says.
//!
//! `NNC_BLESS=1 cargo test -p nnc-ir --test onnx ops_md` writes it.

use std::fmt::Write as _;

use nnc_ir::onnx::operators;

const HEAD: &str = "\
# Operators

What nnc reads of ONNX: one row for each operator, with the versions of its operator set that its definitions are read of. Operators
of ONNX's own domain come first, then [those of ONNX Runtime](#commicrosoft). Written by `NNC_BLESS=1 cargo test -p nnc-ir --test onnx
ops_md` from `ir/src/onnx/table.rs` and what lies below it; a test fails when it differs from them.

*Elements*: floats are f32, f64, f16 and bf16; numbers are floats and integers of 8 to 64 bits; any is numbers and bool. Not read at all
are strings, complex numbers and elements of less than 8 bits, but for constants that DequantizeLinear reads. *At compile time* means that the operand is a constant of the model,
follows from constants and shapes, or is bound with `--const NAME=FILE` or `Options::bind`. *From sizes* means that it may also be
computed of how many there are of something at run time: rows that NonMaxSuppression, NonZero, Compress or Unique find, the Min of that and a
constant, and so on. Functions that a model defines are put in place of their calls. What is asked for and not read is an error that
names the node.
";

const COLUMNS: &str = "
| Operator | Opsets | Elements | Limits |
|---|---|---|---|
";

/// What is said before the rows of a domain.
const DOMAINS: [(&str, &str); 2] = [
    ("", ""),
    (
        "com.microsoft",
        "
## com.microsoft

Operators that ONNX Runtime's quantiser and optimiser write. They are compositions of ONNX's own: what is fused in them is taken apart and
fused again as nnc's kernels have it. Their domain has version 1, which a model need not import.

Operators of bytes are read as operators of floats between DequantizeLinear and QuantizeLinear, and are a step off onnxruntime's in less than one of a thousand results. Where
scales are such that many results fall halfway between two steps, QLinearAdd, QLinearMul, QLinearAveragePool and QLinearGlobalAveragePool round
together with the zero point and multiply in the order in which onnxruntime's kernels for x86-64 with AVX2 do; its kernels for other processors may be one step off that.
QLinearSoftmax has so many steps as 1 has whole ones of its scale. MatMulNBits never rounds A, whatever `accuracy_level` allows.

Other domains are refused. One of them is `com.microsoft.nchwc`, a layout for one kind of processor that onnxruntime writes when a model is
saved with all its optimisations: save it with `graph_optimization_level = ORT_ENABLE_EXTENDED`, or take the model that was optimised.
",
    ),
];

#[test]
fn ops_md_has_a_row_for_each_operator_of_the_table() {
    let mut text = HEAD.to_string();
    let mut listed = 0;
    for (domain, head) in DOMAINS {
        text += head;
        text += COLUMNS;
        for op in operators().iter().filter(|op| op.domain == domain) {
            let elements = op.elements.word();
            let _ = writeln!(text, "| {} | {} | {elements} | {} |", op.name, op.versions, op.limits);
            listed += 1;
        }
    }
    assert_eq!(listed, operators().len(), "a domain without a section");
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
