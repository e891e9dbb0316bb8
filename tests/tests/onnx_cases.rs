//! ONNX's own test cases, and those of ONNX Runtime's operators, compiled and run as a user would.
//!
//! ```text
//! each case ──► passes as tests/onnx/passes.txt says, or is refused with a clear error as before
//!          └──► wrong results and crashes fail always
//! ```
//!
//! `tests/onnx/fetch.py` makes the cases; where they are absent the one trial says so. A table of operators and all
//! refusals goes to `target/onnx-summary.txt`. `NNC_BLESS=1` writes the list anew; an argument selects cases by a part of
//! their names.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libtest_mimic::{Arguments, Conclusion, Failed, FormatSetting, Trial};
use nnc_tests::onnx_cases::{self, CaseList, FETCH, OnnxCase, Outcome, PASSES};

type Outcomes = Arc<Mutex<BTreeMap<String, Outcome>>>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = Arguments::from_args();
    let Some(cases) = onnx_cases::cases(&onnx_cases::folder())? else {
        eprintln!("\nONNX's test cases are not here, so they do not run. To make them: {FETCH}");
        let absent = Trial::test("onnx_cases", || Err(Failed::from(format!("to make them: {FETCH}"))));
        let absent = absent.with_kind("not fetched").with_ignored_flag(true);
        libtest_mimic::run(&arguments, vec![absent]).exit();
    };
    if arguments.format.is_none() && arguments.filter.is_none() {
        arguments.format = Some(FormatSetting::Terse);
    }
    let bless = std::env::var_os("NNC_BLESS").is_some_and(|value| value == "1");
    let list = Arc::new(CaseList::parse(PASSES));
    let outcomes = Outcomes::default();
    // The networks hold up to 1 GiB each: one at a time.
    let network = Arc::new(Mutex::new(()));
    let trials = cases.iter().map(|case| {
        let (case, list, outcomes, network) = (case.clone(), list.clone(), outcomes.clone(), network.clone());
        Trial::test(case.name.clone(), move || {
            let _one = (case.op == "network").then(|| lock(&network));
            let outcome = onnx_cases::run(&case);
            let failed = matches!(outcome, Outcome::Wrong(_) | Outcome::Broken(_));
            let checked = if bless && !failed { Ok(()) } else { list.check(&case.name, &outcome) };
            lock(&outcomes).insert(case.name, outcome);
            checked.map_err(Failed::from)
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    report(&cases, &lock(&outcomes), &conclusion, bless)?;
    conclusion.exit();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the summary, and the list when that is asked for.
fn report(
    cases: &[OnnxCase],
    outcomes: &BTreeMap<String, Outcome>,
    conclusion: &Conclusion,
    bless: bool,
) -> std::io::Result<()> {
    if outcomes.is_empty() {
        return Ok(());
    }
    let summary = onnx_cases::summary(cases, outcomes);
    let (totals, _) = summary.split_once("\n\noperator").unwrap_or((&summary, ""));
    println!("{totals}");
    if conclusion.num_filtered_out > 0 {
        if bless {
            println!("the list is as it was: it is written only when all cases run");
        }
        return Ok(());
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/onnx-summary.txt");
    std::fs::write(&file, &summary)?;
    println!("operators and refusals: target/onnx-summary.txt");
    if bless {
        println!("written: {}", CaseList::of(outcomes).write()?.display());
    }
    Ok(())
}
