//! Models that are malformed, or made to hurt: each is refused with one clear error, or gives a right result.
//!
//! Every case is a model file (and what lies beside it), one line that says what it is, and what must happen. It runs in a
//! process of its own, with a limit of memory and of time. What must never happen: a signal, a panic, a process that goes on
//! for too long or takes too much memory, words on standard output before an error, a file left behind.
//!
//! ```text
//!   wire     bytes that are no sound protocol buffer     shapes   attributes that decide shapes
//!   names    values, operators, cycles                   bombs    small models that ask for much
//!   tensors  constants, external data, exotic types      ends     graph inputs and outputs, NaN
//! ```
//!
//! `cargo test -p nnc --test hostile -- --list` lists the cases; `NNC_HOSTILE=FOLDER` also writes each model to a folder,
//! with a table of what they are.

mod bombs;
mod case;
mod ends;
mod model;
mod names;
mod run;
mod shapes;
mod tensors;
mod wire;

use std::collections::BTreeSet;
use std::path::Path;

use case::Case;
use libtest_mimic::{Arguments, Trial};

/// Fewer cases than this would be a suite that has lost some.
const AT_LEAST: usize = 300;

fn main() {
    let arguments = Arguments::from_args();
    let cases = cases();
    if let Some(folder) = std::env::var_os("NNC_HOSTILE") {
        write(&cases, Path::new(&folder)).expect("the folder can be written to");
    }
    let (number, names) = (cases.len(), cases.iter().map(|case| case.name.clone()).collect::<BTreeSet<_>>());
    let mut trials = vec![Trial::test("the_suite_is_complete", move || {
        match number >= AT_LEAST && names.len() == number {
            true => Ok(()),
            false => Err(format!("{number} cases of {} names", names.len()).into()),
        }
    })];
    let trial = |case: Case| Trial::test(case.name.clone(), move || Ok(run::check(&case)?));
    trials.extend(cases.into_iter().map(trial));
    libtest_mimic::run(&arguments, trials).exit();
}

fn cases() -> Vec<Case> {
    let families: [(&str, fn() -> Vec<Case>); 17] = [
        ("truncation", wire::truncation),
        ("wire", wire::wire),
        ("nesting", wire::nesting),
        ("values", names::values),
        ("operators", names::operators),
        ("initializers", tensors::initializers),
        ("external_data", tensors::external_data),
        ("exotic_types", tensors::exotic_types),
        ("windows", shapes::windows),
        ("shape_operators", shapes::shape_operators),
        ("attributes", shapes::attributes),
        ("large_values", bombs::large_values),
        ("large_numbers", bombs::large_numbers),
        ("control_flow", bombs::control_flow),
        ("graph_ends", ends::graph_ends),
        ("odd_numbers", ends::odd_numbers),
        ("integers", ends::integers),
    ];
    families.iter().flat_map(|(family, cases)| cases().into_iter().map(|case| case.of(family))).collect()
}

/// Writes all models, and a table of what they are.
fn write(cases: &[Case], folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut table = String::new();
    for case in cases {
        let file = format!("{}.onnx", case.name.replace("::", "-"));
        table += &format!("{file}: {}\n", case.about);
        std::fs::write(folder.join(file), &case.model)?;
    }
    std::fs::write(folder.join("README.txt"), table)
}
