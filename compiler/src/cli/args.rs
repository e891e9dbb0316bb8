//! Arguments that several commands share, and how their values are read.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use nnc::target::{NATIVE, alias, choices};
use nnc::{Denormals, Limits, Precision};
use nnc_ir::LimitName;

use super::failure::usage;
use super::flag::limit_flag;

/// What fixes the shapes of a model, and how it is compiled. Only `.onnx` files take these: a compiled artefact has
/// them behind it.
#[derive(Args, Clone, Debug, Default)]
pub struct CompileArgs {
    /// Fix a named dim of the model's inputs
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dim)]
    pub dims: Vec<(String, usize)>,

    /// Fix the shape of an input; one that has a default in the model has to be given then
    #[arg(long = "shape", value_name = "INPUT=1x3x224x224", value_parser = shape)]
    pub shapes: Vec<(String, Vec<usize>)>,

    /// Bake an input into the program as a constant, or another constant than its default: an array of NumPy, or with .pb a
    /// tensor of ONNX
    #[arg(long = "const", value_name = "INPUT=FILE.npy", value_parser = named_file)]
    pub constants: Vec<(String, PathBuf)>,

    /// End at this value of the model, or at this node (repeatable): its results are the outputs, and nothing behind is compiled
    #[arg(long, value_name = "NAME")]
    pub until: Vec<String>,

    /// Compile for this machine; `nnc compile` takes several, from which the best is picked where the program runs, as in
    /// x86-64-v2,x86-64-v3,x86-64-v4 [default: native]
    #[arg(long = "target", value_name = "NAME", value_delimiter = ',', value_parser = TargetNames)]
    pub targets: Vec<String>,

    /// Store weights and what lies between layers in 16 bits; sums stay f32, and so do inputs and outputs [default: f32]
    #[arg(long, value_name = "f32|bf16|f16", value_parser = precision)]
    pub precision: Option<Precision>,

    /// Keep a layer in f32 whatever the precision (repeatable), by its name as `nnc inspect` shows it
    #[arg(long, value_name = "NAME", requires = "precision")]
    pub keep_f32: Vec<String>,

    /// Leave out a pass (repeatable), to see what it is worth
    #[arg(long = "disable-pass", value_name = "PASS")]
    pub disabled: Vec<String>,

    /// Do not use Winograd's algorithm for 3x3 convolutions, which is faster but rounds differently
    #[arg(long)]
    pub no_winograd: bool,

    /// Let constants become so many hundredths of the model's weights, at most: transformed kernels of 3x3 convolutions are faster,
    /// and larger [default: 150]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(100..=10000))]
    pub most_constants: Option<u32>,

    /// Do not run neighbouring layers strip by strip, which keeps large images between them in the cache
    #[arg(long)]
    pub no_strips: bool,

    /// What runs do with numbers that are too near to zero to have all their digits (denormals, below 1.2e-38 in f32): take
    /// them for zero, which is much faster on many processors, or keep them [default: flush]
    #[arg(long, value_name = "flush|keep", value_parser = denormals)]
    pub denormals: Option<Denormals>,

    /// Take an index from data that leads outside of what it points into for the nearest one inside, or leave its update out, in
    /// place of an error
    #[arg(long)]
    pub clamp_indices: bool,

    /// Threads to compile with; the program is the same for any number [default: one for each core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,

    #[command(flatten)]
    pub limits: LimitArgs,
}

/// How much a model may ask for. `--limit-X` sets one field of [`Limits`].
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits, for models that you do not trust")]
pub struct LimitArgs {
    /// Bytes of the model file [default: 2G]
    #[arg(long = "limit-file", value_name = "SIZE", value_parser = size)]
    file: Option<u64>,

    /// Bytes of any one tensor [default: 4G]
    #[arg(long = "limit-tensor", value_name = "SIZE", value_parser = size)]
    tensor: Option<u64>,

    /// Bytes of all weights together [default: 16G]
    #[arg(long = "limit-weights", value_name = "SIZE", value_parser = size)]
    weights: Option<u64>,

    /// Bytes of memory for activations [default: 2G]
    #[arg(long = "limit-arena", value_name = "SIZE", value_parser = size)]
    arena: Option<u64>,

    /// Number of nodes [default: 1000000]
    #[arg(long = "limit-nodes", value_name = "N")]
    nodes: Option<usize>,

    /// Number of nodes, operands, attributes, dims and all else that the file lists [default: 4000000]
    #[arg(long = "limit-parts", value_name = "N")]
    parts: Option<usize>,

    /// Number of inputs, and of outputs [default: 4096]
    #[arg(long = "limit-ports", value_name = "N")]
    ports: Option<usize>,

    /// Number of axes of any one tensor [default: 32]
    #[arg(long = "limit-rank", value_name = "N")]
    rank: Option<usize>,

    /// Levels of messages within messages in the file [default: 64]
    #[arg(long = "limit-depth", value_name = "N")]
    depth: Option<usize>,

    /// Seconds to compile the model in [default: 600]
    #[arg(long = "limit-time", value_name = "SECONDS")]
    time: Option<u64>,
}

impl LimitArgs {
    /// The limits: those that were given, and the defaults.
    pub fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            file_bytes: self.file.unwrap_or(default.file_bytes),
            tensor_bytes: self.tensor.unwrap_or(default.tensor_bytes),
            weight_bytes: self.weights.unwrap_or(default.weight_bytes),
            arena_bytes: self.arena.unwrap_or(default.arena_bytes),
            nodes: self.nodes.unwrap_or(default.nodes),
            parts: self.parts.unwrap_or(default.parts),
            ports: self.ports.unwrap_or(default.ports),
            rank: self.rank.unwrap_or(default.rank),
            depth: self.depth.unwrap_or(default.depth),
            compile_time: self.time.map_or(default.compile_time, Duration::from_secs),
        }
    }

    /// The first flag that was given.
    fn first_given(&self) -> Option<&'static str> {
        let given = [
            (self.file.is_some(), LimitName::FileBytes),
            (self.tensor.is_some(), LimitName::TensorBytes),
            (self.weights.is_some(), LimitName::WeightBytes),
            (self.arena.is_some(), LimitName::ArenaBytes),
            (self.nodes.is_some(), LimitName::Nodes),
            (self.parts.is_some(), LimitName::Parts),
            (self.ports.is_some(), LimitName::Ports),
            (self.rank.is_some(), LimitName::Rank),
            (self.depth.is_some(), LimitName::Depth),
            (self.time.is_some(), LimitName::CompileTime),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, limit)| limit_flag(limit))
    }
}

/// `512M`: a number of bytes, in units of 1024 (K), 1024² (M) or 1024³ (G) if it says so.
fn size(text: &str) -> Result<u64, String> {
    let shift = match text.chars().last() {
        Some('K' | 'k') => 10,
        Some('M' | 'm') => 20,
        Some('G' | 'g') => 30,
        _ => 0,
    };
    let number = if shift == 0 { text } else { &text[..text.len() - 1] };
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    bytes.ok_or_else(|| {
        format!("\"{text}\" is not a size; write bytes, or a number with K, M or G, as in 512M")
    })
}

impl CompileArgs {
    /// The first flag that was given, for the error that it does not apply.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [
            (!self.dims.is_empty(), "--dim"),
            (!self.shapes.is_empty(), "--shape"),
            (!self.constants.is_empty(), "--const"),
            (!self.until.is_empty(), "--until"),
            (!self.targets.is_empty(), "--target"),
            (self.precision.is_some(), "--precision"),
            (!self.keep_f32.is_empty(), "--keep-f32"),
            (!self.disabled.is_empty(), "--disable-pass"),
            (self.no_winograd, "--no-winograd"),
            (self.most_constants.is_some(), "--most-constants"),
            (self.no_strips, "--no-strips"),
            (self.denormals.is_some(), "--denormals"),
            (self.clamp_indices, "--clamp-indices"),
            (self.jobs.is_some(), "--jobs"),
        ];
        let given = given.into_iter().find(|(given, _)| *given).map(|(_, flag)| flag);
        given.or_else(|| self.limits.first_given())
    }
}

impl CompileArgs {
    /// The one target that was asked for, or the machine at hand. Several are for `nnc compile`.
    pub fn one_target(&self) -> Result<&str> {
        match self.targets.as_slice() {
            [] => Ok(NATIVE),
            [target] => Ok(target),
            several => usage!(
                "--target names {} machines, and this takes one; `nnc compile` writes a program for several",
                several.len()
            ),
        }
    }
}

/// Names of targets: those that there are are listed by the help and by shells, and any is taken, as the error for a wrong one is
/// the compiler's.
#[derive(Clone, Copy, Debug)]
struct TargetNames;

impl TypedValueParser for TargetNames {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue>>> {
        Some(Box::new(choices().map(|choice| {
            let aliases: Vec<&str> = alias::aliases_of(choice.name).collect();
            let also =
                if aliases.is_empty() { String::new() } else { format!(" (also {})", aliases.join(", ")) };
            PossibleValue::new(choice.name).help(format!("{}{also}", choice.about))
        })))
    }
}

/// Where compiled programs are kept from one command to the next.
#[derive(Args, Clone, Debug, Default)]
pub struct CacheArgs {
    /// Keep the compiled program in this folder, and load it from there the next time
    ///
    /// There is an entry for each model, way to compile it, and version of nnc. Entries are code that runs: name a folder
    /// that nobody can write to whom you do not trust. A damaged entry is compiled anew; any may be deleted.
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
}

/// What is told of the time to compile.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct TimingsArgs {
    /// Show what the time to compile goes into, stage by stage; with --json, as timings_ms
    #[arg(long)]
    pub timings: bool,
}

/// What Linux `perf` is told.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct PerfArgs {
    /// Tell Linux `perf` the names of compiled functions, in /tmp/perf-PID.map
    #[arg(long)]
    pub perf_map: bool,
}

/// `flush` or `keep`
fn denormals(text: &str) -> Result<Denormals, String> {
    match text {
        "flush" => Ok(Denormals::Flush),
        "keep" => Ok(Denormals::Keep),
        _ => Err("write flush or keep".into()),
    }
}

/// `f32`, `bf16` or `f16`
fn precision(text: &str) -> Result<Precision, String> {
    Precision::from_name(text).ok_or_else(|| "write f32, bf16 or f16".into())
}

/// `NAME=N`
fn dim(text: &str) -> Result<(String, usize), String> {
    let (name, value) = split(text, "NAME=N, such as batch=1")?;
    match value.parse() {
        Ok(n) => Ok((name, n)),
        Err(_) => Err(format!("\"{value}\" is not a number of 0 or more")),
    }
}

/// `INPUT=1x3x224x224`
fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, value) = split(text, "INPUT=1x3x224x224")?;
    let dims = value.split(['x', ',']).map(|d| d.trim().parse::<usize>().ok());
    match dims.collect::<Option<Vec<usize>>>() {
        Some(dims) => Ok((name, dims)),
        None => Err(format!("\"{value}\" is not a shape; write numbers with x between, as in 1x3x224x224")),
    }
}

/// `NAME=FILE`
pub fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, value) = split(text, "NAME=FILE")?;
    Ok((name, PathBuf::from(value)))
}

/// Splits at the last `=`: names of inputs may have one, shapes and numbers do not.
fn split<'a>(text: &'a str, form: &str) -> Result<(String, &'a str), String> {
    match text.rsplit_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_string(), value)),
        _ => Err(format!("expected {form}")),
    }
}

/// Number of threads to run with.
#[derive(Args, Clone, Copy, Debug)]
pub struct ThreadArgs {
    /// Threads to run with [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl ThreadArgs {
    /// The number that was asked for, or one for each core.
    pub fn count(self) -> usize {
        match self.threads {
            Some(n) => n.into(),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_names_its_input_and_its_extents() {
        assert_eq!(shape("x=1x3x2"), Ok(("x".into(), vec![1, 3, 2])));
        assert_eq!(shape("a=b=1,3"), Ok(("a=b".into(), vec![1, 3])));
        assert_eq!(shape("x=0x3"), Ok(("x".into(), vec![0, 3])));
        assert_eq!(dim("n=0"), Ok(("n".into(), 0)));
    }

    #[test]
    fn sizes_have_units_of_1024() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("3k"), Ok(3072));
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("2G"), Ok(2 << 30));
        for text in ["", "M", "-1", "1.5G", "2GB", "2µ", "18446744073709551615K", "99999999999999999999"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_limit_has_a_flag() {
        use clap::FromArgMatches;
        let flags = "nnc --limit-file 1K --limit-tensor 2 --limit-weights 3 --limit-arena 4 --limit-nodes 5 --limit-parts 6 \
                     --limit-ports 7 --limit-rank 8 --limit-depth 9 --limit-time 10";
        let command = CompileArgs::augment_args(clap::Command::new("nnc"));
        let given = command.get_matches_from(flags.split_whitespace());
        let args = CompileArgs::from_arg_matches(&given).unwrap();
        let expected = Limits {
            file_bytes: 1024,
            tensor_bytes: 2,
            weight_bytes: 3,
            arena_bytes: 4,
            nodes: 5,
            parts: 6,
            ports: 7,
            rank: 8,
            depth: 9,
            compile_time: Duration::from_secs(10),
        };
        assert_eq!(args.limits.limits(), expected);
        assert_eq!(args.first_given(), Some("--limit-file"));
        assert_eq!(LimitArgs::default().limits(), Limits::default());
    }

    #[test]
    fn values_that_are_no_shape_or_dim_are_refused() {
        for text in ["", "x", "x=", "=1x2", "x=1x", "x=1x-3", "x=axb"] {
            assert!(shape(text).is_err(), "{text}");
        }
        for text in ["n", "n=", "n=-1", "n=1.5", "n=99999999999999999999"] {
            assert!(dim(text).is_err(), "{text}");
        }
    }
}
