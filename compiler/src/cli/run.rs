//! `nnc run`: a model on a picture or on arrays. Without arguments, a seed network on the picture that comes with nnc.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use nnc::{CompileReport, Model, Options, Pool, Session};
use nnc_ir::Tensor;

use super::args::{CacheArgs, CompileArgs, PerfArgs, ThreadArgs, named_file};
use super::classes::{self, Labels};
use super::failure::usage;
use super::output::{Output, write_npz};
use super::picture::PictureArgs;
use super::progress::Progress;
use super::source::{self, How, Ready};
use super::stats::{percentile, timed};
use super::tensors::{self, Inputs, type_of};
use super::units;

/// The network that runs when none is named.
const DEFAULT_MODEL: &str = "mobilenet-v2";
/// The picture that it sees: drawn by `assets/draw.py`.
const PICTURE: &[u8] = include_bytes!("../../assets/harbour.png");
/// Runs are repeated for the median, so many times or so long.
const RUNS: usize = 20;
const PATIENCE: Duration = Duration::from_millis(500);

/// Run a model on a picture or on arrays; without arguments, a built-in one on a built-in picture
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// An ONNX model, or a program compiled by `nnc compile`
    pub model: Option<PathBuf>,

    /// An array for an input (repeatable)
    #[arg(long = "input", value_name = "NAME=FILE.npy", value_parser = named_file)]
    pub inputs: Vec<(String, PathBuf)>,

    #[command(flatten)]
    pub picture: PictureArgs,

    /// Write all outputs to a file, as arrays named like them
    #[arg(long, value_name = "FILE.npz")]
    pub output: Option<PathBuf>,

    /// Print so many classes
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub top: usize,

    /// Names of the classes, one a line
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,

    #[command(flatten)]
    pub threads: ThreadArgs,

    #[command(flatten)]
    pub cache: CacheArgs,

    #[command(flatten)]
    pub perf: PerfArgs,

    #[command(flatten)]
    pub compile: CompileArgs,
}

impl Run {
    /// Runs the command.
    pub fn run(&self, out: &mut dyn Write) -> Result<()> {
        let mut read: Vec<&Path> = self.inputs.iter().map(|(_, file)| file.as_path()).collect();
        read.extend(self.model.as_deref());
        read.extend(self.picture.image.as_deref());
        let output = self.output.as_deref().map(|path| Output::check(path, &read)).transpose()?;

        let ready = match &self.model {
            Some(path) => source::ready(path, &self.how(), Some(&self.picture))?,
            None => self.seed(out)?,
        };
        let program = &ready.program;
        let tensors = self.gather(out, &ready)?;
        let inputs = Inputs::new(program.inputs(), &tensors);
        let inputs = inputs.refs();

        let threads = self.threads.count();
        let mut session = Session::new(program, &Pool::new(threads)?)?;
        let progress = Progress::new("running");
        let (first, first_ms) = timed(|| session.run(&inputs).map(drop));
        first?;
        let mut runs_ms = vec![];
        let deadline = Instant::now() + PATIENCE;
        while runs_ms.is_empty() || (runs_ms.len() < RUNS && Instant::now() < deadline) {
            let (run, ms) = timed(|| session.run(&inputs).map(drop));
            run?;
            runs_ms.push(ms);
        }
        drop(progress);

        let results = match session.outputs() {
            Some(outputs) => tensors::outputs(program.outputs(), &outputs)?,
            None => Vec::new(),
        };
        self.show(out, &results)?;
        if let Some(report) = &ready.report {
            writeln!(out)?;
            fused(out, report)?;
        }
        writeln!(out)?;
        times(out, &ready, first_ms, &runs_ms, threads)?;
        if let Some(line) = ready.cache_line() {
            writeln!(out, "cache    {line}")?;
        }
        if let Some(output) = &output {
            write_npz(output, &results)?;
            writeln!(out, "outputs  {}", output.path().display())?;
        }
        Ok(())
    }

    fn how(&self) -> How<'_> {
        How::from(&self.compile).cache(&self.cache).perf(self.perf).arrays(&self.inputs)
    }

    /// The built-in network, compiled.
    fn seed(&self, out: &mut dyn Write) -> Result<Ready> {
        let progress = Progress::new("building the built-in model");
        let bytes = nnc_models::encode(&nnc_models::Spec::new(DEFAULT_MODEL))?;
        let (model, load_ms) = timed(|| Model::from_bytes(bytes));
        let options: Options = self.how().options()?;
        let ready = source::compiled(DEFAULT_MODEL.into(), &model?, load_ms, &options, None, &progress)?;
        writeln!(
            out,
            "model    {DEFAULT_MODEL}, built in; its weights are random, so its classes mean nothing"
        )?;
        Ok(ready)
    }

    /// One tensor for each input: from `--input`, from the picture, or from the picture that comes with nnc.
    fn gather(&self, out: &mut dyn Write, ready: &Ready) -> Result<Vec<Tensor>> {
        let ports = ready.program.inputs();
        let mut given = tensors::read_inputs(ports, &self.inputs)?;
        let missing: Vec<_> = ports.iter().filter(|p| !given.contains_key(&p.name)).collect();
        match (missing.as_slice(), &self.picture.image) {
            ([], Some(_)) => {
                usage!("--image is given, but every input is given by --input already; leave one out")
            }
            ([], None) => {}
            ([port], Some(file)) => {
                let tensor = self.picture.load(file, &port.name, &type_of(port))?;
                writeln!(out, "picture  {} as input \"{}\", {}", file.display(), port.name, tensor.ty())?;
                given.insert(port.name.clone(), tensor);
            }
            ([port], None) if self.model.is_none() => {
                let tensor = self.picture.decode(PICTURE, &port.name, &type_of(port))?;
                writeln!(out, "picture  a harbour, built in, as input \"{}\", {}", port.name, tensor.ty())?;
                given.insert(port.name.clone(), tensor);
            }
            (missing, image) => {
                let list: Vec<String> =
                    missing.iter().map(|p| format!("\"{}\" ({})", p.name, type_of(p))).collect();
                let list = list.join(", ");
                match (missing.len(), image) {
                    (1, _) => usage!("input {list} is not given; add --image FILE, or --input NAME=FILE.npy"),
                    (_, None) => usage!("inputs {list} are not given; add --input NAME=FILE.npy for each"),
                    (_, Some(_)) => usage!(
                        "a picture is for one input, but {list} are not given; add --input NAME=FILE.npy for the others"
                    ),
                }
            }
        }
        Ok(ports.iter().filter_map(|p| given.remove(&p.name)).collect())
    }

    fn show(&self, out: &mut dyn Write, results: &[(String, Tensor)]) -> Result<()> {
        let labels = match &self.labels {
            Some(path) => Labels::read(path)?,
            None => Labels::default(),
        };
        for (name, tensor) in results {
            writeln!(out, "\n{name}  {}", tensor.ty())?;
            match classes::scores(tensor) {
                Some(scores) => {
                    if let Some(path) = &self.labels {
                        labels.check(path, scores.len())?;
                    }
                    classes::print(out, &classes::top(&scores, self.top), &labels)?;
                }
                None => summary(out, tensor).with_context(|| format!("output \"{name}\""))?,
            }
        }
        Ok(())
    }
}

/// What there is to say about a tensor that holds no classes.
fn summary(out: &mut dyn Write, tensor: &Tensor) -> Result<()> {
    let Ok(elems) = tensor.elems::<f32>() else { return Ok(()) };
    let (mut min, mut max, mut sum) = (f32::INFINITY, f32::NEG_INFINITY, 0.0f64);
    for &e in elems.iter() {
        (min, max, sum) = (min.min(e), max.max(e), sum + f64::from(e));
    }
    if !elems.is_empty() {
        writeln!(out, "  min {min:.4}  max {max:.4}  mean {:.4}", sum / elems.len() as f64)?;
    }
    Ok(())
}

/// One line for each pass that did something.
pub fn fused(out: &mut dyn Write, report: &CompileReport) -> std::io::Result<()> {
    let mut heading = "passes";
    for pass in report.passes.passes.iter().filter(|p| !p.counts.is_empty()) {
        let counts: Vec<String> = pass.counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
        writeln!(out, "{heading:<8} {:<16} {}", pass.name, counts.join(", "))?;
        heading = "";
    }
    Ok(())
}

fn times(
    out: &mut dyn Write,
    ready: &Ready,
    first_ms: f64,
    runs_ms: &[f64],
    threads: usize,
) -> std::io::Result<()> {
    write!(out, "times    load {}, ", units::ms(ready.load_ms))?;
    if ready.report.is_some() || ready.cache.is_some() {
        write!(out, "compile {}, ", units::ms(ready.compile_ms))?;
    }
    writeln!(
        out,
        "first run {}, median {} of {} more, on {}, {}",
        units::ms(first_ms),
        units::ms(percentile(runs_ms, 50.0)),
        runs_ms.len(),
        units::threads(threads),
        ready.program.desc().target
    )
}
