//! Many cases, what was done with them, and what was found.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::case::{Case, Cases, Kind};
use super::saved;
use super::shrink::shrink;
use super::stages::Tally;
use super::worker::{MILLISECONDS, Told, Worker, check};

/// Findings of different kinds after which a campaign ends.
const ENOUGH: usize = 8;

/// Time to make each of the two forms of a case smaller.
const SHRINKING: Duration = Duration::from_secs(45);

/// Time between two lines of a long campaign.
const LINES: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// What is tried.
    pub kind: Kind,
    /// The seed.
    pub seed: u64,
    /// The number of the first case.
    pub first: u64,
    /// How many cases, at most.
    pub cases: u64,
    /// For how long, at most.
    pub time: Option<Duration>,
}

/// What has come out.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases that were tried.
    pub tried: u64,
    /// How often each stage was passed.
    pub tally: Tally,
    /// How long it took.
    pub time: Duration,
    /// A paragraph for each finding.
    pub findings: Vec<String>,
}

impl Campaign {
    /// Tries all cases.
    ///
    /// # Errors
    ///
    /// A worker cannot be started.
    pub fn run(&self) -> std::io::Result<Report> {
        let start = Instant::now();
        let mut report = Report::default();
        let mut seen: Vec<String> = Vec::new();
        let last = self.first.saturating_add(self.cases);
        let mut next = self.first;
        let mut line = start;
        while next < last && seen.len() < ENOUGH {
            let left = self.time.map(|time| time.saturating_sub(start.elapsed()));
            if left == Some(Duration::ZERO) {
                break;
            }
            // Without a time, a century.
            let seconds = left.map_or(u64::from(u32::MAX), |left| left.as_secs().max(1));
            let mut arguments = vec!["worker".to_string(), self.kind.name().into()];
            arguments.extend([self.seed, next, last, seconds].map(|n| n.to_string()));
            let mut worker = Worker::start(&arguments)?;
            let found = loop {
                match worker.listen() {
                    Told::Case(_) => report.tried += 1,
                    Told::Counted(what, n) => *report.tally.entry(what).or_default() += n,
                    Told::Found(number, what) => break Some((number, what)),
                    Told::Gone(Some(what)) => break Some((worker.at(), what)),
                    Told::Gone(None) => break None,
                }
                if self.time.is_some() && line.elapsed() >= LINES {
                    line = Instant::now();
                    println!(
                        "{}: {} cases in {} s",
                        self.kind.name(),
                        report.tried,
                        start.elapsed().as_secs()
                    );
                }
            };
            let Some((number, what)) = found else { break };
            next = number + 1;
            if !seen.contains(&signature(&what)) {
                seen.push(signature(&what));
                let finding = self.finding(number, &what);
                println!("{finding}");
                report.findings.push(finding);
            }
        }
        report.time = start.elapsed();
        Ok(report)
    }

    /// Shrinks a failing case and keeps it; a paragraph about it.
    fn finding(&self, number: u64, what: &str) -> String {
        let (kind, seed) = (self.kind.name(), self.seed);
        let mut text = format!("{kind}, case {number} of seed {seed}: {what}\n  again: ");
        text += &format!(
            "NNC_FUZZ_SEED={seed} NNC_FUZZ_CASE={number} cargo test -p nnc-tests --test fuzz -- {kind}\n"
        );
        match self.smallest(number, what) {
            Ok((path, what)) => text + &format!("  shrunk to {}: {what}", path.display()),
            Err(why) => text + &format!("  not shrunk: {why}"),
        }
    }

    fn smallest(&self, number: u64, what: &str) -> Result<(PathBuf, String), String> {
        let name = format!("{}-{}-{number}", self.kind.name(), self.seed);
        let case = Cases::default().make(self.kind, self.seed, number);
        let scratch =
            std::env::temp_dir().join(format!("nnc-fuzz-{}-{name}.{}", std::process::id(), case.ending()));
        let mut said = what.to_string();
        let mut fails = |case: &Case| {
            let written = std::fs::write(&scratch, case.to_bytes(""));
            let Err(again) = written.map_err(|e| e.to_string()).and_then(|()| check(&scratch, Some(number)))
            else {
                return false;
            };
            let alike = signature(&again) == signature(what);
            if alike {
                said = again;
            }
            alike
        };
        let case = shrink(case, SHRINKING, Case::simpler, &mut fails).built();
        let case = shrink(case, SHRINKING, Case::simpler, &mut fails);
        // Nothing depends on it any more.
        let _ = std::fs::remove_file(&scratch);
        let about = format!("Found by fuzzing: case {number} of seed {}.\n{said}", self.seed);
        let path = saved::save(&format!("{name}.{}", case.ending()), &case.to_bytes(&about));
        Ok((path.map_err(|e| e.to_string())?, said))
    }
}

/// What findings of one kind have in common: the stage, or the place of the panic.
fn signature(what: &str) -> String {
    let (stage, details) = what.split_once(": ").unwrap_or((what, ""));
    // Which target and what was forced for it says little.
    match details.find("is off by").or(details.find("other bits")) {
        Some(at) if !stage.starts_with("pass") => details[at..].chars().take(9).collect(),
        _ => stage.to_string(),
    }
}

impl Report {
    /// What was done, in a few lines.
    pub fn summary(&self, kind: Kind) -> String {
        let seconds = self.time.as_secs_f64();
        let cpu = self.tally.get(MILLISECONDS).map_or(0.0, |ms| *ms as f64 / 60_000.0);
        let mut text = format!("{}: {} cases in {seconds:.0} s", kind.name(), self.tried);
        text += &format!(" ({:.1} a second, {cpu:.1} CPU-minutes)", self.tried as f64 / seconds.max(1e-3));
        text += &format!(", {} findings\n", self.findings.len());
        let stages = self.tally.iter().filter(|(what, _)| *what != MILLISECONDS);
        stages.for_each(|(what, n)| text += &format!("  {n:>8}  {what}\n"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::signature;

    #[test]
    fn findings_are_alike_whatever_the_target_and_the_case() {
        let off = "native (Never, Never): y0 (node \"conv3\") is off by 1.4e0";
        assert_eq!(signature(off), signature("x86-64-v4: y1 (node \"add\") is off by 2.0e-1"));
        assert_ne!(signature(off), signature("pass cse: y1 (node \"add\") is off by 2.0e-1"));
        assert_eq!(signature("panic at a.rs:1:2: oh"), "panic at a.rs:1:2");
    }
}
