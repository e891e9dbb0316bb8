//! `nnc models`: the architectures that nnc can write as ONNX files.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use nnc_models::{Choice, Half, Spec};

use super::output::Output;
use super::progress::Progress;
use super::table;
use super::units;

/// List the built-in architectures, or write one as an ONNX file
#[derive(Args, Clone, Debug)]
pub struct Models {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// List the architectures and their options
    List,
    Write(WriteModel),
}

/// Write an architecture as an ONNX file, with random weights
#[derive(Args, Clone, Debug)]
struct WriteModel {
    /// Which architecture; see `nnc models list`
    name: String,
    /// Width multiplier
    #[arg(long, value_name = "W")]
    width: Option<f64>,
    /// Height and width of the input
    #[arg(long, value_name = "R")]
    resolution: Option<usize>,
    /// Groups of the grouped convolutions
    #[arg(long, value_name = "G")]
    groups: Option<usize>,
    /// Number of classes
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// Seed of the weights
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// What weights and activations are; input and output stay f32
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: Dtype,
    /// Where to write it [default: NAME.onnx]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A type of weights and activations.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    fn half(self) -> Option<Half> {
        match self {
            Dtype::F32 => None,
            Dtype::F16 => Some(Half::F16),
            Dtype::Bf16 => Some(Half::Bf16),
        }
    }
}

impl Models {
    /// Runs the command.
    pub fn run(&self, out: &mut dyn Write) -> Result<()> {
        match &self.command {
            Command::List => list(out),
            Command::Write(write) => write.run(out),
        }
    }
}

fn list(out: &mut dyn Write) -> Result<()> {
    let mut table = table::new(["name", "width", "resolution", "groups", "what", "from"]);
    for a in nnc_models::list() {
        table.add_row([
            a.name.to_string(),
            a.width.as_ref().map_or_else(String::new, options),
            options(&a.resolution),
            a.groups.as_ref().map_or_else(String::new, options),
            a.summary.to_string(),
            a.paper.to_string(),
        ]);
    }
    writeln!(out, "{}", table.trim_fmt())?;
    Ok(())
}

/// `1 (0.1 to 4)`
fn options<T: Display>(choice: &Choice<T>) -> String {
    format!("{} ({})", choice.default, choice.allowed)
}

impl WriteModel {
    fn run(&self, out: &mut dyn Write) -> Result<()> {
        let spec = Spec {
            name: self.name.clone(),
            width: self.width,
            resolution: self.resolution,
            groups: self.groups,
            classes: self.classes,
            seed: self.seed,
        };
        let path = self.output.clone().unwrap_or_else(|| format!("{}.onnx", self.name).into());
        // The name is checked by building, which comes first: a misspelt name is no reason to touch the disk.
        let progress = Progress::new("building the model");
        let mut network = nnc_models::build(&spec)?;
        if let Some(half) = self.dtype.half() {
            network.halve(half);
        }
        let bytes = network.encode()?;
        let output = Output::check(&path, &[])?;
        progress.say("writing the model");
        output.write(&bytes)?;
        drop(progress);
        writeln!(out, "wrote {} ({})", path.display(), units::bytes(bytes.len() as u64))?;
        Ok(())
    }
}
