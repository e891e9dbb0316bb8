//! Every built-in network computes what onnxruntime computes, however it is compiled and run.
//!
//! For each golden case (`goldens/README.md`) there are these trials:
//!
//! | trial | shows |
//! |---|---|
//! | `NAME::native` | JIT and artefact on one and two threads: within the tolerance, and the same to the last bit |
//! | `NAME::inside` | the values inside the network that the golden samples, made outputs of the graph |
//! | `NAME::TARGET` | the other lowerings of tile programs that this machine runs |
//! | `NAME::swapped` | the golden notices two channels of one layer in each other's place |
//!
//! The small cases run always, the full-size ones where `NNC_FULL=1`.

use libtest_mimic::{Arguments, Failed, Trial};
use nnc::target::Target;
use nnc_ir::op::Conv;
use nnc_ir::{Graph, NodeId, Op, Tensor, Value};
use nnc_tests::goldens::{Golden, GoldenCase, Suite, TOLERANCE, cases, deviation};
use nnc_tests::pipeline::{self, Failure};

/// Lowerings beside the native one.
const OTHER_TARGETS: [&str; 3] = ["x86-64-v2", "x86-64-v3", "native-clif"];

/// Pairs of channels that are swapped before a golden is said to notice nothing: both channels of a pair may be
/// negative almost everywhere, and then nothing behind the activation tells them apart.
const PAIRS: usize = 6;

fn main() {
    let arguments = Arguments::from_args();
    let full = std::env::var_os("NNC_FULL").is_some_and(|value| value == "1");
    let others: Vec<Target> = OTHER_TARGETS
        .iter()
        .map(|name| Target::named(name).unwrap_or_else(|error| panic!("{error}")))
        .filter(Target::runs_here)
        .collect();
    let mut trials = vec![];
    for case in cases().into_iter().filter(|case| full || case.suite == Suite::Small) {
        trials.push(trial(&case, "native", native));
        trials.push(trial(&case, "inside", inside));
        trials.push(trial(&case, "swapped", move |case| swapped(case, full && case.suite == Suite::Small)));
        for target in others.clone() {
            trials.push(trial(&case, &target.name.clone(), move |case| other(case, &target)));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(
    case: &GoldenCase,
    what: &str,
    check: impl FnOnce(&GoldenCase) -> Result<(), Failure> + Send + 'static,
) -> Trial {
    let name = format!("{}::{what}", case.name);
    let case = case.clone();
    Trial::test(name, move || check(&case).map_err(|error| Failed::from(chain(&*error))))
}

/// An error and what it comes from.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn native(case: &GoldenCase) -> Result<(), Failure> {
    let target = Target::host()?;
    let golden = case.golden()?;
    let input = case.input();
    let plan = pipeline::plan(&pipeline::optimise(&pipeline::read(&case.spec)?)?, &target)?;
    let programs = [
        ("JIT", pipeline::jit(&plan, &target)?),
        ("artefact", pipeline::load(&pipeline::artefact(&plan, &target)?)?),
    ];
    let mut first = None;
    for (kind, program) in &programs {
        for threads in [1, 2] {
            let what = format!("{kind}, {threads} threads");
            let outputs = pipeline::run(program, &[&input], threads)?;
            agrees(&what, &outputs[0], &golden)?;
            let bits = pipeline::bits(&outputs);
            if first.get_or_insert_with(|| bits.clone()) != &bits {
                return Err(format!("{what}: other bits than from the JIT on one thread").into());
            }
        }
    }
    Ok(())
}

fn other(case: &GoldenCase, target: &Target) -> Result<(), Failure> {
    let graph = pipeline::optimise(&pipeline::read(&case.spec)?)?;
    agrees("the output", &output(&graph, target, case)?, &case.golden()?)
}

fn inside(case: &GoldenCase) -> Result<(), Failure> {
    let target = Target::host()?;
    let golden = case.golden()?;
    let mut graph = pipeline::read(&case.spec)?;
    for sample in &golden.samples {
        // The exporter's names: value `/a/Conv_output_0` is the output of node `/a/Conv`.
        let node = sample.value.strip_suffix("_output_0").unwrap_or(&sample.value);
        let id = graph.node_ids().find(|id| graph.node(*id).name == node);
        graph.add_output(&sample.value, id.ok_or_else(|| format!("there is no node \"{node}\""))?.into());
    }
    let plan = pipeline::plan(&pipeline::optimise(&graph)?, &target)?;
    let outputs = pipeline::run(&pipeline::jit(&plan, &target)?, &[&case.input()], 2)?;
    agrees("the output", &outputs[0], &golden)?;
    for (sample, output) in golden.samples.iter().zip(&outputs[1..]) {
        close(&sample.value, &sample.of(output), &sample.elements)?;
    }
    Ok(())
}

/// Two channels of a convolution change places: in the first and in one halfway, or in every one. The golden must notice.
fn swapped(case: &GoldenCase, every: bool) -> Result<(), Failure> {
    let target = Target::host()?;
    let golden = case.golden()?;
    let graph = pipeline::optimise(&pipeline::read(&case.spec)?)?;
    let convolutions: Vec<NodeId> =
        graph.order()?.into_iter().filter(|id| matches!(graph.node(*id).op, Op::Conv(_))).collect();
    let two = vec![convolutions[0], convolutions[convolutions.len() / 2]];
    for id in if every { convolutions } else { two } {
        notices(&graph, id, &target, case, &golden)?;
    }
    Ok(())
}

fn notices(
    graph: &Graph,
    id: NodeId,
    target: &Target,
    case: &GoldenCase,
    golden: &Golden,
) -> Result<(), Failure> {
    let channels = graph.node(id).outputs[0].shape[1];
    let mut largest = 0.0f64;
    for pair in 0..PAIRS.min(channels / 2) {
        let mut wrong = graph.clone();
        swap_rows(&mut wrong, id, 2 * pair)?;
        let computed = golden.output.of(&output(&wrong, target, case)?);
        largest = largest.max(deviation(&computed, &golden.output.elements));
        if largest > TOLERANCE {
            return Ok(());
        }
    }
    Err(format!("swapping channels of \"{}\" changes the output by {largest:.1e} only", graph.node(id).name)
        .into())
}

/// Lets channels `row` and `row + 1` of a convolution's result change places.
fn swap_rows(graph: &mut Graph, id: NodeId, row: usize) -> Result<(), Failure> {
    let mut operands = graph.operands(id);
    for operand in [Conv::W, Conv::B] {
        let Some(value) = operands.get(operand).copied().flatten() else { continue };
        let tensor = graph.constant(value).ok_or("weights that are no constant")?;
        let mut elements = tensor.elems::<f32>()?.into_owned();
        let len = elements.len() / tensor.shape()[0];
        let (head, tail) = elements.split_at_mut((row + 1) * len);
        head[row * len..].swap_with_slice(&mut tail[..len]);
        let tensor = Tensor::new(tensor.shape().clone(), &elements)?;
        operands[operand] = Some(graph.add_constant("swapped", tensor));
    }
    let op = graph.node(id).op.clone();
    let operands: Vec<Option<Value>> = operands;
    graph.rewrite(id, op, &operands)?;
    graph.remove_unused();
    Ok(())
}

fn output(graph: &Graph, target: &Target, case: &GoldenCase) -> Result<Vec<f32>, Failure> {
    let program = pipeline::jit(&pipeline::plan(graph, target)?, target)?;
    Ok(pipeline::run(&program, &[&case.input()], 1)?.swap_remove(0))
}

/// The whole output of the network is what the golden has of it.
fn agrees(what: &str, computed: &[f32], golden: &Golden) -> Result<(), Failure> {
    close(what, &golden.output.of(computed), &golden.output.elements)
}

fn close(what: &str, computed: &[f32], expected: &[f32]) -> Result<(), Failure> {
    let deviation = deviation(computed, expected);
    if deviation <= TOLERANCE {
        return Ok(());
    }
    Err(format!("{what}: off by {deviation:.1e} of the largest golden value").into())
}
