//! What the tests of kernels have in common.

use std::sync::Once;

use nnc::code::float::Float;
use nnc::code::nest::Vectorised;
use nnc::plan::{self, LayerCode, Plan, Winograd};
use nnc::target::{Arch, Target};
use nnc::{CName, InputRef, Pool, Session, emit};
use nnc_ir::{Graph, Tensor, eval, text};
use nnc_runtime::abi::ElemType;

use super::foreign::{Emulator, Kind};
use super::watchdog::Watchdog;

/// Operators that kernels do.
const KERNELS: [&str; 6] = ["Conv", "Pool", "GlobalPool", "MatMul", "ConvTranspose", "IntegerConv"];

/// The graph in some lines of text.
pub fn graph(text: &str) -> Graph {
    text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The plan of a graph as it is.
pub fn planned(graph: &Graph, target: &Target, winograd: Winograd) -> Plan {
    let options = plan::PlanOptions { winograd, ..Default::default() };
    plan::plan(graph, target, &options, &Default::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// The names of layers that became loop nests although their operator has kernels.
pub fn nests(plan: &Plan) -> Vec<String> {
    let nest = |code: &LayerCode| match code {
        LayerCode::Nest(nest) => !matches!(nest.vectorised, Vectorised::Kernel | Vectorised::Windows),
        code => matches!(code, LayerCode::Routine(_)),
    };
    let lost = plan.steps.iter().filter(|step| KERNELS.contains(&step.op.as_str()) && nest(&step.code));
    lost.map(|step| step.name.clone()).collect()
}

/// Targets of all sorts.
pub const TARGETS: [&str; 4] = ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"];

/// Checks a graph that no pass has touched, on targets of all sorts.
pub fn keeps_its_kernel(text: &str) {
    let graph = graph(text);
    check(&graph, &graph, &TARGETS);
}

/// Attributes as the text of a graph has them; none are left out.
pub fn braced(attributes: &str) -> String {
    if attributes.is_empty() { String::new() } else { format!("{{{attributes}}}") }
}

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
                compare(before, graph, &plan, &target);
                continue;
            }
            let compiled = emit::object::compile(&plan, &target, emit::object::ConstantPlace::Outside);
            let object = compiled.unwrap_or_else(|e| panic!("{name}: {e}\n{}", text::print(graph)));
            match Emulator::get() {
                Ok(emulator) if target.arch == Arch::Aarch64 => {
                    compare_with(before, graph, &|inputs| {
                        let linked = artefact(&object, &plan);
                        let sizes: Vec<usize> = plan.outputs.iter().map(|output| output.bytes()).collect();
                        let inputs: Vec<&[u8]> = inputs.iter().map(Tensor::bytes).collect();
                        let ran = emulator.run(Kind::Artefact(&linked), &inputs, &sizes);
                        ran.unwrap_or_else(|e| panic!("{name}: {e}\n{}", text::print(graph)))
                    });
                }
                Ok(_) => {}
                Err(why) => not_run(why),
            }
        }
    }
}

/// Says once that code for aarch64 is compiled and not run.
fn not_run(why: &str) {
    static SAID: Once = Once::new();
    SAID.call_once(|| eprintln!("kernels for aarch64 are not run: {why}"));
}

/// The artefact of an object.
fn artefact(object: &emit::object::Object, plan: &Plan) -> Vec<u8> {
    let (name, constants) = (CName::default(), plan.constants.bytes());
    let file = nnc::artefact::write_shared_object(
        &object.bytes,
        &name,
        "model.so",
        &object.functions,
        &object.desc,
        &constants,
    );
    file.unwrap_or_else(|e| panic!("{e}"))
}

/// Runs a plan of a graph, and compares all results with those of the graph as it was `before` the passes.
pub fn compare(before: &Graph, after: &Graph, plan: &Plan, target: &Target) {
    compare_with(before, after, &|inputs| {
        let program = emit::jit::compile(plan.clone(), target).unwrap_or_else(|e| panic!("{e}"));
        let refs: Vec<InputRef<'_>> = inputs.iter().map(input).collect();
        let _watchdog = Watchdog::seconds(60);
        let mut session = Session::new(&program, &Pool::new(2).expect("threads")).expect("a session");
        let outputs = session.run(&refs).expect("a run");
        (0..outputs.count()).map(|index| outputs.bytes(index).expect("an output").to_vec()).collect()
    });
}

/// Compares what `run` makes of inputs, the bytes of all outputs, with the results of a graph and of the one it was `before`.
fn compare_with(before: &Graph, after: &Graph, run: &dyn Fn(&[Tensor]) -> Vec<Vec<u8>>) {
    let inputs = before.inputs().iter().zip(1..);
    let inputs: Vec<Tensor> = inputs
        .map(|(id, seed)| text::hash(before.node(*id).outputs[0].clone(), seed, 2.0).expect("an input"))
        .collect();
    let results = |graph: &Graph| eval::run(graph, &inputs).expect("the results");
    let (expected, fused) = (results(before), results(after));
    let outputs = run(&inputs);
    for (index, (expected, fused)) in expected.iter().zip(&fused).enumerate() {
        let float = Float::of(expected.dtype()).expect("floats");
        let bytes = &outputs[index];
        let got: Vec<f32> = bytes.chunks(float.bytes() as usize).map(|bytes| float.read(bytes)).collect();
        // Layers round as the evaluator does of them; the nodes that passes found apart round more often.
        let (fused_bound, bound) = rounding(float);
        for (expected, bound) in [(fused, fused_bound), (expected, bound)] {
            let expected = Float::elems(expected).expect("floats");
            let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let far = |(g, e): (&f32, &f32)| (g - e).abs() > bound * largest;
            if let Some(at) = got.iter().zip(&*expected).position(far) {
                panic!("output {index}[{at}] is {}, not {}\n{}", got[at], expected[at], text::print(before));
            }
        }
    }
}

/// An input of any type.
fn input(tensor: &Tensor) -> InputRef<'_> {
    let elem = match Float::of(tensor.dtype()).expect("floats") {
        Float::F32 => ElemType::F32,
        Float::F16 => ElemType::F16,
        Float::Bf16 => ElemType::BF16,
        Float::U8 => ElemType::U8,
    };
    InputRef::from_bytes(elem, tensor.bytes())
}

/// How far off results may be that are rounded as often, and those of which nodes apart are rounded each, relative to the largest: to
/// a neighbour, which sums behind may double; or some neighbours one after another.
fn rounding(float: Float) -> (f32, f32) {
    let neighbour = match float {
        Float::F32 | Float::U8 => return (2e-5, 2e-5),
        Float::F16 => 1.0 / 1024.0,
        Float::Bf16 => 1.0 / 128.0,
    };
    (2.0 * neighbour, 8.0 * neighbour)
}
