//! `nnc run`: a model on a picture or on arrays. Without arguments, a seed network on the picture that comes with nnc.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use nnc::{CompileReport, Model, Options, Pool, Session};
use nnc_ir::{Tensor, TensorType};
use nnc_runtime::abi::Port;
use serde_json::{Value, json};

use super::args::{CacheArgs, CompileArgs, PerfArgs, ThreadArgs, TimingsArgs, named_file};
use super::failure::usage;
use super::labels::Labels;
use super::output::Arrays;
use super::picture::PictureArgs;
use super::progress::Progress;
use super::results::Presentation;
use super::shots::{Shot, shots};
use super::slow;
use super::source::{self, How, Ready};
use super::stats::{percentile, timed};
use super::tensors::{self, InputTensors, type_of};
use super::timings;
use super::units;

/// The network that runs when none is named.
const DEFAULT_MODEL: &str = "mobilenet-v2";

/// Run a model on pictures or on arrays; without arguments, a built-in one on a built-in picture
///
/// Several pictures are taken as many at a time as the batch of the model's input has; each then has a row of its own in the results.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// An ONNX model, or a program compiled by `nnc compile`
    pub model: Option<PathBuf>,

    /// An array for an input (repeatable)
    #[arg(long = "input", value_name = "NAME=FILE.npy", value_parser = named_file)]
    pub inputs: Vec<(String, PathBuf)>,

    #[command(flatten)]
    pub picture: PictureArgs,

    /// Write all outputs to a file, as arrays named like them; .npy for a model of one output, - for standard output
    #[arg(long, value_name = "FILE.npz")]
    pub output: Option<PathBuf>,

    /// Print so many classes
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub top: usize,

    /// Names of the classes: one a line, or JSON
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,

    /// Run so many times, to see how long it takes once it is warm
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,

    /// Print one JSON object
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,

    /// Print results only
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub threads: ThreadArgs,

    #[command(flatten)]
    pub cache: CacheArgs,

    #[command(flatten)]
    pub perf: PerfArgs,

    #[command(flatten)]
    pub timings: TimingsArgs,

    #[command(flatten)]
    pub compile: CompileArgs,
}

/// One run: what went in, and what came out.
struct Ran {
    /// What the pictures are called, one for each member of the batch; empty without pictures.
    pictures: Vec<String>,
    batch: usize,
    outputs: Vec<(String, Tensor)>,
    /// How long each repetition took, in milliseconds.
    times_ms: Vec<f64>,
}

/// Where the inputs of a program come from.
struct Feed<'a> {
    arrays: BTreeMap<String, Tensor>,
    /// The input that takes pictures, and the pictures of each run.
    pictures: Option<(&'a Port, Vec<Vec<Shot>>)>,
}

impl Run {
    /// Runs the command.
    pub fn run(&self, out: &mut dyn Write) -> Result<()> {
        // All that can be wrong without computing anything comes first.
        let mut read: Vec<&Path> = self.inputs.iter().map(|(_, file)| file.as_path()).collect();
        read.extend(self.model.as_deref());
        read.extend(self.picture.images.iter().map(PathBuf::as_path));
        let arrays = self.output.as_deref().map(|path| Arrays::check(path, &read)).transpose()?;
        let labels = self.labels.as_deref().map(Labels::read).transpose()?.unwrap_or_default();
        let mut shots = shots(&self.picture.images)?;
        if shots.is_empty() && self.model.is_none() && self.inputs.is_empty() {
            shots.push(Shot::BuiltIn);
        }

        let given = tensors::read_inputs(&self.inputs)?;
        let to_stdout = arrays.as_ref().is_some_and(Arrays::is_stdout);
        let speaks = !self.json && !self.quiet && !to_stdout;
        let ready = match &self.model {
            Some(path) => source::ready(path, &self.how().arrays(&given), Some(&self.picture))?,
            None => self.seed()?,
        };
        if let Some(report) = &ready.report {
            slow::warn(&report.slow);
        }
        if speaks && self.model.is_none() {
            writeln!(
                out,
                "model    {DEFAULT_MODEL}, built in; its weights are random, so its classes mean nothing"
            )?;
        }
        let feed = self.feed(&ready, given, shots)?;
        let threads = self.threads.count();
        let mut session = Session::new(&ready.program, &Pool::new(threads)?)?;
        let mut runs = Vec::new();
        for index in 0..feed.pictures.as_ref().map_or(1, |(_, runs)| runs.len()) {
            let ran = self.once(&ready, &mut session, &feed, index)?;
            if !self.json && !to_stdout {
                if let Some((port, _)) = &feed.pictures
                    && (speaks || feed.pictures.as_ref().is_some_and(|(_, runs)| runs.len() > 1))
                {
                    let gap = if index > 0 { "\n" } else { "" };
                    let names = ran.pictures.join(", ");
                    writeln!(out, "{gap}picture  {names} as input \"{}\", {}", port.name, type_of(port))?;
                }
                if speaks {
                    writeln!(out)?;
                }
                self.presentation(&labels, &ran).print(out, &ran.outputs)?;
                out.flush()?;
            }
            runs.push(ran);
        }
        if self.json {
            writeln!(out, "{:#}", self.as_json(&ready, &labels, &runs, threads)?)?;
        }
        if speaks {
            if let Some(report) = &ready.report {
                writeln!(out)?;
                fused(out, report)?;
            }
            writeln!(out)?;
            let times: Vec<f64> = runs.iter().flat_map(|run| run.times_ms.iter().copied()).collect();
            show_times(out, &ready, &times, threads)?;
            if let Some(report) = ready.report.as_ref().filter(|_| self.timings.timings) {
                timings::show(out, report)?;
            }
            if let Some(line) = ready.cache_line() {
                writeln!(out, "cache    {line}")?;
            }
        }
        if let Some(arrays) = &arrays {
            arrays.write(&joined(runs)?)?;
            if speaks {
                writeln!(out, "outputs  {}", arrays.path().display())?;
            }
        }
        Ok(())
    }

    fn how(&self) -> How<'_> {
        How::from(&self.compile).cache(&self.cache).perf(self.perf)
    }

    /// The built-in network, compiled.
    fn seed(&self) -> Result<Ready> {
        let progress = Progress::new("building the built-in model");
        let bytes = nnc_models::encode(&nnc_models::Spec::new(DEFAULT_MODEL))?;
        let (model, load_ms) = timed(|| Model::from_bytes(bytes));
        let options: Options = self.how().options()?;
        source::compiled(DEFAULT_MODEL.into(), &model?, load_ms, &options, None, &progress)
    }

    /// Who gives what to which input: `--input`, and the pictures to the one that is left.
    fn feed<'a>(&self, ready: &'a Ready, given: Vec<(String, Tensor)>, shots: Vec<Shot>) -> Result<Feed<'a>> {
        let ports = ready.program.inputs();
        tensors::check_inputs(ports, &given, &self.inputs)?;
        let arrays: BTreeMap<String, Tensor> = given.into_iter().collect();
        let missing: Vec<&Port> = ports.iter().filter(|p| !arrays.contains_key(&p.name)).collect();
        let pictures = match missing.as_slice() {
            [] if !shots.is_empty() => {
                usage!("--image is given, but every input is given by --input already; leave one out")
            }
            [] => None,
            [port] if !shots.is_empty() => {
                let batch = type_of(port).shape.first().copied().unwrap_or(1).max(1);
                if !shots.len().is_multiple_of(batch) {
                    usage!(
                        "input \"{}\" takes {batch} pictures at a time ({}), but there are {}; give a multiple of {batch}",
                        port.name,
                        type_of(port),
                        shots.len()
                    );
                }
                Some((*port, shots.chunks(batch).map(<[Shot]>::to_vec).collect()))
            }
            missing => {
                let list: Vec<String> =
                    missing.iter().map(|p| format!("\"{}\" ({})", p.name, type_of(p))).collect();
                let list = list.join(", ");
                match (missing.len(), shots.is_empty()) {
                    (1, _) => usage!("input {list} is not given; add --image FILE, or --input NAME=FILE.npy"),
                    (_, true) => usage!("inputs {list} are not given; add --input NAME=FILE.npy for each"),
                    (_, false) => usage!(
                        "a picture is for one input, but {list} are not given; add --input NAME=FILE.npy for the others"
                    ),
                }
            }
        };
        Ok(Feed { arrays, pictures })
    }

    /// Runs once, or as often as was asked for, on the same inputs.
    fn once(&self, ready: &Ready, session: &mut Session, feed: &Feed<'_>, index: usize) -> Result<Ran> {
        let program = &ready.program;
        let pictures = feed.pictures.as_ref().and_then(|(port, runs)| Some((*port, runs.get(index)?)));
        let tensor = |port: &Port| match (pictures, feed.arrays.get(&port.name)) {
            (Some((taker, shots)), None) if taker.name == port.name => {
                self.picture.load(shots, &port.name, &type_of(port))
            }
            (_, Some(array)) => Ok(array.clone()),
            _ => bail!("input \"{}\" is not given", port.name),
        };
        let given = program.inputs().iter().map(tensor).collect::<Result<Vec<Tensor>>>()?;
        let inputs = InputTensors::new(program.inputs(), &given);
        let inputs = inputs.refs();
        let progress = Progress::new("running");
        let mut times_ms = Vec::new();
        for _ in 0..self.repeat {
            let (run, ms) = timed(|| session.run(&inputs).map(drop));
            run?;
            times_ms.push(ms);
        }
        drop(progress);
        let outputs = match session.outputs() {
            Some(outputs) => tensors::outputs(program.outputs(), &outputs)?,
            None => Vec::new(),
        };
        let names = pictures.map(|(_, shots)| shots.iter().map(Shot::name).collect()).unwrap_or_default();
        // Members of a batch: as many as pictures, or as the first input has rows.
        let rows = given.first().and_then(|tensor| tensor.shape().first()).copied();
        let batch = pictures.map_or(rows.unwrap_or(1), |(_, shots)| shots.len());
        Ok(Ran { pictures: names, batch, outputs, times_ms })
    }

    fn presentation<'a>(&self, labels: &'a Labels, ran: &'a Ran) -> Presentation<'a> {
        Presentation { top: self.top, labels, rows: &ran.pictures, batch: ran.batch }
    }

    fn as_json(&self, ready: &Ready, labels: &Labels, runs: &[Ran], threads: usize) -> Result<Value> {
        let run = |ran: &Ran| -> Result<Value> {
            let outputs = self.presentation(labels, ran).json(&ran.outputs)?;
            Ok(json!({"pictures": ran.pictures, "outputs": outputs, "runs_ms": ran.times_ms}))
        };
        let mut report = json!({
            "model": ready.name,
            "target": ready.program.desc().target,
            "threads": threads,
            "load_ms": ready.load_ms,
            "compile_ms": ready.compile_ms,
            "results": runs.iter().map(run).collect::<Result<Vec<_>>>()?,
        });
        if let Some(compiled) = ready.report.as_ref().filter(|_| self.timings.timings) {
            report["timings_ms"] = timings::json(compiled);
        }
        Ok(report)
    }
}

/// The outputs of all runs: one behind another along the first axis.
fn joined(mut runs: Vec<Ran>) -> Result<Vec<(String, Tensor)>> {
    let Some(mut first) = (!runs.is_empty()).then(|| runs.remove(0)) else { return Ok(Vec::new()) };
    if runs.is_empty() {
        return Ok(first.outputs);
    }
    for (index, (name, output)) in first.outputs.iter_mut().enumerate() {
        let mut shape = output.shape().to_vec();
        let mut bytes = output.bytes().to_vec();
        for run in &runs {
            let Some((_, next)) = run.outputs.get(index) else { continue };
            let fits =
                next.shape().len() == shape.len() && next.shape().iter().skip(1).eq(shape.iter().skip(1));
            let (Some(&more), Some(rows), true) = (next.shape().first(), shape.first_mut(), fits) else {
                bail!(
                    "output \"{name}\" is {} for one picture and {} for another, which is no one array; run them one by one",
                    output.ty(),
                    next.ty()
                );
            };
            *rows += more;
            bytes.extend_from_slice(next.bytes());
        }
        *output = Tensor::from_bytes(TensorType::new(output.dtype(), shape), bytes)?;
    }
    Ok(first.outputs)
}

/// One line for each pass that did something.
pub fn fused(out: &mut dyn Write, report: &CompileReport) -> std::io::Result<()> {
    let mut heading = "passes";
    for pass in report.passes.passes.iter().filter(|p| !p.is_silent()) {
        let mut counts: Vec<String> = pass.counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
        counts.extend(pass.refused.iter().map(ToString::to_string));
        writeln!(out, "{heading:<8} {:<16} {}", pass.name, counts.join(", "))?;
        heading = "";
    }
    Ok(())
}

fn show_times(out: &mut dyn Write, ready: &Ready, runs_ms: &[f64], threads: usize) -> std::io::Result<()> {
    write!(out, "times    load {}, ", units::ms(ready.load_ms))?;
    if ready.report.is_some() || ready.cache.is_some() {
        write!(out, "compile {}, ", units::ms(ready.compile_ms))?;
    }
    match runs_ms {
        [first, rest @ ..] if !rest.is_empty() => write!(
            out,
            "first run {}, median {} of {} more",
            units::ms(*first),
            units::ms(percentile(rest, 50.0)),
            rest.len()
        )?,
        _ => write!(out, "run {}", units::ms(percentile(runs_ms, 50.0)))?,
    }
    writeln!(out, ", on {}, {}", units::threads(threads), ready.program.desc().target)
}
