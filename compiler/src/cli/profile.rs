//! `nnc profile`: where the time goes, step by step, and how far each step is from what this machine can do.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};
use nnc::roofline::Roofline;
use nnc::target::Target;
use nnc::{Pool, Session};
use serde_json::json;

use super::args::{CompileArgs, PerfArgs, ThreadArgs};
use super::bench::seconds;
use super::failure::usage;
use super::output::Output;
use super::progress::Progress;
use super::source::{self, How, Ready, StepWork};
use super::stats::percentile;
use super::table;
use super::tensors::{InputTensors, by_formula, type_of};
use super::units;

/// Runs that are measured even when they take longer than was asked for.
const MIN_RUNS: usize = 5;
/// A stop for programs that take next to no time.
const MAX_RUNS: usize = 20_000;

/// Show where the time of a model goes: each step's time, rate, and share of what this machine could do
///
/// The limit of a step is its multiply-accumulates at the peak of the cores for what it multiplies (floats, pairs of bf16, bytes or
/// words), or its bytes at the rate at which they read working sets of the program's size, whichever takes longer; all are measured first. Shares are those of the fastest
/// run or, with several threads, of the median one. Layers by Winograd's algorithm need fewer products than are counted,
/// and data that are still in a near cache come faster, so a share can exceed 100 %.
#[derive(Args, Clone, Debug)]
pub struct Profile {
    /// An ONNX model, or a program compiled by `nnc compile` (which knows times only)
    pub model: PathBuf,

    #[command(flatten)]
    pub threads: ThreadArgs,

    /// Go on for so many seconds
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    pub seconds: f64,

    /// How to sort the steps
    #[arg(long, value_enum, default_value_t = Sort::Time)]
    pub sort: Sort,

    /// Print so many steps only
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// Write one run as a trace for chrome://tracing or Perfetto
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,

    #[command(flatten)]
    pub perf: PerfArgs,

    #[command(flatten)]
    pub compile: CompileArgs,
}

/// Orders of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// The longest first
    Time,
    /// Those with the most time beyond their limit first
    Excess,
    /// As they run
    Order,
}

/// A step, measured.
struct Measured {
    name: String,
    work: Option<StepWork>,
    /// The fastest and the median run, in nanoseconds.
    best: f64,
    median: f64,
    /// The one of both that counts. A step's time is measured where it is called: with several threads, one run's may be too
    /// short because others began before the caller was back from the step before, whose time is too long then.
    time: f64,
    /// What it could take at best, in nanoseconds.
    limit: Option<f64>,
}

impl Measured {
    fn excess(&self) -> f64 {
        self.time - self.limit.unwrap_or(0.0)
    }
}

impl Profile {
    /// Runs the command.
    pub fn run(&self, out: &mut dyn Write) -> Result<()> {
        let trace = self.trace.as_deref().map(|path| Output::check(path, &[&self.model])).transpose()?;
        let ready = source::ready(&self.model, &How::from(&self.compile).perf(self.perf), None)?;
        let threads = self.threads.count();
        let (runs, whole) = self.measure(&ready, threads)?;
        let rows = rows(&ready, &runs, threads)?;

        if let Some(trace) = &trace {
            trace.write(chrome_trace(&rows).to_string().as_bytes())?;
        }
        match self.json {
            true => self.as_json(out, &ready, &rows, &whole, threads)?,
            false => self.as_table(out, &ready, &rows, &whole, threads)?,
        }
        if let (Some(trace), false) = (&trace, self.json) {
            writeln!(out, "trace    {}", trace.path().display())?;
        }
        Ok(())
    }

    /// Nanoseconds of each step in each run, and of whole runs in between that were not profiled.
    fn measure(&self, ready: &Ready, threads: usize) -> Result<(Vec<Vec<u64>>, Vec<f64>)> {
        let program = &ready.program;
        let tensors = program.inputs().iter().map(|p| by_formula(&type_of(p))).collect::<Result<Vec<_>>>()?;
        let inputs = InputTensors::new(program.inputs(), &tensors);
        let inputs = inputs.refs();
        let mut session = Session::new(program, &Pool::new(threads)?)?;
        let _progress = Progress::new("running");
        session.run(&inputs)?;
        let (mut runs, mut whole) = (Vec::new(), Vec::new());
        let deadline = Instant::now() + Duration::from_secs_f64(self.seconds);
        while runs.len() < MIN_RUNS || (Instant::now() < deadline && runs.len() < MAX_RUNS) {
            let start = Instant::now();
            session.run(&inputs)?;
            whole.push(start.elapsed().as_nanos() as f64);
            runs.push(session.run_profiled(&inputs)?.to_vec());
        }
        Ok((runs, whole))
    }

    fn as_table(
        &self,
        out: &mut dyn Write,
        ready: &Ready,
        rows: &[Measured],
        whole: &[f64],
        threads: usize,
    ) -> Result<()> {
        let total: f64 = rows.iter().map(|r| r.time).sum();
        let mut table = table::new([
            "step", "op", "result", "kind", "time", "of all", "MACC", "GFLOP/s", "bytes", "GB/s", "of limit",
        ]);
        table::numbers(&mut table, &[4, 5, 6, 7, 8, 9, 10]);
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        for row in self.chosen(rows) {
            let name = table::name(&row.name);
            let mut cells = vec![name, String::new(), String::new(), String::new(), microseconds(row.time)];
            cells.push(format!("{:.1} %", row.time / total * 100.0));
            if let Some(work) = &row.work {
                cells[1..4].clone_from_slice(&[work.op.clone(), work.result.clone(), work.kind.to_string()]);
                let arithmetic = match work.macc {
                    0 => [String::new(), String::new()],
                    n => [units::count(n), format!("{:.1}", 2.0 * n as f64 / row.time)],
                };
                cells.extend(arithmetic);
                cells.extend([units::bytes(work.bytes()), format!("{:.1}", work.bytes() as f64 / row.time)]);
                cells.push(row.limit.map_or(String::new(), |limit| percent(limit / row.time)));
            }
            table.add_row(cells);
        }
        writeln!(out, "{} on {}, {}\n", ready.name, ready.program.desc().target, units::threads(threads))?;
        writeln!(out, "{}\n", table.trim_fmt())?;
        let plain = percentile(whole, 0.0);
        write!(
            out,
            "total    {} in {} steps, each at its {}; a whole run {} at its fastest",
            units::ms(total / 1e6),
            rows.len(),
            if threads == 1 { "fastest" } else { "median" },
            units::ms(plain / 1e6)
        )?;
        let limit: f64 = rows.iter().filter_map(|r| r.limit).sum();
        match limit > 0.0 {
            true => writeln!(out, ", {} of its limit", percent(limit / plain))?,
            false => writeln!(out)?,
        }
        Ok(())
    }

    fn chosen<'r>(&self, rows: &'r [Measured]) -> Vec<&'r Measured> {
        let mut chosen: Vec<&Measured> = rows.iter().collect();
        match self.sort {
            Sort::Time => chosen.sort_by(|a, b| b.time.total_cmp(&a.time)),
            Sort::Excess => chosen.sort_by(|a, b| b.excess().total_cmp(&a.excess())),
            Sort::Order => {}
        }
        chosen.truncate(self.top.unwrap_or(usize::MAX));
        chosen
    }

    fn as_json(
        &self,
        out: &mut dyn Write,
        ready: &Ready,
        rows: &[Measured],
        whole: &[f64],
        threads: usize,
    ) -> Result<()> {
        let steps: Vec<_> = self
            .chosen(rows)
            .into_iter()
            .map(|row| {
                let work = row.work.as_ref();
                json!({
                    "name": row.name,
                    "op": work.map(|w| &w.op),
                    "result": work.map(|w| &w.result),
                    "kind": work.map(|w| w.kind),
                    "best_ns": row.best,
                    "median_ns": row.median,
                    "limit_ns": row.limit,
                    "macc": work.map(|w| w.macc),
                    "bytes_read": work.map(|w| w.read),
                    "bytes_written": work.map(|w| w.written),
                })
            })
            .collect();
        let report = json!({
            "model": ready.name,
            "target": ready.program.desc().target,
            "threads": threads,
            "runs": whole.len(),
            "best_ms": percentile(whole, 0.0) / 1e6,
            "median_ms": percentile(whole, 50.0) / 1e6,
            "steps": steps,
        });
        writeln!(out, "{report:#}")?;
        Ok(())
    }
}

/// Statistics of each step, and its limit on so many cores.
fn rows(ready: &Ready, runs: &[Vec<u64>], threads: usize) -> Result<Vec<Measured>> {
    let desc = ready.program.desc();
    let peaks = match ready.work.is_empty() {
        true => None,
        false => Some(Peaks::measure(ready, threads)?),
    };
    let row = |(at, step): (usize, &nnc_runtime::abi::Step)| {
        let samples: Vec<f64> = runs.iter().filter_map(|run| run.get(at)).map(|&ns| ns as f64).collect();
        let work = ready.work.get(at).cloned();
        let limit = peaks.as_ref().zip(work.as_ref()).map(|(peaks, work)| peaks.nanoseconds(work));
        let (best, median) = (percentile(&samples, 0.0), percentile(&samples, 50.0));
        let time = if threads == 1 { best } else { median };
        Measured { name: step.name.clone(), work, best, median, time, limit }
    };
    Ok(desc.steps.iter().enumerate().map(row).collect())
}

/// What the machine can do, in operations and bytes a nanosecond.
struct Peaks {
    roofline: Roofline,
    cores: f64,
    activations: f64,
    weights: f64,
}

impl Peaks {
    fn measure(ready: &Ready, threads: usize) -> Result<Peaks> {
        let desc = ready.program.desc();
        let target = Target::named(&desc.target)?;
        if !target.runs_here() {
            usage!("this machine cannot run code for target \"{}\"", target.name);
        }
        let roofline = Roofline::measure(&target)?;
        let rate = |bytes: u64| -> Result<f64> { Ok(roofline.read_rate(bytes)? / 1e9 * threads as f64) };
        let (activations, weights) = (rate(desc.arena_bytes)?, rate(desc.const_bytes)?);
        Ok(Peaks { roofline, cores: threads as f64, activations, weights })
    }

    fn nanoseconds(&self, work: &StepWork) -> f64 {
        let weights = work.weights();
        let activations = work.bytes().saturating_sub(weights);
        let data = activations as f64 / self.activations + weights as f64 / self.weights;
        let flops = match work.in_matrices {
            true => self.roofline.flops_in_matrices(work.products),
            false => self.roofline.flops(work.products),
        };
        let flops = flops / 1e9 * self.cores;
        data.max(2.0 * work.macc as f64 / flops)
    }
}

/// One run of median steps, one behind the other, in the format of Chrome's trace viewer (times in microseconds).
fn chrome_trace(rows: &[Measured]) -> serde_json::Value {
    let mut start = 0.0;
    let events: Vec<_> = rows
        .iter()
        .map(|row| {
            let event = json!({
                "name": row.name,
                "cat": row.work.as_ref().map_or("step", |w| w.kind),
                "ph": "X",
                "ts": start / 1e3,
                "dur": row.median / 1e3,
                "pid": 1,
                "tid": 1,
                "args": {
                    "result": row.work.as_ref().map(|w| &w.result),
                    "macc": row.work.as_ref().map(|w| w.macc),
                    "limit_us": row.limit.map(|limit| limit / 1e3),
                },
            });
            start += row.median;
            event
        })
        .collect();
    json!({"displayTimeUnit": "ns", "traceEvents": events})
}

fn microseconds(ns: f64) -> String {
    format!("{:.1} µs", ns / 1e3)
}
