//! What the tests of kernels have in common.

use nnc::plan::{self, LayerCode, Plan, Winograd};
use nnc::target::Target;
use nnc::{InputRef, Pool, Session, emit};
use nnc_ir::{Graph, Tensor, eval, text};

/// Operators that kernels do.
const KERNELS: [&str; 3] = ["Conv", "Pool", "GlobalPool"];

/// The graph in some lines of text.
pub fn graph(text: &str) -> Graph {
    text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The plan of a graph as it is.
pub fn planned(graph: &Graph, target: &Target, winograd: Winograd) -> Plan {
    let options = plan::Options { winograd, ..Default::default() };
    plan::plan(graph, target, &options, &Default::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// The names of layers that became loop nests although their operator has kernels.
pub fn nests(plan: &Plan) -> Vec<String> {
    let nest = |code: &LayerCode| matches!(code, LayerCode::Nest(_) | LayerCode::Routine(_));
    let lost = plan.steps.iter().filter(|step| KERNELS.contains(&step.op.as_str()) && nest(&step.code));
    lost.map(|step| step.name.clone()).collect()
}

/// Targets of all sorts.
pub const TARGETS: [&str; 4] = ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"];

/// Plans a graph for some targets, asks that no layer becomes a nest, runs it where the machine can, and compares all results with
/// those of the graph as it was `before` the passes.
pub fn check(before: &Graph, graph: &Graph, targets: &[&str]) {
    for name in targets {
        let target = Target::named(name).expect("a target");
        for winograd in [Winograd::Never, Winograd::WhereFaster] {
            let plan = planned(graph, &target, winograd);
            assert_eq!(nests(&plan), [""; 0], "{name}\n{}", text::print(graph));
            let by_winograd = plan.steps.iter().any(|step| matches!(step.code, LayerCode::Winograd(_)));
            if by_winograd != (winograd == Winograd::WhereFaster) {
                // The same plan as without.
                continue;
            }
            if target.runs_here() {
                compare(before, &plan, &target);
            } else {
                let compiled = emit::object::compile(&plan, &target, emit::object::Constants::Outside);
                compiled.unwrap_or_else(|e| panic!("{name}: {e}\n{}", text::print(graph)));
            }
        }
    }
}

fn compare(before: &Graph, plan: &Plan, target: &Target) {
    let inputs = before.inputs().iter().zip(1..);
    let inputs: Vec<Tensor> = inputs
        .map(|(id, seed)| text::hash(before.node(*id).outputs[0].clone(), seed, 2.0).expect("an input"))
        .collect();
    let expected = eval::run(before, &inputs).expect("the results");
    let program = emit::jit::compile(plan.clone(), target).unwrap_or_else(|e| panic!("{e}"));
    let floats: Vec<Vec<f32>> = inputs.iter().map(|t| t.elems::<f32>().expect("floats").to_vec()).collect();
    let refs: Vec<InputRef<'_>> = floats.iter().map(|x| InputRef::new(x)).collect();
    let mut session = Session::new(&program, &Pool::new(2).expect("threads")).expect("a session");
    let outputs = session.run(&refs).expect("a run");
    for (index, expected) in expected.iter().enumerate() {
        let (got, expected) = (outputs.get::<f32>(index).expect("floats"), expected.elems::<f32>().unwrap());
        let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let wrong = got.iter().zip(&*expected).position(|(g, e)| (g - e).abs() > 2e-5 * largest);
        if let Some(at) = wrong {
            panic!("output {index}[{at}] is {}, not {}\n{}", got[at], expected[at], text::print(before));
        }
    }
}
