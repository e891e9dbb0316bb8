//! The worker's side of the benchmark's protocol; `workers.py` is the other side, `worker.py` the same for Python.
//!
//! ```text
//! worker MODEL INPUT SHAPE THREADS      INPUT: the values as little-endian f32; SHAPE: 1x3x224x224
//! worker --empty                        loads nothing, so that its memory can be measured
//!
//!   worker writes                       after it was asked
//!   ready LOAD_NS FIRST_NS              (by itself, after loading and one run)
//!   runs NS NS NS                       run 3
//!   wrote                               outputs FILE       the first output's values as f32
//!   error MESSAGE                       (instead of any of these, then it ends)
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

/// The one input of a network.
pub struct Input {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Values, dense and row-major.
    pub values: Vec<f32>,
}

/// An inference engine that has loaded a model.
pub trait Engine: Sized {
    /// From the file to a model that is ready to run on so many threads.
    fn load(model: &Path, threads: usize, input: Input) -> Result<Self>;
    /// One inference, keeping its output.
    fn run(&mut self) -> Result<()>;
    /// The first output of the last run.
    fn output(&self) -> Result<Vec<f32>>;
}

/// Answers requests on standard input until it ends.
pub fn serve<E: Engine>() {
    if let Err(error) = try_serve::<E>() {
        println!("error {}", format!("{error:#}").replace('\n', " "));
        std::process::exit(1);
    }
}

fn try_serve<E: Engine>() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut engine = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--empty"] => {
            answer("ready 0 0")?;
            None
        }
        [model, input, shape, threads] => {
            let input = read_input(Path::new(input), shape)?;
            let threads = threads.parse().context("THREADS is not a number")?;
            let start = Instant::now();
            let mut engine = E::load(Path::new(model), threads, input)?;
            let load = start.elapsed().as_nanos();
            let start = Instant::now();
            engine.run()?;
            answer(&format!("ready {load} {}", start.elapsed().as_nanos()))?;
            Some(engine)
        }
        _ => bail!("usage: worker MODEL INPUT SHAPE THREADS, or worker --empty"),
    };
    for request in std::io::stdin().lines() {
        let request = request?;
        let engine = engine.as_mut().context("an empty worker answers nothing")?;
        match request.split_once(' ') {
            Some(("run", count)) => {
                let count = count.parse().context("the number of runs is not a number")?;
                let mut runs = String::from("runs");
                for _ in 0..count {
                    let start = Instant::now();
                    engine.run()?;
                    runs += &format!(" {}", start.elapsed().as_nanos());
                }
                answer(&runs)?;
            }
            Some(("outputs", file)) => {
                let bytes: Vec<u8> = engine.output()?.iter().flat_map(|value| value.to_le_bytes()).collect();
                std::fs::write(PathBuf::from(file), bytes)?;
                answer("wrote")?;
            }
            _ => bail!("unknown request {request:?}"),
        }
    }
    Ok(())
}

fn answer(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn read_input(file: &Path, shape: &str) -> Result<Input> {
    let shape = shape
        .split('x')
        .map(str::parse)
        .collect::<Result<Vec<usize>, _>>()
        .context("SHAPE is not like 1x3x224x224")?;
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (values, rest) = bytes.as_chunks::<4>();
    ensure!(
        rest.is_empty() && values.len() == shape.iter().product(),
        "{} does not fill its shape",
        file.display()
    );
    Ok(Input { shape, values: values.iter().map(|&value| f32::from_le_bytes(value)).collect() })
}
