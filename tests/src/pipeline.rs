//! From a model to the results of its program, one function a stage, so that a test can look between any two.
//!
//! ```text
//!   spec ─ read ─► Graph ─ optimise ─► Graph ─ plan ─► Plan ┬ jit ──────────────────► Program ─ run ─► [f32] × outputs
//!                                                           └ artefact ► bytes ─ load ─┘
//! ```

use std::error::Error;

use nnc::plan::Plan;
use nnc::target::Target;
use nnc::{artefact, emit, passes, plan};
use nnc_ir::{DType, Graph, Tensor, TensorType, onnx};
use nnc_models::Spec;
use nnc_runtime::{InputRef, Pool, Program, Session};

use crate::watchdog::Watchdog;

/// What any stage may fail with.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The graph of a seed network, as the ONNX reader makes it.
///
/// # Errors
///
/// The specification or the model is refused.
pub fn read(spec: &Spec) -> Result<Graph, Failure> {
    let model = onnx::Model::from_bytes(nnc_models::encode(spec)?, None)?;
    Ok(model.graph(&onnx::Bindings::new())?)
}

/// The graph after all passes.
///
/// # Errors
///
/// A pass fails, leaves a graph that does not hold together, or tries an edit that the graph refuses.
pub fn optimise(graph: &Graph) -> Result<Graph, Failure> {
    let mut graph = graph.clone();
    let report = passes::optimise(&mut graph, &passes::PassOptions::default())?;
    if let Some(refusal) = report.passes.iter().flat_map(|pass| &pass.refused).next() {
        return Err(refusal.to_string().into());
    }
    graph.verify()?;
    Ok(graph)
}

/// The plan of a graph that went through the passes.
///
/// # Errors
///
/// The planner refuses the graph.
pub fn plan(graph: &Graph, target: &Target) -> Result<Plan, Failure> {
    plan_with(graph, target, &plan::PlanOptions::default())
}

/// The same, and what the planner may do.
///
/// # Errors
///
/// The planner refuses the graph.
pub fn plan_with(graph: &Graph, target: &Target, options: &plan::PlanOptions) -> Result<Plan, Failure> {
    Ok(plan::plan(graph, target, options, &Default::default())?)
}

/// The plan's program, compiled into this process.
///
/// # Errors
///
/// Code generation fails.
pub fn jit(plan: &Plan, target: &Target) -> Result<Program, Failure> {
    Ok(emit::jit::compile(plan.clone(), target)?)
}

/// The bytes of the plan's artefact.
///
/// # Errors
///
/// Code generation or linking fails.
pub fn artefact(plan: &Plan, target: &Target) -> Result<Vec<u8>, Failure> {
    let object = emit::object::compile(plan, target, emit::object::ConstantPlace::Outside)?;
    Ok(artefact::write_shared_object(
        &object.bytes,
        &artefact::CName::default(),
        "model.nnc.so",
        &object.functions,
        &object.desc,
        &plan.constants.bytes(),
    )?)
}

/// The program in an artefact that [`artefact`] has just made.
///
/// # Errors
///
/// The loader refuses it.
pub fn load(artefact: &[u8]) -> Result<Program, Failure> {
    // SAFETY: tests pass what `artefact` made, or a damaged copy of it, which the loader refuses by its checksum.
    Ok(unsafe { Program::from_bytes(artefact) }?)
}

/// All outputs of a program, each of `f32`.
///
/// # Errors
///
/// The program refuses the inputs, or memory or threads cannot be had.
pub fn run(program: &Program, inputs: &[&[f32]], threads: usize) -> Result<Vec<Vec<f32>>, Failure> {
    let _watchdog = Watchdog::seconds(60);
    let pool = Pool::new(threads)?;
    let mut session = Session::new(program, &pool)?;
    let inputs: Vec<InputRef<'_>> = inputs.iter().map(|x| InputRef::new(x)).collect();
    let outputs = session.run(&inputs)?;
    (0..outputs.count()).map(|i| Ok(outputs.get::<f32>(i)?.to_vec())).collect()
}

/// All outputs of a program, of any types, for inputs in its order.
///
/// # Errors
///
/// The program refuses the inputs, or memory or threads cannot be had.
pub fn run_tensors(program: &Program, inputs: &[Tensor], threads: usize) -> Result<Vec<Tensor>, Failure> {
    let _watchdog = Watchdog::seconds(60);
    // Tensors of bytes may lie anywhere; programs want theirs aligned.
    let aligned: Vec<Vec<u64>> = inputs.iter().map(|input| words(input.bytes())).collect();
    let ports = program.desc().inputs.iter().zip(inputs).zip(&aligned);
    let refs: Vec<InputRef<'_>> = ports
        .map(|((port, input), words)| {
            InputRef::from_bytes(port.elem, &bytemuck::cast_slice(words)[..input.bytes().len()])
        })
        .collect();
    let mut session = Session::new(program, &Pool::new(threads)?)?;
    let outputs = session.run(&refs)?;
    let ports = program.desc().outputs.iter().enumerate();
    ports
        .map(|(index, port)| {
            let elem = port.elem.to_string();
            let dtype = DType::from_name(&elem).ok_or_else(|| format!("there are no tensors of {elem}"))?;
            let ty = TensorType::new(dtype, outputs.shape(index)?);
            Ok(Tensor::from_bytes(ty, outputs.bytes(index)?.to_vec())?)
        })
        .collect()
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

/// The bits of all results: equal only where the results are the same to the last one.
pub fn bits(outputs: &[Vec<f32>]) -> Vec<Vec<u32>> {
    outputs.iter().map(|output| output.iter().map(|x| x.to_bits()).collect()).collect()
}
