//! What must hold of the bytes of a model: they are refused with an error, or compiled, and then run and compute what the evaluator
//! computes.

use std::time::Duration;

use nnc::{Limits, Model, Options};
use nnc_ir::onnx::{Dim, Fault};
use nnc_ir::{Graph, text};

use super::stages::{self, Jumps, Tally, chain, count};
use nnc::target::Target;

/// Arithmetic that is worth evaluating.
const AFFORDABLE: u64 = 3_000_000;

/// Elements of all values together that are worth evaluating.
const ELEMENTS: u64 = 300_000;

/// Small enough that no guess of a size takes time or memory.
pub fn limits() -> Limits {
    Limits {
        file_bytes: 4 << 20,
        tensor_bytes: 4 << 20,
        weight_bytes: 8 << 20,
        arena_bytes: 32 << 20,
        nodes: 2000,
        parts: 50_000,
        compile_time: Duration::from_secs(20),
        ..Limits::default()
    }
}

/// Checks the bytes of a model, for these targets.
///
/// # Errors
///
/// What is wrong: the stage, a colon, and details.
pub fn check(bytes: &[u8], targets: &[Target], turn: usize, tally: &mut Tally) -> Result<(), String> {
    let model = match Model::from_bytes_with(bytes, limits()) {
        Ok(model) => model,
        Err(error) => return refused("parse", &error, tally),
    };
    let mut options = Options::default().threads(1);
    // Twice may an error ask for more.
    let graph = loop {
        let more = match model.graph(&options) {
            Ok(graph) => break graph,
            Err(error) => bound(&model, &options, &error).ok_or(error),
        };
        match more {
            Ok(more) => options = more,
            Err(error) => return refused("import", &error, tally),
        }
    };
    graph.verify().map_err(|e| format!("import: {e}"))?;
    count(tally, "imported");
    for target in targets {
        options.target = Some(target.clone());
        let program = match model.lower(&options).and_then(|compilation| compilation.program()) {
            Ok(program) => program,
            Err(error) => return refused("compile", &error, tally),
        };
        drop(program);
        count(tally, "compiled");
    }
    if !affordable(&graph) {
        count(tally, "not run, for its size");
        return Ok(());
    }
    stages::check(&graph, targets, turn, Jumps::Anywhere, tally)
}

/// An error must be the model's fault, or say which limit is exceeded.
fn refused(stage: &str, error: &nnc::Error, tally: &mut Tally) -> Result<(), String> {
    let said = chain(error);
    let over = said.contains("over the limit");
    match error {
        nnc::Error::Read(_) | nnc::Error::Plan { .. } => {}
        _ if over => {}
        _ => return Err(format!("{stage}: {said}")),
    }
    count(tally, &format!("refused: {stage}"));
    Ok(())
}

/// The options with what an error asks for; `None` when it asks for nothing, or for what it has.
fn bound(model: &Model, options: &Options, error: &nnc::Error) -> Option<Options> {
    if let nnc::Error::Read(read) = error
        && let Fault::Unbound(_) = &*read.fault
    {
        if !options.bindings.shapes.is_empty() {
            return None;
        }
        return Some(model.inputs().iter().fold(options.clone(), |options, port| {
            let extent = |dim: &Dim| if let Dim::Known(n) = dim { *n } else { 2 };
            options.shape(&port.name, port.dims.iter().flatten().map(extent).collect::<Vec<usize>>())
        }));
    }
    let wanted = error.inputs_to_bind();
    if wanted.is_empty() || wanted.iter().any(|name| options.bindings.constants.contains_key(name)) {
        return None;
    }
    wanted.iter().try_fold(options.clone(), |options, name| {
        let port = model.inputs().iter().find(|port| port.name == *name)?;
        let dims = port.dims.as_ref()?.iter().map(|dim| if let Dim::Known(n) = dim { *n } else { 2 });
        let ty = nnc_ir::TensorType::new(port.dtype?, dims.collect::<Vec<usize>>());
        let tensor = text::hash(ty, 1, 3.0).ok()?;
        Some(options.bind(name, tensor))
    })
}

/// Whether the evaluator, which is slow, can be asked.
fn affordable(graph: &Graph) -> bool {
    let ids = || graph.node_ids();
    let arithmetic = ids()
        .map(|id| graph.cost(id))
        .fold(0u64, |n, cost| n.saturating_add(cost.macc).saturating_add(cost.ops));
    let elements = ids()
        .flat_map(|id| &graph.node(id).outputs)
        .fold(0u64, |n, ty| n.saturating_add(ty.shape.elems() as u64));
    arithmetic <= AFFORDABLE && elements <= ELEMENTS
}
