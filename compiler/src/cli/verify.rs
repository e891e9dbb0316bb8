//! `nnc verify`: does a program compute what somebody else computed?
//!
//! A case is an `.npz` file: an array named like an input is that input, an array named like an output is what must
//! come out. `input:NAME` and `output:NAME` say which when the model has both under one name. Inputs that the file does
//! not have are made by formula. Or it is a folder of the ONNX test suite: `input_0.pb` … `output_0.pb` …, by position.
//!
//! With a precision, the program is compared with its own form in `f32`; outputs of somebody else's are only shown beside that, as they
//! are further away by what the precision loses.
//!
//! An output agrees when it has the reference's type, and max |a − b| ≤ rtol · max |b| + atol, the maximum over the
//! finite elements; NaN and infinities must stand where they stand in the reference. Whole numbers agree when equal.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args};
use nnc::Precision;
use nnc_ir::Tensor;
use nnc_runtime::abi::Port;

use super::args::{CacheArgs, CompileArgs, ThreadArgs};
use super::failure::usage;
use super::numbers::numbers;
use super::precision::{PrecisionCheck, results};
use super::source::{self, How};
use super::table;
use super::tensors::{self, by_formula, type_of};

/// Compare what a model computes with golden outputs
#[derive(Args, Clone, Debug)]
#[command(
    group(ArgGroup::new("reference").args(["case", "data"])),
    override_usage = "nnc verify [OPTIONS] <MODEL> <CASE.npz|--data <FOLDER>>\n       nnc verify [OPTIONS] <MODEL> [CASE.npz] --precision <bf16|f16>"
)]
pub struct Verify {
    /// An ONNX model, or a program compiled by `nnc compile`
    pub model: PathBuf,

    /// Inputs and outputs: arrays named like them (or `input:NAME`, `output:NAME`)
    #[arg(value_name = "CASE.npz")]
    pub case: Option<PathBuf>,

    /// A folder of the ONNX test suite: input_0.pb …, output_0.pb …
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,

    /// Largest error, as a fraction of the largest element of the reference [default: 1e-4, or any for a precision]
    #[arg(long, value_name = "R", value_parser = tolerance)]
    pub rtol: Option<f64>,

    /// Largest error besides
    #[arg(long, value_name = "A", default_value_t = 0.0, value_parser = tolerance)]
    pub atol: f64,

    /// With a precision, also show how far outputs are when one layer alone has it, for each layer: which ones lose most
    #[arg(long, requires = "precision")]
    pub layers: bool,

    #[command(flatten)]
    pub threads: ThreadArgs,

    #[command(flatten)]
    pub cache: CacheArgs,

    #[command(flatten)]
    pub compile: CompileArgs,
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(t) if t >= 0.0 && t.is_finite() => Ok(t),
        _ => Err("expected a number that is not negative, such as 1e-4".into()),
    }
}

/// What goes in and what must come out, both by name.
#[derive(Debug, Default)]
struct Example {
    inputs: Vec<(String, Tensor)>,
    outputs: Vec<(String, Tensor)>,
    /// Arrays that are neither.
    others: Vec<String>,
}

impl Verify {
    /// Runs the command.
    pub fn run(&self, out: &mut dyn Write) -> Result<()> {
        let narrow = self.compile.precision.is_some_and(|precision| precision != Precision::F32);
        let nothing = PathBuf::from("the command");
        let (reference, file) = match (&self.case, &self.data) {
            (Some(file), _) => (Reference::Named(nnc::npz::read_npz(file)?), file),
            (None, Some(folder)) => (read_folder(folder)?, folder),
            (None, None) if narrow => (Reference::Named(Vec::new()), &nothing),
            (None, None) => {
                usage!("give a CASE.npz or --data FOLDER to compare with, or --precision to compare with f32")
            }
        };
        let given = reference.may_be_inputs();
        let how = How::from(&self.compile).cache(&self.cache).arrays(&given);
        let ready = source::ready(&self.model, &how, None)?;
        let (inputs, outputs) = (ready.program.inputs(), ready.program.outputs());
        let case = match reference {
            Reference::Named(arrays) => sort(arrays, inputs, outputs),
            Reference::Numbered { inputs: given, outputs: expected } => Example {
                inputs: by_position(given, inputs),
                outputs: by_position(expected, outputs),
                others: Vec::new(),
            },
        };
        let shown = file.display();
        if case.outputs.is_empty() && !narrow {
            let names: Vec<String> = outputs.iter().map(|p| format!("\"{}\"", p.name)).collect();
            bail!(
                "\"{shown}\" has no array for any output of the model, so there is nothing to compare; name one {}",
                names.join(" or ")
            );
        }
        let mut tensors = Vec::new();
        for port in inputs {
            match case.inputs.iter().find(|(name, _)| *name == port.name) {
                Some((_, tensor)) => {
                    tensors::check(port, tensor).with_context(|| format!("\"{shown}\""))?;
                    tensors.push(tensor.clone());
                }
                None => {
                    writeln!(out, "input \"{}\" is not in {shown}: made by formula", port.name)?;
                    tensors.push(by_formula(&type_of(port))?);
                }
            }
        }
        if !case.others.is_empty() {
            writeln!(
                out,
                "not compared, as the model has no output of that name: {}",
                case.others.join(", ")
            )?;
        }

        if narrow {
            let check =
                PrecisionCheck { path: &self.model, how: &how, inputs: &tensors, threads: self.threads };
            return check.run(out, &ready, (&case.outputs, &shown.to_string()), (self.rtol, self.layers));
        }
        let results = results(&ready.program, &tensors, self.threads)?;
        let rtol = self.rtol.unwrap_or(1e-4);
        let mut rows = table::new(["output", "type", "max abs error", "max rel error", ""]);
        table::numbers(&mut rows, &[2, 3]);
        let mut failed = Vec::new();
        for (name, reference) in &case.outputs {
            let Some((_, result)) = results.iter().find(|(n, _)| n == name) else { continue };
            let difference = compare(result, reference).with_context(|| format!("output \"{name}\""))?;
            let agrees = difference.agrees(rtol, self.atol);
            rows.add_row([
                name.clone(),
                reference.ty().to_string(),
                format!("{:.3e}", difference.absolute),
                format!("{:.3e}", difference.relative()),
                if agrees { "agrees" } else { "DIFFERS" }.to_string(),
            ]);
            if !agrees {
                failed.push(format!("output \"{name}\" {difference}"));
            }
        }
        writeln!(out, "{}", rows.trim_fmt())?;
        out.flush()?;
        if !failed.is_empty() {
            bail!(
                "{} does not compute what {shown} says: {} (tolerance {:e} of the largest element, plus {:e})",
                ready.name,
                failed.join("; "),
                rtol,
                self.atol
            );
        }
        Ok(())
    }
}

/// Sorts arrays into inputs and outputs by their names.
fn sort(arrays: Vec<(String, Tensor)>, inputs: &[Port], outputs: &[Port]) -> Example {
    let mut case = Example::default();
    let has = |ports: &[Port], name: &str| ports.iter().any(|p| p.name == name);
    for (name, tensor) in arrays {
        let input = name.strip_prefix("input:").unwrap_or(&name).to_string();
        let output = name.strip_prefix("output:").unwrap_or(&name).to_string();
        if has(inputs, &input) {
            case.inputs.push((input, tensor));
        } else if has(outputs, &output) {
            case.outputs.push((output, tensor));
        } else {
            case.others.push(name);
        }
    }
    case
}

/// What a file or folder holds, before it is known which model it is for.
enum Reference {
    /// Arrays by name.
    Named(Vec<(String, Tensor)>),
    /// Inputs and outputs by position; they may have a name besides.
    Numbered { inputs: Vec<Numbered>, outputs: Vec<Numbered> },
}

/// A tensor for the port of some number.
struct Numbered {
    index: usize,
    name: String,
    tensor: Tensor,
}

impl Reference {
    /// The arrays that inputs of a model may take, under the names of these.
    fn may_be_inputs(&self) -> Vec<(String, Tensor)> {
        match self {
            Reference::Named(arrays) => {
                let inputs = arrays.iter().filter(|(name, _)| !name.starts_with("output:"));
                let bare = |name: &str| name.strip_prefix("input:").unwrap_or(name).to_string();
                inputs.map(|(name, tensor)| (bare(name), tensor.clone())).collect()
            }
            Reference::Numbered { inputs, .. } => {
                inputs.iter().map(|input| (input.name.clone(), input.tensor.clone())).collect()
            }
        }
    }
}

/// The tensors under the names of their ports.
fn by_position(tensors: Vec<Numbered>, ports: &[Port]) -> Vec<(String, Tensor)> {
    let named = |numbered: Numbered| Some((ports.get(numbered.index)?.name.clone(), numbered.tensor));
    tensors.into_iter().filter_map(named).collect()
}

/// Reads a folder of the ONNX test suite.
fn read_folder(folder: &Path) -> Result<Reference> {
    if !folder.is_dir() {
        bail!("\"{}\" is not a folder; give one with input_0.pb and output_0.pb", folder.display());
    }
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for entry in folder.read_dir()? {
        let file = entry?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let Some((kind, index)) = name.strip_suffix(".pb").and_then(|stem| stem.rsplit_once('_')) else {
            continue;
        };
        let list = match kind {
            "input" => &mut inputs,
            "output" => &mut outputs,
            _ => continue,
        };
        if let Ok(index) = index.parse() {
            let (name, tensor) = nnc_ir::onnx::read_tensor(&file)?;
            list.push(Numbered { index, name, tensor });
        }
    }
    Ok(Reference::Numbered { inputs, outputs })
}

/// How far a result is from its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Difference {
    /// Largest |a − b| over the finite elements.
    absolute: f64,
    /// Largest |b| over the finite elements.
    scale: f64,
    /// Elements that differ in a way no tolerance covers: NaN or infinite in one, not in the other; or whole numbers.
    unequal: usize,
}

impl Difference {
    fn relative(&self) -> f64 {
        if self.absolute == 0.0 { 0.0 } else { self.absolute / self.scale }
    }

    fn agrees(&self, rtol: f64, atol: f64) -> bool {
        self.unequal == 0 && self.absolute <= rtol * self.scale + atol
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.unequal > 0 {
            write!(f, "has {} elements that must be equal and are not, ", self.unequal)?;
        }
        write!(f, "is off by {:.3e} where the largest element is {:.3e}", self.absolute, self.scale)
    }
}

fn compare(result: &Tensor, reference: &Tensor) -> Result<Difference> {
    if result.ty() != reference.ty() {
        bail!("the model gives {}, the reference is {}", result.ty(), reference.ty());
    }
    let exact = !result.dtype().is_float();
    let mut difference = Difference { absolute: 0.0, scale: 0.0, unequal: 0 };
    for (a, b) in numbers(result)?.into_iter().zip(numbers(reference)?) {
        if b.is_finite() {
            difference.scale = difference.scale.max(b.abs());
        }
        let same = a == b || (a.is_nan() && b.is_nan());
        if same {
            continue;
        }
        if exact || !a.is_finite() || !b.is_finite() {
            difference.unequal += 1;
        }
        if a.is_finite() && b.is_finite() {
            difference.absolute = difference.absolute.max((a - b).abs());
        }
    }
    Ok(difference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nnc_runtime::abi::ElemType;

    fn f32s(elems: &[f32]) -> Tensor {
        Tensor::new([elems.len()], elems).unwrap()
    }

    #[test]
    fn the_error_is_relative_to_the_largest_reference() {
        let difference = compare(&f32s(&[1.0, 100.0]), &f32s(&[1.5, 100.0])).unwrap();
        assert_eq!(difference, Difference { absolute: 0.5, scale: 100.0, unequal: 0 });
        assert!(difference.agrees(0.005, 0.0));
        assert!(!difference.agrees(0.0049, 0.0));
        assert!(difference.agrees(0.0, 0.5));
    }

    #[test]
    fn nan_and_infinity_must_stand_where_they_stand_in_the_reference() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert!(compare(&f32s(&[nan, inf]), &f32s(&[nan, inf])).unwrap().agrees(0.0, 0.0));
        for (a, b) in [(nan, 1.0), (1.0, nan), (inf, -inf), (inf, 1.0), (1.0, inf)] {
            assert!(!compare(&f32s(&[a, 1.0]), &f32s(&[b, 1.0])).unwrap().agrees(1.0, 1e30), "{a} {b}");
        }
    }

    #[test]
    fn whole_numbers_must_be_equal() {
        let (a, b) = (Tensor::new([1], &[7i64]).unwrap(), Tensor::new([1], &[8i64]).unwrap());
        assert!(!compare(&a, &b).unwrap().agrees(1.0, 1.0));
    }

    #[test]
    fn another_shape_or_type_is_refused() {
        assert!(compare(&f32s(&[1.0]), &f32s(&[1.0, 2.0])).is_err());
        assert!(compare(&f32s(&[1.0]), &Tensor::new([1], &[1f64]).unwrap()).is_err());
    }

    #[test]
    fn arrays_are_inputs_and_outputs_by_name_or_by_prefix() {
        let port =
            |name: &str| Port { name: name.into(), elem: ElemType::F32, shape: vec![1], counts: Vec::new() };
        let arrays = ["x", "output:x", "y", "input:z", "layer3"].map(|n| (n.to_string(), f32s(&[0.0])));
        let case = sort(arrays.into(), &[port("x"), port("z")], &[port("x"), port("y")]);
        let names = |list: &[(String, Tensor)]| list.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        assert_eq!(names(&case.inputs), ["x", "z"]);
        assert_eq!(names(&case.outputs), ["x", "y"]);
        assert_eq!(case.others, ["layer3"]);
    }
}
