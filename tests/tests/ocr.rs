//! PP-OCR v4 as a whole reads pages as it does with onnxruntime: detector, classifier and recogniser, at whatever shapes they get.
//!
//! `tests/trained/ocr.py` runs the pipeline of `rapidocr-onnxruntime` twice, once with its sessions replaced by
//! [`nnc::DynamicModel`]s in processes of this program ([`nnc_tests::serve`]), and compares what is read. The package is not part of the
//! repository; `tests/trained/fetch.py` gets it. Where it is absent the test is shown as ignored, with the command to run.

use std::path::Path;
use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};

/// What gets the package.
const FETCH: &str = "python3 tests/trained/fetch.py";
/// How often each page is read; more than once tells how long the sessions take without compiling.
const ROUNDS: &str = "NNC_OCR_ROUNDS";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, model] = arguments.as_slice()
        && serve == "serve"
    {
        nnc_tests::serve::run(model).unwrap_or_else(|error| panic!("{model}: {error}"));
        return;
    }
    let arguments = Arguments::from_args();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let environment = here.join("../target/ocr-venv");
    let absent = !environment.join("installed").is_file();
    if absent {
        eprintln!(
            "\nthe package that reads pages is not here, so its test does not run: there is no {}.\n\
             To fetch it: {FETCH}",
            environment.display()
        );
    }
    let trial = Trial::test("pages_are_read_as_with_onnxruntime", move || {
        let python = environment.join("bin/python");
        let own = std::env::current_exe()?;
        let rounds = std::env::var(ROUNDS).unwrap_or_else(|_| "1".into());
        let run = Command::new(&python)
            .arg(here.join("trained/ocr.py"))
            .args([own.as_os_str(), "--rounds".as_ref(), rounds.as_ref()])
            .output()
            .map_err(|error| format!("{} does not run: {error}; to install it: {FETCH}", python.display()))?;
        let told = String::from_utf8_lossy(&run.stdout).into_owned();
        print!("{told}");
        match run.status.success() {
            true => Ok(()),
            false => Err(Failed::from(told + &String::from_utf8_lossy(&run.stderr))),
        }
    });
    let kind = if absent { "not fetched" } else { "" };
    libtest_mimic::run(&arguments, vec![trial.with_kind(kind).with_ignored_flag(absent)]).exit();
}
