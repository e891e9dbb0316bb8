//! Passes on small graphs in text, and plans of them: a test for each file in `passes` and in `plans`, and one for each guard of a pass
//! that random graphs can break.

mod chains;
mod filetest;
mod planned;

use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = of_folder("passes", filetest::run);
    trials.extend(of_folder("plans", planned::run));
    trials.push(Trial::test("chains_of_pads_and_slices_stay_what_they_are", || {
        chains::stay_what_they_are().map_err(Failed::from)
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

/// A test for each file in a folder.
fn of_folder(name: &'static str, run: fn(&Path) -> Result<(), String>) -> Vec<Trial> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests").join(name);
    let files = filetest::files(&folder).expect("the file tests can be read");
    let trial = |path: PathBuf| {
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        Trial::test(format!("{name}::{stem}"), move || run(&path).map_err(Failed::from))
    };
    files.into_iter().map(trial).collect()
}
