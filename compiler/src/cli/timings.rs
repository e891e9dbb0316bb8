//! What the time to compile goes into, for `--timings`.

use std::io::Write;

use nnc::CompileReport;
use serde_json::{Value, json};

use super::stats;
use super::units;

/// The most passes that are shown by their names.
const PASSES: usize = 3;

/// A line for each stage, with its share of the whole.
pub fn show(out: &mut dyn Write, report: &CompileReport) -> std::io::Result<()> {
    let stages = report.times.stages();
    let whole: f64 = stages.iter().map(|(_, time)| stats::ms(*time)).sum();
    let mut heading = "timings";
    for (name, time) in stages {
        let time = stats::ms(time);
        write!(
            out,
            "{heading:<8} {name:<8} {:>9}  {:>3.0} %",
            units::ms(time),
            100.0 * time / whole.max(1e-9)
        )?;
        if name == "passes" {
            write!(out, "  {}", slowest(report))?;
        }
        writeln!(out)?;
        heading = "";
    }
    writeln!(out, "{heading:<8} {:<8} {:>9}", "in all", units::ms(whole))
}

/// The passes that took longest.
fn slowest(report: &CompileReport) -> String {
    let mut passes: Vec<_> = report.passes.passes.iter().map(|pass| (pass.time, pass.name)).collect();
    passes.sort_by_key(|pass| std::cmp::Reverse(pass.0));
    let named =
        passes.iter().take(PASSES).map(|(time, name)| format!("{name} {}", units::ms(stats::ms(*time))));
    named.collect::<Vec<_>>().join(", ")
}

/// Milliseconds of each stage.
pub fn json(report: &CompileReport) -> Value {
    let mut all: serde_json::Map<String, Value> =
        report.times.stages().into_iter().map(|(name, time)| (name.into(), json!(stats::ms(time)))).collect();
    let passes = report.passes.passes.iter().map(|pass| (pass.name.to_string(), json!(stats::ms(pass.time))));
    all.insert("each_pass".into(), Value::Object(passes.collect()));
    Value::Object(all)
}
