//! Random networks and random models, through the whole compiler: a fixed number of cases, or for as long as one likes.
//!
//! ```text
//! cargo test -p nnc-tests --test fuzz                          the same cases each time, in a minute
//! NNC_FUZZ_SECONDS=720 cargo test -p nnc-tests --test fuzz     both kinds side by side, twelve minutes each
//!   NNC_FUZZ_SEED=7                                            other cases (the seed is 1 otherwise)
//!   NNC_FUZZ_CASE=123                                          this case alone
//! ```
//!
//! What fails is shrunk and kept in `filetests/fuzz`, whose files are all replayed by this test.

use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use nnc::passes::PASSES;
use nnc_tests::fuzz::campaign::Campaign;
use nnc_tests::fuzz::case::Kind;
use nnc_tests::fuzz::{saved, worker};

/// Cases of each kind, without a time.
const CASES: [(Kind, u64); 2] = [(Kind::Networks, 240), (Kind::Models, 1500)];

/// What these cases must have come through, so that they mean something; networks also give every pass some work.
const NETWORKS: [&str; 6] = ["text", "passes", "winograd", "strips", "artefact", "jit native"];
const MODELS: [&str; 4] = ["refused: parse", "refused: import", "imported", "artefact"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if worker::serve(&arguments) {
        return;
    }
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = CASES
        .into_iter()
        .map(|(kind, cases)| Trial::test(kind.name(), move || campaign(kind, cases)))
        .collect();
    let files = saved::files().expect("tests/filetests/fuzz can be read");
    trials.extend(files.into_iter().map(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Trial::test(format!("saved::{name}"), move || Ok(worker::check(&path, None)?))
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

fn campaign(kind: Kind, cases: u64) -> Result<(), libtest_mimic::Failed> {
    let asked = |name: &str| {
        std::env::var(name).ok().map(|n| n.parse::<u64>().map_err(|e| format!("{name}: {e}"))).transpose()
    };
    let seed = asked("NNC_FUZZ_SEED")?.unwrap_or(1);
    let (case, seconds) = (asked("NNC_FUZZ_CASE")?, asked("NNC_FUZZ_SECONDS")?);
    let time = seconds.map(Duration::from_secs);
    let cases = match (case, time) {
        (Some(_), _) => 1,
        (None, Some(_)) => u64::MAX,
        (None, None) => cases,
    };
    let report = Campaign { kind, seed, first: case.unwrap_or(0), cases, time }.run()?;
    println!("{}", report.summary(kind));
    if !report.findings.is_empty() {
        return Err(report.findings.join("\n").into());
    }
    let mut wanted: Vec<String> = vec![];
    match kind {
        Kind::Networks => {
            wanted.extend(NETWORKS.map(String::from));
            wanted.extend(PASSES.iter().map(|pass| format!("pass {}", pass.name)));
        }
        Kind::Models => wanted.extend(MODELS.map(String::from)),
    }
    wanted.retain(|stage| !report.tally.contains_key(stage));
    match case.is_none() && !wanted.is_empty() {
        true => Err(format!("no case has come through {wanted:?}").into()),
        false => Ok(()),
    }
}
