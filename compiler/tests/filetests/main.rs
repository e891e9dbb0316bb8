//! Passes on small graphs in text: a test for each file in `passes`, and one for each guard of a pass that random graphs can break.

mod chains;
mod filetest;

use std::path::Path;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests/passes");
    let files = filetest::files(&folder).expect("the file tests can be read");
    let mut trials: Vec<Trial> = files
        .into_iter()
        .map(|path| {
            let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            Trial::test(format!("passes::{name}"), move || filetest::run(&path).map_err(Failed::from))
        })
        .collect();
    trials.push(Trial::test("chains_of_pads_and_slices_stay_what_they_are", || {
        chains::stay_what_they_are().map_err(Failed::from)
    }));
    libtest_mimic::run(&arguments, trials).exit();
}
