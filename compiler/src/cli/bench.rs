//! `nnc bench`: how long a program takes, sample by sample.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use nnc::{Pool, Session};

use super::args::{CompileArgs, ThreadArgs};
use super::progress::Progress;
use super::source;
use super::stats::{percentile, timed};
use super::tensors::{Inputs, by_formula, type_of};
use super::units;

/// Runs that are measured even when they take longer than was asked for.
const MIN_RUNS: usize = 5;
/// A stop for programs that take next to no time.
const MAX_RUNS: usize = 1_000_000;

/// Measure how long a model takes: to load, to compile, to run
#[derive(Args, Clone, Debug)]
pub struct Bench {
    /// An ONNX model, or a program compiled by `nnc compile`
    pub model: PathBuf,

    #[command(flatten)]
    pub threads: ThreadArgs,

    /// Go on for so many seconds
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,

    /// Print one JSON object: load_ms, compile_ms, first_ms, runs_ms (every sample), threads, target
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub compile: CompileArgs,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if s > 0.0 && s <= 86_400.0 => Ok(s),
        _ => Err("expected a positive number of seconds".into()),
    }
}

impl Bench {
    /// Runs the command.
    pub fn run(&self, out: &mut dyn Write) -> Result<()> {
        let ready = source::ready(&self.model, &self.compile, None)?;
        let program = &ready.program;
        let tensors = program.inputs().iter().map(|p| by_formula(&type_of(p))).collect::<Result<Vec<_>>>()?;
        let inputs = Inputs::new(program.inputs(), &tensors);
        let inputs = inputs.refs();
        let threads = self.threads.count();
        let mut session = Session::new(program, &Pool::new(threads)?)?;

        let progress = Progress::new("running");
        let (first, first_ms) = timed(|| session.run(&inputs).map(drop));
        first?;
        let mut runs_ms = Vec::new();
        let deadline = Instant::now() + Duration::from_secs_f64(self.seconds);
        while runs_ms.len() < MIN_RUNS || (Instant::now() < deadline && runs_ms.len() < MAX_RUNS) {
            let (run, ms) = timed(|| session.run(&inputs).map(drop));
            run?;
            runs_ms.push(ms);
        }
        drop(progress);

        let target = &program.desc().target;
        if self.json {
            let report = serde_json::json!({
                "model": ready.name,
                "load_ms": ready.load_ms,
                "compile_ms": ready.compile_ms,
                "first_ms": first_ms,
                "runs_ms": runs_ms,
                "threads": threads,
                "target": target,
            });
            writeln!(out, "{report}")?;
            return Ok(());
        }
        writeln!(out, "{} on {target}, {}", ready.name, units::threads(threads))?;
        writeln!(out, "  load     {:>9}", units::ms(ready.load_ms))?;
        if ready.report.is_some() {
            writeln!(out, "  compile  {:>9}", units::ms(ready.compile_ms))?;
        }
        writeln!(out, "  first    {:>9}", units::ms(first_ms))?;
        writeln!(out, "  median   {:>9}   of {} runs", units::ms(percentile(&runs_ms, 50.0)), runs_ms.len())?;
        writeln!(out, "  p5       {:>9}", units::ms(percentile(&runs_ms, 5.0)))?;
        writeln!(out, "  p95      {:>9}", units::ms(percentile(&runs_ms, 95.0)))?;
        Ok(())
    }
}
