//! Runs the file tests in `tests/filetests`, one test for each file.

use std::path::Path;

use libtest_mimic::{Arguments, Failed, Trial};
use nnc_tests::filetest;

fn main() {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests/passes");
    let files = filetest::files(&folder).expect("tests/filetests/passes can be read");
    let trials = files
        .into_iter()
        .map(|path| {
            let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            Trial::test(format!("passes::{name}"), move || filetest::run(&path).map_err(Failed::from))
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
