//! One case, run as a user would: the model is opened, compiled and run on one thread.
//!
//! ```text
//!   compile ──ok──► run, compare ──► the evaluator computes the same?
//!      │
//!      └─error── names inputs that decide a shape ──► bind these to the case's tensors, and again
//! ```
//!
//! Inputs are inputs of the program unless the compiler says that it has to know them.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use nnc::{Model, Options, Program};
use nnc_ir::Tensor;
use nnc_ir::onnx::{Fault, read_tensor};

use super::compare::compare;
use super::{DISPUTED, OnnxCase};
use crate::caught::caught;
use crate::pipeline;

/// How a case ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It computes what is expected, with these inputs bound at compile time.
    Pass(Vec<String>),
    /// It is refused, with the error that a user sees.
    Refused(String),
    /// It computes something else.
    Wrong(String),
    /// It computes something else, knowingly, for this reason.
    Disputed(&'static str),
    /// The compiler or the program fails in a way that no user should see.
    Broken(String),
}

/// Runs a case.
pub fn run(case: &OnnxCase) -> Outcome {
    match caught(|| run_all(case)) {
        Ok(Ok(bound)) => Outcome::Pass(bound),
        Ok(Err(Outcome::Wrong(what))) => {
            let known = DISPUTED.iter().find(|(name, _)| *name == case.name);
            known.map_or(Outcome::Wrong(what), |(_, why)| Outcome::Disputed(why))
        }
        Ok(Err(outcome)) => outcome,
        Err(panic) => Outcome::Broken(panic),
    }
}

/// Runs all data sets of a case; the inputs that had to be bound.
fn run_all(case: &OnnxCase) -> Result<Vec<String>, Outcome> {
    let model = Model::open(case.folder.join("model.onnx")).map_err(|e| refused(&e, case))?;
    let mut all = Vec::new();
    for set in data_sets(&case.folder).map_err(broken)? {
        let inputs = tensors(&set, "input").map_err(|e| refused(&*e, case))?;
        let expected = tensors(&set, "output").map_err(|e| refused(&*e, case))?;
        let names = model.inputs().iter().map(|port| port.name.clone());
        let inputs: BTreeMap<String, Tensor> = names.zip(inputs).collect();
        for name in run_set(case, &model, &inputs, &expected)? {
            if !all.contains(&name) {
                all.push(name);
            }
        }
    }
    all.sort();
    Ok(all)
}

fn run_set(
    case: &OnnxCase,
    model: &Model,
    inputs: &BTreeMap<String, Tensor>,
    expected: &[Tensor],
) -> Result<Vec<String>, Outcome> {
    let mut options = Options::default().threads(1);
    let program = loop {
        match model.compile(&options) {
            Ok(program) => break program,
            Err(error) => options = bind(options, &error, inputs).ok_or_else(|| failed(&error, case))?,
        }
    };
    let bound = options.bindings.constants.keys().cloned().collect();
    let check = |what: &str, outputs: &[Tensor]| {
        compare(outputs, expected, case.check).map_err(|difference| format!("{what}: {difference}"))
    };
    let compiled = check("compiled", &execute(&program, inputs).map_err(broken)?);
    // The networks take the evaluator minutes.
    if case.op == "network" {
        return compiled.map(|()| bound).map_err(Outcome::Wrong);
    }
    let evaluated = evaluate(model, &options, inputs).map_err(broken)?;
    match (compiled, check("evaluated", &evaluated)) {
        (Ok(()), Ok(())) => Ok(bound),
        (Err(one), Ok(())) => Err(Outcome::Wrong(format!("{one}; the evaluator is right"))),
        (Ok(()), Err(other)) => Err(Outcome::Wrong(format!("{other}; the compiled program is right"))),
        (Err(one), Err(_)) => Err(Outcome::Wrong(format!("{one}; so says the evaluator, too"))),
    }
}

/// The options with what the error asks for; `None` when it asks for nothing that helps.
fn bind(options: Options, error: &nnc::Error, inputs: &BTreeMap<String, Tensor>) -> Option<Options> {
    if let nnc::Error::Read(read) = error
        && let Fault::Unbound(open) = &*read.fault
    {
        let shape = |options: Options, name: &String| {
            let tensor = inputs.get(name)?;
            let known = options.bindings.shapes.contains_key(name);
            (!known).then(|| options.shape(name, tensor.shape().to_vec()))
        };
        return open.iter().try_fold(options, |options, input| shape(options, &input.input));
    }
    let wanted = error.inputs_to_bind();
    let known = wanted.iter().all(|name| options.bindings.constants.contains_key(name));
    if known {
        return None;
    }
    wanted.iter().try_fold(options, |options, name| Some(options.bind(name, inputs.get(name)?.clone())))
}

/// The outputs of the compiled program.
fn execute(program: &Program, inputs: &BTreeMap<String, Tensor>) -> Result<Vec<Tensor>, Box<dyn Error>> {
    let given = program.desc().inputs.iter().map(|port| {
        inputs.get(&port.name).cloned().ok_or_else(|| format!("the case has no \"{}\"", port.name))
    });
    let outputs = pipeline::run_tensors(program, &given.collect::<Result<Vec<_>, _>>()?, 1);
    outputs.map_err(|error| -> Box<dyn Error> { error })
}

/// The outputs of the graph as it was read, in the plainest way.
fn evaluate(
    model: &Model,
    options: &Options,
    inputs: &BTreeMap<String, Tensor>,
) -> Result<Vec<Tensor>, Box<dyn Error>> {
    let graph = model.graph(options)?;
    let given = graph.inputs().iter().map(|&id| {
        let name = &graph.node(id).name;
        inputs.get(name).cloned().ok_or_else(|| format!("the case has no \"{name}\""))
    });
    Ok(nnc_ir::eval::run(&graph, &given.collect::<Result<Vec<_>, _>>()?)?)
}

fn data_sets(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut sets = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sets.push(path);
        }
    }
    sets.sort();
    if sets.is_empty() {
        return Err("the case has no data".into());
    }
    Ok(sets)
}

/// `input_0.pb`, `input_1.pb` …
fn tensors(set: &Path, role: &str) -> Result<Vec<Tensor>, Box<dyn Error>> {
    let paths = (0..).map(|index| set.join(format!("{role}_{index}.pb"))).take_while(|path| path.is_file());
    paths.map(|path| Ok(read_tensor(path)?.1)).collect()
}

/// What a user would see: an error about the model is a refusal, one of a later stage a defect of the compiler.
fn failed(error: &nnc::Error, case: &OnnxCase) -> Outcome {
    match error {
        nnc::Error::Read(_) | nnc::Error::Plan { .. } => refused(error, case),
        _ => Outcome::Broken(chain(error)),
    }
}

fn refused(error: &dyn Error, case: &OnnxCase) -> Outcome {
    Outcome::Refused(chain(error).replace(&format!("{}/", case.folder.display()), ""))
}

fn broken(error: Box<dyn Error>) -> Outcome {
    Outcome::Broken(chain(&*error))
}

/// An error and what it comes from.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
