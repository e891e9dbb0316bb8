//! ONNX's own test cases, and those of ONNX Runtime's operators: which there are, how one is run, and which are known to pass.
//!
//! ```text
//!   onnx-cases/cases.json ──► Case ──run──► Outcome ──┬── list: tests/onnx/passes.txt, what must not get worse
//!   onnx-cases/KIND/NAME/      model, tensors          └── summary: a row for each operator
//! ```
//!
//! `tests/onnx/fetch.py` makes the cases; `tests/tests/onnx_cases.rs` is the test.

mod compare;
mod list;
mod run;
mod sets;
mod summary;

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use list::{CaseList, PASSES};
pub use run::{Outcome, run};
pub use summary::summary;

/// The command that makes the cases.
pub const FETCH: &str = "python3 tests/onnx/fetch.py";

/// A model, its inputs, and the outputs that it has to give.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxCase {
    /// The kind and ONNX's name for it: `node/test_relu`.
    pub name: String,
    /// The operator that a node case is about, the kind of the others.
    pub op: String,
    /// What is compared.
    pub check: Compared,
    /// Where its files are.
    pub folder: PathBuf,
}

/// What is compared with the expected outputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Compared {
    /// Element types, shapes and elements.
    Elements {
        /// Allowed difference of floats, relative to the expected value.
        rtol: f64,
        /// And added to it.
        atol: f64,
    },
    /// Element types and shapes: the elements are random.
    Types,
    /// Element types and shapes, and that a second output says which elements of the first are not 0.
    Mask,
}

/// Cases whose expectations the text of the operator does not support, and why. nnc computes something else, knowingly.
pub const DISPUTED: [(&str, &str); 2] = [
    ("node/test_resize_downsample_scales_linear_align_corners", ALIGN_CORNERS),
    ("node/test_resize_downsample_scales_cubic_align_corners", ALIGN_CORNERS),
];

const ALIGN_CORNERS: &str = "corners are aligned to an extent of 1.2 or 2.4 elements; nnc aligns them to the extent that the \
     result has, as onnxruntime and PyTorch do";

/// Operators whose results are random numbers.
const RANDOM: [&str; 6] =
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"];

/// The folder that `fetch.py` fills.
pub fn folder() -> PathBuf {
    match std::env::var_os("NNC_ONNX_CASES") {
        Some(folder) if !folder.is_empty() => folder.into(),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/onnx-cases"),
    }
}

/// All cases in a folder, by kind and name; `None` when there are none.
///
/// # Errors
///
/// `cases.json` is there and cannot be read.
pub fn cases(folder: &Path) -> io::Result<Option<Vec<OnnxCase>>> {
    let text = match std::fs::read_to_string(folder.join("cases.json")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let list: Value = serde_json::from_str(&text)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "cases.json is not one of fetch.py");
    let entries = list["cases"].as_array().ok_or_else(malformed)?;
    entries.iter().map(|entry| case(entry, folder).ok_or_else(malformed)).collect::<io::Result<_>>().map(Some)
}

fn case(entry: &Value, folder: &Path) -> Option<OnnxCase> {
    let (kind, name, op) = (entry["kind"].as_str()?, entry["name"].as_str()?, entry["op"].as_str()?);
    let check = if RANDOM.contains(&op) {
        Compared::Types
    } else if name.starts_with("test_training_dropout") && !name.contains("zero_ratio") {
        Compared::Mask
    } else {
        Compared::Elements { rtol: entry["rtol"].as_f64()?, atol: entry["atol"].as_f64()? }
    };
    let name = format!("{kind}/{name}");
    let folder = folder.join(&name);
    Some(OnnxCase { name, op: op.to_string(), check, folder })
}
