//! What the outcomes say about operators: how many cases of each pass, and why the others do not.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::sets::SETS;
use super::{OnnxCase, Outcome};

/// Refusals that a row names.
const NAMED: usize = 3;

#[derive(Default)]
struct Row {
    total: usize,
    passed: usize,
    bound: usize,
    failed: usize,
    disputed: usize,
    refusals: BTreeMap<String, usize>,
}

/// The table, those operators first of which most cases are refused, and then every case that is refused or fails.
pub fn summary(cases: &[OnnxCase], outcomes: &BTreeMap<String, Outcome>) -> String {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, Row> = BTreeMap::new();
    let mut list = String::new();
    for case in cases {
        let Some(outcome) = outcomes.get(&case.name) else {
            continue;
        };
        let kind = case.name.split('/').next().unwrap_or_default();
        for row in [rows.entry(&case.op).or_default(), kinds.entry(kind).or_default()] {
            row.add(outcome);
        }
        match outcome {
            Outcome::Pass(_) => {}
            Outcome::Refused(error) => _ = writeln!(list, "refused {}: {error}", case.name),
            Outcome::Disputed(why) => _ = writeln!(list, "disputed {}: {why}", case.name),
            Outcome::Wrong(what) => _ = writeln!(list, "WRONG   {}: {what}", case.name),
            Outcome::Broken(what) => _ = writeln!(list, "BROKEN  {}: {what}", case.name),
        }
    }
    let mut text = String::new();
    for (kind, row) in &kinds {
        let Row { total, passed, bound, failed, disputed, .. } = row;
        let refused = total - passed - failed - disputed;
        let _ = writeln!(
            text,
            "{kind}: {passed} of {total} pass, {bound} of them with inputs bound at compile time; {refused} are refused, {disputed} are disputed, {failed} fail"
        );
    }
    text.push('\n');
    for set in SETS {
        let members: Vec<&OnnxCase> = cases.iter().filter(|case| set.contains(case)).collect();
        let passed = members.iter().filter(|case| matches!(outcomes.get(&case.name), Some(Outcome::Pass(_))));
        let _ = writeln!(text, "{}: {} of {} pass", set.name, passed.count(), members.len());
    }
    let _ = writeln!(
        text,
        "\n{:<26} {:>5} {:>5} {:>5}  most frequent refusals",
        "operator", "pass", "of", "fail"
    );
    let mut rows: Vec<(&str, Row)> = rows.into_iter().collect();
    rows.sort_by_key(|(op, row)| (Reverse(row.total - row.passed), *op));
    for (op, row) in &rows {
        let _ = writeln!(
            text,
            "{op:<26} {:>5} {:>5} {:>5}  {}",
            row.passed,
            row.total,
            row.failed,
            row.frequent().join("; ")
        );
    }
    format!("{text}\n{list}")
}

impl Row {
    fn add(&mut self, outcome: &Outcome) {
        self.total += 1;
        match outcome {
            Outcome::Pass(bound) => {
                self.passed += 1;
                self.bound += usize::from(!bound.is_empty());
            }
            Outcome::Refused(error) => *self.refusals.entry(reason(error)).or_default() += 1,
            Outcome::Disputed(_) => self.disputed += 1,
            Outcome::Wrong(_) | Outcome::Broken(_) => self.failed += 1,
        }
    }

    fn frequent(&self) -> Vec<String> {
        let mut all: Vec<_> = self.refusals.iter().collect();
        all.sort_by_key(|(_, count)| Reverse(**count));
        all.into_iter().take(NAMED).map(|(reason, count)| format!("{count}× {reason}")).collect()
    }
}

/// A refusal without the names of its model, node and values, so that equal reasons have equal texts.
fn reason(error: &str) -> String {
    let error = error.strip_prefix("model.onnx: ").unwrap_or(error);
    let error =
        error.split_once("): ").filter(|_| error.starts_with("node ")).map_or(error, |(_, fault)| fault);
    let unquoted: Vec<&str> = error.split('"').step_by(2).collect();
    let text = unquoted.join("…");
    text.chars().take(110).collect()
}
