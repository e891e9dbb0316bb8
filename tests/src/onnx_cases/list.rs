//! The committed list of cases that pass: `tests/onnx/passes.txt`.
//!
//! ```text
//!   node/test_relu
//!   node/test_reshape_reduced_dims: shape        the input `shape` is bound at compile time
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{fs, io};

use super::Outcome;

/// What writes the list anew.
const BLESS: &str = "NNC_BLESS=1 cargo test -p nnc-tests --test onnx_cases";

/// The list as it is committed.
pub const PASSES: &str = include_str!("../../onnx/passes.txt");

/// Cases that pass, each with the inputs that are bound at compile time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CaseList(BTreeMap<String, Vec<String>>);

impl CaseList {
    /// Reads a list; lines that start with `#` are remarks.
    pub fn parse(text: &str) -> CaseList {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        CaseList(
            lines
                .map(|line| {
                    let (name, bound) = line.split_once(':').unwrap_or((line, ""));
                    (name.to_string(), bound.split_whitespace().map(String::from).collect())
                })
                .collect(),
        )
    }

    /// The list of the cases that passed.
    pub fn of(outcomes: &BTreeMap<String, Outcome>) -> CaseList {
        let passed = outcomes.iter().filter_map(|(name, outcome)| match outcome {
            Outcome::Pass(bound) => Some((name.clone(), bound.clone())),
            _ => None,
        });
        CaseList(passed.collect())
    }

    /// Whether a case is in it.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether a case ended as the list says.
    ///
    /// # Errors
    ///
    /// It did not, or it ended in a way that no case may: the text says what to do.
    pub fn check(&self, name: &str, outcome: &Outcome) -> Result<(), String> {
        match (outcome, self.0.get(name)) {
            (Outcome::Wrong(what), _) => Err(format!("wrong: {what}")),
            (Outcome::Broken(what), _) => Err(format!("broken: {what}")),
            (Outcome::Pass(bound), Some(listed)) if bound == listed => Ok(()),
            (Outcome::Pass(bound), Some(listed)) => Err(format!(
                "passes with {bound:?} bound at compile time, the list has {listed:?}; to write the list anew: {BLESS}"
            )),
            (Outcome::Pass(_), None) => {
                Err(format!("passes and is not in the list; to write the list anew: {BLESS}"))
            }
            (Outcome::Disputed(why), Some(_)) => Err(format!("is in the list, but is disputed: {why}")),
            (Outcome::Disputed(_), None) => Ok(()),
            (Outcome::Refused(error), Some(_)) => Err(format!("passed before, and is refused now: {error}")),
            (Outcome::Refused(_), None) => Ok(()),
        }
    }

    /// Writes the committed file.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self) -> io::Result<PathBuf> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("onnx/passes.txt");
        let mut text = format!(
            "# ONNX's own test cases and those of contrib.py that pass, and after a colon the inputs that are bound at compile time.\n\
             # Written by `{BLESS}`.\n"
        );
        for (name, bound) in &self.0 {
            let colon = if bound.is_empty() { "" } else { ": " };
            let _ = writeln!(text, "{name}{colon}{}", bound.join(" "));
        }
        fs::write(&path, text)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_gets_better_or_worse_fails_until_the_list_says_so() {
        let list = CaseList::parse("# remark\nnode/a\nnode/b: shape axes\n");
        let pass = |bound: &[&str]| Outcome::Pass(bound.iter().map(ToString::to_string).collect());
        assert!(list.check("node/a", &pass(&[])).is_ok());
        assert!(list.check("node/b", &pass(&["shape", "axes"])).is_ok());
        assert!(list.check("node/c", &Outcome::Refused("no".into())).is_ok());
        assert!(list.check("node/a", &pass(&["shape"])).unwrap_err().contains("anew"));
        assert!(list.check("node/c", &pass(&[])).unwrap_err().contains("anew"));
        assert!(list.check("node/a", &Outcome::Refused("no".into())).unwrap_err().contains("passed before"));
    }

    #[test]
    fn wrong_and_broken_cases_fail_whatever_the_list_says() {
        let list = CaseList::parse("node/a");
        for name in ["node/a", "node/b"] {
            assert!(list.check(name, &Outcome::Wrong("1".into())).is_err());
            assert!(list.check(name, &Outcome::Broken("panic".into())).is_err());
        }
    }
}
