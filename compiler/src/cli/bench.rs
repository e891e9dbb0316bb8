//! `nnc bench`: how long a program takes, sample by sample.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use nnc::code::tile::programs::dense::Products;
use nnc::roofline::Roofline;
use nnc::target::Target;
use nnc::{CacheUse, Pool, Session};

use super::args::{CacheArgs, CompileArgs, PerfArgs, ThreadArgs, TimingsArgs};
use super::failure::usage;
use super::progress::Progress;
use super::source::{self, How};
use super::stats::{percentile, timed};
use super::tensors::{InputTensors, by_formula, type_of};
use super::timings;
use super::units;

/// Runs that are measured even when they take longer than was asked for.
const MIN_RUNS: usize = 5;
/// A stop for programs that take next to no time.
const MAX_RUNS: usize = 1_000_000;

/// Measure how long a model takes: to load, to compile, to run
#[derive(Args, Clone, Debug)]
pub struct Bench {
    /// An ONNX model, or a program compiled by `nnc compile`
    #[arg(required_unless_present = "roofline")]
    pub model: Option<PathBuf>,

    /// Measure what one core of this machine can do at most, instead of a model
    #[arg(long, conflicts_with = "model")]
    pub roofline: bool,

    #[command(flatten)]
    pub threads: ThreadArgs,

    /// Go on for so many seconds
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,

    /// Print one JSON object: load_ms, compile_ms, cached, first_ms, runs_ms (every sample), threads, target
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub cache: CacheArgs,

    #[command(flatten)]
    pub perf: PerfArgs,

    #[command(flatten)]
    pub timings: TimingsArgs,

    #[command(flatten)]
    pub compile: CompileArgs,
}

/// A number of seconds on the command line.
pub fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if s > 0.0 && s <= 86_400.0 => Ok(s),
        _ => Err("expected a positive number of seconds".into()),
    }
}

impl Bench {
    /// Runs the command.
    pub fn run(&self, out: &mut dyn Write) -> Result<()> {
        let Some(model) = &self.model else { return self.roofline(out) };
        let ready = source::ready(model, &How::from(&self.compile).cache(&self.cache).perf(self.perf), None)?;
        let program = &ready.program;
        let tensors = program.inputs().iter().map(|p| by_formula(&type_of(p))).collect::<Result<Vec<_>>>()?;
        let inputs = InputTensors::new(program.inputs(), &tensors);
        drop(tensors);
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
            let mut report = serde_json::json!({
                "model": ready.name,
                "load_ms": ready.load_ms,
                "compile_ms": ready.compile_ms,
                "cached": matches!(ready.cache, Some(CacheUse::Hit(_))),
                "first_ms": first_ms,
                "runs_ms": runs_ms,
                "threads": threads,
                "target": target,
            });
            if let Some(compiled) = ready.report.as_ref().filter(|_| self.timings.timings) {
                report["timings_ms"] = timings::json(compiled);
            }
            writeln!(out, "{report}")?;
            return Ok(());
        }
        writeln!(out, "{} on {target}, {}", ready.name, units::threads(threads))?;
        writeln!(out, "  load     {:>9}", units::ms(ready.load_ms))?;
        if ready.report.is_some() || ready.cache.is_some() {
            let how = ready.cache_line().map(|line| format!("   {line}")).unwrap_or_default();
            writeln!(out, "  compile  {:>9}{how}", units::ms(ready.compile_ms))?;
        }
        if let Some(report) = ready.report.as_ref().filter(|_| self.timings.timings) {
            timings::show(out, report)?;
        }
        writeln!(out, "  first    {:>9}", units::ms(first_ms))?;
        writeln!(out, "  median   {:>9}   of {} runs", units::ms(percentile(&runs_ms, 50.0)), runs_ms.len())?;
        writeln!(out, "  p5       {:>9}", units::ms(percentile(&runs_ms, 5.0)))?;
        writeln!(out, "  p95      {:>9}", units::ms(percentile(&runs_ms, 95.0)))?;
        Ok(())
    }
    /// The arithmetic peaks of a core, and how fast it reads working sets of several sizes.
    fn roofline(&self, out: &mut dyn Write) -> Result<()> {
        let target = Target::named(self.compile.one_target()?).map_err(nnc::Error::from)?;
        if !target.runs_here() {
            usage!("this machine cannot run code for target \"{}\"", target.name);
        }
        let roofline = Roofline::measure(&target)?;
        let sizes = [16 << 10, 256 << 10, 1 << 20, 8 << 20, 64 << 20, 256 << 20];
        let rates =
            sizes.iter().map(|&size| Ok((size, roofline.read_rate(size)?))).collect::<Result<Vec<_>>>()?;
        let peak = |products| roofline.flops(products);
        if self.json {
            let report = serde_json::json!({
                "target": target.name,
                "flops": peak(Products::Floats),
                "flops_of_bf16_pairs": peak(Products::Halves),
                "ops_of_bytes": peak(Products::Bytes),
                "ops_of_words": peak(Products::Words),
                "ops_of_bytes_in_matrices": roofline.flops_in_matrices(Products::Bytes),
                "flops_of_bf16_in_matrices": roofline.flops_in_matrices(Products::Halves),
                "bytes_per_second": rates.iter().map(|(size, rate)| serde_json::json!({"bytes": size, "rate": rate})).collect::<Vec<_>>(),
            });
            writeln!(out, "{report}")?;
            return Ok(());
        }
        writeln!(out, "one core on {}", target.name)?;
        writeln!(out, "  multiply-adds {:>14.1} GFLOP/s", peak(Products::Floats) / 1e9)?;
        writeln!(out, "  of bf16 pairs {:>14.1} GFLOP/s", peak(Products::Halves) / 1e9)?;
        writeln!(out, "  of bytes {:>19.1} GOP/s", peak(Products::Bytes) / 1e9)?;
        writeln!(out, "  of words {:>19.1} GOP/s", peak(Products::Words) / 1e9)?;
        if target.has_matrices() {
            let peak = |products| roofline.flops_in_matrices(products) / 1e9;
            writeln!(out, "  of bytes in matrices {:>7.1} GOP/s", peak(Products::Bytes))?;
            writeln!(out, "  of bf16 in matrices  {:>7.1} GFLOP/s", peak(Products::Halves))?;
        }
        for (size, rate) in rates {
            writeln!(out, "  reading {:>10} {:>9.1} GB/s", units::bytes(size), rate / 1e9)?;
        }
        Ok(())
    }
}
